/* PROXY protocol, versions 1 and 2: good, bad, and cut anywhere. */
#include "worker/http/proxyp.h"

#include "base/err.h"
#include "t/unit/tap.h"

#define T(s) s, sizeof(s) - 1
#define SIG  "\r\n\r\n\0\r\nQUIT\n"
#define V4   "\xc0\x00\x02\x01\xc6\x33\x64\x02\x1f\x90\x01\xbb"

static const struct {
    const char *text;
    size_t n;
    bool local;
    const char *src, *dst; /* as addr_fmt prints them; NULL = not conveyed */
} good[] = {
    {T("PROXY TCP4 192.0.2.1 198.51.100.2 8080 443\r\n"), false, "192.0.2.1:8080",
     "198.51.100.2:443"},
    {T("PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n"), false, "255.255.255.255:65535",
     "0.0.0.0:0"},
    {T("PROXY TCP6 2001:db8::1 ::1 1 2\r\n"), false, "[2001:db8::1]:1", "[::1]:2"},
    {T("PROXY UNKNOWN\r\n"), true, NULL, NULL},
    {T("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"), true, NULL, NULL},
    {T(SIG "\x21\x11\x00\x0c" V4), false, "192.0.2.1:8080", "198.51.100.2:443"},
    {T(SIG "\x21\x11\x00\x13" V4 "\x03\x00\x04\x01\x02\x03\x04"), false, "192.0.2.1:8080",
     "198.51.100.2:443"},
    {T(SIG "\x21\x11\x00\x12" V4 "\x04\x00\x00\x04\x00\x00"), false, "192.0.2.1:8080",
     "198.51.100.2:443"},
    {T(SIG "\x21\x21\x00\x24"
           "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01"
           "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x01\x00\x02"),
     false, "[2001:db8::1]:1", "[::1]:2"},
    {T(SIG "\x20\x00\x00\x00"), true, NULL, NULL},
    {T(SIG "\x20\x11\x00\x0c" V4), true, NULL, NULL},
    {T(SIG "\x20\x00\x00\x03xyz"), true, NULL, NULL},
    {T(SIG "\x21\x00\x00\x00"), true, NULL, NULL},
    {T(SIG "\x21\x00\x00\x02xy"), true, NULL, NULL},
};

static const struct {
    const char *text;
    size_t n;
} bad[] = {
    {T("GET / HTTP/1.1\r\n")},
    {T("P ")},
    {T("PROXY\r\n")},
    {T("PROXY \r\n")},
    {T("PROXY TCP\r\n")},
    {T("proxy TCP4 192.0.2.1 198.51.100.2 8080 443\r\n")},
    {T("PROXY  TCP4 192.0.2.1 198.51.100.2 8080 443\r\n")},
    {T("PROXY TCP4 192.0.2.1  198.51.100.2 8080 443\r\n")},
    {T("PROXY TCP4 192.0.2.1 198.51.100.2 8080 443 \r\n")},
    {T("PROXY TCP4 192.0.2.1 198.51.100.2 8080\r\n")},
    {T("PROXY TCP4 192.0.2.1 198.51.100.2 8080 443 1\r\n")},
    {T("PROXY TCP4 192.0.2.1 198.51.100.2 8080 443\n")},
    {T("PROXY TCP4 192.0.2.1 198.51.100.2\r8080 443\r\n")},
    {T("PROXY TCP4 192.0.2.256 198.51.100.2 8080 443\r\n")},
    {T("PROXY TCP4 192.0.2 198.51.100.2 8080 443\r\n")},
    {T("PROXY TCP4 192.0.2.01 198.51.100.2 8080 443\r\n")},
    {T("PROXY TCP4 ::1 ::1 8080 443\r\n")},
    {T("PROXY TCP6 192.0.2.1 198.51.100.2 8080 443\r\n")},
    {T("PROXY TCP6 [::1] ::1 8080 443\r\n")},
    {T("PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n")},
    {T("PROXY TCP4 192.0.2.1 198.51.100.2 08080 443\r\n")},
    {T("PROXY TCP4 192.0.2.1 198.51.100.2 +80 443\r\n")},
    {T("PROXY TCP4 192.0.2.1 198.51.100.2 -1 443\r\n")},
    {T("PROXY TCP4 192.0.2.1 198.51.100.2 80 443x\r\n")},
    {T("PROXY UDP4 192.0.2.1 198.51.100.2 80 443\r\n")},
    {T("PROXY UNKNOWNX\r\n")},
    {T("PROXY UNKNOWN "
       "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
       "xxxxxxxxxxxxxx\r\n")},
    {T("\r\n\r\nX")},
    {T(SIG "\x11\x11\x00\x0c" V4)},
    {T(SIG "\x22\x11\x00\x0c" V4)},
    {T(SIG "\x21\x12\x00\x0c" V4)},
    {T(SIG "\x21\x41\x00\x0c" V4)},
    {T(SIG "\x21\x10\x00\x0c" V4)},
    {T(SIG "\x21\x11\x00\x0b" V4)},
    {T(SIG "\x21\x21\x00\x0c" V4)},
    {T(SIG "\x21\x11\x00\x0d" V4 "\x01")},
    {T(SIG "\x21\x11\x00\x0f" V4 "\x01\x00\x01")},
    {T(SIG "\x21\x11\x10\x01")},
    {T(SIG "\x20\x11\xff\xff")},
};

/* In memory of exactly n bytes. */
static int parse(const char *text, size_t n, struct proxyp *h)
{
    char *copy = malloc(n > 0 ? n : 1);
    if (copy == NULL)
        tap_bail("no memory");
    memcpy(copy, text, n);
    int rc = proxyp_parse(copy, n, h);
    free(copy);
    return rc;
}

static void check_addr(const union addr *a, const char *want)
{
    char text[128];
    if (want == NULL) {
        tap_is_int(a->sa.sa_family, AF_UNSPEC, "no address");
        return;
    }
    size_t n = addr_fmt(text, &a->sa, sizeof(*a));
    tap_is_str(slice_of(text, n), want, "address");
}

int main(void)
{
    struct proxyp h;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        bool again = true;
        for (size_t cut = 0; cut < good[i].n; cut++)
            again = again && parse(good[i].text, cut, &h) == -ERR_AGAIN;
        tap_ok(again, "good %zu: incomplete at every cut", i);
        char more[1024];
        memcpy(more, good[i].text, good[i].n);
        memcpy(more + good[i].n, "GET /", 5);
        tap_is_int(parse(more, good[i].n + 5, &h), good[i].n, "good %zu with more behind it", i);
        tap_is_int(parse(good[i].text, good[i].n, &h), good[i].n, "good %zu", i);
        tap_is_int(h.local, good[i].local, "local");
        check_addr(&h.src, good[i].src);
        check_addr(&h.dst, good[i].dst);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        tap_is_int(parse(bad[i].text, bad[i].n, &h), -ERR_BAD_PROXY, "bad %zu", i);
        /* Once refused, never asked to wait; once waiting, refused at the end. */
        bool sound = true, refused = false;
        for (size_t cut = 0; cut <= bad[i].n; cut++) {
            int rc = parse(bad[i].text, cut, &h);
            sound = sound && (rc == -ERR_BAD_PROXY || (rc == -ERR_AGAIN && !refused));
            refused = rc == -ERR_BAD_PROXY;
        }
        tap_ok(sound && h.src.sa.sa_family == AF_UNSPEC, "bad %zu at every cut", i);
    }
    char path[16 + 216];
    memset(path, 0, sizeof(path));
    memcpy(path, SIG "\x21\x31\x00\xd8", 16);
    tap_is_int(parse(path, sizeof(path), &h), sizeof(path), "unix addresses");
    tap_ok(!h.local && h.src.sa.sa_family == AF_UNSPEC, "unix addresses are not conveyed");
    char line[108] = "PROXY UNKNOWN ";
    memset(line + 14, 'x', 105 - 14);
    memcpy(line + 105, "\r\n", 2);
    tap_is_int(parse(line, 107, &h), 107, "the longest line");
    memset(line + 14, 'x', sizeof(line) - 14);
    tap_is_int(parse(line, 106, &h), -ERR_AGAIN, "106 bytes of a line");
    tap_is_int(parse(line, 107, &h), -ERR_BAD_PROXY, "107 bytes without an end");
    char large[16 + 4096];
    memset(large, 0, sizeof(large));
    memcpy(large, SIG "\x20\x00\x10\x00", 16);
    tap_is_int(parse(large, sizeof(large), &h), sizeof(large), "the longest version 2 header");
    return tap_done();
}
