/* The quick start: `proxy = URL` and `listen = ADDRESS` before any section, and the same from the
 * command line. */
#include "base/err.h"
#include "config/load.h"

#define QUICK_LISTEN "127.0.0.1:8080"

/* "http[s]://HOST[:PORT][/]", HOST:PORT or unix:/PATH to what `server =` takes. NULL, or what is
 * wrong. */
static const char *target(struct slice url, struct buf *out)
{
    bool https = slice_starts(url, SLICE("https://"));
    bool http = https || slice_starts(url, SLICE("http://"));
    size_t scheme = https ? 8 : http ? 7 : 0;
    struct slice rest = slice_of(url.p + scheme, url.n - scheme);
    if (!http && slice_starts(url, SLICE("unix:"))) {
        buf_add(out, url);
        return NULL;
    }
    ptrdiff_t slash = slice_chr(rest, '/');
    if (slash >= 0 && (!http || (size_t)slash + 1 != rest.n))
        return http ? "the URL may not have a path; write http://HOST:PORT"
                    : "is not http://HOST:PORT, https://HOST, HOST:PORT or unix:/PATH";
    if (slash >= 0)
        rest.n--;
    if (rest.n == 0)
        return "the host is missing; write http://HOST:PORT";
    if (https)
        buf_str(out, "https://");
    buf_add(out, rest);
    /* A port behind the last colon, which an IPv6 address has inside of its brackets. */
    const char *colon = memrchr(rest.p, ':', rest.n);
    if (http && !https && (!colon || memchr(colon, ']', rest.n - (size_t)(colon - rest.p))))
        buf_str(out, ":80");
    return NULL;
}

static struct conf_entry word_entry(const struct conf_entry *from, struct conf_word *word,
                                    struct slice text)
{
    *word = (struct conf_word){.text = text, .line = from->value_line, .col = from->value_col};
    struct conf_entry e = *from;
    e.word = word;
    e.nword = 1;
    return e;
}

static bool put(struct conf_load *x, struct conf_section *s, const char *key,
                const struct conf_entry *from, struct slice text)
{
    struct conf_word *w = ARENA_NEW(&x->tree, struct conf_word);
    if (!s || !w || !text.p)
        return false;
    struct conf_entry e = word_entry(from, w, text);
    return conf_tree_entry(x, s, key, &e) != NULL;
}

/* One's own application on one's own machine may be sent anything; whoever writes [defaults] has
 * begun to decide. */
static bool quick_has_defaults(const struct conf_load *x)
{
    for (const struct conf_section *s = x->sections; s; s = s->next)
        if (s->kind == CONF_SECT_DEFAULTS)
            return true;
    return false;
}

void conf_quick_build(struct conf_load *x)
{
    const struct conf_entry *proxy = x->quick_proxy, *listen = x->quick_listen;
    if (!proxy && !listen)
        return;
    for (const struct conf_section *s = x->sections; s; s = s->next) {
        if (s->kind != CONF_SECT_LISTEN && s->kind != CONF_SECT_HOST &&
            s->kind != CONF_SECT_ROUTE && s->kind != CONF_SECT_UPSTREAM)
            continue;
        conf_load_error(x, s->pos,
                        "[%s] cannot be combined with \"%s =\" before the first section (line %u)",
                        conf_sect_info(s->kind)->name, proxy ? "proxy" : "listen",
                        proxy ? proxy->pos.line : listen->pos.line);
        return;
    }
    const struct conf_entry *any = proxy ? proxy : listen;
    if (!proxy) {
        conf_load_error(x, listen->pos, "\"listen\" needs \"proxy = http://HOST:PORT\" beside it");
        return;
    }
    if (proxy->nword != 1 || (listen && listen->nword == 0) || proxy->append) {
        conf_load_error(x,
                        proxy->nword > 1 ? conf_load_word_pos(proxy, &proxy->word[1]) : proxy->pos,
                        "\"proxy\" takes one URL");
        return;
    }
    buf_clear(&x->scratch);
    const char *problem = target(proxy->word[0].text, &x->scratch);
    if (problem) {
        conf_load_error(x, conf_load_word_pos(proxy, proxy->word), "\"proxy\": %s", problem);
        return;
    }
    struct slice server = arena_dup(&x->c->arena, buf_slice(&x->scratch));
    struct conf_section *l = conf_tree_section(x, CONF_SECT_LISTEN, "main", any->pos);
    struct conf_section *u = conf_tree_section(x, CONF_SECT_UPSTREAM, "app", proxy->pos);
    struct conf_section *h = conf_tree_section(x, CONF_SECT_HOST, "app", proxy->pos);
    bool ok = put(x, u, "server", proxy, server) && put(x, h, "names", proxy, SLICE("*")) &&
              put(x, h, "upstream", proxy, SLICE("app")) &&
              (quick_has_defaults(x) || put(x, h, "max_body", proxy, SLICE("0")));
    if (ok && listen)
        ok = l && conf_tree_entry(x, l, "address", listen);
    else if (ok)
        ok = put(x, l, "address", proxy, SLICE(QUICK_LISTEN));
    if (!ok)
        x->tree.failed = true;
}

static void put_words(struct buf *out, const char *key, struct slice a, struct slice b)
{
    buf_str(out, key);
    conf_words_put(out, a);
    if (b.n) {
        buf_chr(out, ' ');
        conf_words_put(out, b);
    }
    buf_chr(out, '\n');
}

int config_quick(const struct conf_quick *q, struct buf *out)
{
    struct buf server;
    buf_init(&server, 0);
    const char *problem =
        q->to.n ? target(q->to, &server) : "the URL is missing; write http://HOST:PORT";
    if (problem)
        buf_printf(out, "--to " SLICE_FMT ": %s", SLICE_ARG(q->to), problem);
    else if ((q->tls_from.n > 0) != (q->cert.n > 0) || (q->key.n > 0 && q->cert.n == 0))
        buf_str(out, problem = "--tls-from and --cert need each other, and --key needs both");
    if (problem) {
        buf_fini(&server);
        return -ERR_INVAL;
    }
    if (q->from.n || !q->tls_from.n)
        put_words(out, "[listen main]\naddress = ", q->from.n ? q->from : SLICE(QUICK_LISTEN),
                  SLICE(""));
    if (q->tls_from.n) {
        put_words(out, "[listen tls]\ntls = on\naddress = ", q->tls_from, SLICE(""));
        put_words(out, "\n[certificate main]\ndefault = on\npair = ", q->cert, q->key);
    }
    put_words(out, "\n[upstream app]\nserver = ", buf_slice(&server), SLICE(""));
    buf_str(out, "\n[host app]\nnames = *\nupstream = app\nmax_body = 0\n");
    bool failed = out->failed || server.failed;
    buf_fini(&server);
    return failed ? -ERR_NOMEM : 0;
}
