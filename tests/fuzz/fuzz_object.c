/* Objects on the backend: manifest, root, the directory of a pack. */
#include "tests/fuzz/codec.h"
#include "tests/fuzz/seal.h"
#include "tests/golden/golden_backend.h"

#include <stdlib.h>
#include <string.h>

/* 64 bytes for each that came in (volume/format.h), and the two copies of this target. */
const struct fuzz_bound fuzz_bound = { .base_bytes = 16 << 10, .per_input_byte = 64 + 4 };

enum { MANIFEST, ROOT };
/* Of the control word: a directory; where its members end stands before it. */
#define PACK 0x40u
/* Where those of the golden one do. */
#define GOLDEN_END_BYTES 0x11200u
enum { END_BYTES = 8 };

CODEC_OF_BYTES(manifest)
CODEC_OF_BYTES(root)

static void seal(uint8_t *bytes, size_t len_bytes)
{
	seal_end(bytes, len_bytes, 0);
}

static void manifest_free(void *value)
{
	manifest_done(value);
}

static void root_free(void *value)
{
	root_done(value);
}

#define OBJECT(name)                                                                               \
	{                                                                                          \
		.golden = golden_##name, .golden_bytes = sizeof(golden_##name),                    \
		.value_bytes = sizeof(struct name), .seal = seal, .decode = name##_from,           \
		.encode = name##_to_buf, .done = name##_free,                                      \
	}
static const struct codec codecs[] = {
	[MANIFEST] = OBJECT(manifest),
	[ROOT] = OBJECT(root),
};

static void seed_directory(const struct pack_directory *d, uint64_t end_bytes)
{
	struct buf out;

	buf_init(&out, 1 << 20);
	FUZZ_EXPECT(buf_extend(&out, END_BYTES));
	le64_put(out.data, end_bytes);
	FUZZ_EXPECT(pack_directory_encode(d, &out) == 0);
	fuzz_seed(FUZZ_RESEAL | PACK, out.data, out.len_bytes);
	buf_done(&out);
}

void fuzz_seeds(void)
{
	struct pack_member empty = { .object = { .name = "a/b" } };
	const struct pack_directory small = { .member_count = 1, .members = &empty };
	struct pack_directory golden = { .members = NULL };
	struct err e = { 0 };

	codec_seeds(codecs, ARRAY_SIZE(codecs));
	fuzz_seed(FUZZ_RESEAL | ROOT, golden_root_packs, sizeof(golden_root_packs));
	FUZZ_EXPECT(pack_directory_decode(golden_pack_directory, sizeof(golden_pack_directory),
					  GOLDEN_END_BYTES, &golden, &e) == 0);
	seed_directory(&golden, GOLDEN_END_BYTES);
	pack_directory_done(&golden);
	seed_directory(&small, 0);
}

/* Members side by side from the start to the end, so that no range of one is another's or outside. */
static void check_members(const struct pack_directory *d, uint64_t end_bytes)
{
	uint64_t at = 0;

	FUZZ_EXPECT(d->member_count >= 1 && d->member_count <= PACK_MEMBERS_MAX);
	for (uint32_t i = 0; i < d->member_count; i++) {
		const struct named_object *o = &d->members[i].object;

		FUZZ_EXPECT(d->members[i].offset_bytes == at && o->len_bytes <= end_bytes - at);
		FUZZ_EXPECT(name_is_sound(o->name));
		at += o->len_bytes;
	}
	FUZZ_EXPECT(at == end_bytes);
}

static void directory_one(const uint8_t *in, size_t len_bytes)
{
	uint8_t word = fuzz_word(&in, &len_bytes);
	size_t taken = min_u64(len_bytes, END_BYTES);
	uint8_t *end = fuzz_copy(in, taken, END_BYTES);
	uint8_t *copy = fuzz_copy(in + taken, len_bytes - taken, len_bytes - taken);
	uint64_t end_bytes = le64_get(end);
	struct pack_directory d = { .members = NULL };
	struct err e = { 0 };
	struct buf out;
	int r;

	len_bytes -= taken;
	if (word & FUZZ_RESEAL)
		seal(copy, len_bytes);
	r = pack_directory_decode(copy, len_bytes, end_bytes, &d, &e);
	if (r < 0) {
		fuzz_expect_refusal(r, &e);
		FUZZ_EXPECT(!d.members);
	} else {
		check_members(&d, end_bytes);
		buf_init(&out, len_bytes);
		FUZZ_EXPECT(pack_directory_encode(&d, &out) == 0);
		FUZZ_EXPECT(fuzz_same(out.data, out.len_bytes, copy, len_bytes));
		buf_done(&out);
		pack_directory_done(&d);
	}
	free(copy);
	free(end);
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	if (len_bytes > 0 && in[0] & PACK)
		directory_one(in, len_bytes);
	else
		codec_one(codecs, ARRAY_SIZE(codecs), in, len_bytes);
}
