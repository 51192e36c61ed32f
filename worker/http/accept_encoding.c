/* Accept-Encoding: one pass over its elements, what "*" stands for is settled at the end. */
#include "worker/http/accept_encoding.h"

#define ACCEPT_ONE 1000u

/* qvalue (RFC 9110 12.4.2) in thousandths; 0 also for what is none. */
static unsigned accept_qvalue(struct slice q)
{
    unsigned v = 0, unit = ACCEPT_ONE;
    if (q.n == 0 || q.n > 5 || (q.p[0] != '0' && q.p[0] != '1') || (q.n > 1 && q.p[1] != '.'))
        return 0;
    v = (unsigned)(q.p[0] - '0') * unit;
    for (size_t i = 2; i < q.n; i++) {
        if (q.p[i] < '0' || q.p[i] > '9')
            return 0;
        unit /= 10;
        v += (unsigned)(q.p[i] - '0') * unit;
    }
    return v > ACCEPT_ONE ? 0 : v;
}

static unsigned accept_weight(struct slice params)
{
    struct slice p;
    while (slice_next(&params, ';', &p)) {
        ptrdiff_t eq = slice_chr(p, '=');
        if (eq >= 0 && slice_eq_ci(slice_trim(slice_of(p.p, (size_t)eq)), SLICE("q")))
            return accept_qvalue(slice_trim(slice_of(p.p + eq + 1, p.n - (size_t)eq - 1)));
    }
    return ACCEPT_ONE;
}

static enum accept_coding accept_coding_of(struct slice name)
{
    if (slice_eq_ci(name, SLICE("br")))
        return ACCEPT_BR;
    if (slice_eq_ci(name, SLICE("gzip")) || slice_eq_ci(name, SLICE("x-gzip")))
        return ACCEPT_GZIP;
    if (slice_eq_ci(name, SLICE("zstd")))
        return ACCEPT_ZSTD;
    return slice_eq_ci(name, SLICE("identity")) ? ACCEPT_IDENTITY : ACCEPT__COUNT;
}

/* What was said of a coding, or of "*", so far. */
struct accept_said {
    bool named, refused;
    unsigned q;
};

static void accept_element(struct accept_said said[ACCEPT__COUNT + 1], struct slice item)
{
    const ptrdiff_t semi = slice_chr(item, ';');
    const size_t n = semi < 0 ? item.n : (size_t)semi;
    const struct slice name = slice_trim(slice_of(item.p, n));
    const unsigned q =
        semi < 0 ? ACCEPT_ONE : accept_weight(slice_of(item.p + n + 1, item.n - n - 1));
    const bool star = slice_eq(name, SLICE("*"));
    const enum accept_coding c = accept_coding_of(name);
    if (!star && c == ACCEPT__COUNT)
        return;
    struct accept_said *s = &said[c]; /* "*" is behind the codings */
    s->named = true;
    s->refused |= q == 0;
    if (q > s->q)
        s->q = q;
}

void accept_encoding_of(const struct http_request *r, struct accept_encoding *ret)
{
    struct accept_said said[ACCEPT__COUNT + 1] = {{0}};
    const struct accept_said *const star = &said[ACCEPT__COUNT];
    for (size_t i = 0; i < r->nfield; i++) {
        struct slice list = r->field[i].value, item;
        if (r->field[i].id != FIELD_ACCEPT_ENCODING)
            continue;
        while (slice_next(&list, ',', &item))
            accept_element(said, item);
    }
    for (unsigned c = 0; c < ACCEPT__COUNT; c++) {
        const struct accept_said *s = said[c].named ? &said[c] : star;
        ret->q[c] = (uint16_t)(s->refused ? 0 : s->q);
    }
    ret->identity_last = !said[ACCEPT_IDENTITY].named && !star->named;
    if (ret->identity_last)
        ret->q[ACCEPT_IDENTITY] = 1;
}
