/* HTTP/1 towards clients: answers written, the exchange's wishes carried out; see stream_client. */
#include "worker/client/h1.h"

#include "base/clock.h"
#include "base/err.h"

#include <string.h>

#define CLIENT_JOIN  6144u
#define CLIENT_BATCH (64u * 1024u)

/* Answers to requests that came in one piece go out in one piece. Filled while client_process() is
 * at a connection, empty when it is not. */
static char client_batch[CLIENT_BATCH];
static size_t client_batch_n;

static void client_decide_keep(struct client *c, const struct stream *s, struct forward_response *f)
{
    if (f->status < 200) {
        if (f->status == 101)
            c->keep = false;
        if (c->body)
            c->body->since_ms = clock_ms(); /* only now may a client that expects 100 send */
        return;
    }
    const struct clients *cs = c->all;
    c->keep = !s->malformed && s->req.keep_alive && f->framing != HTTP_BODY_CLOSE && c->body_done &&
              !c->eof && (!cs->draining || (cs->handing && c->link.ops->splice)) &&
              c->requests < c->max_requests && !client_aged(c) && !c->peer.plain_on_tls &&
              c->peer.listen->conn.keepalive_timeout;
    f->close = !c->keep;
    f->keep_alive = c->keep && s->req.minor == 0;
}

/* A head of the store, what this answer adds, what the connection does. Returns the pieces. */
static int client_wire_head(const struct stream_wire *w, const struct forward_response *f,
                            struct head_out *h, struct iovec *v)
{
    int k = 0;
    for (size_t i = 0; i < sizeof w->part / sizeof w->part[0]; i++)
        if (w->part[i].n)
            v[k++] = (struct iovec){(void *)(uintptr_t)w->part[i].p, w->part[i].n};
    h->n = w->own.n;
    if (f->close)
        head_add(h, SLICE("Connection: close\r\n"));
    else if (f->keep_alive)
        head_add(h, SLICE("Connection: keep-alive\r\n"));
    head_add(h, SLICE("\r\n"));
    v[k++] = (struct iovec){h->p, h->n};
    return k;
}

static size_t client_size(const struct iovec *v, int k)
{
    size_t total = 0;
    for (int i = 0; i < k; i++)
        total += v[i].iov_len;
    return total;
}

static void client_copy(char *to, const struct iovec *v, int k)
{
    for (int i = 0; i < k; i++) {
        memcpy(to, v[i].iov_base, v[i].iov_len);
        to += v[i].iov_len;
    }
}

/* Small answers go out in one piece: a copy of some KiB costs less than the kernel's work for each
 * further piece. Behind the head that is being written. Returns the bytes; 0: too many. */
static size_t client_join(struct head_out *h, const struct iovec *v, int k, struct iovec *ret)
{
    const size_t total = client_size(v, k), at = (h->n + 63) & ~(size_t)63;
    if (total > CLIENT_JOIN || at + total > h->cap)
        return 0;
    *ret = (struct iovec){h->p + at, total};
    client_copy(h->p + at, v, k);
    return total;
}

/* ---- answers to pipelined requests ---- */

/* A whole answer to those that wait. False: it is too large, or there is no room. */
static bool client_gather(const struct iovec *v, int k, size_t total)
{
    if (total > CLIENT_JOIN || total > CLIENT_BATCH - client_batch_n)
        return false;
    client_copy(client_batch + client_batch_n, v, k);
    client_batch_n += total;
    return true;
}

/* What waits goes out. The last `own` bytes are of the exchange that runs, all others' exchanges
 * are over. Returns as link_send(); *written grows by what went out of its own. */
static int client_flush_own(struct client *c, size_t own, uint64_t *written)
{
    const struct iovec v = {client_batch, client_batch_n};
    const size_t others = client_batch_n - own;
    uint64_t sum = 0;
    client_batch_n = 0;
    const int e = link_send(&c->link, &c->out, &v, 1, &sum);
    const size_t theirs = sum < others ? (size_t)sum : others;
    counter_add(c->all->ctr, CTR_BYTES_OUT, theirs);
    if (e == 1)
        c->earlier += (uint32_t)(others - theirs);
    *written += sum - theirs;
    return e;
}

int client_flush(struct client *c)
{
    uint64_t none = 0;
    return client_batch_n ? client_flush_own(c, 0, &none) : 0;
}

/* The head whole, of the body as much as the link takes at once: the rest stays where it is. */
static int client_send_some(struct client *c, const struct iovec *v, int k, int nhead,
                            uint64_t *written, size_t *taken)
{
    const size_t head = client_size(v, nhead), total = client_size(v, k);
    ssize_t w = outq_left(&c->out) ? -ERR_AGAIN : link_writev(&c->link, v, k);
    if (w < 0 && w != -ERR_AGAIN)
        return (int)w;
    size_t done = w > 0 ? (size_t)w : 0;
    *written += done;
    *taken = done > head ? done - head : 0;
    c->more = done < total && head < total;
    if (done < head) {
        int e = outq_add(&c->out, v, nhead, done);
        if (e < 0)
            return e;
    }
    return c->more || link_backlog(&c->link, &c->out) ? 1 : 0;
}

/* A whole answer while others wait, or will follow: 0 or 1 as send(), negative; -ERR_AGAIN: it goes
 * out alone, and the others have gone. */
static int client_send_batch(struct client *c, const struct iovec *v, int k, bool whole,
                             uint64_t *written)
{
    const bool more = c->follows && c->keep;
    if (!client_batch_n && (!more || link_backlog(&c->link, &c->out)))
        return -ERR_AGAIN;
    const size_t total = client_size(v, k);
    if (!whole || !client_gather(v, k, total)) {
        const int e = client_flush(c);
        return e < 0 ? e : -ERR_AGAIN;
    }
    if (!more)
        return client_flush_own(c, total, written);
    c->stream->bytes_out += total; /* the counter has it when it goes */
    return 0;
}

static int client_h1_send(struct stream *s, const struct stream_out *o)
{
    struct client *c = s->client;
    struct iovec v[8 + STREAM_IOV];
    int k = 0, nhead;
    char size[24];
    struct head_out h = {.p = c->all->loop->scratch_head, .cap = LOOP_SCRATCH};
    if (o->resp || o->wire)
        client_decide_keep(c, s, o->fwd);
    if (o->wire) {
        k = client_wire_head(o->wire, o->fwd, &h, v);
    } else if (o->resp) {
        forward_response_head(&h, o->resp, o->fwd, clock_http_date());
        v[k++] = (struct iovec){h.p, h.n};
    }
    if (h.overflow)
        return -ERR_UP_HEAD_TOO_LARGE;
    nhead = k;
    bool chunked = (o->fwd ? o->fwd->framing : s->fwd.framing) == HTTP_BODY_CHUNKED &&
                   s->state != STREAM_TUNNEL;
    if (o->n) {
        if (chunked)
            v[k++] = (struct iovec){size, h1_chunk_head(size, o->n)};
        if (o->iov)
            for (int i = 0; i < o->niov; i++)
                v[k++] = o->iov[i];
        else
            v[k++] = (struct iovec){(void *)(uintptr_t)o->data, o->n};
    }
    if (chunked) {
        char *tail = h.p + h.n;
        size_t len =
            h1_chunk_tail(tail, LOOP_SCRATCH - h.n, o->n > 0, o->end, o->trailer, o->ntrailer);
        if (len)
            v[k++] = (struct iovec){tail, len};
    }
    uint64_t written = 0;
    struct iovec one;
    int e = c->in_process
                ? client_send_batch(c, v, k, (o->resp || o->wire) && o->end && k, &written)
                : -ERR_AGAIN;
    if (e != -ERR_AGAIN) {
        if (o->taken)
            *o->taken = o->n;
    } else if (o->wire && !chunked && client_join(&h, v, k, &one)) {
        v[0] = one;
        k = 1;
        if (o->taken)
            *o->taken = o->n;
        e = link_send(&c->link, &c->out, v, 1, &written);
    } else if (o->taken && !chunked && k)
        e = client_send_some(c, v, k, nhead, &written, o->taken);
    else
        e = k ? link_send(&c->link, &c->out, v, k, &written)
              : (link_backlog(&c->link, &c->out) ? 1 : 0);
    if (o->taken && chunked)
        *o->taken = o->n;
    c->bytes_out += written;
    s->bytes_out += written;
    if (e == 1)
        client_rearm(c);
    return e;
}

static bool client_h1_can_pipe(const struct stream *s)
{
    const struct client *c = s->client;
    return c->link.ops->splice && !link_backlog(&c->link, &c->out);
}

int client_h1_send_pipe(struct stream *s, struct pipe *p, bool end)
{
    struct client *c = s->client;
    while (p->used) {
        ssize_t w = pipe_drain(p, &c->link, !end);
        if (w == -ERR_AGAIN) {
            c->pipe = p;
            client_rearm(c);
            return 1;
        }
        if (w < 0)
            return (int)w;
        c->bytes_out += (uint64_t)w;
        s->bytes_out += (uint64_t)w;
    }
    c->pipe = NULL;
    return 0;
}

static void client_h1_want_body(struct stream *s)
{
    struct client *c = s->client;
    if (c->body && c->body_done) { /* Content-Length: 0 */
        (void)stream_body(s, NULL, 0, true, NULL, 0);
        return;
    }
    if (c->body)
        c->body->since_ms = clock_ms();
    client_rearm(c);
    /* In the next turn: what lies in `in` and in the socket needs the scratch buffer, which may be
     * in use right now. */
    if (c->in_n || (c->link.io.ready & IO_READ))
        io_again(c->all->loop, &c->link.io);
    else
        stream_body_flush(s); /* a client may wait for 100 before it sends anything */
}

void client_h1_tunnel(struct stream *s)
{
    struct client *c = s->client;
    client_set_state(c, CLIENT_TUNNEL);
    client_body_free(c);
    c->body_done = true;
    client_rearm(c);
    if (c->in_n || (c->link.io.ready & IO_READ))
        io_again(c->all->loop, &c->link.io);
}

static void client_h1_shut(struct stream *s)
{
    struct client *c = s->client;
    if (link_backlog(&c->link, &c->out))
        c->shut_after = true;
    else
        (void)c->link.ops->shutdown(&c->link);
}

const struct stream_client client_h1_ops = {
    .send = client_h1_send,
    .send_pipe = client_h1_send_pipe,
    .can_pipe = client_h1_can_pipe,
    .want_body = client_h1_want_body,
    .tunnel = client_h1_tunnel,
    .shut = client_h1_shut,
    .over = client_h1_over,
};
