/* What is forgiven of garbage that came all at once: enough to go on, and less from moment to moment. */
#include "common/thread.h"
#include "volume/grace.h"

#include <check.h>

#define GIB    (UINT64_C(1) << 30)
#define SECOND UINT64_C(1000000000)
#define START  (1000 * SECOND)

/* A third of what lives may be garbage. */
static uint64_t look(struct grace *g, uint64_t garbage, uint64_t live, uint64_t second)
{
	return grace_look(g, garbage, live / 3, live, START + second * SECOND);
}

START_TEST(who_writes_too_much_is_not_forgiven)
{
	struct grace g = { 0 };

	ck_assert_uint_eq(look(&g, 0, 8 * GIB, 0), 0);
	/* By the bound, and far above it: nothing was deleted. */
	for (uint64_t i = 1; i < 100; i++)
		ck_assert_uint_eq(look(&g, i * GIB, 8 * GIB, i), 0);
	/* What lives goes up and down a little. */
	for (uint64_t i = 0; i < 100; i++)
		ck_assert_uint_eq(look(&g, 4 * GIB, 8 * GIB - i % 2 * (GIB / 4), 100 + i), 0);
}
END_TEST

START_TEST(a_large_deletion_lets_writers_go_on_where_they_are)
{
	struct grace g = { 0 };
	uint64_t forgiven;

	ck_assert_uint_eq(look(&g, 3 * GIB, 9 * GIB, 0), 0);
	forgiven = look(&g, 11 * GIB, GIB, 1);
	ck_assert_uint_lt(11 * GIB - forgiven, GIB / 3);
	ck_assert_uint_lt(forgiven, 11 * GIB);
	/* The cleaner is quick: what it freed is not given to writers again, but for a little. */
	forgiven = look(&g, 6 * GIB, GIB, 2);
	ck_assert_uint_lt(6 * GIB - forgiven, GIB / 3);
	ck_assert_uint_gt(6 * GIB + GIB / 8 - forgiven, GIB / 4);
	ck_assert_uint_eq(look(&g, GIB / 2, GIB, 3), 0);
	ck_assert_uint_eq(look(&g, 6 * GIB, GIB, 4), 0);
}
END_TEST

START_TEST(what_is_not_cleaned_is_forgiven_less_and_less)
{
	struct grace g = { 0 };
	uint64_t before, forgiven;

	(void)look(&g, 0, 9 * GIB, 0);
	before = look(&g, 8 * GIB, GIB, 1);
	ck_assert_uint_gt(before, 7 * GIB);
	for (uint64_t second = 2; second <= 11; second++) {
		forgiven = look(&g, 8 * GIB, GIB, second);
		ck_assert_uint_lt(forgiven, before);
		before = forgiven;
	}
	ck_assert_uint_lt(before, 3 * GIB);
	ck_assert_uint_gt(before, 2 * GIB);
	/* However long nobody looks. */
	ck_assert_uint_eq(look(&g, 8 * GIB, GIB, 1000), 0);
}
END_TEST

START_TEST(looks_in_quick_succession_forget_as_much)
{
	struct grace g = { 0 };
	uint64_t forgiven = 0;

	(void)look(&g, 0, 9 * GIB, 0);
	for (uint64_t ms = 0; ms <= 10000; ms++)
		forgiven = grace_look(&g, 8 * GIB, GIB / 3, GIB,
				      START + SECOND + ms * (SECOND / 1000));
	ck_assert_uint_lt(forgiven, 3 * GIB);
	ck_assert_uint_gt(forgiven, 2 * GIB);
}
END_TEST

START_TEST(what_merges_free_bit_by_bit_adds_up)
{
	struct grace g = { 0 };
	uint64_t forgiven = 0;

	(void)look(&g, 0, 9 * GIB, 0);
	for (uint64_t i = 1; i <= 80; i++)
		forgiven = grace_look(&g, i * GIB / 10, GIB / 3, 9 * GIB - i * GIB / 10,
				      START + i * SECOND / 100);
	ck_assert_uint_gt(forgiven, 7 * GIB);
}
END_TEST

START_TEST(what_is_found_at_the_start_is_forgiven)
{
	struct grace g = { 0 };

	ck_assert_uint_gt(look(&g, 8 * GIB, GIB, 0), 7 * GIB);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("grace");
	TCase *t = tcase_create("grace");
	SRunner *sr;
	int failed;

	tcase_add_test(t, who_writes_too_much_is_not_forgiven);
	tcase_add_test(t, a_large_deletion_lets_writers_go_on_where_they_are);
	tcase_add_test(t, what_is_not_cleaned_is_forgiven_less_and_less);
	tcase_add_test(t, looks_in_quick_succession_forget_as_much);
	tcase_add_test(t, what_merges_free_bit_by_bit_adds_up);
	tcase_add_test(t, what_is_found_at_the_start_is_forgiven);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
