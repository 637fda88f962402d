#include "support_ns.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define DISK "vm.raw"

/* A directory d with a disk in it that has text; both are told by path. */
static uint64_t dir, disk;

static void begin(void)
{
	must(t_mkdir(NS_ROOT_INO, "d"));
	dir = t_ino("/d");
	must(t_create(dir, DISK));
	disk = t_ino("/d/" DISK);
	t_write(disk, 0, "first");
}

static void snapshot_of(uint64_t ino, const char *name, bool sticky)
{
	struct object *o;
	struct snapshot_wanted wanted = { .name = name, .sticky = sticky };

	must(ns_object_get(nf.ns, ino, &o, &t_err));
	wanted.object = o;
	must(snapshot_create(nf.pool, &wanted, 1, &t_err));
	ns_object_put(nf.ns, ino);
}

static void snapshot(const char *name)
{
	snapshot_of(disk, name, false);
}

static int look(uint64_t parent, const char *name, struct ns_attr *ret_attr)
{
	return ns_lookup(nf.ns, parent, name, strlen(name), ret_attr, &t_err);
}

/* The number behind a path below the view; 0: none. */
static uint64_t view_ino(const char *path)
{
	struct ns_attr attr = { .ino = NS_VIEW_INO };
	char text[512], *save = NULL;

	(void)snprintf(text, sizeof(text), "%s", path);
	for (const char *name = strtok_r(text, "/", &save); name; name = strtok_r(NULL, "/", &save))
		if (look(attr.ino, name, &attr) < 0)
			return 0;
	return attr.ino;
}

/* --- what is shown ----------------------------------------------------------------------------- */

START_TEST(the_view_is_always_found_and_never_listed)
{
	struct ns_attr attr;

	must(look(NS_ROOT_INO, NS_VIEW_NAME, &attr));
	ck_assert_uint_eq(attr.ino, NS_VIEW_INO);
	ck_assert_uint_eq(attr.mode, S_IFDIR | 0555);
	ck_assert_uint_eq(t_attr(NS_ROOT_INO).entries, 1);
	gives(look(dir, NS_VIEW_NAME, &attr), -ENOENT);
}
END_TEST

START_TEST(a_snapshot_is_a_file_with_the_owner_and_at_most_the_rights_of_its_disk)
{
	const struct ns_setattr set = {
		.valid = NS_SET_MODE | NS_SET_UID | NS_SET_GID, .mode = 0640, .uid = 5, .gid = 6
	};
	struct ns_attr attr;

	must(ns_setattr(nf.ns, disk, &set, NULL, &t_err));
	snapshot("one");
	attr = t_attr(view_ino("d/" DISK "/one"));
	ck_assert_uint_eq(attr.mode, S_IFREG | 0440);
	ck_assert_uint_eq(attr.uid, 5);
	ck_assert_uint_eq(attr.gid, 6);
	ck_assert_uint_eq(attr.size_bytes, 5);
	ck_assert_uint_eq(attr.nlink, 1);
	ck_assert_int_ge(attr.mtime_ns, t_attr(disk).mtime_ns);
	attr = t_attr(view_ino("d/" DISK));
	ck_assert_uint_eq(attr.mode, S_IFDIR | 0550);
	ck_assert_uint_eq(attr.uid, 5);
}
END_TEST

START_TEST(only_files_with_snapshots_are_directories)
{
	struct ns_attr attr;

	must(t_create(dir, "other"));
	snapshot("one");
	gives(look(view_ino("d"), "other", &attr), -ENOENT);
	gives(look(view_ino("d"), "none", &attr), -ENOENT);
	gives(look(view_ino("d/" DISK), "none", &attr), -ENOENT);
	gives(look(view_ino("d/" DISK "/one"), "none", &attr), -ENOTDIR);
}
END_TEST

START_TEST(dots_lead_to_where_they_stand)
{
	struct ns_attr attr;

	snapshot("one");
	must(look(view_ino("d/" DISK), "..", &attr));
	ck_assert_uint_eq(attr.ino, view_ino("d"));
	must(look(view_ino("d"), "..", &attr));
	ck_assert_uint_eq(attr.ino, NS_VIEW_INO);
	must(look(NS_VIEW_INO, "..", &attr));
	ck_assert_uint_eq(attr.ino, NS_ROOT_INO);
	must(look(view_ino("d/" DISK "/one"), ".", &attr));
	ck_assert_uint_eq(attr.ino, view_ino("d/" DISK "/one"));
}
END_TEST

/* --- reading directories ----------------------------------------------------------------------- */

struct names {
	char text[4096];
	unsigned int count, max, with_attr;
	uint64_t cookie;
};

static int take_name(void *arg, const struct ns_dirent *entry)
{
	struct names *n = arg;
	size_t len = strlen(n->text);

	if (n->count == n->max)
		return 1;
	(void)snprintf(n->text + len, sizeof(n->text) - len, "%s ", entry->name);
	n->count++;
	n->with_attr += entry->attr && entry->attr->ino == entry->ino;
	n->cookie = entry->cookie;
	return 0;
}

static const char *names_in(uint64_t ino, unsigned int at_once)
{
	static struct names all;
	unsigned int before;

	all = (struct names){ .max = at_once };
	do {
		before = all.count;
		must(ns_readdir(nf.ns, ino, all.cookie, NS_READDIR_ATTR | NS_READDIR_LOOKUP,
				take_name, &all, &t_err));
		all.max = all.count + at_once;
	} while (all.count > before);
	ck_assert_uint_eq(all.with_attr, all.count);
	return all.text;
}

START_TEST(directories_list_what_can_be_found_in_any_steps)
{
	must(t_create(dir, "plain"));
	must(t_mkdir(dir, "sub"));
	snapshot("b");
	snapshot("a");
	snapshot("c");
	for (unsigned int at_once = 1; at_once < 8; at_once++) {
		ck_assert_str_eq(names_in(NS_ROOT_INO, at_once), ". .. d ");
		ck_assert_str_eq(names_in(NS_VIEW_INO, at_once), ". .. d ");
		ck_assert_str_eq(names_in(view_ino("d"), at_once), ". .. " DISK " sub ");
		ck_assert_str_eq(names_in(view_ino("d/" DISK), at_once), ". .. b a c ");
	}
}
END_TEST

START_TEST(a_file_cannot_be_listed)
{
	struct names n = { .max = 1 };

	snapshot("one");
	gives(ns_readdir(nf.ns, view_ino("d/" DISK "/one"), 0, 0, take_name, &n, &t_err), -ENOTDIR);
}
END_TEST

/* --- reading files ----------------------------------------------------------------------------- */

START_TEST(a_snapshot_is_read_while_its_disk_changes)
{
	uint64_t one;

	snapshot("one");
	one = view_ino("d/" DISK "/one");
	t_write(disk, 0, "second, longer");
	ck_assert_str_eq(t_read(one), "first");
	snapshot("two");
	ck_assert_str_eq(t_read(view_ino("d/" DISK "/two")), "second, longer");
	ck_assert_str_eq(t_read(one), "first");
	gives(ns_object_get(nf.ns, view_ino("d"), &(struct object *){ NULL }, &t_err), -EISDIR);
}
END_TEST

START_TEST(numbers_mean_the_same_after_a_restart)
{
	uint64_t one, in_dir;

	snapshot("one");
	snapshot("two");
	one = view_ino("d/" DISK "/one");
	in_dir = view_ino("d/" DISK);
	ns_fixture_reopen();
	/* Nobody looked a name up in this process. */
	ck_assert_str_eq(t_read(one), "first");
	ck_assert_uint_eq(t_attr(one).size_bytes, 5);
	ck_assert_uint_eq(t_attr(in_dir).ino, in_dir);
	ck_assert_uint_eq(view_ino("d/" DISK "/one"), one);
}
END_TEST

START_TEST(a_number_follows_its_snapshot_to_another_name)
{
	uint64_t one;

	snapshot("one");
	t_write(disk, 0, "other");
	snapshot("two");
	one = view_ino("d/" DISK "/one");
	must(snapshot_rename(nf.pool, disk, "one", "three", &t_err));
	must(snapshot_rename(nf.pool, disk, "two", "one", &t_err));
	ck_assert_str_eq(t_read(one), "first");
	ck_assert_uint_eq(view_ino("d/" DISK "/three"), one);
	ck_assert_str_eq(t_read(view_ino("d/" DISK "/one")), "other");
}
END_TEST

START_TEST(a_deleted_snapshot_is_stale_but_for_who_has_it_open)
{
	struct ns_attr attr;
	uint64_t one;

	snapshot("one");
	one = view_ino("d/" DISK "/one");
	must(ns_handle_open(nf.ns, one, &attr, &t_err));
	must(snapshot_delete(nf.pool, disk, "one", &t_err));
	ck_assert_uint_eq(view_ino("d/" DISK), 0);
	t_write(disk, 0, "other");
	must(pool_checkpoint(nf.pool, &t_err));
	ck_assert_str_eq(t_read(one), "first");
	ck_assert_uint_eq(t_attr(one).size_bytes, 5);
	ns_handle_release(nf.ns, one);
	gives(ns_getattr(nf.ns, one, &attr, &t_err), -ESTALE);
	gives(ns_object_get(nf.ns, one, &(struct object *){ NULL }, &t_err), -ESTALE);
	ns_handle_release(nf.ns, one); /* of an earlier process: ignored */
}
END_TEST

START_TEST(numbers_of_nothing_are_stale)
{
	struct ns_attr attr;

	gives(ns_getattr(nf.ns, NS_VIEW_FILE | 999, &attr, &t_err), -ESTALE);
	gives(ns_getattr(nf.ns, NS_VIEW_DIR | 999999, &attr, &t_err), -ESTALE);
	snapshot("one");
	gives(ns_getattr(nf.ns, NS_VIEW_FILE | 999, &attr, &t_err), -ESTALE);
	gives(ns_handle_open(nf.ns, NS_VIEW_FILE | 999, &attr, &t_err), -ESTALE);
}
END_TEST

/* --- nothing can be changed -------------------------------------------------------------------- */

START_TEST(the_view_cannot_be_changed)
{
	const struct ns_setattr set = { .valid = NS_SET_SIZE };
	uint64_t in_dir, one;

	snapshot("one");
	in_dir = view_ino("d/" DISK);
	one = view_ino("d/" DISK "/one");
	gives(t_create(in_dir, "new"), -EROFS);
	gives(t_mkdir(NS_VIEW_INO, "new"), -EROFS);
	gives(t_link(disk, in_dir, "new"), -EROFS);
	gives(t_link(one, NS_ROOT_INO, "new"), -EROFS);
	gives(t_unlink(in_dir, "one"), -EROFS);
	gives(t_rmdir(view_ino("d"), DISK), -EROFS);
	gives(t_rename(in_dir, "one", in_dir, "two", 0), -EROFS);
	gives(t_rename(in_dir, "one", NS_ROOT_INO, "two", 0), -EROFS);
	gives(t_rename(dir, DISK, in_dir, "two", 0), -EROFS);
	gives(ns_setattr(nf.ns, one, &set, NULL, &t_err), -EROFS);
	gives(ns_xattr_set(nf.ns, one, "user.x", "", 0, 0, &t_err), -EROFS);
	gives(ns_xattr_remove(nf.ns, one, "user.x", &t_err), -EROFS);
}
END_TEST

START_TEST(its_name_cannot_be_taken_or_moved)
{
	gives(t_mkdir(NS_ROOT_INO, NS_VIEW_NAME), -EEXIST);
	gives(t_create(NS_ROOT_INO, NS_VIEW_NAME), -EEXIST);
	gives(t_link(disk, NS_ROOT_INO, NS_VIEW_NAME), -EEXIST);
	gives(t_unlink(NS_ROOT_INO, NS_VIEW_NAME), -EISDIR);
	gives(t_rmdir(NS_ROOT_INO, NS_VIEW_NAME), -EROFS);
	gives(t_rename(NS_ROOT_INO, NS_VIEW_NAME, dir, "x", 0), -EROFS);
	gives(t_rename(NS_ROOT_INO, "d", NS_ROOT_INO, NS_VIEW_NAME, 0), -EROFS);
	must(t_mkdir(dir, NS_VIEW_NAME)); /* elsewhere it is a name like others */
}
END_TEST

START_TEST(it_has_no_attributes_of_its_own)
{
	struct buf out;

	buf_init(&out, 4096);
	must(ns_xattr_list(nf.ns, NS_VIEW_INO, &out, &t_err));
	ck_assert_uint_eq(out.len_bytes, 0);
	gives(ns_xattr_get(nf.ns, NS_VIEW_INO, "user.x", &out, &t_err), -ENODATA);
	buf_done(&out);
}
END_TEST

/* --- names of disks with snapshots ------------------------------------------------------------- */

START_TEST(a_sticky_snapshot_keeps_the_last_name_of_its_disk)
{
	snapshot_of(disk, "kept", true);
	must(t_create(dir, "new"));
	must(t_link(disk, dir, "second"));
	must(t_unlink(dir, "second"));
	gives(t_unlink(dir, DISK), -EPERM);
	gives(t_rename(dir, "new", dir, DISK, 0), -EPERM);
	ck_assert_str_eq(t_read(disk), "first");
	must(t_rename(dir, DISK, NS_ROOT_INO, "moved", 0));
	must(snapshot_set_sticky(nf.pool, disk, "kept", false, &t_err));
	must(t_unlink(NS_ROOT_INO, "moved"));
}
END_TEST

START_TEST(it_keeps_a_name_also_while_the_disk_is_open)
{
	struct ns_attr attr;

	snapshot_of(disk, "kept", true);
	must(ns_handle_open(nf.ns, disk, &attr, &t_err));
	ck_assert_uint_eq(ns_handle_count(nf.ns, disk), 1);
	gives(t_unlink(dir, DISK), -EPERM);
	ns_handle_release(nf.ns, disk);
	ck_assert_uint_eq(ns_handle_count(nf.ns, disk), 0);
	ck_assert_uint_eq(t_ino("/d/" DISK), disk);
}
END_TEST

START_TEST(other_snapshots_go_with_their_disk)
{
	struct ns_attr attr;
	uint64_t one;

	snapshot("one");
	one = view_ino("d/" DISK "/one");
	must(t_unlink(dir, DISK));
	ck_assert_uint_eq(view_ino("d/" DISK), 0);
	gives(ns_getattr(nf.ns, one, &attr, &t_err), -ESTALE);
}
END_TEST

/* --- clones ------------------------------------------------------------------------------------ */

static int clone_as(uint64_t ino, const char *snapshot_name, uint64_t parent, const char *name)
{
	struct clone_source *source;
	struct ns_attr attr;
	int r = ns_clone_source(nf.ns, ino, snapshot_name, &source, &t_err);

	if (r < 0)
		return r;
	r = ns_clone(nf.ns, parent, name, strlen(name), source, disk, &attr, &t_err);
	clone_source_close(source);
	if (r == 0)
		ns_forget(nf.ns, attr.ino, 1);
	return r;
}

START_TEST(a_clone_begins_as_a_snapshot_or_as_its_disk_is_now)
{
	const struct ns_setattr set = { .valid = NS_SET_MODE | NS_SET_UID, .mode = 0600, .uid = 7 };

	snapshot("one");
	t_write(disk, 0, "second");
	must(ns_setattr(nf.ns, disk, &set, NULL, &t_err));
	must(clone_as(disk, "one", dir, "old.raw"));
	must(clone_as(disk, NULL, dir, "new.raw"));
	must(clone_as(view_ino("d/" DISK "/one"), NULL, dir, "shown.raw"));
	t_write(disk, 0, "third!");
	t_write(t_ino("/d/new.raw"), 0, "other");
	ck_assert_str_eq(t_read(t_ino("/d/old.raw")), "first");
	ck_assert_str_eq(t_read(t_ino("/d/new.raw")), "otherd");
	ck_assert_str_eq(t_read(t_ino("/d/shown.raw")), "first");
	ck_assert_str_eq(t_read(disk), "third!");
	ck_assert_uint_eq(t_attr(t_ino("/d/old.raw")).mode, S_IFREG | 0600);
	ck_assert_uint_eq(t_attr(t_ino("/d/old.raw")).uid, 7);
	ns_fixture_reopen();
	ck_assert_str_eq(t_read(t_ino("/d/old.raw")), "first");
	ck_assert_str_eq(t_read(t_ino("/d/new.raw")), "otherd");
}
END_TEST

START_TEST(a_clone_outlives_what_it_was_made_of)
{
	snapshot("one");
	must(clone_as(disk, "one", dir, "c.raw"));
	must(clone_as(t_ino("/d/c.raw"), NULL, dir, "cc.raw"));
	must(snapshot_delete(nf.pool, disk, "one", &t_err));
	must(t_unlink(dir, DISK));
	must(t_unlink(dir, "c.raw"));
	ns_fixture_reopen();
	ck_assert_str_eq(t_read(t_ino("/d/cc.raw")), "first");
}
END_TEST

START_TEST(a_clone_that_cannot_be_made_leaves_nothing)
{
	gives(clone_as(disk, "none", dir, "c.raw"), -ENOENT);
	gives(clone_as(disk, NULL, dir, DISK), -EEXIST);
	gives(clone_as(disk, NULL, NS_ROOT_INO, NS_VIEW_NAME), -EEXIST);
	gives(clone_as(disk, NULL, NS_VIEW_INO, "x"), -EROFS);
	gives(clone_as(disk, NULL, disk, "x"), -ENOTDIR);
	gives(clone_as(dir, NULL, dir, "x"), -EISDIR);
	gives(clone_as(NS_VIEW_INO, NULL, dir, "x"), -EINVAL);
	ck_assert_uint_eq(t_attr(dir).entries, 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/ns_view");
	TCase *t = tcase_create("view");
	SRunner *runner = srunner_create(s);
	int failed;

	ns_fixture_add(t);
	tcase_add_checked_fixture(t, begin, NULL);
	tcase_add_test(t, the_view_is_always_found_and_never_listed);
	tcase_add_test(t, a_snapshot_is_a_file_with_the_owner_and_at_most_the_rights_of_its_disk);
	tcase_add_test(t, only_files_with_snapshots_are_directories);
	tcase_add_test(t, dots_lead_to_where_they_stand);
	tcase_add_test(t, directories_list_what_can_be_found_in_any_steps);
	tcase_add_test(t, a_file_cannot_be_listed);
	tcase_add_test(t, a_snapshot_is_read_while_its_disk_changes);
	tcase_add_test(t, numbers_mean_the_same_after_a_restart);
	tcase_add_test(t, a_number_follows_its_snapshot_to_another_name);
	tcase_add_test(t, a_deleted_snapshot_is_stale_but_for_who_has_it_open);
	tcase_add_test(t, numbers_of_nothing_are_stale);
	tcase_add_test(t, the_view_cannot_be_changed);
	tcase_add_test(t, its_name_cannot_be_taken_or_moved);
	tcase_add_test(t, it_has_no_attributes_of_its_own);
	tcase_add_test(t, a_sticky_snapshot_keeps_the_last_name_of_its_disk);
	tcase_add_test(t, it_keeps_a_name_also_while_the_disk_is_open);
	tcase_add_test(t, other_snapshots_go_with_their_disk);
	tcase_add_test(t, a_clone_begins_as_a_snapshot_or_as_its_disk_is_now);
	tcase_add_test(t, a_clone_outlives_what_it_was_made_of);
	tcase_add_test(t, a_clone_that_cannot_be_made_leaves_nothing);
	suite_add_tcase(s, t);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
