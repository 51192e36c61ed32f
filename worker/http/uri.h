/* Request targets: percent-decoding and dot-segment removal for matching (RFC 3986 6.2.2), never
 * for forwarding. */
#ifndef WORKER_HTTP_URI_H
#define WORKER_HTTP_URI_H

#include "base/arena.h"
#include "base/slice.h"

/* The path as routes see it: unreserved %XX decoded, hex digits upper case, dot segments removed,
 * runs of "/" merged. Returns the input itself when nothing changes (the usual case, no copy).
 * -ERR_BAD_TARGET: bad %XX, %00, or ".." that climbs above the root; -ERR_NOMEM. %2F stays encoded.
 */
int uri_normalize(struct slice path, struct arena *a, struct slice *ret);
/* host[:port] of a Host field or authority (RFC 9110 7.2): reg-name, IPv4, [IPv6]; no userinfo. 0
 * or -ERR_BAD_HOST. */
int uri_authority(struct slice s, struct slice *ret_host, uint16_t *ret_port);
/* Lower-cases a host into out (cap bytes), strips one trailing dot. Length or -ERR_BAD_HOST. */
int uri_host_lower(struct slice host, char *out, size_t cap);

#endif
