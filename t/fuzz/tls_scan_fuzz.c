/* PEM files and certificates of strangers: what is found lies inside of what was given, and names
 * are names. */
#include "base/err.h"
#include "t/fuzz/fuzz.h"
#include "worker/io/tls_scan.h"

#include <string.h>

static void inside(struct slice part, const void *p, size_t n)
{
    const char *from = p;
    CHECK(part.n == 0 || (part.p >= from && part.n <= n && part.p + part.n <= from + n));
}

static void check_names(struct tls_scan *s)
{
    char name[TLS_SCAN_NAME], again[TLS_SCAN_NAME];
    size_t n;
    while (tls_scan_name(s, name, &n)) {
        CHECK(n > 0 && n < sizeof(name) && strlen(name) == n);
        CHECK(tls_scan_host(slice_of(name, n), again) == (int)n && memcmp(name, again, n) == 0);
    }
}

static void check_scan(struct tls_scan *s, const void *p, size_t n)
{
    inside(s->issuer_o, p, n);
    inside(s->issuer_cn, p, n);
    inside(s->cn, p, n);
    inside(s->names, p, n);
    CHECK(s->type < TLS_KEY__COUNT);
    check_names(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static uint8_t scratch[TLS_SCAN_DER];
    /* Exactly as much as there is, so that a byte too far is seen. */
    char *copy = malloc(n ? n : 1), *out = malloc(n ? n : 1);
    if (!copy || !out)
        abort();
    memcpy(copy, data, n);
    const struct slice file = slice_of(copy, n);
    struct slice rest = file, label = SLICE_NONE, body = SLICE_NONE, curve, key;
    struct tls_scan s;
    enum tls_key_type type;
    int e = tls_scan_file(file, scratch, &s);
    CHECK(e == 0 || e == -ERR_NOENT || e == -ERR_INVAL || e == -ERR_RANGE);
    if (e == 0)
        check_scan(&s, scratch, sizeof(scratch));
    if (tls_scan_der(file, &s) == 0)
        check_scan(&s, copy, n);
    while ((e = tls_scan_block(&rest, &label, &body)) > 0) {
        inside(label, copy, n);
        inside(body, copy, n);
        ssize_t got = tls_scan_base64(body, (uint8_t *)out, body.n);
        CHECK(got == -ERR_INVAL || (got >= 0 && (size_t)got <= body.n));
    }
    CHECK(e == 0 || e == -ERR_INVAL);
    if (tls_scan_pkcs8(file, &type, &curve, &key) == 0) {
        inside(curve, copy, n);
        inside(key, copy, n);
    }
    free(copy);
    free(out);
    return 0;
}
