/* The capacity: what is new is refused where it ends, at once; all else goes on, and room comes back. */
#include "support_pool.h"

#include "common/thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CAPACITY_BYTES (8 * MIB)
#define PIECE_BYTES    (64 * KIB)

static void begin(void)
{
	pf.options.capacity_bytes = CAPACITY_BYTES;
	pf.options.dirty_limit_bytes = UINT64_C(1) << 40;
}

static void open_fresh(void)
{
	pool_fixture_create();
	pool_fixture_open_quiet();
}

static struct pool_status status(void)
{
	struct pool_status st;

	pool_status(pf.pool, &st);
	return st;
}

static void checkpoint(void)
{
	ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
}

/* Pieces from offset on until one is refused; how many bytes were taken. */
static uint64_t fill(struct object *o, uint64_t offset, uint64_t limit_bytes)
{
	uint8_t *mem = pattern_mem(PIECE_BYTES, offset + 1);
	struct err e = { 0 };
	uint64_t done = 0;
	int r = 0;

	while (done < limit_bytes) {
		r = object_write(o, offset + done, mem, PIECE_BYTES, &e);
		if (r < 0)
			break;
		done += PIECE_BYTES;
	}
	if (r < 0) {
		ck_assert_int_eq(r, -ENOSPC);
		ck_assert_ptr_nonnull(strstr(e.message, "capacity"));
	}
	free(mem);
	return done;
}

/* The same where checkpoints may run meanwhile, which may count a write twice until the next one. */
static uint64_t fill_up(struct object *o, uint64_t offset)
{
	uint64_t done = 0, more;

	do {
		checkpoint();
		more = fill(o, offset + done, CAPACITY_BYTES);
		done += more;
	} while (more);
	return done;
}

START_TEST(new_data_is_refused_where_the_capacity_ends)
{
	struct object *o;

	open_fresh();
	o = make_object(OBJECT_DISK);
	ck_assert_uint_eq(fill(o, 0, 2 * CAPACITY_BYTES), CAPACITY_BYTES);
	ck_assert_uint_eq(status().used_bytes, CAPACITY_BYTES);
	ck_assert_int_eq(status().state, POOL_DEGRADED);
	/* The same once it is counted, and for one byte. */
	checkpoint();
	ck_assert_uint_eq(status().live_bytes, CAPACITY_BYTES);
	ck_assert_uint_eq(fill(o, 2 * CAPACITY_BYTES, PIECE_BYTES), 0);
	ck_assert_int_eq(object_write(o, CAPACITY_BYTES + 5, "x", 1, NULL), -ENOSPC);
	ck_assert_uint_eq(size_of(o), CAPACITY_BYTES);
	object_close(o);
}
END_TEST

START_TEST(the_bound_holds_after_a_restart)
{
	struct object *o;
	uint64_t id;

	open_fresh();
	o = make_object(OBJECT_DISK);
	id = id_of(o);
	ck_assert_uint_eq(fill(o, 0, CAPACITY_BYTES / 2), CAPACITY_BYTES / 2);
	object_close(o);
	pool_fixture_restart();
	o = get_object(id);
	ck_assert_uint_eq(fill_up(o, CAPACITY_BYTES / 2), CAPACITY_BYTES / 2);
	object_close(o);
}
END_TEST

START_TEST(overwriting_goes_on_in_a_full_pool)
{
	uint8_t *mem = pattern_mem(CAPACITY_BYTES, 99);
	struct object *o;

	open_fresh();
	o = make_object(OBJECT_DISK);
	ck_assert_uint_eq(fill(o, 0, 2 * CAPACITY_BYTES), CAPACITY_BYTES);
	for (unsigned int i = 0; i < 3; i++)
		ck_assert_uint_eq(fill(o, 0, CAPACITY_BYTES), CAPACITY_BYTES);
	for (uint64_t at = 0; at < CAPACITY_BYTES; at += MIB)
		write_bytes(o, at, mem + at, MIB);
	write_bytes(o, 4096 + 100, mem + 4096 + 100, 5000);
	expect_bytes(o, 0, mem, CAPACITY_BYTES);
	checkpoint();
	ck_assert_uint_eq(status().live_bytes, CAPACITY_BYTES);
	object_close(o);
	free(mem);
}
END_TEST

/* What was written again since the last checkpoint must not pass for new. */
START_TEST(overwriting_does_not_use_up_the_capacity)
{
	struct object *o;

	open_fresh();
	o = make_object(OBJECT_DISK);
	ck_assert_uint_eq(fill(o, 0, CAPACITY_BYTES / 2), CAPACITY_BYTES / 2);
	checkpoint();
	for (unsigned int i = 0; i < 10; i++)
		ck_assert_uint_eq(fill(o, 0, CAPACITY_BYTES / 2), CAPACITY_BYTES / 2);
	ck_assert_uint_eq(fill(o, CAPACITY_BYTES / 2, CAPACITY_BYTES / 4), CAPACITY_BYTES / 4);
	object_close(o);
}
END_TEST

START_TEST(zeros_need_no_room)
{
	uint8_t *zeros = calloc(1, MIB);
	struct object *o;

	open_fresh();
	o = make_object(OBJECT_DISK);
	ck_assert_uint_eq(fill(o, 0, 2 * CAPACITY_BYTES), CAPACITY_BYTES);
	write_bytes(o, 2 * CAPACITY_BYTES, zeros, MIB);
	ck_assert_int_eq(object_truncate(o, 16 * CAPACITY_BYTES, NULL), 0);
	ck_assert_int_eq(object_zero(o, 20 * CAPACITY_BYTES, MIB, true, NULL), 0);
	object_close(o);
	free(zeros);
}
END_TEST

START_TEST(what_is_freed_can_be_written_after_a_checkpoint)
{
	struct object *o, *other;
	uint64_t id;

	open_fresh();
	o = make_object(OBJECT_DISK);
	other = make_object(OBJECT_FILE);
	id = id_of(o);
	ck_assert_uint_eq(fill(other, 0, MIB), MIB);
	ck_assert_uint_eq(fill(o, 0, 2 * CAPACITY_BYTES), CAPACITY_BYTES - MIB);

	/* Edges in the middle of clusters: one of each keeps its cluster. */
	ck_assert_int_eq(object_zero(o, 100, 2 * PIECE_BYTES, false, NULL), 0);
	ck_assert_uint_eq(fill_up(other, MIB), PIECE_BYTES);

	ck_assert_int_eq(object_truncate(o, CAPACITY_BYTES - 2 * MIB, NULL), 0);
	ck_assert_uint_eq(fill_up(other, 2 * MIB), MIB);

	object_close(o);
	ck_assert_int_eq(object_delete(pf.pool, id, NULL), 0);
	checkpoint();
	ck_assert_int_eq(status().state, POOL_OK);
	(void)fill_up(other, 4 * MIB);
	ck_assert_uint_eq(status().live_bytes, CAPACITY_BYTES);
	object_close(other);
}
END_TEST

static bool is_taken(void *arg)
{
	uint8_t *mem = pattern_mem(4096, 5);
	int r = object_write(arg, 100 * MIB, mem, 4096, NULL);

	ck_assert_int_eq(r, r == 0 ? 0 : -ENOSPC);
	free(mem);
	return r == 0;
}

/* The next checkpoint is an hour away, but whoever is refused has one made. */
START_TEST(room_comes_back_without_being_asked_for)
{
	struct object *o, *other;
	uint64_t id;

	open_fresh();
	o = make_object(OBJECT_DISK);
	other = make_object(OBJECT_DISK);
	id = id_of(o);
	ck_assert_uint_eq(fill(o, 0, 2 * CAPACITY_BYTES), CAPACITY_BYTES);
	object_close(o);
	ck_assert_int_eq(object_delete(pf.pool, id, NULL), 0);
	wait_until(is_taken, other, 60, "room");
	object_close(other);
}
END_TEST

static void change_capacity(uint64_t bytes)
{
	pf.options.capacity_bytes = bytes;
	pool_change_options(pf.pool, &pf.options);
}

START_TEST(the_capacity_changes_in_an_open_pool)
{
	uint8_t *mem = pattern_mem(MIB, 8);
	struct object *o;

	open_fresh();
	o = make_object(OBJECT_DISK);
	ck_assert_uint_eq(fill_up(o, 0), CAPACITY_BYTES);
	change_capacity(CAPACITY_BYTES + MIB);
	ck_assert_int_eq(status().state, POOL_OK);
	ck_assert_uint_eq(fill_up(o, CAPACITY_BYTES), MIB);
	change_capacity(0);
	write_bytes(o, 2 * CAPACITY_BYTES, mem, MIB);
	ck_assert_uint_eq(status().capacity_bytes, 0);
	checkpoint();
	/* Below what is there: nothing is lost, and nothing new comes. */
	change_capacity(CAPACITY_BYTES / 2);
	ck_assert_uint_eq(status().used_bytes, CAPACITY_BYTES + 2 * MIB);
	ck_assert_int_eq(object_write(o, 4 * CAPACITY_BYTES, mem, 4096, NULL), -ENOSPC);
	write_bytes(o, MIB, mem, MIB);
	expect_bytes(o, 2 * CAPACITY_BYTES, mem, MIB);
	object_close(o);
	free(mem);
}
END_TEST

/* --- requests ----------------------------------------------------------------------------------- */

static void never_called(UNUSED struct volume_request *r)
{
	ck_abort_msg("a request was parked");
}

static ssize_t submit(struct object *o, uint64_t offset, void *buf, size_t len)
{
	struct volume_request r = { .object = o,
				    .write = true,
				    .offset_bytes = offset,
				    .buf = buf,
				    .len_bytes = len,
				    .done = never_called };

	ck_assert_int_eq(volume_submit(&r), 1);
	return r.result;
}

START_TEST(a_request_is_cut_where_the_capacity_ends_and_then_refused)
{
	uint8_t *mem = pattern_mem(4 * MIB, 3);
	struct object *o;

	open_fresh();
	o = make_object(OBJECT_DISK);
	ck_assert_uint_eq(fill(o, 0, CAPACITY_BYTES - MIB), CAPACITY_BYTES - MIB);
	/* A page of the map has 2 MiB: the write crosses from one that fits to one that does not. */
	ck_assert_int_eq(submit(o, 7 * MIB, mem, 3 * MIB), MIB);
	ck_assert_uint_eq(size_of(o), CAPACITY_BYTES);
	expect_bytes(o, 7 * MIB, mem, MIB);
	ck_assert_int_eq(submit(o, 8 * MIB, mem, 3 * MIB), -ENOSPC);
	ck_assert_int_eq(submit(o, 0, mem, 4 * MIB), 4 * MIB);
	object_close(o);
	free(mem);
}
END_TEST

static char blocked_by[PATH_BYTES], objects_dir[PATH_BYTES];

static unsigned int done_count; /* atomic */

static void count_done(UNUSED struct volume_request *r)
{
	(void)__atomic_add_fetch(&done_count, 1, __ATOMIC_SEQ_CST);
}

static bool all_done(void *arg)
{
	return __atomic_load_n(&done_count, __ATOMIC_SEQ_CST) == *(unsigned int *)arg;
}

static bool is_blocked(void)
{
	return status().state == POOL_BLOCKED;
}

static bool all_done_or_blocked(void *arg)
{
	return all_done(arg) || is_blocked();
}

/* Where everything else has to wait for uploads, too. */
START_TEST(what_has_no_room_is_refused_also_where_writers_wait)
{
	static struct volume_request r[CAPACITY_BYTES / PIECE_BYTES];
	uint8_t *mem = pattern_mem(PIECE_BYTES, 4);
	unsigned int parked = 0;
	struct object *o;

	pf.options.dirty_limit_bytes = CAPACITY_BYTES / 2;
	pf.options.upload_interval_ns = 50 * MS_NS;
	open_fresh();
	o = make_object(OBJECT_DISK);
	ck_assert_uint_eq(fill(o, 0, CAPACITY_BYTES - MIB), CAPACITY_BYTES - MIB);
	ck_assert_int_eq(pool_sync_backend(pf.pool, NULL), 0);
	(void)pool_path(objects_dir, "objects");
	(void)root_path(blocked_by, "objects-away");
	ck_assert_int_eq(rename(objects_dir, blocked_by), 0);
	make_file(objects_dir, NULL, 0);
	ck_assert_uint_eq(fill(o, 7 * MIB, 2 * MIB), MIB);
	/* Overwriting fills the cache, each piece once: what dies leaves it. */
	for (uint64_t at = 0; !is_blocked(); at += PIECE_BYTES) {
		ck_assert_uint_lt(at, CAPACITY_BYTES);
		ck_assert_uint_lt(parked, ARRAY_SIZE(r));
		r[parked] = (struct volume_request){ .object = o,
						     .write = true,
						     .offset_bytes = at,
						     .buf = mem,
						     .len_bytes = PIECE_BYTES,
						     .done = count_done };
		parked += volume_submit(&r[parked]) == 0;
		checkpoint(); /* counts what is dirty */
		wait_until(all_done_or_blocked, &parked, 60, "the throttle");
	}
	ck_assert_int_eq(submit(o, 20 * MIB, mem, PIECE_BYTES), -ENOSPC);
	ck_assert_int_eq(object_write(o, 20 * MIB, mem, PIECE_BYTES, NULL), -ENOSPC);
	ck_assert_int_eq(unlink(objects_dir), 0);
	ck_assert_int_eq(rename(blocked_by, objects_dir), 0);
	wait_until(all_done, &parked, 60, "parked requests");
	object_close(o);
	free(mem);
}
END_TEST

/* --- many at once ------------------------------------------------------------------------------- */

#define WRITERS 4u

struct writer {
	struct object *object;
	struct thread *thread;
	uint64_t done_bytes;
};

static void write_until_refused(void *arg)
{
	struct writer *w = arg;

	w->done_bytes = fill(w->object, 0, 2 * CAPACITY_BYTES);
}

START_TEST(many_writers_together_stay_within_the_capacity)
{
	struct writer w[WRITERS] = { 0 };
	uint64_t sum = 0;

	open_fresh();
	for (unsigned int i = 0; i < WRITERS; i++) {
		w[i].object = make_object(OBJECT_DISK);
		ck_assert_int_eq(thread_start("writer", write_until_refused, &w[i], &w[i].thread),
				 0);
	}
	for (unsigned int i = 0; i < WRITERS; i++) {
		thread_join(w[i].thread);
		sum += w[i].done_bytes;
		object_close(w[i].object);
	}
	checkpoint();
	ck_assert_uint_le(status().live_bytes, CAPACITY_BYTES);
	ck_assert_uint_ge(sum, CAPACITY_BYTES - WRITERS * PIECE_BYTES);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_capacity");
	TCase *t = tcase_create("capacity");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_test(t, new_data_is_refused_where_the_capacity_ends);
	tcase_add_test(t, the_bound_holds_after_a_restart);
	tcase_add_test(t, overwriting_goes_on_in_a_full_pool);
	tcase_add_test(t, overwriting_does_not_use_up_the_capacity);
	tcase_add_test(t, zeros_need_no_room);
	tcase_add_test(t, what_is_freed_can_be_written_after_a_checkpoint);
	tcase_add_test(t, room_comes_back_without_being_asked_for);
	tcase_add_test(t, the_capacity_changes_in_an_open_pool);
	tcase_add_test(t, a_request_is_cut_where_the_capacity_ends_and_then_refused);
	tcase_add_test(t, what_has_no_room_is_refused_also_where_writers_wait);
	tcase_add_test(t, many_writers_together_stay_within_the_capacity);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
