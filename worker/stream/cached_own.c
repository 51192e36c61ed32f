/* Exchanges that go on for the cache alone, and what takes answers out of it; see cached.h. */
#include "base/clock.h"
#include "base/err.h"
#include "base/panic.h"
#include "shm/cache_meta.h"
#include "worker/http/h2_head.h"
#include "worker/http/uri.h"
#include "worker/stream/cached.h"
#include "worker/stream/fetch.h"

#include <string.h>

/* What is still to come of an object whose client has gone, and is fetched all the same. */
#define CACHED_FINISH (1u << 20)

/* ---- a client that is nobody ---- */

static int nobody_send(struct stream *s, const struct stream_out *o)
{
    (void)s;
    if (o->taken)
        *o->taken = o->n;
    return 0;
}

static void nobody_nothing(struct stream *s)
{
    (void)s;
}

static int nobody_pipe(struct stream *s, struct pipe *p, bool end)
{
    (void)s;
    (void)p;
    (void)end;
    return -ERR_INVAL;
}

static bool nobody_can_pipe(const struct stream *s)
{
    (void)s;
    return false;
}

static void nobody_over(struct stream *s, bool cut)
{
    (void)s;
    (void)cut;
}

static const struct stream_client cached_nobody = {.send = nobody_send,
                                                   .want_body = nobody_nothing,
                                                   .send_pipe = nobody_pipe,
                                                   .can_pipe = nobody_can_pipe,
                                                   .tunnel = nobody_nothing,
                                                   .shut = nobody_nothing,
                                                   .over = nobody_over};

/* A copy of the peer that outlives its connection; NULL: no memory. */
static const struct stream_peer *cached_peer(const struct stream_peer *p, struct arena *a)
{
    static const struct link none = {.io = {.fd = -1}, .ops = &link_plain};
    struct stream_peer *own = ARENA_NEW(a, struct stream_peer);
    if (!own)
        return NULL;
    *own = *p;
    own->ip = arena_dup(a, p->ip);
    own->scheme = arena_dup(a, p->scheme);
    own->link = &none;
    return arena_failed(a) ? NULL : own;
}

/* ---- going on without the client ---- */

bool cached_outlives(const struct stream *s)
{
    const struct cached *c = s->cached;
    if (!c || s->settled || !c->filling || !s->upstream || s->state == STREAM_DONE ||
        (c->verdict != CACHED_STORE && c->verdict != CACHED_RESUME && s->state == STREAM_DELIVER))
        return false;
    if (c->open && cache_fill_followed(c->store->w, &c->fill))
        return true;
    if (c->verdict != CACHED_STORE)
        return false;
    if (s->answer_end)
        return true;
    const uint64_t has = c->fill.size - c->fill.lead;
    return c->fill.expect != CACHE_UNKNOWN && c->fill.expect - has <= CACHED_FINISH;
}

void cached_detach(struct stream *s, int err)
{
    struct cached *c = s->cached;
    const struct stream_client *ops = s->client_ops;
    const struct stream_peer *peer = cached_peer(s->peer, &s->arena);
    if (!peer) {
        stream_kill(s, ERR_NOMEM);
        return;
    }
    const bool same = s->client_ip.p == s->peer->ip.p;
    s->client_ip = same ? peer->ip : arena_dup(&s->arena, s->client_ip);
    if (err && !s->reason)
        s->reason = err;
    stream_settle(s);
    c->reading = false;
    cached_copy_end(c);
    if (c->hit.word)
        cache_release(c->store->w, &c->hit);
    if (c->following)
        cache_follow_leave(c->store->w, &c->follow);
    c->following = false;
    ops->over(s, err != 0);
    s->reason = 0;
    s->client_ops = &cached_nobody;
    s->client = NULL;
    s->peer = peer;
    s->answer_end = false;
}

void cached_background(struct stream *s)
{
    struct stream_env *e = s->env;
    struct cached *c = s->cached, *n;
    struct cache_follow follow;
    struct cache_fill fill;
    if (s->settled)
        return;
    const struct cache_scope scope = cached_scope(c);
    switch (cache_claim(c->store->w, &c->key, &scope, c->hit.version, &fill, &follow)) {
    case CACHE_FOLLOW:
        cache_follow_leave(c->store->w, &follow);
        return;
    case CACHE_AGAIN:
    case CACHE_ALONE:
        return;
    case CACHE_LEAD:
        break;
    }
    struct stored st;
    struct stream *b = stream_new(e, &cached_nobody, NULL, s->peer, 0);
    n = b ? ARENA_NEW(&b->arena, struct cached) : NULL;
    if (!n || h2_head_keep(&b->arena, &s->req, &b->req) < 0 ||
        !(b->peer = cached_peer(s->peer, &b->arena)) ||
        stored_read(c->hit.meta, &c->hit.attr, &st) < 0) {
        cache_fill_abort(c->store->w, &fill, false, CACHED_RETRY);
        if (b) {
            b->settled = true;
            e->nsettled++;
            stream_kill(b, ERR_NOMEM);
        }
        return;
    }
    b->settled = true;
    e->nsettled++;
    b->cached = n;
    b->route = s->route;
    b->scope = s->scope;
    b->client_ip =
        s->client_ip.p == s->peer->ip.p ? b->peer->ip : arena_dup(&b->arena, s->client_ip);
    b->request_id = arena_dup(&b->arena, s->request_id);
    if (s->req.method == HTTP_QUERY) {
        buf_add(&b->replay, buf_slice(&s->replay));
        b->body_end = true;
        b->continued = true; /* nobody is there to be told */
    } else {
        b->req.method = HTTP_GET;
        b->req.method_text = SLICE("GET");
    }
    n->s = b;
    n->store = c->store;
    n->rules = c->rules;
    cache_waiter_init(&n->waiter, cached_on_wake);
    policy_request(n->rules, &b->req, &n->q);
    n->q.conditions = 0;
    n->q.range = false;
    n->primary = c->primary;
    n->key = c->key;
    n->vary_known = c->vary_known;
    n->target = c->target;
    n->target.scheme = b->peer->scheme;
    n->target.host = b->req.authority;
    n->target.path = b->req.path;
    n->target.query = c->target.query.p ? arena_dup(&b->arena, c->target.query) : SLICE_NONE;
    n->target_text = c->target_text.p ? arena_dup(&b->arena, c->target_text) : SLICE_NONE;
    n->seen = c->hit.version;
    n->fill = fill;
    n->filling = n->open = true;
    if (!(st.policy.flags & POLICY_VALIDATOR) || stored_parse(&st, &b->arena, &n->old) < 0)
        n->old.field = NULL;
    if (arena_failed(&b->arena) || b->replay.failed)
        stream_kill(b, ERR_NOMEM);
    else
        cached_fetch(b);
}

void cached_drop_all(struct stream_env *e)
{
    LIST_EACH_SAFE(it, tmp, &e->all)
    {
        struct stream *s = CONTAINER(it, struct stream, all);
        if (s->settled)
            stream_kill(s, ERR_DRAINED);
    }
}

/* ---- taking out ---- */

/* Length first, then all bytes: says nothing of how many were right. */
static bool cached_token_eq(struct slice a, struct slice b)
{
    unsigned char d = 0;
    if (a.n != b.n)
        return false;
    for (size_t i = 0; i < a.n; i++)
        d |= (unsigned char)(a.p[i] ^ b.p[i]);
    return d == 0;
}

static bool cached_may_purge(const struct stream *s, const struct conf_cache_keys *k)
{
    const struct slice bearer = SLICE("Bearer ");
    union addr a;
    for (size_t i = 0; k->purge_token.n && i < s->req.nfield; i++) {
        const struct slice v = s->req.field[i].value;
        if (s->req.field[i].id == FIELD_AUTHORIZATION && v.n > bearer.n &&
            slice_eq_ci(slice_of(v.p, bearer.n), bearer) &&
            cached_token_eq(slice_of(v.p + bearer.n, v.n - bearer.n), k->purge_token))
            return true;
    }
    return k->purge_from.n && addr_parse_ip(s->client_ip, &a) == 0 &&
           cidr_match_any(k->purge_from.v, k->purge_from.n, &a.sa);
}

/* All that stands under a URL, with every query and variant that the key tells apart. */
static void cached_purge_url(struct cached *c, const struct cache_target *t)
{
    const struct cache_meta_target m = {
        .scheme = t->scheme, .host = t->host, .path = t->path, .query = t->query};
    uint64_t name;
    if (cache_meta_name(c->store->c, CACHE_KIND_URL, &m, &name) == 0)
        cache_purge(c->store->c, cache_meta_site(t->host), name, false);
}

bool cached_purge(struct stream *s)
{
    struct cached *c = s->cached;
    const struct conf_cache_keys *k = &c->store->conf->k;
    if (s->req.method != HTTP_OTHER || !slice_eq(s->req.method_text, SLICE("PURGE")) ||
        (!k->purge_from.n && !k->purge_token.n))
        return false;
    c->word = CACHED_WAS_BYPASS;
    c->fwd = CACHE_STATUS_NONE;
    if (!cached_may_purge(s, k)) {
        stream_error(s, ERR_PURGE_REFUSED);
        return true;
    }
    const struct cache_target t = {
        .scheme = s->peer->scheme,
        .host = s->req.authority,
        .path = s->req.path,
        .query = cached_named(s, s->req.has_query ? s->req.query : SLICE_NONE)};
    cached_purge_url(c, &t);
    stream_plain(s, 200, SLICE("text/plain; charset=utf-8"), SLICE("purged\n"));
    return true;
}

void cached_invalidate(struct stream *s, const struct http_response *r)
{
    struct cached *c = s->cached;
    struct cache_target t = {.scheme = s->peer->scheme,
                             .host = s->req.authority,
                             .path = s->req.path,
                             .query =
                                 cached_named(s, s->req.has_query ? s->req.query : SLICE_NONE)};
    char *lower = arena_bytes(&s->arena, s->req.host.n + 1);
    int n = lower ? uri_host_lower(s->req.host, lower, s->req.host.n + 1) : -ERR_NOMEM;
    const struct key_input in = {
        .scheme = s->peer->scheme, .req = &s->req, .host = slice_of(lower, n < 0 ? 0 : (size_t)n)};
    cached_purge_url(c, &t);
    for (size_t i = 0; n >= 0 && i < r->nfield; i++) {
        const struct slice name = r->field[i].name;
        bool has_query;
        if (!slice_eq_ci(name, SLICE("location")) && !slice_eq_ci(name, SLICE("content-location")))
            continue;
        if (update_uri(&in, r->field[i].value, &s->arena, &t.path, &t.query, &has_query) < 0)
            continue;
        t.query = cached_named(s, has_query ? t.query : SLICE_NONE);
        cached_purge_url(c, &t);
    }
}
