/*
 * format_page - values of map page rows (FORMAT.md section 8).
 */
#include "volume/format_impl.h"

enum {
	PAGE_VERSION_AT = 0,
	PAGE_KIND_AT = 1,
	PAGE_RUN_COUNT_AT = 2,
	PAGE_CRC_AT = 4,
	PAGE_RUNS_AT = 8,

	RUN_FIRST_AT = 0,
	RUN_COUNT_AT = 2,
	RUN_LOC_AT = 4,
	RUN_CRCS_AT = 12,
};
#define RUN_HAS_CRCS	     0x8000u
#define PAGE_VALUE_BYTES_MAX (PAGE_RUNS_AT + PAGE_CLUSTERS * (RUN_CRCS_AT + CRC_BYTES))

/* next: the first cluster that is not yet named. */
static const char *page_run_flaw(const struct page_run *run, bool has_crcs, unsigned int next)
{
	if (run->count < 1 || run->first + run->count > PAGE_CLUSTERS)
		return "a run leaves its page";
	if (run->first < next)
		return "runs overlap or are out of order";
	if (!loc_is_place(run->loc)) {
		if (run->loc != LOC_UNMAPPED && run->loc != LOC_ZERO)
			return "a location that is neither a place nor a word";
		return has_crcs ? "checksums without clusters" : NULL;
	}
	if (loc_slot(run->loc) == 0 || loc_slot(run->loc) + run->count > SCO_SLOTS_MAX)
		return "a run leaves its SCO";
	return NULL;
}

static size_t run_encode(const struct page_run *run, uint8_t *p)
{
	const unsigned int mark = run->crcs != NULL ? RUN_HAS_CRCS : 0;

	le16_put(p + RUN_FIRST_AT, (uint16_t)(run->first | mark));
	le16_put(p + RUN_COUNT_AT, run->count);
	le64_put(p + RUN_LOC_AT, run->loc);
	if (run->crcs == NULL)
		return RUN_CRCS_AT;
	for (unsigned int i = 0; i < run->count; i++)
		le32_put(p + RUN_CRCS_AT + (size_t)i * CRC_BYTES, run->crcs[i]);
	return RUN_CRCS_AT + (size_t)run->count * CRC_BYTES;
}

int page_value_encode(enum page_value_kind kind, const struct page_run *runs, unsigned int count,
		      struct buf *out)
{
	uint8_t value[PAGE_VALUE_BYTES_MAX];
	size_t len_bytes = PAGE_RUNS_AT;
	unsigned int next = 0;

	ASSERT(kind == PAGE_BASE || kind == PAGE_DELTA);
	if (count > PAGE_CLUSTERS)
		return -E2BIG;

	for (unsigned int i = 0; i < count; i++) {
		ASSERT(page_run_flaw(&runs[i], runs[i].crcs != NULL, next) == NULL);
		next = runs[i].first + runs[i].count;
		len_bytes += run_encode(&runs[i], value + len_bytes);
	}
	value[PAGE_VERSION_AT] = FORMAT_VERSION;
	value[PAGE_KIND_AT] = (uint8_t)kind;
	le16_put(value + PAGE_RUN_COUNT_AT, (uint16_t)count);
	le32_put(value + PAGE_CRC_AT, format_crc_hole(0, value, len_bytes, PAGE_CRC_AT));
	return buf_append(out, value, len_bytes);
}

/* Bytes of the run at p, of which left are there; 0: it is cut off. */
static size_t run_bytes(const uint8_t *p, size_t left)
{
	size_t need = RUN_CRCS_AT;

	if (left < need)
		return 0;
	if (le16_get(p + RUN_FIRST_AT) & RUN_HAS_CRCS)
		need += (size_t)le16_get(p + RUN_COUNT_AT) * CRC_BYTES;
	return left < need ? 0 : need;
}

static struct page_run run_get(const uint8_t *p, bool *ret_has_crcs)
{
	const uint16_t first = le16_get(p + RUN_FIRST_AT);

	*ret_has_crcs = (first & RUN_HAS_CRCS) != 0;
	return (struct page_run){
		.first = (uint16_t)(first & ~RUN_HAS_CRCS),
		.count = le16_get(p + RUN_COUNT_AT),
		.loc = le64_get(p + RUN_LOC_AT),
	};
}

/* NULL, or what is wrong with the runs of a value whose checksum is right. */
static const char *page_runs_flaw(const uint8_t *in, size_t len_bytes)
{
	const unsigned int count = le16_get(in + PAGE_RUN_COUNT_AT);
	size_t at = PAGE_RUNS_AT;
	unsigned int next = 0;

	for (unsigned int i = 0; i < count; i++) {
		const size_t bytes = run_bytes(in + at, len_bytes - at);
		struct page_run run;
		const char *flaw;
		bool has_crcs;

		if (bytes == 0)
			return "a run is cut off";
		run = run_get(in + at, &has_crcs);
		flaw = page_run_flaw(&run, has_crcs, next);
		if (flaw != NULL)
			return flaw;
		next = run.first + run.count;
		at += bytes;
	}
	return at == len_bytes ? NULL : "bytes behind the last run";
}

NODISCARD static int page_value_check(const uint8_t *in, size_t len_bytes, struct err *e)
{
	const char *flaw;

	if (len_bytes < PAGE_RUNS_AT || len_bytes > PAGE_VALUE_BYTES_MAX)
		return err_set(e, -EUCLEAN, "map page: %zu bytes long", len_bytes);
	if (le32_get(in + PAGE_CRC_AT) != format_crc_hole(0, in, len_bytes, PAGE_CRC_AT))
		return err_set(e, -EBADMSG, "map page: bad checksum");
	if (in[PAGE_VERSION_AT] != FORMAT_VERSION)
		return err_set(e, -EPROTONOSUPPORT,
			       "map page: format version %u, this program knows %u",
			       in[PAGE_VERSION_AT], FORMAT_VERSION);
	if (in[PAGE_KIND_AT] != PAGE_BASE && in[PAGE_KIND_AT] != PAGE_DELTA)
		return err_set(e, -EUCLEAN, "map page: unknown kind %u", in[PAGE_KIND_AT]);
	flaw = page_runs_flaw(in, len_bytes);
	return flaw != NULL ? err_set(e, -EUCLEAN, "map page: %s", flaw) : 0;
}

int page_value_decode(const uint8_t *in, size_t len_bytes, enum page_value_kind *ret_kind,
		      void (*fn)(void *arg, const struct page_run *run), void *arg, struct err *e)
{
	uint32_t crcs[PAGE_CLUSTERS];
	size_t at = PAGE_RUNS_AT;
	int r;

	r = page_value_check(in, len_bytes, e);
	if (r < 0)
		return r;
	*ret_kind = in[PAGE_KIND_AT] == PAGE_BASE ? PAGE_BASE : PAGE_DELTA;
	while (at < len_bytes) {
		bool has_crcs;
		struct page_run run = run_get(in + at, &has_crcs);
		const uint8_t *p = in + at + RUN_CRCS_AT;

		if (has_crcs) {
			for (unsigned int i = 0; i < run.count; i++)
				crcs[i] = le32_get(p + (size_t)i * CRC_BYTES);
			run.crcs = crcs;
		}
		at += run_bytes(in + at, len_bytes - at);
		fn(arg, &run);
	}
	return 0;
}
