#include "volume/merge.h"

#include "common/log.h"
#include "volume/call.h"
#include "volume/merge_impl.h"
#include "volume/resolved.h"
#include "volume/snapshot_impl.h"

#include <stdlib.h>

/* While a call waits, or a checkpoint runs; so often in turn, then it is the merger's turn. */
#define MERGE_YIELD_NS	 UINT64_C(2000000)
#define MERGE_YIELDS_MAX 25u
/* Steps that follow each other without letting go of the locks. */
#define MERGE_HOLD_NS  UINT64_C(20000000)
#define MERGE_RETRY_NS UINT64_C(1000000000)
#define PAGE_BYTES_MAX 65536u
#define MERGE_STAYS    2 /* until something kicks the merger */
#define MERGE_TROUBLE  "volume: merging layers stopped, trying again"

/* --- one step ---------------------------------------------------------------------------------- */

/* Whether that one is still alone on it. */
static bool is_still_so(struct merge *m)
{
	struct family_member fm;

	if (!family_get(&m->c.pool->family, m->from, &fm) || fm.children != 1 ||
	    fm.child_xor != m->into)
		return false;
	m->from_row = fm.row;
	return true;
}

static bool has_failed(struct pool *p, uint32_t id)
{
	struct stream *stream = pool_stream(p, id);

	return stream && __atomic_load_n(&stream->error, __ATOMIC_RELAXED);
}

/* All that its rows say is what RAM says, and what roots can show. False: later. */
static bool may_merge(struct merge *m)
{
	struct pool *p = m->c.pool;
	struct layer *l;
	bool saved = true;

	if (has_failed(p, m->from_row.mark_stream) || has_failed(p, m->into_stream))
		return false;
	l = map_layer_find(p->map, m->into);
	if (!l)
		return true;
	/* A truncation that no checkpoint has saved. */
	mutex_lock(&l->lock);
	saved = l->parent_limit_clusters == m->into_row.parent_limit_clusters;
	mutex_unlock(&l->lock);
	layer_unref(p->map, l);
	return saved;
}

/* Of a frozen one it is that of its mark, of a live one its object's. */
static int find_stream(struct merge *m, struct err *e)
{
	struct object_row row = { 0 };
	int r;

	m->into_stream = m->into_row.mark_stream;
	if (m->into_row.state == LAYER_FROZEN)
		return 0;
	r = life_get_object(m->c.pool, m->into_row.object, &row, e);
	if (r < 0)
		return r == -ENOENT ? -EAGAIN : r; /* deleted meanwhile */
	m->into_stream = row.origins[0].stream;
	m->stays = row.flags & OBJECT_TEMPLATE && !MUTANT(MUTANT_TEMPLATE_MERGED);
	object_row_done(&row);
	return 0;
}

static int merge_begin(struct merge *m, struct err *e)
{
	struct pool *p = m->c.pool;
	int r = life_get_layer(p, m->into, &m->into_row, e);

	if (r == 0)
		r = find_stream(m, e);
	if (r < 0 || m->stays)
		return r;
	if (!may_merge(m))
		return -EAGAIN;
	buf_init(&m->c.value, 1u << 20);
	buf_init(&m->c.old, 1u << 20);
	buf_init(&m->c.new, 1u << 20);
	buf_init(&m->base, PAGE_BYTES_MAX);
	m->c.batch = meta_batch_new(p->meta, META_STATE);
	m->pages = calloc(MERGE_STEP_ROWS, sizeof(*m->pages));
	m->runs = calloc(1, sizeof(*m->runs));
	return m->c.batch && m->pages && m->runs ? 0 : err_set(e, -ENOMEM, "merging layers");
}

static void merge_end(struct merge *m)
{
	if (m->c.batch)
		meta_batch_free(m->c.pool->meta, m->c.batch);
	buf_done(&m->c.value);
	buf_done(&m->c.old);
	buf_done(&m->c.new);
	buf_done(&m->base);
	free(m->c.tallies);
	free(m->pages);
	free(m->runs);
}

/* --- the end of a layer ------------------------------------------------------------------------ */

/* The object of a live layer that is in RAM follows. */
static void note_limit(struct pool *p, const struct layer_row *row, uint64_t layer)
{
	struct object *o;

	GUARD(&p->objects_lock);
	HASH_FIND(hh, p->objects, &row->object, sizeof(row->object), o);
	if (o && o->layer->id == layer)
		o->saved_parent_limit = row->parent_limit_clusters;
}

static void relink(struct merge *m)
{
	struct pool *p = m->c.pool;
	struct layer *l = map_layer_find(p->map, m->into);

	if (l && l->parent && l->parent->id == m->from)
		map_layer_relink(p->map, l, m->from_row.parent_limit_clusters);
	if (l)
		layer_unref(p->map, l);
	family_merged(&p->family, m->from, m->into, &m->into_row);
}

/* Nothing is left in it, durably: the one above goes over the one below. */
static int take_out(struct merge *m, struct err *e)
{
	struct pool *p = m->c.pool;
	struct meta_batch *names = meta_batch_new(p->meta, META_NAMES);
	struct row_key gone = row_key_u64(ROW_LAYER, m->from);
	int r = meta_flush(p->meta, e);

	if (r < 0)
		goto out;
	m->into_row.parent = m->from_row.parent;
	m->into_row.parent_limit_clusters =
		min_u64(m->into_row.parent_limit_clusters, m->from_row.parent_limit_clusters);
	r = names ? life_put_layer(p, names, m->into, &m->into_row) : -ENOMEM;
	if (r == 0)
		r = meta_batch_delete(p->meta, names, &gone);
	if (r < 0) {
		err_because(e, r, "merging layers");
		goto out;
	}
	map_chain_hold_alone(p->map);
	r = meta_commit(p->meta, names, META_SYNC, e);
	if (r == 0)
		relink(m);
	map_chain_release_alone(p->map);
	if (r == 0)
		note_limit(p, &m->into_row, m->into);
out:
	meta_batch_free(p->meta, names);
	return r;
}

/* 1: the lower one is gone; 0: there is more. */
static int move_some(struct merge *m, struct err *e)
{
	int r = merge_move_rows(m, e);

	if (r <= 0)
		return r;
	r = take_out(m, e);
	job_kick(&m->c.pool->checkpointer); /* what it hid can be buried, or cleaned */
	return r == 0 ? 1 : r;
}

/* 1: nothing that is hidden is left; 0: there is more. */
static int trim_some(struct merge *m, struct err *e)
{
	struct pool *p = m->c.pool;
	int r = trim_rows(m, e);

	if (r <= 0)
		return r;
	p->merge_place = (struct merge_place){ 0 };
	job_kick(&p->checkpointer);
	return 1;
}

/* Change lock and checkpoint lock held. Returns 1: that is done, or not as it was; 0: there is more;
 * MERGE_STAYS; -EAGAIN: not now. */
static int merge_some(struct pool *p, uint64_t from, uint64_t into, struct err *e)
{
	struct merge m = { .c.pool = p, .from = from, .into = into };
	int r;

	if (!is_still_so(&m))
		return 1; /* what now is is seen by the next look */
	r = snapshots_announce(p, e);
	if (r == 0)
		r = merge_begin(&m, e);
	if (r == 0 && m.stays)
		r = MERGE_STAYS;
	/* First, so that none is left of a layer that has only part of its rows. */
	if (r == 0)
		r = resolved_forget_layer(p, from, e);
	if (r == 0)
		r = p->merge_place.trims ? trim_some(&m, e) : move_some(&m, e);
	merge_end(&m);
	return r;
}

/* Nothing is on it: it goes, and perhaps then the one below it. Locks as above. */
static int drop_layer(struct pool *p, uint64_t id, struct err *e)
{
	struct layer_row row = { .state = LAYER_DROPPED };
	struct meta_batch *names;
	struct family_member fm;
	struct layer *l = NULL;
	struct layer_row own;
	int r;

	if (!family_get(&p->family, id, &fm) || fm.children)
		return 0;
	row.object = fm.row.object;
	r = object_chain_of(p, id, &own, &l, e);
	if (r < 0)
		return r;
	names = meta_batch_new(p->meta, META_NAMES);
	r = names ? life_put_layer(p, names, id, &row) : err_set(e, -ENOMEM, "dropping a layer");
	if (r == 0)
		r = meta_commit(p->meta, names, 0, e);
	meta_batch_free(p->meta, names);
	if (r == 0) {
		layer_set_owner(l, 0);
		family_drop_child(&p->family, fm.row.parent, id);
		family_remove(&p->family, id);
		r = pool_drop_layer(p, l, e);
		job_kick(&p->checkpointer);
	}
	layer_unref(p->map, l);
	return r < 0 ? r : 1;
}

static int see_first(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		     size_t value_bytes)
{
	uint64_t *page = arg;
	uint64_t layer;
	int r = row_key_parse_2u64(key, key_bytes, ROW_PAGE, &layer, page);

	(void)value;
	(void)value_bytes;
	return r < 0 ? r : 1;
}

/* The step before said where the next one begins. */
static bool at_place(const struct merge_place *at)
{
	return at->trims || at->page != 0;
}

/*
 * Whether the rows of the lower layer move, and where they begin, unless the step before says it.
 * Without any lock: hundreds of thousands of deleted ones may have to be passed by, and nobody but
 * the merger takes rows away, or adds any to a frozen layer. Where there is none left, what moved goes
 * to its tables now for the most part.
 */
static int look_ahead(struct pool *p, uint64_t from, uint64_t into, struct err *e)
{
	struct row_key first = row_key_2u64(ROW_PAGE, from, 0);
	struct row_key until = row_key_2u64(ROW_PAGE, from, UINT64_MAX);
	struct merge_place *at = &p->merge_place;
	int r;

	if (at->from == from && at->into == into && at_place(at))
		return 0;
	*at = (struct merge_place){ .from = from, .into = into };
	r = trim_is_better(p, from, into, &at->trims, e);
	if (r == 0 && at->trims) {
		family_begin_look(&p->family, from);
		return 0;
	}
	at->page = UINT64_MAX;
	at->whole = true;
	if (r == 0)
		r = meta_iterate(p->meta, META_STATE, &first, &until, see_first, &at->page, e);
	if (r == 0)
		r = meta_flush(p->meta, e);
	if (r < 0)
		*at = (struct merge_place){ 0 };
	return r < 0 ? r : 0;
}

/* Calls go first; and who waits for the change lock does not wait for a checkpoint through us. */
static bool try_locks(struct pool *p)
{
	if (call_waits(p))
		return false;
	mutex_lock(&p->family.change_lock);
	if (mutex_trylock(&p->checkpoint_lock))
		return true;
	mutex_unlock(&p->family.change_lock);
	return false;
}

static bool take_locks(struct pool *p)
{
	bool taken = try_locks(p);

	if (!taken && p->merge_yields >= MERGE_YIELDS_MAX && !MUTANT(MUTANT_MERGE_STARVES)) {
		mutex_lock(&p->family.change_lock);
		mutex_lock(&p->checkpoint_lock);
		taken = true;
	}
	p->merge_yields = taken ? 0 : p->merge_yields + 1;
	return taken;
}

static void drop_locks(struct pool *p)
{
	mutex_unlock(&p->checkpoint_lock);
	mutex_unlock(&p->family.change_lock);
}

/* Steps, until the locks were held for long enough. */
static int step_locked(struct pool *p, uint64_t id, uint64_t child, struct err *e)
{
	uint64_t start_ns = clock_mono_ns();
	int r;

	do
		r = child ? merge_some(p, id, child, e) : drop_layer(p, id, e);
	while (r == 0 && child && at_place(&p->merge_place) && !call_waits(p) &&
	       clock_mono_ns() - start_ns < MERGE_HOLD_NS);
	return r;
}

uint64_t merger_step(void *arg)
{
	struct pool *p = arg;
	struct err e = { 0 };
	uint64_t child, id = family_next_idle(&p->family, p->merge_hand, &child);
	int r;

	if (!id) {
		bool again = p->merge_hand && p->merge_later;

		p->merge_hand = 0;
		p->merge_later = false;
		return again ? MERGE_RETRY_NS : WAIT_FOREVER;
	}
	r = child ? look_ahead(p, id, child, &e) : 0;
	if (r == 0 && !take_locks(p)) {
		family_stop_merging(&p->family, id);
		return MERGE_YIELD_NS;
	}
	if (r == 0) {
		r = step_locked(p, id, child, &e);
		drop_locks(p);
	}
	family_stop_merging(&p->family, id);
	if (r == MERGE_STAYS)
		p->merge_hand = id;
	if (r < 0) {
		p->merge_hand = id; /* others first */
		p->merge_later = true;
		if (r == -EAGAIN) {
			job_kick(&p->checkpointer);
		} else {
			log_trouble(&p->merge_trouble, MERGE_TROUBLE, e.message);
			p->merge_failed = true;
		}
	} else if (p->merge_failed) {
		log_trouble_over(&p->merge_trouble, MERGE_TROUBLE);
		p->merge_failed = false;
	}
	return 0;
}
