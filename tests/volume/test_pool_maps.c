/* Maps on the backend: made of pieces that stay while nothing in them changes, and always the rows. */
#include "support_pool.h"

#include "backend/backend.h"
#include "tests/sim/rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GIB (1024 * MIB)

static struct object *disk;
static uint8_t *mem;

static void begin(void)
{
	pf.options.map_piece_bytes = 600;
	mem = pattern_mem(2 * MIB, 1);
}

static void sync_backend(void)
{
	struct err e = { 0 };

	ck_assert_msg(pool_sync_backend(pf.pool, &e) == 0, "%s", e.message);
}

static struct name_list pieces(void)
{
	char path[PATH_BYTES];
	struct name_list l;

	name_list_read(pool_path(path, "objects/00000010/piece"), &l);
	return l;
}

/* How many of some names are still there. */
static size_t still_there(const struct name_list *names)
{
	struct name_list now = pieces();
	size_t found = 0;

	for (size_t i = 0; i < names->count; i++)
		for (size_t j = 0; j < now.count; j++)
			found += strcmp(names->names[i], now.names[j]) == 0;
	name_list_free(&now);
	return found;
}

/* Close; the newest root's maps must be the rows; open again. */
static void check_maps(void)
{
	struct backend_options bo = { .attempts_max = 1 };
	struct meta_options mo = { .cache_bytes = 1 << 20, .write_buffer_bytes = 1 << 20 };
	char path[PATH_BYTES], url[PATH_BYTES];
	struct backend *b;
	struct meta *meta;

	pool_fixture_close();
	(void)snprintf(url, sizeof(url), "file://%.1000s", pool_path(path, "objects"));
	ck_assert_int_eq(backend_open(env_posix(), url, &bo, &b, NULL), 0);
	ck_assert_int_eq(meta_rocksdb_open(pool_path(path, "meta"), &mo, &meta, NULL), 0);
	ck_assert(maps_agree(b, meta));
	meta_close(meta);
	backend_close(b);
	pool_fixture_open_quiet();
}

static void restart(void)
{
	uint64_t id = id_of(disk);

	object_close(disk);
	check_maps();
	disk = get_object(id);
}

/* A SCO comes and dies, so the next root needs a new map. */
static void lose_a_sco(void)
{
	for (unsigned int i = 0; i < 2; i++) {
		write_bytes(disk, 0, mem, 2 * MIB);
		sync_backend();
	}
}

/* Clusters a GiB apart: each in an area of its own, several to a piece. */
#define FAR 64u

static void open_with_far_clusters(void)
{
	pool_fixture_create();
	pool_fixture_open_quiet();
	disk = make_object(OBJECT_DISK);
	for (uint64_t i = 1; i <= FAR; i++)
		write_bytes(disk, i * GIB, mem + i * 4096, 4096);
	lose_a_sco();
}

/* Two roots on, what the first of them condemned is gone. */
static void commit_roots(void)
{
	for (unsigned int i = 0; i < 3; i++) {
		write_bytes(disk, 0, mem + i * 4096, 4096);
		sync_backend();
	}
}

/* Another map is put, and what it replaced is gone. Of the pieces named so many are in the new one. */
static size_t kept_by_a_new_map(const struct name_list *names)
{
	lose_a_sco();
	commit_roots();
	return still_there(names);
}

START_TEST(only_pieces_in_which_something_changed_are_put_again)
{
	struct name_list all;
	size_t kept, left;

	open_with_far_clusters();
	commit_roots();
	all = pieces();
	/* Not those with the disk's beginning and its state, of this and that root. */
	kept = kept_by_a_new_map(&all);
	ck_assert_uint_ge(kept, 5);

	write_bytes(disk, FAR / 2 * GIB, mem, 4096);
	ck_assert_int_eq(object_zero(disk, (FAR - 1) * GIB, 2 * MIB, false, NULL), 0);
	left = kept_by_a_new_map(&all);
	ck_assert_uint_eq(left, kept - 2);
	/* A start changes nothing. */
	restart();
	ck_assert_uint_eq(kept_by_a_new_map(&all), left);
	restart();

	object_close(disk);
	name_list_free(&all);
}
END_TEST

START_TEST(a_map_that_shrinks_leaves_nothing_behind)
{
	struct name_list left;

	open_with_far_clusters();
	ck_assert_int_eq(object_truncate(disk, 2 * MIB, NULL), 0);
	lose_a_sco();
	commit_roots();
	left = pieces();
	ck_assert_uint_le(left.count, 2); /* one, and one that the root before had */
	name_list_free(&left);
	restart();

	ck_assert_int_eq(object_delete(pf.pool, id_of(disk), NULL), 0);
	object_close(disk);
	disk = make_object(OBJECT_DISK);
	for (unsigned int i = 0; i < 3; i++)
		commit_roots();
	left = pieces();
	ck_assert_uint_eq(left.count, 0);
	name_list_free(&left);
	object_close(disk);
}
END_TEST

#define OBJECTS 6u

static void change_something(struct rng *r, struct object **o)
{
	uint64_t at = rng_below(r, 200) * (512 * MIB) + rng_below(r, 3) * 4096;

	switch (rng_below(r, 16)) {
	case 0:
		ck_assert_int_eq(object_delete(pf.pool, id_of(*o), NULL), 0);
		object_close(*o);
		*o = make_object(rng_below(r, 2) ? OBJECT_FILE : OBJECT_DISK);
		break;
	case 1:
		ck_assert_int_eq(object_truncate(*o, at, NULL), 0);
		break;
	case 2:
		ck_assert_int_eq(object_zero(*o, at, rng_below(r, 20) * GIB + 1, false, NULL), 0);
		break;
	case 3:
		ck_assert_int_eq(object_set_class(*o, rng_below(r, 2) ? OBJECT_FILE : OBJECT_DISK,
						  NULL),
				 0);
		break;
	case 4:
		sync_backend();
		break;
	default:
		write_bytes(*o, at, mem + 4096 * rng_below(r, 200), 1 + rng_below(r, 30000));
	}
}

START_TEST(maps_are_the_rows_whatever_changed)
{
	struct object *o[OBJECTS];
	uint64_t ids[OBJECTS];
	struct rng r = { 77 + (uint64_t)_i };

	pf.options.sco_bytes = 128 * KIB;
	pool_fixture_create();
	pool_fixture_open_quiet();
	for (unsigned int i = 0; i < OBJECTS; i++)
		o[i] = make_object(i % 2 ? OBJECT_FILE : OBJECT_DISK);
	for (unsigned int round = 0; round < 6; round++) {
		for (unsigned int i = 0; i < 60; i++)
			change_something(&r, &o[rng_below(&r, OBJECTS)]);
		sync_backend();
		for (unsigned int i = 0; i < OBJECTS; i++) {
			ids[i] = id_of(o[i]);
			object_close(o[i]);
		}
		check_maps();
		for (unsigned int i = 0; i < OBJECTS; i++)
			o[i] = get_object(ids[i]);
	}
	for (unsigned int i = 0; i < OBJECTS; i++)
		object_close(o[i]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_maps");
	TCase *t = tcase_create("maps");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_test(t, only_pieces_in_which_something_changed_are_put_again);
	tcase_add_test(t, a_map_that_shrinks_leaves_nothing_behind);
	tcase_add_loop_test(t, maps_are_the_rows_whatever_changed, 0, 4);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
