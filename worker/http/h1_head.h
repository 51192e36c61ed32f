/* HTTP/1 heads, strictly (RFC 9112): parsed once, when complete, into slices of the caller's
 * buffer. */
#ifndef WORKER_HTTP_H1_HEAD_H
#define WORKER_HTTP_H1_HEAD_H

#include "worker/http/http.h"

struct h1_limits {
    uint32_t max_line, max_field, max_head, max_fields;
};

/* Looks for the end of a head (CR LF CR LF) in p[0..n). *scan is where the last look ended (start
 * with 0; resumable). Returns the head's size including the empty line, -ERR_AGAIN while incomplete
 * and within limits, -ERR_URI_TOO_LONG, -ERR_HEAD_TOO_LARGE, -ERR_BARE_LF or -ERR_BAD_LINE as soon
 * as a bare LF or an impossible first byte is seen (so that a request that can never complete is
 * refused at once). Up to one empty line before a request is skipped (RFC 9112 2.2): its size, 0 or
 * 2, in *ret_skip; the head is then p[skip .. skip + returned). Answers: -ERR_UP_BAD_HEAD,
 * -ERR_UP_HEAD_TOO_LARGE instead. Lines are measured without their CR LF; max_head includes the
 * empty line. */
int64_t h1_head_end(const char *p, size_t n, const struct h1_limits *lim, bool request,
                    size_t *scan, size_t *ret_skip);

/* Parses a complete request head (without a skipped leading empty line). field: room for
 * lim->max_fields entries (at most HTTP_FIELDS_MAX are used). Body framing, Host, Connection,
 * Upgrade, Expect and TE are decided here and nowhere else. 0 or a negative ERR_ of source CLIENT.
 * On errors *r holds what was understood so far (method_text, target), for the log.
 * -ERR_METHOD_REFUSED (TRACE, CONNECT) is returned only when all the rest is in order: the request
 * is then complete in *r. */
int h1_parse_request(const char *p, size_t n, const struct h1_limits *lim, struct http_field *field,
                     struct http_request *r);

/* Parses an answer's head; method is the request's (HEAD and framing; RFC 9112 6.3).
 * -ERR_UP_BAD_HEAD on anything ambiguous. -ERR_UP_HEAD_TOO_LARGE for max_field and max_fields. */
int h1_parse_response(const char *p, size_t n, const struct h1_limits *lim, enum http_method method,
                      struct http_field *field, struct http_response *r);

#endif
