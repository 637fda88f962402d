/* cutfs_ops - the requests of the kernel, see cutfs.h; all fail with EIO once the power is off. */
#ifndef TESTS_TOOLS_CUTFS_OPS_H
#define TESTS_TOOLS_CUTFS_OPS_H

#include "tests/tools/cutfs/cutfs.h"

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

/* The server's state is the session's user data. */
extern const struct fuse_lowlevel_ops cut_ops;

/* When the next sync is due, in nanoseconds of the monotonic clock; 0: none is under way. */
uint64_t cut_sync_due_ns(void);
/* Answer the syncs that are due by now: what came before their request is durable from here on. */
void cut_sync_answer(struct cutfs *fs, uint64_t now_ns);

#endif
