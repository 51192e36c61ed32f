/* The helper keeps caches on disk: a persister for each [cache] with `persist`, driven in slices.
 */
#include "worker/state.h"

#include "base/clock.h"
#include "base/err.h"
#include "shm/cache_persist.h"

#include <stdlib.h>

#define PERSIST_SLICE_US 500u
#define PERSIST_RETRY_MS 250u /* the helper of the generation before has the directory */

struct persist_one {
    struct worker *w;
    const struct conf_cache *conf;
    int dir;
    struct cache_worker *joined;
    struct cache_persist *p;
    struct io io;
    struct timer due;
};
struct persists {
    size_t n;
    struct persist_one one[];
};

static void persist_say(void *arg, const char *line)
{
    const struct persist_one *o = arg;

    LOG_NOTICE("cache_persist", "cache " SLICE_FMT ": %s", SLICE_ARG(o->conf->name), line);
}

static void persist_plan(struct persist_one *o, unsigned ms)
{
    timer_set_at(&o->w->loop.timers, &o->due, clock_ms() + ms);
}

static void persist_turn(struct persist_one *o)
{
    cache_set_time(o->joined, (uint32_t)(clock_cached.wall_ms / 1000));
    switch (cache_persist_step(o->p, PERSIST_SLICE_US)) {
    case CACHE_PERSIST_MORE:
        io_again(&o->w->loop, &o->io);
        break;
    case CACHE_PERSIST_WAIT:
        break;
    case CACHE_PERSIST_IDLE:
        persist_plan(o, cache_persist_wait_ms(o->p));
        break;
    }
}

static void persist_on_io(struct io *io)
{
    io->ready = 0;
    persist_turn(CONTAINER(io, struct persist_one, io));
}

/* Nothing of it stops the helper: a cache that cannot be kept on disk is a cache all the same. */
static void persist_open(struct persist_one *o)
{
    const struct cache_persist_options opt = {.say = persist_say, .arg = o};
    int e = cache_persist_open(o->dir, o->joined, &opt, &o->p);

    if (e == -ERR_AGAIN) {
        persist_plan(o, PERSIST_RETRY_MS);
        return;
    }
    if (e == 0) {
        o->io = (struct io){.fd = cache_persist_fd(o->p), .handler = persist_on_io};
        e = io_add(&o->w->loop, &o->io);
        if (e < 0)
            cache_persist_close(&o->p);
    }
    if (e < 0) {
        LOG_WARN("cache_persist", "cache " SLICE_FMT " is not kept in " SLICE_FMT ": %s",
                 SLICE_ARG(o->conf->name), SLICE_ARG(o->conf->k.persist), err_text(e));
        return;
    }
    persist_turn(o);
}

static void persist_on_time(struct timer *t)
{
    struct persist_one *o = CONTAINER(t, struct persist_one, due);

    if (o->p)
        persist_turn(o);
    else
        persist_open(o);
}

int persist_init(struct worker *w)
{
    const struct worker_boot *b = w->boot;
    struct persists *ps = calloc(1, sizeof(*ps) + b->config->ncache * sizeof(struct persist_one));

    if (!ps)
        return -ERR_NOMEM;
    w->persists = ps;
    for (size_t i = 0; i < b->config->ncache; i++) {
        struct persist_one *o = &ps->one[ps->n];

        if (!b->persist_fd || b->persist_fd[i] < 0)
            continue;
        *o = (struct persist_one){
            .w = w, .conf = b->config->cache[i], .dir = b->persist_fd[i], .io = {.fd = -1}};
        o->joined = helper_joined(w, i);
        if (!o->joined)
            continue;
        ps->n++;
        timer_init(&o->due, persist_on_time);
        persist_plan(o, 0);
    }
    return 0;
}

void persist_fini(struct worker *w)
{
    struct persists *ps = w->persists;

    for (size_t i = 0; ps && i < ps->n; i++) {
        timer_stop(&ps->one[i].due);
        if (ps->one[i].p)
            io_remove(&w->loop, &ps->one[i].io);
        cache_persist_close(&ps->one[i].p);
    }
    free(ps);
    w->persists = NULL;
}
