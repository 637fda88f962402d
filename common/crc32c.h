/*
 * crc32c - CRC-32C (Castagnoli, the one of iSCSI and ext4), the checksum of all durable bytes.
 */
#ifndef COMMON_CRC32C_H
#define COMMON_CRC32C_H

#include "common/base.h"

/*
 * Continue a checksum over more bytes: crc32c(crc32c(0, a), b) == crc32c(0, ab).
 *
 * Units:    seed is 0 for the first piece, then what the previous piece gave. "123456789" gives
 *           0xe3069283; no bytes give seed.
 * Owns:     nothing; data may be NULL when len_bytes is 0.
 * Threads:  any.
 * Source:   RFC 3720 appendix B.4; tests/common/test_crc32c.c
 */
uint32_t crc32c(uint32_t seed, const void *data, size_t len_bytes);

#endif
