/* From one mapping to another; see cache_promote.h. Slab after slab: the main queue before the
 * small one, each in the order of its age, of too much the newest; then what came since. */
#include "shm/cache_promote.h"

#include "base/clock.h"
#include "base/err.h"
#include "shm/cache_layout.h"

#include <stdlib.h>

#define LOW48       0xffffffffffffull
#define VERSIONS    (1ull << 24) /* that are left to what the old cache stores from now on */
#define PURGE_CHUNK 4096u        /* generations merged at a time */
#define BODY_CHUNK  (256u << 10) /* bytes of a body copied at a time */
#define LOOKS       64u          /* records between two looks at the clock */

_Static_assert(CACHE_PROMOTE_SHARDS == CACHE_SHARDS, "a birth for each purge counter");

/* What is known of a slab of the old cache: records end of those seen. */
struct slab_seen {
    uint32_t gen, woff;
};
struct known_gen {
    uint64_t hard, soft;
};
struct plan {
    uint64_t order; /* main queue and oldest first */
    uint64_t bytes;
    uint32_t slab, gen, woff, nrec;
    bool main, wanted;
};

struct cache_promote {
    struct cache_worker *from, *to;
    const struct cache_promote_base *base;
    struct cache_promote_stat st;
    struct slab_seen *seen; /* of `from` */
    struct plan *plan;      /* until all of it is copied */
    size_t nplan, at_plan;
    uint32_t cursor, looked; /* afterwards: slab, how many since there was something */
    /* Purges: the counts that the generations merged last belong to. */
    uint64_t seq[CACHE_SHARDS];
    uint64_t highest;
    struct known_gen *known; /* generations of `from` as they were merged last */
    uint64_t top;            /* of those merged in this round */
    uint32_t at_gen;
    bool merging, merged, changed;
    /* What is being copied. */
    bool in_slab, in_object, filling, main;
    uint32_t slab, gen, off, end;
    uint64_t since; /* bytes stored since the room was looked at */
    struct cache_hit hit;
    struct cache_fill fill;
    uint64_t body_at;
};

/* ---- making the new one ---- */

void cache_promote_adopt(struct cache *to, const struct cache *from, struct cache_promote_base *ret)
{
    uint64_t version = atomic_load(&cache_hot(from)->version.v) & LOW48;

    version = (version + VERSIONS) & LOW48;
    cache_rekey(to, &from->sb.key);
    ret->version = version;
    atomic_store(&cache_hot(to)->version.v, version);
    for (uint32_t i = 0; i < CACHE_SHARDS; i++) {
        ret->birth[i] = cache_birth(from, i);
        atomic_store(&cache_hot(to)->purge[i].v, ret->birth[i]);
    }
}

/* ---- purges ----
 * Who copies an object cuts its birth to the count that both caches began with, so a purge in
 * either is younger. What the old cache had been told before the first look goes over as it is.
 * What its workers are told afterwards is to reach what the new cache stored until then as well,
 * whose births are of another count: it is a purge there as of now. A table of another size is
 * folded, or repeated: a name's places are its hash modulo the size. */

static void raise_to(_Atomic uint64_t *v, uint64_t to)
{
    uint64_t old = atomic_load_explicit(v, memory_order_relaxed);

    while (old < to && !atomic_compare_exchange_weak(v, &old, to))
        ;
}

static bool purged_since(const struct cache_promote *p)
{
    for (uint32_t i = 0; i < CACHE_SHARDS; i++) {
        if (cache_birth(p->from->c, i) != p->seq[i])
            return true;
    }
    return !p->merged;
}

static void merge_begin(struct cache_promote *p)
{
    p->highest = 0;
    for (uint32_t i = 0; i < CACHE_SHARDS; i++) {
        p->seq[i] = cache_birth(p->from->c, i);
        if (p->seq[i] > p->highest)
            p->highest = p->seq[i];
    }
    p->at_gen = 0;
    p->top = 0;
    p->changed = false;
    p->merging = true;
}

/* Younger than all that the new cache holds. */
static uint64_t purge_now(const struct cache_promote *p)
{
    uint64_t v = p->highest;

    for (uint32_t i = 0; i < CACHE_SHARDS; i++) {
        const uint64_t birth = cache_birth(p->to->c, i);

        v = birth > v ? birth : v;
    }
    return v + 1;
}

static void merge_gen(struct cache_promote *p, uint64_t v, uint64_t *known, _Atomic uint64_t *to)
{
    /* None is ahead of its count by more than one: what is, is damaged or younger than this round,
     * and the count has changed. */
    if (v > p->highest + 1 || v <= *known)
        return;
    *known = v;
    /* A purge of both caches is there already. */
    if (atomic_load_explicit(to, memory_order_relaxed) >= v)
        return;
    if (p->merged)
        v = purge_now(p);
    raise_to(to, v);
    p->top = v > p->top ? v : p->top;
    p->changed = true;
}

/* Generations first, then the counts, as who purges does; and the counts change, whatever they
 * were, for what was tested already to be tested again. */
static void merge_some(struct cache_promote *p)
{
    const struct cache *from = p->from->c, *to = p->to->c;
    const uint32_t nf = from->sb.ngen, nt = to->sb.ngen, all = nf > nt ? nf : nt;
    const uint32_t end = all - p->at_gen < PURGE_CHUNK ? all : p->at_gen + PURGE_CHUNK;

    for (; p->at_gen < end; p->at_gen++) {
        const struct cache_gen *a =
            cache_at(from, CACHE_AREA_GEN, (p->at_gen & (nf - 1)) * sizeof(struct cache_gen));
        struct cache_gen *b =
            cache_at(to, CACHE_AREA_GEN, (p->at_gen & (nt - 1)) * sizeof(struct cache_gen));

        merge_gen(p, atomic_load_explicit(&a->hard, memory_order_relaxed),
                  &p->known[p->at_gen].hard, &b->hard);
        merge_gen(p, atomic_load_explicit(&a->soft, memory_order_relaxed),
                  &p->known[p->at_gen].soft, &b->soft);
    }
    if (p->at_gen < all)
        return;
    for (uint32_t i = 0; i < CACHE_SHARDS; i++) {
        _Atomic uint64_t *count = &cache_hot(to)->purge[i].v;

        raise_to(count, p->merged && p->top > p->seq[i] ? p->top : p->seq[i]);
        if (p->changed)
            atomic_fetch_add(count, 1);
    }
    p->merging = false;
    p->merged = true;
}

/* ---- which slabs ---- */

static bool holds_records(uint64_t st)
{
    return cache_st_code(st) == CSLAB_OPEN || cache_st_code(st) == CSLAB_SEALED;
}

static uint32_t records_end(const struct cache *c, uint32_t slab)
{
    const uint32_t woff = atomic_load_explicit(&cache_slab(c, slab)->woff, memory_order_acquire);

    return woff < c->sb.slab_size ? woff : c->sb.slab_size;
}

static int by_order(const void *a, const void *b)
{
    const struct plan *x = a, *y = b;

    return x->order < y->order ? -1 : x->order > y->order;
}

/* An open slab has no ticket yet and is the newest. */
static uint64_t order_of(const struct cache *c, uint32_t slab, uint64_t st)
{
    const struct cache_slab *s = cache_slab(c, slab);
    const uint64_t ticket = cache_st_code(st) == CSLAB_OPEN
                                ? UINT64_MAX
                                : atomic_load_explicit(&s->ticket, memory_order_relaxed);
    const bool small = (atomic_load_explicit(&s->queue, memory_order_relaxed) & 1u) == 0;

    return (uint64_t)small << 63 | (ticket & UINT64_MAX >> 1);
}

static void plan_make(struct cache_promote *p)
{
    const struct cache *c = p->from->c;
    uint64_t room = p->to->c->sb.data / 16 * 15;

    for (uint32_t i = 0; i < c->sb.nslab; i++) {
        const uint64_t st = atomic_load(cache_slab_st(c, i));
        const struct cache_slab *s = cache_slab(c, i);
        struct plan *l = &p->plan[p->nplan];

        if (!holds_records(st))
            continue;
        *l = (struct plan){.order = order_of(c, i, st),
                           .slab = i,
                           .gen = cache_st_gen(st),
                           .woff = records_end(c, i),
                           .nrec = atomic_load_explicit(&s->nrec, memory_order_relaxed)};
        l->main = l->order >> 63 == 0;
        l->bytes = l->woff + atomic_load_explicit(&s->pages_bytes, memory_order_relaxed);
        p->seen[i] = (struct slab_seen){l->gen, l->woff};
        p->nplan += l->woff > 0;
    }
    if (p->nplan > 0)
        qsort(p->plan, p->nplan, sizeof(*p->plan), by_order);
    for (int q = 1; q >= 0; q--) {
        for (size_t i = p->nplan; i-- > 0;) {
            struct plan *l = &p->plan[i];

            if (l->main != (q == 1))
                continue;
            p->st.partly = p->st.partly || l->bytes > room;
            if (l->bytes > room)
                continue;
            l->wanted = true;
            room -= l->bytes;
            p->st.left += l->nrec;
        }
    }
}

/* ---- objects ---- */

static void leave_object(struct cache_promote *p)
{
    if (p->filling)
        cache_fill_abort(p->to, &p->fill, true, 0);
    cache_release(p->from, &p->hit);
    p->in_object = p->filling = false;
}

static void leave_slab(struct cache_promote *p)
{
    leave_object(p);
    if (p->in_slab)
        cache_unpin_slab(p->from, p->slab);
    p->in_slab = false;
}

static void enter_slab(struct cache_promote *p, uint32_t slab, uint32_t gen, uint32_t from,
                       uint32_t end)
{
    uint64_t st;

    cache_pin_slab(p->from, slab);
    st = atomic_load(cache_slab_st(p->from->c, slab));
    if (!holds_records(st) || cache_st_gen(st) != gen) {
        cache_unpin_slab(p->from, slab);
        return;
    }
    p->in_slab = true;
    p->slab = slab;
    p->gen = gen;
    p->off = from;
    p->end = end;
    p->main = (atomic_load_explicit(&cache_slab(p->from->c, slab)->queue, memory_order_relaxed) &
               1u) == 1;
}

/* What lives in the new cache by now is worth more than what is in the old one: nothing is evicted
 * for it. */
static bool room(struct cache_promote *p, uint64_t bytes)
{
    uint32_t slab;

    p->since += bytes;
    if (p->since >= p->to->c->sb.slab_size / 4) {
        p->since = 0;
        p->st.full = p->st.full || cache_slab_scan(p->to, &slab) <= p->to->low;
    }
    return !p->st.full;
}

static void end_object(struct cache_promote *p, int rc)
{
    if (rc == 0) {
        p->st.objects++;
        p->st.bytes += p->hit.size;
    } else {
        p->st.skipped++;
        p->st.full = p->st.full || rc == -ERR_FULL;
    }
    p->filling = false;
    leave_object(p);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* What a promoter before this one has copied need not be copied again to be found to be there. */
static bool is_there(struct cache_promote *p, const struct cache_key *key, uint64_t version)
{
    _Atomic uint64_t *slot;
    struct cache_head h;
    uint64_t word;

    if (!cache_index_find(p->to, key, &h, &word, &slot))
        return false;
    cache_unpin_slab(p->to, cache_word_slab(word));
    return h.version >= version;
}

/* p->hit is an object of the old cache. What fits into a record is copied at once. */
static void begin_object(struct cache_promote *p)
{
    struct cache_hit *h = &p->hit;
    uint32_t page_size = p->to->c->sb.page_size;
    struct cache_attr attr = h->attr;
    int rc;

    if (h->version > p->base->version || is_there(p, &h->key, h->version)) {
        end_object(p, -ERR_EXIST);
        return;
    }
    attr.birth = least(attr.birth, p->base->birth[cache_shard(attr.site)]);
    if (h->body == CACHE_NONE && 8u * (uint64_t)h->ntags + h->meta.n + h->size < page_size) {
        struct cache_parts parts = {.key = &h->key,
                                    .attr = &attr,
                                    .tags = h->tags,
                                    .ntags = h->ntags,
                                    .body = CACHE_NONE,
                                    .meta = h->meta,
                                    .tail = slice_of((const char *)h->tail, h->size),
                                    .size = h->size,
                                    .version = h->version,
                                    .main = p->main};

        (void)room(p, h->len);
        end_object(p, cache_store_record(p->to, &parts));
        return;
    }
    cache_fill_private(p->to, &h->key, attr.site, &p->fill);
    p->fill.attr.birth = attr.birth;
    p->fill.version = h->version;
    p->fill.main = p->main;
    p->filling = true;
    p->body_at = 0;
    rc = cache_fill_head(p->to, &p->fill, &attr, h->tags, h->ntags, h->meta, h->size);
    if (rc < 0) {
        cache_fill_abort(p->to, &p->fill, true, 0);
        end_object(p, rc);
    }
}

/* The next piece of the object's body. */
static void body_some(struct cache_promote *p)
{
    struct iovec iov[16];
    size_t n = 0;
    int k = 0, rc = 0;

    if (p->body_at < p->hit.size) {
        k = cache_body(p->from, &p->hit, p->body_at, BODY_CHUNK, iov, 16, &n);
        rc = k < 0 ? k : 0;
    }
    for (int i = 0; i < k && rc == 0; i++)
        rc = cache_fill_append(p->to, &p->fill, slice_of(iov[i].iov_base, iov[i].iov_len));
    p->body_at += n;
    if (rc == 0 && !room(p, n))
        rc = -ERR_FULL;
    if (rc == 0 && p->body_at < p->hit.size)
        return;
    if (rc < 0)
        cache_fill_abort(p->to, &p->fill, true, 0);
    else
        rc = cache_fill_done(p->to, &p->fill);
    end_object(p, rc);
}

/* Records of the slab, until its end or for a while. */
static void slab_some(struct cache_promote *p)
{
    const uint64_t st = atomic_load(cache_slab_st(p->from->c, p->slab));
    unsigned looks = LOOKS;
    enum cache_visit next = CACHE_VISIT_END;

    /* Who makes room there waits for nobody. */
    if (p->st.full || !holds_records(st) || cache_st_gen(st) != p->gen) {
        leave_slab(p);
        return;
    }
    if (p->in_object) {
        body_some(p);
        return;
    }
    while (looks > 0 && !p->st.full) {
        next = cache_visit_next(p->from, p->slab, p->end, &p->off, &looks, &p->hit);
        if (next != CACHE_VISIT_HIT)
            break;
        looks--;
        p->in_object = true;
        begin_object(p);
        if (p->in_object)
            return;
    }
    if (next == CACHE_VISIT_END)
        leave_slab(p);
}

/* ---- steps ---- */

static void plan_end(struct cache_promote *p)
{
    free(p->plan);
    p->plan = NULL;
    p->st.copied = true;
    p->st.left = 0;
    p->st.partly = p->st.partly || p->st.full;
    /* Nothing more comes to fill them up soon. */
    cache_slab_seal_own(p->to, 0);
    cache_slab_seal_own(p->to, 1);
    cache_slab_release_pages(p->to);
}

/* The next slab that was there at the beginning. */
static void plan_next(struct cache_promote *p)
{
    const struct plan *l;

    if (p->at_plan == p->nplan || p->st.full) {
        plan_end(p);
        return;
    }
    l = &p->plan[p->at_plan++];
    if (!l->wanted)
        return;
    p->st.left -= l->nrec;
    enter_slab(p, l->slab, l->gen, 0, l->woff);
}

/* A slab with records that came since. False: there is none. */
static bool news_next(struct cache_promote *p)
{
    const struct cache *c = p->from->c;

    for (; p->looked < c->sb.nslab && !p->st.full; p->looked++) {
        const uint32_t i = p->cursor;
        const uint64_t st = atomic_load(cache_slab_st(c, i));
        struct slab_seen *s = &p->seen[i];
        uint32_t end, from;

        p->cursor = i + 1 == c->sb.nslab ? 0 : i + 1;
        if (!holds_records(st))
            continue;
        end = records_end(c, i);
        from = s->gen == cache_st_gen(st) && s->woff <= end ? s->woff : 0;
        *s = (struct slab_seen){cache_st_gen(st), end};
        if (from == end)
            continue;
        p->looked = 0;
        enter_slab(p, i, s->gen, from, end);
        return true;
    }
    p->looked = 0;
    return false;
}

bool cache_promote_step(struct cache_promote *p, uint64_t budget_us)
{
    const uint64_t until = clock_us_now() + budget_us;

    do {
        if (p->merging) {
            merge_some(p);
        } else if (!p->in_slab && purged_since(p)) {
            merge_begin(p);
        } else if (p->in_slab) {
            slab_some(p);
        } else if (p->plan) {
            plan_next(p);
        } else if (!news_next(p)) {
            return false;
        }
    } while (clock_us_now() < until);
    return true;
}

bool cache_promote_alone(const struct cache_promote *p)
{
    const struct cache *c = p->from->c;
    const uint32_t n = cache_slot_bound(c);

    for (uint32_t i = 0; i < n; i++) {
        if (i != p->from->slot && atomic_load(&cache_row(c, i)->owner) != 0)
            return false;
    }
    return true;
}

int cache_promote_open(struct cache_worker *from, struct cache_worker *to,
                       const struct cache_promote_base *base, struct cache_promote **ret)
{
    struct cache_promote *p = calloc(1, sizeof(*p));
    const uint32_t nf = from->c->sb.ngen, nt = to->c->sb.ngen;

    *ret = NULL;
    if (!p)
        return -ERR_NOMEM;
    p->from = from;
    p->to = to;
    p->base = base;
    p->seen = calloc(from->c->sb.nslab, sizeof(*p->seen));
    p->plan = calloc(from->c->sb.nslab, sizeof(*p->plan));
    p->known = calloc(nf > nt ? nf : nt, sizeof(*p->known));
    if (!p->seen || !p->plan || !p->known) {
        free(p->known);
        free(p->seen);
        free(p->plan);
        free(p);
        return -ERR_NOMEM;
    }
    plan_make(p);
    *ret = p;
    return 0;
}

void cache_promote_close(struct cache_promote **p)
{
    struct cache_promote *x = *p;

    if (!x)
        return;
    leave_slab(x);
    free(x->known);
    free(x->seen);
    free(x->plan);
    free(x);
    *p = NULL;
}

void cache_promote_stat(const struct cache_promote *p, struct cache_promote_stat *ret)
{
    *ret = p->st;
}
