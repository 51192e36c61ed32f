/* Stores joined and left, rules of routes, waiters; see cache.h. */
#include "worker/cache/cache.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "shm/cache_meta.h"

#include <stdlib.h>
#include <unistd.h>

#define CACHES_WOKEN 64u /* flights taken from the mailbox at a time */
#define CACHES_TIDY  4u  /* slices of making room per turn */

static void caches_kick(void *arg, uint32_t slot)
{
    const struct caches *cs = arg;
    const uint64_t one = 1;
    (void)!write(cs->kick_fd[slot], &one, sizeof one);
}

/* Configuration lists as policy wants them. */
static const struct slice *rules_words(const struct conf_words *w, size_t *ret_n)
{
    *ret_n = w->off ? 0 : w->n;
    return w->v;
}

static int rules_ttls(struct caches *cs, const struct conf_ttls *t, struct cache_rules *r)
{
    struct policy_ttl *v = ARENA_ARRAY(&cs->arena, struct policy_ttl, t->n ? t->n : 1);
    if (!v)
        return -ERR_NOMEM;
    for (size_t i = 0; i < t->n; i++)
        v[i] = (struct policy_ttl){.status = t->v[i].status, .seconds = t->v[i].seconds};
    r->default_ttl = v;
    r->ndefault_ttl = t->n;
    return 0;
}

static uint32_t rules_seconds(uint64_t ms)
{
    const uint64_t s = ms / 1000;
    return s > CC_FOREVER ? CC_FOREVER : (uint32_t)s;
}

static uint32_t rules_methods(const struct conf_words *w)
{
    static const struct {
        char name[8];
        enum http_method method;
    } known[] = {{"GET", HTTP_GET}, {"HEAD", HTTP_HEAD}, {"QUERY", HTTP_QUERY}};
    uint32_t bits = 0;
    for (size_t i = 0; !w->off && i < w->n; i++)
        for (size_t m = 0; m < sizeof known / sizeof known[0]; m++)
            if (slice_eq(w->v[i], slice_str(known[m].name)))
                bits |= 1u << known[m].method;
    return bits;
}

static unsigned rules_codings(const struct conf_words *w)
{
    static const struct {
        char name[8];
        unsigned bit;
    } known[] = {{"br", VARY_BR}, {"gzip", VARY_GZIP}, {"zstd", VARY_ZSTD}};
    unsigned bits = 0;
    for (size_t i = 0; !w->off && i < w->n; i++)
        for (size_t m = 0; m < sizeof known / sizeof known[0]; m++)
            if (slice_eq(w->v[i], slice_str(known[m].name)))
                bits |= known[m].bit;
    return bits;
}

static int rules_of(struct caches *cs, const struct conf_caching *from, struct cache_rules *r)
{
    const struct conf_caching_keys *k = &from->k;
    const uint64_t most = from->cache->k.max_object;
    size_t at;
    policy_rules_init(r);
    r->methods = rules_methods(&k->methods);
    r->has_ttl = from->ttl.set;
    r->ttl = rules_seconds(from->ttl.ms);
    r->heuristic = k->heuristic;
    r->heuristic_max = rules_seconds(k->heuristic_max);
    r->stale_while_revalidate = rules_seconds(k->stale_while_revalidate);
    r->stale_if_error = rules_seconds(k->stale_if_error);
    r->pass_ttl = rules_seconds(k->pass_ttl);
    r->max_object = from->max_object && from->max_object < most ? from->max_object : most;
    r->min_uses = (uint32_t)k->min_uses;
    r->max_variants = (uint32_t)k->max_variants;
    r->client_control = k->client_control;
    r->targeted = k->targeted;
    r->strip_set_cookie = k->strip_set_cookie;
    r->codings = rules_codings(&k->encodings);
    r->collapse = k->collapse;
    r->collapse_ms = (uint32_t)k->collapse_timeout;
    r->tell = k->cache_status;
    r->key_rules.sort_query = k->sort_query;
    r->key_rules.ignore_query = rules_words(&k->ignore_query, &r->key_rules.nignore_query);
    r->key_rules.ignore_cookie = rules_words(&k->ignore_cookies, &r->key_rules.nignore_cookie);
    int e = rules_ttls(cs, &k->default_ttl, r);
    return e < 0 ? e : key_template_parse(k->key, &cs->arena, &r->key, &at);
}

static void store_init(struct caches *cs, const struct caches_env *env, size_t i)
{
    struct cache_store *st = &cs->store[i];
    st->conf = env->config->cache[i];
    for (size_t b = 0; b < CACHE_BUCKETS; b++)
        list_init(&st->waiting[b]);
    st->c = env->cache ? env->cache[i] : NULL;
    if (!st->c)
        return;
    int e = cache_join(st->c, env->owner, caches_kick, cs, &st->w);
    if (e < 0) {
        st->w = NULL;
        LOG_WARN("cache_join", "cache %.*s goes unused by this worker: %s",
                 SLICE_ARG(st->conf->name), err_text(e));
        return;
    }
    st->heat = calloc(1, sizeof *st->heat); /* without it nothing is hot */
    cache_set_time(st->w, (uint32_t)(clock_cached.wall_ms / 1000));
}

int caches_init(struct caches *cs, const struct caches_env *env)
{
    const struct config *c = env->config;
    *cs = (struct caches){.n = c->ncache, .kick_fd = env->kick_fd};
    arena_init(&cs->arena, NULL, 0, 0);
    if (!c->ncache)
        return 0;
    cs->store = calloc(c->ncache, sizeof *cs->store);
    cs->rules = ARENA_ARRAY(&cs->arena, struct cache_rules, c->ncaching);
    if (!cs->store || !cs->rules)
        return -ERR_NOMEM;
    for (size_t i = 0; i < c->ncaching; i++) {
        int e = c->caching[i]->cache ? rules_of(cs, c->caching[i], &cs->rules[i]) : 0;
        if (e < 0)
            return e;
    }
    for (size_t i = 0; i < c->ncache; i++)
        store_init(cs, env, i);
    return 0;
}

void caches_fini(struct caches *cs)
{
    for (size_t i = 0; cs->store && i < cs->n; i++) {
        if (cs->store[i].w)
            cache_leave(&cs->store[i].w);
        free(cs->store[i].heat);
    }
    free(cs->store);
    cs->store = NULL;
    cs->n = 0;
    arena_fini(&cs->arena);
}

static void caches_time(struct caches *cs, uint32_t wall_s)
{
    cs->wall_s = wall_s;
    for (size_t i = 0; i < cs->n; i++) {
        struct cache_store *st = &cs->store[i];
        if (st->w)
            cache_set_time(st->w, wall_s);
    }
}

/* ---- waiting ---- */

void cache_waiter_init(struct cache_waiter *w, void (*wake)(struct cache_waiter *w))
{
    list_init(&w->link);
    w->store = NULL;
    w->wake = wake;
}

void cache_waiter_wait(struct cache_waiter *w, struct cache_store *st, uint32_t flight)
{
    if (w->store)
        return;
    w->store = st;
    w->flight = flight;
    st->nwaiting++;
    list_append(&st->waiting[flight % CACHE_BUCKETS], &w->link);
}

void cache_waiter_stop(struct cache_waiter *w)
{
    if (!w->store)
        return;
    w->store->nwaiting--;
    w->store = NULL;
    list_remove(&w->link);
}

static void store_wake(struct cache_store *st, uint32_t flight)
{
    /* Those who wait again stand in the list anew: only who stands there now is called. */
    struct list *bucket = &st->waiting[flight % CACHE_BUCKETS], now;
    if (list_empty(bucket))
        return;
    list_init(&now);
    now.next = bucket->next;
    now.prev = bucket->prev;
    now.next->prev = now.prev->next = &now;
    list_init(bucket);
    while (!list_empty(&now)) {
        struct cache_waiter *w = CONTAINER(now.next, struct cache_waiter, link);
        list_remove(&w->link);
        if (w->flight != flight) {
            list_append(bucket, &w->link);
            continue;
        }
        w->store->nwaiting--;
        w->store = NULL;
        w->wake(w);
    }
}

void caches_turn(struct caches *cs, uint32_t wall_s)
{
    if (wall_s != cs->wall_s)
        caches_time(cs, wall_s);
    for (size_t i = 0; i < cs->n; i++) {
        struct cache_store *st = &cs->store[i];
        uint32_t flight[CACHES_WOKEN];
        if (!st->w)
            continue;
        for (unsigned t = 0; t < CACHES_TIDY && st->grown; t++)
            st->grown = cache_tidy(st->w);
        if (!st->nwaiting && !st->sleeping)
            continue;
        const unsigned n = cache_woken(st->w, flight, CACHES_WOKEN);
        for (unsigned f = 0; f < n; f++)
            store_wake(st, flight[f]);
        st->sleeping = false;
    }
}

bool caches_may_sleep(struct caches *cs)
{
    bool may = true;
    for (size_t i = 0; i < cs->n; i++) {
        struct cache_store *st = &cs->store[i];
        if (!st->w || !st->nwaiting)
            continue;
        st->sleeping = cache_may_sleep(st->w);
        may = may && st->sleeping;
    }
    return may;
}

unsigned cache_target_names(const void *target, uint64_t *ret)
{
    const struct cache_target *t = target;
    return cache_meta_names(t->c, t->host, t->path, t->query, ret);
}
