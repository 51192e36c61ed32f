/* Purges by generation: a name's generation is raised, and objects born before it are gone. */
#include "shm/cache_layout.h"

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ x >> 32;
}

/* A name has two places, and counts as purged at the lesser of their generations: two names that
 * share one place do not purge each other. */
static void places(const struct cache *c, uint32_t shard, uint64_t name, struct cache_gen *ret[2])
{
    const uint64_t h = mix(name ^ (uint64_t)(shard + 1) << 56);

    ret[0] = cache_at(c, CACHE_AREA_GEN, (h & (c->sb.ngen - 1)) * sizeof(struct cache_gen));
    ret[1] = cache_at(c, CACHE_AREA_GEN, (h >> 32 & (c->sb.ngen - 1)) * sizeof(struct cache_gen));
}

uint64_t cache_birth(const struct cache *c, uint32_t site)
{
    return atomic_load(&cache_hot(c)->purge[cache_shard(site)].v) & 0xffffffffffffull;
}

static void raise_to(_Atomic uint64_t *v, uint64_t to)
{
    uint64_t old = atomic_load(v);

    while (old < to && !atomic_compare_exchange_weak(v, &old, to))
        ;
}

/* The generation before the count: who sees the new count finds the generation. Two purges at once
 * may use the same generation; each raises the count, so an object tested between them is tested
 * again. */
static void purge_shard(struct cache *c, uint32_t shard, uint64_t name, bool soft)
{
    _Atomic uint64_t *seq = &cache_hot(c)->purge[shard].v;
    const uint64_t to = (atomic_load(seq) & 0xffffffffffffull) + 1;
    struct cache_gen *g[2];

    places(c, shard, name, g);
    for (int i = 0; i < 2; i++)
        raise_to(soft ? &g[i]->soft : &g[i]->hard, to);
    atomic_fetch_add(seq, 1);
}

void cache_purge(struct cache *c, uint32_t site, uint64_t name, bool soft)
{
    if (site < CACHE_SITES) {
        purge_shard(c, cache_shard(site), name, soft);
        return;
    }
    for (uint32_t i = 0; i < CACHE_SHARDS; i++)
        purge_shard(c, i, name, soft);
}

static int test(const struct cache *c, uint32_t shard, uint64_t name, uint64_t birth)
{
    uint64_t hard[2], soft[2];
    struct cache_gen *g[2];

    places(c, shard, name, g);
    for (int i = 0; i < 2; i++) {
        hard[i] = atomic_load(&g[i]->hard);
        soft[i] = atomic_load(&g[i]->soft);
    }
    if (hard[0] > birth && hard[1] > birth)
        return 2;
    return soft[0] > birth && soft[1] > birth ? 1 : 0;
}

static int worst(const struct cache *c, uint32_t shard, const uint64_t *names, unsigned n,
                 uint64_t birth, int so_far)
{
    for (unsigned i = 0; i < n && so_far < 2; i++) {
        const int r = test(c, shard, names[i], birth);

        if (r > so_far)
            so_far = r;
    }
    return so_far;
}

/* What purges have done to something of these tags and names that was born then: 0, 1 softly, 2. */
static int reached(const struct cache *c, const struct cache_scope *scope, const uint64_t *tags,
                   unsigned ntags, uint64_t birth)
{
    const uint32_t shard = cache_shard(scope->site);
    const uint64_t all = CACHE_NAME_ALL;
    uint64_t names[CACHE_NAMES];
    int gone = worst(c, shard, &all, 1, birth, 0);
    unsigned n;

    gone = worst(c, shard, tags, ntags, birth, gone);
    if (gone < 2 && scope->names) {
        n = scope->names(scope->arg, names);
        gone = worst(c, shard, names, n < CACHE_NAMES ? n : CACHE_NAMES, birth, gone);
    }
    return gone;
}

bool cache_purged(const struct cache *c, const struct cache_scope *scope, const uint64_t *tags,
                  unsigned ntags, uint64_t birth)
{
    return birth < cache_birth(c, scope->site) && reached(c, scope, tags, ntags, birth) > 0;
}

int cache_purge_test(const struct cache *c, const struct cache_scope *scope,
                     const struct cache_head *h, const uint64_t *tags)
{
    const uint32_t seq = (uint32_t)atomic_load(&cache_hot(c)->purge[cache_shard(scope->site)].v)
                         << 1;
    struct cache_rec *r = (struct cache_rec *)(uintptr_t)h->p;
    const uint32_t was = atomic_load_explicit(&r->checked, memory_order_relaxed);
    int gone;

    if ((was & ~1u) == seq)
        return was & 1u;
    gone = reached(c, scope, tags, h->ntags, h->birth);
    if (gone < 2)
        atomic_store_explicit(&r->checked, seq | (uint32_t)gone, memory_order_relaxed);
    return gone;
}

int cache_purge_peek(const struct cache *c, const struct cache_head *h, const uint64_t *tags)
{
    const uint64_t all = CACHE_NAME_ALL;
    const uint32_t shard = cache_shard(h->site);

    return worst(c, shard, tags, h->ntags, h->birth, worst(c, shard, &all, 1, h->birth, 0));
}
