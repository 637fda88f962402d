/* What is fetched, what is found again, what is held. */
#include "tests/volume/support_cache.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(what_was_fetched_is_found_again)
{
	struct cache_sco s = cf_sco(5);

	cf_must_read(&s, 100 * KIB, 20 * KIB);
	ck_assert_uint_eq(cf_gets(), 1);
	cf_must_read(&s, 100 * KIB, 20 * KIB);
	cf_must_read(&s, 101 * KIB + 7, 3);
	ck_assert_uint_eq(cf_gets(), 1);
	ck_assert_uint_eq(counter_get(&cf.metrics.hits), 3);
	ck_assert_uint_eq(counter_get(&cf.metrics.misses), 2);
}
END_TEST

START_TEST(a_miss_costs_the_missing_pieces)
{
	struct cache_sco s = cf_sco(5);

	cf_must_read(&s, 5 * MIB + 4 * KIB, 4 * KIB);
	ck_assert_uint_eq(cf_get_bytes(), 16 * KIB);
	/* A part is there: only the rest comes, in one piece. */
	cf_must_read(&s, 5 * MIB, 64 * KIB);
	ck_assert_uint_eq(cf_get_bytes(), 64 * KIB);
	ck_assert_uint_eq(cf_gets(), 2);
	/* Over the end of a chunk. */
	cf_must_read(&s, 6 * MIB - 512, 1024);
	ck_assert_uint_eq(cf_get_bytes(), 96 * KIB);
	ck_assert_uint_eq(cf_gets(), 3);
}
END_TEST

START_TEST(random_reads_fetch_little_more_than_they_need)
{
	uint64_t before;

	srandom(1);
	for (unsigned int i = 0; i < 200; i++) {
		struct cache_sco s = cf_sco(1 + (uint64_t)random() % 50);

		cf_must_read(&s, (uint64_t)random() % (CF_SCO / 4096) * 4096, 4 * KIB);
	}
	ck_assert_uint_le(cf_get_bytes(), 4 * 200 * 4 * KIB);
	before = cf_get_bytes();
	for (unsigned int i = 0; i < 200; i++) {
		struct cache_sco s = cf_sco(1001 + (uint64_t)random() % 50);

		cf_must_read(&s, (uint64_t)random() % (CF_SCO / 4096 - 16) * 4096, 64 * KIB);
	}
	ck_assert_uint_le(cf_get_bytes() - before, 2 * 200 * 64 * KIB);
}
END_TEST

START_TEST(the_end_of_an_object_needs_no_whole_block)
{
	struct cache_sco s = cf_sco(5);

	s.file_bytes = 3 * CACHE_CHUNK_BYTES + 5000;
	cf_must_read(&s, 3 * CACHE_CHUNK_BYTES, 5000);
	cf_must_read(&s, 0, (size_t)s.file_bytes);
	cf_must_read(&s, s.file_bytes - 1, 1);
	ck_assert_uint_eq(cf_get_bytes(), s.file_bytes);
	ck_assert_int_eq(cache_read(cf.cache, &s, s.file_bytes - 1, 2, NULL, &cf.e), -EUCLEAN);
	ck_assert_int_eq(cache_read(cf.cache, &s, UINT64_MAX, 2, NULL, &cf.e), -EUCLEAN);
}
END_TEST

START_TEST(a_long_read_comes_in_long_gets)
{
	struct cache_sco s = cf_sco(5);

	cf_must_read(&s, 0, 4 * MIB);
	ck_assert_uint_eq(cf_gets(), 4 * MIB / CACHE_FETCH_BYTES_MAX);
	ck_assert_uint_eq(cf_get_bytes(), 4 * MIB);
	cf_must_read(&s, 0, 4 * MIB);
	ck_assert_uint_eq(cf_get_bytes(), 4 * MIB);
}
END_TEST

START_TEST(a_hold_shows_the_bytes)
{
	struct cache_sco s = cf_sco(5);
	struct cache_hold hold;

	ck_assert(!cache_hold(cf.cache, &s, 64 * KIB, 4 * KIB, &hold));
	cf_must_read(&s, 64 * KIB, 16 * KIB);
	ck_assert(cache_has(cf.cache, &s, 64 * KIB, 16 * KIB));
	ck_assert(!cache_has(cf.cache, &s, 64 * KIB, 20 * KIB));
	ck_assert(!cache_hold(cf.cache, &s, 64 * KIB, 20 * KIB, &hold));
	ck_assert(cache_hold(cf.cache, &s, 68 * KIB, 12 * KIB, &hold));
	cf_must_hold(&hold, &s, 68 * KIB, 12 * KIB);
	cache_release(cf.cache, &hold);
}
END_TEST

START_TEST(bytes_of_another_version_are_not_there)
{
	struct cache_sco s = cf_sco(5), newer = s;

	newer.version = 1;
	cf_must_read(&s, 0, 4 * KIB);
	ck_assert(!cache_has(cf.cache, &newer, 0, 4 * KIB));
	cf_must_read(&newer, 0, 4 * KIB);
	cf_must_read(&newer, 0, 4 * KIB);
	ck_assert_uint_eq(cf_gets(), 2);
	ck_assert(cache_has(cf.cache, &newer, 0, 4 * KIB));
	ck_assert(!cache_has(cf.cache, &s, 0, 4 * KIB));
}
END_TEST

START_TEST(what_is_dropped_is_fetched_again)
{
	struct cache_sco s = cf_sco(5);
	struct cache_hold hold, again;

	cf_must_read(&s, 0, 64 * KIB);
	cache_drop(cf.cache, &s, 8 * KIB, 4 * KIB);
	ck_assert(!cache_has(cf.cache, &s, 8 * KIB, 4 * KIB));
	ck_assert(cache_has(cf.cache, &s, 12 * KIB, 52 * KIB));
	cf_must_read(&s, 8 * KIB, 4 * KIB);
	ck_assert_uint_eq(cf_get_bytes(), 68 * KIB);
	/* While it is held the old place stays as it is. */
	ck_assert(cache_hold(cf.cache, &s, 0, 4 * KIB, &hold));
	cache_drop(cf.cache, &s, 0, 4 * KIB);
	cf_must_read(&s, 0, 4 * KIB);
	cf_must_hold(&hold, &s, 0, 4 * KIB);
	ck_assert(cache_hold(cf.cache, &s, 0, 4 * KIB, &again));
	ck_assert_uint_ne(again.offset_bytes, hold.offset_bytes);
	cache_release(cf.cache, &again);
	cache_release(cf.cache, &hold);
	ck_assert_uint_eq(counter_get(&cf.metrics.dropped), 2);
}
END_TEST

START_TEST(what_is_put_needs_no_fetch)
{
	struct cache_sco s = cf_sco(5);
	uint8_t *mem = aligned_alloc(ENV_DIRECT_ALIGN, 256 * KIB);

	cf_must_read(&s, 128 * KIB, 4 * KIB);
	cf_bytes(&s, 100 * KIB, mem, 256 * KIB);
	cache_put(cf.cache, &s, 100 * KIB, 256 * KIB, mem);
	cf_must_read(&s, 100 * KIB, 256 * KIB);
	ck_assert_uint_eq(cf_gets(), 1);
	free(mem);
}
END_TEST

START_TEST(a_dead_sco_is_forgotten)
{
	struct cache_sco s = cf_sco(5), other = cf_sco(6);
	struct cache_status st;

	cf_must_read(&s, 0, 1 * MIB);
	cf_must_read(&other, 0, 64 * KIB);
	cache_forget(cf.cache, s.sco, s.file_bytes);
	cache_status(cf.cache, &st);
	ck_assert_uint_eq(st.present_bytes, 64 * KIB);
	/* Its slots are used again. */
	cf_must_read(&other, 1 * MIB, 1 * MIB);
	cache_status(cf.cache, &st);
	ck_assert_uint_eq(st.used_bytes, 1 * MIB + 64 * KIB);
	ck_assert_uint_eq(flash_used_bytes(cf.flash), st.used_bytes);
}
END_TEST

static bool is_five(void *arg, uint64_t sco, uint32_t version)
{
	const struct cache_sco *five = arg;

	return sco == five->sco && version == five->version;
}

START_TEST(what_nobody_will_read_is_sifted_out)
{
	struct cache_sco s = cf_sco(5), newer = cf_sco(5), other = cf_sco(6);
	struct cache_status st;

	newer.version++;
	cf_must_read(&s, 0, 64 * KIB);
	for (uint64_t i = 0; i < 40; i++)
		cf_must_read(&other, i * 64 * KIB, 64 * KIB);
	cf_must_read(&newer, 128 * KIB, 64 * KIB);
	cache_sift(cf.cache, is_five, &s);
	cache_status(cf.cache, &st);
	ck_assert_uint_eq(st.present_bytes, 64 * KIB);
	ck_assert(cache_has(cf.cache, &s, 0, 64 * KIB));
	ck_assert(!cache_has(cf.cache, &other, 64 * KIB, 64 * KIB));
	ck_assert(!cache_has(cf.cache, &newer, 128 * KIB, 64 * KIB));
}
END_TEST

START_TEST(a_store_that_failed_is_asked_again)
{
	struct cache_sco s = cf_sco(5);
	uint8_t mem[16];

	cf.fail_gets = 1;
	cf.fail_code = -EAGAIN;
	ck_assert_int_eq(cache_read(cf.cache, &s, 0, sizeof(mem), mem, &cf.e), -EAGAIN);
	ck_assert_ptr_nonnull(strstr(cf.e.message, "as the test says"));
	cf_must_read(&s, 0, 16);
	cf.fail_gets = 1;
	cf.fail_code = -ENOENT;
	ck_assert_int_eq(cache_read(cf.cache, &s, MIB, sizeof(mem), mem, &cf.e), -ENOENT);
}
END_TEST

START_TEST(flash_that_cannot_be_read_costs_a_fetch)
{
	struct cache_sco s = cf_sco(5);

	cf_must_read(&s, 0, 64 * KIB);
	cf.read_code = -EIO;
	cf_must_read(&s, 4 * KIB, 8 * KIB);
	cf.read_code = 0;
	ck_assert_uint_eq(cf_gets(), 2);
	ck_assert_uint_eq(counter_get(&cf.metrics.dropped), 1);
	cf_must_read(&s, 0, 64 * KIB);
	ck_assert_uint_eq(cf_gets(), 2);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("cache");
	TCase *tc = tcase_create("cache");

	tcase_add_checked_fixture(tc, cf_begin, cf_end);
	tcase_add_test(tc, what_was_fetched_is_found_again);
	tcase_add_test(tc, a_miss_costs_the_missing_pieces);
	tcase_add_test(tc, random_reads_fetch_little_more_than_they_need);
	tcase_add_test(tc, the_end_of_an_object_needs_no_whole_block);
	tcase_add_test(tc, a_long_read_comes_in_long_gets);
	tcase_add_test(tc, a_hold_shows_the_bytes);
	tcase_add_test(tc, bytes_of_another_version_are_not_there);
	tcase_add_test(tc, what_is_dropped_is_fetched_again);
	tcase_add_test(tc, what_is_put_needs_no_fetch);
	tcase_add_test(tc, a_dead_sco_is_forgotten);
	tcase_add_test(tc, what_nobody_will_read_is_sifted_out);
	tcase_add_test(tc, a_store_that_failed_is_asked_again);
	tcase_add_test(tc, flash_that_cannot_be_read_costs_a_fetch);
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
