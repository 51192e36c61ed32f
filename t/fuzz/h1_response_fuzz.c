/* Answer heads: what is accepted, forwarded and parsed again must be the same answer, framed in one
 * way only. */
#include "base/err.h"
#include "t/fuzz/fuzz.h"
#include "worker/http/forward.h"
#include "worker/http/h1_head.h"

static const struct h1_limits limits = {1000, 1500, 4000, 60};
static const struct h1_limits wide = {8000, 16000, 60000, 100};

static size_t count(const struct http_response *r, enum http_field_id id)
{
    size_t k = 0;
    for (size_t i = 0; i < r->nfield; i++)
        k += r->field[i].id == id;
    return k;
}

static void check_response(const struct http_response *r, enum http_method method)
{
    CHECK(r->status >= 100 && r->status <= 599);
    CHECK(count(r, FIELD_CONTENT_LENGTH) + count(r, FIELD_TRANSFER_ENCODING) <= 1);
    CHECK(r->framing != HTTP_BODY_CLOSE || !r->keep_alive);
    CHECK(r->framing != HTTP_BODY_LENGTH || r->has_length);
    if (method == HTTP_HEAD || r->status < 200 || r->status == 204 || r->status == 304)
        CHECK(r->framing == HTTP_BODY_NONE);
    else
        CHECK(r->framing != HTTP_BODY_NONE);
    for (size_t i = 0; i < r->nfield; i++) {
        const struct http_field *f = &r->field[i];
        CHECK(http_is_token(f->name));
        for (size_t k = 0; k < f->value.n; k++)
            CHECK(http_is(f->value.p[k], HTTP_CLASS_VALUE));
    }
}

static void forward_again(const struct http_response *r, enum http_method method, unsigned choice)
{
    static char out[65536];
    static struct http_field field[100];
    const struct forward_response f = {.status = r->status,
                                       .via = choice & 1,
                                       .hide_server = choice & 2,
                                       .framing = r->framing,
                                       .write_length = r->has_length,
                                       .content_length = r->content_length,
                                       .close = r->status != 101 && (choice & 4),
                                       .keep_alive = choice & 8,
                                       .upgrade = r->status == 101,
                                       .request_id = choice & 16 ? SLICE("id") : SLICE_NONE};
    struct head_out o = {out, 0, sizeof(out), false};
    forward_response_head(&o, r, &f, SLICE("Sat, 21 Nov 2026 03:00:00 GMT"));
    CHECK(!o.overflow);
    struct http_response again;
    size_t scan = 0, skip;
    CHECK(h1_head_end(out, o.n, &wide, false, &scan, &skip) == (int64_t)o.n && skip == 0);
    CHECK(h1_parse_response(out, o.n, &wide, method, field, &again) == 0);
    check_response(&again, method);
    CHECK(again.status == r->status && again.minor == 1);
    CHECK(again.framing == r->framing);
    CHECK(again.has_length == r->has_length && again.content_length == r->content_length);
    CHECK(r->status < 200 || count(&again, FIELD_DATE) > 0);
    CHECK(!f.hide_server || count(&again, FIELD_SERVER) == 0);
    CHECK(count(&again, FIELD_KEEP_ALIVE) + count(&again, FIELD_TE) == 0);
    CHECK(again.keep_alive == (!f.close && r->framing != HTTP_BODY_CLOSE && r->status != 101));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static struct http_field field[60];
    const char *p = (const char *)data;
    size_t scan = 0, skip = 0;
    unsigned choice = 0;
    for (size_t i = 0; i < n; i++)
        choice = choice * 31 + data[i];
    const int64_t end = h1_head_end(p, n, &limits, false, &scan, &skip);
    CHECK(end >= 0 || end == -ERR_AGAIN || end == -ERR_UP_BAD_HEAD ||
          end == -ERR_UP_HEAD_TOO_LARGE);
    CHECK(skip == 0);
    const enum http_method method = choice & 256 ? HTTP_HEAD : HTTP_GET;
    struct http_response r;
    int rc = h1_parse_response(p, end < 0 ? n : (size_t)end, &limits, method, field, &r);
    CHECK(rc == 0 || rc == -ERR_UP_BAD_HEAD || rc == -ERR_UP_HEAD_TOO_LARGE);
    if (end < 0 || rc < 0)
        return 0;
    check_response(&r, method);
    forward_again(&r, method, choice >> 9);
    return 0;
}
