/* Values of all rows of the engine but map pages. */
#include "tests/fuzz/codec.h"
#include "tests/fuzz/seal.h"
#include "tests/golden/golden_row.h"

/* An object has 16 bytes for each origin, of which 12 came in. */
const struct fuzz_bound fuzz_bound = { .base_bytes = 16 << 10, .per_input_byte = 6 };

#define ROW(name, kind)                                                                            \
	CODEC_OF_BYTES(name)                                                                       \
	static void name##_seal(uint8_t *bytes, size_t len_bytes)                                  \
	{                                                                                          \
		seal_row(bytes, len_bytes, kind);                                                  \
	}
ROW(pool_row, ROW_POOL)
ROW(counter_row, ROW_COUNTER)
ROW(stream_row, ROW_STREAM)
ROW(checkpoint_row, ROW_CHECKPOINT)
ROW(object_row, ROW_OBJECT)
ROW(layer_row, ROW_LAYER)
ROW(root_row, ROW_ROOT)
ROW(changed_row, ROW_CHANGED)
ROW(resolved_row, ROW_RESOLVED)
ROW(moved_row, ROW_MOVED)
ROW(object_state_row, ROW_OBJECT_STATE)
ROW(sco_row, ROW_SCO)
ROW(snapshot_row, ROW_SNAPSHOT)
ROW(pack_row, ROW_PACK)
ROW(pack_member, ROW_PACK)
CODEC_OF_BYTES(condemned_row)

static void condemned_row_seal(uint8_t *bytes, size_t len_bytes)
{
	seal_end(bytes, len_bytes, ROW_CONDEMNED);
}

/* Its place in the list below. */
enum { SNAPSHOT = 9 };

static void object_done(void *value)
{
	object_row_done(value);
}

static const struct codec codecs[] = {
	CODEC(pool_row, pool_row_seal, false),
	CODEC(counter_row, counter_row_seal, false),
	CODEC(stream_row, stream_row_seal, false),
	CODEC(checkpoint_row, checkpoint_row_seal, false),
	CODEC(layer_row, layer_row_seal, false),
	CODEC(root_row, root_row_seal, false),
	CODEC(changed_row, changed_row_seal, false),
	CODEC(object_state_row, object_state_row_seal, false),
	CODEC(sco_row, sco_row_seal, false),
	CODEC(snapshot_row, snapshot_row_seal, false),
	CODEC(pack_row, pack_row_seal, false),
	CODEC(pack_member, pack_member_seal, false),
	CODEC(resolved_row, resolved_row_seal, false),
	CODEC(moved_row, moved_row_seal, false),
	{
		.golden = golden_condemned_row,
		.golden_bytes = sizeof(golden_condemned_row),
		.value_bytes = OBJECT_NAME_MAX + 1,
		.seal = condemned_row_seal,
		.decode = condemned_row_from,
		.encode = condemned_row_to_buf,
	},
	{
		.golden = golden_object_row,
		.golden_bytes = sizeof(golden_object_row),
		.value_bytes = sizeof(struct object_row),
		.seal = object_row_seal,
		.decode = object_row_from,
		.encode = object_row_to_buf,
		.done = object_done,
	},
};

void fuzz_seeds(void)
{
	codec_seeds(codecs, ARRAY_SIZE(codecs));
	fuzz_seed(FUZZ_RESEAL | SNAPSHOT, golden_snapshot_bare, sizeof(golden_snapshot_bare));
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	codec_one(codecs, ARRAY_SIZE(codecs), in, len_bytes);
}
