/* The table of filters, in the order in which an answer passes them, and what they share. */
#include "worker/filter/compress.h"

#include "base/clock.h"
#include "base/err.h"

#include <stdlib.h>

static const struct {
    void (*head)(struct stream *s, struct http_response *r);
    bool (*turn)(struct filters *f);
} filters[] = {
    {compress_head, compress_turn},
};
#define FILTERS (sizeof filters / sizeof filters[0])

static void filters_head(struct stream *s, struct http_response *r)
{
    for (size_t i = 0; i < FILTERS; i++)
        filters[i].head(s, r);
}

bool filters_turn(struct filters *f)
{
    bool more = false;
    for (size_t i = 0; i < FILTERS; i++)
        more |= filters[i].turn(f);
    return more;
}

static const struct stream_filter filters_ops = {.head = filters_head,
                                                 .forget = compress_forget,
                                                 .choose = compress_choose,
                                                 .coded_head = compress_coded_head,
                                                 .encode = compress_encode};

int filters_init(struct filters *f, struct stream_env *env)
{
    *f = (struct filters){.env = env, .out = malloc(FILTER_OUT)};
    if (!f->out)
        return -ERR_NOMEM;
    compress_init(f);
    codec_pool_init(&f->codecs, env->config->global.compress_memory);
    cpu_share_init(&f->cpu, clock_us());
    env->filter = &filters_ops;
    env->filters = f;
    return 0;
}

void filters_fini(struct filters *f)
{
    codec_pool_fini(&f->codecs);
    free(f->out);
    f->out = NULL;
}
