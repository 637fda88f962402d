#include "volume/recovery.h"
#include "volume/restore_impl.h"
#include "volume/share.h"

#include "common/log.h"

#include <stdlib.h>
#include <string.h>

/* --- order ------------------------------------------------------------------------------------- */

/* By LSN; of two with the same one the ring's, then that of the younger epoch. */
static int entry_order(const void *a, const void *b)
{
	const struct replay_entry *x = a, *y = b;
	uint64_t ex, ey;

	if (x->entry.lsn != y->entry.lsn)
		return x->entry.lsn < y->entry.lsn ? -1 : 1;
	if (x->from_ring != y->from_ring)
		return x->from_ring ? -1 : 1;
	ex = x->sco ? x->sco->epoch : 0;
	ey = y->sco ? y->sco->epoch : 0;
	if (ex != ey)
		return ex > ey ? -1 : 1;
	return 0;
}

/* Entries that may be moved for each that is there, before sorting from scratch is faster. */
#define MOVES_MOST 8u

/* The first of the sorted ones before end that comes behind e. */
static size_t place_of(const struct replay_entry *entries, size_t end, const struct replay_entry *e)
{
	size_t from = 0;

	while (from < end) {
		size_t middle = from + (end - from) / 2;

		if (entry_order(&entries[middle], e) > 0)
			end = middle;
		else
			from = middle + 1;
	}
	return end;
}

/*
 * What is sorted before middle and what is sorted from there to end become one; *moves counts.
 * -ENOMEM: nothing has changed.
 */
static int merge_runs(struct replay_entry *entries, size_t middle, size_t end, size_t *moves)
{
	size_t to = place_of(entries, middle, &entries[middle]), left = middle - to, i = 0;
	struct replay_entry *late = malloc(left * sizeof(*late));

	if (!late)
		return -ENOMEM;
	memcpy(late, &entries[to], left * sizeof(*late));
	while (i < left && middle < end) {
		bool first = entry_order(&late[i], &entries[middle]) <= 0;

		entries[to++] = first ? late[i++] : entries[middle++];
		*moves += 1;
	}
	memcpy(&entries[to], &late[i], (left - i) * sizeof(*late));
	*moves += left;
	free(late);
	return 0;
}

/*
 * SCOs come by number, and the log of each is in order: but for what was published at the borders, and
 * for what lies beside another log, they are sorted.
 */
static void sort_entries(struct replay_entry *entries, size_t count)
{
	size_t moves = 0, end;

	for (size_t begin = 0; begin < count; begin = end) {
		for (end = begin + 1; end < count; end++)
			if (entry_order(&entries[end - 1], &entries[end]) > 0)
				break;
		if (begin > 0 && entry_order(&entries[begin - 1], &entries[begin]) > 0 &&
		    (moves / MOVES_MOST > count || merge_runs(entries, begin, end, &moves) < 0)) {
			qsort(entries, count, sizeof(*entries), entry_order);
			return;
		}
	}
}

static lsn_t entry_end(const struct log_entry *entry)
{
	return entry->lsn + (entry->kind == ENTRY_VOID ? entry->cluster_count : 1);
}

/*
 * Drop duplicates and find where the log ends. LSNs are dense, so the first one missing is the
 * end - unless the ring is there: then nothing that was published is missing, and a hole is an LSN
 * whose writer died before he published.
 */
int recovery_order(struct replay *rp, struct err *e)
{
	lsn_t expected = rp->checkpoint_lsn + 1;
	size_t kept = 0;

	(void)e;
	sort_entries(rp->entries, rp->count);
	for (size_t i = 0; i < rp->count; i++) {
		struct replay_entry *re = &rp->entries[i];

		if (entry_end(&re->entry) <= expected)
			continue; /* a duplicate */
		if (re->entry.lsn > expected && !MUTANT(MUTANT_REPLAY_PAST_GAP)) {
			if (!rp->old)
				break;
			/* Holes belong to the process that died; what an older one left behind a
			 * hole was given up before, though nothing was written since to say so. */
			if (re->sco && !re->from_ring && re->sco->epoch != rp->ring_epoch)
				continue;
			if (expected <= rp->recorded_durable || rp->tail_lost)
				replay_damage(rp, "LSN %" PRIu64 " is missing, but was durable",
					      expected);
		}
		rp->entries[kept++] = *re;
		expected = entry_end(&re->entry);
		if (!rp->damaged)
			rp->end = expected - 1;
	}
	rp->count = kept;
	if (kept == 0)
		rp->end = rp->checkpoint_lsn;
	if (rp->recorded_durable > rp->end)
		replay_damage(rp, "the log ends at LSN %" PRIu64 ", but %" PRIu64 " was durable",
			      rp->end, rp->recorded_durable);
	if (rp->tail_lost)
		replay_damage(rp,
			      "SCO %" PRIu64 ": the batch at slot %u was durable and is not whole",
			      rp->lost_sco, rp->lost_slot);
	return 0;
}

/* --- applying ---------------------------------------------------------------------------------- */

static lsn_t known_lsn(void *arg)
{
	return *(const lsn_t *)arg;
}

static int apply_data(struct object *o, const struct replay_entry *re, uint64_t first,
		      unsigned int count, struct err *e)
{
	lsn_t lsn = re->entry.lsn, unused;
	struct map_update u = {
		.first = first,
		.count = count,
		.loc = loc_make(0, re->sco->number, re->entry.slot),
		/* Of sealed SCOs they stand in the index. */
		.crcs = re->sco->crcs ? re->sco->crcs + re->entry.slot : NULL,
		.publish = known_lsn,
		.arg = &lsn,
	};

	return map_update(o->pool->map, o->layer, &u, &unused, e);
}

/* What it names stays until a checkpoint has counted it. */
static int apply_share(struct object *o, const struct log_entry *entry, struct err *e)
{
	lsn_t lsn = entry->lsn, unused;
	struct map_update u = {
		.first = entry->first_cluster,
		.count = entry->cluster_count,
		.loc = entry->source,
		.publish = known_lsn,
		.arg = &lsn,
	};
	int r = share_replayed(o, entry);

	if (r < 0)
		return err_set(e, r, "shared clusters");
	return map_update(o->pool->map, o->layer, &u, &unused, e);
}

static int apply_range(struct object *o, const struct log_entry *entry, struct err *e)
{
	uint64_t end = entry->kind == ENTRY_TRUNCATE ? CLUSTER_MAX :
						       entry->first_cluster + entry->cluster_count;
	lsn_t lsn = entry->lsn, unused;

	return map_range(o->pool->map, o->layer, entry->first_cluster, end,
			 entry->kind == ENTRY_TRUNCATE ? LOC_UNMAPPED : LOC_ZERO, known_lsn, &lsn,
			 &unused, e);
}

static int apply_entry(struct object *o, const struct replay_entry *re, struct err *e)
{
	const struct log_entry *entry = &re->entry;
	int r = 0;

	switch ((enum entry_kind)entry->kind) {
	case ENTRY_DATA:
		r = apply_data(o, re, entry->first_cluster, entry->cluster_count, e);
		break;
	case ENTRY_ZERO:
		r = apply_range(o, entry, e);
		break;
	case ENTRY_TRUNCATE:
		r = apply_range(o, entry, e);
		if (r == 0 && entry->slot)
			r = apply_data(o, re, entry->first_cluster, 1, e);
		break;
	case ENTRY_SHARE:
		r = apply_share(o, entry, e);
		break;
	case ENTRY_ATTR:
	case ENTRY_VOID:
	case ENTRY_NONE:
		break;
	}
	if (r == 0 && entry->lsn > o->row_lsn)
		object_note_entry(o, entry);
	return r;
}

/* Entries [from, until), if they count, into the map. */
static int apply_entries(struct replay *rp, size_t from, size_t until, lsn_t end, struct err *e)
{
	struct object *o = NULL;
	uint64_t missing = 0; /* the object that was looked for in vain last */
	int r = 0;

	for (size_t i = from; i < until && r == 0; i++) {
		const struct replay_entry *re = &rp->entries[i];

		if (re->entry.lsn > end && !MUTANT(MUTANT_REPLAY_PAST_GAP))
			break;
		/* Whether a copy counts is in the rows, which came behind it. */
		if (re->entry.kind == ENTRY_VOID || re->entry.object == missing ||
		    re->entry.flags & ENTRY_COPY)
			continue;
		if (o && o->id != re->entry.object) {
			object_put(o);
			o = NULL;
		}
		if (!o) {
			r = object_get(rp->pool, re->entry.object, &o, e);
			if (r == -ENOENT) { /* deleted since, or its creation was lost */
				missing = re->entry.object;
				r = 0;
				continue;
			}
			if (r < 0)
				break;
		}
		/* What its live layer does not have is in the rows of those below, or was given up. */
		if (o->stream == rp->stream &&
		    (re->entry.lsn > o->since_lsn || MUTANT(MUTANT_REPLAY_FROZEN)))
			r = apply_entry(o, re, e);
	}
	if (o)
		object_put(o);
	return r;
}

struct rewriting {
	struct replay *rp;
	int result;
	struct err why;
};

static void rewrite_ring(void *arg)
{
	struct rewriting *w = arg;

	w->result = recovery_rewrite(w->rp, &w->why);
}

/*
 * What is only in the ring gets its place in SCOs; meanwhile what is older than all of that goes into
 * the map, for it has its places.
 */
static int rewrite_and_apply(struct replay *rp, struct err *e)
{
	struct rewriting w = { .rp = rp };
	struct thread *thread = NULL;
	const size_t placed = recovery_first_of_ring(rp);
	const lsn_t end = rp->end; /* the ring may lose more, but only its own */
	int r;

	if (placed == rp->count || thread_start("rewrite", rewrite_ring, &w, &thread) < 0)
		rewrite_ring(&w);
	r = apply_entries(rp, 0, placed, end, e);
	if (thread)
		thread_join(thread);
	if (w.result < 0)
		return err_set(e, w.result, "%s", w.why.message);
	return r == 0 ? apply_entries(rp, placed, rp->count, rp->end, e) : r;
}

/*
 * Of writes that were killed between taking an LSN and noting that it is published: whether it was. It
 * is told before anything of this stream goes to a checkpoint, for then the log no longer says.
 */
static void tell_witnesses(const struct replay *rp)
{
	for (size_t n = 0; n < rp->pool->options.witness_count; n++) {
		struct volume_witness *w = rp->pool->options.witnesses[n];
		bool published = false;

		if (w->stream != rp->stream->id || w->lsn == 0 || w->done_bytes >= w->next_bytes)
			continue;
		for (size_t i = 0; i < rp->count && !published && !MUTANT(MUTANT_WITNESS_NOT_TOLD);
		     i++)
			published = rp->entries[i].entry.lsn == w->lsn && w->lsn <= rp->end &&
				    rp->entries[i].entry.kind != ENTRY_VOID;
		if (published)
			__atomic_store_n(&w->done_bytes, w->next_bytes, __ATOMIC_RELEASE);
		else
			__atomic_store_n(&w->lsn, 0, __ATOMIC_RELEASE);
	}
}

/* --- one stream -------------------------------------------------------------------------------- */

static void set_positions(struct replay *rp)
{
	struct stream *s = rp->stream;
	lsn_t last = rp->end;

	for (size_t i = 0; i < rp->count; i++)
		last = max_u64(last, entry_end(&rp->entries[i].entry) - 1);
	s->next_lsn = (rp->damaged ? last : rp->end) + 1;
	s->durable_lsn = rp->end;
	s->checkpoint_lsn = rp->checkpoint_lsn;
	if (rp->sco_count) {
		const struct sco *newest = rp->scos[rp->sco_count - 1];

		s->cut_sco = newest->number;
		s->cut_batches = newest->batch_count;
	}
	s->cut_lsn = rp->end;
}

/*
 * All that counts of the SCOs that were open is durable from here on: it was read, but perhaps from
 * what only the page cache or the disk's cache holds. With a ring what counts was synced before:
 * batches leave it with that, and of older processes the one whose ring it is saw to it here. A
 * device that fails now must not keep the pool from opening then.
 */
static int settle_leftovers(struct replay *rp, struct err *e)
{
	for (size_t i = 0; i < rp->sco_count && !rp->old; i++) {
		struct sco *s = rp->scos[i];
		struct env_file *f;
		int r;

		if (s->life != SCO_LIFE_LEFTOVER)
			continue;
		r = sco_file(rp->pool->scos, s, &f, e);
		if (r == 0) {
			r = env_fdatasync(rp->pool->env, f);
			if (r < 0)
				err_because(e, r, "syncing SCO %" PRIu64, s->number);
		}
		if (r == 0)
			r = flash_sync_names(rp->pool->flash, s->dir, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* What somebody needs who has to find out what happened. */
static void explain_damage(const struct replay *rp)
{
	for (size_t i = 0; i < rp->sco_count; i++)
		log_info("volume: damaged stream: stream=%u sco=%" PRIu64 " epoch=%" PRIu64
			 " life=%d batches=%u slots=%u lsns=%" PRIu64 "..%" PRIu64,
			 rp->stream->id, rp->scos[i]->number, rp->scos[i]->epoch,
			 (int)rp->scos[i]->life, rp->scos[i]->batch_count, rp->scos[i]->next_slot,
			 rp->scos[i]->first_lsn, rp->scos[i]->last_lsn);
}

static int recover_stream(struct pool *p, struct stream *s, lsn_t checkpoint_lsn,
			  const struct ring_old *old, uint64_t *sequence, struct err *e)
{
	struct replay rp = { .pool = p, .stream = s, .checkpoint_lsn = checkpoint_lsn };
	int r;

	rp.limit = UINT64_MAX;
	/* What the root shows is all of it: no more, and no less. */
	if (p->restoring)
		rp.limit = rp.recorded_durable = restore_lsn(p->restoring, s->id);
	rp.end = checkpoint_lsn;
	rp.old = old;
	rp.ring_epoch = old ? old->header.epoch : 0;
	if (s->error)
		replay_damage(&rp, "found earlier");
	r = sco_table_list(p->scos, s->id, &rp.scos, &rp.sco_count);
	if (r < 0)
		return err_because(e, r, "recovering stream %u", s->id);
	r = recovery_find_ring_start(&rp, e);
	if (r == 0)
		r = recovery_scan_stream(&rp, e);
	if (r == 0)
		r = recovery_scan_ring(&rp, e);
	if (r == 0)
		r = settle_leftovers(&rp, e);
	if (r == 0)
		r = recovery_order(&rp, e);
	if (r == 0 && p->restoring)
		r = rp.damaged ? err_set(e, -EUCLEAN, "%s", rp.damage) :
				 restore_note_entries(p->restoring, &rp);
	if (r == 0 && !rp.damaged)
		r = recovery_give_up_behind(&rp, e);
	if (r == 0) {
		set_positions(&rp);
		r = rewrite_and_apply(&rp, e);
	}
	if (r == 0)
		tell_witnesses(&rp);
	*sequence = max_u64(*sequence, rp.recorded_sequence);
	if (r == 0 && rp.damaged) {
		log_error("volume: damage in the log, refused for writing until repaired: "
			  "stream=%u owner=%" PRIu64 " last_good_lsn=%" PRIu64 ": %s",
			  s->id, s->owner, rp.end, rp.damage);
		explain_damage(&rp);
		s->error = -EUCLEAN;
	}
	if (r == 0 && s->abandoned)
		stream_retire_sco(s);
	if (r == 0 && rp.count)
		log_info("volume: replayed: stream=%u entries=%zu from_lsn=%" PRIu64
			 " to_lsn=%" PRIu64,
			 s->id, rp.count, checkpoint_lsn + 1, rp.end);
	free(rp.entries);
	sco_list_free(p->scos, rp.scos, rp.sco_count);
	return r < 0 ? err_wrap(e, r, "recovering stream %u", s->id) : 0;
}

/* --- the pool ---------------------------------------------------------------------------------- */

/* The last checkpoint of a stream; of one that never had any: nothing. */
int recovery_checkpoint_of(struct pool *p, uint32_t stream, struct checkpoint_row *ret_row,
			   struct err *e)
{
	struct row_key key = row_key_u64(ROW_CHECKPOINT, stream);
	struct buf value;
	int r;

	*ret_row = (struct checkpoint_row){ .lsn = 0 };
	buf_init(&value, 4096);
	r = meta_get(p->meta, META_NAMES, &key, &value, e);
	if (r == 0)
		r = checkpoint_row_decode(value.data, value.len_bytes, ret_row, e);
	buf_done(&value);
	return r == -ENOENT ? 0 : r;
}

struct layer_scan {
	struct pool *pool;
	struct err *e;
};

static int drop_again(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		      size_t value_bytes)
{
	struct layer_scan *ls = arg;
	struct layer_row row;
	struct layer *layer;
	uint64_t id;
	int r;

	r = row_key_parse_u64(key, key_bytes, ROW_LAYER, &id);
	if (r == 0)
		r = layer_row_decode(value, value_bytes, &row, ls->e);
	if (r < 0 || row.state != LAYER_DROPPED)
		return r;
	r = map_layer_new(ls->pool->map, id, NULL, 0, 0, &layer);
	if (r < 0)
		return r;
	layer_set_owner(layer, 0);
	r = pool_drop_layer(ls->pool, layer, ls->e);
	layer_unref(ls->pool->map, layer);
	return r;
}

static int drop_layers_again(struct pool *p, struct err *e)
{
	struct row_key from = row_key_u64(ROW_LAYER, 0);
	struct row_key until = row_key_u64(ROW_LAYER, UINT64_MAX);
	struct layer_scan ls = { .pool = p, .e = e };
	int r = meta_iterate(p->meta, META_NAMES, &from, &until, drop_again, &ls, e);

	return r < 0 ? err_wrap(e, r, "dropped layers") : 0;
}

/* Whether a disk's stream outlived its disk. */
static int find_abandoned(struct pool *p, struct stream *s, struct err *e)
{
	struct row_key key = row_key_u64(ROW_OBJECT, s->owner);
	struct buf value;
	int r;

	if (s->class != OBJECT_DISK)
		return 0;
	buf_init(&value, 1u << 20);
	r = meta_get(p->meta, META_NAMES, &key, &value, e);
	buf_done(&value);
	if (r == -ENOENT)
		s->abandoned = true;
	return r == -ENOENT ? 0 : r;
}

/* Whether nothing of a SCO counts: all that was in it was copied from the ring, behind a younger cut. */
static bool is_void(struct pool *p, const struct sco *s, uint64_t ring_epoch)
{
	const struct stream *stream = pool_stream(p, s->stream);

	return s->life == SCO_LIFE_LEFTOVER && s->epoch >= ring_epoch && s->batch_count == 0 &&
	       s->live_slots == 0 && stream && stream->epoch_has_sco && stream->error == 0;
}

/*
 * SCOs of which no sync ever covered anything: where one failed, their headers may decay, so the
 * next start must not find them. Behind the change of the ring: before, clusters that are in no
 * ring are there only.
 */
static int remove_void(struct pool *p, uint64_t ring_epoch, struct err *e)
{
	struct sco **list;
	size_t count;
	int r = sco_table_list_unsealed(p->scos, &list, &count);

	if (r < 0)
		return err_set(e, r, "SCOs that count for nothing");
	for (size_t i = 0; i < count; i++) {
		const struct sco *s = list[i];

		if (!is_void(p, s, ring_epoch) || MUTANT(MUTANT_FILE_BELIEVED))
			continue;
		(void)sco_remove(p->scos, list[i]);
		flash_discard(p->flash, s->dir, s->stream, s->number, s->version, s->file_bytes);
	}
	sco_list_free(p->scos, list, count);
	return 0;
}

int pool_recover(struct pool *p, const struct ring_options *ring, struct err *e)
{
	uint64_t sequence = 0, now_sequence = meta_sequence(p->meta);
	struct ring_old *old = NULL;
	struct stream **streams = NULL;
	size_t count = 0;
	int r;

	r = ring_find_old(p->env, ring, &old, e);
	p->after_kill = r == 0 && old;
	if (r == 0)
		r = recovery_find_scos(p, old, e);
	if (r == 0)
		r = pool_streams(p, &streams, &count);
	for (size_t i = 0; i < count && r == 0; i++) {
		struct checkpoint_row row;

		r = recovery_checkpoint_of(p, streams[i]->id, &row, e);
		/* Damage found once is not forgotten because the log went on behind it. */
		if (r == 0 && row.damaged)
			streams[i]->error = -EUCLEAN;
		if (r == 0)
			r = find_abandoned(p, streams[i], e);
		if (r == 0)
			r = recover_stream(p, streams[i], row.lsn, old, &sequence, e);
	}
	if (r == 0 && sequence > now_sequence)
		r = err_set(e, -EUCLEAN,
			    "the metadata went back: the log saw sequence %" PRIu64
			    " synced, the database is at %" PRIu64,
			    sequence, now_sequence);
	if (r == 0)
		r = drop_layers_again(p, e);
	/* All that the old ring held is durable in SCOs: the new one takes over. */
	if (r == 0)
		r = ring_open(p->env, ring, &p->ring, e);
	if (r == 0 && old)
		r = remove_void(p, old->header.epoch, e);
	ring_old_release(old, r == 0);
	free(streams);
	return r;
}
