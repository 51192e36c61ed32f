/* The only parsers and printers of numbers, sizes, durations and percentages. */
#ifndef BASE_NUM_H
#define BASE_NUM_H

#include "base/slice.h"

/* Decimal digits only, whole slice, no sign. 0, -ERR_INVAL or -ERR_RANGE (overflow). */
int num_u64(struct slice s, uint64_t *ret);
int num_size(struct slice s, uint64_t *ret); /* bytes: 512, 64k, 16m, 1g (powers of 1024) */
/* 250ms, 30s, 5m, 1h30m, 7d: parts descend; a bare 0 is allowed, nothing else bare. */
int num_duration(struct slice s, uint64_t *ret_ms);
/* "5%" = 5000 thousandths of a percent; decimals allowed; <= 100% */
int num_percent(struct slice s, uint32_t *ret_milli);
/* Print into out (32 bytes are enough), NUL-terminated, return length. */
size_t num_fmt_u64(char *out, uint64_t v);
/* "64k": exact, reparses to the same value */
size_t num_fmt_size(char out[32], uint64_t bytes);
/* "90s", "1h": exact, reparses to the same value */
size_t num_fmt_duration(char out[32], uint64_t ms);

#endif
