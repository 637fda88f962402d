#include "volume/life_rows.h"

#include <stdlib.h>

#define OBJECT_ROW_BYTES_MAX (1u << 20)
#define SMALL_ROW_BYTES_MAX  4096u

static void buf_donep(struct buf *b)
{
	buf_done(b);
}

static int put_row(struct pool *p, struct meta_batch *batch, const struct row_key *key,
		   const struct buf *value, int encoded)
{
	return encoded < 0 ? encoded : meta_batch_put(p->meta, batch, key, value);
}

int life_put_object(struct pool *p, struct meta_batch *batch, uint64_t id,
		    const struct object_row *row)
{
	struct row_key key = row_key_u64(ROW_OBJECT, id);
	AUTO(buf_donep) struct buf value;

	buf_init(&value, OBJECT_ROW_BYTES_MAX);
	return put_row(p, batch, &key, &value, object_row_encode(row, &value));
}

int life_put_layer(struct pool *p, struct meta_batch *batch, uint64_t id,
		   const struct layer_row *row)
{
	struct row_key key = row_key_u64(ROW_LAYER, id);
	AUTO(buf_donep) struct buf value;

	buf_init(&value, SMALL_ROW_BYTES_MAX);
	return put_row(p, batch, &key, &value, layer_row_encode(row, &value));
}

int life_put_stream(struct pool *p, struct meta_batch *batch, uint32_t id,
		    const struct stream_row *row)
{
	struct row_key key = row_key_u64(ROW_STREAM, id);
	AUTO(buf_donep) struct buf value;

	buf_init(&value, SMALL_ROW_BYTES_MAX);
	return put_row(p, batch, &key, &value, stream_row_encode(row, &value));
}

int life_put_snapshot(struct pool *p, struct meta_batch *batch, uint64_t object, uint64_t number,
		      const struct snapshot_row *row)
{
	struct row_key key = row_key_2u64(ROW_SNAPSHOT, object, number);
	AUTO(buf_donep) struct buf value;

	buf_init(&value, SNAPSHOT_ROW_BYTES_MAX);
	return put_row(p, batch, &key, &value, snapshot_row_encode(row, &value));
}

int life_get_object(struct pool *p, uint64_t id, struct object_row *ret_row, struct err *e)
{
	struct row_key key = row_key_u64(ROW_OBJECT, id);
	AUTO(buf_donep) struct buf value;
	int r;

	buf_init(&value, OBJECT_ROW_BYTES_MAX);
	r = meta_get(p->meta, META_NAMES, &key, &value, e);
	if (r == -ENOENT)
		return err_set(e, -ENOENT, "no object %" PRIu64, id);
	if (r == 0)
		r = object_row_decode(value.data, value.len_bytes, ret_row, e);
	return r < 0 ? err_wrap(e, r, "object %" PRIu64, id) : 0;
}

int life_get_layer(struct pool *p, uint64_t id, struct layer_row *ret_row, struct err *e)
{
	struct row_key key = row_key_u64(ROW_LAYER, id);
	AUTO(buf_donep) struct buf value;
	int r;

	buf_init(&value, SMALL_ROW_BYTES_MAX);
	r = meta_get(p->meta, META_NAMES, &key, &value, e);
	if (r == 0)
		r = layer_row_decode(value.data, value.len_bytes, ret_row, e);
	return r < 0 ? err_wrap(e, r, "layer %" PRIu64, id) : 0;
}

int life_put_live_layer(struct pool *p, struct meta_batch *batch, uint64_t object, uint64_t layer,
			bool template, struct err *e)
{
	struct object_row row = { 0 };
	int r = life_get_object(p, object, &row, e);

	if (r < 0)
		return r;
	row.live_layer = layer;
	row.flags = template ? OBJECT_TEMPLATE : 0;
	r = life_put_object(p, batch, object, &row);
	object_row_done(&row);
	return r < 0 ? err_set(e, r, "object %" PRIu64, object) : 0;
}

int life_put_no_template(struct pool *p, struct meta_batch *batch, uint64_t object, struct err *e)
{
	struct object_row row = { 0 };
	int r = life_get_object(p, object, &row, e);

	if (r < 0)
		return r;
	row.flags = 0;
	r = life_put_object(p, batch, object, &row);
	object_row_done(&row);
	return r < 0 ? err_because(e, r, "object %" PRIu64, object) : 0;
}

int life_new_disk_stream(struct pool *p, struct meta_batch *batch, uint64_t owner,
			 struct stream **ret_stream, struct err *e)
{
	struct stream_row row = { .class = OBJECT_DISK, .owner = owner };
	uint64_t id;
	int r;

	r = pool_new_number(p, COUNTER_STREAM, &id, e);
	if (r < 0)
		return r;
	if (id > UINT32_MAX)
		return err_set(e, -ENOSPC, "stream numbers are used up");
	r = life_put_stream(p, batch, (uint32_t)id, &row);
	if (r < 0)
		return err_because(e, r, "stream row");
	return pool_stream_add(p, (uint32_t)id, OBJECT_DISK, owner, ret_stream, e);
}
