/* HTTP/2 connections, what goes out: answers and requests as nghttp2 compresses them, DATA from the
 * streams' queues straight into the caller's buffer. */

#include "base/arena.h"
#include "base/err.h"
#include "base/panic.h"
#include "worker/http/h2_in.h"

#include <stdlib.h>

#define H2_FRAME_HEAD 9u
#define H2_NV_MAX     (HTTP_FIELDS_MAX + 8u)

/* ---- frames ---- */

/* Another value in each message: in HPACK's table it would only push out what comes again. */
static bool h2_changes(uint8_t id)
{
    return id == FIELD_X_REQUEST_ID || id == FIELD_X_FORWARDED_FOR || id == FIELD_X_REAL_IP;
}

/* The name of a known field lies in a table, in lower case: nghttp2 need not copy it. */
static void h2_nv(nghttp2_nv *nv, struct slice name, struct slice value, uint8_t id)
{
    nv->name = (uint8_t *)(uintptr_t)name.p;
    nv->namelen = name.n;
    nv->value = (uint8_t *)(uintptr_t)value.p;
    nv->valuelen = value.n;
    nv->flags = id == FIELD_UNKNOWN ? NGHTTP2_NV_FLAG_NONE
                : h2_changes(id)    ? NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_INDEX
                                    : NGHTTP2_NV_FLAG_NO_COPY_NAME;
}

static nghttp2_nv *h2_nvs(const struct h2_pair *pair, int n)
{
    static nghttp2_nv nv[H2_NV_MAX];
    for (int i = 0; i < n; i++)
        h2_nv(&nv[i], pair[i].name, pair[i].value, pair[i].id);
    return nv;
}

static nghttp2_nv *h2_trailer(const struct h2_stream *s)
{
    static nghttp2_nv nv[H2_NV_MAX];
    for (size_t i = 0; i < s->ntrailer; i++)
        h2_nv(&nv[i], s->trailer[i].name, s->trailer[i].value, FIELD_UNKNOWN);
    return nv;
}

static ssize_t h2_on_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t n,
                          uint32_t *flags, nghttp2_data_source *source, void *user)
{
    struct h2_stream *s = source->ptr;
    (void)buf;
    (void)user;
    if (s->own_reset || (s->out.n == 0 && !s->ended)) {
        s->deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (n < s->out.n)
        return (ssize_t)n;
    if (s->ended) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        if (s->trailer != NULL) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            if (nghttp2_submit_trailer(session, id, h2_trailer(s), s->ntrailer) != 0) {
                s->own_reset = true;
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
            }
        }
    }
    return (ssize_t)s->out.n;
}

/* A DATA frame straight from the queue into the caller's output. */
static int h2_on_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                           size_t n, nghttp2_data_source *source, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = source->ptr;
    (void)session;
    (void)frame;
    if (h->out == NULL || h->out_cap - h->out_n < H2_FRAME_HEAD + n)
        return NGHTTP2_ERR_WOULDBLOCK;
    DEBUG_MUST(n <= s->out.n);
    memcpy(h->out + h->out_n, head, H2_FRAME_HEAD);
    h2_queue_take(&s->out, h->out + h->out_n + H2_FRAME_HEAD, n);
    h->out_n += H2_FRAME_HEAD + n;
    if (s->full && s->out.n <= h->lim.queue / 2 && !list_linked(&s->drain))
        list_append(&h->drained, &s->drain);
    return 0;
}

static void h2_sent_end(struct h2 *h, struct h2_stream *s)
{
    s->sent_end = true;
    if (h->side == H2_SERVER && !s->got_end) {
        s->full = true;
        if (!list_linked(&s->drain))
            list_append(&h->drained, &s->drain);
    }
    if (s->leaving && !s->got_end) {
        s->own_reset = true;
        (void)nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_NO_ERROR);
    }
}

static int h2_on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2 *h = user;
    const bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    struct h2_stream *s;
    (void)session;
    switch (frame->hd.type) {
    case NGHTTP2_DATA:
        /* What is short because there was no more (a message of gRPC) is answered by updates as
         * short; what is short because the window was, was asked for. */
        h2_abuse_earn(&h->abuse, frame->hd.length,
                      end || (h2_window(h, frame->hd.stream_id) > 0 && h2_window(h, 0) > 0));
        if (end && (s = h2_find(h, frame->hd.stream_id)) != NULL)
            h2_sent_end(h, s);
        break;
    case NGHTTP2_HEADERS:
        h2_abuse_earn(&h->abuse, 0, true);
        s = h->nunsent > 0 || end ? h2_find(h, frame->hd.stream_id) : NULL;
        if (s != NULL && s->unsent) {
            s->unsent = false;
            h->nunsent--;
        }
        if (s != NULL && end)
            h2_sent_end(h, s);
        break;
    case NGHTTP2_RST_STREAM:
        s = h2_find(h, frame->hd.stream_id);
        if (s == NULL && h->excused > 0)
            h->excused--;
        else if (s == NULL || !s->own_reset)
            (void)h2_misbehaved(h, frame->rst_stream.error_code == NGHTTP2_REFUSED_STREAM
                                       ? H2_ABUSE_REFUSED
                                       : H2_ABUSE_BROKEN);
        break;
    case NGHTTP2_GOAWAY:
        /* That of h2_goaway() has no such code. */
        if (h->err == 0 && frame->goaway.error_code != NGHTTP2_NO_ERROR)
            h->err = h2_proto_error(h);
        break;
    default:
        break;
    }
    return 0;
}

static void h2_tell_drained(struct h2 *h)
{
    while (!list_empty(&h->drained)) {
        struct h2_stream *s = CONTAINER(h->drained.next, struct h2_stream, drain);
        list_remove(&s->drain);
        if (!s->full)
            continue;
        s->full = false;
        if (s->user != NULL && !s->own_reset)
            h->ev.drained(h->user, s->user);
    }
}

/* nghttp2 ends the whole connection when a client opens one stream too many. It is told of a higher
 * limit than the client, and h2_on_begin_headers() refuses the stream alone (RFC 9113 5.1.2). */
static void h2_say_max_streams(struct h2 *h, uint8_t *frame, size_t n)
{
    h->greeted = true;
    if (h->side != H2_SERVER)
        return;
    DEBUG_MUST(n > H2_FRAME_HEAD && frame[3] == NGHTTP2_SETTINGS);
    for (size_t i = H2_FRAME_HEAD; i + 6 <= n; i += 6) {
        if (frame[i] != 0 || frame[i + 1] != NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS)
            continue;
        for (size_t k = 0; k < 4; k++)
            frame[i + 2 + k] = (uint8_t)(h->lim.max_streams >> (24 - 8 * k));
    }
}

ssize_t h2_output(struct h2 *h, char *p, size_t cap)
{
    ssize_t r = 0;
    if (h->dead)
        return -ERR_NOMEM;
    h->out = p;
    h->out_n = 0;
    h->out_cap = cap;
    h->dirty = true; /* the caller is here already */
    for (;;) {
        const size_t k = h->nrest < cap - h->out_n ? h->nrest : cap - h->out_n;
        if (k > 0)
            memcpy(p + h->out_n, h->rest, k);
        if (k > 0 && !h->greeted)
            h2_say_max_streams(h, (uint8_t *)p, k);
        h->out_n += k;
        h->rest += k;
        h->nrest -= k;
        if (h->nrest > 0)
            break;
        const uint8_t *q = NULL;
        r = nghttp2_session_mem_send(h->session, &q);
        if (r <= 0)
            break;
        h->rest = q;
        h->nrest = (size_t)r;
    }
    const size_t n = h->out_n;
    h->out = NULL;
    if (r < 0) {
        h2_die(h);
        return -ERR_NOMEM;
    }
    h2_tell_drained(h);
    h->dirty = h2_wants_output(h);
    return (ssize_t)n;
}

/* ---- what the owner sends ---- */

int h2_answer(struct h2 *h, int32_t id, struct slice head, bool end)
{
    static struct h2_pair pair[H2_NV_MAX];
    struct h2_stream *s = h2_find(h, id);
    unsigned status = 0;
    if (s == NULL || s->own_reset || s->head || h->err != 0)
        return -ERR_NOENT;
    const int n = h2_head_answer(head, s->websocket, pair, H2_NV_MAX, &status);
    if (n < 0)
        return n;
    const nghttp2_nv *nv = h2_nvs(pair, n);
    int rc;
    if (status < 200 && status != 101) {
        rc = nghttp2_submit_headers(h->session, NGHTTP2_FLAG_NONE, id, NULL, nv, (size_t)n, NULL);
    } else {
        const nghttp2_data_provider body = {.source = {.ptr = s}, .read_callback = h2_on_read};
        rc = nghttp2_submit_response(h->session, id, nv, (size_t)n, end ? NULL : &body);
        s->head = s->head || rc == 0;
        s->ended = rc == 0 && end;
    }
    h2_touch(h);
    return h2_code(rc);
}

int32_t h2_open(struct h2 *h, struct slice head, struct slice scheme, bool end, void *stream)
{
    static struct h2_pair pair[H2_NV_MAX];
    struct slice method;
    if (h->err != 0 || h->peer_goaway || !nghttp2_session_check_request_allowed(h->session))
        return -ERR_EOF;
    if (h2_room(h) == 0)
        return -ERR_FULL;
    const int n = h2_head_ask(head, scheme, pair, H2_NV_MAX, &method);
    if (n < 0)
        return n;
    struct h2_stream *s = h2_stream_new(h);
    if (s == NULL)
        return -ERR_NOMEM;
    const nghttp2_data_provider body = {.source = {.ptr = s}, .read_callback = h2_on_read};
    const int32_t id =
        nghttp2_submit_request(h->session, NULL, h2_nvs(pair, n), (size_t)n, end ? NULL : &body, s);
    if (id < 0) {
        h2_stream_free(h, s);
        return id == NGHTTP2_ERR_NOMEM ? -ERR_NOMEM : -ERR_EOF;
    }
    s->id = id;
    s->user = stream;
    s->method = http_method_of(method);
    s->ended = end;
    s->unsent = true;
    h->nunsent++;
    h2_touch(h);
    return id;
}

static int h2_keep_trailer(struct h2_stream *s, const struct http_field *trailer, size_t n)
{
    size_t size = n * sizeof(*trailer);
    for (size_t i = 0; i < n; i++)
        size += trailer[i].name.n + trailer[i].value.n;
    char *p = alloc_should_fail() ? NULL : malloc(size);
    if (p == NULL)
        return -ERR_NOMEM;
    s->trailer = (void *)p;
    s->ntrailer = n;
    p += n * sizeof(*trailer);
    for (size_t i = 0; i < n; i++) {
        const struct slice name = trailer[i].name, value = trailer[i].value;
        s->trailer[i].name = slice_of(p, name.n);
        s->trailer[i].value = slice_of(p + name.n, value.n);
        memcpy(p, name.p, name.n);
        if (value.n > 0)
            memcpy(p + name.n, value.p, value.n);
        p += name.n + value.n;
    }
    return 0;
}

int h2_data(struct h2 *h, int32_t id, const char *p, size_t n, bool end,
            const struct http_field *trailer, size_t ntrailer)
{
    struct h2_stream *s = h2_find(h, id);
    if (s == NULL || s->own_reset || s->leaving || s->ended || h->err != 0)
        return -ERR_NOENT;
    if (end && ntrailer > 0 && ntrailer <= H2_NV_MAX) {
        const int rc = h2_keep_trailer(s, trailer, ntrailer);
        if (rc < 0)
            return rc;
    }
    if (n > 0 && h2_queue_add(&s->out, p, n) < 0) {
        free(s->trailer);
        s->trailer = NULL;
        return -ERR_NOMEM;
    }
    s->ended = end;
    if (s->deferred && (n > 0 || end)) {
        s->deferred = false;
        if (nghttp2_session_resume_data(h->session, id) == NGHTTP2_ERR_NOMEM)
            return -ERR_NOMEM;
    }
    h2_touch(h);
    if (s->out.n <= h->lim.queue)
        return 0;
    s->full = true;
    return 1;
}

void h2_send_callbacks(nghttp2_session_callbacks *c)
{
    nghttp2_session_callbacks_set_on_frame_send_callback(c, h2_on_sent);
    nghttp2_session_callbacks_set_send_data_callback(c, h2_on_send_data);
}
