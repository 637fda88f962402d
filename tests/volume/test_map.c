/* The map's promises one by one; the races of loads with everything else; threads together. */
#include "support_map.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(x)                                                                                    \
	do {                                                                                       \
		if (!(x))                                                                          \
			ck_abort_msg("%s:%d: %s", __func__, __LINE__, #x);                         \
	} while (0)

/* Metadata whose reads can be counted, stopped and failed. */
struct gated_meta {
	struct meta meta; /* first */
	struct meta_ops ops;
	struct meta *inner;

	struct mutex lock;
	struct cond changed;
	unsigned int gets; /* begun */
	unsigned int inside; /* stopped, after they read */
	bool closed;
	int fail;
};

static struct fixture {
	struct meta_mem_disk *disk;
	struct gated_meta gate;
	struct meta *meta;
	struct map *map;
	lsn_t lsn;
} fx;

static int gated_get(struct meta *meta, enum meta_family family, const uint8_t *key,
		     size_t key_bytes, struct buf *out, struct err *e)
{
	struct gated_meta *g = (struct gated_meta *)meta;
	int r = g->inner->ops->get(g->inner, family, key, key_bytes, out, e);

	mutex_lock(&g->lock);
	g->gets++;
	if (g->fail)
		r = err_set(e, g->fail, "told to fail");
	g->inside++;
	cond_broadcast(&g->changed);
	while (g->closed)
		cond_wait(&g->changed, &g->lock, WAIT_FOREVER);
	g->inside--;
	mutex_unlock(&g->lock);
	return r;
}

static int gated_iterate(struct meta *meta, enum meta_family family, const uint8_t *from,
			 size_t from_bytes, const uint8_t *until, size_t until_bytes,
			 int (*fn)(void *arg, const uint8_t *key, size_t key_bytes,
				   const uint8_t *value, size_t value_bytes),
			 void *arg, struct err *e)
{
	struct gated_meta *g = (struct gated_meta *)meta;

	return g->inner->ops->iterate(g->inner, family, from, from_bytes, until, until_bytes, fn,
				      arg, e);
}

static void gate_close(void)
{
	mutex_lock(&fx.gate.lock);
	fx.gate.closed = true;
	mutex_unlock(&fx.gate.lock);
}

static void gate_open(void)
{
	mutex_lock(&fx.gate.lock);
	fx.gate.closed = false;
	cond_broadcast(&fx.gate.changed);
	mutex_unlock(&fx.gate.lock);
}

/* Until so many reads were begun and are stopped at the gate. */
static void gate_wait(unsigned int gets)
{
	mutex_lock(&fx.gate.lock);
	while (fx.gate.gets < gets || fx.gate.inside == 0)
		cond_wait(&fx.gate.changed, &fx.gate.lock, WAIT_FOREVER);
	mutex_unlock(&fx.gate.lock);
}

static void open_map(uint64_t cache_bytes, unsigned int shards)
{
	struct map_options options = { .cache_bytes = cache_bytes, .shards = shards };

	MUST(map_open(&fx.gate.meta, &options, &fx.map) == 0);
}

static void setup(void)
{
	memset(&fx, 0, sizeof(fx));
	fx.disk = meta_mem_disk_new();
	MUST(meta_mem_open(fx.disk, &fx.meta, NULL) == 0);
	fx.gate.inner = fx.meta;
	fx.gate.ops.get = gated_get;
	fx.gate.ops.iterate = gated_iterate;
	fx.gate.meta.ops = &fx.gate.ops;
	mutex_init(&fx.gate.lock, 0);
	cond_init(&fx.gate.changed);
	open_map(16 << 20, 4);
}

static void teardown(void)
{
	map_check(fx.map);
	map_close(fx.map);
	meta_close(fx.meta);
	meta_mem_disk_free(fx.disk);
}

static void reopen_map(uint64_t cache_bytes, unsigned int shards)
{
	map_close(fx.map);
	open_map(cache_bytes, shards);
}

static struct layer *new_layer(uint64_t id, struct layer *parent, uint64_t limit, uint32_t base)
{
	struct layer *l;

	MUST(map_layer_new(fx.map, id, parent, limit, base, &l) == 0);
	return l;
}

static lsn_t publish(void *arg)
{
	(void)arg;
	return __atomic_add_fetch(&fx.lsn, 1, __ATOMIC_SEQ_CST);
}

static loc_t place(uint64_t sco, uint32_t slot)
{
	return loc_make(0, sco, slot);
}

static void update(struct layer *l, uint64_t first, unsigned int count, loc_t loc)
{
	struct map_update u = { .first = first, .count = count, .loc = loc, .publish = publish };
	lsn_t lsn;

	MUST(map_update(fx.map, l, &u, &lsn, NULL) == 0);
}

/* Where tests put cluster c that is to be found by its address. */
static loc_t at_row(uint64_t c)
{
	return place(1, 1 + (uint32_t)c);
}

static int update_if(struct layer *l, uint64_t first, loc_t loc, loc_t expect)
{
	struct map_update u = { .first = first, .count = 1, .loc = loc, .publish = publish,
				.conditional = true, .expect = expect };
	lsn_t lsn;

	return map_update(fx.map, l, &u, &lsn, NULL);
}

static void range(struct layer *l, uint64_t first, uint64_t end)
{
	lsn_t lsn;

	MUST(map_range(fx.map, l, first, end, LOC_UNMAPPED, publish, NULL, &lsn, NULL) == 0);
}

static int try_lookup(struct layer *l, uint64_t cluster, loc_t *ret)
{
	uint8_t known[PAGE_CLUSTERS / 8];
	uint32_t crc;

	return map_lookup(fx.map, l, cluster, 1, ret, &crc, known, NULL);
}

static loc_t lookup(struct layer *l, uint64_t cluster)
{
	loc_t loc;

	MUST(try_lookup(l, cluster, &loc) == 0);
	return loc;
}

static uint64_t misses(void)
{
	return map_usage(fx.map).misses;
}

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

	c->r = try_lookup(c->layer, c->cluster, &c->loc);
}

static void call_start(struct call *c)
{
	MUST(thread_start("call", call_lookup, c, &c->thread) == 0);
}

/* ---- single operations ------------------------------------------------------------------------ */

START_TEST(a_blind_overwrite_and_reading_it_back_read_no_metadata)
{
	struct layer *l = new_layer(1, NULL, 0, 0);

	update(l, 1000, 3, place(1, 10));

	ck_assert_uint_eq(lookup(l, 1001), place(1, 11));
	ck_assert_uint_eq(fx.gate.gets, 0);
	layer_unref(fx.map, l);
}
END_TEST

START_TEST(a_lookup_of_the_rest_of_a_partial_page_loads_it_once)
{
	struct layer *l = new_layer(1, NULL, 0, 0);

	update(l, 0, 8, place(1, 10));
	mini_checkpoint(fx.map, fx.meta);
	layer_unref(fx.map, l);
	l = new_layer(1, NULL, 0, 0); /* nothing held it: its pages are gone */
	update(l, 2, 1, place(2, 20));
	ck_assert_uint_eq(lookup(l, 1), place(1, 11));
	ck_assert_uint_eq(lookup(l, 2), place(2, 20));
	ck_assert_uint_eq(lookup(l, 3), place(1, 13));
	ck_assert_uint_eq(lookup(l, 300), LOC_UNMAPPED);

	ck_assert_uint_eq(fx.gate.gets, 1);
	ck_assert_uint_eq(misses(), 1);
	layer_unref(fx.map, l);
}
END_TEST

START_TEST(checksums_of_scattered_clusters_survive_checkpoint_and_load)
{
	struct layer *l = new_layer(1, NULL, 0, 0);
	uint32_t crcs[2] = { 111, 222 }, got[4];
	uint8_t known[PAGE_CLUSTERS / 8];
	struct map_update u = { .first = 5, .count = 2, .loc = place(1, 10), .crcs = crcs,
				.publish = publish };
	loc_t locs[4];
	lsn_t lsn;

	MUST(map_update(fx.map, l, &u, &lsn, NULL) == 0);
	mini_checkpoint(fx.map, fx.meta);
	layer_unref(fx.map, l);
	l = new_layer(1, NULL, 0, 0);
	MUST(map_lookup(fx.map, l, 4, 4, locs, got, known, NULL) == 0);

	ck_assert_uint_eq(known[0], 0x6);
	ck_assert_uint_eq(got[1], 111);
	ck_assert_uint_eq(got[2], 222);
	layer_unref(fx.map, l);
}
END_TEST

START_TEST(a_condition_that_does_not_hold_publishes_and_changes_nothing)
{
	struct layer *l = new_layer(1, NULL, 0, 0);

	update(l, 7, 1, place(1, 1));
	ck_assert_int_eq(update_if(l, 7, place(2, 2), place(1, 2)), -ESTALE);
	ck_assert_uint_eq(fx.lsn, 1);
	ck_assert_uint_eq(lookup(l, 7), place(1, 1));

	ck_assert_int_eq(update_if(l, 7, place(2, 2), place(1, 1)), 0);
	ck_assert_uint_eq(lookup(l, 7), place(2, 2));
	layer_unref(fx.map, l);
}
END_TEST

START_TEST(a_condition_of_no_data_holds_for_zero_and_for_unmapped)
{
	struct layer *l = new_layer(1, NULL, 0, 0);

	ck_assert_int_eq(update_if(l, 7, place(2, 2), LOC_ZERO), 0);
	update(l, 7, 1, LOC_ZERO);
	ck_assert_int_eq(update_if(l, 7, place(2, 3), LOC_UNMAPPED), 0);
	ck_assert_int_eq(update_if(l, 7, place(2, 4), LOC_UNMAPPED), -ESTALE);
	layer_unref(fx.map, l);
}
END_TEST

START_TEST(unmapping_in_a_layer_does_not_bring_its_parent_back)
{
	struct layer *parent = new_layer(1, NULL, 0, 0), *l;

	update(parent, 0, 8, place(1, 10));
	l = new_layer(2, parent, UINT64_MAX, 0);
	update(l, 3, 1, LOC_UNMAPPED);
	mini_checkpoint(fx.map, fx.meta);
	layer_unref(fx.map, l);
	l = new_layer(2, parent, UINT64_MAX, 0);

	ck_assert_uint_eq(lookup(l, 3), LOC_ZERO);
	ck_assert_uint_eq(lookup(l, 4), place(1, 14));
	layer_unref(fx.map, l);
	layer_unref(fx.map, parent);
}
END_TEST

START_TEST(a_read_error_is_passed_on_and_the_next_try_works)
{
	struct layer *l = new_layer(1, NULL, 0, 0);
	loc_t loc = 77;

	fx.gate.fail = -EIO;
	ck_assert_int_eq(try_lookup(l, 0, &loc), -EIO);
	ck_assert_uint_eq(loc, 77);
	ck_assert_int_eq(update_if(l, 0, place(1, 1), LOC_UNMAPPED), -EIO);
	ck_assert_uint_eq(fx.lsn, 0);
	fx.gate.fail = 0;

	ck_assert_uint_eq(lookup(l, 0), LOC_UNMAPPED);
	layer_unref(fx.map, l);
}
END_TEST

START_TEST(a_row_with_a_flipped_bit_is_reported_with_its_page)
{
	struct layer *l = new_layer(1, NULL, 0, 0);
	struct page_run run = { .first = 1, .count = 2, .loc = place(1, 1) };
	struct row_key key = row_key_2u64(ROW_PAGE, 1, 3);
	struct meta_batch *batch = meta_batch_new(fx.meta, META_STATE);
	uint8_t known[PAGE_CLUSTERS / 8];
	struct err e = { 0 };
	struct buf value;
	uint32_t crc;
	loc_t loc;

	buf_init(&value, 4096);
	MUST(page_value_encode(PAGE_BASE, &run, 1, &value) == 0);
	value.data[value.len_bytes / 2] ^= 1;
	MUST(meta_batch_put(fx.meta, batch, &key, &value) == 0);
	MUST(meta_commit(fx.meta, batch, 0, NULL) == 0);
	meta_batch_free(fx.meta, batch);
	buf_done(&value);

	ck_assert_int_eq(map_lookup(fx.map, l, 3 * PAGE_CLUSTERS, 1, &loc, &crc, known, &e),
			 -EBADMSG);
	ck_assert_ptr_nonnull(strstr(e.message, "page 3 of layer 1"));
	layer_unref(fx.map, l);
}
END_TEST

START_TEST(origins_add_up_along_the_parents_and_one_too_many_is_refused)
{
	struct layer *a = new_layer(1, NULL, 0, 0), *b, *c;
	loc_t loc;

	update(a, 0, 1, loc_make(1, 5, 5));
	update(a, 1, 1, loc_make(4000, 5, 6));
	b = new_layer(2, a, UINT64_MAX, 10);
	c = new_layer(3, b, UINT64_MAX, 80);
	ck_assert_int_eq(try_lookup(c, 0, &loc), 0);
	ck_assert_uint_eq(loc_origin(loc), 91);
	ck_assert_uint_eq(loc_sco(loc), 5);

	update(b, 600, 1, loc_make(4090, 5, 6));
	ck_assert_int_eq(try_lookup(c, 600, &loc), -EUCLEAN);
	layer_unref(fx.map, c);
	layer_unref(fx.map, b);
	layer_unref(fx.map, a);
}
END_TEST

START_TEST(a_limit_hides_the_parent_to_the_cluster)
{
	struct layer *a = new_layer(1, NULL, 0, 0), *b;

	update(a, 0, 512, at_row(0));
	b = new_layer(2, a, 100, 0);

	ck_assert_uint_eq(lookup(b, 99), at_row(99));
	ck_assert_uint_eq(lookup(b, 100), LOC_UNMAPPED);
	layer_unref(fx.map, b);
	layer_unref(fx.map, a);
}
END_TEST

START_TEST(a_truncation_lowers_the_limit_for_good)
{
	struct layer *a = new_layer(1, NULL, 0, 0), *b;

	for (unsigned int page = 0; page < 4; page++)
		update(a, page * PAGE_CLUSTERS, PAGE_CLUSTERS,
		       at_row(page * PAGE_CLUSTERS));
	b = new_layer(2, a, UINT64_MAX, 0);
	ck_assert_uint_eq(lookup(b, 1500), at_row(1500));
	range(b, 700, CLUSTER_MAX);

	ck_assert_uint_eq(b->parent_limit_clusters, 700);
	ck_assert_uint_eq(lookup(b, 699), at_row(699));
	ck_assert(!loc_is_place(lookup(b, 700)));
	ck_assert(!loc_is_place(lookup(b, 1500)));
	mini_checkpoint(fx.map, fx.meta);
	ck_assert(!loc_is_place(lookup(b, 1500)));
	layer_unref(fx.map, b);
	layer_unref(fx.map, a);
}
END_TEST

START_TEST(a_range_without_parents_needs_no_read_and_costs_no_pages)
{
	struct layer *l = new_layer(1, NULL, 0, 0);

	range(l, 5, UINT64_C(1) << 40);

	ck_assert_uint_eq(fx.gate.gets, 0);
	ck_assert_uint_eq(map_usage(fx.map).pages, 1);
	layer_unref(fx.map, l);
}
END_TEST

START_TEST(read_rows_sees_neither_dirty_pages_nor_pending_ranges)
{
	struct layer *a = new_layer(1, NULL, 0, 0), *b;
	loc_t locs[PAGE_CLUSTERS];

	update(a, 0, 8, place(1, 10));
	b = new_layer(2, a, UINT64_MAX, 3);
	update(b, 1, 1, place(2, 20));
	mini_checkpoint(fx.map, fx.meta);
	update(b, 2, 1, place(2, 30));
	MUST(map_read_rows(fx.map, b, 0, false, locs, NULL) == 0);
	ck_assert_uint_eq(locs[0], loc_make(3, 1, 10));
	ck_assert_uint_eq(locs[1], place(2, 20));
	ck_assert_uint_eq(locs[2], loc_make(3, 1, 12));
	MUST(map_read_rows(fx.map, b, 0, true, locs, NULL) == 0);
	ck_assert_uint_eq(locs[0], LOC_UNMAPPED);
	ck_assert_uint_eq(locs[1], place(2, 20));

	range(b, 0, PAGE_CLUSTERS);
	MUST(map_read_rows(fx.map, b, 0, true, locs, NULL) == 0);
	ck_assert_uint_eq(locs[1], place(2, 20));
	layer_unref(fx.map, b);
	layer_unref(fx.map, a);
}
END_TEST

START_TEST(a_seek_over_a_hole_of_terabytes_reads_a_few_rows)
{
	struct layer *a = new_layer(1, NULL, 0, 0), *b;
	uint64_t far = UINT64_C(3) << 38, found;

	update(a, far + 5, 3, place(1, 10));
	mini_checkpoint(fx.map, fx.meta);
	b = new_layer(2, a, UINT64_MAX, 0);
	update(b, far + 9000, 1, place(2, 1)); /* only in the cache */

	MUST(map_seek(fx.map, b, 0, CLUSTER_MAX, true, &found, NULL) == 0);
	ck_assert_uint_eq(found, far + 5);
	MUST(map_seek(fx.map, b, found, CLUSTER_MAX, false, &found, NULL) == 0);
	ck_assert_uint_eq(found, far + 8);
	MUST(map_seek(fx.map, b, found, CLUSTER_MAX, true, &found, NULL) == 0);
	ck_assert_uint_eq(found, far + 9000);
	MUST(map_seek(fx.map, b, found + 1, CLUSTER_MAX, true, &found, NULL) == 0);
	ck_assert_uint_eq(found, CLUSTER_MAX);
	ck_assert_uint_le(fx.gate.gets, 100);

	range(b, 0, far + 8000);
	MUST(map_seek(fx.map, b, 0, CLUSTER_MAX, true, &found, NULL) == 0);
	ck_assert_uint_eq(found, far + 9000);
	layer_unref(fx.map, b);
	layer_unref(fx.map, a);
}
END_TEST

START_TEST(a_seek_finds_the_row_right_behind_a_pending_range)
{
	struct layer *l = new_layer(1, NULL, 0, 0);
	uint64_t found;

	for (unsigned int page = 20; page < 60; page++)
		update(l, page * PAGE_CLUSTERS, 1, place(1, page));
	mini_checkpoint(fx.map, fx.meta);
	layer_unref(fx.map, l);
	l = new_layer(1, NULL, 0, 0);
	range(l, 0, 40 * PAGE_CLUSTERS);

	MUST(map_seek(fx.map, l, 0, CLUSTER_MAX, true, &found, NULL) == 0);
	ck_assert_uint_eq(found, 40 * PAGE_CLUSTERS);
	layer_unref(fx.map, l);
}
END_TEST

/* ---- layers and memory ------------------------------------------------------------------------ */

START_TEST(a_layer_that_still_lives_is_found_again_with_its_dirt)
{
	struct layer *l = new_layer(1, NULL, 0, 0), *again, *other;

	update(l, 3, 1, place(1, 1));
	range(l, 1024, 4096);
	layer_unref(fx.map, l);
	again = new_layer(1, NULL, 0, 0);
	ck_assert_ptr_eq(again, l);
	ck_assert_uint_eq(lookup(again, 3), place(1, 1));

	other = new_layer(2, NULL, 0, 0);
	ck_assert_int_eq(map_layer_new(fx.map, 1, other, 0, 0, &l), -EEXIST);
	layer_unref(fx.map, again);
	layer_unref(fx.map, other);
}
END_TEST

START_TEST(the_last_reference_takes_the_pages_and_the_parents_along)
{
	struct layer *a = new_layer(1, NULL, 0, 0), *b, *c;

	b = new_layer(2, a, UINT64_MAX, 0);
	c = new_layer(3, b, UINT64_MAX, 0);
	for (uint64_t page = 0; page < 3000; page++)
		(void)lookup(c, page * PAGE_CLUSTERS);
	(void)lookup(b, 0);
	ck_assert_uint_eq(map_usage(fx.map).pages, 3001);
	layer_unref(fx.map, a);
	layer_unref(fx.map, b);
	layer_unref(fx.map, c);

	ck_assert_uint_eq(map_usage(fx.map).pages, 0);
	ck_assert_uint_eq(map_usage(fx.map).used_bytes, 0);
}
END_TEST

START_TEST(dirty_pages_are_never_evicted_and_clean_ones_keep_to_the_limit)
{
	struct layer *l;

	reopen_map(40000, 1);
	l = new_layer(1, NULL, 0, 0);
	for (uint64_t page = 0; page < 2000; page++)
		update(l, page * PAGE_CLUSTERS + page % 512, 1, place(1, 1 + (uint32_t)page));
	ck_assert_uint_gt(map_usage(fx.map).pinned_bytes, 40000);
	ck_assert_uint_eq(map_usage(fx.map).pages, 2000);
	mini_checkpoint_begin(fx.map);
	ck_assert_uint_eq(map_usage(fx.map).pages, 2000);
	mini_checkpoint_finish(fx.map, fx.meta, MINI_DONE);
	ck_assert_uint_eq(map_usage(fx.map).pinned_bytes, 0);
	ck_assert_uint_le(map_usage(fx.map).used_bytes, 40000);
	for (uint64_t page = 0; page < 2000; page++)
		ck_assert_uint_eq(lookup(l, page * PAGE_CLUSTERS + page % 512),
				  place(1, 1 + (uint32_t)page));

	ck_assert_uint_le(map_usage(fx.map).used_bytes, 40000);
	layer_unref(fx.map, l);
}
END_TEST

START_TEST(what_is_used_often_stays_when_a_scan_passes)
{
	struct layer *l;
	uint64_t before;

	reopen_map(100 * 28, 1);
	l = new_layer(1, NULL, 0, 0);
	for (uint64_t page = 0; page < 1000; page++) {
		(void)lookup(l, page * PAGE_CLUSTERS);
		(void)lookup(l, UINT64_C(1) << 30);
	}
	before = misses();
	(void)lookup(l, UINT64_C(1) << 30);

	ck_assert_uint_eq(misses(), before);
	ck_assert_uint_eq(before, 1001);
	layer_unref(fx.map, l);
}
END_TEST

START_TEST(a_tebibyte_written_in_order_would_cost_16_mib)
{
	struct layer *l = new_layer(1, NULL, 0, 0);
	uint64_t bytes_of_64th;

	for (uint64_t c = 0; c < (UINT64_C(1) << 34) / CLUSTER_BYTES; c += 32)
		update(l, c, 32, place(1 + c / 4096, 1 + c % 4096));
	bytes_of_64th = map_usage(fx.map).used_bytes;

	ck_assert_uint_le(bytes_of_64th * 64, 16 << 20);
	layer_unref(fx.map, l);
}
END_TEST

START_TEST(a_page_with_a_handful_of_random_writes_costs_less_than_300_bytes)
{
	struct layer *l = new_layer(1, NULL, 0, 0);
	uint32_t crc = 1;

	for (uint64_t page = 0; page < 100; page++)
		for (uint64_t i = 0; i < 10; i++) {
			struct map_update u = { .first = page * PAGE_CLUSTERS + i * 50,
						.count = 1,
						.loc = place(i + 1, 1 + (uint32_t)page),
						.crcs = &crc,
						.publish = publish };
			lsn_t lsn;

			MUST(map_update(fx.map, l, &u, &lsn, NULL) == 0);
		}

	ck_assert_uint_le(map_usage(fx.map).used_bytes, 100 * 300);
	ck_assert_uint_eq(map_usage(fx.map).used_bytes, map_usage(fx.map).pinned_bytes);
	layer_unref(fx.map, l);
}
END_TEST

/* ---- checkpoints and ranges ------------------------------------------------------------------- */

/* Eight pages full, in rows: cluster c at at_row(c). */
static void write_old_rows(struct layer *l)
{
	for (unsigned int page = 0; page < 8; page++)
		update(l, page * PAGE_CLUSTERS, PAGE_CLUSTERS,
		       at_row(page * PAGE_CLUSTERS));
	mini_checkpoint(fx.map, fx.meta);
}

START_TEST(rows_under_a_pending_range_stay_hidden_until_they_are_deleted)
{
	struct layer *l = new_layer(1, NULL, 0, 0);

	write_old_rows(l);
	range(l, 512, 2048);
	ck_assert(!loc_is_place(lookup(l, 600)));
	mini_checkpoint_begin(fx.map);
	ck_assert(!loc_is_place(lookup(l, 1100)));
	mini_checkpoint_finish(fx.map, fx.meta, MINI_FAIL_STAGED);
	ck_assert(!loc_is_place(lookup(l, 1600)));
	mini_checkpoint(fx.map, fx.meta);
	layer_unref(fx.map, l);
	l = new_layer(1, NULL, 0, 0);

	ck_assert(!loc_is_place(lookup(l, 600)));
	ck_assert(!loc_is_place(lookup(l, 1600)));
	ck_assert_uint_eq(lookup(l, 2048), at_row(2048));
	ck_assert_uint_eq(lookup(l, 511), at_row(511));
	layer_unref(fx.map, l);
}
END_TEST

START_TEST(staged_entries_under_a_younger_range_do_not_come_back_when_the_checkpoint_fails)
{
	struct layer *l = new_layer(1, NULL, 0, 0);

	for (int fail = MINI_DONE; fail < MINI_FAIL_COUNT; fail++) {
		update(l, 700, 3, place(2, 70));
		mini_checkpoint_begin(fx.map);
		range(l, 512, 1024);
		mini_checkpoint_finish(fx.map, fx.meta, (enum mini_fail)fail);
		ck_assert(!loc_is_place(lookup(l, 700)));
		mini_checkpoint(fx.map, fx.meta);
		layer_unref(fx.map, l);
		l = new_layer(1, NULL, 0, 0);
		ck_assert(!loc_is_place(lookup(l, 700)));
	}
	layer_unref(fx.map, l);
}
END_TEST

START_TEST(a_page_under_a_younger_range_is_not_staged_and_not_lost)
{
	struct layer *l = new_layer(1, NULL, 0, 0);
	struct staged_page *pages;
	struct staged_range *ranges;
	size_t count;

	write_old_rows(l);
	map_checkpoint_begin(fx.map);
	range(l, 512, 1024);
	update(l, 700, 1, place(3, 3));
	update(l, 0, 1, place(3, 4));
	MUST(map_checkpoint_stage(fx.map, &pages, &count) == 0);
	ck_assert_uint_eq(count, 1);
	ck_assert_uint_eq(pages[0].page, 0);
	ck_assert_uint_eq(pages[0].run_count, 1);
	MUST(map_checkpoint_ranges(fx.map, &ranges, &count) == 0);
	ck_assert_uint_eq(count, 0);
	map_checkpoint_end(fx.map, false);
	mini_checkpoint(fx.map, fx.meta);
	layer_unref(fx.map, l);
	l = new_layer(1, NULL, 0, 0);

	ck_assert_uint_eq(lookup(l, 700), place(3, 3));
	ck_assert_uint_eq(lookup(l, 0), place(3, 4));
	ck_assert(!loc_is_place(lookup(l, 701)));
	layer_unref(fx.map, l);
}
END_TEST

START_TEST(an_entry_changed_since_it_was_staged_keeps_its_newer_value)
{
	struct layer *l = new_layer(1, NULL, 0, 0);

	for (int fail = MINI_DONE; fail < MINI_FAIL_COUNT; fail++) {
		update(l, 10, 2, place(4, 10));
		mini_checkpoint_begin(fx.map);
		update(l, 11, 1, place(5, 11 + (uint32_t)fail));
		mini_checkpoint_finish(fx.map, fx.meta, (enum mini_fail)fail);
		ck_assert_uint_eq(lookup(l, 10), place(4, 10));
		ck_assert_uint_eq(lookup(l, 11), place(5, 11 + (uint32_t)fail));
		mini_checkpoint(fx.map, fx.meta);
		layer_unref(fx.map, l);
		l = new_layer(1, NULL, 0, 0);
		ck_assert_uint_eq(lookup(l, 11), place(5, 11 + (uint32_t)fail));
	}
	layer_unref(fx.map, l);
}
END_TEST

START_TEST(nothing_is_staged_twice)
{
	struct layer *l = new_layer(1, NULL, 0, 0);
	struct staged_page *pages;
	size_t count;

	update(l, 10, 2, place(4, 10));
	mini_checkpoint(fx.map, fx.meta);
	map_checkpoint_begin(fx.map);
	MUST(map_checkpoint_stage(fx.map, &pages, &count) == 0);
	ck_assert_uint_eq(count, 0);
	map_checkpoint_end(fx.map, true);
	layer_unref(fx.map, l);
}
END_TEST

START_TEST(many_small_ranges_become_few_or_stay_exact)
{
	struct layer *l = new_layer(1, NULL, 0, 0);
	struct staged_range *ranges;
	size_t count;

	for (unsigned int page = 0; page < 300; page++)
		range(l, page * PAGE_CLUSTERS, (page + 1) * PAGE_CLUSTERS);
	for (unsigned int page = 1000; page < 1300; page += 2)
		range(l, page * PAGE_CLUSTERS, (page + 1) * PAGE_CLUSTERS);
	map_checkpoint_begin(fx.map);
	MUST(map_checkpoint_ranges(fx.map, &ranges, &count) == 0);
	ck_assert_uint_eq(count, 151);
	ck_assert_uint_eq(ranges[0].first_page, 0);
	ck_assert_uint_eq(ranges[0].end_page, 300);
	ck_assert_uint_eq(ranges[150].first_page, 1298);
	map_checkpoint_end(fx.map, false);

	range(l, 1000 * PAGE_CLUSTERS, 1300 * PAGE_CLUSTERS);
	map_checkpoint_begin(fx.map);
	MUST(map_checkpoint_ranges(fx.map, &ranges, &count) == 0);
	ck_assert_uint_eq(count, 2);
	ck_assert_uint_eq(ranges[1].first_page, 1000);
	ck_assert_uint_eq(ranges[1].end_page, 1300);
	map_checkpoint_end(fx.map, true);
	map_checkpoint_begin(fx.map);
	MUST(map_checkpoint_ranges(fx.map, &ranges, &count) == 0);
	ck_assert_uint_eq(count, 0);
	map_checkpoint_end(fx.map, true);
	layer_unref(fx.map, l);
}
END_TEST

/* ---- races of a load -------------------------------------------------------------------------- */

START_TEST(an_update_during_a_load_wins_over_the_row)
{
	struct layer *l = new_layer(1, NULL, 0, 0);
	struct call c = { .cluster = 20 };

	write_old_rows(l);
	layer_unref(fx.map, l);
	c.layer = l = new_layer(1, NULL, 0, 0);
	gate_close();
	call_start(&c);
	gate_wait(1);
	update(l, 20, 1, place(9, 9)); /* does not wait for the load */
	gate_open();
	thread_join(c.thread);

	ck_assert_int_eq(c.r, 0);
	ck_assert_uint_eq(c.loc, place(9, 9));
	ck_assert_uint_eq(lookup(l, 20), place(9, 9));
	ck_assert_uint_eq(lookup(l, 21), at_row(21));
	layer_unref(fx.map, l);
}
END_TEST

START_TEST(a_range_during_a_load_makes_it_start_over)
{
	struct layer *l = new_layer(1, NULL, 0, 0);
	struct call c = { .cluster = 20 };

	write_old_rows(l);
	layer_unref(fx.map, l);
	c.layer = l = new_layer(1, NULL, 0, 0);
	gate_close();
	call_start(&c);
	gate_wait(1); /* it has read the old row */
	range(l, 0, 1024);
	gate_open();
	thread_join(c.thread);

	ck_assert_int_eq(c.r, 0);
	ck_assert(!loc_is_place(c.loc));
	ck_assert(!loc_is_place(lookup(l, 20)));
	layer_unref(fx.map, l);
}
END_TEST

START_TEST(a_range_and_a_new_write_during_a_load_keep_the_write_only)
{
	struct layer *l = new_layer(1, NULL, 0, 0);
	struct call c = { .cluster = 20 }, other = { .cluster = 22 };

	write_old_rows(l);
	layer_unref(fx.map, l);
	c.layer = other.layer = l = new_layer(1, NULL, 0, 0);
	gate_close();
	call_start(&c);
	gate_wait(1);
	range(l, 0, 1024);
	update(l, 21, 1, place(9, 9));
	call_start(&other); /* loads the new page while the first load is still out */
	gate_open();
	thread_join(c.thread);
	thread_join(other.thread);

	ck_assert(!loc_is_place(c.loc));
	ck_assert(!loc_is_place(other.loc));
	ck_assert_uint_eq(lookup(l, 21), place(9, 9));
	ck_assert(!loc_is_place(lookup(l, 23)));
	layer_unref(fx.map, l);
}
END_TEST

START_TEST(those_who_want_one_page_share_one_read)
{
	struct layer *l = new_layer(1, NULL, 0, 0);
	struct call c[4];

	write_old_rows(l);
	layer_unref(fx.map, l);
	l = new_layer(1, NULL, 0, 0);
	gate_close();
	for (unsigned int i = 0; i < 4; i++) {
		c[i] = (struct call){ .layer = l, .cluster = i };
		call_start(&c[i]);
	}
	gate_wait(1);
	gate_open();
	for (unsigned int i = 0; i < 4; i++) {
		thread_join(c[i].thread);
		ck_assert_uint_eq(c[i].loc, at_row(i));
	}

	ck_assert_uint_eq(fx.gate.gets, 1);
	layer_unref(fx.map, l);
}
END_TEST

START_TEST(a_checkpoint_that_ends_during_a_load_loses_nothing)
{
	struct layer *a = new_layer(1, NULL, 0, 0), *b;
	struct call c = { .cluster = 20 };

	/* The parent's page is dirty over a pending range when the child's load begins. */
	write_old_rows(a);
	range(a, 0, 1024);
	update(a, 20, 1, place(7, 7));
	b = new_layer(2, a, UINT64_MAX, 0);
	c.layer = b;
	gate_close();
	call_start(&c);
	gate_wait(1);
	mini_checkpoint(fx.map, fx.meta);
	gate_open();
	thread_join(c.thread);

	ck_assert_uint_eq(c.loc, place(7, 7));
	ck_assert(!loc_is_place(lookup(b, 21)));
	layer_unref(fx.map, b);
	layer_unref(fx.map, a);
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
		loc_t loc = lookup(probe.layer, c);

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

	reopen_map(0, 1);
	l = new_layer(1, NULL, 0, 0);
	write_old_rows(l);
	range(l, 512, 1600);
	update(l, 37 * 16, 5, place(7, 70));
	update(l, 37 * 2, 1, place(7, 80));
	probe_start(has_child ? new_layer(2, l, UINT64_MAX, 0) : l, probe_read_all);
	may_read(0, 0, 4 * PAGE_CLUSTERS, at_row(0));
	may_read(0, 512, 1600, LOC_UNMAPPED);
	may_read(0, 37 * 16, 37 * 16 + 5, place(7, 70));
	may_read(0, 37 * 2, 37 * 2 + 1, place(7, 80));
	memcpy(probe.may[1], probe.may[0], sizeof(probe.may[0]));
	return l;
}

START_TEST(between_any_two_steps_of_a_checkpoint_every_cluster_reads_right)
{
	enum mini_fail fail = (enum mini_fail)(_i % MINI_FAIL_COUNT);
	bool has_child = _i >= MINI_FAIL_COUNT;
	struct layer *l = layer_in_all_states(has_child);

	sched_hook = &probe.sched;
	mini_checkpoint_begin(fx.map);
	mini_checkpoint_finish(fx.map, fx.meta, fail);
	mini_checkpoint(fx.map, fx.meta);
	sched_hook = NULL;

	ck_assert_uint_gt(probe.ran, 10);
	if (has_child)
		layer_unref(fx.map, probe.layer);
	layer_unref(fx.map, l);
}
END_TEST

START_TEST(between_any_two_steps_of_a_range_a_cluster_reads_as_before_or_as_zeros)
{
	struct layer *l = layer_in_all_states(false);
	uint64_t first = _i % 2 ? 37 * 3 : PAGE_CLUSTERS, end = _i < 2 ? 37 * 50 : CLUSTER_MAX;

	may_read(1, first, end, LOC_UNMAPPED);
	sched_hook = &probe.sched;
	mini_checkpoint_begin(fx.map);
	range(l, first, end);
	memcpy(probe.may[0], probe.may[1], sizeof(probe.may[0])); /* from here on zeros only */
	mini_checkpoint_finish(fx.map, fx.meta, MINI_FAIL_FLUSH);
	mini_checkpoint(fx.map, fx.meta);
	sched_hook = NULL;

	ck_assert_uint_gt(probe.ran, 10);
	layer_unref(fx.map, l);
}
END_TEST

static void probe_nothing(void)
{
}

static lsn_t publish_and_note_locks(void *arg)
{
	probe.publish_held = probe.held;
	return publish(arg);
}

START_TEST(an_update_publishes_under_the_lock_of_its_page_and_a_range_under_none)
{
	struct layer *l = new_layer(1, NULL, 0, 0);
	struct map_update u = { .first = 1, .count = 1, .loc = place(1, 1),
				.publish = publish_and_note_locks };
	lsn_t lsn;

	probe_start(l, probe_nothing);
	sched_hook = &probe.sched;
	MUST(map_update(fx.map, l, &u, &lsn, NULL) == 0);
	ck_assert_int_eq(probe.publish_held, 1);
	MUST(map_range(fx.map, l, 0, 5000, LOC_ZERO, publish_and_note_locks, NULL, &lsn, NULL) ==
	     0);
	ck_assert_int_eq(probe.publish_held, 0);
	sched_hook = NULL;
	layer_unref(fx.map, l);
}
END_TEST

/* ---- many threads ----------------------------------------------------------------------------- */

#define CROWD_CLUSTERS 4096u
#define CROWD_WRITERS  3u
#define CROWD_ROUNDS   4000u

static struct crowd {
	struct layer *layer;
	struct rwlock gate;
	loc_t expected[CROWD_CLUSTERS]; /* of its writer; the range thread when the gate is shut */
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
	lsn = ++fx.lsn;
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

static void crowd_writer(void *arg)
{
	unsigned int me = (unsigned int)(uintptr_t)arg;
	uint64_t rng = 1234567 + me * 77777;

	for (unsigned int n = 0; n < CROWD_ROUNDS; n++) {
		uint64_t c = step_rng(&rng) % (CROWD_CLUSTERS / CROWD_WRITERS) * CROWD_WRITERS + me;
		struct crowd_entry entry = { c, place(c + 1, 1 + n % 60000), 0 };
		uint32_t crc = n;
		struct map_update u = { .first = c, .count = 1, .loc = entry.loc, .crcs = &crc,
					.conditional = n % 3 == 0, .publish = crowd_publish,
					.arg = &entry };
		lsn_t lsn;
		loc_t loc;

		rwlock_read_lock(&crowd.gate);
		u.expect = crowd.expected[c];
		crowd_must(map_update(fx.map, crowd.layer, &u, &lsn, NULL) == 0);
		crowd.expected[c] = entry.loc;
		c = step_rng(&rng) % (CROWD_CLUSTERS / CROWD_WRITERS) * CROWD_WRITERS + me;
		crowd_must(try_lookup(crowd.layer, c, &loc) == 0);
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

		crowd_must(map_lookup(fx.map, crowd.layer, first, count, locs, crcs, known,
				      NULL) == 0);
		for (unsigned int i = 0; i < count; i++)
			crowd_must(crowd_is_possible(first + i, locs[i]));
		crowd_must(map_seek(fx.map, crowd.layer, first, CROWD_CLUSTERS, true, &found,
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
		crowd_must(map_range(fx.map, crowd.layer, first, end, LOC_ZERO, crowd_publish,
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
		mini_checkpoint_begin(fx.map);
		mini_checkpoint_finish(fx.map, fx.meta,
				       step_rng(&rng) % 3 ? MINI_DONE :
							    (enum mini_fail)(step_rng(&rng) %
									     MINI_FAIL_COUNT));
	}
}

START_TEST(writers_readers_ranges_and_checkpoints_at_once_keep_every_cluster_right)
{
	static void (*const others[])(void *) = { crowd_reader, crowd_ranger, crowd_checkpointer };
	struct thread *threads[CROWD_WRITERS + 3];
	struct layer *parent;

	memset(&crowd, 0, sizeof(crowd));
	reopen_map(_i ? 30000 : 0, 2);
	parent = _i ? new_layer(1, NULL, 0, 0) : NULL;
	crowd.layer = new_layer(2, parent, UINT64_MAX, 0);
	rwlock_init(&crowd.gate, LOCK_GATE);
	mutex_init(&crowd.lsn_lock, LOCK_STREAM);
	crowd.running = CROWD_WRITERS;
	for (unsigned int i = 0; i < CROWD_WRITERS; i++)
		MUST(thread_start("writer", crowd_writer, (void *)(uintptr_t)i, &threads[i]) == 0);
	for (unsigned int i = 0; i < 3; i++)
		MUST(thread_start("other", others[i], NULL, &threads[CROWD_WRITERS + i]) == 0);
	for (unsigned int i = 0; i < CROWD_WRITERS + 3; i++)
		thread_join(threads[i]);
	MUST(!crowd.failed);

	/* Everything to rows, and back in from there. */
	mini_checkpoint(fx.map, fx.meta);
	layer_unref(fx.map, crowd.layer);
	crowd.layer = new_layer(2, parent, UINT64_MAX, 0);
	for (uint64_t c = 0; c < CROWD_CLUSTERS; c++) {
		loc_t loc = lookup(crowd.layer, c);

		MUST(loc_is_place(crowd.expected[c]) ? loc == crowd.expected[c] :
						       !loc_is_place(loc));
	}
	layer_unref(fx.map, crowd.layer);
	layer_unref(fx.map, parent);
	rwlock_done(&crowd.gate);
	mutex_done(&crowd.lsn_lock);
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
		struct crowd_entry entry = { c, place(1 + me, 1 + n), 0 };
		struct map_update u = { .first = c, .count = 1, .loc = entry.loc,
					.conditional = true, .publish = crowd_publish,
					.arg = &entry };
		lsn_t lsn;
		int r;

		crowd_must(try_lookup(crowd.layer, c, &entry.before) == 0);
		u.expect = entry.before;
		r = map_update(fx.map, crowd.layer, &u, &lsn, NULL);
		crowd_must(r == 0 || r == -ESTALE);
		n += r == 0;
	}
}

START_TEST(the_order_of_lsns_is_the_order_of_the_map)
{
	struct thread *threads[4];
	loc_t last[ORDER_CLUSTERS] = { 0 };

	memset(&crowd, 0, sizeof(crowd));
	crowd.layer = new_layer(1, NULL, 0, 0);
	crowd.log_room = 4 * ORDER_ROUNDS + 1;
	crowd.log = calloc(crowd.log_room, sizeof(*crowd.log));
	mutex_init(&crowd.lsn_lock, LOCK_STREAM);
	for (unsigned int i = 0; i < 4; i++)
		MUST(thread_start("writer", order_writer, (void *)(uintptr_t)i, &threads[i]) == 0);
	for (unsigned int i = 0; i < 4; i++)
		thread_join(threads[i]);
	MUST(!crowd.failed && fx.lsn == 4 * ORDER_ROUNDS);
	for (lsn_t lsn = 1; lsn < crowd.log_room; lsn++) {
		const struct crowd_entry *entry = &crowd.log[lsn];

		MUST(entry->before == last[entry->cluster]);
		last[entry->cluster] = entry->loc;
	}

	for (uint64_t c = 0; c < ORDER_CLUSTERS; c++)
		ck_assert_uint_eq(lookup(crowd.layer, c), last[c]);
	layer_unref(fx.map, crowd.layer);
	mutex_done(&crowd.lsn_lock);
	free(crowd.log);
}
END_TEST

/* ---- speed, told and not judged --------------------------------------------------------------- */

START_TEST(the_cost_of_updates_and_lookups_is_printed)
{
	const unsigned int rounds = 400000;
	struct layer *l = new_layer(1, NULL, 0, 0);
	uint32_t crc = 1;
	uint64_t rng = 5, start, update_ns, lookup_ns;
	loc_t sum = 0;

	for (unsigned int n = 0; n < 20000; n++)
		update(l, step_rng(&rng) % (16 * PAGE_CLUSTERS), 1, place(1 + n, 1));
	start = clock_mono_ns();
	for (unsigned int n = 0; n < rounds; n++) {
		struct map_update u = { .first = step_rng(&rng) % (16 * PAGE_CLUSTERS), .count = 1,
					.loc = place(1 + n, 1), .crcs = &crc, .publish = publish };
		lsn_t lsn;

		MUST(map_update(fx.map, l, &u, &lsn, NULL) == 0);
	}
	update_ns = clock_mono_ns() - start;
	start = clock_mono_ns();
	for (unsigned int n = 0; n < rounds; n++)
		sum += lookup(l, step_rng(&rng) % (16 * PAGE_CLUSTERS));
	lookup_ns = clock_mono_ns() - start;
	printf("map: update of a TABLE page %.1f ns, lookup of one cluster %.1f ns\n",
	       (double)update_ns / rounds, (double)lookup_ns / rounds);
	MUST(sum != 0);
	layer_unref(fx.map, l);
}
END_TEST

static TCase *map_case(Suite *s, const char *name)
{
	TCase *tc = tcase_create(name);

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 30);
	suite_add_tcase(s, tc);
	return tc;
}

static Suite *map_suite(void)
{
	Suite *s = suite_create("volume/map");
	TCase *one = map_case(s, "operations"), *memory = map_case(s, "memory");
	TCase *checkpoint = map_case(s, "checkpoint"), *load = map_case(s, "load");
	TCase *steps = map_case(s, "steps"), *threads = map_case(s, "threads");

	tcase_add_test(one, a_blind_overwrite_and_reading_it_back_read_no_metadata);
	tcase_add_test(one, a_lookup_of_the_rest_of_a_partial_page_loads_it_once);
	tcase_add_test(one, checksums_of_scattered_clusters_survive_checkpoint_and_load);
	tcase_add_test(one, a_condition_that_does_not_hold_publishes_and_changes_nothing);
	tcase_add_test(one, a_condition_of_no_data_holds_for_zero_and_for_unmapped);
	tcase_add_test(one, unmapping_in_a_layer_does_not_bring_its_parent_back);
	tcase_add_test(one, a_read_error_is_passed_on_and_the_next_try_works);
	tcase_add_test(one, a_row_with_a_flipped_bit_is_reported_with_its_page);
	tcase_add_test(one, origins_add_up_along_the_parents_and_one_too_many_is_refused);
	tcase_add_test(one, a_limit_hides_the_parent_to_the_cluster);
	tcase_add_test(one, a_truncation_lowers_the_limit_for_good);
	tcase_add_test(one, a_range_without_parents_needs_no_read_and_costs_no_pages);
	tcase_add_test(one, read_rows_sees_neither_dirty_pages_nor_pending_ranges);
	tcase_add_test(one, a_seek_over_a_hole_of_terabytes_reads_a_few_rows);
	tcase_add_test(one, a_seek_finds_the_row_right_behind_a_pending_range);

	tcase_add_test(memory, a_layer_that_still_lives_is_found_again_with_its_dirt);
	tcase_add_test(memory, the_last_reference_takes_the_pages_and_the_parents_along);
	tcase_add_test(memory, dirty_pages_are_never_evicted_and_clean_ones_keep_to_the_limit);
	tcase_add_test(memory, what_is_used_often_stays_when_a_scan_passes);
	tcase_add_test(memory, a_tebibyte_written_in_order_would_cost_16_mib);
	tcase_add_test(memory, a_page_with_a_handful_of_random_writes_costs_less_than_300_bytes);

	tcase_add_test(checkpoint, rows_under_a_pending_range_stay_hidden_until_they_are_deleted);
	tcase_add_test(
		checkpoint,
		staged_entries_under_a_younger_range_do_not_come_back_when_the_checkpoint_fails);
	tcase_add_test(checkpoint, a_page_under_a_younger_range_is_not_staged_and_not_lost);
	tcase_add_test(checkpoint, an_entry_changed_since_it_was_staged_keeps_its_newer_value);
	tcase_add_test(checkpoint, nothing_is_staged_twice);
	tcase_add_test(checkpoint, many_small_ranges_become_few_or_stay_exact);

	tcase_add_test(load, an_update_during_a_load_wins_over_the_row);
	tcase_add_test(load, a_range_during_a_load_makes_it_start_over);
	tcase_add_test(load, a_range_and_a_new_write_during_a_load_keep_the_write_only);
	tcase_add_test(load, those_who_want_one_page_share_one_read);
	tcase_add_test(load, a_checkpoint_that_ends_during_a_load_loses_nothing);

	tcase_add_loop_test(steps,
			    between_any_two_steps_of_a_checkpoint_every_cluster_reads_right, 0,
			    2 * MINI_FAIL_COUNT);
	tcase_add_loop_test(
		steps, between_any_two_steps_of_a_range_a_cluster_reads_as_before_or_as_zeros, 0,
		4);
	tcase_add_test(steps,
		       an_update_publishes_under_the_lock_of_its_page_and_a_range_under_none);

	tcase_add_loop_test(threads,
			    writers_readers_ranges_and_checkpoints_at_once_keep_every_cluster_right,
			    0, 2);
	tcase_add_test(threads, the_order_of_lsns_is_the_order_of_the_map);
	tcase_add_test(threads, the_cost_of_updates_and_lookups_is_printed);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(map_suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
