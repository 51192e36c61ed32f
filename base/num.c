/* Numbers, sizes, durations, percentages: parse strictly, print so that it reparses. */
#include "base/num.h"

#include "base/err.h"

struct num_unit {
    char name[3];
    uint64_t factor;
};

/* From the largest down: printers take the first that divides, combined durations descend. */
static const struct num_unit num_size_units[] = {
    {"g", 1024u * 1024 * 1024}, {"m", 1024u * 1024}, {"k", 1024}};
static const struct num_unit num_time_units[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
#define NUM_DIGITS   20u /* of the largest uint64_t */
#define NUM_COUNT(a) (sizeof(a) / sizeof((a)[0]))

static bool num_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Cuts the leading digits off *s. -ERR_INVAL when there are none. */
static int num_take(struct slice *s, uint64_t *ret)
{
    uint64_t v = 0;
    size_t i = 0;
    bool over = false;
    for (; i < s->n && num_is_digit(s->p[i]); i++) {
        over |= __builtin_mul_overflow(v, (uint64_t)10, &v);
        over |= __builtin_add_overflow(v, (uint64_t)(s->p[i] - '0'), &v);
    }
    if (i == 0)
        return -ERR_INVAL;
    s->p += i;
    s->n -= i;
    *ret = v;
    return over ? -ERR_RANGE : 0;
}

int num_u64(struct slice s, uint64_t *ret)
{
    uint64_t v;
    int rc = num_take(&s, &v);
    if (s.n > 0)
        return -ERR_INVAL;
    if (rc == 0)
        *ret = v;
    return rc;
}

int num_size(struct slice s, uint64_t *ret)
{
    uint64_t v, factor = 1;
    int rc = num_take(&s, &v);
    if (rc == -ERR_INVAL)
        return rc;
    if (s.n == 1) {
        factor = 0;
        for (size_t i = 0; i < NUM_COUNT(num_size_units); i++) {
            if ((s.p[0] | 0x20) == num_size_units[i].name[0])
                factor = num_size_units[i].factor;
        }
    }
    if (s.n > 1 || factor == 0)
        return -ERR_INVAL;
    if (rc < 0 || __builtin_mul_overflow(v, factor, &v))
        return -ERR_RANGE;
    *ret = v;
    return 0;
}

/* Cuts a unit, the longest run of letters, off *s. Its index, or -ERR_INVAL. */
static int num_take_unit(struct slice *s)
{
    size_t n = 0;
    while (n < s->n && !num_is_digit(s->p[n]))
        n++;
    struct slice name = slice_of(s->p, n);
    s->p += n;
    s->n -= n;
    for (size_t i = 0; i < NUM_COUNT(num_time_units); i++) {
        if (slice_eq(name, slice_str(num_time_units[i].name)))
            return (int)i;
    }
    return -ERR_INVAL;
}

int num_duration(struct slice s, uint64_t *ret_ms)
{
    if (slice_eq(s, SLICE("0"))) {
        *ret_ms = 0;
        return 0;
    }
    if (s.n == 0)
        return -ERR_INVAL;
    uint64_t total = 0;
    int last = -1;
    bool over = false;
    while (s.n > 0) {
        uint64_t v;
        int rc = num_take(&s, &v);
        if (rc == -ERR_INVAL)
            return rc;
        over |= rc < 0;
        int unit = num_take_unit(&s);
        /* Parts descend ("1h30m"), so that none comes twice. */
        if (unit <= last)
            return -ERR_INVAL;
        last = unit;
        over |= __builtin_mul_overflow(v, num_time_units[unit].factor, &v);
        over |= __builtin_add_overflow(total, v, &total);
    }
    if (over)
        return -ERR_RANGE;
    *ret_ms = total;
    return 0;
}

int num_percent(struct slice s, uint32_t *ret_milli)
{
    uint64_t whole;
    uint32_t milli = 0;
    int rc = num_take(&s, &whole);
    if (rc == -ERR_INVAL)
        return rc;
    if (s.n > 0 && s.p[0] == '.') {
        uint32_t weight = 100;
        size_t i = 1;
        for (; i < s.n && num_is_digit(s.p[i]); i++, weight /= 10) {
            if (weight == 0)
                return -ERR_INVAL;
            milli += (uint32_t)(s.p[i] - '0') * weight;
        }
        if (i == 1)
            return -ERR_INVAL;
        s.p += i;
        s.n -= i;
    }
    if (!slice_eq(s, SLICE("%")))
        return -ERR_INVAL;
    if (rc < 0 || whole > 100 || (whole == 100 && milli > 0))
        return -ERR_RANGE;
    *ret_milli = (uint32_t)whole * 1000 + milli;
    return 0;
}

size_t num_fmt_u64(char *out, uint64_t v)
{
    size_t n = 1;
    for (uint64_t least = 10; v >= least && n < NUM_DIGITS; least *= 10)
        n++;
    out[n] = '\0';
    for (size_t at = n; at > 0; v /= 10)
        out[--at] = (char)('0' + v % 10);
    return n;
}

static size_t num_fmt_unit(char out[32], uint64_t v, const struct num_unit *units, size_t count)
{
    for (size_t i = 0; v > 0 && i < count; i++) {
        if (v % units[i].factor != 0)
            continue;
        size_t n = num_fmt_u64(out, v / units[i].factor);
        size_t name = strlen(units[i].name);
        memcpy(out + n, units[i].name, name + 1);
        return n + name;
    }
    return num_fmt_u64(out, v);
}

size_t num_fmt_size(char out[32], uint64_t bytes)
{
    return num_fmt_unit(out, bytes, num_size_units, NUM_COUNT(num_size_units));
}

size_t num_fmt_duration(char out[32], uint64_t ms)
{
    return num_fmt_unit(out, ms, num_time_units, NUM_COUNT(num_time_units));
}
