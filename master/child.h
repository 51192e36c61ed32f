/* One worker or helper process: fork, channel, messages, end. */
#ifndef MASTER_CHILD_H
#define MASTER_CHILD_H

#include "base/msg.h"
#include "master/ev.h"
#include "master/gen_state.h"
#include "shm/slot.h"
#include "worker/worker.h"

#define CHILD_ADOPT                                                                                \
    16u /* predecessors of one worker: more of them than successors when workers shrink */
#define CHILD_HELPER UINT32_MAX /* number of the helper */

struct generation;
struct child {
    struct ev channel;
    struct generation *gen;
    enum worker_role role;
    uint32_t number; /* within the generation */
    pid_t pid;       /* 0 = no process */
    uint32_t slot;   /* UINT32_MAX: none of this segment */
    enum child_state state;
    uint32_t pending; /* messages that the full channel could not take yet, 1 << message type */
    struct worker_drain drain; /* payload of M_DRAIN */
    int successor;             /* its other payload while has_successor: the way to the successor */
    bool has_successor;
    int adopt[CHILD_ADOPT]; /* ways from predecessors, until M_ADOPT has gone */
    unsigned nadopt;
    struct worker_cover cover; /* payload of M_COVER: what it was told last */
    struct ev_timer respawn;
    struct deaths deaths;
    uint64_t started_ms;
    unsigned late;         /* looks of the watchdog in a row that found it late */
    bool draining_unheard; /* was told to drain and has not answered yet: it may still accept */
    bool killed;           /* by us: its death is no crash */
    uint64_t requests, cpu_ticks; /* at the last look */
    uint32_t requests_per_s, cpu_milli;
    char failed[512]; /* text of W_FAILED */
};

/* Forks it: a new slot, a new channel. 0, -ERR_FULL (no slot), -ERR_SYS. */
int child_spawn(struct child *c);
void child_set_state(struct child *c, enum child_state to);
/* Sends M_ACCEPT, M_COVER and M_DRAIN (payloads in c), M_STOP, M_REOPEN or M_LOG_LEVEL now, or as
 * soon as the channel takes it. */
void child_send(struct child *c, enum worker_msg type);
/* Before M_DRAIN: makes a channel over which `from` hands its idle connections and tunnels to `to`.
 * Without one (no descriptors, too many predecessors) `from` finishes them itself. */
void child_introduce(struct child *from, struct child *to);
/* 0, or -ERR_AGAIN: nothing is kept. */
int child_query(struct child *c, const struct worker_query *q);
void child_kill(struct child *c, int sig);
/* Watches the channel of an inherited child. */
int child_watch(struct child *c, int fd);
/* After waitpid: reads what is left in the channel, closes it, reaps the slot. The panic record is
 * copied out first. */
void child_bury(struct child *c, char panic[SLOT_PANIC_SIZE]);
const char *child_name(const struct child *c); /* "w3", "helper"; static */
/* In a freshly forked process: default signals, and no descriptor of the master but those in keep
 * (sorted here) and 0 to 2. */
void child_clean(int *keep, size_t n);

#endif
