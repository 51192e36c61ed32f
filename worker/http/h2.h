/* HTTP/2 connections without I/O (RFC 9113, HPACK RFC 7541): bytes in, events out, frames out.
 * Behind it is nghttp2, whose types stay in h2*.c. Both sides: rpd as the server of clients and as
 * the client of servers. Heads towards the peer are given as the HTTP/1 text that forward.h writes
 * and are translated here, so that one place decides what is forwarded. */
#ifndef WORKER_HTTP_H2_H
#define WORKER_HTTP_H2_H

#include "worker/http/http.h"

#include <sys/types.h>

enum h2_side { H2_SERVER, H2_CLIENT };
/* Error codes of RFC 9113 7 that callers use. */
enum {
    H2_NO_ERROR = 0,
    H2_PROTOCOL_ERROR = 1,
    H2_INTERNAL_ERROR = 2,
    H2_REFUSED_STREAM = 7,
    H2_CANCEL = 8,
    H2_ENHANCE_YOUR_CALM = 11,
    H2_HTTP_1_1_REQUIRED = 13
};

struct h2_limits {
    uint32_t max_streams;   /* SETTINGS_MAX_CONCURRENT_STREAMS we announce */
    uint32_t stream_window; /* our initial receive window per stream: 65536 */
    uint32_t conn_window;   /* our receive window of the connection */
    uint32_t stream_most;   /* what a stream's may grow to; 0: conn_window */
    uint32_t max_line;      /* method, :path and :authority together; else ERR_URI_TOO_LONG */
    uint32_t max_field, max_head, max_fields; /* else ERR_HEAD_TOO_LARGE */
    uint32_t queue;        /* body bytes kept per stream before h2_data() says 1 */
    bool connect_protocol; /* RFC 8441 */
};

struct h2;
/* What happens on the connection. `stream` is what request() returned or h2_open() was given. None
 * may call h2_free(); all other functions may be called from within. */
struct h2_events {
    /* SERVER. A whole, sound request head; its slices are valid for the call. end: no body
     * follows. Extended CONNECT with :protocol websocket arrives as GET with has_upgrade,
     * upgrade = "websocket" and a Sec-WebSocket-Key of its own; its answer's 101 becomes 200. NULL
     * refuses the stream (REFUSED_STREAM; safe for the client to repeat). */
    void *(*request)(void *user, int32_t id, const struct http_request *r, bool end);
    /* SERVER. A head that is not sound: err says why (ERR_BAD_FIELD, ERR_HEAD_TOO_LARGE, ...).
     * What was understood is in r (method_text, path may be empty). Like request(): the owner
     * answers it, or returns NULL and the stream is reset with PROTOCOL_ERROR. */
    void *(*malformed)(void *user, int32_t id, int err, const struct http_request *r, bool end);
    /* CLIENT. A head of an answer, 1xx included; valid for the call. end: nothing follows. */
    void (*response)(void *user, void *stream, const struct http_response *r, bool end);
    /* Body bytes, a part of h2_input()'s; the peer may send as many more once h2_consume() was
     * called for them. */
    void (*data)(void *user, void *stream, const char *p, size_t n);
    /* The peer finished its side, with these trailers. */
    void (*end)(void *user, void *stream, const struct http_field *trailer, size_t n);
    /* The stream's queue has run low after h2_data() said 1. SERVER: also when the end of an answer
     * has gone and the client's side is not at its end yet (else closed() says so). */
    void (*drained)(void *user, void *stream);
    /* The last call for a stream, whoever ended it. err 0: both sides finished; else why, as a
     * positive enum err: SERVER: ERR_CLIENT_RESET, ERR_BAD_REQUEST (it broke the rules); CLIENT:
     * ERR_UP_REFUSED (surely not acted upon), ERR_UP_STREAM_RESET, ERR_UP_H2. */
    void (*closed)(void *user, void *stream, int err);
    /* The peer sent GOAWAY: no new streams here (CLIENT); those above `last` are closed with
     * ERR_UP_REFUSED. */
    void (*goaway)(void *user, int32_t last, uint32_t code);
    /* The answer to h2_ping(). */
    void (*pong)(void *user);
    /* SERVER. Something that costs us and that honest clients seldom do: a reset from either side,
     * an empty DATA or HEADERS frame, PING, SETTINGS, PRIORITY, a tiny WINDOW_UPDATE, CONTINUATION
     * ... points. false: enough; the connection ends with ENHANCE_YOUR_CALM. */
    bool (*misbehaved)(void *user, uint32_t points);
    /* Output is waiting where none was: collect it with h2_output(), best at the end of the turn.
     */
    void (*dirty)(void *user);
};

/* -ERR_NOMEM. The limits are copied. SETTINGS are queued for output (for a SERVER after the
 * client's preface may come in either order). */
int h2_new(enum h2_side side, const struct h2_limits *lim, const struct h2_events *ev, void *user,
           struct h2 **ret);
void h2_free(struct h2 **h); /* closed() is called for every open stream (CLIENT_CLOSED/UP_RESET) */
/* Bytes from the peer, all are taken. 0; -ERR_H2_PROTO, -ERR_H2_ABUSE (SERVER), -ERR_UP_H2
 * (CLIENT): the connection is to be closed once its output (GOAWAY) has gone; -ERR_NOMEM. Some
 * errors show only when their GOAWAY is collected: h2_error(). */
int h2_input(struct h2 *h, const char *p, size_t n);
/* Why the connection is at its end, as h2_input() returns it; 0 it is not, or in all peace. */
int h2_error(const struct h2 *h);
/* Frames to send, up to cap (>= 16393 bytes) into p. Returns bytes; 0 nothing left. -ERR_NOMEM. */
ssize_t h2_output(struct h2 *h, char *p, size_t cap);
bool h2_wants_output(const struct h2 *h);
/* Nothing more will be sent or expected: the connection failed and that was said, or one side said
 * GOAWAY and no stream is open. */
bool h2_finished(const struct h2 *h);
uint32_t h2_streams(const struct h2 *h); /* open ones */
/* A block of fields has begun and is not complete. */
bool h2_in_head(const struct h2 *h);
/* A client's PRIORITY_UPDATE and priority field are obeyed inside (RFC 9218). */

/* SERVER. A head for the stream: HTTP/1 text "HTTP/1.1 200 OK\r\n...\r\n\r\n" (1xx: more follow).
 * Connection fields and Transfer-Encoding are dropped. websocket: 101 becomes 200. end: no body and
 * no trailers. 0; -ERR_NOENT the stream is gone; -ERR_NOMEM. */
int h2_answer(struct h2 *h, int32_t id, struct slice head, bool end);
/* CLIENT. Opens a stream: HTTP/1 text of a request, its Host becomes :authority. scheme: "https" or
 * "http". The id, -ERR_FULL (no stream free: see h2_room()), -ERR_EOF (GOAWAY), -ERR_NOMEM. */
int32_t h2_open(struct h2 *h, struct slice head, struct slice scheme, bool end, void *stream);
/* CLIENT. Streams that the server still lets us open. */
uint32_t h2_room(const struct h2 *h);
/* Body bytes; all are taken (copied). 0; 1 the queue is long: drained() follows; -ERR_NOENT,
 * -ERR_NOMEM. end: with its trailers, which are the last. */
int h2_data(struct h2 *h, int32_t id, const char *p, size_t n, bool end,
            const struct http_field *trailer, size_t ntrailer);
/* Bytes queued that the peer's windows or our output have not let go yet. */
size_t h2_queued(const struct h2 *h, int32_t id);
/* Bytes that the peer lets us send now on the stream; id 0: on the connection. */
size_t h2_window(const struct h2 *h, int32_t id);
/* The owner has dealt with n body bytes: opens the windows again. */
void h2_consume(struct h2 *h, int32_t id, size_t n);
/* Ends the stream at once; what is queued for it is dropped; closed() follows from h2_output() or
 * h2_input() at the latest. */
void h2_reset(struct h2 *h, int32_t id, uint32_t code);
/* last = false: "no new ones, please" (2^31-1); true: with the last stream seen. */
void h2_goaway(struct h2 *h, bool last, uint32_t code);
int h2_ping(struct h2 *h); /* pong() follows */
/* Another user pointer for a stream; NULL: its events are no longer told (data is consumed). */
void h2_set_stream(struct h2 *h, int32_t id, void *stream);
/* "nghttp2 1.52.0" */
const char *h2_library(void);

#endif
