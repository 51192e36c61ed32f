/* A request meets the cache: looked up, decided, waited for or fetched; see cached.h. */
#include "worker/stream/cached.h"

#include "base/clock.h"
#include "base/err.h"
#include "shm/cache_meta.h"
#include "worker/http/uri.h"
#include "worker/stream/fetch.h"
#include "worker/stream/https.h"

#include <stdlib.h>
#include <string.h>

static int64_t cached_now(void)
{
    return clock_cached.wall_ms / 1000;
}

/* ---- what the cache is not for ---- */

static bool cached_query_has(struct slice query, struct slice name)
{
    struct slice rest = query, item;
    while (slice_next(&rest, '&', &item)) {
        ptrdiff_t eq = slice_chr(item, '=');
        if (slice_eq(eq < 0 ? item : slice_of(item.p, (size_t)eq), name))
            return true;
    }
    return false;
}

static bool cached_cookie_has(const struct http_request *r, struct slice name)
{
    for (size_t i = 0; i < r->nfield; i++) {
        struct slice rest = r->field[i].value, item;
        while (r->field[i].id == FIELD_COOKIE && slice_next(&rest, ';', &item)) {
            ptrdiff_t eq = slice_chr(item, '=');
            if (slice_eq(eq < 0 ? item : slice_trim(slice_of(item.p, (size_t)eq)), name))
                return true;
        }
    }
    return false;
}

static bool cached_header_has(const struct http_request *r, struct slice name)
{
    for (size_t i = 0; i < r->nfield; i++)
        if (slice_eq_ci(r->field[i].name, name))
            return true;
    return false;
}

static bool cached_bypassed(const struct stream *s)
{
    const struct conf_words *w = &s->scope->cache_bypass;
    const struct slice cookie = SLICE("cookie."), header = SLICE("header."),
                       query = SLICE("query.");
    for (size_t i = 0; !w->off && i < w->n; i++) {
        const struct slice v = w->v[i];
        const bool hit =
            slice_starts(v, cookie)
                ? cached_cookie_has(&s->req, slice_of(v.p + cookie.n, v.n - cookie.n))
            : slice_starts(v, header)
                ? cached_header_has(&s->req, slice_of(v.p + header.n, v.n - header.n))
                : slice_starts(v, query) && s->req.has_query &&
                      cached_query_has(s->req.query, slice_of(v.p + query.n, v.n - query.n));
        if (hit)
            return true;
    }
    return false;
}

/* ---- keys ---- */

struct slice cached_sent(struct stream *s, struct slice query)
{
    const struct key_rules *r = &s->cached->rules->key_rules;
    struct head_out o = {.p = s->env->loop->scratch_head, .cap = CACHE_KEY_MAX};
    if (!query.p || (!r->nignore_query && !r->sort_query))
        return query;
    return key_query(r, query, &o) && !o.overflow ? arena_dup(&s->arena, slice_of(o.p, o.n))
                                                  : SLICE_NONE;
}

static int cached_key(struct stream *s)
{
    struct cached *c = s->cached;
    char *lower = arena_bytes(&s->arena, s->req.host.n + 1);
    struct head_out o = {.p = s->env->loop->scratch_head, .cap = CACHE_KEY_MAX};
    struct cache_hash h;
    int n = lower ? uri_host_lower(s->req.host, lower, s->req.host.n + 1) : -ERR_NOMEM;
    if (n < 0)
        return n;
    const struct key_input in = {
        .scheme = s->peer->scheme, .req = &s->req, .host = slice_of(lower, (size_t)n)};
    int e = key_build(&c->rules->key, &c->rules->key_rules, &in, &o);
    if (e < 0)
        return e;
    cache_key_begin(c->store->c, &h);
    cache_key_add(&h, slice_of(o.p, o.n));
    if (s->req.method == HTTP_QUERY) /* how long the text is can be told from it */
        cache_key_add(&h, buf_slice(&s->replay));
    c->key = c->primary = cache_key_end(&h);
    c->target = (struct cache_target){.c = c->store->c,
                                      .scheme = s->peer->scheme,
                                      .host = s->req.authority,
                                      .path = s->req.path,
                                      .site = cache_meta_site(s->req.authority)};
    const struct slice query = s->req.has_query ? s->req.query : SLICE_NONE,
                       sent = cached_sent(s, query);
    c->target.query = c->rules->key.query ? sent : SLICE_NONE;
    if (sent.p != query.p)
        c->target_text =
            sent.p ? arena_printf(&s->arena, "%.*s?%.*s", SLICE_ARG(s->req.path), SLICE_ARG(sent))
                   : s->req.path;
    return arena_failed(&s->arena) ? -ERR_NOMEM : 0;
}

/* The key of the variant that this request selects. False: no variant can be named. */
static bool cached_variant(struct stream *s, const struct stored_vary *v)
{
    struct cached *c = s->cached;
    struct head_out o = {.p = s->env->loop->scratch_head, .cap = CACHE_KEY_MAX};
    const struct vary_rules rules = {.key = &c->rules->key_rules, .codings = c->rules->codings};
    struct cache_hash h;
    if (vary_build(&v->vary, &rules, &s->req, &o) < 0)
        return false;
    cache_key_begin_variant(c->store->c, c->primary, v->salt, &h);
    cache_key_add(&h, slice_of(o.p, o.n));
    c->key = cache_key_end(&h);
    c->vary_known = true;
    return true;
}

/* ---- hits ---- */

static bool cached_pass_fresh(const struct cache_attr *a)
{
    return cached_now() < (int64_t)a->base + a->fresh;
}

int cached_find(struct stream *s)
{
    struct cached *c = s->cached;
    const struct cache_scope scope = cached_scope(c);
    c->key = c->primary;
    c->vary_known = false;
    if (!cache_lookup(c->store->w, &c->key, &scope, &c->hit)) {
        c->hit.word = 0;
        return 0;
    }
    if (c->hit.attr.type != CACHE_VARY)
        return 1;
    struct stored_vary v;
    const bool known = stored_vary_read(c->hit.meta, &v) == 0 && cached_variant(s, &v);
    cache_release(c->store->w, &c->hit);
    if (!known)
        return -ERR_RANGE;
    if (!cache_lookup(c->store->w, &c->key, &scope, &c->hit)) {
        c->hit.word = 0;
        return 0;
    }
    return 1;
}

/* Keeps what validation needs of the hit and lets it go: an answer may take long, and a pin keeps
 * room from others. */
static void cached_keep_old(struct stream *s, const struct stored *st, const struct policy_use *u)
{
    struct cached *c = s->cached;
    c->seen = c->hit.version;
    c->stale_ok = u->stale_if_error;
    if (stored_parse(st, &s->arena, &c->old) < 0)
        c->old.field = NULL;
    if (!(st->policy.flags & POLICY_VALIDATOR))
        c->old.field = NULL;
    cache_release(c->store->w, &c->hit);
}

/* 1: being served; 0: ask a server. */
static int cached_use(struct stream *s)
{
    struct cached *c = s->cached;
    struct stored st;
    struct policy_use u;
    if (stored_read(c->hit.meta, &c->hit.attr, &st) < 0) {
        (void)cache_drop(c->store->w, &c->hit);
        cache_release(c->store->w, &c->hit);
        return 0;
    }
    policy_use(&c->q, &st.policy, c->hit.soft, cached_now(), &u);
    c->ttl = u.ttl;
    c->age = u.age;
    c->fwd = (uint8_t)u.fwd;
    switch (u.decision) {
    case POLICY_FRESH:
        c->word = CACHED_WAS_HIT;
        break;
    case POLICY_STALE:
        c->word = CACHED_WAS_STALE;
        break;
    case POLICY_STALE_WHILE_REVALIDATE:
        c->word = CACHED_WAS_STALE;
        cached_background(s);
        break;
    case POLICY_VALIDATE:
        cached_keep_old(s, &st, &u);
        return 0;
    case POLICY_MISS:
        cache_release(c->store->w, &c->hit);
        c->q.store = false; /* what is stored is for others, and so will be the next */
        return 0;
    }
    c->fwd = CACHE_STATUS_NONE;
    c->collapsed = false;
    stream_set_state(s, STREAM_HIT);
    c->reading = true;
    c->size = c->hit.size;
    cached_answer(s);
    return 1;
}

bool cached_serve_stale(struct stream *s, enum cached_word word)
{
    struct cached *c = s->cached;
    struct policy_use u;
    struct stored st;
    if (c->started || cached_find(s) != 1)
        return false;
    if (c->hit.attr.type != CACHE_OBJECT || stored_read(c->hit.meta, &c->hit.attr, &st) < 0) {
        cache_release(c->store->w, &c->hit);
        return false;
    }
    policy_use(&c->q, &st.policy, c->hit.soft, cached_now(), &u);
    c->ttl = u.ttl;
    c->age = u.age;
    c->word = (uint8_t)word;
    c->verdict = CACHED_PASS;
    c->stale_ok = false;
    s->reason = 0;
    timer_off(&s->timer);
    stream_set_state(s, STREAM_HIT);
    c->reading = true;
    c->size = c->hit.size;
    cached_answer(s);
    return true;
}

/* ---- misses ---- */

void cached_fetch(struct stream *s)
{
    struct cached *c = s->cached;
    c->asked_s = cached_now();
    c->verdict = CACHED_PASS;
    c->asks = c->filling;
    c->client_asks = c->filling && (c->q.conditions || c->q.range);
    s->out_head = SLICE_NONE;
    if (c->word == CACHED_WAS_NONE)
        c->word = CACHED_WAS_MISS;
    timer_off(&s->timer);
    fetch_begin(s);
}

/* A fill that nobody can follow, where the answer may be stored. */
static void cached_alone(struct stream *s)
{
    struct cached *c = s->cached;
    const bool whole = !c->q.range && !c->q.conditions;
    if (c->q.store && whole) {
        cache_fill_private(c->store->w, &c->key, c->target.site, &c->fill);
        c->filling = true;
        c->open = false;
    }
    cached_fetch(s);
}

static void cached_follow(struct stream *s)
{
    struct cached *c = s->cached;
    c->following = true;
    c->collapsed = true;
    c->born = cache_birth(c->store->c, c->target.site);
    stream_set_state(s, STREAM_FOLLOW);
    timer_set_at(&s->env->loop->timers, &s->timer, clock_ms() + c->rules->collapse_ms);
    cached_on_wake(&c->waiter);
}

/* Nothing that could be used is there. */
static void cached_miss(struct stream *s)
{
    struct cached *c = s->cached;
    struct cache_worker *w = c->store->w;
    if (c->q.only_if_cached) {
        stream_error(s, ERR_ONLY_IF_CACHED);
        return;
    }
    if (!c->q.store || c->word == CACHED_WAS_PASS) {
        cached_alone(s);
        return;
    }
    if (c->rules->min_uses > 1 && cache_uses(w, &c->key) < c->rules->min_uses) {
        c->q.store = false;
        cached_alone(s);
        return;
    }
    if (!c->rules->collapse) {
        cache_fill_private(w, &c->key, c->target.site, &c->fill);
        c->filling = true;
        c->open = false;
        cached_fetch(s);
        return;
    }
    const struct cache_scope scope = cached_scope(c);
    switch (cache_claim(w, &c->key, &scope, c->seen, &c->fill, &c->follow)) {
    case CACHE_LEAD:
        c->filling = true;
        c->open = true;
        cached_fetch(s);
        return;
    case CACHE_FOLLOW:
        cached_follow(s);
        return;
    case CACHE_AGAIN:
        if (c->looks < CACHED_LOOKS) {
            cached_look(s);
            return;
        }
        cached_alone(s);
        return;
    case CACHE_ALONE:
        cached_alone(s);
        return;
    }
}

void cached_look(struct stream *s)
{
    struct cached *c = s->cached;
    if (c->looks++ >= CACHED_LOOKS) {
        cached_alone(s);
        return;
    }
    c->old.field = NULL;
    c->seen = 0;
    c->fwd = CACHE_STATUS_URI_MISS;
    int found = cached_find(s);
    if (found < 0) {
        c->q.store = false;
        found = 0;
    }
    if (found && c->hit.attr.type == CACHE_PASS) {
        const bool fresh = cached_pass_fresh(&c->hit.attr);
        c->seen = c->hit.version;
        cache_release(c->store->w, &c->hit);
        if (fresh)
            c->word = CACHED_WAS_PASS;
        found = 0;
    } else if (found && c->hit.attr.type != CACHE_OBJECT) {
        cache_release(c->store->w, &c->hit);
        found = 0;
    }
    if (!found && c->vary_known)
        c->fwd = CACHE_STATUS_VARY_MISS;
    if (!found || !cached_use(s))
        cached_miss(s);
}

/* ---- beginning ---- */

bool cached_not(struct cached *c, enum cache_status_fwd why, enum cached_word word)
{
    c->fwd = (uint8_t)why;
    c->word = (uint8_t)word;
    c->q.store = false;
    return false;
}

bool cached_begin(struct stream *s)
{
    struct cache_store *st = caches_store(s->env->caches, s->scope->cache);
    if (!st)
        return false;
    struct cached *c = ARENA_NEW(&s->arena, struct cached);
    if (!c)
        return false;
    s->cached = c;
    c->s = s;
    c->store = st;
    c->rules = &s->env->caches->rules[s->route->caching->id];
    cache_waiter_init(&c->waiter, cached_on_wake);
    if (cached_purge(s))
        return true;
    policy_request(c->rules, &s->req, &c->q);
    if (cached_bypassed(s))
        return cached_not(c, CACHE_STATUS_BYPASS, CACHED_WAS_BYPASS);
    if (!c->q.lookup)
        return cached_not(c,
                          c->q.reason == POLICY_METHOD ? CACHE_STATUS_METHOD : CACHE_STATUS_REQUEST,
                          CACHED_WAS_BYPASS);
    /* Whether these hold is for the server to say (RFC 9111 4.3.2). */
    if (c->q.conditions & (CONDITIONS_IF_MATCH | CONDITIONS_IF_UNMODIFIED))
        return cached_not(c, CACHE_STATUS_REQUEST, CACHED_WAS_BYPASS);
    if (!cached_query(s))
        cached_keyed(s);
    return true;
}

void cached_keyed(struct stream *s)
{
    if (cached_key(s) == 0) {
        cached_look(s);
        return;
    }
    (void)cached_not(s->cached, CACHE_STATUS_BYPASS, CACHED_WAS_BYPASS);
    fetch_begin(s);
}

/* ---- failures, time, the end ---- */

bool cached_on_error(struct stream *s, int err)
{
    struct cached *c = s->cached;
    err = err < 0 ? -err : err;
    const bool theirs = err_source(err) == ERR_SRC_UPSTREAM || err == ERR_NO_SERVER ||
                        err == ERR_QUEUE_FULL || err == ERR_QUEUE_TIMEOUT;
    if (c->filling)
        cached_fill_end(c, false, theirs ? (uint32_t)err : CACHED_RETRY);
    if (s->settled) {
        s->reason = err;
        stream_over(s, true);
        return true;
    }
    if (!theirs || !c->stale_ok || c->started)
        return false;
    c->fwd = CACHE_STATUS_STALE;
    return cached_serve_stale(s, CACHED_WAS_STALE);
}

void cached_on_timer(struct stream *s)
{
    struct cached *c = s->cached;
    if (s->state == STREAM_FOLLOW && !c->started) {
        cache_waiter_stop(&c->waiter);
        cache_follow_leave(c->store->w, &c->follow);
        c->following = false;
        c->collapsed = false;
        c->q.store = false; /* who leads may still store it */
        cached_fetch(s);
        return;
    }
    if (!c->hit.word || c->kept)
        return;
    if (!cache_hit_wanted(c->store->w, &c->hit)) {
        timer_set_at(&s->env->loop->timers, &s->timer, clock_ms() + 1000);
        return;
    }
    c->kept = malloc(cache_hit_detach_size(&c->hit));
    if (c->kept)
        cache_hit_detach(c->store->w, &c->hit, c->kept);
    else
        timer_set_at(&s->env->loop->timers, &s->timer, clock_ms() + 1000);
}

void cached_end(struct stream *s)
{
    struct cached *c = s->cached;
    cache_waiter_stop(&c->waiter);
    if (c->hit.word)
        cache_release(c->store->w, &c->hit);
    if (c->following)
        cache_follow_leave(c->store->w, &c->follow);
    c->following = c->reading = false;
    if (c->filling)
        cached_fill_end(c, false, CACHED_RETRY);
    cached_copy_end(c);
    buf_fini(&c->rest);
    free(c->kept);
    c->kept = NULL;
}

/* ---- what is told ---- */

struct slice cached_word(const struct stream *s)
{
    static const struct slice word[CACHED_WAS__COUNT] = {
#define X(id, text) [CACHED_WAS_##id] = {text, sizeof(text) - 1},
        CACHED_WORDS(X)
#undef X
    };
    return s->cached ? word[s->cached->word] : SLICE_NONE;
}

int64_t cached_age(const struct stream *s)
{
    const struct cached *c = s->cached;
    return c && c->started ? c->age : -1;
}

void cached_lines(struct stream *s, struct head_out *o)
{
    const struct cached *c = s->cached;
    if (c->reading && (c->hit.word || c->age > 0)) {
        head_add(o, SLICE("Age: "));
        head_u64(o, (uint64_t)c->age);
        head_add(o, SLICE("\r\n"));
    }
    if (!c->rules->tell)
        return;
    const struct cache_status st = {
        .hit = c->fwd == CACHE_STATUS_NONE,
        .fwd = (enum cache_status_fwd)c->fwd,
        .fwd_status = c->outcome_status,
        .stored = c->stored,
        .collapsed = c->collapsed,
        .has_ttl = c->hit.word != 0,
        .ttl = c->ttl,
        .detail = c->word == CACHED_WAS_PASS ? SLICE("hit-for-miss")
                  : c->detail ? slice_str(policy_reason_name((enum policy_reason)c->detail))
                              : SLICE_NONE};
    head_add(o, SLICE("Cache-Status: "));
    cache_status_write(o, &st, SLICE_NONE);
    head_add(o, SLICE("\r\n"));
}

struct slice cached_pass_lines(struct stream *s)
{
    char text[CACHE_STATUS_MAX + 64];
    struct head_out o = {.p = text, .cap = sizeof text};
    cached_lines(s, &o);
    return o.overflow || !o.n ? SLICE_NONE : arena_dup(&s->arena, slice_of(text, o.n));
}
