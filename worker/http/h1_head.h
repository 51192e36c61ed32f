/* HTTP/1 heads, strictly (RFC 9112): parsed once, when complete, into slices of the caller's buffer. */
#ifndef WORKER_HTTP_H1_HEAD_H
#define WORKER_HTTP_H1_HEAD_H

#include "worker/http/http.h"

struct h1_limits {
    uint32_t max_line, max_field, max_head, max_fields;
};

/* Looks for the end of a head (CR LF CR LF) in p[0..n). *scan is where the last look ended (start with 0; resumable).
 * Returns the head's size including the empty line, -ERR_AGAIN while incomplete and within limits, -ERR_URI_TOO_LONG,
 * -ERR_HEAD_TOO_LARGE, or -ERR_BARE_LF as soon as a bare LF is seen (so that a request that can never complete is refused at once).
 * `leading`: up to one empty line before a request is skipped (RFC 9112 2.2): its size in *ret_skip. */
int64_t h1_head_end(const char *p, size_t n, const struct h1_limits *lim, bool request, size_t *scan, size_t *ret_skip);

/* Parses a complete request head (without a skipped leading empty line). field: room for lim->max_fields entries.
 * Body framing, Host, Connection, Upgrade, Expect and TE are decided here and nowhere else. 0 or a negative ERR_ of source CLIENT.
 * On errors *r holds what was understood so far (method_text, target), for the log. */
int h1_parse_request(const char *p, size_t n, const struct h1_limits *lim, struct http_field *field, struct http_request *r);

/* Parses an answer's head; method is the request's (HEAD and framing; RFC 9112 6.3). -ERR_UP_BAD_HEAD on anything ambiguous. */
int h1_parse_response(const char *p, size_t n, const struct h1_limits *lim, enum http_method method, struct http_field *field,
                      struct http_response *r);

#endif
