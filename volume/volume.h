/*
 * volume - the engine: a pool of log-structured objects. With names.h and snapshot.h the only header of
 * volume/ that other modules include. Knows no FUSE and no HTTP.
 *
 * A pool is a state directory (metadata, ring record, cache directories) plus one backend. An
 * object is a sparse array of bytes with a number; class DISK objects have a log of their own,
 * class FILE objects share one. Names are the business of fs/.
 *
 * Durability: a write that returned survives the death of the process at once and a power cut
 * after object_sync(). Errors of all calls: -ESTALE the object was deleted, -EIO its stream failed
 * (nothing on it is acknowledged until the next start), -EBADMSG data is damaged, -ENOMEM.
 */
#ifndef VOLUME_VOLUME_H
#define VOLUME_VOLUME_H

#include "common/env.h"
#include "common/err.h"
#include "common/metrics.h"
#include "volume/types.h"

struct pool;
struct object;
struct meta;
struct backend;

#define POOL_CACHE_DIRS_MAX 16u

struct pool_options {
	const char *dir; /* the pool directory */
	struct pool_cache_dir {
		const char *path;
		uint64_t size_bytes; /* 0: as large as its filesystem */
	} cache[POOL_CACHE_DIRS_MAX];
	unsigned int cache_count;  /* 0: one, DIR/cache */
	const char *shm_dir;	   /* for the ring; "": the pool directory itself */
	const char *backend_url;   /* NULL or "": file: DIR/objects */
	unsigned int backend_copy; /* enum backend_copy_mode */
	unsigned int packs;	   /* enum pool_packs (packs.h) */
	uint64_t sco_bytes;	   /* of new SCOs; used by pool_create only */
	uint64_t ring_bytes;
	uint32_t ring_frame_bytes; /* 0: 128 KiB */
	uint64_t metadata_cache_bytes;
	uint64_t capacity_bytes;    /* of data that lives: more is refused with -ENOSPC; 0: any */
	uint64_t dirty_limit_bytes; /* 0: half of the cache; not yet on the backend */
	uint64_t reserve_bytes;	    /* free space that users' writes leave alone */
	uint64_t flush_interval_ns;
	uint64_t checkpoint_interval_ns;
	uint64_t
		log_max_bytes; /* so much log brings a checkpoint whatever the interval; 0: 2 GiB */
	uint64_t upload_interval_ns;
	/* Behind a process that was killed the first upload waits so long: one that dies as soon leaves
	 * on the backend what nobody names. 0: not at all. */
	uint64_t upload_settle_ns;
	uint64_t grace_time_ns; /* orphans on the backend live at least so long */
	unsigned int uploads_max;
	unsigned int attempts_max; /* tries of one call to the backend; 0: its default */
	uint64_t timeout_ns;	   /* of one, all tries together; 0: its default */
	unsigned int
		clean_target_percent; /* space used, in percent of live data, that cleaning holds */
	/* Minutes of the day, UTC, between which it holds less (SCRUB_HOURS_PERCENT); equal: never. */
	unsigned int scrub_from_minute, scrub_until_minute;
	unsigned int parked_max;
	/* What is on the backend only: bytes that come at least with one request (4 KiB to 64 KiB, a
	 * power of two), requests at the same time, and how far ahead of a reader. */
	uint32_t fetch_min_bytes;
	unsigned int fetches_max; /* 0: no threads of its own (a simulator) */
	uint64_t read_ahead_bytes;
	/* A ring of a dead process that is missing or does not fit is given up, and with it what was
	 * acknowledged and not yet on flash; else pool_open() refuses. */
	bool give_up_ring;
	/* Of writes that the last process did not answer: pool_open() sets done_bytes where an LSN was
	 * published, lsn 0 where it was not. Used by pool_open() only. */
	struct volume_witness *const *witnesses;
	size_t witness_count;
	/* A bit for each cache directory that failed an earlier process: nothing new is put
	 * there, unless all failed. */
	uint32_t failed_dirs;
	/* For tests: so large a piece of a map on the backend gets; 0: 4 MiB. */
	size_t map_piece_bytes;
	/* For tests: a page that took more rows than this gets a resolved copy; 0: 4. */
	unsigned int resolve_layers;
	/* For tests: a layer that lost its name is merged into the one on it if it has fewer rows
	 * of pages than this (0: 1,024), or than so many times those of the other (0: 4). */
	unsigned int merge_rows_min, merge_ratio;
	/* For tests: used instead of RocksDB in DIR/meta and of backend_url. Borrowed. */
	struct meta *meta;
	struct backend *backend;
};

/* Every member as the configuration's defaults say; dir is set. */
void pool_options_default(struct pool_options *o, const char *dir);

/*
 * Make a pool in an existing directory.
 * Errors:   -EEXIST a pool is there, or its backend holds one; what the env says.
 * Durable:  the pool, empty.
 */
NODISCARD int pool_create(struct env *env, const struct pool_options *o, struct err *e);

struct pool_restore_options {
	/* Now and then while the maps are fetched; may be NULL. */
	void (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes);
	void *arg;
};

/* What came of a restore. */
struct pool_restored {
	uint64_t root, root_epoch; /* that was restored */
	int64_t root_created_ns;   /* real time: what was written later is not there */
	uint64_t roots_skipped;	   /* younger ones that are not whole */
	uint64_t epoch;		   /* that was claimed */
	uint64_t objects, streams, scos;
	uint64_t live_bytes, stored_bytes; /* named by the maps; of all SCOs on the backend */
	uint64_t fetched_bytes;		   /* of names and maps */
};

/*
 * Make a pool in an existing directory from what a backend holds: as its newest root shows it, or the
 * one before where that is not whole. No data is fetched but the logs that the maps lack. An epoch is
 * claimed, so another daemon of the pool that still lives stops putting.
 * Errors:   -EEXIST a pool is there; -ENOENT the backend holds none, or no root; -EUCLEAN, -EBADMSG no
 *           root is whole; -ESTALE, -EBUSY another daemon is at it; what the env and the backend say.
 *           What was made by then stays: no pool, but a further call begins anew in it.
 * Durable:  the pool.
 */
NODISCARD int pool_restore(struct env *env, const struct pool_options *o,
			   const struct pool_restore_options *options,
			   struct pool_restored *ret_restored, struct err *e);

/*
 * Open a pool: recover what a dead process or a power cut left, claim a new epoch, start the jobs.
 * Errors:   -EBUSY another process has it, -ENOENT no pool or the ring is missing, -EUCLEAN or
 *           -EBADMSG damaged or foreign parts, -EPROTONOSUPPORT of a newer program.
 * Owns:     the result, closed by pool_close().
 */
NODISCARD int pool_open(struct env *env, const struct pool_options *o, struct pool **ret_pool,
			struct err *e);
/*
 * Change options of an open pool: capacity_bytes, dirty_limit_bytes, flush_interval_ns,
 * checkpoint_interval_ns, upload_interval_ns, grace_time_ns, clean_target_percent, scrub_*_minute. All
 * else in o is passed over. A checkpoint and an upload begin, since their intervals may be other ones.
 * Threads:  any; does not wait for what runs.
 */
void pool_change_options(struct pool *p, const struct pool_options *o);
/*
 * Stop: drain, sync, checkpoint, end. No object may be referenced, but by requests that are parked:
 * they end as pool_cancel_waits() says. Nothing is uploaded (pool_sync_backend() before does it); what
 * is under way ends as pool_cancel_uploads() says.
 * Errors:   what could not be made durable; the pool is closed all the same, and the next open
 *           recovers.
 */
NODISCARD int pool_close(struct pool *p, struct err *e);

/* --- objects ----------------------------------------------------------------------------------- */

/* Durable: after pool_sync_names() or the first object_sync(). */
NODISCARD int object_create(struct pool *p, enum object_class class, uint64_t *ret_id,
			    struct err *e);
/* Errors: -ENOENT. Owns: a reference, dropped by object_close(). */
NODISCARD int object_open(struct pool *p, uint64_t id, struct object **ret_object, struct err *e);
void object_close(struct object *o);
/* The object is gone for everybody at once; its space comes back in the background. */
NODISCARD int object_delete(struct pool *p, uint64_t id, struct err *e);
/* Move later writes to the stream of another class; O(1), what was written stays where it is. */
NODISCARD int object_set_class(struct object *o, enum object_class class, struct err *e);

/* Read up to len_bytes; fewer only at the end of the object. Fast when dst and offset are aligned
 * to 4096. What is on the backend only is fetched. Returns bytes or negative: -EREMOTEIO the store,
 * which alone has it, does not answer now. */
NODISCARD ssize_t object_read(struct object *o, uint64_t offset_bytes, void *dst, size_t len_bytes,
			      struct err *e);

/*
 * Write; extends the object if needed. Waits while the ring or the flash is full, or the store away
 * that alone has a cluster of which a part is written; never fails for that. Aligned writes of 64 KiB
 * and more go to flash without a copy.
 * Errors:   -EFBIG; -ENOSPC it would bring the pool over its capacity: at once, and only for what
 *           held nothing before; a failed write may have changed part of its range.
 */
NODISCARD int object_write(struct object *o, uint64_t offset_bytes, const void *src,
			   size_t len_bytes, struct err *e);
/* Reads as zeros from now on; the size stays unless extend. */
NODISCARD int object_zero(struct object *o, uint64_t offset_bytes, uint64_t len_bytes, bool extend,
			  struct err *e);
NODISCARD int object_truncate(struct object *o, uint64_t size_bytes, struct err *e);
/*
 * Let o show what another object, or o itself elsewhere, shows of a range, without a copy: both name the
 * same clusters, as long as either needs them. Only what both have at the same place in a cluster, what
 * is whole clusters, and what was sealed and a root has named since can be shared. Extends the object if
 * needed. Source: DESIGN section 4, FORMAT.md 10.12.
 *
 * Returns:  *ret_bytes from the beginning of the range on are shared; 0: the first cluster cannot be.
 * Errors:   as object_write(); what was shared before stays so.
 * Durable:  like a write.
 * Threads:  any; waits like a write, for metadata besides, never for the store.
 */
NODISCARD int object_share(struct object *o, uint64_t offset_bytes, struct object *from,
			   uint64_t from_bytes, uint64_t len_bytes, uint64_t *ret_bytes,
			   struct err *e);
/* All that was acknowledged for this object, and its existence, survive a power cut. */
NODISCARD int object_sync(struct object *o, struct err *e);
/* First byte >= offset of data (or of a hole); -ENXIO behind the end, as lseek(2). */
NODISCARD int object_seek(struct object *o, uint64_t offset_bytes, bool data,
			  uint64_t *ret_offset_bytes, struct err *e);

/* Whether the clusters of this range are here, or nowhere: nobody would have to wait for the store. */
bool object_is_near(struct object *o, uint64_t offset_bytes, uint64_t len_bytes);

struct object_stat {
	uint64_t id;
	enum object_class class;
	bool template; /* it does not change: snapshot.h */
	uint64_t size_bytes;
	uint64_t allocated_bytes; /* exact at a checkpoint, at most one behind */
	int64_t mtime_ns;
	uint32_t stream;
	lsn_t last_lsn;
};
void object_stat(struct object *o, struct object_stat *ret_stat);

/*
 * A write or read that never sleeps on the caller's thread for ring, space or throttling: it
 * completes inline, or is parked with its buffer and completed later by a thread of the pool.
 * What is not set is zero when it is submitted first.
 */
struct volume_request {
	struct object *object;
	bool write;
	uint64_t offset_bytes;
	void *buf;
	size_t len_bytes;
	/* Called by volume_submit() before it parks, as long as nobody else has the request: the
	 * place to get ready for volume_cancel(). May be NULL. */
	void (*parking)(struct volume_request *r);
	/* Called once if parked, from a thread of the pool; result: bytes, or negative. */
	void (*done)(struct volume_request *r);
	void *owner;
	/* Of a write; may be NULL. What it says is done is not done again. Good until the answer. */
	struct volume_witness *witness;

	/* Of a write fewer bytes than asked for, from its start on and nothing behind them, where the
	 * capacity ends among them, or where it was cancelled. */
	ssize_t result;
	size_t progress_bytes; /* private from here on */
	uint64_t resume_ns;
	struct volume_request *next;
	bool cancelled; /* atomic; set under the lock of the parked */
};
/*
 * 1: finished, result is set, done was not called. 0: parked. -EBUSY: too many are parked; submit
 * it again later, as it is: what it did counts.
 */
NODISCARD int volume_submit(struct volume_request *r);

/*
 * Give up a request that is parked, or is about to be: it ends soon, room or not, with what it did
 * (see result), or -EINTR where that is nothing. done is called as ever. A step that it is just
 * doing comes to its end, and may be the last.
 *
 * Owns:     nothing; r and its object must be there, also if r is done already (nothing happens).
 * Threads:  any; also from parking().
 */
void volume_cancel(struct volume_request *r);

/*
 * Reads in flight, of one thread: it starts them and reaps them, in whatever order they end. The
 * pieces of a read that lie apart on flash are read at the same time. A start may block for what is
 * not aligned, or whose map or checksums are not in RAM; reads are on their way only when the reader
 * is reaped.
 */
struct volume_reader;
struct volume_read {
	struct object *object; /* referenced by the caller until it is reaped */
	uint64_t offset_bytes; /* fast when aligned to 4096, as buf */
	void *buf;	       /* with room for len_bytes rounded up to 4096 */
	size_t len_bytes;
	void *owner;
	/* Bytes: fewer only at the end of the object; or negative, as of object_read(). When reaped. */
	ssize_t result;
	/* When reaped: something of it is on the backend only. result says nothing; whoever may wait
	 * for the store calls object_read(). */
	bool needs_fetch;

	bool by_hand; /* private from here on */
	unsigned int pieces;
	struct volume_read *next;
};

/*
 * Owns:     the result, closed when nothing is in flight, before the pool.
 * Threads:  open and close by any, the others by one at a time.
 */
NODISCARD int volume_reader_open(struct pool *p, struct volume_reader **ret_reader, struct err *e);
void volume_reader_close(struct volume_reader *rd);
/* A hint: most short reads go to this memory, mapped while the reader is open. */
void volume_reader_pin(struct volume_reader *rd, void *mem, size_t len_bytes);
/* r and its buffer are the reader's until r is reaped. */
void volume_read_start(struct volume_reader *rd, struct volume_read *r);
/* One that is done, or NULL: none in flight, or (wait false) none done yet. */
struct volume_read *volume_read_reap(struct volume_reader *rd, bool wait);

/*
 * The end is near: from now on calls and requests that would have to wait for room, and those that
 * wait, end with -ESHUTDOWN (a parked write that did a part of its work with that part). All else
 * goes on. Threads: any.
 */
void pool_cancel_waits(struct pool *p);

/*
 * Nobody waits for the backend any more: what is just brought there ends with -ESHUTDOWN, at the next
 * retry at the latest, and nothing is later. What is dirty waits for the next open. Threads: any.
 */
void pool_cancel_uploads(struct pool *p);

/* --- the pool ---------------------------------------------------------------------------------- */

/* Names and objects made so far survive a power cut. */
NODISCARD int pool_sync_names(struct pool *p, struct err *e);
/* All that was acknowledged is durable on flash. */
NODISCARD int pool_flush(struct pool *p, struct err *e);
NODISCARD int pool_checkpoint(struct pool *p, struct err *e);
/* --- devices that fail (failure.c) --------------------------------------------------------------- */

/*
 * Have fn called before anybody is told that a device failed a write or a sync: each time from then
 * on, and at once if a stream failed before. A stream that failed stays as it is until the next
 * process opens the pool: that one writes what the ring has of it anew. So does metadata that refused
 * a commit, for the most part. fn NULL: nobody is told.
 * Threads:  once after the start, once before the end. fn is called by any thread, which may hold
 *           locks of the engine: it must not call into it, nor wait.
 */
void pool_watch_failures(struct pool *p, void (*fn)(void *arg), void *arg);
/*
 * Whether the next process could write: the pool directory, and at least one of the cache directories,
 * take a file and sync it. Those that do not are taken out, as after a failure.
 * Errors:   what the env says. Threads: one at a time; blocks on local flash.
 */
NODISCARD int pool_probe(struct pool *p, struct err *e);
/* Cache directories that are taken out: of options.failed_dirs of the next process. */
uint32_t pool_failed_dirs(struct pool *p);

/* All that was acknowledged is on the backend and named by a committed root. */
NODISCARD int pool_sync_backend(struct pool *p, struct err *e);

enum pool_state { POOL_OK, POOL_DEGRADED, POOL_BLOCKED };
struct pool_status {
	enum pool_state state;
	char reason[160];
	uint64_t epoch;
	uint64_t flash_size_bytes, flash_used_bytes;
	uint64_t live_bytes; /* named by maps as of the last checkpoint */
	/* Of a pool with a capacity (0: without) also what was written since, as far as it may be
	 * new: what is refused is what would bring this over the capacity. */
	uint64_t capacity_bytes, used_bytes;
	uint64_t dirty_bytes; /* not yet committed on the backend */
	uint64_t queued_scos;
	uint64_t ring_frames, ring_frames_free;
	uint64_t objects, streams, scos;
	uint64_t root; /* number of the last committed root */
	uint64_t parked;
	uint64_t map_used_bytes, map_pinned_bytes;
};
void pool_status(struct pool *p, struct pool_status *ret_status);
struct metrics_registry *pool_metrics(struct pool *p);

/* Numbers of all objects, ascending; freed by the caller. */
NODISCARD int pool_list_objects(struct pool *p, uint64_t **ret_ids, size_t *ret_count,
				struct err *e);

/* What a pool is and what troubles it, beside the numbers of pool_status(). */
struct pool_description {
	char uuid[37];
	const char *backend_url;   /* good as long as the pool */
	int64_t backend_failed_ns; /* real time since when the backend fails; 0: it answers */
	bool fenced;		   /* another daemon took the backend over: nothing is uploaded */
	bool flash_full;	   /* no cache directory has room for another SCO */
	uint64_t queued_bytes;	   /* of sealed SCOs that wait for upload */
};
void pool_describe(struct pool *p, struct pool_description *ret_description);

enum pool_severity { POOL_WARNING, POOL_ERROR };

/* One thing that is wrong. Numbers that do not apply are 0; what ends with NUL. */
struct pool_problem {
	enum pool_severity severity;
	const char *what; /* one sentence */
	uint64_t object;
	uint64_t offset_bytes, len_bytes; /* of the object, where object is not 0 */
	uint64_t sco;
	uint32_t slot;
	bool repaired;
};

struct pool_check_options {
	bool data;   /* read every live cluster and compare its checksum */
	bool repair; /* correct counts, remove leftovers */
	void (*problem)(void *arg, const struct pool_problem *problem); /* may be NULL */
	/* Now and then while clusters are read; may be NULL. */
	void (*progress)(void *arg, uint64_t done_bytes, uint64_t total_bytes);
	void *arg;
};

struct pool_check_result {
	uint64_t errors, warnings, repaired;
	uint64_t objects, layers, pages, scos, live_bytes;
	uint64_t data_bytes;	   /* whose checksums were compared */
	uint64_t single_copy_scos; /* cache file and backend object are one: no second copy */
	bool backend_checked;	   /* false: it did not answer */
};

/*
 * Prove that maps, SCOs and backend agree: every location names a SCO and slot that exist, counts
 * of live clusters are right, headers, footers and indexes are whole, uploaded SCOs are on the
 * backend. Nobody else uses the pool meanwhile.
 *
 * Errors:   what kept the check itself from going on; problems found are no error.
 * Durable:  repairs, on return.
 */
NODISCARD int pool_check(struct pool *p, const struct pool_check_options *options,
			 struct pool_check_result *ret_result, struct err *e);

/* --- scrub ------------------------------------------------------------------------------------- */
/*
 * What the background does once there is enough of it, done at once and to the end: what is dead in
 * SCOs is given back, on flash and on the backend, packs are put again, orphans are found. One at a
 * time, by the jobs that do it anyway, SCO by SCO: cut off by cancelling, a stop or a crash it leaves
 * what is done done, and the next one goes on. While somebody reads or writes it works a quarter of the
 * time.
 */

/* In the hours that the options name: space used, in percent of live data, that cleaning holds. */
#define SCRUB_HOURS_PERCENT 110u

enum pool_scrub_phase {
	POOL_SCRUB_NONE,   /* none was asked for since the pool was opened */
	POOL_SCRUB_UPLOAD, /* brings to the backend what is dirty, so that it can be counted */
	POOL_SCRUB_CLEAN,  /* moves what lives in SCOs that are partly dead */
	POOL_SCRUB_SETTLE, /* commits roots until what is not needed is gone from the backend */
	POOL_SCRUB_DONE,
	POOL_SCRUB_CANCELLED,
};

struct pool_scrub_status {
	enum pool_scrub_phase phase;
	int64_t began_ns, ended_ns; /* real time; 0: not yet */
	/* Since it began, by whomsoever; and when it ended, until then. */
	uint64_t scos_examined;
	uint64_t scos_deleted;
	uint64_t scos_moved, moved_bytes;    /* partly dead ones, and what lived in them */
	uint64_t flash_bytes, backend_bytes; /* of SCOs that went, less what was moved */
	uint64_t packs_repacked;
	uint64_t orphans_removed;
	uint64_t orphans_spared; /* too young to be removed */
	char trouble[160];	 /* what could not be done; "" */
};

/* Begin one; nothing happens while one runs. Threads: any. */
void pool_scrub(struct pool *p);
/* It ends soon, with what it did. */
void pool_scrub_cancel(struct pool *p);
void pool_scrub_status(struct pool *p, struct pool_scrub_status *ret_status);

/* What a scrub would find to do, as the last checkpoint counted. */
struct pool_scrub_plan {
	uint64_t scos_examined;
	uint64_t scos_dead;
	uint64_t scos_to_move, move_bytes;
	uint64_t flash_bytes, backend_bytes; /* it would give back */
	uint64_t orphans, orphans_spared;
	char trouble[160]; /* why the backend was not looked at; "" */
};
/* Changes nothing. Errors: -ENOMEM. */
NODISCARD int pool_scrub_look(struct pool *p, struct pool_scrub_plan *ret_plan, struct err *e);

/* --- a store without a pool -------------------------------------------------------------------- */

#define STORE_EXAM_STEPS_MAX 16u

enum store_exam_result {
	STORE_EXAM_OK,
	STORE_EXAM_ABSENT, /* the store lacks it, and a pool can do without */
	STORE_EXAM_FAILED, /* a pool cannot live there */
};

struct store_exam_step {
	const char *name;
	enum store_exam_result result;
	char detail[200]; /* what was seen; "" when there is nothing to say */
	uint64_t took_ns;
};

/* What a store can do, as seen by doing it. */
struct store_exam {
	char url[1024]; /* without secrets */
	struct store_exam_step steps[STORE_EXAM_STEPS_MAX];
	unsigned int count;
	bool can_fence; /* put if absent holds: of two daemons at most one can commit */
	bool tells_time;
	int64_t clock_ahead_ns; /* of the store, where it tells the time */
	/* Speed, by `threads` at the same time; 0 where it was not measured. */
	unsigned int threads;
	uint64_t put_bytes_per_s, get_bytes_per_s;
	uint64_t small_put_ns, small_get_ns; /* median of one caller: 4 KiB, a range of 4 KiB */
};

struct store_exam_options {
	uint64_t large_bytes; /* of the large object; 0: 64 MiB */
	uint64_t speed_ns;    /* each kind is measured for so long; 0: not at all */
	unsigned int threads; /* 0: 4 */
	void (*step)(void *arg, const struct store_exam_step *step); /* told at once; NULL */
	void *arg;
};

/*
 * Put, read, list and delete objects of a random prefix on the store of a URL, which are deleted at the
 * end, and say what holds of all that a pool rests on. A step that fails does not end it, unless nothing
 * can be put.
 *
 * Returns:  0 when every step could be judged (look at their results).
 * Errors:   -ENOMEM, and what opening the store says.
 * Threads:  any; runs its own for the speed.
 */
NODISCARD int store_examine(struct env *env, const char *url,
			    const struct store_exam_options *options, struct store_exam *ret_exam,
			    struct err *e);

#endif
