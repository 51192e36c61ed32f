/* Content codings: what is encoded in pieces of any size is decoded by the libraries' own decoders;
 * flush points; memory that runs out anywhere; states used again. */
#include <config.h>

#include "base/err.h"
#include "t/unit/tap.h"
#include "worker/filter/codec.h"

#include <brotli/decode.h>
#include <zlib.h>
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

#define TEXT (200u * 1024u)

static char text[TEXT], packed[2 * TEXT], plain[TEXT + 1];

/* Words of a small vocabulary, with numbers in between: compresses as pages do. */
static void make_text(void)
{
    static const char *const word[] = {
        "<div class=\"row\">", "lorem ", "ipsum ", "</div>\n", "{\"id\":", "true,", "dolor ",
        "sit amet, "};
    uint32_t x = 12345;
    for (size_t n = 0; n < TEXT;) {
        x = x * 1664525u + 1013904223u;
        char num[16];
        snprintf(num, sizeof num, "%u ", x >> 20);
        const char *w = x >> 28 ? word[x >> 24 & 7] : num;
        for (; *w && n < TEXT; w++)
            text[n++] = *w;
    }
}

/* How much of packed[0..n) can be decoded so far; -1: it is broken. *ret_end: it is complete. */
static long decode(enum conf_coding c, size_t n, bool *ret_end)
{
    *ret_end = false;
    if (c == CONF_CODING_GZIP) {
        z_stream z = {.next_in = (Bytef *)packed,
                      .avail_in = (uInt)n,
                      .next_out = (Bytef *)plain,
                      .avail_out = sizeof plain};
        int e = inflateInit2(&z, 15 + 16);
        while (e == Z_OK && z.avail_out)
            e = inflate(&z, Z_SYNC_FLUSH);
        const long got = (long)z.total_out;
        const bool all = !z.avail_in;
        inflateEnd(&z);
        *ret_end = e == Z_STREAM_END && all;
        return e == Z_STREAM_END || e == Z_BUF_ERROR ? got : -1;
    }
    if (c == CONF_CODING_BR) {
        BrotliDecoderState *d = BrotliDecoderCreateInstance(NULL, NULL, NULL);
        size_t nin = n, nout = sizeof plain, total = 0;
        const uint8_t *in = (const uint8_t *)packed;
        uint8_t *out = (uint8_t *)plain;
        BrotliDecoderResult r = BrotliDecoderDecompressStream(d, &nin, &in, &nout, &out, &total);
        BrotliDecoderDestroyInstance(d);
        *ret_end = r == BROTLI_DECODER_RESULT_SUCCESS && !nin;
        return r == BROTLI_DECODER_RESULT_ERROR ? -1 : (long)total;
    }
#ifdef HAVE_ZSTD
    ZSTD_DCtx *d = ZSTD_createDCtx();
    ZSTD_inBuffer in = {packed, n, 0};
    ZSTD_outBuffer out = {plain, sizeof plain, 0};
    size_t e = 1;
    while (in.pos < in.size && !ZSTD_isError(e))
        e = ZSTD_decompressStream(d, &out, &in);
    ZSTD_freeDCtx(d);
    *ret_end = e == 0;
    return ZSTD_isError(e) ? -1 : (long)out.pos;
#else
    return -1;
#endif
}

/* Runs one operation to its end with `step` bytes of room at a time. Negative: as run(). */
static int drive(struct codec_state *s, const char *p, size_t n, enum codec_op op, size_t step,
                 size_t *at)
{
    struct codec_io io = {.in = p, .nin = n};
    int e;
    do {
        io.out = packed + *at;
        io.nout = sizeof packed - *at < step ? sizeof packed - *at : step;
        e = s->codec->run(s, &io, op);
        *at = (size_t)(io.out - packed);
    } while (e == 1 && *at < sizeof packed);
    return e == 0 && io.nin ? -ERR_INTERNAL : e;
}

/* Encodes text[0..n) in pieces of `in` bytes. The packed size; 0: something went wrong. */
static size_t encode(struct codec_pool *p, enum conf_coding c, const struct codec_spec *spec,
                     size_t n, size_t in, size_t room)
{
    struct codec_state *s = codec_get(p, c, spec);
    size_t at = 0;
    int e = s ? 0 : -ERR_NOMEM;
    for (size_t i = 0; e == 0 && i < n; i += in)
        e = drive(s, text + i, n - i < in ? n - i : in, CODEC_RUN, room, &at);
    if (e == 0)
        e = drive(s, NULL, 0, CODEC_END, room, &at);
    if (s)
        codec_put(p, s);
    return e == 0 ? at : 0;
}

static bool same(enum conf_coding c, size_t packed_n, size_t n)
{
    bool end;
    return packed_n && decode(c, packed_n, &end) == (long)n && end && !memcmp(plain, text, n);
}

static void test_splits(enum conf_coding c)
{
    static const size_t piece[] = {1, 2, 7, 100, 4096, 65536, TEXT},
                        room[] = {1, 3, 64, 4096, TEXT}, size[] = {0, 1, 17, 1000, 70000, TEXT};
    struct codec_pool p;
    bool ok = true;
    codec_pool_init(&p, 64u << 20);
    for (unsigned small = 0; small < 2; small++)
        for (size_t z = 0; z < sizeof size / sizeof *size; z++)
            for (size_t i = 0; i < sizeof piece / sizeof *piece; i++)
                for (size_t r = 0; r < sizeof room / sizeof *room; r++) {
                    if (size[z] > 1000 && (piece[i] < 100 || room[r] < 64))
                        continue;
                    const struct codec_spec spec = {
                        .level = 4, .small = small, .size = i & 1 ? UINT64_MAX : size[z]};
                    const size_t n = encode(&p, c, &spec, size[z], piece[i], room[r]);
                    ok = ok && same(c, n, size[z]);
                }
    tap_ok(ok, "every split of input and output comes back whole");
    codec_pool_fini(&p);
    tap_is_int((long long)p.heap.used, 0, "all memory is given back");
}

static void test_levels(enum conf_coding c, int most)
{
    struct codec_pool p;
    const struct codec *k = codec_of(c);
    bool ok = true;
    size_t first = 0, last = 0;
    codec_pool_init(&p, 256u << 20);
    /* Up and down again in the same states: a level must not stay behind. */
    for (int l = k->fastest; l <= most; l++) {
        const struct codec_spec spec = {.level = l, .size = UINT64_MAX};
        last = encode(&p, c, &spec, TEXT, 4096, 4096);
        first = first ? first : last;
        ok = ok && same(c, last, TEXT);
    }
    const struct codec_spec spec = {.level = k->fastest, .size = UINT64_MAX};
    tap_ok(ok && last < first, "every level: %zu to %zu bytes", first, last);
    tap_is_int((long long)encode(&p, c, &spec, TEXT, 4096, 4096), (long long)first,
               "a state used again does as a new one");
    codec_pool_fini(&p);
}

static void test_flush(enum conf_coding c)
{
    bool ok = true, small_ok = true;
    for (unsigned small = 0; small < 2; small++) {
        struct codec_pool p;
        size_t at = 0, done = 0;
        bool end;
        const struct codec_spec spec = {.level = 4, .small = small, .size = UINT64_MAX};
        codec_pool_init(&p, 64u << 20);
        struct codec_state *s = codec_get(&p, c, &spec);
        for (size_t i = 0; s && i < 60; i++) {
            const size_t n = 1 + i * 37 % 900;
            ok = ok && drive(s, text + done, n, CODEC_RUN, 64, &at) == 0 &&
                 drive(s, NULL, 0, CODEC_FLUSH, 16 + i % 9, &at) == 0;
            done += n;
            ok = ok && decode(c, at, &end) == (long)done && !end && !memcmp(plain, text, done);
        }
        /* Nothing new: a flush more is no harm. */
        ok = ok && s && drive(s, NULL, 0, CODEC_FLUSH, 64, &at) == 0;
        ok = ok && drive(s, NULL, 0, CODEC_END, 64, &at) == 0 && same(c, at, done);
        small_ok = small_ok && (!small || p.heap.used < 600u << 10);
        if (s)
            codec_put(&p, s);
        codec_pool_fini(&p);
    }
    tap_ok(ok, "what was flushed can be decoded, each time");
    tap_ok(small_ok, "a stream that stands open holds little");
}

/* Whatever allocation fails: an error, nothing lost, and the next stream of the state is sound. */
static void test_memory(enum conf_coding c)
{
    const struct codec *k = codec_of(c);
    const struct codec_spec spec = {.level = 5, .size = UINT64_MAX};
    unsigned failed = 0, fine = 0;
    bool ok = true;
    for (size_t limit = 0; limit < 8u << 20; limit += limit < 1u << 20 ? 6007 : 160007) {
        struct codec_heap h = {.limit = limit};
        struct codec_state *s = k->make(&h, false);
        size_t at = 0;
        int e = s ? k->start(s, &spec) : -ERR_NOMEM;
        for (size_t i = 0; e == 0 && i < 50000; i += 5000)
            e = drive(s, text + i, 5000, CODEC_RUN, 4096, &at);
        if (e == 0)
            e = drive(s, NULL, 0, CODEC_END, 4096, &at);
        failed += e == -ERR_NOMEM;
        fine += e == 0;
        ok = ok && (e == -ERR_NOMEM || (e == 0 && same(c, at, 50000)));
        h.limit = 64u << 20;
        at = 0;
        if (s)
            ok = ok && k->start(s, &spec) == 0 && drive(s, text, 3000, CODEC_END, 4096, &at) == 0 &&
                 same(c, at, 3000);
        if (s)
            k->drop(s);
        ok = ok && h.used == 0;
    }
    /* zstd allocates by itself. */
    tap_ok(ok && fine && (failed || c == CONF_CODING_ZSTD),
           "memory that ends anywhere: %u failed softly, %u did not", failed, fine);
}

/* What is reserved for a stream is never less than what it takes. */
static void test_room(enum conf_coding c, int most)
{
    bool ok = true;
    for (unsigned small = 0; small < 2; small++)
        for (int l = 1; l <= most; l += l < 9 ? 1 : l == 9 ? 2 : 4)
            for (unsigned known = 0; known < 2; known++) {
                const uint64_t size = l > 9 ? 2u * TEXT : 8u * TEXT;
                const struct codec_spec spec = {
                    .level = l, .small = small, .size = known ? size : UINT64_MAX};
                struct codec_pool p;
                size_t top = 0, at = 0;
                int e = 0;
                codec_pool_init(&p, 64u << 20);
                struct codec_state *s = codec_get(&p, c, &spec);
                for (unsigned i = 0; s && i < size / TEXT && e == 0; i++, at = 0) {
                    e = drive(s, text, TEXT, CODEC_RUN, 65536, &at);
                    if (p.heap.used > top)
                        top = p.heap.used;
                }
                ok = ok && s && e == 0 && s->room == codec_of(c)->room(&spec) && top <= s->room;
                if (known || !ok)
                    printf("# level %d%s: %zu of %zu KiB\n", l, small ? " small" : "", top >> 10,
                           s ? s->room >> 10 : 0);
                if (s)
                    codec_put(&p, s);
                codec_pool_fini(&p);
                ok = ok && p.heap.reserved == 0;
            }
    tap_ok(ok, "streams keep to what is reserved for them");
}

static void test_pool(enum conf_coding c)
{
    struct codec_pool p;
    struct codec_state *s[6];
    const struct codec_spec spec = {.level = 4, .size = UINT64_MAX};
    codec_pool_init(&p, 64u << 20);
    for (size_t i = 0; i < 6; i++)
        s[i] = codec_get(&p, c, &spec);
    for (size_t i = 0; i < 6; i++)
        codec_put(&p, s[i]); /* broken off before a byte */
    tap_ok(p.nidle[c][0] == 4, "four states are kept");
    const size_t before = p.heap.used;
    tap_ok(same(c, encode(&p, c, &spec, 9000, 9000, 9000), 9000), "one of them works");
    tap_ok(encode(&p, c, &spec, 9000, 9000, 9000) && p.nidle[c][0] == 4 && p.heap.used >= before,
           "and is back");
    /* What rests is given up for who needs it. */
    p.heap.limit = p.heap.reserved;
    const struct codec_spec other = {.level = 4, .small = true, .size = UINT64_MAX};
    tap_ok(same(c, encode(&p, c, &other, 9000, 9000, 9000), 9000),
           "states at rest make room for others");
    codec_pool_fini(&p);
    tap_is_int((long long)p.heap.used, 0, "nothing is left");
}

int main(void)
{
    static const int most[CONF_CODING__COUNT] = {
        [CONF_CODING_BR] = 9, [CONF_CODING_GZIP] = 9, [CONF_CODING_ZSTD] = 9};
    static const int best[CONF_CODING__COUNT] = {
        [CONF_CODING_BR] = 11, [CONF_CODING_GZIP] = 9, [CONF_CODING_ZSTD] = 19};
    make_text();
    for (unsigned i = 0; i < CONF_CODING__COUNT; i++) {
        const enum conf_coding c = (enum conf_coding)i;
        char version[64];
        if (!codec_of(c))
            continue;
        codec_of(c)->version(version, sizeof version);
        printf("# %s\n", version);
        test_splits(c);
        test_levels(c, most[c]);
        test_flush(c);
        test_memory(c);
        test_room(c, best[c]);
        test_pool(c);
    }
    return tap_done();
}
