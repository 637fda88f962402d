/* Parts of the index of a sealed SCO: a chunk of the slot table, an entry of the log. */
#include "tests/fuzz/codec.h"
#include "tests/fuzz/seal.h"
#include "tests/golden/golden_index.h"

const struct fuzz_bound fuzz_bound = { .base_bytes = 32 << 10, .per_input_byte = 2 };

/* Of the golden bytes. */
#define SALT  UINT64_C(0x1122334455667788)
#define CHUNK 2u

struct chunk {
	struct slot_record records[SLOTS_PER_CHUNK];
	unsigned int count;
};

static int chunk_to_buf(const void *value, struct buf *out)
{
	const struct chunk *c = value;
	uint8_t *p = buf_extend(out, BLOCK_BYTES);

	FUZZ_EXPECT(p);
	slot_chunk_encode(CHUNK, SALT, c->records, c->count, p);
	return 0;
}

static int chunk_from(const uint8_t *in, size_t len_bytes, void *ret, struct err *e)
{
	struct chunk *c = ret;

	(void)len_bytes;
	return slot_chunk_decode(in, CHUNK, SALT, c->records, &c->count, e);
}

static void seal_chunk(uint8_t *bytes, size_t len_bytes)
{
	seal_hole(bytes, len_bytes, 8, format_salt_seed(SALT));
}

CODEC_OF_BLOCK(log_entry, BATCH_ENTRY_BYTES)

/* The footer has the checksum of all of them. */
static void seal_nothing(uint8_t *bytes, size_t len_bytes)
{
	(void)bytes;
	(void)len_bytes;
}

static const struct codec codecs[] = {
	{
		.golden = golden_slot_chunk,
		.golden_bytes = sizeof(golden_slot_chunk),
		.is_fixed = true,
		.value_bytes = sizeof(struct chunk),
		.seal = seal_chunk,
		.decode = chunk_from,
		.encode = chunk_to_buf,
	},
	{
		.golden = golden_log_entry,
		.golden_bytes = BATCH_ENTRY_BYTES,
		.is_fixed = true,
		.value_bytes = sizeof(struct log_entry),
		.seal = seal_nothing,
		.decode = log_entry_from,
		.encode = log_entry_to_buf,
	},
};

void fuzz_seeds(void)
{
	codec_seeds(codecs, ARRAY_SIZE(codecs));
	for (size_t at = BATCH_ENTRY_BYTES; at < sizeof(golden_log_entry); at += BATCH_ENTRY_BYTES)
		fuzz_seed(1, golden_log_entry + at, BATCH_ENTRY_BYTES);
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	codec_one(codecs, ARRAY_SIZE(codecs), in, len_bytes);
}
