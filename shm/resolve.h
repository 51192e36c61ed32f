/* Addresses of upstream host names: written by the helper, read by workers. One entry per name; a sequence number per entry
 * (odd while written, carrying no lock: a reader that meets an odd or changed number keeps its last copy). */
#ifndef SHM_RESOLVE_H
#define SHM_RESOLVE_H

#include "base/addr.h"
#include "shm/segment.h"

#define RESOLVE_ADDRS 16u

struct resolve_answer {
    uint32_t version;                 /* grows with each change; 0 = never resolved */
    uint32_t n;
    union addr addr[RESOLVE_ADDRS];   /* port 0 */
    uint64_t resolved_ms, expires_ms; /* CLOCK_MONOTONIC */
    int error;                        /* 0, or a positive ares-independent code: 1 not found, 2 timeout, 3 refused/other */
};

/* Master: find or append. -ERR_FULL. */
int resolve_register(struct segment *s, struct slice name, uint32_t *ret_id);
struct slice resolve_name(const struct segment *s, uint32_t id);
uint32_t resolve_count(const struct segment *s);
/* Helper. A failed resolution keeps the old addresses and sets error. */
void resolve_publish(struct segment *s, uint32_t id, const struct resolve_answer *a);
/* Worker: cheap check first (version), then copy. False when nothing new since *version. */
uint32_t resolve_version(const struct segment *s, uint32_t id);
bool resolve_read(const struct segment *s, uint32_t id, struct resolve_answer *ret);

#endif
