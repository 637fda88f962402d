/*
 * The directory store on an environment that is watched and told to fail: what is left after each
 * failure, in which order things are made durable, and what foreign files do to it.
 */
#include "common/crc32c.h"
#include "tests/backend/support_watched.h"

#include <check.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define DAY_NS (INT64_C(24) * 3600 * 1000000000)

/* ---- durability ---------------------------------------------------------------------------- */

START_TEST(a_put_syncs_data_then_names_then_every_directory_up_to_the_root)
{
	ck_assert_int_eq(watched_put("a/b/c", "data", 0), 0);
	ck_assert_str_eq(fx.trace, "create TMP;pwrite;fdatasync;rename /store/a/b/c;"
				   "mkdir /store/a;mkdir /store/a/b;rename /store/a/b/c;"
				   "sync_dir /store/a/b;sync_dir /store/a;sync_dir /store;");
}
END_TEST

START_TEST(a_conditional_put_links_and_says_exists_only_when_that_is_durable)
{
	ck_assert_int_eq(watched_put("a/c", "data", BACKEND_PUT_IF_ABSENT), 0);
	watched_calm();
	ck_assert_int_eq(watched_put("a/c", "other", BACKEND_PUT_IF_ABSENT), -EEXIST);
	ck_assert_str_eq(fx.trace, "create TMP;pwrite;fdatasync;link /store/a/c;rmdir /store/a/c;"
				   "unlink TMP;sync_dir /store/a;sync_dir /store;");
	watched_calm();
	fx.fail_call = "sync_dir";
	fx.fail_code = -EMFILE;
	ck_assert_int_eq(watched_put("a/c", "other", BACKEND_PUT_IF_ABSENT), -EAGAIN);
	ck_assert_str_eq(watched_held("a/c"), "data");
}
END_TEST

START_TEST(a_link_makes_the_source_durable_first)
{
	char path[PATH_MAX + 16];
	struct backend_source source = { .file = watched_source_file("linked", path, sizeof(path)),
					 .file_path = path,
					 .len_bytes = 6 };
	struct backend_put_result result = { .shares_file = false };

	ck_assert_int_eq(fx.s->ops->put(fx.s, "s", &source, 0, &result, &fx.e), 0);
	ck_assert(result.shares_file);
	ck_assert_str_eq(watched_held("s"), "linked");
	ck_assert_uint_eq(watched_tmp_count(), 0);
	env_close(&fx.env, source.file);
}
END_TEST

START_TEST(a_delete_is_durable_also_when_nothing_was_there)
{
	ck_assert_int_eq(watched_put("a/b/c", "x", 0), 0);
	watched_calm();
	ck_assert_int_eq(fx.s->ops->del(fx.s, "a/b/c", &fx.e), 0);
	ck_assert_str_eq(fx.trace, "unlink /store/a/b/c;rmdir /store/a/b;rmdir /store/a;"
				   "sync_dir /store/a/b;sync_dir /store/a;sync_dir /store;");
	ck_assert(!watched_is_there("a"));
	watched_calm();
	fx.fail_call = "sync_dir";
	fx.fail_code = -EIO;
	ck_assert_int_eq(fx.s->ops->del(fx.s, "a/b/c", &fx.e), -EIO);
}
END_TEST

START_TEST(opening_makes_the_root_durable)
{
	fx.s->ops->close(fx.s);
	fx.s = NULL;
	ck_assert_int_eq(nftw(fx.root, watched_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
	ck_assert_int_eq(watched_open_store(), 0);
	ck_assert_ptr_nonnull(strstr(fx.trace, "mkdir /store;mkdir /store/tmp;"));
	ck_assert_ptr_nonnull(strstr(fx.trace, "sync_dir /;sync_dir /store;"));
}
END_TEST

/* ---- failures ------------------------------------------------------------------------------ */

/*
 * Fail the n-th call of a put. However it ends: the object is the old or the new one, whole; after
 * success it is the new one; no unfinished file is left, unless removing it is what failed.
 */
static void put_failing_at(int n, const char *name, const char *old, unsigned int flags)
{
	const char *now;
	bool removal_failed;
	int r;

	watched_calm();
	fx.fail_at = (unsigned int)n;
	fx.fail_code = n % 2 ? -EIO : -ENOSPC;
	r = watched_put(name, "new", flags);
	removal_failed = fx.calls >= fx.fail_at && watched_tmp_count() > 0;
	now = watched_held(name);
	ck_assert_msg(strcmp(now, old) == 0 || strcmp(now, "new") == 0, "holds '%s': %s", now,
		      fx.trace);
	if (r == 0)
		ck_assert_str_eq(now, "new");
	else
		ck_assert_msg(r == fx.fail_code || (r == -EEXIST && *old), "%d: %s", r, fx.trace);
	ck_assert_msg(!removal_failed || strstr(fx.trace, "unlink TMP"), "left: %s", fx.trace);
	watched_calm();
}

START_TEST(any_failing_call_leaves_the_old_object_or_the_new_one)
{
	ck_assert_int_eq(watched_put("a/old", "old", 0), 0);
	put_failing_at(_i, "a/old", "old", 0);
	put_failing_at(_i, "b/new", "", 0);
	put_failing_at(_i, "c/new", "", BACKEND_PUT_IF_ABSENT);
}
END_TEST

START_TEST(any_failing_call_of_a_delete_can_be_made_good)
{
	int r;

	ck_assert_int_eq(watched_put("a/b/c", "x", 0), 0);
	watched_calm();
	fx.fail_at = (unsigned int)_i;
	fx.fail_code = -EIO;
	r = fx.s->ops->del(fx.s, "a/b/c", &fx.e);
	ck_assert(r == 0 || r == -EIO);
	if (r == 0)
		ck_assert_str_eq(watched_held("a/b/c"), "");
	watched_calm();
	ck_assert_int_eq(fx.s->ops->del(fx.s, "a/b/c", &fx.e), 0);
	ck_assert_str_eq(watched_held("a/b/c"), "");
	ck_assert_str_eq(watched_all_names(), "");
}
END_TEST

START_TEST(any_failing_call_of_an_open_is_reported_or_harmless)
{
	int r;

	fx.s->ops->close(fx.s);
	fx.s = NULL;
	watched_calm();
	fx.fail_at = (unsigned int)_i;
	fx.fail_code = -EACCES;
	r = watched_open_store();
	watched_calm();
	if (r < 0) {
		ck_assert_int_eq(r, -EACCES);
		ck_assert_ptr_nonnull(strstr(fx.e.message, fx.dir));
		ck_assert_ptr_null(fx.s);
	} else {
		ck_assert_int_eq(watched_put("a", "x", 0), 0);
	}
}
END_TEST

START_TEST(a_full_disk_is_no_space_and_does_not_stop_reads_and_deletes)
{
	ck_assert_int_eq(watched_put("a", "x", 0), 0);
	fx.fail_call = "create";
	fx.fail_code = -EDQUOT;
	ck_assert_int_eq(watched_put("b", "y", 0), -ENOSPC);
	fx.s->ops->close(fx.s);
	ck_assert_int_eq(watched_open_store(), 0);
	ck_assert_uint_eq(fx.s->caps, BACKEND_CAP_PUT_IF_ABSENT | BACKEND_CAP_LINK);
	ck_assert_str_eq(watched_held("a"), "x");
	ck_assert_int_eq(fx.s->ops->del(fx.s, "a", &fx.e), 0);
}
END_TEST

static bool mount_small_tmpfs(void)
{
	return unshare(CLONE_NEWNS) == 0 &&
	       mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("tmpfs", fx.root, "tmpfs", 0, "size=256k") == 0;
}

/* With a real small filesystem where this user may mount one, in a name space of the test. */
START_TEST(a_filesystem_that_is_really_full_refuses_whole_objects_only)
{
	size_t len_bytes = 100000;
	char *data = calloc(1, len_bytes);
	struct backend_source source = { .data = data, .len_bytes = len_bytes };
	struct backend_put_result result;
	unsigned int stored = 0;
	char name[16];
	int r;

	if (mount_small_tmpfs()) {
		watched_reopen();
		do {
			(void)snprintf(name, sizeof(name), "o%u", stored);
			r = fx.s->ops->put(fx.s, name, &source, 0, &result, &fx.e);
		} while (r == 0 && ++stored < 10);
		ck_assert_int_eq(r, -ENOSPC);
		ck_assert_uint_eq(stored, 2);
		ck_assert_uint_eq(watched_tmp_count(), 0);
		ck_assert_str_eq(watched_all_names(), "o0 o1 ");
		ck_assert_int_eq(fx.s->ops->del(fx.s, "o0", &fx.e), 0);
		ck_assert_int_eq(fx.s->ops->put(fx.s, "o2", &source, 0, &result, &fx.e), 0);
		ck_assert_int_eq(umount2(fx.root, MNT_DETACH), 0);
	}
	free(data);
}
END_TEST

START_TEST(a_directory_that_cannot_be_written_gives_one_clear_error)
{
	static const struct {
		const char *call;
		int code;
	} walls[] = { { "mkdir", -EACCES }, { "create", -EACCES }, { "create", -EROFS } };

	fx.s->ops->close(fx.s);
	fx.s = NULL;
	for (size_t i = 0; i < ARRAY_SIZE(walls); i++) {
		watched_calm();
		fx.fail_call = walls[i].call;
		fx.fail_code = walls[i].code;
		ck_assert_int_eq(watched_open_store(), walls[i].code);
		ck_assert_ptr_nonnull(strstr(fx.e.message, fx.root));
		ck_assert_ptr_nonnull(strstr(fx.e.message, err_name(walls[i].code)));
	}
}
END_TEST

START_TEST(a_missing_parent_and_a_file_in_the_way_are_refused)
{
	static const struct backend_options options;
	struct store *s = NULL;
	char url[sizeof(fx.url) + 16];

	(void)snprintf(url, sizeof(url), "%s/no/deep", fx.url);
	ck_assert_int_eq(store_open(&fx.env, url, &options, &s, &fx.e), -ENOENT);
	watched_make_file("plain");
	(void)snprintf(url, sizeof(url), "%s/plain", fx.url);
	ck_assert_int_eq(store_open(&fx.env, url, &options, &s, &fx.e), -ENOTDIR);
	ck_assert_ptr_null(s);
}
END_TEST

START_TEST(an_unmounted_store_is_away_not_empty)
{
	struct backend_object object;
	char names[1000] = "", away[PATH_MAX + 16], byte;

	(void)snprintf(away, sizeof(away), "%s/away", fx.dir);
	ck_assert_int_eq(watched_put("a", "x", 0), 0);
	/* As if the mount point's own, empty directory had come to light. */
	ck_assert_int_eq(rename(fx.root, away), 0);
	ck_assert_int_eq(mkdir(fx.root, 0700), 0);
	ck_assert_int_eq(fx.s->ops->get(fx.s, "a", 0, &byte, 1, &fx.e), -EAGAIN);
	ck_assert_int_eq(fx.s->ops->head(fx.s, "a", &object, &fx.e), -EAGAIN);
	ck_assert_int_eq(fx.s->ops->list(fx.s, "", NULL, 9, watched_join_name, names, &fx.e),
			 -EAGAIN);
	ck_assert_int_eq(fx.s->ops->del(fx.s, "a", &fx.e), -EAGAIN);
	ck_assert_int_eq(watched_put("b", "x", 0), -EAGAIN);
	ck_assert_int_eq(rmdir(fx.root), 0);
	ck_assert_int_eq(watched_put("b", "x", 0), -EAGAIN);
	ck_assert_int_eq(rename(away, fx.root), 0);
	ck_assert_str_eq(watched_held("a"), "x");
}
END_TEST

/* ---- left-overs and foreign files ---------------------------------------------------------- */

static void make_left_over(int64_t age_ns, char ret_name[64])
{
	(void)snprintf(ret_name, 64, "tmp/%016" PRIx64 "-%016x",
		       (uint64_t)(env_now_real_ns(&fx.env) - age_ns), 7u);
	watched_make_file(ret_name);
}

START_TEST(only_old_left_overs_of_ours_are_removed)
{
	static const char *const foreign[] = { "tmp/mine", "tmp/0000000000000000-00000000000000000",
					       "tmp/0000000000000000_0000000000000000",
					       "tmp/000000000000000G-0000000000000000" };
	char old[64], young[64], future[64];

	make_left_over(DAY_NS + DAY_NS / 24, old);
	make_left_over(DAY_NS - DAY_NS / 24, young);
	make_left_over(-DAY_NS, future);
	for (size_t i = 0; i < ARRAY_SIZE(foreign); i++)
		watched_make_file(foreign[i]);
	ck_assert_int_eq(watched_put("a", "x", 0), 0);
	watched_reopen();
	ck_assert(!watched_is_there(old));
	ck_assert(watched_is_there(young));
	ck_assert(watched_is_there(future));
	for (size_t i = 0; i < ARRAY_SIZE(foreign); i++)
		ck_assert(watched_is_there(foreign[i]));
	ck_assert_str_eq(watched_all_names(), "a ");
}
END_TEST

START_TEST(foreign_files_are_no_objects)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "file-socket" };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(watched_put("dir/real", "x", 0), 0);
	ck_assert_int_eq(mkdir(watched_at_root("empty"), 0700), 0);
	ck_assert_int_eq(symlink(watched_at_root("dir/real"), watched_at_root("link")), 0);
	ck_assert_int_eq(symlink(watched_at_root("dir"), watched_at_root("linked-dir")), 0);
	watched_make_file("caf\xc3\xa9");
	watched_make_file("new\nline");
	(void)unlink(address.sun_path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(rename(address.sun_path, watched_at_root("socket")), 0);

	ck_assert_str_eq(watched_all_names(), "dir/real ");
	ck_assert_str_eq(watched_held("link"), "");
	ck_assert_str_eq(watched_held("socket"), "");
	ck_assert_str_eq(watched_held("empty"), "");
	/* An empty directory, as a crash may leave one, is not in the way of an object. */
	ck_assert_int_eq(watched_put("empty", "y", 0), 0);
	ck_assert_str_eq(watched_held("empty"), "y");
	ck_assert_int_eq(close(fd), 0);
}
END_TEST

/* ---- ways to copy -------------------------------------------------------------------------- */

static void put_source(struct backend_source *source, bool shares, const char *expected)
{
	struct backend_put_result result = { .shares_file = !shares };

	ck_assert_msg(fx.s->ops->put(fx.s, "copy", source, 0, &result, &fx.e) == 0, "%s",
		      fx.e.message);
	ck_assert_int_eq(result.shares_file, shares);
	ck_assert_str_eq(watched_held("copy"), expected);
	ck_assert_uint_eq(watched_tmp_count(), 0);
}

START_TEST(where_linking_is_refused_bytes_are_copied_and_checked)
{
	static const int codes[] = { -EXDEV, -EPERM, -EMLINK, -EOPNOTSUPP };
	char path[PATH_MAX + 16];
	struct backend_source source = { .file = watched_source_file("content", path, sizeof(path)),
					 .file_path = path,
					 .len_bytes = 7,
					 .crc32c = crc32c(0, "content", 7),
					 .has_crc = true };
	struct backend_put_result result;

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		watched_calm();
		fx.fail_call = "link";
		fx.fail_code = codes[i];
		put_source(&source, false, "content");
	}
	source.crc32c++;
	ck_assert_int_eq(fx.s->ops->put(fx.s, "copy", &source, 0, &result, &fx.e), -EBADMSG);
	ck_assert_uint_eq(watched_tmp_count(), 0);
	ck_assert_str_eq(watched_held("copy"), "content");
	env_close(&fx.env, source.file);
}
END_TEST

START_TEST(a_path_that_means_another_file_by_now_is_not_linked)
{
	char path[PATH_MAX + 16];
	struct backend_source source = { .file = watched_source_file("content", path, sizeof(path)),
					 .file_path = path,
					 .len_bytes = 7 };
	struct env_file *other;

	ck_assert_int_eq(unlink(path), 0);
	put_source(&source, false, "content"); /* the path means nothing */
	other = watched_source_file("changed", path, sizeof(path));
	put_source(&source, false, "content");
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(symlink("elsewhere", path), 0);
	put_source(&source, false, "content");
	env_close(&fx.env, other);
	env_close(&fx.env, source.file);
}
END_TEST

START_TEST(a_second_copy_is_never_made_by_sharing_blocks)
{
	char path[PATH_MAX + 16];
	struct backend_source source = { .file_path = path, .len_bytes = 7 };

	fx.options.copy_mode = BACKEND_COPY_BYTES;
	watched_reopen();
	source.file = watched_source_file("content", path, sizeof(path));
	ck_assert_uint_eq(fx.s->caps, BACKEND_CAP_PUT_IF_ABSENT);
	put_source(&source, false, "content");
	ck_assert_ptr_null(strstr(fx.trace, "reflink"));
	ck_assert_ptr_null(strstr(fx.trace, "copy_range"));
	ck_assert_ptr_null(strstr(fx.trace, "link TMP"));
	env_close(&fx.env, source.file);
}
END_TEST

START_TEST(a_copy_falls_back_from_reflink_to_kernel_to_bytes)
{
	char path[PATH_MAX + 16];
	struct backend_source source = { .file_path = path, .len_bytes = 7 };

	fx.options.copy_mode = BACKEND_COPY_REFLINK;
	watched_reopen();
	source.file = watched_source_file("content", path, sizeof(path));
	put_source(&source, false, "content");
	ck_assert_ptr_nonnull(strstr(fx.trace, "reflink"));
	watched_calm();
	fx.fail_call = "reflink";
	fx.fail_code = -EOPNOTSUPP;
	put_source(&source, false, "content");
	ck_assert_ptr_nonnull(strstr(fx.trace, "reflink;copy_range;"));
	watched_calm();
	fx.fail_call = "copy_range";
	fx.fail_code = -EIO;
	put_source(&source, false, "content");
	ck_assert_ptr_nonnull(strstr(fx.trace, "pwrite;fdatasync"));
	env_close(&fx.env, source.file);
}
END_TEST

START_TEST(a_filesystem_without_links_has_neither_claims_nor_sharing)
{
	fx.s->ops->close(fx.s);
	fx.fail_call = "link";
	fx.fail_code = -EPERM;
	ck_assert_int_eq(watched_open_store(), 0);
	ck_assert_uint_eq(fx.s->caps, 0);
	ck_assert_int_eq(watched_put("a", "x", 0), 0);
	ck_assert_str_eq(watched_held("a"), "x");
}
END_TEST

/* ---- large directories --------------------------------------------------------------------- */

static int expect_next(void *arg, const char *name, const struct backend_object *object)
{
	unsigned int *next = arg;
	char expected[64];

	(void)object;
	(void)snprintf(expected, sizeof(expected), *next < 9000 ? "big/%06u" : "big/%06u/x", *next);
	ck_assert_str_eq(name, expected);
	++*next;
	return 0;
}

/* More names than are held in memory, with directories behind the first of them. */
START_TEST(a_directory_larger_than_the_window_is_listed_whole_and_in_order)
{
	unsigned int next = 0;

	fx.quiet = true;
	ck_assert_int_eq(mkdir(watched_at_root("big"), 0700), 0);
	for (unsigned int i = 0; i < 9100; i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "big/%06u", i);
		if (i >= 9000) {
			ck_assert_int_eq(mkdir(watched_at_root(name), 0700), 0);
			(void)snprintf(name, sizeof(name), "big/%06u/x", i);
		}
		watched_make_file(name);
	}
	ck_assert_int_eq(fx.s->ops->list(fx.s, "", NULL, 20000, expect_next, &next, &fx.e), 9100);
	next = 5000;
	ck_assert_int_eq(fx.s->ops->list(fx.s, "b", "big/004999", 4050, expect_next, &next, &fx.e),
			 4050);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("backend/backend_file");
	TCase *tc = tcase_create("directory");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, watched_setup, watched_teardown);
	tcase_add_test(tc, a_put_syncs_data_then_names_then_every_directory_up_to_the_root);
	tcase_add_test(tc, a_conditional_put_links_and_says_exists_only_when_that_is_durable);
	tcase_add_test(tc, a_link_makes_the_source_durable_first);
	tcase_add_test(tc, a_delete_is_durable_also_when_nothing_was_there);
	tcase_add_test(tc, opening_makes_the_root_durable);
	tcase_add_loop_test(tc, any_failing_call_leaves_the_old_object_or_the_new_one, 1, 16);
	tcase_add_loop_test(tc, any_failing_call_of_a_delete_can_be_made_good, 1, 8);
	tcase_add_loop_test(tc, any_failing_call_of_an_open_is_reported_or_harmless, 1, 12);
	tcase_add_test(tc, a_full_disk_is_no_space_and_does_not_stop_reads_and_deletes);
	tcase_add_test(tc, a_filesystem_that_is_really_full_refuses_whole_objects_only);
	tcase_add_test(tc, a_directory_that_cannot_be_written_gives_one_clear_error);
	tcase_add_test(tc, a_missing_parent_and_a_file_in_the_way_are_refused);
	tcase_add_test(tc, an_unmounted_store_is_away_not_empty);
	tcase_add_test(tc, only_old_left_overs_of_ours_are_removed);
	tcase_add_test(tc, foreign_files_are_no_objects);
	tcase_add_test(tc, where_linking_is_refused_bytes_are_copied_and_checked);
	tcase_add_test(tc, a_path_that_means_another_file_by_now_is_not_linked);
	tcase_add_test(tc, a_second_copy_is_never_made_by_sharing_blocks);
	tcase_add_test(tc, a_copy_falls_back_from_reflink_to_kernel_to_bytes);
	tcase_add_test(tc, a_filesystem_without_links_has_neither_claims_nor_sharing);
	tcase_add_test(tc, a_directory_larger_than_the_window_is_listed_whole_and_in_order);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
