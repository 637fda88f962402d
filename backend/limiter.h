/*
 * limiter - at most so many at a time, served in the order they came.
 *
 * Who releases hands the slot to the first in the queue, so nobody overtakes and nobody starves.
 */
#ifndef BACKEND_LIMITER_H
#define BACKEND_LIMITER_H

#include "common/thread.h"

struct limiter_waiter;

struct limiter {
	unsigned int max;

	struct mutex lock; /* not ranked: nothing is taken while it is held */
	unsigned int in_use;
	unsigned int waiting;
	struct limiter_waiter *first, **last;
	bool closed; /* nobody gets a slot */
	struct cond closing;
};

void limiter_init(struct limiter *l, unsigned int max);
void limiter_done(struct limiter *l); /* nobody holds a slot or waits */

/*
 * Take a slot.
 * Errors:   -ETIMEDOUT the deadline (monotonic ns) came first; -ESHUTDOWN closed.
 * Threads:  any; blocks.
 */
NODISCARD int limiter_acquire(struct limiter *l, uint64_t deadline_ns);
void limiter_release(struct limiter *l);

/* Whoever waits ends, and nobody gets in until it is opened again. Slots in use stay so. */
void limiter_close(struct limiter *l, bool closed);

/* Wait without a slot. Errors: -ESHUTDOWN it is closed, perhaps before the deadline. */
NODISCARD int limiter_sleep(struct limiter *l, uint64_t deadline_ns);

/* How many wait now, for gauges and tests. */
unsigned int limiter_waiting(struct limiter *l);

#endif
