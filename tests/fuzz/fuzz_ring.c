/* Header of the ring, its record in the pool, the label of a cache directory. What the ring's frames
 * hold: fuzz_batch.c. */
#include "tests/fuzz/codec.h"
#include "tests/fuzz/seal.h"
#include "tests/golden/golden_ring.h"

const struct fuzz_bound fuzz_bound = { .base_bytes = 24 << 10, .per_input_byte = 4 };

CODEC_OF_BLOCK(ring_header, BLOCK_BYTES)
CODEC_OF_LABEL(ring_record, RING_RECORD_BYTES)
CODEC_OF_LABEL(cache_label, CACHE_LABEL_BYTES)

static void seal(uint8_t *bytes, size_t len_bytes)
{
	seal_hole(bytes, len_bytes, HEAD_CRC_AT, 0);
}

static const struct codec codecs[] = {
	CODEC(ring_header, seal, true),
	CODEC(ring_record, seal, false),
	CODEC(cache_label, seal, false),
};

void fuzz_seeds(void)
{
	codec_seeds(codecs, ARRAY_SIZE(codecs));
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	codec_one(codecs, ARRAY_SIZE(codecs), in, len_bytes);
}
