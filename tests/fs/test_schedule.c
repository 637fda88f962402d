#include "fs/schedule.h"

#include "fs/calendar.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#define HOUR INT64_C(3600)
#define DAY  (24 * HOUR)
/* Thursday, 2026-11-19 12:00 UTC. */
#define NOW INT64_C(1795089600)

static struct schedule parsed(const char *text)
{
	struct schedule s;
	struct err e = { 0 };

	ck_assert_msg(schedule_parse(text, &s, &e) == 0, "%s", e.message);
	return s;
}

static int64_t at(const char *text)
{
	int64_t seconds;

	ck_assert_msg(retention_moment(text, &seconds), "%s", text);
	return seconds;
}

START_TEST(a_schedule_is_told_as_it_is_read)
{
	static const char *const good[][2] = {
		{ "off", "off" },
		{ "hourly", "hourly" },
		{ "daily", "daily 00:00" },
		{ "daily 23:59", "daily 23:59" },
		{ "weekly", "weekly mon 00:00" },
		{ "weekly sun", "weekly sun 00:00" },
		{ "weekly  04:30", "weekly mon 04:30" },
		{ "weekly fri 04:30", "weekly fri 04:30" },
		{ "monthly", "monthly 1 00:00" },
		{ "monthly 28 01:00", "monthly 28 01:00" },
		{ "monthly 2", "monthly 2 00:00" },
	};
	static const char *const bad[] = {
		"",
		" hourly",
		"Hourly",
		"hourly 10:00",
		"off 10:00",
		"daily mon",
		"daily 24:00",
		"daily 1:00",
		"daily 10:60",
		"daily 10:00 ",
		"daily 10:00x",
		"daily 10:00:00",
		"weekly 1",
		"weekly mo",
		"weekly mon tue",
		"monthly 29",
		"monthly 0",
		"monthly mon",
		"monthly 01",
		"dailyx",
		"hourly, daily",
	};
	char text[SCHEDULE_TEXT_BYTES];
	struct schedule s;
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		s = parsed(good[i][0]);
		ck_assert_str_eq(schedule_format(&s, text), good[i][1]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_msg(schedule_parse(bad[i], &s, &e) == -EINVAL, "'%s'", bad[i]);
}
END_TEST

START_TEST(the_moments_around_now_are_found)
{
	static const struct {
		const char *schedule, *now, *last, *next;
	} rows[] = {
		{ "hourly", "2026-11-19T123456Z", "2026-11-19T120000Z", "2026-11-19T130000Z" },
		{ "hourly", "2026-11-19T120000Z", "2026-11-19T120000Z", "2026-11-19T130000Z" },
		{ "hourly", "2026-12-31T235959Z", "2026-12-31T230000Z", "2027-01-01T000000Z" },
		{ "daily 02:30", "2026-11-19T022959Z", "2026-11-18T023000Z", "2026-11-19T023000Z" },
		{ "daily 02:30", "2026-11-19T023000Z", "2026-11-19T023000Z", "2026-11-20T023000Z" },
		{ "weekly", "2026-11-19T120000Z", "2026-11-16T000000Z", "2026-11-23T000000Z" },
		{ "weekly thu 12:00", "2026-11-19T120000Z", "2026-11-19T120000Z",
		  "2026-11-26T120000Z" },
		{ "weekly thu 12:01", "2026-11-19T120000Z", "2026-11-12T120100Z",
		  "2026-11-19T120100Z" },
		{ "weekly sun 23:59", "2026-11-19T120000Z", "2026-11-15T235900Z",
		  "2026-11-22T235900Z" },
		{ "monthly", "2026-11-19T120000Z", "2026-11-01T000000Z", "2026-12-01T000000Z" },
		{ "monthly 28 06:00", "2028-02-28T055959Z", "2028-01-28T060000Z",
		  "2028-02-28T060000Z" },
		{ "monthly 20", "2026-12-25T120000Z", "2026-12-20T000000Z", "2027-01-20T000000Z" },
		{ "monthly 20", "2027-01-05T120000Z", "2026-12-20T000000Z", "2027-01-20T000000Z" },
		{ "daily", "1969-12-31T120000Z", "1969-12-31T000000Z", "1970-01-01T000000Z" },
		{ "monthly 3", "1969-12-31T120000Z", "1969-12-03T000000Z", "1970-01-03T000000Z" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct schedule s = parsed(rows[i].schedule);
		int64_t now = at(rows[i].now);

		ck_assert_msg(schedule_last(&s, now) == at(rows[i].last), "last of row %zu", i);
		ck_assert_msg(schedule_next(&s, now) == at(rows[i].next), "next of row %zu", i);
	}
}
END_TEST

START_TEST(what_is_off_is_never_due)
{
	struct schedule s = parsed("off");

	ck_assert(!schedule_is_due(&s, SCHEDULE_NONE_YET, NOW));
	ck_assert_int_eq(schedule_next(&s, NOW), SCHEDULE_NEVER);
}
END_TEST

/* As the daemon does it: it looks at each of its moments, and makes what is due. */
static unsigned int made_in(const char *text, int64_t from, int64_t until, int64_t *last)
{
	struct schedule s = parsed(text);
	unsigned int made = 0;

	for (int64_t now = from; now <= until; now = schedule_next(&s, now))
		if (schedule_is_due(&s, *last, now)) {
			*last = now;
			made++;
		}
	return made;
}

START_TEST(each_moment_makes_one)
{
	int64_t last = SCHEDULE_NONE_YET;

	ck_assert_uint_eq(made_in("hourly", NOW, NOW + 7 * DAY, &last), 7 * 24 + 1);
	ck_assert_uint_eq(made_in("daily 03:00", NOW + 7 * DAY + 1, NOW + 37 * DAY, &last), 30);
	last = SCHEDULE_NONE_YET;
	ck_assert_uint_eq(made_in("monthly", NOW, NOW + 366 * DAY, &last), 13);
}
END_TEST

START_TEST(what_was_missed_is_made_once)
{
	struct schedule s = parsed("hourly");
	int64_t last = NOW;

	/* The daemon was down, or the clock jumped, for 50 hours and a bit. */
	ck_assert(schedule_is_due(&s, last, NOW + 50 * HOUR + 600));
	last = NOW + 50 * HOUR + 600;
	ck_assert(!schedule_is_due(&s, last, last));
	ck_assert(!schedule_is_due(&s, last, last + 600));
	ck_assert(schedule_is_due(&s, last, NOW + 51 * HOUR));
	/* Down for a moment: nothing was missed. */
	ck_assert(!schedule_is_due(&s, NOW + 1, NOW + 2));
}
END_TEST

/* The caller counts as made what is not behind now: of 12:00 and 13:00, at 12:30 again, the first. */
START_TEST(a_clock_that_goes_back_makes_no_second_one_and_stops_nothing)
{
	struct schedule s = parsed("hourly");

	ck_assert(!schedule_is_due(&s, NOW, NOW + HOUR / 2));
	ck_assert(!schedule_is_due(&s, NOW + HOUR, NOW + HOUR + 1));
	/* Years back: all that was made is behind now, and there is none. */
	ck_assert(schedule_is_due(&s, SCHEDULE_NONE_YET, NOW - 1000 * DAY));
	ck_assert(!schedule_is_due(&s, NOW - 1000 * DAY, NOW - 1000 * DAY + 60));
}
END_TEST

START_TEST(names_tell_moment_and_kind)
{
	static const char *const other[] = {
		"",
		"hourly",
		"-hourly",
		"2026-11-19T120000Z",
		"2026-11-19T120000Z-2",
		"2026-11-19T120000Z-2-hourly",
		"2026-11-19T120000Z-off",
		"2026-11-19T120000Z-yearly",
		"2026-11-19T120000Z-hourly2",
		"2026-11-19T120000Z-hourly-2",
		"2026-11-19T120000-hourly",
		"2026-13-19T120000Z-hourly",
		"mine Z-hourly",
		"a name that is much longer than any moment ever could be, Z-hourly",
	};
	static const char *const kinds[] = { "hourly", "daily", "weekly", "monthly" };
	char name[SCHEDULE_NAME_BYTES], want[SCHEDULE_NAME_BYTES];
	const char *kind;
	int64_t seconds;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct schedule s = parsed(kinds[i]);

		schedule_name(&s, NOW, name);
		(void)snprintf(want, sizeof(want), "2026-11-19T120000Z-%s", kinds[i]);
		ck_assert_str_eq(name, want);
		ck_assert(schedule_moment(name, &seconds, &kind));
		ck_assert_int_eq(seconds, NOW);
		ck_assert_str_eq(kind, kinds[i]);
		ck_assert(!retention_moment(name, &seconds));
	}
	for (size_t i = 0; i < ARRAY_SIZE(other); i++)
		ck_assert_msg(!schedule_moment(other[i], &seconds, &kind), "'%s'", other[i]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/schedule");
	TCase *t = tcase_create("moments");
	SRunner *runner = srunner_create(s);
	int failed;

	tcase_add_test(t, a_schedule_is_told_as_it_is_read);
	tcase_add_test(t, the_moments_around_now_are_found);
	tcase_add_test(t, what_is_off_is_never_due);
	tcase_add_test(t, each_moment_makes_one);
	tcase_add_test(t, what_was_missed_is_made_once);
	tcase_add_test(t, a_clock_that_goes_back_makes_no_second_one_and_stops_nothing);
	tcase_add_test(t, names_tell_moment_and_kind);
	suite_add_tcase(s, t);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
