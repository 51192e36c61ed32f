/* Misbehaviour of clients, in points per address over all workers: what a client may do at most in
 * half a minute. Lossy by design: a fixed table in which the least offender gives way. */
#ifndef SHM_ABUSE_H
#define SHM_ABUSE_H

#include "base/addr.h"
#include "shm/segment.h"

#define ABUSERS          16384u /* addresses at a time */
#define ABUSE_WINDOW_MS  30000u
#define ABUSE_POINTS_MAX 1048575u /* more are not counted */

/* The key of a client's address, the same in every worker: IPv4 (also mapped into IPv6) by address,
 * IPv6 by its /64. 0 for other families, for which nothing is counted. */
uint64_t abuse_key(const struct segment *s, const union addr *a);
/* Adds points; returns those of the last 30 s, these included. Points fade: after t seconds without
 * new ones (30 - t)/30 of them are left, so a steady rate stands at its sum over 30 s. now_ms is
 * clock_ms(). */
uint32_t abuse_add(struct segment *s, uint64_t address_key, uint32_t points, uint64_t now_ms);
uint32_t abuse_points(const struct segment *s, uint64_t address_key, uint64_t now_ms);

#endif
