/* What the cleaner moves: only what is still in its place, and only bytes that have their checksum. */
#include "support_damage.h"

#include "volume/io.h"
#include "volume/pool_impl.h"

#include <check.h>
#include <stdlib.h>
#include <unistd.h>

static loc_t place_of(struct object *o, uint64_t cluster)
{
	uint8_t known[PAGE_CLUSTERS / 8];
	uint32_t crc;
	loc_t loc;

	rwlock_read_lock(&o->gate);
	ck_assert_int_eq(map_lookup(pf.pool->map, o->layer, cluster, 1, &loc, &crc, known, NULL),
			 0);
	rwlock_read_unlock(&o->gate);
	ck_assert(loc_is_place(loc));
	return loc;
}

START_TEST(a_cluster_that_is_overwritten_while_it_is_moved_stays_overwritten)
{
	uint8_t old[4096];
	struct object *o;
	loc_t place;

	pool_fixture_create();
	pool_fixture_open();
	o = make_object(OBJECT_DISK);
	world->disk = id_of(o);
	write_cluster(o, 5, 1);
	place = place_of(o, 5);
	cluster_fill(old, id_of(o), 5, 1); /* read by the cleaner */
	write_cluster(o, 5, 2);		   /* and then this comes */
	ck_assert_int_eq(io_relocate(o, 5, 1, old, place, NULL), -ESTALE);
	expect_cluster(o, 5, 2);
	/* In its place it is moved. */
	place = place_of(o, 5);
	cluster_fill(old, id_of(o), 5, 2);
	ck_assert_int_eq(io_relocate(o, 5, 1, old, place, NULL), 1);
	ck_assert_uint_ne(place_of(o, 5), place);
	expect_cluster(o, 5, 2);
	object_close(o);
	pool_fixture_restart();
	o = get_object(world->disk);
	expect_cluster(o, 5, 2);
	object_close(o);
}
END_TEST

/* Clusters of a SCO of 1 MiB, about. */
#define SCO_CLUSTERS 250u
#define SCOS	     8u
#define DAMAGED	     10u

/* A few clusters of each SCO stay as they are, of the damaged one's SCO only that cluster. */
static bool survives(unsigned int cluster)
{
	return cluster == DAMAGED || (cluster >= 2 * SCO_CLUSTERS && cluster % 64 == 0);
}

/* Every checkpoint of the background calls the cleaner; after so many it was there. */
static bool has_cleaned(void *arg)
{
	return pool_fixture_counter("checkpoints") >= *(uint64_t *)arg + 12;
}

/*
 * A disk whose cluster DAMAGED has a wrong bit on flash; then most of what is beside it is
 * overwritten, so its SCO is the one with the least live data, the first that the cleaner looks at.
 * Stored before: the backend has another copy.
 */
static struct object *make_damaged(char path[PATH_BYTES], bool stored)
{
	struct object *o;

	pf.options.checkpoint_interval_ns = 20 * MS_NS; /* each calls the cleaner */
	if (stored) /* else it is another link, with the same wrong bit */
		pf.options.backend_copy = BACKEND_COPY_BYTES;
	pool_fixture_create();
	pool_fixture_open();
	o = make_object(OBJECT_DISK);
	world->disk = id_of(o);
	for (unsigned int i = 0; i < SCOS * SCO_CLUSTERS; i++)
		write_cluster(o, i, 1);
	object_close(o);
	if (stored)
		ck_assert_int_eq(pool_sync_backend(pf.pool, NULL), 0);
	pool_fixture_close(); /* seals all */
	flip_bit(path, find_cluster(world->disk, DAMAGED, 1, path) + 1000, 3);

	pool_fixture_open();
	o = get_object(world->disk);
	for (unsigned int i = 0; i < SCOS * SCO_CLUSTERS; i++)
		if (!survives(i))
			write_cluster(o, i, 2);
	return o;
}

static void expect_others(struct object *o)
{
	for (unsigned int i = 0; i < SCOS * SCO_CLUSTERS; i++)
		if (i != DAMAGED)
			expect_cluster(o, i, survives(i) ? 1 : 2);
}

START_TEST(damaged_bytes_are_not_moved_under_a_new_checksum)
{
	char path[PATH_BYTES];
	struct object *o = make_damaged(path, false);
	uint64_t before = pool_fixture_counter("checkpoints");

	wait_until(has_cleaned, &before, 20, "rounds of the cleaner");
	ck_assert_int_eq(read_cluster(o, DAMAGED), -EBADMSG);
	expect_others(o);
	object_close(o);
}
END_TEST

static bool is_gone(void *path)
{
	return access(path, F_OK) < 0;
}

/* Flash is wrong, the backend has a copy: nothing stays behind for it. */
START_TEST(what_is_damaged_here_only_is_moved_from_the_copy)
{
	char path[PATH_BYTES];
	struct object *o = make_damaged(path, true);

	wait_until(is_gone, path, 20, "cleaning of the damaged SCO");
	expect_cluster(o, DAMAGED, 1);
	expect_others(o);
	object_close(o);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_moves");
	TCase *t = tcase_create("moves");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, damage_begin);
	tcase_add_test(t, a_cluster_that_is_overwritten_while_it_is_moved_stays_overwritten);
	tcase_add_test(t, damaged_bytes_are_not_moved_under_a_new_checksum);
	tcase_add_test(t, what_is_damaged_here_only_is_moved_from_the_copy);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
