/* Request heads: what is accepted, forwarded and parsed again must be the same request, framed in
 * one way only. */
#include "base/err.h"
#include "t/fuzz/fuzz.h"
#include "worker/http/forward.h"
#include "worker/http/h1_head.h"

static const struct h1_limits limits = {1000, 1500, 4000, 60};
static const struct h1_limits wide = {8000, 16000, 60000, 100};

static size_t count(const struct http_request *r, enum http_field_id id)
{
    size_t k = 0;
    for (size_t i = 0; i < r->nfield; i++)
        k += r->field[i].id == id;
    return k;
}

static bool within(struct slice s, const char *p, size_t n)
{
    return s.n == 0 || (s.p >= p && s.p + s.n <= p + n);
}

/* What is true of every request that was accepted. */
static void check_request(const struct http_request *r, const char *p, size_t n)
{
    CHECK(r->head_size == n);
    CHECK(http_is_token(r->method_text) && within(r->method_text, p, n));
    CHECK(r->path.n > 0 && (r->path.p[0] == '/' || (r->path.n == 1 && r->path.p[0] == '*')));
    CHECK(within(r->query, p, n) && within(r->host, p, n) && within(r->authority, p, n));
    CHECK((r->authority.n == 0) == (r->host.n == 0));
    CHECK(r->minor == 0 || (r->host.n > 0 && count(r, FIELD_HOST) == 1));
    CHECK(count(r, FIELD_CONTENT_LENGTH) == (r->framing == HTTP_BODY_LENGTH));
    CHECK(count(r, FIELD_TRANSFER_ENCODING) == (r->framing == HTTP_BODY_CHUNKED));
    CHECK(!r->has_upgrade || r->upgrade.n > 0);
    for (size_t i = 0; i < r->nfield; i++) {
        const struct http_field *f = &r->field[i];
        CHECK(http_is_token(f->name) && within(f->name, p, n) && within(f->value, p, n));
        for (size_t k = 0; k < f->value.n; k++)
            CHECK(http_is(f->value.p[k], HTTP_CLASS_VALUE));
    }
}

static const struct http_field *field_of(const struct http_request *r, enum http_field_id id)
{
    for (size_t i = 0; i < r->nfield; i++) {
        if (r->field[i].id == id)
            return &r->field[i];
    }
    return NULL;
}

/* A field a server behind CGI would take for X-Forwarded-For. */
static bool passes_for_xff(struct slice name)
{
    static const char want[] = "x-forwarded-for";
    if (name.n != sizeof(want) - 1)
        return false;
    for (size_t i = 0; i < name.n; i++) {
        char c = name.p[i] == '_' ? '-' : name.p[i];
        if (c != want[i] && (c < 'A' || c > 'Z' || (c | 0x20) != want[i]))
            return false;
    }
    return true;
}

static void forward_again(const struct http_request *r, unsigned choice)
{
    static char out[65536];
    static struct http_field field[100];
    struct forward_request f = {.client_ip = choice & 1 ? SLICE("2001:db8::1") : SLICE("192.0.2.1"),
                                .scheme = SLICE("https"),
                                .listen_port = 443,
                                .trusted = choice & 2,
                                .forwarded = choice & 4,
                                .via = choice & 8,
                                .request_id = choice & 16 ? SLICE("id") : SLICE_NONE,
                                .keep_alive = choice & 32,
                                .drop_expect = choice & 64,
                                .upgrade = r->has_upgrade && (choice & 128),
                                .framing = r->framing,
                                .content_length = r->content_length};
    if (r->authority.n == 0)
        f.host = SLICE("server");
    struct head_out o = {out, 0, sizeof(out), false};
    forward_request_head(&o, r, &f);
    CHECK(!o.overflow);
    struct http_request again;
    size_t scan = 0, skip;
    CHECK(h1_head_end(out, o.n, &wide, true, &scan, &skip) == (int64_t)o.n && skip == 0);
    CHECK(h1_parse_request(out, o.n, &wide, field, &again) == 0);
    check_request(&again, out, o.n);
    CHECK(again.minor == 1 && again.method == r->method);
    CHECK(slice_eq(again.method_text, r->method_text));
    CHECK(slice_eq(again.path, r->path) && again.has_query == r->has_query);
    CHECK(slice_eq(again.query, r->query));
    CHECK(slice_eq(again.authority, r->authority.n > 0 ? r->authority : f.host));
    CHECK(again.framing == r->framing && again.content_length == r->content_length);
    CHECK(again.keep_alive == f.keep_alive && again.has_upgrade == f.upgrade);
    CHECK(again.te_trailers == r->te_trailers);
    CHECK(count(&again, FIELD_KEEP_ALIVE) + count(&again, FIELD_PROXY_CONNECTION) == 0);
    CHECK(count(&again, FIELD_X_FORWARDED_FOR) == 1);
    const struct http_field *xff = field_of(&again, FIELD_X_FORWARDED_FOR);
    CHECK(xff != NULL && slice_ends(xff->value, f.client_ip));
    for (size_t i = 0; i < again.nfield && !f.trusted; i++) {
        if (passes_for_xff(again.field[i].name))
            CHECK(slice_eq(again.field[i].value, f.client_ip));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct http_field field[60];
    const char *p = (const char *)data;
    size_t scan = 0, skip = 0;
    const int64_t end = h1_head_end(p, n, &limits, true, &scan, &skip);
    unsigned choice = 0;
    for (size_t i = 0; i < n; i++)
        choice = choice * 31 + data[i];
    /* Looked at in two steps, the end is where it is in one. */
    const size_t cut = n > 0 ? choice % (n + 1) : 0;
    size_t scan2 = 0, skip2 = 0;
    int64_t end2 = h1_head_end(p, cut, &limits, true, &scan2, &skip2);
    if (end2 == -ERR_AGAIN)
        end2 = h1_head_end(p, n, &limits, true, &scan2, &skip2);
    CHECK(end2 == end);
    struct http_request r;
    if (end < 0) {
        h1_parse_request(p, n, &limits, field, &r);
        return 0;
    }
    CHECK(skip + (size_t)end <= n);
    int rc = h1_parse_request(p + skip, (size_t)end, &limits, field, &r);
    if (rc < 0)
        return 0;
    check_request(&r, p + skip, (size_t)end);
    forward_via_count(&r);
    struct slice ip;
    if (forward_client_of(&r, NULL, 0, &ip))
        CHECK(within(ip, p + skip, (size_t)end));
    forward_again(&r, choice >> 8);
    return 0;
}
