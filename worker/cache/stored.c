/* Meta of stored answers, written and read; see stored.h. */
#include "worker/cache/stored.h"

#include "base/err.h"
#include "base/num.h"
#include "shm/cache_meta.h"
#include "worker/http/h1_head.h"

#include <string.h>

/* ---- tags ---- */

static bool stored_is_tags(const struct cache_store *st, const struct http_field *f)
{
    const struct conf_words *w = &st->conf->k.tags;
    if (f->id != FIELD_UNKNOWN || w->off)
        return false;
    for (size_t i = 0; i < w->n; i++)
        if (slice_eq_ci(f->name, w->v[i]))
            return true;
    return false;
}

/* Words between spaces or commas. */
static void stored_add_tags(const struct cache_store *st, struct slice v, struct stored_tags *tags)
{
    size_t i = 0;
    while (i < v.n && tags->n < CACHE_TAGS) {
        size_t from;
        while (i < v.n && (v.p[i] == ' ' || v.p[i] == '\t' || v.p[i] == ','))
            i++;
        for (from = i; i < v.n && v.p[i] != ' ' && v.p[i] != '\t' && v.p[i] != ','; i++)
            ;
        if (i > from)
            tags->v[tags->n++] = cache_name(st->c, CACHE_KIND_TAG, slice_of(v.p + from, i - from));
    }
}

bool stored_hides(const struct cache_store *st, const struct cache_rules *rules,
                  const struct cache_control *cc, const struct http_field *f)
{
    return stored_is_tags(st, f) || policy_field(rules, cc, f) == POLICY_FIELD_INTERNAL;
}

/* ---- writing ---- */

static void stored_line(struct head_out *o, const struct http_field *f)
{
    head_field(o, f->name, f->value);
}

enum stored_part { STORED_FIELDS, STORED_SERVER, STORED_HSTS, STORED_SECRET, STORED_NOT };

static enum stored_part stored_part_of(const struct cache_store *st,
                                       const struct cache_rules *rules,
                                       const struct cache_control *cc, const struct http_field *f)
{
    enum policy_field p = policy_field(rules, cc, f);
    if (p == POLICY_FIELD_DROP || f->id == FIELD_X_REQUEST_ID)
        return STORED_NOT;
    if (p == POLICY_FIELD_INTERNAL || stored_is_tags(st, f))
        return STORED_SECRET;
    if (f->id == FIELD_SERVER)
        return STORED_SERVER;
    return f->id == FIELD_STRICT_TRANSPORT_SECURITY ? STORED_HSTS : STORED_FIELDS;
}

static void stored_status_line(struct head_out *o, const struct http_response *r)
{
    char num[32];
    head_add(o, SLICE("HTTP/1.1 "));
    head_add(o, slice_of(num, num_fmt_u64(num, r->status)));
    head_add(o, SLICE(" "));
    head_add(o, r->reason.n ? r->reason : http_status_text(r->status));
    head_add(o, SLICE("\r\n"));
}

bool stored_write(struct head_out *o, const struct cache_store *st, const struct cache_rules *rules,
                  const struct cache_control *cc, const struct cache_target *target,
                  const struct http_response *r, struct slice date, struct stored_tags *tags)
{
    struct cache_meta m;
    size_t end[STORED_NOT];
    bool dated = false;
    tags->n = 0;
    o->n = sizeof m;
    size_t url = cache_meta_url(o->p + o->n, o->cap - o->n, target->scheme, target->host,
                                target->path, target->query);
    if (!url)
        return false;
    o->n += url;
    for (unsigned part = STORED_FIELDS; part < STORED_NOT; part++) {
        if (part == STORED_FIELDS)
            stored_status_line(o, r);
        for (size_t i = 0; i < r->nfield; i++) {
            const struct http_field *f = &r->field[i];
            if (stored_part_of(st, rules, cc, f) != part)
                continue;
            dated |= f->id == FIELD_DATE;
            stored_line(o, f);
            if (part == STORED_SECRET && stored_is_tags(st, f))
                stored_add_tags(st, f->value, tags);
        }
        if (part == STORED_FIELDS && !dated && date.n)
            head_field(o, SLICE("Date"), date);
        end[part] = o->n;
    }
    const size_t head = sizeof m + url;
    if (o->overflow || o->n > UINT16_MAX)
        return false;
    cache_meta_init(&m, r->status, r->major, url, end[STORED_FIELDS] - head,
                    end[STORED_SERVER] - end[STORED_FIELDS], end[STORED_HSTS] - end[STORED_SERVER],
                    end[STORED_SECRET] - end[STORED_HSTS]);
    memcpy(o->p, &m, sizeof m);
    return true;
}

void stored_attr(const struct policy_stored *p, unsigned status, uint32_t site,
                 struct cache_attr *ret)
{
    int64_t base = p->base < 0 ? 0 : p->base > UINT32_MAX ? (int64_t)UINT32_MAX : p->base;
    *ret = (struct cache_attr){.type = CACHE_OBJECT,
                               .site = (uint16_t)site,
                               .user = stored_user(status, p->flags),
                               .base = (uint32_t)base,
                               .fresh = p->lifetime,
                               .swr = p->stale_while_revalidate,
                               .sie = p->stale_if_error};
}

/* ---- reading ---- */

int stored_read(struct slice meta, const struct cache_attr *attr, struct stored *ret)
{
    struct cache_meta m;
    if (meta.n < sizeof m)
        return -ERR_CORRUPT;
    memcpy(&m, meta.p, sizeof m);
    const char *p = meta.p + sizeof m;
    if (!cache_meta_fits(&m, meta.n))
        return -ERR_CORRUPT;
    ret->status = m.status;
    ret->major = m.major;
    ret->url = slice_of(p, m.url);
    ret->fields = slice_of(p += m.url, m.fields);
    ret->server = slice_of(p += m.fields, m.server);
    ret->hsts = slice_of(p += m.server, m.hsts);
    ret->secret = slice_of(p + m.hsts, m.secret);
    ret->policy = (struct policy_stored){.base = attr->base,
                                         .lifetime = attr->fresh,
                                         .stale_while_revalidate = attr->swr,
                                         .stale_if_error = attr->sie,
                                         .flags = (uint16_t)(attr->user >> 16)};
    return 0;
}

int stored_parse(const struct stored *s, struct arena *a, struct http_response *ret)
{
    static struct http_field field[HTTP_FIELDS_MAX];
    const struct h1_limits lim = {.max_line = 8192,
                                  .max_field = UINT16_MAX,
                                  .max_head = UINT16_MAX + 2,
                                  .max_fields = HTTP_FIELDS_MAX};
    const struct slice part[] = {s->fields, s->server, s->hsts, s->secret, SLICE("\r\n")};
    size_t n = 0;
    for (size_t i = 0; i < sizeof part / sizeof part[0]; i++)
        n += part[i].n;
    char *p = arena_bytes(a, n), *to = p;
    if (!p)
        return -ERR_NOMEM;
    for (size_t i = 0; i < sizeof part / sizeof part[0]; i++) {
        if (part[i].n)
            memcpy(to, part[i].p, part[i].n);
        to += part[i].n;
    }
    int e = h1_parse_response(p, n, &lim, HTTP_HEAD, field, ret);
    if (e < 0)
        return -ERR_CORRUPT;
    struct http_field *own = arena_alloc(a, sizeof *own * (ret->nfield ? ret->nfield : 1));
    if (!own)
        return -ERR_NOMEM;
    memcpy(own, field, sizeof *own * ret->nfield);
    ret->field = own;
    ret->major = s->major;
    return 0;
}

/* ---- markers of answers that vary ---- */

size_t stored_vary_write(const struct stored_vary *v, char out[16 + VARY_SPEC_MAX + VARY_MAX])
{
    memcpy(out, &v->salt, 8);
    memcpy(out + 8, &v->variants, 4);
    memset(out + 12, 0, 4);
    return 16 + vary_text(&v->vary, out + 16);
}

int stored_vary_read(struct slice meta, struct stored_vary *ret)
{
    memset(ret, 0, sizeof *ret);
    if (meta.n < 16)
        return -ERR_CORRUPT;
    memcpy(&ret->salt, meta.p, 8);
    memcpy(&ret->variants, meta.p + 8, 4);
    return vary_parse(&ret->vary, slice_of(meta.p + 16, meta.n - 16));
}
