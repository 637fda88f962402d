#include "common/thread.h"

#include "tests/common/support_sched.h"

#include <check.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WITH_TSAN 1
#endif
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define WITH_TSAN 1
#endif
#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#endif

#define THREADS 4
#define ROUNDS	20000

static struct mutex lock;
static struct cond cond;
static struct rwlock rw;
static unsigned int plain_counter; /* guarded by what the test is about */
static int flag;		   /* atomic */

static void setup(void)
{
	mutex_init(&lock, 0);
	cond_init(&cond);
	rwlock_init(&rw, 0);
	plain_counter = 0;
	flag = 0;
}

static void teardown(void)
{
	rwlock_done(&rw);
	cond_done(&cond);
	mutex_done(&lock);
}

static void flag_set(int value)
{
	__atomic_store_n(&flag, value, __ATOMIC_SEQ_CST);
}

static void flag_await(int value)
{
	while (__atomic_load_n(&flag, __ATOMIC_SEQ_CST) != value)
		(void)sched_yield();
}

static void run_threads(void (*fn)(void *))
{
	struct thread *t[THREADS];

	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(thread_start("worker", fn, NULL, &t[i]), 0);
	for (int i = 0; i < THREADS; i++)
		thread_join(t[i]);
}

/* ---- mutex and cond ---- */

static void count_under_mutex(UNUSED void *arg)
{
	for (int i = 0; i < ROUNDS; i++) {
		GUARD(&lock);
		plain_counter++;
	}
}

START_TEST(mutex_lets_one_in_at_a_time)
{
	run_threads(count_under_mutex);
	ck_assert_uint_eq(plain_counter, THREADS * ROUNDS);
}
END_TEST

static void hold_until_told(UNUSED void *arg)
{
	mutex_lock(&lock);
	flag_set(1);
	flag_await(2);
	mutex_unlock(&lock);
}

START_TEST(trylock_fails_while_another_holds_it)
{
	struct thread *t;

	ck_assert_int_eq(thread_start("holder", hold_until_told, NULL, &t), 0);
	flag_await(1);
	ck_assert(!mutex_trylock(&lock));
	flag_set(2);
	thread_join(t);
	ck_assert(mutex_trylock(&lock));
	mutex_unlock(&lock);
}
END_TEST

START_TEST(wait_ends_at_its_deadline)
{
	uint64_t deadline_ns = clock_mono_ns() + 20000000;
	unsigned int wakeups = 0;

	mutex_lock(&lock);
	while (clock_mono_ns() < deadline_ns) {
		cond_wait(&cond, &lock, deadline_ns);
		wakeups++;
	}
	cond_wait(&cond, &lock, 1); /* long gone */
	mutex_unlock(&lock);
	ck_assert_uint_lt(wakeups, 100); /* it slept, and did not just come back each time */
	ck_assert_uint_lt(clock_mono_ns(), deadline_ns + UINT64_C(20000000000));
}
END_TEST

static void wait_for_counter(UNUSED void *arg)
{
	mutex_lock(&lock);
	while (plain_counter == 0)
		cond_wait(&cond, &lock, WAIT_FOREVER);
	plain_counter++;
	mutex_unlock(&lock);
}

START_TEST(broadcast_wakes_all_and_signal_wakes_one)
{
	struct thread *t[THREADS];

	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(thread_start("waiter", wait_for_counter, NULL, &t[i]), 0);
	mutex_lock(&lock);
	plain_counter = 1;
	cond_broadcast(&cond);
	mutex_unlock(&lock);
	for (int i = 0; i < THREADS; i++)
		thread_join(t[i]);
	ck_assert_uint_eq(plain_counter, 1 + THREADS);

	plain_counter = 0;
	ck_assert_int_eq(thread_start("waiter", wait_for_counter, NULL, &t[0]), 0);
	mutex_lock(&lock);
	plain_counter = 1;
	cond_signal(&cond);
	mutex_unlock(&lock);
	thread_join(t[0]);
	ck_assert_uint_eq(plain_counter, 2);
}
END_TEST

/* ---- rwlock ---- */

static void read_and_report(UNUSED void *arg)
{
	rwlock_read_lock(&rw);
	flag_set(1);
	rwlock_read_unlock(&rw);
}

START_TEST(readers_share)
{
	struct thread *t;

	rwlock_read_lock(&rw);
	ck_assert_int_eq(thread_start("reader", read_and_report, NULL, &t), 0);
	flag_await(1); /* never, if readers excluded each other */
	thread_join(t);
	rwlock_read_unlock(&rw);
}
END_TEST

static unsigned int pair[2]; /* equal whenever no writer is in */

static void read_and_write(UNUSED void *arg)
{
	unsigned int broken = 0;

	for (int i = 0; i < ROUNDS; i++) {
		if (i % 8 == 0) {
			rwlock_write_lock(&rw);
			pair[0]++;
			pair[1]++;
			rwlock_write_unlock(&rw);
		} else {
			rwlock_read_lock(&rw);
			broken += pair[0] != pair[1];
			rwlock_read_unlock(&rw);
		}
	}
	mutex_lock(&lock);
	plain_counter += broken;
	mutex_unlock(&lock);
}

START_TEST(writers_exclude_writers_and_readers)
{
	pair[0] = pair[1] = 0;
	run_threads(read_and_write);
	ck_assert_uint_eq(plain_counter, 0);
	ck_assert_uint_eq(pair[0], THREADS * (ROUNDS / 8));
	ck_assert_uint_eq(pair[1], pair[0]);
}
END_TEST

/* ---- threads ---- */

static sigset_t mask_seen;
static char name_seen[32];

static void look_around(UNUSED void *arg)
{
	(void)pthread_sigmask(SIG_SETMASK, NULL, &mask_seen);
	(void)pthread_getname_np(pthread_self(), name_seen, sizeof(name_seen));
}

START_TEST(signals_stay_out_of_a_thread_and_its_name_is_cut)
{
	static const int blocked[] = { SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGCHLD, SIGPIPE };
	sigset_t mine;
	struct thread *t;

	ck_assert_int_eq(thread_start("a-name-beyond-sixteen", look_around, NULL, &t), 0);
	thread_join(t);
	for (size_t i = 0; i < ARRAY_SIZE(blocked); i++)
		ck_assert_int_eq(sigismember(&mask_seen, blocked[i]), 1);
	ck_assert_int_eq(sigismember(&mask_seen, SIGSEGV), 0);
	ck_assert_int_eq(sigismember(&mask_seen, SIGBUS), 0);
	ck_assert_str_eq(name_seen, "a-name-beyond-s");

	ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, NULL, &mine), 0);
	ck_assert_int_eq(sigismember(&mine, SIGTERM), 0);
}
END_TEST

#if !defined(WITH_ASAN) && !defined(WITH_TSAN)
START_TEST(no_more_threads_is_reported)
{
	struct thread *t = NULL;
	struct rlimit none = { 0, 0 };

	/* No memory for a stack. */
	ck_assert_int_eq(setrlimit(RLIMIT_AS, &none), 0);
	ck_assert_int_eq(thread_start("one too many", look_around, NULL, &t), -EAGAIN);
	ck_assert_ptr_null(t);
}
END_TEST
#endif

START_TEST(monotonic_time_does_not_go_back)
{
	uint64_t before_ns = clock_mono_ns();

	for (int i = 0; i < 1000; i++) {
		uint64_t now_ns = clock_mono_ns();

		ck_assert_uint_ge(now_ns, before_ns);
		before_ns = now_ns;
	}
}
END_TEST

/* ---- under a scheduler ---- */

#if !defined(WITH_TSAN)

static char story[64];

static void tell(const char *what)
{
	size_t len = strlen(story);

	ck_assert_uint_lt(len + strlen(what), sizeof(story));
	memcpy(story + len, what, strlen(what) + 1);
}

static void first_reader(UNUSED void *arg)
{
	rwlock_read_lock(&rw);
	tell("r1 ");
	for (int i = 0; i < 10; i++)
		support_sched_yield(); /* writer and second reader arrive */
	tell("r1out ");
	rwlock_read_unlock(&rw);
}

static void writer(UNUSED void *arg)
{
	tell("w? ");
	rwlock_write_lock(&rw);
	tell("w ");
	support_sched_yield();
	tell("wout ");
	rwlock_write_unlock(&rw);
}

static void second_reader(UNUSED void *arg)
{
	tell("r2? ");
	rwlock_read_lock(&rw);
	tell("r2 ");
	rwlock_read_unlock(&rw);
}

START_TEST(waiting_writer_holds_back_new_readers)
{
	struct thread *t;

	story[0] = '\0';
	support_sched_install();
	ck_assert_int_eq(thread_start("r1", first_reader, NULL, &t), 0);
	ck_assert_int_eq(thread_start("w", writer, NULL, &t), 0);
	ck_assert_int_eq(thread_start("r2", second_reader, NULL, &t), 0);
	ck_assert(support_sched_run());
	ck_assert_str_eq(story, "r1 w? r2? r1out w wout r2 ");
}
END_TEST

static void lock_and_yield(UNUSED void *arg)
{
	for (int i = 0; i < 5; i++) {
		unsigned int before;

		mutex_lock(&lock);
		before = plain_counter;
		support_sched_yield();
		plain_counter = before + 1;
		mutex_unlock(&lock);
	}
}

START_TEST(scheduler_is_asked_for_every_wait)
{
	struct thread *t;

	support_sched_install();
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(thread_start("co", lock_and_yield, NULL, &t), 0);
	ck_assert_uint_eq(clock_mono_ns(), 1000);
	ck_assert(support_sched_run());
	ck_assert_uint_eq(plain_counter, 15);
	ck_assert_uint_eq(support_sched_calls(), 3 + 1 + 2 * 15);
}
END_TEST

static void produce(UNUSED void *arg)
{
	support_sched_yield();
	mutex_lock(&lock);
	plain_counter = 1;
	cond_signal(&cond);
	mutex_unlock(&lock);
}

static void join_both(UNUSED void *arg)
{
	struct thread *a, *b;

	ck_assert_int_eq(thread_start("waiter", wait_for_counter, NULL, &a), 0);
	ck_assert_int_eq(thread_start("producer", produce, NULL, &b), 0);
	thread_join(a);
	thread_join(b);
	mutex_lock(&lock);
	cond_wait(&cond, &lock, 5000);
	mutex_unlock(&lock);
	ck_assert_uint_ge(clock_mono_ns(), 5000);
	ck_assert(mutex_trylock(&lock));
	ck_assert(!mutex_trylock(&lock)); /* here nobody asks who the owner is */
	mutex_unlock(&lock);
	flag_set(9);
}

START_TEST(conditions_and_joins_work_between_coroutines)
{
	struct thread *t;

	support_sched_install();
	ck_assert_int_eq(thread_start("main", join_both, NULL, &t), 0);
	ck_assert(support_sched_run());
	ck_assert_uint_eq(plain_counter, 2);
	ck_assert_int_eq(flag, 9);
}
END_TEST

START_TEST(scheduler_out_of_coroutines_is_reported)
{
	struct thread *t = NULL;
	int r = 0;

	support_sched_install();
	for (int i = 0; i < 100 && r == 0; i++)
		r = thread_start("co", second_reader, NULL, &t);
	ck_assert_int_eq(r, -EAGAIN);
	story[0] = '\0';
	ck_assert(support_sched_run());
}
END_TEST

#endif

/* ---- ranks ---- */

#ifdef VPOOL_DEBUG_LOCKS

static struct mutex low, high, same, unranked;

static void ranks_setup(void)
{
	setup();
	mutex_init(&low, 10);
	mutex_init(&high, 20);
	mutex_init(&same, 20);
	mutex_init(&unranked, 0);
}

START_TEST(rising_ranks_in_any_order_of_release_are_fine)
{
	for (int i = 0; i < 100; i++) {
		mutex_lock(&low);
		mutex_lock(&high);
		mutex_lock(&unranked);
		mutex_unlock(&low);
		mutex_unlock(&unranked);
		mutex_unlock(&high);
		mutex_lock(&low);
		mutex_unlock(&low);
	}
}
END_TEST

START_TEST(trial_may_come_in_any_order)
{
	mutex_lock(&high);
	ck_assert(mutex_trylock(&low));
	mutex_unlock(&low);
	mutex_unlock(&high);
}
END_TEST

START_TEST(falling_rank_dies)
{
	mutex_lock(&high);
	mutex_lock(&low);
}
END_TEST

START_TEST(equal_rank_dies)
{
	mutex_lock(&high);
	mutex_lock(&same);
}
END_TEST

START_TEST(rank_below_an_rwlock_dies)
{
	struct rwlock l;

	rwlock_init(&l, 15);
	rwlock_read_lock(&l);
	mutex_lock(&low);
}
END_TEST

START_TEST(taking_twice_dies)
{
	mutex_lock(&unranked);
	mutex_lock(&unranked);
}
END_TEST

START_TEST(reading_twice_dies)
{
	rwlock_read_lock(&rw);
	rwlock_read_lock(&rw);
}
END_TEST

START_TEST(releasing_what_is_not_held_dies)
{
	mutex_unlock(&low);
}
END_TEST

START_TEST(waiting_without_the_mutex_dies)
{
	cond_wait(&cond, &lock, 1);
}
END_TEST

static void add_rank_tests(Suite *s, bool can_die)
{
	static const TTest *const *const deaths[] = {
		&falling_rank_dies,
		&equal_rank_dies,
		&rank_below_an_rwlock_dies,
		&taking_twice_dies,
		&reading_twice_dies,
		&releasing_what_is_not_held_dies,
		&waiting_without_the_mutex_dies,
	};
	TCase *t = tcase_create("ranks");
	TCase *death = tcase_create("death");

	tcase_add_checked_fixture(t, ranks_setup, teardown);
	tcase_add_test(t, rising_ranks_in_any_order_of_release_are_fine);
	tcase_add_test(t, trial_may_come_in_any_order);
	suite_add_tcase(s, t);
	tcase_add_checked_fixture(death, ranks_setup, NULL);
	for (size_t i = 0; can_die && i < ARRAY_SIZE(deaths); i++)
		tcase_add_test_raise_signal(death, *deaths[i], SIGABRT);
	suite_add_tcase(s, death);
}

#else

static void add_rank_tests(UNUSED Suite *s, UNUSED bool can_die)
{
}

#endif

int main(void)
{
	Suite *s = suite_create("common/thread");
	TCase *t = tcase_create("thread");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, mutex_lets_one_in_at_a_time);
	tcase_add_test(t, trylock_fails_while_another_holds_it);
	tcase_add_test(t, wait_ends_at_its_deadline);
	tcase_add_test(t, broadcast_wakes_all_and_signal_wakes_one);
	tcase_add_test(t, readers_share);
	tcase_add_test(t, writers_exclude_writers_and_readers);
	tcase_add_test(t, signals_stay_out_of_a_thread_and_its_name_is_cut);
	tcase_add_test(t, monotonic_time_does_not_go_back);
#if !defined(WITH_ASAN) && !defined(WITH_TSAN)
	if (srunner_fork_status(r) == CK_FORK)
		tcase_add_test(t, no_more_threads_is_reported);
#endif
#if !defined(WITH_TSAN)
	tcase_add_test(t, waiting_writer_holds_back_new_readers);
	tcase_add_test(t, scheduler_is_asked_for_every_wait);
	tcase_add_test(t, conditions_and_joins_work_between_coroutines);
	tcase_add_test(t, scheduler_out_of_coroutines_is_reported);
#endif
	suite_add_tcase(s, t);
	add_rank_tests(s, srunner_fork_status(r) == CK_FORK);

	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
