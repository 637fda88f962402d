/* maps - what the newest root says of maps, against the rows. */
#include "tests/sim/packed.h"
#include "tests/sim/rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct known {
	uint8_t key[ROW_KEY_BYTES_MAX];
	uint8_t *value; /* NULL: only the key is known */
	size_t value_bytes;
	UT_hash_handle hh;
};

struct look {
	struct backend *backend;
	struct packed_set packed;
	struct known *layers; /* of objects that are there, and frozen ones */
	struct known *marks;
	struct known *rows; /* of all pieces */
	struct known *scos; /* of all manifests */
	uint64_t layer;	    /* whose page is looked at */
	bool bad;
};

static void know(struct known **set, const struct row_key *key, const uint8_t *value,
		 size_t value_bytes)
{
	struct known *k = calloc(1, sizeof(*k));

	ASSERT(k);
	memcpy(k->key, key->bytes, key->len_bytes);
	k->value = malloc(value_bytes + 1);
	ASSERT(k->value);
	if (value_bytes)
		memcpy(k->value, value, value_bytes);
	k->value_bytes = value_bytes;
	HASH_ADD_KEYPTR(hh, *set, k->key, key->len_bytes, k);
}

static struct known *find(struct known *set, const struct row_key *key)
{
	struct known *k;

	HASH_FIND(hh, set, key->bytes, key->len_bytes, k);
	return k;
}

static void forget(struct known **set)
{
	struct known *k, *next;

	HASH_ITER (hh, *set, k, next) {
		HASH_DEL(*set, k);
		free(k->value);
		free(k);
	}
}

static void know_layer(struct look *l, uint64_t id)
{
	struct row_key key = row_key_u64(ROW_LAYER, id);

	know(&l->layers, &key, NULL, 0);
}

static int see_object(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		      size_t value_bytes)
{
	struct object_row row;
	int r = object_row_decode(value, value_bytes, &row, NULL);

	(void)key;
	(void)key_bytes;
	if (r < 0)
		return r;
	know_layer(arg, row.live_layer);
	object_row_done(&row);
	return 0;
}

static int see_layer(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		     size_t value_bytes)
{
	struct layer_row row;
	uint64_t id;
	int r = row_key_parse_u64(key, key_bytes, ROW_LAYER, &id);

	if (r == 0)
		r = layer_row_decode(value, value_bytes, &row, NULL);
	if (r == 0 && row.state == LAYER_FROZEN)
		know_layer(arg, id);
	return r;
}

static int see_mark(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		    size_t value_bytes)
{
	struct look *l = arg;
	struct row_key k = { .len_bytes = key_bytes };
	struct changed_row row;

	ASSERT(key_bytes <= sizeof(k.bytes));
	memcpy(k.bytes, key, key_bytes);
	know(&l->marks, &k, NULL, 0);
	return changed_row_decode(value, value_bytes, &row, NULL);
}

/* --- the root ---------------------------------------------------------------------------------- */

static int get(struct look *l, const struct named_object *o, struct buf *out)
{
	buf_clear(out);
	return packed_get(&l->packed, l->backend, o->name, out);
}

static int image_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		     size_t value_bytes)
{
	struct look *l = arg;
	struct row_key k = { .len_bytes = key_bytes };

	ASSERT(key_bytes <= sizeof(k.bytes));
	memcpy(k.bytes, key, key_bytes);
	if (find(l->rows, &k)) {
		fprintf(stderr, "a row is in two pieces of maps\n");
		l->bad = true;
	}
	know(&l->rows, &k, value, value_bytes);
	return 0;
}

static int index_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		     size_t value_bytes)
{
	struct rows_image_header h;
	struct map_piece piece;
	struct look *l = arg;
	struct buf bytes;
	int r;

	buf_init(&bytes, (size_t)1 << 30);
	r = row_key_parse_2u64(key, key_bytes, ROW_MAP_PIECE, &piece.layer, &piece.page);
	if (r == 0)
		r = map_piece_decode(value, value_bytes, &piece, NULL);
	if (r == 0)
		r = get(l, &piece.object, &bytes);
	if (r == 0)
		r = rows_image_decode(bytes.data, bytes.len_bytes, &h, image_row, l, NULL);
	buf_done(&bytes);
	return r;
}

static int look_at_stream(struct look *l, const struct named_object *o)
{
	struct rows_image_header h;
	struct manifest m;
	struct buf bytes;
	int r;

	buf_init(&bytes, (size_t)1 << 30);
	r = get(l, o, &bytes);
	if (r == 0)
		r = manifest_decode(bytes.data, bytes.len_bytes, &m, NULL);
	for (uint32_t i = 0; r == 0 && i < m.sco_count; i++) {
		struct row_key key = row_key_u64(ROW_SCO, m.scos[i].sco);

		know(&l->scos, &key, NULL, 0);
	}
	if (r == 0) {
		r = m.map.name[0] ? get(l, &m.map, &bytes) : -ENOENT;
		manifest_done(&m);
	}
	if (r == 0)
		r = rows_image_decode(bytes.data, bytes.len_bytes, &h, index_row, l, NULL);
	buf_done(&bytes);
	return r;
}

static int look_at_root(struct look *l, const struct root_row *row)
{
	struct backend_object object;
	char name[OBJECT_NAME_MAX + 1];
	struct root root = { 0 };
	struct buf bytes;
	int r;

	buf_init(&bytes, (size_t)1 << 30);
	object_name_root(name, row->number, row->epoch);
	r = backend_head(l->backend, name, &object, NULL);
	if (r == 0)
		r = backend_get(l->backend, name, 0, buf_extend(&bytes, (size_t)object.len_bytes),
				(size_t)object.len_bytes, NULL);
	if (r == 0)
		r = root_decode(bytes.data, bytes.len_bytes, &root, NULL);
	if (r == 0)
		r = packed_by_root(&l->packed, l->backend, &root);
	for (uint32_t i = 0; i < root.stream_count && r == 0; i++)
		r = look_at_stream(l, &root.streams[i].manifest);
	root_done(&root);
	buf_done(&bytes);
	return r;
}

/* --- against the rows -------------------------------------------------------------------------- */

/* Whether a row is one that the maps must have as it is: of a layer that counts, and not marked. */
static bool is_settled(struct look *l, uint64_t layer, uint64_t page)
{
	struct row_key id = row_key_u64(ROW_LAYER, layer);
	struct row_key mark = row_key_2u64(ROW_CHANGED, layer, page >> AREA_PAGES_SHIFT);

	return find(l->layers, &id) && !find(l->marks, &mark);
}

static int state_row(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		     size_t value_bytes)
{
	struct look *l = arg;
	struct row_key k = { .len_bytes = key_bytes };
	uint64_t layer, page = 0;
	struct known *found;

	if (row_key_parse_u64(key, key_bytes, ROW_OBJECT_STATE, &layer) < 0 &&
	    row_key_parse_2u64(key, key_bytes, ROW_PAGE, &layer, &page) < 0)
		return 0;
	memcpy(k.bytes, key, key_bytes);
	found = find(l->rows, &k);
	if (is_settled(l, layer, page) && (!found || found->value_bytes != value_bytes ||
					   memcmp(found->value, value, value_bytes) != 0)) {
		fprintf(stderr,
			"layer %" PRIu64 " page %" PRIu64 ": row '%c' is %s the root's map\n",
			layer, page, key[0], found ? "another than in" : "not in");
		l->bad = true;
	}
	if (found) {
		HASH_DEL(l->rows, found);
		free(found->value);
		free(found);
	}
	return 0;
}

static void look_at_run(void *arg, const struct page_run *run)
{
	struct look *l = arg;
	struct row_key key = row_key_u64(ROW_SCO, loc_sco(run->loc));

	if (!loc_is_place(run->loc) || find(l->scos, &key))
		return;
	fprintf(stderr, "layer %" PRIu64 ": SCO %" PRIu64 " is in a map and not in the root\n",
		l->layer, loc_sco(run->loc));
	l->bad = true;
}

/* All that a map names can be restored: the root has its SCOs. */
static void look_at_places(struct look *l)
{
	struct known *k, *next;

	HASH_ITER (hh, l->rows, k, next) {
		enum page_value_kind kind;
		struct row_key id;
		uint64_t page;

		if (row_key_parse_2u64(k->key, k->hh.keylen, ROW_PAGE, &l->layer, &page) < 0)
			continue;
		id = row_key_u64(ROW_LAYER, l->layer);
		if (find(l->layers, &id) &&
		    page_value_decode(k->value, k->value_bytes, &kind, look_at_run, l, NULL) < 0)
			l->bad = true;
	}
}

/* What is left of the maps' rows has no row here any more. */
static void judge_rest(struct look *l)
{
	struct known *k, *next;

	HASH_ITER (hh, l->rows, k, next) {
		uint64_t layer, page = 0;
		size_t len = k->hh.keylen;

		if (row_key_parse_u64(k->key, len, ROW_OBJECT_STATE, &layer) < 0 &&
		    row_key_parse_2u64(k->key, len, ROW_PAGE, &layer, &page) < 0)
			l->bad = true;
		else if (is_settled(l, layer, page)) {
			fprintf(stderr, "layer %" PRIu64 " page %" PRIu64 ": only in a map\n",
				layer, page);
			l->bad = true;
		}
	}
}

static int all_of(struct meta *meta, enum meta_family family, enum row_kind kind,
		  int (*fn)(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
			    size_t value_bytes),
		  struct look *l)
{
	struct row_key from = { .bytes = { (uint8_t)kind }, .len_bytes = 1 };
	struct row_key until = { .bytes = { (uint8_t)(kind + 1) }, .len_bytes = 1 };

	return meta_iterate(meta, family, &from, &until, fn, l, NULL);
}

bool maps_agree(struct backend *b, struct meta *meta)
{
	struct row_key key = row_key_u64(ROW_ROOT, 0);
	struct look l = { .backend = b };
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
	if (r == 0)
		r = all_of(meta, META_NAMES, ROW_OBJECT, see_object, &l);
	if (r == 0)
		r = all_of(meta, META_NAMES, ROW_LAYER, see_layer, &l);
	if (r == 0)
		r = all_of(meta, META_STATE, ROW_CHANGED, see_mark, &l);
	if (r == 0)
		r = look_at_root(&l, &row);
	if (r == 0)
		look_at_places(&l);
	if (r == 0)
		r = all_of(meta, META_STATE, ROW_PAGE, state_row, &l);
	if (r == 0)
		r = all_of(meta, META_STATE, ROW_OBJECT_STATE, state_row, &l);
	if (r < 0)
		fprintf(stderr, "the newest root's maps: error %d\n", r);
	else
		judge_rest(&l);
	forget(&l.layers);
	forget(&l.marks);
	forget(&l.rows);
	forget(&l.scos);
	packed_done(&l.packed);
	return r == 0 && !l.bad;
}
