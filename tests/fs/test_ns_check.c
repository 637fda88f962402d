/* The check finds each kind of damage, and says nothing of what is whole. */
#include "fs/ns_rows.h"
#include "support_ns.h"

#include <stdio.h>

#define ROOT NS_ROOT_INO

static char found[4000];

static void note(UNUSED void *arg, const struct ns_problem *p)
{
	size_t len = strlen(found);

	(void)snprintf(found + len, sizeof(found) - len, "%" PRIu64 ": %s\n", p->ino, p->what);
}

static struct ns_check_result check_all(void)
{
	struct ns_check_result result;

	found[0] = 0;
	must(ns_check(nf.ns, note, NULL, &result, &t_err));
	return result;
}

/* Change rows behind the namespace's back; a row of no bytes is deleted. Then open anew. */
static void damage(const struct ns_key *key, const struct buf *value)
{
	struct names_batch *b = names_batch_new(nf.pool);

	ck_assert_ptr_nonnull(b);
	if (value)
		must(names_put(b, key->bytes, key->len_bytes, value->data, value->len_bytes));
	else
		must(names_delete(b, key->bytes, key->len_bytes));
	must(names_commit(b, &t_err));
	names_batch_free(b);
}

static struct ns_inode_row read_inode(uint64_t ino)
{
	struct ns_key key = ns_key_ino(NS_ROW_INODE, ino);
	struct ns_inode_row row;
	struct buf value;

	buf_init(&value, 8192);
	must(names_get(nf.pool, key.bytes, key.len_bytes, &value, &t_err));
	must(ns_inode_row_decode(key.bytes, key.len_bytes, value.data, value.len_bytes, &row,
				 &t_err));
	buf_done(&value);
	row.target = NULL;
	return row;
}

static void write_inode(uint64_t ino, const struct ns_inode_row *row)
{
	struct ns_key key = ns_key_ino(NS_ROW_INODE, ino);
	struct buf value;

	buf_init(&value, 8192);
	must(ns_inode_row_encode(&key, row, &value));
	damage(&key, &value);
	buf_done(&value);
}

#define finds(text)                                                                                \
	do {                                                                                       \
		struct ns_check_result r_ = check_all();                                           \
		ck_assert_uint_gt(r_.errors + r_.warnings, 0);                                     \
		ck_assert_msg(strstr(found, text) != NULL, "found only:\n%s", found);              \
	} while (0)

/* A tree with one of each; all tests damage it. */
static uint64_t d, e, f;

static void begin(void)
{
	ns_fixture_create();
	ns_fixture_open();
	must(t_mkdir(ROOT, "d"));
	d = t_ino("d");
	must(t_mkdir(d, "e"));
	e = t_ino("d/e");
	must(t_create(d, "f"));
	f = t_ino("d/f");
	must(t_link(f, e, "g"));
	must(ns_xattr_set(nf.ns, f, "user.x", "y", 1, 0, &t_err));
}

/* Nothing is whole at the end of a test, so the fixture's own check would fail. */
static void end(void)
{
	ns_fixture_close();
}

START_TEST(a_whole_tree_is_counted)
{
	struct ns_check_result r = check_all();

	ck_assert_uint_eq(r.errors + r.warnings, 0);
	ck_assert_uint_eq(r.inodes, 4);
	ck_assert_uint_eq(r.directories, 3);
	ck_assert_uint_eq(r.files, 1);
	ck_assert_uint_eq(r.entries, 4);
	ck_assert_uint_eq(r.xattrs, 1);
	ck_assert_uint_eq(r.orphans, 0);
}
END_TEST

START_TEST(a_lost_inode_is_found)
{
	struct ns_key key = ns_key_ino(NS_ROW_INODE, f);

	damage(&key, NULL);
	finds("no inode, but 2 names");
	ck_assert_ptr_nonnull(strstr(found, "an object without inode"));
}
END_TEST

START_TEST(a_lost_entry_is_found)
{
	struct ns_key key = ns_key_named(NS_ROW_NAME, d, "f", 1);

	damage(&key, NULL);
	finds("by place (2) and by name (1) differ");
}
END_TEST

START_TEST(an_entry_that_is_lost_by_place_is_found)
{
	struct ns_inode_row row = read_inode(e);
	struct ns_key key = ns_key_entry(d, row.parent_cookie);

	damage(&key, NULL);
	finds("neither name nor orphan row");
	ck_assert_ptr_nonnull(strstr(found, "by place (1) and by name (2) differ"));
}
END_TEST

START_TEST(a_flipped_bit_is_found)
{
	struct ns_key key = ns_key_named(NS_ROW_NAME, d, "f", 1);
	struct buf value;

	buf_init(&value, 4096);
	must(names_get(nf.pool, key.bytes, key.len_bytes, &value, &t_err));
	value.data[5] ^= 1;
	damage(&key, &value);
	buf_done(&value);
	finds("bad checksum");
}
END_TEST

START_TEST(wrong_counts_are_found)
{
	struct ns_inode_row row = read_inode(f);

	row.nlink++;
	row.xattr_count++;
	write_inode(f, &row);
	finds("counts 3 names, has 2");
	finds("counts 2 extended attributes, has 1");
	row = read_inode(d);
	row.nlink--;
	row.entry_count = 7;
	row.cookie_next = 3;
	write_inode(d, &row);
	finds("counts 2 links, has 1 directories");
	finds("counts 7 entries, has 2");
	finds("next place is taken");
}
END_TEST

START_TEST(a_directory_with_another_parent_is_found)
{
	struct ns_inode_row row = read_inode(e);

	row.parent = ROOT;
	write_inode(e, &row);
	finds("'..' is not where its name is");
}
END_TEST

START_TEST(a_loop_of_directories_is_found)
{
	struct ns_inode_row row = read_inode(d);

	row.parent = e;
	write_inode(d, &row);
	finds("the root can't be reached");
}
END_TEST

START_TEST(another_type_is_found)
{
	struct ns_inode_row row = read_inode(f);

	row.mode = S_IFIFO | 0600;
	write_inode(f, &row);
	finds("entries tell another type");
}
END_TEST

START_TEST(an_orphan_with_a_name_is_found)
{
	struct ns_key key = ns_key_ino(NS_ROW_ORPHAN, f);
	struct buf value;

	buf_init(&value, 64);
	must(ns_orphan_row_encode(&key, &value));
	damage(&key, &value);
	buf_done(&value);
	finds("an orphan with 2 names");
	/* And a start does not remove the file for it. */
	ns_fixture_reopen();
	ck_assert_uint_eq(t_attr(f).nlink, 2);
	ck_assert_uint_eq(check_all().errors, 0);
}
END_TEST

START_TEST(a_file_without_its_object_is_found_and_can_be_removed)
{
	struct ns_attr a;

	must(object_delete(nf.pool, f, &t_err));
	finds("a file without its object");
	gives(ns_getattr(nf.ns, f, &a, NULL), -EUCLEAN);
	must(t_unlink(e, "g"));
	must(t_unlink(d, "f"));
	ck_assert_uint_eq(check_all().errors, 0);
}
END_TEST

START_TEST(an_object_without_inode_is_found)
{
	uint64_t id;

	must(object_create(nf.pool, OBJECT_FILE, &id, &t_err));
	finds("an object without inode takes space");
	ck_assert_uint_eq(check_all().errors, 0);
	ck_assert_uint_eq(check_all().warnings, 1);
}
END_TEST

START_TEST(damage_is_an_error_of_the_call_that_meets_it)
{
	struct ns_key key = ns_key_ino(NS_ROW_INODE, f);
	struct ns_attr a;
	struct buf value;

	buf_init(&value, 4096);
	must(names_get(nf.pool, key.bytes, key.len_bytes, &value, &t_err));
	value.data[20] ^= 4;
	damage(&key, &value);
	gives(ns_lookup(nf.ns, d, "f", 1, &a, NULL), -EBADMSG);
	gives(t_unlink(d, "f"), -EBADMSG);
	key = ns_key_ino(NS_ROW_INODE, f);
	damage(&key, NULL);
	gives(ns_lookup(nf.ns, d, "f", 1, &a, NULL), -EUCLEAN);
	gives(t_unlink(d, "f"), -EUCLEAN);
	gives(t_rename(d, "f", ROOT, "f", 0), -EUCLEAN);
	buf_done(&value);
}
END_TEST

static void trash(uint64_t ino)
{
	struct ns_key key = ns_key_ino(NS_ROW_TRASH, ino);
	const struct ns_trash_row row = { .parent = d, .path = "/d/f", .path_bytes = 4 };
	struct buf value;

	buf_init(&value, 8192);
	must(ns_trash_row_encode(&key, &row, &value));
	damage(&key, &value);
	buf_done(&value);
}

START_TEST(a_name_of_what_is_in_the_trash_is_found)
{
	trash(f);
	finds("in the trash, and not a file without a name");
	ck_assert_uint_eq(check_all().trashed, 1);
}
END_TEST

START_TEST(a_directory_in_the_trash_is_found)
{
	trash(e);
	finds("in the trash, and not a file without a name");
}
END_TEST

START_TEST(a_lost_inode_in_the_trash_is_found)
{
	trash(f + 1000);
	finds("a row in the trash");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/ns_check");
	TCase *t = tcase_create("check");
	SRunner *runner = srunner_create(s);
	int failed;

	ns_fixture_add_empty(t);
	tcase_add_checked_fixture(t, begin, end);
	tcase_add_test(t, a_whole_tree_is_counted);
	tcase_add_test(t, a_lost_inode_is_found);
	tcase_add_test(t, a_lost_entry_is_found);
	tcase_add_test(t, an_entry_that_is_lost_by_place_is_found);
	tcase_add_test(t, a_flipped_bit_is_found);
	tcase_add_test(t, wrong_counts_are_found);
	tcase_add_test(t, a_directory_with_another_parent_is_found);
	tcase_add_test(t, a_loop_of_directories_is_found);
	tcase_add_test(t, another_type_is_found);
	tcase_add_test(t, an_orphan_with_a_name_is_found);
	tcase_add_test(t, a_name_of_what_is_in_the_trash_is_found);
	tcase_add_test(t, a_directory_in_the_trash_is_found);
	tcase_add_test(t, a_lost_inode_in_the_trash_is_found);
	tcase_add_test(t, a_file_without_its_object_is_found_and_can_be_removed);
	tcase_add_test(t, an_object_without_inode_is_found);
	tcase_add_test(t, damage_is_an_error_of_the_call_that_meets_it);
	suite_add_tcase(s, t);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
