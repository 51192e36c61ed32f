/* Meta of stored answers and names for purges; see cache_meta.h. */
#include "shm/cache_meta.h"

#include "base/err.h"
#include "base/hash.h"
#include "shm/cache_layout.h"

#include <string.h>

_Static_assert(CACHE_META_DEPTH + 2 <= CACHE_NAMES, "all names of a URL");

/* ---- meta ---- */

void cache_meta_init(struct cache_meta *m, unsigned status, unsigned major, size_t url,
                     size_t fields, size_t server, size_t hsts, size_t secret)
{
    *m = (struct cache_meta){.version = CACHE_META_VERSION,
                             .status = (uint16_t)status,
                             .major = (uint8_t)major,
                             .url = (uint16_t)url,
                             .fields = (uint16_t)fields,
                             .server = (uint16_t)server,
                             .hsts = (uint16_t)hsts,
                             .secret = (uint16_t)secret};
}

bool cache_meta_fits(const struct cache_meta *m, size_t n)
{
    return m->version == CACHE_META_VERSION &&
           sizeof *m + (uint64_t)m->url + m->fields + m->server + m->hsts + m->secret == n;
}

size_t cache_meta_url(char *out, size_t cap, struct slice scheme, struct slice host,
                      struct slice path, struct slice query)
{
    const struct slice part[] = {scheme,
                                 SLICE("://"),
                                 host,
                                 path,
                                 query.p ? SLICE("?") : SLICE(""),
                                 query.p ? query : SLICE("")};
    size_t n = 0;
    for (size_t i = 0; i < sizeof part / sizeof part[0]; i++) {
        if (part[i].n > cap - n)
            return 0;
        if (part[i].n)
            memcpy(out + n, part[i].p, part[i].n);
        n += part[i].n;
    }
    return n;
}

/* ---- names ---- */

struct text {
    char p[CACHE_META_URL];
    size_t n;
    bool full;
};

static void put(struct text *t, char c)
{
    if (t->n == sizeof t->p)
        t->full = true;
    else
        t->p[t->n++] = c;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

/* Without its port, and the final dot of its root. */
static struct slice bare_host(struct slice host)
{
    size_t n = host.n;
    while (n > 0 && host.p[n - 1] >= '0' && host.p[n - 1] <= '9')
        n--;
    if (n > 0 && host.p[n - 1] == ':' &&
        (n == 1 || !memchr(host.p, ':', n - 1) || host.p[n - 2] == ']'))
        host.n = n - 1;
    if (host.n > 1 && host.p[host.n - 1] == '.')
        host.n--;
    return host;
}

static void put_host(struct text *t, struct slice host)
{
    host = bare_host(host);
    for (size_t i = 0; i < host.n; i++)
        put(t, lower(host.p[i]));
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool unreserved(int c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
}

/* One character or %XX of s at *i, in its one form. */
static void put_char(struct text *t, struct slice s, size_t *i)
{
    static const char digit[] = "0123456789ABCDEF";
    int high = s.p[*i] == '%' && s.n - *i > 2 ? hex(s.p[*i + 1]) : -1;
    int low = high >= 0 ? hex(s.p[*i + 2]) : -1;
    if (low < 0) {
        put(t, s.p[(*i)++]);
        return;
    }
    *i += 3;
    if (unreserved(high << 4 | low)) {
        put(t, (char)(high << 4 | low));
        return;
    }
    put(t, '%');
    put(t, digit[high]);
    put(t, digit[low]);
}

static uint64_t name_of(const struct cache *c, enum cache_kind kind, const struct text *t)
{
    return cache_name(c, (uint32_t)kind, slice_of(t->p, t->n));
}

static void put_query(struct text *t, struct slice query)
{
    if (query.p)
        put(t, '?');
    for (size_t i = 0; i < query.n;)
        put_char(t, query, &i);
}

unsigned cache_meta_names(const struct cache *c, struct slice host, struct slice path,
                          struct slice query, uint64_t *ret)
{
    struct text t;
    unsigned n = 0, depth = 0;
    t.n = 0;
    t.full = false;
    put_host(&t, host);
    ret[n++] = name_of(c, CACHE_KIND_HOST, &t);
    for (size_t i = 0; i < path.n && !t.full;) {
        bool slash = path.p[i] == '/';
        put_char(&t, path, &i);
        if (slash && !t.full && depth < CACHE_META_DEPTH) {
            depth++;
            ret[n++] = name_of(c, CACHE_KIND_PREFIX, &t);
        }
    }
    put_query(&t, query);
    if (!t.full)
        ret[n++] = name_of(c, CACHE_KIND_URL, &t);
    return n;
}

uint32_t cache_meta_site(struct slice host)
{
    char name[256];
    size_t n = 0;
    host = bare_host(host);
    for (; n < host.n && n < sizeof name; n++)
        name[n] = lower(host.p[n]);
    return (uint32_t)(hash_fixed(name, n) % CACHE_SITES);
}

int cache_meta_parse(struct slice s, struct cache_meta_target *ret)
{
    *ret = (struct cache_meta_target){.scheme = SLICE(""), .path = SLICE("/"), .query = SLICE_NONE};
    for (size_t i = 0; i < s.n; i++) {
        if ((unsigned char)s.p[i] <= ' ' || s.p[i] == 0x7f)
            return -ERR_INVAL;
    }
    ptrdiff_t at = slice_chr(s, '#');
    if (at >= 0)
        s.n = (size_t)at;
    if (slice_starts(s, SLICE("https://")) || slice_starts(s, SLICE("http://"))) {
        ret->scheme = slice_of(s.p, s.p[4] == 's' ? 5 : 4);
        s = slice_of(s.p + ret->scheme.n + 3, s.n - ret->scheme.n - 3);
    }
    at = slice_chr(s, '?');
    if (at >= 0) {
        ret->query = slice_of(s.p + at + 1, s.n - (size_t)at - 1);
        s.n = (size_t)at;
    }
    at = slice_chr(s, '/');
    if (at >= 0) {
        ret->path = slice_of(s.p + at, s.n - (size_t)at);
        s.n = (size_t)at;
    }
    ret->host = s;
    return bare_host(s).n > 0 && slice_chr(s, ':') != 0 && slice_chr(s, '@') < 0 ? 0 : -ERR_INVAL;
}

static bool view_texts(struct slice meta, struct cache_meta_view *v)
{
    if (meta.n < sizeof v->m)
        return false;
    memcpy(&v->m, meta.p, sizeof v->m);
    if (!cache_meta_fits(&v->m, meta.n))
        return false;
    const char *p = meta.p + sizeof v->m;
    v->url = slice_of(p, v->m.url);
    v->fields = slice_of(p += v->m.url, v->m.fields);
    v->server = slice_of(p += v->m.fields, v->m.server);
    v->hsts = slice_of(p += v->m.server, v->m.hsts);
    v->secret = slice_of(p + v->m.hsts, v->m.secret);
    return true;
}

struct look {
    const struct cache *c;
    struct cache_meta_target target;
};

static unsigned look_names(const void *arg, uint64_t *ret)
{
    const struct look *l = arg;
    return cache_meta_names(l->c, l->target.host, l->target.path, l->target.query, ret);
}

int cache_meta_look(struct cache_worker *w, const struct cache_hit *h, struct cache_meta_view *ret)
{
    struct cache_head head;
    struct look l = {.c = w->c};
    struct cache_scope scope = {.site = h->attr.site, .arg = &l};
    *ret = (struct cache_meta_view){0};
    if (cache_record_load(w->c, cache_word_slab(h->word), cache_word_off(h->word),
                          w->c->sb.slab_size, &head) < 0 ||
        !cache_record_sound(w->c, &head, false))
        return -ERR_CORRUPT;
    if (h->attr.type == CACHE_OBJECT) {
        if (!view_texts(h->meta, ret) || cache_meta_parse(ret->url, &l.target) < 0)
            return -ERR_CORRUPT;
        scope.names = look_names;
    }
    int purged = cache_purge_test(w->c, &scope, &head, h->tags);
    ret->soft = purged == 1;
    return purged == 2 ? -ERR_NOENT : 0;
}

int cache_meta_name(const struct cache *c, enum cache_kind kind, const struct cache_meta_target *t,
                    uint64_t *ret)
{
    struct text text;
    unsigned depth = 0;
    text.n = 0;
    text.full = false;
    put_host(&text, t->host);
    for (size_t i = 0; kind != CACHE_KIND_HOST && i < t->path.n && !text.full;) {
        depth += t->path.p[i] == '/';
        put_char(&text, t->path, &i);
    }
    if (kind == CACHE_KIND_PREFIX) {
        if (t->query.p || !slice_ends(t->path, SLICE("/")))
            return -ERR_INVAL;
        text.full |= depth > CACHE_META_DEPTH;
    }
    if (kind == CACHE_KIND_URL)
        put_query(&text, t->query);
    if (text.full)
        return -ERR_RANGE;
    *ret = name_of(c, kind, &text);
    return 0;
}

/* ---- sites ---- */

struct naming {
    struct cache_worker *w;
    struct cache_meta_share *site;
    unsigned n, missing;
    uint32_t count;
};

static void name_site(void *arg, struct cache_hit *h)
{
    struct naming *k = arg;
    struct cache_meta_view v;
    struct cache_meta_target t;
    for (unsigned i = 0; i < k->n && h->attr.type == CACHE_OBJECT; i++) {
        struct cache_meta_share *s = &k->site[i];
        if (s->host[0] || h->attr.site % k->count != s->site)
            continue;
        if (cache_meta_look(k->w, h, &v) < 0 || cache_meta_parse(v.url, &t) < 0)
            return;
        const struct slice host = bare_host(t.host);
        size_t n = 0;
        for (; n < host.n && n < sizeof s->host - 1; n++)
            s->host[n] = lower(host.p[n]);
        s->host[n] = '\0';
        k->missing--;
    }
}

unsigned cache_meta_shares(const struct cache *c, struct cache_worker *w, uint64_t least,
                           struct cache_meta_share *ret, unsigned max)
{
    struct naming k = {.w = w, .site = ret, .count = cache_site_count(c)};
    uint64_t cursor = 0;
    for (uint32_t i = 0; i < k.count; i++) {
        const uint64_t bytes = cache_site_bytes(c, i);
        unsigned at = k.n;
        if (bytes == 0 || bytes < least || (k.n == max && bytes <= ret[max - 1].bytes))
            continue;
        k.n += k.n < max;
        for (at = at < max ? at : max - 1; at > 0 && ret[at - 1].bytes < bytes; at--)
            ret[at] = ret[at - 1];
        ret[at] = (struct cache_meta_share){.site = i, .bytes = bytes};
    }
    k.missing = k.n;
    while (w && k.missing > 0 && cache_walk(w, &cursor, 256, name_site, &k))
        ;
    return k.n;
}
