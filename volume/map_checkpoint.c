/* map_checkpoint - dirty clusters out of the map: staged, copied, and clean or dirty again. */
#include "volume/map_impl.h"

#include <stdlib.h>
#include <string.h>

void map_checkpoint_forget(struct map *m)
{
	for (size_t i = 0; i < m->staged_count; i++) {
		free(m->staged[i].runs);
		layer_unref(m, m->staged[i].layer);
	}
	free(m->staged);
	free(m->ranges);
	m->staged = NULL;
	m->ranges = NULL;
	m->staged_count = m->staged_room = 0;
}

void map_checkpoint_begin(struct map *m)
{
	ASSERT(!m->staged && !m->ranges);
	rwlock_write_lock(&m->ranges_lock);
	map_tombstones_freeze(m);
	rwlock_write_unlock(&m->ranges_lock);
}

/* ---- stage ------------------------------------------------------------------------------------ */

/* Finds dirty pages. They are noted as staged pages without runs; each holds its layer. */
struct collect {
	struct map *m;
	bool no_memory;
};

/* Room for all that one hold of a shard's lock can find. */
static void make_room(void *arg)
{
	struct collect *c = arg;
	struct map *m = c->m;
	size_t room = m->staged_room ? m->staged_room * 2 : SWEEP_SLOTS * 2;
	struct staged_page *pages;

	if (m->staged_room - m->staged_count >= SWEEP_SLOTS)
		return;
	pages = realloc(m->staged, room * sizeof(*pages));
	if (!pages) {
		c->no_memory = true;
		return;
	}
	m->staged = pages;
	m->staged_room = room;
}

static bool collect_dirty(void *arg, struct shard *s, struct map_page *p)
{
	struct collect *c = arg;
	struct map *m = c->m;
	struct layer *l;

	if (c->no_memory || s->dirty_count == 0)
		return false;
	if (!page_is(p, PAGE_DIRTY))
		return true;
	l = &page_layer(m, p)->pub;
	if (layer_is_stuck(l))
		return true;
	layer_ref(l);
	m->staged[m->staged_count++] = (struct staged_page){ .layer = l, .page = page_number(p) };
	return true;
}

static int by_layer_and_page(const void *a, const void *b)
{
	const struct staged_page *x = a, *y = b;

	if (x->layer->id != y->layer->id)
		return x->layer->id < y->layer->id ? -1 : 1;
	return (x->page > y->page) - (x->page < y->page);
}

/* Dirty clusters of one page, copied out under the lock; runs' crcs point into crcs. */
struct extract {
	struct page_run runs[PAGE_CLUSTERS];
	uint32_t crcs[PAGE_CLUSTERS];
	unsigned int run_count, crc_count;
};

static void extract_add(struct extract *x, const struct leaf_span *span)
{
	struct page_run *last = x->run_count ? &x->runs[x->run_count - 1] : NULL;
	loc_t ahead =
		last && loc_is_place(last->loc) ? last->loc + last->count : (last ? last->loc : 0);

	if (last && last->first + last->count == span->first && ahead == span->loc &&
	    loc_is_place(last->loc) == loc_is_place(span->loc) &&
	    (last->crcs != NULL) == (span->crcs != NULL))
		last->count = (uint16_t)(last->count + span->count);
	else
		x->runs[x->run_count++] = (struct page_run){
			.first = (uint16_t)span->first,
			.count = (uint16_t)span->count,
			.loc = span->loc,
			.crcs = span->crcs ? &x->crcs[x->crc_count] : NULL,
		};
	if (span->crcs) {
		memcpy(&x->crcs[x->crc_count], span->crcs, span->count * sizeof(*span->crcs));
		x->crc_count += span->count;
	}
}

/* Stage one page if it is still dirty and no tombstone younger than the checkpoint covers it. */
static void page_stage(struct map *m, const struct staged_page *at, struct extract *x)
{
	uint64_t key = page_key(map_layer_of(at->layer), at->page);
	struct shard *s = shard_of(m, key);
	struct leaf_span span;
	struct map_page *p;
	uint64_t bytes;
	bool pinned;

	x->run_count = x->crc_count = 0;
	/* Held over both steps, so that no range comes between the question and the copy. */
	GUARD(&at->layer->lock);
	if (tombstones_find_locked(at->layer, at->page, true))
		return;
	GUARD(&s->lock);
	p = page_find(s, key);
	if (!p || !page_is(p, PAGE_DIRTY))
		return;
	leaf_prefetch(&p->leaf, LEAF_DIRTY);
	for (unsigned int i = leaf_next(&p->leaf, 0, LEAF_DIRTY); i < PAGE_CLUSTERS;
	     i = leaf_next(&p->leaf, i + span.count, LEAF_DIRTY)) {
		leaf_span_at(&p->leaf, i, PAGE_CLUSTERS, &span);
		extract_add(x, &span);
	}
	if (!page_is(p, PAGE_STAGED))
		s->staged_count++;
	page_flag(p, PAGE_STAGED);
	pinned = !page_unmark(s, p, PAGE_DIRTY);
	ASSERT(pinned);
	bytes = page_bytes(p);
	leaf_restate(&s->pool, &p->leaf, LEAF_DIRTY, LEAF_STAGED);
	page_resized(s, p, bytes);
}

/* One block of memory for runs and checksums. */
static int extract_copy(const struct extract *x, struct staged_page *page)
{
	size_t runs_bytes = x->run_count * sizeof(struct page_run);
	struct page_run *runs = malloc(runs_bytes + x->crc_count * sizeof(uint32_t));
	uint32_t *crcs = (uint32_t *)(void *)(runs + x->run_count);

	if (!runs)
		return -ENOMEM;
	memcpy(runs, x->runs, runs_bytes);
	memcpy(crcs, x->crcs, x->crc_count * sizeof(uint32_t));
	for (unsigned int i = 0; i < x->run_count; i++)
		if (runs[i].crcs)
			runs[i].crcs = crcs + (x->runs[i].crcs - x->crcs);
	page->runs = runs;
	page->run_count = x->run_count;
	return 0;
}

static int stage_collected(struct map *m)
{
	struct extract *x = malloc(sizeof(*x));
	size_t kept = 0;
	int r = x ? 0 : -ENOMEM;

	for (size_t i = 0; i < m->staged_count; i++) {
		struct staged_page *page = &m->staged[i];

		if (r == 0) {
			page_stage(m, page, x);
			if (x->run_count == 0) {
				layer_unref(m, page->layer);
				continue;
			}
			r = extract_copy(x, page);
		}
		m->staged[kept++] = *page;
	}
	m->staged_count = kept;
	free(x);
	return r;
}

int map_checkpoint_stage(struct map *m, struct staged_page **ret_pages, size_t *ret_count)
{
	struct collect c = { .m = m };
	int r;

	for (unsigned int i = 0; i < m->shard_count && !c.no_memory; i++)
		shard_sweep(&m->shards[i], collect_dirty, make_room, &c);
	if (c.no_memory)
		return -ENOMEM;
	if (m->staged_count)
		qsort(m->staged, m->staged_count, sizeof(*m->staged), by_layer_and_page);
	r = stage_collected(m);
	if (r < 0)
		return r;
	*ret_pages = m->staged;
	*ret_count = m->staged_count;
	return 0;
}

/* ---- ranges ----------------------------------------------------------------------------------- */

/* Frozen ranges of all layers, oldest first; ranges NULL: count only. */
static size_t frozen_ranges(struct map *m, struct staged_range *ranges)
{
	GUARD(&m->layers_lock);
	size_t n = 0;

	for (struct map_layer *ml = m->tombstoned; ml; ml = ml->next_tombstoned) {
		GUARD(&ml->pub.lock);
		size_t first = n, of_layer = 0;

		for (const struct map_tombstone *set = ml->pub.tombstones; set; set = set->older)
			of_layer += set->frozen ? set->count : 0;
		n = first + of_layer;
		if (!ranges)
			continue;
		/* The list goes from new to old, so it is laid down from the end. */
		for (const struct map_tombstone *set = ml->pub.tombstones; set; set = set->older) {
			if (!set->frozen)
				continue;
			of_layer -= set->count;
			for (uint32_t i = 0; i < set->count; i++)
				ranges[first + of_layer + i] = (struct staged_range){
					.layer = &ml->pub,
					.first_page = set->ranges[i].first_page,
					.end_page = set->ranges[i].end_page,
					.value = set->ranges[i].value,
				};
		}
	}
	return n;
}

int map_checkpoint_ranges(struct map *m, struct staged_range **ret_ranges, size_t *ret_count)
{
	size_t count = frozen_ranges(m, NULL);

	if (count) {
		struct staged_range *ranges = malloc(count * sizeof(*ranges));

		if (!ranges)
			return -ENOMEM;
		free(m->ranges);
		m->ranges = ranges;
		/* Frozen sets do not change before the end. */
		ASSERT(frozen_ranges(m, NULL) == count);
		(void)frozen_ranges(m, ranges);
	}
	*ret_ranges = m->ranges;
	*ret_count = count;
	return 0;
}

/* ---- end -------------------------------------------------------------------------------------- */

struct unstage {
	struct map *m;
	bool done;
	struct layer *layers[SWEEP_SLOTS]; /* of pages that are clean now */
	unsigned int count;
};

static void unstage_unref(void *arg)
{
	struct unstage *u = arg;

	while (u->count)
		layer_unref(u->m, u->layers[--u->count]);
}

static bool page_unstage(void *arg, struct shard *s, struct map_page *p)
{
	struct unstage *u = arg;
	uint64_t bytes = page_bytes(p);

	if (s->staged_count == 0)
		return false;
	if (!page_is(p, PAGE_STAGED))
		return true;
	leaf_restate(&s->pool, &p->leaf, LEAF_STAGED, u->done ? LEAF_CLEAN : LEAF_DIRTY);
	if (u->done)
		leaf_compact(&s->pool, &p->leaf, page_is(p, PAGE_LOADED));
	page_resized(s, p, bytes);
	if (!u->done)
		page_mark_dirty(s, page_layer(u->m, p), p);
	if (page_unmark(s, p, PAGE_STAGED))
		u->layers[u->count++] = &page_layer(u->m, p)->pub;
	return true;
}

void map_checkpoint_end(struct map *m, bool done)
{
	struct unstage u = { .m = m, .done = done };

	/* First the tombstones: a page that may go must be found in its row again. */
	map_tombstones_thaw(m, done);
	for (unsigned int i = 0; i < m->shard_count; i++)
		shard_sweep(&m->shards[i], page_unstage, unstage_unref, &u);
	unstage_unref(&u);
	/* Dirty pages may have filled more than the cache; now they may go. */
	for (unsigned int i = 0; i < m->shard_count; i++)
		shard_shrink(m, &m->shards[i]);
	map_checkpoint_forget(m);
}
