/* One log line while it is built in place: bounded, never allocating. Whoever overruns it finds
 * `full` set. */
#ifndef WORKER_LOG_LINE_H
#define WORKER_LOG_LINE_H

#include "base/slice.h"

struct line {
    char *p;         /* next byte */
    const char *end; /* behind the room */
    size_t vmax; /* most bytes that one text value may take, its cut mark included; at least 8 */
    bool full;
};

static inline void line_raw(struct line *l, const char *p, size_t n)
{
    if ((size_t)(l->end - l->p) < n) {
        l->full = true;
        return;
    }
    memcpy(l->p, p, n);
    l->p += n;
}

static inline void line_chr(struct line *l, char c)
{
    line_raw(l, &c, 1);
}

void line_num(struct line *l, uint64_t v);
/* v thousandths with three decimals: 12345 is 12.345. */
void line_milli(struct line *l, uint64_t v);
#define LINE_ESCAPED_MAX 6u
/* Writes the escaped form of the character at p, of n bytes left, to out (at most LINE_ESCAPED_MAX
 * bytes; their number is returned); *ret_used: bytes of p it took. */
typedef size_t line_escape(const unsigned char *p, size_t n, char *out, size_t *ret_used);
/* A value with what line_clean() stops at escaped. Cut at vmax with "...". */
void line_escaped(struct line *l, struct slice s, line_escape *escape);
/* A value in plain text: control bytes, DEL and beyond, quotes and backslashes become \xNN. Cut at
 * vmax with "...". */
void line_text(struct line *l, struct slice s);
/* The contents of a JSON string (RFC 8259 7): what is not UTF-8 becomes U+FFFD, control characters
 * (C1 included) \u00NN. Cut at vmax. */
void line_json(struct line *l, struct slice s);
/* Index of the first byte that is a control byte, a quote, a backslash or not ASCII; s.n when there
 * is none. */
size_t line_clean(struct slice s);

#endif
