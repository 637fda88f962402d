/* sector - 512 bytes that say which write put them where: for programs that prove promises. */
#ifndef TESTS_TOOLS_SECTOR_H
#define TESTS_TOOLS_SECTOR_H

#include "common/base.h"

#include <string.h>

#define SECTOR_BYTES 512u

static inline uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* What sector `at` of a disk holds after write seq: it says so itself. Zeros before the first. */
static inline void fill_sector(uint8_t *sector, uint64_t disk, uint64_t seq, uint64_t at)
{
	const uint64_t head[] = { seq, at, disk };
	uint64_t state = seq * UINT64_C(0x9e3779b97f4a7c15) ^ at ^ disk;

	memset(sector, 0, SECTOR_BYTES);
	if (seq == 0)
		return;
	for (size_t i = 0; i < SECTOR_BYTES; i += 8) {
		uint64_t word = next_random(&state);

		memcpy(sector + i, &word, 8);
	}
	memcpy(sector, head, sizeof(head));
}

/* A number for a disk, from its file's name (FNV-1a): directories may differ. */
static inline uint64_t disk_of(const char *path)
{
	const char *name = strrchr(path, '/');
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (name = name ? name + 1 : path; *name; name++)
		hash = (hash ^ (uint8_t)*name) * UINT64_C(0x100000001b3);
	return hash;
}

#endif
