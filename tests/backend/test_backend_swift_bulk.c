/* Bulk deletes of the swift: store, whose answer is always 200 and may say anything. */
#include "backend/backend_swift.h"
#include "tests/backend/support_swift.h"

#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const three[] = { "a/1", "b <&>%+", "c" };
static bool gone[3];

#define IS_GONE(a, b, c)                                                                           \
	do {                                                                                       \
		ck_assert_int_eq(gone[0], a);                                                      \
		ck_assert_int_eq(gone[1], b);                                                      \
		ck_assert_int_eq(gone[2], c);                                                      \
	} while (0)

static int del_many(void)
{
	return sw.store->ops->del_many(sw.store, three, 3, gone, &sw.e);
}

static int del_anew(void)
{
	memset(gone, 0, sizeof(gone));
	return del_many();
}

static void setup(void)
{
	swift_fx_setup();
	swift_fx_open("/auth/v1.0", "");
	swift_fx_token("tk1");
}

/* What Swift says; errors is like "[\"/con/pre/c\", \"503 Later\"]". */
static void bulk_answer(const char *status, unsigned int deleted, unsigned int absent,
			const char *errors)
{
	char body[1024];

	/* Blanks come first, while it works. */
	(void)snprintf(body, sizeof(body),
		       "  \r\n\r\n{\"Number Not Found\": %u, \"Response Status\": \"%s\", "
		       "\"Response Body\": \"\", \"Errors\": [%s], \"Number Deleted\": %u}",
		       absent, status, errors, deleted);
	server_answer(sw.server, "200 OK", "Content-Type: application/json\r\n", body);
}

START_TEST(all_names_go_in_one_request)
{
	size_t len_bytes;

	bulk_answer("200 OK", 3, 0, "");
	ck_assert_int_eq(del_many(), 0);
	IS_GONE(true, true, true);
	ck_assert_uint_eq(server_request_count(sw.server), 2);
	swift_fx_must_ask(1, "POST /v1/AUTH_a?bulk-delete");
	ck_assert_str_eq(server_header(sw.server, 1, "Content-Type"), "text/plain");
	ck_assert_str_eq(server_body(sw.server, 1, &len_bytes),
			 "/con/pre/a/1\n/con/pre/b%20%3C%26%3E%25%2B\n/con/pre/c\n");
}
END_TEST

START_TEST(what_failed_is_still_there_and_asked_for_alone_next_time)
{
	size_t len_bytes;

	bulk_answer("502 Bad Gateway", 2, 0, "[\"/con/pre/b%20%3C%26%3E%25%2B\", \"503 Later\"]");
	ck_assert_int_eq(del_many(), -EAGAIN);
	swift_fx_must_say("503");
	IS_GONE(true, false, true);
	bulk_answer("200 OK", 1, 0, "");
	ck_assert_int_eq(del_many(), 0);
	IS_GONE(true, true, true);
	ck_assert_str_eq(server_body(sw.server, 2, &len_bytes), "/con/pre/b%20%3C%26%3E%25%2B\n");
}
END_TEST

START_TEST(of_several_failures_the_one_that_may_pass_is_told)
{
	bulk_answer("400 Bad Request", 1, 0,
		    "[\"con/pre/a/1\", \"403 Forbidden\"], [\"con/pre/c\", \"503 Later\"]");
	ck_assert_int_eq(del_anew(), -EAGAIN);
	IS_GONE(false, true, false);
	bulk_answer("400 Bad Request", 2, 0, "[\"con/pre/a/1\", \"403 Forbidden\"]");
	ck_assert_int_eq(del_anew(), -EACCES);
	IS_GONE(false, true, true);
	/* A token that ran out on the way: single deletes get another one. */
	bulk_answer("400 Bad Request", 2, 0, "[\"con/pre/a/1\", \"401 Unauthorized\"]");
	ck_assert_int_eq(del_anew(), -EOPNOTSUPP);
	IS_GONE(false, true, true);
}
END_TEST

START_TEST(what_was_not_found_is_gone_if_the_container_is_there)
{
	bulk_answer("200 OK", 1, 2, "");
	server_answer(sw.server, "204 No Content", "", "");
	ck_assert_int_eq(del_anew(), 0);
	IS_GONE(true, true, true);
	swift_fx_must_ask(2, "HEAD /v1/AUTH_a/con");
	bulk_answer("200 OK", 0, 3, "");
	server_answer(sw.server, "404 Not Found", "", "");
	ck_assert_int_eq(del_anew(), -EAGAIN);
	swift_fx_must_say("make it");
	IS_GONE(false, false, false);
	bulk_answer("200 OK", 0, 3, "");
	server_answer(sw.server, "503 Later", "", "");
	ck_assert_int_eq(del_anew(), -EAGAIN);
	IS_GONE(false, false, false);
}
END_TEST

START_TEST(a_bulk_delete_that_ended_in_the_middle_says_nothing)
{
	bulk_answer("502 Bad Gateway", 1, 0, "");
	ck_assert_int_eq(del_anew(), -EAGAIN);
	IS_GONE(false, false, false);
	bulk_answer("400 Bad Request", 1, 0, "[\"/con/pre/c\", \"403 Forbidden\"]");
	ck_assert_int_eq(del_anew(), -EOPNOTSUPP);
	IS_GONE(false, false, false);
	bulk_answer("413 Too Many", 0, 0, "");
	ck_assert_int_eq(del_anew(), -EOPNOTSUPP);
	bulk_answer("200 OK", 4, 0, "");
	ck_assert_int_eq(del_anew(), -EOPNOTSUPP);
	IS_GONE(false, false, false);
	ck_assert_uint_gt(atomic_load(&sw.store->del_many_max), 0);
}
END_TEST

START_TEST(an_answer_of_other_words_says_nothing)
{
	static const char *const bodies[] = {
		"",
		"gone",
		"[]",
		"{}",
		"{\"Response Status\": \"200 OK\", \"Errors\": [], \"Number Deleted\": 3}",
		"{\"Response Status\": \"200 OK\", \"Errors\": {}, \"Number Deleted\": 3, "
		"\"Number Not Found\": 0}",
		"{\"Response Status\": \"fine\", \"Errors\": [], \"Number Deleted\": 3, "
		"\"Number Not Found\": 0}",
		"{\"Response Status\": \"200 OK\", \"Errors\": [], \"Number Deleted\": -3, "
		"\"Number Not Found\": 6}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		server_answer(sw.server, "200 OK", "", bodies[i]);
		ck_assert_int_eq(del_anew(), -EOPNOTSUPP);
		IS_GONE(false, false, false);
	}
	bulk_answer("400 Bad", 2, 0, "[\"/con/pre/d\", \"403 Forbidden\"]");
	ck_assert_int_eq(del_anew(), -EOPNOTSUPP);
	bulk_answer("400 Bad", 2, 0, "[\"/other/pre/c\", \"403 Forbidden\"]");
	ck_assert_int_eq(del_anew(), -EOPNOTSUPP);
	bulk_answer("400 Bad", 2, 0, "[\"/con/pre/%zz\", \"403 Forbidden\"]");
	ck_assert_int_eq(del_anew(), -EOPNOTSUPP);
	bulk_answer("400 Bad", 2, 0, "{\"Name\": \"/con/pre/c\", \"Status\": 403}");
	ck_assert_int_eq(del_anew(), -EOPNOTSUPP);
	bulk_answer("400 Bad", 1, 0,
		    "[\"/con/pre/c\", \"403 Forbidden\"], [\"/con/pre/c\", \"403 Forbidden\"]");
	ck_assert_int_eq(del_anew(), -EOPNOTSUPP);
	IS_GONE(false, false, false);
	ck_assert_uint_gt(atomic_load(&sw.store->del_many_max), 0);
	server_reply(sw.server, SERVER_RESET, "");
	ck_assert_int_eq(del_anew(), -EAGAIN);
	IS_GONE(false, false, false);
}
END_TEST

START_TEST(a_cluster_that_cannot_is_remembered_and_trouble_is_not)
{
	static const struct {
		const char *status;
		int result;
		bool remembered;
	} cases[] = {
		{ "204 No Content", -EOPNOTSUPP, true }, { "403 No", -EOPNOTSUPP, true },
		{ "404 No", -EOPNOTSUPP, true },	 { "405 No", -EOPNOTSUPP, true },
		{ "501 No", -EOPNOTSUPP, true },	 { "429 Later", -EAGAIN, false },
		{ "503 Later", -EAGAIN, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		atomic_store(&sw.store->del_many_max, SWIFT_DELETES_MAX);
		server_answer(sw.server, cases[i].status, "", "");
		ck_assert_int_eq(del_anew(), cases[i].result);
		ck_assert_int_eq(atomic_load(&sw.store->del_many_max) == 0, cases[i].remembered);
		IS_GONE(false, false, false);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("backend/swift_bulk");
	TCase *tc = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, swift_fx_teardown);
	tcase_add_test(tc, all_names_go_in_one_request);
	tcase_add_test(tc, what_failed_is_still_there_and_asked_for_alone_next_time);
	tcase_add_test(tc, of_several_failures_the_one_that_may_pass_is_told);
	tcase_add_test(tc, what_was_not_found_is_gone_if_the_container_is_there);
	tcase_add_test(tc, a_bulk_delete_that_ended_in_the_middle_says_nothing);
	tcase_add_test(tc, an_answer_of_other_words_says_nothing);
	tcase_add_test(tc, a_cluster_that_cannot_is_remembered_and_trouble_is_not);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
