/* check_sco - the part of check that reads SCOs: their headers and indexes, and their clusters. */
#include "common/crc32c.h"
#include "volume/absent.h"
#include "volume/check_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Clusters that are read at once. */
#define READ_CLUSTERS 64u
/* Damaged clusters whose owners are looked for; more are counted in one line. */
#define BAD_MAX 1000u

/* --- headers, footers, indexes ----------------------------------------------------------------- */

static void report_sco(struct check *k, const struct sco *s, const char *part, const char *why)
{
	char what[ERR_MESSAGE_BYTES + 64];

	(void)snprintf(what, sizeof(what), "the %s of a container is damaged: %s", part, why);
	check_report(k, &(struct pool_problem){
				.severity = POOL_ERROR, .what = what, .sco = s->number });
}

bool check_is_away(struct check *k, int r)
{
	if (r == -ENOMEM || r == -EMFILE || r == -ENFILE) {
		k->short_of = r;
		return true;
	}
	k->away |= r == STORE_AWAY || r == -ESHUTDOWN;
	return r == STORE_AWAY || r == -ESHUTDOWN;
}

static int look_at_header(struct check *k, struct sco *s, void *block)
{
	struct sco_header h;
	struct err e = { 0 };
	int r;

	if (sco_is_absent(k->pool->scos, s)) {
		r = sco_read_header(k->pool->scos, s, &h, &e);
	} else {
		r = sco_read_raw(k->pool->scos, s, 0, BLOCK_BYTES, block, &e);
		if (r == 0)
			r = sco_header_decode(block, &h, &e);
	}
	if (check_is_away(k, r))
		return r;
	if (r < 0) {
		report_sco(k, s, "header", e.message);
		return r;
	}
	if (memcmp(&h.pool, &k->pool->uuid, sizeof(h.pool)) != 0 || h.sco != s->number ||
	    h.stream != s->stream || h.salt != s->salt) {
		report_sco(k, s, "header", "it is of another container");
		return -EUCLEAN;
	}
	return 0;
}

static void take_kinds(struct check_sco *cs, uint32_t first, const struct slot_record *records,
		       unsigned int count)
{
	for (unsigned int i = 0; i < count && first + i < cs->sco->slots_max; i++) {
		uint8_t kind = records[i].kind;

		if (kind == SLOT_RAW || kind == SLOT_LZ4 || kind == SLOT_REF)
			bit_set(cs->holds, first + i);
	}
}

static int look_at_table(struct check *k, struct check_sco *cs, const struct sco_footer *footer,
			 void *block, struct slot_record *records)
{
	struct sco *s = cs->sco;
	bool absent = sco_is_absent(k->pool->scos, s);
	struct err e = { 0 };

	for (uint32_t i = 0; i < footer->table_chunks; i++) {
		uint64_t at = footer->table_offset_bytes + (uint64_t)i * BLOCK_BYTES;
		unsigned int count = 0;
		int r;

		/* Past the cache, which a power cut may have mixed up: it is the object that is
		 * looked at. */
		if (absent)
			r = sco_read_again(k->pool->scos, s, at, BLOCK_BYTES, block, &e);
		else
			r = sco_read_raw(k->pool->scos, s, at, BLOCK_BYTES, block, &e);
		if (r == 0)
			r = slot_chunk_decode(block, i, s->salt, records, &count, &e);
		if (check_is_away(k, r))
			return r;
		if (r < 0) {
			report_sco(k, s, "index", e.message);
			return r;
		}
		take_kinds(cs, i * SLOTS_PER_CHUNK, records, count);
	}
	cs->knows_slots = true;
	return 0;
}

static int ignore_entry(void *arg, const struct log_entry *entry)
{
	(void)arg;
	(void)entry;
	return 0;
}

static void look_at_sco(struct check *k, struct check_sco *cs, void *block,
			struct slot_record *records)
{
	struct sco *s = cs->sco;
	struct sco_bytes bytes = sco_bytes_of(k->pool->scos, s);
	struct sco_footer footer;
	struct env_file *file;
	struct err e = { 0 };
	int r;

	r = sco_file(k->pool->scos, s, &file, &e);
	if (r == -ENODATA && (!k->options->data || k->away))
		return; /* what is not here is looked at there */
	if (r < 0 && r != -ENODATA && !check_is_away(k, r)) {
		report_sco(k, s, "file", e.message);
	}
	if (r < 0 && r != -ENODATA) {
		return;
	}
	if (r == -ENODATA) { /* the salt, to compare with */
		r = sco_load_footer(k->pool->scos, s, &e);
		if (check_is_away(k, r))
			return;
		if (r < 0) {
			report_sco(k, s, "footer", e.message);
			return;
		}
	}
	if (look_at_header(k, s, block) < 0 || sco_life(k->pool->scos, s) != SCO_LIFE_SEALED)
		return;
	r = sco_read_footer(&bytes, s->file_bytes, &footer, &e);
	if (check_is_away(k, r))
		return;
	if (r < 0) {
		report_sco(k, s, "footer", e.message);
		return;
	}
	if (look_at_table(k, cs, &footer, block, records) < 0)
		return;
	r = sco_read_log(&bytes, &footer, ignore_entry, NULL, &e);
	if (r < 0 && !check_is_away(k, r))
		report_sco(k, s, "log", e.message);
}

int check_files(struct check *k, struct err *e)
{
	struct slot_record *records = calloc(SLOTS_PER_CHUNK, sizeof(*records));
	void *block = direct_alloc(BLOCK_BYTES);
	struct check_sco *cs, *next;
	int r = records && block ? 0 : err_set(e, -ENOMEM, "checking: %s", err_name(-ENOMEM));

	HASH_ITER (hh, k->scos, cs, next)
		if (r == 0)
			look_at_sco(k, cs, block, records);
	free(records);
	free(block);
	return r;
}

/* --- clusters ---------------------------------------------------------------------------------- */

struct data_walk {
	struct check *k;
	uint8_t *clusters; /* READ_CLUSTERS of them */
	uint64_t total_bytes;
	loc_t bad[BAD_MAX]; /* ascending by SCO and slot, as they are found */
	unsigned int bad_count;
	uint64_t bad_more;
	const struct check_layer *layer; /* of the page that is searched */
	uint64_t page;
};

static void add_bad(struct data_walk *w, const struct sco *s, uint32_t slot)
{
	if (w->bad_count < BAD_MAX)
		w->bad[w->bad_count++] = loc_make(0, s->number, slot);
	else
		w->bad_more++;
}

/* count neighbours, all live. */
static void compare_run(struct data_walk *w, const struct check_sco *cs, uint32_t slot,
			uint32_t count)
{
	struct sco *s = cs->sco;
	struct pool *p = w->k->pool;
	bool absent = sco_is_absent(p->scos, s);
	uint32_t crcs[READ_CLUSTERS];
	struct err e = { 0 };
	int r;

	if (absent && w->k->away)
		return;
	r = sco_index_crcs(p->index, s, slot, count, crcs, &e);
	if (r == 0 && absent) /* past the cache: it is the object that is looked at */
		r = sco_read_again(p->scos, s, (uint64_t)slot * CLUSTER_BYTES,
				   (size_t)count * CLUSTER_BYTES, w->clusters, &e);
	else if (r == 0)
		r = sco_read(p->scos, s, slot, count, w->clusters, &e);
	if (check_is_away(w->k, r))
		return;
	/* Where the other copy is whole, reading takes that: the container was told of. */
	for (uint32_t i = 0; i < count && !cs->has_whole_copy; i++)
		if (r < 0 ||
		    crc32c(0, w->clusters + (size_t)i * CLUSTER_BYTES, CLUSTER_BYTES) != crcs[i])
			add_bad(w, s, slot + i);
	w->k->result->data_bytes += (uint64_t)count * CLUSTER_BYTES;
	if (w->k->options->progress)
		w->k->options->progress(w->k->options->arg, w->k->result->data_bytes,
					w->total_bytes);
}

static void compare_sco(struct data_walk *w, const struct check_sco *cs)
{
	for (uint32_t slot = 0; slot < cs->sco->slots_max;) {
		uint32_t count = 0;

		if (!bit_get(cs->live, slot)) {
			slot++;
			continue;
		}
		while (count < READ_CLUSTERS && slot + count < cs->sco->slots_max &&
		       bit_get(cs->live, slot + count))
			count++;
		compare_run(w, cs, slot, count);
		slot += count;
	}
}

static int loc_order(const void *a, const void *b)
{
	const loc_t x = *(const loc_t *)a, y = *(const loc_t *)b;

	return x < y ? -1 : x > y;
}

/* Who reads the damaged clusters of this run. */
static void find_owner(void *arg, const struct page_run *run)
{
	struct data_walk *w = arg;

	for (unsigned int i = 0; loc_is_place(run->loc) && i < run->count; i++) {
		loc_t place = loc_make(0, loc_sco(run->loc), loc_slot(run->loc) + i);

		if (!bsearch(&place, w->bad, w->bad_count, sizeof(place), loc_order))
			continue;
		check_report(w->k,
			     &(struct pool_problem){
				     .severity = POOL_ERROR,
				     .what = "a cluster is damaged: reading it fails",
				     .object = w->layer ? w->layer->object : 0,
				     .offset_bytes = (w->page * PAGE_CLUSTERS + run->first + i) *
						     CLUSTER_BYTES,
				     .len_bytes = CLUSTER_BYTES,
				     .sco = loc_sco(place),
				     .slot = loc_slot(place),
			     });
	}
}

static int find_owners_in_page(void *arg, const uint8_t *key, size_t key_bytes,
			       const uint8_t *value, size_t value_bytes)
{
	struct data_walk *w = arg;
	enum page_value_kind kind;
	struct check_layer *layer;
	uint64_t id;

	if (row_key_parse_2u64(key, key_bytes, ROW_PAGE, &id, &w->page) < 0)
		return 0; /* told by the walk before */
	HASH_FIND(hh, w->k->layers, &id, sizeof(id), layer);
	w->layer = layer;
	/* A page that cannot be read was told by the walk before, too. */
	return page_value_decode(value, value_bytes, &kind, find_owner, w, NULL) == -ENOMEM ?
		       -ENOMEM :
		       0;
}

static int report_bad(struct data_walk *w, struct err *e)
{
	char what[96];

	if (w->bad_count == 0)
		return 0;
	if (w->bad_more) {
		(void)snprintf(what, sizeof(what), "%" PRIu64 " more clusters are damaged",
			       w->bad_more);
		check_report(w->k, &(struct pool_problem){ .severity = POOL_ERROR, .what = what });
	}
	qsort(w->bad, w->bad_count, sizeof(w->bad[0]), loc_order);
	return check_walk_pages(w->k, find_owners_in_page, w, e);
}

int check_data(struct check *k, struct err *e)
{
	struct data_walk *w = calloc(1, sizeof(*w)); /* large */
	struct check_sco *cs, *next;
	int r;

	if (w)
		w->clusters = direct_alloc((size_t)READ_CLUSTERS * CLUSTER_BYTES);
	if (!w || !w->clusters) {
		free(w);
		return err_set(e, -ENOMEM, "checking: %s", err_name(-ENOMEM));
	}
	w->k = k;
	HASH_ITER (hh, k->scos, cs, next)
		w->total_bytes += (uint64_t)cs->counted * CLUSTER_BYTES;
	HASH_ITER (hh, k->scos, cs, next)
		compare_sco(w, cs);
	r = report_bad(w, e);
	free(w->clusters);
	free(w);
	return r;
}
