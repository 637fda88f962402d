/*
 * What every metadata store promises (volume/meta.h), asked of each in the same words: rows,
 * iteration, pages. What survives is in test_meta_survival.c.
 */
#include "tests/contract/support_meta.h"

#include <check.h>
#include <string.h>

/* ---- rows ---- */

START_TEST(a_row_is_read_back)
{
	mt_put_text(ROW_OBJECT, 1, "one", 0);
	mt_put_text(ROW_SCO, 1, "state", 0);

	mt_ck_text(ROW_OBJECT, 1, "one");
	mt_ck_text(ROW_SCO, 1, "state");
}
END_TEST

START_TEST(a_missing_row_is_enoent_and_leaves_the_buffer)
{
	mt_put_text(ROW_OBJECT, 1, "one", 0);
	mt_ck_text(ROW_OBJECT, 1, "one");

	ck_assert_int_eq(mt_get(ROW_OBJECT, 2), -ENOENT);
	ck_assert_uint_eq(mt.got.len_bytes, 3);
	ck_assert_mem_eq(mt.got.data, "one", 3);
}
END_TEST

START_TEST(a_value_beyond_the_buffer_is_refused_and_leaves_it)
{
	const struct row_key key = mt_key_of(ROW_OBJECT, 1);
	struct buf tiny;

	mt_put_text(ROW_OBJECT, 1, "one", 0);
	buf_init(&tiny, 2);
	ck_assert_int_eq(buf_append(&tiny, "xy", 2), 0);

	ck_assert_int_eq(meta_get(mt.m, META_NAMES, &key, &tiny, &mt.e), -E2BIG);
	ck_assert_uint_eq(tiny.len_bytes, 2);
	ck_assert_mem_eq(tiny.data, "xy", 2);
	buf_done(&tiny);
}
END_TEST

START_TEST(the_later_of_two_puts_wins)
{
	mt_put_text(ROW_OBJECT, 1, "old", 0);
	mt_put_text(ROW_OBJECT, 1, "newer", 0);

	mt_ck_text(ROW_OBJECT, 1, "newer");
}
END_TEST

START_TEST(a_deleted_row_is_gone)
{
	mt_put_text(ROW_OBJECT, 1, "one", 0);
	mt_put_text(ROW_OBJECT, 2, "two", 0);
	mt_delete_row(ROW_OBJECT, 1);

	ck_assert_int_eq(mt_get(ROW_OBJECT, 1), -ENOENT);
	mt_ck_text(ROW_OBJECT, 2, "two");
}
END_TEST

START_TEST(deleting_what_is_not_there_is_no_error)
{
	mt_delete_row(ROW_OBJECT, 9);

	ck_assert_int_eq(mt_get(ROW_OBJECT, 9), -ENOENT);
}
END_TEST

START_TEST(an_empty_value_is_a_row)
{
	mt_put_text(ROW_OBJECT, 1, "full", 0);
	mt_put_text(ROW_OBJECT, 1, "", 0);

	mt_ck_text(ROW_OBJECT, 1, "");
}
END_TEST

START_TEST(a_value_of_three_megabytes_comes_back_whole)
{
	const size_t len_bytes = 3 << 20;
	const struct row_key key = mt_key_of(ROW_OBJECT, 1);
	struct meta_batch *batch = meta_batch_new(mt.m, META_NAMES);
	struct buf value;
	uint8_t *p;

	buf_init(&value, META_VALUE_MAX);
	p = buf_extend(&value, len_bytes);
	for (size_t i = 0; i < len_bytes; i++)
		p[i] = (uint8_t)(i * 2654435761u >> 13);
	ck_assert_int_eq(meta_batch_put(mt.m, batch, &key, &value), 0);
	ck_assert_uint_ge(meta_batch_bytes(mt.m, batch), len_bytes);
	mt_commit(batch, 0);

	ck_assert_int_eq(mt_get(ROW_OBJECT, 1), 0);
	ck_assert_uint_eq(mt.got.len_bytes, len_bytes);
	ck_assert(memcmp(mt.got.data, value.data, len_bytes) == 0);
	buf_done(&value);
}
END_TEST

START_TEST(within_a_batch_the_last_word_counts)
{
	const struct row_key one = mt_key_of(ROW_OBJECT, 1), two = mt_key_of(ROW_OBJECT, 2);
	struct meta_batch *batch = meta_batch_new(mt.m, META_NAMES);

	mt_batch_text(batch, ROW_OBJECT, 1, "first");
	ck_assert_int_eq(meta_batch_delete(mt.m, batch, &one), 0);
	mt_batch_text(batch, ROW_OBJECT, 1, "last");
	mt_batch_text(batch, ROW_OBJECT, 2, "gone");
	ck_assert_int_eq(meta_batch_delete(mt.m, batch, &two), 0);
	mt_commit(batch, 0);

	mt_ck_text(ROW_OBJECT, 1, "last");
	ck_assert_int_eq(mt_get(ROW_OBJECT, 2), -ENOENT);
}
END_TEST

START_TEST(a_batch_that_is_freed_uncommitted_does_nothing)
{
	struct meta_batch *batch = meta_batch_new(mt.m, META_NAMES);

	mt_batch_text(batch, ROW_OBJECT, 1, "never");
	meta_batch_free(mt.m, batch);

	ck_assert_int_eq(mt_get(ROW_OBJECT, 1), -ENOENT);
}
END_TEST

/* ---- iteration ---- */

struct seen {
	uint64_t ids[64];
	unsigned int count, stop_at;
	uint64_t commit_at_id;
};

static int see(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
	       size_t value_bytes)
{
	struct seen *s = arg;
	uint64_t id = 0;

	ck_assert_uint_eq(key_bytes, 9);
	ck_assert(value_bytes == 0 || value != NULL);
	for (unsigned int i = 1; i < 9; i++)
		id = id << 8 | key[i];
	ck_assert_uint_lt(s->count, ARRAY_SIZE(s->ids));
	s->ids[s->count++] = id;
	if (s->commit_at_id != 0) {
		/* behind, here and ahead */
		mt_put_text(ROW_OBJECT, id + 1000, "new", 0);
		mt_delete_row(ROW_OBJECT, id);
		mt_delete_row(ROW_OBJECT, id + 1);
	}
	return s->count == s->stop_at ? 42 : 0;
}

static void put_ids(enum row_kind kind, const uint64_t *ids, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		mt_put_text(kind, ids[i], "v", 0);
}

static const uint64_t scattered[] = { 500, 3, UINT64_MAX, 256, 255, 0, 70000, 4 };
static const uint64_t sorted[] = { 0, 3, 4, 255, 256, 500, 70000, UINT64_MAX };

START_TEST(rows_come_in_key_order)
{
	const struct row_key from = mt_key_of(ROW_OBJECT, 0);
	struct seen s = { .stop_at = 100 };

	put_ids(ROW_OBJECT, scattered, ARRAY_SIZE(scattered));

	ck_assert_int_eq(meta_iterate(mt.m, META_NAMES, &from, NULL, see, &s, &mt.e), 0);
	ck_assert_uint_eq(s.count, ARRAY_SIZE(sorted));
	ck_assert_mem_eq(s.ids, sorted, sizeof(sorted));
}
END_TEST

START_TEST(from_is_in_and_until_is_out)
{
	const struct row_key from = mt_key_of(ROW_OBJECT, 4), until = mt_key_of(ROW_OBJECT, 500);
	struct seen s = { .stop_at = 100 };

	put_ids(ROW_OBJECT, scattered, ARRAY_SIZE(scattered));

	ck_assert_int_eq(meta_iterate(mt.m, META_NAMES, &from, &until, see, &s, &mt.e), 0);
	ck_assert_uint_eq(s.count, 3);
	ck_assert_mem_eq(s.ids, sorted + 2, 3 * sizeof(sorted[0]));
}
END_TEST

START_TEST(bounds_need_not_be_rows_and_may_be_empty)
{
	const struct row_key from = mt_key_of(ROW_OBJECT, 5), until = mt_key_of(ROW_OBJECT, 200);
	struct seen s = { .stop_at = 100 };

	put_ids(ROW_OBJECT, scattered, ARRAY_SIZE(scattered));

	ck_assert_int_eq(meta_iterate(mt.m, META_NAMES, &from, &until, see, &s, &mt.e), 0);
	ck_assert_int_eq(meta_iterate(mt.m, META_NAMES, &until, &from, see, &s, &mt.e), 0);
	ck_assert_uint_eq(s.count, 0);
}
END_TEST

START_TEST(a_bound_may_be_a_mere_kind)
{
	const struct row_key from = { .bytes = { ROW_OBJECT }, .len_bytes = 1 };
	const struct row_key until = { .bytes = { ROW_OBJECT + 1 }, .len_bytes = 1 };
	struct seen s = { .stop_at = 100 };

	put_ids(ROW_LAYER, scattered, 2);
	put_ids(ROW_OBJECT, scattered, ARRAY_SIZE(scattered));
	put_ids(ROW_STREAM, scattered, 2);

	ck_assert_int_eq(meta_iterate(mt.m, META_NAMES, &from, &until, see, &s, &mt.e), 0);
	ck_assert_uint_eq(s.count, ARRAY_SIZE(sorted));
}
END_TEST

START_TEST(the_visitor_can_end_it)
{
	const struct row_key from = mt_key_of(ROW_OBJECT, 0);
	struct seen s = { .stop_at = 2 };

	put_ids(ROW_OBJECT, scattered, ARRAY_SIZE(scattered));

	ck_assert_int_eq(meta_iterate(mt.m, META_NAMES, &from, NULL, see, &s, &mt.e), 42);
	ck_assert_uint_eq(s.count, 2);
}
END_TEST

START_TEST(iteration_shows_one_view_while_the_visitor_commits)
{
	const struct row_key from = mt_key_of(ROW_OBJECT, 0);
	struct seen s = { .stop_at = 100, .commit_at_id = 1 };

	put_ids(ROW_OBJECT, (const uint64_t[]){ 1, 2, 3, 4, 5 }, 5);

	ck_assert_int_eq(meta_iterate(mt.m, META_NAMES, &from, NULL, see, &s, &mt.e), 0);
	ck_assert_uint_eq(s.count, 5);
	ck_assert_int_eq(mt_get(ROW_OBJECT, 3), -ENOENT);
	mt_ck_text(ROW_OBJECT, 1003, "new");
}
END_TEST

START_TEST(a_view_shows_both_families_as_they_were)
{
	const struct row_key from = mt_key_of(ROW_OBJECT, 0);
	const struct row_key from_state = mt_key_of(ROW_OBJECT_STATE, 0);
	struct seen then = { .stop_at = 100 }, state = { .stop_at = 100 }, now = { .stop_at = 100 };
	struct meta_view *view;

	put_ids(ROW_OBJECT, (const uint64_t[]){ 1, 2, 3 }, 3);
	put_ids(ROW_OBJECT_STATE, (const uint64_t[]){ 7, 8 }, 2);
	view = meta_view_new(mt.m);
	ck_assert_ptr_nonnull(view);
	put_ids(ROW_OBJECT, (const uint64_t[]){ 4 }, 1);
	mt_delete_row(ROW_OBJECT, 2);
	put_ids(ROW_OBJECT_STATE, (const uint64_t[]){ 9 }, 1);
	ck_assert_int_eq(meta_flush(mt.m, &mt.e), 0);

	ck_assert_int_eq(meta_view_iterate(mt.m, view, META_NAMES, &from, NULL, see, &then, &mt.e),
			 0);
	ck_assert_uint_eq(then.count, 3);
	ck_assert_mem_eq(then.ids, ((const uint64_t[]){ 1, 2, 3 }), 3 * sizeof(then.ids[0]));
	ck_assert_int_eq(meta_view_iterate(mt.m, view, META_STATE, &from_state, NULL, see, &state,
					   &mt.e),
			 0);
	ck_assert_uint_eq(state.count, 2);
	meta_view_free(mt.m, view);
	ck_assert_int_eq(meta_iterate(mt.m, META_NAMES, &from, NULL, see, &now, &mt.e), 0);
	ck_assert_uint_eq(now.count, 3);
	ck_assert_mem_eq(now.ids, ((const uint64_t[]){ 1, 3, 4 }), 3 * sizeof(now.ids[0]));
}
END_TEST

START_TEST(families_do_not_see_each_other)
{
	const struct row_key from = { .len_bytes = 0 };
	struct seen s = { .stop_at = 100 };

	put_ids(ROW_OBJECT, scattered, 3);
	put_ids(ROW_SCO, scattered, 2);

	ck_assert_int_eq(meta_iterate(mt.m, META_STATE, &from, NULL, see, &s, &mt.e), 0);
	ck_assert_uint_eq(s.count, 2);
}
END_TEST

/* ---- pages ---- */

START_TEST(a_delta_onto_nothing_is_a_base)
{
	loc_t locs[PAGE_CLUSTERS];

	mt_merge_delta(7, 10, 3, loc_make(0, META_TEST_SCO, 100));

	mt_get_page(7, locs);
	ck_assert_uint_eq(locs[9], LOC_UNMAPPED);
	ck_assert_uint_eq(locs[10], loc_make(0, META_TEST_SCO, 100));
	ck_assert_uint_eq(locs[12], loc_make(0, META_TEST_SCO, 102));
	ck_assert_uint_eq(locs[13], LOC_UNMAPPED);
}
END_TEST

static void ck_base_and_deltas(void (*between)(void))
{
	loc_t locs[PAGE_CLUSTERS];

	mt_put_base(7, 0, 100, loc_make(0, META_TEST_SCO, 1000));
	between();
	mt_merge_delta(7, 50, 10, loc_make(0, META_TEST_SCO, 2000));
	between();
	mt_merge_delta(7, 55, 1, LOC_ZERO);
	between();
	mt_merge_delta(7, 56, 2, LOC_UNMAPPED);
	mt_merge_delta(7, 511, 1, loc_make(3, META_TEST_SCO, 9));
	between();

	mt_get_page(7, locs);
	ck_assert_uint_eq(locs[49], loc_make(0, META_TEST_SCO, 1049));
	ck_assert_uint_eq(locs[54], loc_make(0, META_TEST_SCO, 2004));
	ck_assert_uint_eq(locs[55], LOC_ZERO);
	ck_assert_uint_eq(locs[56], LOC_UNMAPPED);
	ck_assert_uint_eq(locs[58], loc_make(0, META_TEST_SCO, 2008));
	ck_assert_uint_eq(locs[60], loc_make(0, META_TEST_SCO, 1060));
	ck_assert_uint_eq(locs[511], loc_make(3, META_TEST_SCO, 9));
}

static void nothing(void)
{
}

START_TEST(deltas_lie_over_their_base)
{
	ck_base_and_deltas(nothing);
}
END_TEST

START_TEST(deltas_and_base_meet_across_flushes)
{
	ck_base_and_deltas(mt_flush);
}
END_TEST

START_TEST(deltas_in_one_batch_apply_in_order)
{
	struct meta_batch *batch = meta_batch_new(mt.m, META_STATE);
	loc_t locs[PAGE_CLUSTERS];

	mt_batch_delta(batch, 7, 0, 4, loc_make(0, META_TEST_SCO, 100));
	mt_batch_delta(batch, 7, 2, 4, loc_make(0, META_TEST_SCO, 200));
	mt_commit(batch, 0);

	mt_get_page(7, locs);
	ck_assert_uint_eq(locs[1], loc_make(0, META_TEST_SCO, 101));
	ck_assert_uint_eq(locs[2], loc_make(0, META_TEST_SCO, 200));
}
END_TEST

START_TEST(a_deleted_page_starts_afresh)
{
	loc_t locs[PAGE_CLUSTERS];

	mt_merge_delta(7, 0, 4, loc_make(0, META_TEST_SCO, 100));
	mt_delete_row(ROW_PAGE, 7);
	ck_assert_int_eq(mt_get(ROW_PAGE, 7), -ENOENT);
	mt_merge_delta(7, 2, 1, loc_make(0, META_TEST_SCO, 200));

	mt_get_page(7, locs);
	ck_assert_uint_eq(locs[0], LOC_UNMAPPED);
	ck_assert_uint_eq(locs[2], loc_make(0, META_TEST_SCO, 200));
}
END_TEST

START_TEST(a_base_replaces_what_was_merged)
{
	loc_t locs[PAGE_CLUSTERS];

	mt_merge_delta(7, 0, 4, loc_make(0, META_TEST_SCO, 100));
	mt_put_base(7, 2, 1, LOC_ZERO);

	mt_get_page(7, locs);
	ck_assert_uint_eq(locs[0], LOC_UNMAPPED);
	ck_assert_uint_eq(locs[2], LOC_ZERO);
}
END_TEST

static int see_page(void *arg, UNUSED const uint8_t *key, UNUSED size_t key_bytes,
		    const uint8_t *value, size_t value_bytes)
{
	enum page_value_kind kind;

	ck_assert_int_eq(page_value_decode(value, value_bytes, &kind, mt_add_run, arg, &mt.e), 0);
	ck_assert_int_eq(kind, PAGE_BASE);
	return 0;
}

START_TEST(iteration_shows_merged_pages)
{
	const struct row_key from = mt_key_of(ROW_PAGE, 0);
	loc_t locs[PAGE_CLUSTERS] = { 0 };

	mt_put_base(7, 0, 4, loc_make(0, META_TEST_SCO, 100));
	mt_merge_delta(7, 2, 1, LOC_ZERO);

	ck_assert_int_eq(meta_iterate(mt.m, META_STATE, &from, NULL, see_page, locs, &mt.e), 0);
	ck_assert_uint_eq(locs[1], loc_make(0, META_TEST_SCO, 101));
	ck_assert_uint_eq(locs[2], LOC_ZERO);
}
END_TEST

START_TEST(a_merge_that_is_no_delta_is_refused)
{
	const struct row_key key = mt_key_of(ROW_PAGE, 7);
	struct meta_batch *batch = meta_batch_new(mt.m, META_STATE);
	struct buf base, damaged;

	mt_page_value(&base, PAGE_BASE, 0, 1, LOC_ZERO);
	mt_page_value(&damaged, PAGE_DELTA, 0, 1, LOC_ZERO);
	damaged.data[damaged.len_bytes - 1] ^= 1;

	ck_assert_int_eq(meta_batch_merge(mt.m, batch, &key, &base), -EUCLEAN);
	ck_assert_int_eq(meta_batch_merge(mt.m, batch, &key, &damaged), -EBADMSG);
	mt_commit(batch, 0);
	ck_assert_int_eq(mt_get(ROW_PAGE, 7), -ENOENT);
	buf_done(&base);
	buf_done(&damaged);
}
END_TEST

START_TEST(a_page_on_a_damaged_base_is_an_error_until_it_is_replaced)
{
	const struct row_key from = mt_key_of(ROW_PAGE, 0);
	struct seen s = { .stop_at = 100 };
	loc_t locs[PAGE_CLUSTERS];

	mt_put_text(ROW_PAGE, 7, "this is no page", 0);
	mt_merge_delta(7, 0, 4, loc_make(0, META_TEST_SCO, 100));
	mt_merge_delta(8, 0, 4, loc_make(0, META_TEST_SCO, 100));

	ck_assert_int_eq(mt_get(ROW_PAGE, 7), -EUCLEAN);
	ck_assert_int_eq(meta_iterate(mt.m, META_STATE, &from, NULL, see, &s, &mt.e), -EUCLEAN);
	ck_assert_uint_eq(s.count, 0);
	mt_merge_delta(7, 0, 4, LOC_ZERO);
	ck_assert_int_eq(mt_get(ROW_PAGE, 7), -EUCLEAN);
	mt_get_page(8, locs);

	mt_put_base(7, 0, 1, LOC_ZERO);
	mt_get_page(7, locs);
	ck_assert_uint_eq(locs[0], LOC_ZERO);
}
END_TEST

static void add_tests(Suite *suite, const char *name, void (*fixture)(void))
{
	TCase *tests = tcase_create(name);

	tcase_add_checked_fixture(tests, fixture, mt_teardown);
	tcase_add_test(tests, a_row_is_read_back);
	tcase_add_test(tests, a_missing_row_is_enoent_and_leaves_the_buffer);
	tcase_add_test(tests, a_value_beyond_the_buffer_is_refused_and_leaves_it);
	tcase_add_test(tests, the_later_of_two_puts_wins);
	tcase_add_test(tests, a_deleted_row_is_gone);
	tcase_add_test(tests, deleting_what_is_not_there_is_no_error);
	tcase_add_test(tests, an_empty_value_is_a_row);
	tcase_add_test(tests, a_value_of_three_megabytes_comes_back_whole);
	tcase_add_test(tests, within_a_batch_the_last_word_counts);
	tcase_add_test(tests, a_batch_that_is_freed_uncommitted_does_nothing);
	tcase_add_test(tests, rows_come_in_key_order);
	tcase_add_test(tests, from_is_in_and_until_is_out);
	tcase_add_test(tests, bounds_need_not_be_rows_and_may_be_empty);
	tcase_add_test(tests, a_bound_may_be_a_mere_kind);
	tcase_add_test(tests, the_visitor_can_end_it);
	tcase_add_test(tests, iteration_shows_one_view_while_the_visitor_commits);
	tcase_add_test(tests, a_view_shows_both_families_as_they_were);
	tcase_add_test(tests, families_do_not_see_each_other);
	tcase_add_test(tests, a_delta_onto_nothing_is_a_base);
	tcase_add_test(tests, deltas_lie_over_their_base);
	tcase_add_test(tests, deltas_and_base_meet_across_flushes);
	tcase_add_test(tests, deltas_in_one_batch_apply_in_order);
	tcase_add_test(tests, a_deleted_page_starts_afresh);
	tcase_add_test(tests, a_base_replaces_what_was_merged);
	tcase_add_test(tests, iteration_shows_merged_pages);
	tcase_add_test(tests, a_merge_that_is_no_delta_is_refused);
	tcase_add_test(tests, a_page_on_a_damaged_base_is_an_error_until_it_is_replaced);
	suite_add_tcase(suite, tests);
}

int main(void)
{
	Suite *suite = suite_create("contract/meta");
	SRunner *runner = srunner_create(suite);
	int failed;

	add_tests(suite, "mem", mt_setup_mem);
	add_tests(suite, "rocksdb", mt_setup_rocks);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
