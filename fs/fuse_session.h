/*
 * fuse_session - a namespace mounted: the receive loop, the threads, the start and the end.
 *
 * A session lives open -> run -> close. While it runs, each of its threads reads one request at a
 * time from its own clone of the FUSE channel, into a buffer whose WRITE payload is page-aligned,
 * and answers it before it reads the next one, unless a write had to be parked in the engine: then
 * the buffer stays with the request and the thread goes on with another.
 *
 * The kernel's protocol is known to fuse_session.c and fuse_proto.c; everything else in fs/ sees
 * libfuse's requests or only the namespace.
 */
#ifndef FS_FUSE_SESSION_H
#define FS_FUSE_SESSION_H

#include "common/err.h"
#include "common/metrics.h"

struct fs_session;
struct ns;
struct pool;
struct proto_channels;
struct resume;

/* Threads that receive requests. */
#define FS_THREADS_MAX 64u

struct fs_mount_options {
	const char *mountpoint; /* an existing directory */
	const char *source;	/* shown in /proc/mounts: the pool directory */
	const char *subtype;	/* the type is "fuse.SUBTYPE"; NULL: "vpool" */
	const char *extra;	/* more -o options for the kernel, comma-separated; NULL: none */
	bool allow_other;
	bool read_only;
	bool sync_names;  /* changes but for writes are durable before they are answered */
	bool debug;	  /* libfuse prints every request on standard error */
	bool report_full; /* st_blocks of a file tell its size, not what is allocated */
	bool unbounded;	  /* statfs without a capacity: not that of the filesystem under source */
	unsigned int threads;	     /* 0: 8; at most FS_THREADS_MAX */
	unsigned int max_background; /* 0: 1024 */
	unsigned int parked_max; /* requests that wait in the engine, each with a buffer; 0: 256 */
	/* A holder has mounted, and keeps what the next process needs (holder.h): both are borrowed, but
	 * the session closes the descriptors. NULL: the session mounts itself. */
	struct resume *resume;
	const struct proto_channels *channels;
};

/* What a mount of these options needs as slots in a holder's table. */
uint32_t fs_session_slots(const struct fs_mount_options *options);

/*
 * Mount. A mount point whose server died ("Transport endpoint is not connected") is unmounted
 * first. Requests wait in the kernel until fs_session_run().
 *
 * Owns:     ns, pool and the strings of options are borrowed until fs_session_close().
 * Errors:   -ENOENT, -ENOTDIR mount point; -EBUSY something is served there already; -EINVAL
 *           options that libfuse or the kernel refuses; -EIO mounting failed (the log says what
 *           libfuse said); -ENOMEM.
 */
NODISCARD int fs_session_open(struct ns *ns, struct pool *pool,
			      const struct fs_mount_options *options,
			      struct fs_session **ret_session, struct err *e);

/*
 * Serve until somebody unmounts or fs_session_stop(). On return every request that was received is
 * answered, and no thread of the session runs. Requests that wait for room get 3 s more, then they fail
 * with EIO (one line in the log says how many), and nothing waits for room in the pool any more.
 *
 * Errors:   -EAGAIN threads could not be started; -EIO the channel broke.
 * Threads:  once a session; not under a scheduler.
 */
NODISCARD int fs_session_run(struct fs_session *s, struct err *e);

/*
 * Let fs_session_run() unmount and return soon; files that are still open lose their mount.
 * Threads:  any; also from a signal handler.
 */
void fs_session_stop(struct fs_session *s);

/*
 * Let fs_session_run() return soon and leave the mount as it is, for the next process: what is not
 * answered by then is sent to that one. Only with a holder.
 * Threads:  as fs_session_stop().
 */
void fs_session_hand_over(struct fs_session *s);
bool fs_session_is_handed_over(const struct fs_session *s);

/*
 * What the kernel keeps of an inode (pages, attributes), or knows of a name in a directory, is not
 * true any more. After the end of the session nothing happens.
 * Threads:  any that holds no lock which a request waits for, and serves no request itself: waits
 *           until the requests that use the page or the directory are answered.
 */
void fs_session_forget_data(struct fs_session *s, uint64_t ino);
void fs_session_forget_name(struct fs_session *s, uint64_t parent, const char *name);

/* Change what st_blocks tells from now on. Threads: any. */
void fs_session_report_full(struct fs_session *s, bool report_full);

/* Unmount if still mounted, free all. s may be NULL. */
void fs_session_close(struct fs_session *s);

/*
 * Whether the kernel has started to talk to the session (INIT is answered): from then on the mount
 * answers. Threads: any.
 */
bool fs_session_is_ready(const struct fs_session *s);

/* What the session counts and times; the group hangs in the pool's registry while it is open. */
struct fs_session_metrics {
	struct counter requests;
	struct counter errors;
	struct counter read_bytes, written_bytes;
	struct counter parked_writes, interrupted_writes, fetched_reads, interrupted_reads;
	struct counter untracked_changes;
	struct histogram read_ns, write_ns;
};
const struct fs_session_metrics *fs_session_metrics(const struct fs_session *s);

#endif
