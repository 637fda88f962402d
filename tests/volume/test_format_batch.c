/* Entry blocks: limits, bounds of entries, and writers that share a block. */
#include <check.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

#include "format_random.h"

#define SALT	   UINT64_C(0xfeedfacecafebeef)
#define BLOCK_SLOT 1000u
#define GARBAGE	   100000

static uint8_t block[BLOCK_BYTES] __attribute__((aligned(4096)));

static const struct batch_header header = {
	.salt = SALT,
	.sco = 5,
	.stream = 16,
	.batch = 3,
	.slot = BLOCK_SLOT,
	.epoch = 2,
};
static const struct log_entry data = {
	.lsn = 1,
	.object = 20,
	.first_cluster = 100,
	.size_bytes = 1 << 20,
	.mtime_ns = 5,
	.cluster_count = 2,
	.slot = BLOCK_SLOT + 1,
	.kind = ENTRY_DATA,
};

static void open_block(void)
{
	memset(block, 0, sizeof(block));
	batch_open_encode(&header, block);
}

static void publish(unsigned int index, const struct log_entry *entry, unsigned int slots)
{
	batch_entry_encode(block, index, entry, SALT, slots == 0 ? 0 : entry->slot - BLOCK_SLOT - 1,
			   slots);
	batch_entry_publish(block, index, entry->kind);
}

static int close_with(unsigned int entries, unsigned int clusters)
{
	struct batch_header h = header;

	h.entry_count = (uint16_t)entries;
	h.cluster_count = (uint16_t)clusters;
	batch_close_encode(&h, block);
	return batch_close_decode(block, &h, NULL);
}

/* Put an entry at position 0 that no encoder would, with a right checksum. */
static int decode_forged(const struct log_entry *entry, unsigned int slots, struct err *e)
{
	uint8_t *p = block + BATCH_HEADER_BYTES;
	struct log_entry ret;
	const size_t table = BLOCK_BYTES - 4u * (entry->slot - BLOCK_SLOT - 1u + slots);
	uint32_t crc;

	open_block();
	le64_put(p, entry->lsn);
	le64_put(p + 8, entry->object);
	le64_put(p + 16, entry->first_cluster);
	le64_put(p + 24, entry->size_bytes);
	le64_put(p + 32, (uint64_t)entry->mtime_ns);
	le32_put(p + 40, entry->cluster_count);
	le16_put(p + 44, (uint16_t)(entry->slot | loc_slot(entry->source)));
	p[46] = entry->kind;
	p[47] = (uint8_t)(entry->flags | loc_sco(entry->source) >> 32 << 4);
	le32_put(p + 48, (uint32_t)loc_sco(entry->source));
	crc = crc32c((uint32_t)(SALT ^ SALT >> 32), p, 52);
	if (slots != 0)
		crc = crc32c(crc, block + table, (size_t)4 * slots);
	le32_put(p + 52, crc);
	return batch_entry_decode(block, 0, SALT, &ret, e);
}

START_TEST(an_entry_whose_unused_part_is_not_zero_is_refused)
{
	const struct log_entry attr = { .lsn = 1, .object = 20, .kind = ENTRY_ATTR };
	uint8_t *p = block + BATCH_HEADER_BYTES;
	struct log_entry ret;

	ck_assert_int_eq(decode_forged(&attr, 0, NULL), 0);
	p[48] = 1;
	le32_put(p + 52, crc32c((uint32_t)(SALT ^ SALT >> 32), p, 52));
	ck_assert_int_eq(batch_entry_decode(block, 0, SALT, &ret, NULL), -EUCLEAN);
}
END_TEST

/* --- Limits ------------------------------------------------------------------------------------ */

START_TEST(a_block_has_room_up_to_its_last_byte)
{
	ck_assert(batch_has_room(0, 0));
	ck_assert(batch_has_room(1, BATCH_CLUSTERS_MAX));
	ck_assert(!batch_has_room(1, BATCH_CLUSTERS_MAX + 1));
	ck_assert(batch_has_room(BATCH_ENTRIES_MAX, 6));
	ck_assert(!batch_has_room(BATCH_ENTRIES_MAX, 7));
	ck_assert(!batch_has_room(BATCH_ENTRIES_MAX + 1, 0));
	ck_assert(!batch_has_room(UINT_MAX, 0));
	ck_assert(!batch_has_room(0, UINT_MAX));
	ck_assert(!batch_has_room(UINT_MAX, UINT_MAX));
}
END_TEST

START_TEST(a_block_full_of_entries_decodes)
{
	open_block();
	for (unsigned int i = 0; i < BATCH_ENTRIES_MAX; i++) {
		const struct log_entry attr = { .lsn = i + 1,
						.object = 16 + i,
						.kind = ENTRY_ATTR };

		publish(i, &attr, 0);
	}
	ck_assert_int_eq(close_with(BATCH_ENTRIES_MAX, 0), 0);
	for (unsigned int i = 0; i < BATCH_ENTRIES_MAX; i++) {
		struct log_entry ret;

		ck_assert_int_eq(batch_entry_decode(block, i, SALT, &ret, NULL), 0);
		ck_assert_uint_eq(ret.lsn, i + 1);
	}
}
END_TEST

START_TEST(a_block_full_of_clusters_decodes)
{
	struct log_entry first = data, second = data, ret;
	const unsigned int count = (BATCH_ROOM_BYTES - 2 * BATCH_ENTRY_BYTES) / 4;

	first.first_cluster = second.first_cluster = 0;
	first.cluster_count = PAGE_CLUSTERS;
	second.cluster_count = count - PAGE_CLUSTERS;
	second.slot = (uint16_t)(first.slot + PAGE_CLUSTERS);
	open_block();
	for (unsigned int i = 0; i < count; i++)
		batch_crc_put(block, i, i * 2654435761u);
	publish(0, &first, first.cluster_count);
	publish(1, &second, second.cluster_count);
	ck_assert_int_eq(close_with(2, count), 0);
	ck_assert_int_eq(batch_entry_decode(block, 0, SALT, &ret, NULL), 0);
	ck_assert_int_eq(batch_entry_decode(block, 1, SALT, &ret, NULL), 0);
	for (unsigned int i = 0; i < count; i++)
		ck_assert_uint_eq(batch_crc_get(block, i), i * 2654435761u);
}
END_TEST

START_TEST(a_position_outside_of_the_block_is_refused)
{
	struct log_entry ret;

	open_block();
	ck_assert_int_eq(batch_entry_decode(block, BATCH_ENTRIES_MAX, SALT, &ret, NULL), -EUCLEAN);
	ck_assert_int_eq(batch_entry_decode(block, UINT_MAX, SALT, &ret, NULL), -EUCLEAN);
}
END_TEST

/* --- Publishing -------------------------------------------------------------------------------- */

START_TEST(an_entry_is_not_there_until_it_is_published)
{
	struct log_entry ret;

	open_block();
	ck_assert_int_eq(batch_entry_decode(block, 0, SALT, &ret, NULL), -ENODATA);
	batch_crc_put(block, 0, 1);
	batch_crc_put(block, 1, 2);
	batch_entry_encode(block, 0, &data, SALT, 0, 2);
	ck_assert_int_eq(batch_entry_decode(block, 0, SALT, &ret, NULL), -ENODATA);
	batch_entry_publish(block, 0, data.kind);
	ck_assert_int_eq(batch_entry_decode(block, 0, SALT, &ret, NULL), 0);
}
END_TEST

START_TEST(an_entry_published_as_another_kind_is_refused)
{
	struct log_entry ret;

	open_block();
	batch_entry_encode(block, 0, &data, SALT, 0, 2);
	batch_entry_publish(block, 0, ENTRY_ATTR);
	ck_assert_int_eq(batch_entry_decode(block, 0, SALT, &ret, NULL), -EBADMSG);
}
END_TEST

START_TEST(an_open_block_tells_how_much_of_it_is_reserved)
{
	struct batch_header h;

	open_block();
	ck_assert_int_eq(batch_open_decode(block, &h, NULL), 0);
	ck_assert_uint_eq(h.entry_count, 0);
	batch_counts_put(block, 3, 700);
	ck_assert_int_eq(batch_open_decode(block, &h, NULL), 0);
	ck_assert_uint_eq(h.entry_count, 3);
	ck_assert_uint_eq(h.cluster_count, 700);
	ck_assert_uint_eq(h.closed_lsn, 0);
}
END_TEST

/* Else recovery would call the checksums of an unfinished writer a damaged entry. */
START_TEST(checksums_are_not_taken_for_entries_once_positions_are_counted)
{
	struct log_entry ret;

	open_block();
	batch_counts_put(block, 1, 500);
	for (unsigned int i = 0; i < 500; i++)
		batch_crc_put(block, i, UINT32_MAX - i);
	for (unsigned int i = 0; i < BATCH_ENTRIES_MAX; i++)
		ck_assert_int_eq(batch_entry_decode(block, i, SALT, &ret, NULL), -ENODATA);
	publish(0, &data, 2);
	ck_assert_int_eq(batch_entry_decode(block, 0, SALT, &ret, NULL), 0);
}
END_TEST

START_TEST(a_frame_that_was_given_back_is_no_batch)
{
	struct batch_header h;

	open_block();
	memset(block, 0, 4);
	ck_assert_int_eq(batch_open_decode(block, &h, NULL), -EUCLEAN);
}
END_TEST

#define WRITERS 4u
/* Entries with a cluster each that fit a block, shared evenly. */
#define EACH (BATCH_ROOM_BYTES / (BATCH_ENTRY_BYTES + 4) / WRITERS)

/* Publishes entries writer, writer + WRITERS, ... with one cluster each. */
static void *writer_main(void *arg)
{
	const unsigned int writer = *(const unsigned int *)arg;

	for (unsigned int n = 0; n < EACH; n++) {
		const unsigned int i = n * WRITERS + writer;
		struct log_entry en = data;

		en.lsn = i + 1;
		en.cluster_count = 1;
		en.slot = (uint16_t)(BLOCK_SLOT + 1 + i);
		batch_crc_put(block, i, i + 77);
		batch_entry_encode(block, i, &en, SALT, i, 1);
		batch_entry_publish(block, i, en.kind);
	}
	return NULL;
}

START_TEST(writers_fill_one_block_side_by_side)
{
	unsigned int numbers[WRITERS] = { 0, 1, 2, 3 };
	pthread_t threads[WRITERS];
	struct log_entry ret;

	open_block();
	for (unsigned int i = 0; i < WRITERS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, writer_main, &numbers[i]), 0);
	for (unsigned int i = 0; i < WRITERS; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	ck_assert_int_eq(close_with(EACH * WRITERS, EACH * WRITERS), 0);
	for (unsigned int i = 0; i < EACH * WRITERS; i++) {
		ck_assert_int_eq(batch_entry_decode(block, i, SALT, &ret, NULL), 0);
		ck_assert_uint_eq(ret.lsn, i + 1);
	}
}
END_TEST

/* --- Bounds under a right checksum ------------------------------------------------------------- */

struct forgery {
	const char *what;
	struct log_entry entry;
	unsigned int slots;
};

#define DATA_AT(first, count) 1, 20, (first), 0, 0, (count), BLOCK_SLOT + 1, ENTRY_DATA, 0, 0
#define SHARE_OF(sco, at, count, flags)                                                            \
	1, 20, 0, 0, 0, (count), 0, ENTRY_SHARE, (flags), (uint64_t)(sco) << 16 | (at)
static const struct forgery forgeries[] = {
	{ "LSN 0", { 0, 20, 0, 0, 0, 1, 0, ENTRY_ATTR, 0, 0 }, 0 },
	{ "object 0", { 1, 0, 0, 0, 0, 1, 0, ENTRY_ATTR, 0, 0 }, 0 },
	{ "cluster behind the largest",
	  { 1, 20, CLUSTER_MAX + 1, 0, 0, 0, 0, ENTRY_TRUNCATE, 0, 0 },
	  0 },
	{ "size beyond", { 1, 20, 0, OBJECT_BYTES_MAX + 1, 0, 0, 0, ENTRY_ATTR, 0, 0 }, 0 },
	{ "unknown flags", { 1, 20, 0, 0, 0, 0, 0, ENTRY_ATTR, 1, 0 }, 0 },
	{ "unknown kind", { 1, 20, 0, 0, 0, 1, 0, 0x36, 0, 0 }, 0 },
	{ "data without a slot", { 1, 20, 0, 0, 0, 1, 0, ENTRY_DATA, 0, 0 }, 0 },
	{ "no cluster", { DATA_AT(0, 0) }, 0 },
	{ "data across pages", { DATA_AT(511, 2) }, 2 },
	{ "data across pages", { DATA_AT(0, 513) }, 513 },
	{ "behind the largest object", { DATA_AT(CLUSTER_MAX, 1) }, 1 },
	{ "a range with a slot", { 1, 20, 0, 0, 0, 1, BLOCK_SLOT + 1, ENTRY_ZERO, 0, 0 }, 1 },
	{ "no cluster", { 1, 20, 0, 0, 0, 0, 0, ENTRY_ZERO, 0, 0 }, 0 },
	{ "behind the largest object",
	  { 1, 20, CLUSTER_MAX - 1, 0, 0, 2, 0, ENTRY_ZERO, 0, 0 },
	  0 },
	{ "void with a slot", { 1, 0, 0, 0, 0, 1, BLOCK_SLOT + 1, ENTRY_VOID, 0, 0 }, 1 },
	{ "void of nothing", { 1, 0, 0, 0, 0, 0, 0, ENTRY_VOID, 0, 0 }, 0 },
	{ "wrap", { UINT64_MAX, 0, 0, 0, 0, 2, 0, ENTRY_VOID, 0, 0 }, 0 },
	{ "attributes with a slot", { 1, 20, 0, 0, 0, 1, BLOCK_SLOT + 1, ENTRY_ATTR, 0, 0 }, 1 },
	{ "unknown flags", { 1, 20, 0, 7, 0, 1, BLOCK_SLOT + 1, ENTRY_DATA, 3, 0 }, 1 },
	{ "copy without a mark",
	  { 1, 20, 0, 0, 0, 1, BLOCK_SLOT + 1, ENTRY_DATA, ENTRY_COPY, 0 },
	  1 },
	{ "without a place", { SHARE_OF(0, 1, 1, 0) }, 0 },
	{ "without a place", { SHARE_OF(5, 0, 1, 0) }, 0 },
	{ "behind the end of a SCO", { SHARE_OF(5, 65500, 36, 0) }, 0 },
	{ "no cluster", { SHARE_OF(5, 7, 0, 0) }, 0 },
	{ "data across pages", { SHARE_OF(5, 7, 513, 0) }, 0 },
	{ "unknown flags", { SHARE_OF(5, 7, 1, ENTRY_COPY) }, 0 },
	{ "with a time", { 1, 20, 0, 7, 8, 1, BLOCK_SLOT + 1, ENTRY_DATA, ENTRY_COPY, 0 }, 1 },
};

START_TEST(an_entry_out_of_bounds_is_refused_under_a_right_checksum)
{
	const struct forgery *f = &forgeries[_i];
	struct err e = { 0 };

	ck_assert_int_eq(decode_forged(&f->entry, f->slots, &e), -EUCLEAN);
	ck_assert_msg(strstr(e.message, f->what) != NULL, "'%s' lacks '%s'", e.message, f->what);
}
END_TEST

static const struct forgery corner_cases[] = {
	{ "last page of the largest object", { DATA_AT(CLUSTER_MAX - 512, 512) }, 512 },
	{ "range to the end", { 1, 20, CLUSTER_MAX, 0, 0, ENTRY_TO_END, 0, ENTRY_ZERO, 0, 0 }, 0 },
	{ "longest range", { 1, 20, 0, 0, 0, ENTRY_TO_END - 1, 0, ENTRY_ZERO, 0, 0 }, 0 },
	{ "truncate to nothing", { 1, 20, 0, 0, INT64_MIN, 0, 0, ENTRY_TRUNCATE, 0, 0 }, 0 },
	{ "truncate inside of a cluster",
	  { 1, 20, 9, 9 * 4096 + 1, 0, 0, BLOCK_SLOT + 1, ENTRY_TRUNCATE, 0, 0 },
	  1 },
	{ "last LSN", { UINT64_MAX, 0, 0, 0, 0, 1, 0, ENTRY_VOID, 0, 0 }, 0 },
	{ "last slots of the last SCO", { SHARE_OF(SCO_NUMBER_MAX, 65023, 512, 0) }, 0 },
	{ "copy",
	  { 1, 20, 9, OBJECT_BYTES_MAX, 0, 1, BLOCK_SLOT + 1, ENTRY_DATA, ENTRY_COPY, 0 },
	  1 },
	{ "largest size", { 1, 20, 0, OBJECT_BYTES_MAX, 0, 0, 0, ENTRY_ATTR, 0, 0 }, 0 },
};

START_TEST(an_entry_at_its_bounds_is_taken)
{
	const struct forgery *f = &corner_cases[_i];
	struct err e = { 0 };

	ck_assert_msg(decode_forged(&f->entry, f->slots, &e) == 0, "%s: %s", f->what, e.message);
}
END_TEST

START_TEST(slots_outside_of_the_batch_are_refused)
{
	struct log_entry ret, en = data;

	open_block();
	publish(0, &en, 2);
	batch_counts_put(block, 1, 1); /* one cluster, and the entry says two */
	ck_assert_int_eq(batch_entry_decode(block, 0, SALT, &ret, NULL), -EUCLEAN);

	/* Before the block, the block itself, and beyond what any block has: no checksum can be
	 * looked up, so none is right. */
	en.slot = BLOCK_SLOT - 1;
	ck_assert_int_eq(decode_forged(&en, 0, NULL), -EBADMSG);
	en.slot = BLOCK_SLOT;
	ck_assert_int_eq(decode_forged(&en, 0, NULL), -EBADMSG);
	en.slot = BLOCK_SLOT + BATCH_CLUSTERS_MAX;
	ck_assert_int_eq(decode_forged(&en, 0, NULL), -EBADMSG);
	en.slot = UINT16_MAX;
	ck_assert_int_eq(decode_forged(&en, 0, NULL), -EBADMSG);
}
END_TEST

static void reseal_block(void)
{
	le32_put(block + 48, crc32c(0, block, 48));
	le32_put(block + 52, reseal_hole_crc(0, block, BLOCK_BYTES, 52));
}

START_TEST(a_header_out_of_bounds_is_refused_under_a_right_checksum)
{
	static const struct {
		size_t at;
		uint32_t value;
		int want;
	} cases[] = {
		{ 4, FORMAT_VERSION + 1, -EPROTONOSUPPORT },
		{ 6, 2, -EUCLEAN },		 /* flags */
		{ 20, 16, -EUCLEAN },		 /* SCO number of 37 bits */
		{ 24, 0, -EUCLEAN },		 /* stream 0 */
		{ 32, 0, -EUCLEAN },		 /* slot of the SCO's header */
		{ 32, SCO_SLOTS_MAX, -EUCLEAN }, /* no such slot */
		{ 32, UINT32_MAX, -EUCLEAN },
		{ 36, 1, -EUCLEAN },
		{ 56, BATCH_ENTRIES_MAX + 1, -EUCLEAN },
		{ 58, BATCH_CLUSTERS_MAX + 15, -EUCLEAN },
		{ 60, 1, -EUCLEAN },
		{ 88, 1, -EUCLEAN },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		struct batch_header h;

		open_block();
		ck_assert_int_eq(close_with(0, 0), 0);
		if (cases[i].at % 4 == 0)
			le32_put(block + cases[i].at, cases[i].value);
		else
			le16_put(block + cases[i].at, (uint16_t)cases[i].value);
		reseal_block();
		ck_assert_msg(batch_close_decode(block, &h, NULL) == cases[i].want, "case %u", i);
	}
}
END_TEST

START_TEST(clusters_behind_the_last_slot_are_refused)
{
	struct batch_header h = header;

	h.slot = SCO_SLOTS_MAX - 11;
	memset(block, 0, sizeof(block));
	batch_open_encode(&h, block);
	h.cluster_count = 10;
	batch_close_encode(&h, block);
	ck_assert_int_eq(batch_close_decode(block, &h, NULL), 0);
	le16_put(block + 58, 11);
	reseal_block();
	ck_assert_int_eq(batch_close_decode(block, &h, NULL), -EUCLEAN);
}
END_TEST

START_TEST(garbage_is_refused_at_every_position)
{
	struct rng rng = { 9 };
	struct batch_header h;
	struct log_entry ret;

	rng_bytes(&rng, block, sizeof(block));
	for (unsigned int i = 0; i < GARBAGE; i++) {
		const uint64_t change = rng_u64(&rng);
		int r;

		memcpy(block + change % (sizeof(block) - 8), &change, sizeof(change));
		if (batch_open_decode(block, &h, NULL) == 0 ||
		    batch_close_decode(block, &h, NULL) == 0)
			ck_abort_msg("a header out of garbage, round %u", i);
		r = batch_entry_decode(block, i % BATCH_ENTRIES_MAX, change, &ret, NULL);
		if (r != -EBADMSG && r != -ENODATA && r != -EUCLEAN)
			ck_abort_msg("an entry out of garbage: %d, round %u", r, i);
		r = log_entry_decode(block + i % BLOCK_BYTES / 2, &ret, NULL);
		if (r != -EUCLEAN)
			ck_abort_msg("a log entry out of garbage: %d, round %u", r, i);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("format_batch");
	TCase *tc = tcase_create("batch");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, a_block_has_room_up_to_its_last_byte);
	tcase_add_test(tc, a_block_full_of_entries_decodes);
	tcase_add_test(tc, a_block_full_of_clusters_decodes);
	tcase_add_test(tc, a_position_outside_of_the_block_is_refused);
	tcase_add_test(tc, an_entry_is_not_there_until_it_is_published);
	tcase_add_test(tc, an_entry_published_as_another_kind_is_refused);
	tcase_add_test(tc, an_open_block_tells_how_much_of_it_is_reserved);
	tcase_add_test(tc, checksums_are_not_taken_for_entries_once_positions_are_counted);
	tcase_add_test(tc, a_frame_that_was_given_back_is_no_batch);
	tcase_add_test(tc, writers_fill_one_block_side_by_side);
	tcase_add_loop_test(tc, an_entry_out_of_bounds_is_refused_under_a_right_checksum, 0,
			    ARRAY_SIZE(forgeries));
	tcase_add_loop_test(tc, an_entry_at_its_bounds_is_taken, 0, ARRAY_SIZE(corner_cases));
	tcase_add_test(tc, an_entry_whose_unused_part_is_not_zero_is_refused);
	tcase_add_test(tc, slots_outside_of_the_batch_are_refused);
	tcase_add_test(tc, a_header_out_of_bounds_is_refused_under_a_right_checksum);
	tcase_add_test(tc, clusters_behind_the_last_slot_are_refused);
	tcase_add_test(tc, garbage_is_refused_at_every_position);
	suite_add_tcase(s, tc);

	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
