/*
 * namespace - the tree of names of a pool and its inodes, under the FUSE face, the command line and
 * tests alike. Knows no FUSE.
 *
 * An inode is named by its number: 64 bit, never reused, also over restarts; the root is
 * NS_ROOT_INO. Any call may name an inode that this process never saw; one that is gone gives
 * -ESTALE. A regular file's number is that of its object: data, size and mtime are the engine's.
 * Names are 1..NS_NAME_MAX bytes without '/' and NUL, and no more is known about them.
 *
 * Who may do what is not asked here (the kernel did, default_permissions); a struct ns_cred says
 * who owns what is made.
 *
 * A crash leaves no half state. Every call that changes names or attributes is one names_batch: the
 * inode, both rows of its entry, the rows of all directories and inodes whose counts or times move,
 * and the object that comes or goes, take effect together or not at all; so a name has an inode, a
 * count of links is the number of names, a directory's count of entries is right, after any
 * operation and so after any prefix of operations (the metadata's log keeps a prefix). Two things
 * take a second commit, and what stands between them is whole: an inode that lost its last name
 * while it is in use gets an orphan row in the commit that takes the name, and goes with it in the
 * commit of its last user or in ns_open(); a change of class follows a commit and changes no name.
 * ns_setattr() with a size cuts the object first; between the two the size and the mtime are new
 * and nothing else is. ns_check() proves all of this of a pool.
 *
 * Durability: a change that returned survives the death of the process; a power cut after
 * pool_sync_names(), or any object_sync(). A rename over something and a link make the object's
 * data durable first.
 *
 * Locks: a call locks the inodes whose rows it changes, in one order; two calls in different
 * directories run side by side. Looking up and reading attributes wait for nobody, except for an
 * inode that is just being removed, or is not in RAM. No lock is held when a call returns or while a
 * callback runs: callbacks may call the namespace.
 *
 * Errors of all calls: -ESTALE no such inode; -ENOSPC, -EIO, -EDQUOT of the store, nothing
 * happened; -EUCLEAN and -EBADMSG damaged rows; -ENOMEM.
 * Threads: any, all calls, except ns_open() and ns_close().
 */
#ifndef FS_NAMESPACE_H
#define FS_NAMESPACE_H

#include "common/buf.h"
#include "common/env.h"
#include "common/metrics.h"
#include "volume/names.h"
#include "volume/snapshot.h"

#include <sys/stat.h>

#define NS_ROOT_INO	   UINT64_C(1)
#define NS_NAME_MAX	   255u
#define NS_SYMLINK_MAX	   4095u
#define NS_XATTR_BYTES_MAX 65536u /* a value; and the names of one inode together, as listed */
#define NS_LINK_MAX	   2147483647u
/* Cookies of "." and ".."; those of entries are above, so 0 reads a directory from the start. */
#define NS_COOKIE_DOT	 UINT64_C(1)
#define NS_COOKIE_DOTDOT UINT64_C(2)

/*
 * The view of snapshots: NS_VIEW_NAME in the root directory, not listed there and reserved. Below it
 * stands the tree of names again, read-only: a directory for each directory, and for each regular
 * file that has snapshots a directory with a file for each of these. Nothing of it is stored: the
 * inodes have the numbers of what they show (an inode, a snapshot) with a tag in the upper bits, so
 * they mean the same in every process. What would change the view fails with -EROFS, with -EEXIST
 * what would make its name. Look-ups in it are not counted.
 */
#define NS_VIEW_NAME ".snapshots"
#define NS_VIEW_DIR  (UINT64_C(2) << 61) /* | number of the inode that it shows */
#define NS_VIEW_FILE (UINT64_C(3) << 61) /* | number of the snapshot */
#define NS_VIEW_INO  (NS_VIEW_DIR | NS_ROOT_INO)
static inline bool ns_is_view(uint64_t ino)
{
	return ino >> 62 == 1;
}

struct ns;

struct ns_cred {
	uint32_t uid, gid;
};

/* What goes to the trash when it loses its last name, instead of going for good. */
enum ns_trash_policy {
	NS_TRASH_OFF,
	NS_TRASH_SNAPSHOTS, /* files that have snapshots, and templates */
	NS_TRASH_ALL,	    /* these, and disks that hold something */
};

struct ns_options {
	const char *disk_patterns;     /* shell patterns, blanks between; "": none. Copied */
	uint64_t disk_threshold_bytes; /* 0: never */
	uint32_t link_max;	       /* names of a file, subdirectories of a directory; tests */
	enum ns_trash_policy trash;
	struct ns_cred root_owner; /* of a root directory that is made */
	/* The mount outlived an earlier process: the kernel holds inodes that were looked up and opened
	 * by requests of that one, and is asked which (ns_resume()). Orphans stay until then. */
	bool resumed;
};

/* What stat(2) shows, and the class. */
struct ns_attr {
	uint64_t ino;
	uint32_t mode; /* type and permissions, as st_mode */
	uint32_t nlink;
	uint32_t uid, gid;
	uint64_t rdev;
	uint64_t size_bytes;	  /* a symbolic link: of its target; a directory: 4096 */
	uint64_t allocated_bytes; /* regular files */
	int64_t atime_ns, mtime_ns, ctime_ns, crtime_ns; /* since 1970 */
	enum object_class class;			 /* regular files, else 0 */
	bool template;					 /* a regular file that does not change */
	uint64_t entries;				 /* directories: without "." and ".." */
};

/* Counters since ns_open(), and gauges; in pool_metrics() as group "fs". */
struct ns_metrics {
	struct counter lookups, creates, removes, renames, links, setattrs, readdirs, xattrs;
	struct counter trashed;	 /* files that went to the trash */
	struct counter orphans;	 /* names that went while the inode was in use */
	struct counter reclaims; /* orphans that are gone */
	struct counter class_changes;
	struct gauge inodes;  /* in RAM */
	struct gauge handles; /* of open files and directories */
};

/* --- life -------------------------------------------------------------------------------------- */

/* Shipped patterns, threshold and limits; the owner is the process. */
void ns_options_default(struct ns_options *o);

/*
 * Open the namespace of a pool: make the root directory (0755) if the pool is new, and remove what
 * orphans an earlier process left.
 * Owns:     pool and env are borrowed until ns_close().
 * Errors:   -EUCLEAN names without a root directory.
 */
NODISCARD int ns_open(struct env *env, struct pool *pool, const struct ns_options *o,
		      struct ns **ret_ns, struct err *e);
/* Ends all counts and handles (what the kernel still holds dies with the session), removes orphans,
 * and lets go of all objects; the pool can then be closed. No call may be under way. */
void ns_close(struct ns *ns);
struct pool *ns_pool(struct ns *ns);
const struct ns_metrics *ns_metrics(const struct ns *ns);

/* --- more than one process --------------------------------------------------------------------- */
/*
 * A mount can outlive the process that serves it. What the kernel asked, and was not answered, it
 * asks the next one; a change of names must not be made twice then. So the commit that makes one can
 * leave a row under the number of the request, in a slot of which there are few, that says so.
 */

struct ns_asked {
	uint64_t session; /* of the mount: rows of another one mean nothing */
	uint64_t unique;  /* of the request in it */
	uint64_t slot;	  /* of no other request that is not answered */
};
/* The changes that the calling thread makes from now on are asked for by that; NULL: by nobody who
 * would ask again. Borrowed. */
void ns_asked_by(const struct ns_asked *asked);
/* 1: it was done, *ret_ino is the inode that was made or named, or 0. 0: nothing was done. */
NODISCARD int ns_was_done(struct ns *ns, const struct ns_asked *asked, uint64_t *ret_ino,
			  struct err *e);

/*
 * Of a namespace that was opened as resumed, before requests: find out which inodes without a name are
 * still in use and remove the others. From now on is_held says whether the kernel holds an inode; it is
 * asked when a look-up is taken back whose number of look-ups this process does not know.
 */
NODISCARD int ns_resume(struct ns *ns, bool (*is_held)(void *arg, uint64_t ino), void *arg,
			struct err *e);
/* The next process takes the mount over: ns_close() leaves orphans and answers to it. */
void ns_hand_over(struct ns *ns);

/* --- looking ----------------------------------------------------------------------------------- */

/*
 * Find a name and count one look-up of its inode (nlookup), to be taken back with ns_forget().
 * "." works on any inode, ".." on directories (of the root: itself; of a removed one: -ESTALE).
 * Errors:   -ENOENT, -ENOTDIR, -ENAMETOOLONG, -EINVAL an empty name or one with '/' or NUL.
 */
NODISCARD int ns_lookup(struct ns *ns, uint64_t parent, const char *name, size_t name_bytes,
			struct ns_attr *ret_attr, struct err *e);
/* Take back count look-ups. The last one of an inode without a name removes it. Unknown: ignored. */
void ns_forget(struct ns *ns, uint64_t ino, uint64_t count);

NODISCARD int ns_getattr(struct ns *ns, uint64_t ino, struct ns_attr *ret_attr, struct err *e);

/* The target, without NUL; out is replaced. Errors: -EINVAL not a symbolic link. */
NODISCARD int ns_readlink(struct ns *ns, uint64_t ino, struct buf *out, struct err *e);

struct ns_dirent {
	const char *name; /* ends with NUL, too */
	size_t name_bytes;
	uint64_t ino;
	uint32_t type;		    /* S_IFDIR and the like */
	uint64_t cookie;	    /* to go on behind this entry */
	const struct ns_attr *attr; /* NULL unless asked for */
};
enum ns_readdir_flags {
	NS_READDIR_ATTR = 1 << 0,   /* fill attr */
	NS_READDIR_LOOKUP = 1 << 1, /* and count a look-up of each entry taken, but "." and ".." */
};
/*
 * Call fn for each entry behind cookie (0: from the start, with "." and ".."), oldest first. fn
 * returns 0 for taken; else it ends and the entry is not taken: positive for full (0 is returned),
 * negative is returned. An entry that is there all the time comes exactly once, whatever else comes
 * and goes meanwhile, also between calls and over restarts; renaming inside the directory keeps an
 * entry's place, so a reader that renames all it sees ends.
 * Errors:   -ENOTDIR.
 */
NODISCARD int ns_readdir(struct ns *ns, uint64_t ino, uint64_t cookie, unsigned int flags,
			 int (*fn)(void *arg, const struct ns_dirent *entry), void *arg,
			 struct err *e);

/* --- changing an inode ------------------------------------------------------------------------- */

enum ns_set {
	NS_SET_MODE = 1 << 0, /* the permission bits, 07777; the type stays */
	NS_SET_UID = 1 << 1,
	NS_SET_GID = 1 << 2,
	NS_SET_SIZE = 1 << 3, /* regular files; moves mtime and ctime, also when it is the same */
	NS_SET_ATIME = 1 << 4,
	NS_SET_MTIME = 1 << 5, /* holds until the next write */
	NS_SET_ATIME_NOW = 1 << 6,
	NS_SET_MTIME_NOW = 1 << 7,
	NS_SET_CTIME = 1 << 8, /* to a value; else every call sets it to now */
};
struct ns_setattr {
	unsigned int valid; /* enum ns_set */
	uint32_t mode;
	uint32_t uid, gid;
	uint64_t size_bytes;
	int64_t atime_ns, mtime_ns, ctime_ns;
};
/* Errors: -EISDIR or -EINVAL a size of what has none, -EFBIG. May wait for room in the log if it
 * sets a size. ret_attr: how it is now; may be NULL. */
NODISCARD int ns_setattr(struct ns *ns, uint64_t ino, const struct ns_setattr *set,
			 struct ns_attr *ret_attr, struct err *e);

enum ns_xattr_flags {
	NS_XATTR_CREATE = 1 << 0,  /* as XATTR_CREATE: -EEXIST */
	NS_XATTR_REPLACE = 1 << 1, /* as XATTR_REPLACE: -ENODATA */
};
/* Errors: -ERANGE a name of 0 or more than 255 bytes, -E2BIG a value of more than
 * NS_XATTR_BYTES_MAX, -ENOSPC too many names, -EINVAL both flags, -EOPNOTSUPP system.* */
NODISCARD int ns_xattr_set(struct ns *ns, uint64_t ino, const char *name, const void *value,
			   size_t value_bytes, unsigned int flags, struct err *e);
/* out is replaced by the value. Errors: -ENODATA, -EOPNOTSUPP. */
NODISCARD int ns_xattr_get(struct ns *ns, uint64_t ino, const char *name, struct buf *out,
			   struct err *e);
/* out is replaced by the names, each with its NUL. */
NODISCARD int ns_xattr_list(struct ns *ns, uint64_t ino, struct buf *out, struct err *e);
/* Errors: -ENODATA, -EOPNOTSUPP. */
NODISCARD int ns_xattr_remove(struct ns *ns, uint64_t ino, const char *name, struct err *e);
/* fn for each inode that has the attribute, by number; fn != 0 ends it and is returned. It must not call
 * the namespace. Reads the attributes of all inodes. */
NODISCARD int ns_xattr_each(struct ns *ns, const char *name,
			    int (*fn)(void *arg, uint64_t ino, const void *value,
				      size_t value_bytes),
			    void *arg, struct err *e);

/* --- changing names ---------------------------------------------------------------------------- */
/* All: -ENOTDIR the parent, -ENOENT the parent was removed, -ENAMETOOLONG, -EINVAL a bad name. */

struct ns_new {
	uint32_t mode; /* type (0: regular) and permissions; the umask is already in it */
	uint64_t rdev; /* devices */
	struct ns_cred cred;
	const char *target; /* of a symbolic link, ends with NUL; else NULL */
};
/*
 * Make an inode of any type under a name, and count one look-up of it. In a directory with the
 * set-group-ID bit it gets the directory's group, and a new directory the bit, too. Of several
 * callers with one name, one wins.
 * Errors:   -EEXIST; -EMLINK too many subdirectories; -EINVAL a type that is none; -ENOENT an empty
 *           target, -ENAMETOOLONG one beyond NS_SYMLINK_MAX.
 */
NODISCARD int ns_create(struct ns *ns, uint64_t parent, const char *name, size_t name_bytes,
			const struct ns_new *new, struct ns_attr *ret_attr, struct err *e);
/*
 * A new regular file that begins as the source, and is a disk if like or its name says so; mode,
 * owner and class as those of the inode `like`. Counts one look-up. Errors: as ns_create().
 */
NODISCARD int ns_clone(struct ns *ns, uint64_t parent, const char *name, size_t name_bytes,
		       struct clone_source *source, uint64_t like, struct ns_attr *ret_attr,
		       struct err *e);
/* ns_create(), with the type filled in. */
NODISCARD int ns_mkdir(struct ns *ns, uint64_t parent, const char *name, size_t name_bytes,
		       uint32_t mode, struct ns_cred cred, struct ns_attr *ret_attr, struct err *e);
NODISCARD int ns_symlink(struct ns *ns, uint64_t parent, const char *name, size_t name_bytes,
			 const char *target, struct ns_cred cred, struct ns_attr *ret_attr,
			 struct err *e);

/* One more name; counts one look-up. Errors: -EEXIST, -EPERM a directory, -EMLINK, -ENOENT it has
 * no name any more. May wait for the file's data to be durable. */
NODISCARD int ns_link(struct ns *ns, uint64_t ino, uint64_t parent, const char *name,
		      size_t name_bytes, struct ns_attr *ret_attr, struct err *e);
/* The last name of a file: it goes, or goes to the trash, with its snapshots (clones keep what they
 * need). Errors: -ENOENT, -EISDIR; -EPERM one of them is sticky. */
NODISCARD int ns_unlink(struct ns *ns, uint64_t parent, const char *name, size_t name_bytes,
			struct err *e);
/* Errors: -ENOENT, -ENOTDIR, -ENOTEMPTY, -EINVAL ".". */
NODISCARD int ns_rmdir(struct ns *ns, uint64_t parent, const char *name, size_t name_bytes,
		       struct err *e);

enum ns_rename_flags {
	NS_RENAME_NOREPLACE = 1 << 0, /* the values of RENAME_NOREPLACE, RENAME_EXCHANGE */
	NS_RENAME_EXCHANGE = 1 << 1,
};
struct ns_name {
	uint64_t parent;
	const char *name;
	size_t name_bytes;
};
/*
 * Errors:   -ENOENT, -EEXIST (NOREPLACE), -EISDIR, -ENOTDIR, -ENOTEMPTY, -EMLINK; -EINVAL into
 *           itself, unknown or both flags; -EPERM as ns_unlink(), of what is replaced. Two names of
 *           one file: 0, and nothing happens.
 *           May wait for the data of the file to be durable when it replaces another.
 */
NODISCARD int ns_rename(struct ns *ns, const struct ns_name *from, const struct ns_name *to,
			unsigned int flags, struct err *e);

/* --- the trash --------------------------------------------------------------------------------- */
/*
 * A file in the trash has no name, an inode whose count of links is 0, its object, and a row that says
 * when it lost its name and where that was. It came there in the commit that took the name. Who has
 * it open goes on using it; by its number it is not found (-ESTALE).
 */

/* For what is removed from now on. */
void ns_set_trash(struct ns *ns, enum ns_trash_policy policy);

struct ns_trash_item {
	uint64_t ino;
	int64_t removed_ns; /* since 1970 */
	uint64_t parent;    /* the directory; it may be gone */
	const char *path;   /* as it was then, from the root, ends with NUL, too; of an overlong one
			     * the name alone, without '/' */
	size_t path_bytes;
	struct ns_attr attr;
};
/* Call fn for each file in the trash, the oldest first; fn != 0 ends it and is returned. */
NODISCARD int ns_trash_each(struct ns *ns, int (*fn)(void *arg, const struct ns_trash_item *item),
			    void *arg, struct err *e);
/*
 * Give it a name again: a file as it was, with its snapshots. With replace what has the name loses it,
 * as by a rename over it.
 * Errors:   -ENOENT it is not in the trash, or the directory was removed; -EEXIST; those of ns_link()
 *           and, with replace, of ns_rename().
 */
NODISCARD int ns_trash_restore(struct ns *ns, uint64_t ino, const struct ns_name *to, bool replace,
			       struct err *e);
/* It goes for good, when nobody has it open any more. Errors: -ENOENT it is not in the trash; -EPERM as
 * ns_unlink(). */
NODISCARD int ns_trash_remove(struct ns *ns, uint64_t ino, struct err *e);
/* All that lost its name before that time goes; one that cannot is passed over, and logged. */
NODISCARD int ns_trash_expire(struct ns *ns, int64_t before_ns, uint64_t *ret_count, struct err *e);

/* --- open files -------------------------------------------------------------------------------- */

/*
 * Count a handle of an inode: while it has one it stays, name or not. Regular files and
 * directories; of a regular file the object stays open, and attr tells its class.
 * Errors:   -ENXIO another type.
 */
NODISCARD int ns_handle_open(struct ns *ns, uint64_t ino, struct ns_attr *ret_attr, struct err *e);
/* Unknown: ignored (a handle of an earlier process). */
void ns_handle_release(struct ns *ns, uint64_t ino);
/* How many there are. */
uint64_t ns_handle_count(struct ns *ns, uint64_t ino);

/*
 * The object of a regular file, for one request or many; works with and without a handle.
 * Owns:     a use of the inode, ended by ns_object_put() by whatever thread; the object is good
 *           until then. Costs a look into a table when the file is open.
 * Errors:   -EISDIR, -EINVAL not a regular file.
 */
NODISCARD int ns_object_get(struct ns *ns, uint64_t ino, struct object **ret_object, struct err *e);
void ns_object_put(struct ns *ns, uint64_t ino);

/* --- classes ----------------------------------------------------------------------------------- */

/* What a new file of that name becomes. */
enum object_class ns_class_of_name(const struct ns *ns, const char *name, size_t name_bytes);
/* To be called after writes that extend: a file that has outgrown the threshold becomes a disk, in
 * the background. Cheap when there is nothing to do. */
void ns_grown(struct ns *ns, uint64_t ino, uint64_t size_bytes);
/* Returns when all changes of class that were asked for so far are done or have failed. */
void ns_class_settle(struct ns *ns);

/* --- paths, for the command line --------------------------------------------------------------- */

/* From the root; empty parts are skipped, "." and ".." mean what they do, symbolic links are not
 * followed. No look-up is counted. Errors: -ENOENT, -ENOTDIR, -ENAMETOOLONG. */
NODISCARD int ns_path_find(struct ns *ns, const char *path, size_t path_bytes, uint64_t *ret_ino,
			   struct err *e);
/*
 * A path of an inode, "/" for the root; out is replaced and ends with a NUL that is not counted.
 * Of several names one is told. Quick for directories, and for files unless the last rename or link
 * was undone by removing that name: then the whole tree is read.
 * Errors:   -ENOENT it has no name; -E2BIG longer than out may grow.
 */
NODISCARD int ns_path_of(struct ns *ns, uint64_t ino, struct buf *out, struct err *e);

struct ns_file {
	const char *path; /* from the root, with the leading '/', ends with NUL, too */
	size_t path_bytes;
	struct ns_attr attr;
};
/* Call fn for each regular file below an inode (a directory, or a file: itself), once even if it has
 * several names, directory after directory; fn != 0 ends it and is returned. */
NODISCARD int ns_for_each_file(struct ns *ns, uint64_t ino,
			       int (*fn)(void *arg, const struct ns_file *file), void *arg,
			       struct err *e);

/* --- snapshots --------------------------------------------------------------------------------- */

/* What a file of the view shows. Owns: the info's comment. Errors: -EINVAL another inode; -ESTALE. */
NODISCARD int ns_view_find(struct ns *ns, uint64_t ino, struct snapshot_info *ret_info,
			   struct err *e);
/*
 * What clones of a file begin as: one of its snapshots, or (NULL) as it is now; a file of the view is
 * its snapshot. Owns: the result, closed by clone_source_close(). Errors: -EISDIR, -EINVAL not a
 * regular file; those of clone_source_open().
 */
NODISCARD int ns_clone_source(struct ns *ns, uint64_t ino, const char *snapshot,
			      struct clone_source **ret_source, struct err *e);

/* --- check ------------------------------------------------------------------------------------- */

enum ns_severity { NS_WARNING, NS_ERROR };
struct ns_problem {
	enum ns_severity severity;
	uint64_t ino;	  /* 0: none */
	const char *what; /* one sentence */
};
struct ns_check_result {
	uint64_t inodes, directories, files, entries, xattrs, orphans, trashed;
	uint64_t errors, warnings;
};
/*
 * Prove the invariants of the top over all rows, as of one moment; works beside other calls. fn may
 * be NULL and is told each problem.
 * Errors:   of the store; damage is a problem, not an error. -ENOMEM: needs about 350 bytes an inode.
 */
NODISCARD int ns_check(struct ns *ns, void (*fn)(void *arg, const struct ns_problem *problem),
		       void *arg, struct ns_check_result *ret_result, struct err *e);

#endif
