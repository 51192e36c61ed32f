/* Ranges: parsing, resolving against a size, merging, and parts of an answer. */
#include "worker/http/range.h"

#include "base/err.h"
#include "base/num.h"

#define RANGE_GAP      80u   /* bytes between two ranges that a part's head would cost anyway */
#define RANGE_TYPE_MAX 1024u /* longest Content-Type repeated in parts */

/* Digits at the beginning of *s; saturates below RANGE_UNKNOWN. false: there are none. */
static bool range_digits(struct slice *s, uint64_t *ret)
{
    size_t n = 0;
    uint64_t v = 0;
    while (n < s->n && s->p[n] >= '0' && s->p[n] <= '9') {
        uint64_t d = (uint64_t)(s->p[n++] - '0');
        v = v > (RANGE_UNKNOWN - 1 - d) / 10 ? RANGE_UNKNOWN - 1 : v * 10 + d;
    }
    s->p += n;
    s->n -= n;
    *ret = v;
    return n > 0;
}

static bool range_spec(struct slice s, struct range *ret)
{
    if (s.n > 0 && s.p[0] == '-') {
        s = slice_of(s.p + 1, s.n - 1);
        ret->first = RANGE_UNKNOWN;
        return range_digits(&s, &ret->last) && s.n == 0;
    }
    if (!range_digits(&s, &ret->first) || s.n == 0 || s.p[0] != '-')
        return false;
    s = slice_of(s.p + 1, s.n - 1);
    ret->last = RANGE_UNKNOWN;
    if (s.n == 0)
        return true;
    return range_digits(&s, &ret->last) && s.n == 0 && ret->last >= ret->first;
}

int range_parse(struct slice value, struct range_specs *ret)
{
    const struct slice unit = SLICE("bytes=");
    struct slice item;
    ret->n = 0;
    if (value.n <= unit.n || !slice_eq_ci(slice_of(value.p, unit.n), unit))
        return -ERR_INVAL;
    value = slice_of(value.p + unit.n, value.n - unit.n);
    while (slice_next(&value, ',', &item)) {
        if (ret->n == RANGE_SPECS_MAX || !range_spec(item, &ret->r[ret->n]))
            return -ERR_INVAL;
        ret->n++;
    }
    return ret->n > 0 ? 0 : -ERR_INVAL;
}

int range_of(const struct http_request *r, struct range_specs *ret)
{
    const struct http_field *found = NULL;
    if (r->method != HTTP_GET && r->method != HTTP_QUERY) /* RFC 10008: as with GET */
        return -ERR_NOENT;
    for (size_t i = 0; i < r->nfield; i++) {
        if (r->field[i].id != FIELD_RANGE)
            continue;
        if (found != NULL)
            return -ERR_NOENT;
        found = &r->field[i];
    }
    return found != NULL ? range_parse(found->value, ret) : -ERR_NOENT;
}

/* Where spec lies in a representation of this size; false when nowhere. */
static bool range_place(struct range spec, uint64_t size, struct range *ret)
{
    if (spec.first == RANGE_UNKNOWN) {
        if (spec.last == 0 || size == 0)
            return false;
        *ret = (struct range){spec.last < size ? size - spec.last : 0, size - 1};
        return true;
    }
    if (spec.first >= size)
        return false;
    *ret = (struct range){spec.first, spec.last < size ? spec.last : size - 1};
    return true;
}

/* Takes r into the list, swallowing all it touches; the place of the earliest of these is kept, so
 * that the order asked for is. */
static void range_merge(struct range *list, unsigned *n, struct range r)
{
    unsigned at = *n;
    for (unsigned i = 0; i < *n;) {
        const struct range o = list[i];
        bool apart = (o.first > r.last && o.first - r.last > RANGE_GAP) ||
                     (r.first > o.last && r.first - o.last > RANGE_GAP);
        if (apart) {
            i++;
            continue;
        }
        bool same = o.first <= r.first && o.last >= r.last;
        if (o.first < r.first)
            r.first = o.first;
        if (o.last > r.last)
            r.last = o.last;
        if (i < at)
            at = i;
        memmove(&list[i], &list[i + 1], (*n - i - 1) * sizeof(*list));
        (*n)--;
        /* Grown, it may touch what was looked at before. */
        i = same ? i : 0;
    }
    if (at > *n)
        at = *n;
    memmove(&list[at + 1], &list[at], (*n - at) * sizeof(*list));
    list[at] = r;
    (*n)++;
}

enum range_answer range_resolve(const struct range_specs *s, uint64_t size, uint64_t arrived,
                                struct range_set *ret)
{
    struct range list[RANGE_SPECS_MAX + 1];
    unsigned n = 0;
    ret->n = 0;
    ret->bytes = 0;
    for (unsigned i = 0; i < s->n; i++) {
        struct range r;
        if (size == RANGE_UNKNOWN) {
            if (s->r[i].first == RANGE_UNKNOWN || s->r[i].last >= arrived)
                return RANGE_WAIT;
            r = s->r[i];
        } else if (!range_place(s->r[i], size, &r)) {
            /* A suffix of nothing is nothing, which no Content-Range can say. */
            if (size == 0 && s->r[i].first == RANGE_UNKNOWN && s->r[i].last > 0)
                return RANGE_WHOLE;
            continue;
        }
        range_merge(list, &n, r);
    }
    if (n == 0)
        return RANGE_UNSATISFIABLE;
    if (n > RANGE_MAX)
        return RANGE_WHOLE;
    for (unsigned i = 0; i < n; i++) {
        ret->r[i] = list[i];
        ret->bytes += list[i].last - list[i].first + 1;
    }
    ret->n = n;
    return RANGE_PARTIAL;
}

static size_t range_text(char *out, size_t at, struct slice s)
{
    memcpy(out + at, s.p, s.n);
    return at + s.n;
}

static size_t range_size(char *out, size_t at, uint64_t size)
{
    if (size == RANGE_UNKNOWN)
        return range_text(out, at, SLICE("*"));
    return at + num_fmt_u64(out + at, size);
}

size_t range_content_range(char *out, struct range r, uint64_t size)
{
    size_t n = range_text(out, 0, SLICE("bytes "));
    n += num_fmt_u64(out + n, r.first);
    out[n++] = '-';
    n += num_fmt_u64(out + n, r.last);
    out[n++] = '/';
    return range_size(out, n, size);
}

size_t range_unsatisfied(char *out, uint64_t size)
{
    return range_size(out, range_text(out, 0, SLICE("bytes */")), size);
}

void range_boundary(uint64_t random0, uint64_t random1, char out[RANGE_BOUNDARY_LEN])
{
    static const char digit[] = "0123456789abcdefghijklmnopqrstuv";
    for (unsigned i = 0; i < RANGE_BOUNDARY_LEN; i++) {
        uint64_t *from = i < RANGE_BOUNDARY_LEN / 2 ? &random0 : &random1;
        out[i] = digit[*from & 31];
        *from >>= 5;
    }
}

void range_part_head(struct head_out *o, struct slice boundary, struct slice type, struct range r,
                     uint64_t size, bool first)
{
    char text[80];
    if (!first)
        head_add(o, SLICE("\r\n"));
    head_add(o, SLICE("--"));
    head_add(o, boundary);
    head_add(o, SLICE("\r\n"));
    if (type.n > 0)
        head_field(o, SLICE("Content-Type"), type);
    head_field(o, SLICE("Content-Range"), slice_of(text, range_content_range(text, r, size)));
    head_add(o, SLICE("\r\n"));
}

void range_part_end(struct head_out *o, struct slice boundary)
{
    head_add(o, SLICE("\r\n--"));
    head_add(o, boundary);
    head_add(o, SLICE("--\r\n"));
}

uint64_t range_multipart_length(const struct range_set *s, struct slice boundary, struct slice type,
                                uint64_t size)
{
    char text[RANGE_TYPE_MAX + 512];
    uint64_t total = s->bytes;
    for (unsigned i = 0; i <= s->n; i++) {
        struct head_out o = {.p = text, .cap = sizeof(text)};
        if (i < s->n)
            range_part_head(&o, boundary, type, s->r[i], size, i == 0);
        else
            range_part_end(&o, boundary);
        if (o.overflow)
            return 0;
        total += o.n;
    }
    return total;
}
