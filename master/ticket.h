/* Session ticket keys, the master's side: makes the first, rotates them, carries them over reloads
 * and binary upgrades. The ring itself is in shm/ticket.h. */
#ifndef MASTER_TICKET_H
#define MASTER_TICKET_H

#include "base/buf.h"
#include "config/config.h"
#include "shm/ticket.h"

#define TICKET_PERIODS 3u /* a key is accepted for so many rotations after it was made */

/* What the ring has to be at now_ms (wall clock): keys that are over are gone; the first one is
 * younger than a period, by making a new one. random fills n bytes: 0 or negative. 1 changed, 0 as
 * it was, or random's error (keys that are over are gone all the same). */
int ticket_rotate(struct ticket_ring *r, uint64_t now_ms, uint64_t period_ms,
                  int (*random)(void *p, size_t n));
/* Milliseconds until ticket_rotate() has something to do, at most UINT32_MAX; 0 for an empty ring.
 */
uint64_t ticket_due_ms(const struct ticket_ring *r, uint64_t now_ms, uint64_t period_ms);

/* A configuration comes into force: its period holds from now on. From the first one on that has a
 * TLS listener with session tickets there is a ring, until the end of the program. */
void ticket_configure(struct segment *s, const struct config *c);
void ticket_stop(void);

/* Over an upgrade: a line `ticket MADE_MS PERIOD_MS kHEX` for each key, for a new program whose
 * segment has another layout. */
void ticket_describe(const struct segment *s, struct buf *out);
/* Appends the key of such a line. False when it is none. */
bool ticket_parse(uint64_t made_ms, struct slice text, struct ticket_ring *r);
/* Goes on with the keys of the old program: its ring is put where the segment has none. */
void ticket_adopt(struct segment *s, const struct ticket_ring *r, uint64_t period_ms);

#endif
