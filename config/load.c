/* config_load: from a snapshot to a configuration, or to all that is wrong with it. */
#include "config/load.h"
#include "base/err.h"
#include "base/proc.h"

#include <stdlib.h>

#define WORKERS_MOST 80 /* three generations with their helpers fit into the segment's slots */

static void hash_pages(const struct conf_error_pages *p, struct buf *b)
{
    for (size_t i = 0; i < p->n; i++) {
        uint64_t h = hash_fixed(p->v[i].body.p, p->v[i].body.n);
        buf_add(b, slice_of((const char *)&h, sizeof h));
    }
}

/* Of the dump, which is complete, and of what the dump only names. */
static int hash_all(struct config *c)
{
    struct buf b;
    buf_init(&b, 0);
    config_dump(c, false, false, &b);
    hash_pages(&c->defaults.error_page, &b);
    for (size_t i = 0; i < c->nhost; i++) {
        const struct conf_host *h = c->host[i];
        if (h->scope.error_page.v != c->defaults.error_page.v)
            hash_pages(&h->scope.error_page, &b);
        for (size_t r = 0; r < h->nroute; r++)
            if (h->route[r]->scope.error_page.v != h->scope.error_page.v)
                hash_pages(&h->route[r]->scope.error_page, &b);
    }
    int k = b.failed ? -ERR_NOMEM : 0;
    c->hash = hash_fixed(b.p, b.n);
    buf_fini(&b);
    return k;
}

static int load_all(struct conf_load *x)
{
    struct config *c = x->c;
    int k = map_init(&x->by_title, 64);
    if (k == 0)
        k = map_init(&x->logs, 8);
    if (k == 0)
        k = map_init(&x->upstreams, 64);
    if (k == 0)
        k = map_init(&x->certificates, 8);
    if (k == 0)
        k = map_init(&x->caches, 8);
    if (k == 0)
        k = map_init(&x->compresses, 8);
    if (k == 0)
        k = map_init(&x->listens, 8);
    if (k == 0)
        k = map_init(&x->hosts, 64);
    if (k == 0)
        k = map_init(&x->cachings, 64);
    if (k == 0)
        k = conf_tree_read(x);
    if (k < 0)
        return k;
    conf_quick_build(x);
    if (arena_failed(&x->tree) || arena_failed(&c->arena))
        return -ERR_NOMEM;
    k = conf_build(x);
    if (k == 0)
        k = conf_check(x);
    if (k < 0)
        return k;
    if (x->d->errors > 0)
        return -ERR_INVAL;
    c->path = x->snap->text_only ? SLICE("") : slice_str(x->file[0].path);
    int cpus = c->global.workers ? 1 : proc_cpu_count();
    c->workers = c->global.workers ? c->global.workers
                                   : (uint32_t)(cpus < 1              ? 1
                                                : cpus > WORKERS_MOST ? WORKERS_MOST
                                                                      : cpus);
    return hash_all(c);
}

int config_load(const struct conf_snapshot *s, struct conf_diags *d, struct config **ret)
{
    *ret = NULL;
    struct conf_load *x = alloc_should_fail() ? NULL : calloc(1, sizeof *x);
    struct config *c = x && !alloc_should_fail() ? calloc(1, sizeof *c) : NULL;
    if (!x || !c) {
        free(x);
        return -ERR_NOMEM;
    }
    size_t errors = d->errors;
    d->errors = 0; /* this load's own, for its checks */
    arena_init(&c->arena, NULL, 0, 0);
    arena_init(&x->tree, NULL, 0, 0);
    buf_init(&x->scratch, 0);
    buf_init(&x->text, 0);
    x->snap = s;
    x->d = d;
    x->c = c;
    x->last_section = &x->sections;
    int k = load_all(x);
    d->errors += errors;
    map_fini(&x->by_title);
    map_fini(&x->logs);
    map_fini(&x->upstreams);
    map_fini(&x->certificates);
    map_fini(&x->caches);
    map_fini(&x->compresses);
    map_fini(&x->listens);
    map_fini(&x->hosts);
    map_fini(&x->cachings);
    buf_fini(&x->scratch);
    buf_fini(&x->text);
    arena_fini(&x->tree);
    free(x);
    if (k < 0)
        config_free(&c);
    *ret = c;
    return k;
}

void config_free(struct config **c)
{
    if (!*c)
        return;
    arena_fini(&(*c)->arena);
    free(*c);
    *c = NULL;
}
