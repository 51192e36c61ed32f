/* worker/io/tls_scan: against certificates of all kinds made by OpenSSL, and against rubbish. */
#include "base/err.h"
#include "t/unit/tap.h"
#include "worker/io/tls_scan.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <time.h>

static uint8_t scratch[TLS_SCAN_DER];

struct made {
    char *pem, *der;
    size_t npem, nder;
    int64_t from, to;
};

static void dn(X509_NAME *n, const char *o, const char *cn)
{
    if (o)
        X509_NAME_add_entry_by_txt(n, "O", MBSTRING_UTF8, (const unsigned char *)o, -1, -1, 0);
    if (cn)
        X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_UTF8, (const unsigned char *)cn, -1, -1, 0);
}

static void make(struct made *m, EVP_PKEY *key, const char *cn, const char *names, int64_t to)
{
    X509 *x = X509_new();
    X509_NAME *issuer = X509_NAME_new();
    dn(issuer, "Issuers", "Test CA");
    dn(X509_get_subject_name(x), "Subject", cn);
    X509_set_version(x, 2);
    X509_set_issuer_name(x, issuer);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 0x123456);
    m->from = 1700000000;
    m->to = to;
    ASN1_TIME_set(X509_getm_notBefore(x), (time_t)m->from);
    ASN1_TIME_set(X509_getm_notAfter(x), (time_t)to);
    X509_set_pubkey(x, key);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_key_usage, "digitalSignature");
    X509_add_ext(x, e, -1);
    X509_EXTENSION_free(e);
    if (names) {
        e = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
        if (!e || !X509_add_ext(x, e, -1))
            tap_bail("subjectAltName %.60s", names);
        X509_EXTENSION_free(e);
    }
    bool own_digest = EVP_PKEY_is_a(key, "ED25519");
    if (!X509_sign(x, key, own_digest ? NULL : EVP_sha256()))
        tap_bail("sign");
    uint8_t *der = NULL;
    m->nder = (size_t)i2d_X509(x, &der);
    m->der = (char *)der;
    BIO *b = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(b, x);
    char *p;
    m->npem = (size_t)BIO_get_mem_data(b, &p);
    m->pem = malloc(m->npem + 1);
    memcpy(m->pem, p, m->npem);
    m->pem[m->npem] = '\0';
    BIO_free(b);
    X509_NAME_free(issuer);
    X509_free(x);
}

static void made_free(struct made *m)
{
    OPENSSL_free(m->der);
    free(m->pem);
}

static const char *names_of(struct tls_scan *s)
{
    static char all[4096];
    char name[TLS_SCAN_NAME];
    size_t n, at = 0;
    all[0] = '\0';
    while (tls_scan_name(s, name, &n) && at + n + 2 < sizeof all)
        at += (size_t)snprintf(all + at, sizeof all - at, "%s%s", at ? "," : "", name);
    return all;
}

static void test_kinds(void)
{
    static const struct {
        const char *key;
        enum tls_key_type type;
        const char *cn, *names, *want;
        int64_t to;
    } t[] = {
        {"P-256", TLS_KEY_EC, "a.test", "DNS:a.test,DNS:*.A.test", "a.test,*.a.test", 1800000000},
        {"P-384", TLS_KEY_EC, "cn.test", NULL, "cn.test", 2524608000 - 1}, /* the last UTCTime */
        {"P-521", TLS_KEY_EC, "a.test", "IP:10.0.0.1,email:x@y.test", "", 2524608000},
        {"RSA", TLS_KEY_RSA, "Some Company", NULL, "", 4102444799},
        {"RSA", TLS_KEY_RSA, NULL, "DNS:x.test.,IP:::1,DNS:under_score.test",
         "x.test,under_score.test", 1709210096}, /* 29 February 2024 */
        {"ED25519", TLS_KEY_OTHER, "cn.test",
         "DNS:f*.bad.test,DNS:*,DNS:a.*.test,DNS:-,DNS:..,DNS:ok.test", "-,ok.test", 951782400},
    };
    EVP_PKEY *rsa = EVP_RSA_gen(2048);
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct made m;
        struct tls_scan s, s2;
        EVP_PKEY *key = t[i].type == TLS_KEY_RSA     ? rsa
                        : t[i].type == TLS_KEY_OTHER ? EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")
                                                     : EVP_EC_gen(t[i].key);
        make(&m, key, t[i].cn, t[i].names, t[i].to);
        tap_is_int(tls_scan_file(slice_of(m.pem, m.npem), scratch, &s), 0, "%zu: PEM", i);
        tap_is_int(tls_scan_der(slice_of(m.der, m.nder), &s2), 0, "%zu: DER", i);
        tap_is_int(s.type, t[i].type, "%zu: kind of key", i);
        tap_ok(s.not_before_s == m.from && s.not_after_s == m.to, "%zu: validity", i);
        tap_is_str(s.issuer_o, "Issuers", "%zu: issuer's O", i);
        tap_is_str(s.issuer_cn, "Test CA", "%zu: issuer's CN", i);
        tap_is_str(s.cn, t[i].cn ? t[i].cn : "", "%zu: CN", i);
        tap_is_str(slice_str(names_of(&s)), t[i].want, "%zu: names", i);
        tap_is_str(slice_str(names_of(&s2)), t[i].want, "%zu: names of the DER", i);
        tap_ok(!s.has_key, "%zu: no key", i);
        /* Every beginning of it is refused, with nothing read behind it. */
        unsigned taken = 0;
        for (size_t n = 0; n < m.nder; n++) {
            char *cut = malloc(n ? n : 1);
            memcpy(cut, m.der, n);
            taken += tls_scan_der(slice_of(cut, n), &s) == 0;
            free(cut);
        }
        tap_is_int(taken, 0, "%zu: no part of the DER is a certificate", i);
        taken = 0;
        for (size_t n = 0; n + 30 < m.npem; n++)
            taken += tls_scan_file(slice_of(m.pem, n), scratch, &s) == 0;
        tap_is_int(taken, 0, "%zu: no part of the PEM", i);
        made_free(&m);
        if (key != rsa)
            EVP_PKEY_free(key);
    }
    EVP_PKEY_free(rsa);
}

static void test_many_names(void)
{
    static char names[64 * 1024];
    size_t at = 0, n, got = 0;
    char name[TLS_SCAN_NAME];
    struct made m;
    struct tls_scan s;
    for (int i = 0; i < 1500; i++)
        at += (size_t)snprintf(names + at, sizeof names - at, "%sDNS:n%d.example.test",
                               i ? "," : "", i);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    make(&m, key, "x", names, 1900000000);
    tap_is_int(tls_scan_file(slice_of(m.pem, m.npem), scratch, &s), 0, "1500 names");
    while (tls_scan_name(&s, name, &n))
        got++;
    tap_is_int(got, 1500, "all of them");
    made_free(&m);
    EVP_PKEY_free(key);
}

static void test_files(void)
{
    static const char key[] = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    char file[8192];
    struct made m;
    struct tls_scan s;
    EVP_PKEY *k = EVP_EC_gen("P-256");
    make(&m, k, "a.test", "DNS:a.test", 1900000000);
    const struct {
        const char *before, *after, *what;
        int want;
        bool with_key;
    } t[] = {
        {"", "", "alone", 0, false},
        {key, "", "key first", 0, true},
        {"", key, "key behind", 0, true},
        {"Bag Attributes\n  friendlyName: ----- x -----BEGIN nothing\n", "rubbish", "text around",
         0, false},
        {"-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\r\n", key, "parameters",
         0, true},
        {"", "-----BEGIN PRIVATE KEY-----\nAAAA\n", "a key that does not end", -ERR_INVAL, false},
        {"-----BEGIN CERTIFICATE-----\nA!AA\n-----END CERTIFICATE-----\n", "", "no base64",
         -ERR_INVAL, false},
        {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "", "no certificate",
         -ERR_INVAL, false},
        {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END X-----\n", "", "another end", -ERR_INVAL,
         false},
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        int n = snprintf(file, sizeof file, "%s%s%s", t[i].before, m.pem, t[i].after);
        tap_is_int(tls_scan_file(slice_of(file, (size_t)n), scratch, &s), t[i].want, "%s",
                   t[i].what);
        if (t[i].want == 0)
            tap_ok(s.has_key == t[i].with_key, "%s: key or not", t[i].what);
    }
    tap_is_int(tls_scan_file(slice_str(key), scratch, &s), -ERR_NOENT, "only a key");
    tap_is_int(tls_scan_file(SLICE_NONE, scratch, &s), -ERR_NOENT, "an empty file");
    tap_is_int(tls_scan_file(slice_of(m.der, m.nder), scratch, &s), -ERR_NOENT, "DER is no PEM");
    /* Windows' ends of lines. */
    size_t n = 0;
    for (size_t i = 0; i < m.npem; i++) {
        if (m.pem[i] == '\n')
            file[n++] = '\r';
        file[n++] = m.pem[i];
    }
    tap_is_int(tls_scan_file(slice_of(file, n), scratch, &s), 0, "CR LF");
    made_free(&m);
    EVP_PKEY_free(k);
}

static void test_base64(void)
{
    uint8_t raw[200] = {0}, got[200], text[300];
    unsigned bad = 0, small = 0;
    for (size_t n = 0; n < sizeof raw; n++) {
        for (size_t i = 0; i < n; i++)
            raw[i] = (uint8_t)(i * 37 + n * 101);
        int len = EVP_EncodeBlock(text, raw, (int)n);
        struct slice s = slice_of((char *)text, (size_t)len);
        bad += tls_scan_base64(s, got, sizeof got) != (ssize_t)n || memcmp(raw, got, n) != 0;
        small += n > 0 && tls_scan_base64(s, got, n - 1) != -ERR_RANGE;
    }
    tap_is_int(bad, 0, "all lengths");
    tap_is_int(small, 0, "too little room is said");
    static const char *const wrong[] = {"A",    "AA",    "AAA",   "AA=",  "AAA==", "=AAA",
                                        "AA=A", "AAAA=", "AAAAA", "AA*A", "A===",  "AA==AA=="};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        tap_is_int(tls_scan_base64(slice_str(wrong[i]), got, sizeof got), -ERR_INVAL, "%s",
                   wrong[i]);
    tap_is_int(tls_scan_base64(SLICE(" A\nA\tA\r\nA \n"), got, sizeof got), 3, "white space");
}

static void test_hosts(void)
{
    char out[TLS_SCAN_NAME], longest[300];
    static const char *const bad[] = {"",   ".",    "a..b",  ".a",  "a b",    "*",
                                      "*.", "a*.b", "x.*.y", "a/b", "ä.test", "*x.test"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        tap_is_int(tls_scan_host(slice_str(bad[i]), out), -ERR_INVAL, "\"%s\"", bad[i]);
    tap_is_int(tls_scan_host(SLICE("WWW.Example.ORG."), out), 15, "upper case and a dot");
    tap_is_str(slice_str(out), "www.example.org", "are put right");
    tap_is_int(tls_scan_host(SLICE("*.a"), out), 3, "a wildcard");
    memset(longest, 'a', sizeof longest);
    for (size_t i = 63; i < sizeof longest; i += 64)
        longest[i] = '.';
    tap_is_int(tls_scan_host(slice_of(longest, 253), out), 253, "the longest");
    tap_is_int(tls_scan_host(slice_of(longest, 254), out), -ERR_INVAL, "a longer one");
    longest[63] = 'a';
    tap_is_int(tls_scan_host(slice_of(longest, 100), out), -ERR_INVAL, "a label of 64");
}

int main(void)
{
    test_kinds();
    test_many_names();
    test_files();
    test_base64();
    test_hosts();
    return tap_done();
}
