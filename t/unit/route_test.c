/* worker/stream/route: precedence of hosts and routes, and agreement with a naive reference on
 * random configurations. */
#include "base/err.h"
#include "t/unit/route_fixture.h"
#include "worker/stream/match.h"
#include "worker/stream/route.h"

static struct route_table *compile(struct fix *f)
{
    struct conf_diags d;
    struct route_table *t;
    conf_diags_init(&d);
    if (route_table_new(&f->c, &d, &t) < 0)
        tap_bail("route_table_new: %s", d.n ? d.v[0].text : "no memory");
    conf_diags_fini(&d);
    return t;
}

static struct slice ask_on(const struct route_table *t, const struct conf_listen *l,
                           const char *host, const char *path, const char *method)
{
    const struct route_query q = {
        .listen = l, .host = slice_str(host), .path = slice_str(path), .method = slice_str(method)};
    const struct conf_route *r;
    struct slice allow;
    const int rc = route_find(t, &q, &r, &allow);
    if (rc == -ERR_METHOD_REFUSED)
        return allow;
    return rc < 0 ? slice_str(err_reason(rc)) : r->series;
}

static struct slice ask(const struct route_table *t, const char *host, const char *path,
                        const char *method)
{
    return ask_on(t, NULL, host, path, method);
}

static void test_hosts(void)
{
    struct fix f;
    fix_init(&f);
    fix_host(&f, "rx1", "~^[a-z]+\\.example\\.org$", true);
    fix_host(&f, "rx2", "~\\.ORG$", true);
    fix_host(&f, "any", "*", true);
    fix_host(&f, "wide", "*.example.com", true);
    fix_host(&f, "deep", "*.b.example.com other.test", true);
    fix_host(&f, "exact", "a.b.example.com www.example.com", true);
    struct route_table *t = compile(&f);
    tap_is_str(ask(t, "a.b.example.com", "/", "GET"), "exact", "exact beats wildcards");
    tap_is_str(ask(t, "c.b.example.com", "/", "GET"), "deep", "the longer wildcard");
    tap_is_str(ask(t, "x.y.z.b.example.com", "/", "GET"), "deep", "any depth of labels");
    tap_is_str(ask(t, "c.example.com", "/", "GET"), "wide", "the shorter wildcard");
    tap_is_str(ask(t, "b.example.com", "/", "GET"), "wide", "a wildcard needs a label of its own");
    tap_is_str(ask(t, "example.com", "/", "GET"), "any", "and so does the shorter one");
    tap_is_str(ask(t, ".example.com", "/", "GET"), "any", "an empty label is none");
    tap_is_str(ask(t, "a..b.example.com", "/", "GET"), "deep",
               "odd labels do not confuse the walk");
    tap_is_str(ask(t, "shop.example.org", "/", "GET"), "rx1", "regexes in file order");
    tap_is_str(ask(t, "1.example.org", "/", "GET"), "rx2", "patterns are compared without case");
    tap_is_str(ask(t, "", "/", "GET"), "any", "no host");
    tap_is_str(ask(t, ".", "/", "GET"), "any", "a dot");
    tap_is_str(ask(t, "other.test", "/", "GET"), "deep", "several names");
    char labels[256];
    for (size_t i = 0; i < 255; i++)
        labels[i] = i % 2 ? '.' : 'a';
    labels[255] = '\0';
    tap_is_str(ask(t, labels, "/", "GET"), "any", "127 labels");
    route_table_free(&t);
    route_table_free(&t);
    tap_ok(t == NULL, "free is idempotent");
    fix_fini(&f);
}

static void test_listeners(void)
{
    struct fix f;
    fix_init(&f);
    struct conf_listen *a = fix_listen(&f, "a"), *b = fix_listen(&f, "b"), *c = fix_listen(&f, "c");
    struct conf_host *ha = fix_host(&f, "only-a", "x.test", true);
    struct conf_host *hb = fix_host(&f, "only-b", "x.test *", true);
    fix_host(&f, "everywhere", "y.test", true);
    fix_host_on(&f, ha, a);
    fix_host_on(&f, hb, b);
    struct route_table *t = compile(&f);
    tap_is_str(ask_on(t, a, "x.test", "/", "GET"), "only-a", "one name, two listeners: a");
    tap_is_str(ask_on(t, b, "x.test", "/", "GET"), "only-b", "one name, two listeners: b");
    tap_is_str(ask_on(t, c, "x.test", "/", "GET"), "no_host", "not served on c");
    tap_is_str(ask_on(t, c, "y.test", "/", "GET"), "everywhere", "not limited");
    tap_is_str(ask_on(t, a, "z.test", "/", "GET"), "no_host", "the catch-all is limited too");
    tap_is_str(ask_on(t, b, "z.test", "/", "GET"), "only-b", "to its listener");
    route_table_free(&t);
    fix_fini(&f);
}

static void test_paths(void)
{
    struct fix f;
    fix_init(&f);
    struct conf_host *h = fix_host(&f, "h", "h", true);
    /* Deliberately in the reverse order of precedence. */
    fix_route(&f, h, "nopath", "", "PURGE", 0);
    fix_route(&f, h, "rx2", "~\\.php$", "", 0);
    fix_route(&f, h, "rx-post", "~\\.php$", "POST", 0);
    fix_route(&f, h, "static", "/static/*", "", 0);
    fix_route(&f, h, "static-css", "/static/css/*", "", 0);
    fix_route(&f, h, "css-get", "/static/css/*", "GET", 0);
    fix_route(&f, h, "one", "/static/css/one /two", "", 0);
    fix_route(&f, h, "login", "/login", "POST", 0);
    fix_route(&f, h, "first", "/static/prio/*", "", 5);
    fix_route(&f, h, "last", "/last", "", -1);
    fix_route(&f, h, "last2", "/las*", "", 0);
    struct route_table *t = compile(&f);
    tap_is_str(ask(t, "h", "/static/css/one", "GET"), "h/one", "exact beats prefix");
    tap_is_str(ask(t, "h", "/two", "GET"), "h/one", "a route with two paths");
    tap_is_str(ask(t, "h", "/static/css/x", "GET"), "h/css-get", "more conditions");
    tap_is_str(ask(t, "h", "/static/css/x", "HEAD"), "h/css-get", "GET answers HEAD");
    tap_is_str(ask(t, "h", "/static/css/x", "POST"), "h/static-css", "passed over");
    tap_is_str(ask(t, "h", "/static/x", "GET"), "h/static", "shorter prefix");
    tap_is_str(ask(t, "h", "/static/", "GET"), "h/static", "the bare prefix");
    tap_is_str(ask(t, "h", "/static", "GET"), "h", "a prefix needs its slash");
    tap_is_str(ask(t, "h", "/static/cs", "GET"), "h/static", "half a prefix is none");
    tap_is_str(ask(t, "h", "/static/x.php", "GET"), "h/static", "prefix beats regex");
    tap_is_str(ask(t, "h", "/x.php", "GET"), "h/rx2", "regex");
    tap_is_str(ask(t, "h", "/x.php", "POST"), "h/rx-post", "regex with more conditions");
    tap_is_str(ask(t, "h", "/login", "POST"), "h/login", "method matches");
    tap_is_str(ask(t, "h", "/login", "GET"), "h", "and else the host answers");
    tap_is_str(ask(t, "h", "/login", "post"), "h", "methods are case-sensitive");
    tap_is_str(ask(t, "h", "/static/prio/x", "GET"), "h/first", "priority beats length");
    tap_is_str(ask(t, "h", "/last", "GET"), "h/last2", "low priority comes last, exact or not");
    tap_is_str(ask(t, "h", "/static/css/one", "PURGE"), "h/one",
               "a route without path comes after all others");
    tap_is_str(ask(t, "h", "/zzz", "PURGE"), "h/nopath", "and matches every path");
    tap_is_str(ask(t, "h", "*", "OPTIONS"), "h", "asterisk form");
    tap_is_str(ask(t, "h", "", "GET"), "h", "an empty path");
    route_table_free(&t);
    fix_fini(&f);
}

static void test_refusals(void)
{
    struct fix f;
    fix_init(&f);
    struct conf_host *h = fix_host(&f, "h", "h", false);
    fix_route(&f, h, "a", "/a/*", "GET POST", 0);
    fix_route(&f, h, "b", "/a/b", "POST DELETE", 0);
    fix_route(&f, h, "loop", "~^/(x+x+)+[yz]$", "", 0);
    struct conf_host *r = fix_host(&f, "r", "r", false);
    r->self->k.return_ = (struct conf_return){.status = 404};
    struct conf_host *m = fix_host(&f, "m", "m", false);
    m->self->k.metrics = true;
    struct route_table *t = compile(&f);
    tap_is_str(ask(t, "h", "/a/b", "PUT"), "POST, DELETE, GET, HEAD",
               "Allow lists every method once");
    tap_is_str(ask(t, "h", "/a/c", "PUT"), "GET, HEAD, POST", "of the routes that matched");
    tap_is_str(ask(t, "h", "/b", "PUT"), "no_route", "no path matched");
    tap_is_str(ask(t, "x", "/b", "PUT"), "no_host", "no host");
    tap_is_str(ask(t, "r", "/b", "PUT"), "r", "a host that returns something");
    tap_is_str(ask(t, "m", "/b", "GET"), "m", "a host that shows metrics");
    char path[4000];
    memset(path, 'x', sizeof(path));
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    tap_is_str(ask(t, "h", path, "GET"), "internal",
               "a regex over its limits is an error, not a miss");
    const struct route_query q = {.host = SLICE("h"), .path = SLICE("/b"), .method = SLICE("GET")};
    const struct conf_route *got;
    struct slice allow;
    tap_is_int(route_find(t, &q, &got, &allow), -ERR_NO_ROUTE, "no route");
    tap_ok(got == h->self, "but the host's own scope is known");
    route_table_free(&t);
    fix_fini(&f);
}

static void test_diagnostics(void)
{
    struct fix f;
    struct conf_diags d;
    struct route_table *t;
    fix_init(&f);
    struct conf_host *h = fix_host(&f, "h", "h ~(x dup.test *.dup.test", true);
    fix_host(&f, "i", "dup.test *.dup.test *", true);
    fix_host(&f, "j", "* j ~(x", true);
    fix_route(&f, h, "bad", "~^/a[ /fine", "", 0);
    conf_diags_init(&d);
    tap_is_int(route_table_new(&f.c, &d, &t), -ERR_INVAL, "refused");
    tap_ok(t == NULL, "no table");
    tap_is_int(d.errors, 6, "all of it is told");
    bool rx = false, taken = false, col = false;
    for (size_t i = 0; i < d.n; i++) {
        rx = rx || strstr(d.v[i].text, "bad regular expression \"^/a[\": missing") != NULL;
        col = col || (strstr(d.v[i].text, "^/a[") && d.v[i].pos.col == 1 + 1 + 4);
        taken = taken ||
                strstr(d.v[i].text,
                       "host name \"*.dup.test\" belongs to [host h] already (t.conf:") != NULL;
    }
    tap_ok(rx, "the regex and why");
    tap_ok(col, "and where in it");
    tap_ok(taken, "the name and who has it");
    conf_diags_fini(&d);
    fix_fini(&f);
}

static void test_explain(void)
{
    struct fix f;
    struct buf out;
    fix_init(&f);
    struct conf_listen *l = fix_listen(&f, "http");
    struct conf_host *h = fix_host(&f, "shop", "shop.test", false);
    fix_route(&f, h, "static", "/static/*", "", 0);
    fix_route(&f, h, "put", "/static/up", "PUT", 0);
    fix_route(&f, h, "all", "~^/static", "GET", 0);
    struct route_table *t = compile(&f);
    struct route_query q = {.listen = l,
                            .host = SLICE("shop.test"),
                            .path = SLICE("/static/up"),
                            .method = SLICE("GET")};
    buf_init(&out, 0);
    route_explain(t, &q, &out);
    tap_is_str(buf_slice(&out),
               "listener   http (t.conf:1)\n"
               "host       shop (t.conf:2): exact name shop.test (t.conf:3) for \"shop.test\"\n"
               "passed     shop/put (t.conf:6): exact path /static/up (t.conf:7); method GET is "
               "not one of PUT\n"
               "route      shop/static (t.conf:4): prefix /static/* (t.conf:5)\n"
               "also       shop/all (t.conf:8): regex ~^/static (t.conf:9); it matches too but "
               "comes later\n",
               "who wins and why");
    buf_clear(&out);
    q.host = SLICE("nobody");
    route_explain(t, &q, &out);
    tap_is_str(
        buf_slice(&out),
        "listener   http (t.conf:1)\n"
        "answer     404: no host is named \"nobody\" on this listener and there is no catch-all\n",
        "no host");
    buf_clear(&out);
    q.host = SLICE("shop.test");
    q.path = SLICE("/x");
    q.listen = NULL;
    route_explain(t, &q, &out);
    tap_is_str(buf_slice(&out),
               "host       shop (t.conf:2): exact name shop.test (t.conf:3) for \"shop.test\"\n"
               "answer     404: no route matches and the host has no upstream of its own\n",
               "no route");
    buf_fini(&out);
    route_table_free(&t);
    fix_fini(&f);
}

/* ---- random configurations against the rule, read literally ---- */

static uint64_t rng = 88172645463325252u;

static size_t pick(size_t n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (size_t)(rng % n);
}

static bool path_matches(const struct conf_path *p, struct slice path, unsigned *ret_rank,
                         size_t *ret_len)
{
    *ret_rank = 3;
    *ret_len = 0;
    if (!p)
        return true;
    *ret_rank = (unsigned)p->kind;
    if (p->kind == CONF_PATH_PREFIX)
        *ret_len = p->text.n;
    if (p->kind == CONF_PATH_EXACT)
        return slice_eq(p->text, path);
    if (p->kind == CONF_PATH_PREFIX)
        return path.n >= p->text.n && memcmp(path.p, p->text.p, p->text.n) == 0;
    char err[MATCH_ERR_MAX];
    size_t at;
    struct match *m;
    if (match_compile(p->text, false, &m, err, &at) < 0)
        return false;
    const bool yes = match_test(m, path);
    match_free(&m);
    return yes;
}

/* True when the first key is the better one: priority, kind, length, conditions, order. */
static const struct conf_route *naive(const struct conf_host *h, struct slice path,
                                      struct slice method)
{
    const struct conf_route *best = NULL;
    long key[4] = {0};
    for (size_t i = 0; i < h->nroute; i++) {
        const struct conf_route *r = h->route[i];
        bool ok = r->k.method.n == 0;
        for (size_t m = 0; m < r->k.method.n; m++)
            ok = ok || slice_eq(r->k.method.v[m], method);
        for (size_t k = 0; ok && k < (r->k.path.n ? r->k.path.n : 1); k++) {
            unsigned rank;
            size_t len;
            if (!path_matches(r->k.path.n ? &r->k.path.v[k] : NULL, path, &rank, &len))
                continue;
            const long mine[4] = {r->k.priority, -(long)rank, (long)len, r->k.method.n > 0};
            int c = 0;
            for (int j = 0; j < 4 && !c && best; j++)
                c = mine[j] > key[j] ? 1 : mine[j] < key[j] ? -1 : 0;
            if (!best || c > 0) {
                best = r;
                memcpy(key, mine, sizeof(key));
            }
        }
    }
    return best ? best : h->self;
}

static void random_path(char *out, const char *tail)
{
    static const char *const seg[] = {"/", "/a", "/b", "/a/", "/ab", "a", "/aa/"};
    out[0] = '\0';
    strcpy(out, "/");
    for (size_t n = pick(5); n > 0; n--)
        strcat(out, seg[pick(7)]);
    strcat(out, tail);
}

static void test_random(void)
{
    static const char *const rx[] = {"~^/a", "~b$", "~a.*a", "~^/$"};
    static const char *const methods[] = {"", "", "GET", "POST", "GET POST", "PUT"};
    static const char *const verb[] = {"GET", "POST", "PUT"};
    size_t asked = 0, wrong = 0, won = 0;
    for (int round = 0; round < 400; round++) {
        struct fix f;
        fix_init(&f);
        struct conf_host *h = fix_host(&f, "h", "h", true);
        const size_t nroute = round % 20 == 0 ? 200 : pick(14);
        for (size_t i = 0; i < nroute; i++) {
            char path[256] = "", one[100], name[32];
            for (size_t n = pick(3); n > 0; n--) {
                const size_t kind = pick(5);
                if (kind == 0)
                    strcpy(one, rx[pick(4)]);
                else
                    random_path(one, kind > 2 ? "*" : "");
                strcat(strcat(path, one), " ");
            }
            (void)snprintf(name, sizeof(name), "r%zu", i);
            fix_route(&f, h, name, path, methods[pick(6)], (int)(pick(8) ? 0 : pick(3)) - 1);
        }
        struct route_table *t = compile(&f);
        for (int k = 0; k < 60; k++) {
            char path[100];
            random_path(path, "");
            const char *const m = verb[pick(3)];
            const struct route_query q = {
                .host = SLICE("h"), .path = slice_str(path), .method = slice_str(m)};
            const struct conf_route *got;
            struct slice allow;
            const int rc = route_find(t, &q, &got, &allow);
            const struct conf_route *const want = naive(h, q.path, q.method);
            asked++;
            won += want != h->self;
            if (rc != 0 || got != want) {
                if (!wrong++)
                    printf("# round %d: %s %s: got %.*s, want %.*s\n", round, m, path,
                           SLICE_ARG(got->series), SLICE_ARG(want->series));
            }
        }
        route_table_free(&t);
        fix_fini(&f);
    }
    tap_is_int(wrong, 0, "%zu random questions agree with the naive reading", asked);
    tap_ok(won > asked / 4 && won < asked, "%zu of them had a route", won);
}

static void test_nomem(void)
{
    struct fix f;
    fix_init(&f);
    struct conf_host *h = fix_host(&f, "h", "h *.x ~y", true);
    for (unsigned i = 0; i < 12; i++) {
        char name[16], path[40];
        (void)snprintf(name, sizeof(name), "r%u", i);
        (void)snprintf(path, sizeof(path), "/e%u /p%u/* ~^/r%u", i, i, i);
        fix_route(&f, h, name, path, "", (int)(i % 2));
    }
    unsigned n = 1, failed = 0;
    for (;; n++) {
        struct conf_diags d;
        struct route_table *t;
        conf_diags_init(&d);
        alloc_fail_at(n);
        const int rc = route_table_new(&f.c, &d, &t);
        alloc_fail_at(0);
        failed += rc == -ERR_NOMEM;
        route_table_free(&t);
        conf_diags_fini(&d);
        if (rc == 0)
            break;
        if (rc != -ERR_NOMEM || n > 10000)
            tap_bail("allocation %u: %d", n, rc);
    }
    tap_ok(failed > 5 && failed == n - 1, "each of %u failing allocations is survived", failed);
    fix_fini(&f);
}

int main(void)
{
    test_hosts();
    test_listeners();
    test_paths();
    test_refusals();
    test_diagnostics();
    test_explain();
    test_random();
    test_nomem();
    return tap_done();
}
