/* The log-linear scale of histograms and quantiles over it. Declared in counter.h. */
#include "shm/counter.h"

/* Values 0..3 have buckets of their own; from 4 on, the two bits below the leading one choose among
 * four per power of two. */
uint32_t hist_bucket(uint64_t us)
{
    uint32_t e;

    if (us < 4)
        return (uint32_t)us;
    e = 63u - (uint32_t)__builtin_clzll(us);
    if (e > 32)
        return HIST_BUCKETS - 1;
    return (e - 1) * 4 + ((uint32_t)(us >> (e - 2)) & 3u);
}

static uint64_t lower_us(uint32_t bucket)
{
    return bucket < 4 ? bucket : (uint64_t)(4 + bucket % 4) << (bucket / 4 - 1);
}

uint64_t hist_upper_us(uint32_t bucket)
{
    return bucket >= HIST_BUCKETS - 1 ? ((uint64_t)1 << 33) - 1 : lower_us(bucket + 1) - 1;
}

uint64_t hist_quantile(const uint64_t bucket[HIST_BUCKETS], double q)
{
    uint64_t total = 0, before = 0;
    double rank;

    for (uint32_t i = 0; i < HIST_BUCKETS; i++)
        total += bucket[i];
    if (total == 0)
        return 0;
    rank = (q < 0 ? 0 : q > 1 ? 1 : q) * (double)total;
    for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
        if (bucket[i] == 0)
            continue;
        if ((double)(before + bucket[i]) >= rank) {
            const double part = (rank - (double)before) / (double)bucket[i];
            const uint64_t lo = lower_us(i), hi = hist_upper_us(i);

            return lo + (uint64_t)((part < 0 ? 0 : part) * (double)(hi - lo));
        }
        before += bucket[i];
    }
    return hist_upper_us(HIST_BUCKETS - 1);
}

uint64_t hist_below(const uint64_t bucket[HIST_BUCKETS], uint64_t us)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < HIST_BUCKETS; i++) {
        const uint64_t lo = lower_us(i), hi = hist_upper_us(i);

        if (hi <= us) {
            sum += bucket[i];
        } else {
            if (lo <= us)
                sum +=
                    (uint64_t)((double)bucket[i] * (double)(us - lo + 1) / (double)(hi - lo + 1));
            break;
        }
    }
    return sum;
}
