/*
 * stream - an ordered log of cluster writes: places, batches, LSNs, group commit.
 *
 * A writer reserves places in the open batch (stream_reserve), puts its clusters there - in the
 * ring, or, for a direct batch, straight into the SCO - and their checksums, then publishes its
 * entry under the lock of the map page (stream_publish takes the LSN), and completes
 * (stream_complete). What is completed without being published is void. A closed batch whose last
 * writer completed goes to the writeback queue; whoever syncs the stream may write it himself.
 *
 * Order of durability: batches become durable in the stream's order. When all batches up to and
 * including b are durable, so is every LSN up to b.closed_lsn: an entry with such an LSN was
 * reserved before b closed, so it is in b or before it.
 *
 * A failed write or fdatasync poisons the stream: nothing on it is acknowledged any more in this
 * process; its frames stay in the ring for the next one. Format: FORMAT.md section 3.
 */
#ifndef VOLUME_STREAM_H
#define VOLUME_STREAM_H

#include "volume/meta.h"
#include "volume/ring.h"
#include "volume/sco.h"
#include "volume/writeback.h"

struct stream_world; /* what all streams of a pool have in common */

struct stream {
	struct stream_world *world; /* constant */
	uint32_t id;		    /* constant */
	uint32_t class;		    /* enum object_class; constant */
	uint64_t owner;		    /* object of a disk's stream; constant */
	UT_hash_handle hh;
	struct stream *next_retired; /* guarded by pool.objects_lock */

	lsn_t next_lsn;	      /* atomic: the next to be given out */
	lsn_t checkpoint_lsn; /* changed by the checkpoint, atomically */
	uint64_t replay_sco;  /* likewise */
	size_t mark_index;    /* likewise */
	lsn_t round_lsn;      /* the uploader's: last LSN when its last round began */

	struct mutex range_lock; /* rank LOCK_RANGE: a range operation, or reading "last LSN" */

	struct mutex lock;    /* rank LOCK_STREAM; guards all below */
	struct cond changed;  /* a batch was written, the durable LSN or the error changed */
	struct sco *sco;      /* open one; referenced; NULL before the first write */
	struct sco *next_sco; /* made in advance; referenced */
	bool making_sco;
	struct batch *first, *last; /* in use, in order; the last may be open */
	uint32_t frames;	    /* in that list */
	uint64_t released;	    /* batches that left it, ever */
	bool leader;		    /* somebody runs the group commit */
	uint32_t commits;	    /* into the open SCO */
	lsn_t durable_lsn;
	uint64_t direct_bytes;	/* written directly and not yet durable */
	uint64_t last_write_ns; /* when a place was last reserved */
	int error;		/* poisoned: negative errno */
	bool keeps_all; /* atomic: a SCO of it cannot travel, so nothing of it goes, here or there */
	bool stuck;	/* atomic: poisoned in this process; its log ends behind durable_lsn */
	/* The cut that the header of this epoch's first SCO names (FORMAT.md section 2). */
	bool abandoned; /* its object is deleted */
	bool epoch_has_sco;
	uint64_t cut_sco;
	uint32_t cut_batches;
	lsn_t cut_lsn;
};

/* Constant in the life of a pool's process, but for the counters. */
struct stream_world {
	struct env *env;
	struct uuid pool;
	uint64_t epoch;
	uint32_t sco_slots; /* slots of a new SCO */
	struct ring *ring;
	struct flash *flash;
	struct sco_table *scos;
	struct meta *meta;
	struct writeback *writeback; /* one a cache directory */
	/* Next SCO number, below a durable high-water mark. */
	int (*new_sco_number)(void *arg, uint64_t *ret_number, struct err *e);
	void *arg;
	/* Called with the stream's lock held: a batch of so many bytes is full. */
	void (*batch_is_full)(void *arg, uint64_t bytes);
	/* Called likewise: a SCO takes no more, so many bytes are in it. */
	void (*sco_is_full)(void *arg, uint64_t bytes);
	/* A batch waits for a flush, a SCO to be sealed, the next one to be made in advance. May be
	 * called with the stream's lock held. */
	void (*wants_flush)(void *arg);
	void (*wants_seal)(void *arg);
	void (*wants_sco)(void *arg);
	/* A device failed, and somebody is about to be told -EIO. May be called with the
	 * stream's lock held. */
	void (*device_failed)(void *arg);
	/* Called without locks: frames were freed, places became available. */
	void (*made_room)(void *arg);
};

struct reservation {
	struct stream *stream;
	struct batch *batch;
	struct sco *sco; /* referenced by the batch */
	uint16_t entry;	 /* position in the block */
	uint16_t slot;	 /* of the first cluster */
	uint16_t count;	 /* clusters; may be fewer than wanted */
	uint8_t *data;	 /* count clusters in the ring; NULL in a direct batch or without any */
};

void stream_init(struct stream *s, struct stream_world *world, uint32_t id, uint32_t class,
		 uint64_t owner);
/* Nothing may be in use: drained, or given up by the caller (then frames stay in the ring). */
void stream_done(struct stream *s);

enum reserve_flags {
	RESERVE_DIRECT = 1 << 0, /* the caller writes the clusters into the SCO before publishing */
	RESERVE_URGENT = 1 << 1, /* may use the reserve of the disk: it ends by freeing space */
};

/*
 * Reserve an entry and up to want clusters (0: an entry without data).
 *
 * Errors:   -EAGAIN no frame of the ring is free; -ENOSPC no room for a SCO now; the stream's
 *           error. Nothing is reserved then.
 * Threads:  any, no lock of rank STREAM or above. May make a SCO file (local flash).
 */
NODISCARD int stream_reserve(struct stream *s, unsigned int want, unsigned int flags,
			     struct reservation *ret_reservation, struct err *e);
/* Checksum of the i-th cluster reserved; before publishing. */
void stream_set_crc(const struct reservation *r, unsigned int i, uint32_t crc);
/* Take the next LSN and publish the entry (slot, kind and numbers as given; the LSN is filled in).
 * witness, if any, is told before that it is about to be, and after that next_bytes are done.
 * Under the lock of the map page; never blocks. */
lsn_t stream_publish(const struct reservation *r, struct log_entry *entry,
		     struct volume_witness *witness, uint32_t next_bytes);
/* The writer is done with its places, published or not. */
void stream_complete(struct reservation *r);

/* The newest LSN given out; all entries up to it are, or are about to be, in the map. */
lsn_t stream_last_lsn(struct stream *s);
lsn_t stream_durable_lsn(struct stream *s);

/*
 * Everything up to lsn is durable on return (group commit: callers share one).
 * Errors:   the stream's error. Threads: any; blocks on local flash only.
 */
NODISCARD int stream_sync(struct stream *s, lsn_t lsn, struct err *e);

/*
 * Commit every batch that is in use now, also those whose entries all came to nothing, which no LSN
 * asks for; their frames are free on return. Errors: the stream's error.
 */
NODISCARD int stream_flush(struct stream *s, struct err *e);

/* Whether the open batch or written batches wait for being made durable. */
bool stream_is_dirty(struct stream *s);
/* Close the open SCO, so that it can be sealed and uploaded; the next write starts a new one. */
void stream_retire_sco(struct stream *s);
/* The disk is full: close the open SCO (sealing cuts it to what is used), drop the one made in
 * advance. */
void stream_give_space(struct stream *s);
/*
 * Its object is deleted: nothing is written any more. Closes the open SCO and gives back the one
 * made in advance.
 */
void stream_abandon(struct stream *s);
/* Whether it was abandoned in good health and nothing of it is left in RAM: no batch, no SCO of its
 * own. */
bool stream_is_over(struct stream *s);
/* Make the next SCO in advance if the open one is more than half used (background). */
void stream_prepare(struct stream *s);

/*
 * Copy a cluster that may still be in the ring.
 * Returns: 1 copied, 0 not in the ring: it is in the file.
 */
int stream_read_young(struct stream *s, struct sco *sco, uint32_t slot, void *dst);

/* Fill in b->io for writing the batch to its place. */
void batch_io_prepare(struct batch *b, struct env_file *file);

/* A batch was written by the writeback (r: how). Called without locks. */
void stream_batch_written(struct stream *s, struct batch *b, int r);

/*
 * Mark failed (stream_fail.c); what says what happened. Error is -EIO from then on, but where bytes were
 * damaged.
 */
void stream_poison(struct stream *s, int error, const char *what);
/* The same, lock held, of a call on a file in a cache directory (FLASH_DIRS_MAX: nobody knows which). */
void stream_fail_locked(struct stream *s, uint32_t dir, int cause, const char *what);

/* Damaged: what it has may be all there is. */
static inline bool stream_keeps_all(const struct stream *s)
{
	return __atomic_load_n(&s->error, __ATOMIC_RELAXED) != 0 ||
	       __atomic_load_n(&s->keeps_all, __ATOMIC_ACQUIRE);
}

#endif
