/* Blocks, labels and entries of one length: header and footer of a SCO, header of the ring, its
 * record in the pool, label of a cache directory, header and entries of its map. What the ring's
 * frames hold: fuzz_batch.c. */
#include "tests/fuzz/codec.h"
#include "tests/fuzz/seal.h"
#include "tests/golden/golden_cache.h"
#include "tests/golden/golden_index.h"
#include "tests/golden/golden_ring.h"
#include "tests/golden/golden_sco.h"

#include <stdlib.h>

const struct fuzz_bound fuzz_bound = { .base_bytes = 24 << 10, .per_input_byte = 4 };

/* Of the golden bytes; another slot's entry is refused. */
#define SLOT 0x0012345u

CODEC_OF_BLOCK(sco_header, BLOCK_BYTES)
CODEC_OF_BLOCK(sco_footer, BLOCK_BYTES)
CODEC_OF_BLOCK(ring_header, BLOCK_BYTES)
CODEC_OF_LABEL(ring_record, RING_RECORD_BYTES)
CODEC_OF_LABEL(cache_label, CACHE_LABEL_BYTES)
CODEC_OF_BLOCK(cache_map_header, BLOCK_BYTES)

static int entry_to_buf(const void *value, struct buf *out)
{
	uint8_t *p = buf_extend(out, CACHE_MAP_ENTRY_BYTES);

	FUZZ_EXPECT(p);
	cache_map_entry_encode(value, SLOT, p);
	return 0;
}

static int entry_from(const uint8_t *in, size_t len_bytes, void *ret, struct err *e)
{
	int r = cache_map_entry_decode(in, SLOT, ret, e);

	(void)len_bytes;
	/* Nothing is known: no refusal, and no entry. */
	return r == -ENODATA ? err_set(e, -EUCLEAN, "nothing") : r;
}

static void seal_head(uint8_t *bytes, size_t len_bytes)
{
	seal_hole(bytes, len_bytes, HEAD_CRC_AT, 0);
}

static void seal_entry(uint8_t *bytes, size_t len_bytes)
{
	le32_put(bytes, crc32c(SLOT, bytes + CRC_BYTES, len_bytes - CRC_BYTES));
}

static const struct codec codecs[] = {
	CODEC(sco_header, seal_head, true),
	CODEC(sco_footer, seal_head, true),
	CODEC(ring_header, seal_head, true),
	CODEC(ring_record, seal_head, false),
	CODEC(cache_label, seal_head, false),
	CODEC(cache_map_header, seal_head, true),
	{
		.golden = golden_cache_map_entry,
		.golden_bytes = sizeof(golden_cache_map_entry),
		.is_fixed = true,
		.value_bytes = sizeof(struct cache_map_entry),
		.seal = seal_entry,
		.decode = entry_from,
		.encode = entry_to_buf,
	},
};

void fuzz_seeds(void)
{
	codec_seeds(codecs, ARRAY_SIZE(codecs));
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	codec_one(codecs, ARRAY_SIZE(codecs), in, len_bytes);
}
