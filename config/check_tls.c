/* Checks across sections that concern TLS and HTTP/2: who serves TLS with which certificates, keys
 * that need another one, protocols of servers. */
#include "config/load.h"

/* The certificate at i of those that a listener chooses from, or NULL at the end. */
static const struct conf_certificate *certificate_at(const struct config *c,
                                                     const struct conf_listen *l, size_t i)
{
    const struct conf_certificates *own = &l->k.certificate;
    if (own->n > 0)
        return i < own->n ? own->v[i] : NULL;
    return i < c->ncertificate ? c->certificate[i] : NULL;
}

static void check_plain(struct conf_load *x, const struct conf_listen *l)
{
    static const char *const keys[] = {"policy",        "certificate",     "client_ca",
                                       "client_verify", "session_tickets", "session_cache",
                                       "ktls"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++)
        if (conf_check_differs(x, CONF_SECT_LISTEN, keys[i], &l->k))
            conf_load_error(x, conf_check_pos(l->origin, keys[i], l->pos),
                            "%s has no meaning in [listen " SLICE_FMT "] without \"tls = on\"",
                            keys[i], SLICE_ARG(l->name));
}

/* used: by id of the certificate. */
static void check_listen(struct conf_load *x, const struct conf_listen *l, bool *used)
{
    const struct config *c = x->c;
    const struct conf_certificate *o, *first = NULL;
    if (!l->k.tls) {
        check_plain(x, l);
        return;
    }
    if (c->ncertificate == 0)
        conf_load_error(x, conf_check_pos(l->origin, "tls", l->pos),
                        "[listen " SLICE_FMT "] has tls, but there is no [certificate NAME]",
                        SLICE_ARG(l->name));
    if (l->k.client_ca.n == 0 && conf_check_differs(x, CONF_SECT_LISTEN, "client_verify", &l->k))
        conf_load_error(x, conf_check_pos(l->origin, "client_verify", l->pos),
                        "client_verify needs \"client_ca = FILE\" beside it");
    else if (l->k.client_ca.n == 0 &&
             conf_check_pos(l->origin, "client_verify", l->pos).line != l->pos.line)
        conf_load_warn(x, conf_check_pos(l->origin, "client_verify", l->pos),
                       "client_verify does nothing without \"client_ca = FILE\": no client is "
                       "asked for a certificate");
    for (size_t i = 0; (o = certificate_at(c, l, i)); i++) {
        used[o->id] = true;
        if (!o->k.default_)
            continue;
        if (first && first != o)
            conf_load_error(x, conf_check_pos(o->origin, "default_", o->pos),
                            "[certificate " SLICE_FMT "] and [certificate " SLICE_FMT
                            "] (%s:%u) are both the default of [listen " SLICE_FMT "]",
                            SLICE_ARG(o->name), SLICE_ARG(first->name), first->pos.file,
                            first->pos.line, SLICE_ARG(l->name));
        first = o;
    }
}

static void check_certificate(struct conf_load *x, const struct conf_certificate *o, bool used)
{
    const struct conf_certificate_keys *k = &o->k;
    struct conf_pos none = {0}, given = conf_check_pos(o->origin, "pair", none);
    bool refused = x->d->errors > 0 && conf_check_pos(o->origin, "directory", given).file;
    if (k->pair.n == 0 && k->directory.n == 0 && !refused)
        conf_load_error(x, o->pos,
                        "[certificate " SLICE_FMT
                        "] needs \"pair = CERT KEY\" or \"directory = PATH\"",
                        SLICE_ARG(o->name));
    else if (k->pair.n > 0 && k->directory.n > 0)
        conf_load_error(x, conf_check_pos(o->origin, "directory", o->pos),
                        "[certificate " SLICE_FMT
                        "] has both pair and directory; make two sections",
                        SLICE_ARG(o->name));
    if (k->ocsp.n > 0 && k->pair.n == 0)
        conf_load_error(x, conf_check_pos(o->origin, "ocsp", o->pos), "ocsp needs a pair");
    static const char *const of_directory[] = {"load", "max_loaded"};
    for (size_t i = 0; i < 2 && k->directory.n == 0; i++)
        if (conf_check_differs(x, CONF_SECT_CERTIFICATE, of_directory[i], k))
            conf_load_warn(x, conf_check_pos(o->origin, of_directory[i], o->pos),
                           "%s has an effect on a directory only", of_directory[i]);
    if (!used)
        conf_load_warn(x, o->pos, "no listener with tls uses [certificate " SLICE_FMT "]",
                       SLICE_ARG(o->name));
}

static bool has_tls(const struct config *c, const struct conf_host *h, bool with_client_ca)
{
    for (size_t i = 0; i < c->nlisten; i++) {
        const struct conf_listen *l = c->listen[i];
        if (l->k.tls && (!h || conf_host_on(h, l)) && (!with_client_ca || l->k.client_ca.n > 0))
            return true;
    }
    return false;
}

static void check_client_cert(struct conf_load *x, const struct conf_host *h,
                              const struct conf_scope_keys *scope, const struct conf_origin *o)
{
    struct conf_pos pos = conf_check_pos(x->c->defaults_origin, "client_cert", h->pos);
    pos = conf_check_pos(h->origin, "client_cert", pos);
    if (scope->client_cert == CONF_CCERT_REQUIRED)
        conf_load_error(x, conf_check_pos(o, "client_cert", pos),
                        "client_cert: no listener of [host " SLICE_FMT
                        "] has tls and client_ca, so nobody can show a certificate",
                        SLICE_ARG(h->name));
}

static const char hsts_text[] =
    "hsts: no listener with tls serves [host " SLICE_FMT "]; it is sent over TLS only";

static void check_host(struct conf_load *x, const struct conf_host *h)
{
    if (!has_tls(x->c, h, true)) {
        bool own = h->scope.client_cert == CONF_CCERT_REQUIRED;
        check_client_cert(x, h, &h->scope, h->origin);
        for (size_t i = 0; i < h->nroute && !own; i++)
            check_client_cert(x, h, &h->route[i]->scope, h->route[i]->origin);
    }
    if (has_tls(x->c, h, false))
        return;
    /* Only what the host or its routes say: [defaults] speaks of hosts that may have TLS. */
    struct conf_pos none = {0}, pos = conf_check_pos(h->origin, "hsts", none);
    if (h->scope.hsts.set && pos.file)
        conf_load_warn(x, pos, hsts_text, SLICE_ARG(h->name));
    for (size_t i = 0; i < h->nroute; i++) {
        pos = conf_check_pos(h->route[i]->origin, "hsts", none);
        if (h->route[i]->scope.hsts.set && pos.file)
            conf_load_warn(x, pos, hsts_text, SLICE_ARG(h->name));
    }
}

static void check_upstream(struct conf_load *x, const struct conf_upstream *u)
{
    static const char *const keys[] = {"tls_verify", "tls_ca", "tls_name", "tls_certificate",
                                       "tls_key"};
    static const char protocol[] = "protocol";
    struct conf_pos pos = conf_check_pos(u->origin, protocol, u->pos);
    size_t tls = 0;
    for (size_t i = 0; i < u->k.server.n; i++) {
        const struct conf_server *s = &u->k.server.v[i];
        tls += s->tls;
        if (u->k.protocol == CONF_UPROTO_H2 && !s->tls)
            conf_load_error(x, pos,
                            "protocol h2 needs TLS, which server " SLICE_FMT
                            " has not: write https://, or h2c for HTTP/2 without TLS",
                            SLICE_ARG(s->name));
        if (u->k.protocol == CONF_UPROTO_H2C && s->tls)
            conf_load_error(x, pos,
                            "protocol h2c is HTTP/2 without TLS, which server " SLICE_FMT
                            " has: use h2",
                            SLICE_ARG(s->name));
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0] && tls == 0 && u->k.server.n > 0; i++)
        if (conf_check_differs(x, CONF_SECT_UPSTREAM, keys[i], &u->k))
            conf_load_warn(x, conf_check_pos(u->origin, keys[i], u->pos),
                           "%s has no effect: no server of [upstream " SLICE_FMT "] is https://",
                           keys[i], SLICE_ARG(u->name));
    if (u->k.tls_key.n > 0 && u->k.tls_certificate.n == 0)
        conf_load_error(x, conf_check_pos(u->origin, "tls_key", u->pos),
                        "tls_key needs \"tls_certificate = FILE\" beside it");
    if (u->k.tls_ca.n > 0 && !u->k.tls_verify)
        conf_load_warn(x, conf_check_pos(u->origin, "tls_ca", u->pos),
                       "tls_ca has no effect with \"tls_verify = off\"");
}

void conf_check_tls(struct conf_load *x)
{
    const struct config *c = x->c;
    bool *used = ARENA_ARRAY(&x->tree, bool, c->ncertificate + 1);
    if (!used)
        return;
    for (size_t i = 0; i < c->nlisten; i++)
        check_listen(x, c->listen[i], used);
    for (size_t i = 0; i < c->ncertificate; i++)
        check_certificate(x, c->certificate[i], used[i]);
    for (size_t i = 0; i < c->nhost; i++)
        check_host(x, c->host[i]);
    for (size_t i = 0; i < c->nupstream; i++)
        check_upstream(x, c->upstream[i]);
    struct conf_pos file = {x->file[0].path, 0, 0};
    struct conf_pos hsts = conf_check_pos(c->defaults_origin, "hsts", file);
    if (c->defaults.hsts.set && !has_tls(c, NULL, false))
        conf_load_warn(x, hsts, "hsts: there is no listener with tls; it is sent over TLS only");
    if (c->global.tls_key_log.n > 0)
        conf_load_warn(x, conf_check_pos(c->global_origin, "tls_key_log", file),
                       "tls_key_log: whoever reads " SLICE_FMT
                       " can read all traffic; for debugging only",
                       SLICE_ARG(c->global.tls_key_log));
}
