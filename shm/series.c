/* Series: the numbers of one route; name registry and rows. Declared in counter.h. */
#include "base/hash.h"
#include "shm/counter.h"
#include "shm/layout.h"

static uint64_t hash_of(struct slice name)
{
    const uint64_t h = hash_fixed(name.p, name.n);

    return h ? h : 1;
}

uint32_t series_count(const struct segment *s)
{
    return layout_min(atomic_load_explicit(&layout_hot(s)->series_count, memory_order_acquire),
                      s->nseries);
}

struct slice series_name(const struct segment *s, uint32_t id)
{
    const struct series_name_rec *r;

    if (id >= series_count(s))
        return SLICE_NONE;
    r = layout_series_name(s, id);
    return slice_of(
        r->name, layout_min(atomic_load_explicit(&r->len, memory_order_acquire), SERIES_NAME_MAX));
}

uint32_t series_register(struct segment *s, struct slice name)
{
    _Atomic uint64_t *hash = layout_words(s, AREA_SERIES_HASH);
    const uint32_t n = series_count(s);
    struct series_name_rec *r;
    uint64_t h;

    if (name.n > SERIES_NAME_MAX)
        name.n = SERIES_NAME_MAX;
    h = hash_of(name);
    for (uint32_t i = 0; i < n; i++) {
        if (atomic_load_explicit(&hash[i], memory_order_relaxed) == h &&
            slice_eq(series_name(s, i), name))
            return i;
    }
    if (n == s->nseries)
        return 0;
    r = layout_series_name(s, n);
    memset(r->name, 0, sizeof(r->name));
    if (name.n > 0)
        memcpy(r->name, name.p, name.n);
    atomic_store_explicit(&r->len, (uint32_t)name.n, memory_order_relaxed);
    atomic_store_explicit(&hash[n], h, memory_order_relaxed);
    atomic_store_explicit(&layout_hot(s)->series_count, n + 1, memory_order_release);
    return n;
}

/* A bit per slot and series says that the row was ever asked for writing: a reader must not touch
 * the others, since reading a hole of a shared mapping allocates its page. */
static _Atomic uint64_t *seen_word(const struct segment *s, uint32_t slot, uint32_t id)
{
    return layout_words(s, AREA_SERIES_SEEN) + (size_t)slot * s->seen_words + id / 64;
}

struct series_row *series_row(struct segment *s, uint32_t slot, uint32_t id)
{
    _Atomic uint64_t *seen;
    uint64_t bits;

    if (slot >= s->nslots)
        return NULL;
    if (id >= s->nseries)
        id = 0;
    seen = seen_word(s, slot, id);
    bits = atomic_load_explicit(seen, memory_order_relaxed);
    if (!(bits >> (id % 64) & 1))
        atomic_store_explicit(seen, bits | (uint64_t)1 << (id % 64), memory_order_relaxed);
    return layout_series_row(s, slot, id);
}

void series_sum(const struct segment *s, uint32_t id, struct series_sum *ret)
{
    const uint32_t bound = slot_bound(s);

    memset(ret, 0, sizeof(*ret));
    if (id >= s->nseries)
        return;
    for (uint32_t slot = 0; slot < bound; slot++) {
        const struct series_row *r;

        if (!(atomic_load_explicit(seen_word(s, slot, id), memory_order_relaxed) >> (id % 64) & 1))
            continue;
        r = layout_series_row(s, slot, id);
        ret->requests += atomic_load_explicit(&r->requests, memory_order_relaxed);
        ret->bytes_in += atomic_load_explicit(&r->bytes_in, memory_order_relaxed);
        ret->bytes_out += atomic_load_explicit(&r->bytes_out, memory_order_relaxed);
        for (int i = 0; i < 6; i++)
            ret->status[i] += atomic_load_explicit(&r->status[i], memory_order_relaxed);
        ret->sum_us += atomic_load_explicit(&r->total.sum_us, memory_order_relaxed);
        for (uint32_t i = 0; i < SERIES_CACHE__COUNT; i++)
            ret->cache[i] += atomic_load_explicit(&r->cache[i], memory_order_relaxed);
        for (uint32_t i = 0; i < HIST_BUCKETS; i++)
            ret->bucket[i] += atomic_load_explicit(&r->total.bucket[i], memory_order_relaxed);
    }
}
