/*
 * map - address -> location of all objects: pages of 512 clusters in one LRU with a byte limit.
 *
 * A page belongs to a layer (key: layer id, page number) and is held effective: the layer's own
 * row merged over its parents'. Young entries are dirty; dirty entries are never evicted. A page
 * that was only written is held partly (its dirty entries) and loaded when somebody asks for the
 * rest, so a blind overwrite never reads metadata.
 *
 * Order: map_update() and map_range() call publish() under the lock of the page (shard), after
 * the page stands in the dirty list and before the entry changes. publish() takes the LSN. So LSN
 * order is map order, and a checkpoint that read "last LSN = C" before staging finds every entry
 * up to C in a dirty page.
 *
 * Ranges: whole pages inside a range are not touched one by one. The cached ones are dropped and
 * the layer gets a tombstone; under a tombstone rows read as absent until a checkpoint has deleted
 * them. So a range costs O(cached pages), and O(rows) in the background.
 *
 * Checkpoint: begin (freezes the set of tombstones) - stage (copies dirty entries, page after
 * page) - the caller makes the log durable up to the newest LSN given out by then - removes rows
 * under the frozen tombstones, commits the staged deltas, flushes - end. A page under a tombstone
 * that is younger than begin is not staged; the argument why nothing is lost: FORMAT.md 10.4.
 */
#ifndef VOLUME_MAP_H
#define VOLUME_MAP_H

#include "common/thread.h"
#include "volume/lock_ranks.h"
#include "volume/meta.h"

struct map;
struct map_tombstone;

/* One generation of a map, in RAM. Made by map_layer_new() for each layer in use. */
struct layer {
	uint64_t id; /* constant */
	/* NULL: none; referenced. Changed by map_layer_relink() only: whoever follows it keeps merges
	 * out (map_chain_hold()) or holds what they hold. Others ask layer_has_parent(). */
	struct layer *parent;
	uint32_t parent_origin_base; /* constant; added to the origin of the parent's locations */
	uint64_t owner; /* the user's: object it is of, 0: of none (any more); atomic */
	/* The user's, likewise; NULL or atomic: what is young in it must stay in RAM for good, for the
	 * log it stands on is broken. Checkpoints pass over it. Rises once. */
	const bool *stuck;
	bool foreign;  /* the user's, likewise: rows may name SCOs of other streams. Rises once */
	uint32_t refs; /* atomic */

	struct mutex lock;		/* rank LOCK_LAYER; guards all below */
	uint64_t parent_limit_clusters; /* nothing of the parent at and behind it; only sinks */
	struct map_tombstone *tombstones;
};

struct map_options {
	uint64_t cache_bytes; /* pages and all that belongs to them */
	unsigned int shards;  /* 0: 64; a power of two */
};

NODISCARD int map_open(struct meta *meta, const struct map_options *options, struct map **ret_map);
/* Drops everything, dirty or not. No layer may be in use. */
void map_close(struct map *m);

/*
 * The layer of this id. While one still lives (dirty pages and pending ranges keep it) that one is
 * returned, with the limit that it has by now.
 * Owns:     one reference for the caller; takes a reference of its own on parent (may be NULL).
 * Errors:   -ENOMEM; -EEXIST the one that lives has another parent.
 */
NODISCARD int map_layer_new(struct map *m, uint64_t id, struct layer *parent,
			    uint64_t parent_limit_clusters, uint32_t parent_origin_base,
			    struct layer **ret_layer);
static inline uint64_t layer_owner(const struct layer *l)
{
	return __atomic_load_n(&l->owner, __ATOMIC_RELAXED);
}
static inline void layer_set_owner(struct layer *l, uint64_t owner)
{
	__atomic_store_n(&l->owner, owner, __ATOMIC_RELAXED);
}
static inline bool layer_is_foreign(const struct layer *l)
{
	return __atomic_load_n(&l->foreign, __ATOMIC_ACQUIRE);
}
static inline void layer_set_foreign(struct layer *l)
{
	__atomic_store_n(&l->foreign, true, __ATOMIC_RELEASE);
}
/*
 * Whether anything lies below it. Any thread with a reference, nothing held: the answer turns to
 * false once, behind the commit that says so in the layer's row, when all that showed through is in
 * the layer's own rows. So who acts on an old "yes" hides with zeros what is not there any more,
 * which reads the same; who acts on a "no" writes what the row on the disk says, too.
 */
static inline bool layer_has_parent(const struct layer *l)
{
	return __atomic_load_n(&l->parent, __ATOMIC_ACQUIRE) != NULL;
}
/*
 * Rows move from a layer to the one on it only while this is held alone, so that nobody who reads the
 * one before and the other after it sees neither. Lookups do it themselves. Rank LOCK_MAP_CHAIN.
 */
void map_chain_hold(struct map *m); /* shared: chains stay as they are */
void map_chain_release(struct map *m);
void map_chain_hold_alone(struct map *m);
void map_chain_release_alone(struct map *m);
/* A layer's parent has no row any more: its own parent takes its place, seen up to limit_clusters. Held
 * alone. */
void map_layer_relink(struct map *m, struct layer *l, uint64_t limit_clusters);
/* A cluster of a frozen layer that a commit has moved. */
struct map_move {
	uint64_t cluster;
	loc_t from, to;
};
/*
 * What pages in RAM have of clusters that were moved, in the layer and in those on it, is forgotten, and
 * loads of these pages start over. Ascending by cluster. The chain has been held alone since before the
 * commit of the rows, so nobody finds an old place in RAM once it is released.
 */
void map_forget_moved(struct map *m, uint64_t layer, const struct map_move *moves, size_t count);
/*
 * Resolved pages (FORMAT.md 10.11): copies of what a frozen layer shows of a page, its parents
 * included, so that a load need not ask a row of each layer. They hold as long as nothing of the layer
 * and of those below it was moved behind the checkpoint that made them. Where there is none, or none
 * that holds, the rows of pages are asked as if there was no such thing.
 */
/* Before any layer: more rows than this for one page make it wanted; the newest checkpoint that moved
 * anything; whether there may be copies; who hears, under any lock, of a first wish. */
void map_resolved_begin(struct map *m, unsigned int rows_max, uint64_t moved_sequence,
			bool may_exist, void (*wished)(void *arg), void *arg);
/* Clusters of a layer are about to be moved by this checkpoint. Held alone, until the commit. */
void map_layer_moved(struct map *m, uint64_t layer, uint64_t sequence);
/* Pages of layers that took too many rows since the last call; at most max. */
struct map_wish {
	uint64_t layer, page;
};
size_t map_take_wishes(struct map *m, struct map_wish *ret_wishes, size_t max);
bool map_has_wishes(struct map *m);
/* A layer is frozen: whoever asked for its pages asks for those of the one on it from here on. */
void map_move_wishes(struct map *m, uint64_t layer, uint64_t onto);
#define RESOLVED_FOUND_MAX 4u
/* What a copy is made of, and what it replaces. */
struct map_resolved {
	struct buf value;   /* of the row; the caller's, initialized; empty: none is needed */
	unsigned int rows;  /* that were read for it */
	unsigned int found; /* layers whose copies are not needed any more, or do not hold */
	uint64_t layers[RESOLVED_FOUND_MAX];
};
/*
 * Make a copy of what a frozen layer shows, out of committed rows. Merges and checkpoints are kept out.
 * Errors: -EBUSY something of it is in RAM only; those of map_lookup.
 */
NODISCARD int map_resolve(struct map *m, struct layer *l, uint64_t page, uint64_t sequence,
			  struct map_resolved *ret, struct err *e);
/* From here on copies of the layer are looked for: before the commit of the first one. */
void map_resolved_exist(struct map *m, struct layer *l);
/* Whether a copy says what the rows say, or does not hold any more. Errors: -EUCLEAN, -EBADMSG it is
 * damaged; those of map_lookup. */
NODISCARD int map_resolved_agrees(struct map *m, struct layer *l, uint64_t page,
				  const uint8_t *value, size_t value_bytes, bool *ret_agrees,
				  struct err *e);
/* The layer of an id, referenced, if it is in use; else NULL. */
struct layer *map_layer_find(struct map *m, uint64_t id);
void layer_ref(struct layer *l);
void layer_unref(struct map *m, struct layer *l);

/*
 * Locations of count clusters from first on; all in one page. Parents' clusters come with their
 * origin translated; unmapped ones without any parent are LOC_UNMAPPED.
 *
 * Owns:     ret_locs, ret_crcs (each count long); bit i of ret_known says that ret_crcs[i] is
 *           set, else the checksum stands in the SCO's index. ret_known: PAGE_CLUSTERS / 8 bytes.
 * Errors:   -EBADMSG, -EUCLEAN, -EIO reading a row; -ENOMEM.
 * Threads:  any, no lock held above LOCK_LAYER; may block on one metadata read.
 */
NODISCARD int map_lookup(struct map *m, struct layer *l, uint64_t first, unsigned int count,
			 loc_t *ret_locs, uint32_t *ret_crcs, uint8_t *ret_known, struct err *e);

struct map_update {
	uint64_t first;
	unsigned int count; /* all in one page */
	loc_t loc; /* LOC_ZERO, LOC_UNMAPPED, or the place of the first; rest consecutive */
	const uint32_t *crcs; /* count of them for a place, may be NULL; copied */
	/* Apply only if the clusters are still here: expect for the first, consecutive if a place. */
	bool conditional;
	loc_t expect;
	/* Called under the lock of the page, exactly once if and only if the update happens. */
	lsn_t (*publish)(void *arg);
	void *arg;
};

/*
 * Change clusters of one page.
 *
 * Errors:   -ESTALE the condition does not hold; -ENOMEM; errors of map_lookup where a load is
 *           needed (conditional only): nothing published, nothing changed.
 * Threads:  any; publish must not block and not call the map. No allocation in the steady state:
 *           a page that exists and whose form does not grow.
 */
NODISCARD int map_update(struct map *m, struct layer *l, const struct map_update *u, lsn_t *ret_lsn,
			 struct err *e);

/*
 * Set clusters [first, end) to value (LOC_ZERO or LOC_UNMAPPED; a layer with parents gets LOC_ZERO
 * either way, or, where end is CLUSTER_MAX, a lower parent limit). Nobody updates this layer
 * meanwhile (the caller holds the object's gate); lookups and checkpoints may run.
 *
 * publish is called once, before anything changes, with no shard lock held. Everything that can
 * fail (loads of the two edge pages, memory) happens before it.
 */
NODISCARD int map_range(struct map *m, struct layer *l, uint64_t first, uint64_t end, loc_t value,
			lsn_t (*publish)(void *arg), void *arg, lsn_t *ret_lsn, struct err *e);

/* First cluster >= from whose state (data: a place; else hole) is as asked; end if none below it.
 * Errors as map_lookup. Cost: O(rows and cached pages), not O(clusters). */
NODISCARD int map_seek(struct map *m, struct layer *l, uint64_t from, uint64_t end, bool data,
		       uint64_t *ret_cluster, struct err *e);

/* Bytes of the cache in use, and those of dirty or staged pages, which cannot be evicted. */
struct map_usage {
	uint64_t used_bytes, pinned_bytes, pages, hits, misses;
	uint64_t rows; /* of pages and their resolved copies that were asked for, found or not */
};
struct map_usage map_usage(struct map *m);

/* --- Checkpoint; one thread at a time --------------------------------------------------------- */

/* Dirty entries of one page as they were when it was staged. */
struct staged_page {
	struct layer *layer; /* referenced until map_checkpoint_end */
	uint64_t page;	     /* number: first cluster / PAGE_CLUSTERS */
	struct page_run *runs;
	unsigned int run_count;
};
/* Freezes which tombstones belong to this checkpoint. */
void map_checkpoint_begin(struct map *m);
/*
 * Copy the dirty entries of all dirty pages, ordered by (layer id, page). New dirt made meanwhile
 * may or may not be in it.
 * Owns:     the result until map_checkpoint_end(). Errors: -ENOMEM: end with false.
 */
NODISCARD int map_checkpoint_stage(struct map *m, struct staged_page **ret_pages,
				   size_t *ret_count);
/* A range whose rows this checkpoint deletes (or sets to zero, in a layer with parents). */
struct staged_range {
	struct layer *layer;
	uint64_t first_page, end_page; /* end: exclusive */
	loc_t value;
};
NODISCARD int map_checkpoint_ranges(struct map *m, struct staged_range **ret_ranges,
				    size_t *ret_count);
/*
 * done: everything staged is committed and flushed, frozen tombstones are gone. Otherwise all of
 * it becomes dirty again (entries changed since keep their newer value).
 */
void map_checkpoint_end(struct map *m, bool done);

/* Effective page out of rows alone, as a load does: own row over parents'. locs: PAGE_CLUSTERS.
 * own: only the layer's own row, no parents, no origin translation, UNMAPPED where it says nothing. */
NODISCARD int map_read_rows(struct map *m, struct layer *l, uint64_t page, bool own,
			    loc_t *ret_locs, struct err *e);

/* Proves the invariants (sizes, lists, masks); for tests and debug builds. */
void map_check(struct map *m);

#endif
