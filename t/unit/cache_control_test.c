/* Cache directives: the forgiving reader, the strict one, which field counts; and Cache-Status. */
#include "worker/http/cache_control.h"

#include "base/err.h"
#include "t/unit/tap.h"
#include "worker/http/cache_status.h"

/* What was understood, as a text that can be compared. */
static size_t show(const struct cache_control *c, char *out, size_t cap)
{
    static const struct {
        uint32_t bit;
        const char *name;
    } flag[] = {{CC_NO_STORE, "no-store"},
                {CC_NO_CACHE, "no-cache"},
                {CC_PRIVATE, "private"},
                {CC_PUBLIC, "public"},
                {CC_MUST_REVALIDATE, "must-revalidate"},
                {CC_PROXY_REVALIDATE, "proxy-revalidate"},
                {CC_MUST_UNDERSTAND, "must-understand"},
                {CC_NO_TRANSFORM, "no-transform"},
                {CC_ONLY_IF_CACHED, "only-if-cached"},
                {CC_IMMUTABLE, "immutable"}};
    const struct {
        uint32_t bit;
        const char *name;
        uint32_t v;
    } number[] = {{CC_MAX_AGE, "max-age", c->max_age},
                  {CC_S_MAXAGE, "s-maxage", c->s_maxage},
                  {CC_MIN_FRESH, "min-fresh", c->min_fresh},
                  {CC_MAX_STALE, "max-stale", c->max_stale},
                  {CC_STALE_WHILE_REVALIDATE, "swr", c->stale_while_revalidate},
                  {CC_STALE_IF_ERROR, "sie", c->stale_if_error}};
    size_t n = 0;
    out[0] = '\0';
    for (size_t i = 0; i < sizeof(flag) / sizeof(flag[0]); i++) {
        if (c->has & flag[i].bit)
            n += (size_t)snprintf(out + n, cap - n, "%s ", flag[i].name);
    }
    for (size_t i = 0; i < sizeof(number) / sizeof(number[0]); i++) {
        if (c->has & number[i].bit)
            n += (size_t)snprintf(out + n, cap - n, "%s=%u ", number[i].name, number[i].v);
    }
    for (unsigned i = 0; i < c->nno_cache; i++)
        n += (size_t)snprintf(out + n, cap - n, "no-cache[%.*s] ", SLICE_ARG(c->no_cache[i]));
    for (unsigned i = 0; i < c->nprivate; i++)
        n += (size_t)snprintf(out + n, cap - n, "private[%.*s] ", SLICE_ARG(c->private_[i]));
    return n > 0 ? n - 1 : 0;
}

static const struct {
    const char *in, *want;
} plain[] = {
    {"", ""},
    {"max-age=60", "max-age=60"},
    {"MAX-AGE=60, No-Store", "no-store max-age=60"},
    {"public,max-age=60", "public max-age=60"},
    {" , ,public , ,", "public"},
    {"max-age=\"60\"", "max-age=60"},
    {"max-age=0060", "max-age=60"},
    {"max-age=2147483648", "max-age=2147483648"},
    {"max-age=2147483649", "max-age=2147483648"},
    {"max-age=99999999999999999999999999999999", "max-age=2147483648"},
    {"max-age=-1", "max-age=0"},
    {"max-age=+1", "max-age=0"},
    {"max-age=1.5", "max-age=0"},
    {"max-age=1e3", "max-age=0"},
    {"max-age=abc", "max-age=0"},
    {"max-age=60s", "max-age=0"},
    {"max-age=", "max-age=0"},
    {"max-age", "max-age=0"},
    {"max-age=\"60", "max-age=0"},
    {"max-age=\"60\"0", "max-age=0"},
    {"max-age= 60", "max-age=0"},
    {"max-age =60", "max-age=0"},
    {"max-age=\"6\\0\"", "max-age=0"},
    {"max-age=60;public", "max-age=0"},
    {"s-maxage=x", "s-maxage=0"},
    {"max-age=60, max-age=0", "max-age=60"},
    {"max-age=0, max-age=60", "max-age=0"},
    {"max-age=60, s-maxage=10, s-maxage=20", "max-age=60 s-maxage=10"},
    {"xmax-age=60", ""},
    {"max-agex=60", ""},
    {"x=\"max-age=60, no-store\"", ""},
    {"x=\"a\\\", no-store\", public", "public"},
    {"x=\", no-store", "no-store"},
    {"x=\"\\\", no-store, y=\"\\\", public", "public"},
    {"no-store=1", "no-store"},
    {"no-store=\"\"", "no-store"},
    {"no-cache", "no-cache"},
    {"no-cache=\"a, b\"", "no-cache[a, b]"},
    {"no-cache=\"a\", no-cache=\"b\"", "no-cache[a] no-cache[b]"},
    {"no-cache=a", "no-cache[a]"},
    {"no-cache=\"a\", no-cache", "no-cache no-cache[a]"},
    {"no-cache=\"\"", "no-cache"},
    {"no-cache=\"a b\"", "no-cache"},
    {"no-cache=\"a", "no-cache"},
    {"no-cache=a, no-cache=b, no-cache=c, no-cache=d, no-cache=e",
     "no-cache no-cache[a] no-cache[b] no-cache[c] no-cache[d]"},
    {"private", "private"},
    {"private=\"set-cookie\"", "private[set-cookie]"},
    {"private=\"x\"y", "private"},
    {"max-stale", "max-stale=2147483648"},
    {"max-stale=5", "max-stale=5"},
    {"max-stale=x", ""},
    {"min-fresh=x", ""},
    {"min-fresh=5", "min-fresh=5"},
    {"only-if-cached, no-transform", "no-transform only-if-cached"},
    {"must-revalidate, proxy-revalidate, must-understand, immutable",
     "must-revalidate proxy-revalidate must-understand immutable"},
    {"stale-while-revalidate=5, stale-if-error=6", "swr=5 sie=6"},
    {"stale-while-revalidate, stale-if-error=-1", ""},
    {"community=\"UCI\", max-age=60", "max-age=60"},
};

/* want NULL: not a dictionary */
static const struct {
    const char *in, *want;
} strict[] = {
    {"max-age=60", "max-age=60"},
    {"  max-age=60 ,\tno-store  ", "no-store max-age=60"},
    {"max-age=60;p, public;q=\"x\";r=?1", "public max-age=60"},
    {"none", ""},
    {"no-store=?1", "no-store"},
    {"no-store=?0", ""},
    {"no-store=1", ""},
    {"max-age=60, max-age=5", "max-age=5"},
    {"no-store, no-store=?0", ""},
    {"no-cache=\"a\", no-cache=\"b\"", "no-cache[b]"},
    {"no-cache=\"a, b\"", "no-cache[a, b]"},
    {"no-cache=a", ""},
    {"private", "private"},
    {"max-age=60.0", ""},
    {"max-age=\"60\"", ""},
    {"max-age=-60", ""},
    {"max-age", ""},
    {"max-age=999999999999999", "max-age=2147483648"},
    {"a=(1 2.5 \"x\" tok :YQ==: ?0);x, max-age=1", "max-age=1"},
    {"a=(), max-age=1", "max-age=1"},
    {"a=*tok/x:y, max-age=1", "max-age=1"},
    {"*a_-.*=1, max-age=1", "max-age=1"},
    {"max-age=1000000000000000", NULL},
    {"max-age=1.1234", NULL},
    {"max-age=1.", NULL},
    {"max-age=.5", NULL},
    {"max-age=-", NULL},
    {"max-age=", NULL},
    {"max-age= 60", NULL},
    {"max-age =60", NULL},
    {"Max-Age=60", NULL},
    {"max-age=60,", NULL},
    {",max-age=60", NULL},
    {"max-age=60,,public", NULL},
    {"max-age=60 public", NULL},
    {"max-age=60, &&&&&", NULL},
    {"max-age=60;", NULL},
    {"max-age=60;P", NULL},
    {"a=\"x", NULL},
    {"a=\"\\x\"", NULL},
    {"a=\"\xc3\xa9\"", NULL},
    {"a=:YQ==", NULL},
    {"a=:*:", NULL},
    {"a=?2", NULL},
    {"a=?", NULL},
    {"a=(", NULL},
    {"a=(1", NULL},
    {"a=(1,2)", NULL},
    {"a=((1))", NULL},
    {"a=(\"x\"\"y\")", NULL},
};

static const struct {
    const char *in, *want;
} surrogate[] = {
    {"max-age=60", "max-age=60"},
    {"no-store", "no-store"},
    {"max-age=60+30", "max-age=60 swr=30 sie=30"},
    {"max-age=60+x", "max-age=0"},
    {"max-age=60;other, max-age=5", "max-age=5"},
    {"max-age=60;rpd", "max-age=60"},
    {"content=\"ESI/1.0\", max-age=7", "max-age=7"},
};

static const struct {
    const char *name;
    struct {
        const char *name, *value;
    } field[4];
    bool targeted;
    enum cache_control_source source;
    const char *want;
} whole[] = {
    {"nothing", {{"X", "y"}}, true, CACHE_CONTROL_NONE, ""},
    {"lines are joined",
     {{"Cache-Control", "max-age=60"}, {"cache-control", "public"}},
     true,
     CACHE_CONTROL_PLAIN,
     "public max-age=60"},
    {"RFC 9213 2.2 the most specific wins",
     {{"Cache-Control", "no-store"},
      {"CDN-Cache-Control", "max-age=2"},
      {"RPD-Cache-Control", "max-age=3"},
      {"Surrogate-Control", "max-age=4"}},
     true,
     CACHE_CONTROL_RPD,
     "max-age=3"},
    {"RFC 9213 2.2 CDN over others",
     {{"Cache-Control", "no-store"},
      {"CDN-Cache-Control", "max-age=2"},
      {"Surrogate-Control", "max-age=4"}},
     true,
     CACHE_CONTROL_CDN,
     "max-age=2"},
    {"Surrogate-Control over Cache-Control",
     {{"Cache-Control", "no-store"}, {"Surrogate-Control", "max-age=4"}},
     true,
     CACHE_CONTROL_SURROGATE,
     "max-age=4"},
    {"RFC 9213 2.1 an invalid one is not there",
     {{"Cache-Control", "no-store"}, {"CDN-Cache-Control", "max-age=2,"}},
     true,
     CACHE_CONTROL_PLAIN,
     "no-store"},
    {"RFC 9213 2.1 an empty one is not there",
     {{"Cache-Control", "no-store"}, {"CDN-Cache-Control", ""}},
     true,
     CACHE_CONTROL_PLAIN,
     "no-store"},
    {"RFC 9213 3.1 none",
     {{"Cache-Control", "no-store"}, {"CDN-Cache-Control", "none"}},
     true,
     CACHE_CONTROL_CDN,
     ""},
    {"RFC 9213 lines of one field",
     {{"CDN-Cache-Control", "max-age=2"}, {"CDN-Cache-Control", "public"}},
     true,
     CACHE_CONTROL_CDN,
     "public max-age=2"},
    {"off",
     {{"Cache-Control", "no-store"}, {"CDN-Cache-Control", "max-age=2"}},
     false,
     CACHE_CONTROL_PLAIN,
     "no-store"},
};

static void messages(void)
{
    char text[1024];
    for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++) {
        struct http_field f[4];
        struct cache_control c;
        size_t n = 0;
        for (; n < 4 && whole[i].field[n].name != NULL; n++) {
            f[n] = (struct http_field){.name = slice_str(whole[i].field[n].name),
                                       .value = slice_str(whole[i].field[n].value)};
            f[n].id = http_field_id_of(f[n].name);
        }
        tap_is_int(cache_control_of_response(f, n, whole[i].targeted, &c), whole[i].source,
                   "source: %s", whole[i].name);
        tap_is_slice(slice_of(text, show(&c, text, sizeof(text))), slice_str(whole[i].want),
                     "directives: %s", whole[i].name);
    }
    struct cache_control c;
    struct http_field f[2] = {
        {.name = SLICE("Pragma"), .value = SLICE("x, No-Cache"), .id = FIELD_PRAGMA},
        {.name = SLICE("Cache-Control"), .value = SLICE("max-age=1"), .id = FIELD_CACHE_CONTROL}};
    struct http_request r = {.field = f, .nfield = 1};
    cache_control_of_request(&r, &c);
    tap_is_int(c.has, CC_NO_CACHE, "RFC 9111 5.4 Pragma: no-cache in a request");
    r.nfield = 2;
    cache_control_of_request(&r, &c);
    tap_is_int(c.has, CC_MAX_AGE, "RFC 9111 5.4 but not beside Cache-Control");
    c = (struct cache_control){0};
    cache_control_add(&c, SLICE("no-cache=\"a, B\", private=\"c\""));
    tap_ok(cache_control_names(&c, SLICE("b")) && cache_control_names(&c, SLICE("C")) &&
               !cache_control_names(&c, SLICE("d")),
           "named fields");
}

/* Quotes that are never closed must not be looked for again and again. */
static void hostile(void)
{
    static char text[1 << 20];
    struct cache_control c = {0};
    for (size_t i = 0; i + 3 <= sizeof(text); i += 3)
        memcpy(text + i, "\\\",", 3);
    cache_control_add(&c, slice_of(text, sizeof(text)));
    tap_ok(c.has == 0, "a megabyte of open quotes");
}

static const struct {
    struct cache_status s;
    const char *earlier, *want;
} status[] = {
    {{.hit = true, .has_ttl = true, .ttl = 376}, "", "rpd; hit; ttl=376"},
    {{.hit = true, .has_ttl = true, .ttl = -412}, "", "rpd; hit; ttl=-412"},
    {{.fwd = CACHE_STATUS_URI_MISS, .stored = true, .has_ttl = true, .ttl = 60},
     "",
     "rpd; fwd=uri-miss; stored; ttl=60"},
    {{.fwd = CACHE_STATUS_STALE, .fwd_status = 304, .collapsed = true},
     "",
     "rpd; fwd=stale; fwd-status=304; collapsed"},
    {{.fwd = CACHE_STATUS_BYPASS, .detail = {"set-cookie", 10}},
     "",
     "rpd; fwd=bypass; detail=set-cookie"},
    {{.hit = true, .key = {"a\"b\\", 4}}, "", "rpd; hit; key=\"a\\\"b\\\\\""},
    {{.hit = true, .key = {"a\xc3", 2}}, "", "rpd; hit"},
    {{.hit = true, .detail = {"a b", 3}}, "", "rpd; hit"},
    {{.hit = true}, "Origin; hit", "Origin; hit, rpd; hit"},
    {{.hit = true, .has_ttl = true, .ttl = INT64_MIN}, "", "rpd; hit; ttl=-999999999999999"},
};

int main(void)
{
    char text[1024];
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
        struct cache_control c = {0};
        cache_control_add(&c, slice_str(plain[i].in));
        tap_is_slice(slice_of(text, show(&c, text, sizeof(text))), slice_str(plain[i].want),
                     "Cache-Control: %s", plain[i].in);
    }
    for (size_t i = 0; i < sizeof(strict) / sizeof(strict[0]); i++) {
        struct cache_control c = {0};
        int rc = cache_control_add_targeted(&c, slice_str(strict[i].in));
        if (strict[i].want == NULL)
            tap_is_int(rc, -ERR_INVAL, "no dictionary: %s", strict[i].in);
        else
            tap_is_slice(rc > 0 ? slice_of(text, show(&c, text, sizeof(text))) : SLICE("failed"),
                         slice_str(strict[i].want), "dictionary: %s", strict[i].in);
    }
    for (size_t i = 0; i < sizeof(surrogate) / sizeof(surrogate[0]); i++) {
        struct cache_control c = {0};
        cache_control_add_surrogate(&c, slice_str(surrogate[i].in));
        tap_is_slice(slice_of(text, show(&c, text, sizeof(text))), slice_str(surrogate[i].want),
                     "Surrogate-Control: %s", surrogate[i].in);
    }
    messages();
    hostile();
    for (size_t i = 0; i < sizeof(status) / sizeof(status[0]); i++) {
        struct head_out o = {.p = text, .cap = sizeof(text)};
        cache_status_write(&o, &status[i].s, slice_str(status[i].earlier));
        tap_is_slice(slice_of(o.p, o.n), slice_str(status[i].want), "Cache-Status: %s",
                     status[i].want);
    }
    return tap_done();
}
