/*
 * page_rows - rows of pages as the last checkpoint wrote them, so that the next need not read them.
 *
 * A disk that is written all over has all its pages in each checkpoint, and each wrote their rows
 * anew: what the metadata store has of them is in no cache. Nobody but checkpoints writes rows of
 * pages, and they do so one at a time, in the order of (layer, page). So a list in this order is
 * enough; a checkpoint goes along the last one's while it makes its own. What it passes by is let go.
 *
 * Owned by whoever holds the checkpoint lock. All zero: empty.
 */
#ifndef VOLUME_PAGE_ROWS_H
#define VOLUME_PAGE_ROWS_H

#include "common/base.h"

struct page_row {
	uint64_t layer, page;
	uint8_t *value;
	size_t len_bytes;
};

struct page_row_list {
	struct page_row *rows;
	size_t count, room;
};

struct page_rows {
	struct page_row_list last, next; /* of the last checkpoint; of the one that runs */
	size_t at;			 /* in last: before it all is let go */
	uint64_t bytes, bytes_max;	 /* of values in both; page_rows_check() proves it */
};

/*
 * The row of a page, or NULL: not known. Good until the next call. Pages are asked for in ascending
 * order between two calls of page_rows_end().
 */
const struct page_row *page_rows_find(struct page_rows *pr, uint64_t layer, uint64_t page);
/* Whether it will be found, of one that was not asked for yet. Also by several threads at once. */
bool page_rows_has(const struct page_rows *pr, uint64_t layer, uint64_t page);
/* This is what the row will be. Without room or memory it is not kept. Ascending, too. */
void page_rows_note(struct page_rows *pr, uint64_t layer, uint64_t page, const void *value,
		    size_t len_bytes);
/* done: what was noted is durable, the next round may ask for it. Else all is forgotten. */
void page_rows_end(struct page_rows *pr, bool done);
/* Rows were changed in another way: nothing of the last round is true. */
void page_rows_forget(struct page_rows *pr);
/* Frees all. */
void page_rows_done(struct page_rows *pr);
/* Proves order and sum; for tests. */
void page_rows_check(const struct page_rows *pr);

#endif
