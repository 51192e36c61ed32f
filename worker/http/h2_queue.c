/* Queued bytes of HTTP/2 streams in pieces of a pool; see h2_queue.h. */
#include "worker/http/h2_queue.h"

#include "base/err.h"
#include "base/pool.h"

#include <string.h>

#define H2_PIECE 4096u /* an object of the pool */

struct h2_piece {
    struct h2_piece *next;
    char data[H2_PIECE - sizeof(struct h2_piece *)];
};
#define H2_PIECE_DATA sizeof(((struct h2_piece *)NULL)->data)

static struct pool h2_queue_pool;

void h2_queue_setup(void)
{
    pool_init(&h2_queue_pool, "h2 queued bytes", sizeof(struct h2_piece));
}

/* Pieces for n bytes, linked; NULL when memory is out. */
static struct h2_piece *h2_queue_pieces(size_t n)
{
    struct h2_piece *all = NULL;
    for (size_t have = 0; have < n; have += H2_PIECE_DATA) {
        struct h2_piece *c = pool_get_raw(&h2_queue_pool);
        if (c == NULL) {
            while (all != NULL) {
                c = all;
                all = c->next;
                pool_put(&h2_queue_pool, c);
            }
            return NULL;
        }
        c->next = all;
        all = c;
    }
    return all;
}

int h2_queue_add(struct h2_queue *q, const char *p, size_t n)
{
    const size_t room = q->last != NULL ? H2_PIECE_DATA - q->fill : 0;
    if (n > room) {
        struct h2_piece *more = h2_queue_pieces(n - room);
        if (more == NULL)
            return -ERR_NOMEM;
        if (q->last == NULL) {
            q->first = q->last = more;
            q->off = q->fill = 0;
        } else {
            q->last->next = more;
        }
    }
    q->n += n;
    while (n > 0) {
        if (q->fill == H2_PIECE_DATA) {
            q->last = q->last->next;
            q->fill = 0;
        }
        const size_t k = n < H2_PIECE_DATA - q->fill ? n : H2_PIECE_DATA - q->fill;
        memcpy(q->last->data + q->fill, p, k);
        q->fill += (uint32_t)k;
        p += k;
        n -= k;
    }
    return 0;
}

void h2_queue_take(struct h2_queue *q, char *out, size_t n)
{
    q->n -= n;
    while (n > 0) {
        struct h2_piece *c = q->first;
        const size_t have = (c == q->last ? q->fill : H2_PIECE_DATA) - q->off;
        const size_t k = n < have ? n : have;
        memcpy(out, c->data + q->off, k);
        q->off += (uint32_t)k;
        out += k;
        n -= k;
        if (k < have)
            break;
        q->first = c->next;
        q->off = 0;
        if (q->first == NULL)
            q->last = NULL;
        pool_put(&h2_queue_pool, c);
    }
}

void h2_queue_drop(struct h2_queue *q)
{
    while (q->first != NULL) {
        struct h2_piece *c = q->first;
        q->first = c->next;
        pool_put(&h2_queue_pool, c);
    }
    q->last = NULL;
    q->n = 0;
}
