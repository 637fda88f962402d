/* What a checkpoint makes of staged pages and ranges: rows, and counts of what they name. */
#include "common/parallel.h"
#include "volume/checkpoint_impl.h"
#include "volume/mutant.h"

#include <stdlib.h>

/* So many clusters of a page changed since the last checkpoint: its row is written whole. */
#define WHOLE_PAGE_CLUSTERS 8u
/* Pages whose rows are read before the first of them is staged, and by so many threads. */
#define READS_AT_ONCE 256u
#define READ_THREADS  4u
/* A row that is larger is damaged. */
#define ROW_BYTES_MAX (1u << 20)

static void count_mapped(struct checkpoint *c, uint64_t owner, int64_t delta)
{
	struct staged_object *so;

	HASH_FIND(hh, c->objects, &owner, sizeof(owner), so);
	if (!so || !delta) /* deleted: nobody asks any more */
		return;
	/* Counted anew at the end; what changes until then is seen through two limits. */
	if (checkpoint_limit_sank(so))
		return;
	so->row.mapped_clusters = (uint64_t)((int64_t)so->row.mapped_clusters + delta);
	so->written = false;
}

/* What it hides of the layer below may be let go some time. */
static void note_row(struct checkpoint *c, const struct layer *l)
{
	if (l->parent && family_note_row(&c->pool->family, l->parent->id))
		job_kick(&c->pool->merger);
}

/* A page that goes into the commit at hand. */
struct page_stage {
	struct checkpoint *c;
	int64_t before, after; /* places where its runs go: in the old row, in the new one */
	int error;
};

/* What committed rows say of a staged page. */
struct page_read {
	struct buf own; /* its own row; empty: there is none, or it is known without */
	int64_t visible; /* places where its runs go, as seen through its layer; of one with parents */
	int result;
	struct err why;
};

/* Count what a stretch of a staged run hides and what it brings. */
static void tally_change(void *arg, loc_t old, loc_t new, unsigned int count)
{
	struct page_stage *ps = arg;

	ps->before += loc_is_place(old) ? count : 0;
	ps->after += loc_is_place(new) ? count : 0;
	if (old == new)
		return; /* a replay that changes nothing */
	if (loc_is_place(old) && ps->error == 0)
		ps->error = checkpoint_tally(ps->c, old, -(int64_t)count);
	if (loc_is_place(new) && ps->error == 0)
		ps->error = checkpoint_tally(ps->c, new, count);
}

/* Places that the parents' clusters are, too, where the staged runs go. */
static int count_visible(struct map *m, const struct staged_page *sp, int64_t *ret_count,
			 struct err *e)
{
	loc_t seen[PAGE_CLUSTERS];
	int r = map_read_rows(m, sp->layer, sp->page, false, seen, e);

	*ret_count = 0;
	for (unsigned int i = 0; i < sp->run_count && r == 0; i++)
		for (unsigned int j = 0; j < sp->runs[i].count; j++)
			*ret_count += loc_is_place(seen[sp->runs[i].first + j]);
	return r;
}

/*
 * Lay the staged runs over the layer's own row. The result, in c->new, is the row afterwards, also
 * where it is written as a delta.
 */
static int splice_page(struct checkpoint *c, const struct staged_page *sp,
		       const struct page_read *read, struct page_stage *ps, struct err *e)
{
	const struct page_row *row = page_rows_find(&c->pool->page_rows, sp->layer->id, sp->page);
	int r;

	buf_clear(&c->new);
	r = page_value_splice(row ? row->value : read->own.data,
			      row ? row->len_bytes : read->own.len_bytes, sp->runs, sp->run_count,
			      tally_change, ps, &c->new, e);
	return r == 0 ? ps->error : r;
}

static unsigned int changed_clusters(const struct staged_page *sp)
{
	unsigned int changed = 0;

	for (unsigned int i = 0; i < sp->run_count; i++)
		changed += sp->runs[i].count;
	return changed;
}

/*
 * As a delta, or whole: a row of many large deltas is read and merged again at each checkpoint, so
 * one that changes much is better made anew.
 */
static int put_page(struct checkpoint *c, const struct row_key *key, const struct staged_page *sp)
{
	int r = 0;

	/* With the first page of a layer: maps on the backend that show it may name other streams. */
	if (layer_is_foreign(sp->layer) && c->foreign_layer != sp->layer->id &&
	    !MUTANT(MUTANT_SHARE_UNSAID)) {
		c->foreign_layer = sp->layer->id;
		r = checkpoint_note_change(c, sp->layer->id, AREA_FOREIGN << AREA_PAGES_SHIFT);
	}
	if (r == 0)
		r = checkpoint_note_change(c, sp->layer->id, sp->page);
	if (r < 0)
		return r;
	if (changed_clusters(sp) >= WHOLE_PAGE_CLUSTERS) {
		page_rows_note(&c->pool->page_rows, sp->layer->id, sp->page, c->new.data,
			       c->new.len_bytes);
		return meta_batch_put(c->pool->meta, c->batch, key, &c->new);
	}
	buf_clear(&c->value);
	r = page_value_encode(PAGE_DELTA, sp->runs, sp->run_count, &c->value);
	return r < 0 ? r : meta_batch_merge(c->pool->meta, c->batch, key, &c->value);
}

static int stage_page(struct checkpoint *c, const struct staged_page *sp,
		      const struct page_read *read, struct err *e)
{
	struct row_key key = row_key_2u64(ROW_PAGE, sp->layer->id, sp->page);
	struct page_stage ps = { .c = c };
	int r;

	if (read->result < 0)
		return err_set(e, read->result, "page of layer %" PRIu64 ": %s", sp->layer->id,
			       read->why.message);
	r = splice_page(c, sp, read, &ps, e);
	if (sp->layer->parent)
		ps.before = read->visible;
	if (r == 0)
		r = put_page(c, &key, sp);
	if (r < 0)
		return err_because(e, r, "page of layer %" PRIu64, sp->layer->id);
	count_mapped(c, layer_owner(sp->layer), ps.after - ps.before);
	note_row(c, sp->layer);
	counter_add(&c->pool->metrics.checkpoint_entries, sp->run_count);
	return checkpoint_commit_if_full(c, e);
}

/* --- reading ahead ----------------------------------------------------------------------------- */

struct page_reads {
	struct checkpoint *c;
	const struct staged_page *pages;
	struct page_read reads[READS_AT_ONCE];
};

static void read_page(void *arg, size_t i)
{
	struct page_reads *pr = arg;
	struct pool *p = pr->c->pool;
	const struct staged_page *sp = &pr->pages[i];
	struct row_key key = row_key_2u64(ROW_PAGE, sp->layer->id, sp->page);
	struct page_read *read = &pr->reads[i];

	buf_clear(&read->own);
	read->result = 0;
	if (!page_rows_has(&p->page_rows, sp->layer->id, sp->page)) {
		read->result = meta_get(p->meta, META_STATE, &key, &read->own, &read->why);
		if (read->result == -ENOENT)
			read->result = 0;
	}
	if (read->result == 0 && sp->layer->parent)
		read->result = count_visible(p->map, sp, &read->visible, &read->why);
}

/*
 * No page's rows depend on another's, so some are read before the first of them is changed. Where a
 * caller waits for this checkpoint they are read side by side: each may wait for the disk.
 */
int checkpoint_stage_pages(struct checkpoint *c, struct err *e)
{
	const unsigned int threads = c->pool->freezes ? READ_THREADS : 1;
	struct page_reads *pr = calloc(1, sizeof(*pr));
	int r = 0;

	if (!pr)
		return err_set(e, -ENOMEM, "checkpoint");
	pr->c = c;
	for (size_t i = 0; i < READS_AT_ONCE; i++)
		buf_init(&pr->reads[i].own, ROW_BYTES_MAX);
	for (size_t from = 0; from < c->page_count && r == 0; from += READS_AT_ONCE) {
		size_t count = min_u64(c->page_count - from, READS_AT_ONCE);

		pr->pages = c->pages + from;
		parallel_each(threads, count, read_page, pr);
		for (size_t i = 0; i < count && r == 0; i++)
			r = stage_page(c, &pr->pages[i], &pr->reads[i], e);
	}
	for (size_t i = 0; i < READS_AT_ONCE; i++)
		buf_done(&pr->reads[i].own);
	free(pr);
	return r;
}

/* --- ranges ------------------------------------------------------------------------------------ */

/* Places among the clusters of a page, as seen through a layer. */
static int count_seen(struct checkpoint *c, struct layer *l, uint64_t page, int64_t *ret_count,
		      struct err *e)
{
	loc_t seen[PAGE_CLUSTERS];
	int r = map_read_rows(c->pool->map, l, page, false, seen, e);

	*ret_count = 0;
	for (unsigned int i = 0; r == 0 && i < PAGE_CLUSTERS; i++)
		*ret_count += loc_is_place(seen[i]);
	return r;
}

struct range_rows {
	struct checkpoint *c;
	struct layer *layer;
	int64_t places; /* in the row at hand */
	int error;
	struct err *e;
};

static void count_run(void *arg, const struct page_run *run)
{
	struct range_rows *rr = arg;

	if (!loc_is_place(run->loc))
		return;
	if (rr->error == 0)
		rr->error = checkpoint_tally(rr->c, run->loc, -(int64_t)run->count);
	rr->places += run->count;
}

static int range_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		     size_t value_bytes)
{
	struct range_rows *rr = arg;
	struct checkpoint *c = rr->c;
	enum page_value_kind kind;
	uint64_t layer, page;
	struct row_key k;
	int64_t before, below = 0;
	int r;

	rr->places = 0;
	r = row_key_parse_2u64(key, key_bytes, ROW_PAGE, &layer, &page);
	if (r == 0)
		r = page_value_decode(value, value_bytes, &kind, count_run, rr, rr->e);
	if (r < 0)
		return r;
	if (rr->error < 0)
		return rr->error;
	before = rr->places;
	/* Without the row the parents' clusters come to light, until zeros hide them again. */
	if (rr->layer->parent) {
		r = count_seen(c, rr->layer, page, &before, rr->e);
		if (r == 0)
			r = checkpoint_count_below(c, rr->layer, page, &below, rr->e);
		if (r < 0)
			return r;
	}
	k = row_key_2u64(ROW_PAGE, layer, page);
	r = checkpoint_note_change(c, layer, page);
	if (r == 0)
		r = meta_batch_delete(c->pool->meta, c->batch, &k);
	if (r < 0)
		return r;
	count_mapped(c, layer_owner(rr->layer), below - before);
	return checkpoint_commit_if_full(c, rr->e);
}

/* Zeros over what the parents have of a page. */
static int hide_page(struct checkpoint *c, struct layer *l, uint64_t page, struct err *e)
{
	struct page_run run = { .count = PAGE_CLUSTERS, .loc = LOC_ZERO };
	struct row_key key = row_key_2u64(ROW_PAGE, l->id, page);
	int64_t below;
	int r;

	r = checkpoint_count_below(c, l, page, &below, e);
	if (r < 0)
		return r;
	r = checkpoint_note_change(c, l->id, page);
	buf_clear(&c->value);
	if (r == 0)
		r = page_value_encode(PAGE_BASE, &run, 1, &c->value);
	if (r == 0)
		r = meta_batch_put(c->pool->meta, c->batch, &key, &c->value);
	if (r < 0)
		return err_because(e, r, "zeros of layer %" PRIu64, l->id);
	count_mapped(c, layer_owner(l), -below);
	note_row(c, l);
	return checkpoint_commit_if_full(c, e);
}

/* Every row under a range goes; in a layer over others zeros take its place. */
int checkpoint_stage_range(struct checkpoint *c, const struct staged_range *sr, struct err *e)
{
	struct row_key from = row_key_2u64(ROW_PAGE, sr->layer->id, sr->first_page);
	struct row_key until = row_key_2u64(ROW_PAGE, sr->layer->id, sr->end_page);
	struct range_rows rr = { .c = c, .layer = sr->layer, .e = e };
	uint64_t *pages = NULL;
	size_t count = 0;
	int r;

	r = meta_iterate(c->pool->meta, META_STATE, &from, &until, range_row, &rr, e);
	if (r < 0)
		return err_wrap(e, r, "range of layer %" PRIu64, sr->layer->id);
	if (!sr->layer->parent || sr->value != LOC_ZERO)
		return 0;
	r = checkpoint_commit(c,
			      e); /* the deletions first: rows of one batch do not see each other */
	/* Whatever the limit is by now: a truncation that lowered it may be younger than this
	 * checkpoint, and the log may lose it. */
	if (r == 0)
		r = checkpoint_pages_of(c, sr->layer->parent, sr->first_page, sr->end_page, &pages,
					&count, e);
	for (size_t i = 0; i < count && r == 0; i++)
		r = hide_page(c, sr->layer, pages[i], e);
	free(pages);
	return r;
}
