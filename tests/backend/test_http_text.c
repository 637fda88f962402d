/* What the HTTP client reads and writes of text: escapes in names, and dates. */
#include "backend/http.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

START_TEST(escapes_leave_only_what_is_safe)
{
	struct buf out;

	buf_init(&out, 1000);
	ck_assert_int_eq(http_escape(&out, "a/B-._~ +%\"\x7f\xff", true), 0);
	ck_assert_int_eq(http_escape(&out, "/", false), 0);
	ck_assert_int_eq(buf_append(&out, "", 1), 0);
	ck_assert_str_eq((char *)out.data, "a/B-._~%20%2B%25%22%7F%FF%2F");
	buf_done(&out);
	buf_init(&out, 2);
	ck_assert_int_eq(http_escape(&out, "   ", true), -ENOMEM);
	buf_done(&out);
}
END_TEST

START_TEST(escapes_are_undone)
{
	static const char *const bad[] = { "%", "%4", "%4g", "%g4", "a%00b", "%%" };
	char good[] = "a+b%2Bc%2f%7E%41", blanks[] = "a+b%2B";

	ck_assert_int_eq(http_unescape(good, false), 0);
	ck_assert_str_eq(good, "a+b+c/~A");
	ck_assert_int_eq(http_unescape(blanks, true), 0);
	ck_assert_str_eq(blanks, "a b+");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		char text[8];

		(void)snprintf(text, sizeof(text), "%s", bad[i]);
		ck_assert_int_eq(http_unescape(text, false), -EINVAL);
	}
}
END_TEST

START_TEST(dates_are_read_in_all_three_forms)
{
	static const char *const good[] = { "Sun, 06 Nov 1994 08:49:37 GMT",
					    "Sunday, 06-Nov-94 08:49:37 GMT",
					    "Sun Nov  6 08:49:37 1994" };
	char padded[80];
	const char *const bad[] = { "", "yesterday", "Sun, 99 Nov 1994 08:49:37 GMT", padded };
	int64_t seconds;

	(void)snprintf(padded, sizeof(padded), "%-70s", good[0]);
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		ck_assert_int_eq(http_date_parse(good[i], &seconds), 0);
		ck_assert_int_eq(seconds, 784111777);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(http_date_parse(bad[i], &seconds), -EINVAL);
}
END_TEST

/* "name\0value\0": as the client keeps them, names in small letters. */
static void add_header(struct http_answer *a, const char *name, const char *value)
{
	ck_assert_int_eq(buf_append(&a->headers, name, strlen(name) + 1), 0);
	ck_assert_int_eq(buf_append(&a->headers, value, strlen(value) + 1), 0);
}

START_TEST(a_server_says_when_to_come_again)
{
	static const char later[] = "Sun, 06 Nov 1994 08:50:07 GMT",
			  now[] = "Sun, 06 Nov 1994 08:49:37 GMT";
	static const struct {
		const char *after, *date;
		uint64_t seconds;
	} cases[] = {
		{ NULL, NULL, 0 },     { "7", NULL, 7 },   { "7", now, 7 },   { "601", NULL, 600 },
		{ later, now, 30 },    { later, NULL, 0 }, { now, later, 0 }, { now, now, 0 },
		{ later, "today", 0 }, { "soon", now, 0 }, { "-1", NULL, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct http_answer a = { .status = 503 };

		buf_init(&a.text, 1000);
		buf_init(&a.headers, 1000);
		if (cases[i].date)
			add_header(&a, "date", cases[i].date);
		if (cases[i].after)
			add_header(&a, "retry-after", cases[i].after);
		ck_assert_uint_eq(http_answer_retry_after_ns(&a),
				  cases[i].seconds * UINT64_C(1000000000));
		ck_assert_ptr_null(http_answer_header(&a, "etag"));
		http_answer_done(&a);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("backend/http_text");
	TCase *tc = tcase_create("text");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, escapes_leave_only_what_is_safe);
	tcase_add_test(tc, escapes_are_undone);
	tcase_add_test(tc, a_server_says_when_to_come_again);
	tcase_add_test(tc, dates_are_read_in_all_three_forms);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
