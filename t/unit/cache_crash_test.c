/* Death after every instruction: each operation of the cache runs in a child under
 * PTRACE_SINGLESTEP; whenever the mapping has changed, a copy of it is swept by the reaper,
 * checked, swept once more and used. (CACHE.md, test plan T1) */
#include "t/unit/cache_fixture.h"
#include "t/unit/single_step.h"

#define ME      (1u << 8 | 0) /* who dies */
#define OTHER   (1u << 8 | 1) /* who goes on */
#define HEIR    (2u << 8 | 2)
#define OBJECTS 24u

static struct cache *c;   /* the live one */
static struct cache copy; /* handle of the image */
static unsigned char *image, *last, *again;
static struct cache_worker *w, *other, *dead;
static struct cache_follow followed; /* by the other, before the death */
static bool following;
static char buf[20000], ready[20000]; /* ready: made before the steps are counted */
static uint64_t lowest[OBJECTS], highest[OBJECTS];
static bool checking_purge;

static size_t size_of(uint64_t id, uint64_t version)
{
    return id % 4 == 3 ? 1500 + id % 100 * 50 + version : 40 + id % 100 * 7;
}

static int put_ready(struct cache_worker *x, uint64_t id, uint64_t version)
{
    const struct cache_key k = fx_key(x->c, id);
    const struct cache_attr a = {.fresh = CACHE_FOREVER, .birth = cache_birth(x->c, 0)};
    const size_t size = size_of(id, version);
    struct fx_meta m;

    return cache_insert(x, &k, &a, NULL, 0, fx_meta(&m, id, version, size), slice_of(ready, size));
}

static int put(struct cache_worker *x, uint64_t id, uint64_t version)
{
    return fx_put(x, id, version, size_of(id, version), buf, cache_birth(x->c, 0));
}

/* What the other followed when the leader died: it ends, or can be taken over and ended. */
static int go_on_following(const char *op, unsigned long step, struct cache_worker *heir)
{
    struct cache_follow f;
    struct cache_fill fill;
    struct cache_view v;
    struct iovec iov[8];
    struct cache_key k = fx_key(&copy, 7);
    const size_t total = size_of(7, 50);
    const struct cache_attr a = {.fresh = CACHE_FOREVER};
    struct fx_meta m;
    int n, bad = 0;
    size_t got;

    /* The same follower lives on: its pins and bits are in the image. */
    f = followed;
    heir->followers[f.flight] = 1;
    if (f.attached)
        heir->bodypins[cache_bodypin_of(&copy, f.body)] = 1;
    cache_follow_view(heir, &f, &v);
    switch (v.state) {
    case CACHE_ARRIVAL_WAITING:
    case CACHE_ARRIVAL_STREAM:
        printf("# %s, step %lu: the flight has no leader and nobody says so\n", op, step);
        bad++;
        break;
    case CACHE_ARRIVAL_DONE:
    case CACHE_ARRIVAL_FAILED:
    case CACHE_ARRIVAL_PASS:
    case CACHE_ARRIVAL_GONE:
        if (v.attached && v.state == CACHE_ARRIVAL_DONE) {
            n = cache_follow_body(heir, &f, 0, total, iov, 8, &got);
            bad +=
                v.size != total || got != total || n <= 0 || !fx_iov_good(&copy, iov, n, 7, 50, 0);
        }
        break;
    case CACHE_ARRIVAL_ORPHANED:
        n = cache_follow_take(heir, &f, &fill);
        if (n < 0) {
            printf("# %s, step %lu: cannot be taken over: %s\n", op, step, err_reason(n));
            bad++;
            break;
        }
        if (!fill.headed)
            bad += cache_fill_head(heir, &fill, &a, NULL, 0, fx_meta(&m, 7, 50, total), total) < 0;
        fx_bytes(buf, 7, 50, 0, total);
        bad += cache_fill_append(
                   heir, &fill,
                   slice_of(buf + (fill.size - fill.lead), total - (fill.size - fill.lead))) < 0;
        bad += cache_fill_done(heir, &fill) < 0;
        bad += fx_get(heir, 7, NULL) != 50;
        break;
    }
    cache_follow_leave(heir, &f);
    bad += cache_claim(heir, &k, NULL, UINT64_MAX, &fill, &f) != CACHE_LEAD;
    cache_fill_abort(heir, &fill, true, 0);
    if (bad)
        printf("# %s, step %lu: the follower is lost in state %d\n", op, step, (int)v.state);
    return bad;
}

static int look_at_all(struct cache_worker *x, const char *op, unsigned long step)
{
    const struct cache_scope s = {0};
    int bad = 0;

    for (uint64_t i = 0; i < OBJECTS; i++) {
        const int64_t v = fx_get(x, i, checking_purge ? &s : NULL);

        if (v < 0 || (v > 0 && ((uint64_t)v < lowest[i] || (uint64_t)v > highest[i]))) {
            printf("# %s, step %lu: object %d has version %lld\n", op, step, (int)i, (long long)v);
            bad++;
        }
    }
    return bad;
}

static int judge(const char *op, unsigned long step, unsigned long images)
{
    uint64_t kick[CACHE_SLOTS / 64];
    struct cache_worker *heir, *mate;
    int bad = 0;

    /* Between a death and its sweep others go on, with the same site's bytes too. */
    if (images % 2 && !following) {
        if (cache_join(&copy, HEIR, NULL, NULL, &mate) < 0)
            tap_bail("join");
        (void)put(mate, 2000, 1);
        cache_leave(&mate);
    }
    cache_reap(&copy, 0, kick);
    memcpy(again, image, c->size);
    cache_reap(&copy, 0, kick);
    if (memcmp(again, image, c->size) != 0) {
        printf("# %s, step %lu: the reaper twice is not the reaper once\n", op, step);
        bad++;
    }
    if (following) {
        if (cache_join(&copy, HEIR, NULL, NULL, &heir) < 0)
            tap_bail("join");
        /* It is the other's slot that follows. */
        heir->slot = 1;
        heir->bodypin = cache_bodypin(&copy, 1);
        heir->slabpin = cache_slabpin(&copy, 1);
        bad += go_on_following(op, step, heir);
        cache_leave(&heir);
    }
    for (uint32_t i = 1; i < 4; i++)
        cache_reap(&copy, i, kick);
    bad += fx_fsck(&copy, true) > 0;
    if (cache_join(&copy, HEIR, NULL, NULL, &mate) < 0)
        tap_bail("join");
    bad += look_at_all(mate, op, step);
    /* And life goes on: until everything old has been evicted. */
    if (step % 7 == 0 || following) {
        for (uint64_t i = 0; i < 30; i++) {
            const int rc = put(mate, 1000 + i, 1);

            if ((rc < 0 && rc != -ERR_EXIST) || fx_get(mate, 1000 + i, NULL) != 1) {
                printf("# %s, step %lu: cannot go on: %s\n", op, step, err_reason(rc));
                bad++;
            }
        }
        bad += look_at_all(mate, op, step);
    }
    cache_leave(&mate);
    bad += fx_fsck(&copy, true) > 0;
    if (atomic_load(&cache_row(&copy, 0)->ctr[CACHE_CTR_CORRUPT]) +
            atomic_load(&cache_row(&copy, 2)->ctr[CACHE_CTR_CORRUPT]) >
        0) {
        printf("# %s, step %lu: something was found damaged\n", op, step);
        bad++;
    }
    return bad;
}

static void run(const char *op, void (*f)(void))
{
    const struct single_step x = {
        .live = c->base, .size = c->size, .last = last, .image = image, .judge = judge};

    single_step(&x, op, f);
}

static void do_lookup(void)
{
    (void)fx_get(w, 1, NULL);
    (void)fx_get(w, 3, NULL);
}
static void do_insert(void)
{
    (void)put(w, 8, 20);
}
static void do_replace(void)
{
    (void)put(w, 1, 20);
    (void)put(w, 1, 21);
}
static void do_insert_large(void)
{
    (void)put_ready(w, 11, 20);
}
static void do_replace_large(void)
{
    (void)put_ready(w, 3, 20);
}
static void do_remove(void)
{
    struct cache_key k = fx_key(c, 1);

    (void)cache_remove(w, &k);
    k = fx_key(c, 3);
    (void)cache_remove(w, &k);
}
static void do_refresh(void)
{
    for (uint64_t id = 2; id <= 3; id++) {
        const struct cache_key k = fx_key(c, id);
        const struct cache_attr a = {.fresh = 5};
        struct cache_hit h;
        struct fx_meta m;

        if (!cache_lookup(w, &k, NULL, &h))
            _exit(1);
        if (cache_refresh(w, &h, &a, NULL, 0, fx_meta(&m, id, 1, h.size)) < 0)
            _exit(2);
        cache_release(w, &h);
    }
}
static void do_evict(void)
{
    cache_slab_seal_own(w, 0);
    for (int i = 0; i < 12; i++)
        (void)cache_evict_step(w, 4);
    cache_evict_stop(w);
}
static void do_insert_full(void)
{
    (void)put_ready(w, 11, 20);
    (void)put_ready(w, 11, 20);
    (void)put(w, 8, 20);
}
static void do_purge(void)
{
    cache_purge(c, 0, CACHE_NAME_ALL, false);
    cache_purge(c, 0, 77, true);
}
static void do_pins(void)
{
    const struct cache_key k = fx_key(c, 3);
    struct cache_hit h;

    if (!cache_lookup(w, &k, NULL, &h))
        _exit(1);
    /* Replaced under the pin: the last reader frees the pages. */
    (void)put_ready(w, 3, 20);
    cache_release(w, &h);
}
static struct cache_fill fill;
static void do_fill(void)
{
    const size_t total = size_of(7, 50);
    const struct cache_attr a = {.fresh = CACHE_FOREVER};
    struct fx_meta m;

    if (cache_fill_head(w, &fill, &a, NULL, 0, fx_meta(&m, 7, 50, total), total) < 0)
        _exit(1);
    for (size_t at = 0; at < total; at += 600) {
        if (cache_fill_append(w, &fill, slice_of(ready + at, total - at < 600 ? total - at : 600)) <
            0)
            _exit(2);
    }
    if (cache_fill_done(w, &fill) < 0)
        _exit(3);
}
static void do_abort(void)
{
    const size_t total = size_of(7, 50);
    const struct cache_attr a = {.fresh = CACHE_FOREVER};
    struct fx_meta m;

    if (cache_fill_head(w, &fill, &a, NULL, 0, fx_meta(&m, 7, 50, total), total) < 0)
        _exit(1);
    cache_fill_abort(w, &fill, false, 3);
}
static void do_rest_of_fill(void)
{
    const size_t total = size_of(7, 50), at = 700;

    if (cache_fill_append(w, &fill, slice_of(ready + at, total - at)) < 0 ||
        cache_fill_done(w, &fill) < 0)
        _exit(1);
}
static void do_claim(void)
{
    struct cache_key k = fx_key(c, 500);
    struct cache_fill f;
    struct cache_follow g;

    if (cache_claim(w, &k, NULL, 0, &f, &g) != CACHE_LEAD)
        _exit(1);
    cache_fill_abort(w, &f, true, 0);
}
static void do_follow(void)
{
    struct cache_key k = fx_key(c, 600);
    struct cache_fill f;
    struct cache_follow g;
    struct cache_view v;

    /* The other leads it. */
    if (cache_claim(w, &k, NULL, 0, &f, &g) != CACHE_FOLLOW)
        _exit(1);
    cache_follow_view(w, &g, &v);
    (void)cache_follow_wait(w, &g);
    cache_follow_leave(w, &g);
}
static void do_reap(void)
{
    uint64_t kick[CACHE_SLOTS / 64];

    cache_reap(c, 3, kick);
}
/* Another stored a newer version at the same time, so the own record goes again: both notes are
 * about one record. */
static void do_give_way(void)
{
    const struct cache_key k = fx_key(c, 1);
    struct cache_head h;
    _Atomic uint64_t *slot;
    uint64_t word;

    if (!cache_index_find(w, &k, &h, &word, &slot))
        _exit(1);
    atomic_store(&w->row->note[0].word, word);
    atomic_store(&w->row->note[0].op, 1);
    (void)cache_index_swap(c, ME, slot, word, &h, 0, false);
    cache_share_made(c, 0, &h, word, false);
    cache_unpin_slab(w, cache_word_slab(word));
}
static void do_leave(void)
{
    cache_leave(&w);
}

static void setup(void)
{
    const struct cache_options o = {
        .size = 64u << 10, .slab = 4096, .slots = 4, .objects = 200, .max_object = 16000};
    struct cache_fill f;
    struct cache_follow g;
    struct cache_head h;
    struct cache_key k;
    _Atomic uint64_t *slot;
    uint64_t word;

    cache_leave(&w);
    cache_leave(&other);
    cache_leave(&dead);
    cache_close(&c);
    if (cache_create(&o, &c) < 0)
        tap_bail("cache");
    copy = *c;
    copy.fd = -1;
    free(image);
    free(last);
    free(again);
    image = aligned_alloc(4096, c->size);
    last = malloc(c->size);
    again = aligned_alloc(4096, c->size);
    if (!image || !last || !again)
        tap_bail("memory");
    copy.base = image;
    following = checking_purge = false;
    if (cache_join(c, ME, NULL, NULL, &w) < 0 || cache_join(c, OTHER, NULL, NULL, &other) < 0 ||
        cache_join(c, 1u << 8 | 3, NULL, NULL, &dead) < 0)
        tap_bail("join");
    memset(lowest, 0, sizeof(lowest));
    for (uint64_t i = 0; i < OBJECTS; i++)
        highest[i] = 100;
    for (uint64_t i = 0; i < 7; i++)
        (void)put(i % 2 ? w : dead, i, 1);
    for (uint64_t i = 0; i < 7; i++) /* some are promoted when evicted */
        (void)(i % 2 && fx_get(w, i, NULL));
    k = fx_key(c, 600);
    if (cache_claim(other, &k, NULL, 0, &f, &g) != CACHE_LEAD)
        tap_bail("claim");
    /* The corpse in slot 3 holds one of everything. */
    k = fx_key(c, 601);
    if (cache_claim(dead, &k, NULL, 0, &f, &g) == CACHE_LEAD) {
        const struct cache_attr a = {.fresh = 1};

        (void)cache_fill_head(dead, &f, &a, NULL, 0, SLICE("m"), CACHE_UNKNOWN);
        (void)cache_fill_append(dead, &f, slice_of(buf, 900));
    }
    /* It died when it had taken a word away and not yet uncounted what that led to. */
    k = fx_key(c, 0);
    if (!cache_index_find(dead, &k, &h, &word, &slot))
        tap_bail("object 0");
    atomic_store(&dead->row->note[1].word, word);
    atomic_store(&dead->row->note[1].op, 1);
    atomic_store(slot, 0);
    cache_pin_slab(dead, 1);
    cache_body_pin(dead, 0);
    (void)cache_evict_step(dead, 1);
}

/* The other follows object 7, which this one leads; with some of it there, or not even a head. */
static void setup_followed(size_t some)
{
    const struct cache_attr a = {.fresh = CACHE_FOREVER};
    const size_t total = size_of(7, 50);
    struct cache_key k;
    struct cache_follow g;
    struct cache_fill f;
    struct cache_view v;
    struct fx_meta m;

    setup();
    k = fx_key(c, 7);
    if (cache_claim(w, &k, NULL, 0, &fill, &g) != CACHE_LEAD ||
        cache_claim(other, &k, NULL, 0, &f, &followed) != CACHE_FOLLOW)
        tap_bail("claims");
    if (some > 0) {
        fx_bytes(buf, 7, 50, 0, total);
        if (cache_fill_head(w, &fill, &a, NULL, 0, fx_meta(&m, 7, 50, total), total) < 0 ||
            cache_fill_append(w, &fill, slice_of(buf, some)) < 0)
            tap_bail("head");
        cache_follow_view(other, &followed, &v);
        if (!v.attached || v.size != some)
            tap_bail("view");
    }
    (void)cache_follow_wait(other, &followed);
    following = true;
}

static void setup_full(void)
{
    setup();
    for (uint64_t i = 0; i < 60; i++) {
        (void)put(w, 1000 + i, 1);
        (void)fx_get(w, 1000 + i / 2, NULL);
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *op;
        void (*f)(void);
        int prepare;          /* 1 followed before the head, 2 in the middle, 3 full cache */
        uint64_t id, version; /* whose bytes are ready */
    } ops[] = {{"lookup", do_lookup, 0, 0, 0},
               {"insert", do_insert, 0, 0, 0},
               {"replace", do_replace, 0, 0, 0},
               {"insert of pages", do_insert_large, 0, 11, 20},
               {"replace of pages", do_replace_large, 0, 3, 20},
               {"remove", do_remove, 0, 0, 0},
               {"refresh", do_refresh, 0, 0, 0},
               {"give way to another's", do_give_way, 0, 0, 0},
               {"evict", do_evict, 0, 0, 0},
               {"purge", do_purge, 0, 0, 0},
               {"replaced under a pin", do_pins, 0, 3, 20},
               {"claim and abort", do_claim, 0, 0, 0},
               {"follow", do_follow, 0, 0, 0},
               {"fill, followed", do_fill, 1, 7, 50},
               {"abort, followed", do_abort, 1, 0, 0},
               {"rest of a fill, followed", do_rest_of_fill, 2, 7, 50},
               {"reap", do_reap, 0, 0, 0},
               {"insert into a full cache", do_insert_full, 3, 11, 20},
               {"leave", do_leave, 0, 0, 0}};

    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        if (argc > 1 && strcmp(argv[1], ops[i].op) != 0)
            continue;
        if (ops[i].prepare == 3)
            setup_full();
        else if (ops[i].prepare)
            setup_followed(ops[i].prepare == 2 ? 700 : 0);
        else
            setup();
        fx_bytes(ready, ops[i].id, ops[i].version, 0, size_of(ops[i].id, ops[i].version));
        run(ops[i].op, ops[i].f);
    }
    cache_leave(&w);
    cache_leave(&other);
    cache_leave(&dead);
    cache_close(&c);
    free(image);
    free(last);
    free(again);
    return tap_done();
}
