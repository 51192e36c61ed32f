/* The clock and its texts, for fixed seconds in a fixed zone. */
#include "base/clock.h"
#include "t/unit/tap.h"

#include <time.h>

int main(void)
{
    setenv("TZ", "XST-5:30", 1);
    tzset();
    tap_ok(clock_http_date().n == 29, "a date before the first update");
    clock_update();
    uint64_t before = clock_us();
    tap_ok(before > 0 && clock_ms() == before / 1000, "monotonic time in both units");
    tap_ok(clock_us_now() >= before, "it does not go back");
    tap_ok(clock_us() == before, "it stands still between updates");
    tap_ok(clock_cached.wall_ms / 1000 - (int64_t)time(NULL) <= 1, "wall time");

    clock_cached.wall_ms = 784111777123;
    tap_is_str(clock_http_date(), "Sun, 06 Nov 1994 08:49:37 GMT", "the example of RFC 9110");
    clock_cached.wall_ms = 784111777999;
    const char *p = clock_http_date().p;
    clock_cached.wall_ms = 784111778000;
    tap_is_str(clock_http_date(), "Sun, 06 Nov 1994 08:49:38 GMT", "the next second");
    tap_ok(clock_http_date().p == p, "in the same place");
    clock_cached.wall_ms = 1709164800000;
    tap_is_str(clock_http_date(), "Thu, 29 Feb 2024 00:00:00 GMT", "a leap day");
    return tap_done();
}
