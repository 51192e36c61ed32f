/* Worker slots: who lives, which incarnation, its heartbeat, its panic record; and the reaper. */
#ifndef SHM_SLOT_H
#define SHM_SLOT_H

#include "shm/segment.h"

#include <stdatomic.h>
#include <sys/types.h>

enum slot_state {
    SLOT_FREE,
    SLOT_STARTING,
    SLOT_LIVE,
    SLOT_DRAINING,
    SLOT_DEAD,
    SLOT_REAPING,
    SLOT__COUNT
};
const char *slot_state_name(enum slot_state st);

/* An owner id: slot | incarnation << 8. 0 = nobody. */
typedef uint32_t slot_oid;

struct slot_view { /* a consistent copy for printing */
    uint32_t index;
    enum slot_state state;
    uint32_t incarnation;
    pid_t pid;
    uint32_t generation, worker; /* worker number within the generation; UINT32_MAX = helper */
    uint64_t started_ms, heartbeat_ms;
};

/* Master only. Claims a FREE slot -> STARTING with a new incarnation. -ERR_FULL. */
int slot_claim(struct segment *s, uint32_t generation, uint32_t worker, uint32_t *ret_index);
void slot_set_pid(struct segment *s, uint32_t index,
                  pid_t pid); /* also stores /proc/pid/stat start time */
int slot_set_state(struct segment *s, uint32_t index,
                   enum slot_state to); /* legal transitions only, one CAS */
/* Master only, after waitpid (any state but FREE: the caller knows that the process is gone) ->
 * REAPING -> FREE. Idempotent; safe to run again after the reaper's own death. Zeroes the gauges
 * and server gauges of the row, releases every word that carries the owner id, clears want bits. */
void slot_reap(struct segment *s, uint32_t index);
void slot_view(const struct segment *s, uint32_t index, struct slot_view *ret);
uint64_t
slot_start_time(const struct segment *s,
                uint32_t index); /* field 22 of /proc/PID/stat at slot_set_pid; 0 unknown */
slot_oid slot_owner_id(const struct segment *s, uint32_t index);
bool slot_alive(const struct segment *s, slot_oid oid);
/* Highest slot ever used + 1: bound for sums over rows. */
uint32_t slot_bound(const struct segment *s);

/* The worker's own side: pointers into its rows, taken once after fork. */
void slot_heartbeat(struct segment *s, uint32_t index, uint64_t now_ms);
#define SLOT_PANIC_SIZE 4096
char *slot_panic_record(struct segment *s,
                        uint32_t index); /* SLOT_PANIC_SIZE bytes, emptied by slot_claim */

#endif
