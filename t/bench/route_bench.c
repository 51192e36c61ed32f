/* Routing at scale: 10 000 hosts with three routes each, and one host with 10 000 prefixes. Prints
 * milliseconds to build and nanoseconds per look-up; nothing is asserted. */
#include "base/clock.h"
#include "t/unit/route_fixture.h"
#include "worker/stream/route.h"

#define HOSTS 10000u
#define ASKS  2000000u

static struct route_table *compile(struct fix *f, const char *what)
{
    struct conf_diags d;
    struct route_table *t;
    conf_diags_init(&d);
    const uint64_t from = clock_us_now();
    if (route_table_new(&f->c, &d, &t) < 0)
        tap_bail("route_table_new");
    printf("%-44s %8.1f ms\n", what, (double)(clock_us_now() - from) / 1000);
    conf_diags_fini(&d);
    return t;
}

static void ask(const struct route_table *t, const struct route_query *q, size_t n,
                const char *what)
{
    const struct conf_route *r;
    struct slice allow;
    size_t got = 0;
    uint32_t x = 1;
    const uint64_t from = clock_us_now();
    for (size_t i = 0; i < ASKS; i++) {
        x = x * 1664525u + 1013904223u;
        got += route_find(t, &q[x % n], &r, &allow) == 0;
    }
    printf("%-44s %8.1f ns  (%zu%% found)\n", what, (double)(clock_us_now() - from) * 1000 / ASKS,
           got * 100 / ASKS);
}

int main(void)
{
    struct fix f;
    static struct route_query q[HOSTS], w[HOSTS];
    fix_init(&f);
    struct arena *a = &f.c.arena;
    for (unsigned i = 0; i < HOSTS; i++) {
        char name[32], names[96];
        (void)snprintf(name, sizeof(name), "h%u", i);
        (void)snprintf(names, sizeof(names), "www.site%u.example.com *.site%u.example.net", i, i);
        struct conf_host *h = fix_host(&f, name, names, true);
        fix_route(&f, h, "static", "/static/*", "", 0);
        fix_route(&f, h, "login", "/login", "POST", 0);
        fix_route(&f, h, "php", "~\\.php$", "", 0);
        q[i] = (struct route_query){.host = arena_printf(a, "www.site%u.example.com", i),
                                    .path = SLICE("/static/a.css"),
                                    .method = SLICE("GET")};
        w[i] = q[i];
        w[i].host = arena_printf(a, "a.site%u.example.net", i);
    }
    struct route_table *t = compile(&f, "build 10000 hosts x 3 routes, 2 names each");
    ask(t, q, 1, "the same host over and over");
    ask(t, q, 100, "100 hosts, exact");
    ask(t, q, HOSTS, "10000 hosts at random, exact");
    ask(t, w, HOSTS, "10000 hosts at random, wildcard");
    for (unsigned i = 0; i < HOSTS; i++)
        q[i].path = SLICE("/index.php");
    ask(t, q, 1, "one host, regex path");
    route_table_free(&t);
    fix_fini(&f);

    fix_init(&f);
    a = &f.c.arena;
    struct conf_host *h = fix_host(&f, "h", "h", true);
    struct conf_route *r = fix_route(&f, h, "p", "/", "", 0);
    r->k.path = (struct conf_paths){.v = ARENA_ARRAY(a, struct conf_path, HOSTS)};
    for (unsigned i = 0; i < HOSTS; i++) {
        r->k.path.v[r->k.path.n++] =
            (struct conf_path){.kind = CONF_PATH_PREFIX, .text = arena_printf(a, "/app/%u/v1/", i)};
        q[i] = (struct route_query){.host = SLICE("h"),
                                    .path = arena_printf(a, "/app/%u/v1/users", i),
                                    .method = SLICE("GET")};
    }
    t = compile(&f, "build one host with 10000 prefixes");
    ask(t, q, 1, "the same prefix over and over");
    ask(t, q, HOSTS, "10000 prefixes at random");
    route_table_free(&t);
    fix_fini(&f);
    return 0;
}
