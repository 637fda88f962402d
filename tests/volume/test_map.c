/* The map's promises one by one. */
#include "support_map.h"

#include <stdlib.h>
#include <string.h>

/* ---- single operations ------------------------------------------------------------------------ */

START_TEST(a_blind_overwrite_and_reading_it_back_read_no_metadata)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);

	mfx_update(l, 1000, 3, mfx_place(1, 10));

	ck_assert_uint_eq(mfx_lookup(l, 1001), mfx_place(1, 11));
	ck_assert_uint_eq(mfx.gate.gets, 0);
	layer_unref(mfx.map, l);
}
END_TEST

START_TEST(a_lookup_of_the_rest_of_a_partial_page_loads_it_once)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);

	mfx_update(l, 0, 8, mfx_place(1, 10));
	mini_checkpoint(mfx.map, mfx.meta);
	layer_unref(mfx.map, l);
	l = mfx_new_layer(1, NULL, 0, 0); /* nothing held it: its pages are gone */
	mfx_update(l, 2, 1, mfx_place(2, 20));
	ck_assert_uint_eq(mfx_lookup(l, 1), mfx_place(1, 11));
	ck_assert_uint_eq(mfx_lookup(l, 2), mfx_place(2, 20));
	ck_assert_uint_eq(mfx_lookup(l, 3), mfx_place(1, 13));
	ck_assert_uint_eq(mfx_lookup(l, 300), LOC_UNMAPPED);

	ck_assert_uint_eq(mfx.gate.gets, 1);
	ck_assert_uint_eq(mfx_misses(), 1);
	layer_unref(mfx.map, l);
}
END_TEST

START_TEST(checksums_of_scattered_clusters_survive_checkpoint_and_load)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);
	uint32_t crcs[2] = { 111, 222 }, got[4];
	uint8_t known[PAGE_CLUSTERS / 8];
	struct map_update u = { .first = 5,
				.count = 2,
				.loc = mfx_place(1, 10),
				.crcs = crcs,
				.publish = mfx_publish };
	loc_t locs[4];
	lsn_t lsn;

	MUST(map_update(mfx.map, l, &u, &lsn, NULL) == 0);
	mini_checkpoint(mfx.map, mfx.meta);
	layer_unref(mfx.map, l);
	l = mfx_new_layer(1, NULL, 0, 0);
	MUST(map_lookup(mfx.map, l, 4, 4, locs, got, known, NULL) == 0);

	ck_assert_uint_eq(known[0], 0x6);
	ck_assert_uint_eq(got[1], 111);
	ck_assert_uint_eq(got[2], 222);
	layer_unref(mfx.map, l);
}
END_TEST

START_TEST(a_condition_that_does_not_hold_publishes_and_changes_nothing)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);

	mfx_update(l, 7, 1, mfx_place(1, 1));
	ck_assert_int_eq(mfx_update_if(l, 7, mfx_place(2, 2), mfx_place(1, 2)), -ESTALE);
	ck_assert_uint_eq(mfx.lsn, 1);
	ck_assert_uint_eq(mfx_lookup(l, 7), mfx_place(1, 1));

	ck_assert_int_eq(mfx_update_if(l, 7, mfx_place(2, 2), mfx_place(1, 1)), 0);
	ck_assert_uint_eq(mfx_lookup(l, 7), mfx_place(2, 2));
	layer_unref(mfx.map, l);
}
END_TEST

START_TEST(a_condition_of_no_data_holds_for_zero_and_for_unmapped)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);

	ck_assert_int_eq(mfx_update_if(l, 7, mfx_place(2, 2), LOC_ZERO), 0);
	mfx_update(l, 7, 1, LOC_ZERO);
	ck_assert_int_eq(mfx_update_if(l, 7, mfx_place(2, 3), LOC_UNMAPPED), 0);
	ck_assert_int_eq(mfx_update_if(l, 7, mfx_place(2, 4), LOC_UNMAPPED), -ESTALE);
	layer_unref(mfx.map, l);
}
END_TEST

START_TEST(unmapping_in_a_layer_does_not_bring_its_parent_back)
{
	struct layer *parent = mfx_new_layer(1, NULL, 0, 0), *l;

	mfx_update(parent, 0, 8, mfx_place(1, 10));
	l = mfx_new_layer(2, parent, UINT64_MAX, 0);
	mfx_update(l, 3, 1, LOC_UNMAPPED);
	mini_checkpoint(mfx.map, mfx.meta);
	layer_unref(mfx.map, l);
	l = mfx_new_layer(2, parent, UINT64_MAX, 0);

	ck_assert_uint_eq(mfx_lookup(l, 3), LOC_ZERO);
	ck_assert_uint_eq(mfx_lookup(l, 4), mfx_place(1, 14));
	layer_unref(mfx.map, l);
	layer_unref(mfx.map, parent);
}
END_TEST

START_TEST(a_read_error_is_passed_on_and_the_next_try_works)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);
	loc_t loc = 77;

	mfx.gate.fail = -EIO;
	ck_assert_int_eq(mfx_try_lookup(l, 0, &loc), -EIO);
	ck_assert_uint_eq(loc, 77);
	ck_assert_int_eq(mfx_update_if(l, 0, mfx_place(1, 1), LOC_UNMAPPED), -EIO);
	ck_assert_uint_eq(mfx.lsn, 0);
	mfx.gate.fail = 0;

	ck_assert_uint_eq(mfx_lookup(l, 0), LOC_UNMAPPED);
	layer_unref(mfx.map, l);
}
END_TEST

START_TEST(a_row_with_a_flipped_bit_is_reported_with_its_page)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);
	struct page_run run = { .first = 1, .count = 2, .loc = mfx_place(1, 1) };
	struct row_key key = row_key_2u64(ROW_PAGE, 1, 3);
	struct meta_batch *batch = meta_batch_new(mfx.meta, META_STATE);
	uint8_t known[PAGE_CLUSTERS / 8];
	struct err e = { 0 };
	struct buf value;
	uint32_t crc;
	loc_t loc;

	buf_init(&value, 4096);
	MUST(page_value_encode(PAGE_BASE, &run, 1, &value) == 0);
	value.data[value.len_bytes / 2] ^= 1;
	MUST(meta_batch_put(mfx.meta, batch, &key, &value) == 0);
	MUST(meta_commit(mfx.meta, batch, 0, NULL) == 0);
	meta_batch_free(mfx.meta, batch);
	buf_done(&value);

	ck_assert_int_eq(map_lookup(mfx.map, l, 3 * PAGE_CLUSTERS, 1, &loc, &crc, known, &e),
			 -EBADMSG);
	ck_assert_ptr_nonnull(strstr(e.message, "page 3 of layer 1"));
	layer_unref(mfx.map, l);
}
END_TEST

START_TEST(origins_add_up_along_the_parents_and_one_too_many_is_refused)
{
	struct layer *a = mfx_new_layer(1, NULL, 0, 0), *b, *c;
	loc_t loc;

	mfx_update(a, 0, 1, loc_make(1, 5, 5));
	mfx_update(a, 1, 1, loc_make(4000, 5, 6));
	b = mfx_new_layer(2, a, UINT64_MAX, 10);
	c = mfx_new_layer(3, b, UINT64_MAX, 80);
	ck_assert_int_eq(mfx_try_lookup(c, 0, &loc), 0);
	ck_assert_uint_eq(loc_origin(loc), 91);
	ck_assert_uint_eq(loc_sco(loc), 5);

	mfx_update(b, 600, 1, loc_make(4090, 5, 6));
	ck_assert_int_eq(mfx_try_lookup(c, 600, &loc), -EUCLEAN);
	layer_unref(mfx.map, c);
	layer_unref(mfx.map, b);
	layer_unref(mfx.map, a);
}
END_TEST

START_TEST(a_limit_hides_the_parent_to_the_cluster)
{
	struct layer *a = mfx_new_layer(1, NULL, 0, 0), *b;

	mfx_update(a, 0, 512, mfx_at_row(0));
	b = mfx_new_layer(2, a, 100, 0);

	ck_assert_uint_eq(mfx_lookup(b, 99), mfx_at_row(99));
	ck_assert_uint_eq(mfx_lookup(b, 100), LOC_UNMAPPED);
	layer_unref(mfx.map, b);
	layer_unref(mfx.map, a);
}
END_TEST

START_TEST(a_truncation_lowers_the_limit_for_good)
{
	struct layer *a = mfx_new_layer(1, NULL, 0, 0), *b;

	for (unsigned int page = 0; page < 4; page++)
		mfx_update(a, page * PAGE_CLUSTERS, PAGE_CLUSTERS,
			   mfx_at_row(page * PAGE_CLUSTERS));
	b = mfx_new_layer(2, a, UINT64_MAX, 0);
	ck_assert_uint_eq(mfx_lookup(b, 1500), mfx_at_row(1500));
	mfx_range(b, 700, CLUSTER_MAX);

	ck_assert_uint_eq(b->parent_limit_clusters, 700);
	ck_assert_uint_eq(mfx_lookup(b, 699), mfx_at_row(699));
	ck_assert(!loc_is_place(mfx_lookup(b, 700)));
	ck_assert(!loc_is_place(mfx_lookup(b, 1500)));
	mini_checkpoint(mfx.map, mfx.meta);
	ck_assert(!loc_is_place(mfx_lookup(b, 1500)));
	layer_unref(mfx.map, b);
	layer_unref(mfx.map, a);
}
END_TEST

START_TEST(a_range_without_parents_needs_no_read_and_costs_no_pages)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);

	mfx_update(l, UINT64_C(1) << 49, 1, mfx_place(1, 1));
	mfx_range(l, 5, UINT64_C(1) << 48); /* looking at each of its pages would take for ever */

	ck_assert_uint_eq(mfx.gate.gets, 0);
	ck_assert_uint_eq(map_usage(mfx.map).pages, 2);
	layer_unref(mfx.map, l);
}
END_TEST

START_TEST(read_rows_sees_neither_dirty_pages_nor_pending_ranges)
{
	struct layer *a = mfx_new_layer(1, NULL, 0, 0), *b;
	loc_t locs[PAGE_CLUSTERS];

	mfx_update(a, 0, 8, mfx_place(1, 10));
	b = mfx_new_layer(2, a, UINT64_MAX, 3);
	mfx_update(b, 1, 1, mfx_place(2, 20));
	mini_checkpoint(mfx.map, mfx.meta);
	mfx_update(b, 2, 1, mfx_place(2, 30));
	MUST(map_read_rows(mfx.map, b, 0, false, locs, NULL) == 0);
	ck_assert_uint_eq(locs[0], loc_make(3, 1, 10));
	ck_assert_uint_eq(locs[1], mfx_place(2, 20));
	ck_assert_uint_eq(locs[2], loc_make(3, 1, 12));
	MUST(map_read_rows(mfx.map, b, 0, true, locs, NULL) == 0);
	ck_assert_uint_eq(locs[0], LOC_UNMAPPED);
	ck_assert_uint_eq(locs[1], mfx_place(2, 20));

	mfx_range(b, 0, PAGE_CLUSTERS);
	MUST(map_read_rows(mfx.map, b, 0, true, locs, NULL) == 0);
	ck_assert_uint_eq(locs[1], mfx_place(2, 20));
	layer_unref(mfx.map, b);
	layer_unref(mfx.map, a);
}
END_TEST

START_TEST(a_seek_over_a_hole_of_terabytes_reads_a_few_rows)
{
	struct layer *a = mfx_new_layer(1, NULL, 0, 0), *b;
	uint64_t far = UINT64_C(3) << 38, found;

	mfx_update(a, far + 5, 3, mfx_place(1, 10));
	mini_checkpoint(mfx.map, mfx.meta);
	b = mfx_new_layer(2, a, UINT64_MAX, 0);
	mfx_update(b, far + 9000, 1, mfx_place(2, 1)); /* only in the cache */

	MUST(map_seek(mfx.map, b, 0, CLUSTER_MAX, true, &found, NULL) == 0);
	ck_assert_uint_eq(found, far + 5);
	MUST(map_seek(mfx.map, b, found, CLUSTER_MAX, false, &found, NULL) == 0);
	ck_assert_uint_eq(found, far + 8);
	MUST(map_seek(mfx.map, b, found, CLUSTER_MAX, true, &found, NULL) == 0);
	ck_assert_uint_eq(found, far + 9000);
	MUST(map_seek(mfx.map, b, found + 1, CLUSTER_MAX, true, &found, NULL) == 0);
	ck_assert_uint_eq(found, CLUSTER_MAX);
	ck_assert_uint_le(mfx.gate.gets, 100);

	mfx_range(b, 0, far + 8000);
	MUST(map_seek(mfx.map, b, 0, CLUSTER_MAX, true, &found, NULL) == 0);
	ck_assert_uint_eq(found, far + 9000);
	layer_unref(mfx.map, b);
	layer_unref(mfx.map, a);
}
END_TEST

START_TEST(a_seek_finds_the_row_right_behind_a_pending_range)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);
	uint64_t found;

	for (unsigned int page = 20; page < 60; page++)
		mfx_update(l, page * PAGE_CLUSTERS, 1, mfx_place(1, page));
	mini_checkpoint(mfx.map, mfx.meta);
	layer_unref(mfx.map, l);
	l = mfx_new_layer(1, NULL, 0, 0);
	mfx_range(l, 0, 40 * PAGE_CLUSTERS);

	MUST(map_seek(mfx.map, l, 0, CLUSTER_MAX, true, &found, NULL) == 0);
	ck_assert_uint_eq(found, 40 * PAGE_CLUSTERS);
	layer_unref(mfx.map, l);
}
END_TEST

/* ---- layers and memory ------------------------------------------------------------------------ */

START_TEST(a_layer_that_still_lives_is_found_again_with_its_dirt)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0), *again, *other;

	mfx_update(l, 3, 1, mfx_place(1, 1));
	mfx_range(l, 1024, 4096);
	layer_unref(mfx.map, l);
	again = mfx_new_layer(1, NULL, 0, 0);
	ck_assert_ptr_eq(again, l);
	ck_assert_uint_eq(mfx_lookup(again, 3), mfx_place(1, 1));

	other = mfx_new_layer(2, NULL, 0, 0);
	ck_assert_int_eq(map_layer_new(mfx.map, 1, other, 0, 0, &l), -EEXIST);
	layer_unref(mfx.map, again);
	layer_unref(mfx.map, other);
}
END_TEST

START_TEST(the_last_reference_takes_the_pages_and_the_parents_along)
{
	struct layer *a = mfx_new_layer(1, NULL, 0, 0), *b, *c;

	b = mfx_new_layer(2, a, UINT64_MAX, 0);
	c = mfx_new_layer(3, b, UINT64_MAX, 0);
	for (uint64_t page = 0; page < 3000; page++)
		(void)mfx_lookup(c, page * PAGE_CLUSTERS);
	(void)mfx_lookup(b, 0);
	ck_assert_uint_eq(map_usage(mfx.map).pages, 3001);
	layer_unref(mfx.map, a);
	layer_unref(mfx.map, b);
	layer_unref(mfx.map, c);

	ck_assert_uint_eq(map_usage(mfx.map).pages, 0);
	ck_assert_uint_eq(map_usage(mfx.map).used_bytes, 0);
}
END_TEST

START_TEST(dirty_pages_are_never_evicted_and_clean_ones_keep_to_the_limit)
{
	struct layer *l;

	mfx_reopen_map(40000, 1);
	l = mfx_new_layer(1, NULL, 0, 0);
	for (uint64_t page = 0; page < 2000; page++)
		mfx_update(l, page * PAGE_CLUSTERS + page % 512, 1,
			   mfx_place(1, 1 + (uint32_t)page));
	ck_assert_uint_gt(map_usage(mfx.map).pinned_bytes, 40000);
	ck_assert_uint_eq(map_usage(mfx.map).pages, 2000);
	mini_checkpoint_begin(mfx.map);
	ck_assert_uint_eq(map_usage(mfx.map).pages, 2000);
	mini_checkpoint_finish(mfx.map, mfx.meta, MINI_DONE);
	ck_assert_uint_eq(map_usage(mfx.map).pinned_bytes, 0);
	ck_assert_uint_le(map_usage(mfx.map).used_bytes, 40000);
	for (uint64_t page = 0; page < 2000; page++)
		ck_assert_uint_eq(mfx_lookup(l, page * PAGE_CLUSTERS + page % 512),
				  mfx_place(1, 1 + (uint32_t)page));

	ck_assert_uint_le(map_usage(mfx.map).used_bytes, 40000);
	layer_unref(mfx.map, l);
}
END_TEST

START_TEST(what_is_used_often_stays_when_a_scan_passes)
{
	struct layer *l;
	uint64_t before;

	mfx_reopen_map(100 * 28, 1);
	l = mfx_new_layer(1, NULL, 0, 0);
	for (uint64_t page = 0; page < 1000; page++) {
		(void)mfx_lookup(l, page * PAGE_CLUSTERS);
		(void)mfx_lookup(l, UINT64_C(1) << 30);
	}
	before = mfx_misses();
	(void)mfx_lookup(l, UINT64_C(1) << 30);

	ck_assert_uint_eq(mfx_misses(), before);
	ck_assert_uint_eq(before, 1001);
	layer_unref(mfx.map, l);
}
END_TEST

START_TEST(a_tebibyte_written_in_order_would_cost_16_mib)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);
	uint64_t bytes_of_64th;

	for (uint64_t c = 0; c < (UINT64_C(1) << 34) / CLUSTER_BYTES; c += 32)
		mfx_update(l, c, 32, mfx_place(1 + c / 4096, 1 + c % 4096));
	bytes_of_64th = map_usage(mfx.map).used_bytes;

	ck_assert_uint_le(bytes_of_64th * 64, 16 << 20);
	layer_unref(mfx.map, l);
}
END_TEST

START_TEST(a_page_with_a_handful_of_random_writes_costs_less_than_300_bytes)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);
	uint32_t crc = 1;

	for (uint64_t page = 0; page < 100; page++)
		for (uint64_t i = 0; i < 10; i++) {
			struct map_update u = { .first = page * PAGE_CLUSTERS + i * 50,
						.count = 1,
						.loc = mfx_place(i + 1, 1 + (uint32_t)page),
						.crcs = &crc,
						.publish = mfx_publish };
			lsn_t lsn;

			MUST(map_update(mfx.map, l, &u, &lsn, NULL) == 0);
		}

	ck_assert_uint_le(map_usage(mfx.map).used_bytes, 100 * 300);
	ck_assert_uint_eq(map_usage(mfx.map).used_bytes, map_usage(mfx.map).pinned_bytes);
	layer_unref(mfx.map, l);
}
END_TEST

/* ---- checkpoints and ranges ------------------------------------------------------------------- */

START_TEST(rows_under_a_pending_range_stay_hidden_until_they_are_deleted)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);

	mfx_write_old_rows(l);
	mfx_range(l, 512, 2048);
	ck_assert(!loc_is_place(mfx_lookup(l, 600)));
	mini_checkpoint_begin(mfx.map);
	ck_assert(!loc_is_place(mfx_lookup(l, 1100)));
	mini_checkpoint_finish(mfx.map, mfx.meta, MINI_FAIL_STAGED);
	ck_assert(!loc_is_place(mfx_lookup(l, 1600)));
	mini_checkpoint(mfx.map, mfx.meta);
	layer_unref(mfx.map, l);
	l = mfx_new_layer(1, NULL, 0, 0);

	ck_assert(!loc_is_place(mfx_lookup(l, 600)));
	ck_assert(!loc_is_place(mfx_lookup(l, 1600)));
	ck_assert_uint_eq(mfx_lookup(l, 2048), mfx_at_row(2048));
	ck_assert_uint_eq(mfx_lookup(l, 511), mfx_at_row(511));
	layer_unref(mfx.map, l);
}
END_TEST

START_TEST(staged_entries_under_a_younger_range_do_not_come_back_when_the_checkpoint_fails)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);

	for (int fail = MINI_DONE; fail < MINI_FAIL_COUNT; fail++) {
		mfx_update(l, 700, 3, mfx_place(2, 70));
		mini_checkpoint_begin(mfx.map);
		mfx_range(l, 512, 1024);
		mini_checkpoint_finish(mfx.map, mfx.meta, (enum mini_fail)fail);
		ck_assert(!loc_is_place(mfx_lookup(l, 700)));
		mini_checkpoint(mfx.map, mfx.meta);
		layer_unref(mfx.map, l);
		l = mfx_new_layer(1, NULL, 0, 0);
		ck_assert(!loc_is_place(mfx_lookup(l, 700)));
	}
	layer_unref(mfx.map, l);
}
END_TEST

START_TEST(a_page_under_a_younger_range_is_not_staged_and_not_lost)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);
	struct staged_page *pages;
	struct staged_range *ranges;
	size_t count;

	mfx_write_old_rows(l);
	map_checkpoint_begin(mfx.map);
	mfx_range(l, 512, 1024);
	mfx_update(l, 700, 1, mfx_place(3, 3));
	mfx_update(l, 0, 1, mfx_place(3, 4));
	MUST(map_checkpoint_stage(mfx.map, &pages, &count) == 0);
	ck_assert_uint_eq(count, 1);
	ck_assert_uint_eq(pages[0].page, 0);
	ck_assert_uint_eq(pages[0].run_count, 1);
	MUST(map_checkpoint_ranges(mfx.map, &ranges, &count) == 0);
	ck_assert_uint_eq(count, 0);
	map_checkpoint_end(mfx.map, false);
	mini_checkpoint(mfx.map, mfx.meta);
	layer_unref(mfx.map, l);
	l = mfx_new_layer(1, NULL, 0, 0);

	ck_assert_uint_eq(mfx_lookup(l, 700), mfx_place(3, 3));
	ck_assert_uint_eq(mfx_lookup(l, 0), mfx_place(3, 4));
	ck_assert(!loc_is_place(mfx_lookup(l, 701)));
	layer_unref(mfx.map, l);
}
END_TEST

START_TEST(an_entry_changed_since_it_was_staged_keeps_its_newer_value)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);

	for (int fail = MINI_DONE; fail < MINI_FAIL_COUNT; fail++) {
		mfx_update(l, 10, 2, mfx_place(4, 10));
		mini_checkpoint_begin(mfx.map);
		mfx_update(l, 11, 1, mfx_place(5, 11 + (uint32_t)fail));
		mini_checkpoint_finish(mfx.map, mfx.meta, (enum mini_fail)fail);
		ck_assert_uint_eq(mfx_lookup(l, 10), mfx_place(4, 10));
		ck_assert_uint_eq(mfx_lookup(l, 11), mfx_place(5, 11 + (uint32_t)fail));
		mini_checkpoint(mfx.map, mfx.meta);
		layer_unref(mfx.map, l);
		l = mfx_new_layer(1, NULL, 0, 0);
		ck_assert_uint_eq(mfx_lookup(l, 11), mfx_place(5, 11 + (uint32_t)fail));
	}
	layer_unref(mfx.map, l);
}
END_TEST

START_TEST(nothing_is_staged_twice)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);
	struct staged_page *pages;
	size_t count;

	mfx_update(l, 10, 2, mfx_place(4, 10));
	mini_checkpoint(mfx.map, mfx.meta);
	map_checkpoint_begin(mfx.map);
	MUST(map_checkpoint_stage(mfx.map, &pages, &count) == 0);
	ck_assert_uint_eq(count, 0);
	map_checkpoint_end(mfx.map, true);
	layer_unref(mfx.map, l);
}
END_TEST

START_TEST(many_small_ranges_become_few_or_stay_exact)
{
	struct layer *l = mfx_new_layer(1, NULL, 0, 0);
	struct staged_range *ranges;
	size_t count;

	for (unsigned int page = 0; page < 300; page++)
		mfx_range(l, page * PAGE_CLUSTERS, (page + 1) * PAGE_CLUSTERS);
	for (unsigned int page = 1000; page < 1300; page += 2)
		mfx_range(l, page * PAGE_CLUSTERS, (page + 1) * PAGE_CLUSTERS);
	map_checkpoint_begin(mfx.map);
	MUST(map_checkpoint_ranges(mfx.map, &ranges, &count) == 0);
	ck_assert_uint_eq(count, 151);
	ck_assert_uint_eq(ranges[0].first_page, 0);
	ck_assert_uint_eq(ranges[0].end_page, 300);
	ck_assert_uint_eq(ranges[150].first_page, 1298);
	map_checkpoint_end(mfx.map, false);

	mfx_range(l, 1000 * PAGE_CLUSTERS, 1300 * PAGE_CLUSTERS);
	map_checkpoint_begin(mfx.map);
	MUST(map_checkpoint_ranges(mfx.map, &ranges, &count) == 0);
	ck_assert_uint_eq(count, 2);
	ck_assert_uint_eq(ranges[1].first_page, 1000);
	ck_assert_uint_eq(ranges[1].end_page, 1300);
	map_checkpoint_end(mfx.map, true);
	map_checkpoint_begin(mfx.map);
	MUST(map_checkpoint_ranges(mfx.map, &ranges, &count) == 0);
	ck_assert_uint_eq(count, 0);
	map_checkpoint_end(mfx.map, true);
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

static Suite *map_suite(void)
{
	Suite *s = suite_create("volume/map");
	TCase *one = map_case(s, "operations"), *memory = map_case(s, "memory");
	TCase *checkpoint = map_case(s, "checkpoint");

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
