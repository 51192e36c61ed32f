/* RFC 9111 and its companions, a row per clause: may it be stored, how long is it fresh, may it be
 * used, what changes it. */
#include "worker/cache/policy.h"

#include "base/err.h"
#include "t/unit/tap.h"
#include "worker/cache/update.h"
#include "worker/http/h1_head.h"

/* The answer is received at NOW; the request was sent at the same time unless said otherwise. */
#define NOW   INT64_C(1790000000) /* Mon, 21 Sep 2026 14:13:20 GMT */
#define D     "Date: Mon, 21 Sep 2026 14:13:20 GMT\r\n"
#define LM    "Last-Modified: Mon, 21 Sep 2026 12:33:20 GMT\r\n" /* 6000 s before */
#define IN(t) "Expires: Mon, 21 Sep 2026 " t " GMT\r\n"

static struct http_field qfield[64], rfield[64], nfield[64];
static char qtext[4096], rtext[8192], ntext[8192];
static const struct h1_limits lim = {8192, 8192, 32768, 60};

static void request(const char *line, const char *fields, struct http_request *r)
{
    int n =
        snprintf(qtext, sizeof(qtext), "%s HTTP/1.1\r\nHost: a.example\r\n%s\r\n", line, fields);
    if (h1_parse_request(qtext, (size_t)n, &lim, qfield, r) < 0)
        tap_bail("no request: %s", qtext);
}

static void response(char *text, struct http_field *field, unsigned status, const char *fields,
                     struct http_response *r)
{
    int n = snprintf(text, sizeof(rtext), "HTTP/1.1 %u X\r\n%s\r\n", status, fields);
    if (h1_parse_response(text, (size_t)n, &lim, HTTP_GET, field, r) < 0)
        tap_bail("no answer: %s", text);
}

/* ---- storing: section 3, freshness: 4.2 ---- */

#define ANY -1 /* lifetime is not asked about */
static const struct {
    const char *name, *line, *q;
    unsigned status;
    const char *r;
    enum policy_reason want;
    int64_t lifetime;
} store[] = {
    /* 3: methods and statuses */
    {"3 GET with max-age", "GET /", "", 200, "Cache-Control: max-age=60\r\n", POLICY_NONE, 60},
    {"3 the method is not understood", "POST /", "", 200, "Cache-Control: max-age=60\r\n",
     POLICY_METHOD, ANY},
    {"3 PUT", "PUT /", "", 200, "Cache-Control: max-age=60\r\n", POLICY_METHOD, ANY},
    {"3 OPTIONS", "OPTIONS /", "", 200, "Cache-Control: max-age=60\r\n", POLICY_METHOD, ANY},
    {"RFC 10008 QUERY only when enabled", "QUERY /", "", 200, "Cache-Control: max-age=60\r\n",
     POLICY_METHOD, ANY},
    {"3 HEAD has no content to store", "HEAD /", "", 200, "Cache-Control: max-age=60\r\n",
     POLICY_HEAD, ANY},
    {"RFC 9110 9.3.1 GET with content", "GET /", "Content-Length: 3\r\n", 200,
     "Cache-Control: max-age=60\r\n", POLICY_REQUEST_BODY, ANY},
    {"3 final statuses only", "GET /", "", 103, "Cache-Control: max-age=60\r\n", POLICY_STATUS,
     ANY},
    {"3.3 206", "GET /", "", 206, "Cache-Control: max-age=60\r\n", POLICY_PARTIAL, ANY},
    {"3 304 by itself", "GET /", "", 304, "Cache-Control: max-age=60\r\n", POLICY_STATUS, ANY},
    {"3 an unknown status with freshness", "GET /", "", 299, "Cache-Control: max-age=60\r\n",
     POLICY_NONE, 60},
    {"3 a 500 with freshness", "GET /", "", 500, "Cache-Control: max-age=60\r\n", POLICY_NONE, 60},
    {"3 a 302 with Expires", "GET /", "", 302, D IN("14:14:20"), POLICY_NONE, 60},
    {"3 a 302 without", "GET /", "", 302, D LM, POLICY_STATUS, ANY},
    {"3 a 302, public", "GET /", "", 302, D LM "Cache-Control: public\r\n", POLICY_NONE, 600},
    /* 5.2.2.3 must-understand */
    {"5.2.2.3 not understood", "GET /", "", 299, "Cache-Control: must-understand, max-age=60\r\n",
     POLICY_NOT_UNDERSTOOD, ANY},
    {"5.2.2.3 416 is not", "GET /", "", 416, "Cache-Control: must-understand, max-age=60\r\n",
     POLICY_NOT_UNDERSTOOD, ANY},
    {"5.2.2.3 understood lifts no-store", "GET /", "", 200,
     "Cache-Control: must-understand, no-store, max-age=60\r\n", POLICY_NONE, 60},
    {"5.2.2.3 not understood with no-store", "GET /", "", 299,
     "Cache-Control: must-understand, no-store, max-age=60\r\n", POLICY_NOT_UNDERSTOOD, ANY},
    /* no-store */
    {"5.2.2.5 no-store", "GET /", "", 200, "Cache-Control: max-age=60, no-store\r\n",
     POLICY_NO_STORE, ANY},
    {"5.2.2.5 in a second line", "GET /", "", 200,
     "Cache-Control: max-age=60\r\nCache-Control: No-Store\r\n", POLICY_NO_STORE, ANY},
    {"5.2.1.5 no-store in the request", "GET /", "Cache-Control: no-store\r\n", 200,
     "Cache-Control: max-age=60\r\n", POLICY_REQUEST_NO_STORE, ANY},
    /* private, no-cache */
    {"5.2.2.7 private", "GET /", "", 200, "Cache-Control: private, max-age=60\r\n", POLICY_PRIVATE,
     ANY},
    {"5.2.2.7 private with fields", "GET /", "", 200,
     "Cache-Control: private=\"x\", max-age=60\r\n", POLICY_NONE, 60},
    {"5.2.2.7 private with fields that cannot be read", "GET /", "", 200,
     "Cache-Control: private=\"x y\", max-age=60\r\n", POLICY_PRIVATE, ANY},
    {"5.2.2.4 no-cache with a validator", "GET /", "", 200,
     "Cache-Control: no-cache\r\nETag: \"a\"\r\n", POLICY_NONE, 0},
    {"5.2.2.4 no-cache without is of no use", "GET /", "", 200,
     "Cache-Control: no-cache, max-age=60\r\n", POLICY_NOT_FRESH, ANY},
    {"5.2.2.4 no-cache with fields", "GET /", "", 200,
     "Cache-Control: no-cache=\"x\", max-age=60\r\n", POLICY_NONE, 60},
    {"5.4 Pragma in a response means nothing", "GET /", "", 200,
     "Pragma: no-cache\r\nCache-Control: max-age=60\r\n", POLICY_NONE, 60},
    /* Authorization */
    {"3.5 Authorization", "GET /", "Authorization: Basic x\r\n", 200,
     "Cache-Control: max-age=60\r\n", POLICY_AUTHORIZATION, ANY},
    {"3.5 with public", "GET /", "Authorization: Basic x\r\n", 200,
     "Cache-Control: public, max-age=60\r\n", POLICY_NONE, 60},
    {"3.5 with s-maxage", "GET /", "Authorization: Basic x\r\n", 200,
     "Cache-Control: s-maxage=60\r\n", POLICY_NONE, 60},
    {"3.5 with must-revalidate", "GET /", "Authorization: Basic x\r\n", 200,
     "Cache-Control: must-revalidate, max-age=60\r\n", POLICY_NONE, 60},
    {"3.5 a targeted max-age is not enough", "GET /", "Authorization: Basic x\r\n", 200,
     "CDN-Cache-Control: max-age=60\r\n", POLICY_AUTHORIZATION, ANY},
    /* Set-Cookie */
    {"7.3 Set-Cookie", "GET /", "", 200, "Set-Cookie: a=1\r\nCache-Control: max-age=60\r\n",
     POLICY_SET_COOKIE, ANY},
    {"7.3 Set-Cookie, public", "GET /", "", 200,
     "Set-Cookie: a=1\r\nCache-Control: public, max-age=60\r\n", POLICY_NONE, 60},
    {"7.3 Set-Cookie, s-maxage", "GET /", "", 200,
     "Set-Cookie: a=1\r\nCache-Control: s-maxage=60\r\n", POLICY_NONE, 60},
    {"7.3 Set-Cookie that is left out", "GET /", "", 200,
     "Set-Cookie: a=1\r\nCache-Control: no-cache=\"Set-Cookie\", max-age=60\r\n", POLICY_NONE, 60},
    /* Vary */
    {"4.1 Vary: *", "GET /", "", 200, "Vary: *\r\nCache-Control: max-age=60\r\n", POLICY_VARY, ANY},
    {"4.1 * among others", "GET /", "", 200, "Vary: A, *\r\nCache-Control: max-age=60\r\n",
     POLICY_VARY, ANY},
    {"4.1 a Vary nobody can read", "GET /", "", 200, "Vary: a b\r\nCache-Control: max-age=60\r\n",
     POLICY_VARY, ANY},
    {"4.1 Vary", "GET /", "", 200, "Vary: Origin\r\nCache-Control: max-age=60\r\n", POLICY_NONE,
     60},
    /* lifetimes */
    {"4.2.1 s-maxage over all", "GET /", "", 200,
     D IN("14:13:40") "Cache-Control: max-age=60, s-maxage=5\r\n", POLICY_NONE, 5},
    {"4.2.1 max-age over Expires", "GET /", "", 200,
     D IN("15:00:00") "Cache-Control: max-age=60\r\n", POLICY_NONE, 60},
    {"4.2.1 Expires minus Date", "GET /", "", 200, D IN("14:13:40"), POLICY_NONE, 20},
    {"4.2.1 Expires against its own Date", "GET /", "", 200,
     "Date: Mon, 21 Sep 2026 14:13:10 GMT\r\n" IN("14:13:40"), POLICY_NONE, 30},
    {"4.2.1 Expires without Date", "GET /", "", 200, IN("14:13:40"), POLICY_NONE, 20},
    {"4.2.1 the first of several", "GET /", "", 200, "Cache-Control: max-age=60, max-age=5\r\n",
     POLICY_NONE, 60},
    {"4.2.1 nonsense is stale", "GET /", "", 200, "ETag: \"a\"\r\nCache-Control: max-age=x\r\n",
     POLICY_NONE, 0},
    {"4.2.1 two Expires", "GET /", "", 200, D LM IN("14:13:40") IN("14:13:50"), POLICY_NONE, 0},
    {"5.3 Expires: 0", "GET /", "", 200, D LM "Expires: 0\r\n", POLICY_NONE, 0},
    {"5.3 Expires in the past", "GET /", "", 200, D LM IN("10:00:00"), POLICY_NONE, 0},
    {"5.3 Expires with a zone", "GET /", "", 200, D LM "Expires: Mon, 21 Sep 2026 15:13:20 EST\r\n",
     POLICY_NONE, 0},
    {"5.3 Expires in the past, nothing to validate", "GET /", "", 200, D "Expires: 0\r\n",
     POLICY_NOT_FRESH, ANY},
    {"5.2.2.1 max-age=0 with a validator", "GET /", "", 200,
     "ETag: \"a\"\r\nCache-Control: max-age=0\r\n", POLICY_NONE, 0},
    {"1.2.2 overflow", "GET /", "", 200, "Cache-Control: max-age=99999999999999999999\r\n",
     POLICY_NONE, 2147483648},
    {"4.2.2 a tenth of the time since the last change", "GET /", "", 200, D LM, POLICY_NONE, 600},
    {"4.2.2 an hour at most", "GET /", "", 200,
     D "Last-Modified: Mon, 21 Sep 2020 14:13:20 GMT\r\n", POLICY_NONE, 3600},
    {"4.2.2 changed in the future", "GET /", "", 200,
     D "Last-Modified: Mon, 21 Sep 2027 14:13:20 GMT\r\n", POLICY_NONE, 0},
    {"4.2.2 never beside an explicit time", "GET /", "", 200, D LM "Cache-Control: max-age=1\r\n",
     POLICY_NONE, 1},
    {"4.2.2 404 is heuristically cacheable", "GET /", "", 404, D LM, POLICY_NONE, 600},
    {"4.2.2 410", "GET /", "", 410, D LM, POLICY_NONE, 600},
    {"4.2.2 501", "GET /", "", 501, D LM, POLICY_NONE, 600},
    {"4.2.2 403 is not", "GET /", "", 403, D LM, POLICY_STATUS, ANY},
    {"4.2.2 nothing to guess from", "GET /", "", 200, D, POLICY_NOT_FRESH, ANY},
    {"4.2.2 only a tag", "GET /", "", 200, "ETag: \"a\"\r\n", POLICY_NONE, 0},
    {"4.2.4 stale-while-revalidate alone makes it worth keeping", "GET /", "", 200,
     "Cache-Control: max-age=0, stale-while-revalidate=5\r\n", POLICY_NONE, 0},
    {"4.2.3 older than its lifetime", "GET /", "", 200, "Age: 61\r\nCache-Control: max-age=60\r\n",
     POLICY_NOT_FRESH, ANY},
    /* RFC 9213 */
    {"RFC 9213 2.2 replaces Cache-Control", "GET /", "", 200,
     "Cache-Control: no-store\r\nCDN-Cache-Control: max-age=60\r\n", POLICY_NONE, 60},
    {"RFC 9213 2.2 replaces Expires", "GET /", "", 200,
     D LM IN("15:00:00") "CDN-Cache-Control: none\r\n", POLICY_NONE, 600},
    {"RFC 9213 2.2 ours first", "GET /", "", 200,
     "CDN-Cache-Control: max-age=5\r\nRPD-Cache-Control: max-age=60\r\n", POLICY_NONE, 60},
    {"RFC 9213 2.1 a broken one", "GET /", "", 200,
     "Cache-Control: max-age=60\r\nCDN-Cache-Control: max-age=5,\r\n", POLICY_NONE, 60},
    {"RFC 9213 no-store", "GET /", "", 200,
     "Cache-Control: max-age=60\r\nCDN-Cache-Control: no-store\r\n", POLICY_NO_STORE, ANY},
    {"event streams", "GET /", "", 200,
     "Content-Type: text/event-stream\r\nCache-Control: max-age=60\r\n", POLICY_STREAM, ANY},
    {"too large", "GET /", "", 200, "Content-Length: 99999999999\r\nCache-Control: max-age=60\r\n",
     POLICY_TOO_LARGE, ANY},
};

static void storing(void)
{
    struct cache_rules rules;
    policy_rules_init(&rules);
    for (size_t i = 0; i < sizeof(store) / sizeof(store[0]); i++) {
        const struct policy_times t = {NOW, NOW};
        struct http_request q;
        struct http_response r;
        struct policy_request pq;
        struct policy_stored s;
        request(store[i].line, store[i].q, &q);
        response(rtext, rfield, store[i].status, store[i].r, &r);
        policy_request(&rules, &q, &pq);
        enum policy_reason why = policy_response(&rules, &pq, &r, &t, &s);
        bool ok = tap_ok(why == store[i].want, "%s: '%s'", store[i].name,
                         policy_reason_name(store[i].want));
        if (!ok)
            printf("#   got '%s'\n", policy_reason_name(why));
        if (store[i].lifetime != ANY)
            tap_is_int(s.lifetime, store[i].lifetime, "%s: lifetime", store[i].name);
    }
}

/* ---- what the configuration adds ---- */

static struct policy_stored stored_of(const struct cache_rules *rules, unsigned status,
                                      const char *fields, enum policy_reason *ret)
{
    const struct policy_times t = {NOW, NOW};
    struct http_request q;
    struct http_response r;
    struct policy_request pq;
    struct policy_stored s;
    request("GET /", "", &q);
    response(rtext, rfield, status, fields, &r);
    policy_request(rules, &q, &pq);
    *ret = policy_response(rules, &pq, &r, &t, &s);
    return s;
}

static void configured(void)
{
    static const struct policy_ttl ttl[] = {{200, 30}, {404, 10}, {502, 1}};
    struct cache_rules rules;
    enum policy_reason why;
    policy_rules_init(&rules);
    rules.default_ttl = ttl;
    rules.ndefault_ttl = 3;
    struct policy_stored s = stored_of(&rules, 404, "", &why);
    tap_ok(why == POLICY_NONE && s.lifetime == 10, "default_ttl: negative caching");
    s = stored_of(&rules, 502, "", &why);
    tap_ok(why == POLICY_NONE && s.lifetime == 1, "default_ttl: of a status that is not cacheable");
    s = stored_of(&rules, 200, D LM, &why);
    tap_ok(why == POLICY_NONE && s.lifetime == 30, "default_ttl: goes before guessing");
    s = stored_of(&rules, 200, "Cache-Control: max-age=5\r\n", &why);
    tap_ok(why == POLICY_NONE && s.lifetime == 5, "default_ttl: not over what the answer says");
    (void)stored_of(&rules, 404, "Cache-Control: no-store\r\n", &why);
    tap_is_int(why, POLICY_NO_STORE, "default_ttl: no-store is no-store");
    rules.has_ttl = true;
    rules.ttl = 1000;
    s = stored_of(&rules, 200, "Cache-Control: max-age=5\r\n", &why);
    tap_ok(why == POLICY_NONE && s.lifetime == 1000, "ttl: replaces max-age");
    (void)stored_of(&rules, 200, "Cache-Control: private, max-age=5\r\n", &why);
    tap_is_int(why, POLICY_PRIVATE, "ttl: nothing private is stored");
    s = stored_of(&rules, 404, "", &why);
    tap_ok(why == POLICY_NONE && s.lifetime == 10, "ttl: not for errors");
    rules.strip_set_cookie = true;
    (void)stored_of(&rules, 200, "Set-Cookie: a=1\r\n", &why);
    tap_is_int(why, POLICY_NONE, "strip_set_cookie");
    rules.stale_if_error = 77;
    rules.stale_while_revalidate = 7;
    s = stored_of(&rules, 200, "", &why);
    tap_ok(s.stale_if_error == 77 && s.stale_while_revalidate == 7, "configured staleness");
    s = stored_of(&rules, 200, "Cache-Control: stale-if-error=1, stale-while-revalidate=2\r\n",
                  &why);
    tap_ok(s.stale_if_error == 1 && s.stale_while_revalidate == 2, "the answer knows better");
    s = stored_of(&rules, 200, "Cache-Control: must-revalidate\r\n", &why);
    tap_ok(s.stale_if_error == 0 && s.stale_while_revalidate == 0, "5.2.2.2 must-revalidate");
    s = stored_of(&rules, 200, "Cache-Control: s-maxage=1\r\n", &why);
    tap_ok(s.stale_if_error == 0 && s.stale_while_revalidate == 0, "5.2.2.10 s-maxage");
    s = stored_of(&rules, 200, "Cache-Control: s-maxage=1, stale-while-revalidate=9\r\n", &why);
    tap_ok(s.stale_if_error == 0 && s.stale_while_revalidate == 9,
           "5.2.2.10 but what the same answer says itself");

    struct http_request q;
    struct policy_request pq;
    policy_rules_init(&rules);
    rules.methods |= 1u << HTTP_QUERY;
    request("QUERY /", "Content-Length: 3\r\n", &q);
    policy_request(&rules, &q, &pq);
    tap_ok(pq.lookup && pq.store && !pq.invalidates, "RFC 10008 QUERY with content");
    rules.client_control = false;
    request("GET /", "Cache-Control: no-store, no-cache, only-if-cached\r\n", &q);
    policy_request(&rules, &q, &pq);
    tap_ok(pq.store && pq.cc.has == 0 && !pq.only_if_cached, "client_control = off");
    request("GET /", "Upgrade: websocket\r\nConnection: upgrade\r\n", &q);
    policy_request(&rules, &q, &pq);
    tap_ok(!pq.lookup && pq.reason == POLICY_UPGRADE, "upgrades pass");
}

/* ---- age: 4.2.3 ---- */

static const struct {
    const char *name, *r;
    int64_t delay; /* of the answer */
    int64_t age;   /* on receipt */
} aged[] = {
    {"4.2.3 nothing said", "", 0, 0},
    {"4.2.3 apparent age", "Date: Mon, 21 Sep 2026 14:13:00 GMT\r\n", 0, 20},
    {"4.2.3 a Date in the future is age 0", "Date: Mon, 21 Sep 2026 15:00:00 GMT\r\n", 0, 0},
    {"4.2.3 Age", D "Age: 7\r\n", 0, 7},
    {"4.2.3 Age and delay", D "Age: 7\r\n", 3, 10},
    {"4.2.3 delay alone", D, 3, 3},
    {"4.2.3 the larger one", "Age: 7\r\nDate: Mon, 21 Sep 2026 14:13:00 GMT\r\n", 3, 20},
    {"5.1 the first of several", D "Age: 7, 900\r\n", 0, 7},
    {"5.1 the first line", D "Age: 7\r\nAge: 900\r\n", 0, 7},
    {"5.1 no number is ignored", D "Age: -7\r\n", 0, 0},
    {"5.1 a fraction", D "Age: 7.5\r\n", 0, 0},
    {"5.1 quotes", D "Age: \"7\"\r\n", 0, 0},
    {"1.2.2 overflow", D "Age: 99999999999999\r\n", 0, 2147483648},
    {"a bad Date counts as receipt", "Date: today\r\n", 0, 0},
};

static void ages(void)
{
    struct cache_rules rules;
    policy_rules_init(&rules);
    for (size_t i = 0; i < sizeof(aged) / sizeof(aged[0]); i++) {
        const struct policy_times t = {NOW - aged[i].delay, NOW};
        struct http_response r;
        struct policy_stored s;
        response(rtext, rfield, 200, aged[i].r, &r);
        policy_freshness(&rules, 200, r.field, r.nfield, &t, &s);
        tap_is_int(NOW - s.base, aged[i].age, "%s", aged[i].name);
    }
}

/* ---- using what is stored: 4.2.4, 5.2.1, RFC 5861, RFC 8246 ---- */

/* Each answer has ETag and max-age=100 and what r adds, at the age given. */
#define FRESH POLICY_FRESH
#define VALID POLICY_VALIDATE
#define SWR   POLICY_STALE_WHILE_REVALIDATE
static const struct {
    const char *name, *r, *q;
    int64_t age;
    enum policy_decision want;
    bool soft, sie, timeout;
} use[] = {
    {"4.2 fresh", "max-age=100", "", 99, FRESH, false, false, false},
    {"4.2 fresh means younger than its lifetime", "max-age=100", "", 100, VALID, false, false,
     false},
    {"4.2.4 stale", "max-age=100", "", 5000, VALID, false, false, false},
    {"5.2.2.4 no-cache", "max-age=100, no-cache", "", 0, VALID, false, false, false},
    {"5.2.2.4 no-cache is never stale-if-error", "max-age=100, no-cache, stale-if-error=500", "", 0,
     VALID, false, false, false},
    {"5.2.2.4 no-cache with fields is fresh", "max-age=100, no-cache=\"x\"", "", 0, FRESH, false,
     false, false},
    {"5.2.2.2 must-revalidate while fresh", "max-age=100, must-revalidate", "", 50, FRESH, false,
     false, false},
    {"5.2.2.2 must-revalidate, stale", "max-age=100, must-revalidate",
     "Cache-Control: max-stale\r\n", 101, VALID, false, false, false},
    {"5.2.2.8 proxy-revalidate, stale", "max-age=100, proxy-revalidate",
     "Cache-Control: max-stale\r\n", 101, VALID, false, false, false},
    {"5.2.2.10 s-maxage, stale", "s-maxage=100", "Cache-Control: max-stale\r\n", 101, VALID, false,
     false, false},
    /* the client's wishes */
    {"5.2.1.4 no-cache", "max-age=100", "Cache-Control: no-cache\r\n", 1, VALID, false, false,
     false},
    {"5.4 Pragma: no-cache", "max-age=100", "Pragma: no-cache\r\n", 1, VALID, false, false, false},
    {"5.2.1.1 max-age, younger", "max-age=100", "Cache-Control: max-age=10\r\n", 10, FRESH, false,
     false, false},
    {"5.2.1.1 max-age, older", "max-age=100", "Cache-Control: max-age=10\r\n", 11, VALID, false,
     false, false},
    {"5.2.1.1 max-age=0", "max-age=100", "Cache-Control: max-age=0\r\n", 1, VALID, false, false,
     false},
    {"5.2.1.1 max-age nonsense", "max-age=100", "Cache-Control: max-age=x\r\n", 1, VALID, false,
     false, false},
    {"5.2.1.2 max-stale", "max-age=100", "Cache-Control: max-stale\r\n", 5000, POLICY_STALE, false,
     false, false},
    {"5.2.1.2 max-stale=N, within", "max-age=100", "Cache-Control: max-stale=10\r\n", 110,
     POLICY_STALE, false, false, false},
    {"5.2.1.2 max-stale=N, beyond", "max-age=100", "Cache-Control: max-stale=10\r\n", 111, VALID,
     false, false, false},
    {"5.2.1.2 max-stale with max-age", "max-age=100", "Cache-Control: max-stale=10, max-age=5\r\n",
     105, POLICY_STALE, false, false, false},
    {"5.2.1.3 min-fresh, enough", "max-age=100", "Cache-Control: min-fresh=10\r\n", 90, FRESH,
     false, false, false},
    {"5.2.1.3 min-fresh, too little", "max-age=100", "Cache-Control: min-fresh=10\r\n", 91, VALID,
     false, false, false},
    {"5.2.1.5 no-store may be answered from the cache", "max-age=100",
     "Cache-Control: no-store\r\n", 1, FRESH, false, false, false},
    {"5.2.1.7 only-if-cached, fresh", "max-age=100", "Cache-Control: only-if-cached\r\n", 1, FRESH,
     false, false, false},
    {"5.2.1.7 only-if-cached, stale", "max-age=100", "Cache-Control: only-if-cached\r\n", 101,
     VALID, false, false, true},
    {"5.2.1.7 only-if-cached, max-stale", "max-age=100",
     "Cache-Control: only-if-cached, max-stale\r\n", 101, POLICY_STALE, false, false, false},
    /* Authorization */
    {"3.5 for those with Authorization: not said to be for all", "max-age=100",
     "Authorization: Basic x\r\n", 1, POLICY_MISS, false, false, false},
    {"3.5 said", "max-age=100, public", "Authorization: Basic x\r\n", 1, FRESH, false, false,
     false},
    /* RFC 5861 */
    {"RFC 5861 3 within", "max-age=100, stale-while-revalidate=50", "", 149, SWR, false, false,
     false},
    {"RFC 5861 3 beyond", "max-age=100, stale-while-revalidate=50", "", 150, VALID, false, false,
     false},
    {"RFC 5861 3 fresh first", "max-age=100, stale-while-revalidate=50", "", 99, FRESH, false,
     false, false},
    {"RFC 5861 3 not against no-cache of the client", "max-age=100, stale-while-revalidate=50",
     "Cache-Control: no-cache\r\n", 120, VALID, false, false, false},
    {"RFC 5861 3 nor max-age", "max-age=100, stale-while-revalidate=50",
     "Cache-Control: max-age=0\r\n", 120, VALID, false, false, false},
    {"RFC 5861 3 nor must-revalidate", "max-age=100, stale-while-revalidate=50, must-revalidate",
     "", 120, VALID, false, false, false},
    {"RFC 5861 4 within", "max-age=100, stale-if-error=50", "", 149, VALID, false, true, false},
    {"RFC 5861 4 beyond", "max-age=100, stale-if-error=50", "", 150, VALID, false, false, false},
    {"RFC 5861 4 both", "max-age=100, stale-while-revalidate=5, stale-if-error=50", "", 120, VALID,
     false, true, false},
    {"RFC 5861 4 in the request", "max-age=100", "Cache-Control: stale-if-error=50\r\n", 149, VALID,
     false, true, false},
    {"RFC 5861 4 in the request, must-revalidate", "max-age=100, must-revalidate",
     "Cache-Control: stale-if-error=50\r\n", 149, VALID, false, false, false},
    /* RFC 8246 */
    {"RFC 8246 2 immutable and a reload", "max-age=100, immutable", "Cache-Control: max-age=0\r\n",
     50, FRESH, false, false, false},
    {"RFC 8246 2 immutable and no-cache", "max-age=100, immutable", "Cache-Control: no-cache\r\n",
     50, VALID, false, false, false},
    {"RFC 8246 2 immutable only while fresh", "max-age=100, immutable", "", 101, VALID, false,
     false, false},
    /* purged softly */
    {"soft purge", "max-age=100", "", 1, VALID, true, false, false},
    {"soft purge with stale-while-revalidate", "max-age=100, stale-while-revalidate=50", "", 1, SWR,
     true, false, false},
    {"soft purge with stale-if-error", "max-age=100, stale-if-error=50", "", 1, VALID, true, true,
     false},
    {"soft purge is more than max-stale", "max-age=100", "Cache-Control: max-stale\r\n", 1, VALID,
     true, false, false},
    {"1.2.2 an age that cannot be counted", "max-age=9999999999", "", 4000000000, VALID, false,
     false, false},
};

static void using_stored(void)
{
    struct cache_rules rules;
    policy_rules_init(&rules);
    for (size_t i = 0; i < sizeof(use) / sizeof(use[0]); i++) {
        char fields[256];
        struct http_request q;
        struct policy_request pq;
        struct policy_use u;
        enum policy_reason why;
        (void)snprintf(fields, sizeof(fields), "ETag: \"a\"\r\nCache-Control: %s\r\n", use[i].r);
        struct policy_stored s = stored_of(&rules, 200, fields, &why);
        request("GET /", use[i].q, &q);
        policy_request(&rules, &q, &pq);
        policy_use(&pq, &s, use[i].soft, NOW + use[i].age, &u);
        tap_is_int(u.decision, use[i].want, "%s", use[i].name);
        tap_ok(u.stale_if_error == use[i].sie && u.gateway_timeout == use[i].timeout,
               "%s: on errors, 504", use[i].name);
        if (use[i].age < 100000)
            tap_ok(u.age == (uint32_t)use[i].age && u.ttl == 100 - use[i].age, "%s: age and ttl",
                   use[i].name);
    }
    tap_ok(policy_is_failure(0) && policy_is_failure(500) && policy_is_failure(504) &&
               !policy_is_failure(501) && !policy_is_failure(404),
           "RFC 5861 4 what an error is");
}

/* ---- 3.1, 3.2, 4.3 ---- */

static const struct {
    const char *name, *cc;
    enum policy_field want;
} kept[] = {
    {"Content-Type", "", POLICY_FIELD_KEEP},
    {"Connection", "", POLICY_FIELD_DROP},
    {"Keep-Alive", "", POLICY_FIELD_DROP},
    {"Transfer-Encoding", "", POLICY_FIELD_DROP},
    {"Upgrade", "", POLICY_FIELD_DROP},
    {"Proxy-Authenticate", "", POLICY_FIELD_DROP},
    {"Proxy-Authentication-Info", "", POLICY_FIELD_DROP},
    {"Age", "", POLICY_FIELD_DROP},
    {"Content-Length", "", POLICY_FIELD_DROP},
    {"Set-Cookie", "public", POLICY_FIELD_KEEP},
    {"Set-Cookie", "no-cache=\"set-cookie\"", POLICY_FIELD_DROP},
    {"X-User", "private=\"x-user, y\"", POLICY_FIELD_DROP},
    {"X-User2", "private=\"x-user, y\"", POLICY_FIELD_KEEP},
    {"CDN-Cache-Control", "", POLICY_FIELD_KEEP},
    {"RPD-Cache-Control", "", POLICY_FIELD_INTERNAL},
    {"Surrogate-Control", "", POLICY_FIELD_INTERNAL},
    {"Surrogate-Key", "", POLICY_FIELD_INTERNAL},
    {"Cache-Tag", "", POLICY_FIELD_INTERNAL},
};

static struct slice value_of(const struct http_field *f, int n, const char *name)
{
    for (int i = 0; i < n; i++) {
        if (slice_eq_ci(f[i].name, slice_str(name)))
            return f[i].value;
    }
    return SLICE("(none)");
}

static void merging(void)
{
    struct cache_rules rules;
    struct http_response was, is;
    struct cache_control cc = {0};
    struct http_field out[32];
    policy_rules_init(&rules);
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        struct http_field f = {.name = slice_str(kept[i].name), .value = SLICE("x")};
        f.id = http_field_id_of(f.name);
        f.flags = http_field_flags(f.id);
        cc = (struct cache_control){0};
        cache_control_add(&cc, slice_str(kept[i].cc));
        tap_is_int(policy_field(&rules, &cc, &f), kept[i].want, "3.1 %s (%s)", kept[i].name,
                   kept[i].cc);
    }
    response(rtext, rfield, 200,
             "ETag: \"a\"\r\nX-A: 1\r\nx-b: 1\r\nX-B: 2\r\nContent-Encoding: gzip\r\n"
             "Content-Type: text/css\r\nCache-Control: max-age=1\r\n",
             &was);
    response(ntext, nfield, 304,
             "ETag: \"a\"\r\nX-B: 3\r\nX-C: 4\r\nContent-Encoding: br\r\nContent-Length: 9\r\n"
             "Content-Type: text/plain\r\nConnection: close, x-a\r\nX-A: 2\r\nAge: 5\r\n"
             "Cache-Control: max-age=9\r\nX-D: secret\r\n",
             &is);
    cc = (struct cache_control){0};
    cache_control_add(&cc, SLICE("private=\"x-d\""));
    int n = update_merge(&rules, &cc, was.field, was.nfield, is.field, is.nfield, out, 32);
    tap_is_int(n, 7, "3.2 fields after merging");
    tap_is_slice(value_of(out, n, "x-b"), SLICE("3"), "3.2 all of a name are replaced");
    tap_is_slice(value_of(out, n, "x-c"), SLICE("4"), "3.2 new ones are added");
    tap_is_slice(value_of(out, n, "x-a"), SLICE("1"), "3.2 what is not stored replaces nothing");
    tap_is_slice(value_of(out, n, "content-encoding"), SLICE("gzip"), "3.2 the coding stays");
    tap_is_slice(value_of(out, n, "content-type"), SLICE("text/plain"), "3.2 the type is replaced");
    tap_is_slice(value_of(out, n, "content-length"), SLICE("(none)"), "3.2 the length never");
    tap_is_slice(value_of(out, n, "cache-control"), SLICE("max-age=9"), "3.2 freshness");
    tap_is_slice(value_of(out, n, "x-d"), SLICE("(none)"), "3.2 private fields");
    tap_is_int(update_merge(&rules, &cc, was.field, was.nfield, is.field, is.nfield, out, 6),
               -ERR_RANGE, "no room");
}

static const struct {
    const char *name, *stored, *r304;
    bool want;
} match[] = {
    {"4.3.4 the same strong tag", "ETag: \"a\"\r\n", "ETag: \"a\"\r\n", true},
    {"4.3.4 another", "ETag: \"a\"\r\n", "ETag: \"b\"\r\n", false},
    {"4.3.4 a strong one against a weak", "ETag: W/\"a\"\r\n", "ETag: \"a\"\r\n", false},
    {"4.3.4 a weak one", "ETag: W/\"a\"\r\n", "ETag: W/\"a\"\r\n", true},
    {"4.3.4 a weak one against a strong", "ETag: \"a\"\r\n", "ETag: W/\"a\"\r\n", true},
    {"4.3.4 none was stored", LM, "ETag: \"a\"\r\n", false},
    {"4.3.4 Last-Modified", LM, LM, true},
    {"4.3.4 another Last-Modified", LM, "Last-Modified: Mon, 21 Sep 2026 12:33:21 GMT\r\n", false},
    {"4.3.4 no validator", "ETag: \"a\"\r\n" LM, "", true},
};

static const struct {
    const char *name, *stored, *head;
    unsigned status;
    enum update_head want;
} head[] = {
    {"4.3.5 all equal", "ETag: \"a\"\r\n" LM, "ETag: \"a\"\r\n" LM "Content-Length: 10\r\n", 200,
     UPDATE_HEAD_RENEW},
    {"4.3.5 another tag", "ETag: \"a\"\r\n", "ETag: \"b\"\r\n", 200, UPDATE_HEAD_STALE},
    {"4.3.5 another length", "ETag: \"a\"\r\n", "ETag: \"a\"\r\nContent-Length: 11\r\n", 200,
     UPDATE_HEAD_STALE},
    {"4.3.5 another time", LM, "Last-Modified: Mon, 21 Sep 2026 12:33:21 GMT\r\n", 200,
     UPDATE_HEAD_STALE},
    {"4.3.5 a tag that was not there", LM, "ETag: \"b\"\r\n", 200, UPDATE_HEAD_STALE},
    {"4.3.5 nothing to compare", "ETag: \"a\"\r\n", "", 200, UPDATE_HEAD_NOTHING},
    {"4.3.5 other statuses", "ETag: \"a\"\r\n", "ETag: \"a\"\r\n", 404, UPDATE_HEAD_NOTHING},
};

static void validating(void)
{
    char text[512];
    struct http_response was, is;
    struct head_out o = {.p = text, .cap = sizeof(text)};
    response(rtext, rfield, 200, "ETag: W/\"a\"\r\n" LM, &was);
    tap_is_int(update_conditions(&o, was.field, was.nfield), 2, "4.3.1 both validators");
    tap_is_slice(slice_of(text, o.n),
                 SLICE("If-None-Match: W/\"a\"\r\n"
                       "If-Modified-Since: Mon, 21 Sep 2026 12:33:20 GMT\r\n"),
                 "4.3.1 as received");
    response(rtext, rfield, 200, D, &was);
    tap_is_int(update_conditions(&o, was.field, was.nfield), 0, "4.3.1 none");
    for (size_t i = 0; i < sizeof(match) / sizeof(match[0]); i++) {
        response(rtext, rfield, 200, match[i].stored, &was);
        response(ntext, nfield, 304, match[i].r304, &is);
        tap_is_int(update_matches(was.field, was.nfield, &is), match[i].want, "%s", match[i].name);
    }
    for (size_t i = 0; i < sizeof(head) / sizeof(head[0]); i++) {
        response(rtext, rfield, 200, head[i].stored, &was);
        response(ntext, nfield, head[i].status, head[i].head, &is);
        tap_is_int(update_head(was.field, was.nfield, 10, &is), head[i].want, "%s", head[i].name);
    }
    struct conditions_validators v;
    response(rtext, rfield, 200, D LM "ETag: \"a\"\r\n", &was);
    policy_validators(was.field, was.nfield, NOW, &v);
    tap_ok(v.has_modified && v.modified == NOW - 6000 && v.date == NOW &&
               slice_eq(v.etag, SLICE("\"a\"")),
           "validators of an answer");
    response(rtext, rfield, 200, "Date: Mon, 21 Sep 2026 14:13:00 GMT\r\n", &was);
    policy_validators(was.field, was.nfield, NOW, &v);
    tap_ok(!v.has_modified && v.modified == NOW - 20, "4.3.2 Date in place of Last-Modified");
}

/* ---- invalidation: 4.4 ---- */

static const struct {
    const char *line, *value, *want; /* NULL: not ours */
} uri[] = {
    {"POST /a/b?c", "/x", "/x"},
    {"POST /a/b?c", "/x?y=1", "/x?y=1"},
    {"POST /a/b?c", "/x?", "/x?"},
    {"POST /a/b?c", "/x#frag?no", "/x"},
    {"POST /a/b?c", "x", "/a/x"},
    {"POST /a/b?c", "../x", "/x"},
    {"POST /a/b?c", "./", "/a/"},
    {"POST /a/b?c", "?d", "/a/b?d"},
    {"POST /a/b?c", "#d", "/a/b?c"},
    {"POST /a/b?c", "http://a.example/x", "/x"},
    {"POST /a/b?c", "HTTP://A.EXAMPLE:80/x", "/x"},
    {"POST /a/b?c", "http://a.example", "/"},
    {"POST /a/b?c", "http://a.example?q", "/?q"},
    {"POST /a/b?c", "//a.example/x", "/x"},
    {"POST /a/b?c", "/x?u=http://b.example/", "/x?u=http://b.example/"},
    {"POST /a/b?c", "http://b.example/x", NULL},
    {"POST /a/b?c", "https://a.example/x", NULL},
    {"POST /a/b?c", "http://a.example:81/x", NULL},
    {"POST /a/b?c", "http://user@a.example/x", NULL},
    {"POST /a/b?c", "//b.example/x", NULL},
    {"POST /a/b?c", "mailto:x@a.example", NULL},
    {"POST /a/b?c", "http:/x", NULL},
    {"POST /a/b?c", "/%00", NULL},
    {"POST /a/b?c", "", NULL},
};

static void invalidating(void)
{
    static const struct {
        const char *line;
        unsigned status;
        bool want;
    } row[] = {{"POST /", 200, true},   {"PUT /", 204, true},     {"DELETE /", 303, true},
               {"PATCH /", 200, true},  {"FOO /", 200, true},     {"POST /", 404, false},
               {"POST /", 500, false},  {"GET /", 200, false},    {"HEAD /", 200, false},
               {"QUERY /", 200, false}, {"OPTIONS /", 200, false}};
    struct cache_rules rules;
    struct http_request q;
    struct policy_request pq;
    struct arena a;
    policy_rules_init(&rules);
    arena_init(&a, NULL, 0, 0);
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        request(row[i].line, "", &q);
        policy_request(&rules, &q, &pq);
        tap_is_int(update_invalidates(&pq, row[i].status), row[i].want, "4.4 %s %u", row[i].line,
                   row[i].status);
    }
    for (size_t i = 0; i < sizeof(uri) / sizeof(uri[0]); i++) {
        struct slice path, query;
        bool has;
        request(uri[i].line, "", &q);
        const struct key_input in = {SLICE("http"), &q, SLICE("a.example")};
        int rc = update_uri(&in, slice_str(uri[i].value), &a, &path, &query, &has);
        if (uri[i].want == NULL) {
            tap_is_int(rc, -ERR_NOENT, "4.4 not invalidated: %s", uri[i].value);
            continue;
        }
        struct slice got = rc < 0 ? SLICE("failed")
                                  : arena_printf(&a, "%.*s%s%.*s", SLICE_ARG(path), has ? "?" : "",
                                                 SLICE_ARG(query));
        tap_is_slice(got, slice_str(uri[i].want), "4.4 %s", uri[i].value);
    }
    arena_fini(&a);
}

int main(void)
{
    storing();
    configured();
    ages();
    using_stored();
    merging();
    validating();
    invalidating();
    return tap_done();
}
