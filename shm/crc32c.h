/* CRC32C (Castagnoli polynomial, RFC 3720 appendix B.4) of a run of bytes. */
#ifndef SHM_CRC32C_H
#define SHM_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* "123456789" gives 0xe3069283. */
uint32_t crc32c(const void *p, size_t n);
/* Continues: crc32c_more(crc32c(a), b) is the CRC of a and b in a row; crc32c_more(0, b) is
 * crc32c(b). */
uint32_t crc32c_more(uint32_t crc, const void *p, size_t n);
/* The same without the CPU's instruction, for its test. */
uint32_t crc32c_more_plain(uint32_t crc, const void *p, size_t n);

#endif
