/* The share of a CPU that a process keeps busy, by a clock of the test's. */
#include "t/unit/tap.h"
#include "worker/filter/cpu.h"

static uint64_t used_us;

static uint64_t used(void)
{
    return used_us;
}

int main(void)
{
    struct cpu_share c;
    cpu_share_init(&c, 1000000);
    c.used = used;
    c.used_us = used_us = 5000;
    tap_is_int(cpu_share(&c, 1100000), 0, "nothing is known yet");
    used_us += 125000;
    tap_is_int(cpu_share(&c, 1249999), 0, "not before a quarter of a second");
    tap_is_int(cpu_share(&c, 1250000), 50000, "half of it");
    used_us += 250000;
    tap_is_int(cpu_share(&c, 1300000), 50000, "the same until the next quarter");
    tap_is_int(cpu_share(&c, 1500000), 100000, "all of it");
    used_us += 900000;
    tap_is_int(cpu_share(&c, 1750000), 100000, "never more");
    tap_is_int(cpu_share(&c, 1700000), 100000, "a clock that goes back");
    tap_is_int(cpu_share(&c, 11750000), 0, "a long idle time");
    used_us = 3;
    tap_is_int(cpu_share(&c, 12750000), 0, "less than before is nothing");
    cpu_share_init(&c, 0);
    volatile unsigned x = 0;
    for (unsigned i = 0; i < 50000000; i++)
        x += i;
    tap_ok(cpu_share(&c, 300000) > 0, "the kernel's figures");
    return tap_done();
}
