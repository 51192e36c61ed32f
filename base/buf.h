/* Growable byte buffer for text that is built (logs, JSON, dumps). Sticky failure, bounded. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/slice.h"

struct buf {
    char *p;
    size_t n, cap, limit; /* limit 0 = none */
    bool failed;
};

void buf_init(struct buf *b, size_t limit);
void buf_fini(struct buf *b);
void buf_clear(struct buf *b);
/* Room for `more` bytes behind n, or false (sticky) */
bool buf_reserve(struct buf *b, size_t more);
void buf_add(struct buf *b, struct slice s);
void buf_str(struct buf *b, const char *s);
void buf_chr(struct buf *b, char c);
void buf_u64(struct buf *b, uint64_t v);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline struct slice buf_slice(const struct buf *b)
{
    return slice_of(b->p, b->n);
}

#endif
