/* Diagnostics: collected, sorted, printed with the line and a caret. */
#include "base/err.h"
#include "config/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define DIAG_STORED  1000u /* further ones are only counted */
#define DIAG_PRINTED 100u
#define DIAG_WIDTH   120u /* bytes of the source line that are shown */

void conf_diags_init(struct conf_diags *d)
{
    *d = (struct conf_diags){0};
    arena_init(&d->arena, NULL, 0, 0);
}

void conf_diags_fini(struct conf_diags *d)
{
    arena_fini(&d->arena);
    *d = (struct conf_diags){0};
}

/* The first diagnostic of a kind always counts; without memory only its text is lost. */
void conf_diag_add(struct conf_diags *d, enum conf_diag_level lv, struct conf_pos pos,
                   const char *line, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    if (lv == CONF_ERROR)
        d->errors++;
    else
        d->warnings++;
    if (d->n >= DIAG_STORED)
        return;
    if (d->n == d->cap) {
        size_t cap = d->cap ? d->cap * 2 : 16;
        struct conf_diag *v = ARENA_ARRAY(&d->arena, struct conf_diag, cap);
        if (!v)
            return;
        if (d->n)
            memcpy(v, d->v, d->n * sizeof *v);
        d->v = v;
        d->cap = cap;
    }
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    struct conf_diag *g = &d->v[d->n];
    *g = (struct conf_diag){.level = lv, .pos = pos};
    g->text = arena_dup(&d->arena, slice_str(text)).p;
    g->pos.file = pos.file ? arena_dup(&d->arena, slice_str(pos.file)).p : NULL;
    if (line)
        g->line = arena_dup(&d->arena, slice_str(line)).p;
    if (g->text)
        d->n++;
}

static int order(const void *x, const void *y)
{
    const struct conf_diag *a = *(const struct conf_diag *const *)x,
                           *b = *(const struct conf_diag *const *)y;
    int k = a->pos.file && b->pos.file ? strcmp(a->pos.file, b->pos.file)
                                       : (a->pos.file != NULL) - (b->pos.file != NULL);
    if (k == 0)
        k = (a->pos.line > b->pos.line) - (a->pos.line < b->pos.line);
    if (k == 0)
        k = (a->pos.col > b->pos.col) - (a->pos.col < b->pos.col);
    return k ? k : (a > b) - (a < b);
}

/* Text from a file or a name in it, made harmless for a terminal. */
static void put_safe(struct buf *out, struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        buf_chr(out, c < 0x20 || c == 0x7f ? (c == '\t' ? '\t' : '?') : s.p[i]);
    }
}

static bool continues(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80; /* second and later bytes of a UTF-8 character */
}

static void put_line(struct buf *out, struct slice line, uint32_t col)
{
    size_t at = col - 1 < line.n ? col - 1 : line.n, from = 0;
    if (line.n > DIAG_WIDTH && at > DIAG_WIDTH / 2)
        from = at - DIAG_WIDTH / 2;
    while (from < at && continues(line.p[from]))
        from++;
    size_t n = line.n - from < DIAG_WIDTH ? line.n - from : DIAG_WIDTH;
    while (from + n < line.n && n > 0 && continues(line.p[from + n]))
        n--;
    buf_str(out, from ? "    ..." : "    ");
    put_safe(out, slice_of(line.p + from, n));
    buf_str(out, from + n < line.n ? "...\n" : "\n");
    buf_str(out, from ? "       " : "    ");
    for (size_t i = from; i < at; i++)
        if (!continues(line.p[i]))
            buf_chr(out, line.p[i] == '\t' ? '\t' : ' ');
    buf_str(out, "^\n");
}

void conf_diags_print(const struct conf_diags *d, struct buf *out)
{
    const struct conf_diag *sorted[DIAG_STORED];
    for (size_t i = 0; i < d->n; i++)
        sorted[i] = &d->v[i];
    if (d->n > 1)
        qsort(sorted, d->n, sizeof sorted[0], order);
    size_t n = d->n < DIAG_PRINTED ? d->n : DIAG_PRINTED;
    for (size_t i = 0; i < n; i++) {
        const struct conf_diag *g = sorted[i];
        put_safe(out, slice_str(g->pos.file ? g->pos.file : "rpd"));
        if (g->pos.line > 0)
            buf_printf(out, ":%u", g->pos.line);
        if (g->pos.line > 0 && g->pos.col > 0)
            buf_printf(out, ":%u", g->pos.col);
        buf_str(out, g->level == CONF_ERROR ? ": error: " : ": warning: ");
        put_safe(out, slice_str(g->text));
        buf_chr(out, '\n');
        if (g->line && g->pos.line > 0 && g->pos.col > 0)
            put_line(out, slice_str(g->line), g->pos.col);
    }
    if (d->errors + d->warnings > n)
        buf_printf(out, "... and %zu more\n", d->errors + d->warnings - n);
}
