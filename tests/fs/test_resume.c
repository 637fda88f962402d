/* The table of requests that are not answered yet, as worker after worker finds it. */
#include "fs/resume.h"

#include <check.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOTS 8u

static int fd;
static struct resume *r;

static void next_worker(void)
{
	struct err e = { 0 };

	resume_close(r);
	r = NULL;
	ck_assert_msg(resume_open(fd, &r, &e) == 0, "%s", e.message);
}

static void setup(void)
{
	struct err e = { 0 };

	ck_assert_msg(resume_make(SLOTS, &fd, &e) == 0, "%s", e.message);
	next_worker();
}

static void teardown(void)
{
	resume_close(r);
	r = NULL;
	(void)close(fd);
}

static struct resume_slot *take(uint64_t unique)
{
	bool known = true;
	struct resume_slot *slot = resume_begin(r, unique, &known);

	ck_assert(!known);
	return slot;
}

/* What the kernel has read and not answered: a list that ends with 0. */
static bool is_among(void *arg, uint64_t unique)
{
	for (const uint64_t *u = arg; *u; u++)
		if (*u == unique)
			return true;
	return false;
}

static unsigned int settle(uint64_t a, uint64_t b)
{
	uint64_t open[] = { a, b, 0 };

	return resume_settle(r, is_among, open);
}

static bool is_known(uint64_t unique)
{
	bool known;

	resume_end(r, resume_begin(r, unique | RESUME_RESENT, &known));
	return known;
}

START_TEST(what_is_answered_is_forgotten_and_what_is_not_is_known_to_the_next)
{
	struct resume_slot *a = take(2), *b = take(4);

	ck_assert_ptr_ne(a, b);
	b->witness.done_bytes = 77;
	resume_end(r, a);
	next_worker();
	ck_assert_uint_eq(settle(4, 0), 1);
	ck_assert(!is_known(2));
	ck_assert_uint_eq(r->slots[resume_slot_number(r, b) % SLOTS].witness.done_bytes, 77);
	ck_assert(is_known(4));
	ck_assert(!is_known(4)); /* it was answered */
}
END_TEST

START_TEST(what_was_answered_just_before_the_death_frees_its_slot)
{
	for (unsigned int i = 0; i < 3 * SLOTS; i++) {
		ck_assert_ptr_nonnull(take(2 + 2 * (uint64_t)i));
		next_worker();
		ck_assert_uint_eq(settle(0, 0), 0);
	}
}
END_TEST

/* In the kernel's queue nothing is found; a worker that died before it was served says nothing. */
START_TEST(what_was_not_sent_again_yet_is_kept_for_the_one_after)
{
	(void)take(2);
	next_worker();
	ck_assert_uint_eq(settle(2, 0), 1);
	next_worker();
	ck_assert_uint_eq(settle(0, 0), 1);
	ck_assert(is_known(2));
}
END_TEST

START_TEST(what_is_never_sent_again_goes_when_younger_requests_came)
{
	(void)take(2);
	next_worker();
	ck_assert_uint_eq(settle(2, 0), 1);
	resume_drained(r); /* its caller was killed meanwhile */
	next_worker();
	ck_assert_uint_eq(settle(0, 0), 0);
	ck_assert(!is_known(2));
}
END_TEST

START_TEST(one_that_is_read_again_and_killed_again_is_still_known)
{
	bool known;

	(void)take(2);
	next_worker();
	ck_assert_uint_eq(settle(2, 0), 1);
	ck_assert_ptr_nonnull(resume_begin(r, 2 | RESUME_RESENT, &known));
	ck_assert(known);
	resume_drained(r);
	next_worker();
	ck_assert_uint_eq(settle(2 | RESUME_RESENT, 0), 1);
	ck_assert(is_known(2));
}
END_TEST

START_TEST(a_request_beyond_the_slots_gets_none)
{
	struct resume_slot *taken[SLOTS];

	for (unsigned int i = 0; i < SLOTS; i++) {
		taken[i] = take(2 + i);
		ck_assert_ptr_nonnull(taken[i]);
	}
	ck_assert_ptr_null(take(100));
	resume_end(r, NULL);
	resume_end(r, taken[3]);
	ck_assert_ptr_eq(take(101), taken[3]);
}
END_TEST

START_TEST(writes_that_may_have_been_published_are_listed)
{
	struct volume_witness **list;
	size_t count;

	(void)take(2);
	take(4)->witness.lsn = 9;
	next_worker();
	ck_assert_int_eq(resume_witnesses(r, &list, &count), 0);
	ck_assert_uint_eq(count, 1);
	ck_assert_uint_eq(list[0]->lsn, 9);
	free(list);
}
END_TEST

START_TEST(a_new_mount_begins_with_nothing)
{
	(void)take(2);
	r->header->init_answered = 1;
	ck_assert(resume_is_taken_over(r));
	resume_forget(r->header);
	next_worker();
	ck_assert(!resume_is_taken_over(r));
	ck_assert(!is_known(2));
}
END_TEST

START_TEST(a_table_that_is_none_is_refused)
{
	struct resume *other;
	int empty = memfd_create("none", MFD_CLOEXEC);

	ck_assert_int_ge(empty, 0);
	ck_assert_int_eq(resume_open(empty, &other, NULL), -EUCLEAN);
	ck_assert_int_eq(ftruncate(empty, 1 << 16), 0);
	ck_assert_int_eq(resume_open(empty, &other, NULL), -EUCLEAN);
	(void)close(empty);
	r->header->slot_count++;
	ck_assert_int_eq(resume_open(fd, &other, NULL), -EUCLEAN);
	r->header->slot_count--;
	r->header->init_bytes = RESUME_INIT_BYTES_MAX + 1;
	ck_assert_int_eq(resume_open(fd, &other, NULL), -EUCLEAN);
	r->header->init_bytes = 0;
	r->header->version++;
	ck_assert_int_eq(resume_open(fd, &other, NULL), -EPROTONOSUPPORT);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/resume");
	TCase *t = tcase_create("resume");
	SRunner *runner = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, what_is_answered_is_forgotten_and_what_is_not_is_known_to_the_next);
	tcase_add_test(t, what_was_answered_just_before_the_death_frees_its_slot);
	tcase_add_test(t, what_was_not_sent_again_yet_is_kept_for_the_one_after);
	tcase_add_test(t, what_is_never_sent_again_goes_when_younger_requests_came);
	tcase_add_test(t, one_that_is_read_again_and_killed_again_is_still_known);
	tcase_add_test(t, a_request_beyond_the_slots_gets_none);
	tcase_add_test(t, writes_that_may_have_been_published_are_listed);
	tcase_add_test(t, a_new_mount_begins_with_nothing);
	tcase_add_test(t, a_table_that_is_none_is_refused);
	suite_add_tcase(s, t);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
