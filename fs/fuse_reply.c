#include "common/log.h"
#include "fs/fuse_hold.h"
#include "fs/fuse_impl.h"

int fs_errno(int code)
{
	switch (code) {
	case -EBADMSG:
	case -EUCLEAN:
	case -ESHUTDOWN:
	case -EPROTO:
	case -EPROTONOSUPPORT:
		return EIO;
	default:
		return code < 0 ? -code : 0;
	}
}

/* Whether an error says something about us rather than about what was asked. */
static bool is_our_trouble(int code)
{
	/* What a stop gives up is told once, by the session. */
	return (fs_errno(code) == EIO && code != -ESHUTDOWN) || code == -ENOMEM;
}

void fs_reply_code(fuse_req_t req, const char *what, uint64_t ino, int code, const struct err *e)
{
	struct fs_session *s = fs_session_of(req);
	bool keep = code == -EIO && hold_is_on();

	if (keep) {
		hold_next(true);
	} else if (code < 0) {
		counter_inc(&s->metrics.errors);
		if (is_our_trouble(code))
			log_error("fs: %s failed: inode=%" PRIu64 ": %s", what, ino,
				  e && e->message[0] != '\0' ? e->message : err_name(code));
	}
	/* It fails only if the kernel no longer waits for the answer. */
	(void)fuse_reply_err(req, code < 0 ? fs_errno(code) : 0);
	if (keep)
		hold_next(false);
}

static void ns_to_timespec(int64_t ns, struct timespec *ret_time)
{
	const int64_t per_second = 1000000000;
	int64_t seconds = ns / per_second, rest = ns % per_second;

	if (rest < 0) { /* before 1970 */
		seconds--;
		rest += per_second;
	}
	ret_time->tv_sec = (time_t)seconds;
	ret_time->tv_nsec = (long)rest;
}

/* What programs should read and write a disk in, since no page cache gathers it for them. */
#define DISK_BLOCK_BYTES (128 * 1024)

/*
 * The engine counts blocks when it makes a checkpoint. Programs (tar) take 0 for "all hole" and
 * don't read such a file, so a file that may have data never shows 0.
 */
static blkcnt_t blocks_of(const struct fs_session *s, const struct ns_attr *attr)
{
	if (S_ISREG(attr->mode) && __atomic_load_n(&s->report_full, __ATOMIC_RELAXED))
		return (blkcnt_t)div_up_u64(attr->size_bytes, 512);
	if (S_ISREG(attr->mode) && attr->size_bytes > 0 && attr->allocated_bytes == 0)
		return 1;
	return (blkcnt_t)div_up_u64(attr->allocated_bytes, 512);
}

void fs_attr_to_stat(const struct fs_session *s, const struct ns_attr *attr, struct stat *ret_stat)
{
	*ret_stat = (struct stat){
		.st_ino = attr->ino,
		.st_mode = attr->mode,
		.st_nlink = attr->nlink,
		.st_uid = attr->uid,
		.st_gid = attr->gid,
		.st_rdev = attr->rdev,
		.st_size = (off_t)attr->size_bytes,
		.st_blksize = attr->class == OBJECT_DISK ? DISK_BLOCK_BYTES : CLUSTER_BYTES,
		.st_blocks = blocks_of(s, attr),
	};
	ns_to_timespec(attr->atime_ns, &ret_stat->st_atim);
	ns_to_timespec(attr->mtime_ns, &ret_stat->st_mtim);
	ns_to_timespec(attr->ctime_ns, &ret_stat->st_ctim);
}

static double attr_timeout(const struct ns_attr *attr)
{
	if (ns_is_view(attr->ino))
		return FS_VIEW_TIMEOUT_S;
	if (!S_ISREG(attr->mode))
		return FS_ATTR_TIMEOUT_S;
	return attr->class == OBJECT_DISK ? FS_ATTR_DISK_TIMEOUT_S : FS_ATTR_FILE_TIMEOUT_S;
}

void fs_attr_to_entry(const struct fs_session *s, const struct ns_attr *attr,
		      struct fuse_entry_param *ret_entry)
{
	*ret_entry = (struct fuse_entry_param){
		.ino = attr->ino,
		.generation = 0, /* as the kernel's own of the root; numbers are never used again */
		.attr_timeout = attr_timeout(attr),
		.entry_timeout = ns_is_view(attr->ino) ? FS_VIEW_TIMEOUT_S : FS_ENTRY_TIMEOUT_S,
	};
	fs_attr_to_stat(s, attr, &ret_entry->attr);
}

void fs_reply_entry(fuse_req_t req, const struct ns_attr *attr)
{
	struct fs_session *s = fs_session_of(req);
	struct fuse_entry_param entry;
	uint64_t ino = attr->ino;

	fs_attr_to_entry(s, attr, &entry);
	if (fuse_reply_entry(req, &entry) < 0)
		ns_forget(s->ns, ino, 1);
}

void fs_reply_attr(fuse_req_t req, const struct ns_attr *attr)
{
	struct stat st;

	fs_attr_to_stat(fs_session_of(req), attr, &st);
	(void)fuse_reply_attr(req, &st, attr_timeout(attr));
}

struct ns_cred fs_cred(fuse_req_t req)
{
	const struct fuse_ctx *ctx = fuse_req_ctx(req);

	return (struct ns_cred){ .uid = ctx->uid, .gid = ctx->gid };
}

int fs_settle(fuse_req_t req, int r, struct err *e)
{
	const struct fs_session *s = fs_session_of(req);
	int synced = r >= 0 && s->sync_names ? pool_sync_names(s->pool, e) : 0;

	return synced < 0 ? synced : r;
}

int fs_settle_object(fuse_req_t req, uint64_t ino, int r, struct err *e)
{
	const struct fs_session *s = fs_session_of(req);
	struct object *o;
	int synced;

	if (r < 0 || !s->sync_names)
		return r;
	synced = ns_object_get(s->ns, ino, &o, e);
	if (synced == 0) {
		synced = object_sync(o, e); /* of the names, too */
		ns_object_put(s->ns, ino);
	}
	return synced < 0 ? synced : r;
}
