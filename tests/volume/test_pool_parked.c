/* Requests that must not sleep on their thread: parked, completed once, in order, limited. */
#include "support_pool.h"

#include "common/thread.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PARKED_MAX 8u

static char blocked_by[PATH_BYTES], objects_dir[PATH_BYTES];

static void begin(void)
{
	pf.options.parked_max = PARKED_MAX;
	pf.options.dirty_limit_bytes = 4 * MIB;
	pf.options.upload_interval_ns = 50 * MS_NS;
	pf.options.attempts_max = 1; /* a round that fails is tried again anyway */
}

/* A backend that takes nothing: a file stands where its directory was. */
static void block_backend(void)
{
	(void)pool_path(objects_dir, "objects");
	(void)root_path(blocked_by, "objects-away");
	ck_assert_int_eq(rename(objects_dir, blocked_by), 0);
	make_file(objects_dir, NULL, 0);
}

static void unblock_backend(void)
{
	ck_assert_int_eq(unlink(objects_dir), 0);
	ck_assert_int_eq(rename(blocked_by, objects_dir), 0);
}

/* --- requests ----------------------------------------------------------------------------------- */

struct request {
	struct volume_request r; /* first */
	unsigned int number;
	unsigned int done_calls; /* atomic */
	bool is_parked;
};

static struct {
	struct mutex lock; /* guards all below */
	unsigned int order[64];
	unsigned int count;
} finished;

static void finish(struct volume_request *r)
{
	struct request *q = (struct request *)r;

	__atomic_fetch_add(&q->done_calls, 1, __ATOMIC_SEQ_CST);
	GUARD(&finished.lock);
	ck_assert_uint_lt(finished.count, ARRAY_SIZE(finished.order));
	finished.order[finished.count++] = q->number;
}

static unsigned int finished_count(void)
{
	GUARD(&finished.lock);
	return finished.count;
}

static bool finished_at_least(void *arg)
{
	return finished_count() >= *(const unsigned int *)arg;
}

static int submit(struct request *q, struct object *o, bool write, uint64_t offset, void *buf,
		  size_t len)
{
	q->r = (struct volume_request){ .object = o,
					.write = write,
					.offset_bytes = offset,
					.buf = buf,
					.len_bytes = len,
					.done = finish,
					.result = -12345 };
	q->done_calls = 0;
	return volume_submit(&q->r);
}

static void open_fresh(void)
{
	mutex_init(&finished.lock, 0);
	finished.count = 0;
	pool_fixture_create();
	pool_fixture_open_quiet();
}

/* Filling requests that were parked and are not finished. */
static unsigned int filling;

static bool is_blocked_or_finished(void *arg)
{
	struct pool_status st;

	pool_status(pf.pool, &st);
	return st.state == POOL_BLOCKED || finished_at_least(arg);
}

static bool backend_is_blamed(UNUSED void *arg)
{
	struct pool_status st;

	pool_status(pf.pool, &st);
	return st.state == POOL_BLOCKED && strstr(st.reason, "backend does not answer");
}

/* What is dirty is an estimate between two counts, of which one may lift a block that was just reached:
 * so it counts when nothing is left to seal. */
static bool is_blocked_for_good(void)
{
	struct pool_status st;

	pool_status(pf.pool, &st);
	if (st.state != POOL_BLOCKED)
		return false;
	ck_assert_int_lt(pool_sync_backend(pf.pool, NULL), 0);
	ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0); /* counts anew */
	pool_status(pf.pool, &st);
	return st.state == POOL_BLOCKED;
}

/* A disk written with so much that the dirty limit holds everything up. */
static struct object *fill_to_the_limit(void)
{
	static struct request q[64]; /* parked ones outlive this call */
	static uint8_t *mem;
	struct object *o = make_object(OBJECT_DISK);

	mem = pattern_mem(256 * KIB, 1);
	filling = 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(q); i++) {
		if (submit(&q[i], o, true, i * 256 * KIB, mem, 256 * KIB) == 0)
			filling++;
		ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0); /* counts what is dirty */
		wait_until(is_blocked_or_finished, &filling, 20, "the throttle");
		if (is_blocked_for_good())
			return o;
	}
	ck_abort_msg("%zu MiB did not reach the dirty limit", ARRAY_SIZE(q) / 4);
}

START_TEST(requests_that_need_not_wait_finish_inline)
{
	uint8_t *mem = pattern_mem(MIB, 1), *back = aligned_mem(MIB);
	struct object *o;
	struct request q;

	open_fresh();
	o = make_object(OBJECT_DISK);
	ck_assert_int_eq(submit(&q, o, true, 77, mem, 100000), 1);
	ck_assert_int_eq(q.r.result, 100000);
	ck_assert_int_eq(submit(&q, o, true, 4 * MIB, mem, MIB), 1);
	ck_assert_int_eq(q.r.result, MIB);
	ck_assert_int_eq(submit(&q, o, false, 77, back, 100000), 1);
	ck_assert_int_eq(q.r.result, 100000);
	ck_assert_int_eq(memcmp(back, mem, 100000), 0);
	ck_assert_int_eq(submit(&q, o, false, 5 * MIB - 10, back, 100), 1);
	ck_assert_int_eq(q.r.result, 10);
	ck_assert_int_eq(submit(&q, o, false, 9 * MIB, back, 100), 1);
	ck_assert_int_eq(q.r.result, 0);
	ck_assert_int_eq(submit(&q, o, true, OBJECT_BYTES_MAX, mem, 1), 1);
	ck_assert_int_eq(q.r.result, -EFBIG);
	ck_assert_uint_eq(finished_count(), 0); /* done was never called */
	object_close(o);
	free(mem);
	free(back);
}
END_TEST

/* Writes block at a dirty limit that the backend keeps from falling. */
START_TEST(parked_writes_finish_once_and_in_order_when_the_backend_is_back)
{
	struct request q[PARKED_MAX + 1];
	uint8_t *mem[PARKED_MAX + 1], *back = aligned_mem(64 * KIB);
	unsigned int parked = 0, want;
	struct object *full, *o;
	struct pool_status st;
	int r;

	open_fresh();
	o = make_object(OBJECT_DISK);
	write_bytes(o, 0, "before", 6);
	block_backend();
	full = fill_to_the_limit();
	do { /* all to the same place: the last one must win */
		ck_assert_uint_le(parked, PARKED_MAX);
		mem[parked] = pattern_mem(4096, 100 + parked);
		q[parked].number = parked + 1;
		r = submit(&q[parked], o, true, 4096, mem[parked], 4096);
		parked += r == 0;
	} while (r == 0);
	ck_assert_int_eq(r, -EBUSY);
	ck_assert_uint_ge(parked, PARKED_MAX - 1);
	free(mem[parked]);
	wait_until(backend_is_blamed, NULL, 20, "the backend to be blamed");
	pool_status(pf.pool, &st);
	ck_assert_uint_ge(st.parked, parked);

	{ /* reads are not held up */
		struct request more = { .number = 63 };

		ck_assert_int_eq(submit(&more, o, false, 0, back, 6), 1);
		ck_assert_int_eq(memcmp(back, "before", 6), 0);
		ck_assert_int_eq(more.done_calls, 0);
	}
	ck_assert_uint_le(finished_count(), filling);
	unblock_backend();
	want = parked + filling;
	wait_until(finished_at_least, &want, 25, "parked requests");
	for (unsigned int i = 0; i < parked; i++) {
		ck_assert_uint_eq(q[i].done_calls, 1);
		ck_assert_int_eq(q[i].r.result, 4096);
	}
	for (unsigned int i = 0, last = 0; i < finished.count; i++) {
		if (finished.order[i] == 0)
			continue;
		ck_assert_uint_eq(finished.order[i], last + 1);
		last++;
	}
	expect_bytes(o, 4096, mem[parked - 1], 4096);
	pool_status(pf.pool, &st);
	ck_assert_uint_eq(st.parked, 0);
	for (unsigned int i = 0; i < parked; i++)
		free(mem[i]);
	free(back);
	object_close(full);
	object_close(o);
}
END_TEST

START_TEST(a_higher_dirty_limit_lets_parked_writes_go_on)
{
	struct request q = { .number = 63 };
	uint8_t *mem = pattern_mem(4096, 1);
	struct object *full, *o;
	unsigned int want;

	open_fresh();
	o = make_object(OBJECT_DISK);
	block_backend();
	full = fill_to_the_limit();
	ck_assert_int_eq(submit(&q, o, true, 0, mem, 4096), 0);
	want = filling + 1;
	pf.options.dirty_limit_bytes = 64 * MIB;
	pool_change_options(pf.pool, &pf.options);
	wait_until(finished_at_least, &want, 25, "the parked write");
	ck_assert_int_eq(q.r.result, 4096);
	unblock_backend();
	object_close(o);
	object_close(full);
	free(mem);
}
END_TEST

START_TEST(the_dirty_limit_is_not_overshot_by_much)
{
	struct request *q = calloc(512, sizeof(*q));
	uint8_t *mem = pattern_mem(256 * KIB, 1);
	unsigned int i = 0, parked = 0;
	struct object *o;

	pf.options.parked_max = 2;
	open_fresh();
	o = make_object(OBJECT_DISK);
	block_backend();
	for (int r = 1; r >= 0 && i < 512; i++) {
		r = submit(&q[i], o, true, i * 256 * KIB, mem, 256 * KIB);
		parked += r == 0;
	}
	unblock_backend();
	wait_until(finished_at_least, &parked, 25, "parked requests");
	/* The limit, what is throttled on the way there, and a ring full. */
	ck_assert_uint_le(i * 256 * KIB, 16 * MIB);
	object_close(o);
	free(mem);
	free(q);
}
END_TEST

/* --- a full ring -------------------------------------------------------------------------------- */

#define STORM	     TEST_SCALE(2000u)
#define STORM_STRIDE (120 * 1024u)

static struct request storm[STORM];

static unsigned int storm_in_flight(void)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < STORM; i++)
		n += storm[i].is_parked &&
		     __atomic_load_n(&storm[i].done_calls, __ATOMIC_SEQ_CST) == 0;
	return n;
}

static void finish_storm(struct volume_request *r)
{
	__atomic_fetch_add(&((struct request *)r)->done_calls, 1, __ATOMIC_SEQ_CST);
}

static bool storm_is_over(UNUSED void *arg)
{
	return storm_in_flight() == 0;
}

static size_t storm_bytes(unsigned int i)
{
	if (i % 4 == 3)
		return STORM_STRIDE - 1000;
	return i % 2 ? 3000 : 4096;
}

static uint64_t storm_offset(unsigned int i)
{
	return i * (uint64_t)STORM_STRIDE + i % 2 * 100;
}

/* With a slow disk a ring of few frames is full most of the time: each request ends once, whatever
 * way it takes. */
START_TEST(a_storm_of_writes_through_a_tiny_ring_loses_none)
{
	uint8_t *mem = aligned_mem((size_t)STORM * STORM_STRIDE);
	unsigned int busy = 0, inline_count = 0, parked = 0;
	struct object *o;

	pf.batch_write_ns = 2 * MS_NS;
	pf.options.ring_bytes = 4096 + 8 * 128 * KIB;
	pf.options.dirty_limit_bytes = UINT64_C(1) << 40;
	pf.options.parked_max = 64;
	open_fresh();
	o = make_object(OBJECT_DISK);
	for (unsigned int i = 0; i < STORM; i++) {
		int r;

		pattern_fill(mem + (size_t)i * STORM_STRIDE, storm_bytes(i), i);
		storm[i] = (struct request){
			.r = { .object = o,
			       .write = true,
			       .offset_bytes = storm_offset(i),
			       .buf = mem + (size_t)i * STORM_STRIDE,
			       .len_bytes = storm_bytes(i),
			       .done = finish_storm,
			       .result = -12345 },
		};
		while ((r = volume_submit(&storm[i].r)) == -EBUSY) {
			busy++;
			sleep_ns(MS_NS / 10);
		}
		inline_count += r == 1;
		storm[i].is_parked = r == 0;
		parked += r == 0;
		if (r == 1)
			ck_assert_uint_eq(storm[i].done_calls, 0);
	}
	wait_until(storm_is_over, NULL, 20, "parked writes");
	printf("%u writes: %u inline, %u parked, %u refused first\n", STORM, inline_count, parked,
	       busy);
	ck_assert_uint_gt(parked, 0);
	for (unsigned int i = 0; i < STORM; i++) {
		ck_assert_uint_le(storm[i].done_calls, 1);
		ck_assert_int_eq(storm[i].r.result, (ssize_t)storm_bytes(i));
		expect_bytes(o, storm_offset(i), mem + (size_t)i * STORM_STRIDE, storm_bytes(i));
	}
	object_close(o);
	free(mem);
}
END_TEST

START_TEST(a_parked_write_to_a_deleted_object_ends_with_estale)
{
	uint8_t *mem = pattern_mem(4096, 1);
	struct request q = { .number = 1 };
	struct object *full, *o;
	unsigned int want;

	open_fresh();
	o = make_object(OBJECT_DISK);
	block_backend();
	full = fill_to_the_limit();
	want = filling + 1;
	ck_assert_int_eq(submit(&q, o, true, 0, mem, 4096), 0);
	ck_assert_int_eq(object_delete(pf.pool, id_of(o), NULL), 0);
	unblock_backend();
	wait_until(finished_at_least, &want, 25, "the parked write");
	ck_assert_uint_eq(q.done_calls, 1);
	ck_assert_int_eq(q.r.result, -ESTALE);
	object_close(o);
	object_close(full);
	free(mem);
}
END_TEST

/* --- cancelled ---------------------------------------------------------------------------------- */

static bool is_done(void *arg)
{
	return __atomic_load_n(&((struct request *)arg)->done_calls, __ATOMIC_SEQ_CST) > 0;
}

START_TEST(a_cancelled_write_ends_without_room_and_those_around_it_wait_on)
{
	uint8_t *mem = pattern_mem(4096, 1);
	struct request q[3] = { { .number = 61 }, { .number = 62 }, { .number = 63 } };
	struct object *full, *o;
	struct pool_status before, st;
	unsigned int want;

	open_fresh();
	o = make_object(OBJECT_DISK);
	block_backend();
	full = fill_to_the_limit();
	for (unsigned int i = 0; i < ARRAY_SIZE(q); i++)
		ck_assert_int_eq(submit(&q[i], o, true, i * 4096, mem, 4096), 0);
	pool_status(pf.pool, &before);
	volume_cancel(&q[1].r);
	wait_until(is_done, &q[1], 60, "the cancelled write");
	ck_assert_int_eq(q[1].r.result, -EINTR);
	volume_cancel(&q[1].r); /* done: nothing happens */
	pool_status(pf.pool, &st);
	ck_assert_int_eq(st.state, POOL_BLOCKED);
	ck_assert_uint_eq(q[0].done_calls + q[2].done_calls, 0);
	ck_assert_uint_le(st.parked, before.parked - 1);
	unblock_backend();
	want = filling + 3;
	wait_until(finished_at_least, &want, 60, "the others");
	ck_assert_uint_eq(q[1].done_calls, 1);
	ck_assert_int_eq(q[0].r.result, 4096);
	ck_assert_int_eq(q[2].r.result, 4096);
	expect_bytes(o, 0, mem, 4096);
	expect_zeros(o, 4096, 4096);
	expect_bytes(o, 8192, mem, 4096);
	object_close(full);
	object_close(o);
	free(mem);
}
END_TEST

static unsigned int parking_calls;

static void cancel_it(struct volume_request *r)
{
	parking_calls++;
	volume_cancel(r);
}

START_TEST(a_write_that_is_cancelled_as_it_parks_ends_too)
{
	uint8_t *mem = pattern_mem(4096, 1);
	struct request q = { .number = 63 }, ahead = { .number = 62 }, more[PARKED_MAX + 1];
	struct object *full, *o;
	unsigned int parked = 0;

	open_fresh();
	o = make_object(OBJECT_DISK);
	write_bytes(o, 0, mem, 4096);
	block_backend();
	full = fill_to_the_limit();
	/* Those behind it get no turn. */
	ck_assert_int_eq(submit(&ahead, o, true, 8192, mem, 4096), 0);
	parking_calls = 0;
	q.r = (struct volume_request){ .object = o,
				       .write = true,
				       .buf = mem,
				       .len_bytes = 4096,
				       .parking = cancel_it,
				       .done = finish };
	ck_assert_int_eq(volume_submit(&q.r), 0);
	ck_assert_uint_eq(parking_calls, 1);
	wait_until(is_done, &q, 60, "the cancelled write");
	ck_assert_int_eq(q.r.result, -EINTR);

	/* The same where the engine has no place for it: the next try ends it. */
	while (submit(&more[parked], o, true, 4096, mem, 4096) == 0)
		ck_assert_uint_le(++parked, PARKED_MAX);
	q.r.cancelled = false;
	q.r.result = -12345;
	ck_assert_int_eq(volume_submit(&q.r), -EBUSY);
	ck_assert_int_eq(volume_submit(&q.r), 1);
	ck_assert_int_eq(q.r.result, -EINTR);
	ck_assert_uint_eq(q.done_calls, 1);
	unblock_backend();
	parked += filling + 2;
	wait_until(finished_at_least, &parked, 60, "the others");
	object_close(full);
	object_close(o);
	free(mem);
}
END_TEST

#define LONG_BYTES (4 * MIB)

/* A write that is larger than the ring waits in its middle; the disk is slow enough for that. */
START_TEST(a_cancelled_write_that_did_a_part_ends_with_that_part)
{
	uint8_t *mem = pattern_mem(LONG_BYTES + 8, 1);
	unsigned int in_part = 0;

	pf.batch_write_ns = 20 * MS_NS;
	pf.options.ring_bytes = 4096 + 8 * 128 * KIB;
	pf.options.dirty_limit_bytes = UINT64_C(1) << 40;
	open_fresh();
	for (unsigned int i = 0; i < 20 && in_part == 0; i++) {
		struct object *o = make_object(OBJECT_DISK);
		struct request q = { .number = 1 };
		struct object_stat st;
		size_t n;

		/* Not aligned, so that it goes through the ring. */
		if (submit(&q, o, true, 100, mem + 8, LONG_BYTES) == 0) {
			volume_cancel(&q.r);
			wait_until(is_done, &q, 60, "the cancelled write");
		}
		ck_assert_int_gt(q.r.result, 0);
		n = (size_t)q.r.result;
		ck_assert_uint_le(n, LONG_BYTES);
		in_part += n < LONG_BYTES;
		object_stat(o, &st);
		ck_assert_uint_eq(st.size_bytes, 100 + n);
		expect_bytes(o, 100, mem + 8, n);
		/* Nothing lies behind its end. */
		ck_assert_int_eq(object_truncate(o, 100 + LONG_BYTES, NULL), 0);
		expect_zeros(o, 100 + n, LONG_BYTES - n);
		object_close(o);
	}
	ck_assert_uint_gt(in_part, 0);
	free(mem);
}
END_TEST

/* --- the end ------------------------------------------------------------------------------------ */

struct blocked {
	struct object *object;
	struct thread *thread;
	int r;
};

static void write_and_wait(void *arg)
{
	struct blocked *b = arg;
	uint8_t *mem = pattern_mem(64 * KIB, 3);

	for (b->r = 0; b->r == 0;)
		b->r = object_write(b->object, 0, mem, 64 * KIB, NULL);
	free(mem);
}

START_TEST(cancelled_waits_end_with_an_error_and_all_else_goes_on)
{
	uint8_t *mem = pattern_mem(4096, 1), *back = aligned_mem(4096);
	struct request q = { .number = 63 }, more = { .number = 62 };
	struct blocked b = { 0 };
	struct object *full, *o;
	unsigned int want;

	open_fresh();
	o = make_object(OBJECT_DISK);
	write_bytes(o, 0, mem, 4096);
	block_backend();
	full = fill_to_the_limit();
	ck_assert_int_eq(submit(&q, o, true, 4096, mem, 4096), 0);
	b.object = o;
	ck_assert_int_eq(thread_start("blocked", write_and_wait, &b, &b.thread), 0);
	pool_cancel_waits(pf.pool);
	want = filling + 1;
	wait_until(finished_at_least, &want, 60, "the parked write");
	thread_join(b.thread);
	ck_assert_uint_eq(q.done_calls, 1);
	ck_assert_int_eq(q.r.result, -ESHUTDOWN);
	ck_assert_int_eq(b.r, -ESHUTDOWN);
	ck_assert_int_eq(submit(&more, o, true, 4096, mem, 4096), 1);
	ck_assert_int_eq(more.r.result, -ESHUTDOWN);
	ck_assert_int_eq(submit(&more, o, false, 4096, back, 4096), 1);
	ck_assert_int_eq(more.r.result, 0);
	sync_object(o);
	unblock_backend();
	object_close(full);
	object_close(o);
	free(mem);
	free(back);
}
END_TEST

static void close_its_object(struct volume_request *r)
{
	(void)__atomic_add_fetch(&((struct request *)r)->done_calls, 1, __ATOMIC_SEQ_CST);
	object_close(r->object);
}

START_TEST(closing_ends_what_is_parked_and_keeps_what_was_acknowledged)
{
	uint8_t *mem = pattern_mem(4096, 1), *other = pattern_mem(4096, 2);
	struct request q = { .number = 63 };
	struct object *full, *o;
	uint64_t id;

	open_fresh();
	o = make_object(OBJECT_DISK);
	id = id_of(o);
	write_bytes(o, 0, mem, 4096);
	block_backend();
	full = fill_to_the_limit();
	q.r = (struct volume_request){ .object = o,
				       .write = true,
				       .buf = other,
				       .len_bytes = 4096,
				       .done = close_its_object };
	ck_assert_int_eq(volume_submit(&q.r), 0);
	object_close(full);
	pool_fixture_close();
	ck_assert_uint_eq(q.done_calls, 1);
	ck_assert_int_eq(q.r.result, -ESHUTDOWN);
	unblock_backend();
	pool_fixture_open();
	o = get_object(id);
	expect_bytes(o, 0, mem, 4096);
	object_close(o);
	free(mem);
	free(other);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_parked");
	TCase *t = tcase_create("parked");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_test(t, requests_that_need_not_wait_finish_inline);
	tcase_add_test(t, parked_writes_finish_once_and_in_order_when_the_backend_is_back);
	tcase_add_test(t, a_higher_dirty_limit_lets_parked_writes_go_on);
	tcase_add_test(t, the_dirty_limit_is_not_overshot_by_much);
	tcase_add_test(t, a_storm_of_writes_through_a_tiny_ring_loses_none);
	tcase_add_test(t, a_parked_write_to_a_deleted_object_ends_with_estale);
	tcase_add_test(t, a_cancelled_write_ends_without_room_and_those_around_it_wait_on);
	tcase_add_test(t, a_write_that_is_cancelled_as_it_parks_ends_too);
	tcase_add_test(t, a_cancelled_write_that_did_a_part_ends_with_that_part);
	tcase_add_test(t, cancelled_waits_end_with_an_error_and_all_else_goes_on);
	tcase_add_test(t, closing_ends_what_is_parked_and_keeps_what_was_acknowledged);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
