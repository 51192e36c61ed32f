/* HTTP/2 heads: each field is checked as it comes, the whole when it is complete; nothing that
 * could be read in two ways passes. */
#include "worker/http/h2_head.h"

#include "base/arena.h"
#include "base/err.h"
#include "worker/http/h1_chunk.h"
#include "worker/http/h1_fields.h"
#include "worker/http/h1_scan.h"
#include "worker/http/uri.h"

#include <stdlib.h>

#define BIT(id) ((uint64_t)1 << FIELD_##id)
/* Fields of a connection: HTTP/2 has none (RFC 9113 8.2.2). */
#define H2_HEAD_CONNECTION                                                                         \
    (BIT(CONNECTION) | BIT(KEEP_ALIVE) | BIT(PROXY_CONNECTION) | BIT(TRANSFER_ENCODING) |          \
     BIT(UPGRADE))

/* ---- the block ---- */

void h2_head_begin(struct h2_head *h, enum h2_head_kind kind)
{
    h->n = h->nline = h->line_size = 0;
    h->size = 0;
    h->kind = (uint8_t)kind;
    h->seen = 0;
    h->regular = h->cookies = h->host = false;
    h->err = 0;
    memset(h->pseudo, 0, sizeof(h->pseudo));
}

void h2_head_fini(struct h2_head *h)
{
    free(h->p);
    free(h->line);
    *h = (struct h2_head){0};
}

static bool h2_head_grow(void **p, uint32_t *cap, uint64_t want, size_t unit, uint32_t least)
{
    if (want <= *cap)
        return true;
    uint64_t n = *cap > 0 ? *cap : least;
    while (n < want)
        n *= 2;
    if (n > UINT32_MAX / unit || alloc_should_fail())
        return false;
    void *q = realloc(*p, (size_t)n * unit);
    if (q == NULL)
        return false;
    *p = q;
    *cap = (uint32_t)n;
    return true;
}

static bool h2_head_room(struct h2_head *h, uint64_t more)
{
    void *p = h->p;
    const bool ok = h2_head_grow(&p, &h->cap, h->n + more, 1, 2048);
    h->p = p;
    return ok;
}

static bool h2_head_line_room(struct h2_head *h)
{
    void *p = h->line;
    const bool ok = h2_head_grow(&p, &h->line_cap, (uint64_t)h->nline + 1, sizeof(*h->line), 32);
    h->line = p;
    return ok;
}

static void h2_head_bytes(struct h2_head *h, struct slice s)
{
    if (s.n > 0)
        memcpy(h->p + h->n, s.p, s.n);
    h->n += (uint32_t)s.n;
}

/* A line at the end of the text; limits are the caller's. */
static int h2_head_put(struct h2_head *h, struct slice name, struct slice value)
{
    if (!h2_head_room(h, (uint64_t)name.n + value.n + 4) || !h2_head_line_room(h))
        return -ERR_NOMEM;
    h->line[h->nline++] = (struct h2_head_line){h->n, (uint32_t)name.n, (uint32_t)value.n};
    h2_head_bytes(h, name);
    h2_head_bytes(h, SLICE(": "));
    h2_head_bytes(h, value);
    h2_head_bytes(h, SLICE("\r\n"));
    return 0;
}

static void h2_head_fail(struct h2_head *h, int err)
{
    if (h->err == 0)
        h->err = err;
}

static int h2_head_pseudo_of(struct slice name)
{
    static const struct slice names[H2_PSEUDO__COUNT] = {
        [H2_PSEUDO_METHOD] = {":method", 7},        [H2_PSEUDO_SCHEME] = {":scheme", 7},
        [H2_PSEUDO_AUTHORITY] = {":authority", 10}, [H2_PSEUDO_PATH] = {":path", 5},
        [H2_PSEUDO_PROTOCOL] = {":protocol", 9},    [H2_PSEUDO_STATUS] = {":status", 7},
    };
    enum h2_head_pseudo id;
    /* The only one of this length and with this letter. */
    switch (name.n) {
    case 5:
        id = H2_PSEUDO_PATH;
        break;
    case 7:
        id = name.p[1] == 'm'   ? H2_PSEUDO_METHOD
             : name.p[2] == 'c' ? H2_PSEUDO_SCHEME
                                : H2_PSEUDO_STATUS;
        break;
    case 9:
        id = H2_PSEUDO_PROTOCOL;
        break;
    case 10:
        id = H2_PSEUDO_AUTHORITY;
        break;
    default:
        return -1;
    }
    return slice_eq(name, names[id]) ? (int)id : -1;
}

/* Is the value of this pseudo-header field made of what it may hold? */
static int h2_head_check_pseudo(enum h2_head_pseudo id, struct slice v)
{
    switch (id) {
    case H2_PSEUDO_METHOD:
        return http_is_token(v) ? 0 : -ERR_BAD_METHOD;
    case H2_PSEUDO_PATH:
        return v.n > 0 && h1_scan_target(v.p, v.p + v.n) == v.p + v.n ? 0 : -ERR_BAD_TARGET;
    case H2_PSEUDO_SCHEME:
        return slice_eq(v, SLICE("https")) || slice_eq(v, SLICE("http")) ? 0 : -ERR_BAD_TARGET;
    case H2_PSEUDO_AUTHORITY: {
        struct slice host;
        uint16_t port;
        return uri_authority(v, &host, &port);
    }
    case H2_PSEUDO_PROTOCOL:
        return http_is_token(v) ? 0 : -ERR_BAD_FIELD;
    case H2_PSEUDO_STATUS:
        for (size_t i = 0; i < v.n; i++) {
            if (v.p[i] < '0' || v.p[i] > '9')
                return -ERR_BAD_FIELD;
        }
        return v.n == 3 ? 0 : -ERR_BAD_FIELD;
    case H2_PSEUDO__COUNT:
        break;
    }
    return -ERR_BAD_FIELD;
}

static int h2_head_add_pseudo(struct h2_head *h, const struct h2_limits *lim, struct slice name,
                              struct slice value)
{
    const int id = h2_head_pseudo_of(name);
    const bool answers = id == H2_PSEUDO_STATUS;
    if (id < 0 || h->regular || h->kind == H2_HEAD_TRAILER ||
        answers != (h->kind == H2_HEAD_RESPONSE) || (h->seen >> id & 1) != 0)
        return id == H2_PSEUDO_AUTHORITY ? -ERR_BAD_HOST : -ERR_BAD_FIELD;
    if (h->line_size + value.n > lim->max_line)
        return -ERR_URI_TOO_LONG;
    int rc = h2_head_check_pseudo((enum h2_head_pseudo)id, value);
    /* What may stand in no log is not kept. */
    if (rc < 0)
        return rc;
    if (id == H2_PSEUDO_AUTHORITY) {
        /* As the Host field it is: whoever looks for one finds it. */
        if ((rc = h2_head_put(h, SLICE("host"), value)) < 0)
            return rc;
        h->pseudo[id].at = h->line[h->nline - 1].at + 6;
    } else {
        if (!h2_head_room(h, value.n))
            return -ERR_NOMEM;
        h->pseudo[id].at = h->n;
        h2_head_bytes(h, value);
    }
    h->pseudo[id].n = (uint32_t)value.n;
    h->line_size += (uint32_t)value.n;
    h->seen |= (uint8_t)(1u << id);
    return 0;
}

static struct slice h2_head_pseudo_value(const struct h2_head *h, enum h2_head_pseudo id)
{
    if ((h->seen >> id & 1) == 0)
        return SLICE("");
    return slice_of(h->p + h->pseudo[id].at, h->pseudo[id].n);
}

static bool h2_head_name_sound(struct slice name)
{
    for (size_t i = 0; i < name.n; i++) {
        const char c = name.p[i];
        if (!http_is(c, HTTP_CLASS_TOKEN) || (c >= 'A' && c <= 'Z'))
            return false;
    }
    return name.n > 0;
}

static bool h2_head_value_sound(struct slice v)
{
    if (v.n == 0)
        return true;
    const char first = v.p[0], last = v.p[v.n - 1];
    return first != ' ' && first != '\t' && last != ' ' && last != '\t' &&
           h1_scan_value(v.p, v.p + v.n) == v.p + v.n;
}

static int h2_head_add_regular(struct h2_head *h, const struct h2_limits *lim, struct slice name,
                               struct slice value)
{
    const bool trailer = h->kind == H2_HEAD_TRAILER;
    const uint64_t bytes = (uint64_t)name.n + value.n;
    h->regular = true;
    if (bytes + 2 > lim->max_field)
        return -ERR_HEAD_TOO_LARGE;
    if (!h2_head_name_sound(name) || !h2_head_value_sound(value))
        return trailer ? -ERR_BAD_TRAILER : -ERR_BAD_FIELD;
    /* Authority and Host that differ would be two answers to where this goes (RFC 9113 8.3.1). */
    if (h->kind == H2_HEAD_REQUEST && slice_eq(name, SLICE("host"))) {
        const bool again = h->host;
        h->host = true;
        if (again)
            return -ERR_BAD_HOST;
        if ((h->seen >> H2_PSEUDO_AUTHORITY & 1) != 0)
            return slice_eq_ci(value, h2_head_pseudo_value(h, H2_PSEUDO_AUTHORITY)) ? 0
                                                                                    : -ERR_BAD_HOST;
    }
    /* Crumbs of a cookie are one field in the end (RFC 9113 8.2.3): max_head bounds them. */
    if (h->kind == H2_HEAD_REQUEST && slice_eq(name, SLICE("cookie"))) {
        for (uint32_t i = h->nline; i > 0 && !h->cookies; i--) {
            const struct h2_head_line *l = &h->line[i - 1];
            h->cookies = slice_eq(slice_of(h->p + l->at, l->name), name);
        }
    } else if (h->nline >= lim->max_fields || h->nline >= HTTP_FIELDS_MAX) {
        return -ERR_HEAD_TOO_LARGE;
    }
    return h2_head_put(h, name, value);
}

void h2_head_add(struct h2_head *h, const struct h2_limits *lim, struct slice name,
                 struct slice value)
{
    const bool pseudo = name.n > 0 && name.p[0] == ':';
    h->size += (uint64_t)name.n + value.n + 4;
    const uint32_t most = h->kind == H2_HEAD_TRAILER && lim->max_head > H1_TRAILER_MAX
                              ? H1_TRAILER_MAX
                              : lim->max_head;
    int rc = 0;
    /* max_line bounds pseudo-header fields, and each comes once. */
    if (h->size > most && !pseudo)
        rc = h->kind == H2_HEAD_TRAILER ? -ERR_BAD_TRAILER : -ERR_HEAD_TOO_LARGE;
    else if (pseudo && (h->err == 0 || h->kind == H2_HEAD_REQUEST))
        rc = h2_head_add_pseudo(h, lim, name, value);
    else if (!pseudo && h->err == 0)
        rc = h2_head_add_regular(h, lim, name, value);
    if (rc < 0)
        h2_head_fail(h, rc);
}

/* ---- the whole ---- */

/* Crumbs become one line behind all others: "a=1; b=2". The lines they were are struck out. */
static int h2_head_join_cookies(struct h2_head *h, uint32_t max_field)
{
    const struct slice name = SLICE("cookie");
    uint64_t n = 0;
    for (uint32_t i = 0; i < h->nline; i++) {
        if (slice_eq(slice_of(h->p + h->line[i].at, h->line[i].name), name))
            n += h->line[i].value + 2;
    }
    if (n + name.n > max_field)
        return -ERR_HEAD_TOO_LARGE;
    if (!h2_head_room(h, name.n + 4 + n))
        return -ERR_NOMEM;
    struct h2_head_line joined = {h->n, (uint32_t)name.n, 0};
    h2_head_bytes(h, name);
    h2_head_bytes(h, SLICE(": "));
    const uint32_t from = h->n;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < h->nline; i++) {
        const struct h2_head_line l = h->line[i];
        if (!slice_eq(slice_of(h->p + l.at, l.name), name)) {
            h->line[kept++] = l;
            continue;
        }
        if (l.value == 0)
            continue;
        if (h->n > from)
            h2_head_bytes(h, SLICE("; "));
        h2_head_bytes(h, slice_of(h->p + l.at + l.name + 2, l.value));
    }
    joined.value = h->n - from;
    h2_head_bytes(h, SLICE("\r\n"));
    h->line[kept++] = joined;
    h->nline = kept;
    return 0;
}

static void h2_head_fields(const struct h2_head *h, struct h1_fields *f, struct http_field *field)
{
    *f = (struct h1_fields){.field = field};
    for (uint32_t i = 0; i < h->nline && f->n < HTTP_FIELDS_MAX; i++) {
        const struct h2_head_line *l = &h->line[i];
        h1_fields_add(f, slice_of(h->p + l->at, l->name),
                      slice_of(h->p + l->at + l->name + 2, l->value));
    }
}

static void h2_head_cut_path(struct http_request *r)
{
    const ptrdiff_t mark = slice_chr(r->target, '?');
    r->path = mark < 0 ? r->target : slice_of(r->target.p, (size_t)mark);
    if (mark >= 0) {
        r->has_query = true;
        r->query = slice_of(r->target.p + mark + 1, r->target.n - (size_t)mark - 1);
    }
}

/* What stands where a request line would be. *ret_websocket: extended CONNECT. */
static int h2_head_line_of(const struct h2_head *h, const struct h2_limits *lim,
                           struct http_request *r, bool *ret_websocket)
{
    const unsigned need = 1u << H2_PSEUDO_METHOD | 1u << H2_PSEUDO_SCHEME | 1u << H2_PSEUDO_PATH;
    const bool connect = r->method == HTTP_CONNECT;
    if ((h->seen >> H2_PSEUDO_PROTOCOL & 1) != 0) {
        if (!connect || !lim->connect_protocol || (h->seen >> H2_PSEUDO_AUTHORITY & 1) == 0)
            return -ERR_BAD_FIELD;
        if (!slice_eq_ci(h2_head_pseudo_value(h, H2_PSEUDO_PROTOCOL), SLICE("websocket")))
            return -ERR_METHOD_REFUSED;
        *ret_websocket = true;
    } else if (connect) {
        /* RFC 9113 8.5: nothing but an authority. */
        const unsigned only = 1u << H2_PSEUDO_METHOD | 1u << H2_PSEUDO_AUTHORITY;
        r->target = h2_head_pseudo_value(h, H2_PSEUDO_AUTHORITY);
        return h->seen == only ? 0 : -ERR_BAD_LINE;
    }
    if ((h->seen & need) != need)
        return -ERR_BAD_LINE;
    if (r->target.p[0] == '/') {
        h2_head_cut_path(r);
        return 0;
    }
    if (r->target.n != 1 || r->target.p[0] != '*' || r->method != HTTP_OPTIONS)
        return -ERR_BAD_TARGET;
    r->form = HTTP_TARGET_ASTERISK;
    r->path = r->target;
    return 0;
}

static int h2_head_host(struct http_request *r, const struct h1_fields *f)
{
    if (!h1_fields_has(f, FIELD_HOST) || h1_fields_repeats(f, FIELD_HOST))
        return -ERR_BAD_HOST;
    const struct slice value = h1_fields_value(f, FIELD_HOST);
    int rc = uri_authority(value, &r->host, &r->port);
    if (rc < 0)
        return rc;
    r->authority = r->port == 0 ? r->host : value;
    return 0;
}

static int h2_head_request_framing(struct http_request *r, const struct h1_fields *f, bool end)
{
    r->framing = end ? HTTP_BODY_NONE : HTTP_BODY_CHUNKED;
    if (!h1_fields_has(f, FIELD_CONTENT_LENGTH))
        return 0;
    int rc = h1_fields_length(f, &r->content_length);
    if (rc < 0)
        return rc;
    r->framing = HTTP_BODY_LENGTH;
    return end && r->content_length > 0 ? -ERR_BAD_LENGTH : 0;
}

static int h2_head_wishes(struct http_request *r, const struct h1_fields *f)
{
    if ((f->seen & H2_HEAD_CONNECTION) != 0)
        return -ERR_BAD_FIELD;
    if (h1_fields_has(f, FIELD_TE)) {
        if (h1_fields_repeats(f, FIELD_TE) ||
            !slice_eq_ci(h1_fields_value(f, FIELD_TE), SLICE("trailers")))
            return -ERR_BAD_FIELD;
        r->te_trailers = true;
    }
    if (h1_fields_has(f, FIELD_EXPECT)) {
        if (h1_fields_repeats(f, FIELD_EXPECT) ||
            !slice_eq_ci(h1_fields_value(f, FIELD_EXPECT), SLICE("100-continue")))
            return -ERR_BAD_EXPECT;
        r->expect_continue = r->framing != HTTP_BODY_NONE;
    }
    return 0;
}

/* An HTTP/1.1 upgrade is what the rest of the proxy and its servers know: the request becomes one
 * (RFC 8441 5). */
static int h2_head_websocket(struct http_request *r, struct h1_fields *f, bool end,
                             struct slice key)
{
    if (end || h1_fields_has(f, FIELD_CONTENT_LENGTH))
        return -ERR_BAD_REQUEST;
    size_t kept = 0;
    for (size_t i = 0; i < f->n; i++) {
        if (!slice_eq(f->field[i].name, SLICE("sec-websocket-key")))
            f->field[kept++] = f->field[i];
    }
    f->n = kept;
    h1_fields_add(f, SLICE("sec-websocket-key"), key);
    r->method_text = SLICE("GET");
    r->method = HTTP_GET;
    r->framing = HTTP_BODY_NONE;
    r->has_upgrade = true;
    r->upgrade = SLICE("websocket");
    r->expect_continue = false;
    return 0;
}

int h2_head_request(struct h2_head *h, const struct h2_limits *lim, bool end, struct slice key,
                    struct http_field *field, struct http_request *r)
{
    struct h1_fields f;
    bool websocket = false;
    memset(r, 0, sizeof(*r));
    int rc = h->err;
    if (rc == 0 && h->cookies)
        rc = h2_head_join_cookies(h, lim->max_field);
    r->field = field;
    r->major = 2;
    r->minor = 1;
    r->keep_alive = true;
    r->head_size = h->size;
    r->method_text = h2_head_pseudo_value(h, H2_PSEUDO_METHOD);
    r->method = http_method_of(r->method_text);
    r->target = h2_head_pseudo_value(h, H2_PSEUDO_PATH);
    r->path = r->host = r->authority = SLICE("");
    if (rc < 0)
        return rc;
    h2_head_fields(h, &f, field);
    r->nfield = f.n;
    if ((rc = h2_head_line_of(h, lim, r, &websocket)) < 0 ||
        (rc = h2_head_request_framing(r, &f, end)) < 0 || (rc = h2_head_host(r, &f)) < 0 ||
        (rc = h2_head_wishes(r, &f)) < 0)
        return rc;
    if (websocket) {
        rc = h2_head_websocket(r, &f, end, key);
        r->nfield = f.n;
        return rc;
    }
    return r->method == HTTP_TRACE || r->method == HTTP_CONNECT ? -ERR_METHOD_REFUSED : 0;
}

static int h2_head_response_framing(struct http_response *r, const struct h1_fields *f,
                                    enum http_method method, bool end)
{
    if (h1_fields_has(f, FIELD_CONTENT_LENGTH)) {
        if (h1_fields_length(f, &r->content_length) < 0)
            return -ERR_UP_BAD_HEAD;
        r->has_length = true;
    }
    r->framing = HTTP_BODY_NONE;
    if (r->status < 200) {
        /* An interim answer ends nothing and brings nothing (RFC 9113 8.1). */
        return end || r->content_length > 0 ? -ERR_UP_BAD_HEAD : 0;
    }
    if (r->status == 204) {
        if (r->content_length > 0)
            return -ERR_UP_BAD_HEAD;
        r->has_length = false;
    } else if (method != HTTP_HEAD && r->status != 304) {
        if (end && r->content_length > 0)
            return -ERR_UP_BAD_HEAD;
        r->has_length = r->has_length || end;
        r->framing = r->has_length ? HTTP_BODY_LENGTH : HTTP_BODY_CHUNKED;
    }
    return 0;
}

int h2_head_response(struct h2_head *h, enum http_method method, bool end, struct http_field *field,
                     struct http_response *r)
{
    struct h1_fields f;
    memset(r, 0, sizeof(*r));
    r->field = field;
    r->minor = 1;
    r->keep_alive = true;
    r->head_size = h->size;
    r->reason = SLICE("");
    if (h->err < 0) {
        if (h->err == -ERR_NOMEM)
            return -ERR_NOMEM;
        return h->err == -ERR_HEAD_TOO_LARGE || h->err == -ERR_URI_TOO_LONG ? -ERR_UP_HEAD_TOO_LARGE
                                                                            : -ERR_UP_BAD_HEAD;
    }
    const struct slice status = h2_head_pseudo_value(h, H2_PSEUDO_STATUS);
    for (size_t i = 0; i < status.n; i++)
        r->status = r->status * 10 + (unsigned)(status.p[i] - '0');
    h2_head_fields(h, &f, field);
    r->nfield = f.n;
    /* 101 does not exist here (RFC 9113 8.6). */
    if (r->status < 100 || r->status > 599 || r->status == 101 ||
        (f.seen & H2_HEAD_CONNECTION) != 0)
        return -ERR_UP_BAD_HEAD;
    r->event_stream = h1_fields_event_stream(&f);
    return h2_head_response_framing(r, &f, method, end);
}

int h2_head_trailers(struct h2_head *h, struct http_field *field, size_t max)
{
    if (h->err < 0)
        return h->err == -ERR_NOMEM ? -ERR_NOMEM : -ERR_BAD_TRAILER;
    const struct h1_chunk c = {.trailer = h->p, .trailer_n = h->n};
    return h1_chunk_trailers(&c, field, max);
}

/* ---- copies ---- */

static struct slice h2_head_dup(struct arena *a, struct slice s)
{
    return s.p == NULL || s.n == 0 ? s : arena_dup(a, s);
}

int h2_head_keep(struct arena *a, const struct http_request *r, struct http_request *ret)
{
    size_t n = 0, at = 0;
    for (size_t i = 0; i < r->nfield; i++)
        n += r->field[i].name.n + r->field[i].value.n + 4;
    struct http_field *field = arena_alloc(a, sizeof(*field) * (r->nfield > 0 ? r->nfield : 1));
    char *text = arena_bytes(a, n > 0 ? n : 1);
    if (field == NULL || text == NULL)
        return -ERR_NOMEM;
    *ret = *r;
    ret->field = field;
    for (size_t i = 0; i < r->nfield; i++) {
        const struct http_field *from = &r->field[i];
        const size_t whole = from->name.n + 2 + from->value.n;
        field[i] = *from;
        field[i].name.p = text + at;
        field[i].value.p = text + at + from->name.n + 2;
        memcpy(text + at, from->name.p, from->name.n);
        memcpy(text + at + from->name.n, ": ", 2);
        if (from->value.n > 0)
            memcpy(text + at + from->name.n + 2, from->value.p, from->value.n);
        memcpy(text + at + whole, "\r\n", 2);
        at += whole + 2;
        /* The host is the text of its field. */
        if (from->id == FIELD_HOST && r->host.n > 0 && r->host.p == from->value.p) {
            ret->host.p = field[i].value.p;
            ret->authority.p = field[i].value.p;
        }
    }
    ret->method_text = h2_head_dup(a, r->method_text);
    ret->target = h2_head_dup(a, r->target);
    if (r->path.n > 0)
        ret->path.p = ret->target.p;
    if (r->has_query && ret->target.p != NULL)
        ret->query.p = ret->target.p + r->path.n + 1;
    return arena_failed(a) ? -ERR_NOMEM : 0;
}

/* ---- priorities ---- */

bool h2_head_priority(struct slice value, unsigned *ret_urgency, bool *ret_incremental)
{
    struct slice rest = value, item;
    bool any = false;
    *ret_urgency = 3;
    *ret_incremental = false;
    while (slice_next(&rest, ',', &item)) {
        /* Parameters say nothing that is known. */
        const ptrdiff_t semi = slice_chr(item, ';');
        if (semi >= 0)
            item = slice_trim(slice_of(item.p, (size_t)semi));
        if (item.n == 3 && item.p[0] == 'u' && item.p[1] == '=' && item.p[2] >= '0' &&
            item.p[2] <= '7') {
            *ret_urgency = (unsigned)(item.p[2] - '0');
            any = true;
        } else if (slice_eq(item, SLICE("i")) || slice_eq(item, SLICE("i=?1"))) {
            *ret_incremental = any = true;
        } else if (slice_eq(item, SLICE("i=?0"))) {
            *ret_incremental = false;
            any = true;
        }
    }
    return any;
}

/* ---- from text ---- */

/* Cuts the line at *p (without CR LF). false: there is none. */
static bool h2_head_cut(struct slice *text, struct slice *ret_line)
{
    const char *end = text->p + text->n;
    const char *lf = h1_scan_lf(text->p, end);
    if (lf == end || lf == text->p)
        return false;
    *ret_line = slice_of(text->p, (size_t)(lf - 1 - text->p));
    *text = slice_of(lf + 1, (size_t)(end - lf - 1));
    return true;
}

/* Name and value of a line; what is known gets its name from the table, in lower case. */
static bool h2_head_field(struct slice line, struct h2_pair *ret)
{
    bool plain;
    const char *end = line.p + line.n, *colon = h1_scan_name(line.p, end, &plain);
    if (colon == end || *colon != ':' || colon == line.p)
        return false;
    const char *v = colon + 1;
    while (v < end && (*v == ' ' || *v == '\t'))
        v++;
    while (end > v && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    const struct slice name = slice_of(line.p, (size_t)(colon - line.p));
    const uint8_t id = http_field_id_of(name);
    *ret = (struct h2_pair){.name = id != FIELD_UNKNOWN ? http_field_name(id) : name,
                            .value = slice_of(v, (size_t)(end - v)),
                            .id = id};
    return true;
}

/* The fields behind the first line; out[n..) is filled. host: where that of a Host field goes. */
static int h2_head_text(struct slice text, bool websocket, struct slice *host, struct h2_pair *out,
                        size_t n, size_t max)
{
    struct slice line;
    while (h2_head_cut(&text, &line) && line.n > 0) {
        struct h2_pair p;
        if (!h2_head_field(line, &p))
            return -ERR_INVAL;
        const uint64_t bit = (uint64_t)1 << p.id;
        if ((bit & (H2_HEAD_CONNECTION | BIT(HTTP2_SETTINGS))) != 0)
            continue;
        if ((bit & BIT(TE)) != 0 && !slice_eq_ci(p.value, SLICE("trailers")))
            continue;
        if (websocket && slice_eq_ci(p.name, SLICE("sec-websocket-accept")))
            continue;
        if (host != NULL && (bit & BIT(HOST)) != 0) {
            *host = p.value;
            continue;
        }
        if (n == max)
            return -ERR_FULL;
        out[n++] = p;
    }
    return (int)n;
}

int h2_head_answer(struct slice text, bool websocket, struct h2_pair *out, size_t max,
                   unsigned *ret_status)
{
    struct slice line;
    if (max < 1 || !h2_head_cut(&text, &line) || line.n < 12)
        return -ERR_INVAL;
    struct slice status = slice_of(line.p + 9, 3);
    const unsigned code = (unsigned)(status.p[0] - '0') * 100 + (unsigned)(status.p[1] - '0') * 10 +
                          (unsigned)(status.p[2] - '0');
    if (websocket && code == 101)
        status = SLICE("200");
    else if (websocket && code >= 200 && code < 300)
        status = SLICE("502");
    else if (code == 101)
        return -ERR_INVAL;
    out[0] = (struct h2_pair){SLICE(":status"), status, FIELD_UNKNOWN};
    if (ret_status != NULL)
        *ret_status = code;
    return h2_head_text(text, websocket, NULL, out, 1, max);
}

int h2_head_ask(struct slice text, struct slice scheme, struct h2_pair *out, size_t max,
                struct slice *ret_method)
{
    struct slice line, host = SLICE("");
    if (max < 4 || !h2_head_cut(&text, &line))
        return -ERR_INVAL;
    const ptrdiff_t first = slice_chr(line, ' ');
    if (first <= 0)
        return -ERR_INVAL;
    struct slice rest = slice_of(line.p + first + 1, line.n - (size_t)first - 1);
    const ptrdiff_t second = slice_chr(rest, ' ');
    if (second <= 0)
        return -ERR_INVAL;
    out[0] = (struct h2_pair){SLICE(":method"), slice_of(line.p, (size_t)first), FIELD_UNKNOWN};
    out[1] = (struct h2_pair){SLICE(":scheme"), scheme, FIELD_UNKNOWN};
    out[2] = (struct h2_pair){SLICE(":path"), slice_of(rest.p, (size_t)second), FIELD_UNKNOWN};
    *ret_method = out[0].value;
    int n = h2_head_text(text, false, &host, out, 4, max);
    if (n < 0)
        return n;
    if (host.n > 0) {
        out[3] = (struct h2_pair){SLICE(":authority"), host, FIELD_UNKNOWN};
        return n;
    }
    out[3] = out[n - 1];
    return n - 1;
}
