/* The cache's store: keys, hits, inserts of all sizes, refresh, purges, walks, files. */
#include "base/err.h"
#include "shm/crc32c.h"
#include "t/unit/cache_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static struct cache *c;
static struct cache_worker *w;
static char buf[3u << 20];

static void begin(uint64_t size)
{
    const struct cache_options o = {.size = size, .workers = 2, .slots = 4};

    if (cache_create(&o, &c) < 0 || cache_join(c, 1u << 8, NULL, NULL, &w) < 0)
        tap_bail("set-up");
}

static void end(const char *what)
{
    cache_leave(&w);
    tap_is_int(fx_fsck(c, true), 0, "%s: fsck is clean", what);
    cache_close(&c);
}

static void crc(void)
{
    int bad = 0;

    fx_bytes(buf, 1, 1, 0, 70000);
    tap_is_int(crc32c("123456789", 9), 0xe3069283, "crc32c: the known sum");
    for (size_t n = 0; n < 70000; n += 1 + n / 17) {
        for (size_t o = 0; o < 3; o++)
            bad += crc32c_more(5, buf + o, n) != crc32c_more_plain(5, buf + o, n);
    }
    tap_is_int(bad, 0, "crc32c: instruction and table agree");
    tap_ok(crc32c_more(crc32c(buf, 1000), buf + 1000, 500) == crc32c(buf, 1500),
           "crc32c: continues");
}

static void keys(void)
{
    struct cache_hash h;
    struct cache_key a, b, v;

    begin(4u << 20);
    cache_key_begin(c, &h);
    cache_key_add(&h, SLICE("a"));
    cache_key_add(&h, SLICE("bc"));
    a = cache_key_end(&h);
    cache_key_begin(c, &h);
    cache_key_add(&h, SLICE("ab"));
    cache_key_add(&h, SLICE("c"));
    b = cache_key_end(&h);
    tap_ok(a.k0 != b.k0 && a.k1 != b.k1, "parts are framed");
    cache_key_begin_variant(c, a, 7, &h);
    cache_key_add(&h, SLICE("gzip"));
    v = cache_key_end(&h);
    cache_key_begin_variant(c, a, 8, &h);
    cache_key_add(&h, SLICE("gzip"));
    b = cache_key_end(&h);
    tap_ok(v.k0 != a.k0 && v.k0 != b.k0, "variants depend on value and salt");
    tap_ok(cache_name(c, 1, SLICE("x")) != cache_name(c, 2, SLICE("x")), "names have kinds");
    for (uint32_t s = 1; s < 4000000; s = s * 3 + 1) {
        const uint32_t l = cache_record_long(cache_record_short(s));

        if (l > s || s - l > s / 1024)
            tap_ok(false, "short times: %u became %u", s, l);
    }
    tap_ok(cache_record_long(cache_record_short(CACHE_FOREVER)) == CACHE_FOREVER,
           "short times know for ever");
    end("keys");
}

static void sizes(void)
{
    int wrong = 0;
    uint64_t n = 0;

    begin(16u << 20);
    for (size_t size = 0; size < sizeof(buf);
         size = size < 40 ? size + 1 : size * 9 / 8 + 13, n++) {
        const int rc = fx_put(w, n, n + 1, size, buf, 0);

        if (rc < 0 || fx_get(w, n, NULL) != (int64_t)n + 1) {
            printf("# size %zu: %d, %lld\n", size, rc, (long long)fx_get(w, n, NULL));
            wrong++;
        }
    }
    for (uint32_t d = 0; d < 40; d++, n++) { /* around the edge of a page, meta before the body */
        const size_t size = 2 * c->sb.page_size - sizeof(struct fx_meta) - 20 + d;

        wrong += fx_put(w, n, n + 1, size, buf, 0) < 0 || fx_get(w, n, NULL) != (int64_t)n + 1;
    }
    tap_is_int(wrong, 0, "%d objects from 0 to %zu bytes come back", (int)n, sizeof(buf));
    tap_is_int(fx_put(w, 1, 77, 100, buf, 0), 0, "replaced");
    tap_is_int(fx_get(w, 1, NULL), 77, "the new one is found");
    tap_is_int(fx_put(w, 1, 78, 1 << 20, buf, 0), 0, "replaced by pages");
    tap_is_int(fx_put(w, 1, 79, 1 << 20, buf, 0), 0, "and again");
    tap_is_int(fx_get(w, 1, NULL), 79, "the new one is found");
    tap_is_int(fx_get(w, 999999, NULL), 0, "an unknown key is a miss");
    tap_is_int(fx_put(w, 1, 80, 5 << 20 > sizeof(buf) ? sizeof(buf) : 5 << 20, buf, 0), 0,
               "a large one");
    {
        const struct cache_key k = fx_key(c, 5);
        const struct cache_attr a = {.type = 0};

        tap_is_int(cache_insert(w, &k, &a, NULL, 0, slice_of(buf, 70000), SLICE("")), -ERR_RANGE,
                   "meta larger than a page is refused");
        tap_is_int(cache_insert(w, &k, &a, NULL, 0, SLICE(""), slice_of(buf, 9u << 20)), -ERR_RANGE,
                   "a body larger than allowed is refused");
        fx_put(w, 5, 1, 10, buf, 0);
        tap_is_int(cache_remove(w, &k), 1, "removed");
        tap_is_int(cache_remove(w, &k), 0, "nothing left to remove");
    }
    end("sizes");
}

static void attributes(void)
{
    const uint64_t tags[3] = {11, 22, 33};
    const struct cache_attr a = {.type = CACHE_VARY,
                                 .site = 63,
                                 .user = 0x12345678,
                                 .base = 1000000000,
                                 .fresh = 60,
                                 .swr = 30,
                                 .sie = 2000,
                                 .birth = 5};
    struct cache_attr b = a;
    struct cache_hit h, g;
    struct cache_key k;
    struct iovec v[4];
    size_t n;

    begin(4u << 20);
    k = fx_key(c, 1);
    cache_insert(w, &k, &a, tags, 3, SLICE("the fields"), SLICE("body"));
    tap_is_int(cache_lookup(w, &k, NULL, &h), 1, "found");
    tap_ok(h.attr.type == a.type && h.attr.site == 63 && h.attr.user == a.user &&
               h.attr.base == a.base && h.attr.fresh == 60 && h.attr.swr == 30 &&
               h.attr.sie == 2000 && h.attr.birth == 5,
           "attributes come back");
    tap_ok(h.ntags == 3 && h.tags[2] == 33 && slice_eq(h.meta, SLICE("the fields")) && h.size == 4,
           "tags, meta and size too");
    b.fresh = 99;
    tap_is_int(cache_refresh(w, &h, &b, tags, 1, SLICE("newer and longer fields")), 0, "refreshed");
    tap_is_int(cache_refresh(w, &h, &b, tags, 1, SLICE("x")), -ERR_NOENT, "but once only");
    tap_is_int(cache_lookup(w, &k, NULL, &g), 1, "found");
    tap_ok(g.attr.fresh == 99 && g.ntags == 1 &&
               slice_eq(g.meta, SLICE("newer and longer fields")) && g.version > h.version &&
               cache_body(w, &g, 0, 4, v, 4, &n) == 1 && n == 4 &&
               memcmp(v[0].iov_base, "body", 4) == 0,
           "with the old body");
    tap_ok(slice_eq(h.meta, SLICE("the fields")), "the old hit is what it was");
    cache_release(w, &g);
    tap_is_int(cache_drop(w, &h), 0, "an old hit drops nothing");
    cache_release(w, &h);
    cache_release(w, &h);
    /* The same with pages: two copies of the head, one of the body. */
    fx_put(w, 2, 9, 900000, buf, 0);
    k = fx_key(c, 2);
    cache_lookup(w, &k, NULL, &h);
    {
        struct cache_stat s1, s2;
        struct fx_meta m;

        cache_stat(c, &s1);
        tap_is_int(cache_refresh(w, &h, &b, NULL, 0, fx_meta(&m, 2, 9, 900000)), 0,
                   "a body of pages is refreshed");
        cache_stat(c, &s2);
        tap_is_int(s2.pages_used, s1.pages_used, "without a page more");
    }
    cache_release(w, &h);
    tap_is_int(fx_get(w, 2, NULL), 9, "its bytes are right");
    cache_lookup(w, &k, NULL, &h);
    tap_is_int(cache_drop(w, &h), 1, "a hit is dropped");
    {
        uint64_t version;

        tap_is_int(fx_check(w, &h, 2, &version), 1, "and can be read to its end");
        void *keep = malloc(cache_hit_detach_size(&h));

        tap_ok(cache_body(w, &h, 100000, 1000, v, 4, &n) > 0 && fx_iov_good(c, v, 1, 2, 9, 100000),
               "a range");
        cache_hit_detach(w, &h, keep);
        tap_ok(cache_body(w, &h, 899990, 1000, v, 4, &n) == 1 && n == 10 &&
                   ((unsigned char *)v[0].iov_base)[9] == fx_byte(2, 9, 899999),
               "detached: its end");
        tap_ok(cache_body(w, &h, 5, 1000, v, 4, &n) > 0 && fx_iov_good(c, v, 1, 2, 9, 5),
               "detached: its beginning");
        cache_release(w, &h);
        free(keep);
    }
    tap_is_int(fx_get(w, 2, NULL), 0, "gone");
    end("attributes");
}

static unsigned names_of(const void *arg, uint64_t *ret)
{
    memcpy(ret, arg, 2 * sizeof(*ret));
    return 2;
}

static void purges(void)
{
    uint64_t names[2], tag, other;
    struct cache_scope s = {.site = 3, .names = names_of, .arg = names};
    struct cache_attr a = {.site = 3, .fresh = 10};
    struct cache_hit h;
    struct cache_key k;

    begin(4u << 20);
    names[0] = cache_name(c, 1, SLICE("/a/"));
    names[1] = cache_name(c, 2, SLICE("host"));
    tag = cache_name(c, 3, SLICE("tag"));
    other = cache_name(c, 3, SLICE("other"));
    k = fx_key(c, 1);
#define PUT() (a.birth = cache_birth(c, 3), cache_insert(w, &k, &a, &tag, 1, SLICE(""), SLICE("x")))
#define GET() cache_lookup(w, &k, &s, &h)
    PUT();
    tap_is_int(GET(), 1, "found");
    cache_release(w, &h);
    cache_purge(c, 3, other, false);
    tap_is_int(GET(), 1, "a purge of another tag does nothing");
    cache_release(w, &h);
    cache_purge(c, 4, tag, false);
    tap_is_int(GET(), 1, "nor one of the same tag at another site");
    cache_release(w, &h);
    cache_purge(c, 3, tag, false);
    tap_is_int(GET(), 0, "purged by tag");
    PUT();
    tap_is_int(GET(), 1, "stored again");
    cache_release(w, &h);
    cache_purge(c, 3, names[0], false);
    tap_is_int(GET(), 0, "purged by prefix");
    PUT();
    cache_purge(c, UINT32_MAX, names[1], false);
    tap_is_int(GET(), 0, "purged by host, everywhere");
    PUT();
    cache_purge(c, UINT32_MAX, CACHE_NAME_ALL, false);
    tap_is_int(GET(), 0, "purged with all");
    PUT();
    cache_purge(c, 3, tag, true);
    tap_ok(GET() == 1 && h.soft, "softly purged: found, stale");
    cache_release(w, &h);
    tap_ok(GET() == 1 && h.soft, "and again");
    cache_release(w, &h);
    PUT();
    tap_ok(GET() == 1 && !h.soft, "a new one is fresh");
    cache_release(w, &h);
    a.birth = cache_birth(c, 3);
    cache_purge(c, 3, tag, false);
    cache_insert(w, &k, &a, &tag, 1, SLICE(""), SLICE("x"));
    tap_is_int(GET(), 0, "a purge during the fetch reaches its answer");
    end("purges");
}

/* What a follower is told of the head, and whom purges keep from following. */
static void arriving(void)
{
    const uint64_t tag = 77;
    uint64_t names[2];
    const struct cache_scope s = {.site = 0xabcd, .names = names_of, .arg = names};
    const struct cache_attr a = {.type = CACHE_OBJECT,
                                 .site = 0xabcd,
                                 .user = 0x12345678,
                                 .base = 1000000000,
                                 .fresh = 60,
                                 .swr = 30,
                                 .sie = 2000};
    struct cache_fill lead, next, unused;
    struct cache_follow f, g;
    struct cache_view v;
    struct cache_hit h;
    struct cache_key k;

    begin(4u << 20);
    names[0] = cache_name(c, 1, SLICE("/a/"));
    names[1] = cache_name(c, 2, SLICE("host"));
    k = fx_key(c, 1);
    tap_is_int(cache_claim(w, &k, &s, 0, &lead, &f), CACHE_LEAD, "the first leads");
    tap_is_int(cache_claim(w, &k, &s, 0, &unused, &f), CACHE_FOLLOW, "the second follows");
    cache_fill_head(w, &lead, &a, &tag, 1, SLICE("the fields"), 3);
    cache_follow_view(w, &f, &v);
    tap_ok(v.attached && v.attr.type == a.type && v.attr.site == a.site && v.attr.user == a.user &&
               v.attr.base == a.base && v.attr.fresh == a.fresh && v.attr.swr == a.swr &&
               v.attr.sie == a.sie && v.attr.birth == lead.attr.birth,
           "and sees all attributes");
    tap_ok(v.ntags == 1 && v.tags[0] == tag && slice_eq(v.meta, SLICE("the fields")),
           "tags and fields");
    cache_purge(c, 0xabcd, cache_name(c, 1, SLICE("/b/")), false);
    tap_is_int(cache_claim(w, &k, &s, 0, &unused, &g), CACHE_FOLLOW,
               "a purge of another name keeps nobody away");
    cache_follow_leave(w, &g);
    cache_purge(c, 0xabcd, tag, false);
    tap_ok(!cache_purged(c, &s, NULL, 0, v.attr.birth) &&
               cache_purged(c, &s, v.tags, v.ntags, v.attr.birth),
           "one of its tag is seen by who knows its tags");
    cache_purge(c, 0xabcd, names[0], true);
    tap_is_int(cache_claim(w, &k, &s, 0, &next, &g), CACHE_LEAD,
               "after one of its name, be it softly, it is asked for anew");
    tap_is_int(cache_claim(w, &k, &s, 0, &unused, &g), CACHE_FOLLOW, "once");
    cache_fill_head(w, &next, &a, &tag, 1, SLICE(""), 3);
    cache_fill_append(w, &next, SLICE("new"));
    tap_is_int(cache_fill_done(w, &next), 0, "the new one is stored");
    cache_fill_append(w, &lead, SLICE("old"));
    tap_is_int(cache_fill_done(w, &lead), -ERR_EXIST, "the old one is late");
    cache_follow_view(w, &f, &v);
    tap_ok(v.state == CACHE_ARRIVAL_DONE && v.size == 3, "but complete for who follows it");
    cache_follow_leave(w, &f);
    cache_follow_leave(w, &g);
    tap_ok(cache_lookup(w, &k, &s, &h) == 1 && !h.soft && h.attr.site == a.site, "found");
    cache_release(w, &h);
    end("arriving");
}

struct newer {
    uint64_t first, n;
};

static void count_newer(void *arg, struct cache_hit *h)
{
    struct newer *c_newer = arg;
    struct fx_meta m;

    memcpy(&m, h->meta.p, sizeof(m));
    c_newer->n += m.id >= c_newer->first;
}

/* What comes changes from small to large and back: nothing stays behind in the wrong shape. */
static void shifts(void)
{
    static const size_t sizes[] = {300, 1000000, 200, 30000, 700, 2500000, 4000};
    const struct cache_options o = {.size = 16u << 20, .workers = 2, .slots = 4, .objects = 100000};
    uint64_t id = 0, failed = 0;
    struct cache_stat st;

    if (cache_create(&o, &c) < 0 || cache_join(c, 1u << 8, NULL, NULL, &w) < 0)
        tap_bail("set-up");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const size_t each = sizes[i] + sizeof(struct fx_meta) + sizeof(struct cache_rec);
        struct newer newer = {.first = id};
        uint64_t cursor = 0;

        for (; id < newer.first + 3 * (16u << 20) / each; id++)
            failed += fx_put(w, id, 1, sizes[i], buf, 0) < 0;
        while (cache_walk(w, &cursor, 1000, count_newer, &newer))
            ;
        cache_stat(c, &st);
        tap_ok(newer.n * each + sizes[i] > (16u << 20) / 100 * 85,
               "%zu bytes: %llu of them fit, %.1f %% (%u slabs free, %u of pages)", sizes[i],
               (unsigned long long)newer.n, (double)(newer.n * each) / (16 << 20) * 100,
               st.slabs_free, st.slabs_paged);
    }
    tap_is_int(failed, 0, "everything was stored");
    end("shifts");
}

static void count(void *arg, struct cache_hit *h)
{
    *(uint64_t *)arg += h->meta.n;
}

static void walks(void)
{
    uint64_t cursor = 0, sum = 0;
    struct cache_stat st;
    struct cache_key k;

    begin(4u << 20);
    for (uint64_t i = 0; i < 500; i++)
        fx_put(w, i, 1, i % 5 == 0 ? 20000 : 100, buf, 0);
    while (cache_walk(w, &cursor, 7, count, &sum))
        ;
    tap_is_int(sum / sizeof(struct fx_meta), 500, "a walk sees each object");
    cache_stat(c, &st);
    tap_is_int(st.objects, 500, "stat counts them");
    tap_is_int(st.bodies, 100, "and bodies");
    tap_is_int(st.ctr[CACHE_CTR_INSERT], 500, "and inserts");
    k = fx_key(c, 77777);
    tap_ok(cache_uses(w, &k) == 1 && cache_uses(w, &k) == 2, "uses are counted");
    for (int i = 0; i < 9; i++)
        cache_uses(w, &k);
    tap_is_int(cache_uses(w, &k), 7, "to seven");
    end("walks");
}

static void files(void)
{
    const struct cache_options o = {.size = 2u << 20, .slots = 4},
                               p = {.size = 4u << 20, .slots = 4};
    struct cache *was;
    char path[64];
    bool kept;

    snprintf(path, sizeof(path), "/dev/shm/rpd-cache-test-%ld", (long)getpid());
    if (cache_open_file(path, &o, &c, &kept, &was) < 0) {
        tap_ok(true, "files: no tmpfs here, SKIP");
        return;
    }
    tap_ok(!kept, "a new file");
    cache_join(c, 1u << 8, NULL, NULL, &w);
    fx_put(w, 1, 5, 100, buf, 0);
    fx_put(w, 2, 6, 300000, buf, 0);
    cache_leave(&w);
    cache_close(&c);
    tap_ok(cache_open_file(path, &o, &c, &kept, &was) == 0 && kept, "is kept");
    cache_reap_all(c);
    cache_join(c, 2u << 8, NULL, NULL, &w);
    tap_ok(fx_get(w, 1, NULL) == 5 && fx_get(w, 2, NULL) == 6, "with what was in it");
    tap_ok(cache_fits(c, &o) && !cache_fits(c, &p), "it fits its own options only");
    cache_leave(&w);
    memset(c->base, 0xff, 100); /* superblock A; B is left */
    cache_close(&c);
    tap_ok(cache_open_file(path, &o, &c, &kept, &was) == 0 && kept, "one superblock is enough");
    memset(c->base, 0xff, 8192);
    cache_close(&c);
    tap_ok(cache_open_file(path, &o, &c, &kept, &was) == 0 && !kept, "a broken file is replaced");
    cache_close(&c);
    tap_ok(cache_open_file(path, &p, &c, &kept, &was) == 0 && !kept, "another geometry too");
    tap_ok(was && cache_fits(was, &o), "what it was is the caller's");
    cache_close(&was);
    cache_close(&c);
    tap_ok(truncate(path, 5000) == 0 && cache_open_file(path, &p, &c, &kept, &was) == 0 && !kept,
           "a short one too");
    cache_close(&c);
    tap_ok(chmod(path, 0644) == 0 && cache_open_file(path, &p, &c, &kept, &was) == -ERR_INVAL,
           "a file that others may read is refused");
    unlink(path);
    tap_is_int(cache_open_file("/proc/self/status", &p, &c, &kept, &was), -ERR_INVAL,
               "so is no file");
    {
        struct cache *d;
        const struct cache_options bad = {.size = 1000};
        int fd;

        tap_is_int(cache_create(&bad, &d), -ERR_RANGE, "too small is refused");
        cache_create(&o, &c);
        fd = dup(cache_fd(c));
        tap_is_int(cache_attach(fd, &d), 0, "an inherited fd is attached");
        cache_join(c, 1u << 8, NULL, NULL, &w);
        fx_put(w, 1, 5, 100, buf, 0);
        cache_leave(&w);
        cache_join(d, 1u << 8 | 1, NULL, NULL, &w);
        tap_is_int(fx_get(w, 1, NULL), 5, "and is the same memory");
        cache_leave(&w);
        cache_close(&d);
        cache_close(&c);
    }
}

static void geometries(void)
{
    static const uint64_t sizes[] = {1,   2,   3,   16,   17,   64,     100,
                                     256, 512, 999, 1024, 8192, 102400, 1048576};
    int bad = 0;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (uint32_t n = 1; n <= 256; n *= 4) {
            const struct cache_options o = {.size = sizes[i] << 20, .workers = n};
            struct cache g = {.fd = -1};

            if (cache_layout(&g, &o) < 0 || g.sb.size > o.size + o.size / 16 + (48u << 20)) {
                printf("# %llu MiB, %u workers: slab %u, meta %llu\n", (unsigned long long)sizes[i],
                       n, g.sb.slab_size, (unsigned long long)(g.sb.size - g.sb.data));
                bad++;
            }
        }
    }
    tap_is_int(bad, 0, "every size from 1 MiB to 1 TiB has a layout");
}

int main(void)
{
    crc();
    keys();
    geometries();
    sizes();
    attributes();
    shifts();
    purges();
    arriving();
    walks();
    files();
    return tap_done();
}
