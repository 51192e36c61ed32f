/* From one mapping to another: grown, shrunk, with other pages; what is newer, purged or damaged is
 * never overruled, in whatever order things happen; and whoever dies in between hurts nobody. */
#include "base/clock.h"
#include "shm/cache_promote.h"
#include "t/unit/cache_fixture.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define SITE    5u
#define OBJECTS 500u
#define POPULAR 150u

static char buf[400000];
static uint64_t seed = 88172645463325252ull;

struct pair {
    struct cache *from, *to;
    struct cache_worker *fw, *tw, *fp, *tp; /* a worker's and the promoter's */
    struct cache_promote_base base;
    struct cache_promote *p;
};

static struct cache *make(uint64_t size, uint32_t slab, struct cache_worker **w,
                          struct cache_worker **own)
{
    const struct cache_options o = {
        .size = size, .slab = slab, .workers = 1, .slots = 4, .objects = 4000};
    struct cache *c;

    if (cache_create(&o, &c) < 0)
        tap_bail("cache");
    *w = *own = NULL;
    return c;
}

static void join(struct cache *c, struct cache_worker **w, struct cache_worker **own)
{
    if (cache_join(c, 1u << 8, NULL, NULL, w) < 0 ||
        cache_join(c, 1u << 8 | 1, NULL, NULL, own) < 0)
        tap_bail("join");
    cache_set_time(*w, 1000);
    cache_set_time(*own, 1000);
}

static void begin_old(struct pair *x, uint64_t size, uint32_t slab)
{
    memset(x, 0, sizeof(*x));
    x->from = make(size, slab, &x->fw, &x->fp);
    join(x->from, &x->fw, &x->fp);
}

static void begin_new(struct pair *x, uint64_t size, uint32_t slab)
{
    x->to = make(size, slab, &x->tw, &x->tp);
    cache_promote_adopt(x->to, x->from, &x->base);
    join(x->to, &x->tw, &x->tp);
}

static void promoter(struct pair *x)
{
    if (cache_promote_open(x->fp, x->tp, &x->base, &x->p) < 0)
        tap_bail("promoter");
}

static unsigned run(struct pair *x)
{
    unsigned n = 1;

    while (cache_promote_step(x->p, 200)) {
        if (n++ > 100000)
            tap_bail("the promoter does not come to an end");
    }
    return n;
}

static void end(struct pair *x)
{
    cache_promote_close(&x->p);
    cache_leave(&x->fw);
    cache_leave(&x->fp);
    cache_leave(&x->tw);
    cache_leave(&x->tp);
    cache_close(&x->from);
    cache_close(&x->to);
}

static size_t size_of(uint64_t id)
{
    return id % 10 == 0 ? 3000 + id % OBJECTS * 611 : id % OBJECTS * 13;
}

static int put(struct cache_worker *w, uint64_t id, uint64_t version)
{
    const struct cache_key k = fx_key(w->c, id);
    const struct cache_attr a = {.fresh = 1000,
                                 .base = 990,
                                 .site = SITE,
                                 .swr = 48,
                                 .sie = 64,
                                 .user = (uint32_t)version,
                                 .birth = cache_birth(w->c, SITE)};
    const uint64_t tag = id;
    struct fx_meta m;

    fx_bytes(buf, id, version, 0, size_of(id));
    return cache_insert(w, &k, &a, &tag, 1, fx_meta(&m, id, version, size_of(id)),
                        slice_of(buf, size_of(id)));
}

/* Version found with the right bytes and times; 0 missing, -1 wrong; soft ones + 1000. */
static int64_t get(struct cache_worker *w, uint64_t id)
{
    const struct cache_scope s = {.site = SITE};
    const struct cache_key k = fx_key(w->c, id);
    struct cache_hit h;
    uint64_t version = 0;
    int rc;

    if (!cache_lookup(w, &k, &s, &h))
        return 0;
    rc = fx_check(w, &h, id, &version);
    if (h.attr.fresh != 1000 || h.attr.base != 990 || h.attr.swr != 48 || h.attr.sie != 64 ||
        h.attr.site != SITE || h.attr.user != version || h.ntags != 1 || h.tags[0] != id)
        rc = -1;
    version += h.soft ? 1000 : 0;
    cache_release(w, &h);
    return rc > 0 ? (int64_t)version : rc;
}

static unsigned count(struct cache_worker *w, int64_t version)
{
    unsigned n = 0;

    for (uint64_t id = 1; id <= OBJECTS; id++)
        n += get(w, id) == version;
    return n;
}

static void fill(struct cache_worker *w)
{
    unsigned failed = 0;

    for (uint64_t id = 1; id <= OBJECTS; id++)
        failed += put(w, id, 1) < 0;
    if (failed)
        tap_bail("%u not stored", failed);
}

static void grown(uint32_t slab, uint32_t to_slab)
{
    struct cache_promote_stat st;
    struct pair x;
    struct cache_stat s;

    begin_old(&x, 32u << 20, slab);
    fill(x.fw);
    cache_purge(x.from, SITE, 203, false);
    cache_purge(x.from, SITE, 204, true);
    (void)put(x.fw, 205, 2);
    begin_new(&x, 64u << 20, to_slab);
    tap_is_int(get(x.tw, 1), 0, "the new one is empty");
    promoter(&x);
    cache_promote_stat(x.p, &st);
    tap_ok(!st.copied && st.left >= OBJECTS, "%llu records to be copied",
           (unsigned long long)st.left);
    tap_ok(run(&x) > 1, "in steps");
    cache_promote_stat(x.p, &st);
    tap_ok(st.copied && !st.full && st.left == 0 && st.objects == OBJECTS - 1,
           "%llu objects are copied, all but the purged one", (unsigned long long)st.objects);
    tap_is_int(count(x.tw, 1), OBJECTS - 3, "with their bytes, times and tags");
    tap_is_int(get(x.tw, 203), 0, "a purged one is not");
    tap_is_int(get(x.tw, 204), 1001, "a softly purged one is one still");
    tap_is_int(get(x.tw, 205), 2, "of two versions the newer");
    tap_ok(!cache_promote_alone(x.p), "the old one has a worker");
    cache_leave(&x.fw);
    tap_ok(cache_promote_alone(x.p), "and then no more");
    cache_stat(x.to, &s);
    tap_is_int(s.objects, OBJECTS - 1, "in the index");
    tap_is_int(fx_fsck(x.from, false) + fx_fsck(x.to, false), 0, "fsck");
    end(&x);
}

/* What was asked for again is in the main queue, and goes first. */
static void shrunk(void)
{
    unsigned main = 0, wrong = 0;
    struct cache_promote_stat st;
    struct cache_stat s;
    struct pair x;

    begin_old(&x, 8u << 20, 64u << 10);
    for (uint64_t i = 1; i <= 6000; i++) {
        /* Some are popular, the others come once. */
        if (get(x.fw, 1 + i % POPULAR) == 0)
            (void)put(x.fw, 1 + i % POPULAR, 1);
        (void)put(x.fw, OBJECTS + i, 1);
    }
    begin_new(&x, 2u << 20, 16u << 10);
    promoter(&x);
    (void)run(&x);
    cache_promote_stat(x.p, &st);
    cache_stat(x.to, &s);
    for (uint64_t id = 1; id <= OBJECTS; id++) {
        const int64_t v = get(x.tw, id);

        wrong += v < 0;
        main += id <= POPULAR && id % 10 != 0 && v == 1;
    }
    tap_ok(st.objects >= POPULAR / 2 && s.objects == st.objects,
           "%llu objects fit, none of them was evicted", (unsigned long long)st.objects);
    tap_ok(main >= POPULAR * 8 / 10, "%u of %u small popular ones are among them", main,
           POPULAR * 9 / 10);
    tap_is_int(wrong, 0, "no wrong byte");
    tap_ok(s.main_bytes > 0, "%llu bytes are in the main queue", (unsigned long long)s.main_bytes);
    tap_is_int(fx_fsck(x.from, false) + fx_fsck(x.to, false), 0, "fsck");
    end(&x);
}

static void order(void)
{
    struct pair x;

    begin_old(&x, 32u << 20, 0);
    fill(x.fw);
    begin_new(&x, 16u << 20, 0);
    /* Before anything is copied. */
    (void)put(x.tw, 1, 7);
    cache_purge(x.to, SITE, 2, false);
    cache_purge(x.to, SITE, 3, true);
    (void)put(x.tw, 4, 7);
    cache_purge(x.to, SITE, 4, false);
    (void)put(x.fw, 5, 3);
    cache_purge(x.from, SITE, 6, false);
    (void)put(x.fw, 6, 3);
    promoter(&x);
    (void)run(&x);
    tap_is_int(get(x.tw, 1), 7, "what is stored in the new one stays");
    tap_is_int(get(x.tw, 2), 0, "what is purged in the new one before it is copied is gone");
    tap_is_int(get(x.tw, 3), 1001, "softly: soft");
    tap_is_int(get(x.tw, 4), 0, "nor does the old one stand in for one that was purged");
    tap_is_int(get(x.tw, 5), 3, "what the old one's workers store meanwhile comes");
    tap_ok(get(x.tw, 6) != 1, "what they purged first never");
    /* Afterwards. */
    (void)put(x.fw, 7, 3);
    (void)put(x.tw, 8, 7);
    (void)put(x.fw, 8, 3);
    (void)put(x.fw, OBJECTS + 1, 3);
    cache_purge(x.from, SITE, 9, false);
    cache_purge(x.from, SITE, 10, true);
    cache_purge(x.to, SITE, 11, false);
    (void)run(&x);
    tap_is_int(get(x.tw, 7), 3, "a newer version of one that was copied");
    (void)put(x.fw, 7, 4);
    (void)run(&x);
    tap_is_int(get(x.tw, 7), 4, "and the one after it");
    tap_is_int(get(x.tw, 8), 7, "but not over one of the new cache's own");
    tap_is_int(get(x.tw, OBJECTS + 1), 3, "one more");
    tap_is_int(get(x.tw, 9), 0, "a purge in the old one reaches the copy");
    tap_is_int(get(x.tw, 10), 1010 - 9, "a soft one too");
    tap_is_int(get(x.tw, 11), 0, "a purge in the new one too");
    (void)put(x.tw, 9, 8);
    tap_is_int(get(x.tw, 9), 8, "what is fetched after a purge is there");
    cache_purge(x.to, UINT32_MAX, CACHE_NAME_ALL, false);
    cache_purge(x.from, UINT32_MAX, CACHE_NAME_ALL, false);
    (void)put(x.fw, 12, 3);
    (void)run(&x);
    tap_is_int(count(x.tw, 1), 0, "a purge of all");
    (void)put(x.tw, 12, 9);
    tap_is_int(get(x.tw, 12), 9, "after which all is as ever");
    /* Another promoter, after the death of the first, finds what it has done. */
    cache_promote_close(&x.p);
    promoter(&x);
    (void)run(&x);
    tap_is_int(get(x.tw, 12), 9, "another promoter changes nothing");
    tap_is_int(count(x.tw, 1), 0, "and brings nothing back");
    tap_is_int(fx_fsck(x.from, false) + fx_fsck(x.to, false), 0, "fsck");
    end(&x);
}

/* The counts of both caches go apart: what is compared has to be cut to where they were one. */
static void counts(void)
{
    struct pair x;

    begin_old(&x, 32u << 20, 0);
    fill(x.fw);
    begin_new(&x, 16u << 20, 0);
    promoter(&x);
    (void)run(&x);
    (void)put(x.tw, 8, 7);
    for (int i = 0; i < 5; i++)
        (void)put(x.fw, 8, 3);
    (void)run(&x);
    tap_is_int(get(x.tw, 8), 7, "five stores in the old cache are not newer than one in the new");
    cache_purge(x.from, SITE, 30, false);
    (void)run(&x);
    (void)put(x.tw, 30, 9);
    cache_purge(x.to, SITE, 9999, false); /* everything is tested anew */
    tap_is_int(get(x.tw, 30), 9, "what was fetched after a purge of the old cache is kept");
    for (uint64_t i = 0; i < 5; i++)
        cache_purge(x.from, SITE, 9000 + i, false);
    (void)put(x.fw, OBJECTS + 20, 3);
    cache_purge(x.to, SITE, OBJECTS + 20, false);
    (void)run(&x);
    tap_is_int(get(x.tw, OBJECTS + 20), 0, "nor is it younger than one purge of the new");
    end(&x);
}

/* Purges that have the same number in both caches, and those of the one that is behind. */
static void numbers(void)
{
    struct pair x;

    begin_old(&x, 32u << 20, 0);
    fill(x.fw);
    begin_new(&x, 64u << 20, 0);
    promoter(&x);
    (void)run(&x);
    cache_purge(x.to, SITE, 9001, false);
    tap_is_int(get(x.tw, 40), 1, "tested after the new cache's first purge");
    cache_purge(x.from, SITE, 40, false);
    (void)run(&x);
    tap_is_int(get(x.tw, 40), 0, "the old one's first purge reaches it all the same");
    for (uint64_t i = 0; i < 5; i++)
        cache_purge(x.to, SITE, 9002 + i, false);
    (void)put(x.tw, 41, 7);
    cache_purge(x.from, SITE, 41, false);
    (void)run(&x);
    tap_is_int(get(x.tw, 41), 0, "and what the new one had stored by itself");
    (void)put(x.tw, 41, 8);
    cache_purge(x.from, SITE, 42, true);
    (void)run(&x);
    tap_is_int(get(x.tw, 41), 8, "but not what it stores afterwards");
    tap_is_int(get(x.tw, 42), 1001, "softly: soft");
    tap_is_int(get(x.tw, 43), 1, "and no others");
    end(&x);
}

/* Killed at any moment, swept, and begun again. */
static void killed(void)
{
    unsigned wrong = 0, unsound = 0;
    struct pair x;

    begin_old(&x, 32u << 20, 0);
    fill(x.fw);
    begin_new(&x, 24u << 20, 32u << 10);
    cache_leave(&x.fp);
    cache_leave(&x.tp);
    for (int i = 0; i < 40; i++) {
        uint64_t kick[CACHE_SLOTS / 64];
        pid_t pid = fork();

        if (pid == 0) {
            if (cache_join(x.from, 1u << 8 | 1, NULL, NULL, &x.fp) < 0 ||
                cache_join(x.to, 1u << 8 | 1, NULL, NULL, &x.tp) < 0)
                _exit(1);
            promoter(&x);
            for (;;)
                (void)cache_promote_step(x.p, 1000);
        }
        usleep((useconds_t)(fx_rnd(&seed) % 4000));
        if (i % 4 == 0)
            (void)put(x.tw, 1 + fx_rnd(&seed) % OBJECTS, 7);
        kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
        cache_reap(x.from, 1, kick);
        cache_reap(x.to, 1, kick);
        unsound += fx_fsck(x.from, false) != 0 || fx_fsck(x.to, false) != 0;
        for (uint64_t id = 1; id <= OBJECTS; id++)
            wrong += get(x.tw, id) < 0;
    }
    tap_is_int(unsound, 0, "forty deaths: both are sound");
    tap_is_int(wrong, 0, "no wrong byte");
    cache_leave(&x.fw);
    cache_leave(&x.tw);
    join(x.from, &x.fw, &x.fp);
    join(x.to, &x.tw, &x.tp);
    promoter(&x);
    (void)run(&x);
    tap_is_int(count(x.tw, 1) + count(x.tw, 7), OBJECTS, "the last one copies the rest");
    end(&x);
}

static void damaged(void)
{
    unsigned wrong = 0, unsound = 0, found = 0;
    struct pair x;

    for (int round = 0; round < 60; round++) {
        begin_old(&x, 1u << 20, 16u << 10);
        for (uint64_t id = 1; id <= 60; id++)
            (void)put(x.fw, id, 1);
        begin_new(&x, 2u << 20, 16u << 10);
        for (int k = 0; k < 200; k++) {
            const uint64_t low = x.from->sb.off[CACHE_AREA_HOT];

            x.from->base[low + fx_rnd(&seed) % (x.from->size - low)] ^=
                (unsigned char)(1u << fx_rnd(&seed) % 8);
        }
        promoter(&x);
        (void)run(&x);
        for (uint64_t id = 1; id <= 60; id++) {
            const int64_t v = get(x.tw, id);

            found += v > 0;
            wrong += v < 0;
        }
        unsound += fx_fsck(x.to, false) != 0;
        end(&x);
    }
    tap_ok(found > 500, "%u objects come over from damaged caches", found);
    tap_is_int(wrong, 0, "none with a wrong byte");
    tap_is_int(unsound, 0, "and the new one is sound");
}

int main(void)
{
    clock_update();
    grown(0, 0);
    grown(16u << 10, 1u << 20);
    grown(1u << 20, 16u << 10);
    shrunk();
    order();
    counts();
    numbers();
    killed();
    damaged();
    return tap_done();
}
