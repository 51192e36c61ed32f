/* HTTP/2 connections: nghttp2 frames, compresses and keeps the windows; what is a sound message,
 * what is queued and what counts as misbehaviour is decided here. */

#include "base/arena.h"
#include "base/err.h"
#include "base/panic.h"
#include "base/pool.h"
#include "worker/http/h2_in.h"

#include <nghttp2/nghttp2.h>
#include <stdlib.h>

#define H2_FRAME_HEAD    9u
#define H2_NV_MAX        (HTTP_FIELDS_MAX + 8u)
#define H2_WINDOW_FIRST  65535 /* what a connection begins with (RFC 9113 6.9.2) */
#define H2_HEAD_EXCESS   4u    /* times max_head: from there on a block is not even looked at */
#define H2_CONTINUATIONS 8u

/* A worker is one thread: these are all connections'. */
static struct pool h2_pool_streams;
static nghttp2_session_callbacks *h2_callbacks;
static nghttp2_option *h2_options;
/* Never freed: nghttp2 1.52 frees an item twice when its session is deleted after an allocation
 * failed in the middle of sending. Linked by their user pointers. */
static struct h2 *h2_dead;
static struct h2_head *h2_spare_head; /* most blocks begin and end within one call */

const char *h2_library(void)
{
    return "nghttp2 " NGHTTP2_VERSION;
}

/* ---- memory ---- */

static void *h2_malloc(size_t n, void *user)
{
    (void)user;
    return alloc_should_fail() ? NULL : malloc(n);
}

static void h2_release(void *p, void *user)
{
    (void)user;
    free(p);
}

static void *h2_calloc(size_t n, size_t size, void *user)
{
    (void)user;
    return alloc_should_fail() ? NULL : calloc(n, size);
}

static void *h2_realloc(void *p, size_t n, void *user)
{
    (void)user;
    return alloc_should_fail() ? NULL : realloc(p, n);
}

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

static void h2_head_give(struct h2 *h)
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

/* ---- streams ---- */

static struct h2_stream *h2_find(const struct h2 *h, int32_t id)
{
    if (id <= 0 || h->dead)
        return NULL;
    struct h2_stream *s = nghttp2_session_get_stream_user_data(h->session, id);
    if (s != NULL || h->nunsent == 0)
        return s;
    /* Not known to nghttp2 before its HEADERS went: the newest. */
    for (struct list *it = h->streams.prev; it != &h->streams; it = it->prev) {
        s = CONTAINER(it, struct h2_stream, node);
        if (s->id == id)
            return s;
    }
    return NULL;
}

static struct h2_stream *h2_stream_new(struct h2 *h)
{
    struct h2_stream *s = pool_get(&h2_pool_streams);
    if (s == NULL)
        return NULL;
    s->window = h->lim.stream_window;
    list_append(&h->streams, &s->node);
    list_init(&s->drain);
    h->nstreams++;
    return s;
}

static void h2_stream_free(struct h2 *h, struct h2_stream *s)
{
    h2_queue_drop(&s->out);
    free(s->trailer);
    list_remove(&s->node);
    list_remove(&s->drain);
    h->nstreams--;
    h->nunsent -= s->unsent;
    pool_put(&h2_pool_streams, s);
}

/* ---- the connection's state ---- */

static void h2_touch(struct h2 *h)
{
    if (h->dirty || h->busy || h->out != NULL || h->dead)
        return;
    if (h->nrest == 0 && !nghttp2_session_want_write(h->session))
        return;
    h->dirty = true;
    h->ev.dirty(h->user);
}

/* The connection is at its end: GOAWAY is the last thing it says. */
static void h2_fail(struct h2 *h, int err, uint32_t code)
{
    if (h->err != 0)
        return;
    h->err = err;
    (void)nghttp2_session_terminate_session(h->session, code);
}

static void h2_die(struct h2 *h)
{
    h->dead = true;
    h->nrest = 0;
    if (h->err == 0)
        h->err = -ERR_NOMEM;
}

static int h2_proto_error(const struct h2 *h)
{
    return h->side == H2_SERVER ? -ERR_H2_PROTO : -ERR_UP_H2;
}

/* Points that are due. False when it was enough. */
static bool h2_points(struct h2 *h, uint32_t points)
{
    if (points == 0 || h->side != H2_SERVER || h->err != 0)
        return h->err == 0;
    if (h->ev.misbehaved(h->user, points))
        return true;
    h2_fail(h, -ERR_H2_ABUSE, NGHTTP2_ENHANCE_YOUR_CALM);
    return false;
}

bool h2_misbehaved(struct h2 *h, enum h2_abuse_kind kind)
{
    return h2_points(h, h2_abuse_add(&h->abuse, kind));
}

/* The peer broke the rules on this stream. */
void h2_break(struct h2 *h, struct h2_stream *s, int err)
{
    if (s->err == 0)
        s->err = err;
    s->own_reset = true;
    (void)nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_PROTOCOL_ERROR);
    (void)h2_misbehaved(h, H2_ABUSE_BROKEN);
}

/* What a callback returns when the connection failed in it. */
static int h2_verdict(const struct h2 *h)
{
    return h->err != 0 ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* ---- what comes in ---- */

/* Every frame, also those that are ignored later. */
static int h2_on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *user)
{
    struct h2 *h = user;
    if (h->side != H2_SERVER)
        return 0;
    bool unanswered = false;
    /* nghttp2 looks at nothing of these any more, but there is no such frame (RFC 9113 6.3). */
    if (hd->type == NGHTTP2_PRIORITY && hd->stream_id == 0)
        h2_fail(h, h2_proto_error(h), NGHTTP2_PROTOCOL_ERROR);
    if (hd->type == NGHTTP2_RST_STREAM) {
        const struct h2_stream *s = nghttp2_session_get_stream_user_data(session, hd->stream_id);
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
    struct h2_stream *s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
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
    struct h2_stream *s = nghttp2_session_get_stream_user_data(h->session, frame->hd.stream_id);
    const bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    if (s != NULL && h->head != NULL && !s->own_reset)
        h2_message_head(h, s, end);
    h2_head_give(h);
}

static int h2_on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2 *h = user;
    struct h2_stream *s;
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
        s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
        if (s != NULL)
            h2_message_end(h, s, NULL, 0);
        break;
    case NGHTTP2_RST_STREAM:
        s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
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
    struct h2_stream *s = nghttp2_session_get_stream_user_data(session, id);
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
    struct h2_stream *s = nghttp2_session_get_stream_user_data(session, id);
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

/* ---- what goes out ---- */

/* Another value in each message: in HPACK's table it would only push out what comes again. */
static bool h2_changes(struct slice name)
{
    switch (name.n) {
    case 9:
        return memcmp(name.p, "x-real-ip", 9) == 0;
    case 12:
        return memcmp(name.p, "x-request-id", 12) == 0;
    case 15:
        return memcmp(name.p, "x-forwarded-for", 15) == 0;
    default:
        return false;
    }
}

static void h2_nv(nghttp2_nv *nv, struct slice name, struct slice value)
{
    nv->name = (uint8_t *)(uintptr_t)name.p;
    nv->namelen = name.n;
    nv->value = (uint8_t *)(uintptr_t)value.p;
    nv->valuelen = value.n;
    nv->flags = h2_changes(name) ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE;
}

static nghttp2_nv *h2_nvs(const struct h2_pair *pair, int n)
{
    static nghttp2_nv nv[H2_NV_MAX];
    for (int i = 0; i < n; i++)
        h2_nv(&nv[i], pair[i].name, pair[i].value);
    return nv;
}

static nghttp2_nv *h2_trailer(const struct h2_stream *s)
{
    static nghttp2_nv nv[H2_NV_MAX];
    for (size_t i = 0; i < s->ntrailer; i++)
        h2_nv(&nv[i], s->trailer[i].name, s->trailer[i].value);
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

static void h2_sent_end(struct h2 *h, int32_t id)
{
    struct h2_stream *s = nghttp2_session_get_stream_user_data(h->session, id);
    if (s == NULL)
        return;
    s->sent_end = true;
    if (h->side == H2_SERVER && !s->got_end) {
        s->full = true;
        if (!list_linked(&s->drain))
            list_append(&h->drained, &s->drain);
    }
    if (s->leaving && !s->got_end) {
        s->own_reset = true;
        (void)nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, id, NGHTTP2_NO_ERROR);
    }
}

static int h2_on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct h2 *h = user;
    const bool end = (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    struct h2_stream *s;
    switch (frame->hd.type) {
    case NGHTTP2_DATA:
        /* What is short because there was no more (a message of gRPC) is answered by updates as
         * short; what is short because the window was, was asked for. */
        h2_abuse_earn(&h->abuse, frame->hd.length,
                      end || (h2_window(h, frame->hd.stream_id) > 0 && h2_window(h, 0) > 0));
        if (end)
            h2_sent_end(h, frame->hd.stream_id);
        break;
    case NGHTTP2_HEADERS:
        h2_abuse_earn(&h->abuse, 0, true);
        s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
        if (s != NULL && s->unsent) {
            s->unsent = false;
            h->nunsent--;
        }
        if (end)
            h2_sent_end(h, frame->hd.stream_id);
        break;
    case NGHTTP2_RST_STREAM:
        s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
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

bool h2_wants_output(const struct h2 *h)
{
    return !h->dead && (h->nrest > 0 || nghttp2_session_want_write(h->session));
}

int h2_error(const struct h2 *h)
{
    return h->err;
}

bool h2_finished(const struct h2 *h)
{
    return !h2_wants_output(h) && (h->err != 0 || !nghttp2_session_want_read(h->session));
}

uint32_t h2_streams(const struct h2 *h)
{
    return h->nstreams;
}

bool h2_in_head(const struct h2 *h)
{
    return h->head != NULL;
}

/* ---- what the owner sends ---- */

static int h2_code(int rc)
{
    if (rc >= 0)
        return 0;
    return rc == NGHTTP2_ERR_NOMEM ? -ERR_NOMEM : -ERR_NOENT;
}

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

uint32_t h2_room(const struct h2 *h)
{
    const uint32_t max =
        nghttp2_session_get_remote_settings(h->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    if (h->err != 0 || h->peer_goaway || h->nstreams >= max)
        return 0;
    return max - h->nstreams;
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

size_t h2_queued(const struct h2 *h, int32_t id)
{
    const struct h2_stream *s = h2_find(h, id);
    return s != NULL ? s->out.n : 0;
}

size_t h2_window(const struct h2 *h, int32_t id)
{
    if (h->dead)
        return 0;
    const int32_t n = id > 0 ? nghttp2_session_get_stream_remote_window_size(h->session, id)
                             : nghttp2_session_get_remote_window_size(h->session);
    return n > 0 ? (size_t)n : 0;
}

void h2_consume(struct h2 *h, int32_t id, size_t n)
{
    struct h2_stream *s = h2_find(h, id);
    if (s == NULL || n == 0)
        return;
    n = n < s->unconsumed ? n : s->unconsumed;
    s->unconsumed -= n;
    s->taken += n;
    (void)nghttp2_session_consume(h->session, id, n);
    /* Taken as fast as it came: more may be on its way at once. */
    if (s->unconsumed == 0 && s->taken >= s->window && s->window < h->lim.stream_most &&
        !s->got_end) {
        s->window = s->window < h->lim.stream_most / 2 ? s->window * 2 : h->lim.stream_most;
        s->taken = 0;
        (void)nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, id,
                                                    (int32_t)s->window);
    }
    h2_touch(h);
}

void h2_reset(struct h2 *h, int32_t id, uint32_t code)
{
    struct h2_stream *s = h2_find(h, id);
    if (s == NULL || s->own_reset)
        return;
    if (code == H2_NO_ERROR && s->ended && !s->sent_end) {
        s->leaving = true;
        if (s->unconsumed > 0)
            h2_consume(h, id, s->unconsumed);
        return;
    }
    s->own_reset = true;
    (void)nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, id, code);
    h2_touch(h);
}

void h2_goaway(struct h2 *h, bool last, uint32_t code)
{
    if (h->err != 0 || h->dead)
        return;
    if (code == H2_ENHANCE_YOUR_CALM) {
        h2_fail(h, -ERR_H2_ABUSE, code);
        h2_touch(h);
        return;
    }
    if (!last && h->side == H2_SERVER) {
        (void)nghttp2_submit_shutdown_notice(h->session);
    } else {
        (void)nghttp2_submit_goaway(h->session, NGHTTP2_FLAG_NONE,
                                    nghttp2_session_get_last_proc_stream_id(h->session), code, NULL,
                                    0);
    }
    h2_touch(h);
}

int h2_ping(struct h2 *h)
{
    if (h->err != 0)
        return -ERR_EOF;
    const int rc = nghttp2_submit_ping(h->session, NGHTTP2_FLAG_NONE, NULL);
    h2_touch(h);
    return h2_code(rc);
}

void h2_set_stream(struct h2 *h, int32_t id, void *stream)
{
    struct h2_stream *s = h2_find(h, id);
    if (s == NULL)
        return;
    s->user = stream;
    if (stream == NULL && s->unconsumed > 0)
        h2_consume(h, id, s->unconsumed);
}

/* ---- begin and end ---- */

static bool h2_set_up(void)
{
    if (h2_options != NULL)
        return true;
    if (h2_callbacks == NULL) {
        if (nghttp2_session_callbacks_new(&h2_callbacks) != 0)
            return false;
        nghttp2_session_callbacks *c = h2_callbacks;
        nghttp2_session_callbacks_set_on_begin_frame_callback(c, h2_on_begin_frame);
        nghttp2_session_callbacks_set_on_begin_headers_callback(c, h2_on_begin_headers);
        nghttp2_session_callbacks_set_on_header_callback(c, h2_on_header);
        nghttp2_session_callbacks_set_on_frame_recv_callback(c, h2_on_frame);
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(c, h2_on_data);
        nghttp2_session_callbacks_set_on_stream_close_callback(c, h2_on_close);
        nghttp2_session_callbacks_set_on_frame_send_callback(c, h2_on_sent);
        nghttp2_session_callbacks_set_send_data_callback(c, h2_on_send_data);
        nghttp2_session_callbacks_set_unpack_extension_callback(c, h2_on_unknown);
        nghttp2_session_callbacks_set_on_extension_chunk_recv_callback(c, h2_on_unknown_bytes);
        pool_init(&h2_pool_streams, "h2 streams", sizeof(struct h2_stream));
        h2_queue_setup();
    }
    nghttp2_option *o;
    if (nghttp2_option_new(&o) != 0)
        return false;
    nghttp2_option_set_no_auto_window_update(o, 1);
    /* What a message may be is for h2_head.c to say: a malformed one gets an answer. */
    nghttp2_option_set_no_http_messaging(o, 1);
    nghttp2_option_set_no_closed_streams(o, 1);
    nghttp2_option_set_builtin_recv_extension_type(o, NGHTTP2_PRIORITY_UPDATE);
    for (unsigned type = NGHTTP2_CONTINUATION + 1; type <= UINT8_MAX; type++) {
        if (type != NGHTTP2_PRIORITY_UPDATE)
            nghttp2_option_set_user_recv_extension_type(o, (uint8_t)type);
    }
    nghttp2_option_set_max_continuations(o, H2_CONTINUATIONS);
    nghttp2_option_set_max_settings(o, 32);
    nghttp2_option_set_max_outbound_ack(o, 1000);
    nghttp2_option_set_peer_max_concurrent_streams(o, 100);
    /* misbehaved() decides; it may have no limit. */
    nghttp2_option_set_stream_reset_rate_limit(o, UINT32_MAX, UINT32_MAX);
    h2_options = o;
    return true;
}

static int h2_greet(struct h2 *h)
{
    const struct h2_limits *l = &h->lim;
    const uint64_t list = (uint64_t)l->max_head + 32u * (uint64_t)l->max_fields;
    nghttp2_settings_entry e[6];
    size_t n = 0;
    e[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, l->stream_window};
    e[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)list};
    if (h->side == H2_SERVER) {
        e[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, INT32_MAX};
        e[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1};
        if (l->connect_protocol)
            e[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_CONNECT_PROTOCOL, 1};
    } else {
        e[n++] = (nghttp2_settings_entry){NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
    }
    if (nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, e, n) != 0)
        return -ERR_NOMEM;
    if (l->conn_window > H2_WINDOW_FIRST &&
        nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0,
                                              (int32_t)l->conn_window) != 0)
        return -ERR_NOMEM;
    return 0;
}

int h2_new(enum h2_side side, const struct h2_limits *lim, const struct h2_events *ev, void *user,
           struct h2 **ret)
{
    nghttp2_mem mem = {NULL, h2_malloc, h2_release, h2_calloc, h2_realloc};
    if (!h2_set_up())
        return -ERR_NOMEM;
    struct h2 *h = alloc_should_fail() ? NULL : calloc(1, sizeof(*h));
    if (h == NULL)
        return -ERR_NOMEM;
    h->side = side;
    h->lim = *lim;
    if (h->lim.stream_most == 0)
        h->lim.stream_most = lim->conn_window;
    h->ev = *ev;
    h->user = user;
    h2_abuse_init(&h->abuse);
    h2_walk_init(&h->walk);
    list_init(&h->streams);
    list_init(&h->drained);
    const int rc =
        side == H2_SERVER
            ? nghttp2_session_server_new3(&h->session, h2_callbacks, h, h2_options, &mem)
            : nghttp2_session_client_new3(&h->session, h2_callbacks, h, h2_options, &mem);
    if (rc != 0 || h2_greet(h) < 0) {
        nghttp2_session_del(h->session);
        free(h);
        return -ERR_NOMEM;
    }
    *ret = h;
    h2_touch(h);
    return 0;
}

void h2_free(struct h2 **hp)
{
    struct h2 *h = *hp;
    if (h == NULL)
        return;
    h->dirty = true; /* nothing will be collected any more */
    while (!list_empty(&h->streams)) {
        struct h2_stream *s = CONTAINER(h->streams.next, struct h2_stream, node);
        void *stream = s->user;
        if (!h->dead)
            (void)nghttp2_session_set_stream_user_data(h->session, s->id, NULL);
        h2_stream_free(h, s);
        if (stream != NULL)
            h->ev.closed(h->user, stream, h->side == H2_SERVER ? ERR_CLIENT_CLOSED : ERR_UP_RESET);
    }
    *hp = NULL;
    h2_head_give(h);
    if (h->dead) {
        h->user = h2_dead;
        h2_dead = h;
        return;
    }
    nghttp2_session_del(h->session);
    free(h);
}
