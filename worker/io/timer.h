/* Timers: a hashed wheel of 16 ms slots with lazy re-arming. Arming, moving later and cancelling
 * are O(1); a timer that was moved to a later time stays where it is and is looked at again when
 * its slot comes up. */
#ifndef WORKER_IO_TIMER_H
#define WORKER_IO_TIMER_H

#include "base/list.h"

#include <stdint.h>

#define TIMER_SLOT_MS 16u
#define TIMER_SLOTS   1024u
#define TIMER_NEVER   UINT64_MAX

struct timer {
    struct list link;
    uint64_t deadline;             /* ms on the monotonic clock; TIMER_NEVER = off */
    void (*fire)(struct timer *t); /* the timer is off when called; it may be set again */
};

struct timers {
    struct list slot[TIMER_SLOTS];
    uint64_t used[TIMER_SLOTS / 64]; /* a bit per slot that may hold timers */
    uint64_t tick;                   /* last tick looked at */
};

void timers_init(struct timers *w, uint64_t now_ms);
/* Fires everything due. */
void timers_run(struct timers *w, uint64_t now_ms);
/* Milliseconds until the next slot that holds anything, -1 when there is none. */
int timers_next(const struct timers *w, uint64_t now_ms);

void timer_init(struct timer *t, void (*fire)(struct timer *t));
void timer_set_at(struct timers *w, struct timer *t, uint64_t deadline_ms);
/* Switches off and unlinks: before the object goes. */
void timer_stop(struct timer *t);
/* Switches off without unlinking: for hot paths that will set it again. */
static inline void timer_off(struct timer *t)
{
    t->deadline = TIMER_NEVER;
}
static inline bool timer_is_set(const struct timer *t)
{
    return t->deadline != TIMER_NEVER;
}

#endif
