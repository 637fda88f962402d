#include "tests/backend/support_s3.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct s3_test s3;

int s3_open_url(const char *rest)
{
	static const struct backend_options defaults;

	return store_s3_open(s3.env, rest, &defaults, &s3.store, &s3.e);
}

int s3_open_at(const char *place, const char *more)
{
	char rest[1024];

	(void)snprintf(rest, sizeof(rest), "//%s?endpoint=%s%s", place, server_url(s3.server),
		       more);
	return s3_open_url(rest);
}

void s3_must_open(const char *more)
{
	server_answer(s3.server, "200 OK", "", S3_LISTING);
	server_answer(s3.server, "501 Not Implemented", "", S3_NOT_IMPL);
	ck_assert_msg(s3_open_at("bucket/pool", more) == 0, "%s", s3.e.message);
	s3.asked = server_request_count(s3.server);
}

void s3_setup_bare(void)
{
	s3.env = env_posix();
	s3.server = server_start();
	ck_assert_int_eq(setenv("AWS_ACCESS_KEY_ID", S3_ACCESS, 1), 0);
	ck_assert_int_eq(setenv("AWS_SECRET_ACCESS_KEY", S3_SECRET, 1), 0);
	ck_assert_int_eq(unsetenv("AWS_SESSION_TOKEN"), 0);
	ck_assert_int_eq(unsetenv("AWS_PROFILE"), 0);
	ck_assert_int_eq(unsetenv("AWS_REGION"), 0);
	ck_assert_int_eq(unsetenv("AWS_DEFAULT_REGION"), 0);
	ck_assert_int_eq(unsetenv("AWS_SHARED_CREDENTIALS_FILE"), 0);
}

void s3_setup(void)
{
	s3_setup_bare();
	s3_must_open("");
}

void s3_teardown(void)
{
	if (s3.store)
		s3.store->ops->close(s3.store);
	server_stop(s3.server);
}

void s3_must_say(const char *words)
{
	ck_assert_msg(strstr(s3.e.message, words), "'%s' has no '%s'", s3.e.message, words);
}

unsigned int s3_asked(void)
{
	return server_request_count(s3.server) - s3.asked;
}

void s3_must_have_asked(unsigned int i, const char *line)
{
	const char *text = server_head(s3.server, s3.asked + i);

	ck_assert_msg(strncmp(text, line, strlen(line)) == 0, "'%s' is not '%s'", text, line);
}
