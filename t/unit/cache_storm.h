/* What a worker does in the cache's storms: it looks up, stores, leads, follows, refreshes and
 * evicts, and checks each byte it is given. */
#ifndef T_UNIT_CACHE_STORM_H
#define T_UNIT_CACHE_STORM_H

#include "base/clock.h"
#include "t/unit/cache_fixture.h"

#include <unistd.h>

#define WORKERS      5u
#define KEYS         400u
#define HELD         5u
#define STORM_MAX_US 120000000u /* however busy the machine is */

struct oracle {
    _Atomic uint64_t next;  /* versions */
    _Atomic uint64_t floor; /* objects born before were purged: the purge has returned */
    _Atomic uint64_t wrong, hits, stores, led, followed, taken, late, alone;
    _Atomic uint64_t turns[CACHE_SLOTS];
};
static struct oracle *o;
static struct cache *c;

struct process {
    struct cache_worker *w;
    uint64_t seed;
    struct cache_fill fill;
    struct cache_follow follow;
    struct cache_hit held[HELD];
    uint64_t held_id[HELD];
    uint64_t fill_id, follow_id, follow_at, follow_since;
    bool filling, following, follow_told;
    uint64_t fill_size, fill_version;
    char buf[40000];
};

static void wrong(const char *what, uint64_t id, int64_t got)
{
    printf("# %s: key %llu, %lld\n", what, (unsigned long long)id, (long long)got);
    atomic_fetch_add(&o->wrong, 1);
}

static uint64_t new_version(void)
{
    return atomic_fetch_add(&o->next, 1) + 1;
}

static void get(struct process *p, uint64_t id, bool hold)
{
    const struct cache_scope s = {.site = 0};
    const struct cache_key k = fx_key(c, id);
    const uint64_t floor = atomic_load(&o->floor);
    const size_t at = fx_rnd(&p->seed) % HELD;
    struct cache_hit h;
    uint64_t version;
    int rc;

    if (!cache_lookup(p->w, &k, &s, &h))
        return;
    rc = fx_check(p->w, &h, id, &version);
    atomic_fetch_add(&o->hits, 1);
    if (rc != 1)
        wrong("a hit has other bytes", id, rc);
    else if (h.attr.birth < floor)
        wrong("a purged version was served", id, (int64_t)version);
    if (!hold) {
        if (fx_rnd(&p->seed) % 8 == 0) {
            const struct cache_attr a = {.fresh = CACHE_FOREVER, .birth = h.attr.birth};
            struct fx_meta m;

            (void)cache_refresh(p->w, &h, &a, NULL, 0, fx_meta(&m, id, version, h.size));
        }
        cache_release(p->w, &h);
        return;
    }
    if (p->held[at].word) {
        rc = fx_check(p->w, &p->held[at], p->held_id[at], &version);
        if (rc != 1)
            wrong("a pinned hit changed", p->held_id[at], rc);
        cache_release(p->w, &p->held[at]);
    }
    p->held[at] = h;
    p->held_id[at] = id;
}

static void lead(struct process *p, uint64_t id)
{
    p->filling = true;
    p->fill_id = id;
    p->fill_version = new_version();
    p->fill_size = fx_rnd(&p->seed) % 3 ? fx_rnd(&p->seed) % 3000 : fx_rnd(&p->seed) % 40000;
    atomic_fetch_add(&o->led, 1);
}

static void fill_more(struct process *p)
{
    const struct cache_attr a = {.fresh = CACHE_FOREVER};
    struct cache_fill *f = &p->fill;
    struct fx_meta m;
    int rc = 0;

    if (!f->headed)
        rc = cache_fill_head(p->w, f, &a, NULL, 0,
                             fx_meta(&m, p->fill_id, p->fill_version, p->fill_size), p->fill_size);
    if (rc == 0) {
        const uint64_t at = f->size - f->lead;
        uint64_t n = fx_rnd(&p->seed) % 8000;

        if (n > p->fill_size - at)
            n = p->fill_size - at;
        fx_bytes(p->buf, p->fill_id, p->fill_version, at, n);
        rc = cache_fill_append(p->w, f, slice_of(p->buf, n));
    }
    if (rc < 0 || fx_rnd(&p->seed) % 50 == 0) {
        cache_fill_abort(p->w, f, fx_rnd(&p->seed) % 2, 5);
        p->filling = false;
    } else if (f->size - f->lead == p->fill_size) {
        (void)cache_fill_done(p->w, f);
        p->filling = false;
    }
}

static void take_over(struct process *p, const struct cache_view *v)
{
    struct fx_meta m;

    if (p->filling || cache_follow_take(p->w, &p->follow, &p->fill) < 0)
        return;
    atomic_fetch_add(&o->taken, 1);
    lead(p, p->follow_id);
    if (p->fill.headed) {
        memcpy(&m, v->meta.p, sizeof(m));
        p->fill_version = m.version;
        p->fill_size = m.size;
    }
}

static void follow_more(struct process *p)
{
    struct cache_follow *f = &p->follow;
    struct cache_view v;
    struct iovec iov[4];
    struct fx_meta m;
    size_t n;
    bool end;

    cache_follow_view(p->w, f, &v);
    if (v.attached) {
        memcpy(&m, v.meta.p, sizeof(m));
        if (m.id != p->follow_id || v.meta.n != sizeof(m) || v.size > m.size)
            wrong("a follower sees another object", p->follow_id, (int64_t)m.id);
        while (p->follow_at < v.size) {
            const int k =
                cache_follow_body(p->w, f, p->follow_at, v.size - p->follow_at, iov, 4, &n);

            if (k <= 0 || !fx_iov_good(c, iov, k, p->follow_id, m.version, p->follow_at)) {
                wrong("a follower sees other bytes", p->follow_id, k);
                break;
            }
            p->follow_at += n;
        }
        if (v.state == CACHE_ARRIVAL_DONE && v.size != m.size)
            wrong("an arrival ended early", p->follow_id, (int64_t)v.size);
    }
    end = v.state != CACHE_ARRIVAL_WAITING && v.state != CACHE_ARRIVAL_STREAM;
    if (v.state == CACHE_ARRIVAL_ORPHANED) {
        take_over(p, &v);
        end = fx_rnd(&p->seed) % 4 == 0;
    }
    if (!end && cache_follow_wait(p->w, f) && clock_us_now() - p->follow_since > 5000000) {
        wrong("a follower waits for ever", p->follow_id, (int64_t)v.state);
        atomic_fetch_add(&o->late, 1);
        end = true;
    }
    if (end || fx_rnd(&p->seed) % 60 == 0) {
        cache_follow_leave(p->w, f);
        p->following = false;
    }
}

static void claim(struct process *p, uint64_t id)
{
    const struct cache_key k = fx_key(c, id);
    struct cache_fill f;
    struct cache_follow g;

    if (p->filling && p->following)
        return;
    switch (cache_claim(p->w, &k, NULL, UINT64_MAX, &f, &g)) {
    case CACHE_LEAD:
        if (p->filling) {
            cache_fill_abort(p->w, &f, true, 0);
            break;
        }
        p->fill = f;
        lead(p, id);
        break;
    case CACHE_FOLLOW:
        if (p->following) {
            cache_follow_leave(p->w, &g);
            break;
        }
        p->follow = g;
        p->following = true;
        p->follow_id = id;
        p->follow_at = 0;
        p->follow_since = clock_us_now();
        atomic_fetch_add(&o->followed, 1);
        break;
    case CACHE_AGAIN:
    case CACHE_ALONE:
        atomic_fetch_add(&o->alone, 1);
        break;
    }
}

/* How long a storm goes on: for the time that is wanted, and until everything has happened in it
 * that it is for. `ends`: deaths so far, of `least`. */
static bool storm_goes_on(uint64_t start, uint64_t storm_us, int ends, int least)
{
    const uint64_t spent = clock_us_now() - start;
    struct cache_stat st;

    if (spent < storm_us)
        return true;
    cache_stat(c, &st);
    return spent < STORM_MAX_US &&
           (ends < least || !o->hits || !o->stores || !o->followed || !st.ctr[CACHE_CTR_EVICT]);
}

/* Until *stop, which may never be; then as it is, with all its pins. */
static struct process *work(uint32_t owner, uint64_t seed, const _Atomic bool *stop)
{
    struct process *p = calloc(1, sizeof(*p));
    uint32_t flights[8];

    if (!p || cache_join(c, owner, NULL, NULL, &p->w) < 0)
        _exit(1);
    p->seed = seed;
    while (!atomic_load_explicit(stop, memory_order_relaxed)) {
        const uint64_t r = fx_rnd(&p->seed),
                       id = (r >> 8) % KEYS * ((r >> 32) % KEYS) / KEYS * ((r >> 20) % 3 > 0);

        switch (r % 16) {
        case 0:
        case 1:
            if (fx_put(p->w, id, new_version(), fx_rnd(&p->seed) % (r >> 60 ? 2000 : 30000), p->buf,
                       cache_birth(c, 0)) == 0)
                atomic_fetch_add(&o->stores, 1);
            break;
        case 2:
            claim(p, id % 16);
            break;
        case 3:
            get(p, id, true);
            break;
        case 4:
            (void)cache_tidy(p->w);
            break;
        default:
            get(p, id, false);
        }
        if (p->filling)
            fill_more(p);
        if (p->following)
            follow_more(p);
        (void)cache_woken(p->w, flights, 8);
        atomic_fetch_add_explicit(&o->turns[owner & 0xff], 1, memory_order_relaxed);
    }
    return p;
}

#endif
