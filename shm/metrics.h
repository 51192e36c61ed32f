/* Everything the segment counts, as text: Prometheus exposition format 0.0.4 and plain lines for
 * `rpctl stat`. */
#ifndef SHM_METRICS_H
#define SHM_METRICS_H

#include "base/buf.h"
#include "shm/segment.h"

/* All metrics with HELP and TYPE. now_ms is CLOCK_MONOTONIC. Series and servers without a request
 * are left out of the per-series part. 0, or -ERR_NOMEM when the buffer's limit or memory ran out.
 */
int metrics_render(const struct segment *s, uint64_t now_ms, struct buf *out);
/* The same numbers as "name value" lines; histograms as count, sum and three quantiles. Only names,
 * with or without their labels, that match `pattern` (* ? [..]; empty = all). */
int metrics_stat(const struct segment *s, uint64_t now_ms, struct slice pattern, struct buf *out);

#endif
