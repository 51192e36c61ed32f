/* Storm over what TLS shares: processes put, get and remove sessions of a few ids in a few places,
 * read ticket keys and write certificate rows, and are killed in the middle of it. What is read is
 * whole or not there; when all are gone nothing of them is left. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "shm/layout.h"
#include "t/unit/tap.h"

#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORKERS  4u
#define IDS      20u /* more than there are places */
#define KILLS    300
#define STORM_US 1500000u
#define MAX_US   120000000u /* however busy the machine is */

struct oracle {
    _Atomic uint64_t put, full, got, missed, removed;
    _Atomic uint64_t torn, corrupt, odd; /* violations */
    _Atomic uint64_t rings, ring_torn, cert_torn;
};
static struct oracle *o;
static struct segment *s;
static uint32_t cert;

static uint64_t rnd(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return *x;
}

static size_t id_make(uint32_t i, uint8_t id[SESSION_ID_MAX])
{
    const size_t n = 4 + i % (SESSION_ID_MAX - 3);

    memset(id, (int)i, SESSION_ID_MAX);
    return n;
}

/* A session is its nonce and what follows from it and the id, length included. */
static size_t session_make(uint32_t i, uint64_t nonce, uint8_t out[SESSION_MAX])
{
    uint64_t x = nonce ^ (uint64_t)(i + 1) << 40 ^ 0x9e3779b97f4a7c15ull;
    const size_t n = sizeof(nonce) + nonce % (SESSION_MAX - sizeof(nonce) + 1);

    memcpy(out, &nonce, sizeof(nonce));
    for (size_t k = sizeof(nonce); k < n; k++)
        out[k] = (uint8_t)rnd(&x);
    return n;
}

static void get_and_check(uint32_t i, const uint8_t *id, size_t nid)
{
    uint8_t got[SESSION_MAX], want[SESSION_MAX];
    const ssize_t n = session_get(s, id, nid, 1, got, sizeof(got));
    uint64_t nonce;

    if (n == -ERR_NOENT) {
        atomic_fetch_add(&o->missed, 1);
    } else if (n == -ERR_CORRUPT) {
        atomic_fetch_add(&o->corrupt, 1);
    } else if (n < (ssize_t)sizeof(nonce)) {
        atomic_fetch_add(&o->odd, 1);
    } else {
        memcpy(&nonce, got, sizeof(nonce));
        if (session_make(i, nonce, want) != (size_t)n || memcmp(want, got, (size_t)n) != 0)
            atomic_fetch_add(&o->torn, 1);
        atomic_fetch_add(&o->got, 1);
    }
}

static void ring_make(struct ticket_ring *r, uint64_t nonce)
{
    r->n = 1 + (uint32_t)(nonce % TICKET_KEYS);
    memset(r->key, 0, sizeof(r->key));
    for (uint32_t k = 0; k < r->n; k++) {
        memset(&r->key[k], (int)(nonce + k), sizeof(r->key[k]));
        r->key[k].made_ms = nonce;
    }
}

static void ring_check(uint32_t *seq)
{
    struct ticket_ring got, want;

    if (!ticket_get(s, seq, &got))
        return;
    ring_make(&want, got.key[0].made_ms);
    if (got.n != want.n || memcmp(got.key, want.key, sizeof(want.key)) != 0)
        atomic_fetch_add(&o->ring_torn, 1);
    atomic_fetch_add(&o->rings, 1);
}

static void cert_check(void)
{
    struct cert_state st;
    struct slice name;
    char want[32];

    if (!cert_get(s, cert, &name, &st) || st.changed_ms == 0)
        return;
    snprintf(want, sizeof(want), "%u", st.names);
    if (strcmp(want, st.error) != 0 || strcmp(want, st.first_name) != 0 ||
        st.not_after_s != (int64_t)st.names)
        atomic_fetch_add(&o->cert_torn, 1);
}

_Noreturn static void work(uint32_t slot, uint64_t seed)
{
    struct counter_row *ctr = counter_row(s, slot);
    const slot_oid me = slot_owner_id(s, slot);
    uint8_t id[SESSION_ID_MAX], data[SESSION_MAX];
    uint32_t seq = 0;

    for (;;) {
        const uint64_t r = rnd(&seed);
        const uint32_t i = (uint32_t)(r >> 8) % IDS;
        const size_t nid = id_make(i, id);
        struct cert_state st = {.names = (uint32_t)(r >> 40) % 1000, .changed_ms = 1};

        if (r % 8 < 3) {
            get_and_check(i, id, nid);
        } else if (r % 8 < 7) {
            const size_t n = session_make(i, r, data);
            const int rc = session_put(s, me, id, nid, data, n, 2 + (r >> 20) % 1000);

            atomic_fetch_add(rc == 0 ? &o->put : rc == -ERR_FULL ? &o->full : &o->odd, 1);
        } else {
            session_remove(s, me, id, nid);
            atomic_fetch_add(&o->removed, 1);
        }
        ring_check(&seq);
        snprintf(st.error, sizeof(st.error), "%u", st.names);
        snprintf(st.first_name, sizeof(st.first_name), "%u", st.names);
        st.not_after_s = st.names;
        (void)cert_put(s, me, cert, &st);
        cert_check();
        (void)abuse_add(s, 1 + i, 1, r);
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

/* True when it died owning a place. */
static bool bury(pid_t pid, uint32_t slot)
{
    bool held = false;
    uint32_t place;

    kill(pid, SIGKILL);
    if (waitpid(pid, NULL, 0) != pid)
        tap_bail("waitpid");
    slot_set_state(s, slot, SLOT_DEAD);
    place = atomic_load(&layout_slot(s, slot)->session_place) - 1;
    if (place < s->nsessions) {
        const struct session_head *h = layout_at(s, AREA_SESSION_HEAD, 0);

        held = session_owner(atomic_load(&h[place].state)) != 0;
    }
    slot_reap(s, slot);
    return held;
}

static uint32_t owned(void)
{
    const struct session_head *h = layout_at(s, AREA_SESSION_HEAD, 0);
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->nsessions; i++)
        n += session_owner(atomic_load(&h[i].state)) != 0;
    for (uint32_t i = 0; i < s->nslots; i++)
        n += atomic_load(&layout_slot(s, i)->session_place) != 0;
    return n;
}

static bool happened(void)
{
    return o->got > 0 && o->put > 0 && o->missed > 0 && o->removed > 0 && o->rings > 0;
}

static void judge(int kills, uint32_t held, uint64_t dirty)
{
    uint8_t id[SESSION_ID_MAX];

    tap_ok(kills > 10,
           "%d kills, %u of them in the middle of writing; %llu put, %llu busy, %llu got, %llu not "
           "there, %llu removed, %llu rings",
           kills, held, (unsigned long long)o->put, (unsigned long long)o->full,
           (unsigned long long)o->got, (unsigned long long)o->missed,
           (unsigned long long)o->removed, (unsigned long long)o->rings);
    tap_ok(happened(), "all of it happened");
    tap_is_int(o->torn, 0, "no session was torn or another's");
    tap_is_int(o->corrupt, 0, "not even one that its sum had to tell");
    tap_is_int(o->odd, 0, "no other answer");
    tap_is_int(o->ring_torn, 0, "no ring of keys was torn");
    tap_is_int(o->cert_torn, 0, "no certificate row was torn");
    tap_is_int(dirty, 0, "fsck was clean all the time");
    tap_is_int(owned(), 0, "nothing is owned");
    for (uint32_t i = 0; i < IDS; i++)
        get_and_check(i, id, id_make(i, id));
    tap_ok(o->torn == 0 && o->corrupt == 0, "what is left is whole");
}

/* Until everything has happened that the storm is for. */
static bool storm_goes_on(uint64_t start, int kills)
{
    const uint64_t spent = clock_us_now() - start;

    if (spent < STORM_US)
        return kills < KILLS;
    return spent < MAX_US && (kills < 20 || !happened());
}

int main(void)
{
    pid_t pid[WORKERS];
    uint32_t slot[WORKERS], held = 0;
    uint64_t seed = 88172645463325252ull, start, dirty = 0;
    struct ticket_ring ring;
    struct buf b;
    int kills = 0;

    buf_init(&b, 0);
    o = mmap(NULL, sizeof(*o), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (o == MAP_FAILED || segment_create_sized(16, 2, 2, 2, &s) < 0 ||
        cert_register(s, SLICE("main"), 1, &cert) < 0)
        tap_bail("set-up");
    for (uint32_t i = 0; i < WORKERS; i++)
        pid[i] = spawn(rnd(&seed), &slot[i]);
    start = clock_us_now();
    for (; storm_goes_on(start, kills); kills++) {
        const uint32_t v = (uint32_t)(rnd(&seed) % WORKERS);
        const uint64_t done = atomic_load(&counter_row(s, slot[v])->v[CTR_REQUESTS]),
                       wait = rnd(&seed) % 50;

        /* The victim is let go on for a while that is counted in its own work. */
        do {
            ring_make(&ring, rnd(&seed));
            ticket_put(s, &ring);
            sched_yield();
        } while (atomic_load(&counter_row(s, slot[v])->v[CTR_REQUESTS]) < done + wait &&
                 clock_us_now() - start < MAX_US);
        held += bury(pid[v], slot[v]);
        pid[v] = spawn(rnd(&seed), &slot[v]);
        dirty += segment_fsck(s, &b) != 0;
    }
    for (uint32_t i = 0; i < WORKERS; i++)
        held += bury(pid[i], slot[i]);
    dirty += segment_fsck(s, &b) != 0;
    if (b.n > 0)
        printf("# %.*s\n", (int)b.n - 1, b.p);
    judge(kills, held, dirty);
    buf_fini(&b);
    segment_close(&s);
    munmap(o, sizeof(*o));
    return tap_done();
}
