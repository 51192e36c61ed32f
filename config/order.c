/* Precedence of a host's routes, and routes that another one hides. */
#include "base/err.h"
#include "config/load.h"

#include <stdlib.h>

static int by_slice(const void *a, const void *b)
{
    return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

/* "host priority kind path methods": equal for routes that match the same requests. p NULL: the
 * route has no path. */
static struct slice identity(struct conf_load *x, const struct conf_host *h,
                             const struct conf_route *r, const struct conf_path *p)
{
    const struct conf_words *m = &r->k.method;
    buf_clear(&x->scratch);
    buf_printf(&x->scratch, "%u %d %d " SLICE_FMT, h->id, r->k.priority, p ? (int)p->kind : -1,
               SLICE_ARG(p ? p->text : SLICE("")));
    if (m->n > 0) {
        struct slice *sorted = ARENA_ARRAY(&x->tree, struct slice, m->n);
        if (!sorted)
            return SLICE_NONE;
        memcpy(sorted, m->v, m->n * sizeof *sorted);
        qsort(sorted, m->n, sizeof *sorted, by_slice);
        for (size_t i = 0; i < m->n; i++) {
            buf_chr(&x->scratch, i ? ',' : ' ');
            buf_add(&x->scratch, sorted[i]);
        }
    }
    return x->scratch.failed ? SLICE_NONE : arena_dup(&x->tree, buf_slice(&x->scratch));
}

/* 1: the path is new; 0: an own route says the same and the copy gives way (or it was reported). */
static int claim(struct conf_load *x, struct map *m, const struct conf_host *h,
                 const struct conf_rank *r, const struct conf_path *p)
{
    void *old = NULL;
    struct slice id = identity(x, h, r->route, p);
    if (!id.p)
        return -ERR_NOMEM;
    /* The map keeps the rank of who was first. */
    int k = map_put(m, id, r->route, &old);
    if (k == 0)
        return 1;
    if (k != -ERR_EXIST)
        return k;
    const struct conf_route *first = old;
    if (r->star)
        return 0;
    if (p)
        conf_load_error(x, p->pos,
                        "path \"" SLICE_FMT "%s\" of [route " SLICE_FMT "/" SLICE_FMT
                        "] is also in [route " SLICE_FMT "/" SLICE_FMT
                        "] (%s:%u), with the same methods and priority",
                        SLICE_ARG(p->text), p->kind == CONF_PATH_PREFIX ? "*" : "",
                        SLICE_ARG(h->name), SLICE_ARG(r->route->name), SLICE_ARG(h->name),
                        SLICE_ARG(first->name), first->pos.file, first->pos.line);
    else
        conf_load_error(x, r->route->pos,
                        "[route " SLICE_FMT "/" SLICE_FMT "] matches what [route " SLICE_FMT
                        "/" SLICE_FMT "] (%s:%u) matches",
                        SLICE_ARG(h->name), SLICE_ARG(r->route->name), SLICE_ARG(h->name),
                        SLICE_ARG(first->name), first->pos.file, first->pos.line);
    return 0;
}

/* False when nothing of the route is left; negative: no memory. */
static int claim_all(struct conf_load *x, struct map *m, const struct conf_host *h,
                     struct conf_rank *r)
{
    struct conf_paths *paths = &r->route->k.path;
    size_t left = 0;
    if (paths->n == 0)
        return claim(x, m, h, r, NULL);
    for (size_t i = 0; i < paths->n; i++) {
        int k = claim(x, m, h, r, &paths->v[i]);
        if (k < 0)
            return k;
        if (k > 0)
            paths->v[left++] = paths->v[i];
    }
    paths->n = left;
    return left > 0;
}

static void rank_paths(struct conf_rank *r)
{
    const struct conf_paths *p = &r->route->k.path;
    r->kind = 3;
    for (size_t i = 0; i < p->n; i++) {
        int kind = (int)p->v[i].kind;
        if (kind < r->kind)
            r->kind = kind;
        if (kind == CONF_PATH_PREFIX && p->v[i].text.n > r->length)
            r->length = p->v[i].text.n;
    }
    if (r->kind != CONF_PATH_PREFIX)
        r->length = 0;
}
_Static_assert(CONF_PATH_EXACT == 0 && CONF_PATH_PREFIX == 1 && CONF_PATH_REGEX == 2,
               "the order of precedence");

static int by_rank(const void *va, const void *vb)
{
    const struct conf_rank *a = va, *b = vb;
    if (a->route->k.priority != b->route->k.priority)
        return a->route->k.priority > b->route->k.priority ? -1 : 1;
    if (a->kind != b->kind)
        return a->kind - b->kind;
    if (a->length != b->length)
        return a->length > b->length ? -1 : 1;
    if ((a->route->k.method.n > 0) != (b->route->k.method.n > 0))
        return a->route->k.method.n > 0 ? -1 : 1;
    if (a->star != b->star)
        return a->star ? 1 : -1;
    return (a->seq > b->seq) - (a->seq < b->seq);
}

int conf_order(struct conf_load *x, struct map *m, const struct conf_host *h, struct conf_rank *r,
               size_t *n)
{
    size_t left = 0;
    for (size_t i = 0; i < *n; i++) {
        int k = claim_all(x, m, h, &r[i]);
        if (k < 0)
            return k;
        rank_paths(&r[i]);
        if (k > 0 || !r[i].star)
            r[left++] = r[i];
    }
    *n = left;
    if (left > 1)
        qsort(r, left, sizeof *r, by_rank);
    return 0;
}
