/*
 * map_impl - what the parts of the map share; for map*.c only.
 *
 * Memory: a page is 24 bytes in a slab of its shard, its locations are a leaf. Whatever a page
 * can be found by is in its key: the slot of its layer (a small number that a layer has while it
 * lives) and its number. Recency is one bit a page and a hand that goes round (CLOCK).
 *
 * Locks, first taken first: ranges_lock, layers_lock, layer.lock, shard.lock. Metadata is read with
 * none of them held.
 *
 * Loads: a page that loads is LOADING and its load stands in the shard's list. Whoever drops such
 * a page cancels the load, which then starts over. A range first adds its tombstone, then drops
 * pages; a load first makes its page, then looks for tombstones: so one of the two sees the other.
 *
 * Checkpoints: one that freezes a tombstone will put what it then finds dirty over it. So freezing
 * waits until ranges that added theirs have dropped the pages that are older than it (ranges_lock).
 */
#ifndef VOLUME_MAP_IMPL_H
#define VOLUME_MAP_IMPL_H

#include "volume/leaf.h"
#include "volume/map.h"

enum map_page_flag {
	PAGE_USED = 1 << 0,    /* not a free slot of the slab */
	PAGE_LOADED = 1 << 1,  /* what its leaf does not say is unmapped; else: not known */
	PAGE_LOADING = 1 << 2, /* somebody reads its rows */
	PAGE_HELD = 1 << 3,    /* a range will change it and must find it */
	PAGE_HOT = 1 << 4,     /* used since the hand passed */
	PAGE_DIRTY = 1 << 5,   /* may have dirty clusters */
	PAGE_STAGED = 1 << 6,  /* may have staged clusters */
};
/* Held by a reference on its layer. */
#define PAGE_PINNED (PAGE_DIRTY | PAGE_STAGED)
#define PAGE_STAYS  (PAGE_PINNED | PAGE_LOADING | PAGE_HELD)

struct map_page {
	uint64_t key; /* slot of the layer, number of the page */
	struct leaf
		leaf; /* owner_flags: enum map_page_flag; owner_link: next in bucket or free list */
};
#define PAGE_NUMBER_BITS 41u
#define PAGE_NUMBER_MASK ((UINT64_C(1) << PAGE_NUMBER_BITS) - 1)
#define LAYER_SLOTS_MAX	 (1u << (64 - PAGE_NUMBER_BITS))
STATIC_ASSERT(sizeof(struct map_page) == 24, "12 MiB a TiB written in order");
STATIC_ASSERT(CLUSTER_MAX >> PAGE_CLUSTERS_SHIFT <= PAGE_NUMBER_MASK + 1, "fits a key");

/* A page with its place in a bucket. */
#define PAGE_OWN_BYTES (sizeof(struct map_page) + sizeof(uint32_t))

/* A load under way; on the stack of its thread. */
struct map_load {
	struct map_load *next;
	uint64_t key;
	bool cancelled;
};

#define SLAB_PAGES_SHIFT 8u
#define SLAB_PAGES	 (1u << SLAB_PAGES_SHIFT)
/* Slots of a slab that one hold of a shard's lock looks at, where all are looked at. */
#define SWEEP_SLOTS 256u

struct shard {
	struct mutex lock;  /* rank LOCK_MAP_SHARD; guards all below; no I/O while held */
	struct cond loaded; /* a load of this shard ended */
	struct leaf_pool pool;
	struct map_page **slabs;
	uint32_t slab_count, slab_room;
	uint32_t slots; /* ever used; slot 0 is none */
	uint32_t free_slot;
	uint32_t hand;
	uint32_t *buckets;
	uint32_t bucket_count; /* a power of two */
	uint32_t page_count, dirty_count, staged_count;
	struct map_load *loads;
	uint64_t pinned_bytes, hits, misses;
};

/* Whether a layer has resolved pages. */
enum resolved_state {
	RESOLVED_UNKNOWN, /* nobody asked since it is in use */
	RESOLVED_NONE,
	RESOLVED_SOME, /* or had some once */
};

struct map_layer {
	struct layer pub; /* first: a struct layer of ours is one of these */
	uint32_t slot;
	uint64_t cached_pages; /* atomic */
	uint64_t page_bound;   /* atomic; numbers of pages ever cached are below it */
	unsigned int resolved; /* enum resolved_state; atomic */
	/* The newest checkpoint that may have moved clusters of it; changed holding it alone. */
	uint64_t moved_sequence;
	uint64_t chain_moved; /* atomic: the newest of it and of those below, as it was when */
	uint64_t chain_moves; /* map.moves had this value; atomic, stored behind it */
	/* Guarded by map.layers_lock. */
	struct map_layer *next_in_bucket;
	struct map_layer *next_tombstoned;
	bool is_tombstoned;		 /* in that list, which holds a reference */
	struct map_layer *next_released; /* the checkpoint's, on its way out of the list */
};

#define LAYER_CHUNK 1024u
/* Taken before any layer's lock and after all that callers may hold. */
#define LOCK_MAP_RANGES (LOCK_LAYER - 6)
#define LOCK_MAP_LAYERS (LOCK_LAYER - 5)

struct map {
	struct meta *meta;
	uint64_t shard_bytes;
	unsigned int shard_count;
	struct shard *shards;

	struct rwlock chain_lock; /* rank LOCK_MAP_CHAIN; held over reads of rows */
	/* Rank LOCK_MAP_RANGES. Shared: a range is half done. Alone: tombstones are frozen. */
	struct rwlock ranges_lock;

	struct mutex layers_lock; /* rank LOCK_MAP_LAYERS; guards all below */
	struct map_layer **buckets;
	uint32_t bucket_count, layer_count;
	struct map_layer *tombstoned;
	uint32_t slots_used, free_slot_count, free_slot_room;
	uint32_t *free_slots;
	/* Layer by slot. Atomic; an entry is constant while pages with its slot are cached. */
	struct map_layer **chunks[LAYER_SLOTS_MAX / LAYER_CHUNK];

	unsigned int rows_max;	  /* of a page without being wished for; constant */
	bool resolved_exist;	  /* atomic; perhaps there are resolved pages; rises once */
	uint64_t moved_sequence;  /* atomic: of all layers; changed as that of a layer */
	uint64_t moves;		  /* atomic: so often, plus one; the same */
	uint64_t rows_asked;	  /* atomic */
	struct mutex wishes_lock; /* unranked leaf; guards the table */
	struct map_wish *wishes;  /* MAP_WISHES, by hash; layer 0: free. NULL until there is one */
	unsigned int wish_count, wish_hand;
	void (*wished)(void *arg); /* constant, as the next */
	void *wished_arg;

	/* The checkpoint's thread's own. */
	struct staged_page *staged;
	size_t staged_count, staged_room;
	struct staged_range *ranges;
};

static inline struct map_layer *map_layer_of(struct layer *l)
{
	return (struct map_layer *)l;
}
static inline bool layer_is_stuck(const struct layer *l)
{
	const bool *stuck = __atomic_load_n(&l->stuck, __ATOMIC_RELAXED);

	return stuck && __atomic_load_n(stuck, __ATOMIC_ACQUIRE);
}
static inline uint64_t mix64(uint64_t x)
{
	x = (x ^ x >> 32) * UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ x >> 29) * UINT64_C(0xbf58476d1ce4e5b9);
	return x ^ x >> 32;
}

/* --- map_page.c: pages of one shard; its lock is held ------------------------------------------ */

NODISCARD int shard_init(struct shard *s);
void shard_done(struct shard *s); /* all pages dropped */

static inline uint64_t page_key(const struct map_layer *ml, uint64_t page)
{
	return (uint64_t)ml->slot << PAGE_NUMBER_BITS | page;
}
static inline struct shard *shard_of(struct map *m, uint64_t key)
{
	return &m->shards[mix64(key) & (m->shard_count - 1)];
}
static inline struct map_page *page_at(const struct shard *s, uint32_t slot)
{
	return &s->slabs[slot >> SLAB_PAGES_SHIFT][slot & (SLAB_PAGES - 1)];
}
static inline bool page_is(const struct map_page *p, unsigned int flags)
{
	return p->leaf.owner_flags & flags;
}
static inline void page_flag(struct map_page *p, unsigned int flags)
{
	p->leaf.owner_flags = (uint8_t)(p->leaf.owner_flags | flags);
}
static inline void page_unflag(struct map_page *p, unsigned int flags)
{
	p->leaf.owner_flags = (uint8_t)(p->leaf.owner_flags & ~flags);
}
static inline uint64_t page_number(const struct map_page *p)
{
	return p->key & PAGE_NUMBER_MASK;
}
static inline uint64_t page_bytes(const struct map_page *p)
{
	return PAGE_OWN_BYTES + leaf_bytes(&p->leaf);
}
/* The leaf may have changed its size from what page_bytes() said. */
static inline void page_resized(struct shard *s, const struct map_page *p, uint64_t bytes_before)
{
	if (page_is(p, PAGE_PINNED))
		s->pinned_bytes += page_bytes(p) - bytes_before;
}

struct map_page *page_find(const struct shard *s, uint64_t key);
/* A page that is not there yet: nothing known. NULL: no memory. */
struct map_page *page_make(struct shard *s, struct map_layer *ml, uint64_t page);
/* Layer of a page of the cache. */
struct map_layer *page_layer(const struct map *m, const struct map_page *p);
void page_mark_dirty(struct shard *s, struct map_layer *ml, struct map_page *p);
/* Clear DIRTY or STAGED. True: the page is no longer pinned, drop a reference on its layer. */
NODISCARD bool page_unmark(struct shard *s, struct map_page *p, enum map_page_flag flag);
/* Take a page out, cancelling its load. True: drop a reference on its layer. */
NODISCARD bool page_drop(const struct map *m, struct shard *s, struct map_page *p);
/* Its rows changed: only what is young is known of it from here on. A load of it starts over. */
void page_forget_clean(struct shard *s, struct map_page *p);
uint64_t shard_used_bytes(const struct shard *s);
/* Drop pages that may go while the shard is above its share; never keep (may be NULL). */
void shard_evict(const struct map *m, struct shard *s, const struct map_page *keep);
/* The same until the share is kept or all pages were looked at; takes the lock. */
void shard_shrink(const struct map *m, struct shard *s);
/*
 * Call fn for pages of a shard, a bounded number under each hold of the lock (taken here); fn may
 * drop the page. False: it ends.
 */
void shard_sweep(struct shard *s, bool (*fn)(void *arg, struct shard *s, struct map_page *p),
		 void (*between)(void *arg), void *arg);

/* --- map_layer.c ------------------------------------------------------------------------------- */

void map_layers_init(struct map *m);
void map_layers_done(struct map *m);
struct map_layer *map_layer_at(const struct map *m, uint32_t slot);
/* Another reference for one who has one, directly or by a pinned page. */
void layer_unref_shared(struct layer *l); /* not the last one */
/* Drop pages [first_page, end_page) of a layer out of the cache. The caller holds a reference. */
void map_drop_pages(struct map *m, struct map_layer *ml, uint64_t first_page, uint64_t end_page);

/* --- map_tombstone.c --------------------------------------------------------------------------- */

/* Pending ranges of one layer, sorted and disjoint; a newer set lies over older ones. */
struct map_tombstone {
	struct map_tombstone *older;
	bool frozen; /* belongs to the running checkpoint */
	uint32_t count, room;
	struct tombstone_range {
		uint64_t first_page, end_page;
		loc_t value;
	} * ranges;
};
struct map_tombstone *tombstone_new(void); /* room for one range */
void tombstone_free(struct map_tombstone *set);
/* Make room in the layer's own set if it may still grow; without memory nothing happens. */
void tombstones_prepare(struct layer *l);
/* Add a range. fresh: made by tombstone_new(), taken (and maybe freed). layer.lock is held. */
void tombstones_add_locked(struct layer *l, struct map_tombstone *fresh, uint64_t first_page,
			   uint64_t end_page, loc_t value);
/* The range that covers a page (young_only: out of sets that are not frozen), or NULL. */
const struct tombstone_range *tombstones_find_locked(const struct layer *l, uint64_t page,
						     bool young_only);
/* Put a layer that got a tombstone into the list of those; its lock is not held. */
void map_note_tombstoned(struct map *m, struct map_layer *ml);
void map_tombstones_freeze(struct map *m);
void map_tombstones_thaw(struct map *m, bool done);
void map_tombstones_done(struct map *m);

/* --- map_load.c -------------------------------------------------------------------------------- */

/*
 * A page whose clusters [first, first + count) are known, its shard locked on success.
 * Errors: as map_lookup; nothing is locked.
 */
NODISCARD int page_get(struct map *m, struct map_layer *ml, uint64_t page, unsigned int first,
		       unsigned int count, struct shard **ret_shard, struct map_page **ret_page,
		       struct err *e);

enum assemble_flags {
	ASSEMBLE_ROWS_ONLY = 1 << 0,  /* neither cached pages nor tombstones */
	ASSEMBLE_OWN = 1 << 1,	      /* no parents */
	ASSEMBLE_UNRESOLVED = 1 << 2, /* no resolved pages */
	ASSEMBLE_SETTLED = 1 << 3,    /* -EBUSY where something is in RAM only */
};
/* What putting a page together took. */
struct assemble_cost {
	unsigned int rows;  /* of pages */
	unsigned int found; /* layers with resolved pages; in `layers` as many as fit */
	uint64_t layers[RESOLVED_FOUND_MAX];
	uint64_t used; /* layer whose resolved page held; 0: none */
};
/* A page out of the rows of a chain, which is held. What no layer says anything of is left absent. */
NODISCARD int page_assemble(struct map *m, struct layer *l, uint64_t page, unsigned int flags,
			    struct leaf_table *table, struct assemble_cost *ret_cost,
			    struct err *e);

/* --- map_resolved.c ---------------------------------------------------------------------------- */

#define MAP_WISHES 4096u
void map_resolved_done(struct map *m);
/* A load or a checkpoint read so many rows. */
void map_wish(struct map *m, uint64_t layer, uint64_t page);
/*
 * The resolved page of a layer, if it has one. The chain is held.
 * Returns 0: there is none. 1: ret_row points into value and holds. -ESTALE: it does not, or is damaged.
 */
NODISCARD int map_resolved_get(struct map *m, struct layer *l, uint64_t page, struct buf *value,
			       struct resolved_row *ret_row);

/* --- map_checkpoint.c -------------------------------------------------------------------------- */

/* Free what a checkpoint staged, as it is. */
void map_checkpoint_forget(struct map *m);

#endif
