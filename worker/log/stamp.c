/* Wall times as texts. */
#include "worker/log/stamp.h"

#include <stdio.h>
#include <time.h>

#define CLF_N   26u
#define CLF_MIN 15u /* where the minute stands */
#define ISO_N   29u
#define ISO_MIN 14u
#define ISO_MS  20u
#define BSD_N   15u
#define BSD_MIN 10u
#define LAST    253402214400 /* 9999-12-31: the layouts have four digits for the year */

static void two(char *p, int v)
{
    p[0] = (char)('0' + v / 10);
    p[1] = (char)('0' + v % 10);
}

static void stamp_make(struct stamp *s, int64_t sec)
{
    static const char month[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                      "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    const time_t when = (time_t)sec;
    struct tm tm = {.tm_mday = 1, .tm_year = 70};
    (void)localtime_r(&when, &tm);
    const long off = tm.tm_gmtoff / 60;
    const long abs = off < 0 ? -off : off;
    const char sign = off < 0 ? '-' : '+';
    const char *const mon = month[tm.tm_mon % 12];
    (void)snprintf(s->clf, sizeof(s->clf), "%02d/%s/%04d:%02d:%02d:%02d %c%02ld%02ld", tm.tm_mday,
                   mon, tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec, sign, abs / 60 % 24,
                   abs % 60);
    (void)snprintf(s->iso, sizeof(s->iso), "%04d-%02d-%02dT%02d:%02d:%02d.000%c%02ld:%02ld",
                   tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                   sign, abs / 60 % 24, abs % 60);
    (void)snprintf(s->bsd, sizeof(s->bsd), "%s %2d %02d:%02d:%02d", mon, tm.tm_mday, tm.tm_hour,
                   tm.tm_min, tm.tm_sec);
    s->minute = tm.tm_min / 15 * 15;
    s->patch = tm.tm_gmtoff % 900 == 0;
    s->quarter = sec / 900;
}

static void stamp_at(struct stamp *s, int64_t sec)
{
    if (sec < 1 || sec > LAST)
        sec = 1;
    if (s->sec == sec)
        return;
    if (s->sec && s->patch && s->quarter == sec / 900) {
        const int in = (int)(sec % 900);
        two(s->clf + CLF_MIN, s->minute + in / 60);
        two(s->iso + ISO_MIN, s->minute + in / 60);
        two(s->bsd + BSD_MIN, s->minute + in / 60);
        two(s->clf + CLF_MIN + 3, in % 60);
        two(s->iso + ISO_MIN + 3, in % 60);
        two(s->bsd + BSD_MIN + 3, in % 60);
    } else {
        stamp_make(s, sec);
    }
    s->sec = sec;
}

struct slice stamp_clf(struct stamp *s, int64_t wall_ms)
{
    stamp_at(s, wall_ms / 1000);
    return slice_of(s->clf, CLF_N);
}

struct slice stamp_iso(struct stamp *s, int64_t wall_ms)
{
    stamp_at(s, wall_ms / 1000);
    const int ms = wall_ms > 0 ? (int)(wall_ms % 1000) : 0;
    s->iso[ISO_MS] = (char)('0' + ms / 100);
    two(s->iso + ISO_MS + 1, ms % 100);
    return slice_of(s->iso, ISO_N);
}

struct slice stamp_bsd(struct stamp *s, int64_t wall_ms)
{
    stamp_at(s, wall_ms / 1000);
    return slice_of(s->bsd, BSD_N);
}
