/*
 * reader - reads in flight. A read becomes pieces: one for each run of clusters that lie side by
 * side on flash, or for a part of a long one. What is young comes from the ring at once. Each piece
 * is verified when it is there. A read of which anything fails is done again by hand, by
 * object_read(), which knows what is damage and what has only moved meanwhile. What is on the backend
 * only is read from the cache; if it is not there, the read ends for somebody who may wait for it.
 */
#include "volume/absent.h"
#include "volume/io.h"
#include "volume/pool_impl.h"

#include <stdlib.h>
#include <string.h>

#define PIECES 512u
/* The longest one: pieces of a long run are read at the same time. */
#define PIECE_CLUSTERS 64u

struct piece {
	struct env_io io;
	struct volume_read *read;
	struct sco *sco; /* referenced */
	bool held;	 /* of an absent one: what is read is in the cache */
	struct cache_hold hold;
	uint32_t slot;
	unsigned int count;
	uint32_t crcs[PIECE_CLUSTERS];
	struct piece *next_free;
};

struct volume_reader {
	struct pool *pool;
	struct env_ioq *ioq;
	struct volume_read *done, **done_end; /* oldest first; not reaped yet */
	struct piece *free;
	struct piece pieces[PIECES];
};

/* --- ends -------------------------------------------------------------------------------------- */

static void read_done(struct volume_reader *rd, struct volume_read *q)
{
	struct err unused; /* it was logged if it is about damage */

	if (q->by_hand && !q->needs_fetch) {
		q->result =
			io_read(q->object, q->offset_bytes, q->buf, q->len_bytes, false, &unused);
		q->needs_fetch = q->result == NEEDS_FETCH;
	} else if (!q->needs_fetch && q->result > 0) {
		counter_inc(&rd->pool->metrics.reads);
		counter_add(&rd->pool->metrics.read_bytes, (uint64_t)q->result);
	}
	q->next = NULL;
	*rd->done_end = q;
	rd->done_end = &q->next;
}

static void piece_put(struct volume_reader *rd, struct volume_read *q)
{
	if (--q->pieces == 0)
		read_done(rd, q);
}

static void give_up_piece(struct volume_reader *rd, const struct piece *piece)
{
	struct cache_sco name;

	piece->read->by_hand = true;
	if (!piece->held)
		return;
	/* Whoever fetches it next must not get it from there again. */
	absent_name(rd->pool, piece->sco, &name);
	cache_drop(rd->pool->cache, &name, (uint64_t)piece->slot * CLUSTER_BYTES,
		   (size_t)piece->count * CLUSTER_BYTES);
}

/* False: none was done. */
static bool take_piece(struct volume_reader *rd, bool wait)
{
	struct env_io *io = env_ioq_reap(rd->pool->env, rd->ioq, wait);
	struct piece *piece;
	struct err unused; /* reading by hand finds it again */

	if (!io)
		return false;
	piece = io->owner;
	if (io->result < 0 || io_verify(rd->pool, piece->sco, piece->slot, piece->count,
					piece->crcs, io->buf, &unused) < 0)
		give_up_piece(rd, piece);
	if (piece->held)
		cache_release(rd->pool->cache, &piece->hold);
	sco_unref(rd->pool->scos, piece->sco);
	piece->next_free = rd->free;
	rd->free = piece;
	piece_put(rd, piece->read);
	return true;
}

/* --- starts ------------------------------------------------------------------------------------ */

/* Where to read: the SCO's file, or, where it has none, a place in the cache. */
struct place {
	struct env_file *file;
	uint64_t offset_bytes;
	const struct cache_hold *hold; /* NULL: none; goes over to the piece, also if it fails */
};

/* A reference on the SCO goes over to the piece, also if it fails. */
static int start_piece(struct volume_reader *rd, struct volume_read *q, struct sco *s,
		       const struct place *from, uint32_t slot, unsigned int count,
		       const uint32_t *crcs, uint8_t *dst)
{
	struct piece *piece;
	int r;

	while (!rd->free)
		(void)take_piece(rd, true); /* all are in flight */
	piece = rd->free;
	piece->io = (struct env_io){
		.file = from->file,
		.is_read = true,
		.buf = dst,
		.len_bytes = (size_t)count * CLUSTER_BYTES,
		.offset_bytes = from->offset_bytes,
		.owner = piece,
	};
	piece->read = q;
	piece->sco = s;
	piece->held = from->hold != NULL;
	if (from->hold)
		piece->hold = *from->hold;
	piece->slot = slot;
	piece->count = count;
	memcpy(piece->crcs, crcs, count * sizeof(*crcs));
	r = env_ioq_submit(rd->pool->env, rd->ioq, &piece->io);
	if (r < 0) {
		if (piece->held)
			cache_release(rd->pool->cache, &piece->hold);
		sco_unref(rd->pool->scos, s);
		return r;
	}
	rd->free = piece->next_free;
	q->pieces++;
	return 0;
}

static int start_file_piece(struct volume_reader *rd, struct volume_read *q,
			    const struct io_run *run, uint32_t slot, unsigned int count,
			    const uint32_t *crcs, uint8_t *dst)
{
	struct place from = { .file = run->file, .offset_bytes = (uint64_t)slot * CLUSTER_BYTES };

	return start_piece(rd, q, run->sco, &from, slot, count, crcs, dst);
}

static int start_pieces(struct volume_reader *rd, struct volume_read *q, const struct io_run *run,
			uint32_t slot, unsigned int count, const uint32_t *crcs, uint8_t *dst)
{
	int r = 0;

	for (unsigned int i = 0, n; i < count && r == 0; i += n) {
		n = (unsigned int)min_u64(count - i, PIECE_CLUSTERS);
		sco_ref(rd->pool->scos, run->sco);
		r = start_file_piece(rd, q, run, slot + i, n, crcs + i,
				     dst + (size_t)i * CLUSTER_BYTES);
	}
	return r;
}

/* What is not in the ring is in the file, and stays there. */
static int start_young_run(struct volume_reader *rd, struct volume_read *q,
			   const struct io_run *run, uint32_t slot, unsigned int count,
			   const uint32_t *crcs, uint8_t *dst)
{
	struct stream *stream = pool_stream(rd->pool, run->sco->stream);
	unsigned int old = 0; /* places before i that are in the file */
	struct err unused;
	int r = 0;

	for (unsigned int i = 0; i < count && r == 0; i++) {
		uint8_t *to = dst + (size_t)i * CLUSTER_BYTES;

		if (!stream || !stream_read_young(stream, run->sco, slot + i, to)) {
			old++;
			continue;
		}
		r = io_verify(rd->pool, run->sco, slot + i, 1, crcs + i, to, &unused);
		if (r == 0)
			r = start_pieces(rd, q, run, slot + i - old, old, crcs + i - old,
					 to - (size_t)old * CLUSTER_BYTES);
		old = 0;
	}
	if (r < 0)
		return r;
	return start_pieces(rd, q, run, slot + count - old, old, crcs + count - old,
			    dst + (size_t)(count - old) * CLUSTER_BYTES);
}

/* Clusters of an absent SCO, one piece a chunk of the cache. -ENODATA: somebody has to fetch them. */
static int start_absent_run(struct volume_reader *rd, struct volume_read *q, struct sco *s,
			    uint32_t slot, unsigned int count, const uint32_t *crcs, uint8_t *dst)
{
	struct cache_sco name;
	int r = 0;

	absent_name(rd->pool, s, &name);
	for (unsigned int i = 0, n; i < count && r == 0; i += n) {
		uint64_t at = (uint64_t)(slot + i) * CLUSTER_BYTES;
		struct cache_hold hold;
		struct place from = { .hold = &hold };

		n = (unsigned int)min_u64(count - i, (CACHE_CHUNK_BYTES - at % CACHE_CHUNK_BYTES) /
							     CLUSTER_BYTES);
		if (!cache_hold(rd->pool->cache, &name, at, (size_t)n * CLUSTER_BYTES, &hold))
			return -ENODATA;
		from.file = hold.file;
		from.offset_bytes = hold.offset_bytes;
		sco_ref(rd->pool->scos, s);
		r = start_piece(rd, q, s, &from, slot + i, n, crcs + i,
				dst + (size_t)i * CLUSTER_BYTES);
	}
	return r;
}

static int start_known_run(struct volume_reader *rd, struct volume_read *q,
			   const struct io_run *run, uint32_t slot, unsigned int count,
			   const uint32_t *crcs, uint8_t *dst)
{
	if (!run->file)
		return start_absent_run(rd, q, run->sco, slot, count, crcs, dst);
	/* Sealed once it stays so while we hold our reference. */
	if (run->sco->frame_of_slot)
		return start_young_run(rd, q, run, slot, count, crcs, dst);
	return start_pieces(rd, q, run, slot, count, crcs, dst);
}

/* The run's reference goes with this. */
static int start_run(struct volume_reader *rd, struct volume_read *q, const struct io_run *run,
		     const struct io_places *m, unsigned int i, unsigned int count, uint8_t *dst)
{
	uint32_t crcs[PAGE_CLUSTERS];
	uint32_t slot = loc_slot(m->locs[i]);
	struct err unused;
	int r = 0;

	if (!run->file && !io_run_is_near(rd->pool, run->sco, m, i, count))
		r = -ENODATA;
	if (r == 0)
		r = io_run_crcs(rd->pool, run->sco, m, i, count, crcs, &unused);
	if (r == 0 && run->file && !run->sco->frame_of_slot && count <= PIECE_CLUSTERS)
		return start_file_piece(rd, q, run, slot, count, crcs, dst);
	if (r == 0)
		r = start_known_run(rd, q, run, slot, count, crcs, dst);
	q->needs_fetch |= r == -ENODATA;
	sco_unref(rd->pool->scos, run->sco);
	return r;
}

/* Clusters of one page. */
static int start_page(struct volume_reader *rd, struct volume_read *q, uint64_t first,
		      unsigned int count, uint8_t *dst)
{
	struct io_run runs[PAGE_CLUSTERS];
	struct io_places m;
	struct err unused;
	int r = io_look_up(q->object, first, count, &m, &unused), held, run = 0;

	if (r < 0)
		return r;
	held = io_hold_runs(rd->pool, &m, count, runs, &unused);
	if (held < 0)
		return held;
	for (unsigned int i = 0, n; i < count && r == 0; i += n) {
		uint8_t *to = dst + (size_t)i * CLUSTER_BYTES;

		n = io_run_length(&m, i, count);
		if (loc_is_place(m.locs[i]))
			r = start_run(rd, q, &runs[run++], &m, i, n, to);
		else
			memset(to, 0, (size_t)n * CLUSTER_BYTES);
	}
	while (run < held)
		sco_unref(rd->pool->scos, runs[run++].sco);
	return r;
}

static int start_pages(struct volume_reader *rd, struct volume_read *q, size_t len_bytes)
{
	uint64_t at = q->offset_bytes >> CLUSTER_SHIFT;
	uint64_t end = at + div_up_u64(len_bytes, CLUSTER_BYTES);
	uint8_t *dst = q->buf;
	int r = 0;

	while (at < end && r == 0) {
		uint64_t page_end = round_up_u64(at + 1, PAGE_CLUSTERS);
		unsigned int count = (unsigned int)(min_u64(page_end, end) - at);

		r = start_page(rd, q, at, count, dst);
		at += count;
		dst += (size_t)count * CLUSTER_BYTES;
	}
	return r;
}

void volume_read_start(struct volume_reader *rd, struct volume_read *q)
{
	uint64_t size = __atomic_load_n(&q->object->size_bytes, __ATOMIC_ACQUIRE);
	size_t len_bytes = 0;

	if (q->offset_bytes < size)
		len_bytes = (size_t)min_u64(q->len_bytes, size - q->offset_bytes);
	q->result = (ssize_t)len_bytes;
	q->by_hand =
		q->offset_bytes % CLUSTER_BYTES != 0 || (uintptr_t)q->buf % ENV_DIRECT_ALIGN != 0;
	q->needs_fetch = false;
	if (len_bytes > 0)
		read_ahead(q->object, q->offset_bytes, len_bytes);
	q->pieces = 1; /* ours */
	if (len_bytes > 0 && !q->by_hand && start_pages(rd, q, len_bytes) < 0)
		q->by_hand = true;
	piece_put(rd, q);
}

struct volume_read *volume_read_reap(struct volume_reader *rd, bool wait)
{
	struct volume_read *q;

	while (!rd->done)
		if (!take_piece(rd, wait))
			return NULL;
	q = rd->done;
	rd->done = q->next;
	if (!rd->done)
		rd->done_end = &rd->done;
	return q;
}

/* --- open and close ---------------------------------------------------------------------------- */

int volume_reader_open(struct pool *p, struct volume_reader **ret_reader, struct err *e)
{
	struct volume_reader *rd = calloc(1, sizeof(*rd));
	int r;

	if (!rd)
		return err_set(e, -ENOMEM, "no memory for a reader");
	r = env_ioq_open(p->env, PIECES, &rd->ioq);
	if (r < 0) {
		free(rd);
		return err_set(e, r, "queue of a reader: %s", err_name(r));
	}
	rd->pool = p;
	rd->done_end = &rd->done;
	for (unsigned int i = 0; i < PIECES; i++) {
		rd->pieces[i].next_free = rd->free;
		rd->free = &rd->pieces[i];
	}
	*ret_reader = rd;
	return 0;
}

void volume_reader_close(struct volume_reader *rd)
{
	if (!rd)
		return;
	ASSERT(!rd->done);
	env_ioq_close(rd->pool->env, rd->ioq);
	free(rd);
}

void volume_reader_pin(struct volume_reader *rd, void *mem, size_t len_bytes)
{
	env_ioq_pin(rd->pool->env, rd->ioq, mem, len_bytes);
}
