/*
 * snapshot - names on frozen layers: made, listed, changed, deleted, opened. How a layer is frozen is
 * freeze.c, what becomes of one that lost its name merge.c.
 */
#include "volume/snapshot_impl.h"

#include "volume/call.h"
#include "volume/freeze.h"
#include "volume/pool_life.h"

#include <stdlib.h>
#include <string.h>

static void buf_donep(struct buf *b)
{
	buf_done(b);
}

/* --- rows -------------------------------------------------------------------------------------- */

int snapshot_check_name(const char *name, struct err *e)
{
	size_t len = strlen(name);

	if (len > SNAPSHOT_NAME_MAX)
		return err_set(e, -ENAMETOOLONG, "a snapshot's name has at most %u bytes",
			       SNAPSHOT_NAME_MAX);
	if (!snapshot_name_is_sound(name, len))
		return err_set(e, -EINVAL, "'%s' is no name for a snapshot", name);
	return 0;
}

struct row_search {
	const char *name;
	struct err *e;
	uint64_t number; /* 0: not found */
};

static int see_name(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		    size_t value_bytes)
{
	struct row_search *s = arg;
	struct snapshot_row row;
	uint64_t object, number;
	int r;

	r = row_key_parse_2u64(key, key_bytes, ROW_SNAPSHOT, &object, &number);
	if (r == 0)
		r = snapshot_row_decode(value, value_bytes, &row, s->e);
	if (r == 0 && strlen(s->name) == row.name_bytes &&
	    memcmp(s->name, row.name, row.name_bytes) == 0)
		s->number = number;
	return r < 0 ? r : s->number != 0;
}

/* fn for each snapshot of an object, oldest first. */
static int each_row(struct pool *p, uint64_t object,
		    int (*fn)(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
			      size_t value_bytes),
		    void *arg, struct err *e)
{
	struct row_key from = row_key_2u64(ROW_SNAPSHOT, object, 0);
	struct row_key until = row_key_2u64(ROW_SNAPSHOT, object, UINT64_MAX);
	int r = meta_iterate(p->meta, META_NAMES, &from, &until, fn, arg, e);

	return r < 0 ? err_wrap(e, r, "snapshots of object %" PRIu64, object) : 0;
}

static int find_number(struct pool *p, uint64_t object, const char *name, uint64_t *ret_number,
		       struct err *e)
{
	struct row_search s = { .name = name, .e = e };
	int r = each_row(p, object, see_name, &s, e);

	if (r == 0 && s.number == 0)
		r = err_set(e, -ENOENT, "no snapshot '%s'", name);
	*ret_number = s.number;
	return r;
}

int snapshot_row_by_name(struct pool *p, uint64_t object, const char *name, uint64_t *ret_number,
			 struct snapshot_row *ret_row, struct buf *value, struct err *e)
{
	struct row_key key;
	int r = find_number(p, object, name, ret_number, e);

	if (r < 0)
		return r;
	key = row_key_2u64(ROW_SNAPSHOT, object, *ret_number);
	buf_clear(value);
	r = meta_get(p->meta, META_NAMES, &key, value, e);
	if (r == 0)
		r = snapshot_row_decode(value->data, value->len_bytes, ret_row, e);
	return r < 0 ? err_wrap(e, r, "snapshot '%s'", name) : 0;
}

static int see_sticky(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		      size_t value_bytes)
{
	struct snapshot_row row;
	int r = snapshot_row_decode(value, value_bytes, &row, NULL);

	(void)key;
	(void)key_bytes;
	if (r == 0 && row.flags & SNAPSHOT_STICKY)
		*(bool *)arg = true;
	return r;
}

int snapshots_refuse_deletion(struct pool *p, uint64_t object, struct err *e)
{
	bool sticky = false;
	int r = each_row(p, object, see_sticky, &sticky, e);

	if (r == 0 && sticky)
		r = err_set(e, -EPERM, "object %" PRIu64 " has a sticky snapshot", object);
	return r;
}

/* --- making ------------------------------------------------------------------------------------ */

static int check_wanted(struct pool *p, const struct snapshot_wanted *w, struct err *e)
{
	uint64_t number;
	int r = snapshot_check_name(w->name, e);

	if (r < 0)
		return r;
	if (w->object->read_only)
		return err_set(e, -EROFS, "a snapshot has no snapshots");
	if (w->comment && strlen(w->comment) > SNAPSHOT_COMMENT_MAX)
		return err_set(e, -EINVAL, "a comment has at most %u bytes", SNAPSHOT_COMMENT_MAX);
	r = find_number(p, w->object->id, w->name, &number, e);
	if (r == 0)
		return err_set(e, -EEXIST, "there is a snapshot '%s' already", w->name);
	return r == -ENOENT ? freeze_settle(p, w->object, e) : r;
}

static int prepare(struct pool *p, const struct snapshot_wanted *w, struct freeze **list,
		   struct err *e)
{
	struct freeze *f;
	int r = check_wanted(p, w, e);

	if (r == 0)
		r = freeze_new(w->object, &f, e);
	if (r < 0)
		return r;
	f->next = *list;
	*list = f;
	f->name = w->name;
	f->comment = w->comment;
	f->flags = w->sticky ? SNAPSHOT_STICKY : 0;
	f->created_ns = env_now_real_ns(p->env);
	return pool_new_number(p, COUNTER_SNAPSHOT, &f->snapshot, e);
}

int snapshots_announce(struct pool *p, struct err *e)
{
	return pool_add_feature(p, FEATURE_SNAPSHOTS, e);
}

int snapshot_create(struct pool *p, const struct snapshot_wanted *wanted, size_t count,
		    struct err *e)
{
	struct freeze *list = NULL;
	int r = count <= SNAPSHOT_GROUP_MAX ?
			0 :
			err_set(e, -E2BIG, "at most %u at once", SNAPSHOT_GROUP_MAX);

	CALL(p);
	GUARD(&p->checkpoint_lock);
	if (r == 0)
		r = snapshots_announce(p, e);
	for (size_t i = 0; i < count && r == 0; i++)
		r = prepare(p, &wanted[i], &list, e);
	if (r == 0 && list)
		return freeze_objects(p, list, e);
	while (list) {
		struct freeze *f = list;

		list = f->next;
		freeze_free(f);
	}
	return r;
}

/* --- listing ----------------------------------------------------------------------------------- */

struct listing {
	struct pool *pool;
	struct snapshot_info *list;
	size_t count, cap;
	uint64_t *layers;
	struct err *e;
};

void snapshot_info_done(struct snapshot_info *info)
{
	free(info->comment);
	info->comment = NULL;
}

void snapshot_list_free(struct snapshot_info *list, size_t count)
{
	for (size_t i = 0; i < count; i++)
		snapshot_info_done(&list[i]);
	free(list);
}

static int listing_grow(struct listing *l)
{
	size_t cap = l->cap ? 2 * l->cap : 16;
	struct snapshot_info *list = reallocarray(l->list, cap, sizeof(*list));
	uint64_t *layers;

	if (!list)
		return -ENOMEM;
	l->list = list;
	layers = reallocarray(l->layers, cap, sizeof(*layers));
	if (!layers)
		return -ENOMEM;
	l->layers = layers;
	l->cap = cap;
	return 0;
}

static int see_snapshot(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
			size_t value_bytes)
{
	struct listing *l = arg;
	struct snapshot_info info = { 0 };
	struct snapshot_row row;
	int r;

	r = row_key_parse_2u64(key, key_bytes, ROW_SNAPSHOT, &info.object, &info.number);
	if (r == 0)
		r = snapshot_row_decode(value, value_bytes, &row, l->e);
	if (r == 0 && l->count == l->cap)
		r = listing_grow(l);
	if (r < 0)
		return r;
	info.comment = row.comment_bytes ? strndup(row.comment, row.comment_bytes) : strdup("");
	if (!info.comment)
		return -ENOMEM;
	memcpy(info.name, row.name, row.name_bytes);
	info.created_ns = row.created_ns;
	info.size_bytes = row.size_bytes;
	info.sticky = row.flags & SNAPSHOT_STICKY;
	info.on_backend = __atomic_load_n(&l->pool->root_number, __ATOMIC_RELAXED) >= row.root;
	l->layers[l->count] = row.layer;
	l->list[l->count++] = info;
	return 0;
}

/* What the rows of its layer and its relations say. */
static int fill_in(struct pool *p, struct snapshot_info *info, uint64_t layer, struct err *e)
{
	struct row_key key = row_key_u64(ROW_OBJECT_STATE, layer);
	struct object_state_row state;
	struct family_member m;
	AUTO(buf_donep) struct buf value;
	int r;

	buf_init(&value, 4096);
	r = meta_get(p->meta, META_STATE, &key, &value, e);
	if (r == 0)
		r = object_state_row_decode(value.data, value.len_bytes, &state, e);
	if (r == -ENOENT) /* it goes just now */
		return 0;
	info->allocated_bytes = r == 0 ? state.mapped_clusters * CLUSTER_BYTES : 0;
	if (family_get(&p->family, layer, &m) && m.children)
		info->clones = m.children - 1;
	return r;
}

int snapshot_list(struct pool *p, uint64_t object, struct snapshot_info **ret_list,
		  size_t *ret_count, struct err *e)
{
	struct listing l = { .pool = p, .e = e };
	int r = each_row(p, object, see_snapshot, &l, e);

	for (size_t i = 0; i < l.count && r == 0; i++)
		r = fill_in(p, &l.list[i], l.layers[i], e);
	free(l.layers);
	if (r < 0) {
		snapshot_list_free(l.list, l.count);
		return r;
	}
	*ret_list = l.list;
	*ret_count = l.count;
	return 0;
}

static int count_one(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		     size_t value_bytes)
{
	(void)key;
	(void)key_bytes;
	(void)value;
	(void)value_bytes;
	++*(size_t *)arg;
	return 0;
}

size_t snapshot_count(struct pool *p, uint64_t object)
{
	size_t count = 0;

	return each_row(p, object, count_one, &count, NULL) < 0 ? 0 : count;
}

static int find_key(struct pool *p, uint64_t object, uint64_t number,
		    struct snapshot_info *ret_info, struct err *e)
{
	struct row_key key = row_key_2u64(ROW_SNAPSHOT, object, number);
	struct listing l = { .pool = p, .e = e };
	AUTO(buf_donep) struct buf value;
	int r;

	buf_init(&value, SNAPSHOT_ROW_BYTES_MAX);
	r = meta_get(p->meta, META_NAMES, &key, &value, e);
	if (r == 0)
		r = see_snapshot(&l, key.bytes, key.len_bytes, value.data, value.len_bytes);
	if (r == 0)
		r = fill_in(p, &l.list[0], l.layers[0], e);
	if (r == 0)
		*ret_info = l.list[0];
	else
		snapshot_list_free(TAKE_PTR(l.list), l.count);
	free(l.list);
	free(l.layers);
	return r;
}

int snapshot_find(struct pool *p, uint64_t object, const char *name, struct snapshot_info *ret_info,
		  struct err *e)
{
	uint64_t number;
	int r = find_number(p, object, name, &number, e);

	return r == 0 ? find_key(p, object, number, ret_info, e) : r;
}

int snapshot_find_of(struct pool *p, uint64_t object, uint64_t number,
		     struct snapshot_info *ret_info, struct err *e)
{
	int r = find_key(p, object, number, ret_info, e);

	return r == -ENOENT ? err_set(e, r, "no snapshot %" PRIu64, number) : r;
}

struct number_search {
	uint64_t number, object;
};

static int see_number(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		      size_t value_bytes)
{
	struct number_search *s = arg;
	uint64_t object, number;
	int r = row_key_parse_2u64(key, key_bytes, ROW_SNAPSHOT, &object, &number);

	(void)value;
	(void)value_bytes;
	if (r < 0 || number != s->number)
		return r;
	s->object = object;
	return 1;
}

int snapshot_find_number(struct pool *p, uint64_t number, struct snapshot_info *ret_info,
			 struct err *e)
{
	struct row_key from = row_key_2u64(ROW_SNAPSHOT, 0, 0);
	struct row_key until = row_key_2u64(ROW_SNAPSHOT, UINT64_MAX, UINT64_MAX);
	struct number_search s = { .number = number };
	int r = meta_iterate(p->meta, META_NAMES, &from, &until, see_number, &s, e);

	if (r == 0)
		return err_set(e, -ENOENT, "no snapshot %" PRIu64, number);
	return r < 0 ? r : snapshot_find_of(p, s.object, number, ret_info, e);
}

bool snapshot_is_now(struct object *o, uint64_t number)
{
	struct row_key key = row_key_2u64(ROW_SNAPSHOT, o->id, number);
	AUTO(buf_donep) struct buf value;
	struct family_member m;
	struct snapshot_row row;
	bool same;

	buf_init(&value, SNAPSHOT_ROW_BYTES_MAX);
	if (meta_get(o->pool->meta, META_NAMES, &key, &value, NULL) < 0 ||
	    snapshot_row_decode(value.data, value.len_bytes, &row, NULL) < 0 ||
	    !family_get(&o->pool->family, row.layer, &m))
		return false;
	rwlock_read_lock(&o->gate);
	same = m.row.mark_stream == o->stream->id &&
	       __atomic_load_n(&o->last_lsn, __ATOMIC_ACQUIRE) <= m.row.mark;
	rwlock_read_unlock(&o->gate);
	return same;
}

/* --- changing ---------------------------------------------------------------------------------- */

/* The row again with another name (NULL: as it is) and other flags. */
static int put_again(struct pool *p, uint64_t object, uint64_t number, struct snapshot_row *row,
		     struct err *e)
{
	struct meta_batch *names = meta_batch_new(p->meta, META_NAMES);
	int r = names ? life_put_snapshot(p, names, object, number, row) : -ENOMEM;

	if (r < 0)
		err_because(e, r, "changing a snapshot");
	else
		r = meta_commit(p->meta, names, META_SYNC, e);
	meta_batch_free(p->meta, names);
	return r;
}

int snapshot_rename(struct pool *p, uint64_t object, const char *name, const char *to,
		    struct err *e)
{
	AUTO(buf_donep) struct buf value;
	struct snapshot_row row;
	uint64_t number, other;
	int r = snapshot_check_name(to, e);

	buf_init(&value, SNAPSHOT_ROW_BYTES_MAX);
	CALL(p);
	GUARD(&p->checkpoint_lock);
	if (r == 0)
		r = snapshot_row_by_name(p, object, name, &number, &row, &value, e);
	if (r < 0 || strcmp(name, to) == 0)
		return r;
	r = find_number(p, object, to, &other, e);
	if (r == 0)
		return err_set(e, -EEXIST, "there is a snapshot '%s' already", to);
	if (r != -ENOENT)
		return r;
	row.name = to;
	row.name_bytes = (uint8_t)strlen(to);
	return put_again(p, object, number, &row, e);
}

int snapshot_set_sticky(struct pool *p, uint64_t object, const char *name, bool sticky,
			struct err *e)
{
	AUTO(buf_donep) struct buf value;
	struct snapshot_row row;
	uint64_t number;
	int r;

	buf_init(&value, SNAPSHOT_ROW_BYTES_MAX);
	CALL(p);
	GUARD(&p->checkpoint_lock);
	r = snapshot_row_by_name(p, object, name, &number, &row, &value, e);
	if (r < 0)
		return r;
	row.flags = sticky ? SNAPSHOT_STICKY : 0;
	return put_again(p, object, number, &row, e);
}

int snapshot_delete(struct pool *p, uint64_t object, const char *name, struct err *e)
{
	AUTO(buf_donep) struct buf value;
	struct meta_batch *names;
	struct snapshot_row row;
	struct row_key key;
	uint64_t number;
	int r;

	buf_init(&value, SNAPSHOT_ROW_BYTES_MAX);
	CALL(p);
	GUARD(&p->family.change_lock);
	r = snapshot_row_by_name(p, object, name, &number, &row, &value, e);
	if (r < 0)
		return r;
	names = meta_batch_new(p->meta, META_NAMES);
	key = row_key_2u64(ROW_SNAPSHOT, object, number);
	r = names ? meta_batch_delete(p->meta, names, &key) : -ENOMEM;
	if (r < 0)
		err_because(e, r, "deleting snapshot '%s'", name);
	else
		r = meta_commit(p->meta, names, META_SYNC, e);
	meta_batch_free(p->meta, names);
	if (r < 0)
		return r;
	family_set_snapshot(&p->family, row.layer, 0);
	job_kick(&p->merger);
	return 0;
}

/* --- opening ----------------------------------------------------------------------------------- */

static int open_layer(struct pool *p, uint64_t object, const struct snapshot_row *row,
		      struct object **ret_object, struct err *e)
{
	struct object *o = calloc(1, sizeof(*o));
	struct object_state_row state;
	struct layer_row layer;
	int r = o ? 0 : err_set(e, -ENOMEM, "opening a snapshot");

	if (r == 0)
		r = object_chain_of(p, row->layer, &layer, &o->layer, e);
	if (r == 0)
		r = object_state_of(p, o->layer, &state, e);
	if (r < 0) {
		if (o && o->layer)
			layer_unref(p->map, o->layer);
		free(o);
		return r;
	}
	o->pool = p;
	o->id = object;
	o->refs = 1;
	rwlock_init(&o->gate, 0);
	o->class = OBJECT_DISK;
	o->stream = pool_stream(p, STREAM_SHARED);
	o->read_only = true;
	o->size_bytes = row->size_bytes;
	o->mtime_ns = row->created_ns;
	o->mapped_clusters = state.mapped_clusters;
	o->pinned_layer = row->layer;
	*ret_object = o;
	return 0;
}

int snapshot_open(struct pool *p, uint64_t object, const char *name, struct object **ret_object,
		  struct err *e)
{
	AUTO(buf_donep) struct buf value;
	struct snapshot_row row;
	uint64_t number;
	int r;

	buf_init(&value, SNAPSHOT_ROW_BYTES_MAX);
	r = snapshot_row_by_name(p, object, name, &number, &row, &value, e);
	if (r == 0 && !family_pin(&p->family, row.layer))
		r = err_set(e, -ENOENT, "snapshot '%s' was just deleted", name);
	if (r < 0)
		return r;
	r = open_layer(p, object, &row, ret_object, e);
	if (r < 0 && family_unpin(&p->family, row.layer))
		job_kick(&p->merger);
	return r;
}
