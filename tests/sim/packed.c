#include "tests/sim/packed.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct packed_place {
	char name[OBJECT_NAME_MAX + 1], pack[OBJECT_NAME_MAX + 1];
	uint64_t offset_bytes, len_bytes;
	UT_hash_handle hh;
};

static void add(struct packed_set *set, const char *pack, const struct pack_member *m)
{
	struct packed_place *p = calloc(1, sizeof(*p)), *old;

	ASSERT(p);
	HASH_FIND_STR(set->places, m->object.name, old);
	if (old) {
		HASH_DEL(set->places, old);
		free(old);
	}
	memcpy(p->name, m->object.name, sizeof(p->name));
	memcpy(p->pack, pack, strlen(pack) + 1);
	p->offset_bytes = m->offset_bytes;
	p->len_bytes = m->object.len_bytes;
	HASH_ADD_STR(set->places, name, p);
}

static int see_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		   size_t value_bytes)
{
	char pack[OBJECT_NAME_MAX + 1];
	struct pack_member m;
	uint64_t epoch, number;
	uint32_t index;
	int r = pack_key_parse(key, key_bytes, &epoch, &number, &index);

	if (r < 0 || index == 0)
		return r;
	r = pack_member_decode(value, value_bytes, &m, NULL);
	if (r < 0)
		return r;
	object_name_pack(pack, number, epoch);
	add(arg, pack, &m);
	return 0;
}

int packed_by_rows(struct packed_set *set, struct meta *meta)
{
	struct row_key from = row_key_2u64(ROW_PACK, 0, 0);
	struct row_key until = row_key_2u64(ROW_PACK, UINT64_MAX, UINT64_MAX);

	return meta_iterate(meta, META_NAMES, &from, &until, see_row, set, NULL);
}

static int by_pack(struct packed_set *set, struct backend *b, const struct root_pack *pack)
{
	uint64_t end_bytes = pack->object.len_bytes - pack->directory_bytes;
	uint8_t *bytes = malloc(pack->directory_bytes);
	struct pack_directory d;
	int r;

	ASSERT(bytes);
	r = backend_get(b, pack->object.name, end_bytes, bytes, pack->directory_bytes, NULL);
	if (r == 0)
		r = pack_directory_decode(bytes, pack->directory_bytes, end_bytes, &d, NULL);
	for (uint32_t i = 0; r == 0 && i < d.member_count; i++)
		add(set, pack->object.name, &d.members[i]);
	if (r == 0)
		pack_directory_done(&d);
	free(bytes);
	return r == -ENOENT ? 0 : r;
}

int packed_by_root(struct packed_set *set, struct backend *b, const struct root *root)
{
	int r = 0;

	for (uint32_t i = 0; i < root->pack_count && r == 0; i++)
		r = by_pack(set, b, &root->packs[i]);
	return r;
}

void packed_done(struct packed_set *set)
{
	struct packed_place *p, *next;

	HASH_ITER (hh, set->places, p, next) {
		HASH_DEL(set->places, p);
		free(p);
	}
}

unsigned int packed_count(const struct packed_set *set, const char *part)
{
	struct packed_place *p, *next;
	unsigned int count = 0;

	HASH_ITER (hh, set->places, p, next)
		count += strstr(p->name, part) != NULL;
	return count;
}

int packed_head(const struct packed_set *set, struct backend *b, const char *name,
		struct backend_object *ret_object)
{
	struct packed_place *p;
	int r;

	HASH_FIND_STR(set->places, name, p);
	r = backend_head(b, p ? p->pack : name, ret_object, NULL);
	if (r == 0 && p)
		ret_object->len_bytes = p->len_bytes;
	return r;
}

int packed_get(const struct packed_set *set, struct backend *b, const char *name, struct buf *out)
{
	struct backend_object object;
	struct packed_place *p;
	int r = packed_head(set, b, name, &object);

	if (r < 0)
		return r;
	HASH_FIND_STR(set->places, name, p);
	buf_clear(out);
	return backend_get(b, p ? p->pack : name, p ? p->offset_bytes : 0,
			   buf_extend(out, (size_t)object.len_bytes), (size_t)object.len_bytes,
			   NULL);
}
