/* HTTP/2 heads: which blocks of fields are requests and answers and what they say, which are
 * refused and why; heads written as text. */
#include "worker/http/h2_head.h"

#include "base/arena.h"
#include "base/err.h"
#include "t/unit/tap.h"
#include "worker/http/forward.h"
#include "worker/http/h1_head.h"

static const struct h2_limits limits = {.max_line = 200,
                                        .max_field = 300,
                                        .max_head = 2000,
                                        .max_fields = 20,
                                        .connect_protocol = true};
static struct http_field field[HTTP_FIELDS_MAX + 2];
static struct h2_head head;

/* Fields as "name\0value\0...": one string with '|' between name and value and '\n' behind. Each is
 * given in memory of its own, so that reading on is seen. */
static void feed(enum h2_head_kind kind, const char *text)
{
    h2_head_begin(&head, kind);
    while (*text) {
        const char *bar = strchr(text, '|'), *nl = strchr(text, '\n');
        if (bar == NULL || nl == NULL)
            tap_bail("bad test: %s", text);
        const size_t n = (size_t)(bar - text), v = (size_t)(nl - bar - 1);
        char *name = malloc(n + 1), *value = malloc(v + 1);
        memcpy(name, text, n);
        memcpy(value, bar + 1, v);
        h2_head_add(&head, &limits, slice_of(name, n), slice_of(value, v));
        free(name);
        free(value);
        text = nl + 1;
    }
}

static int request(const char *text, bool end, struct http_request *r)
{
    feed(H2_HEAD_REQUEST, text);
    return h2_head_request(&head, &limits, end, SLICE("dGhlIHNhbXBsZSBub25jZQ=="), field, r);
}

#define G ":method|GET\n:scheme|https\n:path|/\n:authority|a\n"
#define P ":method|POST\n:scheme|https\n:path|/\n:authority|a\n"

static void test_refused(void)
{
    static const struct {
        int err;
        const char *text;
    } bad[] = {
        {ERR_BAD_LINE, ""},
        {ERR_BAD_LINE, ":method|GET\n:scheme|https\n:authority|a\n"},
        {ERR_BAD_LINE, ":method|GET\n:path|/\n:authority|a\n"},
        {ERR_BAD_LINE, ":scheme|https\n:path|/\n:authority|a\n"},
        {ERR_BAD_HOST, ":method|GET\n:scheme|https\n:path|/\n"},
        {ERR_BAD_HOST, ":method|GET\n:scheme|https\n:path|/\n:authority|\n"},
        {ERR_BAD_HOST, ":method|GET\n:scheme|https\n:path|/\n:authority|u@a\n"},
        {ERR_BAD_HOST, ":method|GET\n:scheme|https\n:path|/\n:authority|a b\n"},
        {ERR_BAD_HOST, ":method|GET\n:scheme|https\n:path|/\n:authority|a:99999\n"},
        {ERR_BAD_HOST, ":method|GET\n:scheme|https\n:path|/\nhost|a\nhost|a\n"},
        {ERR_BAD_HOST, G "host|b\n"},
        {ERR_BAD_HOST, G "host|a\nhost|a\n"},
        {ERR_BAD_HOST, G "host|a:443\n"},
        {ERR_BAD_FIELD, G ":method|GET\n"},
        {ERR_BAD_FIELD, G ":path|/\n"},
        {ERR_BAD_HOST, G ":authority|a\n"},
        {ERR_BAD_FIELD, G ":status|200\n"},
        {ERR_BAD_FIELD, G ":x|1\n"},
        {ERR_BAD_FIELD, G ":protocol|websocket\n"},
        {ERR_BAD_FIELD, ":method|GET\n:scheme|https\n:authority|a\nx|1\n:path|/\n"},
        {ERR_BAD_METHOD, ":method|G T\n:scheme|https\n:path|/\n:authority|a\n"},
        {ERR_BAD_METHOD, ":method|\n:scheme|https\n:path|/\n:authority|a\n"},
        {ERR_BAD_TARGET, ":method|GET\n:scheme|https\n:path|\n:authority|a\n"},
        {ERR_BAD_TARGET, ":method|GET\n:scheme|https\n:path|x\n:authority|a\n"},
        {ERR_BAD_TARGET, ":method|GET\n:scheme|https\n:path|*\n:authority|a\n"},
        {ERR_BAD_TARGET, ":method|GET\n:scheme|https\n:path|/a b\n:authority|a\n"},
        {ERR_BAD_TARGET, ":method|GET\n:scheme|https\n:path|/#f\n:authority|a\n"},
        {ERR_BAD_TARGET, ":method|GET\n:scheme|https\n:path|http://b/\n:authority|a\n"},
        {ERR_BAD_TARGET, ":method|GET\n:scheme|ftp\n:path|/\n:authority|a\n"},
        {ERR_METHOD_REFUSED, ":method|TRACE\n:scheme|https\n:path|/\n:authority|a\n"},
        {ERR_METHOD_REFUSED, ":method|CONNECT\n:authority|a:1\n"},
        {ERR_BAD_LINE, ":method|CONNECT\n:scheme|https\n:path|/\n:authority|a:1\n"},
        {ERR_METHOD_REFUSED,
         ":method|CONNECT\n:scheme|https\n:path|/\n:authority|a\n:protocol|connect-udp\n"},
        {ERR_BAD_FIELD, G "X-A|1\n"},
        {ERR_BAD_FIELD, G "x a|1\n"},
        {ERR_BAD_FIELD, G "x:a|1\n"},
        {ERR_BAD_FIELD, G "|1\n"},
        {ERR_BAD_FIELD, G "x-a|a\rb\n"},
        {ERR_BAD_FIELD, G "x-a| a\n"},
        {ERR_BAD_FIELD, G "x-a|a\t\n"},
        {ERR_BAD_FIELD, G "x-a|\x01\n"},
        {ERR_BAD_FIELD, G "connection|close\n"},
        {ERR_BAD_FIELD, G "keep-alive|5\n"},
        {ERR_BAD_FIELD, G "proxy-connection|close\n"},
        {ERR_BAD_FIELD, G "transfer-encoding|chunked\n"},
        {ERR_BAD_FIELD, G "upgrade|websocket\n"},
        {ERR_BAD_FIELD, G "te|gzip\n"},
        {ERR_BAD_FIELD, G "te|trailers, gzip\n"},
        {ERR_BAD_FIELD, G "te|trailers\nte|trailers\n"},
        {ERR_BAD_EXPECT, G "expect|200-ok\n"},
        {ERR_BAD_LENGTH, G "content-length|5\n"},
        {ERR_BAD_LENGTH, G "content-length|x\n"},
        {ERR_BAD_LENGTH, G "content-length|\n"},
        {ERR_BAD_LENGTH, G "content-length|0\ncontent-length|0\n"},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct http_request r;
        tap_is_int(request(bad[i].text, true, &r), -bad[i].err, "%s: %s", err_reason(bad[i].err),
                   bad[i].text);
    }
    struct http_request r;
    feed(H2_HEAD_REQUEST, G);
    h2_head_add(&head, &limits, slice_of("x-a", 3), slice_of("a\nb: c", 6));
    tap_is_int(h2_head_request(&head, &limits, true, SLICE(""), field, &r), -ERR_BAD_FIELD, "LF");
    feed(H2_HEAD_REQUEST, G);
    h2_head_add(&head, &limits, slice_of("x-a", 3), slice_of("a\0b", 3));
    tap_is_int(h2_head_request(&head, &limits, true, SLICE(""), field, &r), -ERR_BAD_FIELD, "NUL");
    tap_is_str(r.method_text, "GET", "what was understood is there");
    tap_is_str(r.target, "/", "the path too");
}

static void test_limits(void)
{
    struct http_request r;
    char text[1000];
    for (int k = 0; k < 2; k++) {
        /* method 3, scheme 5, authority 1 */
        snprintf(text, sizeof(text), ":method|GET\n:scheme|https\n:authority|a\n:path|/%0*d\n",
                 190 + k, 0);
        tap_is_int(request(text, true, &r), k ? -ERR_URI_TOO_LONG : 0, "line of %d", 200 + k);
        snprintf(text, sizeof(text), G "x|%0*d\n", 297 + k, 0);
        tap_is_int(request(text, true, &r), k ? -ERR_HEAD_TOO_LARGE : 0, "field of %d", 300 + k);
    }
    for (int k = 0; k < 2; k++) {
        feed(H2_HEAD_REQUEST, G);
        for (int i = 0; i < 19 + k; i++)
            h2_head_add(&head, &limits, SLICE("x"), SLICE("1"));
        tap_is_int(h2_head_request(&head, &limits, true, SLICE(""), field, &r),
                   k ? -ERR_HEAD_TOO_LARGE : 0, "%d fields", 20 + k);
    }
    /* A bomb costs what the limit allows. */
    feed(H2_HEAD_REQUEST, G);
    snprintf(text, sizeof(text), "%0200d", 0);
    for (int i = 0; i < 10000; i++)
        h2_head_add(&head, &limits, SLICE("cookie"), slice_str(text));
    tap_is_int(h2_head_request(&head, &limits, true, SLICE(""), field, &r), -ERR_HEAD_TOO_LARGE,
               "a bomb");
    tap_ok(head.cap <= 4096 && head.line_cap <= 64, "its memory: %u bytes, %u lines", head.cap,
           head.line_cap);
    tap_ok(head.size > 2000000, "all of it is counted");
}

static const char *value_of(const struct http_request *r, const char *name)
{
    static char out[512];
    for (size_t i = 0; i < r->nfield; i++) {
        if (slice_eq(r->field[i].name, slice_str(name))) {
            snprintf(out, sizeof(out), "%.*s", SLICE_ARG(r->field[i].value));
            return out;
        }
    }
    return "";
}

static void test_accepted(void)
{
    struct http_request r;
    tap_is_int(request(":method|GET\n:scheme|https\n:authority|Ex.com:8443\n:path|/a/b?c=d\nx-a|1\n"
                       "te|trailers\n",
                       true, &r),
               0, "a request");
    tap_is_str(r.path, "/a/b", "path");
    tap_is_str(r.query, "c=d", "query");
    tap_is_str(r.host, "Ex.com", "host");
    tap_is_str(r.authority, "Ex.com:8443", "authority");
    tap_ok(r.port == 8443 && r.major == 2 && r.minor == 1 && r.keep_alive && r.te_trailers, "rest");
    tap_ok(r.framing == HTTP_BODY_NONE && r.nfield == 3, "no body, Host is a field");
    tap_is_str(slice_str(value_of(&r, "host")), "Ex.com:8443", "its value");
    tap_is_int(request(":method|GET\n:scheme|http\n:path|/\nhost|a:\n", true, &r), 0, "host alone");
    tap_is_str(r.authority, "a", "an empty port is dropped");
    tap_is_int(request(G "host|A\n", true, &r), 0, "host beside authority, case apart");
    tap_ok(r.nfield == 1, "once");
    tap_is_int(request(":method|OPTIONS\n:scheme|https\n:path|*\n:authority|a\n", true, &r), 0,
               "*");
    tap_ok(r.form == HTTP_TARGET_ASTERISK, "asterisk form");
    tap_is_int(request(P "content-length|5\nexpect|100-continue\n", false, &r), 0, "a length");
    tap_ok(r.framing == HTTP_BODY_LENGTH && r.content_length == 5 && r.expect_continue, "5");
    tap_is_int(request(P, false, &r), 0, "none");
    tap_ok(r.framing == HTTP_BODY_CHUNKED, "unknown length");
    tap_is_int(request(P "content-length|0\n", true, &r), 0, "0");
    tap_ok(r.framing == HTTP_BODY_LENGTH, "a length of 0");
    tap_is_int(request(G "cookie|a=1\nx|y\ncookie|\ncookie|b=2\ncookie|c=3\n", true, &r), 0,
               "crumbs");
    tap_is_str(slice_str(value_of(&r, "cookie")), "a=1; b=2; c=3", "are one");
    tap_is_int(r.nfield, 3, "field");
    tap_is_int(request(G "x_forwarded_for|1.2.3.4\n", true, &r), 0, "an alias");
    tap_ok((r.field[1].flags & FIELD_OWN) != 0, "is known for one");
    tap_is_int(request(":method|CONNECT\n:scheme|https\n:path|/chat\n:authority|a\n:protocol|"
                       "websocket\nsec-websocket-version|13\nsec-websocket-key|theirs\n",
                       false, &r),
               0, "a WebSocket");
    tap_ok(r.method == HTTP_GET && r.has_upgrade && r.framing == HTTP_BODY_NONE, "is GET");
    tap_is_str(slice_str(value_of(&r, "sec-websocket-key")), "dGhlIHNhbXBsZSBub25jZQ==", "our key");
    tap_is_int(r.nfield, 3, "once");
    tap_is_int(
        request(":method|CONNECT\n:scheme|https\n:path|/\n:authority|a\n:protocol|websocket\n",
                true, &r),
        -ERR_BAD_REQUEST, "one that is at its end");
}

/* What is kept lies in the arena, and reads as what came when it is written for HTTP/1. */
static void test_keep(void)
{
    struct http_request r, kept, again;
    static struct http_field more[100];
    static char out[8000];
    const struct h1_limits wide = {1000, 4000, 8000, 100};
    struct arena a;
    arena_init(&a, NULL, 0, 0);
    tap_is_int(request(P "content-length|3\ncookie|a\ncookie|b\nx-empty|\n", false, &r), 0,
               "sound");
    tap_is_int(h2_head_keep(&a, &r, &kept), 0, "kept");
    memset(head.p, '#', head.n);
    memset(field, 0, sizeof(field));
    struct forward_request f = {.client_ip = SLICE("192.0.2.1"),
                                .scheme = SLICE("https"),
                                .listen_port = 443,
                                .keep_alive = true,
                                .framing = kept.framing,
                                .content_length = kept.content_length};
    struct head_out o = {out, 0, sizeof(out), false};
    forward_request_head(&o, &kept, &f);
    tap_is_int(h1_parse_request(out, o.n, &wide, more, &again), 0, "is a request of HTTP/1");
    tap_is_str(again.method_text, "POST", "method");
    tap_is_str(again.authority, "a", "Host");
    tap_ok(again.framing == HTTP_BODY_LENGTH && again.content_length == 3, "length");
    tap_is_str(slice_str(value_of(&again, "cookie")), "a; b", "cookie");
    arena_fini(&a);
    for (unsigned k = 1; k < 4; k++) {
        arena_init(&a, NULL, 0, 0);
        request(P, false, &r);
        alloc_fail_at(k);
        const int rc = h2_head_keep(&a, &r, &kept);
        alloc_fail_at(0);
        tap_ok(rc == 0 || rc == -ERR_NOMEM, "allocation %u fails: %d", k, rc);
        arena_fini(&a);
    }
}

static int response(const char *text, enum http_method m, bool end, struct http_response *r)
{
    feed(H2_HEAD_RESPONSE, text);
    return h2_head_response(&head, m, end, field, r);
}

static void test_responses(void)
{
    struct http_response r;
    static const char *const bad[] = {
        "",
        "x|1\n",
        ":status|20\n",
        ":status|2000\n",
        ":status|abc\n",
        ":status|099\n",
        ":status|600\n",
        ":status|101\n",
        ":status|200\n:status|200\n",
        "x|1\n:status|200\n",
        ":status|200\n:path|/\n",
        ":status|200\nX|1\n",
        ":status|200\nconnection|close\n",
        ":status|200\ntransfer-encoding|chunked\n",
        ":status|200\ncontent-length|1\ncontent-length|1\n",
        ":status|200\ncontent-length|-1\n",
        ":status|204\ncontent-length|1\n",
        ":status|100\ncontent-length|1\n",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        tap_is_int(response(bad[i], HTTP_GET, false, &r), -ERR_UP_BAD_HEAD, "refused: %s", bad[i]);
    tap_is_int(response(":status|103\n", HTTP_GET, true, &r), -ERR_UP_BAD_HEAD,
               "an end that is none");
    tap_is_int(response(":status|200\ncontent-length|2\n", HTTP_GET, true, &r), -ERR_UP_BAD_HEAD,
               "an end without the body");
    tap_is_int(response(":status|200\ncontent-type|text/event-stream\n", HTTP_GET, false, &r), 0,
               "200");
    tap_ok(r.status == 200 && r.framing == HTTP_BODY_CHUNKED && r.event_stream && r.keep_alive,
           "its framing");
    tap_is_int(response(":status|200\n", HTTP_GET, true, &r), 0, "at its end");
    tap_ok(r.framing == HTTP_BODY_LENGTH && r.has_length && r.content_length == 0, "has a length");
    tap_is_int(response(":status|200\ncontent-length|7\n", HTTP_HEAD, true, &r), 0, "HEAD");
    tap_ok(r.framing == HTTP_BODY_NONE && r.has_length && r.content_length == 7, "its length");
    tap_is_int(response(":status|304\ncontent-length|7\n", HTTP_GET, true, &r), 0, "304");
    tap_ok(r.framing == HTTP_BODY_NONE, "no body");
}

static void test_trailers(void)
{
    feed(H2_HEAD_TRAILER, "x-sum|1\ncontent-length|4\nhost|b\nauthorization|z\n");
    tap_is_int(h2_head_trailers(&head, field, 10), 1, "those that may be");
    tap_is_str(field[0].name, "x-sum", "name");
    static const char *const bad[] = {":path|/\n", "X|1\n", "x|a\rb\n", "x y|1\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        feed(H2_HEAD_TRAILER, bad[i]);
        tap_is_int(h2_head_trailers(&head, field, 10), -ERR_BAD_TRAILER, "refused: %s", bad[i]);
    }
    h2_head_begin(&head, H2_HEAD_TRAILER);
    char big[250];
    memset(big, 'x', sizeof(big));
    for (int i = 0; i < 50; i++)
        h2_head_add(&head, &limits, SLICE("x"), slice_of(big, sizeof(big)));
    tap_is_int(h2_head_trailers(&head, field, 10), -ERR_BAD_TRAILER, "too large");
}

static const char *listed(const struct h2_pair *p, int n)
{
    static char out[2000];
    size_t at = 0;
    out[0] = '\0';
    for (int i = 0; i < n; i++)
        at += (size_t)snprintf(out + at, sizeof(out) - at, "%.*s=%.*s;", SLICE_ARG(p[i].name),
                               SLICE_ARG(p[i].value));
    return out;
}

static void test_text(void)
{
    struct h2_pair p[20];
    unsigned status;
    struct slice method;
    int n =
        h2_head_answer(SLICE("HTTP/1.1 200 OK\r\nX-A:  b \r\nConnection: close\r\nKeep-Alive: 1\r\n"
                             "Proxy-Connection: x\r\nTransfer-Encoding: chunked\r\nUpgrade: x\r\n"
                             "Set-Cookie: a\r\nSet-Cookie: b\r\nEmpty:\r\n\r\n"),
                       false, p, 20, &status);
    tap_is_str(slice_str(listed(p, n)), ":status=200;X-A=b;set-cookie=a;set-cookie=b;Empty=;",
               "200");
    const char *const upgraded =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
        "Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
    n = h2_head_answer(slice_str(upgraded), true, p, 20, &status);
    tap_is_str(slice_str(listed(p, n)), ":status=200;Sec-WebSocket-Protocol=chat;", "101 is 200");
    tap_is_int(status, 101, "as it was");
    tap_is_int(h2_head_answer(slice_str(upgraded), false, p, 20, NULL), -ERR_INVAL, "101 else");
    n = h2_head_answer(SLICE("HTTP/1.1 200 OK\r\n\r\n"), true, p, 20, &status);
    tap_is_str(slice_str(listed(p, n)), ":status=502;", "a 2xx that is no tunnel");
    n = h2_head_answer(SLICE("HTTP/1.1 403 No\r\n\r\n"), true, p, 20, &status);
    tap_is_str(slice_str(listed(p, n)), ":status=403;", "a refusal");
    tap_is_int(h2_head_answer(SLICE("HTTP/1.1 200 OK\r\na: 1\r\nb: 2\r\n\r\n"), false, p, 2, NULL),
               -ERR_FULL, "too many");
    n = h2_head_ask(SLICE("GET /x?y HTTP/1.1\r\nHost: a:1\r\nTE: trailers\r\nConnection: TE\r\n"
                          "HTTP2-Settings: x\r\nX: 1\r\n\r\n"),
                    SLICE("https"), p, 20, &method);
    tap_is_str(slice_str(listed(p, n)),
               ":method=GET;:scheme=https;:path=/x?y;:authority=a:1;te=trailers;X=1;", "a request");
    n = h2_head_ask(SLICE("OPTIONS * HTTP/1.1\r\nX: 1\r\n\r\n"), SLICE("http"), p, 20, &method);
    tap_is_str(slice_str(listed(p, n)), ":method=OPTIONS;:scheme=http;:path=*;X=1;",
               "without Host");
    tap_is_int(h2_head_ask(SLICE("GET\r\n\r\n"), SLICE("http"), p, 20, &method), -ERR_INVAL,
               "no line");
}

static void test_priority(void)
{
    static const struct {
        const char *text;
        unsigned urgency;
        bool incremental, any;
    } t[] = {{"u=5, i", 5, true, true},     {"i", 3, true, true},     {"u=0", 0, false, true},
             {"i=?0,u=7", 7, false, true},  {"u=8", 3, false, false}, {"", 3, false, false},
             {"u=1;x=2, z", 1, false, true}};
    for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
        unsigned u;
        bool inc;
        const bool any = h2_head_priority(slice_str(t[i].text), &u, &inc);
        tap_ok(any == t[i].any && u == t[i].urgency && inc == t[i].incremental, "'%s'", t[i].text);
    }
}

static void test_no_memory(void)
{
    for (unsigned k = 1; k < 5; k++) {
        struct http_request r;
        h2_head_fini(&head);
        alloc_fail_at(k);
        const int rc = request(G "cookie|a\ncookie|b\nx|1\n", true, &r);
        alloc_fail_at(0);
        tap_ok(rc == 0 || rc == -ERR_NOMEM, "allocation %u: %d", k, rc);
    }
}

int main(void)
{
    test_refused();
    test_limits();
    test_accepted();
    test_keep();
    test_responses();
    test_trailers();
    test_text();
    test_priority();
    test_no_memory();
    h2_head_fini(&head);
    return tap_done();
}
