/*
 * retention - which snapshots a disk need not keep any more. Knows times only, no pool.
 *
 * Of those whose name is a moment (the name that `vpool snapshot create` gives) it keeps all of today
 * and yesterday, the last of each day for a week, and the last of each week for a month. Days are
 * those of UTC, weeks begin on Monday. Deciding again and again leaves what deciding once would. What
 * has another name is nobody's business here.
 */
#ifndef FS_RETENTION_H
#define FS_RETENTION_H

#include "common/base.h"

#define RETENTION_ALL_DAYS   2
#define RETENTION_DAILY_DAYS 7
#define RETENTION_WEEKS_DAYS 31

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
NODISCARD int retention_decide(struct retention_item *items, size_t count, int64_t now_seconds);

#endif
