#include "volume/resolved.h"

#include "common/log.h"
#include "volume/call.h"
#include "volume/pool_life.h"

#include <stdlib.h>

/* Rows that a page may take without being resolved. */
#define RESOLVE_LAYERS 4u
/* Of one step, which holds the checkpoint lock. */
#define HOLD_PAGES 256u
/* Rows read in one: it ends behind the page that gets there. */
#define HOLD_ROWS 4096u
/* And behind the one that takes it so far: where rows are cold, few take long. Calls wait meanwhile. */
#define HOLD_NS UINT64_C(10000000)
/* Between two, so that whoever waits for the lock gets it. */
#define RESOLVE_YIELD_NS UINT64_C(2000000)
/* While a call waits; so often in turn, then it is our turn. */
#define RESOLVE_YIELDS_MAX 25u
#define RESOLVE_RETRY_NS   UINT64_C(1000000000)
#define FORGET_ROWS	   1024u
#define VALUE_BYTES	   16384u

uint64_t resolved_sequence(const struct pool *p)
{
	return (p->epoch << 32) + __atomic_load_n(&p->checkpoint_begun, __ATOMIC_RELAXED);
}

static void wished(void *arg)
{
	struct pool *p = arg;

	job_kick(&p->resolver);
}

int resolved_open(struct pool *p, const struct pool_row *pool_row, struct err *e)
{
	struct row_key key = row_key_u64(ROW_MOVED, 0);
	struct moved_row row = { 0 };
	AUTO(buf_done) struct buf value;
	int r;

	buf_init(&value, VALUE_BYTES);
	p->resolved_announced = pool_row->features.incompat & FEATURE_RESOLVED;
	r = meta_get(p->meta, META_STATE, &key, &value, e);
	if (r < 0 && r != -ENOENT)
		return r;
	if (r == 0 && moved_row_decode(value.data, value.len_bytes, &row, e) < 0) {
		log_warning("volume: resolved pages are made anew: %s", e->message);
		row.sequence = p->epoch << 32; /* behind all that there are */
	}
	map_resolved_begin(p->map,
			   p->options.resolve_layers ? p->options.resolve_layers : RESOLVE_LAYERS,
			   row.sequence, p->resolved_announced, wished, p);
	return 0;
}

/* --- making them ------------------------------------------------------------------------------- */

/* Before the first one: a program of before would move clusters and not say so. */
static int announce(struct pool *p, struct err *e)
{
	int r = p->resolved_announced ? 0 : pool_add_feature(p, FEATURE_RESOLVED, e);

	p->resolved_announced |= r == 0;
	return r;
}

/* The first one at or below it that has all that it will ever have, and that is not about to go. */
static struct layer *first_frozen(struct pool *p, struct layer *l)
{
	struct family_member m;

	for (; l; l = l->parent)
		if (family_get(&p->family, l->id, &m) && (m.snapshot || m.pins || m.children > 1))
			return l;
	return NULL;
}

struct making {
	struct pool *pool;
	struct meta_batch *batch;
	struct map_resolved made;
	unsigned int rows, pages;
};

static int make_page(struct making *k, struct layer *l, uint64_t page, struct err *e)
{
	struct pool *p = k->pool;
	struct row_key key = row_key_2u64(ROW_RESOLVED, l->id, page);
	int r = map_resolve(p->map, l, page, resolved_sequence(p), &k->made, e);

	k->rows += k->made.rows;
	if (r < 0)
		return r;
	/* First those: its own old one may be among them. */
	for (unsigned int i = 0; i < k->made.found && r == 0; i++) {
		struct row_key old = row_key_2u64(ROW_RESOLVED, k->made.layers[i], page);

		r = meta_batch_delete(p->meta, k->batch, &old);
	}
	if (r < 0 || k->made.value.len_bytes == 0)
		return r;
	map_resolved_exist(p->map, l);
	k->pages++;
	return meta_batch_put(p->meta, k->batch, &key, &k->made.value);
}

static int make_wish(struct making *k, const struct map_wish *wish, struct err *e)
{
	struct map *map = k->pool->map;
	struct layer *l = map_layer_find(map, wish->layer);
	struct layer *at = l ? first_frozen(k->pool, l) : NULL;
	int r = at ? make_page(k, at, wish->page, e) : 0;

	layer_unref(map, l);
	return r == -EBUSY ? 0 : r;
}

/* Checkpoint lock held. */
static int make_some(struct pool *p, struct err *e)
{
	struct making k = { .pool = p };
	uint64_t until_ns = clock_mono_ns() + HOLD_NS;
	unsigned int n = 0;
	int r = 0;

	if (!map_has_wishes(p->map))
		return 0;
	k.batch = meta_batch_new(p->meta, META_STATE);
	if (!k.batch)
		return -ENOMEM;
	buf_init(&k.made.value, VALUE_BYTES);
	while (r == 0 && n < HOLD_PAGES && k.rows < HOLD_ROWS && clock_mono_ns() < until_ns) {
		struct map_wish wish;

		if (map_take_wishes(p->map, &wish, 1) == 0)
			break;
		n++;
		r = announce(p, e);
		if (r == 0)
			r = make_wish(&k, &wish, e);
	}
	/* Not flushed: losing them is no loss. A commit that has nothing is none. */
	if (r == 0 && meta_batch_bytes(p->meta, k.batch))
		r = meta_commit(p->meta, k.batch, 0, e);
	if (r == 0)
		counter_add(&p->metrics.resolved_pages, k.pages);
	buf_done(&k.made.value);
	meta_batch_free(p->meta, k.batch);
	if (r < 0)
		log_debug("volume: resolving pages: %s", e->message);
	return r;
}

void resolved_checkpointed(struct pool *p)
{
	struct err e = { 0 };

	(void)make_some(p, &e);
}

uint64_t resolver_step(void *arg)
{
	struct pool *p = arg;
	struct err e = { 0 };
	int r;

	if (call_waits(p) && p->resolve_yields++ < RESOLVE_YIELDS_MAX)
		return RESOLVE_YIELD_NS;
	p->resolve_yields = 0;
	mutex_lock(&p->checkpoint_lock);
	r = make_some(p, &e);
	mutex_unlock(&p->checkpoint_lock);
	if (r < 0)
		return RESOLVE_RETRY_NS;
	return map_has_wishes(p->map) ? RESOLVE_YIELD_NS : WAIT_FOREVER;
}

/* --- letting them go --------------------------------------------------------------------------- */

int resolved_note_moves(struct checkpoint *c)
{
	struct row_key key = row_key_u64(ROW_MOVED, 0);
	struct moved_row row = { .sequence = resolved_sequence(c->pool) };
	int r;

	if (!c->pool->resolved_announced)
		return 0;
	buf_clear(&c->value);
	r = moved_row_encode(&row, &c->value);
	return r == 0 ? meta_batch_put(c->pool->meta, c->batch, &key, &c->value) : r;
}

struct forget {
	struct pool *pool;
	struct meta_batch *batch;
	unsigned int count;
};

static int forget_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		      size_t value_bytes)
{
	struct forget *f = arg;
	uint64_t layer, page;
	struct row_key k;
	int r = row_key_parse_2u64(key, key_bytes, ROW_RESOLVED, &layer, &page);

	(void)value;
	(void)value_bytes;
	if (r < 0)
		return r;
	k = row_key_2u64(ROW_RESOLVED, layer, page);
	r = meta_batch_delete(f->pool->meta, f->batch, &k);
	return r < 0 ? r : ++f->count == FORGET_ROWS;
}

/* Returns how many rows went. */
static int forget_some(struct pool *p, uint64_t layer, struct err *e)
{
	struct row_key from = row_key_2u64(ROW_RESOLVED, layer, 0);
	struct row_key until = row_key_2u64(ROW_RESOLVED, layer, UINT64_MAX);
	struct forget f = { .pool = p, .batch = meta_batch_new(p->meta, META_STATE) };
	int r = f.batch ? 0 : -ENOMEM;

	if (r == 0)
		r = meta_iterate(p->meta, META_STATE, &from, &until, forget_row, &f, e);
	if (r >= 0 && f.count)
		r = meta_commit(p->meta, f.batch, 0, e);
	if (f.batch)
		meta_batch_free(p->meta, f.batch);
	return r < 0 ? r : (int)f.count;
}

int resolved_forget_layer(struct pool *p, uint64_t layer, struct err *e)
{
	int r = p->resolved_announced ? 1 : 0;

	while (r > 0)
		r = forget_some(p, layer, e);
	return r < 0 ? err_wrap(e, r, "resolved pages of layer %" PRIu64, layer) : 0;
}

int resolved_forget_dropped(struct checkpoint *c, struct err *e)
{
	struct pool *p = c->pool;
	size_t count = 0, n = 0;
	uint64_t *ids;
	int r = 0;

	mutex_lock(&p->dropped_lock);
	for (const struct dropped_layer *d = p->dropped; d; d = d->next)
		count += d->frozen_in;
	ids = count ? calloc(count, sizeof(*ids)) : NULL;
	for (const struct dropped_layer *d = p->dropped; d && ids; d = d->next)
		if (d->frozen_in)
			ids[n++] = d->id;
	mutex_unlock(&p->dropped_lock);
	if (count && !ids)
		return err_set(e, -ENOMEM, "dropped layers");
	for (size_t i = 0; i < n && r == 0; i++)
		r = resolved_forget_layer(p, ids[i], e);
	free(ids);
	return r;
}
