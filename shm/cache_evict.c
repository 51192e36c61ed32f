/* Making room: S-FIFO/M-FIFO of slabs, decisions by object, ghosts of what left (S3-FIFO, SOSP'23,
 * at the granularity of slabs). */
#include "base/err.h"
#include "shm/cache_layout.h"

/* The ghosts' clock is bytes that left the small queue. */
#define GHOST_TICKS 1024u                  /* per cache size; an epoch is 12 bits of it */
#define GHOST_LIFE  (GHOST_TICKS * 9 / 10) /* in ticks */

/* ---- ghosts: tag:17 | uses:3 | epoch:12; uses 0 = left the small queue ---- */

static uint32_t ghost_now(const struct cache *c)
{
    const uint64_t v = atomic_load_explicit(&cache_hot(c)->evicted.v, memory_order_relaxed);

    return (uint32_t)(v / (c->sb.data / GHOST_TICKS + 1)) & 0xfffu;
}

static struct cache_ghost *ghost_bucket(const struct cache *c, const struct cache_key *k)
{
    return cache_at(c, CACHE_AREA_GHOST,
                    (((k->k1 & 0xffffffffu) * c->sb.nghost) >> 32) * sizeof(struct cache_ghost));
}

static uint32_t ghost_tag(const struct cache_key *k)
{
    return (uint32_t)(k->k1 >> 32) | 0x8000u; /* never an empty word */
}

static uint32_t ghost_age(uint32_t word, uint32_t now)
{
    return (now - word) & 0xfffu;
}

/* The entry of the key if it is young enough, and where it stands or would. */
static uint32_t ghost_find(const struct cache *c, const struct cache_key *k,
                           _Atomic uint32_t **ret_place)
{
    struct cache_ghost *g = ghost_bucket(c, k);
    const uint32_t now = ghost_now(c), tag = ghost_tag(k) >> 15;
    uint32_t oldest = 0;

    *ret_place = &g->word[0];
    for (uint32_t i = 0; i < CACHE_GHOSTS; i++) {
        const uint32_t v = atomic_load_explicit(&g->word[i], memory_order_relaxed);
        const uint32_t age = v == 0 ? UINT32_MAX : ghost_age(v, now);

        if (v >> 15 == tag && age < GHOST_LIFE) {
            *ret_place = &g->word[i];
            return v;
        }
        if (age > oldest) {
            oldest = age;
            *ret_place = &g->word[i];
        }
    }
    return 0;
}

static void ghost_set(const struct cache *c, const struct cache_key *k, _Atomic uint32_t *place,
                      uint32_t uses)
{
    atomic_store_explicit(place, ghost_tag(k) >> 15 << 15 | uses << 12 | ghost_now(c),
                          memory_order_relaxed);
}

bool cache_ghost_take(struct cache_worker *w, const struct cache_key *k)
{
    _Atomic uint32_t *place;
    const uint32_t v = ghost_find(w->c, k, &place);

    if (v == 0 || (v >> 12 & 7u) != 0)
        return false;
    atomic_store_explicit(place, 0, memory_order_relaxed);
    return true;
}

void cache_ghost_put(struct cache_worker *w, const struct cache_key *k)
{
    _Atomic uint32_t *place;

    (void)ghost_find(w->c, k, &place);
    ghost_set(w->c, k, place, 0);
}

unsigned cache_uses(struct cache_worker *w, const struct cache_key *key)
{
    _Atomic uint32_t *place;
    const uint32_t v = ghost_find(w->c, key, &place), uses = v >> 12 & 7u;

    if (v != 0 && uses == 0)
        return 7;
    if (uses < 7)
        ghost_set(w->c, key, place, uses + 1);
    return uses < 7 ? uses + 1 : 7;
}

/* Moves the clock on. It is an epoch's 12 bits in four cache sizes, and a ghost that is still there
 * then would be young again; so each byte of the clock sweeps its part of the table, and two cache
 * sizes all of it. */
static void ghost_clock(const struct cache *c, uint64_t bytes)
{
    const uint64_t from = atomic_fetch_add_explicit(&cache_hot(c)->evicted.v, bytes,
                                                    memory_order_relaxed),
                   step = c->sb.data * 2 / c->sb.nghost | 1, end = (from + bytes) / step;
    const uint32_t now = ghost_now(c);

    for (uint64_t i = from / step; i < end && i - from / step < c->sb.nghost; i++) {
        struct cache_ghost *g =
            cache_at(c, CACHE_AREA_GHOST, (i % c->sb.nghost) * sizeof(struct cache_ghost));

        for (uint32_t k = 0; k < CACHE_GHOSTS; k++) {
            const uint32_t v = atomic_load_explicit(&g->word[k], memory_order_relaxed);

            if (v != 0 && ghost_age(v, now) >= GHOST_LIFE)
                atomic_store_explicit(&g->word[k], 0, memory_order_relaxed);
        }
    }
}

/* ---- which slab ---- */

struct plan {
    uint32_t oldest[2]; /* of each queue, from the ticket on that was asked for */
    uint32_t hollow;    /* the slab with most holes, if that is more than a quarter of it */
};

/* Counts both queues and finds what may be emptied. from: a ticket per queue, NULL for 0. */
static void plan(struct cache_worker *w, const uint64_t from[2], struct plan *ret)
{
    const struct cache *c = w->c;
    uint64_t ticket[2] = {UINT64_MAX, UINT64_MAX};
    uint32_t holes = c->sb.slab_size / 4;

    *ret = (struct plan){{CACHE_NONE, CACHE_NONE}, CACHE_NONE};
    w->queue_bytes[0] = w->queue_bytes[1] = 0;
    for (uint32_t i = 0; i < c->sb.nslab; i++) {
        const struct cache_slab *s = cache_slab(c, i);
        const uint32_t code =
            cache_st_code(atomic_load_explicit(cache_slab_st(c, i), memory_order_acquire));
        uint32_t q, woff, live;
        uint64_t t;

        if (code != CSLAB_SEALED && code != CSLAB_OPEN && code != CSLAB_EVICT)
            continue;
        q = atomic_load_explicit(&s->queue, memory_order_relaxed) & 1u;
        t = atomic_load_explicit(&s->ticket, memory_order_relaxed);
        woff = atomic_load_explicit(&s->woff, memory_order_relaxed);
        live = atomic_load_explicit(&s->live, memory_order_relaxed);
        live = live < woff ? live : woff < c->sb.slab_size ? woff : c->sb.slab_size;
        w->queue_bytes[q] += live + atomic_load_explicit(&s->pages_bytes, memory_order_relaxed);
        if (code != CSLAB_SEALED)
            continue;
        if (t < ticket[q] && (!from || t >= from[q])) {
            ticket[q] = t;
            ret->oldest[q] = i;
        }
        if (woff - live > holes) {
            holes = woff - live;
            ret->hollow = i;
        }
    }
}

/* A tenth, but some slabs at least, so that a newcomer has time to be asked for again. A floor in
 * objects was measured too: it loses three points where sizes are mixed and wins a third of one
 * under churn. */
static uint64_t small_target(const struct cache_worker *w)
{
    const uint64_t tenth = w->c->sb.data / 10, slabs = 4ull * w->c->sb.slab_size;

    return tenth > slabs ? tenth : slabs;
}

static bool own_records(const struct cache_worker *w, uint32_t queue)
{
    return w->rest[queue].slab != CACHE_NONE ||
           (w->open[queue].slab != CACHE_NONE && w->open[queue].nrec > 0);
}

static bool choose(struct cache_worker *w)
{
    struct cache *c = w->c;
    struct plan p;

    for (int t = 0; t < CACHE_TRIES; t++) {
        uint32_t q, slab;
        uint64_t st;

        plan(w, NULL, &p);
        q = p.oldest[1] == CACHE_NONE ||
                    (w->queue_bytes[0] > small_target(w) && p.oldest[0] != CACHE_NONE)
                ? 0
                : 1;
        slab = p.hollow != CACHE_NONE ? p.hollow : p.oldest[q];
        if (slab == CACHE_NONE) {
            /* Everything is in open slabs: the own ones can be sealed. */
            q = own_records(w, 0) ? 0 : 1;
            if (!own_records(w, q))
                return false;
            cache_slab_seal_own(w, q);
            continue;
        }
        st = atomic_load(cache_slab_st(c, slab));
        if (cache_st_code(st) != CSLAB_SEALED ||
            !atomic_compare_exchange_strong(cache_slab_st(c, slab), &st,
                                            cache_st(w->owner, cache_st_gen(st), CSLAB_EVICT)))
            continue;
        w->ev = (struct cache_evict){.slab = slab,
                                     .queue = atomic_load(&cache_slab(c, slab)->queue) & 1u,
                                     .hollow = p.hollow != CACHE_NONE};
        return true;
    }
    return false;
}

/* ---- what of it ---- */

static uint8_t freq_at(const unsigned char *rec)
{
    return atomic_load_explicit(
        (_Atomic uint8_t *)(uintptr_t)(rec + offsetof(struct cache_rec, freq)),
        memory_order_relaxed);
}

/* The bytes of a head that change. */
static void copy_notes(unsigned char *to, const unsigned char *from, uint8_t freq)
{
    const struct cache_rec *old = (const struct cache_rec *)(const void *)from;
    struct cache_rec *new = (struct cache_rec *)(void *)to;

    atomic_store_explicit(&new->checked, atomic_load_explicit(&old->checked, memory_order_relaxed),
                          memory_order_relaxed);
    atomic_store_explicit(&new->freq, freq, memory_order_relaxed);
    new->spare = 0;
    atomic_store_explicit(&new->counted, 0, memory_order_relaxed);
}

/* A survivor goes to the end of a queue: its record is copied, its pages stay. */
static bool keep(struct cache_worker *w, const struct cache_head *h, _Atomic uint64_t *slot,
                 uint64_t word, uint32_t queue, uint8_t freq)
{
    struct cache *c = w->c;
    const uint64_t pages = (uint64_t)h->npages << c->page_shift;
    uint32_t slab, off;
    unsigned char *to;
    uint64_t new;
    bool done;

    if (cache_slab_reserve(w, queue, h->len, false, &slab, &off) < 0)
        return false;
    to = cache_slab_data(c, slab) + off;
    /* Readers write to the last bytes of the head meanwhile. */
    memcpy(to, h->p, offsetof(struct cache_rec, checked));
    memcpy(to + sizeof(struct cache_rec), h->p + sizeof(struct cache_rec),
           h->len - sizeof(struct cache_rec));
    copy_notes(to, h->p, freq);
    cache_slab_took(w, queue, slab, h->len, pages);
    /* Damage is not carried on. */
    struct cache_head copy;
    if (cache_record_load(c, slab, off, c->sb.slab_size, &copy) < 0)
        return false;
    new = cache_word(&h->key, slab, off);
    cache_share_count(c, w->slot, &copy, new);
    done = cache_index_swap(c, w->owner, slot, word, h, new, true);
    cache_share_made(c, w->slot, &copy, new, done);
    if (done)
        cache_count(w, CACHE_CTR_COPY_BYTES, h->len);
    return done;
}

static bool expired(const struct cache_worker *w, const struct cache_head *h)
{
    const uint64_t grace = h->swr > h->sie ? h->swr : h->sie;

    return w->now_s > h->base + (uint64_t)h->fresh + grace;
}

/* Far above its share, which was made smaller: nothing of it is carried on. */
static bool over_share(const struct cache *c, uint32_t site)
{
    return c->share != UINT64_MAX && cache_site_bytes(c, site) > c->share + c->share / 8;
}

/* Whether it outlives the slab it is in, and as what. as_is: only room is to be made of holes. */
static bool survives(struct cache_worker *w, const struct cache_head *h, _Atomic uint64_t *slot,
                     uint64_t word, uint32_t queue, bool as_is)
{
    uint8_t freq = freq_at(h->p);

    if (freq > CACHE_FREQ_MAX)
        freq = CACHE_FREQ_MAX;
    if (expired(w, h))
        return false;
    if (as_is)
        return keep(w, h, slot, word, queue, freq);
    if (freq == 0 || over_share(w->c, h->site) ||
        !keep(w, h, slot, word, 1, (uint8_t)(queue == 0 ? 0 : freq - 1)))
        return false;
    cache_count(w, queue == 0 ? CACHE_CTR_PROMOTE : CACHE_CTR_KEEP, 1);
    return true;
}

/* Of a slab of the queue, pinned or owned. */
static void evict_record(struct cache_worker *w, const struct cache_head *h, uint64_t word,
                         uint32_t queue, bool as_is)
{
    struct cache *c = w->c;
    _Atomic uint64_t *slot = cache_index_slot(c, &h->key, word);
    const uint64_t bytes = h->len + ((uint64_t)h->npages << c->page_shift);

    if (!slot || survives(w, h, slot, word, queue, as_is))
        return;
    if (!cache_index_swap(c, w->owner, slot, word, h, 0, false)) {
        /* Another is about to give its body up; he will find that no word leads to it. */
        if (cache_share_swap(c, w->slot, slot, word, h, 0))
            cache_count(w, CACHE_CTR_EVICT, 1);
        return;
    }
    cache_count(w, CACHE_CTR_EVICT, 1);
    cache_count(w, CACHE_CTR_EVICT_BYTES, bytes);
    if (queue == 0) {
        cache_ghost_put(w, &h->key);
        ghost_clock(c, bytes);
    }
}

/* The slab's records have all been seen: EVICT -> DRAIN -> FREE. */
static void finish(struct cache_worker *w)
{
    struct cache *c = w->c;
    const uint32_t slab = w->ev.slab;
    uint64_t st = atomic_load(cache_slab_st(c, slab));

    /* Words may still lead to records that could not be walked to. */
    if (w->ev.broken || w->ev.nrec != atomic_load(&cache_slab(c, slab)->nrec))
        cache_index_sweep(c, w->owner, slab);
    if (w->ev.broken)
        cache_count(w, CACHE_CTR_CORRUPT, 1);
    w->ev.slab = CACHE_NONE;
    if (cache_st_code(st) != CSLAB_EVICT || cache_st_owner(st) != w->owner)
        return;
    if (atomic_compare_exchange_strong(cache_slab_st(c, slab), &st,
                                       cache_st(0, cache_st_gen(st), CSLAB_DRAIN)) &&
        cache_slab_close(c, w->owner, slab))
        w->nfree++;
}

bool cache_evict_step(struct cache_worker *w, unsigned n)
{
    struct cache *c = w->c;

    if (w->ev.slab == CACHE_NONE && !choose(w))
        return false;
    for (; n > 0; n--) {
        const uint32_t woff =
            atomic_load_explicit(&cache_slab(c, w->ev.slab)->woff, memory_order_acquire);
        struct cache_head h;

        if (w->ev.off >= woff) {
            finish(w);
            return true;
        }
        if (cache_record_load(c, w->ev.slab, w->ev.off, woff, &h) < 0) {
            w->ev.broken = true;
            finish(w);
            return true;
        }
        evict_record(w, &h, cache_word(&h.key, w->ev.slab, w->ev.off), w->ev.queue, w->ev.hollow);
        w->ev.off += h.len;
        w->ev.nrec++;
    }
    return true;
}

/* All that lives in a page slab, when everything free is holes in such slabs. */
static void evict_pages(struct cache_worker *w)
{
    struct cache *c = w->c;
    uint32_t best = CACHE_NONE, least = c->slab_pages;

    for (uint32_t i = 0; i < c->sb.nslab; i++) {
        const uint32_t used = atomic_load_explicit(&cache_slab(c, i)->used, memory_order_relaxed);

        if (cache_st_code(atomic_load_explicit(cache_slab_st(c, i), memory_order_relaxed)) ==
                CSLAB_PAGES &&
            used < least) {
            best = i;
            least = used;
        }
    }
    if (best == CACHE_NONE)
        return;
    for (uint32_t i = 0; i < c->slab_pages; i++) {
        const uint64_t o = atomic_load(&cache_page(c, best * c->slab_pages + i)->owner);
        const uint32_t body = (uint32_t)(o >> 32), gen = (uint32_t)(o >> 8) & 0xffffffu;
        _Atomic uint64_t *slot;
        struct cache_head h;
        uint64_t word;

        if ((o & 0xffu) != 2u || body >= c->sb.nbody ||
            !cache_index_body(c, body, gen, &slot, &word, &h))
            continue;
        /* The word still standing after the pin, the header was read from what it leads to. */
        cache_pin_slab(w, cache_word_slab(word));
        if (cache_index_swap(c, w->owner, slot, word, &h, 0, false))
            cache_count(w, CACHE_CTR_EVICT, 1);
        cache_unpin_slab(w, cache_word_slab(word));
    }
    (void)cache_slab_close(c, w->owner, best);
}

bool cache_evict_slab(struct cache_worker *w, uint32_t *ret)
{
    /* Records that survive are moved, not freed, at most three times: three rounds of a slab full
     * of small ones, and some slabs whose pages are still in use. */
    for (unsigned t = 0; t < 256; t++) {
        const bool any = cache_evict_step(w, 64);

        if (w->ev.slab == CACHE_NONE || !any) {
            if (cache_slab_scan(w, ret) > 1)
                return true;
            if (!any || t % 16 == 15)
                evict_pages(w);
            if (cache_slab_scan(w, ret) > 1)
                return true;
            if (!any)
                return false;
        }
    }
    return cache_slab_scan(w, ret) > 0;
}

void cache_evict_pace(struct cache_worker *w, uint32_t bytes)
{
    if (w->nfree < w->low)
        (void)cache_evict_step(w, 16 + bytes / 512);
}

bool cache_tidy(struct cache_worker *w)
{
    uint32_t slab;

    if (w->ev.slab == CACHE_NONE && cache_slab_scan(w, &slab) >= w->low)
        return false;
    return cache_evict_step(w, 64);
}

/* ---- a site's share ---- */

#define SITE_LOOKS 64u /* at records, and as many again for each 16 KiB that are wanted */
#define SITE_SLAB  16u /* what it costs to find the next slab, in such looks */

/* The next slab the hand goes over: the oldest after the one before, of the small queue while the
 * site has more than a tenth of its share there. */
static bool hand_next(struct cache_worker *w, uint32_t site)
{
    const struct cache *c = w->c;
    struct cache_hand *hand = &w->hand;
    const uint32_t first = cache_share_queue(c, 0, site) > c->share / 10 ? 0 : 1;

    for (uint32_t t = 0; t < 4; t++) {
        /* Both queues, then both from their beginnings. */
        const uint32_t q = first ^ (t & 1u);
        struct plan p;

        if (cache_share_queue(c, q, site) == 0)
            continue;
        if (t >= 2)
            hand->ticket[q] = 0;
        plan(w, hand->ticket, &p);
        if (p.oldest[q] == CACHE_NONE)
            continue;
        hand->slab = p.oldest[q];
        hand->queue = q;
        hand->off = 0;
        hand->st = atomic_load(cache_slab_st(c, hand->slab));
        hand->ticket[q] = atomic_load(&cache_slab(c, hand->slab)->ticket) + 1;
        return true;
    }
    return false;
}

/* What S3-FIFO would do to the slab's records, done to those of this site: the others stay. */
static void hand_over(struct cache_worker *w, uint32_t site, uint64_t enough, uint32_t *looks)
{
    struct cache *c = w->c;
    struct cache_hand *hand = &w->hand;
    const uint32_t slab = hand->slab, mask = c->sb.nshare - 1;
    struct cache_head h;
    uint32_t woff;

    cache_pin_slab(w, slab);
    woff = atomic_load_explicit(&cache_slab(c, slab)->woff, memory_order_acquire);
    /* It may have been emptied since it was chosen; with the pin on it it is not given away. */
    if (cache_st_code(hand->st) != CSLAB_SEALED || atomic_load(cache_slab_st(c, slab)) != hand->st)
        woff = 0;
    while (*looks > 0 && cache_site_bytes(c, site) > enough) {
        if (hand->off >= woff || cache_record_load(c, slab, hand->off, woff, &h) < 0) {
            hand->slab = CACHE_NONE;
            break;
        }
        if (((h.site ^ site) & mask) == 0)
            evict_record(w, &h, cache_word(&h.key, slab, hand->off), hand->queue, false);
        hand->off += h.len;
        --*looks;
    }
    cache_unpin_slab(w, slab);
}

bool cache_evict_site(struct cache_worker *w, uint32_t site, uint64_t bytes)
{
    const uint64_t share = w->c->share, before = cache_site_bytes(w->c, site);
    uint32_t looks = SITE_LOOKS * (1 + (uint32_t)(bytes < 1u << 20 ? bytes >> 14 : 64));
    uint64_t enough;

    if (bytes > share)
        return false;
    if (before + bytes <= share)
        return true;
    /* With a smaller share than before the site gives back more than it gets, step by step. */
    enough = share - bytes;
    while (looks > 0 && cache_site_bytes(w->c, site) > enough) {
        if (w->hand.slab == CACHE_NONE && !hand_next(w, site))
            break;
        hand_over(w, site, enough, &looks);
        looks -= looks < SITE_SLAB ? looks : SITE_SLAB;
    }
    return cache_site_bytes(w->c, site) + bytes <= (before > share ? before : share);
}

void cache_evict_stop(struct cache_worker *w)
{
    uint64_t st;

    if (w->ev.slab == CACHE_NONE)
        return;
    st = atomic_load(cache_slab_st(w->c, w->ev.slab));
    if (cache_st_code(st) == CSLAB_EVICT && cache_st_owner(st) == w->owner)
        atomic_compare_exchange_strong(cache_slab_st(w->c, w->ev.slab), &st,
                                       cache_st(0, cache_st_gen(st), CSLAB_SEALED));
    w->ev.slab = CACHE_NONE;
}
