/* roots - of the root before the newest one, or any other, all that it names is still there. */
#include "tests/sim/packed.h"
#include "tests/sim/rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct before {
	struct backend *backend;
	struct packed_set packed; /* of the root that is looked at */
	uint64_t newest;	  /* its number */
	bool bad;
};

static int read_whole(struct before *b, const char *name, struct buf *out)
{
	return packed_get(&b->packed, b->backend, name, out);
}

static void must_be_there(struct before *b, const char *name)
{
	struct backend_object object;
	int r = packed_head(&b->packed, b->backend, name, &object);

	if (r == 0)
		return;
	fprintf(stderr, "'%s' is named by a root: error %d\n", name, r);
	b->bad = true;
}

static int see_piece(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		     size_t value_bytes)
{
	struct map_piece piece;
	int r = row_key_parse_2u64(key, key_bytes, ROW_MAP_PIECE, &piece.layer, &piece.page);

	if (r == 0)
		r = map_piece_decode(value, value_bytes, &piece, NULL);
	if (r == 0)
		must_be_there(arg, piece.object.name);
	return r;
}

static int see_manifest(struct before *b, const char *name)
{
	struct rows_image_header h;
	struct manifest m = { 0 };
	struct buf bytes;
	int r;

	buf_init(&bytes, (size_t)1 << 30);
	r = read_whole(b, name, &bytes);
	if (r == 0)
		r = manifest_decode(bytes.data, bytes.len_bytes, &m, NULL);
	for (uint32_t i = 0; r == 0 && i < m.sco_count; i++) {
		char sco[OBJECT_NAME_MAX + 1];

		object_name_sco(sco, m.stream, m.scos[i].sco, m.scos[i].version,
				m.scos[i].object_epoch);
		must_be_there(b, sco);
	}
	if (r == 0 && m.map.name[0]) {
		r = read_whole(b, m.map.name, &bytes);
		if (r == 0)
			r = rows_image_decode(bytes.data, bytes.len_bytes, &h, see_piece, b, NULL);
	}
	manifest_done(&m);
	buf_done(&bytes);
	return r;
}

static int see_root(struct before *b, const char *name)
{
	struct root root = { 0 };
	struct buf bytes;
	int r;

	buf_init(&bytes, (size_t)1 << 30);
	r = read_whole(b, name, &bytes);
	if (r == 0)
		r = root_decode(bytes.data, bytes.len_bytes, &root, NULL);
	if (r == 0)
		r = packed_by_root(&b->packed, b->backend, &root);
	if (r == 0)
		must_be_there(b, root.ns.name);
	for (uint32_t i = 0; r == 0 && i < root.stream_count; i++)
		r = see_manifest(b, root.streams[i].manifest.name);
	root_done(&root);
	buf_done(&bytes);
	return r;
}

bool root_is_whole(struct backend *b, const char *name)
{
	struct before before = { .backend = b };
	int r = see_root(&before, name);

	if (r < 0)
		fprintf(stderr, "'%s', a root: error %d\n", name, r);
	packed_done(&before.packed);
	return r == 0 && !before.bad;
}

/* What came to nothing is condemned under its own number; nobody says that it was ever stored. */
static bool came_to_nothing(const char *name, uint64_t condemned_by)
{
	const char *number = strchr(name, '-');

	return number && strtoull(number + 1, NULL, 16) == condemned_by;
}

/* The newest root condemned the one before: so its name is known, whatever its epoch. */
static int see_condemned(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
			 size_t value_bytes)
{
	struct before *b = arg;
	char name[OBJECT_NAME_MAX + 1] = { 0 };
	size_t len = value_bytes - sizeof(uint32_t); /* the checksum behind it */
	uint64_t root, hash;
	int r = row_key_parse_2u64(key, key_bytes, ROW_CONDEMNED, &root, &hash);

	if (r < 0 || value_bytes <= sizeof(uint32_t) || len > OBJECT_NAME_MAX)
		return -EUCLEAN;
	memcpy(name, value, len);
	if (root != b->newest || strncmp(name, "root/", 5) != 0 || came_to_nothing(name, root))
		return 0;
	b->bad |= !root_is_whole(b->backend, name);
	return 0;
}

static int newest_root(struct meta *meta, struct root_row *ret_row)
{
	struct row_key key = row_key_u64(ROW_ROOT, 0);
	struct buf value;
	int r;

	buf_init(&value, 4096);
	r = meta_get(meta, META_NAMES, &key, &value, NULL);
	if (r == 0)
		r = root_row_decode(value.data, value.len_bytes, ret_row, NULL);
	buf_done(&value);
	return r;
}

bool root_before_is_whole(struct backend *b, struct meta *meta)
{
	struct row_key from = row_key_2u64(ROW_CONDEMNED, 0, 0);
	struct row_key until = row_key_2u64(ROW_CONDEMNED, UINT64_MAX, UINT64_MAX);
	struct before before = { .backend = b };
	struct root_row row;
	int r = newest_root(meta, &row);

	if (r == -ENOENT)
		return true;
	before.newest = row.number;
	if (r == 0)
		r = meta_iterate(meta, META_NAMES, &from, &until, see_condemned, &before, NULL);
	if (r < 0)
		fprintf(stderr, "condemned names: error %d\n", r);
	return r == 0 && !before.bad;
}

static int add_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		   size_t value_bytes)
{
	return rows_image_add(arg, key, key_bytes, value, value_bytes);
}

static int ignore_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		      size_t value_bytes)
{
	(void)arg;
	(void)key;
	(void)key_bytes;
	(void)value;
	(void)value_bytes;
	return 0;
}

/* What an image with the same head is to be. */
static int image_of_names(struct meta *meta, const struct rows_image_header *h, struct buf *out)
{
	static const enum row_kind kinds[] = { ROW_FS, ROW_LAYER, ROW_SNAPSHOT, ROW_OBJECT,
					       ROW_STREAM };
	int r = rows_image_begin(h, out);

	for (size_t i = 0; i < ARRAY_SIZE(kinds) && r == 0; i++) {
		struct row_key from = { .bytes = { (uint8_t)kinds[i] }, .len_bytes = 1 };
		struct row_key until = { .bytes = { (uint8_t)(kinds[i] + 1) }, .len_bytes = 1 };

		r = meta_iterate(meta, META_NAMES, &from, &until, add_row, out, NULL);
	}
	return r == 0 ? rows_image_end(out) : r;
}

bool names_are_shown(struct backend *b, struct meta *meta)
{
	struct before before = { .backend = b };
	char name[OBJECT_NAME_MAX + 1];
	struct buf shown, wanted;
	struct rows_image_header h;
	struct root root = { 0 };
	struct root_row row;
	bool same = false;
	int r = newest_root(meta, &row);

	buf_init(&shown, (size_t)1 << 30);
	buf_init(&wanted, (size_t)1 << 30);
	if (r == 0) {
		object_name_root(name, row.number, row.epoch);
		r = read_whole(&before, name, &shown);
	}
	if (r == 0)
		r = root_decode(shown.data, shown.len_bytes, &root, NULL);
	if (r == 0)
		r = packed_by_root(&before.packed, b, &root);
	if (r == 0)
		r = read_whole(&before, root.ns.name, &shown);
	if (r == 0)
		r = rows_image_decode(shown.data, shown.len_bytes, &h, ignore_row, NULL, NULL);
	if (r == 0)
		r = image_of_names(meta, &h, &wanted);
	if (r == 0)
		same = shown.len_bytes == wanted.len_bytes &&
		       memcmp(shown.data, wanted.data, shown.len_bytes) == 0;
	root_done(&root);
	packed_done(&before.packed);
	buf_done(&shown);
	buf_done(&wanted);
	return same;
}
