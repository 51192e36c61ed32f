/* The timer wheel; see timer.h. */
#include "worker/io/timer.h"

#define TIMER_MASK (TIMER_SLOTS - 1)

void timers_init(struct timers *w, uint64_t now_ms)
{
    for (unsigned i = 0; i < TIMER_SLOTS; i++)
        list_init(&w->slot[i]);
    for (unsigned i = 0; i < TIMER_SLOTS / 64; i++)
        w->used[i] = 0;
    w->tick = now_ms / TIMER_SLOT_MS;
}

void timer_init(struct timer *t, void (*fire)(struct timer *t))
{
    list_init(&t->link);
    t->deadline = TIMER_NEVER;
    t->fire = fire;
}

/* The tick in which a timer is looked at: the first one that begins at or after its deadline, one
 * turn of the wheel ahead at most. */
static uint64_t timer_tick(const struct timers *w, uint64_t deadline)
{
    uint64_t tick = (deadline + TIMER_SLOT_MS - 1) / TIMER_SLOT_MS;
    if (tick <= w->tick)
        tick = w->tick + 1;
    if (tick > w->tick + TIMER_SLOTS - 1)
        tick = w->tick + TIMER_SLOTS - 1;
    return tick;
}

static void timer_insert(struct timers *w, struct timer *t)
{
    uint64_t slot = timer_tick(w, t->deadline) & TIMER_MASK;
    list_append(&w->slot[slot], &t->link);
    w->used[slot / 64] |= UINT64_C(1) << (slot % 64);
}

void timer_set_at(struct timers *w, struct timer *t, uint64_t deadline_ms)
{
    uint64_t before = t->deadline;
    t->deadline = deadline_ms;
    if (list_linked(&t->link)) {
        /* A linked timer whose deadline is known and not later than the new one is found in time
         * anyway. */
        if (before != TIMER_NEVER && deadline_ms >= before)
            return;
        list_remove(&t->link);
    }
    timer_insert(w, t);
}

void timer_stop(struct timer *t)
{
    t->deadline = TIMER_NEVER;
    list_remove(&t->link);
}

static void timers_run_slot(struct timers *w, unsigned slot, uint64_t now_ms)
{
    struct list due;
    struct list *head = &w->slot[slot];
    w->used[slot / 64] &= ~(UINT64_C(1) << (slot % 64));
    if (list_empty(head))
        return;
    /* Moved aside first: a timer that is put back, or set by a callback, must not be met again in
     * this pass. */
    due.next = head->next;
    due.prev = head->prev;
    due.next->prev = &due;
    due.prev->next = &due;
    list_init(head);
    while (!list_empty(&due)) {
        struct timer *t = CONTAINER(due.next, struct timer, link);
        list_remove(&t->link);
        if (t->deadline == TIMER_NEVER)
            continue;
        if (t->deadline > now_ms) {
            timer_insert(w, t);
            continue;
        }
        t->deadline = TIMER_NEVER;
        t->fire(t);
    }
}

void timers_run(struct timers *w, uint64_t now_ms)
{
    uint64_t to = now_ms / TIMER_SLOT_MS;
    if (to > w->tick + TIMER_SLOTS)
        w->tick = to - TIMER_SLOTS; /* the process stood still for longer than the wheel: each slot
                                       once is enough */
    while (w->tick < to) {
        w->tick++;
        timers_run_slot(w, (unsigned)(w->tick & TIMER_MASK), now_ms);
    }
}

int timers_next(const struct timers *w, uint64_t now_ms)
{
    uint64_t start = (w->tick + 1) & TIMER_MASK;
    for (uint64_t d = 0; d < TIMER_SLOTS;) {
        uint64_t slot = (start + d) & TIMER_MASK;
        uint64_t word = w->used[slot / 64] >> (slot % 64);
        if (!word) {
            d += 64 - slot % 64;
            continue;
        }
        d += (uint64_t)__builtin_ctzll(word);
        if (d >= TIMER_SLOTS)
            break;
        uint64_t at = (w->tick + 1 + d) * TIMER_SLOT_MS;
        return at > now_ms ? (int)(at - now_ms) : 0;
    }
    return -1;
}
