/* Conditional requests (RFC 9110 13), evaluated against the validators of a stored or own answer.
 */
#ifndef WORKER_HTTP_CONDITIONS_H
#define WORKER_HTTP_CONDITIONS_H

#include "worker/http/http.h"

/* What the selected representation says of itself. */
struct conditions_validators {
    struct slice etag; /* as sent; .n 0: none */
    int64_t modified;  /* Last-Modified; when there is none, Date or the time of receipt (RFC 9111
                        * 4.3.2), with has_modified false */
    int64_t date;      /* Date, or the time of receipt */
    bool has_modified; /* the answer had a valid Last-Modified */
};

enum {
    CONDITIONS_IF_MATCH = 1,
    CONDITIONS_IF_UNMODIFIED = 2,
    CONDITIONS_IF_NONE_MATCH = 4,
    CONDITIONS_IF_MODIFIED = 8,
    CONDITIONS_IF_RANGE = 16
};
/* Which preconditions the request has: bits of the above. */
unsigned conditions_of(const struct http_request *r);

enum conditions_result {
    CONDITIONS_PASS,         /* answer as if there were none */
    CONDITIONS_NOT_MODIFIED, /* 304 */
    CONDITIONS_FAILED /* 412: If-Match, If-Unmodified-Since, or If-None-Match with a method other
                       * than GET and HEAD. A cache does not decide that: it asks the origin
                       * server (RFC 9111 4.3.2) */
};
/* In the order of RFC 9110 13.2.2. status: what the answer would be without conditions; they count
 * for 2xx only (13.2.1). now: for dates, seconds since 1970. Malformed dates count as absent. */
enum conditions_result conditions_evaluate(const struct http_request *r,
                                           const struct conditions_validators *v, unsigned status,
                                           int64_t now);
/* Whether a Range is to be honoured as far as If-Range goes (13.1.5): true without If-Range. */
bool conditions_if_range(const struct http_request *r, const struct conditions_validators *v,
                         int64_t now);
/* Whether a field of the 200 belongs into the 304 that stands for it (15.4.5). */
bool conditions_304_keeps(const struct http_field *f);

#endif
