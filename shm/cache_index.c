/* The index: two buckets of eight words per key; insert, replace and remove are one CAS. */
#include "base/err.h"
#include "shm/cache_layout.h"

/* Pins the slab a word leads to and reads the word again: unchanged, so what it leads to is whole
 * and stays. The evictor's order is the matching one: word away, then pins read. */
static bool pin_word(struct cache_worker *w, const _Atomic uint64_t *slot, uint64_t word)
{
    const uint32_t slab = cache_word_slab(word);

    if (slab >= w->c->sb.nslab)
        return false;
    cache_pin_slab(w, slab);
    if (atomic_load(slot) == word)
        return true;
    cache_unpin_slab(w, slab);
    return false;
}

static int load_word(const struct cache *c, uint64_t word, struct cache_head *ret)
{
    return cache_record_load(c, cache_word_slab(word), cache_word_off(word), c->sb.slab_size, ret);
}

void cache_index_damaged(struct cache_worker *w, _Atomic uint64_t *slot, uint64_t word)
{
    cache_count(w, CACHE_CTR_CORRUPT, 1);
    atomic_compare_exchange_strong(slot, &word, 0);
}

static bool same_key(const struct cache_head *h, const struct cache_key *k)
{
    return h->key.k0 == k->k0 && h->key.k1 == k->k1;
}

/* All sixteen words are read even after a match: should a death have left the key twice, the newer
 * one counts. */
bool cache_index_find(struct cache_worker *w, const struct cache_key *key, struct cache_head *ret,
                      uint64_t *ret_word, _Atomic uint64_t **ret_slot)
{
    struct cache *c = w->c;
    struct cache_head h;
    uint32_t b[2];
    bool found = false;

    cache_buckets(c, key, b);
    __builtin_prefetch(cache_bucket(c, b[1]));
    for (uint32_t i = 0; i < 2 * CACHE_WAYS; i++) {
        _Atomic uint64_t *slot = &cache_bucket(c, b[i / CACHE_WAYS])->word[i % CACHE_WAYS];
        uint64_t v = atomic_load_explicit(slot, memory_order_acquire);

        for (int t = 0; t < CACHE_TRIES && v != 0 && cache_word_tag(v, key); t++) {
            if (pin_word(w, slot, v)) {
                if (load_word(c, v, &h) < 0) {
                    cache_index_damaged(w, slot, v);
                } else if (same_key(&h, key) && (!found || h.version > ret->version)) {
                    if (found)
                        cache_unpin_slab(w, cache_word_slab(*ret_word));
                    *ret = h;
                    *ret_word = v;
                    *ret_slot = slot;
                    found = true;
                    break;
                }
                cache_unpin_slab(w, cache_word_slab(v));
                break;
            }
            if (cache_word_slab(v) >= c->sb.nslab) {
                cache_index_damaged(w, slot, v);
                break;
            }
            v = atomic_load(slot);
        }
    }
    return found;
}

_Atomic uint64_t *cache_index_slot(const struct cache *c, const struct cache_key *key,
                                   uint64_t word)
{
    uint32_t b[2];

    cache_buckets(c, key, b);
    for (uint32_t i = 0; i < 2 * CACHE_WAYS; i++) {
        _Atomic uint64_t *slot = &cache_bucket(c, b[i / CACHE_WAYS])->word[i % CACHE_WAYS];

        if (atomic_load_explicit(slot, memory_order_acquire) == word)
            return slot;
    }
    return NULL;
}

/* Advisory sums: never below zero, healed when the slab is reused. */
static void less32(_Atomic uint32_t *v, uint32_t n)
{
    uint32_t old = atomic_load_explicit(v, memory_order_relaxed);

    for (int i = 0; i < CACHE_TRIES && old > 0; i++) {
        if (atomic_compare_exchange_weak(v, &old, old > n ? old - n : 0))
            return;
    }
}

static void less64(_Atomic uint64_t *v, uint64_t n)
{
    uint64_t old = atomic_load_explicit(v, memory_order_relaxed);

    for (int i = 0; i < CACHE_TRIES && old > 0; i++) {
        if (atomic_compare_exchange_weak(v, &old, old > n ? old - n : 0))
            return;
    }
}

bool cache_index_swap(struct cache *c, uint32_t owner, _Atomic uint64_t *slot, uint64_t old,
                      const struct cache_head *h, uint64_t new, bool same_body)
{
    const bool body = h->body != CACHE_NONE && !same_body;
    struct cache_slab *s = cache_slab(c, cache_word_slab(old));
    bool claimed = false;
    uint64_t st;

    if (body) {
        st = atomic_load(&cache_bodyd(c, h->body)->st);
        /* A body that is another's by now (damage) is none of ours. */
        if (cache_st_gen(st) == h->body_gen && cache_st_code(st) != CBODY_FREE) {
            claimed = cache_body_claim(c, owner, h->body, h->body_gen);
            if (!claimed)
                return false;
        }
    }
    if (!cache_share_swap(c, owner & 0xffu, slot, old, h, new)) {
        if (claimed) {
            st = cache_st(owner, h->body_gen, CBODY_DYING);
            atomic_compare_exchange_strong(&cache_bodyd(c, h->body)->st, &st,
                                           cache_st(0, h->body_gen, CBODY_LIVE));
            /* An evictor may have taken the word away while the body was claimed. */
            cache_reap_unreached(c, owner, h->body);
        }
        return false;
    }
    if (claimed)
        cache_body_release(c, owner, h->body, h->body_gen, CBODY_DYING);
    less32(&s->live, h->len);
    if (h->npages > 0)
        less64(&s->pages_bytes, (uint64_t)h->npages << c->page_shift);
    return true;
}

/* The victim of sixteen full ways: the one hit least. Its frequency is only a hint, so it is read
 * without a pin, within bounds. */
static uint32_t coldest(const struct cache *c, const uint32_t b[2])
{
    uint32_t best = 0, best_freq = UINT32_MAX;

    for (uint32_t i = 0; i < 2 * CACHE_WAYS; i++) {
        const uint64_t v = atomic_load(&cache_bucket(c, b[i / CACHE_WAYS])->word[i % CACHE_WAYS]);
        const uint32_t slab = cache_word_slab(v), off = cache_word_off(v);
        uint32_t freq = 0;

        if (slab < c->sb.nslab && off + sizeof(struct cache_rec) <= c->sb.slab_size)
            freq = atomic_load_explicit((_Atomic uint8_t *)(cache_slab_data(c, slab) + off +
                                                            offsetof(struct cache_rec, freq)),
                                        memory_order_relaxed);
        if (freq < best_freq) {
            best_freq = freq;
            best = i;
        }
    }
    return best;
}

static uint32_t empty_ways(const struct cache_bucket *b, uint32_t *ret_way)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < CACHE_WAYS; i++) {
        if (atomic_load_explicit(&b->word[i], memory_order_relaxed) == 0) {
            *ret_way = i;
            n++;
        }
    }
    return n;
}

/* An empty way of the emptier bucket, else the coldest neighbour's. */
static int place(struct cache_worker *w, const struct cache_head *h, uint64_t word)
{
    struct cache *c = w->c;
    struct cache_head old;
    uint32_t b[2], n[2], way[2];

    cache_buckets(c, &h->key, b);
    for (int t = 0; t < CACHE_TRIES; t++) {
        for (int i = 0; i < 2; i++)
            n[i] = empty_ways(cache_bucket(c, b[i]), &way[i]);
        if (n[0] + n[1] > 0) {
            const int i = n[1] > n[0];
            uint64_t zero = 0;

            if (atomic_compare_exchange_strong(&cache_bucket(c, b[i])->word[way[i]], &zero, word))
                return 0;
            continue;
        }
        const uint32_t i = coldest(c, b);
        _Atomic uint64_t *slot = &cache_bucket(c, b[i / CACHE_WAYS])->word[i % CACHE_WAYS];
        const uint64_t v = atomic_load(slot);

        if (v == 0)
            continue;
        if (!pin_word(w, slot, v)) {
            if (cache_word_slab(v) >= c->sb.nslab)
                cache_index_damaged(w, slot, v);
            continue;
        }
        if (load_word(c, v, &old) < 0) {
            cache_index_damaged(w, slot, v);
        } else if (cache_index_swap(c, w->owner, slot, v, &old, word, false)) {
            cache_unpin_slab(w, cache_word_slab(v));
            cache_count(w, CACHE_CTR_CROWDED, 1);
            return 0;
        }
        cache_unpin_slab(w, cache_word_slab(v));
    }
    return -ERR_FULL;
}

/* Two inserters of one key may both have found an empty way: the later of their second looks sees
 * both words, and the older version goes. */
static int settle(struct cache_worker *w, const struct cache_head *h, uint64_t word)
{
    struct cache *c = w->c;
    struct cache_head other;
    uint32_t b[2];

    cache_buckets(c, &h->key, b);
    for (uint32_t i = 0; i < 2 * CACHE_WAYS; i++) {
        _Atomic uint64_t *slot = &cache_bucket(c, b[i / CACHE_WAYS])->word[i % CACHE_WAYS];
        const uint64_t v = atomic_load(slot);

        if (v == word || v == 0 || !cache_word_tag(v, &h->key) || !pin_word(w, slot, v))
            continue;
        if (load_word(c, v, &other) == 0 && same_key(&other, &h->key)) {
            _Atomic uint64_t *mine = cache_index_slot(c, &h->key, word);

            if (other.version < h->version) {
                (void)cache_index_swap(c, w->owner, slot, v, &other, 0, false);
            } else if (mine && cache_index_swap(c, w->owner, mine, word, h, 0, false)) {
                cache_unpin_slab(w, cache_word_slab(v));
                return -ERR_EXIST;
            }
        }
        cache_unpin_slab(w, cache_word_slab(v));
    }
    return 0;
}

int cache_index_publish(struct cache_worker *w, const struct cache_head *h, uint64_t word)
{
    struct cache_head old;
    _Atomic uint64_t *slot;
    uint64_t v;
    int rc;

    for (int t = 0; t < 4; t++) {
        bool done;

        if (!cache_index_find(w, &h->key, &old, &v, &slot)) {
            rc = place(w, h, word);
            return rc < 0 ? rc : settle(w, h, word);
        }
        /* What was asked for earlier may arrive later: a purge came between them. */
        if (old.version >= h->version || old.birth > h->birth) {
            cache_unpin_slab(w, cache_word_slab(v));
            cache_count(w, CACHE_CTR_RACE, 1);
            return -ERR_EXIST;
        }
        done = cache_index_swap(w->c, w->owner, slot, v, &old, word, false);
        cache_unpin_slab(w, cache_word_slab(v));
        if (done) {
            cache_count(w, CACHE_CTR_REPLACE, 1);
            return settle(w, h, word);
        }
    }
    cache_count(w, CACHE_CTR_RACE, 1);
    return -ERR_FULL;
}

void cache_index_sweep(struct cache *c, uint32_t owner, uint32_t slab)
{
    struct cache_head h;

    for (uint32_t b = 0; b < c->sb.nbucket; b++) {
        for (uint32_t i = 0; i < CACHE_WAYS; i++) {
            _Atomic uint64_t *slot = &cache_bucket(c, b)->word[i];
            uint64_t v = atomic_load_explicit(slot, memory_order_relaxed);

            if (v == 0 || cache_word_slab(v) != slab)
                continue;
            if (load_word(c, v, &h) < 0)
                atomic_compare_exchange_strong(slot, &v, 0);
            else if (!cache_index_swap(c, owner, slot, v, &h, 0, false))
                (void)cache_share_swap(c, owner & 0xffu, slot, v, &h, 0);
        }
    }
}

bool cache_index_body(const struct cache *c, uint32_t body, uint32_t gen,
                      _Atomic uint64_t **ret_slot, uint64_t *ret_word, struct cache_head *ret_head)
{
    const struct cache_bodyd *d = cache_bodyd(c, body);
    const struct cache_key key = {atomic_load(&d->k0), atomic_load(&d->k1)};
    uint32_t b[2];

    cache_buckets(c, &key, b);
    for (uint32_t i = 0; i < 2 * CACHE_WAYS; i++) {
        _Atomic uint64_t *slot = &cache_bucket(c, b[i / CACHE_WAYS])->word[i % CACHE_WAYS];
        uint64_t v = atomic_load(slot), again = v;

        /* No pin: what is read is believed only while the word stands, and used for one CAS on it.
         * A record that is moved keeps its place. */
        for (int t = 0; t < CACHE_TRIES; t++, v = again) {
            const bool leads = v != 0 && cache_word_tag(v, &key) &&
                               cache_word_slab(v) < c->sb.nslab && load_word(c, v, ret_head) == 0 &&
                               same_key(ret_head, &key) && ret_head->body == body &&
                               ret_head->body_gen == gen;

            again = atomic_load(slot);
            if (again != v)
                continue;
            if (!leads)
                break;
            *ret_slot = slot;
            *ret_word = v;
            return true;
        }
    }
    return false;
}

bool cache_walk(struct cache_worker *w, uint64_t *cursor, unsigned n,
                void (*fn)(void *arg, struct cache_hit *h), void *arg)
{
    struct cache *c = w->c;
    struct cache_hit hit;
    struct cache_head h;

    for (; n > 0 && *cursor < c->sb.nbucket; n--, (*cursor)++) {
        for (uint32_t i = 0; i < CACHE_WAYS; i++) {
            const _Atomic uint64_t *slot = &cache_bucket(c, (uint32_t)*cursor)->word[i];
            const uint64_t v = atomic_load(slot);

            if (v == 0 || !pin_word(w, slot, v))
                continue;
            if (load_word(c, v, &h) == 0 && cache_hit_begin(w, &h, v, &hit)) {
                fn(arg, &hit);
                cache_release(w, &hit);
                continue;
            }
            cache_unpin_slab(w, cache_word_slab(v));
        }
    }
    return *cursor < c->sb.nbucket;
}
