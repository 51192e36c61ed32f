/* CRC32C by the CPU's instruction, three runs side by side; else eight bytes at a time by table. */
#include "shm/crc32c.h"

#include <endian.h>
#include <stdatomic.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define CRC32C_X86 1
#else
#define CRC32C_X86 0
#endif

static uint32_t table[8][256];
static _Atomic int table_ready;

/* Two threads that fill it at once write the same. */
static void table_fill(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t x = i;

        for (int k = 0; k < 8; k++)
            x = (x >> 1) ^ (0x82f63b78u & (0u - (x & 1u)));
        table[0][i] = x;
    }
    for (uint32_t i = 0; i < 256; i++) {
        for (int k = 1; k < 8; k++)
            table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 255u];
    }
    atomic_store_explicit(&table_ready, 1, memory_order_release);
}

uint32_t crc32c_more_plain(uint32_t crc, const void *p, size_t n)
{
    const unsigned char *b = p;

    if (!atomic_load_explicit(&table_ready, memory_order_acquire))
        table_fill();
    crc = ~crc;
    for (; n >= 8; n -= 8, b += 8) {
        uint64_t v;

        memcpy(&v, b, 8);
        v = le64toh(v) ^ crc;
        crc = 0;
        for (int k = 0; k < 8; k++)
            crc ^= table[7 - k][v >> (8 * k) & 255u];
    }
    for (; n > 0; n--)
        crc = crc >> 8 ^ table[0][(crc ^ *b++) & 255u];
    return ~crc;
}

#if CRC32C_X86
/* Three runs of `run` bytes at p are summed side by side (the instruction takes three cycles but
 * one can be started each) and joined: the CRC of the first two is moved on by x^16run and x^8run,
 * whose remainders, less the 33 powers the last step adds, are m1 and m2. */
__attribute__((target("sse4.2,pclmul"))) static uint32_t
crc32c_three(uint32_t crc, const unsigned char *p, size_t run, uint32_t m1, uint32_t m2)
{
    uint64_t a = crc, b = 0, c = 0, x, y, z;
    __m128i f1, f2;

    for (size_t i = 0; i + 8 < run; i += 8) {
        memcpy(&x, p + i, 8);
        memcpy(&y, p + run + i, 8);
        memcpy(&z, p + 2 * run + i, 8);
        a = _mm_crc32_u64(a, x);
        b = _mm_crc32_u64(b, y);
        c = _mm_crc32_u64(c, z);
    }
    memcpy(&x, p + run - 8, 8);
    memcpy(&y, p + 2 * run - 8, 8);
    memcpy(&z, p + 3 * run - 8, 8);
    a = _mm_crc32_u64(a, x);
    b = _mm_crc32_u64(b, y);
    f1 = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)a), _mm_cvtsi32_si128((int)m1), 0);
    f2 = _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)b), _mm_cvtsi32_si128((int)m2), 0);
    z ^= (uint64_t)_mm_cvtsi128_si64(f1) ^ (uint64_t)_mm_cvtsi128_si64(f2);
    return (uint32_t)_mm_crc32_u64(c, z);
}

__attribute__((target("sse4.2,pclmul"))) static uint32_t crc32c_fast(uint32_t crc, const void *p,
                                                                     size_t n)
{
    const unsigned char *b = p;
    uint64_t v;

    crc = ~crc;
    for (; n >= 3 * 1024; n -= 3 * 1024, b += 3 * 1024)
        crc = crc32c_three(crc, b, 1024, 0xa51b6135u, 0x170076fau);
    for (; n >= 3 * 128; n -= 3 * 128, b += 3 * 128)
        crc = crc32c_three(crc, b, 128, 0xb9e02b86u, 0x0d3b6092u);
    for (; n >= 8; n -= 8, b += 8) {
        memcpy(&v, b, 8);
        crc = (uint32_t)_mm_crc32_u64(crc, v);
    }
    for (; n > 0; n--)
        crc = _mm_crc32_u8(crc, *b++);
    return ~crc;
}
#endif

uint32_t crc32c_more(uint32_t crc, const void *p, size_t n)
{
#if CRC32C_X86
    static _Atomic int fast; /* 1 no, 2 yes */
    int f = atomic_load_explicit(&fast, memory_order_relaxed);

    if (f == 0) {
        f = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul") ? 2 : 1;
        atomic_store_explicit(&fast, f, memory_order_relaxed);
    }
    if (f == 2)
        return crc32c_fast(crc, p, n);
#endif
    return crc32c_more_plain(crc, p, n);
}

uint32_t crc32c(const void *p, size_t n)
{
    return crc32c_more(0, p, n);
}
