/* Upstream servers: registry, rows and their sums, places under max_conns, operator's overrides. */
#include "shm/server.h"

#include "base/clock.h"
#include "base/err.h"
#include "shm/layout.h"

#include <limits.h>

#define IDLE_FORGET_S 3600u
#define IDLE_GROW_S   600u

uint32_t server_count(const struct segment *s)
{
    return layout_server_bound(s);
}

static void bump_epoch(struct segment *s)
{
    atomic_fetch_add(&layout_hot(s)->server_epoch, 1);
}

uint32_t server_epoch(const struct segment *s)
{
    return atomic_load_explicit(&layout_hot(s)->server_epoch, memory_order_acquire);
}

/* An id from a caller is one of its own making, but a caller may hold one that was read from a
 * table: never index with it blindly. */
static struct server_rec *rec(const struct segment *s, uint32_t id)
{
    return layout_server(s, id < s->nservers ? id : 0);
}

static bool rows_are_zero(const struct segment *s, uint32_t id)
{
    const uint32_t bound = slot_bound(s);

    for (uint32_t slot = 0; slot < bound; slot++) {
        const struct server_row *r = layout_server_row(s, slot, id);

        if (atomic_load(&r->active) || atomic_load(&r->idle) || atomic_load(&r->queued) ||
            atomic_load(&r->retrying))
            return false;
    }
    return true;
}

/* A free entry becomes fresh before its key is stored: nobody looks at an entry without a key. */
static void entry_reset(struct segment *s, uint32_t id, struct slice name)
{
    struct server_rec *r = layout_server(s, id);
    const uint32_t bound = slot_bound(s);

    for (uint32_t slot = 0; slot < bound; slot++) {
        struct server_row *row = layout_server_row(s, slot, id);

        atomic_store_explicit(&row->requests, 0, memory_order_relaxed);
        atomic_store_explicit(&row->failures, 0, memory_order_relaxed);
        atomic_store_explicit(&row->bytes_in, 0, memory_order_relaxed);
        atomic_store_explicit(&row->bytes_out, 0, memory_order_relaxed);
        atomic_store_explicit(&row->connects, 0, memory_order_relaxed);
        atomic_store_explicit(&row->reuses, 0, memory_order_relaxed);
        atomic_store_explicit(&row->first_byte_us, 0, memory_order_relaxed);
    }
    atomic_store_explicit(&r->circuit, 0, memory_order_relaxed);
    atomic_store_explicit(&r->window, 0, memory_order_relaxed);
    atomic_store_explicit(&r->probe_owner, 0, memory_order_relaxed);
    atomic_store_explicit(&r->admin, SERVER_ADMIN_READY, memory_order_relaxed);
    atomic_store_explicit(&r->weight, 0, memory_order_relaxed);
    atomic_store_explicit(&r->last_error, 0, memory_order_relaxed);
    atomic_store_explicit(&r->since_ms, 0, memory_order_relaxed);
    atomic_store_explicit(&r->idle_note, 0, memory_order_relaxed);
    for (unsigned i = 0; i < SHM_SLOTS / 64; i++)
        atomic_store_explicit(&r->want[i], 0, memory_order_relaxed);
    if (name.n > SERVER_NAME_MAX)
        name.n = SERVER_NAME_MAX;
    memset(r->name, 0, sizeof(r->name));
    if (name.n > 0)
        memcpy(r->name, name.p, name.n);
    atomic_store_explicit(&r->name_len, (uint32_t)name.n, memory_order_relaxed);
}

int server_register(struct segment *s, uint64_t key, struct slice name, uint32_t generation,
                    uint32_t *ret_id)
{
    _Atomic uint64_t *keys = layout_words(s, AREA_SERVER_KEY);
    const uint32_t bound = layout_server_bound(s);
    uint32_t id = bound;

    key = key ? key : 1;
    for (uint32_t i = 0; i < bound; i++) {
        const uint64_t k = atomic_load_explicit(&keys[i], memory_order_relaxed);

        if (k == key) {
            atomic_store_explicit(&layout_server(s, i)->used_gen, generation, memory_order_relaxed);
            *ret_id = i;
            return 0;
        }
        if (k == 0 && id == bound)
            id = i;
    }
    if (id == s->nservers)
        return -ERR_FULL;
    entry_reset(s, id, name);
    atomic_store_explicit(&layout_server(s, id)->used_gen, generation, memory_order_relaxed);
    atomic_store_explicit(&keys[id], key, memory_order_release);
    if (id == bound)
        atomic_store_explicit(&layout_hot(s)->server_bound, id + 1, memory_order_release);
    bump_epoch(s);
    *ret_id = id;
    return 0;
}

void server_retire(struct segment *s, uint32_t oldest_living_generation)
{
    _Atomic uint64_t *keys = layout_words(s, AREA_SERVER_KEY);
    uint32_t bound = layout_server_bound(s);

    for (uint32_t i = 0; i < bound; i++) {
        const struct server_rec *r = layout_server(s, i);

        if (atomic_load_explicit(&keys[i], memory_order_relaxed) != 0 &&
            atomic_load_explicit(&r->used_gen, memory_order_relaxed) < oldest_living_generation &&
            rows_are_zero(s, i))
            atomic_store_explicit(&keys[i], 0, memory_order_release);
    }
    while (bound > 0 && atomic_load_explicit(&keys[bound - 1], memory_order_relaxed) == 0)
        bound--;
    atomic_store_explicit(&layout_hot(s)->server_bound, bound, memory_order_release);
}

struct slice server_name(const struct segment *s, uint32_t id)
{
    const struct server_rec *r;

    if (id >= layout_server_bound(s) ||
        atomic_load_explicit(&layout_words(s, AREA_SERVER_KEY)[id], memory_order_acquire) == 0)
        return SLICE_NONE;
    r = layout_server(s, id);
    return slice_of(r->name, layout_min(atomic_load_explicit(&r->name_len, memory_order_relaxed),
                                        SERVER_NAME_MAX));
}

struct server_row *server_row(struct segment *s, uint32_t slot, uint32_t id)
{
    return slot < s->nslots && id < s->nservers ? layout_server_row(s, slot, id) : NULL;
}

uint32_t server_active(const struct segment *s, uint32_t id)
{
    const uint32_t bound = slot_bound(s);
    uint64_t sum = 0;

    if (id >= s->nservers)
        return 0;
    for (uint32_t slot = 0; slot < bound; slot++)
        sum += atomic_load_explicit(&layout_server_row(s, slot, id)->active, memory_order_seq_cst);
    return sum > UINT32_MAX ? UINT32_MAX : (uint32_t)sum;
}

uint32_t server_idle(const struct segment *s, uint32_t id)
{
    const uint32_t bound = slot_bound(s);
    uint64_t sum = 0;

    if (id >= s->nservers)
        return 0;
    for (uint32_t slot = 0; slot < bound; slot++)
        sum += atomic_load_explicit(&layout_server_row(s, slot, id)->idle, memory_order_relaxed);
    return sum > UINT32_MAX ? UINT32_MAX : (uint32_t)sum;
}

void server_sum(const struct segment *s, uint32_t id, struct server_sum *ret)
{
    const uint32_t bound = slot_bound(s);

    memset(ret, 0, sizeof(*ret));
    if (id >= s->nservers)
        return;
    for (uint32_t slot = 0; slot < bound; slot++) {
        const struct server_row *r = layout_server_row(s, slot, id);

        ret->active += atomic_load_explicit(&r->active, memory_order_relaxed);
        ret->idle += atomic_load_explicit(&r->idle, memory_order_relaxed);
        ret->queued += atomic_load_explicit(&r->queued, memory_order_relaxed);
        ret->retrying += atomic_load_explicit(&r->retrying, memory_order_relaxed);
        ret->requests += atomic_load_explicit(&r->requests, memory_order_relaxed);
        ret->failures += atomic_load_explicit(&r->failures, memory_order_relaxed);
        ret->bytes_in += atomic_load_explicit(&r->bytes_in, memory_order_relaxed);
        ret->bytes_out += atomic_load_explicit(&r->bytes_out, memory_order_relaxed);
        ret->connects += atomic_load_explicit(&r->connects, memory_order_relaxed);
        ret->reuses += atomic_load_explicit(&r->reuses, memory_order_relaxed);
        ret->first_byte_us += atomic_load_explicit(&r->first_byte_us, memory_order_relaxed);
    }
}

/* Of two that enter at once, each adds before it sums and both operations are in one total order,
 * so at least the later one sees both: the number of those admitted never passes max. */
int server_enter(struct segment *s, uint32_t slot, uint32_t id, uint32_t max)
{
    struct server_row *r = server_row(s, slot, id);

    if (!r)
        return -ERR_RANGE;
    if (atomic_fetch_add(&r->active, 1) == UINT32_MAX) {
        atomic_store(&r->active, UINT32_MAX);
        return -ERR_FULL;
    }
    if (max == 0 || server_active(s, id) <= max)
        return 0;
    atomic_fetch_sub(&r->active, 1);
    return -ERR_FULL;
}

uint32_t server_leave(struct segment *s, uint32_t slot, uint32_t id)
{
    struct server_row *r = server_row(s, slot, id);
    struct server_rec *e;
    const unsigned words = SHM_SLOTS / 64;

    if (!r)
        return UINT32_MAX;
    /* The matching order of server_want: place given back, then the bits read; there bit set, then
     * server_enter tried again. */
    if (atomic_fetch_sub(&r->active, 1) == 0)
        atomic_store(&r->active, 0);
    e = layout_server(s, id);
    for (unsigned i = 0; i < words; i++) {
        /* Begin at the slot after one's own, so that neighbours take turns. */
        const unsigned at = (slot / 64 + i) % words;
        uint64_t w = atomic_load(&e->want[at]), pick;

        for (int t = 0; w != 0 && t < LAYOUT_TRIES; t++) {
            const uint64_t after = i == 0 ? w & ~(((uint64_t)2 << (slot % 64)) - 1) : w;
            const unsigned bit = (unsigned)__builtin_ctzll(after ? after : w);

            pick = (uint64_t)1 << bit;
            w = atomic_fetch_and(&e->want[at], ~pick);
            if (w & pick)
                return at * 64 + bit;
        }
    }
    return UINT32_MAX;
}

void server_want(struct segment *s, uint32_t slot, uint32_t id)
{
    if (slot < s->nslots && id < s->nservers)
        atomic_fetch_or(&layout_server(s, id)->want[slot / 64], (uint64_t)1 << (slot % 64));
}

void server_unwant(struct segment *s, uint32_t slot, uint32_t id)
{
    if (slot < s->nslots && id < s->nservers)
        atomic_fetch_and(&layout_server(s, id)->want[slot / 64], ~((uint64_t)1 << (slot % 64)));
}

void server_reap(struct segment *s, uint32_t slot)
{
    const uint32_t bound = layout_server_bound(s);

    for (uint32_t id = 0; id < bound; id++) {
        struct server_row *r = layout_server_row(s, slot, id);
        struct server_rec *e = layout_server(s, id);
        uint32_t owner = atomic_load(&e->probe_owner);

        atomic_store(&r->active, 0);
        atomic_store(&r->idle, 0);
        atomic_store(&r->queued, 0);
        atomic_store(&r->retrying, 0);
        if (owner != 0 && (owner & 0xff) == slot)
            atomic_compare_exchange_strong(&e->probe_owner, &owner, 0);
        server_unwant(s, slot, id);
    }
}

void server_set_admin(struct segment *s, uint32_t id, enum server_admin a)
{
    struct server_rec *r = rec(s, id);

    /* Coming back counts as a return to service: slow start applies. */
    if (atomic_exchange(&r->admin, (uint32_t)a) != (uint32_t)a)
        atomic_store_explicit(&r->since_ms, clock_ms(), memory_order_relaxed);
    bump_epoch(s);
}

enum server_admin server_admin(const struct segment *s, uint32_t id)
{
    switch (atomic_load_explicit(&rec(s, id)->admin, memory_order_relaxed)) {
    case SERVER_ADMIN_DRAIN:
        return SERVER_ADMIN_DRAIN;
    case SERVER_ADMIN_DOWN:
        return SERVER_ADMIN_DOWN;
    default:
        return SERVER_ADMIN_READY;
    }
}

void server_set_weight(struct segment *s, uint32_t id, uint32_t weight)
{
    atomic_store_explicit(&rec(s, id)->weight, weight, memory_order_relaxed);
    bump_epoch(s);
}

uint32_t server_weight(const struct segment *s, uint32_t id)
{
    return layout_min(atomic_load_explicit(&rec(s, id)->weight, memory_order_relaxed), 1u << 16);
}

int server_last_error(const struct segment *s, uint32_t id)
{
    const uint32_t e = atomic_load_explicit(&rec(s, id)->last_error, memory_order_relaxed);

    return e < ERR__COUNT ? (int)e : ERR_OK;
}

void server_set_last_error(struct segment *s, uint32_t id, int err)
{
    struct server_rec *r = rec(s, id);
    const uint32_t e = err == INT_MIN ? 0 : (uint32_t)(err < 0 ? -err : err);

    if (atomic_load_explicit(&r->last_error, memory_order_relaxed) != e)
        atomic_store_explicit(&r->last_error, e, memory_order_relaxed);
}

uint64_t server_state_since_ms(const struct segment *s, uint32_t id)
{
    return atomic_load_explicit(&rec(s, id)->since_ms, memory_order_relaxed);
}

/* What was seen, and older sightings weigh less: the allowance grows by itself over an hour, then
 * is unknown again. */
static uint32_t idle_now(uint64_t word, uint32_t now_s)
{
    const uint64_t ms = word >> 32;
    const uint32_t age = now_s - (uint32_t)word;
    const uint64_t v = ms + ms * age / IDLE_GROW_S;

    if (ms == 0 || age > IDLE_FORGET_S)
        return 0;
    return v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

void server_note_idle_close(struct segment *s, uint32_t id, uint32_t idle_ms)
{
    _Atomic uint64_t *word = &rec(s, id)->idle_note;
    const uint32_t now_s = (uint32_t)(clock_ms() / 1000);
    const uint64_t mine = (uint64_t)(idle_ms ? idle_ms : 1) << 32 | now_s;
    uint64_t w = atomic_load(word);

    for (int i = 0; i < LAYOUT_TRIES; i++) {
        const uint32_t known = idle_now(w, now_s);

        if (known != 0 && known < idle_ms)
            return;
        if (atomic_compare_exchange_strong(word, &w, mine))
            return;
    }
}

uint32_t server_idle_allowance(const struct segment *s, uint32_t id)
{
    return idle_now(atomic_load_explicit(&rec(s, id)->idle_note, memory_order_relaxed),
                    (uint32_t)(clock_ms() / 1000));
}
