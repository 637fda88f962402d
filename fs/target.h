/*
 * target - what the user means by a path: a pool directory, a mount point, a file inside a mount.
 *
 * Mounts are told by /proc/self/mountinfo: type "fuse.vpool" (or another subtype of ours), source
 * the pool directory. A mount whose daemon died answers nothing, so paths are resolved without
 * touching the mount point itself.
 */
#ifndef FS_TARGET_H
#define FS_TARGET_H

#include "common/err.h"

#define TARGET_FS_TYPE "fuse.vpool"

enum target_kind {
	TARGET_POOL,	   /* a pool directory; mountpoint is NULL when it is not mounted */
	TARGET_MOUNTPOINT, /* the root of a mount */
	TARGET_FILE,	   /* something inside a mount */
};

struct target {
	enum target_kind kind;
	char *pool_dir;	  /* absolute */
	char *mountpoint; /* absolute; may be NULL */
	char *path;	  /* what the user named, absolute */
};

/*
 * Owns:     the result's strings, freed by target_done().
 * Errors:   -ENOENT neither pool nor mount; -ENOMEM; what looking at the path says.
 */
NODISCARD int target_find(const char *path, struct target *ret_target, struct err *e);
void target_done(struct target *t);

/* What is mounted on top of exactly this directory (absolute). */
struct mount_entry {
	char *mountpoint, *type, *source;
	char *super_options;
};
/* Errors: -ENOENT nothing is; what reading the table of mounts says.
 * Owns: as target_find(), freed by mount_entry_done(). */
NODISCARD int mount_find_at(const char *mountpoint, struct mount_entry *ret_entry);
void mount_entry_done(struct mount_entry *m);

/* Whether the server of a mount died. Asks it; stat(2) may be answered from the kernel's cache. */
bool mount_is_dead(const char *mountpoint);

/*
 * Absolute path without symbolic links, also of a mount point that does not answer.
 * Owns: the result. Errors: as realpath(3).
 */
NODISCARD int path_resolve(const char *path, char **ret_path, struct err *e);

/* One line of mountinfo; false: not one, or (errno is ENOMEM) no memory. For tests. */
bool mount_entry_parse(const char *line, struct mount_entry *ret_entry);

#endif
