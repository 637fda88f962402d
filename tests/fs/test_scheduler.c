#include "fs/scheduler.h"

#include "support_ns.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define HOUR INT64_C(3600)
#define DAY  (24 * HOUR)

static struct policy fallback;
static struct scheduler *scheduler;
static uint64_t dir, one, two;

/* What is due may change with the hour, not while a test runs that says "monthly". */
static void begin(void)
{
	must(schedule_parse("monthly", &fallback.schedule, &t_err));
	must(retention_parse("all:2d", &fallback.keep, &t_err));
	must(t_mkdir(NS_ROOT_INO, "d"));
	dir = t_ino("/d");
	must(t_create(dir, "one.raw"));
	must(t_create(dir, "two.raw"));
	one = t_ino("/d/one.raw");
	two = t_ino("/d/two.raw");
	t_write(one, 0, "first");
	t_write(two, 0, "second");
	scheduler = NULL;
}

static void stop(void)
{
	scheduler_stop(scheduler);
	scheduler_free(scheduler);
	scheduler = NULL;
}

static uint64_t looks(void)
{
	struct scheduler_status st;

	scheduler_status(scheduler, &st);
	return st.looks;
}

static void wait_for_look(void)
{
	uint64_t before = looks();

	scheduler_kick(scheduler);
	for (unsigned int i = 0; looks() == before; i++) {
		struct timespec ms = { .tv_nsec = 1000000 };

		ck_assert_uint_lt(i, 30000);
		(void)nanosleep(&ms, NULL);
	}
}

/* One look at least began behind this. */
static void settle(void)
{
	wait_for_look();
	wait_for_look();
}

static void run(void)
{
	if (!scheduler) {
		must(scheduler_new(nf.pool, nf.ns, &fallback, &scheduler, &t_err));
		must(scheduler_start(scheduler, &t_err));
	}
	settle();
}

static void snapshot_of(uint64_t ino, const char *name, bool sticky)
{
	struct object *o;
	struct snapshot_wanted wanted = { .name = name, .sticky = sticky };

	must(ns_object_get(nf.ns, ino, &o, &t_err));
	wanted.object = o;
	must(snapshot_create(nf.pool, &wanted, 1, &t_err));
	ns_object_put(nf.ns, ino);
}

static void scheduled_before(uint64_t ino, const char *schedule, int64_t ago, bool sticky)
{
	char name[SCHEDULE_NAME_BYTES];
	struct schedule s;

	must(schedule_parse(schedule, &s, &t_err));
	schedule_name(&s, time(NULL) - ago, name);
	snapshot_of(ino, name, sticky);
}

/* Names with blanks between; a moment of a schedule that is not a minute old is "*". */
static const char *names_of(uint64_t ino)
{
	static char text[4096];
	struct snapshot_info *list;
	size_t count, len = 0;
	const char *kind;
	int64_t seconds;

	must(snapshot_list(nf.pool, ino, &list, &count, &t_err));
	text[0] = '\0';
	for (size_t i = 0; i < count; i++) {
		bool fresh =
			schedule_moment(list[i].name, &seconds, &kind) && seconds > time(NULL) - 60;

		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s", i ? " " : "",
					fresh ? "*" : list[i].name);
	}
	snapshot_list_free(list, count);
	return text;
}

static const char *newest_of(uint64_t ino)
{
	static char name[SNAPSHOT_NAME_MAX + 1];
	struct snapshot_info *list;
	size_t count;

	must(snapshot_list(nf.pool, ino, &list, &count, &t_err));
	ck_assert_uint_gt(count, 0);
	memcpy(name, list[count - 1].name, sizeof(name));
	snapshot_list_free(list, count);
	return name;
}

static void set(uint64_t ino, const char *name, const char *value)
{
	must(ns_xattr_set(nf.ns, ino, name, value, strlen(value), 0, &t_err));
}

START_TEST(each_disk_gets_its_first_at_once_and_no_second)
{
	struct scheduler_status st;

	run();
	ck_assert_str_eq(names_of(one), "*");
	ck_assert_str_eq(names_of(two), "*");
	t_write(one, 0, "other");
	settle();
	ck_assert_str_eq(names_of(one), "*");
	scheduler_status(scheduler, &st);
	ck_assert_uint_eq(st.disks, 2);
	ck_assert_uint_eq(st.made, 2);
	ck_assert_int_eq(st.next_seconds, schedule_next(&fallback.schedule, time(NULL)));
	ck_assert_str_eq(st.trouble, "");
	/* What was made counts for the next process, too. */
	stop();
	ns_fixture_reopen();
	run();
	ck_assert_str_eq(names_of(one), "*");
}
END_TEST

START_TEST(what_was_missed_is_made_up_for_once)
{
	must(retention_parse("all:forever", &fallback.keep, &t_err));
	scheduled_before(one, "monthly", 500 * DAY, false);
	scheduled_before(one, "monthly", 400 * DAY, false);
	t_write(one, 0, "other");
	run();
	settle();
	ck_assert_uint_eq(strlen(names_of(one)), 2 * strlen("2025-10-18T113302Z-monthly ") + 1);
	ck_assert_str_eq(strrchr(names_of(one), ' '), " *");
}
END_TEST

START_TEST(a_disk_that_nobody_wrote_gets_no_further_one)
{
	scheduled_before(one, "monthly", 400 * DAY, false);
	scheduled_before(two, "monthly", 400 * DAY, false);
	t_write(two, 0, "other");
	ns_fixture_reopen();
	run();
	ck_assert_ptr_null(strchr(names_of(one), '*'));
	ck_assert_ptr_nonnull(strchr(names_of(two), '*'));
	t_write(one, 0, "x");
	settle();
	ck_assert_ptr_nonnull(strchr(names_of(one), '*'));
}
END_TEST

/* Of the future: it does not count as made, and does not go. */
START_TEST(a_clock_that_went_back_stops_nothing)
{
	scheduled_before(one, "monthly", -400 * DAY, false);
	t_write(one, 0, "other");
	run();
	settle();
	ck_assert_ptr_nonnull(strstr(names_of(one), "*"));
	ck_assert_uint_gt(strlen(names_of(one)), 2);
}
END_TEST

START_TEST(disks_of_a_directory_are_of_one_moment)
{
	uint64_t other;

	must(t_create(NS_ROOT_INO, "other.raw"));
	other = t_ino("/other.raw");
	t_write(other, 0, "x");
	run();
	ck_assert_str_eq(newest_of(one), newest_of(two));
	ck_assert_str_eq(names_of(other), "*");
}
END_TEST

START_TEST(what_is_no_disk_or_empty_or_off_gets_none)
{
	uint64_t text, empty;

	must(t_create(dir, "text"));
	must(t_create(dir, "empty.raw"));
	text = t_ino("/d/text");
	empty = t_ino("/d/empty.raw");
	t_write(text, 0, "x");
	set(two, POLICY_SCHEDULE, "off");
	run();
	ck_assert_str_eq(names_of(one), "*");
	ck_assert_str_eq(names_of(two), "");
	ck_assert_str_eq(names_of(text), "");
	ck_assert_str_eq(names_of(empty), "");
	/* By itself a file can be asked for. */
	set(text, POLICY_SCHEDULE, "weekly");
	settle();
	ck_assert_str_eq(names_of(text), "*");
}
END_TEST

START_TEST(what_is_not_kept_goes_and_nothing_else)
{
	char old[SCHEDULE_NAME_BYTES];

	retention_name(time(NULL) - 50 * DAY, 0, old);
	scheduled_before(one, "hourly", 40 * DAY, false);
	scheduled_before(one, "daily", 30 * DAY, false);
	scheduled_before(one, "weekly", 20 * DAY, true);
	snapshot_of(one, "mine", false);
	snapshot_of(one, old, false); /* made by hand */
	scheduled_before(one, "monthly", 100, false);
	scheduled_before(two, "monthly", 40 * DAY, false);
	scheduled_before(two, "monthly", 50 * DAY, false);
	set(one, POLICY_SCHEDULE, "monthly 28 23:59");
	run();
	settle();
	ck_assert_ptr_null(strstr(names_of(one), "-hourly"));
	ck_assert_ptr_null(strstr(names_of(one), "-daily"));
	ck_assert_ptr_nonnull(strstr(names_of(one), "-weekly"));
	ck_assert_ptr_nonnull(strstr(names_of(one), "mine"));
	ck_assert_ptr_nonnull(strstr(names_of(one), old));
	ck_assert_ptr_nonnull(strstr(names_of(one), "-monthly"));
	/* The youngest of an old disk stays, and it was not written since. */
	ck_assert_uint_eq(strlen(names_of(two)), strlen("2025-10-18T113302Z-monthly"));
}
END_TEST

START_TEST(what_is_off_is_left_alone)
{
	must(schedule_parse("off", &fallback.schedule, &t_err));
	scheduled_before(one, "hourly", 40 * DAY, false);
	scheduled_before(one, "hourly", 30 * DAY, false);
	run();
	ck_assert_uint_eq(strlen(names_of(one)), 2 * strlen("2025-10-18T113302Z-hourly") + 1);
	/* Until it is not: what changes is seen at once. */
	must(schedule_parse("hourly", &fallback.schedule, &t_err));
	scheduler_change(scheduler, &fallback);
	settle();
	ck_assert_uint_eq(strlen(names_of(one)), strlen("2025-10-18T113302Z-hourly"));
	ck_assert_str_eq(names_of(two), "*");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/scheduler");
	TCase *t = tcase_create("scheduler");
	SRunner *runner = srunner_create(s);
	int failed;

	ns_fixture_add(t);
	tcase_add_checked_fixture(t, begin, stop);
	tcase_add_test(t, each_disk_gets_its_first_at_once_and_no_second);
	tcase_add_test(t, what_was_missed_is_made_up_for_once);
	tcase_add_test(t, a_disk_that_nobody_wrote_gets_no_further_one);
	tcase_add_test(t, a_clock_that_went_back_stops_nothing);
	tcase_add_test(t, disks_of_a_directory_are_of_one_moment);
	tcase_add_test(t, what_is_no_disk_or_empty_or_off_gets_none);
	tcase_add_test(t, what_is_not_kept_goes_and_nothing_else);
	tcase_add_test(t, what_is_off_is_left_alone);
	suite_add_tcase(s, t);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
