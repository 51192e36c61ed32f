/* What is kept of an answer beside its body: written, read back, refused when damaged. */
#include "worker/cache/stored.h"

#include "base/err.h"
#include "shm/cache_meta.h"
#include "t/unit/tap.h"

#include <stdio.h>
#include <string.h>

static struct cache_store store;
static struct cache_rules rules;
static struct conf_cache conf;
static char text[65536];

#define F(n, v)                                                                                    \
    {                                                                                              \
        .name = SLICE(n), .value = SLICE(v)                                                        \
    }

static struct http_response answer(struct http_field *f, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        f[i].id = http_field_id_of(f[i].name);
        f[i].flags = http_field_flags(f[i].id);
    }
    return (struct http_response){.status = 200, .major = 2, .field = f, .nfield = n};
}

static const struct cache_target target = {
    .scheme = {"https", 5}, .host = {"a.test", 6}, .path = {"/x", 2}, .query = {"y=1", 3}};

static bool write_it(const struct http_response *r, struct slice date, struct head_out *o,
                     struct stored_tags *tags)
{
    struct cache_control cc;
    *o = (struct head_out){.p = text, .cap = sizeof text};
    (void)cache_control_of_response(r->field, r->nfield, true, &cc);
    return stored_write(o, &store, &rules, &cc, &target, r, date, tags);
}

static void test_round(void)
{
    struct http_field f[] = {F("Server", "them"),
                             F("Content-Type", "text/plain"),
                             F("Surrogate-Key", "one two, three"),
                             F("Connection", "close"),
                             F("Strict-Transport-Security", "max-age=1"),
                             F("RPD-Cache-Control", "max-age=5"),
                             F("X-Request-Id", "abc"),
                             F("Age", "7"),
                             F("X-Foo", "bar")};
    const struct http_response r = answer(f, sizeof f / sizeof f[0]);
    struct head_out o;
    struct stored_tags tags;
    struct stored st;
    const struct cache_attr attr = {
        .base = 5, .fresh = 60, .swr = 1, .sie = 2, .user = stored_user(200, POLICY_SHARED)};
    tap_ok(write_it(&r, SLICE("Sat, 21 Nov 2026 08:00:00 GMT"), &o, &tags), "an answer is written");
    tap_ok(tags.n == 3, "three tags");
    tap_ok(tags.v[1] == cache_name(store.c, CACHE_KIND_TAG, SLICE("two")),
           "named as purges name them");
    tap_ok(stored_read(slice_of(o.p, o.n), &attr, &st) == 0, "and read");
    tap_ok(st.status == 200 && st.major == 2, "status and version");
    tap_ok(slice_eq(st.url, SLICE("https://a.test/x?y=1")), "URL");
    tap_ok(slice_eq(st.fields, SLICE("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Foo: bar\r\n"
                                     "Date: Sat, 21 Nov 2026 08:00:00 GMT\r\n")),
           "fields for clients, with a Date");
    tap_ok(slice_eq(st.server, SLICE("Server: them\r\n")), "Server apart");
    tap_ok(slice_eq(st.hsts, SLICE("Strict-Transport-Security: max-age=1\r\n")), "HSTS apart");
    tap_ok(slice_eq(st.secret,
                    SLICE("Surrogate-Key: one two, three\r\nRPD-Cache-Control: max-age=5\r\n")),
           "what is nobody's business apart");
    tap_ok(st.policy.base == 5 && st.policy.lifetime == 60 && st.policy.flags == POLICY_SHARED,
           "attributes");
    struct arena a;
    struct http_response back;
    arena_init(&a, NULL, 0, 0);
    tap_ok(stored_parse(&st, &a, &back) == 0 && back.nfield == 7 && back.status == 200,
           "and a message again");
    arena_fini(&a);
    unsigned bad = 0;
    for (size_t n = 0; n < o.n; n++)
        bad += stored_read(slice_of(o.p, n), &attr, &st) == 0;
    tap_ok(bad == 0, "no beginning of it is one");
}

static void test_limits(void)
{
    static char big[70000];
    memset(big, 'x', sizeof big);
    struct http_field f[] = {F("X", "y")};
    f[0].value = slice_of(big, sizeof big);
    struct http_response r = answer(f, 1);
    struct head_out o;
    struct stored_tags tags;
    tap_ok(!write_it(&r, SLICE(""), &o, &tags), "too large to be kept");
    struct http_field g[] = {F("Cache-Tag", "")};
    size_t n = 0;
    for (unsigned i = 0; i < 100; i++)
        n += (size_t)sprintf(big + n, "t%u ", i);
    g[0].value = slice_of(big, n);
    r = answer(g, 1);
    tap_ok(write_it(&r, SLICE(""), &o, &tags) && tags.n == CACHE_TAGS,
           "as many tags as there is room");
}

static void test_vary(void)
{
    struct stored_vary v = {.salt = 77, .variants = 3}, back;
    struct http_field f[] = {F("Vary", "Foo, accept-encoding")};
    char out[16 + VARY_SPEC_MAX + VARY_MAX];
    const struct http_response r = answer(f, 1);
    tap_ok(vary_add(&v.vary, r.field, r.nfield) == 0, "fields that select");
    size_t n = stored_vary_write(&v, out);
    tap_ok(stored_vary_read(slice_of(out, n), &back) == 0 && back.salt == 77 &&
               back.variants == 3 && back.vary.n == 2,
           "a marker and back");
    tap_ok(stored_vary_read(slice_of(out, 15), &back) < 0, "a broken one");
}

static unsigned woken;
static struct cache_waiter waiter[3];
static void on_wake(struct cache_waiter *w)
{
    (void)w;
    woken++;
}

static void test_waiters(void)
{
    for (int i = 0; i < 3; i++) {
        cache_waiter_init(&waiter[i], on_wake);
        cache_waiter_wait(&waiter[i], &store, 5);
        cache_waiter_wait(&waiter[i], &store, 5);
    }
    tap_ok(store.nwaiting == 3, "each waits once");
    cache_waiter_stop(&waiter[1]);
    cache_waiter_stop(&waiter[1]);
    tap_ok(store.nwaiting == 2, "and stops once");
    cache_waiter_stop(&waiter[0]);
    cache_waiter_stop(&waiter[2]);
    tap_ok(store.nwaiting == 0 && woken == 0, "nobody was woken for nothing");
}

int main(void)
{
    static const struct slice tag[] = {{"Surrogate-Key", 13}, {"Cache-Tag", 9}};
    const struct cache_options o = {.size = 1u << 20};
    policy_rules_init(&rules);
    conf.k.tags = (struct conf_words){.v = (struct slice *)(uintptr_t)tag, .n = 2};
    store.conf = &conf;
    for (size_t b = 0; b < CACHE_BUCKETS; b++)
        list_init(&store.waiting[b]);
    if (cache_create(&o, &store.c) < 0)
        return 1;
    test_round();
    test_limits();
    test_vary();
    test_waiters();
    cache_close(&store.c);
    return tap_done();
}
