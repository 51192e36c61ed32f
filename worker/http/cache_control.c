/* Cache directives: two readers, a forgiving one for Cache-Control and a strict one for structured
 * fields, end in one table of directives. */
#include "worker/http/cache_control.h"

#include "base/err.h"

enum cc_kind { CC_KIND_FLAG, CC_KIND_SECONDS, CC_KIND_FIELDS };
/* What an argument is, as far as the reader could tell. */
enum cc_value { CC_VALUE_NONE, CC_VALUE_TRUE, CC_VALUE_NUMBER, CC_VALUE_TEXT, CC_VALUE_OTHER };

#define CC_AT(member) (uint16_t) offsetof(struct cache_control, member)
static const struct cc_directive {
    char name[24];
    uint32_t bit;
    uint8_t kind;
    uint16_t at;    /* of a number of seconds */
    bool pessimist; /* no number counts as 0 seconds */
} cc_table[] = {
    {"no-store", CC_NO_STORE, CC_KIND_FLAG, 0, false},
    {"no-cache", CC_NO_CACHE, CC_KIND_FIELDS, 0, false},
    {"private", CC_PRIVATE, CC_KIND_FIELDS, 0, false},
    {"public", CC_PUBLIC, CC_KIND_FLAG, 0, false},
    {"must-revalidate", CC_MUST_REVALIDATE, CC_KIND_FLAG, 0, false},
    {"proxy-revalidate", CC_PROXY_REVALIDATE, CC_KIND_FLAG, 0, false},
    {"must-understand", CC_MUST_UNDERSTAND, CC_KIND_FLAG, 0, false},
    {"no-transform", CC_NO_TRANSFORM, CC_KIND_FLAG, 0, false},
    {"only-if-cached", CC_ONLY_IF_CACHED, CC_KIND_FLAG, 0, false},
    {"immutable", CC_IMMUTABLE, CC_KIND_FLAG, 0, false},
    {"max-age", CC_MAX_AGE, CC_KIND_SECONDS, CC_AT(max_age), true},
    {"s-maxage", CC_S_MAXAGE, CC_KIND_SECONDS, CC_AT(s_maxage), true},
    {"min-fresh", CC_MIN_FRESH, CC_KIND_SECONDS, CC_AT(min_fresh), false},
    {"max-stale", CC_MAX_STALE, CC_KIND_SECONDS, CC_AT(max_stale), false},
    {"stale-while-revalidate", CC_STALE_WHILE_REVALIDATE, CC_KIND_SECONDS,
     CC_AT(stale_while_revalidate), false},
    {"stale-if-error", CC_STALE_IF_ERROR, CC_KIND_SECONDS, CC_AT(stale_if_error), false},
};

static const struct cc_directive *cc_find(struct slice name)
{
    for (size_t i = 0; i < sizeof(cc_table) / sizeof(cc_table[0]); i++) {
        if (slice_eq_ci(name, slice_str(cc_table[i].name)))
            return &cc_table[i];
    }
    return NULL;
}

int cache_control_seconds(struct slice s, uint32_t *ret)
{
    uint64_t v = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] < '0' || s.p[i] > '9')
            return -ERR_INVAL;
        v = v * 10 + (uint64_t)(s.p[i] - '0');
        if (v > CC_FOREVER)
            v = CC_FOREVER;
    }
    *ret = (uint32_t)v;
    return s.n > 0 ? 0 : -ERR_INVAL;
}

static void cc_set_seconds(struct cache_control *c, const struct cc_directive *d, uint32_t v)
{
    memcpy((char *)c + d->at, &v, sizeof(v));
    c->has |= d->bit;
}

static bool cc_names_ok(struct slice list)
{
    struct slice name;
    bool any = false;
    while (slice_next(&list, ',', &name)) {
        if (!http_is_token(name))
            return false;
        any = true;
    }
    return any;
}

/* A list of fields that is empty, malformed or one too many makes the directive speak of the whole
 * response: that can only be too careful. */
static void cc_set_fields(struct cache_control *c, const struct cc_directive *d, struct slice list)
{
    const bool no_cache = d->bit == CC_NO_CACHE;
    struct slice *to = no_cache ? c->no_cache : c->private_;
    uint8_t *n = no_cache ? &c->nno_cache : &c->nprivate;
    if (!cc_names_ok(list) || *n == CC_FIELDS_MAX) {
        c->has |= d->bit;
        return;
    }
    to[(*n)++] = list;
    c->has |= no_cache ? CC_NO_CACHE_FIELDS : CC_PRIVATE_FIELDS;
}

/* A directive of Cache-Control. value.p NULL: it had no "=". */
static void cc_apply(struct cache_control *c, const struct cc_directive *d, struct slice value,
                     bool garbled)
{
    uint32_t v;
    switch ((enum cc_kind)d->kind) {
    case CC_KIND_FLAG:
        c->has |= d->bit;
        return;
    case CC_KIND_FIELDS:
        if (value.p != NULL && !garbled)
            cc_set_fields(c, d, value);
        else
            c->has |= d->bit;
        return;
    case CC_KIND_SECONDS:
        break;
    }
    if ((c->has & d->bit) != 0)
        return;
    if (value.p == NULL && d->bit == CC_MAX_STALE)
        cc_set_seconds(c, d, CC_FOREVER);
    else if (value.p != NULL && !garbled && cache_control_seconds(value, &v) == 0)
        cc_set_seconds(c, d, v);
    else if (d->pessimist)
        cc_set_seconds(c, d, 0);
}

/* One past the quoted-string that begins at p[at]; 0 when it is never closed. */
static size_t cc_quoted_end(struct slice s, size_t at)
{
    for (size_t i = at + 1; i < s.n; i++) {
        if (s.p[i] == '\\')
            i++;
        else if (s.p[i] == '"')
            return i + 1;
    }
    return 0;
}

/* Cuts a directive off *rest at the next comma outside quotes. After a quote that is never closed
 * (*plain) quotes mean nothing: each would have to be looked for anew. */
static bool cc_next(struct slice *rest, bool *plain, struct slice *ret)
{
    size_t i = 0;
    if (rest->n == 0)
        return false;
    while (i < rest->n && rest->p[i] != ',') {
        size_t end = i + 1;
        if (rest->p[i] == '"' && !*plain && (end = cc_quoted_end(*rest, i)) == 0) {
            *plain = true;
            end = i + 1;
        }
        i = end;
    }
    *ret = slice_trim(slice_of(rest->p, i));
    i += i < rest->n;
    *rest = slice_of(rest->p + i, rest->n - i);
    return true;
}

/* Splits "name=value"; the value without its quotes. Escapes inside are not undone: no value with a
 * meaning needs one. */
static const struct cc_directive *cc_split(struct slice item, struct slice *ret_value,
                                           bool *ret_garbled)
{
    ptrdiff_t eq = slice_chr(item, '=');
    struct slice name = eq < 0 ? item : slice_of(item.p, (size_t)eq);
    *ret_value = SLICE_NONE;
    *ret_garbled = false;
    if (eq >= 0) {
        struct slice raw = slice_of(item.p + eq + 1, item.n - (size_t)eq - 1);
        *ret_value = raw;
        if (raw.n > 0 && raw.p[0] == '"') {
            *ret_garbled = cc_quoted_end(raw, 0) != raw.n || slice_chr(raw, '\\') >= 0;
            *ret_value = raw.n >= 2 ? slice_of(raw.p + 1, raw.n - 2) : slice_of(raw.p, 0);
        }
        /* "max-age =5", "max-age= 5": no sender may, and receivers read it differently. */
        struct slice tight = slice_trim(name);
        if (tight.n != name.n || slice_trim(raw).n != raw.n)
            *ret_garbled = true;
        name = tight;
    }
    return cc_find(name);
}

void cache_control_add(struct cache_control *c, struct slice value)
{
    struct slice item, arg;
    bool garbled, plain = false;
    while (cc_next(&value, &plain, &item)) {
        const struct cc_directive *d = cc_split(item, &arg, &garbled);
        if (d != NULL)
            cc_apply(c, d, arg, garbled);
    }
}

void cache_control_add_surrogate(struct cache_control *c, struct slice value)
{
    struct slice item, arg;
    bool garbled, plain = false;
    while (cc_next(&value, &plain, &item)) {
        ptrdiff_t target = slice_chr(item, ';');
        if (target >= 0) {
            struct slice to =
                slice_trim(slice_of(item.p + target + 1, item.n - (size_t)target - 1));
            if (!slice_eq_ci(to, SLICE("rpd")))
                continue;
            item = slice_trim(slice_of(item.p, (size_t)target));
        }
        const struct cc_directive *d = cc_split(item, &arg, &garbled);
        if (d == NULL)
            continue;
        ptrdiff_t plus = d->bit == CC_MAX_AGE && arg.p != NULL ? slice_chr(arg, '+') : -1;
        uint32_t extra;
        if (plus >= 0 && (c->has & CC_MAX_AGE) == 0 &&
            cache_control_seconds(slice_of(arg.p + plus + 1, arg.n - (size_t)plus - 1), &extra) ==
                0) {
            c->stale_while_revalidate = c->stale_if_error = extra;
            c->has |= CC_STALE_WHILE_REVALIDATE | CC_STALE_IF_ERROR;
            arg.n = (size_t)plus;
        }
        cc_apply(c, d, arg, garbled);
    }
}

/* ---- structured fields (RFC 8941 4.2) ---- */

struct sf {
    const char *p, *end;
};

static bool sf_at(const struct sf *s, char c)
{
    return s->p < s->end && *s->p == c;
}
static bool sf_digit(const struct sf *s)
{
    return s->p < s->end && *s->p >= '0' && *s->p <= '9';
}
static bool sf_lower(const struct sf *s)
{
    return s->p < s->end && *s->p >= 'a' && *s->p <= 'z';
}
static bool sf_alpha(const struct sf *s)
{
    return s->p < s->end && ((*s->p | 0x20) >= 'a' && (*s->p | 0x20) <= 'z');
}

static bool sf_key(struct sf *s, struct slice *ret)
{
    const char *from = s->p;
    if (!sf_lower(s) && !sf_at(s, '*'))
        return false;
    while (sf_lower(s) || sf_digit(s) || sf_at(s, '_') || sf_at(s, '-') || sf_at(s, '.') ||
           sf_at(s, '*'))
        s->p++;
    *ret = slice_of(from, (size_t)(s->p - from));
    return true;
}

static bool sf_number(struct sf *s, enum cc_value *ret_kind)
{
    unsigned whole = 0, part = 0;
    if (sf_at(s, '-'))
        s->p++;
    for (; sf_digit(s); s->p++)
        whole++;
    if (!sf_at(s, '.')) {
        *ret_kind = CC_VALUE_NUMBER;
        return whole >= 1 && whole <= 15;
    }
    s->p++;
    for (; sf_digit(s); s->p++)
        part++;
    *ret_kind = CC_VALUE_OTHER;
    return whole >= 1 && whole <= 12 && part >= 1 && part <= 3;
}

/* Behind the opening quote; the text excludes the quotes. */
static bool sf_string(struct sf *s, struct slice *ret)
{
    const char *from = s->p;
    for (; s->p < s->end; s->p++) {
        if (*s->p == '"') {
            *ret = slice_of(from, (size_t)(s->p - from));
            s->p++;
            return true;
        }
        if (*s->p == '\\') {
            s->p++;
            if (!sf_at(s, '"') && !sf_at(s, '\\'))
                return false;
        } else if (*s->p < 0x20 || *s->p > 0x7e) {
            return false;
        }
    }
    return false;
}

static bool sf_bytes(struct sf *s)
{
    for (; s->p < s->end && *s->p != ':'; s->p++) {
        if (!sf_alpha(s) && !sf_digit(s) && *s->p != '+' && *s->p != '/' && *s->p != '=')
            return false;
    }
    if (s->p == s->end)
        return false;
    s->p++;
    return true;
}

/* Any bare item; of numbers and strings the text, of booleans and the rest what it is. */
static bool sf_bare(struct sf *s, enum cc_value *ret_kind, struct slice *ret)
{
    const char *from = s->p;
    *ret = SLICE_NONE;
    *ret_kind = CC_VALUE_OTHER;
    if (sf_at(s, '-') || sf_digit(s)) {
        bool ok = sf_number(s, ret_kind);
        *ret = slice_of(from, (size_t)(s->p - from));
        return ok;
    }
    if (sf_at(s, '"')) {
        s->p++;
        *ret_kind = CC_VALUE_TEXT;
        return sf_string(s, ret);
    }
    if (sf_at(s, ':')) {
        s->p++;
        return sf_bytes(s);
    }
    if (sf_at(s, '?')) {
        s->p++;
        if (!sf_at(s, '0') && !sf_at(s, '1'))
            return false;
        *ret_kind = *s->p++ == '1' ? CC_VALUE_TRUE : CC_VALUE_NONE;
        return true;
    }
    if (!sf_alpha(s) && !sf_at(s, '*'))
        return false;
    while (s->p < s->end && (http_is(*s->p, HTTP_CLASS_TOKEN) || *s->p == ':' || *s->p == '/'))
        s->p++;
    return true;
}

static void sf_spaces(struct sf *s)
{
    while (sf_at(s, ' '))
        s->p++;
}

static bool sf_parameters(struct sf *s)
{
    struct slice text;
    enum cc_value kind;
    while (sf_at(s, ';')) {
        s->p++;
        sf_spaces(s);
        if (!sf_key(s, &text))
            return false;
        if (!sf_at(s, '='))
            continue;
        s->p++;
        if (!sf_bare(s, &kind, &text))
            return false;
    }
    return true;
}

/* Behind the opening parenthesis. */
static bool sf_inner_list(struct sf *s)
{
    struct slice text;
    enum cc_value kind;
    for (;;) {
        sf_spaces(s);
        if (sf_at(s, ')')) {
            s->p++;
            return true;
        }
        if (!sf_bare(s, &kind, &text) || !sf_parameters(s) || (!sf_at(s, ' ') && !sf_at(s, ')')))
            return false;
    }
}

static bool sf_member(struct sf *s, struct slice *ret_key, enum cc_value *ret_kind,
                      struct slice *ret)
{
    *ret = SLICE_NONE;
    *ret_kind = CC_VALUE_TRUE;
    if (!sf_key(s, ret_key))
        return false;
    if (sf_at(s, '=')) {
        s->p++;
        if (sf_at(s, '(')) {
            s->p++;
            *ret_kind = CC_VALUE_OTHER;
            if (!sf_inner_list(s))
                return false;
        } else if (!sf_bare(s, ret_kind, ret)) {
            return false;
        }
    }
    return sf_parameters(s);
}

/* The last member of a name counts (RFC 8941 3.2), so what an earlier one said is taken back. */
static void cc_apply_typed(struct cache_control *c, const struct cc_directive *d,
                           enum cc_value kind, struct slice text)
{
    uint32_t v;
    c->has &= ~d->bit;
    if (d->bit == CC_NO_CACHE) {
        c->has &= ~(uint32_t)CC_NO_CACHE_FIELDS;
        c->nno_cache = 0;
    } else if (d->bit == CC_PRIVATE) {
        c->has &= ~(uint32_t)CC_PRIVATE_FIELDS;
        c->nprivate = 0;
    }
    switch ((enum cc_kind)d->kind) {
    case CC_KIND_FLAG:
        if (kind == CC_VALUE_TRUE)
            c->has |= d->bit;
        break;
    case CC_KIND_FIELDS:
        if (kind == CC_VALUE_TRUE)
            c->has |= d->bit;
        else if (kind == CC_VALUE_TEXT)
            cc_set_fields(c, d, text);
        break;
    case CC_KIND_SECONDS:
        if (kind == CC_VALUE_NUMBER && cache_control_seconds(text, &v) == 0)
            cc_set_seconds(c, d, v);
        break;
    }
}

int cache_control_add_targeted(struct cache_control *c, struct slice value)
{
    int members = 0;
    struct sf s = {value.p, value.p + value.n};
    while (s.end > s.p && s.end[-1] == ' ')
        s.end--;
    sf_spaces(&s);
    while (s.p < s.end) {
        struct slice key, text;
        enum cc_value kind;
        if (!sf_member(&s, &key, &kind, &text))
            return -ERR_INVAL;
        for (size_t i = 0; i < sizeof(cc_table) / sizeof(cc_table[0]); i++) {
            if (slice_eq(key, slice_str(cc_table[i].name)))
                cc_apply_typed(c, &cc_table[i], kind, text);
        }
        members++;
        while (sf_at(&s, ' ') || sf_at(&s, '\t'))
            s.p++;
        if (s.p == s.end)
            break;
        if (!sf_at(&s, ','))
            return -ERR_INVAL;
        s.p++;
        while (sf_at(&s, ' ') || sf_at(&s, '\t'))
            s.p++;
        if (s.p == s.end)
            return -ERR_INVAL; /* a comma at the end */
    }
    return members;
}

/* ---- whole messages ---- */

void cache_control_of_request(const struct http_request *r, struct cache_control *ret)
{
    bool plain = false, pragma = false;
    *ret = (struct cache_control){0};
    for (size_t i = 0; i < r->nfield; i++) {
        if (r->field[i].id == FIELD_CACHE_CONTROL) {
            plain = true;
            cache_control_add(ret, r->field[i].value);
        } else if (r->field[i].id == FIELD_PRAGMA) {
            struct slice rest = r->field[i].value, item;
            while (slice_next(&rest, ',', &item))
                pragma |= slice_eq_ci(item, SLICE("no-cache"));
        }
    }
    if (pragma && !plain)
        ret->has |= CC_NO_CACHE;
}

enum cache_control_source cache_control_field(const struct http_field *f)
{
    if (f->id == FIELD_CACHE_CONTROL)
        return CACHE_CONTROL_PLAIN;
    if (f->id != FIELD_UNKNOWN || f->name.n != 17)
        return CACHE_CONTROL_NONE;
    switch (f->name.p[0] | 0x20) {
    case 'c':
        return slice_eq_ci(f->name, SLICE("cdn-cache-control")) ? CACHE_CONTROL_CDN
                                                                : CACHE_CONTROL_NONE;
    case 'r':
        return slice_eq_ci(f->name, SLICE("rpd-cache-control")) ? CACHE_CONTROL_RPD
                                                                : CACHE_CONTROL_NONE;
    case 's':
        return slice_eq_ci(f->name, SLICE("surrogate-control")) ? CACHE_CONTROL_SURROGATE
                                                                : CACHE_CONTROL_NONE;
    default:
        return CACHE_CONTROL_NONE;
    }
}

/* Reads all lines of one source; whether it says anything that counts. */
static bool cc_read(const struct http_field *field, size_t n, enum cache_control_source source,
                    struct cache_control *ret)
{
    int members = 0;
    *ret = (struct cache_control){0};
    for (size_t i = 0; i < n; i++) {
        if (cache_control_field(&field[i]) != source)
            continue;
        if (source == CACHE_CONTROL_RPD || source == CACHE_CONTROL_CDN) {
            int rc = cache_control_add_targeted(ret, field[i].value);
            if (rc < 0)
                return false;
            members += rc;
        } else if (field[i].value.n > 0) {
            members++;
            if (source == CACHE_CONTROL_PLAIN)
                cache_control_add(ret, field[i].value);
            else
                cache_control_add_surrogate(ret, field[i].value);
        }
    }
    return members > 0;
}

enum cache_control_source cache_control_of_response(const struct http_field *field, size_t n,
                                                    bool targeted, struct cache_control *ret)
{
    unsigned seen = 0;
    for (size_t i = 0; i < n; i++)
        seen |= 1u << cache_control_field(&field[i]);
    for (unsigned s = targeted ? CACHE_CONTROL_RPD : CACHE_CONTROL_PLAIN; s >= CACHE_CONTROL_PLAIN;
         s--) {
        enum cache_control_source source = (enum cache_control_source)s;
        if ((seen >> s & 1) != 0 && cc_read(field, n, source, ret))
            return source;
    }
    *ret = (struct cache_control){0};
    return CACHE_CONTROL_NONE;
}

static bool cc_lists(const struct slice *list, unsigned n, struct slice name)
{
    for (unsigned i = 0; i < n; i++) {
        struct slice rest = list[i], item;
        while (slice_next(&rest, ',', &item)) {
            if (slice_eq_ci(item, name))
                return true;
        }
    }
    return false;
}

bool cache_control_names(const struct cache_control *c, struct slice name)
{
    return cc_lists(c->no_cache, c->nno_cache, name) || cc_lists(c->private_, c->nprivate, name);
}
