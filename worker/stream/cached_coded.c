/* Stored answers in a coding that the client takes: from a copy beside them, or encoded on the way,
 * which makes that copy; see cached.h. */
#include "worker/cache/coded.h"
#include "worker/stream/cached.h"

#define CACHED_CODINGS ((1u << CONF_CODING__COUNT) - 1)

void cached_copy_end(struct cached *c)
{
    if (!c->copying)
        return;
    c->copying = false;
    cache_fill_abort(c->store->w, &c->copy, false, CACHED_RETRY);
}

/* What the encoder gives to the client. */
static void cached_copy(struct stream *s, struct slice bytes, bool end)
{
    struct cached *c = s->cached;
    if (!c->copying)
        return;
    if (cache_fill_append(c->store->w, &c->copy, bytes) < 0) {
        cached_copy_end(c);
    } else if (end) {
        c->copying = false;
        c->store->grown = true;
        (void)cache_fill_done(c->store->w, &c->copy);
    }
}

/* One on the whole machine makes the copy of a complete answer; others who want it meanwhile encode
 * for themselves. seen: version of what stands in its place. */
static void cached_copy_begin(struct stream *s, uint8_t coding, uint64_t seen)
{
    struct cached *c = s->cached;
    struct cache_worker *w = c->store->w;
    const struct cache_key key = coded_key(c->store->c, c->hit.key, coding);
    const struct coded k = {.version = c->hit.version, .size = c->hit.size, .coding = coding};
    const struct cache_scope scope = cached_scope(c);
    struct cache_follow other;
    struct cache_attr attr;
    char meta[CODED_META];
    switch (cache_claim(w, &key, &scope, seen, &c->copy, &other)) {
    case CACHE_LEAD:
        break;
    case CACHE_FOLLOW:
        cache_follow_leave(w, &other);
        return;
    case CACHE_AGAIN:
    case CACHE_ALONE:
        return;
    }
    c->copying = true;
    coded_attr(&c->hit, &attr);
    if (cache_fill_head(w, &c->copy, &attr, NULL, 0, coded_write(&k, meta), CACHE_UNKNOWN) < 0)
        cached_copy_end(c);
}

/* Copies that could be smaller are made anew when they are asked for often. */
static void cached_heat(struct stream *s, const struct coded *k)
{
    const struct cached *c = s->cached;
    const struct conf_compress_keys *conf = &s->scope->compress->k;
    if (!k->best && conf->recompress_hits && c->hit.size <= conf->recompress_size &&
        c->store->heat && s->env->recode &&
        coded_hot(c->store->heat, &c->hit.key, (uint32_t)conf->recompress_hits))
        s->env->recode(c->store, &c->hit, k->coding);
}

/* The copy in place of the answer it was made of, whose head is in o by now. */
static void cached_swap(struct stream *s, struct cache_hit *copy, uint8_t coding)
{
    struct cached *c = s->cached;
    if (s->req.method != HTTP_HEAD)
        s->plain = c->hit.size;
    cache_release(c->store->w, &c->hit);
    c->hit = *copy;
    c->size = copy->size;
    s->coding = coding;
    counter_add(s->env->ctr, CTR_COMPRESS_STORED, 1);
}

static void cached_coded_head(struct stream *s, const struct stored *st,
                              const struct stream_stored *what, uint8_t coding, struct head_out *o)
{
    s->env->filter->coded_head(what, coding, o);
    if (!s->fwd.hide_server)
        head_add(o, st->server);
    if (!s->fwd.hsts.p)
        head_add(o, st->hsts);
}

bool cached_coded(struct stream *s, const struct stored *st, struct head_out *o, bool *ret_vary)
{
    struct cached *c = s->cached;
    const struct stream_stored what = {.status = st->status, .fields = st->fields, .size = c->size};
    struct stream_coded want = {0};
    struct cache_hit copy;
    struct coded k;
    uint64_t seen = 0;
    if (s->env->filter)
        s->env->filter->choose(s, &what, &want);
    *ret_vary = want.vary;
    if (!want.coding)
        return false;
    if (c->hit.word &&
        coded_find(c->store->w, c->store->c, &c->hit, want.coding, &copy, &k, &seen)) {
        cached_coded_head(s, st, &what, want.coding, o);
        cached_heat(s, &k);
        cached_swap(s, &copy, want.coding);
        *ret_vary = false;
        return true;
    }
    if (s->req.method != HTTP_HEAD) {
        const bool store = c->hit.word && s->scope->compress->k.store;
        if (store)
            cached_copy_begin(s, want.coding, seen);
        if (s->env->filter->encode(s, &what, want.coding, c->copying ? cached_copy : NULL) < 0) {
            cached_copy_end(c);
            return false;
        }
    }
    cached_coded_head(s, st, &what, want.coding, o);
    s->coding = want.coding;
    c->size = CACHE_UNKNOWN;
    *ret_vary = false;
    return true;
}

void cached_coded_renew(struct stream *s, const struct cache_hit *was)
{
    const struct cached *c = s->cached;
    if (s->scope->compress && s->scope->compress->k.store)
        coded_renew(c->store->w, c->store->c, was, CACHED_CODINGS);
}
