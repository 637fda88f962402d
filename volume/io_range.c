/* Ranges: zeros, and lengths, each one entry of the log. */
#include "common/crc32c.h"
#include "volume/absent.h"
#include "volume/io.h"
#include "volume/io_change.h"

#include <string.h>

/* Reserve for an entry that must not fail for want of room; never with the gate held. */
static int reserve_waiting(struct object *o, unsigned int want, struct reservation *ret_res,
			   struct stream **ret_stream, struct err *e)
{
	struct pool *p = o->pool;

	for (;;) {
		uint64_t generation = pool_room_generation(p);
		int r;

		r = io_stream_of(o, ret_stream);
		if (r == 0)
			r = stream_reserve(*ret_stream, want, RESERVE_URGENT, ret_res, e);
		if (r == -ENOSPC)
			pool_want_space(p);
		if (!io_must_wait(r))
			return r;
		if (pool_waits_are_cancelled(p))
			return pool_cancelled(e);
		pool_wait_room(p, generation, UINT64_MAX);
	}
}

/*
 * A range of whole clusters as one entry. The last one may be covered in part only, up to the end
 * of the object at size_seen; if the object grew since, nothing is done: -ERESTART.
 */
static int zero_range(struct object *o, uint64_t first, uint64_t end, uint64_t size_seen,
		      struct err *e)
{
	struct reservation res;
	struct io_publication pub = { .object = o, .reservation = &res };
	struct stream *stream;
	lsn_t lsn;
	int r;

	r = reserve_waiting(o, 0, &res, &stream, e);
	if (r < 0)
		return r;
	pub.entry = (struct log_entry){
		.object = o->id,
		.first_cluster = first,
		.mtime_ns = env_now_real_ns(o->pool->env),
		.cluster_count = (uint32_t)(end - first),
		.kind = ENTRY_ZERO,
	};
	rwlock_write_lock(&o->gate);
	if (io_has_left(o, stream)) {
		r = o->deleted ? -ESTALE : -EXDEV;
	} else if (end << CLUSTER_SHIFT > size_seen && o->size_bytes > size_seen) {
		r = -ERESTART;
	} else {
		mutex_lock(&stream->range_lock);
		r = map_range(o->pool->map, o->layer, first, end, LOC_ZERO, io_publish, &pub, &lsn,
			      e);
		mutex_unlock(&stream->range_lock);
	}
	rwlock_write_unlock(&o->gate);
	stream_complete(&res);
	return r;
}

/* Longer: nothing is mapped behind the end and the rest of its cluster is zero already. */
static int grow(struct object *o, uint64_t size, struct err *e)
{
	struct reservation res;
	struct io_publication pub = { .object = o, .reservation = &res };
	struct stream *stream;
	int r;

	r = reserve_waiting(o, 0, &res, &stream, e);
	if (r < 0)
		return r == -ESTALE ? -EBADF : r; /* the stream of a deleted disk */
	rwlock_write_lock(&o->gate);
	if (io_has_left(o, stream)) {
		r = o->deleted ? -EBADF : -EXDEV;
	} else if (size < o->size_bytes) {
		r = -ESTALE; /* a write made it longer than that meanwhile: now it is a cut */
	} else {
		pub.entry = (struct log_entry){
			.object = o->id,
			.size_bytes = size,
			.mtime_ns = env_now_real_ns(o->pool->env),
			.kind = ENTRY_ATTR,
		};
		mutex_lock(&stream->range_lock);
		(void)io_publish(&pub);
		mutex_unlock(&stream->range_lock);
	}
	rwlock_write_unlock(&o->gate);
	stream_complete(&res);
	return r;
}

/* Zeros over part of a cluster, waiting for room where there is none, and for what it merges with. */
static int zero_partial(struct object *o, uint64_t offset, size_t len, struct err *e)
{
	struct io_fetched fetched = { 0 };
	int r;

	for (;;) {
		uint64_t generation = pool_room_generation(o->pool);

		r = io_write_partial(o, offset, NULL, len, NULL, &fetched, e);
		if (r == NEEDS_FETCH) {
			r = io_fetch_waiting(o, offset >> CLUSTER_SHIFT, &fetched, e);
			if (r == 0)
				continue;
		}
		if (!io_must_wait(r))
			break;
		if (pool_waits_are_cancelled(o->pool)) {
			r = pool_cancelled(e);
			break;
		}
		pool_wait_room(o->pool, generation, UINT64_MAX);
	}
	io_fetched_done(o->pool, &fetched);
	return r;
}

/* Whole clusters [first, last), in pieces that a count of 32 bits holds. */
static int zero_clusters(struct object *o, uint64_t first, uint64_t last, uint64_t size_seen,
			 struct err *e)
{
	while (first < last) {
		uint64_t until = min_u64(last, first + (ENTRY_TO_END - 1));
		int r = zero_range(o, first, until, size_seen, e);

		if (r == -EXDEV) /* class changed meanwhile */
			continue;
		if (r < 0)
			return r;
		first = until;
	}
	return 0;
}

/* Zeros up to the end of the object as it is now. -ERESTART: it grew meanwhile. */
static int zero_within(struct object *o, uint64_t offset, uint64_t len, struct err *e)
{
	uint64_t size = __atomic_load_n(&o->size_bytes, __ATOMIC_ACQUIRE), end, first, last;
	int r = 0;

	if (offset >= size)
		return 0;
	end = offset + min_u64(len, size - offset);
	first = div_up_u64(offset, CLUSTER_BYTES);
	last = end == size ? div_up_u64(end, CLUSTER_BYTES) : end >> CLUSTER_SHIFT;
	/* Edges that cover part of a cluster are small writes of zeros. */
	if (offset % CLUSTER_BYTES)
		r = zero_partial(o, offset, (size_t)(min_u64(end, first << CLUSTER_SHIFT) - offset),
				 e);
	if (r == 0)
		r = zero_clusters(o, first, last, size, e);
	if (r == 0 && last >= first && last << CLUSTER_SHIFT < end)
		r = zero_partial(o, last << CLUSTER_SHIFT, end % CLUSTER_BYTES, e);
	return r;
}

int object_zero(struct object *o, uint64_t offset, uint64_t len, bool extend, struct err *e)
{
	int r = io_check_range(offset, len, e);

	if (r < 0)
		return r;
	/* What it adds reads as zeros. -ESTALE: a write made it longer than that meanwhile. */
	while (extend && offset + len > __atomic_load_n(&o->size_bytes, __ATOMIC_ACQUIRE)) {
		r = grow(o, offset + len, e);
		if (r == -EBADF)
			return err_set(e, -ESTALE, "object %" PRIu64 " was deleted", o->id);
		if (r < 0 && r != -ESTALE && r != -EXDEV)
			return r;
	}
	do
		r = zero_within(o, offset, len, e);
	while (r == -ERESTART);
	capacity_freed(o->pool);
	return r;
}

/* The last cluster of a truncated object with its rest zeroed; *ret_keep: it has bytes. */
static int truncated_tail(struct object *o, uint64_t size, struct io_fetched *fetched, uint8_t *mem,
			  loc_t *ret_loc, bool *ret_keep, struct err *e)
{
	size_t in = size % CLUSTER_BYTES;
	int r;

	*ret_keep = false;
	*ret_loc = LOC_UNMAPPED;
	if (in == 0)
		return 0;
	r = io_merge_source(o, size >> CLUSTER_SHIFT, fetched, mem, ret_loc, e);
	if (r < 0)
		return r;
	if (!MUTANT(MUTANT_TRUNCATE_TAIL))
		memset(mem + in, 0, CLUSTER_BYTES - in);
	*ret_keep = !io_is_zero(mem);
	return 0;
}

struct truncation {
	struct io_publication pub;
	lsn_t lsn;
};

static lsn_t publish_truncate(void *arg)
{
	struct truncation *t = arg;

	t->lsn = io_publish(&t->pub);
	return t->lsn;
}

static lsn_t same_lsn(void *arg)
{
	return ((struct truncation *)arg)->lsn;
}

/* Gate closed, tail unchanged since it was read: one entry does it all. */
static int truncate_locked(struct object *o, struct stream *stream, uint64_t size, bool keep,
			   const struct reservation *res, const uint32_t *crc, struct err *e)
{
	struct truncation t = { .pub = { .object = o, .reservation = res } };
	uint64_t first = size >> CLUSTER_SHIFT;
	lsn_t lsn;
	int r;

	t.pub.entry = (struct log_entry){
		.object = o->id,
		.first_cluster = first,
		.size_bytes = size,
		.mtime_ns = env_now_real_ns(o->pool->env),
		.cluster_count = 1,
		.kind = ENTRY_TRUNCATE,
	};
	mutex_lock(&stream->range_lock);
	r = map_range(o->pool->map, o->layer, first, CLUSTER_MAX, LOC_UNMAPPED, publish_truncate,
		      &t, &lsn, e);
	if (r == 0 && keep) {
		struct map_update u = {
			.first = first,
			.count = 1,
			.loc = loc_make(0, res->sco->number, res->slot),
			.crcs = crc,
			.publish = same_lsn,
			.arg = &t,
		};

		r = map_update(o->pool->map, o->layer, &u, &lsn, e);
		if (r < 0) /* published and not in the map: only the log knows it now */
			stream_poison(stream, r, "truncating");
	}
	mutex_unlock(&stream->range_lock);
	return r;
}

/* -ESTALE: somebody changed the tail meanwhile, -EXDEV: the class; again then. */
static int try_truncate(struct object *o, uint64_t size, struct bounce *b,
			struct io_fetched *fetched, struct err *e)
{
	struct stream *stream;
	struct reservation res;
	loc_t before, now;
	uint32_t crc = 0;
	bool keep;
	int r;

	rwlock_read_lock(&o->gate);
	r = o->deleted ? -EBADF : truncated_tail(o, size, fetched, b->mem, &before, &keep, e);
	rwlock_read_unlock(&o->gate);
	if (r < 0)
		return r;
	r = reserve_waiting(o, keep ? 1 : 0, &res, &stream, e);
	if (r < 0)
		return r;
	if (keep) {
		memcpy(res.data, b->mem, CLUSTER_BYTES);
		crc = crc32c(0, res.data, CLUSTER_BYTES);
		stream_set_crc(&res, 0, crc);
	}
	rwlock_write_lock(&o->gate);
	if (io_has_left(o, stream)) {
		r = o->deleted ? -EBADF : -EXDEV;
	} else {
		uint32_t unused_crc;
		uint8_t unused_known[PAGE_CLUSTERS / 8];

		r = size % CLUSTER_BYTES ? map_lookup(o->pool->map, o->layer, size >> CLUSTER_SHIFT,
						      1, &now, &unused_crc, unused_known, e) :
					   0;
		if (r == 0 && size % CLUSTER_BYTES && now != before) {
			r = -ESTALE;
			fetched->valid = false;
		}
		if (r == 0)
			r = truncate_locked(o, stream, size, keep, &res, &crc, e);
	}
	rwlock_write_unlock(&o->gate);
	stream_complete(&res);
	return r;
}

int object_truncate(struct object *o, uint64_t size, struct err *e)
{
	struct io_fetched fetched = { 0 };
	struct bounce *b;
	int r = io_check_range(size, 0, e);

	if (r < 0)
		return r;
	b = bounce_get(o->pool);
	if (!b)
		return err_set(e, -ENOMEM, "truncating");
	do {
		r = size >= __atomic_load_n(&o->size_bytes, __ATOMIC_ACQUIRE) ?
			    grow(o, size, e) :
			    try_truncate(o, size, b, &fetched, e);
		if (r == NEEDS_FETCH) {
			r = io_fetch_waiting(o, size >> CLUSTER_SHIFT, &fetched, e);
			if (r == 0)
				r = -ESTALE;
			else if (r == -ESTALE) /* not again: it is the object that was deleted */
				r = -EBADF;
		}
	} while (r == -ESTALE || r == -EXDEV);
	io_fetched_done(o->pool, &fetched);
	bounce_put(o->pool, b);
	capacity_freed(o->pool);
	if (r == -EBADF)
		return err_set(e, -ESTALE, "object %" PRIu64 " was deleted", o->id);
	return r;
}
