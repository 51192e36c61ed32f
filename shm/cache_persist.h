/* A cache on disk: what lies in its slabs is copied to files while it lives, and a new cache is
 * filled from them after a reboot. The live cache is never in these files, so no disk is waited for
 * and none can damage it.
 *
 * Once, in the process that makes the cache, before others join it:
 *
 *   cache_persist_dir      opens or makes the directory (for the user who will write there)
 *   cache_persist_adopt    gives the cache the key of the files
 *
 * then in one process, joined as a worker of the cache, which may be another user's:
 *
 *   cache_persist_open     takes the directory's lock
 *   loop: cache_persist_step reads what there is, then writes what changes;
 *         when cache_persist_fd is readable, or after cache_persist_wait_ms
 *   cache_persist_close
 *
 * What was restored is softly purged (cache_hit.soft) and has no grace: it is asked for at its
 * origin before it is used, because purges after it was written are not on disk. It never replaces
 * what was stored since the start.
 *
 * Files: one per slab, FORMAT in shm/cache_persist_in.h; each was synced under another name before
 * it got its own. They do not depend on the geometry of the cache. Files that are damaged, cut off
 * or of another key are refused with a line to say(), and removed when all of the cache is on disk
 * again. */
#ifndef SHM_CACHE_PERSIST_H
#define SHM_CACHE_PERSIST_H

#include "shm/cache.h"

#include <sys/types.h>

struct cache_persist;

/* Opens the directory, made (mode 0700, one level) when it is not there, and given to uid and gid
 * when it is empty; (uid_t)-1: they are the own. A file descriptor, or -ERR_SYS, -ERR_INVAL (not a
 * directory of this user or of root, or one that others may write to). */
int cache_persist_dir(const char *path, uid_t uid, gid_t gid);
/* Before the cache has other users. kept: it has objects already and keeps its key; files of
 * another key are of no use then and the key is noted anew. 0, -ERR_SYS (the key could neither be
 * read nor written). */
int cache_persist_adopt(int dir, struct cache *c, bool kept);

struct cache_persist_options {
    uint64_t limit;   /* bytes on disk; 0: as many as the cache has */
    uint64_t rate;    /* bytes written per second; 0: a 64th of the cache, but 4 MiB at least */
    uint32_t open_ms; /* how often a slab that still grows is written; 0: 3 s */
    bool write_only;  /* nothing is read back: what is there already is to go, in time */
    void (*say)(void *arg, const char *line); /* what was refused, restored; may be NULL */
    void *arg;
};
/* w stays the caller's and must outlive it; dir too is the caller's. -ERR_AGAIN: another process
 * has the directory's lock, try again later. -ERR_NOMEM, -ERR_SYS. */
int cache_persist_open(int dir, struct cache_worker *w, const struct cache_persist_options *o,
                       struct cache_persist **ret);
/* Waits for a write under way. Files stay. */
void cache_persist_close(struct cache_persist **p);

enum cache_persist_next {
    CACHE_PERSIST_MORE, /* the budget is used up: call again */
    CACHE_PERSIST_WAIT, /* for the disk: call when cache_persist_fd is readable */
    CACHE_PERSIST_IDLE  /* call after cache_persist_wait_ms */
};
/* Works for about budget_us microseconds, plus some hundred at most. */
enum cache_persist_next cache_persist_step(struct cache_persist *p, uint64_t budget_us);
int cache_persist_fd(const struct cache_persist *p);
unsigned cache_persist_wait_ms(const struct cache_persist *p);

struct cache_persist_stat {
    bool loading;              /* files are still being read */
    uint64_t files, bytes;     /* on disk, of this cache */
    uint64_t pending;          /* slabs that were not on disk as they are at the last look */
    uint64_t looks;            /* how often all slabs were looked at */
    uint64_t restored;         /* objects */
    uint64_t refused, skipped; /* files refused; objects that did not fit or were there already */
    uint64_t written;          /* bytes */
    uint64_t errors;           /* of the disk */
};
void cache_persist_stat(const struct cache_persist *p, struct cache_persist_stat *ret);

#endif
