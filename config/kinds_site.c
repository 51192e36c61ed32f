/* Kinds of values that say what a host or a route matches and returns: names, paths, return. */
#include "base/num.h"
#include "config/kinds_own.h"

/* A DNS name: labels of letters, digits, `-` and `_`; underscores are met in practice. */
const char *conf_kind_dns_problem(struct slice s)
{
    size_t label = 0;
    if (s.n == 0 || s.n > 253)
        return s.n ? "is longer than 253 bytes" : "is empty";
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (c == '.') {
            if (label == 0)
                return "has an empty label";
            label = 0;
            continue;
        }
        if ((unsigned char)c >= 0x80)
            return "is not ASCII; write international names in their xn-- form";
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '-' || c == '_'))
            return c == ':'   ? "has a port; names are written without one"
                   : c == '*' ? "has a \"*\" that is not its whole first label"
                   : c == '/' ? "is a URL, not a host name"
                              : "is not a host name";
        if (++label > 63)
            return "has a label longer than 63 bytes";
    }
    return label == 0 ? "has an empty label" : NULL;
}

struct slice conf_kind_lower(struct conf_load *x, struct slice s)
{
    struct slice copy = arena_dup(&x->c->arena, s);
    char *p = arena_bytes(&x->c->arena, s.n + 1);
    if (!copy.p || !p)
        return SLICE_NONE;
    for (size_t i = 0; i < s.n; i++)
        p[i] = s.p[i] >= 'A' && s.p[i] <= 'Z' ? (char)(s.p[i] + 32) : s.p[i];
    p[s.n] = 0;
    return slice_of(p, s.n);
}

static bool one_name(struct conf_load *x, const struct conf_entry *e, const struct conf_word *w,
                     struct conf_name *n)
{
    struct slice s = w->text;
    union addr ip;
    const char *problem = NULL;
    n->pos = conf_load_word_pos(e, w);
    n->text = SLICE("");
    if (slice_eq(s, SLICE("*"))) {
        n->kind = CONF_NAME_ANY;
        return true;
    }
    if (s.n > 0 && s.p[0] == '~') {
        n->kind = CONF_NAME_REGEX;
        n->text = slice_of(s.p + 1, s.n - 1);
        return s.n > 1 ? true : conf_kind_bad(x, e, w, "has no regular expression behind \"~\"");
    }
    if (s.n > 2 && s.p[0] == '[' && s.p[s.n - 1] == ']' &&
        addr_parse_ip(slice_of(s.p + 1, s.n - 2), &ip) == 0) {
        n->kind = CONF_NAME_EXACT;
    } else {
        if (s.n > 1 && s.p[s.n - 1] == '.')
            s.n--;
        n->kind = slice_starts(s, SLICE("*.")) ? CONF_NAME_WILDCARD : CONF_NAME_EXACT;
        if (n->kind == CONF_NAME_WILDCARD)
            s = slice_of(s.p + 1, s.n - 1);
        size_t dot = n->kind == CONF_NAME_WILDCARD;
        problem = conf_kind_dns_problem(slice_of(s.p + dot, s.n - dot));
        if (n->kind == CONF_NAME_EXACT && s.n > 0 && s.p[0] == '.')
            problem = "begins with a dot; write *.example.org for every name below example.org";
    }
    if (problem)
        return conf_kind_bad(x, e, w, problem);
    n->text = conf_kind_lower(x, s);
    return n->text.p != NULL;
}

static bool parse_hnames(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    bool off;
    if (!conf_kind_list_begin(x, e, dst, &off))
        return off;
    for (size_t i = 0; i < e->nword; i++) {
        struct conf_name n, *own;
        if (!one_name(x, e, &e->word[i], &n))
            return false;
        own = conf_kind_grow(x, dst, sizeof n, e->first && i == 0);
        if (!own)
            return false;
        *own = n;
    }
    return true;
}
static void item_hnames(const void *v, size_t i, struct buf *out)
{
    const struct conf_name *n = &((const struct conf_names *)v)->v[i];
    conf_kind_put_marked(out,
                         n->kind == CONF_NAME_EXACT   ? ""
                         : n->kind == CONF_NAME_REGEX ? "~"
                                                      : "*",
                         n->text, "");
}
const struct conf_kind conf_kind_hnames = {"name ...",   sizeof(struct conf_names), false,
                                           parse_hnames, conf_kind_list_count,      item_hnames};

static const char *path_problem(struct slice s)
{
    if (s.n == 0 || s.p[0] != '/')
        return "does not begin with \"/\" (or with \"~\" for a regular expression)";
    for (size_t i = 0; i < s.n; i++) {
        struct slice rest = slice_of(s.p + i, s.n - i);
        if (s.p[i] == '?' || s.p[i] == '#')
            return "has a query; a path ends before \"?\" and \"#\"";
        if (s.p[i] == '*')
            return "has a \"*\" that does not follow the last \"/\"; prefixes are written "
                   "/prefix/*";
        if ((unsigned char)s.p[i] <= ' ' || s.p[i] == 0x7f)
            return "has a blank or control byte";
        if (slice_starts(rest, SLICE("//")))
            return "has an empty segment; paths are compared with \"//\" merged into \"/\"";
        if (slice_eq(rest, SLICE("/.")) || slice_starts(rest, SLICE("/./")) ||
            slice_eq(rest, SLICE("/..")) || slice_starts(rest, SLICE("/../")))
            return "has a dot segment; paths are compared after these are resolved";
    }
    return NULL;
}

static bool parse_path(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    bool off;
    if (!conf_kind_list_begin(x, e, dst, &off))
        return off;
    for (size_t i = 0; i < e->nword; i++) {
        const struct conf_word *w = &e->word[i];
        struct conf_path p = {.text = w->text, .pos = conf_load_word_pos(e, w)}, *own;
        const char *problem = NULL;
        if (w->text.n > 0 && w->text.p[0] == '~') {
            p.kind = CONF_PATH_REGEX;
            p.text = slice_of(w->text.p + 1, w->text.n - 1);
            if (p.text.n == 0)
                problem = "has no regular expression behind \"~\"";
        } else {
            if (slice_ends(w->text, SLICE("/*"))) {
                p.kind = CONF_PATH_PREFIX;
                p.text.n--;
            }
            problem = path_problem(p.text);
        }
        if (problem)
            return conf_kind_bad(x, e, w, problem);
        own = conf_kind_grow(x, dst, sizeof p, e->first && i == 0);
        if (!own)
            return false;
        *own = p;
    }
    return true;
}
static void item_path(const void *v, size_t i, struct buf *out)
{
    const struct conf_path *p = &((const struct conf_paths *)v)->v[i];
    conf_kind_put_marked(out, p->kind == CONF_PATH_REGEX ? "~" : "", p->text,
                         p->kind == CONF_PATH_PREFIX ? "*" : "");
}
const struct conf_kind conf_kind_paths = {"path ...", sizeof(struct conf_paths), false,
                                          parse_path, conf_kind_list_count,      item_path};

/* %{...} in a redirect's URL. */
static bool macros_ok(struct conf_load *x, const struct conf_entry *e, const struct conf_word *w)
{
    static const char *const known[] = {"host", "path", "query", "scheme", "uri"};
    for (size_t i = 0; i + 1 < w->text.n; i++) {
        if (w->text.p[i] != '%' || w->text.p[i + 1] != '{')
            continue;
        size_t end = i + 2, k = 0;
        while (end < w->text.n && w->text.p[end] != '}')
            end++;
        struct slice name = slice_of(w->text.p + i + 2, end - i - 2);
        while (k < sizeof known / sizeof known[0] && !slice_eq(name, slice_str(known[k])))
            k++;
        if (end == w->text.n || k == sizeof known / sizeof known[0])
            return conf_kind_bad(
                x, e, w,
                "has an unknown macro; there are %{host} %{path} %{query} %{scheme} %{uri}");
    }
    return true;
}

static bool parse_return(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    struct conf_return r = {.text = SLICE("")};
    uint64_t v;
    if (e->word[0].text.n != 3 || num_u64(e->word[0].text, &v) < 0 || v < 200 || v > 599)
        return conf_kind_bad(x, e, &e->word[0], "is not a status from 200 to 599");
    if (e->nword > 2) {
        conf_load_error(x, conf_load_word_pos(e, &e->word[2]),
                        "\"return\" is STATUS, STATUS \"text\" or STATUS URL; quote the text");
        return false;
    }
    r.status = (uint16_t)v;
    r.is_url = v == 301 || v == 302 || v == 303 || v == 307 || v == 308;
    if (r.is_url && e->nword == 1)
        return conf_kind_bad(x, e, &e->word[0], "is a redirect and needs a URL behind it");
    if (e->nword == 2) {
        const struct conf_word *w = &e->word[1];
        struct slice s = w->text;
        if (v == 204 || v == 205 || v == 304)
            return conf_kind_bad(x, e, &e->word[0], "has no body");
        if (r.is_url) {
            if (!slice_starts(s, SLICE("http://")) && !slice_starts(s, SLICE("https://")) &&
                !slice_starts(s, SLICE("/")) && !slice_starts(s, SLICE("%{")))
                return conf_kind_bad(x, e, w,
                                     "is not a URL (https://..., /path or %{scheme}://...)");
            for (size_t i = 0; i < s.n; i++)
                if ((unsigned char)s.p[i] <= ' ' || s.p[i] == 0x7f)
                    return conf_kind_bad(x, e, w, "has a blank or control byte; encode it as %20");
            if (!macros_ok(x, e, w))
                return false;
        }
        r.text = s;
    }
    memcpy(dst, &r, sizeof r);
    return true;
}
static size_t count_return(const void *v)
{
    return ((const struct conf_return *)v)->status != 0;
}
static void item_return(const void *v, size_t i, struct buf *out)
{
    const struct conf_return *r = v;
    (void)i;
    buf_u64(out, r->status);
    if (r->text.n) {
        buf_chr(out, ' ');
        conf_words_put(out, r->text);
    }
}
const struct conf_kind conf_kind_return = {"status [text | url]",
                                           sizeof(struct conf_return),
                                           false,
                                           parse_return,
                                           count_return,
                                           item_return};
