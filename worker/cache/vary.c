/* Secondary keys: sorted lists of field names, and values without differences that mean nothing. */
#include "worker/cache/vary.h"

#include "base/err.h"
#include "worker/http/accept_encoding.h"

static char vary_lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

/* ---- names ---- */

static int vary_add_name(struct vary *v, struct slice name)
{
    unsigned at = 0;
    if (!http_is_token(name) || slice_eq(name, SLICE("*")))
        return -ERR_INVAL;
    if (name.n > sizeof(v->text) - v->used)
        return -ERR_FULL;
    char *copy = v->text + v->used;
    for (size_t i = 0; i < name.n; i++)
        copy[i] = vary_lower(name.p[i]);
    name.p = copy;
    int c = -1;
    while (at < v->n && (c = slice_cmp(v->name[at], name)) < 0)
        at++;
    if (at < v->n && c == 0)
        return 0;
    if (v->n == VARY_MAX)
        return -ERR_FULL;
    memmove(&v->name[at + 1], &v->name[at], (v->n - at) * sizeof(v->name[0]));
    v->name[at] = name;
    v->n++;
    v->used += name.n;
    return 0;
}

int vary_parse(struct vary *v, struct slice text)
{
    struct slice name;
    while (slice_next(&text, ',', &name)) {
        int rc = vary_add_name(v, name);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int vary_add(struct vary *v, const struct http_field *field, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (field[i].id != FIELD_VARY)
            continue;
        int rc = vary_parse(v, field[i].value);
        if (rc < 0)
            return rc;
    }
    return 0;
}

size_t vary_text(const struct vary *v, char *out)
{
    size_t n = 0;
    for (unsigned i = 0; i < v->n; i++) {
        if (i > 0)
            out[n++] = ',';
        memcpy(out + n, v->name[i].p, v->name[i].n);
        n += v->name[i].n;
    }
    return n;
}

/* ---- Accept-Encoding ---- */

unsigned vary_codings(const struct http_request *r, unsigned codings)
{
    struct accept_encoding a;
    accept_encoding_of(r, &a);
    const unsigned have = codings & ((a.q[ACCEPT_BR] ? VARY_BR : 0u) |
                                     (a.q[ACCEPT_GZIP] ? VARY_GZIP : 0u) |
                                     (a.q[ACCEPT_ZSTD] ? VARY_ZSTD : 0u));
    /* Without any coding refusing identity leaves nothing: it is meant to be sent all the same. */
    return have | (!a.q[ACCEPT_IDENTITY] && have != 0 ? VARY_NO_IDENTITY : 0u);
}

size_t vary_accept_encoding(unsigned class_, char *out)
{
    const struct {
        unsigned bit;
        struct slice text;
    } part[] = {{VARY_BR, SLICE("br")},
                {VARY_GZIP, SLICE("gzip")},
                {VARY_ZSTD, SLICE("zstd")},
                {VARY_NO_IDENTITY, SLICE("identity;q=0")}};
    size_t n = 0;
    for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
        if ((class_ & part[i].bit) == 0)
            continue;
        if (n > 0) {
            memcpy(out + n, ", ", 2);
            n += 2;
        }
        memcpy(out + n, part[i].text.p, part[i].text.n);
        n += part[i].text.n;
    }
    if (n == 0) {
        memcpy(out, "identity", 8);
        n = 8;
    }
    return n;
}

/* ---- values ---- */

/* Fields whose values are lists of case-insensitive words, where spaces mean nothing. */
static bool vary_is_loose(struct slice name)
{
    return slice_eq(name, SLICE("accept")) || slice_eq(name, SLICE("accept-charset")) ||
           slice_eq(name, SLICE("accept-encoding")) || slice_eq(name, SLICE("accept-language"));
}

/* Empty elements are left out, spaces too unless quoted. */
static void vary_loose(struct head_out *o, struct slice value, bool *any)
{
    bool quoted = false, pending = *any;
    for (size_t i = 0; i < value.n; i++) {
        char c = value.p[i];
        if (!quoted && (c == ' ' || c == '\t'))
            continue;
        if (!quoted && c == ',') {
            pending = *any;
            continue;
        }
        if (pending)
            head_add(o, SLICE(","));
        pending = false;
        *any = true;
        if (c == '"')
            quoted = !quoted;
        if (!quoted)
            c = vary_lower(c);
        head_add(o, slice_of(&c, 1));
    }
}

static void vary_plain(struct head_out *o, const struct http_request *r, struct slice name)
{
    const bool loose = vary_is_loose(name);
    bool any = false, seen = false;
    for (size_t i = 0; i < r->nfield; i++) {
        const struct http_field *f = &r->field[i];
        if (!slice_eq_ci(f->name, name))
            continue;
        if (!seen)
            head_add(o, SLICE("="));
        seen = true;
        if (loose) {
            vary_loose(o, f->value, &any);
            continue;
        }
        if (any)
            head_add(o, SLICE(", "));
        head_add(o, f->value);
        any = true;
    }
}

int vary_build(const struct vary *v, const struct vary_rules *rules, const struct http_request *r,
               struct head_out *o)
{
    char text[48];
    for (unsigned i = 0; i < v->n; i++) {
        head_add(o, v->name[i]);
        if (slice_eq(v->name[i], SLICE("accept-encoding")) && rules->codings != 0) {
            unsigned class_ = vary_codings(r, rules->codings);
            head_add(o, SLICE("="));
            head_add(o, slice_of(text, vary_accept_encoding(class_, text)));
        } else if (slice_eq(v->name[i], SLICE("cookie"))) {
            /* Which cookies do not count here counts: servers see them, and elsewhere they do. */
            for (size_t k = 0; k < rules->key->nignore_cookie; k++) {
                head_add(o, SLICE(" "));
                head_add(o, rules->key->ignore_cookie[k]);
            }
            size_t mark = o->n;
            head_add(o, SLICE("="));
            if (!key_cookies(rules->key, r, o) && !o->overflow)
                o->n = mark;
        } else {
            vary_plain(o, r, v->name[i]);
        }
        head_add(o, SLICE("\n"));
    }
    return o->overflow ? -ERR_RANGE : 0;
}
