/* Arena: bump allocation for one exchange or one configuration; freed all at once.
 * Failure is sticky: after one failed allocation every later one fails too, so that a
 * caller may build much and check arena_failed() once. Freed memory is ASan-poisoned. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/slice.h"

#include <stdarg.h>

struct arena_block;
struct arena {
    char *cur, *end;             /* free room of the current block */
    struct arena_block *blocks;  /* heap blocks, newest first */
    char *inline_base;           /* caller's first block, never freed here */
    size_t inline_size;
    size_t total;                /* bytes of heap blocks */
    size_t limit;                /* 0 = none; total may not pass it */
    bool failed;
};

/* inline_mem (may be NULL) is used first and stays the caller's. limit bounds heap bytes, 0 = none. */
void arena_init(struct arena *a, void *inline_mem, size_t inline_size, size_t limit);
void arena_reset(struct arena *a);  /* frees heap blocks, back to the inline block, clears `failed` */
void arena_fini(struct arena *a);
/* Aligned to 16; NULL on failure (sticky). arena_zalloc zeroes. */
void *arena_alloc(struct arena *a, size_t n);
void *arena_zalloc(struct arena *a, size_t n);
char *arena_bytes(struct arena *a, size_t n);                     /* unaligned; for text */
struct slice arena_dup(struct arena *a, struct slice s);          /* NUL-terminated copy; .p NULL on failure */
struct slice arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline bool arena_failed(const struct arena *a)
{
    return a->failed;
}
#define ARENA_NEW(a, type)        ((type *)arena_zalloc((a), sizeof(type)))
#define ARENA_ARRAY(a, type, n)   ((type *)arena_zalloc((a), sizeof(type) * (n)))

/* Test hook: the n-th allocation from now (1 = next) of any arena, pool or buffer fails; 0 = off. */
void alloc_fail_at(unsigned n);
bool alloc_should_fail(void);  /* used by allocators only */

#endif
