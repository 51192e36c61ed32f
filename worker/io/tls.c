/* TLS of a process: contexts towards clients, authorities, the key log, reasons of failures; see
 * tls.h. */
#include "worker/io/tls.h"

#include "base/arena.h"
#include "base/err.h"
#include "base/log.h"
#include "config/load.h"
#include "worker/io/tls_in.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- reasons ---- */

static char last_error[256];

const char *tls_last_error(void)
{
    return last_error;
}

void tls_error_set(const char *text)
{
    snprintf(last_error, sizeof last_error, "%s", text);
}

/* What OpenSSL's words mean to somebody who wonders about his configuration. */
static const char *queue_hint(unsigned long e)
{
    if (ERR_GET_LIB(e) != ERR_LIB_SSL)
        return "";
    switch (ERR_GET_REASON(e)) {
    case SSL_R_WRONG_VERSION_NUMBER:
        return " (the peer seems to speak no TLS)";
    case SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL:
        return " (the peer does not speak the version of HTTP that was asked for)";
    default:
        return "";
    }
}

/* The first error is the cause, what follows it are the callers' complaints. */
static const char *queue_text(const char *otherwise, char *p, size_t cap)
{
    unsigned long e = ERR_get_error();
    const char *s = e ? ERR_reason_error_string(e) : NULL;
    if (s)
        snprintf(p, cap, "%s%s", s, queue_hint(e));
    else if (e && ERR_SYSTEM_ERROR(e))
        snprintf(p, cap, "%s", strerror((int)ERR_GET_REASON(e)));
    else if (e)
        snprintf(p, cap, "OpenSSL error %lx", e);
    else
        snprintf(p, cap, "%s", otherwise);
    ERR_clear_error();
    return p;
}

void tls_error_queue(const char *otherwise)
{
    queue_text(otherwise, last_error, sizeof last_error);
}

const char *tls_reason(void)
{
    static char text[256];
    return queue_text("unknown error", text, sizeof text);
}

const char *tls_library(void)
{
    static char text[64];
    snprintf(text, sizeof text, "OpenSSL %s", OpenSSL_version(OPENSSL_VERSION_STRING));
    return text;
}

struct conf_pos tls_pos(const struct conf_origin *o, struct conf_pos section, const char *key)
{
    for (; o; o = o->next) {
        if (strcmp(o->key->name, key) == 0)
            return o->pos;
    }
    return section;
}

/* ---- authorities ---- */

struct tls_stores {
    size_t n, cap;
    struct one_store {
        struct slice file;
        X509_STORE *store; /* NULL: could not be loaded */
        char why[128];
    } v[];
};

static struct one_store *stores_add(struct tls *t)
{
    struct tls_stores *l = t->stores;
    if (!l || l->n == l->cap) {
        size_t cap = l ? l->cap * 2 : 8;
        l = alloc_should_fail() ? NULL
                                : realloc(t->stores, sizeof *l + cap * sizeof(struct one_store));
        if (!l)
            return NULL;
        if (!t->stores)
            l->n = 0;
        l->cap = cap;
        t->stores = l;
    }
    struct one_store *s = &l->v[l->n++];
    *s = (struct one_store){0};
    return s;
}

X509_STORE *tls_store(struct tls *t, struct slice file, const char **ret_why)
{
    *ret_why = "out of memory";
    for (size_t i = 0; t->stores && i < t->stores->n; i++) {
        if (slice_eq(t->stores->v[i].file, file)) {
            *ret_why = t->stores->v[i].why;
            return t->stores->v[i].store;
        }
    }
    struct one_store *s = stores_add(t);
    if (!s)
        return NULL;
    ERR_clear_error();
    s->file = file;
    s->store = X509_STORE_new();
    bool ok = s->store && (file.n ? X509_STORE_load_file(s->store, file.p)
                                  : X509_STORE_set_default_paths(s->store));
    if (ok && file.n) {
        STACK_OF(X509_OBJECT) *o = X509_STORE_get0_objects(s->store);
        ok = sk_X509_OBJECT_num(o) > 0;
        /* Whatever stands in the file is trusted, also an intermediate authority or the very
         * certificate of a server. */
        X509_STORE_set_flags(s->store, X509_V_FLAG_PARTIAL_CHAIN);
    }
    if (!ok) {
        snprintf(s->why, sizeof s->why, "%s",
                 ERR_peek_error() ? tls_reason() : "there is no certificate in it");
        X509_STORE_free(s->store);
        s->store = NULL;
    }
    ERR_clear_error(); /* a system without authorities is no error */
    *ret_why = s->why;
    return s->store;
}

static void stores_free(struct tls *t)
{
    for (size_t i = 0; t->stores && i < t->stores->n; i++)
        X509_STORE_free(t->stores->v[i].store);
    free(t->stores);
}

/* ---- the key log ---- */

static void keylog_line(const SSL *ssl, const char *line)
{
    const struct tls_conn *c = tls_conn_of(ssl);
    char nl[] = "\n";
    struct iovec v[2] = {{.iov_len = strlen(line)}, {nl, 1}};
    memcpy(&v[0].iov_base, &line, sizeof line); /* writev() does not write through it */
    if (writev(c->t->keylog, v, 2) < 0)
        return; /* a log for debugging: it may have a gap */
}

/* What was there before must be as private as what we would make: else it is not written to. */
static void keylog_private(struct tls *t)
{
    struct stat st;
    if (t->keylog < 0 || (fstat(t->keylog, &st) == 0 && S_ISREG(st.st_mode) &&
                          (st.st_uid == geteuid() || st.st_uid == 0) && !(st.st_mode & 077)))
        return;
    close(t->keylog);
    t->keylog = -1;
    errno = EACCES;
}

static int keylog_open(struct tls *t, bool strict, struct conf_diags *d)
{
    const struct config *conf = t->env.config;
    struct slice path = conf->global.tls_key_log;
    struct conf_pos at = tls_pos(conf->global_origin, (struct conf_pos){0}, "tls_key_log");
    if (!path.n)
        return 0;
    conf_diag_add(d, CONF_WARNING, at, NULL,
                  "tls_key_log: whoever reads " SLICE_FMT " can read all traffic", SLICE_ARG(path));
    if (t->env.loop) {
        LOG_WARN("tls_key_log", "the secrets of all TLS connections are written to " SLICE_FMT,
                 SLICE_ARG(path));
        t->keylog =
            open(path.p, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
        keylog_private(t);
    }
    if (!t->env.loop || t->keylog >= 0)
        return 0;
    conf_diag_add(d, strict ? CONF_ERROR : CONF_WARNING, at, NULL, "cannot use " SLICE_FMT ": %s%s",
                  SLICE_ARG(path), strerror(errno),
                  errno == EACCES ? " (it must be a file of our own that nobody else may read)"
                                  : "");
    return strict ? -ERR_INVAL : 0;
}

/* ---- contexts ---- */

/* Forward secrecy and AEAD only. AES-128 first: it is the fastest where there are instructions for
 * it; clients without them put ChaCha20 first, and get it (SSL_OP_PRIORITIZE_CHACHA). */
#define CIPHERS_12                                                                                 \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                                   \
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                                   \
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define CIPHERS_13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define GROUPS     "X25519:P-256:P-384"

SSL_CTX *tls_context(struct tls *t, const SSL_METHOD *method)
{
    char hybrid[] = "X25519MLKEM768:" GROUPS, groups[] = GROUPS;
    ERR_clear_error();
    SSL_CTX *ctx = SSL_CTX_new(method);
    if (!ctx)
        return NULL;
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_security_level(ctx, 2); /* 112 bits: no SHA-1 or MD5 signatures, RSA from 2048 */
    bool ok = SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) &&
              SSL_CTX_set_cipher_list(ctx, CIPHERS_12) &&
              SSL_CTX_set_ciphersuites(ctx, CIPHERS_13) &&
              (SSL_CTX_set1_groups_list(ctx, hybrid) || SSL_CTX_set1_groups_list(ctx, groups));
    if (ok && t->keylog >= 0)
        SSL_CTX_set_keylog_callback(ctx, keylog_line);
    ERR_clear_error();
    if (!ok) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

/* RFC 7301: h2 before http/1.1, whatever the client's order. */
static int server_alpn(SSL *ssl, const unsigned char **ret, unsigned char *ret_n,
                       const unsigned char *in, unsigned n, void *arg)
{
    static const unsigned char known[][9] = {"\x02h2", "\x08http/1.1"};
    static const uint32_t bit[] = {CONF_PROTO_H2, CONF_PROTO_H1};
    const struct tls_server *s = arg;
    for (int i = 0; i < 2; i++) {
        for (unsigned at = 0; at < n && in[at] < n - at; at += 1u + in[at]) {
            if ((s->listen->k.protocols & bit[i]) && in[at] == known[i][0] &&
                memcmp(in + at + 1, known[i] + 1, in[at]) == 0) {
                *ret = in + at + 1;
                *ret_n = in[at];
                return SSL_TLSEXT_ERR_OK;
            }
        }
    }
    tls_conn_of(ssl)->why = "no protocol in common (ALPN)";
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* RFC 6066 3: a list, of which there is one kind and one name. Empty when there is none, or when it
 * is malformed, which OpenSSL finds out for itself. */
static struct slice hello_name(SSL *ssl)
{
    const unsigned char *p;
    size_t n;
    if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_server_name, &p, &n) || n < 5 || p[2] != 0)
        return SLICE_NONE;
    size_t len = (size_t)p[3] << 8 | p[4];
    if (len > n - 5 || len > TLSEXT_MAXLEN_host_name || memchr(p + 5, 0, len))
        return SLICE_NONE;
    if (len && p[5 + len - 1] == '.')
        len--;
    return slice_of((const char *)p + 5, len);
}

/* Keeps the name the client asks for before anything depends on it: sessions are good for their
 * name only (RFC 6066 3). */
static int server_hello(SSL *ssl, int *ret_alert, void *arg)
{
    struct tls_conn *c = tls_conn_of(ssl);
    struct slice name = hello_name(ssl);
    (void)arg;
    free(c->sni);
    c->sni = NULL;
    if (!name.n)
        return SSL_CLIENT_HELLO_SUCCESS;
    c->sni = alloc_should_fail() ? NULL : malloc(name.n + 1);
    if (!c->sni) {
        c->why = "out of memory";
        *ret_alert = SSL_AD_INTERNAL_ERROR;
        return SSL_CLIENT_HELLO_ERROR;
    }
    for (size_t i = 0; i < name.n; i++) {
        char ch = name.p[i];
        c->sni[i] = ch >= 'A' && ch <= 'Z' ? (char)(ch | 0x20) : ch;
    }
    c->sni[name.n] = '\0';
    return SSL_CLIENT_HELLO_SUCCESS;
}

/* Refuses early when there is nothing to give. */
static int server_name(SSL *ssl, int *ret_alert, void *arg)
{
    const struct tls_server *s = arg;
    struct tls_conn *c = tls_conn_of(ssl);
    if (tls_certs_any(s->t, s->listen, slice_str(c->sni)))
        return SSL_TLSEXT_ERR_OK;
    c->why = c->sni ? "no certificate for the name asked for" : "no name asked for, and no default";
    *ret_alert = c->sni ? SSL_AD_UNRECOGNIZED_NAME : SSL_AD_HANDSHAKE_FAILURE;
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int server_cert(SSL *ssl, void *arg)
{
    const struct tls_server *s = arg;
    struct tls_conn *c = tls_conn_of(ssl);
    int r = tls_certs_give(s->t, ssl, slice_str(c->sni), c);
    if (r == 0)
        c->why = "no usable certificate for the name asked for";
    return r;
}

/* Can the kernel do it? Asked on a connected socket, where it would be used. */
static bool ktls_probe(void)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof a;
    int l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = l >= 0 && c >= 0 && bind(l, (struct sockaddr *)&a, n) == 0 && listen(l, 1) == 0 &&
              getsockname(l, (struct sockaddr *)&a, &n) == 0 &&
              connect(c, (struct sockaddr *)&a, n) == 0 &&
              setsockopt(c, IPPROTO_TCP, TCP_ULP, "tls", sizeof "tls") == 0;
    if (l >= 0)
        close(l);
    if (c >= 0)
        close(c);
    return ok;
}

static void server_ktls(struct tls_server *s, struct conf_diags *d)
{
    static int known = -1;
    const struct conf_listen *l = s->listen;
    if (!l->k.ktls)
        return;
    if (known < 0) {
        known = ktls_probe();
        if (!known && s->t->env.loop)
            LOG_NOTICE("ktls", "this kernel has no TLS (module tls): ktls = on has no effect");
    }
    if (!known)
        conf_diag_add(d, CONF_WARNING, tls_pos(l->origin, l->pos, "ktls"), NULL,
                      "this kernel has no TLS (module tls): ktls = on has no effect");
    s->ktls = known;
    if (s->ktls)
        SSL_CTX_set_options(s->ctx, SSL_OP_ENABLE_KTLS);
    /* Its BIO takes an end without close_notify for an error; towards clients it is none. */
    SSL_CTX_set_options(s->ctx, SSL_OP_IGNORE_UNEXPECTED_EOF);
}

static int server_new(struct tls *t, struct conf_listen *l, bool strict, struct conf_diags *d)
{
    struct tls_server *s = &t->server[l->id];
    s->t = t;
    s->listen = l;
    if (!l->k.tls)
        return 0;
    s->ctx = tls_context(t, TLS_server_method());
    if (!s->ctx)
        return -ERR_NOMEM;
    if (l->k.policy == CONF_POLICY_MODERN && !SSL_CTX_set_min_proto_version(s->ctx, TLS1_3_VERSION))
        return -ERR_NOMEM;
    SSL_CTX_set_max_early_data(s->ctx, 0);
    SSL_CTX_set_max_cert_list(s->ctx, 32 * 1024);
    SSL_CTX_set_alpn_select_cb(s->ctx, server_alpn, s);
    SSL_CTX_set_client_hello_cb(s->ctx, server_hello, NULL);
    SSL_CTX_set_tlsext_servername_callback(s->ctx, server_name);
    SSL_CTX_set_tlsext_servername_arg(s->ctx, s);
    SSL_CTX_set_cert_cb(s->ctx, server_cert, s);
    SSL_CTX_set_tlsext_status_cb(s->ctx, tls_certs_status);
    server_ktls(s, d);
    const char *why = "";
    int e = l->k.client_ca.n ? tls_info_ask(s, &why) : 0;
    if (e == -ERR_INVAL) {
        conf_diag_add(d, strict ? CONF_ERROR : CONF_WARNING,
                      tls_pos(l->origin, l->pos, "client_ca"), NULL,
                      "cannot use client_ca " SLICE_FMT ": %s%s", SLICE_ARG(l->k.client_ca), why,
                      strict ? "" : "; no client's certificate will be accepted");
        e = strict ? e : 0;
    }
    return e < 0 ? e : tls_tickets_set(s);
}

static int servers_new(struct tls *t, bool strict, struct conf_diags *d)
{
    const struct config *conf = t->env.config;
    int ret = 0;
    t->server = alloc_should_fail() ? NULL : calloc(conf->nlisten + 1, sizeof *t->server);
    if (!t->server)
        return -ERR_NOMEM;
    for (size_t i = 0; i < conf->nlisten; i++) {
        int e = server_new(t, conf->listen[i], strict, d);
        if (e == -ERR_NOMEM)
            return e;
        ret = e < 0 ? e : ret;
    }
    return ret;
}

static bool any_server(const struct config *conf)
{
    for (size_t i = 0; i < conf->nlisten; i++) {
        if (conf->listen[i]->k.tls)
            return true;
    }
    return false;
}

int tls_new(const struct tls_env *env, bool strict, struct conf_diags *d, struct tls **ret)
{
    int (*const part[])(struct tls *, bool, struct conf_diags *) = {keylog_open, servers_new,
                                                                    tls_clients_new};
    *ret = NULL;
    struct tls *t = alloc_should_fail() ? NULL : calloc(1, sizeof *t);
    if (!t)
        return -ERR_NOMEM;
    t->env = *env;
    t->keylog = -1;
    pool_init(&t->conns, "tls_conn", sizeof(struct tls_conn));
    int e = tls_tickets_new(t), all = 0;
    if (e == 0 && any_server(env->config))
        all = e = tls_certs_new(t, strict, d);
    for (size_t i = 0; i < sizeof part / sizeof *part && e != -ERR_NOMEM; i++) {
        e = part[i](t, strict, d);
        all = e < 0 ? e : all;
    }
    if (e == -ERR_NOMEM || all < 0) {
        tls_free(&t);
        return e == -ERR_NOMEM ? e : all;
    }
    *ret = t;
    return 0;
}

void tls_free(struct tls **tp)
{
    struct tls *t = *tp;
    *tp = NULL;
    if (!t)
        return;
    for (size_t i = 0; t->server && i < t->env.config->nlisten; i++)
        SSL_CTX_free(t->server[i].ctx);
    free(t->server);
    tls_clients_free(t);
    tls_certs_free(t);
    tls_tickets_free(t);
    stores_free(t);
    if (t->keylog >= 0)
        close(t->keylog);
    pool_fini(&t->conns);
    free(t);
}

struct tls_server *tls_server_of(struct tls *t, uint32_t listen_id)
{
    struct tls_server *s = &t->server[listen_id];
    return s->ctx ? s : NULL;
}

bool tls_server_has(const struct tls_server *s, struct slice host)
{
    return tls_certs_have(s->t, s->listen, host);
}

bool tls_covers(const struct link *k, struct slice host)
{
    const struct tls_conn *c = k->tls;
    if (!c || !c->server)
        return true;
    struct slice sni = slice_str(c->sni);
    return slice_eq(sni, host) || tls_certs_same(c->t, c->server->listen, sni, host);
}
