/* Addresses and ranges: what parses, prints, matches, and what is refused. */
#include "base/addr.h"
#include "base/err.h"
#include "t/unit/tap.h"

#include <arpa/inet.h>

static void parses(const char *text, const char *want)
{
    struct addr_any a;
    char out[128];
    if (!tap_is_int(addr_parse(slice_str(text), &a), 0, "'%s' parses", text))
        return;
    size_t n = addr_fmt(out, &a.u.sa, a.len);
    tap_is_str(slice_of(out, n), want, "and prints as %s", want);
    tap_ok(out[n] == '\0', "with a NUL");
}

static void test_parse(void)
{
    parses("127.0.0.1:80", "127.0.0.1:80");
    parses("255.255.255.255:65535", "255.255.255.255:65535");
    parses("127.0.0.1:0", "127.0.0.1:0");
    parses(":8080", "0.0.0.0:8080");
    parses("*:8080", "0.0.0.0:8080");
    parses("[::1]:80", "[::1]:80");
    parses("[::]:443", "[::]:443");
    parses("[::ffff:10.0.0.1]:1", "[::ffff:10.0.0.1]:1");
    parses("unix:/run/x.sock", "unix:/run/x.sock");
    static const char *const bad[] = {"",
                                      ":",
                                      "80",
                                      "127.0.0.1",
                                      "127.0.0.1:",
                                      "127.0.0.1:65536",
                                      "127.0.0.1:080",
                                      "1.2.3:80",
                                      "127.0.0.01:80",
                                      "1.2.3.4.5:80",
                                      "256.1.1.1:80",
                                      "1.2.3.4:-1",
                                      "1.2.3.4:+1",
                                      "1.2.3.4: 1",
                                      "localhost:80",
                                      "::1:80",
                                      "[::1]",
                                      "[::1]80",
                                      "[::1:80",
                                      "[1.2.3.4]:80",
                                      "[]:80",
                                      "[fe80::1%lo]:80",
                                      "[::1]]:80",
                                      "0x7f.1:80",
                                      " 1.2.3.4:80",
                                      "**:80",
                                      "unix:",
                                      "unix:x",
                                      "1.2.3.4:80:90",
                                      "1.2.3.4:99999999999999999999"};
    struct addr_any a;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        tap_is_int(addr_parse(slice_str(bad[i]), &a), -ERR_INVAL, "'%s' is refused", bad[i]);
    tap_is_int(addr_parse(SLICE("1.2.3.4\0:80"), &a), -ERR_INVAL, "NUL in an address");
    tap_is_int(addr_parse(SLICE("unix:/a\0b"), &a), -ERR_INVAL, "NUL in a path");
    char path[200] = "unix:/";
    memset(path + 6, 'p', sizeof(path) - 6);
    tap_is_int(addr_parse(slice_of(path, 5 + 107), &a), 0, "the longest path");
    char out[128];
    tap_is_int(addr_fmt(out, &a.u.sa, a.len), 112, "prints whole");
    tap_is_int(addr_parse(slice_of(path, 5 + 108), &a), -ERR_INVAL, "a path too long");
}

static void test_split(void)
{
    struct slice name;
    uint16_t port = 0;
    tap_is_int(addr_split(SLICE("app.example:8080"), &name, &port), 0, "a name");
    tap_is_str(name, "app.example", "its name");
    tap_is_int(port, 8080, "its port");
    tap_is_int(addr_split(SLICE("[::1]:81"), &name, &port), 0, "an IPv6 literal");
    tap_is_str(name, "::1", "without its brackets");
    tap_is_int(addr_split(SLICE("10.0.0.1:82"), &name, &port), 0, "an IPv4 literal");
    static const char *const bad[] = {"app",       "app:",   ":80",    "app:0", "a b:80",
                                      "a:b:80",    "a/b:80", "[x]:80", "-a:80", ".a:80",
                                      "app:70000", "a@b:80", "\xc3:80"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        tap_is_int(addr_split(slice_str(bad[i]), &name, &port), -ERR_INVAL, "'%s' is refused",
                   bad[i]);
}

static bool matches(const char *range, const char *ip)
{
    struct cidr c;
    union addr a;
    if (cidr_parse(slice_str(range), &c) < 0 || addr_parse_ip(slice_str(ip), &a) < 0)
        tap_bail("%s or %s does not parse", range, ip);
    return cidr_match_any(&c, 1, &a.sa);
}

static void test_cidr(void)
{
    tap_ok(matches("10.0.0.0/8", "10.255.1.2") && !matches("10.0.0.0/8", "11.0.0.0"), "/8");
    tap_ok(matches("10.0.0.128/25", "10.0.0.200") && !matches("10.0.0.128/25", "10.0.0.127"),
           "/25");
    tap_ok(matches("0.0.0.0/0", "1.2.3.4") && !matches("0.0.0.0/0", "::1"), "all of IPv4 only");
    tap_ok(matches("::/0", "::1") && !matches("::/0", "1.2.3.4"), "all of IPv6 only");
    tap_ok(!matches("::/0", "::ffff:1.2.3.4"), "mapped is IPv4");
    tap_ok(matches("1.2.3.4", "::ffff:1.2.3.4") && !matches("1.2.3.4", "1.2.3.5"), "one host");
    tap_ok(matches("::ffff:1.2.3.0/120", "1.2.3.9"), "a mapped range is IPv4");
    tap_ok(matches("2001:db8::/33", "2001:db8:7fff::") &&
               !matches("2001:db8::/33", "2001:db8:8000::"),
           "/33");
    tap_ok(matches("::1", "::1") && !matches("::1", "::2"), "one IPv6 host");
    struct cidr c[2];
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    union addr a = {0};
    tap_is_int(cidr_parse(SLICE("unix"), &c[0]), 0, "unix");
    tap_ok(cidr_match_any(&c[0], 1, (const void *)&un), "matches a unix peer");
    tap_is_int(cidr_parse(SLICE("127.0.0.0/8"), &c[1]), 0, "two ranges");
    addr_parse_ip(SLICE("127.0.0.1"), &a);
    tap_ok(cidr_match_any(c, 2, &a.sa) && !cidr_match_any(c, 1, &a.sa) &&
               !cidr_match_any(c, 0, &a.sa),
           "any of some");
    static const char *const bad[] = {"",          "10.0.0.1/8", "10.0.0.0/33", "::/129",
                                      "10.0.0.0/", "/8",         "10.0.0.0/08", "10.0.0.0/-1",
                                      "::1/64",    "x",          "10.0.0.0/8/8"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        tap_is_int(cidr_parse(slice_str(bad[i]), &c[0]), -ERR_INVAL, "'%s' is refused", bad[i]);
}

static void test_print(void)
{
    union addr a;
    char out[64];
    static const char *const same[] = {"0.0.0.0", "9.10.99.100", "255.200.1.0",
                                       "::", "2001:db8::1"};
    for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        tap_is_int(addr_parse_ip(slice_str(same[i]), &a), 0, "address %zu parses", i);
        tap_is_str(slice_of(out, addr_fmt_ip(out, &a.sa)), same[i], "and prints");
    }
    addr_parse_ip(SLICE("::ffff:1.2.3.4"), &a);
    tap_is_str(slice_of(out, addr_fmt_ip(out, &a.sa)), "1.2.3.4", "mapped prints as IPv4");
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    char text[128];
    tap_is_str(slice_of(text, addr_fmt(text, (const void *)&un, sizeof(sa_family_t))),
               "unix:", "an unnamed unix peer");
    struct addr_any x;
    addr_parse(SLICE("[::1]:80"), &x);
    tap_is_int(addr_port(&x.u.sa), 80, "port");
}

int main(void)
{
    test_parse();
    test_split();
    test_cidr();
    test_print();
    return tap_done();
}
