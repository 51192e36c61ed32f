/* HTTP/1 from clients: request bodies and the bytes of a tunnel, read as fast as the exchange takes
 * them. */
#include "worker/client/h1.h"

#include "base/clock.h"
#include "base/err.h"

#include <string.h>

#define CLIENT_RATE_AFTER 20000u /* ms before the least rate of a body counts */

bool client_body_slow(struct client_body *b, const struct conf_scope_keys *k)
{
    b->took_ms += clock_ms() - b->since_ms;
    b->since_ms = clock_ms();
    return k && k->body_min_rate && b->took_ms > CLIENT_RATE_AFTER &&
           b->got * 1000 / b->took_ms < k->body_min_rate;
}

/* Gives p[0..n) to the exchange as far as it is body. Returns the bytes used, or negative when the
 * exchange is over. */
static ptrdiff_t client_feed(struct client *c, char *p, size_t n)
{
    struct client_body *b = c->body;
    struct stream *s = c->stream;
    struct http_field trailer[64];
    size_t used = n, data = n;
    int nt = 0;
    bool end = false;
    if (b->framing == HTTP_BODY_LENGTH) {
        used = data = n < b->left ? n : (size_t)b->left;
        b->left -= used;
        end = b->left == 0;
    } else {
        int r = h1_chunk_decode(&b->chunk, &s->arena, p, n, &used, &data);
        if (r == 1) {
            nt = h1_chunk_trailers(&b->chunk, trailer, sizeof trailer / sizeof trailer[0]);
            end = true;
        }
        if (r < 0 || nt < 0) {
            c->keep = false;
            stream_client_failed(s, r < 0 ? r : nt);
            return -ERR_BAD_CHUNK;
        }
    }
    b->got += data;
    if (end)
        c->body_done = true;
    int e = stream_body(s, p, data, end, trailer, (size_t)nt);
    return e < 0 ? e : (ptrdiff_t)used;
}

/* Reads and gives body bytes while the exchange takes them. */
void client_read_body(struct client *c)
{
    struct loop *l = c->all->loop;
    int budget = CLIENT_BUDGET;
    while (c->state == CLIENT_EXCHANGE && client_wanted(c)) {
        char *p = l->scratch;
        size_t n = c->in_n;
        if (n) {
            memcpy(p, c->in, n);
            client_keep(c, NULL, 0);
        } else {
            if (!(c->link.io.ready & IO_READ))
                return;
            if (!budget--) {
                io_again(l, &c->link.io);
                return;
            }
            ssize_t r = link_recv(&c->link, p, CLIENT_READ_BODY);
            if (r == -ERR_AGAIN) {
                stream_body_flush(c->stream);
                return;
            }
            if (r <= 0) {
                c->eof = true;
                stream_client_failed(c->stream, ERR_CLIENT_CLOSED);
                return;
            }
            n = (size_t)r;
            c->bytes_in += n;
            c->stream->bytes_in += n;
        }
        ptrdiff_t used = client_feed(c, p, n);
        if (used < 0)
            return;
        /* With its body the exchange may have had all it needed. */
        if (!c->stream && c->state != CLIENT_IDLE)
            return;
        if ((size_t)used < n && client_keep(c, p + used, n - (size_t)used) < 0) {
            if (c->stream)
                stream_client_failed(c->stream, ERR_NOMEM);
            else
                client_close(c);
            return;
        }
        if (!c->stream) {
            if (c->in_n)
                io_again(l, &c->link.io);
            return;
        }
        if (c->body && !c->body_done && client_body_slow(c->body, client_scope(c))) {
            stream_client_failed(c->stream, ERR_CLIENT_SLOW);
            return;
        }
        client_rearm(c);
    }
}

void client_read_tunnel(struct client *c)
{
    struct loop *l = c->all->loop;
    int budget = CLIENT_BUDGET;
    if (c->eof &&
        (c->link.io.ready & IO_ERR)) { /* it had only finished sending; now it is gone altogether */
        stream_client_failed(c->stream, ERR_CLIENT_CLOSED);
        return;
    }
    while (c->state == CLIENT_TUNNEL && client_wanted(c)) {
        char *p = l->scratch;
        size_t n = c->in_n;
        bool end = false;
        if (n) {
            memcpy(p, c->in, n);
            client_keep(c, NULL, 0);
        } else {
            if (!(c->link.io.ready & IO_READ))
                return;
            if (!budget--) {
                io_again(l, &c->link.io);
                return;
            }
            ssize_t r = link_recv(&c->link, p, CLIENT_READ_BODY);
            if (r == -ERR_AGAIN)
                return;
            if (r < 0) {
                stream_client_failed(c->stream, ERR_CLIENT_CLOSED);
                return;
            }
            end = r == 0;
            n = (size_t)r;
            c->bytes_in += n;
            c->stream->bytes_in += n;
            c->eof = end;
        }
        if (stream_body(c->stream, p, n, end, NULL, 0) < 0)
            return;
    }
}

/* After stream_begin(): body bytes that came with the head. Returns the bytes used. */
size_t client_first_body(struct client *c, char *p, size_t n)
{
    struct stream *s = c->stream;
    if (!c->body || !stream_wants_body(s))
        return 0;
    ptrdiff_t used = 0;
    if (n || c->body_done) {
        bool empty = c->body_done;
        if (empty)
            stream_body(s, p, 0, true, NULL, 0);
        else
            used = client_feed(c, p, n);
    } else {
        stream_body_flush(s);
    }
    if (c->stream == s) {
        client_rearm(c);
        /* The read of the head may have filled its buffer: no edge will tell of the rest. */
        if (client_wanted(c) && (c->link.io.ready & IO_READ))
            io_again(c->all->loop, &c->link.io);
    }
    return used > 0 ? (size_t)used : 0;
}
