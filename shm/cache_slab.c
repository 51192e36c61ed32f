/* Slabs: equal pieces of the data area, claimed and given back by their state words. */
#include "base/err.h"
#include "shm/cache_layout.h"

/* Slabs of which little is lost at their ends, and caches of few slabs, have no second one open. */
#define REST_BELOW (256u << 10)
#define REST_FROM  256u

bool cache_slab_pinned(const struct cache *c, uint32_t slab)
{
    const uint32_t n = cache_slot_bound(c);

    for (uint32_t i = 0; i < n; i++) {
        if (atomic_load(&cache_slabpin(c, i)[slab]) != 0)
            return true;
    }
    return false;
}

/* Pages that hold no record may be claimed from now on. */
static void open_pages(struct cache *c, uint32_t slab, uint32_t first, uint32_t *ret_used)
{
    *ret_used = 0;
    for (uint32_t i = first; i < c->slab_pages; i++) {
        _Atomic uint64_t *owner = &cache_page(c, slab * c->slab_pages + i)->owner;
        uint64_t o = CPAGE_CLOSED;

        if (!atomic_compare_exchange_strong(owner, &o, CPAGE_OPEN) &&
            !cache_body_page_is_free(c, o))
            ++*ret_used;
    }
    atomic_fetch_add_explicit(&cache_hot(c)->page_free.v, 1, memory_order_relaxed);
}

void cache_slab_reopen(struct cache *c, uint32_t slab, uint64_t st)
{
    struct cache_slab *s = cache_slab(c, slab);
    uint32_t used;

    open_pages(c, slab, 0, &used);
    atomic_store(&s->used, used);
    atomic_store(&s->npage, c->slab_pages);
    atomic_compare_exchange_strong(cache_slab_st(c, slab), &st,
                                   cache_st(0, cache_st_gen(st), CSLAB_PAGES));
}

bool cache_slab_close(struct cache *c, uint32_t owner, uint32_t slab)
{
    _Atomic uint64_t *word = cache_slab_st(c, slab);
    uint64_t st = atomic_load(word), mine;

    if (cache_st_code(st) == CSLAB_DRAIN ? cache_slab_pinned(c, slab)
                                         : cache_st_code(st) != CSLAB_PAGES)
        return false;
    mine = cache_st(owner, cache_st_gen(st), CSLAB_CLOSE);
    if (!atomic_compare_exchange_strong(word, &st, mine))
        return false;
    for (uint32_t i = 0; i < c->slab_pages; i++) {
        _Atomic uint64_t *p = &cache_page(c, slab * c->slab_pages + i)->owner;
        uint64_t o = atomic_load(p);

        if (o == CPAGE_CLOSED)
            continue;
        if (!cache_body_page_is_free(c, o) ||
            !atomic_compare_exchange_strong(p, &o, CPAGE_CLOSED)) {
            cache_slab_reopen(c, slab, mine);
            return false;
        }
    }
    atomic_store(&cache_slab(c, slab)->used, 0);
    atomic_store(&cache_slab(c, slab)->npage, 0);
    return atomic_compare_exchange_strong(word, &mine,
                                          cache_st(0, cache_st_gen(st) + 1, CSLAB_FREE));
}

uint32_t cache_slab_scan(struct cache_worker *w, uint32_t *ret_free)
{
    struct cache *c = w->c;
    uint32_t n = 0;

    *ret_free = CACHE_NONE;
    for (uint32_t k = 0, i = w->slab_hint; k < c->sb.nslab; k++, i++) {
        uint32_t code;

        if (i >= c->sb.nslab)
            i = 0;
        code = cache_st_code(atomic_load_explicit(cache_slab_st(c, i), memory_order_acquire));
        if (code == CSLAB_DRAIN ||
            (code == CSLAB_PAGES && atomic_load(&cache_slab(c, i)->used) == 0))
            code = cache_slab_close(c, w->owner, i) ? CSLAB_FREE : code;
        if (code != CSLAB_FREE)
            continue;
        if (*ret_free == CACHE_NONE)
            *ret_free = i;
        n++;
    }
    if (*ret_free != CACHE_NONE)
        w->slab_hint = *ret_free;
    w->nfree = n;
    return n;
}

void cache_slab_seal(struct cache *c, uint32_t slab, uint32_t owner)
{
    struct cache_slab *s = cache_slab(c, slab);
    uint64_t st = atomic_load(cache_slab_st(c, slab));
    uint32_t woff = atomic_load(&s->woff), first, used;

    if (cache_st_code(st) != CSLAB_OPEN || cache_st_owner(st) != owner)
        return;
    if (woff > c->sb.slab_size)
        woff = c->sb.slab_size;
    first = (woff + c->sb.page_size - 1) >> c->page_shift;
    open_pages(c, slab, first, &used);
    atomic_store(&s->npage, c->slab_pages - first);
    atomic_store(&s->ticket, atomic_fetch_add(&cache_hot(c)->ticket.v, 1));
    atomic_compare_exchange_strong(cache_slab_st(c, slab), &st,
                                   cache_st(0, cache_st_gen(st), CSLAB_SEALED));
}

static void seal_open(struct cache_worker *w, struct cache_open *o)
{
    if (o->slab == CACHE_NONE)
        return;
    cache_slab_seal(w->c, o->slab, w->owner);
    o->slab = CACHE_NONE;
}

void cache_slab_seal_own(struct cache_worker *w, uint32_t queue)
{
    seal_open(w, &w->rest[queue]);
    seal_open(w, &w->open[queue]);
}

static bool claim(struct cache_worker *w, uint32_t slab, enum cache_slab_state to)
{
    uint64_t st = atomic_load(cache_slab_st(w->c, slab));

    if (cache_st_code(st) != CSLAB_FREE ||
        !atomic_compare_exchange_strong(cache_slab_st(w->c, slab), &st,
                                        cache_st(w->owner, cache_st_gen(st), to)))
        return false;
    w->slab_hint = slab + 1 == w->c->sb.nslab ? 0 : slab + 1;
    if (w->nfree > 0)
        w->nfree--;
    return true;
}

static void start(struct cache_worker *w, uint32_t queue, uint32_t slab)
{
    struct cache_slab *s = cache_slab(w->c, slab);

    atomic_store(&s->woff, 0);
    atomic_store(&s->nrec, 0);
    atomic_store(&s->live, 0);
    atomic_store(&s->pages_bytes, 0);
    atomic_store(&s->queue, queue);
    w->open[queue] = (struct cache_open){.slab = slab};
}

static bool fits(const struct cache *c, const struct cache_open *o, uint32_t len)
{
    return o->slab != CACHE_NONE && c->sb.slab_size - o->woff >= len &&
           o->pages_bytes < c->seal_bytes;
}

/* What the record does not fit into any more: smaller ones may, while the next slab fills. */
static void put_by(struct cache_worker *w, uint32_t queue)
{
    struct cache_open *o = &w->open[queue];

    seal_open(w, &w->rest[queue]);
    if (w->c->sb.slab_size >= REST_BELOW || w->c->sb.nslab < REST_FROM ||
        o->pages_bytes >= w->c->seal_bytes) {
        seal_open(w, o);
        return;
    }
    w->rest[queue] = *o;
    o->slab = CACHE_NONE;
}

int cache_slab_reserve(struct cache_worker *w, uint32_t queue, uint32_t len, bool forced,
                       uint32_t *ret_slab, uint32_t *ret_off)
{
    const struct cache *c = w->c;
    struct cache_open *o = &w->open[queue], *rest = &w->rest[queue];
    uint32_t slab;

    if (len > c->sb.slab_size)
        return -ERR_RANGE;
    for (int t = 0; t < CACHE_TRIES; t++) {
        const struct cache_open *at = fits(c, rest, len) ? rest : o;

        if (fits(c, at, len)) {
            *ret_slab = at->slab;
            *ret_off = at->woff;
            return 0;
        }
        if (o->slab != CACHE_NONE)
            put_by(w, queue);
        /* The last free slab is the evictor's, to copy survivors to. */
        if (cache_slab_scan(w, &slab) <= (forced ? 1u : 0u)) {
            if (!forced || !cache_evict_slab(w, &slab))
                return -ERR_FULL;
            /* Evicting may have opened one for this very queue. */
            if (o->slab != CACHE_NONE)
                continue;
        }
        if (slab != CACHE_NONE && claim(w, slab, CSLAB_OPEN))
            start(w, queue, slab);
    }
    return -ERR_FULL;
}

void cache_slab_took(struct cache_worker *w, uint32_t queue, uint32_t slab, uint32_t len,
                     uint64_t pages_bytes)
{
    struct cache_open *o = w->rest[queue].slab == slab ? &w->rest[queue] : &w->open[queue];
    struct cache_slab *s = cache_slab(w->c, o->slab);

    o->woff += len;
    o->nrec++;
    o->pages_bytes += pages_bytes;
    atomic_store_explicit(&s->nrec, o->nrec, memory_order_relaxed);
    atomic_store_explicit(&s->woff, o->woff, memory_order_release);
    atomic_fetch_add_explicit(&s->live, len, memory_order_relaxed);
    if (pages_bytes > 0)
        atomic_fetch_add_explicit(&s->pages_bytes, pages_bytes, memory_order_relaxed);
}

void cache_slab_release_pages(struct cache_worker *w)
{
    if (w->popen == CACHE_NONE)
        return;
    cache_slab_reopen(w->c, w->popen, atomic_load(cache_slab_st(w->c, w->popen)));
    w->popen = CACHE_NONE;
}

/* ---- pages ---- */

static void taken(struct cache *c, uint32_t page)
{
    atomic_store(&cache_page(c, page)->next, CACHE_NONE);
    atomic_fetch_add_explicit(&cache_slab(c, page / c->slab_pages)->used, 1, memory_order_relaxed);
}

/* The next one of the slab this worker hands out in order: long runs, few iovecs. */
static bool next_page(struct cache_worker *w, uint64_t owner, uint32_t *ret)
{
    struct cache *c = w->c;

    if (w->popen == CACHE_NONE)
        return false;
    *ret = w->popen * c->slab_pages + w->popen_next++;
    atomic_store(&cache_page(c, *ret)->owner, owner);
    taken(c, *ret);
    if (w->popen_next == c->slab_pages)
        cache_slab_release_pages(w);
    return true;
}

static bool hole_in(struct cache_worker *w, uint32_t slab, uint64_t owner, uint32_t *ret)
{
    struct cache *c = w->c;

    for (uint32_t k = 0; k < c->slab_pages; k++) {
        const uint32_t i = (w->hole_page + k) & (c->slab_pages - 1);
        struct cache_page *p = cache_page(c, slab * c->slab_pages + i);
        uint64_t o = atomic_load_explicit(&p->owner, memory_order_acquire);

        if (o == CPAGE_CLOSED || !cache_body_page_is_free(c, o) ||
            !atomic_compare_exchange_strong(&p->owner, &o, owner))
            continue;
        *ret = slab * c->slab_pages + i;
        taken(c, *ret);
        if (o != CPAGE_OPEN) /* it was counted already */
            atomic_fetch_sub_explicit(&cache_slab(c, slab)->used, 1, memory_order_relaxed);
        w->hole_slab = slab;
        w->hole_page = (i + 1) & (c->slab_pages - 1);
        return true;
    }
    return false;
}

static bool hole(struct cache_worker *w, uint64_t owner, uint32_t *ret)
{
    struct cache *c = w->c;
    const uint64_t seq = atomic_load(&cache_hot(c)->page_free.v);
    const uint32_t from = w->hole_slab < c->sb.nslab ? w->hole_slab : 0;

    if (seq == w->hole_seq)
        return false;
    for (uint32_t k = 0; k < c->sb.nslab; k++) {
        const uint32_t slab = from + k < c->sb.nslab ? from + k : from + k - c->sb.nslab;
        const struct cache_slab *s = cache_slab(c, slab);

        switch (cache_st_code(atomic_load_explicit(cache_slab_st(c, slab), memory_order_relaxed))) {
        case CSLAB_SEALED:
        case CSLAB_EVICT:
        case CSLAB_DRAIN:
        case CSLAB_PAGES:
            break;
        default:
            continue;
        }
        if (atomic_load_explicit(&s->npage, memory_order_relaxed) >
                atomic_load_explicit(&s->used, memory_order_relaxed) &&
            hole_in(w, slab, owner, ret))
            return true;
    }
    w->hole_seq = seq;
    return false;
}

int cache_body_page(struct cache_worker *w, uint32_t body, uint32_t gen, uint32_t *ret_page)
{
    const uint64_t owner = cache_page_owner(body, gen);
    uint32_t slab;

    /* Each turn evicts some records, from which pages come; or a slab, when all of it has been
     * seen. */
    for (int t = 0; t < 256; t++) {
        if (next_page(w, owner, ret_page) || hole(w, owner, ret_page))
            return 0;
        if (cache_slab_scan(w, &slab) > w->low && claim(w, slab, CSLAB_POPEN)) {
            w->popen = slab;
            w->popen_next = 0;
            continue;
        }
        if (!cache_evict_step(w, 2 + (unsigned)t))
            break;
    }
    cache_count(w, CACHE_CTR_NO_ROOM, 1);
    return -ERR_FULL;
}
