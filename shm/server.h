/* Upstream servers as all workers see them: identity, circuit, operator's override, in-flight
 * counts. Counts live in one row per slot (single writer) and are summed; a death zeroes its row,
 * so counts stay exact. */
#ifndef SHM_SERVER_H
#define SHM_SERVER_H

#include "shm/segment.h"
#include "shm/slot.h"

#include <stdatomic.h>

enum server_state { SERVER_UP, SERVER_EJECTED, SERVER_HALF_OPEN, SERVER__COUNT };
const char *server_state_name(enum server_state st);
enum server_admin { SERVER_ADMIN_READY, SERVER_ADMIN_DRAIN, SERVER_ADMIN_DOWN };

/* Per-slot row of one server. active: requests on it (connecting included); idle: pooled
 * connections. */
struct server_row {
    _Alignas(64) _Atomic uint32_t active;
    _Atomic uint32_t idle, queued, retrying;
    _Atomic uint64_t requests, failures, bytes_in, bytes_out;
    _Atomic uint64_t connects, reuses, first_byte_us; /* first_byte_us: sum, for a mean */
    _Atomic uint64_t spare;
};

/* Master, at config load: finds the entry of `key` or takes a free one; survives reloads. The id is
 * stable while the entry lives. -ERR_FULL. `generation` marks it as in use; entries no living
 * generation uses and with all rows zero are reused. */
int server_register(struct segment *s, uint64_t key, struct slice name, uint32_t generation,
                    uint32_t *ret_id);
void server_retire(struct segment *s, uint32_t oldest_living_generation);
struct slice server_name(const struct segment *s,
                         uint32_t id);          /* SLICE_NONE for an entry not in use */
uint32_t server_count(const struct segment *s); /* highest id in use + 1 */

struct server_row *server_row(struct segment *s, uint32_t slot, uint32_t id);
/* Sums over all slots. */
uint32_t server_active(const struct segment *s, uint32_t id);
uint32_t server_idle(const struct segment *s, uint32_t id);
struct server_sum {
    uint64_t active, idle, queued, retrying, requests, failures, bytes_in, bytes_out, connects,
        reuses, first_byte_us;
};
void server_sum(const struct segment *s, uint32_t id, struct server_sum *ret);
/* Grows whenever any server's state, override or registration changes; a cheap "look again" for
 * caches of them. */
uint32_t server_epoch(const struct segment *s);
/* Takes a place for a request: own row +1, then the sum is checked against max (0 = none); over it:
 * -1 again and -ERR_FULL. Increment-then-check never exceeds max whatever the interleaving. */
int server_enter(struct segment *s, uint32_t slot, uint32_t id, uint32_t max);
/* Gives it back; returns a slot that waits for a place (its want bit is cleared; kick its eventfd),
 * or UINT32_MAX. The waiter's side: server_want, then server_enter once more, and only then sleep.
 * The kick may go to a slot whose process has just died: therefore whoever calls slot_reap kicks
 * every living slot afterwards, and a kicked slot tries its whole queue. */
uint32_t server_leave(struct segment *s, uint32_t slot, uint32_t id);
void server_want(struct segment *s, uint32_t slot,
                 uint32_t id); /* registers interest in a free place */
void server_unwant(struct segment *s, uint32_t slot, uint32_t id);

/* Passive health: one 64-bit word per server changed by CAS (consecutive failures, window counts in
 * their own word, open until, back-off, epoch). now_ms is CLOCK_MONOTONIC. */
struct server_policy {
    uint32_t max_fails; /* in a row; 0 = never eject */
    uint32_t window_ms; /* and > half of >= 20 within it */
    uint32_t eject_ms;  /* times the ejections in a row, at most 5 min */
};
void server_succeeded(struct segment *s, uint32_t id, const struct server_policy *p,
                      uint64_t now_ms);
/* Returns true when this failure ejected the server (the caller logs it). may_eject = false only
 * counts. */
bool server_failed(struct segment *s, uint32_t id, const struct server_policy *p, uint64_t now_ms,
                   bool may_eject);
/* May a request go there now? UP: yes. EJECTED until its time; then HALF_OPEN admits one probe: the
 * caller that gets *ret_probe = true owns it (owner id stored; the reaper clears it) and reports
 * succeeded/failed. */
bool server_usable(struct segment *s, uint32_t id, slot_oid me, uint64_t now_ms, bool *ret_probe);
/* Gives a probe back whose attempt said nothing about the server (client gone, no place); no effect
 * unless `me` owns it. */
void server_probe_release(struct segment *s, uint32_t id, slot_oid me);
slot_oid server_probe_owner(const struct segment *s, uint32_t id);
/* Only looks; for eject shares and status. */
enum server_state server_state(const struct segment *s, uint32_t id, uint64_t now_ms);
uint64_t server_state_since_ms(const struct segment *s, uint32_t id);
uint32_t server_fails(const struct segment *s, uint32_t id);
uint64_t server_ejected_for_ms(const struct segment *s, uint32_t id,
                               uint64_t now_ms);             /* remaining */
int server_last_error(const struct segment *s, uint32_t id); /* enum err of the last failure */
void server_set_last_error(struct segment *s, uint32_t id, int err);

/* Operator's overrides: survive reload until cleared. weight 0 = as configured. */
void server_set_admin(struct segment *s, uint32_t id, enum server_admin a);
enum server_admin server_admin(const struct segment *s, uint32_t id);
void server_set_weight(struct segment *s, uint32_t id, uint32_t weight);
uint32_t server_weight(const struct segment *s, uint32_t id);
/* Any worker's observation of how long the server keeps idle connections open (0 = unknown), in ms;
 * lowest wins, slowly forgotten. */
void server_note_idle_close(struct segment *s, uint32_t id, uint32_t idle_ms);
uint32_t server_idle_allowance(const struct segment *s, uint32_t id);

#endif
