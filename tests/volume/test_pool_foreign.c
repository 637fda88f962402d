/* Parts that are missing, old, or of another pool: refused with a message that says which. */
#include "support_damage.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- the ring ----------------------------------------------------------------------------------- */

START_TEST(a_missing_ring_of_this_boot_is_an_error_that_names_the_loss)
{
	char ring[PATH_BYTES];

	in_child_killed(open_pool, NULL);
	ck_assert_ptr_nonnull(ring_path(ring));
	ck_assert_int_eq(unlink(ring), 0);
	pool_fixture_open_fails(-ENOENT, "may be lost");
	pool_fixture_open_fails(-ENOENT, ring);
	/* Nothing was changed by that: with a reboot behind it, it opens. */
	pretend_reboot();
	pool_fixture_open();
	expect_all_that_was_synced();
}
END_TEST

START_TEST(a_missing_ring_record_is_not_a_clean_start)
{
	char path[PATH_BYTES];
	struct pool *p = NULL;
	struct err e = { 0 };
	int r;

	in_child_killed(open_pool, NULL);
	ck_assert_int_eq(unlink(pool_path(path, "ring.id")), 0);
	r = pool_open(env_posix(), &pf.options, &p, &e);
	ck_assert_msg(r < 0, "acknowledged writes were dropped in silence");
	ck_assert_ptr_nonnull(strstr(e.message, "ring"));
}
END_TEST

START_TEST(a_damaged_ring_record_is_refused)
{
	char path[PATH_BYTES];

	in_child_killed(open_pool, NULL);
	flip_bit(pool_path(path, "ring.id"), 60 + (unsigned int)_i * 40, 2);
	pool_fixture_open_fails(-EBADMSG, "ring.id");
	flip_bit(path, 60 + (unsigned int)_i * 40, 2);
	cut_file(path, 100);
	pool_fixture_open_fails(-EUCLEAN, "ring.id");
	cut_file(path, 0);
	pool_fixture_open_fails(-EUCLEAN, "ring.id");
}
END_TEST

START_TEST(a_damaged_or_cut_ring_is_refused)
{
	char ring[PATH_BYTES];
	uint64_t size;

	in_child_killed(open_pool, NULL);
	ck_assert_ptr_nonnull(ring_path(ring));
	flip_bit(ring, 40, 2);
	pool_fixture_open_fails(-EBADMSG, "ring");
	flip_bit(ring, 40, 2);
	flip_bit(ring, 1, 2); /* its magic */
	pool_fixture_open_fails(-EUCLEAN, "ring");
	flip_bit(ring, 1, 2);
	size = file_size(ring);
	copy_tree(ring, root_path((char[PATH_BYTES]){ 0 }, "ring"));
	cut_file(ring, size - 4096);
	pool_fixture_open_fails(-EUCLEAN, "wrong length");
	copy_tree(root_path((char[PATH_BYTES]){ 0 }, "ring"), ring);
	pool_fixture_open();
	expect_all(world->disk);
}
END_TEST

START_TEST(a_symbolic_link_in_place_of_the_ring_is_refused)
{
	char ring[PATH_BYTES], away[PATH_BYTES];

	in_child_killed(open_pool, NULL);
	ck_assert_ptr_nonnull(ring_path(ring));
	copy_tree(ring, root_path(away, "ring"));
	ck_assert_int_eq(unlink(ring), 0);
	ck_assert_int_eq(symlink(away, ring), 0);
	pool_fixture_open_fails(-ELOOP, ring);
}
END_TEST

START_TEST(damage_inside_the_ring_is_never_replayed)
{
	char ring[PATH_BYTES];
	uint8_t mem[4096], wrong[4096];
	struct pool_status st;
	struct object *o;
	uint64_t at;

	in_child_killed(open_pool, NULL);
	ck_assert_ptr_nonnull(ring_path(ring));
	cluster_fill(mem, world->disk, 20, 3);
	at = find_in_file(ring, mem, sizeof(mem));
	ck_assert_uint_ne(at, UINT64_MAX);
	flip_bit(ring, at + 1000, 6);
	pool_fixture_open();
	o = get_object(world->disk);
	pool_status(pf.pool, &st);
	if (st.state == POOL_OK) { /* it was in the SCO as well */
		expect_cluster(o, 20, 3);
	} else { /* its disk ends before it, and says so */
		ck_assert_int_eq(st.state, POOL_DEGRADED);
		ck_assert_int_eq(object_write(o, 0, "x", 1, NULL), -EUCLEAN);
		ck_assert_int_eq(object_read(o, 20 * 4096, mem, sizeof(mem), NULL), 4096);
		cluster_fill(wrong, world->disk, 20, 3);
		wrong[1000] ^= 1u << 6;
		ck_assert_mem_ne(mem, wrong, sizeof(mem));
	}
	object_close(o);
}
END_TEST

static void make_other_pool(const char *name)
{
	char *dir = strdup(pf.dir);

	(void)snprintf(pf.dir, sizeof(pf.dir), "%s/%s", pf.root, name);
	ck_assert_int_eq(mkdir(pf.dir, 0700), 0);
	in_child_killed(open_pool, NULL);
	(void)snprintf(pf.dir, sizeof(pf.dir), "%s", dir);
	free(dir);
}

/* The ring of one pool under the name of that of another. */
START_TEST(the_ring_of_another_pool_is_refused)
{
	struct name_list before, after;
	char ours[PATH_BYTES], theirs[PATH_BYTES] = "";

	in_child_killed(open_pool, NULL);
	ck_assert_ptr_nonnull(ring_path(ours));
	name_list_read(pf.shm, &before);
	make_other_pool("second");
	name_list_read(pf.shm, &after);
	ck_assert_uint_eq(after.count, 2);
	for (size_t i = 0; i < after.count; i++)
		if (strcmp(after.names[i], before.names[0]) != 0)
			(void)snprintf(theirs, sizeof(theirs), "%s/%s", pf.shm, after.names[i]);
	ck_assert_int_eq(rename(theirs, ours), 0);
	pool_fixture_open_fails(-EUCLEAN, "another pool");
	name_list_free(&before);
	name_list_free(&after);
}
END_TEST

START_TEST(the_ring_record_of_another_pool_is_refused)
{
	char ours[PATH_BYTES], theirs[PATH_BYTES];

	in_child_killed(open_pool, NULL);
	make_other_pool("second");
	ck_assert_int_eq(rename(root_path(theirs, "second/ring.id"), pool_path(ours, "ring.id")),
			 0);
	pool_fixture_open_fails(-EUCLEAN, "another pool");
}
END_TEST

/* --- directories -------------------------------------------------------------------------------- */

START_TEST(a_copy_of_a_pool_that_was_not_closed_is_refused)
{
	char copy[PATH_BYTES];
	const char *dir = pf.options.dir;

	in_child_killed(open_pool, NULL);
	copy_tree(pf.dir, root_path(copy, "copy"));
	pf.options.dir = copy;
	pool_fixture_open_fails(-EUCLEAN, "copy");
	pf.options.dir = dir;
	pool_fixture_open();
	expect_all(world->disk);
}
END_TEST

START_TEST(a_pool_that_was_moved_opens_with_its_ring)
{
	char moved[PATH_BYTES];

	in_child_killed(open_pool, NULL);
	ck_assert_int_eq(rename(pf.dir, root_path(moved, "moved")), 0);
	pf.options.dir = moved;
	pool_fixture_open();
	expect_all(world->disk);
}
END_TEST

START_TEST(foreign_and_missing_cache_directories_are_refused)
{
	char label[PATH_BYTES], theirs[PATH_BYTES], cache[PATH_BYTES], away[PATH_BYTES];
	char *own;

	in_child(closed_pool, NULL);
	own = strdup(pool_path(label, "cache/label"));
	make_other_pool("second");
	copy_tree(label, root_path(away, "label"));
	copy_tree(root_path(theirs, "second/cache/label"), own);
	pool_fixture_open_fails(-EUCLEAN, "another pool");
	copy_tree(away, own);
	flip_bit(own, 30, 1);
	pool_fixture_open_fails(-EBADMSG, "label");
	ck_assert_int_eq(unlink(own), 0);
	pool_fixture_open_fails(-ENOENT, "mounted");
	copy_tree(away, own);
	ck_assert_int_eq(rename(pool_path(cache, "cache"), root_path(away, "away")), 0);
	pool_fixture_open_fails(-ENOENT, "cache");
	ck_assert_int_eq(mkdir(cache, 0700), 0); /* an empty mount point */
	pool_fixture_open_fails(-ENOENT, "mounted");
	ck_assert_int_eq(rmdir(cache), 0);
	ck_assert_int_eq(rename(away, cache), 0);
	pool_fixture_open();
	expect_all(world->other);
	free(own);
}
END_TEST

START_TEST(cache_directories_in_another_order_are_refused)
{
	char one[PATH_BYTES], two[PATH_BYTES];

	pf.options.cache_count = 2;
	pf.options.cache[0].path = root_path(one, "one");
	pf.options.cache[1].path = root_path(two, "two");
	in_child(closed_pool, NULL);
	pf.options.cache[0].path = two;
	pf.options.cache[1].path = one;
	pool_fixture_open_fails(-EUCLEAN, "cache directory 1");
	pf.options.cache[0].path = one;
	pf.options.cache[1].path = two;
	pool_fixture_open();
	expect_all(world->other);
	ck_assert_uint_gt(tree_bytes(one), 100000); /* both are used */
	ck_assert_uint_gt(tree_bytes(two), 100000);
}
END_TEST

/* --- metadata that went back -------------------------------------------------------------------- */

static void old_state(UNUSED int to_parent, UNUSED void *arg)
{
	make_two_disks();
	pool_fixture_close();
}

static void newer_state(UNUSED int to_parent, void *close)
{
	struct object *o;

	pool_fixture_open_quiet();
	o = get_object(world->disk);
	for (unsigned int i = 0; i < CLUSTERS; i++)
		write_cluster(o, i, 1);
	sync_object(o);
	object_close(o);
	o = make_object(OBJECT_DISK);
	write_cluster(o, 0, 1);
	sync_object(o);
	write_cluster(o, 1, 1);
	sync_object(o);
	object_close(o);
	if (close)
		pool_fixture_close();
}

START_TEST(metadata_older_than_the_log_is_refused)
{
	char meta[PATH_BYTES], old[PATH_BYTES];
	bool closed = _i;

	in_child(old_state, NULL);
	copy_tree(pool_path(meta, "meta"), root_path(old, "meta"));
	if (closed)
		in_child(newer_state, pf.dir);
	else
		in_child_killed(newer_state, NULL);
	replace_contents(meta, old);
	pool_fixture_open_fails(-EUCLEAN, "went back");
}
END_TEST

START_TEST(a_lost_metadata_directory_is_refused)
{
	char meta[PATH_BYTES];
	struct pool *p = NULL;
	struct err e = { 0 };

	in_child(closed_pool, NULL);
	remove_tree(pool_path(meta, "meta"));
	ck_assert_int_lt(pool_open(env_posix(), &pf.options, &p, &e), 0);
	/* And nothing was thrown away for it. */
	ck_assert_uint_gt(sco_count(), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_foreign");
	TCase *t = tcase_create("damage");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, damage_begin);
	tcase_add_test(t, a_missing_ring_of_this_boot_is_an_error_that_names_the_loss);
	tcase_add_test(t, a_missing_ring_record_is_not_a_clean_start);
	tcase_add_loop_test(t, a_damaged_ring_record_is_refused, 0, 3);
	tcase_add_test(t, a_damaged_or_cut_ring_is_refused);
	tcase_add_test(t, a_symbolic_link_in_place_of_the_ring_is_refused);
	tcase_add_test(t, damage_inside_the_ring_is_never_replayed);
	tcase_add_test(t, the_ring_of_another_pool_is_refused);
	tcase_add_test(t, the_ring_record_of_another_pool_is_refused);
	tcase_add_test(t, a_copy_of_a_pool_that_was_not_closed_is_refused);
	tcase_add_test(t, a_pool_that_was_moved_opens_with_its_ring);
	tcase_add_test(t, foreign_and_missing_cache_directories_are_refused);
	tcase_add_test(t, cache_directories_in_another_order_are_refused);
	tcase_add_loop_test(t, metadata_older_than_the_log_is_refused, 0, 2);
	tcase_add_test(t, a_lost_metadata_directory_is_refused);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
