/*
 * map_load - the effective content of a page: the layer's own row over its parents'.
 *
 * Each layer is asked in this order: cached page, tombstones, row. A checkpoint that ends removes
 * tombstones first and lets pages go after it, so what is missing in the cache and not under a
 * tombstone stands in the row.
 */
#include "volume/map_impl.h"

#include <string.h>

/* A row of a page: 512 clusters take less than a quarter of it however they are written. */
#define PAGE_ROW_BYTES_MAX 65536u

/* A page that is put together layer by layer. */
struct assembly {
	struct leaf_table *table;
	struct assemble_cost *cost;
	uint64_t open[LEAF_MASK_WORDS]; /* clusters that no layer said anything of yet */
	unsigned int open_count;
	uint64_t origin_add;
	bool origin_overflow;
};

static bool is_open(const struct assembly *a, unsigned int i)
{
	return a->open[i / 64] >> (i % 64) & 1;
}

static void assembly_put(struct assembly *a, unsigned int i, loc_t loc, const uint32_t *crc)
{
	a->open[i / 64] &= ~(UINT64_C(1) << (i % 64));
	a->open_count--;
	if (loc_is_place(loc)) {
		if (loc_origin(loc) + a->origin_add > LOC_ORIGIN_MAX) {
			a->origin_overflow = true;
			return;
		}
		loc += a->origin_add << 52;
		if (crc) {
			a->table->crc[i] = *crc;
			a->table->known[i / 64] |= UINT64_C(1) << (i % 64);
		}
	}
	a->table->loc[i] = loc;
}

/* All clusters from first on that are still open get this value. */
static void assembly_close(struct assembly *a, unsigned int first, loc_t value)
{
	for (unsigned int i = first; i < PAGE_CLUSTERS && a->open_count; i++)
		if (is_open(a, i))
			assembly_put(a, i, value, NULL);
}

static void assembly_put_run(void *arg, const struct page_run *run)
{
	struct assembly *a = arg;

	if (run->loc == LOC_UNMAPPED)
		return; /* the parent is asked */
	for (unsigned int i = 0; i < run->count; i++) {
		loc_t loc = loc_is_place(run->loc) ? run->loc + i : run->loc;

		if (is_open(a, run->first + i))
			assembly_put(a, run->first + i, loc, run->crcs ? &run->crcs[i] : NULL);
	}
}

static int assembly_add_row(struct assembly *a, struct map *m, uint64_t layer_id, uint64_t page,
			    struct buf *row, struct err *e)
{
	struct row_key key = row_key_2u64(ROW_PAGE, layer_id, page);
	enum page_value_kind kind;
	int r;

	a->cost->rows++;
	r = meta_get(m->meta, META_STATE, &key, row, e);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = page_value_decode(row->data, row->len_bytes, &kind, assembly_put_run, a, e);
	if (r < 0)
		return err_wrap(e, r, "map page %" PRIu64 " of layer %" PRIu64, page, layer_id);
	if (a->origin_overflow)
		return err_set(e, -EUCLEAN,
			       "map page %" PRIu64 " of layer %" PRIu64 " names an origin too many",
			       page, layer_id);
	return 0;
}

/* What the cache has of a page of a parent, dirty or not. */
static int assembly_add_cached(struct assembly *a, struct map *m, const struct map_layer *ml,
			       uint64_t page, struct err *e)
{
	uint64_t key = page_key(ml, page);
	struct shard *s = shard_of(m, key);
	GUARD(&s->lock);
	struct map_page *p = page_find(s, key);
	struct leaf_span span;

	if (!p)
		return 0;
	page_flag(p, PAGE_HOT);
	for (unsigned int i = 0; i < PAGE_CLUSTERS && a->open_count; i += span.count) {
		leaf_span_at(&p->leaf, i, PAGE_CLUSTERS, &span);
		for (unsigned int j = 0; span.loc != LEAF_ABSENT && j < span.count; j++)
			if (is_open(a, i + j))
				assembly_put(a, i + j,
					     loc_is_place(span.loc) ? span.loc + j : span.loc,
					     span.crcs ? &span.crcs[j] : NULL);
	}
	if (page_is(p, PAGE_LOADED))
		assembly_close(a, 0, LOC_UNMAPPED);
	if (a->origin_overflow)
		return err_set(e, -EUCLEAN,
			       "map page %" PRIu64 " of layer %" PRIu64 " names an origin too many",
			       page, ml->pub.id);
	return 0;
}

/* How a layer's ranges and limit change what stands in rows; of one moment. */
struct layer_view {
	uint64_t limit_clusters;
	bool row_hidden;
	bool all_zero;
};

static struct layer_view layer_view(struct layer *l, uint64_t page)
{
	GUARD(&l->lock);
	const struct tombstone_range *range = tombstones_find_locked(l, page, false);

	return (struct layer_view){
		.limit_clusters = l->parent_limit_clusters,
		.row_hidden = range,
		.all_zero = range && range->value == LOC_ZERO,
	};
}

/*
 * What a layer shows, all at once, where it has a resolved page that holds: 1, and nobody below it is
 * asked. One that does not decode adds nothing.
 */
static int assembly_add_resolved(struct assembly *a, struct map *m, struct layer *l, uint64_t page,
				 struct buf *row, struct err *e)
{
	struct resolved_row resolved;
	enum page_value_kind kind;
	int r = map_resolved_get(m, l, page, row, &resolved);

	if (r == 0)
		return 0;
	if (a->cost->found < RESOLVED_FOUND_MAX)
		a->cost->layers[a->cost->found++] = l->id;
	if (r < 0 || page_value_decode(resolved.page, resolved.page_bytes, &kind, assembly_put_run,
				       a, NULL) < 0)
		return 0;
	if (a->origin_overflow)
		return err_set(e, -EUCLEAN,
			       "resolved page %" PRIu64 " of layer %" PRIu64
			       " names an origin too many",
			       page, l->id);
	a->cost->used = l->id;
	return 1;
}

/* Whether something of a page stands in no row yet. */
static bool page_is_young(struct map *m, struct layer *l, uint64_t page)
{
	uint64_t key = page_key(map_layer_of(l), page);
	struct shard *s = shard_of(m, key);
	struct map_page *p;
	bool young;

	mutex_lock(&s->lock);
	p = page_find(s, key);
	young = p && page_is(p, PAGE_PINNED);
	mutex_unlock(&s->lock);
	if (young)
		return true;
	GUARD(&l->lock);
	return tombstones_find_locked(l, page, false);
}

/* Asked before its own row, which it has in it, and behind what is young of it. */
static bool asks_resolved(const struct map *m, const struct layer_view *view, unsigned int flags)
{
	return !view->row_hidden && !(flags & (ASSEMBLE_OWN | ASSEMBLE_UNRESOLVED)) &&
	       __atomic_load_n(&m->resolved_exist, __ATOMIC_ACQUIRE);
}

int page_assemble(struct map *m, struct layer *l, uint64_t page, unsigned int flags,
		  struct leaf_table *table, struct assemble_cost *ret_cost, struct err *e)
{
	struct assembly a = { .table = table, .cost = ret_cost, .open_count = PAGE_CLUSTERS };
	AUTO(buf_done) struct buf row;
	int r;

	*ret_cost = (struct assemble_cost){ 0 };
	buf_init(&row, PAGE_ROW_BYTES_MAX);
	leaf_table_clear(table);
	memset(a.open, 0xff, sizeof(a.open));
	for (struct layer *at = l; at && a.open_count; at = at->parent) {
		struct layer_view view;
		uint64_t first = page << PAGE_CLUSTERS_SHIFT;

		/* The page of l itself is about to be filled in: its clusters go over ours. */
		if (at != l && !(flags & ASSEMBLE_ROWS_ONLY)) {
			r = assembly_add_cached(&a, m, map_layer_of(at), page, e);
			if (r < 0)
				return r;
		}
		if (flags & ASSEMBLE_SETTLED && page_is_young(m, at, page))
			return -EBUSY;
		view = layer_view(at, page);
		if (flags & ASSEMBLE_ROWS_ONLY)
			view.row_hidden = view.all_zero = false;
		if (view.all_zero)
			assembly_close(&a, 0, LOC_ZERO);
		if (a.open_count && asks_resolved(m, &view, flags)) {
			r = assembly_add_resolved(&a, m, at, page, &row, e);
			if (r < 0)
				return r;
			if (r > 0)
				break;
		}
		if (!view.row_hidden && a.open_count) {
			r = assembly_add_row(&a, m, at->id, page, &row, e);
			if (r < 0)
				return r;
		}
		if (flags & ASSEMBLE_OWN)
			break;
		if (view.limit_clusters < first + PAGE_CLUSTERS)
			assembly_close(&a,
				       view.limit_clusters <= first ?
					       0 :
					       (unsigned int)(view.limit_clusters - first),
				       LOC_UNMAPPED);
		a.origin_add += at->parent_origin_base;
	}
	return 0;
}

/*
 * A page that took many rows, or has a copy that is of no use, is to get a new one. Whoever reads waits
 * for each row; checkpoints, which look up what they write, may take twice as many.
 */
static int assemble_and_wish(struct map *m, struct layer *l, uint64_t page, unsigned int flags,
			     struct leaf_table *table, struct err *e)
{
	unsigned int rows_max = flags & ASSEMBLE_ROWS_ONLY ? 2 * m->rows_max : m->rows_max;
	struct assemble_cost cost;
	int r = page_assemble(m, l, page, flags, table, &cost, e);

	__atomic_add_fetch(&m->rows_asked, cost.rows + cost.found, __ATOMIC_RELAXED);
	if (r == 0 && (cost.rows > rows_max || cost.found > (cost.used != 0)))
		map_wish(m, l->id, page);
	return r;
}

int map_read_rows(struct map *m, struct layer *l, uint64_t page, bool own, loc_t *ret_locs,
		  struct err *e)
{
	struct leaf_table table;
	int r;

	r = assemble_and_wish(m, l, page, ASSEMBLE_ROWS_ONLY | (own ? ASSEMBLE_OWN : 0), &table, e);
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < PAGE_CLUSTERS; i++)
		ret_locs[i] = table.loc[i] == LEAF_ABSENT ? LOC_UNMAPPED : table.loc[i];
	return 0;
}

static void load_end(struct shard *s, struct map_load *load)
{
	struct map_load **at;

	for (at = &s->loads; *at != load; at = &(*at)->next)
		continue;
	*at = load->next;
	cond_broadcast(&s->loaded);
}

/*
 * Load a page; the shard is locked before and after, and not meanwhile. On success the caller
 * looks again: a range may have dropped the page, and then nothing was loaded.
 */
static int page_load(struct map *m, struct map_layer *ml, struct shard *s, uint64_t page,
		     struct err *e)
{
	struct map_load load = { .key = page_key(ml, page) };
	struct map_page *p = page_find(s, load.key);
	struct leaf_table table;
	uint64_t bytes;
	int r;

	if (!p)
		p = page_make(s, ml, page);
	if (!p)
		return err_set(e, -ENOMEM, "no memory for a map page");
	page_flag(p, PAGE_LOADING);
	load.next = s->loads;
	s->loads = &load;
	s->misses++;
	mutex_unlock(&s->lock);

	map_chain_hold(m);
	r = assemble_and_wish(m, &ml->pub, page, 0, &table, e);
	map_chain_release(m);

	mutex_lock(&s->lock);
	if (load.cancelled)
		return 0;
	load_end(s, &load);
	p = page_find(s, load.key);
	ASSERT(p && page_is(p, PAGE_LOADING));
	page_unflag(p, PAGE_LOADING);
	bytes = page_bytes(p);
	if (r == 0 && leaf_fill(&s->pool, &p->leaf, &table) < 0)
		r = err_set(e, -ENOMEM, "no memory for a map page");
	if (r < 0)
		return r;
	page_flag(p, PAGE_LOADED);
	page_resized(s, p, bytes);
	shard_evict(m, s, p);
	return 0;
}

int page_get(struct map *m, struct map_layer *ml, uint64_t page, unsigned int first,
	     unsigned int count, struct shard **ret_shard, struct map_page **ret_page,
	     struct err *e)
{
	uint64_t key = page_key(ml, page);
	struct shard *s = shard_of(m, key);
	bool missed = false;
	int r;

	mutex_lock(&s->lock);
	for (;;) {
		struct map_page *p = page_find(s, key);

		if (p && (page_is(p, PAGE_LOADED) || leaf_has_all(&p->leaf, first, count))) {
			page_flag(p, PAGE_HOT);
			s->hits += !missed;
			*ret_shard = s;
			*ret_page = p;
			return 0;
		}
		missed = true;
		if (p && page_is(p, PAGE_LOADING)) {
			cond_wait(&s->loaded, &s->lock, WAIT_FOREVER);
			continue;
		}
		r = page_load(m, ml, s, page, e);
		if (r < 0) {
			mutex_unlock(&s->lock);
			return r;
		}
	}
}
