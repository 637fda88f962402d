/* The manifest on the backend. */
#include "tests/fuzz/codec.h"
#include "tests/fuzz/seal.h"
#include "tests/golden/golden_backend.h"

/* 64 bytes for each that came in (volume/format.h), and the two copies of this target. */
const struct fuzz_bound fuzz_bound = { .base_bytes = 16 << 10, .per_input_byte = 64 + 4 };

CODEC_OF_BYTES(manifest)

static void seal(uint8_t *bytes, size_t len_bytes)
{
	seal_end(bytes, len_bytes, 0);
}

static void done(void *value)
{
	manifest_done(value);
}

static const struct codec codecs[] = { {
	.golden = golden_manifest,
	.golden_bytes = sizeof(golden_manifest),
	.value_bytes = sizeof(struct manifest),
	.seal = seal,
	.decode = manifest_from,
	.encode = manifest_to_buf,
	.done = done,
} };

void fuzz_seeds(void)
{
	codec_seeds(codecs, ARRAY_SIZE(codecs));
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	codec_one(codecs, ARRAY_SIZE(codecs), in, len_bytes);
}
