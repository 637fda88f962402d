/*
 * format_random - numbers for the format tests out of a fixed seed, and checksums put right again
 * over bytes that a test changed, so that the checks behind the checksum are reached.
 */
#ifndef TESTS_FORMAT_RANDOM_H
#define TESTS_FORMAT_RANDOM_H

#include <string.h>

#include "common/crc32c.h"
#include "common/endian.h"
#include "volume/format.h"

struct rng {
	uint64_t state;
};

static inline uint64_t rng_u64(struct rng *rng)
{
	uint64_t z = rng->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* low..high, both included; every magnitude is as likely as the others. */
static inline uint64_t rng_between(struct rng *rng, uint64_t low, uint64_t high)
{
	const uint64_t wide = rng_u64(rng) >> rng_u64(rng) % 64;

	return high - low == UINT64_MAX ? wide : low + wide % (high - low + 1);
}

static inline uint32_t rng_u32(struct rng *rng, uint32_t low, uint32_t high)
{
	return (uint32_t)rng_between(rng, low, high);
}

static inline void rng_bytes(struct rng *rng, void *out, size_t len_bytes)
{
	for (size_t i = 0; i < len_bytes; i++)
		((uint8_t *)out)[i] = (uint8_t)rng_u64(rng);
}

static inline uint32_t reseal_hole_crc(uint32_t seed, const uint8_t *p, size_t len_bytes,
				       size_t crc_at)
{
	const uint8_t zero[4] = { 0 };
	uint32_t crc = crc32c(seed, p, crc_at);

	crc = crc32c(crc, zero, sizeof(zero));
	return crc32c(crc, p + crc_at + 4, len_bytes - crc_at - 4);
}

/* Blocks and labels: checksum at 12. */
static inline void reseal_head(uint8_t *p, size_t len_bytes)
{
	le32_put(p + 12, reseal_hole_crc(0, p, len_bytes, 12));
}

static inline void reseal_page(uint8_t *p, size_t len_bytes)
{
	le32_put(p + 4, reseal_hole_crc(0, p, len_bytes, 4));
}

static inline void reseal_tail(uint8_t *p, size_t len_bytes)
{
	le32_put(p + len_bytes - 4, crc32c(0, p, len_bytes - 4));
}

static inline void reseal_row(uint8_t *p, size_t len_bytes, enum row_kind kind)
{
	const uint8_t first = (uint8_t)kind;

	le32_put(p + len_bytes - 4, crc32c(crc32c(0, &first, 1), p, len_bytes - 4));
}

#endif
