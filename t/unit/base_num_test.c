/* Numbers: what is taken, what is refused, and that everything printed reparses. */
#include "base/err.h"
#include "base/num.h"
#include "t/unit/tap.h"

typedef int parse_fn(struct slice s, uint64_t *ret);

static void takes(parse_fn *fn, const char *text, uint64_t want)
{
    uint64_t v = 4711;
    int rc = fn(slice_str(text), &v);
    tap_ok(rc == 0 && v == want, "'%s' is %llu", text, (unsigned long long)want);
}

static void refuses(parse_fn *fn, const char *text, int want)
{
    uint64_t v = 4711;
    int rc = fn(slice_str(text), &v);
    tap_ok(rc == want && v == 4711, "'%s' gives %s", text, err_reason(want));
}

static int percent(struct slice s, uint64_t *ret)
{
    uint32_t v;
    int rc = num_percent(s, &v);
    if (rc == 0)
        *ret = v;
    return rc;
}

static void test_numbers(void)
{
    takes(num_u64, "0", 0);
    takes(num_u64, "007", 7);
    takes(num_u64, "18446744073709551615", UINT64_MAX);
    refuses(num_u64, "18446744073709551616", -ERR_RANGE);
    refuses(num_u64, "99999999999999999999999", -ERR_RANGE);
    refuses(num_u64, "99999999999999999999999x", -ERR_INVAL);
    const char *const bad[] = {"", "-1", "+1", " 1", "1 ", "1,0", "0x1", "1e3", "\xb2"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        refuses(num_u64, bad[i], -ERR_INVAL);
}

static void test_sizes(void)
{
    takes(num_size, "512", 512);
    takes(num_size, "64k", 65536);
    takes(num_size, "16M", 16u << 20);
    takes(num_size, "1g", 1u << 30);
    takes(num_size, "0", 0);
    takes(num_size, "17179869183g", 17179869183u * (1ull << 30));
    refuses(num_size, "17179869184g", -ERR_RANGE);
    const char *const bad[] = {"", "k", "1t", "1kb", "1kib", "1 k", "1.5m", "-1k", "1kk", "1\xcb"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        refuses(num_size, bad[i], -ERR_INVAL);
}

static void test_durations(void)
{
    takes(num_duration, "0", 0);
    takes(num_duration, "250ms", 250);
    takes(num_duration, "30s", 30000);
    takes(num_duration, "5m", 300000);
    takes(num_duration, "1h", 3600000);
    takes(num_duration, "7d", 604800000);
    takes(num_duration, "0s", 0);
    takes(num_duration, "1h30m", 5400000);
    takes(num_duration, "1d2h3m4s5ms", 93784005);
    takes(num_duration, "90s", 90000);
    refuses(num_duration, "213503982335d", -ERR_RANGE);
    refuses(num_duration, "213503982334d25h", -ERR_RANGE);
    refuses(num_duration, "99999999999999999999s", -ERR_RANGE);
    const char *const bad[] = {"",     "5",   "00",   "s",    "1w",    "1S",   "1 s", "-1s",
                               "1.5s", "1s5", "1m1h", "5s5s", "1ms1s", "1sms", "1y",  "0 "};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        refuses(num_duration, bad[i], -ERR_INVAL);
}

static void test_percentages(void)
{
    takes(percent, "5%", 5000);
    takes(percent, "0%", 0);
    takes(percent, "100%", 100000);
    takes(percent, "100.000%", 100000);
    takes(percent, "0.5%", 500);
    takes(percent, "12.345%", 12345);
    refuses(percent, "100.001%", -ERR_RANGE);
    refuses(percent, "101%", -ERR_RANGE);
    refuses(percent, "99999999999999999999%", -ERR_RANGE);
    const char *const bad[] = {"", "5", "%", ".5%", "5.%", "1.2345%", "5%%", "-5%", "5 %", "1.x%"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        refuses(percent, bad[i], -ERR_INVAL);
}

static void test_printers(void)
{
    char out[32];
    tap_is_int(num_fmt_u64(out, 0), 1, "length of 0");
    tap_is_str(slice_str(out), "0", "0");
    num_fmt_u64(out, UINT64_MAX);
    tap_is_str(slice_str(out), "18446744073709551615", "the largest");
    num_fmt_size(out, 65536);
    tap_is_str(slice_str(out), "64k", "64k");
    num_fmt_size(out, 1025);
    tap_is_str(slice_str(out), "1025", "1025");
    num_fmt_duration(out, 90000);
    tap_is_str(slice_str(out), "90s", "90s");
    num_fmt_duration(out, 3600000);
    tap_is_str(slice_str(out), "1h", "1h");
    num_fmt_duration(out, 0);
    tap_is_str(slice_str(out), "0", "no time");
    bool sizes = true, times = true;
    uint64_t x = 1;
    for (int i = 0; i < 20000; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        uint64_t v = x >> (x >> 58), back = ~v;
        if (i % 3 == 0)
            v = v / 3600000 * 3600000;
        if (i % 3 == 1)
            v &= ~(uint64_t)0xfffff;
        sizes = sizes && num_size(slice_of(out, num_fmt_size(out, v)), &back) == 0 && back == v;
        back = ~v;
        times =
            times && num_duration(slice_of(out, num_fmt_duration(out, v)), &back) == 0 && back == v;
    }
    tap_ok(sizes, "20000 sizes reparse");
    tap_ok(times, "20000 durations reparse");
}

int main(void)
{
    test_numbers();
    test_sizes();
    test_durations();
    test_percentages();
    test_printers();
    return tap_done();
}
