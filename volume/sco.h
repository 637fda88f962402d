/*
 * sco - Storage Container Objects in RAM: the table of all that this pool has, by number.
 *
 * Life of a SCO:
 *   OPEN     its stream reserves places in it; grows at the tail
 *   FULL     no more places; its last batches are on the way to being durable
 *   SEALED   its index stands behind its data, all durable; immutable from here on
 *   LEFTOVER an earlier process had it open: read only, never appended to (late writes of the
 *            dead process may still land in it); resealed as a copy with version + 1
 * A SEALED one that is on the backend may be ABSENT: without a file here, read through the cache of
 * what only the backend has.
 * Numbers are handed out once in the life of a pool, over all streams. Whoever looks at a SCO
 * holds a reference; files go only when the last one is dropped.
 */
#ifndef VOLUME_SCO_H
#define VOLUME_SCO_H

#include "common/env.h"
#include "common/hash.h"
#include "common/thread.h"
#include "volume/flash.h"

enum sco_life { SCO_LIFE_OPEN, SCO_LIFE_FULL, SCO_LIFE_SEALED, SCO_LIFE_LEFTOVER };

struct sco {
	uint64_t number; /* constant; key of the table */
	uint32_t stream; /* constant */
	uint64_t epoch;	 /* constant */
	uint64_t salt;	 /* constant; absent: 0 until sco_load_footer(), under the table's lock */
	uint32_t slots_max; /* constant */
	bool has_cut;  /* constant: first of its stream in its epoch; of older ones only entries */
	lsn_t cut_lsn; /* up to here count; constant */
	bool recycled; /* where nothing was written yet are bytes of another life; constant */

	/* Guarded by the stream's lock while OPEN or FULL, then constant until resealed. The first two
	 * are stored atomically, for whoever only estimates looks at them without that lock. */
	uint32_t next_slot;
	uint32_t batch_count;
	uint32_t batches_busy; /* not yet durable */
	uint32_t
		durable_slots; /* of durable batches, the header's among them; stored atomically, too */
	bool names_durable; /* its directory entry */
	/* Once sealed these go with the last reference, so whoever holds one may look at them. */
	uint16_t *frame_of_slot; /* frame + 1 of each slot's batch, 0: none */
	uint32_t *crcs;		 /* of all slots */
	struct buf log;		 /* encoded entries of written batches */

	/* Guarded by the table's lock. */
	enum sco_life life;
	uint32_t refs;
	uint32_t version;
	uint32_t dir;
	struct env_file *file;	   /* NULL: opened when needed */
	struct env_file *old_file; /* of the version before; closed with the last reference */
	uint64_t file_bytes;
	uint32_t footer_crc;
	/* Sealed: where the slot table is; absent: 0 until sco_load_footer(). */
	uint64_t table_offset_bytes;
	lsn_t first_lsn, last_lsn;
	/* Names of its slots as of the last checkpoint (of shared ones several), and such in logs that
	 * no checkpoint has counted (share.c). */
	uint32_t live_slots, young_shares;
	uint8_t row_flags; /* enum sco_row_flags */
	uint64_t object_epoch;
	/* Its row is behind while they differ: changes made, seen by a checkpoint, flushed. The first
	 * goes up by sco_row_changed_locked(). */
	uint32_t row_change, row_staged, row_saved;
	bool put_tried; /* to the backend: it may have stored it and not said so */
	bool put_alone; /* the same, as an object by itself: that name is no member of a pack any more */
	bool dead;	/* being removed: no new references but by whom it knows */
	bool busy;	/* uploaded, cleaned or resealed right now */
	bool old_kept; /* resealed, and the file of the version before is still there */
	/* Its file is gone, its bytes are on the backend. Whoever holds a reference sees no change: a
	 * file goes when nobody else has one. */
	bool absent;
	bool spoiled;	     /* its file does not have the bytes that its index says */
	bool rooted;	     /* a root that this process committed, or found needless, names it, */
	bool root_whole;     /* and all that it has: a restore from there on keeps every slot */
	uint8_t reads;	     /* atomic: for the evictor, at most SCO_READS_MAX */
	bool told_damage;    /* atomic: the log has it */
	uint32_t stuck;	     /* the cleaner's: live slots + 1 when it could move none of them */
	uint64_t cleaned_in; /* the cleaner's: checkpoints begun when all was moved; 0: never */
	uint64_t touched;    /* clock of open files */
	struct sco *unsealed_prev, *unsealed_next;
	struct sco *behind_prev, *behind_next;
	UT_hash_handle hh;
};

/*
 * Bytes that are not in a file here, of the SCO's object on the backend: any offset and length inside
 * of it. anew: what was given last time was wrong, and is not to be believed again. Waits for the store.
 */
typedef int sco_read_object_fn(void *arg, const struct sco *s, uint64_t offset_bytes,
			       size_t len_bytes, void *dst, bool anew, struct err *e);

struct sco_table {
	struct env *env;
	struct flash *flash;
	sco_read_object_fn *read_object; /* constant after the start; NULL: there is no backend */
	void *read_arg;
	struct mutex lock; /* rank LOCK_SCO_TABLE; guards all below and what is said above */
	struct sco *by_number;
	struct sco *unsealed;	  /* those of the table that are not SEALED */
	struct sco *behind;	  /* those of the table whose row is */
	struct share_pin *shares; /* by SCO and stream (share.c) */
	uint32_t open_files;
	bool any_absent; /* atomic, too: there is one, or was */
	uint64_t clock;
	uint64_t live_slots;	  /* sum over all */
	uint64_t live_here_slots; /* over those that are not absent */
};

#define SCO_OPEN_FILES_MAX 768u
/* A SCO that was read is passed over by the evictor so many times at most. */
#define SCO_READS_MAX 3u

NODISCARD int sco_table_open(struct env *env, struct flash *flash, struct sco_table **ret_table);
void sco_table_close(struct sco_table *t);

/* Put a SCO (zeroed but for what the caller knows) into the table; the caller gets a reference.
 * -EEXIST: the number is there. */
NODISCARD int sco_table_add(struct sco_table *t, const struct sco *init, struct sco **ret_sco);
/* A reference, or NULL when it is not there (any more). */
struct sco *sco_get(struct sco_table *t, uint64_t number);
void sco_ref(struct sco_table *t, struct sco *s);
void sco_unref(struct sco_table *t, struct sco *s);
/* Take it out of the table: later looks find nothing; freed with its last reference. Returns whether
 * that is the caller's: nobody else can use its file any more. */
bool sco_remove(struct sco_table *t, struct sco *s);
enum sco_life sco_life(struct sco_table *t, struct sco *s);
/*
 * Whether the cut of a SCO that has one must still be found: entries that it does not count may stand
 * above checkpoint_lsn in what is there of older ones. Those are the ones that are not sealed, whose
 * sealed copy may not be believed by the next start or has their file beside it, and the sealed ones
 * with such entries (FORMAT.md 10.4). The table's lock is held.
 */
bool sco_cut_is_needed_locked(const struct sco_table *t, const struct sco *s, lsn_t checkpoint_lsn);
/* It is SEALED from now on. The table's lock is held. */
void sco_set_sealed_locked(struct sco_table *t, struct sco *s);
/* What its row says has changed. The table's lock is held. */
void sco_row_changed_locked(struct sco_table *t, struct sco *s);
/* Its row is durable as it was when row_staged was set. The table's lock is held. */
void sco_row_saved_locked(struct sco_table *t, struct sco *s);

/*
 * Read clusters [slot, slot + count) of the file. Verifies nothing.
 * Units:    dst aligned to ENV_DIRECT_ALIGN.
 * Errors:   -EIO, -ENOENT the file is gone, -EUCLEAN it is too short.
 * Threads:  any; the caller holds a reference.
 */
NODISCARD int sco_read(struct sco_table *t, struct sco *s, uint32_t slot, uint32_t count, void *dst,
		       struct err *e);
/* Read raw blocks at a byte offset: index chunks, log. Of an absent SCO from its object: -EAGAIN,
 * -ETIMEDOUT, -ENOENT and whatever else the store says. */
NODISCARD int sco_read_raw(struct sco_table *t, struct sco *s, uint64_t offset_bytes,
			   size_t len_bytes, void *dst, struct err *e);
/*
 * What sco_read_raw() gave is wrong, or it could not be read: from the backend, past any cache.
 * Errors: -ENODATA there is no second copy; else as sco_read_raw() of an absent SCO.
 */
NODISCARD int sco_read_again(struct sco_table *t, struct sco *s, uint64_t offset_bytes,
			     size_t len_bytes, void *dst, struct err *e);
/* Whether there is one. */
bool sco_has_copy(struct sco_table *t, const struct sco *s);
/* Whether it has no file. The caller holds a reference: it stays so. */
bool sco_is_absent(struct sco_table *t, const struct sco *s);
/* The open file, opened if needed; valid while the caller holds its reference. -ENODATA: it is
 * absent. */
NODISCARD int sco_file(struct sco_table *t, struct sco *s, struct env_file **ret_file,
		       struct err *e);

/* Places of clusters in it, dead or alive: without its header and entry blocks. */
static inline uint32_t sco_data_slots(const struct sco *s)
{
	/* Without the stream's lock an open SCO is seen some places early or late. */
	uint32_t next = __atomic_load_n(&s->next_slot, __ATOMIC_RELAXED);
	uint32_t blocks = __atomic_load_n(&s->batch_count, __ATOMIC_RELAXED);

	return next > 1 + blocks ? next - 1 - blocks : 0;
}

/* Those that live, each once, as far as can be told. The table's lock is held. */
static inline uint32_t sco_live_data_slots(const struct sco *s)
{
	uint32_t data = sco_data_slots(s);

	return s->live_slots < data ? s->live_slots : data;
}

/* What the backend does not have of it: all of the file once it is sealed, what is filled before. The
 * table's lock is held. */
static inline uint64_t sco_dirty_bytes(const struct sco *s)
{
	if (s->row_flags & SCO_UPLOADED || !__atomic_load_n(&s->batch_count, __ATOMIC_RELAXED))
		return 0;
	return s->life == SCO_LIFE_SEALED ?
		       s->file_bytes :
		       (uint64_t)__atomic_load_n(&s->next_slot, __ATOMIC_RELAXED) * CLUSTER_BYTES;
}

/* Snapshot of references to all SCOs (of one stream if stream != 0), by number. */
NODISCARD int sco_table_list(struct sco_table *t, uint32_t stream, struct sco ***ret_scos,
			     size_t *ret_count);
/* The same of those that are not sealed; they are few. */
NODISCARD int sco_table_list_unsealed(struct sco_table *t, struct sco ***ret_scos,
				      size_t *ret_count);
/* The same of those that are sealed and whose row is behind. */
NODISCARD int sco_table_list_behind(struct sco_table *t, struct sco ***ret_scos, size_t *ret_count);
/* NULL among them: taken out by the caller. */
void sco_list_free(struct sco_table *t, struct sco **scos, size_t count);

#endif
