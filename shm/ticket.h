/* Session ticket keys: one ring of them, written by the master, read by every worker, so that a
 * ticket made by one is taken by all, over reloads and binary upgrades. Two buffers and a sequence
 * number: a death in the middle of writing leaves the old ring. */
#ifndef SHM_TICKET_H
#define SHM_TICKET_H

#include "shm/segment.h"

#define TICKET_KEYS 4u

struct ticket_key {
    uint8_t name[16]; /* travels in clear in front of each ticket (RFC 5077 section 4) */
    uint8_t aes[32], hmac[32];
    uint64_t made_ms; /* wall clock, milliseconds since 1970 */
};
struct ticket_ring { /* newest first: key[0] encrypts, the others only decrypt */
    uint32_t n;      /* 0 = none yet */
    struct ticket_key key[TICKET_KEYS];
};

/* Master only. Publishes r and erases the ring before it from shared memory; more than TICKET_KEYS
 * keys are cut. */
void ticket_put(struct segment *s, const struct ticket_ring *r);
/* True when there is a ring other than number *seq: it is copied and *seq updated. False when there
 * is nothing new (also: it changes just now, or its checksum is wrong); *ret is untouched then. The
 * first *seq is 0. One load when nothing is new: cheap enough for every handshake. */
bool ticket_get(const struct segment *s, uint32_t *seq, struct ticket_ring *ret);

#endif
