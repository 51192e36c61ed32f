/* Between the tls*.c files only: the parts of struct tls and of a connection, and what the files
 * offer each other. The only header in which OpenSSL's types appear. */
#ifndef WORKER_IO_TLS_IN_H
#define WORKER_IO_TLS_IN_H

#include "base/list.h"
#include "worker/io/tls.h"
#include "worker/io/tls_cert.h"

#include <openssl/ssl.h>

struct tls_certs; /* of tls_cert.c */
struct tls_stores;

/* Towards clients: one per listener with tls = on. */
struct tls_server {
    struct tls *t;
    const struct conf_listen *listen;
    SSL_CTX *ctx; /* NULL: a plain listener */
    bool ktls;
};
/* Towards servers: one per TLS server of an upstream. */
struct tls_client {
    struct tls *t;
    const struct conf_upstream *upstream;
    const struct conf_server *server;
    SSL_CTX *ctx;         /* NULL: a plain server */
    SSL_SESSION *session; /* the newest, or NULL */
    const char *name;     /* for SNI and the check, NUL-terminated, in config's arena */
    bool literal;         /* name is an address */
};
struct tls {
    struct tls_env env;         /* a copy; env.config outlives it */
    struct tls_server *server;  /* [config.nlisten] */
    struct tls_client **client; /* [config.nupstream]: arrays [servers], NULL when all are plain */
    struct tls_certs *certs;    /* of tls_cert.c, which alone looks inside */
    struct tls_stores *stores;  /* authorities, loaded once per file */
    int keylog;                 /* fd, or -1 */
    struct tls_ticket_state *tickets;
};

enum tls_state { TLS_HANDSHAKE, TLS_OPEN, TLS_BROKEN };
struct tls_conn {
    SSL *ssl;
    struct link *k;
    struct tls *t;
    struct tls_server *server; /* exactly one of both */
    struct tls_client *client;
    char *sni;           /* lower case, no dot at its end; NULL: none was sent */
    struct list waiting; /* for tls_cert.c, while tls_certs_give() says -1 */
    char *out;           /* records that the kernel did not take: k->unsent bytes */
    uint32_t out_off, out_cap;
    uint32_t warm;       /* bytes written since the last silence, up to a bound */
    uint32_t wrote_s;    /* second of the last write (clock_ms / 1000) */
    uint8_t state;       /* enum tls_state */
    bool seen;           /* the first byte was a TLS record's */
    bool plain;          /* it was a letter: `first` are what it said */
    bool eof, eof_clean; /* the peer's end; by close_notify */
    bool h2;
    struct tls_info *info; /* made by the first tls_describe() */
    char *first;           /* of a client that spoke HTTP */
    uint32_t nfirst;
};

/* ---- tls_cert.c ---- */

/* Loads the explicit pairs and the indexes of directories, as root; t->env is set, nothing else of
 * t may be used. strict and d as tls_new(). 0, -ERR_INVAL, -ERR_NOMEM. tls_certs_free() may follow
 * a failure and a t->certs that is NULL. */
int tls_certs_new(struct tls *t, bool strict, struct conf_diags *d);
void tls_certs_free(struct tls *t);
/* Sets the pairs for this name on ssl (SSL_use_cert_and_key), and the stapled answer. Called
 * from the certificate callback of a handshake without resumption; sni is lower case without a dot
 * at its end, or "". 1 done; 0 there is nothing for it, not even a default; -1 on its way: c is on
 * a waiting list (c->waiting), and io_again(&c->k->io) will be called; this is then called again.
 * The OpenSSL error queue may be left dirty. */
int tls_certs_give(struct tls *t, SSL *ssl, struct slice sni, struct tls_conn *c);
/* c is closed: takes it off the waiting list when it is on one. */
void tls_certs_forget(struct tls_conn *c);
/* Has the listener a certificate for that name (exact or wildcard; the default does not count)? */
bool tls_certs_have(struct tls *t, const struct conf_listen *l, struct slice host);
/* Would tls_certs_give() not say 0: as tls_certs_have(), or a default is given to everybody else.
 * sni may be "". */
bool tls_certs_any(struct tls *t, const struct conf_listen *l, struct slice sni);
/* Would the listener give the same certificate for both names ("" = none sent) now? */
bool tls_certs_same(struct tls *t, const struct conf_listen *l, struct slice sni,
                    struct slice host);

/* ---- tls.c ---- */

/* Why OpenSSL failed: the reason of its oldest queued error ("no shared cipher"), else `otherwise`;
 * clears the queue. Kept for tls_last_error(). */
void tls_error_set(const char *otherwise);
void tls_error_text(const char *text); /* the same with a text of ours */
/* A fixed string for diagnostics: the reason of the oldest queued error; clears the queue. */
const char *tls_reason(void);
/* The authorities of a PEM file, "" = the system's; loaded once, owned by t. NULL with *ret_why. */
X509_STORE *tls_store(struct tls *t, struct slice file, const char **ret_why);

/* ---- tls_ticket.c ---- */

int tls_tickets_new(struct tls *t);
void tls_tickets_free(struct tls *t);
/* Tickets and stateful sessions of a listener's context, as its keys say. */
int tls_tickets_set(struct tls_server *s);

/* ---- tls_client.c ---- */

int tls_clients_new(struct tls *t, bool strict, struct conf_diags *d);
void tls_clients_free(struct tls *t);
/* After a failed handshake: -ERR_UP_CERT or -ERR_UP_TLS; the text is set. */
int tls_client_failure(struct tls_conn *c);

/* ---- tls_conn.c ---- */

int tls_conn_new(struct tls_server *s, struct tls_client *cl, struct link *k);
static inline struct tls_conn *tls_conn_of(const SSL *ssl)
{
    return SSL_get_app_data(ssl);
}
bool tls_bio_init(void); /* once per process */

/* ---- tls_info.c ---- */

/* Callbacks of a listener's context that asks for client certificates. -ERR_INVAL with *ret_why,
 * -ERR_NOMEM. */
int tls_info_ask(struct tls_server *s, const char **ret_why);
void tls_info_free(struct tls_conn *c);

#endif
