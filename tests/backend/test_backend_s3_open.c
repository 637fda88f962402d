/* What opening an s3: store does: the URL, the credentials, the first requests. */
#include "tests/backend/support_s3.h"

#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- opening ------------------------------------------------------------------------------- */

START_TEST(opening_finds_out_whether_put_if_absent_works)
{
	static const struct {
		const char *first, *second;
		bool works;
	} cases[] = { { "200 OK", "412 Precondition Failed", true },
		      { "200 OK", "200 OK", false },
		      { "200 OK", "501 Not Implemented", false },
		      { "412 Precondition Failed", NULL, false },
		      { "501 Not Implemented", NULL, false } };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		bool wrote = cases[i].first[0] != '5';
		unsigned int count = 2u + (cases[i].second ? 1u : 0u) + (wrote ? 1u : 0u);

		server_answer(s3.server, "200 OK", "", S3_LISTING);
		server_answer(s3.server, cases[i].first, "", "");
		if (cases[i].second)
			server_answer(s3.server, cases[i].second, "", "");
		if (wrote)
			server_answer(s3.server, "204 No Content", "", "");
		ck_assert_int_eq(s3_open_at("bucket/pool", ""), 0);
		ck_assert_uint_eq(!!(s3.store->caps & BACKEND_CAP_PUT_IF_ABSENT), cases[i].works);
		ck_assert_uint_eq(s3_asked(), count);
		s3_must_have_asked(0, "GET /bucket?list-type=2&max-keys=1&prefix=pool%2F HTTP");
		s3_must_have_asked(1, "PUT /bucket/pool/tmp/probe-");
		ck_assert_str_eq(server_header(s3.server, s3.asked + 1, "If-None-Match"), "*");
		if (wrote)
			s3_must_have_asked(count - 1, "DELETE /bucket/pool/tmp/probe-");
		s3.store->ops->close(s3.store);
		s3.store = NULL;
		s3.asked += count;
	}
}
END_TEST

START_TEST(a_probe_that_fails_is_no_answer_and_leaves_nothing)
{
	server_answer(s3.server, "200 OK", "", S3_LISTING);
	server_answer(s3.server, "200 OK", "", "");
	server_answer(s3.server, "500 Oops", "", "");
	server_answer(s3.server, "204 No Content", "", "");
	ck_assert_int_eq(s3_open_at("bucket", ""), -EAGAIN);
	s3_must_have_asked(3, "DELETE /bucket/tmp/probe-");
	ck_assert_ptr_null(s3.store);
}
END_TEST

START_TEST(opening_says_what_is_wrong_and_what_to_do)
{
	static const struct {
		const char *status, *headers, *body;
		int result;
		const char *words;
	} cases[] = {
		{ "403 Forbidden", "", "<Error><Code>InvalidAccessKeyId</Code></Error>", -EACCES,
		  "does not know the access key: check the credentials" },
		{ "403 Forbidden", "",
		  "<Error><Code>SignatureDoesNotMatch</Code><StringToSign>" S3_SECRET
		  "</StringToSign></Error>",
		  -EACCES, "secret key does not belong" },
		{ "403 Forbidden", "", "<Error><Code>AccessDenied</Code></Error>", -EACCES,
		  "check the policy" },
		{ "403 Forbidden", "", "", -EACCES, "check the credentials" },
		{ "404 Not Found", "", "<Error><Code>NoSuchBucket</Code></Error>", -EAGAIN,
		  "no such bucket" },
		{ "301 Moved", "x-amz-bucket-region: eu-west-7\r\n",
		  "<Error><Code>PermanentRedirect</Code></Error>", -EINVAL, "region eu-west-7" },
		{ "400 Bad Request", "",
		  "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-9</Region></Error>",
		  -EINVAL, "region eu-9" },
		{ "301 Moved", "x-amz-bucket-region: <b>" S3_SECRET "\r\n", "", -EINVAL,
		  "another" },
		{ "400 Bad Request", "", "<html>", -EIO, "is this an S3 endpoint" },
		{ "507 Full", "", "", -ENOSPC, "full" },
		{ "403 Forbidden", "", "<Error><Code>QuotaExceeded</Code></Error>", -ENOSPC,
		  "quota" },
		{ "503 Slow Down", "", "<Error><Code>SlowDown</Code></Error>", -EAGAIN, "busy" },
		{ "500 Oops", "", "<Error><Code>" S3_SECRET "</Code></Error>", -EAGAIN, "trouble" },
		{ "418 Teapot", "", "", -EAGAIN, "check the endpoint" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		server_answer(s3.server, cases[i].status, cases[i].headers, cases[i].body);
		ck_assert_int_eq(s3_open_at("bucket/pool", ""), cases[i].result);
		s3_must_say(cases[i].words);
		s3_must_say("bucket");
		ck_assert_ptr_null(strstr(s3.e.message, "\n"));
		ck_assert_ptr_null(strstr(s3.e.message, S3_SECRET));
		ck_assert_ptr_null(s3.store);
	}
}
END_TEST

START_TEST(a_store_that_is_not_there_is_told_with_its_host)
{
	server_stop(s3.server);
	s3.server = server_start();
	char rest[256];

	(void)snprintf(rest, sizeof(rest), "//bucket?endpoint=%s", server_url(s3.server));
	server_stop(s3.server);
	s3.server = NULL;
	ck_assert_int_eq(s3_open_url(rest), -EAGAIN);
	s3_must_say("127.0.0.1:");
	s3_must_say("check host and port");
	/* Refused by the resolver itself: a label of 70 characters. */
	(void)snprintf(rest, sizeof(rest), "//bucket?endpoint=http://%070d.invalid", 0);
	ck_assert_int_eq(s3_open_url(rest), -EHOSTUNREACH);
	s3_must_say("no such host");
}
END_TEST

START_TEST(bad_urls_are_refused_without_showing_them)
{
	static const char *const bad[] = {
		"",
		"//",
		"/bucket",
		"//b",
		"//Bucket",
		"//bucket_x",
		"//-bucket",
		"//bucket-",
		"//two..dots",
		"//bucket{",
		"//buck{et",
		"//buck:et",
		"//b0123456789012345678901234567890123456789012345678901234567890123",
		"//bucket//x",
		"//bucket/../x",
		"//bucket/tmp",
		"//bucket/tmp/x",
		"//bucket/a%00b",
		"//bucket/a%0ab",
		"//bucket/a%2",
		"//bucket/caf%c3%a9",
		"//bucket/a%7f",
		"//" S3_ACCESS ":" S3_SECRET "@bucket/pool",
		"//user@bucket",
		"//bucket/pool@" S3_SECRET,
		"//bucket?secret=" S3_SECRET,
		"//bucket?endpoint=ftp://x",
		"//bucket?endpoint=http://",
		"//bucket?endpoint=http://u:" S3_SECRET "@x",
		"//bucket?endpoint=http://x/path",
		"//bucket?endpoint=http://x%0d%0aHost:y",
		"//bucket?endpoint=http://x&endpoint=http://y",
		"//bucket?region=",
		"//bucket?region=EU%20west",
		"//bucket?region=a-region-whose-name-is-longer-than-any-code-that-a-store-"
		"ever-gave-as-an-answer-to-a-request-of-anybody-anywhere",
		"//bucket?style=both",
		"//bucket?part_size=4MiB",
		"//bucket?part_size=5G",
		"//bucket?part_size=5243904",
		"//bucket?part_size=lots",
		"//bucket?" S3_SECRET,
		"//bucket#fragment",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_assert_msg(s3_open_url(bad[i]) == -EINVAL, "%s", bad[i]);
		ck_assert_msg(!strstr(s3.e.message, S3_SECRET), "%s", s3.e.message);
		ck_assert_ptr_null(s3.store);
	}
	ck_assert_uint_eq(server_connection_count(s3.server), 0);
}
END_TEST

START_TEST(urls_say_where_the_bucket_is)
{
	static const struct {
		const char *rest, *endpoint, *host, *prefix, *region;
	} cases[] = {
		{ "//bucket", "https://bucket.s3.us-east-1.amazonaws.com",
		  "bucket.s3.us-east-1.amazonaws.com", "", "us-east-1" },
		{ "//bucket/?region=eu-west-1&style=path", "https://s3.eu-west-1.amazonaws.com",
		  "s3.eu-west-1.amazonaws.com", "", "eu-west-1" },
		{ "//bucket/a/b/?endpoint=http://h:80/", "http://h:80", "h:80", "a/b/",
		  "us-east-1" },
		{ "//bucket/a%20b?endpoint=https%3A%2F%2Fh&style=virtual", "https://bucket.h",
		  "bucket.h", "a b/", "us-east-1" },
		{ "//b-1.c2?&&style=path&", "https://s3.us-east-1.amazonaws.com",
		  "s3.us-east-1.amazonaws.com", "", "us-east-1" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct s3_config c;

		ck_assert_int_eq(s3_config_parse(cases[i].rest, &c, &s3.e), 0);
		ck_assert_str_eq(c.endpoint, cases[i].endpoint);
		ck_assert_str_eq(c.host, cases[i].host);
		ck_assert_str_eq(c.prefix, cases[i].prefix);
		ck_assert_str_eq(c.region, cases[i].region);
		s3_config_done(&c);
	}
}
END_TEST

START_TEST(the_environment_names_the_region_where_the_url_does_not)
{
	static const struct {
		const char *first, *second, *region;
	} cases[] = {
		{ "eu-1", "eu-2", "eu-1" }, { "", "eu-2", "eu-2" },	 { NULL, "eu-2", "eu-2" },
		{ NULL, "", "us-east-1" },  { NULL, NULL, "us-east-1" },
	};
	struct s3_config c;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		ck_assert_int_eq(cases[i].first ? setenv("AWS_REGION", cases[i].first, 1) :
						  unsetenv("AWS_REGION"),
				 0);
		ck_assert_int_eq(cases[i].second ?
					 setenv("AWS_DEFAULT_REGION", cases[i].second, 1) :
					 unsetenv("AWS_DEFAULT_REGION"),
				 0);
		ck_assert_int_eq(s3_config_parse("//bucket", &c, &s3.e), 0);
		ck_assert_str_eq(c.region, cases[i].region);
		s3_config_done(&c);
	}
}
END_TEST

START_TEST(a_value_of_an_option_has_a_bound)
{
	char rest[8192];
	struct s3_config c;

	(void)snprintf(rest, sizeof(rest), "//bucket?ca_file=/%05000d", 0);
	ck_assert_int_eq(s3_config_parse(rest, &c, &s3.e), -EINVAL);
	s3_must_say("too long");
}
END_TEST

START_TEST(a_prefix_has_500_bytes_at_most)
{
	char rest[600];
	struct s3_config c;

	for (int rest_bytes = 98; rest_bytes <= 99; rest_bytes++) {
		(void)snprintf(rest, sizeof(rest), "//bucket/%0200d/%0200d/%0*d", 0, 0, rest_bytes,
			       0);
		if (rest_bytes == 99) {
			ck_assert_int_eq(s3_config_parse(rest, &c, &s3.e), -EINVAL);
			ck_assert_ptr_nonnull(strstr(s3.e.message, "more than 500 bytes"));
		} else {
			ck_assert_int_eq(s3_config_parse(rest, &c, &s3.e), 0);
			ck_assert_uint_eq(strlen(c.prefix), S3_PREFIX_BYTES_MAX);
			s3_config_done(&c);
		}
	}
}
END_TEST

START_TEST(virtual_hosts_have_the_bucket_in_their_name)
{
	char rest[256], host[64];

	(void)snprintf(host, sizeof(host), "bucket.localhost%s",
		       strrchr(server_url(s3.server), ':'));
	(void)snprintf(rest, sizeof(rest), "//bucket/p?style=virtual&endpoint=http://%s",
		       host + strlen("bucket."));
	server_answer(s3.server, "200 OK", "", S3_LISTING);
	server_answer(s3.server, "501 Not Implemented", "", S3_NOT_IMPL);
	ck_assert_msg(s3_open_url(rest) == 0, "%s", s3.e.message);
	s3_must_have_asked(0, "GET /?list-type=2&max-keys=1&prefix=p%2F HTTP");
	s3_must_have_asked(1, "PUT /p/tmp/probe-");
	ck_assert_str_eq(server_header(s3.server, 0, "Host"), host);
}
END_TEST

/* ---- credentials --------------------------------------------------------------------------- */

static void write_file(const char *path, const char *text, mode_t mode)
{
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_int_eq(chmod(path, mode), 0);
}

static int load(const char *path, const char *profile, struct s3_keys **ret_keys)
{
	char path_copy[64], profile_copy[64];
	struct s3_config c = { .credentials = path ? path_copy : NULL,
			       .profile = profile ? profile_copy : NULL };

	(void)snprintf(path_copy, sizeof(path_copy), "%s", path ? path : "");
	(void)snprintf(profile_copy, sizeof(profile_copy), "%s", profile ? profile : "");
	return s3_keys_load(s3.env, &c, ret_keys, &s3.e);
}

static void must_load(const char *path, const char *profile, const char *access, const char *secret,
		      const char *token)
{
	struct s3_keys *keys = NULL;

	ck_assert_msg(load(path, profile, &keys) == 0, "%s", s3.e.message);
	ck_assert_str_eq(keys->access, access);
	ck_assert_str_eq(keys->secret, secret);
	ck_assert_str_eq(keys->token, token);
	s3_keys_free(keys);
}

START_TEST(credentials_come_from_file_environment_or_home)
{
	char home[PATH_MAX], file[] = "credentials-XXXXXX";
	int fd = mkstemp(file);

	ck_assert_int_ge(fd, 0);
	(void)close(fd);
	write_file(file,
		   "# a comment\n\n[default]\r\n aws_access_key_id = A1 \r\n"
		   "aws_secret_access_key=S1;#\n"
		   "[ other ]\naws_access_key_id=A2\naws_secret_access_key=S2\n"
		   "aws_session_token=T2\nregion = x",
		   0600);
	must_load(file, NULL, "A1", "S1;#", "");
	must_load(file, "other", "A2", "S2", "T2");
	ck_assert_int_eq(setenv("AWS_PROFILE", "other", 1), 0);
	must_load(file, NULL, "A2", "S2", "T2");
	must_load(NULL, NULL, S3_ACCESS, S3_SECRET, "");
	ck_assert_int_eq(setenv("AWS_SESSION_TOKEN", S3_TOKEN, 1), 0);
	must_load(NULL, NULL, S3_ACCESS, S3_SECRET, S3_TOKEN);
	ck_assert_int_eq(setenv("AWS_SHARED_CREDENTIALS_FILE", file, 1), 0);
	must_load(NULL, "default", "A1", "S1;#", "");
	ck_assert_int_eq(unsetenv("AWS_SECRET_ACCESS_KEY"), 0);
	must_load(NULL, NULL, "A2", "S2", "T2");
	ck_assert_int_eq(unsetenv("AWS_SHARED_CREDENTIALS_FILE"), 0);
	ck_assert_ptr_nonnull(getcwd(home, sizeof(home)));
	ck_assert_int_eq(setenv("HOME", home, 1), 0);
	ck_assert(mkdir(".aws", 0700) == 0 || errno == EEXIST);
	ck_assert_int_eq(rename(file, ".aws/credentials"), 0);
	must_load(NULL, NULL, "A2", "S2", "T2");
	ck_assert_int_eq(unlink(".aws/credentials"), 0);
}
END_TEST

START_TEST(bad_credentials_are_refused_without_showing_them)
{
	static const struct {
		const char *text;
		mode_t mode;
		int result;
		const char *words;
	} cases[] = {
		{ "[default]\naws_access_key_id=A\naws_secret_access_key=" S3_SECRET "\n", 0640,
		  -EACCES, "chmod 600" },
		{ "[default]\naws_access_key_id=A\naws_secret_access_key=" S3_SECRET "\n", 0604,
		  -EACCES, "chmod 600" },
		{ "[other]\naws_access_key_id=A\naws_secret_access_key=" S3_SECRET "\n", 0600,
		  -ENOENT, "no profile 'default'" },
		{ "[default]\naws_secret_access_key=" S3_SECRET "\n", 0600, -EINVAL,
		  "needs aws_access_key_id" },
		{ "[default]\naws_secret_access_key " S3_SECRET "\n", 0600, -EINVAL, "line 2" },
		{ "[default]\naws_access_key_id=A\naws_secret_access_key=" S3_SECRET " x\n", 0600,
		  -EINVAL, "line 3" },
		{ "[default\n", 0600, -EINVAL, "line 1" },
		{ "", 0600, -ENOENT, "no profile" },
	};
	struct s3_keys *keys = NULL;
	char file[] = "credentials-XXXXXX";
	int fd = mkstemp(file);

	ck_assert_int_ge(fd, 0);
	(void)close(fd);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		write_file(file, cases[i].text, cases[i].mode);
		ck_assert_int_eq(load(file, NULL, &keys), cases[i].result);
		s3_must_say(cases[i].words);
		s3_must_say(file);
		ck_assert_ptr_null(strstr(s3.e.message, S3_SECRET));
	}
	ck_assert_int_eq(unlink(file), 0);
	ck_assert_int_eq(load(file, NULL, &keys), -ENOENT);
	ck_assert_int_eq(setenv("AWS_SECRET_ACCESS_KEY", S3_SECRET "\n", 1), 0);
	ck_assert_int_eq(load(NULL, NULL, &keys), -EINVAL);
	ck_assert_ptr_null(strstr(s3.e.message, S3_SECRET));
	ck_assert_int_eq(unsetenv("AWS_SECRET_ACCESS_KEY"), 0);
	ck_assert_int_eq(setenv("HOME", "/nonexistent", 1), 0);
	ck_assert_int_eq(load(NULL, NULL, &keys), -ENOENT);
	s3_must_say("set AWS_ACCESS_KEY_ID");
	ck_assert_ptr_null(keys);
}
END_TEST

/* ---- running ------------------------------------------------------------------------------- */

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("opening");

	tcase_add_checked_fixture(tc, s3_setup_bare, s3_teardown);
	tcase_add_test(tc, opening_finds_out_whether_put_if_absent_works);
	tcase_add_test(tc, a_probe_that_fails_is_no_answer_and_leaves_nothing);
	tcase_add_test(tc, opening_says_what_is_wrong_and_what_to_do);
	tcase_add_test(tc, a_store_that_is_not_there_is_told_with_its_host);
	tcase_add_test(tc, bad_urls_are_refused_without_showing_them);
	tcase_add_test(tc, urls_say_where_the_bucket_is);
	tcase_add_test(tc, the_environment_names_the_region_where_the_url_does_not);
	tcase_add_test(tc, a_value_of_an_option_has_a_bound);
	tcase_add_test(tc, a_prefix_has_500_bytes_at_most);
	tcase_add_test(tc, virtual_hosts_have_the_bucket_in_their_name);
	tcase_add_test(tc, credentials_come_from_file_environment_or_home);
	tcase_add_test(tc, bad_credentials_are_refused_without_showing_them);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	Suite *suite = suite_create("backend/s3_open");
	SRunner *runner;
	int failed;

	add_tests(suite);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
