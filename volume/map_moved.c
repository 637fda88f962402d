/* map_moved - RAM follows rows of frozen layers that name other places than before. */
#include "volume/map_impl.h"

static bool lies_on(const struct layer *l, uint64_t id)
{
	while (l && l->id != id)
		l = l->parent;
	return l;
}

/* Whether it names a place that a cluster was moved from. */
static bool names_old(const struct map_page *p, const struct map_move *moves, size_t count)
{
	struct leaf_span span;

	for (size_t i = 0; i < count; i++) {
		leaf_span_at(&p->leaf, moves[i].cluster % PAGE_CLUSTERS, PAGE_CLUSTERS, &span);
		if (span.loc == moves[i].from)
			return true;
	}
	return false;
}

/* All moves are of one page. */
static void forget_page(struct map *m, struct map_layer *ml, const struct map_move *moves,
			size_t count)
{
	uint64_t key = page_key(ml, moves[0].cluster >> PAGE_CLUSTERS_SHIFT);
	struct shard *s = shard_of(m, key);
	GUARD(&s->lock);
	struct map_page *p = page_find(s, key);

	/* What a load has read by now is not told. */
	if (p && (page_is(p, PAGE_LOADING) || names_old(p, moves, count)))
		page_forget_clean(s, p);
}

static void forget_in_layer(struct map *m, struct map_layer *ml, const struct map_move *moves,
			    size_t count)
{
	size_t n;

	for (size_t i = 0; i < count; i += n) {
		uint64_t page = moves[i].cluster >> PAGE_CLUSTERS_SHIFT;

		for (n = 1; i + n < count && moves[i + n].cluster >> PAGE_CLUSTERS_SHIFT == page;
		     n++)
			continue;
		forget_page(m, ml, moves + i, n);
	}
}

void map_forget_moved(struct map *m, uint64_t layer, const struct map_move *moves, size_t count)
{
	GUARD(&m->layers_lock);

	for (uint32_t i = 0; i < m->bucket_count; i++)
		for (struct map_layer *ml = m->buckets[i]; ml; ml = ml->next_in_bucket)
			if (__atomic_load_n(&ml->cached_pages, __ATOMIC_SEQ_CST) &&
			    lies_on(&ml->pub, layer))
				forget_in_layer(m, ml, moves, count);
}
