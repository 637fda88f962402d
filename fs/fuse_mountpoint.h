/*
 * fuse_mountpoint - the directory under the mount, before and after: what a dead server left there,
 * and leaving it in good order.
 */
#ifndef FS_FUSE_MOUNTPOINT_H
#define FS_FUSE_MOUNTPOINT_H

#include "common/err.h"

/*
 * Make a directory ready to be mounted on: a mount whose server died is detached from it.
 * Errors: -ENOENT, -ENOTDIR, -EACCES ... of stat(2); -EBUSY a live FUSE mount is there; what
 *         unmounting says.
 */
NODISCARD int mountpoint_prepare(const char *path, struct err *e);

/*
 * Write back what the kernel has dirty (shared mappings), then detach the mount from the tree.
 * The server must be running: this waits for it.
 */
void mountpoint_detach(const char *path);

#endif
