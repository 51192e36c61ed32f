/* The attempt at a server: pick, queue, connect or reuse, send, retry, deliver; see fetch.h. */
#include "worker/stream/fetch.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/num.h"
#include "base/panic.h"
#include "worker/stream/cached.h"
#include "worker/stream/https.h"

#include <string.h>

#define FETCH_BACKOFF_MS 25u

static const struct up_events fetch_events;

static struct up_server *fetch_server(const struct stream *s)
{
    return &s->upstream->server[s->server];
}

static void fetch_retrying(struct stream *s, int n)
{
    if (s->retry_counted == (n > 0))
        return;
    s->retry_counted = n > 0;
    _Atomic uint32_t *a = &fetch_server(s)->row->retrying;
    atomic_store_explicit(a, atomic_load_explicit(a, memory_order_relaxed) + (uint32_t)n,
                          memory_order_relaxed);
    gauge_add(s->env->gau, GAU_RETRYING, n);
}

/* Gives the place at the server back, once. */
static void fetch_leave(struct stream *s, int err, unsigned status)
{
    if (!s->entered)
        return;
    s->entered = false;
    fetch_retrying(s, -1);
    upstream_done(s->upstream, s->server, err, status);
}

void fetch_cancel(struct stream *s, int err)
{
    timer_off(&s->timer);
    if (s->upstream)
        upstream_unwait(s->upstream, &s->waiter);
    if (s->conn) {
        up_abort(s->conn);
        s->conn = NULL;
    }
    fetch_leave(s, err, 0);
    s->want_body = false;
}

/* ---- the request head ---- */

static bool fetch_upgrade_allowed(const struct stream *s)
{
    const struct conf_words *w = &s->scope->upgrade;
    if (!s->req.has_upgrade || w->off)
        return false;
    for (size_t i = 0; i < w->n; i++) {
        struct slice rest = s->req.upgrade, item;
        while (slice_next(&rest, ',', &item)) {
            ptrdiff_t slash = slice_chr(item, '/');
            struct slice name = slash < 0 ? item : slice_of(item.p, (size_t)slash);
            if (slice_eq_ci(name, w->v[i]))
                return true;
        }
    }
    return false;
}

/* Host for a server under its own name (RFC 9110 7.2: the port unless it is the scheme's). */
static struct slice fetch_server_host(const struct stream *s)
{
    const struct conf_server *c = fetch_server(s)->conf;
    if (!c->host.n)
        return SLICE("localhost");
    return c->port == (c->tls ? 443 : 80) ? c->host : c->name;
}

/* Trailers are of use to the server only if it knows that they reach the client (RFC 9110 6.5.1);
 * gRPC servers insist. Connection names it for those that answer in HTTP/1.1. */
static void fetch_add_te(struct head_out *o)
{
    if (o->overflow)
        return;
    o->n -= 2;
    head_field(o, SLICE("TE"), SLICE("trailers"));
    head_field(o, SLICE("Connection"), SLICE("TE"));
    head_add(o, SLICE("\r\n"));
}

static int fetch_build_head(struct stream *s)
{
    const struct conf_scope_keys *k = s->scope;
    struct head_out o = {.p = s->env->loop->scratch_head, .cap = LOOP_SCRATCH};
    struct forward_request f = {.client_ip = s->peer->ip,
                                .real_ip =
                                    s->client_ip.p == s->peer->ip.p ? SLICE_NONE : s->client_ip,
                                .scheme = s->peer->scheme,
                                .listen_port = s->peer->listen_port,
                                .trusted = s->peer->trusted,
                                .forwarded = k->forwarded,
                                .via = k->via,
                                .request_id = s->request_id,
                                .keep_alive = true,
                                .framing = s->req.framing,
                                .content_length = s->req.content_length};
    if (slice_eq(k->host_header, SLICE("server")))
        f.host = fetch_server_host(s);
    else if (!slice_eq(k->host_header, SLICE("client")))
        f.host = k->host_header;
    else if (!s->req.authority.n) /* an HTTP/1.0 client need not say; many servers want to know */
        f.host = fetch_server_host(s);
    f.upgrade = s->upgrade;
    f.drop_expect = s->continued;
    https_forward(s, &f);
    struct http_request r = s->req;
    if (s->cached && cached_request(s, &r, &f.target) < 0)
        return -ERR_NOMEM;
    forward_request_head(&o, &r, &f);
    if (s->req.te_trailers && !s->upgrade && fetch_server(s)->protocol != UP_SPEAKS_H1)
        fetch_add_te(&o);
    if (o.overflow)
        return -ERR_HEAD_TOO_LARGE;
    s->out_head = arena_dup(&s->arena, slice_of(o.p, o.n));
    return s->out_head.p ? 0 : -ERR_NOMEM;
}

/* ---- trying ---- */

static void fetch_pick(struct stream *s);

static bool fetch_retry_class(const struct stream *s, int err, unsigned status)
{
    uint32_t on = s->scope->retry.on;
    bool idempotent = http_method_idempotent(s->req.method);
    if (status) {
        uint32_t bit = status == 502   ? CONF_RETRY_502
                       : status == 503 ? CONF_RETRY_503
                       : status == 504 ? CONF_RETRY_504
                                       : 0;
        return (on & bit) && idempotent;
    }
    switch (err_retry(err)) {
    case ERR_RETRY_NEVER:
        return false;
    case ERR_RETRY_ALWAYS:
        return (on & (err == ERR_REUSED_CLOSED ? CONF_RETRY_REUSED : CONF_RETRY_CONNECT)) != 0;
    case ERR_RETRY_IDEMPOTENT:
        return (on & (err == ERR_REUSED_LOST ? CONF_RETRY_REUSED : CONF_RETRY_RESET)) && idempotent;
    }
    return false;
}

/* The connection was at its end, not the server: all requests on an HTTP/2 session then come back
 * at once, and each goes on with another one. The budget is for servers that fail. */
static bool fetch_is_stale(int err)
{
    return err == ERR_REUSED_CLOSED || err == ERR_REUSED_LOST || err == ERR_UP_REFUSED;
}

static bool fetch_may_retry(struct stream *s, int err, unsigned status)
{
    if (s->status || s->no_replay || s->tries > s->scope->retry.tries ||
        !fetch_retry_class(s, err, status))
        return false;
    if (fetch_is_stale(err) || balance_retry_allowed(&s->upstream->balance))
        return true;
    counter_add(s->env->ctr, CTR_UP_RETRY_DENIED, 1);
    return false;
}

/* Has any server not been asked yet? The answer of the last one is better than none. */
static bool fetch_server_left(const struct stream *s)
{
    size_t n = 1; /* the one that is being asked */
    for (size_t i = 0; i < s->upstream->words; i++)
        n += (size_t)__builtin_popcountll(s->tried[i]);
    return n < s->upstream->n;
}

/* Another try: at once the first time, later with a doubling pause. */
static void fetch_again(struct stream *s, int err)
{
    s->fresh = err == ERR_REUSED_CLOSED || err == ERR_REUSED_LOST;
    /* One that refuses a stream may only be changing its connections. */
    if (!s->fresh && (err != ERR_UP_REFUSED || fetch_server_left(s)))
        s->tried[s->server / 64] |= UINT64_C(1) << (s->server % 64);
    counter_add(s->env->ctr, CTR_UP_RETRIES, 1);
    s->reason = err; /* stands if there is no other server to try; cleared by the next connection */
    s->want_body = false;
    if (s->tries < 2) {
        fetch_pick(s);
        return;
    }
    unsigned shift = s->tries - 2u;
    uint64_t ms = (uint64_t)FETCH_BACKOFF_MS << (shift < 6 ? shift : 6);
    ms += s->env->rng[0] % (ms / 2 + 1);
    stream_set_state(s, STREAM_BACKOFF);
    timer_set_at(&s->env->loop->timers, &s->timer, clock_ms() + ms);
}

static void fetch_failed(struct stream *s, int err, unsigned status)
{
    bool retry = fetch_may_retry(s, err, status);
    fetch_leave(s, err, status);
    if (s->state == STREAM_DELIVER || s->state == STREAM_TUNNEL) {
        if (s->cached)
            cached_fill_end(s->cached, false, (uint32_t)err);
        s->reason = err;
        stream_over(s, true);
        return;
    }
    if (err && err_source(err) == ERR_SRC_UPSTREAM && err != ERR_REUSED_CLOSED)
        LOG_INFO("upstream_failed", "upstream %.*s server %.*s: %s; request %.*s%s",
                 SLICE_ARG(s->upstream->conf->name), SLICE_ARG(fetch_server(s)->conf->name),
                 err_reason(err), SLICE_ARG(s->request_id), retry ? "; trying again" : "");
    if (retry)
        fetch_again(s, err);
    else
        stream_error(s, err);
}

static void fetch_note_tried(struct stream *s)
{
    struct slice name = fetch_server(s)->conf->name;
    if (s->tries == 1)
        s->tried_text = name;
    else
        s->tried_text =
            arena_printf(&s->arena, "%.*s, %.*s", SLICE_ARG(s->tried_text), SLICE_ARG(name));
}

/* The connection takes body bytes: those of an earlier try first. */
static void fetch_body_ready(struct stream *s)
{
    if (s->req.framing == HTTP_BODY_NONE)
        return;
    if (s->replay.n || s->body_end) {
        int e = up_send(s->conn, s->replay.p, s->replay.n, s->body_end, NULL, 0);
        if (e < 0) {
            up_abort(s->conn);
            s->conn = NULL;
            fetch_failed(s, -e, 0);
            return;
        }
        if (s->body_end || e == 1)
            return;
    }
    s->want_body = true;
    if (!s->in_begin)
        s->client_ops->want_body(s);
}

static void fetch_connect(struct stream *s)
{
    int e = 0;
    bool idempotent = http_method_idempotent(s->req.method);
    s->tries++;
    fetch_note_tried(s);
    /* Looked at first where dying on the way could not be made good by another try. */
    bool check = !idempotent || s->req.framing != HTTP_BODY_NONE;
    unsigned flags =
        (s->fresh ? UP_FRESH : 0u) | (check ? UP_CHECK : 0u) | (s->upgrade ? UP_HTTP1 : 0u);
    s->conn = up_acquire(fetch_server(s), flags, &e);
    if (s->conn &&
        (!s->out_head.p || !s->req.authority.n || slice_eq(s->scope->host_header, SLICE("server"))))
        e = fetch_build_head(s);
    if (!s->conn || e < 0) {
        if (s->conn)
            up_abort(s->conn);
        s->conn = NULL;
        fetch_failed(s, -e, 0);
        return;
    }
    s->reused = s->conn->reused;
    s->reason = 0;
    stream_set_state(s, STREAM_FETCH);
    struct up_request r = {.head = s->out_head,
                           .method = s->req.method,
                           .framing = s->req.framing,
                           .timeouts = &s->timeouts,
                           .arena = &s->arena,
                           .events = &fetch_events,
                           .user = s};
    e = up_begin(s->conn, &r);
    if (e < 0) {
        up_abort(s->conn);
        s->conn = NULL;
        fetch_failed(s, -e, 0);
    } else if (s->conn && s->conn->state != UP_CONNECTING) {
        fetch_body_ready(s);
    }
}

/* A stay in the queue is over: another try may bring another one, with a time of its own. */
static void fetch_unqueued(struct stream *s)
{
    if (!s->queued_at_us)
        return;
    s->queue_us = (s->queue_us == UINT64_MAX ? 0 : s->queue_us) + clock_us() - s->queued_at_us;
    s->queued_at_us = 0;
}

static void fetch_queue(struct stream *s)
{
    bool again = s->queued_at_us != 0; /* woken in vain */
    s->waiter.picky = s->tries > 0;
    if (upstream_wait(s->upstream, &s->waiter, again) < 0) {
        stream_error(s, ERR_QUEUE_FULL);
        return;
    }
    if (!again) {
        s->queued_at_us = clock_us();
        timer_set_at(&s->env->loop->timers, &s->timer,
                     clock_ms() + s->upstream->conf->k.queue_timeout);
    }
    stream_set_state(s, STREAM_QUEUED);
}

static void fetch_pick(struct stream *s)
{
    bool probe = false;
    stream_set_state(s, STREAM_PICK);
    int i = upstream_pick(s->upstream, s->key_hash, s->tried, &probe);
    if (i == -ERR_QUEUE_FULL) {
        fetch_queue(s);
        return;
    }
    if (i < 0) {
        stream_error(s, s->reason ? s->reason : -i);
        return;
    }
    timer_off(&s->timer);
    fetch_unqueued(s);
    s->server = i;
    s->entered = true;
    if (s->tries)
        fetch_retrying(s, 1);
    fetch_connect(s);
}

/* Calls that stream are silent for as long as they like, before the answer as well. */
static bool fetch_is_grpc(const struct http_request *r)
{
    const struct http_field *f = stream_field(r, FIELD_CONTENT_TYPE);
    const struct slice type = SLICE("application/grpc");
    return f && f->value.n >= type.n && slice_eq_ci(slice_of(f->value.p, type.n), type);
}

void fetch_begin(struct stream *s)
{
    const struct conf_scope_keys *k = s->scope;
    s->upstream = &s->env->upstreams->group[s->route->upstream->id];
    s->key_hash = hash_fixed(s->client_ip.p, s->client_ip.n);
    s->grpc = fetch_is_grpc(&s->req);
    s->timeouts =
        (struct up_timeouts){.connect = k->connect_timeout,
                             .first_byte = s->grpc ? k->tunnel_timeout : k->first_byte_timeout,
                             .read = s->grpc ? k->tunnel_timeout : k->read_timeout,
                             .send = k->send_timeout,
                             .tunnel = k->tunnel_timeout};
    s->upgrade = fetch_upgrade_allowed(s);
    enum conf_uproto proto = s->upstream->conf->k.protocol;
    if (s->upgrade && (proto == CONF_UPROTO_H2 || proto == CONF_UPROTO_H2C)) {
        stream_error(s, ERR_UP_NO_UPGRADE);
        return;
    }
    if (s->upstream->words > 1)
        s->tried = ARENA_ARRAY(&s->arena, uint64_t, s->upstream->words);
    if (!s->tried) {
        stream_error(s, ERR_NOMEM);
        return;
    }
    s->in_begin = true;
    fetch_pick(s);
    s->in_begin = false;
}

void fetch_on_wake(struct up_waiter *w)
{
    struct stream *s = CONTAINER(w, struct stream, waiter);
    fetch_pick(s);
}

void fetch_on_timer(struct timer *t)
{
    struct stream *s = CONTAINER(t, struct stream, timer);
    if (s->state == STREAM_HIT || s->state == STREAM_FOLLOW) {
        cached_on_timer(s);
    } else if (s->state == STREAM_QUEUED) {
        upstream_unwait(s->upstream, &s->waiter);
        fetch_unqueued(s);
        stream_error(s, ERR_QUEUE_TIMEOUT);
    } else if (s->state == STREAM_BACKOFF) {
        fetch_pick(s);
    }
}

/* ---- the request body ---- */

static void fetch_keep_for_replay(struct stream *s, const char *p, size_t n)
{
    if (s->no_replay || s->status)
        return;
    if (s->replay.n + n > STREAM_REPLAY || s->scope->retry.tries == 0) {
        s->no_replay = true;
        buf_fini(&s->replay);
        return;
    }
    buf_add(&s->replay, slice_of(p, n));
    if (s->replay.failed)
        s->no_replay = true;
}

static int fetch_tunnel_in(struct stream *s, const char *p, size_t n, bool end)
{
    int e = n ? up_send(s->conn, p, n, false, NULL, 0) : 0;
    if (n)
        up_rearm(s->conn);
    if (e == 1)
        s->want_body = false;
    if (e < 0) {
        stream_client_failed(s, -e);
        return e;
    }
    if (end || s->conn->send_broken) {
        s->client_eof = true;
        if (s->up_eof) {
            fetch_cancel(s, 0);
            stream_over(s, false);
            return -ERR_EOF;
        }
        up_shutdown(s->conn);
    }
    return e;
}

int stream_body(struct stream *s, const char *p, size_t n, bool end,
                const struct http_field *trailer, size_t ntrailer)
{
    if (s->state == STREAM_DONE)
        return -ERR_EOF;
    const bool taken = s->conn || s->state == STREAM_COLLECT;
    if (!s->want_body || !taken) {
        /* Nobody is there to take them, and the client's side was told so: dropping them would
         * falsify the request. */
        DEBUG_MUST(s->want_body && taken);
        counter_add(s->env->ctr, CTR_IMPOSSIBLE, 1);
        stream_client_failed(s, ERR_INTERNAL);
        return -ERR_INTERNAL;
    }
    s->body_in += n;
    if (s->state == STREAM_TUNNEL)
        return fetch_tunnel_in(s, p, n, end);
    if (s->scope->max_body && s->body_in > s->scope->max_body) {
        stream_client_failed(s, ERR_BODY_TOO_LARGE);
        return -ERR_BODY_TOO_LARGE;
    }
    if (s->state == STREAM_COLLECT)
        return cached_query_body(s, p, n, end);
    fetch_keep_for_replay(s, p, n);
    if (ntrailer)
        s->no_replay = true;
    if (end) {
        s->body_end = true;
        s->want_body = false;
    }
    int e = up_send(s->conn, p, n, end, trailer, ntrailer);
    if (e < 0) {
        stream_client_failed(s, -e);
        return e;
    }
    if (e == 1)
        s->want_body = false;
    return e;
}

void stream_body_flush(struct stream *s)
{
    int e = s->conn ? up_flush(s->conn) : 0;
    if (e < 0)
        stream_client_failed(s, -e);
}

/* ---- the answer ---- */

static void fetch_on_connected(void *user)
{
    fetch_body_ready(user);
}

static void fetch_on_moved(void *user, struct up_conn *to)
{
    struct stream *s = user;
    s->conn = to;
}

static void fetch_on_drained(void *user)
{
    struct stream *s = user;
    if (s->state == STREAM_TUNNEL ? s->client_eof : s->body_end)
        return;
    s->want_body = true;
    s->client_ops->want_body(s);
}

static int fetch_client_gone(struct stream *s)
{
    fetch_cancel(s, ERR_CLIENT_CLOSED);
    if (!s->reason)
        s->reason = ERR_CLIENT_CLOSED;
    stream_over(s, true);
    return -ERR_EOF;
}

static int fetch_on_interim(void *user, const struct http_response *r)
{
    struct stream *s = user;
    if (s->req.minor == 0 || s->status ||
        (r->status == 100 && (!s->req.expect_continue || s->continued)))
        return 0;
    struct forward_response f = {
        .status = r->status, .via = s->scope->via, .framing = HTTP_BODY_NONE};
    struct stream_out o = {.resp = r, .fwd = &f};
    counter_add(s->env->ctr, CTR_RESP_1XX, 1);
    return s->client_ops->send(s, &o) < 0 ? fetch_client_gone(s) : 0;
}

static enum http_framing fetch_client_framing(const struct stream *s, const struct http_response *r)
{
    if (r->framing == HTTP_BODY_NONE || r->framing == HTTP_BODY_LENGTH)
        return r->framing;
    return s->req.minor ? HTTP_BODY_CHUNKED : HTTP_BODY_CLOSE;
}

/* Of the head when the call failed at once ("trailers only"), else of the trailers. */
static void fetch_note_grpc(struct stream *s, const struct http_field *f, size_t n)
{
    uint64_t v;
    for (size_t i = 0; s->grpc && i < n; i++)
        if (f[i].id == FIELD_GRPC_STATUS && num_u64(f[i].value, &v) == 0 && v <= INT16_MAX)
            s->grpc_status = (int)v;
}

static int fetch_on_head(void *user, const struct http_response *r)
{
    struct stream *s = user;
    /* Not asked for, or before the request was complete: what follows would be taken for the
     * tunnel's (RFC 9110 7.8). */
    if (r->status == 101 && (!s->upgrade || (s->req.framing != HTTP_BODY_NONE && !s->body_end))) {
        up_abort(s->conn);
        s->conn = NULL;
        fetch_failed(s, ERR_UP_BAD_HEAD, 0);
        return -ERR_EOF;
    }
    if (r->status >= 502 && r->status <= 504 && fetch_server_left(s) &&
        fetch_may_retry(s, 0, r->status)) {
        up_abort(s->conn);
        s->conn = NULL;
        fetch_leave(s, 0, r->status);
        fetch_again(s, ERR_NO_SERVER);
        return -ERR_EOF;
    }
    s->connect_us = s->conn->connected_us - s->conn->began_us;
    s->first_us = s->conn->sent_us && s->conn->first_us > s->conn->sent_us
                      ? s->conn->first_us - s->conn->sent_us
                      : 0;
    if (s->cached) {
        int e = cached_on_head(s, r);
        if (e)
            return e < 0 ? e : 0;
    }
    s->resp = *r;
    s->have_resp = true;
    s->kept = false;
    s->pending = &s->resp;
    s->fwd = (struct forward_response){.status = r->status,
                                       .via = s->scope->via,
                                       .hide_server = s->scope->server_header == CONF_SRVHDR_HIDE,
                                       .framing = fetch_client_framing(s, r),
                                       .content_length = r->content_length,
                                       .upgrade = r->status == 101 || r->status == 426,
                                       .hsts = https_hsts(s),
                                       .lines = s->cached ? cached_pass_lines(s) : SLICE_NONE};
    s->fwd.write_length =
        r->has_length && s->fwd.framing != HTTP_BODY_CHUNKED && s->fwd.framing != HTTP_BODY_CLOSE;
    s->status = (uint16_t)r->status;
    if (s->env->filter)
        s->env->filter->head(s, &s->resp);
    fetch_note_grpc(s, r->field, r->nfield);
    s->kept = s->conn->head_lasts;
    if (s->req.framing != HTTP_BODY_NONE)
        s->no_replay = true; /* even if this head does not go out after all */
    buf_fini(&s->replay);
    return 0;
}

/* The log may want fields of the answer after this call: keep a copy in the arena. */
static void fetch_keep_head(struct stream *s)
{
    const struct http_response *r = &s->resp;
    struct http_field *f = ARENA_ARRAY(&s->arena, struct http_field, r->nfield ? r->nfield : 1);
    if (!f)
        return;
    for (size_t i = 0; i < r->nfield; i++) {
        f[i] = r->field[i];
        f[i].name = arena_dup(&s->arena, r->field[i].name);
        f[i].value = arena_dup(&s->arena, r->field[i].value);
    }
    s->resp.field = f;
    s->kept = !arena_failed(&s->arena);
}

void fetch_answered(struct stream *s, unsigned status)
{
    struct up_conn *c = s->conn;
    s->conn = NULL;
    s->want_body = false;
    fetch_leave(s, 0, status);
    up_release(c);
}

void fetch_give_up(struct stream *s, unsigned status)
{
    up_abort(s->conn);
    s->conn = NULL;
    s->want_body = false;
    fetch_leave(s, 0, status);
}

void fetch_restart(struct stream *s)
{
    memset(s->tried, 0, s->upstream->words * sizeof *s->tried);
    s->tries = 0;
    s->out_head = SLICE_NONE;
    fetch_pick(s);
}

static int fetch_answer_complete(struct stream *s, int sent)
{
    s->answer_end = true;
    fetch_answered(s, s->status);
    if (sent == 0)
        stream_over(s, false);
    return -ERR_EOF;
}

static int fetch_tunnel_out(struct stream *s, const char *p, size_t n, bool end)
{
    if (n) {
        struct stream_out o = {.data = p, .n = n};
        s->body_out += n;
        int e = s->client_ops->send(s, &o);
        return e < 0 ? fetch_client_gone(s) : e;
    }
    if (end) {
        s->up_eof = true;
        if (s->client_eof) {
            fetch_cancel(s, 0);
            stream_over(s, false);
            return -ERR_EOF;
        }
        s->client_ops->shut(s);
    }
    return 0;
}

static int fetch_tunnel_begin(struct stream *s)
{
    struct stream_out o = {.resp = s->pending, .fwd = &s->fwd};
    fetch_keep_head(s);
    s->pending = NULL;
    if (s->client_ops->send(s, &o) < 0)
        return fetch_client_gone(s);
    stream_set_state(s, STREAM_TUNNEL);
    counter_add(s->env->ctr, CTR_UPGRADES, 1);
    gauge_add(s->env->gau, GAU_TUNNELS, 1);
    s->want_body = true;
    s->client_ops->tunnel(s);
    return s->state == STREAM_DONE ? -ERR_EOF : 0;
}

/* A long body between two plain connections needs no copy: the rest goes through a pipe. */
static void fetch_try_pipe(struct stream *s)
{
    if (s->pipe || s->fwd.framing != HTTP_BODY_LENGTH || !up_spliceable(s->conn) ||
        !s->client_ops->can_pipe(s))
        return;
    s->pipe = pipe_get(&s->env->pipes);
    if (s->pipe)
        (void)up_splice(s->conn, s->pipe);
}

static int fetch_on_data(void *user, const char *p, size_t n, bool end,
                         const struct http_field *trailer, size_t ntrailer)
{
    struct stream *s = user;
    if (cached_takes(s))
        return cached_on_data(s, p, n, end);
    if (s->status == 101) {
        if (s->pending && fetch_tunnel_begin(s) < 0)
            return -ERR_EOF;
        return fetch_tunnel_out(s, p, n, end);
    }
    if (s->state != STREAM_DELIVER)
        stream_set_state(s, STREAM_DELIVER);
    struct stream_out o = {.resp = s->pending,
                           .fwd = s->pending ? &s->fwd : NULL,
                           .data = p,
                           .n = n,
                           .trailer = trailer,
                           .ntrailer = ntrailer,
                           .end = end};
    bool first = s->pending != NULL;
    s->pending = NULL;
    s->body_out += n;
    fetch_note_grpc(s, trailer, ntrailer);
    int e = s->client_ops->send(s, &o);
    if (e < 0)
        return fetch_client_gone(s);
    if (first && end && e == 0)
        s->kept = true; /* logged before this call returns: the slices are still good */
    else if (first && !s->kept && s->scope->access_log.n)
        fetch_keep_head(s);
    if (!end && e == 0)
        fetch_try_pipe(s);
    return end ? fetch_answer_complete(s, e) : e;
}

static int fetch_on_piped(void *user, size_t n, bool end)
{
    struct stream *s = user;
    s->body_out += n;
    int e = s->client_ops->send_pipe(s, s->pipe, end);
    if (e < 0)
        return fetch_client_gone(s);
    return end ? fetch_answer_complete(s, e) : e;
}

static void fetch_on_failed(void *user, int err)
{
    struct stream *s = user;
    s->conn = NULL;
    if (s->pending) {
        /* The head came, but broken with it what follows: nothing of it has reached the client. */
        s->pending = NULL;
        if (s->filter)
            s->env->filter->forget(s);
        s->have_resp = false;
        s->status = 0;
        s->grpc_status = -1;
    }
    fetch_failed(s, err, 0);
}

static const struct up_events fetch_events = {
    .connected = fetch_on_connected,
    .moved = fetch_on_moved,
    .interim = fetch_on_interim,
    .head = fetch_on_head,
    .data = fetch_on_data,
    .piped = fetch_on_piped,
    .drained = fetch_on_drained,
    .failed = fetch_on_failed,
};

int fetch_adopt(struct stream *s, int fd)
{
    const struct conf_scope_keys *k = s->scope;
    s->conn = up_adopt(fetch_server(s), fd);
    if (!s->conn)
        return -ERR_SYS;
    s->timeouts = (struct up_timeouts){
        .read = k->read_timeout, .send = k->send_timeout, .tunnel = k->tunnel_timeout};
    s->upgrade = true;
    s->resp = (struct http_response){.status = s->status, .minor = 1};
    s->fwd = (struct forward_response){.status = s->status, .upgrade = true};
    stream_set_state(s, STREAM_TUNNEL);
    gauge_add(s->env->gau, GAU_TUNNELS, 1);
    s->want_body = true;
    up_take_tunnel(s->conn, &s->timeouts, &fetch_events, s);
    return 0;
}
