/* HTTP/1 heads: what is accepted and how it is understood, what is refused and why, at every cut.
 */
#include "worker/http/h1_head.h"

#include "base/err.h"
#include "t/unit/tap.h"

#include <ctype.h>

static const struct h1_limits limits = {200, 300, 2000, 20};
static struct http_field field[HTTP_FIELDS_MAX];

/* The end of a head, fed byte by byte in memory of exactly the size given; then parsed. */
static int64_t end_bytewise(const char *text, size_t n, bool request, size_t *ret_skip)
{
    size_t scan = 0;
    int64_t rc = -ERR_AGAIN;
    for (size_t cut = 0; cut <= n && rc == -ERR_AGAIN; cut++) {
        char *copy = malloc(cut > 0 ? cut : 1);
        if (copy == NULL)
            tap_bail("no memory");
        memcpy(copy, text, cut);
        rc = h1_head_end(copy, cut, &limits, request, &scan, ret_skip);
        free(copy);
    }
    return rc;
}

/* Any split in two, then the rest, gives what the whole gives. */
static bool end_at_every_cut(const char *text, size_t n, bool request)
{
    size_t skip, scan = 0;
    const int64_t want = h1_head_end(text, n, &limits, request, &scan, &skip);
    for (size_t cut = 0; cut <= n; cut++) {
        size_t again = 0, skip2;
        int64_t rc = h1_head_end(text, cut, &limits, request, &again, &skip2);
        if (rc == -ERR_AGAIN)
            rc = h1_head_end(text, n, &limits, request, &again, &skip2);
        if (rc != want)
            return false;
    }
    return true;
}

static char *exact(const char *text, size_t n)
{
    char *copy = malloc(n > 0 ? n : 1);
    if (copy == NULL)
        tap_bail("no memory");
    memcpy(copy, text, n);
    return copy;
}

/* A printable name for a test, as long as it fits. */
static const char *shown(const char *text, size_t n)
{
    static char out[100];
    size_t o = 0;
    for (size_t i = 0; i < n && o + 5 < sizeof(out); i++) {
        unsigned char c = (unsigned char)text[i];
        if (isprint(c))
            out[o++] = (char)c;
        else
            o += (size_t)snprintf(out + o, sizeof(out) - o, "<%02x>", c);
    }
    out[o] = '\0';
    return out;
}

#define H11   "Host: a\r\n"
#define GET   "GET / HTTP/1.1\r\n"
#define POST  "POST / HTTP/1.1\r\nHost: a\r\n"
#define T(s)  s, sizeof(s) - 1
#define OK(s) GET H11 s "\r\n"

static const struct {
    const char *text;
    size_t n;
    int want;
} request_refused[] = {
    /* request line */
    {T("GET  / HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_LINE},
    {T("GET / HTTP/1.1 \r\nHost: a\r\n\r\n"), ERR_BAD_LINE},
    {T("GET /  HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_LINE},
    {T("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_LINE},
    {T("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_METHOD},
    {T("G@T / HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_METHOD},
    {T("GET\0 / HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_METHOD},
    {T("GET: / HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_METHOD},
    {T("GET /\r\n\r\n"), ERR_BAD_LINE},
    {T("GET\r\nHost: a\r\n\r\n"), ERR_BAD_LINE},
    {T("GET / \r\nHost: a\r\n\r\n"), ERR_BAD_LINE},
    {T("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"), ERR_BARE_LF},
    {T("GET /\rx HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BARE_LF},
    {T("GET / HTTP\r\nHost: a\r\n\r\n"), ERR_BAD_LINE},
    {T("GET / http/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_LINE},
    {T("GET / HTTP/11\r\nHost: a\r\n\r\n"), ERR_BAD_LINE},
    {T("GET / HTTP/1.10\r\nHost: a\r\n\r\n"), ERR_BAD_LINE},
    {T("GET / HTTP/1,1\r\nHost: a\r\n\r\n"), ERR_BAD_LINE},
    {T("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), ERR_BAD_VERSION},
    {T("PRI * HTTP/2.0\r\n\r\n"), ERR_BAD_VERSION},
    {T("GET / HTTP/1.2\r\nHost: a\r\n\r\n"), ERR_BAD_VERSION},
    {T("GET / HTTP/0.9\r\nHost: a\r\n\r\n"), ERR_BAD_VERSION},
    {T("GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_TARGET},
    {T("GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_TARGET},
    {T("GET /\t HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_TARGET},
    {T("GET /a-long-enough-target-for-sse#x HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_TARGET},
    {T("GET a HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_TARGET},
    {T("GET * HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_TARGET},
    {T("GET ?a HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_TARGET},
    {T("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_TARGET},
    {T("GET http:/a HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_TARGET},
    {T("GET http:///a HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_TARGET},
    {T("GET http:// HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_TARGET},
    {T("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_TARGET},
    {T("GET http://u:p@a/ HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_TARGET},
    {T("GET http://a:99999/ HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_TARGET},
    {T("GET http://[::1/ HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_BAD_TARGET},
    {T("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"), ERR_METHOD_REFUSED},
    {T("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n"), ERR_METHOD_REFUSED},
    /* Host */
    {T("GET / HTTP/1.1\r\n\r\n"), ERR_BAD_HOST},
    {T("GET / HTTP/1.1\r\nHost:\r\n\r\n"), ERR_BAD_HOST},
    {T("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"), ERR_BAD_HOST},
    {T("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\nhOST: b\r\n\r\n"), ERR_BAD_HOST},
    {T("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n"), ERR_BAD_HOST},
    {T("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), ERR_BAD_HOST},
    {T("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n"), ERR_BAD_HOST},
    {T("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), ERR_BAD_HOST},
    {T("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"), ERR_BAD_HOST},
    {T("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"), ERR_BAD_HOST},
    {T("GET http://a/ HTTP/1.1\r\n\r\n"), ERR_BAD_HOST},
    {T("GET http://a/ HTTP/1.1\r\nHost: b\r\nHost: a\r\n\r\n"), ERR_BAD_HOST},
    {T("GET http://a/ HTTP/1.1\r\nHost: b c\r\n\r\n"), ERR_BAD_HOST},
    /* field lines */
    {T(OK("A : b\r\n")), ERR_BAD_FIELD},
    {T(OK("A\t: b\r\n")), ERR_BAD_FIELD},
    {T(OK(": b\r\n")), ERR_BAD_FIELD},
    {T(OK("A\r\n")), ERR_BAD_FIELD},
    {T(OK("A b: c\r\n")), ERR_BAD_FIELD},
    {T(OK("A(b): c\r\n")), ERR_BAD_FIELD},
    {T(OK("A\x80: c\r\n")), ERR_BAD_FIELD},
    {T(OK("A\0: c\r\n")), ERR_BAD_FIELD},
    {T(OK("A: b\0c\r\n")), ERR_BAD_FIELD},
    {T(OK("A: b\x01\r\n")), ERR_BAD_FIELD},
    {T(OK("A: b\x7f\r\n")), ERR_BAD_FIELD},
    {T(OK("A: a value long enough for sixteen\x0b bytes\r\n")), ERR_BAD_FIELD},
    {T(OK("A: b\r\n c\r\n")), ERR_OBS_FOLD},
    {T(OK("A: b\r\n\tc\r\n")), ERR_OBS_FOLD},
    {T("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), ERR_OBS_FOLD},
    {T(OK("A: b\rc\r\n")), ERR_BARE_LF},
    {T(OK("A: b\r\r\n")), ERR_BARE_LF},
    {T(OK("A\r: b\r\n")), ERR_BARE_LF},
    {T(OK("A: b\nC: d\r\n")), ERR_BARE_LF},
    {T(OK("A: b\r\n\nC: d\r\n")), ERR_BARE_LF},
    /* Content-Length */
    {T(POST "Content-Length: +5\r\n\r\n"), ERR_BAD_LENGTH},
    {T(POST "Content-Length: -5\r\n\r\n"), ERR_BAD_LENGTH},
    {T(POST "Content-Length: 5 5\r\n\r\n"), ERR_BAD_LENGTH},
    {T(POST "Content-Length: 0x5\r\n\r\n"), ERR_BAD_LENGTH},
    {T(POST "Content-Length: 5,5\r\n\r\n"), ERR_BAD_LENGTH},
    {T(POST "Content-Length: 5, 6\r\n\r\n"), ERR_BAD_LENGTH},
    {T(POST "Content-Length: 5.0\r\n\r\n"), ERR_BAD_LENGTH},
    {T(POST "Content-Length: 5e1\r\n\r\n"), ERR_BAD_LENGTH},
    {T(POST "Content-Length: \r\n\r\n"), ERR_BAD_LENGTH},
    {T(POST "Content-Length:\r\n\r\n"), ERR_BAD_LENGTH},
    {T(POST "Content-Length: five\r\n\r\n"), ERR_BAD_LENGTH},
    {T(POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"), ERR_BAD_LENGTH},
    {T(POST "Content-Length: 5\r\nX: y\r\ncontent-length: 6\r\n\r\n"), ERR_BAD_LENGTH},
    {T(POST "Content-Length: 4611686018427387905\r\n\r\n"), ERR_BAD_LENGTH},
    {T(POST "Content-Length: 18446744073709551616\r\n\r\n"), ERR_BAD_LENGTH},
    {T(POST "Content-Length: 18446744073709551621\r\n\r\n"), ERR_BAD_LENGTH},
    {T(POST "Content-Length : 5\r\n\r\n"), ERR_BAD_FIELD},
    {T(POST "Content-Length: 5\x0b\r\n\r\n"), ERR_BAD_FIELD},
    {T(POST "Content-Length: \xb5\r\n\r\n"), ERR_BAD_LENGTH},
    /* both: CL.TE and TE.CL in any order and spelling */
    {T(POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), ERR_CL_AND_TE},
    {T(POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"), ERR_CL_AND_TE},
    {T(POST "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n"), ERR_CL_AND_TE},
    {T(POST "tRANSFER-eNCODING: xchunked\r\ncontent-length: 5\r\n\r\n"), ERR_CL_AND_TE},
    {T(POST "Content-Length: 5\r\nTransfer-Encoding:\r\n\r\n"), ERR_CL_AND_TE},
    /* TE.TE: obfuscated codings */
    {T(POST "Transfer-Encoding: xchunked\r\n\r\n"), ERR_BAD_CODING},
    {T(POST "Transfer-Encoding: chunkedx\r\n\r\n"), ERR_BAD_CODING},
    {T(POST "Transfer-Encoding: x\r\n\r\n"), ERR_BAD_CODING},
    {T(POST "Transfer-Encoding:\r\n\r\n"), ERR_BAD_CODING},
    {T(POST "Transfer-Encoding: identity\r\n\r\n"), ERR_BAD_CODING},
    {T(POST "Transfer-Encoding: gzip\r\n\r\n"), ERR_BAD_CODING},
    {T(POST "Transfer-Encoding: gzip, chunked\r\n\r\n"), ERR_BAD_CODING},
    {T(POST "Transfer-Encoding: chunked, gzip\r\n\r\n"), ERR_BAD_CODING},
    {T(POST "Transfer-Encoding: chunked, chunked\r\n\r\n"), ERR_BAD_CODING},
    {T(POST "Transfer-Encoding: chunked, identity\r\n\r\n"), ERR_BAD_CODING},
    {T(POST "Transfer-Encoding: identity, chunked\r\n\r\n"), ERR_BAD_CODING},
    {T(POST "Transfer-Encoding: ,chunked\r\n\r\n"), ERR_BAD_CODING},
    {T(POST "Transfer-Encoding: chunked,\r\n\r\n"), ERR_BAD_CODING},
    {T(POST "Transfer-Encoding: chunked;q=1\r\n\r\n"), ERR_BAD_CODING},
    {T(POST "Transfer-Encoding: \"chunked\"\r\n\r\n"), ERR_BAD_CODING},
    {T(POST "Transfer-Encoding: chunk\r\n\r\n"), ERR_BAD_CODING},
    {T(POST "Transfer-Encoding: chun\xfeked\r\n\r\n"), ERR_BAD_CODING},
    {T(POST "Transfer-Encoding: \xa0"
            "chunked\r\n\r\n"),
     ERR_BAD_CODING},
    {T(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), ERR_BAD_CODING},
    {T(POST "Transfer-Encoding: chunked\r\nTransfer-encoding: x\r\n\r\n"), ERR_BAD_CODING},
    {T(POST "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n"), ERR_BAD_CODING},
    {T(POST "Transfer-Encoding : chunked\r\n\r\n"), ERR_BAD_FIELD},
    {T(POST "Transfer-Encoding\t: chunked\r\n\r\n"), ERR_BAD_FIELD},
    {T(POST " Transfer-Encoding: chunked\r\n\r\n"), ERR_OBS_FOLD},
    {T(POST "\tTransfer-Encoding: chunked\r\n\r\n"), ERR_OBS_FOLD},
    {T(POST "Transfer-Encoding:\x0b"
            "chunked\r\n\r\n"),
     ERR_BAD_FIELD},
    {T(POST "Transfer-Encoding: chunked\x0b\r\n\r\n"), ERR_BAD_FIELD},
    {T(POST "Transfer-Encoding: \0chunked\r\n\r\n"), ERR_BAD_FIELD},
    {T(POST "Transfer-Encoding:\r\n chunked\r\n\r\n"), ERR_OBS_FOLD},
    {T(POST "Transfer-Encoding:\n chunked\r\n\r\n"), ERR_BARE_LF},
    {T(POST "X: y\nTransfer-Encoding: chunked\r\n\r\n"), ERR_BARE_LF},
    {T(POST "X: y\rTransfer-Encoding: chunked\r\n\r\n"), ERR_BARE_LF},
    {T(POST "Transfer\x80-Encoding: chunked\r\n\r\n"), ERR_BAD_FIELD},
    {T("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), ERR_BAD_CODING},
    {T("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"),
     ERR_BAD_CODING},
    /* the rest */
    {T(OK("Expect: 200-ok\r\n")), ERR_BAD_EXPECT},
    {T(OK("Expect: 100-continue, x\r\n")), ERR_BAD_EXPECT},
    {T(OK("Expect: 100-continue\r\nExpect: 100-continue\r\n")), ERR_BAD_EXPECT},
};

static void test_request_refused(void)
{
    for (size_t i = 0; i < sizeof(request_refused) / sizeof(request_refused[0]); i++) {
        struct http_request r;
        const size_t n = request_refused[i].n;
        char *copy = exact(request_refused[i].text, n);
        tap_is_int(-h1_parse_request(copy, n, &limits, field, &r), request_refused[i].want,
                   "refused: %s", shown(copy, n));
        tap_ok(end_at_every_cut(copy, n, true), "cuts agree: %s", shown(copy, n));
        free(copy);
    }
}

static const struct {
    const char *text;
    size_t n;
    const char *method, *path, *query, *host, *authority;
    uint16_t port;
    uint8_t minor;
    bool keep_alive;
    enum http_framing framing;
    uint64_t length;
    size_t nfield;
} request_good[] = {
    {T(GET H11 "\r\n"), "GET", "/", NULL, "a", "a", 0, 1, true, HTTP_BODY_NONE, 0, 1},
    {T("GET / HTTP/1.0\r\n\r\n"), "GET", "/", NULL, "", "", 0, 0, false, HTTP_BODY_NONE, 0, 0},
    {T("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"), "GET", "/", NULL, "", "", 0, 0, true,
     HTTP_BODY_NONE, 0, 1},
    {T(OK("Connection: close\r\n")), "GET", "/", NULL, "a", "a", 0, 1, false, HTTP_BODY_NONE, 0, 2},
    {T(OK("Connection: keep-alive, CLOSE\r\n")), "GET", "/", NULL, "a", "a", 0, 1, false,
     HTTP_BODY_NONE, 0, 2},
    {T("get /A%20b?c=d&e HTTP/1.1\r\nhost:a.b:81\r\n\r\n"), "get", "/A%20b", "c=d&e", "a.b",
     "a.b:81", 81, 1, true, HTTP_BODY_NONE, 0, 1},
    {T("GET /? HTTP/1.1\r\nHost: \t a \t \r\n\r\n"), "GET", "/", "", "a", "a", 0, 1, true,
     HTTP_BODY_NONE, 0, 1},
    {T("GET //x\\y?a?b HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n"), "GET", "//x\\y", "a?b", "[::1]",
     "[::1]:8080", 8080, 1, true, HTTP_BODY_NONE, 0, 1},
    {T("GET /\xc3\xa9 HTTP/1.1\r\nHost: a:\r\n\r\n"), "GET", "/\xc3\xa9", NULL, "a", "a", 0, 1,
     true, HTTP_BODY_NONE, 0, 1},
    {T("GET http://b:8/c?d HTTP/1.1\r\nHost: a\r\n\r\n"), "GET", "/c", "d", "b", "b:8", 8, 1, true,
     HTTP_BODY_NONE, 0, 1},
    {T("GET HTTPS://b HTTP/1.1\r\nHost: a\r\n\r\n"), "GET", "/", NULL, "b", "b", 0, 1, true,
     HTTP_BODY_NONE, 0, 1},
    {T("GET http://b?q HTTP/1.0\r\n\r\n"), "GET", "/", "q", "b", "b", 0, 0, false, HTTP_BODY_NONE,
     0, 0},
    {T("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"), "OPTIONS", "*", NULL, "a", "a", 0, 1, true,
     HTTP_BODY_NONE, 0, 1},
    {T("OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n"), "OPTIONS", "*", NULL, "b", "b", 0, 1, true,
     HTTP_BODY_NONE, 0, 1},
    {T("OPTIONS http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"), "OPTIONS", "/", NULL, "b", "b", 0, 1, true,
     HTTP_BODY_NONE, 0, 1},
    {T("M-SEARCH!#$ / HTTP/1.1\r\nHost: a\r\n\r\n"), "M-SEARCH!#$", "/", NULL, "a", "a", 0, 1, true,
     HTTP_BODY_NONE, 0, 1},
    {T(POST "Content-Length: 0\r\n\r\n"), "POST", "/", NULL, "a", "a", 0, 1, true, HTTP_BODY_LENGTH,
     0, 2},
    {T(POST "Content-Length:\t00042 \r\n\r\n"), "POST", "/", NULL, "a", "a", 0, 1, true,
     HTTP_BODY_LENGTH, 42, 2},
    {T(POST "content-LENGTH: 4611686018427387904\r\n\r\n"), "POST", "/", NULL, "a", "a", 0, 1, true,
     HTTP_BODY_LENGTH, (uint64_t)1 << 62, 2},
    {T("POST / HTTP/1.0\r\nContent-Length: 5\r\n\r\n"), "POST", "/", NULL, "", "", 0, 0, false,
     HTTP_BODY_LENGTH, 5, 1},
    {T(POST "Transfer-Encoding: chunked\r\n\r\n"), "POST", "/", NULL, "a", "a", 0, 1, true,
     HTTP_BODY_CHUNKED, 0, 2},
    {T(POST "transfer-encoding:\tCHUNKED\t\r\n\r\n"), "POST", "/", NULL, "a", "a", 0, 1, true,
     HTTP_BODY_CHUNKED, 0, 2},
    {T(OK("X-Empty:\r\nX-Tab: a\tb\r\nX_under: 1\r\nX-High: \xff\x80\r\nx!#$%&'*+.^`|~: y\r\n")),
     "GET", "/", NULL, "a", "a", 0, 1, true, HTTP_BODY_NONE, 0, 6},
    /* nominated away, yet obeyed and kept */
    {T(POST "Connection: host, content-length\r\nContent-Length: 3\r\n\r\n"), "POST", "/", NULL,
     "a", "a", 0, 1, true, HTTP_BODY_LENGTH, 3, 3},
    {T("\r\n" GET H11 "\r\n"), "GET", "/", NULL, "a", "a", 0, 1, true, HTTP_BODY_NONE, 0, 1},
};

static void test_request_good(void)
{
    for (size_t i = 0; i < sizeof(request_good) / sizeof(request_good[0]); i++) {
        struct http_request r;
        size_t skip;
        const char *text = request_good[i].text;
        const char *name = shown(text, request_good[i].n);
        int64_t end = end_bytewise(text, request_good[i].n, true, &skip);
        tap_is_int(end + (int64_t)skip, request_good[i].n, "ends: %s", name);
        tap_ok(end_at_every_cut(text, request_good[i].n, true), "cuts agree: %s", name);
        char *copy = exact(text + skip, request_good[i].n - skip);
        tap_is_int(h1_parse_request(copy, request_good[i].n - skip, &limits, field, &r), 0,
                   "parses: %s", name);
        tap_is_str(r.method_text, request_good[i].method, "method");
        tap_is_str(r.path, request_good[i].path, "path");
        tap_is_int(r.has_query, request_good[i].query != NULL, "has a query");
        tap_ok((r.query.p != NULL) == r.has_query, "query or none");
        if (request_good[i].query != NULL)
            tap_is_str(r.query, request_good[i].query, "query");
        tap_is_str(r.host, request_good[i].host, "host");
        tap_is_str(r.authority, request_good[i].authority, "authority");
        tap_is_int(r.port, request_good[i].port, "port");
        tap_is_int(r.minor, request_good[i].minor, "minor version");
        tap_is_int(r.keep_alive, request_good[i].keep_alive, "keep-alive");
        tap_is_int(r.framing, request_good[i].framing, "framing");
        tap_is_int(r.content_length, request_good[i].length, "length");
        tap_is_int(r.nfield, request_good[i].nfield, "fields");
        for (size_t k = 0; k < r.nfield; k++) {
            const uint8_t id = field[k].id;
            tap_ok((field[k].flags & FIELD_NOMINATED) == 0 || id == FIELD_UNKNOWN,
                   "field %zu is not nominated", k);
        }
        free(copy);
    }
}

static struct http_request request_of(const char *text)
{
    struct http_request r;
    int rc = h1_parse_request(text, strlen(text), &limits, field, &r);
    tap_is_int(rc, 0, "parses: %s", shown(text, strlen(text)));
    return r;
}

static uint8_t flags_of(const struct http_request *r, const char *name)
{
    for (size_t i = 0; i < r->nfield; i++) {
        if (slice_eq_ci(r->field[i].name, slice_str(name)))
            return r->field[i].flags;
    }
    return 0xff;
}

static void test_connection(void)
{
    struct http_request r =
        request_of(OK("Connection: X-Secret, close\r\nX-Secret: 1\r\n"
                      "x-sECRET: 2\r\nX-Other: 3\r\nConnection: x-third\r\n"
                      "X-Third: 4\r\nCookie: c\r\nX-Forwarded-For: 1.2.3.4\r\n"
                      "Connection: x-forwarded-for, cookie, via\r\nVia: x\r\n"));
    tap_is_int(r.field[2].flags, FIELD_NOMINATED, "named by Connection");
    tap_is_int(r.field[3].flags, FIELD_NOMINATED, "named by Connection, twice there");
    tap_is_int(r.field[4].flags, 0, "not named");
    tap_is_int(flags_of(&r, "X-Third"), FIELD_NOMINATED, "named by a second Connection field");
    tap_is_int(flags_of(&r, "X-Forwarded-For"), FIELD_OWN, "what the proxy vouches for stays");
    tap_is_int(flags_of(&r, "Cookie"), 0, "credentials stay");
    tap_is_int(flags_of(&r, "Via"), 0, "Via stays");
    tap_is_int(flags_of(&r, "Connection"), FIELD_HOP, "Connection is hop by hop");
    r = request_of(OK("X_Forwarded_For: 6.6.6.6\r\nX_Real-Ip: 6.6.6.6\r\nTransfer_Encoding: x\r\n"
                      "X_Custom: 1\r\n"));
    tap_is_int(flags_of(&r, "X_Forwarded_For"), FIELD_OWN, "an alias for CGI of X-Forwarded-For");
    tap_is_int(flags_of(&r, "X_Real-Ip"), FIELD_OWN, "an alias for CGI of X-Real-IP");
    tap_is_int(flags_of(&r, "Transfer_Encoding"), FIELD_HOP, "an alias of Transfer-Encoding");
    tap_is_int(flags_of(&r, "X_Custom"), 0, "an underscore of no importance");
    tap_is_int(r.framing, HTTP_BODY_NONE, "an alias frames nothing");

    char many[2000] = GET H11 "Connection: ";
    for (int i = 0; i < 70; i++)
        strcat(many, "x,");
    strcat(many, "x\r\n\r\n");
    tap_is_int(h1_parse_request(many, strlen(many), &limits, field, &r), -ERR_BAD_FIELD,
               "too many nominations");
}

static void test_steering(void)
{
    struct http_request r =
        request_of(OK("Connection: Upgrade\r\nUpgrade: websocket\r\nTE: gzip;q=1, Trailers\r\n"));
    tap_ok(r.has_upgrade && r.te_trailers, "upgrade and trailers");
    tap_is_str(r.upgrade, "websocket", "upgrade to");
    r = request_of(OK("Upgrade: websocket\r\n"));
    tap_ok(!r.has_upgrade, "no upgrade without Connection");
    r = request_of(OK("Connection: upgrade\r\n"));
    tap_ok(!r.has_upgrade, "no upgrade without Upgrade");
    r = request_of(OK("Connection: upgrade\r\nUpgrade: \r\n"));
    tap_ok(!r.has_upgrade, "no upgrade to nothing");
    r = request_of(
        OK("Connection: upgrade, http2-settings\r\nUpgrade: H2C\r\nHTTP2-Settings: a\r\n"));
    tap_ok(!r.has_upgrade, "never h2c");
    r = request_of(OK("Connection: upgrade\r\nUpgrade: websocket, h2c\r\n"));
    tap_ok(!r.has_upgrade, "never h2c in a list");
    r = request_of("GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    tap_ok(!r.has_upgrade, "no upgrade of HTTP/1.0");
    r = request_of(POST "Content-Length: 1\r\nExpect: 100-Continue\r\n\r\n");
    tap_ok(r.expect_continue, "expects 100");
    r = request_of(OK("Expect: 100-continue\r\n"));
    tap_ok(!r.expect_continue, "nothing to expect without content");
    r = request_of("POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: x\r\n\r\n");
    tap_ok(!r.expect_continue, "Expect is ignored on HTTP/1.0");
    h1_parse_request(T("TRACE /t HTTP/1.1\r\nHost: a\r\n\r\n"), &limits, field, &r);
    tap_is_str(r.path, "/t", "a refused method is understood");
    h1_parse_request(T("GET /log-me HTTP/1.1\r\nbad\r\n\r\n"), &limits, field, &r);
    tap_is_str(r.target, "/log-me", "a refused head leaves its target");
    tap_is_int(h1_parse_request(T("GET / HTTP/1.1\r\nHost: a\r\n"), &limits, field, &r),
               -ERR_BAD_REQUEST, "an incomplete head is none");
}

static void fill(char *out, const char *before, char c, size_t n, const char *after)
{
    size_t k = strlen(before);
    memcpy(out, before, k);
    memset(out + k, c, n);
    strcpy(out + k + n, after);
}

static void test_limits(void)
{
    static char text[4000];
    size_t skip;
    struct http_request r;
    fill(text, "GET /", 'a', 200 - 14, " HTTP/1.1\r\nHost: a\r\n\r\n");
    tap_is_int(end_bytewise(text, strlen(text), true, &skip), strlen(text), "a line that fits");
    tap_is_int(h1_parse_request(text, strlen(text), &limits, field, &r), 0,
               "a line that fits parses");
    fill(text, "GET /", 'a', 200 - 13, " HTTP/1.1\r\nHost: a\r\n\r\n");
    tap_is_int(end_bytewise(text, strlen(text), true, &skip), -ERR_URI_TOO_LONG, "one byte more");
    tap_ok(end_at_every_cut(text, strlen(text), true), "at every cut");
    tap_is_int(h1_parse_request(text, strlen(text), &limits, field, &r), -ERR_URI_TOO_LONG,
               "one byte more does not parse");
    fill(text, "GET /", 'a', 300, "");
    tap_is_int(end_bytewise(text, strlen(text), true, &skip), -ERR_URI_TOO_LONG, "an endless line");
    fill(text, GET "A: ", 'a', 297, "\r\nHost: a\r\n\r\n");
    tap_is_int(end_bytewise(text, strlen(text), true, &skip), strlen(text), "a field that fits");
    tap_is_int(h1_parse_request(text, strlen(text), &limits, field, &r), 0,
               "a field that fits parses");
    fill(text, GET "A: ", 'a', 298, "\r\nHost: a\r\n\r\n");
    tap_is_int(end_bytewise(text, strlen(text), true, &skip), -ERR_HEAD_TOO_LARGE, "one byte more");
    tap_is_int(h1_parse_request(text, strlen(text), &limits, field, &r), -ERR_HEAD_TOO_LARGE,
               "one byte more does not parse");
    fill(text, "HTTP/1.1 200 ", 'a', 400, "");
    tap_is_int(end_bytewise(text, strlen(text), false, &skip), -ERR_UP_HEAD_TOO_LARGE,
               "an endless status line");
    strcpy(text, GET H11);
    for (int i = 0; i < 19; i++)
        strcat(text, "A: b\r\n");
    strcat(text, "\r\n");
    tap_is_int(h1_parse_request(text, strlen(text), &limits, field, &r), 0,
               "as many fields as may be");
    strcpy(text + strlen(text) - 2, "A: b\r\n\r\n");
    tap_is_int(h1_parse_request(text, strlen(text), &limits, field, &r), -ERR_HEAD_TOO_LARGE,
               "one field more");
    strcpy(text, GET);
    while (strlen(text) < 1996)
        strcat(text, "A: bcd\r\n");
    text[1996] = '\0';
    memcpy(text + 1996 - 6, "cd\r\n\r\n", 7);
    memset(text + 1980, 'a', 10);
    size_t scan = 0;
    const struct h1_limits tight = {200, 300, (uint32_t)strlen(text), 200};
    const struct h1_limits tighter = {200, 300, (uint32_t)strlen(text) - 1, 200};
    tap_is_int(h1_head_end(text, strlen(text), &tight, true, &scan, &skip), strlen(text),
               "a head that fits");
    scan = 0;
    tap_is_int(h1_head_end(text, strlen(text), &tighter, true, &scan, &skip), -ERR_HEAD_TOO_LARGE,
               "a head that does not");
    scan = 0;
    tap_is_int(h1_head_end(text, strlen(text) - 1, &tighter, true, &scan, &skip),
               -ERR_HEAD_TOO_LARGE, "a head that cannot any more");
}

static void test_head_end(void)
{
    size_t skip, scan = 0;
    const char two[] = GET H11 "\r\nGET /2 HTTP/1.1\r\n";
    tap_is_int(h1_head_end(two, sizeof(two) - 1, &limits, true, &scan, &skip), 27,
               "the next request is left alone");
    scan = 0;
    tap_is_int(h1_head_end(T("\r\n\r\n"), &limits, true, &scan, &skip), -ERR_BAD_LINE,
               "two empty lines");
    tap_is_int(end_bytewise(T("\r\n\r\nGET"), true, &skip), -ERR_BAD_LINE,
               "two empty lines, bytewise");
    tap_is_int(end_bytewise(T("\rG"), true, &skip), -ERR_BARE_LF, "a bare CR first");
    tap_is_int(end_bytewise(T("\n"), true, &skip), -ERR_BARE_LF, "a bare LF first");
    tap_is_int(end_bytewise(T("GET / HTTP/1.1\n"), true, &skip), -ERR_BARE_LF,
               "a bare LF is seen at once");
    tap_is_int(end_bytewise(T(GET "Host: a\r\n\n"), true, &skip), -ERR_BARE_LF,
               "a bare LF for the empty line");
    tap_is_int(end_bytewise(T("\x16\x03\x01"), true, &skip), -ERR_BAD_LINE, "TLS on a plain port");
    tap_is_int(end_bytewise(T("\0"), true, &skip), -ERR_BAD_LINE, "NUL first");
    tap_is_int(end_bytewise(T("\r\nHTTP/1.1 200 OK\r\n\r\n"), false, &skip), -ERR_UP_BAD_HEAD,
               "an answer begins with its status line");
    tap_is_int(end_bytewise(T("HTTP/1.1 200 OK\n"), false, &skip), -ERR_UP_BAD_HEAD,
               "a bare LF in an answer");
    tap_is_int(end_bytewise(T(""), true, &skip), -ERR_AGAIN, "nothing yet");
}

#define A "HTTP/1.1 200 OK\r\n"
static const struct {
    const char *text;
    size_t n;
    enum http_method method;
} response_refused[] = {
    {T("HTTP/2.0 200 OK\r\n\r\n"), HTTP_GET},
    {T("HTTP/1.2 200 OK\r\n\r\n"), HTTP_GET},
    {T("http/1.1 200 OK\r\n\r\n"), HTTP_GET},
    {T("HTTP/1.1  200 OK\r\n\r\n"), HTTP_GET},
    {T("HTTP/1.1 20 OK\r\n\r\n"), HTTP_GET},
    {T("HTTP/1.1 2000 OK\r\n\r\n"), HTTP_GET},
    {T("HTTP/1.1 099 OK\r\n\r\n"), HTTP_GET},
    {T("HTTP/1.1 600 OK\r\n\r\n"), HTTP_GET},
    {T("HTTP/1.1 200\tOK\r\n\r\n"), HTTP_GET},
    {T("HTTP/1.1 200OK\r\n\r\n"), HTTP_GET},
    {T("HTTP/1.1 200 O\x01K\r\n\r\n"), HTTP_GET},
    {T("HTTP/1.1 200 O\rK\r\n\r\n"), HTTP_GET},
    {T("ICY 200 OK\r\n\r\n"), HTTP_GET},
    {T("\r\n\r\n"), HTTP_GET},
    {T(A "A : b\r\n\r\n"), HTTP_GET},
    {T(A "A: b\r\n c\r\n\r\n"), HTTP_GET},
    {T(A "A: b\nC: d\r\n\r\n"), HTTP_GET},
    {T(A "A: b\0\r\n\r\n"), HTTP_GET},
    {T(A "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP_GET},
    {T(A "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP_HEAD},
    {T(A "Content-Length: 5\r\nContent-Length: 5\r\n\r\n"), HTTP_GET},
    {T(A "Content-Length: 5, 5\r\n\r\n"), HTTP_GET},
    {T(A "Content-Length: +5\r\n\r\n"), HTTP_GET},
    {T(A "Content-Length: x\r\n\r\n"), HTTP_HEAD},
    {T(A "Transfer-Encoding: gzip, chunked\r\n\r\n"), HTTP_GET},
    {T(A "Transfer-Encoding: identity\r\n\r\n"), HTTP_GET},
    {T(A "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP_GET},
    {T("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP_GET},
    {T("HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n"), HTTP_GET},
    {T("HTTP/1.1 103 Hints\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP_GET},
    {T("HTTP/1.1 101 Switching\r\n\r\n"), HTTP_GET},
    {T("HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n"), HTTP_GET},
    {T("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\n\r\n"), HTTP_GET},
    {T("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"), HTTP_GET},
};

static const struct {
    const char *text;
    size_t n;
    enum http_method method;
    unsigned status;
    const char *reason;
    enum http_framing framing;
    bool has_length;
    uint64_t length;
    bool keep_alive, stream;
    uint32_t keepalive_s;
} response_good[] = {
    {T(A "Content-Length: 5\r\n\r\n"), HTTP_GET, 200, "OK", HTTP_BODY_LENGTH, true, 5, true, false,
     0},
    {T(A "Transfer-Encoding: Chunked\r\n\r\n"), HTTP_POST, 200, "OK", HTTP_BODY_CHUNKED, false, 0,
     true, false, 0},
    {T(A "\r\n"), HTTP_GET, 200, "OK", HTTP_BODY_CLOSE, false, 0, false, false, 0},
    {T(A "Content-Length: 5\r\n\r\n"), HTTP_HEAD, 200, "OK", HTTP_BODY_NONE, true, 5, true, false,
     0},
    {T(A "Transfer-Encoding: chunked\r\n\r\n"), HTTP_HEAD, 200, "OK", HTTP_BODY_NONE, false, 0,
     true, false, 0},
    {T(A "\r\n"), HTTP_HEAD, 200, "OK", HTTP_BODY_NONE, false, 0, true, false, 0},
    {T("HTTP/1.1 204 No Content\r\n\r\n"), HTTP_GET, 204, "No Content", HTTP_BODY_NONE, false, 0,
     true, false, 0},
    {T("HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n"), HTTP_GET, 204, "x", HTTP_BODY_NONE, false, 0,
     true, false, 0},
    {T("HTTP/1.1 204 x\r\nContent-Length: 7\r\n\r\n"), HTTP_GET, 204, "x", HTTP_BODY_NONE, false, 0,
     false, false, 0},
    {T("HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n"), HTTP_GET, 204, "x", HTTP_BODY_NONE,
     false, 0, false, false, 0},
    {T("HTTP/1.1 304 x\r\nContent-Length: 7\r\n\r\n"), HTTP_GET, 304, "x", HTTP_BODY_NONE, true, 7,
     true, false, 0},
    {T("HTTP/1.1 100 Continue\r\n\r\n"), HTTP_POST, 100, "Continue", HTTP_BODY_NONE, false, 0, true,
     false, 0},
    {T("HTTP/1.1 103 x\r\nLink: </a>\r\n\r\n"), HTTP_GET, 103, "x", HTTP_BODY_NONE, false, 0, true,
     false, 0},
    {T("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"), HTTP_GET, 200, "", HTTP_BODY_LENGTH, true, 0,
     true, false, 0},
    {T("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"), HTTP_GET, 200, "", HTTP_BODY_LENGTH, true, 0,
     true, false, 0},
    {T("HTTP/1.1 599 \xe9 b\r\nContent-Length: 0\r\n\r\n"), HTTP_GET, 599, "\xe9 b",
     HTTP_BODY_LENGTH, true, 0, true, false, 0},
    {T("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n"), HTTP_GET, 200, "OK", HTTP_BODY_LENGTH, true,
     5, false, false, 0},
    {T("HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n"
       "Keep-Alive: max=9, timeout=15\r\n\r\n"),
     HTTP_GET, 200, "OK", HTTP_BODY_LENGTH, true, 5, true, false, 15},
    {T(A "Content-Length: 5\r\nConnection: close\r\nKeep-Alive: timeout=x\r\n\r\n"), HTTP_GET, 200,
     "OK", HTTP_BODY_LENGTH, true, 5, false, false, 0},
    {T(A "Content-Type: Text/Event-Stream; charset=utf-8\r\n\r\n"), HTTP_GET, 200, "OK",
     HTTP_BODY_CLOSE, false, 0, false, true, 0},
    {T(A "Content-Type: text/event-streams\r\n\r\n"), HTTP_GET, 200, "OK", HTTP_BODY_CLOSE, false,
     0, false, false, 0},
    {T(A "X-Accel-Buffering: no\r\n\r\n"), HTTP_GET, 200, "OK", HTTP_BODY_CLOSE, false, 0, false,
     true, 0},
};

static void test_responses(void)
{
    struct http_response r;
    for (size_t i = 0; i < sizeof(response_refused) / sizeof(response_refused[0]); i++) {
        char *copy = exact(response_refused[i].text, response_refused[i].n);
        tap_is_int(h1_parse_response(copy, response_refused[i].n, &limits,
                                     response_refused[i].method, field, &r),
                   -ERR_UP_BAD_HEAD, "refused: %s", shown(copy, response_refused[i].n));
        free(copy);
    }
    for (size_t i = 0; i < sizeof(response_good) / sizeof(response_good[0]); i++) {
        size_t skip;
        const size_t n = response_good[i].n;
        char *copy = exact(response_good[i].text, n);
        tap_is_int(end_bytewise(copy, n, false, &skip), n, "ends: %s", shown(copy, n));
        tap_is_int(h1_parse_response(copy, n, &limits, response_good[i].method, field, &r), 0,
                   "parses: %s", shown(copy, n));
        tap_is_int(r.status, response_good[i].status, "status");
        tap_is_str(r.reason, response_good[i].reason, "reason");
        tap_is_int(r.framing, response_good[i].framing, "framing");
        tap_is_int(r.has_length, response_good[i].has_length, "has a length");
        tap_is_int(r.content_length, response_good[i].length, "length");
        tap_is_int(r.keep_alive, response_good[i].keep_alive, "keep-alive");
        tap_is_int(r.event_stream, response_good[i].stream, "event stream");
        tap_is_int(r.keepalive_s, response_good[i].keepalive_s, "Keep-Alive");
        free(copy);
    }
    int rc =
        h1_parse_response(T("HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
                          &limits, HTTP_GET, field, &r);
    tap_ok(rc == 0 && r.has_upgrade && !r.keep_alive, "101");
    tap_is_str(r.upgrade, "websocket", "101 to");
    static char text[4000];
    fill(text, A "A: ", 'a', 298, "\r\n\r\n");
    tap_is_int(h1_parse_response(text, strlen(text), &limits, HTTP_GET, field, &r),
               -ERR_UP_HEAD_TOO_LARGE, "a field too long");
}

int main(void)
{
    test_request_refused();
    test_request_good();
    test_connection();
    test_steering();
    test_limits();
    test_head_end();
    test_responses();
    return tap_done();
}
