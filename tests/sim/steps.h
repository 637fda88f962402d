/*
 * steps - short scripts that are cut off at each of their steps, one after the other.
 *
 * A script runs once. Before everything that outlives the process (calls of the env that change
 * something, commits and syncs of the metadata, puts and deletes of the store) the process forks
 * for a kill and for a power cut: the child dies there, starts again and must find what a list of
 * pictures allows: the pool as it was before the operation that was cut off, or as it is behind it;
 * behind it, where it was acknowledged. Then it deletes all, and nothing may be left but what every
 * pool has.
 *
 * Or calls of the env fail, one in each child, or allocations of the engine: these take nothing with
 * them but the action that says so.
 */
#ifndef TESTS_SIM_STEPS_H
#define TESTS_SIM_STEPS_H

#include "common/base.h"

/* Over all scripts; in shared memory, changed atomically. */
struct steps_totals {
	uint64_t scripts, steps;
	uint64_t kills, power_cuts;	       /* in children, at a step */
	uint64_t failed_calls, failed_actions; /* what failed in turn; what said so */
	uint64_t stuck;			       /* pools that said that they do not drain */
	uint64_t bad;			       /* children that found something wrong */
};

struct steps_args {
	const char *script; /* NULL: all */
	uint64_t only;	    /* this step alone, with a trace; 0: all */
	uint64_t every;	    /* so many steps from one to the next */
	bool calls;	    /* calls fail instead */
	bool allocations;   /* or allocations */
	bool all_deaths;    /* every way of dying at each step, not two of them in turn */
	bool fail_fast;	    /* a script ends with the first child that finds something wrong */
	uint64_t seed;
	unsigned int jobs;
};

/* Run the scripts, say what fails and print totals. Returns whether all was as it should be. */
NODISCARD bool steps_run(const struct steps_args *args);

#endif
