#include "support_map.h"

#include <stdlib.h>
#include <string.h>

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
	if (r->value != LOC_ZERO || !r->layer->parent)
		return; /* a merge may have taken the parent since */
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

/* ---- fixture ---------------------------------------------------------------------------------- */

struct map_fixture mfx;

static int gated_get(struct meta *meta, enum meta_family family, const uint8_t *key,
		     size_t key_bytes, struct buf *out, struct err *e)
{
	struct gated_meta *g = (struct gated_meta *)meta;
	int r = g->inner->ops->get(g->inner, family, key, key_bytes, out, e);

	mutex_lock(&g->lock);
	g->gets++;
	if (g->fail)
		r = err_set(e, g->fail, "told to fail");
	g->inside++;
	cond_broadcast(&g->changed);
	while (g->closed)
		cond_wait(&g->changed, &g->lock, WAIT_FOREVER);
	g->inside--;
	mutex_unlock(&g->lock);
	return r;
}

static int gated_iterate(struct meta *meta, const struct meta_view *view, enum meta_family family,
			 const uint8_t *from, size_t from_bytes, const uint8_t *until,
			 size_t until_bytes,
			 int (*fn)(void *arg, const uint8_t *key, size_t key_bytes,
				   const uint8_t *value, size_t value_bytes),
			 void *arg, struct err *e)
{
	struct gated_meta *g = (struct gated_meta *)meta;

	return g->inner->ops->iterate(g->inner, view, family, from, from_bytes, until, until_bytes,
				      fn, arg, e);
}

void mfx_gate_close(void)
{
	mutex_lock(&mfx.gate.lock);
	mfx.gate.closed = true;
	mutex_unlock(&mfx.gate.lock);
}

void mfx_gate_open(void)
{
	mutex_lock(&mfx.gate.lock);
	mfx.gate.closed = false;
	cond_broadcast(&mfx.gate.changed);
	mutex_unlock(&mfx.gate.lock);
}

void mfx_gate_wait(unsigned int gets)
{
	mutex_lock(&mfx.gate.lock);
	while (mfx.gate.gets < gets || mfx.gate.inside == 0)
		cond_wait(&mfx.gate.changed, &mfx.gate.lock, WAIT_FOREVER);
	mutex_unlock(&mfx.gate.lock);
}

static void mfx_open_map(uint64_t cache_bytes, unsigned int shards)
{
	struct map_options options = { .cache_bytes = cache_bytes, .shards = shards };

	MUST(map_open(&mfx.gate.meta, &options, &mfx.map) == 0);
}

void mfx_setup(void)
{
	memset(&mfx, 0, sizeof(mfx));
	mfx.disk = meta_mem_disk_new();
	MUST(meta_mem_open(mfx.disk, &mfx.meta, NULL) == 0);
	mfx.gate.inner = mfx.meta;
	mfx.gate.ops.get = gated_get;
	mfx.gate.ops.iterate = gated_iterate;
	mfx.gate.meta.ops = &mfx.gate.ops;
	mutex_init(&mfx.gate.lock, 0);
	cond_init(&mfx.gate.changed);
	mfx_open_map(16 << 20, 4);
}

void mfx_teardown(void)
{
	map_check(mfx.map);
	map_close(mfx.map);
	meta_close(mfx.meta);
	meta_mem_disk_free(mfx.disk);
}

void mfx_reopen_map(uint64_t cache_bytes, unsigned int shards)
{
	map_close(mfx.map);
	mfx_open_map(cache_bytes, shards);
}

struct layer *mfx_new_layer(uint64_t id, struct layer *parent, uint64_t limit, uint32_t base)
{
	struct layer *l;

	MUST(map_layer_new(mfx.map, id, parent, limit, base, &l) == 0);
	return l;
}

lsn_t mfx_publish(void *arg)
{
	(void)arg;
	return __atomic_add_fetch(&mfx.lsn, 1, __ATOMIC_SEQ_CST);
}

loc_t mfx_place(uint64_t sco, uint32_t slot)
{
	return loc_make(0, sco, slot);
}

void mfx_update(struct layer *l, uint64_t first, unsigned int count, loc_t loc)
{
	struct map_update u = {
		.first = first, .count = count, .loc = loc, .publish = mfx_publish
	};
	lsn_t lsn;

	MUST(map_update(mfx.map, l, &u, &lsn, NULL) == 0);
}

loc_t mfx_at_row(uint64_t c)
{
	return mfx_place(1, 1 + (uint32_t)c);
}

int mfx_update_if(struct layer *l, uint64_t first, loc_t loc, loc_t expect)
{
	struct map_update u = { .first = first,
				.count = 1,
				.loc = loc,
				.publish = mfx_publish,
				.conditional = true,
				.expect = expect };
	lsn_t lsn;

	return map_update(mfx.map, l, &u, &lsn, NULL);
}

void mfx_range(struct layer *l, uint64_t first, uint64_t end)
{
	lsn_t lsn;

	MUST(map_range(mfx.map, l, first, end, LOC_UNMAPPED, mfx_publish, NULL, &lsn, NULL) == 0);
}

int mfx_try_lookup(struct layer *l, uint64_t cluster, loc_t *ret)
{
	uint8_t known[PAGE_CLUSTERS / 8];
	uint32_t crc;

	return map_lookup(mfx.map, l, cluster, 1, ret, &crc, known, NULL);
}

loc_t mfx_lookup(struct layer *l, uint64_t cluster)
{
	loc_t loc;

	MUST(mfx_try_lookup(l, cluster, &loc) == 0);
	return loc;
}

uint64_t mfx_misses(void)
{
	return map_usage(mfx.map).misses;
}

void mfx_write_old_rows(struct layer *l)
{
	for (unsigned int page = 0; page < 8; page++)
		mfx_update(l, page * PAGE_CLUSTERS, PAGE_CLUSTERS,
			   mfx_at_row(page * PAGE_CLUSTERS));
	mini_checkpoint(mfx.map, mfx.meta);
}
