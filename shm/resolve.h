/* Addresses of upstream host names: written by a helper, read by workers. Each entry has two
 * buffers and a sequence number that says which one is shown; a writer fills the other one, under
 * an owner word, so that a death in the middle leaves nothing behind. */
#ifndef SHM_RESOLVE_H
#define SHM_RESOLVE_H

#include "base/addr.h"
#include "shm/slot.h"

#define RESOLVE_ADDRS 16u

struct resolve_answer {
    uint32_t version; /* grows when the set of addresses changes; 0 = never resolved */
    uint32_t n;
    union addr addr[RESOLVE_ADDRS];   /* port 0 */
    uint64_t resolved_ms, expires_ms; /* CLOCK_MONOTONIC */
    int error; /* 0, or a positive ares-independent code: 1 not found, 2 timeout, 3 refused/other */
};

/* Master: find or append. -ERR_FULL; -ERR_INVAL for an empty name or one over 255 bytes. */
int resolve_register(struct segment *s, struct slice name, uint32_t *ret_id);
struct slice resolve_name(const struct segment *s, uint32_t id);
uint32_t resolve_count(const struct segment *s);
/* Helper `me`. a->version is ignored. A failed resolution (error set) keeps the old addresses; the
 * same addresses in another order keep the old order and version. -ERR_AGAIN: the helper of another
 * generation is writing this entry just now; its answer is as good. -ERR_RANGE. */
int resolve_publish(struct segment *s, slot_oid me, uint32_t id, const struct resolve_answer *a);
/* Worker: cheap check first (version), then copy. False when there is no such name or it changed
 * faster than it could be read. */
uint32_t resolve_version(const struct segment *s, uint32_t id);
bool resolve_read(const struct segment *s, uint32_t id, struct resolve_answer *ret);

#endif
