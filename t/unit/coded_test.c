/* Encoded copies beside stored answers: whose they are, when they are nobody's any more, which are
 * hot. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "shm/cache_promote.h"
#include "t/unit/tap.h"
#include "worker/cache/coded.h"

static struct cache *c;
static struct cache_worker *w;

static struct cache_key key_of(const char *name)
{
    struct cache_hash h;
    cache_key_begin(c, &h);
    cache_key_add(&h, slice_str(name));
    return cache_key_end(&h);
}

static void put(const char *name, const char *body)
{
    const struct cache_key k = key_of(name);
    const struct cache_attr a = {.type = CACHE_OBJECT, .base = 1000, .fresh = 60, .user = 200};
    tap_is_int(cache_insert(w, &k, &a, NULL, 0, SLICE("meta"), slice_str(body)), 0, "%s is stored",
               name);
}

static struct cache_hit find(const char *name)
{
    const struct cache_key k = key_of(name);
    struct cache_hit h;
    if (!cache_lookup(w, &k, &coded_beside, &h))
        h.word = 0;
    return h;
}

static void put_copy(const struct cache_hit *of, uint8_t coding, const char *body)
{
    const struct cache_key k = coded_key(c, of->key, coding);
    const struct coded m = {.version = of->version, .size = of->size, .coding = coding};
    struct cache_attr a;
    char meta[CODED_META];
    coded_attr(of, &a);
    tap_is_int(cache_insert(w, &k, &a, NULL, 0, coded_write(&m, meta), slice_str(body)), 0,
               "a copy is stored");
}

static bool has(const struct cache_hit *of, uint8_t coding, const char *body)
{
    struct cache_hit h;
    struct coded k;
    struct iovec v[4];
    uint64_t seen;
    size_t n = 0;
    if (!coded_find(w, c, of, coding, &h, &k, &seen))
        return false;
    const int e = cache_body(w, &h, 0, h.size, v, 4, &n);
    const bool ok = e == 1 && n == strlen(body) && !memcmp(v[0].iov_base, body, n) &&
                    h.attr.type == CACHE_ENCODED && h.attr.base == of->attr.base &&
                    seen == h.version && k.coding == coding;
    cache_release(w, &h);
    return ok;
}

static void test_meta(void)
{
    const struct coded k = {.version = 77, .size = 1ull << 40, .coding = 3, .best = true};
    struct coded got;
    char meta[CODED_META];
    const struct slice s = coded_write(&k, meta);
    tap_ok(coded_read(s, &got) == 0 && got.version == k.version && got.size == k.size &&
               got.coding == 3 && got.best,
           "meta comes back");
    tap_is_int(coded_read(slice_of(meta, CODED_META - 1), &got), -ERR_CORRUPT, "too short");
    tap_is_int(coded_read(SLICE_NONE, &got), -ERR_CORRUPT, "nothing");
}

static void test_copies(void)
{
    struct cache_hit a, copy;
    struct coded k;
    struct cache_stat stat;
    uint64_t seen;
    put("a", "the body of a");
    put("b", "another body");
    a = find("a");
    tap_ok(!coded_find(w, c, &a, 1, &copy, &k, &seen) && seen == 0, "no copy yet");
    put_copy(&a, 1, "A1");
    put_copy(&a, 2, "A2");
    tap_ok(has(&a, 1, "A1") && has(&a, 2, "A2") && !has(&a, 3, "A1"), "a copy per coding");
    struct cache_hit b = find("b");
    tap_ok(!has(&b, 1, "A1"), "not those of others");
    cache_release(w, &b);
    cache_stat(c, &stat);
    cache_stat_encoded(c, &stat);
    tap_ok(stat.encoded == 2 && stat.encoded_bytes == 4 && stat.objects == 4, "counted");
    tap_is_int((long long)stat.ctr[CACHE_CTR_HIT] + (long long)stat.ctr[CACHE_CTR_MISS], 0,
               "neither hits nor misses");

    /* A renewal: another version, the same body. */
    struct cache_attr fresh = a.attr;
    fresh.base = 2000;
    tap_is_int(cache_refresh(w, &a, &fresh, NULL, 0, SLICE("new meta")), 0, "renewed");
    struct cache_hit now = find("a");
    tap_ok(now.version != a.version && !has(&now, 1, "A1"), "the copies are nobody's");
    coded_renew(w, c, &a, 7);
    tap_ok(has(&now, 1, "A1") && has(&now, 2, "A2"), "and its again");
    tap_ok(!has(&a, 1, "A1"), "not those of what was before");
    cache_release(w, &now);
    cache_release(w, &a);

    /* Another answer. */
    put("a", "a later body!");
    now = find("a");
    tap_ok(!coded_find(w, c, &now, 1, &copy, &k, &seen) && seen != 0, "what stands there is old");
    put_copy(&now, 1, "new A1");
    tap_ok(has(&now, 1, "new A1"), "and is replaced");
    cache_release(w, &now);

    /* What has the key and is no copy. */
    a = find("b");
    const struct cache_key at = coded_key(c, a.key, 1);
    struct cache_attr attr = a.attr;
    tap_ok(cache_insert(w, &at, &attr, NULL, 0, SLICE("meta"), SLICE("x")) == 0 && !has(&a, 1, "x"),
           "an object of another type");
    coded_attr(&a, &attr);
    tap_ok(cache_insert(w, &at, &attr, NULL, 0, SLICE("meta"), SLICE("x")) == 0 && !has(&a, 1, "x"),
           "meta of another form");
    cache_release(w, &a);
}

static void test_heat(void)
{
    static struct coded_heat h;
    const struct cache_key a = {1, 5}, b = {2, 6}, neighbour = {3, 5 | 1};
    unsigned hot = 0;
    for (unsigned i = 0; i < 12; i++)
        hot += coded_hot(&h, &a, 4);
    tap_is_int(hot, 3, "each fourth time");
    tap_ok(!coded_hot(&h, &b, 4) && !coded_hot(&h, &neighbour, 4), "neighbours begin anew");
    tap_ok(coded_hot(&h, &b, 1), "once is enough where one is");
}

/* Both caches count on, each for itself, while objects go from one to the other: no copy may find
 * an answer there that has the version of its own here. */
static void test_promoted(void)
{
    const struct cache_options o = {.size = 8u << 20, .workers = 1};
    struct cache *const from = c, *to;
    struct cache_worker *const fw = w, *tw, *fp, *tp;
    struct cache_promote_base base;
    struct cache_promote *p;
    struct cache_hit a;
    unsigned wrong = 0;
    put("before", "as it was");
    a = find("before");
    put_copy(&a, 1, "B1");
    cache_release(w, &a);
    if (cache_create(&o, &to) < 0)
        tap_bail("cache");
    cache_promote_adopt(to, from, &base);
    if (cache_join(to, 1, NULL, NULL, &tw) < 0 ||
        cache_join(from, 1u << 8 | 1, NULL, NULL, &fp) < 0 ||
        cache_join(to, 1u << 8 | 1, NULL, NULL, &tp) < 0 ||
        cache_promote_open(fp, tp, &base, &p) < 0)
        tap_bail("promoter");
    cache_set_time(tw, 1000);
    put("moved", "what it says");
    a = find("moved");
    put_copy(&a, 1, "M1");
    cache_release(w, &a);
    while (cache_promote_step(p, 1000))
        ;
    c = to;
    w = tw;
    a = find("before");
    tap_ok(a.word && has(&a, 1, "B1"), "a copy goes over with its answer");
    cache_release(w, &a);
    for (int i = 0; i < 8; i++) {
        put("moved", "says another");
        a = find("moved");
        wrong += has(&a, 1, "M1");
        cache_release(w, &a);
    }
    tap_is_int(wrong, 0, "and belongs to none of the new cache's own");
    cache_promote_close(&p);
    cache_leave(&fp);
    cache_leave(&tp);
    cache_leave(&tw);
    cache_close(&to);
    c = from;
    w = fw;
}

int main(void)
{
    const struct cache_options o = {.size = 4u << 20, .workers = 1};
    if (!tap_ok(cache_create(&o, &c) == 0 && cache_join(c, 1, NULL, NULL, &w) == 0, "a cache"))
        return tap_done();
    clock_update();
    cache_set_time(w, 1000);
    test_meta();
    test_copies();
    test_promoted();
    test_heat();
    cache_leave(&w);
    struct buf findings;
    buf_init(&findings, 0);
    tap_is_int(cache_fsck(c, true, &findings), 0, "fsck");
    buf_fini(&findings);
    cache_close(&c);
    return tap_done();
}
