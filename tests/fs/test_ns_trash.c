/* Files that lost their last name and stay in the trash. */
#include "common/units.h"
#include "fs/ns_impl.h"
#include "support_ns.h"
#include "tests/support/check_messages.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DISK "vm.raw"

/* A directory d with a disk in it that has text and a snapshot. */
static uint64_t dir, disk;

static int snapshot_of(uint64_t ino, const char *name, bool sticky)
{
	struct snapshot_wanted wanted = { .name = name, .sticky = sticky };
	int r = ns_object_get(nf.ns, ino, &wanted.object, &t_err);

	if (r < 0)
		return r;
	r = snapshot_create(nf.pool, &wanted, 1, &t_err);
	ns_object_put(nf.ns, ino);
	return r;
}

static uint64_t make_disk(uint64_t parent, const char *name, const char *text)
{
	struct ns_attr attr;

	must(t_create(parent, name));
	must(ns_lookup(nf.ns, parent, name, strlen(name), &attr, &t_err));
	ns_forget(nf.ns, attr.ino, 1);
	t_write(attr.ino, 0, text);
	return attr.ino;
}

static void begin(void)
{
	must(t_mkdir(NS_ROOT_INO, "d"));
	dir = t_ino("/d");
	disk = make_disk(dir, DISK, "first");
	must(snapshot_of(disk, "one", false));
	t_write(disk, 0, "young");
}

struct seen {
	unsigned int count;
	struct ns_trash_item last;
	char path[5000]; /* of the last */
};

static int note(void *arg, const struct ns_trash_item *item)
{
	struct seen *s = arg;

	s->count++;
	s->last = *item;
	(void)snprintf(s->path, sizeof(s->path), "%s", item->path);
	ck_assert_uint_eq(item->path_bytes, strlen(item->path));
	return 0;
}

static struct seen look(void)
{
	struct seen s = { 0 };

	must(ns_trash_each(nf.ns, note, &s, &t_err));
	return s;
}

static int restore(uint64_t ino, uint64_t parent, const char *name, bool replace)
{
	struct ns_name to = { .parent = parent, .name = name, .name_bytes = strlen(name) };

	return ns_trash_restore(nf.ns, ino, &to, replace, &t_err);
}

static bool has_object(uint64_t ino)
{
	struct object *o;

	if (object_open(nf.pool, ino, &o, NULL) < 0)
		return false;
	object_close(o);
	return true;
}

/* --- coming ------------------------------------------------------------------------------------ */

START_TEST(a_disk_with_snapshots_goes_to_the_trash_whole)
{
	struct seen s;

	must(t_unlink(dir, DISK));
	ck_assert_uint_eq(t_ino("/d/" DISK), 0);
	s = look();
	ck_assert_uint_eq(s.count, 1);
	ck_assert_uint_eq(s.last.ino, disk);
	ck_assert_uint_eq(s.last.parent, dir);
	ck_assert_str_eq(s.path, "/d/" DISK);
	ck_assert_int_ge(s.last.removed_ns, s.last.attr.crtime_ns);
	ck_assert_uint_eq(snapshot_count(nf.pool, disk), 1);
	ns_fixture_check();
	ns_fixture_reopen();
	ck_assert_uint_eq(look().count, 1);
	must(restore(disk, dir, DISK, false));
	ck_assert_uint_eq(look().count, 0);
	ck_assert_uint_eq(t_ino("/d/" DISK), disk);
	ck_assert_uint_eq(t_attr(disk).nlink, 1);
	ck_assert_str_eq(t_read(disk), "young");
	ck_assert_uint_eq(snapshot_count(nf.pool, disk), 1);
	ns_fixture_reopen();
	ck_assert_str_eq(t_read(t_ino("/d/" DISK)), "young");
}
END_TEST

START_TEST(what_is_renamed_over_goes_there_as_well)
{
	uint64_t new = make_disk(NS_ROOT_INO, "new", "other");

	must(t_rename(NS_ROOT_INO, "new", dir, DISK, 0));
	ck_assert_uint_eq(t_ino("/d/" DISK), new);
	ck_assert_str_eq(look().path, "/d/" DISK);
	gives(restore(disk, dir, DISK, false), -EEXIST);
	must(restore(disk, NS_ROOT_INO, "old.raw", false));
	ck_assert_str_eq(t_read(t_ino("/old.raw")), "young");
}
END_TEST

START_TEST(only_the_last_name_counts)
{
	must(t_link(disk, NS_ROOT_INO, "second"));
	must(t_unlink(dir, DISK));
	ck_assert_uint_eq(look().count, 0);
	must(t_unlink(NS_ROOT_INO, "second"));
	ck_assert_str_eq(look().path, "/second");
}
END_TEST

START_TEST(the_policy_says_what_is_kept)
{
	uint64_t plain = make_disk(dir, "plain.raw", "text"), empty, file;

	must(t_unlink(dir, "plain.raw"));
	ck_assert(!has_object(plain));
	ns_set_trash(nf.ns, NS_TRASH_ALL);
	plain = make_disk(dir, "plain.raw", "text");
	file = make_disk(dir, "file.txt", "text");
	must(t_create(dir, "empty.raw"));
	empty = t_ino("/d/empty.raw");
	must(t_unlink(dir, "plain.raw"));
	must(t_unlink(dir, "file.txt"));
	must(t_unlink(dir, "empty.raw"));
	ck_assert(has_object(plain) && !has_object(file) && !has_object(empty));
	ns_set_trash(nf.ns, NS_TRASH_OFF);
	must(t_unlink(dir, DISK));
	ck_assert(!has_object(disk));
	ck_assert_uint_eq(look().count, 1);
}
END_TEST

START_TEST(a_sticky_snapshot_keeps_the_name)
{
	must(snapshot_of(disk, "kept", true));
	gives(t_unlink(dir, DISK), -EPERM);
	ck_assert_uint_eq(t_ino("/d/" DISK), disk);
	ck_assert_uint_eq(look().count, 0);
	ns_set_trash(nf.ns, NS_TRASH_OFF);
	gives(t_unlink(dir, DISK), -EPERM);
}
END_TEST

START_TEST(who_has_it_open_goes_on_using_it)
{
	struct ns_attr attr;

	must(ns_handle_open(nf.ns, disk, &attr, &t_err));
	must(t_unlink(dir, DISK));
	ck_assert_uint_eq(t_attr(disk).nlink, 0);
	t_write(disk, 0, "later");
	ck_assert_str_eq(t_read(disk), "later");
	gives(t_link(disk, NS_ROOT_INO, "again"), -ENOENT);
	must(ns_trash_remove(nf.ns, disk, &t_err));
	ck_assert_uint_eq(look().count, 0);
	ck_assert_str_eq(t_read(disk), "later");
	ns_fixture_check();
	ns_handle_release(nf.ns, disk);
	ck_assert(!has_object(disk));
}
END_TEST

START_TEST(its_last_user_leaves_it_in_the_trash)
{
	struct ns_attr attr;

	must(ns_handle_open(nf.ns, disk, &attr, &t_err));
	must(t_unlink(dir, DISK));
	ns_handle_release(nf.ns, disk);
	ck_assert(has_object(disk));
	ck_assert_uint_eq(look().count, 1);
	/* By a handle of NFS, say. */
	gives(ns_lookup(nf.ns, disk, ".", 1, &attr, NULL), -ESTALE);
	must(restore(disk, dir, DISK, false));
	must(ns_lookup(nf.ns, disk, ".", 1, &attr, &t_err));
	ns_forget(nf.ns, disk, 1);
}
END_TEST

START_TEST(the_directory_may_go)
{
	must(t_unlink(dir, DISK));
	must(t_rmdir(NS_ROOT_INO, "d"));
	ck_assert_str_eq(look().path, "/d/" DISK);
	ck_assert_int_lt(restore(disk, dir, DISK, false), 0);
	must(t_mkdir(NS_ROOT_INO, "d"));
	must(restore(disk, t_ino("/d"), DISK, false));
	ck_assert_str_eq(t_read(t_ino("/d/" DISK)), "young");
}
END_TEST

START_TEST(of_an_overlong_path_the_name_is_kept)
{
	char name[NS_NAME_MAX + 1];
	uint64_t at = NS_ROOT_INO, deep;

	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = 0;
	for (unsigned int n = 0; n < 16; n++) {
		struct ns_attr attr;

		must(t_mkdir(at, name));
		must(ns_lookup(nf.ns, at, name, NS_NAME_MAX, &attr, &t_err));
		ns_forget(nf.ns, attr.ino, 1);
		at = attr.ino;
	}
	deep = make_disk(at, "deep.raw", "deep");
	must(snapshot_of(deep, "one", false));
	must(t_unlink(at, "deep.raw"));
	ck_assert_str_eq(look().path, "deep.raw");
	ck_assert_uint_eq(look().last.parent, at);
}
END_TEST

/* --- leaving ----------------------------------------------------------------------------------- */

START_TEST(a_removed_one_is_gone_for_good)
{
	gives(ns_trash_remove(nf.ns, disk, &t_err), -ENOENT);
	gives(restore(disk, dir, "x", false), -ENOENT);
	must(t_unlink(dir, DISK));
	must(ns_trash_remove(nf.ns, disk, &t_err));
	ck_assert(!has_object(disk));
	gives(ns_trash_remove(nf.ns, disk, &t_err), -ENOENT);
	gives(restore(disk, dir, "x", false), -ENOENT);
	ns_fixture_reopen();
	ck_assert_uint_eq(look().count, 0);
}
END_TEST

START_TEST(the_oldest_expire)
{
	uint64_t count, second = make_disk(dir, "second.raw", "text");
	int64_t removed_ns;

	must(snapshot_of(second, "one", false));
	must(t_unlink(dir, DISK));
	removed_ns = look().last.removed_ns;
	must(t_unlink(dir, "second.raw"));
	must(ns_trash_expire(nf.ns, removed_ns, &count, &t_err));
	ck_assert_uint_eq(count, 0);
	must(ns_trash_expire(nf.ns, removed_ns + 1, &count, &t_err));
	ck_assert_uint_eq(count, 1);
	ck_assert(!has_object(disk) && has_object(second));
	must(ns_trash_expire(nf.ns, INT64_MAX, &count, &t_err));
	ck_assert_uint_eq(count, 1);
}
END_TEST

START_TEST(a_clone_needs_nothing_of_what_is_in_the_trash)
{
	struct clone_source *source;
	struct ns_attr attr;

	must(ns_clone_source(nf.ns, disk, "one", &source, &t_err));
	must(ns_clone(nf.ns, dir, "c.raw", 5, source, disk, &attr, &t_err));
	clone_source_close(source);
	ns_forget(nf.ns, attr.ino, 1);
	must(t_unlink(dir, DISK));
	must(ns_trash_remove(nf.ns, disk, &t_err));
	ns_fixture_reopen();
	ck_assert_str_eq(t_read(t_ino("/d/c.raw")), "first");
}
END_TEST

START_TEST(a_restore_can_replace_what_took_the_name)
{
	uint64_t new;

	must(t_unlink(dir, DISK));
	new = make_disk(dir, DISK, "other");
	must(snapshot_of(new, "one", false));
	must(restore(disk, dir, DISK, true));
	ck_assert_uint_eq(t_ino("/d/" DISK), disk);
	ck_assert_uint_eq(look().last.ino, new);
	ck_assert_uint_eq(t_attr(dir).entries, 1);
	must(t_unlink(dir, DISK));
	must(t_mkdir(dir, DISK));
	gives(restore(disk, dir, DISK, true), -EISDIR);
	gives(restore(disk, dir, "a/b", false), -EINVAL);
	gives(restore(disk, NS_ROOT_INO, NS_VIEW_NAME, true), -EEXIST);
}
END_TEST

/* --- more than one process --------------------------------------------------------------------- */

/* The one inode that the kernel holds. */
static uint64_t held;

static bool is_held(void *arg, uint64_t ino)
{
	(void)arg;
	return ino == held;
}

START_TEST(the_next_process_finds_it_held_or_not)
{
	struct ns_attr attr;
	uint64_t second = make_disk(dir, "second.raw", "text");

	must(snapshot_of(second, "one", false));
	must(ns_handle_open(nf.ns, disk, &attr, &t_err));
	must(t_unlink(dir, DISK));
	must(t_unlink(dir, "second.raw"));
	held = disk;
	ns_hand_over(nf.ns);
	nf.options.resumed = true;
	ns_fixture_reopen();
	must(ns_resume(nf.ns, is_held, NULL, &t_err));
	ck_assert_uint_eq(look().count, 2);
	must(ns_trash_remove(nf.ns, second, &t_err));
	ck_assert(!has_object(second));
	must(ns_trash_remove(nf.ns, disk, &t_err));
	ck_assert_str_eq(t_read(disk), "young");
	held = 0;
	ns_forget(nf.ns, disk, 1);
	ck_assert(!has_object(disk));
}
END_TEST

/* --- a death at any moment ---------------------------------------------------------------------- */

#define DISKS 6u

static const char *name_of(unsigned int n)
{
	static char text[16];

	(void)snprintf(text, sizeof(text), "%u.raw", n);
	return text;
}

static void prepare_disks(void)
{
	ns_fixture_create();
	ns_fixture_open();
	for (unsigned int n = 0; n < DISKS; n++)
		must(snapshot_of(make_disk(NS_ROOT_INO, name_of(n), name_of(n)), "one", false));
	ns_fixture_close();
	_exit(0);
}

/* In the trash and out of it, until it is killed; each word says that one more turn is over. */
static void churn(int out)
{
	uint64_t inos[DISKS];

	check_messages_leave();
	ns_fixture_open();
	for (unsigned int n = 0; n < DISKS; n++)
		inos[n] = t_ino(name_of(n));
	for (unsigned int turn = 0;; turn++) {
		unsigned int a = turn % DISKS, b = (turn + 1) % DISKS;

		/* Over one that goes to the trash, and back over that name. */
		must(t_rename(NS_ROOT_INO, name_of(a), NS_ROOT_INO, "there", 0));
		must(t_rename(NS_ROOT_INO, name_of(b), NS_ROOT_INO, "there", 0));
		must(restore(inos[a], NS_ROOT_INO, "there", true));
		must(restore(inos[b], NS_ROOT_INO, name_of(b), false));
		must(t_rename(NS_ROOT_INO, "there", NS_ROOT_INO, name_of(a), 0));
		if (write(out, "", 1) != 1)
			_exit(4);
	}
}

/* Each disk is there, whole, under one name or in the trash. */
static void judge_disks(void)
{
	unsigned int there = 0;

	ns_fixture_open();
	ns_fixture_check();
	there = look().count;
	for (unsigned int n = 0; n <= DISKS; n++) {
		const char *name = n < DISKS ? name_of(n) : "there";
		uint64_t ino = t_ino(name);

		if (!ino)
			continue;
		there++;
		ck_assert_uint_eq(snapshot_count(nf.pool, ino), 1);
		if (n < DISKS)
			ck_assert_str_eq(t_read(ino), name);
	}
	ck_assert_uint_eq(there, DISKS);
	ns_fixture_close();
	_exit(0);
}

static pid_t fork_it(void)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	return pid;
}

static void wait_well(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

START_TEST(a_kill_leaves_each_file_named_or_in_the_trash)
{
	char byte;

	for (unsigned int round = 0; round < 5; round++) {
		int pipes[2], status;
		pid_t pid;

		ns_fixture_prepare();
		pid = fork_it();
		if (pid == 0)
			prepare_disks();
		wait_well(pid);
		ck_assert_int_eq(pipe(pipes), 0);
		pid = fork_it();
		if (pid == 0)
			churn(pipes[1]);
		(void)close(pipes[1]);
		for (unsigned int turn = 0; turn < 3 + 7 * round; turn++)
			ck_assert_int_eq(read(pipes[0], &byte, 1), 1);
		nanosleep(&(struct timespec){ .tv_nsec = 300000 * round }, NULL);
		ck_assert_int_eq(kill(pid, SIGKILL), 0);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert(WIFSIGNALED(status));
		(void)close(pipes[0]);
		pid = fork_it();
		if (pid == 0)
			judge_disks();
		wait_well(pid);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/ns_trash");
	TCase *t = tcase_create("trash"), *kills = tcase_create("kill");
	SRunner *runner = srunner_create(s);
	int failed;

	ns_fixture_add(t);
	tcase_add_checked_fixture(t, begin, NULL);
	tcase_add_test(t, a_disk_with_snapshots_goes_to_the_trash_whole);
	tcase_add_test(t, what_is_renamed_over_goes_there_as_well);
	tcase_add_test(t, only_the_last_name_counts);
	tcase_add_test(t, the_policy_says_what_is_kept);
	tcase_add_test(t, a_sticky_snapshot_keeps_the_name);
	tcase_add_test(t, who_has_it_open_goes_on_using_it);
	tcase_add_test(t, its_last_user_leaves_it_in_the_trash);
	tcase_add_test(t, the_directory_may_go);
	tcase_add_test(t, of_an_overlong_path_the_name_is_kept);
	tcase_add_test(t, a_removed_one_is_gone_for_good);
	tcase_add_test(t, the_oldest_expire);
	tcase_add_test(t, a_clone_needs_nothing_of_what_is_in_the_trash);
	tcase_add_test(t, a_restore_can_replace_what_took_the_name);
	tcase_add_test(t, the_next_process_finds_it_held_or_not);
	suite_add_tcase(s, t);
	ns_fixture_add_empty(kills);
	tcase_set_timeout(kills, 60);
	tcase_add_test(kills, a_kill_leaves_each_file_named_or_in_the_trash);
	suite_add_tcase(s, kills);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
