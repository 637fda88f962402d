/*
 * object_life - how objects come and go: creation and deletion as parts of an operation on names,
 * and the change of class.
 */
#include "common/log.h"
#include "volume/call.h"
#include "volume/freeze.h"
#include "volume/layer_drop.h"
#include "volume/life_rows.h"
#include "volume/names.h"
#include "volume/pool_life.h"
#include "volume/snapshot_impl.h"

#include <stdlib.h>
#include <string.h>

/* RocksDB looks for room every 5 s. */
#define DELETE_WAIT_NS	  UINT64_C(15000000000)
#define DELETE_RECHECK_NS UINT64_C(50000000)

/* --- rows --------------------------------------------------------------------------------------- */

/* The rows of a new object into a batch of NAMES. */
static int create_rows(struct pool *p, struct meta_batch *batch, enum object_class class,
		       uint64_t parent, uint64_t *ret_id, uint64_t *ret_layer, struct err *e)
{
	struct object_origin origin = { .stream = STREAM_SHARED };
	struct layer_row layer = { .state = LAYER_LIVE,
				   .parent = parent,
				   .parent_limit_clusters = parent ? CLUSTER_MAX : 0 };
	struct object_row row = {
		.class = class,
		.created_ns = env_now_real_ns(p->env),
		.origin_count = 1,
		.origins = &origin,
	};
	struct stream *stream;
	uint64_t id;
	int r;

	r = pool_new_number(p, COUNTER_OBJECT, &id, e);
	if (r == 0)
		r = pool_new_number(p, COUNTER_LAYER, &row.live_layer, e);
	if (r == 0 && class == OBJECT_DISK) {
		r = life_new_disk_stream(p, batch, id, &stream, e);
		origin.stream = r == 0 ? stream->id : 0;
	}
	if (r < 0)
		return r;
	layer.object = id;
	r = life_put_object(p, batch, id, &row);
	if (r == 0)
		r = life_put_layer(p, batch, row.live_layer, &layer);
	if (r < 0)
		return err_because(e, r, "rows of an object");
	*ret_id = id;
	*ret_layer = row.live_layer;
	return 0;
}

/* What makes the deletion of an object, gate closed. */
static int delete_rows(struct object *o, struct meta_batch *batch, struct layer_drop *d,
		       struct err *e)
{
	struct row_key key = row_key_u64(ROW_OBJECT, o->id);
	int r = meta_batch_delete(o->pool->meta, batch, &key);

	if (r < 0)
		return err_because(e, r, "deleting object %" PRIu64, o->id);
	return layer_drop_rows(d, o, NULL, batch, e);
}

/* Its own one, and those of disks that it was before its class changed: they have no other user. */
static void abandon_streams(const struct object *o)
{
	for (uint32_t i = 0; i < o->origin_count; i++) {
		struct stream *s = pool_stream(o->pool, o->origins[i].stream);

		if (s && s->class == OBJECT_DISK && s->owner == o->id)
			stream_abandon(s);
	}
}

/* The rows are committed: nobody reaches it any more, its space comes back. */
static void become_deleted(struct object *o, struct layer_drop *d)
{
	o->deleted = true;
	__atomic_store_n(&o->attr_dirty, false, __ATOMIC_RELEASE);
	abandon_streams(o);
	layer_drop_done(d, o);
	capacity_freed(o->pool);
}

/* --- batches of names -------------------------------------------------------------------------- */

struct names_batch {
	struct pool *pool;
	struct meta_batch *batch;
	struct object *deletes[NAMES_DELETES_MAX]; /* referenced; by number, each once */
	struct layer_drop drops[NAMES_DELETES_MAX];
	unsigned int delete_count;
	uint64_t clone_layer, clone_parent; /* of the clone that it makes; 0: none */
	struct object *publishes;	    /* referenced; NULL: none */
};

struct names_batch *names_batch_new(struct pool *p)
{
	struct names_batch *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->pool = p;
	b->batch = meta_batch_new(p->meta, META_NAMES);
	if (!b->batch) {
		free(b);
		return NULL;
	}
	return b;
}

void names_batch_free(struct names_batch *b)
{
	if (!b)
		return;
	for (unsigned int i = 0; i < b->delete_count; i++)
		object_put(b->deletes[i]);
	object_close(b->publishes);
	meta_batch_free(b->pool->meta, b->batch);
	free(b);
}

int names_create_object(struct names_batch *b, enum object_class class, uint64_t *ret_id,
			struct err *e)
{
	uint64_t layer;

	return create_rows(b->pool, b->batch, class, 0, ret_id, &layer, e);
}

int names_delete_object(struct names_batch *b, uint64_t id, struct err *e)
{
	unsigned int at = b->delete_count;
	struct object *o;
	int r;

	if (at == NAMES_DELETES_MAX)
		return err_set(e, -E2BIG, "more than %u deletions at once", NAMES_DELETES_MAX);
	r = snapshots_refuse_deletion(b->pool, id, e);
	if (r == 0)
		r = object_open(b->pool, id, &o, e);
	if (r < 0)
		return r;
	/* By number, so that two batches close gates in one order. */
	while (at > 0 && b->deletes[at - 1]->id > id) {
		b->deletes[at] = b->deletes[at - 1];
		at--;
	}
	ASSERT(at == 0 || b->deletes[at - 1]->id != id);
	b->deletes[at] = o;
	b->delete_count++;
	return 0;
}

int names_clone_object(struct names_batch *b, struct clone_source *source, enum object_class class,
		       uint64_t *ret_id, struct err *e)
{
	ASSERT(!b->clone_layer);
	b->clone_parent = clone_source_layer(source);
	return create_rows(b->pool, b->batch, class, b->clone_parent, ret_id, &b->clone_layer, e);
}

int names_publish_object(struct names_batch *b, uint64_t id, struct err *e)
{
	ASSERT(!b->publishes);
	return object_open(b->pool, id, &b->publishes, e);
}

/*
 * A deletion makes room, so on a full disk it waits for the reserve: the checkpoint that meets the
 * same gives it back, and the metadata recovers some seconds later.
 */
static int commit_rows(struct names_batch *b, struct err *e)
{
	struct pool *p = b->pool;
	uint64_t deadline_ns = clock_mono_ns() + DELETE_WAIT_NS;
	int r = meta_commit(p->meta, b->batch, 0, e);

	while (r == -ENOSPC && b->delete_count > 0 && clock_mono_ns() < deadline_ns) {
		uint64_t generation = pool_room_generation(p);

		job_kick(&p->checkpointer);
		pool_wait_room(p, generation, DELETE_RECHECK_NS);
		r = meta_commit(p->meta, b->batch, 0, e);
	}
	return r;
}

static int commit_locked(struct names_batch *b, struct err *e)
{
	unsigned int closed = 0;
	int r = 0;

	for (; closed < b->delete_count && r == 0; closed++) {
		struct object *o = b->deletes[closed];

		rwlock_write_lock(&o->gate);
		r = o->deleted ? err_set(e, -ENOENT, "no object %" PRIu64, o->id) :
				 delete_rows(o, b->batch, &b->drops[closed], e);
	}
	if (r == 0)
		r = commit_rows(b, e);
	for (unsigned int i = closed; i-- > 0;) {
		if (r == 0)
			become_deleted(b->deletes[i], &b->drops[i]);
		layer_drop_free(&b->drops[i], b->pool);
		rwlock_write_unlock(&b->deletes[i]->gate);
	}
	if (r == 0 && b->clone_layer)
		family_add_child(&b->pool->family, b->clone_parent, b->clone_layer);
	return r;
}

int names_commit(struct names_batch *b, struct err *e)
{
	int r = 0;

	if (b->publishes)
		r = object_sync(b->publishes, e);
	if (r < 0)
		return r;
	CALL(b->pool);
	if (b->delete_count || b->clone_layer)
		mutex_lock(&b->pool->family.change_lock);
	r = commit_locked(b, e);
	if (b->delete_count || b->clone_layer)
		mutex_unlock(&b->pool->family.change_lock);
	/* On a tight disk the backend's share of it comes back with the next roots: soon. */
	if (r == 0 && b->delete_count > 0 && pool_is_tight(b->pool))
		job_kick(&b->pool->uploader);
	return r;
}

int object_create(struct pool *p, enum object_class class, uint64_t *ret_id, struct err *e)
{
	struct names_batch *b = names_batch_new(p);
	uint64_t id;
	int r;

	if (!b)
		return err_set(e, -ENOMEM, "object");
	r = names_create_object(b, class, &id, e);
	if (r == 0)
		r = names_commit(b, e);
	names_batch_free(b);
	if (r == 0)
		*ret_id = id;
	return r;
}

int object_delete(struct pool *p, uint64_t id, struct err *e)
{
	struct names_batch *b = names_batch_new(p);
	int r;

	if (!b)
		return err_set(e, -ENOMEM, "deleting an object");
	r = names_delete_object(b, id, e);
	if (r == 0)
		r = names_commit(b, e);
	names_batch_free(b);
	return r;
}

/* --- rows of fs/ ------------------------------------------------------------------------------- */

/* The caller's key behind our kind byte. */
struct names_key {
	uint8_t bytes[NAMES_KEY_BYTES_MAX + 1];
	size_t len_bytes;
};

static int names_key(const void *key, size_t key_bytes, struct names_key *ret_key)
{
	if (key_bytes > NAMES_KEY_BYTES_MAX)
		return -ENAMETOOLONG;
	ret_key->bytes[0] = ROW_FS;
	memcpy(ret_key->bytes + 1, key, key_bytes);
	ret_key->len_bytes = key_bytes + 1;
	return 0;
}

int names_put(struct names_batch *b, const void *key, size_t key_bytes, const void *value,
	      size_t value_bytes)
{
	struct names_key k;
	int r = names_key(key, key_bytes, &k);

	return r < 0 ? r :
		       b->pool->meta->ops->batch_put(b->batch, k.bytes, k.len_bytes, value,
						     value_bytes);
}

int names_delete(struct names_batch *b, const void *key, size_t key_bytes)
{
	struct names_key k;
	int r = names_key(key, key_bytes, &k);

	return r < 0 ? r : b->pool->meta->ops->batch_delete(b->batch, k.bytes, k.len_bytes);
}

int names_get(struct pool *p, const void *key, size_t key_bytes, struct buf *out, struct err *e)
{
	size_t had_bytes = out->len_bytes;
	struct names_key k;
	int r = names_key(key, key_bytes, &k);

	if (r < 0)
		return err_because(e, r, "key of a name");
	r = p->meta->ops->get(p->meta, META_NAMES, k.bytes, k.len_bytes, out, e);
	if (r == 0 && had_bytes > 0) { /* it appended */
		out->len_bytes -= had_bytes;
		memmove(out->data, out->data + had_bytes, out->len_bytes);
	}
	return r;
}

struct names_walk {
	int (*fn)(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		  size_t value_bytes);
	void *arg;
};

static int without_kind(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
			size_t value_bytes)
{
	struct names_walk *w = arg;

	return w->fn(w->arg, key + 1, key_bytes - 1, value, value_bytes);
}

int names_iterate(struct pool *p, const void *from, size_t from_bytes, const void *until,
		  size_t until_bytes,
		  int (*fn)(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
			    size_t value_bytes),
		  void *arg, struct err *e)
{
	struct names_walk w = { .fn = fn, .arg = arg };
	struct names_key k_from, k_until;
	int r = names_key(from, from_bytes, &k_from);

	if (r == 0)
		r = names_key(until, until_bytes, &k_until);
	if (r < 0)
		return err_because(e, r, "key of a name");
	return p->meta->ops->iterate(p->meta, NULL, META_NAMES, k_from.bytes, k_from.len_bytes,
				     k_until.bytes, k_until.len_bytes, without_kind, &w, e);
}

int names_new_number(struct pool *p, uint64_t *ret_number, struct err *e)
{
	return pool_new_number(p, COUNTER_OBJECT, ret_number, e);
}

int names_announce_trash(struct pool *p, struct err *e)
{
	struct pool_row row;
	int r = pool_get_row(p, &row, e);

	if (r < 0 || row.features.incompat & FEATURE_TRASH)
		return r;
	GUARD(&p->checkpoint_lock);
	return pool_add_feature(p, FEATURE_TRASH, e);
}

/* --- changing class ---------------------------------------------------------------------------- */

/*
 * Rows of a class change: a new live layer in the new stream over the old one. What the object wrote
 * there when it was in that stream before is in layers below, and the map that a root names may be
 * older than that: since tells a replay that it is not for the new layer.
 */
static int class_rows(struct object *o, struct meta_batch *batch, const struct object_row *row,
		      uint64_t layer_id, const struct layer_row *old, lsn_t since)
{
	struct layer_row new = {
		.state = LAYER_LIVE,
		.object = o->id,
		.parent = o->layer->id,
		.parent_limit_clusters = CLUSTER_MAX,
		.mark_stream = since ? row->origins[0].stream : 0,
		.mark = since,
	};
	int r;

	r = life_put_object(o->pool, batch, o->id, row);
	if (r == 0)
		r = life_put_layer(o->pool, batch, o->layer->id, old);
	if (r == 0)
		r = life_put_layer(o->pool, batch, layer_id, &new);
	return r;
}

/* Gate and checkpoint lock held; nothing of the object is younger than its rows. */
static int change_class(struct object *o, enum object_class class, struct err *e)
{
	struct pool *p = o->pool;
	struct meta_batch *batch = meta_batch_new(p->meta, META_NAMES);
	struct object_origin *origins = calloc(o->origin_count + 1, sizeof(*origins));
	struct object_row row = {
		.class = class,
		.flags = o->template ? OBJECT_TEMPLATE : 0,
		.created_ns = env_now_real_ns(p->env),
		.origin_count = o->origin_count + 1,
		.origins = origins,
	};
	struct layer_row old = {
		.state = LAYER_FROZEN,
		.object = o->id,
		.parent = o->layer->parent ? o->layer->parent->id : 0,
		.parent_limit_clusters = o->layer->parent_limit_clusters,
		.mark_stream = o->stream->id,
		.mark = o->last_lsn,
	};
	struct family_member *member = family_prepare();
	struct layer *layer = NULL;
	struct stream *stream;
	uint64_t layer_id;
	lsn_t since = 0;
	int r = -ENOMEM;

	if (!batch || !origins || !member) {
		err_because(e, r, "class change");
		goto out;
	}
	memcpy(origins + 1, o->origins, o->origin_count * sizeof(*origins));
	origins[1].mark = o->last_lsn;
	r = pool_new_number(p, COUNTER_LAYER, &layer_id, e);
	if (r == 0 && class == OBJECT_DISK)
		r = life_new_disk_stream(p, batch, o->id, &stream, e);
	else if (r == 0)
		stream = pool_stream(p, STREAM_SHARED);
	/* It left no stream with anything young: what it wrote there lies below the checkpoint, which
	 * is durable. */
	if (r == 0)
		since = MUTANT(MUTANT_CLASS_WITHOUT_MARK) ? 0 : stream->checkpoint_lsn;
	if (r == 0 && since)
		r = snapshots_announce(p, e);
	if (r == 0) {
		origins[0] = (struct object_origin){ .stream = stream->id };
		row.live_layer = layer_id;
		r = class_rows(o, batch, &row, layer_id, &old, since);
	}
	if (r == 0)
		r = map_layer_new(p->map, layer_id, o->layer, CLUSTER_MAX, 0, &layer);
	if (r == 0) {
		layer_set_owner(layer, o->id);
		__atomic_store_n(&layer->stuck, &stream->stuck, __ATOMIC_RELAXED);
	}
	if (r == 0)
		r = meta_commit(p->meta, batch, META_SYNC, e);
	if (r < 0) {
		if (layer)
			layer_unref(p->map, layer);
		goto out;
	}
	family_add(&p->family, TAKE_PTR(member), o->layer->id, &old, 0);
	family_add_child(&p->family, o->layer->id, layer->id);
	layer_unref(p->map, o->layer);
	o->layer = layer;
	o->saved_parent_limit = CLUSTER_MAX;
	o->since_lsn = since;
	o->class = class;
	o->stream = stream;
	free(o->origins);
	o->origins = TAKE_PTR(origins);
	o->origin_count++;
	o->last_lsn = since;
	__atomic_store_n(&o->attr_dirty, true, __ATOMIC_RELEASE); /* the new layer needs its row */
out:
	free(origins);
	free(member);
	if (batch)
		meta_batch_free(p->meta, batch);
	return r;
}

static bool has_young(struct object *o)
{
	return __atomic_load_n(&o->attr_dirty, __ATOMIC_ACQUIRE) ||
	       __atomic_load_n(&o->last_lsn, __ATOMIC_ACQUIRE) >
		       __atomic_load_n(&o->stream->checkpoint_lsn, __ATOMIC_RELAXED);
}

void object_set_frozen(struct object *o, bool frozen)
{
	rwlock_write_lock(&o->gate);
	o->frozen = frozen;
	rwlock_write_unlock(&o->gate);
}

int object_set_class(struct object *o, enum object_class class, struct err *e)
{
	struct pool *p = o->pool;
	bool done = false;
	int r = 0;

	if (o->read_only)
		return err_set(e, -EROFS, "a snapshot does not change");
	mutex_lock(&p->checkpoint_lock);
	r = freeze_settle(p, o, e);
	/* With nothing young behind it the change is one record in the WAL, and LSNs of the old
	 * stream never meet the new layer. Writers wait without holding a place in the log, for a
	 * checkpoint waits for all places held; those that hold one may still publish once. */
	object_set_frozen(o, true);
	while (r == 0 && !done) {
		rwlock_write_lock(&o->gate);
		done = o->deleted || o->class == class || !has_young(o);
		if (o->deleted)
			r = err_set(e, -ESTALE, "object %" PRIu64 " was deleted", o->id);
		else if (o->class != class && __atomic_load_n(&o->stream->stuck, __ATOMIC_ACQUIRE))
			r = err_set(e, -EIO, "stream %u failed earlier", o->stream->id);
		else if (o->class != class && o->origin_count >= OBJECT_ORIGINS_MAX)
			r = err_set(e, -EMLINK, "object %" PRIu64 " changed class too often",
				    o->id);
		else if (o->class != class && done)
			r = change_class(o, class, e);
		rwlock_write_unlock(&o->gate);
		if (r == 0 && !done)
			r = pool_checkpoint_locked(p, e);
	}
	object_set_frozen(o, false);
	mutex_unlock(&p->checkpoint_lock);
	pool_made_room(p);
	return r;
}
