/* The clock of a loop turn and the Date text made of it. */
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

struct clock clock_cached;

static const char clock_days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char clock_months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

uint64_t clock_us_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

void clock_update(void)
{
    struct timespec ts;
    clock_cached.us = clock_us_now();
    clock_cached.ms = clock_cached.us / 1000;
    clock_gettime(CLOCK_REALTIME, &ts);
    clock_cached.wall_ms = (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

struct slice clock_http_date(void)
{
    static int64_t made_for;
    static char text[48];
    static size_t len;
    if (clock_cached.wall_ms == 0)
        clock_update();
    int64_t second = clock_cached.wall_ms / 1000;
    if (len > 0 && made_for == second)
        return slice_of(text, len);
    time_t when = (time_t)second;
    struct tm tm;
    gmtime_r(&when, &tm);
    int n = snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT",
                     clock_days[tm.tm_wday], tm.tm_mday, clock_months[tm.tm_mon], tm.tm_year + 1900,
                     tm.tm_hour, tm.tm_min, tm.tm_sec);
    made_for = second;
    len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    return slice_of(text, len);
}
