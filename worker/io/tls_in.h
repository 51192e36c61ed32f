/* Between the tls*.c files only: the parts of struct tls and of a connection, and what the files
 * offer each other. The only header in which OpenSSL's types appear. */
#ifndef WORKER_IO_TLS_IN_H
#define WORKER_IO_TLS_IN_H

#include "base/list.h"
#include "base/pool.h"
#include "worker/io/tls.h"
#include "worker/io/tls_cert.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

struct tls_certs; /* of tls_cert.c */
struct tls_stores;
struct tls_tickets;
struct tls_contexts;
struct tls_text;

/* Towards clients: one per listener with tls = on. */
struct tls_server {
    struct tls *t;
    const struct conf_listen *listen;
    SSL_CTX *ctx; /* NULL: a plain listener */
    bool ktls;    /* the kernel has it, and it is wanted */
};
/* Towards servers: one per TLS server of an upstream. */
struct tls_client {
    struct tls *t;
    const struct conf_upstream *upstream;
    const struct conf_server *server;
    SSL_CTX *ctx;         /* NULL: a plain server; owned by t->contexts */
    SSL_SESSION *session; /* the newest, or NULL */
    const char *name;     /* for SNI and the check, NUL-terminated, in config's arena */
    bool literal;         /* name is an address */
};
struct tls {
    struct tls_env env;          /* a copy; env.config outlives it */
    struct tls_server *server;   /* [config.nlisten] */
    struct tls_client **client;  /* [config.nupstream]: arrays [servers], NULL when all are plain */
    struct tls_certs *certs;     /* of tls_cert.c, which alone looks inside */
    struct tls_stores *stores;   /* authorities, loaded once per file; of tls.c */
    struct tls_tickets *tickets; /* of tls_ticket.c */
    struct tls_contexts *contexts; /* of tls_client.c: shared by servers that are alike */
    struct pool conns;             /* struct tls_conn */
    int keylog;                    /* fd, or -1 */
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
    char *out; /* what the kernel did not take, k->unsent bytes from out_off on: records (with kTLS,
                  the contents of one) */
    uint32_t out_off, out_cap;
    uint32_t nfirst;
    char *first;           /* a client that spoke HTTP: what it said */
    struct tls_text *text; /* of tls_info.c: the client's certificate in words, once asked for */
    const char *why;       /* static: why a callback of ours refused */
    uint32_t wrote_ms;     /* clock_ms() of the last write */
    uint32_t fresh;        /* bytes written since the start or the last silence, up to a bound */
    uint32_t fed;          /* bytes from the socket during this call */
    int32_t end;           /* what recv says from now on: 0 or negative; 1 = it goes on */
    uint8_t state;         /* enum tls_state */
    bool seen : 1;         /* something has been read */
    bool plain : 1;        /* it was not TLS, but looks like HTTP */
    bool drained : 1;      /* the socket's queue was found empty during this call */
    bool wire_eof : 1;     /* the end of the stream, without a word before */
    bool wire_error : 1;   /* a system call failed */
    bool fin_due : 1;      /* shutdown(2) once everything is written */
    bool fin_done : 1;
    bool h2 : 1;
    bool ktls : 1;
    bool expired : 1; /* resumed with a client's certificate that is no longer valid */
};

/* ---- tls_cert.c ---- */

/* Loads the explicit pairs and the indexes of directories, as root; t->env is set, nothing else of
 * t may be used. strict and d as tls_new(). 0, -ERR_INVAL, -ERR_NOMEM. tls_certs_free() may follow
 * a failure and a t->certs that is NULL. */
int tls_certs_new(struct tls *t, bool strict, struct conf_diags *d);
void tls_certs_free(struct tls *t);
/* Sets the pairs for this name on ssl (SSL_use_cert_and_key). Called from the
 * certificate callback of a handshake without resumption; sni is lower case without a dot
 * at its end, or "". 1 done; 0 there is nothing for it, not even a default; -1 on its way: c is on
 * a waiting list (c->waiting), and io_again(&c->k->io) will be called; this is then called again.
 * The OpenSSL error queue may be left dirty. */
int tls_certs_give(struct tls *t, SSL *ssl, struct slice sni, struct tls_conn *c);
/* The stapled answer, for SSL_CTX_set_tlsext_status_cb() of a listener's context. */
int tls_certs_status(SSL *ssl, void *arg);
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

/* For tls_last_error(): why OpenSSL failed ("no shared cipher"), from the first error in its queue,
 * which is emptied, else `otherwise`. */
void tls_error_queue(const char *otherwise);
void tls_error_set(const char *text);
/* Before each call whose failure SSL_get_error() will be asked about. */
static inline void tls_error_none(void)
{
    if (ERR_peek_error()) /* seldom; clearing costs more than looking */
        ERR_clear_error();
}
/* The same as a string for a diagnostic, valid until the next call. */
const char *tls_reason(void);
/* Where a key of a section was given, else where the section is. */
struct conf_pos tls_pos(const struct conf_origin *o, struct conf_pos section, const char *key);
/* The authorities of a PEM file, "" = the system's; loaded once, owned by t. When the file is not
 * usable: NULL, the reason in tls_reason()'s form in *ret_why. */
X509_STORE *tls_store(struct tls *t, struct slice file, const char **ret_why);
/* What contexts of both sides have in common; NULL: out of memory. */
SSL_CTX *tls_context(struct tls *t, const SSL_METHOD *method);

/* ---- tls_conn.c ---- */

/* Makes k a TLS link. ktls: through a socket BIO, so that the kernel can take over. 0,
 * -ERR_NOMEM (k is as it was). */
int tls_conn_new(struct tls *t, SSL_CTX *ctx, struct link *k, bool ktls, struct tls_conn **ret);
static inline struct tls_conn *tls_conn_of(const SSL *ssl)
{
    return SSL_get_app_data(ssl);
}

/* ---- tls_ticket.c ---- */

int tls_tickets_new(struct tls *t); /* 0, -ERR_NOMEM */
void tls_tickets_free(struct tls *t);
/* Tickets and stateful sessions of a listener's context, as its keys say. 0, -ERR_NOMEM. */
int tls_tickets_set(struct tls_server *s);

/* ---- tls_info.c ---- */

/* Makes the listener's context ask for client certificates. 0; -ERR_INVAL with *ret_why: no client
 * will be verified; -ERR_NOMEM. */
int tls_info_ask(struct tls_server *s, const char **ret_why);
/* After a handshake: certificates of resumed sessions may have expired. 0, or -ERR_TLS_HANDSHAKE
 * when the listener requires a valid one. */
int tls_info_recheck(struct tls_conn *c);

/* ---- tls_client.c ---- */

int tls_clients_new(struct tls *t, bool strict, struct conf_diags *d); /* like tls_new() */
void tls_clients_free(struct tls *t);
void tls_client_established(struct tls_conn *c); /* keeps its session */
/* The code of a failed handshake: -ERR_UP_CERT or -ERR_UP_TLS; sets the text. */
int tls_client_failed(struct tls_conn *c);

#endif
