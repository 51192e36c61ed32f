/* The response caches: made, found again over reloads, upgrades and restarts, swept after deaths.
 */
#ifndef MASTER_CACHES_H
#define MASTER_CACHES_H

#include "base/list.h"
#include "config/config.h"
#include "shm/cache.h"

struct generation;

/* One cache, used by the generations whose [cache] section it fits. */
struct cache_home {
    struct list link; /* master.caches, oldest first */
    struct slice name;
    struct slice file; /* where it is; "" = in memory */
    struct cache *cache;
    uint32_t workers; /* as many were expected when it was made */
    unsigned refs;    /* generations of this program */
    bool inherited;   /* processes of the program before an upgrade may use it */
    bool refused;     /* a file was wanted and could not be had */
    bool fresh;       /* nobody has used it yet */
    bool kept;        /* its file held it already */
    bool told;        /* in a verdict */
};

/* The caches of g's configuration: g->home and g->cache, by conf_cache.id. One that an older
 * generation uses is shared when the section still describes it, else a new one is made. 0,
 * -ERR_INVAL (d says why), -ERR_NOMEM. */
int caches_open(struct generation *g, struct conf_diags *d);
/* g does not use them any more. The last one that does unmaps. */
void caches_release(struct generation *g);
/* Caches of g that no verdict has told of: a line each for this one. first: of a start, where those
 * in memory are nothing new. */
void caches_note(const struct generation *g, bool first, struct buf *out);
/* Those of g's directories for caches on disk are put into keep: of its helper. */
size_t caches_keep_persist(const struct generation *g, int *keep);
/* How many descriptors g's processes have to keep; they are put into keep, if given. */
size_t caches_keep(const struct generation *g, int *keep);
/* In a worker: what the configuration says of how it is read. */
void caches_configure(const struct generation *g);
/* After waitpid, before the slot is reaped: sweeps it in all caches. The caller wakes all workers,
 * as master_kick_all() does. */
void caches_reap(uint32_t slot);

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
