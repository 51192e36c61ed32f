/* HTTP/1 towards clients: events, request heads, deadlines, keep-alive and pipelining, lingering
 * close. */
#include "worker/client/h1.h"

#include "base/clock.h"
#include "base/err.h"
#include "worker/stream/tunnel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define CLIENT_READ_HEAD (16u * 1024u)
#define CLIENT_LINGER_MS 5000u /* how long the rest of a refused request is read and dropped */

/* ---- deadlines ---- */

/* The one place that decides which deadline runs. */
void client_rearm(struct client *c)
{
    struct timers *w = &c->all->loop->timers;
    const struct conf_scope_keys *k = client_scope(c);
    uint64_t now = clock_ms();
    if (c->state == CLIENT_LINGER)
        return; /* set once when it began */
    if (client_backed_up(c)) {
        timer_set_at(w, &c->timer, now + (k ? k->write_timeout : 60000));
        return;
    }
    switch ((enum client_state)c->state) {
    case CLIENT_HEAD:
        timer_set_at(w, &c->timer,
                     (c->head_since_ms ? c->head_since_ms : c->born_ms) +
                         c->peer.listen->conn.head_timeout);
        return;
    case CLIENT_IDLE:
        timer_set_at(w, &c->timer, now + client_idle_ms(c));
        return;
    case CLIENT_EXCHANGE:
        if (client_wanted(c) && k)
            timer_set_at(w, &c->timer, now + k->body_timeout);
        else
            timer_off(&c->timer);
        return;
    case CLIENT_TUNNEL: /* the server's side keeps the time */
    case CLIENT_PROXY:
    case CLIENT_HANDSHAKE:
    case CLIENT_LINGER:
    case CLIENT_CLOSED:
    case CLIENT__COUNT:
        timer_off(&c->timer);
        return;
    }
}

/* ---- bytes that came too early ---- */

int client_keep(struct client *c, const char *p, size_t n)
{
    if (!n) {
        free(c->in);
        c->in = NULL;
        c->in_n = c->in_cap = 0;
        return 0;
    }
    if (n > c->in_cap) {
        uint32_t cap = (uint32_t)((n + 1023) & ~(size_t)1023);
        char *q = alloc_should_fail() ? NULL : realloc(c->in, cap);
        if (!q)
            return -ERR_NOMEM;
        c->in = q;
        c->in_cap = cap;
    }
    memmove(c->in, p, n);
    c->in_n = (uint32_t)n;
    return 0;
}

/* ---- closing ---- */

void client_linger(struct client *c, uint32_t ms)
{
    if (link_backlog(&c->link, &c->out)) {
        c->shut_after = true;
    } else if (c->link.ops->shutdown(&c->link) < 0) {
        client_close(c);
        return;
    }
    client_set_state(c, CLIENT_LINGER);
    client_keep(c, NULL, 0);
    timer_set_at(&c->all->loop->timers, &c->timer, clock_ms() + ms);
    c->link.io.ready |= IO_READ;
    io_again(c->all->loop, &c->link.io);
}

/* ---- request heads ---- */

static void client_limits(const struct client *c, struct h1_limits *lim)
{
    const struct conf_conn_keys *k = &c->peer.listen->conn;
    *lim = (struct h1_limits){.max_line = (uint32_t)k->max_request_line,
                              .max_field = (uint32_t)k->max_field,
                              .max_head = (uint32_t)k->max_head,
                              .max_fields = (uint32_t)k->max_fields};
}

static struct stream *client_stream(struct client *c)
{
    struct stream *s = stream_new(c->all->env, &client_h1_ops, c, &c->peer, ++c->requests);
    if (!s) {
        client_close(c);
        return NULL;
    }
    c->stream = s;
    c->keep = false;
    c->body_done = true;
    client_set_state(c, CLIENT_EXCHANGE);
    s->bytes_in = c->bytes_in;
    return s;
}

/* What came is not a request: answers and ends the connection. */
static void client_refuse(struct client *c, int err, const char *p, size_t n)
{
    if (!err_status(err)) {
        client_close(c);
        return;
    }
    struct stream *s = client_stream(c);
    if (!s)
        return;
    const char *eol = memchr(p, '\n', n);
    size_t line = eol ? (size_t)(eol - p) : n;
    s->line = arena_dup(&s->arena, slice_trim(slice_of(p, line > 512 ? 512 : line)));
    c->body_done = false; /* nobody knows what else is on its way: linger */
    stream_refuse(s, err);
}

/* A complete head at p[0..n): starts the exchange. The caller looks at c->stream afterwards. */
static void client_request(struct client *c, const char *p, size_t n, const struct h1_limits *lim)
{
    static struct http_field field[HTTP_FIELDS_MAX];
    struct stream *s = client_stream(c);
    if (!s)
        return;
    struct slice head = arena_dup(&s->arena, slice_of(p, n));
    int e = head.p ? h1_parse_request(head.p, n, lim, field, &s->req) : -ERR_NOMEM;
    if (e == 0) {
        struct http_field *own =
            arena_alloc(&s->arena, sizeof *own * (s->req.nfield ? s->req.nfield : 1));
        if (own)
            memcpy(own, field, sizeof *own * s->req.nfield);
        else
            e = -ERR_NOMEM;
        s->req.field = own;
    }
    if (e == 0 && s->req.framing != HTTP_BODY_NONE) {
        c->body_done = s->req.framing == HTTP_BODY_LENGTH && s->req.content_length == 0;
        c->body = pool_get(&c->all->bodies);
        if (!c->body)
            e = -ERR_NOMEM;
    }
    if (e < 0) {
        const char *eol = memchr(p, '\r', n);
        s->line = slice_of(head.p, eol ? (size_t)(eol - p) : n);
        c->body_done = false;
        stream_refuse(s, e);
        return;
    }
    if (c->body) {
        c->body->framing = s->req.framing;
        c->body->left = s->req.content_length;
        c->body->since_ms = clock_ms();
        h1_chunk_init(&c->body->chunk);
    }
    timer_off(&c->timer);
    stream_begin(s);
}

/* What every HTTP/2 client says first (RFC 9113 3.4). */
static const char client_preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/* Prior knowledge of HTTP/2 on a plain listener: 1 yes, 0 no, -ERR_AGAIN it may be. */
static int client_is_h2(const struct client *c, const char *p, size_t n)
{
    size_t len = sizeof client_preface - 1;
    if (c->requests || c->link.tls || c->peer.plain_on_tls ||
        !(c->peer.listen->k.protocols & CONF_PROTO_H2) ||
        memcmp(p, client_preface, n < len ? n : len) != 0)
        return 0;
    return n < len ? -ERR_AGAIN : 1;
}

/* Works on what has been read while no exchange runs: p[0..n) in the scratch buffer. */
static void client_process(struct client *c, char *p, size_t n)
{
    struct h1_limits lim;
    client_limits(c, &lim);
    c->in_process = true;
    while (c->state != CLIENT_CLOSED && c->state != CLIENT_LINGER && n && !c->stream) {
        size_t skip = 0, scan = c->scan;
        int h2 = client_is_h2(c, p, n);
        if (h2 == -ERR_AGAIN)
            goto incomplete;
        if (h2 == 1) {
            c->in_process = false;
            client_keep(c, NULL, 0);
            client_h2_start(c, p, n);
            return;
        }
        if (!(c->peer.listen->k.protocols & CONF_PROTO_H1) && !c->peer.plain_on_tls) {
            counter_add(c->all->ctr, CTR_BAD_REQUESTS, 1);
            client_close(c);
            break;
        }
        int64_t end = h1_head_end(p, n, &lim, true, &scan, &skip);
        /* A record of a handshake (RFC 8446 5.1). */
        if (end == -ERR_BAD_LINE && n > 2 && p[0] == 0x16 && p[1] == 3)
            end = -ERR_TLS_ON_PLAIN;
        c->scan = (uint32_t)scan;
        if (end == -ERR_AGAIN)
            goto incomplete;
        c->scan = 0;
        c->head_since_ms = 0;
        if (end < 0) {
            client_refuse(c, (int)-end, p, n);
            break;
        }
        c->follows = n > skip + (size_t)end;
        client_request(c, p + skip, (size_t)end, &lim);
        p += skip + (size_t)end;
        n -= skip + (size_t)end;
        if (c->stream) {
            size_t used = client_first_body(c, p, n);
            p += used;
            n -= used;
        }
    }
    goto out;
incomplete:
    if (!c->head_since_ms)
        c->head_since_ms = clock_ms();
    if (c->state == CLIENT_IDLE)
        client_set_state(c, CLIENT_HEAD);
    client_rearm(c);
out:
    c->in_process = false;
    if (c->state == CLIENT_CLOSED || c->state == CLIENT_LINGER)
        return;
    const int kept = client_keep(c, p, n), sent = client_flush(c);
    if (kept < 0 || sent < 0) {
        if (c->stream)
            stream_client_failed(c->stream, kept < 0 ? ERR_NOMEM : ERR_CLIENT_CLOSED);
        else
            client_close(c);
    } else if (sent == 1) {
        if (c->state == CLIENT_IDLE)
            client_set_state(c, CLIENT_HEAD); /* until all is out */
        client_rearm(c);
    }
}

/* Between requests: the next one may be here already. */
static void client_next(struct client *c)
{
    c->keep = false;
    c->scan = 0;
    client_set_state(c, CLIENT_IDLE);
    client_rearm(c);
    if (!c->in_process && (c->in_n || (c->link.io.ready & (IO_READ | IO_HUP))))
        io_again(c->all->loop, &c->link.io);
}

/* The exchange is over and its answer is with the kernel or gathered for it, unless it was cut. */
void client_h1_over(struct stream *s, bool cut)
{
    struct client *c = s->client;
    counter_add(c->all->ctr, CTR_BYTES_IN, c->bytes_in);
    counter_add(c->all->ctr, CTR_BYTES_OUT, c->bytes_out);
    c->bytes_in = c->bytes_out = 0;
    c->stream = NULL;
    c->pipe = NULL;
    c->more = false;
    if (c->state == CLIENT_CLOSED)
        return;
    client_body_free(c);
    if (s->moved) /* the successor speaks to the client from here on */
        return;
    if (cut) {
        /* A reset tells the client that what it has is not the whole. */
        struct linger now = {.l_onoff = 1};
        if (s->status)
            setsockopt(c->link.io.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        c->link.cut = true;
        client_close(c);
        return;
    }
    if (!c->keep || c->eof) {
        /* A client that meant to go on may have sent its next request already. */
        bool more = !c->body_done || c->in_n || c->state == CLIENT_TUNNEL || s->req.keep_alive;
        if (more && !c->eof)
            client_linger(c, CLIENT_LINGER_MS);
        else
            client_close(c);
        return;
    }
    client_next(c);
}

static void client_read_head(struct client *c)
{
    struct loop *l = c->all->loop;
    int budget = CLIENT_BUDGET;
    /* Not once the preface of HTTP/2 was among it: its session has been started and reads. */
    while ((c->state == CLIENT_IDLE || c->state == CLIENT_HEAD) && !c->stream && !c->h2) {
        char *p = l->scratch;
        size_t n = c->in_n;
        if (n)
            memcpy(p, c->in, n);
        /* Pipelined requests are worked off before more is read. */
        if (!n || c->state != CLIENT_IDLE) {
            if (!(c->link.io.ready & IO_READ))
                return;
            if (!budget--) {
                io_again(l, &c->link.io);
                return;
            }
            ssize_t r = link_recv(&c->link, p + n, CLIENT_READ_HEAD);
            if (r == -ERR_AGAIN)
                return;
            if (r <= 0) {
                client_close(c);
                return;
            }
            c->bytes_in += (uint64_t)r;
            n += (size_t)r;
        }
        client_process(c, p, n);
    }
}

void client_h1_start(struct client *c)
{
    client_set_proto(c, &client_h1_proto);
    c->link.io.ready |= IO_READ | IO_WRITE;
    client_rearm(c);
    client_read_head(c);
}

void client_h1_resume(struct client *c)
{
    c->link.io.ready |= IO_READ | IO_WRITE;
    client_next(c);
}

int client_h1_resume_tunnel(struct client *c, const char *p, size_t n, int fd)
{
    struct stream *s = client_stream(c);
    if (!s)
        return -ERR_NOMEM;
    c->requests--;
    int e = tunnel_adopt(s, p, n, fd);
    if (e < 0) {
        s->moved = true;
        stream_kill(s, e);
        return e;
    }
    c->eof = s->client_eof;
    c->link.io.ready |= IO_READ | IO_WRITE;
    client_h1_tunnel(s);
    return 0;
}

/* ---- events ---- */

/* What TLS has to say is found only by reading: pipelined requests that come to light are kept.
 * Returns as recv() does. */
static ssize_t client_peek_tls(struct client *c)
{
    char *p = c->all->loop->scratch;
    size_t n = c->in_n;
    if (n > CLIENT_READ_HEAD * 4) /* nobody needs so many requests in advance */
        return 0;
    if (n)
        memcpy(p, c->in, n);
    ssize_t r = link_recv(&c->link, p + n, CLIENT_READ_HEAD);
    if (r > 0 && client_keep(c, p, n + (size_t)r) < 0)
        return 0;
    return r == -ERR_AGAIN ? 1 : r;
}

/* The exchange runs and nothing is read: only the client's end matters. */
static void client_watch_end(struct client *c)
{
    char byte;
    if (!(c->link.io.ready & IO_HUP))
        return;
    ssize_t r =
        c->link.tls ? client_peek_tls(c) : recv(c->link.io.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (r > 0 || (r < 0 && errno == EAGAIN)) {
        if (c->link.io.ready & IO_ERR)
            stream_client_failed(c->stream, ERR_CLIENT_CLOSED);
        return;
    }
    c->eof = true;
    if (c->stream->answer_end)
        return; /* only the output is left, and it may still be taken */
    stream_client_failed(c->stream, ERR_CLIENT_CLOSED);
}

static void client_read_linger(struct client *c)
{
    for (int i = 0; i < CLIENT_BUDGET && (c->link.io.ready & IO_READ); i++) {
        ssize_t r = link_recv(&c->link, c->all->loop->scratch, CLIENT_READ_BODY);
        if (r == -ERR_AGAIN)
            return;
        if (r <= 0) {
            client_close(c);
            return;
        }
    }
    if (c->link.io.ready & IO_READ)
        io_again(c->all->loop, &c->link.io);
}

/* False when the connection is gone. */
static bool client_write(struct client *c)
{
    uint32_t unsent = c->link.unsent;
    ssize_t w = outq_flush(&c->out, &c->link);
    if (w < 0) {
        if (c->stream)
            stream_client_failed(c->stream, ERR_CLIENT_CLOSED);
        if (c->state != CLIENT_CLOSED)
            client_close(c);
        return false;
    }
    const uint64_t theirs = (uint64_t)w < c->earlier ? (uint64_t)w : c->earlier;
    counter_add(c->all->ctr, CTR_BYTES_OUT, theirs);
    c->earlier -= (uint32_t)theirs;
    c->bytes_out += (uint64_t)w - theirs;
    if (c->stream)
        c->stream->bytes_out += (uint64_t)w - theirs;
    if (!link_backlog(&c->link, &c->out) && c->pipe && c->stream) {
        uint64_t before = c->bytes_out;
        int e = client_h1_send_pipe(c->stream, c->pipe, c->stream->answer_end);
        if (e < 0) {
            stream_client_failed(c->stream, ERR_CLIENT_CLOSED);
            return false;
        }
        w += (ssize_t)(c->bytes_out - before);
    }
    if (!link_backlog(&c->link, &c->out))
        c->more = false;
    if (client_backed_up(c)) {
        if (w || unsent != c->link.unsent)
            client_rearm(c);
        return true;
    }
    if (c->shut_after) {
        c->shut_after = false;
        (void)c->link.ops->shutdown(&c->link);
    }
    if (c->state == CLIENT_HEAD && !c->head_since_ms && c->requests)
        client_set_state(c, CLIENT_IDLE);
    client_rearm(c);
    if (c->stream)
        stream_drained(c->stream);
    return c->state != CLIENT_CLOSED;
}

static void client_h1_event(struct io *io)
{
    struct client *c = CONTAINER(io, struct client, link.io);
    if ((io->ready & IO_WRITE) && client_backed_up(c) && !client_write(c))
        return;
    switch ((enum client_state)c->state) {
    case CLIENT_IDLE:
    case CLIENT_HEAD:
        client_read_head(c);
        return;
    case CLIENT_EXCHANGE:
        if (client_wanted(c))
            client_read_body(c);
        else
            client_watch_end(c);
        return;
    case CLIENT_TUNNEL:
        client_read_tunnel(c);
        return;
    case CLIENT_LINGER:
        client_read_linger(c);
        return;
    case CLIENT_PROXY:
    case CLIENT_HANDSHAKE:
    case CLIENT_CLOSED:
    case CLIENT__COUNT:
        return;
    }
}

static void client_h1_timer(struct timer *t)
{
    struct client *c = CONTAINER(t, struct client, timer);
    switch ((enum client_state)c->state) {
    case CLIENT_EXCHANGE:
    case CLIENT_TUNNEL:
        if (!c->stream)
            break;
        if (!client_backed_up(c) && !client_wanted(c))
            return; /* left over from a phase that has ended */
        stream_client_failed(c->stream,
                             client_backed_up(c) ? ERR_CLIENT_WRITE_TIME : ERR_CLIENT_BODY_TIME);
        return;
    case CLIENT_HEAD:
        /* Nothing at all came, or is taken: there is nobody to answer. */
        if (c->in_n && !client_backed_up(c)) {
            client_refuse(c, ERR_CLIENT_HEAD_TIME, c->in, c->in_n);
            return;
        }
        break;
    case CLIENT_PROXY:
    case CLIENT_HANDSHAKE:
    case CLIENT_IDLE:
    case CLIENT_LINGER:
    case CLIENT_CLOSED:
    case CLIENT__COUNT:
        break;
    }
    client_close(c);
}

static unsigned client_h1_kill(struct client *c, int err, bool tunnels)
{
    unsigned n = 0;
    if (c->state == CLIENT_TUNNEL && !tunnels)
        return 0;
    if (c->stream) {
        n = 1;
        stream_kill(c->stream, err);
    }
    client_close(c);
    return n;
}

static void client_h1_closed(struct client *c)
{
    if (c->in_process)
        (void)client_flush(c);
    client_body_free(c);
}

static void client_h1_print(const struct client *c, struct json *j, struct buf *out)
{
    client_print_stream(c->stream, j, out);
}

const struct client_proto client_h1_proto = {.name = "h1",
                                             .event = client_h1_event,
                                             .timer = client_h1_timer,
                                             .kill = client_h1_kill,
                                             .closed = client_h1_closed,
                                             .print = client_h1_print};
