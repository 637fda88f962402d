/* Whether a worker whose device failed makes way for another one, and what is kept unanswered
 * meanwhile. */
#include "fs/fuse_hold.h"
#include "fs/restart.h"

#include <check.h>
#include <linux/fuse.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000000)
#define NEVER  UINT64_MAX

static struct resume_header h;

static void setup(void)
{
	h = (struct resume_header){ 0 };
}

/* --- the decision ------------------------------------------------------------------------------ */

START_TEST(the_first_one_comes_at_once_and_each_other_one_later)
{
	uint64_t now = 1000 * SECOND, pause, before = 0;

	ck_assert_uint_eq(restart_pause_ns(&h, 0, now), 0);
	for (unsigned int i = 1; i < RESTARTS_MAX; i++) {
		restart_note(&h, 0, now);
		pause = restart_pause_ns(&h, 0, now);
		ck_assert_uint_ne(pause, NEVER);
		ck_assert_uint_gt(pause, before);
		before = pause;
	}
	ck_assert_uint_le(before, 10 * SECOND);
	restart_note(&h, 0, now);
	ck_assert_uint_eq(restart_pause_ns(&h, 0, now), NEVER);
	ck_assert_uint_eq(h.restarts, RESTARTS_MAX);
}
END_TEST

START_TEST(tries_in_vain_count_as_well)
{
	uint64_t now = 1000 * SECOND;

	for (unsigned int i = 0; i < RESTARTS_MAX; i++)
		ck_assert_uint_ne(restart_pause_ns(&h, i, now), NEVER);
	ck_assert_uint_eq(restart_pause_ns(&h, RESTARTS_MAX, now), NEVER);
	restart_note(&h, 0, now);
	ck_assert_uint_eq(restart_pause_ns(&h, RESTARTS_MAX - 1, now), NEVER);
	ck_assert_uint_eq(restart_pause_ns(&h, 1, now), restart_pause_ns(&h, 0, now) * 2);
}
END_TEST

START_TEST(what_is_long_ago_does_not_count)
{
	uint64_t now = 5 * SECOND; /* the machine was just started */

	for (unsigned int i = 0; i < RESTARTS_MAX; i++)
		restart_note(&h, 0, now + i * SECOND);
	ck_assert_uint_eq(restart_pause_ns(&h, 0, now + RESTARTS_NS - 1), NEVER);
	/* One after the other. */
	ck_assert_uint_ne(restart_pause_ns(&h, 0, now + RESTARTS_NS), NEVER);
	restart_note(&h, 0, now + RESTARTS_NS);
	ck_assert_uint_eq(restart_pause_ns(&h, 0, now + RESTARTS_NS), NEVER);
	ck_assert_uint_eq(restart_pause_ns(&h, 0, now + 3 * RESTARTS_NS), 0);
}
END_TEST

START_TEST(a_directory_that_failed_stays_out)
{
	restart_note(&h, 4, SECOND);
	restart_note(&h, 1, 2 * SECOND);
	ck_assert_uint_eq(h.failed_dirs, 5);
}
END_TEST

/* --- what is kept ------------------------------------------------------------------------------ */

static int ends[2];

static void hold_setup(void)
{
	ck_assert_int_eq(pipe(ends), 0);
	ck_assert_int_eq(hold_open(2), 0);
}

static void hold_teardown(void)
{
	hold_close();
	(void)close(ends[0]);
	(void)close(ends[1]);
}

/* As an answer of an error is given. */
static bool is_kept(uint64_t unique)
{
	bool kept;

	hold_reset();
	hold_next(true);
	kept = hold_reply(ends[1], unique);
	hold_next(false);
	ck_assert(hold_took() == kept);
	return kept;
}

static void expect_error_for(uint64_t unique)
{
	struct fuse_out_header out;

	ck_assert_int_eq(read(ends[0], &out, sizeof(out)), (ssize_t)sizeof(out));
	ck_assert_uint_eq(out.len, sizeof(out));
	ck_assert_int_eq(out.error, -EIO);
	ck_assert_uint_eq(out.unique, unique);
}

START_TEST(only_what_shall_be_is_kept)
{
	ck_assert(!hold_is_on());
	hold_begin();
	ck_assert(hold_is_on());
	ck_assert(!hold_reply(ends[1], 7));
	ck_assert(is_kept(8));
	hold_reset();
	ck_assert(!hold_took());
}
END_TEST

START_TEST(what_is_kept_is_answered_when_it_comes_to_nothing)
{
	hold_begin();
	ck_assert(is_kept(8));
	ck_assert(is_kept(RESUME_RESENT | 9));
	hold_end();
	expect_error_for(8);
	expect_error_for(RESUME_RESENT | 9);
	ck_assert(!hold_is_on());
	/* And nothing more, also of who began to fail before. */
	hold_begin();
	ck_assert(!is_kept(10));
	hold_end();
	(void)close(ends[1]);
	ck_assert_int_eq(read(ends[0], ends, 1), 0);
}
END_TEST

START_TEST(what_there_is_no_room_for_is_told)
{
	hold_begin();
	ck_assert(is_kept(1));
	ck_assert(is_kept(2));
	ck_assert(!is_kept(3));
	hold_end();
	expect_error_for(1);
	expect_error_for(2);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/restart");
	TCase *t = tcase_create("decision"), *kept = tcase_create("kept");
	SRunner *runner = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, the_first_one_comes_at_once_and_each_other_one_later);
	tcase_add_test(t, tries_in_vain_count_as_well);
	tcase_add_test(t, what_is_long_ago_does_not_count);
	tcase_add_test(t, a_directory_that_failed_stays_out);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(kept, hold_setup, hold_teardown);
	tcase_add_test(kept, only_what_shall_be_is_kept);
	tcase_add_test(kept, what_is_kept_is_answered_when_it_comes_to_nothing);
	tcase_add_test(kept, what_there_is_no_room_for_is_told);
	suite_add_tcase(s, kept);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
