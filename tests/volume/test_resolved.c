/* Copies of what frozen layers show: they save look-ups, follow what moves, and leave nothing. */
#include "support_snapshot.h"

#include "volume/pool_impl.h"
#include "volume/resolved.h"
#include "volume/snapshot.h"

#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLUSTERS    (4 * MIB / CLUSTER_BYTES)
#define PAGES	    (CLUSTERS / PAGE_CLUSTERS)
#define SNAPS_MAX   48u
#define SNAPS	    18u
#define MOVED_SNAPS 10u
#define FEW	    40u /* clusters written between two snapshots */
#define FEW_LAYERS  8u

#define USED_PERCENT_MAX   160u
#define CLEAN_PERCENT	   120u
#define NO_CLEANER_PERCENT 100000u

/* Generation of each cluster, of the disk and of each snapshot; name "": it is gone. */
struct shown {
	char name[16];
	uint16_t generation[CLUSTERS];
};
static struct shown live, snaps[SNAPS_MAX];
static unsigned int snap_count;
static uint64_t disk;
static struct rng rng;

/* Copies are made when a test says so. */
static void restart(void)
{
	pool_fixture_restart();
	job_stop(&pf.pool->resolver);
}

static void begin(void)
{
	pf.options.backend_url = "mem:resolved";
	pf.options.sco_bytes = MIB / 2;
	pf.options.checkpoint_interval_ns = HOUR_NS;
	pf.options.clean_target_percent = NO_CLEANER_PERCENT;
	snap_count = 0;
	memset(&live, 0, sizeof(live));
	rng.state = 7;
	pool_fixture_create();
	pool_fixture_open_quiet();
	job_stop(&pf.pool->resolver);
}

static void fill(uint8_t *dst, uint64_t cluster, unsigned int generation)
{
	pattern_fill(dst, CLUSTER_BYTES, cluster * 1000 + generation);
}

static void expect_shown(struct object *o, const struct shown *s)
{
	uint8_t *mem = aligned_mem(64 * CLUSTER_BYTES);

	for (uint64_t at = 0; at < CLUSTERS; at += 64) {
		for (unsigned int i = 0; i < 64; i++) {
			memset(mem + i * CLUSTER_BYTES, 0, CLUSTER_BYTES);
			if (s->generation[at + i])
				fill(mem + i * CLUSTER_BYTES, at + i, s->generation[at + i]);
		}
		expect_bytes(o, at * CLUSTER_BYTES, mem, 64 * CLUSTER_BYTES);
	}
	free(mem);
}

static void expect_live(void)
{
	struct object *o = get_object(disk);

	expect_shown(o, &live);
	object_close(o);
}

static void expect_all(void)
{
	struct object *o;
	struct err e = { 0 };

	expect_live();
	for (unsigned int i = 0; i < snap_count; i++) {
		if (!snaps[i].name[0])
			continue;
		ck_assert_msg(snapshot_open(pf.pool, disk, snaps[i].name, &o, &e) == 0, "%s",
			      e.message);
		expect_shown(o, &snaps[i]);
		object_close(o);
	}
}

static void write_cluster(struct object *o, struct shown *s, uint64_t cluster)
{
	uint8_t *mem = aligned_mem(CLUSTER_BYTES);

	fill(mem, cluster, ++s->generation[cluster]);
	write_bytes(o, cluster * CLUSTER_BYTES, mem, CLUSTER_BYTES);
	free(mem);
}

static void write_some(struct object *o, struct shown *s, unsigned int count)
{
	while (count-- > 0)
		write_cluster(o, s, rng_below(&rng, CLUSTERS));
}

static void take(struct object *o)
{
	struct shown *s = &snaps[snap_count];
	struct snapshot_wanted wanted = { .object = o, .name = s->name };
	struct err e = { 0 };

	ck_assert_uint_lt(snap_count, SNAPS_MAX);
	*s = live;
	(void)snprintf(s->name, sizeof(s->name), "s%u", snap_count++);
	ck_assert_msg(snapshot_create(pf.pool, &wanted, 1, &e) == 0, "%s", e.message);
}

static void delete_snapshot(unsigned int i)
{
	ck_assert_int_eq(snapshot_delete(pf.pool, disk, snaps[i].name, NULL), 0);
	snaps[i].name[0] = '\0';
}

static void take_many(unsigned int count, unsigned int writes)
{
	struct object *o = get_object(disk);

	while (count-- > 0) {
		take(o);
		write_some(o, &live, writes);
	}
	object_close(o);
}

/* All written once, but for a piece that no layer has. */
static void make_disk(void)
{
	struct object *o = make_object(OBJECT_DISK);

	disk = id_of(o);
	for (uint64_t i = 0; i < CLUSTERS; i++)
		if (i % 100 != 7)
			write_cluster(o, &live, i);
	object_close(o);
}

static void make_copies(void)
{
	ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
	while (resolver_step(pf.pool) != WAIT_FOREVER)
		continue;
}

static int count_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		     size_t value_bytes)
{
	struct resolved_row row;

	(void)key;
	(void)key_bytes;
	ck_assert_int_eq(resolved_row_decode(value, value_bytes, &row, NULL), 0);
	++*(size_t *)arg;
	return 0;
}

static size_t copies_of_layers(uint64_t first, uint64_t last)
{
	struct row_key from = row_key_2u64(ROW_RESOLVED, first, 0);
	struct row_key until = row_key_2u64(ROW_RESOLVED, last, UINT64_MAX);
	size_t count = 0;

	ck_assert_int_eq(meta_iterate(pf.pool->meta, META_STATE, &from, &until, count_row, &count,
				      NULL),
			 0);
	return count;
}

static size_t copies(void)
{
	return copies_of_layers(0, UINT64_MAX);
}

static bool no_copies(UNUSED void *arg)
{
	ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
	return copies() == 0;
}

/* What one look at each page of a disk that was just opened takes. */
static uint64_t rows_of_cold_reads(void)
{
	struct object *o;
	uint64_t before;

	restart();
	o = get_object(disk);
	before = map_usage(pf.pool->map).rows;
	expect_shown(o, &live);
	object_close(o);
	return map_usage(pf.pool->map).rows - before;
}

static void count_problem(void *arg, const struct pool_problem *problem)
{
	if (!arg)
		ck_abort_msg("%s: sco %" PRIu64, problem->what, problem->sco);
	++*(unsigned int *)arg;
}

static void check_pool(unsigned int *problems, bool repair)
{
	struct pool_check_options options = {
		.data = true, .repair = repair, .problem = count_problem, .arg = problems
	};
	struct pool_check_result result;
	struct err e = { 0 };

	ck_assert_msg(pool_check(pf.pool, &options, &result, &e) == 0, "%s", e.message);
}

/* Each page of the disk and of every snapshot that takes many rows has one. */
static void resolve_all(void)
{
	restart();
	expect_all();
	make_copies();
	ck_assert_uint_ge(copies(), PAGES);
}

/* A long chain as a program left it that knew of no copies. Open after the next restart only. */
static void make_unresolved(void)
{
	pf.options.resolve_layers = UINT_MAX;
	restart();
	make_disk();
	take_many(SNAPS, FEW);
	ck_assert_uint_eq(copies(), 0);
	pf.options.resolve_layers = 0;
}

START_TEST(a_long_chain_takes_few_rows_once_it_was_read)
{
	make_unresolved();
	ck_assert_uint_ge(rows_of_cold_reads(), PAGES * SNAPS);
	make_copies();
	ck_assert_uint_eq(copies(), PAGES);
	expect_all();
	ck_assert_uint_le(rows_of_cold_reads(), PAGES * 4);
	ck_assert_uint_eq(pool_fixture_counter("resolved_pages"), 0);
	expect_all();
	check_pool(NULL, false);
}
END_TEST

/* By checkpoints alone: nobody reads, and no job runs. */
START_TEST(a_growing_chain_keeps_one_copy_of_a_page)
{
	make_disk();
	for (unsigned int i = 0; i < 4; i++) {
		take_many(FEW_LAYERS + 2, FEW);
		ck_assert_uint_eq(copies(), PAGES);
		ck_assert_uint_le(rows_of_cold_reads(), PAGES * (FEW_LAYERS + 2));
	}
	expect_all();
	check_pool(NULL, false);
}
END_TEST

/* As writes do: each page of a checkpoint is looked up through the whole chain. */
START_TEST(a_disk_that_is_only_written_has_copies_too)
{
	struct object *o;

	make_unresolved();
	restart();
	o = get_object(disk);
	write_some(o, &live, FEW);
	make_copies();
	ck_assert_uint_eq(copies(), PAGES);
	object_close(o);
	expect_all();
}
END_TEST

static bool has_copies(UNUSED void *arg)
{
	return copies() == PAGES;
}

START_TEST(copies_are_made_as_soon_as_a_page_took_long)
{
	make_unresolved();
	pool_fixture_restart();
	expect_live();
	wait_until(has_copies, NULL, 30, "copies of what was read");
	ck_assert_uint_le(rows_of_cold_reads(), PAGES * 4);
	expect_all();
	check_pool(NULL, false);
}
END_TEST

/* A copy of the layer that was live when they were wished for would be of no use, one above it is. */
START_TEST(wishes_follow_the_live_layer)
{
	struct object *o;
	uint64_t newest;

	make_unresolved();
	restart();
	pool_fixture_wait_quiet(); /* a checkpoint would serve them */
	expect_live();
	ck_assert(map_has_wishes(pf.pool->map));
	o = get_object(disk);
	take(o);
	newest = o->layer->parent->id;
	object_close(o);
	ck_assert_uint_eq(copies(), PAGES);
	ck_assert_uint_eq(copies_of_layers(newest, newest), PAGES);
}
END_TEST

/* --- places move -------------------------------------------------------------------------------- */

static bool space_is_bounded(UNUSED void *arg)
{
	struct row_key from = row_key_2u64(ROW_SCO, 0, 0);
	struct row_key until = row_key_2u64(ROW_SCO, UINT32_MAX, UINT64_MAX);
	struct space s = { 0 };

	ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
	job_kick(&pf.pool->cleaner);
	ck_assert_int_eq(meta_iterate(pf.pool->meta, META_STATE, &from, &until, count_sco, &s,
				      NULL),
			 0);
	return s.used_slots * 100 <= s.live_slots * USED_PERCENT_MAX;
}

static void let_clean(void)
{
	pf.options.clean_target_percent = CLEAN_PERCENT;
	pool_change_options(pf.pool, &pf.options);
	wait_until(space_is_bounded, NULL, 30, "the cleaner to move what snapshots have");
	ck_assert_uint_gt(pool_fixture_counter("clean_frozen_clusters"), 0);
	pf.options.clean_target_percent = NO_CLEANER_PERCENT;
	pool_change_options(pf.pool, &pf.options);
}

START_TEST(what_was_moved_since_is_not_found_where_it_was)
{
	struct object *o;

	/* Each layer has much of every page, so look-ups do not go deep. */
	pf.options.resolve_layers = 1;
	restart();
	make_disk();
	o = get_object(disk);
	/* Most of what lies beside each snapshot's clusters is dead before the next one is made. */
	for (unsigned int i = 0; i < MOVED_SNAPS; i++) {
		take(o);
		write_some(o, &live, 2 * CLUSTERS);
	}
	ck_assert(!space_is_bounded(NULL));
	object_close(o);
	resolve_all();
	let_clean();
	expect_all();
	check_pool(NULL, false);
	restart();
	expect_all();
	check_pool(NULL, false);
	make_copies();
	restart();
	expect_all();
	check_pool(NULL, false);
}
END_TEST

/* --- layers go ---------------------------------------------------------------------------------- */

/* Their layers are merged, so copies of what is there no more go, and others stay right. */
START_TEST(copies_go_with_their_layers_and_the_others_stay_right)
{
	make_disk();
	take_many(SNAPS, FEW);
	resolve_all();
	for (unsigned int i = 0; i < SNAPS; i += 1 + (unsigned int)rng_below(&rng, 3)) {
		delete_snapshot(i);
		if (i % 4 == 0)
			expect_all();
		if (i % 8 == 0) {
			restart();
			expect_all();
			make_copies();
			check_pool(NULL, false);
		}
	}
	resolve_all();
	check_pool(NULL, false);
	for (unsigned int i = 0; i < SNAPS; i++)
		if (snaps[i].name[0])
			delete_snapshot(i);
	expect_all();
	wait_until(no_copies, NULL, 30, "the copies to go");
	expect_all();
	ck_assert_int_eq(object_delete(pf.pool, disk, NULL), 0);
}
END_TEST

START_TEST(clones_and_rollbacks_see_what_they_saw)
{
	struct object *o, *c;
	struct shown cloned;
	uint64_t clone;

	make_disk();
	take_many(SNAPS, FEW);
	resolve_all();
	o = get_object(disk);
	cloned = snaps[SNAPS - 3];
	clone = clone_of(o, cloned.name);
	c = get_object(clone);
	expect_shown(c, &cloned);
	write_some(c, &cloned, FEW);
	/* Shorter, and long again: what is behind it is the parents' no more. */
	ck_assert_int_eq(object_truncate(c, (CLUSTERS / 2 - 9) * CLUSTER_BYTES, NULL), 0);
	ck_assert_int_eq(object_truncate(c, CLUSTERS * CLUSTER_BYTES, NULL), 0);
	memset(cloned.generation + CLUSTERS / 2 - 9, 0,
	       (CLUSTERS / 2 + 9) * sizeof(cloned.generation[0]));
	expect_shown(c, &cloned);
	object_close(c);
	ck_assert_int_eq(snapshot_rollback(o, snaps[SNAPS - 6].name, true, NULL), 0);
	live = snaps[SNAPS - 6];
	snap_count = SNAPS - 5;
	write_some(o, &live, FEW);
	object_close(o);
	for (unsigned int i = 0; i < 3; i++) {
		resolve_all();
		c = get_object(clone);
		expect_shown(c, &cloned);
		object_close(c);
		make_copies();
		check_pool(NULL, false);
	}
	for (unsigned int i = 0; i < snap_count; i++)
		delete_snapshot(i);
	ck_assert_int_eq(object_delete(pf.pool, disk, NULL), 0);
	c = get_object(clone);
	expect_shown(c, &cloned);
	object_close(c);
	ck_assert_int_eq(object_delete(pf.pool, clone, NULL), 0);
	wait_until(no_copies, NULL, 30, "the copies to go");
}
END_TEST

/* --- what is on the disk is not believed -------------------------------------------------------- */

struct victim {
	struct row_key key;
	struct buf value;
};

static int take_victim(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		       size_t value_bytes)
{
	struct victim *v = arg;
	uint64_t layer, page;

	ck_assert_int_eq(row_key_parse_2u64(key, key_bytes, ROW_RESOLVED, &layer, &page), 0);
	v->key = row_key_2u64(ROW_RESOLVED, layer, page);
	return buf_append(&v->value, value, value_bytes) == 0;
}

static void put(const struct row_key *key, const struct buf *value)
{
	struct meta_batch *b = meta_batch_new(pf.pool->meta, META_STATE);

	ck_assert_int_eq(meta_batch_put(pf.pool->meta, b, key, value), 0);
	ck_assert_int_eq(meta_commit(pf.pool->meta, b, 0, NULL), 0);
	meta_batch_free(pf.pool->meta, b);
}

static void take_first(struct victim *v)
{
	struct row_key from = row_key_2u64(ROW_RESOLVED, 0, 0);
	struct row_key until = row_key_2u64(ROW_RESOLVED, UINT64_MAX, UINT64_MAX);

	buf_init(&v->value, 65536);
	ck_assert_int_eq(meta_iterate(pf.pool->meta, META_STATE, &from, &until, take_victim, v,
				      NULL),
			 1);
}

START_TEST(a_damaged_copy_is_passed_over_and_made_anew)
{
	struct victim v;

	make_disk();
	take_many(SNAPS, FEW);
	(void)rows_of_cold_reads();
	make_copies();
	take_first(&v);
	v.value.data[20] ^= 4;
	put(&v.key, &v.value);
	buf_done(&v.value);
	(void)rows_of_cold_reads();
	make_copies();
	ck_assert_uint_eq(copies(), PAGES); /* each decodes */
	ck_assert_uint_le(rows_of_cold_reads(), PAGES * 4);
}
END_TEST

START_TEST(check_finds_a_copy_that_says_something_else_and_takes_it_out)
{
	struct row_key stray = row_key_2u64(ROW_RESOLVED, 999999, 3);
	struct resolved_row row = { .sequence = UINT64_MAX };
	unsigned int problems = 0;
	struct buf page, value;
	struct victim v;

	make_disk();
	take_many(SNAPS, FEW);
	(void)rows_of_cold_reads();
	make_copies();
	take_first(&v);
	buf_init(&page, 65536);
	buf_init(&value, 65536);
	ck_assert_int_eq(page_value_encode(PAGE_BASE, NULL, 0, &page), 0);
	row.page = page.data;
	row.page_bytes = page.len_bytes;
	ck_assert_int_eq(resolved_row_encode(&row, &value), 0);
	put(&v.key, &value);
	put(&stray, &value);
	check_pool(&problems, false);
	ck_assert_uint_eq(problems, 2);
	check_pool(&problems, true);
	ck_assert_uint_eq(problems, 4);
	ck_assert_uint_eq(copies(), PAGES - 1);
	check_pool(NULL, false);
	(void)rows_of_cold_reads();
	buf_done(&v.value);
	buf_done(&page);
	buf_done(&value);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("resolved");
	TCase *t = tcase_create("resolved"), *moves = tcase_create("moves");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	pool_fixture_add(moves, begin);
	tcase_add_test(t, a_long_chain_takes_few_rows_once_it_was_read);
	tcase_add_test(t, a_growing_chain_keeps_one_copy_of_a_page);
	tcase_add_test(t, a_disk_that_is_only_written_has_copies_too);
	tcase_add_test(t, copies_are_made_as_soon_as_a_page_took_long);
	tcase_add_test(t, wishes_follow_the_live_layer);
	tcase_add_test(moves, what_was_moved_since_is_not_found_where_it_was);
	tcase_add_test(t, copies_go_with_their_layers_and_the_others_stay_right);
	tcase_add_test(t, clones_and_rollbacks_see_what_they_saw);
	tcase_add_test(t, a_damaged_copy_is_passed_over_and_made_anew);
	tcase_add_test(t, check_finds_a_copy_that_says_something_else_and_takes_it_out);
	suite_add_tcase(s, t);
	suite_add_tcase(s, moves);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
