/* Dates by position: each format is a pattern of fixed columns once the name of the day is read. */
#include "worker/http/http_date.h"

#include "base/err.h"

#define DAY 86400

static const char date_day[7][10] = {"sunday",   "monday", "tuesday", "wednesday",
                                     "thursday", "friday", "saturday"};
static const char date_month[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

struct date_parts {
    int64_t year;
    unsigned month, day, hour, minute, second; /* month 1..12 */
};

/* Days since 1970-01-01 of the proleptic Gregorian calendar: years begin in March, so that the leap
 * day is their last. */
static int64_t date_days(int64_t year, unsigned month, unsigned day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t of_era = y - era * 400;
    int64_t of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + (int64_t)day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static void date_civil(int64_t days, struct date_parts *ret)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t of_era = days - era * 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int64_t shifted = (5 * of_year + 2) / 153;
    ret->day = (unsigned)(of_year - (153 * shifted + 2) / 5 + 1);
    ret->month = (unsigned)(shifted < 10 ? shifted + 3 : shifted - 9);
    ret->year = year + era * 400 + (ret->month <= 2);
}

/* n digits at p, or -1. */
static int date_number(const char *p, unsigned n)
{
    int v = 0;
    for (unsigned i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9')
            return -1;
        v = v * 10 + (p[i] - '0');
    }
    return v;
}

static bool date_take(const char *p, unsigned n, unsigned *ret)
{
    int v = date_number(p, n);
    *ret = v < 0 ? 0 : (unsigned)v;
    return v >= 0;
}

static bool date_take_month(const char *p, unsigned *ret)
{
    for (unsigned i = 0; i < 12; i++) {
        if (slice_eq_ci(slice_of(p, 3), slice_of(date_month[i], 3))) {
            *ret = i + 1;
            return true;
        }
    }
    return false;
}

static bool date_take_time(const char *p, struct date_parts *d)
{
    return date_take(p, 2, &d->hour) && p[2] == ':' && date_take(p + 3, 2, &d->minute) &&
           p[5] == ':' && date_take(p + 6, 2, &d->second);
}

static bool date_is_gmt(const char *p)
{
    return slice_eq_ci(slice_of(p, 4), SLICE(" GMT"));
}

/* What of s is the name of a day, in short or in full; 0 when none begins it. */
static size_t date_day_name(struct slice s, bool full)
{
    for (unsigned i = 0; i < 7; i++) {
        struct slice name = slice_of(date_day[i], full ? strlen(date_day[i]) : 3);
        if (s.n > name.n && slice_eq_ci(slice_of(s.p, name.n), name))
            return name.n;
    }
    return 0;
}

/* "06 Nov 1994 08:49:37 GMT" */
static bool date_imf(struct slice s, struct date_parts *d)
{
    int year;
    if (s.n != 24 || s.p[2] != ' ' || s.p[6] != ' ' || s.p[11] != ' ')
        return false;
    year = date_number(s.p + 7, 4);
    d->year = year;
    return year >= 0 && date_take(s.p, 2, &d->day) && date_take_month(s.p + 3, &d->month) &&
           date_take_time(s.p + 12, d) && date_is_gmt(s.p + 20);
}

/* "06-Nov-94 08:49:37 GMT"; the year is completed by the caller. */
static bool date_850(struct slice s, struct date_parts *d)
{
    int year;
    if (s.n != 22 || s.p[2] != '-' || s.p[6] != '-' || s.p[9] != ' ')
        return false;
    year = date_number(s.p + 7, 2);
    d->year = year;
    return year >= 0 && date_take(s.p, 2, &d->day) && date_take_month(s.p + 3, &d->month) &&
           date_take_time(s.p + 10, d) && date_is_gmt(s.p + 18);
}

/* "Nov  6 08:49:37 1994" */
static bool date_asctime(struct slice s, struct date_parts *d)
{
    int year;
    if (s.n != 20 || s.p[3] != ' ' || s.p[6] != ' ' || s.p[15] != ' ')
        return false;
    year = date_number(s.p + 16, 4);
    d->year = year;
    bool day = s.p[4] == ' ' ? date_take(s.p + 5, 1, &d->day) : date_take(s.p + 4, 2, &d->day);
    return year >= 0 && day && date_take_month(s.p, &d->month) && date_take_time(s.p + 7, d);
}

/* A second 60 is a leap second. */
static bool date_exists(const struct date_parts *d)
{
    static const unsigned char length[12] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (d->day < 1 || d->day > length[d->month - 1] || d->hour > 23 || d->minute > 59 ||
        d->second > 60)
        return false;
    bool leap = d->year % 4 == 0 && (d->year % 100 != 0 || d->year % 400 == 0);
    return d->month != 2 || d->day < 29 || leap;
}

static int64_t date_seconds(const struct date_parts *d)
{
    return date_days(d->year, d->month, d->day) * DAY + (int64_t)d->hour * 3600 +
           (int64_t)d->minute * 60 + (int64_t)d->second;
}

int http_date_parse(struct slice s, int64_t now, int64_t *ret)
{
    struct date_parts d = {0};
    bool ok = false, century = false;
    size_t n = date_day_name(s, false);
    if (n > 0 && s.n > n + 2 && s.p[n] == ',' && s.p[n + 1] == ' ') {
        ok = date_imf(slice_of(s.p + n + 2, s.n - n - 2), &d);
    } else if (n > 0 && s.p[n] == ' ') {
        ok = date_asctime(slice_of(s.p + n + 1, s.n - n - 1), &d);
    } else if ((n = date_day_name(s, true)) > 0 && s.n > n + 2 && s.p[n] == ',' &&
               s.p[n + 1] == ' ') {
        ok = date_850(slice_of(s.p + n + 2, s.n - n - 2), &d);
        century = true;
    }
    if (!ok)
        return -ERR_INVAL;
    if (century) {
        struct date_parts today;
        date_civil((now >= 0 ? now : now - (DAY - 1)) / DAY, &today);
        /* The latest year with these two digits that is at most 50 years away. */
        int64_t latest = today.year + 50;
        int64_t two = d.year;
        d.year = latest - ((latest - two) % 100 + 100) % 100;
        if (d.year == latest) {
            struct date_parts limit = today;
            limit.year = latest;
            limit.hour = limit.minute = limit.second = 0;
            int64_t edge = date_seconds(&limit) + (now % DAY + DAY) % DAY;
            if (date_seconds(&d) > edge)
                d.year -= 100;
        }
    }
    if (!date_exists(&d))
        return -ERR_INVAL;
    *ret = date_seconds(&d);
    return 0;
}

static void date_put(char *p, unsigned n, unsigned v)
{
    while (n-- > 0) {
        p[n] = (char)('0' + v % 10);
        v /= 10;
    }
}

void http_date_format(int64_t t, char out[HTTP_DATE_LEN])
{
    static const char blank[HTTP_DATE_LEN + 1] = "Day, 00 Mon 0000 00:00:00 GMT";
    const int64_t least = date_days(0, 1, 1) * DAY, most = date_days(10000, 1, 1) * DAY - 1;
    struct date_parts d;
    if (t < least)
        t = least;
    if (t > most)
        t = most;
    int64_t days = (t >= 0 ? t : t - (DAY - 1)) / DAY;
    unsigned in = (unsigned)(t - days * DAY);
    date_civil(days, &d);
    memcpy(out, blank, HTTP_DATE_LEN);
    const char *day = date_day[((days + 4) % 7 + 7) % 7];
    out[0] = (char)(day[0] - 32);
    out[1] = day[1];
    out[2] = day[2];
    date_put(out + 5, 2, d.day);
    memcpy(out + 8, date_month[d.month - 1], 3);
    date_put(out + 12, 4, (unsigned)d.year);
    date_put(out + 17, 2, in / 3600);
    date_put(out + 20, 2, in / 60 % 60);
    date_put(out + 23, 2, in % 60);
}
