/* CRC32C, four bits at a time: it guards superblocks, not bodies, so a table of 16 words is enough.
 */
#include "shm/crc32c.h"

static uint32_t nibble(uint32_t x)
{
    for (int i = 0; i < 4; i++)
        x = (x >> 1) ^ (0x82f63b78u & (0u - (x & 1u)));
    return x;
}

uint32_t crc32c(const void *p, size_t n)
{
    const unsigned char *b = p;
    uint32_t table[16], crc = 0xffffffffu;

    for (uint32_t i = 0; i < 16; i++)
        table[i] = nibble(i);
    for (size_t i = 0; i < n; i++) {
        crc ^= b[i];
        crc = (crc >> 4) ^ table[crc & 15u];
        crc = (crc >> 4) ^ table[crc & 15u];
    }
    return ~crc;
}
