#include "tests/common/support_sched.h"

#include <stdlib.h>
#include <ucontext.h>

#define COROUTINES_MAX 8
#define STACK_BYTES    ((size_t)256 << 10)
#define TURNS_MAX      10000

struct thread {
	ucontext_t context;
	void (*fn)(void *);
	void *arg;
	const struct cond *waits_for; /* NULL: can run */
	bool ended;
	void *stack;
};

static struct thread *all[COROUTINES_MAX];
static unsigned int count;
static struct thread *current;
static ucontext_t outside;
static unsigned int calls;
static uint64_t time_ns;

void support_sched_yield(void)
{
	ASSERT(current != NULL);
	ASSERT(swapcontext(&current->context, &outside) == 0);
}

static void sim_mutex_lock(UNUSED struct sched *s, struct mutex *m)
{
	calls++;
	while (m->sim_owner != NULL)
		support_sched_yield();
	m->sim_owner = current != NULL ? (void *)current : (void *)&outside;
}

static void sim_mutex_unlock(UNUSED struct sched *s, struct mutex *m)
{
	calls++;
	ASSERT(m->sim_owner == (current != NULL ? (void *)current : (void *)&outside));
	m->sim_owner = NULL;
}

static void sim_cond_wait(struct sched *s, struct cond *c, struct mutex *m, uint64_t deadline_ns)
{
	calls++;
	sim_mutex_unlock(s, m);
	if (deadline_ns == WAIT_FOREVER)
		current->waits_for = c;
	else
		time_ns = max_u64(time_ns, deadline_ns); /* nothing else makes time pass */
	support_sched_yield();
	sim_mutex_lock(s, m);
}

static void sim_cond_wake(UNUSED struct sched *s, struct cond *c)
{
	calls++;
	for (unsigned int i = 0; i < count; i++) {
		if (all[i]->waits_for == c)
			all[i]->waits_for = NULL;
	}
}

static void coroutine_main(void)
{
	current->fn(current->arg);
	current->ended = true;
	support_sched_yield();
}

/* Apart from sim_spawn(), since getcontext() returns twice, which compilers distrust. */
static void context_make(struct thread *t)
{
	ASSERT(getcontext(&t->context) == 0);
	t->context.uc_stack.ss_sp = t->stack;
	t->context.uc_stack.ss_size = STACK_BYTES;
	makecontext(&t->context, coroutine_main, 0);
}

static struct thread *sim_spawn(UNUSED struct sched *s, UNUSED const char *name, void (*fn)(void *),
				void *arg)
{
	struct thread *t;

	calls++;
	if (count == COROUTINES_MAX)
		return NULL;
	t = calloc(1, sizeof(*t));
	ASSERT(t != NULL);
	t->fn = fn;
	t->arg = arg;
	t->stack = malloc(STACK_BYTES);
	ASSERT(t->stack != NULL);
	context_make(t);
	all[count++] = t;
	return t;
}

static void sim_join(UNUSED struct sched *s, struct thread *t)
{
	calls++;
	while (!t->ended)
		support_sched_yield();
}

static uint64_t sim_now_mono_ns(UNUSED struct sched *s)
{
	calls++;
	return time_ns;
}

static struct sched sim = {
	.mutex_lock = sim_mutex_lock,
	.mutex_unlock = sim_mutex_unlock,
	.cond_wait = sim_cond_wait,
	.cond_wake = sim_cond_wake,
	.spawn = sim_spawn,
	.join = sim_join,
	.now_mono_ns = sim_now_mono_ns,
};

void support_sched_install(void)
{
	count = 0;
	calls = 0;
	time_ns = 1000;
	sched_hook = &sim;
}

bool support_sched_run(void)
{
	unsigned int running = 1;

	for (int turn = 0; turn < TURNS_MAX && running > 0; turn++) {
		running = 0;
		for (unsigned int i = 0; i < count; i++) {
			if (all[i]->ended)
				continue;
			running++;
			if (all[i]->waits_for != NULL)
				continue;
			current = all[i];
			ASSERT(swapcontext(&outside, &current->context) == 0);
			current = NULL;
		}
	}
	for (unsigned int i = 0; i < count; i++) {
		free(all[i]->stack);
		free(all[i]);
	}
	count = 0;
	sched_hook = NULL;
	return running == 0;
}

unsigned int support_sched_calls(void)
{
	return calls;
}
