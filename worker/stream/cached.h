/* An exchange on a route with a cache, between the files of this folder only: cached.c (what is
 * looked up and decided), cached_read.c (bytes of the store to the client), cached_coded.c (encoded
 * copies), cached_fill.c (the server's answer into the store), cached_own.c (exchanges without a
 * client, purges), cached_query.c (content of requests that is part of their keys). */
#ifndef WORKER_STREAM_CACHED_H
#define WORKER_STREAM_CACHED_H

#include "worker/cache/cache.h"
#include "worker/cache/stored.h"
#include "worker/cache/update.h"
#include "worker/http/range.h"
#include "worker/stream/stream.h"

#define CACHED_RETRY UINT32_MAX /* outcome of a fill: look it up again */
#define CACHED_LOOKS 4u         /* looks at the store per exchange */

/* What becomes of the server's answer. */
enum cached_verdict {
    CACHED_PASS,    /* it goes through */
    CACHED_STORE,   /* into the store; the client reads it there */
    CACHED_DIRECT,  /* the store took no more: the client gets the rest from the server */
    CACHED_CONFIRM, /* a 304 for us: what is stored is served */
    CACHED_RESUME   /* the rest of what another began: goes on behind what the client has */
};
/* What it was, for logs and numbers. */
enum cached_word {
#define CACHED_WORDS(X)                                                                            \
    X(NONE, "-")                                                                                   \
    X(HIT, "hit")                                                                                  \
    X(MISS, "miss")                                                                                \
    X(STALE, "stale")                                                                              \
    X(REVALIDATED, "revalidated")                                                                  \
    X(COLLAPSED, "collapsed")                                                                      \
    X(BYPASS, "bypass")                                                                            \
    X(PASS, "pass")
#define X(id, text) CACHED_WAS_##id,
    CACHED_WORDS(X)
#undef X
        CACHED_WAS__COUNT
};

/* A client's answer that is made of ranges. */
struct cached_parts {
    struct range_set set;
    unsigned i; /* part that is being sent; set.n: behind the last */
    char boundary[RANGE_BOUNDARY_LEN];
    struct slice type;
    uint64_t size;
    bool multi;
};

struct cached {
    struct stream *s;
    struct cache_store *store;
    const struct cache_rules *rules;
    struct cache_waiter waiter;
    struct policy_request q;
    struct cache_target target;
    struct cache_key primary, key;
    struct cache_hit hit;       /* word 0: none */
    struct cache_follow follow; /* while following */
    struct cache_fill fill;     /* while filling */
    struct cache_fill copy;     /* while copying: what the client gets encoded */
    /* reading */
    uint64_t at, to;            /* next byte for the client; where to stop, UINT64_MAX: the end */
    uint64_t size;              /* of the body, CACHE_UNKNOWN while it arrives */
    struct cached_parts *parts; /* NULL: one run of bytes */
    struct slice text;          /* goes out before the next bytes */
    struct buf rest;            /* DIRECT: of the server's, behind what is stored */
    char *kept;                 /* of a hit whose slab was wanted back */
    /* what stands in the store and is being validated */
    struct http_response old; /* field NULL: none */
    uint64_t seen;
    struct slice target_text; /* as servers get it; .p NULL: the request's own */
    struct slice etag;        /* strong, of what arrives: for If-Range */
    int64_t asked_s;
    int64_t ttl, age;
    uint64_t resume_at;
    uint64_t rest_left;      /* bytes from there that are to come; UINT64_MAX: not known */
    uint64_t bytes;          /* given to the client from the store */
    uint64_t born;           /* count of purges when it began to follow */
    uint16_t answer_status;  /* the server's */
    uint32_t outcome_status; /* of the server, when it is not the client's */
    uint8_t verdict, word, looks;
    uint8_t fwd;    /* enum cache_status_fwd */
    uint8_t detail; /* enum policy_reason */
    bool filling, following, reading, copying;
    bool open;        /* a fill for all: others may follow */
    bool asks;        /* the request is made for the store: without the client's conditions */
    bool client_asks; /* it had conditions or ranges that the server was not told */
    bool started;     /* the head has gone */
    bool stale_ok;    /* when servers fail */
    bool stored, collapsed, revalidated, vary_known;
    bool rest_end;
    bool resumed; /* once is enough */
};

/* Whose purges concern it. */
static inline struct cache_scope cached_scope(const struct cached *c)
{
    return (struct cache_scope){
        .site = c->target.site, .names = cache_target_names, .arg = &c->target};
}

/* cached.c */

/* After routing. True: it is being answered from the store, or waits; else fetch_begin(). */
bool cached_begin(struct stream *s);
/* A query (.p NULL: none) as servers get it, without what does not count; in the arena if that is
 * another one. */
struct slice cached_sent(struct stream *s, struct slice query);
/* As the names of what is stored have it: none where it is not in the key. */
static inline struct slice cached_named(struct stream *s, struct slice query)
{
    return s->cached->rules->key.query ? cached_sent(s, query) : SLICE_NONE;
}
/* The request is complete as far as its key goes: looks it up, or fetches what has none. */
void cached_keyed(struct stream *s);
/* Of no use to this request, which goes on; Cache-Status says why. False. */
bool cached_not(struct cached *c, enum cache_status_fwd why, enum cached_word word);
/* The answer for this request in c->hit, fresh or not: 1, or 0; -ERR_RANGE: it has no key. */
int cached_find(struct stream *s);
/* Looks it up (again): serves it, follows, or fetches. */
void cached_look(struct stream *s);
/* Goes to a server: asks for the store (fill is open or private), or as the client asked. */
void cached_fetch(struct stream *s);
/* A server failed. True: a stale answer is on its way, or the client's answer was ended. */
bool cached_on_error(struct stream *s, int err);
void cached_on_timer(struct stream *s);
/* The exchange is over: gives back what it holds of the store, and counts. */
void cached_end(struct stream *s);
/* The Cache-Status line (with CR LF), and Age when it is to be told; appended. */
void cached_lines(struct stream *s, struct head_out *o);
/* The same for an answer that goes through: in the arena. */
struct slice cached_pass_lines(struct stream *s);
/* Words for the log. */
struct slice cached_word(const struct stream *s);
/* Seconds; -1: it is not from the store. */
int64_t cached_age(const struct stream *s);
/* Stale: serves what is stored all the same; false: it is gone. */
bool cached_serve_stale(struct stream *s, enum cached_word word);

/* cached_read.c */

/* The store has what the client may have: head and as much of the body as there is. */
void cached_answer(struct stream *s);
/* Goes on with it. */
void cached_pump(struct stream *s);
/* An arriving object has changed. */
void cached_on_wake(struct cache_waiter *w);
static inline bool cached_reading(const struct stream *s)
{
    return s->cached && s->cached->reading;
}

/* cached_coded.c */

/* Before anything of a stored answer has gone: is its body to go out encoded? True: it will be, its
 * copy having taken its place in c->hit, or with an encoder in the way (c->size is
 * CACHE_UNKNOWN, the bytes to read are not); the head is in o, but for own lines. False: it goes
 * out as it is; *ret_vary: and others may get something else. */
bool cached_coded(struct stream *s, const struct stored *st, struct head_out *o, bool *ret_vary);
/* Nothing more of it will come: what was copied so far is dropped. */
void cached_copy_end(struct cached *c);
/* What was found was renewed. */
void cached_coded_renew(struct stream *s, const struct cache_hit *was);

/* cached_fill.c */

/* The server's head. 0: it goes through; 1: it is for the store, data follows; negative: the
 * connection was given up, or the exchange is over. */
int cached_on_head(struct stream *s, const struct http_response *r);
/* Its data is for cached_on_data() */
static inline bool cached_takes(const struct stream *s)
{
    return s->cached && s->cached->verdict != CACHED_PASS;
}
int cached_on_data(struct stream *s, const char *p, size_t n, bool end);
/* The request as the server gets it. */
int cached_request(struct stream *s, struct http_request *r, struct slice *ret_target);
void cached_fill_end(struct cached *c, bool pass, uint32_t outcome);
/* Of an orphaned arrival: goes on with it. 1: this exchange does, or is over; 0: another one does;
 * -ERR_NOENT: nobody can. */
int cached_take_over(struct stream *s);
/* The client has a part, and the store no more of it: the arrival failed, or what is stored is
 * damaged. Asks for the rest; false: that cannot be had. */
bool cached_resume(struct stream *s);

/* cached_query.c */

/* A QUERY with content: true, it is being read, or goes through because it is too large. */
bool cached_query(struct stream *s);
/* For stream_body() in STREAM_COLLECT; returns as that does. At the end it may be over after 0. */
int cached_query_body(struct stream *s, const char *p, size_t n, bool end);

/* cached_own.c */

/* Others, or the store, want the rest although the client is gone or has all it wants. */
bool cached_outlives(const struct stream *s);
/* Lets the client go: it is counted and logged now. */
void cached_detach(struct stream *s, int err);
/* Fetches it anew for the store alone. */
void cached_background(struct stream *s);
/* A request with the method PURGE: true when it was answered. */
bool cached_purge(struct stream *s);
/* An unsafe request was answered (RFC 9111 4.4). */
void cached_invalidate(struct stream *s, const struct http_response *r);
/* Ends all exchanges without a client (the worker goes). */
void cached_drop_all(struct stream_env *e);

#endif
