/*
 * ring - memory that outlives the process: what was acknowledged and is not yet durable.
 *
 * A file on tmpfs (or in the pool directory), mapped shared, cut into frames. A frame is the image
 * of one batch: its entry block, then its clusters, as they will lie in the SCO. A frame is in use
 * from the moment its header is written until a fdatasync covers its batch. After the death of a
 * process the next one finds in the frames exactly what may be missing in the SCOs.
 * Bytes: FORMAT.md section 5.
 */
#ifndef VOLUME_RING_H
#define VOLUME_RING_H

#include "common/env.h"
#include "common/thread.h"
#include "volume/format.h"
#include "volume/lock_ranks.h"

struct sco;
struct stream;

enum batch_state {
	BATCH_FREE,
	BATCH_OPEN,    /* takes reservations */
	BATCH_CLOSED,  /* waits for its last writers to publish */
	BATCH_READY,   /* complete; in the writeback queue or being written */
	BATCH_WRITTEN, /* in the SCO, not yet durable */
};

/* RAM side of one frame. Fields are guarded by the lock of the stream that holds it. */
struct batch {
	uint8_t *block; /* entry block, in the ring; constant */
	uint32_t frame; /* constant */

	enum batch_state state;
	bool direct;
	bool released; /* durable; freed when the last reader goes */
	uint16_t pending;
	uint16_t entry_count;
	uint16_t cluster_count;
	uint32_t readers;
	uint32_t number; /* in its SCO */
	uint32_t slot;	 /* of the block */
	lsn_t closed_lsn;
	struct stream *stream;	  /* that holds it */
	struct sco *sco;	  /* referenced while in use */
	struct batch *next;	  /* in the stream's order */
	struct batch *queue_next; /* in the writeback queue; guarded by that queue's lock */
	struct env_io io;
};

struct ring {
	struct env *env;
	struct env_file *file;
	uint8_t *mem;
	size_t len_bytes;
	uint32_t frame_bytes;
	uint32_t frame_count;
	uint32_t frame_clusters; /* clusters of data a frame holds */
	struct batch *batches;	 /* frame_count of them */
	char path[RING_PATH_MAX + 1];
	char *record_path;
	char *pool_dir;
	struct ring_record record;
	bool may_be_named; /* by the record: its file must not go */

	uint32_t
		stuck_count; /* atomic: frames of streams that failed; free at the next start only */

	struct mutex lock; /* rank LOCK_RING; guards all below */
	struct batch *free_list;
	uint32_t free_count;
};

struct ring_options {
	const char *pool_dir;
	const char *shm_dir; /* NULL or "": keep it in the pool directory */
	uint64_t ring_bytes;
	uint32_t frame_bytes; /* 0: 128 KiB */
	struct uuid pool;
	uint64_t epoch;
	uint64_t first_sco; /* no SCO of this process has a lower number */
	bool give_up; /* one that is missing or does not fit counts as lost, as after a power cut */
	bool *given_up; /* set where that came true; NULL: nobody wants to know */
};

/* The ring of a process that died, mapped for recovery. */
struct ring_old {
	struct env *env;
	struct env_file *file;
	uint8_t *mem;
	size_t len_bytes;
	struct ring_header header;
	char path[RING_PATH_MAX + 1];
};

/* The record of a pool that never had a ring; durable on return. Part of making a pool. */
NODISCARD int ring_create_record(struct env *env, const char *pool_dir, const struct uuid *pool,
				 struct err *e);

/*
 * Find the ring that the last process left.
 *
 * Owns:     *ret_old, released by ring_old_release(); NULL when there is none to look at: the
 *           machine was rebooted since, it was closed clean, or the pool is new.
 * Errors:   -ENOENT it must be there (this boot) and is not: acknowledged writes may be lost,
 *           -EUCLEAN or -EBADMSG it is not this pool's ring or damaged, -EPERM wrong owner.
 */
NODISCARD int ring_find_old(struct env *env, const struct ring_options *options,
			    struct ring_old **ret_old, struct err *e);
/* Unmap; remove says that what it held is durable elsewhere and the file may go. */
void ring_old_release(struct ring_old *old, bool remove);
/* Entry block of a frame, or NULL when the frame was never opened since it was last freed. */
const uint8_t *ring_old_frame(const struct ring_old *old, uint32_t frame);

/*
 * Make a fresh ring and record it in the pool directory (durable on return).
 * Errors:   -ENOSPC neither shm_dir nor the pool directory has the room; else what the env says.
 */
NODISCARD int ring_open(struct env *env, const struct ring_options *options, struct ring **ret_ring,
			struct err *e);
/* clean: nothing is in it; says so in the record and removes the file. */
void ring_close(struct ring *ring, bool clean);

/* A free frame with a zeroed block, or NULL. */
struct batch *ring_take(struct ring *ring);
/* Give a frame back; its content counts no more from here on. */
void ring_put(struct ring *ring, struct batch *b);
uint32_t ring_free_count(struct ring *ring);

#endif
