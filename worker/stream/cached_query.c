/* The content of a QUERY, which is part of its key (RFC 10008 2.7), is read before anything is
 * looked up; see cached.h. It is kept where bodies are kept for another try, so that whoever asks a
 * server, now or later, has it. */
#include "base/err.h"
#include "worker/stream/cached.h"
#include "worker/stream/fetch.h"

/* The client waits for a word before it sends (RFC 9110 10.1.1), and no server is asked yet that
 * could say it. False: the client is gone. */
static bool cached_continue(struct stream *s)
{
    struct http_response r = {.status = 100, .minor = 1, .reason = http_status_text(100)};
    struct forward_response f = {.status = 100, .framing = HTTP_BODY_NONE};
    const struct stream_out o = {.resp = &r, .fwd = &f};
    s->continued = true;
    return s->client_ops->send(s, &o) >= 0;
}

bool cached_query(struct stream *s)
{
    struct cached *c = s->cached;
    if (s->req.method != HTTP_QUERY || s->req.framing == HTTP_BODY_NONE)
        return false;
    if (s->req.framing == HTTP_BODY_LENGTH && s->req.content_length > STREAM_REPLAY) {
        c->detail = POLICY_REQUEST_BODY;
        (void)cached_not(c, CACHE_STATUS_REQUEST, CACHED_WAS_BYPASS);
        fetch_begin(s);
        return true;
    }
    stream_set_state(s, STREAM_COLLECT);
    if (s->req.expect_continue && !cached_continue(s)) {
        stream_client_failed(s, ERR_CLIENT_CLOSED);
        return true;
    }
    s->want_body = true;
    return true;
}

/* More than is kept: it goes through. What came so far is given to the server first, as if an
 * earlier try had failed; only this once is more than STREAM_REPLAY kept, by one read. */
static int cached_query_large(struct stream *s, const char *p, size_t n, bool end)
{
    struct cached *c = s->cached;
    s->replay.limit = s->replay.n + n;
    buf_add(&s->replay, slice_of(p, n));
    if (s->replay.failed) {
        stream_client_failed(s, ERR_NOMEM);
        return -ERR_NOMEM;
    }
    c->detail = POLICY_REQUEST_BODY;
    (void)cached_not(c, CACHE_STATUS_REQUEST, CACHED_WAS_BYPASS);
    s->body_end = end;
    s->want_body = false;
    fetch_begin(s);
    return s->state == STREAM_DONE ? -ERR_EOF : !s->want_body;
}

int cached_query_body(struct stream *s, const char *p, size_t n, bool end)
{
    if (n > STREAM_REPLAY - s->replay.n)
        return cached_query_large(s, p, n, end);
    buf_add(&s->replay, slice_of(p, n));
    if (s->replay.failed) {
        stream_client_failed(s, ERR_NOMEM);
        return -ERR_NOMEM;
    }
    if (!end)
        return 0;
    /* Its length is known by now. Trailers, if it had any, end here (RFC 9112 7.1.2): servers must
     * not see what the key does not have. */
    s->req.framing = HTTP_BODY_LENGTH;
    s->req.content_length = s->replay.n;
    s->body_end = true;
    s->want_body = false;
    cached_keyed(s);
    return 0;
}
