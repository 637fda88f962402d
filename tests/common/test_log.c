#include "common/log.h"

#include "common/thread.h"

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Only the clock of a scheduler: what the log asks for the time. */
static uint64_t now_ns = 1000000000000;

static uint64_t fake_now_mono_ns(UNUSED struct sched *s)
{
	return now_ns;
}

static struct sched fake_clock = { .now_mono_ns = fake_now_mono_ns };

static char dir[] = "log-XXXXXX";
static char path[64];
static char text[200000];

static void setup(void)
{
	now_ns += 10 * LOG_SITE_WINDOW_NS; /* what earlier tests said is long ago */
	sched_hook = &fake_clock;
	memcpy(dir, "log-XXXXXX", sizeof(dir));
	ck_assert_ptr_nonnull(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/log", dir);
	ck_assert_int_eq(log_open(path, LOG_LEVEL_INFO), 0);
}

static void teardown(void)
{
	log_close();
	(void)unlink(path);
	(void)rmdir(dir);
	sched_hook = NULL;
}

/* The whole file in text. */
static void read_log(void)
{
	FILE *f = fopen(path, "re");
	size_t n;

	ck_assert_ptr_nonnull(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	text[n] = '\0';
	(void)fclose(f);
}

static unsigned int count_of(const char *needle)
{
	unsigned int n = 0;

	read_log();
	for (const char *p = text; (p = strstr(p, needle)) != NULL; p++)
		n++;
	return n;
}

/* One call site. */
static void say(unsigned int i)
{
	log_warning("test: said: i=%u", i);
}

START_TEST(line_has_time_level_and_message)
{
	unsigned int year, month, day, hour, minute, second, ms;
	int end = 0;

	log_error("volume: flush failed: container=%d: %s", 812, "No space left on device");
	read_log();
	ck_assert_int_eq(sscanf(text, "%4u-%2u-%2uT%2u:%2u:%2u.%3uZ %n", &year, &month, &day, &hour,
				&minute, &second, &ms, &end),
			 7);
	ck_assert_int_eq(end, 25);
	ck_assert_uint_ge(year, 2024);
	ck_assert_str_eq(text + end,
			 "error volume: flush failed: container=812: No space left on device\n");
}
END_TEST

START_TEST(levels_above_the_limit_are_silent_and_can_change)
{
	log_debug("test: quiet");
	ck_assert_uint_eq(count_of("quiet"), 0);
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("test: loud");
	ck_assert_uint_eq(count_of(" debug test: loud\n"), 1);
	log_set_level(LOG_LEVEL_ERROR);
	log_warning("test: hushed");
	log_info("test: hushed");
	log_error("test: heard");
	ck_assert_uint_eq(count_of("hushed"), 0);
	ck_assert_uint_eq(count_of(" error test: heard\n"), 1);
}
END_TEST

START_TEST(arguments_of_silent_lines_are_not_evaluated)
{
	int evaluated = 0;

	log_debug("test: n=%d", ++evaluated);
	ck_assert_int_eq(evaluated, 0);
}
END_TEST

START_TEST(control_characters_cannot_forge_a_line)
{
	log_info("test: name='%s'", "a\nb\tc\x1b[31m\x7f\\d\re");
	read_log();
	ck_assert_ptr_nonnull(strstr(text, "name='a\\nb\\tc\\x1b[31m\\x7f\\\\d\\x0de'\n"));
	ck_assert_uint_eq(count_of("\n"), 1);
}
END_TEST

START_TEST(utf8_stays_as_it_is)
{
	log_info("test: name='%s'", "gr\xc3\xbc\xc3\x9f");
	ck_assert_uint_eq(count_of("name='gr\xc3\xbc\xc3\x9f'"), 1);
}
END_TEST

START_TEST(long_lines_are_cut_and_say_so)
{
	static char huge[5000];

	memset(huge, 'x', sizeof(huge) - 1);
	log_info("test: %s", huge);
	read_log();
	ck_assert_uint_eq(strlen(text), LOG_LINE_BYTES_MAX);
	ck_assert_ptr_nonnull(strstr(text, "xxx...\n"));

	/* Escapes grow; the line must not. */
	memset(huge, '\n', sizeof(huge) - 1);
	log_info("test: %s", huge);
	read_log();
	ck_assert_uint_le(strlen(text), 2 * LOG_LINE_BYTES_MAX);
	ck_assert_uint_eq(count_of("\n"), 2);
	ck_assert_ptr_nonnull(strstr(text, "\\n...\n"));
}
END_TEST

START_TEST(a_call_site_gets_its_lines_and_no_more)
{
	for (unsigned int i = 0; i < LOG_SITE_LINES_MAX; i++)
		say(i);
	ck_assert_uint_eq(count_of("said"), LOG_SITE_LINES_MAX);
	say(0);
	say(0);
	ck_assert_uint_eq(count_of("said"), LOG_SITE_LINES_MAX);
}
END_TEST

START_TEST(one_noisy_site_does_not_silence_another)
{
	for (unsigned int i = 0; i < 100; i++)
		say(i);
	log_info("test: other");
	ck_assert_uint_eq(count_of("other"), 1);
}
END_TEST

START_TEST(what_was_left_out_is_told_once_with_the_next_line_after_the_window)
{
	for (unsigned int i = 0; i < LOG_SITE_LINES_MAX + 7; i++)
		say(i);
	now_ns += LOG_SITE_WINDOW_NS - 1;
	log_info("test: too early");
	ck_assert_uint_eq(count_of("left out"), 0);
	now_ns += 1;
	log_info("test: late enough");
	ck_assert_uint_eq(count_of("left out: site=common/test_log.c:"), 1);
	ck_assert_uint_eq(count_of(" warning log: "), 1);
	ck_assert_uint_eq(count_of("count=7\n"), 1);
	log_info("test: later still");
	ck_assert_uint_eq(count_of("left out"), 1);
}
END_TEST

START_TEST(a_new_window_brings_new_lines_and_a_new_count)
{
	for (unsigned int i = 0; i < LOG_SITE_LINES_MAX + 3; i++)
		say(i);
	now_ns += LOG_SITE_WINDOW_NS;
	for (unsigned int i = 0; i < LOG_SITE_LINES_MAX + 5; i++)
		say(i);
	ck_assert_uint_eq(count_of("said"), 2 * LOG_SITE_LINES_MAX);
	ck_assert_uint_eq(count_of("count=3\n"), 1);
	now_ns += LOG_SITE_WINDOW_NS;
	log_info("test: end");
	ck_assert_uint_eq(count_of("count=5\n"), 1);
}
END_TEST

START_TEST(clock_that_went_back_silences_nobody)
{
	for (unsigned int i = 0; i < LOG_SITE_LINES_MAX + 4; i++)
		say(i);
	now_ns -= 1;
	say(0);
	ck_assert_uint_eq(count_of("said"), LOG_SITE_LINES_MAX + 1);
	ck_assert_uint_eq(count_of("count=4\n"), 1);
}
END_TEST

START_TEST(close_tells_what_is_still_untold)
{
	for (unsigned int i = 0; i < LOG_SITE_LINES_MAX + 9; i++)
		say(i);
	log_close();
	ck_assert_uint_eq(count_of("count=9\n"), 1);
}
END_TEST

/* --- trouble ------------------------------------------------------------------------------------ */

#define SECOND_NS UINT64_C(1000000000)

static void fail_for(struct log_trouble *t, unsigned int seconds)
{
	for (unsigned int i = 0; i < 20 * seconds; i++) {
		log_trouble(t, "test: it failed, trying again", "no space");
		now_ns += SECOND_NS / 20;
	}
}

START_TEST(trouble_is_told_when_it_begins_once_a_minute_and_when_it_is_over)
{
	struct log_trouble t = { 0 };

	log_trouble_over(&t, "test: it failed, trying again");
	ck_assert_uint_eq(count_of("test:"), 0);
	fail_for(&t, 50);
	ck_assert_uint_eq(count_of("test:"), 1);
	ck_assert_uint_eq(count_of(" warning test: it failed, trying again: no space\n"), 1);
	fail_for(&t, 130);
	ck_assert_uint_eq(count_of("test:"), 3);
	ck_assert_uint_eq(count_of(" warning test: it failed, trying again: still: failed=1201 "
				   "for_s=60: no space\n"),
			  1);
	log_trouble_over(&t, "test: it failed, trying again");
	log_trouble_over(&t, "test: it failed, trying again");
	ck_assert_uint_eq(count_of("test:"), 4);
	ck_assert_uint_eq(count_of(" info test: it failed, trying again: over: failed=3600 "
				   "for_s=180\n"),
			  1);
}
END_TEST

START_TEST(trouble_that_comes_and_goes_is_told_once_a_minute)
{
	struct log_trouble t = { 0 };

	for (unsigned int i = 0; i < 150; i++) { /* 300 s */
		fail_for(&t, 1);
		log_trouble_over(&t, "test: it failed, trying again");
		now_ns += SECOND_NS;
	}
	ck_assert_uint_eq(count_of("trying again: no space"), 5);
	ck_assert_uint_eq(count_of("trying again: over"), 5);
	ck_assert_uint_eq(count_of("test:"), 10);
}
END_TEST

START_TEST(reopening_appends)
{
	log_info("test: first");
	ck_assert_int_eq(log_open(path, LOG_LEVEL_INFO), 0);
	log_info("test: second");
	ck_assert_uint_eq(count_of("first"), 1);
	ck_assert_uint_eq(count_of("second"), 1);
}
END_TEST

START_TEST(a_file_that_cannot_be_opened_leaves_the_old_target)
{
	char link_path[80];

	ck_assert_int_eq(log_open("no/such/dir/log", LOG_LEVEL_ERROR), -ENOENT);
	(void)snprintf(link_path, sizeof(link_path), "%s/link", dir);
	ck_assert_int_eq(symlink("log", link_path), 0);
	ck_assert_int_eq(log_open(link_path, LOG_LEVEL_ERROR), -ELOOP);
	(void)unlink(link_path);
	log_info("test: still here");
	ck_assert_uint_eq(count_of("still here"), 1);
}
END_TEST

START_TEST(a_new_file_is_private)
{
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 077, 0);
}
END_TEST

START_TEST(last_words_come_out_without_the_lock)
{
	log_crash("test: last words");
	ck_assert_uint_eq(count_of(" error test: last words\n"), 1);
}
END_TEST

#define TALKERS 4
#define TALKS	500

static void talk(UNUSED void *arg)
{
	for (unsigned int i = 0; i < TALKS; i++) {
		say(i);
		log_info("test: talk: i=%u", i);
	}
}

START_TEST(lines_of_many_threads_stay_whole_and_are_all_accounted_for)
{
	struct thread *t[TALKERS];
	unsigned int lines;

	sched_hook = NULL; /* real threads; their minute of work is far below the window */
	for (int i = 0; i < TALKERS; i++)
		ck_assert_int_eq(thread_start("talker", talk, NULL, &t[i]), 0);
	for (int i = 0; i < TALKERS; i++)
		thread_join(t[i]);
	log_close();
	lines = count_of("\n");
	ck_assert_uint_eq(count_of("Z warning test: said"), LOG_SITE_LINES_MAX);
	ck_assert_uint_eq(count_of("Z info test: talk"), LOG_SITE_LINES_MAX);
	ck_assert_uint_eq(count_of("count=1980\n"), 2);
	ck_assert_uint_eq(lines, 2 * LOG_SITE_LINES_MAX + 2);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("common/log");
	TCase *t = tcase_create("log");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, line_has_time_level_and_message);
	tcase_add_test(t, levels_above_the_limit_are_silent_and_can_change);
	tcase_add_test(t, arguments_of_silent_lines_are_not_evaluated);
	tcase_add_test(t, control_characters_cannot_forge_a_line);
	tcase_add_test(t, utf8_stays_as_it_is);
	tcase_add_test(t, long_lines_are_cut_and_say_so);
	tcase_add_test(t, a_call_site_gets_its_lines_and_no_more);
	tcase_add_test(t, one_noisy_site_does_not_silence_another);
	tcase_add_test(t, what_was_left_out_is_told_once_with_the_next_line_after_the_window);
	tcase_add_test(t, a_new_window_brings_new_lines_and_a_new_count);
	tcase_add_test(t, clock_that_went_back_silences_nobody);
	tcase_add_test(t, close_tells_what_is_still_untold);
	tcase_add_test(t, trouble_is_told_when_it_begins_once_a_minute_and_when_it_is_over);
	tcase_add_test(t, trouble_that_comes_and_goes_is_told_once_a_minute);
	tcase_add_test(t, reopening_appends);
	tcase_add_test(t, a_file_that_cannot_be_opened_leaves_the_old_target);
	tcase_add_test(t, a_new_file_is_private);
	tcase_add_test(t, last_words_come_out_without_the_lock);
	tcase_add_test(t, lines_of_many_threads_stay_whole_and_are_all_accounted_for);
	suite_add_tcase(s, t);

	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
