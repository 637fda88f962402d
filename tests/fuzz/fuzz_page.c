/* Values of map pages: decoded, encoded again, merged with a delta, spliced. */
#include "common/err.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/seal.h"
#include "tests/golden/golden_page.h"
#include "volume/meta.h"

#include <stdlib.h>
#include <string.h>

/* Nothing is allocated but the result: at most a page of single clusters, in a buf that doubles. */
const struct fuzz_bound fuzz_bound = { .base_bytes = 192 << 10, .per_input_byte = 4 };

enum { PAGE_CRC_AT = 4 };

struct runs {
	unsigned int count;
	struct page_run run[PAGE_CLUSTERS];
	uint32_t crcs[PAGE_CLUSTERS];
};

struct image {
	loc_t loc[PAGE_CLUSTERS];
};

void fuzz_seeds(void)
{
	uint8_t two[sizeof(golden_page_base) + sizeof(golden_page_delta)];

	/* The first byte behind the word says where the second value begins. */
	memcpy(two, golden_page_base, sizeof(golden_page_base));
	memcpy(two + sizeof(golden_page_base), golden_page_delta, sizeof(golden_page_delta));
	fuzz_seed(FUZZ_RESEAL | sizeof(golden_page_base), two, sizeof(two));
	fuzz_seed(FUZZ_RESEAL | 8, golden_page_empty, sizeof(golden_page_empty));
	fuzz_seed(FUZZ_RESEAL | 24, golden_page_delta, sizeof(golden_page_delta));
	fuzz_seed(FUZZ_RESEAL, golden_page_base, sizeof(golden_page_base));
}

static void take_run(void *arg, const struct page_run *run)
{
	struct runs *all = arg;
	struct page_run *mine = &all->run[all->count++];

	FUZZ_EXPECT(all->count <= PAGE_CLUSTERS && run->first + run->count <= PAGE_CLUSTERS);
	*mine = *run;
	if (run->crcs) {
		memcpy(all->crcs + run->first, run->crcs, run->count * sizeof(*run->crcs));
		mine->crcs = all->crcs + run->first;
	}
}

static void paint(struct image *image, const struct runs *runs)
{
	for (unsigned int i = 0; i < runs->count; i++)
		for (unsigned int k = 0; k < runs->run[i].count; k++)
			image->loc[runs->run[i].first + k] = loc_ahead(runs->run[i].loc, k);
}

static void expect_image(const struct image *want, const struct buf *value)
{
	struct runs runs = { .count = 0 };
	struct image got = { { 0 } };
	enum page_value_kind kind;

	FUZZ_EXPECT(page_value_decode(value->data, value->len_bytes, &kind, take_run, &runs,
				      NULL) == 0);
	FUZZ_EXPECT(kind == PAGE_BASE);
	paint(&got, &runs);
	FUZZ_EXPECT(memcmp(&got, want, sizeof(got)) == 0);
}

static void note_change(void *arg, loc_t old, loc_t new, unsigned int count)
{
	unsigned int *sum = arg;

	(void)old;
	(void)new;
	*sum += count;
}

/* A base and a delta over it, by the two ways that there are. */
static void check_merge(const uint8_t *base, size_t base_bytes, const struct runs *base_runs,
			const uint8_t *delta, size_t delta_bytes, const struct runs *delta_runs)
{
	struct image want = { { 0 } };
	unsigned int changed = 0, named = 0;
	struct buf out;

	paint(&want, base_runs);
	paint(&want, delta_runs);
	for (unsigned int i = 0; i < delta_runs->count; i++)
		named += delta_runs->run[i].count;
	buf_init(&out, 1 << 20);
	FUZZ_EXPECT(meta_page_merge(base, base_bytes, &delta, &delta_bytes, 1, &out, NULL) == 0);
	expect_image(&want, &out);
	buf_clear(&out);
	FUZZ_EXPECT(page_value_splice(base, base_bytes, delta_runs->run, delta_runs->count,
				      note_change, &changed, &out, NULL) == 0);
	FUZZ_EXPECT(changed == named);
	expect_image(&want, &out);
	buf_done(&out);
}

static int decode(const uint8_t *in, size_t len_bytes, enum page_value_kind *kind,
		  struct runs *runs)
{
	struct err e = { 0 };
	struct buf out;
	int r = page_value_decode(in, len_bytes, kind, take_run, runs, &e);

	if (r < 0) {
		fuzz_expect_refusal(r, &e);
		FUZZ_EXPECT(runs->count == 0);
		return r;
	}
	buf_init(&out, 1 << 20);
	FUZZ_EXPECT(page_value_encode(*kind, runs->run, runs->count, &out) == 0);
	FUZZ_EXPECT(fuzz_same(out.data, out.len_bytes, in, len_bytes));
	buf_done(&out);
	return 0;
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	uint8_t word = fuzz_word(&in, &len_bytes);
	size_t cut = word & 0x7f ? min_u64(word & 0x7f, len_bytes) : len_bytes;
	uint8_t *a = fuzz_copy(in, cut, cut),
		*b = fuzz_copy(in + cut, len_bytes - cut, len_bytes - cut);
	enum page_value_kind kind_a, kind_b;
	struct runs runs_a = { .count = 0 }, runs_b = { .count = 0 };

	if (word & FUZZ_RESEAL) {
		seal_hole(a, cut, PAGE_CRC_AT, 0);
		seal_hole(b, len_bytes - cut, PAGE_CRC_AT, 0);
	}
	if (decode(a, cut, &kind_a, &runs_a) == 0 && kind_a == PAGE_BASE &&
	    decode(b, len_bytes - cut, &kind_b, &runs_b) == 0 && kind_b == PAGE_DELTA)
		check_merge(a, cut, &runs_a, b, len_bytes - cut, &runs_b);
	free(a);
	free(b);
}
