/* Many threads on one map at once, and what its calls cost. */
#include "support_map.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CROWD_CLUSTERS 4096u
#define CROWD_WRITERS  3u
#define CROWD_ROUNDS   4000u
#define CROWD_PARENTS  12u

static struct crowd {
	struct layer *layer;
	struct rwlock gate;
	loc_t expected[CROWD_CLUSTERS]; /* of its writer; the range thread when the gate is shut */
	struct mutex checkpoint_lock;	/* as in the engine: a merge excludes checkpoints */
	struct mutex lsn_lock;
	struct crowd_entry *log; /* by LSN: what was published */
	uint64_t log_room;
	unsigned int running; /* atomic */
	bool failed;	      /* atomic */
} crowd;

static uint64_t step_rng(uint64_t *rng)
{
	*rng ^= *rng << 13;
	*rng ^= *rng >> 7;
	*rng ^= *rng << 17;
	return *rng >> 16;
}

static void crowd_must(bool ok)
{
	if (!ok)
		__atomic_store_n(&crowd.failed, true, __ATOMIC_SEQ_CST);
}

struct crowd_entry {
	uint64_t cluster;
	loc_t loc, before;
};

static lsn_t crowd_publish(void *arg)
{
	const struct crowd_entry *entry = arg;
	lsn_t lsn;

	mutex_lock(&crowd.lsn_lock);
	lsn = ++mfx.lsn;
	if (lsn < crowd.log_room)
		crowd.log[lsn] = *entry;
	mutex_unlock(&crowd.lsn_lock);
	return lsn;
}

/* Cluster c may be at SCO c + 1 only: whoever reads can see whether a place is somebody else's. */
static bool crowd_is_possible(uint64_t cluster, loc_t loc)
{
	return !loc_is_place(loc) || loc_sco(loc) == cluster + 1;
}

/*
 * Real locks, but whoever lets one go may stand aside for others: windows that are a few
 * instructions wide come up in seconds. Threads are started by hand, as it has no spawn.
 */
static void restless_yield(void)
{
	static _Thread_local uint64_t rng;

	if (rng == 0)
		rng = (uintptr_t)&rng;
	for (unsigned int n = step_rng(&rng) % 16 ? 0 : 3; n; n--)
		(void)sched_yield();
}

static void restless_lock(struct sched *s, struct mutex *mutex)
{
	(void)s;
	restless_yield();
	MUST(pthread_mutex_lock(&mutex->m) == 0);
}

static void restless_unlock(struct sched *s, struct mutex *mutex)
{
	(void)s;
	MUST(pthread_mutex_unlock(&mutex->m) == 0);
	restless_yield();
}

static void restless_wait(struct sched *s, struct cond *c, struct mutex *mutex,
			  uint64_t deadline_ns)
{
	(void)s;
	(void)deadline_ns;
	MUST(pthread_cond_wait(&c->c, &mutex->m) == 0);
}

static void restless_wake(struct sched *s, struct cond *c)
{
	(void)s;
	MUST(pthread_cond_broadcast(&c->c) == 0);
}

static struct sched restless = {
	.mutex_lock = restless_lock,
	.mutex_unlock = restless_unlock,
	.cond_wait = restless_wait,
	.cond_wake = restless_wake,
};

static void crowd_writer(void *arg)
{
	unsigned int me = (unsigned int)(uintptr_t)arg;
	uint64_t rng = 1234567 + me * 77777;

	for (unsigned int n = 0; n < CROWD_ROUNDS; n++) {
		uint64_t c = step_rng(&rng) % (CROWD_CLUSTERS / CROWD_WRITERS) * CROWD_WRITERS + me;
		loc_t to = n % 8 ? mfx_place(c + 1, 1 + n % 60000) : LOC_UNMAPPED;
		struct crowd_entry entry = { c, to, 0 };
		uint32_t crc = n;
		struct map_update u = { .first = c,
					.count = 1,
					.loc = entry.loc,
					.crcs = &crc,
					.conditional = n % 3 == 0,
					.publish = crowd_publish,
					.arg = &entry };
		lsn_t lsn;
		loc_t loc;

		rwlock_read_lock(&crowd.gate);
		u.expect = crowd.expected[c];
		crowd_must(map_update(mfx.map, crowd.layer, &u, &lsn, NULL) == 0);
		crowd.expected[c] = entry.loc;
		c = step_rng(&rng) % (CROWD_CLUSTERS / CROWD_WRITERS) * CROWD_WRITERS + me;
		crowd_must(mfx_try_lookup(crowd.layer, c, &loc) == 0);
		crowd_must(loc_is_place(crowd.expected[c]) ? loc == crowd.expected[c] :
							     !loc_is_place(loc));
		rwlock_read_unlock(&crowd.gate);
	}
	__atomic_sub_fetch(&crowd.running, 1, __ATOMIC_SEQ_CST);
}

static bool crowd_goes_on(void)
{
	return __atomic_load_n(&crowd.running, __ATOMIC_SEQ_CST);
}

static void crowd_reader(void *arg)
{
	uint64_t rng = 42;
	loc_t locs[PAGE_CLUSTERS];
	uint32_t crcs[PAGE_CLUSTERS];
	uint8_t known[PAGE_CLUSTERS / 8];

	(void)arg;
	while (crowd_goes_on()) {
		uint64_t first = step_rng(&rng) % CROWD_CLUSTERS, found;
		unsigned int count = (unsigned int)(PAGE_CLUSTERS - first % PAGE_CLUSTERS);

		crowd_must(map_lookup(mfx.map, crowd.layer, first, count, locs, crcs, known,
				      NULL) == 0);
		for (unsigned int i = 0; i < count; i++)
			crowd_must(crowd_is_possible(first + i, locs[i]));
		crowd_must(map_seek(mfx.map, crowd.layer, first, CROWD_CLUSTERS, true, &found,
				    NULL) == 0);
	}
}

static void crowd_ranger(void *arg)
{
	uint64_t rng = 99;

	(void)arg;
	while (crowd_goes_on()) {
		uint64_t first = step_rng(&rng) % CROWD_CLUSTERS;
		uint64_t end = min_u64(CROWD_CLUSTERS, first + 1 + step_rng(&rng) % 1500);
		struct crowd_entry entry = { UINT64_MAX, 0, 0 };
		lsn_t lsn;

		rwlock_write_lock(&crowd.gate);
		crowd_must(map_range(mfx.map, crowd.layer, first, end, LOC_ZERO, crowd_publish,
				     &entry, &lsn, NULL) == 0);
		for (uint64_t c = first; c < end; c++)
			crowd.expected[c] = LOC_ZERO;
		rwlock_write_unlock(&crowd.gate);
	}
}

static void crowd_checkpointer(void *arg)
{
	uint64_t rng = 7;

	(void)arg;
	while (crowd_goes_on()) {
		GUARD(&crowd.checkpoint_lock);

		mini_checkpoint_begin(mfx.map);
		mini_checkpoint_finish(mfx.map, mfx.meta,
				       step_rng(&rng) % 3 ?
					       MINI_DONE :
					       (enum mini_fail)(step_rng(&rng) % MINI_FAIL_COUNT));
	}
}

static lsn_t crowd_lsn(void)
{
	GUARD(&crowd.lsn_lock);
	return mfx.lsn;
}

/* The layers below, which are empty, go one after the other while the others are at work. */
static void crowd_merger(void *arg)
{
	lsn_t step = CROWD_WRITERS * CROWD_ROUNDS / CROWD_PARENTS / 2;

	(void)arg;
	for (lsn_t at = step; crowd.layer->parent; at += step) {
		while (crowd_lsn() < at && crowd_goes_on())
			(void)sched_yield();
		mutex_lock(&crowd.checkpoint_lock);
		map_chain_hold_alone(mfx.map);
		map_layer_relink(mfx.map, crowd.layer, UINT64_MAX);
		map_chain_release_alone(mfx.map);
		mutex_unlock(&crowd.checkpoint_lock);
	}
}

/* A layer over so many empty ones, which it alone has references on. */
static struct layer *crowd_layer_new(unsigned int parents)
{
	struct layer *l = NULL;

	for (uint64_t id = 1; id <= parents + 1; id++) {
		struct layer *child = mfx_new_layer(id, l, UINT64_MAX, 0);

		layer_unref(mfx.map, l);
		l = child;
	}
	return l;
}

struct crowd_member {
	void (*fn)(void *);
	void *arg;
	pthread_t thread;
};

static void *crowd_member_main(void *arg)
{
	struct crowd_member *member = arg;

	member->fn(member->arg);
	return NULL;
}

static void crowd_run(bool is_restless)
{
	static void (*const others[])(void *) = { crowd_reader, crowd_ranger, crowd_checkpointer,
						  crowd_merger };
	struct crowd_member members[CROWD_WRITERS + ARRAY_SIZE(others)];

	sched_hook = is_restless ? &restless : NULL;
	crowd.running = CROWD_WRITERS;
	for (unsigned int i = 0; i < ARRAY_SIZE(members); i++) {
		struct crowd_member *member = &members[i];

		member->fn = i < CROWD_WRITERS ? crowd_writer : others[i - CROWD_WRITERS];
		member->arg = (void *)(uintptr_t)i;
		MUST(pthread_create(&member->thread, NULL, crowd_member_main, member) == 0);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(members); i++)
		MUST(pthread_join(members[i].thread, NULL) == 0);
	sched_hook = NULL;
	MUST(!crowd.failed);
}

START_TEST(writers_readers_ranges_and_checkpoints_at_once_keep_every_cluster_right)
{
	bool has_parent = _i & 1, is_restless = _i & 2;
	uint64_t id;

	memset(&crowd, 0, sizeof(crowd));
	mfx_reopen_map(has_parent ? 30000 : 0, 2);
	crowd.layer = crowd_layer_new(has_parent ? CROWD_PARENTS : 0);
	id = crowd.layer->id;
	rwlock_init(&crowd.gate, LOCK_GATE);
	mutex_init(&crowd.checkpoint_lock, LOCK_CHECKPOINT);
	mutex_init(&crowd.lsn_lock, LOCK_STREAM);
	crowd_run(is_restless);

	/* Everything to rows, and back in from there. */
	mini_checkpoint(mfx.map, mfx.meta);
	layer_unref(mfx.map, crowd.layer);
	crowd.layer = mfx_new_layer(id, NULL, UINT64_MAX, 0);
	for (uint64_t c = 0; c < CROWD_CLUSTERS; c++) {
		loc_t loc = mfx_lookup(crowd.layer, c);

		MUST(loc_is_place(crowd.expected[c]) ? loc == crowd.expected[c] :
						       !loc_is_place(loc));
	}
	layer_unref(mfx.map, crowd.layer);
	rwlock_done(&crowd.gate);
	mutex_done(&crowd.checkpoint_lock);
	mutex_done(&crowd.lsn_lock);
}
END_TEST

#define LAST_ROUNDS 2000u

/* A merge takes out the middle one of three layers while the last user of the top goes. */
static struct going {
	pthread_barrier_t turn;
	struct layer *top;
} going;

static void *last_user(void *arg)
{
	(void)arg;
	for (unsigned int round = 0; round < LAST_ROUNDS; round++) {
		(void)pthread_barrier_wait(&going.turn);
		layer_unref(mfx.map, going.top);
		(void)pthread_barrier_wait(&going.turn);
	}
	return NULL;
}

static void last_merge(uint64_t top)
{
	struct layer *l = map_layer_find(mfx.map, top);

	if (!l)
		return;
	map_chain_hold_alone(mfx.map);
	map_layer_relink(mfx.map, l, UINT64_MAX);
	map_chain_release_alone(mfx.map);
	layer_unref(mfx.map, l);
}

START_TEST(whoever_lets_a_layer_go_lets_go_of_the_parent_that_it_has_by_then)
{
	pthread_t user;

	MUST(pthread_barrier_init(&going.turn, NULL, 2) == 0);
	sched_hook = &restless;
	MUST(pthread_create(&user, NULL, last_user, NULL) == 0);
	for (unsigned int round = 0; round < LAST_ROUNDS; round++) {
		going.top = crowd_layer_new(2);
		(void)pthread_barrier_wait(&going.turn);
		last_merge(3);
		(void)pthread_barrier_wait(&going.turn);
		for (uint64_t id = 1; id <= 3; id++)
			MUST(!map_layer_find(mfx.map, id));
	}
	MUST(pthread_join(user, NULL) == 0);
	sched_hook = NULL;
	MUST(pthread_barrier_destroy(&going.turn) == 0);
}
END_TEST

#define ORDER_CLUSTERS 3u
#define ORDER_ROUNDS   20000u

/* Each entry says what it found; so the log must be one chain a cluster. */
static void order_writer(void *arg)
{
	unsigned int me = (unsigned int)(uintptr_t)arg;
	uint64_t rng = 31 + me;

	for (unsigned int n = 0; n < ORDER_ROUNDS;) {
		uint64_t c = step_rng(&rng) % ORDER_CLUSTERS;
		struct crowd_entry entry = { c, mfx_place(1 + me, 1 + n), 0 };
		struct map_update u = { .first = c,
					.count = 1,
					.loc = entry.loc,
					.conditional = true,
					.publish = crowd_publish,
					.arg = &entry };
		lsn_t lsn;
		int r;

		crowd_must(mfx_try_lookup(crowd.layer, c, &entry.before) == 0);
		u.expect = entry.before;
		r = map_update(mfx.map, crowd.layer, &u, &lsn, NULL);
		crowd_must(r == 0 || r == -ESTALE);
		n += r == 0;
	}
}

START_TEST(the_order_of_lsns_is_the_order_of_the_map)
{
	struct thread *threads[4];
	loc_t last[ORDER_CLUSTERS] = { 0 };

	memset(&crowd, 0, sizeof(crowd));
	crowd.layer = mfx_new_layer(1, NULL, 0, 0);
	crowd.log_room = 4 * ORDER_ROUNDS + 1;
	crowd.log = calloc(crowd.log_room, sizeof(*crowd.log));
	mutex_init(&crowd.lsn_lock, LOCK_STREAM);
	for (unsigned int i = 0; i < 4; i++)
		MUST(thread_start("writer", order_writer, (void *)(uintptr_t)i, &threads[i]) == 0);
	for (unsigned int i = 0; i < 4; i++)
		thread_join(threads[i]);
	MUST(!crowd.failed && mfx.lsn == 4 * ORDER_ROUNDS);
	for (lsn_t lsn = 1; lsn < crowd.log_room; lsn++) {
		const struct crowd_entry *entry = &crowd.log[lsn];

		MUST(entry->before == last[entry->cluster]);
		last[entry->cluster] = entry->loc;
	}

	for (uint64_t c = 0; c < ORDER_CLUSTERS; c++)
		ck_assert_uint_eq(mfx_lookup(crowd.layer, c), last[c]);
	layer_unref(mfx.map, crowd.layer);
	mutex_done(&crowd.lsn_lock);
	free(crowd.log);
}
END_TEST

/* ---- speed, told and not judged --------------------------------------------------------------- */

START_TEST(the_cost_of_updates_and_lookups_is_printed)
{
	const unsigned int rounds = 400000;
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);
	uint32_t crc = 1;
	uint64_t rng = 5, start, update_ns, lookup_ns;
	loc_t sum = 0;

	for (unsigned int n = 0; n < 20000; n++)
		mfx_update(l, step_rng(&rng) % (16 * PAGE_CLUSTERS), 1, mfx_place(1 + n, 1));
	start = clock_mono_ns();
	for (unsigned int n = 0; n < rounds; n++) {
		struct map_update u = { .first = step_rng(&rng) % (16 * PAGE_CLUSTERS),
					.count = 1,
					.loc = mfx_place(1 + n, 1),
					.crcs = &crc,
					.publish = mfx_publish };
		lsn_t lsn;

		MUST(map_update(mfx.map, l, &u, &lsn, NULL) == 0);
	}
	update_ns = clock_mono_ns() - start;
	start = clock_mono_ns();
	for (unsigned int n = 0; n < rounds; n++)
		sum += mfx_lookup(l, step_rng(&rng) % (16 * PAGE_CLUSTERS));
	lookup_ns = clock_mono_ns() - start;
	printf("map: update of a TABLE page %.1f ns, lookup of one cluster %.1f ns\n",
	       (double)update_ns / rounds, (double)lookup_ns / rounds);
	MUST(sum != 0);
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

static Suite *threads_suite(void)
{
	Suite *s = suite_create("volume/map_threads");
	TCase *threads = map_case(s, "threads");

	tcase_add_loop_test(threads,
			    writers_readers_ranges_and_checkpoints_at_once_keep_every_cluster_right,
			    0, 4);
	tcase_add_test(threads, whoever_lets_a_layer_go_lets_go_of_the_parent_that_it_has_by_then);
	tcase_add_test(threads, the_order_of_lsns_is_the_order_of_the_map);
	tcase_add_test(threads, the_cost_of_updates_and_lookups_is_printed);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(threads_suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
