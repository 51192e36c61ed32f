/* Content codings, made by the library of each: a file per library behind one table. Streaming, in
 * bounded memory that is counted, and used again: making an encoder's state costs more than a short
 * answer. */
#ifndef WORKER_FILTER_CODEC_H
#define WORKER_FILTER_CODEC_H

#include "base/slice.h"
#include "config/config.h"

/* What the encoders of a process hold, and may. */
struct codec_heap {
    size_t used, limit; /* bytes; allocations beyond the limit fail */
    size_t reserved;    /* of the states that there are, by codec.room() */
};
/* NULL: over the limit, or no memory. */
void *codec_alloc(struct codec_heap *h, size_t n);
void codec_free(struct codec_heap *h, void *p);

enum codec_op {
    CODEC_RUN,   /* more follows; what comes out is the library's choice */
    CODEC_FLUSH, /* all that went in can be decoded from what has come out */
    CODEC_END
};
struct codec_io { /* moved by run() */
    const char *in;
    size_t nin;
    char *out;
    size_t nout; /* room; for a flush at least 16, or zlib makes no headway */
};
struct codec_spec {
    int level;
    /* Little memory before good ratio: the stream may stand open for hours. */
    bool small;
    uint64_t size; /* bytes to come; UINT64_MAX: not known */
};

/* Begins with this in each library's file. */
struct codec_state {
    const struct codec *codec;
    struct codec_heap *heap;
    struct codec_state *next; /* while it waits for its next use */
    size_t room;              /* reserved for it */
    bool small;
};
struct codec {
    struct slice name; /* as Content-Encoding has it */
    int fastest, best; /* levels */
    /* What a stream comes to hold at most; the test of codecs sees to it. */
    size_t (*room)(const struct codec_spec *spec);
    /* A new state. NULL: no memory. */
    struct codec_state *(*make)(struct codec_heap *h, bool small);
    /* Begins a stream in a new or a used state, whatever became of its last one. spec->small is the
     * one it was made with. 0 or -ERR_NOMEM. */
    int (*start)(struct codec_state *s, const struct codec_spec *spec);
    /* 0: all input is taken and the operation is complete; 1: the room is used up, call again with
     * the same operation; -ERR_NOMEM, -ERR_INTERNAL: only start() or drop() may follow. */
    int (*run)(struct codec_state *s, struct codec_io *io, enum codec_op op);
    void (*drop)(struct codec_state *s);
    /* "zlib 1.2.13" */
    void (*version)(char *out, size_t cap);
};
extern const struct codec codec_gzip, codec_br, codec_zstd;
/* NULL: not built in. */
const struct codec *codec_of(enum conf_coding c);

/* States at rest, the newest first. */
struct codec_pool {
    struct codec_heap heap;
    struct codec_state *idle[CONF_CODING__COUNT][2]; /* by coding and small */
    unsigned nidle[CONF_CODING__COUNT][2];
};
void codec_pool_init(struct codec_pool *p, size_t limit);
void codec_pool_fini(struct codec_pool *p);
/* A started stream, or NULL: what it may come to need is not to be had within the limit. So what
 * was begun can go on to its end. codec_put() ends it at any point. */
struct codec_state *codec_get(struct codec_pool *p, enum conf_coding c,
                              const struct codec_spec *spec);
void codec_put(struct codec_pool *p, struct codec_state *s);

#endif
