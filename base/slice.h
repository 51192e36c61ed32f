/* A slice is a borrowed run of bytes; it owns nothing and need not end in NUL. */
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const char *p;
    size_t n;
};

#define SLICE(literal) ((struct slice){"" literal, sizeof(literal) - 1})
#define SLICE_NONE     ((struct slice){NULL, 0})
#define SLICE_FMT      "%.*s"
#define SLICE_ARG(s)   (int)(s).n, (s).p

static inline struct slice slice_of(const char *p, size_t n)
{
    return (struct slice){p, n};
}
static inline struct slice slice_str(const char *s)
{
    return (struct slice){s, s ? strlen(s) : 0};
}
static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
bool slice_eq_ci(struct slice a, struct slice b); /* ASCII case-insensitive */
bool slice_starts(struct slice s, struct slice prefix);
bool slice_ends(struct slice s, struct slice suffix);
int slice_cmp(struct slice a, struct slice b); /* memcmp order, shorter first */
/* Strips SP and HTAB at both ends (RFC 9110 OWS) */
struct slice slice_trim(struct slice s);
/* Index of byte c, or -1. */
ptrdiff_t slice_chr(struct slice s, char c);
/* Cuts the first element of a list separated by `sep` off *rest (OWS trimmed, empty ones skipped).
 * Returns false when nothing is left. Not for quoted strings. */
bool slice_next(struct slice *rest, char sep, struct slice *ret_item);

#endif
