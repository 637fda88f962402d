/*
 * fuse_mount - mounting apart from serving: the options as libfuse takes them, and for a holder a mount
 * with all its channels, that others serve.
 */
#ifndef FS_FUSE_MOUNT_H
#define FS_FUSE_MOUNT_H

#include "fs/fuse_proto.h"
#include "fs/fuse_session.h"

/* Errors: -ENOMEM. Owns: args are freed by fuse_opt_free_args(). */
NODISCARD int fs_mount_args(const struct fs_mount_options *o, struct fuse_args *args);

struct fs_mount {
	struct fuse_session *fuse;	/* NULL: not mounted */
	struct proto_channels channels; /* count 0: not mounted */
};

/*
 * Mount, after clearing what a dead process left, and open two channels beside the mount's own for each
 * thread (fewer, or none, where the kernel has no more). Nothing is served.
 * Errors:   as fs_session_open(). Threads: one, without others in the process.
 */
NODISCARD int fs_mount_begin(const struct fs_mount_options *o, unsigned int threads,
			     struct fs_mount *ret_mount, struct err *e);
/* Whether somebody unmounted it. */
bool fs_mount_is_gone(const struct fs_mount *m);
/* Close the channels, so that what is not answered fails, and take the mount off its directory if it is
 * there. May be called again. */
void fs_mount_close(struct fs_mount *m);

#endif
