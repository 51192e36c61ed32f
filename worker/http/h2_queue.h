/* Bytes that wait for a stream's turn: a list of pieces from a pool, so that a long queue is never
 * moved and an empty one holds nothing. */
#ifndef WORKER_HTTP_H2_QUEUE_H
#define WORKER_HTTP_H2_QUEUE_H

#include <stddef.h>
#include <stdint.h>

struct h2_piece;
struct h2_queue { /* zeroed: empty */
    struct h2_piece *first, *last;
    uint32_t off, fill; /* where first begins, where last ends */
    size_t n;           /* bytes in it */
};
/* Before the first use by this process. */
void h2_queue_setup(void);
/* A copy of p[0..n) behind the rest, all or nothing. 0 or -ERR_NOMEM. */
int h2_queue_add(struct h2_queue *q, const char *p, size_t n);
/* Moves the first n bytes, which must be there, into out. */
void h2_queue_take(struct h2_queue *q, char *out, size_t n);
void h2_queue_drop(struct h2_queue *q);

#endif
