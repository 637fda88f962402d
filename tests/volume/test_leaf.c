/* Leaves against a plain array: every form, every conversion, and what they may cost. */
#include "volume/leaf.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

struct model {
	loc_t loc[PAGE_CLUSTERS];
	uint32_t crc[PAGE_CLUSTERS];
	bool has_crc[PAGE_CLUSTERS];
	bool may_lose[PAGE_CLUSTERS]; /* it was part of a stretch of LEAF_EXTENT_MIN */
	enum leaf_state state[PAGE_CLUSTERS];
};

struct fixture {
	struct leaf_pool pool;
	struct leaf leaf;
	struct model model;
	uint64_t rng;
	bool seen[LEAF_TABLE + 1];
};
static struct fixture fx;

static void setup(void)
{
	memset(&fx, 0, sizeof(fx));
	leaf_init(&fx.leaf);
	for (unsigned int i = 0; i < PAGE_CLUSTERS; i++)
		fx.model.loc[i] = LEAF_ABSENT;
	fx.rng = 88172645463325252u;
}

static void teardown(void)
{
	leaf_clear(&fx.pool, &fx.leaf);
	ck_assert_uint_eq(fx.pool.used_bytes, 0);
	leaf_pool_done(&fx.pool);
}

static unsigned int pick(unsigned int n)
{
	fx.rng ^= fx.rng << 13;
	fx.rng ^= fx.rng >> 7;
	fx.rng ^= fx.rng << 17;
	return (unsigned int)(fx.rng >> 20) % n;
}

static loc_t place(uint64_t sco, unsigned int slot)
{
	return loc_make(0, sco, slot);
}

static void model_note_stretches(struct model *m)
{
	for (unsigned int i = 0, end; i < PAGE_CLUSTERS; i = end) {
		end = i + 1;
		if (!loc_is_place(m->loc[i]))
			continue;
		while (end < PAGE_CLUSTERS && m->loc[end] == m->loc[end - 1] + 1)
			end++;
		for (unsigned int j = i; end - i >= LEAF_EXTENT_MIN && j < end; j++)
			m->may_lose[j] = true;
	}
}

static void model_set(struct model *m, unsigned int first, unsigned int count, loc_t loc,
		      const uint32_t *crcs, enum leaf_state state)
{
	for (unsigned int i = 0; i < count; i++) {
		unsigned int at = first + i;

		m->loc[at] = loc_is_place(loc) ? loc + i : loc;
		m->has_crc[at] = crcs && loc_is_place(loc);
		m->crc[at] = crcs ? crcs[i] : 0;
		m->may_lose[at] = false;
		m->state[at] = state;
	}
	model_note_stretches(m);
}

static void set(unsigned int first, unsigned int count, loc_t loc, const uint32_t *crcs,
		enum leaf_state state)
{
	if (leaf_reserve(&fx.pool, &fx.leaf, first, count, crcs && loc_is_place(loc)) < 0)
		ck_abort_msg("no memory");
	leaf_set(&fx.pool, &fx.leaf, first, count, loc, crcs, state);
	model_set(&fx.model, first, count, loc, crcs, state);
}

/* Checked a million times: check's own assertions would each write to its pipe. */
#define MUST(x)                                                                                    \
	do {                                                                                       \
		if (!(x))                                                                          \
			ck_abort_msg("%s:%d: %s", __func__, __LINE__, #x);                         \
	} while (0)

/* From every cluster on. */
static void compare_next(enum leaf_state state)
{
	unsigned int next = PAGE_CLUSTERS;

	MUST(leaf_next(&fx.leaf, PAGE_CLUSTERS, state) == PAGE_CLUSTERS);
	for (unsigned int i = PAGE_CLUSTERS; i-- > 0;) {
		if (fx.model.loc[i] != LEAF_ABSENT && fx.model.state[i] == state)
			next = i;
		MUST(leaf_next(&fx.leaf, i, state) == next);
	}
}

/* The leaf says what the model says, however one asks. */
static void compare(void)
{
	const struct model *m = &fx.model;
	struct leaf_span span;
	bool dirty = false, staged = false;

	leaf_check(&fx.leaf);
	fx.seen[fx.leaf.form] = true;
	MUST(fx.pool.used_bytes == leaf_bytes(&fx.leaf));
	for (unsigned int i = 0; i < PAGE_CLUSTERS; i += span.count) {
		leaf_span_at(&fx.leaf, i, PAGE_CLUSTERS, &span);
		MUST(span.first == i);
		MUST(span.count > 0 && i + span.count <= PAGE_CLUSTERS);
		for (unsigned int j = 0; j < span.count; j++) {
			unsigned int at = i + j;
			loc_t loc = loc_is_place(span.loc) ? span.loc + j : span.loc;

			MUST(loc == m->loc[at]);
			if (loc == LEAF_ABSENT)
				continue;
			MUST(span.state == m->state[at]);
			if (span.crcs) {
				MUST(m->has_crc[at] && span.crcs[j] == m->crc[at]);
			} else {
				MUST(!m->has_crc[at] || m->may_lose[at]);
			}
			dirty = dirty || m->state[at] == LEAF_DIRTY;
			staged = staged || m->state[at] == LEAF_STAGED;
		}
	}
	MUST(leaf_has_state(&fx.leaf, LEAF_DIRTY) == dirty);
	MUST(leaf_has_state(&fx.leaf, LEAF_STAGED) == staged);
	compare_next(LEAF_DIRTY);
	compare_next(LEAF_STAGED);
}

static void compare_windows(void)
{
	for (unsigned int n = 0; n < 20; n++) {
		unsigned int first = pick(PAGE_CLUSTERS);
		unsigned int count = 1 + pick(PAGE_CLUSTERS - first);
		struct leaf_span span;
		bool all = true;

		for (unsigned int i = first; i < first + count; i++)
			all = all && fx.model.loc[i] != LEAF_ABSENT;
		MUST(leaf_has_all(&fx.leaf, first, count) == all);
		leaf_span_at(&fx.leaf, first, first + count, &span);
		MUST(span.count <= count);
		MUST(span.loc == fx.model.loc[first]);
	}
}

static void random_set(unsigned int longest, bool places_only)
{
	uint32_t crcs[PAGE_CLUSTERS];
	unsigned int first = pick(PAGE_CLUSTERS);
	unsigned int count = 1 + pick(longest);
	enum leaf_state state = pick(3) ? LEAF_DIRTY : LEAF_CLEAN;
	unsigned int kind = places_only ? 9 : pick(10);
	/* Few numbers and places derived from the address, so that neighbours often continue. */
	loc_t loc = pick(2) ? place(1 + pick(3), 1000 + first) : place(7, 1 + pick(60000));

	if (count > PAGE_CLUSTERS - first)
		count = PAGE_CLUSTERS - first;
	for (unsigned int i = 0; i < count; i++)
		crcs[i] = pick(1u << 30);
	if (kind == 0)
		loc = LOC_ZERO;
	else if (kind == 1)
		loc = LOC_UNMAPPED;
	set(first, count, loc, pick(4) ? crcs : NULL, state);
}

static void model_restate(enum leaf_state from, enum leaf_state to)
{
	leaf_restate(&fx.pool, &fx.leaf, from, to);
	for (unsigned int i = 0; i < PAGE_CLUSTERS; i++)
		if (fx.model.loc[i] != LEAF_ABSENT && fx.model.state[i] == from)
			fx.model.state[i] = to;
}

static void compact(bool drop_unmapped)
{
	leaf_compact(&fx.pool, &fx.leaf, drop_unmapped);
	/* Dropping is allowed, not promised: take over what it chose. */
	for (unsigned int i = 0; drop_unmapped && i < PAGE_CLUSTERS; i++) {
		struct leaf_span span;

		leaf_span_at(&fx.leaf, i, i + 1, &span);
		if (span.loc == LEAF_ABSENT && fx.model.loc[i] == LOC_UNMAPPED &&
		    fx.model.state[i] == LEAF_CLEAN)
			fx.model.loc[i] = LEAF_ABSENT;
	}
}

static void forget_clean(void)
{
	leaf_forget_clean(&fx.pool, &fx.leaf);
	for (unsigned int i = 0; i < PAGE_CLUSTERS; i++)
		if (fx.model.state[i] == LEAF_CLEAN)
			fx.model.loc[i] = LEAF_ABSENT;
}

static void fill_from_random_rows(void)
{
	struct leaf_table t;

	leaf_table_clear(&t);
	for (unsigned int i = 0; i < PAGE_CLUSTERS; i++) {
		bool absent = fx.model.loc[i] == LEAF_ABSENT;
		unsigned int kind = pick(6);

		if (kind == 0)
			continue;
		t.loc[i] = kind == 1 ? LOC_ZERO : kind == 2 ? LOC_UNMAPPED : place(3, 1000 + i);
		t.crc[i] = i * 77;
		if (kind == 4)
			t.known[i / 64] |= UINT64_C(1) << (i % 64);
		if (absent && t.loc[i] != LOC_UNMAPPED) {
			fx.model.loc[i] = t.loc[i];
			fx.model.crc[i] = t.crc[i];
			fx.model.has_crc[i] = kind == 4;
			fx.model.may_lose[i] = false;
			fx.model.state[i] = LEAF_CLEAN;
		} else if (fx.model.loc[i] == LOC_UNMAPPED && fx.model.state[i] == LEAF_CLEAN) {
			fx.model.loc[i] = LEAF_ABSENT;
		}
	}
	for (unsigned int i = 0; i < PAGE_CLUSTERS; i++)
		if (fx.model.loc[i] == LOC_UNMAPPED && fx.model.state[i] == LEAF_CLEAN)
			fx.model.loc[i] = LEAF_ABSENT;
	model_note_stretches(&fx.model);
	ck_assert_int_eq(leaf_fill(&fx.pool, &fx.leaf, &t), 0);
}

static void random_step(unsigned int longest, bool places_only)
{
	unsigned int op = pick(100);

	if (op < 90)
		random_set(longest, places_only);
	else if (op < 92)
		model_restate(LEAF_DIRTY, LEAF_STAGED);
	else if (op < 94)
		model_restate(LEAF_STAGED, pick(2) ? LEAF_CLEAN : LEAF_DIRTY);
	else if (op < 97)
		compact(false);
	else if (op < 98)
		compact(true);
	else if (op < 99)
		forget_clean();
	else
		fill_from_random_rows();
}

START_TEST(a_leaf_equals_an_array_under_random_updates)
{
	static const unsigned int longest[] = { 1, 4, 12, 40, 200, PAGE_CLUSTERS };

	fx.rng += (uint64_t)_i * 7919;
	for (unsigned int n = 0; n < 2000; n++) {
		if (n % 500 == 0) {
			set(0, PAGE_CLUSTERS, LOC_UNMAPPED, NULL, LEAF_CLEAN);
			compact(true);
			compare();
		}
		if (n % 250 == 249)
			set(0, PAGE_CLUSTERS, place(5, 100), NULL, LEAF_DIRTY);
		else
			random_step(longest[n < 1000 ? pick(6) :
					    n < 1500 ? pick(2) :
						       pick(3)],
				    false);
		compare();
		compare_windows();
	}
	for (unsigned int form = LEAF_EMPTY; form <= LEAF_TABLE; form++)
		ck_assert_msg(fx.seen[form], "form %u was not hit", form);
}
END_TEST

START_TEST(a_page_written_in_order_in_large_pieces_has_no_body)
{
	for (unsigned int i = 0; i < PAGE_CLUSTERS; i += 32) {
		set(i, 32, place(1, 100 + i), NULL, LEAF_DIRTY);
		ck_assert_uint_le(leaf_bytes(&fx.leaf), 48);
		compare();
	}

	ck_assert_int_eq(fx.leaf.form, LEAF_FULL);
	ck_assert_uint_eq(leaf_bytes(&fx.leaf), 0);
}
END_TEST

START_TEST(a_page_written_in_order_by_single_clusters_stays_small)
{
	for (unsigned int i = 0; i < PAGE_CLUSTERS; i++) {
		uint32_t crc = i;

		set(i, 1, place(1, 100 + i), &crc, LEAF_DIRTY);
		ck_assert_uint_le(leaf_bytes(&fx.leaf), 256);
		compare();
	}
}
END_TEST

START_TEST(a_handful_of_scattered_clusters_costs_less_than_300_bytes)
{
	for (unsigned int i = 0; i < 12; i++) {
		uint32_t crc = i * 3;

		set((i * 197) % PAGE_CLUSTERS, 1, place(1 + i, 50), &crc, LEAF_DIRTY);
	}
	compare();

	ck_assert_uint_le(leaf_bytes(&fx.leaf), 250);
}
END_TEST

START_TEST(a_fully_random_page_costs_no_more_than_6_3_kib)
{
	for (unsigned int n = 0; n < 5000; n++)
		random_set(1, true);
	compare();

	ck_assert_int_eq(fx.leaf.form, LEAF_TABLE);
	ck_assert_uint_le(leaf_bytes(&fx.leaf), 6451);
}
END_TEST

START_TEST(a_short_run_keeps_its_checksums_and_a_long_one_becomes_an_extent)
{
	uint32_t crcs[PAGE_CLUSTERS];
	struct leaf_span span;

	for (unsigned int i = 0; i < PAGE_CLUSTERS; i++)
		crcs[i] = i + 1;
	set(10, LEAF_EXTENT_MIN - 1, place(1, 10), crcs, LEAF_DIRTY);
	set(100, LEAF_EXTENT_MIN, place(2, 10), crcs, LEAF_DIRTY);
	compare();

	leaf_span_at(&fx.leaf, 10, PAGE_CLUSTERS, &span);
	ck_assert_ptr_nonnull(span.crcs);
	leaf_span_at(&fx.leaf, 100, PAGE_CLUSTERS, &span);
	ck_assert_ptr_null(span.crcs);
	ck_assert_uint_eq(span.count, LEAF_EXTENT_MIN);
}
END_TEST

START_TEST(a_table_shrinks_again_once_its_page_was_written_in_order)
{
	for (unsigned int n = 0; n < 3000; n++)
		random_set(1, true);
	ck_assert_int_eq(fx.leaf.form, LEAF_TABLE);
	for (unsigned int i = 0; i < PAGE_CLUSTERS; i += 64)
		set(i, 64, place(9, 100 + i), NULL, LEAF_DIRTY);
	model_restate(LEAF_DIRTY, LEAF_STAGED);
	model_restate(LEAF_STAGED, LEAF_CLEAN);
	compact(true);
	compare();

	ck_assert_int_eq(fx.leaf.form, LEAF_FULL);
}
END_TEST

START_TEST(the_owners_fields_survive_every_change)
{
	fx.leaf.owner_flags = 0xa5;
	fx.leaf.owner_link = 0xdeadbeef;
	for (unsigned int n = 0; n < 3000; n++)
		random_step(1 + pick(PAGE_CLUSTERS), false);

	ck_assert_uint_eq(fx.leaf.owner_flags, 0xa5);
	ck_assert_uint_eq(fx.leaf.owner_link, 0xdeadbeef);
}
END_TEST

START_TEST(places_that_cross_into_reserved_values_are_not_joined)
{
	/* LOC_ZERO is LOC_UNMAPPED + 1, and LEAF_ABSENT is LOC_ZERO + 1. */
	set(0, 1, LOC_UNMAPPED, NULL, LEAF_DIRTY);
	set(1, 1, LOC_ZERO, NULL, LEAF_DIRTY);
	set(3, 1, LOC_ZERO, NULL, LEAF_DIRTY);
	compare();
	for (unsigned int i = 0; i < 300; i++) {
		uint32_t crc = i;

		set(10 + i, 1, place(1 + i % 5, 1 + i), &crc, LEAF_CLEAN);
	}
	ck_assert_int_eq(fx.leaf.form, LEAF_TABLE);
	compare();
	compact(false);
	compare();
}
END_TEST

START_TEST(a_donated_table_is_what_a_reserve_falls_back_to)
{
	struct leaf_table *spare = leaf_table_new();

	ck_assert_ptr_nonnull(spare);
	leaf_pool_donate(&fx.pool, spare);
	for (unsigned int i = 0; i < 2 * LEAF_RUNS_MAX + 20; i += 2) {
		uint32_t crc = i;

		set(i, 1, place(1, 60000 - 3 * i), &crc, LEAF_DIRTY);
	}
	compare();

	ck_assert_int_eq(fx.leaf.form, LEAF_TABLE);
	ck_assert_ptr_eq(fx.leaf.table, spare);
}
END_TEST

START_TEST(tables_that_leave_are_used_again)
{
	struct leaf_table *first;

	for (unsigned int n = 0; n < 3000; n++)
		random_set(1, true);
	first = fx.leaf.table;
	set(0, PAGE_CLUSTERS, place(1, 1), NULL, LEAF_DIRTY);
	ck_assert_int_eq(fx.leaf.form, LEAF_FULL);
	for (unsigned int n = 0; n < 3000; n++)
		random_set(1, true);

	ck_assert_int_eq(fx.leaf.form, LEAF_TABLE);
	ck_assert_ptr_eq(fx.leaf.table, first);
	compare();
}
END_TEST

static Suite *leaf_suite(void)
{
	Suite *s = suite_create("volume/leaf");
	TCase *tc = tcase_create("forms");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, a_leaf_equals_an_array_under_random_updates, 0, 24);
	tcase_add_test(tc, a_page_written_in_order_in_large_pieces_has_no_body);
	tcase_add_test(tc, a_page_written_in_order_by_single_clusters_stays_small);
	tcase_add_test(tc, a_handful_of_scattered_clusters_costs_less_than_300_bytes);
	tcase_add_test(tc, a_fully_random_page_costs_no_more_than_6_3_kib);
	tcase_add_test(tc, a_short_run_keeps_its_checksums_and_a_long_one_becomes_an_extent);
	tcase_add_test(tc, a_table_shrinks_again_once_its_page_was_written_in_order);
	tcase_add_test(tc, the_owners_fields_survive_every_change);
	tcase_add_test(tc, places_that_cross_into_reserved_values_are_not_joined);
	tcase_add_test(tc, a_donated_table_is_what_a_reserve_falls_back_to);
	tcase_add_test(tc, tables_that_leave_are_used_again);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(leaf_suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
