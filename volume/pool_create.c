/* pool_create - an empty pool: its parts, its mark on the backend, and last the row that makes it. */
#include "volume/pool_life.h"

#include "backend/backend.h"

static int put_shared_stream(struct pool *p, struct err *e)
{
	struct stream_row row = { .class = OBJECT_FILE };
	struct row_key key = row_key_u64(ROW_STREAM, STREAM_SHARED);
	struct meta_batch *batch = meta_batch_new(p->meta, META_NAMES);
	struct buf value;
	int r = batch ? 0 : -ENOMEM;

	buf_init(&value, 4096);
	if (r == 0)
		r = stream_row_encode(&row, &value);
	if (r == 0)
		r = meta_batch_put(p->meta, batch, &key, &value);
	if (r < 0)
		err_because(e, r, "shared stream");
	else
		r = meta_commit(p->meta, batch, META_SYNC, e);
	if (batch)
		meta_batch_free(p->meta, batch);
	buf_done(&value);
	return r;
}

/* Say on the backend whose it is; refuse one that is taken. */
static int mark_backend(struct pool *p, struct err *e)
{
	char text[POOL_TEXT_MAX + 1];
	struct backend_source source = { .data = text };
	struct backend_put_result result;

	source.len_bytes = pool_text_write(&p->uuid, text);
	if (backend_caps(p->backend) & BACKEND_CAP_PUT_IF_ABSENT) {
		int r = backend_put(p->backend, POOL_NAME, &source, BACKEND_PUT_IF_ABSENT, &result,
				    e);

		return r == -EEXIST ? err_set(e, -EEXIST, "backend '%s' holds a pool already",
					      backend_url(p->backend)) :
				      r;
	}
	{
		struct backend_object object;
		int r = backend_head(p->backend, POOL_NAME, &object, e);

		if (r == 0)
			return err_set(e, -EEXIST, "backend '%s' holds a pool already",
				       backend_url(p->backend));
		if (r != -ENOENT)
			return r;
		return backend_put(p->backend, POOL_NAME, &source, 0, &result, e);
	}
}

int pool_check_sco_bytes(const struct pool_options *o, struct err *e)
{
	if (o->sco_bytes % CLUSTER_BYTES || o->sco_bytes / CLUSTER_BYTES < SCO_SLOTS_MIN ||
	    o->sco_bytes / CLUSTER_BYTES > SCO_SLOTS_MAX + 1u)
		return err_set(e, -EINVAL, "SCOs of %" PRIu64 " bytes are not possible",
			       o->sco_bytes);
	return 0;
}

int pool_create(struct env *env, const struct pool_options *o, struct err *e)
{
	struct pool_row row = { .sco_bytes = (uint32_t)o->sco_bytes };
	struct pool *p;
	bool marked = false;
	int r;

	r = pool_check_sco_bytes(o, e);
	if (r == 0)
		r = pool_new(env, o, &p, e);
	if (r < 0)
		return r;
	r = pool_get_row(p, &row, e);
	if (r != -ENOENT) {
		r = r < 0 ? r : err_set(e, -EEXIST, "'%s' holds a pool already", o->dir);
		pool_free(p);
		return r;
	}
	env_random(env, &p->uuid, sizeof(p->uuid));
	r = pool_open_backend(p, e);
	row = (struct pool_row){ .pool = p->uuid,
				 .sco_bytes = (uint32_t)o->sco_bytes,
				 .created_ns = env_now_real_ns(env) };
	if (r == 0)
		r = pool_open_flash(p, row.sco_bytes, true, e);
	if (r == 0)
		r = ring_create_record(env, p->dir, &p->uuid, e);
	if (r == 0)
		r = put_shared_stream(p, e);
	if (r == 0) {
		r = env_sync_dir(env, p->dir);
		if (r < 0)
			err_because(e, r, "syncing '%s'", p->dir);
	}
	if (r == 0) {
		r = mark_backend(p, e);
		marked = r == 0;
	}
	if (r == 0) /* last: with it the pool is there */
		r = pool_put_row(p, &row, e);
	if (r < 0 && marked)
		(void)!backend_delete(p->backend, POOL_NAME, NULL); /* else it counts as taken */
	pool_free(p);
	return r;
}
