/* What tests of TLS need: authorities and certificates made in a directory of their own, a struct
 * tls from the text of a configuration, and connected pairs of links. */
#ifndef T_UNIT_TLS_FIXTURE_H
#define T_UNIT_TLS_FIXTURE_H

#include "base/clock.h"
#include "base/err.h"
#include "t/unit/tap.h"
#include "worker/io/sock.h"
#include "worker/io/tls.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define FIX_UNUSED __attribute__((unused))

/* ---- certificates ---- */

struct fix_cert {
    X509 *x;
    EVP_PKEY *key;
};
static char fix_dir[64];
static FIX_UNUSED char fix_said[2048]; /* what the latest fix_tls() had to complain of */

static FIX_UNUSED const char *fix_path(const char *name)
{
    static char path[8][160];
    static unsigned at;
    char *p = path[at++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", fix_dir, name);
    return p;
}

static FIX_UNUSED void fix_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX v;
    X509V3_set_ctx(&v, issuer, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &v, nid, value);
    if (!e || !X509_add_ext(x, e, -1))
        tap_bail("extension %s", value);
    X509_EXTENSION_free(e);
}

/* names: subjectAltName as in "DNS:a.test,IP:127.0.0.1", NULL for an authority. issuer NULL: it
 * signs itself. Written as NAME.crt and NAME.key. */
static FIX_UNUSED struct fix_cert fix_make(const char *name, const char *names,
                                           const struct fix_cert *issuer, long days, const char *md)
{
    static long serial = 4096;
    struct fix_cert c = {X509_new(), EVP_EC_gen("P-256")};
    X509_NAME *n = X509_get_subject_name(c.x);
    X509_set_version(c.x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(c.x), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(c.x), days < 0 ? -20 * 86400L : -86400L);
    X509_gmtime_adj(X509_getm_notAfter(c.x), days * 86400L);
    X509_NAME_add_entry_by_txt(n, "O", MBSTRING_UTF8, (const unsigned char *)"rpd, tests", -1, -1,
                               0);
    X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(c.x, X509_get_subject_name(issuer ? issuer->x : c.x));
    X509_set_pubkey(c.x, c.key);
    if (names)
        fix_extension(c.x, issuer ? issuer->x : c.x, NID_subject_alt_name, names);
    else
        fix_extension(c.x, c.x, NID_basic_constraints, "critical,CA:TRUE");
    if (!X509_sign(c.x, issuer ? issuer->key : c.key, EVP_get_digestbyname(md)))
        tap_bail("cannot sign");
    char file[64];
    snprintf(file, sizeof file, "%s.crt", name);
    FILE *f = fopen(fix_path(file), "w");
    if (!f || !PEM_write_X509(f, c.x))
        tap_bail("%s", file);
    fclose(f);
    snprintf(file, sizeof file, "%s.key", name);
    f = fopen(fix_path(file), "w");
    if (!f || !PEM_write_PrivateKey(f, c.key, NULL, NULL, 0, NULL, NULL))
        tap_bail("%s", file);
    fclose(f);
    return c;
}

static FIX_UNUSED void fix_cert_free(struct fix_cert *c)
{
    X509_free(c->x);
    EVP_PKEY_free(c->key);
    *c = (struct fix_cert){0};
}

static FIX_UNUSED void fix_begin(void)
{
    snprintf(fix_dir, sizeof fix_dir, "/tmp/rpd-tls-XXXXXX");
    if (!mkdtemp(fix_dir))
        tap_bail("mkdtemp");
}

static FIX_UNUSED void fix_end(void)
{
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -r '%s'", fix_dir);
    if (system(cmd) != 0)
        tap_bail("%s", cmd);
}

/* ---- struct tls ---- */

struct fix_tls {
    struct config *conf;
    struct tls *tls;
    struct counter_row ctr;
    struct gauge_row gau;
    uint32_t cert_id[16];
    struct tls_env env;
};

/* @ in the text is the directory of the fixture. False: the configuration or tls_new() says no, and
 * the diagnostics are printed. */
static FIX_UNUSED bool fix_tls(struct fix_tls *f, const char *text, struct segment *seg,
                               struct loop *loop, bool strict)
{
    char full[8192];
    size_t n = 0;
    for (const char *p = text; *p && n + sizeof fix_dir < sizeof full; p++) {
        if (*p == '@')
            n += (size_t)snprintf(full + n, sizeof full - n, "%s", fix_dir);
        else
            full[n++] = *p;
    }
    struct conf_snapshot *s = NULL;
    struct conf_diags d;
    struct buf out;
    *f = (struct fix_tls){0};
    conf_diags_init(&d);
    buf_init(&out, 0);
    int e = conf_snapshot_text("t.conf", slice_of(full, n), &s);
    if (e == 0)
        e = config_load(s, &d, &f->conf);
    f->env = (struct tls_env){.loop = loop,
                              .config = f->conf,
                              .segment = seg,
                              .slot = 0,
                              .ctr = &f->ctr,
                              .gau = &f->gau,
                              .cert_id = f->cert_id};
    if (e == 0)
        e = tls_new(&f->env, strict, &d, &f->tls);
    if (d.n) {
        conf_diags_print(&d, &out);
        printf("# %d: %.*s", e, SLICE_ARG(buf_slice(&out)));
    }
    snprintf(fix_said, sizeof fix_said, "%.*s", SLICE_ARG(buf_slice(&out)));
    buf_fini(&out);
    conf_diags_fini(&d);
    conf_snapshot_free(&s);
    if (e < 0)
        config_free(&f->conf);
    return e == 0;
}

static FIX_UNUSED void fix_tls_free(struct fix_tls *f)
{
    tls_free(&f->tls);
    config_free(&f->conf);
}

static FIX_UNUSED uint64_t fix_count(const struct fix_tls *f, enum counter c)
{
    return atomic_load_explicit(&f->ctr.v[c], memory_order_relaxed);
}

/* ---- connections ---- */

/* Two plain links, connected; buf: size of socket buffers, 0 as the system has them. */
static FIX_UNUSED void fix_pair(struct link *a, struct link *b, int buf)
{
    int fd[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd))
        tap_bail("socketpair");
    for (int i = 0; i < 2 && buf; i++)
        setsockopt(fd[i], SOL_SOCKET, SO_SNDBUF, &buf, sizeof buf);
    *a = (struct link){.io = {.fd = fd[0], .ready = IO_READ | IO_WRITE}, .ops = &link_plain};
    *b = (struct link){.io = {.fd = fd[1], .ready = IO_READ | IO_WRITE}, .ops = &link_plain};
}

/* Both sides by turns, as if epoll told of everything, until both are done or one has failed. */
static FIX_UNUSED void fix_shake(struct link *client, struct link *server, int *ret_client,
                                 int *ret_server)
{
    *ret_client = *ret_server = -ERR_AGAIN;
    for (int i = 0; i < 100 && (*ret_client == -ERR_AGAIN || *ret_server == -ERR_AGAIN); i++) {
        client->io.ready |= IO_READ | IO_WRITE;
        server->io.ready |= IO_READ | IO_WRITE;
        if (*ret_client == -ERR_AGAIN)
            *ret_client = tls_handshake(client);
        else if (*ret_client == 0 && client->unsent)
            client->ops->flush(client);
        if (*ret_server == -ERR_AGAIN)
            *ret_server = tls_handshake(server);
        else if (*ret_server == 0 && server->unsent)
            server->ops->flush(server);
        if ((*ret_client < 0 && *ret_client != -ERR_AGAIN && *ret_server == -ERR_AGAIN && i > 90) ||
            (*ret_server < 0 && *ret_server != -ERR_AGAIN && *ret_client == -ERR_AGAIN && i > 90))
            break;
    }
}

static FIX_UNUSED ssize_t fix_recv(struct link *k, char *p, size_t n)
{
    k->io.ready |= IO_READ | IO_WRITE;
    return link_recv(k, p, n);
}

static FIX_UNUSED ssize_t fix_send(struct link *k, const void *p, size_t n)
{
    struct iovec v = {.iov_len = n};
    memcpy(&v.iov_base, &p, sizeof p);
    k->io.ready |= IO_READ | IO_WRITE;
    return link_writev(k, &v, 1);
}

static FIX_UNUSED void fix_close(struct link *k)
{
    if (k->io.fd >= 0)
        k->ops->close(k);
}

#endif
