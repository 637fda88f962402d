/*
 * pool_impl - what the parts of a pool share. Private to volume/.
 */
#ifndef VOLUME_POOL_IMPL_H
#define VOLUME_POOL_IMPL_H

#include "common/log.h"
#include "volume/cache.h"
#include "volume/clean_frozen.h"
#include "volume/clean_read.h"
#include "volume/family.h"
#include "volume/grace.h"
#include "volume/job.h"
#include "volume/map.h"
#include "volume/mutant.h"
#include "volume/object.h"
#include "volume/packs.h"
#include "volume/page_rows.h"
#include "volume/sco_index.h"
#include "volume/sco_make.h"
#include "volume/sco_read.h"
#include "volume/scrub.h"
#include "volume/stream.h"
#include "volume/upload_pool.h"
#include "volume/volume.h"

/* Numbers are taken from blocks below a durable high-water mark (DESIGN section 3). */
#define COUNTER_BLOCK 4096u
#define COUNTERS      8u

/* Threads for requests that wait for the store. */
#define POOL_FETCHERS 4u

struct counter_block {
	uint64_t next, limit;
};

/* A file of an earlier version of a SCO, to be removed once the new version is checkpointed. */
struct old_file {
	struct old_file *next;
	uint32_t dir, stream, version;
	uint64_t sco, len_bytes;
};

/* A layer that nobody names any more: its rows go with the next checkpoint, then its own row. */
struct dropped_layer {
	struct dropped_layer *next;
	struct layer *layer;
	uint64_t id;
	bool frozen_in; /* its tombstone belongs to the checkpoint that runs */
};

/* Small parts of the last roots that this process put (root_parts.c). */
struct root_part;
struct root_parts {
	struct root_part *by_name, *oldest;
	size_t len_bytes;
};

struct pool_metrics {
	struct counter writes, write_bytes, reads, read_bytes, syncs;
	struct counter direct_writes, merges_raced, parked, throttled;
	struct counter checkpoints, checkpoint_pages, checkpoint_entries;
	struct counter scos_sealed, scos_deleted, scos_uploaded, scos_resealed, scos_evicted;
	struct counter clean_clusters, clean_frozen_clusters, trimmed_clusters, roots, crc_failures;
	struct counter scos_cleaned, flash_freed_bytes, backend_freed_bytes;
	struct counter packs_repacked, orphans_removed, resolved_pages;
	struct histogram sync_ns, checkpoint_ns, write_wait_ns;
};

struct pool {
	struct env *env;
	struct pool_options options; /* strings copied into own_strings */
	char *own_strings[POOL_CACHE_DIRS_MAX + 4];
	char *dir;
	struct uuid uuid;
	bool ring_given_up; /* at the start: options.give_up_ring was needed; then constant */
	uint64_t epoch;
	struct env_file *lock_file;

	struct meta *meta;
	bool own_meta;
	struct mutex backend_lock; /* unranked; while the store is opened */
	struct backend *backend;   /* atomic until it is open, then constant */
	bool own_backend;
	bool store_must_exist; /* it is not made where there is none; set before it is opened */
	struct ring *ring;
	struct packs packs; /* where small objects lie on the store */
	struct flash *flash;
	struct cache *cache; /* what was fetched of absent SCOs */
	struct cache_metrics cache_metrics;
	struct sco_table *scos;
	struct sco_index *index;
	struct map *map;
	struct writeback writeback;
	struct stream_world world;
	struct pool_metrics metrics;
	struct metrics_registry registry;
	struct metrics_group metrics_group, cache_group;

	struct mutex counters_lock; /* unranked; commits to meta while held: numbers are rare */
	struct counter_block counters[COUNTERS];

	struct mutex objects_lock; /* rank LOCK_OBJECTS; guards the two tables */
	struct object *objects;
	struct stream *streams;
	struct stream *retired; /* out of the table; somebody may still hold a pointer */
	struct family family;	/* frozen layers */
	struct frozen_moves frozen_moves;

	void (*failure_fn)(void *arg); /* atomic; NULL: nobody watches */
	bool meta_failed;	       /* atomic: it refused a commit, a sync or a flush */
	void *failure_arg;

	struct mutex bounce_lock; /* unranked leaf */
	struct bounce *bounce_free;
	unsigned int bounce_count;

	/* Room: ring frames or flash came free, or the throttle relaxed. */
	struct mutex room_lock; /* rank LOCK_PARKED */
	struct cond room;
	uint64_t room_generation; /* atomic; changed under the lock */
	struct volume_request *parked_head, *parked_tail;
	unsigned int parked_count;
	struct volume_request *remote_head, *remote_tail; /* parked, too: they wait for the store */
	bool parked_cancelled;				  /* perhaps one of them was cancelled */
	unsigned int waiters;	    /* synchronous callers that wait for room */
	unsigned int waiting_count; /* atomic; both together, changed under the lock */
	bool waits_cancelled;	    /* atomic; never again false */
	bool uploads_cancelled;	    /* atomic; the same */

	/* Each told by its job alone. */
	struct log_trouble names_trouble, seal_trouble, checkpoint_trouble, clean_trouble,
		merge_trouble;
	struct job flusher, checkpointer, sealer, preparer, uploader, cleaner, resumer, evictor,
		merger, resolver, scrubber;
	struct scrub scrub;
	struct job fetchers[POOL_FETCHERS];
	struct clean_reader clean_reader;
	struct upload_pool upload_pool;
	bool jobs_running;

	struct mutex upload_lock;     /* rank LOCK_UPLOAD: one upload round at a time */
	struct mutex seal_lock;	      /* rank LOCK_SEAL: one round of sealing at a time */
	struct mutex checkpoint_lock; /* rank LOCK_CHECKPOINT: one checkpoint or root at a time */
	struct old_file *old_files;   /* guarded by it */
	struct page_rows page_rows;   /* guarded by it */
	struct freeze *freezes;	      /* guarded by it: layers that the next checkpoint freezes */
	bool shares_announced;	      /* atomic: the pool's row says that logs may have shares */
	bool resolved_announced; /* guarded by it: the pool's row says that there may be copies */
	bool rows_unflushed;	 /* guarded by it: rows with counts were committed since a flush */

	struct mutex dropped_lock; /* unranked leaf */
	struct dropped_layer *dropped;
	uint64_t checkpoint_wanted; /* atomic: somebody waits for pinned pages to go */
	bool map_full;		    /* atomic: what the last look at the map's cache said */
	uint64_t last_checkpoint_ns;
	bool reserve_taken; /* guarded by it */
	/* Atomic: in SCOs filled since the last checkpoint began; before that, while it runs. */
	uint64_t unchecked_bytes, checking_bytes;
	uint64_t stale_percent; /* atomic: of it, what is expected to replace what lives */
	/* Atomic: number of the last checkpoint that began, and of the last that counted; from 1. */
	uint64_t checkpoint_begun, checkpoint_counted;

	struct restore_plan *restoring; /* while a pool is restored (restore.c), else NULL */

	/* Upload (upload.c). Guarded by checkpoint_lock: */
	uint64_t root_number; /* last committed; stored atomically for pool_status() */
	uint64_t root_epoch;  /* of that */
	uint64_t root_before; /* number of the one before it; 0 until one is committed */
	uint64_t root_tried;  /* last number that an attempt took; not before root_number */
	/* Guarded by upload_lock: */
	bool epoch_claimed;
	uint8_t claim[16]; /* random content of our claim: tells it from another's */
	bool orphans_swept;
	uint64_t orphans_spared; /* atomic: that the last sweep found too young */
	struct root_parts root_parts;
	uint64_t upload_retry_ns;  /* the uploader's own */
	uint64_t root_sequence;	   /* of the metadata, when the last root had nothing new to show */
	bool after_kill;	   /* the process before this one was; constant */
	bool upload_begun;	   /* the uploader's */
	unsigned int idle_roots;   /* in turn that had nothing new to show */
	int64_t backend_failed_ns; /* atomic: 0 while the backend answers */
	int64_t reads_wait_ns;	   /* atomic: the same of reads of absent SCOs */
	bool fenced;		   /* atomic */

	unsigned int calls; /* atomic (call.h) */
	uint64_t
		merge_hand; /* the merger's own, as the three below: layers up to it have to wait */
	bool merge_later, merge_failed;
	unsigned int merge_yields;   /* in turn */
	unsigned int resolve_yields; /* the resolver's own: in turn */
	struct merge_place {	     /* the merger's own: where the next step begins */
		uint64_t from, into;
		uint64_t page; /* 0: to be found out */
		bool whole;    /* nothing is left before it */
		bool trims;    /* the rows stay, but for what the upper ones hide */
		bool behind;   /* pages of the lower one, behind the limit of the upper one */
		uint64_t rows; /* of the upper one, seen so far */
		bool smaller;  /* the lower one lost rows */
	} merge_place;
	uint64_t cleaned_ns;	    /* the cleaner's own */
	uint64_t cleaned_far_ns;    /* the cleaner's own: not before, on the store */
	uint64_t cleaned_requests;  /* the cleaner's own: reads and writes when it looked last */
	bool cache_sifted;	    /* the evictor's own: of what a killed process left */
	uint64_t evict_hand;	    /* the evictor's own: number of the last SCO it looked at */
	uint64_t evict_asked_ns;    /* the evictor's own */
	uint64_t evict_aged_ns;	    /* the evictor's own */
	uint64_t relieved_ns;	    /* the flusher's own */
	uint64_t trimmed_ns;	    /* the flusher's own */
	bool space_wanted;	    /* atomic: a writer waits for flash */
	uint64_t dirty_bytes;	    /* atomic: in SCOs not yet committed on the backend */
	uint64_t dirty_limit_bytes; /* atomic: as the option, or what it stands for */
	/* As of the last checkpoint (atomic): dead data on flash, blocks and indexes of SCOs, and of
	 * the garbage what was cleaned since, so that the next one buries it (kept up by the cleaner
	 * under the lock of SCOs). */
	uint64_t garbage_bytes, overhead_bytes, cleaned_bytes;
	struct grace grace;	 /* guarded by the lock of SCOs */
	uint64_t forgiven_bytes; /* atomic: of the garbage, what slows nobody down (grace.h) */
	/* From where on writers are slowed down, and where much: for garbage; for it and all that no
	 * checkpoint has counted, as far as it is still to be cleaned; for all of flash that is dead. */
	uint64_t garbage_from_bytes, garbage_limit_bytes;
	uint64_t to_clean_from_bytes, to_clean_limit_bytes;
	uint64_t dead_from_bytes, dead_limit_bytes;
	uint64_t
		uncounted_most_bytes; /* of what no checkpoint has counted, that is to be cleaned */
	uint64_t throttle_debt_ns;    /* delays too short to be served one by one */
	uint64_t hurried_ns;

	/* Capacity (capacity.c), atomic; the two counts stand still while there is no bound. */
	uint64_t capacity_bytes;    /* 0: no bound; changed under capacity_lock, as the limits */
	uint64_t taken_sure_bytes;  /* so far without a look at the map; UINT64_MAX: no bound */
	uint64_t taken_limit_bytes; /* so far until the next checkpoint counts what lives */
	uint64_t taken_bytes;	    /* for clusters that may be new, before they are written */
	uint64_t written_bytes;	    /* of these, in the map */
	uint64_t capacity_kicked_ns;
	bool capacity_told;	      /* the log has it that writes are refused */
	struct mutex capacity_lock;   /* unranked leaf; guards the two below */
	uint64_t capacity_live_bytes; /* as of the last checkpoint */
	uint64_t capacity_mark_bytes; /* written_bytes when it began */
};

/* What a writer gets where the capacity ends, told to users as -ENOSPC, which among us is a wait. */
#define CAPACITY_REACHED (-EXFULL)

/*
 * capacity.c: room for count clusters from first on, all of one page; *ret_bytes of it are taken,
 * and whoever took them says what became of them. Errors: CAPACITY_REACHED; those of map_lookup().
 */
NODISCARD int capacity_take(struct object *o, uint64_t first, unsigned int count,
			    uint64_t *ret_bytes, struct err *e);
void capacity_settle(struct pool *p, uint64_t taken_bytes, uint64_t used_bytes);
/* Before anything that waits: CAPACITY_REACHED where the pool is full and the write needs more. */
NODISCARD int capacity_check(struct object *o, uint64_t offset_bytes, const void *src,
			     size_t len_bytes, struct err *e);
/* A checkpoint, by its lock's holder: what is written from the mark on it may not count. */
uint64_t capacity_mark(struct pool *p);
void capacity_counted(struct pool *p, uint64_t mark_bytes);
void capacity_change(struct pool *p, uint64_t capacity_bytes);
/* Something was deleted or cut: where writes are refused, have it counted. */
void capacity_freed(struct pool *p);
void capacity_status(struct pool *p, struct pool_status *st);

/* An option that pool_change_options() may change meanwhile. */
#define pool_option(p, name) __atomic_load_n(&(p)->options.name, __ATOMIC_RELAXED)

/* Of live data: about what writers make garbage of between two checkpoints. */
#define GARBAGE_PART 12u
/* Of live data: from here on writers wait for what is dead on flash, whatever it is. */
#define DEAD_FROM_PERCENT 57u

/* settings.c: the option, or what it stands for. */
uint64_t pool_dirty_limit(struct pool *p);

/* reserve.c; checkpoint lock held. release: true if there was something to give back. */
void reserve_take(struct pool *p);
bool reserve_release(struct pool *p);

/* counters.c */
NODISCARD int pool_new_number(struct pool *p, enum counter_id id, uint64_t *ret_number,
			      struct err *e);

/* flush.c: what no checkpoint has counted yet; all of it may be garbage. */
uint64_t pool_uncounted_bytes(const struct pool *p);

/* room.c: waiting for ring, space and throttle; parked requests. */
void pool_made_room(struct pool *p);
/* Delay that a write of len_bytes owes now (0: none), from the fill of the dirty limit. */
/* How long a write of so many bytes has to wait before it begins; 0: go. Kicks who can make it less. */
uint64_t pool_admission_ns(struct pool *p, size_t len_bytes);
/* What is still worth waiting of a delay that was given before. */
uint64_t pool_delay_left_ns(struct pool *p, size_t len_bytes, uint64_t delay_ns);
/* Whether a limit is reached: writes wait until it is not. */
bool pool_must_block(struct pool *p);
/* A reservation failed with -ENOSPC: have space made. */
void pool_want_space(struct pool *p);
/* Wait until something changed since generation or for at most limit_ns. */
void pool_wait_room(struct pool *p, uint64_t generation, uint64_t limit_ns);
uint64_t pool_room_generation(struct pool *p);
/* Nobody waits for room any more: who would have to ends with pool_cancelled(). */
bool pool_waits_are_cancelled(struct pool *p);
int pool_cancelled(struct err *e);
uint64_t room_resume_step(void *pool);
/* Put a request in line that waited for something else so far. */
void room_park(struct pool *p, struct volume_request *r);

/* stream table (object.c) */
struct stream *pool_stream(struct pool *p, uint32_t id); /* NULL: unknown */
NODISCARD int pool_stream_add(struct pool *p, uint32_t id, uint32_t class, uint64_t owner,
			      struct stream **ret_stream, struct err *e);
/* Take a stream out of the table; freed with the pool, for lists and objects may point to it. */
void pool_stream_retire(struct pool *p, struct stream *s);
/* Snapshot of all streams; they live as long as the pool. Freed by the caller. */
NODISCARD int pool_streams(struct pool *p, struct stream ***ret_streams, size_t *ret_count);

/* drop.c: layers on their way out */
NODISCARD int pool_drop_layer(struct pool *p, struct layer *layer, struct err *e);

/* io_write.c: 0: finished, r->result is set; -EAGAIN: would have to wait, r->resume_ns is set;
 * NEEDS_FETCH, STORE_AWAY: for the store. fetched: NULL where it must not be waited for. */
struct io_fetched;
NODISCARD int io_request_step(struct volume_request *r, struct io_fetched *fetched);

void stream_sort(struct stream **list, size_t count); /* by number */

/* flush.c */
uint64_t flusher_step(void *pool);
uint64_t sealer_step(void *pool);
uint64_t preparer_step(void *pool);
NODISCARD int pool_flush_streams(struct pool *p, struct err *e);
/* Count dirty bytes and live slots anew over all SCOs. */
void pool_recount(struct pool *p);
/* What lives on flash, as of the last pool_recount(). */
uint64_t pool_live_bytes(struct pool *p);
/* A checkpoint counted so much; before it, that much lived. After pool_recount(). */
void pool_note_stale(struct pool *p, uint64_t unchecked_bytes, uint64_t live_before_bytes);
/* Seal what is full, reseal what was left over and is not dead; before that a checkpoint, if it takes
 * one to know. Not with the seal or checkpoint lock held. */
NODISCARD int pool_seal(struct pool *p, struct err *e);
/* Nothing lives in what an earlier process left open, and its entries are below the checkpoint: it is
 * not sealed any more, but goes with a checkpoint. */
bool pool_leftover_is_dead(struct pool *p, const struct sco *s);
/* The same of SCOs of this process, seal lock held; the checkpoint lock may be, too. */
NODISCARD int pool_seal_own_locked(struct pool *p, struct err *e);

/* checkpoint.c */
/* No cache directory takes another SCO of a user. */
bool pool_is_tight(struct pool *p);
uint64_t checkpointer_step(void *pool);
NODISCARD int pool_checkpoint_locked(struct pool *p, struct err *e);

/* failure.c: whoever watches is told; with a stream's lock held. */
void pool_tell_failure(struct pool *p);

/* recovery.c */
NODISCARD int pool_recover(struct pool *p, const struct ring_options *ring, struct err *e);

/* cleaner.c */
/* So much may have been cleaned and wait for a checkpoint, of what lives, before the cleaner waits. */
uint64_t pool_cleaned_most(const struct pool *p, uint64_t live_bytes);
uint64_t cleaner_step(void *pool);

/* Open the backend if it is not open; a pool serves without (pool.c). */
NODISCARD int pool_open_backend(struct pool *p, struct err *e);
/* pool_world.c: fill in p->world, when everything that it names is open. */
void pool_init_world(struct pool *p, const struct pool_row *row);

/* upload.c */
uint64_t uploader_step(void *pool);
NODISCARD int upload_round(struct pool *p, struct err *e);
NODISCARD int upload_load_state(struct pool *p, struct err *e);
/* A dead SCO's object goes into the list of the condemned: rows for the given NAMES batch. */
NODISCARD int upload_condemn(struct pool *p, struct meta_batch *names, const struct sco *s,
			     struct err *e);

/* bounce buffers: aligned memory for requests that are not (io.c) */
#define BOUNCE_BYTES (256u << 10)

#endif
