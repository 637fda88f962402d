/* roots - of the root before the newest one, or any other, all that it names is still there. */
#include "tests/sim/rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct before {
	struct backend *backend;
	uint64_t newest; /* its number */
	bool bad;
};

static int read_whole(struct before *b, const char *name, struct buf *out)
{
	struct backend_object object;
	int r = backend_head(b->backend, name, &object, NULL);

	if (r < 0)
		return r;
	buf_clear(out);
	return backend_get(b->backend, name, 0, buf_extend(out, (size_t)object.len_bytes),
			   (size_t)object.len_bytes, NULL);
}

static void must_be_there(struct before *b, const char *name)
{
	struct backend_object object;
	int r = backend_head(b->backend, name, &object, NULL);

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

bool root_before_is_whole(struct backend *b, struct meta *meta)
{
	struct row_key key = row_key_u64(ROW_ROOT, 0);
	struct row_key from = row_key_2u64(ROW_CONDEMNED, 0, 0);
	struct row_key until = row_key_2u64(ROW_CONDEMNED, UINT64_MAX, UINT64_MAX);
	struct before before = { .backend = b };
	struct root_row row;
	struct buf value;
	int r;

	buf_init(&value, 4096);
	r = meta_get(meta, META_NAMES, &key, &value, NULL);
	if (r == 0)
		r = root_row_decode(value.data, value.len_bytes, &row, NULL);
	buf_done(&value);
	if (r == -ENOENT)
		return true;
	before.newest = row.number;
	if (r == 0)
		r = meta_iterate(meta, META_NAMES, &from, &until, see_condemned, &before, NULL);
	if (r < 0)
		fprintf(stderr, "condemned names: error %d\n", r);
	return r == 0 && !before.bad;
}
