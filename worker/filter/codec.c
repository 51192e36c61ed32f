/* The table of codings, counted memory, states that are used again; see codec.h. */
#include <config.h>

#include "worker/filter/codec.h"

#include <stdlib.h>

#define CODEC_IDLE 4u /* states at rest per coding and size: a burst's are given back */

/* In front of each block; as aligned as malloc's. */
union codec_block {
    size_t n;
    max_align_t align;
};

void *codec_alloc(struct codec_heap *h, size_t n)
{
    if (n > h->limit || h->used > h->limit - n)
        return NULL;
    union codec_block *b = malloc(sizeof *b + n);
    if (!b)
        return NULL;
    b->n = n;
    h->used += n;
    return b + 1;
}

void codec_free(struct codec_heap *h, void *p)
{
    if (!p)
        return;
    union codec_block *b = (union codec_block *)p - 1;
    h->used -= b->n;
    free(b);
}

const struct codec *codec_of(enum conf_coding c)
{
    static const struct codec *const table[CONF_CODING__COUNT] = {
        [CONF_CODING_BR] = &codec_br,
        [CONF_CODING_GZIP] = &codec_gzip,
#ifdef HAVE_ZSTD
        [CONF_CODING_ZSTD] = &codec_zstd,
#endif
    };
    return table[c];
}

void codec_pool_init(struct codec_pool *p, size_t limit)
{
    *p = (struct codec_pool){.heap.limit = limit};
}

static struct codec_state *codec_take(struct codec_pool *p, unsigned c, bool small)
{
    struct codec_state *s = p->idle[c][small];
    if (s) {
        p->idle[c][small] = s->next;
        p->nidle[c][small]--;
    }
    return s;
}

static void codec_drop(struct codec_state *s)
{
    s->heap->reserved -= s->room;
    s->codec->drop(s);
}

static bool codec_trim(struct codec_pool *p)
{
    bool any = false;
    for (unsigned c = 0; c < CONF_CODING__COUNT; c++)
        for (unsigned small = 0; small < 2; small++)
            for (struct codec_state *s; (s = codec_take(p, c, small)); any = true)
                codec_drop(s);
    return any;
}

void codec_pool_fini(struct codec_pool *p)
{
    (void)codec_trim(p);
}

static struct codec_state *codec_make(struct codec_pool *p, const struct codec *codec, bool small,
                                      size_t room)
{
    struct codec_heap *h = &p->heap;
    const bool fits = room <= h->limit && h->reserved <= h->limit - room;
    struct codec_state *s = fits ? codec->make(h, small) : NULL;
    if (s) {
        s->room = room;
        h->reserved += room;
    }
    return s;
}

struct codec_state *codec_get(struct codec_pool *p, enum conf_coding c,
                              const struct codec_spec *spec)
{
    const struct codec *codec = codec_of(c);
    if (!codec)
        return NULL;
    const size_t room = codec->room(spec);
    struct codec_state *s = codec_take(p, c, spec->small);
    do {
        if (s && s->room < room) { /* it was made for a lower level */
            codec_drop(s);
            s = NULL;
        }
        if (!s)
            s = codec_make(p, codec, spec->small, room);
        if (s && codec->start(s, spec) == 0)
            return s;
        if (s)
            codec_drop(s);
        s = NULL;
    } while (codec_trim(p)); /* what others left may be what is missing */
    return NULL;
}

void codec_put(struct codec_pool *p, struct codec_state *s)
{
    unsigned c = 0;
    while (codec_of((enum conf_coding)c) != s->codec)
        c++;
    if (p->nidle[c][s->small] == CODEC_IDLE) {
        codec_drop(s);
        return;
    }
    s->next = p->idle[c][s->small];
    p->idle[c][s->small] = s;
    p->nidle[c][s->small]++;
}
