/* Deletes of many names through the router, over a store that is told how each of them ends. */
#include "backend/router.h"
#include "tests/backend/support_scripted.h"

#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MS	  UINT64_C(1000000)
#define NAMES	  100u
#define CALLS_MAX 64u

/* A store of nothing but deletes. */
static struct few {
	struct store store;
	int results[CALLS_MAX]; /* of its calls of del_many in turn; 0 of those behind */
	unsigned int calls, counts[CALLS_MAX];
	unsigned int singles;
	/* Names that del_many cannot delete; and how del ends for them. */
	bool stuck[NAMES];
	int stuck_result;
} few;

static struct backend *b;
static char names[NAMES][16];
static const char *list[NAMES];
static bool gone[NAMES];
static struct err e;

static unsigned int number_of(const char *name)
{
	return (unsigned int)strtoul(name + 1, NULL, 10);
}

static int few_del_many(struct store *s, const char *const *some, size_t count, bool *some_gone,
			struct err *err)
{
	unsigned int call = few.calls++, asked = 0;
	int r = 0;

	(void)s;
	ck_assert_uint_lt(call, CALLS_MAX);
	ck_assert_uint_le(count, atomic_load(&few.store.del_many_max));
	for (size_t i = 0; i < count; i++)
		asked += !some_gone[i];
	few.counts[call] = asked;
	if (few.results[call] < 0)
		return err_set(err, few.results[call], "scripted");
	for (size_t i = 0; i < count; i++) {
		if (few.stuck[number_of(some[i])])
			r = err_set(err, few.stuck_result, "stuck: '%s'", some[i]);
		else
			some_gone[i] = true;
	}
	return r;
}

static int few_del(struct store *s, const char *name, struct err *err)
{
	(void)s;
	few.singles++;
	return few.stuck[number_of(name)] ? err_set(err, few.stuck_result, "stuck: '%s'", name) : 0;
}

static void few_close(struct store *s)
{
	(void)s;
}

static const struct store_ops few_ops = {
	.type_name = "few", .close = few_close, .del = few_del, .del_many = few_del_many
};

static void setup(void)
{
	static const struct backend_options options = { .attempts_max = 3,
							.timeout_ns = 1000 * MS,
							.backoff_first_ns = 2 * MS,
							.backoff_max_ns = 8 * MS };

	virtual_now_ns = 1000 * MS;
	sched_hook = &virtual_sched;
	few.store.ops = &few_ops;
	few.stuck_result = -EAGAIN;
	atomic_store(&few.store.del_many_max, 40);
	for (unsigned int i = 0; i < NAMES; i++) {
		(void)snprintf(names[i], sizeof(names[i]), "n%u", i);
		list[i] = names[i];
	}
	ck_assert_int_eq(backend_open_over(env_posix(), &few.store, "few:", &options, &b, &e), 0);
}

static void teardown(void)
{
	backend_close(b);
	sched_hook = NULL;
}

static unsigned int gone_count(void)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < NAMES; i++)
		n += gone[i];
	return n;
}

static int delete_all(void)
{
	memset(gone, 1, sizeof(gone)); /* it says so itself, from the begin */
	return backend_delete_many(b, list, NAMES, gone, &e);
}

START_TEST(a_request_has_no_more_names_than_the_store_takes)
{
	ck_assert_uint_ne(backend_caps(b) & BACKEND_CAP_DELETE_MANY, 0);
	ck_assert_int_eq(delete_all(), 0);
	ck_assert_uint_eq(gone_count(), NAMES);
	ck_assert_uint_eq(few.calls, 3);
	ck_assert_uint_eq(few.counts[0] + few.counts[1] + few.counts[2], NAMES);
	ck_assert_uint_eq(few.singles, 0);
	ck_assert_int_eq(backend_delete_many(b, list, NAMES, NULL, &e), 0);
	ck_assert_int_eq(backend_delete_many(b, NULL, 0, NULL, &e), 0);
}
END_TEST

START_TEST(only_what_is_left_is_asked_for_again)
{
	few.stuck[3] = few.stuck[30] = true;
	ck_assert_int_eq(delete_all(), -EAGAIN);
	ck_assert_ptr_nonnull(strstr(e.message, "stuck"));
	ck_assert_uint_eq(few.calls, 3); /* attempts_max */
	ck_assert_uint_eq(few.counts[1], 2);
	ck_assert_uint_eq(gone_count(), 38);
	ck_assert(!gone[3] && !gone[30] && gone[0] && !gone[40]);
}
END_TEST

START_TEST(what_no_try_will_cure_does_not_keep_the_others)
{
	few.stuck[3] = true;
	few.stuck_result = -EACCES;
	ck_assert_int_eq(delete_all(), -EACCES);
	ck_assert_ptr_nonnull(strstr(e.message, "'n3'"));
	ck_assert_uint_eq(few.calls, 3);
	ck_assert_uint_eq(gone_count(), NAMES - 1);
	ck_assert(!gone[3]);
}
END_TEST

START_TEST(a_store_that_cannot_gets_single_deletes)
{
	few.results[0] = -EOPNOTSUPP;
	few.stuck[5] = true;
	few.stuck_result = -EACCES;
	ck_assert_int_eq(delete_all(), -EACCES);
	ck_assert_uint_eq(few.singles, 40); /* of the first request; the next one was understood */
	ck_assert_uint_eq(gone_count(), NAMES - 1);
	atomic_store(&few.store.del_many_max, 0);
	ck_assert_uint_eq(backend_caps(b) & BACKEND_CAP_DELETE_MANY, 0);
	few.calls = few.singles = 0;
	few.stuck_result = -EAGAIN;
	ck_assert_int_eq(delete_all(), -EAGAIN);
	ck_assert_uint_eq(few.calls, 0);
	ck_assert_uint_eq(few.singles, 5 + 3); /* what fails three times ends it */
	ck_assert_uint_eq(gone_count(), 5);
}
END_TEST

START_TEST(a_store_that_is_too_slow_is_asked_for_fewer)
{
	few.results[0] = few.results[1] = few.results[2] = -ETIMEDOUT;
	ck_assert_int_eq(delete_all(), -ETIMEDOUT);
	ck_assert_uint_eq(gone_count(), 0);
	ck_assert_int_eq(delete_all(), 0);
	ck_assert_uint_eq(few.counts[2], 40);
	ck_assert_uint_eq(few.counts[3], 20);
	ck_assert_uint_eq(few.counts[4], 40); /* and then for more again */
	ck_assert_uint_eq(gone_count(), NAMES);
}
END_TEST

START_TEST(a_bad_name_is_refused_before_anything_is_done)
{
	list[NAMES - 1] = "../x";
	ck_assert_int_eq(delete_all(), -EINVAL);
	ck_assert_uint_eq(gone_count(), 0);
	ck_assert_uint_eq(few.calls + few.singles, 0);
}
END_TEST

START_TEST(a_closing_backend_deletes_nothing)
{
	backend_refuse_calls(b, true);
	ck_assert_int_eq(delete_all(), -ESHUTDOWN);
	ck_assert_uint_eq(gone_count(), 0);
	ck_assert_uint_eq(few.calls, 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("backend/router_delete");
	TCase *tc = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_request_has_no_more_names_than_the_store_takes);
	tcase_add_test(tc, only_what_is_left_is_asked_for_again);
	tcase_add_test(tc, what_no_try_will_cure_does_not_keep_the_others);
	tcase_add_test(tc, a_store_that_cannot_gets_single_deletes);
	tcase_add_test(tc, a_store_that_is_too_slow_is_asked_for_fewer);
	tcase_add_test(tc, a_bad_name_is_refused_before_anything_is_done);
	tcase_add_test(tc, a_closing_backend_deletes_nothing);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
