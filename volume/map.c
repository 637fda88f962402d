#include "volume/map_impl.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define SHARDS_DEFAULT 64u
#define SHARDS_MAX     4096u

int map_open(struct meta *meta, const struct map_options *options, struct map **ret_map)
{
	unsigned int shards = options->shards ? options->shards : SHARDS_DEFAULT;
	struct map *m;
	int r;

	ASSERT(shards <= SHARDS_MAX && (shards & (shards - 1)) == 0);
	m = calloc(1, sizeof(*m));
	if (!m)
		return -ENOMEM;
	m->meta = meta;
	m->shard_bytes = options->cache_bytes / shards;
	m->rows_max = UINT_MAX;
	map_layers_init(m);
	m->shards = calloc(shards, sizeof(*m->shards));
	while (m->shards && m->shard_count < shards) {
		r = shard_init(&m->shards[m->shard_count]);
		if (r < 0)
			break;
		m->shard_count++;
	}
	if (m->shard_count < shards) {
		map_close(m);
		return -ENOMEM;
	}
	*ret_map = m;
	return 0;
}

struct closing {
	struct map *m;
	struct layer *layers[SWEEP_SLOTS];
	unsigned int count;
};

static void unref_dropped(void *arg)
{
	struct closing *c = arg;

	while (c->count)
		layer_unref(c->m, c->layers[--c->count]);
}

static bool drop_at_close(void *arg, struct shard *s, struct map_page *p)
{
	struct closing *c = arg;
	struct map_layer *ml = page_layer(c->m, p);

	if (page_drop(c->m, s, p))
		c->layers[c->count++] = &ml->pub;
	return true;
}

void map_close(struct map *m)
{
	struct closing c = { .m = m };

	if (!m)
		return;
	map_checkpoint_forget(m);
	for (unsigned int i = 0; i < m->shard_count; i++)
		shard_sweep(&m->shards[i], drop_at_close, unref_dropped, &c);
	unref_dropped(&c);
	map_tombstones_done(m);
	map_layers_done(m);
	for (unsigned int i = 0; i < m->shard_count; i++)
		shard_done(&m->shards[i]);
	free(m->shards);
	free(m);
}

int map_lookup(struct map *m, struct layer *l, uint64_t first, unsigned int count, loc_t *ret_locs,
	       uint32_t *ret_crcs, uint8_t *ret_known, struct err *e)
{
	unsigned int from = first % PAGE_CLUSTERS, end = from + count;
	struct leaf_span span;
	struct map_page *p;
	struct shard *s;
	int r;

	ASSERT(count > 0 && end <= PAGE_CLUSTERS && first < CLUSTER_MAX);
	r = page_get(m, map_layer_of(l), first >> PAGE_CLUSTERS_SHIFT, from, count, &s, &p, e);
	if (r < 0)
		return r;
	memset(ret_known, 0, PAGE_CLUSTERS / 8);
	for (unsigned int i = from; i < end; i += span.count) {
		loc_t loc;
		unsigned int step;

		leaf_span_at(&p->leaf, i, end, &span);
		loc = span.loc == LEAF_ABSENT ? LOC_UNMAPPED : span.loc;
		step = loc_is_place(loc);
		for (unsigned int j = 0; j < span.count; j++)
			ret_locs[i - from + j] = loc + (loc_t)step * j;
		if (!span.crcs)
			continue;
		memcpy(&ret_crcs[i - from], span.crcs, span.count * sizeof(*ret_crcs));
		for (unsigned int bit = i - from; bit < i - from + span.count; bit++)
			ret_known[bit / 8] = (uint8_t)(ret_known[bit / 8] | 1u << (bit % 8));
	}
	mutex_unlock(&s->lock);
	return 0;
}

/*
 * Whether clusters of a page are where they are expected. Unmapped and zero are one: both read as
 * zeros, and which of them a cluster is may change when a page is loaded again.
 */
static bool is_as_expected(const struct map_page *p, unsigned int first, unsigned int count,
			   loc_t expect)
{
	struct leaf_span span;

	for (unsigned int i = first; i < first + count; i += span.count) {
		leaf_span_at(&p->leaf, i, first + count, &span);
		if (loc_is_place(span.loc) != loc_is_place(expect))
			return false;
		if (loc_is_place(expect) && span.loc != expect + (i - first))
			return false;
	}
	return true;
}

/* The page to change, its shard locked. */
static int page_for_update(struct map *m, struct map_layer *ml, const struct map_update *u,
			   struct shard **ret_shard, struct map_page **ret_page, struct err *e)
{
	uint64_t page = u->first >> PAGE_CLUSTERS_SHIFT;
	uint64_t key = page_key(ml, page);
	struct shard *s = shard_of(m, key);
	struct map_page *p;

	if (u->conditional)
		return page_get(m, ml, page, u->first % PAGE_CLUSTERS, u->count, ret_shard,
				ret_page, e);
	mutex_lock(&s->lock);
	p = page_find(s, key);
	if (!p)
		p = page_make(s, ml, page);
	if (!p) {
		mutex_unlock(&s->lock);
		return err_set(e, -ENOMEM, "no memory for a map page");
	}
	page_flag(p, PAGE_HOT);
	*ret_shard = s;
	*ret_page = p;
	return 0;
}

int map_update(struct map *m, struct layer *l, const struct map_update *u, lsn_t *ret_lsn,
	       struct err *e)
{
	unsigned int first = u->first % PAGE_CLUSTERS;
	const uint32_t *crcs = loc_is_place(u->loc) ? u->crcs : NULL;
	/* Unmapped would mean "ask the parent" once it stands in a row. */
	loc_t loc = u->loc == LOC_UNMAPPED && layer_has_parent(l) ? LOC_ZERO : u->loc;
	struct map_layer *ml = map_layer_of(l);
	struct map_page *p;
	struct shard *s;
	uint64_t bytes;
	int r;

	ASSERT(u->count > 0 && first + u->count <= PAGE_CLUSTERS && u->first < CLUSTER_MAX);
	ASSERT(!loc_is_place(loc) ||
	       (loc_slot(loc) > 0 && loc_slot(loc) + u->count <= SCO_SLOTS_MAX));
	r = page_for_update(m, ml, u, &s, &p, e);
	if (r < 0)
		return r;
	if (u->conditional && !is_as_expected(p, first, u->count, u->expect)) {
		mutex_unlock(&s->lock);
		return -ESTALE; /* no text: callers expect it and merge again */
	}
	bytes = page_bytes(p);
	r = leaf_reserve(&s->pool, &p->leaf, first, u->count, crcs);
	page_resized(s, p, bytes);
	if (r < 0) {
		mutex_unlock(&s->lock);
		return err_set(e, r, "no memory for a map page");
	}
	page_mark_dirty(s, ml, p);
	*ret_lsn = u->publish(u->arg);
	bytes = page_bytes(p);
	leaf_set(&s->pool, &p->leaf, first, u->count, loc, crcs, LEAF_DIRTY);
	page_resized(s, p, bytes);
	shard_evict(m, s, p);
	mutex_unlock(&s->lock);
	return 0;
}

struct map_usage map_usage(struct map *m)
{
	struct map_usage usage = { .rows = __atomic_load_n(&m->rows_asked, __ATOMIC_RELAXED) };

	for (unsigned int i = 0; i < m->shard_count; i++) {
		struct shard *s = &m->shards[i];
		GUARD(&s->lock);

		usage.used_bytes += shard_used_bytes(s);
		usage.pinned_bytes += s->pinned_bytes;
		usage.pages += s->page_count;
		usage.hits += s->hits;
		usage.misses += s->misses;
	}
	return usage;
}

static void shard_check_locked(const struct shard *s)
{
	uint64_t leaf_total = 0, pinned = 0;
	uint32_t used = 0, dirty = 0, staged = 0, loading = 0, loads = 0, chained = 0;

	for (uint32_t slot = 1; slot < s->slots; slot++) {
		struct map_page *p = page_at(s, slot);

		if (!page_is(p, PAGE_USED))
			continue;
		used++;
		leaf_check(&p->leaf);
		ASSERT(page_find(s, p->key) == p);
		leaf_total += leaf_bytes(&p->leaf);
		dirty += page_is(p, PAGE_DIRTY);
		staged += page_is(p, PAGE_STAGED);
		loading += page_is(p, PAGE_LOADING);
		if (page_is(p, PAGE_PINNED))
			pinned += page_bytes(p);
		ASSERT(page_is(p, PAGE_DIRTY) == leaf_has_state(&p->leaf, LEAF_DIRTY));
		ASSERT(page_is(p, PAGE_STAGED) || !leaf_has_state(&p->leaf, LEAF_STAGED));
	}
	for (uint32_t i = 0; i < s->bucket_count; i++)
		for (uint32_t slot = s->buckets[i]; slot; slot = page_at(s, slot)->leaf.owner_link)
			chained++;
	for (const struct map_load *load = s->loads; load; load = load->next)
		loads++;
	ASSERT(used == s->page_count && chained == used);
	ASSERT(dirty == s->dirty_count && staged == s->staged_count);
	ASSERT(loading == loads);
	ASSERT(leaf_total == s->pool.used_bytes);
	ASSERT(pinned == s->pinned_bytes);
}

void map_check(struct map *m)
{
	for (unsigned int i = 0; i < m->shard_count; i++) {
		GUARD(&m->shards[i].lock);
		shard_check_locked(&m->shards[i]);
	}
}
