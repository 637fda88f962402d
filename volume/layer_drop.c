#include "volume/layer_drop.h"

#include "common/log.h"
#include "volume/life_rows.h"

#include <stdlib.h>

static int add_layer(struct layer_drop *d, struct layer *l)
{
	if (d->count == d->cap) {
		size_t cap = d->cap ? 2 * d->cap : 16;
		struct layer **more = reallocarray(d->layers, cap, sizeof(struct layer *));

		if (!more)
			return -ENOMEM;
		d->layers = more;
		d->cap = cap;
	}
	layer_ref(l);
	d->layers[d->count++] = l;
	return 0;
}

static int add_unnamed(struct layer_drop *d, uint64_t id)
{
	if (d->unnamed_count == d->unnamed_cap) {
		size_t cap = d->unnamed_cap ? 2 * d->unnamed_cap : 16;
		uint64_t *more = reallocarray(d->unnamed, cap, sizeof(*more));

		if (!more)
			return -ENOMEM;
		d->unnamed = more;
		d->unnamed_cap = cap;
	}
	d->unnamed[d->unnamed_count++] = id;
	return 0;
}

/* --- names ------------------------------------------------------------------------------------- */

struct unname {
	struct layer_drop *d;
	struct object *o;
	const struct layer *until;
	struct meta_batch *batch;
	struct err *e;
};

static bool is_above(const struct unname *u, uint64_t layer)
{
	for (const struct layer *l = u->o->layer; l && l != u->until; l = l->parent)
		if (l->id == layer)
			return true;
	return false;
}

static int see_name(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		    size_t value_bytes)
{
	struct unname *u = arg;
	struct snapshot_row row;
	uint64_t object, number;
	struct row_key k;
	int r;

	r = row_key_parse_2u64(key, key_bytes, ROW_SNAPSHOT, &object, &number);
	if (r == 0)
		r = snapshot_row_decode(value, value_bytes, &row, u->e);
	if (r < 0 || (u->until && !is_above(u, row.layer)))
		return r;
	k = row_key_2u64(ROW_SNAPSHOT, object, number);
	r = meta_batch_delete(u->o->pool->meta, u->batch, &k);
	return r == 0 ? add_unnamed(u->d, row.layer) : r;
}

static int drop_names(struct layer_drop *d, struct object *o, const struct layer *until,
		      struct meta_batch *batch, struct err *e)
{
	struct row_key from = row_key_2u64(ROW_SNAPSHOT, o->id, 0);
	struct row_key end = row_key_2u64(ROW_SNAPSHOT, o->id, UINT64_MAX);
	struct unname u = { d, o, until, batch, e };
	bool alone = MUTANT(MUTANT_ROLLBACK_IN_TWO) && until;
	struct meta *meta = o->pool->meta;
	int r;

	if (alone)
		u.batch = meta_batch_new(meta, META_NAMES);
	r = meta_iterate(meta, META_NAMES, &from, &end, see_name, &u, e);
	if (alone) {
		r = r < 0 ? r : meta_commit(meta, u.batch, 0, e);
		meta_batch_free(meta, u.batch);
	}
	return r;
}

static bool loses_name(const struct layer_drop *d, uint64_t id)
{
	for (size_t i = 0; i < d->unnamed_count; i++)
		if (d->unnamed[i] == id)
			return true;
	return false;
}

/* --- layers ------------------------------------------------------------------------------------ */

/* Whether a layer goes when the one on it does. */
static bool goes_along(const struct layer_drop *d, struct pool *p, const struct layer *l)
{
	struct family_member m;

	if (d->count == 0)
		return true; /* the live one */
	if (!family_get(&p->family, l->id, &m))
		return true; /* about to be frozen, no row says so */
	return m.children == 1 && m.pins == 0 && !m.merging &&
	       (m.snapshot == 0 || loses_name(d, l->id));
}

int layer_drop_rows(struct layer_drop *d, struct object *o, const struct layer *until,
		    struct meta_batch *batch, struct err *e)
{
	int r;

	*d = (struct layer_drop){ 0 };
	r = drop_names(d, o, until, batch, e);
	for (struct layer *l = o->layer; r == 0 && l; l = l->parent) {
		struct layer_row row = { .state = LAYER_DROPPED, .object = o->id };

		if (l == until || !goes_along(d, o->pool, l)) {
			d->kept = l->id;
			break;
		}
		r = life_put_layer(o->pool, batch, l->id, &row);
		if (r == 0)
			r = add_layer(d, l);
	}
	return r < 0 ? err_wrap(e, r, "layers of object %" PRIu64, o->id) : 0;
}

void layer_drop_done(struct layer_drop *d, struct object *o)
{
	struct pool *p = o->pool;

	for (size_t i = 0; i < d->unnamed_count; i++)
		family_set_snapshot(&p->family, d->unnamed[i], 0);
	if (d->kept)
		family_drop_child(&p->family, d->kept, d->layers[d->count - 1]->id);
	for (size_t i = 0; i < d->count; i++) {
		struct layer *l = d->layers[i];
		struct err why = { 0 };

		family_remove(&p->family, l->id);
		/* What it loses is no loss of an object that goes on without it. */
		layer_set_owner(l, 0);
		if (pool_drop_layer(p, l, &why) < 0) /* the row is there: at next start */
			log_warning("volume: space of object %" PRIu64
				    " comes back at the next start: %s",
				    o->id, why.message);
	}
	job_kick(&p->merger);
}

void layer_drop_free(struct layer_drop *d, struct pool *p)
{
	for (size_t i = 0; i < d->count; i++)
		layer_unref(p->map, d->layers[i]);
	free(d->layers);
	free(d->unnamed);
	*d = (struct layer_drop){ 0 };
}
