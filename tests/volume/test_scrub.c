/* A scrub: what is dead is given back to the last, whatever the thresholds are. */
#include "support_pool.h"

#include "volume/pool_impl.h"
#include "volume/snapshot.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define CLUSTERS (4 * MIB / CLUSTER_BYTES)
/* Cleaning by itself has nothing to do. */
#define NO_CLEANER_PERCENT 100000u

static uint16_t generation[CLUSTERS];
static uint64_t disk;
static struct rng rng;

#define FLASH_BYTES (4096 * MIB)

static void begin(void)
{
	static char cache[PATH_BYTES];

	/* Were it as large as the filesystem, how full that is would decide what is evicted. */
	pf.options.cache[0].path = pool_path(cache, "cache");
	pf.options.cache[0].size_bytes = FLASH_BYTES;
	pf.options.cache_count = 1;
	pf.options.sco_bytes = MIB / 2;
	pf.options.backend_copy = 2; /* a second copy, so that both give back */
	pf.options.clean_target_percent = NO_CLEANER_PERCENT;
	pf.options.grace_time_ns = 0;
	memset(generation, 0, sizeof(generation));
	rng.state = 5;
	pool_fixture_create();
	pool_fixture_open_quiet();
}

static void write_cluster(struct object *o, uint64_t i)
{
	uint8_t *mem = aligned_mem(CLUSTER_BYTES);

	pattern_fill(mem, CLUSTER_BYTES, i * 1000 + ++generation[i]);
	write_bytes(o, i * CLUSTER_BYTES, mem, CLUSTER_BYTES);
	free(mem);
}

static void sync_backend(void)
{
	struct err e = { 0 };

	ck_assert_msg(pool_sync_backend(pf.pool, &e) == 0, "%s", e.message);
}

/* A disk of which half was written again at random, with a snapshot from the middle of that. */
static void make_garbage(bool with_snapshot)
{
	struct object *o = make_object(OBJECT_DISK);
	struct snapshot_wanted wanted = { .object = o, .name = "one" };

	disk = id_of(o);
	for (uint64_t i = 0; i < CLUSTERS; i++)
		write_cluster(o, i);
	sync_backend();
	for (unsigned int i = 0; i < CLUSTERS; i++) {
		if (with_snapshot && i == CLUSTERS / 2)
			ck_assert_int_eq(snapshot_create(pf.pool, &wanted, 1, NULL), 0);
		write_cluster(o, rng_below(&rng, CLUSTERS));
	}
	sync_backend();
	object_close(o);
}

static void expect_disk(void)
{
	struct object *o = get_object(disk);
	uint8_t *mem = aligned_mem(CLUSTER_BYTES);

	for (uint64_t i = 0; i < CLUSTERS; i++) {
		pattern_fill(mem, CLUSTER_BYTES, i * 1000 + generation[i]);
		expect_bytes(o, i * CLUSTER_BYTES, mem, CLUSTER_BYTES);
	}
	object_close(o);
	free(mem);
}

static struct pool_scrub_status status(void)
{
	struct pool_scrub_status st;

	pool_scrub_status(pf.pool, &st);
	return st;
}

static bool is_over(UNUSED void *arg)
{
	return status().phase >= POOL_SCRUB_DONE;
}

static struct pool_scrub_status scrub(void)
{
	pool_scrub(pf.pool);
	wait_until(is_over, NULL, 60, "the scrub");
	return status();
}

static struct pool_scrub_plan look(void)
{
	struct pool_scrub_plan plan;
	struct err e = { 0 };

	ck_assert_msg(pool_scrub_look(pf.pool, &plan, &e) == 0, "%s", e.message);
	return plan;
}

static uint64_t used_bytes(void)
{
	char path[PATH_BYTES];

	return tree_bytes(pool_path(path, "objects"));
}

static void expect_no_problem(UNUSED void *arg, const struct pool_problem *problem)
{
	ck_abort_msg("%s: sco %" PRIu64, problem->what, problem->sco);
}

static void check_pool(void)
{
	struct pool_check_options options = { .data = true, .problem = expect_no_problem };
	struct pool_check_result result;
	struct err e = { 0 };

	ck_assert_msg(pool_check(pf.pool, &options, &result, &e) == 0, "%s", e.message);
}

START_TEST(a_scrub_gives_back_what_is_dead)
{
	struct pool_scrub_plan plan;
	struct pool_scrub_status st;
	uint64_t before;

	make_garbage(false);
	before = used_bytes();
	plan = look();
	ck_assert_uint_gt(plan.scos_to_move, 0);
	ck_assert_str_eq(plan.trouble, "");
	st = scrub();
	ck_assert_int_eq(st.phase, POOL_SCRUB_DONE);
	ck_assert_str_eq(st.trouble, "");
	ck_assert_uint_eq(st.scos_examined, plan.scos_examined);
	ck_assert_uint_ge(st.scos_moved, plan.scos_to_move);
	ck_assert_uint_ge(st.moved_bytes, plan.move_bytes);
	ck_assert_uint_ge(st.scos_deleted, plan.scos_to_move);
	ck_assert_uint_ge(st.backend_bytes, plan.backend_bytes);
	ck_assert_uint_ge(st.flash_bytes, plan.flash_bytes);
	ck_assert_int_ge(st.ended_ns, st.began_ns);
	/* As it said before, but for SCOs that hold a little less than others. */
	ck_assert_uint_le(used_bytes() + plan.backend_bytes * 9 / 10, before);
	ck_assert_uint_le(used_bytes(), 4 * MIB * 13 / 10);
	plan = look();
	ck_assert_uint_eq(plan.scos_to_move + plan.scos_dead, 0);
	expect_disk();
	check_pool();
	pool_fixture_restart();
	expect_disk();
	check_pool();
	ck_assert_int_eq(status().phase, POOL_SCRUB_NONE);
}
END_TEST

START_TEST(what_snapshots_have_stays)
{
	struct object *o;

	make_garbage(true);
	ck_assert_str_eq(scrub().trouble, "");
	expect_disk();
	check_pool();
	ck_assert_int_eq(snapshot_open(pf.pool, disk, "one", &o, NULL), 0);
	ck_assert_uint_eq(size_of(o), 4 * MIB);
	object_close(o);
}
END_TEST

START_TEST(only_looking_changes_nothing)
{
	struct pool_scrub_plan first, again;
	size_t scos;
	uint64_t bytes;

	make_garbage(false);
	scos = sco_count();
	bytes = used_bytes();
	first = look();
	again = look();
	ck_assert_mem_eq(&first, &again, sizeof(first));
	ck_assert_uint_eq(sco_count(), scos);
	ck_assert_uint_eq(used_bytes(), bytes);
	ck_assert_int_eq(status().phase, POOL_SCRUB_NONE);
}
END_TEST

static void delete_disk(void)
{
	ck_assert_int_eq(object_delete(pf.pool, disk, NULL), 0);
}

static size_t objects_left(const char *path)
{
	struct name_list l;
	char below[PATH_BYTES];
	struct stat st;
	size_t count = 0;

	name_list_read(path, &l);
	for (size_t i = 0; i < l.count; i++) {
		ck_assert_int_lt(snprintf(below, sizeof(below), "%s/%s", path, l.names[i]),
				 (int)sizeof(below));
		ck_assert_int_eq(lstat(below, &st), 0);
		if (S_ISDIR(st.st_mode))
			count += objects_left(below);
		else
			count++;
	}
	name_list_free(&l);
	return count;
}

START_TEST(after_everything_is_deleted_nothing_is_left_but_what_an_empty_pool_has)
{
	char path[PATH_BYTES];
	size_t before, after;

	/* What is left in packs may be in one or in two. */
	pf.options.packs = PACKS_NEVER;
	pool_fixture_restart();
	(void)pool_path(path, "objects");
	(void)scrub();
	before = objects_left(path);
	make_garbage(true);
	delete_disk();
	ck_assert_str_eq(scrub().trouble, "");
	after = objects_left(path);
	ck_assert_uint_eq(after, before);
	ck_assert_uint_eq(sco_count(), 0);
	check_pool();
}
END_TEST

START_TEST(orphans_are_found_and_removed)
{
	char name[OBJECT_NAME_MAX + 1], below[PATH_BYTES], path[PATH_BYTES];
	struct pool_scrub_plan plan;
	struct object_stat os;
	struct object *o;
	struct stat st;

	make_garbage(false);
	/* Of an epoch before this one. */
	pool_fixture_restart();
	sync_backend();
	o = get_object(disk);
	object_stat(o, &os);
	object_close(o);
	object_name_sco(name, os.stream, 12345, 0, 1);
	ck_assert_int_lt(snprintf(below, sizeof(below), "objects/%s", name), (int)sizeof(below));
	(void)pool_path(path, below);
	make_file(path, "orphan", 6);
	plan = look();
	ck_assert_str_eq(plan.trouble, "");
	ck_assert_uint_eq(plan.orphans, 1);
	ck_assert_int_eq(lstat(path, &st), 0);
	ck_assert_uint_eq(scrub().orphans_removed, 1);
	ck_assert_int_lt(lstat(path, &st), 0);
	expect_disk();
}
END_TEST

START_TEST(a_scrub_can_be_cut_off_and_done_again)
{
	make_garbage(false);
	pool_scrub(pf.pool);
	pool_scrub_cancel(pf.pool);
	wait_until(is_over, NULL, 60, "the end of the scrub");
	expect_disk();
	ck_assert_str_eq(scrub().trouble, "");
	ck_assert_int_eq(status().phase, POOL_SCRUB_DONE);
	ck_assert_uint_eq(look().scos_to_move, 0);
	expect_disk();
	/* With nothing to do nothing comes of cancelling. */
	pool_scrub_cancel(pf.pool);
	ck_assert_int_eq(status().phase, POOL_SCRUB_DONE);
}
END_TEST

static bool is_small(UNUSED void *arg)
{
	ck_assert_int_eq(pool_sync_backend(pf.pool, NULL), 0);
	return used_bytes() <= 6 * MIB; /* with two SCOs that are never worth it */
}

/* Nothing is asked for: it is the hour in which the cleaner leaves less. */
START_TEST(in_its_hours_less_is_left)
{
	make_garbage(false);
	ck_assert_uint_gt(used_bytes(), 7 * MIB);
	pf.options.checkpoint_interval_ns = 50 * MS_NS;
	pf.options.scrub_until_minute = 24 * 60;
	pool_change_options(pf.pool, &pf.options);
	wait_until(is_small, NULL, 60, "the cleaner");
	expect_disk();
	ck_assert_int_eq(status().phase, POOL_SCRUB_NONE);
}
END_TEST

static void *writer(void *arg)
{
	struct object *o = arg;

	for (unsigned int i = 0; i < 2000; i++)
		write_cluster(o, i % CLUSTERS);
	return NULL;
}

START_TEST(a_scrub_under_writes_ends_and_loses_nothing)
{
	struct object *o;
	pthread_t thread;

	make_garbage(false);
	o = get_object(disk);
	ck_assert_int_eq(pthread_create(&thread, NULL, writer, o), 0);
	(void)scrub();
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	object_close(o);
	expect_disk();
	check_pool();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("scrub");
	TCase *t = tcase_create("scrub");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_test(t, a_scrub_gives_back_what_is_dead);
	tcase_add_test(t, what_snapshots_have_stays);
	tcase_add_test(t, only_looking_changes_nothing);
	tcase_add_test(t, after_everything_is_deleted_nothing_is_left_but_what_an_empty_pool_has);
	tcase_add_test(t, orphans_are_found_and_removed);
	tcase_add_test(t, a_scrub_can_be_cut_off_and_done_again);
	tcase_add_test(t, in_its_hours_less_is_left);
	tcase_add_test(t, a_scrub_under_writes_ends_and_loses_nothing);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
