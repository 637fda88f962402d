/* Blocks and labels: SCO header and index, entry blocks, ring, cache label. */
#include "common/crc32c.h"
#include "golden_batch.h"
#include "golden_cache.h"
#include "golden_check.h"
#include "golden_index.h"
#include "golden_ring.h"
#include "golden_sco.h"

#define SALT	   UINT64_C(0x1122334455667788)
#define SCO	   UINT64_C(0x912345678)
#define STREAM	   0x21u
#define EPOCH	   7u
#define ALL_COMPAT UINT64_C(0x8000000000000001)
#define POOL                                                                                       \
	{                                                                                          \
		{                                                                                  \
			0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab,    \
				0xac, 0xad, 0xae, 0xaf                                             \
		}                                                                                  \
	}
#define BOOT_ID	   "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
#define FRAME	   131072u
#define RING	   (4096u + 3 * FRAME)
#define RING_NONCE UINT64_C(0x99aabbccddeeff00)

/* --- Structures that fill their bytes ---------------------------------------------------------- */

static const struct sco_header sco_header = {
	.features = { .compat = ALL_COMPAT },
	.pool = POOL,
	.stream = STREAM,
	.slots_max = 4096,
	.sco = SCO,
	.version = 3,
	.flags = SCO_FIRST_OF_EPOCH,
	.epoch = EPOCH,
	.salt = SALT,
	.created_ns = -INT64_C(1234567890123456789),
	.cut_sco = UINT64_C(0x912345670),
	.cut_batches = 0x0a0b,
	.cut_lsn = UINT64_C(0x0102030405060708),
};

static const struct sco_footer sco_footer = {
	.features = { .compat = ALL_COMPAT },
	.pool = POOL,
	.stream = STREAM,
	.slot_count = 600,
	.sco = SCO,
	.version = 3,
	.epoch = EPOCH,
	.salt = SALT,
	.first_lsn = 101,
	.last_lsn = 120,
	.table_offset_bytes = 600 * 4096,
	.table_chunks = 3,
	.table_crc = 0xabcdef01,
	.log_offset_bytes = 603 * 4096,
	.log_entries = 50,
	.log_crc = 0xabcdef02,
	.batch_count = 8,
	.file_bytes = 605 * 4096,
};

static const struct ring_header ring_header = {
	.features = { .compat = ALL_COMPAT },
	.pool = POOL,
	.boot_id = BOOT_ID,
	.pool_dir_dev = 0xfd01,
	.pool_dir_ino = 0x778899,
	.ring_bytes = RING,
	.frame_bytes = FRAME,
	.frame_count = 3,
	.epoch = EPOCH,
	.nonce = RING_NONCE,
};

static const struct ring_record ring_record = {
	.pool = POOL,
	.boot_id = BOOT_ID,
	.path = "/dev/shm/vpool-a0-99aabbccddeeff00",
	.ring_bytes = RING,
	.nonce = RING_NONCE,
	.uid = 1000,
	.clean = true,
};

static const struct cache_label cache_label = {
	.features = { .compat = ALL_COMPAT },
	.pool = POOL,
	.index = 2,
	.created_ns = INT64_C(1700000000000000001),
};

static const struct cache_map_header cache_map_header = {
	.features = { .compat = ALL_COMPAT },
	.pool = POOL,
	.index = 2,
	.slot_count = 0x0123456,
};

#define MAP_SLOT 0x0012345u
static const struct cache_map_entry cache_map_entry = {
	.sco = SCO,
	.version = 3,
	.chunk = 0x2345,
	.present = 0xf001,
	.kind = CACHE_MAP_CHUNK,
	.main = 1,
	.frequency = 2,
};

#define CHUNK 2u
struct chunk {
	struct slot_record records[SLOTS_PER_CHUNK];
	unsigned int count;
};
static const struct chunk slot_chunk = {
	.records = {
		{ .kind = SLOT_META },
		{ .kind = SLOT_RAW, .stored_bytes = 4096, .crc = 0xdead0001, .arg = 0x1fe000 },
		{ .kind = SLOT_LZ4, .stored_bytes = 1234, .crc = 0xdead0002, .arg = 0x200001 },
		{ .kind = SLOT_REF, .crc = 0xdead0003,
		  .arg = UINT64_C(5) << 52 | UINT64_C(0x812345678) << 16 | 0x4321 },
		{ .kind = SLOT_DEAD },
	},
	.count = 5,
};

#define BLOCK_CODEC(name)                                                                          \
	static int name##_to_buf(const void *value, struct buf *out)                               \
	{                                                                                          \
		uint8_t *p = buf_extend(out, BLOCK_BYTES);                                         \
		if (p == NULL)                                                                     \
			return -ENOMEM;                                                            \
		name##_encode(value, p);                                                           \
		return 0;                                                                          \
	}                                                                                          \
	static int name##_from(const uint8_t *in, size_t len_bytes, void *ret, struct err *e)      \
	{                                                                                          \
		GOLDEN_EXPECT(len_bytes == BLOCK_BYTES, "a block of %zu bytes", len_bytes);        \
		return name##_decode(in, ret, e);                                                  \
	}
BLOCK_CODEC(sco_header)
BLOCK_CODEC(sco_footer)
BLOCK_CODEC(ring_header)
BLOCK_CODEC(cache_map_header)

#define LABEL_CODEC(name, bytes)                                                                   \
	static int name##_to_buf(const void *value, struct buf *out)                               \
	{                                                                                          \
		uint8_t *p = buf_extend(out, bytes);                                               \
		if (p == NULL)                                                                     \
			return -ENOMEM;                                                            \
		name##_encode(value, p);                                                           \
		return 0;                                                                          \
	}                                                                                          \
	static int name##_from(const uint8_t *in, size_t len_bytes, void *ret, struct err *e)      \
	{                                                                                          \
		return name##_decode(in, len_bytes, ret, e);                                       \
	}
LABEL_CODEC(ring_record, RING_RECORD_BYTES)
LABEL_CODEC(cache_label, CACHE_LABEL_BYTES)

static int cache_map_entry_to_buf(const void *value, struct buf *out)
{
	uint8_t *p = buf_extend(out, CACHE_MAP_ENTRY_BYTES);

	if (p == NULL)
		return -ENOMEM;
	cache_map_entry_encode(value, MAP_SLOT, p);
	return 0;
}

static int cache_map_entry_from(const uint8_t *in, size_t len_bytes, void *ret, struct err *e)
{
	GOLDEN_EXPECT(len_bytes == CACHE_MAP_ENTRY_BYTES, "an entry of %zu bytes", len_bytes);
	return cache_map_entry_decode(in, MAP_SLOT, ret, e);
}

static int slot_chunk_to_buf(const void *value, struct buf *out)
{
	const struct chunk *c = value;
	uint8_t *p = buf_extend(out, BLOCK_BYTES);

	if (p == NULL)
		return -ENOMEM;
	slot_chunk_encode(CHUNK, SALT, c->records, c->count, p);
	return 0;
}

static int slot_chunk_from(const uint8_t *in, size_t len_bytes, void *ret, struct err *e)
{
	struct chunk *c = ret;

	GOLDEN_EXPECT(len_bytes == BLOCK_BYTES, "a chunk of %zu bytes", len_bytes);
	return slot_chunk_decode(in, CHUNK, SALT, c->records, &c->count, e);
}

#define GOLDEN(n, value_, block)                                                                   \
	{                                                                                          \
		.name = #n, .bytes = golden_##n, .len_bytes = sizeof(golden_##n),                  \
		.value = &(value_), .value_bytes = sizeof(value_), .encode = n##_to_buf,           \
		.decode = n##_from, .is_block = (block),                                           \
	}
static const struct golden goldens[] = {
	GOLDEN(sco_header, sco_header, true),
	GOLDEN(sco_footer, sco_footer, true),
	GOLDEN(slot_chunk, slot_chunk, true),
	GOLDEN(ring_header, ring_header, true),
	GOLDEN(ring_record, ring_record, false),
	GOLDEN(cache_label, cache_label, false),
	GOLDEN(cache_map_header, cache_map_header, true),
	GOLDEN(cache_map_entry, cache_map_entry, true),
};

START_TEST(encoding_gives_the_golden_bytes)
{
	golden_check_encode(&goldens[_i]);
}
END_TEST

START_TEST(the_golden_bytes_decode_to_what_was_encoded)
{
	golden_check_decode(&goldens[_i]);
}
END_TEST

START_TEST(every_flipped_bit_is_refused_and_changes_no_output)
{
	golden_check_flips(&goldens[_i]);
}
END_TEST

START_TEST(every_other_length_is_refused)
{
	golden_check_lengths(&goldens[_i]);
}
END_TEST

START_TEST(a_chunk_of_another_sco_or_place_is_refused)
{
	struct chunk c;

	ck_assert_int_eq(slot_chunk_decode(golden_slot_chunk, CHUNK, SALT ^ 1, c.records, &c.count,
					   NULL),
			 -EBADMSG);
	ck_assert_int_eq(slot_chunk_decode(golden_slot_chunk, CHUNK + 1, SALT, c.records, &c.count,
					   NULL),
			 -EUCLEAN);
}
END_TEST

/* --- Entry blocks ------------------------------------------------------------------------------ */

static const struct batch_header batch_header = {
	.flags = BATCH_DIRECT,
	.salt = SALT,
	.sco = SCO,
	.stream = STREAM,
	.batch = 2,
	.slot = 10,
	.epoch = EPOCH,
	.entry_count = 6,
	.cluster_count = 5,
	.closed_lsn = 120,
	.durable_lsn = 100,
	.meta_sequence = 0x55aa,
};
static const uint32_t crcs[] = { 0xc0000001, 0xc0000002, 0xc0000003, 0xc1000004, 0xc2000005 };

/* Position 2 was reserved, with the cluster 3, and never published. */
#define UNPUBLISHED 2u
static const struct log_entry entries[] = {
	{ 101, 0x1111, 512 * 9 + 5, UINT64_C(0x123456789a), INT64_C(1700000000123456789), 3, 11,
	  ENTRY_DATA, 0, 0 },
	{ 102, 0x2222, 77, UINT64_C(1) << 62, -5, ENTRY_TO_END, 0, ENTRY_ZERO, 0, 0 },
	{ 0 },
	{ 104, 0x3333, 40, 40 * 4096 + 17, 6, 0, 14, ENTRY_TRUNCATE, 0, 0 },
	{ 105, 0, 0, 0, 0, 9, 0, ENTRY_VOID, 0, 0 },
	{ 114, 0x4444, 0, 99999, 7, 0, 0, ENTRY_ATTR, 0, 0 },
};

static uint8_t block[BLOCK_BYTES] __attribute__((aligned(4096)));

static unsigned int slots_of(const struct log_entry *entry)
{
	if (entry->slot == 0)
		return 0;
	return entry->kind == ENTRY_DATA ? entry->cluster_count : 1;
}

static void fill_block(void)
{
	memset(block, 0, sizeof(block));
	batch_open_encode(&batch_header, block);
	for (unsigned int i = 0; i < ARRAY_SIZE(crcs); i++)
		batch_crc_put(block, i, crcs[i]);
	for (unsigned int i = 0; i < ARRAY_SIZE(entries); i++) {
		const struct log_entry *en = &entries[i];

		if (i == UNPUBLISHED)
			continue;
		batch_entry_encode(block, i, en, SALT,
				   en->slot == 0 ? 0 : en->slot - batch_header.slot - 1,
				   slots_of(en));
		batch_entry_publish(block, i, en->kind);
	}
	batch_counts_put(block, ARRAY_SIZE(entries), ARRAY_SIZE(crcs));
}

static void assert_same_entry(const struct log_entry *a, const struct log_entry *b)
{
	ck_assert_uint_eq(a->lsn, b->lsn);
	ck_assert_uint_eq(a->object, b->object);
	ck_assert_uint_eq(a->first_cluster, b->first_cluster);
	ck_assert_uint_eq(a->size_bytes, b->size_bytes);
	ck_assert_int_eq(a->mtime_ns, b->mtime_ns);
	ck_assert_uint_eq(a->cluster_count, b->cluster_count);
	ck_assert_uint_eq(a->slot, b->slot);
	ck_assert_uint_eq(a->kind, b->kind);
	ck_assert_uint_eq(a->flags, b->flags);
	ck_assert_uint_eq(a->source, b->source);
}

static void assert_same_fixed_part(const struct batch_header *a, const struct batch_header *b)
{
	ck_assert_uint_eq(a->flags, b->flags);
	ck_assert_uint_eq(a->salt, b->salt);
	ck_assert_uint_eq(a->sco, b->sco);
	ck_assert_uint_eq(a->stream, b->stream);
	ck_assert_uint_eq(a->batch, b->batch);
	ck_assert_uint_eq(a->slot, b->slot);
	ck_assert_uint_eq(a->epoch, b->epoch);
	ck_assert_uint_eq(a->entry_count, b->entry_count);
	ck_assert_uint_eq(a->cluster_count, b->cluster_count);
}

START_TEST(an_open_block_gives_the_golden_bytes)
{
	fill_block();
	ck_assert_mem_eq(block, golden_batch_open, BLOCK_BYTES);
}
END_TEST

START_TEST(a_closed_block_gives_the_golden_bytes)
{
	fill_block();
	batch_close_encode(&batch_header, block);
	ck_assert_mem_eq(block, golden_batch_closed, BLOCK_BYTES);
}
END_TEST

START_TEST(the_golden_open_block_decodes_to_its_fixed_part)
{
	struct batch_header h;

	ck_assert_int_eq(batch_open_decode(golden_batch_open, &h, NULL), 0);
	assert_same_fixed_part(&h, &batch_header);
	ck_assert_uint_eq(h.closed_lsn, 0);
	ck_assert_int_eq(batch_close_decode(golden_batch_open, &h, NULL), -EBADMSG);
}
END_TEST

START_TEST(the_golden_closed_block_decodes_to_its_header)
{
	struct batch_header h;

	ck_assert_int_eq(batch_close_decode(golden_batch_closed, &h, NULL), 0);
	assert_same_fixed_part(&h, &batch_header);
	ck_assert_uint_eq(h.closed_lsn, batch_header.closed_lsn);
	ck_assert_uint_eq(h.durable_lsn, batch_header.durable_lsn);
	ck_assert_uint_eq(h.meta_sequence, batch_header.meta_sequence);
}
END_TEST

START_TEST(the_golden_entries_decode_to_what_was_published)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(entries); i++) {
		struct log_entry en;
		int r = batch_entry_decode(golden_batch_closed, i, SALT, &en, NULL);

		if (i == UNPUBLISHED) {
			ck_assert_int_eq(r, -ENODATA);
			continue;
		}
		ck_assert_int_eq(r, 0);
		assert_same_entry(&en, &entries[i]);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(crcs); i++)
		ck_assert_uint_eq(batch_crc_get(golden_batch_closed, i), crcs[i]);
}
END_TEST

START_TEST(every_flipped_bit_of_an_open_blocks_fixed_part_is_refused)
{
	struct batch_header h;

	memcpy(block, golden_batch_open, BLOCK_BYTES);
	for (size_t bit = 0; bit < (size_t)52 * 8; bit++) {
		int r;

		block[bit / 8] = (uint8_t)(block[bit / 8] ^ 1u << bit % 8);
		r = batch_open_decode(block, &h, NULL);
		GOLDEN_EXPECT(r == -EBADMSG || r == -EUCLEAN, "bit %zu gives %d", bit, r);
		block[bit / 8] = golden_batch_open[bit / 8];
	}
}
END_TEST

START_TEST(every_flipped_bit_of_a_closed_block_is_refused)
{
	struct batch_header h;

	memcpy(block, golden_batch_closed, BLOCK_BYTES);
	for (size_t bit = 0; bit < (size_t)BLOCK_BYTES * 8; bit++) {
		int r;

		block[bit / 8] = (uint8_t)(block[bit / 8] ^ 1u << bit % 8);
		r = batch_close_decode(block, &h, NULL);
		GOLDEN_EXPECT(r == -EBADMSG || r == -EUCLEAN, "bit %zu gives %d", bit, r);
		block[bit / 8] = golden_batch_closed[bit / 8];
	}
}
END_TEST

/* Refused, and never taken for an entry that was not published. */
static void assert_bit_of_entry_matters(unsigned int index, size_t bit)
{
	struct log_entry en;
	int r;

	block[bit / 8] = (uint8_t)(block[bit / 8] ^ 1u << bit % 8);
	r = batch_entry_decode(block, index, SALT, &en, NULL);
	GOLDEN_EXPECT(r == -EBADMSG || r == -EUCLEAN, "entry %u, bit %zu gives %d", index, bit, r);
	block[bit / 8] = golden_batch_open[bit / 8];
}

START_TEST(every_flipped_bit_of_a_published_entry_and_its_checksums_is_refused)
{
	memcpy(block, golden_batch_open, BLOCK_BYTES);
	for (unsigned int i = 0; i < ARRAY_SIZE(entries); i++) {
		const struct log_entry *en = &entries[i];
		const size_t at = BATCH_HEADER_BYTES + (size_t)i * BATCH_ENTRY_BYTES;

		if (i == UNPUBLISHED)
			continue;
		for (size_t bit = at * 8; bit < (at + BATCH_ENTRY_BYTES) * 8; bit++)
			assert_bit_of_entry_matters(i, bit);
		for (unsigned int c = 0; c < slots_of(en); c++) {
			const size_t crc_at = BLOCK_BYTES - 4u * (en->slot - batch_header.slot + c);

			for (size_t bit = crc_at * 8; bit < (crc_at + 4) * 8; bit++)
				assert_bit_of_entry_matters(i, bit);
		}
	}
}
END_TEST

START_TEST(an_entry_of_another_salt_is_refused)
{
	struct log_entry en;

	for (unsigned int bit = 0; bit < 64; bit++)
		ck_assert_int_eq(batch_entry_decode(golden_batch_open, 0, SALT ^ UINT64_C(1) << bit,
						    &en, NULL),
				 -EBADMSG);
}
END_TEST

/* So one flip, or two, can turn a published entry neither into another kind nor into none. */
START_TEST(kinds_are_three_bits_apart_from_each_other_and_from_none)
{
	static const uint8_t kinds[] = { ENTRY_NONE, ENTRY_DATA, ENTRY_ZERO, ENTRY_TRUNCATE,
					 ENTRY_VOID, ENTRY_ATTR, ENTRY_SHARE };

	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++)
		for (unsigned int j = 0; j < i; j++)
			ck_assert_int_ge(__builtin_popcount((unsigned int)kinds[i] ^ kinds[j]), 3);
}
END_TEST

/* --- Log of a sealed SCO ----------------------------------------------------------------------- */

START_TEST(log_entries_give_the_golden_bytes_and_decode_again)
{
	const uint8_t *p = golden_log_entry;

	for (unsigned int i = 0; i < ARRAY_SIZE(entries); i++) {
		uint8_t bytes[BATCH_ENTRY_BYTES];
		struct log_entry en;

		if (i == UNPUBLISHED)
			continue;
		log_entry_encode(&entries[i], bytes);
		ck_assert_mem_eq(bytes, p, BATCH_ENTRY_BYTES);
		ck_assert_int_eq(log_entry_decode(p, &en, NULL), 0);
		assert_same_entry(&en, &entries[i]);
		p += BATCH_ENTRY_BYTES;
	}
	ck_assert_ptr_eq(p, golden_log_entry + sizeof(golden_log_entry));
}
END_TEST

/* Entries of the log have no checksum of their own: the footer has one over all of them. */
START_TEST(a_copy_gives_the_golden_bytes_and_decodes_again)
{
	static const struct log_entry copy = { 120, 0x1111, 512 * 9 + 6, 101,	     0,
					       2,   16,	    ENTRY_DATA,	 ENTRY_COPY, 0 };
	uint8_t bytes[BATCH_ENTRY_BYTES];
	struct log_entry en;

	log_entry_encode(&copy, bytes);
	ck_assert_mem_eq(bytes, golden_log_copy, sizeof(bytes));
	ck_assert_int_eq(log_entry_decode(golden_log_copy, &en, NULL), 0);
	assert_same_entry(&en, &copy);
}
END_TEST

START_TEST(a_share_gives_the_golden_bytes_and_decodes_again)
{
	static const struct log_entry share = {
		.lsn = 121,
		.object = 0x1111,
		.first_cluster = 512 * 9 + 6,
		.size_bytes = UINT64_C(0x123456789a),
		.mtime_ns = INT64_C(1700000000123456789),
		.cluster_count = 2,
		.kind = ENTRY_SHARE,
		.source = SCO << 16 | 0xabcd,
	};
	uint8_t bytes[BATCH_ENTRY_BYTES];
	struct log_entry en;

	log_entry_encode(&share, bytes);
	ck_assert_mem_eq(bytes, golden_log_share, sizeof(bytes));
	ck_assert_int_eq(log_entry_decode(golden_log_share, &en, NULL), 0);
	assert_same_entry(&en, &share);
}
END_TEST

START_TEST(every_flipped_bit_of_a_log_changes_the_checksum_in_the_footer)
{
	const uint32_t right = crc32c(0, golden_log_entry, sizeof(golden_log_entry));
	uint8_t log[sizeof(golden_log_entry)];

	memcpy(log, golden_log_entry, sizeof(log));
	for (size_t bit = 0; bit < sizeof(log) * 8; bit++) {
		log[bit / 8] = (uint8_t)(log[bit / 8] ^ 1u << bit % 8);
		GOLDEN_EXPECT(crc32c(0, log, sizeof(log)) != right, "bit %zu", bit);
		log[bit / 8] = golden_log_entry[bit / 8];
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("golden");
	TCase *tc = tcase_create("structures");
	TCase *batch = tcase_create("batch");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(tc, encoding_gives_the_golden_bytes, 0, ARRAY_SIZE(goldens));
	tcase_add_loop_test(tc, the_golden_bytes_decode_to_what_was_encoded, 0,
			    ARRAY_SIZE(goldens));
	tcase_add_loop_test(tc, every_flipped_bit_is_refused_and_changes_no_output, 0,
			    ARRAY_SIZE(goldens));
	tcase_add_loop_test(tc, every_other_length_is_refused, 0, ARRAY_SIZE(goldens));
	tcase_add_test(tc, a_chunk_of_another_sco_or_place_is_refused);
	suite_add_tcase(s, tc);

	tcase_add_test(batch, an_open_block_gives_the_golden_bytes);
	tcase_add_test(batch, a_closed_block_gives_the_golden_bytes);
	tcase_add_test(batch, the_golden_open_block_decodes_to_its_fixed_part);
	tcase_add_test(batch, the_golden_closed_block_decodes_to_its_header);
	tcase_add_test(batch, the_golden_entries_decode_to_what_was_published);
	tcase_add_test(batch, every_flipped_bit_of_an_open_blocks_fixed_part_is_refused);
	tcase_add_test(batch, every_flipped_bit_of_a_closed_block_is_refused);
	tcase_add_test(batch, every_flipped_bit_of_a_published_entry_and_its_checksums_is_refused);
	tcase_add_test(batch, an_entry_of_another_salt_is_refused);
	tcase_add_test(batch, kinds_are_three_bits_apart_from_each_other_and_from_none);
	tcase_add_test(batch, log_entries_give_the_golden_bytes_and_decode_again);
	tcase_add_test(batch, a_copy_gives_the_golden_bytes_and_decodes_again);
	tcase_add_test(batch, a_share_gives_the_golden_bytes_and_decodes_again);
	tcase_add_test(batch, every_flipped_bit_of_a_log_changes_the_checksum_in_the_footer);
	suite_add_tcase(s, batch);

	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
