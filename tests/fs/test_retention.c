#include "fs/retention.h"

#include <check.h>
#include <string.h>

#define DAY  INT64_C(86400)
#define HOUR INT64_C(3600)
/* Thursday, 2026-11-19 12:00 UTC. */
#define NOW INT64_C(1795089600)

#define COUNT_MAX 2400u

static struct retention_item items[COUNT_MAX];
static size_t count;
static struct retention rule;

static void take_rule(const char *text)
{
	struct err e = { 0 };

	ck_assert_msg(retention_parse(text, &rule, &e) == 0, "%s", e.message);
}

static void add(int64_t seconds)
{
	ck_assert_uint_lt(count, COUNT_MAX);
	items[count++] = (struct retention_item){ .seconds = seconds };
}

static void begin(void)
{
	count = 0;
	take_rule(RETENTION_DEFAULT);
}

/* What is not kept is gone. */
static size_t prune(struct retention_item *list, size_t list_count, int64_t now)
{
	size_t left = 0;

	ck_assert_int_eq(retention_decide(&rule, list, list_count, now), 0);
	for (size_t i = 0; i < list_count; i++)
		if (list[i].keep)
			list[left++] = list[i];
	return left;
}

START_TEST(a_table_of_ages_is_decided)
{
	static const struct {
		int64_t ago;
		bool keep;
	} rows[] = {
		{ -3 * DAY, true }, /* of a clock that went back */
		{ 0, true },
		{ 1 * HOUR, true },
		{ 12 * HOUR, true },		     /* midnight */
		{ 12 * HOUR + 1, true },	     /* yesterday */
		{ DAY + 12 * HOUR, true },	     /* its first second */
		{ DAY + 12 * HOUR + 1, true },	     /* the last of Tuesday */
		{ 2 * DAY, false },		     /* not the last of it */
		{ 3 * DAY, true },		     /* the only one of Monday */
		{ 6 * DAY, true },		     /* Friday, the oldest day of which one stays */
		{ 6 * DAY + 1, false },		     /* not its last */
		{ 7 * DAY, false },		     /* of a week that has a younger one */
		{ 8 * DAY, false },		     /* the same */
		{ 12 * DAY, true },		     /* Saturday of the week before */
		{ 13 * DAY, false },		     /* Friday of it */
		{ 30 * DAY + 12 * HOUR, true },	     /* the last day that counts */
		{ 30 * DAY + 12 * HOUR + 1, false }, /* the one before */
		{ 400 * DAY, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		add(NOW - rows[i].ago);
	ck_assert_int_eq(retention_decide(&rule, items, count, NOW), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		ck_assert_msg(items[i].keep == rows[i].keep, "row %zu", i);
}
END_TEST

START_TEST(the_order_does_not_matter)
{
	bool expected[300];

	for (int64_t i = 0; i < 300; i++)
		add(NOW - i * 5 * HOUR);
	ck_assert_int_eq(retention_decide(&rule, items, count, NOW), 0);
	for (size_t i = 0; i < 300; i++)
		expected[i] = items[i].keep;
	count = 0;
	for (int64_t i = 299; i >= 0; i--)
		add(NOW - i * 5 * HOUR);
	ck_assert_int_eq(retention_decide(&rule, items, count, NOW), 0);
	for (size_t i = 0; i < 300; i++)
		ck_assert(items[299 - i].keep == expected[i]);
}
END_TEST

/* One each hour: who is kept today must be there for tomorrow's decision. */
START_TEST(pruning_all_the_time_leaves_what_pruning_once_would)
{
	static struct retention_item rolling[COUNT_MAX];
	size_t left = 0;
	int64_t now = NOW;

	for (int hour = 0; hour < 24 * 90; hour++) {
		now += HOUR;
		add(now);
		rolling[left++] = (struct retention_item){ .seconds = now };
		left = prune(rolling, left, now);
	}
	count = prune(items, count, now);
	/* 37 hours of today and yesterday, 5 days, 3 weeks. */
	ck_assert_uint_eq(count, 45);
	ck_assert_uint_eq(left, count);
	for (size_t i = 0; i < count; i++)
		ck_assert_int_eq(rolling[i].seconds, items[i].seconds);
}
END_TEST

START_TEST(the_youngest_stays_whatever_its_age)
{
	ck_assert_int_eq(retention_decide(&rule, items, 0, NOW), 0);
	add(NOW - 500 * DAY);
	add(NOW - 400 * DAY);
	ck_assert_int_eq(retention_decide(&rule, items, count, NOW), 0);
	ck_assert(!items[0].keep && items[1].keep);
}
END_TEST

/* Each rule by itself, of one snapshot every half hour for 50 days. */
START_TEST(each_part_of_a_rule_keeps_its_own)
{
	static const struct {
		const char *rule;
		size_t kept;
	} rows[] = {
		{ "all:1", 25 }, /* midnight to noon */
		{ "all:forever", 2400 },
		{ "hourly:1d", 13 },
		{ "hourly:2d", 37 },
		{ "daily:10", 10 },
		{ "weekly:4w", 5 },  /* of which the oldest is cut */
		{ "monthly:1y", 3 }, /* 50 days reach into October and September */
		{ "all:1d monthly:1y", 27 },
		{ "monthly:1y hourly:1", 15 },
	};

	for (int64_t i = 0; i < 2400; i++)
		add(NOW - i * HOUR / 2);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		size_t kept = 0;

		take_rule(rows[i].rule);
		ck_assert_int_eq(retention_decide(&rule, items, count, NOW), 0);
		for (size_t n = 0; n < count; n++)
			kept += items[n].keep;
		ck_assert_msg(kept == rows[i].kept, "'%s' keeps %zu", rows[i].rule, kept);
	}
}
END_TEST

START_TEST(a_rule_is_told_as_it_is_read)
{
	static const char *const good[][2] = {
		{ RETENTION_DEFAULT, RETENTION_DEFAULT },
		{ "daily:4w", "daily:28d" },
		{ "weekly:1y  all:3", "all:3d weekly:366d" },
		{ "monthly:forever hourly:1d", "hourly:1d monthly:forever" },
	};
	static const char *const bad[] = {
		"",
		" ",
		"all",
		"all:",
		"all:0",
		"all:-1",
		"all:1h",
		"all:1dd",
		"every:1",
		"all:1,daily:2",
		"all:1 all:2",
		"all:99999999y",
		"all:99999999999999999999999",
		"ALL:1",
		":1",
		"all:forever1",
		" all:1",
	};
	char text[RETENTION_TEXT_BYTES];
	struct err e;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		take_rule(good[i][0]);
		ck_assert_str_eq(retention_format(&rule, text), good[i][1]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_msg(retention_parse(bad[i], &rule, &e) == -EINVAL, "'%s'", bad[i]);
	take_rule("all:1000000 hourly:1000000 daily:1000000 weekly:1000000 monthly:1000000");
	(void)retention_format(&rule, text);
}
END_TEST

START_TEST(a_clock_that_jumps_ahead_is_doubted_for_a_day)
{
	struct retention_clock c = { 0 };

	ck_assert(retention_clock_is_sound(&c, NOW, 1000));
	ck_assert(retention_clock_is_sound(&c, NOW + 30 * DAY, 1000 + 30 * DAY)); /* asleep */
	ck_assert(retention_clock_is_sound(&c, NOW + 30 * DAY + HOUR, 1000 + 30 * DAY));
	ck_assert(!retention_clock_is_sound(&c, NOW + 300 * DAY, 1001 + 30 * DAY));
	ck_assert(!retention_clock_is_sound(&c, NOW + 301 * DAY - 1, 1000 + 31 * DAY));
	ck_assert(retention_clock_is_sound(&c, NOW + 301 * DAY, 1001 + 31 * DAY));
	ck_assert(retention_clock_is_sound(&c, NOW, 1002 + 31 * DAY)); /* back: nothing is old */
}
END_TEST

START_TEST(names_that_are_moments_are_known)
{
	char text[RETENTION_NAME_BYTES];
	int64_t seconds;

	retention_name(NOW, 0, text);
	ck_assert_str_eq(text, "2026-11-19T120000Z");
	ck_assert(retention_moment(text, &seconds));
	ck_assert_int_eq(seconds, NOW);
	retention_name(NOW, 11, text);
	ck_assert_str_eq(text, "2026-11-19T120000Z-12");
	ck_assert(retention_moment(text, &seconds));
	ck_assert_int_eq(seconds, NOW);
	ck_assert(retention_moment("1969-12-31T235959Z", &seconds));
	ck_assert_int_eq(seconds, -1);
}
END_TEST

START_TEST(other_names_are_left_alone)
{
	static const char *const names[] = {
		"",
		"before the upgrade",
		"2026-11-19",
		"2026-11-19T120000",
		"2026-11-19T120000Zx",
		"2026-11-19T120000Z-",
		"2026-11-19T120000Z-x",
		"2026-11-19T120000Z-2x",
		"2026-11-19T120000Z-02",
		" 2026-11-19T120000Z",
		"2026-11- 9T120000Z",
		"2026-11-9T120000Z",
		"2026-02-30T120000Z",
		"2026-13-01T120000Z",
		"2026-11-19T250000Z",
	};
	int64_t seconds;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		ck_assert_msg(!retention_moment(names[i], &seconds), "%s", names[i]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/retention");
	TCase *t = tcase_create("rule");
	SRunner *runner = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, begin, NULL);
	tcase_add_test(t, a_table_of_ages_is_decided);
	tcase_add_test(t, the_order_does_not_matter);
	tcase_add_test(t, pruning_all_the_time_leaves_what_pruning_once_would);
	tcase_add_test(t, the_youngest_stays_whatever_its_age);
	tcase_add_test(t, each_part_of_a_rule_keeps_its_own);
	tcase_add_test(t, a_rule_is_told_as_it_is_read);
	tcase_add_test(t, a_clock_that_jumps_ahead_is_doubted_for_a_day);
	tcase_add_test(t, names_that_are_moments_are_known);
	tcase_add_test(t, other_names_are_left_alone);
	suite_add_tcase(s, t);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
