/*
 * restore_mark - the row that says which root a restore is at, and the rows that go before it begins
 * anew.
 */
#include "volume/names.h"
#include "volume/restore_impl.h"

#include <string.h>

/* Rows of about this many bytes go in one commit. */
#define COMMIT_BYTES (4u << 20)
#define MARK_KEY     1u

int restore_get_mark(struct pool *p, struct root_row *ret_root, struct err *e)
{
	struct row_key key = row_key_u64(ROW_ROOT, MARK_KEY);
	struct buf value;
	int r;

	buf_init(&value, 4096);
	r = meta_get(p->meta, META_NAMES, &key, &value, e);
	if (r == 0)
		r = root_row_decode(value.data, value.len_bytes, ret_root, e);
	buf_done(&value);
	return r;
}

/* One row of NAMES, durable on return. NULL: it goes. */
static int set_row(struct pool *p, const struct row_key *key, const struct buf *value,
		   struct err *e)
{
	struct meta_batch *batch = meta_batch_new(p->meta, META_NAMES);
	int r = batch ? 0 : -ENOMEM;

	if (r == 0)
		r = value ? meta_batch_put(p->meta, batch, key, value) :
			    meta_batch_delete(p->meta, batch, key);
	if (r < 0)
		err_because(e, r, "rows");
	else
		r = meta_commit(p->meta, batch, META_SYNC, e);
	meta_batch_free(p->meta, batch);
	return r;
}

int restore_set_mark(struct pool *p, const struct root_row *root, struct err *e)
{
	struct row_key key = row_key_u64(ROW_ROOT, MARK_KEY);
	struct buf value;
	int r = 0;

	buf_init(&value, 4096);
	if (root)
		r = root_row_encode(root, &value);
	r = r < 0 ? err_because(e, r, "rows") : set_row(p, &key, root ? &value : NULL, e);
	buf_done(&value);
	return r;
}

int restore_raise_counter(struct pool *p, enum counter_id id, uint64_t next, struct err *e)
{
	struct row_key key = row_key_u64(ROW_COUNTER, id);
	struct counter_row row;
	struct buf value;
	int r;

	buf_init(&value, 4096);
	r = meta_get(p->meta, META_NAMES, &key, &value, e);
	if (r == 0)
		r = counter_row_decode(value.data, value.len_bytes, &row, e);
	if (r == 0 && row.high_water < next) {
		row.high_water = next;
		buf_clear(&value);
		r = counter_row_encode(&row, &value);
		r = r < 0 ? err_because(e, r, "rows") : set_row(p, &key, &value, e);
	}
	buf_done(&value);
	return r;
}

struct wipe {
	struct pool *pool;
	struct meta_batch *batch;
	enum meta_family family;
};

static int wipe_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		    size_t value_bytes)
{
	const struct row_key mark = row_key_u64(ROW_ROOT, MARK_KEY);
	struct wipe *w = arg;
	int r;

	(void)value;
	(void)value_bytes;
	if (key_bytes == mark.len_bytes && memcmp(key, mark.bytes, key_bytes) == 0)
		return 0;
	r = w->pool->meta->ops->batch_delete(w->batch, key, key_bytes);
	if (r < 0 || meta_batch_bytes(w->pool->meta, w->batch) < COMMIT_BYTES)
		return r;
	r = meta_commit(w->pool->meta, w->batch, 0, NULL);
	meta_batch_free(w->pool->meta, w->batch);
	w->batch = meta_batch_new(w->pool->meta, w->family);
	return r == 0 && !w->batch ? -ENOMEM : r;
}

int restore_wipe_rows(struct pool *p, struct err *e)
{
	static const struct {
		enum meta_family family;
		uint8_t first, behind;
	} families[] = { { META_NAMES, 'A', 'Z' + 1 }, { META_STATE, 'a', 'z' + 1 } };
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(families) && r == 0; i++) {
		struct row_key from = { .bytes = { families[i].first }, .len_bytes = 1 };
		struct row_key until = { .bytes = { families[i].behind }, .len_bytes = 1 };
		struct wipe w = { .pool = p, .family = families[i].family };

		w.batch = meta_batch_new(p->meta, w.family);
		r = w.batch ? meta_iterate(p->meta, w.family, &from, &until, wipe_row, &w, e) :
			      -ENOMEM;
		if (r == 0)
			r = meta_commit(p->meta, w.batch, 0, e);
		meta_batch_free(p->meta, w.batch);
	}
	return r < 0 ? err_wrap(e, r, "removing rows") : 0;
}
