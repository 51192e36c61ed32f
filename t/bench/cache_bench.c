/* Nanoseconds per lookup, insert and eviction of the cache's store. Figures compare builds on one
 * machine; nothing is asserted. */
#include "base/clock.h"
#include "shm/cache.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct cache *c;
static struct cache_worker *w;
static struct cache_key *keys;
static char body[2u << 20];
static uint64_t seed = 88172645463325252ull;

static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static struct cache_key key_of(uint64_t id)
{
    char url[80];
    struct cache_hash h;
    const int n =
        snprintf(url, sizeof(url), "www.example.com/assets/%" PRIu64 "/picture.webp?v=3", id);

    cache_key_begin(c, &h);
    cache_key_add(&h, SLICE("https"));
    cache_key_add(&h, (struct slice){url, (size_t)n});
    return cache_key_end(&h);
}

static void begin(uint64_t size)
{
    const struct cache_options o = {.size = size, .workers = 2, .slots = 8};

    if (cache_create(&o, &c) < 0 || cache_join(c, 1u << 8, NULL, NULL, &w) < 0)
        exit(1);
}

static void end(void)
{
    cache_leave(&w);
    cache_close(&c);
}

static int put(uint32_t i, size_t size)
{
    const struct cache_attr a = {.fresh = CACHE_FOREVER};

    return cache_insert(w, &keys[i], &a, NULL, 0, (struct slice){body, 250},
                        (struct slice){body, size});
}

static void lookups(const char *what, uint32_t n, size_t size, uint32_t loops, enum cache_verify v)
{
    const struct cache_scope s = {.site = 0};
    uint64_t t, hits = 0, bytes = 0;
    struct iovec iov[64];
    struct cache_hit h;
    size_t got;

    begin((uint64_t)n * (size + 500) * 2 + (32u << 20));
    cache_set_verify(c, v);
    for (uint32_t i = 0; i < n; i++)
        (void)put(i, size);
    t = clock_us_now();
    for (uint32_t i = 0; i < loops; i++) {
        if (!cache_lookup(w, &keys[rnd() % n], &s, &h))
            continue;
        hits++;
        (void)cache_body(w, &h, 0, h.size, iov, 64, &got);
        bytes += got;
        cache_release(w, &h);
    }
    t = clock_us_now() - t;
    printf("%-44s %8.1f ns  (%.0f %% hits, %zu bytes each)\n", what, (double)t * 1000 / loops,
           100.0 * (double)hits / loops, (size_t)(hits ? bytes / hits : 0));
    end();
}

static void inserts(const char *what, uint64_t cache, size_t size, uint32_t loops, uint32_t n)
{
    uint64_t t, worst = 0, failed = 0;
    struct cache_stat st;

    begin(cache);
    for (uint32_t i = 0; i < loops; i++) /* the mapping is touched, and full when it is small */
        failed += put(i % n, size) < 0;
    t = clock_us_now();
    for (uint32_t i = 0; i < loops; i++) {
        const uint64_t t0 = i % 16 == 0 ? clock_us_now() : 0;

        failed += put((uint32_t)(rnd() % n), size) < 0;
        if (t0 && clock_us_now() - t0 > worst)
            worst = clock_us_now() - t0;
    }
    t = clock_us_now() - t;
    cache_stat(c, &st);
    printf("%-44s %8.1f ns  (worst %" PRIu64 " us, %" PRIu64 " evicted, %" PRIu64 " failed)\n",
           what, (double)t * 1000 / loops, worst, st.ctr[CACHE_CTR_EVICT], failed);
    end();
}

static void misses(void)
{
    uint64_t t;
    struct cache_fill f;
    struct cache_follow g;
    struct cache_hit h;

    begin(64u << 20);
    t = clock_us_now();
    for (uint32_t i = 0; i < 1000000; i++)
        (void)cache_lookup(w, &keys[i & 0xffff], NULL, &h);
    printf("%-44s %8.1f ns\n", "miss", (double)(clock_us_now() - t) / 1000);
    t = clock_us_now();
    for (uint32_t i = 0; i < 300000; i++) {
        if (cache_claim(w, &keys[i & 0xffff], NULL, 0, &f, &g) == CACHE_LEAD)
            cache_fill_abort(w, &f, true, 0);
    }
    printf("%-44s %8.1f ns\n", "claim and pass", (double)(clock_us_now() - t) / 300);
    t = clock_us_now();
    for (uint32_t i = 0; i < 1000000; i++)
        keys[0] = key_of(i);
    printf("%-44s %8.1f ns\n", "key of 60 bytes (and its snprintf)",
           (double)(clock_us_now() - t) / 1000);
    end();
}

static void deaths(void)
{
    uint64_t kick[CACHE_SLOTS / 64], t;

    begin(256u << 20);
    for (uint32_t i = 0; i < 200000; i++)
        (void)put(i, 1000);
    t = clock_us_now();
    cache_reap(c, 0, kick);
    printf("%-44s %8.1f us\n", "reap, 256 MiB", (double)(clock_us_now() - t));
    end();
}

int main(void)
{
    keys = malloc(1000000 * sizeof(*keys));
    if (!keys)
        return 1;
    begin(1u << 20);
    for (uint32_t i = 0; i < 1000000; i++)
        keys[i] = (struct cache_key){rnd(), rnd()};
    end();
    memset(body, 'x', sizeof(body));
    lookups("hit, 1 KiB, 100 objects", 100, 1024, 4000000, CACHE_VERIFY_ALL);
    lookups("hit, 1 KiB, 100 objects, heads only", 100, 1024, 4000000, CACHE_VERIFY_HEADS);
    lookups("hit, 1 KiB, 200000 objects", 200000, 1024, 1000000, CACHE_VERIFY_ALL);
    lookups("hit, 1 KiB, 200000 objects, heads only", 200000, 1024, 1000000, CACHE_VERIFY_HEADS);
    lookups("hit, 64 KiB, 50 objects", 50, 65536, 200000, CACHE_VERIFY_ALL);
    lookups("hit, 64 KiB, 50 objects, heads only", 50, 65536, 1000000, CACHE_VERIFY_HEADS);
    lookups("hit, 1 MiB, 10 objects", 10, 1u << 20, 10000, CACHE_VERIFY_ALL);
    inserts("insert 1 KiB, memory touched the first time", 512u << 20, 1024, 200000, 200000);
    inserts("insert 1 KiB, evicting", 32u << 20, 1024, 500000, 900000);
    inserts("insert 4 KiB, evicting", 64u << 20, 4096, 200000, 900000);
    inserts("insert 64 KiB, evicting", 64u << 20, 65536, 20000, 900000);
    inserts("insert 1 MiB, evicting", 64u << 20, 1u << 20, 1000, 900000);
    misses();
    deaths();
    free(keys);
    return 0;
}
