#include "common/log.h"
#include "fs/ns_impl.h"

#include <stdlib.h>
#include <string.h>

/* --- memory ------------------------------------------------------------------------------------ */

struct ns_inode *ns_inode_new(uint64_t ino, const struct ns_inode_row *row)
{
	struct ns_inode *i = calloc(1, sizeof(*i));

	if (!i)
		return NULL;
	i->ino = ino;
	i->type = row->mode & S_IFMT;
	i->row = *row;
	if (row->target) {
		i->target = malloc(row->target_bytes);
		if (!i->target) {
			free(i);
			return NULL;
		}
		memcpy(i->target, row->target, row->target_bytes);
		i->row.target = i->target;
	}
	return i;
}

void ns_inode_free(struct ns_inode *i)
{
	if (!i)
		return;
	ASSERT(!i->object);
	free(i->target);
	free(i);
}

/* --- table ------------------------------------------------------------------------------------- */

static struct ns_inode *find_locked(struct ns_shard *s, uint64_t ino)
{
	struct ns_inode *i;

	HASH_FIND(hh, s->inodes, &ino, sizeof(ino), i);
	return i;
}

void ns_inode_publish(struct ns *ns, struct ns_inode *i)
{
	struct ns_shard *s = ns_shard_of(ns, i->ino);

	GUARD(&s->lock);
	ASSERT(!find_locked(s, i->ino));
	i->pins = 1;
	for (;;) {
		HASH_ADD(hh, s->inodes, ino, sizeof(i->ino), i);
		if (HASH_TOOK(i))
			break;
		await_memory(&s->lock);
	}
	gauge_add(&ns->metrics.inodes, 1);
}

static void remove_locked(struct ns *ns, struct ns_shard *s, struct ns_inode *i)
{
	HASH_DEL(s->inodes, i);
	gauge_add(&ns->metrics.inodes, -1);
}

/*
 * After a power cut the log may end before the point at which an mtime was set explicitly. LSNs are
 * then given out again, and the mtime would hold against writes that are younger: it now ends here.
 */
static void cut_mtime_mark(struct ns *ns, uint64_t ino, struct ns_inode_row *row)
{
	struct names_batch *b = NULL;
	struct object *o;
	struct object_stat stat;

	if (!S_ISREG(row->mode) || row->mtime_lsn == 0 || object_open(ns->pool, ino, &o, NULL) < 0)
		return;
	object_stat(o, &stat);
	object_close(o);
	if (stat.stream != row->mtime_stream || stat.last_lsn >= row->mtime_lsn)
		return;
	row->mtime_lsn = stat.last_lsn;
	b = names_batch_new(ns->pool);
	if (b && (ns_put_inode_row(b, ino, row, NULL) < 0 || names_commit(b, NULL) < 0))
		log_debug("fs: time of a file not corrected: ino=%" PRIu64, ino);
	names_batch_free(b);
}

/* The inode, pinned, from the table or its row. Stripe held. */
static int load_striped(struct ns *ns, uint64_t ino, struct ns_inode **ret_inode, struct err *e)
{
	struct ns_key key = ns_key_ino(NS_ROW_INODE, ino);
	struct ns_shard *s = ns_shard_of(ns, ino);
	AUTO(ns_buf_donep) struct buf value = { 0 };
	struct ns_inode_row row;
	bool trashed = false;
	struct ns_inode *i;
	int r;

	mutex_lock(&s->lock);
	i = find_locked(s, ino);
	if (i) {
		ASSERT(i->state == NS_LIVE); /* who removes it holds the stripe */
		i->pins++;
	}
	mutex_unlock(&s->lock);
	if (i) {
		*ret_inode = i;
		return 0;
	}
	buf_init(&value, NS_ROW_BYTES_MAX);
	r = names_get(ns->pool, key.bytes, key.len_bytes, &value, e);
	if (r == -ENOENT)
		return err_set(e, -ESTALE, "no inode %" PRIu64, ino);
	if (r == 0)
		r = ns_inode_row_decode(key.bytes, key.len_bytes, value.data, value.len_bytes, &row,
					e);
	if (r < 0)
		return err_wrap(e, r, "inode %" PRIu64, ino);
	cut_mtime_mark(ns, ino, &row);
	r = row.nlink == 0 ? ns_trash_has(ns, ino, &trashed, e) : 0;
	if (r < 0)
		return r;
	i = ns_inode_new(ino, &row);
	if (!i)
		return err_set(e, -ENOMEM, "inode %" PRIu64, ino);
	i->trashed = trashed;
	i->inherited = ns->resumed;
	ns_inode_publish(ns, i);
	*ret_inode = i;
	return 0;
}

int ns_inode_get(struct ns *ns, uint64_t ino, struct ns_inode **ret_inode, struct err *e)
{
	struct ns_shard *s = ns_shard_of(ns, ino);
	struct ns_inode *i;
	int r;

	mutex_lock(&s->lock);
	i = find_locked(s, ino);
	if (i && i->state != NS_LIVE)
		i = NULL;
	if (i)
		i->pins++;
	mutex_unlock(&s->lock);
	if (i) {
		*ret_inode = i;
		return 0;
	}
	/* Also the wait for the end of one that is DYING. */
	mutex_lock(&ns->stripes[ns_stripe_of(ino)]);
	r = load_striped(ns, ino, ret_inode, e);
	mutex_unlock(&ns->stripes[ns_stripe_of(ino)]);
	return r;
}

/* Nobody but the caller's pin seems left: remove it for good. -EAGAIN: somebody came. */
static int reclaim(struct ns *ns, struct ns_inode *i)
{
	struct ns_key orphan = ns_key_ino(NS_ROW_ORPHAN, i->ino);
	struct err why = { .message = "no memory" };
	struct names_batch *b;
	int r = -ENOMEM;

	GUARD(&ns->stripes[ns_stripe_of(i->ino)]);
	if (!ns_inode_kill(ns, i))
		return -EAGAIN;
	b = names_batch_new(ns->pool);
	if (b)
		r = ns_delete_inode(ns, b, i->ino, &i->row, &why);
	if (r == 0)
		r = names_delete(b, orphan.bytes, orphan.len_bytes);
	if (r == 0)
		r = names_commit(b, &why);
	names_batch_free(b);
	ns_inode_died(ns, i, r == 0);
	if (r == 0)
		counter_inc(&ns->metrics.reclaims);
	else
		log_warning("fs: space of a removed file comes back at the next start: ino=%" PRIu64
			    ": %s",
			    i->ino, why.message);
	return r;
}

static bool only_pinned_locked(const struct ns_inode *i)
{
	return i->state == NS_LIVE && i->pins == 1 && i->nlookup == 0 && i->handles == 0 &&
	       !i->inherited;
}

/* An orphan that the kernel may hold from before: in the table, so that its FORGET finds it. */
static bool is_inherited_orphan(const struct ns_inode *i)
{
	return i->inherited && i->row.nlink == 0 && i->state == NS_LIVE;
}

void ns_inode_put(struct ns *ns, struct ns_inode *i)
{
	struct ns_shard *s = ns_shard_of(ns, i->ino);
	bool last, may_reclaim = true;

	mutex_lock(&s->lock);
	ASSERT(i->pins > 0);
	while (may_reclaim && i->row.nlink == 0 && !i->trashed && only_pinned_locked(i)) {
		mutex_unlock(&s->lock);
		may_reclaim = reclaim(ns, i) == -EAGAIN;
		mutex_lock(&s->lock);
	}
	i->pins--;
	last = i->pins == 0 && i->nlookup == 0 && i->handles == 0 && !is_inherited_orphan(i);
	if (last && i->state != NS_GONE)
		remove_locked(ns, s, i);
	mutex_unlock(&s->lock);
	if (last)
		ns_inode_free(i);
}

bool ns_inode_kill(struct ns *ns, struct ns_inode *i)
{
	bool alone;

	GUARD(&ns_shard_of(ns, i->ino)->lock);
	alone = only_pinned_locked(i);
	if (alone)
		i->state = NS_DYING;
	return alone;
}

void ns_inode_died(struct ns *ns, struct ns_inode *i, bool gone)
{
	struct ns_shard *s = ns_shard_of(ns, i->ino);

	GUARD(&s->lock);
	ASSERT(i->state == NS_DYING);
	i->state = gone ? NS_GONE : NS_LIVE;
	if (gone)
		remove_locked(ns, s, i);
}

struct ns_inode_row ns_inode_row(struct ns *ns, struct ns_inode *i)
{
	GUARD(&ns_shard_of(ns, i->ino)->lock);
	return i->row;
}

void ns_inode_set_row(struct ns *ns, struct ns_inode *i, const struct ns_inode_row *row)
{
	GUARD(&ns_shard_of(ns, i->ino)->lock);
	i->row = *row;
}

void ns_inode_set_trashed(struct ns *ns, struct ns_inode *i, bool trashed)
{
	GUARD(&ns_shard_of(ns, i->ino)->lock);
	i->trashed = trashed;
}

bool ns_inode_is_put_away(struct ns *ns, struct ns_inode *i)
{
	GUARD(&ns_shard_of(ns, i->ino)->lock);
	return i->trashed && i->nlookup == 0 && i->handles == 0 && !i->inherited;
}

void ns_inode_count_lookup(struct ns *ns, struct ns_inode *i)
{
	GUARD(&ns_shard_of(ns, i->ino)->lock);
	i->nlookup++;
}

void ns_inodes_drop_all(struct ns *ns)
{
	for (unsigned int n = 0; n < NS_SHARDS; n++) {
		struct ns_inode *i, *next;

		HASH_ITER (hh, ns->shards[n].inodes, i, next) {
			HASH_DEL(ns->shards[n].inodes, i);
			object_close(TAKE_PTR(i->object));
			ns_inode_free(i);
		}
	}
}

/* --- attributes -------------------------------------------------------------------------------- */

bool ns_row_mtime_rules(const struct ns_inode_row *row, const struct object_stat *stat)
{
	return stat->mtime_ns == 0 || stat->mtime_ns == row->mtime_object_ns ||
	       (stat->stream == row->mtime_stream && stat->last_lsn <= row->mtime_lsn);
}

static int add_object(struct ns *ns, const struct ns_inode_row *row, struct ns_attr *attr,
		      struct err *e)
{
	struct object_stat stat;
	struct object *o;
	int r = object_open(ns->pool, attr->ino, &o, e);

	if (r == -ENOENT)
		return err_set(e, -EUCLEAN, "inode %" PRIu64 " has lost its object", attr->ino);
	if (r < 0)
		return r;
	object_stat(o, &stat);
	object_close(o);
	attr->size_bytes = stat.size_bytes;
	attr->allocated_bytes = stat.allocated_bytes;
	attr->class = stat.class;
	attr->template = stat.template;
	if (!ns_row_mtime_rules(row, &stat)) {
		attr->mtime_ns = stat.mtime_ns;
		if (attr->ctime_ns < stat.mtime_ns)
			attr->ctime_ns = stat.mtime_ns;
	}
	return 0;
}

int ns_inode_attr(struct ns *ns, struct ns_inode *i, struct ns_attr *ret_attr, struct err *e)
{
	struct ns_inode_row row = ns_inode_row(ns, i);
	struct ns_attr attr = {
		.ino = i->ino,
		.mode = row.mode,
		.nlink = row.nlink,
		.uid = row.uid,
		.gid = row.gid,
		.rdev = row.rdev,
		.atime_ns = row.atime_ns,
		.mtime_ns = row.mtime_ns,
		.ctime_ns = row.ctime_ns,
		.crtime_ns = row.crtime_ns,
		.entries = row.entry_count,
	};
	int r = 0;

	if (S_ISREG(row.mode))
		r = add_object(ns, &row, &attr, e);
	else if (S_ISDIR(row.mode))
		attr.size_bytes = 4096;
	else
		attr.size_bytes = row.target_bytes;
	if (r == 0)
		*ret_attr = attr;
	return r;
}

int ns_inode_attr_done(struct ns *ns, struct ns_inode *i, struct ns_attr *ret_attr, struct err *e)
{
	struct mutex alone;
	int r;

	mutex_init(&alone, 0);
	mutex_lock(&alone);
	while ((r = ns_inode_attr(ns, i, ret_attr, e)) == -ENOMEM)
		await_memory(&alone);
	mutex_unlock(&alone);
	mutex_done(&alone);
	return r;
}

int ns_getattr(struct ns *ns, uint64_t ino, struct ns_attr *ret_attr, struct err *e)
{
	struct ns_inode *i;
	int r;

	if (ns_is_view(ino))
		return ns_view_getattr(ns, ino, ret_attr, e);
	r = ns_inode_get(ns, ino, &i, e);
	if (r < 0)
		return r;
	r = ns_inode_attr(ns, i, ret_attr, e);
	ns_inode_put(ns, i);
	return r;
}

int ns_peek_row(struct ns *ns, uint64_t ino, struct ns_inode_row *ret_row, struct err *e)
{
	struct ns_key key = ns_key_ino(NS_ROW_INODE, ino);
	struct ns_shard *s = ns_shard_of(ns, ino);
	AUTO(ns_buf_donep) struct buf value = { 0 };
	struct ns_inode *i;
	int r;

	mutex_lock(&s->lock);
	i = find_locked(s, ino);
	if (i)
		*ret_row = i->row;
	mutex_unlock(&s->lock);
	if (i) {
		ret_row->target = NULL;
		return 0;
	}
	buf_init(&value, NS_ROW_BYTES_MAX);
	r = names_get(ns->pool, key.bytes, key.len_bytes, &value, e);
	if (r == -ENOENT)
		return err_set(e, -ESTALE, "no inode %" PRIu64, ino);
	if (r == 0)
		r = ns_inode_row_decode(key.bytes, key.len_bytes, value.data, value.len_bytes,
					ret_row, e);
	if (r < 0)
		return err_wrap(e, r, "inode %" PRIu64, ino);
	ret_row->target = NULL;
	return 0;
}

/* --- look-ups ---------------------------------------------------------------------------------- */

void ns_forget(struct ns *ns, uint64_t ino, uint64_t count)
{
	struct ns_shard *s = ns_shard_of(ns, ino);
	bool ask = false;
	struct ns_inode *i;

	mutex_lock(&s->lock);
	i = find_locked(s, ino);
	if (i && i->nlookup == 0 && !is_inherited_orphan(i))
		i = NULL;
	if (i) {
		i->nlookup -= min_u64(count, i->nlookup);
		i->pins++;
		ask = is_inherited_orphan(i);
	}
	mutex_unlock(&s->lock);
	if (!i)
		return;
	if (ask && (!ns->is_held || !ns->is_held(ns->is_held_arg, ino)))
		ns_inode_disinherit(ns, i);
	ns_inode_put(ns, i);
}

void ns_inode_disinherit(struct ns *ns, struct ns_inode *i)
{
	GUARD(&ns_shard_of(ns, i->ino)->lock);
	i->inherited = false;
	i->nlookup = 0;
}

/* --- handles and objects ----------------------------------------------------------------------- */

/* One more use of the object of a pinned regular file, opening it if need be. */
static int use_object(struct ns *ns, struct ns_inode *i, struct object **ret_object, struct err *e)
{
	struct ns_shard *s = ns_shard_of(ns, i->ino);
	struct object *o = NULL, *opened = NULL;
	int r;

	for (;;) {
		mutex_lock(&s->lock);
		if (!i->object)
			i->object = TAKE_PTR(opened);
		o = i->object;
		if (o)
			i->object_uses++;
		mutex_unlock(&s->lock);
		if (o)
			break;
		r = object_open(ns->pool, i->ino, &opened, e);
		if (r == -ENOENT)
			return err_set(e, -EUCLEAN, "inode %" PRIu64 " has lost its object",
				       i->ino);
		if (r < 0)
			return r;
	}
	object_close(opened); /* somebody else was faster */
	*ret_object = o;
	return 0;
}

static void unuse_object(struct ns *ns, struct ns_inode *i)
{
	struct ns_shard *s = ns_shard_of(ns, i->ino);
	struct object *o = NULL;

	mutex_lock(&s->lock);
	ASSERT(i->object_uses > 0);
	i->object_uses--;
	if (i->object_uses == 0)
		o = TAKE_PTR(i->object);
	mutex_unlock(&s->lock);
	object_close(o);
}

int ns_handle_open(struct ns *ns, uint64_t ino, struct ns_attr *ret_attr, struct err *e)
{
	struct ns_attr attr;
	struct object *o;
	struct ns_inode *i;
	int r;

	if (ns_is_view(ino))
		return ns_view_handle_open(ns, ino, ret_attr, e);
	r = ns_inode_get(ns, ino, &i, e);
	if (r < 0)
		return r;
	r = ns_inode_attr(ns, i, &attr, e);
	if (r == 0 && !S_ISREG(i->type) && !S_ISDIR(i->type))
		r = err_set(e, -ENXIO, "inode %" PRIu64 " is neither file nor directory", ino);
	if (r == 0 && S_ISREG(i->type))
		r = use_object(ns, i, &o, e);
	if (r == 0) {
		mutex_lock(&ns_shard_of(ns, ino)->lock);
		i->handles++;
		mutex_unlock(&ns_shard_of(ns, ino)->lock);
		gauge_add(&ns->metrics.handles, 1);
		*ret_attr = attr;
	}
	ns_inode_put(ns, i);
	return r;
}

void ns_handle_release(struct ns *ns, uint64_t ino)
{
	struct ns_shard *s = ns_shard_of(ns, ino);
	struct ns_inode *i;

	if (ns_is_view(ino)) {
		ns_view_handle_release(ns, ino);
		return;
	}
	mutex_lock(&s->lock);
	i = find_locked(s, ino);
	if (i && i->handles == 0)
		i = NULL;
	if (i) {
		i->pins++;
		i->handles--;
	}
	mutex_unlock(&s->lock);
	if (!i)
		return;
	gauge_add(&ns->metrics.handles, -1);
	if (S_ISREG(i->type))
		unuse_object(ns, i);
	ns_inode_put(ns, i);
}

uint64_t ns_handle_count(struct ns *ns, uint64_t ino)
{
	const struct ns_inode *i;

	GUARD(&ns_shard_of(ns, ino)->lock);
	i = find_locked(ns_shard_of(ns, ino), ino);
	return i ? i->handles : 0;
}

int ns_object_get(struct ns *ns, uint64_t ino, struct object **ret_object, struct err *e)
{
	struct ns_inode *i;
	int r;

	if (ns_is_view(ino))
		return ns_view_object_get(ns, ino, ret_object, e);
	r = ns_inode_get(ns, ino, &i, e);
	if (r < 0)
		return r;
	if (S_ISREG(i->type))
		r = use_object(ns, i, ret_object, e);
	else if (S_ISDIR(i->type))
		r = err_set(e, -EISDIR, "inode %" PRIu64 " is a directory", ino);
	else
		r = err_set(e, -EINVAL, "inode %" PRIu64 " has no data", ino);
	if (r < 0)
		ns_inode_put(ns, i);
	return r;
}

void ns_object_put(struct ns *ns, uint64_t ino)
{
	struct ns_shard *s = ns_shard_of(ns, ino);
	struct ns_inode *i;

	if (ns_is_view(ino)) {
		ns_view_object_put(ns, ino);
		return;
	}
	mutex_lock(&s->lock);
	i = find_locked(s, ino); /* its use has pinned it */
	mutex_unlock(&s->lock);
	ASSERT(i);
	unuse_object(ns, i);
	ns_inode_put(ns, i);
}
