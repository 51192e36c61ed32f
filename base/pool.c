/* Pools of fixed-size objects on aligned slabs. */
#include "base/pool.h"

#include "base/arena.h"
#include "base/asan.h"
#include "base/panic.h"

#include <stdlib.h>

#define POOL_SLAB_MIN ((size_t)16 * 1024)
#define POOL_SLAB_MAX ((size_t)256 * 1024)
#define POOL_PER_SLAB 8
/* One malloc header fits between two slabs, so that glibc packs aligned slabs without gaps. */
#define POOL_SLAB_TAIL ((size_t)16)

/* Head of a slab; found from an object by masking its address. Objects follow at 64 bytes. */
struct pool_slab {
    struct pool_slab *next, *prev; /* in pool.partial */
    struct pool *pool;
    void *free;       /* freed objects, linked through their first word */
    uint32_t used;    /* objects handed out */
    uint32_t touched; /* objects handed out at least once; the rest was never written */
};
#define POOL_HEAD ((size_t)64)
_Static_assert(sizeof(struct pool_slab) <= POOL_HEAD, "the head must not reach the objects");

static struct pool *pool_registry;

static size_t pool_capacity(size_t slab, size_t size)
{
    return (slab - POOL_HEAD - POOL_SLAB_TAIL) / size;
}

void pool_init(struct pool *p, const char *name, size_t object_size)
{
    size_t size = (object_size + 7) & ~(size_t)7;
    MUST(size >= object_size && size > 0 && size <= SIZE_MAX / 4);
    size_t slab = POOL_SLAB_MIN;
    /* Larger slabs until the unusable rest is below two per cent. */
    while (slab < POOL_SLAB_MAX) {
        size_t n = pool_capacity(slab, size);
        if (n >= POOL_PER_SLAB && (slab - n * size) * 50 < slab)
            break;
        slab *= 2;
    }
    while (pool_capacity(slab, size) == 0)
        slab *= 2;
    *p = (struct pool){.name = name,
                       .size = size,
                       .slab_size = slab,
                       .per_slab = (uint32_t)pool_capacity(slab, size),
                       .next = pool_registry};
    pool_registry = p;
}

static void pool_unlink(struct pool *p, struct pool_slab *s)
{
    if (s->prev)
        s->prev->next = s->next;
    else
        p->partial = s->next;
    if (s->next)
        s->next->prev = s->prev;
}

static void pool_link(struct pool *p, struct pool_slab *s)
{
    s->prev = NULL;
    s->next = p->partial;
    if (s->next)
        s->next->prev = s;
    p->partial = s;
}

static void pool_slab_free(struct pool *p, struct pool_slab *s)
{
    ASAN_UNPOISON(s, p->slab_size - POOL_SLAB_TAIL);
    free(s);
    p->slabs--;
}

void pool_fini(struct pool *p)
{
    MUST(p->in_use == 0 && !p->partial);
    if (p->empty)
        pool_slab_free(p, p->empty);
    for (struct pool **at = &pool_registry; *at; at = &(*at)->next) {
        if (*at == p) {
            *at = p->next;
            break;
        }
    }
    *p = (struct pool){0};
}

/* A slab with free objects at the head of pool.partial, or NULL. */
static struct pool_slab *pool_slab_new(struct pool *p)
{
    struct pool_slab *s = p->empty;
    if (s) {
        p->empty = NULL;
    } else {
        void *mem;
        if (posix_memalign(&mem, p->slab_size, p->slab_size - POOL_SLAB_TAIL) != 0)
            return NULL;
        s = mem;
        *s = (struct pool_slab){.pool = p};
        ASAN_POISON((char *)s + POOL_HEAD, p->slab_size - POOL_SLAB_TAIL - POOL_HEAD);
        p->slabs++;
    }
    pool_link(p, s);
    return s;
}

void *pool_get_raw(struct pool *p)
{
    if (__builtin_expect(alloc_fail_countdown > 0, 0) && alloc_should_fail())
        return NULL;
    struct pool_slab *s = p->partial;
    if (__builtin_expect(!s, 0)) {
        s = pool_slab_new(p);
        if (!s)
            return NULL;
    }
    void *obj = s->free;
    if (obj) {
        ASAN_UNPOISON(obj, p->size);
        s->free = *(void **)obj;
    } else {
        obj = (char *)s + POOL_HEAD + (size_t)s->touched++ * p->size;
        ASAN_UNPOISON(obj, p->size);
    }
    if (++s->used == p->per_slab)
        pool_unlink(p, s);
    if (++p->in_use > p->peak)
        p->peak = p->in_use;
    return obj;
}

void *pool_get(struct pool *p)
{
    void *obj = pool_get_raw(p);
    return obj ? memset(obj, 0, p->size) : NULL;
}

void pool_put(struct pool *p, void *obj)
{
    if (!obj)
        return;
    struct pool_slab *s = (void *)((char *)obj - ((uintptr_t)obj & (p->slab_size - 1)));
    MUST(s->pool == p && s->used > 0);
    MUST(!ASAN_IS_POISONED(obj)); /* put back twice */
    *(void **)obj = s->free;
    s->free = obj;
    ASAN_POISON(obj, p->size);
    p->in_use--;
    if (s->used-- == p->per_slab)
        pool_link(p, s);
    if (__builtin_expect(s->used > 0, 1))
        return;
    pool_unlink(p, s);
    if (p->empty)
        pool_slab_free(p, s);
    else
        p->empty = s;
}

void pool_each(void (*fn)(const struct pool *p, void *arg), void *arg)
{
    for (const struct pool *p = pool_registry; p; p = p->next)
        fn(p, arg);
}
