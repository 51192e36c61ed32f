/* The Cache-Status field (RFC 9211): how this cache handled the request. */
#ifndef WORKER_HTTP_CACHE_STATUS_H
#define WORKER_HTTP_CACHE_STATUS_H

#include "worker/http/forward.h"

#define CACHE_STATUS_MAX 512u /* bytes of a value, enough for all */

/* Why the request went on (2.2); NONE: it did not. */
#define CACHE_STATUS_FWDS(X)                                                                       \
    X(NONE, "")                                                                                    \
    X(BYPASS, "bypass")                                                                            \
    X(METHOD, "method")                                                                            \
    X(URI_MISS, "uri-miss")                                                                        \
    X(VARY_MISS, "vary-miss")                                                                      \
    X(MISS, "miss")                                                                                \
    X(REQUEST, "request")                                                                          \
    X(STALE, "stale")                                                                              \
    X(PARTIAL, "partial")
enum cache_status_fwd {
#define CACHE_STATUS_FWD(id, text) CACHE_STATUS_##id,
    CACHE_STATUS_FWDS(CACHE_STATUS_FWD)
#undef CACHE_STATUS_FWD
        CACHE_STATUS__COUNT
};
const char *cache_status_fwd_name(enum cache_status_fwd f);

struct cache_status {
    bool hit; /* answered from the cache without going on; else fwd says why */
    enum cache_status_fwd fwd;
    unsigned fwd_status; /* status of the server's answer when it differs from ours; 0: not said */
    bool has_ttl, stored, collapsed;
    int64_t ttl;         /* remaining freshness, negative when stale */
    struct slice key;    /* .p NULL: not said; nor what cannot be said in ASCII */
    struct slice detail; /* a token; .p NULL: none */
};
/* Writes the value: rpd; hit; ttl=30. What other caches said before (earlier, if any) stays in
 * front of it, separated by a comma (2). */
void cache_status_write(struct head_out *o, const struct cache_status *s, struct slice earlier);

#endif
