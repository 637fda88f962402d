#include "common/thread.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MEMORY_RETRY_NS UINT64_C(10000000)

struct sched *sched_hook;

/* ---- ranks: what this thread holds, in debug builds ---- */

#ifdef VPOOL_DEBUG_LOCKS

#define HELD_MAX 32

struct held {
	const void *lock;
	uint16_t rank;
};
static __thread struct held held[HELD_MAX];
static __thread unsigned int held_count;

/*
 * Coroutines share one thread, and with it these variables: under a scheduler nothing can be said
 * about who holds what.
 */
static bool held_is_tracked(void)
{
	return sched_hook == NULL;
}

/* To be called before waiting for the lock, so that a wrong order shows without a deadlock. */
static void held_check(const void *lock, uint16_t rank)
{
	if (!held_is_tracked())
		return;
	for (unsigned int i = 0; i < held_count; i++) {
		ASSERT(held[i].lock != lock);		  /* taken twice */
		ASSERT(rank == 0 || rank > held[i].rank); /* order of volume/LOCKS.md */
	}
}

static void held_add(const void *lock, uint16_t rank)
{
	if (!held_is_tracked())
		return;
	ASSERT(held_count < HELD_MAX);
	held[held_count++] = (struct held){ .lock = lock, .rank = rank };
}

/* Usually the newest; locks may be released in any order. */
static void held_remove(const void *lock)
{
	unsigned int i;

	if (!held_is_tracked())
		return;
	for (i = held_count; i > 0 && held[i - 1].lock != lock; i--)
		;
	ASSERT(i > 0); /* released by a thread that does not hold it */
	memmove(&held[i - 1], &held[i], (held_count - i) * sizeof(held[0]));
	held_count--;
}

static void held_assert(const void *lock)
{
	unsigned int i = held_count;

	if (!held_is_tracked())
		return;
	while (i > 0 && held[i - 1].lock != lock)
		i--;
	ASSERT(i > 0); /* waited on with a mutex that is not held */
}

#else

static inline void held_check(UNUSED const void *lock, UNUSED uint16_t rank)
{
}
static inline void held_add(UNUSED const void *lock, UNUSED uint16_t rank)
{
}
static inline void held_remove(UNUSED const void *lock)
{
}
static inline void held_assert(UNUSED const void *lock)
{
}

#endif

/* ---- mutex ---- */

void mutex_init(struct mutex *m, unsigned int rank)
{
	ASSERT(rank <= UINT16_MAX);
	*m = (struct mutex){ .rank = (uint16_t)rank };
	ASSERT(pthread_mutex_init(&m->m, NULL) == 0);
}

void mutex_done(struct mutex *m)
{
	ASSERT(m->sim_owner == NULL);
	ASSERT(pthread_mutex_destroy(&m->m) == 0);
}

/* Without ranks, for the lock inside rwlock. */
static void mutex_lock_plain(struct mutex *m)
{
	if (UNLIKELY(sched_hook != NULL))
		sched_hook->mutex_lock(sched_hook, m);
	else
		ASSERT(pthread_mutex_lock(&m->m) == 0);
}

static void mutex_unlock_plain(struct mutex *m)
{
	if (UNLIKELY(sched_hook != NULL))
		sched_hook->mutex_unlock(sched_hook, m);
	else
		ASSERT(pthread_mutex_unlock(&m->m) == 0);
}

void mutex_lock(struct mutex *m)
{
	held_check(m, m->rank);
	mutex_lock_plain(m);
	held_add(m, m->rank);
}

bool mutex_trylock(struct mutex *m)
{
	if (UNLIKELY(sched_hook != NULL)) {
		/* One thread runs everything, so nobody can take it between look and lock. */
		if (m->sim_owner != NULL)
			return false;
		sched_hook->mutex_lock(sched_hook, m);
	} else {
		int r = pthread_mutex_trylock(&m->m);

		ASSERT(r == 0 || r == EBUSY);
		if (r == EBUSY)
			return false;
	}
	/* A trial never waits, so it may come in any order of ranks. */
	held_add(m, m->rank);
	return true;
}

void mutex_unlock(struct mutex *m)
{
	held_remove(m);
	mutex_unlock_plain(m);
}

/* ---- cond ---- */

void cond_init(struct cond *c)
{
	pthread_condattr_t attr;

	ASSERT(pthread_condattr_init(&attr) == 0);
	ASSERT(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) == 0);
	ASSERT(pthread_cond_init(&c->c, &attr) == 0);
	ASSERT(pthread_condattr_destroy(&attr) == 0);
}

void cond_done(struct cond *c)
{
	ASSERT(pthread_cond_destroy(&c->c) == 0);
}

static void cond_wait_plain(struct cond *c, struct mutex *m, uint64_t deadline_ns)
{
	struct timespec deadline;
	int r;

	if (UNLIKELY(sched_hook != NULL)) {
		sched_hook->cond_wait(sched_hook, c, m, deadline_ns);
		return;
	}
	if (deadline_ns == WAIT_FOREVER) {
		ASSERT(pthread_cond_wait(&c->c, &m->m) == 0);
		return;
	}
	deadline.tv_sec = (time_t)(deadline_ns / 1000000000);
	deadline.tv_nsec = (long)(deadline_ns % 1000000000);
	r = pthread_cond_timedwait(&c->c, &m->m, &deadline);
	ASSERT(r == 0 || r == ETIMEDOUT);
}

void cond_wait(struct cond *c, struct mutex *m, uint64_t deadline_ns)
{
	held_assert(m);
	cond_wait_plain(c, m, deadline_ns);
}

void cond_signal(struct cond *c)
{
	if (UNLIKELY(sched_hook != NULL))
		sched_hook->cond_wake(sched_hook, c);
	else
		ASSERT(pthread_cond_signal(&c->c) == 0);
}

void cond_broadcast(struct cond *c)
{
	if (UNLIKELY(sched_hook != NULL))
		sched_hook->cond_wake(sched_hook, c);
	else
		ASSERT(pthread_cond_broadcast(&c->c) == 0);
}

void await_memory(struct mutex *m)
{
	struct cond nothing;

	cond_init(&nothing);
	cond_wait(&nothing, m, clock_mono_ns() + MEMORY_RETRY_NS);
	cond_done(&nothing);
}

/* ---- rwlock ----
 *
 * readers is the number of readers, or WRITER while a writer is in; it and writers_waiting are
 * atomic. A reader whom nobody hinders comes and goes with one atomic operation each; the mutex
 * and the condition are only for those who have to wait.
 *
 * No wake-up is lost: a writer first raises writers_waiting, then looks at readers; the last reader
 * first lowers readers, then looks at writers_waiting (all sequentially consistent). Whoever comes
 * second sees the other, and the writer holds the mutex from its look until it waits.
 */

#define WRITER (-1)

static bool try_reader_in(struct rwlock *l)
{
	int32_t readers = __atomic_load_n(&l->readers, __ATOMIC_RELAXED);

	while (readers != WRITER) {
		ASSERT(readers >= 0 && readers < INT32_MAX);
		if (__atomic_compare_exchange_n(&l->readers, &readers, readers + 1, true,
						__ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
			return true;
	}
	return false;
}

static bool try_writer_in(struct rwlock *l)
{
	int32_t nobody = 0;

	return __atomic_compare_exchange_n(&l->readers, &nobody, WRITER, false, __ATOMIC_SEQ_CST,
					   __ATOMIC_SEQ_CST);
}

static int32_t writers_waiting(const struct rwlock *l)
{
	return __atomic_load_n(&l->writers_waiting, __ATOMIC_SEQ_CST);
}

void rwlock_init(struct rwlock *l, unsigned int rank)
{
	*l = (struct rwlock){ .readers = 0 };
	mutex_init(&l->lock, rank);
	cond_init(&l->changed);
}

void rwlock_done(struct rwlock *l)
{
	ASSERT(l->readers == 0 && l->writers_waiting == 0 && !l->writer);
	cond_done(&l->changed);
	mutex_done(&l->lock);
}

static void read_lock_slow(struct rwlock *l)
{
	mutex_lock_plain(&l->lock);
	while (writers_waiting(l) > 0 || !try_reader_in(l))
		cond_wait_plain(&l->changed, &l->lock, WAIT_FOREVER);
	mutex_unlock_plain(&l->lock);
}

void rwlock_read_lock(struct rwlock *l)
{
	held_check(l, l->lock.rank);
	if (UNLIKELY(writers_waiting(l) > 0 || !try_reader_in(l)))
		read_lock_slow(l);
	held_add(l, l->lock.rank);
}

void rwlock_read_unlock(struct rwlock *l)
{
	int32_t before;

	held_remove(l);
	before = __atomic_fetch_sub(&l->readers, 1, __ATOMIC_SEQ_CST);
	ASSERT(before > 0);
	if (UNLIKELY(before == 1 && writers_waiting(l) > 0)) {
		mutex_lock_plain(&l->lock);
		cond_broadcast(&l->changed);
		mutex_unlock_plain(&l->lock);
	}
}

void rwlock_write_lock(struct rwlock *l)
{
	held_check(l, l->lock.rank);
	mutex_lock_plain(&l->lock);
	(void)__atomic_fetch_add(&l->writers_waiting, 1, __ATOMIC_SEQ_CST);
	while (!try_writer_in(l))
		cond_wait_plain(&l->changed, &l->lock, WAIT_FOREVER);
	(void)__atomic_fetch_sub(&l->writers_waiting, 1, __ATOMIC_SEQ_CST);
	l->writer = true;
	mutex_unlock_plain(&l->lock);
	held_add(l, l->lock.rank);
}

void rwlock_write_unlock(struct rwlock *l)
{
	held_remove(l);
	mutex_lock_plain(&l->lock);
	ASSERT(l->writer);
	l->writer = false;
	__atomic_store_n(&l->readers, 0, __ATOMIC_SEQ_CST);
	cond_broadcast(&l->changed);
	mutex_unlock_plain(&l->lock);
}

/* ---- threads and time ---- */

struct thread {
	pthread_t id;
	void (*fn)(void *);
	void *arg;
	char name[16]; /* what the kernel shows */
};

static void *thread_main(void *handle)
{
	struct thread *t = handle;

	/* A name is a help for the one who looks, not worth failing for. */
	(void)pthread_setname_np(pthread_self(), t->name);
	t->fn(t->arg);
	return NULL;
}

/* All signals but those that a thread's own fault raises: handlers of these must still run. */
static void signals_of_others(sigset_t *set)
{
	static const int own_faults[] = {
		SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS
	};

	(void)sigfillset(set);
	for (size_t i = 0; i < ARRAY_SIZE(own_faults); i++)
		(void)sigdelset(set, own_faults[i]);
}

int thread_start(const char *name, void (*fn)(void *), void *arg, struct thread **ret_thread)
{
	struct thread *t;
	sigset_t blocked, old;
	int r;

	if (UNLIKELY(sched_hook != NULL)) {
		t = sched_hook->spawn(sched_hook, name, fn, arg);
		if (t == NULL)
			return -EAGAIN;
		*ret_thread = t;
		return 0;
	}

	t = calloc(1, sizeof(*t));
	if (t == NULL)
		return -EAGAIN;
	t->fn = fn;
	t->arg = arg;
	memcpy(t->name, name, strnlen(name, sizeof(t->name) - 1));

	/* The mask is inherited, so that no signal finds the new thread before it blocks them. */
	signals_of_others(&blocked);
	ASSERT(pthread_sigmask(SIG_BLOCK, &blocked, &old) == 0);
	r = pthread_create(&t->id, NULL, thread_main, t);
	ASSERT(pthread_sigmask(SIG_SETMASK, &old, NULL) == 0);
	if (r != 0) {
		free(t);
		return -EAGAIN;
	}
	*ret_thread = t;
	return 0;
}

void thread_join(struct thread *t)
{
	if (UNLIKELY(sched_hook != NULL)) {
		sched_hook->join(sched_hook, t);
		return;
	}
	ASSERT(pthread_join(t->id, NULL) == 0);
	free(t);
}

uint64_t clock_mono_ns(void)
{
	struct timespec now;

	if (UNLIKELY(sched_hook != NULL))
		return sched_hook->now_mono_ns(sched_hook);
	ASSERT(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}
