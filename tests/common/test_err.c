#include "common/err.h"

#include "common/base.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

START_TEST(set_records_code_and_message_and_returns_the_code)
{
	struct err e = { 0 };

	ck_assert_int_eq(err_set(&e, -ENOSPC, "writing '%s' at %d", "a", 7), -ENOSPC);
	ck_assert_int_eq(e.code, -ENOSPC);
	ck_assert_str_eq(e.message, "writing 'a' at 7");
}
END_TEST

START_TEST(without_a_place_for_it_only_the_code_travels)
{
	ck_assert_int_eq(err_set(NULL, -EIO, "x"), -EIO);
	ck_assert_int_eq(err_wrap(NULL, -EIO, "x"), -EIO);
	ck_assert_int_eq(err_because(NULL, -EIO, "x"), -EIO);
}
END_TEST

START_TEST(a_cause_is_the_name_of_the_code_whatever_was_said_before)
{
	struct err e = { 0 };

	(void)err_set(&e, -EIO, "of an earlier try");
	ck_assert_int_eq(err_because(&e, -ENOSPC, "writing '%s'", "a"), -ENOSPC);
	ck_assert_int_eq(e.code, -ENOSPC);
	ck_assert_str_eq(e.message, "writing 'a': No space left on device");
}
END_TEST

START_TEST(wrap_puts_what_was_done_before_the_cause)
{
	struct err e = { 0 };

	(void)err_set(&e, -EIO, "disk gone");
	ck_assert_int_eq(err_wrap(&e, -EAGAIN, "reading %s", "sco"), -EAGAIN);
	ck_assert_int_eq(e.code, -EAGAIN);
	ck_assert_str_eq(e.message, "reading sco: disk gone");
}
END_TEST

START_TEST(wrap_of_a_wordless_error_names_its_code)
{
	struct err e = { 0 };

	(void)err_wrap(&e, -ENOSPC, "writing");
	ck_assert_str_eq(e.message, "writing: No space left on device");
}
END_TEST

START_TEST(long_messages_are_cut_and_keep_their_beginning)
{
	struct err e = { 0 };
	char text[1000];

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	(void)err_set(&e, -EIO, "%s", text);
	ck_assert_uint_eq(strlen(e.message), ERR_MESSAGE_BYTES - 1);
	(void)err_wrap(&e, -EIO, "front");
	ck_assert_uint_eq(strlen(e.message), ERR_MESSAGE_BYTES - 1);
	ck_assert(strncmp(e.message, "front: xxx", 10) == 0);
}
END_TEST

START_TEST(message_may_be_made_from_the_old_message)
{
	struct err e = { 0 };

	(void)err_set(&e, -EIO, "cause");
	(void)err_set(&e, -EIO, "[%s] [%s]", e.message, e.message);
	ck_assert_str_eq(e.message, "[cause] [cause]");
	(void)err_wrap(&e, -EIO, "<%s>", e.message);
	ck_assert_str_eq(e.message, "<[cause] [cause]>: [cause] [cause]");
}
END_TEST

START_TEST(only_passing_troubles_are_retryable)
{
	static const int yes[] = { -EAGAIN, -ETIMEDOUT, -EINTR, -EBUSY };
	static const int no[] = { 0, -EIO, -ENOSPC, -EBADMSG, -ESTALE, -EEXIST, EAGAIN };

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
		ck_assert(err_is_retryable(yes[i]));
	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		ck_assert(!err_is_retryable(no[i]));
}
END_TEST

START_TEST(every_code_has_a_name)
{
	ck_assert_str_eq(err_name(-EBADMSG), "checksum is wrong");
	ck_assert_str_eq(err_name(-EUCLEAN), "structure is damaged");
	ck_assert_str_eq(err_name(-ENOENT), "No such file or directory");
	ck_assert_str_eq(err_name(0), "success");
	ck_assert_str_eq(err_name(-99999), "unknown error");
	ck_assert_str_eq(err_name(7), "unknown error");
	ck_assert_str_eq(err_name(INT32_MIN), "unknown error");
}
END_TEST

START_TEST(failed_assertion_ends_the_process)
{
	ASSERT(1 + 1 == 3);
}
END_TEST

START_TEST(holding_assertion_evaluates_once_and_goes_on)
{
	int n = 0;

	ASSERT(++n == 1);
	ck_assert_int_eq(n, 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("common/err");
	TCase *t = tcase_create("err");
	SRunner *r;
	int failed;

	tcase_add_test(t, set_records_code_and_message_and_returns_the_code);
	tcase_add_test(t, without_a_place_for_it_only_the_code_travels);
	tcase_add_test(t, a_cause_is_the_name_of_the_code_whatever_was_said_before);
	tcase_add_test(t, wrap_puts_what_was_done_before_the_cause);
	tcase_add_test(t, wrap_of_a_wordless_error_names_its_code);
	tcase_add_test(t, long_messages_are_cut_and_keep_their_beginning);
	tcase_add_test(t, message_may_be_made_from_the_old_message);
	tcase_add_test(t, only_passing_troubles_are_retryable);
	tcase_add_test(t, every_code_has_a_name);
	tcase_add_test(t, holding_assertion_evaluates_once_and_goes_on);
	suite_add_tcase(s, t);

	r = srunner_create(s);
	if (srunner_fork_status(r) == CK_FORK) {
		TCase *death = tcase_create("death");

		tcase_add_test_raise_signal(death, failed_assertion_ends_the_process, SIGABRT);
		suite_add_tcase(s, death);
	}
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
