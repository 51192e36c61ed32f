/* HTTP/2 towards clients: each stream is an exchange; its body is kept until it is wanted, its
 * answer waits in the stream's queue. */
#include "worker/client/h2.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "shm/abuse.h"
#include "worker/http/h2_head.h"
#include "worker/io/tls.h"

#define H2_DELIVER (64u * 1024u) /* bytes kept that are given at a time */
#define H2_LINE    512u          /* of a head that is not sound, for the log */
#define H2_LOG_MS  1000u

static const struct stream_client client_h2_ops;

/* ---- deadlines ---- */

static const struct conf_scope_keys *h2_scope(const struct client_h2_stream *cs)
{
    return cs->s ? cs->s->scope : NULL;
}

static bool h2_waits_for_body(const struct client_h2_stream *cs)
{
    return cs->s && !cs->in_end && !cs->tunnel && stream_wants_body(cs->s);
}

/* The one place that decides which deadline of a stream runs. */
static void h2_rearm(struct client_h2_stream *cs)
{
    struct timers *w = &cs->conn->c->all->loop->timers;
    const struct conf_scope_keys *k = h2_scope(cs);
    if (!cs->s || cs->blocked) {
        cs->blocked_queue = h2_queued(cs->conn->h, cs->id);
        cs->blocked_sent = cs->conn->sent;
        timer_set_at(w, &cs->timer,
                     clock_ms() + (k ? k : &cs->conn->c->all->config->defaults)->write_timeout);
    } else if (k && h2_waits_for_body(cs)) {
        timer_set_at(w, &cs->timer,
                     clock_ms() + (cs->s->grpc ? k->tunnel_timeout : k->body_timeout));
    } else {
        timer_off(&cs->timer);
    }
}

/* The client is at fault; whatever state the exchange is in, it is over then, or its error is on
 * its way. */
static void h2_fail(struct client_h2_stream *cs, int err)
{
    struct stream *s = cs->s;
    if (!s)
        return;
    stream_client_failed(s, err);
    if (cs->s == s && cs->gone)
        stream_kill(s, err);
}

static void h2_on_timer(struct timer *t)
{
    struct client_h2_stream *cs = CONTAINER(t, struct client_h2_stream, timer);
    const struct client_h2 *conn = cs->conn;
    if (cs->s && !cs->blocked) {
        h2_fail(cs, ERR_CLIENT_BODY_TIME);
        return;
    }
    /* Others may have had their turn while this one could have had its own. */
    const bool others = conn->sent != cs->blocked_sent && h2_window(conn->h, cs->id) > 0;
    if (others || h2_queued(conn->h, cs->id) < cs->blocked_queue)
        h2_rearm(cs);
    else if (cs->s)
        h2_fail(cs, ERR_CLIENT_WRITE_TIME);
    else
        h2_reset(conn->h, cs->id, H2_CANCEL);
}

/* ---- requests ---- */

static struct client_h2_stream *h2_stream_new(struct client_h2 *conn, int32_t id, bool end)
{
    struct client *c = conn->c;
    struct clients *cs = c->all;
    if (conn->failed || conn->goodbye == H2_LEAVES)
        return NULL;
    struct client_h2_stream *st = pool_get(&cs->h2_streams);
    if (!st) {
        counter_add(cs->ctr, CTR_NOMEM, 1);
        return NULL;
    }
    st->s = stream_new(cs->env, &client_h2_ops, st, &c->peer, c->requests + 1);
    if (!st->s) {
        pool_put(&cs->h2_streams, st);
        return NULL;
    }
    timer_init(&st->timer, h2_on_timer);
    list_init(&st->ready);
    list_append(&conn->streams, &st->node);
    conn->nstreams++;
    conn->nrunning++;
    c->requests++;
    st->conn = conn;
    st->id = id;
    st->in_end = end;
    st->body.since_ms = clock_ms();
    counter_add(cs->ctr, CTR_H2_STREAMS, 1);
    if (c->requests >= c->max_requests || client_aged(c))
        client_h2_goodbye(c);
    return st;
}

static void h2_refuse(struct client_h2_stream *cs, int err, const struct http_request *r)
{
    struct stream *s = cs->s;
    struct slice target = r->target;
    if (target.n > H2_LINE)
        target.n = H2_LINE;
    cs->head = r->method == HTTP_HEAD;
    s->line =
        arena_printf(&s->arena, "%.*s %.*s HTTP/2", SLICE_ARG(r->method_text), SLICE_ARG(target));
    s->bytes_in = r->head_size;
    stream_refuse(s, err);
}

static void *h2_on_malformed(void *user, int32_t id, int err, const struct http_request *r,
                             bool end)
{
    struct client_h2_stream *cs = h2_stream_new(user, id, end);
    if (cs)
        h2_refuse(cs, err, r);
    return cs;
}

/* The name's certificate is the connection's: else whoever may read this connection need not be the
 * one who may speak for that host (RFC 9110 7.4). A browser asks for the same few hosts. */
static bool h2_covers(struct client_h2 *conn, struct slice host)
{
    if (conn->ncovered && slice_eq(host, slice_of(conn->covered, conn->ncovered)))
        return true;
    if (!tls_covers(&conn->c->link, host))
        return false;
    if (host.n <= sizeof conn->covered) {
        memcpy(conn->covered, host.p, host.n);
        conn->ncovered = (uint8_t)host.n;
    }
    return true;
}

static void *h2_on_request(void *user, int32_t id, const struct http_request *r, bool end)
{
    struct client_h2 *conn = user;
    struct client_h2_stream *cs = h2_stream_new(conn, id, end);
    if (!cs)
        return NULL;
    struct stream *s = cs->s;
    int e = h2_head_keep(&s->arena, r, &s->req);
    if (e < 0) {
        h2_refuse(cs, -e, r);
        return cs;
    }
    cs->head = r->method == HTTP_HEAD;
    s->bytes_in = r->head_size;
    if (conn->c->link.tls && !h2_covers(conn, s->req.host)) {
        counter_add(s->env->ctr, CTR_REQUESTS, 1);
        stream_client_failed(s, ERR_MISDIRECTED);
        return cs;
    }
    stream_begin(s);
    if (cs->s && stream_wants_body(cs->s)) {
        cs->body.since_ms = clock_ms();
        if (!list_linked(&cs->ready))
            list_append(&cs->conn->ready, &cs->ready);
        h2_rearm(cs);
    }
    return cs;
}

/* ---- request bodies ---- */

static bool h2_wants(const struct client_h2_stream *cs)
{
    return cs->s && !cs->end_given && stream_wants_body(cs->s);
}

/* Body bytes for the exchange, which wants them. */
static void h2_give(struct client_h2_stream *cs, const char *p, size_t n, bool end)
{
    struct stream *s = cs->s;
    cs->body.got += n;
    s->bytes_in += n;
    cs->end_given = end;
    if (end)
        timer_off(&cs->timer);
    if (stream_body(s, p, n, end, end ? cs->trailer : NULL, end ? cs->ntrailer : 0) < 0 ||
        cs->s != s || cs->tunnel || end)
        return;
    if (!s->grpc && client_body_slow(&cs->body, s->scope)) {
        h2_fail(cs, ERR_CLIENT_SLOW);
        return;
    }
    h2_rearm(cs);
}

/* The last bytes of a known length wait for END_STREAM: a body that goes on behind them is none,
 * and must not have become a whole request by then. */
static bool h2_is_last(const struct client_h2_stream *cs, size_t n)
{
    const struct http_request *r = &cs->s->req;
    return r->framing == HTTP_BODY_LENGTH && cs->body.got + cs->in.n + n == r->content_length;
}

static void h2_on_data(void *user, void *stream, const char *p, size_t n)
{
    struct client_h2 *conn = user;
    struct client_h2_stream *cs = stream;
    if (cs->s && (!h2_wants(cs) || cs->in.n || h2_is_last(cs, n))) {
        if (h2_queue_add(&cs->in, p, n) == 0)
            return; /* the window stays narrower by that */
        h2_fail(cs, ERR_NOMEM);
    } else if (cs->s) {
        h2_give(cs, p, n, false);
    }
    h2_consume(conn->h, cs->id, n);
}

static void h2_on_end(void *user, void *stream, const struct http_field *trailer, size_t n)
{
    struct client_h2 *conn = user;
    struct client_h2_stream *cs = stream;
    cs->in_end = true;
    if (!cs->s)
        return;
    struct arena *a = &cs->s->arena;
    timer_off(&cs->timer);
    if (n)
        cs->trailer = ARENA_ARRAY(a, struct http_field, n);
    for (size_t i = 0; cs->trailer && i < n; i++) {
        cs->trailer[i] = trailer[i];
        cs->trailer[i].name = arena_dup(a, trailer[i].name);
        cs->trailer[i].value = arena_dup(a, trailer[i].value);
    }
    cs->ntrailer = n;
    if (n && arena_failed(a))
        h2_fail(cs, ERR_NOMEM);
    else if (h2_wants(cs) && !list_linked(&cs->ready))
        list_append(&conn->ready, &cs->ready);
}

/* What was kept, as far as the exchange takes it. */
static void h2_deliver(struct client_h2_stream *cs)
{
    struct client_h2 *conn = cs->conn;
    char *p = conn->c->all->loop->scratch;
    const bool any = cs->in.n || cs->body.got;
    while (h2_wants(cs) && (cs->in.n || cs->in_end)) {
        size_t n = cs->in.n < H2_DELIVER ? cs->in.n : H2_DELIVER;
        if (!cs->in_end && n == cs->in.n && h2_is_last(cs, 0))
            break;
        h2_queue_take(&cs->in, p, n);
        h2_give(cs, p, n, cs->in_end && !cs->in.n);
        h2_consume(conn->h, cs->id, n);
    }
    if (h2_wants(cs) && !any && !h2_is_last(cs, 0))
        stream_body_flush(cs->s); /* a client may wait for 100 before it sends anything */
}

void client_h2_deliver(struct client_h2 *conn)
{
    while (!list_empty(&conn->ready)) {
        struct client_h2_stream *cs = CONTAINER(conn->ready.next, struct client_h2_stream, ready);
        list_remove(&cs->ready);
        h2_deliver(cs);
    }
}

static void h2_want_body(struct stream *s)
{
    struct client_h2_stream *cs = s->client;
    struct client_h2 *conn = cs->conn;
    cs->body.since_ms = clock_ms();
    h2_rearm(cs);
    if (!cs->in.n && !cs->in_end) {
        if (!h2_is_last(cs, 0))
            stream_body_flush(s);
        return;
    }
    /* In the next turn: the scratch buffer may be in use right now. */
    if (!list_linked(&cs->ready))
        list_append(&conn->ready, &cs->ready);
    io_again(conn->c->all->loop, &conn->c->link.io);
}

/* ---- answers ---- */

/* The pieces of a head of the store, put together behind what this answer adds. */
static struct slice h2_wire_head(const struct stream_wire *w, struct head_out *o)
{
    const size_t from = o->n = w->own.n;
    for (size_t i = 0; i < sizeof w->part / sizeof w->part[0]; i++)
        head_add(o, w->part[i]);
    head_add(o, w->own);
    head_add(o, SLICE("\r\n"));
    return slice_of(o->p + from, o->n - from);
}

/* The head as text, its fields for the frame; whether the stream is at its end with it. */
static int h2_send_head(struct client_h2_stream *cs, const struct stream_out *o, bool end)
{
    const struct client *c = cs->conn->c;
    struct head_out text = {.p = c->all->loop->scratch_head, .cap = LOOP_SCRATCH};
    o->fwd->close = o->fwd->keep_alive = false;
    struct slice head;
    if (o->wire) {
        head = h2_wire_head(o->wire, &text);
    } else {
        forward_response_head(&text, o->resp, o->fwd, clock_http_date());
        head = slice_of(text.p, text.n);
    }
    if (text.overflow)
        return -ERR_UP_HEAD_TOO_LARGE;
    if (o->fwd->status < 200)
        cs->body.since_ms = clock_ms(); /* only now may a client that expects 100 send */
    cs->s->bytes_out += head.n;
    return h2_answer(cs->conn->h, cs->id, head, end);
}

/* The body bytes of a piece, of the store or not, and its end. */
static int h2_send_body(struct client_h2_stream *cs, const struct stream_out *o, size_t n)
{
    struct h2 *h = cs->conn->h;
    for (int i = 0; n && i + 1 < o->niov; i++) {
        int e = h2_data(h, cs->id, o->iov[i].iov_base, o->iov[i].iov_len, false, NULL, 0);
        if (e < 0)
            return e;
    }
    const struct iovec last =
        n && o->niov ? o->iov[o->niov - 1] : (struct iovec){(void *)(uintptr_t)o->data, n};
    return h2_data(h, cs->id, last.iov_base, last.iov_len, o->end, o->trailer, o->ntrailer);
}

static int h2_send(struct stream *s, const struct stream_out *o)
{
    struct client_h2_stream *cs = s->client;
    struct client_h2 *conn = cs->conn;
    if (cs->gone || conn->failed || cs->out_end)
        return -ERR_CLIENT_CLOSED;
    const size_t n = cs->head ? 0 : o->n;
    const bool head = o->resp || o->wire;
    const bool end_with_head = head && o->end && !n && !o->ntrailer;
    if (o->taken)
        *o->taken = o->n;
    int e = head ? h2_send_head(cs, o, end_with_head) : 0;
    if (e < 0)
        return e;
    /* What the windows and the kernel take at once is as good as sent. */
    const bool free = !link_backlog(&conn->c->link, &conn->c->out) &&
                      h2_queued(conn->h, cs->id) + n <= h2_window(conn->h, cs->id) &&
                      n <= h2_window(conn->h, 0);
    if (!end_with_head && (n || o->end))
        e = h2_send_body(cs, o, n);
    if (e < 0)
        return e;
    s->bytes_out += n;
    cs->out_end = o->end;
    if (o->end ? free : e == 0)
        return 0;
    if (!cs->blocked) {
        cs->blocked = true;
        h2_rearm(cs);
    }
    return 1;
}

static int h2_send_pipe(struct stream *s, struct pipe *p, bool end)
{
    (void)s;
    (void)p;
    (void)end;
    return -ERR_INVAL;
}

static bool h2_can_pipe(const struct stream *s)
{
    (void)s;
    return false; /* frames stand between the bytes */
}

static void h2_tunnel(struct stream *s)
{
    struct client_h2_stream *cs = s->client;
    cs->tunnel = true;
    h2_want_body(s);
}

static void h2_shut(struct stream *s)
{
    struct client_h2_stream *cs = s->client;
    cs->out_end = true;
    (void)h2_data(cs->conn->h, cs->id, NULL, 0, true, NULL, 0);
}

static void h2_on_drained(void *user, void *stream)
{
    struct client_h2_stream *cs = stream;
    (void)user;
    cs->blocked = false;
    h2_rearm(cs);
    if (!cs->s)
        return;
    cs->conn->drains += !cs->s->answer_end;
    stream_drained(cs->s);
}

/* ---- ends ---- */

static void h2_over(struct stream *s, bool cut)
{
    struct client_h2_stream *cs = s->client;
    struct h2 *h = cs->conn->h;
    const size_t kept = cs->in.n;
    cs->s = NULL;
    cs->conn->nrunning--;
    cs->trailer = NULL;
    cs->ntrailer = 0;
    timer_off(&cs->timer);
    list_remove(&cs->ready);
    h2_queue_drop(&cs->in);
    if (cs->gone)
        return;
    h2_consume(h, cs->id, kept);
    if (cut) {
        /* It must not look whole. */
        h2_reset(h, cs->id,
                 s->reason && err_source(s->reason) == ERR_SRC_CLIENT ? H2_CANCEL
                                                                      : H2_INTERNAL_ERROR);
        return;
    }
    if (!cs->out_end)
        h2_shut(s);
    if (!cs->in_end)
        h2_reset(h, cs->id, H2_NO_ERROR); /* nobody wants the rest (RFC 9113 8.1) */
    /* As good as sent is not sent: the windows may have become narrower since, or others have used
     * the connection's. */
    h2_rearm(cs);
}

static void h2_on_closed(void *user, void *stream, int err)
{
    struct client_h2 *conn = user;
    struct client_h2_stream *cs = stream;
    struct clients *all = conn->c->all;
    cs->gone = true;
    if (err == ERR_CLIENT_RESET)
        counter_add(all->ctr, CTR_H2_RESETS, 1);
    if (cs->s && err == 0 && cs->s->answer_end)
        stream_drained(cs->s);
    h2_fail(cs, err ? err : ERR_CLIENT_CLOSED);
    timer_stop(&cs->timer);
    list_remove(&cs->node);
    list_remove(&cs->ready);
    h2_queue_drop(&cs->in);
    conn->nstreams--;
    pool_put(&all->h2_streams, cs);
}

unsigned client_h2_end_all(struct client_h2 *conn, int err, bool tunnels)
{
    unsigned n = 0;
    LIST_EACH_SAFE(it, tmp, &conn->streams)
    {
        struct client_h2_stream *cs = CONTAINER(it, struct client_h2_stream, node);
        if (!cs->s || (cs->tunnel && !tunnels))
            continue;
        n++;
        struct stream *s = cs->s;
        /* With the client alone gone, a fetch for the cache may go on for others. */
        if (err_source(err) == ERR_SRC_CLIENT)
            stream_client_failed(s, err);
        if (cs->s == s)
            stream_kill(s, err);
    }
    return n;
}

/* ---- the connection's events ---- */

static bool h2_on_misbehaved(void *user, uint32_t points)
{
    struct client_h2 *conn = user;
    const struct client *c = conn->c;
    struct clients *cs = c->all;
    const uint64_t most = c->peer.listen->conn.h2_misbehaviour;
    if (!most || c->peer.trusted)
        return true;
    const uint32_t sum = conn->abuse_key
                             ? abuse_add(cs->env->segment, conn->abuse_key, points, clock_ms())
                             : (conn->own_points += points);
    if (sum <= most)
        return true;
    if (conn->abusive)
        return false;
    conn->abusive = true;
    counter_add(cs->ctr, CTR_H2_REFUSED, 1);
    if (!cs->abuse_logged_ms || clock_ms() - cs->abuse_logged_ms > H2_LOG_MS) {
        cs->abuse_logged_ms = clock_ms();
        LOG_WARN("h2_abuse", "client %.*s: %s; %u points, %llu are allowed in 30 s",
                 SLICE_ARG(c->peer.ip), err_text(ERR_H2_ABUSE), sum, (unsigned long long)most);
    }
    return false;
}

static void h2_on_pong(void *user)
{
    struct client_h2 *conn = user;
    if (conn->goodbye != H2_NOTICE)
        return;
    conn->goodbye = H2_LEAVES;
    h2_goaway(conn->h, true, H2_NO_ERROR);
}

static void h2_on_dirty(void *user)
{
    client_h2_dirty(user);
}

/* What only servers do. */
static void h2_on_response(void *user, void *stream, const struct http_response *r, bool end)
{
    (void)user;
    (void)stream;
    (void)r;
    (void)end;
}

static void h2_on_goaway(void *user, int32_t last, uint32_t code)
{
    (void)user;
    (void)last;
    (void)code;
}

const struct h2_events client_h2_events = {.request = h2_on_request,
                                           .malformed = h2_on_malformed,
                                           .response = h2_on_response,
                                           .data = h2_on_data,
                                           .end = h2_on_end,
                                           .drained = h2_on_drained,
                                           .closed = h2_on_closed,
                                           .goaway = h2_on_goaway,
                                           .pong = h2_on_pong,
                                           .misbehaved = h2_on_misbehaved,
                                           .dirty = h2_on_dirty};

static const struct stream_client client_h2_ops = {.send = h2_send,
                                                   .want_body = h2_want_body,
                                                   .send_pipe = h2_send_pipe,
                                                   .can_pipe = h2_can_pipe,
                                                   .tunnel = h2_tunnel,
                                                   .shut = h2_shut,
                                                   .over = h2_over};
