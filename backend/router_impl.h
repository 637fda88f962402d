/*
 * router_impl - what the files of the router share: one call, which is tried until it ends (router.c
 * says how). Private to router*.c.
 */
#ifndef BACKEND_ROUTER_IMPL_H
#define BACKEND_ROUTER_IMPL_H

#include "backend/limiter.h"
#include "backend/router.h"

#include <stdatomic.h>

struct backend {
	struct env *env;
	struct store *store;
	char *url;			/* without user name and password */
	struct backend_options options; /* defaults filled in */
	struct limiter limiter;
	struct router_metrics metrics;
	struct metrics_group metrics_group;
	_Atomic unsigned int delete_many_now; /* names a request, see learn_many() */
};

struct call {
	struct backend *b;
	uint64_t start_ns, deadline_ns;
	unsigned int attempts; /* that have ended */
	uint64_t backoff_ns;
};

void call_start(struct call *c, struct backend *b);
/* Begin a try: take a slot, for call_leave(). */
NODISCARD int call_enter(struct call *c, struct err *e);
void call_leave(struct call *c);
/* After a try that ended with *r: wait and say true when there is to be another one. */
NODISCARD bool call_again(struct call *c, int *r, struct err *e);
/* Count it; returns r. */
int call_end(struct call *c, struct histogram *latency, int r);

/* router_delete.c: names that the next request to delete many may have; 0: the store has none. */
unsigned int router_many_now(const struct backend *b);

#endif
