/* The master's own small loop: descriptors and timers. */
#include "master/ev.h"

#include "base/clock.h"
#include "base/err.h"
#include "base/panic.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static int ev_epoll = -1;
static struct list ev_timers; /* sorted by due_ms; there are a few dozen at most */

int ev_init(void)
{
    list_init(&ev_timers);
    ev_epoll = epoll_create1(EPOLL_CLOEXEC);
    clock_update();
    return ev_epoll < 0 ? -ERR_SYS : 0;
}

void ev_fini(void)
{
    if (ev_epoll >= 0)
        close(ev_epoll);
    ev_epoll = -1;
}

int ev_add(struct ev *e, int fd, uint32_t events, void (*fn)(struct ev *e, uint32_t events))
{
    struct epoll_event ee = {.events = events, .data.ptr = e};
    e->fd = fd;
    e->events = events;
    e->fn = fn;
    return epoll_ctl(ev_epoll, EPOLL_CTL_ADD, fd, &ee) < 0 ? -ERR_SYS : 0;
}

void ev_want(struct ev *e, uint32_t events)
{
    struct epoll_event ee = {.events = events, .data.ptr = e};
    if (e->fd < 0 || e->events == events)
        return;
    e->events = events;
    epoll_ctl(ev_epoll, EPOLL_CTL_MOD, e->fd, &ee);
}

void ev_del(struct ev *e)
{
    /* Always explicitly: a forked child may hold the same open file, and epoll watches files, not
     * descriptors. */
    if (e->fd >= 0)
        epoll_ctl(ev_epoll, EPOLL_CTL_DEL, e->fd, NULL);
    e->fd = -1;
}

void ev_close(struct ev *e)
{
    int fd = e->fd;
    ev_del(e);
    if (fd >= 0)
        close(fd);
}

void ev_timer_set(struct ev_timer *t, uint64_t delay_ms, void (*fn)(struct ev_timer *t))
{
    list_remove(&t->link);
    t->due_ms = clock_ms() + delay_ms;
    t->fn = fn;
    struct list *at = ev_timers.prev;
    while (at != &ev_timers && CONTAINER(at, struct ev_timer, link)->due_ms > t->due_ms)
        at = at->prev;
    list_insert_between(&t->link, at, at->next);
}

void ev_timer_stop(struct ev_timer *t)
{
    list_remove(&t->link);
}

static int ev_wait_ms(void)
{
    if (list_empty(&ev_timers))
        return -1;
    uint64_t due = CONTAINER(ev_timers.next, struct ev_timer, link)->due_ms;
    if (due <= clock_ms())
        return 0;
    return due - clock_ms() > 60000 ? 60000 : (int)(due - clock_ms());
}

void ev_turn(void)
{
    struct epoll_event ee;
    clock_update();
    int n = epoll_wait(ev_epoll, &ee, 1, ev_wait_ms());
    MUST(n >= 0 || errno == EINTR);
    clock_update();
    if (n == 1) {
        struct ev *e = ee.data.ptr;
        e->fn(e, ee.events);
    }
    /* Those due now, no others that their handlers may set anew. */
    uint64_t now = clock_ms();
    while (!list_empty(&ev_timers)) {
        struct ev_timer *t = CONTAINER(ev_timers.next, struct ev_timer, link);
        if (t->due_ms > now)
            break;
        ev_timer_stop(t);
        t->fn(t);
        clock_update();
        if (clock_ms() > now + 100)
            break;
    }
}
