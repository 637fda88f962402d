/*
 * support_sched - the smallest scheduler that common/thread.h can run on: coroutines of one thread,
 * taken in turn, every wait a switch. It makes the order of events in a test certain.
 */
#ifndef TESTS_COMMON_SUPPORT_SCHED_H
#define TESTS_COMMON_SUPPORT_SCHED_H

#include "common/thread.h"

/* Install it as sched_hook. Not with the thread sanitizer, which knows nothing of coroutines. */
void support_sched_install(void);

/* Run until every coroutine has ended, and uninstall it. false: the rest waits for ever. */
bool support_sched_run(void);

/* Let the others go first; only in a coroutine. */
void support_sched_yield(void);

/* Calls that went to the scheduler since it was installed. */
unsigned int support_sched_calls(void);

#endif
