#include "common/crc32c.h"
#include "common/log.h"
#include "volume/absent.h"
#include "volume/io.h"
#include "volume/pool_impl.h"

#include <stdlib.h>
#include <string.h>

#define BOUNCES_MAX 32u

/* --- bounce buffers ---------------------------------------------------------------------------- */

struct bounce *bounce_get(struct pool *p)
{
	struct bounce *b;

	mutex_lock(&p->bounce_lock);
	b = p->bounce_free;
	if (b) {
		p->bounce_free = b->next;
		p->bounce_count--;
	}
	mutex_unlock(&p->bounce_lock);
	if (b)
		return b;
	b = calloc(1, sizeof(*b));
	if (!b)
		return NULL;
	b->mem = direct_alloc(BOUNCE_BYTES);
	if (!b->mem) {
		free(b);
		return NULL;
	}
	return b;
}

static void bounce_free(struct bounce *b)
{
	free(b->mem);
	free(b);
}

void bounce_put(struct pool *p, struct bounce *b)
{
	mutex_lock(&p->bounce_lock);
	if (p->bounce_count < BOUNCES_MAX) {
		b->next = p->bounce_free;
		p->bounce_free = b;
		p->bounce_count++;
		b = NULL;
	}
	mutex_unlock(&p->bounce_lock);
	if (b)
		bounce_free(b);
}

void bounce_free_all(struct pool *p)
{
	while (p->bounce_free) {
		struct bounce *b = p->bounce_free;

		p->bounce_free = b->next;
		bounce_free(b);
	}
	p->bounce_count = 0;
}

/* --- one run of clusters that lie side by side in a SCO ----------------------------------------- */

static bool all_known(const struct io_places *m, unsigned int i, unsigned int count)
{
	for (unsigned int j = i; j < i + count; j++)
		if (!(m->known[j / 8] & 1u << j % 8))
			return false;
	return true;
}

/* Bytes of slots, from the ring where they are young, else from the file in one piece. */
static int fetch_slots(struct pool *p, struct sco *s, uint32_t slot, unsigned int count,
		       uint8_t *dst, struct err *e)
{
	struct stream *stream;
	unsigned int i = 0;

	if (!s->frame_of_slot) /* sealed: stays so while we hold our reference */
		return sco_read(p->scos, s, slot, count, dst, e);
	stream = pool_stream(p, s->stream);
	while (stream && i < count &&
	       stream_read_young(stream, s, slot + i, dst + (size_t)i * CLUSTER_BYTES))
		i++;
	if (i == count)
		return 0;
	/* Batches leave the ring in order, so what follows an old slot may still be young: a place
	 * is in the file only if it is not in the ring. */
	for (; i < count; i++) {
		uint8_t *to = dst + (size_t)i * CLUSTER_BYTES;
		int r;

		if (stream && stream_read_young(stream, s, slot + i, to))
			continue;
		r = sco_read(p->scos, s, slot + i, 1, to, e);
		if (r < 0)
			return r;
	}
	return 0;
}

int io_verify(struct pool *p, const struct sco *s, uint32_t slot, unsigned int count,
	      const uint32_t *crcs, const uint8_t *bytes, struct err *e)
{
	for (unsigned int i = 0; i < count; i++) {
		if (MUTANT(MUTANT_NO_CRC_ON_READ) ||
		    crc32c(0, bytes + (size_t)i * CLUSTER_BYTES, CLUSTER_BYTES) == crcs[i])
			continue;
		counter_inc(&p->metrics.crc_failures);
		return err_set(e, -EBADMSG, "SCO %" PRIu64 " slot %u: checksum of cluster",
			       s->number, slot + i);
	}
	return 0;
}

int io_run_crcs(struct pool *p, struct sco *s, const struct io_places *m, unsigned int i,
		unsigned int count, uint32_t *ret_crcs, struct err *e)
{
	if (!all_known(m, i, count))
		return sco_index_crcs(p->index, s, loc_slot(m->locs[i]), count, ret_crcs, e);
	memcpy(ret_crcs, m->crcs + i, count * sizeof(*ret_crcs));
	return 0;
}

/* What the file has, or gave last time, is no good. */
static bool is_damage(int r)
{
	return r == -EBADMSG || r == -EUCLEAN || r == -EIO;
}

/* Told once a start of each SCO. */
static void tell_damage(struct sco *s, const struct err *e)
{
	if (!__atomic_exchange_n(&s->told_damage, true, __ATOMIC_RELAXED))
		log_warning("volume: damaged here, read from the backend instead: stream=%u "
			    "sco=%" PRIu64 ": %s",
			    s->stream, s->number, e ? e->message : "");
}

bool io_run_is_near(struct pool *p, struct sco *s, const struct io_places *m, unsigned int i,
		    unsigned int count)
{
	return absent_is_near(p, s, loc_slot(m->locs[i]), count, all_known(m, i, count));
}

static int read_run(struct pool *p, struct sco *s, const struct io_places *m, unsigned int i,
		    unsigned int count, uint8_t *dst, bool may_fetch, struct err *e)
{
	uint32_t crcs[PAGE_CLUSTERS];
	uint32_t slot = loc_slot(m->locs[i]);
	bool absent = sco_is_absent(p->scos, s);
	int r, again;

	if (absent && !may_fetch && !io_run_is_near(p, s, m, i, count))
		return err_set(e, NEEDS_FETCH, "SCO %" PRIu64 " is on the backend", s->number);
	r = io_run_crcs(p, s, m, i, count, crcs, e);
	if (r < 0)
		return r;
	r = fetch_slots(p, s, slot, count, dst, e);
	if (r == 0)
		r = io_verify(p, s, slot, count, crcs, dst, e);
	if (!is_damage(r) || !sco_has_copy(p->scos, s))
		return r;
	if (!may_fetch)
		return err_set(e, NEEDS_FETCH, "SCO %" PRIu64 " is damaged here", s->number);
	if (!absent)
		tell_damage(s, e);
	again = sco_read_again(p->scos, s, (uint64_t)slot * CLUSTER_BYTES,
			       (size_t)count * CLUSTER_BYTES, dst, e);
	if (again == -ENOENT || again == -EUCLEAN) /* nor has the backend */
		return r;
	return again < 0 ? again : io_verify(p, s, slot, count, crcs, dst, e);
}

unsigned int io_run_length(const struct io_places *m, unsigned int i, unsigned int count)
{
	unsigned int n = 1;
	bool place = loc_is_place(m->locs[i]);

	while (i + n < count &&
	       (place ? m->locs[i + n] == m->locs[i] + n : !loc_is_place(m->locs[i + n])))
		n++;
	return n;
}

/* For the evictor: who is read stays a little longer. Lost counts don't matter. */
static void note_read(struct sco *s)
{
	uint8_t reads = __atomic_load_n(&s->reads, __ATOMIC_RELAXED);

	if (reads < SCO_READS_MAX)
		__atomic_store_n(&s->reads, (uint8_t)(reads + 1), __ATOMIC_RELAXED);
}

int io_hold_runs(struct pool *p, const struct io_places *m, unsigned int count, struct io_run *runs,
		 struct err *e)
{
	unsigned int held = 0;
	int r = 0;

	for (unsigned int i = 0; i < count && r == 0; i += io_run_length(m, i, count)) {
		struct io_run *run = &runs[held];

		if (!loc_is_place(m->locs[i]))
			continue;
		run->sco = sco_get(p->scos, loc_sco(m->locs[i]));
		if (!run->sco) {
			r = err_set(e, -ENOENT, "SCO %" PRIu64 " is missing", loc_sco(m->locs[i]));
			break;
		}
		held++;
		note_read(run->sco);
		run->file = NULL;
		r = sco_file(p->scos, run->sco, &run->file, e);
		if (r == -ENODATA) /* it is absent */
			r = 0;
	}
	while (r < 0 && held > 0)
		sco_unref(p->scos, runs[--held].sco);
	return r < 0 ? r : (int)held;
}

static int read_looked_up(struct pool *p, const struct io_places *m, unsigned int count,
			  uint8_t *dst, bool may_fetch, struct err *e)
{
	struct io_run runs[PAGE_CLUSTERS];
	int held = io_hold_runs(p, m, count, runs, e), run = 0, r = 0;

	if (held < 0)
		return held;
	for (unsigned int i = 0, n; i < count && r == 0; i += n) {
		uint8_t *to = dst + (size_t)i * CLUSTER_BYTES;

		n = io_run_length(m, i, count);
		if (loc_is_place(m->locs[i]))
			r = read_run(p, runs[run++].sco, m, i, n, to, may_fetch, e);
		else
			memset(to, 0, (size_t)n * CLUSTER_BYTES);
	}
	while (held > 0)
		sco_unref(p->scos, runs[--held].sco);
	/* What was near has left meanwhile, and the store is not there, either. */
	return r == STORE_AWAY && !may_fetch ? NEEDS_FETCH : r;
}

int io_look_up(struct object *o, uint64_t first, unsigned int count, struct io_places *m,
	       struct err *e)
{
	int r;

	rwlock_read_lock(&o->gate); /* the layer may change under a class change */
	r = o->deleted ?
		    err_set(e, -ESTALE, "object %" PRIu64 " was deleted", o->id) :
		    map_lookup(o->pool->map, o->layer, first, count, m->locs, m->crcs, m->known, e);
	rwlock_read_unlock(&o->gate);
	return r;
}

/* Not what is wrong with the data, but that nobody has them now. */
static bool is_out_of_reach(int r)
{
	return r == NEEDS_FETCH || r == STORE_AWAY || r == -ESHUTDOWN || r == -ENOMEM;
}

/*
 * Read and verify clusters of one page into aligned memory: zeros where nothing is mapped.
 * Returns:  0, and in *ret_first, where it is not NULL, where the first was.
 * Errors:   -EBADMSG damaged (the map was looked up again and said the same), -EIO, and those of
 *           absent.h.
 */
static int read_page(struct object *o, uint64_t first, unsigned int count, uint8_t *dst,
		     bool may_fetch, loc_t *ret_first, struct err *e)
{
	struct io_places m, before;
	int r = 0;

	for (bool again = false;; again = true) {
		int looked = io_look_up(o, first, count, &m, e);

		if (looked < 0)
			return looked;
		/* A SCO may go between the look and our reference: whoever took it away moved the
		 * data first. It is damage only if the map insists. */
		if (again && memcmp(m.locs, before.locs, count * sizeof(m.locs[0])) == 0)
			break;
		r = read_looked_up(o->pool, &m, count, dst, may_fetch, e);
		if (r == 0 && ret_first)
			*ret_first = m.locs[0];
		if (r == 0 || is_out_of_reach(r))
			return r;
		before = m;
	}
	log_error("volume: read failed: object=%" PRIu64 " cluster=%" PRIu64 " count=%u: %s", o->id,
		  first, count, e ? e->message : err_name(r));
	return r == -ENOENT ? err_wrap(e, -EIO, "object %" PRIu64, o->id) : r;
}

int io_read_cluster(struct object *o, uint64_t cluster, uint8_t *dst, loc_t *ret_loc, struct err *e)
{
	struct io_places m, again;
	int r;

	for (;;) {
		r = map_lookup(o->pool->map, o->layer, cluster, 1, m.locs, m.crcs, m.known, e);
		if (r < 0)
			return r;
		r = read_looked_up(o->pool, &m, 1, dst, false, e);
		if (r == 0) {
			*ret_loc = m.locs[0];
			return 0;
		}
		if (map_lookup(o->pool->map, o->layer, cluster, 1, again.locs, again.crcs,
			       again.known, e) < 0 ||
		    again.locs[0] == m.locs[0])
			return r;
	}
}

/* Part of one page: whole clusters straight into the caller's memory, the rest by a bounce. */
static int read_part(struct object *o, uint64_t offset, uint8_t *dst, size_t len, struct bounce *b,
		     bool may_fetch, struct err *e)
{
	uint64_t first = offset >> CLUSTER_SHIFT;
	size_t skip = offset % CLUSTER_BYTES;
	unsigned int count = (unsigned int)div_up_u64(skip + len, CLUSTER_BYTES);
	int r;

	if (skip == 0 && len % CLUSTER_BYTES == 0 && (uintptr_t)dst % ENV_DIRECT_ALIGN == 0)
		return read_page(o, first, count, dst, may_fetch, NULL, e);
	r = read_page(o, first, count, b->mem, may_fetch, NULL, e);
	if (r == 0)
		memcpy(dst, b->mem + skip, len);
	return r;
}

ssize_t io_read(struct object *o, uint64_t offset, void *dst, size_t len, bool may_fetch,
		struct err *e)
{
	uint64_t size = __atomic_load_n(&o->size_bytes, __ATOMIC_ACQUIRE);
	struct pool *p = o->pool;
	struct bounce *b;
	size_t done = 0;
	int r = 0;

	if (offset >= size)
		return 0;
	len = (size_t)min_u64(len, size - offset);
	b = bounce_get(p);
	if (!b)
		return err_set(e, -ENOMEM, "reading");
	while (done < len && r == 0) {
		uint64_t at = offset + done;
		size_t skip = at % CLUSTER_BYTES;
		uint64_t page_end = round_up_u64(at + 1, (uint64_t)PAGE_CLUSTERS * CLUSTER_BYTES);
		size_t n = (size_t)min_u64(len - done, page_end - at);
		uint8_t *to = (uint8_t *)dst + done;

		/* Straight: as many whole clusters as there are. */
		if (skip == 0 && n >= CLUSTER_BYTES && (uintptr_t)to % ENV_DIRECT_ALIGN == 0)
			n -= n % CLUSTER_BYTES;
		else
			n = (size_t)min_u64(n, BOUNCE_BYTES - CLUSTER_BYTES - skip);
		r = read_part(o, at, to, n, b, may_fetch, e);
		done += n;
	}
	bounce_put(p, b);
	if (r < 0)
		return r;
	counter_inc(&p->metrics.reads);
	counter_add(&p->metrics.read_bytes, len);
	return (ssize_t)len;
}

ssize_t object_read(struct object *o, uint64_t offset, void *dst, size_t len, struct err *e)
{
	return io_read(o, offset, dst, len, true, e);
}

int io_fetch(struct object *o, uint64_t cluster, struct io_fetched *f, struct err *e)
{
	int r;

	f->valid = false;
	f->cluster = cluster;
	if (!f->bounce)
		f->bounce = bounce_get(o->pool);
	if (!f->bounce)
		return err_set(e, -ENOMEM, "fetching");
	r = read_page(o, cluster, 1, f->bounce->mem, true, &f->loc, e);
	f->valid = r == 0;
	return r;
}

void io_fetched_done(struct pool *p, struct io_fetched *f)
{
	if (f->bounce)
		bounce_put(p, TAKE_PTR(f->bounce));
	f->valid = false;
}

bool object_is_near(struct object *o, uint64_t offset, uint64_t len)
{
	uint64_t at = offset >> CLUSTER_SHIFT, end = div_up_u64(offset + len, CLUSTER_BYTES);
	struct pool *p = o->pool;
	struct io_places m;
	bool near = true;

	while (near && at < end) {
		uint64_t page_end = round_up_u64(at + 1, PAGE_CLUSTERS);
		unsigned int count = (unsigned int)(min_u64(page_end, end) - at);

		if (io_look_up(o, at, count, &m, NULL) < 0)
			return true; /* whoever reads it is told why */
		for (unsigned int i = 0, n; near && i < count; i += n) {
			struct sco *s = NULL;

			n = io_run_length(&m, i, count);
			if (loc_is_place(m.locs[i]))
				s = sco_get(p->scos, loc_sco(m.locs[i]));
			if (s && sco_is_absent(p->scos, s))
				near = io_run_is_near(p, s, &m, i, n);
			sco_unref(p->scos, s);
		}
		at += count;
	}
	return near;
}

int object_seek(struct object *o, uint64_t offset, bool data, uint64_t *ret_offset, struct err *e)
{
	uint64_t size = __atomic_load_n(&o->size_bytes, __ATOMIC_ACQUIRE);
	uint64_t end = div_up_u64(size, CLUSTER_BYTES), cluster;
	int r;

	if (offset >= size)
		return err_set(e, -ENXIO, "seek behind the end");
	rwlock_read_lock(&o->gate);
	r = o->deleted ? err_set(e, -ESTALE, "object %" PRIu64 " was deleted", o->id) :
			 map_seek(o->pool->map, o->layer, offset >> CLUSTER_SHIFT, end, data,
				  &cluster, e);
	rwlock_read_unlock(&o->gate);
	if (r < 0)
		return r;
	if (cluster >= end) {
		if (data)
			return err_set(e, -ENXIO, "no data behind %" PRIu64, offset);
		*ret_offset = size;
		return 0;
	}
	*ret_offset = max_u64(offset, min_u64(size, cluster << CLUSTER_SHIFT));
	return 0;
}
