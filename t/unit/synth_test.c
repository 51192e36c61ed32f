/* worker/stream/synth: error pages, what is told of errors, and `return` templates with hostile
 * values. */
#include "base/err.h"
#include "t/unit/tap.h"
#include "worker/stream/synth.h"

static struct arena a;

static struct slice error_of(const struct conf_scope_keys *k, unsigned status, int err,
                             const char *id, struct slice *ret_type)
{
    struct slice body;
    if (synth_error(&a, k, status, err, slice_str(id), false, ret_type, &body) < 0)
        tap_bail("synth_error");
    return body;
}

static void test_plain(void)
{
    struct slice type, body;
    tap_is_str(error_of(NULL, 404, ERR_NO_ROUTE, "abc", &type),
               "404 Not Found\nno route matches\nrequest id: abc\n", "plain");
    tap_is_str(type, "text/plain; charset=utf-8", "its type");
    tap_is_str(error_of(NULL, 400, -ERR_OBS_FOLD, NULL, &type),
               "400 Bad Request\nfolded header field line\n",
               "client errors are told, request id or not");
    tap_is_str(error_of(NULL, 403, 0, "x", &type), "403 Forbidden\nrequest id: x\n",
               "no error, no sentence");
    for (int e = 1; e < ERR__COUNT; e++) {
        if (err_source(e) == ERR_SRC_CLIENT || !err_status(e) || e == ERR_NO_ROUTE ||
            e == ERR_NO_HOST || e == ERR_LOOP)
            continue;
        body = error_of(NULL, (unsigned)err_status(e), e, "x", &type);
        if (memmem(body.p, body.n, err_text(e), strlen(err_text(e))))
            tap_ok(false, "%s tells the client about us", err_reason(e));
    }
    body = error_of(NULL, 502, ERR_CONNECT_REFUSED, "x", &type);
    tap_ok(memmem(body.p, body.n, "refused", 7) == NULL, "what the server did is not told");
    tap_is_int(synth_error(&a, NULL, 404, ERR_NO_ROUTE, SLICE("x"), true, &type, &body), 0,
               "head only");
    tap_is_int(body.n, 0, "has no body");
}

static void test_pages(void)
{
    struct conf_error_page page[] = {
        {.class5 = true, .body = SLICE("any5 %{status}"), .type = SLICE("text/plain")},
        {.status = {404, 410},
         .nstatus = 2,
         .body = SLICE("<p>%{status} %{reason} %{request_id} 100%{x}%"),
         .type = SLICE("text/html")},
        {.class4 = true,
         .class5 = true,
         .body = SLICE("{\"id\":\"%{request_id}\"}"),
         .type = SLICE("application/json")},
        {.status = {502}, .nstatus = 1, .body = SLICE("only 502"), .type = SLICE("text/plain")},
    };
    struct conf_scope_keys k = {.error_page = {page, 4}};
    struct slice type;
    tap_is_str(error_of(&k, 410, 0, "<\"&'>", &type),
               "<p>410 Gone &lt;&quot;&amp;&#39;&gt; 100%{x}%", "values are escaped for HTML");
    tap_is_str(type, "text/html", "the page's type");
    tap_is_str(error_of(&k, 403, 0, "a\"\\\n", &type), "{\"id\":\"a\\\"\\\\\\u000A\"}",
               "and for JSON");
    tap_is_str(error_of(&k, 502, 0, "x", &type), "only 502", "exact before class");
    tap_is_str(error_of(&k, 503, 0, "x", &type), "any5 503", "the first class that fits");
    k.error_page.n = 2;
    tap_is_str(error_of(&k, 403, 0, "x", &type), "403 Forbidden\nrequest id: x\n",
               "no page for it");
}

static struct slice location_of(const char *tpl, const struct synth_request *q)
{
    const struct conf_return r = {.status = 302, .text = slice_str(tpl), .is_url = true};
    struct slice location, body, type;
    if (synth_return(&a, &r, q, &location, &body, &type) < 0)
        tap_bail("synth_return");
    return location;
}

static void test_return(void)
{
    struct synth_request q = {.host = SLICE("h.test:81"),
                              .path = SLICE("/a%20b"),
                              .query = SLICE("x=1"),
                              .has_query = true,
                              .scheme = SLICE("http")};
    struct slice location, body, type;
    tap_is_str(location_of("https://%{host}%{path}?%{query}", &q), "https://h.test:81/a%20b?x=1",
               "parts");
    tap_is_str(location_of("%{scheme}://www.h.test%{uri}#%{nope}", &q),
               "http://www.h.test/a%20b?x=1#%{nope}", "uri, and unknown ones");
    q.has_query = false;
    tap_is_str(location_of("/x%{uri", &q), "/x%{uri", "an open brace");
    tap_is_str(location_of("%{%{path}", &q), "%{/a%20b", "a name inside another's brace");
    q.path = SLICE("/\r\nSet-Cookie: a=b\x01\x7f\xff\\");
    tap_is_str(location_of("https://h%{path}", &q), "https://h/%0D%0ASet-Cookie:%20a=b%01%7F%FF%5C",
               "no injection");
    q.path = SLICE("///evil.test/");
    tap_is_str(location_of("https://h%{path}", &q), "https://h///evil.test/",
               "elsewhere slashes stay");
    tap_is_str(location_of("%{path}", &q), "/evil.test/", "no other host by path");
    tap_is_str(location_of("%{uri}", &q), "/evil.test/", "nor by uri");
    q.path = SLICE("/\\evil.test/");
    tap_is_str(location_of("%{path}", &q), "/%5Cevil.test/", "nor by a backslash");
    tap_is_str(location_of("https://h%{path}", &q), "https://h/%5Cevil.test/",
               "encoded elsewhere too");

    q.path = SLICE("/p");
    struct conf_return r = {.status = 200, .text = SLICE("hi %{path}\n")};
    tap_is_int(synth_return(&a, &r, &q, &location, &body, &type), 0, "a text");
    tap_is_str(body, "hi /p\n", "expanded");
    tap_is_str(type, "text/plain; charset=utf-8", "plain");
    tap_is_int(location.n, 0, "no location");
    r = (struct conf_return){.status = 301, .text = SLICE("/x"), .is_url = true};
    tap_is_int(synth_return(&a, &r, &q, &location, &body, &type), 0, "a redirect");
    tap_is_str(body, "301 Moved Permanently\n", "says so in words");
    r = (struct conf_return){.status = 204, .text = SLICE("never")};
    tap_is_int(synth_return(&a, &r, &q, &location, &body, &type), 0, "204");
    tap_ok(body.n == 0 && type.n == 0, "has no body");
    r = (struct conf_return){.status = 403};
    tap_is_int(synth_return(&a, &r, &q, &location, &body, &type), 0, "a bare error");
    tap_ok(body.n == 0 && type.n == 0 && location.n == 0, "is left to synth_error");
    r = (struct conf_return){.status = 200};
    tap_is_int(synth_return(&a, &r, &q, &location, &body, &type), 0, "a bare status");
    tap_is_str(body, "200 OK\n", "in words");
}

static void test_nomem(void)
{
    struct synth_request q = {.host = SLICE("h"),
                              .path = SLICE("/"),
                              .query = SLICE("q"),
                              .has_query = true,
                              .scheme = SLICE("http")};
    const struct conf_return r = {.status = 302, .text = SLICE("%{uri}"), .is_url = true};
    struct conf_error_page page = {
        .status = {404}, .nstatus = 1, .body = SLICE("%{status}"), .type = SLICE("text/html")};
    const struct conf_scope_keys k = {.error_page = {&page, 1}};
    struct slice x, y, z;
    struct arena none;
    char room[64];
    unsigned failed = 0;
    for (size_t n = 0; n < sizeof(room); n += 4) {
        arena_init(&none, room, n, 1);
        failed += synth_return(&none, &r, &q, &x, &y, &z) == -ERR_NOMEM;
        arena_reset(&none);
        failed += synth_error(&none, &k, 404, 0, SLICE("id"), false, &x, &y) == -ERR_NOMEM;
        arena_reset(&none);
        failed += synth_error(&none, NULL, 404, 0, SLICE("id"), false, &x, &y) == -ERR_NOMEM;
        arena_fini(&none);
    }
    tap_ok(failed > 5, "%u failed allocations are survived", failed);
}

int main(void)
{
    arena_init(&a, NULL, 0, 0);
    test_plain();
    test_pages();
    test_return();
    test_nomem();
    arena_fini(&a);
    return tap_done();
}
