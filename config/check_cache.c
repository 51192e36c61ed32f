/* Checks across sections that concern caches: who uses them, files of their own, keys that need
 * another one. */
#include "base/err.h"
#include "config/load.h"

/* Files by path: a file holds one cache. */
static int claim_path(struct conf_load *x, struct map *m, const struct conf_cache *o,
                      const char *key, struct slice path)
{
    void *old = NULL;
    int k = path.n > 0 ? map_put(m, path, (void *)(uintptr_t)o, &old) : 0;
    if (k != -ERR_EXIST)
        return k;
    const struct conf_cache *first = old;
    conf_load_error(x, conf_check_pos(o->origin, key, o->pos),
                    "%s " SLICE_FMT " is that of [cache " SLICE_FMT "] (%s:%u) already", key,
                    SLICE_ARG(path), SLICE_ARG(first->name), first->pos.file, first->pos.line);
    return 0;
}

static void check_cache(struct conf_load *x, const struct conf_cache *o, bool used)
{
    const struct conf_cache_keys *k = &o->k;
    if (k->max_object > k->size / 2 && conf_check_differs(x, CONF_SECT_CACHE, "max_object", k))
        conf_load_error(x, conf_check_pos(o->origin, "max_object", o->pos),
                        "max_object of [cache " SLICE_FMT "] is more than half of its size",
                        SLICE_ARG(o->name));
    if (k->max_share < 1000)
        conf_load_error(x, conf_check_pos(o->origin, "max_share", o->pos),
                        "max_share of [cache " SLICE_FMT "] is less than 1%%", SLICE_ARG(o->name));
    if (!o->caching.collapse &&
        conf_check_differs(x, CONF_SECT_CACHE, "collapse_timeout", &o->caching))
        conf_load_warn(x, conf_check_pos(o->origin, "collapse_timeout", o->pos),
                       "collapse_timeout has no effect with \"collapse = off\"");
    if (!used)
        conf_load_warn(x, o->pos, "no host or route uses [cache " SLICE_FMT "]",
                       SLICE_ARG(o->name));
}

/* Keys that a section gives itself and that do nothing there. */
static void check_idle(struct conf_load *x, const struct conf_origin *o,
                       const struct conf_scope_keys *k, bool cached)
{
    const struct {
        const char *key;
        bool on;
    } keys[] = {{"ttl", k->ttl.set},
                {"cache_bypass", k->cache_bypass.n > 0},
                {"cache_max_object", k->cache_max_object > 0}};
    struct conf_pos none = {0};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0] && !cached; i++) {
        struct conf_pos pos = conf_check_pos(o, keys[i].key, none);
        if (pos.file && keys[i].on)
            conf_load_warn(x, pos, "%s has no effect without \"cache = NAME\"", keys[i].key);
    }
    for (; o && !cached; o = o->next)
        if (o->key->group == CONF_GROUP_OVER)
            conf_load_warn(x, o->pos, "%s has no effect without \"cache = NAME\"", o->key->name);
}

/* As the files have them: a route of all hosts is told of once, whatever its copies inherit. */
static void check_routes(struct conf_load *x, bool any)
{
    struct conf_pos none = {0};
    for (const struct conf_section *s = x->sections; s; s = s->next) {
        const struct conf_route *r = s->kind == CONF_SECT_ROUTE ? s->object : NULL;
        struct conf_pos pos = r ? conf_check_pos(r->origin, "cache", none) : none;
        if (!r)
            continue;
        if (pos.file && r->scope.cache && (r->k.return_.status || r->k.metrics))
            conf_load_warn(x, pos,
                           "cache: [route " SLICE_FMT
                           "] has no upstream; what rpd says itself is not stored",
                           SLICE_ARG(s->name));
        struct conf_pos most = conf_check_pos(r->origin, "cache_max_object", none);
        if (most.file && r->scope.cache && r->scope.cache_max_object > r->scope.cache->k.max_object)
            conf_load_warn(x, most,
                           "cache_max_object is more than the max_object of [cache " SLICE_FMT
                           "], which is the limit",
                           SLICE_ARG(r->scope.cache->name));
        check_idle(x, r->origin, &r->scope, r->scope.cache || (!r->host && any));
    }
}

int conf_check_cache(struct conf_load *x)
{
    const struct config *c = x->c;
    bool *used = ARENA_ARRAY(&x->tree, bool, c->ncache + 1), any = c->defaults.cache != NULL;
    struct map files;
    if (!used)
        return -ERR_NOMEM;
    if (c->ncache > CONF_MOST_CACHES)
        conf_load_error(x, c->cache[CONF_MOST_CACHES]->pos, "%zu caches; %u is the limit",
                        c->ncache, CONF_MOST_CACHES);
    int k = map_init(&files, c->ncache);
    for (size_t i = 0; i < c->nhost; i++) {
        const struct conf_host *h = c->host[i];
        bool cached = h->scope.cache != NULL;
        for (size_t r = 0; r < h->nroute; r++) {
            cached |= h->route[r]->scope.cache != NULL;
            if (h->route[r]->scope.cache)
                used[h->route[r]->scope.cache->id] = true;
        }
        if (h->scope.cache)
            used[h->scope.cache->id] = true;
        check_idle(x, h->origin, &h->scope, cached);
        any |= cached;
    }
    check_idle(x, c->defaults_origin, &c->defaults, any);
    check_routes(x, any);
    for (size_t i = 0; i < c->ncache && k == 0; i++) {
        check_cache(x, c->cache[i], used[i] || c->defaults.cache == c->cache[i]);
        k = claim_path(x, &files, c->cache[i], "file", c->cache[i]->k.file);
    }
    map_fini(&files);
    return k;
}
