/* Open files, files without names, classes, paths and the list of files. */
#include "common/units.h"
#include "fs/ns_impl.h"
#include "support_ns.h"

#include <stdio.h>
#include <stdlib.h>

#define ROOT NS_ROOT_INO

static uint64_t value_of(const struct counter *c)
{
	return counter_get(c);
}

/* --- without a name ---------------------------------------------------------------------------- */

START_TEST(an_open_file_outlives_its_name)
{
	struct ns_attr a;
	uint64_t f;

	must(t_create(ROOT, "f"));
	f = t_ino("f");
	must(ns_handle_open(nf.ns, f, &a, &t_err));
	must(ns_handle_open(nf.ns, f, &a, &t_err));
	must(t_unlink(ROOT, "f"));
	t_write(f, 0, "still here");
	ck_assert_str_eq(t_read(f), "still here");
	ck_assert_uint_eq(t_attr(f).nlink, 0);
	ns_fixture_check();
	ns_handle_release(nf.ns, f);
	ck_assert_str_eq(t_read(f), "still here");
	ns_handle_release(nf.ns, f);
	gives(ns_getattr(nf.ns, f, &a, NULL), -ESTALE);
	ck_assert_uint_eq(value_of(&ns_metrics(nf.ns)->orphans), 1);
	ck_assert_uint_eq(value_of(&ns_metrics(nf.ns)->reclaims), 1);
}
END_TEST

START_TEST(a_known_inode_outlives_its_name_until_it_is_forgotten)
{
	struct ns_attr a;
	uint64_t d, f;

	must(t_mkdir(ROOT, "d"));
	must(t_create(ROOT, "f"));
	for (int i = 0; i < 3; i++)
		must(ns_lookup(nf.ns, ROOT, "f", 1, &a, &t_err));
	must(ns_lookup(nf.ns, ROOT, "d", 1, &a, &t_err));
	d = t_ino("d");
	f = t_ino("f");
	must(t_rmdir(ROOT, "d"));
	must(t_mkdir(ROOT, "e"));
	must(t_create(ROOT, "g"));
	must(t_rename(ROOT, "g", ROOT, "f", 0));
	ck_assert_uint_eq(t_attr(f).nlink, 0);
	ck_assert_uint_eq(t_attr(d).nlink, 0);
	ns_forget(nf.ns, f, 2);
	ck_assert_uint_eq(t_attr(f).nlink, 0);
	ns_forget(nf.ns, f, 5); /* more than there are */
	ns_forget(nf.ns, d, 1);
	gives(ns_getattr(nf.ns, f, &a, NULL), -ESTALE);
	gives(ns_getattr(nf.ns, d, &a, NULL), -ESTALE);
	ns_forget(nf.ns, f, 1);
	ns_handle_release(nf.ns, f);
}
END_TEST

START_TEST(a_new_session_removes_what_the_old_one_held)
{
	struct ns_attr a;
	struct object *o;
	uint64_t f;

	for (int i = 0; i < 600; i++) { /* more than are removed at once */
		char name[16];

		(void)snprintf(name, sizeof(name), "f%d", i);
		must(t_create(ROOT, name));
		f = t_ino(name);
		must(ns_handle_open(nf.ns, f, &a, &t_err));
		must(ns_xattr_set(nf.ns, f, "user.x", "y", 1, 0, &t_err));
		must(t_unlink(ROOT, name));
	}
	ns_fixture_reopen();
	gives(ns_getattr(nf.ns, f, &a, NULL), -ESTALE);
	gives(object_open(nf.pool, f, &o, NULL), -ENOENT);
}
END_TEST

START_TEST(a_removed_file_goes_with_its_last_request)
{
	struct object *o;
	struct ns_attr a;
	uint64_t f;

	must(t_create(ROOT, "f"));
	f = t_ino("f");
	must(ns_object_get(nf.ns, f, &o, &t_err));
	must(t_unlink(ROOT, "f"));
	must(object_write(o, 0, "x", 1, &t_err));
	ns_object_put(nf.ns, f);
	gives(ns_getattr(nf.ns, f, &a, NULL), -ESTALE);
}
END_TEST

START_TEST(only_files_and_directories_have_handles_and_only_files_objects)
{
	struct object *o;
	struct ns_attr a;

	must(ns_create(nf.ns, ROOT, "p", 1, &(struct ns_new){ .mode = S_IFIFO | 0600 }, &a,
		       &t_err));
	gives(ns_handle_open(nf.ns, a.ino, &a, NULL), -ENXIO);
	gives(ns_object_get(nf.ns, a.ino, &o, NULL), -EINVAL);
	gives(ns_object_get(nf.ns, ROOT, &o, NULL), -EISDIR);
	gives(ns_handle_open(nf.ns, 565656, &a, NULL), -ESTALE);
	must(ns_handle_open(nf.ns, ROOT, &a, &t_err));
	ns_handle_release(nf.ns, ROOT);
}
END_TEST

/* --- classes ----------------------------------------------------------------------------------- */

START_TEST(the_name_decides_the_class)
{
	nf.options.disk_patterns = "  *.raw\t*-flat.vmdk disk? ";
	ns_fixture_reopen();
#define CLASS(name) ns_class_of_name(nf.ns, name, strlen(name))
	ck_assert_int_eq(CLASS("a.raw"), OBJECT_DISK);
	ck_assert_int_eq(CLASS(".raw"), OBJECT_DISK);
	ck_assert_int_eq(CLASS("a.raw2"), OBJECT_FILE);
	ck_assert_int_eq(CLASS("x-flat.vmdk"), OBJECT_DISK);
	ck_assert_int_eq(CLASS("disk1"), OBJECT_DISK);
	ck_assert_int_eq(CLASS("disk"), OBJECT_FILE);
	must(t_create(ROOT, "a.raw"));
	must(t_create(ROOT, "b"));
	ck_assert_int_eq(t_attr(t_ino("a.raw")).class, OBJECT_DISK);
	ck_assert_int_eq(t_attr(t_ino("b")).class, OBJECT_FILE);
}
END_TEST

START_TEST(a_rename_changes_the_class_and_keeps_data_and_times)
{
	struct ns_setattr set = { .valid = NS_SET_MTIME, .mtime_ns = 5000 };
	uint64_t a, b;

	must(t_create(ROOT, "a"));
	must(t_create(ROOT, "b.raw"));
	a = t_ino("a");
	b = t_ino("b.raw");
	t_write(a, 0, "of a");
	t_write(b, 0, "of b");
	must(ns_setattr(nf.ns, a, &set, NULL, &t_err));
	must(t_rename(ROOT, "a", ROOT, "b.raw", NS_RENAME_EXCHANGE));
	ns_class_settle(nf.ns);
	ck_assert_int_eq(t_attr(a).class, OBJECT_DISK);
	ck_assert_int_eq(t_attr(b).class, OBJECT_FILE);
	ck_assert_str_eq(t_read(a), "of a");
	ck_assert_str_eq(t_read(b), "of b");
	ck_assert_int_eq(t_attr(a).mtime_ns, 5000);
	must(t_rename(ROOT, "b.raw", ROOT, "c", 0));
	ns_class_settle(nf.ns);
	ck_assert_int_eq(t_attr(a).class, OBJECT_FILE);
	ns_fixture_reopen();
	ck_assert_int_eq(t_attr(a).mtime_ns, 5000);
	ck_assert_str_eq(t_read(a), "of a");
	t_write(a, 0, "OF");
	ck_assert_int_gt(t_attr(a).mtime_ns, 5000);
	ck_assert_uint_eq(value_of(&ns_metrics(nf.ns)->class_changes), 0);
}
END_TEST

/* Between the engine's change and the row's, and where the cleaner moved clusters. */
START_TEST(an_explicit_mtime_holds_while_nobody_writes)
{
	const struct ns_inode_row row = { .mtime_stream = 3,
					  .mtime_lsn = 10,
					  .mtime_object_ns = 700 };
	struct object_stat moved = { .stream = 3, .last_lsn = 12, .mtime_ns = 700 };
	struct ns_setattr set = { .valid = NS_SET_MTIME, .mtime_ns = 5000 };
	struct object *o;
	uint64_t f;

	ck_assert(ns_row_mtime_rules(&row, &moved));
	moved.mtime_ns = 701;
	ck_assert(!ns_row_mtime_rules(&row, &moved));
	must(t_create(ROOT, "f"));
	f = t_ino("f");
	t_write(f, 0, "1");
	must(ns_setattr(nf.ns, f, &set, NULL, &t_err));
	must(object_open(nf.pool, f, &o, &t_err));
	must(object_set_class(o, OBJECT_DISK, &t_err));
	object_close(o);
	ck_assert_int_eq(t_attr(f).mtime_ns, 5000);
	ns_fixture_reopen();
	ck_assert_int_eq(t_attr(f).mtime_ns, 5000);
	t_write(f, 0, "2");
	ck_assert_int_gt(t_attr(f).mtime_ns, 5000);
}
END_TEST

START_TEST(an_mtime_that_no_longer_holds_does_not_come_back)
{
	struct ns_setattr set = { .valid = NS_SET_MTIME, .mtime_ns = 5000 };
	int64_t written_ns;
	uint64_t f;

	must(t_create(ROOT, "f"));
	f = t_ino("f");
	t_write(f, 0, "1");
	must(ns_setattr(nf.ns, f, &set, NULL, &t_err));
	t_write(f, 0, "2");
	written_ns = t_attr(f).mtime_ns;
	ck_assert_int_gt(written_ns, 5000);
	must(t_rename(ROOT, "f", ROOT, "f.raw", 0));
	ns_class_settle(nf.ns);
	ck_assert_int_eq(t_attr(f).mtime_ns, written_ns);
	must(t_rename(ROOT, "f.raw", ROOT, "f", 0));
	ns_class_settle(nf.ns);
	ck_assert_int_eq(t_attr(f).class, OBJECT_FILE);
	ck_assert_int_eq(t_attr(f).mtime_ns, written_ns);
}
END_TEST

START_TEST(a_file_that_outgrows_the_threshold_becomes_a_disk)
{
	uint64_t f;

	nf.options.disk_threshold_bytes = 8192;
	ns_fixture_reopen();
	must(t_create(ROOT, "f"));
	f = t_ino("f");
	t_write(f, 8191, "x");
	ns_grown(nf.ns, f, 8192);
	ns_class_settle(nf.ns);
	ck_assert_int_eq(t_attr(f).class, OBJECT_FILE);
	must(ns_handle_open(nf.ns, f, &(struct ns_attr){ 0 }, &t_err));
	t_write(f, 8192, "y");
	for (int i = 0; i < 5000; i++)
		ns_grown(nf.ns, f, 8193);
	ns_class_settle(nf.ns);
	ck_assert_int_eq(t_attr(f).class, OBJECT_DISK);
	ck_assert_uint_eq(value_of(&ns_metrics(nf.ns)->class_changes), 1);
	ns_handle_release(nf.ns, f);
	must(t_rename(ROOT, "f", ROOT, "g", 0)); /* too large to be a file again */
	ns_class_settle(nf.ns);
	ck_assert_int_eq(t_attr(f).class, OBJECT_DISK);
}
END_TEST

/* --- paths ------------------------------------------------------------------------------------- */

static const char *path_of(uint64_t ino)
{
	static char text[8192];
	struct buf out;

	buf_init(&out, sizeof(text));
	must(ns_path_of(nf.ns, ino, &out, &t_err));
	ck_assert_uint_eq(strlen((const char *)out.data), out.len_bytes);
	memcpy(text, out.data, out.len_bytes + 1);
	buf_done(&out);
	return text;
}

START_TEST(paths_lead_to_inodes_and_back)
{
	struct buf out;
	uint64_t ino, deep;

	must(t_mkdir(ROOT, "abc"));
	must(t_mkdir(t_ino("abc"), "de"));
	must(t_create(t_ino("/abc/de"), "file"));
	deep = t_ino("abc//de/./../de/file");
	ck_assert_uint_ne(deep, 0);
	ck_assert_uint_eq(t_ino("/"), ROOT);
	ck_assert_uint_eq(t_ino(""), ROOT);
	ck_assert_uint_eq(t_ino("/../.."), ROOT);
	ck_assert_str_eq(path_of(ROOT), "/");
	ck_assert_str_eq(path_of(t_ino("abc/de")), "/abc/de");
	ck_assert_str_eq(path_of(deep), "/abc/de/file");
	gives(ns_path_find(nf.ns, "/abc/x/y", 8, &ino, NULL), -ENOENT);
	gives(ns_path_find(nf.ns, "/abc/de/file/y", 14, &ino, NULL), -ENOTDIR);
	gives(ns_path_find(nf.ns, "/abc/de/file/.", 14, &ino, NULL), -ENOTDIR);
	must(t_rename(ROOT, "abc", ROOT, "n", 0));
	ck_assert_str_eq(path_of(deep), "/n/de/file");
	/* The name that is remembered goes: the other one is found. */
	must(t_link(deep, ROOT, "second"));
	ck_assert_str_eq(path_of(deep), "/second");
	must(t_unlink(ROOT, "second"));
	ck_assert_str_eq(path_of(deep), "/n/de/file");
	buf_init(&out, 5);
	gives(ns_path_of(nf.ns, deep, &out, NULL), -E2BIG);
	buf_done(&out);
	must(ns_handle_open(nf.ns, deep, &(struct ns_attr){ 0 }, &t_err));
	must(t_unlink(t_ino("n/de"), "file"));
	buf_init(&out, 500);
	gives(ns_path_of(nf.ns, deep, &out, NULL), -ENOENT);
	buf_done(&out);
	ns_handle_release(nf.ns, deep);
}
END_TEST

struct listing {
	char text[2000];
	int count, stop_at;
};

static int note_file(void *arg, const struct ns_file *file)
{
	struct listing *l = arg;

	ck_assert_uint_eq(strlen(file->path), file->path_bytes);
	ck_assert(S_ISREG(file->attr.mode));
	(void)strncat(l->text, file->path, 200);
	(void)strncat(l->text, " ", 2);
	l->count++;
	return l->count == l->stop_at ? -ECANCELED : 0;
}

START_TEST(the_list_tells_every_file_once)
{
	struct listing l = { .stop_at = -1 };
	struct ns_attr a;

	must(t_mkdir(ROOT, "d"));
	must(t_mkdir(t_ino("d"), "e"));
	must(t_create(ROOT, "1"));
	must(t_create(t_ino("d"), "2"));
	must(t_create(t_ino("d/e"), "3"));
	must(t_link(t_ino("1"), t_ino("d/e"), "4"));
	must(ns_symlink(nf.ns, ROOT, "s", 1, "1", (struct ns_cred){ 0 }, &a, &t_err));
	must(ns_for_each_file(nf.ns, ROOT, note_file, &l, &t_err));
	ck_assert_str_eq(l.text, "/1 /d/2 /d/e/3 ");
	l = (struct listing){ .stop_at = -1 };
	must(ns_for_each_file(nf.ns, t_ino("d/e"), note_file, &l, &t_err));
	ck_assert_str_eq(l.text, "/d/e/3 /d/e/4 ");
	l = (struct listing){ .stop_at = -1 };
	must(ns_for_each_file(nf.ns, t_ino("d/2"), note_file, &l, &t_err));
	ck_assert_str_eq(l.text, "/d/2 ");
	l = (struct listing){ .stop_at = 2 };
	gives(ns_for_each_file(nf.ns, ROOT, note_file, &l, NULL), -ECANCELED);
	ck_assert_int_eq(l.count, 2);
}
END_TEST

/* --- damage ------------------------------------------------------------------------------------ */

START_TEST(names_without_a_root_are_refused)
{
	struct names_batch *b;
	struct ns *ns;

	must(t_create(ROOT, "f"));
	ns_close(TAKE_PTR(nf.ns));
	b = names_batch_new(nf.pool);
	ck_assert_ptr_nonnull(b);
	must(names_delete(b, "i\0\0\0\0\0\0\0\1", 9));
	must(names_commit(b, &t_err));
	names_batch_free(b);
	gives(ns_open(env_posix(), nf.pool, &nf.options, &ns, NULL), -EUCLEAN);
	must(pool_close(TAKE_PTR(nf.pool), &t_err));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/ns_files");
	TCase *t = tcase_create("files");
	SRunner *runner = srunner_create(s);
	int failed;

	ns_fixture_add(t);
	tcase_add_test(t, an_open_file_outlives_its_name);
	tcase_add_test(t, a_known_inode_outlives_its_name_until_it_is_forgotten);
	tcase_add_test(t, a_new_session_removes_what_the_old_one_held);
	tcase_add_test(t, a_removed_file_goes_with_its_last_request);
	tcase_add_test(t, only_files_and_directories_have_handles_and_only_files_objects);
	tcase_add_test(t, the_name_decides_the_class);
	tcase_add_test(t, a_rename_changes_the_class_and_keeps_data_and_times);
	tcase_add_test(t, an_explicit_mtime_holds_while_nobody_writes);
	tcase_add_test(t, an_mtime_that_no_longer_holds_does_not_come_back);
	tcase_add_test(t, a_file_that_outgrows_the_threshold_becomes_a_disk);
	tcase_add_test(t, paths_lead_to_inodes_and_back);
	tcase_add_test(t, the_list_tells_every_file_once);
	tcase_add_test(t, names_without_a_root_are_refused);
	suite_add_tcase(s, t);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
