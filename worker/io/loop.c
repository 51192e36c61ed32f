/* The event loop; see loop.h. */
#include "worker/io/loop.h"

#include "base/clock.h"
#include "base/err.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define LOOP_EVENTS 512

int loop_init(struct loop *l)
{
    *l = (struct loop){.ep = epoll_create1(EPOLL_CLOEXEC)};
    if (l->ep < 0)
        return -ERR_SYS;
    list_init(&l->again);
    list_init(&l->dead);
    list_init(&l->done);
    clock_update();
    timers_init(&l->timers, clock_ms());
    l->scratch = malloc(LOOP_SCRATCH);
    l->scratch_head = malloc(LOOP_SCRATCH);
    if (!l->scratch || !l->scratch_head) {
        loop_fini(l);
        return -ERR_NOMEM;
    }
    return 0;
}

static void loop_bury_all(struct list *corpses)
{
    while (!list_empty(corpses)) {
        struct loop_corpse *c = CONTAINER(corpses->next, struct loop_corpse, link);
        list_remove(&c->link);
        pool_put(c->pool, c->obj);
    }
}

void loop_bury_dead(struct loop *l)
{
    loop_bury_all(&l->done);
    loop_bury_all(&l->dead);
}

void loop_fini(struct loop *l)
{
    loop_bury_dead(l);
    if (l->ep >= 0)
        close(l->ep);
    free(l->scratch);
    free(l->scratch_head);
    *l = (struct loop){.ep = -1};
}

int io_add(struct loop *l, struct io *io)
{
    struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = io};
    return epoll_ctl(l->ep, EPOLL_CTL_ADD, io->fd, &ev) ? -ERR_SYS : 0;
}

int io_add_level(struct loop *l, struct io *io, bool exclusive)
{
    struct epoll_event ev = {.events = EPOLLIN, .data.ptr = io};
    if (exclusive)
        ev.events |= EPOLLEXCLUSIVE;
    return epoll_ctl(l->ep, EPOLL_CTL_ADD, io->fd, &ev) ? -ERR_SYS : 0;
}

void io_remove(struct loop *l, struct io *io)
{
    epoll_ctl(l->ep, EPOLL_CTL_DEL, io->fd, NULL);
    if (io->queued) {
        io->queued = false;
        list_remove(&io->again);
    }
}

void io_again(struct loop *l, struct io *io)
{
    if (io->queued || io->fd < 0)
        return;
    io->queued = true;
    list_append(&l->again, &io->again);
}

void io_close(struct io *io)
{
    if (io->queued) {
        io->queued = false;
        list_remove(&io->again);
    }
    if (io->fd < 0)
        return;
    close(io->fd);
    io->fd = -1;
}

void loop_bury(struct loop *l, struct loop_corpse *c, void *obj, struct pool *pool)
{
    c->pool = pool;
    c->obj = obj;
    list_append(&l->dead, &c->link);
}

void loop_bury_soon(struct loop *l, struct loop_corpse *c, void *obj, struct pool *pool)
{
    c->pool = pool;
    c->obj = obj;
    list_append(&l->done, &c->link);
}

static uint8_t loop_bits(uint32_t events)
{
    uint8_t r = 0;
    if (events & EPOLLIN)
        r |= IO_READ;
    if (events & EPOLLOUT)
        r |= IO_WRITE;
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
        r |= IO_HUP | IO_READ;
    if (events & (EPOLLHUP | EPOLLERR))
        r |= IO_ERR | IO_WRITE;
    return r;
}

/* What was left over in the turn before; what is queued meanwhile waits for the next one. */
static void loop_run_again(struct loop *l, struct list *queue)
{
    while (!list_empty(queue)) {
        struct io *io = CONTAINER(queue->next, struct io, again);
        list_remove(&io->again);
        io->queued = false;
        io->handler(io);
        loop_bury_all(&l->done);
    }
}

int loop_run(struct loop *l)
{
    static struct epoll_event ev[LOOP_EVENTS];
    while (!l->stop) {
        struct list left;
        list_init(&left);
        int timeout = timers_next(&l->timers, clock_ms());
        if (!list_empty(&l->again)) {
            timeout = 0;
            left = l->again;
            left.next->prev = left.prev->next = &left;
            list_init(&l->again);
        }
        int n = epoll_wait(l->ep, ev, LOOP_EVENTS, timeout);
        if (n < 0 && errno != EINTR)
            return -ERR_SYS;
        clock_update();
        for (int i = 0; i < n; i++) {
            struct io *io = ev[i].data.ptr;
            if (io->fd < 0)
                continue;
            io->ready |= loop_bits(ev[i].events);
            io->handler(io);
            loop_bury_all(&l->done);
        }
        loop_run_again(l, &left);
        timers_run(&l->timers, clock_ms());
        l->turns++;
        if (l->on_turn)
            l->on_turn(l->arg);
        loop_bury_dead(l);
    }
    return 0;
}
