/* Cache keys: templates, query and cookie rules, QUERY; Vary and its normalised values. */
#include "worker/cache/key.h"

#include "base/err.h"
#include "t/unit/tap.h"
#include "worker/cache/vary.h"
#include "worker/http/h1_head.h"

static struct http_field field[64];

static void request(const char *line, const char *fields, struct http_request *r)
{
    static char text[8192];
    const struct h1_limits lim = {8192, 8192, 32768, 60};
    int n =
        snprintf(text, sizeof(text), "%s HTTP/1.1\r\nHost: A.example:8080\r\n%s\r\n", line, fields);
    if (h1_parse_request(text, (size_t)n, &lim, field, r) < 0)
        tap_bail("no request: %s", text);
}

static const struct {
    const char *template, *line, *fields, *want;
} key[] = {
    {KEY_DEFAULT, "GET /a?b=1", "", "http a.example:8080 /a ?b=1 "},
    {KEY_DEFAULT, "HEAD /a?b=1", "", "http a.example:8080 /a ?b=1 "},
    {KEY_DEFAULT, "GET /a", "", "http a.example:8080 /a  "},
    {KEY_DEFAULT, "GET /a?", "", "http a.example:8080 /a ? "},
    {"%{path}", "GET /%7ea%2fb%c3%A9", "", "/~a%2Fb%C3%A9 "},
    {"%{path}", "GET //a/./b", "", "//a/./b "},
    {"%{path}%{query}", "GET /a?b", "", "/a ?b "},
    {"%{method} %{path}", "HEAD /", "", "GET / "},
    {"v2 %{path}", "GET /", "", "v2 / "},
    {"100%% %{path}", "GET /", "", "100 % / "},
    {"%{header.x-a}%{path}", "GET /", "X-A: a b%\r\nx-a: c\r\n", "=a%20b%25,c / "},
    {"%{header.x-a}%{path}", "GET /", "X-A:\r\n", "= / "},
    {"%{header.x-a}%{path}", "GET /", "", " / "},
    {"%{cookie.b}%{path}", "GET /", "Cookie: a=1; b=2; b=3\r\n", "=2 / "},
    {"%{cookie.b}%{path}", "GET /", "Cookie: a=1; bb=2\r\n", " / "},
    {KEY_DEFAULT, "QUERY /a", "Content-Type: a/b; c\r\nContent-Length: 1\r\n",
     "http a.example:8080 /a  QUERY =a/b;%20c    "},
};

static const struct {
    const char *ignore;
    bool sort;
    const char *in, *want; /* NULL: nothing is left */
} query[] = {
    {"", false, "b=2&a=1", "b=2&a=1"},
    {"", true, "b=2&a=1", "a=1&b=2"},
    {"", true, "b=2&a=2&b=1&a=1", "a=2&a=1&b=2&b=1"},
    {"", true, "a&&b", "&a&b"},
    {"", true, "aa=1&a=2", "a=2&aa=1"},
    {"utm_*", false, "utm_source=x&a=1&utm_medium=y", "a=1"},
    {"utm_*,fbclid", false, "fbclid=x&a=1&fbclidx=2", "a=1&fbclidx=2"},
    {"utm_*", false, "utm_source=x", NULL},
    {"utm_*", false, "xutm_source=x", "xutm_source=x"},
    {"*", true, "a=1&b=2", NULL},
    {"*_id", true, "a_id=1&b_idx=2&_id", "b_idx=2"},
    {"a*b*c", true, "abc&aXbYc&aXbY&ac", "aXbY&ac"},
};

static void keys(struct arena *a)
{
    char text[1024];
    const struct key_rules rules = {0};
    for (size_t i = 0; i < sizeof(key) / sizeof(key[0]); i++) {
        struct key_template t;
        struct http_request r;
        struct head_out o = {.p = text, .cap = sizeof(text)};
        size_t at;
        if (key_template_parse(slice_str(key[i].template), a, &t, &at) < 0)
            tap_bail("no template: %s", key[i].template);
        request(key[i].line, key[i].fields, &r);
        const struct key_input in = {SLICE("http"), &r, SLICE("a.example")};
        tap_ok(key_build(&t, &rules, &in, &o) == 0, "%s of %s", key[i].template, key[i].line);
        tap_ok(slice_starts(slice_of(o.p, o.n), t.mark), "%s: marked", key[i].template);
        tap_is_slice(slice_of(o.p + t.mark.n, o.n - t.mark.n), slice_str(key[i].want),
                     "%s of %s: text", key[i].template, key[i].line);
    }
    static const struct {
        const char *text;
        int err;
        size_t at;
    } bad[] = {{"", -ERR_INVAL, 0},          {"  ", -ERR_INVAL, 0},
               {"a %{nope}", -ERR_INVAL, 2}, {"%{path", -ERR_INVAL, 0},
               {"%", -ERR_INVAL, 0},         {"%{header.}", -ERR_INVAL, 0},
               {"a%b", -ERR_INVAL, 1},       {"%{header.a b}", -ERR_INVAL, 0},
               {"%{}", -ERR_INVAL, 0},       {"a b c d e f g h i j k l m n o p q", -ERR_FULL, 32}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct key_template t;
        size_t at = 0;
        int rc = key_template_parse(slice_str(bad[i].text), a, &t, &at);
        tap_ok(rc == bad[i].err && at == bad[i].at, "refused: '%s'", bad[i].text);
    }
    struct key_template t;
    struct http_request r;
    size_t at;
    struct head_out o = {.p = text, .cap = 8};
    (void)key_template_parse(SLICE(KEY_DEFAULT), a, &t, &at);
    request("GET /a", "", &r);
    const struct key_input in = {SLICE("http"), &r, SLICE("a.example")};
    tap_is_int(key_build(&t, &rules, &in, &o), -ERR_RANGE, "too long for its room");
}

/* Routes that share a store: what one template makes of a request that somebody chose is never what
 * another makes of another request. */
static void strangers(struct arena *a)
{
    static const struct {
        const char *template, *line, *fields;
    } same[] = {{"%{host} %{path}", "GET /x", ""},
                {"a.example %{path}", "GET /x", ""},
                {"a.example /x", "GET /y", ""},
                {"%{header.x-a} %{path}", "GET /x", ""},
                {"%{scheme} %{host} %{path} %{query}", "GET /x", ""},
                {"http %{host} %{path} %{query}", "GET /x", ""},
                {"%{scheme} %{host} %{path}", "GET /x", ""},
                {"%{path} %{query}", "GET /x", ""},
                {"%{path} %{cookie.a}", "GET /x", ""},
                {"%{path} %{header.a}", "GET /x", ""},
                {"%{path} %{method}", "QUERY /x", ""},
                {"%{path}", "QUERY /x", ""}};
    enum { N = sizeof(same) / sizeof(same[0]) };
    static char text[N][512];
    struct slice made[N];
    const struct key_rules rules = {0};
    bool met = false;
    for (size_t i = 0; i < N; i++) {
        struct key_template t;
        struct http_request r;
        struct head_out o = {.p = text[i], .cap = sizeof(text[i])};
        size_t at;
        request(same[i].line, same[i].fields, &r);
        const struct key_input in = {SLICE("http"), &r, SLICE("a.example")};
        if (key_template_parse(slice_str(same[i].template), a, &t, &at) < 0 ||
            key_build(&t, &rules, &in, &o) < 0)
            tap_bail("no key: %s", same[i].template);
        made[i] = slice_of(o.p, o.n);
        for (size_t j = 0; j < i; j++)
            if (slice_eq(made[i], made[j])) {
                printf("# %s and %s\n", same[i].template, same[j].template);
                met = true;
            }
    }
    tap_ok(!met, "keys of different templates never meet");
    struct key_template t;
    size_t at;
    tap_ok(key_template_parse(SLICE(" %{scheme}  %{host} %{path} %{query}"), a, &t, &at) == 0 &&
               t.mark.n == 0,
           "the usual key has no mark");
}

static void queries(void)
{
    char text[8192], many[8192];
    for (size_t i = 0; i < sizeof(query) / sizeof(query[0]); i++) {
        struct slice pattern[8], rest = slice_str(query[i].ignore), p;
        size_t n = 0;
        while (slice_next(&rest, ',', &p))
            pattern[n++] = p;
        const struct key_rules rules = {
            .ignore_query = pattern, .nignore_query = n, .sort_query = query[i].sort};
        struct head_out o = {.p = text, .cap = sizeof(text)};
        bool any = key_query(&rules, slice_str(query[i].in), &o);
        tap_ok(any == (query[i].want != NULL), "something is left of %s", query[i].in);
        tap_is_slice(slice_of(o.p, o.n), slice_str(query[i].want), "%s without %s", query[i].in,
                     query[i].ignore);
    }
    size_t n = 0;
    for (unsigned i = 0; i <= KEY_PARAMS_MAX; i++)
        n += (size_t)snprintf(many + n, sizeof(many) - n, "%sp%u", i > 0 ? "&" : "", 999 - i);
    const struct key_rules sort = {.sort_query = true};
    struct head_out o = {.p = text, .cap = sizeof(text)};
    (void)key_query(&sort, slice_of(many, n), &o);
    tap_is_slice(slice_of(o.p, o.n), slice_of(many, n), "too many parameters keep their order");
}

/* ---- Vary ---- */

static const struct {
    const char *name, *vary, *fields, *want;
} vary[] = {
    {"4.1 absent", "Origin", "", "origin\n"},
    {"4.1 empty is not absent", "Origin", "Origin:\r\n", "origin=\n"},
    {"4.1 as it is", "Origin", "Origin: http://A\r\n", "origin=http://A\n"},
    {"4.1 lines are joined", "X-A", "X-A: 1\r\nX-A: 2\r\n", "x-a=1, 2\n"},
    {"4.1 names in one order", "X-B, x-a, X-B", "X-A: 1\r\nX-B: 2\r\n", "x-a=1\nx-b=2\n"},
    {"4.1 spaces and case of languages", "Accept-Language", "Accept-Language: DE , en ;q=0.5,\r\n",
     "accept-language=de,en;q=0.5\n"},
    {"4.1 quoted text keeps its case", "Accept", "Accept: a/B; x=\"Y z\"\r\n",
     "accept=a/b;x=\"Y z\"\n"},
    {"4.1 lines of a list", "Accept", "Accept: a/b\r\nAccept: c/d\r\n", "accept=a/b,c/d\n"},
    {"codings: none", "Accept-Encoding", "", "accept-encoding=identity\n"},
    {"codings: order means nothing", "Accept-Encoding", "Accept-Encoding: gzip, deflate, br\r\n",
     "accept-encoding=br, gzip\n"},
    {"codings: zstd", "Accept-Encoding", "Accept-Encoding: gzip, br, zstd\r\n",
     "accept-encoding=br, gzip, zstd\n"},
    {"codings: q=0", "Accept-Encoding", "Accept-Encoding: gzip;q=0, br;q=0.000, zstd;q=0.001\r\n",
     "accept-encoding=zstd\n"},
    {"codings: bad q", "Accept-Encoding", "Accept-Encoding: gzip;q=x, br;q=2, zstd;q=1.5\r\n",
     "accept-encoding=identity\n"},
    {"codings: x-gzip", "Accept-Encoding", "Accept-Encoding: X-GZIP\r\n", "accept-encoding=gzip\n"},
    {"codings: any", "Accept-Encoding", "Accept-Encoding: *\r\n",
     "accept-encoding=br, gzip, zstd\n"},
    {"codings: any but one", "Accept-Encoding", "Accept-Encoding: br;q=0, *\r\n",
     "accept-encoding=gzip, zstd\n"},
    {"codings: no identity", "Accept-Encoding", "Accept-Encoding: gzip, identity;q=0\r\n",
     "accept-encoding=gzip, identity;q=0\n"},
    {"codings: *;q=0", "Accept-Encoding", "Accept-Encoding: gzip, *;q=0\r\n",
     "accept-encoding=gzip, identity;q=0\n"},
    {"codings: nothing at all", "Accept-Encoding", "Accept-Encoding: *;q=0\r\n",
     "accept-encoding=identity\n"},
    {"cookies that count", "Cookie", "Cookie: _ga=1; sid=2; _gid=3\r\n",
     "cookie _ga* _gid=sid=2\n"},
    {"cookies: none that counts", "Cookie", "Cookie: _ga=1\r\n", "cookie _ga* _gid\n"},
};

static void varies(void)
{
    static const struct slice ignored[] = {{"_ga*", 4}, {"_gid", 4}};
    const struct key_rules kr = {.ignore_cookie = ignored, .nignore_cookie = 2};
    const struct vary_rules rules = {&kr, VARY_BR | VARY_GZIP | VARY_ZSTD};
    char text[1024];
    for (size_t i = 0; i < sizeof(vary) / sizeof(vary[0]); i++) {
        struct vary v = {.n = 0};
        struct http_request r;
        struct http_field f = {
            .name = SLICE("Vary"), .value = slice_str(vary[i].vary), .id = FIELD_VARY};
        struct head_out o = {.p = text, .cap = sizeof(text)};
        request("GET /", vary[i].fields, &r);
        int rc = vary_add(&v, &f, 1);
        if (rc == 0)
            rc = vary_build(&v, &rules, &r, &o);
        tap_is_int(rc, 0, "%s: built", vary[i].name);
        tap_is_slice(slice_of(o.p, o.n), slice_str(vary[i].want), "%s", vary[i].name);
    }
    struct vary v = {.n = 0}, again = {.n = 0};
    char spec[VARY_SPEC_MAX + VARY_MAX];
    tap_ok(vary_parse(&v, SLICE("b, A,b")) == 0 && vary_parse(&v, SLICE("c")) == 0, "a union");
    tap_is_slice(slice_of(spec, vary_text(&v, spec)), SLICE("a,b,c"), "its text");
    tap_ok(vary_parse(&again, slice_of(spec, vary_text(&v, spec))) == 0 && again.n == 3,
           "and back");
    tap_is_int(vary_parse(&v, SLICE("*")), -ERR_INVAL, "4.1 *");
    tap_is_int(vary_parse(&v, SLICE("a b")), -ERR_INVAL, "no names");
    tap_is_int(vary_parse(&v, SLICE("d,e,f,g,h,i")), -ERR_FULL, "too many");
    struct vary wide = {.n = 0};
    memset(text, 'a', VARY_SPEC_MAX + 1);
    tap_is_int(vary_parse(&wide, slice_of(text, VARY_SPEC_MAX + 1)), -ERR_FULL, "too long");
    struct http_request r;
    struct head_out o = {.p = text, .cap = 4};
    request("GET /", "", &r);
    tap_is_int(vary_build(&v, &rules, &r, &o), -ERR_RANGE, "values too long");
}

int main(void)
{
    struct arena a;
    arena_init(&a, NULL, 0, 0);
    keys(&a);
    strangers(&a);
    queries();
    varies();
    arena_fini(&a);
    return tap_done();
}
