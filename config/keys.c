/* The key table as data, lookups in it, and did-you-mean. */
#include "config/keys.h"

#define CONF_OFF_GLOBAL(m)      offsetof(struct conf_global_keys, m)
#define CONF_OFF_LISTEN(m)      offsetof(struct conf_listen_keys, m)
#define CONF_OFF_CONN(m)        offsetof(struct conf_conn_keys, m)
#define CONF_OFF_SCOPE(m)       offsetof(struct conf_scope_keys, m)
#define CONF_OFF_CERTIFICATE(m) offsetof(struct conf_certificate_keys, m)
#define CONF_OFF_CACHE(m)       offsetof(struct conf_cache_keys, m)
#define CONF_OFF_CACHING(m)     offsetof(struct conf_caching_keys, m)
#define CONF_OFF_OVER(m)        offsetof(struct conf_over_keys, m)
#define CONF_OFF_COMPRESS(m)    offsetof(struct conf_compress_keys, m)
#define CONF_OFF_HOST(m)        offsetof(struct conf_host_keys, m)
#define CONF_OFF_ROUTE(m)       offsetof(struct conf_route_keys, m)
#define CONF_OFF_SCOPE_UP(m)    0 /* the group is one pointer */
#define CONF_OFF_UPSTREAM(m)    offsetof(struct conf_upstream_keys, m)
#define CONF_OFF_LOG(m)         offsetof(struct conf_log_keys, m)

enum {
#define KEY(section, name, kind, def, min, max, flags, doc) KEY_ID_##section##_##name,
#include "config/keys.def"
#undef KEY
    KEY_ID__COUNT
};

static const struct conf_key table[] = {
#define KEY(section, name, kind, def, min, max, flags, doc)                                        \
    {#name, CONF_GROUP_##section,     CONF_KIND_##kind,         def, min, max, flags,              \
     doc,   CONF_OFF_##section(name), KEY_ID_##section##_##name},
#include "config/keys.def"
#undef KEY
};
_Static_assert(sizeof table / sizeof table[0] <= CONF_KEYS_MAX, "CONF_KEYS_MAX");
/* Members of one row in both structs lie alike, so that both keys speak of struct
 * conf_caching_keys. */
_Static_assert(sizeof(struct conf_over_keys) == sizeof(struct conf_caching_keys),
               "one row, two keys");
/* CACHING makes two rows of each. */
_Static_assert(KEY_ID_OVER_cache_key == KEY_ID_CACHING_key + 1, "conf_key_base");
_Static_assert((KEY_ID_OVER_cache_status - KEY_ID_CACHING_key) / 2 < 64, "conf_caching.given");

#define G(name) (1u << CONF_GROUP_##name)
static const struct conf_sect_info sections[CONF_SECT__COUNT] = {
    [CONF_SECT_NONE] = {"", 0, false, "before any section", ""},
    [CONF_SECT_GLOBAL] = {"global", G(GLOBAL), false, "[global]", "The process as a whole."},
    [CONF_SECT_DEFAULTS] = {"defaults", G(CONN) | G(SCOPE) | G(OVER) | G(SCOPE_UP), false,
                            "[defaults]", "What listeners, hosts and routes inherit."},
    [CONF_SECT_LISTEN] = {"listen", G(LISTEN) | G(CONN), true, "[listen NAME]",
                          "Addresses that clients connect to."},
    [CONF_SECT_CERTIFICATE] = {"certificate", G(CERTIFICATE), true, "[certificate NAME]",
                               "Certificates and their keys."},
    [CONF_SECT_CACHE] = {"cache", G(CACHE) | G(CACHING), true, "[cache NAME]",
                         "A store of answers that all workers share."},
    [CONF_SECT_COMPRESS] = {"compress", G(COMPRESS), true, "[compress NAME]",
                            "How answers are compressed."},
    [CONF_SECT_HOST] = {"host", G(HOST) | G(SCOPE) | G(OVER) | G(SCOPE_UP), true, "[host NAME]",
                        "A site: host names and where they go."},
    [CONF_SECT_ROUTE] = {"route", G(ROUTE) | G(SCOPE) | G(OVER) | G(SCOPE_UP), true,
                         "[route HOST/NAME]",
                         "Part of a host; HOST is the name of its section, or * for every host."},
    [CONF_SECT_UPSTREAM] = {"upstream", G(UPSTREAM), true, "[upstream NAME]",
                            "A group of servers that answer alike."},
    [CONF_SECT_LOG] = {"log", G(LOG), true, "[log NAME]", "An access log."},
};

size_t conf_key_count(void)
{
    return KEY_ID__COUNT;
}

const struct conf_key *conf_key_at(size_t i)
{
    return &table[i];
}

struct slice conf_key_name(const struct conf_key *k)
{
    struct slice s = slice_str(k->name);
    if (s.p[s.n - 1] == '_')
        s.n--;
    return s;
}

const struct conf_key *conf_key_base(const struct conf_key *k)
{
    return k->group == CONF_GROUP_OVER ? &table[k->id - 1] : k;
}

uint64_t conf_key_over(const struct conf_key *k)
{
    return UINT64_C(1) << (k->id - KEY_ID_CACHING_key) / 2;
}

static bool name_is(const struct conf_key *k, struct slice name)
{
    size_t n = name.n;
    return n > 0 && strncmp(k->name, name.p, n) == 0 &&
           (k->name[n] == 0 || (k->name[n] == '_' && k->name[n + 1] == 0));
}

const struct conf_key *conf_key_find(enum conf_sect sect, struct slice name)
{
    for (size_t i = 0; i < KEY_ID__COUNT; i++)
        if ((sections[sect].groups & (1u << table[i].group)) && name_is(&table[i], name))
            return &table[i];
    return NULL;
}

const struct conf_sect_info *conf_sect_info(enum conf_sect sect)
{
    return &sections[sect];
}

enum conf_sect conf_sect_find(struct slice name)
{
    for (size_t i = CONF_SECT_GLOBAL; i < CONF_SECT__COUNT; i++)
        if (slice_eq(name, slice_str(sections[i].name)))
            return (enum conf_sect)i;
    return CONF_SECT_NONE;
}

size_t conf_group_size(enum conf_group g)
{
    switch (g) {
    case CONF_GROUP_GLOBAL:
        return sizeof(struct conf_global_keys);
    case CONF_GROUP_LISTEN:
        return sizeof(struct conf_listen_keys);
    case CONF_GROUP_CONN:
        return sizeof(struct conf_conn_keys);
    case CONF_GROUP_SCOPE:
        return sizeof(struct conf_scope_keys);
    case CONF_GROUP_CERTIFICATE:
        return sizeof(struct conf_certificate_keys);
    case CONF_GROUP_CACHE:
        return sizeof(struct conf_cache_keys);
    case CONF_GROUP_CACHING:
    case CONF_GROUP_OVER:
        return sizeof(struct conf_caching_keys);
    case CONF_GROUP_COMPRESS:
        return sizeof(struct conf_compress_keys);
    case CONF_GROUP_HOST:
        return sizeof(struct conf_host_keys);
    case CONF_GROUP_ROUTE:
        return sizeof(struct conf_route_keys);
    case CONF_GROUP_SCOPE_UP:
        return sizeof(struct conf_upstream *);
    case CONF_GROUP_UPSTREAM:
        return sizeof(struct conf_upstream_keys);
    case CONF_GROUP_LOG:
        return sizeof(struct conf_log_keys);
    case CONF_GROUP__COUNT:
        break;
    }
    return 0;
}

#define NEAR_MAX 63

unsigned conf_near_distance(struct slice a, struct slice b)
{
    unsigned row[3][NEAR_MAX + 1];
    if (a.n > NEAR_MAX || b.n > NEAR_MAX)
        return NEAR_MAX + 1;
    unsigned *before = row[0], *last = row[1], *now = row[2];
    for (unsigned j = 0; j <= b.n; j++) {
        before[j] = 0;
        last[j] = j;
    }
    for (unsigned i = 1; i <= a.n; i++) {
        now[0] = i;
        for (unsigned j = 1; j <= b.n; j++) {
            unsigned d = last[j - 1] + (a.p[i - 1] != b.p[j - 1]);
            if (last[j] + 1 < d)
                d = last[j] + 1;
            if (now[j - 1] + 1 < d)
                d = now[j - 1] + 1;
            if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] && a.p[i - 2] == b.p[j - 1] &&
                before[j - 2] + 1 < d)
                d = before[j - 2] + 1;
            now[j] = d;
        }
        unsigned *spare = before;
        before = last;
        last = now;
        now = spare;
    }
    return last[b.n];
}

void conf_near_init(struct conf_near *n, struct slice want)
{
    /* A third of the letters may be wrong, three at most. */
    unsigned most = (unsigned)(want.n / 3 < 3 ? want.n / 3 : 3);
    *n = (struct conf_near){.want = want, .distance = (most || want.n < 2 ? most : 1) + 1};
}

void conf_near_try(struct conf_near *n, struct slice candidate)
{
    size_t gap = candidate.n > n->want.n ? candidate.n - n->want.n : n->want.n - candidate.n;
    if (gap >= n->distance || slice_eq(candidate, n->want))
        return;
    unsigned d = conf_near_distance(n->want, candidate);
    if (d < n->distance) {
        n->distance = d;
        n->best = candidate;
    }
}

void conf_key_hint(enum conf_sect sect, struct slice name, struct buf *out)
{
    struct conf_near near;
    bool any = false;
    /* The very name in other sections. */
    for (size_t s = CONF_SECT_GLOBAL; s < CONF_SECT__COUNT; s++) {
        if (!conf_key_find((enum conf_sect)s, name))
            continue;
        buf_str(out, any ? " or " : "; it belongs in ");
        buf_str(out, sections[s].title);
        any = true;
    }
    if (any)
        return;
    conf_near_init(&near, name);
    for (size_t i = 0; i < KEY_ID__COUNT; i++)
        if (sections[sect].groups & (1u << table[i].group))
            conf_near_try(&near, conf_key_name(&table[i]));
    if (near.best.p) {
        buf_printf(out, "; did you mean \"" SLICE_FMT "\"?", SLICE_ARG(near.best));
        return;
    }
    for (size_t i = 0; i < KEY_ID__COUNT; i++)
        conf_near_try(&near, conf_key_name(&table[i]));
    if (!near.best.p)
        return;
    buf_printf(out, "; did you mean \"" SLICE_FMT "\"", SLICE_ARG(near.best));
    for (size_t s = CONF_SECT_GLOBAL; s < CONF_SECT__COUNT; s++) {
        if (!conf_key_find((enum conf_sect)s, near.best))
            continue;
        buf_str(out, any ? " or " : " of ");
        buf_str(out, sections[s].title);
        any = true;
    }
    buf_chr(out, '?');
}
