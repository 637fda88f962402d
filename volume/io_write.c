#include "common/crc32c.h"
#include "common/log.h"
#include "volume/absent.h"
#include "volume/io.h"
#include "volume/pool_impl.h"

#include <string.h>

/* From here on a write goes to flash without a copy, if its memory allows. */
#define DIRECT_CLUSTERS_MIN 16u
/* Writes of one thread between its looks at how full the map's cache is. */
#define MAP_LOOK_WRITES 64u

/* What map_update() calls back under the lock of the page. */
struct publication {
	struct object *object;
	const struct reservation *reservation;
	struct log_entry entry;
	bool keep_mtime;		/* the object's, as it is at this moment */
	struct volume_witness *witness; /* NULL: none */
	uint32_t done_bytes;		/* of it, once this is published */
};

static lsn_t publish(void *arg)
{
	struct publication *pub = arg;
	lsn_t lsn;

	if (pub->keep_mtime)
		pub->entry.mtime_ns = __atomic_load_n(&pub->object->mtime_ns, __ATOMIC_RELAXED);
	lsn = stream_publish(pub->reservation, &pub->entry, pub->witness, pub->done_bytes);
	object_note_entry(pub->object, &pub->entry);
	return lsn;
}

static bool is_zero(const uint8_t *cluster)
{
	uint64_t head;

	memcpy(&head, cluster, sizeof(head));
	return head == 0 && memcmp(cluster, cluster + 8, CLUSTER_BYTES - 8) == 0;
}

/* --- one entry --------------------------------------------------------------------------------- */

/* What a writer wants to become of clusters of one page. */
struct change {
	uint64_t first;
	unsigned int count;
	const uint8_t *src; /* NULL: zeros */
	uint64_t end_bytes; /* the object is at least this long then */
	bool conditional;
	loc_t expect;
	unsigned int reserve_flags;
	bool keep_mtime;
	struct volume_witness *witness;
	size_t before_bytes;  /* of the witness's write that are done */
	size_t partial_bytes; /* that this does; 0: all of its clusters */
};

/* Past the ring, straight into the SCO. */
static int write_direct(const struct reservation *res, const struct change *c, struct pool *p,
			struct err *e)
{
	size_t len = (size_t)res->count * CLUSTER_BYTES;
	struct env_file *file;
	int r = sco_file(p->scos, res->sco, &file, e);

	if (r < 0)
		return r;
	counter_inc(&p->metrics.direct_writes);
	r = env_pwrite(p->env, file, c->src, len, (uint64_t)res->slot * CLUSTER_BYTES);
	return r < 0 ? err_set(e, r, "writing to SCO %" PRIu64, res->sco->number) : 0;
}

/* Bytes and checksums into the places reserved. */
static int fill_places(const struct reservation *res, const struct change *c, uint32_t *crcs,
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

/* Reserve, fill, publish, complete. Returns clusters done, or negative with nothing changed. */
static int apply_change(struct object *o, struct stream *stream, const struct change *c,
			struct err *e)
{
	struct pool *p = o->pool;
	uint32_t crcs[PAGE_CLUSTERS];
	struct reservation res;
	struct publication pub = { .object = o, .reservation = &res, .keep_mtime = c->keep_mtime };
	struct map_update u = {
		.first = c->first,
		.count = c->count,
		.loc = LOC_ZERO,
		.conditional = c->conditional,
		.expect = c->expect,
		.publish = publish,
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
		.kind = c->src ? ENTRY_DATA : ENTRY_ZERO,
	};
	pub.witness = c->witness;
	pub.done_bytes =
		(uint32_t)(c->before_bytes + (c->partial_bytes ? c->partial_bytes :
								 (size_t)u.count << CLUSTER_SHIFT));
	rwlock_read_lock(&o->gate);
	if (o->deleted || o->stream != stream) /* class changed meanwhile: try in the new one */
		r = o->deleted ? err_set(e, -ESTALE, "object %" PRIu64 " was deleted", o->id) :
				 -EXDEV;
	else
		r = map_update(p->map, o->layer, &u, &lsn, e);
	rwlock_read_unlock(&o->gate);
	if (MUTANT(MUTANT_MAP_BEFORE_SLOT) && r == 0 && c->src && !res.data)
		r = write_direct(&res, c, p, e);
out:
	stream_complete(&res);
	return r < 0 ? r : (int)u.count;
}

/* The stream to write to now. -EROFS: a snapshot has none. -EAGAIN: its class is being changed; nothing
 * may be reserved. */
static int stream_of(struct object *o, struct stream **ret_stream)
{
	int r;

	rwlock_read_lock(&o->gate);
	*ret_stream = o->stream;
	r = o->read_only ? -EROFS : o->frozen ? -EAGAIN : 0;
	rwlock_read_unlock(&o->gate);
	return r;
}

static int change_clusters(struct object *o, const struct change *c, struct err *e)
{
	struct stream *stream;
	int r;

	do {
		r = stream_of(o, &stream);
		if (r == 0)
			r = apply_change(o, stream, c, e);
	} while (r == -EXDEV);
	return r;
}

/* As change_clusters(), for what counts under the capacity. */
static int change_counted(struct object *o, const struct change *c, struct err *e)
{
	uint64_t taken_bytes = 0;
	int r = c->src ? capacity_take(o, c->first, c->count, &taken_bytes, e) : 0;

	if (r < 0)
		return r;
	r = change_clusters(o, c, e);
	capacity_settle(o->pool, taken_bytes, r < 0 ? 0 : (uint64_t)r << CLUSTER_SHIFT);
	return r;
}

/* --- writes ------------------------------------------------------------------------------------ */

/* How far a write is. */
struct progress {
	size_t done_bytes;
	struct volume_witness *witness; /* NULL: none */
};

/* The cluster to merge with. The map says whether what was fetched still counts. */
static int merge_source(struct object *o, uint64_t cluster, struct io_fetched *fetched,
			uint8_t *dst, loc_t *ret_loc, struct err *e)
{
	if (!fetched || !fetched->valid || fetched->cluster != cluster)
		return io_read_cluster(o, cluster, dst, ret_loc, e);
	memcpy(dst, fetched->bounce->mem, CLUSTER_BYTES);
	*ret_loc = fetched->loc;
	return 0;
}

/*
 * Part of one cluster: merge with what is there; again if somebody was faster (every race lost is
 * somebody's write done, so this ends). src NULL: zeros, which never make the object longer. progress:
 * of the write that it is a part of; NULL: none. fetched: what was got for it, if anything. Errors:
 * NEEDS_FETCH.
 */
static int write_partial(struct object *o, uint64_t offset, const uint8_t *src, size_t len,
			 const struct progress *progress, struct io_fetched *fetched, struct err *e)
{
	struct pool *p = o->pool;
	struct bounce *b = bounce_get(p);
	struct change c = {
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
				 merge_source(o, c.first, fetched, b->mem, &c.expect, e);
		rwlock_read_unlock(&o->gate);
		if (r < 0)
			break;
		if (src)
			memcpy(b->mem + offset % CLUSTER_BYTES, src, len);
		else
			memset(b->mem + offset % CLUSTER_BYTES, 0, len);
		c.src = is_zero(b->mem) ? NULL : b->mem;
		r = src ? change_counted(o, &c, e) : change_clusters(o, &c, e);
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

/* How many whole clusters from src on are alike: all zero, or none zero. */
static unsigned int alike(const uint8_t *src, unsigned int count, bool *ret_zero)
{
	unsigned int n = 1;

	*ret_zero = is_zero(src);
	while (n < count && is_zero(src + (size_t)n * CLUSTER_BYTES) == *ret_zero)
		n++;
	return n;
}

static int write_clusters(struct object *o, uint64_t offset, const uint8_t *src, size_t len,
			  const struct progress *progress, struct err *e)
{
	struct change c = {
		.first = offset >> CLUSTER_SHIFT,
		.end_bytes = offset + len,
		.witness = progress->witness,
		.before_bytes = progress->done_bytes,
	};
	unsigned int in_page = PAGE_CLUSTERS - (unsigned int)(c.first % PAGE_CLUSTERS);
	bool zero;

	c.count = alike(src, (unsigned int)min_u64(len >> CLUSTER_SHIFT, in_page), &zero);
	if (!zero) {
		c.src = src;
		if (c.count >= DIRECT_CLUSTERS_MIN && (uintptr_t)src % ENV_DIRECT_ALIGN == 0)
			c.reserve_flags = RESERVE_DIRECT;
	}
	return change_counted(o, &c, e);
}

/* Go on with a write. */
static int write_some(struct object *o, uint64_t offset, const uint8_t *src, size_t len,
		      struct progress *progress, struct io_fetched *fetched, struct err *e)
{
	while (progress->done_bytes < len) {
		uint64_t at = offset + progress->done_bytes;
		size_t left = len - progress->done_bytes, in = at % CLUSTER_BYTES;
		int r;

		if (in || left < CLUSTER_BYTES) {
			size_t n = (size_t)min_u64(left, CLUSTER_BYTES - in);

			r = write_partial(o, at, src + progress->done_bytes, n, progress, fetched,
					  e);
			if (r < 0)
				return r;
			progress->done_bytes += n;
			continue;
		}
		r = write_clusters(o, at, src + progress->done_bytes, left, progress, e);
		if (r < 0)
			return r;
		progress->done_bytes += (size_t)r << CLUSTER_SHIFT;
	}
	return 0;
}

static bool must_wait(int r)
{
	return r == -EAGAIN || r == -ENOSPC;
}

/*
 * Writers wait while too much of the map's cache is young: a checkpoint is on its way. The sum over
 * all shards costs more than the rest of a small write, so a thread looks at every so many writes
 * only, and at each one while the cache is full. What slips through is bounded: a write pins one
 * page, or, of 1 MiB, two.
 */
static bool map_is_full(struct pool *p)
{
	static __thread unsigned int writes;
	struct map_usage u;
	bool full;

	if (writes++ % MAP_LOOK_WRITES && !__atomic_load_n(&p->map_full, __ATOMIC_RELAXED))
		return false;
	u = map_usage(p->map);
	full = u.pinned_bytes > p->options.metadata_cache_bytes / 2;
	__atomic_store_n(&p->map_full, full, __ATOMIC_RELAXED);
	if (u.pinned_bytes > p->options.metadata_cache_bytes / 4)
		job_kick(&p->checkpointer);
	return full;
}

static int check_range(uint64_t offset, uint64_t len, struct err *e)
{
	if (offset > OBJECT_BYTES_MAX || len > OBJECT_BYTES_MAX - offset)
		return err_set(e, -EFBIG, "objects end at %" PRIu64 " bytes", OBJECT_BYTES_MAX);
	return 0;
}

int object_write(struct object *o, uint64_t offset, const void *src, size_t len, struct err *e)
{
	struct pool *p = o->pool;
	struct io_fetched fetched = { 0 };
	uint64_t delay, start_ns = 0;
	struct progress progress = { 0 };
	int r = check_range(offset, len, e);

	if (r == 0)
		r = capacity_check(o, offset, src, len, e);
	if (r < 0)
		return r == CAPACITY_REACHED ? -ENOSPC : r;
	delay = pool_admission_ns(p, len);
	for (;;) {
		uint64_t generation = pool_room_generation(p);

		if (delay == 0 && !map_is_full(p)) {
			r = write_some(o, offset, src, len, &progress, &fetched, e);
			if (r == NEEDS_FETCH) {
				r = io_fetch_waiting(o,
						     (offset + progress.done_bytes) >>
							     CLUSTER_SHIFT,
						     &fetched, e);
				if (r == 0)
					continue;
			}
			if (!must_wait(r))
				break;
		}
		if (pool_waits_are_cancelled(p)) {
			r = pool_cancelled(e);
			break;
		}
		if (!start_ns)
			start_ns = clock_mono_ns();
		pool_wait_room(p, generation, delay ? delay : UINT64_MAX);
		/* A delay is served once, and shrinks when what it is for does; at the limit writes
		 * wait until it falls. */
		delay = pool_delay_left_ns(p, len, delay);
		if (delay && !pool_must_block(p) && clock_mono_ns() - start_ns >= delay)
			delay = 0;
	}
	io_fetched_done(p, &fetched);
	if (start_ns)
		histogram_record(&p->metrics.write_wait_ns, clock_mono_ns() - start_ns);
	if (r == 0) {
		counter_inc(&p->metrics.writes);
		counter_add(&p->metrics.write_bytes, len);
	}
	return r == CAPACITY_REACHED ? -ENOSPC : r;
}

/* What a write that ended in an error tells: nobody can be told both of a part and of an error. */
static ssize_t failed_result(const struct volume_request *r, int code)
{
	if (code != CAPACITY_REACHED && code != -ESHUTDOWN && code != -EINTR)
		return code;
	if (r->progress_bytes)
		return (ssize_t)r->progress_bytes;
	return code == CAPACITY_REACHED ? -ENOSPC : code;
}

static int try_request(struct volume_request *r, struct io_fetched *fetched)
{
	struct pool *p = r->object->pool;
	struct progress progress = { .witness = r->witness };
	struct err e = { 0 };
	int rc;

	if (!r->write) {
		r->result = io_read(r->object, r->offset_bytes, r->buf, r->len_bytes,
				    fetched != NULL, &e);
		return r->result == NEEDS_FETCH || r->result == STORE_AWAY ? (int)r->result : 0;
	}
	rc = check_range(r->offset_bytes, r->len_bytes, &e);
	if (rc == 0)
		rc = capacity_check(r->object, r->offset_bytes + r->progress_bytes,
				    (uint8_t *)r->buf + r->progress_bytes,
				    r->len_bytes - r->progress_bytes, &e);
	if (rc < 0) {
		r->result = failed_result(r, rc);
		return 0;
	}
	if (r->resume_ns == 0) {
		uint64_t delay = pool_admission_ns(p, r->len_bytes);

		if (delay) {
			r->resume_ns = clock_mono_ns() + delay;
			return -EAGAIN;
		}
	}
	if (map_is_full(p) || (r->resume_ns && pool_must_block(p)))
		return -EAGAIN;
	progress.done_bytes = r->progress_bytes;
	rc = write_some(r->object, r->offset_bytes, r->buf, r->len_bytes, &progress, fetched, &e);
	r->progress_bytes = progress.done_bytes;
	if (rc == NEEDS_FETCH)
		return rc;
	if (must_wait(rc))
		return -EAGAIN;
	r->result = rc < 0 ? failed_result(r, rc) : (ssize_t)r->len_bytes;
	if (rc == 0) {
		counter_inc(&p->metrics.writes);
		counter_add(&p->metrics.write_bytes, r->len_bytes);
	}
	return 0;
}

int io_request_step(struct volume_request *r, struct io_fetched *fetched)
{
	int rc;

	if (__atomic_load_n(&r->cancelled, __ATOMIC_RELAXED)) {
		r->result = failed_result(r, -EINTR);
		return 0;
	}
	rc = try_request(r, fetched);
	if (rc < 0 && pool_waits_are_cancelled(r->object->pool)) {
		r->result = failed_result(r, -ESHUTDOWN);
		return 0;
	}
	return rc;
}

int io_relocate(struct object *o, uint64_t cluster, unsigned int count, const uint8_t *src,
		loc_t expect, struct err *e)
{
	struct change c = {
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
	return change_clusters(o, &c, e);
}

/* --- ranges ------------------------------------------------------------------------------------ */

/* Reserve for an entry that must not fail for want of room; never with the gate held. */
static int reserve_waiting(struct object *o, unsigned int want, struct reservation *ret_res,
			   struct stream **ret_stream, struct err *e)
{
	struct pool *p = o->pool;

	for (;;) {
		uint64_t generation = pool_room_generation(p);
		int r;

		r = stream_of(o, ret_stream);
		if (r == 0)
			r = stream_reserve(*ret_stream, want, RESERVE_URGENT, ret_res, e);
		if (r == -ENOSPC)
			pool_want_space(p);
		if (!must_wait(r))
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
	struct publication pub = { .object = o, .reservation = &res };
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
	if (o->deleted || o->stream != stream) {
		r = o->deleted ? -ESTALE : -EXDEV;
	} else if (end << CLUSTER_SHIFT > size_seen && o->size_bytes > size_seen) {
		r = -ERESTART;
	} else {
		mutex_lock(&stream->range_lock);
		r = map_range(o->pool->map, o->layer, first, end, LOC_ZERO, publish, &pub, &lsn, e);
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
	struct publication pub = { .object = o, .reservation = &res };
	struct stream *stream;
	int r;

	r = reserve_waiting(o, 0, &res, &stream, e);
	if (r < 0)
		return r == -ESTALE ? -EBADF : r; /* the stream of a deleted disk */
	rwlock_write_lock(&o->gate);
	if (o->deleted || o->stream != stream) {
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
		(void)publish(&pub);
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

		r = write_partial(o, offset, NULL, len, NULL, &fetched, e);
		if (r == NEEDS_FETCH) {
			r = io_fetch_waiting(o, offset >> CLUSTER_SHIFT, &fetched, e);
			if (r == 0)
				continue;
		}
		if (!must_wait(r))
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
	int r = check_range(offset, len, e);

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
	r = merge_source(o, size >> CLUSTER_SHIFT, fetched, mem, ret_loc, e);
	if (r < 0)
		return r;
	if (!MUTANT(MUTANT_TRUNCATE_TAIL))
		memset(mem + in, 0, CLUSTER_BYTES - in);
	*ret_keep = !is_zero(mem);
	return 0;
}

struct truncation {
	struct publication pub;
	lsn_t lsn;
};

static lsn_t publish_truncate(void *arg)
{
	struct truncation *t = arg;

	t->lsn = publish(&t->pub);
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
	if (o->deleted || o->stream != stream) {
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
	int r = check_range(size, 0, e);

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
