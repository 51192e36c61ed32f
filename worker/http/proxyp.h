/* PROXY protocol v1 and v2 (haproxy.org/download/2.9/doc/proxy-protocol.txt): decode what a trusted
 * balancer sends first. */
#ifndef WORKER_HTTP_PROXYP_H
#define WORKER_HTTP_PROXYP_H

#include "base/addr.h"

struct proxyp {
    bool local;          /* LOCAL command or UNKNOWN: keep the socket's own addresses */
    union addr src, dst; /* family AF_UNSPEC when not conveyed */
};
/* Size of the header consumed (> 0), -ERR_AGAIN (more bytes needed), -ERR_BAD_PROXY. Bounded: v1
 * 107 bytes, v2 16 + 4096. */
int proxyp_parse(const char *p, size_t n, struct proxyp *ret);

#endif
