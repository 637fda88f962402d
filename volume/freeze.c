#include "volume/freeze.h"

#include "common/log.h"
#include "volume/life_rows.h"
#include "volume/upload.h"

#include <stdlib.h>
#include <string.h>

/* An unborn layer, for checkpoints: nothing of it has a row yet. */
static const bool unborn = true;

int freeze_new(struct object *o, struct freeze **ret_freeze, struct err *e)
{
	struct freeze *f = calloc(1, sizeof(*f));
	uint64_t id;
	int r;

	if (!f)
		return err_set(e, -ENOMEM, "freezing");
	f->member = family_prepare();
	r = f->member ? pool_new_number(o->pool, COUNTER_LAYER, &id, e) :
			err_set(e, -ENOMEM, "freezing");
	if (r == 0) {
		/* Its parent is settled, for no other call freezes meanwhile. */
		r = map_layer_new(o->pool->map, id, o->layer, CLUSTER_MAX, 0, &f->new);
		if (r < 0)
			err_because(e, r, "freezing");
	}
	if (r < 0) {
		free(f->member);
		free(f);
		return r;
	}
	layer_set_owner(f->new, o->id);
	__atomic_store_n(&f->new->stuck, &unborn, __ATOMIC_RELAXED);
	f->object = o;
	mutex_lock(&o->pool->objects_lock);
	o->refs++;
	mutex_unlock(&o->pool->objects_lock);
	*ret_freeze = f;
	return 0;
}

void freeze_free(struct freeze *f)
{
	if (f->new)
		layer_unref(f->object->pool->map, f->new);
	object_put(f->object);
	free(f->member);
	free(f);
}

void freezes_forget(struct pool *p)
{
	while (p->freezes) {
		struct freeze *f = p->freezes;

		p->freezes = f->next;
		freeze_free(f);
	}
}

/* --- the switch -------------------------------------------------------------------------------- */

static int by_object(const void *a, const void *b)
{
	const struct freeze *x = *(struct freeze *const *)a, *y = *(struct freeze *const *)b;

	return (x->object->id > y->object->id) - (x->object->id < y->object->id);
}

/* Its gate is held alone. */
static void switch_one(struct freeze *f)
{
	struct object *o = f->object;

	f->stream = o->stream->id;
	f->mark = __atomic_load_n(&o->last_lsn, __ATOMIC_ACQUIRE);
	f->state = (struct object_state_row){
		.lsn = f->mark,
		.size_bytes = __atomic_load_n(&o->size_bytes, __ATOMIC_ACQUIRE),
		.mtime_ns = __atomic_load_n(&o->mtime_ns, __ATOMIC_RELAXED),
	};
	f->old = o->layer;
	mutex_lock(&f->old->lock);
	f->parent_limit = f->old->parent_limit_clusters;
	mutex_unlock(&f->old->lock);
	/* The new one has a reference on it, and the object's is on the new one from here on. */
	o->layer = f->new;
	layer_ref(f->new);
	layer_unref(o->pool->map, f->old);
	f->saved_parent_limit = o->saved_parent_limit;
	o->saved_parent_limit = CLUSTER_MAX;
	o->template |= f->template;
	f->switched = true;
}

static int switch_new(struct freeze **list, size_t count, struct err *e)
{
	size_t held = 0;
	int r = 0;

	qsort(list, count, sizeof(struct freeze *), by_object);
	for (; held < count && r == 0; held++) {
		struct object *o = list[held]->object;

		rwlock_write_lock(&o->gate);
		if (o->deleted)
			r = err_set(e, -ESTALE, "object %" PRIu64 " was deleted", o->id);
		else if (__atomic_load_n(&o->stream->stuck, __ATOMIC_ACQUIRE))
			r = err_set(e, -EIO, "stream %u failed earlier", o->stream->id);
	}
	for (size_t i = 0; i < count && r == 0; i++)
		switch_one(list[i]);
	while (held > 0)
		rwlock_write_unlock(&list[--held]->object->gate);
	return r;
}

/* The checkpoint writes what the old layer shows as of the mark, and says nothing of what came later. */
static int stage_frozen(struct checkpoint *c, struct freeze *f, struct err *e)
{
	struct stream *s = f->object->stream;
	struct stream_mark *m = &c->marks[s->mark_index];

	ASSERT(s->mark_index < c->mark_count && m->stream == s);
	f->passed_over = m->stuck;
	if (f->passed_over)
		return 0;
	m->lsn = min_u64(m->lsn, max_u64(f->mark, s->checkpoint_lsn));
	return checkpoint_stage_frozen(c, f->object, f->old, &f->state, f->parent_limit,
				       f->saved_parent_limit, e);
}

int freeze_switch(struct checkpoint *c, struct err *e)
{
	struct freeze *f, **list;
	size_t count = 0, all = 0;
	int r = 0;

	for (f = c->pool->freezes; f; f = f->next)
		all++;
	if (!all)
		return 0;
	list = calloc(all, sizeof(struct freeze *));
	if (!list)
		return err_set(e, -ENOMEM, "freezing");
	for (f = c->pool->freezes; f; f = f->next)
		if (!f->switched)
			list[count++] = f;
	if (count)
		r = switch_new(list, count, e);
	free(list);
	for (f = c->pool->freezes; f && r == 0; f = f->next)
		r = stage_frozen(c, f, e);
	return r;
}

/* --- the rows ---------------------------------------------------------------------------------- */

static struct layer_row frozen_row(const struct freeze *f)
{
	return (struct layer_row){
		.state = LAYER_FROZEN,
		.object = f->object->id,
		.parent = f->old->parent ? f->old->parent->id : 0,
		.parent_limit_clusters = f->parent_limit,
		.mark_stream = f->stream,
		.mark = f->mark,
	};
}

static int put_snapshot(struct pool *p, struct meta_batch *names, const struct freeze *f)
{
	struct snapshot_row row = {
		.layer = f->old->id,
		.created_ns = f->created_ns,
		.size_bytes = f->state.size_bytes,
		.root = root_next(p),
		.flags = f->flags,
		.name_bytes = (uint8_t)strlen(f->name),
		.comment_bytes = f->comment ? (uint32_t)strlen(f->comment) : 0,
		.name = f->name,
		.comment = f->comment,
	};

	return life_put_snapshot(p, names, f->object->id, f->snapshot, &row);
}

static int put_rows(struct pool *p, struct meta_batch *names, const struct freeze *f, struct err *e)
{
	struct layer_row old = frozen_row(f);
	struct layer_row new = {
		.state = LAYER_LIVE,
		.object = f->object->id,
		.parent = f->old->id,
		.parent_limit_clusters = CLUSTER_MAX,
		.mark_stream = f->stream,
		.mark = f->mark,
	};
	int r;

	r = life_put_live_layer(p, names, f->object->id, f->new->id,
				f->object->template && !MUTANT(MUTANT_TEMPLATE_UNSAID), e);
	if (r == 0)
		r = life_put_layer(p, names, f->old->id, &old);
	if (r == 0)
		r = life_put_layer(p, names, f->new->id, &new);
	if (r == 0 && f->snapshot)
		r = put_snapshot(p, names, f);
	return r < 0 ? err_wrap(e, r, "freezing object %" PRIu64, f->object->id) : 0;
}

int freeze_put_rows(struct checkpoint *c, struct meta_batch *names, bool *changed, struct err *e)
{
	int r = 0;

	for (struct freeze *f = c->pool->freezes; f && r == 0; f = f->next) {
		if (!f->switched || f->passed_over)
			continue;
		/* Until the commit: a deletion must not come between, or its rows would come back. */
		rwlock_read_lock(&f->object->gate);
		f->gate_held = true;
		f->deleted = f->object->deleted;
		if (f->deleted)
			continue;
		r = put_rows(c->pool, names, f, e);
		*changed = true;
	}
	return r;
}

static void born(struct pool *p, struct freeze *f)
{
	struct layer_row row = frozen_row(f);

	f->member->pins = f->pinned && f->waited_for;
	family_add(&p->family, TAKE_PTR(f->member), f->old->id, &row, f->snapshot);
	family_add_child(&p->family, f->old->id, f->new->id);
	__atomic_store_n(&f->new->stuck, &f->object->stream->stuck, __ATOMIC_RELEASE);
	/* The cleaner reads it, with the gate held as it is here. */
	__atomic_store_n(&f->object->since_lsn, f->mark, __ATOMIC_RELAXED);
	if (f->waited_for && f->ret_layer) {
		*f->ret_layer = f->old->id;
		*f->ret_size_bytes = f->state.size_bytes;
	}
}

void freeze_commit_done(struct checkpoint *c, bool done)
{
	struct pool *p = c->pool;
	struct freeze **link = &p->freezes, *f;

	while ((f = *link)) {
		bool over = f->gate_held && (done || f->deleted);

		if (over && !f->deleted)
			born(p, f);
		if (over)
			map_move_wishes(p->map, f->old->id, f->new->id);
		if (f->gate_held)
			rwlock_read_unlock(&f->object->gate);
		f->gate_held = false;
		if (!over) {
			link = &f->next;
			continue;
		}
		*link = f->next;
		freeze_free(f);
	}
}

/* --- asking for it ----------------------------------------------------------------------------- */

static bool is_pending(const struct pool *p, const struct object *o)
{
	for (const struct freeze *f = p->freezes; f; f = f->next)
		if (f->object == o)
			return true;
	return false;
}

/* Its row does not say so, and will not. */
static void template_given_up(struct freeze *f)
{
	rwlock_write_lock(&f->object->gate);
	f->object->template = false;
	rwlock_write_unlock(&f->object->gate);
	f->template = false;
}

static void drop_unswitched(struct pool *p)
{
	struct freeze **link = &p->freezes, *f;

	while ((f = *link)) {
		if (f->switched) {
			/* Nobody waits for a name any more. */
			f->waited_for = false;
			if (f->template)
				template_given_up(f);
			f->snapshot = 0;
			f->name = f->comment = NULL;
			link = &f->next;
			continue;
		}
		*link = f->next;
		freeze_free(f);
	}
}

int freeze_settle(struct pool *p, const struct object *o, struct err *e)
{
	int r = is_pending(p, o) ? pool_checkpoint_locked(p, e) : 0;

	if (r == 0 && is_pending(p, o))
		r = err_set(e, -EIO, "stream %u failed earlier", o->stream->id);
	return r;
}

static bool any_left(const struct pool *p)
{
	for (const struct freeze *f = p->freezes; f; f = f->next)
		if (f->waited_for)
			return true;
	return false;
}

int freeze_objects(struct pool *p, struct freeze *list, struct err *e)
{
	struct freeze *last = list;
	int r;

	for (struct freeze *f = list; f; f = f->next) {
		f->waited_for = true;
		last = f;
	}
	last->next = p->freezes;
	p->freezes = list;
	r = pool_checkpoint_locked(p, e);
	if (r == -ENOSPC && reserve_release(p))
		r = pool_checkpoint_locked(p, e);
	if (r == 0 && any_left(p))
		r = err_set(e, -EIO, "a stream failed meanwhile");
	drop_unswitched(p);
	return r;
}
