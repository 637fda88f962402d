/*
 * checkpoint_moves - rows of frozen layers follow the copies that the cleaner made (clean_frozen.h).
 *
 * Only copies whose entries are below the mark of this checkpoint: their bytes are durable by then, a
 * root that shows the rows names their SCOs, and no SCO of theirs was looked at yet by whoever buries
 * the dead. A row changes only where it still names the old place: the layer may have been merged or
 * dropped since, and then the copy is garbage.
 */
#include "volume/checkpoint_impl.h"
#include "volume/mutant.h"
#include "volume/resolved.h"

#include <stdlib.h>

/* Pages of one commit: what cold look-ups wait for. */
#define MOVE_PAGES_MAX 256u

static int by_address(const void *a, const void *b)
{
	const struct frozen_move *x = a, *y = b;

	if (x->layer != y->layer)
		return x->layer < y->layer ? -1 : 1;
	if (x->move.cluster != y->move.cluster)
		return x->move.cluster < y->move.cluster ? -1 : 1;
	return x->lsn < y->lsn ? -1 : x->lsn > y->lsn;
}

/* Of a stream that failed they are lost. True: this checkpoint has nothing more to do with it. */
static bool is_for_later(struct checkpoint *c, const struct frozen_move *fm)
{
	struct stream *stream = pool_stream(c->pool, fm->stream);

	return stream && (stream->mark_index >= c->mark_count ||
			  c->marks[stream->mark_index].stream != stream ||
			  fm->lsn > c->marks[stream->mark_index].lsn);
}

static bool is_lost(struct checkpoint *c, const struct frozen_move *fm)
{
	struct stream *stream = pool_stream(c->pool, fm->stream);

	return !stream || stream_keeps_all(stream) ||
	       __atomic_load_n(&stream->stuck, __ATOMIC_ACQUIRE);
}

int checkpoint_take_moves(struct checkpoint *c, struct err *e)
{
	struct frozen_moves *fm = &c->pool->frozen_moves;
	size_t later = 0;

	GUARD(&fm->lock);
	if (fm->count == 0)
		return 0;
	c->moves = calloc(fm->count, sizeof(*c->moves));
	if (!c->moves)
		return err_set(e, -ENOMEM, "places of frozen layers");
	for (size_t i = 0; i < fm->count; i++) {
		if (is_lost(c, &fm->list[i]))
			continue;
		if (is_for_later(c, &fm->list[i]))
			fm->list[later++] = fm->list[i];
		else
			c->moves[c->move_count++] = fm->list[i];
	}
	fm->count = later;
	if (c->move_count)
		qsort(c->moves, c->move_count, sizeof(*c->moves), by_address);
	return 0;
}

/* --- one page ---------------------------------------------------------------------------------- */

struct move_page {
	struct checkpoint *c;
	loc_t locs[PAGE_CLUSTERS]; /* as the row has them */
	struct page_run runs[PAGE_CLUSTERS];
	unsigned int run_count;
	uint32_t crcs[PAGE_CLUSTERS];
	int error;
};

static void take_run(void *arg, const struct page_run *run)
{
	struct move_page *mp = arg;

	for (unsigned int i = 0; i < run->count && loc_is_place(run->loc); i++)
		mp->locs[run->first + i] = run->loc + i;
}

static void count_moved(void *arg, loc_t old, loc_t new, unsigned int count)
{
	struct move_page *mp = arg;

	if (loc_is_place(old) && mp->error == 0)
		mp->error = checkpoint_tally(mp->c, old, -(int64_t)count);
	if (loc_is_place(new) && mp->error == 0)
		mp->error = checkpoint_tally(mp->c, new, count);
}

/* Whoever buries SCOs holds the checkpoint lock, as we do: what stands now stands until the commit. */
static bool stands(struct pool *p, loc_t loc)
{
	struct sco *s = sco_get(p->scos, loc_sco(loc));
	bool stands;

	if (!s)
		return false;
	mutex_lock(&p->scos->lock);
	stands = !s->dead;
	mutex_unlock(&p->scos->lock);
	sco_unref(p->scos, s);
	return stands;
}

/* A run of one cluster for each that is still where it was. */
static void choose_runs(struct move_page *mp, const struct frozen_move *moves, size_t count)
{
	for (unsigned int i = 0; i < PAGE_CLUSTERS; i++)
		mp->crcs[i] = 0;
	mp->run_count = 0;
	for (size_t i = 0; i < count; i++) {
		const struct map_move *m = &moves[i].move;
		unsigned int at = m->cluster % PAGE_CLUSTERS;

		if (mp->locs[at] != m->from || !stands(mp->c->pool, m->to))
			continue;
		mp->locs[at] = m->to; /* one that was copied twice moves once */
		mp->crcs[at] = moves[i].crc;
		mp->runs[mp->run_count++] = (struct page_run){
			.first = (uint16_t)at, .count = 1, .loc = m->to, .crcs = &mp->crcs[at]
		};
	}
}

/* All of one page of one layer. *ret_changed: something is in the commit now. */
static int move_page(struct move_page *mp, const struct frozen_move *moves, size_t count,
		     bool *ret_changed, struct err *e)
{
	uint64_t layer = moves[0].layer, page = moves[0].move.cluster >> PAGE_CLUSTERS_SHIFT;
	struct row_key key = row_key_2u64(ROW_PAGE, layer, page);
	struct checkpoint *c = mp->c;
	enum page_value_kind kind;
	int r;

	for (unsigned int i = 0; i < PAGE_CLUSTERS; i++)
		mp->locs[i] = LOC_UNMAPPED;
	buf_clear(&c->old);
	buf_clear(&c->new);
	r = meta_get(c->pool->meta, META_STATE, &key, &c->old, e);
	if (r == 0)
		r = page_value_decode(c->old.data, c->old.len_bytes, &kind, take_run, mp, e);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		choose_runs(mp, moves, count);
	if (r < 0 || mp->run_count == 0)
		return r;
	r = page_value_splice(c->old.data, c->old.len_bytes, mp->runs, mp->run_count, count_moved,
			      mp, &c->new, e);
	if (r == 0)
		r = mp->error;
	if (r == 0)
		r = checkpoint_note_change(c, layer, page);
	if (r == 0)
		r = meta_batch_put(c->pool->meta, c->batch, &key, &c->new);
	*ret_changed |= r == 0;
	return r;
}

/* --- one commit -------------------------------------------------------------------------------- */

/* RAM follows at once, while nobody goes along a chain. */
static int commit_moves(struct checkpoint *c, uint64_t layer, const struct frozen_move *moves,
			size_t count, struct err *e)
{
	struct map *map = c->pool->map;
	struct map_move *list = calloc(count, sizeof(*list));
	int r;

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		list[i] = moves[i].move;
	/* No log tells: the next root needs a map that shows it. */
	r = checkpoint_note_change(c, layer, AREA_UNLOGGED << AREA_PAGES_SHIFT);
	if (r == 0)
		r = resolved_note_moves(c);
	if (r == 0) {
		map_chain_hold_alone(map);
		map_layer_moved(map, layer, resolved_sequence(c->pool));
		r = checkpoint_commit(c, e);
		/* Also without a batch for what comes next: the commit is in. */
		if ((r == 0 || !c->batch) && !MUTANT(MUTANT_FROZEN_CACHED))
			map_forget_moved(map, layer, list, count);
		map_chain_release_alone(map);
	}
	free(list);
	return r;
}

/* Moves of one layer, in as many commits as there are steps. */
static int move_layer(struct move_page *mp, const struct frozen_move *moves, size_t count,
		      struct err *e)
{
	struct checkpoint *c = mp->c;
	size_t step = 0, n;
	unsigned int pages = 0;
	bool changed = false;
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i += n) {
		uint64_t page = moves[i].move.cluster >> PAGE_CLUSTERS_SHIFT;

		for (n = 1;
		     i + n < count && moves[i + n].move.cluster >> PAGE_CLUSTERS_SHIFT == page; n++)
			continue;
		r = move_page(mp, moves + i, n, &changed, e);
		if (r < 0 || (++pages < MOVE_PAGES_MAX && i + n < count))
			continue;
		if (changed)
			r = commit_moves(c, moves[0].layer, moves + step, i + n - step, e);
		changed = false;
		pages = 0;
		step = i + n;
	}
	return r;
}

int checkpoint_commit_moves(struct checkpoint *c, struct err *e)
{
	struct move_page *mp;
	int r = 0;
	size_t n;

	if (c->move_count == 0)
		return 0;
	mp = calloc(1, sizeof(*mp));
	if (!mp)
		return err_set(e, -ENOMEM, "places of frozen layers");
	mp->c = c;
	for (size_t i = 0; i < c->move_count && r == 0; i += n) {
		uint64_t layer = c->moves[i].layer;
		struct family_member member;

		for (n = 1; i + n < c->move_count && c->moves[i + n].layer == layer; n++)
			continue;
		if (family_get(&c->pool->family, layer, &member))
			r = move_layer(mp, c->moves + i, n, e);
	}
	free(mp);
	return r < 0 ? err_wrap(e, r, "places of frozen layers") : 0;
}
