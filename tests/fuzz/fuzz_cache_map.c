/* The map of a cache directory: its header, and entries of slots. */
#include "tests/fuzz/codec.h"
#include "tests/fuzz/seal.h"
#include "tests/golden/golden_cache.h"

#include <stdlib.h>

const struct fuzz_bound fuzz_bound = { .base_bytes = 24 << 10, .per_input_byte = 2 };

/* Of the golden bytes; another slot's entry is refused. */
#define SLOT 0x0012345u

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

static void seal_header(uint8_t *bytes, size_t len_bytes)
{
	seal_hole(bytes, len_bytes, HEAD_CRC_AT, 0);
}

static void seal_entry(uint8_t *bytes, size_t len_bytes)
{
	le32_put(bytes, crc32c(SLOT, bytes + CRC_BYTES, len_bytes - CRC_BYTES));
}

static const struct codec codecs[] = {
	CODEC(cache_map_header, seal_header, true),
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
