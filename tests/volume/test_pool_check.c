/* pool_check(): finds what is planted, says where, repairs what it can, and nothing in a good pool. */
#include "support_damage.h"

#include "backend/backend.h"
#include "volume/pool_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROBLEMS_MAX 64u

struct seen {
	unsigned int count;
	struct pool_problem problem[PROBLEMS_MAX];
	char what[PROBLEMS_MAX][200];
};
static struct seen seen;

static void see(UNUSED void *arg, const struct pool_problem *p)
{
	if (seen.count < PROBLEMS_MAX) {
		seen.problem[seen.count] = *p;
		(void)snprintf(seen.what[seen.count], sizeof(seen.what[0]), "%s", p->what);
	}
	seen.count++;
}

static struct pool_check_result check(bool data, bool repair)
{
	struct pool_check_options o = { .data = data, .repair = repair, .problem = see };
	struct pool_check_result result;
	struct err e = { 0 };

	seen.count = 0;
	ck_assert_msg(pool_check(pf.pool, &o, &result, &e) == 0, "%s", e.message);
	return result;
}

static void expect_clean(void)
{
	struct pool_check_result r = check(true, false);

	ck_assert_msg(seen.count == 0, "%s", seen.what[0]);
	ck_assert_uint_eq(r.errors + r.warnings + r.repaired, 0);
}

/* A disk of 1 MiB, in a checkpoint and on the backend. */
static uint64_t make_disk(void)
{
	struct object *o;
	void *bytes = pattern_mem(MIB, 1);
	struct err e = { 0 };
	uint64_t id;

	pool_fixture_create();
	pool_fixture_open_quiet();
	o = make_object(OBJECT_DISK);
	write_bytes(o, 0, bytes, MIB);
	id = id_of(o);
	object_close(o);
	free(bytes);
	ck_assert_msg(pool_sync_backend(pf.pool, &e) == 0, "%s", e.message);
	return id;
}

static struct sco *first_sco(void)
{
	struct sco **list, *s;
	size_t count;

	ck_assert_int_eq(sco_table_list(pf.pool->scos, 0, &list, &count), 0);
	ck_assert_uint_ge(count, 1);
	s = list[0];
	sco_list_free(pf.pool->scos, list, count);
	return s;
}

START_TEST(a_good_pool_has_no_problems_and_its_data_are_compared)
{
	struct pool_check_result r;

	(void)make_disk();
	expect_clean();
	r = check(true, false);
	ck_assert_uint_eq(r.data_bytes, MIB);
	ck_assert_uint_eq(r.live_bytes, MIB);
	ck_assert(r.backend_checked);
	ck_assert_uint_eq(r.objects, 1);
}
END_TEST

START_TEST(a_good_pool_stays_good_over_deletions_class_changes_and_restarts)
{
	uint64_t id = make_disk();
	struct object *o = get_object(id);
	void *bytes = pattern_mem(MIB, 2);

	ck_assert_int_eq(object_set_class(o, OBJECT_FILE, NULL), 0);
	write_bytes(o, 300 * KIB, bytes, 100 * KIB);
	ck_assert_int_eq(object_truncate(o, 700 * KIB + 5, NULL), 0);
	object_close(o);
	expect_clean();
	pool_fixture_restart();
	expect_clean();
	ck_assert_int_eq(object_delete(pf.pool, id, NULL), 0);
	expect_clean();
	free(bytes);
}
END_TEST

START_TEST(a_wrong_count_is_found_and_repaired_for_good)
{
	struct sco *s;
	uint32_t right;

	(void)make_disk();
	s = first_sco();
	right = s->live_slots;
	s->live_slots = right - 3; /* it would be removed while the map needs it */

	ck_assert_uint_eq(check(false, false).errors, 1);
	ck_assert_ptr_nonnull(strstr(seen.what[0], "live clusters"));
	ck_assert_uint_eq(check(false, true).repaired, 1);

	expect_clean();
	pool_fixture_restart();
	expect_clean();
	ck_assert_uint_eq(first_sco()->live_slots, right);
}
END_TEST

START_TEST(a_count_that_is_too_high_is_a_warning)
{
	struct pool_check_result r;

	(void)make_disk();
	first_sco()->live_slots += 2;
	r = check(false, false);
	ck_assert_uint_eq(r.errors, 0);
	ck_assert_uint_eq(r.warnings, 1);
}
END_TEST

START_TEST(a_flipped_bit_is_found_with_data_and_its_place_is_told)
{
	uint64_t id = make_disk();
	char path[PATH_BYTES];
	uint64_t at;
	uint8_t *bytes = pattern_mem(MIB, 1);

	(void)sco_path(path, 0);
	at = find_in_file(path, bytes + 5 * CLUSTER_BYTES, CLUSTER_BYTES);
	ck_assert_uint_ne(at, UINT64_MAX);
	flip_bit(path, at + 100, 3);

	ck_assert_uint_eq(check(false, false).errors, 0);
	ck_assert_uint_eq(check(true, false).errors, 1);
	ck_assert_uint_eq(seen.problem[0].object, id);
	ck_assert_uint_eq(seen.problem[0].offset_bytes, 5 * CLUSTER_BYTES);
	ck_assert_uint_eq(seen.problem[0].sco, first_sco()->number);
	ck_assert_uint_eq(seen.problem[0].slot, at / CLUSTER_BYTES);
	free(bytes);
}
END_TEST

START_TEST(damage_of_header_index_and_footer_is_found_without_reading_data)
{
	char path[PATH_BYTES];
	uint64_t places[3];

	(void)make_disk();
	(void)sco_path(path, 0);
	places[0] = 40;
	places[1] = first_sco()->table_offset_bytes + 64;
	places[2] = file_size(path) - BLOCK_BYTES + 40;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		flip_bit(path, places[i], 1);
		ck_assert_uint_eq(check(false, false).errors, 1);
		ck_assert_uint_eq(seen.problem[0].sco, first_sco()->number);
		flip_bit(path, places[i], 1);
		expect_clean();
	}
}
END_TEST

START_TEST(an_object_that_the_backend_lost_is_uploaded_again_by_a_repair)
{
	char dir[PATH_BYTES];
	struct err e = { 0 };
	uint64_t lost;

	(void)make_disk();
	ck_assert_uint_gt(check(false, false).single_copy_scos, 0);
	remove_tree(pool_path(dir, "objects/00000010/sco"));

	lost = check(false, false).errors;
	ck_assert_uint_gt(lost, 0);
	ck_assert_uint_eq(check(false, true).repaired, lost);
	ck_assert_msg(pool_sync_backend(pf.pool, &e) == 0, "%s", e.message);
	expect_clean();
}
END_TEST

/* The one object of a container. */
static void object_path(char path[PATH_BYTES])
{
	char name[OBJECT_NAME_MAX + 1];
	const struct sco *s = first_sco();

	object_name_sco(name, s->stream, s->number, s->version, s->object_epoch);
	(void)snprintf(path, PATH_BYTES, "%s/objects/%s", pf.dir, name);
}

/* 0: header, 1: a cluster, 2: slot table, 3: footer */
START_TEST(of_two_copies_a_damaged_file_is_mended_from_the_object)
{
	struct pool_check_result r;
	char path[PATH_BYTES];
	uint64_t at;

	pf.options.backend_copy = BACKEND_COPY_BYTES;
	(void)make_disk();
	(void)sco_path(path, 0);
	at = (const uint64_t[]){ 200, 200000, first_sco()->table_offset_bytes + 99,
				 first_sco()->file_bytes - 4000 }[_i];
	flip_bit(path, at, 1);

	ck_assert_uint_gt(check(true, false).errors, 0);
	ck_assert_ptr_nonnull(strstr(seen.what[0], "whole on the backend"));
	r = check(true, true);
	ck_assert_uint_eq(r.repaired, 1);
	ck_assert_uint_eq(r.errors, 0);
	expect_clean();
	pool_fixture_restart();
	expect_clean();
}
END_TEST

START_TEST(of_two_copies_a_damaged_object_is_uploaded_anew)
{
	char path[PATH_BYTES];
	struct err e = { 0 };

	pf.options.backend_copy = BACKEND_COPY_BYTES;
	(void)make_disk();
	object_path(path);
	flip_bit(path, 200000, 1);

	ck_assert_uint_eq(check(true, false).errors, 1);
	ck_assert_ptr_nonnull(strstr(seen.what[0], "damaged on the backend"));
	ck_assert_uint_eq(check(true, true).repaired, 1);
	ck_assert_msg(pool_sync_backend(pf.pool, &e) == 0, "%s", e.message);
	expect_clean();
}
END_TEST

START_TEST(a_backend_that_does_not_answer_is_told_and_is_no_damage)
{
	char from[PATH_BYTES], to[PATH_BYTES];
	struct pool_check_result r;

	(void)make_disk();
	ck_assert_int_eq(rename(pool_path(from, "objects"), pool_path(to, "away")), 0);
	make_file(from, "x", 1);
	r = check(false, false);
	ck_assert(!r.backend_checked);
	ck_assert_uint_eq(r.errors, 0);
}
END_TEST

START_TEST(a_map_page_of_a_layer_that_is_gone_is_left_over_and_goes)
{
	struct row_key key = row_key_2u64(ROW_PAGE, 4000, 7);
	struct page_run run = { .count = 1, .loc = LOC_ZERO };
	struct meta_batch *batch;
	struct buf value;

	(void)make_disk();
	batch = meta_batch_new(pf.pool->meta, META_STATE);
	buf_init(&value, 4096);
	ck_assert_int_eq(page_value_encode(PAGE_BASE, &run, 1, &value), 0);
	ck_assert_int_eq(meta_batch_put(pf.pool->meta, batch, &key, &value), 0);
	ck_assert_int_eq(meta_commit(pf.pool->meta, batch, 0, NULL), 0);
	meta_batch_free(pf.pool->meta, batch);
	buf_done(&value);

	ck_assert_uint_eq(check(false, false).warnings, 1);
	ck_assert_uint_eq(check(false, true).repaired, 1);
	expect_clean();
}
END_TEST

START_TEST(locations_that_lead_nowhere_are_errors_of_their_object)
{
	struct row_key key;
	struct page_run run = { .first = 9, .count = 2, .loc = loc_make(0, 777777, 3) };
	struct meta_batch *batch;
	struct object *o;
	struct buf value;
	uint64_t id = make_disk();

	o = get_object(id);
	key = row_key_2u64(ROW_PAGE, o->layer->id, 1000);
	object_close(o);
	batch = meta_batch_new(pf.pool->meta, META_STATE);
	buf_init(&value, 4096);
	ck_assert_int_eq(page_value_encode(PAGE_BASE, &run, 1, &value), 0);
	ck_assert_int_eq(meta_batch_put(pf.pool->meta, batch, &key, &value), 0);
	ck_assert_int_eq(meta_commit(pf.pool->meta, batch, 0, NULL), 0);
	meta_batch_free(pf.pool->meta, batch);
	buf_done(&value);

	ck_assert_uint_eq(check(false, false).errors, 1);
	ck_assert_uint_eq(seen.problem[0].object, id);
	ck_assert_uint_eq(seen.problem[0].offset_bytes, (1000 * PAGE_CLUSTERS + 9) * CLUSTER_BYTES);
	ck_assert_uint_eq(seen.problem[0].len_bytes, 2 * CLUSTER_BYTES);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("volume/check");
	TCase *t = tcase_create("check");
	SRunner *r;
	int failed;

	pool_fixture_add(t, NULL);
	tcase_add_test(t, a_good_pool_has_no_problems_and_its_data_are_compared);
	tcase_add_test(t, a_good_pool_stays_good_over_deletions_class_changes_and_restarts);
	tcase_add_test(t, a_wrong_count_is_found_and_repaired_for_good);
	tcase_add_test(t, a_count_that_is_too_high_is_a_warning);
	tcase_add_test(t, a_flipped_bit_is_found_with_data_and_its_place_is_told);
	tcase_add_test(t, damage_of_header_index_and_footer_is_found_without_reading_data);
	tcase_add_test(t, an_object_that_the_backend_lost_is_uploaded_again_by_a_repair);
	tcase_add_loop_test(t, of_two_copies_a_damaged_file_is_mended_from_the_object, 0, 4);
	tcase_add_test(t, of_two_copies_a_damaged_object_is_uploaded_anew);
	tcase_add_test(t, a_backend_that_does_not_answer_is_told_and_is_no_damage);
	tcase_add_test(t, a_map_page_of_a_layer_that_is_gone_is_left_over_and_goes);
	tcase_add_test(t, locations_that_lead_nowhere_are_errors_of_their_object);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
