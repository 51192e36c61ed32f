/* SIGKILL storm: processes take and give places, trip circuits and publish answers, and are killed
 * in the middle of it. Nobody may ever hold more than max places, and when all are gone nothing of
 * them is left. (CACHE.md, test plan T2) */
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "shm/layout.h"
#include "t/unit/tap.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS  5u
#define SERVERS  2u
#define MAX      2u
#define KILLS    400
#define STORM_US 2000000u
#define MAX_US   120000000u /* however busy the machine is */

/* The oracle: who is in, a bit per slot in one word, so that a look at it is a snapshot. */
struct oracle {
    _Atomic uint64_t in[SERVERS];
    _Atomic uint32_t violations, entered, refused, ejected;
};
static struct oracle *o;
static struct segment *s;
static uint32_t server[SERVERS], name;
static const struct server_policy pol = {.max_fails = 3, .window_ms = 50, .eject_ms = 5};

static uint64_t rnd(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

_Noreturn static void work(uint32_t slot, uint64_t seed)
{
    struct counter_row *ctr = counter_row(s, slot);
    struct gauge_row *gau = gauge_row(s, slot);
    const slot_oid me = slot_owner_id(s, slot);
    struct resolve_answer a = {0};

    for (;;) {
        const uint64_t r = rnd(&seed);
        const uint32_t k = (uint32_t)(r >> 8) % SERVERS;
        bool probe;

        clock_update();
        (void)server_usable(s, server[k], me, clock_ms(), &probe);
        gauge_add(gau, GAU_CONNS, 1);
        if (server_enter(s, slot, server[k], MAX) == 0) {
            const uint64_t in = atomic_fetch_or(&o->in[k], (uint64_t)1 << slot);

            atomic_fetch_add(&o->entered, 1);
            if ((uint32_t)__builtin_popcountll(in) >= MAX)
                atomic_fetch_add(&o->violations, 1);
            if ((r >> 20) % 8 == 0)
                sched_yield();
            if ((r >> 24) % 3 == 0)
                server_succeeded(s, server[k], &pol, clock_ms());
            else if (server_failed(s, server[k], &pol, clock_ms(), true))
                atomic_fetch_add(&o->ejected, 1);
            atomic_fetch_and(&o->in[k], ~((uint64_t)1 << slot));
            (void)server_leave(s, slot, server[k]);
        } else {
            atomic_fetch_add(&o->refused, 1);
            server_want(s, slot, server[k]);
        }
        if (probe)
            server_probe_release(s, server[k], me);
        a.n = 1 + (uint32_t)(r >> 40) % 3;
        for (uint32_t i = 0; i < a.n; i++) {
            a.addr[i].in.sin_family = AF_INET;
            a.addr[i].in.sin_addr.s_addr = htonl(a.n << 8 | i);
        }
        (void)resolve_publish(s, me, name, &a);
        hist_add(&series_row(s, slot, 0)->total, r % 1000);
        gauge_add(gau, GAU_CONNS, -1);
        counter_add(ctr, CTR_REQUESTS, 1);
    }
}

static pid_t spawn(uint64_t seed, uint32_t *ret_slot)
{
    pid_t pid;

    if (slot_claim(s, 1, 0, ret_slot) < 0)
        tap_bail("no slot");
    pid = fork();
    if (pid == 0)
        work(*ret_slot, seed | 1);
    slot_set_pid(s, *ret_slot, pid);
    slot_set_state(s, *ret_slot, SLOT_LIVE);
    return pid;
}

static void bury(pid_t pid, uint32_t slot)
{
    kill(pid, SIGKILL);
    if (waitpid(pid, NULL, 0) != pid)
        tap_bail("waitpid");
    /* The oracle first: the place is free for others only after the reaper. */
    for (uint32_t k = 0; k < SERVERS; k++)
        atomic_fetch_and(&o->in[k], ~((uint64_t)1 << slot));
    slot_set_state(s, slot, SLOT_DEAD);
    slot_reap(s, slot);
}

/* Until everything has happened that the storm is for. */
static bool storm_goes_on(uint64_t start, int kills)
{
    const uint64_t spent = clock_us_now() - start;

    if (spent < STORM_US)
        return kills < KILLS;
    return spent < MAX_US && (kills < 20 || !atomic_load(&o->refused) || !atomic_load(&o->entered));
}

int main(void)
{
    pid_t pid[WORKERS];
    uint32_t slot[WORKERS];
    uint64_t seed = 88172645463325252ull, before = 0, start, torn = 0, shrunk = 0, dirty = 0;
    struct resolve_answer a;
    struct buf b;
    int kills = 0;

    buf_init(&b, 0);
    o = mmap(NULL, sizeof(*o), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (o == MAP_FAILED || segment_create_sized(16, 4, 2, 2, &s) < 0)
        tap_bail("set-up");
    server_register(s, 1, SLICE("u/a"), 1, &server[0]);
    server_register(s, 2, SLICE("u/b"), 1, &server[1]);
    resolve_register(s, SLICE("a.example"), &name);
    for (uint32_t i = 0; i < WORKERS; i++)
        pid[i] = spawn(rnd(&seed), &slot[i]);
    start = clock_us_now();
    for (; storm_goes_on(start, kills); kills++) {
        const uint32_t v = (uint32_t)(rnd(&seed) % WORKERS);
        const uint64_t done = atomic_load(&counter_row(s, slot[v])->v[CTR_REQUESTS]),
                       wait = rnd(&seed) % 200;
        uint64_t now;

        /* The victim is let go on for a while that is counted in its own work. */
        while (atomic_load(&counter_row(s, slot[v])->v[CTR_REQUESTS]) < done + wait &&
               clock_us_now() - start < MAX_US)
            sched_yield();
        bury(pid[v], slot[v]);
        pid[v] = spawn(rnd(&seed), &slot[v]);
        now = counter_sum(s, CTR_REQUESTS);
        shrunk += now < before;
        before = now;
        if (resolve_read(s, name, &a)) {
            for (uint32_t i = 0; i < a.n; i++)
                torn += a.addr[i].in.sin_addr.s_addr != htonl(a.n << 8 | i);
        }
        dirty += segment_fsck(s, &b) != 0;
    }
    for (uint32_t i = 0; i < WORKERS; i++)
        bury(pid[i], slot[i]);
    if (b.n > 0)
        printf("# %.*s\n", (int)b.n - 1, b.p);
    tap_ok(kills > 10, "%d kills in %llu ms; %u entered, %u refused, %u ejections", kills,
           (unsigned long long)(clock_us_now() - start) / 1000, atomic_load(&o->entered),
           atomic_load(&o->refused), atomic_load(&o->ejected));
    tap_ok(atomic_load(&o->refused) > 0 && atomic_load(&o->entered) > 0, "places were fought for");
    tap_is_int(atomic_load(&o->violations), 0, "never more than max were let in");
    tap_is_int(shrunk, 0, "counters never shrink");
    tap_is_int(torn, 0, "no answer was torn");
    tap_is_int(dirty, 0, "fsck was clean all the time");
    tap_ok(server_active(s, server[0]) == 0 && server_active(s, server[1]) == 0,
           "all places are free at the end");
    tap_is_int(gauge_sum(s, GAU_CONNS), 0, "all gauges are zero");
    tap_ok(atomic_load(&layout_server(s, server[0])->want[0]) == 0 &&
               server_probe_owner(s, server[0]) == 0 && server_probe_owner(s, server[1]) == 0 &&
               atomic_load(&layout_name(s, name)->writer) == 0,
           "nothing is owned");
    tap_is_int(segment_fsck(s, &b), 0, "fsck is clean");
    buf_fini(&b);
    segment_close(&s);
    munmap(o, sizeof(*o));
    return tap_done();
}
