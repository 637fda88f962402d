/* Every operation of the namespace and each error it promises. */
#include "support_ns.h"

#include <stdio.h>
#include <stdlib.h>

#define ROOT NS_ROOT_INO

static const char *long_name(unsigned int len)
{
	static char name[300];

	memset(name, 'x', sizeof(name));
	name[len] = 0;
	return name;
}

/* --- making ------------------------------------------------------------------------------------ */

START_TEST(a_new_pool_has_an_empty_root)
{
	struct ns_attr a = t_attr(ROOT);

	ck_assert_uint_eq(a.mode, S_IFDIR | 0755);
	ck_assert_uint_eq(a.nlink, 2);
	ck_assert_uint_eq(a.entries, 0);
}
END_TEST

START_TEST(every_type_can_be_made_and_stays)
{
	static const uint32_t types[] = { S_IFREG, S_IFDIR, S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK };
	struct ns_attr a;

	for (unsigned int i = 0; i < ARRAY_SIZE(types); i++) {
		struct ns_new new = { .mode = types[i] | 0640, .rdev = 0x103, .cred = { 7, 8 } };
		char name[2] = { (char)('a' + i), 0 };

		must(ns_create(nf.ns, ROOT, name, 1, &new, &a, &t_err));
		ck_assert_uint_eq(a.mode, new.mode);
		ck_assert_uint_eq(a.uid, 7);
		ck_assert_uint_eq(a.gid, 8);
		ck_assert_uint_eq(a.nlink, S_ISDIR(types[i]) ? 2 : 1);
		ck_assert_uint_eq(a.rdev, i >= 4 ? 0x103 : 0);
	}
	ns_fixture_reopen();
	for (unsigned int i = 0; i < ARRAY_SIZE(types); i++) {
		char name[2] = { (char)('a' + i), 0 };

		ck_assert_uint_eq(t_attr(t_ino(name)).mode, types[i] | 0640);
	}
	ck_assert_uint_eq(t_attr(ROOT).entries, 6);
	ck_assert_uint_eq(t_attr(ROOT).nlink, 3);
}
END_TEST

START_TEST(create_refuses_what_it_promises_to)
{
	struct ns_new odd = { .mode = 0x5000 };
	struct ns_attr a;

	must(t_create(ROOT, "f"));
	gives(t_create(ROOT, "f"), -EEXIST);
	gives(t_mkdir(ROOT, "f"), -EEXIST);
	gives(t_create(ROOT, "."), -EEXIST);
	gives(t_mkdir(ROOT, ".."), -EEXIST);
	gives(t_create(ROOT, ""), -EINVAL);
	gives(t_create(ROOT, "a/b"), -EINVAL);
	gives(ns_create(nf.ns, ROOT, "a\0b", 3, &odd, &a, NULL), -EINVAL);
	gives(ns_create(nf.ns, ROOT, "odd", 3, &odd, &a, NULL), -EINVAL);
	gives(t_create(ROOT, long_name(256)), -ENAMETOOLONG);
	must(t_create(ROOT, long_name(255)));
	gives(t_create(t_ino("f"), "x"), -ENOTDIR);
	gives(t_create(999999, "x"), -ESTALE);
	ck_assert_uint_eq(t_attr(ROOT).entries, 2);
}
END_TEST

START_TEST(names_may_be_any_bytes)
{
	for (int c = 1; c < 256; c++) {
		char name[3] = { (char)c, (char)(255 - c ? 255 - c : 1), 0 };

		if (c == '/' || 255 - c == '/')
			continue;
		must(t_create(ROOT, name));
	}
	gives(t_create(ROOT, "\xff\x01"), -EEXIST);
}
END_TEST

START_TEST(a_symbolic_link_keeps_its_target)
{
	struct ns_cred cred = { 1, 2 };
	struct ns_attr a;
	struct buf out;
	char *target = malloc(NS_SYMLINK_MAX + 2);

	ck_assert_ptr_nonnull(target);
	memset(target, 't', NS_SYMLINK_MAX + 1);
	target[NS_SYMLINK_MAX + 1] = 0;
	buf_init(&out, 5000);
	gives(ns_symlink(nf.ns, ROOT, "l", 1, target, cred, &a, NULL), -ENAMETOOLONG);
	gives(ns_symlink(nf.ns, ROOT, "l", 1, "", cred, &a, NULL), -ENOENT);
	target[NS_SYMLINK_MAX] = 0;
	must(ns_symlink(nf.ns, ROOT, "l", 1, target, cred, &a, &t_err));
	ck_assert_uint_eq(a.size_bytes, NS_SYMLINK_MAX);
	ck_assert_uint_eq(a.mode, S_IFLNK | 0777);
	must(ns_setattr(nf.ns, a.ino, &(struct ns_setattr){ .valid = NS_SET_UID, .uid = 9 }, &a,
			&t_err));
	must(t_rename(ROOT, "l", ROOT, "m", 0));
	must(t_link(a.ino, ROOT, "n"));
	ns_fixture_reopen();
	must(ns_readlink(nf.ns, a.ino, &out, &t_err));
	ck_assert_uint_eq(out.len_bytes, NS_SYMLINK_MAX);
	ck_assert_mem_eq(out.data, target, NS_SYMLINK_MAX);
	gives(ns_readlink(nf.ns, ROOT, &out, NULL), -EINVAL);
	buf_done(&out);
	free(target);
}
END_TEST

START_TEST(a_set_group_id_directory_hands_its_group_down)
{
	struct ns_setattr set = { .valid = NS_SET_MODE | NS_SET_GID, .mode = 02775, .gid = 42 };
	struct ns_attr a;

	must(t_mkdir(ROOT, "d"));
	must(ns_setattr(nf.ns, t_ino("d"), &set, NULL, &t_err));
	must(t_create(t_ino("d"), "f"));
	must(t_mkdir(t_ino("d"), "e"));
	a = t_attr(t_ino("d/f"));
	ck_assert_uint_eq(a.gid, 42);
	ck_assert_uint_eq(a.mode & S_ISGID, 0);
	a = t_attr(t_ino("d/e"));
	ck_assert_uint_eq(a.gid, 42);
	ck_assert_uint_eq(a.mode & 07777, 02755);
}
END_TEST

START_TEST(too_many_subdirectories_or_names_are_refused)
{
	nf.options.link_max = 2;
	ns_fixture_reopen();
	must(t_mkdir(ROOT, "a"));
	must(t_mkdir(ROOT, "b"));
	gives(t_mkdir(ROOT, "c"), -EMLINK);
	must(t_create(ROOT, "f"));
	must(t_link(t_ino("f"), ROOT, "g"));
	gives(t_link(t_ino("f"), ROOT, "h"), -EMLINK);
	must(t_mkdir(t_ino("a"), "c"));
	gives(t_rename(t_ino("a"), "c", ROOT, "c", 0), -EMLINK);
	must(t_rename(t_ino("a"), "c", ROOT, "b", 0)); /* one comes, one goes */
	must(t_mkdir(t_ino("a"), "d"));
	gives(t_rename(t_ino("a"), "d", ROOT, "f", NS_RENAME_EXCHANGE), -EMLINK);
}
END_TEST

/* --- looking up -------------------------------------------------------------------------------- */

START_TEST(look_up_finds_names_dots_and_nothing_else)
{
	struct ns_attr a;

	must(t_mkdir(ROOT, "d"));
	must(t_create(t_ino("d"), "f"));
	must(ns_lookup(nf.ns, ROOT, "d", 1, &a, &t_err));
	ck_assert_uint_eq(a.ino, t_ino("d"));
	must(ns_lookup(nf.ns, a.ino, "..", 2, &a, &t_err));
	ck_assert_uint_eq(a.ino, ROOT);
	must(ns_lookup(nf.ns, ROOT, "..", 2, &a, &t_err));
	ck_assert_uint_eq(a.ino, ROOT);
	must(ns_lookup(nf.ns, t_ino("d/f"), ".", 1, &a, &t_err));
	ck_assert_uint_eq(a.ino, t_ino("d/f"));
	gives(ns_lookup(nf.ns, t_ino("d/f"), "..", 2, &a, NULL), -ENOTDIR);
	gives(ns_lookup(nf.ns, t_ino("d/f"), "x", 1, &a, NULL), -ENOTDIR);
	gives(ns_lookup(nf.ns, ROOT, "x", 1, &a, NULL), -ENOENT);
	gives(ns_lookup(nf.ns, ROOT, "", 0, &a, NULL), -EINVAL);
	gives(ns_lookup(nf.ns, ROOT, long_name(256), 256, &a, NULL), -ENAMETOOLONG);
	gives(ns_lookup(nf.ns, 12345678, "x", 1, &a, NULL), -ESTALE);
	gives(ns_lookup(nf.ns, 12345678, ".", 1, &a, NULL), -ESTALE);
}
END_TEST

/* --- removing ---------------------------------------------------------------------------------- */

START_TEST(unlink_and_rmdir_refuse_what_they_promise_to)
{
	must(t_mkdir(ROOT, "d"));
	must(t_create(t_ino("d"), "f"));
	gives(t_unlink(ROOT, "d"), -EISDIR);
	gives(t_unlink(ROOT, "."), -EISDIR);
	gives(t_unlink(ROOT, "none"), -ENOENT);
	gives(t_rmdir(ROOT, "none"), -ENOENT);
	gives(t_rmdir(ROOT, "d"), -ENOTEMPTY);
	gives(t_rmdir(ROOT, "."), -EINVAL);
	gives(t_rmdir(ROOT, ".."), -ENOTEMPTY);
	gives(t_rmdir(t_ino("d"), "f"), -ENOTDIR);
	gives(t_unlink(t_ino("d/f"), "f"), -ENOTDIR);
	gives(t_unlink(ROOT, long_name(256)), -ENAMETOOLONG);
	gives(t_rmdir(4711, "f"), -ESTALE);
	must(t_unlink(t_ino("d"), "f"));
	must(t_rmdir(ROOT, "d"));
	ck_assert_uint_eq(t_attr(ROOT).nlink, 2);
	ck_assert_uint_eq(t_attr(ROOT).entries, 0);
}
END_TEST

START_TEST(a_removed_inode_is_stale_and_its_object_gone)
{
	struct ns_attr a;
	struct object *o;
	uint64_t f;

	must(t_create(ROOT, "f"));
	f = t_ino("f");
	must(t_unlink(ROOT, "f"));
	gives(ns_getattr(nf.ns, f, &a, NULL), -ESTALE);
	gives(ns_object_get(nf.ns, f, &o, NULL), -ESTALE);
	gives(object_open(nf.pool, f, &o, NULL), -ENOENT);
}
END_TEST

START_TEST(nothing_is_made_in_a_removed_directory)
{
	struct ns_attr a;
	uint64_t d;

	must(t_mkdir(ROOT, "d"));
	must(t_create(ROOT, "f"));
	must(ns_lookup(nf.ns, ROOT, "d", 1, &a, &t_err));
	d = a.ino;
	must(t_rmdir(ROOT, "d"));
	ck_assert_uint_eq(t_attr(d).nlink, 0);
	gives(t_create(d, "x"), -ENOENT);
	gives(t_mkdir(d, "x"), -ENOENT);
	gives(t_link(t_ino("f"), d, "x"), -ENOENT);
	gives(t_rename(ROOT, "f", d, "x", 0), -ENOENT);
	gives(t_unlink(d, "x"), -ENOENT);
	gives(ns_lookup(nf.ns, d, "..", 2, &a, NULL), -ESTALE);
	ns_forget(nf.ns, d, 1);
	gives(t_create(d, "x"), -ESTALE);
}
END_TEST

/* --- links ------------------------------------------------------------------------------------- */

START_TEST(hard_links_share_the_inode_until_the_last_goes)
{
	uint64_t f, d;

	must(t_create(ROOT, "f"));
	must(t_mkdir(ROOT, "d"));
	f = t_ino("f");
	d = t_ino("d");
	t_write(f, 0, "data");
	must(t_link(f, d, "g"));
	gives(t_link(f, d, "g"), -EEXIST);
	gives(t_link(d, ROOT, "e"), -EPERM);
	gives(t_link(99999, ROOT, "e"), -ESTALE);
	gives(t_link(f, f, "e"), -ENOTDIR);
	gives(t_link(f, ROOT, "."), -EEXIST);
	gives(t_link(f, ROOT, long_name(256)), -ENAMETOOLONG);
	ck_assert_uint_eq(t_attr(f).nlink, 2);
	must(t_unlink(ROOT, "f"));
	ck_assert_uint_eq(t_attr(f).nlink, 1);
	ck_assert_str_eq(t_read(t_ino("d/g")), "data");
	must(t_unlink(d, "g"));
	gives(t_unlink(d, "g"), -ENOENT);
}
END_TEST

START_TEST(a_file_without_a_name_can_not_get_one_again)
{
	struct ns_attr a;
	uint64_t f;

	must(t_create(ROOT, "f"));
	must(ns_lookup(nf.ns, ROOT, "f", 1, &a, &t_err));
	f = a.ino;
	must(t_unlink(ROOT, "f"));
	gives(t_link(f, ROOT, "g"), -ENOENT);
	ns_forget(nf.ns, f, 1);
}
END_TEST

/* --- renaming ---------------------------------------------------------------------------------- */

START_TEST(rename_moves_replaces_and_keeps_counts)
{
	uint64_t a, b, f;

	must(t_mkdir(ROOT, "a"));
	must(t_mkdir(ROOT, "b"));
	a = t_ino("a");
	b = t_ino("b");
	must(t_create(a, "f"));
	f = t_ino("a/f");
	t_write(f, 0, "one");
	must(t_rename(a, "f", a, "g", 0));
	must(t_rename(a, "g", b, "g", 0));
	ck_assert_uint_eq(t_ino("b/g"), f);
	must(t_create(b, "h"));
	must(t_rename(b, "g", b, "h", 0));
	ck_assert_str_eq(t_read(t_ino("b/h")), "one");
	ck_assert_uint_eq(t_attr(b).entries, 1);
	must(t_mkdir(a, "s"));
	must(t_rename(a, "s", b, "s", 0));
	ck_assert_uint_eq(t_attr(a).nlink, 2);
	ck_assert_uint_eq(t_attr(b).nlink, 3);
	must(t_rename(ROOT, "a", b, "s", 0)); /* over an empty directory */
	ck_assert_uint_eq(t_ino("b/s"), a);
	ck_assert_uint_eq(t_ino("b/s/.."), b);
	ck_assert_uint_eq(t_attr(ROOT).nlink, 3);
}
END_TEST

START_TEST(rename_refuses_what_it_promises_to)
{
	uint64_t d;

	must(t_mkdir(ROOT, "d"));
	d = t_ino("d");
	must(t_mkdir(d, "e"));
	must(t_create(ROOT, "f"));
	must(t_create(ROOT, "g"));
	gives(t_rename(ROOT, "none", ROOT, "x", 0), -ENOENT);
	gives(t_rename(ROOT, "f", ROOT, "none", NS_RENAME_EXCHANGE), -ENOENT);
	gives(t_rename(ROOT, "f", ROOT, "g", NS_RENAME_NOREPLACE), -EEXIST);
	gives(t_rename(ROOT, "f", ROOT, "f", NS_RENAME_NOREPLACE), -EEXIST);
	gives(t_rename(ROOT, "f", ROOT, "d", 0), -EISDIR);
	gives(t_rename(ROOT, "d", ROOT, "f", 0), -ENOTDIR);
	gives(t_rename(ROOT, "f", t_ino("g"), "x", 0), -ENOTDIR);
	gives(t_rename(ROOT, "d", d, "x", 0), -EINVAL);
	gives(t_rename(ROOT, "d", t_ino("d/e"), "x", 0), -EINVAL);
	gives(t_rename(ROOT, "d", t_ino("d/e"), "x", NS_RENAME_EXCHANGE), -ENOENT);
	gives(t_rename(d, "e", ROOT, "d", NS_RENAME_EXCHANGE), -EINVAL);
	must(t_mkdir(t_ino("d/e"), "x"));
	gives(t_rename(ROOT, "d", t_ino("d/e"), "x", NS_RENAME_EXCHANGE), -EINVAL);
	gives(t_rename(t_ino("d/e"), "x", ROOT, "d", 0), -ENOTEMPTY);
	gives(t_rename(ROOT, "f", ROOT, "x", 8), -EINVAL);
	gives(t_rename(ROOT, "f", ROOT, "x", NS_RENAME_EXCHANGE | NS_RENAME_NOREPLACE), -EINVAL);
	gives(t_rename(ROOT, ".", ROOT, "x", 0), -EINVAL);
	gives(t_rename(ROOT, "f", ROOT, "..", 0), -EINVAL);
	gives(t_rename(ROOT, "f", ROOT, long_name(256), 0), -ENAMETOOLONG);
	gives(t_rename(ROOT, "f", 88888, "x", 0), -ESTALE);
	gives(t_rename(88888, "f", ROOT, "x", 0), -ESTALE);
	must(t_rename(ROOT, "f", ROOT, "f", 0));
	must(t_rename(ROOT, "f", ROOT, "h", NS_RENAME_NOREPLACE));
}
END_TEST

START_TEST(rename_between_two_names_of_a_file_does_nothing)
{
	must(t_create(ROOT, "f"));
	must(t_link(t_ino("f"), ROOT, "g"));
	must(t_rename(ROOT, "f", ROOT, "g", 0));
	ck_assert_uint_eq(t_ino("f"), t_ino("g"));
	ck_assert_uint_eq(t_attr(t_ino("f")).nlink, 2);
	must(t_rename(ROOT, "f", ROOT, "g", NS_RENAME_EXCHANGE));
	ck_assert_uint_eq(t_attr(ROOT).entries, 2);
}
END_TEST

START_TEST(exchange_swaps_files_directories_and_both)
{
	uint64_t d, f, s;

	must(t_mkdir(ROOT, "d"));
	d = t_ino("d");
	must(t_mkdir(d, "s"));
	must(t_create(t_ino("d/s"), "in"));
	must(t_create(ROOT, "f"));
	f = t_ino("f");
	s = t_ino("d/s");
	must(t_rename(ROOT, "f", d, "s", NS_RENAME_EXCHANGE));
	ck_assert_uint_eq(t_ino("f"), s);
	ck_assert_uint_eq(t_ino("d/s"), f);
	ck_assert_uint_eq(t_ino("f/.."), ROOT);
	ck_assert_uint_eq(t_attr(d).nlink, 2);
	ck_assert_uint_eq(t_attr(ROOT).nlink, 4);
	must(t_rename(ROOT, "d", ROOT, "f", NS_RENAME_EXCHANGE));
	ck_assert_uint_eq(t_ino("f"), d);
	ck_assert_uint_ne(t_ino("d/in"), 0);
}
END_TEST

/* --- attributes -------------------------------------------------------------------------------- */

START_TEST(setattr_sets_what_it_is_told_and_moves_ctime)
{
	struct ns_setattr set = { .valid = NS_SET_MODE | NS_SET_UID | NS_SET_GID | NS_SET_ATIME |
					   NS_SET_MTIME,
				  .mode = 06711,
				  .uid = 5,
				  .gid = 6,
				  .atime_ns = -1,
				  .mtime_ns = 1234567890123456789 };
	struct ns_attr before, a;

	must(t_create(ROOT, "f"));
	before = t_attr(t_ino("f"));
	must(ns_setattr(nf.ns, before.ino, &set, &a, &t_err));
	ck_assert_uint_eq(a.mode, S_IFREG | 06711);
	ck_assert_uint_eq(a.uid, 5);
	ck_assert_uint_eq(a.gid, 6);
	ck_assert_int_eq(a.atime_ns, -1);
	ck_assert_int_eq(a.mtime_ns, 1234567890123456789);
	ck_assert_int_gt(a.ctime_ns, before.ctime_ns);
	ck_assert_int_eq(a.crtime_ns, before.crtime_ns);
	set = (struct ns_setattr){ .valid = NS_SET_MTIME_NOW | NS_SET_ATIME_NOW };
	must(ns_setattr(nf.ns, a.ino, &set, &a, &t_err));
	ck_assert_int_eq(a.mtime_ns, a.ctime_ns);
	ck_assert_int_eq(a.atime_ns, a.ctime_ns);
	set = (struct ns_setattr){ .valid = NS_SET_CTIME, .ctime_ns = a.ctime_ns + 5 };
	must(ns_setattr(nf.ns, a.ino, &set, &before, &t_err));
	ck_assert_int_eq(before.ctime_ns, a.ctime_ns + 5);
	gives(ns_setattr(nf.ns, 123456, &set, NULL, NULL), -ESTALE);
}
END_TEST

START_TEST(setting_a_size_cuts_extends_and_moves_times)
{
	struct ns_setattr set = { .valid = NS_SET_SIZE, .size_bytes = 3 };
	struct ns_attr before, a;
	uint64_t f;

	must(t_create(ROOT, "f"));
	f = t_ino("f");
	t_write(f, 0, "abcdef");
	before = t_attr(f);
	must(ns_setattr(nf.ns, f, &set, &a, &t_err));
	ck_assert_uint_eq(a.size_bytes, 3);
	ck_assert_str_eq(t_read(f), "abc");
	ck_assert_int_gt(a.mtime_ns, before.mtime_ns);
	ck_assert_int_ge(a.ctime_ns, a.mtime_ns);
	before = a;
	must(ns_setattr(nf.ns, f, &set, &a, &t_err)); /* the same size */
	ck_assert_int_gt(a.mtime_ns, before.mtime_ns);
	set.size_bytes = 1u << 30;
	must(ns_setattr(nf.ns, f, &set, &a, &t_err));
	ck_assert_uint_eq(a.size_bytes, 1u << 30);
	set.size_bytes = OBJECT_BYTES_MAX + 1;
	gives(ns_setattr(nf.ns, f, &set, NULL, NULL), -EFBIG);
	gives(ns_setattr(nf.ns, ROOT, &set, NULL, NULL), -EISDIR);
	must(ns_create(nf.ns, ROOT, "p", 1, &(struct ns_new){ .mode = S_IFIFO }, &a, &t_err));
	set.size_bytes = 0;
	gives(ns_setattr(nf.ns, a.ino, &set, NULL, NULL), -EINVAL);
}
END_TEST

START_TEST(an_explicit_mtime_holds_until_the_next_write)
{
	struct ns_setattr set = { .valid = NS_SET_MTIME, .mtime_ns = 1000 };
	struct ns_attr a;
	uint64_t f;

	must(t_create(ROOT, "f"));
	must(t_create(ROOT, "other"));
	f = t_ino("f");
	t_write(f, 0, "x");
	must(ns_setattr(nf.ns, f, &set, &a, &t_err));
	ck_assert_int_eq(a.mtime_ns, 1000);
	t_write(t_ino("other"), 0, "of the same stream");
	ck_assert_int_eq(t_attr(f).mtime_ns, 1000);
	ns_fixture_reopen();
	ck_assert_int_eq(t_attr(f).mtime_ns, 1000);
	t_write(f, 0, "y");
	a = t_attr(f);
	ck_assert_int_gt(a.mtime_ns, 1000);
	ck_assert_int_ge(a.ctime_ns, a.mtime_ns);
	ns_fixture_reopen();
	ck_assert_int_eq(t_attr(f).mtime_ns, a.mtime_ns);
}
END_TEST

START_TEST(changes_of_names_move_the_times_of_the_directories)
{
	struct ns_attr root, d, now;

	must(t_mkdir(ROOT, "d"));
#define MOVED(ino, before)                                                                         \
	do {                                                                                       \
		now = t_attr(ino);                                                                 \
		ck_assert_int_gt(now.mtime_ns, (before).mtime_ns);                                 \
		ck_assert_int_gt(now.ctime_ns, (before).ctime_ns);                                 \
		(before) = now;                                                                    \
	} while (0)
	root = t_attr(ROOT);
	d = t_attr(t_ino("d"));
	must(t_create(ROOT, "f"));
	MOVED(ROOT, root);
	must(t_link(t_ino("f"), d.ino, "g"));
	MOVED(d.ino, d);
	must(t_rename(ROOT, "f", d.ino, "h", 0));
	MOVED(ROOT, root);
	MOVED(d.ino, d);
	must(t_rename(d.ino, "g", d.ino, "i", 0));
	must(t_unlink(d.ino, "i"));
	MOVED(d.ino, d);
	must(t_mkdir(ROOT, "e"));
	must(t_rename(ROOT, "e", d.ino, "h", NS_RENAME_EXCHANGE));
	MOVED(ROOT, root);
	MOVED(d.ino, d);
	now = t_attr(t_ino("e"));
	must(t_unlink(ROOT, "e"));
	must(t_rmdir(d.ino, "h"));
	MOVED(ROOT, root);
	MOVED(d.ino, d);
	gives(t_unlink(ROOT, "e"), -ENOENT);
	ck_assert_int_eq(t_attr(ROOT).mtime_ns, root.mtime_ns);
#undef MOVED
}
END_TEST

START_TEST(links_and_renames_move_the_ctime_of_the_file_only)
{
	struct ns_attr a, b;

	must(t_create(ROOT, "f"));
	a = t_attr(t_ino("f"));
	must(t_link(a.ino, ROOT, "g"));
	b = t_attr(a.ino);
	ck_assert_int_gt(b.ctime_ns, a.ctime_ns);
	ck_assert_int_eq(b.mtime_ns, a.mtime_ns);
	must(t_unlink(ROOT, "g"));
	a = t_attr(a.ino);
	ck_assert_int_gt(a.ctime_ns, b.ctime_ns);
	must(t_rename(ROOT, "f", ROOT, "h", 0));
	b = t_attr(a.ino);
	ck_assert_int_gt(b.ctime_ns, a.ctime_ns);
	ck_assert_int_eq(b.mtime_ns, a.mtime_ns);
}
END_TEST

/* --- extended attributes ----------------------------------------------------------------------- */

START_TEST(extended_attributes_are_kept_listed_and_removed)
{
	char *big = calloc(1, NS_XATTR_BYTES_MAX + 1);
	struct buf out;
	uint64_t f;

	ck_assert_ptr_nonnull(big);
	buf_init(&out, 200000);
	must(t_create(ROOT, "f"));
	f = t_ino("f");
	gives(ns_xattr_get(nf.ns, f, "user.a", &out, NULL), -ENODATA);
	must(ns_xattr_set(nf.ns, f, "user.a", "1", 1, NS_XATTR_CREATE, &t_err));
	must(ns_xattr_set(nf.ns, f, "user.b", big, NS_XATTR_BYTES_MAX, 0, &t_err));
	must(ns_xattr_set(nf.ns, f, "user.empty", NULL, 0, 0, &t_err));
	must(ns_xattr_set(nf.ns, f, "user.a", "22", 2, NS_XATTR_REPLACE, &t_err));
	gives(ns_xattr_set(nf.ns, f, "user.a", "1", 1, NS_XATTR_CREATE, NULL), -EEXIST);
	gives(ns_xattr_set(nf.ns, f, "user.c", "1", 1, NS_XATTR_REPLACE, NULL), -ENODATA);
	gives(ns_xattr_set(nf.ns, f, "user.c", "1", 1, 3, NULL), -EINVAL);
	gives(ns_xattr_set(nf.ns, f, "user.c", big, NS_XATTR_BYTES_MAX + 1, 0, NULL), -E2BIG);
	gives(ns_xattr_set(nf.ns, f, "", "1", 1, 0, NULL), -ERANGE);
	gives(ns_xattr_set(nf.ns, f, long_name(256), "1", 1, 0, NULL), -ERANGE);
	gives(ns_xattr_set(nf.ns, f, "system.posix_acl_access", "1", 1, 0, NULL), -EOPNOTSUPP);
	gives(ns_xattr_set(nf.ns, 345678, "user.a", "1", 1, 0, NULL), -ESTALE);
	ns_fixture_reopen();
	must(ns_xattr_get(nf.ns, f, "user.a", &out, &t_err));
	ck_assert_uint_eq(out.len_bytes, 2);
	must(ns_xattr_get(nf.ns, f, "user.b", &out, &t_err));
	ck_assert_uint_eq(out.len_bytes, NS_XATTR_BYTES_MAX);
	must(ns_xattr_get(nf.ns, f, "user.empty", &out, &t_err));
	ck_assert_uint_eq(out.len_bytes, 0);
	must(ns_xattr_list(nf.ns, f, &out, &t_err));
	ck_assert_uint_eq(out.len_bytes, 25);
	ck_assert_mem_eq(out.data, "user.a\0user.b\0user.empty", 25);
	must(ns_xattr_remove(nf.ns, f, "user.b", &t_err));
	gives(ns_xattr_remove(nf.ns, f, "user.b", NULL), -ENODATA);
	ns_fixture_check();
	must(t_unlink(ROOT, "f")); /* takes the others along */
	gives(ns_xattr_get(nf.ns, f, "user.a", &out, NULL), -ESTALE);
	buf_done(&out);
	free(big);
}
END_TEST

START_TEST(the_names_of_extended_attributes_have_a_limit)
{
	char name[256];
	int r = 0;
	unsigned int i;

	memset(name, 'n', sizeof(name));
	for (i = 0; r == 0 && i < 1000; i++) {
		(void)snprintf(name, sizeof(name), "user.%0200u", i);
		r = ns_xattr_set(nf.ns, ROOT, name, "v", 1, 0, NULL);
	}
	ck_assert_int_eq(r, -ENOSPC);
	ck_assert_uint_eq(i - 1, NS_XATTR_BYTES_MAX / 206);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/ns_ops");
	TCase *t = tcase_create("operations");
	SRunner *runner = srunner_create(s);
	int failed;

	ns_fixture_add(t);
	tcase_add_test(t, a_new_pool_has_an_empty_root);
	tcase_add_test(t, every_type_can_be_made_and_stays);
	tcase_add_test(t, create_refuses_what_it_promises_to);
	tcase_add_test(t, names_may_be_any_bytes);
	tcase_add_test(t, a_symbolic_link_keeps_its_target);
	tcase_add_test(t, a_set_group_id_directory_hands_its_group_down);
	tcase_add_test(t, too_many_subdirectories_or_names_are_refused);
	tcase_add_test(t, look_up_finds_names_dots_and_nothing_else);
	tcase_add_test(t, unlink_and_rmdir_refuse_what_they_promise_to);
	tcase_add_test(t, a_removed_inode_is_stale_and_its_object_gone);
	tcase_add_test(t, nothing_is_made_in_a_removed_directory);
	tcase_add_test(t, hard_links_share_the_inode_until_the_last_goes);
	tcase_add_test(t, a_file_without_a_name_can_not_get_one_again);
	tcase_add_test(t, rename_moves_replaces_and_keeps_counts);
	tcase_add_test(t, rename_refuses_what_it_promises_to);
	tcase_add_test(t, rename_between_two_names_of_a_file_does_nothing);
	tcase_add_test(t, exchange_swaps_files_directories_and_both);
	tcase_add_test(t, setattr_sets_what_it_is_told_and_moves_ctime);
	tcase_add_test(t, setting_a_size_cuts_extends_and_moves_times);
	tcase_add_test(t, an_explicit_mtime_holds_until_the_next_write);
	tcase_add_test(t, changes_of_names_move_the_times_of_the_directories);
	tcase_add_test(t, links_and_renames_move_the_ctime_of_the_file_only);
	tcase_add_test(t, extended_attributes_are_kept_listed_and_removed);
	tcase_add_test(t, the_names_of_extended_attributes_have_a_limit);
	suite_add_tcase(s, t);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
