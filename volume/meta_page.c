/*
 * meta_page - what a page is after a base and the deltas laid over it.
 *
 * The values are opened into one entry a cluster, the later one winning, and packed again into the
 * longest runs. The result does not depend on how the same changes were cut into values, so RocksDB
 * may merge whenever and as often as it likes. Bytes: FORMAT.md section 8.
 */
#include "volume/meta.h"

/* A page cluster by cluster, as its row has it; all zero: nothing is mapped. */
struct page_image {
	struct page_entry {
		loc_t loc; /* LOC_UNMAPPED: no run names it */
		uint32_t crc;
		bool has_crc;
	} entries[PAGE_CLUSTERS];
};

static void put_run(void *arg, const struct page_run *run)
{
	struct page_image *image = arg;
	const bool is_place = loc_is_place(run->loc);

	for (unsigned int i = 0; i < run->count; i++)
		image->entries[run->first + i] = (struct page_entry){
			.loc = is_place ? run->loc + i : run->loc,
			.crc = run->crcs != NULL ? run->crcs[i] : 0,
			.has_crc = run->crcs != NULL,
		};
}

NODISCARD static int page_image_apply(struct page_image *image, const uint8_t *value,
				      size_t len_bytes, enum page_value_kind expected,
				      struct err *e)
{
	enum page_value_kind kind;
	int r;

	r = page_value_decode(value, len_bytes, &kind, put_run, image, e);
	if (r < 0)
		return r;
	if (kind != expected)
		return err_set(e, -EUCLEAN, "map page: a %s where a %s belongs",
			       kind == PAGE_BASE ? "base" : "delta",
			       expected == PAGE_BASE ? "base" : "delta");
	return 0;
}

/* Whether the cluster at i carries on the run that began with first, i - first clusters ago. */
static bool continues_run(const struct page_image *image, unsigned int first, unsigned int i)
{
	const struct page_entry *a = &image->entries[first], *b = &image->entries[i];

	if (a->has_crc != b->has_crc)
		return false;
	if (!loc_is_place(a->loc))
		return b->loc == a->loc;
	/* Each slot came out of a run inside its SCO, at most 65,534: no carry into the number. */
	return b->loc == a->loc + (i - first);
}

/* Pack into ascending runs; crcs gets every checksum at its cluster's index. */
static unsigned int pack(const struct page_image *image, struct page_run runs[PAGE_CLUSTERS],
			 uint32_t crcs[PAGE_CLUSTERS])
{
	unsigned int count = 0, first, end;

	for (first = 0; first < PAGE_CLUSTERS; first = end) {
		const struct page_entry *entry = &image->entries[first];

		for (end = first; end < PAGE_CLUSTERS && continues_run(image, first, end); end++)
			crcs[end] = image->entries[end].crc;
		if (entry->loc == LOC_UNMAPPED)
			continue;
		runs[count++] = (struct page_run){
			.first = (uint16_t)first,
			.count = (uint16_t)(end - first),
			.loc = entry->loc,
			.crcs = entry->has_crc ? crcs + first : NULL,
		};
	}
	return count;
}

NODISCARD static int page_image_encode(const struct page_image *image, struct buf *out,
				       struct err *e)
{
	struct page_run runs[PAGE_CLUSTERS];
	uint32_t crcs[PAGE_CLUSTERS];
	unsigned int count = pack(image, runs, crcs);
	int r = page_value_encode(PAGE_BASE, runs, count, out);

	return r < 0 ? err_set(e, r, "map page: %u runs don't fit", count) : 0;
}

int meta_page_merge(const uint8_t *base, size_t base_bytes, const uint8_t *const *deltas,
		    const size_t *delta_bytes, size_t delta_count, struct buf *out, struct err *e)
{
	struct page_image image = { 0 };
	int r;

	if (base != NULL) {
		r = page_image_apply(&image, base, base_bytes, PAGE_BASE, e);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < delta_count; i++) {
		r = page_image_apply(&image, deltas[i], delta_bytes[i], PAGE_DELTA, e);
		if (r < 0)
			return err_wrap(e, r, "delta %zu of %zu", i + 1, delta_count);
	}
	return page_image_encode(&image, out, e);
}
