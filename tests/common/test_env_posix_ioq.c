#include "common/env.h"

#include "tests/common/support_env.h"

#include <check.h>
#include <dlfcn.h>
#include <liburing.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

/* ---- io queue: every test runs with io_uring (0) and without (1) ---- */

#define EXIT_SKIPPED 77

#define DEPTH 4
#define IOS   16

/* Stands in for liburing's: refuses so many submissions, then is the real one. */
static int submits_to_refuse;

int io_uring_submit_and_wait(struct io_uring *ring, unsigned int wait_nr)
{
	/* C has no cast from object to function pointer; POSIX promises that the bytes do. */
	int (*real)(struct io_uring *, unsigned int);
	void *symbol = dlsym(RTLD_NEXT, "io_uring_submit_and_wait");

	if (submits_to_refuse > 0) {
		submits_to_refuse--;
		return -EBUSY;
	}
	ck_assert_ptr_nonnull(symbol);
	memcpy(&real, &symbol, sizeof(real));
	return real(ring, wait_nr);
}

static struct env_ioq *queue;
static struct env_io ios[IOS];

static void queue_open(bool forbidden)
{
	if (forbidden)
		env_fixture_forbid(SYS_io_uring_setup, EPERM);
	ck_assert_int_eq(env_ioq_open(fx.env, DEPTH, &queue), 0);
}

static void submit(int i, struct env_file *f, size_t len, uint64_t offset)
{
	ios[i] = (struct env_io){
		.file = f,
		.buf = fx.mem + (size_t)i * BLOCK,
		.len_bytes = len,
		.offset_bytes = offset,
		.result = 12345,
		.owner = &ios[i],
	};
	ck_assert_int_eq(env_ioq_submit(fx.env, queue, &ios[i]), 0);
}

/* Blocks 0 to count of the file, each into a place of its own. */
static void submit_reads(int count)
{
	for (int i = 0; i < count; i++) {
		ios[i] = (struct env_io){
			.file = fx.a,
			.is_read = true,
			.buf = fx.back + (size_t)i * BLOCK,
			.len_bytes = BLOCK,
			.offset_bytes = (uint64_t)i * BLOCK,
			.result = 12345,
			.owner = &ios[i],
		};
		ck_assert_int_eq(env_ioq_submit(fx.env, queue, &ios[i]), 0);
	}
}

static void fill_file(int blocks)
{
	ck_assert_int_eq(env_pwrite(fx.env, fx.a, fx.mem, (size_t)blocks * BLOCK, 0), 0);
	memset(fx.back, 0, (size_t)blocks * BLOCK);
}

/* Reap so many; each must be one of ours, once. */
static void reap(int count)
{
	for (int i = 0; i < count; i++) {
		struct env_io *io = env_ioq_reap(fx.env, queue, true);

		ck_assert_ptr_nonnull(io);
		ck_assert_ptr_eq(io->owner, io);
		io->owner = NULL;
	}
	ck_assert_ptr_null(env_ioq_reap(fx.env, queue, true));
	ck_assert_ptr_null(env_ioq_reap(fx.env, queue, false));
}

START_TEST(more_writes_than_the_depth_all_arrive)
{
	env_fixture_open_a(ENV_DIRECT);
	queue_open(_i == 1);
	ck_assert_ptr_null(env_ioq_reap(fx.env, queue, true));
	for (int i = 0; i < IOS; i++)
		submit(i, fx.a, BLOCK, (uint64_t)i * BLOCK);
	reap(IOS);
	for (int i = 0; i < IOS; i++)
		ck_assert_int_eq(ios[i].result, 0);
	ck_assert_int_eq(env_pread(fx.env, fx.a, fx.back, IOS * BLOCK, 0), IOS * BLOCK);
	ck_assert_mem_eq(fx.back, fx.mem, IOS * BLOCK);
	env_ioq_close(fx.env, queue);
}
END_TEST

/* Writes from the pinned memory, from beside it, and across its end. */
START_TEST(memory_may_be_pinned)
{
	env_fixture_open_a(ENV_DIRECT);
	queue_open(_i == 1);
	env_ioq_pin(fx.env, queue, fx.mem, 2 * BLOCK);
	env_ioq_pin(fx.env, queue, fx.mem, 3 * BLOCK); /* once is enough */
	submit(0, fx.a, 2 * BLOCK, 0);
	submit(2, fx.a, BLOCK, 2 * BLOCK);
	reap(2);
	ck_assert_int_eq(ios[0].result, 0);
	ck_assert_int_eq(ios[2].result, 0);
	submit(1, fx.a, 2 * BLOCK, BLOCK);
	reap(1);
	ck_assert_int_eq(ios[1].result, 0);
	ck_assert_int_eq(env_pread(fx.env, fx.a, fx.back, 3 * BLOCK, 0), 3 * BLOCK);
	ck_assert_mem_eq(fx.back, fx.mem, 3 * BLOCK);
	env_ioq_close(fx.env, queue);
}
END_TEST

START_TEST(reaping_without_waiting_gets_there_too)
{
	int count = 0;

	env_fixture_open_a(0);
	queue_open(_i == 1);
	submit(0, fx.a, BLOCK, 0);
	submit(1, fx.a, BLOCK, BLOCK);
	while (count < 2) {
		if (env_ioq_reap(fx.env, queue, false) != NULL)
			count++;
		else
			(void)sched_yield();
	}
	ck_assert_ptr_null(env_ioq_reap(fx.env, queue, true));
	ck_assert_int_eq(ios[0].result | ios[1].result, 0);
	env_ioq_close(fx.env, queue);
}
END_TEST

START_TEST(each_write_has_its_own_result)
{
	env_fixture_open_a(0);
	ck_assert_int_eq(env_open(fx.env, fx.path_a, ENV_READ, &fx.b), 0);
	queue_open(_i == 1);
	submit(0, fx.a, BLOCK, 0);
	submit(1, fx.b, BLOCK, 0);
	submit(2, fx.a, 0, 0);
	submit(3, fx.a, BLOCK, BLOCK);
	reap(4);
	ck_assert_int_eq(ios[0].result, 0);
	ck_assert_int_eq(ios[1].result, -EBADF);
	ck_assert_int_eq(ios[2].result, 0);
	ck_assert_int_eq(ios[3].result, 0);
	ck_assert_uint_eq(env_fixture_size_of(fx.a), 2 * BLOCK);
	env_ioq_close(fx.env, queue);
}
END_TEST

START_TEST(short_write_is_continued_until_it_fails)
{
	env_fixture_open_a(0);
	queue_open(_i == 1);
	env_fixture_limit_file_size(BLOCK + 100);
	submit(0, fx.a, 3 * BLOCK, 0);
	submit(1, fx.a, BLOCK, 0);
	reap(2);
	ck_assert_int_eq(ios[0].result, -EFBIG);
	ck_assert_int_eq(ios[1].result, 0);
	ck_assert_uint_eq(env_fixture_size_of(fx.a), BLOCK + 100);
	env_ioq_close(fx.env, queue);
}
END_TEST

START_TEST(more_reads_than_the_depth_bring_all)
{
	env_fixture_open_a(ENV_DIRECT);
	fill_file(IOS);
	queue_open(_i == 1);
	env_ioq_pin(fx.env, queue, fx.back, 2 * BLOCK);
	submit_reads(IOS);
	reap(IOS);
	for (int i = 0; i < IOS; i++)
		ck_assert_int_eq(ios[i].result, 0);
	ck_assert_mem_eq(fx.back, fx.mem, IOS * BLOCK);
	env_ioq_close(fx.env, queue);
}
END_TEST

START_TEST(reads_behind_the_end_say_so)
{
	env_fixture_open_a(0);
	fill_file(2);
	ck_assert_int_eq(env_truncate(fx.env, fx.a, 2 * BLOCK - 100), 0);
	queue_open(_i == 1);
	submit_reads(3);
	reap(3);
	ck_assert_int_eq(ios[0].result, 0);
	ck_assert_int_eq(ios[1].result, -ENODATA);
	ck_assert_int_eq(ios[2].result, -ENODATA);
	env_ioq_close(fx.env, queue);
}
END_TEST

/* A write goes out with the reads that were gathered before it. */
START_TEST(reads_and_writes_share_a_queue)
{
	env_fixture_open_a(ENV_DIRECT);
	fill_file(3);
	queue_open(_i == 1);
	submit_reads(2);
	submit(2, fx.a, BLOCK, 3 * BLOCK);
	reap(3);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(ios[i].result, 0);
	ck_assert_mem_eq(fx.back, fx.mem, 2 * BLOCK);
	ck_assert_int_eq(env_pread(fx.env, fx.a, fx.back, BLOCK, 3 * BLOCK), BLOCK);
	ck_assert_mem_eq(fx.back, fx.mem + 2 * BLOCK, BLOCK);
	env_ioq_close(fx.env, queue);
}
END_TEST

START_TEST(refused_reads_are_done_by_hand)
{
	env_fixture_open_a(0);
	fill_file(DEPTH);
	queue_open(false);
	submits_to_refuse = 1;
	submit_reads(DEPTH);
	reap(DEPTH);
	ck_assert_mem_eq(fx.back, fx.mem, DEPTH * BLOCK);
	memset(fx.back, 0xee, DEPTH * BLOCK); /* the buffers are ours again */
	submit(0, fx.a, BLOCK, DEPTH * BLOCK);
	reap(1);
	for (size_t i = 0; i < DEPTH * BLOCK; i++)
		ck_assert_int_eq(((unsigned char *)fx.back)[i], 0xee);
	env_ioq_close(fx.env, queue);
}
END_TEST

START_TEST(bad_offset_is_refused_at_once)
{
	struct env_io io = { .buf = fx.mem, .len_bytes = 1, .offset_bytes = UINT64_MAX };

	env_fixture_open_a(0);
	io.file = fx.a;
	queue_open(_i == 1);
	ck_assert_int_eq(env_ioq_submit(fx.env, queue, &io), -EINVAL);
	ck_assert_ptr_null(env_ioq_reap(fx.env, queue, true));
	env_ioq_close(fx.env, queue);
}
END_TEST

START_TEST(direct_write_of_unaligned_memory_is_an_error_not_a_lie)
{
	struct env_io io = { .buf = fx.mem + 1, .len_bytes = BLOCK };

	env_fixture_open_a(ENV_DIRECT);
	io.file = fx.a;
	queue_open(_i == 1);
	ck_assert_int_eq(env_ioq_submit(fx.env, queue, &io), 0);
	ck_assert_ptr_eq(env_ioq_reap(fx.env, queue, true), &io);
	/* Some filesystems take it; then it must be there. */
	if (io.result == 0) {
		ck_assert_int_eq(env_pread(fx.env, fx.a, fx.back, BLOCK, 0), BLOCK);
		ck_assert_mem_eq(fx.back, fx.mem + 1, BLOCK);
	} else {
		ck_assert_int_eq(io.result, -EINVAL);
	}
	env_ioq_close(fx.env, queue);
}
END_TEST

/* The ring exists, but the kernel stops taking entries: what was taken fx.back must not go out. */
START_TEST(refused_submissions_are_written_by_hand)
{
	env_fixture_open_a(0);
	queue_open(false);
	submit(0, fx.a, BLOCK, 0);
	reap(1);
	env_fixture_forbid(SYS_io_uring_enter, EBUSY);
	for (int i = 1; i < IOS; i++)
		submit(i, fx.a, BLOCK, (uint64_t)i * BLOCK);
	reap(IOS - 1);
	for (int i = 0; i < IOS; i++)
		ck_assert_int_eq(ios[i].result, 0);
	ck_assert_int_eq(env_pread(fx.env, fx.a, fx.back, IOS * BLOCK, 0), IOS * BLOCK);
	ck_assert_mem_eq(fx.back, fx.mem, IOS * BLOCK);
	env_ioq_close(fx.env, queue);
}
END_TEST

START_TEST(what_was_taken_back_does_not_go_out_later)
{
	env_fixture_open_a(0);
	queue_open(false);
	submits_to_refuse = 1;
	submit(0, fx.a, BLOCK, 0);
	reap(1);
	ck_assert_int_eq(ios[0].result, 0);
	memcpy(fx.back, fx.mem, BLOCK);
	memset(fx.mem, 0xee, BLOCK); /* the buffer is ours again */
	submit(1, fx.a, BLOCK, BLOCK);
	reap(1);
	ck_assert_int_eq(ios[1].result, 0);
	ck_assert_int_eq(env_pread(fx.env, fx.a, fx.mem, BLOCK, 0), BLOCK);
	ck_assert_mem_eq(fx.mem, fx.back, BLOCK);
	env_ioq_close(fx.env, queue);
}
END_TEST

START_TEST(closing_a_queue_in_use_dies)
{
	env_fixture_open_a(0);
	queue_open(true);
	submit(0, fx.a, BLOCK, 0);
	env_ioq_close(fx.env, queue);
}
END_TEST

static void add_tests(Suite *s)
{
	TCase *t = tcase_create("queue");
	TCase *death = tcase_create("death");

	tcase_add_checked_fixture(t, env_fixture_begin, env_fixture_end);
	tcase_add_loop_test(t, more_writes_than_the_depth_all_arrive, 0, 2);
	tcase_add_loop_test(t, memory_may_be_pinned, 0, 2);
	tcase_add_loop_test(t, reaping_without_waiting_gets_there_too, 0, 2);
	tcase_add_loop_test(t, each_write_has_its_own_result, 0, 2);
	tcase_add_loop_test(t, short_write_is_continued_until_it_fails, 0, 2);
	tcase_add_loop_test(t, more_reads_than_the_depth_bring_all, 0, 2);
	tcase_add_loop_test(t, reads_behind_the_end_say_so, 0, 2);
	tcase_add_loop_test(t, reads_and_writes_share_a_queue, 0, 2);
	tcase_add_test(t, refused_reads_are_done_by_hand);
	tcase_add_loop_test(t, bad_offset_is_refused_at_once, 0, 2);
	tcase_add_loop_test(t, direct_write_of_unaligned_memory_is_an_error_not_a_lie, 0, 2);
	tcase_add_test(t, refused_submissions_are_written_by_hand);
	tcase_add_test(t, what_was_taken_back_does_not_go_out_later);
	suite_add_tcase(s, t);

	tcase_add_unchecked_fixture(death, env_fixture_begin, env_fixture_end);
	tcase_add_test_raise_signal(death, closing_a_queue_in_use_dies, SIGABRT);
	suite_add_tcase(s, death);
}

int main(void)
{
	Suite *s = suite_create("common/env_posix_ioq");
	SRunner *r = srunner_create(s);
	int failed;

	/* Limits and forbidden calls stay with the process: each test needs one of its own. */
	if (srunner_fork_status(r) != CK_FORK) {
		srunner_free(r);
		return EXIT_SKIPPED;
	}
	add_tests(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
