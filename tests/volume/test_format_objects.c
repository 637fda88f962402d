/* Objects on the backend and names: what a foreign store may hand us. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "format_random.h"

#define GARBAGE 20000

static const char long_name[] = "n2345678901234567890123456789012345678901234567890123456789012345"
				"67890123456789012345678901234567890123456789012345678901234567";

/* --- Image of rows ----------------------------------------------------------------------------- */

static const struct rows_image_header image_header = {
	.kind = ROWS_MAP,
	.stream = 16,
	.epoch = 3,
	.lsn = 99,
};

struct sum {
	unsigned int rows;
	uint32_t crc;
	unsigned int stop_at;
	int stop_with;
};

static int sum_add(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		   size_t value_bytes)
{
	struct sum *sum = arg;

	sum->crc = crc32c(crc32c(sum->crc, key, key_bytes), value, value_bytes);
	sum->rows++;
	return sum->rows == sum->stop_at ? sum->stop_with : 0;
}

/* An image of so many rows; their sum as sum_add() makes it. */
static struct sum image_make(struct rng *rng, unsigned int rows, struct buf *out)
{
	static uint8_t value[5000];
	struct sum sum = { 0 };

	ck_assert_int_eq(rows_image_begin(&image_header, out), 0);
	for (unsigned int i = 0; i < rows; i++) {
		uint8_t key[ROW_KEY_BYTES_MAX];
		const size_t key_bytes = (size_t)rng_between(rng, 1, sizeof(key));
		const size_t value_bytes = (size_t)rng_between(rng, 0, sizeof(value));

		rng_bytes(rng, key, key_bytes);
		rng_bytes(rng, value, value_bytes);
		ck_assert_int_eq(rows_image_add(out, key, key_bytes, value, value_bytes), 0);
		(void)sum_add(&sum, key, key_bytes, value, value_bytes);
	}
	ck_assert_int_eq(rows_image_end(out), 0);
	return sum;
}

START_TEST(images_of_rows_survive_a_round_trip)
{
	struct rng rng = { 1 };

	for (unsigned int rows = 0; rows < 60; rows++) {
		struct rows_image_header h;
		struct sum got = { 0 }, want;
		struct buf out;

		buf_init(&out, 1u << 20);
		want = image_make(&rng, rows, &out);
		ck_assert_int_eq(rows_image_decode(out.data, out.len_bytes, &h, sum_add, &got,
						   NULL),
				 0);
		ck_assert_uint_eq(h.lsn, image_header.lsn);
		ck_assert_uint_eq(got.rows, want.rows);
		ck_assert_uint_eq(got.crc, want.crc);
		buf_done(&out);
	}
}
END_TEST

START_TEST(a_callback_that_says_so_ends_an_image)
{
	struct sum sum = { .stop_at = 3, .stop_with = -ECANCELED };
	struct rows_image_header h;
	struct rng rng = { 2 };
	struct buf out;

	buf_init(&out, 1u << 20);
	(void)image_make(&rng, 5, &out);
	ck_assert_int_eq(rows_image_decode(out.data, out.len_bytes, &h, sum_add, &sum, NULL),
			 -ECANCELED);
	ck_assert_uint_eq(sum.rows, 3);
	buf_done(&out);
}
END_TEST

START_TEST(no_row_of_a_damaged_image_is_shown)
{
	struct rng rng = { 3 };
	struct buf out;

	buf_init(&out, 1u << 20);
	(void)image_make(&rng, 5, &out);
	for (unsigned int i = 0; i < GARBAGE; i++) {
		const size_t at = (size_t)rng_between(&rng, 0, out.len_bytes - 1);
		const uint8_t was = out.data[at];
		struct sum sum = { 0 };
		struct rows_image_header h;
		int r;

		out.data[at] = (uint8_t)(was ^ rng_between(&rng, 1, 255));
		r = rows_image_decode(out.data, out.len_bytes, &h, sum_add, &sum, NULL);
		if ((r != -EBADMSG && r != -EUCLEAN) || sum.rows != 0)
			ck_abort_msg("%d with %u rows, damage at %zu", r, sum.rows, at);
		/* Right checksum: a row may have other bytes, but all of them were looked at. */
		reseal_tail(out.data, out.len_bytes);
		r = rows_image_decode(out.data, out.len_bytes, &h, sum_add, &sum, NULL);
		if (r < 0 ? sum.rows != 0 : sum.rows != 5)
			ck_abort_msg("%d with %u rows, damage at %zu", r, sum.rows, at);
		out.data[at] = was;
		reseal_tail(out.data, out.len_bytes);
	}
	buf_done(&out);
}
END_TEST

START_TEST(rows_that_are_too_long_are_not_taken)
{
	static const uint8_t value[ROW_VALUE_BYTES_MAX + 1];
	struct buf out;
	size_t before;

	buf_init(&out, 4u << 20);
	ck_assert_int_eq(rows_image_begin(&image_header, &out), 0);
	before = out.len_bytes;
	ck_assert_int_eq(rows_image_add(&out, value, IMAGE_KEY_BYTES_MAX + 1, value, 1), -E2BIG);
	ck_assert_int_eq(rows_image_add(&out, value, 1, value, sizeof(value)), -E2BIG);
	ck_assert_uint_eq(out.len_bytes, before);
	ck_assert_int_eq(rows_image_add(&out, value, 1, value, ROW_VALUE_BYTES_MAX), 0);
	buf_done(&out);
}
END_TEST

START_TEST(an_image_without_room_fails_and_leaves_the_buffer)
{
	struct buf out;

	buf_init(&out, 70);
	ck_assert_int_eq(rows_image_begin(&image_header, &out), 0);
	ck_assert_int_lt(rows_image_add(&out, (const uint8_t *)"k", 1, NULL, 0), 0);
	ck_assert_uint_eq(out.len_bytes, 64);
	ck_assert_int_eq(rows_image_end(&out), 0);
	buf_done(&out);
}
END_TEST

/* --- Counts that lie --------------------------------------------------------------------------- */

/* The count is refused by the bytes that are there, before memory for it is asked for. */
START_TEST(a_manifest_that_counts_more_scos_than_it_has_is_refused)
{
	const struct manifest m = { .stream = 16 };
	struct manifest ret;
	struct err e = { 0 };
	struct buf out;

	buf_init(&out, 4096);
	ck_assert_int_eq(manifest_encode(&m, &out), 0);
	le32_put(out.data + 12, UINT32_MAX);
	reseal_tail(out.data, out.len_bytes);
	ck_assert_int_eq(manifest_decode(out.data, out.len_bytes, &ret, &e), -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(e.message, "4294967295 SCOs"));
	buf_done(&out);
}
END_TEST

START_TEST(a_root_that_counts_more_than_it_has_is_refused)
{
	const struct root root = { .ns = { .name = "ns/x" } };
	struct root ret;
	struct err e = { 0 };
	struct buf out;

	buf_init(&out, 4096);
	ck_assert_int_eq(root_encode(&root, &out), 0);
	le32_put(out.data + 80, UINT32_MAX);
	reseal_tail(out.data, out.len_bytes);
	ck_assert_int_eq(root_decode(out.data, out.len_bytes, &ret, &e), -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(e.message, "4294967295 streams"));
	le32_put(out.data + 80, 0);
	le32_put(out.data + 84, UINT32_MAX);
	reseal_tail(out.data, out.len_bytes);
	ck_assert_int_eq(root_decode(out.data, out.len_bytes, &ret, &e), -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(e.message, "4294967295 names"));
	buf_done(&out);
}
END_TEST

START_TEST(scos_and_streams_out_of_order_are_refused)
{
	struct manifest_sco scos[] = { { .sco = 1, .slot_count = 1 },
				       { .sco = 2, .slot_count = 1 } };
	const struct manifest m = { .stream = 16, .sco_count = 2, .scos = scos };
	struct root_stream streams[] = { { 1, { .name = "a" } }, { 2, { .name = "b" } } };
	const struct root root = { .ns = { .name = "ns/x" },
				   .stream_count = 2,
				   .streams = streams };
	struct manifest ret_manifest;
	struct root ret_root;
	struct buf out;

	buf_init(&out, 4096);
	ck_assert_int_eq(manifest_encode(&m, &out), 0);
	le64_put(out.data + out.len_bytes - 4 - 56, 1);
	reseal_tail(out.data, out.len_bytes);
	ck_assert_int_eq(manifest_decode(out.data, out.len_bytes, &ret_manifest, NULL), -EUCLEAN);

	buf_clear(&out);
	ck_assert_int_eq(root_encode(&root, &out), 0);
	le32_put(out.data + out.len_bytes - 4 - 18, 1);
	reseal_tail(out.data, out.len_bytes);
	ck_assert_int_eq(root_decode(out.data, out.len_bytes, &ret_root, NULL), -EUCLEAN);
	buf_done(&out);
}
END_TEST

/* --- Names ------------------------------------------------------------------------------------- */

/* A root that condemns a name of these bytes, under a right checksum. */
static int decode_condemned(const char *bytes, size_t len)
{
	struct root root = { .ns = { .name = "ns/x" }, .condemned_count = 1 };
	char names[1][OBJECT_NAME_MAX + 1];
	struct root ret;
	struct buf out;
	int r;

	memset(names[0], 'x', len);
	names[0][len] = '\0';
	root.condemned = names;
	buf_init(&out, 4096);
	ck_assert_int_eq(root_encode(&root, &out), 0);
	memcpy(out.data + out.len_bytes - 4 - len, bytes, len);
	reseal_tail(out.data, out.len_bytes);
	r = root_decode(out.data, out.len_bytes, &ret, NULL);
	if (r == 0)
		root_done(&ret);
	buf_done(&out);
	return r;
}

START_TEST(names_that_could_leave_their_place_are_refused)
{
	static const char *const bad[] = {
		"/",	  "/etc", "a/",	  "a//b", ".",	 "..",	     "../x", "a/..", "a/./b",
		"a/../b", "a b",  "a\nb", "a\\b", "a:b", "\xc3\xa4", "a%2e", "~",    "a/../../../x",
	};
	static const char *const good[] = {
		"a", "a/b", "...", "a..b", "a/.b", "..a/b", "x/...", "A-Z_0.9", long_name,
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_msg(decode_condemned(bad[i], strlen(bad[i])) == -EUCLEAN, "'%s'", bad[i]);
	for (unsigned int i = 0; i < ARRAY_SIZE(good); i++)
		ck_assert_msg(decode_condemned(good[i], strlen(good[i])) == 0, "'%s'", good[i]);
	ck_assert_uint_eq(strlen(long_name), OBJECT_NAME_MAX);
	ck_assert_int_eq(decode_condemned("a\0b", 3), -EUCLEAN);
	ck_assert_int_eq(decode_condemned("\0", 1), -EUCLEAN);
}
END_TEST

/* A name of one character, which stands but once in these bytes, becomes one of none. */
static void take_name_away(struct buf *b, char name)
{
	const uint8_t named[] = { 1, (uint8_t)name };
	uint8_t *at = memmem(b->data, b->len_bytes, named, sizeof(named));

	ck_assert_ptr_nonnull(at);
	at[0] = 0;
	memmove(at + 1, at + 2, (size_t)(b->data + b->len_bytes - at - 2));
	b->len_bytes--;
	reseal_tail(b->data, b->len_bytes);
}

START_TEST(what_a_root_names_has_a_name)
{
	static const struct {
		char name;
		const char *what;
	} names[] = { { 'N', "name of the namespace" },
		      { 'M', "name of a manifest" },
		      { 'P', "name of a pack" },
		      { 'C', "condemned name" } };
	char condemned[1][OBJECT_NAME_MAX + 1] = { "C" };
	struct root_stream streams[] = { { 1, { .name = "M" } } };
	struct root_pack packs[] = { { { .name = "P", .len_bytes = 90 }, 80 },
				     { { .name = "another", .len_bytes = 90 }, 80 } };
	const struct root root = { .features = { .incompat = FEATURE_PACKS },
				   .ns = { .name = "N" },
				   .stream_count = 1,
				   .streams = streams,
				   .condemned_count = 1,
				   .condemned = condemned,
				   .pack_count = 2,
				   .packs = packs };
	struct err e = { 0 };
	struct root ret;
	struct buf out;

	buf_init(&out, 4096);
	ck_assert_int_eq(root_encode(&root, &out), 0);
	ck_assert_int_eq(root_decode(out.data, out.len_bytes, &ret, &e), 0);
	root_done(&ret);
	take_name_away(&out, names[_i].name);
	ck_assert_int_eq(root_decode(out.data, out.len_bytes, &ret, &e), -EUCLEAN);
	ck_assert_msg(strstr(e.message, names[_i].what) != NULL, "%s", e.message);
	buf_done(&out);
}
END_TEST

START_TEST(names_are_what_the_document_says)
{
	char name[OBJECT_NAME_MAX + 1];

	object_name_sco(name, 0x10, 0xabc, 1, 3);
	ck_assert_str_eq(name, "00000010/sco/000000abc-00000001-0000000000000003");
	object_name_sco(name, UINT32_MAX, SCO_NUMBER_MAX, UINT32_MAX, UINT64_MAX);
	ck_assert_str_eq(name, "ffffffff/sco/fffffffff-ffffffff-ffffffffffffffff");
	object_name_manifest(name, 0x10, 5, 3);
	ck_assert_str_eq(name, "00000010/manifest/0000000000000005-0000000000000003");
	object_name_map(name, 0x10, 7, 3);
	ck_assert_str_eq(name, "00000010/map/0000000000000007-0000000000000003");
	object_name_map_piece(name, 0x10, 7, 0xab, 3);
	ck_assert_str_eq(name, "00000010/piece/0000000000000007-000000ab-0000000000000003");
	object_name_namespace(name, 5, 3);
	ck_assert_str_eq(name, "ns/0000000000000005-0000000000000003");
	object_name_root(name, 5, 3);
	ck_assert_str_eq(name, "root/0000000000000003-0000000000000005");
	object_name_epoch(name, 3);
	ck_assert_str_eq(name, "epoch/0000000000000003");
}
END_TEST

START_TEST(roots_sort_by_epoch_and_then_by_number)
{
	char a[OBJECT_NAME_MAX + 1], b[OBJECT_NAME_MAX + 1];
	struct rng rng = { 4 };

	object_name_root(a, UINT64_MAX, 9);
	object_name_root(b, 0, 10);
	ck_assert_str_lt(a, b);
	for (unsigned int i = 0; i < 200; i++) {
		const uint64_t x = rng_between(&rng, 0, UINT64_MAX - 1);

		object_name_root(a, x, 9);
		object_name_root(b, rng_between(&rng, x + 1, UINT64_MAX), 9);
		ck_assert_str_lt(a, b);
	}
}
END_TEST

START_TEST(names_of_cache_files_parse_again)
{
	struct rng rng = { 5 };

	for (unsigned int i = 0; i < 500; i++) {
		const uint32_t stream = rng_u32(&rng, 1, UINT32_MAX);
		const uint64_t sco = rng_between(&rng, 1, SCO_NUMBER_MAX);
		const uint32_t version = rng_u32(&rng, 0, UINT32_MAX);
		char name[SCO_FILE_NAME_MAX + 1];
		uint32_t got_stream, got_version;
		uint64_t got_sco;

		sco_file_name(name, stream, sco, version);
		ck_assert_int_eq(sco_file_name_parse(name, &got_stream, &got_sco, &got_version), 0);
		ck_assert(got_stream == stream && got_sco == sco && got_version == version);
	}
}
END_TEST

START_TEST(other_names_in_a_cache_directory_do_not_parse)
{
	static const char right[] = "00000010-000000abc-00000002";
	static const char *const wrong[] = {
		"",
		"label",
		"00000010-000000abc-00000002 ",
		"00000010-000000abc-00000002.tmp",
		"00000010-000000abc-000000021",
		" 0000010-000000abc-00000002",
		"00000010-000000ABC-00000002",
		"00000010-00000xabc-00000002",
		"+0000010-000000abc-00000002",
		"00000010/000000abc-00000002",
		"0000010-0000000abc-00000002",
		"00000000-000000abc-00000002",
		"00000010-000000000-00000002",
	};
	uint32_t stream = 7, version = 7;
	uint64_t sco = 7;

	for (unsigned int i = 0; i < ARRAY_SIZE(wrong); i++)
		ck_assert_msg(sco_file_name_parse(wrong[i], &stream, &sco, &version) == -EINVAL,
			      "'%s'", wrong[i]);
	for (size_t len = 0; len < strlen(right); len++) {
		char *cut = strndup(right, len);

		ck_assert_int_eq(sco_file_name_parse(cut, &stream, &sco, &version), -EINVAL);
		free(cut);
	}
	ck_assert(stream == 7 && sco == 7 && version == 7);
	ck_assert_int_eq(sco_file_name_parse(right, &stream, &sco, &version), 0);
	ck_assert(stream == 0x10 && sco == 0xabc && version == 2);
}
END_TEST

START_TEST(names_on_the_backend_parse_whole_or_not_at_all)
{
	static const char *const right[] = {
		"epoch/00000000000000ab",
		"root/00000000000000ab-00000000000000cd",
		"ns/00000000000000ab-00000000000000cd",
		"pack/00000000000000ab-00000000000000cd",
		"00000010/sco/000000abc-00000002-00000000000000ab",
		"00000010/piece/00000000000000ab-00000002-00000000000000cd",
		"00000010/map/00000000000000ab-00000000000000cd",
		"00000010/manifest/00000000000000ab-00000000000000cd",
	};
	static const char *const wrong[] = {
		"",
		"tmp/x",
		"00000000/map/00000000000000ab-00000000000000cd",
		"00000010/none/00000000000000ab-00000000000000cd",
		"00000010/sco/000000000-00000002-00000000000000ab",
		"0000001g/map/00000000000000ab-00000000000000cd",
		"00000010/map/00000000000000AB-00000000000000cd",
	};
	struct object_name n = { .number = 7 };

	for (size_t i = 0; i < ARRAY_SIZE(right); i++) {
		size_t len = strlen(right[i]);
		char text[128];

		for (size_t at = 0; at <= len; at++) {
			/* Cut off, a letter that is no digit, and one too many. */
			(void)snprintf(text, sizeof(text), "%s", right[i]);
			text[at] = at < len ? '\0' : 'x';
			text[len + 1] = '\0';
			ck_assert_msg(object_name_parse(text, &n) == -EINVAL, "'%s'", text);
			(void)snprintf(text, sizeof(text), "%s", right[i]);
			text[at] = 'x';
			text[len + 1] = '\0';
			ck_assert_msg(object_name_parse(text, &n) == -EINVAL, "'%s'", text);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		ck_assert_msg(object_name_parse(wrong[i], &n) == -EINVAL, "'%s'", wrong[i]);
	ck_assert_uint_eq(n.number, 7);
	for (size_t i = 0; i < ARRAY_SIZE(right); i++) {
		ck_assert_int_eq(object_name_parse(right[i], &n), 0);
		ck_assert(n.epoch == 0xab || n.epoch == 0xcd);
	}
}
END_TEST

START_TEST(the_text_that_says_whose_a_store_is_reads_back)
{
	const struct uuid pool = { { 0x00, 0x1f, 0xa0, 0xff } };
	const char *want = "{\"format\":1,\"uuid\":\"001fa0ff000000000000000000000000\"}\n";
	char text[POOL_TEXT_MAX + 1];
	struct uuid again;
	size_t len;

	len = pool_text_write(&pool, text);
	ck_assert_str_eq(text, want);
	ck_assert_uint_eq(len, strlen(want));
	ck_assert_int_eq(pool_text_parse(text, &again), 0);
	ck_assert_mem_eq(&again, &pool, sizeof(pool));
	text[len - 1] = '\0';
	ck_assert_int_eq(pool_text_parse(text, &again), 0);

	/* Shorter than that it is none, nor with another digit or format. */
	for (size_t cut = 0; cut < len - 1; cut++) {
		(void)pool_text_write(&pool, text);
		text[cut] = '\0';
		ck_assert_int_eq(pool_text_parse(text, &again), -EUCLEAN);
	}
	for (const char *c = "A:/g`"; *c; c++)
		for (unsigned int at = 20; at <= 21; at++) {
			(void)pool_text_write(&pool, text);
			text[at] = *c;
			ck_assert_int_eq(pool_text_parse(text, &again), -EUCLEAN);
		}
	(void)pool_text_write(&pool, text);
	text[10] = '2';
	ck_assert_int_eq(pool_text_parse(text, &again), -EUCLEAN);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("format_objects");
	TCase *objects = tcase_create("objects");
	TCase *names = tcase_create("names");
	SRunner *sr;
	int failed;

	tcase_add_test(objects, images_of_rows_survive_a_round_trip);
	tcase_add_test(objects, a_callback_that_says_so_ends_an_image);
	tcase_add_test(objects, no_row_of_a_damaged_image_is_shown);
	tcase_add_test(objects, rows_that_are_too_long_are_not_taken);
	tcase_add_test(objects, an_image_without_room_fails_and_leaves_the_buffer);
	tcase_add_test(objects, a_manifest_that_counts_more_scos_than_it_has_is_refused);
	tcase_add_test(objects, a_root_that_counts_more_than_it_has_is_refused);
	tcase_add_test(objects, scos_and_streams_out_of_order_are_refused);
	tcase_add_test(objects, the_text_that_says_whose_a_store_is_reads_back);
	suite_add_tcase(s, objects);
	tcase_add_test(names, names_that_could_leave_their_place_are_refused);
	tcase_add_loop_test(names, what_a_root_names_has_a_name, 0, 4);
	tcase_add_test(names, names_are_what_the_document_says);
	tcase_add_test(names, roots_sort_by_epoch_and_then_by_number);
	tcase_add_test(names, names_of_cache_files_parse_again);
	tcase_add_test(names, other_names_in_a_cache_directory_do_not_parse);
	tcase_add_test(names, names_on_the_backend_parse_whole_or_not_at_all);
	suite_add_tcase(s, names);

	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
