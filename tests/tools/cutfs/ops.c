#include "tests/tools/cutfs/ops.h"

#include <fcntl.h>
#include <fnmatch.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

/* A sync takes a while, as on a disk, so that cuts fall into it. */
#define SYNC_NS_MIN UINT64_C(50000)
#define SYNC_NS_MAX UINT64_C(1200000)
/* Nobody changes anything behind the kernel's back. */
#define ENTRY_TIMEOUT_S 1e6

static struct cutfs *fs_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* The inode of a request, or an error was answered. */
static struct cut_inode *inode_of(fuse_req_t req, fuse_ino_t ino)
{
	struct cut_inode *inode = cut_inode_find(fs_of(req), ino);

	if (inode && !fs_of(req)->is_dead)
		return inode;
	(void)fuse_reply_err(req, inode ? EIO : ESTALE);
	return NULL;
}

/*
 * A change is about to happen: the one at which the power goes off? Then nothing of it happens, and
 * the request is answered.
 */
static bool power_fails(fuse_req_t req)
{
	struct cutfs *fs = fs_of(req);

	fs->changes++;
	if (!fs->is_dead && fs->cut_after > 0 && --fs->cut_after == 0)
		cut_power(fs);
	if (fs->is_dead)
		(void)fuse_reply_err(req, EIO);
	return fs->is_dead;
}

static struct cut_inode *inode_to_change(fuse_req_t req, fuse_ino_t ino)
{
	struct cut_inode *inode = inode_of(req, ino);

	return inode && !power_fails(req) ? inode : NULL;
}

/* --- attributes and look-ups ------------------------------------------------------------------- */

static struct stat stat_of(const struct cut_inode *inode)
{
	struct stat st = { .st_ino = inode->ino,
			   .st_mode = inode->mode,
			   .st_uid = inode->uid,
			   .st_gid = inode->gid,
			   .st_size = (off_t)inode->size_bytes,
			   .st_nlink = S_ISDIR(inode->mode) ? 2 : inode->links,
			   .st_blksize = CUT_BLOCK_BYTES,
			   .st_mtim = inode->mtime,
			   .st_atim = inode->mtime,
			   .st_ctim = inode->ctime };
	struct stat backing;

	if (inode->fd >= 0 && fstat(inode->fd, &backing) == 0)
		st.st_blocks = backing.st_blocks;
	return st;
}

static struct fuse_entry_param entry_of(struct cut_inode *inode)
{
	return (struct fuse_entry_param){ .ino = inode->ino,
					  .attr = stat_of(inode),
					  .entry_timeout = ENTRY_TIMEOUT_S };
}

static void look_up(struct cut_inode *inode)
{
	if (inode->lookups++ == 0)
		inode->refs++;
}

static void reply_entry(fuse_req_t req, struct cut_inode *inode)
{
	struct fuse_entry_param e = entry_of(inode);

	look_up(inode);
	(void)fuse_reply_entry(req, &e);
}

static void forget(struct cutfs *fs, uint64_t ino, uint64_t count)
{
	struct cut_inode *inode = cut_inode_find(fs, ino);

	if (!inode || inode->lookups == 0)
		return;
	inode->lookups -= min_u64(count, inode->lookups);
	if (inode->lookups == 0)
		cut_inode_unref(fs, inode);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t count)
{
	forget(fs_of(req), ino, count);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *all)
{
	for (size_t i = 0; i < count; i++)
		forget(fs_of(req), all[i].ino, all[i].nlookup);
	fuse_reply_none(req);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct cut_inode *dir;
	struct cut_entry *e;

	if (parent == CUT_ROOT_INO && strcmp(name, CUT_CONTROL_NAME) == 0) {
		struct fuse_entry_param control = { .ino = CUT_CONTROL_INO };

		control.attr.st_ino = CUT_CONTROL_INO;
		control.attr.st_mode = S_IFREG | 0600;
		control.attr.st_nlink = 1;
		(void)fuse_reply_entry(req, &control);
		return;
	}
	dir = inode_of(req, parent);
	if (!dir)
		return;
	e = cut_dir_find(&dir->live, name);
	if (e)
		reply_entry(req, e->inode);
	else
		(void)fuse_reply_err(req, ENOENT);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat st = { .st_ino = CUT_CONTROL_INO, .st_mode = S_IFREG | 0600, .st_nlink = 1 };
	struct cut_inode *inode;

	(void)fi;
	if (ino != CUT_CONTROL_INO) {
		inode = inode_of(req, ino);
		if (!inode)
			return;
		st = stat_of(inode);
	}
	(void)fuse_reply_attr(req, &st, 0);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		       struct fuse_file_info *fi)
{
	struct cut_inode *inode;
	int r = 0;

	if (ino == CUT_CONTROL_INO) {
		op_getattr(req, ino, fi);
		return;
	}
	inode = inode_to_change(req, ino);
	if (!inode)
		return;
	if (to_set & FUSE_SET_ATTR_SIZE)
		r = cut_data_truncate(fs_of(req), inode, (uint64_t)attr->st_size);
	if (to_set & FUSE_SET_ATTR_MODE)
		inode->mode = (inode->mode & S_IFMT) | (attr->st_mode & ~(mode_t)S_IFMT);
	if (to_set & FUSE_SET_ATTR_UID)
		inode->uid = attr->st_uid;
	if (to_set & FUSE_SET_ATTR_GID)
		inode->gid = attr->st_gid;
	if (to_set & FUSE_SET_ATTR_MTIME)
		inode->mtime = attr->st_mtim;
	if (r < 0)
		(void)fuse_reply_err(req, -r);
	else
		op_getattr(req, ino, fi);
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st;

	(void)ino;
	if (fstatvfs(fs_of(req)->data_fd, &st) < 0)
		(void)fuse_reply_err(req, errno);
	else
		(void)fuse_reply_statfs(req, &st);
}

/* --- names ------------------------------------------------------------------------------------- */

static struct cut_inode *make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	struct cutfs *fs = fs_of(req);
	struct cut_inode *dir = inode_to_change(req, parent), *inode;
	struct cut_name_change change = { .dir = dir, .name = name };

	if (!dir)
		return NULL;
	if (cut_dir_find(&dir->live, name)) {
		(void)fuse_reply_err(req, EEXIST);
		return NULL;
	}
	inode = cut_inode_new(fs, fs->ino_next++, mode);
	inode->uid = fuse_req_ctx(req)->uid;
	inode->gid = fuse_req_ctx(req)->gid;
	change.inode = inode;
	cut_names_change(fs, S_ISDIR(mode) ? CUT_DIRECTORY : CUT_CREATE, &change, 1, false);
	return inode;
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
	struct cut_inode *inode = make(req, parent, name, mode);

	(void)rdev;
	if (inode)
		reply_entry(req, inode);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	op_mknod(req, parent, name, S_IFDIR | (mode & ~(mode_t)S_IFMT), 0);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	struct cut_inode *inode = make(req, parent, name, mode);
	struct fuse_entry_param e;

	if (!inode)
		return;
	look_up(inode);
	e = entry_of(inode);
	(void)fuse_reply_create(req, &e, fi);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	struct cut_inode *inode = inode_of(req, ino), *dir = NULL;
	struct cut_name_change change = { .inode = inode, .name = name };

	if (inode)
		dir = inode_to_change(req, parent);
	if (!dir)
		return;
	change.dir = dir;
	if (cut_dir_find(&dir->live, name)) {
		(void)fuse_reply_err(req, EEXIST);
		return;
	}
	cut_names_change(fs_of(req), CUT_LINK, &change, 1, false);
	reply_entry(req, inode);
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name, enum cut_kind kind)
{
	struct cut_inode *dir = inode_to_change(req, parent);
	struct cut_name_change change = { .dir = dir, .name = name };
	const struct cut_entry *e;

	if (!dir)
		return;
	e = cut_dir_find(&dir->live, name);
	if (!e || e->inode->live) {
		(void)fuse_reply_err(req, e ? ENOTEMPTY : ENOENT);
		return;
	}
	cut_names_change(fs_of(req), kind, &change, 1, false);
	(void)fuse_reply_err(req, 0);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, CUT_UNLINK);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	remove_name(req, parent, name, CUT_DIRECTORY);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t newparent,
		      const char *newname, unsigned int flags)
{
	struct cut_inode *from = inode_of(req, parent);
	struct cut_inode *to = from ? inode_to_change(req, newparent) : NULL;
	const struct cut_entry *e, *was;

	if (!to)
		return;
	e = cut_dir_find(&from->live, name);
	was = cut_dir_find(&to->live, newname);
	if (!e || (!was && (flags & RENAME_EXCHANGE))) {
		(void)fuse_reply_err(req, ENOENT);
	} else if (was && (flags & RENAME_NOREPLACE)) {
		(void)fuse_reply_err(req, EEXIST);
	} else if (was && !(flags & RENAME_EXCHANGE) && was->inode->live) {
		(void)fuse_reply_err(req, ENOTEMPTY);
	} else if (was && was->inode == e->inode) {
		(void)fuse_reply_err(req, 0);
	} else {
		struct cut_name_change change[2] = {
			{ .dir = from,
			  .name = name,
			  .inode = flags & RENAME_EXCHANGE ? was->inode : NULL },
			{ .dir = to, .name = newname, .inode = e->inode }
		};

		cut_names_change(fs_of(req), CUT_RENAME, change, 2, was != NULL);
		(void)fuse_reply_err(req, 0);
	}
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t len_bytes, off_t offset,
		       struct fuse_file_info *fi)
{
	struct cut_inode *dir = inode_of(req, ino);
	size_t used = 0;
	char *buf;

	(void)fi;
	if (!dir)
		return;
	buf = cut_alloc(len_bytes);
	for (const struct cut_entry *e = dir->live; e; e = e->hh.next) {
		struct stat st = { .st_ino = e->inode->ino, .st_mode = e->inode->mode };
		size_t n;

		if ((off_t)e->cookie <= offset)
			continue;
		n = fuse_add_direntry(req, buf + used, len_bytes - used, e->name, &st,
				      (off_t)e->cookie);
		if (n > len_bytes - used)
			break;
		used += n;
	}
	(void)fuse_reply_buf(req, buf, used);
	free(buf);
}

/* --- bytes ------------------------------------------------------------------------------------- */

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct cut_inode *inode;
	int r = 0;

	fi->direct_io = ino == CUT_CONTROL_INO;
	if (ino != CUT_CONTROL_INO) {
		/* The kernel leaves O_TRUNC to us. */
		inode = fi->flags & O_TRUNC ? inode_to_change(req, ino) : inode_of(req, ino);
		if (!inode)
			return;
		if (fi->flags & O_TRUNC)
			r = cut_data_truncate(fs_of(req), inode, 0);
	}
	if (r < 0)
		(void)fuse_reply_err(req, -r);
	else
		(void)fuse_reply_open(req, fi);
}

/* "live" or "cut", how many changes there were, how many syncs are still to fail. */
static void read_control(fuse_req_t req, size_t len_bytes, off_t offset)
{
	const struct cutfs *fs = fs_of(req);
	char text[64];
	int n = snprintf(text, sizeof(text), "%s %" PRIu64 " %" PRIu64 "\n",
			 fs->is_dead ? "cut" : "live", fs->changes, fs->sync_fails);

	if (offset >= n)
		(void)fuse_reply_buf(req, NULL, 0);
	else
		(void)fuse_reply_buf(req, text + offset,
				     min_u64(len_bytes, (uint64_t)(n - offset)));
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t len_bytes, off_t offset,
		    struct fuse_file_info *fi)
{
	struct cut_inode *inode;
	char *buf;
	ssize_t n;

	(void)fi;
	if (ino == CUT_CONTROL_INO) {
		read_control(req, len_bytes, offset);
		return;
	}
	inode = inode_of(req, ino);
	if (!inode)
		return;
	buf = cut_alloc(len_bytes);
	n = pread(inode->fd, buf, len_bytes, offset);
	if (n < 0)
		(void)fuse_reply_err(req, errno);
	else
		(void)fuse_reply_buf(req, buf, (size_t)n);
	free(buf);
}

/* "cut SEED": the power goes off now. "cut SEED N": with the N-th change from now on; "stay" undoes that. "fail N
 * GLOB": the next N syncs of what matches fail. */
static void write_control(fuse_req_t req, const char *bytes, size_t len_bytes)
{
	struct cutfs *fs = fs_of(req);
	char text[300];
	uint64_t seed, after = 0;

	(void)snprintf(text, sizeof(text), "%.*s", (int)min_u64(len_bytes, sizeof(text) - 1),
		       bytes);
	if (strncmp(text, "stay", 4) == 0) {
		fs->cut_after = 0;
		(void)fuse_reply_write(req, len_bytes);
		return;
	}
	if (sscanf(text, "fail %" SCNu64 " %255s", &fs->sync_fails, fs->sync_fails_at) == 2) {
		(void)fuse_reply_write(req, len_bytes);
		return;
	}
	if (sscanf(text, "cut %" SCNu64 " %" SCNu64, &seed, &after) < 1) {
		(void)fuse_reply_err(req, EINVAL);
		return;
	}
	if (!fs->is_dead) {
		fs->seed = seed;
		fs->cut_after = after;
		if (after == 0)
			cut_power(fs);
	}
	(void)fuse_reply_write(req, len_bytes);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t len_bytes,
		     off_t offset, struct fuse_file_info *fi)
{
	struct cut_inode *inode;
	int r;

	if (ino == CUT_CONTROL_INO) {
		write_control(req, bytes, len_bytes);
		return;
	}
	inode = inode_to_change(req, ino);
	if (!inode)
		return;
	r = cut_data_write(fs_of(req), inode, (const uint8_t *)bytes, len_bytes, (uint64_t)offset);
	if (r == 0 && (fi->flags & O_DSYNC))
		cut_data_sync(fs_of(req), inode, fs_of(req)->seq);
	if (r < 0)
		(void)fuse_reply_err(req, -r);
	else
		(void)fuse_reply_write(req, len_bytes);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t len_bytes,
			 struct fuse_file_info *fi)
{
	struct cut_inode *inode = inode_to_change(req, ino);
	uint64_t end;
	int r;

	(void)fi;
	if (!inode)
		return;
	end = (uint64_t)(offset + len_bytes);
	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) {
		(void)fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		r = cut_data_hole(fs_of(req), inode, (uint64_t)offset, (uint64_t)len_bytes);
	else
		r = fallocate(inode->fd, FALLOC_FL_KEEP_SIZE, offset, len_bytes) < 0 ? -errno : 0;
	if (r == 0 && !(mode & FALLOC_FL_KEEP_SIZE))
		r = cut_data_grow(fs_of(req), inode, end);
	(void)fuse_reply_err(req, -r);
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence,
		     struct fuse_file_info *fi)
{
	const struct cut_inode *inode = inode_of(req, ino);
	off_t at;

	(void)fi;
	if (!inode)
		return;
	at = lseek(inode->fd, offset, whence);
	if (at < 0)
		(void)fuse_reply_err(req, errno);
	else
		(void)fuse_reply_lseek(req, at);
}

/* --- syncs ------------------------------------------------------------------------------------- */

struct sync_wait {
	fuse_req_t req;
	struct cut_inode *inode; /* referenced */
	uint64_t seq, due_ns;
};

static struct sync_wait *waits;
static size_t wait_count, wait_cap;

/* As it was told to. */
static bool sync_fails(struct cutfs *fs, const struct cut_inode *inode)
{
	char path[1024];

	if (fs->sync_fails == 0)
		return false;
	cut_path(fs, inode, path, sizeof(path));
	if (fnmatch(fs->sync_fails_at, path, 0) != 0)
		return false;
	fs->sync_fails--;
	return true;
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct cutfs *fs = fs_of(req); /* before the request may be answered */
	struct cut_inode *inode = inode_to_change(req, ino);
	struct sync_wait w = { .req = req, .inode = inode, .seq = fs->seq };
	struct timespec now;

	(void)datasync;
	(void)fi;
	if (!inode)
		return;
	if (sync_fails(fs, inode)) {
		(void)fuse_reply_err(req, EIO);
		return;
	}
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	w.due_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec + SYNC_NS_MIN +
		   rng_mix(fs->changes) % (SYNC_NS_MAX - SYNC_NS_MIN);
	inode->refs++;
	CUT_ROOM(waits, wait_count, wait_cap);
	waits[wait_count++] = w;
}

uint64_t cut_sync_due_ns(void)
{
	uint64_t due_ns = wait_count ? UINT64_MAX : 0;

	for (size_t i = 0; i < wait_count; i++)
		due_ns = min_u64(due_ns, waits[i].due_ns);
	return due_ns;
}

void cut_sync_answer(struct cutfs *fs, uint64_t now_ns)
{
	size_t left = 0;

	for (size_t i = 0; i < wait_count; i++) {
		struct sync_wait w = waits[i];

		if (!fs->is_dead && w.due_ns > now_ns) {
			waits[left++] = w;
			continue;
		}
		if (!fs->is_dead && S_ISDIR(w.inode->mode))
			cut_names_sync(fs, w.inode, w.seq);
		else if (!fs->is_dead)
			cut_data_sync(fs, w.inode, w.seq);
		(void)fuse_reply_err(w.req, fs->is_dead ? EIO : 0);
		cut_inode_unref(fs, w.inode);
	}
	wait_count = left;
}

const struct fuse_lowlevel_ops cut_ops = {
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.statfs = op_statfs,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.create = op_create,
	.link = op_link,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.rename = op_rename,
	.readdir = op_readdir,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.fsync = op_fsync,
	.fsyncdir = op_fsync,
};
