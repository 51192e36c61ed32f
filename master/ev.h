/* The master's own small loop: descriptors and timers, nothing hot. One event per wait, so that a
 * handler may free anything. */
#ifndef MASTER_EV_H
#define MASTER_EV_H

#include "base/list.h"

#include <stdint.h>
#include <sys/epoll.h>

struct ev {
    int fd; /* -1 = not watched */
    uint32_t events;
    void (*fn)(struct ev *e, uint32_t events);
};
struct ev_timer {
    struct list link;
    uint64_t due_ms;
    void (*fn)(struct ev_timer *t);
};

int ev_init(void);
void ev_fini(void);
/* Level-triggered. 0 or -ERR_SYS. */
int ev_add(struct ev *e, int fd, uint32_t events, void (*fn)(struct ev *e, uint32_t events));
void ev_want(struct ev *e, uint32_t events);
void ev_del(struct ev *e);   /* stops watching; the fd stays open */
void ev_close(struct ev *e); /* stops watching and closes; safe on an fd of -1 */
/* A timer is zeroed before its first use. Setting a running one moves it. */
void ev_timer_set(struct ev_timer *t, uint64_t delay_ms, void (*fn)(struct ev_timer *t));
void ev_timer_stop(struct ev_timer *t);
static inline bool ev_timer_running(const struct ev_timer *t)
{
    return list_linked(&t->link);
}
/* Waits for one event or the next timer and handles it; updates the clock. */
void ev_turn(void);

#endif
