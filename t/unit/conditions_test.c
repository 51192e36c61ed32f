/* Preconditions against validators, row by row of RFC 9110 13, and entity tags. */
#include "worker/http/conditions.h"

#include "t/unit/tap.h"
#include "worker/http/etag.h"
#include "worker/http/h1_head.h"

#define NOW INT64_C(1790000000)
#define D0  "Sun, 06 Nov 1994 08:49:36 GMT" /* a second before */
#define D1  "Sun, 06 Nov 1994 08:49:37 GMT"
#define D2  "Sun, 06 Nov 1994 08:49:38 GMT" /* a second after */
#define T1  INT64_C(784111777)

static struct http_field field[64];

static bool request(const char *method, const char *fields, struct http_request *r)
{
    static char text[4096];
    const struct h1_limits lim = {8192, 8192, 32768, 60};
    int n = snprintf(text, sizeof(text), "%s / HTTP/1.1\r\nHost: h\r\n%s\r\n", method, fields);
    return h1_parse_request(text, (size_t)n, &lim, field, r) == 0;
}

#define PASS   CONDITIONS_PASS
#define NOTMOD CONDITIONS_NOT_MODIFIED
#define FAILED CONDITIONS_FAILED
static const struct {
    const char *name, *method, *fields, *etag;
    bool modified; /* Last-Modified: D1 */
    unsigned status;
    enum conditions_result want;
} row[] = {
    {"no conditions", "GET", "", "\"a\"", true, 200, PASS},
    {"13.1.1 If-Match hit", "GET", "If-Match: \"a\"\r\n", "\"a\"", true, 200, PASS},
    {"13.1.1 If-Match miss", "GET", "If-Match: \"b\"\r\n", "\"a\"", true, 200, FAILED},
    {"13.1.1 If-Match *", "GET", "If-Match: *\r\n", "\"a\"", true, 200, PASS},
    {"13.1.1 If-Match * without a tag", "PUT", "If-Match: *\r\n", "", true, 200, PASS},
    {"13.1.1 If-Match list", "GET", "If-Match: \"b\", \"a\"\r\n", "\"a\"", true, 200, PASS},
    {"13.1.1 If-Match is strong", "GET", "If-Match: W/\"a\"\r\n", "W/\"a\"", true, 200, FAILED},
    {"13.1.1 If-Match is strong on both sides", "GET", "If-Match: \"a\"\r\n", "W/\"a\"", true, 200,
     FAILED},
    {"13.1.2 If-None-Match hit", "GET", "If-None-Match: \"a\"\r\n", "\"a\"", false, 200, NOTMOD},
    {"13.1.2 If-None-Match HEAD", "HEAD", "If-None-Match: \"a\"\r\n", "\"a\"", false, 200, NOTMOD},
    {"RFC 10008 If-None-Match QUERY", "QUERY", "If-None-Match: \"a\"\r\n", "\"a\"", false, 200,
     NOTMOD},
    {"13.1.2 If-None-Match PUT", "PUT", "If-None-Match: \"a\"\r\n", "\"a\"", false, 200, FAILED},
    {"13.1.2 If-None-Match miss", "GET", "If-None-Match: \"b\"\r\n", "\"a\"", false, 200, PASS},
    {"13.1.2 If-None-Match is weak", "GET", "If-None-Match: W/\"a\"\r\n", "\"a\"", false, 200,
     NOTMOD},
    {"13.1.2 If-None-Match *", "GET", "If-None-Match: *\r\n", "", false, 200, NOTMOD},
    {"13.1.2 If-None-Match, no tag stored", "GET", "If-None-Match: \"a\"\r\n", "", true, 200, PASS},
    {"13.1.2 lists in several lines", "GET",
     "If-None-Match: \"x\", W/\"y\"\r\nIf-None-Match: \"a\"\r\n", "\"a\"", false, 200, NOTMOD},
    {"13.1.2 commas inside a tag", "GET", "If-None-Match: \"x\", \"a,b\"\r\n", "\"a,b\"", false,
     200, NOTMOD},
    {"13.1.2 a part of a tag is no tag", "GET", "If-None-Match: \"x,a\"\r\n", "\"a\"", false, 200,
     PASS},
    {"13.1.2 unquoted, as it stands", "GET", "If-None-Match: a\r\n", "a", false, 200, NOTMOD},
    {"13.1.2 unquoted is not quoted", "GET", "If-None-Match: a\r\n", "\"a\"", false, 200, PASS},
    {"13.1.2 what is no tag is skipped", "GET", "If-None-Match: \"b\" x, \"a\"\r\n", "\"a\"", false,
     200, NOTMOD},
    {"13.1.2 an open quote", "GET", "If-None-Match: \"a\r\n", "\"a\"", false, 200, PASS},
    {"13.1.2 w/ is not W/", "GET", "If-None-Match: w/\"a\"\r\n", "\"a\"", false, 200, PASS},
    {"13.1.3 If-Modified-Since equal", "GET", "If-Modified-Since: " D1 "\r\n", "", true, 200,
     NOTMOD},
    {"13.1.3 If-Modified-Since later", "GET", "If-Modified-Since: " D2 "\r\n", "", true, 200,
     NOTMOD},
    {"13.1.3 If-Modified-Since earlier", "GET", "If-Modified-Since: " D0 "\r\n", "", true, 200,
     PASS},
    {"13.1.3 only GET and HEAD", "POST", "If-Modified-Since: " D1 "\r\n", "", true, 200, PASS},
    {"13.1.3 not a date", "GET", "If-Modified-Since: yesterday\r\n", "", true, 200, PASS},
    {"13.1.3 two of them", "GET", "If-Modified-Since: " D1 "\r\nIf-Modified-Since: " D1 "\r\n", "",
     true, 200, PASS},
    {"RFC 9111 4.3.2 without Last-Modified Date counts", "GET", "If-Modified-Since: " D1 "\r\n", "",
     false, 200, NOTMOD},
    {"13.1.3 ignored beside If-None-Match", "GET",
     "If-None-Match: \"b\"\r\nIf-Modified-Since: " D2 "\r\n", "\"a\"", true, 200, PASS},
    {"13.1.4 If-Unmodified-Since equal", "GET", "If-Unmodified-Since: " D1 "\r\n", "", true, 200,
     PASS},
    {"13.1.4 If-Unmodified-Since earlier", "GET", "If-Unmodified-Since: " D0 "\r\n", "", true, 200,
     FAILED},
    {"13.1.4 ignored beside If-Match", "GET", "If-Match: \"a\"\r\nIf-Unmodified-Since: " D0 "\r\n",
     "\"a\"", true, 200, PASS},
    {"13.1.4 no modification date", "GET", "If-Unmodified-Since: " D0 "\r\n", "", false, 200, PASS},
    {"13.2.2 If-Match goes first", "GET", "If-None-Match: \"a\"\r\nIf-Match: \"b\"\r\n", "\"a\"",
     true, 200, FAILED},
    {"13.2.2 then If-None-Match", "GET", "If-None-Match: \"a\"\r\nIf-Match: \"a\"\r\n", "\"a\"",
     true, 200, NOTMOD},
    {"13.2.1 other statuses have no conditions", "GET", "If-None-Match: \"a\"\r\n", "\"a\"", true,
     404, PASS},
    {"13.2.1 2xx have", "GET", "If-None-Match: \"a\"\r\n", "\"a\"", true, 203, NOTMOD},
};

static const struct {
    const char *name, *fields, *etag;
    int64_t date; /* Last-Modified is D1; 0: there is none */
    bool want;
} ifrange[] = {
    {"13.1.5 none", "", "\"a\"", NOW, true},
    {"13.1.5 the tag", "If-Range: \"a\"\r\n", "\"a\"", NOW, true},
    {"13.1.5 another", "If-Range: \"b\"\r\n", "\"a\"", NOW, false},
    {"13.1.5 never weak", "If-Range: W/\"a\"\r\n", "W/\"a\"", NOW, false},
    {"13.1.5 no list", "If-Range: \"b\", \"a\"\r\n", "\"a\"", NOW, false},
    {"13.1.5 unquoted", "If-Range: a\r\n", "a", NOW, false},
    {"13.1.5 the date", "If-Range: " D1 "\r\n", "", NOW, true},
    {"13.1.5 later is not equal", "If-Range: " D2 "\r\n", "", NOW, false},
    {"13.1.5 without Last-Modified", "If-Range: " D1 "\r\n", "", 0, false},
    {"8.8.2.2 a weak date", "If-Range: " D1 "\r\n", "", T1 + 1, false},
    {"two of them", "If-Range: \"a\"\r\nIf-Range: \"a\"\r\n", "\"a\"", NOW, false},
};

int main(void)
{
    struct http_request r;
    for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        if (!request(row[i].method, row[i].fields, &r))
            tap_bail("row %zu is no request", i);
        struct conditions_validators v = {slice_str(row[i].etag), T1, NOW, row[i].modified};
        tap_is_int(conditions_evaluate(&r, &v, row[i].status, NOW), row[i].want, "%s", row[i].name);
    }
    for (size_t i = 0; i < sizeof(ifrange) / sizeof(ifrange[0]); i++) {
        if (!request("GET", ifrange[i].fields, &r))
            tap_bail("row %zu is no request", i);
        struct conditions_validators v = {slice_str(ifrange[i].etag), T1, ifrange[i].date,
                                          ifrange[i].date != 0};
        tap_is_int(conditions_if_range(&r, &v, NOW), ifrange[i].want, "If-Range: %s",
                   ifrange[i].name);
    }
    (void)request("GET", "If-Match: *\r\nIf-Range: \"a\"\r\n", &r);
    tap_is_int(conditions_of(&r), CONDITIONS_IF_MATCH | CONDITIONS_IF_RANGE, "which there are");
    static const struct {
        const char *name;
        bool keeps;
    } keep[] = {{"Cache-Control", true},
                {"Content-Location", true},
                {"Date", true},
                {"ETag", true},
                {"Expires", true},
                {"Vary", true},
                {"Set-Cookie", true},
                {"Content-Type", false},
                {"Content-Length", false},
                {"Content-Encoding", false},
                {"Content-Range", false},
                {"Last-Modified", true},
                {"Content-Security-Policy", true}};
    for (size_t i = 0; i < sizeof(keep) / sizeof(keep[0]); i++) {
        struct http_field f = {.name = slice_str(keep[i].name)};
        f.id = http_field_id_of(f.name);
        tap_is_int(conditions_304_keeps(&f), keep[i].keeps, "15.4.5 a 304 and %s", keep[i].name);
    }
    return tap_done();
}
