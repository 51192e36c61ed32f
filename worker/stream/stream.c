/* The life of an exchange: begin, route, own answers, the end; see stream.h. The attempt at servers
 * is fetch.c. */
#include "worker/stream/stream.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/num.h"
#include "base/panic.h"
#include "shm/metrics.h"
#include "worker/http/uri.h"
#include "worker/stream/cached.h"
#include "worker/stream/fetch.h"
#include "worker/stream/https.h"
#include "worker/stream/synth.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define STREAM_ARENA_LIMIT (1u << 20)
#define STREAM_VIA_LOOPS   8u

static const char *const stream_state_names[] = {
#define X(n) [STREAM_##n] = #n,
    STREAM_STATES(X)
#undef X
};

const char *stream_state_name(enum stream_state st)
{
    return (unsigned)st < STREAM__COUNT ? stream_state_names[st] : "?";
}

int stream_env_init(struct stream_env *e)
{
    pool_init(&e->pool, "streams", sizeof(struct stream));
    pipes_init(&e->pipes);
    list_init(&e->all);
    if (getrandom(e->rng, sizeof e->rng, 0) != sizeof e->rng)
        return -ERR_SYS;
    size_t n = e->config->nroute ? e->config->nroute : 1;
    e->series = calloc(n, sizeof *e->series);
    return e->series ? https_init(e) : -ERR_NOMEM;
}

void stream_env_fini(struct stream_env *e)
{
    pipes_fini(&e->pipes);
    https_fini(e);
    free(e->series);
    e->series = NULL;
}

struct stream *stream_new(struct stream_env *e, const struct stream_client *ops, void *client,
                          const struct stream_peer *peer, uint32_t nth)
{
    struct stream *s = pool_get_raw(&e->pool);
    if (!s) {
        counter_add(e->ctr, CTR_NOMEM, 1);
        return NULL;
    }
    memset(s, 0, offsetof(struct stream, inline_mem));
    arena_init(&s->arena, s->inline_mem, sizeof s->inline_mem, STREAM_ARENA_LIMIT);
    s->env = e;
    s->client_ops = ops;
    s->client = client;
    s->peer = peer;
    s->client_ip = peer->ip;
    s->nth = nth;
    s->server = -1;
    s->grpc_status = -1;
    s->begin_us = clock_us();
    s->wall_ms = clock_cached.wall_ms;
    s->queue_us = s->connect_us = s->first_us = UINT64_MAX;
    timer_init(&s->timer, fetch_on_timer);
    list_init(&s->waiter.link);
    s->waiter.wake = fetch_on_wake;
    s->tried = &s->tried_word;
    buf_init(&s->replay, STREAM_REPLAY);
    list_append(&e->all, &s->all);
    gauge_add(e->gau, GAU_STREAMS, 1);
    return s;
}

/* Bit t of row f: the step f -> t is legal. */
#define STEP(n) (1u << STREAM_##n)
static const uint16_t stream_steps[STREAM__COUNT] = {
    [STREAM_ROUTE] = STEP(COLLECT) | STEP(HIT) | STEP(FOLLOW) | STEP(PICK) | STEP(TUNNEL) |
                     STEP(SYNTH) | STEP(DONE),
    [STREAM_COLLECT] = STEP(HIT) | STEP(FOLLOW) | STEP(PICK) | STEP(SYNTH) | STEP(DONE),
    [STREAM_HIT] = STEP(HIT) | STEP(FOLLOW) | STEP(PICK) | STEP(SYNTH) | STEP(DONE),
    [STREAM_FOLLOW] = STEP(FOLLOW) | STEP(HIT) | STEP(PICK) | STEP(SYNTH) | STEP(DONE),
    [STREAM_PICK] = STEP(PICK) | STEP(QUEUED) | STEP(BACKOFF) | STEP(FETCH) | STEP(HIT) |
                    STEP(SYNTH) | STEP(DONE),
    [STREAM_QUEUED] = STEP(PICK) | STEP(HIT) | STEP(SYNTH) | STEP(DONE),
    [STREAM_BACKOFF] = STEP(PICK) | STEP(HIT) | STEP(SYNTH) | STEP(DONE),
    [STREAM_FETCH] = STEP(PICK) | STEP(BACKOFF) | STEP(DELIVER) | STEP(HIT) | STEP(TUNNEL) |
                     STEP(SYNTH) | STEP(DONE),
    [STREAM_DELIVER] = STEP(DONE),
    [STREAM_TUNNEL] = STEP(DONE),
    [STREAM_SYNTH] = STEP(DONE),
};
#undef STEP

void stream_set_state(struct stream *s, enum stream_state st)
{
    DEBUG_MUST(stream_steps[s->state] >> st & 1u);
    s->state = (uint8_t)st;
}

static uint64_t stream_random(struct stream_env *e)
{
    /* xorshift128+ (Vigna 2014): ids must be unique, not secret. */
    uint64_t a = e->rng[0], b = e->rng[1];
    e->rng[0] = b;
    a ^= a << 23;
    e->rng[1] = a ^ b ^ (a >> 18) ^ (b >> 5);
    return e->rng[1] + b;
}

/* Eight hexadecimal digits, all at once: a digit per byte, then those above 9 moved to the letters.
 */
static void stream_hex(char out[8], uint32_t v)
{
    const uint64_t each = 0x0101010101010101u;
    uint64_t x = v;
    x = (x | x << 16) & 0x0000ffff0000ffffu;
    x = (x | x << 8) & 0x00ff00ff00ff00ffu;
    x = (x | x << 4) & 0x0f0f0f0f0f0f0f0fu;
    x += each * '0' + ((x + each * 6) >> 4 & each) * ('a' - '0' - 10);
    memcpy(out, &x, 8);
}

static void stream_make_id(struct stream *s)
{
    char *p = arena_bytes(&s->arena, 32);
    if (!p)
        return;
    for (int w = 0; w < 4; w += 2) {
        const uint64_t v = stream_random(s->env);
        stream_hex(p + 8 * w, (uint32_t)v);
        stream_hex(p + 8 * w + 8, (uint32_t)(v >> 32));
    }
    s->request_id = slice_of(p, 32);
}

const struct http_field *stream_field(const struct http_request *r, enum http_field_id id)
{
    for (size_t i = 0; i < r->nfield; i++)
        if (r->field[i].id == id)
            return &r->field[i];
    return NULL;
}

/* An id that others made is kept only when it cannot harm a log: 1 to 128 visible characters
 * without quotes. */
static bool stream_id_fit(struct slice v)
{
    if (!v.n || v.n > 128)
        return false;
    for (size_t i = 0; i < v.n; i++)
        if (v.p[i] <= ' ' || v.p[i] > '~' || v.p[i] == '"' || v.p[i] == '\\')
            return false;
    return true;
}

static void stream_identify(struct stream *s)
{
    enum conf_reqid mode = s->scope ? s->scope->request_id : CONF_REQID_TRUSTED;
    if (mode == CONF_REQID_OFF)
        return;
    if (!s->malformed &&
        (mode == CONF_REQID_KEEP || (mode == CONF_REQID_TRUSTED && s->peer->trusted))) {
        const struct http_field *f = stream_field(&s->req, FIELD_X_REQUEST_ID);
        if (f && stream_id_fit(f->value)) {
            s->request_id = f->value;
            return;
        }
    }
    stream_make_id(s);
}

/* ---- the end ---- */

static struct series_row *stream_series(struct stream *s)
{
    struct stream_env *e = s->env;
    if (!s->route)
        return series_row(e->segment, e->slot, 0);
    struct series_row **r = &e->series[s->route->id];
    if (!*r)
        *r = series_row(e->segment, e->slot, e->series_id[s->route->id]);
    return *r;
}

static void stream_add(_Atomic uint64_t *a, uint64_t n)
{
    atomic_store_explicit(a, atomic_load_explicit(a, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

static void stream_count_cached(const struct cached *c, struct series_row *r)
{
    static const int8_t of[CACHED_WAS__COUNT] = {
        [CACHED_WAS_NONE] = -1,
        [CACHED_WAS_HIT] = SERIES_CACHE_HITS,
        [CACHED_WAS_MISS] = SERIES_CACHE_MISSES,
        [CACHED_WAS_STALE] = SERIES_CACHE_STALE,
        [CACHED_WAS_REVALIDATED] = SERIES_CACHE_REVALIDATED,
        [CACHED_WAS_COLLAPSED] = SERIES_CACHE_COLLAPSED,
        [CACHED_WAS_BYPASS] = -1,
        [CACHED_WAS_PASS] = SERIES_CACHE_MISSES,
    };
    if (of[c->word] >= 0)
        stream_add(&r->cache[of[c->word]], 1);
    if (c->bytes)
        stream_add(&r->cache[SERIES_CACHE_BYTES], c->bytes);
}

static void stream_count(struct stream *s)
{
    struct series_row *r = stream_series(s);
    unsigned class = s->status / 100;
    stream_add(&r->requests, 1);
    stream_add(&r->status[class < 6 ? class : 0], 1);
    stream_add(&r->bytes_in, s->bytes_in);
    stream_add(&r->bytes_out, s->bytes_out);
    if (s->cached)
        stream_count_cached(s->cached, r);
    hist_add(&r->total, s->end_us);
    if (s->malformed || (s->reason && !s->tries && err_source(s->reason) == ERR_SRC_CLIENT))
        counter_add(s->env->ctr, CTR_BAD_REQUESTS, 1);
    if (s->reason == ERR_NOMEM)
        counter_add(s->env->ctr, CTR_NOMEM, 1);
}

void stream_settle(struct stream *s)
{
    s->end_us = clock_us() - s->begin_us;
    stream_count(s);
    s->env->log(s);
    s->settled = true;
    s->env->nsettled++;
}

void stream_over(struct stream *s, bool cut)
{
    struct stream_env *e = s->env;
    if (s->state == STREAM_DONE)
        return;
    if (s->state == STREAM_TUNNEL)
        gauge_add(e->gau, GAU_TUNNELS, -1);
    stream_set_state(s, STREAM_DONE);
    if (s->cached)
        cached_end(s);
    if (s->settled) {
        e->nsettled--;
    } else if (!s->moved) {
        s->end_us = clock_us() - s->begin_us;
        stream_count(s);
        e->log(s);
    }
    gauge_add(e->gau, GAU_STREAMS, -1);
    list_remove(&s->all);
    timer_stop(&s->timer);
    buf_fini(&s->replay);
    s->client_ops->over(s, cut);
    pipe_put(&e->pipes, s->pipe);
    arena_fini(&s->arena);
    loop_bury_soon(e->loop, &s->corpse, s, &e->pool);
}

void stream_kill(struct stream *s, int err)
{
    if (s->state == STREAM_DONE)
        return;
    s->reason = err;
    fetch_cancel(s, err);
    stream_over(s, true);
}

/* ---- own answers ---- */

static bool stream_add_field(struct stream *s, struct http_response *r, struct slice name,
                             struct slice value, size_t max)
{
    if (r->nfield >= max || !value.p)
        return false;
    r->field[r->nfield++] =
        (struct http_field){.name = name, .value = value, .id = http_field_id_of(name)};
    (void)s;
    return true;
}

/* Sends a complete answer of our own. location and allow may be empty. */
static void stream_synth(struct stream *s, unsigned status, struct slice type, struct slice body,
                         struct slice location, struct slice allow)
{
    enum { MAX = 8 };
    struct http_response *r = &s->resp;
    bool bodiless = status == 204 || status == 304;
    *r = (struct http_response){
        .status = status, .reason = http_status_text(status), .minor = 1, .has_length = true};
    r->field = ARENA_ARRAY(&s->arena, struct http_field, MAX);
    if (!r->field) {
        stream_over(s, true);
        return;
    }
    r->content_length = bodiless ? 0 : body.n;
    if (body.n && !bodiless)
        stream_add_field(s, r, SLICE("Content-Type"), type, MAX);
    if (location.n)
        stream_add_field(s, r, SLICE("Location"), location, MAX);
    if (allow.n)
        stream_add_field(s, r, SLICE("Allow"), allow, MAX);
    if (status == 503)
        stream_add_field(s, r, SLICE("Retry-After"), SLICE("5"), MAX);
    if (s->reason)
        stream_add_field(s, r, SLICE("Cache-Control"), SLICE("no-store"), MAX);
    s->fwd = (struct forward_response){.status = status,
                                       .framing = bodiless ? HTTP_BODY_NONE : HTTP_BODY_LENGTH,
                                       .write_length = !bodiless,
                                       .content_length = body.n,
                                       .request_id = s->request_id,
                                       .hsts = https_hsts(s),
                                       .lines = s->cached ? cached_pass_lines(s) : SLICE_NONE};
    s->have_resp = true;
    s->kept = true;
    s->status = (uint16_t)status;
    stream_set_state(s, STREAM_SYNTH);
    bool no_body = bodiless || (!s->malformed && s->req.method == HTTP_HEAD);
    if (no_body)
        s->fwd.framing = HTTP_BODY_NONE;
    if (s->env->filter)
        s->env->filter->head(s, r);
    struct stream_out o = {
        .resp = r, .fwd = &s->fwd, .data = body.p, .n = no_body ? 0 : body.n, .end = true};
    s->body_out = o.n;
    s->answer_end = true;
    s->want_body = false;
    int e = s->client_ops->send(s, &o);
    if (e == 1)
        return; /* stream_drained() ends it */
    if (e < 0 && !s->reason)
        s->reason = ERR_CLIENT_CLOSED;
    stream_over(s, e < 0);
}

void stream_plain(struct stream *s, unsigned status, struct slice type, struct slice body)
{
    stream_synth(s, status, type, body, SLICE_NONE, SLICE_NONE);
}

void stream_error(struct stream *s, int err)
{
    if (s->cached && cached_on_error(s, err))
        return;
    int status = err_status(err);
    s->reason = err < 0 ? -err : err;
    if (!status || s->status) {
        stream_over(s, true);
        return;
    }
    struct slice type = SLICE_NONE, body = SLICE_NONE;
    /* Without a route the pages of [defaults] are everybody's. */
    const struct conf_scope_keys *scope = s->scope ? s->scope : &s->env->config->defaults;
    if (synth_error(&s->arena, scope, (unsigned)status, s->reason, s->request_id, false, &type,
                    &body) < 0) {
        stream_over(s, true);
        return;
    }
    stream_synth(s, (unsigned)status, type, body, SLICE_NONE, SLICE_NONE);
}

void stream_refuse(struct stream *s, int err)
{
    s->malformed = true;
    s->scope = NULL;
    stream_identify(s);
    stream_error(s, err);
}

static void stream_metrics(struct stream *s)
{
    struct buf b;
    buf_init(&b, 64u << 20);
    int e = metrics_render(s->env->segment, clock_ms(), &b);
    if (e < 0 || b.failed) {
        buf_fini(&b);
        stream_error(s, ERR_NOMEM);
        return;
    }
    stream_synth(s, 200, SLICE("text/plain; version=0.0.4; charset=utf-8"), buf_slice(&b),
                 SLICE_NONE, SLICE_NONE);
    buf_fini(&b); /* what the kernel did not take was copied */
}

/* ---- begin ---- */

/* The client's address as a trusted chain conveys it. */
static void stream_find_client(struct stream *s)
{
    const struct conf_cidrs *t = &s->env->config->global.trusted_proxies;
    struct slice ip;
    if (s->peer->trusted && forward_client_of(&s->req, t->v, t->n, &ip))
        s->client_ip = ip;
}

static int stream_route(struct stream *s, struct slice *ret_allow)
{
    char host[256];
    struct slice path;
    int n = s->req.host.n ? uri_host_lower(s->req.host, host, sizeof host)
                          : 0; /* HTTP/1.0 may have none */
    if (n < 0)
        return n;
    int e = s->req.form == HTTP_TARGET_ASTERISK ? 0 : uri_normalize(s->req.path, &s->arena, &path);
    if (e < 0)
        return e;
    if (s->req.form == HTTP_TARGET_ASTERISK)
        path = SLICE("*");
    struct route_query q = {.listen = s->peer->listen,
                            .host = slice_of(host, (size_t)n),
                            .path = path,
                            .method = s->req.method_text};
    e = route_find(s->env->routes, &q, &s->route, ret_allow);
    if (s->route)
        s->scope = &s->route->scope;
    return e;
}

static void stream_return(struct stream *s)
{
    const struct conf_return *r = &s->route->k.return_;
    struct slice type = SLICE_NONE, body = SLICE_NONE, location = SLICE_NONE;
    struct synth_request q = {.host = s->req.authority,
                              .path = s->req.path,
                              .query = s->req.query,
                              .has_query = s->req.has_query,
                              .scheme = s->peer->scheme};
    int e = synth_return(&s->arena, r, &q, &location, &body, &type);
    if (e < 0) {
        stream_error(s, -e);
        return;
    }
    if (!body.n && !location.n && r->status >= 400) {
        /* A bare status answers like an error of ours, custom page included. */
        if (synth_error(&s->arena, s->scope, r->status, 0, s->request_id, false, &type, &body) <
            0) {
            stream_error(s, ERR_NOMEM);
            return;
        }
    }
    stream_synth(s, r->status, type, body, location, SLICE_NONE);
}

/* RFC 9110 7.6.2: at 0 the request has reached its last recipient, which is us; else one less is
 * left. TRACE never comes here. Returns true when it was answered. */
static bool stream_max_forwards(struct stream *s)
{
    uint64_t n;
    for (size_t i = 0; s->req.method == HTTP_OPTIONS && i < s->req.nfield; i++) {
        struct http_field *f = &s->req.field[i];
        if (f->id != FIELD_MAX_FORWARDS || num_u64(f->value, &n) < 0)
            continue;
        if (n == 0) {
            stream_synth(s, 200, SLICE_NONE, SLICE_NONE, SLICE_NONE,
                         SLICE("GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"));
            return true;
        }
        f->value = arena_printf(&s->arena, "%llu", (unsigned long long)n - 1);
    }
    return false;
}

static int stream_check(struct stream *s)
{
    if (s->scope->max_body && s->req.framing == HTTP_BODY_LENGTH &&
        s->req.content_length > s->scope->max_body)
        return -ERR_BODY_TOO_LARGE;
    if (forward_via_count(&s->req) >= STREAM_VIA_LOOPS)
        return -ERR_LOOP;
    return https_check(s);
}

/* True when the answer was that the request belongs to https. */
static bool stream_to_https(struct stream *s, int *ret_err)
{
    struct slice location;
    int e = https_redirect(s, &location);
    if (e > 0)
        stream_synth(s, (unsigned)e, SLICE_NONE, SLICE_NONE, location, SLICE_NONE);
    else
        *ret_err = e;
    return e > 0;
}

void stream_begin(struct stream *s)
{
    struct slice allow = SLICE_NONE;
    counter_add(s->env->ctr, CTR_REQUESTS, 1);
    stream_find_client(s);
    int e = stream_route(s, &allow);
    stream_identify(s);
    int to_https = 0;
    if (stream_to_https(s, &to_https))
        return;
    if (to_https < 0)
        e = to_https;
    if (e == -ERR_METHOD_REFUSED) {
        struct slice type, body;
        s->reason = ERR_METHOD_REFUSED;
        if (synth_error(&s->arena, s->scope, 405, s->reason, s->request_id, false, &type, &body) ==
            0) {
            stream_synth(s, 405, type, body, SLICE_NONE, arena_dup(&s->arena, allow));
            return;
        }
        e = -ERR_NOMEM;
    }
    if (e == 0 && stream_max_forwards(s))
        return;
    if (e == 0)
        e = stream_check(s);
    if (e == 0 && arena_failed(&s->arena))
        e = -ERR_NOMEM;
    if (e < 0) {
        stream_error(s, -e);
        return;
    }
    if (s->route->k.return_.status)
        stream_return(s);
    else if (s->route->k.metrics)
        stream_metrics(s);
    else if (!s->route->upstream)
        stream_error(s, ERR_NO_ROUTE);
    else if (!s->scope->cache || !cached_begin(s))
        fetch_begin(s);
}

/* ---- the client's side ---- */

void stream_drained(struct stream *s)
{
    if (s->state == STREAM_DONE)
        return;
    if (s->answer_end && cached_outlives(s))
        cached_detach(s, 0);
    else if (s->answer_end)
        stream_over(s, false);
    else if (cached_reading(s))
        cached_pump(s);
    else if (s->conn)
        up_resume(s->conn);
}

void stream_client_failed(struct stream *s, int err)
{
    if (s->state == STREAM_DONE)
        return;
    err = err < 0 ? -err : err;
    if (s->answer_end && s->state != STREAM_TUNNEL && err_status(err)) {
        /* The answer stands already; what is wrong with the rest of the request only ends the
         * connection. */
        return;
    }
    if (cached_outlives(s)) {
        cached_detach(s, err);
        return;
    }
    fetch_cancel(s, err);
    if (s->reason == 0)
        s->reason = err;
    if (s->status || !err_status(err))
        stream_over(s, true);
    else
        stream_error(s, err);
}
