/* Cache directories: labels, files by stream, SCO and version, and the space they take. */
#include "volume/flash.h"

#include "support_pool.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct uuid pool = { { 9, 8, 7 } };
static char paths[3][PATH_BYTES];
static struct flash_dir_option dirs[3];
static struct flash *flash;

static void begin(void)
{
	static const char *const names[] = { "a", "b", "c" };

	for (unsigned int i = 0; i < 3; i++)
		dirs[i] = (struct flash_dir_option){ .path = root_path(paths[i], names[i]),
						     .size_bytes = 10 * MIB };
	flash = NULL;
}

static void open_flash(unsigned int count, bool make)
{
	struct err e = { 0 };

	ck_assert_msg(flash_open(env_posix(), &pool, dirs, count, 0, make, &flash, &e) == 0, "%s",
		      e.message);
}

static void open_fails(unsigned int count, bool make, int code, const char *text)
{
	struct flash *f = NULL;
	struct err e = { 0 };

	ck_assert_int_eq(flash_open(env_posix(), &pool, dirs, count, 0, make, &f, &e), code);
	ck_assert_ptr_null(f);
	ck_assert_msg(strstr(e.message, text), "'%s' says nothing of '%s'", e.message, text);
}

static int create(uint64_t sco, uint64_t len, bool urgent, uint32_t *ret_dir)
{
	struct env_file *f;
	int r = flash_create(flash, 16, sco, 0, len, urgent, &f, ret_dir, NULL);

	if (r == 0)
		env_close(env_posix(), f);
	return r;
}

START_TEST(labels_are_made_once_and_checked_afterwards)
{
	open_flash(2, true);
	flash_close(flash);
	open_fails(2, true, -EEXIST, "label");
	open_flash(2, false);
	flash_close(flash);
}
END_TEST

START_TEST(no_directory_and_too_many_are_refused)
{
	open_fails(0, true, -EINVAL, "0 cache directories");
}
END_TEST

START_TEST(a_wrong_or_missing_label_is_refused)
{
	char label[PATH_BYTES];
	struct flash_dir_option first;

	open_flash(2, true);
	flash_close(flash);
	first = dirs[0];
	dirs[0] = dirs[1];
	dirs[1] = first;
	open_fails(2, false, -EUCLEAN, "cache directory 1 of the pool, not 0");
	dirs[1] = dirs[0];
	dirs[0] = first;
	flip_bit(root_path(label, "b/label"), 50, 0);
	open_fails(2, false, -EBADMSG, "b/label");
	cut_file(label, 64);
	open_fails(2, false, -EUCLEAN, "b/label");
	ck_assert_int_eq(unlink(label), 0);
	open_fails(2, false, -ENOENT, "mounted");
}
END_TEST

START_TEST(new_files_go_round_the_directories)
{
	unsigned int in[3] = { 0 };
	uint32_t dir;

	open_flash(3, true);
	for (uint64_t i = 1; i <= 12; i++) {
		ck_assert_int_eq(create(i, MIB, false, &dir), 0);
		in[dir]++;
	}
	for (unsigned int i = 0; i < 3; i++)
		ck_assert_uint_eq(in[i], 4);
	ck_assert_uint_eq(flash_used_bytes(flash), 12 * MIB);
	ck_assert_uint_eq(flash_size_bytes(flash), 30 * MIB);
	flash_close(flash);
}
END_TEST

START_TEST(a_full_directory_is_passed_over_and_when_all_are_full_it_is_said)
{
	uint32_t dir;

	dirs[1].size_bytes = 2 * MIB;
	open_flash(2, true);
	for (uint64_t i = 1; i <= 12; i++)
		ck_assert_int_eq(create(i, MIB, false, &dir), 0);
	ck_assert(!flash_has_room(flash, MIB));
	ck_assert_int_eq(create(13, MIB, false, &dir), -EAGAIN);
	ck_assert_int_eq(create(13, MIB, true, &dir), 0); /* urgent goes over the limit */
	ck_assert_int_eq(flash_delete(flash, 1, 16, 99999, 0, 0, NULL), 0); /* not there: fine */
	flash_close(flash);
}
END_TEST

START_TEST(deleting_gives_the_space_back_and_the_name_too)
{
	uint32_t dir;
	char *path;

	open_flash(1, true);
	for (uint64_t i = 1; i <= 10; i++)
		ck_assert_int_eq(create(i, MIB, false, &dir), 0);
	ck_assert(!flash_has_room(flash, 4096));
	path = flash_path(flash, dir, 16, 3, 0);
	ck_assert_uint_eq(file_size(path), MIB);
	ck_assert_int_eq(flash_delete(flash, dir, 16, 3, 0, MIB, NULL), 0);
	ck_assert_int_ne(access(path, F_OK), 0);
	ck_assert(flash_has_room(flash, MIB));
	ck_assert_int_eq(create(3, MIB, false, &dir), 0);
	flash_account(flash, 0, MIB, 4096); /* sealed: it was cut */
	ck_assert_uint_eq(flash_used_bytes(flash), 9 * MIB + 4096);
	flash_discard(flash, dir, 16, 3, 0, 4096);
	ck_assert_uint_eq(flash_used_bytes(flash), 9 * MIB);
	free(path);
	flash_close(flash);
}
END_TEST

START_TEST(a_file_that_exists_is_not_written_over)
{
	uint32_t dir;

	open_flash(1, true);
	ck_assert_int_eq(create(5, MIB, false, &dir), 0);
	ck_assert_int_eq(create(5, MIB, false, &dir), -EEXIST);
	ck_assert_uint_eq(flash_used_bytes(flash), MIB);
	flash_close(flash);
}
END_TEST

START_TEST(the_free_space_of_the_filesystem_counts_where_no_size_is_given)
{
	struct env_space space;
	uint32_t dir;

	dirs[0].size_bytes = 0;
	ck_assert_int_eq(mkdir(dirs[0].path, 0700), 0);
	ck_assert_int_eq(env_space(env_posix(), dirs[0].path, &space), 0);
	open_flash(1, true);
	ck_assert_uint_eq(flash_size_bytes(flash), space.total_bytes);
	ck_assert(flash_has_room(flash, MIB));
	ck_assert(!flash_has_room(flash, space.total_bytes));
	ck_assert_int_eq(create(1, space.total_bytes, true, &dir), -EAGAIN);
	ck_assert_uint_eq(flash_used_bytes(flash), 0);
	flash_close(flash);
	ck_assert_int_eq(flash_open(env_posix(), &pool, dirs, 1, space.total_bytes, false, &flash,
				    NULL),
			 0);
	ck_assert(!flash_has_room(flash, 4096)); /* all of it is reserve */
	ck_assert_int_eq(create(1, MIB, false, &dir), -EAGAIN);
	ck_assert_int_eq(create(1, MIB, true, &dir), 0);
	flash_close(flash);
}
END_TEST

struct listed {
	unsigned int count;
	uint64_t sum;
	int result;
};

static int note(void *arg, uint32_t dir, uint32_t stream, uint64_t sco, uint32_t version)
{
	struct listed *l = arg;

	ck_assert_uint_lt(dir, 2);
	ck_assert_uint_eq(stream, 16);
	ck_assert_uint_eq(version, 0);
	l->count++;
	l->sum += sco;
	return l->result;
}

START_TEST(listing_finds_all_files_and_leaves_foreign_ones)
{
	struct listed l = { 0 }, stopped = { .result = -EINTR };
	char path[PATH_BYTES];
	uint32_t dir;

	open_flash(2, true);
	for (uint64_t i = 1; i <= 9; i++)
		ck_assert_int_eq(create(i, 64 * KIB, false, &dir), 0);
	make_file(root_path(path, "a/sco/readme"), "x", 1);
	make_file(root_path(path, "b/sco/00000010-000000001-0000000"), "x", 1);
	ck_assert_int_eq(flash_list(flash, note, &l, NULL), 0);
	ck_assert_uint_eq(l.count, 9);
	ck_assert_uint_eq(l.sum, 45);
	ck_assert_int_eq(flash_list(flash, note, &stopped, NULL), -EINTR);
	ck_assert_uint_eq(stopped.count, 1);
	flash_close(flash);
}
END_TEST

START_TEST(a_file_can_be_opened_again_by_its_numbers)
{
	uint8_t *mem = pattern_mem(4096, 1), *back = aligned_mem(4096);
	struct env_file *f;
	uint32_t dir;

	open_flash(1, true);
	ck_assert_int_eq(create(7, MIB, false, &dir), 0);
	ck_assert_int_eq(flash_open_file(flash, dir, 16, 7, 0, true, &f, NULL), 0);
	ck_assert_int_eq(env_pwrite(env_posix(), f, mem, 4096, 8192), 0);
	env_close(env_posix(), f);
	ck_assert_int_eq(flash_sync_names(flash, dir, NULL), 0);
	ck_assert_int_eq(flash_open_file(flash, dir, 16, 7, 0, false, &f, NULL), 0);
	ck_assert_int_eq(env_pread(env_posix(), f, back, 4096, 8192), 4096);
	ck_assert_int_eq(memcmp(mem, back, 4096), 0);
	ck_assert_int_lt(env_pwrite(env_posix(), f, mem, 4096, 0), 0);
	env_close(env_posix(), f);
	ck_assert_int_eq(flash_open_file(flash, dir, 16, 7, 1, false, &f, NULL), -ENOENT);
	flash_close(flash);
	free(mem);
	free(back);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("flash");
	TCase *t = tcase_create("flash");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_test(t, labels_are_made_once_and_checked_afterwards);
	tcase_add_test(t, no_directory_and_too_many_are_refused);
	tcase_add_test(t, a_wrong_or_missing_label_is_refused);
	tcase_add_test(t, new_files_go_round_the_directories);
	tcase_add_test(t, a_full_directory_is_passed_over_and_when_all_are_full_it_is_said);
	tcase_add_test(t, deleting_gives_the_space_back_and_the_name_too);
	tcase_add_test(t, a_file_that_exists_is_not_written_over);
	tcase_add_test(t, the_free_space_of_the_filesystem_counts_where_no_size_is_given);
	tcase_add_test(t, listing_finds_all_files_and_leaves_foreign_ones);
	tcase_add_test(t, a_file_can_be_opened_again_by_its_numbers);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
