/* Checks across sections: names and addresses that are unique, limits of the machine's tables,
 * values that contradict. */
#include "base/err.h"
#include "config/load.h"

#include <grp.h>
#include <inttypes.h>
#include <pwd.h>

struct conf_pos conf_check_pos(const struct conf_origin *o, const char *key,
                               struct conf_pos section)
{
    for (; o; o = o->next)
        if (strcmp(o->key->name, key) == 0)
            return o->pos;
    return section;
}

bool conf_check_differs(struct conf_load *x, enum conf_sect sect, const char *key,
                        const void *group)
{
    const struct conf_key *k = conf_key_find(sect, slice_str(key));
    const char *base = conf_builtin_group(x->builtin, k->group);
    return !conf_kind_equal(k, (const char *)group + k->off, base + k->off, &x->scratch);
}

static bool is_wildcard(const struct addr_any *a)
{
    static const struct in6_addr any = IN6ADDR_ANY_INIT;
    if (a->u.sa.sa_family == AF_INET)
        return a->u.in.sin_addr.s_addr == INADDR_ANY;
    return a->u.sa.sa_family == AF_INET6 && memcmp(&a->u.in6.sin6_addr, &any, sizeof any) == 0;
}

/* "family port": where a wildcard address and another one meet. */
static struct slice port_id(struct conf_load *x, const struct addr_any *a)
{
    return arena_printf(&x->tree, "%d %u", a->u.sa.sa_family, addr_port(&a->u.sa));
}

static int check_addresses(struct conf_load *x)
{
    const struct config *c = x->c;
    struct map all, wild;
    void *old;
    int k = map_init(&all, c->nlisten);
    if (k < 0)
        return k;
    k = map_init(&wild, c->nlisten);
    for (int pass = 0; pass < 2 && k == 0; pass++) {
        for (size_t i = 0; i < c->nlisten && k == 0; i++) {
            for (size_t n = 0; n < c->listen[i]->k.address.n && k == 0; n++) {
                struct conf_address *a = &c->listen[i]->k.address.v[n];
                struct slice port = port_id(x, &a->addr);
                if (!port.p) {
                    k = -ERR_NOMEM;
                } else if (pass == 0) {
                    k = map_put(&all, a->text, a, &old);
                    if (k == -ERR_EXIST) {
                        const struct conf_address *first = old;
                        conf_load_error(x, a->pos,
                                        "address " SLICE_FMT
                                        " is given twice; the first time at %s:%u",
                                        SLICE_ARG(a->text), first->pos.file, first->pos.line);
                        k = 0;
                    }
                    if (k == 0 && is_wildcard(&a->addr) &&
                        map_put(&wild, port, a, NULL) == -ERR_NOMEM)
                        k = -ERR_NOMEM;
                } else if (a->addr.u.sa.sa_family != AF_UNIX && !is_wildcard(&a->addr)) {
                    const struct conf_address *w = map_get(&wild, port);
                    if (w)
                        conf_load_warn(
                            x, a->pos,
                            SLICE_FMT " takes its part of what " SLICE_FMT " (%s:%u) would receive",
                            SLICE_ARG(a->text), SLICE_ARG(w->text), w->pos.file, w->pos.line);
                }
            }
        }
    }
    map_fini(&all);
    map_fini(&wild);
    return k;
}

struct name_owner {
    const struct conf_host *host;
    const struct conf_name *name;
};

static void report_name(struct conf_load *x, const struct conf_host *h, const struct conf_name *n,
                        const struct name_owner *o, const struct conf_listen *l)
{
    const char *mark = n->kind == CONF_NAME_EXACT ? "" : n->kind == CONF_NAME_REGEX ? "~" : "*";
    if (h == o->host)
        conf_load_error(x, n->pos, "name \"%s" SLICE_FMT "\" is given twice", mark,
                        SLICE_ARG(n->text));
    else
        conf_load_error(
            x, n->pos,
            "name \"%s" SLICE_FMT "\" belongs to [host " SLICE_FMT "] (%s:%u) already%s" SLICE_FMT,
            mark, SLICE_ARG(n->text), SLICE_ARG(o->host->name), o->name->pos.file,
            o->name->pos.line, l ? ", on listener " : "", SLICE_ARG(l ? l->name : SLICE("")));
}

/* One name on one listener (NULL: all). `all` holds names on all listeners, `some` those on one,
 * `any` those on at least one. */
struct name_maps {
    struct map all, some, any;
};

static int claim_name(struct conf_load *x, struct name_maps *m, const struct conf_host *h,
                      const struct conf_name *n, const struct conf_listen *l)
{
    struct slice id = arena_printf(&x->tree, "%d " SLICE_FMT, (int)n->kind, SLICE_ARG(n->text));
    struct slice at =
        l ? arena_printf(&x->tree, "%u %d " SLICE_FMT, l->id, (int)n->kind, SLICE_ARG(n->text))
          : id;
    struct name_owner *own = ARENA_NEW(&x->tree, struct name_owner);
    if (!id.p || !at.p || !own)
        return -ERR_NOMEM;
    *own = (struct name_owner){h, n};
    const struct name_owner *old = map_get(&m->all, id);
    if (!old)
        old = map_get(l ? &m->some : &m->any, at);
    if (old) {
        report_name(x, h, n, old, l);
        return 0;
    }
    int k = map_put(l ? &m->some : &m->all, at, own, NULL);
    if (k == 0 && l)
        k = map_put(&m->any, id, own, NULL);
    return k == -ERR_EXIST ? 0 : k;
}

static int check_names(struct conf_load *x)
{
    const struct config *c = x->c;
    struct name_maps m = {0};
    int k = map_init(&m.all, c->nhost * 2);
    if (k == 0)
        k = map_init(&m.some, c->nhost * 2);
    if (k == 0)
        k = map_init(&m.any, c->nhost * 2);
    for (size_t i = 0; i < c->nhost && k == 0; i++) {
        const struct conf_host *h = c->host[i];
        for (size_t n = 0; n < h->k.names.n && k == 0; n++) {
            size_t nl = h->k.listen.n;
            for (size_t l = 0; l < (nl ? nl : 1) && k == 0; l++)
                k = claim_name(x, &m, h, &h->k.names.v[n], nl ? h->k.listen.v[l] : NULL);
        }
    }
    map_fini(&m.all);
    map_fini(&m.some);
    map_fini(&m.any);
    return k;
}

static void check_conn(struct conf_load *x, const struct conf_conn_keys *k,
                       const struct conf_origin *o, struct conf_pos pos)
{
    if (k->max_request_line > k->max_head)
        conf_load_error(x,
                        conf_check_pos(o, "max_request_line", conf_check_pos(o, "max_head", pos)),
                        "max_request_line is larger than max_head");
    if (k->max_field > k->max_head)
        conf_load_error(x, conf_check_pos(o, "max_field", conf_check_pos(o, "max_head", pos)),
                        "max_field is larger than max_head");
}

static int check_upstreams(struct conf_load *x)
{
    const struct config *c = x->c;
    struct map seen;
    void *old;
    int k = map_init(&seen, c->nserver);
    if (k < 0)
        return k;
    for (size_t i = 0; i < c->nupstream && k == 0; i++) {
        const struct conf_upstream *u = c->upstream[i];
        size_t usable = 0;
        for (size_t n = 0; n < u->k.server.n && k == 0; n++) {
            struct conf_server *s = &u->k.server.v[n];
            struct slice id = slice_of((const char *)&s->key, sizeof s->key);
            usable += !s->down;
            k = map_put(&seen, id, s, &old);
            if (k == -ERR_EXIST) {
                const struct conf_server *first = old;
                conf_load_error(x, s->pos,
                                "server " SLICE_FMT " is given twice in [upstream " SLICE_FMT
                                "]; the first time at %s:%u",
                                SLICE_ARG(s->name), SLICE_ARG(u->name), first->pos.file,
                                first->pos.line);
                k = 0;
            }
        }
        if (usable == 0 && u->k.server.n > 0)
            conf_load_error(x, u->pos, "every server of [upstream " SLICE_FMT "] is down",
                            SLICE_ARG(u->name));
    }
    map_fini(&seen);
    return k;
}

static void check_limits(struct conf_load *x)
{
    const struct config *c = x->c;
    struct conf_pos pos = {x->file[0].path, 0, 0};
    size_t names = 0;
    for (size_t i = 0; i < c->nupstream; i++)
        for (size_t n = 0; n < c->upstream[i]->k.server.n; n++)
            names += !c->upstream[i]->k.server.v[n].literal;
    if (c->nserver > CONF_MOST_SERVERS)
        conf_load_error(x, pos, "%zu servers; %u is the limit of all upstreams together",
                        c->nserver, CONF_MOST_SERVERS);
    if (names > CONF_MOST_NAMES)
        conf_load_error(x, pos, "%zu servers given by name; %u is the limit", names,
                        CONF_MOST_NAMES);
    if (c->nlog > 256)
        conf_load_error(x, pos, "%zu logs; 256 is the limit", c->nlog);
    if (c->nroute >= CONF_MOST_SERIES)
        conf_load_warn(
            x, pos, "%zu hosts and routes; those beyond %u share one series of metrics, \"other\"",
            c->nroute, CONF_MOST_SERIES - 1);
    if (c->nlisten == 0 && x->d->errors == 0)
        conf_load_error(x, pos,
                        "there is nothing to listen on; write \"proxy = http://HOST:PORT\", or "
                        "[listen], [host] and [upstream] sections");
    else if (c->nhost == 0 && x->d->errors == 0)
        conf_load_warn(x, pos, "there is no [host]: every request is answered with 404");
}

static bool number(struct slice s)
{
    return s.n > 0 && strspn(s.p, "0123456789") == s.n;
}

static void check_global(struct conf_load *x)
{
    const struct conf_global_keys *g = &x->c->global;
    const struct conf_origin *o = x->c->global_origin;
    struct conf_pos pos = {x->file[0].path, 0, 0};
    if (g->control_socket.n > 107)
        conf_load_error(x, conf_check_pos(o, "control_socket", pos),
                        "control_socket is too long for a unix socket (107 bytes)");
    if (g->user.n > 0 && !number(g->user) && !getpwnam(g->user.p))
        conf_load_warn(x, conf_check_pos(o, "user", pos),
                       "there is no user \"" SLICE_FMT "\" on this machine", SLICE_ARG(g->user));
    const struct {
        const char *key;
        struct slice name;
    } groups[] = {{"group", g->group},
                  {"control_readers", g->control_readers},
                  {"control_operators", g->control_operators}};
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++)
        if (groups[i].name.n > 0 && !number(groups[i].name) && !getgrnam(groups[i].name.p))
            conf_load_warn(x, conf_check_pos(o, groups[i].key, pos),
                           "there is no group \"" SLICE_FMT "\" on this machine",
                           SLICE_ARG(groups[i].name));
    const struct {
        const char *key;
        struct slice path;
    } paths[] = {{"pid_file", g->pid_file},
                 {"control_socket", g->control_socket},
                 {"error_log", g->error_log},
                 {"tls_key_log", g->tls_key_log}};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        if (slice_chr(paths[i].path, '/') >= 0 && paths[i].path.p[0] != '/')
            conf_load_warn(x, conf_check_pos(o, paths[i].key, pos),
                           "%s is relative to the directory that rpd is started in", paths[i].key);
}

int conf_check(struct conf_load *x)
{
    const struct config *c = x->c;
    int k = check_addresses(x);
    if (k == 0)
        k = check_names(x);
    if (k == 0)
        k = check_upstreams(x);
    if (k < 0)
        return k;
    check_global(x);
    conf_check_tls(x);
    k = conf_check_cache(x);
    if (k == 0)
        k = conf_check_compress(x);
    if (k < 0)
        return k;
    size_t before = x->d->errors;
    check_conn(x, &c->defaults_conn, c->defaults_origin, (struct conf_pos){x->file[0].path, 0, 0});
    for (size_t i = 0; i < c->nlisten && x->d->errors == before; i++)
        check_conn(x, &c->listen[i]->conn, c->listen[i]->origin, c->listen[i]->pos);
    for (size_t i = 0; i < c->nhost && !x->bad_upstream; i++)
        if (!c->host[i]->upstream && c->host[i]->nroute == 0)
            conf_load_warn(
                x, c->host[i]->pos,
                "[host " SLICE_FMT
                "] has neither an upstream nor routes: every request is answered with 404",
                SLICE_ARG(c->host[i]->name));
    check_limits(x);
    return arena_failed(&x->tree) || arena_failed(&x->c->arena) ? -ERR_NOMEM : 0;
}
