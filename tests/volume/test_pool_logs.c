/* Starts that find much log: many SCOs, more entries than clusters, many streams. */
#include "support_damage.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SCO_BYTES (64 * UINT64_C(4096))
/* So many SCOs that they are looked at, and their logs read, in several turns; still less log than
 * brings a checkpoint by itself. */
#define MANY_CLUSTERS 12000u
#define MANY_SCOS     150u
/* Zeroed one by one: entries without a cluster, of which a SCO holds more than it has slots. */
#define ZEROED 9000u
/* More than are sealed at once. */
#define STREAMS 20u

static uint64_t *disks; /* shared with children */

static void begin(void)
{
	damage_begin();
	pf.options.sco_bytes = SCO_BYTES;
	disks = mmap(NULL, STREAMS * sizeof(*disks), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(disks, MAP_FAILED);
}

/* --- many SCOs --------------------------------------------------------------------------------- */

static bool most_are_sealed(UNUSED void *arg)
{
	return pool_fixture_counter("scos_sealed") >= MANY_SCOS;
}

static void leave_many_logs(UNUSED int to_parent, UNUSED void *arg)
{
	struct object *o;
	uint64_t before;

	pool_fixture_create();
	pool_fixture_open_quiet();
	o = make_object(OBJECT_DISK);
	world->disk = id_of(o);
	ck_assert_int_eq(object_truncate(o, MANY_CLUSTERS * UINT64_C(4096), NULL), 0);
	ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
	before = pool_fixture_counter("checkpoints");
	for (uint64_t i = 0; i < MANY_CLUSTERS; i++)
		write_cluster(o, i, 1);
	for (uint64_t i = 0; i < ZEROED; i++)
		ck_assert_int_eq(object_zero(o, i * 4096, 4096, true, NULL), 0);
	sync_object(o);
	write_cluster(o, 0, 2);
	sync_object(o);
	wait_until(most_are_sealed, NULL, 60, "the sealing of most SCOs");
	ck_assert_uint_eq(pool_fixture_counter("checkpoints"), before); /* all of it is replayed */
}

static void expect_all_of_many(UNUSED int to_parent, UNUSED void *arg)
{
	uint8_t *got = aligned_mem(MIB), want[4096];
	struct pool_status st;
	struct object *o;

	pool_fixture_open();
	pool_status(pf.pool, &st);
	ck_assert_int_eq(st.state, POOL_OK);
	o = get_object(world->disk);
	ck_assert_uint_eq(size_of(o), MANY_CLUSTERS * UINT64_C(4096));
	for (uint64_t i = 0; i < MANY_CLUSTERS; i++) {
		uint64_t generation = i == 0 ? 2 : i < ZEROED ? 0 : 1;

		if (i % 256 == 0)
			ck_assert_int_gt(object_read(o, i * 4096, got, MIB, NULL), 0);
		cluster_fill(want, world->disk, i, generation);
		if (memcmp(got + i % 256 * 4096, want, 4096) != 0)
			ck_abort_msg("cluster %" PRIu64 " is not of generation %" PRIu64, i,
				     generation);
	}
	object_close(o);
	pool_fixture_close();
	free(got);
}

START_TEST(the_logs_of_many_scos_are_replayed_whole)
{
	in_child_killed(leave_many_logs, NULL);
	if (_i)
		pretend_reboot();
	in_child(expect_all_of_many, NULL);
	in_child(expect_all_of_many, NULL);
}
END_TEST

/* --- many streams ------------------------------------------------------------------------------ */

static void leave_many_open(UNUSED int to_parent, UNUSED void *arg)
{
	pool_fixture_create();
	pool_fixture_open_quiet();
	for (uint64_t i = 0; i < STREAMS; i++) {
		struct object *o = make_object(OBJECT_DISK);

		disks[i] = id_of(o);
		for (uint64_t cluster = 0; cluster <= i; cluster++)
			write_cluster(o, cluster, 1 + i);
		sync_object(o);
		object_close(o);
	}
}

static void expect_all_sealed(UNUSED int to_parent, UNUSED void *arg)
{
	pool_fixture_open();
	ck_assert_int_eq(pool_sync_backend(pf.pool, NULL), 0);
	ck_assert_uint_ge(pool_fixture_counter("scos_resealed"), STREAMS);
	for (uint64_t i = 0; i < STREAMS; i++) {
		struct object *o = get_object(disks[i]);

		ck_assert_uint_eq(size_of(o), (i + 1) * 4096);
		for (uint64_t cluster = 0; cluster <= i; cluster++)
			expect_cluster(o, cluster, 1 + i);
		object_close(o);
	}
	pool_fixture_close();
}

START_TEST(what_many_streams_left_open_is_sealed_and_stored)
{
	in_child_killed(leave_many_open, NULL);
	in_child(expect_all_sealed, NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_logs");
	TCase *t = tcase_create("pool_logs");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_loop_test(t, the_logs_of_many_scos_are_replayed_whole, 0, 2);
	tcase_add_test(t, what_many_streams_left_open_is_sealed_and_stored);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
