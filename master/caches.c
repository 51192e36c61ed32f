/* The response caches: made, found again over reloads, upgrades and restarts, swept after deaths.
 */
#include "master/caches.h"

#include "base/err.h"
#include "base/proc.h"
#include "master/master.h"
#include "shm/cache_persist.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

_Static_assert(CACHE_SLOTS == SHM_SLOTS, "a worker has the same slot in the segment and in caches");

/* Workers whose master died finish what they have; those that have nothing end at once. */
#define LOCK_WAIT_S 2

/* ---- Making ---- */

static struct cache_options caches_options(const struct conf_cache *o, uint32_t workers)
{
    return (struct cache_options){.size = o->k.size,
                                  .max_object = o->k.max_object,
                                  .workers = workers,
                                  .hugetlb = o->k.huge_pages};
}

static void caches_free(struct cache_home *h)
{
    if (h->refs > 0 || h->inherited)
        return;
    list_remove(&h->link);
    cache_close(&h->cache);
    free((char *)(uintptr_t)h->name.p);
    free((char *)(uintptr_t)h->file.p);
    free(h);
}

static bool caches_copy(struct slice *to, struct slice from)
{
    char *p = malloc(from.n + 1);
    if (!p)
        return false;
    if (from.n > 0)
        memcpy(p, from.p, from.n);
    p[from.n] = '\0';
    *to = slice_of(p, from.n);
    return true;
}

/* cache stays the caller's on failure (NULL). */
static struct cache_home *caches_add(struct slice name, struct slice file, uint32_t workers,
                                     struct cache *cache)
{
    struct cache_home *h = calloc(1, sizeof(*h));
    if (!h)
        return NULL;
    if (!caches_copy(&h->name, name) || !caches_copy(&h->file, file)) {
        free((char *)(uintptr_t)h->name.p);
        free(h);
        return NULL;
    }
    h->workers = workers;
    h->cache = cache;
    list_append(&master.caches, &h->link);
    return h;
}

static void caches_on_alarm(int sig)
{
    (void)sig;
}

/* The lock belongs to the open file, which every process that maps it keeps open: it is held as
 * long as anybody of another rpd lives. wait: for those who are about to end. */
static bool caches_lock(int fd, bool wait)
{
    struct sigaction on = {.sa_handler = caches_on_alarm}, old;
    /* Again and again, for the case that the first one comes before flock() is waiting. */
    const struct itimerval tick = {.it_value = {.tv_sec = LOCK_WAIT_S},
                                   .it_interval = {.tv_usec = 100000}};
    const struct itimerval none = {0};
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return true;
    if (!wait || errno != EWOULDBLOCK)
        return false;
    sigaction(SIGALRM, &on, &old);
    setitimer(ITIMER_REAL, &tick, NULL);
    bool ok = flock(fd, LOCK_EX) == 0;
    setitimer(ITIMER_REAL, &none, NULL);
    sigaction(SIGALRM, &old, NULL);
    return ok;
}

/* A cache in its file. False: why is logged, and there is none. */
static bool caches_make_file(const struct conf_cache *o, const struct cache_options *opt,
                             struct cache **ret, bool *ret_kept)
{
    int rc = cache_open_file(o->k.file.p, opt, ret, ret_kept);
    if (rc < 0) {
        LOG_WARN("cache_file", "cache " SLICE_FMT ": " SLICE_FMT " cannot hold it: %s",
                 SLICE_ARG(o->name), SLICE_ARG(o->k.file),
                 rc == -ERR_INVAL   ? "it must be an own file, mode 0600, on tmpfs or hugetlbfs"
                 : rc == -ERR_SYS   ? strerror(errno)
                 : rc == -ERR_NOMEM ? "there is no room on its file system"
                                    : err_text(rc));
        return false;
    }
    if (!caches_lock(cache_fd(*ret), !master.live)) {
        LOG_WARN("cache_file",
                 "cache " SLICE_FMT ": " SLICE_FMT " is in use by processes of another rpd",
                 SLICE_ARG(o->name), SLICE_ARG(o->k.file));
        cache_close(ret);
        return false;
    }
    if (*ret_kept)
        cache_reap_all(*ret);
    LOG_NOTICE("cache_file", "cache " SLICE_FMT ": " SLICE_FMT " %s", SLICE_ARG(o->name),
               SLICE_ARG(o->k.file), *ret_kept ? "is kept as it was" : "is new, empty");
    return true;
}

static int caches_make(const struct conf_cache *o, uint32_t workers, struct conf_diags *d,
                       struct cache_home **ret)
{
    const struct cache_options opt = caches_options(o, workers);
    struct cache *c = NULL;
    bool kept = false, file = o->k.file.n > 0 && caches_make_file(o, &opt, &c, &kept);
    if (!file) {
        int rc = cache_create(&opt, &c);
        if (rc < 0) {
            conf_diag_add(d, CONF_ERROR, o->pos, NULL, "cannot make [cache " SLICE_FMT "]: %s",
                          SLICE_ARG(o->name), rc == -ERR_SYS ? strerror(errno) : err_text(rc));
            return -ERR_INVAL;
        }
        if (o->k.file.n > 0)
            LOG_WARN("cache_memory",
                     "cache " SLICE_FMT " is new, empty, in memory; the next reload tries its file "
                     "again",
                     SLICE_ARG(o->name));
    }
    *ret = caches_add(o->name, file ? o->k.file : SLICE(""), workers, c);
    if (!*ret) {
        cache_close(&c);
        return -ERR_NOMEM;
    }
    (*ret)->refused = o->k.file.n > 0 && !file;
    (*ret)->fresh = !kept;
    (*ret)->kept = kept;
    return 0;
}

/* Another one has taken the place of its file: this one would not outlive us. */
static bool caches_unlinked(const struct cache_home *h)
{
    struct stat st;
    return h->file.n > 0 && (fstat(cache_fd(h->cache), &st) < 0 || st.st_nlink == 0);
}

/* The newest that the section describes. */
static struct cache_home *caches_find(const struct conf_cache *o)
{
    struct cache_home *found = NULL;
    LIST_EACH(it, &master.caches)
    {
        struct cache_home *h = CONTAINER(it, struct cache_home, link);
        const struct cache_options opt = caches_options(o, h->workers);
        if (slice_eq(h->name, o->name) && slice_eq(h->file, o->k.file) && !h->refused &&
            cache_fits(h->cache, &opt) && !caches_unlinked(h))
            found = h;
    }
    return found;
}

/* One in memory instead of a file that still cannot be had. */
static struct cache_home *caches_find_refused(const struct conf_cache *o)
{
    struct cache_home *found = NULL;
    LIST_EACH(it, &master.caches)
    {
        struct cache_home *h = CONTAINER(it, struct cache_home, link);
        const struct cache_options opt = caches_options(o, h->workers);
        if (h->refused && h->refs + h->inherited > 0 && slice_eq(h->name, o->name) &&
            cache_fits(h->cache, &opt))
            found = h;
    }
    return found;
}

/* The directory the cache is kept in; -1: there is none, or it cannot be used (logged). The key of
 * what is on disk is the cache's, so it is taken before anybody uses a new one. */
static int caches_persist(const struct conf_cache *o, struct cache_home *h)
{
    if (o->k.persist.n == 0)
        return -1;
    int fd = cache_persist_dir(o->k.persist.p, master.uid, master.gid);
    int rc = fd < 0 ? fd : cache_persist_adopt(fd, h->cache, !h->fresh);
    if (rc < 0) {
        LOG_WARN("cache_persist", "cache " SLICE_FMT " cannot be kept in " SLICE_FMT ": %s",
                 SLICE_ARG(o->name), SLICE_ARG(o->k.persist),
                 rc == -ERR_INVAL ? "it must be a directory of the workers' user only"
                                  : strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    return fd;
}

int caches_open(struct generation *g, struct conf_diags *d)
{
    const struct config *c = g->config;
    g->home = calloc(c->ncache + 1, sizeof(struct cache_home *));
    g->cache = calloc(c->ncache + 1, sizeof(struct cache *));
    g->persist = calloc(c->ncache + 1, sizeof(int));
    for (size_t i = 0; g->persist && i < c->ncache; i++)
        g->persist[i] = -1;
    if (!g->home || !g->cache || !g->persist)
        return -ERR_NOMEM;
    for (size_t i = 0; i < c->ncache; i++) {
        struct cache_home *h = caches_find(c->cache[i]);
        int rc = h ? 0 : caches_make(c->cache[i], g->nworker, d, &h);
        if (rc < 0)
            return rc;
        struct cache_home *before = h->refused ? caches_find_refused(c->cache[i]) : h;
        if (before && before != h) {
            caches_free(h);
            h = before;
        }
        h->refs++;
        g->home[i] = h;
        g->cache[i] = h->cache;
        g->persist[i] = caches_persist(c->cache[i], h);
        h->fresh = false;
    }
    return 0;
}

void caches_release(struct generation *g)
{
    for (size_t i = 0; g->home && i < g->config->ncache; i++) {
        if (!g->home[i])
            continue;
        g->home[i]->refs--;
        caches_free(g->home[i]);
    }
    for (size_t i = 0; g->persist && i < g->config->ncache; i++) {
        if (g->persist[i] >= 0)
            close(g->persist[i]);
    }
    free(g->home);
    free(g->cache);
    free(g->persist);
    g->persist = NULL;
    g->home = NULL;
    g->cache = NULL;
}

void caches_note(const struct generation *g, bool first, struct buf *out)
{
    for (size_t i = 0; i < g->config->ncache; i++) {
        struct cache_home *h = g->home[i];
        const char *what = h->kept ? "kept as it was" : "new, empty";
        if (!h->told && h->file.n > 0)
            buf_printf(out, "cache " SLICE_FMT ": " SLICE_FMT ", %s\n", SLICE_ARG(h->name),
                       SLICE_ARG(h->file), what);
        else if (!h->told && (h->refused || !first))
            buf_printf(out, "cache " SLICE_FMT ": %s%s\n", SLICE_ARG(h->name), what,
                       h->refused ? ", in memory: its file cannot be had" : "");
        h->told = true;
    }
}

size_t caches_keep(const struct generation *g, int *keep)
{
    size_t n = g->config->ncache;
    for (size_t i = 0; keep && i < n; i++)
        keep[i] = cache_fd(g->cache[i]);
    return n;
}

size_t caches_keep_persist(const struct generation *g, int *keep)
{
    for (size_t i = 0; i < g->config->ncache; i++)
        keep[i] = g->persist[i];
    return g->config->ncache;
}

void caches_configure(const struct generation *g)
{
    for (size_t i = 0; i < g->config->ncache; i++) {
        const struct conf_cache_keys *k = &g->config->cache[i]->k;
        cache_set_verify(g->cache[i], k->verify == CONF_CACHE_VERIFY_HEADS ? CACHE_VERIFY_HEADS
                                                                           : CACHE_VERIFY_ALL);
        cache_set_share(g->cache[i], k->max_share);
    }
}

void caches_reap(uint32_t slot)
{
    uint64_t kick[CACHE_SLOTS / 64] = {0}; /* of those asleep, who are all woken anyway */
    LIST_EACH(it, &master.caches)
    cache_reap(CONTAINER(it, struct cache_home, link)->cache, slot, kick);
}

/* ---- Binary upgrades ---- */

void caches_describe(struct buf *b)
{
    LIST_EACH(it, &master.caches)
    {
        const struct cache_home *h = CONTAINER(it, struct cache_home, link);
        buf_printf(b, "cache %d %u %d =" SLICE_FMT " " SLICE_FMT "\n", cache_fd(h->cache),
                   h->workers, h->refused, SLICE_ARG(h->name), SLICE_ARG(h->file));
    }
}

void caches_pass(bool on)
{
    LIST_EACH(it, &master.caches)
    proc_close_on_exec(cache_fd(CONTAINER(it, struct cache_home, link)->cache), !on);
}

void caches_adopt(int fd, const uint64_t *v, size_t n, struct slice text)
{
    struct cache *c = NULL;
    struct slice name;
    if (fd < 0)
        return;
    if (n < 2 || !slice_starts(text, SLICE("=")) || !slice_next(&text, ' ', &name)) {
        close(fd);
        return;
    }
    name = slice_of(name.p + 1, name.n - 1); /* the mark keeps names of digits apart */
    int rc = cache_attach(fd, &c);
    if (rc < 0) {
        LOG_NOTICE("cache_layout",
                   "cache " SLICE_FMT " of the old program cannot be taken over (%s): a new one is "
                   "made",
                   SLICE_ARG(name), rc == -ERR_CORRUPT ? "another layout" : err_text(rc));
        close(fd);
        return;
    }
    struct cache_home *h = caches_add(name, slice_trim(text), (uint32_t)v[0], c);
    if (!h) {
        cache_close(&c);
        return;
    }
    h->refused = v[1] != 0;
    h->inherited = h->told = true;
}

void caches_inherited_gone(void)
{
    LIST_EACH_SAFE(it, tmp, &master.caches)
    {
        struct cache_home *h = CONTAINER(it, struct cache_home, link);
        h->inherited = false;
        caches_free(h);
    }
}

void caches_forget(void)
{
    if (!list_empty(&master.caches))
        LOG_NOTICE("cache_layout", "the caches of the old program stay with its processes");
    caches_inherited_gone();
}
