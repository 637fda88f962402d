/* What the next process finds of what was fetched, and what it makes of garbage. */
#include "common/crc32c.h"
#include "common/endian.h"
#include "tests/volume/support_cache.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHUNKS	  300u
#define MAP_BYTES (4096 + CHUNKS * CACHE_MAP_ENTRY_BYTES)

static void read_chunks(unsigned int from, unsigned int end)
{
	for (unsigned int n = from; n < end; n++) {
		struct cache_sco s = cf_sco(10 + n / CF_CHUNKS);

		cf_must_read(&s, n % CF_CHUNKS * CACHE_CHUNK_BYTES, 20 * KIB);
	}
}

static unsigned int count_there(void)
{
	unsigned int there = 0;

	for (unsigned int n = 0; n < CHUNKS; n++) {
		struct cache_sco s = cf_sco(10 + n / CF_CHUNKS);

		there += cache_has(cf.cache, &s, n % CF_CHUNKS * CACHE_CHUNK_BYTES, 20 * KIB);
	}
	return there;
}

/* As a reader does: what is there and wrong is dropped. Returns how many chunks were wrong. */
static unsigned int drop_wrong(void)
{
	uint8_t *got = aligned_alloc(ENV_DIRECT_ALIGN, 4096), want[4096];
	unsigned int wrong = 0;

	for (unsigned int n = 0; n < CHUNKS; n++) {
		struct cache_sco s = cf_sco(10 + n / CF_CHUNKS);
		uint64_t at = n % CF_CHUNKS * CACHE_CHUNK_BYTES;
		struct cache_hold hold;

		if (!cache_hold(cf.cache, &s, at, 4096, &hold))
			continue;
		cf_bytes(&s, at, want, 4096);
		if (env_pread(env_posix(), hold.file, got, 4096, hold.offset_bytes) != 4096 ||
		    memcmp(got, want, 4096) != 0) {
			cache_drop(cf.cache, &s, at, CACHE_CHUNK_BYTES);
			wrong++;
		}
		cache_release(cf.cache, &hold);
	}
	free(got);
	return wrong;
}

static struct env_file *open_file(const char *name)
{
	char *path = cf_path(0, name);
	struct env_file *f;

	ck_assert_int_eq(env_open(env_posix(), path, ENV_READ | ENV_WRITE, &f), 0);
	free(path);
	return f;
}

static void peek(uint64_t at, void *bytes, size_t len_bytes)
{
	struct env_file *f = open_file("chunks.map");

	ck_assert_int_eq(env_pread(env_posix(), f, bytes, len_bytes, at), (ssize_t)len_bytes);
	env_close(env_posix(), f);
}

static void poke(uint64_t at, const void *bytes, size_t len_bytes)
{
	struct env_file *f = open_file("chunks.map");

	ck_assert_int_eq(env_pwrite(env_posix(), f, bytes, len_bytes, at), 0);
	env_close(env_posix(), f);
}

static uint64_t entry_at(unsigned int slot)
{
	return 4096 + (uint64_t)slot * CACHE_MAP_ENTRY_BYTES;
}

static void truncate_file(const char *name, uint64_t size_bytes)
{
	struct env_file *f = open_file(name);

	ck_assert_int_eq(env_truncate(env_posix(), f, size_bytes), 0);
	env_close(env_posix(), f);
}

START_TEST(the_next_process_finds_what_was_fetched)
{
	struct cache_status before, after;

	read_chunks(0, CHUNKS);
	cache_status(cf.cache, &before);
	cf_close();
	cf_open();
	cache_status(cf.cache, &after);
	ck_assert_mem_eq(&before, &after, sizeof(before));
	ck_assert_uint_eq(flash_used_bytes(cf.flash), after.used_bytes);
	read_chunks(0, CHUNKS);
	ck_assert_uint_eq(cf_gets(), CHUNKS);
}
END_TEST

START_TEST(what_was_given_back_or_forgotten_stays_so)
{
	struct cache_status st;

	read_chunks(0, CHUNKS);
	cache_forget(cf.cache, 10, 10 * CACHE_CHUNK_BYTES);
	ck_assert_uint_eq(cache_shrink(cf.cache, 5 * CACHE_CHUNK_BYTES), 5 * CACHE_CHUNK_BYTES);
	cf_close();
	cf_open();
	ck_assert_uint_eq(count_there(), CHUNKS - 10);
	cache_status(cf.cache, &st);
	/* Nobody's blocks go back at the start. */
	ck_assert_uint_eq(st.used_bytes, (CHUNKS - 10) * CACHE_CHUNK_BYTES);
	ck_assert_uint_le(cf_allocated_bytes(0), st.used_bytes);
	ck_assert_uint_eq(drop_wrong(), 0);
}
END_TEST

START_TEST(a_process_that_died_costs_only_fetches)
{
	read_chunks(0, CHUNKS / 2);
	cf_close();
	cf_open();
	/* Slots that the map tells of get other chunks. */
	ck_assert_uint_eq(cache_shrink(cf.cache, 20 * CACHE_CHUNK_BYTES), 20 * CACHE_CHUNK_BYTES);
	read_chunks(CHUNKS / 2, CHUNKS);
	cf_die();
	cf_open();
	ck_assert_uint_eq(count_there(), CHUNKS / 2);
	ck_assert_uint_eq(drop_wrong(), 20);
	ck_assert_uint_le(cf_allocated_bytes(0), CHUNKS / 2 * CACHE_CHUNK_BYTES);
	read_chunks(0, CHUNKS);
	ck_assert_uint_eq(drop_wrong(), 0);
}
END_TEST

START_TEST(much_that_changed_is_written_before_the_end)
{
	read_chunks(0, CHUNKS);
	/* Nothing is due yet. */
	ck_assert_uint_gt(cache_step(cf.cache), 0);
	cf.late_ns = UINT64_C(31) * 1000 * 1000 * 1000;
	ck_assert_uint_eq(cache_step(cf.cache), 0);
	ck_assert_uint_eq(cache_step(cf.cache), WAIT_FOREVER);
	cf_die();
	cf_open();
	ck_assert_uint_eq(count_there(), CHUNKS);
	ck_assert_uint_eq(drop_wrong(), 0);
}
END_TEST

START_TEST(a_map_of_another_pool_counts_for_nothing)
{
	struct cache_status st;

	read_chunks(0, CHUNKS);
	cf_close();
	truncate_file("chunks.map", 0);
	cf_open();
	cache_status(cf.cache, &st);
	ck_assert_uint_eq(st.used_bytes, 0);
	ck_assert_uint_eq(cf_allocated_bytes(0), 0);
	read_chunks(0, CHUNKS);
	cf_close();

	uint8_t block[4096];
	struct cache_map_header h = { .slot_count = CHUNKS };

	memcpy(&h.pool, &cf.options.pool, sizeof(h.pool));
	h.pool.bytes[15] ^= 1;
	cache_map_header_encode(&h, block);
	poke(0, block, sizeof(block));
	cf_open();
	ck_assert_uint_eq(count_there(), 0);
	read_chunks(0, 10);
	cf_close();
	/* Nor may one of another directory. */
	h.pool.bytes[15] ^= 1;
	h.index = 1;
	cache_map_header_encode(&h, block);
	poke(0, block, sizeof(block));
	cf_open();
	ck_assert_uint_eq(count_there(), 0);
}
END_TEST

START_TEST(a_map_that_tells_of_more_than_there_is)
{
	struct cache_map_header h = { .slot_count = CACHE_MAP_SLOTS_MAX, .pool = cf.options.pool };
	uint8_t block[4096];

	read_chunks(0, CHUNKS);
	cf_close();
	cache_map_header_encode(&h, block);
	poke(0, block, sizeof(block));
	cf_open();
	ck_assert_uint_eq(count_there(), CHUNKS);
	cf_close();
	truncate_file("chunks", 100 * CACHE_CHUNK_BYTES);
	cf_open();
	ck_assert_uint_eq(count_there(), 100);
	read_chunks(0, CHUNKS);
	ck_assert_uint_eq(drop_wrong(), 0);
	cf_close();
	cf_open();
	ck_assert_uint_eq(count_there(), CHUNKS);
}
END_TEST

START_TEST(of_two_entries_for_a_chunk_the_first_counts)
{
	struct cache_map_entry first;
	uint8_t bytes[CACHE_MAP_ENTRY_BYTES];
	struct cache_status st;

	read_chunks(0, CHUNKS);
	cf_close();
	peek(entry_at(3), bytes, sizeof(bytes));
	ck_assert_int_eq(cache_map_entry_decode(bytes, 3, &first, &cf.e), 0);
	cache_map_entry_encode(&first, 7, bytes);
	poke(entry_at(7), bytes, sizeof(bytes));
	cf_open();
	ck_assert_uint_eq(count_there(), CHUNKS - 1);
	ck_assert_uint_eq(drop_wrong(), 0);
	cache_status(cf.cache, &st);
	ck_assert_uint_eq(st.used_bytes, (CHUNKS - 1) * CACHE_CHUNK_BYTES);
}
END_TEST

START_TEST(an_entry_in_another_slot_is_none)
{
	uint8_t bytes[CACHE_MAP_ENTRY_BYTES];

	read_chunks(0, CHUNKS);
	cf_close();
	peek(entry_at(3), bytes, sizeof(bytes));
	poke(entry_at(7), bytes, sizeof(bytes));
	cf_open();
	ck_assert_uint_eq(count_there(), CHUNKS - 1);
	ck_assert_uint_eq(drop_wrong(), 0);
}
END_TEST

/* Flipped bits, other people's blocks, files cut anywhere; also entries whose checksum is right. */
START_TEST(garbage_is_survived)
{
	uint8_t *map = malloc(MAP_BYTES);

	srandom((unsigned int)_i + 1);
	read_chunks(0, CHUNKS);
	cf_close();
	peek(0, map, MAP_BYTES);
	for (unsigned int round = 0; round < 10; round++) {
		uint8_t *spoilt = malloc(MAP_BYTES);

		memcpy(spoilt, map, MAP_BYTES);
		for (long n = random() % 200; n > 0; n--) {
			size_t at = (size_t)random() % (MAP_BYTES - CACHE_MAP_ENTRY_BYTES);
			unsigned int slot = (unsigned int)random() % CHUNKS;
			uint8_t *entry = spoilt + entry_at(slot);

			if (n % 4 == 0) { /* flips, in the header seldom */
				spoilt[round % 5 == 1 ? at : max_u64(at, 4096)] ^=
					(uint8_t)(1 << random() % 8);
			} else if (n % 4 == 1) {
				memset(entry, (int)(random() % 256), CACHE_MAP_ENTRY_BYTES);
			} else { /* a wrong field under a right checksum */
				entry[4 + random() % 28] = (uint8_t)random();
				le32_put(entry, crc32c(slot, entry + 4, CACHE_MAP_ENTRY_BYTES - 4));
			}
		}
		poke(0, spoilt, MAP_BYTES);
		if (round % 5 == 0)
			truncate_file("chunks.map", (uint64_t)random() % MAP_BYTES);
		free(spoilt);
		cf_open();
		(void)drop_wrong();
		read_chunks(0, CHUNKS);
		ck_assert_uint_eq(count_there(), CHUNKS);
		ck_assert_uint_eq(drop_wrong(), 0);
		ck_assert_uint_gt(cache_shrink(cf.cache, 10 * CACHE_CHUNK_BYTES), 0);
		read_chunks(0, CHUNKS);
		cf_close();
		peek(0, map, MAP_BYTES);
	}
	free(map);
}
END_TEST

START_TEST(files_that_cannot_be_opened_are_done_without)
{
	char *path = cf_path(0, "chunks"), *elsewhere = cf_path(0, "elsewhere");

	read_chunks(0, 10);
	cf_close();
	ck_assert_int_eq(rename(path, elsewhere), 0);
	ck_assert_int_eq(symlink("elsewhere", path), 0);
	cf_open();
	ck_assert_uint_eq(count_there(), 0);
	read_chunks(0, 10);
	ck_assert_uint_eq(cf_gets(), 20);
	free(path);
	free(elsewhere);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("cache_map");
	TCase *tc = tcase_create("cache_map");

	tcase_add_checked_fixture(tc, cf_begin, cf_end);
	tcase_add_test(tc, the_next_process_finds_what_was_fetched);
	tcase_add_test(tc, what_was_given_back_or_forgotten_stays_so);
	tcase_add_test(tc, a_process_that_died_costs_only_fetches);
	tcase_add_test(tc, much_that_changed_is_written_before_the_end);
	tcase_add_test(tc, a_map_of_another_pool_counts_for_nothing);
	tcase_add_test(tc, a_map_that_tells_of_more_than_there_is);
	tcase_add_test(tc, of_two_entries_for_a_chunk_the_first_counts);
	tcase_add_test(tc, an_entry_in_another_slot_is_none);
	tcase_add_loop_test(tc, garbage_is_survived, 0, 2);
	tcase_add_test(tc, files_that_cannot_be_opened_are_done_without);
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
