/* The server's answer meets the cache: stored, refreshed, passed on, taken over; see cached.h. */
#include "base/clock.h"
#include "base/err.h"
#include "base/num.h"
#include "worker/http/etag.h"
#include "worker/stream/cached.h"
#include "worker/stream/fetch.h"

#include <string.h>

static int64_t cached_now(void)
{
    return clock_cached.wall_ms / 1000;
}

void cached_fill_end(struct cached *c, bool pass, uint32_t outcome)
{
    if (!c->filling)
        return;
    cache_fill_abort(c->store->w, &c->fill, pass, outcome);
    c->filling = c->open = false;
}

/* ---- the request ---- */

static struct http_field cached_field(struct slice name, struct slice value)
{
    return (struct http_field){.name = name, .value = value, .id = http_field_id_of(name)};
}

static bool cached_range_text(struct stream *s, struct slice *ret)
{
    const struct cached *c = s->cached;
    if (c->to == UINT64_MAX || c->filling)
        *ret = arena_printf(&s->arena, "bytes=%llu-", (unsigned long long)c->resume_at);
    else
        *ret = arena_printf(&s->arena, "bytes=%llu-%llu", (unsigned long long)c->resume_at,
                            (unsigned long long)c->to - 1);
    return ret->p != NULL;
}

/* What is asked to find out whether the stored answer still holds (RFC 9111 4.3.1). */
static size_t cached_validators(const struct cached *c, struct http_field *f)
{
    size_t n = 0;
    bool etag = false, modified = false;
    for (size_t i = 0; c->old.field && i < c->old.nfield; i++) {
        const struct http_field *o = &c->old.field[i];
        if (o->id == FIELD_ETAG && o->value.n && !etag) {
            f[n++] = cached_field(SLICE("If-None-Match"), o->value);
            etag = true;
        } else if (o->id == FIELD_LAST_MODIFIED && o->value.n && !modified) {
            f[n++] = cached_field(SLICE("If-Modified-Since"), o->value);
            modified = true;
        }
    }
    return n;
}

int cached_request(struct stream *s, struct http_request *r, struct slice *ret_target)
{
    struct cached *c = s->cached;
    const bool resume = c->verdict == CACHED_RESUME;
    *ret_target = c->target_text;
    if (!c->asks && !resume)
        return 0;
    struct http_field *f = ARENA_ARRAY(&s->arena, struct http_field, r->nfield + 4);
    size_t n = 0;
    bool coded = false;
    if (!f)
        return -ERR_NOMEM;
    for (size_t i = 0; i < r->nfield; i++) {
        if (policy_fill_drops(&r->field[i]))
            continue;
        f[n] = r->field[i];
        if (f[n].id == FIELD_ACCEPT_ENCODING && c->rules->codings) {
            char *text = arena_bytes(&s->arena, 48);
            if (coded)
                continue;
            if (!text)
                return -ERR_NOMEM;
            coded = true;
            f[n].value = slice_of(
                text, vary_accept_encoding(vary_codings(&s->req, c->rules->codings), text));
        }
        n++;
    }
    if (resume) {
        struct slice range;
        if (!cached_range_text(s, &range))
            return -ERR_NOMEM;
        f[n++] = cached_field(SLICE("Range"), range);
        f[n++] = cached_field(SLICE("If-Range"), c->etag);
    } else {
        n += cached_validators(c, f + n);
    }
    r->field = f;
    r->nfield = n;
    return 0;
}

/* ---- where answers go that vary ---- */

static bool cached_vary_covers(const struct vary *v, const struct vary *more)
{
    for (unsigned i = 0; i < more->n; i++) {
        bool found = false;
        for (unsigned j = 0; j < v->n; j++)
            found |= slice_eq(v->name[j], more->name[i]);
        if (!found)
            return false;
    }
    return true;
}

/* The marker that stands at the primary key; zeroed when there is none. */
static void cached_marker(struct stream *s, struct stored_vary *ret)
{
    struct cached *c = s->cached;
    struct cache_hit h;
    const struct cache_scope scope = cached_scope(c);
    memset(ret, 0, sizeof *ret);
    if (!cache_lookup(c->store->w, &c->primary, &scope, &h))
        return;
    if (h.attr.type != CACHE_VARY || stored_vary_read(h.meta, ret) < 0)
        memset(ret, 0, sizeof *ret);
    cache_release(c->store->w, &h);
}

static bool cached_put_marker(struct stream *s, const struct stored_vary *v)
{
    struct cached *c = s->cached;
    char text[16 + VARY_SPEC_MAX + VARY_MAX];
    const struct cache_attr attr = {.type = CACHE_VARY,
                                    .site = (uint16_t)c->target.site,
                                    .base = (uint32_t)cached_now(),
                                    .fresh = CACHE_FOREVER,
                                    .birth = c->fill.attr.birth};
    size_t n = stored_vary_write(v, text);
    c->store->grown = true;
    return cache_insert(c->store->w, &c->primary, &attr, NULL, 0, slice_of(text, n), SLICE_NONE) ==
           0;
}

/* Another key than the one that was claimed: those who wait for it look again. */
static void cached_rekey(struct stream *s)
{
    struct cached *c = s->cached;
    struct cache_worker *w = c->store->w;
    struct cache_fill was = c->fill;
    const struct cache_scope scope = cached_scope(c);
    struct cache_follow f;
    bool open = false;
    if (c->open)
        switch (cache_claim(w, &c->key, &scope, UINT64_MAX, &c->fill, &f)) {
        case CACHE_LEAD:
            /* Who joins this one must know of each purge since the request. */
            open = c->fill.attr.birth == was.attr.birth;
            if (!open)
                cache_fill_abort(w, &c->fill, false, CACHED_RETRY);
            break;
        case CACHE_FOLLOW:
            cache_follow_leave(w, &f);
            break;
        case CACHE_AGAIN:
        case CACHE_ALONE:
            break;
        }
    if (!open)
        cache_fill_private(w, &c->key, c->target.site, &c->fill);
    c->fill.attr.birth = was.attr.birth;
    cache_fill_abort(w, &was, false, CACHED_RETRY);
    c->open = open;
}

/* RFC 9111 4.1. False: do not store. */
static bool cached_vary_head(struct stream *s, const struct http_response *r)
{
    struct cached *c = s->cached;
    struct vary said = {.n = 0};
    struct stored_vary v;
    if (vary_add(&said, r->field, r->nfield) < 0)
        return false;
    if (!said.n && !c->vary_known)
        return true;
    const struct cache_key was = c->key;
    cached_marker(s, &v);
    if (!v.salt || !cached_vary_covers(&v.vary, &said)) {
        if (vary_add(&v.vary, r->field, r->nfield) < 0)
            return false;
        v.salt = (s->env->rng[0] ^ clock_us() ^ s->env->rng[1] << 1) | 1;
        v.variants = 0;
    }
    struct head_out o = {.p = s->env->loop->scratch_head, .cap = CACHE_KEY_MAX};
    const struct vary_rules rules = {.key = &c->rules->key_rules, .codings = c->rules->codings};
    struct cache_hash h;
    if (vary_build(&v.vary, &rules, &s->req, &o) < 0)
        return false;
    cache_key_begin_variant(c->store->c, c->primary, v.salt, &h);
    cache_key_add(&h, slice_of(o.p, o.n));
    c->key = cache_key_end(&h);
    const bool other = memcmp(&c->key, &was, sizeof was) != 0;
    if (other || !c->seen) {
        if (v.variants >= c->rules->max_variants)
            return false;
        v.variants++;
        if (!cached_put_marker(s, &v))
            return false;
    }
    c->vary_known = true;
    if (other)
        cached_rekey(s);
    return true;
}

/* ---- storing ---- */

static struct slice cached_strong_etag(const struct http_response *r, struct arena *a)
{
    struct etag e;
    for (size_t i = 0; i < r->nfield; i++)
        if (r->field[i].id == FIELD_ETAG && etag_parse(r->field[i].value, &e) && !e.weak &&
            e.quoted)
            return arena_dup(a, r->field[i].value);
    return SLICE_NONE;
}

/* Meta of it in the scratch buffer; .p NULL: it cannot be stored. */
static struct slice cached_meta(struct stream *s, const struct http_response *r,
                                struct stored_tags *tags)
{
    struct cached *c = s->cached;
    struct cache_control cc;
    struct head_out o = {.p = s->env->loop->scratch_head, .cap = UINT16_MAX};
    (void)cache_control_of_response(r->field, r->nfield, c->rules->targeted, &cc);
    if (!stored_write(&o, c->store, c->rules, &cc, &c->target, r, clock_http_date(), tags))
        return SLICE_NONE;
    return slice_of(o.p, o.n);
}

static bool cached_store_head(struct stream *s, const struct http_response *r,
                              const struct policy_stored *p)
{
    struct cached *c = s->cached;
    struct cache_worker *w = c->store->w;
    struct cache_attr attr;
    struct stored_tags tags;
    if (!cached_vary_head(s, r)) {
        c->detail = POLICY_VARY;
        return false;
    }
    const struct slice meta = cached_meta(s, r, &tags);
    if (!meta.p)
        return false;
    stored_attr(p, r->status, c->target.site, &attr);
    const uint64_t expect = r->framing == HTTP_BODY_NONE     ? 0
                            : r->framing == HTTP_BODY_LENGTH ? r->content_length
                                                             : CACHE_UNKNOWN;
    if (cache_fill_head(w, &c->fill, &attr, tags.v, tags.n, meta, expect) < 0)
        return false;
    c->etag = cached_strong_etag(r, &s->arena);
    c->verdict = CACHED_STORE;
    c->stored = true;
    c->size = expect;
    if (!s->settled) {
        cache_fill_follow(w, &c->fill, &c->follow);
        c->following = c->reading = true;
    }
    return true;
}

/* Remembers that requests for this need not wait for each other. */
static void cached_mark_pass(struct stream *s)
{
    struct cached *c = s->cached;
    const struct cache_attr attr = {.type = CACHE_PASS,
                                    .site = (uint16_t)c->target.site,
                                    .base = (uint32_t)cached_now(),
                                    .fresh = c->rules->pass_ttl,
                                    .birth = c->fill.attr.birth};
    c->store->grown = true;
    (void)cache_insert(c->store->w, &c->key, &attr, NULL, 0, SLICE_NONE, SLICE_NONE);
}

/* Tags and orders to caches are not for clients. */
static void cached_hide(struct cached *c, const struct http_response *r)
{
    struct cache_control cc;
    (void)cache_control_of_response(r->field, r->nfield, c->rules->targeted, &cc);
    for (size_t i = 0; i < r->nfield; i++)
        if (stored_hides(c->store, c->rules, &cc, &r->field[i]))
            r->field[i].flags |= FIELD_NOMINATED;
}

/* ---- heads ---- */

/* A 304 speaks of what is stored: renews it. 0; negative: it is no longer there. */
static int cached_renew(struct stream *s, const struct http_response *r,
                        const struct policy_times *times)
{
    static struct http_field merged[HTTP_FIELDS_MAX];
    struct cached *c = s->cached;
    struct cache_worker *w = c->store->w;
    struct cache_control cc;
    struct policy_stored p;
    struct cache_attr attr;
    struct stored_tags tags;
    int e = cached_find(s);
    if (e <= 0)
        return -ERR_NOENT;
    if (c->hit.attr.type != CACHE_OBJECT || c->hit.version != c->seen) {
        cache_release(w, &c->hit);
        return -ERR_NOENT;
    }
    (void)cache_control_of_response(r->field, r->nfield, c->rules->targeted, &cc);
    int n = update_merge(c->rules, &cc, c->old.field, c->old.nfield, r->field, r->nfield, merged,
                         HTTP_FIELDS_MAX);
    struct http_response now = c->old;
    now.field = merged;
    now.nfield = n < 0 ? 0 : (size_t)n;
    if (n >= 0) {
        policy_freshness(c->rules, now.status, merged, now.nfield, times, &p);
        const struct slice meta = cached_meta(s, &now, &tags);
        stored_attr(&p, now.status, c->target.site, &attr);
        attr.birth = c->fill.attr.birth;
        c->store->grown = true;
        if (meta.p && cache_refresh(w, &c->hit, &attr, tags.v, tags.n, meta) == 0)
            cached_coded_renew(s, &c->hit);
    }
    cache_release(w, &c->hit);
    return 0;
}

/* Asks again, without what was asked for the store's sake. */
static int cached_ask_again(struct stream *s, bool as_client)
{
    struct cached *c = s->cached;
    c->old.field = NULL;
    if (as_client) {
        c->q.store = false;
        c->asks = false;
    }
    fetch_restart(s);
    return -ERR_EOF;
}

/* Where what is missing ends; CACHE_UNKNOWN: only the server knows. */
static uint64_t cached_rest_end(const struct cached *c)
{
    return c->filling ? c->fill.expect : c->to;
}

/* The answer to a request for a part: what it must be for that (RFC 9110 14.4, 15.3.7). */
static bool cached_is_rest(const struct cached *c, const struct http_response *r)
{
    const struct slice unit = SLICE("bytes ");
    uint64_t first = UINT64_MAX;
    if (r->status != 206)
        return false;
    for (size_t i = 0; i < r->nfield; i++) {
        const struct http_field *f = &r->field[i];
        if (f->id == FIELD_ETAG && !slice_eq(f->value, c->etag))
            return false;
        if (!slice_eq_ci(f->name, SLICE("content-range")) || !slice_starts(f->value, unit))
            continue;
        struct slice v = slice_of(f->value.p + unit.n, f->value.n - unit.n);
        ptrdiff_t dash = slice_chr(v, '-');
        if (dash <= 0 || num_u64(slice_of(v.p, (size_t)dash), &first) < 0)
            return false;
    }
    if (first != c->resume_at)
        return false;
    const uint64_t end = cached_rest_end(c);
    return end == CACHE_UNKNOWN || !r->has_length || r->content_length == end - first;
}

static int cached_resume_head(struct stream *s, const struct http_response *r)
{
    struct cached *c = s->cached;
    if (cached_is_rest(c, r)) {
        const uint64_t end = cached_rest_end(c);
        c->rest_left = end == CACHE_UNKNOWN ? UINT64_MAX : end - c->resume_at;
        c->verdict = c->filling ? CACHED_STORE : CACHED_DIRECT;
        stream_set_state(s, STREAM_DELIVER);
        return 1;
    }
    fetch_give_up(s, r->status);
    cached_fill_end(c, false, ERR_UP_TRUNCATED);
    s->reason = ERR_UP_TRUNCATED;
    stream_over(s, true);
    return -ERR_EOF;
}

/* A HEAD tells of a change (RFC 9111 4.3.5). */
static void cached_head_head(struct stream *s, const struct http_response *r)
{
    struct cached *c = s->cached;
    struct cache_hit h;
    struct stored st;
    struct http_response was;
    if (!cache_lookup(c->store->w, &c->key, NULL, &h))
        return;
    if (h.attr.type == CACHE_OBJECT && stored_read(h.meta, &h.attr, &st) == 0 && st.status == 200 &&
        stored_parse(&st, &s->arena, &was) == 0 &&
        update_head(was.field, was.nfield, h.size, r) == UPDATE_HEAD_STALE)
        (void)cache_drop(c->store->w, &h);
    cache_release(c->store->w, &h);
}

static int cached_pass_head(struct stream *s, const struct http_response *r, enum policy_reason why)
{
    struct cached *c = s->cached;
    if (c->filling && policy_reason_lasts(why) && c->rules->pass_ttl)
        cached_mark_pass(s);
    cached_fill_end(c, true, 0);
    c->detail = c->word == CACHED_WAS_PASS ? (uint8_t)POLICY_NONE : (uint8_t)why;
    if (s->settled) {
        fetch_give_up(s, r->status);
        stream_over(s, false);
        return -ERR_EOF;
    }
    /* A part was asked for, and the whole will not be kept: it need not come. */
    if (why == POLICY_TOO_LARGE && c->client_asks)
        return cached_ask_again(s, true);
    cached_hide(c, r);
    return 0;
}

int cached_on_head(struct stream *s, const struct http_response *r)
{
    struct cached *c = s->cached;
    const struct policy_times times = {.requested = c->asked_s, .received = cached_now()};
    struct policy_stored p;
    c->answer_status = (uint16_t)r->status;
    if (c->verdict == CACHED_RESUME)
        return cached_resume_head(s, r);
    c->verdict = CACHED_PASS;
    if (update_invalidates(&c->q, r->status))
        cached_invalidate(s, r);
    if (!c->filling) {
        if (c->q.lookup && s->req.method == HTTP_HEAD && c->target.c)
            cached_head_head(s, r);
        if (policy_is_failure(r->status) && c->stale_ok && !c->started) {
            fetch_give_up(s, r->status);
            c->outcome_status = r->status;
            if (cached_serve_stale(s, CACHED_WAS_STALE))
                return -ERR_EOF;
            stream_error(s, ERR_NO_SERVER);
            return -ERR_EOF;
        }
        cached_hide(c, r);
        return 0;
    }
    if (c->old.field && r->status == 304) {
        if (!update_matches(c->old.field, c->old.nfield, r) || cached_renew(s, r, &times) < 0) {
            fetch_give_up(s, 304);
            return cached_ask_again(s, false);
        }
        c->verdict = CACHED_CONFIRM;
        c->outcome_status = 304;
        return 1;
    }
    if (c->stale_ok && policy_is_failure(r->status)) {
        fetch_give_up(s, r->status);
        cached_fill_end(c, false, ERR_NO_SERVER);
        c->outcome_status = r->status;
        if (s->settled)
            stream_over(s, false);
        else if (!cached_serve_stale(s, CACHED_WAS_STALE))
            stream_error(s, ERR_NO_SERVER);
        return -ERR_EOF;
    }
    enum policy_reason why = policy_response(c->rules, &c->q, r, &times, &p);
    if (why == POLICY_NONE && cached_store_head(s, r, &p)) {
        stream_set_state(s, STREAM_DELIVER);
        return 1;
    }
    return cached_pass_head(s, r, why == POLICY_NONE ? (enum policy_reason)c->detail : why);
}

/* ---- data ---- */

static int cached_direct(struct stream *s, const char *p, size_t n, bool end)
{
    struct cached *c = s->cached;
    if (c->reading) {
        buf_add(&c->rest, slice_of(p, n));
        c->rest_end = end;
        if (c->rest.failed) {
            stream_kill(s, ERR_NOMEM);
            return -ERR_EOF;
        }
        if (end)
            fetch_answered(s, c->answer_status);
        cached_pump(s);
        return s->state == STREAM_DONE || end ? -ERR_EOF : c->reading;
    }
    struct stream_out o = {.data = p, .n = n, .end = end};
    s->body_out += n;
    int e = s->client_ops->send(s, &o);
    if (e < 0) {
        stream_client_failed(s, ERR_CLIENT_CLOSED);
        return -ERR_EOF;
    }
    if (!end)
        return e;
    fetch_answered(s, c->answer_status);
    s->answer_end = true;
    if (e == 0)
        stream_over(s, false);
    return -ERR_EOF;
}

/* What the store does not take any more goes to the client as it comes. */
static int cached_overflow(struct stream *s, const char *p, size_t n, bool end)
{
    struct cached *c = s->cached;
    cached_fill_end(c, true, 0);
    c->stored = false;
    if (s->settled) {
        fetch_cancel(s, 0);
        stream_over(s, true);
        return -ERR_EOF;
    }
    c->verdict = CACHED_DIRECT;
    buf_init(&c->rest, 64u << 20);
    return cached_direct(s, p, n, end);
}

/* A part that came without a length may be of another one than was asked for, and the client knows
 * by now how much there is. */
static bool cached_rest_fits(struct cached *c, size_t n, bool end)
{
    if (c->rest_left == UINT64_MAX)
        return true;
    if (n > c->rest_left)
        return false;
    c->rest_left -= n;
    return !end || !c->rest_left;
}

static int cached_confirmed(struct stream *s)
{
    struct cached *c = s->cached;
    fetch_answered(s, c->answer_status);
    cached_fill_end(c, false, CACHED_RETRY);
    if (s->settled) {
        stream_over(s, false);
        return -ERR_EOF;
    }
    c->fwd = CACHE_STATUS_STALE;
    if (!cached_serve_stale(s, CACHED_WAS_REVALIDATED)) {
        c->word = CACHED_WAS_MISS;
        c->q.store = false;
        c->old.field = NULL;
        cached_fetch(s);
    }
    return -ERR_EOF;
}

int cached_on_data(struct stream *s, const char *p, size_t n, bool end)
{
    struct cached *c = s->cached;
    if (c->verdict == CACHED_CONFIRM)
        return end ? cached_confirmed(s) : 0;
    if (c->resumed && !cached_rest_fits(c, n, end)) {
        cached_fill_end(c, false, ERR_UP_TRUNCATED);
        stream_kill(s, ERR_UP_TRUNCATED);
        return -ERR_EOF;
    }
    if (c->verdict == CACHED_DIRECT)
        return cached_direct(s, p, n, end);
    const uint64_t before = c->fill.size;
    const bool large = before - c->fill.lead + n > c->rules->max_object; /* the route's */
    if (n && (large || cache_fill_append(c->store->w, &c->fill, slice_of(p, n)) < 0)) {
        const size_t taken = (size_t)(c->fill.size - before);
        return cached_overflow(s, p + taken, n - taken, end);
    }
    if (end) {
        const uint64_t has = c->fill.size - c->fill.lead;
        c->size = has;
        c->filling = c->open = false;
        c->store->grown = true;
        c->stored = cache_fill_done(c->store->w, &c->fill) == 0;
        fetch_answered(s, c->answer_status);
        if (s->settled) {
            stream_over(s, false);
            return -ERR_EOF;
        }
    }
    if (c->reading)
        cached_pump(s);
    return s->state == STREAM_DONE || end ? -ERR_EOF : 0;
}

/* ---- what others began ---- */

static bool cached_etag_of(struct stream *s, struct slice meta, const struct cache_attr *attr)
{
    struct cached *c = s->cached;
    struct stored st;
    struct http_response r;
    if (stored_read(meta, attr, &st) < 0 || stored_parse(&st, &s->arena, &r) < 0)
        return false;
    c->etag = cached_strong_etag(&r, &s->arena);
    return c->etag.p != NULL;
}

static void cached_ask_rest(struct stream *s, uint64_t at)
{
    struct cached *c = s->cached;
    c->resume_at = at;
    c->resumed = true;
    c->verdict = CACHED_RESUME;
    c->asked_s = cached_now();
    s->out_head = SLICE_NONE;
    fetch_begin(s);
}

int cached_take_over(struct stream *s)
{
    struct cached *c = s->cached;
    struct cache_worker *w = c->store->w;
    struct cache_view v;
    int e = cache_follow_take(w, &c->follow, &c->fill);
    if (e == -ERR_AGAIN)
        return 0;
    if (e < 0)
        return -ERR_NOENT;
    c->filling = c->open = true;
    if (!c->fill.headed) {
        cache_follow_leave(w, &c->follow);
        c->following = false;
        c->collapsed = false;
        c->word = CACHED_WAS_MISS;
        cached_fetch(s);
        return 1;
    }
    cache_follow_view(w, &c->follow, &v);
    if (!v.attached || !cached_etag_of(s, v.meta, &v.attr)) {
        cached_fill_end(c, false, ERR_UP_TRUNCATED);
        return -ERR_NOENT;
    }
    timer_off(&s->timer);
    if (!c->started) {
        c->reading = true;
        c->word = CACHED_WAS_COLLAPSED;
        cached_answer(s);
    }
    if (s->state == STREAM_DONE)
        return 1;
    cached_ask_rest(s, v.size);
    return 1;
}

bool cached_resume(struct stream *s)
{
    struct cached *c = s->cached;
    struct cache_view v;
    if (c->resumed || c->parts || s->conn || s->settled)
        return false;
    if (s->state == STREAM_HIT) {
        if (!cached_etag_of(s, c->hit.meta, &c->hit.attr))
            return false;
        cache_release(c->store->w, &c->hit);
    } else if (s->state == STREAM_FOLLOW) {
        cache_follow_view(c->store->w, &c->follow, &v);
        if (!v.attached || !cached_etag_of(s, v.meta, &v.attr))
            return false;
        cache_waiter_stop(&c->waiter);
        cache_follow_leave(c->store->w, &c->follow);
        c->following = false;
    } else {
        return false;
    }
    c->reading = false;
    timer_off(&s->timer);
    cached_ask_rest(s, c->at);
    return true;
}
