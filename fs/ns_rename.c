#include "fs/ns_impl.h"

#include <string.h>

/* Who takes part in one rename. */
struct move {
	struct ns *ns;
	const struct ns_name *from, *to;
	bool exchange, noreplace;

	struct ns_name_row source, target; /* as found before locking */
	bool has_target;
	bool has_data; /* the source */
	struct ns_op op;
	struct ns_op_inode *from_dir, *to_dir, *moved, *met; /* met: only with a target */
};

static void touch(struct move *m, struct ns_op_inode *i, bool mtime)
{
	i->row.ctime_ns = m->op.now_ns;
	if (mtime)
		i->row.mtime_ns = m->op.now_ns;
	i->changed = true;
}

static int find(struct move *m, const struct ns_name *name, struct ns_name_row *ret_row,
		struct err *e)
{
	return ns_find_name(m->ns, name->parent, name->name, name->name_bytes, ret_row, e);
}

static bool same_name(const struct ns_name *a, const struct ns_name *b)
{
	return a->parent == b->parent && a->name_bytes == b->name_bytes &&
	       memcmp(a->name, b->name, a->name_bytes) == 0;
}

/* --- before locking ---------------------------------------------------------------------------- */

static int check_dirs(struct move *m, struct err *e)
{
	struct ns_inode_row row;
	int r = ns_peek_row(m->ns, m->from->parent, &row, e);

	if (r == 0)
		r = ns_check_parent(&row, e);
	if (r == 0)
		r = ns_peek_row(m->ns, m->to->parent, &row, e);
	return r == 0 ? ns_check_parent(&row, e) : r;
}

static int find_both(struct move *m, struct err *e)
{
	int r = find(m, m->from, &m->source, e);

	if (r < 0)
		return r;
	r = find(m, m->to, &m->target, e);
	m->has_target = r == 0;
	if (r == -ENOENT && !m->exchange)
		r = 0;
	if (m->has_target && m->noreplace)
		return err_set(e, -EEXIST, "the name is taken");
	return r;
}

/*
 * Whether dir stands below an inode, or is it. The rename lock is held: no directory moves between
 * parents meanwhile.
 */
static int check_not_below(struct ns *ns, uint64_t dir, uint64_t above, struct err *e)
{
	struct ns_inode_row row;
	int r;

	for (unsigned int depth = 0; depth < NS_DEPTH_MAX; depth++) {
		if (dir == above)
			return err_set(e, -EINVAL, "a directory can't go below itself");
		if (dir == NS_ROOT_INO)
			return 0;
		r = ns_peek_row(ns, dir, &row, e);
		if (r < 0)
			return r;
		if (row.nlink == 0) /* removed meanwhile: told when it is locked */
			return 0;
		dir = row.parent;
	}
	return err_set(e, -EUCLEAN, "directory %" PRIu64 " is not below the root", dir);
}

static bool moves_directory(const struct move *m)
{
	return m->from->parent != m->to->parent &&
	       (S_ISDIR(m->source.type) ||
		(m->exchange && m->has_target && S_ISDIR(m->target.type)));
}

static int check_loop(struct move *m, struct err *e)
{
	int r = 0;

	if (S_ISDIR(m->source.type))
		r = check_not_below(m->ns, m->to->parent, m->source.ino, e);
	if (r == 0 && m->exchange && S_ISDIR(m->target.type))
		r = check_not_below(m->ns, m->from->parent, m->target.ino, e);
	return r;
}

/* --- locked ------------------------------------------------------------------------------------ */

static bool is_same(const struct ns_name_row *a, const struct ns_name_row *b)
{
	return a->ino == b->ino && a->cookie == b->cookie;
}

/* 1: the names lead elsewhere than before locking. */
static int check_names(struct move *m, struct err *e)
{
	struct ns_name_row now;
	int r = ns_check_parent(&m->from_dir->row, e);

	if (r == 0)
		r = ns_check_parent(&m->to_dir->row, e);
	if (r < 0)
		return r;
	r = find(m, m->from, &now, e);
	if (r < 0)
		return r == -ENOENT ? 1 : r;
	if (!is_same(&now, &m->source))
		return 1;
	r = find(m, m->to, &now, e);
	if (r < 0 && r != -ENOENT)
		return r;
	if (m->has_target != (r == 0) || (r == 0 && !is_same(&now, &m->target)))
		return 1;
	return 0;
}

/* Count subdirectories: those that dir gains less those it loses. */
static int count_subdirs(struct move *m, struct ns_op_inode *dir, int gained, struct err *e)
{
	if (gained > 0 && dir->row.nlink - 2 >= m->ns->link_max)
		return err_set(e, -EMLINK, "%u subdirectories", m->ns->link_max);
	dir->row.nlink += (uint32_t)gained; /* wraps for -1, as it should */
	return 0;
}

static int exchange_locked(struct move *m, struct err *e)
{
	struct names_batch *b = m->op.batch;
	int gained = S_ISDIR(m->source.type) - S_ISDIR(m->target.type);
	int r = 0;

	if (m->from_dir != m->to_dir) {
		r = count_subdirs(m, m->to_dir, gained, e);
		if (r == 0)
			r = count_subdirs(m, m->from_dir, -gained, e);
	}
	if (r == 0)
		r = ns_put_entry(b, m->to, m->target.cookie, m->source.ino, m->source.type, e);
	if (r == 0)
		r = ns_put_entry(b, m->from, m->source.cookie, m->target.ino, m->target.type, e);
	if (r < 0)
		return r;
	m->moved->row.parent = m->to->parent;
	m->moved->row.parent_cookie = m->target.cookie;
	m->met->row.parent = m->from->parent;
	m->met->row.parent_cookie = m->source.cookie;
	touch(m, m->met, false);
	return 0;
}

/* What had the name loses it. */
static int replace_locked(struct move *m, struct err *e)
{
	bool source_dir = S_ISDIR(m->source.type), target_dir = S_ISDIR(m->target.type);
	int r;

	if (source_dir && !target_dir)
		return err_set(e, -ENOTDIR, "a directory over something else");
	if (!source_dir && target_dir)
		return err_set(e, -EISDIR, "something else over a directory");
	if (m->met->row.entry_count > 0)
		return err_set(e, -ENOTEMPTY, "%" PRIu64 " entries", m->met->row.entry_count);
	if (m->met->row.nlink == 0)
		return err_set(e, -EUCLEAN, "inode %" PRIu64 " counts no name", m->target.ino);
	m->met->row.nlink = target_dir ? 0 : m->met->row.nlink - 1;
	touch(m, m->met, false);
	if (target_dir)
		m->to_dir->row.nlink--;
	m->to_dir->row.entry_count--;
	r = ns_op_lost_name(&m->op, m->met, m->to, e);
	if (r == 0 && m->has_data)
		r = names_publish_object(m->op.batch, m->source.ino, e);
	return r;
}

/*
 * An entry that is there keeps its place: the target's, else the source's as long as the directory
 * is the same. A reader that goes on behind its cookie so meets no entry a second time for having
 * renamed it.
 */
static int move_locked(struct move *m, struct err *e)
{
	uint64_t cookie;
	int r = m->has_target ? replace_locked(m, e) : 0;

	if (r == 0 && S_ISDIR(m->source.type) && m->from_dir != m->to_dir) {
		r = count_subdirs(m, m->to_dir, 1, e);
		m->from_dir->row.nlink--;
	}
	if (r < 0)
		return r;
	if (m->has_target)
		cookie = m->target.cookie;
	else if (m->from_dir == m->to_dir)
		cookie = m->source.cookie;
	else
		cookie = m->to_dir->row.cookie_next++;
	m->from_dir->row.entry_count--;
	m->to_dir->row.entry_count++;
	m->moved->row.parent = m->to->parent;
	m->moved->row.parent_cookie = cookie;
	/* In this order: the new entry may stand where the old one did. */
	r = ns_delete_entry(m->op.batch, m->from, m->source.cookie, e);
	if (r == 0)
		r = ns_put_entry(m->op.batch, m->to, cookie, m->source.ino, m->source.type, e);
	return r;
}

static int rename_locked(struct move *m, struct err *e)
{
	int r = m->exchange ? exchange_locked(m, e) : move_locked(m, e);

	if (r < 0)
		return r;
	touch(m, m->moved, false);
	touch(m, m->from_dir, true);
	touch(m, m->to_dir, true);
	return ns_op_commit(&m->op, e);
}

/* --- together ---------------------------------------------------------------------------------- */

/* Pin all; 1: one of them is gone, look again. */
static int add_all(struct move *m, struct err *e)
{
	int r = ns_op_add(&m->op, m->from->parent, &m->from_dir, e);

	if (r == 0)
		r = ns_op_add(&m->op, m->to->parent, &m->to_dir, e);
	if (r < 0)
		return r;
	r = ns_op_add(&m->op, m->source.ino, &m->moved, e);
	if (r == 0 && m->has_target)
		r = ns_op_add(&m->op, m->target.ino, &m->met, e);
	return r == -ESTALE ? 1 : r;
}

/* What gets the name of something else is made durable before; what loses it may go to the trash. */
static int prepare(struct move *m, struct err *e)
{
	bool ignored;
	int r = 0;

	m->has_data = false;
	if (!m->has_target || m->source.ino == m->target.ino)
		return 0;
	if (!m->exchange)
		r = ns_trash_ready(m->ns, m->met->inode, e);
	if (r == 0 && S_ISREG(m->source.type))
		r = ns_sync_data(m->ns, m->source.ino, &m->has_data, e);
	if (r == 0 && m->exchange && S_ISREG(m->target.type))
		r = ns_sync_data(m->ns, m->target.ino, &ignored, e);
	return r;
}

/* Pin, make durable, lock, look again, do it; 1: names changed meanwhile. */
static int rename_found(struct move *m, struct err *e)
{
	int r = ns_op_begin(&m->op, m->ns, e);

	if (r < 0)
		return r;
	r = add_all(m, e);
	if (r == 0)
		r = prepare(m, e);
	if (r == 0) {
		ns_op_lock(&m->op, 0);
		r = check_names(m, e);
		/* Two names of one file, or one name: nothing to do. */
		if (r == 0 && !(m->has_target && m->source.ino == m->target.ino))
			r = rename_locked(m, e);
	}
	ns_op_end(&m->op);
	return r;
}

static int rename_round(struct move *m, struct err *e)
{
	bool big;
	int r = check_dirs(m, e);

	if (r == 0)
		r = find_both(m, e);
	if (r < 0)
		return r;
	big = moves_directory(m);
	if (big) {
		mutex_lock(&m->ns->rename_lock);
		r = check_loop(m, e);
	}
	if (r == 0)
		r = rename_found(m, e);
	if (big)
		mutex_unlock(&m->ns->rename_lock);
	return r;
}

static int check_move(const struct ns_name *name, struct err *e)
{
	int r = ns_name_check(name->name, name->name_bytes, e);

	if (r == 0 && (ns_name_is_dot(name->name, name->name_bytes) ||
		       ns_name_is_dotdot(name->name, name->name_bytes)))
		return err_set(e, -EINVAL, "'.' and '..' can't be renamed");
	if (r == 0 && ns_view_is_name(name->parent, name->name, name->name_bytes))
		return ns_view_refuse(NS_VIEW_INO, e);
	return r == 0 ? ns_view_refuse(name->parent, e) : r;
}

int ns_rename(struct ns *ns, const struct ns_name *from, const struct ns_name *to,
	      unsigned int flags, struct err *e)
{
	struct move m = {
		.ns = ns,
		.from = from,
		.to = to,
		.exchange = flags & NS_RENAME_EXCHANGE,
		.noreplace = flags & NS_RENAME_NOREPLACE,
	};
	int r = 1;

	if ((flags & ~(unsigned int)(NS_RENAME_NOREPLACE | NS_RENAME_EXCHANGE)) != 0 ||
	    (m.exchange && m.noreplace))
		return err_set(e, -EINVAL, "flags %#x of a rename", flags);
	r = check_move(from, e);
	if (r == 0)
		r = check_move(to, e);
	if (r < 0)
		return r;
	r = 1;
	for (unsigned int round = 0; r > 0 && round < NS_ROUNDS_MAX; round++)
		r = rename_round(&m, e);
	if (r > 0)
		return err_set(e, -EUCLEAN, "a name without inode in %" PRIu64, from->parent);
	if (r < 0)
		return r;
	counter_inc(&ns->metrics.renames);
	if (!same_name(from, to)) {
		if (S_ISREG(m.source.type))
			ns_class_renamed(ns, m.source.ino, to->name, to->name_bytes);
		if (m.exchange && S_ISREG(m.target.type))
			ns_class_renamed(ns, m.target.ino, from->name, from->name_bytes);
	}
	return 0;
}
