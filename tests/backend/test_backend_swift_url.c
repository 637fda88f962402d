/* URLs of swift: stores, and where their credentials come from. */
#include "backend/backend_swift.h"

#include <check.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRET "s3cr3t;pass word"

static struct fx {
	struct swift_config c;
	char path[PATH_MAX + 32], url[PATH_MAX + 256];
	struct err e;
} fx;

static void setup(void)
{
	for (size_t i = 0; i < SWIFT_VALUE_COUNT; i++)
		ck_assert_int_eq(unsetenv(swift_value_name((enum swift_value)i)), 0);
	ck_assert_ptr_nonnull(realpath(".", fx.path));
	(void)strncat(fx.path, "/credentials", sizeof(fx.path) - strlen(fx.path) - 1);
}

static void teardown(void)
{
	swift_config_done(&fx.c);
	(void)unlink(fx.path);
}

static void set(const char *name, const char *value)
{
	ck_assert_int_eq(setenv(name, value, 1), 0);
}

static void set_tempauth(void)
{
	set("ST_USER", "test:tester");
	set("ST_KEY", SECRET);
}

static int parse(const char *rest)
{
	swift_config_done(&fx.c);
	return swift_config_read(env_posix(), rest, &fx.c, &fx.e);
}

static void must_say(const char *word)
{
	ck_assert_msg(strstr(fx.e.message, word), "'%s' is not in: %s", word, fx.e.message);
	ck_assert_msg(!strstr(fx.e.message, "s3cr3t"), "a secret: %s", fx.e.message);
}

/* A file with credentials, and fx.url that names it. */
static void write_file(const char *text, mode_t mode)
{
	int fd = open(fx.path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	ck_assert_int_eq(fchmod(fd, mode), 0);
	ck_assert_int_eq(close(fd), 0);
	(void)snprintf(fx.url, sizeof(fx.url), "//c?credentials=%s&auth=http://h/auth/v1.0",
		       fx.path);
}

/* ---- URLs ---------------------------------------------------------------------------------- */

START_TEST(a_url_names_container_prefix_and_servers)
{
	set_tempauth();
	ck_assert_int_eq(parse("//con%20tainer/a/b//?auth=http://h:1/auth/v1.0/&ca_file=/ca%3F"
			       "&region=R&interface=internal&storage_url=https://s/v1/A/"),
			 0);
	ck_assert_str_eq(fx.c.container, "con tainer");
	ck_assert_str_eq(fx.c.prefix, "a/b/");
	ck_assert_str_eq(fx.c.auth_url, "http://h:1/auth/v1.0");
	ck_assert_str_eq(fx.c.storage_url, "https://s/v1/A");
	ck_assert_str_eq(fx.c.ca_file, "/ca?");
	ck_assert_str_eq(fx.c.value[SWIFT_OS_REGION_NAME], "R");
	ck_assert_str_eq(fx.c.value[SWIFT_OS_INTERFACE], "internal");
	ck_assert_str_eq(fx.c.value[SWIFT_ST_KEY], SECRET);
	ck_assert(!fx.c.keystone);
}
END_TEST

START_TEST(a_prefix_may_be_missing)
{
	static const char *const urls[] = { "//c?auth=http://h/auth/v1.0",
					    "//c/?auth=http://h/auth/v1.0" };

	set_tempauth();
	for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
		ck_assert_int_eq(parse(urls[i]), 0);
		ck_assert_str_eq(fx.c.prefix, "");
		ck_assert_ptr_null(fx.c.storage_url);
	}
}
END_TEST

START_TEST(bad_urls_are_refused_without_showing_what_may_be_a_secret)
{
	static const struct {
		const char *url, *word;
	} bad[] = {
		{ "", "container" },
		{ "c?auth=http://h/v1.0", "container" },
		{ "//?auth=http://h/v1.0", "container" },
		{ "//user:s3cr3t@c?auth=http://h/v1.0", "ST_KEY" },
		{ "//c%2Fd?auth=http://h/v1.0", "container" },
		{ "//.?auth=http://h/v1.0", "container" },
		{ "//..?auth=http://h/v1.0", "container" },
		{ "//c%0?auth=http://h/v1.0", "escape" },
		{ "//c%00?auth=http://h/v1.0", "escape" },
		{ "//c/a//b?auth=http://h/v1.0", "prefix" },
		{ "//c/../b?auth=http://h/v1.0", "prefix" },
		{ "//c/%0a?auth=http://h/v1.0", "prefix" },
		{ "//c?auth=http://h/v1.0&s3cr3t=1", "unknown" },
		{ "//c?auth=http://h/v1.0&s3cr3t", "unknown" },
		{ "//c?auth=http://h/v1.0&", NULL },
		{ "//c?auth=http://h/v1.0&auth=http://h/v1.0", "twice" },
		{ "//c?auth=http://u:s3cr3t@h/v1.0", "auth URL" },
		{ "//c?auth=ftp://h/v1.0", "auth URL" },
		{ "//c?auth=http:///v1.0", "auth URL" },
		{ "//c?auth=http://h/v1.0?key=s3cr3t", "auth URL" },
		{ "//c?auth=http://h/v1.0%0d%0aX-Y:%20z", "auth URL" },
		{ "//c?auth=http://h/caf%c3%a9/v1.0", "auth URL" },
		{ "//c?auth=http://h%7f/v1.0", "auth URL" },
		{ "//c?auth=http://h/%7bv1.0", "auth URL" },
		{ "//c?auth=http://h/v1.0%0", "escape" },
		{ "//c?auth", "unknown" },
		{ "//c?auth=http://h/v2.0", "/v3" },
		{ "//c?auth=http://h", "/v3" },
		{ "//c?auth=http://h/v1.0&storage_url=http://u:s3cr3t@h/", "storage_url" },
		{ "//c", "ST_AUTH" },
	};

	set_tempauth();
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		if (!bad[i].word) { /* an & at the end is no parameter */
			ck_assert_int_eq(parse(bad[i].url), 0);
			continue;
		}
		ck_assert_msg(parse(bad[i].url) == -EINVAL, "taken: %s", bad[i].url);
		must_say(bad[i].word);
	}
}
END_TEST

START_TEST(what_is_too_long_is_refused)
{
	char url[8192];

	set_tempauth();
	(void)snprintf(url, sizeof(url), "//%0257d?auth=http://h/v1.0", 0);
	ck_assert_int_eq(parse(url), -EINVAL);
	must_say("container");
	(void)snprintf(url, sizeof(url), "//c?auth=http://h/%05000d/v1.0", 0);
	ck_assert_int_eq(parse(url), -EINVAL);
	must_say("auth URL");
}
END_TEST

START_TEST(auth_servers_of_the_first_version_have_several_names)
{
	static const char *const urls[] = { "//c?auth=http://h/auth/v1.0", "//c?auth=http://h/1.0",
					    "//c?auth=http://h/v1", "//c?auth=http://h/auth" };

	set_tempauth();
	for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
		ck_assert_msg(parse(urls[i]) == 0, "%s: %s", urls[i], fx.e.message);
		ck_assert(!fx.c.keystone);
	}
}
END_TEST

START_TEST(a_prefix_leaves_room_for_the_longest_name)
{
	char url[1200];
	int n = snprintf(url, sizeof(url), "//c/");

	set_tempauth();
	for (unsigned int i = 0; i < 510; i++)
		url[n++] = i % 100 == 99 ? '/' : 'p';
	(void)snprintf(url + n, sizeof(url) - (size_t)n, "?auth=http://h/v1.0");
	ck_assert_int_eq(parse(url), 0);
	ck_assert_uint_eq(strlen(fx.c.prefix), 511);
	(void)snprintf(url + n, sizeof(url) - (size_t)n, "p?auth=http://h/v1.0");
	ck_assert_int_eq(parse(url), -EINVAL);
}
END_TEST

/* ---- credentials --------------------------------------------------------------------------- */

START_TEST(the_environment_names_the_auth_server_where_the_url_does_not)
{
	set_tempauth();
	set("OS_AUTH_URL", "https://keystone:5000/v3");
	set("ST_AUTH", "http://h/auth/v1.0");
	ck_assert_int_eq(parse("//c"), 0);
	ck_assert_str_eq(fx.c.auth_url, "http://h/auth/v1.0");
	ck_assert_int_eq(unsetenv("ST_AUTH"), 0);
	set("OS_PASSWORD", SECRET);
	set("OS_USERNAME", "u");
	set("OS_PROJECT_NAME", "p");
	ck_assert_int_eq(parse("//c"), 0);
	ck_assert(fx.c.keystone);
	ck_assert_str_eq(fx.c.auth_url, "https://keystone:5000/v3");
}
END_TEST

START_TEST(missing_credentials_are_named)
{
	static const char tempauth[] = "//c?auth=http://h/auth/v1.0",
			  keystone[] = "//c?auth=http://h/v3";

	ck_assert_int_eq(parse(tempauth), -EINVAL);
	must_say("ST_USER and ST_KEY");
	set("ST_USER", "u");
	ck_assert_int_eq(parse(tempauth), -EINVAL);
	set("ST_KEY", ""); /* as good as none */
	ck_assert_int_eq(parse(tempauth), -EINVAL);

	ck_assert_int_eq(parse(keystone), -EINVAL);
	must_say("OS_PASSWORD");
	set("OS_PASSWORD", SECRET);
	ck_assert_int_eq(parse(keystone), -EINVAL);
	must_say("OS_USERNAME");
	set("OS_USER_ID", "u");
	ck_assert_int_eq(parse(keystone), -EINVAL);
	must_say("OS_PROJECT_NAME");
	set("OS_PROJECT_ID", "p");
	ck_assert_int_eq(parse(keystone), 0);

	ck_assert_int_eq(unsetenv("OS_PASSWORD"), 0);
	ck_assert_int_eq(unsetenv("OS_USER_ID"), 0);
	set("OS_APPLICATION_CREDENTIAL_SECRET", SECRET);
	ck_assert_int_eq(parse(keystone), -EINVAL);
	must_say("OS_APPLICATION_CREDENTIAL_ID");
	set("OS_APPLICATION_CREDENTIAL_NAME", "n");
	ck_assert_int_eq(parse(keystone), -EINVAL);
	set("OS_USERNAME", "u");
	ck_assert_int_eq(parse(keystone), 0);
}
END_TEST

START_TEST(a_key_with_a_line_break_makes_no_header)
{
	set_tempauth();
	set("ST_KEY", "s3cr3t\r\nX-Evil: 1");
	ck_assert_int_eq(parse("//c?auth=http://h/auth/v1.0"), -EINVAL);
	must_say("ST_KEY");
	set("ST_KEY", "s3cr3t\x7f");
	ck_assert_int_eq(parse("//c?auth=http://h/auth/v1.0"), -EINVAL);
	must_say("ST_KEY");
}
END_TEST

START_TEST(a_file_is_read_as_it_stands)
{
	write_file("# a comment\n\n  ST_USER = test:tester \r\nST_KEY=  a = b ; # \"c\" \t\n"
		   "OS_REGION_NAME = from the file\n",
		   0600);
	set("ST_KEY", "of the environment");
	ck_assert_int_eq(parse(fx.url), 0);
	ck_assert_str_eq(fx.c.value[SWIFT_ST_USER], "test:tester");
	ck_assert_str_eq(fx.c.value[SWIFT_ST_KEY], "a = b ; # \"c\"");
	ck_assert_str_eq(fx.c.value[SWIFT_OS_REGION_NAME], "from the file");
	/* What the URL says comes first. */
	(void)strncat(fx.url, "&region=URL", sizeof(fx.url) - strlen(fx.url) - 1);
	ck_assert_int_eq(parse(fx.url), 0);
	ck_assert_str_eq(fx.c.value[SWIFT_OS_REGION_NAME], "URL");
	write_file("ST_USER = u\nST_KEY = k\nOS_INTERFACE = admin\nOS_REGION_NAME = \r\n", 0600);
	(void)strncat(fx.url, "&interface=internal", sizeof(fx.url) - strlen(fx.url) - 1);
	ck_assert_int_eq(parse(fx.url), 0);
	ck_assert_str_eq(fx.c.value[SWIFT_OS_INTERFACE], "internal");
	ck_assert_str_eq(fx.c.value[SWIFT_OS_REGION_NAME], "");
}
END_TEST

static struct env_ops failing_ops;
static struct env failing = { &failing_ops };

static int no_stat(UNUSED struct env *env, UNUSED struct env_file *f, UNUSED struct env_stat *ret)
{
	return -EIO;
}

static ssize_t no_pread(UNUSED struct env *env, UNUSED struct env_file *f, UNUSED void *buf,
			UNUSED size_t len, UNUSED uint64_t offset)
{
	return -EIO;
}

START_TEST(a_file_that_cannot_be_read_is_named)
{
	static const char *const words[] = { "examining '", "reading '" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		write_file("ST_USER = u\nST_KEY = s3cr3t\n", 0600);
		failing_ops = *env_posix()->ops;
		if (i == 0)
			failing_ops.stat = no_stat;
		else
			failing_ops.pread = no_pread;
		ck_assert_int_eq(swift_config_read(&failing, fx.url, &fx.c, &fx.e), -EIO);
		must_say(words[i]);
		must_say(fx.path);
	}
}
END_TEST

START_TEST(a_file_with_a_nul_byte_is_refused)
{
	int fd;

	write_file("ST_USER = u\nST_KEY = s3cr3t\n", 0600);
	fd = open(fx.path, O_WRONLY | O_CLOEXEC);
	ck_assert_int_eq(pwrite(fd, "", 1, 20), 1);
	ck_assert_int_eq(close(fd), 0);
	ck_assert_int_eq(parse(fx.url), -EINVAL);
	must_say("NUL");
}
END_TEST

START_TEST(a_file_that_others_can_read_is_refused)
{
	static const mode_t modes[] = { 0640, 0604, 0620, 0666, 0777 };

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		write_file("ST_USER = u\nST_KEY = s3cr3t\n", modes[i]);
		ck_assert_int_eq(parse(fx.url), -EACCES);
		must_say("chmod 600");
	}
}
END_TEST

START_TEST(a_file_with_mistakes_is_refused_with_the_line)
{
	static const char *const bad[] = { "\nST_KEY s3cr3t\n", "#\nST_KYE = s3cr3t\n",
					   "ST_KEY = s3cr3t\nST_KEY = s3cr3t\n", "\n= s3cr3t" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		write_file(bad[i], 0600);
		ck_assert_int_eq(parse(fx.url), -EINVAL);
		must_say(":2:");
	}
	write_file("ST_USER = u\n", 0600);
	set("ST_KEY", SECRET); /* a file is all there is */
	ck_assert_int_eq(parse(fx.url), -EINVAL);
	must_say("ST_USER and ST_KEY");
}
END_TEST

START_TEST(a_file_must_be_a_file)
{
	char *huge = malloc(20001);

	ck_assert_int_eq(parse("//c?auth=http://h/v1.0&credentials=relative"), -EINVAL);
	ck_assert_int_eq(parse("//c?auth=http://h/v1.0&credentials=/none/such"), -ENOENT);
	ck_assert_int_lt(parse("//c?auth=http://h/v1.0&credentials=/tmp"), 0);
	memset(huge, '\n', 20000);
	huge[20000] = '\0';
	write_file(huge, 0600);
	ck_assert_int_eq(parse(fx.url), -EFBIG);
	free(huge);
	ck_assert_int_eq(unlink(fx.path), 0);
	ck_assert_int_eq(symlink("/etc/hostname", fx.path), 0);
	ck_assert_int_lt(parse(fx.url), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("backend/swift_url");
	TCase *tc = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_url_names_container_prefix_and_servers);
	tcase_add_test(tc, a_prefix_may_be_missing);
	tcase_add_test(tc, bad_urls_are_refused_without_showing_what_may_be_a_secret);
	tcase_add_test(tc, what_is_too_long_is_refused);
	tcase_add_test(tc, auth_servers_of_the_first_version_have_several_names);
	tcase_add_test(tc, a_prefix_leaves_room_for_the_longest_name);
	tcase_add_test(tc, the_environment_names_the_auth_server_where_the_url_does_not);
	tcase_add_test(tc, missing_credentials_are_named);
	tcase_add_test(tc, a_key_with_a_line_break_makes_no_header);
	tcase_add_test(tc, a_file_is_read_as_it_stands);
	tcase_add_test(tc, a_file_that_cannot_be_read_is_named);
	tcase_add_test(tc, a_file_with_a_nul_byte_is_refused);
	tcase_add_test(tc, a_file_that_others_can_read_is_refused);
	tcase_add_test(tc, a_file_with_mistakes_is_refused_with_the_line);
	tcase_add_test(tc, a_file_must_be_a_file);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
