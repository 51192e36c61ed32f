/* Arenas: alignment, blocks, limits, sticky failure, every allocation failing once. */
#include "base/arena.h"
#include "t/unit/tap.h"

static bool aligned(const void *p)
{
    return ((uintptr_t)p & 15) == 0;
}

static void test_inline(void)
{
    char mem[513];
    struct arena a;
    arena_init(&a, mem + 1, 512, 0);
    char *p = arena_alloc(&a, 100);
    tap_ok(p >= mem && p < mem + sizeof(mem) && aligned(p), "inline memory is used first");
    char *t = arena_bytes(&a, 3);
    char *q = arena_alloc(&a, 100);
    tap_ok(t && q && aligned(q) && q >= t + 3, "text between aligned pieces");
    tap_is_int(a.total, 0, "no heap yet");
    char *far = arena_alloc(&a, 1000);
    tap_ok(far && (far < mem || far >= mem + sizeof(mem)) && a.total > 0, "then the heap");
    memset(far, 1, 1000);
    arena_reset(&a);
    tap_ok(a.total == 0 && !a.blocks, "reset frees the heap");
    tap_ok(arena_alloc(&a, 100) == p, "and begins anew");
    arena_fini(&a);
    memset(mem, 0, sizeof(mem));
    tap_ok(mem[0] == 0, "the inline memory is the caller's again");
}

static void test_growth(void)
{
    struct arena a;
    arena_init(&a, NULL, 0, 0);
    bool ok = true;
    size_t sum = 0;
    for (size_t i = 0; i < 5000; i++) {
        size_t n = i % 97;
        unsigned char *p = arena_zalloc(&a, n);
        ok = ok && p && aligned(p);
        for (size_t k = 0; ok && k < n; k++)
            ok = p[k] == 0;
        if (ok)
            memset(p, 0xee, n);
        sum += n;
    }
    tap_ok(ok, "5000 zeroed, aligned pieces");
    tap_ok(a.total >= sum && a.total < sum * 2 + 65536, "%zu bytes hold %zu", a.total, sum);
    size_t before = a.total;
    char *small = arena_alloc(&a, 1);
    char *big = arena_alloc(&a, 1 << 20);
    tap_ok(big && a.total - before < (1 << 20) + 256, "a large piece has a block of its own");
    memset(big, 1, 1 << 20);
    char *next = arena_alloc(&a, 1);
    tap_ok(small && next && next - small <= 64, "and leaves the current block in use");
    tap_ok(arena_alloc(&a, 0) && arena_alloc(&a, 0) != arena_alloc(&a, 0), "empty pieces differ");
    arena_fini(&a);
}

static void test_limit(void)
{
    struct arena a;
    volatile size_t absurd = SIZE_MAX; /* compilers warn of such constants */
    arena_init(&a, NULL, 0, 10000);
    size_t got = 0;
    while (arena_alloc(&a, 64))
        got += 64;
    /* In sanitized builds a red zone follows each piece. */
    tap_ok(got >= 7000 && got <= 10000, "a limit of 10000 gives %zu", got);
    tap_ok(a.total <= 10000, "and is not passed");
    tap_ok(arena_failed(&a) && !arena_alloc(&a, 1), "failure is sticky");
    tap_ok(!arena_bytes(&a, 1) && !arena_dup(&a, SLICE("x")).p, "for text as well");
    arena_reset(&a);
    tap_ok(!arena_failed(&a) && arena_alloc(&a, 64), "until the reset");
    tap_ok(!arena_alloc(&a, absurd) && arena_failed(&a), "an absurd size fails");
    arena_reset(&a);
    tap_ok(!ARENA_ARRAY(&a, uint64_t, absurd / 4), "an overflowing array fails");
    arena_reset(&a);
    tap_ok(!arena_dup(&a, slice_of("", absurd)).p, "an absurd copy fails");
    arena_fini(&a);
}

static void test_text(void)
{
    char mem[64], big[3000];
    struct arena a;
    arena_init(&a, mem, sizeof(mem), 0);
    struct slice s = arena_dup(&a, SLICE("hello"));
    tap_is_str(s, "hello", "dup");
    tap_ok(s.p && s.p[5] == '\0', "ends in NUL");
    tap_ok(arena_dup(&a, SLICE_NONE).p != NULL, "dup of nothing is a text");
    tap_is_str(arena_printf(&a, "%d-%s", 7, "x"), "7-x", "printf");
    memset(big, 'b', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    s = arena_printf(&a, "<%s>", big);
    tap_ok(s.n == sizeof(big) + 1 && s.p[s.n - 1] == '>' && s.p[s.n] == '\0', "long printf");
    arena_fini(&a);
}

static bool build(struct arena *a)
{
    for (int i = 0; i < 20; i++) {
        arena_alloc(a, 300);
        arena_dup(a, SLICE("abc"));
        arena_printf(a, "%d", i);
    }
    return !arena_failed(a);
}

static void test_failures(void)
{
    struct arena a;
    bool ok = true;
    unsigned n = 1;
    for (; n < 1000; n++) {
        arena_init(&a, NULL, 0, 0);
        alloc_fail_at(n);
        bool built = build(&a);
        bool fired = alloc_fail_countdown == 0;
        alloc_fail_at(0);
        ok = ok && built == !fired;
        arena_fini(&a);
        if (built)
            break;
    }
    tap_ok(ok, "each failing allocation is reported and none leaks");
    tap_is_int(n, 61, "60 allocations could fail");
}

int main(void)
{
    test_inline();
    test_growth();
    test_limit();
    test_text();
    test_failures();
    return tap_done();
}
