/* From the store to the client: complete objects and such as are still arriving; see cached.h. */
#include "base/clock.h"
#include "base/err.h"
#include "base/panic.h"
#include "worker/http/http_date.h"
#include "worker/stream/cached.h"
#include "worker/stream/fetch.h"
#include "worker/stream/https.h"

#include <string.h>

/* Bytes given at a time where the client's side copies what is not taken at once. */
#define CACHED_PIECE 65536u
/* And where it does not. */
#define CACHED_RUN 1048576u

static int64_t cached_now(void)
{
    return clock_cached.wall_ms / 1000;
}

/* ---- heads ---- */

static void cached_fwd(struct stream *s, unsigned status, bool has_length, uint64_t length)
{
    s->fwd = (struct forward_response){.status = status,
                                       .via = s->scope->via,
                                       .hide_server = s->scope->server_header == CONF_SRVHDR_HIDE,
                                       .framing = has_length     ? HTTP_BODY_LENGTH
                                                  : s->req.minor ? HTTP_BODY_CHUNKED
                                                                 : HTTP_BODY_CLOSE,
                                       .write_length = has_length,
                                       .content_length = length,
                                       .request_id = s->request_id,
                                       .hsts = https_hsts(s)};
    if (s->req.method == HTTP_HEAD || status == 304 || status == 204)
        s->fwd.framing = HTTP_BODY_NONE;
    if (status == 204)
        s->fwd.write_length = false;
    s->status = (uint16_t)status;
}

/* The lines that are this answer's own, behind what is stored. */
static void cached_own_lines(struct stream *s, const struct stored *st, struct head_out *o)
{
    cached_lines(s, o);
    if (s->fwd.via)
        head_add(o, st->major == 2 ? SLICE("Via: 2.0 rpd\r\n") : SLICE("Via: 1.1 rpd\r\n"));
    if (s->request_id.p)
        head_field(o, SLICE("X-Request-Id"), s->request_id);
    if (s->fwd.hsts.p)
        head_field(o, SLICE("Strict-Transport-Security"), s->fwd.hsts);
    if (s->fwd.framing == HTTP_BODY_CHUNKED) {
        head_add(o, SLICE("Transfer-Encoding: chunked\r\n"));
    } else if (s->fwd.write_length) {
        head_add(o, SLICE("Content-Length: "));
        head_u64(o, s->fwd.content_length);
        head_add(o, SLICE("\r\n"));
    }
}

static void cached_gone(struct stream *s)
{
    stream_client_failed(s, ERR_CLIENT_CLOSED);
}

/* The client has, or will have, all of it. */
static void cached_done(struct stream *s, int sent)
{
    struct cached *c = s->cached;
    s->answer_end = true;
    c->reading = false;
    if (c->hit.word)
        cache_release(c->store->w, &c->hit);
    if (c->following && !c->filling) {
        cache_follow_leave(c->store->w, &c->follow);
        c->following = false;
    }
    if (sent == 0)
        stream_drained(s);
}

/* Others' object is not for this client any more. */
static void cached_unfollow(struct stream *s)
{
    struct cached *c = s->cached;
    cache_waiter_stop(&c->waiter);
    cache_follow_leave(c->store->w, &c->follow);
    c->following = false;
    c->collapsed = false;
}

/* ---- bytes ---- */

static int cached_bytes(struct stream *s, uint64_t most, struct iovec *iov, size_t *ret_n)
{
    struct cached *c = s->cached;
    struct cache_worker *w = c->store->w;
    uint64_t n = c->to - c->at;
    if (n > most)
        n = most;
    if (!n) {
        *ret_n = 0;
        return 0;
    }
    return c->hit.word ? cache_body(w, &c->hit, c->at, n, iov, STREAM_IOV, ret_n)
                       : cache_follow_body(w, &c->follow, c->at, n, iov, STREAM_IOV, ret_n);
}

/* How far the bytes go that can be read now, and whether that is the end of the object. */
struct cached_edge {
    uint64_t size;
    bool whole, failed;
    bool resumes; /* failed, but not because of the server */
    enum cache_arrival state;
};
static void cached_edge(struct stream *s, struct cached_edge *e)
{
    struct cached *c = s->cached;
    struct cache_view v;
    *e = (struct cached_edge){.size = c->size, .whole = true, .state = CACHE_ARRIVAL_DONE};
    if (c->hit.word)
        return;
    cache_follow_view(c->store->w, &c->follow, &v);
    e->size = v.attached ? v.size : 0;
    e->state = v.state;
    e->whole = v.attached && (v.state == CACHE_ARRIVAL_DONE || v.size == v.expect);
    e->failed = !v.attached || v.state == CACHE_ARRIVAL_FAILED || v.state == CACHE_ARRIVAL_PASS ||
                v.state == CACHE_ARRIVAL_GONE;
    e->resumes = v.state == CACHE_ARRIVAL_PASS || v.outcome == CACHED_RETRY;
    /* Its own fill: what the flight says is what it said itself. */
    if (c->filling || c->verdict == CACHED_DIRECT) {
        e->failed = !v.attached;
        e->whole = false;
    }
}

/* Text in front of bytes: heads of parts. */
static void cached_part_head(struct stream *s)
{
    struct cached *c = s->cached;
    struct cached_parts *p = c->parts;
    char text[1024];
    struct head_out o = {.p = text, .cap = sizeof text};
    const struct slice boundary = slice_of(p->boundary, RANGE_BOUNDARY_LEN);
    if (p->i < p->set.n) {
        c->at = p->set.r[p->i].first;
        c->to = p->set.r[p->i].last + 1;
        if (p->multi)
            range_part_head(&o, boundary, p->type, p->set.r[p->i], p->size, p->i == 0);
    } else {
        c->at = c->to = 0;
        range_part_end(&o, boundary);
    }
    c->text = o.n ? arena_dup(&s->arena, slice_of(text, o.n)) : SLICE_NONE;
    if (o.overflow || (o.n && !c->text.p)) {
        s->reason = ERR_NOMEM;
        stream_kill(s, ERR_NOMEM);
    }
}

/* The next run of bytes. False: that was the last. */
static bool cached_next_part(struct stream *s)
{
    struct cached_parts *p = s->cached->parts;
    if (!p || p->i >= p->set.n || (!p->multi && p->i + 1 == p->set.n))
        return false;
    p->i++;
    cached_part_head(s);
    return s->state != STREAM_DONE;
}

static bool cached_wants_more(const struct cached *c)
{
    const struct cached_parts *p = c->parts;
    return c->text.n || c->at < c->to || (p && p->multi && p->i < p->set.n);
}

/* The server's own bytes behind those of the store. */
static void cached_send_rest(struct stream *s)
{
    struct cached *c = s->cached;
    const bool end = c->rest_end;
    struct stream_out o = {.data = c->rest.p, .n = c->rest.n, .end = end};
    c->reading = false;
    if (c->following)
        cache_follow_leave(c->store->w, &c->follow);
    c->following = false;
    s->body_out += o.n;
    int e = o.n || end ? s->client_ops->send(s, &o) : 0;
    buf_fini(&c->rest);
    if (e < 0) {
        cached_gone(s);
    } else if (end) {
        cached_done(s, e);
    } else if (e == 0 && s->conn) {
        up_resume(s->conn);
    }
}

/* Waits for what is to come. True: something has come meanwhile. */
static bool cached_wait(struct stream *s, const struct cached_edge *edge)
{
    struct cached *c = s->cached;
    if (c->verdict == CACHED_DIRECT) {
        if (c->rest.n || c->rest_end || c->at == edge->size)
            cached_send_rest(s);
        return false;
    }
    if (c->filling)
        return false; /* what comes next comes from this exchange */
    int taken = edge->state == CACHE_ARRIVAL_ORPHANED ? cached_take_over(s) : 0;
    if (taken == 1 || s->state == STREAM_DONE)
        return false;
    if (edge->failed || taken < 0) {
        if (edge->resumes && cached_resume(s))
            return false;
        s->reason = ERR_UP_TRUNCATED;
        fetch_cancel(s, s->reason);
        stream_over(s, true);
        return false;
    }
    if (!cache_follow_wait(c->store->w, &c->follow))
        return true;
    cache_waiter_wait(&c->waiter, c->store, c->follow.flight);
    return false;
}

/* What is stored is damaged where the client is to read on. It is taken out. Who has nothing yet
 * gets what it would have got without it, who has a part the rest from a server, if it can tell
 * that this is the same. */
static void cached_damaged(struct stream *s)
{
    struct cached *c = s->cached;
    if (c->hit.word)
        (void)cache_drop(c->store->w, &c->hit);
    if (c->started && cached_resume(s))
        return;
    if (c->started || c->filling || s->conn) {
        stream_kill(s, ERR_CORRUPT);
        return;
    }
    if (c->hit.word)
        cache_release(c->store->w, &c->hit);
    if (c->following)
        cached_unfollow(s);
    /* What was to be done with it is decided anew, with what comes in its place. */
    if (s->filter)
        s->env->filter->forget(s);
    cached_copy_end(c);
    s->coding = 0;
    s->plain = 0;
    c->reading = false;
    c->parts = NULL;
    c->text = SLICE_NONE;
    c->word = CACHED_WAS_NONE;
    c->age = 0;
    s->status = 0;
    cached_look(s);
}

/* One piece. 0: it is with the client; 1: wait for the client; 2: nothing there; negative: over. */
static int cached_piece(struct stream *s, const struct stream_wire *wire,
                        const struct http_response *resp, const struct cached_edge *edge)
{
    struct cached *c = s->cached;
    struct iovec iov[STREAM_IOV];
    size_t n = 0, taken = 0;
    const bool head = wire || resp;
    const bool copies = s->fwd.framing == HTTP_BODY_CHUNKED || s->req.major == 2;
    struct stream_out o = {.wire = wire, .resp = resp, .fwd = head ? &s->fwd : NULL};
    if (edge->whole && c->to > edge->size)
        c->to = edge->size;
    if (s->fwd.framing == HTTP_BODY_NONE)
        c->at = c->to = 0;
    if (c->text.n) {
        o.data = c->text.p;
        o.n = taken = c->text.n;
    } else {
        int k = cached_bytes(s, copies ? CACHED_PIECE : CACHED_RUN, iov, &n);
        if (k < 0) {
            cached_damaged(s);
            return -1;
        }
        o.iov = k ? iov : NULL;
        o.niov = k;
        o.n = n;
        o.taken = &taken;
    }
    c->at += c->text.n ? 0 : n;
    const struct slice text = c->text;
    c->text = SLICE_NONE;
    o.end = !cached_wants_more(c);
    if (!head && !o.n && !o.end)
        return 2;
    if (s->fwd.framing == HTTP_BODY_NONE)
        o.end = true;
    c->started = c->started || head;
    s->body_out += o.n;
    int e = s->client_ops->send(s, &o);
    if (text.n)
        taken = o.n;
    s->body_out -= o.n - taken;
    if (e < 0) {
        cached_gone(s);
        return -1;
    }
    if (!text.n) {
        c->at -= n - taken;
        c->bytes += taken;
    }
    if (o.end && taken == o.n) {
        cached_done(s, e);
        return -1;
    }
    return e;
}

static void cached_send(struct stream *s, const struct stream_wire *wire,
                        const struct http_response *resp)
{
    struct cached *c = s->cached;
    struct cached_edge edge;
    unsigned pieces = 0;
    for (;;) {
        cached_edge(s, &edge);
        int e = cached_piece(s, wire, resp, &edge);
        wire = NULL;
        resp = NULL;
        if (e < 0 || s->state == STREAM_DONE || !c->reading)
            return;
        if (e == 1)
            break;
        if (c->at == c->to && cached_next_part(s))
            continue;
        if (s->state == STREAM_DONE)
            return;
        if (e == 0 && ++pieces < 64)
            continue;
        if (e == 2 && cached_wait(s, &edge))
            continue;
        return;
    }
    /* The client is slow: what it holds may be wanted by others. */
    if (c->hit.word && !c->kept)
        timer_set_at(&s->env->loop->timers, &s->timer, clock_ms() + 1000);
}

void cached_pump(struct stream *s)
{
    struct cached *c = s->cached;
    if (!c->started)
        cached_answer(s);
    else if (c->reading)
        cached_send(s, NULL, NULL);
}

/* ---- what the client gets ---- */

/* Without a parsed head: what is stored goes out as it stands, or encoded. */
static void cached_plain(struct stream *s, const struct stored *st)
{
    struct cached *c = s->cached;
    struct head_out o = {.p = s->env->loop->scratch_head, .cap = LOOP_SCRATCH / 2};
    struct stream_wire wire = {.part = {st->fields}};
    bool vary;
    c->at = 0;
    c->to = c->size == CACHE_UNKNOWN ? UINT64_MAX : c->size;
    cached_fwd(s, st->status, c->size != CACHE_UNKNOWN, c->size);
    if (cached_coded(s, st, &o, &vary)) {
        wire.part[0] = SLICE_NONE; /* all of it is in o, and the length is another one */
        cached_fwd(s, st->status, c->size != CACHE_UNKNOWN, c->size);
        if (c->size != CACHE_UNKNOWN)
            c->to = c->size;
    } else {
        if (!s->fwd.hide_server)
            wire.part[1] = st->server;
        if (!s->fwd.hsts.p)
            wire.part[2] = st->hsts;
    }
    cached_own_lines(s, st, &o);
    if (vary)
        head_add(&o, SLICE("Vary: Accept-Encoding\r\n"));
    wire.own = slice_of(o.p, o.n);
    cached_send(s, &wire, NULL);
}

static bool cached_add(struct stream *s, struct http_response *r, struct slice name,
                       struct slice value)
{
    if (!value.p)
        return false;
    r->field[r->nfield++] =
        (struct http_field){.name = name, .value = value, .id = http_field_id_of(name)};
    (void)s;
    return true;
}

/* A head of its own: fields that do not belong are taken out, others come. */
static void cached_other(struct stream *s, struct http_response *r)
{
    char text[CACHE_STATUS_MAX + 64];
    struct head_out o = {.p = text, .cap = sizeof text};
    cached_lines(s, &o);
    s->fwd.lines = o.overflow ? SLICE_NONE : arena_dup(&s->arena, slice_of(text, o.n));
    r->status = s->fwd.status;
    r->reason = SLICE_NONE;
    r->minor = 1;
    if (s->env->filter)
        s->env->filter->head(s, r);
    cached_send(s, NULL, r);
}

/* The stored head in the arena, with room for `more` fields; hidden ones marked. NULL: no memory,
 * and the exchange is over. */
static struct http_response *cached_head(struct stream *s, const struct stored *st, size_t more)
{
    struct http_response *r = ARENA_NEW(&s->arena, struct http_response);
    struct http_field *f = NULL;
    struct stored seen = *st;
    seen.secret = SLICE_NONE;
    if (r && stored_parse(&seen, &s->arena, r) == 0)
        f = ARENA_ARRAY(&s->arena, struct http_field, r->nfield + more);
    if (!f) {
        s->status = 0;
        stream_error(s, ERR_NOMEM);
        return NULL;
    }
    memcpy(f, r->field, r->nfield * sizeof *f);
    r->field = f;
    return r;
}

static void cached_not_modified(struct stream *s, const struct stored *st)
{
    struct http_response *r = cached_head(s, st, 0);
    if (!r)
        return;
    size_t n = 0;
    for (size_t i = 0; i < r->nfield; i++)
        if (conditions_304_keeps(&r->field[i]) || r->field[i].id == FIELD_SERVER)
            r->field[n++] = r->field[i];
    r->nfield = n;
    cached_fwd(s, 304, false, 0);
    s->cached->at = s->cached->to = 0;
    cached_other(s, r);
}

static void cached_drop_field(struct http_response *r, uint8_t id)
{
    size_t n = 0;
    for (size_t i = 0; i < r->nfield; i++)
        if (r->field[i].id != id)
            r->field[n++] = r->field[i];
    r->nfield = n;
}

static void cached_unsatisfied(struct stream *s, const struct stored *st)
{
    char text[80];
    struct http_response *r = cached_head(s, st, 1);
    if (!r)
        return;
    cached_drop_field(r, FIELD_CONTENT_TYPE);
    cached_drop_field(r, FIELD_ETAG);
    cached_drop_field(r, FIELD_LAST_MODIFIED);
    (void)cached_add(
        s, r, SLICE("Content-Range"),
        arena_dup(&s->arena, slice_of(text, range_unsatisfied(text, s->cached->size))));
    cached_fwd(s, 416, true, 0);
    s->cached->at = s->cached->to = 0;
    cached_other(s, r);
}

static void cached_partial(struct stream *s, const struct stored *st, const struct range_set *set)
{
    struct cached *c = s->cached;
    struct cached_parts *p = ARENA_NEW(&s->arena, struct cached_parts);
    struct http_response *r = cached_head(s, st, 2);
    char text[80];
    if (!r)
        return;
    if (!p) {
        stream_error(s, ERR_NOMEM);
        return;
    }
    *p = (struct cached_parts){.set = *set, .size = c->size, .multi = set->n > 1};
    for (size_t i = 0; i < r->nfield; i++)
        if (r->field[i].id == FIELD_CONTENT_TYPE)
            p->type = r->field[i].value;
    uint64_t length = set->bytes;
    if (p->multi) {
        range_boundary(s->env->rng[0], s->env->rng[1] ^ clock_us(), p->boundary);
        const struct slice b = slice_of(p->boundary, RANGE_BOUNDARY_LEN);
        length = range_multipart_length(set, b, p->type, c->size);
        cached_drop_field(r, FIELD_CONTENT_TYPE);
        (void)cached_add(
            s, r, SLICE("Content-Type"),
            arena_printf(&s->arena, "multipart/byteranges; boundary=%.*s", SLICE_ARG(b)));
    } else {
        (void)cached_add(
            s, r, SLICE("Content-Range"),
            arena_dup(&s->arena, slice_of(text, range_content_range(text, set->r[0], c->size))));
    }
    cached_fwd(s, 206, length != 0, length);
    c->parts = p;
    cached_part_head(s);
    if (s->state != STREAM_DONE)
        cached_other(s, r);
}

/* Conditions and ranges of the client. 1: answered by it; 0: the whole is due; -ERR_AGAIN: more of
 * the object must be known. */
static int cached_special(struct stream *s, const struct stored *st, uint64_t arrived)
{
    struct cached *c = s->cached;
    struct conditions_validators v;
    struct http_response r;
    struct range_specs specs;
    struct range_set set;
    if (stored_parse(st, &s->arena, &r) < 0)
        return 0;
    policy_validators(r.field, r.nfield, st->policy.base, &v);
    if (conditions_evaluate(&s->req, &v, st->status, cached_now()) == CONDITIONS_NOT_MODIFIED) {
        cached_not_modified(s, st);
        return 1;
    }
    if (!c->q.range || st->status != 200 || range_of(&s->req, &specs) < 0 ||
        !conditions_if_range(&s->req, &v, cached_now()))
        return 0;
    switch (
        range_resolve(&specs, c->size == CACHE_UNKNOWN ? RANGE_UNKNOWN : c->size, arrived, &set)) {
    case RANGE_WHOLE:
        return 0;
    case RANGE_UNSATISFIABLE:
        cached_unsatisfied(s, st);
        return 1;
    case RANGE_WAIT:
        return -ERR_AGAIN;
    case RANGE_PARTIAL:
        break;
    }
    cached_partial(s, st, &set);
    return 1;
}

/* What of an arriving object can be told before its end. 0: nothing yet. */
static int cached_view(struct stream *s, struct cache_view *v)
{
    struct cached *c = s->cached;
    cache_follow_view(c->store->w, &c->follow, v);
    if (!v->attached)
        return 0;
    c->size = v->state == CACHE_ARRIVAL_DONE && !c->filling ? v->size
              : v->expect == CACHE_UNKNOWN                  ? CACHE_UNKNOWN
                                                            : v->expect;
    return 1;
}

void cached_answer(struct stream *s)
{
    struct cached *c = s->cached;
    struct stored st;
    uint64_t arrived = c->size;
    if (c->hit.word) {
        if (stored_read(c->hit.meta, &c->hit.attr, &st) < 0) {
            stream_error(s, ERR_CORRUPT);
            return;
        }
    } else {
        struct cache_view v;
        /* Its own: size and attributes are in the fill, not in a flight. */
        const bool own = c->follow.flight == UINT32_MAX;
        if (!cached_view(s, &v) || stored_read(v.meta, own ? &c->fill.attr : &v.attr, &st) < 0) {
            stream_error(s, ERR_CORRUPT);
            return;
        }
        /* Also when the store took no more before this client had its head. */
        if (own && (c->filling || c->verdict == CACHED_DIRECT))
            c->size = c->fill.expect;
        arrived = v.size;
        c->age = cached_now() - st.policy.base;
        c->age = c->age < 0 ? 0 : c->age;
    }
    if (c->q.conditions || c->q.range) {
        int e = cached_special(s, &st, arrived);
        if (e == 1)
            return;
        if (e < 0) {
            struct cached_edge edge;
            cached_edge(s, &edge);
            if (!edge.whole && !c->filling && !edge.failed) {
                if (cache_follow_wait(c->store->w, &c->follow))
                    cache_waiter_wait(&c->waiter, c->store, c->follow.flight);
                else
                    cached_on_wake(&c->waiter);
                return;
            }
            if (c->filling)
                return; /* cached_on_data() comes again */
        }
    }
    cached_plain(s, &st);
}

/* ---- waiting for others ---- */

/* May this request have what was fetched for another? (RFC 9111 4: only if it could be used for it
 * from the store.) */
static bool cached_may_share(struct stream *s, const struct cache_view *v)
{
    struct cached *c = s->cached;
    struct stored st;
    struct policy_use u;
    const struct cache_scope scope = {.site = c->target.site};
    /* Asked for before it was purged, by a tag that was not known then; this request came after.
     * Its names were looked at when it joined: a purge of them since then is not before it. */
    if (v->attr.birth < c->born &&
        cache_purged(c->store->c, &scope, v->tags, v->ntags, v->attr.birth))
        return false;
    if (stored_read(v->meta, &v->attr, &st) < 0)
        return false;
    policy_use(&c->q, &st.policy, false, cached_now(), &u);
    c->ttl = u.ttl;
    return u.decision == POLICY_FRESH || u.decision == POLICY_STALE ||
           u.decision == POLICY_STALE_WHILE_REVALIDATE;
}

/* The leader failed before this client got anything. */
static void cached_failed(struct stream *s, uint32_t outcome)
{
    cached_unfollow(s);
    if (outcome > 0 && outcome < ERR__COUNT)
        stream_error(s, (int)outcome);
    else
        cached_look(s);
}

static void cached_step(struct stream *s)
{
    struct cached *c = s->cached;
    struct cache_view v;
    for (;;) {
        cache_follow_view(c->store->w, &c->follow, &v);
        if (v.attached && v.state != CACHE_ARRIVAL_FAILED && v.state != CACHE_ARRIVAL_PASS) {
            timer_off(&s->timer);
            if (!cached_may_share(s, &v)) {
                cached_unfollow(s);
                c->q.store = false;
                cached_fetch(s);
                return;
            }
            c->word = CACHED_WAS_COLLAPSED;
            c->reading = true;
            cached_answer(s);
            return;
        }
        switch (v.state) {
        case CACHE_ARRIVAL_ORPHANED:
            switch (cached_take_over(s)) {
            case 1:
                return;
            case 0:
                break;
            default:
                cached_unfollow(s);
                cached_look(s);
                return;
            }
            __attribute__((fallthrough));
        case CACHE_ARRIVAL_WAITING:
            if (!cache_follow_wait(c->store->w, &c->follow))
                continue;
            cache_waiter_wait(&c->waiter, c->store, c->follow.flight);
            return;
        case CACHE_ARRIVAL_PASS:
            cached_unfollow(s);
            c->word = CACHED_WAS_PASS;
            cached_fetch(s);
            return;
        case CACHE_ARRIVAL_FAILED:
            cached_failed(s, v.outcome);
            return;
        case CACHE_ARRIVAL_STREAM:
        case CACHE_ARRIVAL_DONE:
        case CACHE_ARRIVAL_GONE:
            cached_unfollow(s);
            cached_look(s);
            return;
        }
    }
}

void cached_on_wake(struct cache_waiter *w)
{
    struct cached *c = CONTAINER(w, struct cached, waiter);
    if (c->reading)
        cached_pump(c->s);
    else
        cached_step(c->s);
}
