/* The reaper: rolls forward or back all that carries a dead slot's owner id. Each step may be run
 * again, by anybody, after the reaper's own death. */
#include "base/err.h"
#include "shm/cache_layout.h"

static bool of_slot(uint64_t st, uint32_t slot)
{
    return cache_st_owner(st) != 0 && (cache_st_owner(st) & 0xffu) == slot;
}

void cache_reap_unreached(struct cache *c, uint32_t owner, uint32_t body)
{
    struct cache_bodyd *d = cache_bodyd(c, body);
    uint64_t st = atomic_load(&d->st), word;
    const uint32_t gen = cache_st_gen(st);
    _Atomic uint64_t *slot;
    struct cache_head h;

    if (cache_st_code(st) != CBODY_LIVE || cache_index_body(c, body, gen, &slot, &word, &h))
        return;
    /* Nobody gives a LIVE body a word again once it has none. */
    if (cache_body_claim(c, owner, body, gen))
        cache_body_release(c, owner, body, gen, CBODY_DYING);
}

static bool joined_by_others(const struct cache_flight *f, uint32_t slot)
{
    uint64_t any = 0;

    for (uint32_t i = 0; i < CACHE_SLOTS / 64; i++) {
        uint64_t v = atomic_load(&f->joined[i]);

        if (i == slot / 64)
            v &= ~((uint64_t)1 << (slot & 63u));
        any |= v;
    }
    return any != 0;
}

/* Everybody who follows looks again. */
static void wake_joined(struct cache *c, uint32_t flight, uint64_t kick[CACHE_SLOTS / 64])
{
    struct cache_flight *f = cache_flight(c, flight);
    uint64_t bits[CACHE_SLOTS / 64];

    for (uint32_t i = 0; i < CACHE_SLOTS / 64; i++)
        bits[i] = atomic_load(&f->joined[i]);
    cache_flight_note(c, flight, bits, kick);
}

static void reap_led(struct cache *c, uint32_t slot, uint32_t flight, uint64_t st)
{
    struct cache_flight *f = cache_flight(c, flight);
    const uint32_t gen = cache_st_gen(st), body = atomic_load(&f->body),
                   bgen = atomic_load(&f->body_gen);
    _Atomic uint64_t *at;
    struct cache_head h;
    uint64_t word, fill, to = cache_st(0, gen + 1, CFLIGHT_FREE);

    if (cache_st_code(st) == CFLIGHT_STREAM && body < c->sb.nbody) {
        fill = cache_st(cache_st_owner(st), bgen, CBODY_FILL);
        if (cache_index_body(c, body, bgen, &at, &word, &h)) {
            /* It got as far as publishing: complete. */
            atomic_compare_exchange_strong(&cache_bodyd(c, body)->st, &fill,
                                           cache_st(0, bgen, CBODY_LIVE));
            to = cache_st(0, gen, CFLIGHT_DONE);
        } else if (joined_by_others(f, slot)) {
            atomic_compare_exchange_strong(&cache_bodyd(c, body)->st, &fill,
                                           cache_st(0, bgen, CBODY_FILL));
            to = cache_st(0, gen, CFLIGHT_ORPHAN);
        }
    } else if (cache_st_code(st) == CFLIGHT_FETCH && joined_by_others(f, slot)) {
        atomic_store(&f->body, CACHE_NONE);
        to = cache_st(0, gen, CFLIGHT_ORPHAN);
    }
    atomic_compare_exchange_strong(&f->st, &st, to);
}

static void reap_flights(struct cache *c, uint32_t slot, uint64_t kick[CACHE_SLOTS / 64])
{
    const uint64_t bit = (uint64_t)1 << (slot & 63u);

    for (uint32_t i = 0; i < c->sb.nflight; i++) {
        struct cache_flight *f = cache_flight(c, i);
        const uint64_t st = atomic_load(&f->st);
        const uint32_t code = cache_st_code(st);
        const bool led = of_slot(st, slot);

        if (led && (code == CFLIGHT_CLAIM || code == CFLIGHT_FETCH || code == CFLIGHT_STREAM))
            reap_led(c, slot, i, st);
        if (atomic_load(&f->want[slot / 64]) & bit)
            atomic_fetch_and(&f->want[slot / 64], ~bit);
        if (atomic_load(&f->joined[slot / 64]) & bit)
            atomic_fetch_and(&f->joined[slot / 64], ~bit);
        cache_flight_close(c, slot, i);
        if (led)
            wake_joined(c, i, kick);
    }
}

/* Whether a body that nobody fills is still somebody's through its flight. */
static bool awaited(const struct cache *c, uint32_t body)
{
    const uint32_t flight = atomic_load(&cache_bodyd(c, body)->flight);
    const struct cache_flight *f;
    uint32_t code;

    if (flight >= c->sb.nflight)
        return false;
    f = cache_flight(c, flight);
    code = cache_st_code(atomic_load(&f->st));
    return atomic_load(&f->body) == body &&
           atomic_load(&f->body_gen) == cache_st_gen(atomic_load(&cache_bodyd(c, body)->st)) &&
           (code == CFLIGHT_ORPHAN || code == CFLIGHT_STREAM);
}

/* Leftovers are found by the owner's slot; FILL without owner by its flight. Returns whether pages
 * may have come back without being counted. */
static bool reap_body(struct cache *c, uint32_t slot, uint32_t body)
{
    struct cache_bodyd *d = cache_bodyd(c, body);
    uint64_t st = atomic_load(&d->st), word;
    const uint32_t gen = cache_st_gen(st), code = cache_st_code(st), owner = cache_st_owner(st);
    const bool dead = of_slot(st, slot);
    _Atomic uint64_t *at;
    struct cache_head h;

    if (code == CBODY_LIMBO) {
        cache_body_try_free(c, slot, body);
        return false;
    }
    if (code == CBODY_FILL && (dead || owner == 0)) {
        if (cache_index_body(c, body, gen, &at, &word, &h))
            atomic_compare_exchange_strong(&d->st, &st, cache_st(0, gen, CBODY_LIVE));
        else if (!awaited(c, body))
            cache_body_release(c, owner, body, gen, CBODY_FILL);
        else if (dead)
            atomic_compare_exchange_strong(&d->st, &st, cache_st(0, gen, CBODY_FILL));
        return dead;
    }
    if (!dead)
        return false;
    if (code == CBODY_DYING) {
        if (cache_index_body(c, body, gen, &at, &word, &h)) {
            atomic_compare_exchange_strong(&d->st, &st, cache_st(0, gen, CBODY_LIVE));
            cache_reap_unreached(c, owner, body);
        } else {
            cache_body_release(c, owner, body, gen, CBODY_DYING);
        }
    }
    if (code == CBODY_FREEING) {
        atomic_compare_exchange_strong(&d->st, &st, cache_st(0, gen + 1, CBODY_FREE));
        atomic_fetch_add(&cache_hot(c)->page_free.v, 1);
    }
    return true;
}

static void reap_slabs(struct cache *c, uint32_t slot)
{
    for (uint32_t i = 0; i < c->sb.nslab; i++) {
        uint64_t st = atomic_load(cache_slab_st(c, i));

        if (!of_slot(st, slot))
            continue;
        switch (cache_st_code(st)) {
        case CSLAB_OPEN:
            cache_slab_seal(c, i, cache_st_owner(st));
            break;
        case CSLAB_EVICT:
            atomic_compare_exchange_strong(cache_slab_st(c, i), &st,
                                           cache_st(0, cache_st_gen(st), CSLAB_SEALED));
            break;
        case CSLAB_POPEN:
        case CSLAB_CLOSE:
            cache_slab_reopen(c, i, st);
            break;
        default:
            break;
        }
    }
}

/* `used` decides where holes are looked for; what a death freed halfway was not counted. */
static void recount(struct cache *c)
{
    for (uint32_t i = 0; i < c->sb.nslab; i++) {
        uint32_t n = 0;

        if (cache_st_code(atomic_load(cache_slab_st(c, i))) == CSLAB_FREE)
            continue;
        for (uint32_t k = 0; k < c->slab_pages; k++) {
            const uint64_t o = atomic_load(&cache_page(c, i * c->slab_pages + k)->owner);

            n += o != CPAGE_CLOSED && !cache_body_page_is_free(c, o);
        }
        if (atomic_load(&cache_slab(c, i)->used) != n)
            atomic_store(&cache_slab(c, i)->used, n);
    }
}

static void zero_row(_Atomic uint32_t *row, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (atomic_load_explicit(&row[i], memory_order_relaxed) != 0)
            atomic_store(&row[i], 0);
    }
}

void cache_reap(struct cache *c, uint32_t slot, uint64_t kick[CACHE_SLOTS / 64])
{
    struct cache_row *row;
    bool uncounted = false;

    memset(kick, 0, CACHE_SLOTS / 8);
    if (slot >= c->sb.nslot)
        return;
    row = cache_row(c, slot);
    cache_share_reap(c, slot);
    /* Before the bodies, which may now be free; nothing the corpse had pinned is led to by it. */
    zero_row(cache_slabpin(c, slot), c->sb.nslab);
    zero_row(cache_bodypin(c, slot), c->sb.nbodypin);
    reap_flights(c, slot, kick);
    for (uint32_t i = 0; i < c->sb.nbody; i++) {
        const uint64_t st = atomic_load_explicit(&cache_bodyd(c, i)->st, memory_order_acquire);

        if (st != 0 && cache_st_code(st) != CBODY_FREE && cache_st_code(st) != CBODY_LIVE)
            uncounted |= reap_body(c, slot, i);
    }
    reap_slabs(c, slot);
    if (uncounted)
        recount(c);
    /* A purge that ended between its generations and the count. */
    for (uint32_t i = 0; i < CACHE_SHARDS && atomic_load(&row->owner) != 0; i++)
        atomic_fetch_add(&cache_hot(c)->purge[i].v, 1);
    for (uint32_t i = 0; i < CACHE_FLIGHT_MAX / 64; i++)
        atomic_store(&cache_mail(c, slot)->bit[i], 0);
    atomic_store(&cache_mail(c, slot)->sum, 0);
    atomic_store(&row->asleep, 0);
    atomic_store(&row->owner, 0);
}

void cache_reap_all(struct cache *c)
{
    uint64_t kick[CACHE_SLOTS / 64];

    for (uint32_t i = 0; i < c->sb.nslot; i++)
        cache_reap(c, i, kick);
    for (uint32_t i = 0; i < c->sb.nbody; i++)
        cache_reap_unreached(c, 0, i);
    recount(c);
}

int cache_repair(struct cache_worker *w)
{
    struct cache *c = w->c;
    struct cache_head h;
    int n = 0;

    for (uint32_t b = 0; b < c->sb.nbucket; b++) {
        for (uint32_t i = 0; i < CACHE_WAYS; i++) {
            _Atomic uint64_t *slot = &cache_bucket(c, b)->word[i];
            uint64_t v = atomic_load(slot);
            const uint32_t slab = cache_word_slab(v);
            uint32_t at[2];
            bool good = false;

            if (v == 0)
                continue;
            if (slab < c->sb.nslab) {
                cache_pin_slab(w, slab);
                if (atomic_load(slot) != v) {
                    cache_unpin_slab(w, slab);
                    continue;
                }
                if (cache_record_load(c, slab, cache_word_off(v), c->sb.slab_size, &h) == 0) {
                    cache_buckets(c, &h.key, at);
                    good = (at[0] == b || at[1] == b) && cache_word_tag(v, &h.key);
                }
                cache_unpin_slab(w, slab);
            }
            if (!good && atomic_compare_exchange_strong(slot, &v, 0))
                n++;
        }
    }
    for (uint32_t i = 0; i < c->sb.nbody; i++) {
        const uint64_t st = atomic_load(&cache_bodyd(c, i)->st);
        uint64_t old = st;

        if (cache_st_code(st) <= CBODY_FREEING) {
            cache_reap_unreached(c, w->owner, i);
            n += atomic_load(&cache_bodyd(c, i)->st) != st;
        } else if (atomic_compare_exchange_strong(&cache_bodyd(c, i)->st, &old,
                                                  cache_st(0, cache_st_gen(st), CBODY_LIMBO))) {
            n++;
        }
    }
    /* A slab in no state: whatever leads into it goes, then it drains like an evicted one. */
    for (uint32_t i = 0; i < c->sb.nslab; i++) {
        uint64_t st = atomic_load(cache_slab_st(c, i));

        if (cache_st_code(st) <= CSLAB_CLOSE)
            continue;
        cache_index_sweep(c, w->owner, i);
        n += atomic_compare_exchange_strong(cache_slab_st(c, i), &st,
                                            cache_st(0, cache_st_gen(st), CSLAB_DRAIN));
    }
    for (uint32_t i = 0; i < c->sb.nflight; i++) {
        uint64_t st = atomic_load(&cache_flight(c, i)->st);

        if (cache_st_code(st) > CFLIGHT_ORPHAN)
            n += atomic_compare_exchange_strong(&cache_flight(c, i)->st, &st,
                                                cache_st(0, cache_st_gen(st) + 1, CFLIGHT_FREE));
    }
    for (uint32_t i = 0; i < c->sb.nslot; i++) {
        if (atomic_load(&cache_row(c, i)->owner) == 0) {
            zero_row(cache_slabpin(c, i), c->sb.nslab);
            zero_row(cache_bodypin(c, i), c->sb.nbodypin);
        }
    }
    recount(c);
    return n + cache_share_repair(c);
}
