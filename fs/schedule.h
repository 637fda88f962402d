/*
 * schedule - when snapshots are due. Knows times only, no pool.
 *
 * A schedule is a row of moments in UTC: each full hour; a minute of each day; of one day of each
 * week, or month. A snapshot is due when such a moment lies between the last one and now, however many
 * do: what was missed, by a daemon that did not run or a clock that jumped ahead, is made up for once.
 * Of a clock that went back, snapshots of the future do not count as made.
 *
 *	off | hourly | daily [HH:MM] | weekly [mon..sun] [HH:MM] | monthly [1..28] [HH:MM]
 */
#ifndef FS_SCHEDULE_H
#define FS_SCHEDULE_H

#include "common/err.h"
#include "fs/retention.h"

#define SCHEDULE_NEVER	    INT64_MAX
#define SCHEDULE_NONE_YET   INT64_MIN
#define SCHEDULE_TEXT_BYTES 48
#define SCHEDULE_NAME_BYTES (RETENTION_NAME_BYTES + 16)

enum schedule_kind {
	SCHEDULE_OFF,
	SCHEDULE_HOURLY,
	SCHEDULE_DAILY,
	SCHEDULE_WEEKLY,
	SCHEDULE_MONTHLY,
};

struct schedule {
	enum schedule_kind kind;
	unsigned int day;    /* weekly: 0 is Monday; monthly: from 1 */
	unsigned int minute; /* of the day */
};

/* Errors: -EINVAL, the text says what is expected; *ret_schedule is untouched. */
NODISCARD int schedule_parse(const char *text, struct schedule *ret_schedule, struct err *e);
/* What schedule_parse() reads to the same; text is returned. */
const char *schedule_format(const struct schedule *s, char text[SCHEDULE_TEXT_BYTES]);

/* Its last moment that is not behind now, and the first that is; SCHEDULE_NONE_YET, SCHEDULE_NEVER:
 * it is off. */
int64_t schedule_last(const struct schedule *s, int64_t now_seconds);
int64_t schedule_next(const struct schedule *s, int64_t now_seconds);
/* Whether one is due; last_made: the youngest of those not behind now, or SCHEDULE_NONE_YET. */
bool schedule_is_due(const struct schedule *s, int64_t last_made, int64_t now_seconds);

/* The name of a snapshot that is made by a schedule: its moment and kind, "2026-11-22T051033Z-hourly". */
void schedule_name(const struct schedule *s, int64_t seconds, char name[SCHEDULE_NAME_BYTES]);
/* Its moment, and its kind ("hourly"; static storage); false: it is no such name. */
bool schedule_moment(const char *name, int64_t *ret_seconds, const char **ret_kind);

#endif
