/* Keys: a small template language, and the parts of a request written so that they cannot be taken
 * for each other. */
#include "worker/cache/key.h"

#include "base/err.h"
#include "base/num.h"

#include <stdlib.h>

static const struct {
    char name[8];
    enum key_kind kind;
} key_variable[] = {
    {"scheme", KEY_SCHEME}, {"host", KEY_HOST},     {"path", KEY_PATH},
    {"query", KEY_QUERY},   {"method", KEY_METHOD},
};

/* ---- templates ---- */

static int key_add_part(struct key_template *t, enum key_kind kind, struct slice text,
                        struct arena *a)
{
    if (t->n == KEY_PARTS_MAX)
        return -ERR_FULL;
    if (text.n > 0) {
        text = arena_dup(a, text);
        if (text.p == NULL)
            return -ERR_NOMEM;
    }
    t->part[t->n++] = (struct key_part){kind, text};
    t->query |= kind == KEY_QUERY;
    return 0;
}

static int key_add_variable(struct key_template *t, struct slice name, struct arena *a)
{
    const struct slice header = SLICE("header."), cookie = SLICE("cookie.");
    for (size_t i = 0; i < sizeof(key_variable) / sizeof(key_variable[0]); i++) {
        if (slice_eq(name, slice_str(key_variable[i].name)))
            return key_add_part(t, key_variable[i].kind, SLICE_NONE, a);
    }
    enum key_kind kind = slice_starts(name, header) ? KEY_HEADER : KEY_COOKIE;
    if (kind == KEY_COOKIE && !slice_starts(name, cookie))
        return -ERR_INVAL;
    name = slice_of(name.p + header.n, name.n - header.n);
    return http_is_token(name) ? key_add_part(t, kind, name, a) : -ERR_INVAL;
}

static bool key_is_default(const struct key_template *t)
{
    return t->n == 4 && t->part[0].kind == KEY_SCHEME && t->part[1].kind == KEY_HOST &&
           t->part[2].kind == KEY_PATH && t->part[3].kind == KEY_QUERY;
}

int key_template_parse(struct slice text, struct arena *a, struct key_template *ret, size_t *ret_at)
{
    size_t at = 0;
    ret->n = 0;
    ret->query = false;
    while (at < text.n) {
        int rc = 0;
        size_t from = at;
        *ret_at = at;
        if (text.p[at] == ' ' || text.p[at] == '\t') {
            at++;
            continue;
        }
        if (text.p[at] == '%' && at + 1 < text.n && text.p[at + 1] == '{') {
            ptrdiff_t end = slice_chr(slice_of(text.p + at, text.n - at), '}');
            if (end < 0)
                return -ERR_INVAL;
            at += (size_t)end + 1;
            rc = key_add_variable(ret, slice_of(text.p + from + 2, (size_t)end - 2), a);
        } else if (text.p[at] == '%') {
            if (at + 1 == text.n || text.p[at + 1] != '%')
                return -ERR_INVAL;
            at += 2;
            rc = key_add_part(ret, KEY_LITERAL, SLICE("%"), a);
        } else {
            while (at < text.n && text.p[at] != '%' && text.p[at] != ' ' && text.p[at] != '\t')
                at++;
            rc = key_add_part(ret, KEY_LITERAL, slice_of(text.p + from, at - from), a);
        }
        if (rc < 0)
            return rc;
    }
    *ret_at = 0;
    if (ret->n == 0)
        return -ERR_INVAL;
    /* No default key begins with "%", and no template has a line's end. */
    ret->mark = key_is_default(ret) ? SLICE_NONE : arena_printf(a, "%%%.*s\n", SLICE_ARG(text));
    return key_is_default(ret) || ret->mark.p ? 0 : -ERR_NOMEM;
}

bool key_glob(struct slice pattern, struct slice s)
{
    size_t p = 0, i = 0, star = SIZE_MAX, mark = 0;
    while (i < s.n) {
        if (p < pattern.n && pattern.p[p] == '*') {
            star = p++;
            mark = i;
        } else if (p < pattern.n && pattern.p[p] == s.p[i]) {
            p++;
            i++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            i = ++mark;
        } else {
            return false;
        }
    }
    while (p < pattern.n && pattern.p[p] == '*')
        p++;
    return p == pattern.n;
}

static bool key_listed(const struct slice *pattern, size_t n, struct slice name)
{
    for (size_t i = 0; i < n; i++) {
        if (key_glob(pattern[i], name))
            return true;
    }
    return false;
}

/* ---- queries and cookies ---- */

struct key_param {
    struct slice text, name;
};

static struct slice key_param_name(struct slice param)
{
    ptrdiff_t eq = slice_chr(param, '=');
    return eq < 0 ? param : slice_of(param.p, (size_t)eq);
}

/* Of one name by position: what comes first stays first. */
static int key_param_cmp(const void *a, const void *b)
{
    const struct key_param *x = a, *y = b;
    int c = slice_cmp(x->name, y->name);
    if (c != 0)
        return c;
    return (x->text.p > y->text.p) - (x->text.p < y->text.p);
}

/* Cuts at each "&"; empty parameters are parameters too. */
static bool key_param_next(struct slice *rest, bool *more, struct slice *ret)
{
    if (!*more)
        return false;
    ptrdiff_t amp = slice_chr(*rest, '&');
    size_t n = amp < 0 ? rest->n : (size_t)amp;
    *ret = slice_of(rest->p, n);
    *more = amp >= 0;
    n += amp >= 0;
    *rest = slice_of(rest->p + n, rest->n - n);
    return true;
}

bool key_query(const struct key_rules *rules, struct slice query, struct head_out *o)
{
    struct key_param list[KEY_PARAMS_MAX];
    struct slice rest = query, param;
    size_t n = 0, kept = 0;
    bool more = query.n > 0, sort = rules->sort_query, any = false;
    if (query.n == 0)
        return false;
    if (!sort && rules->nignore_query == 0) {
        head_add(o, query);
        return true;
    }
    while (key_param_next(&rest, &more, &param)) {
        struct slice name = key_param_name(param);
        if (key_listed(rules->ignore_query, rules->nignore_query, name))
            continue;
        if (kept < KEY_PARAMS_MAX)
            list[n++] = (struct key_param){param, name};
        kept++;
    }
    if (sort && kept <= KEY_PARAMS_MAX) {
        qsort(list, n, sizeof(list[0]), key_param_cmp);
        for (size_t i = 0; i < n; i++) {
            if (i > 0)
                head_add(o, SLICE("&"));
            head_add(o, list[i].text);
        }
        return n > 0;
    }
    rest = query;
    more = true;
    while (key_param_next(&rest, &more, &param)) {
        if (key_listed(rules->ignore_query, rules->nignore_query, key_param_name(param)))
            continue;
        if (any)
            head_add(o, SLICE("&"));
        head_add(o, param);
        any = true;
    }
    return any;
}

bool key_cookies(const struct key_rules *rules, const struct http_request *r, struct head_out *o)
{
    bool any = false;
    for (size_t i = 0; i < r->nfield; i++) {
        struct slice rest = r->field[i].value, cookie;
        if (r->field[i].id != FIELD_COOKIE)
            continue;
        while (slice_next(&rest, ';', &cookie)) {
            if (key_listed(rules->ignore_cookie, rules->nignore_cookie,
                           slice_trim(key_param_name(cookie))))
                continue;
            if (any)
                head_add(o, SLICE("; "));
            head_add(o, cookie);
            any = true;
        }
    }
    return any;
}

/* ---- keys ---- */

static int key_hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void key_escape(struct head_out *o, unsigned char c)
{
    static const char digit[] = "0123456789ABCDEF";
    char text[3] = {'%', digit[c >> 4], digit[c & 15]};
    head_add(o, slice_of(text, 3));
}

/* Free text: spaces, controls and "%" are escaped, so that it ends where the next space is. */
static void key_text(struct head_out *o, struct slice s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c <= 0x20 || c == 0x7f || c == '%')
            key_escape(o, c);
        else
            head_add(o, slice_of(s.p + i, 1));
    }
}

/* A path, equivalent spellings made one (RFC 3986 6.2.2.1 and .2); dot segments stay: servers
 * differ about them. */
static void key_path(struct head_out *o, struct slice s)
{
    size_t from = 0;
    for (size_t i = 0; i < s.n; i++) {
        int hi, lo;
        if (s.p[i] != '%' || i + 2 >= s.n || (hi = key_hex(s.p[i + 1])) < 0 ||
            (lo = key_hex(s.p[i + 2])) < 0)
            continue;
        char c = (char)(hi << 4 | lo);
        head_add(o, slice_of(s.p + from, i - from));
        if (http_is(c, HTTP_CLASS_UNRESERVED))
            head_add(o, slice_of(&c, 1));
        else
            key_escape(o, (unsigned char)c);
        i += 2;
        from = i + 1;
    }
    head_add(o, slice_of(s.p + from, s.n - from));
}

/* Absent and empty are different answers of a client. */
static void key_header(struct head_out *o, const struct http_request *r, struct slice name)
{
    bool any = false;
    for (size_t i = 0; i < r->nfield; i++) {
        if (!slice_eq_ci(r->field[i].name, name))
            continue;
        head_add(o, any ? SLICE(",") : SLICE("="));
        key_text(o, r->field[i].value);
        any = true;
    }
}

static void key_cookie(struct head_out *o, const struct http_request *r, struct slice name)
{
    for (size_t i = 0; i < r->nfield; i++) {
        struct slice rest = r->field[i].value, cookie;
        if (r->field[i].id != FIELD_COOKIE)
            continue;
        while (slice_next(&rest, ';', &cookie)) {
            struct slice own = key_param_name(cookie);
            if (!slice_eq(slice_trim(own), name))
                continue;
            head_add(o, SLICE("="));
            if (own.n < cookie.n)
                key_text(o, slice_of(cookie.p + own.n + 1, cookie.n - own.n - 1));
            return;
        }
    }
}

static void key_host(struct head_out *o, const struct key_input *in)
{
    const uint16_t usual = slice_eq(in->scheme, SLICE("https")) ? 443 : 80;
    char text[32];
    head_add(o, in->host);
    if (in->req->port == 0 || in->req->port == usual)
        return;
    head_add(o, SLICE(":"));
    head_add(o, slice_of(text, num_fmt_u64(text, in->req->port)));
}

static void key_variable_write(const struct key_part *p, const struct key_rules *rules,
                               const struct key_input *in, struct head_out *o)
{
    const struct http_request *r = in->req;
    size_t mark;
    switch (p->kind) {
    case KEY_LITERAL:
        break;
    case KEY_SCHEME:
        head_add(o, in->scheme);
        break;
    case KEY_HOST:
        key_host(o, in);
        break;
    case KEY_PATH:
        key_path(o, r->path);
        break;
    case KEY_QUERY:
        if (!r->has_query)
            break;
        mark = o->n;
        head_add(o, SLICE("?"));
        /* "/a?" is not "/a", but what is left empty by dropping parameters is. */
        if (!key_query(rules, r->query, o) && r->query.n > 0 && !o->overflow)
            o->n = mark;
        break;
    case KEY_METHOD:
        head_add(o, r->method == HTTP_HEAD ? SLICE("GET") : r->method_text);
        break;
    case KEY_HEADER:
        key_header(o, r, p->text);
        break;
    case KEY_COOKIE:
        key_cookie(o, r, p->text);
        break;
    }
}

int key_build(const struct key_template *t, const struct key_rules *rules,
              const struct key_input *in, struct head_out *o)
{
    head_add(o, t->mark);
    for (unsigned i = 0; i < t->n; i++) {
        if (t->part[i].kind == KEY_LITERAL)
            head_add(o, t->part[i].text);
        else
            key_variable_write(&t->part[i], rules, in, o);
        head_add(o, SLICE(" "));
    }
    if (in->req->method == HTTP_QUERY) {
        static const char *const about[] = {"content-type", "content-encoding", "content-language",
                                            "content-location"};
        head_add(o, SLICE("QUERY "));
        for (size_t i = 0; i < sizeof(about) / sizeof(about[0]); i++) {
            key_header(o, in->req, slice_str(about[i]));
            head_add(o, SLICE(" "));
        }
    }
    return o->overflow ? -ERR_RANGE : 0;
}

struct slice key_shown(const struct key_template *t, struct slice text)
{
    return slice_trim(slice_of(text.p + t->mark.n, text.n - t->mark.n));
}
