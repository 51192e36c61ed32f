/* Name resolution in the helper process: c-ares driven by the caller's event loop, answers
 * published in the segment. Each name is resolved again when its records expire; a failure keeps
 * the old addresses and is retried with back-off. */
#ifndef WORKER_UPSTREAM_RESOLVER_H
#define WORKER_UPSTREAM_RESOLVER_H

#include "base/slice.h"
#include "shm/slot.h"

#define RESOLVER_TTL_MIN_MS   1000u
#define RESOLVER_TTL_MAX_MS   3600000u
#define RESOLVER_FILE_TTL_MS  60000u /* of answers from /etc/hosts, which have none */
#define RESOLVER_RETRY_MIN_MS 1000u
#define RESOLVER_RETRY_MAX_MS 30000u
#define RESOLVER_IN_FLIGHT    64u /* names asked for at the same time */

struct resolver;
struct resolver_ops {
    /* Watch fd, level-triggered, for exactly these directions; both false: stop watching, it is
     * about to be closed. Called from inside any resolver_* function. */
    void (*watch)(void *arg, int fd, bool rd, bool wr);
    void *arg;
};
struct resolver_opts {
    const struct slice *nameserver; /* ADDRESS, ADDRESS:PORT or [IPV6]:PORT; none: the system's,
                                       followed when resolv.conf changes */
    size_t nnameserver;
    uint32_t timeout_ms, tries; /* per query and server; 0 = 2000 and 3 */
    struct resolver_ops ops;
};

/* me: owner id of the helper's slot. The segment and what opts points to (copied) stay the
 * caller's. -ERR_INVAL for a bad nameserver, -ERR_NOMEM. */
int resolver_new(struct segment *s, slot_oid me, const struct resolver_opts *opts,
                 struct resolver **ret);
void resolver_free(struct resolver **r); /* unwatches all */
/* Adds the name behind id of shm/resolve.h; adding one again keeps the shorter interval.
 * interval_ms 0 = by the TTL (1 s to 1 h). It is asked for at the next tick. -ERR_NOENT,
 * -ERR_NOMEM. */
int resolver_add(struct resolver *r, uint32_t id, uint64_t interval_ms);
/* fd is ready. */
void resolver_ready(struct resolver *r, int fd, bool rd, bool wr);
/* Handles time-outs and starts what is due; call when resolver_timeout_ms() has passed, and once
 * after adding. */
void resolver_tick(struct resolver *r, uint64_t now_ms);
/* Milliseconds until the next tick is due; -1 = never. */
int resolver_timeout_ms(const struct resolver *r, uint64_t now_ms);
/* Has each name been answered, or failed, once? */
bool resolver_first_round_done(const struct resolver *r);
/* Version of the library, for `rpd -V`. */
const char *resolver_library(void);

#endif
