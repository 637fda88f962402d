/*
 * env - the one seam to the outside world: files, time, randomness. (Waiting is common/thread.h.)
 *
 * The engine and the file backend reach the machine through this table only, so that a simulator
 * can run them from one seed, cut the power at any call and inject faults. env_posix.c is the real
 * one, tests/sim/ holds the simulated one.
 *
 * Paths are absolute or relative to the process; the last component is never followed if it is a
 * symbolic link. All calls return 0 or a count, or a negative errno; EINTR is handled inside.
 */
#ifndef COMMON_ENV_H
#define COMMON_ENV_H

#include "common/base.h"

#include <sys/types.h>

enum env_open_flags {
	ENV_READ = 1 << 0,
	ENV_WRITE = 1 << 1,
	ENV_CREATE = 1 << 2, /* mode 0600 */
	ENV_EXCL = 1 << 3,
	ENV_TRUNC = 1 << 4,
	ENV_DIRECT = 1 << 5, /* O_DIRECT; where the filesystem refuses it, opened without */
	ENV_DIR = 1 << 6,
};

/* Alignment that ENV_DIRECT needs of offsets, lengths and memory. */
#define ENV_DIRECT_ALIGN 4096u

struct env;
struct env_file; /* an open file; any thread may use it */

struct env_stat {
	uint64_t size_bytes;
	uint64_t allocated_bytes; /* st_blocks * 512 */
	uint64_t dev, ino;
	int64_t changed_ns; /* st_ctime: bytes, links or attributes changed, real time */
	uint32_t link_count;
	uint32_t mode;
	uint32_t uid;
	bool is_dir;
};

struct env_space {
	uint64_t total_bytes;
	uint64_t free_bytes; /* to unprivileged users */
};

/* One write or read in flight on an io queue; the submitter's memory until it is reaped. */
struct env_io {
	struct env_file *file;
	bool is_read;
	void *buf; /* of a write only read */
	size_t len_bytes;
	uint64_t offset_bytes;
	int result; /* 0 all of it, -ENODATA the file ends before, or negative errno; when reaped */
	struct env_io *next;
	void *owner; /* the submitter's */
};
struct env_ioq; /* a queue of them; one thread submits and reaps, any one opens and closes it */

struct env_ops {
	/* -ENOENT, -EEXIST, -ELOOP (a symbolic link), -EACCES, -ENOSPC, -EMFILE ... */
	int (*open)(struct env *env, const char *path, unsigned int flags,
		    struct env_file **ret_file);
	void (*close)(struct env *env, struct env_file *f);
	/* Bytes read: less than len_bytes only at the end of the file. */
	ssize_t (*pread)(struct env *env, struct env_file *f, void *buf, size_t len_bytes,
			 uint64_t offset_bytes);
	/* All or an error; short writes are continued inside. */
	int (*pwrite)(struct env *env, struct env_file *f, const void *buf, size_t len_bytes,
		      uint64_t offset_bytes);
	/* Data and the size that reaches it are durable on return. Never call again after an error. */
	int (*fdatasync)(struct env *env, struct env_file *f);
	/* The same for several files, in no order; the first error, after all were tried. May be NULL:
	 * one after the other. */
	int (*fdatasync_all)(struct env *env, struct env_file *const *files, unsigned int count);
	/* Allocate, extending the size; reads as zeros where nothing was written. */
	int (*fallocate)(struct env *env, struct env_file *f, uint64_t offset_bytes,
			 uint64_t len_bytes);
	int (*punch)(struct env *env, struct env_file *f, uint64_t offset_bytes,
		     uint64_t len_bytes);
	int (*truncate)(struct env *env, struct env_file *f, uint64_t size_bytes);
	int (*stat)(struct env *env, struct env_file *f, struct env_stat *ret_stat);
	/* An exclusive lock that goes with the process (flock); -EWOULDBLOCK when held. */
	int (*lock)(struct env *env, struct env_file *f);
	/* Copy bytes between files on the kernel's side; all or an error. */
	int (*copy_range)(struct env *env, struct env_file *from, uint64_t from_offset_bytes,
			  struct env_file *to, uint64_t to_offset_bytes, uint64_t len_bytes);
	/* Share all blocks of from with to (FICLONE); -EOPNOTSUPP where the filesystem cannot. */
	int (*reflink)(struct env *env, struct env_file *from, struct env_file *to);
	/* Map a file shared, prefaulted; unmapped by unmap. */
	int (*map_shared)(struct env *env, struct env_file *f, size_t len_bytes, void **ret_mem);
	void (*unmap)(struct env *env, void *mem, size_t len_bytes);

	/* Names. Durable only after sync_dir() of the directory that holds them. */
	int (*link)(struct env *env, const char *from, const char *to);
	int (*rename)(struct env *env, const char *from, const char *to);
	int (*unlink)(struct env *env, const char *path);
	int (*mkdir)(struct env *env, const char *path); /* mode 0700 */
	int (*rmdir)(struct env *env, const char *path);
	int (*sync_dir)(struct env *env, const char *path);
	/* Calls fn for each name but "." and ".."; fn != 0 ends it with that value. No order. */
	int (*list_dir)(struct env *env, const char *path, int (*fn)(void *arg, const char *name),
			void *arg);
	int (*space)(struct env *env, const char *path, struct env_space *ret_space);

	/* Several in flight. submit may block when depth is reached; order is free. Reads may start
	 * only when the queue is reaped next, several at once. */
	int (*ioq_open)(struct env *env, unsigned int depth, struct env_ioq **ret_q);
	void (*ioq_close)(struct env *env, struct env_ioq *q); /* nothing may be in flight */
	/* A hint: most of them are of this memory, mapped while the queue is open. May be NULL. */
	void (*ioq_pin)(struct env *env, struct env_ioq *q, void *mem, size_t len_bytes);
	int (*ioq_submit)(struct env *env, struct env_ioq *q, struct env_io *io);
	/* One finished io, or NULL: none in flight, or (wait false) none finished yet. */
	struct env_io *(*ioq_reap)(struct env *env, struct env_ioq *q, bool wait);

	uint64_t (*now_mono_ns)(struct env *env);
	int64_t (*now_real_ns)(struct env *env);
	void (*random)(struct env *env, void *buf, size_t len_bytes);
	/* Identity of this boot of the machine, 36 characters and NUL. */
	int (*boot_id)(struct env *env, char ret_id[37]);
};

struct env {
	const struct env_ops *ops;
};

/* The machine itself. Static storage; safe from any thread. */
struct env *env_posix(void);

/* Thin callers, one a function of the table: env_pread(env, f, ...). */
#define ENV_CALL(ret, name, params, args)                                                          \
	static inline ret env_##name params                                                        \
	{                                                                                          \
		return env->ops->name args;                                                        \
	}
ENV_CALL(int, open, (struct env * env, const char *path, unsigned int flags, struct env_file **ret),
	 (env, path, flags, ret))
ENV_CALL(void, close, (struct env * env, struct env_file *f), (env, f))
ENV_CALL(ssize_t, pread,
	 (struct env * env, struct env_file *f, void *buf, size_t len, uint64_t offset),
	 (env, f, buf, len, offset))
ENV_CALL(int, pwrite,
	 (struct env * env, struct env_file *f, const void *buf, size_t len, uint64_t offset),
	 (env, f, buf, len, offset))
ENV_CALL(int, fdatasync, (struct env * env, struct env_file *f), (env, f))
static inline int env_fdatasync_in_turn(struct env *env, struct env_file *const *files,
					unsigned int count)
{
	int first_error = 0;

	for (unsigned int i = 0; i < count; i++) {
		int r = env_fdatasync(env, files[i]);

		if (r < 0 && first_error == 0)
			first_error = r;
	}
	return first_error;
}
static inline int env_fdatasync_all(struct env *env, struct env_file *const *files,
				    unsigned int count)
{
	return count > 1 && env->ops->fdatasync_all ? env->ops->fdatasync_all(env, files, count) :
						      env_fdatasync_in_turn(env, files, count);
}
ENV_CALL(int, fallocate, (struct env * env, struct env_file *f, uint64_t offset, uint64_t len),
	 (env, f, offset, len))
ENV_CALL(int, punch, (struct env * env, struct env_file *f, uint64_t offset, uint64_t len),
	 (env, f, offset, len))
ENV_CALL(int, truncate, (struct env * env, struct env_file *f, uint64_t size), (env, f, size))
ENV_CALL(int, stat, (struct env * env, struct env_file *f, struct env_stat *ret), (env, f, ret))
ENV_CALL(int, lock, (struct env * env, struct env_file *f), (env, f))
ENV_CALL(int, copy_range,
	 (struct env * env, struct env_file *from, uint64_t from_offset, struct env_file *to,
	  uint64_t to_offset, uint64_t len),
	 (env, from, from_offset, to, to_offset, len))
ENV_CALL(int, reflink, (struct env * env, struct env_file *from, struct env_file *to),
	 (env, from, to))
ENV_CALL(int, map_shared, (struct env * env, struct env_file *f, size_t len, void **ret),
	 (env, f, len, ret))
ENV_CALL(void, unmap, (struct env * env, void *mem, size_t len), (env, mem, len))
ENV_CALL(int, link, (struct env * env, const char *from, const char *to), (env, from, to))
ENV_CALL(int, rename, (struct env * env, const char *from, const char *to), (env, from, to))
ENV_CALL(int, unlink, (struct env * env, const char *path), (env, path))
ENV_CALL(int, mkdir, (struct env * env, const char *path), (env, path))
ENV_CALL(int, rmdir, (struct env * env, const char *path), (env, path))
ENV_CALL(int, sync_dir, (struct env * env, const char *path), (env, path))
ENV_CALL(int, list_dir,
	 (struct env * env, const char *path, int (*fn)(void *, const char *), void *arg),
	 (env, path, fn, arg))
ENV_CALL(int, space, (struct env * env, const char *path, struct env_space *ret), (env, path, ret))
ENV_CALL(int, ioq_open, (struct env * env, unsigned int depth, struct env_ioq **ret),
	 (env, depth, ret))
ENV_CALL(void, ioq_close, (struct env * env, struct env_ioq *q), (env, q))
static inline void env_ioq_pin(struct env *env, struct env_ioq *q, void *mem, size_t len_bytes)
{
	if (env->ops->ioq_pin)
		env->ops->ioq_pin(env, q, mem, len_bytes);
}
ENV_CALL(int, ioq_submit, (struct env * env, struct env_ioq *q, struct env_io *io), (env, q, io))
ENV_CALL(struct env_io *, ioq_reap, (struct env * env, struct env_ioq *q, bool wait),
	 (env, q, wait))
ENV_CALL(uint64_t, now_mono_ns, (struct env * env), (env))
ENV_CALL(int64_t, now_real_ns, (struct env * env), (env))
ENV_CALL(void, random, (struct env * env, void *buf, size_t len), (env, buf, len))
ENV_CALL(int, boot_id, (struct env * env, char ret_id[37]), (env, ret_id))

#endif
