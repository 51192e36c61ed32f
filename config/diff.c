/* What a reload changes, in words: one line per difference. */
#include "base/err.h"
#include "config/load.h"

struct differ {
    struct buf *out;
    struct buf scratch, a, b;
    bool failed;
};

/* The two sides of one value. */
struct sides {
    const struct conf_key *key;
    const void *a, *b;
};

static void begin(struct differ *d, const char *kind, struct slice name)
{
    buf_str(d->out, kind);
    if (name.n) {
        buf_chr(d->out, ' ');
        buf_add(d->out, name);
    }
}

/* One item of a list as text, as the key of a map: kept in the arena. */
static int index_items(const struct sides *s, const void *v, struct map *m, struct arena *a)
{
    const struct conf_kind *kind = conf_kind_of(s->key);
    struct buf text;
    int k = map_init(m, kind->count(v));
    buf_init(&text, 0);
    for (size_t i = 0; i < kind->count(v) && k == 0; i++) {
        buf_clear(&text);
        kind->item(v, i, &text);
        struct slice t = arena_dup(a, text.n ? buf_slice(&text) : SLICE(""));
        k = text.failed || !t.p ? -ERR_NOMEM : map_put(m, t, m, NULL);
        if (k == -ERR_EXIST)
            k = 0;
    }
    buf_fini(&text);
    return k;
}

static void put_missing(struct differ *d, const char *kind, struct slice name,
                        const struct sides *s, const void *v, const struct map *other, char sign)
{
    const struct conf_kind *ops = conf_kind_of(s->key);
    struct slice key = conf_key_name(s->key);
    for (size_t i = 0; i < ops->count(v); i++) {
        buf_clear(&d->scratch);
        ops->item(v, i, &d->scratch);
        if (map_get(other, d->scratch.n ? buf_slice(&d->scratch) : SLICE("")))
            continue;
        begin(d, kind, name);
        buf_printf(d->out, ": %c" SLICE_FMT " " SLICE_FMT "\n", sign, SLICE_ARG(key),
                   SLICE_ARG(buf_slice(&d->scratch)));
    }
}

/* Lists by item; when only the order is another one, a line says so. */
static void diff_list(struct differ *d, const char *kind, struct slice name, const struct sides *s)
{
    struct arena arena;
    struct map ma = {0}, mb = {0};
    size_t before = d->out->n;
    struct slice key = conf_key_name(s->key);
    arena_init(&arena, NULL, 0, 0);
    if (index_items(s, s->a, &ma, &arena) < 0 || index_items(s, s->b, &mb, &arena) < 0) {
        d->failed = true;
    } else {
        put_missing(d, kind, name, s, s->a, &mb, '-');
        put_missing(d, kind, name, s, s->b, &ma, '+');
        if (d->out->n == before) {
            begin(d, kind, name);
            buf_printf(d->out, ": " SLICE_FMT " in another order\n", SLICE_ARG(key));
        }
    }
    map_fini(&ma);
    map_fini(&mb);
    arena_fini(&arena);
}

static void print_side(const struct sides *s, const void *v, struct buf *out)
{
    buf_clear(out);
    if (conf_kind_of(s->key)->count(v) == 0 && s->key->def[0] == 0 && !(s->key->flags & F_LIST))
        buf_str(out, "unset");
    else
        conf_kind_print(s->key, v, out);
}

static void diff_value(struct differ *d, const char *kind, struct slice name, const struct sides *s)
{
    const struct conf_kind *ops = conf_kind_of(s->key);
    struct slice key = conf_key_name(s->key);
    if (conf_kind_equal(s->key, s->a, s->b, &d->scratch))
        return;
    if ((s->key->flags & F_LIST) && ops->count(s->a) > 0 && ops->count(s->b) > 0) {
        diff_list(d, kind, name, s);
        return;
    }
    if (s->key->flags & F_SECRET) {
        begin(d, kind, name);
        buf_printf(d->out, ": another " SLICE_FMT "\n", SLICE_ARG(key));
        return;
    }
    print_side(s, s->a, &d->a);
    print_side(s, s->b, &d->b);
    begin(d, kind, name);
    buf_printf(d->out, ": " SLICE_FMT " " SLICE_FMT " -> " SLICE_FMT "%s\n", SLICE_ARG(key),
               SLICE_ARG(buf_slice(&d->a)), SLICE_ARG(buf_slice(&d->b)),
               s->key->flags & F_RESTART ? " (takes effect at the next start or upgrade)" : "");
}

/* A group; what both sides only inherit was told where it stands. */
static void diff_group(struct differ *d, const char *kind, struct slice name, enum conf_group g,
                       const void *a, const void *b, const void *parent_a, const void *parent_b)
{
    for (size_t i = 0; i < conf_key_count(); i++) {
        const struct conf_key *k = conf_key_at(i);
        struct sides s = {k, (const char *)a + k->off, (const char *)b + k->off};
        if (k->group != g)
            continue;
        if (parent_a && conf_kind_equal(k, s.a, (const char *)parent_a + k->off, &d->scratch) &&
            conf_kind_equal(k, s.b, (const char *)parent_b + k->off, &d->scratch))
            continue;
        diff_value(d, kind, name, &s);
    }
}

/* What is said over a cache; what both sides only inherit was told where it stands. */
static void diff_over(struct differ *d, const char *kind, struct slice name,
                      const struct conf_caching *a, const struct conf_caching *b,
                      const struct conf_caching *pa, const struct conf_caching *pb)
{
    for (size_t i = 0; i < conf_key_count(); i++) {
        const struct conf_key *k = conf_key_at(i);
        struct sides s = {k, (const char *)&a->k + k->off, (const char *)&b->k + k->off};
        if (k->group != CONF_GROUP_OVER)
            continue;
        const uint64_t bit = conf_key_over(k), in_a = a->given & bit, in_b = b->given & bit;
        if (pa && in_a == (pa->given & bit) && in_b == (pb->given & bit) &&
            conf_kind_equal(k, s.a, (const char *)&pa->k + k->off, &d->scratch) &&
            conf_kind_equal(k, s.b, (const char *)&pb->k + k->off, &d->scratch))
            continue;
        if (in_a && in_b) {
            diff_value(d, kind, name, &s);
        } else if (in_a || in_b) {
            buf_clear(&d->a);
            conf_kind_print(k, in_a ? s.a : s.b, &d->a);
            begin(d, kind, name);
            buf_printf(d->out,
                       in_a ? ": %s " SLICE_FMT " -> unset\n" : ": %s unset -> " SLICE_FMT "\n",
                       k->name, SLICE_ARG(buf_slice(&d->a)));
        }
    }
}

static bool same_pages(const struct conf_error_pages *a, const struct conf_error_pages *b)
{
    for (size_t i = 0; i < a->n && i < b->n; i++)
        if (slice_eq(a->v[i].file, b->v[i].file) && !slice_eq(a->v[i].body, b->v[i].body))
            return false;
    return true;
}

static void diff_scope(struct differ *d, const char *kind, struct slice name,
                       const struct conf_scope_keys *a, const struct conf_scope_keys *b,
                       const struct conf_scope_keys *pa, const struct conf_scope_keys *pb)
{
    diff_group(d, kind, name, CONF_GROUP_SCOPE, a, b, pa, pb);
    bool inherited =
        pa && a->error_page.v == pa->error_page.v && b->error_page.v == pb->error_page.v;
    if (!inherited && !same_pages(&a->error_page, &b->error_page)) {
        begin(d, kind, name);
        buf_str(d->out, ": contents of an error_page\n");
    }
}

static void diff_upstream_ref(struct differ *d, const char *kind, struct slice name,
                              const struct conf_upstream *a, const struct conf_upstream *b)
{
    if ((!a && !b) || (a && b && slice_eq(a->name, b->name)))
        return;
    begin(d, kind, name);
    buf_printf(d->out, ": upstream " SLICE_FMT " -> " SLICE_FMT "\n",
               SLICE_ARG(a ? a->name : SLICE("off")), SLICE_ARG(b ? b->name : SLICE("off")));
}

static bool inherits(const struct conf_upstream *own, const struct conf_upstream *parent)
{
    return own == parent;
}

static void diff_route(struct differ *d, const struct conf_route *a, const struct conf_route *b)
{
    diff_group(d, "route", b->series, CONF_GROUP_ROUTE, &a->k, &b->k, NULL, NULL);
    diff_scope(d, "route", b->series, &a->scope, &b->scope, &a->host->scope, &b->host->scope);
    diff_over(d, "route", b->series, a->caching, b->caching, a->host->caching, b->host->caching);
    if (!inherits(a->upstream, a->host->upstream) || !inherits(b->upstream, b->host->upstream))
        diff_upstream_ref(d, "route", b->series, a->upstream, b->upstream);
}

static void diff_routes(struct differ *d, const struct conf_host *a, const struct conf_host *b)
{
    struct map ma = {0}, mb = {0};
    int k = map_init(&ma, a->nroute);
    if (k == 0)
        k = map_init(&mb, b->nroute);
    for (size_t i = 0; i < a->nroute && k == 0; i++)
        k = map_put(&ma, a->route[i]->name, a->route[i], NULL);
    for (size_t i = 0; i < b->nroute && k == 0; i++)
        k = map_put(&mb, b->route[i]->name, b->route[i], NULL);
    if (k < 0)
        d->failed = true;
    for (size_t i = 0; i < a->nroute && k == 0; i++)
        if (!map_get(&mb, a->route[i]->name))
            buf_printf(d->out, "-route " SLICE_FMT "\n", SLICE_ARG(a->route[i]->series));
    for (size_t i = 0; i < b->nroute && k == 0; i++) {
        const struct conf_route *old = map_get(&ma, b->route[i]->name);
        if (old)
            diff_route(d, old, b->route[i]);
        else
            buf_printf(d->out, "+route " SLICE_FMT "\n", SLICE_ARG(b->route[i]->series));
    }
    map_fini(&ma);
    map_fini(&mb);
}

/* Objects of one kind by name: `same` is called for those that both have. All kinds begin with
 * their name. */
static void diff_objects(struct differ *d, const char *kind, void *const *a, size_t na,
                         void *const *b, size_t nb, const struct config *ca,
                         const struct config *cb,
                         void (*same)(struct differ *d, const struct config *ca,
                                      const struct config *cb, const void *a, const void *b))
{
    struct map ma = {0}, mb = {0};
    int k = map_init(&ma, na);
    if (k == 0)
        k = map_init(&mb, nb);
    for (size_t i = 0; i < na && k == 0; i++)
        k = map_put(&ma, *(const struct slice *)a[i], a[i], NULL);
    for (size_t i = 0; i < nb && k == 0; i++)
        k = map_put(&mb, *(const struct slice *)b[i], b[i], NULL);
    if (k < 0)
        d->failed = true;
    for (size_t i = 0; i < na && k == 0; i++)
        if (!map_get(&mb, *(const struct slice *)a[i]))
            buf_printf(d->out, "-%s " SLICE_FMT "\n", kind, SLICE_ARG(*(const struct slice *)a[i]));
    for (size_t i = 0; i < nb && k == 0; i++) {
        const void *old = map_get(&ma, *(const struct slice *)b[i]);
        if (old)
            same(d, ca, cb, old, b[i]);
        else
            buf_printf(d->out, "+%s " SLICE_FMT "\n", kind, SLICE_ARG(*(const struct slice *)b[i]));
    }
    map_fini(&ma);
    map_fini(&mb);
}

static void same_log(struct differ *d, const struct config *ca, const struct config *cb,
                     const void *va, const void *vb)
{
    const struct conf_log *a = va, *b = vb;
    (void)ca;
    (void)cb;
    diff_group(d, "log", b->name, CONF_GROUP_LOG, &a->k, &b->k, NULL, NULL);
}

static void same_certificate(struct differ *d, const struct config *ca, const struct config *cb,
                             const void *va, const void *vb)
{
    const struct conf_certificate *a = va, *b = vb;
    (void)ca;
    (void)cb;
    diff_group(d, "certificate", b->name, CONF_GROUP_CERTIFICATE, &a->k, &b->k, NULL, NULL);
}

static void same_cache(struct differ *d, const struct config *ca, const struct config *cb,
                       const void *va, const void *vb)
{
    const struct conf_cache *a = va, *b = vb;
    (void)ca;
    (void)cb;
    diff_group(d, "cache", b->name, CONF_GROUP_CACHE, &a->k, &b->k, NULL, NULL);
    diff_group(d, "cache", b->name, CONF_GROUP_CACHING, &a->caching, &b->caching, NULL, NULL);
}

static void same_compress(struct differ *d, const struct config *ca, const struct config *cb,
                          const void *va, const void *vb)
{
    const struct conf_compress *a = va, *b = vb;
    (void)ca;
    (void)cb;
    diff_group(d, "compress", b->name, CONF_GROUP_COMPRESS, &a->k, &b->k, NULL, NULL);
}

static void same_listen(struct differ *d, const struct config *ca, const struct config *cb,
                        const void *va, const void *vb)
{
    const struct conf_listen *a = va, *b = vb;
    diff_group(d, "listen", b->name, CONF_GROUP_LISTEN, &a->k, &b->k, NULL, NULL);
    diff_group(d, "listen", b->name, CONF_GROUP_CONN, &a->conn, &b->conn, &ca->defaults_conn,
               &cb->defaults_conn);
}

static void same_upstream(struct differ *d, const struct config *ca, const struct config *cb,
                          const void *va, const void *vb)
{
    const struct conf_upstream *a = va, *b = vb;
    (void)ca;
    (void)cb;
    diff_group(d, "upstream", b->name, CONF_GROUP_UPSTREAM, &a->k, &b->k, NULL, NULL);
}

static void same_host(struct differ *d, const struct config *ca, const struct config *cb,
                      const void *va, const void *vb)
{
    const struct conf_host *a = va, *b = vb;
    diff_group(d, "host", b->name, CONF_GROUP_HOST, &a->k, &b->k, NULL, NULL);
    diff_scope(d, "host", b->name, &a->scope, &b->scope, &ca->defaults, &cb->defaults);
    diff_over(d, "host", b->name, a->caching, b->caching, ca->defaults_caching,
              cb->defaults_caching);
    if (!inherits(a->upstream, ca->defaults_upstream) ||
        !inherits(b->upstream, cb->defaults_upstream))
        diff_upstream_ref(d, "host", b->name, a->upstream, b->upstream);
    diff_routes(d, a, b);
}

void config_diff(const struct config *a, const struct config *b, struct buf *out)
{
    struct differ d = {.out = out};
    if (a->hash == b->hash)
        return;
    buf_init(&d.scratch, 0);
    buf_init(&d.a, 0);
    buf_init(&d.b, 0);
    diff_group(&d, "global", SLICE(""), CONF_GROUP_GLOBAL, &a->global, &b->global, NULL, NULL);
    diff_group(&d, "defaults", SLICE(""), CONF_GROUP_CONN, &a->defaults_conn, &b->defaults_conn,
               NULL, NULL);
    diff_scope(&d, "defaults", SLICE(""), &a->defaults, &b->defaults, NULL, NULL);
    diff_over(&d, "defaults", SLICE(""), a->defaults_caching, b->defaults_caching, NULL, NULL);
    diff_upstream_ref(&d, "defaults", SLICE(""), a->defaults_upstream, b->defaults_upstream);
#define OBJECTS(field, kind)                                                                       \
    diff_objects(&d, kind, (void *const *)a->field, a->n##field, (void *const *)b->field,          \
                 b->n##field, a, b, same_##field)
    OBJECTS(log, "log");
    OBJECTS(certificate, "certificate");
    OBJECTS(cache, "cache");
    OBJECTS(compress, "compress");
    OBJECTS(listen, "listen");
    OBJECTS(upstream, "upstream");
    OBJECTS(host, "host");
#undef OBJECTS
    if (d.failed || d.scratch.failed || d.a.failed || d.b.failed)
        out->failed = true;
    buf_fini(&d.scratch);
    buf_fini(&d.a);
    buf_fini(&d.b);
}
