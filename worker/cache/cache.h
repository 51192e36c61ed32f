/* The response caches of a worker: stores joined, rules of each route, keys, purges, waiting for
 * what is arriving. Every store may be missing: exchanges then go on without it. */
#ifndef WORKER_CACHE_CACHE_H
#define WORKER_CACHE_CACHE_H

#include "base/list.h"
#include "config/config.h"
#include "shm/cache.h"
#include "worker/cache/coded.h"
#include "worker/cache/policy.h"

#define CACHE_KEY_MAX 16384u /* bytes of a key's text; requests with more are not cached */
#define CACHE_BUCKETS 256u

/* One [cache] section. */
struct cache_store {
    const struct conf_cache *conf;
    struct cache *c;
    struct cache_worker *w; /* NULL: not to be had */
    struct list waiting[CACHE_BUCKETS];
    uint32_t nwaiting;
    bool sleeping; /* others kick us */
    struct coded_heat *heat;
    bool grown; /* something was stored: room may have to be made */
};
/* Waits for a change of an object that is arriving. */
struct cache_waiter {
    struct list link;
    struct cache_store *store;
    uint32_t flight;
    void (*wake)(struct cache_waiter *w);
};

struct caches {
    struct cache_store *store; /* by conf_cache.id */
    size_t n;
    struct cache_rules *rules; /* by conf_caching.id; blank where it has no cache */
    struct arena arena;
    const int *kick_fd;
    uint32_t wall_s; /* told last */
};
struct caches_env {
    const struct config *config;
    struct cache *const *cache; /* by conf_cache.id; NULL or entries NULL: none */
    uint32_t owner;             /* slot_oid */
    const int *kick_fd;         /* eventfd of each slot */
};
/* 0, -ERR_NOMEM, or -ERR_INVAL: a key that cannot be understood. A cache that cannot be joined is
 * logged and missing. */
int caches_init(struct caches *cs, const struct caches_env *env);
/* All hits, fills and follows have ended. What is still being filled elsewhere goes on. */
void caches_fini(struct caches *cs);
static inline struct cache_store *caches_store(const struct caches *cs, const struct conf_cache *c)
{
    return c && cs->store[c->id].w ? &cs->store[c->id] : NULL;
}
/* End of a turn: tells the time, wakes who waits for what has changed, makes room. */
void caches_turn(struct caches *cs, uint32_t wall_s);
/* The last thing before sleeping, when nobody can begin to wait any more: false, something that is
 * waited for has changed already. */
bool caches_may_sleep(struct caches *cs);

void cache_waiter_init(struct cache_waiter *w, void (*wake)(struct cache_waiter *w));
/* After cache_follow_wait(). */
void cache_waiter_wait(struct cache_waiter *w, struct cache_store *st, uint32_t flight);
void cache_waiter_stop(struct cache_waiter *w);

/* The names under which the answer to a request may be purged, and its key. */
struct cache_target {
    const struct cache *c;
    struct slice scheme;
    struct slice host;  /* host[:port] */
    struct slice path;  /* as the key has it */
    struct slice query; /* without "?"; .p NULL: none */
    uint32_t site;
};
/* For cache_scope.names, with a struct cache_target. */
unsigned cache_target_names(const void *target, uint64_t *ret);

#endif
