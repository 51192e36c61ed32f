/* Objects that are arriving: one leader fills, followers of all workers read behind it. */
#include "base/err.h"
#include "shm/cache_layout.h"
#include "shm/crc32c.h"

#define WAYS 4u

/* ---- the table of flights: two sets of four per key ---- */

static uint32_t candidate(const struct cache *c, const struct cache_key *k, uint32_t i)
{
    const uint32_t sets = c->sb.nflight / WAYS;
    const uint32_t a = (uint32_t)(((k->k1 & 0xffffffffu) * sets) >> 32);
    uint32_t b = (uint32_t)((((k->k0 >> 16) & 0xffffffffu) * sets) >> 32);

    if (b == a)
        b = a + 1 == sets ? 0 : a + 1;
    return (i < WAYS ? a : b) * WAYS + i % WAYS;
}

static bool flight_is_for(const struct cache_flight *f, const struct cache_key *k)
{
    return atomic_load(&f->k0) == k->k0 && atomic_load(&f->k1) == k->k1;
}

static bool joinable(uint64_t st)
{
    const uint32_t code = cache_st_code(st);

    return code == CFLIGHT_FETCH || code == CFLIGHT_STREAM || code == CFLIGHT_ORPHAN;
}

static bool joined_by_anyone(const struct cache_flight *f)
{
    uint64_t any = 0;

    for (uint32_t i = 0; i < CACHE_SLOTS / 64; i++)
        any |= atomic_load(&f->joined[i]);
    return any != 0;
}

void cache_flight_close(struct cache *c, uint32_t owner, uint32_t flight)
{
    struct cache_flight *f = cache_flight(c, flight);
    uint64_t st = atomic_load(&f->st);
    const uint32_t code = cache_st_code(st), body = atomic_load(&f->body),
                   gen = atomic_load(&f->body_gen);

    if (code != CFLIGHT_DONE && code != CFLIGHT_FAILED && code != CFLIGHT_PASS &&
        code != CFLIGHT_ORPHAN)
        return;
    /* Who joins sets his bit, then reads the state; here the state is set, then the bits read. */
    if (joined_by_anyone(f) || !atomic_compare_exchange_strong(
                                   &f->st, &st, cache_st(0, cache_st_gen(st) + 1, CFLIGHT_FREE)))
        return;
    if (code == CFLIGHT_ORPHAN && body < c->sb.nbody) {
        uint64_t fill = cache_st(0, gen, CBODY_FILL);

        if (atomic_compare_exchange_strong(&cache_bodyd(c, body)->st, &fill,
                                           cache_st(0, gen, CBODY_LIMBO)))
            cache_body_try_free(c, owner, body);
    }
}

void cache_flight_note(struct cache *c, uint32_t flight, const uint64_t bits[CACHE_SLOTS / 64],
                       uint64_t kick[CACHE_SLOTS / 64])
{
    for (uint32_t slot = 0; slot < c->sb.nslot; slot++) {
        struct cache_mail *m;

        if ((slot & 63u) == 0 && bits[slot / 64] == 0) {
            slot += 63;
            continue;
        }
        if (!(bits[slot / 64] >> (slot & 63u) & 1u))
            continue;
        m = cache_mail(c, slot);
        atomic_fetch_or(&m->bit[flight / 64], (uint64_t)1 << (flight & 63u));
        atomic_fetch_or(&m->sum, (uint64_t)1 << (flight / 64));
        if (atomic_load(&cache_row(c, slot)->asleep) &&
            atomic_exchange(&cache_row(c, slot)->asleep, 0))
            kick[slot / 64] |= (uint64_t)1 << (slot & 63u);
    }
}

/* Tells those who asked. What changed was stored before. */
static void wake(struct cache_worker *w, uint32_t flight)
{
    struct cache_flight *f;
    uint64_t bits[CACHE_SLOTS / 64], kick[CACHE_SLOTS / 64] = {0}, any = 0;

    if (flight == CACHE_NONE)
        return;
    f = cache_flight(w->c, flight);
    for (uint32_t i = 0; i < CACHE_SLOTS / 64; i++) {
        bits[i] = atomic_load(&f->want[i]) ? atomic_exchange(&f->want[i], 0) : 0;
        any |= bits[i];
    }
    if (!any)
        return;
    cache_flight_note(w->c, flight, bits, kick);
    for (uint32_t i = 0; w->kick && i < CACHE_SLOTS / 64; i++) {
        for (; kick[i]; kick[i] &= kick[i] - 1)
            w->kick(w->kick_arg, i * 64 + (uint32_t)__builtin_ctzll(kick[i]));
    }
}

static void unjoin(struct cache_worker *w, uint32_t flight)
{
    struct cache_flight *f = cache_flight(w->c, flight);
    const uint64_t bit = ~((uint64_t)1 << (w->slot & 63u));

    if (w->followers[flight] > 0 && --w->followers[flight] > 0)
        return;
    atomic_fetch_and(&f->want[w->slot / 64], bit);
    atomic_fetch_and(&f->joined[w->slot / 64], bit);
    cache_flight_close(w->c, w->owner, flight);
}

static bool join(struct cache_worker *w, uint32_t flight, const struct cache_key *k,
                 const struct cache_scope *scope, struct cache_follow *ret)
{
    struct cache_flight *f = cache_flight(w->c, flight);
    uint64_t st = atomic_load(&f->st);

    if (!joinable(st) || !flight_is_for(f, k) || w->followers[flight] == UINT16_MAX)
        return false;
    if (w->followers[flight]++ == 0)
        atomic_fetch_or(&f->joined[w->slot / 64], (uint64_t)1 << (w->slot & 63u));
    st = atomic_load(&f->st);
    if (!joinable(st) || !flight_is_for(f, k) ||
        (scope && cache_purged(w->c, scope, NULL, 0, atomic_load(&f->birth)))) {
        unjoin(w, flight);
        return false;
    }
    *ret = (struct cache_follow){.flight = flight,
                                 .flight_gen = cache_st_gen(st),
                                 .body = CACHE_NONE,
                                 .at_page = CACHE_NONE};
    cache_count(w, CACHE_CTR_FOLLOW, 1);
    return true;
}

void cache_fill_private(struct cache_worker *w, const struct cache_key *key, uint32_t site,
                        struct cache_fill *ret)
{
    *ret = (struct cache_fill){.key = *key,
                               .flight = CACHE_NONE,
                               .body = CACHE_NONE,
                               .page = CACHE_NONE,
                               .attr.birth = cache_birth(w->c, site)};
}

/* A free place: 0 .. 7 of the key's, or 8. */
static uint32_t claim_place(struct cache_worker *w, const struct cache_key *key,
                            struct cache_fill *ret)
{
    struct cache *c = w->c;

    for (uint32_t i = 0; i < 2 * WAYS; i++) {
        const uint32_t n = candidate(c, key, i);
        struct cache_flight *f = cache_flight(c, n);
        uint64_t st = atomic_load(&f->st);
        const uint32_t gen = cache_st_gen(st);

        if (cache_st_code(st) != CFLIGHT_FREE || joined_by_anyone(f) ||
            !atomic_compare_exchange_strong(&f->st, &st, cache_st(w->owner, gen, CFLIGHT_CLAIM)))
            continue;
        /* Not to be joined before it says for which key it is. */
        atomic_store(&f->k0, key->k0);
        atomic_store(&f->k1, key->k1);
        atomic_store(&f->body, CACHE_NONE);
        atomic_store(&f->outcome, 0);
        atomic_store(&f->expect, CACHE_UNKNOWN);
        atomic_store(&f->birth, ret->attr.birth);
        atomic_store(&f->st, cache_st(w->owner, gen, CFLIGHT_FETCH));
        ret->flight = n;
        ret->flight_gen = gen;
        return i;
    }
    return 2 * WAYS;
}

static void give_up_place(struct cache_worker *w, const struct cache_fill *f)
{
    uint64_t st = cache_st(w->owner, f->flight_gen, CFLIGHT_FETCH);

    atomic_compare_exchange_strong(&cache_flight(w->c, f->flight)->st, &st,
                                   cache_st(0, f->flight_gen + 1, CFLIGHT_FREE));
    wake(w, f->flight);
}

enum cache_claimed cache_claim(struct cache_worker *w, const struct cache_key *key,
                               const struct cache_scope *scope, uint64_t seen,
                               struct cache_fill *ret_fill, struct cache_follow *ret_follow)
{
    struct cache *c = w->c;
    _Atomic uint64_t *slot;
    struct cache_head h;
    uint64_t word;
    uint32_t mine;

    cache_fill_private(w, key, scope ? scope->site : 0, ret_fill);
    for (uint32_t i = 0; i < 2 * WAYS; i++) {
        if (join(w, candidate(c, key, i), key, scope, ret_follow))
            return CACHE_FOLLOW;
    }
    mine = claim_place(w, key, ret_fill);
    if (mine == 2 * WAYS)
        return CACHE_ALONE;
    /* Another may have claimed at the same moment: the later of both second looks sees both, and
     * the one at the lower place leads. */
    for (uint32_t i = 0; i < mine; i++) {
        if (join(w, candidate(c, key, i), key, scope, ret_follow)) {
            give_up_place(w, ret_fill);
            return CACHE_FOLLOW;
        }
    }
    /* Or have finished: it is in the index since. */
    if (cache_index_find(w, key, &h, &word, &slot)) {
        cache_unpin_slab(w, cache_word_slab(word));
        if (h.version > seen) {
            give_up_place(w, ret_fill);
            return CACHE_AGAIN;
        }
    }
    cache_count(w, CACHE_CTR_LEAD, 1);
    return CACHE_LEAD;
}

/* ---- the leader ---- */

static uint32_t head_crc(const struct cache *c, const struct cache_flight *f,
                         const unsigned char *lead, uint32_t n)
{
    const uint32_t v[] = {atomic_load(&f->type_site), atomic_load(&f->user), atomic_load(&f->base),
                          atomic_load(&f->fresh),     atomic_load(&f->swr),  atomic_load(&f->sie)};

    return crc32c_more(crc32c_more(c->sb.seed, v, sizeof(v)), lead, n);
}

static void flight_head(struct cache_worker *w, struct cache_fill *f, const unsigned char *lead)
{
    struct cache_flight *fl = cache_flight(w->c, f->flight);
    uint64_t st = cache_st(w->owner, f->flight_gen, CFLIGHT_FETCH);

    atomic_store(&fl->type_site, (uint32_t)f->attr.type << 16 | f->attr.site);
    atomic_store(&fl->user, f->attr.user);
    atomic_store(&fl->base, f->attr.base);
    atomic_store(&fl->fresh, f->attr.fresh);
    atomic_store(&fl->swr, f->attr.swr);
    atomic_store(&fl->sie, f->attr.sie);
    atomic_store(&fl->head_crc, head_crc(w->c, fl, lead, f->lead));
    atomic_store(&fl->expect, f->expect);
    atomic_store(&fl->body_gen, f->body_gen);
    atomic_store(&fl->body, f->body);
    atomic_compare_exchange_strong(&fl->st, &st, cache_st(w->owner, f->flight_gen, CFLIGHT_STREAM));
    wake(w, f->flight);
}

static int next_page(struct cache_worker *w, struct cache_fill *f)
{
    struct cache *c = w->c;
    struct cache_bodyd *d = cache_bodyd(c, f->body);
    uint32_t page;
    int rc;

    /* The pages count when they are published; that there is room for them is seen to now. */
    if (!cache_share_admit(w, f->attr.site, ((uint64_t)f->npages + 1) << c->page_shift))
        return -ERR_RANGE;
    rc = cache_body_page(w, f->body, f->body_gen, &page);
    if (rc < 0)
        return rc;
    if (f->page == CACHE_NONE) {
        f->first = page;
        atomic_store(&d->first, page);
    } else {
        atomic_store(&cache_page(c, f->page)->next, page);
    }
    f->page = page;
    f->room = c->sb.page_size;
    atomic_store(&d->npages, ++f->npages);
    return 0;
}

int cache_fill_head(struct cache_worker *w, struct cache_fill *f, const struct cache_attr *attr,
                    const uint64_t *tags, unsigned ntags, struct slice meta, uint64_t expect)
{
    struct cache *c = w->c;
    const uint64_t birth = f->attr.birth, lead = 8ull * ntags + meta.n;
    unsigned char *p;
    int rc;

    if (f->headed)
        return -ERR_INVAL;
    if (ntags > CACHE_TAGS || lead >= c->sb.page_size || attr->type >= CACHE_TYPE__COUNT ||
        (expect != CACHE_UNKNOWN && expect > c->sb.max_object))
        return -ERR_RANGE;
    if (expect != CACHE_UNKNOWN && expect > c->share) {
        cache_count(w, CACHE_CTR_OVER_SHARE, 1);
        return -ERR_RANGE;
    }
    rc = cache_body_new(w, &f->key, f->flight, &f->body, &f->body_gen);
    if (rc < 0)
        return rc;
    f->attr = *attr;
    f->attr.birth = birth;
    rc = next_page(w, f);
    if (rc < 0) {
        cache_body_release(c, w->owner, f->body, f->body_gen, CBODY_FILL);
        f->body = CACHE_NONE;
        return rc;
    }
    f->ntags = ntags;
    f->lead = (uint32_t)lead;
    f->expect = expect;
    p = cache_page_data(c, f->page);
    if (ntags > 0)
        memcpy(p, tags, 8u * ntags);
    if (meta.n > 0)
        memcpy(p + 8u * ntags, meta.p, meta.n);
    f->room -= f->lead;
    f->size = lead;
    f->headed = true;
    atomic_store(&cache_bodyd(c, f->body)->ntags, ntags);
    atomic_store(&cache_bodyd(c, f->body)->lead, f->lead);
    atomic_store(&cache_bodyd(c, f->body)->size, f->size);
    if (f->flight != CACHE_NONE)
        flight_head(w, f, p);
    return 0;
}

int cache_fill_space(struct cache_worker *w, struct cache_fill *f, struct iovec *ret)
{
    const struct cache *c = w->c;
    const uint64_t left = c->sb.max_object - (f->size - f->lead);
    int rc;

    if (!f->headed)
        return -ERR_INVAL;
    if (left == 0)
        return -ERR_RANGE;
    if (f->room == 0) {
        rc = next_page(w, f);
        if (rc < 0)
            return rc;
    }
    *ret = (struct iovec){cache_page_data(c, f->page) + (c->sb.page_size - f->room),
                          f->room < left ? f->room : left};
    return 0;
}

void cache_fill_commit(struct cache_worker *w, struct cache_fill *f, size_t n)
{
    const struct cache *c = w->c;

    if (!f->headed || n > f->room)
        return;
    f->room -= (uint32_t)n;
    f->size += n;
    /* A page that readers know to be full has its sum. */
    if (f->room == 0)
        atomic_store(&cache_page(c, f->page)->crc,
                     crc32c_more(c->sb.seed, cache_page_data(c, f->page), c->sb.page_size));
    atomic_store(&cache_bodyd(c, f->body)->size, f->size);
    wake(w, f->flight);
}

int cache_fill_append(struct cache_worker *w, struct cache_fill *f, struct slice bytes)
{
    struct iovec v;
    int rc;

    while (bytes.n > 0) {
        rc = cache_fill_space(w, f, &v);
        if (rc < 0)
            return rc;
        if (v.iov_len > bytes.n)
            v.iov_len = bytes.n;
        memcpy(v.iov_base, bytes.p, v.iov_len);
        cache_fill_commit(w, f, v.iov_len);
        bytes.p += v.iov_len;
        bytes.n -= v.iov_len;
    }
    return 0;
}

static void end_flight(struct cache_worker *w, const struct cache_fill *f,
                       enum cache_flight_state to, uint32_t outcome)
{
    struct cache_flight *fl;
    uint64_t st;

    if (f->flight == CACHE_NONE)
        return;
    fl = cache_flight(w->c, f->flight);
    atomic_store(&fl->outcome, outcome);
    st = cache_st(w->owner, f->flight_gen, f->headed ? CFLIGHT_STREAM : CFLIGHT_FETCH);
    atomic_compare_exchange_strong(&fl->st, &st, cache_st(0, f->flight_gen, to));
    wake(w, f->flight);
    cache_flight_close(w->c, w->owner, f->flight);
}

/* Publishes what was filled. With no full page all of it goes into the record, else the pages stay
 * where they are and the rest goes into the record. */
static int publish(struct cache_worker *w, const struct cache_fill *f, bool *ret_paged)
{
    const struct cache *c = w->c;
    const unsigned char *p = cache_page_data(c, f->first);
    const uint32_t full = (uint32_t)(f->size >> c->page_shift),
                   rest = (uint32_t)f->size & (c->sb.page_size - 1);
    const unsigned char *last = cache_page_data(c, f->page);
    struct cache_parts parts = {
        .key = &f->key,
        .attr = &f->attr,
        .tags = (const uint64_t *)(const void *)p,
        .ntags = f->ntags,
        .first = f->first,
        .body = CACHE_NONE,
        .meta = slice_of((const char *)p + 8u * f->ntags, f->lead - 8u * f->ntags),
        .size = f->size - f->lead,
        .version = f->version,
        .main = f->main};

    *ret_paged = full > 0;
    if (full == 0) {
        parts.tail = slice_of((const char *)p + f->lead, f->size - f->lead);
    } else {
        parts.body = f->body;
        parts.body_gen = f->body_gen;
        parts.npages = full;
        parts.lead = f->lead;
        parts.lead_meta = true;
        parts.tail = slice_of((const char *)last, rest);
    }
    return cache_store_record(w, &parts);
}

int cache_fill_done(struct cache_worker *w, struct cache_fill *f)
{
    struct cache *c = w->c;
    bool paged = false;
    int rc = -ERR_INVAL;

    if (f->headed)
        rc = publish(w, f, &paged);
    if (rc == 0 && paged) {
        uint64_t st = cache_st(w->owner, f->body_gen, CBODY_FILL);

        atomic_compare_exchange_strong(&cache_bodyd(c, f->body)->st, &st,
                                       cache_st(0, f->body_gen, CBODY_LIVE));
        /* From here nobody can begin to follow: who does already has a pin. */
        if (f->room > 0 && !cache_body_pinned(c, f->body)) {
            cache_body_free_page(c, f->page, f->body, f->body_gen);
            atomic_fetch_add(&cache_hot(c)->page_free.v, 1);
        }
        cache_reap_unreached(c, w->owner, f->body);
    }
    cache_count(w, rc == 0 ? CACHE_CTR_DONE : CACHE_CTR_FAILED, 1);
    end_flight(w, f, f->headed ? CFLIGHT_DONE : CFLIGHT_FAILED, 0);
    /* Last: a flight that a death leaves behind still has its body. */
    if (f->headed && !(rc == 0 && paged))
        cache_body_release(c, w->owner, f->body, f->body_gen, CBODY_FILL);
    return rc;
}

void cache_fill_abort(struct cache_worker *w, struct cache_fill *f, bool pass, uint32_t outcome)
{
    cache_count(w, CACHE_CTR_FAILED, 1);
    end_flight(w, f, pass ? CFLIGHT_PASS : CFLIGHT_FAILED, outcome);
    if (f->body != CACHE_NONE)
        cache_body_release(w->c, w->owner, f->body, f->body_gen, CBODY_FILL);
}

bool cache_fill_followed(const struct cache_worker *w, const struct cache_fill *f)
{
    return f->flight != CACHE_NONE && joined_by_anyone(cache_flight(w->c, f->flight));
}

void cache_fill_follow(struct cache_worker *w, const struct cache_fill *f, struct cache_follow *ret)
{
    *ret = (struct cache_follow){.flight = CACHE_NONE,
                                 .body = f->body,
                                 .body_gen = f->body_gen,
                                 .at_page = CACHE_NONE,
                                 .attached = f->headed};
    if (f->headed)
        cache_body_pin(w, f->body);
}
