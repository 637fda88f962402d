/*
 * router - what stands between users of backend.h and a store; see router.c. Private to backend
 * and its tests.
 */
#ifndef BACKEND_ROUTER_H
#define BACKEND_ROUTER_H

#include "backend/backend_impl.h"
#include "common/metrics.h"

struct router_metrics {
	struct counter put_bytes, get_bytes;
	struct counter retries, failures, timeouts;
	struct counter checksum_failures, cut_reads, lost_answers;
	struct gauge in_flight, waiting;
	struct histogram put_ns, get_ns, head_ns, delete_ns, delete_many_ns, list_ns;
};

/* Units: valid as long as b. Threads: any, read with counter_get() and its like. */
const struct router_metrics *router_metrics(const struct backend *b);

/* How many tries stand in the queue for their turn; unlike the gauge never ahead of the truth. */
unsigned int router_waiting(struct backend *b);

/* The largest backend_options.concurrency_max. */
#define ROUTER_CONCURRENCY_MAX 1024u

#endif
