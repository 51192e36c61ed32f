/* The effective configuration as INI that loads again. */
#include "config/load.h"

struct dumper {
    struct buf *out;
    struct buf scratch;
    const struct conf_builtin *builtin;
    bool origin, changed;
};

static const struct conf_origin *find_origin(const struct conf_origin *o, const struct conf_key *k)
{
    while (o && o->key != k)
        o = o->next;
    return o;
}

static void put_origin(struct dumper *d, const struct conf_origin *o, bool first)
{
    buf_printf(d->out, "%s%s:%u", first ? " ; " : ", ", o->pos.file, o->pos.line);
}

/* A value from all lines that the section has for it. */
static void end_line(struct dumper *d, const struct conf_origin *o, const struct conf_key *k)
{
    bool first = true;
    for (o = find_origin(o, k); d->origin && o; o = find_origin(o->next, k), first = false)
        put_origin(d, o, first);
    if (d->origin && first)
        buf_str(d->out, " ; default");
    buf_chr(d->out, '\n');
}

/* Item i of n of a list. What the section's own lines did not give comes first: it is inherited. */
static void end_item(struct dumper *d, const struct conf_origin *o, const struct conf_key *k,
                     size_t i, size_t n)
{
    const struct conf_origin *at = find_origin(o, k);
    size_t own = 0;
    if (!d->origin || !at) {
        end_line(d, o, k);
        return;
    }
    for (o = at; o; o = find_origin(o->next, k))
        own += o->items;
    if (i + own < n) {
        buf_str(d->out, " ; inherited\n");
        return;
    }
    for (i -= n - own; at && i >= at->items; at = find_origin(at->next, k))
        i -= at->items;
    if (at)
        put_origin(d, at, true);
    buf_chr(d->out, '\n');
}

static void put_key(struct dumper *d, const struct conf_key *k, const void *v,
                    const struct conf_origin *o)
{
    const struct conf_kind *kind = conf_kind_of(k);
    size_t n = kind->count(v);
    struct slice name = conf_key_name(k);
    for (size_t i = 0; kind->lines && i < n; i++) {
        buf_add(d->out, name);
        buf_str(d->out, " = ");
        kind->item(v, i, d->out);
        end_item(d, o, k, i, n);
    }
    if (kind->lines && n > 0)
        return;
    buf_add(d->out, name);
    buf_str(d->out, " = ");
    conf_kind_print(k, v, d->out);
    end_line(d, o, k);
}

/* All keys of a group that stands on its own; an empty value is written only where it is not the
 * default. */
/* Says nothing without another key, and who writes it down alone is warned of that. */
static bool put_needless(const struct conf_key *k, const void *base)
{
    const struct conf_listen_keys *l = base;
    return k->group == CONF_GROUP_LISTEN &&
           k->off == offsetof(struct conf_listen_keys, client_verify) && l->client_ca.n == 0;
}

static void put_group(struct dumper *d, enum conf_group g, const void *base,
                      const struct conf_origin *o)
{
    const char *built_in = conf_builtin_group(d->builtin, g);
    for (size_t i = 0; i < conf_key_count(); i++) {
        const struct conf_key *k = conf_key_at(i);
        const void *v = (const char *)base + k->off;
        if (k->group != g || put_needless(k, base))
            continue;
        if (d->changed ? conf_kind_equal(k, v, built_in + k->off, &d->scratch)
                       : conf_kind_of(k)->count(v) == 0 && k->def[0] == 0)
            continue;
        put_key(d, k, v, o);
    }
}

/* Keys of a group whose value is not what it inherits. */
static void put_inherited(struct dumper *d, enum conf_group g, const void *base, const void *parent,
                          const struct conf_origin *o)
{
    if (memcmp(base, parent, conf_group_size(g)) == 0)
        return;
    for (size_t i = 0; i < conf_key_count(); i++) {
        const struct conf_key *k = conf_key_at(i);
        if (k->group == g && !conf_kind_equal(k, (const char *)base + k->off,
                                              (const char *)parent + k->off, &d->scratch))
            put_key(d, k, (const char *)base + k->off, o);
    }
}

/* What a section, or one that it inherits from, says over its cache, unless that is said already.
 */
static void put_over(struct dumper *d, const struct conf_caching *own,
                     const struct conf_caching *parent, const struct conf_origin *o)
{
    for (size_t i = 0; own != parent && i < conf_key_count(); i++) {
        const struct conf_key *k = conf_key_at(i);
        const void *v = (const char *)&own->k + k->off;
        if (k->group != CONF_GROUP_OVER || !(own->given & conf_key_over(k)))
            continue;
        if (parent && (parent->given & conf_key_over(k)) &&
            conf_kind_equal(k, v, (const char *)&parent->k + k->off, &d->scratch))
            continue;
        put_key(d, k, v, o);
    }
}

static void put_title(struct dumper *d, enum conf_sect kind, struct slice name, const char *slash,
                      struct slice sub, struct conf_pos pos)
{
    buf_printf(d->out, "\n[%s", conf_sect_info(kind)->name);
    if (name.n)
        buf_printf(d->out, " " SLICE_FMT "%s" SLICE_FMT, SLICE_ARG(name), slash, SLICE_ARG(sub));
    buf_chr(d->out, ']');
    if (d->origin && pos.line)
        buf_printf(d->out, " ; %s:%u", pos.file, pos.line);
    buf_chr(d->out, '\n');
}

static void put_host(struct dumper *d, const struct config *c, const struct conf_host *h)
{
    put_title(d, CONF_SECT_HOST, h->name, "", SLICE(""), h->pos);
    put_group(d, CONF_GROUP_HOST, &h->k, h->origin);
    put_inherited(d, CONF_GROUP_SCOPE_UP, &h->upstream, &c->defaults_upstream, h->origin);
    put_inherited(d, CONF_GROUP_SCOPE, &h->scope, &c->defaults, h->origin);
    bool cached = h->caching->cache != NULL; /* without, what is said over it says nothing */
    for (size_t i = 0; i < h->nroute; i++)
        cached |= h->route[i]->caching->cache != NULL;
    if (cached)
        put_over(d, h->caching, c->defaults_caching, h->origin);
    for (size_t i = 0; i < h->nroute; i++) {
        const struct conf_route *r = h->route[i];
        bool changed = d->changed;
        put_title(d, CONF_SECT_ROUTE, h->name, "/", r->name, r->pos);
        d->changed = true; /* a route's keys at their defaults say nothing */
        put_group(d, CONF_GROUP_ROUTE, &r->k, r->origin);
        d->changed = changed;
        put_inherited(d, CONF_GROUP_SCOPE_UP, &r->upstream, &h->upstream, r->origin);
        put_inherited(d, CONF_GROUP_SCOPE, &r->scope, &h->scope, r->origin);
        if (r->caching->cache)
            put_over(d, r->caching, h->caching, r->origin);
    }
}

/* With a log named main, access_log is that log until something else is said, and nothing is said
 * by an empty list. */
static void put_defaults(struct dumper *d, const struct config *c)
{
    const struct conf_origin *o = c->defaults_origin;
    put_title(d, CONF_SECT_DEFAULTS, SLICE(""), "", SLICE(""), (struct conf_pos){0});
    put_group(d, CONF_GROUP_CONN, &c->defaults_conn, o);
    if (c->defaults_upstream)
        put_group(d, CONF_GROUP_SCOPE_UP, &c->defaults_upstream, o);
    put_group(d, CONF_GROUP_SCOPE, &c->defaults, o);
    put_over(d, c->defaults_caching, NULL, o);
    if (c->defaults.access_log.n == 0 && c->defaults.access_log.off)
        buf_str(d->out, "access_log = off\n");
}

void config_dump(const struct config *c, bool origin, bool changed, struct buf *out)
{
    struct dumper d = {.out = out, .origin = origin, .changed = changed, .builtin = c->builtin};
    buf_init(&d.scratch, 0);
    buf_str(out, "[global]\n");
    put_group(&d, CONF_GROUP_GLOBAL, &c->global, c->global_origin);
    put_defaults(&d, c);
    for (size_t i = 0; i < c->nlog; i++) {
        put_title(&d, CONF_SECT_LOG, c->log[i]->name, "", SLICE(""), c->log[i]->pos);
        put_group(&d, CONF_GROUP_LOG, &c->log[i]->k, c->log[i]->origin);
    }
    for (size_t i = 0; i < c->ncertificate; i++) {
        const struct conf_certificate *o = c->certificate[i];
        put_title(&d, CONF_SECT_CERTIFICATE, o->name, "", SLICE(""), o->pos);
        put_group(&d, CONF_GROUP_CERTIFICATE, &o->k, o->origin);
    }
    for (size_t i = 0; i < c->ncache; i++) {
        const struct conf_cache *o = c->cache[i];
        put_title(&d, CONF_SECT_CACHE, o->name, "", SLICE(""), o->pos);
        put_group(&d, CONF_GROUP_CACHE, &o->k, o->origin);
        put_group(&d, CONF_GROUP_CACHING, &o->caching, o->origin);
    }
    for (size_t i = 0; i < c->ncompress; i++) {
        const struct conf_compress *o = c->compress[i];
        if (changed && !o->pos.line)
            continue;
        put_title(&d, CONF_SECT_COMPRESS, o->name, "", SLICE(""), o->pos);
        put_group(&d, CONF_GROUP_COMPRESS, &o->k, o->origin);
    }
    for (size_t i = 0; i < c->nlisten; i++) {
        put_title(&d, CONF_SECT_LISTEN, c->listen[i]->name, "", SLICE(""), c->listen[i]->pos);
        put_group(&d, CONF_GROUP_LISTEN, &c->listen[i]->k, c->listen[i]->origin);
        put_inherited(&d, CONF_GROUP_CONN, &c->listen[i]->conn, &c->defaults_conn,
                      c->listen[i]->origin);
    }
    for (size_t i = 0; i < c->nupstream; i++) {
        put_title(&d, CONF_SECT_UPSTREAM, c->upstream[i]->name, "", SLICE(""), c->upstream[i]->pos);
        put_group(&d, CONF_GROUP_UPSTREAM, &c->upstream[i]->k, c->upstream[i]->origin);
    }
    for (size_t i = 0; i < c->nhost; i++)
        put_host(&d, c, c->host[i]);
    if (d.scratch.failed)
        out->failed = true;
    buf_fini(&d.scratch);
}

/* A line with where it was said, from the route up to [defaults]. */
static void put_said_above(struct dumper *d, const struct config *c, const struct conf_route *r,
                           const struct conf_key *k, const void *v)
{
    const struct conf_origin *from[] = {r->origin, r->host ? r->host->origin : NULL,
                                        c->defaults_origin};
    size_t at = 0;
    while (at + 1 < sizeof from / sizeof from[0] && !find_origin(from[at], k))
        at++;
    buf_str(d->out, "  ");
    put_key(d, k, v, from[at]);
}

static void put_said(struct dumper *d, const struct config *c, const struct conf_route *r,
                     const struct conf_key *over)
{
    const struct conf_caching *own = r->caching;
    const struct conf_key *base = conf_key_base(over);
    const void *v = (const char *)&own->k + base->off;
    if (!(own->given & conf_key_over(over))) {
        if (over->off != offsetof(struct conf_caching_keys, key) &&
            conf_kind_equal(base, v, (const char *)&d->builtin->caching + base->off, &d->scratch))
            return;
        buf_str(d->out, "  ");
        put_key(d, base, v, own->cache->origin);
        return;
    }
    put_said_above(d, c, r, over, v);
}

void config_print_caching(const struct config *c, const struct conf_route *r, struct buf *out)
{
    struct dumper d = {.out = out, .origin = true, .builtin = c->builtin};
    static const char *const scope[] = {"ttl", "cache_bypass", "cache_max_object"};
    buf_init(&d.scratch, 0);
    for (size_t i = 0; i < sizeof scope / sizeof scope[0]; i++) {
        const struct conf_key *k = conf_key_find(CONF_SECT_ROUTE, slice_str(scope[i]));
        const void *v = (const char *)&r->scope + k->off;
        if (!conf_kind_equal(k, v, (const char *)&d.builtin->scope + k->off, &d.scratch))
            put_said_above(&d, c, r, k, v);
    }
    for (size_t i = 0; i < conf_key_count(); i++)
        if (conf_key_at(i)->group == CONF_GROUP_OVER)
            put_said(&d, c, r, conf_key_at(i));
    if (d.scratch.failed)
        out->failed = true;
    buf_fini(&d.scratch);
}
