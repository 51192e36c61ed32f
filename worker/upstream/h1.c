/* HTTP/1 towards servers: sending, receiving, decoding; see h1.h. Connections come from and go back
 * to conn.c. */
#include "worker/upstream/h1.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/panic.h"
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

static struct loop *up_loop(const struct up_conn *c)
{
    return c->server->group->all->loop;
}

static void up_timer(struct up_conn *c, uint64_t ms)
{
    timer_set_at(&up_loop(c)->timers, &c->timer, clock_ms() + ms);
}

/* The one place that decides which deadline runs. */
void up_rearm(struct up_conn *c)
{
    const struct up_timeouts *t = c->timeouts;
    switch ((enum up_state)c->state) {
    case UP_CONNECTING:
        up_timer(c, t->connect);
        break;
    case UP_REQUEST:
        if (link_backlog(&c->link, &c->out))
            up_timer(c, t->send);
        else
            timer_off(&c->timer);
        break;
    case UP_WAITING:
        up_timer(c, t->first_byte);
        break;
    case UP_BODY:
        if (c->paused)
            timer_off(&c->timer);
        else
            up_timer(c, c->event_stream ? t->tunnel : t->read);
        break;
    case UP_TUNNEL:
        up_timer(c, t->tunnel);
        break;
    case UP_IDLE:
    case UP_CLOSED:
    case UP__COUNT:
        break;
    }
}

/* Bit t of row f: the step f -> t is legal. */
#define STEP(n) (1u << UP_##n)
static const uint8_t up_steps[UP__COUNT] = {
    [UP_CONNECTING] = STEP(REQUEST) | STEP(TUNNEL) | STEP(CLOSED), /* TUNNEL: of another worker */
    [UP_REQUEST] = STEP(WAITING) | STEP(BODY) | STEP(TUNNEL) | STEP(CLOSED),
    [UP_WAITING] = STEP(BODY) | STEP(TUNNEL) | STEP(CLOSED),
    [UP_BODY] = STEP(IDLE) | STEP(CLOSED),
    [UP_TUNNEL] = STEP(CLOSED),
    [UP_IDLE] = STEP(REQUEST) | STEP(CLOSED),
};
#undef STEP

void up_set_state(struct up_conn *c, enum up_state st)
{
    DEBUG_MUST(up_steps[c->state] >> st & 1u);
    c->state = (uint8_t)st;
}

/* A state of a request, with its deadline. */
static void up_enter(struct up_conn *c, enum up_state st)
{
    up_set_state(c, st);
    up_rearm(c);
}

/* Closes, detaches, then tells the exchange. */
static void up_fail(struct up_conn *c, int err)
{
    const struct up_events *ev = c->events;
    void *user = c->user;
    up_conn_close(c);
    if (ev)
        ev->failed(user, err);
}

static int up_timeout_error(const struct up_conn *c)
{
    switch ((enum up_state)c->state) {
    case UP_CONNECTING:
        return ERR_CONNECT_TIMEOUT;
    case UP_REQUEST:
        return ERR_UP_WRITE_TIME;
    case UP_WAITING:
        return ERR_UP_FIRST_BYTE;
    case UP_BODY:
    case UP_TUNNEL:
    case UP_IDLE:
    case UP_CLOSED:
    case UP__COUNT:
        break;
    }
    return ERR_UP_READ_TIME;
}

void up_on_timer(struct timer *t)
{
    struct up_conn *c = CONTAINER(t, struct up_conn, timer);
    if (c->state == UP_IDLE)
        up_conn_close(c);
    else if (c->state != UP_CLOSED)
        up_fail(c, up_timeout_error(c));
}

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

static void up_request_complete(struct up_conn *c)
{
    c->request_done = true;
    c->sent_us = clock_us();
    if (c->state == UP_REQUEST)
        up_enter(c, UP_WAITING);
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

int up_send(struct up_conn *c, const char *p, size_t n, bool end, const struct http_field *trailer,
            size_t ntrailer)
{
    struct iovec v[5];
    int k = 0;
    char size[24];
    bool chunked = c->state != UP_TUNNEL && c->request_framing == HTTP_BODY_CHUNKED;
    if (c->send_broken)
        return 0;
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

int up_flush(struct up_conn *c)
{
    return c->head.n ? up_send(c, NULL, 0, false, NULL, 0) : 0;
}

static int up_send_head_alone(struct up_conn *c)
{
    struct iovec v = {(void *)(uintptr_t)c->head.p, c->head.n};
    c->head = SLICE_NONE;
    return up_write(c, &v, 1, true);
}

int up_begin(struct up_conn *c, const struct up_request *r)
{
    c->head = r->head;
    c->method = r->method;
    c->request_framing = r->framing;
    c->timeouts = r->timeouts;
    c->arena = r->arena;
    c->events = r->events;
    c->user = r->user;
    c->began_us = clock_us();
    c->sent_us = c->first_us = 0;
    c->requests++;
    if (c->state == UP_CONNECTING) {
        up_rearm(c);
        return 0;
    }
    c->connected_us = c->began_us;
    up_rearm(c);
    return c->request_framing == HTTP_BODY_NONE ? up_send_head_alone(c) : 0;
}

static void up_connected(struct up_conn *c)
{
    int e = sock_connect_result(c->link.io.fd);
    if (e < 0) {
        up_fail(c, -e);
        return;
    }
    c->connected_us = clock_us();
    up_enter(c, UP_REQUEST);
    if (c->request_framing == HTTP_BODY_NONE) {
        e = up_send_head_alone(c);
        if (e < 0)
            up_fail(c, -e);
        return;
    }
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
    case UP_IDLE:
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

void up_resume(struct up_conn *c)
{
    if (!c->paused)
        return;
    c->paused = false;
    up_rearm(c);
    /* In the next turn: the caller is in the middle of its own work. */
    if (c->link.io.ready & IO_READ)
        io_again(up_loop(c), &c->link.io);
}

void up_on_event(struct io *io)
{
    struct up_conn *c = CONTAINER(io, struct up_conn, link.io);
    switch ((enum up_state)c->state) {
    case UP_CONNECTING:
        if (io->ready & (IO_WRITE | IO_ERR))
            up_connected(c);
        if (c->state == UP_CLOSED || c->state == UP_CONNECTING)
            return;
        break;
    case UP_IDLE:
        if (io->ready & (IO_READ | IO_HUP))
            up_conn_idle_closed(c);
        return;
    case UP_CLOSED:
    case UP__COUNT:
        return;
    case UP_REQUEST:
    case UP_WAITING:
    case UP_BODY:
    case UP_TUNNEL:
        break;
    }
    if ((io->ready & IO_WRITE) && link_backlog(&c->link, &c->out))
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
