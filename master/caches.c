/* The response caches: made, found again over reloads, upgrades and restarts, swept after deaths.
 */
#include "master/caches.h"

#include "base/err.h"
#include "base/proc.h"
#include "master/fdstore.h"
#include "master/master.h"
#include "shm/cache_persist.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

_Static_assert(CACHE_SLOTS == SHM_SLOTS, "a worker has the same slot in the segment and in caches");

/* Workers whose master died finish what they have; those that have nothing end at once. */
#define LOCK_WAIT_S 2
/* Bytes that a check from end to end goes through in about a second. */
#define EXAMINE_MOST (1ull << 30)
/* cache_create() makes them; who could still change the size could end us by SIGBUS. */
#define CACHE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

/* ---- Making ---- */

static struct cache_options caches_options(const struct conf_cache *o, uint32_t workers)
{
    return (struct cache_options){.size = o->k.size,
                                  .max_object = o->k.max_object,
                                  .workers = workers,
                                  .hugetlb = o->k.huge_pages};
}

static void caches_free(struct cache_home *h);

/* Nothing more comes from the one before. */
static void caches_forget_old(struct cache_home *h)
{
    struct cache_home *from = h->from;
    h->from = NULL;
    if (!from)
        return;
    from->refs--;
    caches_free(from);
}

/* As deep as old caches are still in use. */
static void caches_free(struct cache_home *h)
{
    if (h->refs > 0 || h->inherited)
        return;
    caches_forget_old(h);
    list_remove(&h->link);
    cache_close(&h->cache);
    free((char *)(uintptr_t)h->name.p);
    free((char *)(uintptr_t)h->file.p);
    free(h);
}

/* Names of those that the old program had and that cannot be taken over, a line each. */
static struct buf caches_lost_names;

static void caches_lose(struct slice name)
{
    buf_printf(&caches_lost_names, SLICE_FMT "\n", SLICE_ARG(name));
}

static bool caches_was_lost(struct slice name)
{
    struct slice rest = buf_slice(&caches_lost_names), line;
    while (slice_next(&rest, '\n', &line)) {
        if (slice_eq(line, name))
            return true;
    }
    return false;
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

/* The one that serves under this name until now: of an older one, whatever its workers do, nothing
 * is taken any more. */
static struct cache_home *caches_current(struct slice name)
{
    const struct generation *g = master.live;
    struct cache_home *found = NULL;
    for (size_t i = 0; g && g->config && i < g->config->ncache; i++) {
        if (slice_eq(g->config->cache[i]->name, name))
            found = g->home[i];
    }
    if (g && g->config)
        return found;
    /* Of the program before: the live generation's were described last. */
    LIST_EACH(it, &master.caches)
    {
        struct cache_home *h = CONTAINER(it, struct cache_home, link);
        if (h->inherited && slice_eq(h->name, name))
            found = h;
    }
    return found;
}

/* What the file held before it was replaced: of another geometry, and of no living process. */
static void caches_keep_old(const struct conf_cache *o, struct cache *old)
{
    struct cache_home *h = NULL;
    if (caches_lock(cache_fd(old), !master.live)) {
        cache_reap_all(old);
        h = caches_add(o->name, o->k.file, 0, old);
    }
    if (h)
        h->inherited = true;
    else
        cache_close(&old);
}

/* A cache in its file. False: why is logged, and there is none. */
static bool caches_make_file(const struct conf_cache *o, const struct cache_options *opt,
                             struct cache **ret, bool *ret_kept)
{
    struct cache *old = NULL;
    int rc = cache_open_file(o->k.file.p, opt, ret, ret_kept, &old);
    if (old && !caches_current(o->name))
        caches_keep_old(o, old);
    else
        cache_close(&old);
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
        if (fdstore_on())
            (void)caches_lock(cache_fd(c), false); /* for who gets it back from systemd */
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
    (*ret)->huge = o->k.huge_pages;
    (*ret)->lost = caches_was_lost(o->name);
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

/* Where it lies is the file's business, so huge pages matter in memory only. */
static bool caches_same_geometry(const struct cache_home *h, const struct conf_cache *o)
{
    const struct cache_options opt = caches_options(o, h->workers);
    return cache_fits(h->cache, &opt) && (h->file.n > 0 || h->huge == o->k.huge_pages);
}

static bool caches_describes(const struct cache_home *h, const struct conf_cache *o)
{
    return !h->refused && slice_eq(h->file, o->k.file) && !caches_unlinked(h) &&
           caches_same_geometry(h, o);
}

/* The generation's helper will fill it. */
static void caches_promote(struct cache_home *h, struct cache_home *from)
{
    cache_promote_adopt(h->cache, from->cache, &h->base);
    h->from = from;
    h->fresh = false; /* it has the old one's key */
    from->refs++;
}

/* The one for the section: the current one, or a new one. */
static int caches_get(const struct conf_cache *o, uint32_t workers, struct conf_diags *d,
                      struct cache_home **ret)
{
    struct cache_home *now = caches_current(o->name);
    if (now && now->workers == 0) { /* nobody knows any more how it was asked for */
        now->workers = workers;
        now->huge = o->k.huge_pages;
    }
    if (now && caches_describes(now, o)) {
        *ret = now;
        return 0;
    }
    int rc = caches_make(o, workers, d, ret);
    if (rc < 0)
        return rc;
    if (!now) /* or what its file held */
        now = caches_current(o->name);
    /* One in memory instead of a file that still cannot be had. */
    if ((*ret)->refused && now && now->refused && caches_same_geometry(now, o)) {
        caches_free(*ret);
        *ret = now;
    } else if (now && !(*ret)->kept) {
        caches_promote(*ret, now);
    }
    return 0;
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
        struct cache_home *h;
        int rc = caches_get(c->cache[i], g->nworker, d, &h);
        if (rc < 0)
            return rc;
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

/* What is said of one in a verdict. */
static void caches_fate(const struct cache_home *h, char *out, size_t n)
{
    const struct worker_promoted *m = &h->moved;
    if (h->kept)
        snprintf(out, n, "kept as it was");
    else if (h->from && m->copied)
        snprintf(out, n, "new, %" PRIu64 " objects promoted from the old one%s", m->objects,
                 m->full ? ", as many as fit" : "");
    else if (h->from)
        snprintf(out, n, "new, promoting %" PRIu64 " objects from the old one",
                 m->objects + m->left);
    else
        snprintf(out, n, "new, empty%s",
                 h->lost ? ": the one of the old program has another layout" : "");
}

void caches_note(const struct generation *g, bool first, struct buf *out)
{
    for (size_t i = 0; i < g->config->ncache; i++) {
        struct cache_home *h = g->home[i];
        char what[128];
        caches_fate(h, what, sizeof(what));
        if (!h->told && h->file.n > 0)
            buf_printf(out, "cache " SLICE_FMT ": " SLICE_FMT ", %s\n", SLICE_ARG(h->name),
                       SLICE_ARG(h->file), what);
        else if (!h->told && (h->refused || h->kept || h->from || !first))
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

size_t caches_keep_helper(const struct generation *g, int *keep)
{
    size_t n = 0;
    for (size_t i = 0; i < g->config->ncache; i++) {
        keep[n++] = g->persist[i];
        if (g->home[i]->from)
            keep[n++] = cache_fd(g->home[i]->from->cache);
    }
    return n;
}

/* Whether a process of g has use for it. */
static bool caches_own(const struct generation *g, const struct cache_home *h, bool helper)
{
    for (size_t i = 0; i < g->config->ncache; i++) {
        if (g->home[i] == h || (helper && g->home[i]->from == h))
            return true;
    }
    return false;
}

void caches_enter(const struct generation *g, bool helper)
{
    for (size_t i = 0; i < g->config->ncache; i++) {
        const struct conf_cache_keys *k = &g->config->cache[i]->k;
        cache_set_verify(g->cache[i], k->verify == CONF_CACHE_VERIFY_HEADS ? CACHE_VERIFY_HEADS
                                                                           : CACHE_VERIFY_ALL);
        cache_set_share(g->cache[i], k->max_share);
    }
    LIST_EACH(it, &master.caches)
    {
        struct cache_home *h = CONTAINER(it, struct cache_home, link);
        if (!caches_own(g, h, helper))
            cache_close(&h->cache);
    }
}

void caches_promotions(const struct generation *g, struct worker_promote *ret)
{
    for (size_t i = 0; i < g->config->ncache; i++) {
        const struct cache_home *h = g->home[i];
        ret[i] = (struct worker_promote){.from = h->from ? h->from->cache : NULL, .base = &h->base};
    }
}

void caches_promoted(const struct child *c, const struct msg *m)
{
    struct worker_promoted in;
    const struct generation *g = c->gen;
    memcpy(&in, m->payload, m->len == sizeof(in) ? sizeof(in) : 0);
    if (m->len != sizeof(in) || !g->config || in.cache >= g->config->ncache) {
        LOG_WARN("channel_malformed", "%s pid %d sent a malformed message", child_name(c),
                 (int)c->pid);
        return;
    }
    struct cache_home *h = g->home[in.cache];
    if (!h->from)
        return;
    /* A helper that came for a dead one finds what that one has copied. */
    if (in.objects < h->moved.objects) {
        in.objects = h->moved.objects;
        in.bytes = h->moved.bytes;
    }
    if (in.copied && !h->moved.copied)
        LOG_NOTICE("cache_promoted",
                   "cache " SLICE_FMT ": %" PRIu64 " objects were promoted from the old one%s",
                   SLICE_ARG(h->name), in.objects, in.full ? ", as many as fit" : "");
    h->moved = in;
    if (in.ended)
        caches_forget_old(h);
}

void caches_reap(uint32_t slot)
{
    uint64_t kick[CACHE_SLOTS / 64] = {0}; /* of those asleep, who are all woken anyway */
    LIST_EACH(it, &master.caches)
    cache_reap(CONTAINER(it, struct cache_home, link)->cache, slot, kick);
}

/* ---- systemd's descriptor store ---- */

/* NULL, or what speaks against it. */
static const char *caches_examine(int fd, struct cache **ret, struct buf *findings)
{
    const int seals = fcntl(fd, F_GET_SEALS);
    struct stat st;
    if (seals < 0 || (seals & CACHE_SEALS) != CACHE_SEALS)
        return "it is no sealed memory";
    if (fstat(fd, &st) < 0 || st.st_uid != geteuid())
        return "it is another user's";
    int rc = cache_attach(fd, ret);
    if (rc < 0)
        return rc == -ERR_CORRUPT ? "it is damaged or has another layout" : err_text(rc);
    if (!caches_lock(fd, true))
        return "it is in use by processes of another rpd";
    cache_reap_all(*ret);
    /* Everything is checked when it is read, too: a large one is not to delay the start. */
    if (cache_mapping_size(*ret) > EXAMINE_MOST)
        return NULL;
    return cache_fsck(*ret, true, findings) > 0 ? "it is damaged" : NULL;
}

bool caches_restored(struct slice name, int fd)
{
    struct cache *c = NULL;
    struct cache_home *h = NULL;
    struct buf findings;
    char path[64];
    buf_init(&findings, 4096);
    /* A file of its own, for a lock of its own. */
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int own = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    const char *why = own < 0 ? strerror(errno) : caches_examine(own, &c, &findings);
    LIST_EACH(it, &master.caches)
    {
        if (!why && slice_eq(CONTAINER(it, struct cache_home, link)->name, name))
            why = "there are two";
    }
    if (!why)
        h = caches_add(name, SLICE(""), 0, c);
    if (h) {
        h->inherited = h->kept = h->stored = true;
    } else {
        size_t line = findings.n ? (size_t)(strchrnul(findings.p, '\n') - findings.p) : 0;
        LOG_WARN("cache_systemd",
                 "cache " SLICE_FMT ", which systemd kept, cannot be used: %s%s%.*s",
                 SLICE_ARG(name), why ? why : err_text(-ERR_NOMEM), line ? ": " : "", (int)line,
                 line ? findings.p : "");
        if (c)
            cache_close(&c);
        else if (own >= 0)
            close(own);
    }
    buf_fini(&findings);
    return h != NULL;
}

static void caches_hand_over(const struct generation *g)
{
    /* What goes first: a name removes all that have it. */
    LIST_EACH(it, &master.caches)
    {
        struct cache_home *h = CONTAINER(it, struct cache_home, link);
        if (h->stored && !caches_own(g, h, false)) {
            fdstore_drop(h->name);
            h->stored = false;
        }
    }
    for (size_t i = 0; i < g->config->ncache; i++) {
        struct cache_home *h = g->home[i];
        if (h->file.n == 0 && !h->stored)
            h->stored = fdstore_put(h->name, cache_fd(h->cache));
    }
}

void caches_store(const struct generation *g)
{
    bool others = false;
    if (fdstore_on())
        caches_hand_over(g);
    LIST_EACH(it, &master.generations)
    others |= !CONTAINER(it, struct generation, link)->config;
    if (!others)
        caches_inherited_gone();
}

void caches_outlive(const struct generation *g, struct buf *out)
{
    for (size_t i = 0; g->config && i < g->config->ncache; i++) {
        const struct cache_home *h = g->home[i];
        if (h->file.n == 0 && !h->stored)
            continue;
        buf_printf(out, "%s" SLICE_FMT " ", out->n ? "; " : "", SLICE_ARG(h->name));
        if (h->file.n)
            buf_printf(out, "in " SLICE_FMT, SLICE_ARG(h->file));
        else
            buf_str(out, "by systemd");
    }
}

/* ---- Binary upgrades ---- */

static bool caches_live(const struct cache_home *h)
{
    const struct generation *g = master.live;
    for (size_t i = 0; g && g->config && i < g->config->ncache; i++) {
        if (g->home[i] == h)
            return true;
    }
    return false;
}

/* The live generation's last: see caches_current(). */
void caches_describe(struct buf *b)
{
    for (int live = 0; live < 2; live++) {
        LIST_EACH(it, &master.caches)
        {
            const struct cache_home *h = CONTAINER(it, struct cache_home, link);
            if (caches_live(h) == (live == 1))
                buf_printf(b, "cache %d %u %d %d %d =" SLICE_FMT " " SLICE_FMT "\n",
                           cache_fd(h->cache), h->workers, h->refused, h->huge, h->stored,
                           SLICE_ARG(h->name), SLICE_ARG(h->file));
        }
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
    if (n < 4 || !slice_starts(text, SLICE("=")) || !slice_next(&text, ' ', &name)) {
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
        caches_lose(name);
        close(fd);
        return;
    }
    struct cache_home *h = caches_add(name, slice_trim(text), (uint32_t)v[0], c);
    if (!h) {
        cache_close(&c);
        return;
    }
    h->refused = v[1] != 0;
    h->huge = v[2] != 0;
    h->stored = v[3] != 0;
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
    LIST_EACH(it, &master.caches)
    caches_lose(CONTAINER(it, struct cache_home, link)->name);
    caches_inherited_gone();
}
