/* HTTP/2 connections: begin and end, streams, windows, goodbye. nghttp2 frames, compresses and
 * keeps the windows; what comes in is h2_receive.c, what goes out h2_send.c. */

#include "base/arena.h"
#include "base/err.h"
#include "base/pool.h"
#include "worker/http/h2_in.h"

#include <stdlib.h>

#define H2_WINDOW_FIRST  65535 /* what a connection begins with (RFC 9113 6.9.2) */
#define H2_CONTINUATIONS 8u

/* A worker is one thread: these are all connections'. */
static struct pool h2_pool_streams;
static nghttp2_session_callbacks *h2_callbacks;
static nghttp2_option *h2_options;
/* Never freed: nghttp2 1.52 frees an item twice when its session is deleted after an allocation
 * failed in the middle of sending. Linked by their user pointers. */
static struct h2 *h2_dead;

const char *h2_library(void)
{
    return "nghttp2 " NGHTTP2_VERSION;
}

/* ---- streams ---- */

struct h2_stream *h2_find(const struct h2 *h, int32_t id)
{
    if (id <= 0 || h->dead)
        return NULL;
    /* Much is asked about the newest while its request is read and answered. */
    struct h2_stream *s =
        list_empty(&h->streams) ? NULL : CONTAINER(h->streams.prev, struct h2_stream, node);
    if (s != NULL && s->id == id)
        return s;
    s = nghttp2_session_get_stream_user_data(h->session, id);
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

struct h2_stream *h2_stream_new(struct h2 *h)
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

void h2_stream_free(struct h2 *h, struct h2_stream *s)
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

void h2_touch(struct h2 *h)
{
    if (h->dirty || h->busy || h->out != NULL || h->dead)
        return;
    if (h->nrest == 0 && !nghttp2_session_want_write(h->session))
        return;
    h->dirty = true;
    h->ev.dirty(h->user);
}

void h2_fail(struct h2 *h, int err, uint32_t code)
{
    if (h->err != 0)
        return;
    h->err = err;
    (void)nghttp2_session_terminate_session(h->session, code);
}

int h2_code(int rc)
{
    if (rc >= 0)
        return 0;
    return rc == NGHTTP2_ERR_NOMEM ? -ERR_NOMEM : -ERR_NOENT;
}

void h2_die(struct h2 *h)
{
    h->dead = true;
    h->nrest = 0;
    if (h->err == 0)
        h->err = -ERR_NOMEM;
}

int h2_proto_error(const struct h2 *h)
{
    return h->side == H2_SERVER ? -ERR_H2_PROTO : -ERR_UP_H2;
}

bool h2_points(struct h2 *h, uint32_t points)
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

void h2_break(struct h2 *h, struct h2_stream *s, int err)
{
    if (s->err == 0)
        s->err = err;
    s->own_reset = true;
    (void)nghttp2_submit_rst_stream(h->session, NGHTTP2_FLAG_NONE, s->id, NGHTTP2_PROTOCOL_ERROR);
    (void)h2_misbehaved(h, H2_ABUSE_BROKEN);
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

uint32_t h2_room(const struct h2 *h)
{
    const uint32_t max =
        nghttp2_session_get_remote_settings(h->session, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS);
    if (h->err != 0 || h->peer_goaway || h->nstreams >= max)
        return 0;
    return max - h->nstreams;
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
        h2_receive_callbacks(h2_callbacks);
        h2_send_callbacks(h2_callbacks);
        pool_init(&h2_pool_streams, "h2 streams", sizeof(struct h2_stream));
        h2_queue_setup();
        h2_memory_setup();
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
    nghttp2_mem mem = h2_memory;
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
