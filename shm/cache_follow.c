/* Followers: views of an object that is arriving, waiting, waking, and taking over. */
#include "base/err.h"
#include "shm/cache_layout.h"
#include "shm/crc32c.h"

/* Pins the body while it is filled; the leader's order is the matching one: LIVE, then pins read.
 */
static void attach(struct cache_worker *w, struct cache_follow *f, const struct cache_flight *fl)
{
    const uint32_t body = atomic_load(&fl->body), gen = atomic_load(&fl->body_gen);
    uint64_t st;

    if (body >= w->c->sb.nbody)
        return;
    cache_body_pin(w, body);
    st = atomic_load(&cache_bodyd(w->c, body)->st);
    if (cache_st_code(st) != CBODY_FILL || cache_st_gen(st) != gen) {
        cache_body_unpin(w, body);
        return;
    }
    f->body = body;
    f->body_gen = gen;
    f->attached = true;
}

static enum cache_arrival arrival(uint64_t st, uint32_t gen)
{
    if (cache_st_gen(st) != gen)
        return CACHE_ARRIVAL_GONE;
    switch (cache_st_code(st)) {
    case CFLIGHT_FETCH:
        return CACHE_ARRIVAL_WAITING;
    case CFLIGHT_STREAM:
        return CACHE_ARRIVAL_STREAM;
    case CFLIGHT_DONE:
        return CACHE_ARRIVAL_DONE;
    case CFLIGHT_FAILED:
        return CACHE_ARRIVAL_FAILED;
    case CFLIGHT_PASS:
        return CACHE_ARRIVAL_PASS;
    case CFLIGHT_ORPHAN:
        return CACHE_ARRIVAL_ORPHANED;
    default:
        return CACHE_ARRIVAL_GONE;
    }
}

/* Meta and tags of an attached follower. false: damaged. */
static bool view_head(struct cache_worker *w, const struct cache_follow *f, struct cache_view *ret)
{
    const struct cache *c = w->c;
    const struct cache_bodyd *d = cache_bodyd(c, f->body);
    const uint32_t first = atomic_load(&d->first), ntags = atomic_load(&d->ntags),
                   lead = atomic_load(&d->lead);
    const struct cache_flight *fl;
    const unsigned char *p;
    uint32_t crc;

    if (first >= c->npage || ntags > CACHE_TAGS || lead >= c->sb.page_size || 8u * ntags > lead ||
        atomic_load(&cache_page(c, first)->owner) != cache_page_owner(f->body, f->body_gen))
        return false;
    p = cache_page_data(c, first);
    ret->tags = (const uint64_t *)(const void *)p;
    ret->ntags = ntags;
    ret->meta = slice_of((const char *)p + 8u * ntags, lead - 8u * ntags);
    if (f->flight == CACHE_NONE)
        return true;
    fl = cache_flight(c, f->flight);
    const uint32_t v[] = {atomic_load(&fl->type_site), atomic_load(&fl->user),
                          atomic_load(&fl->base),      atomic_load(&fl->fresh),
                          atomic_load(&fl->swr),       atomic_load(&fl->sie)};
    crc = crc32c_more(crc32c_more(c->sb.seed, v, sizeof(v)), p, lead);
    ret->attr = (struct cache_attr){.type = (uint8_t)(v[0] >> 16),
                                    .site = (uint16_t)v[0],
                                    .user = v[1],
                                    .base = v[2],
                                    .fresh = v[3],
                                    .swr = v[4],
                                    .sie = v[5],
                                    .birth = atomic_load(&fl->birth)};
    return crc == atomic_load(&fl->head_crc);
}

void cache_follow_view(struct cache_worker *w, struct cache_follow *f, struct cache_view *ret)
{
    const struct cache *c = w->c;
    const bool fresh = !f->attached;
    uint64_t size, lead;

    memset(ret, 0, sizeof(*ret));
    ret->expect = CACHE_UNKNOWN;
    if (f->flight != CACHE_NONE) {
        const struct cache_flight *fl = cache_flight(c, f->flight);
        const uint64_t st = atomic_load(&fl->st);

        f->seen_state = st;
        f->seen_size = 0;
        ret->state = arrival(st, f->flight_gen);
        ret->outcome = atomic_load(&fl->outcome);
        ret->expect = atomic_load(&fl->expect);
        if (!f->attached &&
            (ret->state == CACHE_ARRIVAL_STREAM || ret->state == CACHE_ARRIVAL_ORPHANED))
            attach(w, f, fl);
    } else {
        const uint64_t st = atomic_load(&cache_bodyd(c, f->body)->st);

        ret->state = cache_st_code(st) == CBODY_FILL ? CACHE_ARRIVAL_STREAM : CACHE_ARRIVAL_DONE;
    }
    if (!f->attached) {
        /* Too late: it is complete or has ended, which the flight is about to say. */
        if (ret->state == CACHE_ARRIVAL_STREAM)
            ret->state = CACHE_ARRIVAL_GONE;
        return;
    }
    size = atomic_load(&cache_bodyd(c, f->body)->size);
    lead = atomic_load(&cache_bodyd(c, f->body)->lead);
    f->seen_size = size;
    /* The head is summed when it is first seen. */
    if ((!view_head(w, f, ret) && fresh) || size < lead || size - lead > c->sb.max_object) {
        cache_count(w, CACHE_CTR_CORRUPT, 1);
        ret->state = CACHE_ARRIVAL_FAILED;
        return;
    }
    ret->attached = true;
    ret->size = size - lead;
}

int cache_follow_body(struct cache_worker *w, struct cache_follow *f, uint64_t off, uint64_t n,
                      struct iovec *iov, int max, size_t *ret_n)
{
    const struct cache *c = w->c;
    const struct cache_bodyd *d;
    uint64_t size, lead;

    *ret_n = 0;
    if (!f->attached || max <= 0)
        return 0;
    d = cache_bodyd(c, f->body);
    size = atomic_load(&d->size);
    lead = atomic_load(&d->lead);
    if (lead >= c->sb.page_size || size < lead || off >= size - lead)
        return 0;
    if (n > size - lead - off)
        n = size - lead - off;
    return cache_body_iov(c, f->body, f->body_gen, atomic_load(&d->first), NULL, 0, &f->at_page,
                          &f->at_index, size >> c->page_shift, lead + off, n, iov, max, ret_n);
}

bool cache_follow_wait(struct cache_worker *w, struct cache_follow *f)
{
    struct cache_flight *fl;

    if (f->flight == CACHE_NONE)
        return true;
    fl = cache_flight(w->c, f->flight);
    /* The wish before the look; the leader's order is the matching one. */
    atomic_fetch_or(&fl->want[w->slot / 64], (uint64_t)1 << (w->slot & 63u));
    return atomic_load(&fl->st) == f->seen_state &&
           (!f->attached || atomic_load(&cache_bodyd(w->c, f->body)->size) == f->seen_size);
}

void cache_follow_leave(struct cache_worker *w, struct cache_follow *f)
{
    struct cache *c = w->c;

    if (f->attached)
        cache_body_unpin(w, f->body);
    f->attached = false;
    if (f->flight == CACHE_NONE)
        return;
    if (w->followers[f->flight] > 0 && --w->followers[f->flight] == 0) {
        struct cache_flight *fl = cache_flight(c, f->flight);
        const uint64_t bit = ~((uint64_t)1 << (w->slot & 63u));

        atomic_fetch_and(&fl->want[w->slot / 64], bit);
        atomic_fetch_and(&fl->joined[w->slot / 64], bit);
        cache_flight_close(c, w->owner, f->flight);
    }
    f->flight = CACHE_NONE;
}

/* The last page and what is free in it, from the body's size and chain: a page that was linked and
 * not yet written to is used. */
static bool resume(const struct cache *c, const struct cache_bodyd *d, struct cache_fill *f)
{
    const uint64_t size = atomic_load(&d->size);
    const uint32_t index = (uint32_t)(size >> c->page_shift);
    uint32_t page = atomic_load(&d->first), i = 0;

    f->first = page;
    f->size = size;
    f->lead = atomic_load(&d->lead);
    f->ntags = atomic_load(&d->ntags);
    f->room = 0;
    while (page < c->npage && i <= index) {
        if (atomic_load(&cache_page(c, page)->owner) != cache_page_owner(f->body, f->body_gen))
            return false;
        f->page = page;
        page = atomic_load(&cache_page(c, page)->next);
        i++;
    }
    f->npages = i;
    if (i == index + 1)
        f->room = c->sb.page_size - ((uint32_t)size & (c->sb.page_size - 1));
    else if (i != index || ((uint32_t)size & (c->sb.page_size - 1)) != 0)
        return false;
    return f->lead < c->sb.page_size && f->ntags <= CACHE_TAGS && size >= f->lead &&
           size - f->lead <= c->sb.max_object && f->page != CACHE_NONE;
}

int cache_follow_take(struct cache_worker *w, struct cache_follow *f, struct cache_fill *ret)
{
    struct cache *c = w->c;
    struct cache_flight *fl;
    struct cache_view v;
    uint64_t st, body;

    if (f->flight == CACHE_NONE)
        return -ERR_NOENT;
    fl = cache_flight(c, f->flight);
    st = cache_st(0, f->flight_gen, CFLIGHT_ORPHAN);
    if (atomic_load(&fl->st) != st)
        return -ERR_AGAIN;
    cache_follow_view(w, f, &v);
    *ret = (struct cache_fill){.key = {atomic_load(&fl->k0), atomic_load(&fl->k1)},
                               .attr = v.attr,
                               .flight = f->flight,
                               .flight_gen = f->flight_gen,
                               .body = CACHE_NONE,
                               .page = CACHE_NONE,
                               .orphaned = true};
    ret->attr.birth = atomic_load(&fl->birth);
    ret->expect = atomic_load(&fl->expect);
    if (!f->attached) {
        if (atomic_load(&fl->body) != CACHE_NONE)
            return -ERR_NOENT;
        if (!atomic_compare_exchange_strong(&fl->st, &st,
                                            cache_st(w->owner, f->flight_gen, CFLIGHT_FETCH)))
            return -ERR_AGAIN;
        cache_count(w, CACHE_CTR_TAKEOVER, 1);
        return 0;
    }
    if (!v.attached)
        return -ERR_NOENT;
    /* The body first: two who try are told apart by it. */
    ret->body = f->body;
    ret->body_gen = f->body_gen;
    body = cache_st(0, f->body_gen, CBODY_FILL);
    if (!atomic_compare_exchange_strong(&cache_bodyd(c, f->body)->st, &body,
                                        cache_st(w->owner, f->body_gen, CBODY_FILL)))
        return cache_st_code(body) == CBODY_FILL ? -ERR_AGAIN : -ERR_NOENT;
    ret->headed = true;
    if (!resume(c, cache_bodyd(c, f->body), ret) ||
        !atomic_compare_exchange_strong(&fl->st, &st,
                                        cache_st(w->owner, f->flight_gen, CFLIGHT_STREAM))) {
        body = cache_st(w->owner, f->body_gen, CBODY_FILL);
        atomic_compare_exchange_strong(&cache_bodyd(c, f->body)->st, &body,
                                       cache_st(0, f->body_gen, CBODY_FILL));
        return -ERR_NOENT;
    }
    cache_count(w, CACHE_CTR_TAKEOVER, 1);
    return 0;
}

bool cache_may_sleep(struct cache_worker *w)
{
    atomic_store(&w->row->asleep, 1);
    if (atomic_load(&cache_mail(w->c, w->slot)->sum) == 0)
        return true;
    atomic_store(&w->row->asleep, 0);
    return false;
}

unsigned cache_woken(struct cache_worker *w, uint32_t *ret_flights, unsigned max)
{
    struct cache_mail *m = cache_mail(w->c, w->slot);
    unsigned n = 0;
    uint64_t sum;

    atomic_store(&w->row->asleep, 0);
    if (atomic_load(&m->sum) == 0)
        return 0;
    for (sum = atomic_exchange(&m->sum, 0); sum; sum &= sum - 1) {
        const uint32_t i = (uint32_t)__builtin_ctzll(sum);
        uint64_t bits = atomic_exchange(&m->bit[i], 0);

        for (; bits && n < max; bits &= bits - 1)
            ret_flights[n++] = i * 64 + (uint32_t)__builtin_ctzll(bits);
        if (bits) {
            atomic_fetch_or(&m->bit[i], bits);
            atomic_fetch_or(&m->sum, (uint64_t)1 << i);
        }
    }
    return n;
}
