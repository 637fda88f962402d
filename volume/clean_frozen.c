#include "volume/clean_frozen.h"

#include "volume/clean_move.h"
#include "volume/pool_life.h"

#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES_MAX 65536u

void frozen_moves_init(struct frozen_moves *fm)
{
	*fm = (struct frozen_moves){ 0 };
	mutex_init(&fm->lock, 0);
}

void frozen_moves_done(struct frozen_moves *fm)
{
	free(fm->list);
	mutex_done(&fm->lock);
}

/* --- which layer has it ------------------------------------------------------------------------ */

int frozen_finder_begin(struct clean_move *m)
{
	struct frozen_finder *f = &m->frozen;
	int r = family_places(&m->pool->family, m->sco->stream, &f->places, &f->count);

	if (r == 0 && f->count) {
		f->rows = calloc(FROZEN_ROWS, sizeof(*f->rows));
		r = f->rows ? 0 : -ENOMEM;
	}
	return r < 0 ? err_set(m->e, r, "frozen layers of stream %u", m->sco->stream) : 0;
}

void frozen_finder_end(struct clean_move *m)
{
	free(m->frozen.places);
	free(m->frozen.rows);
}

/* The first place of an object whose mark is not below the entry's. */
static size_t find_place(const struct frozen_finder *f, const struct moving *e)
{
	size_t lo = 0, hi = f->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct family_place *at = &f->places[mid];

		if (at->object < e->object || (at->object == e->object && at->mark < e->lsn))
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void take_run(void *arg, const struct page_run *run)
{
	loc_t *locs = arg;

	for (unsigned int i = 0; i < run->count && loc_is_place(run->loc); i++)
		locs[run->first + i] = run->loc + i;
}

/* The row of a layer's page. */
static int read_row(struct clean_move *m, uint64_t layer, uint64_t page,
		    const struct frozen_row **ret_row)
{
	struct row_key key = row_key_2u64(ROW_PAGE, layer, page);
	struct frozen_row *row = &m->frozen.rows[(layer * 31 + page) % FROZEN_ROWS];
	AUTO(buf_done) struct buf value;
	enum page_value_kind kind;
	int r;

	*ret_row = row;
	buf_init(&value, PAGE_BYTES_MAX);
	if (row->layer == layer && row->page == page)
		return 0;
	row->layer = 0;
	for (unsigned int i = 0; i < PAGE_CLUSTERS; i++)
		row->locs[i] = LOC_UNMAPPED;
	r = meta_get(m->pool->meta, META_STATE, &key, &value, m->e);
	if (r == 0)
		r = page_value_decode(value.data, value.len_bytes, &kind, take_run, row->locs,
				      m->e);
	if (r < 0 && r != -ENOENT)
		return err_wrap(m->e, r, "map page %" PRIu64 " of layer %" PRIu64, page, layer);
	row->layer = layer;
	row->page = page;
	return 0;
}

/* --- copies ------------------------------------------------------------------------------------ */

/* A program of before must not replay them. The cleaner holds nothing. */
static int announce(struct pool *p, struct err *e)
{
	int r;

	if (p->frozen_moves.announced)
		return 0;
	GUARD(&p->checkpoint_lock);
	r = pool_add_feature(p, FEATURE_COPIES, e);
	if (r == 0)
		p->frozen_moves.announced = true;
	return r;
}

/* So many more can be noted. -ENOSPC: a checkpoint has to take some first. */
static int make_room(struct frozen_moves *fm, unsigned int count)
{
	struct frozen_move *more;
	size_t cap;

	GUARD(&fm->lock);
	if (fm->count + count > FROZEN_MOVES_MAX)
		return -ENOSPC;
	if (fm->count + count <= fm->cap)
		return 0;
	cap = max_u64(2 * fm->cap, PAGE_CLUSTERS);
	more = reallocarray(fm->list, cap, sizeof(*more));
	if (!more)
		return -ENOMEM;
	fm->list = more;
	fm->cap = cap;
	return 0;
}

/* Clusters that a layer has side by side in the SCO. */
struct frozen_run {
	const struct family_place *at;
	uint64_t cluster;
	loc_t loc;
	unsigned int count;
	const uint8_t *bytes;
	const uint32_t *crcs;
};

/* The LSN is taken and the copies are noted in one, for whoever reads a last LSN. */
static void publish_copy(struct frozen_moves *fm, const struct frozen_run *run,
			 const struct reservation *res, struct log_entry *entry)
{
	GUARD(&fm->lock);
	lsn_t lsn = stream_publish(res, entry, NULL, 0);

	for (unsigned int i = 0; i < res->count; i++)
		fm->list[fm->count++] = (struct frozen_move){
			.layer = run->at->layer,
			.move = { .cluster = run->cluster + i,
				  .from = run->loc + i,
				  .to = loc_make(0, res->sco->number, res->slot + i) },
			.lsn = lsn,
			.stream = res->stream->id,
			.crc = run->crcs[i],
		};
}

/* Through the ring, as what live layers have is moved. Returns clusters, or negative. */
static int copy_some(struct clean_move *m, const struct frozen_run *run)
{
	struct pool *p = m->pool;
	struct stream *stream = pool_stream(p, m->sco->stream);
	struct log_entry entry = {
		.object = run->at->object,
		.first_cluster = run->cluster,
		.size_bytes = run->at->mark,
		.kind = ENTRY_DATA,
		.flags = ENTRY_COPY,
	};
	struct reservation res;
	unsigned int count;
	int r;

	/* Of a damaged one nothing would go for it. */
	if (!stream || stream_keeps_all(stream))
		return -ESTALE;
	r = make_room(&p->frozen_moves, run->count);
	if (r == -ENOSPC)
		job_kick(&p->checkpointer);
	if (r < 0)
		return r;
	r = stream_reserve(stream, run->count, RESERVE_URGENT, &res, m->e);
	if (r == -ENOSPC)
		pool_want_space(p);
	if (r < 0)
		return r;
	memcpy(res.data, run->bytes, (size_t)res.count * CLUSTER_BYTES);
	for (unsigned int i = 0; i < res.count; i++)
		stream_set_crc(&res, i, run->crcs[i]);
	entry.cluster_count = count = res.count;
	publish_copy(&p->frozen_moves, run, &res, &entry);
	stream_complete(&res);
	return (int)count;
}

static int copy_run(struct clean_move *m, struct frozen_run *run)
{
	int r = announce(m->pool, m->e);

	while (r >= 0 && run->count > 0) {
		uint64_t generation = pool_room_generation(m->pool);

		r = copy_some(m, run);
		if (r == -EAGAIN || r == -ENOSPC) {
			r = clean_wait_room(m, generation);
			continue;
		}
		if (r < 0)
			break;
		clean_count_moved(m, (unsigned int)r);
		counter_add(&m->pool->metrics.clean_frozen_clusters, (uint64_t)r);
		run->cluster += (unsigned int)r;
		run->loc += (unsigned int)r;
		run->count -= (unsigned int)r;
		run->bytes += (size_t)r * CLUSTER_BYTES;
		run->crcs += r;
	}
	/* Of a deleted disk nothing is written any more: it stays until its clones have let go. */
	return r == -ESTALE ? 0 : r < 0 ? r : 0;
}

/* What the layer's row has of an entry here. */
static int copy_from(struct clean_move *m, const struct family_place *at, const struct moving *e,
		     uint32_t *left)
{
	unsigned int first = e->first_cluster % PAGE_CLUSTERS;
	loc_t here = loc_make(0, m->sco->number, e->slot);
	const struct frozen_row *row;
	uint32_t crcs[PAGE_CLUSTERS];
	int r = read_row(m, at->layer, e->first_cluster >> PAGE_CLUSTERS_SHIFT, &row);

	for (unsigned int i = 0, n; r == 0 && i < e->count; i += n) {
		struct frozen_run run = {
			.at = at, .cluster = e->first_cluster + i, .loc = here + i, .crcs = crcs
		};

		for (n = 0; i + n < e->count && row->locs[first + i + n] == here + i + n; n++)
			continue;
		run.count = n;
		*left -= n;
		if (n)
			r = clean_window_bytes(m, e->slot + i, n, &run.bytes, crcs);
		else
			n = 1;
		if (r == 0 && run.count)
			r = copy_run(m, &run);
	}
	return r;
}

int clean_frozen_entry(struct clean_move *m, const struct moving *e, uint32_t *left)
{
	const struct frozen_finder *f = &m->frozen;
	size_t i = find_place(f, e), first = i;
	int r = 0;

	/* Several were frozen at one mark where nothing was written between. */
	for (; r == 0 && i < f->count && f->places[i].object == e->object &&
	       f->places[i].mark == f->places[first].mark;
	     i++)
		r = copy_from(m, &f->places[i], e, left);
	return r;
}
