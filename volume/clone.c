/*
 * clone - objects that get a live layer over a frozen one that they did not have before: rolled back to
 * a snapshot of their own, or made of another's. The argument for a crash: FORMAT.md 10.9.
 */
#include "volume/call.h"
#include "volume/freeze.h"
#include "volume/layer_drop.h"
#include "volume/life_rows.h"
#include "volume/pool_life.h"
#include "volume/snapshot_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* " and 18446744073709551615 more" */
#define MORE_BYTES 32u

static void buf_donep(struct buf *b)
{
	buf_done(b);
}

/* --- a new live layer -------------------------------------------------------------------------- */

struct layer_switch {
	struct object *object;
	struct layer *onto;	   /* referenced: frozen */
	const struct layer *until; /* of the old chain this stays, and what is below it */
	struct object_state_row state;
	struct layer *live; /* the new one */
	struct layer_drop drop;
};

static int switch_rows(struct layer_switch *s, struct meta_batch *names, struct err *e)
{
	struct object *o = s->object;
	struct layer_row row = {
		.state = LAYER_LIVE,
		.object = o->id,
		.parent = s->onto->id,
		.parent_limit_clusters = CLUSTER_MAX,
		.mark_stream = o->stream->id,
		.mark = o->last_lsn,
	};
	int r = layer_drop_rows(&s->drop, o, s->until, names, e);

	if (r == 0)
		r = life_put_live_layer(o->pool, names, o->id, s->live->id, false, e);
	if (r == 0)
		r = life_put_layer(o->pool, names, s->live->id, &row);
	return r;
}

/* Committed: from here on it is what the frozen layer shows. */
static void switched(struct layer_switch *s)
{
	struct object *o = s->object;
	struct layer *old = o->layer;

	layer_drop_done(&s->drop, o);
	family_add_child(&o->pool->family, s->onto->id, s->live->id);
	o->layer = TAKE_PTR(s->live);
	layer_unref(o->pool->map, old);
	o->saved_parent_limit = CLUSTER_MAX;
	o->since_lsn = o->last_lsn;
	o->clone_layer = 0;
	__atomic_store_n(&o->size_bytes, s->state.size_bytes, __ATOMIC_RELEASE);
	__atomic_store_n(&o->mapped_clusters, s->state.mapped_clusters, __ATOMIC_RELAXED);
	__atomic_store_n(&o->mtime_ns, env_now_real_ns(o->pool->env), __ATOMIC_RELAXED);
	__atomic_store_n(&o->attr_dirty, true, __ATOMIC_RELEASE);
}

/* Gate held; all that the object has in its log is durable. */
static int switch_locked(struct layer_switch *s, struct err *e)
{
	struct pool *p = s->object->pool;
	struct meta_batch *names = meta_batch_new(p->meta, META_NAMES);
	int r = names ? switch_rows(s, names, e) : -ENOMEM;

	if (r < 0)
		err_wrap(e, r, "object %" PRIu64, s->object->id);
	else
		r = meta_commit(p->meta, names, META_SYNC, e);
	if (r == 0)
		switched(s);
	layer_drop_free(&s->drop, p);
	meta_batch_free(p->meta, names);
	return r;
}

static int live_layer_new(struct layer_switch *s, struct err *e)
{
	struct object *o = s->object;
	uint64_t id;
	int r = pool_new_number(o->pool, COUNTER_LAYER, &id, e);

	if (r < 0)
		return r;
	r = map_layer_new(o->pool->map, id, s->onto, CLUSTER_MAX, 0, &s->live);
	if (r < 0)
		return err_because(e, r, "layer");
	layer_set_owner(s->live, o->id);
	__atomic_store_n(&s->live->stuck, &o->stream->stuck, __ATOMIC_RELAXED);
	return 0;
}

/* Nothing is lost with what it holds. */
static bool may_become(struct object *o, uint64_t layer)
{
	if (o->size_bytes == 0)
		return snapshot_count(o->pool, o->id) == 0;
	return o->clone_layer == layer && o->clone_lsn == o->last_lsn;
}

/*
 * Change lock and checkpoint lock held. The log up to the last entry is durable before the row that says
 * that nothing of it counts any more: else these LSNs would be given out again, to entries that count.
 */
static int switch_layer(struct layer_switch *s, bool must_be_empty, struct err *e)
{
	struct object *o = s->object;
	bool done = false;
	int r;

	r = freeze_settle(o->pool, o, e);
	if (r == 0)
		r = live_layer_new(s, e);
	if (r < 0)
		return r;
	object_set_frozen(o, true);
	while (r == 0 && !done) {
		rwlock_write_lock(&o->gate);
		done = o->deleted || o->last_lsn <= stream_durable_lsn(o->stream);
		if (o->deleted)
			r = err_set(e, -ESTALE, "object %" PRIu64 " was deleted", o->id);
		else if (o->template)
			r = err_set(e, -EPERM, "object %" PRIu64 " is a template", o->id);
		else if (done && must_be_empty && !may_become(o, s->onto->id))
			r = err_set(e, -EBUSY, "object %" PRIu64 " is not empty", o->id);
		else if (done)
			r = switch_locked(s, e);
		rwlock_write_unlock(&o->gate);
		if (r == 0 && !done)
			r = stream_sync(o->stream, o->last_lsn, e);
	}
	object_set_frozen(o, false);
	if (s->live)
		layer_unref(o->pool->map, s->live);
	pool_made_room(o->pool);
	capacity_freed(o->pool);
	return r;
}

/* --- rollback ---------------------------------------------------------------------------------- */

static struct layer *find_in_chain(struct object *o, uint64_t id)
{
	struct layer *l = o->layer;

	while (l && l->id != id)
		l = l->parent;
	return l;
}

/* Names, as many as there is room for: 'a', 'b' and 3 more. */
static void list_names(const struct snapshot_info *list, size_t count, char *text,
		       size_t text_bytes)
{
	size_t at = 0;

	for (size_t i = 0; i < count; i++) {
		size_t len_bytes = strlen(list[i].name) + sizeof("'', ");

		if (i > 0 && at + len_bytes + MORE_BYTES > text_bytes) {
			(void)snprintf(text + at, text_bytes - at, " and %zu more", count - i);
			return;
		}
		at += (size_t)snprintf(text + at, text_bytes - at, "%s'%s'", i ? ", " : "",
				       list[i].name);
	}
}

/* Without force nothing younger may have a name. */
static int check_younger(struct object *o, uint64_t number, struct err *e)
{
	char names[ERR_MESSAGE_BYTES - 100];
	struct snapshot_info *list;
	size_t count, first;
	int r = snapshot_list(o->pool, o->id, &list, &count, e);

	if (r < 0)
		return r;
	for (first = 0; first < count && list[first].number <= number; first++)
		continue;
	if (first < count) {
		list_names(list + first, count - first, names, sizeof(names));
		r = err_set(e, -ENOTEMPTY, "%zu younger snapshot%s would go: %s", count - first,
			    count - first == 1 ? "" : "s", names);
	}
	snapshot_list_free(list, count);
	return r;
}

int snapshot_rollback(struct object *o, const char *name, bool force, struct err *e)
{
	struct layer_switch s = { .object = o };
	struct pool *p = o->pool;
	AUTO(buf_donep) struct buf value;
	struct snapshot_row row;
	uint64_t number;
	int r;

	if (o->read_only)
		return err_set(e, -EROFS, "a snapshot does not change");
	buf_init(&value, SNAPSHOT_ROW_BYTES_MAX);
	CALL(p);
	GUARD(&p->family.change_lock);
	GUARD(&p->checkpoint_lock);
	r = snapshot_row_by_name(p, o->id, name, &number, &row, &value, e);
	if (r == 0 && !force)
		r = check_younger(o, number, e);
	if (r < 0)
		return r;
	s.onto = find_in_chain(o, row.layer);
	if (!s.onto)
		return err_set(e, -EUCLEAN, "snapshot '%s' is not below its object", name);
	s.until = s.onto;
	r = object_state_of(p, s.onto, &s.state, e);
	return r < 0 ? r : switch_layer(&s, false, e);
}

/* --- clones ------------------------------------------------------------------------------------ */

struct clone_source {
	struct pool *pool;
	uint64_t layer; /* pinned */
	uint64_t size_bytes;
};

uint64_t clone_source_layer(const struct clone_source *source)
{
	return source->layer;
}

uint64_t clone_source_size(const struct clone_source *source)
{
	return source->size_bytes;
}

bool clone_source_is_now(const struct clone_source *source, struct object *o)
{
	bool same;

	if (o->read_only)
		return o->pinned_layer == source->layer;
	rwlock_read_lock(&o->gate);
	map_chain_hold(o->pool->map);
	same = o->layer->parent && o->layer->parent->id == source->layer &&
	       __atomic_load_n(&o->last_lsn, __ATOMIC_ACQUIRE) == o->since_lsn;
	map_chain_release(o->pool->map);
	rwlock_read_unlock(&o->gate);
	return same;
}

void clone_source_close(struct clone_source *source)
{
	if (source && family_unpin(&source->pool->family, source->layer))
		job_kick(&source->pool->merger);
	free(source);
}

static int freeze_now(struct pool *p, struct object *o, struct clone_source *c, struct err *e)
{
	struct freeze *f;
	int r;

	CALL(p);
	GUARD(&p->checkpoint_lock);
	r = snapshots_announce(p, e);
	if (r == 0)
		r = freeze_settle(p, o, e);
	if (r == 0)
		r = freeze_new(o, &f, e);
	if (r < 0)
		return r;
	f->pinned = true;
	f->ret_layer = &c->layer;
	f->ret_size_bytes = &c->size_bytes;
	return freeze_objects(p, f, e);
}

static int pin_snapshot(struct pool *p, struct object *o, const char *name, struct clone_source *c,
			struct err *e)
{
	AUTO(buf_donep) struct buf value;
	struct snapshot_row row;
	uint64_t number;
	int r;

	buf_init(&value, SNAPSHOT_ROW_BYTES_MAX);
	r = snapshot_row_by_name(p, o->id, name, &number, &row, &value, e);
	if (r == 0 && !family_pin(&p->family, row.layer))
		r = err_set(e, -ENOENT, "snapshot '%s' was just deleted", name);
	if (r < 0)
		return r;
	c->layer = row.layer;
	c->size_bytes = row.size_bytes;
	return 0;
}

/*
 * All that a template has is in the layer below its live one, and stays there. False: it is none, or
 * perhaps not quite (a commit that failed, and came back after a crash): freezing is right always.
 */
static bool pin_template(struct pool *p, struct object *o, struct clone_source *c)
{
	bool pinned = false;

	rwlock_read_lock(&o->gate);
	map_chain_hold(p->map);
	if (o->template && !o->deleted && o->layer->parent &&
	    __atomic_load_n(&o->last_lsn, __ATOMIC_ACQUIRE) == o->since_lsn) {
		c->layer = o->layer->parent->id;
		c->size_bytes = __atomic_load_n(&o->size_bytes, __ATOMIC_ACQUIRE);
		pinned = family_pin(&p->family, c->layer);
	}
	map_chain_release(p->map);
	rwlock_read_unlock(&o->gate);
	return pinned;
}

int clone_source_open(struct pool *p, struct object *source, const char *snapshot,
		      struct clone_source **ret_source, struct err *e)
{
	struct clone_source *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return err_set(e, -ENOMEM, "cloning");
	c->pool = p;
	if (snapshot)
		r = pin_snapshot(p, source, snapshot, c, e);
	else
		r = pin_template(p, source, c) ? 0 : freeze_now(p, source, c, e);
	if (r < 0)
		free(c);
	else
		*ret_source = c;
	return r;
}

/* The limit is one entry of its log; with another one it is no mere clone any more. */
static int cut_clone(struct object *o, uint64_t layer, lsn_t since, uint64_t limit_bytes,
		     struct err *e)
{
	lsn_t entries = limit_bytes < __atomic_load_n(&o->size_bytes, __ATOMIC_ACQUIRE);
	int r = entries ? object_truncate(o, limit_bytes, e) : 0;

	rwlock_write_lock(&o->gate);
	if (r == 0 && o->last_lsn == since + entries) {
		o->clone_layer = layer;
		o->clone_lsn = o->last_lsn;
	}
	rwlock_write_unlock(&o->gate);
	return r;
}

static int become_clone(struct object *o, const struct clone_source *source, lsn_t *ret_since,
			struct err *e)
{
	struct layer_switch s = { .object = o };
	struct pool *p = o->pool;
	struct layer_row row;
	int r;

	CALL(p);
	GUARD(&p->family.change_lock);
	GUARD(&p->checkpoint_lock);
	r = object_chain_of(p, source->layer, &row, &s.onto, e);
	if (r == 0)
		r = object_state_of(p, s.onto, &s.state, e);
	if (r == 0)
		r = switch_layer(&s, true, e);
	*ret_since = o->since_lsn;
	if (s.onto)
		layer_unref(p->map, s.onto);
	return r;
}

int object_become_clone(struct object *o, struct clone_source *source, uint64_t limit_bytes,
			struct err *e)
{
	lsn_t since;
	int r;

	if (o->read_only)
		return err_set(e, -EROFS, "a snapshot does not change");
	r = o->class == OBJECT_DISK ? 0 : object_set_class(o, OBJECT_DISK, e);
	if (r == 0)
		r = become_clone(o, source, &since, e);
	return r == 0 ? cut_clone(o, source->layer, since, limit_bytes, e) : r;
}

int object_parent(struct object *o, uint64_t *ret_object, char ret_name[SNAPSHOT_NAME_MAX + 1],
		  struct err *e)
{
	struct pool *p = o->pool;
	struct family_member m = { 0 };
	struct snapshot_info info;
	int r = -ENOENT;

	rwlock_read_lock(&o->gate);
	map_chain_hold(p->map);
	for (const struct layer *l = o->layer->parent; l && r == -ENOENT; l = l->parent)
		if (family_get(&p->family, l->id, &m) && m.row.object != o->id)
			r = 0;
	map_chain_release(p->map);
	rwlock_read_unlock(&o->gate);
	if (r < 0)
		return err_set(e, r, "object %" PRIu64 " is no clone", o->id);
	*ret_object = m.row.object;
	ret_name[0] = '\0';
	if (m.snapshot == 0 || snapshot_find_of(p, m.row.object, m.snapshot, &info, e) < 0)
		return 0;
	memcpy(ret_name, info.name, sizeof(info.name));
	snapshot_info_done(&info);
	return 0;
}

/* --- templates --------------------------------------------------------------------------------- */

static int become_template(struct object *o, struct err *e)
{
	struct pool *p = o->pool;
	struct freeze *f;
	int r = pool_add_feature(p, FEATURE_TEMPLATES, e);

	if (r == 0)
		r = snapshots_announce(p, e);
	if (r == 0)
		r = freeze_settle(p, o, e);
	if (r == 0)
		r = freeze_new(o, &f, e);
	if (r < 0)
		return r;
	f->template = true;
	return freeze_objects(p, f, e);
}

static int end_template(struct object *o, struct err *e)
{
	struct pool *p = o->pool;
	struct meta_batch *names = meta_batch_new(p->meta, META_NAMES);
	int r = names ? 0 : err_set(e, -ENOMEM, "template");

	rwlock_write_lock(&o->gate);
	if (r == 0 && o->deleted)
		r = err_set(e, -ESTALE, "object %" PRIu64 " was deleted", o->id);
	if (r == 0)
		r = life_put_no_template(p, names, o->id, e);
	if (r == 0)
		r = meta_commit(p->meta, names, META_SYNC, e);
	if (r == 0)
		o->template = false;
	rwlock_write_unlock(&o->gate);
	if (names)
		meta_batch_free(p->meta, names);
	job_kick(&p->merger); /* nothing keeps the layer below it apart any more */
	return r;
}

int object_set_template(struct object *o, bool on, struct err *e)
{
	bool is;

	if (o->read_only)
		return err_set(e, -EROFS, "a snapshot does not change");
	CALL(o->pool);
	GUARD(&o->pool->checkpoint_lock);
	rwlock_read_lock(&o->gate);
	is = o->template;
	rwlock_read_unlock(&o->gate);
	if (is == on)
		return 0;
	return on ? become_template(o, e) : end_template(o, e);
}
