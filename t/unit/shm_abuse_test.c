/* Points of misbehaviour: adding, fading, whose they are, and what is lost when there are too many
 * addresses. */
#include "base/err.h"
#include "shm/abuse.h"
#include "shm/layout.h"
#include "t/unit/tap.h"

#include <arpa/inet.h>

static struct segment *s;

static uint64_t key_of(const char *text)
{
    union addr a = {0};

    if (inet_pton(AF_INET, text, &a.in.sin_addr) == 1)
        a.in.sin_family = AF_INET;
    else if (inet_pton(AF_INET6, text, &a.in6.sin6_addr) == 1)
        a.in6.sin6_family = AF_INET6;
    else
        tap_bail("%s", text);
    return abuse_key(s, &a);
}

static void test_keys(void)
{
    union addr unix_peer = {.sa = {.sa_family = AF_UNIX}};
    const uint64_t a = key_of("192.0.2.1");
    struct segment *t;

    tap_ok(a != 0 && a == key_of("192.0.2.1"), "an address has a key");
    tap_ok(a != key_of("192.0.2.2"), "another has another");
    tap_ok(a == key_of("::ffff:192.0.2.1"), "mapped into IPv6 it is the same");
    tap_ok(key_of("2001:db8::1") == key_of("2001:db8::ffff:1"), "IPv6 goes by the /64");
    tap_ok(key_of("2001:db8::1") != key_of("2001:db8:0:1::1"), "not by less");
    tap_is_int(abuse_key(s, &unix_peer), 0, "a unix peer has none");
    tap_ok(abuse_add(s, 0, 100, 0) == 0 && abuse_points(s, 0, 0) == 0, "and gets no points");
    if (segment_create_sized(1, 1, 1, 1, &t) < 0)
        tap_bail("segment");
    tap_ok(layout_secret(t).k0 != layout_secret(s).k0, "each segment has a secret of its own");
    segment_close(&t);
}

static void test_fading(void)
{
    const uint64_t k = key_of("192.0.2.1");
    uint64_t now = 1000000000;
    uint32_t p = 0, most = 0, least = UINT32_MAX;

    tap_is_int(abuse_points(s, k, now), 0, "no points at first");
    tap_is_int(abuse_add(s, k, 10, now), 10, "ten");
    tap_is_int(abuse_add(s, k, 5, now + 100), 15, "and five");
    tap_is_int(abuse_points(s, k, now + 100), 15, "fifteen");
    tap_is_int(abuse_points(s, k, now + 15000), 7, "half of them after half the time");
    tap_is_int(abuse_points(s, k, now + 29999), 0, "nearly none at the end");
    tap_is_int(abuse_points(s, k, now + 30000), 0, "none after 30 s");
    tap_is_int(abuse_points(s, k, now - 1000), 15, "a clock that is behind sees them all");
    tap_is_int(abuse_add(s, k, 1, now - 1000), 16, "and adds");
    tap_is_int(abuse_points(s, k, now + 15000), 8, "without turning the time back");
    tap_is_int(abuse_add(s, k, 0, now + 40000), 0, "long after, none are left");

    now += 1000000;
    for (int i = 0; i < 10000; i++) /* one every 10 ms */
        p = abuse_add(s, k, 1, now += 10);
    tap_ok(p > 2800 && p <= 3001, "100 a second stand at 3000 (%u)", p);
    now += 1000000;
    for (int i = 0; i < 600; i++) { /* one a second */
        p = abuse_add(s, k, 1, now += 1000);
        if (i > 200) {
            most = p > most ? p : most;
            least = p < least ? p : least;
        }
    }
    tap_ok(least >= 24 && most <= 30, "one a second stands near 30 (%u..%u)", least, most);
    now += 1000000;
    tap_is_int(abuse_add(s, k, UINT32_MAX, now), ABUSE_POINTS_MAX, "there is a most");
    tap_is_int(abuse_add(s, k, 5, now), ABUSE_POINTS_MAX, "that is not passed");
    tap_is_int(abuse_points(s, k, now + 15000), ABUSE_POINTS_MAX / 2, "and fades too");
    now = ((uint64_t)1 << 20) * 125 * 3 - 250; /* just before the time comes around */
    abuse_add(s, k, 64, now);
    tap_is_int(abuse_points(s, k, now + 15000), 32, "points fade over the wrap of the clock");
}

static void test_pressure(void)
{
    const uint64_t now = 5000000000;
    uint32_t wrong = 0, strangers = 0;
    char text[32];

    /* Tags have 18 bits: under a random secret two of the addresses would be taken for one now and
     * then. */
    layout_words(s, AREA_SECRET)[0] = layout_words(s, AREA_SECRET)[1] = 1;
    /* One great offender and a thousand small ones at 8 places. */
    abuse_add(s, key_of("203.0.113.9"), 1000, now);
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(text, sizeof(text), "198.51.%u.%u", i >> 8, i & 255);
        wrong += abuse_add(s, key_of(text), 2, now) != 2;
    }
    tap_is_int(wrong, 0, "each newcomer has its own points only");
    tap_is_int(abuse_points(s, key_of("203.0.113.9"), now), 1000, "the great offender stays");
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(text, sizeof(text), "198.51.%u.%u", i >> 8, i & 255);
        strangers += abuse_points(s, key_of(text), now) != 0;
    }
    tap_ok(strangers > 0 && strangers < 8, "of the others the latest are known (%u)", strangers);
}

int main(void)
{
    if (segment_create_sized(1, 1, 1, 1, &s) < 0)
        tap_bail("segment");
    test_keys();
    test_fading();
    test_pressure();
    segment_close(&s);
    return tap_done();
}
