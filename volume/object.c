#include "volume/object.h"

#include "common/log.h"
#include "volume/life_rows.h"

#include <stdlib.h>
#include <string.h>

/* Unreferenced clean objects kept in RAM. */
#define OBJECTS_IDLE_MAX 8192u
/* Layers of one object that a load follows. */
#define LAYERS_MAX 4096u

static void buf_donep(struct buf *b)
{
	buf_done(b);
}

/* --- streams ----------------------------------------------------------------------------------- */

struct stream *pool_stream(struct pool *p, uint32_t id)
{
	struct stream *s;

	GUARD(&p->objects_lock);
	HASH_FIND(hh, p->streams, &id, sizeof(id), s);
	return s;
}

int pool_stream_add(struct pool *p, uint32_t id, uint32_t class, uint64_t owner,
		    struct stream **ret_stream, struct err *e)
{
	struct stream *s = malloc(sizeof(*s));

	if (!s)
		return err_set(e, -ENOMEM, "stream");
	stream_init(s, &p->world, id, class, owner);
	GUARD(&p->objects_lock);
	HASH_ADD(hh, p->streams, id, sizeof(s->id), s);
	if (!HASH_TOOK(s)) {
		stream_done(s);
		free(s);
		return err_set(e, -ENOMEM, "stream");
	}
	*ret_stream = s;
	return 0;
}

void pool_stream_retire(struct pool *p, struct stream *s)
{
	GUARD(&p->objects_lock);
	HASH_DEL(p->streams, s);
	s->next_retired = p->retired;
	p->retired = s;
}

int pool_streams(struct pool *p, struct stream ***ret_streams, size_t *ret_count)
{
	struct stream *s, *next, **list;
	size_t count = 0;

	GUARD(&p->objects_lock);
	list = calloc(HASH_COUNT(p->streams) + 1, sizeof(struct stream *));
	if (!list)
		return -ENOMEM;
	HASH_ITER (hh, p->streams, s, next)
		list[count++] = s;
	*ret_streams = list;
	*ret_count = count;
	return 0;
}

static int by_id(const void *a, const void *b)
{
	const struct stream *x = *(struct stream *const *)a, *y = *(struct stream *const *)b;

	return x->id < y->id ? -1 : x->id > y->id;
}

void stream_sort(struct stream **list, size_t count)
{
	if (count)
		qsort(list, count, sizeof(struct stream *), by_id);
}

/* --- loading ----------------------------------------------------------------------------------- */

static void object_free(struct object *o)
{
	if (o->layer)
		layer_unref(o->pool->map, o->layer);
	if (o->pinned_layer && family_unpin(&o->pool->family, o->pinned_layer))
		job_kick(&o->pool->merger);
	free(o->origins);
	rwlock_done(&o->gate);
	free(o);
}

static int load_chain(struct pool *p, uint64_t id, struct layer_row *ret_row,
		      struct layer **ret_layer, struct err *e)
{
	uint64_t *ids = calloc(LAYERS_MAX, sizeof(*ids));
	struct layer_row *rows = calloc(LAYERS_MAX, sizeof(*rows));
	struct layer *layer = NULL;
	unsigned int count = 0;
	int r = ids && rows ? 0 : err_set(e, -ENOMEM, "layers");

	for (; r == 0 && id != 0; id = rows[count - 1].parent) {
		if (count == LAYERS_MAX) {
			r = err_set(e, -EUCLEAN, "layer %" PRIu64 " has too many below it", ids[0]);
			break;
		}
		ids[count] = id;
		r = life_get_layer(p, id, &rows[count++], e);
	}
	for (unsigned int i = count; r == 0 && i-- > 0;) {
		struct layer *child;

		r = map_layer_new(p->map, ids[i], layer, rows[i].parent_limit_clusters,
				  rows[i].parent_origin_base, &child);
		if (layer)
			layer_unref(p->map, layer);
		layer = r == 0 ? child : NULL;
		if (layer)
			layer_set_owner(layer, rows[i].object);
	}
	if (r < 0 && layer)
		layer_unref(p->map, layer);
	if (r == 0) {
		*ret_row = rows[0];
		*ret_layer = layer;
	}
	free(ids);
	free(rows);
	return r;
}

int object_chain_of(struct pool *p, uint64_t id, struct layer_row *ret_row,
		    struct layer **ret_layer, struct err *e)
{
	int r;

	map_chain_hold(p->map);
	r = load_chain(p, id, ret_row, ret_layer, e);
	map_chain_release(p->map);
	return r;
}

static int load_layers(struct object *o, uint64_t live, struct err *e)
{
	struct layer_row row;
	int r = load_chain(o->pool, live, &row, &o->layer, e);

	if (r < 0)
		return err_wrap(e, r, "object %" PRIu64, o->id);
	/* Of a restore it may be younger than the map: have its clusters counted anew. */
	o->saved_parent_limit = o->pool->restoring ? CLUSTER_MAX : row.parent_limit_clusters;
	if (row.mark_stream == o->stream->id)
		o->since_lsn = row.mark;
	return 0;
}

/* The state row of a layer, or of the nearest ancestor that has one; whose it is. */
static int find_state(struct pool *p, const struct layer *l, struct object_state_row *ret_row,
		      const struct layer **ret_layer, struct err *e)
{
	AUTO(buf_donep) struct buf value;
	int r = -ENOENT;

	buf_init(&value, 4096);
	for (; l && r == -ENOENT; l = l->parent) {
		struct row_key key = row_key_u64(ROW_OBJECT_STATE, l->id);

		r = meta_get(p->meta, META_STATE, &key, &value, e);
		if (r == 0)
			r = object_state_row_decode(value.data, value.len_bytes, ret_row, e);
		if (r == 0)
			*ret_layer = l;
	}
	return r;
}

int object_state_of(struct pool *p, const struct layer *l, struct object_state_row *ret_row,
		    struct err *e)
{
	const struct layer *whose;
	int r;

	*ret_row = (struct object_state_row){ 0 };
	map_chain_hold(p->map);
	r = find_state(p, l, ret_row, &whose, e);
	map_chain_release(p->map);
	return r == -ENOENT ? 0 : r;
}

/* The state row of the live layer, or of the nearest ancestor that has one. */
static int load_state(struct object *o, struct err *e)
{
	struct object_state_row row;
	const struct layer *whose;
	int r = find_state(o->pool, o->layer, &row, &whose, e);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return err_wrap(e, r, "state of object %" PRIu64, o->id);
	o->size_bytes = row.size_bytes;
	o->mtime_ns = row.mtime_ns;
	o->mapped_clusters = row.mapped_clusters;
	if (whose == o->layer) /* LSNs of another layer may be of another stream */
		o->row_lsn = row.lsn;
	/* A layer that nothing was written to yet begins where the one below it, or what it gave up,
	 * ended: marks that are taken now must not lie before that. */
	o->last_lsn = max_u64(o->row_lsn, o->since_lsn);
	return 0;
}

static int object_load(struct pool *p, uint64_t id, struct object **ret_object, struct err *e)
{
	struct object_row row = { 0 };
	struct object *o;
	int r = life_get_object(p, id, &row, e);

	if (r < 0)
		return r;
	o = calloc(1, sizeof(*o));
	if (!o || row.origin_count == 0) {
		free(o);
		object_row_done(&row);
		return err_set(e, o ? -EUCLEAN : -ENOMEM, "object %" PRIu64, id);
	}
	o->pool = p;
	o->id = id;
	o->class = (enum object_class)row.class;
	o->template = row.flags & OBJECT_TEMPLATE;
	o->origin_count = row.origin_count;
	o->origins = row.origins; /* taken over */
	rwlock_init(&o->gate, 0); /* unranked: a batch of names closes several, by number */
	o->stream = pool_stream(p, o->origins[0].stream);
	map_chain_hold(p->map);
	r = o->stream ? load_layers(o, row.live_layer, e) :
			err_set(e, -EUCLEAN, "object %" PRIu64 " has no stream", id);
	if (r == 0)
		__atomic_store_n(&o->layer->stuck, &o->stream->stuck, __ATOMIC_RELAXED);
	if (r == 0)
		r = load_state(o, e);
	map_chain_release(p->map);
	if (r < 0) {
		object_free(o);
		return r;
	}
	*ret_object = o;
	return 0;
}

static struct object *find_locked(struct pool *p, uint64_t id)
{
	struct object *o;

	HASH_FIND(hh, p->objects, &id, sizeof(id), o);
	if (o)
		o->refs++;
	return o;
}

int object_get(struct pool *p, uint64_t id, struct object **ret_object, struct err *e)
{
	struct object *o, *found;
	bool took = true;
	int r;

	mutex_lock(&p->objects_lock);
	o = find_locked(p, id);
	mutex_unlock(&p->objects_lock);
	if (!o) {
		r = object_load(p, id, &o, e);
		if (r < 0)
			return r;
		mutex_lock(&p->objects_lock);
		found = find_locked(p, id);
		if (!found) {
			o->refs = 1;
			HASH_ADD(hh, p->objects, id, sizeof(o->id), o);
			took = HASH_TOOK(o);
		}
		mutex_unlock(&p->objects_lock);
		if (found) { /* somebody loaded it at the same time */
			object_free(o);
			o = found;
		}
		if (!took) {
			object_free(o);
			return err_set(e, -ENOMEM, "object %" PRIu64, id);
		}
	}
	*ret_object = o;
	return 0;
}

int object_open(struct pool *p, uint64_t id, struct object **ret_object, struct err *e)
{
	struct object *o;
	bool deleted;
	int r;

	r = object_get(p, id, &o, e);
	if (r < 0)
		return r;
	rwlock_read_lock(&o->gate);
	deleted = o->deleted;
	rwlock_read_unlock(&o->gate);
	if (deleted) {
		object_put(o);
		return err_set(e, -ENOENT, "no object %" PRIu64, id);
	}
	*ret_object = o;
	return 0;
}

void object_put(struct object *o)
{
	struct pool *p = o->pool;
	bool gone;

	mutex_lock(&p->objects_lock);
	ASSERT(o->refs > 0);
	o->refs--;
	gone = o->refs == 0 && (o->deleted || o->read_only);
	if (gone && !o->read_only)
		HASH_DEL(p->objects, o);
	mutex_unlock(&p->objects_lock);
	if (gone)
		object_free(o);
}

void object_close(struct object *o)
{
	if (o)
		object_put(o);
}

void objects_trim(struct pool *p)
{
	struct object *o, *next, *list = NULL;

	mutex_lock(&p->objects_lock);
	if (HASH_COUNT(p->objects) > OBJECTS_IDLE_MAX)
		HASH_ITER (hh, p->objects, o, next) {
			if (o->refs > 0 || __atomic_load_n(&o->attr_dirty, __ATOMIC_ACQUIRE))
				continue;
			HASH_DEL(p->objects, o);
			o->hh.next = list;
			list = o;
		}
	mutex_unlock(&p->objects_lock);
	while (list) {
		o = list;
		list = o->hh.next;
		object_free(o);
	}
}

void objects_free_all(struct pool *p)
{
	struct object *o, *next;
	struct stream *s, *next_stream;

	HASH_ITER (hh, p->objects, o, next) {
		ASSERT(o->refs == 0);
		HASH_DEL(p->objects, o);
		object_free(o);
	}
	HASH_ITER (hh, p->streams, s, next_stream) {
		HASH_DEL(p->streams, s);
		stream_done(s);
		free(s);
	}
	while ((s = p->retired)) {
		p->retired = s->next_retired;
		stream_done(s);
		free(s);
	}
}

int objects_dirty(struct pool *p, struct object ***ret_objects, size_t *ret_count)
{
	struct object *o, *next, **list;
	size_t count = 0;

	GUARD(&p->objects_lock);
	list = calloc(HASH_COUNT(p->objects) + 1, sizeof(struct object *));
	if (!list)
		return -ENOMEM;
	HASH_ITER (hh, p->objects, o, next) {
		if (!__atomic_load_n(&o->attr_dirty, __ATOMIC_ACQUIRE))
			continue;
		o->refs++;
		list[count++] = o;
	}
	*ret_objects = list;
	*ret_count = count;
	return 0;
}

/* --- attributes -------------------------------------------------------------------------------- */

void object_note_entry(struct object *o, const struct log_entry *entry)
{
	uint64_t size = __atomic_load_n(&o->size_bytes, __ATOMIC_RELAXED);
	lsn_t last = __atomic_load_n(&o->last_lsn, __ATOMIC_RELAXED);

	if (entry->kind == ENTRY_TRUNCATE || entry->kind == ENTRY_ATTR)
		__atomic_store_n(&o->size_bytes, entry->size_bytes, __ATOMIC_RELEASE);
	else
		while (size < entry->size_bytes &&
		       !__atomic_compare_exchange_n(&o->size_bytes, &size, entry->size_bytes, true,
						    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
			continue;
	while (last < entry->lsn &&
	       !__atomic_compare_exchange_n(&o->last_lsn, &last, entry->lsn, true, __ATOMIC_ACQ_REL,
					    __ATOMIC_RELAXED))
		continue;
	__atomic_store_n(&o->mtime_ns, entry->mtime_ns, __ATOMIC_RELAXED);
	__atomic_store_n(&o->attr_dirty, true, __ATOMIC_RELEASE);
}

void object_stat(struct object *o, struct object_stat *ret_stat)
{
	rwlock_read_lock(&o->gate);
	*ret_stat = (struct object_stat){
		.id = o->id,
		.class = o->class,
		.template = o->template,
		.size_bytes = __atomic_load_n(&o->size_bytes, __ATOMIC_ACQUIRE),
		.allocated_bytes =
			__atomic_load_n(&o->mapped_clusters, __ATOMIC_RELAXED) * CLUSTER_BYTES,
		.mtime_ns = __atomic_load_n(&o->mtime_ns, __ATOMIC_RELAXED),
		.stream = o->stream->id,
		.last_lsn = __atomic_load_n(&o->last_lsn, __ATOMIC_ACQUIRE),
	};
	rwlock_read_unlock(&o->gate);
}

int object_sync(struct object *o, struct err *e)
{
	struct pool *p = o->pool;
	uint64_t start_ns = clock_mono_ns();
	struct stream *stream;
	lsn_t lsn;
	int r = 0;

	rwlock_read_lock(&o->gate);
	stream = o->stream;
	lsn = __atomic_load_n(&o->last_lsn, __ATOMIC_ACQUIRE);
	rwlock_read_unlock(&o->gate);
	/* Marks that it inherits were made durable by the class change itself. */
	r = stream_sync(stream, lsn, e);
	if (r == 0 && !MUTANT(MUTANT_NO_WAL_SYNC))
		r = meta_sync(p->meta, e);
	if (r == 0) {
		counter_inc(&p->metrics.syncs);
		histogram_record(&p->metrics.sync_ns, clock_mono_ns() - start_ns);
	}
	return r;
}

int pool_sync_names(struct pool *p, struct err *e)
{
	return meta_sync(p->meta, e);
}

/* --- listing ----------------------------------------------------------------------------------- */

struct id_list {
	uint64_t *ids;
	size_t count, cap;
};

static int list_one(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		    size_t value_bytes)
{
	struct id_list *l = arg;
	uint64_t id;

	(void)value;
	(void)value_bytes;
	if (row_key_parse_u64(key, key_bytes, ROW_OBJECT, &id) < 0)
		return -EUCLEAN;
	if (l->count == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 64;
		uint64_t *ids = reallocarray(l->ids, cap, sizeof(*ids));

		if (!ids)
			return -ENOMEM;
		l->ids = ids;
		l->cap = cap;
	}
	l->ids[l->count++] = id;
	return 0;
}

int pool_list_objects(struct pool *p, uint64_t **ret_ids, size_t *ret_count, struct err *e)
{
	struct row_key from = row_key_u64(ROW_OBJECT, 0);
	struct row_key until = row_key_u64(ROW_OBJECT, UINT64_MAX);
	struct id_list l = { 0 };
	int r;

	r = meta_iterate(p->meta, META_NAMES, &from, &until, list_one, &l, e);
	if (r < 0) {
		free(l.ids);
		return err_wrap(e, r, "listing objects");
	}
	*ret_ids = l.ids;
	*ret_count = l.count;
	return 0;
}
