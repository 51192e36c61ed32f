/* TLS towards servers: contexts, the check of names and certificates, sessions used again. */
#include "base/addr.h"
#include "base/arena.h"
#include "base/err.h"
#include "worker/io/tls_in.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

/* Servers that agree in everything that a context holds share one. */
struct tls_contexts {
    size_t n, cap;
    struct shared {
        struct slice ca, cert, key;
        bool verify;
        SSL_CTX *ctx;
    } v[];
};

static struct slice client_key(const struct conf_upstream *u)
{
    return u->k.tls_key.n ? u->k.tls_key : u->k.tls_certificate;
}

static SSL_CTX *shared_find(const struct tls_contexts *l, const struct tls_client *c)
{
    for (size_t i = 0; l && i < l->n; i++) {
        const struct shared *s = &l->v[i];
        if (s->verify == c->upstream->k.tls_verify && slice_eq(s->ca, c->server->tls_ca) &&
            slice_eq(s->cert, c->upstream->k.tls_certificate) &&
            slice_eq(s->key, client_key(c->upstream)))
            return s->ctx;
    }
    return NULL;
}

/* Takes over the caller's reference, also when it fails. */
static int shared_add(struct tls *t, const struct tls_client *c, SSL_CTX *ctx)
{
    struct tls_contexts *l = t->contexts;
    if (!l || l->n == l->cap) {
        size_t cap = l ? l->cap * 2 : 8;
        l = alloc_should_fail() ? NULL
                                : realloc(t->contexts, sizeof *l + cap * sizeof(struct shared));
        if (!l) {
            SSL_CTX_free(ctx);
            return -ERR_NOMEM;
        }
        if (!t->contexts)
            l->n = 0;
        l->cap = cap;
        t->contexts = l;
    }
    l->v[l->n++] = (struct shared){.ca = c->server->tls_ca,
                                   .cert = c->upstream->k.tls_certificate,
                                   .key = client_key(c->upstream),
                                   .verify = c->upstream->k.tls_verify,
                                   .ctx = ctx};
    return 0;
}

/* The newest session of a server is kept; the reference becomes ours. */
static int client_session(SSL *ssl, SSL_SESSION *s)
{
    struct tls_client *c = tls_conn_of(ssl)->client;
    SSL_SESSION_free(c->session);
    c->session = s;
    return 1;
}

/* In TLS 1.2 a ticket that a resumed session got is not reported; in 1.3 tickets come later. */
void tls_client_established(struct tls_conn *c)
{
    SSL_SESSION *s = SSL_get0_session(c->ssl);
    if (SSL_version(c->ssl) < TLS1_3_VERSION && s != c->client->session &&
        SSL_session_reused(c->ssl) && SSL_SESSION_is_resumable(s) && SSL_SESSION_up_ref(s))
        client_session(c->ssl, s);
}

/* Keys with a pass phrase are not for us: nobody is there to type it. */
static int client_no_password(char *p, int n, int writing, void *arg)
{
    (void)p, (void)n, (void)writing, (void)arg;
    return -1;
}

static int client_problem(const struct tls_client *c, const char *key, struct slice file,
                          const char *why, bool strict, struct conf_diags *d)
{
    const struct conf_upstream *u = c->upstream;
    struct conf_pos at = tls_pos(u->origin, c->server->pos, key);
    conf_diag_add(d, strict ? CONF_ERROR : CONF_WARNING, at, NULL,
                  "upstream " SLICE_FMT ": cannot use %s " SLICE_FMT ": %s", SLICE_ARG(u->name),
                  key, SLICE_ARG(file), why);
    return strict ? -ERR_INVAL : 0;
}

static int client_authorities(struct tls *t, SSL_CTX *ctx, const struct tls_client *c, bool strict,
                              struct conf_diags *d)
{
    const char *why;
    if (!c->upstream->k.tls_verify) {
        SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
        return 0;
    }
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    X509_STORE *store = tls_store(t, c->server->tls_ca, &why);
    if (store)
        return SSL_CTX_set1_verify_cert_store(ctx, store) ? 0 : -ERR_NOMEM;
    /* Not strict: an empty store stays, and no server can be verified. */
    return client_problem(c, "tls_ca", c->server->tls_ca, why, strict, d);
}

static int client_identity(SSL_CTX *ctx, const struct tls_client *c, bool strict,
                           struct conf_diags *d)
{
    struct slice cert = c->upstream->k.tls_certificate, key = client_key(c->upstream);
    if (!cert.n)
        return 0;
    SSL_CTX_set_default_passwd_cb(ctx, client_no_password);
    if (SSL_CTX_use_certificate_chain_file(ctx, cert.p) != 1)
        return client_problem(c, "tls_certificate", cert, tls_reason(), strict, d);
    if (SSL_CTX_use_PrivateKey_file(ctx, key.p, SSL_FILETYPE_PEM) != 1 ||
        !SSL_CTX_check_private_key(ctx))
        return client_problem(c, c->upstream->k.tls_key.n ? "tls_key" : "tls_certificate", key,
                              tls_reason(), strict, d);
    return 0;
}

static int client_context(struct tls *t, struct tls_client *c, bool strict, struct conf_diags *d)
{
    c->ctx = shared_find(t->contexts, c);
    if (c->ctx)
        return 0;
    SSL_CTX *ctx = tls_context(t, TLS_client_method());
    if (!ctx)
        return -ERR_NOMEM;
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, client_session);
    int e = client_authorities(t, ctx, c, strict, d);
    int f = e == -ERR_NOMEM ? e : client_identity(ctx, c, strict, d);
    ERR_clear_error();
    if (shared_add(t, c, ctx) < 0)
        return -ERR_NOMEM;
    c->ctx = ctx;
    return e < 0 ? e : f;
}

static int client_new(struct tls *t, struct tls_client *c, bool strict, struct conf_diags *d)
{
    union addr ip;
    c->name = c->server->tls_name.p;
    c->literal = addr_parse_ip(c->server->tls_name, &ip) == 0;
    int e = 0;
    if (!c->server->tls_name.n && c->upstream->k.tls_verify) {
        conf_diag_add(d, CONF_ERROR, c->server->pos, NULL,
                      "server " SLICE_FMT " has no name that its certificate could be checked "
                      "for: give it tls_name=NAME",
                      SLICE_ARG(c->server->name));
        e = -ERR_INVAL;
    }
    int f = client_context(t, c, strict, d);
    return f < 0 ? f : e;
}

int tls_clients_new(struct tls *t, bool strict, struct conf_diags *d)
{
    const struct config *conf = t->env.config;
    int ret = 0;
    t->client = alloc_should_fail() ? NULL : calloc(conf->nupstream + 1, sizeof *t->client);
    if (!t->client)
        return -ERR_NOMEM;
    for (size_t i = 0; i < conf->nupstream; i++) {
        const struct conf_upstream *u = conf->upstream[i];
        for (size_t j = 0; j < u->k.server.n; j++) {
            if (!u->k.server.v[j].tls)
                continue;
            if (!t->client[i] && !alloc_should_fail())
                t->client[i] = calloc(u->k.server.n, sizeof *t->client[i]);
            if (!t->client[i])
                return -ERR_NOMEM;
            struct tls_client *c = &t->client[i][j];
            *c = (struct tls_client){.t = t, .upstream = u, .server = &u->k.server.v[j]};
            int e = client_new(t, c, strict, d);
            if (e == -ERR_NOMEM)
                return e;
            ret = e < 0 ? e : ret;
        }
    }
    return ret;
}

void tls_clients_free(struct tls *t)
{
    const struct config *conf = t->env.config;
    for (size_t i = 0; t->client && i < conf->nupstream; i++) {
        for (size_t j = 0; t->client[i] && j < conf->upstream[i]->k.server.n; j++)
            SSL_SESSION_free(t->client[i][j].session);
        free(t->client[i]);
    }
    free(t->client);
    for (size_t i = 0; t->contexts && i < t->contexts->n; i++)
        SSL_CTX_free(t->contexts->v[i].ctx);
    free(t->contexts);
    t->client = NULL;
    t->contexts = NULL;
}

struct tls_client *tls_client_of(struct tls *t, uint32_t upstream_id, size_t nth)
{
    struct tls_client *c = t->client[upstream_id];
    return c && c[nth].ctx ? &c[nth] : NULL;
}

/* What the connection is to check and to say (RFC 9110 4.3.4, RFC 6066 3: no SNI for addresses). */
static bool client_prepare(SSL *ssl, const struct tls_client *c, bool h2, bool h1)
{
    static const unsigned char alpn[] = "\x02h2\x08http/1.1";
    const unsigned char *p = h2 ? alpn : alpn + 3;
    unsigned n = (h2 ? 3u : 0) + (h1 ? 9u : 0);
    X509_VERIFY_PARAM *v = SSL_get0_param(ssl);
    if (c->upstream->k.tls_verify) {
        X509_VERIFY_PARAM_set_hostflags(v, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        if (!(c->literal ? X509_VERIFY_PARAM_set1_ip_asc(v, c->name)
                         : X509_VERIFY_PARAM_set1_host(v, c->name, 0)))
            return false;
    }
    char *name; /* OpenSSL copies it */
    memcpy(&name, &c->name, sizeof name);
    if (name && *name && !c->literal && !SSL_set_tlsext_host_name(ssl, name))
        return false;
    if (c->session && !SSL_set_session(ssl, c->session))
        ERR_clear_error(); /* of another version: a full handshake does as well */
    return SSL_set_alpn_protos(ssl, p, n) == 0;
}

int tls_connect(struct tls_client *cl, struct link *k, bool h2, bool h1)
{
    struct tls_conn *c;
    int e = tls_conn_new(cl->t, cl->ctx, k, false, &c);
    if (e < 0)
        return e;
    c->client = cl;
    SSL_set_connect_state(c->ssl);
    if (client_prepare(c->ssl, cl, h2, h1))
        return 0;
    ERR_clear_error();
    tls_take_back(k, NULL, 0);
    return -ERR_NOMEM;
}

int tls_client_failed(struct tls_conn *c)
{
    long v = SSL_get_verify_result(c->ssl);
    if (!c->client->upstream->k.tls_verify || v == X509_V_OK)
        return -ERR_UP_TLS;
    const bool name = v == X509_V_ERR_HOSTNAME_MISMATCH || v == X509_V_ERR_IP_ADDRESS_MISMATCH;
    const bool authority = v == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
                           v == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT ||
                           v == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN ||
                           v == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT;
    char text[256];
    snprintf(text, sizeof text, "%s%s", X509_verify_cert_error_string(v),
             name        ? " (tls_name says which name to look for)"
             : authority ? " (tls_ca names the file of its authority)"
                         : "");
    tls_error_set(text);
    return -ERR_UP_CERT;
}
