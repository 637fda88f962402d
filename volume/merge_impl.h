/*
 * merge_impl - a layer and the only one that lies on it, for the merger. Private.
 *
 * merge.c chooses the two, and holds the locks; merge_rows.c moves the rows of the lower one up;
 * trim.c leaves them where they are, and takes out of them what the upper one hides. FORMAT.md 10.9.
 */
#ifndef VOLUME_MERGE_IMPL_H
#define VOLUME_MERGE_IMPL_H

#include "volume/checkpoint_impl.h"
#include "volume/mutant.h"

/* Rows of one step: what readers of these layers, and calls, wait for. */
#define MERGE_STEP_ROWS 64u

struct merge {
	struct checkpoint c; /* its commits, tallies and marks of changed areas */
	uint64_t from, into; /* layers */
	struct layer_row from_row, into_row;
	uint32_t into_stream; /* whose map has the rows of the upper one */
	bool stays;	      /* the upper one is a template's: clones are made on the lower one */
	uint64_t *pages;      /* of this step */
	size_t page_count;
	unsigned int trimmed; /* clusters that the lower one loses in this step */
	struct merge_runs *runs;
	struct buf base;
};

/* The runs of a row, copied. */
struct merge_runs {
	struct page_run runs[PAGE_CLUSTERS];
	uint32_t crcs[PAGE_CLUSTERS];
	unsigned int count, crc_count;
};

/* Of a layer's own row, into m->runs; none where it has no row, or where its parent is asked. */
NODISCARD int merge_read_runs(struct merge *m, uint64_t layer, uint64_t page, struct err *e);
/* The next pages of a layer from one on, at most MERGE_STEP_ROWS, into m->pages. */
NODISCARD int merge_find_pages(struct merge *m, uint64_t layer, uint64_t first, struct err *e);
/* No log tells what changes in a layer: the next root needs maps that show it. */
NODISCARD int merge_note_unlogged(struct merge *m, uint64_t layer);
/* While nobody reads one layer before and the other after it. */
NODISCARD int merge_commit(struct merge *m, struct err *e);

/* One step: the next rows move. 1: it was the last one, nothing is left in the lower layer. */
NODISCARD int merge_move_rows(struct merge *m, struct err *e);

/* Whether the lower one has so many more rows that they stay where they are. No lock; -EAGAIN: the
 * merger is to stop. */
NODISCARD int trim_is_better(struct pool *p, uint64_t from, uint64_t into, bool *ret_better,
			     struct err *e);
/* One step of looking through the upper one. 1: it was the last one. */
NODISCARD int trim_rows(struct merge *m, struct err *e);

#endif
