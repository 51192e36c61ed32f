/* From sections to objects: built-in defaults, [defaults], inheritance, references, routes of all
 * hosts. */
#include "base/err.h"
#include "config/load.h"

/* Values of the groups when nothing is said. */
static bool group_defaults(struct conf_load *x, enum conf_group g, void *dst)
{
    for (size_t i = 0; i < conf_key_count(); i++) {
        const struct conf_key *k = conf_key_at(i);
        if (k->group == g && !conf_kind_default(x, k, (char *)dst + k->off))
            return false;
    }
    return true;
}

void conf_apply(struct conf_load *x, const struct conf_section *s, enum conf_group g, void *dst)
{
    for (const struct conf_entry *e = s ? s->first : NULL; e; e = e->next) {
        if (e->key->group != g || e->nword == 0)
            continue;
        const struct conf_kind *kind = conf_kind_of(e->key);
        void *v = (char *)dst + e->key->off;
        size_t before = e->first && !e->append ? 0 : kind->count(v);
        (void)kind->parse(x, e, v);
        if (e->origin)
            e->origin->items = kind->count(v) - before;
    }
}

static void check_required(struct conf_load *x, const struct conf_section *s)
{
    const struct conf_sect_info *info = conf_sect_info(s->kind);
    for (size_t i = 0; i < conf_key_count(); i++) {
        const struct conf_key *k = conf_key_at(i);
        const struct conf_entry *e = s->first;
        if (!(k->flags & F_REQUIRED) || !(info->groups & (1u << k->group)))
            continue;
        while (e && (e->key != k || conf_kind_is_off(e)))
            e = e->next;
        struct slice name = conf_key_name(k);
        if (!e)
            conf_load_error(x, s->pos, "[%s " SLICE_FMT "] needs \"" SLICE_FMT "\"", info->name,
                            SLICE_ARG(s->name), SLICE_ARG(name));
    }
}

/* In the order of the lines. Before apply(), which counts. */
static const struct conf_origin *origins(struct conf_load *x, const struct conf_section *s)
{
    const struct conf_origin *list = NULL;
    struct conf_origin *last = NULL;
    for (struct conf_entry *e = s ? s->first : NULL; e; e = e->next) {
        struct conf_origin *o = ARENA_NEW(&x->c->arena, struct conf_origin);
        if (!o)
            break;
        *o = (struct conf_origin){.key = e->key, .pos = e->pos};
        if (last)
            last->next = o;
        else
            list = o;
        e->origin = last = o;
    }
    return list;
}

static size_t count_sections(const struct conf_load *x, enum conf_sect kind)
{
    size_t n = 0;
    for (const struct conf_section *s = x->sections; s; s = s->next)
        n += s->kind == kind;
    return n;
}

/* Makes empty objects of one kind with their names, so that references find them. */
#define MAKE(field, type, sect, map)                                                               \
    do {                                                                                           \
        size_t n_ = count_sections(x, sect);                                                       \
        c->field = ARENA_ARRAY(&c->arena, struct type *, n_ + 1);                                  \
        for (struct conf_section *s_ = x->sections; s_ && c->field; s_ = s_->next) {               \
            struct type *o_ = s_->kind == (sect) ? ARENA_NEW(&c->arena, struct type) : NULL;       \
            if (s_->kind != (sect))                                                                \
                continue;                                                                          \
            if (!o_)                                                                               \
                return -ERR_NOMEM;                                                                 \
            o_->name = s_->name;                                                                   \
            o_->pos = s_->pos;                                                                     \
            o_->origin = origins(x, s_);                                                           \
            o_->id = (uint32_t)c->n##field;                                                        \
            c->field[c->n##field++] = o_;                                                          \
            s_->object = o_;                                                                       \
            if (map_put(&x->map, o_->name, o_, NULL) == -ERR_NOMEM)                                \
                return -ERR_NOMEM;                                                                 \
        }                                                                                          \
    } while (0)

static int make_objects(struct conf_load *x)
{
    struct config *c = x->c;
    MAKE(log, conf_log, CONF_SECT_LOG, logs);
    MAKE(upstream, conf_upstream, CONF_SECT_UPSTREAM, upstreams);
    MAKE(certificate, conf_certificate, CONF_SECT_CERTIFICATE, certificates);
    MAKE(cache, conf_cache, CONF_SECT_CACHE, caches);
    MAKE(compress, conf_compress, CONF_SECT_COMPRESS, compresses);
    if (!map_get(&x->compresses, SLICE("standard"))) {
        struct conf_compress *o = ARENA_NEW(&c->arena, struct conf_compress);
        if (!o)
            return -ERR_NOMEM;
        o->name = SLICE("standard");
        o->pos.file = "<default>";
        o->id = (uint32_t)c->ncompress;
        c->compress[c->ncompress++] = o;
        if (map_put(&x->compresses, o->name, o, NULL) == -ERR_NOMEM)
            return -ERR_NOMEM;
    }
    MAKE(listen, conf_listen, CONF_SECT_LISTEN, listens);
    MAKE(host, conf_host, CONF_SECT_HOST, hosts);
    return arena_failed(&c->arena) ? -ERR_NOMEM : 0;
}

const void *conf_builtin_group(const struct conf_builtin *b, enum conf_group g)
{
    switch (g) {
    case CONF_GROUP_GLOBAL:
        return &b->global;
    case CONF_GROUP_LISTEN:
        return &b->listen;
    case CONF_GROUP_CONN:
        return &b->conn;
    case CONF_GROUP_SCOPE:
        return &b->scope;
    case CONF_GROUP_CERTIFICATE:
        return &b->certificate;
    case CONF_GROUP_CACHE:
        return &b->cache;
    case CONF_GROUP_CACHING:
    case CONF_GROUP_OVER:
        return &b->caching;
    case CONF_GROUP_COMPRESS:
        return &b->compress;
    case CONF_GROUP_HOST:
        return &b->host;
    case CONF_GROUP_ROUTE:
        return &b->route;
    case CONF_GROUP_SCOPE_UP:
        return &b->scope_up;
    case CONF_GROUP_UPSTREAM:
        return &b->upstream;
    case CONF_GROUP_LOG:
        return &b->log;
    case CONF_GROUP__COUNT:
        break;
    }
    return NULL;
}

static int built_in(struct conf_load *x)
{
    struct config *c = x->c;
    struct conf_builtin *b = ARENA_NEW(&c->arena, struct conf_builtin);
    if (!b)
        return -ERR_NOMEM;
    bool ok = group_defaults(x, CONF_GROUP_GLOBAL, &b->global) &&
              group_defaults(x, CONF_GROUP_CONN, &b->conn) &&
              group_defaults(x, CONF_GROUP_SCOPE, &b->scope) &&
              group_defaults(x, CONF_GROUP_LISTEN, &b->listen) &&
              group_defaults(x, CONF_GROUP_CERTIFICATE, &b->certificate) &&
              group_defaults(x, CONF_GROUP_CACHE, &b->cache) &&
              group_defaults(x, CONF_GROUP_CACHING, &b->caching) &&
              group_defaults(x, CONF_GROUP_COMPRESS, &b->compress) &&
              group_defaults(x, CONF_GROUP_HOST, &b->host) &&
              group_defaults(x, CONF_GROUP_ROUTE, &b->route) &&
              group_defaults(x, CONF_GROUP_UPSTREAM, &b->upstream) &&
              group_defaults(x, CONF_GROUP_LOG, &b->log);
    if (!ok)
        return arena_failed(&c->arena) || x->scratch.failed ? -ERR_NOMEM : -ERR_INTERNAL;
    c->builtin = x->builtin = b;
    c->global = b->global;
    c->defaults_conn = b->conn;
    c->defaults = b->scope;
    struct conf_log *log = map_get(&x->logs, SLICE("main"));
    if (log) {
        struct conf_log **v =
            conf_kind_grow(x, &c->defaults.access_log, sizeof(struct conf_log *), true);
        if (!v)
            return -ERR_NOMEM;
        *v = log;
    }
    return 0;
}

static void fill_upstream(struct conf_load *x, const struct conf_section *s,
                          struct conf_upstream *u)
{
    u->k = x->builtin->upstream;
    conf_apply(x, s, CONF_GROUP_UPSTREAM, &u->k);
    for (size_t i = 0; i < u->k.server.n; i++) {
        struct conf_server *v = &u->k.server.v[i];
        if (!v->own_max_conns)
            v->max_conns = u->k.max_conns;
        if (v->tls && !v->own_tls_name && u->k.tls_name.n > 0)
            v->tls_name = u->k.tls_name;
        if (v->tls && !v->own_tls_ca)
            v->tls_ca = u->k.tls_ca.n > 0 ? u->k.tls_ca : SLICE("");
        buf_clear(&x->scratch);
        buf_add(&x->scratch, u->name);
        buf_chr(&x->scratch, 0);
        buf_add(&x->scratch, v->name);
        v->key = hash_fixed(x->scratch.p, x->scratch.n);
    }
    x->c->nserver += u->k.server.n;
}

/* Fills everything but routes. */
static void fill_objects(struct conf_load *x)
{
    struct config *c = x->c;
    c->global_origin = origins(x, x->global);
    for (size_t i = 0; i < c->ncompress; i++)
        c->compress[i]->k = x->builtin->compress;
    c->defaults_origin = origins(x, x->defaults);
    conf_apply(x, x->global, CONF_GROUP_GLOBAL, &c->global);
    conf_apply(x, x->defaults, CONF_GROUP_CONN, &c->defaults_conn);
    conf_apply(x, x->defaults, CONF_GROUP_SCOPE, &c->defaults);
    conf_apply(x, x->defaults, CONF_GROUP_SCOPE_UP, &c->defaults_upstream);
    for (const struct conf_section *s = x->sections; s; s = s->next) {
        if (s->kind == CONF_SECT_LOG) {
            struct conf_log *o = s->object;
            o->k = x->builtin->log;
            conf_apply(x, s, CONF_GROUP_LOG, &o->k);
        } else if (s->kind == CONF_SECT_UPSTREAM) {
            fill_upstream(x, s, s->object);
        } else if (s->kind == CONF_SECT_CERTIFICATE) {
            struct conf_certificate *o = s->object;
            o->k = x->builtin->certificate;
            conf_apply(x, s, CONF_GROUP_CERTIFICATE, &o->k);
        } else if (s->kind == CONF_SECT_CACHE) {
            struct conf_cache *o = s->object;
            o->k = x->builtin->cache;
            o->caching = x->builtin->caching;
            conf_apply(x, s, CONF_GROUP_CACHE, &o->k);
            conf_apply(x, s, CONF_GROUP_CACHING, &o->caching);
        } else if (s->kind == CONF_SECT_COMPRESS) {
            struct conf_compress *o = s->object;
            conf_apply(x, s, CONF_GROUP_COMPRESS, &o->k);
        } else if (s->kind == CONF_SECT_LISTEN) {
            struct conf_listen *o = s->object;
            o->k = x->builtin->listen;
            o->conn = c->defaults_conn;
            conf_apply(x, s, CONF_GROUP_LISTEN, &o->k);
            conf_apply(x, s, CONF_GROUP_CONN, &o->conn);
        } else if (s->kind == CONF_SECT_HOST) {
            struct conf_host *o = s->object;
            o->k = x->builtin->host;
            o->scope = c->defaults;
            o->upstream = c->defaults_upstream;
            conf_apply(x, s, CONF_GROUP_HOST, &o->k);
            conf_apply(x, s, CONF_GROUP_SCOPE, &o->scope);
            conf_apply(x, s, CONF_GROUP_SCOPE_UP, &o->upstream);
        }
        if (s->kind != CONF_SECT_NONE)
            check_required(x, s);
    }
}

/* What [defaults] and hosts say over their caches, when these are filled. 0 or -ERR_NOMEM. */
static int fill_caching(struct conf_load *x)
{
    struct config *c = x->c;
    int k = conf_caching_begin(x);
    const struct conf_section *over[2] = {x->defaults};
    if (k == 0)
        c->defaults_caching = conf_caching_of(x, &c->defaults, over, 1, NULL);
    if (!c->defaults_caching)
        return -ERR_NOMEM;
    for (const struct conf_section *s = x->sections; s; s = s->next) {
        if (s->kind != CONF_SECT_HOST)
            continue;
        struct conf_host *h = s->object;
        x->host_sect[h->id] = over[1] = s;
        h->caching = conf_caching_of(x, &h->scope, over, 2, c->defaults_caching);
        if (!h->caching)
            return -ERR_NOMEM;
    }
    return 0;
}

/* h: NULL for a route of all hosts, which then is only checked. 0 or -ERR_NOMEM. */
static int fill_route(struct conf_load *x, const struct conf_section *s, struct conf_host *h,
                      struct conf_route *r)
{
    const struct config *c = x->c;
    const struct conf_section *over[3] = {x->defaults, h ? x->host_sect[h->id] : NULL, s};
    r->name = s->route;
    r->host = h;
    r->pos = s->pos;
    r->k = x->builtin->route;
    r->scope = h ? h->scope : c->defaults;
    r->upstream = h ? h->upstream : c->defaults_upstream;
    conf_apply(x, s, CONF_GROUP_ROUTE, &r->k);
    conf_apply(x, s, CONF_GROUP_SCOPE, &r->scope);
    conf_apply(x, s, CONF_GROUP_SCOPE_UP, &r->upstream);
    r->caching = conf_caching_of(x, &r->scope, over, 3, h ? h->caching : c->defaults_caching);
    return r->caching ? 0 : -ERR_NOMEM;
}

/* Routes by host before their order is known: lists in the order of the files. */
struct pending {
    const struct conf_section *sect;
    struct conf_route *route;
    struct pending *next;
};
struct pending_list {
    struct pending *first, **last;
    size_t n;
};

static int pend(struct conf_load *x, struct pending_list *l, const struct conf_section *s,
                struct conf_route *r)
{
    struct pending *p = ARENA_NEW(&x->tree, struct pending);
    if (!p)
        return -ERR_NOMEM;
    *p = (struct pending){s, r, NULL};
    if (!l->last)
        l->last = &l->first;
    *l->last = p;
    l->last = &p->next;
    l->n++;
    return 0;
}

/* Sorts the routes into their hosts; those of all hosts are checked here, once. */
static int collect_routes(struct conf_load *x, struct pending_list *own, struct pending_list *star)
{
    struct config *c = x->c;
    for (struct conf_section *s = x->sections; s; s = s->next) {
        if (s->kind != CONF_SECT_ROUTE)
            continue;
        bool all = slice_eq(s->host, SLICE("*"));
        struct conf_host *h = all ? NULL : map_get(&x->hosts, s->host);
        if (!h && !all) {
            struct conf_near near;
            conf_near_init(&near, s->host);
            for (size_t i = 0; i < c->nhost && x->d->n < 200; i++)
                conf_near_try(&near, c->host[i]->name);
            if (near.best.p)
                conf_load_error(x, s->pos,
                                "there is no [host " SLICE_FMT "]; did you mean \"" SLICE_FMT "\"?",
                                SLICE_ARG(s->host), SLICE_ARG(near.best));
            else
                conf_load_error(x, s->pos, "there is no [host " SLICE_FMT "]", SLICE_ARG(s->host));
        }
        struct conf_route *r = ARENA_NEW(&c->arena, struct conf_route);
        if (!r || fill_route(x, s, h, r) < 0)
            return -ERR_NOMEM;
        r->origin = origins(x, s);
        s->object = r;
        if (r->k.return_.status && r->k.metrics)
            conf_load_error(x, s->pos, "[route " SLICE_FMT "] has both return and metrics",
                            SLICE_ARG(s->name));
        if (h && !x->bad_upstream && !r->upstream && !r->k.return_.status && !r->k.metrics)
            conf_load_error(
                x, s->pos,
                "[route " SLICE_FMT
                "] has no upstream, and neither has its host; or give it return or metrics",
                SLICE_ARG(s->name));
        if ((h || all) && pend(x, all ? star : &own[h->id], s, r) < 0)
            return -ERR_NOMEM;
    }
    return 0;
}

/* A host's own version of a route of all hosts, unless it has a route of that name. */
static int copy_star(struct conf_load *x, struct conf_host *h, const struct pending *p,
                     struct pending_list *own)
{
    const struct conf_route *from = p->route;
    buf_clear(&x->scratch);
    buf_printf(&x->scratch, "route " SLICE_FMT "/" SLICE_FMT, SLICE_ARG(h->name),
               SLICE_ARG(from->name));
    if (x->scratch.failed)
        return -ERR_NOMEM;
    if (map_get(&x->by_title, buf_slice(&x->scratch)))
        return 0;
    struct conf_route *r = ARENA_NEW(&x->c->arena, struct conf_route);
    if (!r)
        return -ERR_NOMEM;
    x->muted = true; /* reported when it was collected */
    int k = fill_route(x, p->sect, h, r);
    x->muted = false;
    if (k < 0)
        return k;
    r->origin = from->origin;
    if (!x->bad_upstream && !r->upstream && !r->k.return_.status && !r->k.metrics)
        conf_load_error(x, p->sect->pos,
                        "[route " SLICE_FMT "] has no upstream in [host " SLICE_FMT
                        "]; give it an upstream, return or metrics",
                        SLICE_ARG(p->sect->name), SLICE_ARG(h->name));
    return pend(x, own, p->sect, r);
}

static int finish_host(struct conf_load *x, struct conf_host *h, struct pending_list *own,
                       const struct pending_list *star, struct map *paths)
{
    struct arena *a = &x->c->arena;
    size_t n_own = own->n, n = 0;
    for (const struct pending *p = star->first; p; p = p->next)
        if (copy_star(x, h, p, own) < 0)
            return -ERR_NOMEM;
    struct conf_rank *rank = ARENA_ARRAY(&x->tree, struct conf_rank, own->n + 1);
    if (!rank)
        return -ERR_NOMEM;
    for (const struct pending *p = own->first; p; p = p->next, n++)
        rank[n] = (struct conf_rank){.route = p->route, .star = n >= n_own, .seq = p->sect->seq};
    if (conf_order(x, paths, h, rank, &n) < 0)
        return -ERR_NOMEM;
    h->route = ARENA_ARRAY(a, struct conf_route *, n + 1);
    h->self = ARENA_NEW(a, struct conf_route);
    if (!h->route || !h->self)
        return -ERR_NOMEM;
    for (h->nroute = 0; h->nroute < n; h->nroute++) {
        struct conf_route *r = rank[h->nroute].route;
        r->series =
            arena_printf(a, SLICE_FMT "/" SLICE_FMT, SLICE_ARG(h->name), SLICE_ARG(r->name));
        h->route[h->nroute] = r;
    }
    *h->self = (struct conf_route){.name = SLICE(""),
                                   .host = h,
                                   .pos = h->pos,
                                   .k = x->builtin->route,
                                   .scope = h->scope,
                                   .caching = h->caching,
                                   .upstream = h->upstream,
                                   .series = h->name,
                                   .origin = h->origin};
    x->c->nroute += n + 1;
    return 0;
}

static int build_routes(struct conf_load *x)
{
    struct config *c = x->c;
    struct pending_list star = {0}, *own = ARENA_ARRAY(&x->tree, struct pending_list, c->nhost + 1);
    struct map paths;
    if (!own)
        return -ERR_NOMEM;
    int k = collect_routes(x, own, &star);
    if (k < 0)
        return k;
    k = map_init(&paths, x->nsection);
    if (k < 0)
        return k;
    for (size_t i = 0; i < c->nhost && k == 0; i++)
        k = finish_host(x, c->host[i], &own[i], &star, &paths);
    map_fini(&paths);
    if (k < 0)
        return k;
    c->route = ARENA_ARRAY(&c->arena, struct conf_route *, c->nroute + 1);
    if (!c->route)
        return -ERR_NOMEM;
    uint32_t id = 0;
    for (size_t i = 0; i < c->nhost; i++) {
        struct conf_host *h = c->host[i];
        for (size_t r = 0; r <= h->nroute; r++) {
            struct conf_route *route = r < h->nroute ? h->route[r] : h->self;
            route->id = id;
            c->route[id++] = route;
        }
    }
    return 0;
}

int conf_build(struct conf_load *x)
{
    int k = make_objects(x);
    if (k == 0)
        k = built_in(x);
    if (k < 0)
        return k;
    fill_objects(x);
    x->host_sect = ARENA_ARRAY(&x->tree, const struct conf_section *, x->c->nhost + 1);
    k = x->host_sect ? fill_caching(x) : -ERR_NOMEM;
    if (k == 0)
        k = build_routes(x);
    if (k == 0)
        k = conf_caching_end(x);
    return arena_failed(&x->c->arena) || x->scratch.failed ? -ERR_NOMEM : k;
}
