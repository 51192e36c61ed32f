/* What holds for the answers of each route: what its [cache] says, with what [defaults], the host
 * and the route say over it. Who says the same shares one struct. */
#include "base/err.h"
#include "config/load.h"

static bool says_any(const struct conf_section *s)
{
    for (const struct conf_entry *e = s ? s->first : NULL; e; e = e->next)
        if (e->key->group == CONF_GROUP_OVER)
            return true;
    return false;
}

static bool same_ttl(const struct conf_ms_opt *a, const struct conf_ms_opt *b)
{
    return a->set == b->set && a->ms == b->ms;
}

/* One section's word over what is there. */
static void put_over(struct conf_load *x, const struct conf_section *s, struct conf_caching *c)
{
    for (const struct conf_entry *e = s ? s->first : NULL; e; e = e->next) {
        if (e->key->group != CONF_GROUP_OVER || e->nword == 0)
            continue;
        c->given |= conf_key_over(e->key);
        if (strcmp(e->key->name, "cache_key") == 0)
            c->key_pos = e->pos;
    }
    conf_apply(x, s, CONF_GROUP_OVER, &c->k);
}

/* All that makes one what it is, in x->scratch. */
static struct slice identity(struct conf_load *x, const struct conf_caching *c)
{
    buf_clear(&x->scratch);
    buf_printf(&x->scratch, "%lld %llx %d %llu %llu\n", c->cache ? (long long)c->cache->id : -1,
               (unsigned long long)c->given, c->ttl.set, (unsigned long long)c->ttl.ms,
               (unsigned long long)c->max_object);
    for (size_t i = 0; i < conf_key_count(); i++) {
        const struct conf_key *k = conf_key_at(i);
        if (k->group != CONF_GROUP_CACHING)
            continue;
        conf_kind_print(k, (const char *)&c->k + k->off, &x->scratch);
        buf_chr(&x->scratch, '\n');
    }
    return x->scratch.failed ? SLICE_NONE : buf_slice(&x->scratch);
}

static const struct conf_caching *intern(struct conf_load *x, const struct conf_caching *c)
{
    struct slice id = identity(x, c);
    const struct conf_caching *old = id.p ? map_get(&x->cachings, id) : NULL;
    if (old || !id.p)
        return old;
    struct conf_caching *own = ARENA_NEW(&x->c->arena, struct conf_caching);
    id = arena_dup(&x->tree, id);
    if (!own || !id.p)
        return NULL;
    *own = *c;
    own->id = (uint32_t)x->c->ncaching;
    if (map_put(&x->cachings, id, own, NULL) < 0)
        return NULL;
    x->c->ncaching++;
    return own;
}

static void begin(const struct conf_load *x, struct conf_cache *cache, struct conf_caching *ret)
{
    *ret = (struct conf_caching){.cache = cache, .k = cache ? cache->caching : x->builtin->caching};
    if (cache)
        ret->key_pos = conf_check_pos(cache->origin, "key", cache->pos);
}

int conf_caching_begin(struct conf_load *x)
{
    struct conf_caching c;
    for (size_t i = 0; i < x->c->ncache; i++) {
        begin(x, x->c->cache[i], &c);
        if (!intern(x, &c))
            return -ERR_NOMEM;
    }
    return 0;
}

const struct conf_caching *conf_caching_of(struct conf_load *x, const struct conf_scope_keys *scope,
                                           const struct conf_section *const *over, size_t nover,
                                           const struct conf_caching *from)
{
    struct conf_caching c;
    const bool muted = x->muted;
    if (from && !says_any(over[nover - 1]) && from->cache == scope->cache &&
        same_ttl(&from->ttl, &scope->ttl) && from->max_object == scope->cache_max_object)
        return from;
    begin(x, scope->cache, &c);
    c.ttl = scope->ttl;
    c.max_object = scope->cache_max_object;
    for (size_t i = 0; i < nover; i++) {
        x->muted = muted || i + 1 < nover; /* told of where they were first met */
        put_over(x, over[i], &c);
    }
    x->muted = muted;
    return intern(x, &c);
}

int conf_caching_end(struct conf_load *x)
{
    struct config *c = x->c;
    c->caching = ARENA_ARRAY(&c->arena, struct conf_caching *, c->ncaching + 1);
    if (!c->caching)
        return -ERR_NOMEM;
    for (size_t i = 0; i <= x->cachings.mask; i++) {
        struct conf_caching *one = x->cachings.e[i].v;
        if (one)
            c->caching[one->id] = one;
    }
    return 0;
}
