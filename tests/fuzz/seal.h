/*
 * seal - checksums put right over bytes that a fuzzer changed, so that the checks behind them are
 * reached. Shorter inputs are left alone.
 */
#ifndef TESTS_FUZZ_SEAL_H
#define TESTS_FUZZ_SEAL_H

#include "volume/format_impl.h"

/* The block or label with its checksum at crc_at. */
static inline void seal_hole(uint8_t *p, size_t len_bytes, size_t crc_at, uint32_t seed)
{
	if (len_bytes >= crc_at + CRC_BYTES)
		le32_put(p + crc_at, format_crc_hole(seed, p, len_bytes, crc_at));
}

/* Checksum at the end, of all before it. */
static inline void seal_end(uint8_t *p, size_t len_bytes, uint32_t seed)
{
	if (len_bytes >= CRC_BYTES)
		le32_put(p + len_bytes - CRC_BYTES, crc32c(seed, p, len_bytes - CRC_BYTES));
}

/* Of the value of a row under a key of this kind. */
static inline void seal_row(uint8_t *p, size_t len_bytes, uint8_t kind)
{
	seal_end(p, len_bytes, crc32c(0, &kind, 1));
}

#endif
