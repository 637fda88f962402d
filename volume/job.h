/*
 * job - a background step that a thread loops over.
 *
 * step() does a bounded piece of work and returns when it wants to run again: 0 at once, a number
 * of nanoseconds, or WAIT_FOREVER: only when kicked. A kick that arrives while step() runs is
 * kept. Under a scheduler the same loop runs as a coroutine, so a simulator sees every step.
 */
#ifndef VOLUME_JOB_H
#define VOLUME_JOB_H

#include "common/thread.h"
#include "volume/lock_ranks.h"

struct job {
	const char *name;
	uint64_t (*step)(void *arg);
	void *arg;
	struct thread *thread; /* NULL: not started */

	struct mutex lock; /* unranked leaf: nothing is taken under it; guards all below */
	struct cond wake;
	bool ready; /* job_init() was called; constant from then on */
	bool kicked;
	bool stopping;
};

/* Before any other use, and before any thread that may kick it; all zero before that. */
void job_init(struct job *j);
/* Errors: -EAGAIN no thread. job_stop() ends it after the current step; fine if never started. */
NODISCARD int job_start(struct job *j, const char *name, uint64_t (*step)(void *arg), void *arg);
void job_kick(struct job *j);
void job_stop(struct job *j);
bool job_is_stopping(struct job *j);

#endif
