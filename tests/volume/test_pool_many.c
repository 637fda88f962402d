/* Many threads on one object, many objects in one pool, and objects that go while they are used. */
#include "support_pool.h"

#include <stdlib.h>
#include <string.h>

static void begin(void)
{
	pool_fixture_create();
	pool_fixture_open();
}

#define THREADS	    6u
#define SECTORS	    960u /* of the object; thread t writes those with number % THREADS == t */
#define GENERATIONS TEST_SCALE(40u)

struct sharing {
	struct object *object;
	uint64_t acked[SECTORS];  /* atomic */
	uint64_t issued[SECTORS]; /* atomic */
	uint64_t wrong;		  /* atomic: sectors that readers found impossible */
	bool stop;		  /* atomic */
};

struct sharer {
	struct sharing *s;
	unsigned int number;
	struct thread *thread;
};

static void write_sectors(void *arg)
{
	struct sharer *me = arg;
	struct sharing *s = me->s;
	uint8_t sector[SECTOR_BYTES];
	struct rng r = { me->number };

	for (uint64_t g = 1; g <= GENERATIONS; g++)
		for (uint64_t i = me->number; i < SECTORS; i += THREADS) {
			if (g < GENERATIONS && rng_below(&r, 4) == 0)
				continue;
			__atomic_store_n(&s->issued[i], g, __ATOMIC_SEQ_CST);
			sector_fill(sector, 1, i, g);
			write_bytes(s->object, i * SECTOR_BYTES, sector, SECTOR_BYTES);
			__atomic_store_n(&s->acked[i], g, __ATOMIC_SEQ_CST);
		}
}

static void read_sectors(void *arg)
{
	struct sharer *me = arg;
	struct sharing *s = me->s;
	struct rng r = { me->number + 1000 };
	uint8_t *mem = aligned_mem(16 * SECTOR_BYTES);

	while (!__atomic_load_n(&s->stop, __ATOMIC_SEQ_CST)) {
		uint64_t first = rng_below(&r, SECTORS), n = 1 + rng_below(&r, 16), low[16];

		n = min_u64(n, SECTORS - first);
		for (uint64_t i = 0; i < n; i++)
			low[i] = __atomic_load_n(&s->acked[first + i], __ATOMIC_SEQ_CST);
		ck_assert_int_eq(object_read(s->object, first * SECTOR_BYTES, mem, n * SECTOR_BYTES,
					     NULL),
				 (ssize_t)(n * SECTOR_BYTES));
		for (uint64_t i = 0; i < n; i++) {
			uint64_t g = sector_generation(mem + i * SECTOR_BYTES, 1, first + i);
			uint64_t high = __atomic_load_n(&s->issued[first + i], __ATOMIC_SEQ_CST);

			if (g < low[i] || g > high)
				__atomic_fetch_add(&s->wrong, 1, __ATOMIC_SEQ_CST);
		}
	}
	free(mem);
}

static void checkpoint_often(void *arg)
{
	struct sharer *me = arg;

	while (!__atomic_load_n(&me->s->stop, __ATOMIC_SEQ_CST)) {
		ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
		sync_object(me->s->object);
	}
}

START_TEST(threads_that_write_parts_of_the_same_clusters_lose_nothing)
{
	static struct sharing s;
	struct sharer writers[THREADS], readers[2], checker;

	memset(&s, 0, sizeof(s));
	s.object = make_object(OBJECT_DISK);
	ck_assert_int_eq(object_truncate(s.object, SECTORS * SECTOR_BYTES, NULL), 0);
	for (unsigned int i = 0; i < THREADS; i++) {
		writers[i] = (struct sharer){ .s = &s, .number = i };
		ck_assert_int_eq(thread_start("writer", write_sectors, &writers[i],
					      &writers[i].thread),
				 0);
	}
	for (unsigned int i = 0; i < 2; i++) {
		readers[i] = (struct sharer){ .s = &s, .number = i };
		ck_assert_int_eq(thread_start("reader", read_sectors, &readers[i],
					      &readers[i].thread),
				 0);
	}
	checker = (struct sharer){ .s = &s };
	ck_assert_int_eq(thread_start("checker", checkpoint_often, &checker, &checker.thread), 0);
	for (unsigned int i = 0; i < THREADS; i++)
		thread_join(writers[i].thread);
	__atomic_store_n(&s.stop, true, __ATOMIC_SEQ_CST);
	for (unsigned int i = 0; i < 2; i++)
		thread_join(readers[i].thread);
	thread_join(checker.thread);
	ck_assert_uint_eq(s.wrong, 0);
	for (uint64_t i = 0; i < SECTORS; i++) {
		uint8_t sector[SECTOR_BYTES];

		sector_fill(sector, 1, i, GENERATIONS);
		expect_bytes(s.object, i * SECTOR_BYTES, sector, SECTOR_BYTES);
	}
	object_close(s.object);
}
END_TEST

struct racer {
	struct object *object;
	struct thread *thread;
	uint64_t offset;
};

static void zero_to_the_end(void *arg)
{
	struct racer *r = arg;

	ck_assert_int_eq(object_zero(r->object, 0, 5000, false, NULL), 0);
}

static void append(void *arg)
{
	struct racer *r = arg;

	write_bytes(r->object, r->offset, "appended", 8);
}

START_TEST(zeroing_up_to_the_end_never_takes_an_append_with_it)
{
	uint8_t *mem = pattern_mem(5000, 1);

	for (unsigned int i = 0; i < TEST_SCALE(300u); i++) {
		struct object *o = make_object(OBJECT_FILE);
		struct racer a = { .object = o }, b = { .object = o, .offset = 5000 };

		write_bytes(o, 0, mem, 5000);
		ck_assert_int_eq(thread_start("zero", zero_to_the_end, &a, &a.thread), 0);
		ck_assert_int_eq(thread_start("append", append, &b, &b.thread), 0);
		thread_join(a.thread);
		thread_join(b.thread);
		expect_zeros(o, 0, 5000);
		expect_bytes(o, 5000, "appended", 8);
		object_close(o);
	}
	free(mem);
}
END_TEST

#define DISKS TEST_SCALE(1000u)

START_TEST(a_thousand_disks_live_in_one_pool)
{
	static uint64_t ids[DISKS];
	uint8_t *mem = aligned_mem(8192);
	uint64_t *listed;
	size_t count;

	for (unsigned int i = 0; i < DISKS; i++) {
		struct object *o = make_object(OBJECT_DISK);

		ids[i] = id_of(o);
		pattern_fill(mem, 8192, ids[i]);
		write_bytes(o, ids[i] * 4096 + i % 3, mem, 8192);
		object_close(o);
	}
	for (unsigned int pass = 0; pass < 2; pass++) {
		ck_assert_int_eq(pool_list_objects(pf.pool, &listed, &count, NULL), 0);
		ck_assert_uint_eq(count, DISKS);
		for (unsigned int i = 0; i < DISKS; i++) {
			struct object *o = get_object(ids[i]);

			ck_assert_uint_eq(listed[i], ids[i]);
			pattern_fill(mem, 8192, ids[i]);
			expect_bytes(o, ids[i] * 4096 + i % 3, mem, 8192);
			object_close(o);
		}
		free(listed);
		if (pass == 0)
			pool_fixture_restart();
	}
	free(mem);
}
END_TEST

static void begin_with_small_scos(void)
{
	pf.options.sco_bytes = 32 * 4096;
	pool_fixture_create();
	pool_fixture_open();
}

#define FILES TEST_SCALE(300u)

START_TEST(files_share_one_stream_and_keep_their_bytes_apart)
{
	static uint64_t ids[FILES];
	struct rng r = { 4 };
	uint8_t *mem = aligned_mem(20000);
	struct object_stat st;
	size_t count;
	uint64_t *listed;

	for (unsigned int i = 0; i < FILES; i++) {
		struct object *o = make_object(OBJECT_FILE);

		ids[i] = id_of(o);
		object_stat(o, &st);
		ck_assert_uint_eq(st.stream, STREAM_SHARED);
		object_close(o);
	}
	for (unsigned int round = 0; round < 4; round++)
		for (unsigned int i = 0; i < FILES; i++) {
			struct object *o = get_object(ids[rng_below(&r, FILES)]);
			uint64_t id = id_of(o), len = 1 + id % 19000;

			pattern_fill(mem, len, id);
			write_bytes(o, 0, mem, len);
			ck_assert_int_eq(object_truncate(o, len, NULL), 0);
			object_close(o);
		}
	for (unsigned int i = 0; i < FILES; i += 3)
		ck_assert_int_eq(object_delete(pf.pool, ids[i], NULL), 0);
	pool_fixture_restart();
	ck_assert_int_eq(pool_list_objects(pf.pool, &listed, &count, NULL), 0);
	ck_assert_uint_eq(count, FILES - FILES / 3);
	free(listed);
	for (unsigned int i = 0; i < FILES; i++) {
		struct object *o;

		if (i % 3 == 0) {
			ck_assert_int_eq(object_open(pf.pool, ids[i], &o, NULL), -ENOENT);
			continue;
		}
		o = get_object(ids[i]);
		if (size_of(o)) {
			ck_assert_uint_eq(size_of(o), 1 + ids[i] % 19000);
			pattern_fill(mem, size_of(o), ids[i]);
			expect_bytes(o, 0, mem, size_of(o));
		}
		object_close(o);
	}
	free(mem);
}
END_TEST

START_TEST(a_deleted_object_is_gone_for_those_who_hold_it_too)
{
	struct object *o = make_object(OBJECT_DISK), *again;
	uint64_t id = id_of(o), at;
	uint8_t *mem = pattern_mem(65536, 1);

	write_bytes(o, 0, mem, 65536);
	ck_assert_int_eq(object_delete(pf.pool, id, NULL), 0);
	ck_assert_int_eq(object_open(pf.pool, id, &again, NULL), -ENOENT);
	ck_assert_int_eq(object_delete(pf.pool, id, NULL), -ENOENT);
	ck_assert_int_eq(object_read(o, 0, mem, 4096, NULL), -ESTALE);
	ck_assert_int_eq(object_write(o, 0, mem, 4096, NULL), -ESTALE);
	ck_assert_int_eq(object_write(o, 1, mem, 10, NULL), -ESTALE);
	ck_assert_int_eq(object_write(o, 0, mem, 65536, NULL), -ESTALE);
	ck_assert_int_eq(object_truncate(o, 10, NULL), -ESTALE);
	ck_assert_int_eq(object_truncate(o, MIB, NULL), -ESTALE);
	ck_assert_int_eq(object_zero(o, 0, 8192, false, NULL), -ESTALE);
	ck_assert_int_eq(object_zero(o, 5, 10, false, NULL), -ESTALE);
	ck_assert_int_eq(object_seek(o, 0, true, &at, NULL), -ESTALE);
	ck_assert_int_eq(object_set_class(o, OBJECT_FILE, NULL), -ESTALE);
	object_close(o);
	free(mem);
}
END_TEST

START_TEST(a_write_that_comes_to_nothing_keeps_no_frame)
{
	struct object *o = make_object(OBJECT_DISK);
	uint8_t *mem = pattern_mem(8192, 1);

	write_bytes(o, 0, mem, 8192);
	sync_object(o);
	ck_assert_int_eq(object_delete(pf.pool, id_of(o), NULL), 0);
	ck_assert_int_eq(object_write(o, 0, mem, 8192, NULL), -ESTALE);
	object_close(o);
	pool_fixture_close(); /* asserts that all of the ring is free */
	free(mem);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_many");
	TCase *t = tcase_create("threads"), *many = tcase_create("many");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_test(t, threads_that_write_parts_of_the_same_clusters_lose_nothing);
	tcase_add_test(t, zeroing_up_to_the_end_never_takes_an_append_with_it);
	tcase_add_test(t, a_deleted_object_is_gone_for_those_who_hold_it_too);
	tcase_add_test(t, a_write_that_comes_to_nothing_keeps_no_frame);
	suite_add_tcase(s, t);
	pool_fixture_add(many, begin_with_small_scos);
	tcase_add_test(many, a_thousand_disks_live_in_one_pool);
	tcase_add_test(many, files_share_one_stream_and_keep_their_bytes_apart);
	suite_add_tcase(s, many);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
