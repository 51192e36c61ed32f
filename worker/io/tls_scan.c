/* PEM and DER, as far as an index of certificates needs them; see tls_scan.h. */
#include "worker/io/tls_scan.h"

#include "base/err.h"

/* ---- PEM ---- */

#define DASHES SLICE("-----")

static struct slice scan_from(struct slice s, size_t at)
{
    return slice_of(s.p + at, s.n - at);
}

static ptrdiff_t scan_find(struct slice s, struct slice what)
{
    const char *at = s.n ? memmem(s.p, s.n, what.p, what.n) : NULL;
    return at ? at - s.p : -1;
}

int tls_scan_block(struct slice *rest, struct slice *ret_label, struct slice *ret_body)
{
    static const struct slice begin = {"-----BEGIN ", 11}, end = {"-----END ", 9};
    ptrdiff_t at;
    /* Only at the start of a line: a comment may speak of it. */
    while ((at = scan_find(*rest, begin)) > 0 && rest->p[at - 1] != '\n')
        *rest = scan_from(*rest, (size_t)at + begin.n);
    if (at < 0)
        return 0;
    *rest = scan_from(*rest, (size_t)at + begin.n);
    at = scan_find(slice_of(rest->p, rest->n < 64 ? rest->n : 64), DASHES);
    if (at < 0)
        return -ERR_INVAL;
    *ret_label = slice_of(rest->p, (size_t)at);
    *rest = scan_from(*rest, (size_t)at + DASHES.n);
    at = scan_find(*rest, end);
    if (at < 0)
        return -ERR_INVAL;
    *ret_body = slice_of(rest->p, (size_t)at);
    *rest = scan_from(*rest, (size_t)at + end.n);
    if (!slice_starts(*rest, *ret_label) || !slice_starts(scan_from(*rest, ret_label->n), DASHES))
        return -ERR_INVAL;
    *rest = scan_from(*rest, ret_label->n + DASHES.n);
    return 1;
}

bool tls_scan_is_cert(struct slice label)
{
    return slice_eq(label, SLICE("CERTIFICATE")) || slice_eq(label, SLICE("X509 CERTIFICATE")) ||
           slice_eq(label, SLICE("TRUSTED CERTIFICATE"));
}

bool tls_scan_is_key(struct slice label)
{
    return slice_ends(label, SLICE("PRIVATE KEY"));
}

bool tls_scan_is_encrypted(struct slice label, struct slice body)
{
    return slice_starts(label, SLICE("ENCRYPTED ")) || scan_find(body, SLICE("ENCRYPTED")) >= 0;
}

/* Value of a base64 digit; 64 white space, 65 the padding, 66 nothing of base64. */
static uint8_t scan_digit(unsigned char c)
{
    static const uint8_t v[256] = {
#define N8 66, 66, 66, 66, 66, 66, 66, 66
        66, 66, 66, 66, 66, 66, 66, 66, 66, 64, 64, 66, 66, 64, 66, 66, N8, N8, /* 0x00 */
        64, 66, 66, 66, 66, 66, 66, 66, 66, 66, 66, 62, 66, 66, 66, 63,         /* 0x20 */
        52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 66, 66, 66, 65, 66, 66,         /* 0x30 */
        66, 0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14,         /* 0x40 */
        15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 66, 66, 66, 66, 66,         /* 0x50 */
        66, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,         /* 0x60 */
        41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 66, 66, 66, 66, 66,         /* 0x70 */
        N8, N8, N8, N8, N8, N8, N8, N8, N8, N8, N8, N8, N8, N8, N8, N8,         /* 0x80 */
#undef N8
    };
    return v[c];
}

ssize_t tls_scan_base64(struct slice body, uint8_t *out, size_t cap)
{
    const unsigned char *p = (const void *)body.p, *end = p + body.n;
    size_t n = 0;
    uint32_t word = 0;
    unsigned digits = 0, pad = 0;
    while (p < end) {
        /* Whole groups of a line, which is nearly everything. */
        while (digits == 0 && pad == 0 && end - p >= 4 && n + 3 <= cap) {
            uint8_t a = scan_digit(p[0]), b = scan_digit(p[1]), c = scan_digit(p[2]),
                    d = scan_digit(p[3]);
            if ((a | b | c | d) & 0xc0)
                break;
            out[n++] = (uint8_t)(a << 2 | b >> 4);
            out[n++] = (uint8_t)(b << 4 | c >> 2);
            out[n++] = (uint8_t)(c << 6 | d);
            p += 4;
        }
        if (p == end)
            break;
        uint8_t v = scan_digit(*p++);
        if (v == 64)
            continue;
        if (v == 66 || (v == 65 && (digits < 2 || digits + ++pad > 4)) || (v < 64 && pad > 0))
            return -ERR_INVAL;
        if (v == 65)
            continue;
        word = word << 6 | v;
        if (++digits < 4)
            continue;
        if (n + 3 > cap)
            return -ERR_RANGE;
        out[n++] = (uint8_t)(word >> 16);
        out[n++] = (uint8_t)(word >> 8);
        out[n++] = (uint8_t)word;
        word = 0;
        digits = 0;
    }
    if (digits + pad != 0 && digits + pad != 4)
        return -ERR_INVAL;
    if (n + (digits ? digits - 1 : 0) > cap)
        return -ERR_RANGE;
    if (digits >= 2)
        out[n++] = (uint8_t)(word >> (digits == 2 ? 4 : 10));
    if (digits == 3)
        out[n++] = (uint8_t)(word >> 2);
    return (ssize_t)n;
}

/* ---- DER (X.690) ---- */

enum {
    DER_BOOLEAN = 0x01,
    DER_INTEGER = 0x02,
    DER_BITS = 0x03,
    DER_OCTETS = 0x04,
    DER_OID = 0x06,
    DER_UTF8 = 0x0c,
    DER_PRINTABLE = 0x13,
    DER_T61 = 0x14,
    DER_IA5 = 0x16,
    DER_UTC_TIME = 0x17,
    DER_TIME = 0x18,
    DER_SEQUENCE = 0x30,
    DER_SET = 0x31,
    DER_DNS_NAME = 0x82,
    DER_VERSION = 0xa0,
    DER_EXTENSIONS = 0xa3
};

/* Cuts the next element off; false at the end, and for what is not DER with definite lengths. */
static bool der_next(struct slice *s, unsigned *ret_tag, struct slice *ret)
{
    const uint8_t *p = (const void *)s->p;
    size_t head = 2, n;
    if (s->n < 2 || (p[0] & 0x1f) == 0x1f)
        return false;
    n = p[1];
    if (n >= 0x80) {
        size_t bytes = n & 0x7f;
        if (bytes < 1 || bytes > 3 || s->n < 2 + bytes)
            return false;
        n = 0;
        for (size_t i = 0; i < bytes; i++)
            n = n << 8 | p[2 + i];
        head += bytes;
    }
    if (n > s->n - head)
        return false;
    *ret_tag = p[0];
    *ret = slice_of(s->p + head, n);
    *s = scan_from(*s, head + n);
    return true;
}

static bool der_get(struct slice *s, unsigned tag, struct slice *ret)
{
    struct slice at = *s, v;
    unsigned got;
    if (!der_next(&at, &got, &v) || got != tag)
        return false;
    *s = at;
    *ret = v;
    return true;
}

/* The text of the last attribute with OID 2.5.4.x of a Name. */
static struct slice scan_attribute(struct slice name, uint8_t x)
{
    const char oid[] = {0x55, 0x04, (char)x};
    struct slice set, pair, id, v, found = SLICE_NONE;
    unsigned tag;
    while (der_get(&name, DER_SET, &set)) {
        while (der_get(&set, DER_SEQUENCE, &pair)) {
            if (!der_get(&pair, DER_OID, &id) || !slice_eq(id, slice_of(oid, sizeof oid)) ||
                !der_next(&pair, &tag, &v))
                continue;
            if (tag == DER_UTF8 || tag == DER_PRINTABLE || tag == DER_T61 || tag == DER_IA5)
                found = v;
        }
    }
    return found;
}

static int scan_two(const char *p)
{
    if (p[0] < '0' || p[0] > '9' || p[1] < '0' || p[1] > '9')
        return -1;
    return (p[0] - '0') * 10 + p[1] - '0';
}

/* Seconds since 1970 of a date of the Gregorian calendar: days are counted from March, so that the
 * leap day is a year's last. */
static int64_t scan_epoch(int64_t y, int mon, int day, int h, int min, int s)
{
    y -= mon <= 2;
    int64_t era = (y >= 0 ? y : y - 399) / 400, yoe = y - era * 400;
    int64_t doy = (153 * (mon + (mon > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t days = era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
    return days * 86400 + h * 3600 + min * 60 + s;
}

/* RFC 5280 section 4.1.2.5: with seconds, in Z, no fractions. */
static bool scan_time(struct slice *s, int64_t *ret)
{
    struct slice v;
    unsigned tag;
    int64_t year;
    if (!der_next(s, &tag, &v) || (tag != DER_UTC_TIME && tag != DER_TIME) ||
        v.n != (tag == DER_TIME ? 15 : 13) || v.p[v.n - 1] != 'Z')
        return false;
    int two = scan_two(v.p);
    if (tag == DER_TIME) {
        int low = scan_two(v.p + 2);
        if (two < 0 || low < 0)
            return false;
        year = two * 100 + low;
        v = scan_from(v, 4);
    } else {
        year = two < 50 ? 2000 + two : 1900 + two;
        v = scan_from(v, 2);
    }
    int mon = scan_two(v.p), day = scan_two(v.p + 2), h = scan_two(v.p + 4),
        min = scan_two(v.p + 6), sec = scan_two(v.p + 8);
    if (two < 0 || mon < 1 || mon > 12 || day < 1 || day > 31 || h < 0 || h > 23 || min < 0 ||
        min > 59 || sec < 0 || sec > 60)
        return false;
    *ret = scan_epoch(year, mon, day, h, min, sec);
    return true;
}

static const char scan_oid_rsa[] = "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
static const char scan_oid_ec[] = "\x2a\x86\x48\xce\x3d\x02\x01";

static enum tls_key_type scan_algorithm(struct slice oid)
{
    if (slice_eq(oid, slice_of(scan_oid_rsa, sizeof scan_oid_rsa - 1)))
        return TLS_KEY_RSA;
    if (slice_eq(oid, slice_of(scan_oid_ec, sizeof scan_oid_ec - 1)))
        return TLS_KEY_EC;
    return TLS_KEY_OTHER;
}

/* The contents of SubjectAltName (section 4.2.1.6), or false when there is none. */
static bool scan_alt_names(struct slice tbs, struct slice *ret)
{
    struct slice wrap, list, ext, oid, v;
    unsigned tag;
    while (der_next(&tbs, &tag, &wrap)) {
        if (tag != DER_EXTENSIONS || !der_get(&wrap, DER_SEQUENCE, &list))
            continue;
        while (der_get(&list, DER_SEQUENCE, &ext)) {
            if (!der_get(&ext, DER_OID, &oid) || !slice_eq(oid, SLICE("\x55\x1d\x11")))
                continue;
            (void)der_get(&ext, DER_BOOLEAN, &v);
            return der_get(&ext, DER_OCTETS, &v) && der_get(&v, DER_SEQUENCE, ret);
        }
    }
    return false;
}

int tls_scan_der(struct slice der, struct tls_scan *ret)
{
    struct slice cert, tbs, v, issuer, subject, validity, spki, algorithm, oid;
    *ret = (struct tls_scan){0};
    if (!der_get(&der, DER_SEQUENCE, &cert) || !der_get(&cert, DER_SEQUENCE, &tbs))
        return -ERR_INVAL;
    (void)der_get(&tbs, DER_VERSION, &v);
    if (!der_get(&tbs, DER_INTEGER, &v) || !der_get(&tbs, DER_SEQUENCE, &v) ||
        !der_get(&tbs, DER_SEQUENCE, &issuer) || !der_get(&tbs, DER_SEQUENCE, &validity) ||
        !der_get(&tbs, DER_SEQUENCE, &subject) || !der_get(&tbs, DER_SEQUENCE, &spki) ||
        !scan_time(&validity, &ret->not_before_s) || !scan_time(&validity, &ret->not_after_s) ||
        !der_get(&spki, DER_SEQUENCE, &algorithm) || !der_get(&algorithm, DER_OID, &oid) ||
        !der_get(&spki, DER_BITS, &v))
        return -ERR_INVAL;
    ret->type = scan_algorithm(oid);
    ret->issuer_cn = scan_attribute(issuer, 3);
    ret->issuer_o = scan_attribute(issuer, 10);
    ret->cn = scan_attribute(subject, 3);
    ret->has_san = scan_alt_names(tbs, &ret->names);
    return 0;
}

int tls_scan_file(struct slice file, uint8_t *scratch, struct tls_scan *ret)
{
    struct slice label, body;
    bool cert = false, key = false;
    int e;
    *ret = (struct tls_scan){0};
    while ((e = tls_scan_block(&file, &label, &body)) > 0) {
        if (tls_scan_is_key(label)) {
            key = true;
        } else if (!cert && tls_scan_is_cert(label)) {
            ssize_t n = tls_scan_base64(body, scratch, TLS_SCAN_DER);
            if (n < 0)
                return (int)n;
            e = tls_scan_der(slice_of((const char *)scratch, (size_t)n), ret);
            if (e < 0)
                return e;
            cert = true;
        }
    }
    ret->has_key = key;
    return e < 0 ? e : cert ? 0 : -ERR_NOENT;
}

/* ---- Names ---- */

int tls_scan_host(struct slice text, char out[TLS_SCAN_NAME])
{
    size_t label = 0, n = text.n;
    if (n > 0 && text.p[n - 1] == '.')
        n--;
    if (n == 0 || n >= TLS_SCAN_NAME)
        return -ERR_INVAL;
    for (size_t i = 0; i < n; i++) {
        char c = text.p[i];
        if (c >= 'A' && c <= 'Z')
            c = (char)(c + 'a' - 'A');
        bool wild = c == '*' && i == 0 && n > 2 && text.p[1] == '.';
        if (c == '.') {
            if (label == 0)
                return -ERR_INVAL;
            label = 0;
        } else if (wild || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
                   c == '_') {
            if (++label > 63)
                return -ERR_INVAL;
        } else {
            return -ERR_INVAL;
        }
        out[i] = c;
    }
    out[n] = '\0';
    return (int)n;
}

bool tls_scan_name(struct tls_scan *s, char out[TLS_SCAN_NAME], size_t *ret_n)
{
    struct slice v;
    unsigned tag;
    int n;
    if (!s->has_san) {
        v = s->cn;
        s->cn = SLICE_NONE;
        n = v.n ? tls_scan_host(v, out) : -ERR_INVAL;
        *ret_n = n > 0 ? (size_t)n : 0;
        return n > 0;
    }
    while (der_next(&s->names, &tag, &v)) {
        n = tag == DER_DNS_NAME ? tls_scan_host(v, out) : -ERR_INVAL;
        if (n > 0) {
            *ret_n = (size_t)n;
            return true;
        }
    }
    return false;
}

/* ---- Private keys ---- */

int tls_scan_pkcs8(struct slice der, enum tls_key_type *ret_type, struct slice *ret_curve,
                   struct slice *ret_key)
{
    struct slice all, version, algorithm, oid, params;
    if (!der_get(&der, DER_SEQUENCE, &all) || !der_get(&all, DER_INTEGER, &version) ||
        !der_get(&all, DER_SEQUENCE, &algorithm) || !der_get(&algorithm, DER_OID, &oid) ||
        !der_get(&all, DER_OCTETS, ret_key))
        return -ERR_INVAL;
    *ret_curve = algorithm;
    *ret_type = scan_algorithm(oid);
    if (*ret_type == TLS_KEY_EC && !der_get(&algorithm, DER_OID, &params))
        return -ERR_INVAL; /* explicit parameters */
    return *ret_type == TLS_KEY_OTHER ? -ERR_INVAL : 0;
}
