#include "support_map.h"

#include <check.h>
#include <stdlib.h>

#define VALUE_BYTES_MAX (64u << 10)

static void must(int r)
{
	if (r < 0)
		ck_abort_msg("a call that cannot fail here: %s", err_name(r));
}

struct deletion {
	struct meta *meta;
	struct meta_batch *batch;
};

static int delete_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		      size_t value_bytes)
{
	struct deletion *d = arg;
	uint64_t layer, page;
	struct row_key copy;

	(void)value;
	(void)value_bytes;
	must(row_key_parse_2u64(key, key_bytes, ROW_PAGE, &layer, &page));
	copy = row_key_2u64(ROW_PAGE, layer, page);
	must(meta_batch_delete(d->meta, d->batch, &copy));
	return 0;
}

static void apply_range(struct meta *meta, struct meta_batch *batch, const struct staged_range *r)
{
	struct row_key first = row_key_2u64(ROW_PAGE, r->layer->id, r->first_page);
	struct row_key until = row_key_2u64(ROW_PAGE, r->layer->id, r->end_page);
	struct deletion d = { .meta = meta, .batch = batch };
	struct page_run zeros = { .count = PAGE_CLUSTERS, .loc = LOC_ZERO };

	must(meta_iterate(meta, META_STATE, &first, &until, delete_row, &d, NULL));
	if (r->value != LOC_ZERO)
		return;
	ck_assert_ptr_nonnull(r->layer->parent);
	for (uint64_t page = r->first_page; page < r->end_page; page++) {
		struct row_key key = row_key_2u64(ROW_PAGE, r->layer->id, page);
		struct buf value;

		buf_init(&value, VALUE_BYTES_MAX);
		must(page_value_encode(PAGE_BASE, &zeros, 1, &value));
		must(meta_batch_put(meta, batch, &key, &value));
		buf_done(&value);
	}
}

static void commit(struct meta *meta, struct meta_batch *batch)
{
	must(meta_commit(meta, batch, 0, NULL));
	meta_batch_free(meta, batch);
}

static struct {
	struct staged_page *pages;
	struct staged_range *ranges;
	size_t page_count, range_count;
} staged;

void mini_checkpoint_begin(struct map *m)
{
	map_checkpoint_begin(m);
	mini_checkpoint_stage(m);
}

void mini_checkpoint_stage(struct map *m)
{
	must(map_checkpoint_stage(m, &staged.pages, &staged.page_count));
	must(map_checkpoint_ranges(m, &staged.ranges, &staged.range_count));
	for (size_t i = 1; i < staged.page_count; i++) {
		const struct staged_page *a = &staged.pages[i - 1], *b = &staged.pages[i];

		if (a->layer->id > b->layer->id ||
		    (a->layer->id == b->layer->id && a->page >= b->page))
			ck_abort_msg("staged pages are not in order");
	}
}

static void commit_ranges(struct meta *meta)
{
	for (size_t i = 0; i < staged.range_count; i++) {
		struct meta_batch *batch = meta_batch_new(meta, META_STATE);

		apply_range(meta, batch, &staged.ranges[i]);
		commit(meta, batch);
	}
}

static void commit_pages(struct meta *meta, size_t count)
{
	struct meta_batch *batch = meta_batch_new(meta, META_STATE);

	for (size_t i = 0; i < count; i++) {
		const struct staged_page *p = &staged.pages[i];
		struct row_key key = row_key_2u64(ROW_PAGE, p->layer->id, p->page);
		struct buf value;

		buf_init(&value, VALUE_BYTES_MAX);
		must(page_value_encode(PAGE_DELTA, p->runs, p->run_count, &value));
		must(meta_batch_merge(meta, batch, &key, &value));
		buf_done(&value);
	}
	commit(meta, batch);
}

void mini_checkpoint_finish(struct map *m, struct meta *meta, enum mini_fail fail)
{
	if (fail != MINI_FAIL_STAGED)
		commit_ranges(meta);
	if (fail == MINI_FAIL_HALF)
		commit_pages(meta, staged.page_count / 2);
	if (fail == MINI_FAIL_FLUSH || fail == MINI_DONE)
		commit_pages(meta, staged.page_count);
	if (fail == MINI_DONE)
		must(meta_flush(meta, NULL));
	map_checkpoint_end(m, fail == MINI_DONE);
}

void mini_checkpoint(struct map *m, struct meta *meta)
{
	mini_checkpoint_begin(m);
	mini_checkpoint_finish(m, meta, MINI_DONE);
}
