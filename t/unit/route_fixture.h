/* Builds configurations for routing tests by hand, without the INI reader: hosts, names, routes. */
#ifndef T_UNIT_ROUTE_FIXTURE_H
#define T_UNIT_ROUTE_FIXTURE_H

#include "config/config.h"
#include "t/unit/tap.h"

#define FIX_UNUSED __attribute__((unused))

struct fix {
    struct config c;
    struct conf_upstream up;
    size_t caphost, caplisten;
    uint32_t line;
};

/* ARENA_ARRAY that cannot fail. */
static FIX_UNUSED void *fix_need(void *p)
{
    if (!p)
        tap_bail("out of memory");
    return p;
}
#define FIX_ARRAY(a, type, n) ((type *)fix_need(ARENA_ARRAY((a), type, (n))))

static FIX_UNUSED void fix_init(struct fix *f)
{
    *f = (struct fix){.line = 1};
    arena_init(&f->c.arena, NULL, 0, 0);
}

static FIX_UNUSED void fix_fini(struct fix *f)
{
    free(f->c.host);
    free(f->c.listen);
    arena_fini(&f->c.arena);
}

static FIX_UNUSED struct conf_pos fix_pos(struct fix *f)
{
    return (struct conf_pos){"t.conf", f->line++, 1};
}

static FIX_UNUSED struct conf_listen *fix_listen(struct fix *f, const char *name)
{
    struct conf_listen *l = FIX_ARRAY(&f->c.arena, struct conf_listen, 1);
    f->c.listen = realloc(f->c.listen, (f->c.nlisten + 1) * sizeof(*f->c.listen));
    fix_need(f->c.listen);
    l->name = slice_str(name);
    l->pos = fix_pos(f);
    l->id = (uint32_t)f->c.nlisten;
    f->c.listen[f->c.nlisten++] = l;
    return l;
}

/* names: blank separated, as in `names =`. The host itself answers when own is true. */
static FIX_UNUSED struct conf_host *fix_host(struct fix *f, const char *name, const char *names,
                                             bool own)
{
    struct arena *a = &f->c.arena;
    struct conf_host *h = FIX_ARRAY(a, struct conf_host, 1);
    if (f->c.nhost == f->caphost) {
        f->caphost = f->caphost * 2 + 16;
        f->c.host = fix_need(realloc(f->c.host, f->caphost * sizeof(*f->c.host)));
    }
    h->name = arena_dup(a, slice_str(name));
    h->pos = fix_pos(f);
    h->self = FIX_ARRAY(a, struct conf_route, 1);
    h->self->host = h;
    h->self->series = h->name;
    h->self->pos = h->pos;
    h->self->upstream = own ? &f->up : NULL;
    h->k.names.v = FIX_ARRAY(a, struct conf_name, strlen(names));
    struct slice rest = arena_dup(a, slice_str(names)), w;
    while (slice_next(&rest, ' ', &w)) {
        struct conf_name *n = &h->k.names.v[h->k.names.n++];
        n->pos = fix_pos(f);
        n->kind = CONF_NAME_EXACT;
        n->text = w;
        if (w.n == 1 && w.p[0] == '*')
            n->kind = CONF_NAME_ANY;
        else if (w.p[0] == '*' || w.p[0] == '~') {
            n->kind = w.p[0] == '*' ? CONF_NAME_WILDCARD : CONF_NAME_REGEX;
            n->text = slice_of(w.p + 1, w.n - 1);
        }
    }
    h->id = (uint32_t)f->c.nhost;
    f->c.host[f->c.nhost++] = h;
    return h;
}

static FIX_UNUSED void fix_host_on(struct fix *f, struct conf_host *h, struct conf_listen *l)
{
    struct conf_listen **v = FIX_ARRAY(&f->c.arena, struct conf_listen *, h->k.listen.n + 1);
    for (size_t i = 0; i < h->k.listen.n; i++)
        v[i] = h->k.listen.v[i];
    v[h->k.listen.n++] = l;
    h->k.listen.v = v;
}

/* paths and methods: blank separated; "" = unset. */
static FIX_UNUSED struct conf_route *fix_route(struct fix *f, struct conf_host *h, const char *name,
                                               const char *paths, const char *methods, int priority)
{
    struct arena *a = &f->c.arena;
    struct conf_route *r = FIX_ARRAY(a, struct conf_route, 1);
    struct conf_route **v = FIX_ARRAY(a, struct conf_route *, h->nroute + 1);
    for (size_t i = 0; i < h->nroute; i++)
        v[i] = h->route[i];
    v[h->nroute++] = r;
    h->route = v;
    r->host = h;
    r->name = arena_dup(a, slice_str(name));
    r->series = arena_printf(a, "%.*s/%s", SLICE_ARG(h->name), name);
    r->pos = fix_pos(f);
    r->upstream = &f->up;
    r->k.priority = priority;
    r->id = (uint32_t)f->c.nroute++;
    struct slice rest = arena_dup(a, slice_str(paths)), w;
    r->k.path.v = FIX_ARRAY(a, struct conf_path, strlen(paths) + 1);
    while (slice_next(&rest, ' ', &w)) {
        struct conf_path *p = &r->k.path.v[r->k.path.n++];
        p->pos = fix_pos(f);
        p->kind = CONF_PATH_EXACT;
        p->text = w;
        if (w.p[0] == '~') {
            p->kind = CONF_PATH_REGEX;
            p->text = slice_of(w.p + 1, w.n - 1);
        } else if (w.p[w.n - 1] == '*') {
            p->kind = CONF_PATH_PREFIX;
            p->text = slice_of(w.p, w.n - 1);
        }
    }
    rest = arena_dup(a, slice_str(methods));
    r->k.method.v = FIX_ARRAY(a, struct slice, strlen(methods) + 1);
    while (slice_next(&rest, ' ', &w))
        r->k.method.v[r->k.method.n++] = w;
    return r;
}

#endif
