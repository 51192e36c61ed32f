/* Resumption: session tickets under keys that all processes share, and sessions by id in the shared
 * cache; see shm/ticket.h and shm/session.h. */
#include "base/arena.h"
#include "base/clock.h"
#include "base/err.h"
#include "shm/session.h"
#include "shm/ticket.h"
#include "worker/io/tls_in.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <stdlib.h>

/* Within the life of ticket keys; what depends on a client's certificate is looked at again
 * sooner. */
#define SESSION_LIFE_S      43200
#define SESSION_LIFE_CERT_S 3600

struct tls_tickets {
    EVP_CIPHER *cipher;
    struct ticket_ring ring;
    uint32_t seq;
    slot_oid me;
};

/* The keys as they are now. Until the master has made the first ones, a key of our own serves:
 * tickets then are good for this process. */
static const struct ticket_ring *tickets_now(struct tls *t)
{
    struct tls_tickets *k = t->tickets;
    if (t->env.segment && ticket_get(t->env.segment, &k->seq, &k->ring))
        return &k->ring;
    if (!k->ring.n) {
        struct ticket_key *own = &k->ring.key[0];
        if (RAND_bytes(own->name, sizeof own->name) != 1 ||
            RAND_bytes(own->aes, sizeof own->aes) != 1 ||
            RAND_bytes(own->hmac, sizeof own->hmac) != 1)
            return &k->ring;
        k->ring.n = 1;
    }
    return &k->ring;
}

static bool tickets_mac(EVP_MAC_CTX *mac, const struct ticket_key *key)
{
    char digest[] = "SHA256";
    uint8_t secret[sizeof key->hmac];
    memcpy(secret, key->hmac, sizeof secret);
    OSSL_PARAM p[] = {OSSL_PARAM_octet_string(OSSL_MAC_PARAM_KEY, secret, sizeof secret),
                      OSSL_PARAM_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_END};
    bool ok = EVP_MAC_CTX_set_params(mac, p);
    OPENSSL_cleanse(secret, sizeof secret);
    return ok;
}

/* RFC 5077 section 4: AES-256-CBC and HMAC-SHA-256. Says 0 no ticket, 1 done, 2 done, and the
 * client gets a new one, -1 failure. */
static int tickets_key(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *c,
                       EVP_MAC_CTX *mac, int enc)
{
    struct tls *t = tls_conn_of(ssl)->t;
    const struct ticket_ring *r = tickets_now(t);
    const EVP_CIPHER *cipher = t->tickets->cipher;
    if (!r->n)
        return enc ? -1 : 0;
    if (enc) {
        const struct ticket_key *key = &r->key[0];
        memcpy(name, key->name, sizeof key->name);
        return RAND_bytes(iv, EVP_CIPHER_get_iv_length(cipher)) == 1 &&
                       EVP_EncryptInit_ex(c, cipher, NULL, key->aes, iv) && tickets_mac(mac, key)
                   ? 1
                   : -1;
    }
    for (uint32_t i = 0; i < r->n && i < TICKET_KEYS; i++) {
        const struct ticket_key *key = &r->key[i];
        if (memcmp(name, key->name, sizeof key->name) != 0)
            continue;
        if (!tickets_mac(mac, key) || !EVP_DecryptInit_ex(c, cipher, NULL, key->aes, iv))
            return -1;
        /* Clients use a ticket of TLS 1.3 once (RFC 8446 C.4). */
        return i || SSL_version(ssl) >= TLS1_3_VERSION ? 2 : 1;
    }
    return 0;
}

/* Is a session for the name that the client asks for now? OpenSSL keeps the name as it was sent. */
static bool session_fits(const SSL *ssl, const SSL_SESSION *s)
{
    struct slice now = slice_str(tls_conn_of(ssl)->sni);
    struct slice then = slice_str(SSL_SESSION_get0_hostname(s));
    if (then.n && then.p[then.n - 1] == '.')
        then.n--;
    return slice_eq_ci(now, then);
}

static SSL_TICKET_RETURN tickets_use(SSL *ssl, SSL_SESSION *s, const unsigned char *key, size_t n,
                                     SSL_TICKET_STATUS status, void *arg)
{
    (void)key, (void)n, (void)arg;
    if (status != SSL_TICKET_SUCCESS && status != SSL_TICKET_SUCCESS_RENEW)
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    if (!session_fits(ssl, s))
        return SSL_TICKET_RETURN_IGNORE_RENEW;
    return status == SSL_TICKET_SUCCESS ? SSL_TICKET_RETURN_USE : SSL_TICKET_RETURN_USE_RENEW;
}

/* ---- sessions by id ---- */

static bool sessions_by_id(const SSL *ssl)
{
    /* OpenSSL reports sessions that travel in tickets as well. */
    return SSL_version(ssl) < TLS1_3_VERSION || (SSL_get_options(ssl) & SSL_OP_NO_TICKET);
}

static int session_new(SSL *ssl, SSL_SESSION *s)
{
    struct tls *t = tls_conn_of(ssl)->t;
    uint8_t b[SESSION_MAX], *p = b;
    unsigned nid;
    const uint8_t *id = SSL_SESSION_get_id(s, &nid);
    int n = sessions_by_id(ssl) && nid ? i2d_SSL_SESSION(s, NULL) : 0;
    if (n <= 0 || (size_t)n > sizeof b)
        return 0; /* one with a client's certificate is too large: a full handshake next time */
    i2d_SSL_SESSION(s, &p);
    session_put(t->env.segment, t->tickets->me, id, nid, b, (size_t)n,
                clock_ms() + (uint64_t)SSL_SESSION_get_timeout(s) * 1000);
    OPENSSL_cleanse(b, (size_t)n);
    return 0; /* no reference is kept */
}

static SSL_SESSION *session_find(SSL *ssl, const unsigned char *id, int nid, int *ret_copy)
{
    struct tls *t = tls_conn_of(ssl)->t;
    uint8_t b[SESSION_MAX];
    const uint8_t *p = b;
    *ret_copy = 0; /* the caller owns what is returned */
    if (nid <= 0 || nid > (int)SESSION_ID_MAX)
        return NULL;
    ssize_t n = session_get(t->env.segment, id, (size_t)nid, clock_ms(), b, sizeof b);
    if (n <= 0)
        return NULL;
    SSL_SESSION *s = d2i_SSL_SESSION(NULL, &p, (long)n);
    OPENSSL_cleanse(b, (size_t)n);
    if (s && !session_fits(ssl, s)) {
        SSL_SESSION_free(s);
        return NULL;
    }
    return s;
}

static void session_drop(SSL_CTX *ctx, SSL_SESSION *s)
{
    const struct tls_server *server = SSL_CTX_get_app_data(ctx);
    unsigned nid;
    const uint8_t *id = SSL_SESSION_get_id(s, &nid);
    if (nid && nid <= SESSION_ID_MAX)
        session_remove(server->t->env.segment, server->t->tickets->me, id, nid);
}

/* ---- contexts ---- */

/* A session is good for every worker, now and after a reload, as long as the listener has the same
 * name and asks for certificates of the same authorities in the same way. The sum over the
 * authorities does not depend on their order. */
static bool tickets_context_id(const struct tls_server *s, uint8_t ret[32])
{
    const struct conf_listen *l = s->listen;
    uint8_t sum[32] = {0};
    X509_STORE *store = NULL;
    const char *why;
    if (l->k.client_ca.n)
        store = tls_store(s->t, l->k.client_ca, &why);
    STACK_OF(X509_OBJECT) *o = store ? X509_STORE_get0_objects(store) : NULL;
    for (int i = 0; o && i < sk_X509_OBJECT_num(o); i++) {
        const X509 *x = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(o, i));
        uint8_t one[32];
        if (!x)
            continue;
        if (!X509_digest(x, EVP_sha256(), one, NULL))
            return false;
        for (size_t j = 0; j < sizeof sum; j++)
            sum[j] ^= one[j];
    }
    uint8_t mode[2] = {l->k.client_ca.n != 0, (uint8_t)l->k.client_verify};
    EVP_MD_CTX *m = EVP_MD_CTX_new();
    bool ok = m && EVP_DigestInit_ex(m, EVP_sha256(), NULL) && EVP_DigestUpdate(m, "rpd 1", 6) &&
              EVP_DigestUpdate(m, mode, sizeof mode) && EVP_DigestUpdate(m, sum, sizeof sum) &&
              EVP_DigestUpdate(m, l->name.p, l->name.n) && EVP_DigestFinal_ex(m, ret, NULL);
    EVP_MD_CTX_free(m);
    return ok;
}

int tls_tickets_set(struct tls_server *s)
{
    const struct conf_listen *l = s->listen;
    SSL_CTX *ctx = s->ctx;
    uint8_t id[32];
    bool by_id = l->k.session_cache && s->t->env.segment;
    if (!tickets_context_id(s, id) || !SSL_CTX_set_session_id_context(ctx, id, sizeof id) ||
        !SSL_CTX_set_app_data(ctx, s))
        return -ERR_NOMEM;
    SSL_CTX_set_timeout(ctx, l->k.client_ca.n ? SESSION_LIFE_CERT_S : SESSION_LIFE_S);
    SSL_CTX_set_num_tickets(ctx, l->k.session_tickets || by_id ? 1 : 0);
    if (!SSL_CTX_set_session_ticket_cb(ctx, NULL, tickets_use, NULL))
        return -ERR_NOMEM;
    if (l->k.session_tickets)
        SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, tickets_key);
    else
        SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
    SSL_CTX_set_session_cache_mode(ctx, by_id ? SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_INTERNAL
                                              : SSL_SESS_CACHE_OFF);
    if (by_id) {
        SSL_CTX_sess_set_new_cb(ctx, session_new);
        SSL_CTX_sess_set_get_cb(ctx, session_find);
        SSL_CTX_sess_set_remove_cb(ctx, session_drop);
    }
    return 0;
}

int tls_tickets_new(struct tls *t)
{
    t->tickets = alloc_should_fail() ? NULL : calloc(1, sizeof *t->tickets);
    if (!t->tickets)
        return -ERR_NOMEM;
    if (t->env.segment)
        t->tickets->me = slot_owner_id(t->env.segment, t->env.slot);
    t->tickets->cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
    return t->tickets->cipher ? 0 : -ERR_NOMEM;
}

void tls_tickets_free(struct tls *t)
{
    if (!t->tickets)
        return;
    EVP_CIPHER_free(t->tickets->cipher);
    OPENSSL_cleanse(t->tickets, sizeof *t->tickets);
    free(t->tickets);
    t->tickets = NULL;
}
