/* zstd (RFC 8878, 9659) over libzstd. */
#include "base/err.h"
#include "worker/filter/codec.h"

#include <stdio.h>
#include <zstd.h>

/* The library allocates by itself; what it holds is asked for after each call. */
struct zstd_state {
    struct codec_state st;
    ZSTD_CCtx *c;
    size_t counted; /* of c, in heap.used */
};

static void zstd_count(struct zstd_state *s)
{
    struct codec_heap *h = s->st.heap;
    h->used -= s->counted;
    s->counted = ZSTD_sizeof_CCtx(s->c);
    h->used += s->counted;
}

static size_t zstd_room(const struct codec_spec *spec)
{
    return spec->small        ? 128u << 10
           : spec->level < 4  ? 2u << 20
           : spec->level < 13 ? 6u << 20
                              : 12u << 20;
}

static struct codec_state *zstd_make(struct codec_heap *h, bool small)
{
    struct zstd_state *s = codec_alloc(h, sizeof *s);
    ZSTD_CCtx *c = s ? ZSTD_createCCtx() : NULL;
    if (!c) {
        codec_free(h, s);
        return NULL;
    }
    *s = (struct zstd_state){.st = {.codec = &codec_zstd, .heap = h, .small = small}, .c = c};
    zstd_count(s);
    return &s->st;
}

static int zstd_start(struct codec_state *st, const struct codec_spec *spec)
{
    struct zstd_state *s = (struct zstd_state *)st;
    /* Windows as br has them: every decoder takes up to 8 MiB, but each state would cost that. */
    const int window = st->small ? 12 : 18, level = st->small ? 1 : spec->level;
    size_t e = ZSTD_CCtx_reset(s->c, ZSTD_reset_session_and_parameters);
    if (!ZSTD_isError(e))
        e = ZSTD_CCtx_setParameter(s->c, ZSTD_c_compressionLevel, level);
    if (!ZSTD_isError(e))
        e = ZSTD_CCtx_setParameter(s->c, ZSTD_c_windowLog, window);
    /* From level 4 on the tables are made for any length, unless it is known, or they are set. */
    if (!ZSTD_isError(e) && level > 3)
        e = ZSTD_CCtx_setParameter(s->c, ZSTD_c_hashLog, window);
    if (!ZSTD_isError(e) && level > 3)
        e = ZSTD_CCtx_setParameter(s->c, ZSTD_c_chainLog, window);
    if (!ZSTD_isError(e) && spec->size != UINT64_MAX)
        e = ZSTD_CCtx_setPledgedSrcSize(s->c, spec->size);
    return ZSTD_isError(e) ? -ERR_INTERNAL : 0;
}

static int zstd_run(struct codec_state *st, struct codec_io *io, enum codec_op op)
{
    static const ZSTD_EndDirective of[] = {
        [CODEC_RUN] = ZSTD_e_continue, [CODEC_FLUSH] = ZSTD_e_flush, [CODEC_END] = ZSTD_e_end};
    struct zstd_state *s = (struct zstd_state *)st;
    ZSTD_inBuffer in = {io->in, io->nin, 0};
    ZSTD_outBuffer out = {io->out, io->nout, 0};
    const size_t left = ZSTD_compressStream2(s->c, &out, &in, of[op]);
    io->in += in.pos;
    io->nin -= in.pos;
    io->out += out.pos;
    io->nout -= out.pos;
    zstd_count(s);
    if (ZSTD_isError(left))
        return -ERR_INTERNAL;
    return io->nin || (op == CODEC_RUN ? !io->nout : left != 0);
}

static void zstd_drop(struct codec_state *st)
{
    struct zstd_state *s = (struct zstd_state *)st;
    st->heap->used -= s->counted;
    (void)ZSTD_freeCCtx(s->c);
    codec_free(st->heap, s);
}

static void zstd_version(char *out, size_t cap)
{
    (void)snprintf(out, cap, "zstd %s", ZSTD_versionString());
}

const struct codec codec_zstd = {.name = {"zstd", 4},
                                 .fastest = 1,
                                 .best = 19,
                                 .room = zstd_room,
                                 .make = zstd_make,
                                 .start = zstd_start,
                                 .run = zstd_run,
                                 .drop = zstd_drop,
                                 .version = zstd_version};
