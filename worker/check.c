/* What can be asked of a configuration without serving: deep checks, explanations, features; see
 * worker.h. */
#include "base/err.h"
#include "worker/http/uri.h"
#include "worker/io/tls.h"
#include "worker/log/access.h"
#include "worker/stream/match.h"
#include "worker/stream/route.h"
#include "worker/upstream/resolver.h"
#include "worker/worker.h"

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
    return e < 0 ? e : f < 0 ? f : g;
}

/* "http://host:port/path?query" or "host/path" or "/path" -> host and path. */
static int explain_split(struct slice url, struct slice *ret_host, struct slice *ret_path)
{
    if (slice_starts(url, SLICE("http://")))
        url = slice_of(url.p + 7, url.n - 7);
    else if (slice_starts(url, SLICE("https://")))
        url = slice_of(url.p + 8, url.n - 8);
    ptrdiff_t slash = slice_chr(url, '/');
    struct slice authority = slash < 0 ? url : slice_of(url.p, (size_t)slash);
    struct slice target = slash < 0 ? SLICE("/") : slice_of(url.p + slash, url.n - (size_t)slash);
    ptrdiff_t q = slice_chr(target, '?');
    *ret_path = q < 0 ? target : slice_of(target.p, (size_t)q);
    *ret_host = SLICE_NONE;
    uint16_t port;
    return authority.n ? uri_authority(authority, ret_host, &port) : 0;
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
    struct slice h, path, allow, norm = SLICE_NONE;
    arena_init(&a, NULL, 0, 0);
    conf_diags_init(&d);
    int e = route_table_new(c, &d, &t), n = -ERR_BAD_TARGET;
    if (e == 0)
        e = explain_split(url, &h, &path);
    if (e == 0)
        n = h.n ? uri_host_lower(h, host, sizeof host) : 0;
    if (e == 0 && n >= 0)
        e = uri_normalize(path, &a, &norm);
    if (e < 0 || n < 0) {
        buf_printf(out, "refused    %s\n", err_text(e < 0 ? e : n));
        goto done;
    }
    const struct conf_route *r = NULL;
    struct route_query q = {.listen = c->nlisten ? c->listen[0] : NULL,
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
    if (route_find(t, &q, &r, &allow) == 0 && r->upstream)
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
}
