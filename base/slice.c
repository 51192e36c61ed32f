/* Slice helpers: compare, trim, find, cut lists. */
#include "base/slice.h"

static unsigned char slice_lower(char c)
{
    unsigned char u = (unsigned char)c;
    return (unsigned char)(u >= 'A' && u <= 'Z' ? u | 0x20 : u);
}

bool slice_eq_ci(struct slice a, struct slice b)
{
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++) {
        /* Most names arrive in the expected case: the cheap comparison goes first. */
        if (a.p[i] != b.p[i] && slice_lower(a.p[i]) != slice_lower(b.p[i]))
            return false;
    }
    return true;
}

bool slice_starts(struct slice s, struct slice prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}

bool slice_ends(struct slice s, struct slice suffix)
{
    return s.n >= suffix.n &&
           (suffix.n == 0 || memcmp(s.p + (s.n - suffix.n), suffix.p, suffix.n) == 0);
}

int slice_cmp(struct slice a, struct slice b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n > 0 ? memcmp(a.p, b.p, n) : 0;
    if (c != 0)
        return c < 0 ? -1 : 1;
    return (a.n > b.n) - (a.n < b.n);
}

static bool slice_is_ows(char c)
{
    return c == ' ' || c == '\t';
}

struct slice slice_trim(struct slice s)
{
    while (s.n > 0 && slice_is_ows(s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n > 0 && slice_is_ows(s.p[s.n - 1]))
        s.n--;
    return s;
}

ptrdiff_t slice_chr(struct slice s, char c)
{
    const char *p = s.n > 0 ? memchr(s.p, (unsigned char)c, s.n) : NULL;
    return p ? p - s.p : -1;
}

bool slice_next(struct slice *rest, char sep, struct slice *ret_item)
{
    while (rest->n > 0) {
        ptrdiff_t at = slice_chr(*rest, sep);
        size_t len = at < 0 ? rest->n : (size_t)at;
        struct slice item = slice_trim(slice_of(rest->p, len));
        size_t used = at < 0 ? len : len + 1;
        rest->p += used;
        rest->n -= used;
        if (item.n > 0) {
            *ret_item = item;
            return true;
        }
    }
    return false;
}
