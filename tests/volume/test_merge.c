/* Big layers that lost their name: merged in many steps, beside calls; or left as they are. */
#include "support_snapshot.h"

#include "volume/call.h"

#include <check.h>

static void begin(void)
{
	pool_fixture_create();
	pool_fixture_open_quiet();
}

static void take(struct object *o, const char *name)
{
	struct snapshot_wanted wanted = { .object = o, .name = name };

	ck_assert_int_eq(snapshot_create(pf.pool, &wanted, 1, NULL), 0);
}

/* One cluster of each page, so that the merger has far more rows than one step takes. */
#define WIDE_PAGES 300u
#define WIDE_BYTES (WIDE_PAGES * PAGE_CLUSTERS * 4096ull)

static void write_cluster(struct object *o, unsigned int page, unsigned int cluster, uint64_t seed)
{
	uint8_t mem[4096];

	pattern_fill(mem, sizeof(mem), seed + page);
	write_bytes(o, (page * PAGE_CLUSTERS + cluster) * 4096ull, mem, sizeof(mem));
}

static void expect_page(struct object *o, unsigned int i, uint64_t seed)
{
	uint8_t mem[4096];

	pattern_fill(mem, sizeof(mem), seed + i);
	expect_bytes(o, i * PAGE_CLUSTERS * 4096ull, mem, sizeof(mem));
}

static void write_wide(struct object *o, unsigned int each, uint64_t seed)
{
	for (unsigned int i = 0; i < WIDE_PAGES; i += each)
		write_cluster(o, i, 0, seed);
}

/* Of the first pages. */
static void write_first(struct object *o, unsigned int pages, unsigned int cluster, uint64_t seed)
{
	for (unsigned int i = 0; i < pages; i++)
		write_cluster(o, i, cluster, seed);
}

/* Pages that were written again by seed2, one in so many, the others by seed. */
static void expect_wide(struct object *o, uint64_t seed, unsigned int each, uint64_t seed2)
{
	for (unsigned int i = 0; i < WIDE_PAGES; i++)
		expect_page(o, i, i % each ? seed : seed2);
}

/* Calls go before the merger's steps, but not for ever: one that hangs must not keep all space. */
START_TEST(a_layer_of_many_steps_is_merged_while_calls_wait)
{
	struct object *o = make_object(OBJECT_DISK);
	uint64_t id = id_of(o);
	size_t layers = 2;

	ck_assert_int_eq(object_truncate(o, WIDE_BYTES, NULL), 0);
	write_wide(o, 1, 1000);
	take(o, "first");
	write_wide(o, 3, 5000);
	take(o, "second");
	write_wide(o, 1, 9000);
	call_begin(pf.pool);
	ck_assert_int_eq(snapshot_delete(pf.pool, id, "first", NULL), 0);
	wait_until(layers_are_left, &layers, 60, "the layer is merged");
	call_endp(&pf.pool);
	expect_wide(o, 9000, 1, 9000);
	ck_assert_int_eq(snapshot_rollback(o, "second", false, NULL), 0);
	expect_wide(o, 1000, 3, 5000);
	object_close(o);
	pool_fixture_restart();
	o = get_object(id);
	expect_wide(o, 1000, 3, 5000);
	object_close(o);
}
END_TEST

/* --- where the one above is small ---------------------------------------------------------------- */

/* Rows that a layer must have to stay where it is; a sixteenth of them is put before the next look. */
#define ROWS_MIN 64u

static void begin_held(void)
{
	pf.options.merge_rows_min = ROWS_MIN;
	begin();
}

/* Also one that has as many; on a store that a lost machine leaves. */
static void begin_even(void)
{
	pf.options.backend_url = "mem:merge";
	pf.options.packs = PACKS_NEVER;
	pf.options.grace_time_ns = 0;
	pf.options.merge_ratio = 1;
	begin_held();
}

static bool so_many_live(void *arg)
{
	const uint64_t *wanted = arg;

	ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
	GUARD(&pf.pool->scos->lock);
	return pf.pool->scos->live_slots == *wanted;
}

static void expect_live(uint64_t clusters)
{
	wait_until(so_many_live, &clusters, 20, "what is hidden goes");
}

static void expect_layers(size_t layers)
{
	wait_until(layers_are_left, &layers, 20, "layers");
}

/* A disk whose first snapshot is gone: its layer has all pages, the one above each tenth. */
static struct object *hold(void)
{
	struct object *o = make_object(OBJECT_DISK);

	ck_assert_int_eq(object_truncate(o, WIDE_BYTES, NULL), 0);
	write_wide(o, 1, 1000);
	take(o, "first");
	write_wide(o, 10, 5000);
	expect_live(WIDE_PAGES + WIDE_PAGES / 10);
	ck_assert_int_eq(snapshot_delete(pf.pool, id_of(o), "first", NULL), 0);
	expect_live(WIDE_PAGES);
	expect_layers(2);
	return o;
}

START_TEST(a_layer_under_a_small_one_stays_and_what_is_hidden_goes)
{
	struct object *o = hold();
	uint64_t id = id_of(o);

	expect_wide(o, 1000, 10, 5000);
	pool_fixture_check();
	object_close(o);
	pool_fixture_restart();
	o = get_object(id);
	expect_wide(o, 1000, 10, 5000);
	expect_live(WIDE_PAGES);
	expect_layers(2);
	object_close(o);
}
END_TEST

START_TEST(what_is_hidden_later_goes_too_until_moving_is_worth_it)
{
	struct object *o = hold();

	/* The same pages: more is hidden, with no more rows. */
	for (unsigned int i = 0; i < WIDE_PAGES; i += 10)
		write_cluster(o, i, 1, 5000);
	expect_live(WIDE_PAGES + WIDE_PAGES / 10);
	expect_layers(2);
	write_wide(o, 5, 7000);
	expect_live(WIDE_PAGES + WIDE_PAGES / 10);
	expect_layers(2);
	write_wide(o, 2, 9000);
	expect_layers(1);
	expect_live(WIDE_PAGES + WIDE_PAGES / 10);
	pool_fixture_check();
	object_close(o);
}
END_TEST

START_TEST(what_a_truncation_or_zeros_hide_goes_too)
{
	struct object *o = hold();
	uint64_t id = id_of(o), half = WIDE_BYTES / 2;

	ck_assert_int_eq(object_truncate(o, half, NULL), 0);
	expect_live(WIDE_PAGES / 2);
	expect_layers(2);
	ck_assert_int_eq(object_truncate(o, WIDE_BYTES, NULL), 0);
	expect_zeros(o, half, WIDE_BYTES - half);
	/* Rows of zeros, of as many pages as the next look needs. */
	ck_assert_int_eq(object_zero(o, half - half / 5, half / 5, false, NULL), 0);
	expect_live(WIDE_PAGES / 2 - WIDE_PAGES / 10);
	pool_fixture_check();
	object_close(o);
	pool_fixture_restart();
	o = get_object(id);
	expect_zeros(o, half - half / 5, WIDE_BYTES - half + half / 5);
	object_close(o);
	ck_assert_int_eq(object_delete(pf.pool, id, NULL), 0);
	expect_live(0);
	expect_layers(0);
}
END_TEST

/* Between it and the snapshots above nothing changes; under them it goes by who lost its name. */
START_TEST(snapshots_and_clones_over_it_show_what_they_showed)
{
	struct object *o = hold(), *clone;
	uint64_t id = id_of(o), clone_id;

	take(o, "second");
	write_wide(o, 6, 7000);
	take(o, "third");
	write_wide(o, 3, 9000);
	clone_id = clone_of(o, "second");
	ck_assert_int_eq(snapshot_delete(pf.pool, id, "second", NULL), 0);
	clone = get_object(clone_id);
	expect_wide(clone, 1000, 10, 5000);
	write_wide(clone, 1, 11000);
	object_close(clone);
	ck_assert_int_eq(snapshot_rollback(o, "third", false, NULL), 0);
	ck_assert_int_eq(object_delete(pf.pool, clone_id, NULL), 0);
	pool_fixture_check();
	object_close(o);
	pool_fixture_restart();
	o = get_object(id);
	ck_assert_int_eq(snapshot_delete(pf.pool, id, "third", NULL), 0);
	expect_live(WIDE_PAGES);
	for (unsigned int i = 0; i < WIDE_PAGES; i++)
		expect_page(o, i, i % 6 == 0 ? 7000 : i % 10 == 0 ? 5000 : 1000);
	object_close(o);
}
END_TEST

/* All of a SCO is hidden, and dies: roots that show what is left come with no map that names it. */
START_TEST(no_root_has_a_map_that_names_what_was_hidden)
{
	struct object *o = make_object(OBJECT_DISK);
	uint64_t id = id_of(o);

	ck_assert_int_eq(object_truncate(o, WIDE_BYTES, NULL), 0);
	write_wide(o, 1, 1000);
	write_first(o, WIDE_PAGES, 1, 3000); /* their rows stay */
	take(o, "first");
	ck_assert_int_eq(pool_sync_backend(pf.pool, NULL), 0);
	write_first(o, WIDE_PAGES - 10, 0, 5000);
	expect_live(3 * WIDE_PAGES - 10);
	ck_assert_int_eq(snapshot_delete(pf.pool, id, "first", NULL), 0);
	expect_live(2 * WIDE_PAGES);
	expect_layers(2);
	for (unsigned int i = 0; i < 4; i++) {
		write_first(o, 1, 0, 5000);
		ck_assert_int_eq(pool_sync_backend(pf.pool, NULL), 0);
		ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
	}
	ck_assert_uint_gt(pool_fixture_counter("scos_deleted"), 0);
	object_close(o);
	pool_fixture_lose_machine();
	pool_fixture_open();
	o = get_object(id);
	for (unsigned int i = 0; i < WIDE_PAGES; i++)
		expect_page(o, i, i < WIDE_PAGES - 10 ? 5000 : 1000);
	pool_fixture_check();
	object_close(o);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("merge");
	TCase *t = tcase_create("merge");
	SRunner *sr;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_test(t, a_layer_of_many_steps_is_merged_while_calls_wait);
	suite_add_tcase(s, t);
	t = tcase_create("held");
	pool_fixture_add(t, begin_held);
	tcase_add_test(t, a_layer_under_a_small_one_stays_and_what_is_hidden_goes);
	tcase_add_test(t, what_is_hidden_later_goes_too_until_moving_is_worth_it);
	tcase_add_test(t, what_a_truncation_or_zeros_hide_goes_too);
	tcase_add_test(t, snapshots_and_clones_over_it_show_what_they_showed);
	suite_add_tcase(s, t);
	t = tcase_create("even");
	pool_fixture_add(t, begin_even);
	tcase_add_test(t, no_root_has_a_map_that_names_what_was_hidden);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
