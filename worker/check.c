/* What can be asked of a configuration without serving: deep checks, explanations, features; see
 * worker.h. */
#include "base/err.h"
#include "worker/cache/key.h"
#include "worker/filter/codec.h"
#include "worker/http/h2.h"
#include "worker/http/uri.h"
#include "worker/io/tls.h"
#include "worker/log/access.h"
#include "worker/stream/match.h"
#include "worker/stream/route.h"
#include "worker/upstream/resolver.h"
#include "worker/worker.h"

/* What tells answers apart, of each cache. */
static int check_keys(const struct config *c, struct conf_diags *d)
{
    struct arena a;
    struct key_template t;
    int rc = 0;
    arena_init(&a, NULL, 0, 0);
    for (size_t i = 0; i < c->ncache; i++) {
        const struct conf_cache *o = c->cache[i];
        size_t at = 0;
        bool path = false;
        int e = key_template_parse(o->k.key, &a, &t, &at);
        if (e < 0 && e != -ERR_NOMEM)
            conf_diag_add(d, CONF_ERROR, o->pos, NULL,
                          "key of [cache " SLICE_FMT "]: %s at \"" SLICE_FMT "\"",
                          SLICE_ARG(o->name),
                          e == -ERR_FULL ? "it has too many parts, from here on,"
                                         : "no such variable, or no end of one,",
                          SLICE_ARG(slice_of(o->k.key.p + at, o->k.key.n - at)));
        for (unsigned k = 0; e == 0 && k < t.n; k++)
            path |= t.part[k].kind == KEY_PATH;
        if (e == 0 && !path)
            conf_diag_add(d, CONF_WARNING, o->pos, NULL,
                          "key of [cache " SLICE_FMT
                          "] lacks %%{path}: all paths of a host get one answer",
                          SLICE_ARG(o->name));
        rc = e < 0 ? e : rc;
    }
    arena_fini(&a);
    return rc;
}

int worker_check(const struct config *c, struct conf_diags *d)
{
    struct route_table *t = NULL;
    struct access_logs *l = NULL;
    int e = route_table_new(c, d, &t);
    int f = access_logs_new(c, d, NULL, &l);
    const struct tls_env env = {.config = c};
    struct tls *tls = NULL;
    int g = tls_new(&env, true, d, &tls);
    route_table_free(&t);
    access_logs_free(&l);
    tls_free(&tls);
    int h = check_keys(c, d);
    return e < 0 ? e : f < 0 ? f : g < 0 ? g : h;
}

struct explain_url {
    bool tls, plain; /* the scheme; neither when there is none */
    uint16_t port;   /* 0 = the scheme's */
    struct slice host, path;
};

/* "http://host:port/path?query" or "host/path" or "/path". */
static int explain_split(struct slice url, struct explain_url *ret)
{
    *ret = (struct explain_url){.plain = slice_starts(url, SLICE("http://")),
                                .tls = slice_starts(url, SLICE("https://"))};
    const size_t scheme = ret->plain ? 7 : ret->tls ? 8 : 0;
    url = slice_of(url.p + scheme, url.n - scheme);
    ptrdiff_t slash = slice_chr(url, '/');
    struct slice authority = slash < 0 ? url : slice_of(url.p, (size_t)slash);
    struct slice target = slash < 0 ? SLICE("/") : slice_of(url.p + slash, url.n - (size_t)slash);
    ptrdiff_t q = slice_chr(target, '?');
    ret->path = q < 0 ? target : slice_of(target.p, (size_t)q);
    return authority.n ? uri_authority(authority, &ret->host, &ret->port) : 0;
}

static bool explain_accepts(const struct conf_listen *l, uint16_t port)
{
    for (size_t i = 0; i < l->k.address.n; i++)
        if (addr_port(&l->k.address.v[i].addr.u.sa) == port)
            return true;
    return false;
}

/* The listener that a client with this URL reaches: by its port, else (the ports of an example need
 * not be those of the world) the first that speaks as the scheme wants it, else the first. */
static const struct conf_listen *explain_listen(const struct config *c, const struct explain_url *u,
                                                struct buf *out)
{
    const struct conf_listen *like = NULL;
    const uint16_t port = u->port ? u->port : u->tls ? 443 : 80;
    for (size_t i = 0; i < c->nlisten; i++) {
        const struct conf_listen *l = c->listen[i];
        if ((u->tls && !l->k.tls) || (u->plain && l->k.tls))
            continue;
        if (explain_accepts(l, port))
            return l;
        like = like ? like : l;
    }
    if (!like && c->nlisten > 0)
        buf_printf(out, "note       no listener speaks %s\n", u->tls ? "TLS" : "without TLS");
    else if (like && u->port)
        buf_printf(out, "note       no listener accepts %s on port %u\n",
                   u->tls     ? "TLS"
                   : u->plain ? "plain HTTP"
                              : "anything",
                   u->port);
    return like ? like : c->nlisten ? c->listen[0] : NULL;
}

/* What comes before the route's own answer. */
static void explain_tls(const struct conf_listen *l, const struct conf_route *r, struct buf *out)
{
    const enum conf_hredir mode = l ? l->k.https_redirect : CONF_HREDIR_OFF;
    if (l && !l->k.tls && mode != CONF_HREDIR_OFF)
        buf_printf(out, "redirect   %u to https%s (https_redirect)\n",
                   mode == CONF_HREDIR_AUTO ? 308 : (unsigned)mode,
                   mode == CONF_HREDIR_AUTO
                       ? " where a listener with tls serves the host and has a certificate for it"
                       : "");
    if (r && r->scope.client_cert == CONF_CCERT_REQUIRED)
        buf_str(out, "needs      a verified client certificate, else 403 (client_cert)\n");
}

static void explain_upstream(const struct conf_upstream *u, struct buf *out)
{
    static const char *const names[] = {"random_two", "round_robin", "least_conn", "ip_hash"};
    buf_printf(out, "upstream   %.*s (%s:%u), balance %s\n", SLICE_ARG(u->name), u->pos.file,
               u->pos.line, names[(unsigned)u->k.balance & 3]);
    for (size_t i = 0; i < u->k.server.n; i++) {
        const struct conf_server *s = &u->k.server.v[i];
        buf_printf(out, "  server   %.*s weight=%u%s%s\n", SLICE_ARG(s->name), s->weight,
                   s->backup ? " backup" : "", s->down ? " down" : "");
    }
}

int worker_explain(const struct config *c, struct slice method, struct slice url, struct slice from,
                   struct buf *out)
{
    struct conf_diags d;
    struct route_table *t = NULL;
    struct arena a;
    char host[256];
    struct slice allow, norm = SLICE_NONE;
    struct explain_url u;
    arena_init(&a, NULL, 0, 0);
    conf_diags_init(&d);
    int e = route_table_new(c, &d, &t), n = -ERR_BAD_TARGET;
    if (e == 0)
        e = explain_split(url, &u);
    if (e == 0)
        n = u.host.n ? uri_host_lower(u.host, host, sizeof host) : 0;
    if (e == 0 && n >= 0)
        e = uri_normalize(u.path, &a, &norm);
    if (e < 0 || n < 0) {
        buf_printf(out, "refused    %s\n", err_text(e < 0 ? e : n));
        goto done;
    }
    const struct conf_route *r = NULL;
    struct route_query q = {.listen = explain_listen(c, &u, out),
                            .host = slice_of(host, (size_t)n),
                            .path = norm,
                            .method = method};
    if (from.n) {
        union addr addr;
        bool known = addr_parse_ip(from, &addr) == 0;
        const struct conf_cidrs *tp = &c->global.trusted_proxies;
        buf_printf(out, "client     %.*s%s\n", SLICE_ARG(from),
                   !known                                   ? " (not an address)"
                   : cidr_match_any(tp->v, tp->n, &addr.sa) ? " (a trusted proxy)"
                                                            : "");
    }
    route_explain(t, &q, out);
    const int found = route_find(t, &q, &r, &allow);
    if (found == 0)
        explain_tls(q.listen, r, out);
    if (found == 0 && r->upstream)
        explain_upstream(r->upstream, out);
done:
    route_table_free(&t);
    conf_diags_fini(&d);
    arena_fini(&a);
    return e < 0 ? e : 0;
}

void worker_features(struct buf *out)
{
    buf_printf(out, "pcre2 %s\n", match_version());
    buf_printf(out, "c-ares %s\n", resolver_library());
    buf_printf(out, "%s\n", tls_library());
    buf_printf(out, "%s\n", h2_library());
    for (unsigned c = 0; c < CONF_CODING__COUNT; c++) {
        char text[64];
        if (!codec_of((enum conf_coding)c))
            continue;
        codec_of((enum conf_coding)c)->version(text, sizeof text);
        buf_printf(out, "%s\n", text);
    }
}
