/* HTTP/2: bytes of a client into a server's session, or fields into a head. Whatever is accepted
 * must read the same once it is written for HTTP/1; every stream that began must end. */
#include "base/err.h"
#include "t/fuzz/fuzz.h"
#include "worker/http/forward.h"
#include "worker/http/h1_head.h"
#include "worker/http/h2_head.h"

static const struct h2_limits limits = {.max_streams = 20,
                                        .stream_window = 65536,
                                        .conn_window = 65536,
                                        .max_line = 1000,
                                        .max_field = 1500,
                                        .max_head = 4000,
                                        .max_fields = 60,
                                        .queue = 4096,
                                        .connect_protocol = true};
static const struct h1_limits wide = {8000, 16000, 60000, 200};

struct session {
    struct h2 *h;
    unsigned open, points;
    int32_t id[64];
    unsigned nid;
};

static size_t count(const struct http_request *r, enum http_field_id id)
{
    size_t k = 0;
    for (size_t i = 0; i < r->nfield; i++)
        k += r->field[i].id == id;
    return k;
}

static void check_request(const struct http_request *r, bool end)
{
    static struct http_field field[200];
    static char out[65536];
    CHECK(http_is_token(r->method_text) && r->major == 2 && r->minor == 1);
    CHECK(r->path.n > 0 && (r->path.p[0] == '/' || slice_eq(r->path, SLICE("*"))));
    CHECK(r->host.n > 0 && r->authority.n >= r->host.n && count(r, FIELD_HOST) == 1);
    CHECK(count(r, FIELD_CONTENT_LENGTH) == (r->framing == HTTP_BODY_LENGTH));
    CHECK(count(r, FIELD_TRANSFER_ENCODING) + count(r, FIELD_CONNECTION) == 0);
    CHECK(!end || r->framing != HTTP_BODY_CHUNKED);
    CHECK(!end || r->content_length == 0);
    for (size_t i = 0; i < r->nfield; i++) {
        const struct http_field *f = &r->field[i];
        CHECK(http_is_token(f->name));
        for (size_t k = 0; k < f->name.n; k++)
            CHECK(f->name.p[k] < 'A' || f->name.p[k] > 'Z');
        for (size_t k = 0; k < f->value.n; k++)
            CHECK(http_is(f->value.p[k], HTTP_CLASS_VALUE));
    }
    struct http_request again;
    struct forward_request f = {.client_ip = SLICE("192.0.2.1"),
                                .scheme = SLICE("https"),
                                .keep_alive = true,
                                .upgrade = r->has_upgrade,
                                .framing = r->framing,
                                .content_length = r->content_length};
    struct head_out o = {out, 0, sizeof(out), false};
    forward_request_head(&o, r, &f);
    CHECK(!o.overflow);
    CHECK(h1_parse_request(out, o.n, &wide, field, &again) == 0);
    CHECK(slice_eq(again.method_text, r->method_text) && slice_eq(again.path, r->path));
    CHECK(again.has_query == r->has_query && slice_eq(again.query, r->query));
    CHECK(slice_eq(again.authority, r->authority) && again.framing == r->framing);
    CHECK(again.content_length == r->content_length && again.has_upgrade == r->has_upgrade);
    CHECK(again.te_trailers == r->te_trailers);
}

static void *opened(struct session *s, int32_t id)
{
    s->open++;
    if (s->nid < sizeof(s->id) / sizeof(s->id[0]))
        s->id[s->nid++] = id;
    return s;
}

static void *on_request(void *user, int32_t id, const struct http_request *r, bool end)
{
    struct session *s = user;
    check_request(r, end);
    if (id % 16 == 15)
        return NULL;
    if (id % 4 == 1) {
        h2_answer(s->h, id, SLICE("HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n"), false);
        h2_data(s->h, id, "hello", 5, id % 8 == 1, NULL, 0);
    }
    return opened(s, id);
}

static void *on_malformed(void *user, int32_t id, int err, const struct http_request *r, bool end)
{
    struct session *s = user;
    (void)end;
    CHECK(err > 0 && err_source(err) == ERR_SRC_CLIENT);
    CHECK(r->method_text.n == 0 || http_is_token(r->method_text));
    if (id % 8 == 7)
        return NULL;
    h2_answer(s->h, id, SLICE("HTTP/1.1 400 Bad Request\r\n\r\n"), true);
    return opened(s, id);
}

static void on_response(void *user, void *stream, const struct http_response *r, bool end)
{
    (void)user;
    (void)stream;
    (void)end;
    CHECK(r == NULL); /* a server gets no answers */
}

static void on_data(void *user, void *stream, const char *p, size_t n)
{
    struct session *s = user;
    (void)stream;
    for (unsigned i = 0; i < s->nid; i++)
        h2_consume(s->h, s->id[i], n);
    if (s->nid > 0)
        h2_data(s->h, s->id[n % s->nid], p, n, false, NULL, 0);
}

static void on_end(void *user, void *stream, const struct http_field *trailer, size_t n)
{
    struct session *s = user;
    (void)stream;
    for (size_t i = 0; i < n; i++)
        CHECK(http_is_token(trailer[i].name) && trailer[i].id != FIELD_CONTENT_LENGTH);
    for (unsigned i = 0; i < s->nid; i++)
        h2_data(s->h, s->id[i], NULL, 0, true, trailer, n);
}

static void on_stream(void *user, void *stream)
{
    (void)user;
    (void)stream;
}

static void on_closed(void *user, void *stream, int err)
{
    struct session *s = user;
    (void)stream;
    CHECK(err >= 0 && s->open > 0);
    s->open--;
}

static void on_goaway(void *user, int32_t last, uint32_t code)
{
    (void)user;
    (void)last;
    (void)code;
}

static void on_user(void *user)
{
    (void)user;
}

static bool on_misbehaved(void *user, uint32_t points)
{
    struct session *s = user;
    CHECK(points > 0);
    s->points += points;
    return s->points < 100;
}

static const struct h2_events events = {.request = on_request,
                                        .malformed = on_malformed,
                                        .response = on_response,
                                        .data = on_data,
                                        .end = on_end,
                                        .drained = on_stream,
                                        .closed = on_closed,
                                        .goaway = on_goaway,
                                        .pong = on_user,
                                        .misbehaved = on_misbehaved,
                                        .dirty = on_user};

static void fuzz_session(const char *p, size_t n)
{
    static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                                "\0\0\0\4\0\0\0\0\0\0\0\0\4\1\0\0\0\0";
    static char out[20000];
    struct session s = {0};
    CHECK(h2_new(H2_SERVER, &limits, &events, &s, &s.h) == 0);
    while (h2_output(s.h, out, sizeof(out)) > 0)
        ;
    CHECK(h2_input(s.h, hello, sizeof(hello) - 1) == 0);
    /* In pieces of changing size. */
    for (size_t at = 0, step = 7; at < n; at += step, step = step * 5 % 997 + 1) {
        const int rc = h2_input(s.h, p + at, n - at < step ? n - at : step);
        CHECK(rc == 0 || rc == -ERR_H2_PROTO || rc == -ERR_H2_ABUSE);
        ssize_t k;
        while ((k = h2_output(s.h, out, sizeof(out))) > 0)
            CHECK((size_t)k <= sizeof(out));
        CHECK(k == 0 && h2_streams(s.h) <= limits.max_streams);
        if (h2_error(s.h) != 0) {
            CHECK(h2_finished(s.h));
            break;
        }
    }
    h2_free(&s.h);
    CHECK(s.open == 0);
}

/* name NUL value NUL ... */
static void fuzz_head(const char *p, size_t n, enum h2_head_kind kind, bool end)
{
    static struct http_field field[HTTP_FIELDS_MAX + 2];
    static struct h2_head h;
    const char *stop = p + n;
    h2_head_begin(&h, kind);
    while (p < stop) {
        const char *a = memchr(p, 0, (size_t)(stop - p));
        const char *b = a != NULL ? memchr(a + 1, 0, (size_t)(stop - a - 1)) : NULL;
        if (b == NULL)
            break;
        h2_head_add(&h, &limits, slice_of(p, (size_t)(a - p)),
                    slice_of(a + 1, (size_t)(b - a - 1)));
        p = b + 1;
    }
    if (kind == H2_HEAD_REQUEST) {
        struct http_request r;
        const int rc =
            h2_head_request(&h, &limits, end, SLICE("dGhlIHNhbXBsZSBub25jZQ=="), field, &r);
        CHECK(rc <= 0);
        if (rc == 0)
            check_request(&r, end);
    } else if (kind == H2_HEAD_RESPONSE) {
        struct http_response r;
        if (h2_head_response(&h, end ? HTTP_HEAD : HTTP_GET, end, field, &r) == 0)
            CHECK(r.status >= 100 && r.status <= 599 && r.status != 101);
    } else {
        const int k = h2_head_trailers(&h, field, 64);
        for (int i = 0; i < k; i++)
            CHECK(http_is_token(field[i].name) && (field[i].flags & (FIELD_HOP | FIELD_OWN)) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *p = (const char *)data;
    if (n == 0)
        return 0;
    switch (data[0] & 7) {
    case 0:
    case 1:
        fuzz_head(p + 1, n - 1, H2_HEAD_REQUEST, data[0] & 1);
        break;
    case 2:
    case 3:
        fuzz_head(p + 1, n - 1, H2_HEAD_RESPONSE, data[0] & 1);
        break;
    case 4:
        fuzz_head(p + 1, n - 1, H2_HEAD_TRAILER, true);
        break;
    default:
        fuzz_session(p + 1, n - 1);
        break;
    }
    return 0;
}
