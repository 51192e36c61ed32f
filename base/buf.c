/* Growable byte buffer: doubling growth, a limit, sticky failure. */
#include "base/buf.h"

#include "base/arena.h"
#include "base/num.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define BUF_MIN ((size_t)256)

void buf_init(struct buf *b, size_t limit)
{
    *b = (struct buf){.limit = limit};
}

void buf_fini(struct buf *b)
{
    free(b->p);
    *b = (struct buf){.limit = b->limit};
}

void buf_clear(struct buf *b)
{
    b->n = 0;
    b->failed = false;
}

static bool buf_grow(struct buf *b, size_t more)
{
    size_t need;
    size_t max = b->limit > 0 && b->limit < SIZE_MAX / 2 ? b->limit : SIZE_MAX / 2;
    if (b->failed || __builtin_add_overflow(b->n, more, &need) || need > max ||
        alloc_should_fail()) {
        b->failed = true;
        return false;
    }
    size_t cap = b->cap < BUF_MIN ? BUF_MIN : b->cap * 2;
    if (cap < need)
        cap = need;
    if (cap > max)
        cap = max;
    char *p = realloc(b->p, cap);
    if (!p) {
        b->failed = true;
        return false;
    }
    b->p = p;
    b->cap = cap;
    return true;
}

bool buf_reserve(struct buf *b, size_t more)
{
    return (!b->failed && more <= b->cap - b->n) || buf_grow(b, more);
}

void buf_add(struct buf *b, struct slice s)
{
    if (s.n > 0 && buf_reserve(b, s.n)) {
        memcpy(b->p + b->n, s.p, s.n);
        b->n += s.n;
    }
}

void buf_str(struct buf *b, const char *s)
{
    buf_add(b, slice_str(s));
}

void buf_chr(struct buf *b, char c)
{
    if (buf_reserve(b, 1))
        b->p[b->n++] = c;
}

void buf_u64(struct buf *b, uint64_t v)
{
    char text[32];
    buf_add(b, slice_of(text, num_fmt_u64(text, v)));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (len < 0) {
        b->failed = true;
        return;
    }
    size_t n = (size_t)len;
    if (n < sizeof(text)) {
        buf_add(b, slice_of(text, n));
        return;
    }
    char *p = malloc(n + 1);
    if (!p) {
        b->failed = true;
        return;
    }
    va_start(ap, fmt);
    vsnprintf(p, n + 1, fmt, ap);
    va_end(ap);
    buf_add(b, slice_of(p, n));
    free(p);
}
