/* nghttp2's memory: pieces of every size hold what is written to them, grow and shrink with it, and
 * are all given back. */
#include "base/arena.h"
#include "base/pool.h"
#include "t/unit/tap.h"
#include "worker/http/h2_in.h"

static uint32_t in_use;

static void count(const struct pool *p, void *arg)
{
    (void)arg;
    in_use += p->in_use;
}

static uint32_t pooled(void)
{
    in_use = 0;
    pool_each(count, NULL);
    return in_use;
}

static bool holds(const unsigned char *p, size_t n, unsigned char what)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] != what)
            return false;
    }
    return true;
}

static void test_sizes(void)
{
    enum { MOST = 1200 };
    static unsigned char *piece[MOST];
    bool aligned = true, whole = true;
    for (size_t n = 0; n < MOST; n++) {
        piece[n] = h2_memory.malloc(n, NULL);
        if (piece[n] == NULL)
            tap_bail("malloc");
        aligned = aligned && (uintptr_t)piece[n] % 16 == 0;
        memset(piece[n], (int)(n & 255), n);
    }
    tap_ok(pooled() > 900 && pooled() < MOST, "small ones are of pools, large ones are not");
    for (size_t n = 0; n < MOST; n++) {
        whole = whole && holds(piece[n], n, (unsigned char)n);
        h2_memory.free(piece[n], NULL);
    }
    tap_ok(aligned, "as aligned as malloc()'s");
    tap_ok(whole, "none touches another");
    tap_is_int(pooled(), 0, "all went back");
}

static void test_growth(void)
{
    static const size_t size[] = {1, 40, 60, 200, 900, 1008, 1009, 5000, 70000, 300, 10, 2000};
    unsigned char *p = NULL;
    size_t had = 0;
    for (size_t i = 0; i < sizeof(size) / sizeof(size[0]); i++) {
        unsigned char *q = h2_memory.realloc(p, size[i], NULL);
        if (q == NULL)
            tap_bail("realloc");
        tap_ok(holds(q, had < size[i] ? had : size[i], 7), "%zu bytes from %zu", size[i], had);
        memset(q, 7, size[i]);
        p = q;
        had = size[i];
    }
    h2_memory.free(p, NULL);
    h2_memory.free(NULL, NULL);
    p = h2_memory.calloc(30, 8, NULL);
    tap_ok(p != NULL && holds(p, 240, 0), "zeroed");
    h2_memory.free(p, NULL);
    tap_ok(h2_memory.calloc(SIZE_MAX / 4, 8, NULL) == NULL, "more than there can be");
    tap_ok(h2_memory.malloc(SIZE_MAX - 3, NULL) == NULL, "or with what stands in front");
    tap_is_int(pooled(), 0, "all went back");
}

static void test_failures(void)
{
    static const size_t size[] = {30, 5000};
    for (size_t i = 0; i < 2; i++) {
        unsigned char *p = h2_memory.malloc(size[i], NULL);
        alloc_fail_at(1);
        tap_ok(h2_memory.malloc(size[i], NULL) == NULL, "no memory for %zu bytes", size[i]);
        alloc_fail_at(1);
        tap_ok(h2_memory.realloc(p, 9000, NULL) == NULL, "nor for more of them");
        alloc_fail_at(0);
        h2_memory.free(p, NULL); /* still there */
    }
    tap_is_int(pooled(), 0, "all went back");
}

int main(void)
{
    h2_memory_setup();
    test_sizes();
    test_growth();
    test_failures();
    return tap_done();
}
