/* merge_rows - the rows of a layer move to the one above it. */
#include "volume/merge_impl.h"

#include <string.h>

/* --- one page ---------------------------------------------------------------------------------- */

static void copy_run(void *arg, const struct page_run *run)
{
	struct merge_runs *rs = arg;
	struct page_run *to = &rs->runs[rs->count];

	if (run->loc == LOC_UNMAPPED)
		return; /* the parent is asked, as where there is no run */
	*to = *run;
	if (run->crcs) {
		to->crcs = &rs->crcs[rs->crc_count];
		memcpy(&rs->crcs[rs->crc_count], run->crcs, run->count * sizeof(*run->crcs));
		rs->crc_count += run->count;
	}
	rs->count++;
}

int merge_read_runs(struct merge *m, uint64_t layer, uint64_t page, struct err *e)
{
	struct merge_runs *rs = m->runs;
	struct row_key key = row_key_2u64(ROW_PAGE, layer, page);
	enum page_value_kind kind;
	int r;

	rs->count = rs->crc_count = 0;
	buf_clear(&m->c.old);
	r = meta_get(m->c.pool->meta, META_STATE, &key, &m->c.old, e);
	if (r == 0)
		r = page_value_decode(m->c.old.data, m->c.old.len_bytes, &kind, copy_run, rs, e);
	return r == -ENOENT ? 0 : r;
}

/* What lies behind the limit of the upper layer was never seen, and is not from here on. */
static int cut_runs(struct merge *m, uint64_t page)
{
	struct merge_runs *rs = m->runs;
	uint64_t first = page << PAGE_CLUSTERS_SHIFT;
	uint64_t limit = m->into_row.parent_limit_clusters;
	unsigned int kept = 0;
	int r = 0;

	for (unsigned int i = 0; i < rs->count && r == 0; i++) {
		struct page_run run = rs->runs[i];
		uint64_t at = first + run.first;
		uint16_t stays = at >= limit ? 0 : (uint16_t)min_u64(run.count, limit - at);

		if (loc_is_place(run.loc) && stays < run.count)
			r = checkpoint_tally(&m->c, run.loc + stays, -(int64_t)(run.count - stays));
		run.count = stays;
		if (stays)
			rs->runs[kept++] = run;
	}
	rs->count = kept;
	return r;
}

struct splice {
	struct merge *m;
	int error;
};

/* The upper layer's clusters were counted when they were written; those they hide die. */
static void count_hidden(void *arg, loc_t old, loc_t new, unsigned int count)
{
	struct splice *s = arg;

	(void)new;
	if (loc_is_place(old) && s->error == 0)
		s->error = checkpoint_tally(&s->m->c, old, -(int64_t)count);
}

static int move_page(struct merge *m, uint64_t page, struct err *e)
{
	struct merge_runs *rs = m->runs;
	struct checkpoint *c = &m->c;
	struct row_key from = row_key_2u64(ROW_PAGE, m->from, page);
	struct row_key into = row_key_2u64(ROW_PAGE, m->into, page);
	struct splice s = { .m = m };
	int r;

	r = merge_read_runs(m, m->from, page, e);
	if (r == 0)
		r = cut_runs(m, page);
	buf_clear(&m->base);
	if (r == 0)
		r = page_value_encode(PAGE_BASE, rs->runs, rs->count, &m->base);
	if (r == 0)
		r = merge_read_runs(m, m->into, page, e);
	buf_clear(&c->new);
	if (r == 0)
		r = page_value_splice(m->base.data, m->base.len_bytes, rs->runs, rs->count,
				      count_hidden, &s, &c->new, e);
	if (r == 0)
		r = s.error;
	if (r == 0)
		r = checkpoint_note_change(c, m->into, page);
	if (r == 0)
		r = meta_batch_put(c->pool->meta, c->batch, &into, &c->new);
	if (r == 0)
		r = checkpoint_note_change(c, m->from, page);
	if (r == 0)
		r = meta_batch_delete(c->pool->meta, c->batch, &from);
	return r < 0 ? err_wrap(e, r, "page %" PRIu64, page) : 0;
}

/* --- one step ---------------------------------------------------------------------------------- */

static int see_page(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		    size_t value_bytes)
{
	struct merge *m = arg;
	uint64_t layer;
	int r;

	(void)value;
	(void)value_bytes;
	r = row_key_parse_2u64(key, key_bytes, ROW_PAGE, &layer, &m->pages[m->page_count]);
	if (r == 0)
		r = ++m->page_count == MERGE_STEP_ROWS;
	return r;
}

int merge_find_pages(struct merge *m, uint64_t layer, uint64_t first, struct err *e)
{
	struct row_key from = row_key_2u64(ROW_PAGE, layer, first);
	struct row_key until = row_key_2u64(ROW_PAGE, layer, UINT64_MAX);
	int r;

	m->page_count = 0;
	r = meta_iterate(m->c.pool->meta, META_STATE, &from, &until, see_page, m, e);
	return r < 0 ? r : 0;
}

static int note(struct merge *m, uint64_t layer, uint64_t area)
{
	return checkpoint_note_change(&m->c, layer, area << AREA_PAGES_SHIFT);
}

static int has_foreign(struct merge *m, bool *ret_foreign, struct err *e)
{
	struct row_key key = row_key_2u64(ROW_CHANGED, m->from, AREA_FOREIGN);
	int r;

	*ret_foreign = m->from_row.mark_stream != m->into_stream;
	if (*ret_foreign)
		return 0;
	buf_clear(&m->base);
	r = meta_get(m->c.pool->meta, META_STATE, &key, &m->base, e);
	*ret_foreign = r == 0;
	return r == -ENOENT ? 0 : r;
}

int merge_note_unlogged(struct merge *m, uint64_t layer)
{
	return note(m, layer, AREA_UNLOGGED);
}

static int note_moves(struct merge *m, struct err *e)
{
	bool foreign;
	int r = has_foreign(m, &foreign, e);

	if (r == 0)
		r = merge_note_unlogged(m, m->from);
	if (r == 0)
		r = merge_note_unlogged(m, m->into);
	if (r == 0 && foreign)
		r = note(m, m->into, AREA_FOREIGN);
	return r;
}

static int get_state(struct merge *m, uint64_t layer, struct object_state_row *ret_row,
		     struct err *e)
{
	struct row_key key = row_key_u64(ROW_OBJECT_STATE, layer);
	int r;

	buf_clear(&m->base);
	r = meta_get(m->c.pool->meta, META_STATE, &key, &m->base, e);
	return r == 0 ? object_state_row_decode(m->base.data, m->base.len_bytes, ret_row, e) : r;
}

/* What a layer without a state of its own shows is the lower one's: it gets it. */
static int move_state(struct merge *m, struct err *e)
{
	struct row_key from = row_key_u64(ROW_OBJECT_STATE, m->from);
	struct row_key into = row_key_u64(ROW_OBJECT_STATE, m->into);
	struct object_state_row own, state;
	int had = get_state(m, m->into, &own, e), r;

	if (had < 0 && had != -ENOENT)
		return had;
	r = get_state(m, m->from, &state, e);
	if (r == -ENOENT)
		return 0; /* moved before, or it never had one */
	if (r == 0 && had == -ENOENT) {
		if (m->into_row.object != m->from_row.object ||
		    m->into_row.mark_stream != m->from_row.mark_stream)
			state.lsn = 0; /* of another log */
		r = checkpoint_note_change(&m->c, m->into, 0);
		buf_clear(&m->base);
		if (r == 0)
			r = object_state_row_encode(&state, &m->base);
		if (r == 0)
			r = meta_batch_put(m->c.pool->meta, m->c.batch, &into, &m->base);
	}
	if (r == 0)
		r = checkpoint_note_change(&m->c, m->from, 0);
	return r == 0 ? meta_batch_delete(m->c.pool->meta, m->c.batch, &from) : r;
}

/* Nothing is left behind it, as seen from the beginning. */
static bool is_last_step(const struct merge *m)
{
	return (m->page_count < MERGE_STEP_ROWS && m->c.pool->merge_place.whole) ||
	       MUTANT(MUTANT_MERGE_HALF);
}

int merge_commit(struct merge *m, struct err *e)
{
	struct pool *p = m->c.pool;
	int r;

	page_rows_forget(&p->page_rows);
	map_chain_hold_alone(p->map);
	r = checkpoint_commit(&m->c, e);
	map_chain_release_alone(p->map);
	return r;
}

int merge_move_rows(struct merge *m, struct err *e)
{
	struct merge_place *at = &m->c.pool->merge_place;
	int r = merge_find_pages(m, m->from, at->page, e);
	bool last = is_last_step(m);

	if (r == 0 && !MUTANT(MUTANT_MERGE_UNMARKED))
		r = note_moves(m, e);
	for (size_t i = 0; i < m->page_count && r == 0; i++)
		r = move_page(m, m->pages[i], e);
	if (r == 0 && last)
		r = move_state(m, e);
	if (r == 0)
		r = merge_commit(m, e);
	if (r < 0)
		return r;
	at->whole = false;
	at->page = m->page_count == MERGE_STEP_ROWS ? m->pages[m->page_count - 1] + 1 : 0;
	return last;
}
