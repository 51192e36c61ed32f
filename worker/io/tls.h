/* TLS behind struct link. OpenSSL's types stay inside the tls*.c files of this folder. One struct
 * tls per worker process; a context per listener (tls_server) and per server of an upstream
 * (tls_client); a struct tls_conn per connection, owned by its link and freed by the link's
 * close. */
#ifndef WORKER_IO_TLS_H
#define WORKER_IO_TLS_H

#include "config/config.h"
#include "shm/counter.h"
#include "shm/segment.h"
#include "worker/io/link.h"

struct tls;
struct tls_server;
struct tls_client;

struct tls_env {
    struct loop *loop; /* NULL: only checking (preflight) */
    const struct config *config;
    struct segment *segment; /* NULL when only checking */
    uint32_t slot;
    struct counter_row *ctr;
    struct gauge_row *gau;
    const uint32_t *cert_id; /* shm row of each config.certificate */
    /* Asks the master for the files of a certificate that lies in a directory and is needed now
     * (we may no longer read it ourselves); tls_cert_files() follows. See tls_cert.h. False: not
     * now, ask again. NULL: nobody can be asked. */
    bool (*want_files)(void *arg, uint32_t certificate, struct slice name);
    void *arg;
};
/* Loads what every process needs, as root, before privileges are dropped: explicit pairs, the index
 * of directories, authorities, the key log. Everything wrong goes to d with the position of its
 * key. strict: any problem is an error (a new configuration); else a certificate that cannot be
 * used is left out with a warning in the log (a worker that replaces a dead one must start).
 * -ERR_INVAL, -ERR_NOMEM. */
int tls_new(const struct tls_env *env, bool strict, struct conf_diags *d, struct tls **ret);
void tls_free(struct tls **t);
/* "OpenSSL 3.0.22", for rpd -V. */
const char *tls_library(void);
/* End of a turn is not needed: nothing is batched here beyond one writev. */

/* ---- towards clients ---- */

/* The context of config.listen[id]; NULL for a plain listener. Owned by t. */
struct tls_server *tls_server_of(struct tls *t, uint32_t listen_id);
/* Turns a plain link, from which nothing has been read, into TLS. 0, -ERR_NOMEM. */
int tls_accept(struct tls_server *s, struct link *k);
/* Goes on with the handshake of either side. 0 it is done; -ERR_AGAIN: call again when the io is
 * ready or its handler is called (a certificate may be on its way: io_again() is called when it has
 * come); else over: -ERR_TLS_PLAIN (the client spoke HTTP: tls_take_back() gets what it said),
 * -ERR_TLS_HANDSHAKE, -ERR_UP_TLS, -ERR_UP_CERT, -ERR_SYS. An alert has been sent where one is
 * due. */
int tls_handshake(struct link *k);
/* Why the last handshake of this process failed, for a log line: "no shared cipher". */
const char *tls_last_error(void);
/* After -ERR_TLS_PLAIN: the link is plain again. Returns the bytes already read, at most cap
 * (cap >= 16 KiB suffices). */
size_t tls_take_back(struct link *k, char *p, size_t cap);

/* ---- towards servers ---- */

/* The context of server nth of config.upstream[id]; NULL for a plain server. Owned by t. Sessions
 * are kept in it and used again by the next connection. */
struct tls_client *tls_client_of(struct tls *t, uint32_t upstream_id, size_t nth);
/* Turns a connected plain link into TLS: tls_handshake() follows. ALPN offered: h2 and/or
 * http/1.1, at least one. 0, -ERR_NOMEM. */
int tls_connect(struct tls_client *c, struct link *k, bool h2, bool h1);

/* ---- both ---- */

bool tls_is_h2(const struct link *k); /* ALPN chose h2 */
/* What is known of an established connection; slices live as long as the link. */
struct tls_info {
    struct slice version;     /* "TLSv1.3" */
    struct slice cipher;      /* "TLS_AES_128_GCM_SHA256" */
    struct slice sni;         /* lower case; "" when none was sent */
    struct slice alpn;        /* "h2", "http/1.1" or "" */
    struct slice verify;      /* of the client's certificate: "none", "ok" or "failed:REASON";
                                 empty where none is asked for */
    struct slice subject;     /* RFC 2253 */
    struct slice issuer;      /* RFC 2253 */
    struct slice serial;      /* hex */
    struct slice fingerprint; /* SHA-256, hex */
    bool resumed;
};
/* False for a plain link. */
bool tls_describe(const struct link *k, struct tls_info *ret);
/* A client certificate was shown and verified. */
bool tls_client_verified(const struct link *k);
/* The client's certificate as base64 of its DER, for RFC 9440; .n 0 when there is none. In the
 * arena. */
struct slice tls_client_der(const struct link *k, struct arena *a);
/* Would a new connection with this SNI get the same certificate as this one did (RFC 9110 7.4,
 * RFC 9113 9.1.1)? True for plain links. */
bool tls_covers(const struct link *k, struct slice host);
/* Has the listener a certificate for that name (exact or wildcard)? */
bool tls_server_has(const struct tls_server *s, struct slice host);

#endif
