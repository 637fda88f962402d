/*
 * checkpoint_layers - objects over other layers: what a truncation hides of the parent.
 *
 * map_range() lowers the parent limit in RAM. The row of the layer gets it together with the mark
 * that covers the truncation: not before, for the log may still lose it, and not after, for replay
 * starts behind it then. (Parents have nothing young: they were frozen by a checkpoint.) Such a row
 * hides what an older log still shows, so with it the next root needs a map of its time.
 */
#include "volume/checkpoint_impl.h"
#include "volume/mutant.h"

#include <stdlib.h>

bool checkpoint_limit_sank(const struct staged_object *so)
{
	return so->layer->parent && so->parent_limit < so->saved_parent_limit;
}

static int put_limit(struct pool *p, struct meta_batch *names, const struct staged_object *so,
		     struct err *e)
{
	struct row_key key = row_key_u64(ROW_LAYER, so->layer->id);
	struct layer_row row;
	struct buf value;
	int r;

	buf_init(&value, 4096);
	r = meta_get(p->meta, META_NAMES, &key, &value, e);
	if (r == 0)
		r = layer_row_decode(value.data, value.len_bytes, &row, e);
	if (r == 0) {
		row.parent_limit_clusters = so->parent_limit;
		buf_clear(&value);
		r = layer_row_encode(&row, &value);
	}
	if (r == 0)
		r = meta_batch_put(p->meta, names, &key, &value);
	buf_done(&value);
	return r == -ENOENT ? 0 : r; /* deleted meanwhile */
}

int checkpoint_put_limits(struct checkpoint *c, struct meta_batch *names, bool *changed,
			  struct err *e)
{
	struct staged_object *so, *next;
	int r = 0;

	HASH_ITER (hh, c->objects, so, next) {
		if (r < 0 || !checkpoint_limit_sank(so))
			continue;
		r = put_limit(c->pool, names, so, e);
		*changed = true;
	}
	return r;
}

void checkpoint_limits_saved(struct checkpoint *c)
{
	struct staged_object *so, *next;

	HASH_ITER (hh, c->objects, so, next)
		if (checkpoint_limit_sank(so) && so->layer == so->object->layer) {
			so->object->saved_parent_limit = so->parent_limit;
			family_look_again(&c->pool->family, so->layer->parent->id);
			job_kick(&c->pool->merger);
		}
}

/* --- counting anew ----------------------------------------------------------------------------- */

struct page_list {
	uint64_t *pages;
	size_t count, cap;
};

static int note_page(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		     size_t value_bytes)
{
	struct page_list *l = arg;
	uint64_t layer, page;
	int r = row_key_parse_2u64(key, key_bytes, ROW_PAGE, &layer, &page);

	(void)value;
	(void)value_bytes;
	if (r == 0 && l->count == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 256;
		uint64_t *more = reallocarray(l->pages, cap, sizeof(*more));

		if (!more)
			return -ENOMEM;
		l->pages = more;
		l->cap = cap;
	}
	if (r == 0)
		l->pages[l->count++] = page;
	return r;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

int checkpoint_pages_of(struct checkpoint *c, struct layer *l, uint64_t first, uint64_t end,
			uint64_t **ret_pages, size_t *ret_count, struct err *e)
{
	struct page_list list = { 0 };
	size_t kept = 0;
	int r = 0;

	for (; l && r == 0; l = l->parent) {
		struct row_key from = row_key_2u64(ROW_PAGE, l->id, first);
		struct row_key until = row_key_2u64(ROW_PAGE, l->id, end);

		r = meta_iterate(c->pool->meta, META_STATE, &from, &until, note_page, &list, e);
	}
	if (r < 0) {
		free(list.pages);
		return r;
	}
	if (list.count)
		qsort(list.pages, list.count, sizeof(*list.pages), by_value);
	for (size_t i = 0; i < list.count; i++)
		if (i == 0 || list.pages[i] != list.pages[i - 1])
			list.pages[kept++] = list.pages[i];
	*ret_pages = list.pages;
	*ret_count = kept;
	return 0;
}

int checkpoint_count_below(struct checkpoint *c, struct layer *l, uint64_t page, int64_t *ret_count,
			   struct err *e)
{
	uint64_t first = page << PAGE_CLUSTERS_SHIFT, limit;
	loc_t seen[PAGE_CLUSTERS];
	int r;

	mutex_lock(&l->lock);
	limit = l->parent_limit_clusters;
	mutex_unlock(&l->lock);
	r = map_read_rows(c->pool->map, l->parent, page, false, seen, e);
	*ret_count = 0;
	for (unsigned int i = 0; r == 0 && i < PAGE_CLUSTERS && first + i < limit; i++)
		*ret_count += loc_is_place(seen[i]);
	return r;
}

static int recount(struct checkpoint *c, struct staged_object *so, struct err *e)
{
	struct layer *l = so->layer;
	uint64_t *pages = NULL;
	size_t count = 0;
	int r;

	so->row.mapped_clusters = 0;
	so->written = false;
	r = checkpoint_pages_of(c, l, 0, UINT64_MAX, &pages, &count, e);
	for (size_t i = 0; i < count && r == 0; i++) {
		loc_t seen[PAGE_CLUSTERS];

		r = map_read_rows(c->pool->map, l, pages[i], false, seen, e);
		for (unsigned int j = 0; r == 0 && j < PAGE_CLUSTERS; j++)
			so->row.mapped_clusters += loc_is_place(seen[j]);
	}
	free(pages);
	return r;
}

int checkpoint_recount(struct checkpoint *c, struct err *e)
{
	struct staged_object *so, *next;
	int r = 0;

	HASH_ITER (hh, c->objects, so, next) {
		if (r == 0 && checkpoint_limit_sank(so))
			r = recount(c, so, e);
		if (r == 0 && checkpoint_limit_sank(so) && !MUTANT(MUTANT_LIMIT_UNMARKED))
			r = checkpoint_note_change(c, so->layer->id,
						   AREA_UNLOGGED << AREA_PAGES_SHIFT);
	}
	return r;
}
