/* How busy this process keeps its CPU. */
#ifndef WORKER_FILTER_CPU_H
#define WORKER_FILTER_CPU_H

#include <stdint.h>

#define CPU_SAMPLE_US 250000u

struct cpu_share {
    uint64_t at_us, used_us; /* of the last sample; 0: none yet */
    uint32_t share;          /* thousandths of a percent */
    uint64_t (*used)(void);  /* microseconds of CPU time so far */
};
void cpu_share_init(struct cpu_share *c, uint64_t now_us);
/* Thousandths of a percent, over the last quarter of a second or what has passed since it was asked
 * last: a system call four times a second at most. */
uint32_t cpu_share(struct cpu_share *c, uint64_t now_us);

#endif
