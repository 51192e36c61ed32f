/* An HTTP/2 connection between its files: h2.c (frames, windows, output: nghttp2's door),
 * h2_message.c (what has come, as requests and answers). */
#ifndef WORKER_HTTP_H2_IN_H
#define WORKER_HTTP_H2_IN_H

#include "base/list.h"
#include "worker/http/h2.h"
#include "worker/http/h2_abuse.h"
#include "worker/http/h2_head.h"
#include "worker/http/h2_queue.h"
#include "worker/http/h2_walk.h"

struct nghttp2_session;

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
    struct nghttp2_session *session;
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

/* The peer broke the rules on this stream: err is what closed() says. */
void h2_break(struct h2 *h, struct h2_stream *s, int err);
/* False when it was enough: the connection has failed. */
bool h2_misbehaved(struct h2 *h, enum h2_abuse_kind kind);
/* By what the client said with the head that is being read (RFC 9218). */
void h2_prioritise(struct h2 *h, int32_t id);

/* h2_message.c */

/* The block of fields h->head is complete. */
void h2_message_head(struct h2 *h, struct h2_stream *s, bool end);
/* False: these body bytes may not be; the stream is broken. */
bool h2_message_data(struct h2 *h, struct h2_stream *s, const char *p, size_t n);
void h2_message_end(struct h2 *h, struct h2_stream *s, const struct http_field *trailer, size_t n);
/* Why a stream ended with that code of RFC 9113 7, as closed() says it. */
int h2_message_reason(const struct h2 *h, const struct h2_stream *s, uint32_t code);

#endif
