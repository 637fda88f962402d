/* Tokens of a swift: store: from tempauth and Keystone, refused, renewed and shared. */
#include "common/thread.h"
#include "tests/backend/support_swift.h"

#include <check.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 8u

/* One operation that needs a token; the object is there. */
static int try_it(void)
{
	struct backend_object object;

	return swift_fx_head("x", &object);
}

static void answer_object(void)
{
	server_answer(sw.server, "200 OK", "", "");
}

/* ---- tempauth ------------------------------------------------------------------------------ */

START_TEST(a_token_is_had_once_and_used_from_then_on)
{
	swift_fx_open("/auth/v1.0", "");
	ck_assert_uint_eq(server_request_count(sw.server), 0);
	swift_fx_token("tk1");
	answer_object();
	answer_object();
	ck_assert_int_eq(try_it(), 0);
	ck_assert_int_eq(try_it(), 0);
	ck_assert_uint_eq(server_request_count(sw.server), 3);
	swift_fx_must_ask(0, "GET /auth/v1.0");
	ck_assert_str_eq(server_header(sw.server, 0, "X-Auth-User"), "test:tester");
	ck_assert_str_eq(server_header(sw.server, 0, "X-Auth-Key"), SWIFT_KEY);
	for (unsigned int i = 1; i < 3; i++) {
		swift_fx_must_ask(i, "HEAD /v1/AUTH_a/con/pre/x");
		ck_assert_str_eq(server_header(sw.server, i, "X-Auth-Token"), "tk1");
		ck_assert_str_eq(server_header(sw.server, i, "X-Auth-Key"), "");
	}
}
END_TEST

START_TEST(a_refused_token_is_renewed_and_the_request_repeated)
{
	swift_fx_open("/auth/v1.0", "");
	swift_fx_token("tk1");
	server_answer(sw.server, "401 Unauthorized", "", "<html>");
	swift_fx_token("tk2");
	answer_object();
	ck_assert_int_eq(swift_fx_put("x", "body", 0), 0);
	ck_assert_uint_eq(server_request_count(sw.server), 4);
	swift_fx_must_ask(3, "PUT /v1/AUTH_a/con/pre/x");
	ck_assert_str_eq(server_header(sw.server, 3, "X-Auth-Token"), "tk2");
	ck_assert_str_eq(server_header(sw.server, 3, "Content-Length"), "4");
}
END_TEST

START_TEST(a_new_token_that_is_refused_is_the_end)
{
	swift_fx_open("/auth/v1.0", "");
	swift_fx_token("tk1");
	server_answer(sw.server, "401 Unauthorized", "", "");
	swift_fx_token("tk2");
	server_answer(sw.server, "401 Unauthorized", "", "");
	ck_assert_int_eq(try_it(), -EACCES);
	swift_fx_must_say("storage_url");
	ck_assert_uint_eq(server_request_count(sw.server), 4);
}
END_TEST

START_TEST(answers_without_a_token_say_what_to_do)
{
	static const struct {
		const char *status, *headers;
		int code;
		const char *word;
	} answers[] = {
		{ "401 Unauthorized", "", -EACCES, "ST_KEY" },
		{ "403 Forbidden", "", -EACCES, "ST_KEY" },
		{ "404 Not Found", "", -EINVAL, "auth URL" },
		{ "300 Multiple Choices", "", -EINVAL, "auth URL" },
		{ "302 Found", "Location: http://elsewhere/\r\n", -EINVAL, "auth URL" },
		{ "429 Slow Down", "", -EAGAIN, "429" },
		{ "500 Oops", "", -EAGAIN, "500" },
		{ "503 Later", "Retry-After: 5\r\n", -EAGAIN, "503" },
		{ "200 OK", "", -EINVAL, "without a token" },
		{ "200 OK", "X-Auth-Token: \r\nX-Storage-Url: http://h/\r\n", -EINVAL,
		  "without a token" },
		{ "200 OK", "X-Auth-Token: a b\r\nX-Storage-Url: http://h/\r\n", -EINVAL,
		  "without a token" },
		{ "200 OK", "X-Auth-Token: tk1\r\n", -EINVAL, "storage_url=" },
		{ "200 OK", "X-Auth-Token: tk1\r\nX-Storage-Url: file:///etc\r\n", -EINVAL,
		  "storage_url=" },
		{ "200 OK", "X-Auth-Token: tk1\r\nX-Storage-Url: http://u:p@h/\r\n", -EINVAL,
		  "storage_url=" },
	};

	swift_fx_open("/auth/v1.0", "");
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		server_answer(sw.server, answers[i].status, answers[i].headers, "");
		ck_assert_int_eq(try_it(), answers[i].code);
		swift_fx_must_say(answers[i].word);
	}
	/* None of it was kept. */
	swift_fx_token("tk1");
	answer_object();
	ck_assert_int_eq(try_it(), 0);
}
END_TEST

START_TEST(a_huge_token_is_refused)
{
	char *headers = malloc(20100);
	int n = snprintf(headers, 64, "X-Storage-Url: http://h/\r\nX-Auth-Token: ");

	memset(headers + n, 'x', 20000);
	memcpy(headers + n + 20000, "\r\n", 3);
	swift_fx_open("/auth/v1.0", "");
	server_answer(sw.server, "200 OK", headers, "");
	ck_assert_int_eq(try_it(), -EINVAL);
	free(headers);
}
END_TEST

START_TEST(an_auth_server_that_breaks_off_is_asked_again_some_time)
{
	swift_fx_open("/auth/v1.0", "");
	server_reply(sw.server, SERVER_RESET, "");
	ck_assert_int_eq(try_it(), -EAGAIN);
	server_reply(sw.server, SERVER_CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx");
	ck_assert_int_eq(try_it(), -EAGAIN);
	server_reply(sw.server, SERVER_CLOSE, "garbage\r\n\r\n");
	ck_assert_int_eq(try_it(), -EAGAIN);
	swift_fx_must_say("getting a token");
}
END_TEST

START_TEST(the_storage_url_of_the_pool_comes_first)
{
	char more[256];

	(void)snprintf(more, sizeof(more), "&storage_url=%s/mine/", server_url(sw.server));
	swift_fx_open("/auth/v1.0", more);
	swift_fx_token("tk1");
	answer_object();
	ck_assert_int_eq(try_it(), 0);
	swift_fx_must_ask(1, "HEAD /mine/con/pre/x");
}
END_TEST

/* ---- Keystone ------------------------------------------------------------------------------ */

static void answer_keystone(const char *region, const char *interface)
{
	char body[512];

	(void)snprintf(body, sizeof(body),
		       "{\"token\":{\"catalog\":[{\"type\":\"object-store\",\"endpoints\":[{"
		       "\"interface\":\"%s\",\"region_id\":\"%s\",\"url\":\"%s/v1/KEY_p\"}]}]}}",
		       interface, region, server_url(sw.server));
	server_answer(sw.server, "201 Created", "X-Subject-Token: tk1\r\n", body);
}

START_TEST(keystone_gives_token_and_endpoint)
{
	size_t len_bytes;
	const char *body;

	swift_fx_open("/v3", "&region=R1&interface=internal");
	answer_keystone("R1", "internal");
	answer_object();
	ck_assert_int_eq(try_it(), 0);
	swift_fx_must_ask(0, "POST /v3/auth/tokens");
	ck_assert_str_eq(server_header(sw.server, 0, "Content-Type"), "application/json");
	body = server_body(sw.server, 0, &len_bytes);
	ck_assert_ptr_nonnull(strstr(body, "\"name\":\"project\""));
	ck_assert_ptr_nonnull(strstr(body, "\"password\":\"" SWIFT_KEY "\""));
	swift_fx_must_ask(1, "HEAD /v1/KEY_p/con/pre/x");
	ck_assert_str_eq(server_header(sw.server, 1, "X-Auth-Token"), "tk1");
}
END_TEST

START_TEST(a_region_that_keystone_does_not_have_is_named)
{
	swift_fx_open("/v3", "&region=R2");
	answer_keystone("R1", "public");
	ck_assert_int_eq(try_it(), -EINVAL);
	swift_fx_must_say("R2");
	swift_fx_must_say("region=");
}
END_TEST

START_TEST(answers_of_keystone_that_are_no_token_say_what_to_do)
{
	static const struct {
		const char *status, *headers, *body;
		int code;
		const char *word;
	} answers[] = {
		{ "401 Unauthorized", "", "{\"error\":{\"message\":\"no: " SWIFT_KEY "\"}}",
		  -EACCES, "OS_" },
		{ "404 Not Found", "", "", -EINVAL, "/v3" },
		{ "500 Oops", "", "", -EAGAIN, "500" },
		{ "201 Created", "X-Subject-Token: tk1\r\n", "garbage", -EAGAIN, "catalogue" },
		{ "201 Created", "X-Subject-Token: tk1\r\n", "{\"token\":{\"catalog\":[]}}",
		  -EINVAL, "project" },
	};

	swift_fx_open("/v3", "");
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		server_answer(sw.server, answers[i].status, answers[i].headers, answers[i].body);
		ck_assert_int_eq(try_it(), answers[i].code);
		swift_fx_must_say(answers[i].word);
	}
}
END_TEST

START_TEST(with_a_storage_url_the_catalogue_is_not_needed)
{
	char more[256];

	(void)snprintf(more, sizeof(more), "&storage_url=%s/mine", server_url(sw.server));
	swift_fx_open("/v3", more);
	server_answer(sw.server, "201 Created", "X-Subject-Token: tk1\r\n", "{\"token\":{}}");
	answer_object();
	ck_assert_int_eq(try_it(), 0);
	swift_fx_must_ask(1, "HEAD /mine/con/pre/x");
}
END_TEST

/* ---- many threads -------------------------------------------------------------------------- */

/* A store that takes only the newest token, and gives another one each time it is asked. */
static struct {
	atomic_uint asked, valid; /* tokens given; the one that is good */
	atomic_bool down;
	atomic_uint failed;
} giver;

static char *give(void *arg, const char *head, const char *body, size_t body_bytes)
{
	char *text = malloc(512);
	char good[32];

	(void)arg;
	(void)body;
	(void)body_bytes;
	ck_assert_ptr_nonnull(text);
	if (strncmp(head, "GET /auth/", 10) == 0) {
		unsigned int number = atomic_fetch_add(&giver.asked, 1) + 1;

		(void)snprintf(text, 512,
			       atomic_load(&giver.down) ?
				       "HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n" :
				       "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Auth-Token: "
				       "tk%u\r\nX-Storage-Url: %s/v1/AUTH_a\r\n\r\n",
			       number, server_url(sw.server));
		atomic_store(&giver.valid, number);
		return text;
	}
	(void)snprintf(good, sizeof(good), "X-Auth-Token: tk%u\r\n", atomic_load(&giver.valid));
	(void)snprintf(text, 512, "HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n",
		       strstr(head, good) ? "200 OK" : "401 Unauthorized");
	return text;
}

static void use_store(void *arg)
{
	struct backend_object object;
	struct err e;

	(void)arg;
	if (sw.store->ops->head(sw.store, "x", &object, &e) < 0)
		atomic_fetch_add(&giver.failed, 1);
}

static void use_store_by_all(void)
{
	struct thread *threads[THREADS];

	for (unsigned int i = 0; i < THREADS; i++)
		ck_assert_int_eq(thread_start("user", use_store, NULL, &threads[i]), 0);
	for (unsigned int i = 0; i < THREADS; i++)
		thread_join(threads[i]);
}

START_TEST(threads_that_lose_their_token_together_get_one_new_one)
{
	swift_fx_open("/auth/v1.0", "");
	server_handle(sw.server, give, NULL);
	use_store_by_all();
	ck_assert_uint_eq(atomic_load(&giver.asked), 1);
	for (unsigned int round = 2; round < 6; round++) {
		atomic_store(&giver.valid, 99); /* it expires */
		use_store_by_all();
		ck_assert_uint_eq(atomic_load(&giver.asked), round);
	}
	ck_assert_uint_eq(atomic_load(&giver.failed), 0);
}
END_TEST

START_TEST(a_failure_is_shared_and_not_kept)
{
	swift_fx_open("/auth/v1.0", "");
	server_handle(sw.server, give, NULL);
	atomic_store(&giver.down, true);
	use_store_by_all();
	ck_assert_uint_eq(atomic_load(&giver.failed), THREADS);
	ck_assert_uint_le(atomic_load(&giver.asked), THREADS);
	atomic_store(&giver.down, false);
	ck_assert_int_eq(try_it(), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("backend/swift_auth");
	TCase *tc = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, swift_fx_setup, swift_fx_teardown);
	tcase_add_test(tc, a_token_is_had_once_and_used_from_then_on);
	tcase_add_test(tc, a_refused_token_is_renewed_and_the_request_repeated);
	tcase_add_test(tc, a_new_token_that_is_refused_is_the_end);
	tcase_add_test(tc, answers_without_a_token_say_what_to_do);
	tcase_add_test(tc, a_huge_token_is_refused);
	tcase_add_test(tc, an_auth_server_that_breaks_off_is_asked_again_some_time);
	tcase_add_test(tc, the_storage_url_of_the_pool_comes_first);
	tcase_add_test(tc, keystone_gives_token_and_endpoint);
	tcase_add_test(tc, a_region_that_keystone_does_not_have_is_named);
	tcase_add_test(tc, answers_of_keystone_that_are_no_token_say_what_to_do);
	tcase_add_test(tc, with_a_storage_url_the_catalogue_is_not_needed);
	tcase_add_test(tc, threads_that_lose_their_token_together_get_one_new_one);
	tcase_add_test(tc, a_failure_is_shared_and_not_kept);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
