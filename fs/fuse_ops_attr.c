/* Attributes of inodes, extended ones, symbolic links, and of the filesystem. */
#include "fs/fuse_impl.h"

#include <string.h>
#include <sys/statvfs.h>

static void buf_donep(struct buf *b)
{
	buf_done(b);
}

void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct ns_attr attr;
	struct err e = { 0 };
	int r = ns_getattr(fs_session_of(req)->ns, ino, &attr, &e);

	(void)fi;
	if (r < 0)
		fs_reply_code(req, "getattr", ino, r, &e);
	else
		fs_reply_attr(req, &attr);
}

/* Seconds beyond what 64 bits of nanoseconds hold (years 1677 to 2262) are cut off. */
static int64_t timespec_to_ns(const struct timespec *t)
{
	const int64_t per_second = 1000000000;

	if (t->tv_sec >= INT64_MAX / per_second)
		return INT64_MAX;
	if (t->tv_sec < INT64_MIN / per_second + 1)
		return INT64_MIN;
	return (int64_t)t->tv_sec * per_second + t->tv_nsec;
}

static void run_setattr(struct fs_session *s, struct fs_slow *job)
{
	struct ns_attr attr;
	struct err e = { 0 };
	int r = fs_resume_was_done(job->req, NULL, &e);

	r = r > 0 ? ns_getattr(s->ns, job->ino, &attr, &e) :
		    ns_setattr(s->ns, job->ino, &job->set, &attr, &e);
	r = job->set.valid & NS_SET_SIZE ? fs_settle_object(job->req, job->ino, r, &e) :
					   fs_settle(job->req, r, &e);
	if (r < 0) {
		fs_reply_code(job->req, "setattr", job->ino, r, &e);
		return;
	}
	if (job->set.valid & NS_SET_SIZE)
		ns_grown(s->ns, job->ino, attr.size_bytes);
	fs_reply_attr(job->req, &attr);
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set,
		struct fuse_file_info *fi)
{
	static const struct {
		int fuse;
		unsigned int ns;
	} flags[] = {
		{ FUSE_SET_ATTR_MODE, NS_SET_MODE },
		{ FUSE_SET_ATTR_UID, NS_SET_UID },
		{ FUSE_SET_ATTR_GID, NS_SET_GID },
		{ FUSE_SET_ATTR_SIZE, NS_SET_SIZE },
		{ FUSE_SET_ATTR_ATIME, NS_SET_ATIME },
		{ FUSE_SET_ATTR_MTIME, NS_SET_MTIME },
		{ FUSE_SET_ATTR_ATIME_NOW, NS_SET_ATIME_NOW },
		{ FUSE_SET_ATTR_MTIME_NOW, NS_SET_MTIME_NOW },
		{ FUSE_SET_ATTR_CTIME, NS_SET_CTIME },
	};
	struct fs_slow job = { .req = req, .ino = ino, .run = run_setattr };
	struct ns_setattr *set = &job.set;

	(void)fi;
	*set = (struct ns_setattr){
		.mode = st->st_mode & 07777,
		.uid = st->st_uid,
		.gid = st->st_gid,
		.size_bytes = (uint64_t)st->st_size,
		.atime_ns = timespec_to_ns(&st->st_atim),
		.mtime_ns = timespec_to_ns(&st->st_mtim),
		.ctime_ns = timespec_to_ns(&st->st_ctim),
	};
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		if (to_set & flags[i].fuse)
			set->valid |= flags[i].ns;
	/* The kernel sets both bits for "now". */
	if (set->valid & NS_SET_ATIME_NOW)
		set->valid &= ~(unsigned int)NS_SET_ATIME;
	if (set->valid & NS_SET_MTIME_NOW)
		set->valid &= ~(unsigned int)NS_SET_MTIME;
	if (set->valid & NS_SET_SIZE)
		fs_slow_start(&job);
	else
		run_setattr(fs_session_of(req), &job);
}

void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	AUTO(buf_donep) struct buf target;
	struct err e = { 0 };
	int r;

	buf_init(&target, NS_SYMLINK_MAX + 1);
	r = ns_readlink(fs_session_of(req)->ns, ino, &target, &e);
	if (r == 0)
		r = buf_append(&target, "", 1);
	if (r < 0)
		fs_reply_code(req, "readlink", ino, r, &e);
	else
		(void)fuse_reply_readlink(req, (const char *)target.data);
}

/* What a store without an end of its own shows. */
#define CAPACITY_UNBOUNDED_BYTES (UINT64_C(1) << 50)

/*
 * With a capacity: that, and what counts under it. Else what is free is what the filesystem under the
 * pool can still take, or, where the backend is no directory, as good as everything. Like others
 * whose inodes are made on demand, no count of inodes is given.
 */
void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct fs_session *s = fs_session_of(req);
	struct statvfs under, st = { 0 };
	struct pool_status status;
	uint64_t capacity, used;

	if (statvfs(s->source, &under) < 0) {
		fs_reply_code(req, "statfs", ino, -errno, NULL);
		return;
	}
	st.f_bsize = CLUSTER_BYTES;
	st.f_frsize = CLUSTER_BYTES;
	st.f_namemax = NS_NAME_MAX;
	st.f_blocks = under.f_blocks * under.f_frsize / CLUSTER_BYTES;
	st.f_bfree = under.f_bfree * under.f_frsize / CLUSTER_BYTES;
	st.f_bavail = under.f_bavail * under.f_frsize / CLUSTER_BYTES;
	pool_status(s->pool, &status);
	capacity = status.capacity_bytes;
	if (capacity == 0 && s->unbounded)
		capacity = CAPACITY_UNBOUNDED_BYTES;
	if (capacity > 0) {
		st.f_blocks = capacity / CLUSTER_BYTES;
		used = min_u64(div_up_u64(status.used_bytes, CLUSTER_BYTES), st.f_blocks);
		st.f_bfree = st.f_blocks - used;
		/* Where the disk below ends earlier, that is a wait: no room either. */
		st.f_bavail = s->unbounded ? st.f_bfree : min_u64(st.f_bavail, st.f_bfree);
	}
	(void)fuse_reply_statfs(req, &st);
}

/* --- extended attributes ----------------------------------------------------------------------- */

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		 size_t value_bytes, int flags)
{
	struct err e = { 0 };
	int r = fs_resume_was_done(req, NULL, &e);

	if (r == 0)
		r = ns_xattr_set(fs_session_of(req)->ns, ino, name, value, value_bytes,
				 (unsigned int)flags, &e);
	fs_reply_code(req, "setxattr", ino, fs_settle(req, r, &e), &e);
}

/* As getxattr(2) and listxattr(2): without room only the length. */
static void reply_bytes(fuse_req_t req, const char *what, uint64_t ino, int r,
			const struct buf *bytes, size_t room_bytes, const struct err *e)
{
	if (r == 0 && room_bytes > 0 && bytes->len_bytes > room_bytes)
		r = -ERANGE;
	if (r < 0)
		fs_reply_code(req, what, ino, r, e);
	else if (room_bytes == 0)
		(void)fuse_reply_xattr(req, bytes->len_bytes);
	else
		(void)fuse_reply_buf(req, (const char *)bytes->data, bytes->len_bytes);
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t room_bytes)
{
	AUTO(buf_donep) struct buf value;
	struct err e = { 0 };
	int r;

	buf_init(&value, NS_XATTR_BYTES_MAX + 4096);
	r = ns_xattr_get(fs_session_of(req)->ns, ino, name, &value, &e);
	reply_bytes(req, "getxattr", ino, r, &value, room_bytes, &e);
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t room_bytes)
{
	AUTO(buf_donep) struct buf names;
	struct err e = { 0 };
	int r;

	buf_init(&names, NS_XATTR_BYTES_MAX + 4096);
	r = ns_xattr_list(fs_session_of(req)->ns, ino, &names, &e);
	reply_bytes(req, "listxattr", ino, r, &names, room_bytes, &e);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	struct err e = { 0 };
	int r = fs_resume_was_done(req, NULL, &e);

	if (r == 0)
		r = ns_xattr_remove(fs_session_of(req)->ns, ino, name, &e);
	fs_reply_code(req, "removexattr", ino, fs_settle(req, r, &e), &e);
}
