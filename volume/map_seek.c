/* map_seek - data and holes, skipping what neither a row nor a cached page speaks of. */
#include "volume/map_impl.h"

/* Pages without data that are looked at one by one before rows and cache are asked for the next. */
#define SEEK_WALK_PAGES 8u

/* The first page with anything in it, for one layer. */
struct next_page {
	uint64_t layer_id;
	uint32_t slot;
	uint64_t from, page; /* page: found so far, or the end of the search */
	bool bad_key;
};

static int take_first_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
			  size_t value_bytes)
{
	struct next_page *next = arg;
	uint64_t id, page;

	(void)value;
	(void)value_bytes;
	if (row_key_parse_2u64(key, key_bytes, ROW_PAGE, &id, &page) < 0 || id != next->layer_id)
		next->bad_key = true;
	else
		next->page = min_u64(next->page, page);
	return 1;
}

/* First page >= from and below end with a row that counts. */
static int next_row(struct map *m, struct layer *l, uint64_t from, uint64_t end, uint64_t *ret_page,
		    struct err *e)
{
	struct next_page next = { .layer_id = l->id };

	*ret_page = end;
	while (from < end) {
		struct row_key first = row_key_2u64(ROW_PAGE, l->id, from);
		struct row_key until = row_key_2u64(ROW_PAGE, l->id, end);
		const struct tombstone_range *range;
		int r;

		next.page = end;
		r = meta_iterate(m->meta, META_STATE, &first, &until, take_first_row, &next, e);
		if (r < 0)
			return r;
		if (next.bad_key)
			return err_set(e, -EUCLEAN, "key of a map page of layer %" PRIu64, l->id);
		if (next.page >= end)
			return 0;

		GUARD(&l->lock);
		range = tombstones_find_locked(l, next.page, false);
		if (!range) {
			*ret_page = next.page;
			return 0;
		}
		from = range->end_page;
	}
	return 0;
}

static bool take_cached(void *arg, struct shard *s, struct map_page *p)
{
	struct next_page *next = arg;

	(void)s;
	if (p->key >> PAGE_NUMBER_BITS == next->slot && page_number(p) >= next->from &&
	    p->leaf.form != LEAF_EMPTY)
		next->page = min_u64(next->page, page_number(p));
	return true;
}

/* First page >= from that may hold anything, of the layer or its parents; end if none. */
static int next_candidate(struct map *m, struct layer *l, uint64_t from, uint64_t end,
			  uint64_t *ret_page, struct err *e)
{
	uint64_t best = end;

	for (struct layer *at = l; at && from < end; at = at->parent) {
		struct map_layer *ml = map_layer_of(at);
		struct next_page next = { .slot = ml->slot, .from = from };
		uint64_t bound = min_u64(best, end), row_page;
		int r;

		/* The cache first: what leaves it meanwhile stands in a row. */
		next.page = bound;
		if (__atomic_load_n(&ml->cached_pages, __ATOMIC_SEQ_CST))
			for (unsigned int i = 0; i < m->shard_count; i++)
				shard_sweep(&m->shards[i], take_cached, NULL, &next);
		r = next_row(m, at, from, next.page, &row_page, e);
		if (r < 0)
			return r;
		if (row_page < bound)
			best = row_page;

		GUARD(&at->lock);
		end = min_u64(end, div_up_u64(at->parent_limit_clusters, PAGE_CLUSTERS));
	}
	*ret_page = best;
	return 0;
}

/* First cluster of [from, end), all of one page, that is data or hole; end if there is none. */
static int seek_in_page(struct map *m, struct map_layer *ml, uint64_t from, uint64_t end, bool data,
			uint64_t *ret_cluster, struct err *e)
{
	unsigned int first = from % PAGE_CLUSTERS, count = (unsigned int)(end - from);
	struct leaf_span span;
	struct map_page *p;
	struct shard *s;
	int r;

	r = page_get(m, ml, from >> PAGE_CLUSTERS_SHIFT, first, count, &s, &p, e);
	if (r < 0)
		return r;
	*ret_cluster = end;
	for (unsigned int i = first; i < first + count; i += span.count) {
		leaf_span_at(&p->leaf, i, first + count, &span);
		if (loc_is_place(span.loc) == data) {
			*ret_cluster = from + (i - first);
			break;
		}
	}
	mutex_unlock(&s->lock);
	return 0;
}

int map_seek(struct map *m, struct layer *l, uint64_t from, uint64_t end, bool data,
	     uint64_t *ret_cluster, struct err *e)
{
	struct map_layer *ml = map_layer_of(l);
	unsigned int walked = 0;

	ASSERT(end <= CLUSTER_MAX);
	while (from < end) {
		uint64_t page = from >> PAGE_CLUSTERS_SHIFT;
		uint64_t page_end = min_u64((page + 1) << PAGE_CLUSTERS_SHIFT, end);
		uint64_t found;
		int r;

		r = seek_in_page(m, ml, from, page_end, data, &found, e);
		if (r < 0)
			return r;
		if (found < page_end) {
			*ret_cluster = found;
			return 0;
		}
		from = page_end;
		if (!data || ++walked < SEEK_WALK_PAGES)
			continue;
		walked = 0;
		map_chain_hold(m);
		r = next_candidate(m, l, from >> PAGE_CLUSTERS_SHIFT,
				   div_up_u64(end, PAGE_CLUSTERS), &page, e);
		map_chain_release(m);
		if (r < 0)
			return r;
		from = max_u64(from, page << PAGE_CLUSTERS_SHIFT);
	}
	*ret_cluster = end;
	return 0;
}
