/*
 * scripted - a store that fails as the test says, call by call, and a clock that jumps to each
 * deadline, so that waiting is exact and takes no time. For tests of one thread.
 */
#ifndef TESTS_BACKEND_SUPPORT_SCRIPTED_H
#define TESTS_BACKEND_SUPPORT_SCRIPTED_H

#include "backend/backend_impl.h"
#include "common/thread.h"

#define STEPS_MAX 32

/* Install with sched_hook = &virtual_sched. */
extern struct sched virtual_sched;
extern uint64_t virtual_now_ns;

enum deed {
	FAIL,	   /* fail with the code, nothing done */
	LOSE,	   /* do it, then fail with the code */
	FLIP,	   /* a get: change a byte */
	HALF_LIST, /* a list: give one name, then fail with the code */
	SWAP_LIST, /* a list: give names in a wrong order */
};

struct step {
	enum deed deed;
	int code;
};

struct scripted {
	struct store store;
	struct store *below;
	struct step steps[STEPS_MAX]; /* one a call, whichever; then all goes through */
	unsigned int step_count, next;
	unsigned int puts, gets, heads, dels, lists, confirms, closes;
	uint64_t call_ns[STEPS_MAX];
	unsigned int calls;
};
extern struct scripted scripted;
extern const struct store_ops scripted_ops; /* of scripted.store, over scripted.below */

#endif
