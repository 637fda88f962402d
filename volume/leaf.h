/*
 * leaf - the locations of one map page (512 clusters) in the form that is smallest for them.
 *
 *   EMPTY   nothing
 *   FULL    one extent over the whole page, held in the leaf itself
 *   RUNS    up to 128 sorted runs of 16 bytes: extents, and single clusters with their checksum
 *   TABLE   a location and a checksum for each cluster: 6.2 KiB
 *
 * So a page written in order costs nothing beside the leaf, a handful of scattered clusters under
 * 150 bytes. A cluster is either explicit (it has a location, which may be LOC_UNMAPPED or
 * LOC_ZERO, and a state) or absent; what absent means is the owner's business.
 *
 * Checksums: a run of LEAF_EXTENT_MIN consecutive clusters and more may lose them (they stand in
 * the SCO's index); of anything shorter they are kept whatever the form.
 *
 * Not thread-safe: leaves and their pool belong to one lock.
 */
#ifndef VOLUME_LEAF_H
#define VOLUME_LEAF_H

#include "volume/types.h"

/* No place and none of the two reserved values: "the leaf says nothing". */
#define LEAF_ABSENT UINT64_C(2)

#define LEAF_EXTENT_MIN 8u
#define LEAF_RUNS_MAX	48u
#define LEAF_MASK_WORDS (PAGE_CLUSTERS / 64u)

enum leaf_form { LEAF_EMPTY = 0, LEAF_FULL = 1, LEAF_RUNS = 2, LEAF_TABLE = 3 };
enum leaf_state { LEAF_CLEAN = 0, LEAF_DIRTY = 1, LEAF_STAGED = 2 };

/* All clusters spelled out; also the scratch memory of conversions. */
struct leaf_table {
	loc_t loc[PAGE_CLUSTERS];
	uint32_t crc[PAGE_CLUSTERS];
	uint64_t known[LEAF_MASK_WORDS]; /* crc is set */
	uint64_t dirty[LEAF_MASK_WORDS];
	uint64_t staged[LEAF_MASK_WORDS]; /* never together with dirty */
};

struct leaf_runs;

struct leaf {
	union {
		loc_t loc; /* FULL: of cluster 0 */
		struct leaf_runs *runs;
		struct leaf_table *table;
	};
	uint8_t form;
	uint8_t full_state; /* FULL: state of all */
	/* The owner's, untouched here: they would be padding, and a page is 24 bytes with them. */
	uint8_t owner_flags;
	uint32_t owner_link;
};

/* Memory of the leaves under one lock. Zeroed: empty. */
struct leaf_pool {
	struct leaf_table *spare; /* chained through the first word */
	unsigned int spare_count;
	uint64_t used_bytes; /* bodies of leaves, allocator's overhead included; spares are not */
};
void leaf_pool_done(struct leaf_pool *pool);
/* A table for leaf_pool_donate(); NULL: no memory. No lock needed. */
struct leaf_table *leaf_table_new(void);
/* Takes a table over, so that the next leaf_reserve() cannot fail. */
void leaf_pool_donate(struct leaf_pool *pool, struct leaf_table *table);
/* Give spares beyond the few that are kept back to the system. */
void leaf_pool_trim(struct leaf_pool *pool);

void leaf_init(struct leaf *leaf);
/* Frees the body; the leaf is EMPTY after it. */
void leaf_clear(struct leaf_pool *pool, struct leaf *leaf);
/* What of pool->used_bytes is this leaf's. */
uint64_t leaf_bytes(const struct leaf *leaf);

/*
 * Make room for a leaf_set() of the same arguments, which then cannot fail. Contents stay.
 * Errors: -ENOMEM; never while the pool has a spare table.
 */
NODISCARD int leaf_reserve(struct leaf_pool *pool, struct leaf *leaf, unsigned int first,
			   unsigned int count, bool has_crcs);
/*
 * Set clusters. loc: of the first, the rest consecutive; or LOC_ZERO, LOC_UNMAPPED for all. crcs:
 * count of them or NULL; ignored where loc is no place.
 */
void leaf_set(struct leaf_pool *pool, struct leaf *leaf, unsigned int first, unsigned int count,
	      loc_t loc, const uint32_t *crcs, enum leaf_state state);

/* A stretch of clusters that are absent, or explicit with consecutive (or no) places. */
struct leaf_span {
	unsigned int first, count;
	loc_t loc; /* LEAF_ABSENT: absent */
	enum leaf_state state;
	const uint32_t *crcs; /* count of them, in the leaf; NULL: not known */
};
/* The stretch that starts at cluster first, not beyond end. It may be shorter than it could be. */
void leaf_span_at(const struct leaf *leaf, unsigned int first, unsigned int end,
		  struct leaf_span *ret_span);
/* The first cluster from first on that is in this state (DIRTY or STAGED); PAGE_CLUSTERS: none. */
unsigned int leaf_next(const struct leaf *leaf, unsigned int first, enum leaf_state state);
/* What a walk by leaf_next() is about to read; it has not been touched for long. */
void leaf_prefetch(const struct leaf *leaf, enum leaf_state state);
/* Whether clusters [first, first + count) are all explicit. */
bool leaf_has_all(const struct leaf *leaf, unsigned int first, unsigned int count);
/* Whether any cluster is in this state (DIRTY or STAGED). */
bool leaf_has_state(const struct leaf *leaf, enum leaf_state state);

/* All clusters in state from go to state to. Never fails. */
void leaf_restate(struct leaf_pool *pool, struct leaf *leaf, enum leaf_state from,
		  enum leaf_state to);

/* Clean clusters become absent. Never fails. */
void leaf_forget_clean(struct leaf_pool *pool, struct leaf *leaf);

void leaf_table_clear(struct leaf_table *table); /* all absent */
/*
 * Take from table what the leaf does not say, as clean, and choose the form anew. Where table is
 * LOC_UNMAPPED or absent the leaf stays absent. table is used up.
 * Errors: -ENOMEM: unchanged.
 */
NODISCARD int leaf_fill(struct leaf_pool *pool, struct leaf *leaf, struct leaf_table *table);
/*
 * Choose the form anew if that may be smaller. drop_unmapped: clean LOC_UNMAPPED ones become
 * absent. Without memory for it the leaf stays as it is.
 */
void leaf_compact(struct leaf_pool *pool, struct leaf *leaf, bool drop_unmapped);

/* Proves order, bounds and masks. */
void leaf_check(const struct leaf *leaf);

#endif
