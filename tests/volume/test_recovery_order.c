/* What counts of a log, in which order, and where it ends. */
#include "volume/recovery.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define RING_EPOCH 5u

static struct replay rp;
static struct ring_old ring;
static struct sco young = { .number = 9, .epoch = RING_EPOCH };
static struct sco old = { .number = 8, .epoch = RING_EPOCH - 1 };

static void begin(void)
{
	rp = (struct replay){ .ring_epoch = RING_EPOCH };
}

static void end(void)
{
	free(rp.entries);
}

static void add(lsn_t lsn, struct sco *sco, bool from_ring)
{
	static const uint8_t block[1];
	struct log_entry entry = {
		.lsn = lsn, .object = 1000 + lsn, .cluster_count = 1, .kind = ENTRY_DATA
	};

	ck_assert_int_eq(replay_add(&rp, &entry, sco, from_ring ? block : NULL), 0);
}

static void add_void(lsn_t first, uint32_t count)
{
	add(first, NULL, false);
	rp.entries[rp.count - 1].entry.kind = ENTRY_VOID;
	rp.entries[rp.count - 1].entry.cluster_count = count;
}

static void order(void)
{
	struct err e = { 0 };

	ck_assert_msg(recovery_order(&rp, &e) == 0, "%s", e.message);
}

/* These LSNs are left, each with its own entry, and the log ends there. */
static void expect(const lsn_t *lsns, size_t count, lsn_t last)
{
	ck_assert_uint_eq(rp.count, count);
	for (size_t i = 0; i < count; i++) {
		ck_assert_uint_eq(rp.entries[i].entry.lsn, lsns[i]);
		ck_assert_uint_eq(rp.entries[i].entry.object, 1000 + lsns[i]);
	}
	ck_assert_uint_eq(rp.end, last);
}

/* --- order ------------------------------------------------------------------------------------- */

/* Each of several logs is in order; of many the merging is given up for a sort. */
START_TEST(logs_that_lie_beside_one_another_become_one)
{
	static const unsigned int logs[] = { 1, 2, 3, 7, 16, 64, 300 };
	const unsigned int count = 3000, many = logs[_i];

	rp.checkpoint_lsn = 50;
	for (unsigned int log = 0; log < many; log++)
		for (unsigned int i = log; i < count; i += many)
			add(51 + i, i % 3 ? &young : &old, i % 5 == 0);
	order();
	ck_assert_uint_eq(rp.count, count);
	for (unsigned int i = 0; i < count; i++)
		if (rp.entries[i].entry.lsn != 51 + i || rp.entries[i].entry.object != 1051 + i ||
		    rp.entries[i].sco != (i % 3 ? &young : &old) ||
		    rp.entries[i].from_ring != (i % 5 == 0))
			ck_abort_msg("of %u logs: entry %u is another one", many, i);
	ck_assert_uint_eq(rp.end, 50 + count);
	ck_assert(!rp.damaged);
}
END_TEST

/* In whatever order they were found. */
START_TEST(of_copies_the_rings_counts_then_the_younger_epochs)
{
	static const unsigned int orders[][3] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 },
						  { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 } };

	for (unsigned int with_ring = 0; with_ring < 2; with_ring++)
		for (size_t n = 0; n < ARRAY_SIZE(orders); n++) {
			end();
			begin();
			for (unsigned int i = 0; i < 3; i++) {
				unsigned int what = orders[n][i];

				if (what == 0)
					add(1, &old, false);
				else if (what == 1)
					add(1, &young, false);
				else if (with_ring)
					add(1, NULL, true);
			}
			order();
			expect((lsn_t[]){ 1 }, 1, 1);
			ck_assert_int_eq(rp.entries[0].from_ring, with_ring);
			ck_assert_ptr_eq(rp.entries[0].sco, with_ring ? NULL : &young);
		}
}
END_TEST

START_TEST(what_the_checkpoint_has_does_not_count)
{
	rp.checkpoint_lsn = 3;
	for (lsn_t lsn = 1; lsn <= 5; lsn++)
		add(lsn, &young, false);
	order();
	expect((lsn_t[]){ 4, 5 }, 2, 5);
}
END_TEST

START_TEST(a_log_of_nothing_ends_at_the_checkpoint)
{
	rp.checkpoint_lsn = 7;
	add(6, &young, false);
	order();
	expect(NULL, 0, 7);
	ck_assert(!rp.damaged);
}
END_TEST

START_TEST(lsns_given_up_are_no_gap)
{
	add(1, &young, false);
	add_void(2, 3);
	add(5, &young, false);
	add(3, &old, false); /* the copy of one of them: a duplicate */
	order();
	expect((lsn_t[]){ 1, 2, 5 }, 3, 5);
	ck_assert_uint_eq(rp.entries[1].entry.kind, ENTRY_VOID);
}
END_TEST

/* --- gaps -------------------------------------------------------------------------------------- */

START_TEST(without_a_ring_the_log_ends_at_the_first_gap)
{
	add(1, &young, false);
	add(2, &young, false);
	add(4, &young, false);
	rp.recorded_durable = 2;
	order();
	expect((lsn_t[]){ 1, 2 }, 2, 2);
	ck_assert(!rp.damaged);
}
END_TEST

START_TEST(a_gap_in_what_was_durable_is_damage)
{
	rp.old = _i ? &ring : NULL;
	add(1, &young, false);
	add(2, &young, false);
	add(4, &young, false);
	rp.recorded_durable = 4;
	order();
	ck_assert(rp.damaged);
	ck_assert_uint_eq(rp.end, 2);
	ck_assert_ptr_nonnull(strstr(rp.damage, _i ? "LSN 3 is missing" : "ends at LSN 2"));
	/* With the ring what is behind the gap stays known, so that its LSNs are not given out. */
	ck_assert_uint_eq(rp.count, _i ? 3 : 2);
}
END_TEST

/* The writer died between taking the LSN and publishing. */
START_TEST(with_a_ring_what_is_behind_a_gap_counts_if_it_is_of_its_process)
{
	rp.old = &ring;
	add(1, &young, false);
	add(3, &young, false); /* of the process whose ring it is */
	add(5, &old, false);   /* given up by an older one, behind a gap of its own */
	add(6, &old, true);    /* in the ring, wherever its clusters are */
	add(8, NULL, true);
	rp.recorded_durable = 1;
	order();
	expect((lsn_t[]){ 1, 3, 6, 8 }, 4, 8);
	ck_assert(!rp.damaged);
}
END_TEST

START_TEST(a_lost_batch_of_a_dead_process_makes_the_next_gap_damage)
{
	rp.old = &ring;
	rp.tail_lost = true;
	rp.lost_sco = 33;
	rp.lost_slot = 44;
	add(1, &young, false);
	add(3, &young, false);
	order();
	ck_assert(rp.damaged);
	ck_assert_uint_eq(rp.end, 1);
	ck_assert_ptr_nonnull(strstr(rp.damage, "LSN 2 is missing"));
	/* Where nothing is behind it, that is the damage. */
	end();
	begin();
	rp.tail_lost = true;
	rp.lost_sco = 33;
	rp.lost_slot = 44;
	add(1, &young, false);
	order();
	ck_assert(rp.damaged);
	ck_assert_uint_eq(rp.end, 1);
	ck_assert_ptr_nonnull(strstr(rp.damage, "SCO 33: the batch at slot 44"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("recovery_order");
	TCase *t = tcase_create("recovery_order");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(t, begin, end);
	tcase_add_loop_test(t, logs_that_lie_beside_one_another_become_one, 0, 7);
	tcase_add_test(t, of_copies_the_rings_counts_then_the_younger_epochs);
	tcase_add_test(t, what_the_checkpoint_has_does_not_count);
	tcase_add_test(t, a_log_of_nothing_ends_at_the_checkpoint);
	tcase_add_test(t, lsns_given_up_are_no_gap);
	tcase_add_test(t, without_a_ring_the_log_ends_at_the_first_gap);
	tcase_add_loop_test(t, a_gap_in_what_was_durable_is_damage, 0, 2);
	tcase_add_test(t, with_a_ring_what_is_behind_a_gap_counts_if_it_is_of_its_process);
	tcase_add_test(t, a_lost_batch_of_a_dead_process_makes_the_next_gap_damage);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
