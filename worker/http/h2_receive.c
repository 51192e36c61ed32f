/* HTTP/2 connections, what comes in: nghttp2's events as heads, bytes and ends of streams, and the
 * count of what honest clients seldom do. */

#include "base/arena.h"
#include "base/err.h"
#include "worker/http/h2_in.h"

#include <stdlib.h>

#define H2_HEAD_EXCESS 4u /* times max_head: from there on a block is not even looked at */

static struct h2_head *h2_spare_head; /* most blocks begin and end within one call */

static struct h2_head *h2_head_take(struct h2 *h)
{
    if (h->head == NULL) {
        h->head = h2_spare_head;
        h2_spare_head = NULL;
    }
    if (h->head == NULL && !alloc_should_fail())
        h->head = calloc(1, sizeof(*h->head));
    return h->head;
}

void h2_head_give(struct h2 *h)
{
    if (h->head == NULL)
        return;
    if (h2_spare_head == NULL) {
        h2_spare_head = h->head;
    } else {
        h2_head_fini(h->head);
        free(h->head);
    }
    h->head = NULL;
}

static int h2_verdict(const struct h2 *h)
{
    return h->err != 0 ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* Every frame, also those that are ignored later. */
static int h2_on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *user)
{
    struct h2 *h = user;
    (void)session;
    if (h->side != H2_SERVER)
        return 0;
    bool unanswered = false;
    /* nghttp2 looks at nothing of these any more, but there is no such frame (RFC 9113 6.3). */
    if (hd->type == NGHTTP2_PRIORITY && hd->stream_id == 0)
        h2_fail(h, h2_proto_error(h), NGHTTP2_PROTOCOL_ERROR);
    if (hd->type == NGHTTP2_RST_STREAM) {
        const struct h2_stream *s = h2_find(h, hd->stream_id);
        unanswered = s != NULL && !s->head;
    }
    (void)h2_points(h, h2_abuse_frame(&h->abuse, hd->type, hd->flags, hd->length, unanswered));
    return h2_verdict(h);
}

static int h2_on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2 *h = user;
    if (frame->hd.type != NGHTTP2_HEADERS)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    struct h2_stream *s = h2_find(h, frame->hd.stream_id);
    enum h2_head_kind kind = H2_HEAD_TRAILER;
    if (h->side == H2_SERVER && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        kind = H2_HEAD_REQUEST;
        if (h->nstreams >= h->lim.max_streams) {
            (void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                            NGHTTP2_REFUSED_STREAM);
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
        if ((s = h2_stream_new(h)) == NULL) {
            h->excused++;
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
        s->id = frame->hd.stream_id;
        (void)nghttp2_session_set_stream_user_data(session, s->id, s);
    } else if (h->side == H2_CLIENT && s != NULL && !s->head) {
        kind = H2_HEAD_RESPONSE;
    }
    if (s == NULL || h2_head_take(h) == NULL) {
        if (s != NULL)
            s->own_reset = true;
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    h2_head_begin(h->head, kind);
    h->prioritised = false;
    return 0;
}

static int h2_on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                        size_t nname, const uint8_t *value, size_t nvalue, uint8_t flags,
                        void *user)
{
    struct h2 *h = user;
    (void)session;
    (void)frame;
    (void)flags;
    if (h->head == NULL)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    const struct slice n = slice_of((const char *)name, nname),
                       v = slice_of((const char *)value, nvalue);
    h2_head_add(h->head, &h->lim, n, v);
    if (h->head->size > (uint64_t)H2_HEAD_EXCESS * h->lim.max_head + 65536) {
        h2_head_give(h);
        (void)h2_misbehaved(h, H2_ABUSE_BROKEN);
        return h->err != 0 ? NGHTTP2_ERR_CALLBACK_FAILURE : NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    unsigned urgency;
    if (h->side == H2_SERVER && nname == 8 && slice_eq(n, SLICE("priority")) &&
        h2_head_priority(v, &urgency, &h->incremental)) {
        h->urgency = (uint8_t)urgency;
        h->prioritised = true;
    }
    return 0;
}

void h2_prioritise(struct h2 *h, int32_t id)
{
    if (!h->prioritised)
        return;
    const nghttp2_extpri pri = {.urgency = h->urgency, .inc = h->incremental};
    (void)nghttp2_session_change_extpri_stream_priority(h->session, id, &pri, 0);
}

static void h2_got_headers(struct h2 *h, const nghttp2_frame *frame)
{
    struct h2_stream *s = h2_find(h, frame->hd.stream_id);
    const bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (s != NULL && h->head != NULL && !s->own_reset)
        h2_message_head(h, s, end);
    h2_head_give(h);
}

static int h2_on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s;
    (void)session;
    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        h2_got_headers(h, frame);
        break;
    case NGHTTP2_DATA:
        if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) {
            if (frame->hd.length > 0 && frame->hd.length == frame->data.padlen)
                (void)h2_misbehaved(h, H2_ABUSE_EMPTY);
            break;
        }
        s = h2_find(h, frame->hd.stream_id);
        if (s != NULL)
            h2_message_end(h, s, NULL, 0);
        break;
    case NGHTTP2_RST_STREAM:
        s = h2_find(h, frame->hd.stream_id);
        if (s != NULL)
            s->peer_reset = true;
        break;
    case NGHTTP2_GOAWAY:
        h->peer_goaway = true;
        if (h->side == H2_CLIENT)
            h->ev.goaway(h->user, frame->goaway.last_stream_id, frame->goaway.error_code);
        break;
    case NGHTTP2_PING:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0)
            h->ev.pong(h->user);
        break;
    default:
        break;
    }
    return h2_verdict(h);
}

static int h2_on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *p,
                      size_t n, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = h2_find(h, id);
    (void)flags;
    if (s == NULL || s->user == NULL || s->own_reset || s->leaving) {
        (void)nghttp2_session_consume(session, id, n);
        return 0;
    }
    if (!h2_message_data(h, s, (const char *)p, n))
        (void)nghttp2_session_consume(session, id, n);
    return h2_verdict(h);
}

/* Unknown frames are ignored (RFC 9113 5.5), but counted: nghttp2 tells of them only when somebody
 * says to read them. */
static int h2_on_unknown(nghttp2_session *session, void **payload, const nghttp2_frame_hd *hd,
                         void *user)
{
    (void)session;
    (void)payload;
    (void)hd;
    (void)user;
    return NGHTTP2_ERR_CANCEL;
}

static int h2_on_unknown_bytes(nghttp2_session *session, const nghttp2_frame_hd *hd,
                               const uint8_t *p, size_t n, void *user)
{
    (void)session;
    (void)hd;
    (void)p;
    (void)n;
    (void)user;
    return NGHTTP2_ERR_CANCEL;
}

static int h2_on_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s = h2_find(h, id);
    if (s == NULL)
        return 0;
    (void)nghttp2_session_set_stream_user_data(session, id, NULL);
    /* What nobody will take any more must not narrow the connection's window for ever. */
    if (s->unconsumed > 0)
        (void)nghttp2_session_consume_connection(session, s->unconsumed);
    void *stream = s->user;
    const int err = h2_message_reason(h, s, code);
    h2_stream_free(h, s);
    if (stream != NULL)
        h->ev.closed(h->user, stream, err);
    return 0;
}

/* DATA and HEADERS for streams that are closed: nghttp2 passes over them in silence (RFC 9113 5.1
 * wants that for a while), so they would cost the client nothing. */
static void h2_late(struct h2 *h, const char *p, size_t n)
{
    struct h2_walk_frame f;
    while (h2_walk_next(&h->walk, &p, &n, &f)) {
        if ((f.type != NGHTTP2_DATA && f.type != NGHTTP2_HEADERS) || f.id % 2 == 0 ||
            f.id > nghttp2_session_get_last_proc_stream_id(h->session) || h2_find(h, f.id) != NULL)
            continue;
        (void)h2_misbehaved(h, f.type == NGHTTP2_DATA ? H2_ABUSE_LATE_DATA : H2_ABUSE_LATE_HEAD);
    }
}

int h2_input(struct h2 *h, const char *p, size_t n)
{
    if (h->err != 0)
        return h->err;
    if (h->side == H2_SERVER)
        h2_late(h, p, n);
    h->busy = true;
    const ssize_t r = nghttp2_session_mem_recv(h->session, (const uint8_t *)p, n);
    h->busy = false;
    if (r == NGHTTP2_ERR_NOMEM)
        h2_die(h);
    else if (r == NGHTTP2_ERR_FLOODED || r == NGHTTP2_ERR_TOO_MANY_CONTINUATIONS)
        h2_fail(h, h->side == H2_SERVER ? -ERR_H2_ABUSE : -ERR_UP_H2, NGHTTP2_ENHANCE_YOUR_CALM);
    else if (r < 0)
        h2_fail(h, h2_proto_error(h), NGHTTP2_PROTOCOL_ERROR);
    h2_touch(h);
    return h->err;
}

void h2_receive_callbacks(nghttp2_session_callbacks *c)
{
    nghttp2_session_callbacks_set_on_begin_frame_callback(c, h2_on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(c, h2_on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(c, h2_on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(c, h2_on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, h2_on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(c, h2_on_close);
    nghttp2_session_callbacks_set_unpack_extension_callback(c, h2_on_unknown);
    nghttp2_session_callbacks_set_on_extension_chunk_recv_callback(c, h2_on_unknown_bytes);
}
