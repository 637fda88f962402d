/*
 * ns_trash - files that lost their last name and stay for a while (namespace.h). Each change is one
 * operation: the row in the trash comes with the commit that takes the name, and goes with the one
 * that gives another, or that removes the file.
 */
#include "common/log.h"
#include "fs/ns_impl.h"

#include <stdlib.h>
#include <string.h>

void ns_set_trash(struct ns *ns, enum ns_trash_policy policy)
{
	__atomic_store_n(&ns->trash, policy, __ATOMIC_RELAXED);
}

/* --- coming ------------------------------------------------------------------------------------ */

/* By what it holds, whatever its snapshots. */
static int is_worth_keeping(struct ns *ns, uint64_t ino, enum ns_trash_policy policy, bool *ret_is,
			    struct err *e)
{
	struct object_stat stat;
	struct object *o;
	int r = object_open(ns->pool, ino, &o, e);

	if (r < 0)
		return r;
	object_stat(o, &stat);
	object_close(o);
	*ret_is = stat.template ||
		  (policy == NS_TRASH_ALL && stat.class == OBJECT_DISK && stat.size_bytes > 0);
	return 0;
}

int ns_trash_wants(struct ns *ns, const struct ns_inode *i, bool *ret_wants, struct err *e)
{
	enum ns_trash_policy policy = __atomic_load_n(&ns->trash, __ATOMIC_RELAXED);
	int r = 0;

	*ret_wants = false;
	if (policy == NS_TRASH_OFF || !S_ISREG(i->type))
		return 0;
	if (snapshot_count(ns->pool, i->ino) > 0)
		*ret_wants = true;
	else
		r = is_worth_keeping(ns, i->ino, policy, ret_wants, e);
	return r == -ENOENT ? 0 : r; /* its object is lost: damage that ns_check() tells */
}

int ns_trash_ready(struct ns *ns, const struct ns_inode *i, struct err *e)
{
	bool wanted;
	int r = ns_trash_wants(ns, i, &wanted, e);

	if (r < 0 || !wanted || __atomic_load_n(&ns->trash_announced, __ATOMIC_ACQUIRE))
		return r;
	r = names_announce_trash(ns->pool, e);
	if (r == 0)
		__atomic_store_n(&ns->trash_announced, true, __ATOMIC_RELEASE);
	return r;
}

/* What the row keeps of a name: its path, or, if that is too long, the name alone. */
static int path_of_name(struct ns *ns, const struct ns_name *name, struct buf *out, struct err *e)
{
	int r = ns_path_of(ns, name->parent, out, e);

	if (r == 0 && out->len_bytes > 1)
		r = buf_append(out, "/", 1);
	if (r == 0)
		r = buf_append(out, name->name, name->name_bytes);
	if (r != -E2BIG)
		return r;
	buf_clear(out);
	return buf_append(out, name->name, name->name_bytes);
}

int ns_trash_put(struct ns_op *op, struct ns_op_inode *i, const struct ns_name *name, struct err *e)
{
	struct ns_key key = ns_key_ino(NS_ROW_TRASH, i->inode->ino);
	struct ns_trash_row row = { .removed_ns = op->now_ns, .parent = name->parent };
	AUTO(ns_buf_donep) struct buf path = { 0 };
	AUTO(ns_buf_donep) struct buf value = { 0 };
	int r;

	if (!__atomic_load_n(&op->ns->trash_announced, __ATOMIC_ACQUIRE))
		return 1; /* it became one that goes there since */
	buf_init(&path, NS_TRASH_PATH_MAX);
	buf_init(&value, NS_ROW_BYTES_MAX);
	r = path_of_name(op->ns, name, &path, e);
	if (r < 0)
		return err_wrap(e, r, "where a file stood");
	row.path = (const char *)path.data;
	row.path_bytes = (uint16_t)path.len_bytes;
	r = ns_trash_row_encode(&key, &row, &value);
	if (r == 0)
		r = names_put(op->batch, key.bytes, key.len_bytes, value.data, value.len_bytes);
	i->trashed = true;
	return r < 0 ? err_set(e, r, "row in the trash") : 0;
}

/* --- looking ----------------------------------------------------------------------------------- */

int ns_trash_has(struct ns *ns, uint64_t ino, bool *ret_has, struct err *e)
{
	struct ns_key key = ns_key_ino(NS_ROW_TRASH, ino);
	AUTO(ns_buf_donep) struct buf value = { 0 };
	int r;

	buf_init(&value, NS_ROW_BYTES_MAX);
	r = names_get(ns->pool, key.bytes, key.len_bytes, &value, e);
	*ret_has = r == 0;
	return r == -ENOENT ? 0 : r;
}

struct trash_list {
	struct entry {
		uint64_t ino, parent;
		int64_t removed_ns;
		char *path;
		size_t path_bytes;
	} * entries;
	size_t count, cap;
	struct err *e;
};

static int note_entry(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		      size_t value_bytes)
{
	struct trash_list *l = arg;
	struct ns_key_parts parts;
	struct ns_trash_row row;
	struct entry *more;
	int r = ns_key_parse(key, key_bytes, &parts, l->e);

	if (r == 0)
		r = ns_trash_row_decode(key, key_bytes, value, value_bytes, &row, l->e);
	if (r < 0)
		return r;
	if (l->count == l->cap) {
		more = reallocarray(l->entries, l->cap * 2 + 16, sizeof(*more));
		if (!more)
			return err_set(l->e, -ENOMEM, "trash");
		l->entries = more;
		l->cap = l->cap * 2 + 16;
	}
	l->entries[l->count] = (struct entry){
		.ino = parts.ino,
		.parent = row.parent,
		.removed_ns = row.removed_ns,
		.path = strndup(row.path, row.path_bytes),
		.path_bytes = row.path_bytes,
	};
	return l->entries[l->count++].path ? 0 : err_set(l->e, -ENOMEM, "trash");
}

static int by_age(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->removed_ns != y->removed_ns)
		return x->removed_ns < y->removed_ns ? -1 : 1;
	return (x->ino > y->ino) - (x->ino < y->ino);
}

/* All of it, as of one moment, the oldest first. Freed also after an error. */
static int list_trash(struct ns *ns, struct trash_list *l, struct err *e)
{
	struct ns_key from = ns_key_ino(NS_ROW_TRASH, 0);
	const uint8_t until[] = { NS_ROW_TRASH + 1 };
	int r;

	*l = (struct trash_list){ .e = e };
	r = names_iterate(ns->pool, from.bytes, from.len_bytes, until, sizeof(until), note_entry, l,
			  e);
	if (r == 0 && l->count > 0)
		qsort(l->entries, l->count, sizeof(*l->entries), by_age);
	return r;
}

static void list_free(struct trash_list *l)
{
	for (size_t n = 0; n < l->count; n++)
		free(l->entries[n].path);
	free(l->entries);
}

int ns_trash_each(struct ns *ns, int (*fn)(void *arg, const struct ns_trash_item *item), void *arg,
		  struct err *e)
{
	struct trash_list l;
	int r = list_trash(ns, &l, e);

	for (size_t n = 0; n < l.count && r == 0; n++) {
		struct ns_trash_item item = {
			.ino = l.entries[n].ino,
			.removed_ns = l.entries[n].removed_ns,
			.parent = l.entries[n].parent,
			.path = l.entries[n].path,
			.path_bytes = l.entries[n].path_bytes,
		};

		r = ns_getattr(ns, item.ino, &item.attr, e);
		if (r == 0 && item.attr.nlink == 0)
			r = fn(arg, &item);
		else if (r == -ESTALE) /* it just went */
			r = 0;
	}
	list_free(&l);
	return r;
}

/* --- leaving ----------------------------------------------------------------------------------- */

/* A locked inode leaves the trash with the commit. Errors: -ENOENT it is not there. */
static int take(struct ns_op *op, struct ns_op_inode *i, struct err *e)
{
	struct ns_key key = ns_key_ino(NS_ROW_TRASH, i->inode->ino);
	int r;

	if (!i->inode->trashed)
		return err_set(e, -ENOENT, "inode %" PRIu64 " is not in the trash", i->inode->ino);
	r = names_delete(op->batch, key.bytes, key.len_bytes);
	i->untrashed = true;
	return r < 0 ? err_set(e, r, "row in the trash") : 0;
}

/* Pin a file that was in the trash. */
static int add_trashed(struct ns_op *op, uint64_t ino, struct ns_op_inode **ret_inode,
		       struct err *e)
{
	int r = ns_op_add(op, ino, ret_inode, e);

	return r == -ESTALE ? err_set(e, -ENOENT, "inode %" PRIu64 " is not in the trash", ino) : r;
}

int ns_trash_remove(struct ns *ns, uint64_t ino, struct err *e)
{
	struct ns_op_inode *i;
	struct ns_op op;
	int r = ns_op_begin(&op, ns, e);

	if (r < 0)
		return r;
	r = add_trashed(&op, ino, &i, e);
	if (r == 0) {
		/* Loaded by a process that took a mount over it counts as held until this says not. */
		if (ns->is_held && !ns->is_held(ns->is_held_arg, ino))
			ns_inode_disinherit(ns, i->inode);
		ns_op_lock(&op, 0);
		r = take(&op, i, e);
	}
	if (r == 0)
		r = ns_op_remove(&op, i, e);
	if (r == 0)
		r = ns_op_commit(&op, e);
	ns_op_end(&op);
	return r;
}

int ns_trash_expire(struct ns *ns, int64_t before_ns, uint64_t *ret_count, struct err *e)
{
	struct trash_list l;
	int r = list_trash(ns, &l, e);

	*ret_count = 0;
	for (size_t n = 0; n < l.count && r == 0 && l.entries[n].removed_ns < before_ns; n++) {
		struct err why = { 0 };
		int gone = ns_trash_remove(ns, l.entries[n].ino, &why);

		if (gone == 0)
			++*ret_count;
		else if (gone != -ENOENT)
			log_warning("fs: file in the trash stays for now: ino=%" PRIu64 ": %s",
				    l.entries[n].ino, why.message);
	}
	list_free(&l);
	return r;
}

/* --- coming back ------------------------------------------------------------------------------- */

struct comeback {
	struct ns *ns;
	const struct ns_name *to;
	struct ns_name_row there; /* what has the name */
	bool taken, has_data;
	struct ns_op op;
	struct ns_op_inode *i, *dir, *met; /* met: only of a taken name */
};

/* What has the name, if anything has. */
static int look_at_place(struct comeback *c, struct ns_name_row *ret_there, bool *ret_taken,
			 struct err *e)
{
	int r = ns_find_name(c->ns, c->to->parent, c->to->name, c->to->name_bytes, ret_there, e);

	*ret_taken = r == 0;
	return r == -ENOENT ? 0 : r;
}

static int check_place(struct comeback *c, bool replace, struct err *e)
{
	struct ns_inode_row dir;
	int r = ns_peek_row(c->ns, c->to->parent, &dir, e);

	if (r == 0)
		r = ns_check_parent(&dir, e);
	if (r == 0)
		r = look_at_place(c, &c->there, &c->taken, e);
	if (r == 0 && c->taken && !replace)
		return err_set(e, -EEXIST, "the name is taken");
	if (r == 0 && c->taken && S_ISDIR(c->there.type))
		return err_set(e, -EISDIR, "a directory has the name");
	return r;
}

/* Pin all; 1: what had the name is gone, look again. */
static int add_all(struct comeback *c, uint64_t ino, struct err *e)
{
	int r = add_trashed(&c->op, ino, &c->i, e);

	if (r == 0)
		r = ns_op_add(&c->op, c->to->parent, &c->dir, e);
	if (r == 0 && c->taken) {
		r = ns_op_add(&c->op, c->there.ino, &c->met, e);
		if (r == -ESTALE)
			r = 1;
	}
	if (r == 0 && c->taken)
		r = ns_trash_ready(c->ns, c->met->inode, e);
	return r == 0 ? ns_sync_data(c->ns, ino, &c->has_data, e) : r;
}

/* What had the name loses it; the entry keeps its place. */
static int replace_locked(struct comeback *c, struct err *e)
{
	int r;

	if (c->met->row.nlink == 0)
		return err_set(e, -EUCLEAN, "inode %" PRIu64 " counts no name", c->there.ino);
	c->met->row.nlink--;
	c->met->row.ctime_ns = c->op.now_ns;
	c->met->changed = true;
	c->i->row.parent_cookie = c->there.cookie;
	c->dir->row.mtime_ns = c->dir->row.ctime_ns = c->op.now_ns;
	c->dir->changed = true;
	r = ns_op_lost_name(&c->op, c->met, c->to, e);
	return r == 0 ? ns_put_entry(c->op.batch, c->to, c->there.cookie, c->i->inode->ino, S_IFREG,
				     e) :
			r;
}

static int restore_locked(struct comeback *c, struct err *e)
{
	struct ns_name_row now;
	bool taken = false;
	int r = take(&c->op, c->i, e);

	if (r == 0)
		r = ns_check_parent(&c->dir->row, e);
	if (r == 0)
		r = look_at_place(c, &now, &taken, e);
	if (r < 0)
		return r;
	if (taken != c->taken || (taken && now.ino != c->there.ino))
		return 1;
	c->i->row.nlink = 1;
	c->i->row.ctime_ns = c->op.now_ns;
	c->i->row.parent = c->to->parent;
	c->i->row.parent_cookie = c->dir->row.cookie_next;
	c->i->changed = true;
	if (c->has_data)
		r = names_publish_object(c->op.batch, c->i->inode->ino, e);
	if (r == 0)
		r = taken ? replace_locked(c, e) :
			    ns_add_entry(&c->op, c->dir, c->to, c->i->inode->ino, S_IFREG, e);
	return r == 0 ? ns_op_commit(&c->op, e) : r;
}

static int restore_round(struct comeback *c, uint64_t ino, bool replace, struct err *e)
{
	int r = check_place(c, replace, e);

	if (r == 0)
		r = ns_op_begin(&c->op, c->ns, e);
	if (r < 0)
		return r;
	r = add_all(c, ino, e);
	if (r == 0) {
		ns_op_lock(&c->op, 0);
		r = restore_locked(c, e);
	}
	ns_op_end(&c->op);
	return r;
}

int ns_trash_restore(struct ns *ns, uint64_t ino, const struct ns_name *to, bool replace,
		     struct err *e)
{
	struct comeback c = { .ns = ns, .to = to };
	int r = ns_check_new_name(to, e);

	if (r < 0)
		return r;
	r = 1;
	for (unsigned int round = 0; r > 0 && round < NS_ROUNDS_MAX; round++)
		r = restore_round(&c, ino, replace, e);
	if (r > 0)
		return err_set(e, -EBUSY, "a name in directory %" PRIu64 " never rests",
			       to->parent);
	if (r == 0)
		ns_class_renamed(ns, ino, to->name, to->name_bytes);
	return r;
}
