/* A write that a process did not come to answer is gone on with by the next one, and no part twice. */
#include "support_pool.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CLUSTERS 6u
#define LEN	 ((size_t)CLUSTERS * 4096)

static struct world {
	uint64_t disk;
	struct volume_witness witness;
} * world;

static uint8_t *first, *second;

/* In a process of its own: one that opened a pool starts no others that do. */
static void create_pool(UNUSED int to_parent, UNUSED void *arg)
{
	pool_fixture_create();
}

static void begin(void)
{
	pf.options.flush_interval_ns = HOUR_NS;
	first = pattern_mem(LEN, 1);
	second = pattern_mem(LEN, 2);
	memset(first + 2 * 4096, 0, 4096); /* an entry of its own in between */
	world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	ck_assert_ptr_ne(world, MAP_FAILED);
	in_child(create_pool, NULL);
}

/* As a worker does it. The offset is not aligned: parts of clusters at both ends. */
static ssize_t write_witnessed(struct object *o, uint8_t *bytes)
{
	struct volume_request r = {
		.object = o,
		.write = true,
		.offset_bytes = 512,
		.buf = bytes,
		.len_bytes = LEN - 1024,
		.witness = &world->witness,
	};

	ck_assert_int_eq(volume_submit(&r), 1);
	return r.result;
}

static void write_both(int to_parent, void *arg)
{
	struct object *o;

	(void)to_parent;
	(void)arg;
	pool_fixture_open();
	o = make_object(OBJECT_DISK);
	world->disk = id_of(o);
	ck_assert_int_eq(write_witnessed(o, first), LEN - 1024);
	ck_assert_uint_eq(world->witness.done_bytes, LEN - 1024);
	/* Whoever has seen the first one writes over a part of it. */
	write_bytes(o, 4096, second, 4096);
}

START_TEST(what_was_done_is_not_done_again)
{
	struct object *o;

	in_child_killed(write_both, NULL);
	pool_fixture_open();
	o = get_object(world->disk);
	ck_assert_int_eq(write_witnessed(o, first), LEN - 1024);
	expect_bytes(o, 4096, second, 4096);
	expect_bytes(o, 8192, first + 8192 - 512, LEN - 8192 - 512);
	object_close(o);
}
END_TEST

START_TEST(what_was_done_in_part_is_gone_on_with)
{
	struct object *o;

	in_child_killed(write_both, NULL);
	/* As if it had been killed in the middle of its third entry: two clusters were done. */
	world->witness.done_bytes = 2 * 4096 - 512;
	world->witness.lsn = 0;
	pool_fixture_open();
	o = get_object(world->disk);
	ck_assert_int_eq(write_witnessed(o, second), LEN - 1024);
	expect_bytes(o, 512, first, 4096 - 512);
	expect_bytes(o, 4096, second, 4096);
	expect_bytes(o, 8192, second + 8192 - 512, LEN - 8192 - 512);
	object_close(o);
}
END_TEST

/* Killed between the publication of the last entry and the note of it. */
START_TEST(a_publication_that_was_not_noted_is_found_in_the_log)
{
	struct volume_witness *list[] = { &world->witness };

	in_child_killed(write_both, NULL);
	ck_assert_uint_ne(world->witness.lsn, 0);
	ck_assert_uint_eq(world->witness.next_bytes, LEN - 1024);
	world->witness.done_bytes = LEN - 4096;
	pf.options.witnesses = list;
	pf.options.witness_count = 1;
	pool_fixture_open();
	ck_assert_uint_eq(world->witness.done_bytes, LEN - 1024);
}
END_TEST

/* Killed between taking the LSN and the publication: the next process gives it to somebody else. */
START_TEST(an_entry_that_was_never_published_is_not_done)
{
	struct volume_witness *list[] = { &world->witness };

	in_child_killed(write_both, NULL);
	world->witness.done_bytes = LEN - 4096;
	world->witness.lsn += 2; /* one is that of the write over it */
	pf.options.witnesses = list;
	pf.options.witness_count = 1;
	pool_fixture_open();
	ck_assert_uint_eq(world->witness.done_bytes, LEN - 4096);
	ck_assert_uint_eq(world->witness.lsn, 0);
}
END_TEST

/* Nothing is told of what the last process did not leave open, nor of another disk's writes. */
START_TEST(of_what_nobody_waits_for_nothing_is_told)
{
	struct volume_witness finished, none, elsewhere;
	struct volume_witness *list[] = { &finished, &none, &elsewhere };

	in_child_killed(write_both, NULL);
	finished = none = elsewhere = world->witness;
	ck_assert_uint_eq(finished.done_bytes, finished.next_bytes);
	none.done_bytes = elsewhere.done_bytes = LEN - 4096;
	none.lsn = 0;
	elsewhere.stream++;
	pf.options.witnesses = list;
	pf.options.witness_count = 3;
	pool_fixture_open();
	ck_assert_uint_eq(finished.done_bytes, LEN - 1024);
	ck_assert_uint_eq(finished.lsn, world->witness.lsn);
	ck_assert_uint_eq(none.done_bytes, LEN - 4096);
	ck_assert_uint_eq(elsewhere.done_bytes, LEN - 4096);
	ck_assert_uint_eq(elsewhere.lsn, world->witness.lsn);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("volume/witness");
	TCase *t = tcase_create("witness");
	SRunner *runner = srunner_create(s);
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_test(t, what_was_done_is_not_done_again);
	tcase_add_test(t, what_was_done_in_part_is_gone_on_with);
	tcase_add_test(t, a_publication_that_was_not_noted_is_found_in_the_log);
	tcase_add_test(t, an_entry_that_was_never_published_is_not_done);
	tcase_add_test(t, of_what_nobody_waits_for_nothing_is_told);
	suite_add_tcase(s, t);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
