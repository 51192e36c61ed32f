/* A tunnel that changes worker; see tunnel.h. */
#include "worker/stream/tunnel.h"

#include "base/clock.h"
#include "base/err.h"
#include "worker/http/h1_head.h"
#include "worker/stream/fetch.h"

#include <string.h>

/* The size is the version: the successor may be another build. Texts follow: series, upstream,
 * server, request id, client address, request head. */
struct tunnel_state {
    uint32_t size;
    uint32_t head_len;
    uint16_t text_len[5];
    uint16_t status;
    uint8_t client_eof, up_eof, tries, reused;
    uint32_t nth;
    int64_t wall_ms;
    uint64_t age_us, queue_us, connect_us, first_us;
    uint64_t bytes_in, bytes_out, body_in, body_out;
};

ssize_t tunnel_describe(const struct stream *s, char *out, size_t cap, int *ret_fd)
{
    const struct up_conn *c = s->conn;
    if (s->state != STREAM_TUNNEL || !c || !c->link.ops->splice ||
        link_backlog(&c->link, &c->out) || c->paused || c->shut_after)
        return -ERR_INVAL;
    const struct slice text[6] = {s->route ? s->route->series : SLICE_NONE,
                                  s->upstream->conf->name,
                                  s->upstream->server[s->server].conf->name,
                                  s->request_id,
                                  s->client_ip,
                                  slice_of(s->req.method_text.p, s->req.head_size)};
    struct tunnel_state t = {.size = sizeof t,
                             .head_len = (uint32_t)text[5].n,
                             .status = s->status,
                             .client_eof = s->client_eof,
                             .up_eof = s->up_eof,
                             .tries = s->tries,
                             .reused = s->reused,
                             .nth = s->nth,
                             .wall_ms = s->wall_ms,
                             .age_us = clock_us() - s->begin_us,
                             .queue_us = s->queue_us,
                             .connect_us = s->connect_us,
                             .first_us = s->first_us,
                             .bytes_in = s->bytes_in,
                             .bytes_out = s->bytes_out,
                             .body_in = s->body_in,
                             .body_out = s->body_out};
    size_t at = sizeof t;
    for (int i = 0; i < 6; i++) {
        if (i < 5 && text[i].n > UINT16_MAX)
            return -ERR_INVAL;
        if (i < 5)
            t.text_len[i] = (uint16_t)text[i].n;
        if (text[i].n > cap - at || at > cap)
            return -ERR_INVAL;
        if (text[i].n)
            memcpy(out + at, text[i].p, text[i].n);
        at += text[i].n;
    }
    memcpy(out, &t, sizeof t);
    *ret_fd = c->link.io.fd;
    return (ssize_t)at;
}

void tunnel_leave(struct stream *s)
{
    io_remove(
        s->env->loop,
        &s->conn->link.io); /* the socket lives on elsewhere and would stay in our epoll set */
    s->moved = true;
    fetch_cancel(s, 0);
    stream_over(s, false);
}

static void tunnel_find(struct stream *s, const struct slice *text)
{
    const struct config *c = s->env->config;
    struct upstreams *us = s->env->upstreams;
    for (size_t i = 0; i < c->nroute && !s->route; i++)
        if (slice_eq(c->route[i]->series, text[0]))
            s->route = c->route[i];
    s->scope = s->route ? &s->route->scope : &c->route[0]->scope;
    s->upstream = &us->removed;
    s->server = 0;
    for (size_t i = 0; i < us->n; i++) {
        if (!slice_eq(us->group[i].conf->name, text[1]))
            continue;
        for (size_t j = 0; j < us->group[i].n; j++)
            if (slice_eq(us->group[i].server[j].conf->name, text[2])) {
                s->upstream = &us->group[i];
                s->server = (int)j;
            }
    }
    if (s->upstream != &us->removed)
        s->entered =
            server_enter(s->env->segment, s->env->slot, s->upstream->server[s->server].id, 0) == 0;
}

static int tunnel_request(struct stream *s, struct slice head)
{
    static struct http_field field[HTTP_FIELDS_MAX];
    const struct h1_limits lim = {
        .max_line = 65536, .max_field = 65536, .max_head = 262144, .max_fields = HTTP_FIELDS_MAX};
    struct slice own = arena_dup(&s->arena, head);
    int e = own.p ? h1_parse_request(own.p, own.n, &lim, field, &s->req) : -ERR_NOMEM;
    if (e < 0)
        return e;
    s->req.field = arena_alloc(&s->arena, sizeof field[0] * (s->req.nfield ? s->req.nfield : 1));
    if (!s->req.field)
        return -ERR_NOMEM;
    memcpy(s->req.field, field, sizeof field[0] * s->req.nfield);
    return 0;
}

static void tunnel_restore(struct stream *s, const struct tunnel_state *t)
{
    s->status = t->status;
    s->client_eof = t->client_eof;
    s->up_eof = t->up_eof;
    s->tries = t->tries;
    s->reused = t->reused;
    s->nth = t->nth;
    s->wall_ms = t->wall_ms;
    s->begin_us = clock_us() - t->age_us;
    s->queue_us = t->queue_us;
    s->connect_us = t->connect_us;
    s->first_us = t->first_us;
    s->bytes_in = t->bytes_in;
    s->bytes_out = t->bytes_out;
    s->body_in = t->body_in;
    s->body_out = t->body_out;
}

int tunnel_adopt(struct stream *s, const char *p, size_t n, int fd)
{
    struct tunnel_state t;
    struct slice text[6];
    if (n < sizeof t)
        return -ERR_PROTO;
    memcpy(&t, p, sizeof t);
    size_t at = sizeof t;
    for (int i = 0; i < 6; i++) {
        size_t len = i < 5 ? t.text_len[i] : t.head_len;
        if (t.size != sizeof t || len > n - at)
            return -ERR_PROTO;
        text[i] = slice_of(p + at, len);
        at += len;
    }
    int e = tunnel_request(s, text[5]);
    if (e < 0)
        return e;
    tunnel_find(s, text);
    tunnel_restore(s, &t);
    s->request_id = arena_dup(&s->arena, text[3]);
    s->client_ip = arena_dup(&s->arena, text[4]);
    s->tried_text = s->upstream->server[s->server].conf->name;
    e = fetch_adopt(s, fd);
    if (e < 0 && s->entered) {
        s->entered = false;
        upstream_done(s->upstream, s->server, 0, 0);
    }
    return e;
}
