#include "fs/ns_impl.h"

#include <string.h>

/* --- rows into a batch ------------------------------------------------------------------------- */

static int put_row(struct names_batch *b, const struct ns_key *key, const struct buf *value,
		   int encoded, struct err *e)
{
	int r = encoded < 0 ?
			encoded :
			names_put(b, key->bytes, key->len_bytes, value->data, value->len_bytes);

	return r < 0 ? err_because(e, r, "row of a name") : 0;
}

static int delete_row(struct names_batch *b, const struct ns_key *key, struct err *e)
{
	int r = names_delete(b, key->bytes, key->len_bytes);

	return r < 0 ? err_because(e, r, "row of a name") : 0;
}

int ns_put_inode_row(struct names_batch *b, uint64_t ino, const struct ns_inode_row *row,
		     struct err *e)
{
	struct ns_key key = ns_key_ino(NS_ROW_INODE, ino);
	AUTO(ns_buf_donep) struct buf value = { 0 };

	buf_init(&value, NS_ROW_BYTES_MAX);
	return put_row(b, &key, &value, ns_inode_row_encode(&key, row, &value), e);
}

int ns_put_entry(struct names_batch *b, const struct ns_name *name, uint64_t cookie, uint64_t ino,
		 uint32_t type, struct err *e)
{
	struct ns_key place = ns_key_entry(name->parent, cookie);
	struct ns_key key = ns_key_named(NS_ROW_NAME, name->parent, name->name, name->name_bytes);
	struct ns_name_row by_name = { .type = type, .ino = ino, .cookie = cookie };
	struct ns_entry_row by_place = {
		.type = type,
		.ino = ino,
		.name = name->name,
		.name_bytes = (uint8_t)name->name_bytes,
	};
	AUTO(ns_buf_donep) struct buf value = { 0 };
	int r;

	buf_init(&value, NS_ROW_BYTES_MAX);
	r = put_row(b, &place, &value, ns_entry_row_encode(&place, &by_place, &value), e);
	if (r == 0)
		r = put_row(b, &key, &value, ns_name_row_encode(&key, &by_name, &value), e);
	return r;
}

int ns_delete_entry(struct names_batch *b, const struct ns_name *name, uint64_t cookie,
		    struct err *e)
{
	struct ns_key place = ns_key_entry(name->parent, cookie);
	struct ns_key key = ns_key_named(NS_ROW_NAME, name->parent, name->name, name->name_bytes);
	int r = delete_row(b, &place, e);

	return r == 0 ? delete_row(b, &key, e) : r;
}

static int delete_xattr(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
			size_t value_bytes)
{
	(void)value;
	(void)value_bytes;
	return names_delete(arg, key, key_bytes);
}

int ns_delete_inode(struct ns *ns, struct names_batch *b, uint64_t ino,
		    const struct ns_inode_row *row, struct err *e)
{
	struct ns_key key = ns_key_ino(NS_ROW_INODE, ino);
	struct ns_key from = ns_key_ino(NS_ROW_XATTR, ino);
	struct ns_key until = ns_key_ino(NS_ROW_XATTR, ino + 1);
	int r = delete_row(b, &key, e);

	if (r == 0 && row->xattr_count > 0)
		r = names_iterate(ns->pool, from.bytes, from.len_bytes, until.bytes,
				  until.len_bytes, delete_xattr, b, e);
	if (r == 0 && S_ISREG(row->mode)) {
		r = names_delete_object(b, ino, e);
		if (r == -ENOENT) /* damage that ns_check() tells; the name can still go */
			r = 0;
	}
	return r;
}

/* --- operations -------------------------------------------------------------------------------- */

int ns_op_begin(struct ns_op *op, struct ns *ns, struct err *e)
{
	struct names_batch *b = names_batch_new(ns->pool);

	*op = (struct ns_op){ .ns = ns, .batch = b };
	return b ? 0 : err_set(e, -ENOMEM, "operation on names");
}

int ns_op_add(struct ns_op *op, uint64_t ino, struct ns_op_inode **ret_inode, struct err *e)
{
	struct ns_op_inode *at = &op->inodes[op->count];
	int r;

	ASSERT(op->lock_count == 0);
	for (unsigned int n = 0; n < op->count; n++)
		if (op->inodes[n].inode->ino == ino) {
			*ret_inode = &op->inodes[n];
			return 0;
		}
	ASSERT(op->count < NS_OP_INODES_MAX);
	r = ns_inode_get(op->ns, ino, &at->inode, e);
	if (r < 0)
		return r;
	op->count++;
	*ret_inode = at;
	return 0;
}

/* In ascending order, each once. */
static void add_stripe(struct ns_op *op, uint64_t ino)
{
	uint16_t stripe = (uint16_t)ns_stripe_of(ino);
	unsigned int at = 0;

	while (at < op->lock_count && op->locks[at] < stripe)
		at++;
	if (at < op->lock_count && op->locks[at] == stripe)
		return;
	memmove(&op->locks[at + 1], &op->locks[at], (op->lock_count - at) * sizeof(op->locks[0]));
	op->locks[at] = stripe;
	op->lock_count++;
}

void ns_op_lock(struct ns_op *op, uint64_t new_ino)
{
	for (unsigned int n = 0; n < op->count; n++)
		add_stripe(op, op->inodes[n].inode->ino);
	if (new_ino)
		add_stripe(op, new_ino);
	for (unsigned int n = 0; n < op->lock_count; n++)
		mutex_lock(&op->ns->stripes[op->locks[n]]);
	for (unsigned int n = 0; n < op->count; n++)
		op->inodes[n].row = ns_inode_row(op->ns, op->inodes[n].inode);
	op->now_ns = env_now_real_ns(op->ns->env);
}

/* Sticky snapshots keep their file. Asked before its last name goes, for then it must be able to. */
static int check_not_kept(struct ns_op *op, const struct ns_inode *i, struct err *e)
{
	struct snapshot_info *list;
	size_t count, sticky = 0;
	int r;

	if (!S_ISREG(i->type) || snapshot_count(op->ns->pool, i->ino) == 0)
		return 0;
	r = snapshot_list(op->ns->pool, i->ino, &list, &count, e);
	if (r < 0)
		return r;
	for (size_t n = 0; n < count; n++)
		sticky += list[n].sticky;
	snapshot_list_free(list, count);
	return sticky == 0 ? 0 : err_set(e, -EPERM, "%zu sticky snapshots", sticky);
}

int ns_op_lost_name(struct ns_op *op, struct ns_op_inode *i, const struct ns_name *name,
		    struct err *e)
{
	bool wanted;
	int r;

	if (i->row.nlink > 0)
		return 0;
	r = ns_trash_wants(op->ns, i->inode, &wanted, e);
	if (r == 0 && wanted)
		r = check_not_kept(op, i->inode, e);
	if (r < 0)
		return r;
	return wanted ? ns_trash_put(op, i, name, e) : ns_op_remove(op, i, e);
}

int ns_op_remove(struct ns_op *op, struct ns_op_inode *i, struct err *e)
{
	struct ns_key key = ns_key_ino(NS_ROW_ORPHAN, i->inode->ino);
	AUTO(ns_buf_donep) struct buf value = { 0 };
	int r = check_not_kept(op, i->inode, e);

	if (r < 0)
		return r;
	i->dying = ns_inode_kill(op->ns, i->inode);
	if (i->dying)
		return ns_delete_inode(op->ns, op->batch, i->inode->ino, &i->row, e);
	i->orphan = true;
	buf_init(&value, NS_ROW_BYTES_MAX);
	return put_row(op->batch, &key, &value, ns_orphan_row_encode(&key, &value), e);
}

int ns_op_commit(struct ns_op *op, struct err *e)
{
	struct ns_op_inode *i;
	int r = 0;

	for (i = op->inodes; r == 0 && i < op->inodes + op->count; i++)
		if (i->changed && !i->dying)
			r = ns_put_inode_row(op->batch, i->inode->ino, &i->row, e);
	if (r == 0)
		r = ns_put_answer(op->batch, op->answer_ino, e);
	if (r == 0)
		r = names_commit(op->batch, e);
	if (r < 0)
		return r;
	for (i = op->inodes; i < op->inodes + op->count; i++) {
		if (i->trashed || i->untrashed)
			ns_inode_set_trashed(op->ns, i->inode, i->trashed);
		if (i->trashed)
			counter_inc(&op->ns->metrics.trashed);
		if (i->changed)
			ns_inode_set_row(op->ns, i->inode, &i->row);
		if (i->dying)
			ns_inode_died(op->ns, i->inode, true);
		i->dying = false;
		if (i->orphan)
			counter_inc(&op->ns->metrics.orphans);
	}
	return 0;
}

void ns_op_end(struct ns_op *op)
{
	for (unsigned int n = 0; n < op->count; n++)
		if (op->inodes[n].dying)
			ns_inode_died(op->ns, op->inodes[n].inode, false);
	for (unsigned int n = op->lock_count; n-- > 0;)
		mutex_unlock(&op->ns->stripes[op->locks[n]]);
	names_batch_free(op->batch);
	for (unsigned int n = 0; n < op->count; n++)
		ns_inode_put(op->ns, op->inodes[n].inode);
	*op = (struct ns_op){ .ns = op->ns };
}

int ns_sync_data(struct ns *ns, uint64_t ino, bool *ret_has_data, struct err *e)
{
	struct object_stat stat;
	struct object *o;
	int r = ns_object_get(ns, ino, &o, e);

	if (r < 0)
		return r;
	object_stat(o, &stat);
	if (stat.mtime_ns != 0) /* else it was never written */
		r = object_sync(o, e);
	ns_object_put(ns, ino);
	if (r == 0)
		*ret_has_data = stat.mtime_ns != 0;
	return r;
}

/* --- finding ----------------------------------------------------------------------------------- */

int ns_name_check(const char *name, size_t name_bytes, struct err *e)
{
	if (name_bytes > NS_NAME_MAX)
		return err_set(e, -ENAMETOOLONG, "a name of %zu bytes", name_bytes);
	if (name_bytes == 0 || memchr(name, '/', name_bytes) || memchr(name, 0, name_bytes))
		return err_set(e, -EINVAL, "not a name");
	return 0;
}

int ns_find_name(struct ns *ns, uint64_t parent, const char *name, size_t name_bytes,
		 struct ns_name_row *ret_row, struct err *e)
{
	struct ns_key key = ns_key_named(NS_ROW_NAME, parent, name, name_bytes);
	AUTO(ns_buf_donep) struct buf value = { 0 };
	int r;

	buf_init(&value, NS_ROW_BYTES_MAX);
	r = names_get(ns->pool, key.bytes, key.len_bytes, &value, e);
	if (r == -ENOENT)
		return err_set(e, -ENOENT, "no such name");
	if (r == 0)
		r = ns_name_row_decode(key.bytes, key.len_bytes, value.data, value.len_bytes,
				       ret_row, e);
	return r < 0 ? err_wrap(e, r, "name in directory %" PRIu64, parent) : 0;
}

int ns_check_parent(const struct ns_inode_row *row, struct err *e)
{
	if (!S_ISDIR(row->mode))
		return err_set(e, -ENOTDIR, "not a directory");
	if (row->nlink == 0)
		return err_set(e, -ENOENT, "the directory was removed");
	return 0;
}
