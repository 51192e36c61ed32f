/* Buffers: growth, limits, sticky failure; the JSON writer on top. */
#include "base/arena.h"
#include "base/buf.h"
#include "base/json.h"
#include "t/unit/tap.h"

#include <math.h>

static void test_buf(void)
{
    struct buf b;
    buf_init(&b, 0);
    tap_is_str(buf_slice(&b), "", "empty");
    buf_str(&b, "a");
    buf_chr(&b, 'b');
    buf_add(&b, SLICE("cd"));
    buf_add(&b, SLICE_NONE);
    buf_u64(&b, UINT64_MAX);
    buf_u64(&b, 0);
    buf_printf(&b, "-%03d", 5);
    tap_is_str(buf_slice(&b), "abcd184467440737095516150-005", "every way to add");
    buf_clear(&b);
    tap_ok(b.n == 0 && b.cap > 0, "clear keeps the memory");
    buf_printf(&b, "%2000d", 1);
    tap_ok(b.n == 2000 && b.p[1999] == '1' && !b.failed, "a long printf");
    for (int i = 0; i < 100000; i++)
        buf_chr(&b, 'x');
    tap_ok(b.n == 102000 && !b.failed && b.cap < 2 * b.n + 512, "growth");
    buf_fini(&b);

    buf_init(&b, 10);
    buf_str(&b, "0123456789");
    tap_ok(!b.failed, "exactly the limit");
    buf_chr(&b, 'x');
    tap_ok(b.failed && b.n == 10, "one more fails");
    tap_ok(!buf_reserve(&b, 0), "failure is sticky");
    buf_clear(&b);
    buf_str(&b, "ok");
    tap_is_str(buf_slice(&b), "ok", "until cleared");
    tap_ok(!buf_reserve(&b, SIZE_MAX), "an absurd size fails");
    buf_fini(&b);

    buf_init(&b, 0);
    alloc_fail_at(1);
    buf_str(&b, "x");
    tap_ok(b.failed && b.n == 0, "the first allocation fails");
    buf_clear(&b);
    buf_str(&b, "x");
    tap_ok(!b.failed, "the next works");
    alloc_fail_at(1);
    buf_printf(&b, "%1000d", 1);
    tap_ok(b.failed && b.n == 1 && b.p[0] == 'x', "growing fails, what was there stays");
    alloc_fail_at(0);
    buf_fini(&b);
}

static void escape_is(struct slice in, const char *want, const char *name)
{
    struct buf b;
    buf_init(&b, 0);
    json_escape(&b, in);
    tap_is_str(buf_slice(&b), want, "escape: %s", name);
    buf_fini(&b);
}

static void test_escape(void)
{
    escape_is(SLICE("plain text"), "plain text", "plain");
    escape_is(SLICE(""), "", "empty");
    escape_is(SLICE("\"\\\n\r\t"), "\\\"\\\\\\n\\r\\t", "named");
    escape_is(SLICE("a\0b\x1f\x7f"), "a\\u0000b\\u001f\\u007f", "control");
    escape_is(SLICE("h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"),
              "h\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "UTF-8 of 2, 3 and 4 bytes");
    escape_is(SLICE("a\xffz"), "a\xef\xbf\xbdz", "a stray byte");
    escape_is(SLICE("\xc0\xaf"), "\xef\xbf\xbd\xef\xbf\xbd", "overlong slash");
    escape_is(SLICE("\xed\xa0\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd", "surrogate");
    escape_is(SLICE("\xf4\x90\x80\x80"), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd",
              "above the last code point");
    escape_is(SLICE("\xe2\x82"), "\xef\xbf\xbd\xef\xbf\xbd", "cut short");
    escape_is(SLICE("\xe2\x82\""), "\xef\xbf\xbd\xef\xbf\xbd\\\"", "cut short by a quote");
}

static void test_json(void)
{
    struct buf b;
    struct json j;
    buf_init(&b, 0);
    json_init(&j, &b);
    json_object(&j);
    json_kstr(&j, "s", SLICE("x\"y"));
    json_kcstr(&j, "null", NULL);
    json_ku64(&j, "n", UINT64_MAX);
    json_kbool(&j, "t", true);
    json_key(&j, "a");
    json_array(&j);
    json_i64(&j, INT64_MIN);
    json_i64(&j, 7);
    json_double(&j, 1.0 / 3);
    json_double(&j, NAN);
    json_object(&j);
    json_end_object(&j);
    json_array(&j);
    json_end_array(&j);
    json_cstr(&j, "");
    json_end_array(&j);
    json_key(&j, "o");
    json_object(&j);
    json_kbool(&j, "f", false);
    json_end_object(&j);
    json_end_object(&j);
    tap_is_str(buf_slice(&b),
               "{\"s\":\"x\\\"y\",\"null\":null,\"n\":18446744073709551615,\"t\":true,"
               "\"a\":[-9223372036854775808,7,0.333,null,{},[],\"\"],\"o\":{\"f\":false}}",
               "a document");
    buf_clear(&b);
    json_init(&j, &b);
    json_u64(&j, 1);
    tap_is_str(buf_slice(&b), "1", "a bare value");
    buf_fini(&b);
}

int main(void)
{
    test_buf();
    test_escape();
    test_json();
    return tap_done();
}
