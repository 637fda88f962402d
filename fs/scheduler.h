/*
 * scheduler - makes the snapshots that are due by the schedules of disks, and deletes those of them that
 * their rules do not keep. One thread of a daemon.
 *
 * It looks at all files when the next moment of some schedule comes, each full hour, and when it is
 * kicked; and sleeps between. What is due is seen from the snapshots that are there (schedule.h), so
 * there is nothing to remember, and a crash at any step leaves what the next look goes on from. Disks
 * of one directory that are due together get their snapshots at one moment. A disk that nobody wrote
 * since the last one gets none, nor does an empty one. Snapshots with other names, and sticky ones, are
 * left alone, as is all of a disk whose schedule is off.
 */
#ifndef FS_SCHEDULER_H
#define FS_SCHEDULER_H

#include "fs/policy.h"

struct pool;
struct scheduler;

/* Owns: pool and ns are borrowed until scheduler_stop(). Errors: -ENOMEM, -EMFILE. */
NODISCARD int scheduler_new(struct pool *pool, struct ns *ns, const struct policy *fallback,
			    struct scheduler **ret_scheduler, struct err *e);
/* Errors: -EAGAIN. */
NODISCARD int scheduler_start(struct scheduler *s, struct err *e);
/* Returns when nothing of it goes on; what it was about to do is left for the next one. */
void scheduler_stop(struct scheduler *s);
/* Stopped, or never started. */
void scheduler_free(struct scheduler *s);

/* Look again: something was set. */
void scheduler_kick(struct scheduler *s);
/* What holds where nothing else says. Change: kicks. */
void scheduler_change(struct scheduler *s, const struct policy *fallback);
struct policy scheduler_fallback(struct scheduler *s);

struct scheduler_status {
	uint64_t looks;			 /* since the start */
	uint64_t disks;			 /* with a schedule, at the last look */
	int64_t next_seconds;		 /* when the next of them is due; SCHEDULE_NEVER */
	uint64_t made, deleted;		 /* since the start */
	char trouble[ERR_MESSAGE_BYTES]; /* of the last look; "" */
};
void scheduler_status(struct scheduler *s, struct scheduler_status *ret_status);

struct snapshot_info;
/*
 * Which of the snapshots of a disk its rule does not keep: of those that a schedule made, or
 * (all_moments) also of others that have a moment as name. ret_goes has count places. Errors: -ENOMEM.
 */
NODISCARD int scheduler_decide(const struct retention *rule, const struct snapshot_info *list,
			       size_t count, bool all_moments, int64_t now_seconds, bool *ret_goes);

#endif
