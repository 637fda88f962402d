/* Flash as a cache: SCOs whose bytes are on the backend only. */
#include "support_pool.h"

#include "backend/backend.h"
#include "volume/pool_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DISK_BYTES (8 * MIB)

/* The backend has copies of its own. */
static void begin(void)
{
	pf.options.backend_copy = BACKEND_COPY_BYTES;
}

static void sync_backend(void)
{
	struct err e = { 0 };

	ck_assert_msg(pool_sync_backend(pf.pool, &e) == 0, "%s", e.message);
}

static void checkpoint(void)
{
	struct err e = { 0 };

	ck_assert_msg(pool_checkpoint(pf.pool, &e) == 0, "%s", e.message);
}

/* A disk of this pattern, on the backend, and rows that say so. */
static uint64_t make_disk(uint64_t seed)
{
	struct object *o = make_object(OBJECT_DISK);
	uint64_t id = id_of(o);
	void *mem = pattern_mem(DISK_BYTES, seed);

	write_bytes(o, 0, mem, DISK_BYTES);
	object_close(o);
	free(mem);
	sync_backend();
	checkpoint();
	return id;
}

static void expect_disk(uint64_t id, uint64_t seed)
{
	struct object *o = get_object(id);
	void *mem = pattern_mem(DISK_BYTES, seed);

	expect_bytes(o, 0, mem, DISK_BYTES);
	object_close(o);
	free(mem);
}

static void remove_all_files(void)
{
	char path[PATH_BYTES];

	while (sco_count() > 0)
		ck_assert_int_eq(unlink(sco_path(path, 0)), 0);
}

START_TEST(files_that_the_backend_has_may_be_gone)
{
	uint64_t id;

	pool_fixture_create();
	pool_fixture_open_quiet();
	id = make_disk(1);
	pool_fixture_close();
	remove_all_files();
	pool_fixture_open_quiet();
	expect_disk(id, 1);
	ck_assert_uint_gt(pool_fixture_counter("fetches"), 0);
	pool_fixture_restart();
	expect_disk(id, 1);
}
END_TEST

START_TEST(a_damaged_file_that_the_backend_has_too_is_replaced)
{
	char path[PATH_BYTES];
	uint64_t id;

	pool_fixture_create();
	pool_fixture_open_quiet();
	id = make_disk(1);
	pool_fixture_close();
	flip_bit(sco_path(path, 0), file_size(sco_path(path, 0)) - 4000, 3); /* the footer */
	pool_fixture_open_quiet();
	expect_disk(id, 1);
}
END_TEST

static unsigned int objects_of(uint32_t stream)
{
	char name[64], path[PATH_BYTES];
	struct name_list l;
	unsigned int count;

	(void)snprintf(name, sizeof(name), "objects/%08x/sco", stream);
	if (access(pool_path(path, name), F_OK) < 0)
		return 0;
	name_list_read(path, &l);
	count = (unsigned int)l.count;
	name_list_free(&l);
	return count;
}

START_TEST(a_dead_absent_sco_is_buried_with_its_object)
{
	struct object_stat st;
	struct object *o;
	struct err e = { 0 };
	uint64_t id;

	pool_fixture_create();
	pool_fixture_open_quiet();
	id = make_disk(1);
	pool_fixture_close();
	remove_all_files();
	pool_fixture_open_quiet();
	o = get_object(id);
	object_stat(o, &st);
	object_close(o);
	ck_assert_uint_ge(objects_of(st.stream), DISK_BYTES / MIB);
	ck_assert_int_eq(object_delete(pf.pool, id, &e), 0);
	for (unsigned int i = 0; i < 3; i++) { /* condemned, then deleted with the root after */
		o = make_object(OBJECT_FILE);
		write_bytes(o, 0, "x", 1);
		object_close(o);
		checkpoint();
		sync_backend();
	}
	ck_assert_uint_eq(objects_of(st.stream), 0);
}
END_TEST

/* --- eviction ---------------------------------------------------------------------------------- */

#define CACHE_BYTES (16 * MIB)
#define LARGE_BYTES (4 * CACHE_BYTES)
#define PIECE_BYTES (4 * MIB)

static void begin_small(void)
{
	static char path[PATH_BYTES];

	begin();
	pf.options.cache[0].path = pool_path(path, "cache");
	pf.options.cache[0].size_bytes = CACHE_BYTES;
	pf.options.cache_count = 1;
	pf.options.reserve_bytes = 4 * KIB;
}

static uint64_t make_large(void)
{
	struct object *o = make_object(OBJECT_DISK);
	uint64_t id = id_of(o);

	for (uint64_t at = 0; at < LARGE_BYTES; at += PIECE_BYTES) {
		void *mem = pattern_mem(PIECE_BYTES, at);

		write_bytes(o, at, mem, PIECE_BYTES);
		free(mem);
	}
	object_close(o);
	return id;
}

static void expect_large(uint64_t id)
{
	struct object *o = get_object(id);

	for (uint64_t at = 0; at < LARGE_BYTES; at += PIECE_BYTES) {
		void *mem = pattern_mem(PIECE_BYTES, at);

		expect_bytes(o, at, mem, PIECE_BYTES);
		free(mem);
	}
	object_close(o);
}

START_TEST(a_pool_holds_more_than_its_flash)
{
	uint64_t id;

	pool_fixture_create();
	pool_fixture_open_quiet();
	id = make_large();
	ck_assert_uint_le(flash_used_bytes(pf.pool->flash), CACHE_BYTES);
	ck_assert_uint_le(tree_bytes(pf.options.cache[0].path), CACHE_BYTES + MIB);
	ck_assert_uint_ge(pool_fixture_counter("scos_evicted"), 3 * CACHE_BYTES / MIB);
	expect_large(id);
	pool_fixture_restart();
	expect_large(id);
	ck_assert_uint_le(tree_bytes(pf.options.cache[0].path), CACHE_BYTES + MIB);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_cache");
	TCase *t = tcase_create("absent");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_test(t, files_that_the_backend_has_may_be_gone);
	tcase_add_test(t, a_damaged_file_that_the_backend_has_too_is_replaced);
	tcase_add_test(t, a_dead_absent_sco_is_buried_with_its_object);
	suite_add_tcase(s, t);
	t = tcase_create("eviction");
	pool_fixture_add(t, begin_small);
	tcase_add_test(t, a_pool_holds_more_than_its_flash);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
