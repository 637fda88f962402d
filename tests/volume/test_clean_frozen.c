/* What only snapshots have of a SCO is moved, too: space follows what lives, and every byte stays. */
#include "support_snapshot.h"

#include "volume/checkpoint_impl.h"
#include "volume/snapshot.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CLUSTERS (6 * MIB / CLUSTER_BYTES)
#define ROUNDS	 4u
#define KEPT	 3u
/* Of live data. Without the cleaner it is far more. */
#define USED_PERCENT_MAX   160u
#define CLEAN_PERCENT	   120u
#define NO_CLEANER_PERCENT 100000u

/* Generation of each cluster, of the disk and of each snapshot kept. */
struct shown {
	char name[16];
	uint16_t generation[CLUSTERS];
};
static struct shown live, snaps[KEPT];
static unsigned int snap_count;
static uint64_t disk;
static struct rng rng;

static void begin(void)
{
	pf.options.backend_url = "mem:clean_frozen";
	pf.options.sco_bytes = MIB / 2;
	pf.options.checkpoint_interval_ns = 50 * MS_NS; /* each calls the cleaner */
	pf.options.clean_target_percent = NO_CLEANER_PERCENT;
	pf.options.grace_time_ns = 0;
	snap_count = 0;
	memset(&live, 0, sizeof(live));
	rng.state = 5;
}

static void fill(uint8_t *dst, uint64_t cluster, unsigned int generation)
{
	pattern_fill(dst, CLUSTER_BYTES, cluster * 1000 + generation);
}

static void expect_shown(struct object *o, const struct shown *s)
{
	uint8_t *mem = aligned_mem(64 * CLUSTER_BYTES);

	for (uint64_t at = 0; at < CLUSTERS; at += 64) {
		for (unsigned int i = 0; i < 64; i++)
			fill(mem + i * CLUSTER_BYTES, at + i, s->generation[at + i]);
		expect_bytes(o, at * CLUSTER_BYTES, mem, 64 * CLUSTER_BYTES);
	}
	free(mem);
}

static void expect_snapshot(const struct shown *s)
{
	struct object *o;
	struct err e = { 0 };

	ck_assert_msg(snapshot_open(pf.pool, disk, s->name, &o, &e) == 0, "%s", e.message);
	expect_shown(o, s);
	object_close(o);
}

static void expect_all(void)
{
	struct object *o = get_object(disk);

	expect_shown(o, &live);
	object_close(o);
	for (unsigned int i = 0; i < snap_count; i++)
		expect_snapshot(&snaps[i]);
}

/* So many writes at random. What is written first is half dead when the last comes. */
static void write_some(struct object *o, unsigned int count)
{
	uint8_t *mem = aligned_mem(CLUSTER_BYTES);

	while (count-- > 0) {
		uint64_t i = rng_below(&rng, CLUSTERS);

		fill(mem, i, ++live.generation[i]);
		write_bytes(o, i * CLUSTER_BYTES, mem, CLUSTER_BYTES);
	}
	free(mem);
}

static void write_all(struct object *o)
{
	uint8_t *mem = aligned_mem(CLUSTER_BYTES);

	for (uint64_t i = 0; i < CLUSTERS; i++) {
		fill(mem, i, ++live.generation[i]);
		write_bytes(o, i * CLUSTER_BYTES, mem, CLUSTER_BYTES);
	}
	free(mem);
}

static void take(struct object *o, unsigned int number)
{
	struct shown *s = &snaps[snap_count];
	struct snapshot_wanted wanted = { .object = o, .name = s->name };
	struct err e = { 0 };

	if (snap_count == KEPT) {
		ck_assert_int_eq(snapshot_delete(pf.pool, disk, snaps[0].name, &e), 0);
		memmove(&snaps[0], &snaps[1], (KEPT - 1) * sizeof(snaps[0]));
		s = &snaps[KEPT - 1];
		wanted.name = s->name;
	} else {
		snap_count++;
	}
	*s = live;
	(void)snprintf(s->name, sizeof(s->name), "s%u", number);
	ck_assert_msg(snapshot_create(pf.pool, &wanted, 1, &e) == 0, "%s", e.message);
}

static struct space space_now(void)
{
	struct row_key from = row_key_2u64(ROW_SCO, 0, 0);
	struct row_key until = row_key_2u64(ROW_SCO, UINT32_MAX, UINT64_MAX);
	struct space s = { 0 };

	ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
	ck_assert_int_eq(meta_iterate(pf.pool->meta, META_STATE, &from, &until, count_sco, &s,
				      NULL),
			 0);
	return s;
}

static bool space_is_bounded(UNUSED void *arg)
{
	struct space s = space_now();

	return s.used_slots * 100 <= s.live_slots * USED_PERCENT_MAX;
}

static void let_clean(void)
{
	pf.options.clean_target_percent = CLEAN_PERCENT;
	pool_change_options(pf.pool, &pf.options);
	wait_until(space_is_bounded, NULL, 20, "the cleaner to move what snapshots have");
	ck_assert_uint_gt(pool_fixture_counter("clean_frozen_clusters"), 0);
}

/* A disk and snapshots of it that rotate. Between two of them most of it is written twice, so what each
 * has lies beside what died before it was made. */
static struct object *rotate(void)
{
	struct object *o = make_object(OBJECT_DISK);
	struct space s;

	disk = id_of(o);
	write_all(o);
	for (unsigned int i = 1; i <= ROUNDS; i++) {
		take(o, i);
		write_some(o, 2 * CLUSTERS);
	}
	s = space_now();
	ck_assert_uint_gt(s.used_slots * 100, s.live_slots * USED_PERCENT_MAX);
	return o;
}

static void lose_machine_and_restore(void)
{
	struct err e = { 0 };

	ck_assert_msg(pool_sync_backend(pf.pool, &e) == 0, "%s", e.message);
	pool_fixture_lose_machine();
	pool_fixture_open();
}

START_TEST(space_follows_what_lives_with_snapshots_and_every_byte_stays)
{
	struct object *o;

	pool_fixture_create();
	pool_fixture_open();
	o = rotate();
	object_close(o);
	let_clean();
	expect_all();
	pool_fixture_check();
	pool_fixture_restart();
	expect_all();
	pool_fixture_check();
	lose_machine_and_restore();
	expect_all();
	pool_fixture_check();
}
END_TEST

/* What it read before is in RAM, in pages of the snapshot and of all that lies on it. */
START_TEST(who_has_read_a_snapshot_goes_on_reading_what_was_moved_from_there)
{
	struct object *o, *open[KEPT];

	pool_fixture_create();
	pool_fixture_open();
	o = rotate();
	for (unsigned int i = 0; i < KEPT; i++) {
		ck_assert_int_eq(snapshot_open(pf.pool, disk, snaps[i].name, &open[i], NULL), 0);
		expect_shown(open[i], &snaps[i]);
	}
	expect_shown(o, &live);
	let_clean();
	expect_shown(o, &live);
	for (unsigned int i = 0; i < KEPT; i++)
		expect_shown(open[i], &snaps[i]);
	for (unsigned int i = 0; i < KEPT; i++)
		object_close(open[i]);
	object_close(o);
}
END_TEST

/* --- what the counts rest on -------------------------------------------------------------------- */

/* A layer that nobody has: its row is looked for behind the death of the process. */
#define LAYER UINT64_C(987654321)

/* As a step of a merge does it, in a pool where nothing else is to be written. */
static void commit_rows_and_die(UNUSED int to_parent, UNUSED void *arg)
{
	struct checkpoint c = { 0 };

	pool_fixture_create();
	pool_fixture_open_quiet();
	mutex_lock(&pf.pool->checkpoint_lock);
	c.pool = pf.pool;
	c.batch = meta_batch_new(pf.pool->meta, META_STATE);
	buf_init(&c.value, 4096);
	ck_assert_int_eq(checkpoint_note_change(&c, LAYER, 0), 0);
	ck_assert_int_eq(checkpoint_commit(&c, NULL), 0);
	meta_batch_free(pf.pool->meta, c.batch);
	buf_done(&c.value);
	mutex_unlock(&pf.pool->checkpoint_lock);
	ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
}

START_TEST(a_checkpoint_flushes_rows_that_were_committed_between_two)
{
	struct row_key key = row_key_2u64(ROW_CHANGED, LAYER, 0);
	struct meta_options mo = { .cache_bytes = 1 << 20, .write_buffer_bytes = 1 << 20 };
	char path[PATH_BYTES];
	struct meta *meta;
	struct buf value;

	pf.options.checkpoint_interval_ns = HOUR_NS;
	in_child_killed(commit_rows_and_die, NULL);
	buf_init(&value, 4096);
	ck_assert_int_eq(meta_rocksdb_open(pool_path(path, "meta"), &mo, &meta, NULL), 0);
	ck_assert_int_eq(meta_get(meta, META_STATE, &key, &value, NULL), 0);
	meta_close(meta);
	buf_done(&value);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("clean_frozen");
	TCase *t = tcase_create("clean_frozen");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_test(t, space_follows_what_lives_with_snapshots_and_every_byte_stays);
	tcase_add_test(t, who_has_read_a_snapshot_goes_on_reading_what_was_moved_from_there);
	tcase_add_test(t, a_checkpoint_flushes_rows_that_were_committed_between_two);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
