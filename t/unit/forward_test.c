/* Heads as they go on: every byte of what servers and clients get. */
#include "worker/http/forward.h"

#include "base/addr.h"
#include "t/unit/tap.h"
#include "worker/http/h1_head.h"

static const struct h1_limits limits = {8192, 8192, 32768, 100};
static struct http_field field[100];
static char out[32768];

static struct http_request request(const char *text)
{
    struct http_request r;
    if (h1_parse_request(text, strlen(text), &limits, field, &r) < 0)
        tap_bail("not a request: %s", text);
    return r;
}

static const struct forward_request plain = {
    .client_ip = {"192.0.2.9", 9}, .scheme = {"http", 4}, .listen_port = 80, .keep_alive = true};

static struct slice forwarded(const char *text, const struct forward_request *f)
{
    struct http_request r = request(text);
    struct head_out o = {out, 0, sizeof(out), false};
    forward_request_head(&o, &r, f);
    tap_ok(!o.overflow, "it fits");
    /* One byte short is noticed, and no byte is written behind the end. */
    char *tight = malloc(o.n);
    if (tight == NULL)
        tap_bail("no memory");
    struct head_out exact = {tight, 0, o.n, false}, less = {tight, 0, o.n - 1, false};
    forward_request_head(&exact, &r, f);
    tap_ok(!exact.overflow && slice_eq(slice_of(tight, o.n), slice_of(out, o.n)), "it just fits");
    forward_request_head(&less, &r, f);
    tap_ok(less.overflow, "it does not fit");
    free(tight);
    return slice_of(out, o.n);
}

#define OWN                                                                                        \
    "X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n"             \
    "X-Forwarded-Port: 80\r\nX-Real-IP: 192.0.2.9\r\n"

static void test_request(void)
{
    struct forward_request f = plain;
    tap_is_str(
        forwarded("GET /p?q HTTP/1.1\r\nX-A: 1\r\nHost: a\r\nx-b:2\r\nX-C:  3  \r\n\r\n", &f),
        "GET /p?q HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-b: 2\r\nX-C: 3\r\n" OWN "\r\n",
        "order and spelling are kept, Host comes first");
    tap_is_str(
        forwarded("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n"
                  "Keep-Alive: 5\r\nProxy-Connection: x\r\nTE: gzip\r\nUpgrade: x\r\n"
                  "Proxy-Authorization: x\r\nHTTP2-Settings: x\r\nProxy: x\r\nX-Kept: 1\r\n\r\n",
                  &f),
        "GET / HTTP/1.1\r\nHost: a\r\nX-Kept: 1\r\n" OWN "\r\n", "hop by hop");
    tap_is_str(
        forwarded("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n"
                  "X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\nForwarded: for=6.6.6.6\r\n"
                  "X-Forwarded-Port: 1\r\nX_Forwarded_For: 6.6.6.6\r\nVia: 1.1 x\r\n\r\n",
                  &f),
        "GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 x\r\n" OWN "\r\n",
        "what a stranger says of itself is replaced");
    f.via = true;
    tap_is_str(
        forwarded("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.0 x\r\nA: b\r\nVia: 1.1 y (z)\r\n\r\n", &f),
        "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n" OWN "Via: 1.0 x, 1.1 y (z), 1.1 rpd\r\n\r\n",
        "Via is extended");
    tap_is_str(forwarded("GET / HTTP/1.0\r\nHost: a\r\n\r\n", &f),
               "GET / HTTP/1.1\r\nHost: a\r\n" OWN "Via: 1.0 rpd\r\n\r\n", "HTTP/1.0 becomes 1.1");
    tap_is_str(forwarded("GET / HTTP/1.0\r\nHost: a\r\nExpect: x\r\n\r\n", &f),
               "GET / HTTP/1.1\r\nHost: a\r\n" OWN "Via: 1.0 rpd\r\n\r\n",
               "an Expect of HTTP/1.0 does not come to life");
    f.via = false;
    f.keep_alive = false;
    tap_is_str(forwarded("GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n", &f),
               "GET / HTTP/1.1\r\nHost: a\r\n" OWN "Connection: close, TE\r\nTE: trailers\r\n\r\n",
               "TE: trailers, close");
    f.keep_alive = true;
    f.upgrade = true;
    tap_is_str(
        forwarded("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
                  &f),
        "GET / HTTP/1.1\r\nHost: a\r\n" OWN "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        "an upgrade");
}

static void test_body(void)
{
    struct forward_request f = plain;
    const char *post =
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 005\r\nExpect: 100-continue\r\n"
        "Trailer: X\r\n\r\n";
    f.framing = HTTP_BODY_LENGTH;
    f.content_length = 5;
    tap_is_str(forwarded(post, &f),
               "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n" OWN
               "Content-Length: 5\r\n\r\n",
               "a length");
    f.drop_expect = true;
    f.framing = HTTP_BODY_CHUNKED;
    tap_is_str(forwarded(post, &f),
               "POST / HTTP/1.1\r\nHost: a\r\nTrailer: X\r\n" OWN
               "Transfer-Encoding: chunked\r\n\r\n",
               "chunked, Expect answered");
    f.framing = HTTP_BODY_LENGTH;
    f.content_length = 0;
    tap_is_str(forwarded("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", &f),
               "PUT / HTTP/1.1\r\nHost: a\r\n" OWN "Content-Length: 0\r\n\r\n", "a length of zero");
}

static void test_targets(void)
{
    struct forward_request f = plain;
    tap_is_str(forwarded("GET http://a?x HTTP/1.1\r\nHost: b\r\n\r\n", &f),
               "GET /?x HTTP/1.1\r\nHost: a\r\n" OWN "\r\n", "absolute form");
    tap_is_str(forwarded("OPTIONS http://a HTTP/1.1\r\nHost: b\r\n\r\n", &f),
               "OPTIONS * HTTP/1.1\r\nHost: a\r\n" OWN "\r\n", "OPTIONS without a path");
    tap_is_str(forwarded("GET /? HTTP/1.1\r\nHost: a\r\n\r\n", &f),
               "GET /? HTTP/1.1\r\nHost: a\r\n" OWN "\r\n", "an empty query");
    f.host = SLICE("origin:81");
    f.target = SLICE("/new");
    f.request_id = SLICE("id1");
    tap_is_str(forwarded("GET /old HTTP/1.1\r\nHost: a\r\nX-Request-ID: 6\r\n\r\n", &f),
               "GET /new HTTP/1.1\r\nHost: origin:81\r\n" OWN "X-Request-Id: id1\r\n\r\n",
               "host, target and id given");
    f.host = f.target = f.request_id = SLICE_NONE;
    tap_is_str(forwarded("GET / HTTP/1.0\r\nX-Request-Id: 6\r\n\r\n", &f),
               "GET / HTTP/1.1\r\nHost: \r\nX-Request-Id: 6\r\nX-Forwarded-For: 192.0.2.9\r\n"
               "X-Forwarded-Proto: http\r\nX-Forwarded-Port: 80\r\nX-Real-IP: 192.0.2.9\r\n\r\n",
               "no authority; an id is kept");
}

static void test_trusted(void)
{
    struct forward_request f = plain;
    f.trusted = true;
    const char *chain =
        "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\n"
        "X-Forwarded-Host: b\r\nX-Forwarded-Port: 443\r\nX-Real-IP: 1.1.1.1\r\n"
        "Forwarded: for=1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\nX_Forwarded_For: x\r\n\r\n";
    tap_is_str(forwarded(chain, &f),
               "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\n"
               "X-Forwarded-Port: 443\r\nX-Real-IP: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\n"
               "X_Forwarded_For: x\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2, 192.0.2.9\r\n\r\n",
               "a trusted chain is kept and extended");
    tap_is_str(forwarded("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &f),
               "GET / HTTP/1.1\r\nHost: a\r\n" OWN "\r\n", "trusted, nothing said");
    f.forwarded = true;
    f.real_ip = SLICE("1.1.1.1");
    tap_is_str(forwarded("GET / HTTP/1.1\r\nHost: a\r\nForwarded: for=1.1.1.1\r\nX-Real-IP: x\r\n"
                         "Forwarded: for=b\r\n\r\n",
                         &f),
               "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.9\r\n"
               "X-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\nX-Forwarded-Port: 80\r\n"
               "X-Real-IP: 1.1.1.1\r\n"
               "Forwarded: for=1.1.1.1, for=b, for=192.0.2.9;host=a;proto=http\r\n\r\n",
               "Forwarded is extended, X-Real-IP given");
    f = plain;
    f.forwarded = true;
    f.client_ip = SLICE("2001:db8::1");
    f.scheme = SLICE("https");
    tap_is_str(forwarded("GET / HTTP/1.1\r\nHost: a:8\r\nForwarded: for=6.6.6.6\r\n\r\n", &f),
               "GET / HTTP/1.1\r\nHost: a:8\r\nX-Forwarded-For: 2001:db8::1\r\n"
               "X-Forwarded-Proto: https\r\nX-Forwarded-Host: a:8\r\nX-Forwarded-Port: 80\r\n"
               "X-Real-IP: 2001:db8::1\r\n"
               "Forwarded: for=\"[2001:db8::1]\";host=\"a:8\";proto=https\r\n\r\n",
               "Forwarded from a stranger is replaced; IPv6 and port are quoted");
    f.client_ip = SLICE("unix:");
    struct slice got = forwarded("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &f);
    const char want[] = "Forwarded: for=unknown;host=a;proto=https\r\n\r\n";
    tap_ok(slice_ends(got, slice_str(want)), "a unix peer is unknown");
}

static void test_via(void)
{
    static const struct {
        const char *via;
        unsigned n;
    } t[] = {{"1.1 rpd", 1},          {"1.1 rpd, 1.0 x, 1.1 RPD (hi)", 2},
             {"1.1 rpdx", 0},         {"rpd 1.1", 0},
             {"1.1  \t rpd\t(x)", 1}, {"", 0},
             {"HTTP/1.1 rpd,,", 1},   {"1.1 rpd:80", 0}};
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        char text[200];
        snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: a\r\nVia: %s\r\nVia: 1.1 z\r\n\r\n",
                 t[i].via);
        struct http_request r = request(text);
        tap_is_int(forward_via_count(&r), t[i].n, "Via: %s", t[i].via);
    }
}

static void test_client_of(void)
{
    static const struct {
        const char *fields, *want;
    } t[] = {
        {"X-Forwarded-For: 1.1.1.1", "1.1.1.1"},
        {"X-Forwarded-For: 6.6.6.6, 1.1.1.1", "1.1.1.1"},
        {"X-Forwarded-For: 6.6.6.6, 1.1.1.1, 10.0.0.1 , 10.0.0.2", "1.1.1.1"},
        {"X-Forwarded-For: 6.6.6.6, 1.1.1.1\r\nX-Forwarded-For: 10.0.0.1", "1.1.1.1"},
        {"X-Forwarded-For: 10.0.0.3, 10.0.0.1", "10.0.0.3"},
        {"X-Forwarded-For: 1.1.1.1:4711, 10.0.0.1", "1.1.1.1"},
        {"X-Forwarded-For: 2001:db8::1, 10.0.0.1", "2001:db8::1"},
        {"X-Forwarded-For: [2001:db8::1]:80", "2001:db8::1"},
        {"X-Forwarded-For: unknown", NULL},
        {"X-Forwarded-For: 1.1.1.1, unknown", NULL},
        {"X-Forwarded-For: 1.1.1.1, unknown, 10.0.0.1", "10.0.0.1"},
        {"X-Forwarded-For:", NULL},
        {"X-Forwarded-For: ,,", NULL},
        {"X-Forwarded-For: 2.2.2.2\r\nForwarded: for=1.1.1.1", "2.2.2.2"},
        {"Forwarded: for=1.1.1.1", "1.1.1.1"},
        {"Forwarded: proto=http;For=\"1.1.1.1:80\";by=x, for=10.0.0.1", "1.1.1.1"},
        {"Forwarded: for=\"[2001:db8::1]:80\";host=\"a,b;for=6.6.6.6\"", "2001:db8::1"},
        {"Forwarded: for=6.6.6.6, for=_hidden", NULL},
        {"Forwarded: for=6.6.6.6, proto=http", NULL},
        {"Forwarded: for=1.1.1.1\r\nForwarded: for=10.1.1.1", "1.1.1.1"},
        {"Forwarded: for=\"[", NULL},
        {"Forwarded: for=\"1.1.1.1", NULL},
        {"Accept: 1.1.1.1", NULL},
    };
    struct cidr trusted;
    if (cidr_parse(SLICE("10.0.0.0/8"), &trusted) < 0)
        tap_bail("no range");
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        char text[400];
        struct slice ip = SLICE_NONE;
        snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n", t[i].fields);
        struct http_request r = request(text);
        tap_is_int(forward_client_of(&r, &trusted, 1, &ip), t[i].want != NULL, "%s", t[i].fields);
        if (t[i].want != NULL)
            tap_is_str(ip, t[i].want, "%s: address", t[i].fields);
    }
    char text[4000] = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6";
    for (int i = 0; i < 200; i++)
        strcat(text, ",10.0.0.1");
    strcat(text, "\r\n\r\n");
    struct http_request r = request(text);
    struct slice ip = SLICE_NONE;
    tap_ok(forward_client_of(&r, &trusted, 1, &ip), "a long chain");
    tap_is_str(ip, "10.0.0.1", "is followed only so far");
}

static struct slice answered(const char *text, enum http_method method, struct forward_response f)
{
    struct http_response r;
    if (h1_parse_response(text, strlen(text), &limits, method, field, &r) < 0)
        tap_bail("not an answer: %s", text);
    if (f.status == 0)
        f.status = r.status;
    struct head_out o = {out, 0, sizeof(out), false};
    forward_response_head(&o, &r, &f, SLICE("Sat, 21 Nov 2026 03:00:00 GMT"));
    tap_ok(!o.overflow, "it fits");
    struct head_out less = {out, 0, o.n - 1, false};
    size_t n = o.n;
    forward_response_head(&less, &r, &f, SLICE("Sat, 21 Nov 2026 03:00:00 GMT"));
    tap_ok(less.overflow, "it does not fit");
    forward_response_head(&(struct head_out){out, 0, sizeof(out), false}, &r, &f,
                          SLICE("Sat, 21 Nov 2026 03:00:00 GMT"));
    return slice_of(out, n);
}

#define DATE "Date: Sat, 21 Nov 2026 03:00:00 GMT\r\n"

static void test_answers(void)
{
    tap_is_str(answered("HTTP/1.0 200 Fine\r\nServer: x\r\nKeep-Alive: 5\r\nConnection: X-Hop\r\n"
                        "X-Hop: 1\r\nA: b\r\nContent-Length: 3\r\nTrailer: X\r\n\r\n",
                        HTTP_GET,
                        (struct forward_response){.framing = HTTP_BODY_LENGTH,
                                                  .write_length = true,
                                                  .content_length = 3}),
               "HTTP/1.1 200 Fine\r\nServer: x\r\nA: b\r\n" DATE "Content-Length: 3\r\n\r\n",
               "a plain answer");
    tap_is_str(
        answered("HTTP/1.1 200 Fine\r\nServer: x\r\nDate: y\r\nVia: 1.1 z\r\nTrailer: X\r\n\r\n",
                 HTTP_GET,
                 (struct forward_response){.via = true,
                                           .hide_server = true,
                                           .framing = HTTP_BODY_CHUNKED,
                                           .close = true,
                                           .keep_alive = true,
                                           .request_id = SLICE("id")}),
        "HTTP/1.1 200 Fine\r\nDate: y\r\nTrailer: X\r\nVia: 1.1 z, 1.1 rpd\r\nX-Request-Id: id\r\n"
        "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
        "with all options");
    tap_is_str(answered("HTTP/1.1 200\r\n\r\n", HTTP_GET,
                        (struct forward_response){.framing = HTTP_BODY_CLOSE, .keep_alive = true}),
               "HTTP/1.1 200 OK\r\n" DATE "Connection: keep-alive\r\n\r\n", "a reason is supplied");
    tap_is_str(
        answered("HTTP/1.1 200 Fine\r\n\r\n", HTTP_GET, (struct forward_response){.status = 404}),
        "HTTP/1.1 404 Not Found\r\n" DATE "\r\n", "a reason goes with its status");
    tap_is_str(answered("HTTP/1.1 299\r\n\r\n", HTTP_GET, (struct forward_response){.status = 0}),
               "HTTP/1.1 299 \r\n" DATE "\r\n", "an unknown status");
    tap_is_str(answered("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", HTTP_GET,
                        (struct forward_response){.status = 0}),
               "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", "no Date on interim answers");
    tap_is_str(answered("HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
                        HTTP_GET, (struct forward_response){.upgrade = true}),
               "HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "101");
    tap_is_str(answered("HTTP/1.1 304 x\r\nContent-Length: 9\r\nDate: y\r\n\r\n", HTTP_GET,
                        (struct forward_response){.write_length = true, .content_length = 9}),
               "HTTP/1.1 304 x\r\nDate: y\r\nContent-Length: 9\r\n\r\n", "304 with a length");
}

int main(void)
{
    test_request();
    test_body();
    test_targets();
    test_trusted();
    test_via();
    test_client_of();
    test_answers();
    return tap_done();
}
