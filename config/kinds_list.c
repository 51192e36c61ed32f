/* Kinds of values that are lists, and what all lists share: their parsers and printers. */
#include "base/num.h"
#include "config/kinds_own.h"

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

size_t conf_kind_list_count(const void *v)
{
    size_t n;
    memcpy(&n, (const char *)v + sizeof(void *), sizeof n);
    return n;
}

/* Starts a list's entry. True when words follow; *ret_off: the list is cleared and nothing follows.
 */
bool conf_kind_list_begin(struct conf_load *x, const struct conf_entry *e, void *list,
                          bool *ret_off)
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

bool conf_kind_bad(struct conf_load *x, const struct conf_entry *e, const struct conf_word *w,
                   const char *what)
{
    struct slice name = conf_key_name(e->key);
    conf_load_error(x, conf_load_word_pos(e, w), "\"" SLICE_FMT "\": \"" SLICE_FMT "\" %s",
                    SLICE_ARG(name), SLICE_ARG(w->text), what);
    return false;
}

/* A word made of a mark and a text. */
void conf_kind_put_marked(struct buf *out, const char *mark, struct slice text, const char *end)
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
            return conf_kind_bad(
                x, e, &e->word[i],
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
    return conf_kind_list_begin(x, e, dst, &off) ? add_cidrs(x, e, 0, dst, e->first) : off;
}
static void item_cidrs(const void *v, size_t i, struct buf *out)
{
    put_cidr(&((const struct conf_cidrs *)v)->v[i], out);
}
const struct conf_kind conf_kind_cidrs = {"cidr ...",  sizeof(struct conf_cidrs), false,
                                          parse_cidrs, conf_kind_list_count,      item_cidrs};

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
    struct slice name = conf_key_name(conf_key_base(e->key)), s = w->text;
    if (slice_eq(name, SLICE("method"))) {
        if (!is_token(s))
            return conf_kind_bad(x, e, w, "is not a method");
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
            return conf_kind_bad(x, e, w, "is not a status (404) or a class (5xx)");
    } else if (slice_eq(name, SLICE("nameservers"))) {
        union addr ip;
        struct addr_any a;
        if (addr_parse_ip(s, &ip) < 0 &&
            (slice_starts(s, SLICE("unix:")) || addr_parse(s, &a) < 0 || addr_port(&a.u.sa) == 0))
            return conf_kind_bad(x, e, w, "is not an address or ADDRESS:PORT");
    } else if (slice_eq(name, SLICE("methods"))) {
        if (!slice_eq(s, SLICE("GET")) && !slice_eq(s, SLICE("HEAD")) &&
            !slice_eq(s, SLICE("QUERY")))
            return conf_kind_bad(x, e, w, "is not GET, HEAD or QUERY");
    } else if (slice_eq(name, SLICE("encodings"))) {
        if (!slice_eq(s, SLICE("br")) && !slice_eq(s, SLICE("gzip")) && !slice_eq(s, SLICE("zstd")))
            return conf_kind_bad(x, e, w, "is not br, gzip or zstd");
    } else if (slice_eq(name, SLICE("types"))) {
        const ptrdiff_t slash = slice_chr(s, '/');
        if (slash < 0 || !is_token(slice_of(s.p, (size_t)slash)) ||
            !is_token(slice_of(s.p + slash + 1, s.n - (size_t)slash - 1)))
            return conf_kind_bad(x, e, w, "is not a media type: text/html, text/*");
    } else if (slice_eq(name, SLICE("ignore_query"))) {
        /* Names of parameters may be anything: filter[a] */
    } else if (slice_eq(name, SLICE("cache_bypass"))) {
        ptrdiff_t dot = slice_chr(s, '.');
        struct slice where = slice_of(s.p, dot < 0 ? 0 : (size_t)dot);
        struct slice what = slice_of(s.p + where.n + (dot >= 0), s.n - where.n - (dot >= 0));
        bool query = slice_eq(where, SLICE("query"));
        if (!query && !slice_eq(where, SLICE("cookie")) && !slice_eq(where, SLICE("header")))
            return conf_kind_bad(x, e, w, "is not cookie.NAME, header.NAME or query.NAME");
        if (query ? what.n == 0 : !is_token(what))
            return conf_kind_bad(x, e, w, "lacks a name behind the dot");
    } else if (!is_token(s)) {
        return conf_kind_bad(x, e, w, "is not a name");
    }
    return true;
}

static bool parse_words(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    struct conf_words *l = dst;
    bool off, fresh = e->first;
    if (!conf_kind_list_begin(x, e, dst, &off)) {
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
const struct conf_kind conf_kind_words = {"word ...",  sizeof(struct conf_words), false,
                                          parse_words, conf_kind_list_count,      item_words};

bool conf_kind_address(struct conf_load *x, const struct conf_entry *e, const struct conf_word *w,
                       struct slice s, struct addr_any *ret)
{
    uint64_t port;
    if (slice_starts(s, SLICE("unix:"))) {
        if (s.n - 5 >= sizeof ret->u.un.sun_path)
            return conf_kind_bad(x, e, w, "is too long for a unix socket (107 bytes)");
        if (s.n < 7 || s.p[5] != '/')
            return conf_kind_bad(x, e, w, "needs an absolute path (unix:/run/app.sock)");
        for (size_t i = 5; i < s.n; i++)
            if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
                return conf_kind_bad(x, e, w, "has a control byte");
    }
    if (addr_parse(s, ret) < 0)
        return conf_kind_bad(x, e, w,
                             num_u64(s, &port) == 0
                                 ? "lacks an address; \":PORT\" is every IPv4 address"
                                 : "is not an address (IP:PORT, [IPV6]:PORT, :PORT, unix:/PATH)");
    if (ret->u.sa.sa_family != AF_UNIX && addr_port(&ret->u.sa) == 0)
        return conf_kind_bad(x, e, w, "lacks a port");
    return true;
}

static bool parse_addrs(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    bool off;
    char text[128];
    if (!conf_kind_list_begin(x, e, dst, &off))
        return off;
    for (size_t i = 0; i < e->nword; i++) {
        struct conf_address a = {.pos = conf_load_word_pos(e, &e->word[i])};
        if (!conf_kind_address(x, e, &e->word[i], e->word[i].text, &a.addr))
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
const struct conf_kind conf_kind_addrs = {"address ...", sizeof(struct conf_addrs), true,
                                          parse_addrs,   conf_kind_list_count,      item_addrs};

static bool parse_proxyp(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    struct conf_proxy_protocol p = {0};
    struct slice w = e->word[0].text;
    if (slice_eq(w, SLICE("from"))) {
        p.mode = CONF_PROXYP_FROM;
        if (e->nword == 1)
            return conf_kind_bad(x, e, &e->word[0], "needs address ranges behind it");
        if (!add_cidrs(x, e, 1, &p.from, true))
            return false;
    } else {
        if (!conf_kind_one(x, e))
            return false;
        if (!slice_eq(w, SLICE("on")) && !slice_eq(w, SLICE("off")))
            return conf_kind_bad(x, e, &e->word[0], "is not off, on or from CIDR ...");
        p.mode = slice_eq(w, SLICE("on")) ? CONF_PROXYP_ON : CONF_PROXYP_OFF;
    }
    memcpy(dst, &p, sizeof p);
    return true;
}
size_t conf_kind_count_one(const void *v)
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
const struct conf_kind conf_kind_proxyp = {"off | on | from cidr ...",
                                           sizeof(struct conf_proxy_protocol),
                                           false,
                                           parse_proxyp,
                                           conf_kind_count_one,
                                           item_proxyp};

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
            return conf_kind_bad(x, e, &e->word[0], "is not a number from 0 to 20, or off");
        r.tries = (uint32_t)n;
        if (e->nword > 1 && (!slice_eq(e->word[1].text, SLICE("on")) || e->nword == 2))
            return conf_kind_bad(
                x, e, &e->word[1],
                "should be \"on\" with one or more of connect, reused, reset, 502, 503, 504 "
                "behind it");
        if (e->nword > 2)
            r.on = 0;
        for (size_t i = 2; i < e->nword; i++) {
            size_t k = 0;
            while (k < RETRY_WORDS && !slice_eq(e->word[i].text, slice_str(retry_words[k].word)))
                k++;
            if (k == RETRY_WORDS)
                return conf_kind_bad(x, e, &e->word[i],
                                     "is not connect, reused, reset, 502, 503 or 504");
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
const struct conf_kind conf_kind_retry = {"number [on condition ...] | off",
                                          sizeof(struct conf_retry),
                                          false,
                                          parse_retry,
                                          conf_kind_count_one,
                                          item_retry};

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
            return conf_kind_bad(x, e, &e->word[0], "is not a list of statuses (404,410 or 5xx)");
        } else if (p->nstatus == sizeof p->status / sizeof p->status[0]) {
            return conf_kind_bad(x, e, &e->word[0], "has more than 16 statuses; use another line");
        } else {
            p->status[p->nstatus++] = (uint16_t)v;
        }
    }
    if (p->nstatus == 0 && !p->class4 && !p->class5)
        return conf_kind_bad(x, e, &e->word[0], "is not a list of statuses (404,410 or 5xx)");
    return true;
}

static bool parse_errpage(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    struct conf_error_page p = {.type = SLICE("text/plain")};
    bool off;
    if (!conf_kind_list_begin(x, e, dst, &off))
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
const struct conf_kind conf_kind_errpage = {"status[,status] file",
                                            sizeof(struct conf_error_pages),
                                            true,
                                            parse_errpage,
                                            conf_kind_list_count,
                                            item_errpage};
