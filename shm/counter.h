/* Counters, gauges and latency histograms: one row per slot, single writer, plain relaxed stores; a
 * reader sums rows. */
#ifndef SHM_COUNTER_H
#define SHM_COUNTER_H

#include "shm/segment.h"

#include <stdatomic.h>

enum counter {
#define COUNTER(id, name, help) CTR_##id,
#define GAUGE(id, name, help)
#include "shm/counters.def"
#undef COUNTER
#undef GAUGE
    CTR__COUNT
};
enum gauge {
#define COUNTER(id, name, help)
#define GAUGE(id, name, help) GAU_##id,
#include "shm/counters.def"
#undef COUNTER
#undef GAUGE
    GAU__COUNT
};
struct counter_row {
    _Atomic uint64_t v[CTR__COUNT];
};
struct gauge_row {
    _Atomic uint64_t v[GAU__COUNT];
};
struct counter_row *counter_row(struct segment *s, uint32_t slot);
struct gauge_row *gauge_row(struct segment *s, uint32_t slot);

/* Single writer: a relaxed load and a relaxed store, no RMW. */
static inline void counter_add(struct counter_row *r, enum counter c, uint64_t n)
{
    atomic_store_explicit(&r->v[c], atomic_load_explicit(&r->v[c], memory_order_relaxed) + n,
                          memory_order_relaxed);
}
static inline void gauge_add(struct gauge_row *r, enum gauge g, int64_t n)
{
    atomic_store_explicit(&r->v[g],
                          atomic_load_explicit(&r->v[g], memory_order_relaxed) + (uint64_t)n,
                          memory_order_relaxed);
}
uint64_t counter_sum(const struct segment *s, enum counter c);
uint64_t gauge_sum(const struct segment *s, enum gauge g);
const char *counter_name(enum counter c);
const char *counter_help(enum counter c);
const char *gauge_name(enum gauge g);
const char *gauge_help(enum gauge g);

/* Log-linear histogram of microseconds: 4 sub-buckets per power of two, 1 us .. ~1 h; relative
 * error <= 12.5 %. */
#define HIST_BUCKETS 128u
struct hist {
    _Atomic uint64_t sum_us;
    _Atomic uint64_t bucket[HIST_BUCKETS];
};
uint32_t hist_bucket(uint64_t us);
uint64_t hist_upper_us(uint32_t bucket); /* inclusive upper edge */
static inline void hist_add(struct hist *h, uint64_t us)
{
    _Atomic uint64_t *b = &h->bucket[hist_bucket(us)];
    atomic_store_explicit(b, atomic_load_explicit(b, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    atomic_store_explicit(&h->sum_us, atomic_load_explicit(&h->sum_us, memory_order_relaxed) + us,
                          memory_order_relaxed);
}
/* Quantile 0..1 over plain (summed) buckets, in microseconds, interpolated. */
uint64_t hist_quantile(const uint64_t bucket[HIST_BUCKETS], double q);

/* How many of them are <= us; a bucket that us cuts counts in proportion. For the `le` edges of
 * Prometheus. */
uint64_t hist_below(const uint64_t bucket[HIST_BUCKETS], uint64_t us);

/* A series: one route's numbers. Names are registered by the master at config load and keep their
 * id for ever. */
enum series_cache { /* answers by what the cache did, and their bytes from it */
    SERIES_CACHE_HITS,
    SERIES_CACHE_MISSES,
    SERIES_CACHE_STALE,
    SERIES_CACHE_REVALIDATED,
    SERIES_CACHE_COLLAPSED,
    SERIES_CACHE_BYTES,
    SERIES_CACHE__COUNT
};
struct series_row {
    _Alignas(64) _Atomic uint64_t requests;
    _Atomic uint64_t bytes_in, bytes_out;
    _Atomic uint64_t status[6]; /* index = class; 0 = ended without an answer */
    struct hist total;          /* request head complete -> last byte sent */
    _Atomic uint64_t cache[SERIES_CACHE__COUNT];
};
/* Find or append; master only. Id 0 ("other") when the table is full. Names over 119 bytes are cut.
 */
uint32_t series_register(struct segment *s, struct slice name);
uint32_t series_count(const struct segment *s);
struct slice series_name(const struct segment *s, uint32_t id);
struct series_row *series_row(struct segment *s, uint32_t slot, uint32_t id);
struct series_sum {
    uint64_t requests, bytes_in, bytes_out, status[6], sum_us, bucket[HIST_BUCKETS];
    uint64_t cache[SERIES_CACHE__COUNT];
};
void series_sum(const struct segment *s, uint32_t id, struct series_sum *ret);

#endif
