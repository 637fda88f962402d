/*
 * thread - mutex, condition, reader-writer lock and threads behind the seam of the simulator.
 *
 * In a process that serves users these are pthreads. When a scheduler is installed (the simulator,
 * one thread, coroutines) every call that could wait goes to it instead: `sched_hook` is NULL
 * otherwise, which costs one predictable branch.
 *
 * Ranks: a lock may be taken only while all locks held have a lower rank (volume/LOCKS.md). Debug
 * builds (VPOOL_DEBUG_LOCKS) check it. Rank 0 means "not ranked".
 */
#ifndef COMMON_THREAD_H
#define COMMON_THREAD_H

#include "common/base.h"

#include <pthread.h>

struct mutex {
	pthread_mutex_t m;
	void *sim_owner; /* the coroutine that holds it, under a scheduler */
	uint16_t rank;
};

struct cond {
	pthread_cond_t c; /* CLOCK_MONOTONIC */
};

/*
 * Many readers or one writer; a waiting writer holds back new readers, so no thread may read-lock
 * twice. Memory: a reader may still look at the lock after it let a writer in; free a lock only
 * when no thread can be inside a call on it (by a reference count, say), not merely when it is free.
 */
struct rwlock {
	struct mutex lock;
	struct cond changed;
	int32_t readers;
	int32_t writers_waiting;
	bool writer;
};

struct thread;

/* What a simulator provides. All calls come from its own single thread. */
struct sched {
	void (*mutex_lock)(struct sched *s, struct mutex *m);
	void (*mutex_unlock)(struct sched *s, struct mutex *m);
	/* Release m, let others run, take m again. May return without a signal (spurious). */
	void (*cond_wait)(struct sched *s, struct cond *c, struct mutex *m, uint64_t deadline_ns);
	void (*cond_wake)(struct sched *s, struct cond *c);
	struct thread *(*spawn)(struct sched *s, const char *name, void (*fn)(void *), void *arg);
	void (*join)(struct sched *s, struct thread *t);
	uint64_t (*now_mono_ns)(struct sched *s);
};
extern struct sched *sched_hook;

#define WAIT_FOREVER UINT64_MAX

void mutex_init(struct mutex *m, unsigned int rank);
void mutex_done(struct mutex *m);
void mutex_lock(struct mutex *m);
bool mutex_trylock(struct mutex *m);
void mutex_unlock(struct mutex *m);

void cond_init(struct cond *c);
void cond_done(struct cond *c);
/* Wait until woken, deadline (monotonic ns, WAIT_FOREVER) or for no reason: callers loop. */
void cond_wait(struct cond *c, struct mutex *m, uint64_t deadline_ns);
void cond_signal(struct cond *c);
void cond_broadcast(struct cond *c);
/*
 * What was done outside of RAM and only has to be noted in it cannot fail for want of memory: whoever
 * notes it waits here a moment and tries again. m is given up meanwhile, and held again on return.
 */
void await_memory(struct mutex *m);

void rwlock_init(struct rwlock *l, unsigned int rank);
void rwlock_done(struct rwlock *l);
void rwlock_read_lock(struct rwlock *l);
void rwlock_read_unlock(struct rwlock *l);
void rwlock_write_lock(struct rwlock *l);
void rwlock_write_unlock(struct rwlock *l);

/*
 * Start a thread (a coroutine under a scheduler); signals stay blocked in it.
 * Owns: the handle, until thread_join() frees it. name is copied, at most 15 bytes show.
 * Errors: -EAGAIN no more threads.
 */
NODISCARD int thread_start(const char *name, void (*fn)(void *), void *arg,
			   struct thread **ret_thread);
void thread_join(struct thread *t);

/* Monotonic nanoseconds of the scheduler in force. */
uint64_t clock_mono_ns(void);

/* Scope guard: GUARD(&x->lock); unlocks at the end of the block. */
static inline struct mutex *mutex_lock_scoped(struct mutex *m)
{
	mutex_lock(m);
	return m;
}
static inline void mutex_unlock_scoped(struct mutex **m)
{
	mutex_unlock(*m);
}
#define GUARD_CAT2(a, b) a##b
#define GUARD_CAT(a, b)	 GUARD_CAT2(a, b)
#define GUARD(m)                                                                                   \
	struct mutex *GUARD_CAT(guard_, __LINE__) AUTO(mutex_unlock_scoped) UNUSED =               \
		mutex_lock_scoped(m)

#endif
