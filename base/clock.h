/* Time, read once per loop turn. Monotonic for timers, wall for people. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include "base/slice.h"

struct clock {
    uint64_t us;     /* CLOCK_MONOTONIC, microseconds */
    uint64_t ms;     /* us / 1000 */
    int64_t wall_ms; /* Unix time in milliseconds */
};
extern struct clock clock_cached;

void clock_update(void);     /* vDSO reads; called once per turn */
uint64_t clock_us_now(void); /* a fresh monotonic read, for timings that need it */
static inline uint64_t clock_ms(void)
{
    return clock_cached.ms;
}
static inline uint64_t clock_us(void)
{
    return clock_cached.us;
}
/* The cached wall time, remade at most once a second: IMF-fixdate, RFC 9110 5.6.7,
 * Sun, 06 Nov 1994 08:49:37 GMT */
struct slice clock_http_date(void);

#endif
