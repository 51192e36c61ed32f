/* Which route answers a request: look-up in the compiled tables, and the same told in words. */
#include "worker/stream/route.h"

#include "base/err.h"
#include "base/list.h"
#include "worker/stream/route_table.h"

static const struct route_names *names_of(const struct route_table *t, const struct conf_listen *l)
{
    return &t->names[l && l->id < t->nnames ? l->id : 0];
}

/* Suffixes from the longest that any wildcard can have to the shortest: at most to->dots look-ups,
 * however many labels a stranger sends. A suffix needs something in front of it. */
static const struct route_name *find_wildcard(const struct route_names *to, struct slice host)
{
    if (to->dots == 0 || host.n < 2)
        return NULL;
    const char *from = host.p + host.n;
    for (unsigned k = 0; k < to->dots; k++) {
        const char *const dot = memrchr(host.p + 1, '.', (size_t)(from - host.p) - 1);
        if (!dot)
            break;
        from = dot;
        if (dot == host.p + 1)
            break;
    }
    const char *const end = host.p + host.n;
    while (from < end) {
        const struct route_name *const n =
            map_get(&to->wildcard, slice_of(from, (size_t)(end - from)));
        if (n)
            return n;
        from = memchr(from + 1, '.', (size_t)(end - from) - 1);
        if (!from)
            break;
    }
    return NULL;
}

/* NULL when no host has the name; *ret_err is set when a regex went over its limits. */
static const struct route_name *find_host(const struct route_names *to, struct slice host,
                                          int *ret_err)
{
    const struct route_name *n = map_get(&to->exact, host);
    if (!n)
        n = find_wildcard(to, host);
    for (size_t i = 0; !n && i < to->nregex; i++) {
        const int rc = match_try(to->regex[i]->re, host);
        if (rc < 0) {
            *ret_err = rc;
            return NULL;
        }
        if (rc == 1)
            n = to->regex[i];
    }
    return n ? n : to->any;
}

static const struct route_node *find_exact(const struct route_group *g, struct slice path)
{
    if (g->nexact > ROUTE_EXACT_SCAN)
        return map_get(&g->exact_map, path);
    for (uint32_t i = 0; i < g->nexact; i++) {
        if (slice_eq(g->exact[i].text, path))
            return &g->exact[i];
    }
    return NULL;
}

/* The longest prefix of path, or ROUTE_NO_PARENT. Every prefix of path that is in the set is the
 * last node not behind path or a prefix of that node: one binary search, then up the parents. */
static uint32_t find_prefix(const struct route_group *g, struct slice path)
{
    uint32_t lo = 0, hi = g->nprefix;
    while (lo < hi) {
        const uint32_t mid = lo + (hi - lo) / 2;
        if (slice_cmp(g->prefix[mid].text, path) <= 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    uint32_t at = lo ? lo - 1 : ROUTE_NO_PARENT;
    while (at != ROUTE_NO_PARENT && !slice_starts(path, g->prefix[at].text))
        at = g->prefix[at].parent;
    return at;
}

struct visitor {
    bool (*visit)(struct visitor *v, const struct route_item *it); /* true ends the walk */
    struct slice method;
};

static bool visit_items(struct visitor *v, const struct route_item *it, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (v->visit(v, &it[i]))
            return true;
    }
    return false;
}

/* Shows the visitor every route of the host whose path matches, in order of precedence. 1 it ended
 * the walk, 0 not, -ERR_INTERNAL. */
static int walk(const struct route_host *h, struct slice path, struct visitor *v)
{
    for (size_t i = 0; i < h->ngroup; i++) {
        const struct route_group *const g = &h->group[i];
        const struct route_node *const exact = find_exact(g, path);
        if (exact && visit_items(v, exact->item, exact->n))
            return 1;
        for (uint32_t at = find_prefix(g, path); at != ROUTE_NO_PARENT; at = g->prefix[at].parent) {
            if (visit_items(v, g->prefix[at].item, g->prefix[at].n))
                return 1;
        }
        for (uint32_t r = 0; r < g->nregex; r++) {
            const int rc = match_try(g->regex[r].re, path);
            /* What the route guards must not open because its pattern was made to fail. */
            if (rc < 0)
                return -ERR_INTERNAL;
            if (rc == 1 && v->visit(v, &g->regex[r]))
                return 1;
        }
        if (visit_items(v, g->any, g->nany))
            return 1;
    }
    return 0;
}

/* Methods are case-sensitive (RFC 9110 9.1). GET includes HEAD (9.3.2: the same without the
 * content). */
static bool method_ok(const struct conf_route *r, struct slice method)
{
    const struct conf_words *const w = &r->k.method;
    if (w->n == 0)
        return true;
    const bool head = slice_eq(method, SLICE("HEAD"));
    for (size_t i = 0; i < w->n; i++) {
        if (slice_eq(w->v[i], method) || (head && slice_eq(w->v[i], SLICE("GET"))))
            return true;
    }
    return false;
}

/* A host's own route answers every path and method, if it answers at all. */
static bool self_answers(const struct conf_route *self)
{
    return self && (self->upstream || self->k.return_.status || self->k.metrics);
}

struct finder {
    struct visitor v;
    const struct conf_route *won;
    bool refused; /* a route matched but for its method */
};

static bool finder_visit(struct visitor *v, const struct route_item *it)
{
    struct finder *const f = CONTAINER(v, struct finder, v);
    if (!method_ok(it->r, v->method)) {
        f->refused = true;
        return false;
    }
    f->won = it->r;
    return true;
}

struct allower {
    struct visitor v;
    char *text;
    size_t n, cap;
};

static void allow_add(struct allower *a, struct slice method)
{
    struct slice rest = slice_of(a->text, a->n), have;
    while (slice_next(&rest, ',', &have)) {
        if (slice_eq(have, method))
            return;
    }
    if (a->n + 2 + method.n > a->cap)
        return;
    if (a->n) {
        memcpy(a->text + a->n, ", ", 2);
        a->n += 2;
    }
    memcpy(a->text + a->n, method.p, method.n);
    a->n += method.n;
}

static bool allower_visit(struct visitor *v, const struct route_item *it)
{
    struct allower *const a = CONTAINER(v, struct allower, v);
    for (size_t i = 0; i < it->r->k.method.n; i++) {
        allow_add(a, it->r->k.method.v[i]);
        if (slice_eq(it->r->k.method.v[i], SLICE("GET")))
            allow_add(a, SLICE("HEAD"));
    }
    return false;
}

/* A second walk, so that the usual request pays nothing for it. */
static struct slice allowed(const struct route_host *h, struct slice path)
{
    static char text[512];
    struct allower a = {.v = {.visit = allower_visit}, .text = text, .cap = sizeof(text)};
    (void)walk(h, path, &a.v);
    return slice_of(text, a.n);
}

int route_find(const struct route_table *t, const struct route_query *q,
               const struct conf_route **ret, struct slice *ret_allow)
{
    *ret = NULL;
    *ret_allow = SLICE_NONE;
    int err = 0;
    const struct route_name *const name = find_host(names_of(t, q->listen), q->host, &err);
    if (!name)
        return err < 0 ? -ERR_INTERNAL : -ERR_NO_HOST;
    const struct conf_route *const self = name->host->h->self;
    struct finder f = {.v = {.visit = finder_visit, .method = q->method}};
    const int rc = walk(name->host, q->path, &f.v);
    *ret = f.won ? f.won : self;
    if (rc != 0)
        return rc < 0 ? rc : 0;
    if (self_answers(self))
        return 0;
    if (!f.refused)
        return -ERR_NO_ROUTE;
    *ret_allow = allowed(name->host, q->path);
    return -ERR_METHOD_REFUSED;
}

/* ---- explain ---- */

static void say_pos(struct buf *out, const struct conf_pos *p)
{
    if (p->line)
        buf_printf(out, " (%s:%u)", p->file, p->line);
    else
        buf_printf(out, " (%s)", p->file ? p->file : "<default>");
}

static void say_route(struct buf *out, const struct conf_route *r)
{
    buf_add(out, r->series);
    say_pos(out, &r->pos);
}

static void say_path(struct buf *out, const struct route_item *it)
{
    if (!it->path) {
        buf_str(out, "has no path condition");
    } else {
        switch (it->path->kind) {
        case CONF_PATH_EXACT:
            buf_printf(out, "exact path %.*s", SLICE_ARG(it->path->text));
            break;
        case CONF_PATH_PREFIX:
            buf_printf(out, "prefix %.*s*", SLICE_ARG(it->path->text));
            break;
        case CONF_PATH_REGEX:
            buf_printf(out, "regex ~%.*s", SLICE_ARG(it->path->text));
            break;
        }
        say_pos(out, &it->path->pos);
    }
    if (it->r->k.priority)
        buf_printf(out, ", priority %d", it->r->k.priority);
}

static void say_methods(struct buf *out, const struct conf_route *r)
{
    for (size_t i = 0; i < r->k.method.n; i++) {
        buf_chr(out, ' ');
        buf_add(out, r->k.method.v[i]);
    }
}

/* The decision is route_find()'s; this only tells what lies beside it. */
struct explainer {
    struct visitor v;
    struct buf *out;
    const struct route_item *won;
};

static bool explainer_visit(struct visitor *v, const struct route_item *it)
{
    struct explainer *const e = CONTAINER(v, struct explainer, v);
    const bool ok = method_ok(it->r, v->method);
    if (ok && !e->won) {
        e->won = it;
        buf_str(e->out, "route      ");
        say_route(e->out, it->r);
        buf_str(e->out, ": ");
        say_path(e->out, it);
        if (it->r->k.method.n) {
            buf_str(e->out, "; method is one of");
            say_methods(e->out, it->r);
        }
    } else {
        buf_printf(e->out, "%s", ok ? "also       " : "passed     ");
        say_route(e->out, it->r);
        buf_str(e->out, ": ");
        say_path(e->out, it);
        if (ok) {
            buf_str(e->out, "; it matches too but comes later");
        } else {
            buf_printf(e->out, "; method %.*s is not one of", SLICE_ARG(v->method));
            say_methods(e->out, it->r);
        }
    }
    buf_chr(e->out, '\n');
    return false;
}

static void explain_host(const struct route_name *n, const struct route_query *q, struct buf *out)
{
    static const char *const kind[] = {[CONF_NAME_EXACT] = "exact name ",
                                       [CONF_NAME_WILDCARD] = "wildcard *",
                                       [CONF_NAME_REGEX] = "regex ~",
                                       [CONF_NAME_ANY] = "catch-all "};
    const bool any = n->name->kind == CONF_NAME_ANY;
    buf_printf(out, "host       %.*s", SLICE_ARG(n->host->h->name));
    say_pos(out, &n->host->h->pos);
    buf_printf(out, ": %s", kind[n->name->kind]);
    buf_add(out, any ? SLICE("*") : n->name->text);
    say_pos(out, &n->name->pos);
    buf_printf(out, " for \"%.*s\"\n", SLICE_ARG(q->host));
}

/* Says who answers when no route of the host does. */
static void explain_self(const struct route_host *h, const struct route_query *q, struct buf *out)
{
    if (self_answers(h->h->self)) {
        buf_str(out, "route      ");
        say_route(out, h->h->self);
        buf_str(out, ": the host's own, as no route matches\n");
        return;
    }
    const struct slice allow = allowed(h, q->path);
    if (allow.n)
        buf_printf(out, "answer     405: the path matches, the method does not; Allow: %.*s\n",
                   SLICE_ARG(allow));
    else
        buf_str(out, "answer     404: no route matches and the host has no upstream of its own\n");
}

void route_explain(const struct route_table *t, const struct route_query *q, struct buf *out)
{
    int err = 0;
    if (q->listen) {
        buf_printf(out, "listener   %.*s", SLICE_ARG(q->listen->name));
        say_pos(out, &q->listen->pos);
        buf_chr(out, '\n');
    }
    const struct route_name *const name = find_host(names_of(t, q->listen), q->host, &err);
    if (!name) {
        if (err < 0)
            buf_str(out, "answer     500: a host's regular expression went over its limits\n");
        else
            buf_printf(out,
                       "answer     404: no host is named \"%.*s\" on this listener and there is no "
                       "catch-all\n",
                       SLICE_ARG(q->host));
        return;
    }
    explain_host(name, q, out);
    struct explainer e = {.v = {.visit = explainer_visit, .method = q->method}, .out = out};
    if (walk(name->host, q->path, &e.v) < 0)
        buf_str(out, "answer     500: a regular expression went over its limits here\n");
    else if (!e.won)
        explain_self(name->host, q, out);
}
