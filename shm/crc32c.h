/* CRC32C (Castagnoli polynomial, RFC 3720 appendix B.4) of a run of bytes. */
#ifndef SHM_CRC32C_H
#define SHM_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* "123456789" gives 0xe3069283. */
uint32_t crc32c(const void *p, size_t n);

#endif
