/* Room: who goes when there is none, what writers keep, what is given back. */
#include "tests/volume/support_cache.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

/* Of 12 MiB writers keep eight SCOs of 512 KiB. */
#define SMALL_FLASH (12 * MIB)
#define SMALL_SLOTS (8 * MIB / CACHE_CHUNK_BYTES)

static void begin_small(void)
{
	cf_begin();
	cf_close();
	cf.flash_bytes = SMALL_FLASH;
	cf.options.sco_bytes = 512 * KIB;
	cf_open();
}

/* Chunk n of a set. */
static void read_chunk(uint64_t set, uint64_t n, uint64_t step_bytes)
{
	struct cache_sco s = cf_sco(set + n / CF_CHUNKS);

	for (uint64_t at = 0; at < CACHE_CHUNK_BYTES; at += step_bytes)
		cf_must_read(&s, n % CF_CHUNKS * CACHE_CHUNK_BYTES + at, (size_t)step_bytes);
}

static unsigned int count_there(uint64_t set, uint64_t chunks)
{
	unsigned int there = 0;

	for (uint64_t n = 0; n < chunks; n++) {
		struct cache_sco s = cf_sco(set + n / CF_CHUNKS);

		there += cache_has(cf.cache, &s, n % CF_CHUNKS * CACHE_CHUNK_BYTES,
				   CACHE_CHUNK_BYTES);
	}
	return there;
}

static uint64_t used_bytes(void)
{
	struct cache_status st;

	cache_status(cf.cache, &st);
	ck_assert_uint_eq(flash_used_bytes(cf.flash), st.used_bytes);
	return st.used_bytes;
}

START_TEST(writers_keep_their_room)
{
	for (uint64_t n = 0; n < 2 * SMALL_SLOTS; n++)
		read_chunk(100, n, CACHE_CHUNK_BYTES);
	ck_assert_uint_eq(used_bytes(), SMALL_SLOTS * CACHE_CHUNK_BYTES);
	ck_assert_uint_eq(counter_get(&cf.metrics.evictions), SMALL_SLOTS);
	ck_assert_uint_eq(count_there(100, 2 * SMALL_SLOTS), SMALL_SLOTS);
}
END_TEST

/* Read in small steps and long ones: a step through a chunk is no second look at it. */
START_TEST(a_scan_leaves_the_hot_set)
{
	const uint64_t hot = SMALL_SLOTS * 6 / 10, step_bytes = _i ? 4 * KIB : CACHE_CHUNK_BYTES;

	for (unsigned int round = 0; round < 3; round++)
		for (uint64_t n = 0; n < hot; n++)
			read_chunk(10, n, CACHE_CHUNK_BYTES);
	for (uint64_t n = 0; n < 10 * SMALL_SLOTS; n++)
		read_chunk(100, n, step_bytes);
	ck_assert_uint_gt(count_there(10, hot) * 100, hot * 90);
}
END_TEST

START_TEST(a_second_scan_leaves_the_hot_set)
{
	const uint64_t hot = SMALL_SLOTS * 6 / 10;

	for (unsigned int round = 0; round < 3; round++)
		for (uint64_t n = 0; n < hot; n++)
			read_chunk(10, n, CACHE_CHUNK_BYTES);
	/* A loop that is longer than the cache is found by nobody's memory. */
	for (unsigned int round = 0; round < 2; round++)
		for (uint64_t n = 0; n < 4 * SMALL_SLOTS; n++)
			read_chunk(100, n, CACHE_CHUNK_BYTES);
	ck_assert_uint_gt(count_there(10, hot) * 100, hot * 90);
}
END_TEST

START_TEST(what_comes_back_soon_stays)
{
	/* A hot set in main, so that there is a small queue to fall out of. */
	for (unsigned int round = 0; round < 2; round++)
		for (uint64_t n = 0; n < SMALL_SLOTS * 8 / 10; n++)
			read_chunk(10, n, CACHE_CHUNK_BYTES);
	read_chunk(50, 0, CACHE_CHUNK_BYTES);
	for (uint64_t n = 0; n < SMALL_SLOTS / 2; n++)
		read_chunk(100, n, CACHE_CHUNK_BYTES);
	ck_assert_uint_eq(count_there(50, 1), 0);
	read_chunk(50, 0, CACHE_CHUNK_BYTES);
	/* Longer than the small queue: it is in the main one. */
	for (uint64_t n = 0; n < SMALL_SLOTS / 2; n++)
		read_chunk(200, n, CACHE_CHUNK_BYTES);
	ck_assert_uint_eq(count_there(50, 1), 1);
}
END_TEST

START_TEST(what_is_held_stays)
{
	const uint64_t holds = SMALL_SLOTS / 2;
	struct cache_hold *hold = calloc(holds, sizeof(*hold));
	struct cache_sco s;

	for (uint64_t n = 0; n < holds; n++) {
		s = cf_sco(10 + n / CF_CHUNKS);
		read_chunk(10, n, CACHE_CHUNK_BYTES);
		ck_assert(cache_hold(cf.cache, &s, n % CF_CHUNKS * CACHE_CHUNK_BYTES,
				     CACHE_CHUNK_BYTES, &hold[n]));
	}
	for (uint64_t n = 0; n < 3 * SMALL_SLOTS; n++)
		read_chunk(100, n, CACHE_CHUNK_BYTES);
	ck_assert_uint_eq(cache_shrink(cf.cache, SMALL_FLASH),
			  (SMALL_SLOTS - holds) * CACHE_CHUNK_BYTES);
	for (uint64_t n = 0; n < holds; n++) {
		s = cf_sco(10 + n / CF_CHUNKS);
		cf_must_hold(&hold[n], &s, n % CF_CHUNKS * CACHE_CHUNK_BYTES, CACHE_CHUNK_BYTES);
		/* Forgotten, it is still what it was. */
		cache_forget(cf.cache, s.sco, s.file_bytes);
		cf_must_hold(&hold[n], &s, n % CF_CHUNKS * CACHE_CHUNK_BYTES, CACHE_CHUNK_BYTES);
		cache_release(cf.cache, &hold[n]);
	}
	ck_assert_uint_eq(cache_shrink(cf.cache, SMALL_FLASH), holds * CACHE_CHUNK_BYTES);
	ck_assert_uint_eq(used_bytes(), 0);
	free(hold);
}
END_TEST

START_TEST(reads_go_on_when_all_is_held)
{
	struct cache_hold *hold = calloc(SMALL_SLOTS, sizeof(*hold));

	for (uint64_t n = 0; n < SMALL_SLOTS; n++) {
		struct cache_sco s = cf_sco(10 + n / CF_CHUNKS);

		read_chunk(10, n, CACHE_CHUNK_BYTES);
		ck_assert(cache_hold(cf.cache, &s, n % CF_CHUNKS * CACHE_CHUNK_BYTES, 4 * KIB,
				     &hold[n]));
	}
	read_chunk(100, 0, CACHE_CHUNK_BYTES);
	ck_assert_uint_eq(count_there(100, 1), 0);
	ck_assert_uint_eq(count_there(10, SMALL_SLOTS), SMALL_SLOTS);
	for (uint64_t n = 0; n < SMALL_SLOTS; n++)
		cache_release(cf.cache, &hold[n]);
	free(hold);
}
END_TEST

START_TEST(more_pins_than_a_slot_counts_cost_a_fetch)
{
	struct cache_sco s = cf_sco(5);
	struct cache_hold hold;
	unsigned int held = 0;

	cf_must_read(&s, 0, 64 * KIB);
	while (cache_hold(cf.cache, &s, 0, 4 * KIB, &hold))
		held++;
	ck_assert_uint_gt(held, 256);
	cf_must_read(&s, 0, 4 * KIB);
	ck_assert_uint_eq(cf_gets(), 2);
	for (unsigned int i = 0; i < held; i++)
		cache_release(cf.cache, &hold);
	ck_assert(cache_hold(cf.cache, &s, 0, 4 * KIB, &hold));
	cf_must_hold(&hold, &s, 0, 4 * KIB);
	cache_release(cf.cache, &hold);
}
END_TEST

START_TEST(shrinking_gives_flash_back)
{
	uint64_t before;

	for (uint64_t n = 0; n < SMALL_SLOTS; n++)
		read_chunk(10, n, CACHE_CHUNK_BYTES);
	before = cf_allocated_bytes(0);
	ck_assert_uint_ge(before, SMALL_SLOTS * CACHE_CHUNK_BYTES);
	ck_assert_uint_eq(cache_shrink(cf.cache, 4 * MIB + 1), 4 * MIB + CACHE_CHUNK_BYTES);
	ck_assert_uint_le(cf_allocated_bytes(0), before - 4 * MIB);
	ck_assert_uint_eq(used_bytes(), SMALL_SLOTS * CACHE_CHUNK_BYTES - 4 * MIB - 64 * KIB);
	/* The oldest went; what is left is whole, and the room is used again. */
	ck_assert_uint_eq(count_there(10, SMALL_SLOTS), SMALL_SLOTS - 65);
	for (uint64_t n = 0; n < SMALL_SLOTS; n++)
		read_chunk(10, n, CACHE_CHUNK_BYTES);
	ck_assert_uint_eq(used_bytes(), SMALL_SLOTS * CACHE_CHUNK_BYTES);
	ck_assert_uint_eq(cache_shrink(cf.cache, SMALL_FLASH), SMALL_SLOTS * CACHE_CHUNK_BYTES);
	ck_assert_uint_eq(cf_allocated_bytes(0), 0);
	ck_assert_uint_eq(cache_shrink(cf.cache, 1), 0);
	read_chunk(10, 0, CACHE_CHUNK_BYTES);
	ck_assert_uint_eq(count_there(10, 1), 1);
}
END_TEST

START_TEST(full_flash_keeps_a_few_and_reads_go_on)
{
	/* Writers have all but 1 MiB. */
	flash_account(cf.flash, 0, 0, SMALL_FLASH - MIB);
	for (uint64_t n = 0; n < 100; n++)
		read_chunk(10, n, CACHE_CHUNK_BYTES);
	ck_assert_uint_eq(count_there(10, 100), MIB / CACHE_CHUNK_BYTES);
	/* And then that, too. */
	ck_assert_uint_eq(cache_shrink(cf.cache, MIB), MIB);
	flash_account(cf.flash, 0, 0, MIB);
	for (uint64_t n = 0; n < 100; n++)
		read_chunk(10, n, CACHE_CHUNK_BYTES);
	ck_assert_uint_eq(count_there(10, 100), 0);
	ck_assert_uint_eq(cf_gets(), 200);
	flash_account(cf.flash, 0, SMALL_FLASH, 0);
	read_chunk(10, 0, CACHE_CHUNK_BYTES);
	ck_assert_uint_eq(count_there(10, 1), 1);
}
END_TEST

START_TEST(a_disk_without_space_is_tried_again_later)
{
	cf.write_code = -ENOSPC;
	read_chunk(10, 0, CACHE_CHUNK_BYTES);
	cf.write_code = 0;
	ck_assert_uint_eq(count_there(10, 1), 0);
	read_chunk(10, 0, CACHE_CHUNK_BYTES);
	ck_assert_uint_eq(count_there(10, 1), 0);
	cf.late_ns = UINT64_C(2) * 1000 * 1000 * 1000;
	read_chunk(10, 0, CACHE_CHUNK_BYTES);
	ck_assert_uint_eq(count_there(10, 1), 1);
}
END_TEST

START_TEST(a_directory_that_cannot_be_written_is_left_alone)
{
	read_chunk(10, 0, CACHE_CHUNK_BYTES);
	cf.write_code = -EIO;
	read_chunk(10, 1, CACHE_CHUNK_BYTES);
	cf.write_code = 0;
	read_chunk(10, 2, CACHE_CHUNK_BYTES);
	ck_assert_uint_eq(count_there(10, 3), 0);
	ck_assert_uint_eq(cache_shrink(cf.cache, MIB), 0);
	ck_assert_uint_eq(cf_gets(), 3);
}
END_TEST

START_TEST(of_two_directories_that_with_more_room_takes)
{
	char *label = cf_path(0, "label");

	cf_close();
	cf.dir_count = 2;
	ck_assert_int_eq(remove(label), 0);
	free(label);
	cf_open();
	flash_account(cf.flash, 0, 0, 4 * MIB);
	for (uint64_t n = 0; n < 64; n++)
		read_chunk(10, n, CACHE_CHUNK_BYTES);
	ck_assert_uint_eq(cf_allocated_bytes(0), 0);
	ck_assert_uint_ge(cf_allocated_bytes(1), 4 * MIB);
	for (uint64_t n = 64; n < 128; n++)
		read_chunk(10, n, CACHE_CHUNK_BYTES);
	ck_assert_uint_ge(cf_allocated_bytes(0), MIB);
	ck_assert_uint_eq(count_there(10, 128), 128);
	flash_account(cf.flash, 0, 4 * MIB, 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("cache_evict");
	TCase *tc = tcase_create("cache_evict");

	tcase_add_checked_fixture(tc, begin_small, cf_end);
	tcase_add_test(tc, writers_keep_their_room);
	tcase_add_loop_test(tc, a_scan_leaves_the_hot_set, 0, 2);
	tcase_add_test(tc, a_second_scan_leaves_the_hot_set);
	tcase_add_test(tc, what_comes_back_soon_stays);
	tcase_add_test(tc, what_is_held_stays);
	tcase_add_test(tc, reads_go_on_when_all_is_held);
	tcase_add_test(tc, more_pins_than_a_slot_counts_cost_a_fetch);
	tcase_add_test(tc, shrinking_gives_flash_back);
	tcase_add_test(tc, full_flash_keeps_a_few_and_reads_go_on);
	tcase_add_test(tc, a_disk_without_space_is_tried_again_later);
	tcase_add_test(tc, a_directory_that_cannot_be_written_is_left_alone);
	tcase_add_test(tc, of_two_directories_that_with_more_room_takes);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *r = srunner_create(suite());
	int failed;

	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
