/* Typed pool: fixed-size objects from slabs, LIFO reuse, memory of empty slabs is given back.
 * Each object carries nothing of ours while in use, and is aligned to the greatest power of two
 * up to 64 that divides the rounded size. Not thread-safe (a worker is one thread). */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include <stddef.h>
#include <stdint.h>

struct pool_slab;
struct pool {
    const char *name; /* static string, shown by rpctl */
    size_t size;      /* object size, rounded up to 8 */
    size_t slab_size; /* bytes and alignment of a slab, a power of two */
    uint32_t per_slab;
    uint32_t in_use;
    uint32_t peak;
    uint32_t slabs;
    struct pool_slab *partial; /* slabs with free objects, the one last filled first */
    struct pool_slab *empty;   /* at most one spare empty slab is kept */
    struct pool *next;         /* registry for pool_each() */
};

void pool_init(struct pool *p, const char *name, size_t object_size);
void pool_fini(struct pool *p);           /* everything must have been put back (asserted) */
void *pool_get(struct pool *p);           /* zeroed object, or NULL when memory is out */
void *pool_get_raw(struct pool *p);       /* as pool_get, contents undefined */
void pool_put(struct pool *p, void *obj); /* NULL is ignored; object is ASan-poisoned */
/* Calls fn for each initialised pool of this process. */
void pool_each(void (*fn)(const struct pool *p, void *arg), void *arg);

#endif
