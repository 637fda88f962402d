#include "volume/family.h"

#include "common/log.h"
#include "volume/pool_impl.h"

#include <stdlib.h>

void family_init(struct family *f)
{
	mutex_init(&f->change_lock, LOCK_FAMILY_CHANGE);
	mutex_init(&f->lock, 0);
}

void family_done(struct family *f)
{
	struct family_member *m, *next;

	HASH_ITER (hh, f->members, m, next) {
		HASH_DEL(f->members, m);
		free(m);
	}
	mutex_done(&f->lock);
	mutex_done(&f->change_lock);
}

/* The member 0 is there for the table only: who asks for the parent of what has none finds nothing. */
static struct family_member *find_locked(struct family *f, uint64_t id)
{
	struct family_member *m;

	if (id == 0)
		return NULL;
	HASH_FIND(hh, f->members, &id, sizeof(id), m);
	return m;
}

/* --- loading ----------------------------------------------------------------------------------- */

struct family_load {
	struct pool *pool;
	struct err *e;
};

/* Of layers in order a parent comes before its children, but damage may know better. */
static struct family_member *member_of(struct family *f, uint64_t id)
{
	struct family_member *m = find_locked(f, id);

	if (m)
		return m;
	m = family_prepare();
	if (m) {
		m->id = id;
		HASH_ADD(hh, f->members, id, sizeof(m->id), m);
		if (!HASH_TOOK(m))
			free(TAKE_PTR(m));
	}
	return m;
}

static int load_layer(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		      size_t value_bytes)
{
	struct family_load *fl = arg;
	struct family *f = &fl->pool->family;
	struct family_member *m;
	struct layer_row row;
	uint64_t id;
	int r;

	r = row_key_parse_u64(key, key_bytes, ROW_LAYER, &id);
	if (r == 0)
		r = layer_row_decode(value, value_bytes, &row, fl->e);
	if (r < 0 || row.state == LAYER_DROPPED)
		return r;
	if (row.parent) {
		m = member_of(f, row.parent);
		if (!m)
			return -ENOMEM;
		m->children++;
		m->child_xor ^= id;
	}
	if (row.state != LAYER_FROZEN)
		return 0;
	m = member_of(f, id);
	if (!m)
		return -ENOMEM;
	m->row = row;
	m->known = true;
	return 0;
}

static int load_snapshot(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
			 size_t value_bytes)
{
	struct family_load *fl = arg;
	struct family_member *m;
	struct snapshot_row row;
	uint64_t object, number;
	int r;

	r = row_key_parse_2u64(key, key_bytes, ROW_SNAPSHOT, &object, &number);
	if (r == 0)
		r = snapshot_row_decode(value, value_bytes, &row, fl->e);
	if (r < 0)
		return r;
	/* Numbers of roots go on above what a snapshot waits for, so that it is told in time. */
	fl->pool->root_tried = max_u64(fl->pool->root_tried, row.root ? row.root - 1 : 0);
	m = find_locked(&fl->pool->family, row.layer);
	if (m)
		m->snapshot = number;
	return 0;
}

int family_load(struct pool *p, struct err *e)
{
	struct row_key from = row_key_u64(ROW_LAYER, 0);
	struct row_key until = row_key_u64(ROW_LAYER, UINT64_MAX);
	struct row_key s_from = row_key_2u64(ROW_SNAPSHOT, 0, 0);
	struct row_key s_until = row_key_2u64(ROW_SNAPSHOT, UINT64_MAX, UINT64_MAX);
	struct family_load fl = { .pool = p, .e = e };
	int r;

	/* Never removed: family_add() finds a table, and cannot fail. */
	if (!member_of(&p->family, 0))
		return err_set(e, -ENOMEM, "layers and snapshots");
	r = meta_iterate(p->meta, META_NAMES, &from, &until, load_layer, &fl, e);
	if (r == 0)
		r = meta_iterate(p->meta, META_NAMES, &s_from, &s_until, load_snapshot, &fl, e);
	return r < 0 ? err_wrap(e, r, "layers and snapshots") : 0;
}

/* --- changes ----------------------------------------------------------------------------------- */

struct family_member *family_prepare(void)
{
	return calloc(1, sizeof(struct family_member));
}

void family_add(struct family *f, struct family_member *prepared, uint64_t id,
		const struct layer_row *row, uint64_t snapshot)
{
	GUARD(&f->lock);

	struct family_member *below = find_locked(f, row->parent);

	/* What it lies on keeps it: it did so while it was live. No more rows of it come. */
	if (below)
		below->look_at = 0;
	prepared->id = id;
	prepared->row = *row;
	prepared->known = true;
	prepared->snapshot = snapshot;
	HASH_ADD(hh, f->members, id, sizeof(prepared->id), prepared);
	if (HASH_TOOK(prepared))
		return;
	/* There is a table since the load; it grows another time. */
	f->members->hh.tbl->noexpand = 1;
	HASH_ADD(hh, f->members, id, sizeof(prepared->id), prepared);
	f->members->hh.tbl->noexpand = 0;
}

void family_add_child(struct family *f, uint64_t parent, uint64_t child)
{
	GUARD(&f->lock);
	struct family_member *m = find_locked(f, parent);

	if (!m)
		return;
	m->children++;
	m->child_xor ^= child;
	m->look_at = 0;
}

void family_drop_child(struct family *f, uint64_t parent, uint64_t child)
{
	GUARD(&f->lock);
	struct family_member *m = find_locked(f, parent);

	if (!m)
		return;
	ASSERT(m->children > 0);
	m->children--;
	m->child_xor ^= child;
	m->look_at = 0;
}

void family_set_snapshot(struct family *f, uint64_t id, uint64_t snapshot)
{
	GUARD(&f->lock);
	struct family_member *m = find_locked(f, id);

	if (m)
		m->snapshot = snapshot;
}

void family_remove(struct family *f, uint64_t id)
{
	GUARD(&f->lock);
	struct family_member *m = find_locked(f, id);

	if (!m)
		return;
	HASH_DEL(f->members, m);
	free(m);
}

void family_merged(struct family *f, uint64_t id, uint64_t child, const struct layer_row *child_row)
{
	struct family_member *m, *below, *above;

	GUARD(&f->lock);
	m = find_locked(f, id);
	below = m ? find_locked(f, m->row.parent) : NULL;
	above = find_locked(f, child);
	if (below) {
		below->child_xor ^= id ^ child;
		below->look_at = 0;
	}
	if (above)
		above->row = *child_row;
	if (m)
		HASH_DEL(f->members, m);
	free(m);
}

/* --- questions --------------------------------------------------------------------------------- */

bool family_get(struct family *f, uint64_t id, struct family_member *ret_member)
{
	GUARD(&f->lock);
	const struct family_member *m = find_locked(f, id);

	if (!m || !m->known)
		return false;
	*ret_member = *m;
	return true;
}

bool family_pin(struct family *f, uint64_t id)
{
	GUARD(&f->lock);
	struct family_member *m = find_locked(f, id);

	if (!m || !m->known || m->merging)
		return false;
	m->pins++;
	return true;
}

bool family_unpin(struct family *f, uint64_t id)
{
	GUARD(&f->lock);
	struct family_member *m = find_locked(f, id);

	ASSERT(m && m->pins > 0);
	m->pins--;
	return m->pins == 0 && m->snapshot == 0;
}

uint64_t family_next_idle(struct family *f, uint64_t after, uint64_t *ret_child)
{
	struct family_member *m, *next, *best = NULL;

	GUARD(&f->lock);
	HASH_ITER (hh, f->members, m, next)
		if (m->known && m->id > after && m->snapshot == 0 && m->pins == 0 &&
		    (m->children == 0 || (m->children == 1 && m->rows_put >= m->look_at)) &&
		    (!best || m->id < best->id))
			best = m;
	if (!best)
		return 0;
	*ret_child = best->children ? best->child_xor : 0;
	best->merging = true;
	return best->id;
}

void family_stop_merging(struct family *f, uint64_t id)
{
	GUARD(&f->lock);
	struct family_member *m = find_locked(f, id);

	if (m)
		m->merging = false;
}

void family_begin_look(struct family *f, uint64_t id)
{
	GUARD(&f->lock);
	struct family_member *m = find_locked(f, id);

	if (m)
		m->rows_put = m->look_at = 0;
}

void family_hold(struct family *f, uint64_t id, uint64_t look_at)
{
	GUARD(&f->lock);
	struct family_member *m = find_locked(f, id);

	if (m)
		m->look_at = look_at;
}

void family_look_again(struct family *f, uint64_t id)
{
	family_hold(f, id, 0);
}

bool family_note_row(struct family *f, uint64_t id)
{
	GUARD(&f->lock);
	struct family_member *m = find_locked(f, id);

	return m && ++m->rows_put == m->look_at;
}

static int by_place(const void *a, const void *b)
{
	const struct family_place *x = a, *y = b;

	if (x->object != y->object)
		return x->object < y->object ? -1 : 1;
	if (x->mark != y->mark)
		return x->mark < y->mark ? -1 : 1;
	return (x->layer > y->layer) - (x->layer < y->layer);
}

int family_places(struct family *f, uint32_t stream, struct family_place **ret_places,
		  size_t *ret_count)
{
	struct family_member *m, *next;
	struct family_place *places;
	size_t count = 0;

	GUARD(&f->lock);
	places = calloc(HASH_COUNT(f->members) + 1, sizeof(*places));
	if (!places)
		return -ENOMEM;
	HASH_ITER (hh, f->members, m, next)
		if (m->known && m->row.mark_stream == stream)
			places[count++] =
				(struct family_place){ m->row.object, m->row.mark, m->id };
	if (count)
		qsort(places, count, sizeof(*places), by_place);
	*ret_places = places;
	*ret_count = count;
	return 0;
}

bool family_uses_stream(struct family *f, uint32_t stream)
{
	struct family_member *m, *next;

	GUARD(&f->lock);
	HASH_ITER (hh, f->members, m, next)
		if (m->known && m->row.mark_stream == stream)
			return true;
	return false;
}
