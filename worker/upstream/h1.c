/* HTTP/1 towards servers: sending, receiving, decoding; see up.h. Connections come from and go back
 * to conn.c. */
#include "worker/upstream/h1.h"

#include "base/clock.h"
#include "base/err.h"
#include "worker/http/h1_head.h"
#include "worker/io/sock.h"
#include "worker/upstream/conn.h"

#include <stdlib.h>
#include <string.h>

#define UP_READ (256u * 1024u)
#define UP_READ_LOW                                                                                \
    (64u * 1024u)   /* once the client was seen to be slower: less waits in memory                 \
                     */
#define UP_BUDGET 8 /* reads in one go before others get their turn */
/* Bodies with that much to come are spliced: up to a mebibyte large copies cost less CPU (t/bench).
 */
#define UP_SPLICE   (1024u * 1024u)
#define UP_INTERIMS 32 /* 1xx answers to one request */

/* A head that is still incomplete (at most 256 KiB, see keys.def) and a read behind it. */
_Static_assert(UP_READ + 262144 <= LOOP_SCRATCH, "scratch too small");

/* ---- sending ---- */

/* The kernel refused our bytes: the server has gone, but its answer may be waiting. Reading tells
 * which. */
static void up_send_broken(struct up_conn *c)
{
    outq_free(&c->out);
    c->head = SLICE_NONE;
    c->persistent = false;
    c->request_done = false;
    c->send_broken = true;
    c->link.io.ready |= IO_HUP | IO_READ;
    io_again(up_loop(c), &c->link.io);
}

static int up_write(struct up_conn *c, const struct iovec *v, int n, bool end)
{
    uint64_t written = 0;
    int e = link_send(&c->link, &c->out, v, n, &written);
    c->bytes_out += written;
    if (e == -ERR_SYS) {
        up_send_broken(c);
        return 0;
    }
    if (e < 0)
        return e;
    if (e == 1) {
        c->request_end = end;
        up_rearm(c);
        return 1;
    }
    if (end)
        up_request_complete(c);
    return 0;
}

static int up_h1_send(struct up_conn *c, const char *p, size_t n, bool end,
                      const struct http_field *trailer, size_t ntrailer)
{
    struct iovec v[5];
    int k = 0;
    char size[24];
    bool chunked = c->state != UP_TUNNEL && c->request_framing == HTTP_BODY_CHUNKED;
    if (c->head.n)
        v[k++] = (struct iovec){(void *)(uintptr_t)c->head.p, c->head.n};
    c->head = SLICE_NONE;
    if (n) {
        if (chunked)
            v[k++] = (struct iovec){size, h1_chunk_head(size, n)};
        v[k++] = (struct iovec){(void *)(uintptr_t)p, n};
    }
    if (chunked) {
        char *tail = up_loop(c)->scratch_head;
        size_t len = h1_chunk_tail(tail, LOOP_SCRATCH, n > 0, end, trailer, ntrailer);
        if (len)
            v[k++] = (struct iovec){tail, len};
    }
    if (!k) {
        if (end && !link_backlog(&c->link, &c->out))
            up_request_complete(c);
        else if (end)
            c->request_end = true;
        return link_backlog(&c->link, &c->out) ? 1 : 0;
    }
    return up_write(c, v, k, end && c->state != UP_TUNNEL);
}

static int up_send_head_alone(struct up_conn *c)
{
    struct iovec v = {(void *)(uintptr_t)c->head.p, c->head.n};
    c->head = SLICE_NONE;
    return up_write(c, &v, 1, true);
}

static int up_h1_begin(struct up_conn *c)
{
    return c->request_framing == HTTP_BODY_NONE ? up_send_head_alone(c) : 0;
}

void up_h1_connected(struct up_conn *c)
{
    up_enter(c, UP_REQUEST);
    int e = up_h1_begin(c);
    if (e < 0)
        up_fail(c, -e);
    else if (c->request_framing != HTTP_BODY_NONE)
        c->events->connected(c->user);
}

static void up_writable(struct up_conn *c)
{
    uint32_t unsent = c->link.unsent;
    ssize_t w = outq_flush(&c->out, &c->link);
    if (w < 0) {
        up_send_broken(c);
        return;
    }
    c->bytes_out += (uint64_t)w;
    if (link_backlog(&c->link, &c->out)) {
        if (w || unsent != c->link.unsent)
            up_rearm(c);
        return;
    }
    if (c->request_end) {
        c->request_end = false;
        up_request_complete(c);
        return;
    }
    up_rearm(c);
    c->events->drained(c->user);
}

void up_take_tunnel(struct up_conn *c, const struct up_timeouts *t, const struct up_events *ev,
                    void *user)
{
    c->timeouts = t;
    c->events = ev;
    c->user = user;
    c->request_done = c->got_head = true;
    c->began_us = clock_us();
    up_enter(c, UP_TUNNEL);
}

void up_shutdown(struct up_conn *c)
{
    c->half = true;
    up_rearm(c);
    if (link_backlog(&c->link, &c->out))
        c->shut_after = true;
    else
        (void)c->link.ops->shutdown(&c->link);
}

/* ---- receiving ---- */

static int up_give(struct up_conn *c, const char *p, size_t n, bool end,
                   const struct http_field *tr, size_t ntr)
{
    int e = c->events->data(c->user, p, n, end, tr, ntr);
    if (e == 1 && !end) {
        c->paused = c->slow = true;
        up_rearm(c);
    }
    return e < 0 || c->state == UP_CLOSED || c->state == UP_IDLE ? -ERR_EOF : 0;
}

static int up_body_chunked(struct up_conn *c, char *p, size_t n)
{
    size_t used, data;
    struct http_field trailer[64];
    int done = h1_chunk_decode(&c->chunk, c->arena, p, n, &used, &data);
    if (done < 0) {
        up_fail(c, done == -ERR_NOMEM ? ERR_NOMEM : ERR_UP_BAD_BODY);
        return -ERR_EOF;
    }
    if (!done)
        return up_give(c, p, data, false, NULL, 0);
    int nt = h1_chunk_trailers(&c->chunk, trailer, sizeof trailer / sizeof trailer[0]);
    if (nt < 0) {
        up_fail(c, ERR_UP_BAD_BODY);
        return -ERR_EOF;
    }
    if (used < n)
        c->persistent = false;
    c->answered = true;
    return up_give(c, p, data, true, trailer, (size_t)nt);
}

/* Hands body bytes up; always at least one call after a head. */
static int up_body(struct up_conn *c, char *p, size_t n)
{
    switch (c->framing) {
    case HTTP_BODY_NONE:
        if (n)
            c->persistent = false;
        c->answered = true;
        return up_give(c, p, 0, true, NULL, 0);
    case HTTP_BODY_LENGTH: {
        size_t take = n < c->left ? n : (size_t)c->left;
        c->left -= take;
        if (take < n)
            c->persistent = false;
        c->answered = c->left == 0;
        return up_give(c, p, take, c->left == 0, NULL, 0);
    }
    case HTTP_BODY_CHUNKED:
        return up_body_chunked(c, p, n);
    case HTTP_BODY_CLOSE:
        break;
    }
    return up_give(c, p, n, false, NULL, 0);
}

static int up_keep_partial(struct up_conn *c, const char *p, size_t n)
{
    if (n > c->in_cap) {
        uint32_t cap = (uint32_t)((n + 4095) & ~(size_t)4095);
        char *q = alloc_should_fail() ? NULL : realloc(c->in, cap);
        if (!q)
            return -ERR_NOMEM;
        c->in = q;
        c->in_cap = cap;
    }
    memcpy(c->in, p, n);
    c->in_n = (uint32_t)n;
    return 0;
}

static void up_drop_partial(struct up_conn *c)
{
    free(c->in);
    c->in = NULL;
    c->in_n = c->in_cap = 0;
    c->scan = 0;
}

static int up_final_head(struct up_conn *c, const struct http_response *r)
{
    c->framing = r->framing;
    c->left = r->content_length;
    c->persistent = r->keep_alive && r->framing != HTTP_BODY_CLOSE;
    c->event_stream = r->event_stream;
    c->allowed_idle_ms = r->keepalive_s > 86400 ? 86400000u : r->keepalive_s * 1000u;
    if (c->framing == HTTP_BODY_CHUNKED)
        h1_chunk_init(&c->chunk);
    c->got_head = true;
    int e = c->events->head(c->user, r);
    if (e < 0)
        return e;
    up_enter(c, r->status == 101 ? UP_TUNNEL : UP_BODY);
    return 0;
}

/* A head, or what there is of it, at p. *ret_used: bytes taken; 0 when more are needed. */
static int up_head(struct up_conn *c, char *p, size_t n, size_t *ret_used)
{
    static struct http_field field[HTTP_FIELDS_MAX];
    struct http_response r;
    const struct h1_limits lim = {.max_line = 8192,
                                  .max_field = (uint32_t)c->server->group->conf->k.max_head,
                                  .max_head = (uint32_t)c->server->group->conf->k.max_head,
                                  .max_fields = HTTP_FIELDS_MAX};
    size_t skip = 0;
    *ret_used = 0;
    int64_t end = h1_head_end(p, n, &lim, false, &c->scan, &skip);
    if (end == -ERR_AGAIN) {
        if (up_keep_partial(c, p, n) == 0)
            return 0;
        end = -ERR_NOMEM;
    }
    int e = end < 0 ? (int)end : h1_parse_response(p, (size_t)end, &lim, c->method, field, &r);
    if (e < 0) {
        up_fail(c, e == -ERR_NOMEM || e == -ERR_UP_HEAD_TOO_LARGE ? -e : ERR_UP_BAD_HEAD);
        return -ERR_EOF;
    }
    up_drop_partial(c);
    *ret_used = (size_t)end;
    if (r.status >= 200 || r.status == 101)
        return up_final_head(c, &r);
    if (++c->interims > UP_INTERIMS) {
        up_fail(c, ERR_UP_BAD_HEAD);
        return -ERR_EOF;
    }
    e = c->events->interim(c->user, &r);
    if (e < 0 || c->state == UP_CLOSED)
        return -ERR_EOF;
    up_rearm(c);
    return 0;
}

/* 0 to go on reading; negative when the connection is no longer this exchange's. */
static int up_input(struct up_conn *c, char *p, size_t n)
{
    if (c->head.n) {
        /* Nothing has been asked yet: a pooled connection's farewell (408, or what was left over),
         * not our answer. */
        up_fail(c, c->reused ? ERR_REUSED_CLOSED : ERR_UP_BAD_HEAD);
        return -ERR_EOF;
    }
    if (!c->first_us)
        c->first_us = clock_us();
    while (c->state == UP_REQUEST || c->state == UP_WAITING) {
        size_t used;
        int e = up_head(c, p, n, &used);
        if (e < 0)
            return e;
        if (!used)
            return 0;
        p += used;
        n -= used;
        if (!c->got_head && !n)
            return 0;
    }
    int e = c->state == UP_TUNNEL ? up_give(c, p, n, false, NULL, 0) : up_body(c, p, n);
    if (e == 0 && !c->paused)
        up_rearm(c);
    return e;
}

/* No byte of an answer came. On a reused connection that usually means that the server had closed
 * it already; then none of the request was ever acknowledged, and any request may go elsewhere.
 * Else the server may have acted on it: RFC 9110 9.2.2 leaves only idempotent ones. */
static int up_lost_error(const struct up_conn *c)
{
    if (!c->reused)
        return ERR_UP_RESET;
    return sock_unread(c->link.io.fd, c->sent_before) ? ERR_REUSED_CLOSED : ERR_REUSED_LOST;
}

static void up_eof(struct up_conn *c, bool reset)
{
    c->eof = true;
    c->persistent = false;
    switch ((enum up_state)c->state) {
    case UP_REQUEST:
    case UP_WAITING:
        if (c->first_us)
            up_fail(c, ERR_UP_TRUNCATED);
        else
            up_fail(c, up_lost_error(c));
        return;
    case UP_BODY:
        if (c->framing == HTTP_BODY_CLOSE && !reset) {
            c->answered = true;
            (void)up_give(c, NULL, 0, true, NULL, 0);
        } else {
            up_fail(c, ERR_UP_TRUNCATED);
        }
        return;
    case UP_TUNNEL:
        if (reset)
            up_fail(c, ERR_UP_RESET);
        else
            (void)up_give(c, NULL, 0, true, NULL, 0);
        return;
    case UP_CONNECTING:
    case UP_HANDSHAKE:
    case UP_IDLE:
    case UP_SESSION:
    case UP_CLOSED:
    case UP__COUNT:
        return;
    }
}

static bool up_reading(const struct up_conn *c)
{
    return c->state >= UP_REQUEST && c->state <= UP_TUNNEL && !c->paused && !c->eof &&
           (c->link.io.ready & IO_READ);
}

bool up_spliceable(const struct up_conn *c)
{
    return c->framing == HTTP_BODY_LENGTH && c->left >= UP_SPLICE && c->link.ops->splice;
}

bool up_splice(struct up_conn *c, struct pipe *p)
{
    if (!up_spliceable(c))
        return false;
    c->pipe = p;
    return true;
}

/* The rest of a long body: socket to pipe, and the exchange empties the pipe. */
static void up_read_piped(struct up_conn *c)
{
    int budget = UP_BUDGET;
    while (up_reading(c) && c->left) {
        if (!budget--) {
            io_again(up_loop(c), &c->link.io);
            return;
        }
        ssize_t r = pipe_fill(c->pipe, &c->link, c->left);
        if (r == -ERR_AGAIN)
            return;
        if (r <= 0) {
            up_eof(c, r < 0);
            return;
        }
        c->bytes_in += (uint64_t)r;
        c->left -= (uint64_t)r;
        bool end = c->left == 0;
        c->answered = end;
        int e = c->events->piped(c->user, (size_t)r, end);
        if (e < 0 || c->state == UP_CLOSED || c->state == UP_IDLE)
            return;
        c->paused = e == 1;
        up_rearm(c);
    }
}

static void up_read(struct up_conn *c)
{
    struct loop *l = up_loop(c);
    int budget = UP_BUDGET;
    while (up_reading(c)) {
        if (c->pipe) {
            up_read_piped(c);
            return;
        }
        if (!budget--) {
            io_again(l, &c->link.io);
            return;
        }
        char *p = l->scratch;
        size_t have = c->in_n;
        if (have)
            memcpy(p, c->in, have);
        ssize_t r = link_recv(&c->link, p + have, c->slow ? UP_READ_LOW : UP_READ);
        if (r == -ERR_AGAIN)
            return;
        if (r <= 0) {
            up_eof(c, r < 0);
            return;
        }
        c->bytes_in += (uint64_t)r;
        if (up_input(c, p, have + (size_t)r) < 0)
            return;
    }
}

static void up_h1_resume(struct up_conn *c)
{
    /* In the next turn: the caller is in the middle of its own work. */
    if (c->link.io.ready & IO_READ)
        io_again(up_loop(c), &c->link.io);
}

void up_h1_event(struct up_conn *c)
{
    const struct io *io = &c->link.io;
    if ((io->ready & IO_WRITE) && !c->send_broken && link_backlog(&c->link, &c->out))
        up_writable(c);
    if (c->state == UP_TUNNEL && c->eof &&
        (io->ready & IO_ERR)) { /* it had only finished sending; now it is gone altogether */
        up_fail(c, ERR_UP_RESET);
        return;
    }
    if (c->state == UP_TUNNEL && c->shut_after && !link_backlog(&c->link, &c->out)) {
        c->shut_after = false;
        (void)c->link.ops->shutdown(&c->link);
    }
    up_read(c);
}

/* ---- between requests ---- */

bool up_h1_quiet(struct up_conn *c)
{
    if (!c->link.tls)
        return sock_idle_alive(c->link.io.fd);
    char byte;
    return link_recv(&c->link, &byte, 1) == -ERR_AGAIN;
}

static bool up_h1_keep(struct up_conn *c)
{
    const struct upstream *u = c->server->group;
    if (!c->answered || !c->request_done || !c->persistent || c->eof || c->send_broken ||
        c->state != UP_BODY || u->all->closing || !u->conf->k.keepalive ||
        (c->link.io.ready & IO_HUP) || link_backlog(&c->link, &c->out))
        return false;
    /* A read that was not short (a spliced body, a full buffer) has not shown the socket to be
     * empty; bytes behind the answer would be taken for the next one. */
    if (c->link.io.ready & IO_READ) {
        if (!up_h1_quiet(c))
            return false;
        c->link.io.ready &= (uint8_t)~IO_READ;
    }
    return true;
}

static void up_h1_release(struct up_conn *c)
{
    struct up_server *s = c->server;
    struct upstreams *us = s->group->all;
    if (!up_h1_keep(c)) {
        up_conn_close(c);
        return;
    }
    up_conn_account(c);
    gauge_add(us->gau, GAU_UP_ACTIVE, -1);
    list_remove(&c->node);
    list_push(&s->idle, &c->node);
    up_conn_count_idle(s, 1);
    up_set_state(c, UP_IDLE);
    c->events = NULL;
    c->user = NULL;
    c->arena = NULL;
    c->pipe = NULL;
    c->idle_since = clock_ms();
    c->answered = c->request_done = c->request_end = c->got_head = c->slow = c->paused =
        c->event_stream = false;
    c->interims = 0;
    timer_set_at(&us->loop->timers, &c->timer, clock_ms() + up_conn_idle_ms(c));
}

static void up_h1_close(struct up_conn *c)
{
    outq_free(&c->out);
    free(c->in);
    c->in = NULL;
    c->link.ops->close(&c->link);
}

static size_t up_h1_backlog(const struct up_conn *c)
{
    return link_backlog(&c->link, &c->out);
}

/* What goes out sets the timer again at once. */
static bool up_h1_moving(struct up_conn *c)
{
    (void)c;
    return false;
}

const struct up_proto up_h1 = {.begin = up_h1_begin,
                               .send = up_h1_send,
                               .resume = up_h1_resume,
                               .backlog = up_h1_backlog,
                               .moving = up_h1_moving,
                               .release = up_h1_release,
                               .close = up_h1_close};
