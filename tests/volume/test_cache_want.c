/* Several who want the same, wishes, threads. */
#include "tests/volume/support_cache.h"

#include <check.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define READERS 8u

struct reader {
	struct thread *thread;
	struct cache_sco s;
	uint64_t offset_bytes;
	size_t len_bytes;
	int result;
	uint8_t mem[64 * 1024];
	struct err e;
};

static void read_it(void *arg)
{
	struct reader *rd = arg;

	rd->result = cache_read(cf.cache, &rd->s, rd->offset_bytes, rd->len_bytes, rd->mem, &rd->e);
}

static struct reader *start_reader(uint64_t sco, uint64_t offset_bytes, size_t len_bytes)
{
	struct reader *rd = calloc(1, sizeof(*rd));

	rd->s = cf_sco(sco);
	rd->offset_bytes = offset_bytes;
	rd->len_bytes = len_bytes;
	ck_assert_int_eq(thread_start("reader", read_it, rd, &rd->thread), 0);
	return rd;
}

static void end_reader(struct reader *rd, int result)
{
	uint8_t want[64 * 1024];

	thread_join(rd->thread);
	ck_assert_int_eq(rd->result, result);
	if (result == 0) {
		cf_bytes(&rd->s, rd->offset_bytes, want, rd->len_bytes);
		ck_assert_mem_eq(rd->mem, want, rd->len_bytes);
	}
	free(rd);
}

/* Until so many reads wait for another's GET. */
static void await_shared(uint64_t count)
{
	while (counter_get(&cf.metrics.shared) < count)
		sched_yield();
}

START_TEST(readers_of_one_piece_share_its_get)
{
	struct reader *rd[READERS];

	cf_set_gate(true);
	rd[0] = start_reader(5, 0, 64 * KIB);
	cf_await_gate(1);
	for (unsigned int i = 1; i < READERS; i++)
		rd[i] = start_reader(5, i * 4 * KIB + i, 16 * KIB);
	await_shared(READERS - 1);
	cf_set_gate(false);
	for (unsigned int i = 0; i < READERS; i++)
		end_reader(rd[i], 0);
	ck_assert_uint_eq(cf_gets(), 1);
	ck_assert_uint_eq(cf_get_bytes(), 64 * KIB);
}
END_TEST

START_TEST(a_get_is_shared_also_when_nothing_can_be_kept)
{
	struct reader *rd[READERS];

	flash_account(cf.flash, 0, 0, cf.flash_bytes);
	cf_set_gate(true);
	rd[0] = start_reader(5, 0, 64 * KIB);
	cf_await_gate(1);
	for (unsigned int i = 1; i < READERS; i++)
		rd[i] = start_reader(5, 0, 64 * KIB);
	await_shared(READERS - 1);
	cf_set_gate(false);
	for (unsigned int i = 0; i < READERS; i++)
		end_reader(rd[i], 0);
	ck_assert_uint_eq(cf_gets(), 1);
	flash_account(cf.flash, 0, cf.flash_bytes, 0);
}
END_TEST

START_TEST(who_came_into_a_get_that_fails_tries_himself)
{
	struct reader *rd[3];

	cf.fail_code = -ETIMEDOUT;
	cf.fail_gets = 1;
	cf_set_gate(true);
	rd[0] = start_reader(5, 0, 64 * KIB);
	cf_await_gate(1);
	rd[1] = start_reader(5, 0, 64 * KIB);
	rd[2] = start_reader(5, 0, 64 * KIB);
	await_shared(2);
	cf_set_gate(false);
	end_reader(rd[0], -ETIMEDOUT);
	end_reader(rd[1], 0);
	end_reader(rd[2], 0);
	ck_assert_uint_eq(cf_gets(), 1);
}
END_TEST

START_TEST(a_get_that_began_later_fails_for_all_who_wait)
{
	struct reader *rd[3];

	cf.fail_code = -ETIMEDOUT;
	cf.fail_gets = 2;
	cf_set_gate(true);
	rd[0] = start_reader(5, 0, 64 * KIB);
	cf_await_gate(1);
	rd[1] = start_reader(5, 0, 64 * KIB);
	rd[2] = start_reader(5, 0, 64 * KIB);
	await_shared(2);
	cf_let_pass();
	end_reader(rd[0], -ETIMEDOUT);
	/* One of the two tries again, the other waits for that. */
	await_shared(3);
	cf_await_gate(1);
	cf_set_gate(false);
	end_reader(rd[1], -ETIMEDOUT);
	end_reader(rd[2], -ETIMEDOUT);
	ck_assert_uint_eq(cf.fail_gets, 0);
	ck_assert_uint_eq(cf_gets(), 0);
}
END_TEST

START_TEST(what_is_there_is_read_while_the_rest_of_its_chunk_comes)
{
	struct cache_sco s = cf_sco(5);
	struct cache_hold hold;
	struct reader *rd;

	cf_must_read(&s, 0, 16 * KIB);
	cf_set_gate(true);
	rd = start_reader(5, 16 * KIB, 16 * KIB);
	cf_await_gate(1);
	cf_must_read(&s, 0, 16 * KIB);
	ck_assert(cache_hold(cf.cache, &s, 0, 16 * KIB, &hold));
	ck_assert(!cache_has(cf.cache, &s, 16 * KIB, 4 * KIB));
	cf_must_hold(&hold, &s, 0, 16 * KIB);
	cache_release(cf.cache, &hold);
	cf_set_gate(false);
	end_reader(rd, 0);
}
END_TEST

START_TEST(a_sco_that_dies_while_it_is_fetched_is_not_kept)
{
	struct cache_sco s = cf_sco(5);
	struct reader *rd;

	cf_set_gate(true);
	rd = start_reader(5, 0, 64 * KIB);
	cf_await_gate(1);
	cache_forget(cf.cache, 5, s.file_bytes);
	cf_set_gate(false);
	end_reader(rd, 0);
	ck_assert(!cache_has(cf.cache, &s, 0, 4 * KIB));
}
END_TEST

START_TEST(a_wish_is_served_once)
{
	struct cache_sco s = cf_sco(5);
	struct cache_status st;

	ck_assert_int_eq(cache_want(cf.cache, &s, 20 * KIB, 4 * KIB, false), 1);
	ck_assert_int_eq(cache_want(cf.cache, &s, 20 * KIB, 4 * KIB, false), 1);
	ck_assert_int_eq(cache_want(cf.cache, &s, 24 * KIB, 4 * KIB, false), 1);
	cache_status(cf.cache, &st);
	ck_assert_uint_eq(st.wanted, 1);
	cf_serve();
	ck_assert(cache_has(cf.cache, &s, 16 * KIB, 16 * KIB));
	ck_assert_int_eq(cache_want(cf.cache, &s, 20 * KIB, 4 * KIB, false), 0);
	ck_assert_uint_eq(cf_gets(), 1);
	ck_assert_uint_eq(cf.fetched, 1);
	ck_assert_uint_eq(cache_step(cf.cache), WAIT_FOREVER);
}
END_TEST

START_TEST(a_wish_for_what_is_on_its_way_waits_for_that)
{
	struct cache_sco s = cf_sco(5);
	struct cache_status st;
	struct reader *rd;

	cf_set_gate(true);
	rd = start_reader(5, 0, 64 * KIB);
	cf_await_gate(1);
	ck_assert_int_eq(cache_want(cf.cache, &s, 4 * KIB, 4 * KIB, false), 1);
	cache_status(cf.cache, &st);
	ck_assert_uint_eq(st.wanted, 0);
	cf_set_gate(false);
	end_reader(rd, 0);
	ck_assert_uint_eq(cf.fetched, 1);
}
END_TEST

START_TEST(a_wish_that_fails_is_told_and_the_store_is_spared)
{
	struct cache_sco s = cf_sco(5);

	cf.fail_code = -ENOENT;
	cf.fail_gets = 1;
	ck_assert_int_eq(cache_want(cf.cache, &s, 0, 4 * KIB, false), 1);
	ck_assert_int_eq(cache_want(cf.cache, &s, MIB, 8 * MIB, true), 1);
	ck_assert_uint_eq(cache_step(cf.cache), 0);
	ck_assert_uint_eq(cf.fetched, 1);
	/* What nobody waits for is given up; the next wish is served a moment later. */
	ck_assert_uint_eq(cache_step(cf.cache), WAIT_FOREVER);
	ck_assert_int_eq(cache_want(cf.cache, &s, 0, 4 * KIB, false), 1);
	ck_assert_uint_gt(cache_step(cf.cache), 0);
	ck_assert_uint_eq(cf_gets(), 0);
	cf.late_ns = UINT64_C(1000) * 1000 * 1000;
	cf_serve();
	ck_assert_uint_eq(cf_gets(), 1);
	ck_assert_uint_eq(cf.fetched, 2);
}
END_TEST

START_TEST(the_queue_has_an_end_and_half_of_it_is_for_those_who_wait)
{
	unsigned int ahead = 0, urgent = 0;
	struct cache_status st;

	while (ahead < 2000) {
		struct cache_sco s = cf_sco(1000 + ahead);

		if (cache_want(cf.cache, &s, 0, 4 * KIB, true) < 0)
			break;
		ahead++;
	}
	while (urgent < 2000) {
		struct cache_sco s = cf_sco(5000 + urgent);

		if (cache_want(cf.cache, &s, 0, 4 * KIB, false) < 0)
			break;
		urgent++;
	}
	ck_assert_uint_eq(ahead, 512);
	ck_assert_uint_eq(urgent, 512);
	/* Who waits comes first. */
	ck_assert_uint_eq(cache_step(cf.cache), 0);
	ck_assert_uint_eq(cf.fetched, 1);
	/* The dead wish for nothing. */
	cache_forget(cf.cache, 5001, CF_SCO);
	cache_forget(cf.cache, 1000, CF_SCO);
	cache_status(cf.cache, &st);
	ck_assert_uint_eq(st.wanted, 1024 - 3);
	cf_serve();
	ck_assert_uint_eq(cf.fetched, 511);
	ck_assert_uint_eq(cf_gets(), 1024 - 2);
	ck_assert_uint_eq(counter_get(&cf.metrics.ahead_fetches), 511);
}
END_TEST

START_TEST(what_came_ahead_and_was_read_once_is_no_hot_data)
{
	struct cache_sco s = cf_sco(5), hot = cf_sco(6);

	cf_close();
	cf.flash_bytes = 12 * MIB;
	cf.options.sco_bytes = 512 * KIB;
	cf_open();
	ck_assert_int_eq(cache_want(cf.cache, &s, 0, 64 * KIB, true), 1);
	ck_assert_int_eq(cache_want(cf.cache, &hot, 0, 64 * KIB, true), 1);
	cf_serve();
	cf_must_read(&s, 0, 64 * KIB);
	cf_must_read(&hot, 0, 64 * KIB);
	cf_must_read(&hot, 0, 64 * KIB);
	for (uint64_t n = 0; n < 2; n++) {
		struct cache_sco scan = cf_sco(100 + n);

		cf_must_read(&scan, 0, CF_SCO);
	}
	ck_assert(!cache_has(cf.cache, &s, 0, 4 * KIB));
	ck_assert(cache_has(cf.cache, &hot, 0, 64 * KIB));
}
END_TEST

static void start_threads(unsigned int count)
{
	cf_close();
	cf.options.fetches_max = count;
	cf_open();
}

START_TEST(threads_serve_a_long_wish_together)
{
	const struct timespec moment = { .tv_nsec = 20 * 1000 * 1000 };
	struct cache_sco s = cf_sco(5), other[4];

	start_threads(4);
	cf_set_gate(true);
	for (unsigned int i = 0; i < 4; i++) {
		other[i] = cf_sco(10 + i);
		ck_assert_int_eq(cache_want(cf.cache, &other[i], 0, 16 * KIB, true), 1);
	}
	cf_await_gate(4);
	cf_set_gate(false);
	for (unsigned int i = 0; i < 4; i++)
		while (!cache_has(cf.cache, &other[i], 0, 16 * KIB))
			sched_yield();
	/* Most likely they sleep now: those that do must be woken, all. */
	(void)nanosleep(&moment, NULL);
	cf_set_gate(true);
	ck_assert_int_eq(cache_want(cf.cache, &s, 0, 8 * MIB, true), 1);
	cf_await_gate(4);
	cf_set_gate(false);
	while (!cache_has(cf.cache, &s, 0, 8 * MIB))
		sched_yield();
	ck_assert_uint_eq(cf_gets(), 4 + 8 * MIB / CACHE_FETCH_BYTES_MAX);
	ck_assert_uint_eq(cf_get_bytes(), 4 * 16 * KIB + 8 * MIB);
	ck_assert_uint_eq(cf.fetched, 0);
}
END_TEST

/* --- all at once ------------------------------------------------------------------------------- */

struct player {
	struct thread *thread;
	unsigned int seed;
	unsigned int kind;
};

static uint64_t pick(struct player *p, uint64_t below)
{
	return (uint64_t)rand_r(&p->seed) % below;
}

static void play_reader(struct player *p, const struct cache_sco *s)
{
	uint64_t at = pick(p, 4 * MIB / 4096) * 4096;
	struct cache_hold hold;

	if (cache_hold(cf.cache, s, at, 4096, &hold)) {
		cf_must_hold(&hold, s, at, 4096);
		cache_release(cf.cache, &hold);
	}
	cf_must_read(s, at, 1 + (size_t)pick(p, 100 * KIB));
}

static void play(void *arg)
{
	struct player *p = arg;

	for (unsigned int i = 0; i < 400; i++) {
		struct cache_sco s = cf_sco(1 + pick(p, 6));
		uint64_t at = pick(p, 4 * MIB / 4096) * 4096;

		switch (p->kind < 4 ? 0 : p->kind) {
		case 0:
			play_reader(p, &s);
			break;
		case 4:
			(void)cache_want(cf.cache, &s, at, (size_t)pick(p, 512 * KIB),
					 pick(p, 2) == 0);
			break;
		case 5:
			if (pick(p, 4) == 0)
				(void)cache_shrink(cf.cache, pick(p, MIB));
			else
				cache_drop(cf.cache, &s, at, 4096);
			break;
		case 6:
			if (pick(p, 8) == 0)
				cache_forget(cf.cache, s.sco, s.file_bytes);
			else
				(void)cache_has(cf.cache, &s, at, 64 * KIB);
			break;
		default: {
			uint8_t *mem = aligned_alloc(ENV_DIRECT_ALIGN, 128 * KIB);

			cf_bytes(&s, at, mem, 128 * KIB);
			cache_put(cf.cache, &s, at, 128 * KIB, mem);
			free(mem);
		}
		}
	}
}

START_TEST(all_at_once)
{
	struct player players[8];
	struct cache_status st;

	cf.flash_bytes = 12 * MIB;
	cf.options.sco_bytes = 512 * KIB;
	start_threads(2);
	for (unsigned int i = 0; i < ARRAY_SIZE(players); i++) {
		players[i] = (struct player){ .kind = i, .seed = i + 1 };
		ck_assert_int_eq(thread_start("player", play, &players[i], &players[i].thread), 0);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(players); i++)
		thread_join(players[i].thread);
	cache_stop(cf.cache);
	cache_status(cf.cache, &st);
	ck_assert_uint_eq(flash_used_bytes(cf.flash), st.used_bytes);
	ck_assert_uint_eq(cache_shrink(cf.cache, UINT64_MAX), st.used_bytes);
	cache_status(cf.cache, &st);
	ck_assert_uint_eq(st.present_bytes, 0);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("cache_want");
	TCase *tc = tcase_create("cache_want");

	tcase_add_checked_fixture(tc, cf_begin, cf_end);
	tcase_add_test(tc, readers_of_one_piece_share_its_get);
	tcase_add_test(tc, a_get_is_shared_also_when_nothing_can_be_kept);
	tcase_add_test(tc, who_came_into_a_get_that_fails_tries_himself);
	tcase_add_test(tc, a_get_that_began_later_fails_for_all_who_wait);
	tcase_add_test(tc, what_is_there_is_read_while_the_rest_of_its_chunk_comes);
	tcase_add_test(tc, a_sco_that_dies_while_it_is_fetched_is_not_kept);
	tcase_add_test(tc, a_wish_is_served_once);
	tcase_add_test(tc, a_wish_for_what_is_on_its_way_waits_for_that);
	tcase_add_test(tc, a_wish_that_fails_is_told_and_the_store_is_spared);
	tcase_add_test(tc, the_queue_has_an_end_and_half_of_it_is_for_those_who_wait);
	tcase_add_test(tc, what_came_ahead_and_was_read_once_is_no_hot_data);
	tcase_add_test(tc, threads_serve_a_long_wish_together);
	tcase_add_test(tc, all_at_once);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *r = srunner_create(suite());
	int failed;

	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
