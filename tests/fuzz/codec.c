#include "tests/fuzz/codec.h"

#include <stdlib.h>
#include <string.h>

#define SENTINEL 0xa5

void codec_seeds(const struct codec *codecs, size_t count)
{
	for (size_t i = 0; i < count; i++)
		fuzz_seed((uint8_t)(FUZZ_RESEAL | i), codecs[i].golden, codecs[i].golden_bytes);
}

static void expect_untouched(const uint8_t *value, size_t len_bytes)
{
	for (size_t i = 0; i < len_bytes; i++)
		FUZZ_EXPECT(value[i] == SENTINEL);
}

void codec_one(const struct codec *codecs, size_t count, const uint8_t *in, size_t len_bytes)
{
	uint8_t word = fuzz_word(&in, &len_bytes);
	const struct codec *c = &codecs[(word & 0x7f) % count];
	size_t bytes = c->is_fixed ? c->golden_bytes : len_bytes;
	uint8_t *copy = fuzz_copy(in, len_bytes, bytes);
	uint8_t *value = malloc(c->value_bytes);
	struct err e = { 0 };
	struct buf out;
	int r;

	FUZZ_EXPECT(value);
	memset(value, SENTINEL, c->value_bytes);
	if (word & FUZZ_RESEAL)
		c->seal(copy, bytes);
	r = c->decode(copy, bytes, value, &e);
	if (r == 0) {
		buf_init(&out, bytes);
		FUZZ_EXPECT(c->encode(value, &out) == 0);
		FUZZ_EXPECT(fuzz_same(out.data, out.len_bytes, copy, bytes));
		buf_done(&out);
		if (c->done)
			c->done(value);
	} else {
		fuzz_expect_refusal(r, &e);
		expect_untouched(value, c->value_bytes);
	}
	free(value);
	free(copy);
}
