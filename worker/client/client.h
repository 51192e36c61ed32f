/* Client connections: accepted, limited, spoken to in HTTP/1 or HTTP/2 over plain TCP or TLS,
 * drained. An idle one owns no buffer. */
#ifndef WORKER_CLIENT_CLIENT_H
#define WORKER_CLIENT_CLIENT_H

#include "base/hash.h"
#include "worker/http/h1_chunk.h"
#include "worker/http/h1_head.h"
#include "worker/io/link.h"
#include "worker/stream/stream.h"

enum client_state {
#define CLIENT_STATES(X)                                                                           \
    X(PROXY) X(HANDSHAKE) X(IDLE) X(HEAD) X(EXCHANGE) X(TUNNEL) X(LINGER) X(CLOSED)
#define X(n) CLIENT_##n,
    CLIENT_STATES(X)
#undef X
        CLIENT__COUNT
};
const char *client_state_name(enum client_state st);

struct clients;
struct client;
struct client_h2;
struct buf;
struct json;
/* What differs by protocol once a connection is established. */
struct client_proto {
    const char *name;
    void (*event)(struct io *io);
    void (*timer)(struct timer *t);
    /* Ends every exchange (tunnels: also those that are tunnels by now) with err as its reason, and
     * the connection unless tunnels are left. How many exchanges that were. */
    unsigned (*kill)(struct client *c, int err, bool tunnels);
    /* The worker drains: no more requests than the client could not know about. */
    void (*drain)(struct client *c);
    /* client_close() is at it: give back what is the protocol's. */
    void (*closed)(struct client *c);
    /* For `rpctl conns`: one line or object per exchange. */
    void (*print)(const struct client *c, struct json *j, struct buf *out);
};
struct client {
    struct link link;
    union {
        struct timer timer;
        struct loop_corpse corpse;
    };
    struct clients *all;
    const struct client_proto *proto;
    struct list node;     /* clients.idle, oldest first, or clients.active */
    struct client_h2 *h2; /* HTTP/2: its session; what follows up to `out` is HTTP/1's */
    struct stream *stream;
    struct client_body *body; /* while a request body is being read */
    struct outq out;
    struct pipe *pipe; /* the exchange's: bytes for us are in it */
    char *in;          /* bytes read too early: an incomplete head, pipelined requests */
    uint32_t in_n, in_cap;
    uint32_t scan;
    uint32_t earlier; /* of what is unsent: bytes of answers whose exchanges are over */
    uint32_t requests, max_requests;
    struct stream_peer peer;
    uint64_t born_ms;
    uint64_t head_since_ms;       /* first byte of the head that is being read */
    uint64_t bytes_in, bytes_out; /* of the current exchange */
    char ip[46];
    uint8_t state;
    bool keep;       /* another request may follow the current one */
    bool body_done;  /* the request has been read to its end */
    bool shut_after; /* send FIN when the output has gone */
    bool more;       /* the exchange has bytes for us that lie in the store */
    bool in_process;
    bool follows; /* more came with the request that is being worked on */
    bool eof;
    bool addressed; /* counted in the table of addresses */
};
struct client_body {
    enum http_framing framing;
    uint64_t left, got;
    uint64_t since_ms, took_ms; /* for the least rate: reading since; time spent before that */
    struct h1_chunk chunk;
};

/* One listening socket. */
struct client_listener {
    struct io io;
    struct clients *all;
    const struct conf_listen *listen;
    uint32_t owner;
    uint16_t port;
    bool is_unix, on;
};
struct client_address { /* connections per client address (IPv6: /64) */
    uint64_t key;
    uint32_t n;
};
struct clients {
    struct loop *loop;
    struct stream_env *env;
    const struct config *config;
    struct counter_row *ctr;
    struct gauge_row *gau;
    struct pool pool, bodies, h2_conns, h2_streams;
    struct list idle, active;
    uint32_t n, nidle, ntunnel, max, max_per_address;
    struct client_listener *listener;
    size_t nlistener;
    uint32_t number; /* of this worker: the owner of the listeners it always accepts from */
    uint64_t cover[SHM_SLOTS / 64]; /* bit per worker: those it covers for */
    struct client_address *address; /* open addressing, power of two */
    uint32_t address_mask, naddress;
    struct hash_key key;
    struct timer retry; /* accepting again after the descriptors ran out */
    uint64_t limit_logged_ms, drain_since_ms;
    struct timer drain_idle;
    struct tls *tls;
    struct list dirty;       /* HTTP/2 connections with output for the end of the turn */
    struct list dirty_later; /* they have had their share of this turn */
    uint64_t abuse_logged_ms;
    struct handover_in *handovers; /* from predecessors */
    bool accepting, paused, draining;
    /* draining, and a successor takes what is idle: connections may be kept */
    bool handing;
};

struct clients_env {
    struct loop *loop;
    struct stream_env *stream;
    const struct config *config;
    struct counter_row *ctr;
    struct gauge_row *gau;
    struct tls *tls;
    uint64_t nofile; /* descriptors this process may open */
    uint32_t number;
};
int clients_init(struct clients *cs, const struct clients_env *env);
/* fd is borrowed. unix sockets are shared by all workers, TCP ones belong to worker `owner`. */
int clients_listen(struct clients *cs, size_t i, size_t n, int fd, const struct conf_listen *l,
                   const struct conf_address *a, uint32_t owner);
/* Accepts from the sockets of these workers too (a bit per number), and of no others. */
int clients_cover(struct clients *cs, const uint64_t cover[SHM_SLOTS / 64]);
int clients_accept_start(struct clients *cs);
void clients_accept_stop(struct clients *cs);
/* No more requests on kept connections: idle ones are closed as their clients allow, answers say
 * Connection: close. */
void clients_drain(struct clients *cs);
/* While draining: closes connections that have been idle for that long since the drain began. */
void clients_drain_idle(struct clients *cs, uint64_t idle_ms);
void clients_fini(struct clients *cs);
/* End of a turn: writes what HTTP/2 connections have gathered, each in one go. */
void clients_turn(struct clients *cs);
/* Closes idle connections, oldest first, at most `most`; how many. */
unsigned clients_trim(struct clients *cs, unsigned most);
/* Ends everything at once; err is the reason in the log. tunnels: also upgraded connections.
 * Returns how many were ended. */
unsigned clients_abort(struct clients *cs, int err, bool tunnels);
/* One line per connection (or JSON object) for `rpctl conns`. */
void clients_print(const struct clients *cs, uint32_t limit, bool json, struct buf *out);

/* Between the files of this folder. */
extern const struct stream_client client_h1_ops;
extern const struct client_proto client_h1_proto, client_h2_proto, client_open_proto;
void client_set_proto(struct client *c, const struct client_proto *p);
/* open.c: a new connection, until it speaks a protocol. Looks for its first bytes at once; proxy:
 * they must be the PROXY protocol's. */
void client_open_start(struct client *c, bool proxy);
/* The first bytes of an established connection are still to come, or wait in `in`. */
void client_h1_start(struct client *c);
/* ALPN chose HTTP/2, or its preface was seen: p[0..n) has been read already (in the scratch
 * buffer). The state is HEAD. */
void client_h2_start(struct client *c, const char *p, size_t n);
void client_h2_pools(struct clients *cs); /* part of clients_init() */
/* A connection that another worker accepted: fd becomes ours when it succeeds. */
struct client *client_adopt(struct clients *cs, const struct conf_listen *l, int fd,
                            const union addr *a, uint16_t listen_port, uint64_t age_ms);
void client_h1_resume(struct client *c); /* an idle one */
int client_h1_resume_tunnel(struct client *c, const char *p, size_t n, int fd);
/* Keeps p[0..n), read too early, in place of what was kept before; -ERR_NOMEM. */
int client_keep(struct client *c, const char *p, size_t n);
/* An exchange (NULL: none) in `rpctl conns`. */
void client_print_stream(const struct stream *s, struct json *j, struct buf *out);
/* takes what predecessors sent so far, and no more */
void handovers_end(struct clients *cs);
void handovers_free(struct clients *cs);
void client_close(struct client *c);
void client_set_state(struct client *c, enum client_state st);
uint64_t client_idle_ms(const struct client *c);
bool client_trusted(const struct clients *cs, const union addr *a);
void client_set_peer(struct client *c, const union addr *a);
/* v less up to 10 %, plus up to 10 %: connections opened together do not end together. */
uint64_t client_jitter(const struct clients *cs, uint64_t v);
/* It has been open for as long as one may be. */
bool client_aged(const struct client *c);
/* Request body bytes came or are looked for: below the least rate of its route? Only the time in
 * which we were ready to read counts: what the server's side takes is not the client's fault. */
bool client_body_slow(struct client_body *b, const struct conf_scope_keys *k);
/* FIN after the last byte, then what the client still sends is read and dropped for at most that
 * long: closing at once would reset the connection and with it destroy the answer (RFC 9112 9.6).
 */
void client_linger(struct client *c, uint32_t ms);
/* false: its address has its fill of connections */
bool client_count_address(struct client *c);

#endif
