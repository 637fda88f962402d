/* Changing the class of an object moves its later writes to another stream and nothing else. */
#include "support_pool.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define OBJECT_BYTES (3 * MIB)

static struct world {
	uint64_t id;
} * world;

static void begin(void)
{
	world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	ck_assert_ptr_ne(world, MAP_FAILED);
}

static void open_fresh(void)
{
	pool_fixture_create();
	pool_fixture_open();
}

static void change_to(struct object *o, enum object_class class)
{
	struct err e = { 0 };
	struct object_stat st;

	ck_assert_msg(object_set_class(o, class, &e) == 0, "%s", e.message);
	object_stat(o, &st);
	ck_assert_int_eq(st.class, class);
}

static uint32_t stream_of_object(struct object *o)
{
	struct object_stat st;

	object_stat(o, &st);
	return st.stream;
}

static uint64_t stream_sco_bytes(uint32_t stream)
{
	char path[PATH_BYTES];
	uint64_t bytes = 0;

	ck_assert_int_eq(pool_sync_backend(pf.pool, NULL), 0); /* seals all */
	for (size_t i = 0; i < sco_count(); i++) {
		const char *name = strrchr(sco_path(path, i), '/') + 1;

		if (strtoul(name, NULL, 16) == stream)
			bytes += file_size(path);
	}
	return bytes;
}

START_TEST(the_data_stays_and_later_writes_go_to_the_other_stream)
{
	uint8_t *mem = pattern_mem(OBJECT_BYTES, 1), *more = pattern_mem(MIB, 2);
	uint64_t shared_before;
	struct object *o;
	uint32_t stream;

	open_fresh();
	o = make_object(OBJECT_FILE);
	write_bytes(o, 0, mem, OBJECT_BYTES);
	ck_assert_uint_eq(stream_of_object(o), STREAM_SHARED);
	shared_before = stream_sco_bytes(STREAM_SHARED);
	ck_assert_uint_ge(shared_before, OBJECT_BYTES);

	change_to(o, OBJECT_DISK);
	stream = stream_of_object(o);
	ck_assert_uint_ge(stream, STREAM_FIRST_FREE);
	ck_assert_uint_eq(size_of(o), OBJECT_BYTES);
	expect_bytes(o, 0, mem, OBJECT_BYTES);
	ck_assert_uint_eq(allocated_of(o), OBJECT_BYTES);

	write_bytes(o, MIB / 2, more, MIB);
	memcpy(mem + MIB / 2, more, MIB);
	expect_bytes(o, 0, mem, OBJECT_BYTES);
	ck_assert_uint_eq(allocated_of(o), OBJECT_BYTES);
	ck_assert_uint_le(stream_sco_bytes(STREAM_SHARED), shared_before);
	ck_assert_uint_ge(stream_sco_bytes(stream), MIB);
	object_close(o);
	free(mem);
	free(more);
}
END_TEST

START_TEST(changing_to_the_same_class_does_nothing)
{
	struct object *o;
	uint32_t stream;

	open_fresh();
	o = make_object(OBJECT_DISK);
	stream = stream_of_object(o);
	change_to(o, OBJECT_DISK);
	ck_assert_uint_eq(stream_of_object(o), stream);
	object_close(o);
}
END_TEST

/* A model of what an object goes through, changing class now and then. */
static void random_steps(struct object *o, uint8_t *model, uint64_t *size, struct rng *r,
			 unsigned int steps)
{
	uint8_t *mem = aligned_mem(200000);

	for (unsigned int i = 0; i < steps; i++) {
		uint64_t at = rng_below(r, OBJECT_BYTES - 200000), len = 1 + rng_below(r, 200000);

		if (rng_below(r, 2))
			len = 1 + len % 9000;
		switch (rng_below(r, 5)) {
		case 0:
			ck_assert_int_eq(object_zero(o, at, len, false, NULL), 0);
			if (at < *size)
				memset(model + at, 0, min_u64(len, *size - at));
			break;
		case 1:
			ck_assert_int_eq(object_truncate(o, at, NULL), 0);
			if (at < *size)
				memset(model + at, 0, *size - at);
			*size = at;
			break;
		default:
			pattern_fill(mem, len, rng_next(r));
			write_bytes(o, at, mem, len);
			memcpy(model + at, mem, len);
			*size = max_u64(*size, at + len);
		}
	}
	free(mem);
}

static uint64_t model_allocated(const uint8_t *model)
{
	static const uint8_t zero[4096];
	uint64_t clusters = 0;

	for (uint64_t at = 0; at < OBJECT_BYTES; at += 4096)
		clusters += memcmp(model + at, zero, 4096) != 0;
	return clusters * 4096;
}

static void expect_model(struct object *o, const uint8_t *model, uint64_t size)
{
	ck_assert_uint_eq(size_of(o), size);
	if (size)
		expect_bytes(o, 0, model, size);
}

START_TEST(many_changes_with_all_kinds_of_writes_between_agree_with_an_array)
{
	uint8_t *model = calloc(1, OBJECT_BYTES);
	struct rng r = { 17 + (uint64_t)_i };
	uint64_t size = 0, id;
	struct object *o;

	open_fresh();
	o = make_object(OBJECT_DISK);
	id = id_of(o);
	for (unsigned int i = 0; i < 14; i++) {
		random_steps(o, model, &size, &r, 12);
		change_to(o, i % 2 ? OBJECT_DISK : OBJECT_FILE);
		expect_model(o, model, size);
		random_steps(o, model, &size, &r, 5);
		expect_model(o, model, size);
		ck_assert_uint_eq(allocated_of(o), model_allocated(model));
		if (i % 5 == 4) {
			object_close(o);
			pool_fixture_restart();
			o = get_object(id);
			expect_model(o, model, size);
			ck_assert_uint_eq(allocated_of(o), model_allocated(model));
		}
	}
	object_close(o);
	free(model);
}
END_TEST

/* The cut of what an older layer holds must not be forgotten by a checkpoint. */
START_TEST(a_cut_behind_a_change_is_final)
{
	uint8_t *mem = pattern_mem(OBJECT_BYTES, 1);
	struct object *o;
	uint64_t id;

	open_fresh();
	o = make_object(OBJECT_DISK);
	id = id_of(o);
	write_bytes(o, 0, mem, OBJECT_BYTES);
	change_to(o, OBJECT_FILE);
	ck_assert_int_eq(object_truncate(o, 5000, NULL), 0);
	ck_assert_int_eq(object_truncate(o, OBJECT_BYTES, NULL), 0);
	for (unsigned int i = 0; i < 3; i++) {
		expect_bytes(o, 0, mem, 5000);
		expect_zeros(o, 5000, OBJECT_BYTES - 5000);
		object_close(o);
		pool_fixture_restart();
		o = get_object(id);
	}
	object_close(o);
	free(mem);
}
END_TEST

START_TEST(zeros_behind_a_change_are_final)
{
	uint8_t *mem = pattern_mem(OBJECT_BYTES, 1);
	struct object *o;
	uint64_t id;

	open_fresh();
	o = make_object(OBJECT_FILE);
	id = id_of(o);
	write_bytes(o, 0, mem, OBJECT_BYTES);
	change_to(o, OBJECT_DISK);
	ck_assert_int_eq(object_zero(o, 5000, 5 * MIB / 2, false, NULL), 0);
	memset(mem + 5000, 0, 5 * MIB / 2);
	for (unsigned int i = 0; i < 3; i++) {
		expect_model(o, mem, OBJECT_BYTES);
		ck_assert_uint_eq(allocated_of(o), model_allocated(mem));
		object_close(o);
		pool_fixture_restart();
		o = get_object(id);
	}
	object_close(o);
	free(mem);
}
END_TEST

START_TEST(seeking_sees_through_to_what_was_written_before)
{
	uint8_t *mem = pattern_mem(8192, 1);
	struct object *o;
	uint64_t at;

	open_fresh();
	o = make_object(OBJECT_FILE);
	write_bytes(o, MIB, mem, 8192);
	ck_assert_int_eq(object_truncate(o, OBJECT_BYTES, NULL), 0);
	change_to(o, OBJECT_DISK);
	write_bytes(o, 2 * MIB, mem, 8192);
	ck_assert_int_eq(object_zero(o, MIB, 4096, false, NULL), 0);
	ck_assert_int_eq(object_seek(o, 0, true, &at, NULL), 0);
	ck_assert_uint_eq(at, MIB + 4096);
	ck_assert_int_eq(object_seek(o, at, false, &at, NULL), 0);
	ck_assert_uint_eq(at, MIB + 8192);
	ck_assert_int_eq(object_seek(o, at, true, &at, NULL), 0);
	ck_assert_uint_eq(at, 2 * MIB);
	object_close(o);
	free(mem);
}
END_TEST

/* --- kills -------------------------------------------------------------------------------------- */

static void change_and_die(UNUSED int to_parent, void *to_disk)
{
	uint8_t *mem = pattern_mem(OBJECT_BYTES, 1), *more = pattern_mem(MIB, 2);
	struct object *o;

	open_fresh();
	o = make_object(to_disk ? OBJECT_FILE : OBJECT_DISK);
	world->id = id_of(o);
	write_bytes(o, 0, mem, OBJECT_BYTES);
	change_to(o, to_disk ? OBJECT_DISK : OBJECT_FILE);
	write_bytes(o, 5000, more, 100);
	write_bytes(o, MIB, more, MIB);
	ck_assert_int_eq(object_truncate(o, OBJECT_BYTES - 1000, NULL), 0);
	free(mem);
	free(more);
}

START_TEST(a_change_and_what_was_written_behind_it_survive_a_kill)
{
	uint8_t *mem = pattern_mem(OBJECT_BYTES, 1), *more = pattern_mem(MIB, 2);
	struct object_stat st;
	struct object *o;

	in_child_killed(change_and_die, _i ? pf.dir : NULL);
	memcpy(mem + 5000, more, 100);
	memcpy(mem + MIB, more, MIB);
	for (unsigned int i = 0; i < 2; i++) {
		if (i == 0)
			pool_fixture_open();
		else
			pool_fixture_restart();
		o = get_object(world->id);
		object_stat(o, &st);
		ck_assert_int_eq(st.class, _i ? OBJECT_DISK : OBJECT_FILE);
		expect_model(o, mem, OBJECT_BYTES - 1000);
		ck_assert_uint_eq(allocated_of(o), OBJECT_BYTES);
		object_close(o);
	}
	free(mem);
	free(more);
}
END_TEST

static void change_often(int to_parent, UNUSED void *arg)
{
	struct object *o;

	(void)to_parent;
	pool_fixture_open();
	o = get_object(world->id);
	for (;;) {
		struct object_stat st;

		object_stat(o, &st);
		change_to(o, st.class == OBJECT_DISK ? OBJECT_FILE : OBJECT_DISK);
	}
}

static void make_for_change(UNUSED int to_parent, UNUSED void *arg)
{
	uint8_t *mem = pattern_mem(OBJECT_BYTES, 1);
	struct object *o;

	open_fresh();
	o = make_object(OBJECT_DISK);
	world->id = id_of(o);
	write_bytes(o, 0, mem, OBJECT_BYTES);
	object_close(o);
	pool_fixture_close();
	free(mem);
}

static void verify_changed(UNUSED int to_parent, UNUSED void *arg)
{
	uint8_t *mem = pattern_mem(OBJECT_BYTES, 1);
	struct object *o;

	pool_fixture_open();
	o = get_object(world->id);
	expect_model(o, mem, OBJECT_BYTES);
	ck_assert_uint_eq(allocated_of(o), OBJECT_BYTES);
	object_close(o);
	pool_fixture_close();
	free(mem);
}

START_TEST(a_kill_in_the_middle_of_changes_leaves_the_data)
{
	struct rng r = { 3 };

	in_child(make_for_change, NULL);
	for (unsigned int i = 0; i < 6; i++) {
		struct child c;

		child_start(&c, change_often, NULL);
		sleep_ns((60 + rng_below(&r, 80)) * MS_NS);
		child_kill(&c);
		in_child(verify_changed, NULL);
	}
}
END_TEST

/* --- while others write ------------------------------------------------------------------------- */

#define WRITERS 3u
#define SECTORS 1500u

struct writer {
	struct object *object;
	struct thread *thread;
	unsigned int number;
};

static void write_own_sectors(void *arg)
{
	struct writer *w = arg;
	uint8_t sector[SECTOR_BYTES];

	for (uint64_t g = 1; g <= 12; g++)
		for (uint64_t i = w->number; i < SECTORS; i += WRITERS) {
			sector_fill(sector, 1, i, g);
			write_bytes(w->object, i * SECTOR_BYTES, sector, SECTOR_BYTES);
		}
}

START_TEST(writers_notice_nothing_of_a_change)
{
	struct writer writers[WRITERS];
	struct object *o;

	open_fresh();
	o = make_object(OBJECT_DISK);
	for (unsigned int i = 0; i < WRITERS; i++) {
		writers[i] = (struct writer){ .object = o, .number = i };
		ck_assert_int_eq(thread_start("writer", write_own_sectors, &writers[i],
					      &writers[i].thread),
				 0);
	}
	for (unsigned int i = 0; i < 12; i++)
		change_to(o, i % 2 ? OBJECT_DISK : OBJECT_FILE);
	for (unsigned int i = 0; i < WRITERS; i++)
		thread_join(writers[i].thread);
	for (uint64_t i = 0; i < SECTORS; i++) {
		uint8_t sector[SECTOR_BYTES];

		sector_fill(sector, 1, i, 12);
		expect_bytes(o, i * SECTOR_BYTES, sector, SECTOR_BYTES);
	}
	object_close(o);
}
END_TEST

START_TEST(deleting_a_changed_object_frees_what_all_its_streams_hold)
{
	uint8_t *mem = pattern_mem(OBJECT_BYTES, 1);
	struct pool_status st;
	struct object *o;
	uint64_t id;

	open_fresh();
	o = make_object(OBJECT_DISK);
	id = id_of(o);
	for (unsigned int i = 0; i < 4; i++) {
		write_bytes(o, i * (MIB / 2), mem, MIB);
		change_to(o, i % 2 ? OBJECT_DISK : OBJECT_FILE);
	}
	object_close(o);
	if (_i)
		pool_fixture_restart();
	ck_assert_int_eq(object_delete(pf.pool, id, NULL), 0);
	for (unsigned int i = 0; i < 3; i++)
		ck_assert_int_eq(pool_sync_backend(pf.pool, NULL), 0);
	pool_status(pf.pool, &st);
	ck_assert_uint_eq(st.live_bytes, 0);
	ck_assert_uint_eq(sco_count(), 0);
	free(mem);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_class");
	TCase *t = tcase_create("class");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_test(t, the_data_stays_and_later_writes_go_to_the_other_stream);
	tcase_add_test(t, changing_to_the_same_class_does_nothing);
	tcase_add_loop_test(t, many_changes_with_all_kinds_of_writes_between_agree_with_an_array, 0,
			    2);
	tcase_add_test(t, a_cut_behind_a_change_is_final);
	tcase_add_test(t, zeros_behind_a_change_are_final);
	tcase_add_test(t, seeking_sees_through_to_what_was_written_before);
	tcase_add_loop_test(t, a_change_and_what_was_written_behind_it_survive_a_kill, 0, 2);
	tcase_add_test(t, a_kill_in_the_middle_of_changes_leaves_the_data);
	tcase_add_test(t, writers_notice_nothing_of_a_change);
	tcase_add_loop_test(t, deleting_a_changed_object_frees_what_all_its_streams_hold, 0, 2);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
