/* Listings of a swift: store: pages, markers, and servers that do not keep to their order. */
#include "tests/backend/support_swift.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct swift_fx_names names;

static void setup(void)
{
	swift_fx_setup();
	swift_fx_open("/auth/v1.0", "");
	swift_fx_token("tk1");
}

/* A page with these names, which blanks part. */
static void page(const char *listed)
{
	char body[4096] = "[", copy[1024], *save = NULL;

	(void)snprintf(copy, sizeof(copy), "%s", listed);
	for (char *name = strtok_r(copy, " ", &save); name; name = strtok_r(NULL, " ", &save)) {
		size_t n = strlen(body);

		(void)snprintf(body + n, sizeof(body) - n, "%s{\"name\":\"%s\",\"bytes\":1}",
			       n > 1 ? "," : "", name);
	}
	(void)strncat(body, "]", sizeof(body) - strlen(body) - 1);
	server_answer(sw.server, "200 OK", "", body);
}

static int list(unsigned int count_max)
{
	return swift_fx_list("", NULL, count_max, &names);
}

START_TEST(pages_follow_their_markers_until_an_empty_one)
{
	page("pre/a pre/b");
	page("pre/c");
	page("");
	ck_assert_int_eq(list(100), 3);
	ck_assert_str_eq(names.text, "a b c");
	swift_fx_must_ask(1,
			  "GET /v1/AUTH_a/con?format=json&limit=100&prefix=pre%2F&marker=pre%2F");
	swift_fx_must_ask(2,
			  "GET /v1/AUTH_a/con?format=json&limit=98&prefix=pre%2F&marker=pre%2Fb");
	swift_fx_must_ask(3,
			  "GET /v1/AUTH_a/con?format=json&limit=97&prefix=pre%2F&marker=pre%2Fc");
}
END_TEST

START_TEST(prefix_and_place_go_to_the_server)
{
	page("pre/a/d&");
	ck_assert_int_eq(swift_fx_list("a/", "a/b c&", 1, &names), 1);
	ck_assert_str_eq(names.text, "a/d&");
	swift_fx_must_ask(1, "GET /v1/AUTH_a/con?format=json&limit=1&prefix=pre%2Fa%2F&marker="
			     "pre%2Fa%2Fb%20c%26");
}
END_TEST

START_TEST(a_limit_that_was_ignored_is_kept)
{
	page("pre/a pre/b pre/c");
	ck_assert_int_eq(list(2), 2);
	ck_assert_str_eq(names.text, "a b");
	ck_assert_int_eq(list(0), 0);
}
END_TEST

START_TEST(names_of_somebody_else_are_passed_over)
{
	page("pre//x pre/a pre/caf\xc3\xa9");
	page("pre/tmp/x pre/z");
	page("");
	ck_assert_int_eq(list(100), 2);
	ck_assert_str_eq(names.text, "a z");
	swift_fx_must_ask(2, "GET /v1/AUTH_a/con?format=json&limit=99&prefix=pre%2F&marker=pre%2F"
			     "caf%C3%A9");
}
END_TEST

START_TEST(markers_that_loop_or_go_backwards_end_the_list)
{
	static const char *const second[] = { "pre/a pre/b", "pre/b", "pre/a", "pre/aa pre/c" };

	for (size_t i = 0; i < ARRAY_SIZE(second); i++) {
		page("pre/a pre/b");
		page(second[i]);
		ck_assert_int_eq(list(100), -EUCLEAN);
		swift_fx_must_say("out of order");
	}
	page("pre/b pre/a");
	ck_assert_int_eq(list(100), -EUCLEAN);
	page("pre/a pre/a");
	ck_assert_int_eq(list(100), -EUCLEAN);
}
END_TEST

START_TEST(names_that_were_not_asked_for_end_the_list)
{
	page("qre/a");
	ck_assert_int_eq(list(100), -EUCLEAN);
	page("pre/b");
	ck_assert_int_eq(swift_fx_list("a", NULL, 100, &names), -EUCLEAN);
	swift_fx_must_say("not asked for");
}
END_TEST

START_TEST(garbage_ends_the_list)
{
	static const char *const garbage[] = { "<html>", "{}", "[{\"bytes\":1}]", "[", "pre/a\n" };

	for (size_t i = 0; i < ARRAY_SIZE(garbage); i++) {
		server_answer(sw.server, "200 OK", "", garbage[i]);
		ck_assert_int_eq(list(100), -EUCLEAN);
	}
}
END_TEST

START_TEST(a_name_longer_than_any_ends_the_list)
{
	char body[1200];
	int n = snprintf(body, sizeof(body), "[{\"bytes\":1,\"name\":\"pre/");

	memset(body + n, 'x', 1021);
	(void)snprintf(body + n + 1021, sizeof(body) - (size_t)n - 1021, "\"}]");
	server_answer(sw.server, "200 OK", "", body);
	ck_assert_int_eq(list(100), -EUCLEAN);
}
END_TEST

START_TEST(a_huge_answer_is_not_taken_into_memory)
{
	size_t len_bytes = (size_t)9 << 20;
	char *body = malloc(len_bytes + 1);

	memset(body, ' ', len_bytes);
	body[len_bytes] = '\0';
	server_answer(sw.server, "200 OK", "", body);
	free(body);
	ck_assert_int_eq(list(100), -EFBIG);
}
END_TEST

START_TEST(trouble_of_a_list_has_its_codes)
{
	server_answer(sw.server, "404 Not Found", "", "");
	ck_assert_int_eq(list(100), -EAGAIN);
	swift_fx_must_say("container 'con' is not there");
	server_answer(sw.server, "503 Later", "Retry-After: 9\r\n", "");
	ck_assert_int_eq(list(100), -EAGAIN);
	swift_fx_must_say("9 s");
	server_answer(sw.server, "403 Forbidden", "", "");
	ck_assert_int_eq(list(100), -EACCES);
	server_reply(sw.server, SERVER_CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n[{");
	ck_assert_int_eq(list(100), -EAGAIN);
	server_answer(sw.server, "204 No Content", "", "");
	ck_assert_int_eq(list(100), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("backend/swift_list");
	TCase *tc = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, swift_fx_teardown);
	tcase_add_test(tc, pages_follow_their_markers_until_an_empty_one);
	tcase_add_test(tc, prefix_and_place_go_to_the_server);
	tcase_add_test(tc, a_limit_that_was_ignored_is_kept);
	tcase_add_test(tc, names_of_somebody_else_are_passed_over);
	tcase_add_test(tc, markers_that_loop_or_go_backwards_end_the_list);
	tcase_add_test(tc, names_that_were_not_asked_for_end_the_list);
	tcase_add_test(tc, garbage_ends_the_list);
	tcase_add_test(tc, a_name_longer_than_any_ends_the_list);
	tcase_add_test(tc, a_huge_answer_is_not_taken_into_memory);
	tcase_add_test(tc, trouble_of_a_list_has_its_codes);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
