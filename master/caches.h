/* The response caches: made, found again over reloads, upgrades and restarts, swept after deaths.
 */
#ifndef MASTER_CACHES_H
#define MASTER_CACHES_H

#include "base/list.h"
#include "config/config.h"
#include "worker/worker.h"

struct child;
struct generation;
struct msg;

/* One cache, used by the generations whose [cache] section it fits. */
struct cache_home {
    struct list link; /* master.caches, oldest first */
    struct slice name;
    struct slice file; /* where it is; "" = in memory */
    struct cache *cache;
    uint32_t workers; /* as many were expected when it was made */
    bool huge;        /* huge pages were wanted */
    unsigned refs;    /* generations of this program, and caches that are filled from it */
    bool inherited;   /* processes of the program before an upgrade may use it */
    bool refused;     /* a file was wanted and could not be had */
    bool fresh;       /* nobody has used it yet */
    bool kept;        /* its file, or systemd, held it already */
    bool stored;      /* systemd keeps it, too */
    bool told;        /* in a verdict */
    bool lost;        /* the old program's has another layout */
    /* It takes the place of this one, and is being filled from it by the helper. Or NULL. */
    struct cache_home *from;
    struct cache_promote_base base;
    struct worker_promoted moved; /* how far that is, or was */
};

/* The caches of g's configuration: g->home and g->cache, by conf_cache.id. The one that the live
 * generation uses is shared when the section still describes it, else a new one is made, and filled
 * from it (g->promote). 0, -ERR_INVAL (d says why), -ERR_NOMEM. */
int caches_open(struct generation *g, struct conf_diags *d);
/* g does not use them any more. The last one that does unmaps. */
void caches_release(struct generation *g);
/* Caches of g that no verdict has told of: a line each for this one. first: of a start, where those
 * in memory are nothing new. */
void caches_note(const struct generation *g, bool first, struct buf *out);
/* What g's helper has to keep besides, twice as many at most: directories of caches on disk, caches
 * that others are filled from. */
size_t caches_keep_helper(const struct generation *g, int *keep);
/* How many descriptors g's processes have to keep; they are put into keep, if given. */
size_t caches_keep(const struct generation *g, int *keep);
/* In the process of a child of g, before it closes what it does not keep: what the configuration
 * says of how caches are read; those that are not its own are unmapped. */
void caches_enter(const struct generation *g, bool helper);
/* What g's helper has to fill, by conf_cache.id. */
void caches_promotions(const struct generation *g, struct worker_promote *ret);
/* W_PROMOTED of a helper. */
void caches_promoted(const struct child *c, const struct msg *m);
/* After waitpid, before the slot is reaped: sweeps it in all caches. The caller wakes all workers,
 * as master_kick_all() does. */
void caches_reap(uint32_t slot);

/* A descriptor that systemd kept under a cache's name, which stays the caller's. False: it is no
 * cache of ours; why is logged. */
bool caches_restored(struct slice name, int fd);
/* g serves from now on: systemd is given its caches in memory to keep, and no others. */
void caches_store(const struct generation *g);
/* "main by systemd; files in /dev/shm/rpd": those of g that outlive rpd itself. */
void caches_outlive(const struct generation *g, struct buf *out);

/* Binary upgrades: lines of the description; descriptors kept over exec or not. */
void caches_describe(struct buf *b);
void caches_pass(bool on);
/* In the new program: a line of caches_describe(), its numbers in v. The descriptor is taken. */
void caches_adopt(int fd, const uint64_t *v, size_t n, struct slice text);
/* The segment is a new one: its slots say nothing of who lives in the caches. */
void caches_forget(void);
/* No process of the program before is left. */
void caches_inherited_gone(void);

#endif
