/* The share of a site: its bytes are counted right whatever happens to objects and workers, a noisy
 * site keeps within its share and takes no hits from a quiet one, and a site that is alone is as
 * well off as in a cache of that size. */
#include "t/unit/cache_fixture.h"

#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#define QUIET 7u
#define NOISY 9u
#define IDS   12000u  /* of the quiet one */
#define MANY  400000u /* of the noisy one */

static char buf[1u << 20];
static uint64_t seed = 88172645463325252ull;

static struct cache *make(uint64_t size, uint32_t slots)
{
    const struct cache_options o = {.size = size, .workers = 2, .slots = slots};
    struct cache *c;

    if (cache_create(&o, &c) < 0)
        tap_bail("cache");
    return c;
}

static struct cache_worker *join(struct cache *c, uint32_t slot)
{
    struct cache_worker *w;

    if (cache_join(c, 1u << 8 | slot, NULL, NULL, &w) < 0)
        tap_bail("join");
    return w;
}

static int put(struct cache_worker *w, uint32_t site, uint64_t id, size_t size)
{
    const struct cache_key k = fx_key(w->c, id);
    const struct cache_attr a = {
        .fresh = CACHE_FOREVER, .site = (uint16_t)site, .birth = cache_birth(w->c, site)};

    return cache_insert(w, &k, &a, NULL, 0, SLICE("meta"), slice_of(buf, size));
}

static bool get(struct cache_worker *w, uint32_t site, uint64_t id)
{
    const struct cache_scope s = {.site = site};
    const struct cache_key k = fx_key(w->c, id);
    struct cache_hit h;

    if (!cache_lookup(w, &k, &s, &h))
        return false;
    cache_release(w, &h);
    return true;
}

/* ---- counting ---- */

static void test_counts(void)
{
    struct cache *c = make(4u << 20, 2);
    struct cache_worker *w = join(c, 0);
    const uint64_t head = sizeof(struct cache_rec) + sizeof("meta") - 1,
                   small = (head + 1000 + 7) & ~7ull;
    const struct cache_attr a = {.fresh = 1, .site = 5};
    struct cache_key k = fx_key(c, 1);
    struct cache_hit h;

    (void)put(w, 5, 1, 1000);
    (void)put(w, 5, 2, 1000);
    (void)put(w, 6, 3, 1000);
    tap_is_int((long long)cache_site_bytes(c, 5), (long long)(2 * small), "two objects of one");
    tap_is_int((long long)cache_site_bytes(c, 6), (long long)small, "one of another");
    (void)put(w, 5, 2, 1000);
    tap_is_int((long long)cache_site_bytes(c, 5), (long long)(2 * small), "replaced");
    (void)put(w, 6, 4, 100000);
    tap_ok(cache_site_bytes(c, 6) > small + 100000 && cache_site_bytes(c, 6) < small + 101000,
           "pages too");
    if (!cache_lookup(w, &k, NULL, &h))
        tap_bail("object 1");
    (void)cache_refresh(w, &h, &a, NULL, 0, SLICE("metameta"));
    cache_release(w, &h);
    tap_is_int((long long)cache_site_bytes(c, 5), (long long)(2 * small), "renewed");
    (void)cache_remove(w, &k);
    tap_is_int((long long)cache_site_bytes(c, 5), (long long)small, "removed");
    cache_purge(c, 6, CACHE_NAME_ALL, false);
    tap_ok(!get(w, 6, 3) && !get(w, 6, 4), "purged");
    tap_is_int((long long)cache_site_bytes(c, 6), 0, "is no longer counted once it is met");
    cache_leave(&w);
    tap_is_int(fx_fsck(c, true), 0, "fsck agrees");
    cache_close(&c);
}

static void test_full_and_repair(void)
{
    struct cache *c = make(1u << 20, 2);
    struct cache_worker *w = join(c, 0);

    for (uint64_t i = 0; i < 20000; i++) {
        const uint64_t id = fx_rnd(&seed) % 3000;

        if (!get(w, (uint32_t)id % 3, id))
            (void)put(w, (uint32_t)id % 3, id, 200 + (size_t)(id * 7 % (id % 50 ? 2000 : 60000)));
    }
    cache_leave(&w);
    tap_is_int(fx_fsck(c, true), 0, "evicted, moved, promoted: fsck agrees");
    for (uint32_t i = 0; i < 2; i++)
        atomic_fetch_add((_Atomic uint64_t *)cache_at(c, CACHE_AREA_SHARE, 8u * i), 1u << 30);
    tap_is_int(fx_fsck(c, true), 2, "damaged counters are found");
    w = join(c, 0);
    tap_is_int(cache_repair(w), 2, "repaired");
    cache_leave(&w);
    tap_is_int(fx_fsck(c, true), 0, "and right");
    cache_close(&c);
}

/* Tells after some hundred requests that it is in the midst of it. */
static _Noreturn void store_for_ever(struct cache_worker *w, uint64_t more, int tell)
{
    seed += more;
    for (uint64_t n = 0, told = 300 + fx_rnd(&seed) % 700;; n++) {
        const uint64_t id = fx_rnd(&seed) % 3000;

        if (n == told && write(tell, "x", 1) != 1)
            _exit(1);
        if (!get(w, (uint32_t)id % 2, id))
            (void)put(w, (uint32_t)id % 2, id, 200 + (size_t)(id * 7 % (id % 50 ? 2000 : 60000)));
    }
}

/* Workers die of SIGKILL while they store. */
static void test_deaths(void)
{
    struct cache *c = make(1u << 20, 4);
    uint64_t kick[CACHE_SLOTS / 64];
    int wrong = 0;

    cache_set_share(c, 60000);
    for (int round = 0; round < 40; round++) {
        pid_t pid[2];
        int fd[2];
        char byte;

        if (pipe(fd) < 0)
            tap_bail("pipe");
        for (uint32_t i = 0; i < 2; i++) {
            pid[i] = fork();
            if (pid[i] < 0)
                tap_bail("fork");
            if (pid[i] == 0)
                store_for_ever(join(c, i), (uint64_t)round * 2 + i, fd[1]);
        }
        close(fd[1]);
        (void)!read(fd[0], &byte, 1);
        close(fd[0]);
        for (uint32_t i = 0; i < 2; i++) {
            kill(pid[i], SIGKILL);
            waitpid(pid[i], NULL, 0);
            cache_reap(c, i, kick);
        }
        wrong += fx_fsck(c, true) > 0;
    }
    tap_is_int(wrong, 0, "right after each of 40 times two SIGKILLs");
    cache_close(&c);
}

/* ---- traces ---- */

static double *cdf[2];

static void zipf_init(int i, uint32_t n, double alpha)
{
    double sum = 0;

    cdf[i] = malloc(n * sizeof(double));
    if (!cdf[i])
        tap_bail("memory");
    for (uint32_t k = 0; k < n; k++)
        cdf[i][k] = sum += pow(k + 1, -alpha);
    for (uint32_t k = 0; k < n; k++)
        cdf[i][k] /= sum;
}

static uint32_t zipf(int i, uint32_t n)
{
    const double u = (double)(fx_rnd(&seed) >> 11) / 9007199254740992.0;
    uint32_t low = 0, high = n - 1;

    while (low < high) {
        const uint32_t mid = (low + high) / 2;

        if (cdf[i][mid] < u)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static size_t size_of(uint64_t id)
{
    const uint64_t x = (id * 0x9e3779b97f4a7c15u) >> 20;

    return x % 100 ? 300 + x % 3000 : 20000 + x % 200000;
}

enum noise { NOTHING, SCAN, POPULAR };
struct outcome {
    double quiet, noisy;       /* % of requests hit */
    uint64_t most, share, now; /* bytes of the noisy one */
    uint64_t refused;
};

/* `rate` requests of the noisy site to one of the quiet one. quiet false: it is alone. */
static struct outcome replay(uint64_t bytes, uint32_t share, enum noise noise, unsigned rate,
                             bool quiet, unsigned requests)
{
    struct cache *c = make(bytes, 2);
    struct cache_worker *w[2] = {join(c, 0), join(c, 1)};
    uint64_t hits[2] = {0}, all[2] = {0}, scan = 0;
    struct outcome o = {0};
    struct cache_stat st;

    cache_set_share(c, share);
    seed = 88172645463325252ull;
    for (unsigned i = 0; i < requests; i++) {
        const unsigned who = noise != NOTHING && !(quiet && i % (rate + 1) == 0);
        const uint32_t site = who ? NOISY : QUIET;
        const uint64_t id = !who            ? zipf(0, IDS)
                            : noise == SCAN ? MANY * 2 + scan++
                                            : MANY + zipf(1, MANY);
        const bool late = i > requests / 2, hit = get(w[i / 3 % 2], site, id);

        all[who] += late;
        hits[who] += late && hit;
        if (!hit)
            (void)put(w[i / 3 % 2], site, id, size_of(id));
        if (cache_site_bytes(c, NOISY) > o.most)
            o.most = cache_site_bytes(c, NOISY);
    }
    cache_stat(c, &st);
    o.quiet = all[0] ? 100.0 * (double)hits[0] / (double)all[0] : 0;
    o.noisy = all[1] ? 100.0 * (double)hits[1] / (double)all[1] : 0;
    o.share = c->share;
    o.refused = st.ctr[CACHE_CTR_OVER_SHARE];
    cache_leave(&w[0]);
    cache_leave(&w[1]);
    if (fx_fsck(c, true) > 0)
        tap_ok(false, "fsck");
    cache_close(&c);
    return o;
}

static void test_noise(const char *what, enum noise noise, unsigned rate, double half,
                       unsigned requests)
{
    const struct outcome all = replay(16u << 20, 100000, noise, rate, true, requests),
                         o = replay(16u << 20, 50000, noise, rate, true, requests);

    tap_ok(all.quiet < half - 10,
           "%s: without a share the quiet site has %.1f %% of hits, not %.1f", what, all.quiet,
           half);
    tap_ok(o.quiet > half - 6, "%s: with a share %.1f %%", what, o.quiet);
    tap_ok(o.most <= o.share && o.most > o.share - o.share / 16,
           "%s: at most %llu of %llu bytes are the noisy site's; %llu not stored", what,
           (unsigned long long)o.most, (unsigned long long)o.share, (unsigned long long)o.refused);
}

static void test_alone(void)
{
    const struct outcome half = replay(8u << 20, 100000, POPULAR, 1, false, 120000),
                         o = replay(16u << 20, 50000, POPULAR, 1, false, 120000);

    tap_ok(o.noisy > half.noisy - 1, "alone in its half: %.1f %% of hits, %.1f in a cache as large",
           o.noisy, half.noisy);
    tap_ok(o.most <= o.share, "and no more than its share");
}

static void test_lowered(void)
{
    struct cache *c = make(4u << 20, 2);
    struct cache_worker *w = join(c, 0);
    unsigned stored = 0;
    bool grew = false;

    for (uint64_t i = 0; i < 4000; i++)
        (void)put(w, NOISY, i, 1500);
    tap_ok(cache_site_bytes(c, NOISY) > c->sb.data / 10 * 9, "the whole cache is its");
    cache_set_share(c, 20000);
    for (uint64_t i = 4000; i < 6000; i++) {
        const uint64_t before = cache_site_bytes(c, NOISY);

        stored += put(w, NOISY, i, 1500) == 0;
        grew |= cache_site_bytes(c, NOISY) > before && cache_site_bytes(c, NOISY) > c->share;
    }
    tap_ok(cache_site_bytes(c, NOISY) <= c->share && !grew, "a smaller share is met as it stores");
    tap_is_int(stored, 2000, "without refusing");
    tap_is_int(put(w, NOISY, 7000, 1000000), -ERR_RANGE, "larger than that share: not stored");
    tap_is_int(put(w, QUIET, 7001, 700000), 0, "another site has its own");
    cache_leave(&w);
    tap_is_int(fx_fsck(c, true), 0, "fsck agrees");
    cache_close(&c);
}

int main(void)
{
    double half;

    memset(buf, 'b', sizeof(buf));
    test_counts();
    test_full_and_repair();
    test_deaths();
    test_lowered();
    zipf_init(0, IDS, 0.8);
    zipf_init(1, MANY, 0.9);
    half = replay(8u << 20, 100000, NOTHING, 0, true, 40000).quiet;
    test_noise("a scan, 10 to 1", SCAN, 10, half, 220000);
    test_noise("much that is popular, 10 to 1", POPULAR, 10, half, 220000);
    test_alone();
    free(cdf[0]);
    free(cdf[1]);
    return tap_done();
}
