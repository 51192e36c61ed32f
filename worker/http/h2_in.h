/* An HTTP/2 connection between its files: h2.c (begin and end, streams, windows), h2_receive.c
 * (what comes in), h2_message.c (the same as requests and answers), h2_send.c (what goes out),
 * h2_memory.c (nghttp2's memory). The only header in which nghttp2's types appear. */
#ifndef WORKER_HTTP_H2_IN_H
#define WORKER_HTTP_H2_IN_H

#include "base/list.h"
#include "worker/http/h2.h"
#include "worker/http/h2_abuse.h"
#include "worker/http/h2_head.h"
#include "worker/http/h2_queue.h"
#include "worker/http/h2_walk.h"

#include <nghttp2/nghttp2.h>

struct h2_stream {
    struct list node;  /* h2.streams */
    struct list drain; /* h2.drained */
    void *user;
    int32_t id;
    int err; /* why we reset it, as closed() tells it */
    struct h2_queue out;
    struct http_field *trailer; /* one piece of memory with its texts */
    size_t ntrailer;
    uint64_t in_left; /* with has_length: content that is missing */
    size_t unconsumed;
    uint64_t taken; /* consumed since the window grew last */
    uint32_t window;
    enum http_method method; /* CLIENT */
    bool has_length, websocket;
    bool unsent;    /* CLIENT: its HEADERS wait in nghttp2 */
    bool head;      /* the final head: SERVER given, CLIENT received */
    bool got_end;   /* the peer finished its side */
    bool ended;     /* ours is finished, as soon as the queue has gone */
    bool deferred;  /* nghttp2 was told that there is nothing to send */
    bool full;      /* drained() is owed */
    bool own_reset; /* RST_STREAM is queued */
    bool leaving;   /* RST_STREAM follows END_STREAM: queued before it would overtake the answer */
    bool sent_end;
    bool peer_reset;
};
struct h2 {
    nghttp2_session *session;
    enum h2_side side;
    struct h2_limits lim;
    struct h2_events ev;
    void *user;
    struct list streams, drained;
    uint32_t nstreams, nunsent;
    struct h2_head *head; /* while a block of fields arrives */
    char *out;            /* where output goes while it is collected */
    size_t out_n, out_cap;
    const uint8_t *rest; /* of a frame that did not fit */
    size_t nrest;
    int err;
    struct h2_abuse abuse;
    struct h2_walk walk; /* SERVER */
    uint32_t excused;    /* resets to come that are for want of memory */
    uint8_t urgency;
    bool incremental, prioritised;
    bool dirty, busy, peer_goaway, greeted;
    bool dead; /* memory ran out within nghttp2: its session is not to be touched */
};

/* h2.c */

/* The open stream, or NULL. */
struct h2_stream *h2_find(const struct h2 *h, int32_t id);
struct h2_stream *h2_stream_new(struct h2 *h); /* NULL: out of memory */
void h2_stream_free(struct h2 *h, struct h2_stream *s);
/* Tells the owner when there is output where none was. */
void h2_touch(struct h2 *h);
/* The connection is at its end: GOAWAY with that code is the last thing it says. */
void h2_fail(struct h2 *h, int err, uint32_t code);
/* Memory ran out within nghttp2. */
void h2_die(struct h2 *h);
int h2_proto_error(const struct h2 *h); /* the peer's fault, as h2_error() says it */
int h2_code(int rc);                    /* what nghttp2 returned: 0, -ERR_NOMEM, -ERR_NOENT */
/* Points of misbehaviour that are due. False when it was enough: the connection has failed. */
bool h2_points(struct h2 *h, uint32_t points);
bool h2_misbehaved(struct h2 *h, enum h2_abuse_kind kind);
/* The peer broke the rules on this stream: err is what closed() says. */
void h2_break(struct h2 *h, struct h2_stream *s, int err);

/* h2_receive.c */

void h2_receive_callbacks(nghttp2_session_callbacks *c);
/* By what the client said with the head that is being read (RFC 9218). */
void h2_prioritise(struct h2 *h, int32_t id);
void h2_head_give(struct h2 *h); /* the block of fields is no longer needed */

/* h2_memory.c */

void h2_memory_setup(void); /* once */
extern const nghttp2_mem h2_memory;

/* h2_send.c */

void h2_send_callbacks(nghttp2_session_callbacks *c);

/* h2_message.c */

/* The block of fields h->head is complete. */
void h2_message_head(struct h2 *h, struct h2_stream *s, bool end);
/* False: these body bytes may not be; the stream is broken. */
bool h2_message_data(struct h2 *h, struct h2_stream *s, const char *p, size_t n);
void h2_message_end(struct h2 *h, struct h2_stream *s, const struct http_field *trailer, size_t n);
/* Why a stream ended with that code of RFC 9113 7, as closed() says it. */
int h2_message_reason(const struct h2 *h, const struct h2_stream *s, uint32_t code);

#endif
