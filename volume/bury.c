/*
 * bury - lets go of what a checkpoint has made durably dead: SCOs, old versions, streams.
 */
#include "common/log.h"
#include "volume/checkpoint_impl.h"
#include "volume/mutant.h"

#include <stdlib.h>

/* Of live data: so much may be kept in files of dead SCOs in any case. */
#define RECYCLE_PART 16u

struct stream_mark *checkpoint_mark(struct checkpoint *c, const struct sco *s)
{
	struct stream *stream = pool_stream(c->pool, s->stream);

	if (!stream || stream->mark_index >= c->mark_count ||
	    c->marks[stream->mark_index].stream != stream)
		return NULL;
	return &c->marks[stream->mark_index];
}

/*
 * Whether nothing is left of a SCO; then it is ours, and nobody else begins anything with it. One
 * that an earlier process left open need not be sealed to go.
 */
static bool claim_dead(struct checkpoint *c, struct sco *s)
{
	struct stream_mark *mark = checkpoint_mark(c, s);

	/* Of a damaged stream nothing goes: it may be all there is. */
	if (!mark || stream_keeps_all(mark->stream))
		return false;
	GUARD(&c->pool->scos->lock);
	if ((s->life != SCO_LIFE_SEALED && s->life != SCO_LIFE_LEFTOVER) || s->live_slots > 0 ||
	    (s->young_shares > 0 && !MUTANT(MUTANT_SHARE_UNPINNED)) || s->busy || s->dead ||
	    s->old_kept || s->last_lsn > mark->lsn)
		return false;
	s->dead = true;
	return true;
}

static void unclaim_dead(struct pool *p, struct sco *s)
{
	GUARD(&p->scos->lock);
	s->dead = false;
}

static int sync_all_names(struct pool *p)
{
	int r = 0;

	for (uint32_t dir = 0; dir < p->flash->dir_count && r == 0; dir++)
		r = flash_sync_names(p->flash, dir, NULL);
	return r;
}

/*
 * The header of the first SCO of an epoch says what older ones have that does not count. It goes behind
 * them: no power cut may bring back one of those without it.
 */
static bool cut_may_go(struct checkpoint *c, struct sco *s, bool *names_synced)
{
	const lsn_t checkpoint_lsn = checkpoint_mark(c, s)->lsn;
	struct pool *p = c->pool;
	bool needed;

	if (!s->has_cut || MUTANT(MUTANT_CUT_BURIED))
		return true;
	mutex_lock(&p->scos->lock);
	needed = sco_cut_is_needed_locked(p->scos, s, checkpoint_lsn);
	mutex_unlock(&p->scos->lock);
	if (!needed && !*names_synced)
		*names_synced = sync_all_names(p) == 0;
	return !needed && *names_synced;
}

/* Its rows are durable, so is its death: row, file and object may go. */
static int bury(struct checkpoint *c, struct sco *s, struct meta_batch *names,
		struct meta_batch *state, struct err *e)
{
	struct pool *p = c->pool;
	struct row_key key = row_key_2u64(ROW_SCO, s->stream, s->number);
	int r;

	r = meta_batch_delete(p->meta, state, &key);
	/* What an earlier process tried to put is an orphan of its epoch. */
	if (r == 0 && (s->row_flags & SCO_UPLOADED || s->put_tried))
		r = upload_condemn(p, names, s, e);
	return r;
}

/*
 * Files of dead SCOs that are kept for the next ones: they take what garbage could take, too, so as
 * much as there is less of it than writers are stopped for. A file that goes and comes again costs
 * more than its space: the disk is told to discard it, and the journal turns blocks into written ones.
 */
static unsigned int recycle_most(struct pool *p)
{
	uint64_t most, live, dead;

	pool_recount(p); /* without those that go now */
	dead = __atomic_load_n(&p->garbage_bytes, __ATOMIC_RELAXED) +
	       __atomic_load_n(&p->overhead_bytes, __ATOMIC_RELAXED) +
	       __atomic_load_n(&p->unchecked_bytes, __ATOMIC_RELAXED);
	mutex_lock(&p->scos->lock);
	live = p->scos->live_here_slots;
	mutex_unlock(&p->scos->lock);
	most = live / 100 * DEAD_FROM_PERCENT;
	most -= min_u64(most, dead / CLUSTER_BYTES);
	return (unsigned int)(max_u64(most, live / RECYCLE_PART) / p->world.sco_slots);
}

static void remove_files(struct pool *p, struct sco **dead, size_t count)
{
	unsigned int most = recycle_most(p);

	for (size_t i = 0; i < count; i++) {
		struct sco *s = dead[i];
		struct err e = { 0 };

		if (s->row_flags & SCO_UPLOADED) {
			cache_forget(p->cache, s->number, s->file_bytes);
			counter_add(&p->metrics.backend_freed_bytes, s->file_bytes);
		}
		if (scrub_takes_flash(s))
			counter_add(&p->metrics.flash_freed_bytes, s->file_bytes);
		if (s->absent) { /* its object was condemned */
			(void)sco_remove(p->scos, s);
			counter_inc(&p->metrics.scos_deleted);
			continue;
		}
		/* Whoever still reads it must not see the bytes of the next one, and a write of a
		 * process that was killed may still be on its way. */
		if (sco_remove(p->scos, s) && !(s->row_flags & SCO_LINKED) &&
		    s->epoch == p->epoch &&
		    flash_recycle(p->flash, s->dir, s->stream, s->number, s->version, s->file_bytes,
				  most)) {
			counter_inc(&p->metrics.scos_deleted);
			continue;
		}
		if (flash_delete(p->flash, s->dir, s->stream, s->number, s->version, s->file_bytes,
				 &e) < 0)
			log_warning("volume: dead file stays until the next start: %s", e.message);
		else
			counter_inc(&p->metrics.scos_deleted);
	}
}

/* *ret_again: what was buried kept others, which can go now. */
static int bury_some(struct checkpoint *c, struct sco *const *list, size_t count, bool *ret_again,
		     struct err *e)
{
	struct pool *p = c->pool;
	struct meta_batch *names = meta_batch_new(p->meta, META_NAMES);
	struct meta_batch *state = meta_batch_new(p->meta, META_STATE);
	struct sco **dead = calloc(count + 1, sizeof(struct sco *));
	bool names_synced = false;
	size_t dead_count = 0, kept_count = 0;
	int r = names && state && dead ? 0 : err_set(e, -ENOMEM, "dead SCOs");

	for (size_t i = 0; i < count && r == 0; i++) {
		if (!claim_dead(c, list[i]))
			continue;
		if (!cut_may_go(c, list[i], &names_synced)) {
			unclaim_dead(p, list[i]);
			kept_count++;
			continue;
		}
		dead[dead_count++] = list[i];
		r = bury(c, list[i], names, state, e);
	}
	/* The condemned first: an object without row or file would be found by nobody but a scan. */
	if (r == 0 && dead_count)
		r = meta_commit(p->meta, names, 0, e);
	if (r == 0 && dead_count)
		r = meta_commit(p->meta, state, 0, e);
	if (r == 0 && dead_count) {
		remove_files(p, dead, dead_count);
	} else {
		for (size_t i = 0; i < dead_count; i++)
			unclaim_dead(p, dead[i]);
	}
	free(dead);
	if (names)
		meta_batch_free(p->meta, names);
	if (state)
		meta_batch_free(p->meta, state);
	*ret_again = dead_count > 0 && kept_count > 0;
	return r;
}

/* Those in which nothing lives. What dies later is for the next checkpoint. */
static int list_lifeless(struct pool *p, struct sco *const *list, size_t count,
			 struct sco ***ret_lifeless, size_t *ret_count)
{
	struct sco **lifeless;
	size_t found = 0;

	GUARD(&p->scos->lock);
	for (size_t i = 0; i < count; i++)
		found += list[i]->live_slots == 0;
	lifeless = calloc(found + 1, sizeof(struct sco *));
	if (!lifeless)
		return -ENOMEM;
	*ret_count = 0;
	for (size_t i = 0; i < count; i++)
		if (list[i]->live_slots == 0)
			lifeless[(*ret_count)++] = list[i];
	*ret_lifeless = lifeless;
	return 0;
}

int bury_dead(struct checkpoint *c, struct sco *const *list, size_t count, struct err *e)
{
	struct sco **lifeless = NULL;
	bool again = true;
	int r = list_lifeless(c->pool, list, count, &lifeless, &count);

	if (r < 0)
		return err_because(e, r, "dead SCOs");
	/* Of processes that were killed in turn each one has a cut, for those before it. */
	while (r == 0 && again)
		r = bury_some(c, lifeless, count, &again, e);
	free(lifeless);
	return r;
}

/* That it is gone: while it is there it must not outlive its copy. */
static void note_old_gone(struct pool *p, uint64_t number)
{
	struct sco *s = sco_get(p->scos, number);

	if (!s)
		return;
	mutex_lock(&p->scos->lock);
	s->old_kept = false;
	mutex_unlock(&p->scos->lock);
	sco_unref(p->scos, s);
}

void bury_old_files(struct pool *p, struct old_file *f)
{
	while (f) {
		struct old_file *next = f->next;
		struct err e = { 0 };

		if (flash_delete(p->flash, f->dir, f->stream, f->sco, f->version, f->len_bytes,
				 &e) < 0)
			log_warning("volume: old file stays until the next start: %s", e.message);
		else
			note_old_gone(p, f->sco);
		free(f);
		f = next;
	}
}

/* --- streams of deleted disks ------------------------------------------------------------------ */

static bool has_scos(struct pool *p, uint32_t stream)
{
	struct sco *s, *next;

	GUARD(&p->scos->lock);
	HASH_ITER (hh, p->scos->by_number, s, next)
		if (s->stream == stream)
			return true;
	return false;
}

static int bury_stream(struct pool *p, struct stream *s, struct err *e)
{
	struct row_key row = row_key_u64(ROW_STREAM, s->id);
	struct row_key mark = row_key_u64(ROW_CHECKPOINT, s->id);
	struct meta_batch *names = meta_batch_new(p->meta, META_NAMES);
	int r = names ? 0 : -ENOMEM;

	if (r == 0)
		r = meta_batch_delete(p->meta, names, &row);
	if (r == 0)
		r = meta_batch_delete(p->meta, names, &mark);
	if (r < 0)
		err_because(e, r, "stream of a deleted disk");
	else
		r = meta_commit(p->meta, names, 0, e);
	if (names)
		meta_batch_free(p->meta, names);
	if (r == 0)
		pool_stream_retire(p, s);
	return r;
}

int bury_streams(struct checkpoint *c, struct err *e)
{
	int r = 0;

	for (size_t i = 0; i < c->mark_count && r == 0; i++) {
		struct stream *s = c->marks[i].stream;

		/* Its last entries are below the mark, and its last SCO was buried. */
		if (stream_is_over(s) && c->marks[i].lsn == stream_last_lsn(s) &&
		    !has_scos(c->pool, s->id) && !family_uses_stream(&c->pool->family, s->id))
			r = bury_stream(c->pool, s, e);
	}
	return r;
}
