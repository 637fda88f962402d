/*
 * ns_attr - changing one inode: attributes, extended attributes; reading a symbolic link.
 */
#include "fs/ns_impl.h"

#include <string.h>

/* --- attributes -------------------------------------------------------------------------------- */

static int cut(struct ns *ns, uint64_t ino, uint64_t size_bytes, struct err *e)
{
	struct object *o;
	int r = ns_object_get(ns, ino, &o, e);

	if (r < 0)
		return r;
	r = size_bytes > OBJECT_BYTES_MAX ?
		    err_set(e, -EFBIG, "a size of %" PRIu64 " bytes", size_bytes) :
		    object_truncate(o, size_bytes, e);
	ns_object_put(ns, ino);
	return r;
}

/* From now on the row's mtime holds, until the object is written again. */
static int mark_mtime(struct ns *ns, struct ns_op_inode *i, int64_t mtime_ns, struct err *e)
{
	struct object_stat stat;
	struct object *o;
	int r;

	i->row.mtime_ns = mtime_ns;
	if (!S_ISREG(i->inode->type))
		return 0;
	r = object_open(ns->pool, i->inode->ino, &o, e);
	if (r < 0)
		return r;
	object_stat(o, &stat);
	object_close(o);
	i->row.mtime_stream = stat.stream;
	i->row.mtime_lsn = stat.last_lsn;
	i->row.mtime_object_ns = stat.mtime_ns;
	return 0;
}

static int set_locked(struct ns_op *op, struct ns_op_inode *i, const struct ns_setattr *set,
		      struct err *e)
{
	struct ns_inode_row *row = &i->row;
	int r = 0;

	if (set->valid & NS_SET_MODE)
		row->mode = (row->mode & S_IFMT) | (set->mode & 07777);
	if (set->valid & NS_SET_UID)
		row->uid = set->uid;
	if (set->valid & NS_SET_GID)
		row->gid = set->gid;
	if (set->valid & NS_SET_ATIME_NOW)
		row->atime_ns = op->now_ns;
	else if (set->valid & NS_SET_ATIME)
		row->atime_ns = set->atime_ns;
	if (set->valid & NS_SET_MTIME && !(set->valid & NS_SET_MTIME_NOW))
		r = mark_mtime(op->ns, i, set->mtime_ns, e);
	else if (set->valid & (NS_SET_MTIME_NOW | NS_SET_SIZE))
		r = mark_mtime(op->ns, i, op->now_ns, e);
	row->ctime_ns = set->valid & NS_SET_CTIME ? set->ctime_ns : op->now_ns;
	i->changed = true;
	return r == 0 ? ns_op_commit(op, e) : r;
}

int ns_setattr(struct ns *ns, uint64_t ino, const struct ns_setattr *set, struct ns_attr *ret_attr,
	       struct err *e)
{
	struct ns_op_inode *i;
	struct ns_op op;
	int r = ns_view_refuse(ino, e);

	if (r == 0)
		r = ns_op_begin(&op, ns, e);
	if (r < 0)
		return r;
	counter_inc(&ns->metrics.setattrs);
	r = ns_op_add(&op, ino, &i, e);
	/* It may wait for room in the log, so it comes before the lock. */
	if (r == 0 && set->valid & NS_SET_SIZE)
		r = cut(ns, ino, set->size_bytes, e);
	if (r == 0 && set->valid) {
		ns_op_lock(&op, 0);
		r = set_locked(&op, i, set, e);
	}
	if (r == 0 && ret_attr)
		r = ns_inode_attr_done(ns, i->inode, ret_attr, e);
	ns_op_end(&op);
	return r;
}

int ns_readlink(struct ns *ns, uint64_t ino, struct buf *out, struct err *e)
{
	struct ns_inode *i;
	int r = ns_inode_get(ns, ino, &i, e);

	if (r < 0)
		return r;
	buf_clear(out);
	if (!S_ISLNK(i->type))
		r = err_set(e, -EINVAL, "inode %" PRIu64 " is no symbolic link", ino);
	else if (buf_append(out, i->target, ns_inode_row(ns, i).target_bytes) < 0)
		r = err_set(e, -ENOMEM, "target");
	ns_inode_put(ns, i);
	return r;
}

/* --- extended attributes ----------------------------------------------------------------------- */

/* ACLs under system.* would be kept and not obeyed. */
static int check_name(const char *name, size_t *ret_bytes, struct err *e)
{
	size_t len = strlen(name);

	if (len == 0 || len > NS_NAME_MAX)
		return err_set(e, -ERANGE, "an attribute's name of %zu bytes", len);
	if (strncmp(name, "system.", 7) == 0)
		return err_set(e, -EOPNOTSUPP, "attribute '%s'", name);
	*ret_bytes = len;
	return 0;
}

/* The value's row into value, decoded. Errors: -ENODATA. */
static int find_xattr(struct ns *ns, const struct ns_key *key, struct buf *value,
		      const uint8_t **ret_data, size_t *ret_bytes, struct err *e)
{
	int r;

	buf_clear(value);
	r = names_get(ns->pool, key->bytes, key->len_bytes, value, e);
	if (r == -ENOENT)
		return err_set(e, -ENODATA, "no such attribute");
	return r < 0 ? r :
		       ns_xattr_row_decode(key->bytes, key->len_bytes, value->data,
					   value->len_bytes, ret_data, ret_bytes, e);
}

static int append_name(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		       size_t value_bytes)
{
	struct ns_key_parts parts;
	struct buf *out = arg;
	int r = ns_key_parse(key, key_bytes, &parts, NULL);

	(void)value;
	(void)value_bytes;
	if (r == 0)
		r = buf_append(out, parts.name, parts.name_bytes);
	return r == 0 ? buf_append(out, "", 1) : r;
}

static int append_names(struct ns *ns, uint64_t ino, struct buf *out, struct err *e)
{
	struct ns_key from = ns_key_ino(NS_ROW_XATTR, ino);
	struct ns_key until = ns_key_ino(NS_ROW_XATTR, ino + 1);
	int r = names_iterate(ns->pool, from.bytes, from.len_bytes, until.bytes, until.len_bytes,
			      append_name, out, e);

	return r < 0 ? err_because(e, r, "listing attributes of inode %" PRIu64, ino) : 0;
}

static int check_room(struct ns *ns, uint64_t ino, size_t name_bytes, struct err *e)
{
	AUTO(ns_buf_donep) struct buf names = { 0 };
	int r;

	buf_init(&names, 2 * (size_t)NS_XATTR_BYTES_MAX);
	r = append_names(ns, ino, &names, e);
	if (r == 0 && names.len_bytes + name_bytes + 1 > NS_XATTR_BYTES_MAX)
		return err_set(e, -ENOSPC, "too many attributes");
	return r;
}

static int set_xattr_locked(struct ns_op *op, struct ns_op_inode *i, const struct ns_key *key,
			    const struct buf *value, unsigned int flags, struct err *e)
{
	AUTO(ns_buf_donep) struct buf old = { 0 };
	const uint8_t *data;
	size_t bytes;
	int r;

	buf_init(&old, NS_ROW_BYTES_MAX);
	r = find_xattr(op->ns, key, &old, &data, &bytes, e);
	if (r == 0 && flags & NS_XATTR_CREATE)
		return err_set(e, -EEXIST, "the attribute is there");
	if (r < 0 && (r != -ENODATA || flags & NS_XATTR_REPLACE))
		return r;
	if (r == -ENODATA) {
		r = check_room(op->ns, i->inode->ino, key->len_bytes - 9, e);
		if (r < 0)
			return r;
		i->row.xattr_count++;
	}
	i->row.ctime_ns = op->now_ns;
	i->changed = true;
	r = names_put(op->batch, key->bytes, key->len_bytes, value->data, value->len_bytes);
	return r < 0 ? err_because(e, r, "attribute") : ns_op_commit(op, e);
}

int ns_xattr_set(struct ns *ns, uint64_t ino, const char *name, const void *value,
		 size_t value_bytes, unsigned int flags, struct err *e)
{
	AUTO(ns_buf_donep) struct buf row = { 0 };
	struct ns_op_inode *i;
	struct ns_key key;
	struct ns_op op;
	size_t len;
	int r = check_name(name, &len, e);

	buf_init(&row, NS_ROW_BYTES_MAX);
	if (r == 0)
		r = ns_view_refuse(ino, e);
	if (r < 0)
		return r;
	if (value_bytes > NS_XATTR_BYTES_MAX)
		return err_set(e, -E2BIG, "a value of %zu bytes", value_bytes);
	if ((flags & ~(unsigned int)(NS_XATTR_CREATE | NS_XATTR_REPLACE)) != 0 ||
	    flags == (NS_XATTR_CREATE | NS_XATTR_REPLACE))
		return err_set(e, -EINVAL, "flags %#x of an attribute", flags);
	key = ns_key_named(NS_ROW_XATTR, ino, name, len);
	r = ns_xattr_row_encode(&key, value, value_bytes, &row);
	if (r < 0)
		return err_because(e, r, "attribute");
	r = ns_op_begin(&op, ns, e);
	if (r < 0)
		return r;
	counter_inc(&ns->metrics.xattrs);
	r = ns_op_add(&op, ino, &i, e);
	if (r == 0) {
		ns_op_lock(&op, 0);
		r = set_xattr_locked(&op, i, &key, &row, flags, e);
	}
	ns_op_end(&op);
	return r;
}

int ns_xattr_get(struct ns *ns, uint64_t ino, const char *name, struct buf *out, struct err *e)
{
	AUTO(ns_buf_donep) struct buf row = { 0 };
	struct ns_inode_row inode;
	const uint8_t *data;
	struct ns_key key;
	size_t len, bytes;
	int r = check_name(name, &len, e);

	buf_init(&row, NS_ROW_BYTES_MAX);
	if (r == 0 && ns_is_view(ino))
		return err_set(e, -ENODATA, "no such attribute");
	if (r == 0)
		r = ns_peek_row(ns, ino, &inode, e);
	if (r < 0)
		return r;
	/* The kernel asks for some before every write. */
	if (inode.xattr_count == 0)
		return err_set(e, -ENODATA, "no such attribute");
	key = ns_key_named(NS_ROW_XATTR, ino, name, len);
	r = find_xattr(ns, &key, &row, &data, &bytes, e);
	if (r < 0)
		return r;
	buf_clear(out);
	r = buf_append(out, data, bytes);
	return r < 0 ? err_set(e, r, "a value of %zu bytes", bytes) : 0;
}

int ns_xattr_list(struct ns *ns, uint64_t ino, struct buf *out, struct err *e)
{
	struct ns_inode_row inode;
	int r;

	buf_clear(out);
	if (ns_is_view(ino))
		return 0;
	r = ns_peek_row(ns, ino, &inode, e);
	if (r < 0)
		return r;
	return inode.xattr_count == 0 ? 0 : append_names(ns, ino, out, e);
}

static int remove_xattr_locked(struct ns_op *op, struct ns_op_inode *i, const struct ns_key *key,
			       struct err *e)
{
	AUTO(ns_buf_donep) struct buf old = { 0 };
	const uint8_t *data;
	size_t bytes;
	int r;

	buf_init(&old, NS_ROW_BYTES_MAX);
	r = find_xattr(op->ns, key, &old, &data, &bytes, e);
	if (r == -EBADMSG || r == -EUCLEAN) /* a damaged one can go */
		r = 0;
	if (r < 0)
		return r;
	if (i->row.xattr_count > 0)
		i->row.xattr_count--;
	i->row.ctime_ns = op->now_ns;
	i->changed = true;
	r = names_delete(op->batch, key->bytes, key->len_bytes);
	return r < 0 ? err_because(e, r, "attribute") : ns_op_commit(op, e);
}

int ns_xattr_remove(struct ns *ns, uint64_t ino, const char *name, struct err *e)
{
	struct ns_op_inode *i;
	struct ns_key key;
	struct ns_op op;
	size_t len;
	int r = check_name(name, &len, e);

	if (r == 0)
		r = ns_view_refuse(ino, e);
	if (r == 0)
		r = ns_op_begin(&op, ns, e);
	if (r < 0)
		return r;
	counter_inc(&ns->metrics.xattrs);
	key = ns_key_named(NS_ROW_XATTR, ino, name, len);
	r = ns_op_add(&op, ino, &i, e);
	if (r == 0) {
		ns_op_lock(&op, 0);
		r = remove_xattr_locked(&op, i, &key, e);
	}
	ns_op_end(&op);
	return r;
}

struct xattr_search {
	const char *name;
	size_t name_bytes;
	int (*fn)(void *arg, uint64_t ino, const void *value, size_t value_bytes);
	void *arg;
	struct err *e;
};

static int see_xattr(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		     size_t value_bytes)
{
	struct xattr_search *s = arg;
	struct ns_key_parts parts;
	const uint8_t *data;
	size_t bytes;
	int r = ns_key_parse(key, key_bytes, &parts, s->e);

	if (r < 0 || parts.name_bytes != s->name_bytes ||
	    memcmp(parts.name, s->name, s->name_bytes) != 0)
		return r;
	r = ns_xattr_row_decode(key, key_bytes, value, value_bytes, &data, &bytes, s->e);
	return r == 0 ? s->fn(s->arg, parts.ino, data, bytes) : r;
}

int ns_xattr_each(struct ns *ns, const char *name,
		  int (*fn)(void *arg, uint64_t ino, const void *value, size_t value_bytes),
		  void *arg, struct err *e)
{
	struct ns_key from = ns_key_ino(NS_ROW_XATTR, 0);
	struct ns_key until = ns_key_ino(NS_ROW_XATTR, UINT64_MAX);
	struct xattr_search s = { name, strlen(name), fn, arg, e };

	return names_iterate(ns->pool, from.bytes, from.len_bytes, until.bytes, until.len_bytes,
			     see_xattr, &s, e);
}
