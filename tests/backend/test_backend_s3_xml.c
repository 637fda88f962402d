/* Answers of the s3: store as XML: what is read of them, and what they may not be. */
#include "backend/backend_s3.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
	unsigned int count, stop_at;
	char last_path[512], last_text[16384];
} seen;

static int see(void *arg, const char *path, const char *text)
{
	(void)arg;
	seen.count++;
	(void)snprintf(seen.last_path, sizeof(seen.last_path), "%s", path);
	(void)snprintf(seen.last_text, sizeof(seen.last_text), "%s", text);
	return seen.count == seen.stop_at ? 77 : 0;
}

static int parse(const char *xml, unsigned int stop_at)
{
	struct buf b;
	int r;

	memset(&seen, 0, sizeof(seen));
	seen.stop_at = stop_at;
	buf_init(&b, 65536);
	ck_assert_int_eq(buf_append(&b, xml, strlen(xml)), 0);
	r = s3_xml_parse(&b, see, NULL);
	buf_done(&b);
	return r;
}

START_TEST(elements_come_with_their_path_and_text)
{
	ck_assert_int_eq(parse("<A x='1'>t<B>a&amp;b</B><C/></A>", 0), 0);
	ck_assert_uint_eq(seen.count, 3);
	ck_assert_str_eq(seen.last_path, "A");
	ck_assert_int_eq(parse("<A>t<B>a&amp;b</B></A>", 1), 77);
	ck_assert_str_eq(seen.last_path, "A/B");
	ck_assert_str_eq(seen.last_text, "a&b");
}
END_TEST

/* Whoever has seen enough sees no more, whatever comes behind. */
START_TEST(it_ends_when_told)
{
	static const char *const rest[] = { "", "text", "<C/>", "<C>text</C></A>", "<", "]]>" };
	char xml[256];

	for (size_t i = 0; i < ARRAY_SIZE(rest); i++) {
		(void)snprintf(xml, sizeof(xml), "<A><B/>%s", rest[i]);
		ck_assert_int_eq(parse(xml, 1), 77);
		ck_assert_uint_eq(seen.count, 1);
	}
}
END_TEST

START_TEST(what_is_too_deep_or_too_long_is_refused)
{
	char xml[20000];

	ck_assert_int_eq(parse("<a><a><a><a><a><a><a><a></a></a></a></a></a></a></a></a>", 0), 0);
	ck_assert_int_eq(parse("<a><a><a><a><a><a><a><a><a/></a></a></a></a></a></a></a></a>", 0),
			 -EBADMSG);
	/* A path of 256 bytes, and one more. */
	(void)snprintf(xml, sizeof(xml), "<A><B%0253d/></A>", 0);
	ck_assert_int_eq(parse(xml, 1), 77);
	ck_assert_uint_eq(strlen(seen.last_path), 256);
	(void)snprintf(xml, sizeof(xml), "<A><B%0254d/></A>", 0);
	ck_assert_int_eq(parse(xml, 0), -EBADMSG);
	ck_assert_uint_eq(seen.count, 0);
	/* A text of 8192 bytes, and one more. */
	(void)snprintf(xml, sizeof(xml), "<A>%08192d</A>", 0);
	ck_assert_int_eq(parse(xml, 1), 77);
	ck_assert_uint_eq(strlen(seen.last_text), 8192);
	(void)snprintf(xml, sizeof(xml), "<A>%08193d&amp;<B>x</B></A>", 0);
	ck_assert_int_eq(parse(xml, 0), -EBADMSG);
	ck_assert_uint_eq(seen.count, 0);
}
END_TEST

START_TEST(what_is_no_xml_is_refused)
{
	static const char *const bad[] = { "",	      "<",	  "<A>",	   "text", "{}",
					   "<A></B>", "<A/><B/>", "<A>&nbsp;</A>", "\xff" };
	static uint8_t few[8];
	struct buf huge = { .data = few, .len_bytes = (size_t)INT32_MAX + 1 };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_msg(parse(bad[i], 0) == -EBADMSG, "taken: %s", bad[i]);
	ck_assert_int_eq(parse("<!DOCTYPE A [<!ENTITY e 'x'>]><A>&e;</A>", 0), -EBADMSG);
	ck_assert_uint_eq(seen.count, 0);
	/* Not looked at: it has more bytes than the parser counts. */
	ck_assert_int_eq(s3_xml_parse(&huge, see, NULL), -EBADMSG);
}
END_TEST

START_TEST(of_an_error_only_words_are_taken)
{
	static const struct {
		const char *code, *want;
	} cases[] = {
		{ "NoSuchKey", "NoSuchKey" },
		{ "No.Such-Key9", "No.Such-Key9" },
		{ "two words", "" },
		{ "line\nbreak", "" },
		{ "x&lt;b", "" },
	};
	char xml[1024];
	struct s3_error error;
	struct buf b;

	for (size_t i = 0; i <= ARRAY_SIZE(cases); i++) {
		if (i < ARRAY_SIZE(cases)) /* the last one: longer than any code */
			(void)snprintf(xml, sizeof(xml), "<Error><Code>%s</Code></Error>",
				       cases[i].code);
		else
			(void)snprintf(xml, sizeof(xml), "<Error><Code>%0500d</Code></Error>", 0);
		buf_init(&b, sizeof(xml));
		ck_assert_int_eq(buf_append(&b, xml, strlen(xml)), 0);
		s3_xml_error(&b, &error);
		ck_assert_str_eq(error.code, i < ARRAY_SIZE(cases) ? cases[i].want : "");
		buf_done(&b);
	}
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("backend/s3_xml");
	TCase *tc = tcase_create("xml");
	SRunner *runner;
	int failed;

	tcase_add_test(tc, elements_come_with_their_path_and_text);
	tcase_add_test(tc, it_ends_when_told);
	tcase_add_test(tc, what_is_too_deep_or_too_long_is_refused);
	tcase_add_test(tc, what_is_no_xml_is_refused);
	tcase_add_test(tc, of_an_error_only_words_are_taken);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
