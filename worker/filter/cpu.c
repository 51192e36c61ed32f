/* CPU time against wall time, sampled; see cpu.h. */
#include "worker/filter/cpu.h"

#include <time.h>

#define CPU_ALL 100000u /* 100 % */

static uint64_t cpu_used(void)
{
    struct timespec t;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t))
        return 0;
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

void cpu_share_init(struct cpu_share *c, uint64_t now_us)
{
    *c = (struct cpu_share){.at_us = now_us, .used_us = cpu_used(), .used = cpu_used};
}

uint32_t cpu_share(struct cpu_share *c, uint64_t now_us)
{
    const uint64_t past = now_us - c->at_us;
    if (now_us < c->at_us || past < CPU_SAMPLE_US)
        return c->share;
    const uint64_t used = c->used(), part = used < c->used_us ? 0 : used - c->used_us;
    c->share = part >= past ? CPU_ALL : (uint32_t)(part * CPU_ALL / past);
    c->at_us = now_us;
    c->used_us = used;
    return c->share;
}
