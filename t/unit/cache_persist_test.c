/* A cache on disk: what was in it is there again after a start with a new mapping, stale and never
 * over newer objects; files that were cut or changed anywhere give fewer objects, never wrong ones;
 * the files follow what is in the cache and keep to their limit. */
#include "base/clock.h"
#include "shm/cache_persist.h"
#include "t/unit/cache_fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64] = "/tmp/rpd-persist-XXXXXX";
static int dirfd_;
static char buf[600000];
static char said[512];
static uint64_t seed = 88172645463325252ull;

struct life {
    struct cache *c;
    struct cache_worker *w, *own; /* a worker's, and the persister's */
    struct cache_persist *p;
};

static void say(void *arg, const char *line)
{
    (void)arg;
    (void)snprintf(said, sizeof(said), "%s", line);
}

static int persister(struct life *l, uint64_t limit)
{
    const struct cache_persist_options o = {
        .rate = 1u << 30, .open_ms = 1, .limit = limit, .say = say};

    return cache_persist_open(dirfd_, l->own, &o, &l->p);
}

/* The mapping of a new start; the persister is opened by itself. */
static void start(struct life *l, uint64_t size, uint32_t slab)
{
    const struct cache_options o = {
        .size = size, .slab = slab, .workers = 1, .slots = 4, .objects = 4000};

    memset(l, 0, sizeof(*l));
    if (cache_create(&o, &l->c) < 0 || cache_persist_adopt(dirfd_, l->c, false) < 0 ||
        cache_join(l->c, 1u << 8, NULL, NULL, &l->w) < 0 ||
        cache_join(l->c, 1u << 8 | 1, NULL, NULL, &l->own) < 0)
        tap_bail("cache");
}

static void stop(struct life *l)
{
    cache_persist_close(&l->p);
    cache_leave(&l->w);
    cache_leave(&l->own);
    cache_close(&l->c);
}

/* Until all is on disk, or (load) until all is read. */
static void settle(struct life *l, bool load)
{
    struct cache_persist_stat st;
    uint64_t looks;

    cache_persist_stat(l->p, &st);
    looks = st.looks;
    for (int i = 0; i < 200000; i++) {
        const enum cache_persist_next next = cache_persist_step(l->p, 500);
        struct pollfd fd = {.fd = cache_persist_fd(l->p), .events = POLLIN};

        cache_persist_stat(l->p, &st);
        if (load ? !st.loading
                 : next == CACHE_PERSIST_IDLE && st.pending == 0 && st.looks > looks + 1)
            return;
        if (next == CACHE_PERSIST_WAIT)
            (void)poll(&fd, 1, 10000);
        else if (next == CACHE_PERSIST_IDLE)
            (void)poll(&fd, 1, (int)cache_persist_wait_ms(l->p));
    }
    tap_bail("the persister does not come to an end");
}

static unsigned each_file(void (*fn)(const char *name, void *arg), void *arg)
{
    DIR *d = fdopendir(openat(dirfd_, ".", O_RDONLY | O_DIRECTORY));
    struct dirent *e;
    unsigned n = 0;

    while (d && (e = readdir(d)) != NULL) {
        if (!strstr(e->d_name, ".slab"))
            continue;
        n++;
        if (fn)
            fn(e->d_name, arg);
    }
    closedir(d);
    return n;
}

static void erase(const char *name, void *arg)
{
    (void)arg;
    (void)unlinkat(dirfd_, name, 0);
}

static void add_size(const char *name, void *arg)
{
    struct stat st;

    if (fstatat(dirfd_, name, &st, 0) == 0)
        *(uint64_t *)arg += (uint64_t)st.st_size;
}

static size_t size_of(uint64_t id)
{
    return id % 10 == 0 ? 3000 + id * 911 : id * 13;
}

/* Found with the right bytes: its version; what is missing: 0; wrong: -1. */
static int64_t get(struct life *l, uint64_t id, bool *ret_soft)
{
    const struct cache_scope s = {.site = 5};
    const struct cache_key k = fx_key(l->c, id);
    struct cache_hit h;
    uint64_t version = 0;
    int rc;

    *ret_soft = false;
    if (!cache_lookup(l->w, &k, &s, &h))
        return 0;
    rc = fx_check(l->w, &h, id, &version);
    *ret_soft = h.soft && h.attr.swr == 0 && h.attr.sie == 0;
    if (h.attr.fresh != 1000 || h.attr.site != 5 || h.attr.user != version ||
        (id % 7 == 0 && (h.ntags != 1 || h.tags[0] != id)))
        rc = -1;
    cache_release(l->w, &h);
    return rc > 0 ? (int64_t)version : rc;
}

static int put(struct life *l, uint64_t id, uint64_t version)
{
    const struct cache_key k = fx_key(l->c, id);
    const struct cache_attr a = {.fresh = 1000,
                                 .site = 5,
                                 .swr = 50,
                                 .sie = 60,
                                 .user = (uint32_t)version,
                                 .birth = cache_birth(l->c, 5)};
    const uint64_t tag = id;
    struct fx_meta m;

    fx_bytes(buf, id, version, 0, size_of(id));
    return cache_insert(l->w, &k, &a, &tag, id % 7 == 0, fx_meta(&m, id, version, size_of(id)),
                        slice_of(buf, size_of(id)));
}

static void come_back(void)
{
    const struct cache_attr pass = {.type = CACHE_PASS, .site = 5};
    unsigned found = 0, soft = 0, wrong = 0, failed = 0;
    struct cache_persist_stat st;
    struct cache_key k;
    struct life l, m;
    uint64_t bytes = 0;
    bool s;

    start(&l, 32u << 20, 0);
    tap_is_int(persister(&l, 0), 0, "opened");
    for (uint64_t id = 1; id <= 500; id++)
        failed += put(&l, id, 1) < 0;
    cache_purge(l.c, 5, 203, false); /* the tag of object 203 = 7 * 29 */
    settle(&l, false);
    for (uint64_t id = 1; id <= 100; id++)
        failed += put(&l, id, 2) < 0;
    k = fx_key(l.c, 9001);
    failed += cache_insert(l.w, &k, &pass, NULL, 0, SLICE(""), SLICE("")) < 0;
    tap_is_int(failed, 0, "all stored");
    settle(&l, false);
    cache_persist_stat(l.p, &st);
    (void)each_file(add_size, &bytes);
    tap_ok(st.files > 0 && st.files == each_file(NULL, NULL) && st.bytes == bytes,
           "%llu files of %llu bytes, as counted", (unsigned long long)st.files,
           (unsigned long long)st.bytes);
    memset(&m, 0, sizeof(m));
    m = l;
    m.p = NULL;
    tap_is_int(persister(&m, 0), -ERR_AGAIN, "one has the directory");
    /* A persister that comes after another one of the same cache knows its files. */
    cache_persist_close(&l.p);
    tap_is_int(persister(&l, 0), 0, "opened again");
    settle(&l, false);
    cache_persist_stat(l.p, &st);
    tap_ok(st.written == 0 && st.restored == 0 && st.files > 0, "nothing is written twice");
    tap_is_int(fx_fsck(l.c, false), 0, "fsck");
    stop(&l);

    start(&m, 16u << 20, 0); /* another geometry */
    tap_is_int(put(&m, 77, 9), 0, "stored before it is read");
    tap_is_int(persister(&m, 0), 0, "opened after a new start");
    tap_is_int(get(&m, 78, &s), 0, "not there yet");
    settle(&m, true);
    for (uint64_t id = 1; id <= 500; id++) {
        const int64_t v = get(&m, id, &s);

        found += v > 0;
        soft += s;
        wrong += v < 0 ||
                 (v > 0 && v != (id == 77    ? 9
                                 : id <= 100 ? 2
                                             : 1)) ||
                 (v > 0 && s == (id == 77));
    }
    tap_ok(found == 499, "%u of 500 are back", found);
    tap_is_int(get(&m, 203, &s), 0, "what was purged before it was written is not");
    tap_is_int(wrong, 0, "all with their bytes, the newest of each, and stale but for the new one");
    tap_is_int(soft, found - 1, "without grace");
    k = fx_key(m.c, 9001);
    tap_is_int(cache_remove(m.w, &k), 0, "no hit-for-miss markers");
    settle(&m, false);
    cache_persist_stat(m.p, &st);
    bytes = 0;
    (void)each_file(add_size, &bytes);
    tap_ok(st.files == each_file(NULL, NULL) && st.bytes == bytes && st.bytes <= 16u << 20,
           "the old files went when the new ones were there: %llu, %llu bytes",
           (unsigned long long)st.files, (unsigned long long)st.bytes);
    cache_purge(m.c, 5, CACHE_NAME_ALL, false);
    tap_is_int(get(&m, 100, &s), 0, "a purge reaches what was restored");
    stop(&m);

    start(&l, 64u << 10, 4096); /* much less room than there was */
    tap_is_int(persister(&l, 0), 0, "opened for a small cache");
    settle(&l, true);
    wrong = found = 0;
    for (uint64_t id = 1; id <= 500; id++) {
        const int64_t v = get(&l, id, &s);

        found += v > 0;
        wrong += v < 0;
    }
    tap_ok(wrong == 0, "%u objects in a cache of 64 KiB", found);
    tap_is_int(fx_fsck(l.c, false), 0, "fsck");
    stop(&l);
    (void)each_file(erase, NULL);
}

/* Files follow evictions and keep to their limit while objects come and go. */
static void churn(void)
{
    struct cache_persist_stat st;
    uint64_t most = 0, bytes = 0;
    struct life l;

    start(&l, 1u << 20, 0);
    tap_is_int(persister(&l, 600u << 10), 0, "opened");
    for (uint64_t i = 0; i < 30000; i++) {
        (void)put(&l, 1 + fx_rnd(&seed) % 300, 1 + i);
        (void)cache_persist_step(l.p, 50);
        cache_persist_stat(l.p, &st);
        most = st.bytes > most ? st.bytes : most;
    }
    settle(&l, false);
    (void)each_file(add_size, &bytes);
    cache_persist_stat(l.p, &st);
    tap_ok(st.written > 1u << 20 && most > 100u << 10 && most <= (600u << 10) + (32u << 10),
           "%llu bytes were written, never more than %llu at a time",
           (unsigned long long)st.written, (unsigned long long)most);
    tap_ok(bytes == st.bytes && st.files == each_file(NULL, NULL), "and are counted");
    tap_is_int(fx_fsck(l.c, false), 0, "fsck");
    stop(&l);
    (void)each_file(erase, NULL);
}

static void keep_name(const char *name, void *arg)
{
    (void)snprintf(arg, 64, "%s", name);
}

static void rewrite(const char *name, const char *bytes, size_t n)
{
    const int fd = openat(dirfd_, name, O_WRONLY | O_TRUNC | O_CREAT, 0600);

    if (fd < 0 || write(fd, bytes, n) != (ssize_t)n)
        tap_bail("file");
    close(fd);
}

/* Reads the file back into a cache of its own. */
static void try_file(unsigned *found, unsigned *wrong, uint64_t *refused)
{
    struct cache_persist_stat st;
    struct life l;
    bool s;

    start(&l, 512u << 10, 16u << 10);
    if (persister(&l, 0) < 0)
        tap_bail("open");
    settle(&l, true);
    *found = *wrong = 0;
    for (uint64_t id = 1; id <= 40; id++) {
        const int64_t v = get(&l, id, &s);

        *found += v > 0;
        *wrong += v < 0 || (v > 0 && !s);
    }
    *wrong += fx_fsck(l.c, false) != 0;
    cache_persist_stat(l.p, &st);
    *refused = st.refused;
    stop(&l);
}

static void damage(void)
{
    unsigned found, wrong, bad = 0, silent = 0, more = 0;
    char name[64] = "", *whole;
    uint64_t refused;
    struct life l;
    struct stat st;
    size_t n;
    int fd;

    start(&l, 1u << 20, 64u << 10);
    if (persister(&l, 0) < 0)
        tap_bail("open");
    for (uint64_t id = 1; id <= 40; id++)
        (void)put(&l, id, 1);
    settle(&l, false);
    stop(&l);
    tap_ok(each_file(keep_name, name) > 0, "a file");
    fd = openat(dirfd_, name, O_RDONLY);
    if (fd < 0 || fstat(fd, &st) < 0 || (whole = malloc((size_t)st.st_size)) == NULL ||
        read(fd, whole, (size_t)st.st_size) != st.st_size)
        tap_bail("file");
    close(fd);
    n = (size_t)st.st_size;
    (void)each_file(erase, NULL);
    rewrite(name, whole, n);
    try_file(&found, &wrong, &refused);
    tap_ok(found > 5 && wrong == 0 && refused == 0, "%u objects from one file of %zu bytes", found,
           n);
    more = found;
    for (int i = 0; i < 400; i++) {
        const size_t at = i < 130 ? (size_t)i : fx_rnd(&seed) % n;
        const char bit = (char)(1 << fx_rnd(&seed) % 8);

        whole[at] ^= bit;
        rewrite(name, whole, n);
        try_file(&found, &wrong, &refused);
        whole[at] ^= bit;
        bad += wrong > 0 || found > more;
        silent += refused == 0;
        (void)each_file(erase, NULL);
    }
    tap_is_int(bad, 0, "flipped bits: no wrong object");
    tap_is_int(silent, 0, "each was seen: %s", said);
    bad = silent = 0;
    for (int i = 0; i < 200; i++) {
        rewrite(name, whole, i < 100 ? (size_t)i : fx_rnd(&seed) % n);
        try_file(&found, &wrong, &refused);
        bad += wrong > 0 || found > more;
        silent += refused == 0;
        (void)each_file(erase, NULL);
    }
    tap_is_int(bad, 0, "cut off: no wrong object");
    tap_is_int(silent, 0, "each was seen");
    /* Under the name of a slab: a directory, a link, a pipe, nothing. */
    (void)mkdirat(dirfd_, name, 0700);
    try_file(&found, &wrong, &refused);
    tap_ok(found == 0 && refused == 1, "a directory");
    (void)unlinkat(dirfd_, name, AT_REMOVEDIR);
    if (symlinkat("/etc/passwd", dirfd_, name) < 0)
        tap_bail("link");
    try_file(&found, &wrong, &refused);
    tap_ok(found == 0 && refused == 1, "a link");
    (void)unlinkat(dirfd_, name, 0);
    (void)mkfifoat(dirfd_, name, 0600);
    try_file(&found, &wrong, &refused);
    tap_ok(found == 0 && refused == 1, "a pipe");
    (void)unlinkat(dirfd_, name, 0);
    /* Another key: nothing in the files can be found by it. */
    rewrite(name, whole, n);
    rewrite("cache.key", "no key at all", 13);
    try_file(&found, &wrong, &refused);
    tap_ok(found == 0 && wrong == 0 && refused == 1, "a damaged key is replaced: %s", said);
    (void)each_file(erase, NULL);
    free(whole);
}

int main(void)
{
    if (!mkdtemp(dir))
        tap_bail("directory");
    dirfd_ = cache_persist_dir(dir, (uid_t)-1, (gid_t)-1);
    tap_ok(dirfd_ >= 0, "the directory");
    come_back();
    churn();
    damage();
    (void)unlinkat(dirfd_, "cache.key", 0);
    (void)unlinkat(dirfd_, "lock", 0);
    (void)chmod(dir, 0777);
    tap_is_int(cache_persist_dir(dir, (uid_t)-1, (gid_t)-1), -ERR_INVAL,
               "a directory others may write to");
    close(dirfd_);
    tap_is_int(rmdir(dir), 0, "nothing was left in it");
    tap_is_int(cache_persist_dir("/proc/none/such", (uid_t)-1, (gid_t)-1), -ERR_SYS,
               "no such place");
    return tap_done();
}
