/*
 * The s3: store against a server that says what a real one does not say on demand. That it gets
 * along with a real one is shown by the contract (contract_backend_network).
 */
#include "backend/backend_s3.h"

#include "common/crc32c.h"
#include "common/log.h"
#include "common/thread.h"
#include "tests/backend/support_server.h"

#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ACCESS	 "AKIAIOSFODNN7EXAMPLE"
#define SECRET	 "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define TOKEN	 "t0kentokent0ken"
#define S	 INT64_C(1000000000)
#define MIB	 ((size_t)1 << 20)
#define NOT_IMPL "<Error><Code>NotImplemented</Code></Error>"

static struct fx {
	struct env *env;
	struct server *server;
	struct store *store;
	unsigned int asked; /* requests before those that the test is about */
	struct err e;
} fx;

/* ---- fixture ------------------------------------------------------------------------------- */

static int open_url(const char *rest)
{
	static const struct backend_options defaults;

	return store_s3_open(fx.env, rest, &defaults, &fx.store, &fx.e);
}

/* place is like "bucket/prefix", more like "&style=path". */
static int open_at(const char *place, const char *more)
{
	char rest[1024];

	(void)snprintf(rest, sizeof(rest), "//%s?endpoint=%s%s", place, server_url(fx.server),
		       more);
	return open_url(rest);
}

/* A store without conditional put: one request. */
static void open_plain(const char *more)
{
	server_answer(fx.server, "501 Not Implemented", "", NOT_IMPL);
	ck_assert_msg(open_at("bucket/pool", more) == 0, "%s", fx.e.message);
	fx.asked = server_request_count(fx.server);
}

static void setup_bare(void)
{
	fx.env = env_posix();
	fx.server = server_start();
	ck_assert_int_eq(setenv("AWS_ACCESS_KEY_ID", ACCESS, 1), 0);
	ck_assert_int_eq(setenv("AWS_SECRET_ACCESS_KEY", SECRET, 1), 0);
	ck_assert_int_eq(unsetenv("AWS_SESSION_TOKEN"), 0);
	ck_assert_int_eq(unsetenv("AWS_PROFILE"), 0);
	ck_assert_int_eq(unsetenv("AWS_REGION"), 0);
	ck_assert_int_eq(unsetenv("AWS_DEFAULT_REGION"), 0);
	ck_assert_int_eq(unsetenv("AWS_SHARED_CREDENTIALS_FILE"), 0);
}

static void setup(void)
{
	setup_bare();
	open_plain("");
}

static void teardown(void)
{
	if (fx.store)
		fx.store->ops->close(fx.store);
	server_stop(fx.server);
}

static int put_bytes(const void *data, size_t len_bytes, unsigned int flags)
{
	struct backend_source source = { .data = data, .len_bytes = len_bytes };
	struct backend_put_result result;

	return fx.store->ops->put(fx.store, "a/name", &source, flags, &result, &fx.e);
}

static int put(void)
{
	return put_bytes("data", 4, 0);
}

static int get(uint64_t offset_bytes, void *dst, size_t len_bytes)
{
	return fx.store->ops->get(fx.store, "a/name", offset_bytes, dst, len_bytes, &fx.e);
}

static int head(struct backend_object *object)
{
	return fx.store->ops->head(fx.store, "a/name", object, &fx.e);
}

static int del(void)
{
	return fx.store->ops->del(fx.store, "a/name", &fx.e);
}

static void must_say(const char *words)
{
	ck_assert_msg(strstr(fx.e.message, words), "'%s' has no '%s'", fx.e.message, words);
}

/* Request i of those that the test is about began so. */
static void must_have_asked(unsigned int i, const char *line)
{
	const char *text = server_head(fx.server, fx.asked + i);

	ck_assert_msg(strncmp(text, line, strlen(line)) == 0, "'%s' is not '%s'", text, line);
}

static unsigned int asked(void)
{
	return server_request_count(fx.server) - fx.asked;
}

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
		unsigned int count = 1u + (cases[i].second ? 1u : 0u) + (wrote ? 1u : 0u);

		server_answer(fx.server, cases[i].first, "", "");
		if (cases[i].second)
			server_answer(fx.server, cases[i].second, "", "");
		if (wrote)
			server_answer(fx.server, "204 No Content", "", "");
		ck_assert_int_eq(open_at("bucket/pool", ""), 0);
		ck_assert_uint_eq(!!(fx.store->caps & BACKEND_CAP_PUT_IF_ABSENT), cases[i].works);
		ck_assert_uint_eq(asked(), count);
		must_have_asked(0, "PUT /bucket/pool/tmp/probe-");
		ck_assert_str_eq(server_header(fx.server, fx.asked, "If-None-Match"), "*");
		if (wrote)
			must_have_asked(count - 1, "DELETE /bucket/pool/tmp/probe-");
		fx.store->ops->close(fx.store);
		fx.store = NULL;
		fx.asked += count;
	}
}
END_TEST

START_TEST(a_probe_that_fails_is_no_answer_and_leaves_nothing)
{
	server_answer(fx.server, "200 OK", "", "");
	server_answer(fx.server, "500 Oops", "", "");
	server_answer(fx.server, "204 No Content", "", "");
	ck_assert_int_eq(open_at("bucket", ""), -EAGAIN);
	must_have_asked(2, "DELETE /bucket/tmp/probe-");
	ck_assert_ptr_null(fx.store);
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
		  "<Error><Code>SignatureDoesNotMatch</Code><StringToSign>" SECRET
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
		{ "301 Moved", "x-amz-bucket-region: <b>" SECRET "\r\n", "", -EINVAL, "another" },
		{ "400 Bad Request", "", "<html>", -EIO, "is this an S3 endpoint" },
		{ "507 Full", "", "", -ENOSPC, "full" },
		{ "403 Forbidden", "", "<Error><Code>QuotaExceeded</Code></Error>", -ENOSPC,
		  "quota" },
		{ "503 Slow Down", "", "<Error><Code>SlowDown</Code></Error>", -EAGAIN, "busy" },
		{ "500 Oops", "", "<Error><Code>" SECRET "</Code></Error>", -EAGAIN, "trouble" },
		{ "418 Teapot", "", "", -EAGAIN, "check the endpoint" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		server_answer(fx.server, cases[i].status, cases[i].headers, cases[i].body);
		ck_assert_int_eq(open_at("bucket/pool", ""), cases[i].result);
		must_say(cases[i].words);
		must_say("bucket");
		ck_assert_ptr_null(strstr(fx.e.message, "\n"));
		ck_assert_ptr_null(strstr(fx.e.message, SECRET));
		ck_assert_ptr_null(fx.store);
	}
}
END_TEST

START_TEST(a_store_that_is_not_there_is_told_with_its_host)
{
	server_stop(fx.server);
	fx.server = server_start();
	char rest[256];

	(void)snprintf(rest, sizeof(rest), "//bucket?endpoint=%s", server_url(fx.server));
	server_stop(fx.server);
	fx.server = NULL;
	ck_assert_int_eq(open_url(rest), -EAGAIN);
	must_say("127.0.0.1:");
	must_say("check host and port");
	/* Refused by the resolver itself: a label of 70 characters. */
	(void)snprintf(rest, sizeof(rest), "//bucket?endpoint=http://%070d.invalid", 0);
	ck_assert_int_eq(open_url(rest), -EHOSTUNREACH);
	must_say("no such host");
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
		"//bucket//x",
		"//bucket/../x",
		"//bucket/tmp",
		"//bucket/tmp/x",
		"//bucket/a%00b",
		"//bucket/a%0ab",
		"//bucket/a%2",
		"//bucket/caf%c3%a9",
		"//" ACCESS ":" SECRET "@bucket/pool",
		"//user@bucket",
		"//bucket/pool@" SECRET,
		"//bucket?secret=" SECRET,
		"//bucket?endpoint=ftp://x",
		"//bucket?endpoint=http://",
		"//bucket?endpoint=http://u:" SECRET "@x",
		"//bucket?endpoint=http://x/path",
		"//bucket?endpoint=http://x%0d%0aHost:y",
		"//bucket?endpoint=http://x&endpoint=http://y",
		"//bucket?region=",
		"//bucket?region=EU%20west",
		"//bucket?style=both",
		"//bucket?part_size=4MiB",
		"//bucket?part_size=5G",
		"//bucket?part_size=lots",
		"//bucket?" SECRET,
		"//bucket#fragment",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_assert_msg(open_url(bad[i]) == -EINVAL, "%s", bad[i]);
		ck_assert_msg(!strstr(fx.e.message, SECRET), "%s", fx.e.message);
		ck_assert_ptr_null(fx.store);
	}
	ck_assert_uint_eq(server_connection_count(fx.server), 0);
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
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct s3_config c;

		ck_assert_int_eq(s3_config_parse(cases[i].rest, &c, &fx.e), 0);
		ck_assert_str_eq(c.endpoint, cases[i].endpoint);
		ck_assert_str_eq(c.host, cases[i].host);
		ck_assert_str_eq(c.prefix, cases[i].prefix);
		ck_assert_str_eq(c.region, cases[i].region);
		s3_config_done(&c);
	}
}
END_TEST

START_TEST(virtual_hosts_have_the_bucket_in_their_name)
{
	char rest[256], host[64];

	(void)snprintf(host, sizeof(host), "bucket.localhost%s",
		       strrchr(server_url(fx.server), ':'));
	(void)snprintf(rest, sizeof(rest), "//bucket/p?style=virtual&endpoint=http://%s",
		       host + strlen("bucket."));
	server_answer(fx.server, "501 Not Implemented", "", NOT_IMPL);
	ck_assert_msg(open_url(rest) == 0, "%s", fx.e.message);
	must_have_asked(0, "PUT /p/tmp/probe-");
	ck_assert_str_eq(server_header(fx.server, 0, "Host"), host);
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
	return s3_keys_load(fx.env, &c, ret_keys, &fx.e);
}

static void must_load(const char *path, const char *profile, const char *access, const char *secret,
		      const char *token)
{
	struct s3_keys *keys = NULL;

	ck_assert_msg(load(path, profile, &keys) == 0, "%s", fx.e.message);
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
	must_load(NULL, NULL, ACCESS, SECRET, "");
	ck_assert_int_eq(setenv("AWS_SESSION_TOKEN", TOKEN, 1), 0);
	must_load(NULL, NULL, ACCESS, SECRET, TOKEN);
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
		{ "[default]\naws_access_key_id=A\naws_secret_access_key=" SECRET "\n", 0640,
		  -EACCES, "chmod 600" },
		{ "[default]\naws_access_key_id=A\naws_secret_access_key=" SECRET "\n", 0604,
		  -EACCES, "chmod 600" },
		{ "[other]\naws_access_key_id=A\naws_secret_access_key=" SECRET "\n", 0600, -ENOENT,
		  "no profile 'default'" },
		{ "[default]\naws_secret_access_key=" SECRET "\n", 0600, -EINVAL,
		  "needs aws_access_key_id" },
		{ "[default]\naws_secret_access_key " SECRET "\n", 0600, -EINVAL, "line 2" },
		{ "[default]\naws_access_key_id=A\naws_secret_access_key=" SECRET " x\n", 0600,
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
		must_say(cases[i].words);
		must_say(file);
		ck_assert_ptr_null(strstr(fx.e.message, SECRET));
	}
	ck_assert_int_eq(unlink(file), 0);
	ck_assert_int_eq(load(file, NULL, &keys), -ENOENT);
	ck_assert_int_eq(setenv("AWS_SECRET_ACCESS_KEY", SECRET "\n", 1), 0);
	ck_assert_int_eq(load(NULL, NULL, &keys), -EINVAL);
	ck_assert_ptr_null(strstr(fx.e.message, SECRET));
	ck_assert_int_eq(unsetenv("AWS_SECRET_ACCESS_KEY"), 0);
	ck_assert_int_eq(setenv("HOME", "/nonexistent", 1), 0);
	ck_assert_int_eq(load(NULL, NULL, &keys), -ENOENT);
	must_say("set AWS_ACCESS_KEY_ID");
	ck_assert_ptr_null(keys);
}
END_TEST

/* ---- signing ------------------------------------------------------------------------------- */

START_TEST(requests_are_signed_with_the_token_and_the_hash_of_the_body)
{
	char hash[SIGV4_HASH_BYTES];
	size_t body_bytes;
	const char *body, *signature;

	ck_assert_int_eq(setenv("AWS_SESSION_TOKEN", TOKEN, 1), 0);
	open_plain("&region=eu-1");
	server_answer(fx.server, "200 OK", "", "");
	ck_assert_int_eq(put(), 0);
	must_have_asked(0, "PUT /bucket/pool/a/name HTTP/1.1\r\n");
	ck_assert_str_eq(server_header(fx.server, 1, "x-amz-security-token"), TOKEN);
	body = server_body(fx.server, 1, &body_bytes);
	ck_assert_uint_eq(body_bytes, 4);
	sigv4_hash(body, body_bytes, hash);
	ck_assert_str_eq(server_header(fx.server, 1, "x-amz-content-sha256"), hash);
	signature = server_header(fx.server, 1, "Authorization");
	ck_assert_ptr_nonnull(strstr(signature, "/eu-1/s3/aws4_request, SignedHeaders=host;"
						"x-amz-content-sha256;x-amz-date;"
						"x-amz-security-token, Signature="));
}
END_TEST

static const char *const skewed = "<Error><Code>RequestTimeTooSkewed</Code></Error>";

START_TEST(the_clock_of_the_store_is_learned_once_and_kept)
{
	struct backend_object object;

	server_answer(fx.server, "403 Forbidden", "Date: Sun, 06 Nov 2033 08:49:37 GMT\r\n",
		      skewed);
	server_answer(fx.server, "200 OK", "", "");
	server_answer(fx.server, "200 OK", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "");
	ck_assert_int_eq(put(), 0);
	ck_assert_uint_eq(asked(), 2);
	ck_assert(strncmp(server_header(fx.server, 1, "x-amz-date"), "20331106T08", 11) != 0);
	ck_assert(strncmp(server_header(fx.server, 2, "x-amz-date"), "20331106T08", 11) == 0);
	ck_assert_int_eq(head(&object), 0);
	ck_assert(strncmp(server_header(fx.server, 3, "x-amz-date"), "20331106T08", 11) == 0);
	ck_assert_int_eq(object.modified_ns, 784111777 * S);
}
END_TEST

START_TEST(a_store_that_never_likes_the_time_is_not_asked_for_ever)
{
	server_answer(fx.server, "403 Forbidden", "Date: Sun, 06 Nov 2033 08:49:37 GMT\r\n",
		      skewed);
	server_answer(fx.server, "403 Forbidden", "Date: Sun, 06 Nov 2034 08:49:37 GMT\r\n",
		      skewed);
	ck_assert_int_eq(put(), -EAGAIN);
	must_say("set the clock");
	ck_assert_uint_eq(asked(), 2);
	server_answer(fx.server, "403 Forbidden", "Date: whenever\r\n", skewed);
	ck_assert_int_eq(put(), -EAGAIN);
	ck_assert_uint_eq(asked(), 3);
}
END_TEST

/* ---- put ----------------------------------------------------------------------------------- */

START_TEST(trouble_of_the_store_is_worth_another_try)
{
	static const char *const statuses[] = { "500 Oops",    "502 Bad Gateway", "503 Busy",
						"504 Timeout", "429 Too Many",	  "408 Timeout",
						"409 Conflict" };

	for (size_t i = 0; i < ARRAY_SIZE(statuses); i++) {
		server_answer(fx.server, statuses[i], "", "<html>no</html>");
		ck_assert_int_eq(put(), -EAGAIN);
	}
	server_reply(fx.server, SERVER_RESET, "");
	ck_assert_int_eq(put(), -EAGAIN);
	server_reply(fx.server, SERVER_CLOSE, "HTTP/1.1 200 OK\r\nContent-Le");
	ck_assert_int_eq(put(), -EAGAIN);
}
END_TEST

START_TEST(a_busy_store_says_for_how_long)
{
	uint64_t now_ns = clock_mono_ns();

	ck_assert_uint_eq(fx.store->busy_until_ns, 0);
	server_answer(fx.server, "503 Slow Down", "Retry-After: 100\r\n", "");
	ck_assert_int_eq(put(), -EAGAIN);
	ck_assert_uint_ge(fx.store->busy_until_ns, now_ns + 100 * (uint64_t)S);
	ck_assert_uint_le(fx.store->busy_until_ns, clock_mono_ns() + 100 * (uint64_t)S);
}
END_TEST

START_TEST(conditional_puts_end_as_the_store_says)
{
	static const struct {
		const char *status;
		int result;
	} cases[] = { { "200 OK", 0 },
		      { "412 Precondition Failed", -EEXIST },
		      { "409 Conflict", -EAGAIN },
		      { "501 Not Implemented", -EOPNOTSUPP } };

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		server_answer(fx.server, cases[i].status, "", "");
		ck_assert_int_eq(put_bytes("data", 4, BACKEND_PUT_IF_ABSENT), cases[i].result);
		ck_assert_str_eq(server_header(fx.server, fx.asked + i, "If-None-Match"), "*");
	}
	server_answer(fx.server, "412 Precondition Failed", "", "");
	ck_assert_int_ne(put(), -EEXIST); /* nobody asked for that */
	ck_assert_str_eq(server_header(fx.server, fx.asked + 4, "If-None-Match"), "");
}
END_TEST

static struct backend_source pattern_source(size_t len_bytes)
{
	uint8_t *data = malloc(len_bytes);

	ck_assert_ptr_nonnull(data);
	for (size_t i = 0; i < len_bytes; i++)
		data[i] = (uint8_t)(i * 2654435761u >> 15);
	return (struct backend_source){ .data = data,
					.len_bytes = len_bytes,
					.crc32c = crc32c(0, data, len_bytes),
					.has_crc = true };
}

static int put_source(const struct backend_source *source)
{
	struct backend_put_result result = { .shares_file = true };
	int r = fx.store->ops->put(fx.store, "big", source, 0, &result, &fx.e);

	ck_assert(r < 0 || !result.shares_file);
	return r;
}

START_TEST(a_source_without_its_checksum_is_not_even_offered)
{
	struct backend_source source = pattern_source(100000);

	source.crc32c++;
	ck_assert_int_eq(put_source(&source), -EBADMSG);
	ck_assert_uint_eq(asked(), 0);
}
END_TEST

static const char *const begun =
	"<?xml version=\"1.0\"?><InitiateMultipartUploadResult><Bucket>b</Bucket>"
	"<UploadId>id &amp; more</UploadId></InitiateMultipartUploadResult>";
static const char *const joined =
	"<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>";

START_TEST(large_objects_travel_in_parts)
{
	struct backend_source source = pattern_source(11 * MIB + 5);
	size_t at = 0;

	open_plain("&part_size=5MiB");
	server_answer(fx.server, "200 OK", "", begun);
	server_answer(fx.server, "200 OK", "ETag: \"one\"\r\n", "");
	server_answer(fx.server, "200 OK", "ETag: two\r\n", "");
	server_answer(fx.server, "200 OK", "ETag: \"three-3\"\r\n", "");
	server_answer(fx.server, "200 OK", "", joined);
	ck_assert_msg(put_source(&source) == 0, "%s", fx.e.message);
	ck_assert_uint_eq(asked(), 5);
	must_have_asked(0, "POST /bucket/pool/big?uploads= HTTP/1.1\r\n");
	for (unsigned int i = 1; i <= 3; i++) {
		char line[128], hash[SIGV4_HASH_BYTES];
		size_t body_bytes;
		const char *body = server_body(fx.server, fx.asked + i, &body_bytes);

		(void)snprintf(line, sizeof(line),
			       "PUT /bucket/pool/big?partNumber=%u&uploadId=id%%20%%26%%20more H",
			       i);
		must_have_asked(i, line);
		ck_assert(memcmp(body, (const char *)source.data + at, body_bytes) == 0);
		at += body_bytes;
		sigv4_hash(body, body_bytes, hash);
		ck_assert_str_eq(server_header(fx.server, fx.asked + i, "x-amz-content-sha256"),
				 hash);
	}
	ck_assert_uint_eq(at, source.len_bytes);
	must_have_asked(4, "POST /bucket/pool/big?uploadId=id%20%26%20more HTTP/1.1\r\n");
	ck_assert_str_eq(server_body(fx.server, fx.asked + 4, &at),
			 "<CompleteMultipartUpload>"
			 "<Part><PartNumber>1</PartNumber><ETag>&quot;one&quot;</ETag></Part>"
			 "<Part><PartNumber>2</PartNumber><ETag>&quot;two&quot;</ETag></Part>"
			 "<Part><PartNumber>3</PartNumber><ETag>&quot;three-3&quot;</ETag></Part>"
			 "</CompleteMultipartUpload>");
}
END_TEST

START_TEST(an_upload_that_fails_is_aborted)
{
	static const struct {
		const char *part_status, *part_headers, *join;
		bool good_crc;
		int result;
	} cases[] = {
		{ "500 Oops", "ETag: x\r\n", NULL, true, -EAGAIN },
		{ "200 OK", "", NULL, true, -EAGAIN },
		{ "200 OK", "ETag: a<b\r\n", NULL, true, -EAGAIN },
		{ "200 OK", "ETag: x\r\n", NULL, false, -EBADMSG },
		{ "200 OK", "ETag: x\r\n", "<Error><Code>InternalError</Code></Error>", true,
		  -EAGAIN },
		{ "200 OK", "ETag: x\r\n", "<Error><Code>AccessDenied</Code></Error>", true,
		  -EACCES },
		{ "200 OK", "ETag: x\r\n", "<Error/>", true, -EAGAIN },
		{ "200 OK", "ETag: x\r\n", "   ", true, -EAGAIN },
		{ "200 OK", "ETag: x\r\n", "<CompleteMultipartUploadResult><ETag>", true, -EAGAIN },
	};
	struct backend_source source = pattern_source(6 * MIB);

	open_plain("&part_size=5MiB");
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		bool both = strcmp(cases[i].part_headers, "ETag: x\r\n") == 0 &&
			    cases[i].part_status[0] == '2';

		server_answer(fx.server, "200 OK", "", begun);
		server_answer(fx.server, cases[i].part_status, cases[i].part_headers, "");
		if (both)
			server_answer(fx.server, "200 OK", "ETag: y\r\n", "");
		if (cases[i].join)
			server_answer(fx.server, "200 OK", "", cases[i].join);
		server_answer(fx.server, "204 No Content", "", "");
		if (!cases[i].good_crc)
			source.crc32c++;
		ck_assert_int_eq(put_source(&source), cases[i].result);
		if (!cases[i].good_crc)
			source.crc32c--;
		must_have_asked(asked() - 1, "DELETE /bucket/pool/big?uploadId=");
	}
	server_answer(fx.server, "200 OK", "", "<InitiateMultipartUploadResult/>");
	ck_assert_int_eq(put_source(&source), -EAGAIN); /* nothing to abort */
	must_have_asked(asked() - 1, "POST ");
}
END_TEST

/* ---- get ----------------------------------------------------------------------------------- */

START_TEST(only_the_range_that_was_asked_for_is_taken)
{
	static const struct {
		const char *status, *headers, *body;
		uint64_t offset;
		int result;
	} cases[] = {
		{ "206 Partial", "Content-Range: bytes 2-5/10\r\n", "2345", 2, 0 },
		{ "206 Partial", "Content-Range: bytes 2-5/*\r\n", "2345", 2, 0 },
		{ "206 Partial", "Content-Range: bytes 3-6/10\r\n", "3456", 2, -EAGAIN },
		{ "206 Partial", "Content-Range: bytes 2-50/100\r\n", "2345", 2, -EAGAIN },
		{ "206 Partial", "", "2345", 2, -EAGAIN },
		{ "206 Partial", "Content-Range: bytes 2-4/5\r\n", "234", 2, -EUCLEAN },
		{ "200 OK", "", "0123", 0, 0 },
		{ "200 OK", "", "0123", 2, -EAGAIN },
		{ "200 OK", "", "0123456789", 2, -EUCLEAN },
		{ "200 OK", "", "0123456789", 0, -EUCLEAN },
		{ "416 Range", "Content-Range: bytes */3\r\n", "", 2, -EUCLEAN },
		{ "204 No Content", "", "", 2, -EUCLEAN },
		{ "403 Forbidden", "", "<Error><Code>AccessDenied</Code></Error>", 2, -EACCES },
		{ "500 Oops", "", "", 2, -EAGAIN },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		char dst[5] = "....", range[32];

		server_answer(fx.server, cases[i].status, cases[i].headers, cases[i].body);
		ck_assert_msg(get(cases[i].offset, dst, 4) == cases[i].result, "%u: %s", i,
			      fx.e.message);
		if (cases[i].result == 0)
			ck_assert_str_eq(dst, cases[i].body);
		(void)snprintf(range, sizeof(range), "bytes=%d-%d", (int)cases[i].offset,
			       (int)cases[i].offset + 3);
		ck_assert_str_eq(server_header(fx.server, fx.asked + i, "Range"), range);
	}
}
END_TEST

START_TEST(a_cut_body_is_told_as_too_short)
{
	char dst[8];

	server_reply(fx.server, SERVER_CLOSE,
		     "HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-7/100\r\n"
		     "Content-Length: 8\r\n\r\n0123");
	ck_assert_int_eq(get(0, dst, 8), -EUCLEAN); /* which the router compares to the length */
}
END_TEST

/* ---- what is not there --------------------------------------------------------------------- */

static const char *const no_key = "<Error><Code>NoSuchKey</Code></Error>";
static const char *const no_bucket = "<Error><Code>NoSuchBucket</Code></Error>";

static void answer_head(const char *status)
{
	char text[128];

	(void)snprintf(text, sizeof(text), "HTTP/1.1 %s\r\nContent-Length: 1\r\n\r\n", status);
	server_reply(fx.server, SERVER_KEEP, text);
}

START_TEST(a_missing_bucket_is_not_a_missing_object)
{
	struct backend_object object;
	char byte;

	server_answer(fx.server, "404 Not Found", "", no_bucket);
	ck_assert_int_eq(get(0, &byte, 1), -EAGAIN);
	must_say("no such bucket");
	server_answer(fx.server, "404 Not Found", "", no_key);
	ck_assert_int_eq(del(), 0);
	server_answer(fx.server, "404 Not Found", "", no_bucket);
	ck_assert_int_eq(del(), -EAGAIN);
	ck_assert_uint_eq(asked(), 3);

	/* HEAD has no words. */
	answer_head("404 Not Found");
	answer_head("404 Not Found");
	ck_assert_int_eq(head(&object), -EAGAIN);
	must_have_asked(4, "HEAD /bucket HTTP/1.1\r\n");
	must_say("no such bucket");
	answer_head("404 Not Found");
	answer_head("503 Busy");
	ck_assert_int_eq(head(&object), -EAGAIN);
	server_answer(fx.server, "404 Not Found", "", "<html>a proxy</html>");
	answer_head("404 Not Found");
	ck_assert_int_eq(get(0, &byte, 1), -EAGAIN);
}
END_TEST

START_TEST(an_object_is_absent_when_the_store_says_so_three_times)
{
	struct backend_object object;
	char byte;

	server_answer(fx.server, "404 Not Found", "", no_key);
	answer_head("404 Not Found");
	answer_head("404 Not Found");
	ck_assert_int_eq(get(0, &byte, 1), -ENOENT);
	answer_head("404 Not Found");
	answer_head("200 OK"); /* of the bucket */
	answer_head("404 Not Found");
	answer_head("404 Not Found");
	ck_assert_int_eq(head(&object), -ENOENT);
	must_have_asked(5, "HEAD /bucket/pool/a/name HTTP/1.1\r\n");
	/* It was being replaced. */
	server_answer(fx.server, "404 Not Found", "", no_key);
	answer_head("404 Not Found");
	answer_head("200 OK");
	ck_assert_int_eq(get(0, &byte, 1), -EAGAIN);
	server_answer(fx.server, "404 Not Found", "", no_key);
	answer_head("500 Oops");
	ck_assert_int_eq(get(0, &byte, 1), -EAGAIN);
	ck_assert_uint_eq(asked(), 12);
}
END_TEST

START_TEST(a_head_without_a_length_is_no_answer)
{
	struct backend_object object;

	server_reply(fx.server, SERVER_CLOSE, "HTTP/1.1 200 OK\r\n\r\n");
	ck_assert_int_eq(head(&object), -EAGAIN);
	server_reply(fx.server, SERVER_CLOSE,
		     "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n");
	ck_assert_int_lt(head(&object), 0);
}
END_TEST

/* ---- list ---------------------------------------------------------------------------------- */

static char listed[1024];

static int note(void *arg, const char *name, const struct backend_object *object)
{
	size_t at = strlen(listed);

	(void)arg;
	(void)snprintf(listed + at, sizeof(listed) - at, "%s=%" PRIu64 "@%" PRId64 " ", name,
		       object->len_bytes, object->modified_ns / S);
	return 0;
}

static int list(const char *prefix, const char *after, unsigned int count_max)
{
	listed[0] = '\0';
	return fx.store->ops->list(fx.store, prefix, after, count_max, note, NULL, &fx.e);
}

#define PAGE(more, items)                                                                          \
	"<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3/\"><Name>b</Name>"             \
	"<EncodingType>url</EncodingType><IsTruncated>" more "</IsTruncated>" items                \
	"</ListBucketResult>"
#define BARE(items) "<ListBucketResult><IsTruncated>false</IsTruncated>" items "</ListBucketResult>"
#define ITEM(key)   "<Contents><Key>" key "</Key><Size>3</Size></Contents>"

START_TEST(pages_are_joined_by_the_last_key)
{
	server_answer(fx.server, "200 OK", "",
		      PAGE("true",
			   "<Contents><Owner><ID>x</ID></Owner><Size>7</Size>"
			   "<LastModified>2009-10-12T17:50:30.000Z</LastModified>"
			   "<Key>pool/a%20b+c%2B</Key></Contents>" ITEM("pool/tmp/probe-1")));
	server_answer(fx.server, "200 OK", "",
		      PAGE("false",
			   ITEM("pool/x//y") ITEM("pool/x/z") "<CommonPrefixes><Prefix>q"
							      "</Prefix></CommonPrefixes>"));
	ck_assert_msg(list("", NULL, 100) == 2, "%s", fx.e.message);
	ck_assert_str_eq(listed, "a b c+=7@1255369830 x/z=3@0 ");
	must_have_asked(0, "GET /bucket?encoding-type=url&list-type=2&max-keys=100&"
			   "prefix=pool%2F HTTP/1.1\r\n");
	must_have_asked(1, "GET /bucket?encoding-type=url&list-type=2&max-keys=99&"
			   "prefix=pool%2F&start-after=pool%2Ftmp%2Fprobe-1 HTTP/1.1\r\n");
}
END_TEST

START_TEST(a_list_asks_for_no_more_than_it_gives)
{
	server_answer(fx.server, "200 OK", "", PAGE("true", ITEM("pool/p1") ITEM("pool/p2")));
	ck_assert_int_eq(list("p", "p0", 1), 1);
	ck_assert_str_eq(listed, "p1=3@0 ");
	must_have_asked(0, "GET /bucket?encoding-type=url&list-type=2&max-keys=1&prefix=pool%2Fp&"
			   "start-after=pool%2Fp0 HTTP/1.1\r\n");
	ck_assert_int_eq(list("p", "p0", 0), 0);
	ck_assert_uint_eq(asked(), 1);
}
END_TEST

START_TEST(keys_that_were_not_escaped_are_taken_as_they_are)
{
	server_answer(
		fx.server, "200 OK", "",
		"<ListBucketResult>" ITEM(
			"pool/a+%20&lt;&#65;") "<IsTruncated>false</IsTruncated></ListBucketResult>");
	ck_assert_int_eq(list("", NULL, 10), 1);
	ck_assert_str_eq(listed, "a+%20<A=3@0 ");
}
END_TEST

START_TEST(lists_that_lead_astray_are_refused_before_anything_is_given)
{
	static const struct {
		const char *body;
		int result;
	} cases[] = {
		{ "", -EAGAIN },
		{ "garbage", -EAGAIN },
		{ "<html><body/></html>", -EAGAIN },
		{ "<Error><Code>InternalError</Code></Error>", -EAGAIN },
		{ "<ListBucketResult>" ITEM("pool/a") "</ListBucketResult>", -EAGAIN },
		{ "<ListBucketResult><IsTruncated>false</IsTruncated>" ITEM("pool/a"), -EAGAIN },
		{ "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>pool/a",
		  -EAGAIN },
		{ PAGE("false", ITEM("pool/b") ITEM("pool/a")), -EUCLEAN },
		{ PAGE("false", ITEM("pool/a") ITEM("pool/a")), -EUCLEAN },
		{ PAGE("false", ITEM("elsewhere/a")), -EUCLEAN },
		{ PAGE("true", ""), -EUCLEAN },
		{ PAGE("false", ITEM("pool/a%00b")), -EAGAIN },
		{ PAGE("false", ITEM("pool/a%zz")), -EAGAIN },
		{ PAGE("false", "<Contents><Key>pool/a</Key></Contents>"), -EAGAIN },
		{ PAGE("false", "<Contents><Size>1</Size></Contents>"), -EAGAIN },
		{ PAGE("false", "<Contents><Key>pool/a</Key><Key>pool/b</Key><Size>1</Size>"
				"</Contents>"),
		  -EAGAIN },
		{ PAGE("false", "<Contents><Key>pool/a</Key><Size>-1</Size></Contents>"), -EAGAIN },
		{ "<!DOCTYPE x [<!ENTITY a \"pool/a\">]>" BARE(ITEM("&a;")), -EAGAIN },
		{ "<!DOCTYPE x [<!ENTITY a \"pool/a\">]>" BARE(ITEM("pool/a")), -EAGAIN },
		{ "<!DOCTYPE x SYSTEM \"file:///etc/passwd\">" BARE(ITEM("pool/a")), -EAGAIN },
		{ PAGE("false", "<a><a><a><a><a><a><a><a/></a></a></a></a></a></a></a>"), -EAGAIN },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		server_answer(fx.server, "200 OK", "", cases[i].body);
		ck_assert_msg(list("", NULL, 10) == cases[i].result, "%zu: %s", i, fx.e.message);
		ck_assert_str_eq(listed, "");
	}
}
END_TEST

START_TEST(a_store_that_repeats_its_page_does_not_go_on_for_ever)
{
	for (unsigned int i = 0; i < 2; i++)
		server_answer(fx.server, "200 OK", "", PAGE("true", ITEM("pool/a")));
	ck_assert_int_eq(list("", NULL, 10), -EUCLEAN);
	ck_assert_uint_eq(asked(), 2);
}
END_TEST

START_TEST(more_keys_than_a_page_has_are_refused)
{
	struct buf text;

	buf_init(&text, 16 * MIB);
	ck_assert_int_eq(buf_printf(&text, "<ListBucketResult><IsTruncated>false</IsTruncated>"),
			 0);
	for (unsigned int i = 0; i < 1001; i++)
		ck_assert_int_eq(buf_printf(&text, ITEM("pool/%04u"), i), 0);
	ck_assert_int_eq(buf_printf(&text, "</ListBucketResult>"), 0);
	server_answer(fx.server, "200 OK", "", (char *)text.data);
	ck_assert_int_eq(list("", NULL, 100000), -EAGAIN);
	buf_clear(&text);
	ck_assert_int_eq(buf_printf(&text, "<ListBucketResult><Contents><Key>"), 0);
	while (text.len_bytes < 9 * MIB)
		ck_assert_int_eq(buf_append(&text, "aaaaaaaaaaaaaaaa", 16), 0);
	ck_assert_int_eq(buf_append(&text, "", 1), 0);
	server_answer(fx.server, "200 OK", "", (char *)text.data);
	ck_assert_int_eq(list("", NULL, 100000), -EFBIG);
	buf_done(&text);
}
END_TEST

/* ---- secrets ------------------------------------------------------------------------------- */

static bool file_holds(const char *path, const char *words)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = fopen(path, "r");
	bool found;

	ck_assert_ptr_nonnull(f);
	ck_assert(getdelim(&text, &size, '\0', f) > 0);
	(void)fclose(f);
	found = strstr(text, words) != NULL;
	free(text);
	return found;
}

START_TEST(no_secret_is_in_errors_or_log)
{
	static const char *const answers[] = {
		"HTTP/1.1 403 No\r\nContent-Length: 300\r\n\r\n" SECRET,
		"HTTP/1.1 500 " SECRET "\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 403 No\r\nDate: Sun, 06 Nov 2033 08:49:37 GMT\r\nContent-Length: 48\r\n"
		"\r\n<Error><Code>RequestTimeTooSkewed</Code></Error>",
		SECRET "\r\n\r\n",
		"HTTP/1.1 301 " SECRET "\r\nLocation: http://" SECRET "/\r\n\r\n",
	};
	char log[] = "log-XXXXXX";
	int fd = mkstemp(log);

	ck_assert_int_ge(fd, 0);
	(void)close(fd);
	ck_assert_int_eq(setenv("AWS_SESSION_TOKEN", TOKEN, 1), 0);
	open_plain("");
	ck_assert_int_eq(log_open(log, LOG_LEVEL_DEBUG), 0);
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		server_reply(fx.server, SERVER_CLOSE, answers[i]);
		server_reply(fx.server, SERVER_CLOSE, answers[i]);
		ck_assert_int_lt(put(), 0);
		ck_assert_ptr_null(strstr(fx.e.message, SECRET));
		ck_assert_ptr_null(strstr(fx.e.message, TOKEN));
		ck_assert_ptr_null(strstr(fx.e.message, "Signature="));
	}
	log_close();
	ck_assert(file_holds(log, "clocks differ"));
	ck_assert(!file_holds(log, SECRET));
	ck_assert(!file_holds(log, TOKEN));
	ck_assert_int_eq(unlink(log), 0);
}
END_TEST

/* ---- running ------------------------------------------------------------------------------- */

static void add_bare_tests(Suite *suite)
{
	TCase *tc = tcase_create("opening");

	tcase_add_checked_fixture(tc, setup_bare, teardown);
	tcase_add_test(tc, opening_finds_out_whether_put_if_absent_works);
	tcase_add_test(tc, a_probe_that_fails_is_no_answer_and_leaves_nothing);
	tcase_add_test(tc, opening_says_what_is_wrong_and_what_to_do);
	tcase_add_test(tc, a_store_that_is_not_there_is_told_with_its_host);
	tcase_add_test(tc, bad_urls_are_refused_without_showing_them);
	tcase_add_test(tc, urls_say_where_the_bucket_is);
	tcase_add_test(tc, virtual_hosts_have_the_bucket_in_their_name);
	tcase_add_test(tc, credentials_come_from_file_environment_or_home);
	tcase_add_test(tc, bad_credentials_are_refused_without_showing_them);
	tcase_add_test(tc, requests_are_signed_with_the_token_and_the_hash_of_the_body);
	tcase_add_test(tc, large_objects_travel_in_parts);
	tcase_add_test(tc, an_upload_that_fails_is_aborted);
	tcase_add_test(tc, no_secret_is_in_errors_or_log);
	suite_add_tcase(suite, tc);
}

static void add_tests(Suite *suite)
{
	TCase *tc = tcase_create("open");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, the_clock_of_the_store_is_learned_once_and_kept);
	tcase_add_test(tc, a_store_that_never_likes_the_time_is_not_asked_for_ever);
	tcase_add_test(tc, trouble_of_the_store_is_worth_another_try);
	tcase_add_test(tc, a_busy_store_says_for_how_long);
	tcase_add_test(tc, conditional_puts_end_as_the_store_says);
	tcase_add_test(tc, a_source_without_its_checksum_is_not_even_offered);
	tcase_add_test(tc, only_the_range_that_was_asked_for_is_taken);
	tcase_add_test(tc, a_cut_body_is_told_as_too_short);
	tcase_add_test(tc, a_missing_bucket_is_not_a_missing_object);
	tcase_add_test(tc, an_object_is_absent_when_the_store_says_so_three_times);
	tcase_add_test(tc, a_head_without_a_length_is_no_answer);
	tcase_add_test(tc, pages_are_joined_by_the_last_key);
	tcase_add_test(tc, a_list_asks_for_no_more_than_it_gives);
	tcase_add_test(tc, keys_that_were_not_escaped_are_taken_as_they_are);
	tcase_add_test(tc, lists_that_lead_astray_are_refused_before_anything_is_given);
	tcase_add_test(tc, a_store_that_repeats_its_page_does_not_go_on_for_ever);
	tcase_add_test(tc, more_keys_than_a_page_has_are_refused);
	suite_add_tcase(suite, tc);
}

int main(void)
{
	Suite *suite = suite_create("backend/s3");
	SRunner *runner;
	int failed;

	add_bare_tests(suite);
	add_tests(suite);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
