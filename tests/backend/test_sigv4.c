/*
 * Signatures that others published: the examples of Amazon's S3 documentation ("Authenticating
 * Requests: Using the Authorization Header") and of its test suite for signers.
 */
#include "backend/sigv4.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct sigv4_keys s3_keys = { .access = "AKIAIOSFODNN7EXAMPLE",
					   .secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
					   .region = "us-east-1",
					   .service = "s3" };
static const struct sigv4_keys suite_keys = { .access = "AKIDEXAMPLE",
					      .secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
					      .region = "us-east-1",
					      .service = "service" };
#define S3_DATE	   "20130524T000000Z"
#define SUITE_DATE "20150830T123600Z"
#define S3_HOST	   "examplebucket.s3.amazonaws.com"

static void must_sign(const struct sigv4_keys *keys, const struct sigv4_request *request,
		      const char *date, const char *names, const char *signature)
{
	char expected[1024];
	struct buf got;

	buf_init(&got, 4096);
	ck_assert_int_eq(sigv4_sign(&got, keys, request, date), 0);
	(void)snprintf(expected, sizeof(expected),
		       "AWS4-HMAC-SHA256 Credential=%s/%.8s/us-east-1/%s/aws4_request, "
		       "SignedHeaders=%s, Signature=%s",
		       keys->access, date, keys->service, names, signature);
	ck_assert_str_eq((char *)got.data, expected);
	buf_done(&got);
}

/* ---- S3's documentation -------------------------------------------------------------------- */

START_TEST(get_object)
{
	static const struct http_header headers[] = { { "Host", S3_HOST },
						      { "Range", "bytes=0-9" },
						      { "x-amz-content-sha256", SIGV4_EMPTY_HASH },
						      { "x-amz-date", S3_DATE } };
	static const struct sigv4_request request = { .method = "GET",
						      .path = "/test.txt",
						      .query = "",
						      .headers = headers,
						      .header_count = ARRAY_SIZE(headers),
						      .payload_hash = SIGV4_EMPTY_HASH };
	struct buf canonical;
	char hash[SIGV4_HASH_BYTES];

	buf_init(&canonical, 4096);
	ck_assert_int_eq(sigv4_canonical(&canonical, &request), 0);
	ck_assert_int_eq(sigv4_hash(canonical.data, canonical.len_bytes, hash), 0);
	ck_assert_str_eq(hash, "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972");
	buf_done(&canonical);
	must_sign(&s3_keys, &request, S3_DATE, "host;range;x-amz-content-sha256;x-amz-date",
		  "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}
END_TEST

START_TEST(put_object)
{
	static const char hash[] =
		"44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072";
	/* Neither sorted nor in lower case, as a caller may have them. */
	static const struct http_header headers[] = {
		{ "X-Amz-Date", S3_DATE },
		{ "x-amz-storage-class", "REDUCED_REDUNDANCY" },
		{ "X-AMZ-Content-SHA256", hash },
		{ "Host", S3_HOST },
		{ "Date", "Fri, 24 May 2013 00:00:00 GMT" },
	};
	struct sigv4_request request = { .method = "PUT",
					 .query = "",
					 .headers = headers,
					 .header_count = ARRAY_SIZE(headers),
					 .payload_hash = hash };
	char got[SIGV4_HASH_BYTES];
	struct buf path;

	ck_assert_int_eq(sigv4_hash("Welcome to Amazon S3.", 21, got), 0);
	ck_assert_str_eq(got, hash);
	buf_init(&path, 100);
	ck_assert_int_eq(http_escape(&path, "/test$file.text", true), 0);
	ck_assert_int_eq(buf_append(&path, "", 1), 0);
	request.path = (char *)path.data;
	ck_assert_str_eq(request.path, "/test%24file.text");
	must_sign(&s3_keys, &request, S3_DATE,
		  "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
		  "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
	buf_done(&path);
}
END_TEST

static void must_sign_query(const struct sigv4_keys *keys, const struct sigv4_param *params,
			    size_t count, const char *query, const char *signature)
{
	struct http_header headers[] = { { "Host", S3_HOST },
					 { "x-amz-content-sha256", SIGV4_EMPTY_HASH },
					 { "x-amz-date", S3_DATE } };
	struct http_header suite[] = { { "Host", "example.amazonaws.com" },
				       { "X-Amz-Date", SUITE_DATE } };
	bool is_s3 = keys == &s3_keys;
	struct sigv4_request request = { .method = "GET",
					 .path = "/",
					 .headers = is_s3 ? headers : suite,
					 .header_count = is_s3 ? 3 : 2,
					 .payload_hash = SIGV4_EMPTY_HASH };
	struct buf text;

	buf_init(&text, 1000);
	ck_assert_int_eq(sigv4_query(&text, params, count), 0);
	ck_assert_int_eq(buf_append(&text, "", 1), 0);
	request.query = (char *)text.data;
	ck_assert_str_eq(request.query, query);
	must_sign(keys, &request, is_s3 ? S3_DATE : SUITE_DATE,
		  is_s3 ? "host;x-amz-content-sha256;x-amz-date" : "host;x-amz-date", signature);
	buf_done(&text);
}

START_TEST(get_bucket_lifecycle_has_a_parameter_without_value)
{
	static const struct sigv4_param params[] = { { "lifecycle", "" } };

	must_sign_query(&s3_keys, params, 1, "lifecycle=",
			"fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}
END_TEST

START_TEST(list_objects_sorts_its_parameters)
{
	static const struct sigv4_param params[] = { { "prefix", "J" }, { "max-keys", "2" } };

	must_sign_query(&s3_keys, params, 2, "max-keys=2&prefix=J",
			"34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}
END_TEST

/* ---- the test suite for signers ------------------------------------------------------------ */

START_TEST(get_vanilla)
{
	must_sign_query(&suite_keys, NULL, 0, "",
			"5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
}
END_TEST

START_TEST(get_vanilla_query_order_key_case)
{
	static const struct sigv4_param params[] = { { "Param2", "value2" },
						     { "Param1", "value1" } };

	must_sign_query(&suite_keys, params, 2, "Param1=value1&Param2=value2",
			"b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500");
}
END_TEST

/* ---- parts --------------------------------------------------------------------------------- */

START_TEST(parameters_sort_by_escaped_name_before_value)
{
	static const struct sigv4_param params[] = {
		{ "a-b", "1" }, { "a", "2" }, { "a", "1" }, { "a b", "/" }, { "B", "" }
	};
	struct sigv4_param many[SIGV4_PARAMS_MAX + 1];
	struct buf text;

	buf_init(&text, 1000);
	ck_assert_int_eq(sigv4_query(&text, params, ARRAY_SIZE(params)), 0);
	ck_assert_int_eq(buf_append(&text, "", 1), 0);
	ck_assert_str_eq((char *)text.data, "B=&a=1&a=2&a%20b=%2F&a-b=1");
	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = params[0];
	ck_assert_int_eq(sigv4_query(&text, many, ARRAY_SIZE(many)), -E2BIG);
	buf_done(&text);
}
END_TEST

START_TEST(blanks_of_a_value_are_put_in_order)
{
	static const struct http_header headers[] = { { "Host", " a " },
						      { "My-Header", "  b   \t c  " } };
	static const struct sigv4_request request = { .method = "GET",
						      .path = "/",
						      .query = "",
						      .headers = headers,
						      .header_count = 2,
						      .payload_hash = SIGV4_NOT_HASHED };
	struct buf text;

	buf_init(&text, 1000);
	ck_assert_int_eq(sigv4_canonical(&text, &request), 0);
	ck_assert_str_eq((char *)text.data, "GET\n/\n\nhost:a\nmy-header:b c\n\nhost;my-header\n"
					    "UNSIGNED-PAYLOAD");
	buf_done(&text);
}
END_TEST

START_TEST(dates_are_written_as_wanted)
{
	char date[SIGV4_DATE_BYTES];

	ck_assert_int_eq(sigv4_date(1369353600, date), 0);
	ck_assert_str_eq(date, S3_DATE);
	ck_assert_int_eq(sigv4_date(0, date), 0);
	ck_assert_str_eq(date, "19700101T000000Z");
	ck_assert_int_eq(sigv4_date(-1, date), -EINVAL);
	ck_assert_int_eq(sigv4_date(INT64_MAX, date), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("backend/sigv4");
	TCase *tc = tcase_create("sigv4");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, get_object);
	tcase_add_test(tc, put_object);
	tcase_add_test(tc, get_bucket_lifecycle_has_a_parameter_without_value);
	tcase_add_test(tc, list_objects_sorts_its_parameters);
	tcase_add_test(tc, get_vanilla);
	tcase_add_test(tc, get_vanilla_query_order_key_case);
	tcase_add_test(tc, parameters_sort_by_escaped_name_before_value);
	tcase_add_test(tc, blanks_of_a_value_are_put_in_order);
	tcase_add_test(tc, dates_are_written_as_wanted);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
