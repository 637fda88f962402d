/* The router's turns: who may call the store, who waits, who waits no longer. Real threads. */
#include "backend/router.h"
#include "common/thread.h"

#include <check.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#define MS UINT64_C(1000000)

static struct fx {
	struct backend *b;
	struct err e;
} fx;

static struct gate_store {
	struct store store;
	struct mutex lock;
	struct cond changed;
	unsigned int inside, inside_max, tickets; /* a ticket lets one call leave */
	unsigned int order[16], left;
} gate;

/* A get whose offset says who calls; it stays inside until there is a ticket. */
static int gate_get(struct store *s, const char *name, uint64_t offset_bytes, void *dst,
		    size_t len_bytes, struct err *e)
{
	(void)s;
	(void)name;
	(void)dst;
	(void)len_bytes;
	(void)e;
	mutex_lock(&gate.lock);
	gate.inside++;
	if (gate.inside > gate.inside_max)
		gate.inside_max = gate.inside;
	gate.order[gate.left++ % 16] = (unsigned int)offset_bytes;
	cond_broadcast(&gate.changed);
	while (gate.tickets == 0)
		cond_wait(&gate.changed, &gate.lock, WAIT_FOREVER);
	gate.tickets--;
	gate.inside--;
	mutex_unlock(&gate.lock);
	return 0;
}

static void gate_close(struct store *s)
{
	(void)s;
}

static const struct store_ops gate_ops = { .type_name = "gate",
					   .close = gate_close,
					   .get = gate_get };

static void setup_gate(void)
{
	mutex_init(&gate.lock, 0);
	cond_init(&gate.changed);
	gate.store.ops = &gate_ops;
}

static void gate_open(unsigned int concurrency_max, uint64_t timeout_ns)
{
	struct backend_options options = { .concurrency_max = concurrency_max,
					   .timeout_ns = timeout_ns };

	ck_assert_int_eq(backend_open_over(env_posix(), &gate.store, "gate:", &options, &fx.b,
					   &fx.e),
			 0);
}

static void gate_tickets(unsigned int count)
{
	mutex_lock(&gate.lock);
	gate.tickets += count;
	cond_broadcast(&gate.changed);
	mutex_unlock(&gate.lock);
}

static void gate_wait_entered(unsigned int count)
{
	mutex_lock(&gate.lock);
	while (gate.left < count)
		cond_wait(&gate.changed, &gate.lock, WAIT_FOREVER);
	mutex_unlock(&gate.lock);
}

static atomic_uint gate_failures;

static void gate_client(void *arg)
{
	char byte;

	if (backend_get(fx.b, "x", *(unsigned int *)arg, &byte, 1, NULL) != 0)
		atomic_fetch_add(&gate_failures, 1);
}

START_TEST(no_more_calls_than_allowed_are_under_way_and_they_go_in_order)
{
	struct thread *threads[6];
	unsigned int ids[6];

	gate_open(2, 0);
	for (unsigned int i = 0; i < 6; i++) {
		ids[i] = i;
		ck_assert_int_eq(thread_start("client", gate_client, &ids[i], &threads[i]), 0);
		if (i < 2)
			gate_wait_entered(i + 1);
		else /* in the queue, before the next one comes */
			while (router_waiting(fx.b) < i - 1)
				(void)sched_yield();
	}
	ck_assert_int_eq(gauge_get(&router_metrics(fx.b)->in_flight), 2);
	for (unsigned int i = 0; i < 4; i++) {
		gate_tickets(1);
		gate_wait_entered(i + 3);
		ck_assert_uint_eq(gate.order[i + 2], i + 2);
	}
	gate_tickets(2);
	for (unsigned int i = 0; i < 6; i++)
		thread_join(threads[i]);
	ck_assert_uint_eq(gate.inside_max, 2);
	ck_assert_uint_eq(atomic_load(&gate_failures), 0);
	ck_assert_int_eq(gauge_get(&router_metrics(fx.b)->in_flight), 0);
	backend_close(fx.b);
}
END_TEST

START_TEST(who_waits_too_long_for_a_turn_times_out_and_leaves_the_queue)
{
	struct thread *holder;
	unsigned int id = 1;
	char byte;

	gate_open(1, 20 * MS);
	ck_assert_int_eq(thread_start("holder", gate_client, &id, &holder), 0);
	gate_wait_entered(1);
	ck_assert_int_eq(backend_get(fx.b, "x", 2, &byte, 1, &fx.e), -ETIMEDOUT);
	ck_assert_uint_eq(router_waiting(fx.b), 0);
	gate_tickets(2);
	thread_join(holder);
	ck_assert_int_eq(backend_get(fx.b, "x", 3, &byte, 1, &fx.e), 0);
	ck_assert_uint_eq(counter_get(&router_metrics(fx.b)->timeouts), 1);
	backend_close(fx.b);
}
END_TEST

static atomic_int refused_code;

static void wanting_client(void *arg)
{
	char byte;

	atomic_store(&refused_code, backend_get(fx.b, "x", *(unsigned int *)arg, &byte, 1, NULL));
}

START_TEST(who_waits_for_a_turn_ends_when_calls_are_refused)
{
	struct thread *holder, *waiter;
	unsigned int ids[2] = { 1, 2 };
	char byte;

	gate_open(1, 3600000 * MS);
	ck_assert_int_eq(thread_start("holder", gate_client, &ids[0], &holder), 0);
	gate_wait_entered(1);
	ck_assert_int_eq(thread_start("waiter", wanting_client, &ids[1], &waiter), 0);
	while (router_waiting(fx.b) == 0)
		(void)sched_yield();
	backend_refuse_calls(fx.b, true);
	thread_join(waiter);
	ck_assert_int_eq(atomic_load(&refused_code), -ESHUTDOWN);
	ck_assert_int_eq(backend_get(fx.b, "x", 3, &byte, 1, &fx.e), -ESHUTDOWN);
	gate_tickets(2); /* who is in the store comes to an end of its own */
	thread_join(holder);
	ck_assert_uint_eq(atomic_load(&gate_failures), 0);
	backend_refuse_calls(fx.b, false);
	ck_assert_int_eq(backend_get(fx.b, "x", 4, &byte, 1, &fx.e), 0);
	ck_assert_uint_eq(gate.left, 2);
	backend_close(fx.b);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("backend/router_turns");
	TCase *tc = tcase_create("threads");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup_gate, NULL);
	tcase_add_test(tc, no_more_calls_than_allowed_are_under_way_and_they_go_in_order);
	tcase_add_test(tc, who_waits_too_long_for_a_turn_times_out_and_leaves_the_queue);
	tcase_add_test(tc, who_waits_for_a_turn_ends_when_calls_are_refused);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
