/*
 * retention - which snapshots a disk need not keep any more. Knows times only, no pool.
 *
 * A rule says for how many days, counted with today, all snapshots stay, for how many the last of
 * each hour, of each day, week or month; what one of these keeps stays, and the youngest of all does.
 * Days are those of UTC, weeks begin on Monday. Deciding again and again leaves what deciding once
 * would.
 *
 *	[all:N] [hourly:N] [daily:N] [weekly:N] [monthly:N]	N: days, 4w, 2y, or forever
 */
#ifndef FS_RETENTION_H
#define FS_RETENTION_H

#include "common/err.h"

enum retention_per {
	RETENTION_ALL,
	RETENTION_HOURLY,
	RETENTION_DAILY,
	RETENTION_WEEKLY,
	RETENTION_MONTHLY,
	RETENTION_PERS,
};

#define RETENTION_FOREVER    INT64_MAX
#define RETENTION_TEXT_BYTES 160
/* All of today and yesterday, one a day for a week, one a week for a month. */
#define RETENTION_DEFAULT "all:2d daily:7d weekly:31d"

struct retention {
	int64_t days[RETENTION_PERS]; /* 0: it keeps none */
};

/* Errors: -EINVAL, the text says what is expected; *ret_rule is untouched. */
NODISCARD int retention_parse(const char *text, struct retention *ret_rule, struct err *e);
/* What retention_parse() reads to the same; text is returned. */
const char *retention_format(const struct retention *rule, char text[RETENTION_TEXT_BYTES]);

#define RETENTION_NAME_BYTES 48

/* "2026-11-22T051033Z"; from the second attempt on with "-2", "-3"... behind it. */
void retention_name(int64_t seconds, unsigned int attempt, char text[RETENTION_NAME_BYTES]);
/* The moment of such a name; false: it is another one. */
bool retention_moment(const char *name, int64_t *ret_seconds);

struct retention_item {
	int64_t seconds; /* since 1970 */
	bool keep;	 /* what is decided */
};
/* Errors: -ENOMEM. */
NODISCARD int retention_decide(const struct retention *rule, struct retention_item *items,
			       size_t count, int64_t now_seconds);

/*
 * Whether a clock may be believed where something is deleted for its age: not for a day after it jumped
 * ahead by more than an hour, so that somebody can notice. Zeroed at first.
 */
struct retention_clock {
	bool known;
	int64_t real, steady;  /* when it was looked at last */
	int64_t doubted_until; /* steady seconds */
};
/* steady_seconds: of a clock that goes on while the machine sleeps, and never jumps. */
bool retention_clock_is_sound(struct retention_clock *c, int64_t real_seconds,
			      int64_t steady_seconds);

#endif
