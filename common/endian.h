/*
 * endian - integers as bytes at any alignment: little-endian for everything durable, big-endian
 * for keys that must sort as bytes the way their numbers do.
 *
 * All calls touch exactly the bytes of the integer, need no alignment, and cannot fail.
 */
#ifndef COMMON_ENDIAN_H
#define COMMON_ENDIAN_H

#include "common/base.h"

#include <string.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "only little-endian machines are built and tested"
#endif

static inline uint16_t le16_get(const void *bytes)
{
	uint16_t v;

	memcpy(&v, bytes, sizeof(v));
	return v;
}
static inline void le16_put(void *bytes, uint16_t v)
{
	memcpy(bytes, &v, sizeof(v));
}

static inline uint32_t le32_get(const void *bytes)
{
	uint32_t v;

	memcpy(&v, bytes, sizeof(v));
	return v;
}
static inline void le32_put(void *bytes, uint32_t v)
{
	memcpy(bytes, &v, sizeof(v));
}

static inline uint64_t le64_get(const void *bytes)
{
	uint64_t v;

	memcpy(&v, bytes, sizeof(v));
	return v;
}
static inline void le64_put(void *bytes, uint64_t v)
{
	memcpy(bytes, &v, sizeof(v));
}

static inline uint16_t be16_get(const void *bytes)
{
	uint16_t v;

	memcpy(&v, bytes, sizeof(v));
	return __builtin_bswap16(v);
}
static inline void be16_put(void *bytes, uint16_t v)
{
	v = __builtin_bswap16(v);
	memcpy(bytes, &v, sizeof(v));
}

static inline uint32_t be32_get(const void *bytes)
{
	uint32_t v;

	memcpy(&v, bytes, sizeof(v));
	return __builtin_bswap32(v);
}
static inline void be32_put(void *bytes, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(bytes, &v, sizeof(v));
}

static inline uint64_t be64_get(const void *bytes)
{
	uint64_t v;

	memcpy(&v, bytes, sizeof(v));
	return __builtin_bswap64(v);
}
static inline void be64_put(void *bytes, uint64_t v)
{
	v = __builtin_bswap64(v);
	memcpy(bytes, &v, sizeof(v));
}

#endif
