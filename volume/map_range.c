/* map_range - long changes of one value: edge pages cluster by cluster, the rest by a tombstone. */
#include "volume/map_impl.h"

#include <stdlib.h>

/* A page that is changed in part. All that the change needs is got before it is published. */
struct edge {
	uint64_t page;
	unsigned int first, count; /* 0: no such edge */
	struct leaf_table *spare;
};

struct range_plan {
	struct edge edges[2];
	uint64_t first_page, end_page; /* whole pages; empty: first == end */
	loc_t edge_value, page_value;
	bool lowers_limit;
};

/* Which of the two values that read as zeros is written is the layer's choice: under no parent
 * unmapped is shorter, over one zero is what hides it. */
static struct range_plan range_plan(struct layer *l, uint64_t first, uint64_t end)
{
	struct range_plan plan = {
		.first_page = div_up_u64(first, PAGE_CLUSTERS),
		.end_page = end / PAGE_CLUSTERS,
		.edge_value = LOC_UNMAPPED,
		.page_value = LOC_UNMAPPED,
	};
	unsigned int head = first % PAGE_CLUSTERS, tail = end % PAGE_CLUSTERS;

	if (layer_has_parent(l)) {
		GUARD(&l->lock);

		plan.lowers_limit = end == CLUSTER_MAX;
		plan.edge_value = LOC_ZERO;
		if (!plan.lowers_limit && first < l->parent_limit_clusters)
			plan.page_value = LOC_ZERO;
	}
	if (plan.first_page > plan.end_page) {
		/* Inside one page. */
		plan.edges[0] = (struct edge){ plan.end_page, head, tail - head, NULL };
		plan.first_page = plan.end_page;
		return plan;
	}
	if (head)
		plan.edges[0] =
			(struct edge){ plan.first_page - 1, head, PAGE_CLUSTERS - head, NULL };
	if (tail)
		plan.edges[1] = (struct edge){ plan.end_page, 0, tail, NULL };
	return plan;
}

/* Make sure that the page is there and stays, and that its leaf can grow. */
static int edge_hold(struct map *m, struct map_layer *ml, struct edge *edge)
{
	uint64_t key = page_key(ml, edge->page);
	struct shard *s = shard_of(m, key);
	struct map_page *p;

	if (edge->count == 0)
		return 0;
	edge->spare = leaf_table_new();
	if (!edge->spare)
		return -ENOMEM;

	GUARD(&s->lock);
	p = page_find(s, key);
	if (!p)
		p = page_make(s, ml, edge->page);
	if (!p) {
		free(edge->spare);
		edge->spare = NULL;
		return -ENOMEM;
	}
	page_flag(p, PAGE_HELD);
	return 0;
}

static void edge_change(struct map *m, struct map_layer *ml, const struct edge *edge, loc_t value)
{
	uint64_t key = page_key(ml, edge->page);
	struct shard *s = shard_of(m, key);
	struct map_page *p;
	uint64_t bytes;
	int r;

	if (edge->count == 0)
		return;
	GUARD(&s->lock);
	p = page_find(s, key);
	ASSERT(p && page_is(p, PAGE_HELD));
	leaf_pool_donate(&s->pool, edge->spare);
	page_mark_dirty(s, ml, p);
	bytes = page_bytes(p);
	r = leaf_reserve(&s->pool, &p->leaf, edge->first, edge->count, false);
	ASSERT(r == 0);
	leaf_set(&s->pool, &p->leaf, edge->first, edge->count, value, NULL, LEAF_DIRTY);
	page_resized(s, p, bytes);
	page_flag(p, PAGE_HOT);
	page_unflag(p, PAGE_HELD);
	leaf_pool_trim(&s->pool);
	shard_evict(m, s, p);
}

static void edge_release(struct map *m, struct map_layer *ml, const struct edge *edge)
{
	uint64_t key = page_key(ml, edge->page);
	struct shard *s = shard_of(m, key);

	if (!edge->spare)
		return;
	free(edge->spare);
	GUARD(&s->lock);
	page_unflag(page_find(s, key), PAGE_HELD);
}

/* From here on the rows of the whole pages count as absent, and no load brings them back. */
static void hide_rows(struct map *m, struct map_layer *ml, const struct range_plan *plan,
		      uint64_t first, struct map_tombstone *fresh)
{
	struct layer *l = &ml->pub;

	mutex_lock(&l->lock);
	if (plan->lowers_limit)
		l->parent_limit_clusters = min_u64(l->parent_limit_clusters, first);
	if (fresh)
		tombstones_add_locked(l, fresh, plan->first_page, plan->end_page, plan->page_value);
	mutex_unlock(&l->lock);
	if (fresh)
		map_note_tombstoned(m, ml);
}

int map_range(struct map *m, struct layer *l, uint64_t first, uint64_t end, loc_t value,
	      lsn_t (*publish)(void *arg), void *arg, lsn_t *ret_lsn, struct err *e)
{
	struct range_plan plan = range_plan(l, first, end);
	struct map_layer *ml = map_layer_of(l);
	struct map_tombstone *fresh = NULL;
	int r = 0;

	ASSERT(first < end && end <= CLUSTER_MAX && !loc_is_place(value));
	if (plan.first_page < plan.end_page) {
		tombstones_prepare(l);
		fresh = tombstone_new();
		r = fresh ? 0 : -ENOMEM;
	}
	for (unsigned int i = 0; i < 2 && r == 0; i++)
		r = edge_hold(m, ml, &plan.edges[i]);
	if (r < 0) {
		for (unsigned int i = 0; i < 2; i++)
			edge_release(m, ml, &plan.edges[i]);
		tombstone_free(fresh);
		return err_set(e, r, "no memory for a range of the map");
	}

	*ret_lsn = publish(arg);
	rwlock_read_lock(&m->ranges_lock);
	hide_rows(m, ml, &plan, first, fresh);
	if (plan.first_page < plan.end_page)
		map_drop_pages(m, ml, plan.first_page, plan.end_page);
	for (unsigned int i = 0; i < 2; i++)
		edge_change(m, ml, &plan.edges[i], plan.edge_value);
	rwlock_read_unlock(&m->ranges_lock);
	return 0;
}
