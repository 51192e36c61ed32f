/* Accept-Encoding (RFC 9110 12.5.3): what a client makes of each content coding. */
#ifndef WORKER_HTTP_ACCEPT_ENCODING_H
#define WORKER_HTTP_ACCEPT_ENCODING_H

#include "worker/http/http.h"

enum accept_coding {
    ACCEPT_BR,
    ACCEPT_GZIP, /* also as x-gzip */
    ACCEPT_ZSTD,
    ACCEPT_IDENTITY,
    ACCEPT__COUNT
};
/* Weights in thousandths; 0: not acceptable. */
struct accept_encoding {
    uint16_t q[ACCEPT__COUNT];
    /* identity is not named, and "*" is not either: it will do, but everything that is wanted is
     * liked better; its q is 1 then */
    bool identity_last;
};
/* Of all fields of that name. Without one only identity is acceptable: who says nothing is a
 * client that decodes nothing. A coding that is refused and wanted is refused; a weight that is
 * malformed is a refusal. */
void accept_encoding_of(const struct http_request *r, struct accept_encoding *ret);

#endif
