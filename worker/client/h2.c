/* HTTP/2 towards clients: the connection. Bytes in, bytes out once per turn, deadlines, goodbye. */
#include "worker/client/h2.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/log.h"
#include "shm/abuse.h"

#define H2_READ   (64u * 1024u)
#define H2_BUDGET 8             /* reads in one go before others get their turn */
#define H2_WRITE  (64u * 1024u) /* bytes of frames gathered for one write */
#define H2_TURN   (256u * 1024u)
#define H2_HELLO  33u /* bytes of a client's preface and its SETTINGS at least */
#define H2_QUEUE  (64u * 1024u)
#define H2_STREAM 65536u
#define H2_NOTICE_MS                                                                               \
    1000u /* for requests on their way (RFC 9113 6.8), when no PING is answered                    \
           */
#define H2_LINGER_MS 1000u

/* Not the loop's scratch buffer: what is read while frames are gathered lands there. */
static char h2_out[H2_WRITE];

void client_h2_pools(struct clients *cs)
{
    pool_init(&cs->h2_conns, "h2 connections", sizeof(struct client_h2));
    pool_init(&cs->h2_streams, "h2 exchanges", sizeof(struct client_h2_stream));
}

static size_t h2_backlog(const struct client *c)
{
    return link_backlog(&c->link, &c->out);
}

/* The one place that decides which deadline runs. */
static void h2_rearm(struct client *c)
{
    struct timers *w = &c->all->loop->timers;
    const struct conf_conn_keys *k = &c->peer.listen->conn;
    if (c->h2->goodbye == H2_NOTICE) {
        if (!timer_is_set(&c->timer) || c->timer.deadline > clock_ms() + H2_NOTICE_MS)
            timer_set_at(w, &c->timer, clock_ms() + H2_NOTICE_MS);
    } else if (h2_backlog(c)) {
        timer_set_at(w, &c->timer, clock_ms() + c->all->config->defaults.write_timeout);
    } else if (c->head_since_ms || c->state == CLIENT_HEAD) {
        timer_set_at(w, &c->timer,
                     (c->head_since_ms ? c->head_since_ms : c->born_ms) + k->head_timeout);
    } else if (c->state == CLIENT_IDLE) {
        timer_set_at(w, &c->timer, clock_ms() + client_idle_ms(c));
    } else {
        timer_off(&c->timer);
    }
}

void client_h2_dirty(struct client_h2 *conn)
{
    if (!list_linked(&conn->dirty))
        list_append(&conn->c->all->dirty, &conn->dirty);
}

void client_h2_goodbye(struct client *c)
{
    struct client_h2 *conn = c->h2;
    if (conn->goodbye != H2_STAYS)
        return;
    conn->goodbye = H2_NOTICE;
    h2_goaway(conn->h, false, H2_NO_ERROR);
    (void)h2_ping(conn->h); /* its answer comes behind all that was sent before the notice */
    timer_set_at(&c->all->loop->timers, &c->timer, clock_ms() + H2_NOTICE_MS);
}

static void h2_leave(struct client *c)
{
    struct client_h2 *conn = c->h2;
    conn->goodbye = H2_LEAVES;
    h2_goaway(conn->h, true, H2_NO_ERROR);
}

/* ---- the end ---- */

static void h2_give_back(struct client *c)
{
    struct client_h2 *conn = c->h2;
    if (!conn)
        return;
    conn->failed = true;
    (void)client_h2_end_all(conn, ERR_CLIENT_CLOSED, true);
    h2_free(&conn->h);
    list_remove(&conn->dirty);
    gauge_add(c->all->gau, GAU_H2_CONNS_OPEN, -1);
    pool_put(&c->all->h2_conns, conn);
    c->h2 = NULL;
}

/* All is said: the client reads it, and goes. */
static void h2_part(struct client *c)
{
    h2_give_back(c);
    client_set_proto(c, &client_h1_proto);
    client_linger(c, H2_LINGER_MS);
}

/* The client is gone, or what it does is not HTTP/2: err is the exchanges' reason. */
static void h2_lose(struct client *c, int err)
{
    c->h2->failed = true;
    (void)client_h2_end_all(c->h2, err, true);
    client_close(c);
}

/* Looks what has become of the connection. False when it is gone. */
static bool h2_settle(struct client *c)
{
    struct client_h2 *conn = c->h2;
    const int err = h2_error(conn->h);
    if (err != 0 && !conn->failed) {
        conn->failed = true;
        if (err == -ERR_H2_PROTO)
            LOG_INFO("h2_protocol", "client %.*s: %s", SLICE_ARG(c->peer.ip), err_text(err));
        (void)client_h2_end_all(conn, -err, true);
    }
    if (h2_finished(conn->h) && !h2_backlog(c)) {
        h2_part(c);
        return false;
    }
    enum client_state want = conn->nstreams          ? CLIENT_EXCHANGE
                             : conn->got >= H2_HELLO ? CLIENT_IDLE
                                                     : CLIENT_HEAD;
    const bool in_head = h2_in_head(conn->h);
    const bool changed = want != c->state || in_head != (c->head_since_ms != 0);
    if (in_head != (c->head_since_ms != 0))
        c->head_since_ms = in_head ? clock_ms() : 0;
    if (want != c->state)
        client_set_state(c, want);
    if (changed)
        h2_rearm(c);
    return true;
}

/* ---- output ---- */

/* Writes what has been gathered. False when the connection is gone. */
static bool h2_flush(struct client *c)
{
    struct client_h2 *conn = c->h2;
    size_t sum = 0;
    const uint32_t drains = conn->drains;
    /* An exchange that may go on does so in the next turn: what is more urgent than the rest must
     * not lose its place for want of bytes. */
    while (sum < H2_TURN && !h2_backlog(c) && conn->drains == drains) {
        const ssize_t n = h2_output(conn->h, h2_out, sizeof h2_out);
        if (n <= 0)
            break;
        const struct iovec v = {h2_out, (size_t)n};
        uint64_t written = 0;
        const int e = link_send(&c->link, &c->out, &v, 1, &written);
        counter_add(c->all->ctr, CTR_BYTES_OUT, written);
        conn->sent += written;
        sum += (size_t)n;
        if (e < 0) {
            h2_lose(c, ERR_CLIENT_CLOSED);
            return false;
        }
        if (e == 1)
            h2_rearm(c);
    }
    if (!h2_backlog(c) && h2_wants_output(conn->h)) {
        list_remove(&conn->dirty);
        list_append(&c->all->dirty_later, &conn->dirty);
        io_again(c->all->loop, &c->link.io);
    }
    return h2_settle(c);
}

void clients_turn(struct clients *cs)
{
    while (!list_empty(&cs->dirty)) {
        struct client_h2 *conn = CONTAINER(cs->dirty.next, struct client_h2, dirty);
        list_remove(&conn->dirty);
        (void)h2_flush(conn->c);
    }
    while (!list_empty(&cs->dirty_later)) {
        struct list *it = cs->dirty_later.next;
        list_remove(it);
        list_append(&cs->dirty, it);
    }
}

/* The kernel takes again what it did not take before. False when the connection is gone. */
static bool h2_write(struct client *c)
{
    struct client_h2 *conn = c->h2;
    const uint32_t unsent = c->link.unsent;
    const ssize_t w = outq_flush(&c->out, &c->link);
    if (w < 0) {
        h2_lose(c, ERR_CLIENT_CLOSED);
        return false;
    }
    counter_add(c->all->ctr, CTR_BYTES_OUT, (uint64_t)w);
    conn->sent += (uint64_t)w;
    if (w > 0 || unsent != c->link.unsent)
        h2_rearm(c);
    if (!h2_backlog(c)) {
        conn->stalled = 0;
        client_h2_dirty(conn);
    }
    return true;
}

/* ---- input ---- */

/* A client that sends and does not read makes us keep answers: it has to read first. */
static bool h2_may_read(const struct client *c)
{
    return !h2_backlog(c) ||
           c->h2->stalled < 2 * (uint64_t)c->peer.listen->conn.h2_window + H2_READ;
}

/* False when the connection is gone. */
static bool h2_feed(struct client *c, const char *p, size_t n)
{
    struct client_h2 *conn = c->h2;
    counter_add(c->all->ctr, CTR_BYTES_IN, n);
    conn->got += n;
    if (h2_backlog(c))
        conn->stalled += n;
    (void)h2_input(conn->h, p, n);
    client_h2_deliver(conn);
    return h2_settle(c);
}

static void h2_read(struct client *c)
{
    struct loop *l = c->all->loop;
    int budget = H2_BUDGET;
    while ((c->link.io.ready & IO_READ) && h2_may_read(c)) {
        if (!budget--) {
            io_again(l, &c->link.io);
            return;
        }
        const ssize_t r = link_recv(&c->link, l->scratch, H2_READ);
        if (r == -ERR_AGAIN)
            return;
        if (r <= 0) {
            h2_lose(c, ERR_CLIENT_CLOSED);
            return;
        }
        if (!h2_feed(c, l->scratch, (size_t)r))
            return;
    }
    if ((c->link.io.ready & IO_ERR) && !(c->link.io.ready & IO_READ))
        h2_lose(c, ERR_CLIENT_CLOSED);
}

static void client_h2_event(struct io *io)
{
    struct client *c = CONTAINER(io, struct client, link.io);
    if (!c->h2)
        return;
    if ((io->ready & IO_WRITE) && h2_backlog(c) && !h2_write(c))
        return;
    client_h2_deliver(c->h2);
    h2_read(c);
    /* Nothing more will come of this turn: at once, what is to be sent is in the CPU's cache. */
    if (c->h2 && list_linked(&c->h2->dirty) && !c->h2->nrunning) {
        list_remove(&c->h2->dirty);
        (void)h2_flush(c);
    }
}

static void client_h2_timer(struct timer *t)
{
    struct client *c = CONTAINER(t, struct client, timer);
    if (!c->h2)
        return;
    if (c->h2->goodbye == H2_NOTICE) {
        h2_leave(c);
        h2_rearm(c);
    } else if (h2_backlog(c)) {
        h2_lose(c, ERR_CLIENT_WRITE_TIME);
    } else if (c->head_since_ms || c->state == CLIENT_HEAD) {
        h2_lose(c, ERR_CLIENT_HEAD_TIME);
    } else if (c->state == CLIENT_IDLE) {
        h2_leave(c);
    }
}

/* ---- beginning ---- */

static void h2_limits_of(const struct conf_conn_keys *k, struct h2_limits *lim)
{
    const uint32_t window = (uint32_t)k->h2_window;
    *lim = (struct h2_limits){.max_streams = (uint32_t)k->h2_streams,
                              .stream_window = window < H2_STREAM ? window : H2_STREAM,
                              .conn_window = window,
                              .max_line = (uint32_t)k->max_request_line,
                              .max_field = (uint32_t)k->max_field,
                              .max_head = (uint32_t)k->max_head,
                              .max_fields = (uint32_t)k->max_fields,
                              .queue = H2_QUEUE,
                              .connect_protocol = true};
}

void client_h2_start(struct client *c, const char *p, size_t n)
{
    struct clients *cs = c->all;
    const struct conf_conn_keys *k = &c->peer.listen->conn;
    struct h2_limits lim;
    struct client_h2 *conn = pool_get(&cs->h2_conns);
    h2_limits_of(k, &lim);
    if (!conn) {
        counter_add(cs->ctr, CTR_NOMEM, 1);
        client_close(c);
        return;
    }
    conn->c = c;
    list_init(&conn->dirty);
    list_init(&conn->streams);
    list_init(&conn->ready);
    if (h2_new(H2_SERVER, &lim, &client_h2_events, conn, &conn->h) < 0) {
        counter_add(cs->ctr, CTR_NOMEM, 1);
        list_remove(&conn->dirty);
        pool_put(&cs->h2_conns, conn);
        client_close(c);
        return;
    }
    c->h2 = conn;
    client_set_proto(c, &client_h2_proto);
    counter_add(cs->ctr, CTR_H2_CONNS, 1);
    gauge_add(cs->gau, GAU_H2_CONNS_OPEN, 1);
    c->max_requests = (uint32_t)client_jitter(cs, k->h2_requests);
    conn->abuse_key = abuse_key(cs->env->segment, &c->peer.addr);
    if (k->h2_misbehaviour && conn->abuse_key && !c->peer.trusted &&
        abuse_points(cs->env->segment, conn->abuse_key, clock_ms()) > k->h2_misbehaviour) {
        counter_add(cs->ctr, CTR_H2_REFUSED, 1);
        h2_goaway(conn->h, true, H2_ENHANCE_YOUR_CALM);
    } else if (cs->draining) {
        client_h2_goodbye(c);
    }
    c->link.io.ready |= IO_READ | IO_WRITE;
    h2_rearm(c);
    if (n && !h2_feed(c, p, n))
        return;
    h2_read(c);
}

/* ---- as a protocol ---- */

static unsigned client_h2_kill(struct client *c, int err, bool tunnels)
{
    unsigned n = client_h2_end_all(c->h2, err, tunnels);
    bool left = false;
    LIST_EACH(it, &c->h2->streams)
    {
        left = left || CONTAINER(it, struct client_h2_stream, node)->s;
    }
    if (!left)
        client_close(c);
    return n;
}

static void client_h2_drain(struct client *c)
{
    client_h2_goodbye(c);
}

/* Whoever closes: a word of goodbye, if it can be said at once. */
static void client_h2_closed(struct client *c)
{
    struct client_h2 *conn = c->h2;
    if (!conn)
        return;
    if (!conn->failed && !conn->nstreams && !h2_backlog(c)) {
        h2_leave(c);
        const ssize_t n = h2_output(conn->h, h2_out, sizeof h2_out);
        const struct iovec v = {h2_out, n > 0 ? (size_t)n : 0};
        if (n > 0)
            (void)link_writev(&c->link, &v, 1);
    }
    h2_give_back(c);
}

static void client_h2_print(const struct client *c, struct json *j, struct buf *out)
{
    if (!c->h2)
        return;
    if (j) {
        json_key(j, "streams");
        json_array(j);
    }
    LIST_EACH(it, &c->h2->streams)
    {
        const struct client_h2_stream *cs = CONTAINER(it, struct client_h2_stream, node);
        if (j)
            json_object(j);
        client_print_stream(cs->s, j, out);
        if (j)
            json_end_object(j);
    }
    if (j)
        json_end_array(j);
}

const struct client_proto client_h2_proto = {.name = "h2",
                                             .event = client_h2_event,
                                             .timer = client_h2_timer,
                                             .kill = client_h2_kill,
                                             .drain = client_h2_drain,
                                             .closed = client_h2_closed,
                                             .print = client_h2_print};
