/* The compressing filter, between its files: what heads decide (compress_head.c), the encoder in
 * the way of the body (compress.c). */
#ifndef WORKER_FILTER_COMPRESS_H
#define WORKER_FILTER_COMPRESS_H

#include "worker/filter/filter.h"

void compress_init(struct filters *f); /* part of filters_init() */
/* filter.h's and stream_filter's */
void compress_head(struct stream *s, struct http_response *r);
void compress_forget(struct stream *s);
void compress_choose(struct stream *s, const struct stream_stored *st, struct stream_coded *ret);
void compress_coded_head(const struct stream_stored *st, uint8_t coding, struct head_out *o);
int compress_encode(struct stream *s, const struct stream_stored *st, uint8_t coding,
                    void (*copy)(struct stream *s, struct slice bytes, bool end));
bool compress_turn(struct filters *f);

struct compress_how {
    const struct conf_coding_level *level;
    uint64_t size; /* UINT64_MAX: not known */
    bool eager;    /* an event stream */
    bool must;     /* the client takes nothing that is not encoded */
    void (*copy)(struct stream *s, struct slice bytes, bool end); /* see stream_filter.encode */
};
/* What is sent of s from now on is encoded. -ERR_FULL: the CPU has no time for it; -ERR_NOMEM. */
int compress_begin(struct stream *s, const struct compress_how *how);

#endif
