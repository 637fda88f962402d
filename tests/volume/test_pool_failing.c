/* Devices that fail syncs: who is told, what the next process makes of it, and where it writes. */
#include "support_pool.h"

#include "common/env.h"
#include "volume/pool_impl.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DATA_BYTES (MIB / 8)

static struct env_ops failing_ops;
static struct env failing = { &failing_ops };
static int fail_from, fail_count; /* atomic; syncs of files that go well, and those behind them */
static char second_dir[PATH_BYTES], first_dir[PATH_BYTES];

static int try_fdatasync(UNUSED struct env *env, struct env_file *f)
{
	if (__atomic_load_n(&fail_count, __ATOMIC_SEQ_CST) == 0 ||
	    __atomic_sub_fetch(&fail_from, 1, __ATOMIC_SEQ_CST) >= 0)
		return env_fdatasync(env_posix(), f);
	(void)__atomic_sub_fetch(&fail_count, 1, __ATOMIC_SEQ_CST);
	return -EIO;
}

static int try_fdatasync_all(struct env *env, struct env_file *const *files, unsigned int count)
{
	int r = 0;

	for (unsigned int i = 0; i < count && r == 0; i++)
		r = try_fdatasync(env, files[i]);
	return r;
}

/* The first header in the first directory is written, and then it is said that it is not. */
static bool headers_fail, failed_name_stays; /* atomic: jobs of the pool look at them, too */
static struct env_file *in_first;

static int try_open(UNUSED struct env *env, const char *path, unsigned int flags,
		    struct env_file **ret_file)
{
	int r = env_open(env_posix(), path, flags, ret_file);

	if (r == 0 && flags & ENV_CREATE && strstr(path, "/first/sco/"))
		__atomic_store_n(&in_first, *ret_file, __ATOMIC_SEQ_CST);
	return r;
}

/* SCOs of the first disk that the thread removes which opens the pool. */
static pthread_t opener;
static unsigned int removed_by_opener;

/* A removal that a power cut undoes. */
static int try_unlink(UNUSED struct env *env, const char *path)
{
	if (pthread_equal(pthread_self(), opener) && strstr(path, "/sco/00000010-"))
		removed_by_opener++;
	if (__atomic_load_n(&failed_name_stays, __ATOMIC_SEQ_CST) && strstr(path, "/first/sco/"))
		return 0;
	return env_unlink(env_posix(), path);
}

/* Of the index of a full SCO. */
static unsigned int index_writes; /* atomic */

static int try_pwrite(UNUSED struct env *env, struct env_file *f, const void *buf, size_t len,
		      uint64_t offset)
{
	if (offset >= MIB * 15 / 16 && memcmp(buf, "VPSL", 4) == 0)
		(void)__atomic_add_fetch(&index_writes, 1, __ATOMIC_SEQ_CST);
	if (f == __atomic_load_n(&in_first, __ATOMIC_SEQ_CST) && offset == 0 &&
	    memcmp(buf, "VPSCOHDR", 8) == 0 &&
	    __atomic_exchange_n(&headers_fail, false, __ATOMIC_SEQ_CST)) {
		__atomic_store_n(&failed_name_stays, true, __ATOMIC_SEQ_CST);
		ck_assert_int_eq(env_pwrite(env_posix(), f, buf, len, offset), 0);
		return -EIO;
	}
	return env_pwrite(env_posix(), f, buf, len, offset);
}

static void fail_syncs(int from, int count)
{
	fail_from = from;
	__atomic_store_n(&fail_count, count, __ATOMIC_SEQ_CST);
}

static void begin(void)
{
	failing_ops = *env_posix()->ops;
	failing_ops.fdatasync = try_fdatasync;
	failing_ops.pwrite = try_pwrite;
	failing_ops.fdatasync_all = try_fdatasync_all;
	failing_ops.open = try_open;
	failing_ops.unlink = try_unlink;
	fail_syncs(0, 0);
	/* Nothing is synced but what a test does. */
	pf.options.flush_interval_ns = HOUR_NS;
}

static void use_two_dirs(void)
{
	pf.options.cache_count = 2;
	pf.options.cache[0].path = root_path(first_dir, "first");
	pf.options.cache[1].path = root_path(second_dir, "second");
}

static int open_failing(struct err *e)
{
	return pool_open(&failing, &pf.options, &pf.pool, e);
}

/* Some is synced, some is in the ring only; rounds: over how much of the log. */
static unsigned int rounds = 1;

static void write_and_die(UNUSED int to_parent, UNUSED void *arg)
{
	uint8_t *mem = pattern_mem(DATA_BYTES, 3);
	struct object *o;

	pool_fixture_create();
	pool_fixture_open_quiet(); /* no later checkpoint knows of it */
	o = make_object(OBJECT_DISK);
	for (unsigned int i = 0; i < rounds; i++) {
		write_bytes(o, 0, mem, DATA_BYTES);
		sync_object(o);
	}
	for (size_t at = 0; at < DATA_BYTES; at += 8192) /* small ones: through the ring */
		write_bytes(o, DATA_BYTES + at, mem + at, 8192);
	ck_assert_uint_eq(id_of(o), 16);
}

static void expect_all(void)
{
	uint8_t *mem = pattern_mem(DATA_BYTES, 3);
	struct object *o = get_object(16);

	expect_bytes(o, 0, mem, DATA_BYTES);
	expect_bytes(o, DATA_BYTES, mem, DATA_BYTES);
	sync_object(o);
	object_close(o);
	free(mem);
}

/* --- recovery ---------------------------------------------------------------------------------- */

static void open_where_a_sync_fails(UNUSED int to_parent, void *arg)
{
	struct err e = { 0 };

	fail_syncs(0, 1);
	ck_assert_msg(open_failing(&e) == 0, "%s", e.message);
	ck_assert_int_eq(fail_count, 0);
	ck_assert_int_eq(__builtin_popcount(pool_failed_dirs(pf.pool)), arg ? 1 : 0);
	expect_all();
	pool_fixture_restart();
	expect_all();
	pool_fixture_close();
}

START_TEST(what_the_ring_has_is_written_to_another_file_where_one_fails)
{
	if (_i)
		use_two_dirs();
	in_child_killed(write_and_die, NULL);
	in_child(open_where_a_sync_fails, _i ? first_dir : NULL);
}
END_TEST

static void write_what_cannot_be_synced(UNUSED int to_parent, UNUSED void *arg)
{
	uint8_t *mem = pattern_mem(DATA_BYTES, 3);
	struct err e = { 0 };
	struct object *o;

	pool_fixture_create();
	ck_assert_msg(open_failing(&e) == 0, "%s", e.message);
	pool_fixture_wait_quiet();
	o = make_object(OBJECT_DISK);
	fail_syncs(0, 1000);
	write_bytes(o, 0, mem, 8192);
	ck_assert_int_lt(object_sync(o, NULL), 0);
	free(mem);
}

static void open_and_see_it_go(UNUSED int to_parent, UNUSED void *arg)
{
	uint8_t *mem = pattern_mem(DATA_BYTES, 3);
	struct err e = { 0 };
	struct object *o;

	opener = pthread_self();
	ck_assert_msg(open_failing(&e) == 0, "%s", e.message);
	ck_assert_uint_eq(removed_by_opener, 1);
	o = get_object(16);
	expect_bytes(o, 0, mem, 8192);
	object_close(o);
	pool_fixture_close();
	free(mem);
}

/* It may decay at any time, and is not there any more when anybody else begins. */
START_TEST(what_no_sync_covered_goes_as_soon_as_the_ring_is_written)
{
	in_child_killed(write_what_cannot_be_synced, NULL);
	in_child(open_and_see_it_go, NULL);
}
END_TEST

static void seal_and_die(int to_parent, void *arg)
{
	write_and_die(to_parent, arg);
	ck_assert_int_eq(pool_seal(pf.pool, NULL), 0);
}

static void open_and_look(UNUSED int to_parent, UNUSED void *arg)
{
	struct err e = { 0 };

	ck_assert_msg(open_failing(&e) == 0, "%s", e.message);
	ck_assert_uint_eq(index_writes, 1);
	expect_all();
	pool_fixture_close();
}

/* Its sync may have failed, and then another one proves nothing. */
START_TEST(an_index_that_no_row_knows_is_written_again)
{
	rounds = 9;
	in_child_killed(seal_and_die, NULL);
	in_child(open_and_look, NULL);
}
END_TEST

/* The first sync is that of an index which no row knows yet. */
START_TEST(an_index_that_cannot_be_synced_is_made_anew)
{
	rounds = 9;
	in_child_killed(seal_and_die, NULL);
	in_child(open_where_a_sync_fails, NULL);
}
END_TEST

static void open_fails_for_good(UNUSED int to_parent, UNUSED void *arg)
{
	struct err e = { 0 };

	fail_syncs(0, 1000);
	ck_assert_int_eq(open_failing(&e), -EIO);
	ck_assert_int_gt(fail_count, 900);
}

static void open_well(UNUSED int to_parent, UNUSED void *arg)
{
	pool_fixture_open();
	expect_all();
	pool_fixture_close();
}

START_TEST(a_start_that_cannot_write_leaves_all_to_the_next)
{
	in_child_killed(write_and_die, NULL);
	in_child(open_fails_for_good, NULL);
	in_child(open_fails_for_good, NULL);
	in_child(open_well, NULL);
}
END_TEST

/* --- two files with one name ------------------------------------------------------------------- */

static void expect_disks(unsigned int count)
{
	uint8_t *mem = pattern_mem(DATA_BYTES, 5);

	for (unsigned int i = 0; i < count; i++) {
		struct object *o = get_object(16 + i);

		expect_bytes(o, 0, mem, DATA_BYTES);
		sync_object(o);
		object_close(o);
	}
	free(mem);
}

static void write_disks(unsigned int count)
{
	uint8_t *mem = pattern_mem(DATA_BYTES, 5);

	for (unsigned int i = 0; i < count; i++) {
		struct object *o = make_object(OBJECT_DISK);

		ck_assert_uint_eq(id_of(o), 16 + i);
		write_bytes(o, 0, mem, DATA_BYTES);
		sync_object(o);
		object_close(o);
	}
	free(mem);
}

static void write_where_a_header_fails(UNUSED int to_parent, UNUSED void *arg)
{
	struct err e = { 0 };

	pool_fixture_create();
	pf.options.checkpoint_interval_ns = HOUR_NS;
	ck_assert_msg(open_failing(&e) == 0, "%s", e.message);
	pool_fixture_wait_quiet();
	__atomic_store_n(&headers_fail, true, __ATOMIC_SEQ_CST);
	write_disks(4);
	ck_assert(__atomic_load_n(&failed_name_stays, __ATOMIC_SEQ_CST));
	ck_assert_uint_eq(pool_failed_dirs(pf.pool), 1);
}

static void open_and_expect_four(UNUSED int to_parent, UNUSED void *arg)
{
	pool_fixture_open();
	expect_disks(4);
	pool_fixture_close();
}

START_TEST(a_file_that_came_to_nothing_has_a_number_of_its_own)
{
	use_two_dirs();
	in_child_killed(write_where_a_header_fails, NULL);
	pretend_reboot();
	in_child(open_and_expect_four, NULL);
}
END_TEST

/* For each file of a directory its header, under the same name in the other. */
static void make_twins(const char *from, const char *to)
{
	char dir[PATH_BYTES], path[2 * PATH_BYTES];
	struct name_list names;

	name_list_read(root_path(dir, from), &names);
	ck_assert_uint_gt(names.count, 0);
	for (size_t i = 0; i < names.count; i++) {
		char *text;

		(void)snprintf(path, sizeof(path), "%s/%s", root_path(dir, from), names.names[i]);
		text = file_text(path);
		(void)snprintf(path, sizeof(path), "%s/%s", root_path(dir, to), names.names[i]);
		if (access(path, F_OK) < 0)
			make_file(path, text, CLUSTER_BYTES);
		free(text);
	}
	name_list_free(&names);
}

START_TEST(of_two_files_with_a_name_the_row_knows_which_one_counts)
{
	use_two_dirs();
	pool_fixture_create();
	pool_fixture_open();
	write_disks(4);
	pool_fixture_close();
	make_twins("first/sco", "second/sco");
	make_twins("second/sco", "first/sco");
	pool_fixture_open();
	expect_disks(4);
	pool_fixture_restart();
	expect_disks(4);
}
END_TEST

/* --- what a recovery did not get to remove ----------------------------------------------------- */

static void write_two(UNUSED int to_parent, UNUSED void *arg)
{
	struct object *o;

	pool_fixture_create();
	pool_fixture_open_quiet();
	write_disks(1);
	o = make_object(OBJECT_DISK);
	write_bytes(o, 0, "only in the ring", 16);
}

static void only_open(UNUSED int to_parent, UNUSED void *arg)
{
	pool_fixture_open_quiet();
}

static void open_and_write_both(UNUSED int to_parent, UNUSED void *arg)
{
	struct object *o;

	pool_fixture_open_quiet();
	expect_disks(1);
	o = get_object(17);
	expect_bytes(o, 0, "only in the ring", 16);
	write_bytes(o, 0, "and written over", 16);
	sync_object(o);
	object_close(o);
	pool_fixture_close();
}

/* Of a SCO that no sync covered: the recovery that copied it from the ring died before it was removed,
 * and then its header went. */
START_TEST(what_a_recovery_did_not_get_to_remove_is_no_damage)
{
	char path[PATH_BYTES], copy[PATH_BYTES];
	char wrong[64] = "no header of a SCO";
	struct name_list before;
	unsigned int back = 0;

	in_child_killed(write_two, NULL);
	name_list_read(pool_path(path, "cache/sco"), &before);
	copy_tree(path, root_path(copy, "before"));
	in_child_killed(only_open, NULL);
	for (size_t i = 0; i < before.count; i++) {
		char name[2 * PATH_BYTES], from[2 * PATH_BYTES];

		(void)snprintf(name, sizeof(name), "%s/%s", path, before.names[i]);
		(void)snprintf(from, sizeof(from), "%s/%s", copy, before.names[i]);
		if (access(name, F_OK) == 0)
			continue;
		copy_tree(from, name);
		overwrite(name, 0, wrong, sizeof(wrong));
		back++;
	}
	name_list_free(&before);
	ck_assert_uint_gt(back, 0);
	in_child(open_and_write_both, NULL);
}
END_TEST

/* --- a process that serves --------------------------------------------------------------------- */

static unsigned int told; /* atomic */

static void count(UNUSED void *arg)
{
	__atomic_fetch_add(&told, 1, __ATOMIC_SEQ_CST);
}

START_TEST(whoever_watches_is_told_before_the_error_is)
{
	struct err e = { 0 };
	struct object *o;

	pool_fixture_create();
	ck_assert_msg(open_failing(&e) == 0, "%s", e.message);
	pool_fixture_wait_quiet();
	o = make_object(OBJECT_DISK);
	write_bytes(o, 0, "text", 4);
	pool_watch_failures(pf.pool, count, NULL);
	ck_assert_uint_eq(told, 0);
	fail_syncs(0, 1);
	ck_assert_int_eq(object_sync(o, &e), -EIO);
	ck_assert_uint_eq(told, 1);
	/* Who comes late, too. */
	pool_watch_failures(pf.pool, count, NULL);
	ck_assert_uint_eq(told, 2);
	pool_watch_failures(pf.pool, NULL, NULL);
	object_close(o);
	ck_assert_int_eq(pool_close(TAKE_PTR(pf.pool), &e), -EIO);
}
END_TEST

static bool somebody_was_told(UNUSED void *arg)
{
	return __atomic_load_n(&told, __ATOMIC_SEQ_CST) > 0;
}

/* The write was acknowledged; the next process has it from the ring. */
START_TEST(what_nobody_syncs_fails_in_the_background_and_is_told_to_who_does)
{
	struct err e = { 0 };
	struct object *o;

	pf.options.flush_interval_ns = 10 * MS_NS;
	pool_fixture_create();
	ck_assert_msg(open_failing(&e) == 0, "%s", e.message);
	pool_fixture_wait_quiet();
	o = make_object(OBJECT_DISK);
	sync_object(o);
	pool_watch_failures(pf.pool, count, NULL);
	fail_syncs(0, 1);
	write_bytes(o, 0, "text", 4);
	wait_until(somebody_was_told, NULL, 20, "a flush that fails");
	ck_assert_int_eq(object_sync(o, &e), -EIO);
	ck_assert_int_eq(object_write(o, 0, "more", 4, &e), -EIO);
	expect_bytes(o, 0, "text", 4);
	pool_watch_failures(pf.pool, NULL, NULL);
	object_close(o);
	ck_assert_int_eq(pool_close(TAKE_PTR(pf.pool), &e), -EIO);
	pool_fixture_open();
	o = get_object(16);
	expect_bytes(o, 0, "text", 4);
	write_bytes(o, 0, "more", 4);
	sync_object(o);
	object_close(o);
}
END_TEST

START_TEST(a_probe_finds_what_fails)
{
	struct err e = { 0 };

	use_two_dirs();
	pool_fixture_create();
	ck_assert_msg(open_failing(&e) == 0, "%s", e.message);
	pool_fixture_wait_quiet();
	ck_assert_int_eq(pool_probe(pf.pool, &e), 0);
	fail_syncs(0, 1); /* the pool directory */
	ck_assert_int_eq(pool_probe(pf.pool, &e), -EIO);
	ck_assert_uint_eq(pool_failed_dirs(pf.pool), 0);
	fail_syncs(1, 1);
	ck_assert_int_eq(pool_probe(pf.pool, &e), 0);
	ck_assert_uint_eq(pool_failed_dirs(pf.pool), 1);
	fail_syncs(1, 2);
	ck_assert_int_eq(pool_probe(pf.pool, &e), -EIO);
	/* The last one is not given up. */
	ck_assert_uint_eq(pool_failed_dirs(pf.pool), 1);
	ck_assert_ptr_nonnull(strstr(e.message, "first"));
	ck_assert_int_eq(pool_probe(pf.pool, &e), 0);
}
END_TEST

START_TEST(a_directory_that_failed_before_takes_nothing_new)
{
	struct pool_status status;
	struct name_list names;
	char path[PATH_BYTES];
	uint8_t *mem = pattern_mem(DATA_BYTES, 5);

	use_two_dirs();
	pool_fixture_create();
	pf.options.failed_dirs = 1u << _i;
	pool_fixture_open();
	for (unsigned int i = 0; i < 4; i++) {
		struct object *o = make_object(OBJECT_DISK);

		write_bytes(o, 0, mem, DATA_BYTES);
		sync_object(o);
		object_close(o);
	}
	name_list_read(root_path(path, _i ? "second/sco" : "first/sco"), &names);
	ck_assert_uint_eq(names.count, 0);
	name_list_free(&names);
	pool_status(pf.pool, &status);
	ck_assert_int_eq(status.state, POOL_DEGRADED);
	/* However long the path is, what differs is shown, and the sentence to its end. */
	ck_assert_ptr_nonnull(strstr(status.reason, _i ? "second' failed" : "first' failed"));
	ck_assert_ptr_nonnull(strstr(status.reason, "until the next mount"));
	free(mem);
}
END_TEST

START_TEST(where_all_failed_all_are_used)
{
	struct object *o;

	use_two_dirs();
	pool_fixture_create();
	pf.options.failed_dirs = 3;
	pool_fixture_open();
	o = make_object(OBJECT_DISK);
	write_bytes(o, 0, "text", 4);
	sync_object(o);
	object_close(o);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_failing");
	TCase *t = tcase_create("failing");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_loop_test(t, what_the_ring_has_is_written_to_another_file_where_one_fails, 0, 2);
	tcase_add_test(t, what_no_sync_covered_goes_as_soon_as_the_ring_is_written);
	tcase_add_test(t, an_index_that_no_row_knows_is_written_again);
	tcase_add_test(t, an_index_that_cannot_be_synced_is_made_anew);
	tcase_add_test(t, a_start_that_cannot_write_leaves_all_to_the_next);
	tcase_add_test(t, a_file_that_came_to_nothing_has_a_number_of_its_own);
	tcase_add_test(t, of_two_files_with_a_name_the_row_knows_which_one_counts);
	tcase_add_test(t, what_a_recovery_did_not_get_to_remove_is_no_damage);
	tcase_add_test(t, whoever_watches_is_told_before_the_error_is);
	tcase_add_test(t, what_nobody_syncs_fails_in_the_background_and_is_told_to_who_does);
	tcase_add_test(t, a_probe_finds_what_fails);
	tcase_add_loop_test(t, a_directory_that_failed_before_takes_nothing_new, 0, 2);
	tcase_add_test(t, where_all_failed_all_are_used);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
