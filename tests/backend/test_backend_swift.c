/* What a swift: store makes of a store's answers: right ones, troubled ones, wrong ones. */
#include "backend/backend_swift.h"
#include "common/crc32c.h"
#include "common/thread.h"
#include "common/units.h"
#include "tests/backend/support_swift.h"

#include <check.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void setup(void)
{
	swift_fx_setup();
	swift_fx_open("/auth/v1.0", "");
	swift_fx_token("tk1");
}

static void answer(const char *status, const char *headers, const char *body)
{
	server_answer(sw.server, status, headers, body);
}

static unsigned int asked(void)
{
	return server_request_count(sw.server);
}

/* ---- put ----------------------------------------------------------------------------------- */

START_TEST(a_put_sends_its_md5_and_escapes_its_name)
{
	size_t len_bytes;

	answer("201 Created", "", "");
	ck_assert_int_eq(swift_fx_put("a b/%+~?#", "hello", 0), 0);
	swift_fx_must_ask(1, "PUT /v1/AUTH_a/con/pre/a%20b/%25%2B~%3F%23");
	ck_assert_str_eq(server_header(sw.server, 1, "ETag"), "5d41402abc4b2a76b9719d911017c592");
	ck_assert_str_eq(server_header(sw.server, 1, "If-None-Match"), "");
	ck_assert_str_eq(server_body(sw.server, 1, &len_bytes), "hello");
	ck_assert_uint_eq(len_bytes, 5);
}
END_TEST

START_TEST(an_empty_object_is_put_with_its_length)
{
	answer("201 Created", "", "");
	ck_assert_int_eq(swift_fx_put("x", "", 0), 0);
	ck_assert_str_eq(server_header(sw.server, 1, "Content-Length"), "0");
	ck_assert_str_eq(server_header(sw.server, 1, "ETag"), "d41d8cd98f00b204e9800998ecf8427e");
}
END_TEST

static struct env_file *write_source(const char *path, const void *data, size_t len_bytes)
{
	struct env_file *file = NULL;

	ck_assert_int_eq(env_open(env_posix(), path, ENV_READ | ENV_WRITE | ENV_CREATE | ENV_TRUNC,
				  &file),
			 0);
	ck_assert_int_eq(env_pwrite(env_posix(), file, data, len_bytes, 0), 0);
	return file;
}

START_TEST(a_file_without_its_checksum_is_never_sent)
{
	static char data[300000];
	struct env_file *file;
	struct backend_source source = { .len_bytes = sizeof(data), .crc32c = 1, .has_crc = true };
	struct backend_put_result result;

	memset(data, 'd', sizeof(data));
	file = write_source("swift-source", data, sizeof(data));
	source.file = file;
	ck_assert_int_eq(sw.store->ops->put(sw.store, "x", &source, 0, &result, &sw.e), -EBADMSG);
	ck_assert_uint_eq(asked(), 0);
	source.crc32c = crc32c(0, data, sizeof(data));
	answer("201 Created", "", "");
	ck_assert_int_eq(sw.store->ops->put(sw.store, "x", &source, 0, &result, &sw.e), 0);
	ck_assert_str_eq(server_header(sw.server, 1, "Content-Length"), "300000");
	env_close(env_posix(), file);
	ck_assert_int_eq(unlink("swift-source"), 0);
}
END_TEST

START_TEST(an_object_that_swift_cannot_hold_is_refused)
{
	struct backend_source source = { .data = "", .len_bytes = ((uint64_t)5 << 30) + 1 };
	struct backend_put_result result;

	ck_assert_int_eq(sw.store->ops->put(sw.store, "x", &source, 0, &result, &sw.e), -EFBIG);
	ck_assert_uint_eq(asked(), 0);
}
END_TEST

START_TEST(answers_to_a_put_have_their_codes_and_cures)
{
	static const struct {
		const char *status, *headers;
		int code;
		const char *word;
	} answers[] = {
		{ "202 Accepted", "", 0, "" },
		{ "403 Forbidden", "", -EACCES, "role" },
		{ "404 Not Found", "", -EAGAIN, "container 'con' is not there" },
		{ "408 Timeout", "", -EAGAIN, "408" },
		{ "409 Conflict", "", -EAGAIN, "409" },
		{ "413 Too Large", "", -ENOSPC, "quota" },
		{ "422 Unprocessable", "", -EAGAIN, "damaged" },
		{ "429 Slow", "Retry-After: 17\r\n", -EAGAIN, "17 s" },
		{ "498 Slow", "Retry-After: 3\r\n", -EAGAIN, "3 s" },
		{ "503 Later", "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n", -EAGAIN, "503" },
		{ "503 Later", "Retry-After: tk1\r\n", -EAGAIN, "503" },
		{ "507 Full", "", -ENOSPC, "full" },
		{ "400 Bad", "", -EIO, "400" },
		{ "301 Moved", "Location: http://elsewhere/\r\n", -EIO, "301" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		answer(answers[i].status, answers[i].headers, SWIFT_KEY " tk1");
		ck_assert_int_eq(swift_fx_put("x", "body", 0), answers[i].code);
		if (answers[i].code < 0)
			swift_fx_must_say(answers[i].word);
	}
	ck_assert_uint_eq(asked(), 1 + ARRAY_SIZE(answers));
}
END_TEST

START_TEST(a_lost_answer_may_be_tried_again)
{
	server_reply(sw.server, SERVER_RESET, "");
	ck_assert_int_eq(swift_fx_put("x", "body", 0), -EAGAIN);
	server_reply(sw.server, SERVER_CLOSE, "HTTP/1.1 201 Crea");
	ck_assert_int_eq(swift_fx_put("x", "body", 0), -EAGAIN);
}
END_TEST

/* ---- get ----------------------------------------------------------------------------------- */

static char got[16];

static int get_4_at_2(void)
{
	memset(got, 0, sizeof(got));
	return swift_fx_get("x", 2, got, 4);
}

START_TEST(a_range_is_asked_for_and_taken)
{
	answer("206 Partial", "Content-Range: bytes 2-5/10\r\n", "cdef");
	ck_assert_int_eq(get_4_at_2(), 0);
	ck_assert_str_eq(got, "cdef");
	swift_fx_must_ask(1, "GET /v1/AUTH_a/con/pre/x");
	ck_assert_str_eq(server_header(sw.server, 1, "Range"), "bytes=2-5");
	answer("206 Partial", "Content-Range: bytes 2-5/*\r\n", "cdef");
	ck_assert_int_eq(get_4_at_2(), 0);
}
END_TEST

START_TEST(another_range_is_refused)
{
	static const char *const ranges[] = { "",
					      "Content-Range: bytes 0-3/10\r\n",
					      "Content-Range: bytes 2-6/10\r\n",
					      "Content-Range: bytes 2-50/100\r\n",
					      "Content-Range: items 2-5/10\r\n",
					      "Content-Range: bytes 12-5/10\r\n" };

	for (size_t i = 0; i < ARRAY_SIZE(ranges); i++) {
		answer("206 Partial", ranges[i], "cdef");
		ck_assert_int_eq(get_4_at_2(), -EAGAIN);
	}
}
END_TEST

START_TEST(a_whole_object_is_taken_for_a_range_only_if_it_is_one)
{
	answer("200 OK", "", "abcd");
	ck_assert_int_eq(swift_fx_get("x", 0, got, 4), 0);
	ck_assert(memcmp(got, "abcd", 4) == 0);
	/* Four bytes, but not those: a proxy lost the Range header. */
	answer("200 OK", "", "abcd");
	ck_assert_int_eq(get_4_at_2(), -EAGAIN);
	answer("200 OK", "", "abcdefghij");
	ck_assert_int_eq(swift_fx_get("x", 0, got, 4), -EUCLEAN);
	answer("200 OK", "", "abcdefghij");
	ck_assert_int_eq(get_4_at_2(), -EUCLEAN);
}
END_TEST

START_TEST(short_long_and_cut_bodies_are_refused)
{
	answer("206 Partial", "Content-Range: bytes 2-4/5\r\n", "cde");
	ck_assert_int_eq(get_4_at_2(), -EUCLEAN);
	answer("206 Partial", "Content-Range: bytes 2-5/10\r\n", "cdefg");
	ck_assert_int_eq(get_4_at_2(), -EUCLEAN);
	server_reply(sw.server, SERVER_CLOSE,
		     "HTTP/1.1 206 Partial\r\nContent-Length: 4\r\nContent-Range: bytes "
		     "2-5/10\r\n\r\ncd");
	ck_assert_int_eq(get_4_at_2(), -EUCLEAN);
	ck_assert_int_eq(got[5], 0);
}
END_TEST

START_TEST(beyond_the_end_is_told_as_such)
{
	answer("416 Range", "Content-Range: bytes */3\r\n", "<html>");
	ck_assert_int_eq(get_4_at_2(), -EUCLEAN);
}
END_TEST

START_TEST(a_read_of_nothing_looks_at_the_length)
{
	for (unsigned int i = 0; i < 2; i++) {
		server_reply(sw.server, SERVER_KEEP,
			     "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
		ck_assert_int_eq(swift_fx_get("x", 100 + i, got, 0), i == 0 ? 0 : -EUCLEAN);
		swift_fx_must_ask(1 + i, "HEAD /v1/AUTH_a/con/pre/x");
	}
}
END_TEST

START_TEST(trouble_of_a_get_is_retryable)
{
	static const char *const troubles[] = { "429 Slow",    "498 Slow",  "500 Oops",
						"502 Gateway", "503 Later", "504 Late" };

	for (size_t i = 0; i < ARRAY_SIZE(troubles); i++) {
		answer(troubles[i], "", "something");
		ck_assert_int_eq(get_4_at_2(), -EAGAIN);
	}
}
END_TEST

/* Heeded by the router (test_router.c). */
START_TEST(a_store_that_asks_for_time_is_remembered)
{
	uint64_t now_ns = clock_mono_ns();

	answer("500 Oops", "Retry-After: 100\r\n", "");
	ck_assert_int_eq(get_4_at_2(), -EAGAIN);
	ck_assert_uint_eq(atomic_load(&sw.store->busy_until_ns), 0);
	answer("498 Slow", "Retry-After: 100\r\n", "");
	ck_assert_int_eq(get_4_at_2(), -EAGAIN);
	swift_fx_must_say("100 s");
	ck_assert_uint_ge(atomic_load(&sw.store->busy_until_ns), now_ns + 100 * NS_PER_SEC);
}
END_TEST

START_TEST(a_name_server_in_trouble_is_worth_another_try_once_the_store_was_reached)
{
	struct store_swift *s = CONTAINER_OF(sw.store, struct store_swift, store);
	char *url, gone[128];

	/* Refused by the resolver itself: a label of 70 characters. */
	(void)snprintf(gone, sizeof(gone), "http://%070d.invalid", 0);
	url = s->config.storage_url;
	s->config.storage_url = gone;
	ck_assert_int_eq(swift_fx_put("x", "body", 0), -EHOSTUNREACH);
	swift_fx_must_say("no such host");
	s->config.storage_url = url;
	atomic_store(&s->reached, true);
	ck_assert_msg(swift_fx_put("x", "body", 0) == -EAGAIN, "%s", sw.e.message);
	swift_fx_must_say("no such host");
}
END_TEST

/* ---- missing ------------------------------------------------------------------------------- */

START_TEST(a_missing_object_is_looked_for_twice)
{
	answer("404 Not Found", "", "");
	answer("204 No Content", "", "");
	answer("404 Not Found", "", "");
	ck_assert_int_eq(get_4_at_2(), -ENOENT);
	swift_fx_must_ask(2, "HEAD /v1/AUTH_a/con");
	swift_fx_must_ask(3, "HEAD /v1/AUTH_a/con/pre/x");
	ck_assert_str_eq(server_header(sw.server, 3, "X-Newest"), "true");
}
END_TEST

START_TEST(an_object_that_is_only_missing_for_a_moment_is_not_missing)
{
	answer("404 Not Found", "", "");
	answer("204 No Content", "", "");
	answer("200 OK", "", "");
	ck_assert_int_eq(get_4_at_2(), -EAGAIN);
}
END_TEST

START_TEST(a_missing_container_is_not_a_missing_object)
{
	struct backend_object object;

	for (unsigned int i = 0; i < 3; i++)
		answer("404 Not Found", "", "");
	ck_assert_int_eq(get_4_at_2(), -EAGAIN);
	swift_fx_must_say("container 'con' is not there");
	for (unsigned int i = 0; i < 3; i++)
		answer("404 Not Found", "", "");
	ck_assert_int_eq(swift_fx_head("x", &object), -EAGAIN);
	for (unsigned int i = 0; i < 3; i++)
		answer("404 Not Found", "", "");
	ck_assert_int_eq(swift_fx_del("x"), -EAGAIN);
}
END_TEST

START_TEST(a_store_that_fails_at_the_second_look_has_said_nothing)
{
	answer("404 Not Found", "", "");
	answer("503 Later", "", "");
	ck_assert_int_eq(get_4_at_2(), -EAGAIN);
	answer("404 Not Found", "", "");
	answer("204 No Content", "", "");
	answer("500 Oops", "", "");
	ck_assert_int_eq(get_4_at_2(), -EAGAIN);
}
END_TEST

/* ---- head and delete ----------------------------------------------------------------------- */

START_TEST(head_tells_length_and_time)
{
	struct backend_object object;

	server_reply(sw.server, SERVER_KEEP,
		     "HTTP/1.1 200 OK\r\nContent-Length: 5368709120\r\nLast-Modified: Sat, 21 Nov "
		     "2026 21:40:21 GMT\r\n\r\n");
	ck_assert_int_eq(swift_fx_head("x", &object), 0);
	ck_assert_uint_eq(object.len_bytes, 5368709120);
	ck_assert_int_eq(object.modified_ns, INT64_C(1795297221) * 1000000000);
	server_reply(sw.server, SERVER_KEEP,
		     "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nLast-Modified: lately\r\n\r\n");
	ck_assert_int_eq(swift_fx_head("x", &object), 0);
	ck_assert_int_eq(object.modified_ns, 0);
}
END_TEST

START_TEST(a_head_without_a_length_is_refused)
{
	struct backend_object object = { .len_bytes = 77 };

	server_reply(sw.server, SERVER_KEEP,
		     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
	ck_assert_int_eq(swift_fx_head("x", &object), -EAGAIN);
	ck_assert_uint_eq(object.len_bytes, 77);
}
END_TEST

START_TEST(a_length_that_no_object_can_have_is_refused)
{
	struct backend_object object = { .len_bytes = 77 };

	server_reply(sw.server, SERVER_KEEP,
		     "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775808\r\n\r\n");
	ck_assert_int_eq(swift_fx_head("x", &object), -EAGAIN);
	ck_assert_uint_eq(object.len_bytes, 77);
}
END_TEST

START_TEST(delete_succeeds_when_the_object_is_gone)
{
	answer("204 No Content", "", "");
	ck_assert_int_eq(swift_fx_del("x"), 0);
	swift_fx_must_ask(1, "DELETE /v1/AUTH_a/con/pre/x");
	answer("404 Not Found", "", "");
	answer("204 No Content", "", "");
	answer("404 Not Found", "", "");
	ck_assert_int_eq(swift_fx_del("x"), 0);
	answer("403 Forbidden", "", "");
	ck_assert_int_eq(swift_fx_del("x"), -EACCES);
	answer("503 Later", "", "");
	ck_assert_int_eq(swift_fx_del("x"), -EAGAIN);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("backend/swift");
	TCase *tc = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, swift_fx_teardown);
	tcase_add_test(tc, a_put_sends_its_md5_and_escapes_its_name);
	tcase_add_test(tc, an_empty_object_is_put_with_its_length);
	tcase_add_test(tc, a_file_without_its_checksum_is_never_sent);
	tcase_add_test(tc, an_object_that_swift_cannot_hold_is_refused);
	tcase_add_test(tc, answers_to_a_put_have_their_codes_and_cures);
	tcase_add_test(tc, a_lost_answer_may_be_tried_again);
	tcase_add_test(tc, a_range_is_asked_for_and_taken);
	tcase_add_test(tc, another_range_is_refused);
	tcase_add_test(tc, a_whole_object_is_taken_for_a_range_only_if_it_is_one);
	tcase_add_test(tc, short_long_and_cut_bodies_are_refused);
	tcase_add_test(tc, beyond_the_end_is_told_as_such);
	tcase_add_test(tc, a_read_of_nothing_looks_at_the_length);
	tcase_add_test(tc, trouble_of_a_get_is_retryable);
	tcase_add_test(tc, a_store_that_asks_for_time_is_remembered);
	tcase_add_test(tc,
		       a_name_server_in_trouble_is_worth_another_try_once_the_store_was_reached);
	tcase_add_test(tc, a_missing_object_is_looked_for_twice);
	tcase_add_test(tc, an_object_that_is_only_missing_for_a_moment_is_not_missing);
	tcase_add_test(tc, a_missing_container_is_not_a_missing_object);
	tcase_add_test(tc, a_store_that_fails_at_the_second_look_has_said_nothing);
	tcase_add_test(tc, head_tells_length_and_time);
	tcase_add_test(tc, a_head_without_a_length_is_refused);
	tcase_add_test(tc, a_length_that_no_object_can_have_is_refused);
	tcase_add_test(tc, delete_succeeds_when_the_object_is_gone);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
