/*
 * sim_sched - coroutines for threads, a clock that moves when nobody can, and sudden death.
 *
 * A free mutex is taken without a switch before it (a caller that has looked and found it free, as
 * trylock does, must get it); the switches come after taking and after releasing, which explores
 * the same orders.
 */
#include "tests/sim/sim_impl.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIM_ASAN 1
#endif
#if __has_feature(thread_sanitizer)
#define SIM_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SIM_ASAN 1
#endif
#if defined(__SANITIZE_THREAD__)
#define SIM_TSAN 1
#endif

#ifdef SIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif
#ifdef SIM_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#define SIM_GUARD_BYTES 4096u

#if defined(SIM_ASAN) || defined(SIM_TSAN)
#define SIM_STACK_BYTES (1u << 20)
#else
#define SIM_STACK_BYTES (256u << 10)
#endif

struct sim *sim_active;

/* Never the same twice, so that a static mutex that a dead process held counts as free. */
static uint64_t generations;

/* ---- stacks and switching ------------------------------------------------------------------- */

static struct stack *stack_get(struct sim *sim)
{
	struct stack *st = sim->free_stacks;
	uint8_t *mem;

	if (st) {
		sim->free_stacks = st->next;
#ifdef SIM_ASAN
		/* Whoever died on it left its red zones behind. */
		__asan_unpoison_memory_region(st->base, st->bytes);
#endif
		return st;
	}
	st = sim_alloc(sizeof(*st));
	st->bytes = (size_t)round_up_u64(sim->opts.stack_bytes, SIM_PAGE_BYTES);
	mem = mmap(NULL, st->bytes + SIM_GUARD_BYTES, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT(mem != MAP_FAILED);
	ASSERT(mprotect(mem, SIM_GUARD_BYTES, PROT_NONE) == 0);
	st->base = mem + SIM_GUARD_BYTES;
	return st;
}

static void stack_put(struct sim *sim, struct stack *st)
{
	st->next = sim->free_stacks;
	sim->free_stacks = st;
}

static void stacks_free(struct sim *sim)
{
	struct stack *st;

	while ((st = sim->free_stacks)) {
		sim->free_stacks = st->next;
#ifdef SIM_ASAN
		__asan_unpoison_memory_region(st->base, st->bytes);
#endif
		(void)munmap(st->base - SIM_GUARD_BYTES, st->bytes + SIM_GUARD_BYTES);
		free(st);
	}
}

/* Tell the sanitizers that the stack changes. from_ends: nobody comes back to `from`. */
static void announce_switch(struct sim *sim UNUSED, struct co *from UNUSED, struct co *to UNUSED,
			    bool from_ends UNUSED)
{
#ifdef SIM_ASAN
	const void *base = to->stack ? to->stack->base : sim->harness_stack;
	size_t bytes = to->stack ? to->stack->bytes : sim->harness_stack_bytes;

	__sanitizer_start_switch_fiber(from_ends ? NULL : &from->asan_fake_stack, base, bytes);
#endif
#ifdef SIM_TSAN
	__tsan_switch_to_fiber(to->tsan_fiber, 0);
#endif
}

static void announce_arrival(struct sim *sim UNUSED, struct co *self UNUSED, bool first UNUSED)
{
#ifdef SIM_ASAN
	const void *old_base;
	size_t old_bytes;

	__sanitizer_finish_switch_fiber(self->asan_fake_stack, &old_base, &old_bytes);
	if (first && !sim->harness_stack) {
		sim->harness_stack = old_base;
		sim->harness_stack_bytes = old_bytes;
	}
#endif
}

static void switch_to(struct sim *sim, struct co *from, struct co *to, bool from_ends)
{
	announce_switch(sim, from, to, from_ends);
	if (swapcontext(&from->context, &to->context) != 0)
		abort();
	announce_arrival(sim, from, false);
}

/* ---- who runs ------------------------------------------------------------------------------- */

static void make_ready(struct sim *sim, struct co *co)
{
	co->state = CO_READY;
	co->waits_on = NULL;
	co->wake_ns = SIM_NEVER;
	SIM_ROOM(sim->ready, sim->ready_count, sim->ready_cap);
	sim->ready[sim->ready_count++] = co;
}

void sim_wake(struct sim *sim, struct co *co)
{
	if (co->state != CO_READY && co->state != CO_DONE)
		make_ready(sim, co);
}

void sim_due_at(struct sim *sim, uint64_t ns)
{
	sim->next_due_ns = min_u64(sim->next_due_ns, ns);
}

static void fire_timers(struct sim *sim)
{
	uint64_t next = ioq_fire(sim);

	for (size_t i = 0; i < sim->co_count; i++) {
		struct co *co = sim->cos[i];

		if (co->wake_ns <= sim->now_ns)
			sim_wake(sim, co);
		else
			next = min_u64(next, co->wake_ns);
	}
	sim->next_due_ns = next;
}

/* Nothing can run now: go to the moment when something can. */
static void advance_clock(struct sim *sim)
{
	while (sim->ready_count == 0) {
		if (sim->next_due_ns == SIM_NEVER)
			sim_fail(sim, "stuck: every thread waits, and for nothing that will come");
		sim->now_ns = max_u64(sim->now_ns, sim->next_due_ns);
		fire_timers(sim);
	}
}

/* Let a thread run that is ready; the caller has put itself among them, or waits, or has ended. */
static void reschedule(struct sim *sim, bool self_ends)
{
	struct co *self = sim->cur;
	struct co *next;
	size_t i;

	advance_clock(sim);
	i = (size_t)rng_below(&sim->rng_sched, sim->ready_count);
	next = sim->ready[i];
	sim->ready[i] = sim->ready[--sim->ready_count];
	sim_mix(sim, next->id);
	if (next == self)
		return;
	sim->stats.switches++;
	sim->cur = next;
	switch_to(sim, self, next, self_ends);
}

void sim_block(struct sim *sim, enum co_state state, const void *waits_on, uint64_t wake_ns)
{
	struct co *self = sim->cur;

	self->state = state;
	self->waits_on = waits_on;
	self->wake_ns = wake_ns;
	sim_due_at(sim, wake_ns);
	reschedule(sim, false);
}

void sim_yield(struct sim *sim)
{
	ASSERT(sim->cur);
	make_ready(sim, sim->cur);
	reschedule(sim, false);
}

void sim_sleep_ns(struct sim *sim, uint64_t ns)
{
	ASSERT(sim->cur);
	sim_block(sim, CO_SLEEP, NULL, sim->now_ns + ns);
}

void sim_step(struct sim *sim)
{
	uint64_t r;

	if (!sim->cur)
		return;
	r = rng_next(&sim->rng_sched);
	sim->stats.steps++;
	if (++sim->run_steps > sim->opts.steps_max) {
		if (sim->opts.waits_for_a_start && sim->opts.waits_for_a_start(sim->opts.arg))
			sim_die(sim, SIM_KILL);
		sim_fail(sim, "no progress: %" PRIu64 " steps in one process", sim->run_steps);
	}
	sim->now_ns += 20 + (r & 127);
	if (sim->crash_steps != 0 && --sim->crash_steps == 0)
		sim_die(sim, sim->crash_kind);
	if (sim->now_ns >= sim->next_due_ns)
		fire_timers(sim);
	if (r >> 40 < sim->preempt24)
		sim_yield(sim);
}

/* ---- struct sched --------------------------------------------------------------------------- */

static struct sim *sim_of_sched(struct sched *s)
{
	struct sim *sim = CONTAINER_OF(s, struct sim, sched);

	ASSERT(sim->cur);
	return sim;
}

static void *owner_token(const struct sim *sim, const struct co *co)
{
	return (void *)(uintptr_t)(sim->generation << 20 | (co->id + 1));
}

static bool is_held(const struct sim *sim, const struct mutex *m)
{
	return (uintptr_t)m->sim_owner >> 20 == sim->generation;
}

static void check_rank(struct sim *sim, const struct mutex *m)
{
	const struct co *self = sim->cur;

	if (m->rank == 0 || !sim->opts.ranks_checked)
		return;
	for (unsigned int i = 0; i < self->held_count; i++)
		if (self->held[i]->rank >= m->rank)
			sim_fail(sim, "thread '%s' takes a lock of rank %u while it holds rank %u",
				 self->name, m->rank, self->held[i]->rank);
}

static void take(struct sim *sim, struct mutex *m)
{
	struct co *self = sim->cur;

	if (m->sim_owner == owner_token(sim, self))
		sim_fail(sim, "thread '%s' locks a mutex (rank %u) that it holds", self->name,
			 m->rank);
	while (is_held(sim, m))
		sim_block(sim, CO_MUTEX, m, SIM_NEVER);
	m->sim_owner = owner_token(sim, self);
	ASSERT(self->held_count < SIM_HELD_MAX);
	self->held[self->held_count++] = m;
}

static void release(struct sim *sim, struct mutex *m)
{
	struct co *self = sim->cur;
	unsigned int i = self->held_count;

	if (m->sim_owner != owner_token(sim, self))
		sim_fail(sim, "thread '%s' unlocks a mutex (rank %u) that it does not hold",
			 self->name, m->rank);
	while (self->held[--i] != m)
		ASSERT(i > 0);
	self->held_count--;
	for (; i < self->held_count; i++)
		self->held[i] = self->held[i + 1];
	m->sim_owner = NULL;
	for (size_t k = 0; k < sim->co_count; k++)
		if (sim->cos[k]->state == CO_MUTEX && sim->cos[k]->waits_on == m)
			sim_wake(sim, sim->cos[k]);
}

static void sched_mutex_lock(struct sched *s, struct mutex *m)
{
	struct sim *sim = sim_of_sched(s);

	check_rank(sim, m);
	take(sim, m);
	sim_step(sim);
}

static void sched_mutex_unlock(struct sched *s, struct mutex *m)
{
	struct sim *sim = sim_of_sched(s);

	release(sim, m);
	sim_step(sim);
}

static void sched_cond_wait(struct sched *s, struct cond *c, struct mutex *m, uint64_t deadline_ns)
{
	struct sim *sim = sim_of_sched(s);

	release(sim, m);
	if (rng_ppm(&sim->rng_sched, sim->opts.spurious_ppm)) {
		sim->stats.spurious_wakeups++;
		sim_yield(sim);
	} else if (deadline_ns <= sim->now_ns) {
		sim_yield(sim);
	} else {
		sim_block(sim, CO_COND, c, deadline_ns);
	}
	take(sim, m);
	sim_step(sim);
}

static void sched_cond_wake(struct sched *s, struct cond *c)
{
	struct sim *sim = sim_of_sched(s);

	for (size_t i = 0; i < sim->co_count; i++)
		if (sim->cos[i]->state == CO_COND && sim->cos[i]->waits_on == c)
			sim_wake(sim, sim->cos[i]);
	sim_step(sim);
}

static void co_main(void)
{
	struct sim *sim = sim_active;
	struct co *self = sim->cur;

	announce_arrival(sim, self, true);
	self->fn(self->arg);
	if (self->held_count != 0)
		sim_fail(sim, "thread '%s' ended holding a lock of rank %u", self->name,
			 self->held[0]->rank);
	self->state = CO_DONE;
	if (self->id == 0) {
		switch_to(sim, self, &sim->harness, true);
	} else {
		if (self->joiner)
			sim_wake(sim, self->joiner);
		/* Nobody starts on it before we have left. */
		stack_put(sim, self->stack);
		self->stack = NULL;
		reschedule(sim, true);
	}
	abort();
}

static struct co *spawn(struct sim *sim, const char *name, void (*fn)(void *), void *arg)
{
	struct co *co = sim_alloc(sizeof(*co));

	co->id = sim->next_co_id++;
	co->fn = fn;
	co->arg = arg;
	(void)snprintf(co->name, sizeof(co->name), "%s", name ? name : "");
	co->stack = stack_get(sim);
	if (getcontext(&co->context) != 0)
		abort();
	co->context.uc_stack.ss_sp = co->stack->base;
	co->context.uc_stack.ss_size = co->stack->bytes;
	co->context.uc_link = NULL;
	makecontext(&co->context, co_main, 0);
#ifdef SIM_TSAN
	co->tsan_fiber = __tsan_create_fiber(0);
#endif
	SIM_ROOM(sim->cos, sim->co_count, sim->co_cap);
	sim->cos[sim->co_count++] = co;
	make_ready(sim, co);
	return co;
}

static void co_free(struct co *co)
{
#ifdef SIM_TSAN
	__tsan_destroy_fiber(co->tsan_fiber);
#endif
	free(co);
}

/* A thread handle is a coroutine; nobody but us looks into it. */
static struct thread *sched_spawn(struct sched *s, const char *name, void (*fn)(void *), void *arg)
{
	struct sim *sim = sim_of_sched(s);
	struct co *co;

	if (rng_ppm(&sim->rng_fault, sim->faults.spawn_ppm))
		return NULL;
	co = spawn(sim, name, fn, arg);
	sim->stats.threads_started++;
	sim_step(sim);
	return (struct thread *)co;
}

static void sched_join(struct sched *s, struct thread *t)
{
	struct sim *sim = sim_of_sched(s);
	struct co *co = (struct co *)t;
	size_t i = 0;

	while (co->state != CO_DONE) {
		co->joiner = sim->cur;
		sim_block(sim, CO_JOIN, co, SIM_NEVER);
	}
	while (sim->cos[i] != co)
		i++;
	sim->cos[i] = sim->cos[--sim->co_count];
	co_free(co);
}

static uint64_t sched_now(struct sched *s)
{
	struct sim *sim = sim_of_sched(s);

	sim_step(sim);
	return sim->now_ns;
}

void sim_sched_init(struct sim *sim)
{
	uint32_t ppm = sim->opts.preempt_ppm;
	static const uint32_t habits[] = { 2000, 20000, 100000, 300000 };

	sim->sched = (struct sched){
		.mutex_lock = sched_mutex_lock,
		.mutex_unlock = sched_mutex_unlock,
		.cond_wait = sched_cond_wait,
		.cond_wake = sched_cond_wake,
		.spawn = sched_spawn,
		.join = sched_join,
		.now_mono_ns = sched_now,
	};
	if (sim->opts.stack_bytes == 0)
		sim->opts.stack_bytes = SIM_STACK_BYTES;
	if (ppm == SIM_PICK)
		ppm = habits[rng_below(&sim->rng_sched, ARRAY_SIZE(habits))];
	sim->preempt24 = (uint32_t)(((uint64_t)ppm << 24) / 1000000);
	sim->next_due_ns = SIM_NEVER;
}

void sim_sched_done(struct sim *sim)
{
	ASSERT(!sim->cur);
	stacks_free(sim);
	free(sim->cos);
	free(sim->ready);
}

/* ---- processes ------------------------------------------------------------------------------ */

void sim_drop_threads(struct sim *sim)
{
	for (size_t i = 0; i < sim->co_count; i++) {
		if (sim->cos[i]->stack)
			stack_put(sim, sim->cos[i]->stack);
		co_free(sim->cos[i]);
	}
	sim->co_count = 0;
	sim->ready_count = 0;
	sim->next_due_ns = SIM_NEVER;
}

void sim_die(struct sim *sim, enum sim_crash kind)
{
	ASSERT(sim->cur);
	sim->died_of = kind;
	sim_trace(sim, kind == SIM_POWER ? "POWER CUT" : "KILLED", "", 0, 0, 0);
	switch_to(sim, sim->cur, &sim->harness, true);
	abort();
}

enum sim_result sim_run(struct sim *sim, void (*fn)(void *arg), void *arg)
{
	struct sched *outer = sched_hook;
	enum sim_crash died_of;

	ASSERT(!sim->cur && !sim_active && !outer);
	sim->stats.runs++;
	sim->generation = ++generations;
	sim->next_co_id = 0;
	sim->run_steps = 0;
	sim->died_of = 0;
	sim_mix(sim, sim->stats.runs);
#ifdef SIM_ASAN
	if (!sim->opts.leaks_checked)
		__lsan_disable();
#endif
#ifdef SIM_TSAN
	sim->harness.tsan_fiber = __tsan_get_current_fiber();
#endif
	sim_active = sim;
	sched_hook = &sim->sched;
	sim->harness_stack = NULL;
	(void)spawn(sim, "main", fn, arg);
	sim->cur = sim->ready[--sim->ready_count];
	switch_to(sim, &sim->harness, sim->cur, false);
	sim->cur = NULL;
	sim_active = NULL;
	sched_hook = NULL;
#ifdef SIM_ASAN
	if (!sim->opts.leaks_checked)
		__lsan_enable();
#endif
	died_of = sim->died_of;
	power_process_ends(sim, died_of);
	return died_of ? SIM_CRASHED : SIM_DONE;
}

void sim_crash_at(struct sim *sim, uint64_t effect_calls, enum sim_crash kind)
{
	sim->crash_effects = effect_calls;
	sim->crash_in_call = false;
	sim->crash_steps = 0;
	sim->crash_kind = kind;
}

void sim_crash_in_call(struct sim *sim, enum sim_crash kind)
{
	sim_crash_at(sim, 1, kind);
	sim->crash_in_call = true;
}

void sim_crash_at_step(struct sim *sim, uint64_t steps, enum sim_crash kind)
{
	sim->crash_effects = 0;
	sim->crash_steps = steps;
	sim->crash_kind = kind;
}

void sim_crash_cancel(struct sim *sim)
{
	sim->crash_effects = 0;
	sim->crash_steps = 0;
}

void sim_crash_now(struct sim *sim, enum sim_crash kind)
{
	if (sim->cur)
		sim_die(sim, kind);
	if (kind == SIM_POWER)
		power_cut(sim);
}

bool sim_inside(const struct sim *sim)
{
	return sim->cur != NULL;
}

uint64_t sim_now_ns(struct sim *sim)
{
	return sim->now_ns;
}

const char *sim_co_state_name(enum co_state state)
{
	static const char *const names[] = {
		[CO_READY] = "ready",
		[CO_MUTEX] = "waits for a mutex",
		[CO_COND] = "waits for a condition",
		[CO_SLEEP] = "sleeps",
		[CO_JOIN] = "joins a thread",
		[CO_IO] = "waits for a write",
		[CO_DONE] = "ended",
	};

	return names[state];
}
