/* Compiles the configuration's hosts and routes into the tables that route.c reads. */
#include "base/err.h"
#include "worker/stream/route_table.h"

#include <stdlib.h>

struct build {
    const struct config *c;
    struct conf_diags *d;
    struct route_table *t;
    struct map host_re,
        path_re; /* pattern -> struct build_regex, so that copies of a `*` route compile once */
    struct route_item *scratch; /* room for the items of any one host */
    size_t errors;
};
struct build_regex {
    struct match *m;          /* NULL: does not compile */
    struct conf_pos reported; /* where that was said */
    char err[MATCH_ERR_MAX];
    size_t offset;
};

static bool same_pos(const struct conf_pos *a, const struct conf_pos *b)
{
    return a->file == b->file && a->line == b->line && a->col == b->col;
}

/* 0 with *ret NULL when the pattern is bad (reported); -ERR_NOMEM. */
static int build_regex(struct build *b, struct map *seen, struct slice pattern, bool caseless,
                       struct conf_pos pos, const struct match **ret)
{
    *ret = NULL;
    struct build_regex *x = map_get(seen, pattern);
    if (!x) {
        x = ARENA_NEW(&b->t->arena, struct build_regex);
        if (!x)
            return -ERR_NOMEM;
        const int rc = match_compile(pattern, caseless, &x->m, x->err, &x->offset);
        if (rc == -ERR_NOMEM)
            return rc;
        if (x->m)
            b->t->match[b->t->nmatch++] = x->m;
        if (map_put(seen, pattern, x, NULL) < 0)
            return -ERR_NOMEM;
    }
    *ret = x->m;
    if (!x->m && !same_pos(&x->reported, &pos)) {
        x->reported = pos;
        b->errors++;
        if (pos.col)
            pos.col += 1 + (uint32_t)x->offset; /* behind the "~" */
        conf_diag_add(b->d, CONF_ERROR, pos, NULL, "bad regular expression \"%.*s\": %s",
                      SLICE_ARG(pattern), x->err);
    }
    return 0;
}

static unsigned kind_rank(const struct route_item *it)
{
    if (!it->path)
        return 3;
    switch (it->path->kind) {
    case CONF_PATH_EXACT:
        return 0;
    case CONF_PATH_PREFIX:
        return 1;
    case CONF_PATH_REGEX:
        return 2;
    }
    return 3;
}

/* CONFIG rule 3, except that equal kinds are ordered by text and not by length: nodes are searched
 * by text. */
static int item_cmp(const void *pa, const void *pb)
{
    const struct route_item *const a = pa, *const b = pb;
    if (a->r->k.priority != b->r->k.priority)
        return a->r->k.priority > b->r->k.priority ? -1 : 1;
    const unsigned ka = kind_rank(a), kb = kind_rank(b);
    if (ka != kb)
        return ka < kb ? -1 : 1;
    if (ka < 2) {
        const int c = slice_cmp(a->path->text, b->path->text);
        if (c)
            return c;
    }
    const uint32_t ca = route_conditions(a->r), cb = route_conditions(b->r);
    if (ca != cb)
        return ca > cb ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

/* Cuts n sorted items into nodes of equal text. */
static uint32_t cut_nodes(const struct route_item *it, size_t n, struct route_node *node)
{
    uint32_t used = 0;
    for (size_t i = 0; i < n; i++) {
        if (used && slice_eq(node[used - 1].text, it[i].path->text)) {
            node[used - 1].n++;
            continue;
        }
        node[used++] = (struct route_node){
            .text = it[i].path->text, .item = it + i, .n = 1, .parent = ROUTE_NO_PARENT};
    }
    return used;
}

/* In memcmp order the longest prefix of a text is its predecessor or one of the predecessor's own
 * prefixes. */
static void link_parents(struct route_node *node, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        uint32_t p = i - 1;
        while (p != ROUTE_NO_PARENT && !slice_starts(node[i].text, node[p].text))
            p = node[p].parent;
        node[i].parent = p;
    }
}

static int build_group(struct build *b, const struct route_item *it, size_t n,
                       struct route_group *g)
{
    size_t of[4] = {0};
    for (size_t i = 0; i < n; i++)
        of[kind_rank(&it[i])]++;
    g->priority = it->r->k.priority;
    g->exact = ARENA_ARRAY(&b->t->arena, struct route_node, of[0]);
    g->prefix = ARENA_ARRAY(&b->t->arena, struct route_node, of[1]);
    if (arena_failed(&b->t->arena))
        return -ERR_NOMEM;
    g->nexact = cut_nodes(it, of[0], g->exact);
    g->nprefix = cut_nodes(it + of[0], of[1], g->prefix);
    link_parents(g->prefix, g->nprefix);
    g->regex = it + of[0] + of[1];
    g->nregex = (uint32_t)of[2];
    g->any = g->regex + of[2];
    g->nany = (uint32_t)of[3];
    if (g->nexact > ROUTE_EXACT_SCAN) {
        if (map_init(&g->exact_map, g->nexact) < 0)
            return -ERR_NOMEM;
        for (uint32_t i = 0; i < g->nexact; i++) {
            if (map_put(&g->exact_map, g->exact[i].text, &g->exact[i], NULL) < 0)
                return -ERR_NOMEM;
        }
    }
    return 0;
}

/* The items of one host into b->scratch; their number, or -ERR_NOMEM. */
static int64_t gather_items(struct build *b, const struct conf_host *h)
{
    size_t n = 0;
    for (size_t i = 0; i < h->nroute; i++) {
        const struct conf_route *const r = h->route[i];
        if (r->k.path.n == 0)
            b->scratch[n++] = (struct route_item){.r = r, .order = (uint32_t)i};
        for (size_t k = 0; k < r->k.path.n; k++) {
            const struct conf_path *const p = &r->k.path.v[k];
            struct route_item it = {.r = r, .path = p, .order = (uint32_t)i};
            if (p->kind == CONF_PATH_REGEX &&
                build_regex(b, &b->path_re, p->text, false, p->pos, &it.re) < 0)
                return -ERR_NOMEM;
            b->scratch[n++] = it;
        }
    }
    return (int64_t)n;
}

static int build_host(struct build *b, const struct conf_host *h, struct route_host *rh)
{
    rh->h = h;
    const int64_t got = gather_items(b, h);
    if (got < 0)
        return (int)got;
    const size_t n = (size_t)got;
    if (n == 0)
        return 0;
    struct route_item *const it = ARENA_ARRAY(&b->t->arena, struct route_item, n);
    if (!it)
        return -ERR_NOMEM;
    memcpy(it, b->scratch, n * sizeof(*it));
    qsort(it, n, sizeof(*it), item_cmp);
    size_t groups = 1;
    for (size_t i = 1; i < n; i++)
        groups += it[i].r->k.priority != it[i - 1].r->k.priority;
    rh->group = ARENA_ARRAY(&b->t->arena, struct route_group, groups);
    if (!rh->group)
        return -ERR_NOMEM;
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && it[end].r->k.priority == it[i].r->k.priority; end++)
            continue;
        /* Counted first, so that a half-built map is freed too. */
        const int rc = build_group(b, it + i, end - i, &rh->group[rh->ngroup++]);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static bool host_on(const struct conf_host *h, const struct conf_listen *l)
{
    if (!l || h->k.listen.n == 0)
        return true;
    for (size_t i = 0; i < h->k.listen.n; i++) {
        if (h->k.listen.v[i] == l)
            return true;
    }
    return false;
}

static void name_taken(struct build *b, struct route_name *rn, const struct route_name *by)
{
    if (rn->clash)
        return;
    rn->clash = true;
    b->errors++;
    conf_diag_add(b->d, CONF_ERROR, rn->name->pos, NULL,
                  "host name \"%s%.*s\" belongs to [host %.*s] already (%s:%u)",
                  rn->name->kind == CONF_NAME_WILDCARD ? "*" : "", SLICE_ARG(rn->name->text),
                  SLICE_ARG(by->host->h->name), by->name->pos.file, by->name->pos.line);
}

static int put_name(struct build *b, struct route_names *to, struct route_name *rn)
{
    struct map *m = &to->exact;
    switch (rn->name->kind) {
    case CONF_NAME_REGEX:
        to->regex[to->nregex++] = rn;
        return 0;
    case CONF_NAME_ANY:
        if (to->any && to->any->host != rn->host)
            name_taken(b, rn, to->any);
        else
            to->any = rn;
        return 0;
    case CONF_NAME_WILDCARD: {
        unsigned dots = 0;
        for (size_t i = 0; i < rn->name->text.n; i++)
            dots += rn->name->text.p[i] == '.';
        if (dots > to->dots)
            to->dots = dots;
        m = &to->wildcard;
        break;
    }
    case CONF_NAME_EXACT:
        break;
    }
    void *old = NULL;
    const int rc = map_put(m, rn->name->text, rn, &old);
    if (rc == -ERR_EXIST) {
        const struct route_name *const by = old;
        if (by->host != rn->host)
            name_taken(b, rn, by);
        return 0;
    }
    return rc;
}

/* Names of all hosts that listener l (NULL: any) serves; name[] holds those of all hosts in order.
 */
static int build_names(struct build *b, struct route_names *to, const struct conf_listen *l,
                       struct route_name *name)
{
    size_t of[4] = {0}, k = 0;
    for (size_t i = 0; i < b->c->nhost; i++) {
        const struct conf_host *const h = b->c->host[i];
        for (size_t j = 0; j < h->k.names.n; j++)
            of[h->k.names.v[j].kind] += host_on(h, l);
    }
    if (map_init(&to->exact, of[CONF_NAME_EXACT]) < 0 ||
        map_init(&to->wildcard, of[CONF_NAME_WILDCARD]) < 0)
        return -ERR_NOMEM;
    to->regex = ARENA_ARRAY(&b->t->arena, const struct route_name *, of[CONF_NAME_REGEX]);
    if (arena_failed(&b->t->arena))
        return -ERR_NOMEM;
    for (size_t i = 0; i < b->c->nhost; i++) {
        const struct conf_host *const h = b->c->host[i];
        const bool on = host_on(h, l);
        for (size_t j = 0; j < h->k.names.n; j++, k++) {
            const int rc = on ? put_name(b, to, &name[k]) : 0;
            if (rc < 0)
                return rc;
        }
    }
    return 0;
}

static int build_all_names(struct build *b, size_t total)
{
    struct route_table *const t = b->t;
    struct route_name *const name = ARENA_ARRAY(&t->arena, struct route_name, total + 1);
    if (!name)
        return -ERR_NOMEM;
    bool limited = false;
    for (size_t i = 0, k = 0; i < b->c->nhost; i++) {
        const struct conf_host *const h = b->c->host[i];
        limited = limited || h->k.listen.n > 0;
        for (size_t j = 0; j < h->k.names.n; j++, k++) {
            const struct conf_name *const n = &h->k.names.v[j];
            name[k] = (struct route_name){.host = &t->host[i], .name = n};
            /* Hosts are compared without case, whatever the pattern's spelling. */
            if (n->kind == CONF_NAME_REGEX &&
                build_regex(b, &b->host_re, n->text, true, n->pos, &name[k].re) < 0)
                return -ERR_NOMEM;
        }
    }
    const size_t tables = limited && b->c->nlisten ? b->c->nlisten : 1;
    t->names = ARENA_ARRAY(&t->arena, struct route_names, tables);
    if (!t->names)
        return -ERR_NOMEM;
    for (t->nnames = 0; t->nnames < tables;) {
        const struct conf_listen *const l =
            limited && b->c->nlisten ? b->c->listen[t->nnames] : NULL;
        const int rc = build_names(b, &t->names[t->nnames++], l, name);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int build(struct build *b)
{
    struct route_table *const t = b->t;
    size_t names = 0, items = 0, regexes = 0;
    for (size_t i = 0; i < b->c->nhost; i++) {
        const struct conf_host *const h = b->c->host[i];
        size_t mine = 0;
        names += h->k.names.n;
        for (size_t j = 0; j < h->k.names.n; j++)
            regexes += h->k.names.v[j].kind == CONF_NAME_REGEX;
        for (size_t r = 0; r < h->nroute; r++) {
            const struct conf_paths *const p = &h->route[r]->k.path;
            mine += p->n ? p->n : 1;
            for (size_t j = 0; j < p->n; j++)
                regexes += p->v[j].kind == CONF_PATH_REGEX;
        }
        items = mine > items ? mine : items;
    }
    t->host = ARENA_ARRAY(&t->arena, struct route_host, b->c->nhost + 1);
    t->match = ARENA_ARRAY(&t->arena, struct match *, regexes + 1);
    b->scratch = calloc(items + 1, sizeof(*b->scratch));
    if (arena_failed(&t->arena) || !b->scratch)
        return -ERR_NOMEM;
    if (map_init(&b->host_re, regexes) < 0 || map_init(&b->path_re, regexes) < 0)
        return -ERR_NOMEM;
    for (t->nhost = 0; t->nhost < b->c->nhost;) {
        const size_t i = t->nhost++;
        const int rc = build_host(b, b->c->host[i], &t->host[i]);
        if (rc < 0)
            return rc;
    }
    return build_all_names(b, names);
}

int route_table_new(const struct config *c, struct conf_diags *d, struct route_table **ret)
{
    *ret = NULL;
    struct route_table *t = calloc(1, sizeof(*t));
    if (!t)
        return -ERR_NOMEM;
    arena_init(&t->arena, NULL, 0, 0);
    struct build b = {.c = c, .d = d, .t = t};
    int rc = build(&b);
    free(b.scratch);
    map_fini(&b.host_re);
    map_fini(&b.path_re);
    if (rc == 0 && b.errors)
        rc = -ERR_INVAL;
    if (rc < 0) {
        route_table_free(&t);
        return rc;
    }
    *ret = t;
    return 0;
}

void route_table_free(struct route_table **pt)
{
    struct route_table *const t = *pt;
    if (!t)
        return;
    for (size_t i = 0; i < t->nnames; i++) {
        map_fini(&t->names[i].exact);
        map_fini(&t->names[i].wildcard);
    }
    for (size_t i = 0; i < t->nhost; i++) {
        for (size_t g = 0; g < t->host[i].ngroup; g++)
            map_fini(&t->host[i].group[g].exact_map);
    }
    for (size_t i = 0; i < t->nmatch; i++)
        match_free(&t->match[i]);
    arena_fini(&t->arena);
    free(t);
    *pt = NULL;
}
