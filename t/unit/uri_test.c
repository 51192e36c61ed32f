/* Paths as routes see them, and authorities. */
#include "worker/http/uri.h"

#include "base/err.h"
#include "t/unit/tap.h"

static const struct {
    const char *in, *want; /* NULL: -ERR_BAD_TARGET */
} path[] = {
    {"/", "/"},
    {"/a/b.html", "/a/b.html"},
    {"/.well-known/x", "/.well-known/x"},
    {"/..a/.b/c../d.", "/..a/.b/c../d."},
    {"/.../x", "/.../x"},
    {"*", "*"},
    {"/\xc3\xa9", "/\xc3\xa9"},
    {"/%7euser", "/~user"},
    {"/%41%2d%2E%5f", "/A-._"},
    {"/%c3%a9", "/%C3%A9"},
    {"/a%2fb", "/a%2Fb"},
    {"/a%2Fb", "/a%2Fb"},
    {"/%2520", "/%2520"},
    {"/%25%32%65", "/%252e"},
    {"//a///b//", "/a/b/"},
    {"///", "/"},
    {"/.", "/"},
    {"/./", "/"},
    {"/a/.", "/a/"},
    {"/a/./b", "/a/b"},
    {"/a/..", "/"},
    {"/a/../", "/"},
    {"/a/../b", "/b"},
    {"/a/b/../../c", "/c"},
    {"/a//../b", "/b"},
    {"/a/b/..", "/a/"},
    {"/a/%2e%2E/b", "/b"},
    {"/a/.%2e/b", "/b"},
    {"/a/%2e/b", "/a/b"},
    {"/a/..%2fb", "/a/..%2Fb"},
    {"/a/..;/b", "/a/..;/b"},
    {"/a\\..\\b", "/a\\..\\b"},
    {"/..", NULL},
    {"/../a", NULL},
    {"/a/../..", NULL},
    {"/a/../../b", NULL},
    {"/%2e%2e/a", NULL},
    {"/./..", NULL},
    {"//..", NULL},
    {"/%00", NULL},
    {"/a%0", NULL},
    {"/a%", NULL},
    {"/a%g0", NULL},
    {"/a%0g", NULL},
    {"/a%%30", NULL},
    {"", NULL},
    {"a", NULL},
    {"**", NULL},
    {"../a", NULL},
};

static void test_normalize(void)
{
    for (size_t i = 0; i < sizeof(path) / sizeof(path[0]); i++) {
        struct arena a;
        struct slice out = SLICE_NONE;
        const size_t n = strlen(path[i].in);
        char *copy = malloc(n > 0 ? n : 1);
        if (copy == NULL)
            tap_bail("no memory");
        memcpy(copy, path[i].in, n);
        arena_init(&a, NULL, 0, 0);
        int rc = uri_normalize(slice_of(copy, n), &a, &out);
        tap_is_int(rc, path[i].want != NULL ? 0 : -ERR_BAD_TARGET, "normalise %s", path[i].in);
        if (path[i].want != NULL) {
            struct slice twice;
            tap_is_str(out, path[i].want, "%s", path[i].in);
            tap_ok((strcmp(path[i].in, path[i].want) == 0) == (out.p == copy),
                   "%s: a copy only when it changes", path[i].in);
            tap_ok(uri_normalize(out, &a, &twice) == 0 && slice_eq(out, twice), "stable: %s",
                   path[i].in);
        }
        arena_fini(&a);
        free(copy);
    }
    struct arena a;
    struct slice out;
    arena_init(&a, NULL, 0, 0);
    alloc_fail_at(1);
    tap_is_int(uri_normalize(SLICE("/a/../b"), &a, &out), -ERR_NOMEM, "no memory");
    alloc_fail_at(0);
    arena_fini(&a);
}

static const struct {
    const char *in, *host;
    int port; /* -1: refused */
} authority[] = {
    {"example.com", "example.com", 0},
    {"Example.COM.", "Example.COM.", 0},
    {"example.com:8080", "example.com", 8080},
    {"example.com:65535", "example.com", 65535},
    {"example.com:", "example.com", 0},
    {"a_b-c~d", "a_b-c~d", 0},
    {"xn--bcher-kva.example", "xn--bcher-kva.example", 0},
    {"192.0.2.1:80", "192.0.2.1", 80},
    {"[::1]", "[::1]", 0},
    {"[2001:db8::1]:443", "[2001:db8::1]", 443},
    {"[::ffff:192.0.2.1]", "[::ffff:192.0.2.1]", 0},
    {"", NULL, -1},
    {":80", NULL, -1},
    {"a:65536", NULL, -1},
    {"a:0", NULL, -1},
    {"a:000000080", NULL, -1},
    {"a:8o", NULL, -1},
    {"a:+8", NULL, -1},
    {"a:80:80", NULL, -1},
    {"a b", NULL, -1},
    {" a", NULL, -1},
    {"a/b", NULL, -1},
    {"a?b", NULL, -1},
    {"a#b", NULL, -1},
    {"a\\b", NULL, -1},
    {"a,b", NULL, -1},
    {"u@a", NULL, -1},
    {"a%2eb", NULL, -1},
    {"\xc3\xa9", NULL, -1},
    {"a\"b", NULL, -1},
    {"<a>", NULL, -1},
    {"::1", NULL, -1},
    {"[::1", NULL, -1},
    {"[::1]x", NULL, -1},
    {"[::1]]", NULL, -1},
    {"[]", NULL, -1},
    {"[127.0.0.1]", NULL, -1},
    {"[fe80::1%eth0]", NULL, -1},
    {"[v1.a]", NULL, -1},
    {"x[::1]", NULL, -1},
};

static void test_authority(void)
{
    for (size_t i = 0; i < sizeof(authority) / sizeof(authority[0]); i++) {
        struct slice host = SLICE_NONE;
        uint16_t port = 0;
        int rc = uri_authority(slice_str(authority[i].in), &host, &port);
        tap_is_int(rc, authority[i].port < 0 ? -ERR_BAD_HOST : 0, "authority %s", authority[i].in);
        if (authority[i].port >= 0) {
            tap_is_str(host, authority[i].host, "host of %s", authority[i].in);
            tap_is_int(port, authority[i].port, "port of %s", authority[i].in);
        }
    }
    char text[300];
    struct slice host;
    uint16_t port;
    memset(text, 'a', sizeof(text));
    tap_is_int(uri_authority(slice_of(text, 255), &host, &port), 0, "255 bytes");
    tap_is_int(uri_authority(slice_of(text, 256), &host, &port), -ERR_BAD_HOST, "256 bytes");
    tap_is_int(uri_authority(SLICE("a\0b"), &host, &port), -ERR_BAD_HOST, "NUL");
}

static void test_lower(void)
{
    char out[8];
    tap_is_int(uri_host_lower(SLICE("WwW.A"), out, sizeof(out)), 5, "lower");
    tap_is_slice(slice_of(out, 5), SLICE("www.a"), "lower case");
    tap_is_int(uri_host_lower(SLICE("A.b."), out, sizeof(out)), 3, "trailing dot");
    tap_is_slice(slice_of(out, 3), SLICE("a.b"), "without its trailing dot");
    tap_is_int(uri_host_lower(SLICE("12345678"), out, sizeof(out)), 8, "just fits");
    tap_is_int(uri_host_lower(SLICE("123456789"), out, sizeof(out)), -ERR_BAD_HOST, "too long");
    tap_is_int(uri_host_lower(SLICE("."), out, sizeof(out)), -ERR_BAD_HOST, "a dot alone");
    tap_is_int(uri_host_lower(SLICE(""), out, sizeof(out)), -ERR_BAD_HOST, "nothing");
    tap_is_int(uri_host_lower(SLICE("[::A]"), out, sizeof(out)), 5, "IPv6");
}

int main(void)
{
    test_normalize();
    test_authority();
    test_lower();
    return tap_done();
}
