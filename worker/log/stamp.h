/* Wall times as texts, remade only when the second changes, and then mostly by patching. */
#ifndef WORKER_LOG_STAMP_H
#define WORKER_LOG_STAMP_H

#include "base/slice.h"

struct stamp {
    int64_t sec;     /* the texts are of this second; 0 = none yet */
    int64_t quarter; /* sec / 900: zones change at quarters of an hour only */
    int minute;      /* at the quarter's beginning */
    bool patch;      /* the zone is a multiple of 15 minutes off UTC */
    char clf[80];    /* 21/Nov/2026:02:50:00 +0000 */
    char iso[96];    /* 2026-11-21T02:50:00.123+00:00 */
    char bsd[56];    /* Nov 21 02:50:00 */
};

/* All take Unix milliseconds; the slice is valid until the next call with another time. Years 1 to
 * 9999. */
struct slice stamp_clf(struct stamp *s, int64_t wall_ms);
struct slice stamp_iso(struct stamp *s, int64_t wall_ms); /* milliseconds, local zone */
struct slice stamp_bsd(struct stamp *s, int64_t wall_ms); /* RFC 3164 4.1.2 */

#endif
