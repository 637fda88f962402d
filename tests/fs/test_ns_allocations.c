/*
 * Each allocation that the namespace makes in a call fails in turn: the call says -ENOMEM and did
 * nothing, or it did all of what it was asked for; and then the same call works. The program is linked
 * with a copy of fs/ whose allocations are calls of sim/allocs.c.
 */
#include "support_ns.h"
#include "tests/sim/allocs.h"
#include "volume/snapshot.h"

#include <stdio.h>

#define DISK "disk.raw"

/* Of the test's own thread; others go on allocating. */
static __thread unsigned int fails_after; /* 0: none fails */
static __thread bool failed;

static bool let_fail(UNUSED void *arg, UNUSED const char *name, UNUSED uint64_t from)
{
	if (fails_after == 0 || --fails_after > 0)
		return false;
	failed = true;
	return true;
}

/* --- what is there ------------------------------------------------------------------------------ */

static uint64_t dir, sub, file, disk, link_, below;

static void make_tree(void)
{
	struct snapshot_wanted wanted = { .name = "s" };
	struct ns_attr attr;

	must(t_mkdir(NS_ROOT_INO, "d"));
	dir = t_ino("/d");
	must(t_mkdir(dir, "sub"));
	sub = t_ino("/d/sub");
	must(t_create(sub, "below"));
	below = t_ino("/d/sub/below");
	must(t_create(dir, "file"));
	must(t_create(dir, "other"));
	must(t_create(dir, DISK));
	must(ns_symlink(nf.ns, dir, "link", 4, "file", (struct ns_cred){ 0 }, &attr, &t_err));
	link_ = attr.ino;
	ns_forget(nf.ns, link_, 1);
	file = t_ino("/d/file");
	disk = t_ino("/d/" DISK);
	t_write(file, 0, "text");
	t_write(disk, 0, "old");
	must(ns_object_get(nf.ns, disk, &wanted.object, &t_err));
	must(snapshot_create(nf.pool, &wanted, 1, &t_err));
	ns_object_put(nf.ns, disk);
	must(ns_xattr_set(nf.ns, file, "user.a", "1", 1, 0, &t_err));
}

/* --- calls -------------------------------------------------------------------------------------- */

/* What changes nothing has no is_done. */
struct call {
	const char *name;
	int (*act)(void);
	bool (*is_done)(void);
	void (*undo)(void);
};

static bool is_there(const char *path)
{
	return t_ino(path) != 0;
}

static int do_mkdir(void)
{
	return t_mkdir(dir, "new");
}

static int do_create(void)
{
	return t_create(dir, "new");
}

static int do_create_disk(void)
{
	return t_create(dir, "new.raw");
}

static int do_symlink(void)
{
	struct ns_attr attr;
	int r = ns_symlink(nf.ns, dir, "new", 3, "somewhere", (struct ns_cred){ 0 }, &attr, NULL);

	if (r == 0)
		ns_forget(nf.ns, attr.ino, 1);
	return r;
}

static int do_link(void)
{
	return t_link(file, dir, "new");
}

static int do_clone(void)
{
	struct clone_source *source;
	struct ns_attr attr;
	int r = ns_clone_source(nf.ns, disk, "s", &source, NULL);

	if (r < 0)
		return r;
	r = ns_clone(nf.ns, dir, "new.raw", 7, source, disk, &attr, NULL);
	clone_source_close(source);
	if (r == 0)
		ns_forget(nf.ns, attr.ino, 1);
	return r;
}

static bool new_is_there(void)
{
	return is_there("/d/new");
}

static bool new_disk_is_there(void)
{
	return is_there("/d/new.raw");
}

static void remove_new(void)
{
	must(t_unlink(dir, "new"));
}

static void remove_new_disk(void)
{
	must(t_unlink(dir, "new.raw"));
}

static void remove_new_dir(void)
{
	must(t_rmdir(dir, "new"));
}

static int do_rename(void)
{
	return t_rename(dir, "file", sub, "moved", 0);
}

static bool is_moved(void)
{
	ck_assert(is_there("/d/file") != is_there("/d/sub/moved"));
	return is_there("/d/sub/moved");
}

static void move_back(void)
{
	must(t_rename(sub, "moved", dir, "file", 0));
}

static int do_rename_over(void)
{
	return t_rename(dir, "file", dir, "other", 0);
}

static bool is_over(void)
{
	ck_assert(is_there("/d/other"));
	return !is_there("/d/file");
}

static void make_other_again(void)
{
	must(t_rename(dir, "other", dir, "file", 0));
	must(t_create(dir, "other"));
}

static int do_exchange(void)
{
	return t_rename(dir, "file", dir, "sub", NS_RENAME_EXCHANGE);
}

static bool is_exchanged(void)
{
	return t_ino("/d/sub") == file;
}

static void exchange_back(void)
{
	must(do_exchange());
}

static int do_unlink(void)
{
	return t_unlink(dir, "other");
}

static bool other_is_gone(void)
{
	return !is_there("/d/other");
}

static void make_other(void)
{
	must(t_create(dir, "other"));
}

static int do_rmdir(void)
{
	return t_rmdir(dir, "empty");
}

static bool empty_is_gone(void)
{
	return !is_there("/d/empty");
}

static void make_empty(void)
{
	must(t_mkdir(dir, "empty"));
}

static int do_trash(void)
{
	return t_unlink(dir, DISK);
}

static bool disk_is_gone(void)
{
	return !is_there("/d/" DISK);
}

static int do_restore(void)
{
	const struct ns_name to = { dir, DISK, strlen(DISK) };

	return ns_trash_restore(nf.ns, disk, &to, false, NULL);
}

static bool disk_is_there(void)
{
	return is_there("/d/" DISK);
}

static void restore_disk(void)
{
	must(do_restore());
}

static void trash_disk(void)
{
	must(do_trash());
}

static int do_xattr_set(void)
{
	return ns_xattr_set(nf.ns, file, "user.new", "value", 5, 0, NULL);
}

static int read_xattr(const char *name)
{
	struct buf out;
	int r;

	buf_init(&out, NS_XATTR_BYTES_MAX);
	r = ns_xattr_get(nf.ns, file, name, &out, NULL);
	buf_done(&out);
	return r;
}

static bool has_xattr(void)
{
	return read_xattr("user.new") == 0;
}

static int do_xattr_remove(void)
{
	return ns_xattr_remove(nf.ns, file, "user.new", NULL);
}

static bool has_no_xattr(void)
{
	return !has_xattr();
}

static void set_xattr(void)
{
	must(do_xattr_set());
}

static void remove_xattr(void)
{
	must(do_xattr_remove());
}

/* The size comes before the row that says when: it may be told that it failed, and asked for again. */
static int do_truncate(void)
{
	struct ns_setattr set = { .valid = NS_SET_SIZE, .size_bytes = 9 };

	return ns_setattr(nf.ns, file, &set, NULL, NULL);
}

/* --- looks -------------------------------------------------------------------------------------- */

static int do_lookup(void)
{
	static const char *const names[] = { "file", "sub", "link", DISK };
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names) && r == 0; i++) {
		struct ns_attr attr;

		r = ns_lookup(nf.ns, dir, names[i], strlen(names[i]), &attr, NULL);
		if (r == 0)
			ns_forget(nf.ns, attr.ino, 1);
	}
	return r;
}

static int do_readlink(void)
{
	struct buf out;
	int r;

	buf_init(&out, 4096);
	r = ns_readlink(nf.ns, link_, &out, NULL);
	buf_done(&out);
	return r;
}

static int take_entry(UNUSED void *arg, UNUSED const struct ns_dirent *entry)
{
	return 0;
}

static int do_readdir(void)
{
	return ns_readdir(nf.ns, dir, 0, NS_READDIR_ATTR, take_entry, NULL, NULL);
}

/* Look-ups in the view are not counted. */
static int do_view(void)
{
	static const char *const parts[] = { NS_VIEW_NAME, "d", DISK };
	uint64_t ino = NS_ROOT_INO;

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		struct ns_attr attr;
		int r = ns_lookup(nf.ns, ino, parts[i], strlen(parts[i]), &attr, NULL);

		if (r < 0)
			return r;
		ino = attr.ino;
	}
	return ns_readdir(nf.ns, ino, 0, NS_READDIR_ATTR, take_entry, NULL, NULL);
}

static int do_xattr_get(void)
{
	return read_xattr("user.a");
}

static int do_xattr_list(void)
{
	struct buf out;
	int r;

	buf_init(&out, NS_XATTR_BYTES_MAX);
	r = ns_xattr_list(nf.ns, file, &out, NULL);
	buf_done(&out);
	return r;
}

static int take_xattr(UNUSED void *arg, UNUSED uint64_t ino, UNUSED const void *value,
		      UNUSED size_t value_bytes)
{
	return 0;
}

static int do_xattr_each(void)
{
	return ns_xattr_each(nf.ns, "user.a", take_xattr, NULL, NULL);
}

static int do_open(void)
{
	struct ns_attr attr;
	struct object *o;
	int r = ns_handle_open(nf.ns, disk, &attr, NULL);

	if (r < 0)
		return r;
	r = ns_object_get(nf.ns, disk, &o, NULL);
	if (r == 0)
		ns_object_put(nf.ns, disk);
	ns_handle_release(nf.ns, disk);
	return r;
}

static int do_path_of(void)
{
	struct buf out;
	int r;

	buf_init(&out, 4096);
	r = ns_path_of(nf.ns, below, &out, NULL);
	buf_done(&out);
	return r;
}

static int take_file(UNUSED void *arg, UNUSED const struct ns_file *f)
{
	return 0;
}

static int do_each_file(void)
{
	return ns_for_each_file(nf.ns, NS_ROOT_INO, take_file, NULL, NULL);
}

static int take_item(UNUSED void *arg, UNUSED const struct ns_trash_item *item)
{
	return 0;
}

static int do_trash_each(void)
{
	return ns_trash_each(nf.ns, take_item, NULL, NULL);
}

static int do_check(void)
{
	struct ns_check_result result;

	return ns_check(nf.ns, NULL, NULL, &result, NULL);
}

/* The namespace goes and comes, so this is last in a round, if it ever is. */
static int do_reopen(void)
{
	int r;

	ns_close(TAKE_PTR(nf.ns));
	r = ns_open(env_posix(), nf.pool, &nf.options, &nf.ns, NULL);
	if (r == -ENOMEM || r == -EAGAIN) { /* of a thread */
		fails_after = 0;
		must(ns_open(env_posix(), nf.pool, &nf.options, &nf.ns, &t_err));
	}
	return r == -EAGAIN ? -ENOMEM : r;
}

static const struct call calls[] = {
	{ "mkdir", do_mkdir, new_is_there, remove_new_dir },
	{ "create", do_create, new_is_there, remove_new },
	{ "create of a disk", do_create_disk, new_disk_is_there, remove_new_disk },
	{ "symlink", do_symlink, new_is_there, remove_new },
	{ "link", do_link, new_is_there, remove_new },
	{ "clone", do_clone, new_disk_is_there, remove_new_disk },
	{ "rename", do_rename, is_moved, move_back },
	{ "rename over a file", do_rename_over, is_over, make_other_again },
	{ "exchange", do_exchange, is_exchanged, exchange_back },
	{ "unlink", do_unlink, other_is_gone, make_other },
	{ "rmdir", do_rmdir, empty_is_gone, make_empty },
	{ "to the trash", do_trash, disk_is_gone, restore_disk },
	{ "out of the trash", do_restore, disk_is_there, trash_disk },
	{ "xattr", do_xattr_set, has_xattr, remove_xattr },
	{ "xattr removed", do_xattr_remove, has_no_xattr, set_xattr },
	{ "truncate", do_truncate, NULL, NULL },
	{ "lookup", do_lookup, NULL, NULL },
	{ "readlink", do_readlink, NULL, NULL },
	{ "readdir", do_readdir, NULL, NULL },
	{ "view", do_view, NULL, NULL },
	{ "value of an xattr", do_xattr_get, NULL, NULL },
	{ "names of xattrs", do_xattr_list, NULL, NULL },
	{ "an xattr of all", do_xattr_each, NULL, NULL },
	{ "open", do_open, NULL, NULL },
	{ "path", do_path_of, NULL, NULL },
	{ "each file", do_each_file, NULL, NULL },
	{ "the trash", do_trash_each, NULL, NULL },
	{ "check", do_check, NULL, NULL },
	{ "opening", do_reopen, NULL, NULL },
};

/* --- the test ----------------------------------------------------------------------------------- */

/* Nothing is in RAM. */
static void make_cold(void)
{
	ns_close(TAKE_PTR(nf.ns));
	must(ns_open(env_posix(), nf.pool, &nf.options, &nf.ns, &t_err));
}

/* Returns whether there was an allocation of that number. */
static bool act(const struct call *c, unsigned int number)
{
	bool done;
	int r;

	make_cold();
	failed = false;
	fails_after = number;
	r = c->act();
	fails_after = 0;
	if (r < 0)
		ck_assert_msg(failed && r == -ENOMEM, "%s, allocation %u: %s", c->name, number,
			      err_name(r));
	if (!c->is_done)
		return failed;
	done = c->is_done();
	ck_assert_msg(done == (r >= 0), "%s, allocation %u: %s, but it is%s done", c->name, number,
		      err_name(r), done ? "" : " not");
	if (done)
		c->undo();
	return failed;
}

START_TEST(a_call_without_memory_does_nothing_or_all)
{
	const struct call *c = &calls[_i];
	unsigned int number = 1;

	/* What is to be undone of these is there. */
	if (c->act == do_rmdir || c->act == do_restore || c->act == do_xattr_remove)
		c->undo();
	while (act(c, number))
		number++;
	ck_assert_msg(c->act == do_trash_each || c->act == do_xattr_each || number > 1,
		      "%s allocates nothing", c->name);
	ns_fixture_check();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/ns_allocations");
	TCase *t = tcase_create("allocations");
	SRunner *runner = srunner_create(s);
	int failures;

	allocs_watch(let_fail, NULL); /* before there are threads, which look at it, too */
	ns_fixture_add(t);
	tcase_add_checked_fixture(t, make_tree, NULL);
	tcase_add_loop_test(t, a_call_without_memory_does_nothing_or_all, 0,
			    (int)ARRAY_SIZE(calls));
	suite_add_tcase(s, t);
	srunner_run_all(runner, CK_NORMAL);
	failures = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failures != 0;
}
