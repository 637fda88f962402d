/*
 * fuse_impl - what the files of the FUSE face share: the session, its threads and their buffers,
 * and the one way to answer a request.
 *
 * Threads: a worker owns its buffers while it runs a request. A write that the engine parks takes
 * the receive buffer with it; the worker gets another one, and whoever completes the write puts the
 * old one back.
 */
#ifndef FS_FUSE_IMPL_H
#define FS_FUSE_IMPL_H

#include "common/metrics.h"
#include "fs/fuse_proto.h"
#include "fs/fuse_session.h"
#include "fs/namespace.h"
#include "fs/resume.h"

/* Seconds. Names change through this mount only, so the kernel may trust what it was told. */
#define FS_ENTRY_TIMEOUT_S 3600.0
/* The kernel forgets these itself when it changes the thing (directory, symlink, node). */
#define FS_ATTR_TIMEOUT_S 3600.0
/* Blocks of a file move when the engine makes a checkpoint, which the kernel can't know. */
#define FS_ATTR_FILE_TIMEOUT_S 1.0
/* Asynchronous direct writes move the times without the kernel dropping what it has cached. */
#define FS_ATTR_DISK_TIMEOUT_S 0.0
/* Snapshots come, go and change their names behind the kernel's back. */
#define FS_VIEW_TIMEOUT_S 0.0

/* A receive buffer, and the write that waits in it. */
struct fs_buffer {
	uint8_t *base; /* mapping of FS_BUFFER_BYTES */
	struct fs_session *session;
	struct resume_slot *slot; /* of its request; NULL: none */
	struct fs_buffer *next; /* in the list of free ones, or of those that wait for the engine */

	/* A write in flight. */
	struct volume_request write;
	fuse_req_t req;
	int reply_fd;
	uint64_t ino;
	uint64_t start_ns;
	bool sync;  /* durable before the answer */
	bool held;  /* by a write; else by a worker or free */
	bool extra; /* beyond the pool: freed, not kept */

	/* fuse_interrupt.c */
	bool watched; /* an INTERRUPT of it is told to us */
	pid_t caller;
	bool cancelled;		   /* guarded by the session's lock, as all below */
	uint64_t interrupt_serial; /* 0: none came */
	struct fs_buffer *interrupt_prev, *interrupt_next;
};

struct fs_worker {
	struct fs_session *session;
	unsigned int index;
	int fd;		/* own clone of the channel, or the session's */
	int try_fd;	/* another one, that does not wait; -1: none */
	int receive_fd; /* where the request at hand came from */
	struct thread *thread;
	pthread_t pthread;
	struct fs_buffer *buffer;
	struct fs_reads *reads;
	struct ns_asked asked; /* whose change of names is run */
	bool was_done;	       /* by an earlier process */
	uint64_t done_ino;     /* what came of it */
	uint8_t *reply;	       /* FS_REPLY_BYTES: directory entries, xattrs */
	bool receiving;	       /* atomic: in read(2) of the channel */
	unsigned int failures; /* to receive, one after the other */
};

#define FS_REPLY_BYTES	FS_IO_BYTES_MAX
#define FS_BUFFER_BYTES (4096u + FS_IO_BYTES_MAX + 4096u)

/* Buffers beyond the pool and the requests that the kernel has in flight by itself. */
#define FS_BUFFERS_EXTRA_SLACK 64u

/* Threads for operations that may wait for room. */
#define FS_HELPERS 2u
/* Threads for requests that wait for the store; made when there are that many. */
#define FS_FETCHERS 16u
/* Clones that are made by copying, at the same time. */
#define FS_COPIES_MAX 16u

struct fs_session {
	struct ns *ns;
	struct pool *pool;
	struct fuse_session *fuse;
	struct resume *resume; /* NULL: no other process takes the mount over */
	char *mountpoint;
	char *source;
	bool unbounded;
	bool report_full; /* atomic */
	bool mounted;
	unsigned int threads;
	bool sync_names;
	unsigned int max_background;
	unsigned int buffers_max;
	int wake_fd;	      /* eventfd: a worker ended, or stop */
	bool stop;	      /* atomic: somebody wants the end */
	bool hand_over;	      /* atomic: somebody wants the next process to go on */
	bool leave;	      /* atomic: workers receive no more */
	bool detached;	      /* atomic: unmount_main() is done */
	bool gave_up;	      /* nobody waits for room any more */
	bool abandoned;	      /* the engine still has writes that lie in our buffers */
	bool ready;	      /* atomic */
	bool failed;	      /* atomic: the channel broke */
	unsigned int running; /* atomic */
	struct thread *unmounter;
	struct thread *helper[FS_HELPERS];
	struct proto_channels channels; /* constant while workers run */
	struct fs_worker worker[FS_THREADS_MAX];

	struct mutex lock; /* only volume_cancel() under it; guards all below */
	struct cond buffer_back;
	struct fs_buffer *free;
	struct fs_buffer *waiting_head, *waiting_tail; /* the engine had no place for them */
	unsigned int buffers;			       /* that exist, but for extra ones */
	unsigned int extras;
	unsigned int blocked;	  /* workers that wait for a buffer */
	unsigned int in_flight;	  /* requests that left their worker: writes, slow operations */
	unsigned int in_engine;	  /* writes handed to the engine and not answered by it yet */
	struct cond all_answered; /* in_flight is 0 */
	struct cond slow_more;
	struct fs_slow *slow_head, *slow_tail; /* for the helpers */
	unsigned int slow_inline;	       /* run by workers */
	bool slow_end;
	struct fs_fetch *fetches;    /* requests that wait for the store, the oldest first */
	unsigned int fetches_queued; /* of these, that no thread has yet */
	unsigned int fetchers;	     /* threads that there are */
	unsigned int fetchers_idle;
	struct thread *fetcher[FS_FETCHERS];
	struct cond fetch_more;
	bool fetch_end;
	struct fs_copy_source {
		uint64_t to_ino, from_ino;
		uint64_t until_bytes; /* so long the clone is */
		struct clone_source *source;
	} copy[FS_COPIES_MAX]; /* clones that may become longer, the oldest first */
	unsigned int copies;
	unsigned int notifying; /* threads that talk to the kernel of their own accord */
	bool notify_end;
	struct fs_buffer *interrupted; /* parked writes; the oldest INTERRUPT first */
	uint64_t interrupts;	       /* so far: their serial numbers */

	struct fs_session_metrics metrics;
	struct metrics_group metrics_group;
};

/* Have the session's own thread look around: stop, interrupts, the end of workers. */
void fs_session_wake(struct fs_session *s);

/* The worker that runs the calling thread's request. */
struct fs_worker *fs_worker_current(void);

static inline struct fs_session *fs_session_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* --- fuse_buffers.c ---------------------------------------------------------------------------- */

/* A buffer for a worker. Waits for one, if it may, only while two other workers are free. NULL: no
 * memory, it would have to wait, or it is to leave. */
struct fs_buffer *fs_buffer_get(struct fs_session *s, bool wait);
void fs_buffer_put(struct fs_buffer *b);
void fs_buffers_free(struct fs_session *s);

/*
 * Run the write described in b->write, b->req, b->sync, whose data lie in b, and answer it, now or
 * later. b must be the calling worker's buffer.
 */
void fs_write_start(struct fs_worker *w, struct fs_buffer *b);

/* Wait until nothing is in flight, at most limit_ns; how many still are. */
unsigned int fs_writes_wait(struct fs_session *s, uint64_t limit_ns);

/* End a write that waits, here or in the engine, without what it is not done with. Session locked;
 * true: it stood in line here, and is to be ended by fs_write_end_cancelled(), unlocked. */
bool fs_write_cancel_locked(struct fs_buffer *b);
void fs_write_end_cancelled(struct fs_buffer *b);

/* --- fuse_reads.c ------------------------------------------------------------------------------ */

/* Reads in flight of one worker, all calls by itself; opened and closed by any. */
NODISCARD int fs_reads_open(struct fs_session *s, struct fs_reads **ret_reads, struct err *e);
/* None is in flight. */
void fs_reads_close(struct fs_reads *rs);
bool fs_reads_are_in_flight(const struct fs_reads *rs);
/* Wait, and answer what is done, until another read can be started. */
void fs_reads_make_room(struct fs_reads *rs);
/* Start one, for which there is room; it is answered by the calls below. */
void fs_reads_start(struct fs_worker *w, fuse_req_t req, uint64_t ino, uint64_t offset_bytes,
		    size_t len_bytes);
/* Have the kernel start what was started, answer what is done; wait: for the first. */
void fs_reads_answer(struct fs_reads *rs, bool wait);
/* Answer all. */
void fs_reads_finish(struct fs_reads *rs);

/* --- fuse_interrupt.c -------------------------------------------------------------------------- */

/* b's write is about to be parked: listen for an INTERRUPT of it. By whoever alone has b. */
void fs_interrupt_watch(struct fs_buffer *b);
/* b's write ended: no INTERRUPT of it touches b after this returned. Before its answer. */
void fs_interrupt_unwatch(struct fs_buffer *b);
/*
 * End the interrupted writes whose callers are about to die. By one thread, whenever the session was
 * woken, and again after the time that it returns; -1: none is left to be looked at.
 */
int fs_interrupts_look(struct fs_session *s);

/* Whether a thread has a signal that kills it; also if that cannot be told. */
bool fs_caller_is_dying(pid_t thread);
/* The same of what /proc/THREAD/status says. */
bool fs_status_is_dying(const char *status);

/* --- fuse_slow.c ------------------------------------------------------------------------------- */

/* An operation that may wait for room, with all it needs to be run and answered by any thread. */
struct fs_slow {
	fuse_req_t req;
	uint64_t ino;
	void (*run)(struct fs_session *s, struct fs_slow *job);
	struct ns_setattr set; /* setattr */
	int mode;	       /* fallocate */
	uint64_t offset_bytes, len_bytes;
	uint64_t source_ino, source_offset_bytes; /* copying: where from; 0: none */
	bool sync;				  /* the same: durable before the answer */

	int reply_fd; /* private from here on */
	struct fs_slow *next;
};
/* Start and end of the helpers; at the end all jobs must have been run. */
NODISCARD int fs_slow_init(struct fs_session *s);
void fs_slow_done(struct fs_session *s);
/* Run a copy of job, here or by a helper. By a worker. */
void fs_slow_start(const struct fs_slow *job);

/* --- fuse_fetch.c ------------------------------------------------------------------------------ */

/*
 * Have a read done by a thread that may wait for the store. By a worker, which answers nothing then; its
 * hold on the object goes over.
 */
struct fs_fetch_read {
	fuse_req_t req;
	uint64_t ino;
	struct object *object;
	uint64_t offset_bytes;
	size_t len_bytes;
	uint64_t start_ns;
	int reply_fd;
};
void fs_fetch_read(struct fs_session *s, const struct fs_fetch_read *read);
/* Whether an operation merges with what only the store has; then a copy of it is run there. */
bool fs_fetch_slow(struct fs_session *s, const struct fs_slow *job);
/* As fs_interrupts_look(), of these. */
int fs_fetches_look(struct fs_session *s);
/* Nobody waits for the store any more: all that do are answered with an error. */
void fs_fetches_cancel(struct fs_session *s);
/* The threads end; none is waited for. */
void fs_fetch_done(struct fs_session *s);

/* --- fuse_resume.c ----------------------------------------------------------------------------- */

/* Use the channels of a holder; the kernel is told nothing that it was told already. */
NODISCARD int fs_resume_open(struct fs_session *s, const struct fs_mount_options *o, struct err *e);
/* Have the kernel send again what an earlier process did not answer. Before anything is received. */
NODISCARD int fs_resume_begin(struct fs_session *s, struct err *e);
/* Around each request that a worker runs. */
void fs_resume_enter(struct fs_worker *w, const void *request, size_t len_bytes);
void fs_resume_leave(struct fs_worker *w);
/* b's request is answered. */
void fs_resume_end(struct fs_buffer *b);
/*
 * Whether an earlier process did what the calling worker's request asks for: 0: no; 1: yes, and
 * *ret_attr is the inode that was made or named, looked up once (unless NULL); negative: that is gone.
 */
NODISCARD int fs_resume_was_done(fuse_req_t req, struct ns_attr *ret_attr, struct err *e);

/* --- fuse_ops_copy.c --------------------------------------------------------------------------- */

/* What is copied into a file (0: into any) by the next call has nothing to do with what was. */
void fs_copies_forget(struct fs_session *s, uint64_t to_ino);

/* --- fuse_notify.c ----------------------------------------------------------------------------- */

/* No more calls to the kernel are begun. */
void fs_notify_end(struct fs_session *s);
/* How many run. Workers must serve as long as there are some. */
unsigned int fs_notify_running(struct fs_session *s);

/* --- fuse_reply.c ------------------------------------------------------------------------------ */

/* What the kernel may see of a code: positive, house codes as EIO. */
int fs_errno(int code);

/* Answer with a negative errno, or 0 for plain success. e: what to log if data are in danger. */
void fs_reply_code(fuse_req_t req, const char *what, uint64_t ino, int code, const struct err *e);

/* Answer with an inode that was looked up once for the purpose (taken back if nobody waits). */
void fs_reply_entry(fuse_req_t req, const struct ns_attr *attr);
void fs_reply_attr(fuse_req_t req, const struct ns_attr *attr);

void fs_attr_to_stat(const struct fs_session *s, const struct ns_attr *attr, struct stat *ret_stat);
void fs_attr_to_entry(const struct fs_session *s, const struct ns_attr *attr,
		      struct fuse_entry_param *ret_entry);
struct ns_cred fs_cred(fuse_req_t req);

/*
 * Of a change of names or attributes that gave r: with -o dirsync it is durable before it is answered.
 * Errors: r if it is one; those of pool_sync_names(), the change is there and may not stay.
 */
NODISCARD int fs_settle(fuse_req_t req, int r, struct err *e);
/* The same where the length of an object may have changed. */
NODISCARD int fs_settle_object(fuse_req_t req, uint64_t ino, int r, struct err *e);

/* --- operations -------------------------------------------------------------------------------- */

extern const struct fuse_lowlevel_ops fs_fuse_ops;

/* fuse_ops_name.c */
void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup);
void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev);
void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode);
void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name);
void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name);
void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name);
void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent,
	       const char *new_name, unsigned int flags);
void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi);

/* fuse_ops_attr.c */
void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int to_set,
		struct fuse_file_info *fi);
void op_readlink(fuse_req_t req, fuse_ino_t ino);
void op_statfs(fuse_req_t req, fuse_ino_t ino);
void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value,
		 size_t value_bytes, int flags);
void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t room_bytes);
void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t room_bytes);
void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name);

/* fuse_ops_dir.c */
void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t room_bytes, off_t offset,
		struct fuse_file_info *fi);
void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t room_bytes, off_t offset,
		    struct fuse_file_info *fi);
void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);

/* fuse_ops_file.c */
void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_read(fuse_req_t req, fuse_ino_t ino, size_t len_bytes, off_t offset,
	     struct fuse_file_info *fi);
void op_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t len_bytes, off_t offset,
	      struct fuse_file_info *fi);
void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t len,
		  struct fuse_file_info *fi);
void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t offset_in,
			struct fuse_file_info *fi_in, fuse_ino_t ino_out, off_t offset_out,
			struct fuse_file_info *fi_out, size_t len_bytes, int flags);
void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *fi);

/* How the kernel should treat an open file: by its class. */
void fs_fill_open(const struct ns_attr *attr, struct fuse_file_info *fi);

#endif
