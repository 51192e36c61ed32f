/* Paths and authorities: a normalised path is stable and holds nothing that would change again. */
#include "base/err.h"
#include "t/fuzz/fuzz.h"
#include "worker/http/http.h"
#include "worker/http/uri.h"

static void check_path(struct slice s)
{
    struct slice rest = s;
    CHECK(s.n > 0 && s.p[0] == '/');
    CHECK(memmem(s.p, s.n, "//", 2) == NULL);
    CHECK(memmem(s.p, s.n, "%00", 3) == NULL);
    while (rest.n > 0) {
        ptrdiff_t slash = slice_chr(slice_of(rest.p + 1, rest.n - 1), '/');
        struct slice segment = slice_of(rest.p + 1, slash < 0 ? rest.n - 1 : (size_t)slash);
        CHECK(!slice_eq(segment, SLICE(".")) && !slice_eq(segment, SLICE("..")));
        rest = slice_of(rest.p + 1 + segment.n, rest.n - 1 - segment.n);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const struct slice in = slice_of((const char *)data, n);
    struct slice out = SLICE_NONE, again = SLICE_NONE, host = SLICE_NONE;
    struct arena a;
    arena_init(&a, NULL, 0, 0);
    int rc = uri_normalize(in, &a, &out);
    CHECK(rc == 0 || rc == -ERR_BAD_TARGET);
    if (rc == 0) {
        CHECK(out.n <= in.n);
        if (!slice_eq(out, SLICE("*")))
            check_path(out);
        CHECK(slice_eq(in, out) == (in.p == out.p));
        /* "%25" decodes to nothing but itself, so a second time changes nothing. */
        CHECK(uri_normalize(out, &a, &again) == 0 && slice_eq(again, out));
    }
    uint16_t port;
    rc = uri_authority(in, &host, &port);
    CHECK(rc == 0 || rc == -ERR_BAD_HOST);
    if (rc == 0) {
        char lower[300];
        CHECK(host.p == in.p && host.n > 0 && host.n <= 255 && host.n <= in.n);
        CHECK(port != 0 || in.n - host.n <= 1);
        for (size_t i = 0; i < in.n; i++)
            CHECK(in.p[i] > ' ' && in.p[i] != '@' && in.p[i] != '/' && in.p[i] != '%');
        int k = uri_host_lower(host, lower, sizeof(lower));
        CHECK(k > 0 ? slice_eq_ci(slice_of(lower, (size_t)k), slice_of(host.p, (size_t)k))
                    : slice_eq(host, SLICE(".")));
    }
    arena_fini(&a);
    return 0;
}
