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
static inline const char *page_run_flaw(const struct page_run *run, bool has_crcs,
					unsigned int next)
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
	/* common/endian.h: only little-endian machines are built. */
	memcpy(p + RUN_CRCS_AT, run->crcs, (size_t)run->count * CRC_BYTES);
	return RUN_CRCS_AT + (size_t)run->count * CRC_BYTES;
}

/* Head and checksum, once the runs are in place. */
static void page_seal(uint8_t *value, size_t len_bytes, enum page_value_kind kind,
		      unsigned int count)
{
	value[PAGE_VERSION_AT] = FORMAT_VERSION;
	value[PAGE_KIND_AT] = (uint8_t)kind;
	le16_put(value + PAGE_RUN_COUNT_AT, (uint16_t)count);
	le32_put(value + PAGE_CRC_AT, format_crc_hole(0, value, len_bytes, PAGE_CRC_AT));
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
	page_seal(value, len_bytes, kind, count);
	return buf_append(out, value, len_bytes);
}

/* Bytes of the run at p, of which left are there; 0: it is cut off. */
static inline size_t run_bytes(const uint8_t *p, size_t left)
{
	size_t need = RUN_CRCS_AT;

	if (left < need)
		return 0;
	if (le16_get(p + RUN_FIRST_AT) & RUN_HAS_CRCS)
		need += (size_t)le16_get(p + RUN_COUNT_AT) * CRC_BYTES;
	return left < need ? 0 : need;
}

static inline struct page_run run_get(const uint8_t *p, bool *ret_has_crcs)
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
			memcpy(crcs, p, (size_t)run.count * CRC_BYTES);
			run.crcs = crcs;
		}
		at += run_bytes(in + at, len_bytes - at);
		fn(arg, &run);
	}
	return 0;
}

/* ---- splice ---- */

/* A run of the old value, or what is left of one. */
struct old_run {
	unsigned int first, count;
	loc_t loc;
	const uint8_t *crcs; /* as they are encoded; NULL: none */
};

/* The old value is read and the new one written, both from left to right. */
struct splice {
	const uint8_t *at, *end; /* of the old runs behind `old` */
	struct old_run old;	 /* first is PAGE_CLUSTERS behind the last one */
	uint8_t value[PAGE_VALUE_BYTES_MAX];
	size_t len_bytes, last_at; /* last_at: of the newest run; 0: there is none yet */
	unsigned int count;
};

static struct old_run old_run_at(const uint8_t *p)
{
	bool has_crcs;
	const struct page_run run = run_get(p, &has_crcs);

	return (struct old_run){ .first = run.first,
				 .count = run.count,
				 .loc = run.loc,
				 .crcs = has_crcs ? p + RUN_CRCS_AT : NULL };
}

/* The old value was checked: its runs are whole. */
static const uint8_t *old_run_behind(const uint8_t *p)
{
	return p + run_bytes(p, PAGE_VALUE_BYTES_MAX);
}

static void next_old(struct splice *s)
{
	if (s->at == s->end) {
		s->old = (struct old_run){ .first = PAGE_CLUSTERS };
		return;
	}
	s->old = old_run_at(s->at);
	s->at = old_run_behind(s->at);
}

/* The first clusters of the old run are dealt with. */
static void cut_old(struct splice *s, unsigned int count)
{
	if (count == s->old.count) {
		next_old(s);
		return;
	}
	s->old.first += count;
	s->old.count -= count;
	s->old.loc = loc_ahead(s->old.loc, count);
	if (s->old.crcs != NULL)
		s->old.crcs += (size_t)count * CRC_BYTES;
}

/* Whether a run carries on the newest one. No carry: each ends inside its SCO. */
static bool joins_last(const struct splice *s, unsigned int first, loc_t loc, bool has_crcs)
{
	struct old_run last;

	if (s->last_at == 0)
		return false;
	last = old_run_at(s->value + s->last_at);
	return last.first + last.count == first && (last.crcs != NULL) == has_crcs &&
	       loc_ahead(last.loc, last.count) == loc;
}

static void emit(struct splice *s, unsigned int first, unsigned int count, loc_t loc,
		 const void *crcs)
{
	uint8_t *p = s->value + s->len_bytes;

	if (joins_last(s, first, loc, crcs != NULL)) {
		uint8_t *old_count = s->value + s->last_at + RUN_COUNT_AT;

		le16_put(old_count, (uint16_t)(le16_get(old_count) + count));
	} else {
		le16_put(p + RUN_FIRST_AT, (uint16_t)(first | (crcs != NULL ? RUN_HAS_CRCS : 0)));
		le16_put(p + RUN_COUNT_AT, (uint16_t)count);
		le64_put(p + RUN_LOC_AT, loc);
		s->last_at = s->len_bytes;
		s->len_bytes += RUN_CRCS_AT;
		s->count++;
	}
	if (crcs != NULL) {
		memcpy(s->value + s->len_bytes, crcs, (size_t)count * CRC_BYTES);
		s->len_bytes += (size_t)count * CRC_BYTES;
	}
}

/* Old runs that end at this cluster or before stay as they are. */
static void keep_old(struct splice *s, unsigned int until)
{
	const uint8_t *from, *last = NULL;

	if (s->old.first + s->old.count > until || s->old.count == 0)
		return;
	emit(s, s->old.first, s->old.count, s->old.loc, s->old.crcs);
	from = s->at;
	while (s->at != s->end) {
		const unsigned int first = le16_get(s->at + RUN_FIRST_AT) & ~RUN_HAS_CRCS;

		if (first + le16_get(s->at + RUN_COUNT_AT) > until)
			break;
		last = s->at;
		s->at = old_run_behind(s->at);
		s->count++;
	}
	if (last != NULL) {
		memcpy(s->value + s->len_bytes, from, (size_t)(s->at - from));
		s->last_at = s->len_bytes + (size_t)(last - from);
		s->len_bytes += (size_t)(s->at - from);
	}
	next_old(s);
}

static void lay_over(struct splice *s, const struct page_run *run,
		     void (*fn)(void *arg, loc_t old, loc_t new, unsigned int count), void *arg)
{
	const unsigned int end = run->first + run->count;
	unsigned int at = run->first;

	keep_old(s, at);
	if (s->old.first < at) {
		const unsigned int left = at - s->old.first;

		emit(s, s->old.first, left, s->old.loc, s->old.crcs);
		cut_old(s, left);
	}
	while (at < end) {
		const bool gap = at < s->old.first;
		const unsigned int stop = gap ? s->old.first : at + s->old.count;
		const unsigned int count = (stop < end ? stop : end) - at;

		fn(arg, gap ? LOC_UNMAPPED : s->old.loc, loc_ahead(run->loc, at - run->first),
		   count);
		if (!gap)
			cut_old(s, count);
		at += count;
	}
	if (run->loc != LOC_UNMAPPED)
		emit(s, run->first, run->count, run->loc, run->crcs);
}

int page_value_splice(const uint8_t *base, size_t base_bytes, const struct page_run *runs,
		      unsigned int run_count,
		      void (*fn)(void *arg, loc_t old, loc_t new, unsigned int count), void *arg,
		      struct buf *out, struct err *e)
{
	struct splice s;
	unsigned int next = 0;
	int r;

	s.at = s.end = base;
	s.len_bytes = PAGE_RUNS_AT;
	s.last_at = s.count = 0;
	if (base_bytes > 0) {
		r = page_value_check(base, base_bytes, e);
		if (r == 0 && base[PAGE_KIND_AT] != PAGE_BASE)
			r = err_set(e, -EUCLEAN, "map page: a delta where a base belongs");
		if (r < 0)
			return r;
		s.at = base + PAGE_RUNS_AT;
		s.end = base + base_bytes;
	}
	next_old(&s);
	for (unsigned int i = 0; i < run_count; i++) {
		ASSERT(page_run_flaw(&runs[i], runs[i].crcs != NULL, next) == NULL);
		next = runs[i].first + runs[i].count;
		lay_over(&s, &runs[i], fn, arg);
	}
	keep_old(&s, PAGE_CLUSTERS);
	page_seal(s.value, s.len_bytes, PAGE_BASE, s.count);
	return buf_append(out, s.value, s.len_bytes);
}
