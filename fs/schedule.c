#include "fs/schedule.h"

#include "fs/calendar.h"

#include <stdio.h>
#include <string.h>

#define MONTH_DAY_MAX 28u
#define MINUTE	      60

static const char *const kinds[] = { "off", "hourly", "daily", "weekly", "monthly" };
static const char *const days[] = { "mon", "tue", "wed", "thu", "fri", "sat", "sun" };

/* --- text -------------------------------------------------------------------------------------- */

/* Whether a word is next; then *text is behind it. */
static bool take_word(const char **text, const char *word)
{
	size_t len = strlen(word);

	if (strncmp(*text, word, len) != 0 || ((*text)[len] != '\0' && (*text)[len] != ' '))
		return false;
	*text += len;
	*text += strspn(*text, " ");
	return true;
}

static bool take_kind(const char **text, struct schedule *s)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++)
		if (take_word(text, kinds[i])) {
			s->kind = (enum schedule_kind)i;
			s->day = i == SCHEDULE_MONTHLY;
			return true;
		}
	return false;
}

static void take_day(const char **text, struct schedule *s)
{
	for (unsigned int i = 0; s->kind == SCHEDULE_WEEKLY && i < ARRAY_SIZE(days); i++)
		if (take_word(text, days[i])) {
			s->day = i;
			return;
		}
	for (unsigned int i = 1; s->kind == SCHEDULE_MONTHLY && i <= MONTH_DAY_MAX; i++) {
		char number[16];

		(void)snprintf(number, sizeof(number), "%u", i);
		if (take_word(text, number)) {
			s->day = i;
			return;
		}
	}
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static void take_time(const char **text, struct schedule *s)
{
	const char *t = *text;
	unsigned int hours, minutes;

	if (s->kind < SCHEDULE_DAILY || strlen(t) < 5 || !is_digit(t[0]) || !is_digit(t[1]) ||
	    t[2] != ':' || !is_digit(t[3]) || !is_digit(t[4]))
		return;
	hours = (unsigned int)((t[0] - '0') * 10 + t[1] - '0');
	minutes = (unsigned int)((t[3] - '0') * 10 + t[4] - '0');
	if (hours > 23 || minutes > 59)
		return;
	s->minute = hours * 60 + minutes;
	*text += 5;
}

int schedule_parse(const char *text, struct schedule *ret_schedule, struct err *e)
{
	struct schedule s = { 0 };
	const char *rest = text;

	if (take_kind(&rest, &s)) {
		take_day(&rest, &s);
		take_time(&rest, &s);
	} else {
		rest = "?";
	}
	if (*rest)
		return err_set(e, -EINVAL,
			       "'%.80s' is no schedule: expected off, hourly, daily [HH:MM], "
			       "weekly [mon..sun] [HH:MM] or monthly [1..28] [HH:MM]",
			       text);
	*ret_schedule = s;
	return 0;
}

const char *schedule_format(const struct schedule *s, char text[SCHEDULE_TEXT_BYTES])
{
	char day[16] = "";

	if (s->kind == SCHEDULE_WEEKLY)
		(void)snprintf(day, sizeof(day), " %s", days[s->day]);
	if (s->kind == SCHEDULE_MONTHLY)
		(void)snprintf(day, sizeof(day), " %u", s->day);
	if (s->kind < SCHEDULE_DAILY)
		(void)snprintf(text, SCHEDULE_TEXT_BYTES, "%s", kinds[s->kind]);
	else
		(void)snprintf(text, SCHEDULE_TEXT_BYTES, "%s%s %02u:%02u", kinds[s->kind], day,
			       s->minute / 60, s->minute % 60);
	return text;
}

/* --- moments ----------------------------------------------------------------------------------- */

/* Moments are `first` and all that lie a multiple of `period` from it. */
static int64_t last_of(int64_t first, int64_t period, int64_t now)
{
	return first + calendar_count(now - first, period) * period;
}

static int64_t last_of_month(const struct schedule *s, int64_t now)
{
	int64_t month = calendar_month(now), second = (int64_t)s->minute * MINUTE;
	int64_t moment = calendar_in_month(month, s->day, second);

	return moment <= now ? moment : calendar_in_month(month - 1, s->day, second);
}

int64_t schedule_last(const struct schedule *s, int64_t now_seconds)
{
	int64_t second = (int64_t)s->minute * MINUTE;

	switch (s->kind) {
	case SCHEDULE_HOURLY:
		return last_of(0, CALENDAR_HOUR, now_seconds);
	case SCHEDULE_DAILY:
		return last_of(second, CALENDAR_DAY, now_seconds);
	case SCHEDULE_WEEKLY:
		return last_of(CALENDAR_MONDAY + (int64_t)s->day * CALENDAR_DAY + second,
			       CALENDAR_WEEK, now_seconds);
	case SCHEDULE_MONTHLY:
		return last_of_month(s, now_seconds);
	case SCHEDULE_OFF:
	default:
		return SCHEDULE_NONE_YET;
	}
}

int64_t schedule_next(const struct schedule *s, int64_t now_seconds)
{
	int64_t last = schedule_last(s, now_seconds);

	switch (s->kind) {
	case SCHEDULE_HOURLY:
		return last + CALENDAR_HOUR;
	case SCHEDULE_DAILY:
		return last + CALENDAR_DAY;
	case SCHEDULE_WEEKLY:
		return last + CALENDAR_WEEK;
	case SCHEDULE_MONTHLY:
		return calendar_in_month(calendar_month(last) + 1, s->day,
					 (int64_t)s->minute * MINUTE);
	case SCHEDULE_OFF:
	default:
		return SCHEDULE_NEVER;
	}
}

bool schedule_is_due(const struct schedule *s, int64_t last_made, int64_t now_seconds)
{
	return last_made < schedule_last(s, now_seconds);
}

/* --- names ------------------------------------------------------------------------------------- */

void schedule_name(const struct schedule *s, int64_t seconds, char name[SCHEDULE_NAME_BYTES])
{
	char moment[RETENTION_NAME_BYTES];

	retention_name(seconds, 0, moment);
	(void)snprintf(name, SCHEDULE_NAME_BYTES, "%s-%s", moment, kinds[s->kind]);
}

bool schedule_moment(const char *name, int64_t *ret_seconds, const char **ret_kind)
{
	const char *dash = strrchr(name, '-');
	char moment[RETENTION_NAME_BYTES];
	size_t len = dash ? (size_t)(dash - name) : sizeof(moment);

	if (len >= sizeof(moment))
		return false;
	memcpy(moment, name, len);
	moment[len] = '\0';
	for (unsigned int i = SCHEDULE_HOURLY; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(dash + 1, kinds[i]) == 0 && strchr(moment, 'Z') == moment + len - 1) {
			*ret_kind = kinds[i];
			return retention_moment(moment, ret_seconds);
		}
	return false;
}
