/*
 * checkpoint - brings the young part of the maps into RocksDB, counts what lives in each SCO, and
 * lets go of what is durably dead. The order of its steps is the argument of FORMAT.md 10.4.
 */
#include "common/log.h"
#include "volume/freeze.h"
#include "volume/mutant.h"
#include "volume/resolved.h"
#include "volume/share.h"
#include "volume/upload.h"

#include <stdlib.h>
#include <string.h>

/* Rows of about this many bytes go in one commit. */
#define COMMIT_BYTES (4u << 20)
/* Tallies that there is room for at first. */
#define TALLIES_MIN	    256u
#define CHECKPOINT_RETRY_NS UINT64_C(1000000000)
#define CHECKPOINT_TROUBLE  "volume: checkpoint failed, trying again"

/* --- what the commit changes ------------------------------------------------------------------- */

/* Where the tally of a SCO stands, or is to stand. */
static struct tally *tally_at(struct tally *tallies, size_t room, uint64_t sco)
{
	/* Fibonacci hashing: numbers that follow each other are far apart. */
	size_t i = (size_t)(sco * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (room - 1);

	while (tallies[i].sco != 0 && tallies[i].sco != sco)
		i = (i + 1) & (room - 1);
	return &tallies[i];
}

static int tallies_grow(struct checkpoint *c)
{
	size_t room = c->tally_room ? c->tally_room * 2 : TALLIES_MIN;
	struct tally *tallies = calloc(room, sizeof(*tallies));

	if (!tallies)
		return -ENOMEM;
	for (size_t i = 0; i < c->tally_room; i++)
		if (c->tallies[i].sco != 0)
			*tally_at(tallies, room, c->tallies[i].sco) = c->tallies[i];
	free(c->tallies);
	c->tallies = tallies;
	c->tally_room = room;
	return 0;
}

int checkpoint_tally(struct checkpoint *c, loc_t loc, int64_t delta)
{
	struct tally *t;
	int r;

	if (c->tally_count * 2 >= c->tally_room) {
		r = tallies_grow(c);
		if (r < 0)
			return r;
	}
	t = tally_at(c->tallies, c->tally_room, loc_sco(loc));
	if (t->sco == 0) {
		t->sco = loc_sco(loc);
		c->tally_count++;
	}
	t->delta += delta;
	return 0;
}

static void tallies_clear(struct checkpoint *c)
{
	for (size_t i = 0; i < c->tally_room; i++)
		c->tallies[i] = (struct tally){ 0 };
	c->tally_count = 0;
}

/* Before the logs are made durable: what a row says may never be ahead of the log. */
static int stage_object(struct checkpoint *c, uint64_t id, struct err *e)
{
	struct staged_object *so;
	struct object *o;
	bool passed_over;
	int r;

	HASH_FIND(hh, c->objects, &id, sizeof(id), so);
	if (so)
		return 0;
	r = object_get(c->pool, id, &o, e);
	if (r < 0)
		return r == -ENOENT ? 0 : r; /* deleted: nobody asks any more */
	rwlock_read_lock(&o->gate);
	/* Its layers go, with their rows; or its log may lack what RAM says. */
	passed_over = o->deleted || __atomic_load_n(&o->stream->stuck, __ATOMIC_ACQUIRE);
	rwlock_read_unlock(&o->gate);
	if (passed_over) {
		object_put(o);
		return 0;
	}
	so = calloc(1, sizeof(*so));
	if (!so) {
		object_put(o);
		return err_set(e, -ENOMEM, "staging");
	}
	so->id = id;
	so->object = o;
	so->layer = o->layer;
	__atomic_store_n(&o->attr_dirty, false, __ATOMIC_RELEASE);
	/* The LSN first: what is read after it is at least as new. */
	so->row.lsn = __atomic_load_n(&o->last_lsn, __ATOMIC_ACQUIRE);
	so->row.size_bytes = __atomic_load_n(&o->size_bytes, __ATOMIC_ACQUIRE);
	so->row.mtime_ns = __atomic_load_n(&o->mtime_ns, __ATOMIC_RELAXED);
	so->row.mapped_clusters = __atomic_load_n(&o->mapped_clusters, __ATOMIC_RELAXED);
	if (so->layer->parent) {
		mutex_lock(&so->layer->lock);
		so->parent_limit = so->layer->parent_limit_clusters;
		mutex_unlock(&so->layer->lock);
	}
	so->saved_parent_limit = o->saved_parent_limit;
	HASH_ADD(hh, c->objects, id, sizeof(so->id), so);
	if (HASH_TOOK(so))
		return 0;
	__atomic_store_n(&o->attr_dirty, true, __ATOMIC_RELEASE);
	object_put(o);
	free(so);
	return err_set(e, -ENOMEM, "staging");
}

int checkpoint_stage_frozen(struct checkpoint *c, struct object *o, struct layer *l,
			    const struct object_state_row *row, uint64_t parent_limit,
			    uint64_t saved_parent_limit, struct err *e)
{
	struct staged_object *so = calloc(1, sizeof(*so));

	if (!so)
		return err_set(e, -ENOMEM, "staging");
	so->id = o->id;
	so->object = o;
	so->layer = l;
	so->row = *row;
	so->row.mapped_clusters = __atomic_load_n(&o->mapped_clusters, __ATOMIC_RELAXED);
	so->parent_limit = parent_limit;
	so->saved_parent_limit = saved_parent_limit;
	HASH_ADD(hh, c->objects, id, sizeof(so->id), so);
	if (!HASH_TOOK(so)) {
		free(so);
		return err_set(e, -ENOMEM, "staging");
	}
	mutex_lock(&c->pool->objects_lock);
	o->refs++;
	mutex_unlock(&c->pool->objects_lock);
	return 0;
}

static int put_value(struct checkpoint *c, const struct row_key *key, int encoded)
{
	return encoded < 0 ? encoded : meta_batch_put(c->pool->meta, c->batch, key, &c->value);
}

int checkpoint_note_change(struct checkpoint *c, uint64_t layer, uint64_t page)
{
	uint64_t area = page >> AREA_PAGES_SHIFT;
	struct row_key key = row_key_2u64(ROW_CHANGED, layer, area);
	struct changed_row row = { .root = root_next(c->pool) };
	int r;

	/* Pages come in order. Commits before this one stay where it stays: once is enough. */
	if (layer == c->changed_layer && area == c->changed_area)
		return 0;
	buf_clear(&c->value);
	r = put_value(c, &key, changed_row_encode(&row, &c->value));
	if (r == 0) {
		c->changed_layer = layer;
		c->changed_area = area;
	}
	return r;
}

static int put_state_row(struct checkpoint *c, struct staged_object *so)
{
	struct row_key key = row_key_u64(ROW_OBJECT_STATE, so->layer->id);
	int r = checkpoint_note_change(c, so->layer->id, 0);

	if (r < 0)
		return r;
	buf_clear(&c->value);
	so->written = true;
	return put_value(c, &key, object_state_row_encode(&so->row, &c->value));
}

static void sco_row_fill(const struct sco *s, struct sco_row *row)
{
	bool sealed = s->life == SCO_LIFE_SEALED;
	const uint32_t *slots = sealed ? &s->next_slot : &s->durable_slots;

	*row = (struct sco_row){
		.state = sealed ? SCO_SEALED : SCO_OPEN,
		.flags = s->row_flags,
		.version = s->version,
		.cache_dir = s->dir,
		.slot_count = __atomic_load_n(slots, __ATOMIC_RELAXED),
		.live_slots = s->live_slots,
		.epoch = s->epoch,
		.salt = s->salt,
		.object_epoch = s->object_epoch,
		.file_bytes = s->file_bytes,
		.footer_crc = s->footer_crc,
		.first_lsn = s->first_lsn,
		.last_lsn = s->last_lsn,
	};
}

static int put_sco_row(struct checkpoint *c, struct sco *s, int64_t delta)
{
	struct row_key key = row_key_2u64(ROW_SCO, s->stream, s->number);
	struct sco_row row;

	mutex_lock(&c->pool->scos->lock);
	sco_row_fill(s, &row);
	mutex_unlock(&c->pool->scos->lock);
	if (delta < 0 && (uint64_t)-delta > row.live_slots) {
		log_error("volume: live slots below zero: sco=%" PRIu64 " live=%u delta=%" PRId64,
			  s->number, row.live_slots, delta);
		delta = -(int64_t)row.live_slots;
	}
	row.live_slots = (uint32_t)((int64_t)row.live_slots + delta);
	buf_clear(&c->value);
	return put_value(c, &key, sco_row_encode(&row, &c->value));
}

/* Rows of all SCOs that this commit touches. */
static int put_tallies(struct checkpoint *c)
{
	for (size_t i = 0; i < c->tally_room; i++) {
		const struct tally *t = &c->tallies[i];
		struct sco *s;
		int r;

		if (t->delta == 0)
			continue;
		s = sco_get(c->pool->scos, t->sco);
		if (!s) { /* a row names it: only damage can bring us here */
			log_error("volume: a map names a SCO that is missing: sco=%" PRIu64,
				  t->sco);
			continue;
		}
		r = put_sco_row(c, s, t->delta);
		sco_unref(c->pool->scos, s);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The commit is in: RAM follows. */
static void apply_tallies(struct checkpoint *c)
{
	struct sco_table *table = c->pool->scos;

	for (size_t i = 0; i < c->tally_room; i++) {
		const struct tally *t = &c->tallies[i];
		struct sco *s = t->delta ? sco_get(table, t->sco) : NULL;

		if (!s)
			continue;
		mutex_lock(&table->lock);
		if (t->delta < 0 && (uint64_t)-t->delta > s->live_slots)
			__atomic_store_n(&s->live_slots, 0,
					 __ATOMIC_RELAXED); /* was reported by put_sco_row() */
		else
			__atomic_store_n(&s->live_slots,
					 (uint32_t)((int64_t)s->live_slots + t->delta),
					 __ATOMIC_RELAXED);
		mutex_unlock(&table->lock);
		sco_unref(table, s);
	}
}

int checkpoint_commit(struct checkpoint *c, struct err *e)
{
	struct staged_object *so, *next;
	int r = put_tallies(c);

	/* Counts of clusters go with the rows that change them. */
	HASH_ITER (hh, c->objects, so, next)
		if (r == 0 && !so->written)
			r = put_state_row(c, so);
	if (r < 0)
		return err_because(e, r, "checkpoint rows");
	r = meta_commit(c->pool->meta, c->batch, 0, e);
	if (r < 0)
		return r;
	c->pool->rows_unflushed = true;
	apply_tallies(c);
	HASH_ITER (hh, c->objects, so, next)
		__atomic_store_n(&so->object->mapped_clusters, so->row.mapped_clusters,
				 __ATOMIC_RELAXED);
	tallies_clear(c);
	meta_batch_free(c->pool->meta, c->batch);
	c->batch = meta_batch_new(c->pool->meta, META_STATE);
	return c->batch ? 0 : err_set(e, -ENOMEM, "checkpoint");
}

int checkpoint_commit_if_full(struct checkpoint *c, struct err *e)
{
	return meta_batch_bytes(c->pool->meta, c->batch) >= COMMIT_BYTES ? checkpoint_commit(c, e) :
									   0;
}

/* Rows of attributes of layers that go. */
static int stage_dropped(struct checkpoint *c, struct err *e)
{
	int r = 0;

	GUARD(&c->pool->dropped_lock);
	for (struct dropped_layer *d = c->pool->dropped; d && r == 0; d = d->next) {
		struct row_key key = row_key_u64(ROW_OBJECT_STATE, d->id);

		if (d->frozen_in)
			r = meta_batch_delete(c->pool->meta, c->batch, &key);
	}
	return r < 0 ? err_because(e, r, "dropped layers") : 0;
}

/* SCOs whose row is behind for other reasons than their counts. */
static int stage_sco_rows(struct checkpoint *c, struct err *e)
{
	int r = sco_table_list_behind(c->pool->scos, &c->behind, &c->behind_count);

	if (r < 0)
		return err_because(e, r, "SCO rows");
	for (size_t i = 0; i < c->behind_count && r == 0; i++) {
		struct sco *s = c->behind[i];

		mutex_lock(&c->pool->scos->lock);
		s->row_staged = s->row_change;
		mutex_unlock(&c->pool->scos->lock);
		r = put_sco_row(c, s, 0);
		if (r == 0)
			r = checkpoint_commit_if_full(c, e);
	}
	return r;
}

static void drop_behind(struct checkpoint *c)
{
	if (c->behind)
		sco_list_free(c->pool->scos, TAKE_PTR(c->behind), c->behind_count);
	c->behind_count = 0;
}

/* The rows staged above are flushed. */
static void sco_rows_saved(struct checkpoint *c)
{
	struct sco_table *t = c->pool->scos;

	mutex_lock(&t->lock);
	for (size_t i = 0; i < c->behind_count; i++)
		sco_row_saved_locked(t, c->behind[i]);
	mutex_unlock(&t->lock);
	/* Now: of those that are dead the file is used again only if nobody else holds them. */
	drop_behind(c);
}

/* --- marks ------------------------------------------------------------------------------------- */

static int read_marks(struct checkpoint *c)
{
	struct stream **list;
	int r = pool_streams(c->pool, &list, &c->mark_count);

	if (r < 0)
		return r;
	c->marks = calloc(c->mark_count + 1, sizeof(*c->marks));
	for (size_t i = 0; c->marks && i < c->mark_count; i++) {
		c->marks[i].stream = list[i];
		list[i]->mark_index = i;
		/* A range changes many pages under one LSN: either all of it is before, or after. */
		mutex_lock(&list[i]->range_lock);
		c->marks[i].lsn = stream_last_lsn(list[i]);
		mutex_unlock(&list[i]->range_lock);
		c->marks[i].stuck = __atomic_load_n(&list[i]->stuck, __ATOMIC_ACQUIRE);
		if (c->marks[i].stuck)
			c->marks[i].lsn = list[i]->checkpoint_lsn;
	}
	free(list);
	return c->marks ? 0 : -ENOMEM;
}

static bool was_stuck(struct checkpoint *c, const struct stream *s)
{
	return s->mark_index < c->mark_count && c->marks[s->mark_index].stream == s &&
	       c->marks[s->mark_index].stuck;
}

/*
 * The whole log of every stream, up to what staging can have seen, is durable. Also of streams that
 * are younger than the marks: their pages may have been staged. Of those that were stuck before
 * staging nothing was staged; one that got stuck since fails this checkpoint, not the next.
 */
static int make_logs_durable(struct checkpoint *c, struct err *e)
{
	struct stream **list;
	size_t count;
	int r = pool_streams(c->pool, &list, &count);

	if (r < 0)
		return err_because(e, r, "checkpoint");
	for (size_t i = 0; MUTANT(MUTANT_CHECKPOINT_LSN_LATE) && i < c->mark_count; i++)
		c->marks[i].lsn = stream_last_lsn(c->marks[i].stream);
	for (size_t i = 0; i < count && r == 0 && !MUTANT(MUTANT_CHECKPOINT_AHEAD); i++)
		if (!was_stuck(c, list[i]))
			r = stream_sync(list[i], stream_last_lsn(list[i]), e);
	free(list);
	return r;
}

/* First SCO of each stream that still has entries above its mark. */
static void find_replay_scos(struct checkpoint *c, struct sco **list, size_t count)
{
	struct stream_mark *mark = NULL;
	struct pool *p = c->pool;

	for (size_t i = 0; i < count; i++) {
		struct sco *s = list[i];
		bool needed;

		if (!mark || mark->stream->id != s->stream)
			mark = checkpoint_mark(c, s);
		if (!mark || mark->replay_sco)
			continue;
		mutex_lock(&p->scos->lock);
		needed = s->life == SCO_LIFE_OPEN || s->life == SCO_LIFE_FULL ||
			 s->last_lsn > mark->lsn;
		mutex_unlock(&p->scos->lock);
		if (needed)
			mark->replay_sco = s->number;
	}
}

static int put_names_row(struct pool *p, struct meta_batch *batch, const struct row_key *key,
			 const struct checkpoint_row *row)
{
	struct buf value;
	int r;

	buf_init(&value, 4096);
	r = checkpoint_row_encode(row, &value);
	if (r == 0)
		r = meta_batch_put(p->meta, batch, key, &value);
	buf_done(&value);
	return r;
}

/* The rows that allow forgetting; everything they rest on is flushed. */
static int commit_marks(struct checkpoint *c, struct err *e)
{
	struct pool *p = c->pool;
	struct meta_batch *batch = meta_batch_new(p->meta, META_NAMES);
	struct dropped_layer *d;
	int r = batch ? 0 : -ENOMEM;
	bool changed = false;

	for (size_t i = 0; i < c->mark_count && r == 0; i++) {
		struct stream_mark *m = &c->marks[i];
		struct checkpoint_row row = { .lsn = m->lsn, .replay_sco = m->replay_sco };
		struct row_key key = row_key_u64(ROW_CHECKPOINT, m->stream->id);

		/* A damaged stream keeps its mark, so that every start sees the damage again. */
		if (__atomic_load_n(&m->stream->error, __ATOMIC_RELAXED) == -EUCLEAN) {
			row.lsn = m->lsn = m->stream->checkpoint_lsn;
			row.damaged = 1;
		} else if (m->lsn == m->stream->checkpoint_lsn &&
			   m->replay_sco == m->stream->replay_sco) {
			continue;
		}
		r = put_names_row(p, batch, &key, &row);
		changed = true;
	}
	if (r == 0)
		r = checkpoint_put_limits(c, batch, &changed, e);
	if (r == 0)
		r = freeze_put_rows(c, batch, &changed, e);
	mutex_lock(&p->dropped_lock);
	for (d = p->dropped; d && r == 0; d = d->next) {
		struct row_key key = row_key_u64(ROW_LAYER, d->id);

		if (d->frozen_in)
			r = meta_batch_delete(p->meta, batch, &key);
		changed |= d->frozen_in;
	}
	mutex_unlock(&p->dropped_lock);
	if (r < 0)
		err_because(e, r, "checkpoint marks");
	else if (changed)
		r = meta_commit(p->meta, batch, META_SYNC, e);
	if (batch)
		meta_batch_free(p->meta, batch);
	if (r == 0)
		checkpoint_limits_saved(c);
	freeze_commit_done(c, r == 0);
	for (size_t i = 0; i < c->mark_count && r == 0; i++) {
		__atomic_store_n(&c->marks[i].stream->checkpoint_lsn, c->marks[i].lsn,
				 __ATOMIC_RELAXED);
		c->marks[i].stream->replay_sco = c->marks[i].replay_sco;
	}
	return r;
}

static void freeze_dropped(struct pool *p)
{
	GUARD(&p->dropped_lock);
	for (struct dropped_layer *d = p->dropped; d; d = d->next)
		d->frozen_in = true;
}

static void forget_dropped(struct pool *p, bool done)
{
	struct dropped_layer **link = &p->dropped, *d, *gone = NULL;

	mutex_lock(&p->dropped_lock);
	while ((d = *link)) {
		if (!d->frozen_in || !done) {
			d->frozen_in = false;
			link = &d->next;
			continue;
		}
		*link = d->next;
		d->next = gone;
		gone = d;
	}
	mutex_unlock(&p->dropped_lock);
	while ((d = gone)) {
		gone = d->next;
		layer_unref(p->map, d->layer);
		free(d);
	}
}

/* --- all of it --------------------------------------------------------------------------------- */

static int stage(struct checkpoint *c, struct err *e)
{
	struct object **dirty;
	size_t count;
	int r;

	map_checkpoint_begin(c->pool->map);
	r = map_checkpoint_stage(c->pool->map, &c->pages, &c->page_count);
	if (r == 0)
		r = map_checkpoint_ranges(c->pool->map, &c->ranges, &c->range_count);
	/* After the pages: their locks were all taken since the marks, so whoever took an LSN up to
	 * a mark has moved its object's attributes, too. */
	if (r == 0)
		r = objects_dirty(c->pool, &dirty, &count);
	if (r < 0)
		return err_because(e, r, "staging");
	for (size_t i = 0; i < count; i++) {
		if (r == 0)
			r = stage_object(c, dirty[i]->id, e);
		object_put(dirty[i]);
	}
	free(dirty);
	for (size_t i = 0; i < c->page_count && r == 0; i++)
		r = stage_object(c, layer_owner(c->pages[i].layer), e);
	for (size_t i = 0; i < c->range_count && r == 0; i++)
		r = stage_object(c, layer_owner(c->ranges[i].layer), e);
	return r;
}

/* Their tombstones may have been for the checkpoint before: they were dropped while it began. */
static bool has_dropped(struct pool *p)
{
	bool dropped = false;

	GUARD(&p->dropped_lock);
	for (const struct dropped_layer *d = p->dropped; d; d = d->next)
		dropped |= d->frozen_in;
	return dropped;
}

static bool has_something(struct checkpoint *c)
{
	struct sco_table *t = c->pool->scos;

	/* What a merge hid is counted: whoever buries by these counts needs its rows in tables. */
	if (c->page_count || c->range_count || c->objects || c->move_count ||
	    c->pool->rows_unflushed || has_dropped(c->pool))
		return true;
	GUARD(&t->lock);
	for (const struct sco *s = t->behind; s; s = s->behind_next)
		if (s->life == SCO_LIFE_SEALED)
			return true;
	return false;
}

static int commit_rows(struct checkpoint *c, struct err *e)
{
	int r = 0;

	if (!has_something(c))
		return 0; /* an idle pool writes nothing */
	c->batch = meta_batch_new(c->pool->meta, META_STATE);
	if (!c->batch)
		return err_set(e, -ENOMEM, "checkpoint");
	r = resolved_forget_dropped(c, e);
	if (r == 0)
		r = stage_dropped(c, e);
	if (c->range_count)
		page_rows_forget(&c->pool->page_rows);
	for (size_t i = 0; i < c->range_count && r == 0; i++)
		r = checkpoint_stage_range(c, &c->ranges[i], e);
	if (r == 0 && c->range_count)
		r = checkpoint_commit(
			c, e); /* pages read their old rows: without those that are gone */
	if (r == 0)
		r = checkpoint_commit_moves(c, e);
	if (r == 0)
		r = checkpoint_stage_pages(c, e);
	if (r == 0)
		r = stage_sco_rows(c, e);
	if (r == 0)
		r = checkpoint_commit(c, e);
	if (r == 0)
		r = checkpoint_recount(c, e);
	if (r == 0)
		r = checkpoint_commit(c, e);
	if (r == 0 && !MUTANT(MUTANT_DEAD_BEFORE_DURABLE))
		r = meta_flush(c->pool->meta, e);
	if (r == 0)
		c->pool->rows_unflushed = false;
	return r;
}

static void checkpoint_done(struct checkpoint *c, bool done)
{
	struct staged_object *so, *next;

	HASH_ITER (hh, c->objects, so, next) {
		HASH_DEL(c->objects, so);
		if (!done)
			__atomic_store_n(&so->object->attr_dirty, true, __ATOMIC_RELEASE);
		object_put(so->object);
		free(so);
	}
	drop_behind(c);
	free(c->tallies);
	free(c->moves); /* what was not committed is garbage in its log */
	if (c->batch)
		meta_batch_free(c->pool->meta, c->batch);
	buf_done(&c->value);
	buf_done(&c->old);
	buf_done(&c->new);
	free(c->marks);
}

int pool_checkpoint_locked(struct pool *p, struct err *e)
{
	struct checkpoint c = { .pool = p };
	uint64_t start_ns = clock_mono_ns();
	struct old_file *old = p->old_files;
	uint64_t written_bytes = capacity_mark(p);
	/* At once: what is sealed meanwhile is for the next one. */
	uint64_t unchecked_bytes = __atomic_exchange_n(&p->unchecked_bytes, 0, __ATOMIC_RELAXED);
	uint64_t live_bytes = pool_live_bytes(p);
	uint64_t number = __atomic_add_fetch(&p->checkpoint_begun, 1, __ATOMIC_ACQ_REL);
	struct sco **list = NULL;
	size_t count = 0;
	int r;

	__atomic_store_n(&p->checking_bytes, unchecked_bytes, __ATOMIC_RELAXED);
	buf_init(&c.value, 1u << 20);
	buf_init(&c.old, 1u << 20);
	buf_init(&c.new, 1u << 20);
	p->old_files = NULL;
	freeze_dropped(p);
	r = read_marks(&c);
	if (r < 0)
		err_because(e, r, "checkpoint");
	if (r == 0)
		r = freeze_switch(&c, e);
	if (r == 0)
		r = stage(&c, e);
	if (r == 0)
		r = meta_sync(p->meta, e); /* dropped layers are dropped for good */
	if (r == 0)
		r = checkpoint_take_moves(&c, e);
	if (r == 0)
		r = make_logs_durable(&c, e);
	if (r == 0)
		r = commit_rows(&c, e);
	page_rows_end(&p->page_rows, r == 0);
	map_checkpoint_end(p->map, r == 0);
	if (r == 0)
		r = sco_table_list(p->scos, 0, &list, &count);
	if (r == 0) {
		sco_rows_saved(&c);
		find_replay_scos(&c, list, count);
		r = commit_marks(&c, e);
	}
	forget_dropped(p, r == 0);
	if (r == 0) {
		shares_counted(&c);
		bury_old_files(p, TAKE_PTR(old));
		r = bury_dead(&c, list, count, e);
		if (r == 0)
			r = bury_streams(&c, e);
	}
	if (list)
		sco_list_free(p->scos, list, count);
	while (old) { /* next time */
		struct old_file *f = old;

		old = f->next;
		f->next = p->old_files;
		p->old_files = f;
	}
	counter_add(&p->metrics.checkpoint_pages, c.page_count);
	checkpoint_done(&c, r == 0);
	if (r == 0) {
		counter_inc(&p->metrics.checkpoints);
		histogram_record(&p->metrics.checkpoint_ns, clock_mono_ns() - start_ns);
		p->last_checkpoint_ns = clock_mono_ns();
		__atomic_store_n(&p->checkpoint_counted, number, __ATOMIC_RELEASE);
	} else {
		__atomic_add_fetch(&p->unchecked_bytes, unchecked_bytes, __ATOMIC_RELAXED);
	}
	objects_trim(p);
	pool_recount(p);
	if (r == 0)
		pool_note_stale(p, unchecked_bytes, live_bytes);
	__atomic_store_n(&p->checking_bytes, 0, __ATOMIC_RELAXED);
	if (r == 0)
		capacity_counted(p, written_bytes);
	pool_made_room(p);
	if (r == 0)
		resolved_checkpointed(p);
	return r;
}

int pool_checkpoint(struct pool *p, struct err *e)
{
	int r;

	GUARD(&p->checkpoint_lock);
	r = pool_checkpoint_locked(p, e);
	if (r == -ENOSPC && reserve_release(p))
		r = pool_checkpoint_locked(p, e);
	if (r == 0)
		reserve_take(p);
	return r;
}

uint64_t checkpointer_step(void *arg)
{
	struct pool *p = arg;
	struct err e = { 0 };

	if (pool_checkpoint(p, &e) < 0) {
		log_trouble(&p->checkpoint_trouble, CHECKPOINT_TROUBLE, e.message);
		return CHECKPOINT_RETRY_NS;
	}
	log_trouble_over(&p->checkpoint_trouble, CHECKPOINT_TROUBLE);
	job_kick(&p->cleaner);
	job_kick(&p->evictor);
	job_kick(&p->sealer); /* which leftovers live is known */
	return pool_option(p, checkpoint_interval_ns);
}
