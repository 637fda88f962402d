#include "common/crc32c.h"

#include <isa-l/crc.h>

/* ISA-L counts in int; a power of two keeps the pieces aligned. */
#define PIECE_BYTES_MAX ((size_t)1 << 30)

uint32_t crc32c(uint32_t seed, const void *data, size_t len_bytes)
{
	const unsigned char *p = data;
	uint32_t state = ~seed;

	while (len_bytes > 0) {
		size_t piece = len_bytes < PIECE_BYTES_MAX ? len_bytes : PIECE_BYTES_MAX;

		/* The prototype lacks a const; the bytes are only read. */
		state = crc32_iscsi((unsigned char *)(uintptr_t)p, (int)piece, state);
		p += piece;
		len_bytes -= piece;
	}
	return ~state;
}
