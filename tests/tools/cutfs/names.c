/*
 * cutfs_names - inodes, directories, and what of their changes is on the medium.
 *
 * All unsynced changes of names stand in one list, in order. A cut either keeps the first few of them,
 * as filesystems with a journal do, or decides about each on its own. Two rules hold even then:
 * - a rename of what a dropped rename had put there falls with it, else a file would have two names;
 * - a rename onto a name that was there brings along what came into its directory before. RocksDB
 *   needs that (a new MANIFEST, then CURRENT renamed, then one sync of the directory), and every
 *   filesystem that orders its metadata gives it.
 */
#include "tests/tools/cutfs/cutfs.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- inodes ------------------------------------------------------------------------------------ */

struct cut_inode *cut_inode_new(struct cutfs *fs, uint64_t ino, mode_t mode)
{
	struct cut_inode *inode = cut_alloc(sizeof(*inode));
	char name[32];

	inode->ino = ino;
	inode->mode = mode;
	inode->fd = -1;
	(void)clock_gettime(CLOCK_REALTIME, &inode->mtime);
	inode->ctime = inode->mtime;
	if (S_ISREG(mode)) {
		(void)snprintf(name, sizeof(name), "%" PRIu64, ino);
		inode->fd = openat(fs->data_fd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		if (inode->fd < 0)
			cut_die("opening a file of the store");
	}
	HASH_ADD(hh, fs->inodes, ino, sizeof(inode->ino), inode);
	return inode;
}

struct cut_inode *cut_inode_find(struct cutfs *fs, uint64_t ino)
{
	struct cut_inode *inode;

	HASH_FIND(hh, fs->inodes, &ino, sizeof(ino), inode);
	return inode;
}

void cut_inode_unref(struct cutfs *fs, struct cut_inode *inode)
{
	char name[32];

	ASSERT(inode->refs > 0);
	if (--inode->refs > 0)
		return;
	cut_data_forget(fs, inode);
	fs->pending_bytes -= inode->pending_bytes;
	cut_dir_clear(fs, &inode->live);
	cut_dir_clear(fs, &inode->durable);
	if (inode->fd >= 0) {
		(void)close(inode->fd);
		(void)snprintf(name, sizeof(name), "%" PRIu64, inode->ino);
		(void)unlinkat(fs->data_fd, name, 0);
	}
	HASH_DEL(fs->inodes, inode);
	free(inode);
}

/* --- directories ------------------------------------------------------------------------------- */

struct cut_entry *cut_dir_find(struct cut_entry *const *dir, const char *name)
{
	struct cut_entry *entry;

	HASH_FIND(hh, *dir, name, strlen(name), entry);
	return entry;
}

static const char *name_in(const struct cut_inode *dir, const struct cut_inode *inode)
{
	for (const struct cut_entry *e = dir->live; e; e = e->hh.next)
		if (e->inode == inode)
			return e->name;
	return NULL;
}

void cut_path(const struct cutfs *fs, const struct cut_inode *inode, char *path, size_t len_bytes)
{
	const struct cut_inode *dir;
	const char *name = NULL;
	char above[1024] = "";

	path[0] = '\0';
	if (inode == fs->root)
		return;
	for (dir = fs->inodes; dir; dir = dir->hh.next)
		if ((name = name_in(dir, inode)))
			break;
	if (!name)
		return;
	cut_path(fs, dir, above, sizeof(above));
	(void)snprintf(path, len_bytes, "%s%s%s", above, above[0] ? "/" : "", name);
}

void cut_dir_remove(struct cutfs *fs, struct cut_entry **dir, const char *name)
{
	struct cut_entry *entry = cut_dir_find(dir, name);

	if (!entry)
		return;
	HASH_DEL(*dir, entry);
	cut_inode_unref(fs, entry->inode);
	free(entry);
}

void cut_dir_set(struct cutfs *fs, struct cut_entry **dir, const char *name,
		 struct cut_inode *inode)
{
	size_t len = strlen(name);
	struct cut_entry *entry = cut_alloc(sizeof(*entry) + len + 1);

	inode->refs++;
	cut_dir_remove(fs, dir, name);
	entry->inode = inode;
	entry->cookie = fs->cookie_next++;
	memcpy(entry->name, name, len + 1);
	HASH_ADD(hh, *dir, name, len, entry);
}

void cut_dir_clear(struct cutfs *fs, struct cut_entry **dir)
{
	struct cut_entry *entry, *next;

	HASH_ITER (hh, *dir, entry, next) {
		HASH_DEL(*dir, entry);
		cut_inode_unref(fs, entry->inode);
		free(entry);
	}
}

static void change_live(struct cutfs *fs, const struct cut_name_change *c)
{
	const struct cut_entry *was = cut_dir_find(&c->dir->live, c->name);

	if (was) {
		was->inode->links--;
		(void)clock_gettime(CLOCK_REALTIME, &was->inode->ctime);
	}
	if (c->inode) {
		c->inode->links++;
		if (S_ISDIR(c->inode->mode))
			c->inode->parent = c->dir;
		(void)clock_gettime(CLOCK_REALTIME, &c->inode->ctime);
		cut_dir_set(fs, &c->dir->live, c->name, c->inode);
	} else {
		cut_dir_remove(fs, &c->dir->live, c->name);
	}
	(void)clock_gettime(CLOCK_REALTIME, &c->dir->mtime);
	c->dir->ctime = c->dir->mtime;
}

/* --- effects ----------------------------------------------------------------------------------- */

static void release(struct cutfs *fs, struct cut_name_fx *fx)
{
	for (unsigned int i = 0; i < fx->count; i++) {
		struct cut_name_change *c = &fx->change[i];
		union {
			const char *kept;
			char *freed;
		} name = { .kept = c->name };

		free(name.freed);
		if (c->inode)
			cut_inode_unref(fs, c->inode);
		cut_inode_unref(fs, c->dir);
	}
}

static void apply(struct cutfs *fs, const struct cut_name_fx *fx)
{
	for (unsigned int i = 0; i < fx->count; i++) {
		const struct cut_name_change *c = &fx->change[i];

		if (c->inode)
			cut_dir_set(fs, &c->dir->durable, c->name, c->inode);
		else
			cut_dir_remove(fs, &c->dir->durable, c->name);
	}
}

static bool same_place(const struct cut_name_change *a, const struct cut_name_change *b)
{
	return a->dir == b->dir && strcmp(a->name, b->name) == 0;
}

static bool builds_on(const struct cut_name_fx *later, const struct cut_name_fx *earlier)
{
	for (unsigned int i = 0; i < later->count; i++)
		for (unsigned int k = 0; k < earlier->count; k++)
			if (same_place(&later->change[i], &earlier->change[k]))
				return true;
	return false;
}

/* Apply the marked effects and what they build on; the others stay. */
static void apply_marked(struct cutfs *fs)
{
	size_t left = 0, count = fs->name_count;

	for (size_t i = count; i-- > 0;) {
		if (!fs->names[i].marked)
			continue;
		for (size_t k = 0; k < i; k++)
			if (builds_on(&fs->names[i], &fs->names[k]))
				fs->names[k].marked = true;
	}
	for (size_t i = 0; i < count; i++) {
		struct cut_name_fx fx = fs->names[i];

		if (!fx.marked) {
			fs->names[left++] = fx;
			continue;
		}
		apply(fs, &fx);
		release(fs, &fx);
	}
	fs->name_count = left;
}

void cut_names_change(struct cutfs *fs, enum cut_kind kind, const struct cut_name_change *change,
		      unsigned int count, bool is_over)
{
	struct cut_name_fx fx = { .seq = ++fs->seq, .kind = kind, .count = count };

	fx.is_over = is_over;
	for (unsigned int i = 0; i < count; i++) {
		fx.change[i] = change[i];
		fx.change[i].name = strdup(change[i].name);
		if (!fx.change[i].name)
			cut_die("memory");
		change[i].dir->refs++;
		if (change[i].inode)
			change[i].inode->refs++;
	}
	for (unsigned int i = 0; i < count; i++)
		change_live(fs, &fx.change[i]);
	if (fs->name_count >= CUT_NAMES_PENDING_MAX) {
		for (size_t i = 0; i < CUT_NAMES_PENDING_MAX / 4; i++)
			fs->names[i].marked = true;
		apply_marked(fs);
	}
	CUT_ROOM(fs->names, fs->name_count, fs->name_cap);
	fs->names[fs->name_count++] = fx;
}

void cut_names_sync(struct cutfs *fs, const struct cut_inode *dir, uint64_t seq)
{
	for (size_t i = 0; i < fs->name_count && fs->names[i].seq <= seq; i++)
		for (unsigned int k = 0; k < fs->names[i].count; k++)
			if (fs->names[i].change[k].dir == dir)
				fs->names[i].marked = true;
	apply_marked(fs);
}

/* --- the cut ----------------------------------------------------------------------------------- */

/* Whether i moves what a dropped rename before it had put there. */
static bool falls_with_earlier(const struct cutfs *fs, size_t i)
{
	const struct cut_name_fx *fx = &fs->names[i];

	if (fx->kind != CUT_RENAME)
		return false;
	for (size_t k = i; k-- > 0;) {
		const struct cut_name_fx *earlier = &fs->names[k];

		if (earlier->kind == CUT_RENAME && same_place(&earlier->change[1], &fx->change[0]))
			return !earlier->marked;
	}
	return false;
}

static void mark_on_its_own(struct cutfs *fs, size_t i)
{
	struct cut_name_fx *fx = &fs->names[i];

	fx->marked = cut_fate(fs, fx->change[0].dir->ino, fx->seq, 1) % 1000000 < fs->keep_ppm &&
		     !falls_with_earlier(fs, i);
	if (!fx->marked || !fx->is_over)
		return;
	for (size_t k = 0; k < i; k++)
		if (fs->names[k].change[fs->names[k].count - 1].inode &&
		    fs->names[k].change[fs->names[k].count - 1].dir == fx->change[1].dir)
			fs->names[k].marked = true;
}

void cut_names_power(struct cutfs *fs)
{
	uint64_t first = fs->name_count * (uint64_t)fs->keep_ppm / 1000000;

	for (size_t i = 0; i < fs->name_count; i++) {
		if (fs->in_order)
			fs->names[i].marked = i < first;
		else
			mark_on_its_own(fs, i);
	}
	for (size_t i = 0; i < fs->name_count; i++) {
		struct cut_name_fx *fx = &fs->names[i];

		(fx->marked ? fs->counts.kept : fs->counts.dropped)[fx->kind]++;
		if (fx->marked)
			apply(fs, fx);
		release(fs, fx);
	}
	fs->name_count = 0;
}
