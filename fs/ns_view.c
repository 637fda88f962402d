/*
 * ns_view - the view of snapshots (namespace.h). What it shows is asked for each time; the table of
 * files is only a memory, for a number alone does not say whose snapshot it is, and what keeps an
 * object open while it is used.
 */
#include "fs/ns_impl.h"

#include <stdlib.h>
#include <string.h>

static uint64_t number_of(uint64_t ino)
{
	return ino & ~NS_VIEW_FILE;
}

static bool is_file(uint64_t ino)
{
	return (ino & NS_VIEW_FILE) == NS_VIEW_FILE;
}

bool ns_view_is_name(uint64_t parent, const char *name, size_t name_bytes)
{
	return parent == NS_ROOT_INO && name_bytes == strlen(NS_VIEW_NAME) &&
	       memcmp(name, NS_VIEW_NAME, name_bytes) == 0;
}

int ns_view_refuse(uint64_t ino, struct err *e)
{
	return ns_is_view(ino) ? err_set(e, -EROFS, "snapshots are shown, not changed") : 0;
}

/* --- the table --------------------------------------------------------------------------------- */

static struct ns_view_file *find_locked(struct ns *ns, uint64_t ino)
{
	struct ns_view_file *f;

	HASH_FIND(hh, ns->view.files, &ino, sizeof(ino), f);
	return f;
}

static void forget_unused_locked(struct ns *ns)
{
	struct ns_view_file *f, *next;

	HASH_ITER (hh, ns->view.files, f, next)
		if (f->uses == 0) {
			HASH_DEL(ns->view.files, f);
			free(f);
		}
}

/* The file in the table as it is now. NULL: no memory. */
static struct ns_view_file *note_locked(struct ns *ns, const struct snapshot_info *info,
					const struct ns_attr *attr)
{
	struct ns_view_file *f = find_locked(ns, attr->ino);

	if (!f) {
		if (HASH_COUNT(ns->view.files) >= NS_VIEW_FILES_MAX)
			forget_unused_locked(ns);
		f = calloc(1, sizeof(*f));
		if (!f)
			return NULL;
		f->ino = attr->ino;
		f->object = info->object;
		HASH_ADD(hh, ns->view.files, ino, sizeof(f->ino), f);
		if (!HASH_TOOK(f)) {
			free(f);
			return NULL;
		}
	}
	memcpy(f->name, info->name, sizeof(f->name));
	f->attr = *attr;
	return f;
}

void ns_view_drop_all(struct ns *ns)
{
	struct ns_view_file *f, *next;

	HASH_ITER (hh, ns->view.files, f, next) {
		HASH_DEL(ns->view.files, f);
		object_close(f->open);
		free(f);
	}
}

/* --- finding the snapshot of a number ---------------------------------------------------------- */

int ns_view_find(struct ns *ns, uint64_t ino, struct snapshot_info *ret_info, struct err *e)
{
	char name[NS_NAME_MAX + 1];
	const struct ns_view_file *f;
	uint64_t object = 0;
	int r;

	if (!ns_is_view(ino) || !is_file(ino))
		return err_set(e, -EINVAL, "inode %" PRIu64 " is no snapshot", ino);
	mutex_lock(&ns->view.lock);
	f = find_locked(ns, ino);
	if (f) {
		object = f->object;
		memcpy(name, f->name, sizeof(name));
	}
	mutex_unlock(&ns->view.lock);
	r = object ? snapshot_find(ns->pool, object, name, ret_info, e) : -ENOENT;
	if (r == 0 && ret_info->number == number_of(ino))
		return 0;
	if (r == 0)
		snapshot_info_done(ret_info);
	else if (r != -ENOENT)
		return r;
	/* It was renamed, or is of an old handle. */
	r = snapshot_find_number(ns->pool, number_of(ino), ret_info, e);
	return r == -ENOENT ? err_set(e, -ESTALE, "no snapshot %" PRIu64, number_of(ino)) : r;
}

/* --- attributes -------------------------------------------------------------------------------- */

/* The row of a directory or regular file that has a name. Errors: -ESTALE. */
static int peek_shown(struct ns *ns, uint64_t ino, struct ns_inode_row *ret_row, struct err *e)
{
	int r = ns_peek_row(ns, ino, ret_row, e);

	if (r == 0 && (ret_row->nlink == 0 || !(S_ISDIR(ret_row->mode) || S_ISREG(ret_row->mode))))
		return err_set(e, -ESTALE, "inode %" PRIu64 " is not shown", ino);
	return r;
}

/* Who may read something may read its snapshots. */
static uint32_t dir_mode(uint32_t shown)
{
	if (S_ISDIR(shown))
		return S_IFDIR | (shown & 0555);
	return S_IFDIR | (shown & 0444) | (shown & 0444) >> 2;
}

static struct ns_attr dir_attr(uint64_t ino, const struct ns_inode_row *row)
{
	return (struct ns_attr){
		.ino = NS_VIEW_DIR | ino,
		.mode = dir_mode(row->mode),
		.nlink = 1, /* subdirectories are not counted */
		.uid = row->uid,
		.gid = row->gid,
		.size_bytes = 4096,
		.atime_ns = row->atime_ns,
		.mtime_ns = row->mtime_ns,
		.ctime_ns = row->ctime_ns,
		.crtime_ns = row->crtime_ns,
	};
}

static struct ns_attr file_attr(const struct snapshot_info *info, const struct ns_inode_row *row)
{
	return (struct ns_attr){
		.ino = NS_VIEW_FILE | info->number,
		.mode = S_IFREG | (row->mode & 0444),
		.nlink = 1,
		.uid = row->uid,
		.gid = row->gid,
		.size_bytes = info->size_bytes,
		.allocated_bytes = info->allocated_bytes,
		.atime_ns = info->created_ns,
		.mtime_ns = info->created_ns,
		.ctime_ns = info->created_ns,
		.crtime_ns = info->created_ns,
		.class = OBJECT_DISK, /* past the page cache */
	};
}

/* Attributes of a snapshot that was found, which is noted. */
static int take_file(struct ns *ns, const struct snapshot_info *info, struct ns_attr *ret_attr,
		     struct err *e)
{
	struct ns_inode_row row;
	int r = peek_shown(ns, info->object, &row, e);

	if (r < 0)
		return r;
	*ret_attr = file_attr(info, &row);
	GUARD(&ns->view.lock);
	return note_locked(ns, info, ret_attr) ? 0 : err_set(e, -ENOMEM, "snapshot");
}

/* Of a file that is gone but open: as it was. */
static bool remember(struct ns *ns, uint64_t ino, struct ns_attr *ret_attr)
{
	const struct ns_view_file *f;

	GUARD(&ns->view.lock);
	f = find_locked(ns, ino);
	if (!f || f->uses == 0)
		return false;
	*ret_attr = f->attr;
	ret_attr->nlink = 0;
	return true;
}

int ns_view_getattr(struct ns *ns, uint64_t ino, struct ns_attr *ret_attr, struct err *e)
{
	struct snapshot_info info;
	struct ns_inode_row row;
	int r;

	if (!is_file(ino)) {
		r = peek_shown(ns, number_of(ino), &row, e);
		if (r == 0)
			*ret_attr = dir_attr(number_of(ino), &row);
		return r;
	}
	r = ns_view_find(ns, ino, &info, e);
	if (r == 0) {
		r = take_file(ns, &info, ret_attr, e);
		snapshot_info_done(&info);
	}
	return r == -ESTALE && remember(ns, ino, ret_attr) ? 0 : r;
}

/* --- looking up -------------------------------------------------------------------------------- */

/* What ".." of a directory is. */
static int find_parent(struct ns *ns, uint64_t ino, uint64_t *ret_parent, struct err *e)
{
	int r;

	if (ino == NS_VIEW_INO) {
		*ret_parent = NS_ROOT_INO;
		return 0;
	}
	r = ns_parent_of(ns, number_of(ino), ret_parent, e);
	*ret_parent |= NS_VIEW_DIR;
	return r == -ENOENT ? -ESTALE : r;
}

/* In the directory that shows a directory. */
static int lookup_shown(struct ns *ns, uint64_t dir, const char *name, size_t name_bytes,
			struct ns_attr *ret_attr, struct err *e)
{
	struct ns_name_row found;
	struct ns_inode_row row;
	int r = ns_find_name(ns, dir, name, name_bytes, &found, e);

	if (r == 0 && (!S_ISREG(found.type) || snapshot_count(ns->pool, found.ino) == 0) &&
	    !S_ISDIR(found.type))
		r = err_set(e, -ENOENT, "it has no snapshots");
	if (r == 0)
		r = peek_shown(ns, found.ino, &row, e);
	if (r == 0)
		*ret_attr = dir_attr(found.ino, &row);
	return r == -ESTALE ? -ENOENT : r;
}

static int lookup_snapshot(struct ns *ns, uint64_t object, const char *name, size_t name_bytes,
			   struct ns_attr *ret_attr, struct err *e)
{
	char text[NS_NAME_MAX + 1];
	struct snapshot_info info;
	int r;

	memcpy(text, name, name_bytes);
	text[name_bytes] = 0;
	r = snapshot_find(ns->pool, object, text, &info, e);
	if (r == 0) {
		r = take_file(ns, &info, ret_attr, e);
		snapshot_info_done(&info);
	}
	return r;
}

int ns_view_lookup(struct ns *ns, uint64_t parent, const char *name, size_t name_bytes,
		   struct ns_attr *ret_attr, struct err *e)
{
	uint64_t shown = number_of(parent), above;
	struct ns_inode_row row;
	int r;

	if (parent == NS_ROOT_INO)
		return ns_view_getattr(ns, NS_VIEW_INO, ret_attr, e);
	if (ns_name_is_dot(name, name_bytes))
		return ns_view_getattr(ns, parent, ret_attr, e);
	if (is_file(parent))
		return err_set(e, -ENOTDIR, "a snapshot is no directory");
	if (ns_name_is_dotdot(name, name_bytes)) {
		r = find_parent(ns, parent, &above, e);
		return r == 0 ? ns_getattr(ns, above, ret_attr, e) : r;
	}
	r = peek_shown(ns, shown, &row, e);
	if (r < 0)
		return r;
	if (S_ISDIR(row.mode))
		return lookup_shown(ns, shown, name, name_bytes, ret_attr, e);
	return lookup_snapshot(ns, shown, name, name_bytes, ret_attr, e);
}

/* --- reading directories ----------------------------------------------------------------------- */

struct reader {
	struct ns *ns;
	unsigned int flags;
	int (*fn)(void *arg, const struct ns_dirent *entry);
	void *arg;
};

static int give(const struct reader *rd, const struct ns_dirent *entry)
{
	struct ns_dirent with_attr = *entry;
	struct ns_attr attr;

	if (rd->flags && ns_getattr(rd->ns, entry->ino, &attr, NULL) == 0)
		with_attr.attr = &attr;
	return rd->fn(rd->arg, &with_attr);
}

/* An entry of a directory that is shown. */
static int give_shown(void *arg, const struct ns_dirent *entry)
{
	const struct reader *rd = arg;
	struct ns_dirent dir = *entry;

	if (!S_ISDIR(entry->type) &&
	    (!S_ISREG(entry->type) || snapshot_count(rd->ns->pool, entry->ino) == 0))
		return 0;
	dir.ino = NS_VIEW_DIR | entry->ino;
	dir.type = S_IFDIR;
	return give(rd, &dir);
}

static int by_number(const void *a, const void *b)
{
	const struct snapshot_info *left = a, *right = b;

	return (left->number > right->number) - (left->number < right->number);
}

/* Their numbers are never used again and ascend, so they are cookies. */
static int give_snapshots(const struct reader *rd, uint64_t object, uint64_t cookie, struct err *e)
{
	struct snapshot_info *list;
	size_t count;
	int r = snapshot_list(rd->ns->pool, object, &list, &count, e);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	qsort(list, count, sizeof(*list), by_number);
	for (size_t n = 0; n < count && r == 0; n++) {
		struct ns_attr attr;
		const struct ns_dirent entry = {
			.name = list[n].name,
			.name_bytes = strlen(list[n].name),
			.ino = NS_VIEW_FILE | list[n].number,
			.type = S_IFREG,
			.cookie = NS_COOKIE_DOTDOT + list[n].number,
			.attr = rd->flags ? &attr : NULL,
		};

		if (entry.cookie <= cookie)
			continue;
		r = take_file(rd->ns, &list[n], &attr, e);
		if (r == 0)
			r = rd->fn(rd->arg, &entry);
	}
	snapshot_list_free(list, count);
	return r;
}

static int give_dots(const struct reader *rd, uint64_t ino, uint64_t *cookie, struct err *e)
{
	struct ns_dirent dot = {
		.name = ".", .name_bytes = 1, .ino = ino, .type = S_IFDIR, .cookie = NS_COOKIE_DOT
	};
	struct ns_dirent dotdot = {
		.name = "..", .name_bytes = 2, .type = S_IFDIR, .cookie = NS_COOKIE_DOTDOT
	};
	int r = find_parent(rd->ns, ino, &dotdot.ino, e);

	if (r == 0 && *cookie < NS_COOKIE_DOT)
		r = give(rd, &dot);
	if (r == 0 && *cookie < NS_COOKIE_DOTDOT)
		r = give(rd, &dotdot);
	*cookie = max_u64(*cookie, NS_COOKIE_DOTDOT);
	return r;
}

int ns_view_readdir(struct ns *ns, uint64_t ino, uint64_t cookie, unsigned int flags,
		    int (*fn)(void *arg, const struct ns_dirent *entry), void *arg, struct err *e)
{
	struct reader rd = { .ns = ns, .flags = flags, .fn = fn, .arg = arg };
	struct ns_inode_row row;
	int r;

	if (is_file(ino))
		return err_set(e, -ENOTDIR, "a snapshot is no directory");
	r = peek_shown(ns, number_of(ino), &row, e);
	if (r == 0)
		r = give_dots(&rd, ino, &cookie, e);
	if (r == 0 && S_ISDIR(row.mode))
		r = ns_readdir(ns, number_of(ino), cookie, 0, give_shown, &rd, e);
	else if (r == 0)
		r = give_snapshots(&rd, number_of(ino), cookie, e);
	return r < 0 ? r : 0;
}

/* --- open files -------------------------------------------------------------------------------- */

/* One more use of an object that is open. */
static struct object *use_open(struct ns *ns, uint64_t ino, bool handle)
{
	struct ns_view_file *f;

	GUARD(&ns->view.lock);
	f = find_locked(ns, ino);
	if (!f || !f->open)
		return NULL;
	f->uses++;
	f->handles += handle;
	return f->open;
}

/* The object of a snapshot. 1: it has another name meanwhile. */
static int open_object(struct ns *ns, const struct snapshot_info *info, struct object **ret_object,
		       struct err *e)
{
	struct snapshot_info now;
	struct object *o;
	int r = snapshot_open(ns->pool, info->object, info->name, &o, e);

	if (r < 0)
		return r == -ENOENT ? 1 : r;
	r = snapshot_find(ns->pool, info->object, info->name, &now, e);
	if (r == 0) {
		r = now.number != info->number;
		snapshot_info_done(&now);
	} else if (r == -ENOENT) {
		r = 1;
	}
	if (r == 0)
		*ret_object = o;
	else
		object_close(o);
	return r;
}

/* It is in the table, open and used, if memory lasts. */
static int add_open(struct ns *ns, const struct snapshot_info *info, const struct ns_attr *attr,
		    struct object *o, bool handle, struct object **ret_object, struct err *e)
{
	struct object *surplus = NULL;
	struct ns_view_file *f;

	mutex_lock(&ns->view.lock);
	f = note_locked(ns, info, attr);
	if (!f || f->open)
		surplus = o;
	else
		f->open = o;
	if (f) {
		f->uses++;
		f->handles += handle;
		*ret_object = f->open;
	}
	mutex_unlock(&ns->view.lock);
	object_close(surplus);
	return f ? 0 : err_set(e, -ENOMEM, "snapshot");
}

static int use(struct ns *ns, uint64_t ino, bool handle, struct object **ret_object, struct err *e)
{
	struct snapshot_info info;
	struct ns_attr attr;
	struct object *o;
	int r = 1;

	*ret_object = use_open(ns, ino, handle);
	if (*ret_object)
		return 0;
	for (unsigned int round = 0; r == 1 && round < NS_ROUNDS_MAX; round++) {
		r = ns_view_find(ns, ino, &info, e);
		if (r < 0)
			return r;
		r = take_file(ns, &info, &attr, e);
		if (r == 0)
			r = open_object(ns, &info, &o, e);
		if (r == 0)
			r = add_open(ns, &info, &attr, o, handle, ret_object, e);
		snapshot_info_done(&info);
	}
	return r == 1 ? err_set(e, -EBUSY, "a snapshot's name never rests") : r;
}

static void unuse(struct ns *ns, uint64_t ino, bool handle)
{
	struct object *o = NULL;
	struct ns_view_file *f;

	mutex_lock(&ns->view.lock);
	f = find_locked(ns, ino);
	if (f && (handle ? f->handles : f->uses) > 0) {
		f->handles -= handle;
		if (--f->uses == 0)
			o = TAKE_PTR(f->open);
		if (handle)
			gauge_add(&ns->metrics.handles, -1);
	}
	mutex_unlock(&ns->view.lock);
	object_close(o);
}

int ns_view_handle_open(struct ns *ns, uint64_t ino, struct ns_attr *ret_attr, struct err *e)
{
	struct object *o;
	int r = is_file(ino) ? use(ns, ino, true, &o, e) : 0;

	if (r == 0) {
		if (is_file(ino))
			gauge_add(&ns->metrics.handles, 1);
		r = ns_view_getattr(ns, ino, ret_attr, e);
		if (r < 0)
			ns_view_handle_release(ns, ino);
	}
	return r;
}

void ns_view_handle_release(struct ns *ns, uint64_t ino)
{
	if (is_file(ino))
		unuse(ns, ino, true);
}

int ns_view_object_get(struct ns *ns, uint64_t ino, struct object **ret_object, struct err *e)
{
	if (!is_file(ino))
		return err_set(e, -EISDIR, "inode %" PRIu64 " is a directory", ino);
	return use(ns, ino, false, ret_object, e);
}

void ns_view_object_put(struct ns *ns, uint64_t ino)
{
	unuse(ns, ino, false);
}
