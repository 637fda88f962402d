/* An entry block, open as in the ring's frames or closed as in a SCO, and all entries in it. */
#include "common/err.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/seal.h"
#include "tests/golden/golden_batch.h"

#include <stdlib.h>
#include <string.h>

const struct fuzz_bound fuzz_bound = { .base_bytes = 24 << 10, .per_input_byte = 2 };

enum { CLOSED = 1, SEAL_ENTRIES = 2 };
enum { SALT_AT = 8, SLOT_AT = 32, FIXED_CRC_AT = 48, BLOCK_CRC_AT = 52 };

void fuzz_seeds(void)
{
	fuzz_seed(FUZZ_RESEAL, golden_batch_open, sizeof(golden_batch_open));
	fuzz_seed(FUZZ_RESEAL | SEAL_ENTRIES, golden_batch_open, sizeof(golden_batch_open));
	fuzz_seed(FUZZ_RESEAL | CLOSED, golden_batch_closed, sizeof(golden_batch_closed));
	fuzz_seed(FUZZ_RESEAL | CLOSED | SEAL_ENTRIES, golden_batch_closed,
		  sizeof(golden_batch_closed));
}

/* The checksum of an entry is over its own bytes and those that it names in the table at the end. */
static void seal_entry(uint8_t *block, unsigned int index)
{
	uint8_t *p = block + BATCH_HEADER_BYTES + (size_t)index * BATCH_ENTRY_BYTES;
	uint64_t salt = le64_get(block + SALT_AT);
	uint32_t slot = le16_get(p + 44), block_slot = le32_get(block + SLOT_AT);
	uint32_t count = slot == 0 ? 0 : p[46] == ENTRY_DATA ? le32_get(p + 40) : 1;
	uint32_t crc = crc32c(format_salt_seed(salt), p, 52);

	if (count > 0 && count <= BATCH_CLUSTERS_MAX && slot > block_slot &&
	    batch_has_room(index + 1, slot - block_slot - 1 + count))
		crc = crc32c(crc, block + BLOCK_BYTES - (size_t)(slot - block_slot - 1 + count) * 4,
			     (size_t)count * 4);
	le32_put(p + 52, crc);
}

static void seal(uint8_t *block, uint8_t word)
{
	le32_put(block + FIXED_CRC_AT, crc32c(0, block, FIXED_CRC_AT));
	for (unsigned int i = 0; i < BATCH_ENTRIES_MAX && word & SEAL_ENTRIES; i++)
		seal_entry(block, i);
	if (word & CLOSED)
		seal_hole(block, BLOCK_BYTES, BLOCK_CRC_AT, 0);
}

/* An entry that was taken lies inside of the block, and encodes to what is there. */
static void check_entry(const uint8_t *block, unsigned int index, const struct batch_header *h,
			const struct log_entry *entry)
{
	unsigned int slots = entry->slot == 0	       ? 0 :
			     entry->kind == ENTRY_DATA ? entry->cluster_count :
							 1;
	unsigned int first = slots > 0 ? entry->slot - h->slot - 1u : 0;
	size_t at = BATCH_HEADER_BYTES + (size_t)index * BATCH_ENTRY_BYTES;
	uint8_t *copy = fuzz_copy(block, BLOCK_BYTES, BLOCK_BYTES);

	FUZZ_EXPECT(slots == 0 || entry->slot > h->slot);
	FUZZ_EXPECT(batch_has_room(index + 1, first + slots));
	for (unsigned int i = 0; i < slots; i++)
		(void)batch_crc_get(block, first + i);
	batch_entry_encode(copy, index, entry, h->salt, first, slots);
	batch_entry_publish(copy, index, entry->kind);
	FUZZ_EXPECT(memcmp(copy + at, block + at, BATCH_ENTRY_BYTES) == 0);
	free(copy);
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	uint8_t word = fuzz_word(&in, &len_bytes);
	uint8_t *block = fuzz_copy(in, len_bytes, BLOCK_BYTES);
	struct batch_header h;
	struct err e = { 0 };
	int r;

	if (word & FUZZ_RESEAL)
		seal(block, word);
	r = word & CLOSED ? batch_close_decode(block, &h, &e) : batch_open_decode(block, &h, &e);
	if (r < 0) {
		fuzz_expect_refusal(r, &e);
		free(block);
		return;
	}
	FUZZ_EXPECT(batch_has_room(h.entry_count, h.cluster_count));
	FUZZ_EXPECT(h.slot + h.cluster_count < SCO_SLOTS_MAX);
	for (unsigned int i = 0; i <= BATCH_ENTRIES_MAX; i++) {
		struct log_entry entry;

		r = batch_entry_decode(block, i, h.salt, &entry, &e);
		if (r == 0)
			check_entry(block, i, &h, &entry);
		else if (r != -ENODATA)
			fuzz_expect_refusal(r, &e);
	}
	free(block);
}
