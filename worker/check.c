/* What can be asked of a configuration without serving: deep checks, explanations, features; see
 * worker.h. */
#include "base/err.h"
#include "worker/cache/cache.h"
#include "worker/filter/codec.h"
#include "worker/http/h2.h"
#include "worker/http/uri.h"
#include "worker/io/tls.h"
#include "worker/log/access.h"
#include "worker/stream/match.h"
#include "worker/stream/route.h"
#include "worker/upstream/resolver.h"
#include "worker/worker.h"

#include <stdio.h>
#include <string.h>

/* Whether this `key` or `cache_key` stood in one before the i-th, as it does where it is inherited.
 */
static bool check_told(const struct config *c, size_t i)
{
    const struct conf_pos *at = &c->caching[i]->key_pos;
    for (size_t k = 0; k < i; k++) {
        const struct conf_caching *o = c->caching[k];
        if (o->cache && o->key_pos.file == at->file && o->key_pos.line == at->line)
            return true;
    }
    return false;
}

/* What tells answers apart, wherever it is said. */
static int check_keys(const struct config *c, struct conf_diags *d)
{
    struct arena a;
    struct key_template t;
    int rc = 0;
    arena_init(&a, NULL, 0, 0);
    for (size_t i = 0; i < c->ncaching; i++) {
        const struct conf_caching *o = c->caching[i];
        const struct slice key = o->k.key;
        size_t at = 0;
        bool path = !o->cache;
        int e = o->cache ? key_template_parse(key, &a, &t, &at) : 0;
        for (unsigned k = 0; o->cache && e == 0 && k < t.n; k++)
            path |= t.part[k].kind == KEY_PATH;
        rc = e < 0 ? e : rc;
        if (e == -ERR_NOMEM || (e == 0 && path) || check_told(c, i))
            continue;
        if (e < 0)
            conf_diag_add(d, CONF_ERROR, o->key_pos, NULL,
                          "key of [cache " SLICE_FMT "]: %s at \"" SLICE_FMT "\"",
                          SLICE_ARG(o->cache->name),
                          e == -ERR_FULL ? "it has too many parts, from here on,"
                                         : "no such variable, or no end of one,",
                          SLICE_ARG(slice_of(key.p + at, key.n - at)));
        else
            conf_diag_add(d, CONF_WARNING, o->key_pos, NULL,
                          "key of [cache " SLICE_FMT
                          "] lacks %%{path}: all paths of a host get one answer",
                          SLICE_ARG(o->cache->name));
    }
    arena_fini(&a);
    return rc;
}

/* A name of a host in a handshake: of a wildcard one that it is for. SLICE_NONE: an address, or an
 * expression, of which nobody knows what it is for. */
static struct slice check_sni(const struct conf_name *n, char out[256])
{
    union addr address;
    if (n->kind == CONF_NAME_EXACT && !slice_starts(n->text, SLICE("[")) &&
        addr_parse_ip(n->text, &address) < 0)
        return n->text;
    if (n->kind != CONF_NAME_WILDCARD || n->text.n > 254)
        return SLICE_NONE;
    out[0] = 'x'; /* the text begins with the dot */
    memcpy(out + 1, n->text.p, n->text.n);
    return slice_of(out, n->text.n + 1);
}

/* Browsers that ask for such a host get another one's certificate, or none. */
static void check_certificate(const struct conf_host *h, const struct conf_listen *l,
                              const struct tls_server *s, struct conf_diags *d)
{
    const struct conf_name *first = NULL;
    size_t lack = 0;
    char sni[256], more[32] = "";
    for (size_t i = 0; i < h->k.names.n; i++) {
        struct slice name = check_sni(&h->k.names.v[i], sni);
        if (!name.p || tls_server_has(s, name))
            continue;
        first = first ? first : &h->k.names.v[i];
        lack++;
    }
    if (lack == 0)
        return;
    if (lack > 1)
        snprintf(more, sizeof more, " and %zu more", lack - 1);
    conf_diag_add(d, CONF_WARNING, h->pos, NULL,
                  "there is no certificate for %s" SLICE_FMT "%s on [listen " SLICE_FMT "]",
                  first->kind == CONF_NAME_WILDCARD ? "*" : "", SLICE_ARG(first->text), more,
                  SLICE_ARG(l->name));
}

static void check_certificates(const struct config *c, struct tls *t, struct conf_diags *d)
{
    for (size_t i = 0; t && i < c->nlisten; i++) {
        const struct tls_server *s =
            c->listen[i]->k.tls ? tls_server_of(t, c->listen[i]->id) : NULL;
        for (size_t j = 0; s && j < c->nhost; j++) {
            if (conf_host_on(c->host[j], c->listen[i]))
                check_certificate(c->host[j], c->listen[i], s, d);
        }
    }
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
    if (g == 0)
        check_certificates(c, tls, d);
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
    struct slice query; /* without "?"; .p NULL: none */
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
    if (q >= 0)
        ret->query = slice_of(target.p + q + 1, target.n - (size_t)q - 1);
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

/* The key of the request, which is without fields here, and the rules for its answer. */
static void explain_cache(const struct config *c, const struct explain_url *u,
                          const struct route_query *q, const struct conf_route *r, struct arena *a,
                          struct buf *out)
{
    const struct conf_caching *o = r->caching;
    struct key_template t;
    size_t at;
    if (!o->cache)
        return;
    buf_printf(out, "cache      %.*s (%s:%u)\n", SLICE_ARG(o->cache->name), o->cache->pos.file,
               o->cache->pos.line);
    const struct http_request req = {.method = http_method_of(q->method),
                                     .method_text = q->method,
                                     .path = u->path,
                                     .query = u->query,
                                     .has_query = u->query.p != NULL,
                                     .port = u->port};
    const struct key_rules rules = {.ignore_query = o->k.ignore_query.v,
                                    .nignore_query = o->k.ignore_query.n,
                                    .sort_query = o->k.sort_query};
    const bool tls = u->tls || (!u->plain && q->listen && q->listen->k.tls);
    const struct key_input in = {
        .scheme = tls ? SLICE("https") : SLICE("http"), .req = &req, .host = q->host};
    struct head_out text = {.p = arena_bytes(a, CACHE_KEY_MAX), .cap = CACHE_KEY_MAX};
    if (text.p && key_template_parse(o->k.key, a, &t, &at) == 0 &&
        key_build(&t, &rules, &in, &text) == 0)
        buf_printf(out, "  key      %.*s\n", SLICE_ARG(key_shown(&t, slice_of(text.p, text.n))));
    config_print_caching(c, r, out);
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
    if (found == 0 && r->upstream)
        explain_cache(c, &u, &q, r, &a, out);
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
