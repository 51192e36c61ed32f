/* One request at a server, whatever carries it: an HTTP/1 connection of its own (h1.c) or a stream
 * of an HTTP/2 session (h2.c). The exchange begins it here, hears the answer in order through
 * up_events, and gives it back. */
#ifndef WORKER_UPSTREAM_UP_H
#define WORKER_UPSTREAM_UP_H

#include "worker/http/h1_chunk.h"
#include "worker/http/http.h"
#include "worker/io/pipe.h"
#include "worker/upstream/upstream.h"

enum up_state {
    UP_CONNECTING, /* or waiting for the session that it will be a stream of */
    UP_HANDSHAKE,  /* TLS; within the time for connecting */
    UP_REQUEST,    /* the request goes out */
    UP_WAITING,    /* all of it has; no answer yet */
    UP_BODY,
    UP_TUNNEL,
    UP_IDLE,    /* pooled */
    UP_SESSION, /* carries an HTTP/2 session, no request of its own */
    UP_CLOSED,
    UP__COUNT
};

struct up_conn;
/* What the exchange hears. After failed(), or when the exchange itself calls up_release() or
 * up_abort(), nothing more comes. */
struct up_events {
    /* the request has begun to go out; its body may follow */
    void (*connected)(void *user);
    /* Before connected(): the request goes on with another up_conn, the one of up_acquire() has
     * gone (the server chose HTTP/1.1 where HTTP/2 was hoped for). */
    void (*moved)(void *user, struct up_conn *to);
    /* 1xx, not 101; negative: the connection was given up */
    int (*interim)(void *user, const struct http_response *r);
    /* r is valid until the data() that follows before anything else is heard, and for good when
     * up_conn.head_lasts says so; negative as above */
    int (*head)(void *user, const struct http_response *r);
    /* Decoded body bytes (n may be 0 right after the head), valid for the call. end: the answer is
     * complete. 1: pause reading until up_resume(); what was under way on an HTTP/2 session still
     * comes, at most a stream's window. Negative: the connection was given up or released. */
    int (*data)(void *user, const char *p, size_t n, bool end, const struct http_field *trailer,
                size_t ntrailer);
    /* Body bytes went into the pipe given to up_splice(); returns as data(). */
    int (*piped)(void *user, size_t n, bool end);
    /* queued request bytes have gone: more may come */
    void (*drained)(void *user);
    /* positive enum err; the connection is gone */
    void (*failed)(void *user, int err);
};
struct up_timeouts {
    uint64_t connect, first_byte, read, send, tunnel; /* ms */
};

/* What a protocol does for up.c. The request's fields are set and the state is UP_REQUEST when
 * begin() is called. */
struct up_proto {
    int (*begin)(struct up_conn *c);
    int (*send)(struct up_conn *c, const char *p, size_t n, bool end,
                const struct http_field *trailer, size_t ntrailer);
    void (*resume)(struct up_conn *c);
    /* request bytes that are not with the kernel yet */
    size_t (*backlog)(const struct up_conn *c);
    /* time is up in UP_REQUEST: true when bytes went out since it was armed */
    bool (*moving)(struct up_conn *c);
    void (*release)(struct up_conn *c);
    /* c is closed: its part of it */
    void (*close)(struct up_conn *c);
};
struct up_h2;
struct up_conn {
    struct link link; /* of an HTTP/2 stream: not used, fd -1 */
    union {
        struct timer timer;
        struct loop_corpse corpse;
    };
    const struct up_proto *proto;
    struct up_server *server;
    const struct up_events *events;
    void *user;
    struct list node; /* server's idle list, or upstreams.busy */
    struct outq out;
    char *in; /* a head that is still incomplete */
    uint32_t in_n, in_cap;
    size_t scan;
    const struct up_timeouts *timeouts;
    /* request head not yet given to the kernel; the exchange keeps its bytes */
    struct slice head;
    uint64_t left; /* answer body bytes still to come (LENGTH) */
    struct h1_chunk chunk;
    struct pipe *pipe;   /* the rest of the body goes through it, uncopied */
    struct arena *arena; /* of the exchange, for trailers */
    /* HTTP/2: see h2.c */
    struct up_h2 *session; /* the session it belongs to, as a stream or as its carrier */
    struct list sibling;   /* its streams, or those that wait for it */
    struct list holding, ending;
    const char *held; /* of the answer, until the read that brought it is over */
    size_t nheld;
    uint64_t given, gone; /* request body bytes: taken; that had left when last looked at */
    size_t unconsumed;    /* answer bytes that the exchange has not dealt with */
    int32_t id;
    uint8_t moves; /* sessions waited for in vain */
    bool opened;
    bool backed; /* drained() is owed */
    bool told;   /* data() was called */
    /* attempt began; request complete; first byte of the answer */
    uint64_t began_us, sent_us, first_us;
    uint64_t connected_us;
    uint64_t idle_since;
    uint64_t bytes_in, bytes_out; /* of this request */
    /* By the requests before it. With TLS: what the server had acknowledged of the ciphertext, less
     * the SYN, when that was asked for; else 0. */
    uint64_t sent_before;
    uint32_t requests;
    uint32_t allowed_idle_ms; /* from Keep-Alive: timeout=N; 0 = not said */
    enum http_method method;
    enum http_framing framing; /* of the answer */
    enum http_framing request_framing;
    uint8_t state;
    uint8_t interims;
    bool reused, paused, persistent, answered, event_stream, eof;
    bool request_done; /* all of it is with the kernel */
    bool request_end;  /* its end is in `out` */
    bool send_broken;  /* the server takes no more; its answer may still come */
    bool got_head, shut_after;
    bool half;       /* tunnel: the client finished sending */
    bool slow;       /* the client did not keep up with this answer */
    bool head_lasts; /* the answer's head lies in the arena */
};

enum {
    UP_FRESH = 1, /* not one that may have died unnoticed: the last one did */
    UP_CHECK = 2, /* dying on the way could not be made good: look before use */
    UP_HTTP1 = 4  /* the request cannot be said in HTTP/2 */
};
/* A place for a request: on a pooled connection or a session, or a new one. NULL with *ret_err
 * (negative). up_begin() or up_abort() follows. */
struct up_conn *up_acquire(struct up_server *s, unsigned flags, int *ret_err);
struct up_request {
    struct slice head; /* HTTP/1 text */
    enum http_method method;
    enum http_framing framing; /* of the request body */
    const struct up_timeouts *timeouts;
    struct arena *arena;
    const struct up_events *events;
    void *user;
};
/* Begins a request on it. With a body the head waits for the first up_send() or up_flush(). 0, or
 * negative: the connection is of no use, up_abort() follows and no event. */
int up_begin(struct up_conn *c, const struct up_request *r);
/* Body bytes; all are taken. 0, 1 = backed up (wait for drained()), negative = the connection is
 * gone (no event follows). */
int up_send(struct up_conn *c, const char *p, size_t n, bool end, const struct http_field *trailer,
            size_t ntrailer);
int up_flush(struct up_conn *c);
void up_resume(struct up_conn *c);
/* The exchange is over: back to the pool when the answer was complete and both sides agree, else
 * closed. */
void up_release(struct up_conn *c);
void up_abort(struct up_conn *c);
/* The deadline of whatever is being waited for, re-armed by the exchange when it changes its mind
 * (event streams). */
void up_rearm(struct up_conn *c);

/* ---- HTTP/1 only ---- */

/* A tunnel's connection from another worker: fd is ours on success. NULL: no memory, or epoll
 * refused. */
struct up_conn *up_adopt(struct up_server *s, int fd);
void up_take_tunnel(struct up_conn *c, const struct up_timeouts *t, const struct up_events *ev,
                    void *user);
/* From data() only: the rest of a body of known length goes through the pipe (the exchange's).
 * False: not worth it or not possible. */
bool up_splice(struct up_conn *c, struct pipe *p);
/* Is there enough left of a body for it? */
bool up_spliceable(const struct up_conn *c);
/* After the peer's end in a tunnel. */
void up_shutdown(struct up_conn *c);

#endif
