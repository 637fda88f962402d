#include "volume/merge.h"

#include "common/log.h"
#include "volume/call.h"
#include "volume/resolved.h"
#include "volume/snapshot_impl.h"

#include <stdlib.h>
#include <string.h>

/* Rows of one step: what readers of these layers, and calls, wait for. */
#define STEP_ROWS 64u
/* While a call waits, or a checkpoint runs; so often in turn, then it is the merger's turn. */
#define MERGE_YIELD_NS	 UINT64_C(2000000)
#define MERGE_YIELDS_MAX 25u
/* Steps that follow each other without letting go of the locks. */
#define MERGE_HOLD_NS  UINT64_C(20000000)
#define MERGE_RETRY_NS UINT64_C(1000000000)
#define PAGE_BYTES_MAX 65536u
#define MERGE_STAYS    2 /* until something kicks the merger */
#define MERGE_TROUBLE  "volume: merging layers stopped, trying again"

struct merge {
	struct checkpoint c; /* its commits, tallies and marks of changed areas */
	uint64_t from, into; /* layers */
	struct layer_row from_row, into_row;
	uint32_t into_stream; /* whose map has the rows of the upper one */
	bool stays;	      /* the upper one is a template's: clones are made on the lower one */
	uint64_t *pages;      /* of this step */
	size_t page_count;
	uint64_t first_page; /* it begins there */
	bool whole;	     /* nothing is left before that */
	struct buf base;
};

/* --- one page ---------------------------------------------------------------------------------- */

/* The runs of a row, copied. */
struct runs {
	struct page_run runs[PAGE_CLUSTERS];
	uint32_t crcs[PAGE_CLUSTERS];
	unsigned int count, crc_count;
};

static void copy_run(void *arg, const struct page_run *run)
{
	struct runs *rs = arg;
	struct page_run *to = &rs->runs[rs->count];

	if (run->loc == LOC_UNMAPPED)
		return; /* the parent is asked, as where there is no run */
	*to = *run;
	if (run->crcs) {
		to->crcs = &rs->crcs[rs->crc_count];
		memcpy(&rs->crcs[rs->crc_count], run->crcs, run->count * sizeof(*run->crcs));
		rs->crc_count += run->count;
	}
	rs->count++;
}

/* Runs of a layer's own row; none where it has no row. */
static int read_runs(struct merge *m, uint64_t layer, uint64_t page, struct runs *rs, struct err *e)
{
	struct row_key key = row_key_2u64(ROW_PAGE, layer, page);
	enum page_value_kind kind;
	int r;

	rs->count = rs->crc_count = 0;
	buf_clear(&m->c.old);
	r = meta_get(m->c.pool->meta, META_STATE, &key, &m->c.old, e);
	if (r == 0)
		r = page_value_decode(m->c.old.data, m->c.old.len_bytes, &kind, copy_run, rs, e);
	return r == -ENOENT ? 0 : r;
}

/* What lies behind the limit of the layer above was never seen, and is not from here on. */
static int cut_runs(struct merge *m, struct runs *rs, uint64_t page)
{
	uint64_t first = page << PAGE_CLUSTERS_SHIFT;
	uint64_t limit = m->into_row.parent_limit_clusters;
	unsigned int kept = 0;
	int r = 0;

	for (unsigned int i = 0; i < rs->count && r == 0; i++) {
		struct page_run run = rs->runs[i];
		uint64_t at = first + run.first;
		uint16_t stays = at >= limit ? 0 : (uint16_t)min_u64(run.count, limit - at);

		if (loc_is_place(run.loc) && stays < run.count)
			r = checkpoint_tally(&m->c, run.loc + stays, -(int64_t)(run.count - stays));
		run.count = stays;
		if (stays)
			rs->runs[kept++] = run;
	}
	rs->count = kept;
	return r;
}

struct splice {
	struct merge *m;
	int error;
};

/* The upper layer's clusters were counted when they were written; those they hide die. */
static void count_hidden(void *arg, loc_t old, loc_t new, unsigned int count)
{
	struct splice *s = arg;

	(void)new;
	if (loc_is_place(old) && s->error == 0)
		s->error = checkpoint_tally(&s->m->c, old, -(int64_t)count);
}

static int merge_page(struct merge *m, uint64_t page, struct runs *rs, struct err *e)
{
	struct checkpoint *c = &m->c;
	struct row_key from = row_key_2u64(ROW_PAGE, m->from, page);
	struct row_key into = row_key_2u64(ROW_PAGE, m->into, page);
	struct splice s = { .m = m };
	int r;

	r = read_runs(m, m->from, page, rs, e);
	if (r == 0)
		r = cut_runs(m, rs, page);
	buf_clear(&m->base);
	if (r == 0)
		r = page_value_encode(PAGE_BASE, rs->runs, rs->count, &m->base);
	if (r == 0)
		r = read_runs(m, m->into, page, rs, e);
	buf_clear(&c->new);
	if (r == 0)
		r = page_value_splice(m->base.data, m->base.len_bytes, rs->runs, rs->count,
				      count_hidden, &s, &c->new, e);
	if (r == 0)
		r = s.error;
	if (r == 0)
		r = checkpoint_note_change(c, m->into, page);
	if (r == 0)
		r = meta_batch_put(c->pool->meta, c->batch, &into, &c->new);
	if (r == 0)
		r = checkpoint_note_change(c, m->from, page);
	if (r == 0)
		r = meta_batch_delete(c->pool->meta, c->batch, &from);
	return r < 0 ? err_wrap(e, r, "page %" PRIu64, page) : 0;
}

/* --- one step ---------------------------------------------------------------------------------- */

static int see_page(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		    size_t value_bytes)
{
	struct merge *m = arg;
	uint64_t layer;
	int r;

	(void)value;
	(void)value_bytes;
	r = row_key_parse_2u64(key, key_bytes, ROW_PAGE, &layer, &m->pages[m->page_count]);
	if (r == 0)
		r = ++m->page_count == STEP_ROWS;
	return r;
}

/* Behind those of the step before: to pass by what is deleted takes time for each row. */
static void begin_at_place(struct merge *m)
{
	const struct merge_place *at = &m->c.pool->merge_place;

	m->first_page = at->page;
	m->whole = at->whole;
}

static int find_pages(struct merge *m, struct err *e)
{
	struct row_key from = row_key_2u64(ROW_PAGE, m->from, m->first_page);
	struct row_key until = row_key_2u64(ROW_PAGE, m->from, UINT64_MAX);
	int r;

	m->page_count = 0;
	r = meta_iterate(m->c.pool->meta, META_STATE, &from, &until, see_page, m, e);
	return r < 0 ? r : 0;
}

static int note(struct merge *m, uint64_t layer, uint64_t area)
{
	return checkpoint_note_change(&m->c, layer, area << AREA_PAGES_SHIFT);
}

static int has_foreign(struct merge *m, bool *ret_foreign, struct err *e)
{
	struct row_key key = row_key_2u64(ROW_CHANGED, m->from, AREA_FOREIGN);
	int r;

	*ret_foreign = m->from_row.mark_stream != m->into_stream;
	if (*ret_foreign)
		return 0;
	buf_clear(&m->base);
	r = meta_get(m->c.pool->meta, META_STATE, &key, &m->base, e);
	*ret_foreign = r == 0;
	return r == -ENOENT ? 0 : r;
}

/* No log tells what moves here: the next root needs maps that show it. */
static int note_unlogged(struct merge *m, struct err *e)
{
	bool foreign;
	int r = has_foreign(m, &foreign, e);

	if (r == 0)
		r = note(m, m->from, AREA_UNLOGGED);
	if (r == 0)
		r = note(m, m->into, AREA_UNLOGGED);
	if (r == 0 && foreign)
		r = note(m, m->into, AREA_FOREIGN);
	return r;
}

static int get_state(struct merge *m, uint64_t layer, struct object_state_row *ret_row,
		     struct err *e)
{
	struct row_key key = row_key_u64(ROW_OBJECT_STATE, layer);
	int r;

	buf_clear(&m->base);
	r = meta_get(m->c.pool->meta, META_STATE, &key, &m->base, e);
	return r == 0 ? object_state_row_decode(m->base.data, m->base.len_bytes, ret_row, e) : r;
}

/* What a layer without a state of its own shows is the lower one's: it gets it. */
static int move_state(struct merge *m, struct err *e)
{
	struct row_key from = row_key_u64(ROW_OBJECT_STATE, m->from);
	struct row_key into = row_key_u64(ROW_OBJECT_STATE, m->into);
	struct object_state_row own, state;
	int had = get_state(m, m->into, &own, e), r;

	if (had < 0 && had != -ENOENT)
		return had;
	r = get_state(m, m->from, &state, e);
	if (r == -ENOENT)
		return 0; /* moved before, or it never had one */
	if (r == 0 && had == -ENOENT) {
		if (m->into_row.object != m->from_row.object ||
		    m->into_row.mark_stream != m->from_row.mark_stream)
			state.lsn = 0; /* of another log */
		r = checkpoint_note_change(&m->c, m->into, 0);
		buf_clear(&m->base);
		if (r == 0)
			r = object_state_row_encode(&state, &m->base);
		if (r == 0)
			r = meta_batch_put(m->c.pool->meta, m->c.batch, &into, &m->base);
	}
	if (r == 0)
		r = checkpoint_note_change(&m->c, m->from, 0);
	return r == 0 ? meta_batch_delete(m->c.pool->meta, m->c.batch, &from) : r;
}

/* Nothing is left behind it, as seen from the beginning. */
static bool is_last_step(const struct merge *m)
{
	return (m->page_count < STEP_ROWS && m->whole) || MUTANT(MUTANT_MERGE_HALF);
}

static void note_place(const struct merge *m)
{
	struct merge_place *at = &m->c.pool->merge_place;

	at->whole = false;
	at->page = m->page_count == STEP_ROWS ? m->pages[m->page_count - 1] + 1 : 0;
}

/* Rows move while nobody reads one layer before and the other after it. */
static int move_rows(struct merge *m, struct err *e)
{
	struct pool *p = m->c.pool;
	struct runs *rs = malloc(sizeof(*rs));
	int r = rs ? 0 : -ENOMEM;

	if (r == 0 && !MUTANT(MUTANT_MERGE_UNMARKED))
		r = note_unlogged(m, e);
	for (size_t i = 0; i < m->page_count && r == 0; i++)
		r = merge_page(m, m->pages[i], rs, e);
	if (r == 0 && is_last_step(m))
		r = move_state(m, e);
	free(rs);
	if (r < 0)
		return r;
	page_rows_forget(&p->page_rows);
	map_chain_hold_alone(p->map);
	r = checkpoint_commit(&m->c, e);
	map_chain_release_alone(p->map);
	return r;
}

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

/* All that its rows say is what RAM says. False: later. */
static bool may_merge(struct merge *m)
{
	struct pool *p = m->c.pool;
	struct stream *stream = pool_stream(p, m->from_row.mark_stream);
	struct layer *l;
	bool saved = true;

	if (stream && __atomic_load_n(&stream->error, __ATOMIC_RELAXED))
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

	if (r < 0)
		return r;
	if (!may_merge(m))
		return -EAGAIN;
	r = find_stream(m, e);
	if (r < 0 || m->stays)
		return r;
	buf_init(&m->c.value, 1u << 20);
	buf_init(&m->c.old, 1u << 20);
	buf_init(&m->c.new, 1u << 20);
	buf_init(&m->base, PAGE_BYTES_MAX);
	m->c.batch = meta_batch_new(p->meta, META_STATE);
	m->pages = calloc(STEP_ROWS, sizeof(*m->pages));
	return m->c.batch && m->pages ? find_pages(m, e) : err_set(e, -ENOMEM, "merging layers");
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

/* Change lock and checkpoint lock held. Returns 1: it is gone, or not as it was; 0: there is more;
 * MERGE_STAYS; -EAGAIN: not now. */
static int merge_some(struct pool *p, uint64_t from, uint64_t into, struct err *e)
{
	struct merge m = { .c.pool = p, .from = from, .into = into };
	int r;

	begin_at_place(&m);
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
		r = move_rows(&m, e);
	if (r == 0)
		note_place(&m);
	if (r == 0 && is_last_step(&m)) {
		r = take_out(&m, e);
		r = r == 0 ? 1 : r;
		job_kick(&p->checkpointer); /* what it hid can be buried, or cleaned */
	}
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

/*
 * Where the rows of the lower layer begin, unless the step before says it. Without any lock: hundreds of
 * thousands of deleted ones may have to be passed by, and nobody but the merger takes rows away, or adds
 * any to a frozen layer. Where there is none left, what moved goes to its tables now for the most part.
 */
static int look_ahead(struct pool *p, uint64_t from, uint64_t into, struct err *e)
{
	struct row_key first = row_key_2u64(ROW_PAGE, from, 0);
	struct row_key until = row_key_2u64(ROW_PAGE, from, UINT64_MAX);
	struct merge_place *at = &p->merge_place;
	int r;

	if (at->from == from && at->into == into && at->page != 0)
		return 0;
	*at = (struct merge_place){ .from = from, .into = into, .page = UINT64_MAX, .whole = true };
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
	while (r == 0 && child && p->merge_place.page != 0 && !call_waits(p) &&
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
