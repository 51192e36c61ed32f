/* Bodies of pages: their descriptors, pins, and how their pages come back. A page belongs to its
 * body only while the body has the generation in the page's owner word, so that freeing a body is
 * one store and what a death leaves half done is free all the same. */
#include "base/err.h"
#include "shm/cache_layout.h"
#include "shm/crc32c.h"

#define BODY_PROBES 8192u

bool cache_body_page_is_free(const struct cache *c, uint64_t owner)
{
    const uint32_t body = (uint32_t)(owner >> 32);
    uint64_t st;

    if (owner == CPAGE_OPEN)
        return true;
    if ((owner & 0xffu) != 2u || body >= c->sb.nbody)
        return false;
    st = atomic_load(&cache_bodyd(c, body)->st);
    return cache_st_gen(st) != ((uint32_t)(owner >> 8) & 0xffffffu) ||
           cache_st_code(st) == CBODY_FREE;
}

void cache_body_free_page(struct cache *c, uint32_t page, uint32_t body, uint32_t gen)
{
    uint64_t o = cache_page_owner(body, gen);
    _Atomic uint32_t *used = &cache_slab(c, page / c->slab_pages)->used;

    if (!atomic_compare_exchange_strong(&cache_page(c, page)->owner, &o, CPAGE_OPEN))
        return;
    if (atomic_load_explicit(used, memory_order_relaxed) > 0)
        atomic_fetch_sub_explicit(used, 1, memory_order_relaxed);
}

void cache_body_pin(struct cache_worker *w, uint32_t body)
{
    const uint32_t i = cache_bodypin_of(w->c, body);

    atomic_exchange(&w->bodypin[i], ++w->bodypins[i]);
}

void cache_body_unpin(struct cache_worker *w, uint32_t body)
{
    const uint32_t i = cache_bodypin_of(w->c, body);

    /* The count before the look: of two who leave a body that waits for them, one sees it free. */
    atomic_exchange(&w->bodypin[i], --w->bodypins[i]);
    if (cache_st_code(atomic_load(&cache_bodyd(w->c, body)->st)) == CBODY_LIMBO)
        cache_body_try_free(w->c, w->owner, body);
}

bool cache_body_pinned(const struct cache *c, uint32_t body)
{
    const uint32_t n = cache_slot_bound(c), at = cache_bodypin_of(c, body);

    for (uint32_t i = 0; i < n; i++) {
        if (atomic_load(&cache_bodypin(c, i)[at]) != 0)
            return true;
    }
    return false;
}

void cache_body_try_free(struct cache *c, uint32_t owner, uint32_t body)
{
    struct cache_bodyd *d = cache_bodyd(c, body);
    uint64_t st = atomic_load(&d->st);
    const uint32_t gen = cache_st_gen(st);
    uint32_t page;

    if (cache_st_code(st) != CBODY_LIMBO || cache_body_pinned(c, body) ||
        !atomic_compare_exchange_strong(&d->st, &st, cache_st(owner, gen, CBODY_FREEING)))
        return;
    page = atomic_load(&d->first);
    for (uint32_t i = 0; i < c->npage && page < c->npage; i++) {
        struct cache_page *p = cache_page(c, page);
        const uint32_t next = atomic_load(&p->next);

        /* A page of another's: the chain is not ours any more. */
        if (atomic_load(&p->owner) != cache_page_owner(body, gen))
            break;
        cache_body_free_page(c, page, body, gen);
        page = next;
    }
    st = cache_st(owner, gen, CBODY_FREEING);
    atomic_compare_exchange_strong(&d->st, &st, cache_st(0, gen + 1, CBODY_FREE));
    atomic_fetch_add(&cache_hot(c)->page_free.v, 1);
}

bool cache_body_claim(struct cache *c, uint32_t owner, uint32_t body, uint32_t gen)
{
    uint64_t st = cache_st(0, gen, CBODY_LIVE);

    return atomic_compare_exchange_strong(&cache_bodyd(c, body)->st, &st,
                                          cache_st(owner, gen, CBODY_DYING));
}

void cache_body_release(struct cache *c, uint32_t owner, uint32_t body, uint32_t gen,
                        enum cache_body_state from)
{
    uint64_t st = cache_st(owner, gen, from);

    if (atomic_compare_exchange_strong(&cache_bodyd(c, body)->st, &st,
                                       cache_st(0, gen, CBODY_LIMBO)))
        cache_body_try_free(c, owner, body);
}

int cache_body_new(struct cache_worker *w, const struct cache_key *k, uint32_t flight,
                   uint32_t *ret_body, uint32_t *ret_gen)
{
    struct cache *c = w->c;
    const uint32_t n = c->sb.nbody < BODY_PROBES ? c->sb.nbody : BODY_PROBES;

    for (uint32_t t = 0; t < n; t++) {
        const uint32_t i = w->body_hint;
        struct cache_bodyd *d = cache_bodyd(c, i);
        uint64_t st = atomic_load(&d->st);

        if (cache_st_code(st) == CBODY_LIMBO) {
            cache_body_try_free(c, w->owner, i);
            st = atomic_load(&d->st);
        }
        if (cache_st_code(st) == CBODY_FREE &&
            atomic_compare_exchange_strong(&d->st, &st,
                                           cache_st(w->owner, cache_st_gen(st), CBODY_FILL))) {
            atomic_store(&d->first, CACHE_NONE);
            atomic_store(&d->npages, 0);
            atomic_store(&d->size, 0);
            atomic_store(&d->k0, k->k0);
            atomic_store(&d->k1, k->k1);
            atomic_store(&d->flight, flight);
            *ret_body = i;
            *ret_gen = cache_st_gen(st);
            return 0;
        }
        w->body_hint = i + 1 == c->sb.nbody ? 0 : i + 1;
    }
    return -ERR_FULL;
}

/* The page with number `index`, from the list or along the chain from the cursor. */
static bool find_page(const struct cache *c, uint32_t first, const uint32_t *pages, uint32_t npages,
                      uint32_t index, uint32_t *page, uint32_t *at)
{
    if (pages) {
        if (index >= npages)
            return false;
        memcpy(page, pages + index, 4);
        *at = index;
        return *page < c->npage;
    }
    if (*page >= c->npage || *at > index) {
        *page = first;
        *at = 0;
    }
    for (; *page < c->npage && *at < index; ++*at)
        *page = atomic_load(&cache_page(c, *page)->next);
    return *page < c->npage;
}

int cache_body_iov(const struct cache *c, uint32_t body, uint32_t gen, uint32_t first,
                   const uint32_t *pages, uint32_t npages, uint32_t *page, uint32_t *at_index,
                   uint64_t full, uint64_t at, uint64_t n, struct iovec *iov, int max,
                   size_t *ret_n)
{
    const uint32_t size = c->sb.page_size;
    int used = 0;

    *ret_n = 0;
    while (n > 0) {
        const uint32_t index = (uint32_t)(at >> c->page_shift), off = (uint32_t)at & (size - 1),
                       before = *page < c->npage ? *at_index : CACHE_NONE;
        const uint64_t take = n < size - off ? n : size - off;
        unsigned char *p;

        if (!find_page(c, first, pages, npages, index, page, at_index) ||
            atomic_load(&cache_page(c, *page)->owner) != cache_page_owner(body, gen))
            return -ERR_CORRUPT;
        p = cache_page_data(c, *page);
        /* Once when it is entered. */
        if (c->verify == CACHE_VERIFY_ALL && index < full && (off == 0 || index != before) &&
            crc32c_more(c->sb.seed, p, size) != atomic_load(&cache_page(c, *page)->crc))
            return -ERR_CORRUPT;
        if (used > 0 &&
            (unsigned char *)iov[used - 1].iov_base + iov[used - 1].iov_len == p + off) {
            iov[used - 1].iov_len += take;
        } else {
            if (used == max)
                break;
            iov[used++] = (struct iovec){p + off, take};
        }
        *ret_n += take;
        at += take;
        n -= take;
    }
    return used;
}
