#include "common/log.h"
#include "volume/absent.h"
#include "volume/io.h"
#include "volume/io_change.h"

#include <string.h>

/* Writes of one thread between its looks at how full the map's cache is. */
#define MAP_LOOK_WRITES 64u
/* From here on a write goes to flash without a copy, if its memory allows. */
#define DIRECT_CLUSTERS_MIN 16u

/* How many whole clusters from src on are alike: all zero, or none zero. */
static unsigned int alike(const uint8_t *src, unsigned int count, bool *ret_zero)
{
	unsigned int n = 1;

	*ret_zero = io_is_zero(src);
	while (n < count && io_is_zero(src + (size_t)n * CLUSTER_BYTES) == *ret_zero)
		n++;
	return n;
}

static int write_clusters(struct object *o, uint64_t offset, const uint8_t *src, size_t len,
			  const struct io_progress *progress, struct err *e)
{
	struct io_change c = {
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
	return io_change_counted(o, &c, e);
}

/* Go on with a write. */
static int write_some(struct object *o, uint64_t offset, const uint8_t *src, size_t len,
		      struct io_progress *progress, struct io_fetched *fetched, struct err *e)
{
	while (progress->done_bytes < len) {
		uint64_t at = offset + progress->done_bytes;
		size_t left = len - progress->done_bytes, in = at % CLUSTER_BYTES;
		int r;

		if (in || left < CLUSTER_BYTES) {
			size_t n = (size_t)min_u64(left, CLUSTER_BYTES - in);

			r = io_write_partial(o, at, src + progress->done_bytes, n, progress,
					     fetched, e);
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

int object_write(struct object *o, uint64_t offset, const void *src, size_t len, struct err *e)
{
	struct pool *p = o->pool;
	struct io_fetched fetched = { 0 };
	uint64_t delay, start_ns = 0;
	struct io_progress progress = { 0 };
	int r = io_check_range(offset, len, e);

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
			if (!io_must_wait(r))
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
	struct io_progress progress = { .witness = r->witness };
	struct err e = { 0 };
	int rc;

	if (!r->write) {
		r->result = io_read(r->object, r->offset_bytes, r->buf, r->len_bytes,
				    fetched != NULL, &e);
		return r->result == NEEDS_FETCH || r->result == STORE_AWAY ? (int)r->result : 0;
	}
	rc = io_check_range(r->offset_bytes, r->len_bytes, &e);
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
	if (io_must_wait(rc))
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
