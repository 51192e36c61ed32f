/* Entity tags: a tag may hold commas, so lists are cut by their quotes. */
#include "worker/http/etag.h"

static bool etag_char(char c)
{
    unsigned char u = (unsigned char)c;
    return u == 0x21 || (u >= 0x23 && u != 0x7f);
}

/* Length of the tag that begins s, 0 when none does. */
static size_t etag_scan(struct slice s, struct etag *ret)
{
    size_t at = 0;
    *ret = (struct etag){.opaque = SLICE_NONE};
    if (s.n >= 3 && s.p[0] == 'W' && s.p[1] == '/' && s.p[2] == '"') {
        ret->weak = true;
        at = 2;
    }
    if (at < s.n && s.p[at] == '"') {
        size_t end = at + 1;
        while (end < s.n && etag_char(s.p[end]))
            end++;
        if (end == s.n || s.p[end] != '"')
            return 0;
        ret->quoted = true;
        ret->opaque = slice_of(s.p + at, end + 1 - at);
        return end + 1;
    }
    while (at < s.n && etag_char(s.p[at]) && s.p[at] != ',')
        at++;
    ret->opaque = slice_of(s.p, at);
    return at;
}

bool etag_parse(struct slice s, struct etag *ret)
{
    return s.n > 0 && etag_scan(s, ret) == s.n;
}

bool etag_eq_strong(struct etag a, struct etag b)
{
    return !a.weak && !b.weak && a.quoted && b.quoted && slice_eq(a.opaque, b.opaque);
}

bool etag_eq_weak(struct etag a, struct etag b)
{
    return slice_eq(a.opaque, b.opaque);
}

static void etag_skip(struct slice *s, size_t n)
{
    s->p += n;
    s->n -= n;
}

bool etag_next(struct slice *rest, struct etag *ret)
{
    while (rest->n > 0) {
        char c = rest->p[0];
        if (c == ',' || c == ' ' || c == '\t') {
            etag_skip(rest, 1);
            continue;
        }
        size_t n = etag_scan(*rest, ret);
        etag_skip(rest, n);
        struct slice after = slice_trim(*rest);
        if (n > 0 && (after.n == 0 || after.p[0] == ','))
            return true;
        ptrdiff_t comma = slice_chr(*rest, ',');
        etag_skip(rest, comma < 0 ? rest->n : (size_t)comma + 1);
    }
    return false;
}
