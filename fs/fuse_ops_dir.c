/* Open directories. */
#include "fs/fuse_impl.h"

void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_session *s = fs_session_of(req);
	struct ns_attr attr;
	struct err e = { 0 };
	int r = ns_handle_open(s->ns, ino, &attr, &e);

	if (r < 0) {
		fs_reply_code(req, "opendir", ino, r, &e);
		return;
	}
	fi->fh = ino;
	if (fuse_reply_open(req, fi) < 0)
		ns_handle_release(s->ns, ino);
}

void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)fi;
	ns_handle_release(fs_session_of(req)->ns, ino);
	fs_reply_code(req, "releasedir", ino, 0, NULL);
}

void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct err e = { 0 };

	(void)datasync;
	(void)fi;
	fs_reply_code(req, "fsyncdir", ino, pool_sync_names(fs_session_of(req)->pool, &e), &e);
}

/* Entries as they are written into a reply. */
struct listing {
	fuse_req_t req;
	char *bytes;
	size_t len_bytes, room_bytes;
};

static bool is_dot(const struct ns_dirent *d)
{
	return d->cookie == NS_COOKIE_DOT || d->cookie == NS_COOKIE_DOTDOT;
}

static int add_entry(void *arg, const struct ns_dirent *d)
{
	struct listing *l = arg;
	struct stat st = { .st_ino = d->ino, .st_mode = d->type };
	size_t room_bytes = l->room_bytes - l->len_bytes;
	size_t need_bytes = fuse_add_direntry(l->req, l->bytes + l->len_bytes, room_bytes, d->name,
					      &st, (off_t)d->cookie);

	if (need_bytes > room_bytes)
		return 1;
	l->len_bytes += need_bytes;
	return 0;
}

static int add_entry_plus(void *arg, const struct ns_dirent *d)
{
	struct listing *l = arg;
	struct fuse_entry_param entry = { 0 };
	size_t room_bytes = l->room_bytes - l->len_bytes, need_bytes;

	/* Of "." and ".." no look-up is counted: without ino the kernel takes none. */
	if (d->attr && !is_dot(d)) {
		fs_attr_to_entry(fs_session_of(l->req), d->attr, &entry);
	} else {
		entry.attr.st_ino = d->ino;
		entry.attr.st_mode = d->type;
	}
	need_bytes = fuse_add_direntry_plus(l->req, l->bytes + l->len_bytes, room_bytes, d->name,
					    &entry, (off_t)d->cookie);
	if (need_bytes > room_bytes)
		return 1;
	l->len_bytes += need_bytes;
	return 0;
}

static void list(fuse_req_t req, uint64_t ino, size_t room_bytes, off_t offset, bool plus)
{
	struct fs_session *s = fs_session_of(req);
	struct listing l = {
		.req = req,
		.bytes = (char *)fs_worker_current()->reply,
		.room_bytes = min_u64(room_bytes, FS_REPLY_BYTES),
	};
	struct err e = { 0 };
	int r = ns_readdir(s->ns, ino, (uint64_t)offset,
			   plus ? NS_READDIR_ATTR | NS_READDIR_LOOKUP : 0,
			   plus ? add_entry_plus : add_entry, &l, &e);

	/* Entries that were counted must reach the kernel; the error comes again with the next call. */
	if (r < 0 && l.len_bytes == 0)
		fs_reply_code(req, "readdir", ino, r, &e);
	else
		(void)fuse_reply_buf(req, l.bytes, l.len_bytes);
}

void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t room_bytes, off_t offset,
		struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, room_bytes, offset, false);
}

void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t room_bytes, off_t offset,
		    struct fuse_file_info *fi)
{
	(void)fi;
	list(req, ino, room_bytes, offset, true);
}
