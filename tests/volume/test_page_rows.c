/* Rows of the last checkpoint: what is kept, until when, and how much. */
#include "volume/page_rows.h"

#include <check.h>
#include <string.h>

static struct page_rows rows;

static void setup(void)
{
	memset(&rows, 0, sizeof(rows));
	rows.bytes_max = 100;
}

static void teardown(void)
{
	page_rows_check(&rows);
	page_rows_done(&rows);
	ck_assert_uint_eq(rows.bytes, 0);
}

static void note(uint64_t layer, uint64_t page, const char *text)
{
	page_rows_note(&rows, layer, page, text, strlen(text));
	page_rows_check(&rows);
}

/* Whether the row is known and is text. */
static bool is_known(uint64_t layer, uint64_t page, const char *text)
{
	const struct page_row *row = page_rows_find(&rows, layer, page);

	page_rows_check(&rows);
	return row && row->len_bytes == strlen(text) &&
	       memcmp(row->value, text, row->len_bytes) == 0;
}

START_TEST(the_next_round_finds_what_this_one_noted)
{
	note(1, 2, "a");
	note(1, 7, "b");
	note(3, 0, "c");
	ck_assert_ptr_null(page_rows_find(&rows, 1, 2));
	page_rows_end(&rows, true);

	ck_assert_ptr_null(page_rows_find(&rows, 1, 1));
	ck_assert(is_known(1, 2, "a"));
	ck_assert(is_known(1, 2, "a"));
	ck_assert_ptr_null(page_rows_find(&rows, 2, 9));
	ck_assert(is_known(3, 0, "c"));
	ck_assert_ptr_null(page_rows_find(&rows, 4, 0));
}
END_TEST

START_TEST(what_is_noted_anew_is_known_by_its_new_value)
{
	note(1, 2, "old");
	page_rows_end(&rows, true);
	ck_assert(is_known(1, 2, "old"));
	note(1, 2, "newer");
	page_rows_end(&rows, true);
	ck_assert(is_known(1, 2, "newer"));
}
END_TEST

START_TEST(a_row_that_a_round_does_not_note_is_forgotten)
{
	note(1, 2, "a");
	page_rows_end(&rows, true);
	ck_assert(is_known(1, 2, "a"));
	page_rows_end(&rows, true);
	ck_assert_ptr_null(page_rows_find(&rows, 1, 2));
}
END_TEST

START_TEST(a_round_that_fails_leaves_nothing)
{
	note(1, 2, "a");
	note(1, 3, "b");
	page_rows_end(&rows, true);
	note(1, 2, "new");
	page_rows_end(&rows, false);
	ck_assert_ptr_null(page_rows_find(&rows, 1, 2));
	ck_assert_ptr_null(page_rows_find(&rows, 1, 3));
	ck_assert_uint_eq(rows.bytes, 0);
}
END_TEST

START_TEST(what_is_forgotten_is_not_found_but_what_is_noted_after_it_is)
{
	note(1, 2, "a");
	page_rows_end(&rows, true);
	page_rows_forget(&rows);
	ck_assert_ptr_null(page_rows_find(&rows, 1, 2));
	note(1, 2, "b");
	page_rows_end(&rows, true);
	ck_assert(is_known(1, 2, "b"));
}
END_TEST

START_TEST(no_more_is_kept_than_there_is_room_for)
{
	char text[61] = { 0 };

	memset(text, 'x', 60);
	note(1, 1, text);
	note(1, 2, text); /* too much */
	note(1, 3, "small");
	page_rows_end(&rows, true);
	ck_assert(is_known(1, 1, text));
	note(1, 1, text); /* its old value makes room for it */
	ck_assert_ptr_null(page_rows_find(&rows, 1, 2));
	ck_assert(is_known(1, 3, "small"));
	page_rows_end(&rows, true);
	ck_assert(is_known(1, 1, text));
}
END_TEST

START_TEST(thousands_of_rows_are_kept_in_order)
{
	rows.bytes_max = 1u << 20;
	for (uint64_t i = 0; i < 5000; i++)
		page_rows_note(&rows, i / 100, i % 100 * 3, &i, sizeof(i));
	page_rows_check(&rows);
	page_rows_end(&rows, true);
	for (uint64_t i = 0; i < 5000; i += 7) {
		const struct page_row *row = page_rows_find(&rows, i / 100, i % 100 * 3);

		ck_assert_ptr_nonnull(row);
		ck_assert_mem_eq(row->value, &i, sizeof(i));
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("volume/page_rows");
	TCase *tests = tcase_create("rows");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tests, setup, teardown);
	tcase_add_test(tests, the_next_round_finds_what_this_one_noted);
	tcase_add_test(tests, what_is_noted_anew_is_known_by_its_new_value);
	tcase_add_test(tests, a_row_that_a_round_does_not_note_is_forgotten);
	tcase_add_test(tests, a_round_that_fails_leaves_nothing);
	tcase_add_test(tests, what_is_forgotten_is_not_found_but_what_is_noted_after_it_is);
	tcase_add_test(tests, no_more_is_kept_than_there_is_room_for);
	tcase_add_test(tests, thousands_of_rows_are_kept_in_order);
	suite_add_tcase(suite, tests);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
