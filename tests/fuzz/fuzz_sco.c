/* Header and footer of a SCO. */
#include "tests/fuzz/codec.h"
#include "tests/fuzz/seal.h"
#include "tests/golden/golden_index.h"
#include "tests/golden/golden_sco.h"

const struct fuzz_bound fuzz_bound = { .base_bytes = 24 << 10, .per_input_byte = 2 };

CODEC_OF_BLOCK(sco_header, BLOCK_BYTES)
CODEC_OF_BLOCK(sco_footer, BLOCK_BYTES)

static void seal(uint8_t *bytes, size_t len_bytes)
{
	seal_hole(bytes, len_bytes, HEAD_CRC_AT, 0);
}

static const struct codec codecs[] = {
	CODEC(sco_header, seal, true),
	CODEC(sco_footer, seal, true),
};

void fuzz_seeds(void)
{
	codec_seeds(codecs, ARRAY_SIZE(codecs));
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	codec_one(codecs, ARRAY_SIZE(codecs), in, len_bytes);
}
