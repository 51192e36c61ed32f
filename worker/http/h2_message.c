/* What comes on an HTTP/2 stream, as a message: heads, lengths that must hold, the end; told to the
 * connection's owner. */
#include "base/err.h"
#include "worker/http/h2_in.h"

#include <sys/random.h>

#define H2_TRAILERS_MAX 64u

static int h2_unsound(const struct h2 *h)
{
    return h->side == H2_SERVER ? ERR_BAD_REQUEST : ERR_UP_BAD_BODY;
}

/* 16 random bytes in Base64 (RFC 6455 4.1): for the server, which has to see one. */
static void h2_websocket_key(char out[24])
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t r[18] = {0};
    if (getrandom(r, 16, 0) != 16)
        r[0] = 1;
    for (int i = 0; i < 6; i++) {
        const uint32_t v = (uint32_t)r[i * 3] << 16 | (uint32_t)r[i * 3 + 1] << 8 | r[i * 3 + 2];
        for (int k = 0; k < 4; k++)
            out[i * 4 + k] = digit[v >> (18 - 6 * k) & 63];
    }
    out[22] = out[23] = '=';
}

static void h2_got_request(struct h2 *h, struct h2_stream *s, bool end)
{
    static struct http_field field[HTTP_FIELDS_MAX + 2];
    struct http_request r;
    char key[24];
    struct slice websocket_key = SLICE("");
    if ((h->head->seen >> H2_PSEUDO_PROTOCOL & 1) != 0) {
        h2_websocket_key(key);
        websocket_key = slice_of(key, sizeof(key));
    }
    const int rc = h2_head_request(h->head, &h->lim, end, websocket_key, field, &r);
    const int32_t id = s->id;
    s->got_end = end;
    if (rc == -ERR_NOMEM) {
        h2_reset(h, id, H2_INTERNAL_ERROR);
        return;
    }
    if (rc == 0) {
        s->has_length = r.framing == HTTP_BODY_LENGTH;
        s->in_left = r.content_length;
        s->websocket = r.has_upgrade;
        h2_prioritise(h, id);
    } else if (rc != -ERR_METHOD_REFUSED && rc != -ERR_HEAD_TOO_LARGE && rc != -ERR_URI_TOO_LONG &&
               !h2_misbehaved(h, H2_ABUSE_MALFORMED)) {
        return;
    }
    void *stream =
        rc == 0 ? h->ev.request(h->user, id, &r, end) : h->ev.malformed(h->user, id, -rc, &r, end);
    if (stream == NULL)
        h2_reset(h, id, rc == 0 ? H2_REFUSED_STREAM : H2_PROTOCOL_ERROR);
    else
        s->user = stream;
}

static void h2_got_response(struct h2 *h, struct h2_stream *s, bool end)
{
    static struct http_field field[HTTP_FIELDS_MAX + 2];
    struct http_response r;
    const int rc = h2_head_response(h->head, s->method, end, field, &r);
    if (rc < 0) {
        h2_break(h, s, -rc);
        return;
    }
    if (r.status >= 200) {
        s->head = true;
        s->got_end = end;
        /* Where no content may be, none may come (RFC 9113 8.1.1). */
        s->has_length = r.framing != HTTP_BODY_CHUNKED;
        s->in_left = r.framing == HTTP_BODY_LENGTH ? r.content_length : 0;
    }
    if (s->user != NULL)
        h->ev.response(h->user, s->user, &r, end);
}

void h2_message_end(struct h2 *h, struct h2_stream *s, const struct http_field *trailer, size_t n)
{
    if (s->own_reset || s->leaving)
        return;
    if (s->has_length && s->in_left > 0) {
        h2_break(h, s, h->side == H2_SERVER ? ERR_BAD_REQUEST : ERR_UP_TRUNCATED);
        return;
    }
    s->got_end = true;
    if (s->user != NULL)
        h->ev.end(h->user, s->user, trailer, n);
}

static void h2_got_trailers(struct h2 *h, struct h2_stream *s, bool end)
{
    static struct http_field field[HTTP_FIELDS_MAX];
    const int n = end ? h2_head_trailers(h->head, field, H2_TRAILERS_MAX) : -ERR_BAD_TRAILER;
    if (n < 0)
        h2_break(h, s, h2_unsound(h));
    else
        h2_message_end(h, s, field, (size_t)n);
}

void h2_message_head(struct h2 *h, struct h2_stream *s, bool end)
{
    if (h->head->kind == H2_HEAD_REQUEST)
        h2_got_request(h, s, end);
    else if (h->head->kind == H2_HEAD_RESPONSE)
        h2_got_response(h, s, end);
    else
        h2_got_trailers(h, s, end);
}

bool h2_message_data(struct h2 *h, struct h2_stream *s, const char *p, size_t n)
{
    if ((s->has_length && n > s->in_left) || (h->side == H2_CLIENT && !s->head)) {
        h2_break(h, s, h2_unsound(h));
        return false;
    }
    s->in_left -= s->has_length ? n : 0;
    s->unconsumed += n;
    h->ev.data(h->user, s->user, p, n);
    return true;
}

int h2_message_reason(const struct h2 *h, const struct h2_stream *s, uint32_t code)
{
    const bool server = h->side == H2_SERVER;
    if (s->err != 0)
        return s->err;
    if (s->own_reset)
        return code == H2_NO_ERROR && s->sent_end ? 0 : server ? ERR_INTERNAL : ERR_UP_STREAM_RESET;
    if (s->peer_reset && server)
        return ERR_CLIENT_RESET;
    if (code == H2_NO_ERROR)
        return s->got_end ? 0 : server ? ERR_CLIENT_RESET : ERR_UP_STREAM_RESET;
    if (server)
        return ERR_BAD_REQUEST;
    if (code == H2_REFUSED_STREAM && !s->head)
        return ERR_UP_REFUSED;
    return s->peer_reset ? ERR_UP_STREAM_RESET : ERR_UP_H2;
}
