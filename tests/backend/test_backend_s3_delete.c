/* Many deletes in one request of the s3: store, against a server that fails in part, or in words. */
#include "tests/backend/support_s3.h"

#include <check.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static const char *const three[] = { "a/1", "b<&>\"'%+ ", "c" };
static bool gone[3];

#define RESULT(words)	  "<DeleteResult>" words "</DeleteResult>"
#define FAILED(key, code) "<Error><Key>" key "</Key><Code>" code "</Code></Error>"
#define IS_GONE(a, b, c)                                                                           \
	do {                                                                                       \
		ck_assert_int_eq(gone[0], a);                                                      \
		ck_assert_int_eq(gone[1], b);                                                      \
		ck_assert_int_eq(gone[2], c);                                                      \
	} while (0)

static int del_many(void)
{
	return s3.store->ops->del_many(s3.store, three, 3, gone, &s3.e);
}

static int del_anew(void)
{
	memset(gone, 0, sizeof(gone));
	return del_many();
}

static void answer(const char *status, const char *body)
{
	server_answer(s3.server, status, "", body);
}

START_TEST(all_names_go_in_one_request_with_its_md5)
{
	unsigned char digest[16];
	char md5[25];
	size_t body_bytes;
	const char *body;

	answer("200 OK", RESULT(""));
	ck_assert_int_eq(del_many(), 0);
	IS_GONE(true, true, true);
	ck_assert_uint_eq(s3_asked(), 1);
	s3_must_have_asked(0, "POST /bucket?delete= HTTP/1.1\r\n");
	body = server_body(s3.server, s3.asked, &body_bytes);
	ck_assert_ptr_nonnull(strstr(body, "<Quiet>true</Quiet><Object><Key>pool/a/1</Key>"));
	ck_assert_ptr_nonnull(strstr(body, "<Key>pool/b&lt;&amp;&gt;\"'%+ </Key>"));
	ck_assert_int_eq(EVP_Digest(body, body_bytes, digest, NULL, EVP_md5(), NULL), 1);
	(void)EVP_EncodeBlock((unsigned char *)md5, digest, 16);
	ck_assert_str_eq(server_header(s3.server, s3.asked, "Content-MD5"), md5);
}
END_TEST

START_TEST(what_an_answer_names_is_still_there_and_asked_for_alone_next_time)
{
	size_t body_bytes;
	const char *body;

	answer("200 OK", RESULT(FAILED("pool/b&lt;&amp;&gt;\"'%+ ", "InternalError")));
	ck_assert_int_eq(del_many(), -EAGAIN);
	s3_must_say("has trouble");
	IS_GONE(true, false, true);
	answer("200 OK", RESULT(""));
	ck_assert_int_eq(del_many(), 0);
	IS_GONE(true, true, true);
	body = server_body(s3.server, s3.asked + 1, &body_bytes);
	ck_assert_ptr_null(strstr(body, "pool/a/1"));
	ck_assert_ptr_nonnull(strstr(body, "<Key>pool/b&lt;"));
	ck_assert_ptr_null(strstr(body, "pool/c"));
}
END_TEST

START_TEST(of_several_failures_the_one_that_may_pass_is_told)
{
	answer("200 OK", RESULT(FAILED("pool/a/1", "AccessDenied") FAILED("pool/c", "SlowDown")));
	ck_assert_int_eq(del_anew(), -EAGAIN);
	s3_must_say("busy");
	IS_GONE(false, true, false);
	answer("200 OK", RESULT(FAILED("pool/a/1", "AccessDenied")));
	ck_assert_int_eq(del_anew(), -EACCES);
	s3_must_say("policy");
	answer("200 OK", RESULT(FAILED("pool/a/1", "Of Its Own")));
	ck_assert_int_eq(del_anew(), -EAGAIN);
	IS_GONE(false, true, true);
	answer("200 OK", RESULT(FAILED("pool/a/1", "NoSuchKey")));
	ck_assert_int_eq(del_anew(), 0);
}
END_TEST

START_TEST(an_answer_that_is_no_list_of_failures_says_nothing)
{
	static const char *const bodies[] = {
		"",
		"<DeleteResult>",
		"<html>gone</html>",
		"<ListBucketResult></ListBucketResult>",
		RESULT(FAILED("pool/d", "InternalError")), /* nobody asked for that */
		RESULT(FAILED("a/1", "InternalError")),	   /* without our prefix */
		RESULT("<Error><Code>InternalError</Code></Error>"),
		RESULT("<Error><Key>pool/a/1</Key><Key>pool/c</Key></Error>"),
		"<Error><Code>InternalError</Code></Error>",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		answer("200 OK", bodies[i]);
		ck_assert_msg(del_anew() == -EAGAIN, "answer %zu: %s", i, s3.e.message);
		IS_GONE(false, false, false);
	}
}
END_TEST

START_TEST(a_lost_or_cut_answer_says_nothing)
{
	server_reply(s3.server, SERVER_RESET, "");
	ck_assert_int_eq(del_anew(), -EAGAIN);
	IS_GONE(false, false, false);
	server_reply(s3.server, SERVER_CLOSE,
		     "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" RESULT(""));
	ck_assert_int_eq(del_anew(), -EAGAIN);
	IS_GONE(false, false, false);
}
END_TEST

START_TEST(a_store_that_cannot_is_remembered_and_trouble_is_not)
{
	static const struct {
		const char *status, *body;
		int result;
		bool remembered;
	} cases[] = {
		{ "501 No", S3_NOT_IMPL, -EOPNOTSUPP, true },
		{ "405 No", "", -EOPNOTSUPP, true },
		{ "400 No", "<Error><Code>MalformedXML</Code></Error>", -EOPNOTSUPP, true },
		{ "204 No Content", "", -EOPNOTSUPP, true },
		{ "403 No", "<Error><Code>AccessDenied</Code></Error>", -EOPNOTSUPP, false },
		{ "404 No", "", -EOPNOTSUPP, false },
		{ "404 No", "<Error><Code>NoSuchBucket</Code></Error>", -EAGAIN, false },
		{ "400 No", "<Error><Code>BadDigest</Code></Error>", -EAGAIN, false },
		{ "503 Busy", "", -EAGAIN, false },
		{ "429 Busy", "", -EAGAIN, false },
		{ "500 Oops", "", -EAGAIN, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		atomic_store(&s3.store->del_many_max, S3_DELETES_MAX);
		answer(cases[i].status, cases[i].body);
		ck_assert_msg(del_anew() == cases[i].result, "case %zu: %s", i, s3.e.message);
		ck_assert_int_eq(atomic_load(&s3.store->del_many_max) == 0, cases[i].remembered);
		IS_GONE(false, false, false);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("backend/s3_delete");
	TCase *tc = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, s3_setup, s3_teardown);
	tcase_add_test(tc, all_names_go_in_one_request_with_its_md5);
	tcase_add_test(tc, what_an_answer_names_is_still_there_and_asked_for_alone_next_time);
	tcase_add_test(tc, of_several_failures_the_one_that_may_pass_is_told);
	tcase_add_test(tc, an_answer_that_is_no_list_of_failures_says_nothing);
	tcase_add_test(tc, a_lost_or_cut_answer_says_nothing);
	tcase_add_test(tc, a_store_that_cannot_is_remembered_and_trouble_is_not);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
