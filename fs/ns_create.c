/*
 * ns_create - looking names up, and operations that make and remove one name: create, link, unlink,
 * rmdir.
 */
#include "fs/ns_impl.h"

#include <string.h>

/* --- looking up -------------------------------------------------------------------------------- */

/* The inode that a name leads to, pinned. Errors: -ENOENT. */
static int get_named(struct ns *ns, uint64_t parent, const char *name, size_t name_bytes,
		     struct ns_inode **ret_inode, struct err *e)
{
	struct ns_name_row row;
	uint64_t lost = 0;
	int r;

	for (unsigned int round = 0; round < NS_ROUNDS_MAX; round++) {
		r = ns_find_name(ns, parent, name, name_bytes, &row, e);
		if (r < 0)
			return r;
		if (row.ino == lost) /* numbers are not reused: this is no race */
			return err_set(e, -EUCLEAN, "a name without inode %" PRIu64, lost);
		r = ns_inode_get(ns, row.ino, ret_inode, e);
		if (r != -ESTALE)
			return r;
		lost = row.ino;
	}
	return err_set(e, -EBUSY, "a name in directory %" PRIu64 " never rests", parent);
}

/* What ".." of a directory is. */
static int get_dotdot(struct ns *ns, uint64_t ino, const struct ns_inode_row *row,
		      struct ns_inode **ret_inode, struct err *e)
{
	if (row->nlink == 0)
		return err_set(e, -ESTALE, "directory %" PRIu64 " was removed", ino);
	return ns_inode_get(ns, row->parent, ret_inode, e);
}

int ns_lookup(struct ns *ns, uint64_t parent, const char *name, size_t name_bytes,
	      struct ns_attr *ret_attr, struct err *e)
{
	struct ns_inode_row row;
	struct ns_inode *i = NULL;
	int r = ns_name_check(name, name_bytes, e);

	counter_inc(&ns->metrics.lookups);
	if (r < 0)
		return r;
	if (ns_is_view(parent) || ns_view_is_name(parent, name, name_bytes))
		return ns_view_lookup(ns, parent, name, name_bytes, ret_attr, e);
	if (ns_name_is_dot(name, name_bytes)) {
		r = ns_inode_get(ns, parent, &i, e);
		if (r == 0 && ns_inode_is_put_away(ns, i)) {
			ns_inode_put(ns, i);
			r = err_set(e, -ESTALE, "inode %" PRIu64 " is in the trash", parent);
		}
	} else {
		r = ns_peek_row(ns, parent, &row, e);
		if (r == 0 && !S_ISDIR(row.mode))
			r = err_set(e, -ENOTDIR, "inode %" PRIu64 " is no directory", parent);
		if (r == 0 && ns_name_is_dotdot(name, name_bytes))
			r = get_dotdot(ns, parent, &row, &i, e);
		else if (r == 0)
			r = get_named(ns, parent, name, name_bytes, &i, e);
	}
	if (r < 0)
		return r;
	r = ns_inode_attr(ns, i, ret_attr, e);
	if (r == 0)
		ns_inode_count_lookup(ns, i);
	ns_inode_put(ns, i);
	return r;
}

/* --- making ------------------------------------------------------------------------------------ */

static void touch(struct ns_op *op, struct ns_op_inode *dir)
{
	dir->row.mtime_ns = dir->row.ctime_ns = op->now_ns;
	dir->changed = true;
}

int ns_check_new_name(const struct ns_name *name, struct err *e)
{
	int r = ns_name_check(name->name, name->name_bytes, e);

	if (r < 0)
		return r;
	if (ns_name_is_dot(name->name, name->name_bytes) ||
	    ns_name_is_dotdot(name->name, name->name_bytes) ||
	    ns_view_is_name(name->parent, name->name, name->name_bytes))
		return err_set(e, -EEXIST, "'%.*s' is always there", (int)name->name_bytes,
			       name->name);
	return ns_view_refuse(name->parent, e);
}

static int check_new(const struct ns_name *name, uint32_t type, const struct ns_new *new,
		     struct err *e)
{
	int r = ns_check_new_name(name, e);

	if (r < 0)
		return r;
	switch (type) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		return 0;
	case S_IFLNK:
		break;
	default:
		return err_set(e, -EINVAL, "type %" PRIo32, type);
	}
	if (!new->target || !new->target[0])
		return err_set(e, -ENOENT, "a symbolic link to nothing");
	if (strlen(new->target) > NS_SYMLINK_MAX)
		return err_set(e, -ENAMETOOLONG, "a target of %zu bytes", strlen(new->target));
	return 0;
}

static struct ns_inode_row new_row(const struct ns_op *op, const struct ns_op_inode *dir,
				   uint32_t type, const struct ns_new *new)
{
	struct ns_inode_row row = {
		.mode = type | (new->mode & 07777),
		.nlink = S_ISDIR(type) ? 2 : 1,
		.uid = new->cred.uid,
		.gid = new->cred.gid,
		.rdev = S_ISCHR(type) || S_ISBLK(type) ? new->rdev : 0,
		.atime_ns = op->now_ns,
		.mtime_ns = op->now_ns,
		.ctime_ns = op->now_ns,
		.crtime_ns = op->now_ns,
		.parent = dir->inode->ino,
		.parent_cookie = dir->row.cookie_next,
		.cookie_next = S_ISDIR(type) ? NS_COOKIE_DOTDOT + 1 : 0,
	};

	if (dir->row.mode & S_ISGID) {
		row.gid = dir->row.gid;
		if (S_ISDIR(type))
			row.mode |= S_ISGID;
	}
	if (S_ISLNK(type)) {
		row.target = new->target;
		row.target_bytes = (uint16_t)strlen(new->target);
	}
	return row;
}

/* The name is free and its directory can take it; asked again when it is locked. */
static int check_free(struct ns *ns, const struct ns_inode_row *dir, const struct ns_name *name,
		      bool subdir, struct err *e)
{
	struct ns_name_row there;
	int r = ns_check_parent(dir, e);

	if (r < 0)
		return r;
	r = ns_find_name(ns, name->parent, name->name, name->name_bytes, &there, e);
	if (r == 0)
		return err_set(e, -EEXIST, "the name is taken");
	if (r != -ENOENT)
		return r;
	if (subdir && dir->nlink - 2 >= ns->link_max)
		return err_set(e, -EMLINK, "%u subdirectories", ns->link_max);
	return 0;
}

int ns_add_entry(struct ns_op *op, struct ns_op_inode *dir, const struct ns_name *name,
		 uint64_t ino, uint32_t type, struct err *e)
{
	int r = ns_put_entry(op->batch, name, dir->row.cookie_next, ino, type, e);

	dir->row.cookie_next++;
	dir->row.entry_count++;
	if (S_ISDIR(type))
		dir->row.nlink++;
	touch(op, dir);
	return r;
}

static int create_locked(struct ns_op *op, struct ns_op_inode *dir, const struct ns_name *name,
			 uint64_t ino, uint32_t type, const struct ns_new *new,
			 struct ns_inode **ret_inode, struct err *e)
{
	struct ns_inode_row row = new_row(op, dir, type, new);
	struct ns_inode *i;
	int r = check_free(op->ns, &dir->row, name, S_ISDIR(type), e);

	if (r < 0)
		return r;
	i = ns_inode_new(ino, &row);
	if (!i)
		return err_set(e, -ENOMEM, "inode");
	op->answer_ino = ino;
	r = ns_put_inode_row(op->batch, ino, &row, e);
	if (r == 0)
		r = ns_add_entry(op, dir, name, ino, type, e);
	if (r == 0)
		r = ns_op_commit(op, e);
	if (r < 0) {
		ns_inode_free(i);
		return r;
	}
	ns_inode_publish(op->ns, i);
	*ret_inode = i;
	return 0;
}

/* What a new regular file has in it. */
struct content {
	enum object_class class;
	struct clone_source *source; /* NULL: nothing */
};

/* The number of what is to be made; of a regular file that of its object. */
static int new_number(struct ns_op *op, uint32_t type, const struct content *content,
		      uint64_t *ret_ino, struct err *e)
{
	if (!S_ISREG(type))
		return names_new_number(op->ns->pool, ret_ino, e);
	if (content->source)
		return names_clone_object(op->batch, content->source, content->class, ret_ino, e);
	return names_create_object(op->batch, content->class, ret_ino, e);
}

static int create(struct ns *ns, const struct ns_name *where, const struct ns_new *new,
		  const struct content *content, struct ns_attr *ret_attr, struct err *e)
{
	uint32_t type = new->mode &S_IFMT ? new->mode &S_IFMT : S_IFREG;
	struct ns_inode *i = NULL;
	struct ns_inode_row before;
	struct ns_op_inode *dir;
	struct ns_op op;
	uint64_t ino = 0;
	int r = check_new(where, type, new, e);

	if (r == 0)
		r = ns_op_begin(&op, ns, e);
	if (r < 0)
		return r;
	r = ns_op_add(&op, where->parent, &dir, e);
	if (r == 0) { /* before a number is spent */
		before = ns_inode_row(ns, dir->inode);
		r = check_free(ns, &before, where, S_ISDIR(type), e);
	}
	/* The number comes first, so that its stripe is locked when the name shows. */
	if (r == 0)
		r = new_number(&op, type, content, &ino, e);
	if (r == 0) {
		ns_op_lock(&op, ino);
		r = create_locked(&op, dir, where, ino, type, new, &i, e);
	}
	ns_op_end(&op);
	if (r < 0)
		return r;
	counter_inc(&ns->metrics.creates);
	r = ns_inode_attr_done(ns, i, ret_attr, e);
	if (r == 0)
		ns_inode_count_lookup(ns, i);
	ns_inode_put(ns, i);
	return r;
}

int ns_create(struct ns *ns, uint64_t parent, const char *name, size_t name_bytes,
	      const struct ns_new *new, struct ns_attr *ret_attr, struct err *e)
{
	const struct ns_name where = { .parent = parent, .name = name, .name_bytes = name_bytes };
	const struct content empty = { .class = ns_class_of_name(ns, name, name_bytes) };

	return create(ns, &where, new, &empty, ret_attr, e);
}

int ns_clone_source(struct ns *ns, uint64_t ino, const char *snapshot,
		    struct clone_source **ret_source, struct err *e)
{
	struct snapshot_info info = { 0 };
	struct object *o;
	int r = 0;

	if (ns_is_view(ino)) {
		r = ns_view_find(ns, ino, &info, e);
		ino = info.object;
		snapshot = info.name;
	}
	if (r == 0)
		r = ns_object_get(ns, ino, &o, e);
	if (r == 0) {
		r = clone_source_open(ns->pool, o, snapshot, ret_source, e);
		ns_object_put(ns, ino);
	}
	snapshot_info_done(&info);
	return r;
}

int ns_clone(struct ns *ns, uint64_t parent, const char *name, size_t name_bytes,
	     struct clone_source *source, uint64_t like, struct ns_attr *ret_attr, struct err *e)
{
	const struct ns_name where = { .parent = parent, .name = name, .name_bytes = name_bytes };
	struct content content = { .source = source };
	struct ns_attr attr;
	struct ns_new new;
	int r = ns_getattr(ns, like, &attr, e);

	if (r < 0)
		return r;
	content.class =
		attr.class == OBJECT_DISK ? OBJECT_DISK : ns_class_of_name(ns, name, name_bytes);
	new = (struct ns_new){
		.mode = S_IFREG | (attr.mode & 0777),
		.cred = { .uid = attr.uid, .gid = attr.gid },
	};
	return create(ns, &where, &new, &content, ret_attr, e);
}

int ns_mkdir(struct ns *ns, uint64_t parent, const char *name, size_t name_bytes, uint32_t mode,
	     struct ns_cred cred, struct ns_attr *ret_attr, struct err *e)
{
	struct ns_new new = { .mode = S_IFDIR | (mode & 07777), .cred = cred };

	return ns_create(ns, parent, name, name_bytes, &new, ret_attr, e);
}

int ns_symlink(struct ns *ns, uint64_t parent, const char *name, size_t name_bytes,
	       const char *target, struct ns_cred cred, struct ns_attr *ret_attr, struct err *e)
{
	struct ns_new new = { .mode = S_IFLNK | 0777, .cred = cred, .target = target };

	return ns_create(ns, parent, name, name_bytes, &new, ret_attr, e);
}

/* --- one more name ----------------------------------------------------------------------------- */

static int link_locked(struct ns_op *op, struct ns_op_inode *i, struct ns_op_inode *dir,
		       const struct ns_name *name, bool has_data, struct err *e)
{
	int r = check_free(op->ns, &dir->row, name, false, e);

	if (r < 0)
		return r;
	if (i->row.nlink == 0)
		return err_set(e, -ENOENT, "the file has no name any more");
	if (i->row.nlink >= op->ns->link_max)
		return err_set(e, -EMLINK, "%u names", op->ns->link_max);
	if (has_data)
		r = names_publish_object(op->batch, i->inode->ino, e);
	op->answer_ino = i->inode->ino;
	i->row.nlink++;
	i->row.ctime_ns = op->now_ns;
	i->row.parent = dir->inode->ino;
	i->row.parent_cookie = dir->row.cookie_next;
	i->changed = true;
	if (r == 0)
		r = ns_add_entry(op, dir, name, i->inode->ino, i->inode->type, e);
	return r == 0 ? ns_op_commit(op, e) : r;
}

int ns_link(struct ns *ns, uint64_t ino, uint64_t parent, const char *name, size_t name_bytes,
	    struct ns_attr *ret_attr, struct err *e)
{
	const struct ns_name where = { .parent = parent, .name = name, .name_bytes = name_bytes };
	struct ns_op_inode *i, *dir;
	bool has_data = false;
	struct ns_op op;
	int r = ns_check_new_name(&where, e);

	if (r == 0)
		r = ns_view_refuse(ino, e);
	if (r == 0)
		r = ns_op_begin(&op, ns, e);
	if (r < 0)
		return r;
	r = ns_op_add(&op, ino, &i, e);
	if (r == 0 && S_ISDIR(i->inode->type))
		r = err_set(e, -EPERM, "a directory has one name");
	if (r == 0)
		r = ns_op_add(&op, parent, &dir, e);
	if (r == 0 && S_ISREG(i->inode->type))
		r = ns_sync_data(ns, ino, &has_data, e);
	if (r == 0) {
		ns_op_lock(&op, 0);
		r = link_locked(&op, i, dir, &where, has_data, e);
	}
	if (r == 0) {
		counter_inc(&ns->metrics.links);
		r = ns_inode_attr_done(ns, i->inode, ret_attr, e);
		if (r == 0)
			ns_inode_count_lookup(ns, i->inode);
	}
	ns_op_end(&op);
	return r;
}

/* --- one name less ----------------------------------------------------------------------------- */

static int remove_locked(struct ns_op *op, struct ns_op_inode *dir, struct ns_op_inode *i,
			 const struct ns_name *name, uint64_t cookie, struct err *e)
{
	bool is_dir = S_ISDIR(i->inode->type);
	int r = ns_delete_entry(op->batch, name, cookie, e);

	if (r < 0)
		return r;
	i->row.nlink = is_dir ? 0 : i->row.nlink - 1;
	i->row.ctime_ns = op->now_ns;
	i->changed = true;
	dir->row.entry_count--;
	if (is_dir)
		dir->row.nlink--;
	touch(op, dir);
	r = ns_op_lost_name(op, i, name, e);
	return r == 0 ? ns_op_commit(op, e) : r;
}

/* 1: it is another one meanwhile, try again. */
static int remove_round(struct ns *ns, const struct ns_name *name, bool want_dir, struct err *e)
{
	struct ns_op_inode *dir, *i;
	struct ns_name_row row, now;
	struct ns_inode_row parent;
	struct ns_op op;
	int r = ns_peek_row(ns, name->parent, &parent, e);

	if (r == 0)
		r = ns_check_parent(&parent, e);
	if (r == 0)
		r = ns_find_name(ns, name->parent, name->name, name->name_bytes, &row, e);
	if (r == 0 && want_dir && !S_ISDIR(row.type))
		r = err_set(e, -ENOTDIR, "not a directory");
	if (r == 0 && !want_dir && S_ISDIR(row.type))
		r = err_set(e, -EISDIR, "a directory");
	if (r == 0)
		r = ns_op_begin(&op, ns, e);
	if (r < 0)
		return r;
	r = ns_op_add(&op, name->parent, &dir, e);
	if (r == 0) {
		r = ns_op_add(&op, row.ino, &i, e);
		if (r == -ESTALE)
			r = 1;
	}
	if (r == 0)
		r = ns_trash_ready(ns, i->inode, e);
	if (r != 0)
		goto out;
	ns_op_lock(&op, 0);
	r = ns_find_name(ns, name->parent, name->name, name->name_bytes, &now, e);
	if (r == 0 && (now.ino != row.ino || now.cookie != row.cookie))
		r = 1;
	else if (r == 0 && i->row.entry_count > 0)
		r = err_set(e, -ENOTEMPTY, "%" PRIu64 " entries", i->row.entry_count);
	else if (r == 0 && i->row.nlink == 0)
		r = err_set(e, -EUCLEAN, "inode %" PRIu64 " counts no name", i->inode->ino);
	if (r == 0)
		r = remove_locked(&op, dir, i, name, now.cookie, e);
out:
	ns_op_end(&op);
	return r;
}

static int remove_name(struct ns *ns, const struct ns_name *name, bool want_dir, struct err *e)
{
	int r = 1;

	for (unsigned int round = 0; r > 0 && round < NS_ROUNDS_MAX; round++)
		r = remove_round(ns, name, want_dir, e);
	if (r > 0)
		return err_set(e, -EUCLEAN, "a name without inode in %" PRIu64, name->parent);
	if (r == 0)
		counter_inc(&ns->metrics.removes);
	return r;
}

int ns_unlink(struct ns *ns, uint64_t parent, const char *name, size_t name_bytes, struct err *e)
{
	const struct ns_name where = { .parent = parent, .name = name, .name_bytes = name_bytes };
	int r = ns_name_check(name, name_bytes, e);

	if (r < 0)
		return r;
	if (ns_name_is_dot(name, name_bytes) || ns_name_is_dotdot(name, name_bytes) ||
	    ns_view_is_name(parent, name, name_bytes))
		return err_set(e, -EISDIR, "a directory");
	r = ns_view_refuse(parent, e);
	return r == 0 ? remove_name(ns, &where, false, e) : r;
}

int ns_rmdir(struct ns *ns, uint64_t parent, const char *name, size_t name_bytes, struct err *e)
{
	const struct ns_name where = { .parent = parent, .name = name, .name_bytes = name_bytes };
	int r = ns_name_check(name, name_bytes, e);

	if (r < 0)
		return r;
	if (ns_name_is_dot(name, name_bytes))
		return err_set(e, -EINVAL, "'.' can't be removed");
	if (ns_name_is_dotdot(name, name_bytes))
		return err_set(e, -ENOTEMPTY, "'..' is not empty");
	if (ns_view_is_name(parent, name, name_bytes))
		parent = NS_VIEW_INO;
	r = ns_view_refuse(parent, e);
	return r == 0 ? remove_name(ns, &where, true, e) : r;
}
