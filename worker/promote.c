/* The helper fills a new cache from the one that it takes the place of, in slices, and tells the
 * master how far it is. */
#include "worker/state.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "shm/cache_promote.h"

#include <stdlib.h>
#include <sys/eventfd.h>

#define PROMOTE_SLICE_US 2000u
#define PROMOTE_LOOK_MS  200u /* for what the old cache's workers store and purge */
#define PROMOTE_TELL_MS  250u

struct promote_one {
    struct worker *w;
    uint32_t cache; /* conf_cache.id */
    struct cache *old;
    struct cache_worker *from, *to;
    struct cache_promote *p; /* NULL: ended */
    struct io io; /* of an eventfd of its own that nobody writes to: to be called again */
    struct timer due;
    uint64_t told_ms;
    bool told_copied;
};
struct promotes {
    size_t n, left; /* left: those whose old cache is still being copied */
    struct promote_one one[];
};

/* False: the master is slow, and hears it the next time. */
static bool promote_tell(struct promote_one *o, bool ended)
{
    struct cache_promote_stat st;
    cache_promote_stat(o->p, &st);
    const struct worker_promoted m = {.cache = o->cache,
                                      .copied = st.copied,
                                      .full = st.partly,
                                      .ended = ended,
                                      .objects = st.objects,
                                      .bytes = st.bytes,
                                      .left = st.left};
    const bool news = ended || (st.copied && !o->told_copied) ||
                      (!st.copied && clock_ms() - o->told_ms >= PROMOTE_TELL_MS);
    if (!news)
        return true;
    if (msg_send(o->w->channel.fd, W_PROMOTED, &m, sizeof m, NULL, 0) < 0)
        return false;
    o->told_ms = clock_ms();
    if (st.copied && !o->told_copied) {
        o->told_copied = true;
        o->w->promotes->left--;
    }
    return true;
}

static void promote_close(struct promote_one *o)
{
    timer_stop(&o->due);
    io_close(&o->io);
    cache_promote_close(&o->p);
    cache_leave(&o->from);
    cache_close(&o->old);
}

static void promote_turn(struct promote_one *o)
{
    /* Before the step: who leaves afterwards has been followed to the end by it. While we do not
     * accept, the generation before may still get new workers. */
    const bool alone = o->w->accepted && cache_promote_alone(o->p);
    cache_set_time(o->to, (uint32_t)(clock_cached.wall_ms / 1000));
    if (cache_promote_step(o->p, PROMOTE_SLICE_US)) {
        (void)promote_tell(o, false);
        io_again(&o->w->loop, &o->io);
        return;
    }
    if (promote_tell(o, alone) && alone) {
        promote_close(o);
        return;
    }
    timer_set_at(&o->w->loop.timers, &o->due, clock_ms() + PROMOTE_LOOK_MS);
    helper_settled(o->w);
}

static void promote_on_io(struct io *io)
{
    promote_turn(CONTAINER(io, struct promote_one, io));
}

static void promote_on_time(struct timer *t)
{
    promote_turn(CONTAINER(t, struct promote_one, due));
}

bool promotes_settled(const struct worker *w)
{
    return w->promotes->left == 0;
}

/* Nothing of it stops the helper: a cache that is not filled from another one is a cache all the
 * same. */
static bool promote_open(struct promote_one *o, const struct worker_boot *b)
{
    const uint32_t owner = slot_owner_id(b->segment, b->slot);
    int e = cache_join(o->old, owner, NULL, NULL, &o->from);
    timer_init(&o->due, promote_on_time);
    o->io = (struct io){.fd = eventfd(0, EFD_CLOEXEC), .handler = promote_on_io};
    o->to = helper_joined(o->w, o->cache);
    if (e == 0 && !o->to)
        e = -ERR_NOMEM;
    if (e == 0)
        e = cache_promote_open(o->from, o->to, b->promote[o->cache].base, &o->p);
    if (e == 0 && o->io.fd < 0)
        e = -ERR_SYS;
    if (e == 0)
        return true;
    LOG_WARN("cache_promote", "cache " SLICE_FMT " is not filled from the old one: %s",
             SLICE_ARG(b->config->cache[o->cache]->name), err_text(e));
    promote_close(o);
    const struct worker_promoted m = {.cache = o->cache, .copied = 1, .ended = 1};
    (void)msg_send(o->w->channel.fd, W_PROMOTED, &m, sizeof m, NULL, 0);
    return false;
}

int promotes_init(struct worker *w)
{
    const struct worker_boot *b = w->boot;
    struct promotes *ps = calloc(1, sizeof *ps + b->config->ncache * sizeof ps->one[0]);
    if (!ps)
        return -ERR_NOMEM;
    w->promotes = ps;
    for (size_t i = 0; i < b->config->ncache; i++) {
        struct promote_one *o = &ps->one[ps->n];
        if (!b->promote || !b->promote[i].from)
            continue;
        *o = (struct promote_one){.w = w, .cache = (uint32_t)i, .old = b->promote[i].from};
        if (!promote_open(o, b))
            continue;
        ps->n++;
        ps->left++;
        io_again(&w->loop, &o->io);
    }
    return 0;
}

void promotes_fini(struct worker *w)
{
    struct promotes *ps = w->promotes;
    for (size_t i = 0; ps && i < ps->n; i++) {
        if (ps->one[i].p)
            promote_close(&ps->one[i]);
    }
    free(ps);
    w->promotes = NULL;
}
