/* What happens between two steps of the map: loads that are overtaken, probes at every unlock. */
#include "support_map.h"

#include <stdlib.h>
#include <string.h>

/* Something that blocks, on a thread of its own. */
struct call {
	struct layer *layer;
	uint64_t cluster;
	loc_t loc; /* looked up */
	int r;
	struct thread *thread;
};

static void call_lookup(void *arg)
{
	struct call *c = arg;

	c->r = mfx_try_lookup(c->layer, c->cluster, &c->loc);
}

static void call_start(struct call *c)
{
	MUST(thread_start("call", call_lookup, c, &c->thread) == 0);
}

/* ---- races of a load -------------------------------------------------------------------------- */

START_TEST(an_update_during_a_load_wins_over_the_row)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);
	struct call c = { .cluster = 20 };

	mfx_write_old_rows(l);
	layer_unref(mfx.map, l);
	c.layer = l = mfx_new_layer(1, NULL, 0, 0);
	mfx_gate_close();
	call_start(&c);
	mfx_gate_wait(1);
	mfx_update(l, 20, 1, mfx_place(9, 9)); /* does not wait for the load */
	mfx_gate_open();
	thread_join(c.thread);

	ck_assert_int_eq(c.r, 0);
	ck_assert_uint_eq(c.loc, mfx_place(9, 9));
	ck_assert_uint_eq(mfx_lookup(l, 20), mfx_place(9, 9));
	ck_assert_uint_eq(mfx_lookup(l, 21), mfx_at_row(21));
	layer_unref(mfx.map, l);
}
END_TEST

START_TEST(a_range_during_a_load_makes_it_start_over)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);
	struct call c = { .cluster = 20 };

	mfx_write_old_rows(l);
	layer_unref(mfx.map, l);
	c.layer = l = mfx_new_layer(1, NULL, 0, 0);
	mfx_gate_close();
	call_start(&c);
	mfx_gate_wait(1); /* it has read the old row */
	mfx_range(l, 0, 1024);
	mfx_gate_open();
	thread_join(c.thread);

	ck_assert_int_eq(c.r, 0);
	ck_assert(!loc_is_place(c.loc));
	ck_assert(!loc_is_place(mfx_lookup(l, 20)));
	layer_unref(mfx.map, l);
}
END_TEST

START_TEST(a_range_and_a_new_write_during_a_load_keep_the_write_only)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);
	struct call c = { .cluster = 20 }, other = { .cluster = 22 };

	mfx_write_old_rows(l);
	layer_unref(mfx.map, l);
	c.layer = other.layer = l = mfx_new_layer(1, NULL, 0, 0);
	mfx_gate_close();
	call_start(&c);
	mfx_gate_wait(1);
	mfx_range(l, 0, 1024);
	mfx_update(l, 21, 1, mfx_place(9, 9));
	call_start(&other); /* loads the new page while the first load is still out */
	mfx_gate_open();
	thread_join(c.thread);
	thread_join(other.thread);

	ck_assert(!loc_is_place(c.loc));
	ck_assert(!loc_is_place(other.loc));
	ck_assert_uint_eq(mfx_lookup(l, 21), mfx_place(9, 9));
	ck_assert(!loc_is_place(mfx_lookup(l, 23)));
	layer_unref(mfx.map, l);
}
END_TEST

START_TEST(those_who_want_one_page_share_one_read)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);
	struct call c[4];

	mfx_write_old_rows(l);
	layer_unref(mfx.map, l);
	l = mfx_new_layer(1, NULL, 0, 0);
	mfx_gate_close();
	for (unsigned int i = 0; i < 4; i++) {
		c[i] = (struct call){ .layer = l, .cluster = i };
		call_start(&c[i]);
	}
	mfx_gate_wait(1);
	mfx_gate_open();
	for (unsigned int i = 0; i < 4; i++) {
		thread_join(c[i].thread);
		ck_assert_uint_eq(c[i].loc, mfx_at_row(i));
	}

	ck_assert_uint_eq(mfx.gate.gets, 1);
	layer_unref(mfx.map, l);
}
END_TEST

START_TEST(a_checkpoint_that_ends_during_a_load_loses_nothing)
{
	struct layer *a = mfx_new_layer(1, NULL, 0, 0), *b;
	struct call c = { .cluster = 20 };

	/* The parent's page is dirty over a pending range when the child's load begins. */
	mfx_write_old_rows(a);
	mfx_range(a, 0, 1024);
	mfx_update(a, 20, 1, mfx_place(7, 7));
	b = mfx_new_layer(2, a, UINT64_MAX, 0);
	c.layer = b;
	mfx_gate_close();
	call_start(&c);
	mfx_gate_wait(1);
	mini_checkpoint(mfx.map, mfx.meta);
	mfx_gate_open();
	thread_join(c.thread);

	ck_assert_uint_eq(c.loc, mfx_place(7, 7));
	ck_assert(!loc_is_place(mfx_lookup(b, 21)));
	layer_unref(mfx.map, b);
	layer_unref(mfx.map, a);
}
END_TEST

/* ---- between any two steps -------------------------------------------------------------------- */

/*
 * A scheduler that never switches: whenever the last lock is let go, a probe runs, as another
 * thread might just then. So every window between two critical sections is tried.
 */
static struct probe {
	struct sched sched; /* first */
	int held;
	bool inside;
	unsigned int ran;
	void (*fn)(void);
	struct layer *layer;
	/* What may be read: either of the two; LOC_UNMAPPED: no place. */
	loc_t may[2][4 * PAGE_CLUSTERS];
	int publish_held;
} probe;

static void probe_lock(struct sched *s, struct mutex *mutex)
{
	(void)s;
	(void)mutex;
	probe.held++;
}

static void probe_unlock(struct sched *s, struct mutex *mutex)
{
	(void)s;
	(void)mutex;
	if (--probe.held > 0 || probe.inside)
		return;
	probe.inside = true;
	probe.ran++;
	probe.fn();
	probe.inside = false;
}

static void probe_wait(struct sched *s, struct cond *c, struct mutex *mutex, uint64_t deadline_ns)
{
	(void)s;
	(void)c;
	(void)mutex;
	(void)deadline_ns;
	ck_abort_msg("nobody could wake it");
}

static void probe_wake(struct sched *s, struct cond *c)
{
	(void)s;
	(void)c;
}

static void probe_start(struct layer *l, void (*fn)(void))
{
	memset(&probe, 0, sizeof(probe));
	probe.sched.mutex_lock = probe_lock;
	probe.sched.mutex_unlock = probe_unlock;
	probe.sched.cond_wait = probe_wait;
	probe.sched.cond_wake = probe_wake;
	probe.layer = l;
	probe.fn = fn;
}

static void probe_read_all(void)
{
	for (uint64_t c = 0; c < 4 * PAGE_CLUSTERS; c += 37) {
		loc_t loc = mfx_lookup(probe.layer, c);

		if (!loc_is_place(loc))
			loc = LOC_UNMAPPED;
		MUST(loc == probe.may[0][c] || loc == probe.may[1][c]);
	}
}

static void may_read(unsigned int which, uint64_t first, uint64_t end, loc_t loc)
{
	for (uint64_t c = first; c < end && c < 4 * PAGE_CLUSTERS; c++)
		probe.may[which][c] = loc_is_place(loc) ? loc + (c - first) : loc;
}

/* Pages in rows, a pending range over some of them, and young entries over that. */
static struct layer *layer_in_all_states(bool has_child)
{
	struct layer *l;

	mfx_reopen_map(0, 1);
	l = mfx_new_layer(1, NULL, 0, 0);
	mfx_write_old_rows(l);
	mfx_range(l, 512, 1600);
	mfx_update(l, 37 * 16, 5, mfx_place(7, 70));
	mfx_update(l, 37 * 2, 1, mfx_place(7, 80));
	probe_start(has_child ? mfx_new_layer(2, l, UINT64_MAX, 0) : l, probe_read_all);
	may_read(0, 0, 4 * PAGE_CLUSTERS, mfx_at_row(0));
	may_read(0, 512, 1600, LOC_UNMAPPED);
	may_read(0, 37 * 16, 37 * 16 + 5, mfx_place(7, 70));
	may_read(0, 37 * 2, 37 * 2 + 1, mfx_place(7, 80));
	memcpy(probe.may[1], probe.may[0], sizeof(probe.may[0]));
	return l;
}

START_TEST(between_any_two_steps_of_a_checkpoint_every_cluster_reads_right)
{
	enum mini_fail fail = (enum mini_fail)(_i % MINI_FAIL_COUNT);
	bool has_child = _i >= MINI_FAIL_COUNT;
	struct layer *l = layer_in_all_states(has_child);

	sched_hook = &probe.sched;
	mini_checkpoint_begin(mfx.map);
	mini_checkpoint_finish(mfx.map, mfx.meta, fail);
	mini_checkpoint(mfx.map, mfx.meta);
	sched_hook = NULL;

	ck_assert_uint_gt(probe.ran, 10);
	if (has_child)
		layer_unref(mfx.map, probe.layer);
	layer_unref(mfx.map, l);
}
END_TEST

START_TEST(between_any_two_steps_of_a_range_a_cluster_reads_as_before_or_as_zeros)
{
	struct layer *l = layer_in_all_states(false);
	uint64_t first = _i % 2 ? 37 * 3 : PAGE_CLUSTERS, end = _i < 2 ? 37 * 50 : CLUSTER_MAX;

	may_read(1, first, end, LOC_UNMAPPED);
	sched_hook = &probe.sched;
	mini_checkpoint_begin(mfx.map);
	mfx_range(l, first, end);
	memcpy(probe.may[0], probe.may[1], sizeof(probe.may[0])); /* from here on zeros only */
	mini_checkpoint_finish(mfx.map, mfx.meta, MINI_FAIL_FLUSH);
	mini_checkpoint(mfx.map, mfx.meta);
	sched_hook = NULL;

	ck_assert_uint_gt(probe.ran, 10);
	layer_unref(mfx.map, l);
}
END_TEST

static void probe_nothing(void)
{
}

static lsn_t publish_and_note_locks(void *arg)
{
	probe.publish_held = probe.held;
	return mfx_publish(arg);
}

START_TEST(an_update_publishes_under_the_lock_of_its_page_and_a_range_under_none)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);
	struct map_update u = {
		.first = 1, .count = 1, .loc = mfx_place(1, 1), .publish = publish_and_note_locks
	};
	lsn_t lsn;

	probe_start(l, probe_nothing);
	sched_hook = &probe.sched;
	MUST(map_update(mfx.map, l, &u, &lsn, NULL) == 0);
	ck_assert_int_eq(probe.publish_held, 1);
	MUST(map_range(mfx.map, l, 0, 5000, LOC_ZERO, publish_and_note_locks, NULL, &lsn, NULL) ==
	     0);
	ck_assert_int_eq(probe.publish_held, 0);
	sched_hook = NULL;
	layer_unref(mfx.map, l);
}
END_TEST

/*
 * Real locks, and one thread that stops after its n-th unlock until another went as far as it can:
 * to the end of what it does, or into a wait.
 */
static struct stop {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool is_reached, is_tried;
	unsigned int unlocks_left;
} stop = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
static _Thread_local bool stop_is_mine;
static _Thread_local int stop_held;

static void stop_set(bool *flag)
{
	pthread_mutex_lock(&stop.lock);
	*flag = true;
	pthread_cond_broadcast(&stop.changed);
	pthread_mutex_unlock(&stop.lock);
}

static void stop_until(const bool *flag)
{
	pthread_mutex_lock(&stop.lock);
	while (!*flag)
		pthread_cond_wait(&stop.changed, &stop.lock);
	pthread_mutex_unlock(&stop.lock);
}

static void stop_lock(struct sched *s, struct mutex *mutex)
{
	(void)s;
	MUST(pthread_mutex_lock(&mutex->m) == 0);
	stop_held++;
}

static void stop_unlock(struct sched *s, struct mutex *mutex)
{
	(void)s;
	MUST(pthread_mutex_unlock(&mutex->m) == 0);
	stop_held--;
	if (!stop_is_mine || stop_held > 0 || stop.unlocks_left == 0 || --stop.unlocks_left > 0)
		return;
	stop_set(&stop.is_reached);
	stop_until(&stop.is_tried);
}

static void stop_wait(struct sched *s, struct cond *c, struct mutex *mutex, uint64_t deadline_ns)
{
	(void)s;
	(void)deadline_ns;
	stop_set(&stop.is_tried);
	MUST(pthread_cond_wait(&c->c, &mutex->m) == 0);
}

static void stop_wake(struct sched *s, struct cond *c)
{
	(void)s;
	MUST(pthread_cond_broadcast(&c->c) == 0);
}

static struct sched stop_sched = {
	.mutex_lock = stop_lock,
	.mutex_unlock = stop_unlock,
	.cond_wait = stop_wait,
	.cond_wake = stop_wake,
};

static void *stop_checkpoint(void *arg)
{
	(void)arg;
	stop_until(&stop.is_reached);
	mini_checkpoint_begin(mfx.map);
	stop_set(&stop.is_tried);
	return NULL;
}

START_TEST(a_checkpoint_that_begins_amid_a_range_does_not_bring_old_entries_back)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);
	pthread_t thread;

	for (uint64_t page = 0; page < 8; page++)
		mfx_update(l, page * PAGE_CLUSTERS + 5, 1, mfx_at_row(page));
	stop.unlocks_left = (unsigned int)_i;
	stop_is_mine = true;
	sched_hook = &stop_sched;
	MUST(pthread_create(&thread, NULL, stop_checkpoint, NULL) == 0);
	mfx_range(l, 100, 7 * PAGE_CLUSTERS + 100);
	stop_set(&stop.is_reached); /* where it has fewer unlocks than that */
	MUST(pthread_join(thread, NULL) == 0);
	sched_hook = NULL;
	mini_checkpoint_finish(mfx.map, mfx.meta, MINI_DONE);
	mini_checkpoint(mfx.map, mfx.meta);
	layer_unref(mfx.map, l);
	l = mfx_new_layer(1, NULL, 0, 0);

	ck_assert_uint_eq(mfx_lookup(l, 5), mfx_at_row(0));
	for (uint64_t page = 1; page < 8; page++)
		ck_assert(!loc_is_place(mfx_lookup(l, page * PAGE_CLUSTERS + 5)));
	layer_unref(mfx.map, l);
}
END_TEST

static TCase *map_case(Suite *s, const char *name)
{
	TCase *tc = tcase_create(name);

	tcase_add_checked_fixture(tc, mfx_setup, mfx_teardown);
	tcase_set_timeout(tc, 30);
	suite_add_tcase(s, tc);
	return tc;
}

static Suite *race_suite(void)
{
	Suite *s = suite_create("volume/map_race");
	TCase *load = map_case(s, "load"), *steps = map_case(s, "steps");

	tcase_add_test(load, an_update_during_a_load_wins_over_the_row);
	tcase_add_test(load, a_range_during_a_load_makes_it_start_over);
	tcase_add_test(load, a_range_and_a_new_write_during_a_load_keep_the_write_only);
	tcase_add_test(load, those_who_want_one_page_share_one_read);
	tcase_add_test(load, a_checkpoint_that_ends_during_a_load_loses_nothing);

	tcase_add_loop_test(steps, between_any_two_steps_of_a_checkpoint_every_cluster_reads_right,
			    0, 2 * MINI_FAIL_COUNT);
	tcase_add_loop_test(steps,
			    between_any_two_steps_of_a_range_a_cluster_reads_as_before_or_as_zeros,
			    0, 4);
	tcase_add_loop_test(steps,
			    a_checkpoint_that_begins_amid_a_range_does_not_bring_old_entries_back,
			    1, 24);
	tcase_add_test(steps,
		       an_update_publishes_under_the_lock_of_its_page_and_a_range_under_none);

	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(race_suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
