/* Entity tags (RFC 9110 8.8.3): strong and weak comparison, lists of them. */
#ifndef WORKER_HTTP_ETAG_H
#define WORKER_HTTP_ETAG_H

#include "base/slice.h"

struct etag {
    struct slice opaque; /* with its quotes; without when it was sent so */
    bool weak, quoted;
};
/* The whole slice. Many servers forget the quotes: such a tag is taken as it stands, but is nothing
 * to build a strong comparison on. false: neither. */
bool etag_parse(struct slice s, struct etag *ret);
/* RFC 9110 8.8.3.2 */
bool etag_eq_strong(struct etag a, struct etag b);
bool etag_eq_weak(struct etag a, struct etag b);
/* Cuts the next tag off a list; what cannot be one is skipped to the next comma. false: the end. */
bool etag_next(struct slice *rest, struct etag *ret);

#endif
