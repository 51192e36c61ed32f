/* Arena allocation: the slow path, blocks from the heap and text helpers. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ARENA_BLOCK_MIN ((size_t)4096)
#define ARENA_BLOCK_MAX ((size_t)65536)
#define ARENA_REDZONE   ((size_t)(BASE_ASAN ? 16 : 0))

/* 16 bytes, so that what follows it is aligned like malloc's own memory. */
struct arena_block {
    struct arena_block *next;
    size_t size; /* the header included */
};
_Static_assert(sizeof(struct arena_block) == 16, "blocks begin with an aligned byte");

unsigned alloc_fail_countdown;

void alloc_fail_at(unsigned n)
{
    alloc_fail_countdown = n;
}

bool alloc_should_fail(void)
{
    return alloc_fail_countdown > 0 && --alloc_fail_countdown == 0;
}

void arena_init(struct arena *a, void *inline_mem, size_t inline_size, size_t limit)
{
    *a = (struct arena){
        .inline_base = inline_mem, .inline_size = inline_mem ? inline_size : 0, .limit = limit};
    arena_reset(a);
}

void arena_free_blocks(struct arena *a)
{
    while (a->blocks) {
        struct arena_block *b = a->blocks;
        a->blocks = b->next;
        ASAN_UNPOISON(b, b->size);
        free(b);
    }
    a->total = 0;
}

void arena_fini(struct arena *a)
{
    arena_free_blocks(a);
    /* The caller's memory goes back to the caller usable. */
    if (a->inline_size > 0)
        ASAN_UNPOISON(a->inline_base, a->inline_size);
    *a = (struct arena){0};
}

static void *arena_fail(struct arena *a)
{
    a->failed = true;
    return NULL;
}

/* Takes a block of `size` bytes or, where the limit forbids that, of `need`. NULL when neither can
 * be had. */
static struct arena_block *arena_new_block(struct arena *a, size_t need, size_t size)
{
    if (a->limit > 0) {
        size_t left = a->limit > a->total ? a->limit - a->total : 0;
        if (need > left)
            return NULL;
        if (size > left)
            size = left;
    }
    struct arena_block *b = malloc(size);
    if (!b)
        return NULL;
    b->size = size;
    a->total += size;
    ASAN_POISON((char *)b + sizeof(*b), size - sizeof(*b));
    return b;
}

/* Cuts n bytes at `align` off the current block, or NULL when they do not fit. */
static char *arena_cut(struct arena *a, size_t n, size_t align)
{
    size_t room = (size_t)(a->end - a->cur);
    size_t pad = -(uintptr_t)a->cur & (align - 1);
    if (!a->cur || room < pad || room - pad < n)
        return NULL;
    char *p = a->cur + pad;
    size_t rest = room - pad - n;
    a->cur = p + n + (rest > ARENA_REDZONE ? ARENA_REDZONE : rest);
    ASAN_UNPOISON(p, n);
    return p;
}

void *arena_alloc_slow(struct arena *a, size_t n, size_t align)
{
    if (a->failed || alloc_should_fail())
        return arena_fail(a);
    if (n == 0)
        n = 1;
    char *p = arena_cut(a, n, align);
    if (p)
        return p;

    size_t need;
    if (__builtin_add_overflow(n, sizeof(struct arena_block) + ARENA_REDZONE, &need))
        return arena_fail(a);
    /* Each block is as large as all before it together: few blocks, at most half unused. */
    size_t size = a->total < ARENA_BLOCK_MIN   ? ARENA_BLOCK_MIN
                  : a->total < ARENA_BLOCK_MAX ? a->total & ~(ARENA_BLOCK_MIN - 1)
                                               : ARENA_BLOCK_MAX;
    bool alone = need > size / 2;
    struct arena_block *b = arena_new_block(a, need, alone ? need : size);
    if (!b)
        return arena_fail(a);
    b->next = a->blocks;
    a->blocks = b;
    if (alone) {
        /* A large piece leaves the room of the current block in use. */
        p = (char *)b + sizeof(*b);
        ASAN_UNPOISON(p, n);
        return p;
    }
    a->cur = (char *)b + sizeof(*b);
    a->end = (char *)b + b->size;
    return arena_cut(a, n, align);
}

char *arena_bytes(struct arena *a, size_t n)
{
#if !BASE_ASAN
    if (n - 1 < (size_t)(a->end - a->cur) && !a->failed && alloc_fail_countdown == 0) {
        char *p = a->cur;
        a->cur += n;
        return p;
    }
#endif
    return arena_alloc_slow(a, n, 1);
}

struct slice arena_dup(struct arena *a, struct slice s)
{
    char *p = s.n < SIZE_MAX ? arena_bytes(a, s.n + 1) : arena_fail(a);
    if (!p)
        return SLICE_NONE;
    if (s.n > 0)
        memcpy(p, s.p, s.n);
    p[s.n] = '\0';
    return slice_of(p, s.n);
}

struct slice arena_printf(struct arena *a, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    int len = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (len < 0) {
        arena_fail(a);
        return SLICE_NONE;
    }
    size_t n = (size_t)len;
    if (n < sizeof(text))
        return arena_dup(a, slice_of(text, n));
    char *p = arena_bytes(a, n + 1);
    if (!p)
        return SLICE_NONE;
    va_start(ap, fmt);
    vsnprintf(p, n + 1, fmt, ap);
    va_end(ap);
    return slice_of(p, n);
}
