/*
 * sim_fs - devices, paths, inodes and open files of the simulated machine.
 */
#include "tests/sim/sim_impl.h"

#include <stdlib.h>
#include <string.h>

/* ---- inodes --------------------------------------------------------------------------------- */

struct inode *inode_ref(struct inode *inode)
{
	inode->refs++;
	return inode;
}

static void inode_free(struct sim *sim, struct inode *inode)
{
	if (!inode->gone)
		store_drop_cur(sim, inode);
	dir_clear(sim, &inode->cur);
	dir_clear(sim, &inode->dur);
	store_free(sim, inode);
	if (inode->next)
		inode->next->prev = inode->prev;
	if (inode->prev)
		inode->prev->next = inode->next;
	else
		sim->inodes = inode->next;
	free(inode);
}

void inode_unref(struct sim *sim, struct inode *inode)
{
	if (inode && --inode->refs == 0)
		inode_free(sim, inode);
}

/* With one reference. The caller has seen that there is room. */
static struct inode *inode_new(struct sim *sim, struct device *dev, bool is_dir)
{
	struct inode *inode = sim_alloc(sizeof(*inode));

	inode->dev = dev;
	inode->ino = ++sim->next_ino;
	inode->refs = 1;
	inode->is_dir = is_dir;
	inode->next = sim->inodes;
	if (inode->next)
		inode->next->prev = inode;
	sim->inodes = inode;
	dev->used_blocks++;
	return inode;
}

static void maybe_gone(struct sim *sim, struct inode *inode)
{
	if (inode->links == 0 && inode->open_count == 0 && !inode->gone)
		store_drop_cur(sim, inode);
}

/* ---- paths ---------------------------------------------------------------------------------- */

static uint32_t hash_name(const char *text)
{
	uint32_t h = 2166136261u;

	for (; *text; text++)
		h = (h ^ (uint8_t)*text) * 16777619u;
	return h;
}

/* "/a/b" out of "a//./b", "/x/../a/b/": no trailing slash, "" is the root. */
static int normal_path(const char *path, char ret_path[SIM_PATH_MAX])
{
	size_t len = 0;

	if (*path == '\0')
		return -ENOENT;
	while (*path) {
		size_t n = strcspn(path, "/");

		if (n == 2 && memcmp(path, "..", 2) == 0) {
			while (len > 0 && ret_path[--len] != '/')
				;
		} else if (n != 0 && !(n == 1 && *path == '.')) {
			if (n > SIM_NAME_MAX || len + n + 2 > SIM_PATH_MAX)
				return -ENAMETOOLONG;
			ret_path[len++] = '/';
			memcpy(ret_path + len, path, n);
			len += n;
		}
		path += n;
		path += *path == '/';
	}
	ret_path[len] = '\0';
	return 0;
}

static struct device *device_of(struct sim *sim, const char *normal)
{
	struct device *best = &sim->devices[0];

	for (size_t i = 1; i < sim->device_count; i++) {
		struct device *dev = &sim->devices[i];

		if (dev->path_len > best->path_len &&
		    strncmp(normal, dev->path, dev->path_len) == 0 &&
		    (normal[dev->path_len] == '/' || normal[dev->path_len] == '\0'))
			best = dev;
	}
	return best;
}

struct device *fs_device(struct sim *sim, const char *path)
{
	char normal[SIM_PATH_MAX];

	return normal_path(path, normal) < 0 ? NULL : device_of(sim, normal);
}

static struct inode *child_of(const struct inode *dir, const char *text)
{
	int i = dir_find(&dir->cur, text, hash_name(text));

	return i < 0 ? NULL : dir->cur.entries[i].inode;
}

/* Where a name is or would be. leaf is "" when the path is the root of a device. */
struct place {
	struct inode *dir;
	struct inode *inode; /* NULL: not there */
	char leaf[SIM_NAME_MAX + 1];
	char normal[SIM_PATH_MAX];
};

static int find_place(struct sim *sim, const char *path, struct place *ret_place)
{
	struct place *p = ret_place;
	const struct device *dev;
	const char *at;
	int r = normal_path(path, p->normal);

	if (r < 0)
		return r;
	dev = device_of(sim, p->normal);
	p->dir = NULL;
	p->inode = dev->root;
	p->leaf[0] = '\0';
	at = p->normal + dev->path_len;
	while (*at == '/') {
		size_t n = strcspn(++at, "/");

		if (!p->inode)
			return -ENOENT;
		if (!p->inode->is_dir)
			return -ENOTDIR;
		memcpy(p->leaf, at, n);
		p->leaf[n] = '\0';
		p->dir = p->inode;
		p->inode = child_of(p->dir, p->leaf);
		at += n;
	}
	return 0;
}

int fs_lookup(struct sim *sim, const char *path, struct inode **ret_inode)
{
	struct place p;
	int r = find_place(sim, path, &p);

	if (r < 0)
		return r;
	if (!p.inode)
		return -ENOENT;
	*ret_inode = p.inode;
	return 0;
}

/* ---- changing names ------------------------------------------------------------------------- */

static void add_name(struct sim *sim, const struct place *p, struct inode *inode)
{
	struct name *name = name_new(p->leaf, hash_name(p->leaf));

	dir_set(sim, &p->dir->cur, name, inode);
	inode->links++;
	inode->changed_ns = (int64_t)sim->now_ns + sim->real_offset_ns;
	names_changed(sim, &(struct name_change){ p->dir, name, inode }, 1);
	name_unref(name);
}

static void lose_link(struct sim *sim, struct inode *inode)
{
	inode->links--;
	maybe_gone(sim, inode);
}

static void remove_name(struct sim *sim, const struct place *p)
{
	struct name *name = name_new(p->leaf, hash_name(p->leaf));
	struct inode *inode = inode_ref(p->inode);

	names_changed(sim, &(struct name_change){ p->dir, name, NULL }, 1);
	dir_remove(sim, &p->dir->cur, name);
	lose_link(sim, inode);
	name_unref(name);
	inode_unref(sim, inode);
}

static int create(struct sim *sim, struct place *p, bool is_dir)
{
	struct inode *inode;

	if (!device_has_room(p->dir->dev, 1))
		return -ENOSPC;
	inode = inode_new(sim, p->dir->dev, is_dir);
	add_name(sim, p, inode);
	p->inode = inode;
	inode_unref(sim, inode); /* the directory has it */
	return 0;
}

int fs_link(struct sim *sim, const char *from, const char *to)
{
	struct place a, b;
	int r = find_place(sim, from, &a);

	if (r < 0)
		return r;
	r = find_place(sim, to, &b);
	if (r < 0)
		return r;
	if (!a.inode)
		return -ENOENT;
	if (b.inode)
		return -EEXIST;
	if (a.inode->is_dir)
		return -EPERM;
	if (a.inode->dev != b.dir->dev)
		return -EXDEV;
	add_name(sim, &b, a.inode);
	return 0;
}

static int may_rename(const struct place *a, const struct place *b)
{
	size_t len = strlen(a->normal);

	if (!a->inode)
		return -ENOENT;
	if (!a->dir || !b->dir)
		return -EBUSY;
	if (a->inode->dev != b->dir->dev)
		return -EXDEV;
	if (a->inode->is_dir && strncmp(a->normal, b->normal, len) == 0 && b->normal[len] == '/')
		return -EINVAL;
	if (!b->inode)
		return 0;
	if (b->inode->is_dir && !a->inode->is_dir)
		return -EISDIR;
	if (!b->inode->is_dir && a->inode->is_dir)
		return -ENOTDIR;
	return b->inode->cur.count == 0 ? 0 : -ENOTEMPTY;
}

int fs_rename(struct sim *sim, const char *from, const char *to)
{
	struct place a, b;
	struct name_change change[2];
	int r = find_place(sim, from, &a);

	if (r < 0)
		return r;
	r = find_place(sim, to, &b);
	if (r < 0)
		return r;
	r = may_rename(&a, &b);
	if (r < 0 || a.inode == b.inode)
		return r;
	change[0] = (struct name_change){ a.dir, name_new(a.leaf, hash_name(a.leaf)), NULL };
	change[1] = (struct name_change){ b.dir, name_new(b.leaf, hash_name(b.leaf)), a.inode };
	names_changed(sim, change, 2);
	if (b.inode)
		(void)inode_ref(b.inode);
	dir_set(sim, &b.dir->cur, change[1].name, a.inode);
	dir_remove(sim, &a.dir->cur, change[0].name);
	if (b.inode)
		lose_link(sim, b.inode);
	inode_unref(sim, b.inode);
	name_unref(change[0].name);
	name_unref(change[1].name);
	return 0;
}

int fs_unlink(struct sim *sim, const char *path)
{
	struct place p;
	int r = find_place(sim, path, &p);

	if (r < 0)
		return r;
	if (!p.inode)
		return -ENOENT;
	if (p.inode->is_dir)
		return -EISDIR;
	remove_name(sim, &p);
	return 0;
}

int fs_mkdir(struct sim *sim, const char *path)
{
	struct place p;
	int r = find_place(sim, path, &p);

	if (r < 0)
		return r;
	return p.inode ? -EEXIST : create(sim, &p, true);
}

int fs_rmdir(struct sim *sim, const char *path)
{
	struct place p;
	int r = find_place(sim, path, &p);

	if (r < 0)
		return r;
	if (!p.inode)
		return -ENOENT;
	if (!p.inode->is_dir)
		return -ENOTDIR;
	if (!p.dir)
		return -EBUSY;
	if (p.inode->cur.count != 0)
		return -ENOTEMPTY;
	remove_name(sim, &p);
	return 0;
}

size_t fs_names(struct sim *sim, struct inode *dir, struct name ***ret_names)
{
	size_t count = dir->cur.count;
	struct name **names = sim_alloc((count + 1) * sizeof(struct name *));

	for (size_t i = 0; i < count; i++) {
		size_t k = (size_t)rng_below(&sim->rng_disk, i + 1);

		names[i] = names[k];
		names[k] = name_ref(dir->cur.entries[i].name);
	}
	*ret_names = names;
	return count;
}

/* ---- open files ----------------------------------------------------------------------------- */

static int may_open(const struct place *p, unsigned int flags)
{
	if (!p->inode)
		return flags & ENV_CREATE ? 0 : -ENOENT;
	if (flags & ENV_CREATE && flags & ENV_EXCL)
		return -EEXIST;
	if (flags & ENV_DIR && !p->inode->is_dir)
		return -ENOTDIR;
	if (p->inode->is_dir && flags & (ENV_WRITE | ENV_CREATE | ENV_TRUNC))
		return -EISDIR;
	return 0;
}

int fs_open(struct sim *sim, const char *path, unsigned int flags, struct env_file **ret_file)
{
	struct place p;
	struct env_file *f;
	size_t len;
	int r = find_place(sim, path, &p);

	if (r < 0)
		return r;
	r = may_open(&p, flags);
	if (r < 0)
		return r;
	if (!p.inode) {
		r = create(sim, &p, false);
		if (r < 0)
			return r;
	} else if (flags & ENV_TRUNC) {
		ioq_settle(sim, p.inode);
		r = store_truncate(sim, p.inode, 0);
		ASSERT(r == 0);
	}
	len = strlen(p.normal);
	f = sim_alloc(sizeof(*f) + len + 1);
	memcpy(f->path, p.normal, len + 1);
	f->inode = inode_ref(p.inode);
	f->inode->open_count++;
	f->flags = flags;
	/* tmpfs refuses O_DIRECT, and env then opens without it. */
	if (p.inode->dev->flags & SIM_DEV_TMPFS)
		f->flags &= ~(unsigned int)ENV_DIRECT;
	f->of_process = sim->cur != NULL;
	f->next = sim->files;
	if (f->next)
		f->next->prev = f;
	sim->files = f;
	*ret_file = f;
	return 0;
}

void fs_close(struct sim *sim, struct env_file *f)
{
	struct inode *inode = f->inode;

	if (inode->locked_by == f)
		inode->locked_by = NULL;
	if (f->next)
		f->next->prev = f->prev;
	if (f->prev)
		f->prev->next = f->next;
	else
		sim->files = f->next;
	free(f);
	inode->open_count--;
	maybe_gone(sim, inode);
	inode_unref(sim, inode);
}

/* ---- devices -------------------------------------------------------------------------------- */

void sim_add_device(struct sim *sim, const char *path, uint64_t size_bytes, unsigned int flags)
{
	struct device *dev = &sim->devices[sim->device_count];

	ASSERT(sim->device_count < SIM_DEVICES_MAX);
	if (normal_path(path, dev->path) < 0)
		sim_fail(sim, "bad mount path '%s'", path);
	dev->path_len = strlen(dev->path);
	dev->size_bytes = size_bytes;
	dev->flags = flags;
	dev->root = inode_new(sim, dev, true);
	dev->root->links = 1;
	sim->device_count++;
}

void sim_set_device_bytes(struct sim *sim, const char *path, uint64_t size_bytes)
{
	struct device *dev = fs_device(sim, path);

	ASSERT(dev);
	dev->size_bytes = size_bytes;
}

int sim_flip(struct sim *sim, const char *path, uint64_t offset_bytes, uint8_t mask)
{
	struct inode *inode;
	int r = fs_lookup(sim, path, &inode);

	if (r < 0)
		return r;
	if (inode->is_dir)
		return -EISDIR;
	if (offset_bytes >= inode->size)
		return -ENXIO;
	store_flip(sim, inode, offset_bytes, mask);
	return 0;
}

void fs_free(struct sim *sim)
{
	while (sim->files)
		fs_close(sim, sim->files);
	names_forget(sim);
	free(sim->name_fx);
	for (size_t i = 0; i < sim->device_count; i++) {
		struct inode *root = sim->devices[i].root;

		dir_clear(sim, &root->cur);
		dir_clear(sim, &root->dur);
	}
	for (size_t i = 0; i < sim->device_count; i++)
		inode_unref(sim, sim->devices[i].root);
	ASSERT(!sim->inodes);
}
