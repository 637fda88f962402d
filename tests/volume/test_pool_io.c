/* Bytes in, bytes out: every way to write and read an object against a plain array. */
#include "support_pool.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static void begin(void)
{
	pool_fixture_create();
	pool_fixture_open();
}

/* --- a model ----------------------------------------------------------------------------------- */

#define MODEL_MAX (5 * MIB)

struct model {
	uint8_t *bytes; /* MODEL_MAX; zero behind size */
	uint64_t size;
};

static void model_init(struct model *m)
{
	m->bytes = calloc(1, MODEL_MAX);
	ck_assert_ptr_nonnull(m->bytes);
	m->size = 0;
}

static void model_write(struct model *m, uint64_t at, const void *src, size_t len)
{
	memcpy(m->bytes + at, src, len);
	m->size = max_u64(m->size, at + len);
}

static void model_truncate(struct model *m, uint64_t size)
{
	if (size < m->size)
		memset(m->bytes + size, 0, m->size - size);
	m->size = size;
}

static void compare_all(struct object *o, const struct model *m)
{
	ck_assert_uint_eq(size_of(o), m->size);
	if (m->size)
		expect_bytes(o, 0, m->bytes, m->size);
}

START_TEST(every_alignment_and_size_reads_back_what_was_written)
{
	static const uint64_t offsets[] = { 0,
					    1,
					    511,
					    512,
					    4095,
					    4096,
					    4097,
					    61440,
					    65535,
					    65536,
					    69632,
					    131073,
					    2 * MIB - 4096,
					    2 * MIB - 1,
					    2 * MIB - 65536,
					    2 * MIB + 512 };
	static const size_t sizes[] = { 1,     511,   512,   513,    4095,   4096,    4097,   8192,
					65535, 65536, 65537, 131072, 262144, MIB + 7, 2 * MIB };
	struct object *o = make_object(_i ? OBJECT_FILE : OBJECT_DISK);
	uint64_t id = id_of(o), seed = 1, direct = 0;
	uint8_t *src = aligned_mem(2 * MIB + 4096);
	struct model m;

	model_init(&m);
	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++)
		for (size_t j = 0; j < ARRAY_SIZE(sizes); j++) {
			uint8_t *from = src + (seed % 2 ? 0 : 1); /* aligned memory or not */
			uint64_t at = offsets[i], around = at > 5000 ? at - 5000 : 0;

			pattern_fill(from, sizes[j], seed++);
			write_bytes(o, at, from, sizes[j]);
			model_write(&m, at, from, sizes[j]);
			expect_bytes(o, around, m.bytes + around,
				     min_u64(at + sizes[j] + 5000, m.size) - around);
		}
	compare_all(o, &m);
	direct = pool_fixture_counter("direct_writes");
	ck_assert_uint_gt(direct, 20);
	object_close(o);

	pool_fixture_restart();
	o = get_object(id);
	compare_all(o, &m);
	object_close(o);
	free(src);
	free(m.bytes);
}
END_TEST

START_TEST(unaligned_reads_see_the_same_bytes)
{
	struct object *o = make_object(OBJECT_DISK);
	uint8_t *data = pattern_mem(3 * MIB, 7), *to = aligned_mem(3 * MIB + 64);
	struct rng r = { 5 };

	write_bytes(o, 0, data, 3 * MIB);
	for (unsigned int i = 0; i < TEST_SCALE(400); i++) {
		uint64_t at = rng_below(&r, 3 * MIB);
		size_t len = 1 + rng_below(&r, i % 8 ? 9000 : 700000);
		uint8_t *dst = to + rng_below(&r, 32);
		uint64_t want = min_u64(len, 3 * MIB - at);

		memset(dst, 0xee, len + 16);
		ck_assert_int_eq(object_read(o, at, dst, len, NULL), (ssize_t)want);
		ck_assert_int_eq(memcmp(dst, data + at, want), 0);
		for (size_t j = want; j < len + 16; j++)
			if (dst[j] != 0xee)
				ck_abort_msg("byte %zu behind the end was changed", j - want);
	}
	object_close(o);
	free(data);
	free(to);
}
END_TEST

/* One random operation on object and model. */
static void random_op(struct object *o, struct model *m, struct rng *r, uint8_t *mem)
{
	uint64_t at = rng_below(r, 4 * MIB), kind = rng_below(r, 100);
	size_t len = 1 + rng_below(r, kind % 5 == 0 ? 300000 : 9000);

	if (rng_below(r, 2)) { /* whole clusters */
		at &= ~UINT64_C(4095);
		len = (len + 4095) & ~(size_t)4095;
	}
	if (kind < 55) {
		pattern_fill(mem, len, rng_next(r));
		if (kind % 10 == 0)
			memset(mem, 0, len);
		write_bytes(o, at, mem, len);
		model_write(m, at, mem, len);
	} else if (kind < 75) {
		bool extend = kind % 2;
		uint64_t end = extend ? at + len : min_u64(at + len, m->size);

		ck_assert_int_eq(object_zero(o, at, len, extend, NULL), 0);
		if (end > at)
			memset(m->bytes + at, 0, end - at);
		if (extend)
			m->size = max_u64(m->size, at + len);
	} else if (kind < 85) {
		uint64_t size = kind % 3 ? at : m->size - min_u64(m->size, rng_below(r, 5000));

		ck_assert_int_eq(object_truncate(o, size, NULL), 0);
		model_truncate(m, size);
	} else if (kind < 86) {
		struct err e = { 0 };

		ck_assert_msg(pool_checkpoint(pf.pool, &e) == 0, "%s", e.message);
	} else if (at < m->size) {
		expect_bytes(o, at, m->bytes + at, min_u64(len, m->size - at));
	}
	ck_assert_uint_eq(size_of(o), m->size);
}

START_TEST(random_operations_agree_with_an_array)
{
	uint64_t ids[3];
	struct object *o[3];
	struct model m[3];
	struct rng r = { (uint64_t)_i + 100 };
	uint8_t *mem = aligned_mem(400000);

	for (unsigned int i = 0; i < 3; i++) {
		o[i] = make_object(i ? OBJECT_FILE : OBJECT_DISK);
		ids[i] = id_of(o[i]);
		model_init(&m[i]);
	}
	for (unsigned int round = 0; round < 3; round++) {
		for (unsigned int step = 0; step < TEST_SCALE(700); step++) {
			unsigned int i = (unsigned int)rng_below(&r, 3);

			random_op(o[i], &m[i], &r, mem);
		}
		for (unsigned int i = 0; i < 3; i++) {
			compare_all(o[i], &m[i]);
			object_close(o[i]);
		}
		pool_fixture_restart();
		for (unsigned int i = 0; i < 3; i++) {
			o[i] = get_object(ids[i]);
			compare_all(o[i], &m[i]);
		}
	}
	for (unsigned int i = 0; i < 3; i++) {
		object_close(o[i]);
		free(m[i].bytes);
	}
	free(mem);
}
END_TEST

/* --- zeros and holes --------------------------------------------------------------------------- */

START_TEST(zero_clusters_are_stored_as_nothing)
{
	struct object *o = make_object(OBJECT_DISK);
	uint8_t *mem = calloc(1, MIB);
	uint64_t used;

	write_bytes(o, 0, mem, MIB);
	ck_assert_uint_eq(size_of(o), MIB);
	ck_assert_uint_eq(allocated_of(o), 0);

	/* Every other cluster of a large write is zero. */
	for (size_t i = 0; i < MIB; i += 8192)
		pattern_fill(mem + i, 4096, i + 1);
	write_bytes(o, 0, mem, MIB);
	ck_assert_uint_eq(allocated_of(o), MIB / 2);
	expect_bytes(o, 0, mem, MIB);

	/* Data overwritten by zeros is free again, whole cluster or in two halves. */
	used = allocated_of(o);
	memset(mem, 0, 8192);
	write_bytes(o, 0, mem, 4096);
	ck_assert_uint_eq(allocated_of(o), used - 4096);
	write_bytes(o, 8192, mem, 2048);
	write_bytes(o, 8192 + 2048, mem, 2048);
	ck_assert_uint_eq(allocated_of(o), used - 8192);
	expect_zeros(o, 0, 8192 + 4096);
	object_close(o);
	free(mem);
}
END_TEST

START_TEST(zeroing_keeps_the_size_unless_told_to_extend)
{
	struct object *o = make_object(OBJECT_DISK);
	uint8_t *mem = pattern_mem(64 * KIB, 3);

	write_bytes(o, 0, mem, 64 * KIB);
	ck_assert_int_eq(object_zero(o, 10000, 20000, false, NULL), 0);
	expect_bytes(o, 0, mem, 10000);
	expect_zeros(o, 10000, 20000);
	expect_bytes(o, 30000, mem + 30000, 64 * KIB - 30000);

	ck_assert_int_eq(object_zero(o, 60000, MIB, false, NULL), 0);
	ck_assert_uint_eq(size_of(o), 64 * KIB);
	expect_bytes(o, 30000, mem + 30000, 30000);
	expect_zeros(o, 60000, 64 * KIB - 60000);

	ck_assert_int_eq(object_zero(o, 50001, MIB, true, NULL), 0);
	ck_assert_uint_eq(size_of(o), 50001 + MIB);
	expect_bytes(o, 30000, mem + 30000, 20001);
	expect_zeros(o, 50001, MIB);

	/* Behind the end without extending: nothing happens. */
	ck_assert_int_eq(object_zero(o, 2 * MIB, MIB, false, NULL), 0);
	ck_assert_uint_eq(size_of(o), 50001 + MIB);
	/* Nothing at all. */
	ck_assert_int_eq(object_zero(o, 0, 0, false, NULL), 0);
	expect_bytes(o, 0, mem, 10000);
	object_close(o);
	free(mem);
}
END_TEST

START_TEST(zeroing_part_of_one_cluster_leaves_the_rest)
{
	static const struct {
		uint64_t at, len;
	} ranges[] = { { 0, 1 },       { 1, 1 },     { 4095, 1 },   { 4095, 2 },
		       { 100, 3000 },  { 0, 4096 },  { 1, 4095 },   { 0, 4097 },
		       { 8191, 4098 }, { 12287, 1 }, { 4096, 8192 } };
	uint8_t *mem = pattern_mem(12288, 4), want[12288];
	struct object *o = make_object(OBJECT_DISK);

	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		uint64_t end = min_u64(ranges[i].at + ranges[i].len, 12288);

		write_bytes(o, 0, mem, 12288);
		memcpy(want, mem, sizeof(want));
		memset(want + ranges[i].at, 0, end - ranges[i].at);
		ck_assert_int_eq(object_zero(o, ranges[i].at, ranges[i].len, false, NULL), 0);
		ck_assert_uint_eq(size_of(o), 12288);
		expect_bytes(o, 0, want, 12288);
	}
	object_close(o);
	free(mem);
}
END_TEST

START_TEST(truncating_is_exact_to_the_byte_and_growing_again_shows_zeros)
{
	static const uint64_t cuts[] = { 0,	  1,	       511,	      4095,
					 4096,	  4097,	       65537,	      2 * MIB - 1,
					 2 * MIB, 2 * MIB + 1, 2 * MIB + 4096 };
	uint8_t *mem = pattern_mem(3 * MIB, 8), more[16];
	struct object *o = make_object(OBJECT_DISK);

	for (size_t i = 0; i < ARRAY_SIZE(cuts); i++) {
		uint64_t cut = cuts[i];

		write_bytes(o, 0, mem, 3 * MIB);
		ck_assert_int_eq(object_truncate(o, cut, NULL), 0);
		ck_assert_uint_eq(size_of(o), cut);
		ck_assert_int_eq(object_read(o, cut, more, sizeof(more), NULL), 0);
		if (cut)
			expect_bytes(o, 0, mem, cut);
		ck_assert_int_eq(object_truncate(o, 3 * MIB, NULL), 0);
		ck_assert_uint_eq(size_of(o), 3 * MIB);
		if (cut)
			expect_bytes(o, 0, mem, cut);
		expect_zeros(o, cut, 3 * MIB - cut);
		ck_assert_uint_eq(allocated_of(o), round_up_u64(cut, 4096));
	}
	object_close(o);
	free(mem);
}
END_TEST

START_TEST(a_write_behind_the_end_leaves_zeros_between)
{
	struct object *o = make_object(OBJECT_FILE);
	uint8_t *mem = pattern_mem(10000, 9);

	write_bytes(o, 0, mem, 100);
	write_bytes(o, 3 * MIB + 77, mem, 10000);
	ck_assert_uint_eq(size_of(o), 3 * MIB + 77 + 10000);
	expect_bytes(o, 0, mem, 100);
	expect_zeros(o, 100, 3 * MIB - 23);
	expect_bytes(o, 3 * MIB + 77, mem, 10000);
	object_close(o);
	free(mem);
}
END_TEST

START_TEST(reads_end_at_the_end_of_the_object)
{
	struct object *o = make_object(OBJECT_DISK);
	uint8_t *mem = pattern_mem(10000, 2), got[16384];

	ck_assert_int_eq(object_read(o, 0, got, sizeof(got), NULL), 0);
	write_bytes(o, 0, mem, 10000);
	ck_assert_int_eq(object_read(o, 0, got, sizeof(got), NULL), 10000);
	ck_assert_int_eq(memcmp(got, mem, 10000), 0);
	ck_assert_int_eq(object_read(o, 9999, got, sizeof(got), NULL), 1);
	ck_assert_int_eq(object_read(o, 10000, got, sizeof(got), NULL), 0);
	ck_assert_int_eq(object_read(o, UINT64_MAX, got, sizeof(got), NULL), 0);
	ck_assert_int_eq(object_read(o, 0, got, 0, NULL), 0);
	object_close(o);
	free(mem);
}
END_TEST

START_TEST(objects_are_sparse_up_to_their_largest_size)
{
	static const uint64_t places[] = { 0,
					   (UINT64_C(1) << 32) - 100,
					   UINT64_C(1) << 40,
					   (UINT64_C(1) << 50) + 5,
					   UINT64_C(1) << 60,
					   OBJECT_BYTES_MAX - 9000 };
	struct object *o = make_object(OBJECT_DISK);
	uint8_t *mem = pattern_mem(9000, 6);
	uint64_t id = id_of(o), at;

	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		write_bytes(o, places[i], mem, 9000);
	ck_assert_uint_eq(size_of(o), OBJECT_BYTES_MAX);
	object_close(o);
	pool_fixture_restart();
	o = get_object(id);
	ck_assert_uint_eq(size_of(o), OBJECT_BYTES_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		expect_bytes(o, places[i], mem, 9000);
	expect_zeros(o, UINT64_C(1) << 41, 100000);
	ck_assert_int_eq(object_seek(o, UINT64_C(1) << 41, true, &at, NULL), 0);
	ck_assert_uint_eq(at, (UINT64_C(1) << 50) & ~UINT64_C(4095));
	ck_assert_uint_le(allocated_of(o), 6 * 4 * 4096);
	object_close(o);
	free(mem);
}
END_TEST

START_TEST(a_huge_range_can_be_zeroed_and_cut)
{
	struct object *o = make_object(OBJECT_DISK);
	uint8_t *mem = pattern_mem(9000, 6);
	uint64_t far = UINT64_C(1) << 45;

	write_bytes(o, 1000, mem, 9000);
	write_bytes(o, far / 2, mem, 9000);
	write_bytes(o, far, mem, 9000);
	ck_assert_int_eq(object_zero(o, 5000, far, false, NULL), 0);
	expect_bytes(o, 1000, mem, 4000);
	expect_zeros(o, 5000, 100000);
	expect_zeros(o, far / 2 - 100, 100000);
	expect_zeros(o, far, 5000);
	expect_bytes(o, far + 5000, mem + 5000, 4000);
	ck_assert_uint_eq(allocated_of(o), 4 * 4096); /* two at either end */
	ck_assert_int_eq(object_truncate(o, 3000, NULL), 0);
	ck_assert_int_eq(object_truncate(o, 2 * far, NULL), 0);
	expect_bytes(o, 1000, mem, 2000);
	expect_zeros(o, 3000, 100000);
	expect_zeros(o, far, 20000);
	ck_assert_uint_eq(allocated_of(o), 4096);
	object_close(o);
	free(mem);
}
END_TEST

START_TEST(beyond_the_largest_size_is_refused)
{
	struct object *o = make_object(OBJECT_DISK);
	struct err e = { 0 };

	ck_assert_int_eq(object_write(o, OBJECT_BYTES_MAX, "x", 1, &e), -EFBIG);
	ck_assert_int_eq(object_write(o, OBJECT_BYTES_MAX - 1, "xy", 2, &e), -EFBIG);
	ck_assert_int_eq(object_write(o, UINT64_MAX, "x", 1, &e), -EFBIG);
	ck_assert_int_eq(object_write(o, UINT64_MAX - 1, "xyz", 3, &e), -EFBIG);
	ck_assert_int_eq(object_truncate(o, OBJECT_BYTES_MAX + 1, &e), -EFBIG);
	ck_assert_int_eq(object_zero(o, OBJECT_BYTES_MAX, 1, true, &e), -EFBIG);
	ck_assert_int_eq(object_zero(o, 1, UINT64_MAX, true, &e), -EFBIG);
	ck_assert_uint_eq(size_of(o), 0);
	ck_assert_int_eq(object_write(o, OBJECT_BYTES_MAX - 1, "x", 1, &e), 0);
	ck_assert_int_eq(object_truncate(o, OBJECT_BYTES_MAX, &e), 0);
	ck_assert_uint_eq(size_of(o), OBJECT_BYTES_MAX);
	object_close(o);
}
END_TEST

#define SEEK_CLUSTERS 1500u

static uint64_t model_seek(const bool *data, uint64_t size, uint64_t from, bool want)
{
	uint64_t end = div_up_u64(size, 4096), c = from / 4096;

	while (c < end && data[c] != want)
		c++;
	if (c >= end)
		return want ? UINT64_MAX : size;
	return max_u64(from, c * 4096);
}

START_TEST(seeking_finds_data_and_holes_as_a_model_does)
{
	struct object *o = make_object(OBJECT_DISK);
	uint64_t size = SEEK_CLUSTERS * 4096 - 1234;
	bool data[SEEK_CLUSTERS] = { 0 };
	uint8_t *mem = pattern_mem(40 * 4096, 1);
	struct rng r = { 77 };

	ck_assert_int_eq(object_truncate(o, size, NULL), 0);
	for (unsigned int i = 0; i < 120; i++) {
		uint64_t first = rng_below(&r, SEEK_CLUSTERS - 40), n = 1 + rng_below(&r, 40);
		bool fill = rng_below(&r, 3) > 0;

		if (fill)
			write_bytes(o, first * 4096, mem, n * 4096);
		else
			ck_assert_int_eq(object_zero(o, first * 4096, n * 4096, false, NULL), 0);
		for (uint64_t c = first; c < first + n; c++)
			data[c] = fill;
		if (i % 40 == 20)
			ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
		for (unsigned int j = 0; j < 30; j++) {
			uint64_t from = rng_below(&r, size), got = 0;
			bool want = j % 2;
			uint64_t expected = model_seek(data, size, from, want);
			int rc = object_seek(o, from, want, &got, NULL);

			ck_assert_int_eq(rc, expected == UINT64_MAX ? -ENXIO : 0);
			if (rc == 0)
				ck_assert_uint_eq(got, expected);
		}
	}
	{
		uint64_t got;

		ck_assert_int_eq(object_seek(o, size, false, &got, NULL), -ENXIO);
		ck_assert_int_eq(object_seek(o, size, true, &got, NULL), -ENXIO);
		ck_assert_int_eq(object_seek(o, size - 1, false, &got, NULL), 0);
	}
	object_close(o);
	free(mem);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_io");
	TCase *t = tcase_create("bytes");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_loop_test(t, every_alignment_and_size_reads_back_what_was_written, 0, 2);
	tcase_add_test(t, unaligned_reads_see_the_same_bytes);
	tcase_add_loop_test(t, random_operations_agree_with_an_array, 0, 3);
	tcase_add_test(t, zero_clusters_are_stored_as_nothing);
	tcase_add_test(t, zeroing_keeps_the_size_unless_told_to_extend);
	tcase_add_test(t, zeroing_part_of_one_cluster_leaves_the_rest);
	tcase_add_test(t, truncating_is_exact_to_the_byte_and_growing_again_shows_zeros);
	tcase_add_test(t, a_write_behind_the_end_leaves_zeros_between);
	tcase_add_test(t, reads_end_at_the_end_of_the_object);
	tcase_add_test(t, objects_are_sparse_up_to_their_largest_size);
	tcase_add_test(t, a_huge_range_can_be_zeroed_and_cut);
	tcase_add_test(t, beyond_the_largest_size_is_refused);
	tcase_add_test(t, seeking_finds_data_and_holes_as_a_model_does);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
