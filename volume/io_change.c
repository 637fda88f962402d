#include "volume/io_change.h"

#include "common/crc32c.h"
#include "volume/io.h"

#include <string.h>

lsn_t io_publish(void *arg)
{
	struct io_publication *pub = arg;
	lsn_t lsn;

	if (pub->keep_mtime)
		pub->entry.mtime_ns = __atomic_load_n(&pub->object->mtime_ns, __ATOMIC_RELAXED);
	lsn = stream_publish(pub->reservation, &pub->entry, pub->witness, pub->done_bytes);
	object_note_entry(pub->object, &pub->entry);
	return lsn;
}

/* Past the ring, straight into the SCO. */
static int write_direct(const struct reservation *res, const struct io_change *c, struct pool *p,
			struct err *e)
{
	size_t len = (size_t)res->count * CLUSTER_BYTES;
	struct env_file *file;
	int r = sco_file(p->scos, res->sco, &file, e);

	if (r < 0)
		return r;
	counter_inc(&p->metrics.direct_writes);
	r = env_pwrite(p->env, file, c->src, len, (uint64_t)res->slot * CLUSTER_BYTES);
	return r < 0 ? err_because(e, r, "writing to SCO %" PRIu64, res->sco->number) : 0;
}

/* Bytes and checksums into the places reserved. */
static int fill_places(const struct reservation *res, const struct io_change *c, uint32_t *crcs,
		       struct pool *p, struct err *e)
{
	size_t len = (size_t)res->count * CLUSTER_BYTES;
	const uint8_t *bytes = c->src;

	if (res->data) {
		memcpy(res->data, c->src, len);
		bytes = res->data;
	}
	for (unsigned int i = 0; i < res->count; i++) {
		crcs[i] = crc32c(0, bytes + (size_t)i * CLUSTER_BYTES, CLUSTER_BYTES);
		stream_set_crc(res, i, crcs[i]);
	}
	if (res->data || MUTANT(MUTANT_MAP_BEFORE_SLOT))
		return 0;
	return write_direct(res, c, p, e);
}

static enum entry_kind kind_of(const struct io_change *c)
{
	if (c->src)
		return ENTRY_DATA;
	return c->share ? ENTRY_SHARE : ENTRY_ZERO;
}

int io_change_in(struct object *o, struct stream *stream, const struct io_change *c, struct err *e)
{
	struct pool *p = o->pool;
	uint32_t crcs[PAGE_CLUSTERS];
	struct reservation res;
	struct io_publication pub = { .object = o,
				      .reservation = &res,
				      .keep_mtime = c->keep_mtime };
	struct map_update u = {
		.first = c->first,
		.count = c->count,
		.loc = c->share ? c->share : LOC_ZERO,
		.crcs = c->share_crcs,
		.conditional = c->conditional,
		.expect = c->expect,
		.publish = io_publish,
		.arg = &pub,
	};
	lsn_t lsn;
	int r;

	r = stream_reserve(stream, c->src ? c->count : 0, c->reserve_flags, &res, e);
	if (r == -ENOSPC)
		pool_want_space(p);
	if (r < 0)
		return r;
	if (c->src) {
		r = fill_places(&res, c, crcs, p, e);
		if (r < 0)
			goto out;
		u.count = res.count;
		u.loc = loc_make(0, res.sco->number, res.slot);
		u.crcs = crcs;
	}
	pub.entry = (struct log_entry){
		.object = o->id,
		.first_cluster = c->first,
		.size_bytes = min_u64(c->end_bytes, (c->first + u.count) << CLUSTER_SHIFT),
		.mtime_ns = env_now_real_ns(p->env),
		.cluster_count = u.count,
		.kind = (uint8_t)kind_of(c),
		.source = c->share,
	};
	pub.witness = c->witness;
	pub.done_bytes =
		(uint32_t)(c->before_bytes + (c->partial_bytes ? c->partial_bytes :
								 (size_t)u.count << CLUSTER_SHIFT));
	rwlock_read_lock(&o->gate);
	if (io_has_left(o, stream)) { /* class changed meanwhile: try in the new one */
		r = o->deleted ? err_set(e, -ESTALE, "object %" PRIu64 " was deleted", o->id) :
				 -EXDEV;
	} else {
		/* First: whatever stages what comes must see it. */
		if (c->share_foreign)
			layer_set_foreign(o->layer);
		r = map_update(p->map, o->layer, &u, &lsn, e);
	}
	rwlock_read_unlock(&o->gate);
	if (MUTANT(MUTANT_MAP_BEFORE_SLOT) && r == 0 && c->src && !res.data)
		r = write_direct(&res, c, p, e);
out:
	stream_complete(&res);
	return r < 0 ? r : (int)u.count;
}

int io_stream_of(struct object *o, struct stream **ret_stream)
{
	int r;

	rwlock_read_lock(&o->gate);
	*ret_stream = o->stream;
	r = o->read_only ? -EROFS : o->template ? -EPERM : o->frozen ? -EAGAIN : 0;
	rwlock_read_unlock(&o->gate);
	return r;
}

int io_change_clusters(struct object *o, const struct io_change *c, struct err *e)
{
	struct stream *stream;
	int r;

	do {
		r = io_stream_of(o, &stream);
		if (r == 0)
			r = io_change_in(o, stream, c, e);
	} while (r == -EXDEV);
	return r;
}

int io_change_counted(struct object *o, const struct io_change *c, struct err *e)
{
	uint64_t taken_bytes = 0;
	int r = c->src ? capacity_take(o, c->first, c->count, &taken_bytes, e) : 0;

	if (r < 0)
		return r;
	r = io_change_clusters(o, c, e);
	capacity_settle(o->pool, taken_bytes, r < 0 ? 0 : (uint64_t)r << CLUSTER_SHIFT);
	return r;
}

int io_merge_source(struct object *o, uint64_t cluster, struct io_fetched *fetched, uint8_t *dst,
		    loc_t *ret_loc, struct err *e)
{
	if (!fetched || !fetched->valid || fetched->cluster != cluster)
		return io_read_cluster(o, cluster, dst, ret_loc, e);
	memcpy(dst, fetched->bounce->mem, CLUSTER_BYTES);
	*ret_loc = fetched->loc;
	return 0;
}

int io_write_partial(struct object *o, uint64_t offset, const uint8_t *src, size_t len,
		     const struct io_progress *progress, struct io_fetched *fetched, struct err *e)
{
	struct pool *p = o->pool;
	struct bounce *b = bounce_get(p);
	struct io_change c = {
		.first = offset >> CLUSTER_SHIFT,
		.count = 1,
		.end_bytes = src ? offset + len : 0,
		.conditional = !MUTANT(MUTANT_LOST_MERGE),
		.witness = progress ? progress->witness : NULL,
		.before_bytes = progress ? progress->done_bytes : 0,
		.partial_bytes = len,
	};
	int r = -ESTALE;

	if (!b)
		return err_set(e, -ENOMEM, "partial write");
	while (r == -ESTALE) {
		rwlock_read_lock(&o->gate);
		r = o->deleted ? err_set(e, -EBADF, "object %" PRIu64 " was deleted", o->id) :
				 io_merge_source(o, c.first, fetched, b->mem, &c.expect, e);
		rwlock_read_unlock(&o->gate);
		if (r < 0)
			break;
		if (src)
			memcpy(b->mem + offset % CLUSTER_BYTES, src, len);
		else
			memset(b->mem + offset % CLUSTER_BYTES, 0, len);
		c.src = io_is_zero(b->mem) ? NULL : b->mem;
		r = src ? io_change_counted(o, &c, e) : io_change_clusters(o, &c, e);
		if (r == -ESTALE) {
			counter_inc(&p->metrics.merges_raced);
			if (fetched)
				fetched->valid = false;
		}
	}
	bounce_put(p, b);
	if (r == -EBADF)
		return -ESTALE;
	return r < 0 ? r : 0;
}

int io_check_range(uint64_t offset, uint64_t len, struct err *e)
{
	if (offset > OBJECT_BYTES_MAX || len > OBJECT_BYTES_MAX - offset)
		return err_set(e, -EFBIG, "objects end at %" PRIu64 " bytes", OBJECT_BYTES_MAX);
	return 0;
}

int io_relocate(struct object *o, uint64_t cluster, unsigned int count, const uint8_t *src,
		loc_t expect, struct err *e)
{
	struct io_change c = {
		.first = cluster,
		.count = count,
		.src = src,
		.end_bytes = 0, /* never extends */
		.conditional = !MUTANT(MUTANT_MOVE_BLINDLY),
		.expect = expect,
		.reserve_flags = RESERVE_URGENT,
		.keep_mtime = true,
	};

	/* Through the ring, however long: what is moved was synced where it is, and a failed sync of
	 * the new place may lose what only that file had. */
	return io_change_clusters(o, &c, e);
}
