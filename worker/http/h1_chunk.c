/* Chunked transfer coding (RFC 9112 7.1): every byte is looked at once, wherever the input is cut.
 */
#include "worker/http/h1_chunk.h"

#include "base/err.h"
#include "worker/http/forward.h"
#include "worker/http/h1_fields.h"
#include "worker/http/h1_scan.h"

#define H1_CHUNK_SIZE_MAX      ((uint64_t)1 << 62)
#define H1_CHUNK_DIGITS_MAX    16u
#define H1_CHUNK_EXT_TOTAL_MAX 16384u

enum h1_chunk_state {
    CHUNK_SIZE, /* digits of the size; `digits` counts them */
    CHUNK_EXT,  /* extensions, outside a quoted string */
    CHUNK_EXT_QUOTED,
    CHUNK_EXT_ESCAPED, /* after "\" in a quoted string */
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER, /* at the beginning of a trailer line */
    CHUNK_TRAILER_LINE,
    CHUNK_TRAILER_LF,
    CHUNK_END_LF, /* after the CR of the empty line */
    CHUNK_END,
    CHUNK_BAD, /* refused: whatever follows is */
    CHUNK_BAD_TRAILER
};

void h1_chunk_init(struct h1_chunk *c)
{
    memset(c, 0, sizeof(*c));
    c->state = CHUNK_SIZE;
}

static int h1_chunk_refuse(struct h1_chunk *c, enum h1_chunk_state s)
{
    c->state = (uint8_t)s;
    return s == CHUNK_BAD ? -ERR_BAD_CHUNK : -ERR_BAD_TRAILER;
}

static int h1_chunk_digit(struct h1_chunk *c, char ch)
{
    unsigned v;
    char l = (char)(ch | 0x20);
    if (ch >= '0' && ch <= '9')
        v = (unsigned)(ch - '0');
    else if (l >= 'a' && l <= 'f')
        v = (unsigned)(l - 'a') + 10;
    else
        return -ERR_BAD_CHUNK;
    if (++c->digits > H1_CHUNK_DIGITS_MAX)
        return -ERR_BAD_CHUNK;
    c->left = c->left << 4 | v; /* 16 digits are 64 bits: nothing is lost before the check below */
    return 0;
}

static int h1_chunk_ext(struct h1_chunk *c, char ch)
{
    if (!http_is(ch, HTTP_CLASS_VALUE) || ++c->ext_line > H1_CHUNK_EXT_MAX ||
        ++c->ext_total > H1_CHUNK_EXT_TOTAL_MAX)
        return -ERR_BAD_CHUNK;
    if (c->state == CHUNK_EXT) {
        if (ch == '"')
            c->state = CHUNK_EXT_QUOTED;
    } else if (c->state == CHUNK_EXT_ESCAPED) {
        c->state = CHUNK_EXT_QUOTED;
    } else if (ch == '"') {
        c->state = CHUNK_EXT;
    } else if (ch == '\\') {
        c->state = CHUNK_EXT_ESCAPED;
    }
    return 0;
}

/* One byte of what stands between the data of two chunks. */
static int h1_chunk_between(struct h1_chunk *c, char ch)
{
    switch ((enum h1_chunk_state)c->state) {
    case CHUNK_SIZE:
        if (c->digits > 0 && (ch == '\r' || ch == ';')) {
            if (c->left > H1_CHUNK_SIZE_MAX)
                return -ERR_BAD_CHUNK;
            c->state = ch == ';' ? CHUNK_EXT : CHUNK_SIZE_LF;
            return 0;
        }
        return h1_chunk_digit(c, ch);
    case CHUNK_EXT:
        if (ch == '\r') {
            c->state = CHUNK_SIZE_LF;
            return 0;
        }
        return h1_chunk_ext(c, ch);
    case CHUNK_EXT_QUOTED:
    case CHUNK_EXT_ESCAPED:
        return h1_chunk_ext(c, ch);
    case CHUNK_SIZE_LF:
        if (ch != '\n')
            return -ERR_BAD_CHUNK;
        c->state = c->left > 0 ? CHUNK_DATA : CHUNK_TRAILER;
        return 0;
    case CHUNK_DATA_CR:
        c->state = CHUNK_DATA_LF;
        return ch == '\r' ? 0 : -ERR_BAD_CHUNK;
    case CHUNK_DATA_LF:
        c->state = CHUNK_SIZE;
        c->digits = 0;
        c->ext_line = 0;
        return ch == '\n' ? 0 : -ERR_BAD_CHUNK;
    case CHUNK_DATA:
    case CHUNK_TRAILER:
    case CHUNK_TRAILER_LINE:
    case CHUNK_TRAILER_LF:
    case CHUNK_END_LF:
    case CHUNK_END:
    case CHUNK_BAD:
    case CHUNK_BAD_TRAILER:
        break;
    }
    return -ERR_BAD_CHUNK;
}

static int h1_chunk_keep(struct h1_chunk *c, struct arena *a, const char *p, size_t n)
{
    if (n > H1_TRAILER_MAX - c->trailer_n)
        return h1_chunk_refuse(c, CHUNK_BAD_TRAILER);
    if (c->trailer_n + n > c->trailer_cap) {
        size_t cap = c->trailer_cap > 0 ? c->trailer_cap : 256;
        while (cap < c->trailer_n + n)
            cap *= 2;
        char *grown = arena_bytes(a, cap);
        if (grown == NULL)
            return -ERR_NOMEM;
        if (c->trailer_n > 0)
            memcpy(grown, c->trailer, c->trailer_n);
        c->trailer = grown;
        c->trailer_cap = cap;
    }
    memcpy(c->trailer + c->trailer_n, p, n);
    c->trailer_n += (uint32_t)n;
    return 0;
}

/* Takes trailer bytes of p[0..n): 1 = the section is complete, 0 = more is needed; *ret_used bytes
 * were taken. */
static int h1_chunk_trailer(struct h1_chunk *c, struct arena *a, const char *p, size_t n,
                            size_t *ret_used)
{
    const char *q = p, *end = p + n;
    int rc = 0;
    while (q < end && rc == 0) {
        const char *from = q;
        if (c->state == CHUNK_TRAILER) {
            c->state = *q == '\r' ? CHUNK_END_LF : CHUNK_TRAILER_LINE;
            if (*q == '\r')
                q++;
        } else if (c->state == CHUNK_TRAILER_LINE) {
            q = h1_scan_value(q, end);
            if (q < end && *q != '\r')
                return h1_chunk_refuse(c, CHUNK_BAD_TRAILER);
            if (q < end) {
                q++;
                c->state = CHUNK_TRAILER_LF;
            }
            rc = h1_chunk_keep(c, a, from, (size_t)(q - from));
        } else {
            if (*q != '\n')
                return h1_chunk_refuse(c, CHUNK_BAD_TRAILER);
            q++;
            if (c->state == CHUNK_END_LF) {
                c->state = CHUNK_END;
                rc = 1;
            } else {
                c->state = CHUNK_TRAILER;
                rc = h1_chunk_keep(c, a, from, 1);
            }
        }
    }
    *ret_used = (size_t)(q - p);
    return rc;
}

int h1_chunk_decode(struct h1_chunk *c, struct arena *a, char *p, size_t n, size_t *ret_used,
                    size_t *ret_data)
{
    size_t i = 0, out = 0;
    int rc = 0;
    while (rc == 0 && i < n && c->state < CHUNK_END) {
        if (c->state == CHUNK_DATA) {
            size_t take = c->left < n - i ? (size_t)c->left : n - i;
            if (out != i)
                memmove(p + out, p + i, take);
            out += take;
            i += take;
            c->left -= take;
            c->data += take;
            if (c->left == 0)
                c->state = CHUNK_DATA_CR;
        } else if (c->state < CHUNK_TRAILER) {
            rc = h1_chunk_between(c, p[i]);
            if (rc < 0)
                c->state = CHUNK_BAD;
            else
                i++;
        } else {
            size_t used = 0;
            rc = h1_chunk_trailer(c, a, p + i, n - i, &used);
            i += used;
        }
    }
    *ret_used = i;
    *ret_data = out;
    if (rc < 0)
        return rc;
    if (c->state == CHUNK_BAD || c->state == CHUNK_BAD_TRAILER)
        return h1_chunk_refuse(c, (enum h1_chunk_state)c->state);
    return c->state == CHUNK_END;
}

/* Fields that no trailer section may bring: they frame, route, authenticate, or say how the content
 * is to be read, and have been acted upon by then (RFC 9110 6.5.1). Known fields with FIELD_HOP or
 * FIELD_OWN need no mention. */
static bool h1_chunk_forbids(const struct http_field *f)
{
    static const char *const name[] = {
        "host",
        "content-length",
        "trailer",
        "expect",
        "max-forwards",
        "via",
        "date",
        "x-request-id",
        "authorization",
        "www-authenticate",
        "authentication-info",
        "proxy-authentication-info",
        "cookie",
        "set-cookie",
        "cache-control",
        "pragma",
        "expires",
        "age",
        "vary",
        "location",
        "retry-after",
        "content-type",
        "content-encoding",
        "content-range",
        "content-location",
        "range",
        "x-accel-buffering",
    };
    if ((f->flags & (FIELD_HOP | FIELD_OWN)) != 0)
        return true;
    if (f->name.n > 3 && slice_eq_ci(slice_of(f->name.p, 3), SLICE("if-")))
        return true;
    for (size_t i = 0; i < sizeof(name) / sizeof(name[0]); i++) {
        if (slice_eq_ci(f->name, slice_str(name[i])))
            return true;
    }
    return false;
}

int h1_chunk_trailers(const struct h1_chunk *c, struct http_field *field, size_t max)
{
    struct h1_fields f;
    f.field = field;
    if (c->trailer_n == 0)
        return 0;
    uint32_t most = max < HTTP_FIELDS_MAX ? (uint32_t)max : HTTP_FIELDS_MAX;
    if (h1_fields_parse(&f, c->trailer, c->trailer + c->trailer_n, H1_TRAILER_MAX, most) < 0)
        return -ERR_BAD_TRAILER;
    size_t kept = 0;
    for (size_t i = 0; i < f.n; i++) {
        if (!h1_chunk_forbids(&field[i]))
            field[kept++] = field[i];
    }
    return (int)kept;
}

size_t h1_chunk_head(char *out, uint64_t size)
{
    static const char digit[] = "0123456789abcdef";
    size_t n = 1;
    while (n < 16 && size >> (4 * n) != 0)
        n++;
    for (size_t i = 0; i < n; i++)
        out[i] = digit[size >> (4 * (n - 1 - i)) & 15];
    out[n] = '\r';
    out[n + 1] = '\n';
    return n + 2;
}

size_t h1_chunk_tail(char *out, size_t cap, bool after_data, bool end,
                     const struct http_field *trailer, size_t ntrailer)
{
    struct head_out o = {.p = out, .cap = cap};
    if (after_data)
        head_add(&o, SLICE("\r\n"));
    if (!end)
        return o.n;
    head_add(&o, SLICE("0\r\n"));
    struct head_out plain = o;
    for (size_t i = 0; i < ntrailer; i++)
        head_field(&o, trailer[i].name, trailer[i].value);
    head_add(&o, SLICE("\r\n"));
    if (o.overflow) {
        o = plain;
        head_add(&o, SLICE("\r\n"));
    }
    return o.n;
}
