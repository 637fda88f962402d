#include "fs/retention.h"

#include "fs/calendar.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT	      "%Y-%m-%dT%H%M%SZ"
#define DAYS_MAX      INT64_C(1000000)
#define JUMP_SECONDS  CALENDAR_HOUR
#define DOUBT_SECONDS CALENDAR_DAY

static const char *const pers[] = { "all", "hourly", "daily", "weekly", "monthly" };

STATIC_ASSERT(ARRAY_SIZE(pers) == RETENTION_PERS, "each has a word");

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

/* --- the rule ---------------------------------------------------------------------------------- */

/* "7", "7d", "4w", "2y", "forever". 0: none of these. */
static int64_t days_of(const char *text, size_t len)
{
	int64_t days = 0, factor = 1;

	if (len == strlen("forever") && strncmp(text, "forever", len) == 0)
		return RETENTION_FOREVER;
	if (len > 0 && strchr("dwy", text[len - 1])) {
		factor = text[len - 1] == 'w' ? 7 : text[len - 1] == 'y' ? 366 : 1;
		len--;
	}
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9' || days > DAYS_MAX)
			return 0;
		days = days * 10 + text[i] - '0';
	}
	return days * factor <= DAYS_MAX ? days * factor : 0;
}

/* One "word:N"; false: it is none, or the word was there before. */
static bool take_part(struct retention *rule, const char *part, size_t len)
{
	const char *colon = memchr(part, ':', len);
	size_t word = colon ? (size_t)(colon - part) : 0;

	for (unsigned int i = 0; colon && i < RETENTION_PERS; i++) {
		if (strlen(pers[i]) != word || strncmp(pers[i], part, word) != 0)
			continue;
		if (rule->days[i] != 0)
			return false;
		rule->days[i] = days_of(colon + 1, len - word - 1);
		return rule->days[i] > 0;
	}
	return false;
}

int retention_parse(const char *text, struct retention *ret_rule, struct err *e)
{
	struct retention rule = { 0 };
	bool good = *text != '\0';
	size_t len;

	for (const char *part = text; good && *part; part += len + strspn(part + len, " ")) {
		len = strcspn(part, " ");
		good = take_part(&rule, part, len);
	}
	if (!good)
		return err_set(
			e, -EINVAL,
			"'%.80s' is no rule of what to keep: expected all:N, hourly:N, "
			"daily:N, weekly:N, monthly:N, one or several, N in days, as 4w, 2y, "
			"or forever",
			text);
	*ret_rule = rule;
	return 0;
}

const char *retention_format(const struct retention *rule, char text[RETENTION_TEXT_BYTES])
{
	size_t len = 0;

	text[0] = '\0';
	for (unsigned int i = 0; i < RETENTION_PERS; i++) {
		const char *blank = len ? " " : "";

		if (rule->days[i] == RETENTION_FOREVER)
			len += (size_t)snprintf(text + len, RETENTION_TEXT_BYTES - len,
						"%s%s:forever", blank, pers[i]);
		else if (rule->days[i] > 0)
			len += (size_t)snprintf(text + len, RETENTION_TEXT_BYTES - len,
						"%s%s:%" PRId64 "d", blank, pers[i], rule->days[i]);
		ASSERT(len < RETENTION_TEXT_BYTES);
	}
	return text;
}

/* --- deciding ---------------------------------------------------------------------------------- */

static int64_t bucket(enum retention_per per, int64_t seconds)
{
	switch (per) {
	case RETENTION_HOURLY:
		return calendar_count(seconds, CALENDAR_HOUR);
	case RETENTION_DAILY:
		return calendar_count(seconds, CALENDAR_DAY);
	case RETENTION_WEEKLY:
		return calendar_count(seconds - CALENDAR_MONDAY, CALENDAR_WEEK);
	case RETENTION_MONTHLY:
		return calendar_month(seconds);
	case RETENTION_ALL:
	case RETENTION_PERS:
	default:
		return seconds;
	}
}

static int youngest_first(const void *a, const void *b)
{
	const struct retention_item *left = *(struct retention_item *const *)a;
	const struct retention_item *right = *(struct retention_item *const *)b;

	return (left->seconds < right->seconds) - (left->seconds > right->seconds);
}

/* younger: the next one. */
static bool is_kept(const struct retention *rule, int64_t seconds, int64_t younger, int64_t today)
{
	int64_t age = today - calendar_count(seconds, CALENDAR_DAY);

	if (age < 0) /* of a clock that went back */
		return true;
	for (unsigned int i = 0; i < RETENTION_PERS; i++) {
		enum retention_per per = (enum retention_per)i;

		if (age < rule->days[i] &&
		    (per == RETENTION_ALL || bucket(per, seconds) != bucket(per, younger)))
			return true;
	}
	return false;
}

int retention_decide(const struct retention *rule, struct retention_item *items, size_t count,
		     int64_t now_seconds)
{
	struct retention_item **order = calloc(count ? count : 1, sizeof(struct retention_item *));
	int64_t today = calendar_count(now_seconds, CALENDAR_DAY);

	if (!order)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		order[i] = &items[i];
	qsort(order, count, sizeof(struct retention_item *), youngest_first);
	for (size_t i = 0; i < count; i++)
		order[i]->keep =
			i == 0 || is_kept(rule, order[i]->seconds, order[i - 1]->seconds, today);
	free(order);
	return 0;
}

/* --- the clock --------------------------------------------------------------------------------- */

bool retention_clock_is_sound(struct retention_clock *c, int64_t real_seconds,
			      int64_t steady_seconds)
{
	int64_t ahead = (real_seconds - c->real) - (steady_seconds - c->steady);

	if (c->known && ahead > JUMP_SECONDS)
		c->doubted_until = steady_seconds + DOUBT_SECONDS;
	else if (!c->known)
		c->doubted_until = steady_seconds;
	c->known = true;
	c->real = real_seconds;
	c->steady = steady_seconds;
	return steady_seconds >= c->doubted_until;
}
