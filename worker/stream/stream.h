/* The hinge: one exchange, request and response, whatever the protocols on both sides. Routing, the
 * attempt at a server with its retries, back-pressure, own answers, tunnels and the reason of every
 * abnormal end live here. */
#ifndef WORKER_STREAM_STREAM_H
#define WORKER_STREAM_STREAM_H

#include "base/arena.h"
#include "config/config.h"
#include "shm/counter.h"
#include "worker/http/forward.h"
#include "worker/stream/route.h"
#include "worker/upstream/up.h"

struct stream;
struct cache_store;
struct cache_hit;

#define STREAM_IOV 16 /* pieces of stream_out.iov at most */

/* A head from the store, as it goes to HTTP/1 clients but for what depends on the connection. */
struct stream_wire {
    struct slice part[3]; /* status line and fields, whole lines; some may be empty */
    struct slice own;     /* further lines, at the beginning of loop.scratch_head */
};
/* A piece of the answer for the client's side. */
struct stream_out {
    const struct http_response *resp; /* NULL: the head has gone already */
    const struct stream_wire *wire;   /* in its place */
    /* with resp; the client's side decides about close and keep_alive */
    struct forward_response *fwd;
    const char *data;
    size_t n;
    /* Bytes of the store in place of data, n in all. They need not be copied when the client does
     * not take them: *taken says how many it did; fewer than n only with a return of 1. */
    const struct iovec *iov;
    int niov;
    size_t *taken;
    const struct http_field *trailer; /* with end */
    size_t ntrailer;
    bool end;
};
/* What the protocol towards the client offers to the exchange. */
struct stream_client {
    /* 0 taken; 1 taken, but output is backed up: stream_drained() follows when it has gone;
     * negative: the client is gone (no callback). */
    int (*send)(struct stream *s, const struct stream_out *o);
    void (*want_body)(struct stream *s); /* the request body may be given now */
    /* Empties the pipe into the connection (a body of known length whose head has gone); returns as
     * send(). */
    int (*send_pipe)(struct stream *s, struct pipe *p, bool end);
    bool (*can_pipe)(const struct stream *s);
    void (*tunnel)(struct stream *s); /* after a 101: raw bytes both ways from here */
    void (*shut)(struct stream *s);   /* tunnel: the server finished sending */
    /* The exchange is over and logged. cut: the answer is incomplete, the connection must not look
     * healthy. */
    void (*over)(struct stream *s, bool cut);
};

/* ---- filters: what stands between an exchange and the client's side (worker/filter) ---- */

/* A complete or an arriving answer of the store. */
struct stream_stored {
    unsigned status;
    struct slice fields; /* status line and fields, whole lines */
    uint64_t size;       /* of the body; UINT64_MAX: not known yet */
};
/* What this client gets of it. */
struct stream_coded {
    uint8_t coding; /* 1 + enum conf_coding; 0: as it is */
    bool vary;      /* and is to be told that others may get something else */
};
struct filters;
struct stream_filter {
    /* The head of a final answer, r, is about to go out with s->fwd; nothing of it has. Decides
     * once whether something is to be done with this answer: hides fields of r (FIELD_NOMINATED),
     * changes s->fwd, and takes the place of s->client_ops. */
    void (*head)(struct stream *s, struct http_response *r);
    /* That head will not go out: another one may. Undoes it, as far as the exchange has it. */
    void (*forget)(struct stream *s);
    /* The same for what the store has, in steps, as it may have the outcome too. */
    void (*choose)(struct stream *s, const struct stream_stored *st, struct stream_coded *ret);
    /* The stored status line and fields as they are with that coding: o grows. */
    void (*coded_head)(const struct stream_stored *st, uint8_t coding, struct head_out *o);
    /* What is sent from now on is encoded; copy (may be NULL) hears what comes out, and end with
     * the last of it. -ERR_NOMEM, -ERR_FULL: not now, it goes out as it is. */
    int (*encode)(struct stream *s, const struct stream_stored *st, uint8_t coding,
                  void (*copy)(struct stream *s, struct slice bytes, bool end));
};

enum stream_state {
#define STREAM_STATES(X)                                                                           \
    X(ROUTE)                                                                                       \
    X(COLLECT)                                                                                     \
    X(HIT) X(FOLLOW) X(PICK) X(QUEUED) X(BACKOFF) X(FETCH) X(DELIVER) X(TUNNEL) X(SYNTH) X(DONE)
#define X(n) STREAM_##n,
    STREAM_STATES(X)
#undef X
        STREAM__COUNT
};
const char *stream_state_name(enum stream_state st);

/* Who asks: belongs to the connection. */
struct stream_peer {
    struct slice ip; /* text of the peer (PROXY protocol applied) */
    union addr addr;
    uint16_t port;
    uint16_t listen_port;
    const struct conf_listen *listen;
    const struct link *link; /* for what TLS knows of the client */
    struct slice scheme;
    bool trusted;      /* in trusted_proxies */
    bool plain_on_tls; /* speaks plain HTTP where TLS is due: gets one answer */
};

/* What all exchanges of a worker share. */
struct stream_env {
    struct loop *loop;
    const struct config *config;
    struct segment *segment;
    struct upstreams *upstreams;
    struct caches *caches;
    struct route_table *routes;
    struct counter_row *ctr;
    struct gauge_row *gau;
    const uint32_t *series_id;  /* by conf_route.id */
    struct series_row **series; /* by conf_route.id, filled on first use */
    struct tls *tls;
    const struct stream_filter *filter; /* NULL: there are none */
    struct filters *filters;            /* its own */
    uint32_t *https_listen;             /* by conf_host.id; see https.h */
    uint32_t slot;
    struct pool pool;
    struct pipes pipes;
    struct list all; /* struct stream.all */
    uint64_t rng[2];
    uint32_t nsettled; /* exchanges without a client */
    void (*log)(const struct stream *s);
    /* The copy in that coding of a stored answer is asked for often. */
    void (*recode)(const struct cache_store *st, const struct cache_hit *of, uint8_t coding);
};

#define STREAM_ARENA  3072u
#define STREAM_REPLAY (64u * 1024u) /* request body kept for another try */

struct stream {
    union {
        struct timer timer; /* queue and back-off */
        struct loop_corpse corpse;
    };
    struct list all;
    struct up_waiter waiter;
    struct stream_env *env;
    const struct stream_client *client_ops; /* or a filter's, which goes on to it */
    void *filter;                           /* what that filter keeps of this exchange */
    void *client;
    const struct stream_peer *peer;
    struct http_request req;
    /* first bytes of a head that could not be parsed, for the log */
    struct slice line;
    struct slice client_ip; /* peer's, or what a trusted proxy conveyed */
    struct slice request_id;
    const struct conf_route *route;
    const struct conf_scope_keys *scope;
    struct cached *cached; /* NULL: its route has no cache; see cached.h */
    struct upstream *upstream;
    struct up_conn *conn;
    struct pipe *pipe;     /* a long body passes through it uncopied */
    struct slice out_head; /* the request head as servers get it */
    struct up_timeouts timeouts;
    uint64_t tried_word; /* servers tried, when there are at most 64 */
    uint64_t *tried;
    struct slice tried_text; /* "a:80, b:80" once there was more than one */
    struct buf replay;       /* request body sent so far, while another try is possible */
    /* the final head: slices are valid only while the log wants them (kept = true) */
    struct http_response resp;
    const struct http_response *pending; /* head to go out with the next data */
    struct forward_response fwd;
    uint64_t key_hash;
    uint64_t body_in, body_out, bytes_in, bytes_out;
    uint64_t plain; /* bytes of the body before it was encoded here */
    /* durations except begin_us; UINT64_MAX = did not happen */
    uint64_t begin_us, queue_us, connect_us, first_us, end_us;
    uint64_t queued_at_us;
    int64_t wall_ms;
    int server;      /* index of the server tried last; -1 = none */
    int reason;      /* enum err of an abnormal end */
    int grpc_status; /* what the server's answer said at its end; -1 = nothing */
    uint32_t nth;    /* request of its connection */
    uint16_t status; /* of the final head given to the client */
    uint8_t state;
    uint8_t coding; /* of the body, if it was encoded here: 1 + enum conf_coding */
    uint8_t tries;
    bool entered;   /* upstream_done() is owed */
    bool moved;     /* handed to another worker: not logged, not counted here */
    bool malformed; /* req is not to be trusted: only an error answer follows */
    bool have_resp, kept, body_end, answer_end, no_replay, want_body;
    bool reused, fresh, retry_counted, upgrade, up_eof, client_eof, in_begin;
    bool continued; /* the client was told 100 by us */
    bool grpc;      /* either side may be silent for as long as a tunnel's may */
    bool settled;   /* counted and logged, its client is gone: it only fills the cache */
    struct arena arena;
    char inline_mem[STREAM_ARENA] __attribute__((aligned(16)));
};

int stream_env_init(struct stream_env *e);
void stream_env_fini(struct stream_env *e);

/* A new exchange; its arena is ready for the head. NULL: out of memory (counted). */
struct stream *stream_new(struct stream_env *e, const struct stream_client *ops, void *client,
                          const struct stream_peer *peer, uint32_t nth);
/* The request is complete in s->req (fields in the arena). Everything may happen before it returns,
 * the end included. */
void stream_begin(struct stream *s);
/* The request could not even be parsed: answers err's status. */
void stream_refuse(struct stream *s, int err);
/* Body bytes from the client; all are taken. 1: pause until want_body(). End with its trailers.
 * After a negative return s is over, and at the end it may be after any. */
int stream_body(struct stream *s, const char *p, size_t n, bool end,
                const struct http_field *trailer, size_t ntrailer);
/* Sends what waited for body bytes (the request head), when none came with it. */
void stream_body_flush(struct stream *s);
/* The client's output has gone. */
void stream_drained(struct stream *s);
/* The client is at fault or away: ends the exchange; answers err's status when nothing went out and
 * it has one. */
void stream_client_failed(struct stream *s, int err);
/* Ends it now, without an answer (drain time over, stop). */
void stream_kill(struct stream *s, int err);
static inline bool stream_wants_body(const struct stream *s)
{
    return s->want_body;
}

#endif
