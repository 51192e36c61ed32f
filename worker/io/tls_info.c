/* Who is at the other end: certificates of clients are asked for and checked here, and what is
 * known of a connection is described. */
#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "worker/io/tls_in.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#define INFO_NAME_MAX 2048 /* of a subject or issuer; a longer one is shown as empty */
#define INFO_DEPTH    10   /* certificates of a chain */

/* ---- asking ---- */

/* client_verify = optional: a certificate that fails lets the handshake pass, and its result is
 * kept for those who decide by host and route. */
static int info_pass(int ok, X509_STORE_CTX *x)
{
    (void)ok, (void)x;
    return 1;
}

/* The names sent to clients, so that they can choose among their certificates. */
static STACK_OF(X509_NAME) * info_names(X509_STORE *store)
{
    STACK_OF(X509_NAME) *names = sk_X509_NAME_new_null();
    STACK_OF(X509_OBJECT) *o = X509_STORE_get0_objects(store);
    for (int i = 0; names && i < sk_X509_OBJECT_num(o); i++) {
        const X509 *x = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(o, i));
        X509_NAME *n = x ? X509_NAME_dup(X509_get_subject_name(x)) : NULL;
        if (!x)
            continue;
        if (!n || !sk_X509_NAME_push(names, n)) {
            X509_NAME_free(n);
            sk_X509_NAME_pop_free(names, X509_NAME_free);
            return NULL;
        }
    }
    return names;
}

int tls_info_ask(struct tls_server *s, const char **ret_why)
{
    const struct conf_listen *l = s->listen;
    bool required = l->k.client_verify == CONF_VERIFY_REQUIRED;
    X509_STORE *store = tls_store(s->t, l->k.client_ca, ret_why);
    X509_STORE *none = store ? NULL : X509_STORE_new(); /* with it nobody is verified */
    STACK_OF(X509_NAME) *names = store ? info_names(store) : NULL;
    int e = store ? 0 : -ERR_INVAL;
    if ((store && !names) || (!store && !none) ||
        !SSL_CTX_set1_verify_cert_store(s->ctx, store ? store : none))
        e = -ERR_NOMEM;
    X509_STORE_free(none);
    if (e == -ERR_NOMEM) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return e;
    }
    if (names)
        SSL_CTX_set_client_CA_list(s->ctx, names);
    SSL_CTX_set_verify(s->ctx, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                       required ? NULL : info_pass);
    SSL_CTX_set_verify_depth(s->ctx, INFO_DEPTH);
    return e;
}

static bool info_verified(const struct tls_conn *c)
{
    return c->server && c->state == TLS_OPEN && !c->expired && c->server->listen->k.client_ca.n &&
           SSL_get0_peer_certificate(c->ssl) && SSL_get_verify_result(c->ssl) == X509_V_OK;
}

int tls_info_recheck(struct tls_conn *c)
{
    const struct conf_listen *l = c->server->listen;
    const X509 *x = SSL_get0_peer_certificate(c->ssl);
    if (!l->k.client_ca.n)
        return 0;
    c->expired = x && X509_cmp_current_time(X509_get0_notAfter(x)) <= 0;
    if (l->k.client_verify == CONF_VERIFY_OPTIONAL ||
        (x && !c->expired && SSL_get_verify_result(c->ssl) == X509_V_OK))
        return 0;
    c->why = "the client's certificate has expired";
    return -ERR_TLS_HANDSHAKE;
}

bool tls_client_verified(const struct link *k)
{
    return k->tls && info_verified(k->tls);
}

/* ---- describing ---- */

struct tls_text {
    struct slice verify, subject, issuer, serial, fingerprint;
    char b[];
};

static void text_name(struct buf *b, const X509_NAME *name)
{
    char *p;
    BIO *m = BIO_new(BIO_s_mem());
    /* Control characters and all beyond ASCII come out escaped: fit for a field value. */
    if (m && X509_NAME_print_ex(m, name, 0, XN_FLAG_RFC2253) >= 0) {
        long n = BIO_get_mem_data(m, &p);
        if (n > 0 && n <= INFO_NAME_MAX)
            buf_add(b, slice_of(p, (size_t)n));
    }
    BIO_free(m);
}

static void text_hex(struct buf *b, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_printf(b, "%02x", p[i]);
}

static void text_serial(struct buf *b, const X509 *x)
{
    const ASN1_INTEGER *s = X509_get0_serialNumber(x);
    if (ASN1_STRING_length(s) > 64) /* RFC 5280 4.1.2.2: 20 bytes */
        return;
    if (ASN1_STRING_type(s) == V_ASN1_NEG_INTEGER)
        buf_chr(b, '-');
    text_hex(b, ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s));
}

static void text_verify(struct buf *b, const struct tls_conn *c)
{
    long v = SSL_get_verify_result(c->ssl);
    if (v == X509_V_OK && c->expired)
        v = X509_V_ERR_CERT_HAS_EXPIRED;
    if (v == X509_V_OK)
        buf_str(b, "ok");
    else
        buf_printf(b, "failed:%s", X509_verify_cert_error_string(v));
}

/* Made when first asked for, because few do. */
static struct tls_text *text_new(const struct tls_conn *c, const X509 *x)
{
    struct buf b;
    uint8_t sum[32];
    size_t end[5];
    struct tls_text *t = NULL;
    buf_init(&b, 0);
    text_verify(&b, c);
    end[0] = b.n;
    text_name(&b, X509_get_subject_name(x));
    end[1] = b.n;
    text_name(&b, X509_get_issuer_name(x));
    end[2] = b.n;
    text_serial(&b, x);
    end[3] = b.n;
    if (X509_digest(x, EVP_sha256(), sum, NULL))
        text_hex(&b, sum, sizeof sum);
    end[4] = b.n;
    if (!b.failed && !alloc_should_fail())
        t = malloc(sizeof *t + b.n);
    if (t) {
        struct slice *to[5] = {&t->verify, &t->subject, &t->issuer, &t->serial, &t->fingerprint};
        memcpy(t->b, b.p, b.n);
        for (size_t i = 0, at = 0; i < 5; at = end[i++])
            *to[i] = slice_of(t->b + at, end[i] - at);
    }
    buf_fini(&b);
    ERR_clear_error();
    return t;
}

bool tls_describe(const struct link *k, struct tls_info *ret)
{
    struct tls_conn *c = k->tls;
    *ret = (struct tls_info){.verify = SLICE("none")};
    if (!c || c->state == TLS_HANDSHAKE)
        return false;
    const unsigned char *alpn;
    unsigned n;
    if (SSL_get_verify_mode(c->ssl) == SSL_VERIFY_NONE)
        ret->verify = SLICE_NONE; /* nobody was asked for one */
    ret->version = slice_str(SSL_get_version(c->ssl));
    ret->cipher = slice_str(SSL_get_cipher_name(c->ssl));
    ret->sni = slice_str(c->sni);
    SSL_get0_alpn_selected(c->ssl, &alpn, &n);
    ret->alpn = slice_of((const char *)alpn, n);
    ret->resumed = SSL_session_reused(c->ssl);
    const X509 *x = c->server ? SSL_get0_peer_certificate(c->ssl) : NULL;
    if (!x)
        return true;
    if (!c->text)
        c->text = text_new(c, x);
    if (!c->text) /* no memory: as if there was none, which opens no door */
        return true;
    ret->verify = c->text->verify;
    ret->subject = c->text->subject;
    ret->issuer = c->text->issuer;
    ret->serial = c->text->serial;
    ret->fingerprint = c->text->fingerprint;
    return true;
}

struct slice tls_client_der(const struct link *k, struct arena *a)
{
    const struct tls_conn *c = k->tls;
    X509 *x = c && c->server ? SSL_get0_peer_certificate(c->ssl) : NULL;
    unsigned char *der = NULL;
    struct slice ret = SLICE_NONE;
    int n = x ? i2d_X509(x, &der) : 0;
    if (n <= 0)
        return ret;
    char *p = arena_bytes(a, ((size_t)n + 2) / 3 * 4 + 1);
    if (p)
        ret = slice_of(p, (size_t)EVP_EncodeBlock((unsigned char *)p, der, n));
    OPENSSL_free(der);
    return ret;
}
