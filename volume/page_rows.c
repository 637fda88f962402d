#include "volume/page_rows.h"

#include <stdlib.h>
#include <string.h>

#define ROOM_MIN 64u

static bool is_before(const struct page_row *row, uint64_t layer, uint64_t page)
{
	return row->layer != layer ? row->layer < layer : row->page < page;
}

/* The first rows of the last round, up to this index. */
static void let_go(struct page_rows *pr, size_t end)
{
	for (; pr->at < end; pr->at++) {
		struct page_row *row = &pr->last.rows[pr->at];

		pr->bytes -= row->len_bytes;
		free(row->value);
	}
}

const struct page_row *page_rows_find(struct page_rows *pr, uint64_t layer, uint64_t page)
{
	size_t i = pr->at;

	while (i < pr->last.count && is_before(&pr->last.rows[i], layer, page))
		i++;
	let_go(pr, i);
	if (i == pr->last.count || pr->last.rows[i].layer != layer || pr->last.rows[i].page != page)
		return NULL;
	return &pr->last.rows[i];
}

bool page_rows_has(const struct page_rows *pr, uint64_t layer, uint64_t page)
{
	size_t from = pr->at, end = pr->last.count;

	while (from < end) {
		size_t middle = from + (end - from) / 2;

		if (is_before(&pr->last.rows[middle], layer, page))
			from = middle + 1;
		else
			end = middle;
	}
	return from < pr->last.count && pr->last.rows[from].layer == layer &&
	       pr->last.rows[from].page == page;
}

static bool make_room(struct page_row_list *list)
{
	size_t room = list->room ? list->room * 2 : ROOM_MIN;
	struct page_row *rows;

	if (list->count < list->room)
		return true;
	rows = realloc(list->rows, room * sizeof(*rows));
	if (!rows)
		return false;
	list->rows = rows;
	list->room = room;
	return true;
}

void page_rows_note(struct page_rows *pr, uint64_t layer, uint64_t page, const void *value,
		    size_t len_bytes)
{
	struct page_row_list *next = &pr->next;
	uint8_t *copy;

	ASSERT(next->count == 0 || is_before(&next->rows[next->count - 1], layer, page));
	/* Its old row has served. */
	if (page_rows_find(pr, layer, page))
		let_go(pr, pr->at + 1);
	if (len_bytes > pr->bytes_max - pr->bytes || !make_room(next))
		return;
	copy = malloc(len_bytes);
	if (!copy)
		return;
	memcpy(copy, value, len_bytes);
	next->rows[next->count++] = (struct page_row){
		.layer = layer, .page = page, .value = copy, .len_bytes = len_bytes
	};
	pr->bytes += len_bytes;
}

void page_rows_forget(struct page_rows *pr)
{
	let_go(pr, pr->last.count);
}

void page_rows_end(struct page_rows *pr, bool done)
{
	struct page_row_list last = pr->last;

	page_rows_forget(pr);
	last.count = 0;
	pr->last = pr->next;
	pr->next = last; /* its memory */
	pr->at = 0;
	if (!done)
		page_rows_forget(pr);
}

void page_rows_done(struct page_rows *pr)
{
	page_rows_end(pr, false);
	ASSERT(pr->bytes == 0);
	free(pr->last.rows);
	free(pr->next.rows);
	*pr = (struct page_rows){ 0 };
}

void page_rows_check(const struct page_rows *pr)
{
	uint64_t bytes = 0;

	ASSERT(pr->at <= pr->last.count);
	for (size_t i = pr->at; i < pr->last.count; i++)
		bytes += pr->last.rows[i].len_bytes;
	for (size_t i = 0; i < pr->next.count; i++) {
		const struct page_row *row = &pr->next.rows[i];

		ASSERT(i == 0 || is_before(row - 1, row->layer, row->page));
		bytes += row->len_bytes;
	}
	ASSERT(bytes == pr->bytes && bytes <= pr->bytes_max);
}
