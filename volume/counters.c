/*
 * Numbers that are never handed out twice: each comes from below a high-water mark that was
 * durable before. A crash skips what was left of the block.
 */
#include "volume/pool_impl.h"

static int block_refill(struct pool *p, enum counter_id id, struct err *e)
{
	struct counter_block *c = &p->counters[id];
	struct counter_row row = { .high_water = c->limit + COUNTER_BLOCK };
	struct row_key key = row_key_u64(ROW_COUNTER, id);
	struct meta_batch *batch = meta_batch_new(p->meta, META_NAMES);
	struct buf value;
	int r;

	buf_init(&value, 256);
	r = batch ? counter_row_encode(&row, &value) : -ENOMEM;
	if (r == 0)
		r = meta_batch_put(p->meta, batch, &key, &value);
	if (r == 0)
		r = meta_commit(p->meta, batch, META_SYNC, e);
	else
		err_because(e, r, "counter %d", (int)id);
	buf_done(&value);
	if (batch)
		meta_batch_free(p->meta, batch);
	if (r < 0)
		return r;
	c->next = c->limit;
	c->limit = row.high_water;
	return 0;
}

int pool_new_number(struct pool *p, enum counter_id id, uint64_t *ret_number, struct err *e)
{
	struct counter_block *c = &p->counters[id];

	GUARD(&p->counters_lock);
	if (c->next >= c->limit) {
		int r = block_refill(p, id, e);

		if (r < 0)
			return r;
	}
	*ret_number = c->next++;
	return 0;
}
