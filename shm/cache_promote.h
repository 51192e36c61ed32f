/* From one mapping to another: a reload that changes the geometry of a cache makes a new mapping,
 * and what lies in the old one is copied while both are in use.
 *
 *   cache_promote_adopt    once, in the process that makes the new cache, before others join it
 *   cache_promote_open     in one process, joined as a worker of both
 *   loop: cache_promote_step;  cache_promote_close
 *
 * The old cache goes on being one: its workers store, purge and evict. What they store is copied
 * too, and what they purge is gone in the new one as well. Who dies in between leaves nothing but
 * copies that were made; another begins anew and finds them.
 *
 * An object of the old cache never replaces what was stored in the new one, and a purge of the new
 * one reaches it whenever it is copied: the new one's versions begin beyond all that the old one
 * will give, and the birth is cut to what it could be when the new cache was made. Version, times,
 * tags, stored fields and the queue stay as they were: what is bound to a version goes over with
 * it. */
#ifndef SHM_CACHE_PROMOTE_H
#define SHM_CACHE_PROMOTE_H

#include "shm/cache.h"

struct cache_promote;

/* Where the new cache began: a version that the old one's are not above, and births by shard of
 * sites. */
#define CACHE_PROMOTE_SHARDS 64u
struct cache_promote_base {
    uint64_t version;
    uint64_t birth[CACHE_PROMOTE_SHARDS];
};
/* Gives `to`, which is empty and has no other users, the key of `from` and its counts. */
void cache_promote_adopt(struct cache *to, const struct cache *from,
                         struct cache_promote_base *ret);

/* Workers stay the caller's and must outlive it, as base. -ERR_NOMEM. */
int cache_promote_open(struct cache_worker *from, struct cache_worker *to,
                       const struct cache_promote_base *base, struct cache_promote **ret);
void cache_promote_close(struct cache_promote **p);
/* Works for about budget_us microseconds, plus some hundred at most. True: the budget is used up,
 * there is more to do now. False: all is done; what the old cache's workers add, later calls find.
 */
bool cache_promote_step(struct cache_promote *p, uint64_t budget_us);
/* Nobody but its own worker uses the old cache: after one more cache_promote_step that returns
 * false it can be closed. */
bool cache_promote_alone(const struct cache_promote *p);

struct cache_promote_stat {
    bool copied;             /* all that lay in the old cache at the beginning */
    bool partly;             /* not all of it had room */
    bool full;               /* the new cache has no more room */
    uint64_t objects, bytes; /* copied, of bodies */
    uint64_t skipped;        /* too large, there already, or of a later version than the base's */
    uint64_t left;           /* records that were not looked at yet */
};
void cache_promote_stat(const struct cache_promote *p, struct cache_promote_stat *ret);

#endif
