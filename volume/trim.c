/*
 * trim - a layer that lost its name and is much larger than the only one on it keeps its rows. What
 * the upper one hides of them is taken out, again and again while that grows: until it is worth the
 * while to move the rest. So what a deletion costs goes by the smaller layer, and chains get longer by
 * one layer for each factor of TRIM_RATIO only. The argument: FORMAT.md 10.9.
 */
#include "volume/merge_impl.h"

/* So many times the rows of the upper one, and so many at least: then they stay. */
#define TRIM_RATIO    4u
#define TRIM_ROWS_MIN 1024u
/* Rows of the upper one that are counted before as many times more of the lower one are. */
#define COUNT_ROWS 256u
/* Of the least number of rows that are left where they are, so many are put before the next look. */
#define LOOK_SHARE 16u

static unsigned int ratio(const struct pool *p)
{
	return p->options.merge_ratio ? p->options.merge_ratio : TRIM_RATIO;
}

static unsigned int rows_min(const struct pool *p)
{
	return p->options.merge_rows_min ? p->options.merge_rows_min : TRIM_ROWS_MIN;
}

/* --- which is larger --------------------------------------------------------------------------- */

struct row_count {
	uint64_t layer;
	uint64_t count, wanted;
	uint64_t next_page;
	bool all; /* there are no more */
};

static int count_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		     size_t value_bytes)
{
	struct row_count *rc = arg;
	uint64_t layer, page;
	int r = row_key_parse_2u64(key, key_bytes, ROW_PAGE, &layer, &page);

	(void)value;
	(void)value_bytes;
	rc->next_page = page + 1;
	return r < 0 ? r : ++rc->count >= rc->wanted;
}

static int count_until(struct pool *p, struct row_count *rc, uint64_t wanted, struct err *e)
{
	struct row_key from = row_key_2u64(ROW_PAGE, rc->layer, rc->next_page);
	struct row_key until = row_key_2u64(ROW_PAGE, rc->layer, UINT64_MAX);
	int r;

	if (rc->all || rc->count >= wanted)
		return 0;
	rc->wanted = wanted;
	r = meta_iterate(p->meta, META_STATE, &from, &until, count_row, rc, e);
	rc->all = r == 0;
	return r < 0 ? r : 0;
}

int trim_is_better(struct pool *p, uint64_t from, uint64_t into, bool *ret_better, struct err *e)
{
	struct row_count lower = { .layer = from }, upper = { .layer = into };
	int r = count_until(p, &lower, rows_min(p), e);

	while (r == 0 && !lower.all && !upper.all) {
		if (job_is_stopping(&p->merger))
			return -EAGAIN;
		r = count_until(p, &upper, upper.count + COUNT_ROWS, e);
		if (r == 0)
			r = count_until(p, &lower, ratio(p) * upper.count, e);
	}
	*ret_better = r == 0 && !lower.all;
	return r;
}

/* --- taking out -------------------------------------------------------------------------------- */

struct taking {
	struct merge *m;
	unsigned int had, went; /* clusters that the row says something of */
	unsigned int places;	/* of those that went */
	int error;
};

static void count_had(void *arg, const struct page_run *run)
{
	struct taking *t = arg;

	t->had += run->loc == LOC_UNMAPPED ? 0 : run->count;
}

static void count_went(void *arg, loc_t old, loc_t new, unsigned int count)
{
	struct taking *t = arg;

	(void)new;
	t->went += old == LOC_UNMAPPED ? 0 : count;
	if (!loc_is_place(old))
		return;
	t->places += count;
	if (t->error == 0)
		t->error = checkpoint_tally(&t->m->c, old, -(int64_t)count);
}

static int put_lower(struct merge *m, uint64_t page, bool empty)
{
	struct row_key key = row_key_2u64(ROW_PAGE, m->from, page);
	struct checkpoint *c = &m->c;
	int r = checkpoint_note_change(c, m->from, page);

	if (r < 0)
		return r;
	if (!empty)
		return meta_batch_put(c->pool->meta, c->batch, &key, &c->new);
	c->pool->merge_place.smaller = true;
	return meta_batch_delete(c->pool->meta, c->batch, &key);
}

/* The clusters of m->runs, out of the row of the lower layer. */
static int take_runs(struct merge *m, uint64_t page, struct err *e)
{
	struct row_key key = row_key_2u64(ROW_PAGE, m->from, page);
	struct checkpoint *c = &m->c;
	struct taking t = { .m = m };
	enum page_value_kind kind;
	int r;

	buf_clear(&c->old);
	r = meta_get(c->pool->meta, META_STATE, &key, &c->old, e);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = page_value_decode(c->old.data, c->old.len_bytes, &kind, count_had, &t, e);
	buf_clear(&c->new);
	if (r == 0)
		r = page_value_splice(c->old.data, c->old.len_bytes, m->runs->runs, m->runs->count,
				      count_went, &t, &c->new, e);
	if (r == 0)
		r = t.error;
	if (r == 0 && t.went)
		r = put_lower(m, page, t.went == t.had);
	m->trimmed += t.places;
	return r < 0 ? err_wrap(e, r, "page %" PRIu64, page) : 0;
}

static int take_out_hidden(struct merge *m, uint64_t page, struct err *e)
{
	int r = merge_read_runs(m, m->into, page, e);

	for (unsigned int i = 0; i < m->runs->count; i++) {
		m->runs->runs[i].loc = LOC_UNMAPPED;
		m->runs->runs[i].crcs = NULL;
	}
	return r < 0 || m->runs->count == 0 ? r : take_runs(m, page, e);
}

/* Behind the limit nothing is seen. */
static int take_out_behind(struct merge *m, uint64_t page, struct err *e)
{
	uint64_t first = page << PAGE_CLUSTERS_SHIFT, limit = m->into_row.parent_limit_clusters;
	uint16_t seen = limit > first ? (uint16_t)min_u64(limit - first, PAGE_CLUSTERS) : 0;

	if (seen == PAGE_CLUSTERS)
		return 0;
	m->runs->runs[0] = (struct page_run){ .first = seen,
					      .count = (uint16_t)(PAGE_CLUSTERS - seen),
					      .loc = LOC_UNMAPPED };
	m->runs->count = 1;
	return take_runs(m, page, e);
}

/* At once where moving the rest may have become better; else when the upper one has grown by as much
 * as it was, or by what is worth the while. */
static uint64_t next_look(const struct merge *m)
{
	const struct pool *p = m->c.pool;

	if (p->merge_place.smaller)
		return 0;
	if (m->into_row.state == LAYER_FROZEN)
		return UINT64_MAX;
	return max_u64(max_u64(p->merge_place.rows, rows_min(p) / LOOK_SHARE), 1);
}

static int commit(struct merge *m, struct err *e)
{
	int r = 0;

	if (!meta_batch_bytes(m->c.pool->meta, m->c.batch))
		return 0;
	/* Of one stream a root shows both as they are, or both as they were when it failed. */
	if (m->into_stream != m->from_row.mark_stream && !MUTANT(MUTANT_TRIM_UNMARKED))
		r = merge_note_unlogged(m, m->into);
	return r == 0 ? merge_commit(m, e) : r;
}

int trim_rows(struct merge *m, struct err *e)
{
	struct pool *p = m->c.pool;
	struct merge_place *at = &p->merge_place;
	uint64_t limit = m->into_row.parent_limit_clusters;
	int r = merge_find_pages(m, at->behind ? m->from : m->into, at->page, e);
	bool all = m->page_count < MERGE_STEP_ROWS, last;

	for (size_t i = 0; i < m->page_count && r == 0; i++)
		r = at->behind ? take_out_behind(m, m->pages[i], e) :
				 take_out_hidden(m, m->pages[i], e);
	if (r == 0)
		r = commit(m, e);
	if (r < 0)
		return r;
	counter_add(&p->metrics.trimmed_clusters, m->trimmed);
	last = all && (at->behind || limit == CLUSTER_MAX);
	at->rows += at->behind ? 0 : m->page_count;
	at->page = all ? limit >> PAGE_CLUSTERS_SHIFT : m->pages[m->page_count - 1] + 1;
	at->behind |= all;
	if (last)
		family_hold(&p->family, m->from, next_look(m));
	return last;
}
