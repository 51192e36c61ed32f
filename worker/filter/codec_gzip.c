/* gzip (RFC 1952) over zlib. */
#include "base/err.h"
#include "worker/filter/codec.h"

#include <stdio.h>
#include <zlib.h>

struct gzip_state {
    struct codec_state st;
    z_stream z;
    int level;
};

static voidpf gzip_alloc(voidpf heap, uInt items, uInt size)
{
    return codec_alloc(heap, (size_t)items * size);
}

static void gzip_free(voidpf heap, voidpf p)
{
    codec_free(heap, p);
}

static size_t gzip_room(const struct codec_spec *spec)
{
    return spec->small ? 48u << 10 : 272u << 10;
}

static struct codec_state *gzip_make(struct codec_heap *h, bool small)
{
    /* 256 KiB; small: 38 KiB */
    const int window = small ? 12 : 15, memory = small ? 5 : 8, as_gzip = 16;
    struct gzip_state *s = codec_alloc(h, sizeof *s);
    if (!s)
        return NULL;
    *s = (struct gzip_state){.st = {.codec = &codec_gzip, .heap = h, .small = small},
                             .z = {.zalloc = gzip_alloc, .zfree = gzip_free, .opaque = h},
                             .level = 1};
    if (deflateInit2(&s->z, s->level, Z_DEFLATED, window + as_gzip, memory, Z_DEFAULT_STRATEGY) !=
        Z_OK) {
        codec_free(h, s);
        return NULL;
    }
    return &s->st;
}

static int gzip_start(struct codec_state *st, const struct codec_spec *spec)
{
    struct gzip_state *s = (struct gzip_state *)st;
    if (deflateReset(&s->z) != Z_OK)
        return -ERR_INTERNAL;
    if (s->level != spec->level && deflateParams(&s->z, spec->level, Z_DEFAULT_STRATEGY) != Z_OK)
        return -ERR_INTERNAL;
    s->level = spec->level;
    return 0;
}

static int gzip_run(struct codec_state *st, struct codec_io *io, enum codec_op op)
{
    struct gzip_state *s = (struct gzip_state *)st;
    const int flush = op == CODEC_END ? Z_FINISH : op == CODEC_FLUSH ? Z_SYNC_FLUSH : Z_NO_FLUSH;
    /* zlib counts in 32 bits: a piece at a time. */
    const uInt most = 1u << 30, nin = io->nin < most ? (uInt)io->nin : most,
               nout = io->nout < most ? (uInt)io->nout : most;
    const bool last = nin == io->nin;
    s->z.next_in = (Bytef *)(uintptr_t)io->in;
    s->z.avail_in = nin;
    s->z.next_out = (Bytef *)io->out;
    s->z.avail_out = nout;
    const int e = deflate(&s->z, last ? flush : Z_NO_FLUSH);
    io->in += nin - s->z.avail_in;
    io->nin -= nin - s->z.avail_in;
    io->out += nout - s->z.avail_out;
    io->nout -= nout - s->z.avail_out;
    if (e == Z_STREAM_END)
        return 0;
    if (e != Z_OK && e != Z_BUF_ERROR) /* nothing to do is no error */
        return -ERR_INTERNAL;
    return io->nin || !s->z.avail_out || op == CODEC_END;
}

static void gzip_drop(struct codec_state *st)
{
    struct gzip_state *s = (struct gzip_state *)st;
    (void)deflateEnd(&s->z);
    codec_free(st->heap, s);
}

static void gzip_version(char *out, size_t cap)
{
    (void)snprintf(out, cap, "zlib %s", zlibVersion());
}

const struct codec codec_gzip = {.name = {"gzip", 4},
                                 .fastest = 1,
                                 .best = 9,
                                 .room = gzip_room,
                                 .make = gzip_make,
                                 .start = gzip_start,
                                 .run = gzip_run,
                                 .drop = gzip_drop,
                                 .version = gzip_version};
