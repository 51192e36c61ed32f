/* The kind of an upstream's servers: its parser and printer. */
#include "base/num.h"
#include "config/kinds_own.h"

#include <inttypes.h>

static bool tls_option(struct conf_load *x, const struct conf_entry *e, const struct conf_word *w,
                       bool is_name, struct slice value, struct conf_server *s)
{
    union addr ip;
    if (!s->tls)
        return conf_kind_bad(x, e, w, "is for servers with TLS; write https://HOST[:PORT]");
    if (!is_name) {
        s->own_tls_ca = true;
        return conf_kind_path(x, e, w, value, &s->tls_ca);
    }
    if (addr_parse_ip(value, &ip) < 0 && conf_kind_dns_problem(value))
        return conf_kind_bad(x, e, w, conf_kind_dns_problem(value));
    s->own_tls_name = true;
    s->tls_name = arena_dup(&x->c->arena, value);
    return s->tls_name.p != NULL;
}

static bool server_option(struct conf_load *x, const struct conf_entry *e,
                          const struct conf_word *w, struct conf_server *s)
{
    static const char *const known[] = {
        "weight=", "backup", "down", "max_conns=", "resolve=", "tls_name=", "tls_ca="};
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
            return conf_kind_bad(x, e, w, "is not a weight from 1 to 256");
        s->weight = (uint32_t)v;
    } else if (eq > 0 && slice_eq(name, SLICE("max_conns"))) {
        if (num_u64(value, &v) < 0 || v > 1000000)
            return conf_kind_bad(x, e, w, "is not a number from 0 to 1000000");
        s->max_conns = v;
        s->own_max_conns = true;
    } else if (eq > 0 && slice_eq(name, SLICE("resolve"))) {
        if (num_duration(value, &v) < 0 || v < 1000 || v > 86400000)
            return conf_kind_bad(x, e, w, "is not a duration from 1s to 1d");
        s->resolve_ms = v;
    } else if (eq > 0 && (slice_eq(name, SLICE("tls_name")) || slice_eq(name, SLICE("tls_ca")))) {
        return tls_option(x, e, w, slice_eq(name, SLICE("tls_name")), value, s);
    } else {
        conf_near_init(&near, name);
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
            conf_near_try(&near, slice_str(known[i]));
        buf_clear(&x->scratch);
        buf_str(
            &x->scratch,
            "is not an option of a server (weight=N, backup, down, max_conns=N, resolve=DURATION, "
            "tls_name=NAME, tls_ca=FILE)");
        if (near.best.p)
            buf_printf(&x->scratch, "; did you mean \"" SLICE_FMT "\"?", SLICE_ARG(near.best));
        buf_chr(&x->scratch, 0);
        return conf_kind_bad(x, e, w,
                             x->scratch.failed ? "is not an option of a server" : x->scratch.p);
    }
    return true;
}

/* Takes the scheme off the text and gives a URL without a port its default one: HOST:PORT or
 * unix:/PATH. SLICE_NONE: no memory, or reported. */
static struct slice server_name(struct conf_load *x, const struct conf_entry *e,
                                struct conf_server *s)
{
    const struct conf_word *w = &e->word[0];
    struct slice name = w->text;
    s->tls = slice_starts(name, SLICE("https://"));
    bool url = s->tls || slice_starts(name, SLICE("http://"));
    if (!url)
        return name;
    size_t scheme = s->tls ? 8 : 7;
    name = slice_of(name.p + scheme, name.n - scheme);
    if (slice_chr(name, '/') >= 0 || name.n == 0) {
        (void)conf_kind_bad(x, e, w,
                            name.n ? "has a path; write it as https://HOST or https://HOST:PORT"
                                   : "lacks a host");
        return SLICE_NONE;
    }
    /* A port behind the last colon, which an IPv6 address has inside of its brackets. */
    const char *colon = memrchr(name.p, ':', name.n);
    bool port = colon && !memchr(colon, ']', name.n - (size_t)(colon - name.p));
    return port ? name
                : arena_printf(&x->c->arena, SLICE_FMT ":%d", SLICE_ARG(name), s->tls ? 443 : 80);
}

static bool server_address(struct conf_load *x, const struct conf_entry *e, struct conf_server *s)
{
    const struct conf_word *w = &e->word[0];
    struct slice name = server_name(x, e, s), host;
    if (!name.p)
        return false;
    if (slice_chr(name, '/') >= 0 && !slice_starts(name, SLICE("unix:")))
        return conf_kind_bad(x, e, w, "is not HOST:PORT, https://HOST[:PORT] or unix:/PATH");
    s->name = name;
    s->host = s->tls_name = s->tls_ca = SLICE("");
    if (slice_starts(name, SLICE("unix:"))) {
        s->literal = true;
        return conf_kind_address(x, e, w, name, &s->addr);
    }
    if (addr_split(name, &host, &s->port) < 0 || s->port == 0)
        return conf_kind_bad(x, e, w,
                             slice_chr(name, ':') < 0
                                 ? "lacks a port (HOST:PORT)"
                                 : "is not HOST:PORT, [IPV6]:PORT or unix:/PATH");
    if (host.n > 2 && host.p[0] == '[')
        host = slice_of(host.p + 1, host.n - 2);
    s->host = arena_dup(&x->c->arena, host);
    bool dot = host.n > 1 && host.p[host.n - 1] == '.';
    struct slice bare = slice_of(host.p, host.n - dot);
    if (s->tls)
        s->tls_name = arena_dup(&x->c->arena, bare);
    if (!s->host.p || !s->tls_name.p)
        return false;
    union addr ip;
    if (addr_parse_ip(host, &ip) == 0) {
        s->literal = true;
        return conf_kind_address(x, e, w, name, &s->addr);
    }
    const char *problem = conf_kind_dns_problem(bare);
    if (!problem && host.p[host.n - 1] >= '0' && host.p[host.n - 1] <= '9' &&
        strspn(s->host.p, "0123456789.") == host.n)
        problem = "is not an IPv4 address";
    return problem ? conf_kind_bad(x, e, w, problem) : true;
}

static bool parse_servers(struct conf_load *x, const struct conf_entry *e, void *dst)
{
    struct conf_server s = {.weight = 1, .pos = conf_load_word_pos(e, &e->word[0])}, *own;
    bool off;
    if (!conf_kind_list_begin(x, e, dst, &off))
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
/* The quote of an option's value stands behind its `=`. */
static void put_option(struct buf *out, const char *name, struct slice value)
{
    buf_printf(out, " %s", name);
    conf_words_put(out, value);
}
static void item_servers(const void *v, size_t i, struct buf *out)
{
    const struct conf_server *s = &((const struct conf_servers *)v)->v[i];
    char text[32];
    conf_kind_put_marked(out, s->tls ? "https://" : "", s->name, "");
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
    if (s->own_tls_name)
        put_option(out, "tls_name=", s->tls_name);
    if (s->own_tls_ca)
        put_option(out, "tls_ca=", s->tls_ca);
}
const struct conf_kind conf_kind_servers = {
    "server [option ...]", sizeof(struct conf_servers), true,
    parse_servers,         conf_kind_list_count,        item_servers};
