/* Checks across sections that concern compression: sections that nobody uses, shares of a CPU. */
#include "base/err.h"
#include "config/load.h"

int conf_check_compress(struct conf_load *x)
{
    const struct config *c = x->c;
    bool *used = ARENA_ARRAY(&x->tree, bool, c->ncompress + 1);
    if (!used)
        return -ERR_NOMEM;
    if (c->defaults.compress)
        used[c->defaults.compress->id] = true;
    for (size_t i = 0; i < c->nhost; i++) {
        const struct conf_host *h = c->host[i];
        if (h->scope.compress)
            used[h->scope.compress->id] = true;
        for (size_t r = 0; r < h->nroute; r++)
            if (h->route[r]->scope.compress)
                used[h->route[r]->scope.compress->id] = true;
    }
    for (size_t i = 0; i < c->ncompress; i++) {
        const struct conf_compress *o = c->compress[i];
        /* A dump writes standard too. */
        if (!used[i] && !slice_eq(o->name, SLICE("standard")))
            conf_load_warn(x, o->pos, "no host or route uses [compress " SLICE_FMT "]",
                           SLICE_ARG(o->name));
        if (o->k.cpu_low > o->k.cpu_off)
            conf_load_error(x, conf_check_pos(o->origin, "cpu_low", o->pos),
                            "cpu_low of [compress " SLICE_FMT "] is above its cpu_off",
                            SLICE_ARG(o->name));
    }
    return 0;
}
