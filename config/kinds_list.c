/* Kinds of values that are lists or have a grammar of their own: their parsers and printers. */
#include "base/err.h"
#include "base/num.h"
#include "config/load.h"

#include <inttypes.h>

void *conf_kind_grow(struct conf_load *x, void *list, size_t item_size, bool fresh)
{
    struct {
        char *v;
        size_t n;
    } l;
    memcpy(&l, list, sizeof l);
    /* Arrays hold the next power of two: full when the count is one. */
    if (fresh || (l.n & (l.n - 1)) == 0) {
        size_t cap = 1;
        while (cap <= l.n)
            cap *= 2;
        char *v = arena_zalloc(&x->c->arena, cap * item_size);
        if (!v)
            return NULL;
        if (l.n)
            memcpy(v, l.v, l.n * item_size);
        l.v = v;
    }
    void *item = l.v + l.n++ * item_size;
    memcpy(list, &l, sizeof l);
    return item;
}

static void list_clear(void *list)
{
    memset(list, 0, sizeof(void *) + sizeof(size_t));
}

static size_t count_list(const void *v)
{
    size_t n;
    memcpy(&n, (const char *)v + sizeof(void *), sizeof n);
    return n;
}

/* Starts a list's entry. True when words follow; *ret_off: the list is cleared and nothing follows.
 */
static bool list_begin(struct conf_load *x, const struct conf_entry *e, void *list, bool *ret_off)
{
    *ret_off = conf_kind_is_off(e);
    if (*ret_off && (e->append || !e->first)) {
        struct slice name = conf_key_name(e->key);
        conf_load_error(x, conf_load_word_pos(e, e->word),
                        "\"off\" clears \"" SLICE_FMT "\" and stands alone", SLICE_ARG(name));
        return false;
    }
    if (e->first && !e->append)
        list_clear(list);
    return !*ret_off;
}

static bool bad(struct conf_load *x, const struct conf_entry *e, const struct conf_word *w,
                const char *what)
{
    struct slice name = conf_key_name(e->key);
    conf_load_error(x, conf_load_word_pos(e, w), "\"" SLICE_FMT "\": \"" SLICE_FMT "\" %s",
                    SLICE_ARG(name), SLICE_ARG(w->text), what);
    return false;
}

/* A word made of a mark and a text. */
static void put_marked(struct buf *out, const char *mark, struct slice text, const char *end)
{
    struct buf b;
    buf_init(&b, 0);
    buf_str(&b, mark);
    buf_add(&b, text);
    buf_str(&b, end);
    if (b.failed)
        out->failed = true;
    else
        conf_words_put(out, buf_slice(&b));
    buf_fini(&b);
}

static void put_cidr(const struct cidr *c, struct buf *out)
{
    char text[64];
    union addr a = {.sa = {.sa_family = c->family}};
    if (c->family == AF_UNIX) {
        buf_str(out, "unix");
        return;
    }
    if (c->family == AF_INET)
        memcpy(&a.in.sin_addr, c->net, 4);
    else
        memcpy(&a.in6.sin6_addr, c->net, 16);
    buf_add(out, slice_of(text, addr_fmt_ip(text, &a.sa)));
    if (c->bits != (c->family == AF_INET ? 32 : 128))
        buf_printf(out, "/%u", c->bits);
}

static bool add_cidrs(struct conf_load *x, const struct conf_entry *e, size_t from,
                      struct conf_cidrs *l, bool fresh)
{
    for (size_t i = from; i < e->nword; i++) {
        struct cidr c, *own;
        if (cidr_parse(e->word[i].text, &c) < 0)
            return bad(x, e, &e->word[i],
                       "is not an address range (10.0.0.0/8, 2001:db8::/32, unix); bits behind the "
                       "prefix must be zero");
        own = conf_kind_grow(x, l, sizeof c, fresh);
        if (!own)
            return false;
        *own = c;
        fresh = false;
    }
    return true;
}

static bool parse_cidrs(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    bool off;
    return list_begin(x, e, dst, &off) ? add_cidrs(x, e, 0, dst, e->first) : off;
}
static void item_cidrs(const void *v, size_t i, struct buf *out)
{
    put_cidr(&((const struct conf_cidrs *)v)->v[i], out);
}

static bool is_token(struct slice s)
{
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] <= ' ' || s.p[i] >= 0x7f || strchr("\"(),/:;<=>?@[\\]{}", s.p[i]))
            return false;
    return s.n > 0;
}

/* What the words of each key may be. */
static bool word_ok(struct conf_load *x, const struct conf_entry *e, const struct conf_word *w)
{
    struct slice name = conf_key_name(e->key), s = w->text;
    if (slice_eq(name, SLICE("method"))) {
        if (!is_token(s))
            return bad(x, e, w, "is not a method");
        for (size_t i = 0; i < s.n; i++)
            if (s.p[i] >= 'a' && s.p[i] <= 'z') {
                conf_load_warn(x, conf_load_word_pos(e, w),
                               "methods are case-sensitive; the usual ones are upper case");
                break;
            }
    } else if (slice_eq(name, SLICE("status"))) {
        bool ok = s.n == 3 && s.p[0] >= '1' && s.p[0] <= '5' &&
                  ((s.p[1] == 'x' && s.p[2] == 'x') ||
                   (s.p[1] >= '0' && s.p[1] <= '9' && s.p[2] >= '0' && s.p[2] <= '9'));
        if (!ok)
            return bad(x, e, w, "is not a status (404) or a class (5xx)");
    } else if (slice_eq(name, SLICE("nameservers"))) {
        union addr ip;
        struct addr_any a;
        if (addr_parse_ip(s, &ip) < 0 &&
            (slice_starts(s, SLICE("unix:")) || addr_parse(s, &a) < 0 || addr_port(&a.u.sa) == 0))
            return bad(x, e, w, "is not an address or ADDRESS:PORT");
    } else if (!is_token(s)) {
        return bad(x, e, w, "is not a name");
    }
    return true;
}

static bool parse_words(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    struct conf_words *l = dst;
    bool off, fresh = e->first;
    if (!list_begin(x, e, dst, &off)) {
        l->set = true;
        l->off = off;
        return off;
    }
    l->set = true;
    l->off = false;
    for (size_t i = 0; i < e->nword; i++) {
        if (!word_ok(x, e, &e->word[i]))
            return false;
        struct slice *own = conf_kind_grow(x, l, sizeof *own, fresh);
        if (!own)
            return false;
        *own = e->word[i].text;
        fresh = false;
    }
    return true;
}
static void item_words(const void *v, size_t i, struct buf *out)
{
    conf_words_put(out, ((const struct conf_words *)v)->v[i]);
}

static bool addr_of_word(struct conf_load *x, const struct conf_entry *e, const struct conf_word *w,
                         struct addr_any *ret)
{
    struct slice s = w->text;
    uint64_t port;
    if (slice_starts(s, SLICE("unix:"))) {
        if (s.n - 5 >= sizeof ret->u.un.sun_path)
            return bad(x, e, w, "is too long for a unix socket (107 bytes)");
        if (s.n < 7 || s.p[5] != '/')
            return bad(x, e, w, "needs an absolute path (unix:/run/app.sock)");
        for (size_t i = 5; i < s.n; i++)
            if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
                return bad(x, e, w, "has a control byte");
    }
    if (addr_parse(s, ret) < 0)
        return bad(x, e, w,
                   num_u64(s, &port) == 0
                       ? "lacks an address; \":PORT\" is every IPv4 address"
                       : "is not an address (IP:PORT, [IPV6]:PORT, :PORT, unix:/PATH)");
    if (ret->u.sa.sa_family != AF_UNIX && addr_port(&ret->u.sa) == 0)
        return bad(x, e, w, "lacks a port");
    return true;
}

static bool parse_addrs(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    bool off;
    char text[128];
    if (!list_begin(x, e, dst, &off))
        return off;
    for (size_t i = 0; i < e->nword; i++) {
        struct conf_address a = {.pos = conf_load_word_pos(e, &e->word[i])};
        if (!addr_of_word(x, e, &e->word[i], &a.addr))
            return false;
        a.text = arena_dup(&x->c->arena, slice_of(text, addr_fmt(text, &a.addr.u.sa, a.addr.len)));
        struct conf_address *own = conf_kind_grow(x, dst, sizeof a, e->first && i == 0);
        if (!own || !a.text.p)
            return false;
        *own = a;
    }
    return true;
}
static void item_addrs(const void *v, size_t i, struct buf *out)
{
    conf_words_put(out, ((const struct conf_addrs *)v)->v[i].text);
}

static bool parse_proxyp(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    struct conf_proxy_protocol p = {0};
    struct slice w = e->word[0].text;
    if (slice_eq(w, SLICE("from"))) {
        p.mode = CONF_PROXYP_FROM;
        if (e->nword == 1)
            return bad(x, e, &e->word[0], "needs address ranges behind it");
        if (!add_cidrs(x, e, 1, &p.from, true))
            return false;
    } else {
        if (!conf_kind_one(x, e))
            return false;
        if (!slice_eq(w, SLICE("on")) && !slice_eq(w, SLICE("off")))
            return bad(x, e, &e->word[0], "is not off, on or from CIDR ...");
        p.mode = slice_eq(w, SLICE("on")) ? CONF_PROXYP_ON : CONF_PROXYP_OFF;
    }
    memcpy(dst, &p, sizeof p);
    return true;
}
static size_t count_one(const void *v)
{
    (void)v;
    return 1;
}
static void item_proxyp(const void *v, size_t i, struct buf *out)
{
    const struct conf_proxy_protocol *p = v;
    (void)i;
    buf_str(out, p->mode == CONF_PROXYP_OFF ? "off" : p->mode == CONF_PROXYP_ON ? "on" : "from");
    for (size_t k = 0; k < p->from.n; k++) {
        buf_chr(out, ' ');
        put_cidr(&p->from.v[k], out);
    }
}

static const struct {
    const char *word;
    uint32_t bit;
} retry_words[] = {{"connect", CONF_RETRY_CONNECT}, {"reused", CONF_RETRY_REUSED},
                   {"reset", CONF_RETRY_RESET},     {"502", CONF_RETRY_502},
                   {"503", CONF_RETRY_503},         {"504", CONF_RETRY_504}};
#define RETRY_WORDS (sizeof retry_words / sizeof retry_words[0])

static bool parse_retry(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    struct conf_retry r = {.on = CONF_RETRY_CONNECT | CONF_RETRY_REUSED | CONF_RETRY_RESET};
    uint64_t n = 0;
    if (conf_kind_is_off(e)) {
        r.on = 0;
    } else {
        if (num_u64(e->word[0].text, &n) < 0 || n > 20)
            return bad(x, e, &e->word[0], "is not a number from 0 to 20, or off");
        r.tries = (uint32_t)n;
        if (e->nword > 1 && (!slice_eq(e->word[1].text, SLICE("on")) || e->nword == 2))
            return bad(x, e, &e->word[1],
                       "should be \"on\" with one or more of connect, reused, reset, 502, 503, 504 "
                       "behind it");
        if (e->nword > 2)
            r.on = 0;
        for (size_t i = 2; i < e->nword; i++) {
            size_t k = 0;
            while (k < RETRY_WORDS && !slice_eq(e->word[i].text, slice_str(retry_words[k].word)))
                k++;
            if (k == RETRY_WORDS)
                return bad(x, e, &e->word[i], "is not connect, reused, reset, 502, 503 or 504");
            r.on |= retry_words[k].bit;
        }
        if (r.tries == 0)
            r.on = 0;
    }
    memcpy(dst, &r, sizeof r);
    return true;
}
static void item_retry(const void *v, size_t i, struct buf *out)
{
    const struct conf_retry *r = v;
    (void)i;
    if (r->tries == 0) {
        buf_str(out, "off");
        return;
    }
    buf_printf(out, "%" PRIu32 " on", r->tries);
    for (size_t k = 0; k < RETRY_WORDS; k++)
        if (r->on & retry_words[k].bit)
            buf_printf(out, " %s", retry_words[k].word);
}

/* STATUS[,STATUS...] with 4xx and 5xx. */
static bool page_statuses(struct conf_load *x, const struct conf_entry *e,
                          struct conf_error_page *p)
{
    struct slice rest = e->word[0].text, item;
    uint64_t v;
    while (slice_next(&rest, ',', &item)) {
        if (slice_eq(item, SLICE("4xx"))) {
            p->class4 = true;
        } else if (slice_eq(item, SLICE("5xx"))) {
            p->class5 = true;
        } else if (item.n != 3 || num_u64(item, &v) < 0 || v < 400 || v > 599) {
            return bad(x, e, &e->word[0], "is not a list of statuses (404,410 or 5xx)");
        } else if (p->nstatus == sizeof p->status / sizeof p->status[0]) {
            return bad(x, e, &e->word[0], "has more than 16 statuses; use another line");
        } else {
            p->status[p->nstatus++] = (uint16_t)v;
        }
    }
    if (p->nstatus == 0 && !p->class4 && !p->class5)
        return bad(x, e, &e->word[0], "is not a list of statuses (404,410 or 5xx)");
    return true;
}

static bool parse_errpage(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    struct conf_error_page p = {.type = SLICE("text/plain")};
    bool off;
    if (!list_begin(x, e, dst, &off))
        return off;
    if (e->nword != 2) {
        conf_load_error(x, conf_load_word_pos(e, &e->word[e->nword > 2 ? 2 : 0]),
                        "\"error_page\" is STATUS[,STATUS] FILE");
        return false;
    }
    if (!page_statuses(x, e, &p))
        return false;
    const struct conf_word *w = &e->word[1];
    p.file = conf_snapshot_join(&x->c->arena, e->pos.file, w->text);
    if (!p.file.p)
        return false;
    const struct conf_snap_page *page = conf_snapshot_page(x->snap, p.file);
    if (!page || page->error) {
        conf_load_error(x, conf_load_word_pos(e, w), "%s",
                        page ? page->error : "error pages need a configuration file, not a text");
        return false;
    }
    p.body = page->body.n ? arena_dup(&x->c->arena, page->body) : SLICE("");
    if (slice_ends(p.file, SLICE(".html")) || slice_ends(p.file, SLICE(".htm")))
        p.type = SLICE("text/html");
    else if (slice_ends(p.file, SLICE(".json")))
        p.type = SLICE("application/json");
    struct conf_error_page *own = conf_kind_grow(x, dst, sizeof p, e->first);
    if (!own)
        return false;
    *own = p;
    return true;
}
static void item_errpage(const void *v, size_t i, struct buf *out)
{
    const struct conf_error_page *p = &((const struct conf_error_pages *)v)->v[i];
    const char *comma = "";
    for (size_t k = 0; k < p->nstatus; k++, comma = ",")
        buf_printf(out, "%s%u", comma, p->status[k]);
    if (p->class4) {
        buf_printf(out, "%s4xx", comma);
        comma = ",";
    }
    if (p->class5)
        buf_printf(out, "%s5xx", comma);
    buf_chr(out, ' ');
    conf_words_put(out, p->file);
}

/* The object a word names, or an error with the nearest name. `names` is an array of pointers to
 * structs that begin with their name. */
static void *find_named(struct conf_load *x, const struct conf_entry *e, const struct conf_word *w,
                        const struct map *m, const char *kind, void *const *all, size_t n)
{
    void *o = map_get(m, w->text);
    struct conf_near near;
    if (o || x->muted)
        return o;
    conf_near_init(&near, w->text);
    for (size_t i = 0; i < n && x->d->n < 200; i++)
        conf_near_try(&near, *(const struct slice *)all[i]);
    if (near.best.p)
        conf_load_error(x, conf_load_word_pos(e, w),
                        "there is no [%s " SLICE_FMT "]; did you mean \"" SLICE_FMT "\"?", kind,
                        SLICE_ARG(w->text), SLICE_ARG(near.best));
    else
        conf_load_error(x, conf_load_word_pos(e, w), "there is no [%s " SLICE_FMT "]", kind,
                        SLICE_ARG(w->text));
    return NULL;
}

static bool parse_logrefs(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    struct conf_logs *l = dst;
    bool off;
    if (!list_begin(x, e, dst, &off)) {
        l->off = off;
        return off;
    }
    l->off = false;
    for (size_t i = 0; i < e->nword; i++) {
        struct conf_log *o =
            find_named(x, e, &e->word[i], &x->logs, "log", (void *const *)x->c->log, x->c->nlog);
        struct conf_log **own = o ? conf_kind_grow(x, dst, sizeof *own, e->first && i == 0) : NULL;
        if (!own)
            return false;
        *own = o;
    }
    return true;
}
static void item_logrefs(const void *v, size_t i, struct buf *out)
{
    conf_words_put(out, ((const struct conf_logs *)v)->v[i]->name);
}

static bool parse_listenrefs(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    bool off;
    if (!list_begin(x, e, dst, &off))
        return off;
    for (size_t i = 0; i < e->nword; i++) {
        struct conf_listen *o = find_named(x, e, &e->word[i], &x->listens, "listen",
                                           (void *const *)x->c->listen, x->c->nlisten);
        struct conf_listen **own =
            o ? conf_kind_grow(x, dst, sizeof *own, e->first && i == 0) : NULL;
        if (!own)
            return false;
        *own = o;
    }
    return true;
}
static void item_listenrefs(const void *v, size_t i, struct buf *out)
{
    conf_words_put(out, ((const struct conf_listens *)v)->v[i]->name);
}

static bool parse_upref(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    struct conf_upstream *o = NULL;
    bool bad_before = x->bad_upstream;
    x->bad_upstream = true;
    if (e->nword > 1) {
        conf_load_error(x, conf_load_word_pos(e, &e->word[1]),
                        "\"upstream\" takes one name; requests cannot be split between upstreams");
        return false;
    }
    if (!conf_kind_is_off(e)) {
        o = find_named(x, e, e->word, &x->upstreams, "upstream", (void *const *)x->c->upstream,
                       x->c->nupstream);
        if (!o)
            return false;
    }
    x->bad_upstream = bad_before;
    memcpy(dst, &o, sizeof o);
    return true;
}
static size_t count_upref(const void *v)
{
    return *(struct conf_upstream *const *)v != NULL;
}
static void item_upref(const void *v, size_t i, struct buf *out)
{
    (void)i;
    conf_words_put(out, (*(struct conf_upstream *const *)v)->name);
}

/* A DNS name: labels of letters, digits, `-` and `_`; underscores are met in practice. */
static const char *dns_problem(struct slice s)
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

static struct slice lower(struct conf_load *x, struct slice s)
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
        return s.n > 1 ? true : bad(x, e, w, "has no regular expression behind \"~\"");
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
        problem = dns_problem(slice_of(s.p + dot, s.n - dot));
        if (n->kind == CONF_NAME_EXACT && s.n > 0 && s.p[0] == '.')
            problem = "begins with a dot; write *.example.org for every name below example.org";
    }
    if (problem)
        return bad(x, e, w, problem);
    n->text = lower(x, s);
    return n->text.p != NULL;
}

static bool parse_hnames(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    bool off;
    if (!list_begin(x, e, dst, &off))
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
    put_marked(out,
               n->kind == CONF_NAME_EXACT   ? ""
               : n->kind == CONF_NAME_REGEX ? "~"
                                            : "*",
               n->text, "");
}

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
    if (!list_begin(x, e, dst, &off))
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
            return bad(x, e, w, problem);
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
    put_marked(out, p->kind == CONF_PATH_REGEX ? "~" : "", p->text,
               p->kind == CONF_PATH_PREFIX ? "*" : "");
}

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
            return bad(x, e, w,
                       "has an unknown macro; there are %{host} %{path} %{query} %{scheme} %{uri}");
    }
    return true;
}

static bool parse_return(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    struct conf_return r = {.text = SLICE("")};
    uint64_t v;
    if (e->word[0].text.n != 3 || num_u64(e->word[0].text, &v) < 0 || v < 200 || v > 599)
        return bad(x, e, &e->word[0], "is not a status from 200 to 599");
    if (e->nword > 2) {
        conf_load_error(x, conf_load_word_pos(e, &e->word[2]),
                        "\"return\" is STATUS, STATUS \"text\" or STATUS URL; quote the text");
        return false;
    }
    r.status = (uint16_t)v;
    r.is_url = v == 301 || v == 302 || v == 303 || v == 307 || v == 308;
    if (r.is_url && e->nword == 1)
        return bad(x, e, &e->word[0], "is a redirect and needs a URL behind it");
    if (e->nword == 2) {
        const struct conf_word *w = &e->word[1];
        struct slice s = w->text;
        if (v == 204 || v == 205 || v == 304)
            return bad(x, e, &e->word[0], "has no body");
        if (r.is_url) {
            if (!slice_starts(s, SLICE("http://")) && !slice_starts(s, SLICE("https://")) &&
                !slice_starts(s, SLICE("/")) && !slice_starts(s, SLICE("%{")))
                return bad(x, e, w, "is not a URL (https://..., /path or %{scheme}://...)");
            for (size_t i = 0; i < s.n; i++)
                if ((unsigned char)s.p[i] <= ' ' || s.p[i] == 0x7f)
                    return bad(x, e, w, "has a blank or control byte; encode it as %20");
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

static bool server_option(struct conf_load *x, const struct conf_entry *e,
                          const struct conf_word *w, struct conf_server *s)
{
    static const char *const known[] = {"weight=", "backup", "down", "max_conns=", "resolve="};
    ptrdiff_t eq = slice_chr(w->text, '=');
    struct slice name = eq < 0 ? w->text : slice_of(w->text.p, (size_t)eq);
    struct slice value =
        eq < 0 ? SLICE("") : slice_of(w->text.p + eq + 1, w->text.n - (size_t)eq - 1);
    struct conf_near near;
    uint64_t v;
    if (eq < 0 && slice_eq(name, SLICE("backup"))) {
        s->backup = true;
    } else if (eq < 0 && slice_eq(name, SLICE("down"))) {
        s->down = true;
    } else if (eq > 0 && slice_eq(name, SLICE("weight"))) {
        if (num_u64(value, &v) < 0 || v < 1 || v > 256)
            return bad(x, e, w, "is not a weight from 1 to 256");
        s->weight = (uint32_t)v;
    } else if (eq > 0 && slice_eq(name, SLICE("max_conns"))) {
        if (num_u64(value, &v) < 0 || v > 1000000)
            return bad(x, e, w, "is not a number from 0 to 1000000");
        s->max_conns = v;
        s->own_max_conns = true;
    } else if (eq > 0 && slice_eq(name, SLICE("resolve"))) {
        if (num_duration(value, &v) < 0 || v < 1000 || v > 86400000)
            return bad(x, e, w, "is not a duration from 1s to 1d");
        s->resolve_ms = v;
    } else {
        conf_near_init(&near, name);
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
            conf_near_try(&near, slice_str(known[i]));
        buf_clear(&x->scratch);
        buf_str(
            &x->scratch,
            "is not an option of a server (weight=N, backup, down, max_conns=N, resolve=DURATION)");
        if (near.best.p)
            buf_printf(&x->scratch, "; did you mean \"" SLICE_FMT "\"?", SLICE_ARG(near.best));
        buf_chr(&x->scratch, 0);
        return bad(x, e, w, x->scratch.failed ? "is not an option of a server" : x->scratch.p);
    }
    return true;
}

static bool server_address(struct conf_load *x, const struct conf_entry *e, struct conf_server *s)
{
    const struct conf_word *w = &e->word[0];
    struct slice name = w->text, host;
    if (slice_starts(name, SLICE("https://")))
        return bad(x, e, w, "needs TLS to servers, which this version does not have");
    if (slice_chr(name, '/') >= 0 && !slice_starts(name, SLICE("unix:")))
        return bad(x, e, w, "is not HOST:PORT; write it without http:// and path");
    s->name = name;
    s->host = SLICE("");
    if (slice_starts(name, SLICE("unix:"))) {
        s->literal = true;
        return addr_of_word(x, e, w, &s->addr);
    }
    if (addr_split(name, &host, &s->port) < 0 || s->port == 0)
        return bad(x, e, w,
                   slice_chr(name, ':') < 0 ? "lacks a port (HOST:PORT)"
                                            : "is not HOST:PORT, [IPV6]:PORT or unix:/PATH");
    if (host.n > 2 && host.p[0] == '[')
        host = slice_of(host.p + 1, host.n - 2);
    s->host = arena_dup(&x->c->arena, host);
    union addr ip;
    if (addr_parse_ip(host, &ip) == 0) {
        s->literal = true;
        return addr_of_word(x, e, w, &s->addr);
    }
    const char *problem =
        dns_problem(host.n > 1 && host.p[host.n - 1] == '.' ? slice_of(host.p, host.n - 1) : host);
    if (!problem && host.p[host.n - 1] >= '0' && host.p[host.n - 1] <= '9' &&
        strspn(s->host.p, "0123456789.") == host.n)
        problem = "is not an IPv4 address";
    return problem ? bad(x, e, w, problem) : true;
}

static bool parse_servers(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    struct conf_server s = {.weight = 1, .pos = conf_load_word_pos(e, &e->word[0])}, *own;
    bool off;
    if (!list_begin(x, e, dst, &off))
        return off;
    if (!server_address(x, e, &s))
        return false;
    for (size_t i = 1; i < e->nword; i++)
        if (!server_option(x, e, &e->word[i], &s))
            return false;
    if (s.literal && s.resolve_ms)
        conf_load_warn(x, s.pos, "resolve= has no effect on an address");
    own = conf_kind_grow(x, dst, sizeof s, e->first);
    if (!own)
        return false;
    *own = s;
    return true;
}
static void item_servers(const void *v, size_t i, struct buf *out)
{
    const struct conf_server *s = &((const struct conf_servers *)v)->v[i];
    char text[32];
    conf_words_put(out, s->name);
    if (s->weight != 1)
        buf_printf(out, " weight=%" PRIu32, s->weight);
    if (s->backup)
        buf_str(out, " backup");
    if (s->down)
        buf_str(out, " down");
    if (s->own_max_conns)
        buf_printf(out, " max_conns=%" PRIu64, s->max_conns);
    if (s->resolve_ms) {
        buf_str(out, " resolve=");
        buf_add(out, slice_of(text, num_fmt_duration(text, s->resolve_ms)));
    }
}

#define LIST(kind) [CONF_KIND_##kind - CONF_KIND_CIDRS]
const struct conf_kind conf_kind_lists[] = {
    LIST(CIDRS) = {"cidr ...", sizeof(struct conf_cidrs), false, parse_cidrs, count_list,
                   item_cidrs},
    LIST(WORDS) = {"word ...", sizeof(struct conf_words), false, parse_words, count_list,
                   item_words},
    LIST(ADDRS) = {"address ...", sizeof(struct conf_addrs), true, parse_addrs, count_list,
                   item_addrs},
    LIST(PROXYP) = {"off | on | from cidr ...", sizeof(struct conf_proxy_protocol), false,
                    parse_proxyp, count_one, item_proxyp},
    LIST(RETRY) = {"number [on condition ...] | off", sizeof(struct conf_retry), false, parse_retry,
                   count_one, item_retry},
    LIST(ERRPAGE) = {"status[,status] file", sizeof(struct conf_error_pages), true, parse_errpage,
                     count_list, item_errpage},
    LIST(LOGREFS) = {"log ... | off", sizeof(struct conf_logs), false, parse_logrefs, count_list,
                     item_logrefs},
    LIST(HNAMES) = {"name ...", sizeof(struct conf_names), false, parse_hnames, count_list,
                    item_hnames},
    LIST(LISTENREFS) = {"listener ...", sizeof(struct conf_listens), false, parse_listenrefs,
                        count_list, item_listenrefs},
    LIST(PATH) = {"path ...", sizeof(struct conf_paths), false, parse_path, count_list, item_path},
    LIST(RETURN) = {"status [text | url]", sizeof(struct conf_return), false, parse_return,
                    count_return, item_return},
    LIST(UPREF) = {"upstream", sizeof(struct conf_upstream *), false, parse_upref, count_upref,
                   item_upref},
    LIST(SERVERS) = {"server [option ...]", sizeof(struct conf_servers), true, parse_servers,
                     count_list, item_servers},
};
_Static_assert(sizeof conf_kind_lists / sizeof conf_kind_lists[0] ==
                   CONF_KIND__COUNT - CONF_KIND_CIDRS,
               "every kind");
