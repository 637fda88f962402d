/*
 * Merging map pages: against an array that is told the same, whatever way the changes are cut.
 */
#include "volume/meta.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_MAX (UINT64_C(1) << 20)
#define SCO	 UINT64_C(5)
#define DELTAS	 12u

static struct {
	struct buf base, deltas[DELTAS], out;
	struct err e;
} fx;

static void setup(void)
{
	memset(&fx, 0, sizeof(fx));
	buf_init(&fx.base, PAGE_MAX);
	buf_init(&fx.out, PAGE_MAX);
	for (unsigned int i = 0; i < DELTAS; i++)
		buf_init(&fx.deltas[i], PAGE_MAX);
}

static void teardown(void)
{
	buf_done(&fx.base);
	buf_done(&fx.out);
	for (unsigned int i = 0; i < DELTAS; i++)
		buf_done(&fx.deltas[i]);
}

/* ---- the model: one entry a cluster ---- */

struct entry {
	loc_t loc;
	uint32_t crc;
	bool has_crc;
};

struct model {
	struct entry entries[PAGE_CLUSTERS];
	unsigned int runs; /* of the last value that was read into it */
};

static void model_run(void *arg, const struct page_run *run)
{
	struct model *m = arg;

	m->runs++;
	for (unsigned int i = 0; i < run->count; i++) {
		struct entry *entry = &m->entries[run->first + i];

		memset(entry, 0, sizeof(*entry));
		entry->loc = loc_is_place(run->loc) ? run->loc + i : run->loc;
		entry->has_crc = run->crcs != NULL;
		if (run->crcs != NULL)
			entry->crc = run->crcs[i];
	}
}

static enum page_value_kind model_read(struct model *m, const struct buf *value)
{
	enum page_value_kind kind;

	m->runs = 0;
	ck_assert_int_eq(page_value_decode(value->data, value->len_bytes, &kind, model_run, m,
					   &fx.e),
			 0);
	return kind;
}

static void ck_same(const struct model *a, const struct model *b)
{
	for (unsigned int i = 0; i < PAGE_CLUSTERS; i++) {
		ck_assert_msg(a->entries[i].loc == b->entries[i].loc, "cluster %u", i);
		ck_assert_msg(a->entries[i].has_crc == b->entries[i].has_crc, "cluster %u", i);
		ck_assert_msg(a->entries[i].crc == b->entries[i].crc, "cluster %u", i);
	}
}

static int merge(const struct buf *base, unsigned int first, unsigned int count, struct buf *out)
{
	const uint8_t *values[DELTAS];
	size_t bytes[DELTAS];

	for (unsigned int i = 0; i < count; i++) {
		values[i] = fx.deltas[first + i].data;
		bytes[i] = fx.deltas[first + i].len_bytes;
	}
	buf_clear(out);
	return meta_page_merge(base != NULL ? base->data : NULL, base != NULL ? base->len_bytes : 0,
			       values, bytes, count, out, &fx.e);
}

/* ---- values ---- */

static void encode(struct buf *out, enum page_value_kind kind, const struct page_run *runs,
		   unsigned int count)
{
	buf_clear(out);
	ck_assert_int_eq(page_value_encode(kind, runs, count, out), 0);
}

static uint64_t random_below(uint64_t *state, uint64_t n)
{
	*state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (*state >> 33) % n;
}

static void random_value(struct buf *out, enum page_value_kind kind, uint64_t *state)
{
	static uint32_t crcs[PAGE_CLUSTERS];
	struct page_run runs[PAGE_CLUSTERS];
	const uint64_t longest = random_below(state, 4) == 0 ? PAGE_CLUSTERS : 9;
	const uint64_t gap = random_below(state, 3) == 0 ? 1 : 40;
	unsigned int count = 0;

	for (uint64_t at = random_below(state, gap); at < PAGE_CLUSTERS;) {
		const uint64_t len = 1 + random_below(state, longest);
		struct page_run *run = &runs[count++];

		run->first = (uint16_t)at;
		run->count = (uint16_t)min_u64(len, PAGE_CLUSTERS - at);
		/* Few SCOs and slots, so that runs of different values often touch in slots too. */
		switch (random_below(state, 4)) {
		case 0:
			run->loc = random_below(state, 2) ? LOC_ZERO : LOC_UNMAPPED;
			break;
		case 1:
			run->loc = loc_make((uint32_t)random_below(state, 3),
					    SCO + random_below(state, 2),
					    1 + (uint32_t)random_below(state, 60000));
			break;
		default:
			run->loc = loc_make(0, SCO, 1 + (uint32_t)at);
			break;
		}
		run->crcs = loc_is_place(run->loc) && random_below(state, 3) ? crcs + at : NULL;
		at += run->count + random_below(state, gap);
	}
	for (unsigned int i = 0; i < PAGE_CLUSTERS; i++)
		crcs[i] = (uint32_t)random_below(state, UINT32_MAX);
	encode(out, kind, runs, count);
}

/* ---- splices ---- */

/* A value's runs with checksums of their own, and the look at what a splice tells of them. */
static struct {
	struct page_run runs[PAGE_CLUSTERS];
	uint32_t crcs[PAGE_CLUSTERS];
	unsigned int count;
	const struct model *before;
	unsigned int run, offset; /* of the next cluster that it tells of */
} laid;

static void collect_run(UNUSED void *arg, const struct page_run *run)
{
	struct page_run *to = &laid.runs[laid.count++];

	*to = *run;
	if (run->crcs == NULL)
		return;
	to->crcs = laid.crcs + run->first;
	memcpy(laid.crcs + run->first, run->crcs, run->count * sizeof(uint32_t));
}

static void told(void *arg, loc_t old, loc_t new, unsigned int count)
{
	ck_assert_ptr_eq(arg, &laid);
	for (unsigned int i = 0; i < count; i++) {
		const struct page_run *run = &laid.runs[laid.run];
		const unsigned int at = run->first + laid.offset;

		ck_assert_uint_lt(laid.run, laid.count);
		ck_assert_uint_eq(loc_ahead(old, i), laid.before->entries[at].loc);
		ck_assert_uint_eq(loc_ahead(new, i), loc_ahead(run->loc, laid.offset));
		if (++laid.offset == run->count) {
			laid.offset = 0;
			laid.run++;
		}
	}
}

static int splice(const struct buf *base, const struct buf *delta, const struct model *before)
{
	enum page_value_kind kind;

	laid.count = laid.run = laid.offset = 0;
	laid.before = before;
	ck_assert_int_eq(page_value_decode(delta->data, delta->len_bytes, &kind, collect_run, NULL,
					   &fx.e),
			 0);
	buf_clear(&fx.out);
	return page_value_splice(base->data, base->len_bytes, laid.runs, laid.count, told, &laid,
				 &fx.out, &fx.e);
}

/* ---- tests ---- */

START_TEST(a_splice_gives_the_bytes_of_a_merge_and_tells_what_it_hides)
{
	uint64_t state = (uint64_t)_i + 2000;
	struct buf base, merged;

	buf_init(&base, PAGE_MAX);
	buf_init(&merged, PAGE_MAX);
	for (unsigned int round = 0; round < 60; round++) {
		struct model before = { 0 };

		random_value(&fx.base, PAGE_BASE, &state);
		ck_assert_int_eq(merge(&fx.base, 0, 0, &base), 0); /* its longest runs */
		if (random_below(&state, 8) == 0)
			buf_clear(&base);
		else
			(void)model_read(&before, &base);
		random_value(&fx.deltas[0], PAGE_DELTA, &state);

		ck_assert_int_eq(splice(&base, &fx.deltas[0], &before), 0);
		ck_assert_uint_eq(laid.run, laid.count);
		ck_assert_int_eq(merge(base.len_bytes ? &base : NULL, 0, 1, &merged), 0);
		ck_assert_uint_eq(fx.out.len_bytes, merged.len_bytes);
		ck_assert_mem_eq(fx.out.data, merged.data, merged.len_bytes);
	}
	buf_done(&base);
	buf_done(&merged);
}
END_TEST

START_TEST(random_deltas_over_a_random_base_match_the_model)
{
	uint64_t state = (uint64_t)_i + 1;

	for (unsigned int round = 0; round < 40; round++) {
		struct model model = { 0 }, merged = { 0 };
		const unsigned int count = (unsigned int)random_below(&state, DELTAS + 1);
		const bool has_base = random_below(&state, 4) != 0;

		if (has_base) {
			random_value(&fx.base, PAGE_BASE, &state);
			(void)model_read(&model, &fx.base);
		}
		for (unsigned int i = 0; i < count; i++) {
			random_value(&fx.deltas[i], PAGE_DELTA, &state);
			(void)model_read(&model, &fx.deltas[i]);
		}

		ck_assert_int_eq(merge(has_base ? &fx.base : NULL, 0, count, &fx.out), 0);
		ck_assert_int_eq(model_read(&merged, &fx.out), PAGE_BASE);
		ck_same(&merged, &model);
	}
}
END_TEST

START_TEST(merging_at_once_or_in_steps_gives_the_same_bytes)
{
	uint64_t state = (uint64_t)_i + 1000;
	struct buf step;

	buf_init(&step, PAGE_MAX);
	random_value(&fx.base, PAGE_BASE, &state);
	for (unsigned int i = 0; i < DELTAS; i++)
		random_value(&fx.deltas[i], PAGE_DELTA, &state);

	for (unsigned int cut = 0; cut <= DELTAS; cut++) {
		struct buf whole;

		buf_init(&whole, PAGE_MAX);
		ck_assert_int_eq(merge(&fx.base, 0, DELTAS, &whole), 0);
		ck_assert_int_eq(merge(&fx.base, 0, cut, &step), 0);
		ck_assert_int_eq(merge(&step, cut, DELTAS - cut, &fx.out), 0);
		ck_assert_uint_eq(fx.out.len_bytes, whole.len_bytes);
		ck_assert_mem_eq(fx.out.data, whole.data, whole.len_bytes);
		buf_done(&whole);
	}
	buf_done(&step);
}
END_TEST

START_TEST(runs_that_meet_become_one)
{
	const uint32_t crcs[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	const struct page_run left = { 0, 4, loc_make(0, SCO, 10), crcs };
	const struct page_run right = { 4, 4, loc_make(0, SCO, 14), crcs + 4 };
	struct model m = { 0 };

	encode(&fx.base, PAGE_BASE, &left, 1);
	encode(&fx.deltas[0], PAGE_DELTA, &right, 1);

	ck_assert_int_eq(merge(&fx.base, 0, 1, &fx.out), 0);
	(void)model_read(&m, &fx.out);
	ck_assert_uint_eq(m.runs, 1);
	ck_assert_uint_eq(m.entries[7].crc, 8);
}
END_TEST

START_TEST(a_run_with_and_one_without_checksums_stay_apart)
{
	const uint32_t crcs[4] = { 1, 2, 3, 4 };
	const struct page_run left = { 0, 4, loc_make(0, SCO, 10), crcs };
	const struct page_run right = { 4, 4, loc_make(0, SCO, 14), NULL };
	struct model m = { 0 };

	encode(&fx.base, PAGE_BASE, &left, 1);
	encode(&fx.deltas[0], PAGE_DELTA, &right, 1);

	ck_assert_int_eq(merge(&fx.base, 0, 1, &fx.out), 0);
	(void)model_read(&m, &fx.out);
	ck_assert_uint_eq(m.runs, 2);
	ck_assert(m.entries[3].has_crc && !m.entries[4].has_crc);
}
END_TEST

START_TEST(unmapping_takes_clusters_out_of_the_base)
{
	const struct page_run all = { 0, PAGE_CLUSTERS, LOC_ZERO, NULL };
	const struct page_run none = { 0, PAGE_CLUSTERS, LOC_UNMAPPED, NULL };
	struct model m = { 0 };

	encode(&fx.base, PAGE_BASE, &all, 1);
	encode(&fx.deltas[0], PAGE_DELTA, &none, 1);

	ck_assert_int_eq(merge(&fx.base, 0, 1, &fx.out), 0);
	ck_assert_int_eq(model_read(&m, &fx.out), PAGE_BASE);
	ck_assert_uint_eq(m.runs, 0);
}
END_TEST

START_TEST(a_page_of_512_runs_with_checksums_is_kept)
{
	struct page_run runs[PAGE_CLUSTERS];
	uint32_t crcs[PAGE_CLUSTERS];
	struct model m = { 0 };

	for (unsigned int i = 0; i < PAGE_CLUSTERS; i++) {
		crcs[i] = i * 7;
		runs[i] =
			(struct page_run){ (uint16_t)i, 1, loc_make(0, SCO, 1 + i * 2), &crcs[i] };
	}
	encode(&fx.deltas[0], PAGE_DELTA, runs, PAGE_CLUSTERS);

	ck_assert_int_eq(merge(NULL, 0, 1, &fx.out), 0);
	(void)model_read(&m, &fx.out);
	ck_assert_uint_eq(m.runs, PAGE_CLUSTERS);
	ck_assert_uint_eq(m.entries[511].loc, loc_make(0, SCO, 1023));
	ck_assert_uint_eq(m.entries[511].crc, UINT64_C(511) * 7);
}
END_TEST

START_TEST(the_last_slots_of_a_sco_and_the_first_of_the_next_stay_apart)
{
	const struct page_run end = { 0, 1, loc_make(0, SCO, SCO_SLOTS_MAX - 1), NULL };
	const struct page_run next = { 1, 1, loc_make(0, SCO + 1, 1), NULL };
	struct model m = { 0 };

	encode(&fx.base, PAGE_BASE, &end, 1);
	encode(&fx.deltas[0], PAGE_DELTA, &next, 1);

	ck_assert_int_eq(merge(&fx.base, 0, 1, &fx.out), 0);
	(void)model_read(&m, &fx.out);
	ck_assert_uint_eq(m.runs, 2);
	ck_assert_uint_eq(m.entries[1].loc, loc_make(0, SCO + 1, 1));
}
END_TEST

START_TEST(nothing_over_nothing_is_an_empty_base)
{
	struct model m = { 0 };

	ck_assert_int_eq(merge(NULL, 0, 0, &fx.out), 0);
	ck_assert_int_eq(model_read(&m, &fx.out), PAGE_BASE);
	ck_assert_uint_eq(m.runs, 0);
}
END_TEST

static void some_values(void)
{
	const struct page_run run = { 3, 2, loc_make(0, SCO, 10), NULL };

	encode(&fx.base, PAGE_BASE, &run, 1);
	encode(&fx.deltas[0], PAGE_DELTA, &run, 1);
	encode(&fx.deltas[1], PAGE_DELTA, &run, 1);
}

START_TEST(any_flipped_bit_is_an_error_and_gives_no_page)
{
	some_values();
	for (size_t bit = 0; bit < fx.deltas[1].len_bytes * 8; bit++) {
		fx.deltas[1].data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_int_lt(merge(&fx.base, 0, 2, &fx.out), 0);
		ck_assert_uint_eq(fx.out.len_bytes, 0);
		fx.deltas[1].data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	for (size_t bit = 0; bit < fx.base.len_bytes * 8; bit++) {
		fx.base.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_int_lt(merge(&fx.base, 0, 2, &fx.out), 0);
		ck_assert_uint_eq(fx.out.len_bytes, 0);
		fx.base.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	ck_assert_int_eq(merge(&fx.base, 0, 2, &fx.out), 0);
}
END_TEST

START_TEST(a_value_cut_short_is_an_error)
{
	some_values();
	for (; fx.deltas[1].len_bytes > 0; fx.deltas[1].len_bytes--) {
		if (fx.deltas[1].len_bytes == fx.deltas[0].len_bytes)
			continue;
		ck_assert_int_lt(merge(&fx.base, 0, 2, &fx.out), 0);
	}
}
END_TEST

START_TEST(a_delta_is_no_base_and_a_base_no_delta)
{
	struct buf kept;

	some_values();
	ck_assert_int_eq(merge(&fx.deltas[1], 0, 1, &fx.out), -EUCLEAN);
	kept = fx.deltas[0];
	fx.deltas[0] = fx.base;
	ck_assert_int_eq(merge(NULL, 0, 2, &fx.out), -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(fx.e.message, "delta 1 of 2"));
	fx.deltas[0] = kept;
}
END_TEST

START_TEST(a_splice_into_a_damaged_base_or_a_delta_tells_nothing)
{
	const struct model before = { 0 };

	some_values();
	for (size_t bit = 0; bit < fx.base.len_bytes * 8; bit++) {
		fx.base.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
		ck_assert_int_lt(splice(&fx.base, &fx.deltas[0], &before), 0);
		ck_assert_uint_eq(laid.run + laid.offset + fx.out.len_bytes, 0);
		fx.base.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	while (--fx.base.len_bytes > 0)
		ck_assert_int_lt(splice(&fx.base, &fx.deltas[0], &before), 0);
	ck_assert_int_eq(splice(&fx.deltas[1], &fx.deltas[0], &before), -EUCLEAN);
	ck_assert_uint_eq(laid.run + laid.offset + fx.out.len_bytes, 0);
}
END_TEST

START_TEST(a_result_beyond_the_buffer_is_an_error)
{
	struct buf tiny;

	some_values();
	buf_init(&tiny, 10);
	ck_assert_int_eq(merge(&fx.base, 0, 1, &tiny), -E2BIG);
	ck_assert_uint_eq(tiny.len_bytes, 0);
	buf_done(&tiny);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("volume/meta_page");
	TCase *merging = tcase_create("merging"), *damage = tcase_create("damage");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(merging, setup, teardown);
	tcase_add_loop_test(merging, random_deltas_over_a_random_base_match_the_model, 0, 10);
	tcase_add_loop_test(merging, merging_at_once_or_in_steps_gives_the_same_bytes, 0, 10);
	tcase_add_test(merging, runs_that_meet_become_one);
	tcase_add_test(merging, a_run_with_and_one_without_checksums_stay_apart);
	tcase_add_test(merging, unmapping_takes_clusters_out_of_the_base);
	tcase_add_test(merging, a_page_of_512_runs_with_checksums_is_kept);
	tcase_add_test(merging, the_last_slots_of_a_sco_and_the_first_of_the_next_stay_apart);
	tcase_add_test(merging, nothing_over_nothing_is_an_empty_base);
	tcase_add_loop_test(merging, a_splice_gives_the_bytes_of_a_merge_and_tells_what_it_hides, 0,
			    10);
	suite_add_tcase(suite, merging);

	tcase_add_checked_fixture(damage, setup, teardown);
	tcase_add_test(damage, any_flipped_bit_is_an_error_and_gives_no_page);
	tcase_add_test(damage, a_value_cut_short_is_an_error);
	tcase_add_test(damage, a_delta_is_no_base_and_a_base_no_delta);
	tcase_add_test(damage, a_splice_into_a_damaged_base_or_a_delta_tells_nothing);
	tcase_add_test(damage, a_result_beyond_the_buffer_is_an_error);
	suite_add_tcase(suite, damage);

	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
