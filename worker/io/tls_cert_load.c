/* Certificates, keys and OCSP answers from the bytes of their files; see tls_cert_in.h. */

/* The functions made for one kind of key are deprecated in OpenSSL 3 and 30 to 100 times faster
 * than those that find out themselves what they have (4 and 19 us instead of 500). */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "worker/io/tls_cert_in.h"

#include "base/arena.h"
#include "base/err.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <time.h>

#define CHAIN_MOST 16 /* certificates behind the first */

void tls_cert_unload(struct tls_pair *p)
{
    X509_free(p->cert);
    EVP_PKEY_free(p->key);
    sk_X509_pop_free(p->chain, X509_free);
    *p = (struct tls_pair){0};
}

/* ---- keys ---- */

static EVP_PKEY *load_rsa(const uint8_t *p, size_t n)
{
    RSA *rsa = d2i_RSAPrivateKey(NULL, &p, (long)n);
    EVP_PKEY *k = rsa ? EVP_PKEY_new() : NULL;
    if (k && EVP_PKEY_assign_RSA(k, rsa))
        return k;
    EVP_PKEY_free(k);
    RSA_free(rsa);
    return NULL;
}

/* curve: DER of its OID when the key itself may not say it (PKCS#8), else empty. */
static EVP_PKEY *load_ec(const uint8_t *p, size_t n, struct slice curve)
{
    EC_KEY *ec = NULL;
    if (curve.n) {
        const uint8_t *at = (const void *)curve.p;
        ASN1_OBJECT *oid = d2i_ASN1_OBJECT(NULL, &at, (long)curve.n);
        int nid = oid ? OBJ_obj2nid(oid) : NID_undef;
        ASN1_OBJECT_free(oid);
        ec = nid != NID_undef ? EC_KEY_new_by_curve_name(nid) : NULL;
        if (!ec)
            return NULL;
    }
    EC_KEY *got = d2i_ECPrivateKey(ec ? &ec : NULL, &p, (long)n);
    if (!got) {
        EC_KEY_free(ec);
        return NULL;
    }
    EVP_PKEY *k = EVP_PKEY_new();
    if (k && EVP_PKEY_assign_EC_KEY(k, got))
        return k;
    EVP_PKEY_free(k);
    EC_KEY_free(got);
    return NULL;
}

static EVP_PKEY *load_key_der(struct slice label, const uint8_t *der, size_t n)
{
    enum tls_key_type type;
    struct slice curve = SLICE_NONE, inner;
    EVP_PKEY *k = NULL;
    if (slice_eq(label, SLICE("RSA PRIVATE KEY"))) {
        k = load_rsa(der, n);
    } else if (slice_eq(label, SLICE("EC PRIVATE KEY"))) {
        k = load_ec(der, n, SLICE_NONE);
    } else if (tls_scan_pkcs8(slice_of((const char *)der, n), &type, &curve, &inner) == 0) {
        const uint8_t *p = (const void *)inner.p;
        k = type == TLS_KEY_RSA ? load_rsa(p, inner.n) : load_ec(p, inner.n, curve);
    }
    if (!k) { /* the slow way knows them all */
        ERR_clear_error();
        k = d2i_AutoPrivateKey(NULL, &der, (long)n);
    }
    return k;
}

/* DER is one SEQUENCE: its length in the next byte, or in those behind it. */
static bool load_is_der(struct slice file)
{
    const uint8_t *p = (const void *)file.p;
    return file.n > 2 && p[0] == 0x30 && (p[1] >= 0x80 || p[1] == file.n - 2);
}

static bool load_key_of_chain(EVP_PKEY *k, STACK_OF(X509) * chain)
{
    for (int i = 0; i < sk_X509_num(chain); i++)
        if (X509_check_private_key(sk_X509_value(chain, i), k))
            return true;
    return false;
}

/* The first key of the file that belongs to the certificate. */
static int load_key(struct slice file, struct tls_pair *pair, const char **ret_why)
{
    struct slice label, body;
    const bool der_file = load_is_der(file);
    bool other = false, encrypted = false, bad = false, misplaced = false;
    int more;
    while ((more = tls_scan_block(&file, &label, &body)) > 0) {
        if (!tls_scan_is_key(label))
            continue;
        if (tls_scan_is_encrypted(label, body)) {
            encrypted = true;
            continue;
        }
        uint8_t *der = alloc_should_fail() ? NULL : malloc(body.n + 1);
        if (!der) {
            *ret_why = "out of memory";
            return -ERR_NOMEM;
        }
        ssize_t n = tls_scan_base64(body, der, body.n);
        EVP_PKEY *k = n > 0 ? load_key_der(label, der, (size_t)n) : NULL;
        OPENSSL_cleanse(der, body.n);
        free(der);
        if (k && X509_check_private_key(pair->cert, k)) {
            pair->key = k;
            return 0;
        }
        misplaced = misplaced || (k && load_key_of_chain(k, pair->chain));
        other = other || k;
        bad = bad || !k;
        EVP_PKEY_free(k);
    }
    *ret_why =
        misplaced   ? "the private key belongs to a later certificate of the file: the server's "
                      "own must be the first, then its issuer"
        : other     ? "the private key does not belong to the certificate"
        : bad       ? "the private key cannot be read"
        : encrypted ? "the private key is encrypted; rpd cannot ask for its password (openssl pkey "
                      "-in KEY -out NEW writes it without)"
        : more < 0  ? "the file ends in the middle of a key"
        : der_file  ? "the private key is DER, not PEM (openssl pkey -inform DER converts it)"
                    : "there is no private key";
    return -ERR_INVAL;
}

/* ---- certificates ---- */

void tls_cert_issuers_fini(struct tls_issuers *is)
{
    for (size_t i = 0; i < TLS_ISSUERS; i++) {
        X509_free(is->v[i].cert);
        free(is->v[i].der);
    }
    SSL_CTX_free(is->probe);
    *is = (struct tls_issuers){0};
}

/* A new reference, of the one that is there already when there is one. */
static X509 *load_issuer(struct tls_issuers *is, const uint8_t *der, size_t n)
{
    for (size_t i = 0; i < TLS_ISSUERS && is->v[i].cert; i++) {
        if (is->v[i].n == n && memcmp(is->v[i].der, der, n) == 0) {
            X509_up_ref(is->v[i].cert);
            return is->v[i].cert;
        }
    }
    const uint8_t *p = der;
    X509 *x = d2i_X509(NULL, &p, (long)n);
    uint8_t *copy = x && !alloc_should_fail() ? malloc(n) : NULL;
    if (!copy)
        return x; /* kept by nobody then */
    struct tls_issuer *to = &is->v[is->next++ % TLS_ISSUERS];
    X509_free(to->cert);
    free(to->der);
    memcpy(copy, der, n);
    X509_up_ref(x);
    *to = (struct tls_issuer){x, copy, n};
    return x;
}

static int load_chain(struct slice file, struct tls_issuers *is, uint8_t *der, struct tls_pair *ret,
                      const char **ret_why)
{
    struct slice label, body;
    int more, chain = 0;
    while ((more = tls_scan_block(&file, &label, &body)) > 0) {
        if (!tls_scan_is_cert(label))
            continue;
        ssize_t n = tls_scan_base64(body, der, TLS_SCAN_DER);
        const uint8_t *p = der;
        X509 *x = n <= 0      ? NULL
                  : ret->cert ? load_issuer(is, der, (size_t)n)
                              : d2i_X509(NULL, &p, (long)n);
        *ret_why = ret->cert ? "a certificate of the chain cannot be read"
                             : "the certificate cannot be read";
        if (!x)
            return -ERR_INVAL;
        if (!ret->cert) {
            ret->cert = x;
            continue;
        }
        *ret_why = "the chain is too long";
        if (chain++ == CHAIN_MOST || !sk_X509_push(ret->chain, x)) {
            X509_free(x);
            return -ERR_INVAL;
        }
    }
    *ret_why =
        more < 0 ? "the file ends in the middle of a certificate" : "there is no certificate";
    return more < 0 || !ret->cert ? -ERR_INVAL : 0;
}

/* OpenSSL's own words for the refusals of its security level say little. */
static const char *load_refusal(unsigned long why)
{
    const char *text = why ? ERR_reason_error_string(why) : NULL;
    switch (ERR_GET_REASON(why)) {
    case SSL_R_EE_KEY_TOO_SMALL:
        return "the key is too short: RSA needs 2048 bits, EC 224";
    case SSL_R_CA_KEY_TOO_SMALL:
        return "the key of a certificate in the chain is too short";
    case SSL_R_CA_MD_TOO_WEAK:
        return "it is signed with SHA-1 or MD5, which clients refuse";
    default:
        return text ? text : "OpenSSL does not take it";
    }
}

int tls_cert_load(struct slice cert, struct slice key, struct tls_issuers *is, struct tls_pair *ret,
                  const char **ret_why)
{
    uint8_t *der = alloc_should_fail() ? NULL : malloc(TLS_SCAN_DER);
    *ret = (struct tls_pair){.chain = sk_X509_new_null()};
    *ret_why = "out of memory";
    if (!is->probe) {
        is->probe = SSL_CTX_new(TLS_server_method());
        if (is->probe)
            SSL_CTX_set_security_level(is->probe, 2);
    }
    int e = -ERR_NOMEM;
    ERR_clear_error();
    if (der && ret->chain && is->probe)
        e = load_chain(cert, is, der, ret, ret_why);
    if (e == 0)
        e = load_key(key.n ? key : cert, ret, ret_why);
    if (e == 0) {
        ERR_clear_error();
        if (!SSL_CTX_use_cert_and_key(is->probe, ret->cert, ret->key, ret->chain, 1)) {
            *ret_why = load_refusal(ERR_get_error());
            e = -ERR_INVAL;
        }
    }
    ERR_clear_error();
    free(der);
    if (e < 0)
        tls_cert_unload(ret);
    return e;
}

const char *tls_cert_no_block(struct slice file, bool has_key)
{
    return has_key
               ? "there is a private key but no certificate in it: the certificate is the first "
                 "file, the key the second"
           : load_is_der(file) ? "it is DER, not PEM (openssl x509 -inform DER converts it)"
                               : "there is no certificate (PEM) in the file";
}

/* Certificates that are sold or given away say where their issuer's can be got (RFC 5280 section
 * 4.2.2.1); those of a company's own authority, whose root clients know, mostly do not. */
static bool remark_names_issuer(const X509 *x)
{
    AUTHORITY_INFO_ACCESS *a = X509_get_ext_d2i(x, NID_info_access, NULL, NULL);
    bool found = false;
    for (int i = 0; i < sk_ACCESS_DESCRIPTION_num(a) && !found; i++)
        found = OBJ_obj2nid(sk_ACCESS_DESCRIPTION_value(a, i)->method) == NID_ad_ca_issuers;
    AUTHORITY_INFO_ACCESS_free(a);
    return found;
}

const char *tls_cert_remark(const struct tls_pair *p)
{
    const X509 *x = p->cert;
    const int n = sk_X509_num(p->chain);
    for (int i = 0; i < n; i++) {
        const X509 *next = sk_X509_value(p->chain, i);
        if (X509_NAME_cmp(X509_get_issuer_name(x), X509_get_subject_name(next)) != 0)
            return "has a chain that is not in order: behind each certificate stands its issuer's";
        x = next;
    }
    return n <= 0 && remark_names_issuer(x) ? "has no chain: most clients want its issuer's "
                                              "certificate behind it (fullchain.pem)"
           : X509_get_ext_by_NID(p->cert, NID_subject_alt_name, -1) < 0
               ? "has no subjectAltName: browsers refuse it"
               : NULL;
}

/* ---- OCSP (RFC 6960) ---- */

static bool staple_is_about(OCSP_SINGLERESP *one, const X509 *cert)
{
    ASN1_OCTET_STRING *hash = NULL;
    ASN1_OBJECT *with = NULL;
    ASN1_INTEGER *serial = NULL;
    OCSP_CERTID *id = (OCSP_CERTID *)(uintptr_t)OCSP_SINGLERESP_get0_id(one);
    uint8_t own[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    if (!id || !OCSP_id_get0_info(&hash, &with, NULL, &serial, id) ||
        ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(cert)) != 0)
        return false;
    const EVP_MD *md = EVP_get_digestbyobj(with);
    return md && X509_NAME_digest(X509_get_issuer_name(cert), md, own, &n) &&
           ASN1_STRING_length(hash) == (int)n && memcmp(ASN1_STRING_get0_data(hash), own, n) == 0;
}

static int64_t staple_time(const ASN1_GENERALIZEDTIME *t)
{
    struct tm tm;
    return t && ASN1_TIME_to_tm(t, &tm) ? (int64_t)timegm(&tm) : 0;
}

static int staple_check_one(struct tls_staple *st, OCSP_SINGLERESP *one, const char **ret_why)
{
    ASN1_GENERALIZEDTIME *this = NULL, *next = NULL;
    int64_t now = (int64_t)time(NULL);
    int status = OCSP_single_get0_status(one, NULL, NULL, &this, &next);
    st->until_s = staple_time(next);
    *ret_why = status == V_OCSP_CERTSTATUS_REVOKED ? "it says that the certificate is revoked"
               : status != V_OCSP_CERTSTATUS_GOOD  ? "it does not know the certificate"
               : st->until_s && st->until_s <= now ? "it has expired"
               : staple_time(this) > now + 300     ? "it is not in force yet"
                                                   : NULL;
    return !*ret_why ? 0 : st->until_s && st->until_s <= now ? -ERR_RANGE : -ERR_INVAL;
}

int tls_cert_staple_check(struct tls_staple *st, const X509 *cert, const char **ret_why)
{
    const uint8_t *p = st->der;
    int e = -ERR_INVAL;
    ERR_clear_error();
    OCSP_RESPONSE *r = st->n ? d2i_OCSP_RESPONSE(NULL, &p, (long)st->n) : NULL;
    OCSP_BASICRESP *basic = r ? OCSP_response_get1_basic(r) : NULL;
    if (!r || p != st->der + st->n) {
        *ret_why = "it is no OCSP response (DER)";
    } else if (OCSP_response_status(r) != OCSP_RESPONSE_STATUS_SUCCESSFUL || !basic) {
        *ret_why = "it is an OCSP error";
    } else {
        *ret_why = "it is not about the certificate";
        e = -ERR_NOENT;
        for (int i = 0; i < OCSP_resp_count(basic) && e == -ERR_NOENT; i++) {
            OCSP_SINGLERESP *one = OCSP_resp_get0(basic, i);
            if (staple_is_about(one, cert))
                e = staple_check_one(st, one, ret_why);
        }
    }
    OCSP_BASICRESP_free(basic);
    OCSP_RESPONSE_free(r);
    ERR_clear_error();
    return e;
}
