/* Chunked coding: decoded whole, at every cut and byte by byte, with the same result. */
#include "worker/http/h1_chunk.h"

#include "base/err.h"
#include "t/unit/tap.h"

#define T(s) s, sizeof(s) - 1

struct outcome {
    int rc;      /* of the last call */
    size_t used; /* in all */
    char data[4096];
    size_t ndata;
    struct h1_chunk c;
};

/* Feeds p[0..n) in pieces: up to `cut`, then the rest in pieces of `step`. */
static void decode(struct arena *a, const char *p, size_t n, size_t cut, size_t step,
                   struct outcome *o)
{
    memset(o, 0, sizeof(*o));
    h1_chunk_init(&o->c);
    size_t at = 0;
    while (at < n && o->rc == 0) {
        size_t take = at < cut ? cut - at : step;
        take = take < n - at ? take : n - at;
        char *piece = malloc(take);
        if (piece == NULL)
            tap_bail("no memory");
        memcpy(piece, p + at, take);
        size_t used = 0, data = 0;
        o->rc = h1_chunk_decode(&o->c, a, piece, take, &used, &data);
        if (o->rc == 0 && used != take)
            tap_bail("a part of the input was left without reason");
        memcpy(o->data + o->ndata, piece, data);
        o->ndata += data;
        o->used += used;
        at += used;
        free(piece);
    }
}

static bool same(const struct outcome *x, const struct outcome *y)
{
    return x->rc == y->rc && x->used == y->used && x->ndata == y->ndata &&
           memcmp(x->data, y->data, x->ndata) == 0 && x->c.trailer_n == y->c.trailer_n &&
           (x->c.trailer_n == 0 || memcmp(x->c.trailer, y->c.trailer, x->c.trailer_n) == 0);
}

static bool same_everywhere(const char *p, size_t n, const struct outcome *want)
{
    static struct outcome o;
    bool ok = true;
    for (size_t cut = 0; cut <= n; cut++) {
        struct arena a;
        arena_init(&a, NULL, 0, 0);
        decode(&a, p, n, cut, n > 0 ? n : 1, &o);
        ok = ok && same(&o, want);
        decode(&a, p, n, cut, 1, &o);
        ok = ok && same(&o, want);
        arena_fini(&a);
    }
    return ok;
}

static const struct {
    const char *text;
    size_t n;
    const char *data;
    size_t left; /* bytes behind the body */
    int trailers;
} good[] = {
    {T("0\r\n\r\n"), "", 0, 0},
    {T("0000000000000000\r\n\r\n"), "", 0, 0},
    {T("5\r\nhello\r\n0\r\n\r\n"), "hello", 0, 0},
    {T("5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n"), "hello", 16, 0},
    {T("1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n"), "abcdef", 0, 0},
    {T("000A\r\n0123456789\r\n00\r\n\r\n"), "0123456789", 0, 0},
    {T("a\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n"), "\r\n\r\n\r\n\r\n\r\n", 0, 0},
    {T("5;a\r\nhello\r\n0;b=c;d=\"e;f \\\" g\"\r\n\r\n"), "hello", 0, 0},
    {T("5; a = b\r\nhello\r\n0\r\n\r\n"), "hello", 0, 0},
    {T("5;\r\nhello\r\n0\r\n\r\n"), "hello", 0, 0},
    {T("0\r\nA: b\r\n\r\n"), "", 0, 1},
    {T("1\r\nx\r\n0\r\nA: b\r\nX-Sum:\t1 \r\nEmpty:\r\n\r\nrest"), "x", 4, 3},
    {T("0\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: a\r\nOk: 1\r\nIF-match: x\r\n"
       "Set-Cookie: a\r\nX-Forwarded-For: a\r\nX_Forwarded_For: a\r\nCookie: a\r\nAge: 1\r\n"
       "Connection: x\r\nContent-Encoding: gzip\r\nAuthorization: x\r\n\r\n"),
     "", 0, 1},
};

static const struct {
    const char *text;
    size_t n;
    int want;
} bad[] = {
    {T("\r\n"), ERR_BAD_CHUNK},
    {T("\n"), ERR_BAD_CHUNK},
    {T(";a\r\n"), ERR_BAD_CHUNK},
    {T("g\r\n"), ERR_BAD_CHUNK},
    {T("-1\r\n"), ERR_BAD_CHUNK},
    {T("+1\r\n"), ERR_BAD_CHUNK},
    {T("0x1\r\n"), ERR_BAD_CHUNK},
    {T(" 5\r\nhello\r\n"), ERR_BAD_CHUNK},
    {T("5 \r\nhello\r\n"), ERR_BAD_CHUNK},
    {T("5 ;a\r\nhello\r\n"), ERR_BAD_CHUNK},
    {T("5\t\r\nhello\r\n"), ERR_BAD_CHUNK},
    {T("5\0\r\nhello\r\n"), ERR_BAD_CHUNK},
    {T("5\nhello\r\n"), ERR_BAD_CHUNK},
    {T("5\rhello\r\n"), ERR_BAD_CHUNK},
    {T("5\r\nhello\n0\r\n\r\n"), ERR_BAD_CHUNK},
    {T("5\r\nhellox\r\n0\r\n\r\n"), ERR_BAD_CHUNK},
    {T("5\r\nhello\rx"), ERR_BAD_CHUNK},
    {T("5\r\nhello0\r\n\r\n"), ERR_BAD_CHUNK},
    {T("5\r\nhell\r\n0\r\n\r\n"), ERR_BAD_CHUNK},
    {T("5;a\nhello"), ERR_BAD_CHUNK},
    {T("5;a\rb"), ERR_BAD_CHUNK},
    {T("5;a\0b\r\n"), ERR_BAD_CHUNK},
    {T("5;a=\"b\r\nc\"\r\n"), ERR_BAD_CHUNK},
    {T("5;a=\"\x01\"\r\n"), ERR_BAD_CHUNK},
    {T("5;a=\"\\\r\n"), ERR_BAD_CHUNK},
    {T("00000000000000000\r\n"), ERR_BAD_CHUNK},
    {T("10000000000000000\r\n"), ERR_BAD_CHUNK},
    {T("4000000000000001\r\n"), ERR_BAD_CHUNK},
    {T("ffffffffffffffff\r\n"), ERR_BAD_CHUNK},
    {T("0\r\n\n"), ERR_BAD_TRAILER},
    {T("0\r\n\rx"), ERR_BAD_TRAILER},
    {T("0\r\nA: b\n\r\n"), ERR_BAD_TRAILER},
    {T("0\r\nA: b\rc\r\n"), ERR_BAD_TRAILER},
    {T("0\r\nA: b\0c\r\n"), ERR_BAD_TRAILER},
};

static void test_good(void)
{
    static struct outcome o;
    struct http_field field[16];
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct arena a;
        arena_init(&a, NULL, 0, 0);
        decode(&a, good[i].text, good[i].n, good[i].n, 1, &o);
        tap_is_int(o.rc, 1, "good %zu ends", i);
        tap_is_int(good[i].n - o.used, good[i].left, "good %zu: bytes left", i);
        tap_is_str(slice_of(o.data, o.ndata), good[i].data, "good %zu: data", i);
        tap_is_int(o.c.data, strlen(good[i].data), "good %zu: counted", i);
        tap_ok(same_everywhere(good[i].text, good[i].n, &o), "good %zu at every cut", i);
        tap_is_int(h1_chunk_trailers(&o.c, field, 16), good[i].trailers, "good %zu: trailers", i);
        size_t used = 9, data = 9;
        char more[] = "x";
        tap_ok(h1_chunk_decode(&o.c, &a, more, 1, &used, &data) == 1 && used == 0 && data == 0,
               "good %zu: the end stays", i);
        arena_fini(&a);
    }
}

static void test_bad(void)
{
    static struct outcome o;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct arena a;
        arena_init(&a, NULL, 0, 0);
        decode(&a, bad[i].text, bad[i].n, bad[i].n, 1, &o);
        tap_is_int(o.rc, -bad[i].want, "bad %zu", i);
        bool ok = true;
        for (size_t cut = 0; cut <= bad[i].n; cut++) {
            decode(&a, bad[i].text, bad[i].n, cut, 1, &o);
            ok = ok && o.rc == -bad[i].want;
        }
        tap_ok(ok, "bad %zu at every cut", i);
        char more[] = "0\r\n\r\n";
        size_t used, data;
        tap_is_int(h1_chunk_decode(&o.c, &a, more, 5, &used, &data), -bad[i].want,
                   "bad %zu stays refused", i);
        arena_fini(&a);
    }
}

static void test_limits(void)
{
    static struct outcome o;
    static char text[200000];
    struct arena a;
    arena_init(&a, NULL, 0, 0);
    memset(text, 'a', sizeof(text));
    memcpy(text, "1;", 2);
    memcpy(text + 2 + 256, "\r\nx\r\n0\r\n\r\n", 10);
    decode(&a, text, 268, 268, 1, &o);
    tap_is_int(o.rc, 1, "the longest extension");
    memset(text + 2, 'a', 257);
    memcpy(text + 2 + 257, "\r\n", 2);
    decode(&a, text, 261, 261, 1, &o);
    tap_is_int(o.rc, -ERR_BAD_CHUNK, "an extension too long");

    size_t n = 0;
    for (int i = 0; i < 70; i++) {
        memcpy(text + n, "1;", 2);
        memset(text + n + 2, 'e', 250);
        memcpy(text + n + 252, "\r\nx\r\n", 5);
        n += 257;
    }
    decode(&a, text, n, n, 1, &o);
    tap_is_int(o.rc, -ERR_BAD_CHUNK, "extensions of all chunks are bounded");
    tap_is_int(o.ndata, 65, "after 16 KiB");

    memcpy(text, "0\r\nA:", 5);
    memset(text + 5, 'a', 8192 - 4);
    memcpy(text + 3 + 8190, "\r\n\r\n", 4);
    decode(&a, text, 3 + 8194, 3 + 8194, 1, &o);
    tap_is_int(o.rc, 1, "the longest trailer section");
    struct http_field field[2];
    tap_is_int(h1_chunk_trailers(&o.c, field, 2), 1, "is parsed");
    memset(text + 5, 'a', 8192 - 3);
    memcpy(text + 3 + 8191, "\r\n\r\n", 4);
    decode(&a, text, 3 + 8195, 3 + 8195, 1, &o);
    tap_is_int(o.rc, -ERR_BAD_TRAILER, "a trailer section too long");
    decode(&a, T("0\r\nA: b\r\nB: c\r\n\r\n"), 99, 1, &o);
    tap_is_int(h1_chunk_trailers(&o.c, field, 1), -ERR_BAD_TRAILER, "too many trailer fields");
    tap_is_int(h1_chunk_trailers(&o.c, field, 2), 2, "as many as fit");
    tap_is_str(field[1].name, "B", "trailer name");
    tap_is_str(field[1].value, "c", "trailer value");
    decode(&a, T("0\r\nA : b\r\n\r\n"), 99, 1, &o);
    tap_ok(o.rc == 1 && h1_chunk_trailers(&o.c, field, 2) == -ERR_BAD_TRAILER,
           "a malformed trailer");
    decode(&a, T("0\r\nA: b\r\n c\r\n\r\n"), 99, 1, &o);
    tap_ok(o.rc == 1 && h1_chunk_trailers(&o.c, field, 2) == -ERR_BAD_TRAILER, "a folded trailer");
    arena_fini(&a);
    arena_init(&a, NULL, 0, 0);
    alloc_fail_at(1);
    decode(&a, T("0\r\nA: b\r\n\r\n"), 99, 1, &o);
    tap_is_int(o.rc, -ERR_NOMEM, "no memory for trailers");
    alloc_fail_at(0);
    arena_fini(&a);
}

static void test_head(void)
{
    static const uint64_t size[] = {0, 1, 15, 16, 255, 256, 4096, 0xabcdef, UINT64_MAX};
    for (size_t i = 0; i < sizeof(size) / sizeof(size[0]); i++) {
        char got[20], want[32];
        int n = snprintf(want, sizeof(want), "%llx\r\n", (unsigned long long)size[i]);
        tap_is_int(h1_chunk_head(got, size[i]), n, "size of a size line");
        tap_is_slice(slice_of(got, (size_t)n), slice_str(want), "size line");
    }
}

static void test_tail(void)
{
    const struct http_field f[] = {{.name = SLICE("A"), .value = SLICE("b")},
                                   {.name = SLICE("Long"), .value = SLICE("0123456789")}};
    char out[64];
    tap_is_slice(slice_of(out, h1_chunk_tail(out, sizeof(out), true, false, f, 2)), SLICE("\r\n"),
                 "behind a chunk");
    tap_is_int((long)h1_chunk_tail(out, sizeof(out), false, false, NULL, 0), 0, "nothing to end");
    tap_is_slice(slice_of(out, h1_chunk_tail(out, sizeof(out), false, true, NULL, 0)),
                 SLICE("0\r\n\r\n"), "the end");
    tap_is_slice(slice_of(out, h1_chunk_tail(out, sizeof(out), true, true, f, 2)),
                 SLICE("\r\n0\r\nA: b\r\nLong: 0123456789\r\n\r\n"), "with trailers");
    tap_is_slice(slice_of(out, h1_chunk_tail(out, 20, true, true, f, 2)), SLICE("\r\n0\r\n\r\n"),
                 "all of the trailers or none");
}

int main(void)
{
    test_good();
    test_bad();
    test_limits();
    test_head();
    test_tail();
    return tap_done();
}
