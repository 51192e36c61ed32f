/* Range requests (RFC 9110 14): what is asked for, what of it there is, and the texts of the
 * answer. Ranges are merged and bounded, so that no request can make an answer larger than the
 * whole. */
#ifndef WORKER_HTTP_RANGE_H
#define WORKER_HTTP_RANGE_H

#include "worker/http/forward.h"

#define RANGE_SPECS_MAX 32u        /* more than that and the field is ignored */
#define RANGE_MAX       8u         /* parts of an answer; more and it is the whole */
#define RANGE_UNKNOWN   UINT64_MAX /* a size nobody knows yet */

/* As asked: first..last inclusive; last RANGE_UNKNOWN: to the end; first RANGE_UNKNOWN: the last
 * `last` bytes. */
struct range {
    uint64_t first, last;
};
struct range_specs {
    struct range r[RANGE_SPECS_MAX];
    unsigned n;
};
/* Value of a Range field. -ERR_INVAL: not bytes, malformed, or too many: ignore it (14.2). */
int range_parse(struct slice value, struct range_specs *ret);
/* The Range of a request. -ERR_NOENT: none, several, or another method than GET. */
int range_of(const struct http_request *r, struct range_specs *ret);

enum range_answer {
    RANGE_WHOLE,         /* answer as if nobody had asked for ranges */
    RANGE_PARTIAL,       /* 206 with *ret */
    RANGE_UNSATISFIABLE, /* 416 */
    RANGE_WAIT           /* size must be known first */
};
struct range_set {
    struct range r[RANGE_MAX]; /* in the order asked for, none touching another */
    unsigned n;
    uint64_t bytes; /* of all */
};
/* size: of the representation, or RANGE_UNKNOWN while it arrives; then `arrived` bytes are known to
 * be there, and only ranges that lie in these can be answered. */
enum range_answer range_resolve(const struct range_specs *s, uint64_t size, uint64_t arrived,
                                struct range_set *ret);

/* "bytes 0-499/1234", "bytes 0-499/" "*" when size is RANGE_UNKNOWN. out: 80 bytes. */
size_t range_content_range(char *out, struct range r, uint64_t size);
/* "bytes " "*" "/1234" for a 416. out: 80 bytes. */
size_t range_unsatisfied(char *out, uint64_t size);

/* multipart/byteranges (14.6). Boundary: up to 70 characters, chosen so that no content holds it.
 */
#define RANGE_BOUNDARY_LEN 24u
void range_boundary(uint64_t random0, uint64_t random1, char out[RANGE_BOUNDARY_LEN]);
/* What stands before part i; type: Content-Type of the representation, .n 0 = none. */
void range_part_head(struct head_out *o, struct slice boundary, struct slice type, struct range r,
                     uint64_t size, bool first);
void range_part_end(struct head_out *o, struct slice boundary); /* behind the last */
/* Content-Length of all that. 0: cannot be told (type too long). */
uint64_t range_multipart_length(const struct range_set *s, struct slice boundary, struct slice type,
                                uint64_t size);

#endif
