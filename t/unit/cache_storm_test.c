/* SIGKILL storm: processes look up, store, lead, follow, refresh and evict in one cache, and are
 * killed in the middle of it, with purges under way. Each byte that is handed out is checked, under
 * short and long pins. (CACHE.md, test plan T2) */
#include "t/unit/cache_storm.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t spawn(uint32_t owner, uint64_t seed)
{
    static const _Atomic bool never;
    const pid_t pid = fork();

    if (pid < 0)
        tap_bail("fork");
    if (pid == 0)
        (void)work(owner, seed | 1, &never);
    return pid;
}

static void bury(pid_t pid, uint32_t owner)
{
    uint64_t kick[CACHE_SLOTS / 64];
    int status;

    kill(pid, SIGKILL);
    if (waitpid(pid, &status, 0) != pid)
        tap_bail("waitpid");
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
        printf("# a worker ended by itself: %x\n", status);
        atomic_fetch_add(&o->wrong, 1);
    }
    cache_reap(c, owner & 0xffu, kick);
}

/* This process alone purges, so what was born at the count before it is gone after it. */
static void purge_all(void)
{
    const uint64_t before = cache_birth(c, 0);

    cache_purge(c, 0, CACHE_NAME_ALL, false);
    atomic_store(&o->floor, before + 1);
}

int main(int argc, char **argv)
{
    const uint64_t storm_us = argc > 1 ? (uint64_t)atoi(argv[1]) * 1000000 : 4000000;
    const struct cache_options opt = {.size = 1u << 20, .workers = WORKERS, .slots = 16};
    uint64_t seed = 88172645463325252ull, start, dirty = 0, purges = 0;
    uint32_t owner[WORKERS], inc = 1;
    struct cache_stat st;
    pid_t pid[WORKERS];
    int kills = 0;

    o = mmap(NULL, sizeof(*o), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (o == MAP_FAILED || cache_create(&opt, &c) < 0)
        tap_bail("set-up");
    /* One site for all: the search for what it has too much of goes on all the time. */
    cache_set_share(c, 80000);
    for (uint32_t i = 0; i < WORKERS; i++) {
        owner[i] = inc << 8 | i;
        pid[i] = spawn(owner[i], fx_rnd(&seed));
    }
    start = clock_us_now();
    while (storm_goes_on(start, storm_us, kills, 40)) {
        const uint32_t v = (uint32_t)(fx_rnd(&seed) % WORKERS);
        const uint64_t done = atomic_load(&o->turns[v]), wait = fx_rnd(&seed) % 400;

        /* The victim is let go on for a while that is counted in its own work. */
        while (atomic_load(&o->turns[v]) < done + wait && clock_us_now() - start < STORM_MAX_US)
            sched_yield();
        bury(pid[v], owner[v]);
        owner[v] = ++inc << 8 | v;
        pid[v] = spawn(owner[v], fx_rnd(&seed));
        kills++;
        if (kills % 16 == 0)
            dirty += fx_fsck(c, false) != 0;
        if (kills % 20 == 0) {
            purge_all();
            purges++;
        }
    }
    for (uint32_t i = 0; i < WORKERS; i++)
        bury(pid[i], owner[i]);
    cache_stat(c, &st);
    tap_ok(kills >= 40,
           "%d kills: %llu hits, %llu stores, %llu led, %llu followed, %llu taken over, %llu "
           "evicted, %llu purges",
           kills, (unsigned long long)o->hits, (unsigned long long)o->stores,
           (unsigned long long)o->led, (unsigned long long)o->followed,
           (unsigned long long)o->taken, (unsigned long long)st.ctr[CACHE_CTR_EVICT],
           (unsigned long long)purges);
    tap_is_int(atomic_load(&o->wrong), 0, "no wrong byte, no lost follower");
    tap_is_int(st.ctr[CACHE_CTR_CORRUPT], 0, "nothing was found damaged");
    tap_is_int(dirty, 0, "fsck was clean all the time");
    tap_ok(o->hits > 0 && o->followed > 0 && o->stores > 0 && st.ctr[CACHE_CTR_EVICT] > 0,
           "all of it happened");
    tap_is_int(fx_fsck(c, true), 0, "fsck is clean at the end");
    tap_is_int(st.slabs_free + st.slabs_small + st.slabs_main + st.slabs_paged + st.slabs_draining,
               st.slabs, "all slabs are there");
    cache_close(&c);
    munmap(o, sizeof(*o));
    return tap_done();
}
