/* Reading directories: places that last, large directories, look-ups counted. */
#include "common/thread.h"
#include "common/units.h"
#include "support_ns.h"
#include "tests/support/scale.h"

#include <stdio.h>
#include <stdlib.h>

#define ROOT  NS_ROOT_INO
#define LARGE TEST_SCALE(100000u)

static const char *numbered(char prefix, unsigned int n)
{
	static __thread char names[2][24];
	static __thread unsigned int at;

	at = !at; /* the one before stays good */
	(void)snprintf(names[at], sizeof(names[at]), "%c%u", prefix, n);
	return names[at];
}

/* Without data, so without an object: quick. */
static void make(uint64_t dir, const char *name)
{
	struct ns_new new = { .mode = S_IFIFO | 0600 };
	struct ns_attr attr;

	must(ns_create(nf.ns, dir, name, strlen(name), &new, &attr, &t_err));
	ns_forget(nf.ns, attr.ino, 1);
}

/* --- a reader that takes pages ------------------------------------------------------------------ */

struct reader {
	unsigned int page; /* entries a call */
	unsigned int got;  /* in this call */
	uint64_t cookie;
	uint64_t total;
	uint8_t *seen; /* how often "s<n>" came */
	unsigned int seen_max;
};

static int take(void *arg, const struct ns_dirent *entry)
{
	struct reader *r = arg;
	unsigned long n;

	if (r->got == r->page)
		return 1;
	if (entry->cookie <= r->cookie) /* ck_assert is slow */
		ck_abort_msg("'%s' has no larger cookie than the one before", entry->name);
	r->cookie = entry->cookie;
	r->got++;
	r->total++;
	if (entry->name[0] == 's') {
		n = strtoul(entry->name + 1, NULL, 10);
		if (n >= r->seen_max)
			ck_abort_msg("'%s' was never made", entry->name);
		r->seen[n]++;
	}
	return 0;
}

/* False: the end. */
static bool read_page(struct reader *r, uint64_t dir, unsigned int flags)
{
	r->got = 0;
	must(ns_readdir(nf.ns, dir, r->cookie, flags, take, r, &t_err));
	return r->got > 0;
}

/* --- tests ------------------------------------------------------------------------------------- */

START_TEST(an_empty_directory_has_its_dots)
{
	struct reader r = { .page = 10 };

	ck_assert(read_page(&r, ROOT, NS_READDIR_ATTR));
	ck_assert_uint_eq(r.total, 2);
	ck_assert_uint_eq(r.cookie, NS_COOKIE_DOTDOT);
	ck_assert(!read_page(&r, ROOT, 0));
	r.cookie = UINT64_MAX;
	ck_assert(!read_page(&r, ROOT, 0));
	must(t_create(ROOT, "f"));
	gives(ns_readdir(nf.ns, t_ino("f"), 0, 0, take, &r, NULL), -ENOTDIR);
	gives(ns_readdir(nf.ns, 777777, 0, 0, take, &r, NULL), -ESTALE);
}
END_TEST

static int refuse(void *arg, const struct ns_dirent *entry)
{
	(void)arg;
	return strcmp(entry->name, "s3") == 0 ? -EIO : 0;
}

START_TEST(an_error_of_the_caller_comes_back)
{
	for (unsigned int i = 0; i < 5; i++)
		make(ROOT, numbered('s', i));
	gives(ns_readdir(nf.ns, ROOT, 0, 0, refuse, NULL, NULL), -EIO);
}
END_TEST

START_TEST(what_stays_comes_once_in_pages_of_any_size)
{
	enum { COUNT = 600 };
	uint8_t seen[COUNT];
	uint64_t d;

	must(t_mkdir(ROOT, "d"));
	d = t_ino("d");
	for (unsigned int i = 0; i < COUNT; i++) {
		make(d, numbered('s', i));
		make(d, numbered('g', i));
	}
	for (unsigned int page = 1; page < 400; page = page * 3 + 1) {
		struct reader r = { .page = page, .seen = seen, .seen_max = COUNT };
		unsigned int round = 0;

		memset(seen, 0, sizeof(seen));
		for (; read_page(&r, d, page % 2 ? NS_READDIR_ATTR : 0); round++) {
			/* Between the pages entries come and go, but not for ever. */
			if (round > 100)
				continue;
			(void)t_unlink(d, numbered('g', round % COUNT));
			make(d, numbered('g', COUNT + round));
			must(t_unlink(d, numbered('g', COUNT + round)));
			make(d, numbered('g', round % COUNT));
			if (round == 3 && page > 30)
				ns_fixture_reopen();
		}
		for (unsigned int i = 0; i < COUNT; i++)
			ck_assert_uint_eq(seen[i], 1);
	}
}
END_TEST

static int rename_it(void *arg, const struct ns_dirent *entry)
{
	unsigned int *renamed = arg;
	char name[64];

	if (entry->cookie <= NS_COOKIE_DOTDOT)
		return 0;
	(void)snprintf(name, sizeof(name), "%s-renamed", entry->name);
	must(t_rename(ROOT, entry->name, ROOT, name, 0));
	return ++*renamed > 1000 ? -ELOOP : 0;
}

START_TEST(a_reader_that_renames_all_it_sees_ends)
{
	unsigned int renamed = 0;

	for (unsigned int i = 0; i < 300; i++)
		make(ROOT, numbered('s', i));
	must(ns_readdir(nf.ns, ROOT, 0, 0, rename_it, &renamed, &t_err));
	ck_assert_uint_eq(renamed, 300);
}
END_TEST

static int take_two(void *arg, const struct ns_dirent *entry)
{
	int *left = arg;

	if (entry->cookie <= NS_COOKIE_DOTDOT)
		return 0;
	ck_assert_ptr_nonnull(entry->attr);
	ck_assert_uint_eq(entry->attr->ino, entry->ino);
	return (*left)-- == 0;
}

START_TEST(look_ups_are_counted_for_entries_that_were_taken)
{
	uint64_t inos[3];
	struct ns_attr a;
	int left = 2;

	for (unsigned int i = 0; i < 3; i++) {
		make(ROOT, numbered('s', i));
		inos[i] = t_ino(numbered('s', i));
	}
	must(ns_readdir(nf.ns, ROOT, 0, NS_READDIR_ATTR | NS_READDIR_LOOKUP, take_two, &left,
			&t_err));
	for (unsigned int i = 0; i < 3; i++)
		must(t_unlink(ROOT, numbered('s', i)));
	ck_assert_uint_eq(t_attr(inos[0]).nlink, 0);
	ck_assert_uint_eq(t_attr(inos[1]).nlink, 0);
	gives(ns_getattr(nf.ns, inos[2], &a, NULL), -ESTALE);
	ns_forget(nf.ns, inos[0], 1);
	ns_forget(nf.ns, inos[1], 1);
	gives(ns_getattr(nf.ns, inos[0], &a, NULL), -ESTALE);
}
END_TEST

/* Removes every "g", and makes some anew, while others read. */
static void stir(void *arg)
{
	uint64_t d = *(uint64_t *)arg;

	for (unsigned int i = 0; i < LARGE / 20; i++) {
		ck_assert_int_eq(t_unlink(d, numbered('g', i)), 0);
		if (i % 4 == 0)
			make(d, numbered('h', i));
	}
}

START_TEST(a_hundred_thousand_entries_are_read_whole_while_others_go)
{
	uint8_t *seen = calloc(LARGE, 1);
	struct reader r = { .page = 1000, .seen = seen, .seen_max = LARGE };
	struct thread *t;
	uint64_t d, start_ns;

	ck_assert_ptr_nonnull(seen);
	must(t_mkdir(ROOT, "d"));
	d = t_ino("d");
	for (unsigned int i = 0; i < LARGE; i++)
		make(d, numbered(i % 20 == 0 ? 'g' : 's', i % 20 == 0 ? i / 20 : i));
	ck_assert_uint_eq(t_attr(d).entries, LARGE);
	ck_assert_int_eq(thread_start("stir", stir, &d, &t), 0);
	while (read_page(&r, d, 0))
		continue;
	thread_join(t);
	for (unsigned int i = 0; i < LARGE; i++)
		if (seen[i] != (i % 20 != 0))
			ck_abort_msg("entry %u came %u times", i, seen[i]);
	/* None of these looks at all entries. */
	start_ns = clock_mono_ns();
	for (unsigned int i = 0; i < 1000; i++) {
		gives(t_rmdir(ROOT, "d"), -ENOTEMPTY);
		must(t_rename(d, numbered('s', 20 * i + 1), d, numbered('r', i), 0));
		must(t_unlink(d, numbered('r', i)));
	}
	ck_assert_uint_lt(clock_mono_ns() - start_ns, 10 * NS_PER_SEC);
	free(seen);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/ns_dir");
	TCase *t = tcase_create("directories");
	SRunner *runner = srunner_create(s);
	int failed;

	ns_fixture_add(t);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, an_empty_directory_has_its_dots);
	tcase_add_test(t, an_error_of_the_caller_comes_back);
	tcase_add_test(t, what_stays_comes_once_in_pages_of_any_size);
	tcase_add_test(t, a_reader_that_renames_all_it_sees_ends);
	tcase_add_test(t, look_ups_are_counted_for_entries_that_were_taken);
	tcase_add_test(t, a_hundred_thousand_entries_are_read_whole_while_others_go);
	suite_add_tcase(s, t);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
