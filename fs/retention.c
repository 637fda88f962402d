#include "fs/retention.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FORMAT	    "%Y-%m-%dT%H%M%SZ"
#define DAY_SECONDS 86400

void retention_name(int64_t seconds, unsigned int attempt, char text[RETENTION_NAME_BYTES])
{
	time_t when = (time_t)seconds;
	struct tm tm = { 0 };
	size_t len;

	(void)gmtime_r(&when, &tm);
	len = strftime(text, RETENTION_NAME_BYTES, FORMAT, &tm);
	if (attempt > 0)
		(void)snprintf(text + len, RETENTION_NAME_BYTES - len, "-%u", attempt + 1);
}

bool retention_moment(const char *name, int64_t *ret_seconds)
{
	char again[RETENTION_NAME_BYTES];
	struct tm tm = { 0 };
	const char *rest = strptime(name, FORMAT, &tm);
	int64_t seconds;

	if (!rest)
		return false;
	seconds = timegm(&tm);
	retention_name(seconds, 0, again);
	if (strncmp(name, again, strlen(again)) != 0) /* strptime() takes more than is written */
		return false;
	if (*rest == '-' && rest[1] >= '1' && rest[1] <= '9')
		rest += 1 + strspn(rest + 1, "0123456789");
	if (*rest)
		return false;
	*ret_seconds = seconds;
	return true;
}

/* Rounded down, also before 1970. */
static int64_t day_of(int64_t seconds)
{
	return seconds / DAY_SECONDS - (seconds % DAY_SECONDS < 0);
}

/* The first day of 1970 was a Thursday. */
static int64_t week_of(int64_t day)
{
	int64_t from_monday = day + 3;

	return from_monday / 7 - (from_monday % 7 < 0);
}

static int youngest_first(const void *a, const void *b)
{
	const struct retention_item *left = *(struct retention_item *const *)a;
	const struct retention_item *right = *(struct retention_item *const *)b;

	return (left->seconds < right->seconds) - (left->seconds > right->seconds);
}

int retention_decide(struct retention_item *items, size_t count, int64_t now_seconds)
{
	struct retention_item **order = calloc(count ? count : 1, sizeof(struct retention_item *));
	int64_t today = day_of(now_seconds), last_day = INT64_MAX;

	if (!order)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		order[i] = &items[i];
	qsort(order, count, sizeof(struct retention_item *), youngest_first);
	for (size_t i = 0; i < count; i++) {
		int64_t day = day_of(order[i]->seconds), age = today - day;

		if (age < RETENTION_ALL_DAYS)
			order[i]->keep = true;
		else if (age < RETENTION_DAILY_DAYS)
			order[i]->keep = day != last_day;
		else if (age < RETENTION_WEEKS_DAYS)
			order[i]->keep = last_day == INT64_MAX || week_of(day) != week_of(last_day);
		else
			order[i]->keep = false;
		last_day = day;
	}
	free(order);
	return 0;
}
