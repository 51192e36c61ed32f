/* Meta of stored answers: bounds; names for purges: which ways of writing a URL are the same. */
#include "base/err.h"
#include "shm/cache_meta.h"
#include "t/unit/tap.h"

#include <stdio.h>

static struct cache *cache;

static void test_meta(void)
{
    struct cache_meta m, bad;
    char url[64];
    cache_meta_init(&m, 200, 2, 10, 20, 3, 4, 5);
    tap_ok(cache_meta_fits(&m, sizeof m + 42), "fits");
    tap_ok(!cache_meta_fits(&m, sizeof m + 41) && !cache_meta_fits(&m, sizeof m + 43),
           "exactly only");
    bad = m;
    bad.version++;
    tap_ok(!cache_meta_fits(&bad, sizeof m + 42), "another version");
    bad = m;
    bad.url = UINT16_MAX;
    bad.fields = 53; /* as 32 bits the sum would fit */
    bad.server = bad.hsts = bad.secret = 0;
    tap_ok(!cache_meta_fits(&bad, sizeof m + 52), "no overflow");
    size_t n =
        cache_meta_url(url, sizeof url, SLICE("https"), SLICE("h:1"), SLICE("/p"), SLICE("q=1"));
    tap_is_str(slice_of(url, n), "https://h:1/p?q=1", "URL");
    n = cache_meta_url(url, sizeof url, SLICE("http"), SLICE("h"), SLICE("/"), SLICE_NONE);
    tap_is_str(slice_of(url, n), "http://h/", "without a query");
    n = cache_meta_url(url, sizeof url, SLICE("http"), SLICE("h"), SLICE("/"), SLICE(""));
    tap_is_str(slice_of(url, n), "http://h/?", "with an empty one");
    tap_is_int((long long)cache_meta_url(url, 9, SLICE("http"), SLICE("h"), SLICE("/"), SLICE("")),
               0, "one byte too few");
}

static uint64_t name(enum cache_kind kind, const char *text)
{
    struct cache_meta_target t;
    uint64_t v;
    if (cache_meta_parse(slice_str(text), &t) < 0 || cache_meta_name(cache, kind, &t, &v) < 0)
        return 0;
    return v;
}

/* Whether a request for url carries the name of what. */
static bool carries(const char *url, enum cache_kind kind, const char *what)
{
    struct cache_meta_target t;
    uint64_t v[CACHE_NAMES], want = name(kind, what);
    if (!want || cache_meta_parse(slice_str(url), &t) < 0)
        return false;
    unsigned n = cache_meta_names(cache, t.host, t.path, t.query, v);
    for (unsigned i = 0; i < n; i++) {
        if (v[i] == want)
            return true;
    }
    return false;
}

static void test_names(void)
{
    static const struct {
        const char *url, *what;
        enum cache_kind kind;
        bool yes;
    } cases[] = {
        {"http://h/a", "https://H:8443/a", CACHE_KIND_URL, true},
        {"http://h/a", "h/a", CACHE_KIND_URL, true},
        {"http://h./a", "h/a", CACHE_KIND_URL, true},
        {"http://h/a", "h/A", CACHE_KIND_URL, false},
        {"http://h/a?b", "h/a", CACHE_KIND_URL, false},
        {"http://h/a?", "h/a", CACHE_KIND_URL, false},
        {"http://h/a?b", "h/a?b#c", CACHE_KIND_URL, true},
        {"http://h", "h/", CACHE_KIND_URL, true},
        {"http://h?b", "h/?b", CACHE_KIND_URL, true},
        {"http://h/%7ea%2f", "h/~a%2F", CACHE_KIND_URL, true},
        {"http://h/%2f", "h//", CACHE_KIND_URL, false},
        {"http://h/%", "h/%", CACHE_KIND_URL, true},
        {"http://h/%4", "h/%4", CACHE_KIND_URL, true},
        {"http://h/%zz", "h/%zz", CACHE_KIND_URL, true},
        {"http://h/?%41", "h/?A", CACHE_KIND_URL, true},
        {"http://[::1]:80/", "[::1]/", CACHE_KIND_URL, true},
        {"http://[::1]/", "[::2]/", CACHE_KIND_URL, false},
        {"http://h/a/b/c", "h/", CACHE_KIND_PREFIX, true},
        {"http://h/a/b/c", "http://h/a/b/", CACHE_KIND_PREFIX, true},
        {"http://h/a/b/", "h/a/b/", CACHE_KIND_PREFIX, true},
        {"http://h/a/b", "h/a/b/", CACHE_KIND_PREFIX, false},
        {"http://h/a/b?x/", "h/a/b?x/", CACHE_KIND_PREFIX, false},
        {"http://h/aa/b", "h/a/", CACHE_KIND_PREFIX, false},
        {"http://h/a%2fb/", "h/a/", CACHE_KIND_PREFIX, false},
        {"http://i/a/", "h/a/", CACHE_KIND_PREFIX, false},
        {"http://H:1/a", "h", CACHE_KIND_HOST, true},
        {"http://www.h/a", "h", CACHE_KIND_HOST, false},
        /* Kinds are kept apart. */
        {"http://h/", "h", CACHE_KIND_TAG, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        tap_ok(carries(cases[i].url, cases[i].kind, cases[i].what) == cases[i].yes, "%s %s %s",
               cases[i].url, cases[i].yes ? "is purged by" : "is not purged by", cases[i].what);
}

static void test_bounds(void)
{
    static char text[20000];
    struct cache_meta_target t;
    uint64_t v[CACHE_NAMES], one;
    int n = snprintf(text, sizeof text, "http://h/");
    for (int i = 0; i < 40; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "d/");
    tap_is_int(cache_meta_parse(slice_str(text), &t), 0, "forty directories");
    tap_is_int(cache_meta_names(cache, t.host, t.path, t.query, v), 18, "sixteen have a name");
    tap_is_int(cache_meta_name(cache, CACHE_KIND_PREFIX, &t, &one), -ERR_RANGE, "the last has not");
    t.path.n = 16 * 2 - 1;
    tap_is_int(cache_meta_name(cache, CACHE_KIND_PREFIX, &t, &one), 0, "the sixteenth has");
    tap_ok(v[16] == one, "that of every request below it");
    t.path.n += 2;
    tap_is_int(cache_meta_name(cache, CACHE_KIND_PREFIX, &t, &one), -ERR_RANGE, "the next has not");
    memset(text + n, 'x', sizeof text - 1 - (size_t)n);
    tap_is_int(cache_meta_parse(slice_str(text), &t), 0, "20,000 bytes");
    tap_is_int(cache_meta_names(cache, t.host, t.path, t.query, v), 17, "have no name as a URL");
    tap_is_int(cache_meta_name(cache, CACHE_KIND_URL, &t, &one), -ERR_RANGE, "which is told");
    static const char *const wrong[] = {"",
                                        "http://",
                                        "/a",
                                        ":80/a",
                                        "http://u@h/",
                                        "http://h/a b",
                                        "http://h/\n",
                                        "https://:443/"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        tap_is_int(cache_meta_parse(slice_str(wrong[i]), &t), -ERR_INVAL, "no URL: \"%s\"",
                   wrong[i]);
    tap_ok(cache_meta_site(SLICE("Example.COM:8080")) == cache_meta_site(SLICE("example.com")),
           "one shard for a host, however it is written");
    memset(text, 'h', sizeof text);
    tap_ok(cache_meta_site(slice_of(text, sizeof text)) < CACHE_SITES, "a host too long");
}

/* What rpctl sees of an object, before and after purges. */
struct seen {
    struct cache_worker *w;
    int n, rc;
    bool soft;
    char url[64];
};

static void look(void *arg, struct cache_hit *h)
{
    struct seen *s = arg;
    struct cache_meta_view v;
    s->n++;
    s->rc = cache_meta_look(s->w, h, &v);
    s->soft = v.soft;
    (void)snprintf(s->url, sizeof s->url, SLICE_FMT, SLICE_ARG(v.url));
}

static struct seen see(struct cache_worker *w)
{
    struct seen s = {.w = w};
    uint64_t cursor = 0;
    while (cache_walk(w, &cursor, 64, look, &s))
        ;
    return s;
}

static void put(struct cache_worker *w, struct slice meta)
{
    struct cache_hash h;
    uint32_t site = cache_meta_site(SLICE("h"));
    const uint64_t tag = cache_name(cache, CACHE_KIND_TAG, SLICE("red"));
    struct cache_attr a = {
        .type = CACHE_OBJECT, .site = (uint8_t)site, .birth = cache_birth(cache, site)};
    cache_key_begin(cache, &h);
    cache_key_add(&h, SLICE("k"));
    struct cache_key k = cache_key_end(&h);
    tap_is_int(cache_insert(w, &k, &a, &tag, 1, meta, SLICE("body")), 0, "stored");
}

static void test_look(void)
{
    struct cache_worker *w;
    struct cache_meta m;
    struct seen s;
    char meta[sizeof m + 64];
    uint64_t v = name(CACHE_KIND_PREFIX, "h/a/");
    uint32_t site = cache_meta_site(SLICE("h"));
    if (!tap_ok(cache_join(cache, 1 << 8, NULL, NULL, &w) == 0, "joined"))
        return;
    cache_set_time(w, 1000);
    size_t url =
        cache_meta_url(meta + sizeof m, 64, SLICE("http"), SLICE("h"), SLICE("/a/b"), SLICE_NONE);
    cache_meta_init(&m, 200, 1, url, 2, 0, 0, 1);
    memcpy(meta, &m, sizeof m);
    memcpy(meta + sizeof m + url, "FFs", 3);
    struct slice all = slice_of(meta, sizeof m + url + 3);
    put(w, all);
    s = see(w);
    tap_ok(s.n == 1 && s.rc == 0 && !s.soft, "seen");
    tap_is_str(slice_str(s.url), "http://h/a/b", "its URL");
    cache_purge(cache, site, v, true);
    s = see(w);
    tap_ok(s.rc == 0 && s.soft, "softly purged");
    cache_purge(cache, site, v, false);
    s = see(w);
    tap_is_int(s.rc, -ERR_NOENT, "purged by its prefix");
    tap_is_str(slice_str(s.url), "http://h/a/b", "its URL is told all the same");
    put(w, all);
    tap_is_int(see(w).rc, 0, "stored anew");
    cache_purge(cache, UINT32_MAX, cache_name(cache, CACHE_KIND_TAG, SLICE("red")), false);
    tap_is_int(see(w).rc, -ERR_NOENT, "purged by its tag");
    put(w, all);
    cache_purge(cache, UINT32_MAX, CACHE_NAME_ALL, false);
    tap_is_int(see(w).rc, -ERR_NOENT, "purged with all");
    put(w, slice_of(meta, all.n - 1));
    tap_is_int(see(w).rc, -ERR_CORRUPT, "meta that does not fit");
    put(w, SLICE(""));
    tap_is_int(see(w).rc, -ERR_CORRUPT, "none");
    cache_leave(&w);
}

int main(void)
{
    const struct cache_options o = {.size = 1 << 20};
    if (!tap_ok(cache_create(&o, &cache) == 0, "a cache"))
        return tap_done();
    test_meta();
    test_names();
    test_bounds();
    test_look();
    cache_close(&cache);
    return tap_done();
}
