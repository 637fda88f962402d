/* Open files and their bytes. */
#include "fs/fuse_impl.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

/*
 * Disks bypass the kernel's page cache: their users (virtual machines) have one of their own, and
 * the engine gets the requests as they were made. Files are cached, over their being closed, too:
 * all changes come through the same kernel.
 */
void fs_fill_open(const struct ns_attr *attr, struct fuse_file_info *fi)
{
	fi->fh = attr->ino; /* means the same to the next process */
	fi->direct_io = attr->class == OBJECT_DISK;
	fi->keep_cache = attr->class != OBJECT_DISK;
	fi->noflush = 1; /* nothing happens on close */
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct fs_session *s = fs_session_of(req);
	struct ns_attr attr;
	struct err e = { 0 };
	int r = ns_is_view(ino) && (fi->flags & O_ACCMODE) != O_RDONLY ? -EROFS : 0;

	if (r == 0)
		r = ns_handle_open(s->ns, ino, &attr, &e);
	if (r == 0 && attr.template && (fi->flags & O_ACCMODE) != O_RDONLY) {
		ns_handle_release(s->ns, ino);
		r = -EPERM;
	}
	if (r < 0) {
		fs_reply_code(req, "open", ino, r, &e);
		return;
	}
	fs_fill_open(&attr, fi);
	if (fuse_reply_open(req, fi) < 0)
		ns_handle_release(s->ns, ino);
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)fi;
	fs_copies_forget(fs_session_of(req), ino);
	ns_handle_release(fs_session_of(req)->ns, ino);
	fs_reply_code(req, "release", ino, 0, NULL);
}

void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)fi;
	fs_reply_code(req, "flush", ino, 0, NULL);
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t len_bytes, off_t offset,
	     struct fuse_file_info *fi)
{
	(void)fi;
	fs_reads_start(fs_worker_current(), req, ino, (uint64_t)offset, len_bytes);
}

void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t len_bytes, off_t offset,
	      struct fuse_file_info *fi)
{
	struct fs_worker *w = fs_worker_current();
	struct fs_buffer *b = w->buffer;
	struct object *o;
	struct err e = { 0 };
	int r = ns_object_get(w->session->ns, ino, &o, &e);

	if (r < 0) {
		fs_reply_code(req, "write", ino, r, &e);
		return;
	}
	b->write = (struct volume_request){
		.object = o,
		.offset_bytes = (uint64_t)offset,
		/* The data lie in the buffer that the request was received into. */
		.buf = b->base + ((const uint8_t *)data - b->base),
		.len_bytes = len_bytes,
		.witness = b->slot ? &b->slot->witness : NULL,
	};
	b->cancelled = false;
	b->req = req;
	b->ino = ino;
	/* O_SYNC contains O_DSYNC; RWF_DSYNC of a single write comes the same way. */
	b->sync = (fi->flags & O_DSYNC) != 0;
	fs_write_start(w, b);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	struct fs_session *s = fs_session_of(req);
	struct object *o;
	struct err e = { 0 };
	int r;

	(void)datasync;
	(void)fi;
	r = ns_is_view(ino) ? 0 : ns_object_get(s->ns, ino, &o, &e);
	if (r == 0 && !ns_is_view(ino)) {
		r = object_sync(o, &e);
		ns_object_put(s->ns, ino);
	}
	fs_reply_code(req, "fsync", ino, r, &e);
}

/*
 * Nothing is allocated ahead in a log, so plain allocation only moves the end. No write can extend
 * the file meanwhile: the kernel holds the inode's lock over fallocate(2) and extending writes.
 */
static int fallocate_object(struct object *o, int mode, uint64_t offset_bytes, uint64_t len_bytes,
			    struct err *e)
{
	struct object_stat st;

	switch (mode) {
	case FALLOC_FL_KEEP_SIZE:
		return 0;
	case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
		return object_zero(o, offset_bytes, len_bytes, false, e);
	case FALLOC_FL_ZERO_RANGE:
		return object_zero(o, offset_bytes, len_bytes, true, e);
	case 0:
		object_stat(o, &st);
		if (offset_bytes + len_bytes <= st.size_bytes)
			return 0;
		return object_truncate(o, offset_bytes + len_bytes, e);
	default:
		return -EOPNOTSUPP;
	}
}

static void run_fallocate(struct fs_session *s, struct fs_slow *job)
{
	struct object *o;
	struct err e = { 0 };
	int r = ns_object_get(s->ns, job->ino, &o, &e);

	if (r == 0) {
		r = fallocate_object(o, job->mode, job->offset_bytes, job->len_bytes, &e);
		if (r == 0 && !(job->mode & FALLOC_FL_KEEP_SIZE))
			ns_grown(s->ns, job->ino, job->offset_bytes + job->len_bytes);
		ns_object_put(s->ns, job->ino);
	}
	r = fs_settle_object(job->req, job->ino, r, &e);
	fs_reply_code(job->req, "fallocate", job->ino, r, &e);
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t len,
		  struct fuse_file_info *fi)
{
	const struct fs_slow job = {
		.req = req,
		.ino = ino,
		.run = run_fallocate,
		.mode = mode,
		.offset_bytes = (uint64_t)offset,
		.len_bytes = (uint64_t)len,
	};

	(void)fi;
	fs_slow_start(&job);
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi)
{
	struct fs_session *s = fs_session_of(req);
	struct object *o;
	struct err e = { 0 };
	uint64_t found;
	int r;

	(void)fi;
	if (whence != SEEK_DATA && whence != SEEK_HOLE) {
		fs_reply_code(req, "lseek", ino, -EINVAL, NULL);
		return;
	}
	r = ns_object_get(s->ns, ino, &o, &e);
	if (r == 0) {
		r = object_seek(o, (uint64_t)offset, whence == SEEK_DATA, &found, &e);
		ns_object_put(s->ns, ino);
	}
	if (r < 0)
		fs_reply_code(req, "lseek", ino, r, &e);
	else
		(void)fuse_reply_lseek(req, (off_t)found);
}
