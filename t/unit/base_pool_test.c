/* Pools: reuse, slabs given back, waste, the registry, failing allocations. */
#include "base/arena.h"
#include "base/pool.h"
#include "t/unit/tap.h"

#define MANY 5000

static void test_basics(void)
{
    struct pool p;
    pool_init(&p, "t", 200);
    unsigned char *a = pool_get(&p), *b = pool_get(&p);
    bool zero = true;
    for (size_t i = 0; i < 200; i++)
        zero = zero && a[i] == 0;
    tap_ok(zero, "an object is zeroed");
    tap_ok(a != b && ((uintptr_t)a & 7) == 0, "two objects, aligned");
    memset(a, 0xff, 200);
    pool_put(&p, a);
    unsigned char *c = pool_get(&p);
    tap_ok(c == a, "the last one put back is the first one used again");
    zero = true;
    for (size_t i = 0; i < 200; i++)
        zero = zero && c[i] == 0;
    tap_ok(zero, "zeroed again");
    tap_ok(p.in_use == 2 && p.peak == 2 && p.slabs == 1, "counts");
    pool_put(&p, NULL);
    pool_put(&p, b);
    pool_put(&p, c);
    tap_ok(p.in_use == 0 && p.slabs == 1, "one spare slab is kept");
    pool_fini(&p);
}

static void test_slabs(size_t size)
{
    static void *objects[MANY];
    struct pool p;
    bool ok = true;
    pool_init(&p, "many", size);
    for (size_t i = 0; i < MANY; i++) {
        objects[i] = pool_get_raw(&p);
        ok = ok && objects[i];
        if (objects[i])
            memset(objects[i], (int)(i & 0xff), size);
    }
    for (size_t i = 0; i < MANY; i++) {
        const unsigned char *o = objects[i];
        ok = ok && o[0] == (i & 0xff) && o[size - 1] == (i & 0xff);
    }
    tap_ok(ok, "%d objects of %zu bytes do not overlap", MANY, size);
    double waste = 1 - (double)(size * p.per_slab) / (double)p.slab_size;
    if (size <= 4096)
        tap_ok(waste < 0.03, "a slab wastes %.2f %%", waste * 100);
    tap_is_int(p.slabs, (MANY + p.per_slab - 1) / p.per_slab, "no more slabs than needed");
    /* Every second one goes, which empties no slab; then the rest, in a shuffled order. */
    for (size_t i = 0; i < MANY; i += 2)
        pool_put(&p, objects[i]);
    for (size_t i = 0; i < MANY; i += 2)
        objects[i] = pool_get(&p);
    tap_is_int(p.in_use, MANY, "holes are filled");
    tap_is_int(p.slabs, (MANY + p.per_slab - 1) / p.per_slab, "without a new slab");
    for (size_t i = 0; i < MANY; i++)
        pool_put(&p, objects[i * 1237 % MANY]);
    tap_ok(p.in_use == 0 && p.slabs <= 1 && p.peak == MANY, "memory is given back");
    pool_fini(&p);
}

static void count_pool(const struct pool *p, void *arg)
{
    int *found = arg;
    *found = *found * 10 + (int)p->size / 8;
}

static void test_registry(void)
{
    struct pool a, b, c;
    pool_init(&a, "a", 8);
    pool_init(&b, "b", 15);
    pool_init(&c, "c", 24);
    pool_fini(&b);
    int found = 0;
    pool_each(count_pool, &found);
    tap_is_int(found, 31, "the registry knows the living pools");
    pool_fini(&a);
    pool_fini(&c);
    found = 0;
    pool_each(count_pool, &found);
    tap_is_int(found, 0, "and forgets them");
}

static void test_failures(void)
{
    struct pool p;
    pool_init(&p, "fail", 64);
    void *a = pool_get(&p);
    alloc_fail_at(2);
    void *b = pool_get(&p), *c = pool_get(&p), *d = pool_get(&p);
    tap_ok(a && b && !c && d, "the second allocation fails, the third works");
    tap_is_int(p.in_use, 3, "a failed one is not counted");
    pool_put(&p, a);
    pool_put(&p, b);
    pool_put(&p, d);
    pool_fini(&p);
}

int main(void)
{
    test_basics();
    test_slabs(8);
    test_slabs(200);
    test_slabs(1000);
    test_slabs(4096);
    test_slabs(16384);
    test_registry();
    test_failures();
    return tap_done();
}
