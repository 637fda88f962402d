/* The table of operations, and what the session agrees on with the kernel. */
#include "common/log.h"
#include "fs/fuse_impl.h"

static void want(struct fuse_conn_info *conn, unsigned int cap, bool on)
{
	if (on && (conn->capable & cap))
		conn->want |= cap;
	else
		conn->want &= ~cap;
}

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct fs_session *s = userdata;

	/* NFS handles: "." and ".." by inode. */
	want(conn, FUSE_CAP_EXPORT_SUPPORT, true);
	want(conn, FUSE_CAP_ASYNC_READ, true);
	want(conn, FUSE_CAP_ASYNC_DIO, true);
	want(conn, FUSE_CAP_PARALLEL_DIROPS, true);
	want(conn, FUSE_CAP_READDIRPLUS, true);
	want(conn, FUSE_CAP_READDIRPLUS_AUTO, true);
	/* Size and order of writes are ours; what is acknowledged must not be in the kernel only. */
	want(conn, FUSE_CAP_WRITEBACK_CACHE, false);
	/* All changes come through the kernel: nothing it has cached goes stale behind its back. */
	want(conn, FUSE_CAP_AUTO_INVAL_DATA, false);
	want(conn, FUSE_CAP_EXPLICIT_INVAL_DATA, true);
	/* The kernel cuts with SETATTR before it opens, and takes set-user-ID bits away. */
	want(conn, FUSE_CAP_ATOMIC_O_TRUNC, false);
	want(conn, FUSE_CAP_HANDLE_KILLPRIV, false);
	/* Requests are received into memory. */
	want(conn, FUSE_CAP_SPLICE_READ, false);
	want(conn, FUSE_CAP_SPLICE_WRITE, false);
	want(conn, FUSE_CAP_SPLICE_MOVE, false);
	/* Locks stay with the kernel. */
	want(conn, FUSE_CAP_POSIX_LOCKS, false);
	want(conn, FUSE_CAP_FLOCK_LOCKS, false);
	/* Opens are counted. */
	want(conn, FUSE_CAP_NO_OPEN_SUPPORT, false);
	want(conn, FUSE_CAP_NO_OPENDIR_SUPPORT, false);
	conn->max_write = FS_IO_BYTES_MAX;
	conn->max_read = FS_IO_BYTES_MAX;
	conn->max_background = s->max_background;
	conn->congestion_threshold = s->max_background - s->max_background / 4;
	conn->time_gran = 1;
}

static void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned int cmd, void *arg,
		     struct fuse_file_info *fi, unsigned int flags, const void *in, size_t in_bytes,
		     size_t out_bytes)
{
	(void)cmd;
	(void)arg;
	(void)fi;
	(void)flags;
	(void)in;
	(void)in_bytes;
	(void)out_bytes;
	fs_reply_code(req, "ioctl", ino, -ENOTTY, NULL);
}

/* Not here, so that the kernel does it: access, getlk, setlk, flock, poll, bmap. */
const struct fuse_lowlevel_ops fs_fuse_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.forget_multi = op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = op_open,
	.read = op_read,
	.write = op_write,
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.releasedir = op_releasedir,
	.fsyncdir = op_fsyncdir,
	.statfs = op_statfs,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
	.create = op_create,
	.ioctl = op_ioctl,
	.fallocate = op_fallocate,
	.lseek = op_lseek,
	.copy_file_range = op_copy_file_range,
};
