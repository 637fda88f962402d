/*
 * clean_frozen - copies of what frozen layers have in a SCO that is cleaned, and the rows that follow.
 *
 * Rows of a frozen layer change in checkpoints only. So the cleaner writes a copy to the log of the
 * layer's stream, as an entry that replay passes over (ENTRY_COPY), and notes it here; the first
 * checkpoint that has the entry below its mark changes the row from the old place to the new one, in
 * one commit with the counts of both SCOs (checkpoint_moves.c). Until then the old place counts; what
 * of this list is lost is garbage in the log, and nothing else (FORMAT.md 10.9).
 */
#ifndef VOLUME_CLEAN_FROZEN_H
#define VOLUME_CLEAN_FROZEN_H

#include "volume/family.h"
#include "volume/map.h"

struct clean_move;
struct moving;
struct pool;

/* A copy that no row names yet. */
struct frozen_move {
	uint64_t layer;
	struct map_move move;
	lsn_t lsn; /* of its entry */
	uint32_t stream;
	uint32_t crc;
};
/* Before the cleaner waits for a checkpoint: 7 MiB. */
#define FROZEN_MOVES_MAX (1u << 17)

struct frozen_moves {
	struct mutex lock; /* unranked leaf; held over publishing a copy, so that whoever has read a
			    * last LSN finds all copies up to it */
	struct frozen_move *list;
	size_t count, cap;
	bool announced; /* the cleaner's: the pool's row says that logs have copies */
};
void frozen_moves_init(struct frozen_moves *fm);
void frozen_moves_done(struct frozen_moves *fm);

/* Places that the row of a frozen layer's page names. */
struct frozen_row {
	uint64_t layer, page; /* layer 0: none */
	loc_t locs[PAGE_CLUSTERS];
};
/* Entries of a disk that was written at random come in no order: 1 MiB. */
#define FROZEN_ROWS 256u

/* Of one SCO that is cleaned; the cleaner's. */
struct frozen_finder {
	struct family_place *places; /* layers with a mark in its stream */
	size_t count;
	struct frozen_row *rows; /* FROZEN_ROWS, by hash; NULL: nothing was frozen in its stream. A
				  * row may have changed since: what is copied in vain is garbage */
};
NODISCARD int frozen_finder_begin(struct clean_move *m);
void frozen_finder_end(struct clean_move *m);
/* Copy what a frozen layer has of an entry; so many clusters of it are no longer *left. Errors: as
 * clean_move_window(). */
NODISCARD int clean_frozen_entry(struct clean_move *m, const struct moving *e, uint32_t *left);

#endif
