/* fs/fuse_reply and fs/fuse_mountpoint: what the kernel is told, and what is mounted upon. */
#include "fs/fuse_impl.h"
#include "fs/fuse_mountpoint.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct fs_session session;

START_TEST(house_codes_become_io_errors)
{
	ck_assert_int_eq(fs_errno(-EBADMSG), EIO);
	ck_assert_int_eq(fs_errno(-EUCLEAN), EIO);
	ck_assert_int_eq(fs_errno(-ESHUTDOWN), EIO);
	ck_assert_int_eq(fs_errno(-EPROTONOSUPPORT), EIO);
}
END_TEST

START_TEST(codes_of_the_system_stay_what_they_are)
{
	ck_assert_int_eq(fs_errno(-ENOENT), ENOENT);
	ck_assert_int_eq(fs_errno(-ESTALE), ESTALE);
	ck_assert_int_eq(fs_errno(-ENOSPC), ENOSPC);
	ck_assert_int_eq(fs_errno(0), 0);
}
END_TEST

START_TEST(attributes_are_shown_as_stat_has_them)
{
	const struct ns_attr attr = {
		.ino = 17,
		.mode = S_IFREG | 0640,
		.nlink = 2,
		.uid = 3,
		.gid = 4,
		.size_bytes = 10000,
		.allocated_bytes = 8192,
		.mtime_ns = INT64_C(1500000000123456789),
		.class = OBJECT_DISK,
	};
	struct stat st;

	fs_attr_to_stat(&session, &attr, &st);
	ck_assert_uint_eq(st.st_ino, 17);
	ck_assert_uint_eq(st.st_mode, S_IFREG | 0640);
	ck_assert_uint_eq(st.st_nlink, 2);
	ck_assert_int_eq(st.st_size, 10000);
	ck_assert_int_eq(st.st_blocks, 16);
	ck_assert_int_eq(st.st_mtim.tv_sec, 1500000000);
	ck_assert_int_eq(st.st_mtim.tv_nsec, 123456789);
}
END_TEST

START_TEST(file_that_may_have_data_never_shows_that_it_has_none)
{
	struct ns_attr attr = { .mode = S_IFREG, .size_bytes = 1 };
	struct stat st;

	fs_attr_to_stat(&session, &attr, &st);
	ck_assert_int_eq(st.st_blocks, 1);
	attr.size_bytes = 0;
	fs_attr_to_stat(&session, &attr, &st);
	ck_assert_int_eq(st.st_blocks, 0);
}
END_TEST

START_TEST(times_before_1970_have_positive_nanoseconds)
{
	const struct ns_attr attr = { .atime_ns = -1, .ctime_ns = -INT64_C(2000000000) };
	struct stat st;

	fs_attr_to_stat(&session, &attr, &st);
	ck_assert_int_eq(st.st_atim.tv_sec, -1);
	ck_assert_int_eq(st.st_atim.tv_nsec, 999999999);
	ck_assert_int_eq(st.st_ctim.tv_sec, -2);
	ck_assert_int_eq(st.st_ctim.tv_nsec, 0);
}
END_TEST

START_TEST(kernel_never_trusts_the_attributes_of_a_disk)
{
	struct ns_attr attr = { .ino = 17, .mode = S_IFREG, .class = OBJECT_DISK };
	struct fuse_entry_param entry;

	fs_attr_to_entry(&session, &attr, &entry);
	ck_assert(entry.attr_timeout <= 0);
	ck_assert(entry.entry_timeout > 0);
	attr.class = OBJECT_FILE;
	fs_attr_to_entry(&session, &attr, &entry);
	ck_assert(entry.attr_timeout > 0 && entry.attr_timeout <= 1);
	ck_assert_uint_eq(entry.generation, 0);
}
END_TEST

START_TEST(disks_bypass_the_page_cache_and_files_keep_it)
{
	struct ns_attr attr = { .ino = 17, .mode = S_IFREG, .class = OBJECT_DISK };
	struct fuse_file_info disk = { 0 }, file = { 0 };

	fs_fill_open(&attr, &disk);
	attr.class = OBJECT_FILE;
	fs_fill_open(&attr, &file);
	ck_assert(disk.direct_io && !disk.keep_cache);
	ck_assert(!file.direct_io && file.keep_cache);
	ck_assert_uint_eq(disk.fh, 17);
}
END_TEST

START_TEST(mount_point_must_be_a_directory_that_is_there)
{
	struct err e = { 0 };
	FILE *f;

	ck_assert_int_eq(mountpoint_prepare("not-there", &e), -ENOENT);
	f = fopen("a-file", "we");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_int_eq(mountpoint_prepare("a-file", &e), -ENOTDIR);
	ck_assert_int_eq(unlink("a-file"), 0);
	ck_assert_int_eq(mountpoint_prepare(".", &e), 0);
}
END_TEST

START_TEST(full_blocks_are_reported_for_files_only_where_that_was_asked_for)
{
	struct ns_attr attr = { .mode = S_IFREG | 0644, .size_bytes = 1 << 20 };
	struct fs_session full = { .report_full = true };
	struct stat st;

	fs_attr_to_stat(&session, &attr, &st);
	ck_assert_int_eq(st.st_blocks, 1);
	fs_attr_to_stat(&full, &attr, &st);
	ck_assert_int_eq(st.st_blocks, 2048);
	attr.mode = S_IFDIR | 0755;
	fs_attr_to_stat(&full, &attr, &st);
	ck_assert_int_eq(st.st_blocks, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/fuse_reply");
	TCase *c = tcase_create("replies");
	SRunner *runner;
	int failed;

	tcase_add_test(c, house_codes_become_io_errors);
	tcase_add_test(c, codes_of_the_system_stay_what_they_are);
	tcase_add_test(c, attributes_are_shown_as_stat_has_them);
	tcase_add_test(c, file_that_may_have_data_never_shows_that_it_has_none);
	tcase_add_test(c, times_before_1970_have_positive_nanoseconds);
	tcase_add_test(c, kernel_never_trusts_the_attributes_of_a_disk);
	tcase_add_test(c, disks_bypass_the_page_cache_and_files_keep_it);
	tcase_add_test(c, mount_point_must_be_a_directory_that_is_there);
	tcase_add_test(c, full_blocks_are_reported_for_files_only_where_that_was_asked_for);
	suite_add_tcase(s, c);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
