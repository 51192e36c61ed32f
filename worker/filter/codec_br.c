/* br (RFC 7932) over libbrotlienc. The library has no reset, and where memory runs out it ends the
 * process. So it gets its memory here: blocks that stay with the state for its next stream, and
 * when one cannot be had a jump back over the library, whose half-made state is then nothing but
 * blocks of ours. */
#include "base/err.h"
#include "worker/filter/codec.h"

#include <brotli/encode.h>
#include <setjmp.h>
#include <stdio.h>

#define BR_BLOCKS 64u /* held at a time; the library needs some 20 */

struct br_block {
    void *p;
    size_t n;
    bool busy;
};
struct br_state {
    struct codec_state st;
    BrotliEncoderState *e;
    struct br_block block[BR_BLOCKS];
    jmp_buf out_of_memory;
};

static void br_forget(struct br_state *s, struct br_block *b)
{
    codec_free(s->st.heap, b->p);
    *b = (struct br_block){0};
}

/* Only called by the library, below a setjmp(). */
static void *br_alloc(void *arg, size_t n)
{
    struct br_state *s = arg;
    struct br_block *best = NULL, *room = NULL, *idle = NULL;
    for (struct br_block *b = s->block; b < s->block + BR_BLOCKS; b++) {
        if (!b->p)
            room = b;
        else if (!b->busy)
            idle = b;
        if (b->p && !b->busy && b->n >= n && b->n / 2 <= n && (!best || b->n < best->n))
            best = b;
    }
    if (!best && !room && idle) {
        br_forget(s, idle);
        room = idle;
    }
    if (!best && room) {
        room->p = codec_alloc(s->st.heap, n);
        room->n = n;
        best = room->p ? room : NULL;
    }
    if (!best)
        longjmp(s->out_of_memory, 1);
    best->busy = true;
    return best->p;
}

static void br_free(void *arg, void *p)
{
    struct br_state *s = arg;
    for (struct br_block *b = s->block; p && b < s->block + BR_BLOCKS; b++)
        if (b->p == p) {
            b->busy = false;
            return;
        }
}

static size_t br_room(const struct codec_spec *spec)
{
    static const uint8_t mib[] = {1, 2, 3, 3, 4, 5, 6, 12, 22, 42, 64, 64};
    return spec->small ? 256u << 10 : (size_t)mib[spec->level] << 20;
}

static struct codec_state *br_make(struct codec_heap *h, bool small)
{
    struct br_state *s = codec_alloc(h, sizeof *s);
    if (!s)
        return NULL;
    memset(s, 0, sizeof *s);
    s->st = (struct codec_state){.codec = &codec_br, .heap = h, .small = small};
    return &s->st;
}

/* The window, as a power of two: what is larger than the content is of no use, and what is larger
 * than 256 KiB costs more memory than it saves bytes, but where time is no matter either. */
static uint32_t br_window(const struct codec_spec *spec)
{
    uint32_t bits = BROTLI_MIN_WINDOW_BITS;
    const uint32_t most = spec->small ? 12 : spec->level < 10 ? 18 : 22;
    while (bits < most && spec->size > (UINT64_C(1) << bits))
        bits++;
    return bits;
}

static int br_start(struct codec_state *st, const struct codec_spec *spec)
{
    struct br_state *s = (struct br_state *)st;
    /* What the last stream left is not asked to tidy up: it may have broken off anywhere. */
    s->e = NULL;
    for (struct br_block *b = s->block; b < s->block + BR_BLOCKS; b++)
        b->busy = false;
    if (setjmp(s->out_of_memory)) {
        s->e = NULL;
        return -ERR_NOMEM;
    }
    s->e = BrotliEncoderCreateInstance(br_alloc, br_free, s);
    if (!s->e)
        return -ERR_NOMEM;
    /* Beyond level 1 the tables alone are a mebibyte. */
    const int level = spec->small && spec->level > 1 ? 1 : spec->level;
    /* From a mebibyte on level 4 takes tables of four, for little. */
    const uint32_t most = (1u << 20) - 1, hint = spec->size < most ? (uint32_t)spec->size : most;
    if (!BrotliEncoderSetParameter(s->e, BROTLI_PARAM_QUALITY, (uint32_t)level) ||
        !BrotliEncoderSetParameter(s->e, BROTLI_PARAM_LGWIN, br_window(spec)) ||
        !BrotliEncoderSetParameter(s->e, BROTLI_PARAM_SIZE_HINT, hint))
        return -ERR_INTERNAL;
    return 0;
}

static int br_run(struct codec_state *st, struct codec_io *io, enum codec_op op)
{
    static const BrotliEncoderOperation of[] = {[CODEC_RUN] = BROTLI_OPERATION_PROCESS,
                                                [CODEC_FLUSH] = BROTLI_OPERATION_FLUSH,
                                                [CODEC_END] = BROTLI_OPERATION_FINISH};
    struct br_state *s = (struct br_state *)st;
    const uint8_t *in = (const uint8_t *)io->in;
    uint8_t *out = (uint8_t *)io->out;
    if (!s->e || setjmp(s->out_of_memory)) {
        s->e = NULL;
        return -ERR_NOMEM;
    }
    const bool ok = BrotliEncoderCompressStream(s->e, of[op], &io->nin, &in, &io->nout, &out, NULL);
    io->in = (const char *)in;
    io->out = (char *)out;
    if (!ok)
        return -ERR_INTERNAL;
    return io->nin || BrotliEncoderHasMoreOutput(s->e);
}

static void br_drop(struct codec_state *st)
{
    struct br_state *s = (struct br_state *)st;
    for (struct br_block *b = s->block; b < s->block + BR_BLOCKS; b++)
        br_forget(s, b);
    codec_free(st->heap, s);
}

static void br_version(char *out, size_t cap)
{
    const uint32_t v = BrotliEncoderVersion();
    (void)snprintf(out, cap, "brotli %u.%u.%u", v >> 24, v >> 12 & 0xfff, v & 0xfff);
}

const struct codec codec_br = {.name = {"br", 2},
                               .fastest = 1,
                               .best = 11,
                               .room = br_room,
                               .make = br_make,
                               .start = br_start,
                               .run = br_run,
                               .drop = br_drop,
                               .version = br_version};
