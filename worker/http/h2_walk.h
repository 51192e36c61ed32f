/* Finds the frames in what a client sends, for those that nghttp2 passes over without a word. */
#ifndef WORKER_HTTP_H2_WALK_H
#define WORKER_HTTP_H2_WALK_H

#include <stddef.h>
#include <stdint.h>

struct h2_walk {
    uint8_t head[9]; /* of a frame, RFC 9113 4.1 */
    uint8_t nhead;
    uint32_t left; /* bytes to pass over: the preface first, then payloads */
};
struct h2_walk_frame {
    uint32_t length;
    uint8_t type, flags;
    int32_t id;
};
void h2_walk_init(struct h2_walk *w);
/* The next frame whose head ends in *p..*p+*n, which move behind it. 1, or 0: nothing left. */
int h2_walk_next(struct h2_walk *w, const char **p, size_t *n, struct h2_walk_frame *ret);

#endif
