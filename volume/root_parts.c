/*
 * root_parts - what this process put of its last roots, in memory: the next one compares itself with
 * them, and asks the store for none that is small and new enough to be here.
 */
#include "volume/root_impl.h"

#include <stdlib.h>
#include <string.h>

#include <utlist.h>

/* Larger ones are asked for; of the others so much is kept, the newest. */
#define PART_BYTES_MAX	((size_t)64 << 10)
#define PARTS_BYTES_MAX ((size_t)16 << 20)

struct root_part {
	struct root_part *prev, *next; /* oldest first */
	UT_hash_handle hh;
	char name[OBJECT_NAME_MAX + 1];
	size_t len_bytes;
	uint8_t bytes[];
};

static void drop(struct root_parts *parts, struct root_part *part)
{
	HASH_DEL(parts->by_name, part);
	DL_DELETE(parts->oldest, part);
	parts->len_bytes -= part->len_bytes;
	free(part);
}

void root_parts_keep(struct pool *p, const char *name, const struct buf *bytes)
{
	struct root_parts *parts = &p->root_parts;
	struct root_part *part;

	if (bytes->len_bytes > PART_BYTES_MAX)
		return;
	part = calloc(1, sizeof(*part) + bytes->len_bytes);
	if (!part)
		return;
	memcpy(part->name, name, strlen(name) + 1);
	memcpy(part->bytes, bytes->data, bytes->len_bytes);
	part->len_bytes = bytes->len_bytes;
	HASH_ADD_STR(parts->by_name, name, part); /* no name is put twice */
	if (!HASH_TOOK(part)) {
		free(part);
		return;
	}
	DL_APPEND(parts->oldest, part);
	parts->len_bytes += part->len_bytes;
	while (parts->len_bytes > PARTS_BYTES_MAX)
		drop(parts, parts->oldest);
}

bool root_parts_find(struct pool *p, const char *name, struct buf *out)
{
	struct root_part *part;

	HASH_FIND_STR(p->root_parts.by_name, name, part);
	if (!part)
		return false;
	buf_clear(out);
	return buf_append(out, part->bytes, part->len_bytes) == 0;
}

void root_parts_done(struct root_parts *parts)
{
	while (parts->oldest)
		drop(parts, parts->oldest);
}
