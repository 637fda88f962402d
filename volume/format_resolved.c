/* format_resolved - values of resolved pages, and of the row that says which hold (FORMAT.md 7.2). */
#include "volume/format_impl.h"

#include <string.h>

enum { SEQUENCE_AT = 1, RESOLVED_PAGE_BYTES_AT = 9, RESOLVED_PAGE_AT = 13 };
#define RESOLVED_ROW_BYTES_MAX (RESOLVED_PAGE_AT + RESOLVED_PAGE_BYTES_MAX + CRC_BYTES)

static const char *resolved_row_flaw(const struct resolved_row *row)
{
	if (row->sequence == 0)
		return "no checkpoint";
	if (row->page_bytes > RESOLVED_PAGE_BYTES_MAX)
		return "longer than a page can be";
	return NULL;
}

int resolved_row_encode(const struct resolved_row *row, struct buf *out)
{
	uint8_t value[RESOLVED_ROW_BYTES_MAX];

	ASSERT(resolved_row_flaw(row) == NULL);
	le64_put(value + SEQUENCE_AT, row->sequence);
	le32_put(value + RESOLVED_PAGE_BYTES_AT, (uint32_t)row->page_bytes);
	memcpy(value + RESOLVED_PAGE_AT, row->page, row->page_bytes);
	return row_append(ROW_RESOLVED, value, RESOLVED_PAGE_AT + row->page_bytes + CRC_BYTES, out);
}

int resolved_row_decode(const uint8_t *in, size_t len_bytes, struct resolved_row *ret_row,
			struct err *e)
{
	struct resolved_row row;
	const char *flaw;
	int r;

	if (len_bytes > RESOLVED_ROW_BYTES_MAX)
		return err_set(e, -EUCLEAN, "resolved page row: %zu bytes long", len_bytes);
	r = row_check(ROW_RESOLVED, in, len_bytes, "resolved page", e);
	if (r < 0)
		return r;
	if (len_bytes < RESOLVED_PAGE_AT + CRC_BYTES)
		return err_set(e, -EUCLEAN, "resolved page row: only %zu bytes long", len_bytes);
	row = (struct resolved_row){
		.sequence = le64_get(in + SEQUENCE_AT),
		.page_bytes = le32_get(in + RESOLVED_PAGE_BYTES_AT),
		.page = in + RESOLVED_PAGE_AT,
	};
	flaw = resolved_row_flaw(&row);
	if (flaw == NULL && row.page_bytes != len_bytes - RESOLVED_PAGE_AT - CRC_BYTES)
		flaw = "the page does not fill it";
	if (flaw != NULL)
		return err_set(e, -EUCLEAN, "resolved page row: %s", flaw);
	*ret_row = row;
	return 0;
}

#define MOVED_ROW_BYTES ROW_BYTES(8u)

int moved_row_encode(const struct moved_row *row, struct buf *out)
{
	uint8_t value[MOVED_ROW_BYTES];

	le64_put(value + SEQUENCE_AT, row->sequence);
	return row_append(ROW_MOVED, value, sizeof(value), out);
}

int moved_row_decode(const uint8_t *in, size_t len_bytes, struct moved_row *ret_row, struct err *e)
{
	int r = row_check(ROW_MOVED, in, len_bytes, "moves", e);

	if (r < 0)
		return r;
	if (len_bytes != MOVED_ROW_BYTES)
		return err_set(e, -EUCLEAN, "moves row: %zu bytes long instead of %u", len_bytes,
			       MOVED_ROW_BYTES);
	*ret_row = (struct moved_row){ .sequence = le64_get(in + SEQUENCE_AT) };
	return 0;
}
