/*
 * The simulator's threads: order from the seed, exclusion, waiting, virtual time, death.
 */
#include "tests/sim/sim.h"

#include <check.h>
#include <signal.h>
#include <stdlib.h>

#define COUNTERS 4

struct world {
	struct sim *sim;
	struct mutex lock;
	struct cond changed;
	struct thread *threads[COUNTERS];
	char order[64];
	unsigned int order_count;
	unsigned int inside, inside_max;
	unsigned int done;
	uint64_t from_ns, to_ns;
	int phase;
};

static void world_init(struct world *w, uint64_t seed)
{
	const struct sim_opts opts = { .preempt_ppm = 200000 };

	*w = (struct world){ .sim = sim_new(seed, &opts) };
	mutex_init(&w->lock, 0);
	cond_init(&w->changed);
}

static void world_done(struct world *w)
{
	sim_check(w->sim);
	sim_free(w->sim);
}

static void write_letters(struct world *w, char letter)
{
	struct env *env = sim_env(w->sim);

	for (int i = 0; i < 10; i++) {
		(void)env_now_mono_ns(env);
		w->order[w->order_count++] = letter;
	}
}

static void letter_a(void *arg)
{
	write_letters(arg, 'a');
}

static void two_letters(void *arg)
{
	struct world *w = arg;

	ck_assert_int_eq(thread_start("a", letter_a, w, &w->threads[0]), 0);
	write_letters(w, 'b');
	thread_join(w->threads[0]);
}

static uint64_t run_letters(uint64_t seed, char ret_order[64])
{
	struct world w;
	uint64_t fingerprint;

	world_init(&w, seed);
	ck_assert_int_eq(sim_run(w.sim, two_letters, &w), SIM_DONE);
	ck_assert_uint_eq(w.order_count, 20);
	memcpy(ret_order, w.order, 64);
	fingerprint = sim_fingerprint(w.sim);
	world_done(&w);
	return fingerprint;
}

START_TEST(same_seed_gives_the_same_order_and_fingerprint_and_others_differ)
{
	char first[64], again[64];
	int differ = 0, mixed = 0;

	for (uint64_t seed = 1; seed <= 50; seed++) {
		uint64_t fingerprint = run_letters(seed, first);
		char other[64];

		ck_assert_uint_eq(run_letters(seed, again), fingerprint);
		ck_assert_mem_eq(first, again, sizeof(first));
		ck_assert_uint_ne(run_letters(seed + 1000, other), fingerprint);
		differ += memcmp(first, other, sizeof(first)) != 0;
		mixed += memcmp(first, "aaaaaaaaaabbbbbbbbbb", 20) != 0 &&
			 memcmp(first, "bbbbbbbbbbaaaaaaaaaa", 20) != 0;
	}
	ck_assert_int_gt(differ, 40);
	ck_assert_int_gt(mixed, 10);
}
END_TEST

static void enter_often(void *arg)
{
	struct world *w = arg;

	for (int i = 0; i < 20; i++) {
		GUARD(&w->lock);
		w->inside++;
		w->inside_max = w->inside > w->inside_max ? w->inside : w->inside_max;
		sim_yield(w->sim);
		w->inside--;
	}
	w->done++;
}

static void start_counters(void *arg)
{
	struct world *w = arg;

	for (int i = 0; i < COUNTERS; i++)
		ck_assert_int_eq(thread_start("counter", enter_often, w, &w->threads[i]), 0);
	for (int i = 0; i < COUNTERS; i++)
		thread_join(w->threads[i]);
}

START_TEST(mutex_lets_one_thread_in_at_a_time)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct world w;

		world_init(&w, seed);
		ck_assert_int_eq(sim_run(w.sim, start_counters, &w), SIM_DONE);
		ck_assert_uint_eq(w.inside_max, 1);
		ck_assert_uint_eq(w.done, COUNTERS);
		ck_assert_uint_eq(sim_stats(w.sim)->threads_left, 0);
		world_done(&w);
	}
}
END_TEST

static void try_while_held(void *arg)
{
	struct world *w = arg;

	w->phase = mutex_trylock(&w->lock) ? 1 : 2;
	if (w->phase == 1)
		mutex_unlock(&w->lock);
}

static void hold_and_let_try(void *arg)
{
	struct world *w = arg;

	mutex_lock(&w->lock);
	ck_assert_int_eq(thread_start("try", try_while_held, w, &w->threads[0]), 0);
	thread_join(w->threads[0]);
	ck_assert_int_eq(w->phase, 2);
	mutex_unlock(&w->lock);
	ck_assert(mutex_trylock(&w->lock));
	mutex_unlock(&w->lock);
}

START_TEST(trylock_tells_held_from_free)
{
	struct world w;

	world_init(&w, 1);
	ck_assert_int_eq(sim_run(w.sim, hold_and_let_try, &w), SIM_DONE);
	world_done(&w);
}
END_TEST

static void wait_for_phase(void *arg)
{
	struct world *w = arg;

	GUARD(&w->lock);
	while (w->phase == 0)
		cond_wait(&w->changed, &w->lock, WAIT_FOREVER);
	w->done++;
}

static void wake_all(void *arg)
{
	struct world *w = arg;

	for (int i = 0; i < COUNTERS; i++)
		ck_assert_int_eq(thread_start("waiter", wait_for_phase, w, &w->threads[i]), 0);
	sim_sleep_ns(w->sim, 1000000);
	mutex_lock(&w->lock);
	w->phase = 1;
	cond_broadcast(&w->changed);
	mutex_unlock(&w->lock);
	for (int i = 0; i < COUNTERS; i++)
		thread_join(w->threads[i]);
}

START_TEST(broadcast_wakes_all_waiters)
{
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct world w;

		world_init(&w, seed);
		ck_assert_int_eq(sim_run(w.sim, wake_all, &w), SIM_DONE);
		ck_assert_uint_eq(w.done, COUNTERS);
		world_done(&w);
	}
}
END_TEST

static void wait_an_hour(void *arg)
{
	struct world *w = arg;
	uint64_t deadline_ns = clock_mono_ns() + UINT64_C(3600000000000);

	w->from_ns = clock_mono_ns();
	mutex_lock(&w->lock);
	while (clock_mono_ns() < deadline_ns)
		cond_wait(&w->changed, &w->lock, deadline_ns);
	mutex_unlock(&w->lock);
	w->to_ns = clock_mono_ns();
}

START_TEST(waiting_moves_the_clock_to_the_deadline_and_no_further)
{
	struct world w;

	world_init(&w, 5);
	ck_assert_int_eq(sim_run(w.sim, wait_an_hour, &w), SIM_DONE);
	ck_assert_uint_ge(w.to_ns - w.from_ns, UINT64_C(3599999000000));
	ck_assert_uint_le(w.to_ns - w.from_ns, UINT64_C(3600001000000));
	world_done(&w);
}
END_TEST

static void call_often(void *arg)
{
	struct world *w = arg;
	struct env *env = sim_env(w->sim);
	struct env_space space;

	w->from_ns = clock_mono_ns();
	for (int i = 0; i < 10000; i++)
		ck_assert_int_eq(env_space(env, "/", &space), 0);
	w->to_ns = clock_mono_ns();
}

START_TEST(calls_without_waiting_move_the_clock_by_small_steps_only)
{
	struct world w;
	int64_t real_ns;

	world_init(&w, 6);
	real_ns = env_now_real_ns(sim_env(w.sim)) - (int64_t)env_now_mono_ns(sim_env(w.sim));
	ck_assert_int_eq(sim_run(w.sim, call_often, &w), SIM_DONE);
	ck_assert_uint_gt(w.to_ns, w.from_ns);
	ck_assert_uint_lt(w.to_ns - w.from_ns, UINT64_C(10000) * 2000);
	ck_assert_int_eq(env_now_real_ns(sim_env(w.sim)) - (int64_t)sim_now_ns(w.sim), real_ns);
	world_done(&w);
}
END_TEST

static void lock_and_die(void *arg)
{
	struct world *w = arg;

	mutex_lock(&w->lock);
	ck_assert_int_eq(thread_start("a", letter_a, w, &w->threads[0]), 0);
	sim_crash_now(w->sim, SIM_KILL);
}

START_TEST(a_lock_held_by_a_dead_process_is_free_in_the_next)
{
	struct world w;

	world_init(&w, 1);
	ck_assert_int_eq(sim_run(w.sim, lock_and_die, &w), SIM_CRASHED);
	ck_assert(!sim_inside(w.sim));
	ck_assert_int_eq(sim_run(w.sim, start_counters, &w), SIM_DONE);
	ck_assert_uint_eq(w.done, COUNTERS);
	ck_assert_uint_eq(sim_stats(w.sim)->kills, 1);
	world_done(&w);
}
END_TEST

START_TEST(an_ordered_crash_hits_at_each_step)
{
	int crashed = 0;

	for (uint64_t at = 1; at <= 300; at += 7) {
		struct world w;

		world_init(&w, 3);
		sim_crash_at_step(w.sim, at, SIM_POWER);
		crashed += sim_run(w.sim, start_counters, &w) == SIM_CRASHED;
		ck_assert_uint_eq(sim_stats(w.sim)->power_cuts, (uint64_t)crashed > 0);
		crashed = 0;
		sim_crash_cancel(w.sim);
		w.done = 0;
		ck_assert_int_eq(sim_run(w.sim, start_counters, &w), SIM_DONE);
		ck_assert_uint_eq(w.done, COUNTERS);
		world_done(&w);
	}
}
END_TEST

static void leave_thread(void *arg)
{
	struct world *w = arg;

	ck_assert_int_eq(thread_start("waiter", wait_for_phase, w, &w->threads[0]), 0);
}

START_TEST(threads_left_at_the_end_are_counted)
{
	struct world w;

	world_init(&w, 1);
	ck_assert_int_eq(sim_run(w.sim, leave_thread, &w), SIM_DONE);
	ck_assert_uint_eq(sim_stats(w.sim)->threads_left, 1);
	world_done(&w);
}
END_TEST

static void fail_to_start(void *arg)
{
	struct world *w = arg;

	sim_set_faults(w->sim, &(struct sim_faults){ .spawn_ppm = 1000000 });
	ck_assert_int_eq(thread_start("a", letter_a, w, &w->threads[0]), -EAGAIN);
}

START_TEST(a_thread_can_fail_to_start)
{
	struct world w;

	world_init(&w, 1);
	ck_assert_int_eq(sim_run(w.sim, fail_to_start, &w), SIM_DONE);
	world_done(&w);
}
END_TEST

/* ---- death: each of these aborts ---- */

static void wait_for_nothing(void *arg)
{
	struct world *w = arg;

	for (;;) {
		GUARD(&w->lock);
		cond_wait(&w->changed, &w->lock, WAIT_FOREVER);
	}
}

START_TEST(a_wait_that_nothing_ends_is_reported)
{
	struct world w;

	world_init(&w, 1);
	(void)sim_run(w.sim, wait_for_nothing, &w);
}
END_TEST

struct pair {
	struct mutex a, b;
	struct sim *sim;
};

static void lock_b_then_a(void *arg)
{
	struct pair *p = arg;

	mutex_lock(&p->b);
	sim_sleep_ns(p->sim, 1000);
	mutex_lock(&p->a);
}

static void lock_a_then_b(void *arg)
{
	struct pair *p = arg;
	struct thread *t;

	ck_assert_int_eq(thread_start("b then a", lock_b_then_a, p, &t), 0);
	mutex_lock(&p->a);
	sim_sleep_ns(p->sim, 1000);
	mutex_lock(&p->b);
}

START_TEST(a_deadlock_is_reported)
{
	struct pair p = { .sim = sim_new(1, NULL) };

	mutex_init(&p.a, 0);
	mutex_init(&p.b, 0);
	(void)sim_run(p.sim, lock_a_then_b, &p);
}
END_TEST

static void lock_against_rank(void *arg)
{
	struct pair *p = arg;

	mutex_lock(&p->b);
	mutex_lock(&p->a);
}

START_TEST(a_lock_out_of_rank_is_reported)
{
	const struct sim_opts opts = { .ranks_checked = true };
	struct pair p = { .sim = sim_new(1, &opts) };

	mutex_init(&p.a, 10);
	mutex_init(&p.b, 20);
	(void)sim_run(p.sim, lock_against_rank, &p);
}
END_TEST

static void spin(void *arg)
{
	struct world *w = arg;

	for (;;) {
		mutex_lock(&w->lock);
		mutex_unlock(&w->lock);
	}
}

START_TEST(a_process_that_never_ends_is_reported)
{
	const struct sim_opts opts = { .steps_max = 10000 };
	struct world w = { .sim = sim_new(1, &opts) };

	mutex_init(&w.lock, 0);
	(void)sim_run(w.sim, spin, &w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("simtest/sim_sched");
	TCase *tc = tcase_create("threads");
	TCase *death = tcase_create("death");

	tcase_add_test(tc, same_seed_gives_the_same_order_and_fingerprint_and_others_differ);
	tcase_add_test(tc, mutex_lets_one_thread_in_at_a_time);
	tcase_add_test(tc, trylock_tells_held_from_free);
	tcase_add_test(tc, broadcast_wakes_all_waiters);
	tcase_add_test(tc, waiting_moves_the_clock_to_the_deadline_and_no_further);
	tcase_add_test(tc, calls_without_waiting_move_the_clock_by_small_steps_only);
	tcase_add_test(tc, a_lock_held_by_a_dead_process_is_free_in_the_next);
	tcase_add_test(tc, an_ordered_crash_hits_at_each_step);
	tcase_add_test(tc, threads_left_at_the_end_are_counted);
	tcase_add_test(tc, a_thread_can_fail_to_start);
	suite_add_tcase(s, tc);

	tcase_add_test_raise_signal(death, a_wait_that_nothing_ends_is_reported, SIGABRT);
	tcase_add_test_raise_signal(death, a_deadlock_is_reported, SIGABRT);
	tcase_add_test_raise_signal(death, a_lock_out_of_rank_is_reported, SIGABRT);
	tcase_add_test_raise_signal(death, a_process_that_never_ends_is_reported, SIGABRT);
	suite_add_tcase(s, death);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(suite());
	int failed;

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
