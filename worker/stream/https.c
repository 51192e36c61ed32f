/* TLS as an exchange sees it; see https.h. */
#include "worker/stream/https.h"

#include "base/err.h"
#include "worker/http/uri.h"
#include "worker/io/tls.h"
#include "worker/stream/synth.h"

#include <stdlib.h>

#define HTTPS_NONE UINT32_MAX

int https_init(struct stream_env *e)
{
    const struct config *c = e->config;
    e->https_listen = calloc(c->nhost ? c->nhost : 1, sizeof *e->https_listen);
    if (!e->https_listen)
        return -ERR_NOMEM;
    for (size_t i = 0; i < c->nhost; i++) {
        uint32_t *l = &e->https_listen[c->host[i]->id];
        *l = HTTPS_NONE;
        for (size_t j = 0; j < c->nlisten && *l == HTTPS_NONE; j++)
            if (c->listen[j]->k.tls && conf_host_on(c->host[i], c->listen[j]))
                *l = c->listen[j]->id;
    }
    return 0;
}

void https_fini(struct stream_env *e)
{
    free(e->https_listen);
    e->https_listen = NULL;
}

/* A trusted proxy in front of us took TLS off already. */
static bool https_elsewhere(const struct stream *s)
{
    for (size_t i = 0; s->peer->trusted && i < s->req.nfield; i++)
        if (s->req.field[i].id == FIELD_X_FORWARDED_PROTO)
            return slice_eq_ci(s->req.field[i].value, SLICE("https"));
    return false;
}

static bool https_has_certificate(const struct stream *s, uint32_t listen)
{
    char host[256];
    int n = uri_host_lower(s->req.host, host, sizeof host);
    return n > 0 && tls_server_has(tls_server_of(s->env->tls, listen), slice_of(host, (size_t)n));
}

/* The port of the first address that has one. */
static uint16_t https_port(const struct conf_listen *l)
{
    for (size_t i = 0; i < l->k.address.n; i++) {
        uint16_t port = addr_port(&l->k.address.v[i].addr.u.sa);
        if (port)
            return port;
    }
    return 443;
}

static int https_location(struct stream *s, unsigned status, uint16_t port, struct slice *ret)
{
    const struct conf_return r = {
        .status = (uint16_t)status, .text = SLICE("https://%{host}%{uri}"), .is_url = true};
    struct slice body, type;
    struct synth_request q = {.host = s->req.host,
                              .path = s->req.path,
                              .query = s->req.query,
                              .has_query = s->req.has_query,
                              .scheme = SLICE("https")};
    if (port != 443)
        q.host = arena_printf(&s->arena, "%.*s:%u", SLICE_ARG(s->req.host), port);
    int e = synth_return(&s->arena, &r, &q, ret, &body, &type);
    return e < 0 ? e : (int)status;
}

static unsigned https_status(enum conf_hredir mode)
{
    switch (mode) {
    case CONF_HREDIR_301:
        return 301;
    case CONF_HREDIR_302:
        return 302;
    case CONF_HREDIR_307:
        return 307;
    case CONF_HREDIR_AUTO:
    case CONF_HREDIR_308:
        return 308;
    case CONF_HREDIR_OFF:
        break;
    }
    return 0;
}

int https_redirect(struct stream *s, struct slice *ret_location)
{
    const struct stream_peer *p = s->peer;
    enum conf_hredir mode = p->listen->k.https_redirect;
    unsigned status = https_status(mode);
    bool named = s->req.host.n && s->req.form != HTTP_TARGET_ASTERISK;
    if (p->plain_on_tls)
        return status && named ? https_location(s, status, p->listen_port, ret_location)
                               : -ERR_TLS_PLAIN;
    if (p->listen->k.tls || !status || !named ||
        slice_starts(s->req.path, SLICE("/.well-known/acme-challenge/")))
        return 0;
    uint32_t to =
        s->route && s->route->host ? s->env->https_listen[s->route->host->id] : HTTPS_NONE;
    if (mode == CONF_HREDIR_AUTO && (to == HTTPS_NONE || !https_has_certificate(s, to)))
        return 0;
    if (https_elsewhere(s))
        return 0;
    uint16_t port = to == HTTPS_NONE ? 443 : https_port(s->env->config->listen[to]);
    return https_location(s, status, port, ret_location);
}

int https_check(const struct stream *s)
{
    return s->scope->client_cert == CONF_CCERT_REQUIRED && !tls_client_verified(s->peer->link)
               ? -ERR_CLIENT_CERT
               : 0;
}

struct slice https_hsts(struct stream *s)
{
    if (!s->scope || !s->scope->hsts.set || !s->peer->link->tls)
        return SLICE_NONE;
    const struct conf_hsts *h = &s->scope->hsts;
    return arena_printf(&s->arena, "max-age=%llu%s%s", (unsigned long long)h->max_age_s,
                        h->include_subdomains ? "; includeSubDomains" : "",
                        h->preload ? "; preload" : "");
}

void https_forward(struct stream *s, struct forward_request *f)
{
    struct tls_info t;
    if (!s->scope->client_cert_headers)
        return;
    f->cert.verify = SLICE("none");
    if (!tls_describe(s->peer->link, &t) || !t.verify.n)
        return;
    f->cert.verify = t.verify;
    if (!tls_client_verified(s->peer->link)) /* whom it names has not been proved: a server that
                                                looks at the name alone must not be fooled */
        return;
    f->cert.subject = t.subject;
    f->cert.fingerprint = t.fingerprint;
    f->cert.der = tls_client_der(s->peer->link, &s->arena);
}
