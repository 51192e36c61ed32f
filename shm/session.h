/* TLS 1.2 sessions by their id, for all workers: four places for each hash, the one that expires
 * first gives way. Whoever writes a place has its owner word; a reader copies, looks at the word
 * again and checks a sum: it never returns torn bytes. Losing a session costs a full handshake. */
#ifndef SHM_SESSION_H
#define SHM_SESSION_H

#include "shm/slot.h"

#include <sys/types.h>

#define SESSIONS       20480u
#define SESSION_MAX    480u /* bytes of one session, serialized */
#define SESSION_ID_MAX 32u  /* RFC 5246 section 7.4.1.2 */

/* Stores a session under its id (1..SESSION_ID_MAX bytes) until expires_ms of clock_ms(). `me` is
 * the caller's slot_owner_id(). 0; -ERR_RANGE too long, empty, or no such slot; -ERR_FULL all its
 * places are being written: not stored. */
int session_put(struct segment *s, slot_oid me, const uint8_t *id, size_t nid, const uint8_t *p,
                size_t n, uint64_t expires_ms);
/* Bytes of the session copied to out; -ERR_NOENT, -ERR_RANGE when cap is too small, -ERR_CORRUPT
 * when its sum is wrong. */
ssize_t session_get(struct segment *s, const uint8_t *id, size_t nid, uint64_t now_ms, uint8_t *out,
                    size_t cap);
/* Forgets it and erases its bytes; a place that is being written just now is left alone. */
void session_remove(struct segment *s, slot_oid me, const uint8_t *id, size_t nid);

#endif
