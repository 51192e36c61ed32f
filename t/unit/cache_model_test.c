/* Random operations against a reference model: a hit is the last version stored and not older than
 * the last purge; a miss is always allowed. Small caches under eviction, several workers in one
 * process taking turns, a clock that moves only here. */
#include "t/unit/cache_fixture.h"

#include <unistd.h>

#define KEYS    300u
#define WORKERS 3u

struct model {
    uint64_t version, lowest; /* stored last; hits must be >= lowest */
    bool fetching;
};
static struct model m[KEYS];
static struct cache *c;
static struct cache_worker *w[WORKERS];
static char buf[400000];
static uint64_t seed = 88172645463325252ull, version;
static struct {
    struct cache_hit h;
    uint64_t id;
    struct cache_worker *w;
} held[6];

static size_t some_size(void)
{
    switch (fx_rnd(&seed) % 8) {
    case 0:
        return 0;
    case 1:
        return fx_rnd(&seed) % 60000;
    case 2:
        return fx_rnd(&seed) % 20000;
    default:
        return fx_rnd(&seed) % 1500;
    }
}

static int get(struct cache_worker *x, uint64_t id)
{
    const struct cache_scope s = {0};
    const int64_t v = fx_get(x, id, &s);

    if (v == 0 || (v > 0 && (uint64_t)v >= m[id].lowest && (uint64_t)v <= m[id].version))
        return 0;
    printf("# key %llu: got %lld, want %llu..%llu\n", (unsigned long long)id, (long long)v,
           (unsigned long long)m[id].lowest, (unsigned long long)m[id].version);
    return 1;
}

/* A pinned hit's bytes stay, whatever happens meanwhile. */
static int hold(struct cache_worker *x, uint64_t id, size_t slot)
{
    const struct cache_key k = fx_key(c, id);
    uint64_t v;
    int bad = 0;

    if (held[slot].w) {
        bad = fx_check(held[slot].w, &held[slot].h, held[slot].id, &v) != 1;
        if (bad)
            printf("# a pinned hit of key %llu changed\n", (unsigned long long)held[slot].id);
        cache_release(held[slot].w, &held[slot].h);
        held[slot].w = NULL;
    }
    if (cache_lookup(x, &k, NULL, &held[slot].h)) {
        held[slot].w = x;
        held[slot].id = id;
    }
    return bad;
}

/* A fetch that one worker leads and another follows from its head to its end. */
static int stream(struct cache_worker *a, struct cache_worker *b, uint64_t id, size_t size)
{
    const struct cache_key k = fx_key(c, id);
    const struct cache_attr attr = {.fresh = CACHE_FOREVER};
    const bool abort = fx_rnd(&seed) % 5 == 0;
    struct cache_fill f, other;
    struct cache_follow follow, unused;
    struct cache_view v;
    struct fx_meta meta;
    struct iovec iov[5];
    uint64_t got = 0;
    size_t n;
    int bad = 0, rc;

    if (cache_claim(a, &k, NULL, UINT64_MAX, &f, &unused) != CACHE_LEAD)
        return 0;
    if (cache_claim(b, &k, NULL, UINT64_MAX, &other, &follow) != CACHE_FOLLOW) {
        cache_fill_abort(a, &f, true, 0);
        return 1;
    }
    version++;
    fx_bytes(buf, id, version, 0, size);
    rc = cache_fill_head(a, &f, &attr, NULL, 0, fx_meta(&meta, id, version, size), CACHE_UNKNOWN);
    for (uint64_t sent = 0; rc == 0 && sent < size;) {
        uint64_t part = 1 + fx_rnd(&seed) % 9000;

        if (part > size - sent)
            part = size - sent;
        rc = cache_fill_append(a, &f, slice_of(buf + sent, part));
        sent += part;
        cache_follow_view(b, &follow, &v);
        bad += v.state != CACHE_ARRIVAL_STREAM || (rc == 0 && v.size != sent) ||
               v.meta.n != sizeof(meta);
        while (got < v.size && bad == 0) {
            rc = cache_follow_body(b, &follow, got, v.size - got, iov, 5, &n);
            if (rc <= 0 || !fx_iov_good(c, iov, rc, id, version, got))
                bad++;
            got += n;
            rc = 0;
        }
        if (fx_rnd(&seed) % 4 == 0)
            bad += get(b, fx_rnd(&seed) % KEYS);
    }
    if (rc == 0 && !abort) {
        rc = cache_fill_done(a, &f);
        if (rc == 0)
            m[id].version = m[id].lowest = version;
        /* Not stored: what was there may still be. */
    } else {
        cache_fill_abort(a, &f, false, 7);
        rc = -1;
    }
    cache_follow_view(b, &follow, &v);
    bad += v.state != (rc == -1 ? CACHE_ARRIVAL_FAILED : CACHE_ARRIVAL_DONE);
    if (v.attached && v.size == size && rc == 0 && size > 0) {
        rc = cache_follow_body(b, &follow, size - 1, 1, iov, 5, &n);
        bad += rc != 1 || !fx_iov_good(c, iov, 1, id, version, size - 1);
    }
    cache_follow_leave(b, &follow);
    if (bad)
        printf("# a follower of key %llu saw something else\n", (unsigned long long)id);
    return bad;
}

static void put(struct cache_worker *x, uint64_t id)
{
    version++;
    if (fx_put(x, id, version, some_size(), buf, cache_birth(c, 0)) == 0)
        m[id].version = m[id].lowest = version;
}

static void run(const char *what, const struct cache_options *o, unsigned ops)
{
    unsigned bad = 0, hits = 0;
    struct cache_stat st;

    memset(m, 0, sizeof(m));
    if (cache_create(o, &c) < 0)
        tap_bail("cache");
    for (uint32_t i = 0; i < WORKERS; i++) {
        if (cache_join(c, 1u << 8 | i, NULL, NULL, &w[i]) < 0)
            tap_bail("worker");
    }
    for (unsigned i = 0; i < ops && bad == 0; i++) {
        const uint64_t r = fx_rnd(&seed), id = (r >> 16) % KEYS * ((r >> 40) % KEYS) / KEYS;
        struct cache_worker *x = w[r % WORKERS];
        const struct cache_key k = fx_key(c, id);

        cache_set_time(x, i / 100);
        switch ((r >> 8) % 32) {
        case 0:
            cache_remove(x, &k);
            m[id].lowest = m[id].version + 1;
            break;
        case 1:
            if (fx_rnd(&seed) % 20 == 0) {
                cache_purge(c, 0, CACHE_NAME_ALL, false);
                for (uint32_t j = 0; j < KEYS; j++)
                    m[j].lowest = version + 1;
            }
            break;
        case 2:
        case 3:
            bad += (unsigned)hold(x, id, (r >> 50) % 6);
            break;
        case 4:
        case 5:
            bad += (unsigned)stream(x, w[(r + 1) % WORKERS], id,
                                    fx_rnd(&seed) % 4 ? fx_rnd(&seed) % 40000 : 0);
            break;
        case 6:
        case 7:
        case 8:
        case 9:
        case 10:
        case 11:
        case 12:
        case 13:
            put(x, id);
            break;
        case 14:
            cache_tidy(x);
            break;
        default: {
            struct cache_hit h;

            bad += (unsigned)get(x, id);
            if (cache_lookup(x, &k, NULL, &h)) {
                struct fx_meta meta;
                uint64_t v;

                hits++;
                if ((r >> 60) == 3 && fx_check(x, &h, id, &v) == 1) {
                    const struct cache_attr a = {.fresh = CACHE_FOREVER, .birth = h.attr.birth};

                    cache_refresh(x, &h, &a, NULL, 0, fx_meta(&meta, id, v, h.size));
                }
                cache_release(x, &h);
            }
        }
        }
        if (i % 5000 == 0)
            bad += fx_fsck(c, false) > 0;
    }
    tap_is_int(bad, 0, "%s: %u operations, nothing but what was stored", what, ops);
    for (size_t i = 0; i < 6; i++)
        (void)hold(w[0], UINT64_MAX - i, i);
    cache_stat(c, &st);
    tap_ok(hits > ops / 20, "%s: %u hits (%llu evicted, %llu promoted, %llu no room)", what, hits,
           (unsigned long long)st.ctr[CACHE_CTR_EVICT],
           (unsigned long long)st.ctr[CACHE_CTR_PROMOTE],
           (unsigned long long)st.ctr[CACHE_CTR_NO_ROOM]);
    tap_ok(st.ctr[CACHE_CTR_CORRUPT] == 0, "%s: nothing was damaged", what);
    for (uint32_t i = 0; i < WORKERS; i++)
        cache_leave(&w[i]);
    tap_is_int(fx_fsck(c, true), 0, "%s: fsck is clean", what);
    cache_close(&c);
}

int main(int argc, char **argv)
{
    const unsigned ops = argc > 1 ? (unsigned)atoi(argv[1]) : 40000;
    const struct cache_options tiny = {.size = 256u << 10, .slab = 8192, .slots = 4},
                               small = {.size = 1u << 20, .workers = WORKERS, .slots = 4},
                               pages = {.size = 2u << 20, .slab = 32768, .slots = 4},
                               crowded = {.size = 2u << 20, .objects = 100, .slots = 4},
                               roomy = {.size = 32u << 20, .slots = 4};

    run("tiny", &tiny, ops);
    run("small", &small, ops);
    run("pages", &pages, ops);
    run("crowded index", &crowded, ops);
    run("roomy", &roomy, ops);
    return tap_done();
}
