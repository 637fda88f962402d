/*
 * Each call that a store of the network makes of others (memory, random numbers, libcurl, expat,
 * OpenSSL, jansson) fails in turn, in each way that it can: the operation says an error, or did what it
 * was asked for, and then it works. The program is linked with copies of the libraries whose calls are
 * those of faulty/calls.c.
 */
#include "tests/backend/support_s3.h"
#include "tests/backend/support_swift.h"
#include "tests/faulty/faulty.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MIB   ((size_t)1 << 20)
#define TRIES 3u

/* --- what fails ---------------------------------------------------------------------------------- */

/* Of the test's own thread; the server goes on. */
static __thread unsigned int fails_after; /* 0: none fails */
static __thread unsigned int variant;
static __thread char failed[64]; /* the name of what did */

bool faulty_now(const struct faulty_call *call, UNUSED const void *from)
{
	if (fails_after == 0 || (variant > 0 && call->error[variant - 1] == 0) ||
	    call->error[variant] == 0 || --fails_after > 0)
		return false;
	(void)snprintf(failed, sizeof(failed), "%s, error %d", call->name, call->error[variant]);
	errno = call->error[variant];
	return true;
}

static struct server *server;

/* Of those that take long not each. */
static void must_hold_each(const char *name, int (*act)(void), unsigned int step)
{
	unsigned int count = 0;

	for (variant = 0; variant < FAULTY_VARIANTS; variant++)
		for (unsigned int n = 1;; n += step) {
			int r;

			server_forget(server);
			failed[0] = '\0';
			fails_after = n;
			r = act();
			fails_after = 0;
			if (!failed[0]) {
				ck_assert_msg(r == 0, "%s: %d without a failure", name, r);
				break;
			}
			ck_assert_msg(r <= 0, "%s: %d where %s fails", name, r, failed);
			for (unsigned int i = 0; r != 0 && i < TRIES; i++)
				r = act();
			ck_assert_msg(r == 0, "%s: %d after %s failed once", name, r, failed);
			count++;
		}
	ck_assert_msg(count > 0, "%s: nothing can fail", name);
	printf("%s: %u failures\n", name, count);
}

static void must_hold(const char *name, int (*act)(void))
{
	must_hold_each(name, act, 1);
}

/* --- operations of both -------------------------------------------------------------------------- */

static struct store *store;
static const char *const three[] = { "a/1", "b", "c" };

static int put(void)
{
	static const struct backend_source source = { .data = "0123456789", .len_bytes = 10 };
	struct backend_put_result result;

	return store->ops->put(store, "a/name", &source, 0, &result, NULL);
}

static int put_large(void)
{
	static char *data;
	struct backend_source source = { .len_bytes = 5 * MIB + 1 };
	struct backend_put_result result;

	if (!data)
		data = calloc(1, (size_t)source.len_bytes);
	ck_assert(data);
	source.data = data;
	return store->ops->put(store, "big", &source, 0, &result, NULL);
}

static int get(void)
{
	char got[4] = "....";
	struct err e = { 0 };
	int r = store->ops->get(store, "a/name", 2, got, 4, &e);

	ck_assert(r < 0 || memcmp(got, "2345", 4) == 0);
	return r;
}

static int head(void)
{
	struct backend_object object = { 0 };
	int r = store->ops->head(store, "a/name", &object, NULL);

	ck_assert(r < 0 || object.len_bytes == 10);
	return r;
}

static int del(void)
{
	return store->ops->del(store, "a/name", NULL);
}

static int del_many(void)
{
	bool gone[3] = { false, false, false };
	int r = store->ops->del_many(store, three, 3, gone, NULL);

	ck_assert(r < 0 || (gone[0] && gone[1] && gone[2]));
	return r;
}

static int count_name(void *arg, UNUSED const char *name,
		      UNUSED const struct backend_object *object)
{
	(*(unsigned int *)arg)++;
	return 0;
}

static int list(void)
{
	unsigned int count = 0;
	int r = store->ops->list(store, "a/", "", 100, count_name, &count, NULL);

	ck_assert(r < 0 || (r == 2 && count == 2));
	return r < 0 ? r : 0;
}

static void all_must_hold(void)
{
	must_hold("put", put);
	must_hold_each("put in parts", put_large, 5);
	must_hold("get", get);
	must_hold("head", head);
	must_hold("delete", del);
	if (store->ops->del_many)
		must_hold("delete many", del_many);
	must_hold("list", list);
}

static char *answer(const char *status, const char *headers, const char *body, size_t len_bytes)
{
	char *text = NULL;

	ck_assert_int_gt(asprintf(&text, "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\n\r\n%s", status,
				  headers, len_bytes, body),
			 0);
	return text;
}

static bool begins(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

/* --- s3: ----------------------------------------------------------------------------------------- */

#define ITEM(key)                                                                                  \
	"<Contents><Key>pool/" key "</Key><Size>4</Size>"                                          \
	"<LastModified>2026-11-21T21:40:21.000Z</LastModified></Contents>"
#define LISTING                                                                                    \
	"<ListBucketResult><IsTruncated>false</IsTruncated>" ITEM("a/1")                           \
		ITEM("a/2") "</ListBucketResult>"

static char *text_of(const char *status, const char *headers, const char *body)
{
	return answer(status, headers, body, strlen(body));
}

static char *s3_handler(UNUSED void *arg, const char *asked, UNUSED const char *body,
			UNUSED size_t body_bytes)
{
	char line[128];

	(void)snprintf(line, sizeof(line), "%.*s", (int)strcspn(asked, "\r"), asked);
	if (begins(line, "PUT") && strstr(asked, "If-None-Match"))
		return text_of("501 Not Implemented", "",
			       "<Error><Code>NotImplemented</Code></Error>");
	if (begins(line, "PUT"))
		return text_of("200 OK", "ETag: \"781e5e245d69b566979b86e28d23f2c7\"\r\n", "");
	if (begins(line, "POST") && strstr(line, "uploads"))
		return text_of("200 OK", "",
			       "<InitiateMultipartUploadResult><UploadId>u</UploadId>"
			       "</InitiateMultipartUploadResult>");
	if (begins(line, "POST") && strstr(line, "uploadId"))
		return text_of("200 OK", "",
			       "<CompleteMultipartUploadResult><ETag>x</ETag>"
			       "</CompleteMultipartUploadResult>");
	if (begins(line, "POST"))
		return text_of("200 OK", "", "<DeleteResult></DeleteResult>");
	if (begins(line, "DELETE"))
		return text_of("204 No Content", "", "");
	if (begins(line, "HEAD"))
		return answer("200 OK", "Last-Modified: Sat, 21 Nov 2026 21:40:21 GMT\r\n", "", 10);
	if (strstr(line, "list-type"))
		return text_of("200 OK", "", LISTING);
	return text_of("206 Partial Content", "Content-Range: bytes 2-5/10\r\n", "2345");
}

static int s3_open(void)
{
	int r;

	if (s3.store)
		s3.store->ops->close(s3.store);
	s3.store = NULL;
	r = s3_open_at("bucket/pool", "&part_size=5MiB");
	store = s3.store;
	return r;
}

START_TEST(a_store_of_s3_holds)
{
	s3_setup_bare();
	server = s3.server;
	server_handle(server, s3_handler, NULL);
	must_hold("open", s3_open);
	all_must_hold();
	s3_teardown();
}
END_TEST

/* --- swift: -------------------------------------------------------------------------------------- */

static char *swift_handler(UNUSED void *arg, const char *asked, UNUSED const char *body,
			   UNUSED size_t body_bytes)
{
	char token[512];

	(void)snprintf(token, sizeof(token), "X-Auth-Token: t\r\nX-Storage-Url: %s/v1/AUTH_a\r\n",
		       server_url(sw.server));
	if (begins(asked, "GET /auth"))
		return text_of("200 OK", token, "");
	if (begins(asked, "PUT"))
		return text_of("201 Created", "", "");
	if (begins(asked, "POST"))
		return text_of("200 OK", "Content-Type: application/json\r\n",
			       "{\"Number Not Found\": 0, \"Response Status\": \"200 OK\", "
			       "\"Response Body\": \"\", \"Errors\": [], \"Number Deleted\": 3}");
	if (begins(asked, "DELETE"))
		return text_of("204 No Content", "", "");
	if (begins(asked, "HEAD"))
		return answer("200 OK", "Last-Modified: Sat, 21 Nov 2026 21:40:21 GMT\r\n", "", 10);
	if (strstr(asked, "a%2F2")) /* behind the last one */
		return text_of("200 OK", "", "[]");
	if (strstr(asked, "format=json"))
		return text_of("200 OK", "",
			       "[{\"bytes\":1,\"name\":\"pre/a/1\",\"last_modified\":"
			       "\"2026-11-21T21:40:21.123456\"},{\"bytes\":1,\"name\":\"pre/a/2\","
			       "\"last_modified\":\"2026-11-21T21:40:21.123456\"}]");
	return text_of("206 Partial Content", "Content-Range: bytes 2-5/10\r\n", "2345");
}

static int swift_open(void)
{
	static const struct backend_options options = { .concurrency_max = 16 };
	char url[512];
	int r;

	if (sw.store)
		sw.store->ops->close(sw.store);
	sw.store = NULL;
	(void)snprintf(url, sizeof(url), "swift://con/pre?auth=%s/auth/v1.0",
		       server_url(sw.server));
	r = store_open(env_posix(), url, &options, &sw.store, &sw.e);
	store = sw.store;
	return r;
}

START_TEST(a_store_of_swift_holds)
{
	swift_fx_setup();
	server = sw.server;
	server_handle(server, swift_handler, NULL);
	must_hold("open", swift_open);
	all_must_hold();
	swift_fx_teardown();
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("backend_failing");
	TCase *t = tcase_create("failing");
	SRunner *runner;
	int failures;

	tcase_add_test(t, a_store_of_s3_holds);
	tcase_add_test(t, a_store_of_swift_holds);
	suite_add_tcase(suite, t);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failures = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failures ? EXIT_FAILURE : EXIT_SUCCESS;
}
