#include "common/parallel.h"

#include "common/thread.h"

struct pieces {
	void (*fn)(void *arg, size_t i);
	void *arg;
	size_t next, count; /* next: atomic */
};

static void do_pieces(void *arg)
{
	struct pieces *p = arg;
	size_t i;

	while ((i = __atomic_fetch_add(&p->next, 1, __ATOMIC_RELAXED)) < p->count)
		p->fn(p->arg, i);
}

void parallel_each(unsigned int threads, size_t count, void (*fn)(void *arg, size_t i), void *arg)
{
	struct thread *helpers[PARALLEL_THREADS_MAX];
	struct pieces p = { .fn = fn, .arg = arg, .count = count };
	unsigned int started = 0;

	while (started < PARALLEL_THREADS_MAX && started + 1 < threads && started + 1 < count &&
	       thread_start("parallel", do_pieces, &p, &helpers[started]) == 0)
		started++;
	do_pieces(&p);
	while (started > 0)
		thread_join(helpers[--started]);
}
