/* The fault proxy of the tests: passes everything on, and spoils what it is told to. */
#include "tests/support/fault_proxy.h"

#include "backend/http.h"
#include "tests/backend/support_server.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALWAYS 1000000u

static struct fx {
	struct server *server;
	struct fault_proxy *proxy;
	struct http_client *client;
	struct http_answer answer;
	char url[64], text[FAULT_PROXY_TEXT_BYTES];
	struct err e;
} fx;

static void setup(void)
{
	static const struct http_options defaults;
	uint16_t server_port;

	fx.server = server_start();
	server_port = (uint16_t)strtoul(strrchr(server_url(fx.server), ':') + 1, NULL, 10);
	ck_assert_int_eq(fault_proxy_start(0, server_port, 1, &fx.proxy), 0);
	ck_assert_int_eq(http_client_open(env_posix(), &defaults, &fx.client, &fx.e), 0);
	(void)snprintf(fx.url, sizeof(fx.url), "http://127.0.0.1:%u/x", fault_proxy_port(fx.proxy));
}

static void teardown(void)
{
	http_answer_done(&fx.answer);
	http_client_close(fx.client);
	fault_proxy_stop(fx.proxy);
	server_stop(fx.server);
}

static void plan(struct fault_proxy_plan p)
{
	fault_proxy_set(fx.proxy, &p);
}

static int ask(const char *method, const char *body, const char *range)
{
	const struct http_header header = { "Range", range };
	const struct http_request request = { .method = method,
					      .url = fx.url,
					      .headers = &header,
					      .header_count = range ? 1 : 0,
					      .body = body,
					      .body_len_bytes = body ? strlen(body) : 0 };

	http_answer_done(&fx.answer);
	return http_perform(fx.client, &request, &fx.answer, &fx.e);
}

static struct fault_proxy_counts counts(void)
{
	struct fault_proxy_counts c;

	fault_proxy_read_counts(fx.proxy, &c);
	return c;
}

static void must_have_text(const char *expected)
{
	ck_assert_uint_eq(fx.answer.text.len_bytes, strlen(expected));
	ck_assert(memcmp(fx.answer.text.data, expected, strlen(expected)) == 0);
}

START_TEST(without_a_plan_everything_passes)
{
	size_t len_bytes;

	server_answer(fx.server, "200 OK", "X-A: b\r\n", "answer");
	server_answer(fx.server, "201 Created", "", "");
	server_reply(fx.server, SERVER_KEEP, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n");
	server_reply(
		fx.server, SERVER_KEEP,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwiki\r\n5\r\npedia\r\n"
		"0\r\n\r\n");
	server_reply(fx.server, SERVER_CLOSE, "HTTP/1.1 200 OK\r\n\r\nto the end");
	server_answer(fx.server, "200 OK", "", "another connection");
	ck_assert_int_eq(ask("GET", NULL, "bytes=0-1"), 0);
	must_have_text("answer");
	ck_assert_str_eq(http_answer_header(&fx.answer, "x-a"), "b");
	ck_assert_str_eq(server_header(fx.server, 0, "Range"), "bytes=0-1");
	ck_assert_int_eq(ask("PUT", "body", NULL), 0);
	ck_assert_int_eq(fx.answer.status, 201);
	ck_assert_str_eq(server_body(fx.server, 1, &len_bytes), "body");
	ck_assert_int_eq(ask("HEAD", NULL, NULL), 0);
	ck_assert_str_eq(http_answer_header(&fx.answer, "content-length"), "99");
	ck_assert_int_eq(ask("GET", NULL, NULL), 0);
	must_have_text("wikipedia");
	ck_assert_int_eq(ask("GET", NULL, NULL), 0);
	must_have_text("to the end");
	ck_assert_int_eq(ask("GET", NULL, NULL), 0);
	must_have_text("another connection");
	ck_assert_uint_eq(counts().requests, 6);
	ck_assert_uint_eq(counts().gets, 4);
	ck_assert_uint_eq(counts().puts, 1);
	ck_assert_uint_eq(counts().sent_bytes, 4);
	ck_assert_uint_eq(counts().received_bytes, 6 + 9 + 10 + 18);
	ck_assert_uint_eq(counts().spoilt, 0);
}
END_TEST

START_TEST(refusals_do_not_reach_the_server)
{
	plan((struct fault_proxy_plan){ .error = ALWAYS });
	ck_assert_int_eq(ask("PUT", "body", NULL), 0);
	ck_assert_int_eq(fx.answer.status, 503);
	plan((struct fault_proxy_plan){ .busy = ALWAYS, .retry_after_s = 7 });
	ck_assert_int_eq(ask("PUT", "body", NULL), 0);
	ck_assert_int_eq(fx.answer.status, 429);
	ck_assert_str_eq(http_answer_header(&fx.answer, "retry-after"), "7");
	plan((struct fault_proxy_plan){ .reset = ALWAYS });
	ck_assert_int_eq(ask("PUT", "body", NULL), -EAGAIN);
	plan((struct fault_proxy_plan){ .down = 1 });
	ck_assert_int_eq(ask("PUT", "body", NULL), -EAGAIN);
	ck_assert_uint_eq(server_request_count(fx.server), 0);
	/* A client may repeat what was reset on a kept connection before its body was sent. */
	ck_assert_uint_ge(counts().spoilt, 4);
	ck_assert_uint_eq(counts().spoilt, counts().requests);
	ck_assert_uint_eq(counts().sent_bytes, 0);
	plan((struct fault_proxy_plan){ .down = 0 });
	server_answer(fx.server, "201 Created", "", "");
	ck_assert_int_eq(ask("PUT", "body", NULL), 0);
	ck_assert_int_eq(fx.answer.status, 201);
}
END_TEST

START_TEST(a_lost_answer_is_lost_after_the_server_did_it)
{
	plan((struct fault_proxy_plan){ .lose = ALWAYS });
	server_answer(fx.server, "201 Created", "", "long answer");
	ck_assert_int_eq(ask("PUT", "body", NULL), -EAGAIN);
	ck_assert_uint_eq(server_request_count(fx.server), 1);
	ck_assert_uint_eq(counts().received_bytes, 0);
}
END_TEST

START_TEST(a_cut_body_is_shorter_than_announced)
{
	plan((struct fault_proxy_plan){ .cut = ALWAYS });
	server_answer(fx.server, "200 OK", "", "0123456789");
	ck_assert_int_eq(ask("GET", NULL, NULL), -EAGAIN);
	ck_assert_uint_lt(counts().received_bytes, 10);
}
END_TEST

START_TEST(a_flip_changes_one_bit)
{
	static const char sent[] = "0123456789";
	unsigned int wrong = 0;

	plan((struct fault_proxy_plan){ .flip = ALWAYS });
	server_answer(fx.server, "200 OK", "", sent);
	ck_assert_int_eq(ask("GET", NULL, NULL), 0);
	ck_assert_uint_eq(fx.answer.text.len_bytes, strlen(sent));
	for (size_t i = 0; i < strlen(sent); i++)
		wrong +=
			(unsigned int)__builtin_popcount(fx.answer.text.data[i] ^ (uint8_t)sent[i]);
	ck_assert_uint_eq(wrong, 1);
}
END_TEST

START_TEST(a_range_is_taken_away_from_gets_only)
{
	plan((struct fault_proxy_plan){ .whole = ALWAYS });
	server_answer(fx.server, "200 OK", "", "all of it");
	server_answer(fx.server, "200 OK", "", "");
	ck_assert_int_eq(ask("GET", NULL, "bytes=0-1"), 0);
	must_have_text("all of it");
	ck_assert_str_eq(server_header(fx.server, 0, "Range"), "");
	ck_assert_int_eq(ask("PUT", "x", "bytes=0-1"), 0);
	ck_assert_str_eq(server_header(fx.server, 1, "Range"), "bytes=0-1");
}
END_TEST

START_TEST(shares_are_shares)
{
	unsigned int refused = 0;

	plan((struct fault_proxy_plan){ .error = ALWAYS / 4 });
	for (unsigned int i = 0; i < 200; i++)
		server_answer(fx.server, "200 OK", "", "");
	for (unsigned int i = 0; i < 200; i++) {
		ck_assert_int_eq(ask("GET", NULL, NULL), 0);
		refused += fx.answer.status == 503;
	}
	/* One seed, one connection: always the same number, and near to 50. */
	ck_assert_uint_ge(refused, 30);
	ck_assert_uint_le(refused, 70);
	ck_assert_uint_eq(counts().spoilt, refused);
}
END_TEST

START_TEST(words_change_the_plan_or_say_what_is_wrong)
{
	static const char *const bad[] = { "",
					   "set",
					   "set error",
					   "set error=",
					   "set error=-1",
					   "set error=1000001",
					   "set down=2",
					   "set error=1x",
					   "set foo=1",
					   "plan x",
					   "set cut=1 foo=1",
					   "set err=1" };

	ck_assert_int_eq(fault_proxy_command(fx.proxy, "set error=10 down=1\n", fx.text), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_assert_msg(fault_proxy_command(fx.proxy, bad[i], fx.text) == -EINVAL,
			      "taken: %s", bad[i]);
		ck_assert_str_ne(fx.text, "");
	}
	ck_assert_int_eq(fault_proxy_command(fx.proxy, "set down=0 delay_ms_max=1", fx.text), 0);
	ck_assert_int_eq(fault_proxy_command(fx.proxy, "plan", fx.text), 0);
	ck_assert_str_eq(fx.text, "reset=0 error=10 busy=0 lose=0 cut=0 flip=0 whole=0 "
				  "retry_after_s=0 delay_ms_max=1 down=0");
	ck_assert_int_eq(fault_proxy_command(fx.proxy, "clear", fx.text), 0);
	server_answer(fx.server, "200 OK", "", "abc");
	ck_assert_int_eq(ask("GET", NULL, NULL), 0);
	ck_assert_int_eq(fault_proxy_command(fx.proxy, "counts", fx.text), 0);
	ck_assert_str_eq(fx.text,
			 "requests=1 gets=1 puts=0 sent_bytes=0 received_bytes=3 spoilt=0");
	ck_assert_int_eq(fault_proxy_command(fx.proxy, "forget", fx.text), 0);
	ck_assert_uint_eq(counts().requests, 0);
}
END_TEST

START_TEST(a_client_that_waits_does_not_hold_the_end)
{
	/* teardown stops the proxy while this connection is open and waits for its next request. */
	server_answer(fx.server, "200 OK", "", "");
	ck_assert_int_eq(ask("GET", NULL, NULL), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("backend/fault_proxy");
	TCase *tc = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, without_a_plan_everything_passes);
	tcase_add_test(tc, refusals_do_not_reach_the_server);
	tcase_add_test(tc, a_lost_answer_is_lost_after_the_server_did_it);
	tcase_add_test(tc, a_cut_body_is_shorter_than_announced);
	tcase_add_test(tc, a_flip_changes_one_bit);
	tcase_add_test(tc, a_range_is_taken_away_from_gets_only);
	tcase_add_test(tc, shares_are_shares);
	tcase_add_test(tc, words_change_the_plan_or_say_what_is_wrong);
	tcase_add_test(tc, a_client_that_waits_does_not_hold_the_end);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
