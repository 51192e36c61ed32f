/* Words of a value: blanks, quotes, escapes, ${ENV}; and back. */
#include "config/words.h"

#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>

struct splitter {
    const struct conf_ini_entry *e;
    struct buf *out;  /* the word being built */
    size_t at, piece; /* byte of the value, and the piece it is in */
    void (*bad)(void *user, uint32_t line, uint32_t col, const char *text);
    void *user;
    bool failed;
};

static void position(struct splitter *s, size_t off, uint32_t *ret_line, uint32_t *ret_col)
{
    const struct conf_ini_entry *e = s->e;
    while (s->piece + 1 < e->npiece && e->piece[s->piece + 1].off <= off)
        s->piece++;
    *ret_line = e->value_line;
    *ret_col = e->value_col;
    if (e->npiece > 0) {
        *ret_line = e->piece[s->piece].line;
        *ret_col = e->piece[s->piece].col + (uint32_t)(off - e->piece[s->piece].off);
    }
}

static void complain(struct splitter *s, size_t off, const char *text)
{
    uint32_t line, col;
    s->failed = true;
    position(s, off, &line, &col);
    if (s->bad)
        s->bad(s->user, line, col, text);
}

/* ${NAME} at s->at. */
static void expand(struct splitter *s)
{
    struct slice v = s->e->value;
    size_t from = s->at + 2, end = from;
    char name[128], text[256];
    while (end < v.n && v.p[end] != '}')
        end++;
    size_t n = end - from;
    if (end == v.n || n == 0 || n >= sizeof name) {
        complain(s, s->at,
                 end == v.n ? "\"}\" is missing after \"${\""
                            : "bad name of an environment variable");
        s->at = end < v.n ? end + 1 : end;
        return;
    }
    memcpy(name, v.p + from, n);
    name[n] = 0;
    const char *value = getenv(name);
    if (!value) {
        (void)snprintf(text, sizeof text, "environment variable %s is not set", name);
        complain(s, s->at, text);
    } else {
        bool control = false;
        for (const char *p = value; *p; p++)
            control |= (unsigned char)*p < 0x20 || *p == 0x7f;
        if (control)
            complain(s, s->at, "control byte in the environment variable's value");
        else
            buf_str(s->out, value);
    }
    s->at = end + 1;
}

static void quoted_part(struct splitter *s)
{
    struct slice v = s->e->value;
    char quote = v.p[s->at];
    size_t open = s->at++;
    for (;;) {
        if (s->at >= v.n) {
            complain(s, open, "the quote is not closed");
            return;
        }
        char c = v.p[s->at];
        if (c == quote) {
            s->at++;
            return;
        }
        if (c == '$' && s->at + 1 < v.n && v.p[s->at + 1] == '{') {
            expand(s);
            continue;
        }
        s->at++;
        if (c == '\\' && s->at < v.n) {
            char x = v.p[s->at++];
            if (x == 'n' || x == 't' || x == 'r') {
                c = x == 'n' ? '\n' : x == 't' ? '\t' : '\r';
            } else if (x == '\\' || x == '"' || x == '\'' || x == '$') {
                c = x;
            } else {
                buf_chr(s->out, c);
                c = x;
            }
        }
        buf_chr(s->out, c);
    }
}

static void one_word(struct splitter *s)
{
    struct slice v = s->e->value;
    size_t start = s->at;
    while (s->at < v.n && v.p[s->at] != ' ' && v.p[s->at] != '\t') {
        char c = v.p[s->at];
        if ((c == '"' || c == '\'') && (s->at == start || v.p[s->at - 1] == '=')) {
            quoted_part(s);
            if (s->at < v.n && v.p[s->at] != ' ' && v.p[s->at] != '\t' && !s->failed)
                complain(s, s->at, "a blank is missing after the quote");
        } else if (c == '$' && s->at + 1 < v.n && v.p[s->at + 1] == '{') {
            expand(s);
        } else {
            buf_chr(s->out, c);
            s->at++;
        }
    }
}

int conf_words_split(const struct conf_ini_entry *e, struct arena *a, struct buf *scratch,
                     void (*bad)(void *user, uint32_t line, uint32_t col, const char *text),
                     void *user, struct conf_word **ret, size_t *ret_n)
{
    struct splitter s = {.e = e, .out = scratch, .bad = bad, .user = user};
    struct slice v = e->value;
    size_t most = 1;
    for (size_t i = 1; i < v.n; i++)
        most += (v.p[i - 1] == ' ' || v.p[i - 1] == '\t') && v.p[i] != ' ' && v.p[i] != '\t';
    struct conf_word *w = arena_alloc(a, most * sizeof *w);
    size_t n = 0;
    *ret = NULL;
    *ret_n = 0;
    if (!w)
        return -ERR_NOMEM;
    for (;;) {
        while (s.at < v.n && (v.p[s.at] == ' ' || v.p[s.at] == '\t'))
            s.at++;
        if (s.at >= v.n)
            break;
        if (v.p[s.at] == '#') {
            complain(&s, s.at,
                     "a comment at the end of a line begins with \";\"; quote the word if it is no "
                     "comment");
            break;
        }
        w[n].quoted = v.p[s.at] == '"' || v.p[s.at] == '\'';
        position(&s, s.at, &w[n].line, &w[n].col);
        buf_clear(s.out);
        one_word(&s);
        if (s.out->failed)
            return -ERR_NOMEM;
        w[n].text = arena_dup(a, s.out->n ? buf_slice(s.out) : SLICE(""));
        if (!w[n].text.p)
            return -ERR_NOMEM;
        n++;
    }
    if (s.failed)
        return -ERR_INVAL;
    *ret = w;
    *ret_n = n;
    return 0;
}

static bool plain(struct slice w)
{
    if (w.n == 0 || slice_eq(w, SLICE("off")) || w.p[0] == '#' || w.p[0] == '"' || w.p[0] == '\'' ||
        w.p[0] == ';')
        return false;
    for (size_t i = 0; i < w.n; i++) {
        unsigned char c = (unsigned char)w.p[i];
        if (c <= ' ' || c == 0x7f || (c == '$' && i + 1 < w.n && w.p[i + 1] == '{'))
            return false;
        if ((c == '"' || c == '\'') && w.p[i - 1] == '=')
            return false;
    }
    return true;
}

static void put_quoted(struct buf *out, struct slice w)
{
    buf_chr(out, '"');
    for (size_t i = 0; i < w.n; i++) {
        char c = w.p[i];
        if (c == '\n' || c == '\t' || c == '\r') {
            buf_chr(out, '\\');
            c = c == '\n' ? 'n' : c == '\t' ? 't' : 'r';
        } else if (c == '"' || c == '\\' || c == '$') {
            buf_chr(out, '\\');
        }
        buf_chr(out, c);
    }
    buf_chr(out, '"');
}

void conf_words_put(struct buf *out, struct slice word)
{
    if (plain(word))
        buf_add(out, word);
    else
        put_quoted(out, word);
}
