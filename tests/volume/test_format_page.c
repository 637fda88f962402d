/* Values of map pages: sizes that the design promises, order, bounds. */
#include <check.h>
#include <stdlib.h>

#include "format_random.h"

#define ROUNDS	2000
#define GARBAGE 100000
#define BIGGEST (8u + PAGE_CLUSTERS * 16u)

#define EXPECT(x, ...)                                                                             \
	do {                                                                                       \
		if (!(x))                                                                          \
			ck_abort_msg(__VA_ARGS__);                                                 \
	} while (0)

struct page {
	enum page_value_kind kind;
	unsigned int count;
	struct page_run runs[PAGE_CLUSTERS];
	uint32_t crcs[PAGE_CLUSTERS];
};

static void page_add(void *arg, const struct page_run *run)
{
	struct page *p = arg;

	EXPECT(p->count < PAGE_CLUSTERS && run->first + run->count <= PAGE_CLUSTERS, "bounds");
	p->runs[p->count] = *run;
	if (run->crcs != NULL) {
		memcpy(p->crcs + run->first, run->crcs, run->count * sizeof(uint32_t));
		p->runs[p->count].crcs = p->crcs + run->first;
	}
	p->count++;
}

static int page_get(const uint8_t *in, size_t len_bytes, struct page *ret_page, struct err *e)
{
	ret_page->count = 0;
	return page_value_decode(in, len_bytes, &ret_page->kind, page_add, ret_page, e);
}

static void page_put(const struct page *p, struct buf *out)
{
	buf_clear(out);
	EXPECT(page_value_encode(p->kind, p->runs, p->count, out) == 0, "not encoded");
}

static void expect_same_page(const struct page *a, const struct page *b)
{
	EXPECT(a->kind == b->kind && a->count == b->count, "kind or number of runs");
	for (unsigned int i = 0; i < a->count; i++) {
		const struct page_run *x = &a->runs[i], *y = &b->runs[i];

		EXPECT(x->first == y->first && x->count == y->count && x->loc == y->loc, "run %u",
		       i);
		EXPECT((x->crcs != NULL) == (y->crcs != NULL), "run %u", i);
		if (x->crcs != NULL)
			EXPECT(memcmp(x->crcs, y->crcs, x->count * sizeof(uint32_t)) == 0,
			       "checksums of run %u", i);
	}
}

static void page_random(struct rng *rng, struct page *p)
{
	unsigned int next = 0;

	p->kind = rng_u64(rng) % 2 == 0 ? PAGE_BASE : PAGE_DELTA;
	p->count = 0;
	rng_bytes(rng, p->crcs, sizeof(p->crcs));
	while (next < PAGE_CLUSTERS && rng_u64(rng) % 64 != 0) {
		const unsigned int first = next + rng_u32(rng, 0, PAGE_CLUSTERS - 1 - next);
		const unsigned int count = rng_u32(rng, 1, PAGE_CLUSTERS - first);
		const uint64_t what = rng_u64(rng) % 4;
		struct page_run *run = &p->runs[p->count++];

		*run = (struct page_run){ .first = (uint16_t)first, .count = (uint16_t)count };
		next = first + count;
		if (what < 2) {
			run->loc = what == 0 ? LOC_ZERO : LOC_UNMAPPED;
			continue;
		}
		run->loc = loc_make(rng_u32(rng, 0, LOC_ORIGIN_MAX),
				    rng_between(rng, 1, SCO_NUMBER_MAX),
				    rng_u32(rng, 1, SCO_SLOTS_MAX - count));
		if (what == 2)
			run->crcs = p->crcs + first;
	}
}

START_TEST(random_pages_survive_a_round_trip)
{
	static struct page page, again;
	struct rng rng = { 1 };
	struct buf bytes;

	buf_init(&bytes, BIGGEST);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		struct err e = { 0 };

		page_random(&rng, &page);
		page_put(&page, &bytes);
		EXPECT(page_get(bytes.data, bytes.len_bytes, &again, &e) == 0, "%s", e.message);
		expect_same_page(&page, &again);
	}
	buf_done(&bytes);
}
END_TEST

START_TEST(a_page_of_512_runs_with_checksums_survives)
{
	static struct page page, again;
	struct rng rng = { 2 };
	struct buf bytes;

	page.kind = PAGE_BASE;
	page.count = PAGE_CLUSTERS;
	rng_bytes(&rng, page.crcs, sizeof(page.crcs));
	for (unsigned int i = 0; i < PAGE_CLUSTERS; i++)
		page.runs[i] = (struct page_run){
			.first = (uint16_t)i,
			.count = 1,
			.loc = loc_make(LOC_ORIGIN_MAX, SCO_NUMBER_MAX - i, SCO_SLOTS_MAX - 1),
			.crcs = page.crcs + i,
		};
	buf_init(&bytes, BIGGEST);
	page_put(&page, &bytes);
	ck_assert_uint_eq(bytes.len_bytes, BIGGEST);
	ck_assert_int_eq(page_get(bytes.data, bytes.len_bytes, &again, NULL), 0);
	expect_same_page(&page, &again);
	buf_done(&bytes);
}
END_TEST

START_TEST(a_delta_of_one_cluster_with_its_checksum_takes_24_bytes)
{
	const uint32_t crc = 5;
	const struct page_run run = { 7, 1, loc_make(0, 3, 9), &crc };
	struct buf bytes;

	buf_init(&bytes, 64);
	ck_assert_int_eq(page_value_encode(PAGE_DELTA, &run, 1, &bytes), 0);
	ck_assert_uint_eq(bytes.len_bytes, 24);
	buf_done(&bytes);
}
END_TEST

START_TEST(a_page_of_one_extent_takes_20_bytes)
{
	const struct page_run run = { 0, PAGE_CLUSTERS, loc_make(0, 3, 9), NULL };
	struct buf bytes;

	buf_init(&bytes, 64);
	ck_assert_int_eq(page_value_encode(PAGE_BASE, &run, 1, &bytes), 0);
	ck_assert_uint_eq(bytes.len_bytes, 20);
	buf_done(&bytes);
}
END_TEST

START_TEST(more_runs_than_clusters_are_not_encoded)
{
	static const struct page_run runs[PAGE_CLUSTERS + 1];
	struct buf bytes;

	buf_init(&bytes, BIGGEST);
	ck_assert_int_eq(page_value_encode(PAGE_BASE, runs, PAGE_CLUSTERS + 1, &bytes), -E2BIG);
	ck_assert_uint_eq(bytes.len_bytes, 0);
	buf_done(&bytes);
}
END_TEST

/* --- Refused under a right checksum ------------------------------------------------------------ */

struct raw_run {
	uint16_t first, count;
	uint64_t loc;
};
#define PLACE(slot) (UINT64_C(5) << 16 | (slot))
static const struct {
	const char *what;
	unsigned int count;
	struct raw_run runs[2];
} bad_runs[] = {
	{ "leaves its page", 1, { { 0, 0, LOC_ZERO } } },
	{ "leaves its page", 1, { { 0, 513, LOC_ZERO } } },
	{ "leaves its page", 1, { { 512, 1, LOC_ZERO } } },
	{ "leaves its page", 1, { { 511, 2, LOC_ZERO } } },
	{ "leaves its page", 1, { { 1, UINT16_MAX, LOC_ZERO } } },
	{ "overlap", 2, { { 4, 2, LOC_ZERO }, { 5, 1, LOC_ZERO } } },
	{ "overlap", 2, { { 4, 2, LOC_ZERO }, { 0, 1, LOC_ZERO } } },
	{ "overlap", 2, { { 4, 1, LOC_ZERO }, { 4, 1, LOC_ZERO } } },
	{ "neither", 1, { { 0, 1, 2 } } },
	{ "neither", 1, { { 0, 1, UINT64_C(1) << 52 } } },
	{ "neither", 1, { { 0, 1, UINT64_C(1) << 52 | LOC_ZERO } } },
	{ "leaves its SCO", 1, { { 0, 1, PLACE(0) } } },
	{ "leaves its SCO", 1, { { 0, 1, PLACE(SCO_SLOTS_MAX) } } },
	{ "leaves its SCO", 1, { { 0, 2, PLACE(SCO_SLOTS_MAX - 1) } } },
	{ "leaves its SCO", 1, { { 0, 512, PLACE(SCO_SLOTS_MAX - 511) } } },
	{ "cut off", 1, { { 0x8000, 1, PLACE(1) } } },
	{ "cut off", 1, { { 0x8000, UINT16_MAX, PLACE(1) } } },
	{ "cut off", 2, { { 0, 1, LOC_ZERO }, { 0x8001, 1, PLACE(1) } } },
};

START_TEST(bad_runs_are_refused_under_a_right_checksum)
{
	static struct page page;
	uint8_t value[8 + 2 * 12];
	struct err e = { 0 };
	const size_t len = 8 + bad_runs[_i].count * 12;

	memset(value, 0, sizeof(value));
	value[0] = FORMAT_VERSION;
	value[1] = PAGE_DELTA;
	le16_put(value + 2, (uint16_t)bad_runs[_i].count);
	for (unsigned int i = 0; i < bad_runs[_i].count; i++) {
		le16_put(value + 8 + (size_t)12 * i, bad_runs[_i].runs[i].first);
		le16_put(value + 10 + (size_t)12 * i, bad_runs[_i].runs[i].count);
		le64_put(value + 12 + (size_t)12 * i, bad_runs[_i].runs[i].loc);
	}
	reseal_page(value, len);
	ck_assert_int_eq(page_get(value, len, &page, &e), -EUCLEAN);
	ck_assert_uint_eq(page.count, 0);
	ck_assert_msg(strstr(e.message, bad_runs[_i].what) != NULL, "'%s' lacks '%s'", e.message,
		      bad_runs[_i].what);
}
END_TEST

START_TEST(checksums_of_zeros_are_refused)
{
	static struct page page;
	uint8_t value[24] = { FORMAT_VERSION, PAGE_DELTA, 1 };

	le16_put(value + 8, 0x8000);
	le16_put(value + 10, 1);
	le64_put(value + 12, LOC_ZERO);
	reseal_page(value, sizeof(value));
	ck_assert_int_eq(page_get(value, sizeof(value), &page, NULL), -EUCLEAN);
}
END_TEST

START_TEST(a_foreign_kind_version_or_count_is_refused)
{
	static struct page page;
	uint8_t value[20] = { FORMAT_VERSION, PAGE_DELTA, 1, 0, 0, 0, 0, 0, 0, 0, 1 };

	reseal_page(value, sizeof(value));
	ck_assert_int_eq(page_get(value, sizeof(value), &page, NULL), 0);
	value[1] = 3;
	reseal_page(value, sizeof(value));
	ck_assert_int_eq(page_get(value, sizeof(value), &page, NULL), -EUCLEAN);
	value[1] = PAGE_DELTA;
	value[0] = FORMAT_VERSION + 1;
	reseal_page(value, sizeof(value));
	ck_assert_int_eq(page_get(value, sizeof(value), &page, NULL), -EPROTONOSUPPORT);
	value[0] = FORMAT_VERSION;
	for (unsigned int count = 0; count <= UINT16_MAX; count++) {
		if (count == 1)
			continue;
		le16_put(value + 2, (uint16_t)count);
		reseal_page(value, sizeof(value));
		EXPECT(page_get(value, sizeof(value), &page, NULL) == -EUCLEAN, "%u runs", count);
	}
}
END_TEST

/* Whatever is taken is the one encoding of its runs. */
START_TEST(damage_under_a_right_checksum_is_refused_or_harmless)
{
	static struct page page;
	struct buf bytes, again;
	struct rng rng = { 3 };
	unsigned int refused = 0;

	buf_init(&bytes, BIGGEST);
	buf_init(&again, BIGGEST);
	for (unsigned int i = 0; i < 8 * ROUNDS; i++) {
		size_t at;
		int r;

		if (i % 4 == 0) {
			page_random(&rng, &page);
			page_put(&page, &bytes);
		}
		at = (size_t)rng_between(&rng, 0, bytes.len_bytes - 1);
		bytes.data[at] = (uint8_t)rng_u64(&rng);
		reseal_page(bytes.data, bytes.len_bytes);
		r = page_get(bytes.data, bytes.len_bytes, &page, NULL);
		EXPECT(r == 0 || r == -EUCLEAN || r == -EPROTONOSUPPORT, "%d", r);
		if (r < 0) {
			EXPECT(page.count == 0, "runs of a page that was refused");
			refused++;
			continue;
		}
		page_put(&page, &again);
		EXPECT(again.len_bytes == bytes.len_bytes &&
			       memcmp(again.data, bytes.data, bytes.len_bytes) == 0,
		       "another encoding of the same");
	}
	ck_assert_uint_gt(refused, 0);
	buf_done(&again);
	buf_done(&bytes);
}
END_TEST

START_TEST(garbage_is_refused)
{
	static struct page page;
	static uint8_t garbage[BIGGEST + 64];
	struct rng rng = { 4 };

	rng_bytes(&rng, garbage, sizeof(garbage));
	for (unsigned int i = 0; i < GARBAGE; i++) {
		const uint64_t change = rng_u64(&rng);
		const size_t len = (size_t)rng_between(&rng, 0, sizeof(garbage));
		uint8_t *p = garbage + sizeof(garbage) - len;
		int r;

		memcpy(garbage + change % (sizeof(garbage) - 8), &change, sizeof(change));
		if (i % 2 == 0 && len >= 8) {
			p[0] = FORMAT_VERSION;
			p[1] = PAGE_BASE;
			reseal_page(p, len);
		}
		r = page_get(p, len, &page, NULL);
		EXPECT(r == -EUCLEAN || r == -EBADMSG, "%d", r);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("format_page");
	TCase *tc = tcase_create("page");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, random_pages_survive_a_round_trip);
	tcase_add_test(tc, a_page_of_512_runs_with_checksums_survives);
	tcase_add_test(tc, a_delta_of_one_cluster_with_its_checksum_takes_24_bytes);
	tcase_add_test(tc, a_page_of_one_extent_takes_20_bytes);
	tcase_add_test(tc, more_runs_than_clusters_are_not_encoded);
	tcase_add_loop_test(tc, bad_runs_are_refused_under_a_right_checksum, 0,
			    ARRAY_SIZE(bad_runs));
	tcase_add_test(tc, checksums_of_zeros_are_refused);
	tcase_add_test(tc, a_foreign_kind_version_or_count_is_refused);
	tcase_add_test(tc, damage_under_a_right_checksum_is_refused_or_harmless);
	tcase_add_test(tc, garbage_is_refused);
	suite_add_tcase(s, tc);

	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
