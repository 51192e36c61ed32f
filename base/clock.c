/* The clock of a loop turn and the date texts made of it. */
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

struct clock clock_cached;

/* A text and the second it is true for. */
struct clock_text {
    int64_t second;
    size_t n;
    char p[48];
};

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

/* Whether the text has to be made again; a zeroed text is always stale. */
static bool clock_stale(struct clock_text *t, struct tm *ret_tm, bool local)
{
    if (clock_cached.wall_ms == 0)
        clock_update();
    int64_t second = clock_cached.wall_ms / 1000;
    if (t->n > 0 && t->second == second)
        return false;
    time_t when = (time_t)second;
    t->second = second;
    if (local)
        localtime_r(&when, ret_tm);
    else
        gmtime_r(&when, ret_tm);
    return true;
}

static struct slice clock_keep(struct clock_text *t, int n)
{
    if (n > 0)
        t->n = (size_t)n < sizeof(t->p) ? (size_t)n : sizeof(t->p) - 1;
    return slice_of(t->p, t->n);
}

struct slice clock_http_date(void)
{
    static struct clock_text t;
    struct tm tm;
    if (!clock_stale(&t, &tm, false))
        return slice_of(t.p, t.n);
    return clock_keep(&t, snprintf(t.p, sizeof(t.p), "%s, %02d %s %04d %02d:%02d:%02d GMT",
                                   clock_days[tm.tm_wday], tm.tm_mday, clock_months[tm.tm_mon],
                                   tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec));
}

/* Minutes east of Greenwich, split for printing. */
static void clock_zone(const struct tm *tm, char *ret_sign, int *ret_h, int *ret_m)
{
    long off = tm->tm_gmtoff / 60;
    *ret_sign = off < 0 ? '-' : '+';
    if (off < 0)
        off = -off;
    *ret_h = (int)(off / 60);
    *ret_m = (int)(off % 60);
}

struct slice clock_iso(void)
{
    static struct clock_text t;
    struct tm tm;
    char sign;
    int h, m;
    if (!clock_stale(&t, &tm, true))
        return slice_of(t.p, t.n);
    clock_zone(&tm, &sign, &h, &m);
    return clock_keep(&t, snprintf(t.p, sizeof(t.p), "%04d-%02d-%02dT%02d:%02d:%02d%c%02d:%02d",
                                   tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
                                   tm.tm_min, tm.tm_sec, sign, h, m));
}

struct slice clock_clf(void)
{
    static struct clock_text t;
    struct tm tm;
    char sign;
    int h, m;
    if (!clock_stale(&t, &tm, true))
        return slice_of(t.p, t.n);
    clock_zone(&tm, &sign, &h, &m);
    return clock_keep(&t, snprintf(t.p, sizeof(t.p), "%02d/%s/%04d:%02d:%02d:%02d %c%02d%02d",
                                   tm.tm_mday, clock_months[tm.tm_mon], tm.tm_year + 1900,
                                   tm.tm_hour, tm.tm_min, tm.tm_sec, sign, h, m));
}
