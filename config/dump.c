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
    for (; o; o = o->next)
        if (o->key == k)
            return o;
    return NULL;
}

static void end_line(struct dumper *d, const struct conf_origin *o, const struct conf_key *k)
{
    o = find_origin(o, k);
    if (d->origin) {
        if (o)
            buf_printf(d->out, " ; %s:%u", o->pos.file, o->pos.line);
        else
            buf_str(d->out, " ; default");
    }
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
        end_line(d, o, k);
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
    for (size_t i = 0; i < h->nroute; i++) {
        const struct conf_route *r = h->route[i];
        bool changed = d->changed;
        put_title(d, CONF_SECT_ROUTE, h->name, "/", r->name, r->pos);
        d->changed = true; /* a route's keys at their defaults say nothing */
        put_group(d, CONF_GROUP_ROUTE, &r->k, r->origin);
        d->changed = changed;
        put_inherited(d, CONF_GROUP_SCOPE_UP, &r->upstream, &h->upstream, r->origin);
        put_inherited(d, CONF_GROUP_SCOPE, &r->scope, &h->scope, r->origin);
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
