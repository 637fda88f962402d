/*
 * What every metadata store promises (volume/meta.h) between threads and across the death of its
 * process; then what only a real process can show: SIGKILL.
 */
#include "tests/contract/support_meta.h"

#include "common/thread.h"
#include "tests/support/check_messages.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- threads ---- */

#define ATOMIC_ROWS    20u
#define ATOMIC_BATCHES 200u

static void write_generations(void *arg)
{
	(void)arg;
	for (unsigned int g = 1; g <= ATOMIC_BATCHES; g++) {
		struct meta_batch *batch = meta_batch_new(mt.m, META_STATE);
		char text[16];

		(void)snprintf(text, sizeof(text), "%u", g);
		for (unsigned int i = 0; i < ATOMIC_ROWS; i++)
			mt_batch_text(batch, ROW_SCO, i, text);
		mt_commit(batch, 0);
		if (g % 50 == 0)
			mt_flush();
	}
}

static void write_names(void *arg)
{
	for (unsigned int i = 0; i < ATOMIC_BATCHES; i++) {
		mt_put_text(ROW_OBJECT, *(const uint64_t *)arg + i, "n",
			    i % 20 == 0 ? META_SYNC : 0);
		if (i % 10 == 0)
			ck_assert_int_eq(meta_sync(mt.m, NULL), 0);
	}
}

struct generations {
	unsigned int rows;
	char first[16];
	uint64_t last;
};

static int see_generation(void *arg, UNUSED const uint8_t *key, UNUSED size_t key_bytes,
			  const uint8_t *value, size_t value_bytes)
{
	struct generations *g = arg;

	ck_assert_uint_lt(value_bytes, sizeof(g->first));
	if (g->rows++ == 0) {
		memcpy(g->first, value, value_bytes);
		g->first[value_bytes] = '\0';
	}
	ck_assert_uint_eq(strlen(g->first), value_bytes);
	ck_assert_mem_eq(g->first, value, value_bytes);
	return 0;
}

START_TEST(batches_are_seen_whole_or_not_at_all)
{
	const struct row_key from = mt_key_of(ROW_SCO, 0);
	uint64_t bases[2] = { 0, 1000 }, last = 0;
	struct thread *writers[3];

	ck_assert_int_eq(thread_start("writer", write_generations, NULL, &writers[0]), 0);
	ck_assert_int_eq(thread_start("names", write_names, &bases[0], &writers[1]), 0);
	ck_assert_int_eq(thread_start("names", write_names, &bases[1], &writers[2]), 0);
	while (last < ATOMIC_BATCHES) {
		struct generations g = { 0 };

		ck_assert_int_eq(meta_iterate(mt.m, META_STATE, &from, NULL, see_generation, &g,
					      NULL),
				 0);
		ck_assert(g.rows == 0 || g.rows == ATOMIC_ROWS);
		g.last = g.rows == 0 ? 0 : strtoull(g.first, NULL, 10);
		ck_assert_uint_ge(g.last, last);
		last = g.last;
		ck_assert_uint_le(meta_synced_sequence(mt.m), meta_sequence(mt.m));
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(writers); i++)
		thread_join(writers[i]);

	mt_ck_text(ROW_OBJECT, 1000 + ATOMIC_BATCHES - 1, "n");
	ck_assert_uint_eq(meta_sequence(mt.m), (uint64_t)ATOMIC_BATCHES * (ATOMIC_ROWS + 2));
}
END_TEST

/* ---- sequence numbers and death ---- */

START_TEST(the_sequence_counts_rows)
{
	struct meta_batch *batch = meta_batch_new(mt.m, META_STATE);
	const uint64_t before = meta_sequence(mt.m);

	mt_put_text(ROW_OBJECT, 1, "one", 0);
	ck_assert_uint_eq(meta_sequence(mt.m), before + 1);
	mt_batch_text(batch, ROW_SCO, 1, "a");
	mt_batch_text(batch, ROW_SCO, 1, "b");
	mt_batch_delta(batch, 1, 0, 1, LOC_ZERO);
	mt_commit(batch, 0);
	ck_assert_uint_eq(meta_sequence(mt.m), before + 4);
	mt_delete_row(ROW_OBJECT, 1);
	ck_assert_uint_eq(meta_sequence(mt.m), before + 5);
}
END_TEST

START_TEST(a_sync_covers_names_and_not_the_state_committed_since)
{
	mt_put_text(ROW_OBJECT, 1, "one", 0);
	mt_put_text(ROW_SCO, 1, "state", 0);
	ck_assert_uint_eq(meta_synced_sequence(mt.m), 0);

	ck_assert_int_eq(meta_sync(mt.m, &mt.e), 0);
	ck_assert_uint_eq(meta_synced_sequence(mt.m), 1);
	mt_flush();
	ck_assert_uint_eq(meta_synced_sequence(mt.m), 2);
}
END_TEST

START_TEST(a_flush_does_not_claim_the_names_committed_since)
{
	mt_put_text(ROW_SCO, 1, "state", 0);
	mt_put_text(ROW_OBJECT, 1, "one", 0);

	mt_flush();
	ck_assert_uint_eq(meta_synced_sequence(mt.m), 1);
}
END_TEST

START_TEST(a_synced_commit_covers_itself_and_all_names_before)
{
	mt_put_text(ROW_OBJECT, 1, "one", 0);
	mt_put_text(ROW_OBJECT, 2, "two", META_SYNC);

	ck_assert_uint_eq(meta_synced_sequence(mt.m), 2);
}
END_TEST

START_TEST(sync_and_flush_of_nothing_do_nothing)
{
	ck_assert_int_eq(meta_sync(mt.m, &mt.e), 0);
	mt_flush();
	mt_put_text(ROW_OBJECT, 1, "one", META_SYNC);
	ck_assert_int_eq(meta_sync(mt.m, &mt.e), 0);
	mt_flush();
	ck_assert_uint_eq(meta_synced_sequence(mt.m), 1);
}
END_TEST

START_TEST(names_survive_the_process_without_a_sync)
{
	for (uint64_t i = 0; i < 50; i++)
		mt_put_text(ROW_OBJECT, i, "name", 0);
	mt_delete_row(ROW_OBJECT, 7);

	mt.store->kill();

	mt_ck_text(ROW_OBJECT, 0, "name");
	mt_ck_text(ROW_OBJECT, 49, "name");
	ck_assert_int_eq(mt_get(ROW_OBJECT, 7), -ENOENT);
	ck_assert_uint_eq(meta_sequence(mt.m), 51);
}
END_TEST

START_TEST(flushed_state_survives_and_later_commits_do_as_a_prefix)
{
	loc_t locs[PAGE_CLUSTERS];
	bool ended = false;

	mt_merge_delta(7, 0, 4, loc_make(0, META_TEST_SCO, 100));
	for (uint64_t i = 0; i < 50; i++) {
		mt_put_text(ROW_SCO, i, "state", 0);
		if (i == 20)
			mt_flush();
	}

	mt.store->kill();

	mt_get_page(7, locs);
	ck_assert_uint_eq(locs[3], loc_make(0, META_TEST_SCO, 103));
	for (uint64_t i = 0; i < 50; i++) {
		const int r = mt_get(ROW_SCO, i);

		ck_assert(r == 0 || r == -ENOENT);
		ck_assert(i > 20 || r == 0);
		ck_assert(r != 0 || !ended);
		ended |= r != 0;
	}
}
END_TEST

START_TEST(the_sequence_never_falls_behind_what_was_synced)
{
	uint64_t synced = 0;

	for (unsigned int round = 0; round < 4; round++) {
		for (uint64_t i = 0; i < 10; i++) {
			mt_put_text(ROW_SCO, i, "state", 0);
			mt_put_text(ROW_OBJECT, i, "name", i == 5 && round % 2 ? META_SYNC : 0);
		}
		if (round < 3)
			mt_flush();
		mt_put_text(ROW_SCO, 1, "lost", 0);
		synced = meta_synced_sequence(mt.m);
		mt.store->kill();
		ck_assert_uint_ge(meta_sequence(mt.m), synced);
		ck_assert_uint_ge(meta_sequence(mt.m), meta_synced_sequence(mt.m));
	}
}
END_TEST

START_TEST(all_is_there_after_a_close_that_followed_sync_and_flush)
{
	mt_put_text(ROW_OBJECT, 1, "one", 0);
	mt_put_text(ROW_SCO, 1, "state", 0);
	ck_assert_int_eq(meta_sync(mt.m, &mt.e), 0);
	mt_flush();

	meta_close(mt.m);
	mt.store->open();

	mt_ck_text(ROW_OBJECT, 1, "one");
	mt_ck_text(ROW_SCO, 1, "state");
}
END_TEST

START_TEST(a_second_opener_is_refused)
{
	struct meta *second = NULL;
	int r;

	if (mt.disk != NULL)
		r = meta_mem_open(mt.disk, &second, &mt.e);
	else
		r = mt_rocks_try_open(&second);
	ck_assert_int_eq(r, -EBUSY);
	ck_assert_ptr_null(second);
}
END_TEST

/* ---- our own bugs end the process ---- */

START_TEST(a_names_batch_with_a_state_row_is_a_bug)
{
	struct meta_batch *batch = meta_batch_new(mt.m, META_NAMES);

	mt_batch_text(batch, ROW_SCO, 1, "wrong family");
}
END_TEST

START_TEST(a_state_batch_with_a_names_row_is_a_bug)
{
	struct meta_batch *batch = meta_batch_new(mt.m, META_STATE);

	mt_batch_text(batch, ROW_OBJECT, 1, "wrong family");
}
END_TEST

START_TEST(a_batch_committed_twice_is_a_bug)
{
	struct meta_batch *batch = meta_batch_new(mt.m, META_STATE);

	mt_batch_text(batch, ROW_SCO, 1, "once");
	ck_assert_int_eq(meta_commit(mt.m, batch, 0, &mt.e), 0);
	(void)!meta_commit(mt.m, batch, 0, &mt.e);
}
END_TEST

/* ---- SIGKILL of a real process, RocksDB only ---- */

#define KILL_ROUNDS 4u
#define KILL_AFTER  300u

struct progress { /* shared with the child */
	uint64_t names, state, state_flushed, synced_sequence;
};

static void victim(struct progress *p, int ready)
{
	const uint64_t first = p->state;

	mt_rocks_open();
	for (uint64_t i = first;; i++) {
		mt_put_text(ROW_OBJECT, i, "name", i % 40 == 0 ? META_SYNC : 0);
		__atomic_store_n(&p->names, max_u64(p->names, i + 1), __ATOMIC_SEQ_CST);
		mt_put_text(ROW_SCO, i, "state", 0);
		__atomic_store_n(&p->state, i + 1, __ATOMIC_SEQ_CST);
		if (i % 64 == 63) {
			mt_flush();
			__atomic_store_n(&p->state_flushed, i + 1, __ATOMIC_SEQ_CST);
		}
		__atomic_store_n(&p->synced_sequence, meta_synced_sequence(mt.m), __ATOMIC_SEQ_CST);
		if (i == first + KILL_AFTER)
			ck_assert_int_eq(write(ready, "x", 1), 1);
	}
}

static void run_and_kill_victim(struct progress *p)
{
	int pipe_fds[2], status;
	char byte;
	pid_t child;

	ck_assert_int_eq(pipe(pipe_fds), 0);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		check_messages_leave();
		victim(p, pipe_fds[1]);
		_exit(0);
	}
	(void)close(pipe_fds[1]);
	/* From here on it goes on committing, until the signal finds it. */
	ck_assert_int_eq(read(pipe_fds[0], &byte, 1), 1);
	ck_assert_int_eq(kill(child, SIGKILL), 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	(void)close(pipe_fds[0]);
}

/* One judge for each round, in a process of its own: RocksDB's threads don't live across fork. */
static void judge(struct progress *p)
{
	uint64_t state = 0;

	mt_rocks_open();
	ck_assert_uint_ge(meta_sequence(mt.m), p->synced_sequence);
	for (uint64_t i = 0; i < p->names; i++)
		mt_ck_text(ROW_OBJECT, i, "name");
	while (mt_get(ROW_SCO, state) == 0)
		state++;
	ck_assert_uint_ge(state, p->state_flushed);
	ck_assert_uint_le(state, p->state + 1);
	for (uint64_t i = state; i < p->state + 10; i++)
		ck_assert_int_eq(mt_get(ROW_SCO, i), -ENOENT);
	p->state = state; /* where the next victim goes on */
	meta_close(mt.m);
}

START_TEST(a_killed_process_loses_no_name_and_no_flushed_state)
{
	struct progress *p =
		mmap(NULL, sizeof(*p), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;

	ck_assert(p != MAP_FAILED);
	memset(&mt, 0, sizeof(mt));
	buf_init(&mt.got, META_VALUE_MAX);
	mt_rocks_make();
	for (unsigned int round = 0; round < KILL_ROUNDS; round++) {
		pid_t child;

		run_and_kill_victim(p);
		child = fork();
		if (child == 0) {
			judge(p);
			exit(0);
		}
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	}
	ck_assert_uint_ge(p->names, KILL_ROUNDS * KILL_AFTER / 2);
	mt_remove_dir(mt.dir);
	buf_done(&mt.got);
	ck_assert_int_eq(munmap(p, sizeof(*p)), 0);
}
END_TEST

static void add_tests(Suite *suite, const char *name, void (*fixture)(void))
{
	TCase *tests = tcase_create(name);

	tcase_add_checked_fixture(tests, fixture, mt_teardown);
	tcase_add_test(tests, batches_are_seen_whole_or_not_at_all);
	tcase_add_test(tests, the_sequence_counts_rows);
	tcase_add_test(tests, a_sync_covers_names_and_not_the_state_committed_since);
	tcase_add_test(tests, a_flush_does_not_claim_the_names_committed_since);
	tcase_add_test(tests, a_synced_commit_covers_itself_and_all_names_before);
	tcase_add_test(tests, sync_and_flush_of_nothing_do_nothing);
	tcase_add_test(tests, names_survive_the_process_without_a_sync);
	tcase_add_test(tests, flushed_state_survives_and_later_commits_do_as_a_prefix);
	tcase_add_test(tests, the_sequence_never_falls_behind_what_was_synced);
	tcase_add_test(tests, all_is_there_after_a_close_that_followed_sync_and_flush);
	tcase_add_test(tests, a_second_opener_is_refused);
	suite_add_tcase(suite, tests);
}

/* Those that need a process of their own. The bugs are caught in meta.c, before any store. */
static void add_process_tests(Suite *suite)
{
	TCase *process = tcase_create("process"), *death = tcase_create("death");

	tcase_add_test(process, a_killed_process_loses_no_name_and_no_flushed_state);
	suite_add_tcase(suite, process);

	tcase_add_checked_fixture(death, mt_setup_mem, mt_teardown);
	tcase_add_test_raise_signal(death, a_names_batch_with_a_state_row_is_a_bug, SIGABRT);
	tcase_add_test_raise_signal(death, a_state_batch_with_a_names_row_is_a_bug, SIGABRT);
	tcase_add_test_raise_signal(death, a_batch_committed_twice_is_a_bug, SIGABRT);
	suite_add_tcase(suite, death);
}

int main(void)
{
	Suite *suite = suite_create("contract/meta_survival");
	SRunner *runner;
	int failed;

	add_tests(suite, "mem", mt_setup_mem);
	add_tests(suite, "rocksdb", mt_setup_rocks);
	runner = srunner_create(suite);
	if (srunner_fork_status(runner) == CK_FORK)
		add_process_tests(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
