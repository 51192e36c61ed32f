/* Passive health: when a server is ejected, for how long, and who may try it first afterwards.
 *
 * circuit word: open_until_ms:40 | fails:10 | back-off:6 | epoch:8. open_until 0 is UP; later than
 * now is EJECTED; past is HALF_OPEN. window word: start_ms:40 | requests:12 | failures:12. It is
 * opened by a failure and counts successes only while open: a healthy server's words are only read,
 * so they stay in every CPU's cache. */
#include "shm/layout.h"

#define UNTIL_MASK   (((uint64_t)1 << 40) - 1)
#define FAILS_MAX    1023u
#define BACK_MAX     63u
#define COUNT_MAX    4095u
#define EJECT_MAX_MS 300000u
#define WINDOW_LEAST 20u

struct circuit {
    uint64_t until;
    uint32_t fails, back, epoch;
};

static struct circuit unpack(uint64_t w)
{
    return (struct circuit){w >> 24, (uint32_t)(w >> 14) & FAILS_MAX, (uint32_t)(w >> 8) & BACK_MAX,
                            (uint32_t)w & 0xff};
}

static uint64_t pack(struct circuit c)
{
    return (c.until & UNTIL_MASK) << 24 | (uint64_t)(c.fails & FAILS_MAX) << 14 |
           (uint64_t)(c.back & BACK_MAX) << 8 | (c.epoch & 0xff);
}

static enum server_state state_of(struct circuit c, uint64_t now_ms)
{
    if (c.until == 0)
        return SERVER_UP;
    return now_ms < c.until ? SERVER_EJECTED : SERVER_HALF_OPEN;
}

static struct server_rec *rec(const struct segment *s, uint32_t id)
{
    return layout_server(s, id < s->nservers ? id : 0);
}

const char *server_state_name(enum server_state st)
{
    switch (st) {
    case SERVER_UP:
        return "up";
    case SERVER_EJECTED:
        return "ejected";
    case SERVER_HALF_OPEN:
        return "half_open";
    case SERVER__COUNT:
        break;
    }
    return "broken";
}

/* Counts one outcome; true when the window says that the server is bad. */
static bool window_add(struct server_rec *r, const struct server_policy *p, uint64_t now_ms,
                       bool failed)
{
    uint64_t w = atomic_load_explicit(&r->window, memory_order_relaxed);

    for (int i = 0; i < LAYOUT_TRIES; i++) {
        uint64_t start = w >> 24;
        uint32_t requests = (uint32_t)(w >> 12) & COUNT_MAX, failures = (uint32_t)w & COUNT_MAX;

        if (w == 0 || now_ms < start || now_ms - start > p->window_ms) {
            if (!failed)
                return false;
            start = now_ms & UNTIL_MASK;
            requests = failures = 0;
        }
        if (requests == COUNT_MAX) {
            requests /= 2;
            failures /= 2;
        }
        requests++;
        failures += failed;
        if (atomic_compare_exchange_weak_explicit(&r->window, &w,
                                                  start << 24 | (uint64_t)requests << 12 | failures,
                                                  memory_order_relaxed, memory_order_relaxed))
            /* The failure that opened the window was not drawn by chance: it does not count towards
             * the share. */
            return failed && requests >= WINDOW_LEAST && (failures - 1) * 2 > requests - 1;
    }
    return false;
}

static void changed(struct segment *s, struct server_rec *r, uint64_t now_ms)
{
    atomic_store_explicit(&r->since_ms, now_ms, memory_order_relaxed);
    atomic_store_explicit(&r->window, 0, memory_order_relaxed);
    atomic_store_explicit(&r->probe_owner, 0, memory_order_release);
    atomic_fetch_add(&layout_hot(s)->server_epoch, 1);
}

void server_succeeded(struct segment *s, uint32_t id, const struct server_policy *p,
                      uint64_t now_ms)
{
    struct server_rec *r = rec(s, id);
    uint64_t w = atomic_load_explicit(&r->circuit, memory_order_acquire);

    if (atomic_load_explicit(&r->window, memory_order_relaxed) != 0)
        (void)window_add(r, p, now_ms, false);
    for (int i = 0; i < LAYOUT_TRIES; i++) {
        struct circuit c = unpack(w);
        const enum server_state st = state_of(c, now_ms);
        const uint64_t since = atomic_load_explicit(&r->since_ms, memory_order_relaxed);

        /* An answer to a request from before the ejection proves nothing about now. */
        if (st == SERVER_EJECTED || (st == SERVER_UP && c.fails == 0 && c.back == 0))
            return;
        c.fails = 0;
        if (st == SERVER_HALF_OPEN) {
            c.until = 0;
            c.epoch++;
        } else if (now_ms >= since && now_ms - since >= p->window_ms) {
            c.back = 0; /* it held for a window: the next ejection is a first one again */
        }
        if (pack(c) == w)
            return;
        if (atomic_compare_exchange_strong(&r->circuit, &w, pack(c))) {
            if (st == SERVER_HALF_OPEN)
                changed(s, r, now_ms);
            return;
        }
    }
}

bool server_failed(struct segment *s, uint32_t id, const struct server_policy *p, uint64_t now_ms,
                   bool may_eject)
{
    struct server_rec *r = rec(s, id);
    uint64_t w = atomic_load_explicit(&r->circuit, memory_order_acquire);
    const bool bad = window_add(r, p, now_ms, true);

    for (int i = 0; i < LAYOUT_TRIES; i++) {
        struct circuit c = unpack(w);
        const enum server_state st = state_of(c, now_ms);
        bool eject;

        if (st == SERVER_EJECTED)
            return false;
        if (c.fails < FAILS_MAX)
            c.fails++;
        /* One that was out and failed its trial goes out again: it is not one more than were out
         * before. */
        eject = p->max_fails != 0 &&
                (st == SERVER_HALF_OPEN || (may_eject && (c.fails >= p->max_fails || bad)));
        if (eject) {
            uint64_t ms;

            if (c.back < BACK_MAX)
                c.back++;
            ms = (uint64_t)p->eject_ms * c.back;
            c.until = (now_ms + (ms < EJECT_MAX_MS ? ms : EJECT_MAX_MS)) & UNTIL_MASK;
            c.epoch++;
        } else if (pack(c) == w) {
            return false;
        }
        if (atomic_compare_exchange_strong(&r->circuit, &w, pack(c))) {
            if (eject)
                changed(s, r, now_ms);
            return eject;
        }
    }
    return false;
}

bool server_usable(struct segment *s, uint32_t id, slot_oid me, uint64_t now_ms, bool *ret_probe)
{
    struct server_rec *r = rec(s, id);
    uint32_t owner;

    *ret_probe = false;
    switch (server_state(s, id, now_ms)) {
    case SERVER_UP:
        return true;
    case SERVER_EJECTED:
    case SERVER__COUNT:
        return false;
    case SERVER_HALF_OPEN:
        break;
    }
    owner = atomic_load_explicit(&r->probe_owner, memory_order_acquire);
    if (me == 0 || (owner != 0 && slot_alive(s, owner)))
        return false;
    *ret_probe = atomic_compare_exchange_strong(&r->probe_owner, &owner, me);
    return *ret_probe;
}

void server_probe_release(struct segment *s, uint32_t id, slot_oid me)
{
    struct server_rec *r = rec(s, id);
    uint32_t owner = me;

    if (me != 0 && atomic_load_explicit(&r->probe_owner, memory_order_relaxed) == me)
        atomic_compare_exchange_strong(&r->probe_owner, &owner, 0);
}

slot_oid server_probe_owner(const struct segment *s, uint32_t id)
{
    return atomic_load_explicit(&rec(s, id)->probe_owner, memory_order_acquire);
}

enum server_state server_state(const struct segment *s, uint32_t id, uint64_t now_ms)
{
    return state_of(unpack(atomic_load_explicit(&rec(s, id)->circuit, memory_order_acquire)),
                    now_ms);
}

uint32_t server_fails(const struct segment *s, uint32_t id)
{
    return unpack(atomic_load_explicit(&rec(s, id)->circuit, memory_order_relaxed)).fails;
}

uint64_t server_ejected_for_ms(const struct segment *s, uint32_t id, uint64_t now_ms)
{
    const struct circuit c =
        unpack(atomic_load_explicit(&rec(s, id)->circuit, memory_order_relaxed));

    return state_of(c, now_ms) == SERVER_EJECTED ? c.until - now_ms : 0;
}
