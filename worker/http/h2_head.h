/* Heads of HTTP/2 (RFC 9113 8.2, 8.3), strictly: a block of fields that arrives one by one becomes
 * the request or the answer that an HTTP/1 head would have become, or is refused; heads written as
 * HTTP/1 text become lists of fields. No I/O, no frames. */
#ifndef WORKER_HTTP_H2_HEAD_H
#define WORKER_HTTP_H2_HEAD_H

#include "worker/http/h2.h"

enum h2_head_kind { H2_HEAD_REQUEST, H2_HEAD_RESPONSE, H2_HEAD_TRAILER };
enum h2_head_pseudo {
    H2_PSEUDO_METHOD,
    H2_PSEUDO_SCHEME,
    H2_PSEUDO_AUTHORITY,
    H2_PSEUDO_PATH,
    H2_PSEUDO_PROTOCOL, /* RFC 8441 */
    H2_PSEUDO_STATUS,
    H2_PSEUDO__COUNT
};
struct h2_head_line {
    uint32_t at, name, value; /* "name: value CR LF" at `at` of the text; the two lengths */
};
/* A block while it arrives. Its memory is kept from one block to the next until h2_head_fini(). */
struct h2_head {
    char *p; /* values of pseudo-header fields and lines, as an HTTP/1 head has them */
    uint32_t n, cap;
    struct h2_head_line *line;
    uint32_t nline, line_cap;
    uint32_t line_size; /* of the pseudo-header fields' values: what a request line would hold */
    struct {
        uint32_t at, n;
    } pseudo[H2_PSEUDO__COUNT];
    uint64_t size; /* of all that came, also of what was not kept; lines with ": " and CR LF */
    uint8_t kind;
    uint8_t seen; /* bit = enum h2_head_pseudo */
    bool regular; /* a field that is no pseudo-header field came */
    bool cookies; /* more than one Cookie field */
    bool host;    /* a Host field came */
    int err;      /* why the block is not sound: the first reason, negative */
};

/* Begins a block in *h, which is zeroed or has served before. */
void h2_head_begin(struct h2_head *h, enum h2_head_kind kind);
void h2_head_fini(struct h2_head *h); /* frees the memory */
/* One field. Nothing is returned: h->err tells, and from then on only what a log wants is kept, so
 * that a block that expands to much costs its limit and no more. */
void h2_head_add(struct h2_head *h, const struct h2_limits *lim, struct slice name,
                 struct slice value);

/* The block is complete. end: END_STREAM was set. key: the Sec-WebSocket-Key to use when it is a
 * WebSocket's (RFC 8441). field: room for HTTP_FIELDS_MAX + 2. Slices of *r point into the block
 * (key excepted). 0 or a negative ERR_ of source CLIENT; then *r holds what was understood
 * (method_text, target, path; empty else). */
int h2_head_request(struct h2_head *h, const struct h2_limits *lim, bool end, struct slice key,
                    struct http_field *field, struct http_request *r);
/* The answer to a request with that method. 0, -ERR_UP_BAD_HEAD, -ERR_UP_HEAD_TOO_LARGE,
 * -ERR_NOMEM. */
int h2_head_response(struct h2_head *h, enum http_method method, bool end, struct http_field *field,
                     struct http_response *r);
/* Those that a trailer section may bring, as h1_chunk_trailers(). Their number, -ERR_BAD_TRAILER,
 * -ERR_NOMEM. */
int h2_head_trailers(struct h2_head *h, struct http_field *field, size_t max);

/* A copy of the request in the arena, slices included. -ERR_NOMEM. */
struct arena;
int h2_head_keep(struct arena *a, const struct http_request *r, struct http_request *ret);

/* Urgency and incremental of a Priority field (RFC 9218 4). false: it says neither, or is
 * malformed. What it does not say is the default: 3, false. */
bool h2_head_priority(struct slice value, unsigned *ret_urgency, bool *ret_incremental);

struct h2_pair {
    struct slice name, value;
    uint8_t
        id; /* enum http_field_id: the name is http_field_name()'s. FIELD_UNKNOWN, which
               pseudo-header fields are, too: it may have capitals, the frame writer lowers it */
};
/* The fields of "HTTP/1.1 200 OK CR LF ... CR LF CR LF", :status first. websocket: 101 becomes 200,
 * and another 2xx, which would be taken for a tunnel, 502. Their number; -ERR_FULL (more than max),
 * -ERR_INVAL (no head). *ret_status may be NULL. */
int h2_head_answer(struct slice text, bool websocket, struct h2_pair *out, size_t max,
                   unsigned *ret_status);
/* The fields of "GET / HTTP/1.1 CR LF Host: ... CR LF CR LF". */
int h2_head_ask(struct slice text, struct slice scheme, struct h2_pair *out, size_t max,
                struct slice *ret_method);

#endif
