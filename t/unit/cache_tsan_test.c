/* The storm in one process: workers are threads over one mapping, so that ThreadSanitizer sees
 * every access that is not ordered. Threads end in the middle of what they do and are reaped, with
 * purges, statistics and fsck under way. (CACHE.md, test plan T5) Built with -fsanitize=thread
 * where the compiler has it; else it is the storm without it. */
#include "t/unit/cache_storm.h"

#include <pthread.h>
#include <sched.h>

struct thread {
    pthread_t t;
    uint32_t owner;
    uint64_t seed;
    struct process *p;
    _Atomic bool stop;
};

static void *run(void *arg)
{
    struct thread *t = arg;

    t->p = work(t->owner, t->seed, &t->stop);
    return NULL;
}

static void begin(struct thread *t, uint32_t owner, uint64_t seed)
{
    t->owner = owner;
    t->seed = seed | 1;
    atomic_store(&t->stop, false);
    if (pthread_create(&t->t, NULL, run, t) != 0)
        tap_bail("thread");
}

/* What a death leaves in the mapping is left; what it has of its own is freed. */
static void bury(struct thread *t)
{
    uint64_t kick[CACHE_SLOTS / 64];

    atomic_store(&t->stop, true);
    pthread_join(t->t, NULL);
    cache_reap(c, t->owner & 0xffu, kick);
    free(t->p->w->slabpins);
    free(t->p->w->bodypins);
    free(t->p->w->followers);
    free(t->p->w);
    free(t->p);
}

int main(int argc, char **argv)
{
    static struct oracle oracle;
    static struct thread t[WORKERS];
    const uint64_t storm_us = argc > 1 ? (uint64_t)atoi(argv[1]) * 1000000 : 3000000;
    const struct cache_options opt = {.size = 1u << 20, .workers = WORKERS, .slots = 16};
    uint64_t seed = 88172645463325252ull, start, purges = 0, dirty = 0;
    uint32_t inc = 1;
    struct cache_stat st;
    int ends = 0;

    o = &oracle;
    if (cache_create(&opt, &c) < 0)
        tap_bail("cache");
    /* One site for all: the search for what it has too much of goes on all the time. */
    cache_set_share(c, 80000);
    for (uint32_t i = 0; i < WORKERS; i++)
        begin(&t[i], inc << 8 | i, fx_rnd(&seed));
    start = clock_us_now();
    while (storm_goes_on(start, storm_us, ends, 20)) {
        const uint32_t v = (uint32_t)(fx_rnd(&seed) % WORKERS);
        const uint64_t done = atomic_load(&o->turns[v]), wait = fx_rnd(&seed) % 400;

        while (atomic_load(&o->turns[v]) < done + wait && clock_us_now() - start < STORM_MAX_US)
            sched_yield();
        bury(&t[v]);
        begin(&t[v], ++inc << 8 | v, fx_rnd(&seed));
        if (++ends % 10 == 0) {
            const uint64_t before = cache_birth(c, 0);

            cache_purge(c, 0, CACHE_NAME_ALL, false);
            atomic_store(&o->floor, before + 1);
            purges++;
        }
        cache_stat(c, &st);
    }
    for (uint32_t i = 0; i < WORKERS; i++)
        bury(&t[i]);
    dirty = (uint64_t)fx_fsck(c, true);
    cache_stat(c, &st);
    tap_ok(ends >= 20 && o->hits > 0 && o->stores > 0 && o->followed > 0 &&
               st.ctr[CACHE_CTR_EVICT] > 0,
           "%d ends: %llu hits, %llu stores, %llu led, %llu followed, %llu evicted, %llu purges",
           ends, (unsigned long long)o->hits, (unsigned long long)o->stores,
           (unsigned long long)o->led, (unsigned long long)o->followed,
           (unsigned long long)st.ctr[CACHE_CTR_EVICT], (unsigned long long)purges);
    tap_is_int(atomic_load(&o->wrong), 0, "no wrong byte, no lost follower");
    tap_is_int(st.ctr[CACHE_CTR_CORRUPT], 0, "nothing was found damaged");
    tap_is_int(dirty, 0, "fsck is clean at the end");
    cache_close(&c);
    return tap_done();
}
