/* nghttp2's memory: the small pieces that come and go with each stream from pools, the rest from
 * the heap. */
#include "base/arena.h"
#include "base/pool.h"
#include "worker/http/h2_in.h"

#include <stdlib.h>

#define H2_UNIT 64u
#define H2_MOST 1024u

/* In front of each piece; its size keeps what follows aligned. */
struct h2_piece_head {
    struct pool *pool; /* NULL: of the heap */
    uint64_t unused;
};
_Static_assert(sizeof(struct h2_piece_head) == 16, "as malloc() aligns");

static const struct {
    const char *name;
    uint16_t size;
} h2_sizes[] = {{"nghttp2 64", 64},   {"nghttp2 128", 128},     {"nghttp2 192", 192},
                {"nghttp2 256", 256}, {"nghttp2 384", 384},     {"nghttp2 512", 512},
                {"nghttp2 768", 768}, {"nghttp2 1024", H2_MOST}};
#define H2_SIZES (sizeof(h2_sizes) / sizeof(h2_sizes[0]))

static struct pool h2_pools[H2_SIZES];
static uint8_t h2_pool_of[H2_MOST / H2_UNIT + 1]; /* by units */

void h2_memory_setup(void)
{
    size_t unit = 0;
    for (size_t i = 0; i < H2_SIZES; i++) {
        pool_init(&h2_pools[i], h2_sizes[i].name, h2_sizes[i].size);
        for (; unit <= h2_sizes[i].size / H2_UNIT; unit++)
            h2_pool_of[unit] = (uint8_t)i;
    }
}

static void *h2_malloc(size_t n, void *user)
{
    const size_t total = n + sizeof(struct h2_piece_head);
    struct pool *pool = NULL;
    struct h2_piece_head *h;
    (void)user;
    if (total < n)
        return NULL;
    if (total <= H2_MOST) {
        pool = &h2_pools[h2_pool_of[(total + H2_UNIT - 1) / H2_UNIT]];
        h = pool_get_raw(pool);
    } else {
        h = alloc_should_fail() ? NULL : malloc(total);
    }
    if (h == NULL)
        return NULL;
    h->pool = pool;
    return h + 1;
}

static void h2_release(void *p, void *user)
{
    (void)user;
    if (p == NULL)
        return;
    struct h2_piece_head *h = (struct h2_piece_head *)p - 1;
    if (h->pool != NULL)
        pool_put(h->pool, h);
    else
        free(h);
}

static void *h2_calloc(size_t n, size_t size, void *user)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes))
        return NULL;
    void *p = h2_malloc(bytes, user);
    return p != NULL ? memset(p, 0, bytes) : NULL;
}

static void *h2_realloc(void *p, size_t n, void *user)
{
    if (p == NULL)
        return h2_malloc(n, user);
    struct h2_piece_head *h = (struct h2_piece_head *)p - 1;
    if (h->pool == NULL) {
        /* However small it becomes: it stays where it is. */
        if (n > SIZE_MAX - sizeof(*h) || alloc_should_fail())
            return NULL;
        h = realloc(h, sizeof(*h) + n);
        return h != NULL ? h + 1 : NULL;
    }
    const size_t has = h->pool->size - sizeof(*h);
    if (n <= has)
        return p;
    void *q = h2_malloc(n, user);
    if (q != NULL) {
        memcpy(q, p, has);
        h2_release(p, user);
    }
    return q;
}

const nghttp2_mem h2_memory = {
    .malloc = h2_malloc, .free = h2_release, .calloc = h2_calloc, .realloc = h2_realloc};
