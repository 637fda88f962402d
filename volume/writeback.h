/*
 * writeback - brings complete batches from the ring into their SCOs, several writes in flight.
 *
 * One queue a pool of one or more threads' worth of io: complete batches stand in it until somebody
 * claims them, the writeback job or a syncing caller.
 */
#ifndef VOLUME_WRITEBACK_H
#define VOLUME_WRITEBACK_H

#include "common/env.h"
#include "volume/job.h"

struct batch;
struct stream;

struct writeback {
	struct env *env;
	struct env_ioq *ioq; /* owned by the job's thread */
	unsigned int depth;
	unsigned int in_flight; /* the job's own */
	struct job job;

	struct mutex lock; /* rank LOCK_WRITEBACK; guards all below */
	struct batch *head, *tail;
};

/* mem: where most batches are, the ring's memory; or NULL. */
NODISCARD int writeback_init(struct writeback *w, struct env *env, unsigned int depth, void *mem,
			     size_t mem_bytes);
void writeback_done(struct writeback *w);
NODISCARD int writeback_start(struct writeback *w);
void writeback_stop(struct writeback *w); /* what is in flight is finished first */

/* Under the lock of the batch's stream: queue a complete batch; wake says start the job on it. */
void writeback_add(struct writeback *w, struct batch *b, bool wake);
/* Take a READY batch out of the queue, to write it oneself. False: somebody else has it. */
bool writeback_claim(struct writeback *w, struct batch *b);

#endif
