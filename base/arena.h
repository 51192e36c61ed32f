/* Arena: bump allocation for one exchange or one configuration; freed all at once.
 * Failure is sticky: after one failed allocation every later one fails too, so that a
 * caller may build much and check arena_failed() once. Freed memory is ASan-poisoned. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/asan.h"
#include "base/slice.h"

struct arena_block;
struct arena {
    char *cur, *end;            /* free room of the current block */
    struct arena_block *blocks; /* heap blocks, newest first */
    char *inline_base;          /* caller's first block, never freed here */
    size_t inline_size;
    size_t total; /* bytes of heap blocks */
    size_t limit; /* 0 = none; total may not pass it */
    bool failed;
};

/* Test hook: the n-th allocation from now (1 = next) of any arena, pool, buffer or map fails;
 * 0 = off. */
void alloc_fail_at(unsigned n);
bool alloc_should_fail(void);         /* used by allocators only */
extern unsigned alloc_fail_countdown; /* 0 = off; for inline fast paths only */

/* inline_mem (may be NULL) is used first and stays the caller's. limit bounds the heap bytes,
 * 0 = none. */
void arena_init(struct arena *a, void *inline_mem, size_t inline_size, size_t limit);
void arena_fini(struct arena *a);
void arena_free_blocks(struct arena *a);                         /* for arena_reset only */
void *arena_alloc_slow(struct arena *a, size_t n, size_t align); /* for the inlines below only */
char *arena_bytes(struct arena *a, size_t n);                    /* unaligned; for text */
/* NUL-terminated copy; .p NULL on failure */
struct slice arena_dup(struct arena *a, struct slice s);
struct slice arena_printf(struct arena *a, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Frees heap blocks, back to the inline block, clears `failed`. */
static inline void arena_reset(struct arena *a)
{
    if (__builtin_expect(a->blocks != NULL, 0))
        arena_free_blocks(a);
    a->cur = a->inline_base;
    a->end = a->inline_size > 0 ? a->inline_base + a->inline_size : a->inline_base;
    a->failed = false;
    if (a->inline_size > 0)
        ASAN_POISON(a->inline_base, a->inline_size);
}
/* Aligned to 16; NULL on failure (sticky). arena_zalloc zeroes. n = 0 gives a unique pointer. */
static inline void *arena_alloc(struct arena *a, size_t n)
{
#if !BASE_ASAN
    size_t room = (size_t)(a->end - a->cur);
    size_t pad = -(uintptr_t)a->cur & 15;
    /* n - 1 sends n = 0 to the slow path as well. */
    if (__builtin_expect(
            room >= pad && n - 1 < room - pad && !a->failed && alloc_fail_countdown == 0, 1)) {
        char *p = a->cur + pad;
        a->cur = p + n;
        return p;
    }
#endif
    return arena_alloc_slow(a, n, 16);
}
static inline void *arena_zalloc(struct arena *a, size_t n)
{
    void *p = arena_alloc(a, n);
    return p ? memset(p, 0, n) : NULL;
}
static inline bool arena_failed(const struct arena *a)
{
    return a->failed;
}
#define ARENA_NEW(a, type) ((type *)arena_zalloc((a), sizeof(type)))
/* A count whose size would overflow asks for SIZE_MAX bytes, which fails. */
#define ARENA_ARRAY(a, type, n) ((type *)arena_zalloc((a), arena_array_size(sizeof(type), (n))))
static inline size_t arena_array_size(size_t size, size_t n)
{
    size_t bytes;
    return __builtin_mul_overflow(size, n, &bytes) ? SIZE_MAX : bytes;
}

#endif
