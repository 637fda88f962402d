/* Claims of a swift: store, step by step: who may think that he won. */
#include "tests/backend/support_swift.h"

#include <check.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MINE   "\"5d41402abc4b2a76b9719d911017c592\"" /* of "hello", in quotes as some do */
#define THEIRS "ffffffffffffffffffffffffffffffff"

static void setup(void)
{
	swift_fx_setup();
	swift_fx_open("/auth/v1.0", "");
	swift_fx_token("tk1");
}

static void absent(unsigned int times)
{
	while (times-- > 0)
		server_answer(sw.server, "404 Not Found", "", "");
}

static void present(const char *etag)
{
	char headers[128];

	(void)snprintf(headers, sizeof(headers), "ETag: %s\r\n", etag);
	server_answer(sw.server, "200 OK", headers, "");
}

static void stored(void)
{
	server_answer(sw.server, "201 Created", "", "");
}

static void broken_off(void)
{
	server_reply(sw.server, SERVER_RESET, "");
}

static int claim(void)
{
	return swift_fx_put("x", "hello", BACKEND_PUT_IF_ABSENT);
}

static int confirm(void)
{
	const struct backend_source source = { .data = "hello", .len_bytes = 5 };

	return sw.store->ops->confirm(sw.store, "x", &source, &sw.e);
}

/* ---- claim --------------------------------------------------------------------------------- */

START_TEST(a_claim_looks_twice_and_puts_on_condition)
{
	ck_assert_uint_gt(sw.store->settle_ns, 0);
	absent(2);
	stored();
	ck_assert_int_eq(claim(), 0);
	swift_fx_must_ask(1, "HEAD /v1/AUTH_a/con/pre/x");
	swift_fx_must_ask(2, "HEAD /v1/AUTH_a/con/pre/x");
	ck_assert_str_eq(server_header(sw.server, 1, "X-Newest"), "true");
	swift_fx_must_ask(3, "PUT /v1/AUTH_a/con/pre/x");
	ck_assert_str_eq(server_header(sw.server, 3, "If-None-Match"), "*");
	ck_assert_uint_eq(server_request_count(sw.server), 4);
}
END_TEST

START_TEST(a_name_that_is_seen_is_taken)
{
	present(THEIRS);
	ck_assert_int_eq(claim(), -EEXIST);
	absent(1);
	present(THEIRS);
	ck_assert_int_eq(claim(), -EEXIST);
	/* One's own bytes of an earlier call are another claim. */
	present(MINE);
	ck_assert_int_eq(claim(), -EEXIST);
	absent(2);
	server_answer(sw.server, "412 Precondition Failed", "", "");
	ck_assert_int_eq(claim(), -EEXIST);
	ck_assert_uint_eq(server_request_count(sw.server), 1 + 1 + 2 + 1 + 3);
}
END_TEST

START_TEST(nothing_was_put_where_a_look_fails)
{
	server_answer(sw.server, "503 Later", "", "");
	ck_assert_int_eq(claim(), -EAGAIN);
	absent(1);
	server_answer(sw.server, "500 Oops", "", "");
	ck_assert_int_eq(claim(), -EAGAIN);
	ck_assert_uint_eq(server_request_count(sw.server), 4);
}
END_TEST

START_TEST(a_refusal_is_told_as_it_is)
{
	absent(2);
	server_answer(sw.server, "404 Not Found", "", "");
	ck_assert_int_eq(claim(), -EAGAIN);
	swift_fx_must_say("container 'con' is not there");
	absent(2);
	server_answer(sw.server, "403 Forbidden", "", "");
	ck_assert_int_eq(claim(), -EACCES);
	absent(2);
	server_answer(sw.server, "498 Slow", "", "");
	ck_assert_int_eq(claim(), -EAGAIN);
	ck_assert_uint_eq(server_request_count(sw.server), 1 + 3 * 3);
}
END_TEST

START_TEST(a_put_of_unknown_end_is_looked_for)
{
	/* It was stored. */
	absent(2);
	broken_off();
	present(MINE);
	ck_assert_int_eq(claim(), 0);
	/* It was not: another one. */
	absent(2);
	server_answer(sw.server, "503 Later", "", "");
	absent(1);
	stored();
	ck_assert_int_eq(claim(), 0);
	/* Its own earlier put was late, and is in the way of the next one. */
	absent(2);
	broken_off();
	absent(1);
	server_answer(sw.server, "412 Precondition Failed", "", "");
	present(MINE);
	ck_assert_int_eq(claim(), 0);
	/* Somebody else was there. */
	absent(2);
	broken_off();
	present(THEIRS);
	ck_assert_int_eq(claim(), -EEXIST);
}
END_TEST

START_TEST(a_claim_that_cannot_be_settled_is_lost)
{
	absent(2);
	for (unsigned int i = 0; i < 8; i++) {
		server_answer(sw.server, "503 Later", "", "");
		absent(1);
	}
	ck_assert_int_eq(claim(), -EEXIST);
	swift_fx_must_say("another client may have it");
}
END_TEST

/* ---- confirm ------------------------------------------------------------------------------- */

START_TEST(a_claim_is_confirmed_by_putting_it_again)
{
	present(MINE);
	stored();
	ck_assert_int_eq(confirm(), 0);
	swift_fx_must_ask(1, "HEAD /v1/AUTH_a/con/pre/x");
	ck_assert_str_eq(server_header(sw.server, 1, "X-Newest"), "true");
	swift_fx_must_ask(2, "PUT /v1/AUTH_a/con/pre/x");
	ck_assert_str_eq(server_header(sw.server, 2, "If-None-Match"), "");
	/* Also if it is just being replaced at the first look, and stored at the second try. */
	absent(1);
	present(MINE);
	server_answer(sw.server, "503 Later", "", "");
	stored();
	ck_assert_int_eq(confirm(), 0);
}
END_TEST

START_TEST(a_claim_that_was_overtaken_is_lost)
{
	present(THEIRS);
	ck_assert_int_eq(confirm(), -EEXIST);
	absent(2);
	ck_assert_int_eq(confirm(), -EEXIST);
	server_answer(sw.server, "200 OK", "", "");
	ck_assert_int_eq(confirm(), -EEXIST);
	ck_assert_uint_eq(server_request_count(sw.server), 1 + 1 + 2 + 1);
}
END_TEST

START_TEST(a_look_that_fails_is_tried_again_some_time)
{
	server_answer(sw.server, "503 Later", "", "");
	ck_assert_int_eq(confirm(), -EAGAIN);
}
END_TEST

/* A retryable end would let the router try again, after this put may have hidden the winner. */
START_TEST(a_second_put_of_unknown_end_loses)
{
	present(MINE);
	for (unsigned int i = 0; i < 8; i++)
		broken_off();
	ck_assert_int_eq(confirm(), -EEXIST);
}
END_TEST

static char *answer_late(void *arg, const char *head, const char *body, size_t body_bytes)
{
	(void)arg;
	(void)head;
	(void)body;
	(void)body_bytes;
	/* Longer than confirming may take: that is what is tested. */
	for (uint64_t end_ns = env_now_mono_ns(env_posix()) + sw.store->settle_ns;
	     env_now_mono_ns(env_posix()) < end_ns;)
		(void)poll(NULL, 0, 50);
	return strdup("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
}

START_TEST(who_is_too_slow_has_lost)
{
	present(MINE);
	server_handle(sw.server, answer_late, NULL);
	ck_assert_int_eq(confirm(), -EEXIST);
	swift_fx_must_say("too slow");
	absent(2);
	ck_assert_int_eq(claim(), -EEXIST);
	swift_fx_must_say("too slow");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("backend/swift_claim");
	TCase *tc = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, swift_fx_teardown);
	tcase_add_test(tc, a_claim_looks_twice_and_puts_on_condition);
	tcase_add_test(tc, a_name_that_is_seen_is_taken);
	tcase_add_test(tc, nothing_was_put_where_a_look_fails);
	tcase_add_test(tc, a_refusal_is_told_as_it_is);
	tcase_add_test(tc, a_put_of_unknown_end_is_looked_for);
	tcase_add_test(tc, a_claim_that_cannot_be_settled_is_lost);
	tcase_add_test(tc, a_claim_is_confirmed_by_putting_it_again);
	tcase_add_test(tc, a_claim_that_was_overtaken_is_lost);
	tcase_add_test(tc, a_look_that_fails_is_tried_again_some_time);
	tcase_add_test(tc, a_second_put_of_unknown_end_loses);
	tcase_add_test(tc, who_is_too_slow_has_lost);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
