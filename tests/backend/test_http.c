/* The HTTP client against a server that says what the script says. */
#include "backend/http.h"

#include "common/crc32c.h"
#include "common/thread.h"
#include "tests/backend/support_server.h"

#include <check.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define S      UINT64_C(1000000000)
#define SECRET "s3cr3t-t0ken"

static struct fx {
	struct env *env;
	struct server *server;
	struct http_client *client;
	struct http_answer answer;
	char url[512];
	struct err e;
} fx;

/* ---- fixture ------------------------------------------------------------------------------- */

static void open_client(const struct http_options *options)
{
	http_client_close(fx.client);
	fx.client = NULL;
	ck_assert_int_eq(http_client_open(fx.env, options, &fx.client, &fx.e), 0);
}

static void setup(void)
{
	static const struct http_options defaults;

	fx.env = env_posix();
	fx.server = server_start();
	open_client(&defaults);
	(void)snprintf(fx.url, sizeof(fx.url), "%s/path?query=" SECRET, server_url(fx.server));
}

static void teardown(void)
{
	http_answer_done(&fx.answer);
	http_client_close(fx.client);
	server_stop(fx.server);
}

static int perform(const struct http_request *request)
{
	http_answer_done(&fx.answer);
	return http_perform(fx.client, request, &fx.answer, &fx.e);
}

static int get(void)
{
	return perform(&(struct http_request){ .method = "GET", .url = fx.url });
}

static int get_to(void *dst, size_t len_bytes)
{
	return perform(&(struct http_request){
		.method = "GET", .url = fx.url, .dst = dst, .dst_len_bytes = len_bytes });
}

static int put(const void *data, size_t len_bytes)
{
	return perform(&(struct http_request){
		.method = "PUT", .url = fx.url, .body = data, .body_len_bytes = len_bytes });
}

static int put_source(const struct backend_source *source)
{
	return perform(&(struct http_request){ .method = "PUT", .url = fx.url, .source = source });
}

static void must_have_text(const char *expected)
{
	ck_assert_uint_eq(fx.answer.text.len_bytes, strlen(expected));
	ck_assert(memcmp(fx.answer.text.data, expected, strlen(expected)) == 0);
}

static void must_have_sent(unsigned int i, const void *data, size_t len_bytes)
{
	size_t got_bytes;
	const char *got = server_body(fx.server, i, &got_bytes);

	ck_assert_uint_eq(got_bytes, len_bytes);
	ck_assert(len_bytes == 0 || memcmp(got, data, len_bytes) == 0);
}

/* ---- requests ------------------------------------------------------------------------------ */

START_TEST(a_get_brings_status_headers_and_text)
{
	server_answer(fx.server, "200 OK", "ETag: \"abc\"\r\nX-Empty:\r\n", "hello");
	ck_assert_msg(get() == 0, "%s", fx.e.message);
	ck_assert_int_eq(fx.answer.status, 200);
	must_have_text("hello");
	ck_assert_str_eq(http_answer_header(&fx.answer, "etag"), "\"abc\"");
	ck_assert_str_eq(http_answer_header(&fx.answer, "content-length"), "5");
	ck_assert_str_eq(http_answer_header(&fx.answer, "x-empty"), "");
	ck_assert_ptr_null(http_answer_header(&fx.answer, "date"));
	ck_assert(strstr(server_head(fx.server, 0), "GET /path?query=" SECRET " HTTP/1.1\r\n") ==
		  server_head(fx.server, 0));
}
END_TEST

START_TEST(every_method_sends_what_it_should)
{
	static const char *const methods[] = { "GET", "HEAD", "DELETE", "PUT", "POST" };
	static const struct http_header headers[] = { { "X-One", "1" }, { "X-Empty", "" } };

	for (unsigned int i = 0; i < ARRAY_SIZE(methods); i++) {
		bool has_body = i >= 3;

		server_reply(fx.server, SERVER_KEEP, "HTTP/1.1 204 No Content\r\n\r\n");
		ck_assert_int_eq(perform(&(struct http_request){ .method = methods[i],
								 .url = fx.url,
								 .headers = headers,
								 .header_count = 2,
								 .body = has_body ? "body" : NULL,
								 .body_len_bytes = 4 }),
				 0);
		ck_assert_int_eq(fx.answer.status, 204);
		ck_assert(memcmp(server_head(fx.server, i), methods[i], strlen(methods[i])) == 0);
		ck_assert_str_eq(server_header(fx.server, i, "X-One"), "1");
		ck_assert_ptr_nonnull(strstr(server_head(fx.server, i), "X-Empty:"));
		ck_assert_str_eq(server_header(fx.server, i, "Expect"), "");
		ck_assert_str_eq(server_header(fx.server, i, "Content-Type"), "");
		ck_assert_str_eq(server_header(fx.server, i, "Transfer-Encoding"), "");
		must_have_sent(i, "body", has_body ? 4 : 0);
	}
}
END_TEST

START_TEST(an_empty_body_has_a_length)
{
	server_answer(fx.server, "200 OK", "", "");
	server_answer(fx.server, "200 OK", "", "");
	ck_assert_int_eq(put("", 0), 0);
	ck_assert_str_eq(server_header(fx.server, 0, "Content-Length"), "0");
	ck_assert_int_eq(perform(&(struct http_request){ .method = "POST", .url = fx.url }), 0);
	ck_assert_str_eq(server_header(fx.server, 1, "Content-Length"), "0");
}
END_TEST

START_TEST(paths_are_sent_as_they_were_written)
{
	char url[600];

	(void)snprintf(url, sizeof(url), "%s/a/../b/%%2e%%2E/./c%%20d", server_url(fx.server));
	server_answer(fx.server, "200 OK", "", "");
	ck_assert_int_eq(perform(&(struct http_request){ .method = "GET", .url = url }), 0);
	ck_assert_ptr_nonnull(
		strstr(server_head(fx.server, 0), "GET /a/../b/%2e%2E/./c%20d HTTP/1.1"));
}
END_TEST

START_TEST(bad_urls_and_headers_are_refused_before_anything_is_sent)
{
	static const char *const urls[] = { "",
					    "127.0.0.1/",
					    "ftp://127.0.0.1/x",
					    "file:///etc/passwd",
					    "http://user:" SECRET "@127.0.0.1/",
					    "http://127.0.0.1:99999999/" };
	static const struct http_header headers[] = {
		{ "X", "a\r\nInjected: b" }, { "X", "a\nb" }, { "", "x" }, { "X: y", "x" },
		{ "X\r\nY", "z" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
		ck_assert_int_eq(perform(&(struct http_request){ .method = "GET", .url = urls[i] }),
				 -EINVAL);
		ck_assert_ptr_null(strstr(fx.e.message, SECRET));
	}
	for (size_t i = 0; i < ARRAY_SIZE(headers); i++)
		ck_assert_int_eq(perform(&(struct http_request){ .method = "GET",
								 .url = fx.url,
								 .headers = &headers[i],
								 .header_count = 1 }),
				 -EINVAL);
	ck_assert_int_eq(perform(&(struct http_request){ .method = "BREW", .url = fx.url }),
			 -EINVAL);
	ck_assert_uint_eq(server_connection_count(fx.server), 0);
}
END_TEST

START_TEST(proxies_of_the_environment_are_not_asked)
{
	ck_assert_int_eq(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
	ck_assert_int_eq(setenv("ALL_PROXY", "http://127.0.0.1:1", 1), 0);
	server_answer(fx.server, "200 OK", "", "x");
	ck_assert_int_eq(get(), 0);
}
END_TEST

/* ---- connections --------------------------------------------------------------------------- */

START_TEST(connections_are_used_again)
{
	for (unsigned int i = 0; i < 20; i++) {
		server_answer(fx.server, i % 3 == 0 ? "404 Not Found" : "200 OK", "", "text");
		ck_assert_int_eq(i % 2 == 0 ? get() : put("x", 1), 0);
	}
	ck_assert_uint_eq(server_connection_count(fx.server), 1);
}
END_TEST

START_TEST(a_connection_that_its_server_closed_is_replaced)
{
	server_reply(fx.server, SERVER_CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
	server_answer(fx.server, "200 OK", "", "y");
	ck_assert_int_eq(get(), 0);
	ck_assert_int_eq(get(), 0);
	must_have_text("y");
	ck_assert_uint_eq(server_connection_count(fx.server), 2);
}
END_TEST

START_TEST(a_put_is_sent_once_even_when_a_kept_connection_dies)
{
	static const size_t sizes[] = { 0, 1, 100000 };
	char *data = calloc(1, 100000);

	for (unsigned int i = 0; i < ARRAY_SIZE(sizes); i++) {
		server_answer(fx.server, "200 OK", "", "");
		server_reply(fx.server, SERVER_CLOSE, ""); /* done, and the answer lost */
		server_answer(fx.server, "412 Precondition Failed", "", "");
		ck_assert_int_eq(get(), 0);
		ck_assert_int_eq(put(data, sizes[i]), -EAGAIN);
		ck_assert_uint_eq(server_request_count(fx.server), 3 * i + 2);
		ck_assert_int_eq(put(data, sizes[i]), 0);
		ck_assert_int_eq(fx.answer.status, 412);
	}
	free(data);
}
END_TEST

static struct {
	atomic_uint failed, running, most;
} crowd;

static char *slow_handler(void *arg, const char *head, const char *body, size_t body_bytes)
{
	(void)arg;
	(void)head;
	(void)body;
	(void)body_bytes;
	return strdup("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
}

static void ask_often(void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < 20; i++) {
		struct http_answer answer = { .status = 0 };
		struct http_request request = { .method = "GET", .url = fx.url };

		if (http_perform(fx.client, &request, &answer, NULL) != 0 || answer.status != 200)
			atomic_fetch_add(&crowd.failed, 1);
		http_answer_done(&answer);
	}
}

START_TEST(many_threads_share_few_connections)
{
	static const struct http_options options = { .connections_max = 3 };
	struct thread *threads[10];

	open_client(&options);
	server_handle(fx.server, slow_handler, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		ck_assert_int_eq(thread_start("client", ask_often, NULL, &threads[i]), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		thread_join(threads[i]);
	ck_assert_uint_eq(atomic_load(&crowd.failed), 0);
	ck_assert_uint_eq(server_request_count(fx.server), 200);
	ck_assert_uint_le(server_connection_count(fx.server), 3);
}
END_TEST

static void ask_once(void *arg)
{
	struct http_answer answer = { .status = 0 };
	struct http_request request = { .method = "GET", .url = fx.url };

	*(int *)arg = http_perform(fx.client, &request, &answer, NULL);
	http_answer_done(&answer);
}

START_TEST(who_gets_no_connection_waits_no_longer_than_allowed)
{
	static const struct http_options options = { .connections_max = 1, .timeout_ns = S };
	struct thread *thread;
	int r = 1;

	open_client(&options);
	server_reply(fx.server, SERVER_HOLD, "");
	server_reply(fx.server, SERVER_HOLD, "");
	ck_assert_int_eq(thread_start("client", ask_once, &r, &thread), 0);
	ck_assert_int_eq(get(), -ETIMEDOUT);
	thread_join(thread);
	ck_assert_int_eq(r, -ETIMEDOUT);
	ck_assert_uint_le(server_connection_count(fx.server), 2);
}
END_TEST

/* ---- answers ------------------------------------------------------------------------------- */

START_TEST(a_body_goes_to_its_place)
{
	char dst[8] = "........";

	server_answer(fx.server, "206 Partial Content", "", "123456");
	ck_assert_int_eq(get_to(dst, 6), 0);
	ck_assert(memcmp(dst, "123456..", 8) == 0);
	ck_assert_uint_eq(fx.answer.text.len_bytes, 0);
	ck_assert_uint_eq(fx.answer.body_bytes, 6);
}
END_TEST

START_TEST(a_body_of_another_length_is_refused_and_writes_no_further)
{
	char dst[8];

	for (unsigned int i = 0; i < 2; i++) {
		memset(dst, '.', sizeof(dst));
		if (i == 0)
			server_answer(fx.server, "200 OK", "", "1234567890");
		else
			server_answer(fx.server, "200 OK", "", "12345");
		ck_assert_int_eq(get_to(dst, 6), -EUCLEAN);
		ck_assert(memcmp(dst + 6, "..", 2) == 0);
	}
}
END_TEST

START_TEST(the_words_of_an_error_do_not_go_to_dst)
{
	char dst[8] = "........";

	server_answer(fx.server, "404 Not Found", "", "nowhere");
	ck_assert_int_eq(get_to(dst, 7), 0);
	ck_assert_int_eq(fx.answer.status, 404);
	must_have_text("nowhere");
	ck_assert(memcmp(dst, "........", 8) == 0);
}
END_TEST

START_TEST(a_cut_body_is_no_answer)
{
	char dst[8];

	server_reply(fx.server, SERVER_CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n123");
	ck_assert_int_eq(get_to(dst, 8), -EUCLEAN);
	server_reply(fx.server, SERVER_CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n123");
	ck_assert_int_eq(get(), -EAGAIN);
	server_reply(fx.server, SERVER_RESET, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n");
	ck_assert_int_lt(get(), 0);
	server_reply(fx.server, SERVER_CLOSE, "HTTP/1.1 200 OK\r\nContent-Le");
	ck_assert_int_eq(get(), -EAGAIN);
	server_reply(fx.server, SERVER_CLOSE,
		     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n12");
	ck_assert_int_eq(get(), -EAGAIN);
	server_reply(fx.server, SERVER_CLOSE, "");
	ck_assert_int_eq(get(), -EAGAIN);
	server_reply(fx.server, SERVER_RESET, "");
	ck_assert_int_eq(get(), -EAGAIN);
}
END_TEST

START_TEST(what_is_not_http_is_no_answer)
{
	static const char *const garbage[] = { "garbage\r\n\r\n", "220 smtp ready\r\n",
					       "HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
					       "HTTP/1.1 abc\r\n\r\n", "\0\0\0\0" };

	for (size_t i = 0; i < ARRAY_SIZE(garbage); i++) {
		server_reply(fx.server, SERVER_CLOSE, garbage[i]);
		ck_assert_msg(get() == -EAGAIN, "%zu: %s", i, fx.e.message);
	}
}
END_TEST

START_TEST(interim_answers_are_passed_over)
{
	server_reply(fx.server, SERVER_KEEP,
		     "HTTP/1.1 100 Continue\r\nETag: wrong\r\n\r\n"
		     "HTTP/1.1 102 Processing\r\n\r\n"
		     "HTTP/1.1 200 OK\r\nETag: right\r\nContent-Length: 1\r\n\r\nx");
	ck_assert_int_eq(put("abc", 3), 0);
	ck_assert_int_eq(fx.answer.status, 200);
	ck_assert_str_eq(http_answer_header(&fx.answer, "etag"), "right");
	server_reply(fx.server, SERVER_CLOSE, "HTTP/1.1 100 Continue\r\n\r\n");
	ck_assert_int_eq(put("abc", 3), -EAGAIN);
	ck_assert_int_eq(fx.answer.status, 0);
}
END_TEST

START_TEST(chunks_are_joined_and_trailers_are_no_headers)
{
	char dst[10];

	for (unsigned int i = 0; i < 2; i++)
		server_reply(fx.server, SERVER_KEEP,
			     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
			     "4\r\nabcd\r\n6;x=y\r\nefghij\r\n0\r\nETag: late\r\n\r\n");
	ck_assert_int_eq(get(), 0);
	must_have_text("abcdefghij");
	ck_assert_ptr_null(http_answer_header(&fx.answer, "etag"));
	ck_assert_int_eq(get_to(dst, 10), 0);
	ck_assert(memcmp(dst, "abcdefghij", 10) == 0);
}
END_TEST

START_TEST(a_redirect_is_not_followed)
{
	char headers[128];

	(void)snprintf(headers, sizeof(headers), "Location: %s/other\r\n", server_url(fx.server));
	server_answer(fx.server, "301 Moved", headers, "");
	ck_assert_int_eq(get(), 0);
	ck_assert_int_eq(fx.answer.status, 301);
	ck_assert_uint_eq(server_request_count(fx.server), 1);
}
END_TEST

START_TEST(too_long_a_text_is_refused_and_an_error_cut)
{
	struct http_request request = { .method = "GET", .url = fx.url, .text_bytes_max = 10 };

	server_answer(fx.server, "200 OK", "", "0123456789");
	ck_assert_int_eq(perform(&request), 0);
	server_answer(fx.server, "200 OK", "", "0123456789a");
	ck_assert_int_eq(perform(&request), -EFBIG);
	server_answer(fx.server, "503 Busy", "Retry-After: 7\r\n", "0123456789abcdef");
	ck_assert_int_eq(perform(&request), 0);
	ck_assert_int_eq(fx.answer.status, 503);
	ck_assert_str_eq(http_answer_header(&fx.answer, "retry-after"), "7");
	must_have_text("0123456789");
}
END_TEST

START_TEST(headers_without_end_are_refused)
{
	size_t len_bytes = (size_t)300 << 10;
	char *text = malloc(len_bytes + 1), line[64];

	memset(text, 'a', len_bytes);
	text[len_bytes] = '\0';
	memcpy(text, "HTTP/1.1 200 OK\r\nX: ", 20);
	server_reply(fx.server, SERVER_CLOSE, text); /* one that is huge */
	ck_assert_int_lt(get(), 0);
	for (size_t at = 17; at + sizeof(line) < len_bytes;) {
		int n = snprintf(line, sizeof(line), "X-%zu: value\r\n", at);

		memcpy(text + at, line, (size_t)n);
		at += (size_t)n;
	}
	server_reply(fx.server, SERVER_CLOSE, text); /* many */
	ck_assert_int_eq(get(), -EFBIG);
	for (size_t at = 0; at + 27 < len_bytes; at += 27)
		memcpy(text + at, "HTTP/1.1 102 Processing\r\n\r\n", 27);
	server_reply(fx.server, SERVER_CLOSE, text); /* interim ones */
	ck_assert_int_eq(get(), -EFBIG);
	free(text);
}
END_TEST

START_TEST(odd_headers_are_left_out)
{
	server_answer(fx.server, "200 OK", "A:  b \t\r\nFolded: one\r\n two\r\nA: second\r\n", "");
	ck_assert_int_eq(get(), 0);
	ck_assert_str_eq(http_answer_header(&fx.answer, "a"), "b");
	ck_assert_ptr_null(http_answer_header(&fx.answer, ""));
	ck_assert_ptr_null(http_answer_header(&fx.answer, "b"));
}
END_TEST

/* ---- time and trouble ---------------------------------------------------------------------- */

START_TEST(a_server_that_says_nothing_is_given_up)
{
	static const struct http_options stall = { .stall_timeout_ns = S };
	static const struct http_options total = { .timeout_ns = S / 2 };

	open_client(&stall);
	server_reply(fx.server, SERVER_HOLD, "");
	ck_assert_int_eq(get(), -ETIMEDOUT);
	server_reply(fx.server, SERVER_HOLD, "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n");
	ck_assert_int_eq(get(), -ETIMEDOUT);
	open_client(&total);
	server_reply(fx.server, SERVER_HOLD, "");
	ck_assert_int_eq(put("x", 1), -ETIMEDOUT);
	ck_assert_ptr_null(strstr(fx.e.message, SECRET));
}
END_TEST

START_TEST(nobody_listens_is_worth_another_try)
{
	struct server *gone = server_start();

	(void)snprintf(fx.url, sizeof(fx.url), "%s/?" SECRET, server_url(gone));
	server_stop(gone);
	ck_assert_int_eq(get(), -EAGAIN);
	ck_assert_ptr_nonnull(strstr(fx.e.message, "127.0.0.1:"));
	ck_assert_ptr_null(strstr(fx.e.message, SECRET));
	ck_assert_int_eq(fx.answer.status, 0);
}
END_TEST

START_TEST(a_name_that_does_not_resolve_is_told)
{
	/* A label of 70 characters: refused by the resolver itself, no server is asked. */
	for (unsigned int i = 0; i < 3; i++) { /* each time, and then it is all right again */
		(void)snprintf(fx.url, sizeof(fx.url), "http://%070d.invalid/?" SECRET, 0);
		ck_assert_int_eq(i == 1 ? put("x", 1) : get(), -EHOSTUNREACH);
		ck_assert_ptr_nonnull(strstr(fx.e.message, "000.invalid"));
		ck_assert_ptr_null(strstr(fx.e.message, SECRET));
	}
	(void)snprintf(fx.url, sizeof(fx.url), "%s/", server_url(fx.server));
	server_answer(fx.server, "200 OK", "", "");
	ck_assert_int_eq(get(), 0);
}
END_TEST

START_TEST(a_ca_file_that_is_missing_is_told)
{
	struct http_options options = { .ca_file = "/nonexistent/ca.pem" };
	struct http_client *client = NULL;

	ck_assert_int_eq(http_client_open(fx.env, &options, &client, &fx.e), -ENOENT);
	ck_assert_ptr_nonnull(strstr(fx.e.message, "/nonexistent/ca.pem"));
	ck_assert_ptr_null(client);
}
END_TEST

static atomic_uint signals;

static void on_signal(int signo)
{
	(void)signo;
	atomic_fetch_add(&signals, 1);
}

START_TEST(a_client_that_hangs_up_raises_no_signal)
{
	char *data = calloc(1, 8 << 20);

	ck_assert(signal(SIGPIPE, on_signal) != SIG_ERR);
	for (unsigned int i = 0; i < 5; i++) {
		server_reply(fx.server, SERVER_EARLY, "");
		ck_assert_int_eq(put(data, 8 << 20), -EAGAIN);
	}
	ck_assert_uint_eq(atomic_load(&signals), 0);
	free(data);
}
END_TEST

START_TEST(an_early_refusal_ends_the_sending)
{
	char *data = calloc(1, 32 << 20);
	int r;

	server_reply(fx.server, SERVER_EARLY,
		     "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
	r = put(data, 32 << 20);
	/* The reset may overtake the answer. */
	ck_assert(r == -EAGAIN || (r == 0 && fx.answer.status == 403));
	free(data);
}
END_TEST

/* ---- sources ------------------------------------------------------------------------------- */

#define FILE_BYTES ((size_t)(1 << 20) + 777)

static uint8_t *pattern(size_t len_bytes)
{
	uint8_t *p = malloc(len_bytes);

	ck_assert_ptr_nonnull(p);
	for (size_t i = 0; i < len_bytes; i++)
		p[i] = (uint8_t)(i * 2654435761u >> 13);
	return p;
}

static struct env_file *file_of(const void *data, size_t len_bytes)
{
	char path[64];
	struct env_file *file = NULL;

	(void)snprintf(path, sizeof(path), "source-%d", getpid());
	ck_assert_int_eq(env_open(fx.env, path, ENV_READ | ENV_WRITE | ENV_CREATE | ENV_TRUNC,
				  &file),
			 0);
	ck_assert_int_eq(env_pwrite(fx.env, file, data, len_bytes, 0), 0);
	ck_assert_int_eq(env_unlink(fx.env, path), 0);
	return file;
}

START_TEST(sources_are_sent_whole_and_in_parts)
{
	uint8_t *data = pattern(FILE_BYTES);
	struct env_file *file = file_of(data, FILE_BYTES);
	struct backend_source sources[] = {
		{ .data = data + 100, .len_bytes = FILE_BYTES - 100 },
		{ .file = file, .file_offset_bytes = 100, .len_bytes = FILE_BYTES - 100 },
	};
	static const struct {
		uint64_t offset, len;
	} parts[] = { { 0, 0 }, { 0, 1 }, { 5000, 500000 }, { 300, 0 }, { FILE_BYTES - 101, 1 } };
	unsigned int count = 0;

	for (size_t s = 0; s < ARRAY_SIZE(sources); s++) {
		sources[s].has_crc = true;
		sources[s].crc32c = crc32c(0, data + 100, FILE_BYTES - 100);
		for (size_t p = 0; p < ARRAY_SIZE(parts); p++) {
			size_t len_bytes = parts[p].len;

			if (len_bytes == 0)
				len_bytes = FILE_BYTES - 100 - parts[p].offset;
			server_answer(fx.server, "200 OK", "", "");
			ck_assert_int_eq(perform(&(struct http_request){
						 .method = "PUT",
						 .url = fx.url,
						 .source = &sources[s],
						 .source_offset_bytes = parts[p].offset,
						 .source_len_bytes = parts[p].len }),
					 0);
			must_have_sent(count++, data + 100 + parts[p].offset, len_bytes);
		}
	}
	env_close(fx.env, file);
	free(data);
}
END_TEST

START_TEST(a_source_with_a_wrong_checksum_never_arrives_whole)
{
	uint8_t *data = pattern(FILE_BYTES);
	struct env_file *file = file_of(data, FILE_BYTES);
	struct backend_source from_file = { .file = file, .len_bytes = FILE_BYTES };
	struct backend_source from_memory = { .data = data, .len_bytes = FILE_BYTES };
	struct backend_source empty = { .data = data, .len_bytes = 0 };
	struct backend_source *const sources[] = { &from_file, &from_memory, &empty };

	for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
		sources[i]->has_crc = true;
		sources[i]->crc32c = 12345;
		ck_assert_int_eq(put_source(sources[i]), -EBADMSG);
	}
	ck_assert_uint_eq(server_request_count(fx.server), 0);
	env_close(fx.env, file);
	free(data);
}
END_TEST

START_TEST(a_source_file_that_is_too_short_is_told)
{
	struct env_file *file = file_of("12345", 5);
	struct backend_source source = { .file = file, .len_bytes = 6 };

	ck_assert_int_eq(put_source(&source), -EUCLEAN);
	ck_assert_uint_eq(server_request_count(fx.server), 0);
	env_close(fx.env, file);
}
END_TEST

START_TEST(a_busy_server_says_for_how_long)
{
	static const struct {
		const char *headers;
		uint64_t seconds;
	} cases[] = {
		{ "", 0 },
		{ "Retry-After: 7\r\n", 7 },
		{ "Retry-After: 99999999999\r\n", 600 },
		{ "Retry-After: -1\r\n", 0 },
		{ "Retry-After: soon\r\n", 0 },
		{ "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n", 0 },
		{ "Retry-After: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
		  "Date: Sun, 06 Nov 1994 08:49:07 GMT\r\n",
		  30 },
		{ "Retry-After: Sun, 06 Nov 1994 08:49:07 GMT\r\n"
		  "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
		  0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		server_answer(fx.server, "503 Busy", cases[i].headers, "");
		ck_assert_int_eq(get(), 0);
		ck_assert_uint_eq(http_answer_retry_after_ns(&fx.answer), cases[i].seconds * S);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("backend/http");
	TCase *tc = tcase_create("http");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_get_brings_status_headers_and_text);
	tcase_add_test(tc, every_method_sends_what_it_should);
	tcase_add_test(tc, an_empty_body_has_a_length);
	tcase_add_test(tc, paths_are_sent_as_they_were_written);
	tcase_add_test(tc, bad_urls_and_headers_are_refused_before_anything_is_sent);
	tcase_add_test(tc, proxies_of_the_environment_are_not_asked);
	tcase_add_test(tc, connections_are_used_again);
	tcase_add_test(tc, a_connection_that_its_server_closed_is_replaced);
	tcase_add_test(tc, a_put_is_sent_once_even_when_a_kept_connection_dies);
	tcase_add_test(tc, many_threads_share_few_connections);
	tcase_add_test(tc, who_gets_no_connection_waits_no_longer_than_allowed);
	tcase_add_test(tc, a_body_goes_to_its_place);
	tcase_add_test(tc, a_body_of_another_length_is_refused_and_writes_no_further);
	tcase_add_test(tc, the_words_of_an_error_do_not_go_to_dst);
	tcase_add_test(tc, a_cut_body_is_no_answer);
	tcase_add_test(tc, what_is_not_http_is_no_answer);
	tcase_add_test(tc, interim_answers_are_passed_over);
	tcase_add_test(tc, chunks_are_joined_and_trailers_are_no_headers);
	tcase_add_test(tc, a_redirect_is_not_followed);
	tcase_add_test(tc, too_long_a_text_is_refused_and_an_error_cut);
	tcase_add_test(tc, headers_without_end_are_refused);
	tcase_add_test(tc, odd_headers_are_left_out);
	tcase_add_test(tc, a_server_that_says_nothing_is_given_up);
	tcase_add_test(tc, nobody_listens_is_worth_another_try);
	tcase_add_test(tc, a_name_that_does_not_resolve_is_told);
	tcase_add_test(tc, a_ca_file_that_is_missing_is_told);
	tcase_add_test(tc, a_client_that_hangs_up_raises_no_signal);
	tcase_add_test(tc, an_early_refusal_ends_the_sending);
	tcase_add_test(tc, sources_are_sent_whole_and_in_parts);
	tcase_add_test(tc, a_source_with_a_wrong_checksum_never_arrives_whole);
	tcase_add_test(tc, a_source_file_that_is_too_short_is_told);
	tcase_add_test(tc, a_busy_server_says_for_how_long);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
