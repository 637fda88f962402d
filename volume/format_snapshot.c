/* format_snapshot - the value of a snapshot's row (FORMAT.md 7.2). */
#include <stdlib.h>
#include <string.h>

#include "volume/format_impl.h"

enum { SNAPSHOT_NAME_AT = 42 };
#define SNAPSHOT_FLAGS_KNOWN ((uint32_t)SNAPSHOT_STICKY)

bool snapshot_name_is_sound(const char *name, size_t len_bytes)
{
	if (len_bytes < 1 || len_bytes > SNAPSHOT_ROW_NAME_MAX)
		return false;
	if ((len_bytes == 1 && name[0] == '.') || (len_bytes == 2 && memcmp(name, "..", 2) == 0))
		return false;
	return !memchr(name, '/', len_bytes) && !memchr(name, '\0', len_bytes);
}

static const char *snapshot_row_flaw(const struct snapshot_row *row)
{
	if (row->layer == 0)
		return "no layer";
	if (row->size_bytes > OBJECT_BYTES_MAX)
		return "size beyond the largest object";
	if (row->flags & ~SNAPSHOT_FLAGS_KNOWN)
		return "unknown flags";
	if (!snapshot_name_is_sound(row->name, row->name_bytes))
		return "bad name";
	if (row->comment_bytes > SNAPSHOT_ROW_COMMENT_MAX ||
	    (row->comment_bytes && memchr(row->comment, '\0', row->comment_bytes)))
		return "bad comment";
	return NULL;
}

int snapshot_row_encode(const struct snapshot_row *row, struct buf *out)
{
	size_t len_bytes =
		SNAPSHOT_NAME_AT + (size_t)row->name_bytes + row->comment_bytes + CRC_BYTES;
	uint8_t *value = malloc(len_bytes);
	int r;

	ASSERT(snapshot_row_flaw(row) == NULL);
	if (value == NULL)
		return -ENOMEM;
	le64_put(value + 1, row->layer);
	le64_put(value + 9, (uint64_t)row->created_ns);
	le64_put(value + 17, row->size_bytes);
	le64_put(value + 25, row->root);
	le32_put(value + 33, row->flags);
	value[37] = row->name_bytes;
	le32_put(value + 38, row->comment_bytes);
	memcpy(value + SNAPSHOT_NAME_AT, row->name, row->name_bytes);
	if (row->comment_bytes)
		memcpy(value + SNAPSHOT_NAME_AT + row->name_bytes, row->comment,
		       row->comment_bytes);
	r = row_append(ROW_SNAPSHOT, value, len_bytes, out);
	free(value);
	return r;
}

int snapshot_row_decode(const uint8_t *in, size_t len_bytes, struct snapshot_row *ret_row,
			struct err *e)
{
	struct snapshot_row row;
	const char *flaw = NULL;
	int r;

	r = row_check(ROW_SNAPSHOT, in, len_bytes, "snapshot", e);
	if (r < 0)
		return r;
	if (len_bytes < SNAPSHOT_NAME_AT + CRC_BYTES)
		return err_set(e, -EUCLEAN, "snapshot row: cut off");
	row = (struct snapshot_row){
		.layer = le64_get(in + 1),
		.created_ns = (int64_t)le64_get(in + 9),
		.size_bytes = le64_get(in + 17),
		.root = le64_get(in + 25),
		.flags = le32_get(in + 33),
		.name_bytes = in[37],
		.comment_bytes = le32_get(in + 38),
		.name = (const char *)in + SNAPSHOT_NAME_AT,
		.comment = (const char *)in + SNAPSHOT_NAME_AT + in[37],
	};
	if (len_bytes !=
	    SNAPSHOT_NAME_AT + (uint64_t)row.name_bytes + row.comment_bytes + CRC_BYTES)
		flaw = "its length does not fit name and comment";
	else
		flaw = snapshot_row_flaw(&row);
	if (flaw != NULL)
		return err_set(e, -EUCLEAN, "snapshot row: %s", flaw);
	*ret_row = row;
	return 0;
}
