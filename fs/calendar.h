/*
 * calendar - hours, days, weeks and months of UTC, as numbers. A day has 86,400 seconds; weeks begin on
 * Monday. All seconds are since 1970 and may lie before it.
 */
#ifndef FS_CALENDAR_H
#define FS_CALENDAR_H

#include "common/base.h"

#include <time.h>

#define CALENDAR_HOUR 3600
#define CALENDAR_DAY  86400
#define CALENDAR_WEEK (7 * CALENDAR_DAY)
/* The first day of 1970 was a Thursday. */
#define CALENDAR_MONDAY (-3 * CALENDAR_DAY)

/* Rounded down, also below 0. */
static inline int64_t calendar_count(int64_t seconds, int64_t unit)
{
	return seconds / unit - (seconds % unit < 0);
}

static inline int64_t calendar_month(int64_t seconds)
{
	time_t when = (time_t)seconds;
	struct tm tm = { 0 };

	(void)gmtime_r(&when, &tm);
	return (int64_t)tm.tm_year * 12 + tm.tm_mon;
}

/* A second of a month: of its day (from 1). */
static inline int64_t calendar_in_month(int64_t month, unsigned int day, int64_t second)
{
	struct tm tm = { .tm_year = (int)calendar_count(month, 12),
			 .tm_mon = (int)(month - calendar_count(month, 12) * 12),
			 .tm_mday = (int)day };

	return timegm(&tm) + second;
}

#endif
