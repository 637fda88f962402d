#include "fs/target.h"

#include "fs/pool_setup.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

START_TEST(a_line_of_mountinfo_is_taken_apart)
{
	struct mount_entry m;

	ck_assert(mount_entry_parse("36 35 0:98 / /mnt rw,noatime shared:1 master:2 - fuse.vpool "
				    "/pool rw,user_id=0\n",
				    &m));
	ck_assert_str_eq(m.mountpoint, "/mnt");
	ck_assert_str_eq(m.type, "fuse.vpool");
	ck_assert_str_eq(m.source, "/pool");
	ck_assert_str_eq(m.super_options, "rw,user_id=0");
	mount_entry_done(&m);
}
END_TEST

START_TEST(escapes_of_the_kernel_are_undone_also_at_the_end)
{
	struct mount_entry m;

	ck_assert(mount_entry_parse("1 2 0:3 / /a\\040b\\134\\012 rw - fuse.vpool /p\\011 rw", &m));
	ck_assert_str_eq(m.mountpoint, "/a b\\\n");
	ck_assert_str_eq(m.source, "/p\t");
	mount_entry_done(&m);
}
END_TEST

START_TEST(what_is_no_line_of_mountinfo_is_refused)
{
	static const char *const lines[] = {
		"", "\n", "36 35 98:0 /", "a b c d e f - g", "a - b c d", "a b c d e f g h"
	};
	struct mount_entry m;

	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		ck_assert_msg(!mount_entry_parse(lines[i], &m), "'%s'", lines[i]);
}
END_TEST

START_TEST(a_directory_contains_itself_and_what_is_below_but_not_its_neighbours)
{
	ck_assert(path_is_inside("/a/b", "/a/b"));
	ck_assert(path_is_inside("/a/b/c", "/a/b"));
	ck_assert(path_is_inside("/a/b/c", "/a/b/"));
	ck_assert(path_is_inside("/a", "/"));
	ck_assert(!path_is_inside("/a/bc", "/a/b"));
	ck_assert(!path_is_inside("/a", "/a/b"));
}
END_TEST

START_TEST(a_directory_that_is_no_pool_is_no_target)
{
	struct target t;
	struct err e = { 0 };

	ck_assert_int_eq(target_find(".", &t, &e), -ENOENT);
	ck_assert_ptr_nonnull(strstr(e.message, "neither"));
	ck_assert_int_eq(target_find("", &t, &e), -ENOENT);
	ck_assert_int_eq(target_find("not-there/at-all", &t, &e), -ENOENT);
}
END_TEST

START_TEST(a_directory_with_a_configuration_is_a_pool)
{
	char dir[] = "target-XXXXXX", path[64];
	struct pool_setup *setup;
	struct target t;
	struct err e = { 0 };
	FILE *f;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/%s", dir, POOL_CONF_NAME);
	f = fopen(path, "w");
	(void)fputs("[cache]\ndir = flash:1G\ndir = /abs:2G\nflush_interval = 2s\n", f);
	(void)fclose(f);

	ck_assert_int_eq(target_find(dir, &t, &e), 0);
	ck_assert_int_eq(t.kind, TARGET_POOL);
	ck_assert_ptr_null(t.mountpoint);
	ck_assert_int_eq(pool_setup_load(dir, &setup, &e), 0);

	ck_assert_uint_eq(setup->options.cache_count, 2);
	ck_assert(path_is_inside(setup->options.cache[0].path, t.pool_dir));
	ck_assert_str_eq(setup->options.cache[1].path, "/abs");
	ck_assert_uint_eq(setup->options.cache[1].size_bytes, UINT64_C(2) << 30);
	ck_assert_uint_eq(setup->options.flush_interval_ns, UINT64_C(2000000000));
	pool_setup_free(setup);
	target_done(&t);
	(void)unlink(path);
	(void)rmdir(dir);
}
END_TEST

START_TEST(a_pool_without_its_configuration_is_refused_not_guessed)
{
	char dir[] = "target-XXXXXX", path[64];
	struct pool_setup *setup;
	struct err e = { 0 };
	FILE *f;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/meta", dir);
	(void)mkdir(path, 0700);
	(void)snprintf(path, sizeof(path), "%s/meta/CURRENT", dir);
	f = fopen(path, "w");
	(void)fclose(f);

	ck_assert_int_eq(pool_setup_load(dir, &setup, &e), -ENOENT);
	ck_assert_ptr_nonnull(strstr(e.message, "is missing"));
	(void)unlink(path);
	*strrchr(path, '/') = '\0';
	(void)rmdir(path);
	(void)rmdir(dir);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/target");
	TCase *t = tcase_create("paths");
	SRunner *r;
	int failed;

	tcase_add_test(t, a_line_of_mountinfo_is_taken_apart);
	tcase_add_test(t, escapes_of_the_kernel_are_undone_also_at_the_end);
	tcase_add_test(t, what_is_no_line_of_mountinfo_is_refused);
	tcase_add_test(t, a_directory_contains_itself_and_what_is_below_but_not_its_neighbours);
	tcase_add_test(t, a_directory_that_is_no_pool_is_no_target);
	tcase_add_test(t, a_directory_with_a_configuration_is_a_pool);
	tcase_add_test(t, a_pool_without_its_configuration_is_refused_not_guessed);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
