/*
 * format_pack - packs: objects that hold many small ones side by side, and a directory of them at their
 * end; the rows that say here what lies where (FORMAT.md sections 7.2 and 9.5).
 */
#include <stdlib.h>

#include "volume/format_impl.h"

/* --- Rows -------------------------------------------------------------------------------------- */

#define PACK_INDEX_BITS 16u

struct row_key pack_key(uint64_t epoch, uint64_t number, uint32_t index)
{
	return row_key_2u64(ROW_PACK, epoch, number << PACK_INDEX_BITS | index);
}

int pack_key_parse(const uint8_t *key, size_t len_bytes, uint64_t *ret_epoch, uint64_t *ret_number,
		   uint32_t *ret_index)
{
	uint64_t rest;
	int r = row_key_parse_2u64(key, len_bytes, ROW_PACK, ret_epoch, &rest);

	if (r < 0)
		return r;
	*ret_number = rest >> PACK_INDEX_BITS;
	*ret_index = (uint32_t)(rest & ((1u << PACK_INDEX_BITS) - 1));
	return *ret_index <= PACK_MEMBERS_MAX ? 0 : -EUCLEAN;
}

static const char *pack_row_flaw(const struct pack_row *row)
{
	if (row->member_count < 1 || row->member_count > PACK_MEMBERS_MAX)
		return "number of members out of range";
	return row->directory_bytes > row->len_bytes ? "its directory does not fit in it" : NULL;
}

int pack_row_encode(const struct pack_row *row, struct buf *out)
{
	uint8_t value[ROW_BYTES(16u)];

	ASSERT(pack_row_flaw(row) == NULL);
	le64_put(value + 1, row->len_bytes);
	le32_put(value + 9, row->directory_bytes);
	le32_put(value + 13, row->member_count);
	return row_append(ROW_PACK, value, sizeof(value), out);
}

int pack_row_decode(const uint8_t *in, size_t len_bytes, struct pack_row *ret_row, struct err *e)
{
	struct pack_row row;
	const char *flaw;
	int r = row_check(ROW_PACK, in, len_bytes, "pack", e);

	if (r < 0)
		return r;
	if (len_bytes != ROW_BYTES(16u))
		return err_set(e, -EUCLEAN, "pack row: %zu bytes long", len_bytes);
	row = (struct pack_row){ .len_bytes = le64_get(in + 1),
				 .directory_bytes = le32_get(in + 9),
				 .member_count = le32_get(in + 13) };
	flaw = pack_row_flaw(&row);
	if (flaw != NULL)
		return err_set(e, -EUCLEAN, "pack row: %s", flaw);
	*ret_row = row;
	return 0;
}

int pack_member_encode(const struct pack_member *m, struct buf *out)
{
	uint8_t value[ROW_BYTES(8u + 1u + OBJECT_NAME_MAX + NAMED_TAIL_BYTES)], *end;

	ASSERT(name_is_sound(m->object.name));
	le64_put(value + 1, m->offset_bytes);
	end = named_object_put(&m->object, value + 9);
	return row_append(ROW_PACK, value, (size_t)(end - value) + CRC_BYTES, out);
}

int pack_member_decode(const uint8_t *in, size_t len_bytes, struct pack_member *ret_member,
		       struct err *e)
{
	struct pack_member m;
	struct cursor c;
	int r = row_check(ROW_PACK, in, len_bytes, "member of a pack", e);

	if (r < 0)
		return r;
	if (len_bytes < ROW_BYTES(8u + NAMED_BYTES_MIN))
		return err_set(e, -EUCLEAN, "member of a pack: cut off");
	m.offset_bytes = le64_get(in + 1);
	c = (struct cursor){ in + 9, len_bytes - ROW_BYTES(8u) };
	if (named_object_get(&c, &m.object) < 0 || m.object.name[0] == '\0' || c.left != 0)
		return err_set(e, -EUCLEAN, "member of a pack: bad name");
	*ret_member = m;
	return 0;
}

/* --- Directory --------------------------------------------------------------------------------- */

static const char pack_magic[] = "VPPACK01";

enum {
	PACK_COUNT_AT = 12,
	PACK_POOL_AT = 16,
	PACK_EPOCH_AT = 32,
	PACK_NUMBER_AT = 40,
	PACK_MEMBERS_AT = 48,
	PACK_OFFSET_BYTES = 8, /* then the named object */
};

void pack_directory_done(struct pack_directory *d)
{
	free(d->members);
	d->members = NULL;
	d->member_count = 0;
}

int pack_directory_encode(const struct pack_directory *d, struct buf *out)
{
	size_t len_bytes = PACK_MEMBERS_AT + CRC_BYTES;
	uint64_t end_bytes = 0;
	uint8_t *start, *p;

	ASSERT(d->member_count >= 1 && d->member_count <= PACK_MEMBERS_MAX);
	for (uint32_t i = 0; i < d->member_count; i++) {
		ASSERT(d->members[i].offset_bytes == end_bytes);
		ASSERT(name_is_sound(d->members[i].object.name));
		end_bytes += d->members[i].object.len_bytes;
		len_bytes += PACK_OFFSET_BYTES + name_bytes(d->members[i].object.name) +
			     NAMED_TAIL_BYTES;
	}
	start = buf_extend(out, len_bytes);
	if (start == NULL)
		return -ENOMEM;
	object_head_put(start, pack_magic);
	le32_put(start + PACK_COUNT_AT, d->member_count);
	memcpy(start + PACK_POOL_AT, d->pool.bytes, UUID_BYTES);
	le64_put(start + PACK_EPOCH_AT, d->epoch);
	le64_put(start + PACK_NUMBER_AT, d->number);
	p = start + PACK_MEMBERS_AT;
	for (uint32_t i = 0; i < d->member_count; i++) {
		le64_put(p, d->members[i].offset_bytes);
		p = named_object_put(&d->members[i].object, p + PACK_OFFSET_BYTES);
	}
	le32_put(p, crc32c(0, start, len_bytes - CRC_BYTES));
	return 0;
}

/* Side by side, and up to where the directory begins. */
NODISCARD static int members_decode(struct cursor *c, struct pack_directory *d, uint64_t end_bytes)
{
	uint64_t at = 0;

	for (uint32_t i = 0; i < d->member_count; i++) {
		struct pack_member *m = &d->members[i];
		const uint8_t *p = cursor_take(c, PACK_OFFSET_BYTES);

		if (p == NULL || named_object_get(c, &m->object) < 0 || m->object.name[0] == '\0')
			return -EUCLEAN;
		m->offset_bytes = le64_get(p);
		if (m->offset_bytes != at || m->object.len_bytes > end_bytes - at)
			return -EUCLEAN;
		at += m->object.len_bytes;
	}
	return c->left == 0 && at == end_bytes ? 0 : -EUCLEAN;
}

int pack_directory_decode(const uint8_t *in, size_t len_bytes, uint64_t end_bytes,
			  struct pack_directory *ret_directory, struct err *e)
{
	struct pack_directory d = { 0 };
	struct cursor c;
	int r = object_check(in, len_bytes, PACK_MEMBERS_AT, pack_magic, "pack", e);

	if (r < 0)
		return r;
	d.member_count = le32_get(in + PACK_COUNT_AT);
	memcpy(d.pool.bytes, in + PACK_POOL_AT, UUID_BYTES);
	d.epoch = le64_get(in + PACK_EPOCH_AT);
	d.number = le64_get(in + PACK_NUMBER_AT);
	c = (struct cursor){ in + PACK_MEMBERS_AT, len_bytes - PACK_MEMBERS_AT - CRC_BYTES };
	if (d.member_count < 1 || d.member_count > PACK_MEMBERS_MAX ||
	    d.member_count > c.left / (PACK_OFFSET_BYTES + NAMED_BYTES_MIN))
		return err_set(e, -EUCLEAN, "pack: %" PRIu32 " members do not fit in it",
			       d.member_count);
	d.members = calloc(d.member_count, sizeof(*d.members));
	if (d.members == NULL)
		return err_set(e, -ENOMEM, "pack of %" PRIu32 " members", d.member_count);
	if (members_decode(&c, &d, end_bytes) < 0) {
		pack_directory_done(&d);
		return err_set(e, -EUCLEAN, "pack: its members do not fill it");
	}
	*ret_directory = d;
	return 0;
}
