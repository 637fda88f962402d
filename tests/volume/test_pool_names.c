/* Operations on names: whole or not at all, durable, and never ahead of the data they publish. */
#include "support_pool.h"

#include "common/buf.h"
#include "volume/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static struct world {
	uint64_t acked, started; /* rounds of the batch below */
	uint64_t id;
} * world;

static void begin(void)
{
	pf.options.flush_interval_ns = HOUR_NS;
	world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	ck_assert_ptr_ne(world, MAP_FAILED);
}

static void put_u64(struct names_batch *b, const char *key, uint64_t value)
{
	ck_assert_int_eq(names_put(b, key, strlen(key), &value, sizeof(value)), 0);
}

/* UINT64_MAX: there is no such row. */
static uint64_t get_u64(const char *key)
{
	struct buf out;
	uint64_t value = UINT64_MAX;
	int r;

	buf_init(&out, 64);
	r = names_get(pf.pool, key, strlen(key), &out, NULL);
	ck_assert(r == 0 || r == -ENOENT);
	if (r == 0) {
		ck_assert_uint_eq(out.len_bytes, sizeof(value));
		memcpy(&value, out.data, sizeof(value));
	}
	buf_done(&out);
	return value;
}

static void commit(struct names_batch *b)
{
	struct err e = { 0 };

	ck_assert_msg(names_commit(b, &e) == 0, "%s", e.message);
	names_batch_free(b);
}

static size_t object_count(void)
{
	uint64_t *ids;
	size_t count;

	ck_assert_int_eq(pool_list_objects(pf.pool, &ids, &count, NULL), 0);
	free(ids);
	return count;
}

/* --- one process -------------------------------------------------------------------------------- */

START_TEST(rows_are_put_replaced_and_deleted)
{
	struct names_batch *b;

	pool_fixture_create();
	pool_fixture_open();
	ck_assert_uint_eq(get_u64("a"), UINT64_MAX);
	b = names_batch_new(pf.pool);
	put_u64(b, "a", 1);
	put_u64(b, "b", 2);
	ck_assert_uint_eq(get_u64("a"), UINT64_MAX); /* not before the commit */
	commit(b);
	b = names_batch_new(pf.pool);
	put_u64(b, "a", 3);
	ck_assert_int_eq(names_delete(b, "b", 1), 0);
	commit(b);
	pool_fixture_restart();
	ck_assert_uint_eq(get_u64("a"), 3);
	ck_assert_uint_eq(get_u64("b"), UINT64_MAX);
}
END_TEST

START_TEST(a_batch_that_is_not_committed_leaves_nothing)
{
	struct names_batch *b;
	struct object *o;
	uint64_t kept, made;

	pool_fixture_create();
	pool_fixture_open();
	o = make_object(OBJECT_DISK);
	kept = id_of(o);
	write_bytes(o, 0, "data", 4);
	object_close(o);
	b = names_batch_new(pf.pool);
	put_u64(b, "a", 1);
	ck_assert_int_eq(names_create_object(b, OBJECT_DISK, &made, NULL), 0);
	ck_assert_int_eq(names_delete_object(b, kept, NULL), 0);
	names_batch_free(b);
	ck_assert_uint_eq(get_u64("a"), UINT64_MAX);
	ck_assert_int_eq(object_open(pf.pool, made, &o, NULL), -ENOENT);
	o = get_object(kept);
	expect_bytes(o, 0, "data", 4);
	object_close(o);
	ck_assert_uint_eq(object_count(), 1);
	pool_fixture_restart();
	ck_assert_uint_eq(object_count(), 1);
}
END_TEST

START_TEST(objects_are_made_and_deleted_with_their_rows)
{
	struct names_batch *b;
	uint64_t ids[5];
	struct object *o;

	pool_fixture_create();
	pool_fixture_open();
	b = names_batch_new(pf.pool);
	for (unsigned int i = 0; i < 5; i++) {
		ck_assert_int_eq(names_create_object(b, i % 2 ? OBJECT_FILE : OBJECT_DISK, &ids[i],
						     NULL),
				 0);
		ck_assert_int_eq(object_open(pf.pool, ids[i], &o, NULL), -ENOENT);
	}
	commit(b);
	for (unsigned int i = 0; i < 5; i++) {
		o = get_object(ids[i]);
		write_bytes(o, i, "x", 1);
		object_close(o);
	}
	b = names_batch_new(pf.pool);
	for (unsigned int i = 4; i > 0; i--) /* not in order */
		ck_assert_int_eq(names_delete_object(b, ids[i], NULL), 0);
	ck_assert_int_eq(names_delete_object(b, ids[0], NULL), -E2BIG);
	ck_assert_int_eq(names_delete_object(b, 99999, NULL), -E2BIG);
	commit(b);
	ck_assert_uint_eq(object_count(), 1);
	b = names_batch_new(pf.pool);
	ck_assert_int_eq(names_delete_object(b, ids[1], NULL), -ENOENT);
	names_batch_free(b);
	pool_fixture_restart();
	ck_assert_uint_eq(object_count(), 1);
	o = get_object(ids[0]);
	expect_bytes(o, 0, "x", 1);
	object_close(o);
}
END_TEST

START_TEST(of_two_batches_that_delete_the_same_object_one_fails_whole)
{
	struct names_batch *one, *two;
	struct object *o;
	uint64_t id;

	pool_fixture_create();
	pool_fixture_open();
	o = make_object(OBJECT_FILE);
	id = id_of(o);
	object_close(o);
	one = names_batch_new(pf.pool);
	two = names_batch_new(pf.pool);
	ck_assert_int_eq(names_delete_object(one, id, NULL), 0);
	ck_assert_int_eq(names_delete_object(two, id, NULL), 0);
	put_u64(two, "two", 2);
	commit(one);
	ck_assert_int_eq(names_commit(two, NULL), -ENOENT);
	names_batch_free(two);
	ck_assert_uint_eq(get_u64("two"), UINT64_MAX);
}
END_TEST

START_TEST(keys_may_be_long_and_hold_any_byte_but_not_too_long)
{
	uint8_t key[NAMES_KEY_BYTES_MAX + 1];
	struct names_batch *b;
	struct buf out;

	for (size_t i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)(i * 7 + 250);
	pool_fixture_create();
	pool_fixture_open();
	b = names_batch_new(pf.pool);
	ck_assert_int_eq(names_put(b, key, sizeof(key), "v", 1), -ENAMETOOLONG);
	ck_assert_int_eq(names_delete(b, key, sizeof(key)), -ENAMETOOLONG);
	ck_assert_int_eq(names_put(b, key, sizeof(key) - 1, "", 0), 0);
	ck_assert_int_eq(names_put(b, "", 0, "v", 1), 0);
	commit(b);
	buf_init(&out, 64);
	ck_assert_int_eq(names_get(pf.pool, key, sizeof(key) - 1, &out, NULL), 0);
	ck_assert_uint_eq(out.len_bytes, 0);
	ck_assert_int_eq(names_get(pf.pool, "", 0, &out, NULL), 0);
	ck_assert_uint_eq(out.len_bytes, 1);
	ck_assert_int_eq(names_get(pf.pool, key, sizeof(key), &out, NULL), -ENAMETOOLONG);
	buf_done(&out);
}
END_TEST

struct seen_rows {
	unsigned int count, stop_at;
	uint8_t last[8];
};

static int see_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		   size_t value_bytes)
{
	struct seen_rows *s = arg;

	ck_assert_uint_eq(key_bytes, 2);
	ck_assert_uint_eq(value_bytes, 1);
	ck_assert_uint_eq(value[0], key[1]);
	if (s->count)
		ck_assert_int_gt(memcmp(key, s->last, 2), 0);
	memcpy(s->last, key, 2);
	return ++s->count == s->stop_at ? 17 : 0;
}

START_TEST(a_walk_gives_a_range_of_rows_in_order)
{
	struct names_batch *b;
	struct seen_rows all = { 0 }, some = { .stop_at = 3 };

	pool_fixture_create();
	pool_fixture_open();
	b = names_batch_new(pf.pool);
	for (unsigned int i = 256; i-- > 0;) {
		uint8_t key[2] = { (uint8_t)(i % 3), (uint8_t)i };

		ck_assert_int_eq(names_put(b, key, 2, &key[1], 1), 0);
	}
	commit(b);
	ck_assert_int_eq(names_iterate(pf.pool, "\x01", 1, "\x02", 1, see_row, &all, NULL), 0);
	ck_assert_uint_eq(all.count, 85);
	ck_assert_int_eq(names_iterate(pf.pool, "", 0, "\xff", 1, see_row, &some, NULL), 17);
	ck_assert_uint_eq(some.count, 3);
	all = (struct seen_rows){ 0 };
	ck_assert_int_eq(names_iterate(pf.pool, "\x01\x04", 2, "\x01\x0a", 2, see_row, &all, NULL),
			 0);
	ck_assert_uint_eq(all.count, 2); /* 4 and 7 */
}
END_TEST

/* --- kills -------------------------------------------------------------------------------------- */

static void create_pool(UNUSED int to_parent, UNUSED void *arg)
{
	pool_fixture_create();
}

#define FEWEST_ROUNDS 7u /* before a kill */

/* Round 0: whenever the others are killed there is a round to find. */
static void first_batch(UNUSED int to_parent, UNUSED void *arg)
{
	struct names_batch *b;
	uint64_t id;

	pool_fixture_create();
	pool_fixture_open();
	b = names_batch_new(pf.pool);
	ck_assert_int_eq(names_create_object(b, OBJECT_DISK, &id, NULL), 0);
	put_u64(b, "one", 0);
	put_u64(b, "two", 0);
	put_u64(b, "object", id);
	commit(b);
	pool_fixture_close();
}

/* Each batch moves two rows on, makes an object and deletes the one before. */
static void batches_for_ever(int to_parent, UNUSED void *arg)
{
	uint64_t before, round;

	pool_fixture_open();
	round = get_u64("one");
	before = get_u64("object");
	for (unsigned int done = 0;; done++) {
		struct names_batch *b = names_batch_new(pf.pool);
		uint64_t id;

		round++;
		ck_assert_int_eq(names_create_object(b, round % 2 ? OBJECT_FILE : OBJECT_DISK, &id,
						     NULL),
				 0);
		put_u64(b, "one", round);
		put_u64(b, "two", round);
		put_u64(b, "object", id);
		ck_assert_int_eq(names_delete_object(b, before, NULL), 0);
		world->started = round;
		commit(b);
		world->acked = round;
		before = id;
		if (done == FEWEST_ROUNDS)
			ck_assert_int_eq(write(to_parent, "", 1), 1);
	}
}

static void verify_batches(UNUSED int to_parent, UNUSED void *arg)
{
	struct object *o;
	uint64_t one;

	pool_fixture_open();
	one = get_u64("one");
	ck_assert_uint_ge(one, world->acked);
	ck_assert_uint_le(one, world->started);
	ck_assert_uint_eq(get_u64("two"), one);
	ck_assert_uint_eq(object_count(), 1);
	o = get_object(get_u64("object"));
	object_close(o);
	pool_fixture_close();
}

START_TEST(a_batch_is_whole_or_absent_after_a_kill)
{
	struct rng r = { 8 };

	in_child(first_batch, NULL);
	for (unsigned int i = 0; i < 8; i++) {
		struct child c;
		char rounds_done;

		child_start(&c, batches_for_ever, NULL);
		ck_assert_int_eq(read(c.from, &rounds_done, 1), 1);
		sleep_ns((2 + rng_below(&r, 20)) * MS_NS);
		child_kill(&c);
		(void)close(c.from);
		in_child(verify_batches, NULL);
	}
	printf("8 kills, %" PRIu64 " batches\n", world->acked);
	ck_assert_uint_gt(world->acked, UINT64_C(8) * FEWEST_ROUNDS);
}
END_TEST

/* --- publishing --------------------------------------------------------------------------------- */

static void write_and_publish(UNUSED int to_parent, void *publish)
{
	uint8_t *mem = pattern_mem(300 * KIB + 5, 3);
	struct names_batch *b;
	struct object *o;

	pool_fixture_create();
	pool_fixture_open_quiet();
	o = make_object(OBJECT_FILE);
	world->id = id_of(o);
	ck_assert_int_eq(pool_sync_names(pf.pool, NULL), 0);
	write_bytes(o, 0, mem, 300 * KIB + 5);
	b = names_batch_new(pf.pool);
	put_u64(b, "name", world->id);
	if (publish)
		ck_assert_int_eq(names_publish_object(b, world->id, NULL), 0);
	commit(b);
	ck_assert_int_eq(pool_sync_names(pf.pool, NULL), 0);
	free(mem);
}

START_TEST(a_published_name_never_shows_without_its_data)
{
	uint8_t *mem = pattern_mem(300 * KIB + 5, 3);
	struct object *o;

	in_child_killed(write_and_publish, pf.dir);
	pretend_reboot();
	pool_fixture_open();
	ck_assert_uint_eq(get_u64("name"), world->id);
	o = get_object(world->id);
	ck_assert_uint_eq(size_of(o), 300 * KIB + 5);
	expect_bytes(o, 0, mem, 300 * KIB + 5);
	object_close(o);
	free(mem);
}
END_TEST

/* That the test above can fail: without publishing the data is only in the ring. */
START_TEST(without_publishing_the_data_may_be_lost_by_a_power_cut)
{
	struct object *o;

	in_child_killed(write_and_publish, NULL);
	pretend_reboot();
	pool_fixture_open();
	o = get_object(world->id);
	ck_assert_uint_lt(size_of(o), 300 * KIB + 5);
	object_close(o);
}
END_TEST

static void take_numbers(UNUSED int to_parent, UNUSED void *arg)
{
	pool_fixture_open();
	for (unsigned int i = 0; i < 5000; i++) {
		uint64_t n;

		ck_assert_int_eq(names_new_number(pf.pool, &n, NULL), 0);
		ck_assert_uint_gt(n, world->id);
		world->id = n;
	}
}

START_TEST(numbers_are_never_given_out_twice)
{
	in_child(create_pool, NULL);
	for (unsigned int i = 0; i < 4; i++)
		in_child_killed(take_numbers, NULL);
	ck_assert_uint_ge(world->id, 20000);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_names");
	TCase *t = tcase_create("names");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_test(t, rows_are_put_replaced_and_deleted);
	tcase_add_test(t, a_batch_that_is_not_committed_leaves_nothing);
	tcase_add_test(t, objects_are_made_and_deleted_with_their_rows);
	tcase_add_test(t, of_two_batches_that_delete_the_same_object_one_fails_whole);
	tcase_add_test(t, keys_may_be_long_and_hold_any_byte_but_not_too_long);
	tcase_add_test(t, a_walk_gives_a_range_of_rows_in_order);
	tcase_add_test(t, a_batch_is_whole_or_absent_after_a_kill);
	tcase_add_test(t, a_published_name_never_shows_without_its_data);
	tcase_add_test(t, without_publishing_the_data_may_be_lost_by_a_power_cut);
	tcase_add_test(t, numbers_are_never_given_out_twice);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
