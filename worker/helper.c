/* The helper: a worker without listeners that resolves upstream names for all, keeps caches on disk
 * (persist.c) and compresses anew what they are asked for often (recode.c). READY after the
 * first round of answers, or when that takes too long: a name that does not resolve never stops a
 * start. */
#include "worker/state.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "worker/upstream/resolver.h"

#include <stdlib.h>
#include <sys/epoll.h>

#define HELPER_FIRST_ROUND_MS 2000u

struct helper_watch {
    struct io io;
    struct list link;
    struct worker *w;
    bool rd, wr;
    struct loop_corpse corpse;
};

static void helper_plan(struct worker *w)
{
    int ms = resolver_timeout_ms(w->resolver, clock_ms());
    if (ms >= 0)
        timer_set_at(&w->loop.timers, &w->resolve_due, clock_ms() + (uint64_t)ms);
    if (!w->ready_sent && resolver_first_round_done(w->resolver))
        channel_ready(w);
}

static void helper_on_tick(struct timer *t)
{
    struct worker *w = CONTAINER(t, struct worker, resolve_due);
    resolver_tick(w->resolver, clock_ms());
    helper_plan(w);
}

static void helper_on_io(struct io *io)
{
    struct helper_watch *h = CONTAINER(io, struct helper_watch, io);
    struct worker *w = h->w;
    bool rd = io->ready & IO_READ, wr = io->ready & IO_WRITE;
    io->ready = 0;
    resolver_ready(w->resolver, io->fd, rd, wr);
    helper_plan(w);
}

static void helper_watch(void *arg, int fd, bool rd, bool wr)
{
    struct worker *w = arg;
    struct helper_watch *h = NULL;
    LIST_EACH(it, &w->watched)
    {
        struct helper_watch *x = CONTAINER(it, struct helper_watch, link);
        if (x->io.fd == fd)
            h = x;
    }
    if (!rd && !wr) {
        if (!h)
            return;
        io_remove(&w->loop, &h->io);
        h->io.fd = -1;
        list_remove(&h->link);
        loop_bury(&w->loop, &h->corpse, h, &w->watches);
        return;
    }
    struct epoll_event ev = {.events = (rd ? EPOLLIN : 0u) | (wr ? EPOLLOUT : 0u)};
    if (h) {
        ev.data.ptr = &h->io;
        epoll_ctl(w->loop.ep, EPOLL_CTL_MOD, fd, &ev);
        return;
    }
    h = pool_get(&w->watches);
    if (!h)
        return;
    h->io = (struct io){.fd = fd, .handler = helper_on_io};
    h->w = w;
    ev.data.ptr = &h->io;
    list_append(&w->watched, &h->link);
    epoll_ctl(w->loop.ep, EPOLL_CTL_ADD, fd, &ev);
}

static void helper_first_round_over(struct timer *t)
{
    channel_ready(CONTAINER(t, struct worker, log_due));
}

struct cache_worker *helper_joined(struct worker *w, size_t cache)
{
    const struct worker_boot *b = w->boot;
    struct cache_worker **at = &w->joined[cache];
    if (!*at) {
        int e = cache_join(b->cache[cache], slot_owner_id(b->segment, b->slot), NULL, NULL, at);
        if (e < 0)
            LOG_WARN("cache_join", "cache " SLICE_FMT " cannot be joined by the helper: %s",
                     SLICE_ARG(b->config->cache[cache]->name), err_text(e));
    }
    return *at;
}

int helper_init(struct worker *w)
{
    const struct worker_boot *b = w->boot;
    const struct conf_words *ns = &b->config->global.nameservers;
    w->joined = calloc(b->config->ncache + 1, sizeof(struct cache_worker *));
    if (!w->joined)
        return -ERR_NOMEM;
    pool_init(&w->watches, "resolver sockets", sizeof(struct helper_watch));
    const struct resolver_opts o = {
        .nameserver = ns->v, .nnameserver = ns->n, .ops = {.watch = helper_watch, .arg = w}};
    int e = resolver_new(b->segment, slot_owner_id(b->segment, b->slot), &o, &w->resolver);
    if (e < 0)
        return e;
    size_t nth = 0;
    for (size_t i = 0; i < b->config->nupstream; i++)
        for (size_t j = 0; j < b->config->upstream[i]->k.server.n; j++, nth++)
            if (b->resolve_id[nth] != UINT32_MAX) {
                e = resolver_add(w->resolver, b->resolve_id[nth],
                                 b->config->upstream[i]->k.server.v[j].resolve_ms);
                if (e < 0)
                    return e;
            }
    timer_init(&w->resolve_due, helper_on_tick);
    timer_init(&w->log_due, helper_first_round_over);
    timer_set_at(&w->loop.timers, &w->log_due, clock_ms() + HELPER_FIRST_ROUND_MS);
    resolver_tick(w->resolver, clock_ms());
    helper_plan(w);
    e = persist_init(w);
    return e < 0 ? e : recode_helper_init(w);
}

void helper_fini(struct worker *w)
{
    recode_helper_fini(w);
    persist_fini(w);
    for (size_t i = 0; w->joined && i < w->boot->config->ncache; i++)
        cache_leave(&w->joined[i]);
    free(w->joined);
    resolver_free(&w->resolver);
}
