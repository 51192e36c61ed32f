/* Worker slots: claiming, states, views, and the reaper that takes back all a dead slot held. */
#include "shm/slot.h"

#include "base/clock.h"
#include "base/err.h"
#include "shm/counter.h"
#include "shm/layout.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const state_names[SLOT__COUNT] = {
    [SLOT_FREE] = "free",         [SLOT_STARTING] = "starting", [SLOT_LIVE] = "live",
    [SLOT_DRAINING] = "draining", [SLOT_DEAD] = "dead",         [SLOT_REAPING] = "reaping"};

/* Bit t of legal[f]: f -> t. */
static const uint8_t legal[SLOT__COUNT] = {[SLOT_FREE] = 1u << SLOT_STARTING,
                                           [SLOT_STARTING] = 1u << SLOT_LIVE | 1u << SLOT_DRAINING |
                                                             1u << SLOT_DEAD,
                                           [SLOT_LIVE] = 1u << SLOT_DRAINING | 1u << SLOT_DEAD,
                                           [SLOT_DRAINING] = 1u << SLOT_DEAD,
                                           [SLOT_DEAD] = 1u << SLOT_REAPING,
                                           [SLOT_REAPING] = 1u << SLOT_FREE};

const char *slot_state_name(enum slot_state st)
{
    return (unsigned)st < SLOT__COUNT ? state_names[st] : "broken";
}

static uint64_t word(uint32_t state, uint32_t inc, uint32_t pid)
{
    return (uint64_t)pid << 32 | (uint64_t)(inc & 0xffffffu) << 8 | state;
}

uint32_t slot_bound(const struct segment *s)
{
    return layout_min(atomic_load_explicit(&layout_hot(s)->slot_bound, memory_order_seq_cst),
                      s->nslots);
}

static char *panic_of(const struct segment *s, uint32_t index)
{
    return layout_at(s, AREA_PANIC, (size_t)index * SLOT_PANIC_SIZE);
}

int slot_claim(struct segment *s, uint32_t generation, uint32_t worker, uint32_t *ret_index)
{
    for (uint32_t i = 0; i < s->nslots; i++) {
        struct slot_rec *r = layout_slot(s, i);
        uint64_t w = atomic_load_explicit(&r->id, memory_order_acquire);
        const uint32_t inc = slot_word_inc(w) == 0xffffffu
                                 ? 1
                                 : slot_word_inc(w) + 1; /* never 0: an owner id is never 0 */

        if (slot_word_state(w) != SLOT_FREE)
            continue;
        /* Content before the word that publishes it; the bound before anyone can write to the rows.
         */
        if (slot_bound(s) <= i)
            atomic_store_explicit(&layout_hot(s)->slot_bound, i + 1, memory_order_seq_cst);
        *panic_of(s, i) = '\0';
        atomic_store_explicit(&r->generation, generation, memory_order_relaxed);
        atomic_store_explicit(&r->worker, worker, memory_order_relaxed);
        atomic_store_explicit(&r->start_time, 0, memory_order_relaxed);
        atomic_store_explicit(&r->started_ms, clock_ms(), memory_order_relaxed);
        atomic_store_explicit(&r->heartbeat_ms, clock_ms(), memory_order_relaxed);
        if (!atomic_compare_exchange_strong(&r->id, &w, word(SLOT_STARTING, inc, 0)))
            continue;
        *ret_index = i;
        return 0;
    }
    return -ERR_FULL;
}

/* Field 22 of /proc/PID/stat; the command in field 2 may hold anything, so counting begins behind
 * its last parenthesis. */
static uint64_t start_time_of(pid_t pid)
{
    char path[64], text[1024], *p;
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    p = strrchr(text, ')');
    for (int field = 2; p && field < 22; field++) {
        p = strchr(p, ' ');
        if (p)
            p++;
    }
    return p ? strtoull(p, NULL, 10) : 0;
}

void slot_set_pid(struct segment *s, uint32_t index, pid_t pid)
{
    struct slot_rec *r;
    uint64_t w;

    if (index >= s->nslots)
        return;
    r = layout_slot(s, index);
    atomic_store_explicit(&r->start_time, start_time_of(pid), memory_order_relaxed);
    w = atomic_load(&r->id);
    for (int i = 0; i < LAYOUT_TRIES; i++) {
        if (atomic_compare_exchange_strong(
                &r->id, &w, word(slot_word_state(w), slot_word_inc(w), (uint32_t)pid)))
            return;
    }
}

int slot_set_state(struct segment *s, uint32_t index, enum slot_state to)
{
    struct slot_rec *r;
    uint64_t w;

    if (index >= s->nslots || (unsigned)to >= SLOT__COUNT)
        return -ERR_RANGE;
    r = layout_slot(s, index);
    w = atomic_load(&r->id);
    for (int i = 0; i < LAYOUT_TRIES; i++) {
        const uint32_t from = slot_word_state(w);

        if (from == (uint32_t)to)
            return 0;
        /* Claim and reap own their ends of the life. */
        if (from >= SLOT__COUNT || !(legal[from] >> to & 1) || to == SLOT_STARTING ||
            to == SLOT_REAPING || to == SLOT_FREE)
            return -ERR_INVAL;
        if (atomic_compare_exchange_strong(&r->id, &w, (w & ~(uint64_t)0xff) | (uint64_t)to))
            return 0;
    }
    return -ERR_AGAIN;
}

void slot_reap(struct segment *s, uint32_t index)
{
    struct slot_rec *r;
    struct gauge_row *g;
    uint64_t w;

    if (index >= s->nslots)
        return;
    r = layout_slot(s, index);
    w = atomic_load(&r->id);
    for (int i = 0; slot_word_state(w) != SLOT_REAPING; i++) {
        if (slot_word_state(w) == SLOT_FREE || i == LAYOUT_TRIES)
            return;
        if (atomic_compare_exchange_strong(
                &r->id, &w, word(SLOT_REAPING, slot_word_inc(w), (uint32_t)(w >> 32))))
            w = atomic_load(&r->id);
    }
    g = layout_gauge_row(s, index);
    for (unsigned i = 0; i < GAU__COUNT; i++)
        atomic_store_explicit(&g->v[i], 0, memory_order_relaxed);
    server_reap(s, index);
    resolve_reap(s, index);
    cert_reap(s, index);
    session_reap(s, index);
    /* Last: until here the incarnation is dead but not swept, and a reaper that dies is simply run
     * again. */
    atomic_compare_exchange_strong(&r->id, &w, word(SLOT_FREE, slot_word_inc(w), 0));
}

void slot_view(const struct segment *s, uint32_t index, struct slot_view *ret)
{
    const struct slot_rec *r;
    uint64_t w, again;

    memset(ret, 0, sizeof(*ret));
    ret->index = index;
    if (index >= s->nslots)
        return;
    r = layout_slot(s, index);
    w = atomic_load_explicit(&r->id, memory_order_seq_cst);
    for (int i = 0; i < LAYOUT_TRIES; i++) {
        ret->generation = atomic_load_explicit(&r->generation, memory_order_relaxed);
        ret->worker = atomic_load_explicit(&r->worker, memory_order_relaxed);
        ret->started_ms = atomic_load_explicit(&r->started_ms, memory_order_relaxed);
        ret->heartbeat_ms = atomic_load_explicit(&r->heartbeat_ms, memory_order_acquire);
        again = atomic_load_explicit(&r->id, memory_order_seq_cst);
        if (again == w)
            break;
        w = again;
    }
    ret->state = (enum slot_state)slot_word_state(w);
    ret->incarnation = slot_word_inc(w);
    ret->pid = (pid_t)(w >> 32);
}

uint64_t slot_start_time(const struct segment *s, uint32_t index)
{
    return index < s->nslots
               ? atomic_load_explicit(&layout_slot(s, index)->start_time, memory_order_relaxed)
               : 0;
}

slot_oid slot_owner_id(const struct segment *s, uint32_t index)
{
    if (index >= s->nslots)
        return 0;
    return index |
           slot_word_inc(atomic_load_explicit(&layout_slot(s, index)->id, memory_order_acquire))
               << 8;
}

bool slot_alive(const struct segment *s, slot_oid oid)
{
    const uint32_t index = oid & 0xff;
    uint64_t w;

    if (oid == 0 || index >= s->nslots)
        return false;
    w = atomic_load_explicit(&layout_slot(s, index)->id, memory_order_acquire);
    switch (slot_word_state(w)) {
    case SLOT_STARTING:
    case SLOT_LIVE:
    case SLOT_DRAINING:
        return slot_word_inc(w) == oid >> 8;
    default:
        return false;
    }
}

void slot_heartbeat(struct segment *s, uint32_t index, uint64_t now_ms)
{
    if (index < s->nslots)
        atomic_store_explicit(&layout_slot(s, index)->heartbeat_ms, now_ms, memory_order_relaxed);
}

char *slot_panic_record(struct segment *s, uint32_t index)
{
    return index < s->nslots ? panic_of(s, index) : NULL;
}
