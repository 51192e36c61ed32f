/* HTTP/1 heads: where one ends, and what it says; everything that could be read in two ways is
 * refused. */
#include "worker/http/h1_head.h"

#include "base/err.h"
#include "worker/http/h1_fields.h"
#include "worker/http/h1_scan.h"
#include "worker/http/uri.h"

/* What a caller is told about an answer instead of about a request. */
static int h1_answer_error(int e)
{
    return e == -ERR_HEAD_TOO_LARGE || e == -ERR_URI_TOO_LONG ? -ERR_UP_HEAD_TOO_LARGE
                                                              : -ERR_UP_BAD_HEAD;
}

/* Bytes that can begin no head are refused before a line is complete: TLS on a plain port, binary
 * noise. 0 = so far so good. */
static int h1_head_first(const char *p, size_t n, bool request, size_t *ret_skip)
{
    size_t i = 0;
    *ret_skip = 0;
    if (request && n > 0 && p[0] == '\r') {
        if (n > 1 && p[1] != '\n')
            return -ERR_BARE_LF;
        if (n > 1)
            *ret_skip = 2;
        i = 2;
    }
    if (i < n && !http_is(p[i], HTTP_CLASS_TOKEN))
        return p[i] == '\n' ? -ERR_BARE_LF : -ERR_BAD_LINE;
    return 0;
}

static int64_t h1_head_look(const char *p, size_t n, const struct h1_limits *lim, bool request,
                            size_t *scan, size_t *ret_skip)
{
    int rc = h1_head_first(p, n, request, ret_skip);
    if (rc < 0)
        return rc;
    const size_t skip = *ret_skip;
    const size_t head = skip + lim->max_head; /* where a complete head must have ended */
    /* A look goes on at the beginning of the line it stopped in. */
    size_t line = *scan > skip ? *scan : skip;
    for (;;) {
        const size_t lf = (size_t)(h1_scan_lf(p + line, p + n) - p);
        const bool first = line == skip;
        const size_t max = first ? lim->max_line : lim->max_field;
        /* Whichever limit is passed first counts, however the bytes arrive. The CR of a line that
         * just fits may be there already. */
        if (lf - line > max + 1 && line + max + 2 <= head)
            return first ? -ERR_URI_TOO_LONG : -ERR_HEAD_TOO_LARGE;
        if (lf >= head)
            return -ERR_HEAD_TOO_LARGE;
        *scan = line;
        if (lf == n)
            return -ERR_AGAIN;
        if (lf == line || p[lf - 1] != '\r')
            return -ERR_BARE_LF;
        if (lf - line == 1 && !first)
            return (int64_t)(lf + 1 - skip);
        line = lf + 1;
    }
}

int64_t h1_head_end(const char *p, size_t n, const struct h1_limits *lim, bool request,
                    size_t *scan, size_t *ret_skip)
{
    int64_t rc = h1_head_look(p, n, lim, request, scan, ret_skip);
    return rc >= 0 || rc == -ERR_AGAIN || request ? rc : h1_answer_error((int)rc);
}

static int h1_version(const char *p, size_t n, uint8_t *ret_minor)
{
    if (n != 8 || memcmp(p, "HTTP/", 5) != 0 || p[6] != '.' || p[5] < '0' || p[5] > '9' ||
        p[7] < '0' || p[7] > '9')
        return -ERR_BAD_LINE;
    if (p[5] != '1' || p[7] > '1')
        return -ERR_BAD_VERSION;
    *ret_minor = (uint8_t)(p[7] - '0');
    return 0;
}

/* "METHOD SP target SP HTTP/1.x CR LF" at p. Its size, or an error. */
static int64_t h1_request_line(const char *p, const char *end, struct http_request *r)
{
    bool plain;
    const char *q = h1_scan_name(p, end, &plain);
    r->method_text = slice_of(p, (size_t)(q - p));
    if (q == p || q == end || *q != ' ')
        return q < end && (*q == '\r' || *q == '\n') ? -ERR_BAD_LINE : -ERR_BAD_METHOD;
    r->method = http_method_of(r->method_text);
    const char *t = q + 1;
    q = h1_scan_target(t, end);
    r->target = slice_of(t, (size_t)(q - t));
    if (q == t || q == end)
        return -ERR_BAD_LINE;
    if (*q != ' ') {
        if (*q == '\r')
            return q + 1 < end && q[1] == '\n' ? -ERR_BAD_LINE : -ERR_BARE_LF;
        return *q == '\n' ? -ERR_BARE_LF : -ERR_BAD_TARGET;
    }
    const char *v = q + 1;
    const char *lf = h1_scan_lf(v, end);
    if (lf == end)
        return -ERR_BAD_LINE;
    if (lf == v || lf[-1] != '\r')
        return -ERR_BARE_LF;
    if (memchr(v, '\r', (size_t)(lf - 1 - v)) != NULL)
        return -ERR_BARE_LF;
    int rc = h1_version(v, (size_t)(lf - 1 - v), &r->minor);
    return rc < 0 ? rc : lf + 1 - p;
}

/* Cuts path and query of r->target from offset at. */
static void h1_target_path(struct http_request *r, size_t at)
{
    struct slice s = slice_of(r->target.p + at, r->target.n - at);
    ptrdiff_t mark = slice_chr(s, '?');
    r->path = mark < 0 ? s : slice_of(s.p, (size_t)mark);
    if (mark >= 0) {
        r->has_query = true;
        r->query = slice_of(s.p + mark + 1, s.n - (size_t)mark - 1);
    }
}

static void h1_set_authority(struct http_request *r, struct slice text, struct slice host,
                             uint16_t port)
{
    r->host = host;
    r->port = port;
    r->authority = port == 0 ? host : text; /* an empty port ("example.com:") is dropped */
}

/* The target's form (RFC 9112 3.2). CONNECT and TRACE are refused later, whatever their target. */
static int h1_request_target(struct http_request *r)
{
    const struct slice t = r->target;
    if (t.p[0] == '/') {
        h1_target_path(r, 0);
        return 0;
    }
    if (r->method == HTTP_CONNECT)
        return 0;
    if (t.n == 1 && t.p[0] == '*') {
        if (r->method != HTTP_OPTIONS)
            return -ERR_BAD_TARGET;
        r->form = HTTP_TARGET_ASTERISK;
        r->path = t;
        return 0;
    }
    size_t scheme = 0;
    if (t.n > 7 && slice_eq_ci(slice_of(t.p, 7), SLICE("http://")))
        scheme = 7;
    else if (t.n > 8 && slice_eq_ci(slice_of(t.p, 8), SLICE("https://")))
        scheme = 8;
    else
        return -ERR_BAD_TARGET;
    size_t at = scheme;
    while (at < t.n && t.p[at] != '/' && t.p[at] != '?')
        at++;
    struct slice authority = slice_of(t.p + scheme, at - scheme), host;
    uint16_t port;
    if (uri_authority(authority, &host, &port) < 0)
        return -ERR_BAD_TARGET;
    h1_set_authority(r, authority, host, port);
    r->form = HTTP_TARGET_ABSOLUTE;
    h1_target_path(r, at);
    if (r->path.n == 0)
        r->path = r->method == HTTP_OPTIONS && !r->has_query ? SLICE("*") : SLICE("/");
    return 0;
}

/* Host must be there once and be sound even where an absolute target replaces it (RFC 9112 3.2). */
static int h1_request_host(struct http_request *r, const struct h1_fields *f)
{
    if (!h1_fields_has(f, FIELD_HOST)) {
        if (r->minor > 0)
            return -ERR_BAD_HOST;
        if (r->form != HTTP_TARGET_ABSOLUTE)
            r->host = r->authority = SLICE("");
        return 0;
    }
    struct slice value = h1_fields_value(f, FIELD_HOST), host;
    uint16_t port;
    if (h1_fields_repeats(f, FIELD_HOST) || uri_authority(value, &host, &port) < 0)
        return -ERR_BAD_HOST;
    if (r->form != HTTP_TARGET_ABSOLUTE)
        h1_set_authority(r, value, host, port);
    return 0;
}

/* RFC 9112 6.1 to 6.3, without any of its leniencies. */
static int h1_request_framing(struct http_request *r, const struct h1_fields *f)
{
    r->framing = HTTP_BODY_NONE;
    if (h1_fields_has(f, FIELD_TRANSFER_ENCODING)) {
        if (r->minor == 0)
            return -ERR_BAD_CODING;
        if (h1_fields_has(f, FIELD_CONTENT_LENGTH))
            return -ERR_CL_AND_TE;
        if (!h1_fields_chunked(f))
            return -ERR_BAD_CODING;
        r->framing = HTTP_BODY_CHUNKED;
    } else if (h1_fields_has(f, FIELD_CONTENT_LENGTH)) {
        int rc = h1_fields_length(f, &r->content_length);
        if (rc < 0)
            return rc;
        r->framing = HTTP_BODY_LENGTH;
    }
    return 0;
}

static int h1_request_connection(struct http_request *r, struct h1_fields *f)
{
    struct h1_connection c;
    int rc = h1_fields_connection(f, &c);
    if (rc < 0)
        return rc;
    r->keep_alive = !c.close && (r->minor > 0 || c.keep_alive);
    if (r->minor == 0)
        return 0;
    if (c.upgrade) {
        r->upgrade = h1_fields_upgrade(f);
        r->has_upgrade = r->upgrade.n > 0;
    }
    if (h1_fields_has(f, FIELD_TE))
        r->te_trailers = h1_fields_lists(f, FIELD_TE, SLICE("trailers"));
    if (h1_fields_has(f, FIELD_EXPECT)) {
        if (h1_fields_repeats(f, FIELD_EXPECT) ||
            !slice_eq_ci(h1_fields_value(f, FIELD_EXPECT), SLICE("100-continue")))
            return -ERR_BAD_EXPECT;
        /* Without content there is nothing to wait for (RFC 9110 10.1.1). */
        r->expect_continue = r->framing != HTTP_BODY_NONE;
    }
    return 0;
}

static bool h1_head_is_whole(const char *p, size_t n)
{
    return n >= 4 && memcmp(p + n - 4, "\r\n\r\n", 4) == 0;
}

int h1_parse_request(const char *p, size_t n, const struct h1_limits *lim, struct http_field *field,
                     struct http_request *r)
{
    memset(r, 0, sizeof(*r));
    r->method = HTTP_OTHER;
    r->field = field;
    r->head_size = n;
    if (!h1_head_is_whole(p, n))
        return -ERR_BAD_REQUEST;
    /* The last CR LF is the empty line: what comes before it is lines. */
    const char *end = p + n - 2;
    int64_t line = h1_request_line(p, end, r);
    if (line < 0)
        return (int)line;
    if ((size_t)line - 2 > lim->max_line)
        return -ERR_URI_TOO_LONG;
    struct h1_fields f;
    f.field = field;
    int rc = h1_fields_parse(&f, p + line, end, lim->max_field, lim->max_fields);
    r->nfield = f.n;
    if (rc < 0)
        return rc;
    if ((rc = h1_request_target(r)) < 0 || (rc = h1_request_framing(r, &f)) < 0 ||
        (rc = h1_request_host(r, &f)) < 0 || (rc = h1_request_connection(r, &f)) < 0)
        return rc;
    return r->method == HTTP_TRACE || r->method == HTTP_CONNECT ? -ERR_METHOD_REFUSED : 0;
}

/* "HTTP/1.x SP 3DIGIT [SP reason] CR LF" at p: servers leave out the reason and even its space.
 * Size of the line, or an error. */
static int64_t h1_status_line(const char *p, const char *end, struct http_response *r)
{
    if (end - p < 14 || p[8] != ' ' || h1_version(p, 8, &r->minor) < 0)
        return -ERR_UP_BAD_HEAD;
    for (int i = 9; i < 12; i++) {
        if (p[i] < '0' || p[i] > '9')
            return -ERR_UP_BAD_HEAD;
        r->status = r->status * 10 + (unsigned)(p[i] - '0');
    }
    if (r->status < 100 || r->status > 599)
        return -ERR_UP_BAD_HEAD;
    const char *q = p + 12;
    if (*q == ' ') {
        const char *reason = q + 1;
        q = h1_scan_value(reason, end);
        r->reason = slice_of(reason, (size_t)(q - reason));
    }
    if (end - q < 2 || q[0] != '\r' || q[1] != '\n')
        return -ERR_UP_BAD_HEAD;
    return q + 2 - p;
}

/* How the answer's body ends (RFC 9112 6.3). Fields that frame must be sound even on answers
 * without a body. */
static int h1_response_framing(struct http_response *r, const struct h1_fields *f,
                               enum http_method method)
{
    const bool te = h1_fields_has(f, FIELD_TRANSFER_ENCODING);
    if (h1_fields_has(f, FIELD_CONTENT_LENGTH)) {
        if (te || h1_fields_length(f, &r->content_length) < 0)
            return -ERR_UP_BAD_HEAD;
        r->has_length = true;
    }
    if (te && (r->minor == 0 || !h1_fields_chunked(f)))
        return -ERR_UP_BAD_HEAD;
    if (r->status < 200 || r->status == 204) {
        /* Neither field may be here (RFC 9110 8.6, RFC 9112 6.1). A server that sends one may send
         * a body too: before a final answer that is fatal, after a 204 the connection is not used
         * again. */
        const bool body = te || r->content_length > 0;
        if (body && r->status < 200)
            return -ERR_UP_BAD_HEAD;
        if (body)
            r->keep_alive = false;
        r->has_length = false;
        r->content_length = 0;
        r->framing = HTTP_BODY_NONE;
    } else if (method == HTTP_HEAD || r->status == 304) {
        r->framing = HTTP_BODY_NONE;
    } else if (te) {
        r->framing = HTTP_BODY_CHUNKED;
    } else if (r->has_length) {
        r->framing = HTTP_BODY_LENGTH;
    } else {
        r->framing = HTTP_BODY_CLOSE;
        r->keep_alive = false;
    }
    return 0;
}

/* timeout=N of Keep-Alive (RFC 2068 19.7.1.1; still what servers send); 0 when absent or odd. */
static uint32_t h1_keepalive_timeout(struct slice value)
{
    struct slice rest = value, item;
    while (slice_next(&rest, ',', &item)) {
        if (item.n <= 8 || item.n > 14 || !slice_eq_ci(slice_of(item.p, 8), SLICE("timeout=")))
            continue;
        uint32_t v = 0;
        for (size_t i = 8; i < item.n; i++) {
            if (item.p[i] < '0' || item.p[i] > '9')
                return 0;
            v = v * 10 + (uint32_t)(item.p[i] - '0');
        }
        return v;
    }
    return 0;
}

int h1_parse_response(const char *p, size_t n, const struct h1_limits *lim, enum http_method method,
                      struct http_field *field, struct http_response *r)
{
    memset(r, 0, sizeof(*r));
    r->field = field;
    r->head_size = n;
    if (!h1_head_is_whole(p, n))
        return -ERR_UP_BAD_HEAD;
    const char *end = p + n - 2;
    int64_t line = h1_status_line(p, end, r);
    if (line < 0)
        return (int)line;
    struct h1_fields f;
    struct h1_connection c;
    f.field = field;
    int rc = h1_fields_parse(&f, p + line, end, lim->max_field, lim->max_fields);
    r->nfield = f.n;
    if (rc < 0 || (rc = h1_fields_connection(&f, &c)) < 0)
        return h1_answer_error(rc);
    r->keep_alive = !c.close && (r->minor > 0 || c.keep_alive);
    if ((rc = h1_response_framing(r, &f, method)) < 0)
        return rc;
    if (h1_fields_has(&f, FIELD_UPGRADE) && (c.upgrade || r->status == 426)) {
        r->upgrade = h1_fields_upgrade(&f);
        r->has_upgrade = r->upgrade.n > 0;
    }
    if (r->status == 101) {
        /* After it the bytes are no longer HTTP: without both fields nobody knows what they are. */
        if (!r->has_upgrade)
            return -ERR_UP_BAD_HEAD;
        r->keep_alive = false;
    }
    if (h1_fields_has(&f, FIELD_KEEP_ALIVE))
        r->keepalive_s = h1_keepalive_timeout(h1_fields_value(&f, FIELD_KEEP_ALIVE));
    r->event_stream = h1_fields_event_stream(&f);
    return 0;
}
