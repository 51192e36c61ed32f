/* The quick start: `proxy = URL` and `listen = ADDRESS` before any section, and the same from the
 * command line. */
#include "base/err.h"
#include "config/load.h"

#define QUICK_LISTEN "127.0.0.1:8080"

/* "http://HOST[:PORT][/]", HOST:PORT or unix:/PATH to what `server =` takes. NULL, or what is
 * wrong. */
static const char *target(struct slice url, struct buf *out)
{
    if (slice_starts(url, SLICE("https://")))
        return "https:// needs TLS to servers, which this version does not have; use http://";
    bool http = slice_starts(url, SLICE("http://"));
    struct slice rest = http ? slice_of(url.p + 7, url.n - 7) : url;
    if (!http && slice_starts(url, SLICE("unix:"))) {
        buf_add(out, url);
        return NULL;
    }
    ptrdiff_t slash = slice_chr(rest, '/');
    if (slash >= 0 && (!http || (size_t)slash + 1 != rest.n))
        return http ? "the URL may not have a path; write http://HOST:PORT"
                    : "is not http://HOST:PORT, HOST:PORT or unix:/PATH";
    if (slash >= 0)
        rest.n--;
    if (rest.n == 0)
        return "the host is missing; write http://HOST:PORT";
    buf_add(out, rest);
    /* A port behind the last colon, which an IPv6 address has inside of its brackets. */
    const char *colon = memrchr(rest.p, ':', rest.n);
    if (http && (!colon || memchr(colon, ']', rest.n - (size_t)(colon - rest.p))))
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

int config_quick(struct slice from, struct slice to, struct buf *out)
{
    struct buf server;
    buf_init(&server, 0);
    const char *problem = to.n ? target(to, &server) : "the URL is missing; write http://HOST:PORT";
    if (problem) {
        buf_str(out, problem);
        buf_fini(&server);
        return -ERR_INVAL;
    }
    buf_str(out, "[listen main]\naddress = ");
    conf_words_put(out, from.n ? from : SLICE(QUICK_LISTEN));
    buf_str(out, "\n\n[upstream app]\nserver = ");
    conf_words_put(out, buf_slice(&server));
    buf_str(out, "\n\n[host app]\nnames = *\nupstream = app\nmax_body = 0\n");
    bool failed = out->failed || server.failed;
    buf_fini(&server);
    return failed ? -ERR_NOMEM : 0;
}
