/*
 * format_backend - objects on the backend: images of rows, manifests, roots (FORMAT.md section 9).
 *
 * All three begin with magic and version and end with a CRC-32C of everything before it. They come
 * from other machines, so a count is believed only as far as the bytes behind it reach: memory is
 * allocated after that check, at most 64 bytes for each byte that came in.
 */
#include <stdio.h>
#include <stdlib.h>

#include "volume/format_impl.h"

enum {
	OBJECT_MAGIC_AT = 0,
	OBJECT_VERSION_AT = 8,
};

void object_head_put(uint8_t *out, const char *magic)
{
	memcpy(out + OBJECT_MAGIC_AT, magic, MAGIC_BYTES);
	le32_put(out + OBJECT_VERSION_AT, FORMAT_VERSION);
}

int object_check(const uint8_t *in, size_t len_bytes, size_t head_bytes, const char *magic,
		 const char *what, struct err *e)
{
	uint32_t version;

	if (len_bytes < head_bytes + CRC_BYTES)
		return err_set(e, -EUCLEAN, "%s: only %zu bytes long", what, len_bytes);
	if (memcmp(in + OBJECT_MAGIC_AT, magic, MAGIC_BYTES) != 0)
		return err_set(e, -EUCLEAN, "%s: not one, its magic is missing", what);
	if (le32_get(in + len_bytes - CRC_BYTES) != crc32c(0, in, len_bytes - CRC_BYTES))
		return err_set(e, -EBADMSG, "%s: bad checksum", what);
	version = le32_get(in + OBJECT_VERSION_AT);
	if (version != FORMAT_VERSION)
		return err_set(e, -EPROTONOSUPPORT,
			       "%s: format version %" PRIu32 ", this program knows %u", what,
			       version, FORMAT_VERSION);
	return 0;
}

const uint8_t *cursor_take(struct cursor *c, size_t len_bytes)
{
	const uint8_t *p = c->p;

	if (c->left < len_bytes)
		return NULL;
	c->p += len_bytes;
	c->left -= len_bytes;
	return p;
}

/* --- Names inside of objects ------------------------------------------------------------------- */

static bool name_char_is_sound(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '-' || c == '_' || c == '.';
}

bool name_is_sound(const char name[OBJECT_NAME_MAX + 1])
{
	const size_t len = strnlen(name, OBJECT_NAME_MAX + 1);
	size_t start = 0;

	if (len == 0 || len > OBJECT_NAME_MAX)
		return false;
	for (size_t i = 0; i <= len; i++) {
		const size_t part = i - start;

		if (i < len && name[i] != '/') {
			if (!name_char_is_sound(name[i]))
				return false;
			continue;
		}
		if (part == 0 || (part <= 2 && memcmp(name + start, "..", part) == 0))
			return false;
		start = i + 1;
	}
	return true;
}

size_t name_bytes(const char *name)
{
	return 1 + strlen(name);
}

static uint8_t *name_put(const char *name, uint8_t *p)
{
	const size_t len = strlen(name);

	*p = (uint8_t)len;
	memcpy(p + 1, name, len);
	return p + 1 + len;
}

/* An empty name is taken; a longer one must be sound. */
NODISCARD static int name_get(struct cursor *c, char ret_name[OBJECT_NAME_MAX + 1])
{
	char name[OBJECT_NAME_MAX + 1] = "";
	const uint8_t *p = cursor_take(c, 1);
	size_t len;

	if (p == NULL || *p > OBJECT_NAME_MAX)
		return -EUCLEAN;
	len = *p;
	p = cursor_take(c, len);
	if (p == NULL)
		return -EUCLEAN;
	memcpy(name, p, len);
	if (strlen(name) != len || (len != 0 && !name_is_sound(name)))
		return -EUCLEAN;
	memcpy(ret_name, name, sizeof(name));
	return 0;
}

static bool named_object_is_none(const struct named_object *o)
{
	return o->name[0] == '\0' && o->len_bytes == 0 && o->crc == 0;
}

uint8_t *named_object_put(const struct named_object *o, uint8_t *p)
{
	p = name_put(o->name, p);
	le64_put(p, o->len_bytes);
	le32_put(p + 8, o->crc);
	return p + NAMED_TAIL_BYTES;
}

int named_object_get(struct cursor *c, struct named_object *ret_object)
{
	struct named_object o;
	const uint8_t *p;

	if (name_get(c, o.name) < 0)
		return -EUCLEAN;
	p = cursor_take(c, NAMED_TAIL_BYTES);
	if (p == NULL)
		return -EUCLEAN;
	o.len_bytes = le64_get(p);
	o.crc = le32_get(p + 8);
	if (o.name[0] == '\0' && !named_object_is_none(&o))
		return -EUCLEAN;
	*ret_object = o;
	return 0;
}

/* --- Image of rows ----------------------------------------------------------------------------- */

static const char rows_magic[] = "VPROWIMG";

enum {
	ROWS_KIND_AT = 12,
	ROWS_POOL_AT = 16,
	ROWS_STREAM_AT = 32,
	ROWS_ZERO_AT = 36,
	ROWS_EPOCH_AT = 40,
	ROWS_LSN_AT = 48,
	ROWS_COUNT_AT = 56,
	ROWS_AT = 64,

	ROW_KEY_BYTES_AT = 0,
	ROW_ZERO_AT = 2,
	ROW_VALUE_BYTES_AT = 4,
	ROW_HEAD_BYTES = 8,
};

static const char *rows_header_flaw(const struct rows_image_header *h)
{
	switch (h->kind) {
	case ROWS_NAMESPACE:
		return h->stream == 0 && h->lsn == 0 ? NULL : "a namespace of one stream";
	case ROWS_MAP:
	case ROWS_MAP_INDEX:
		return h->stream != 0 ? NULL : "a map of no stream";
	default:
		return "unknown kind";
	}
}

int rows_image_begin(const struct rows_image_header *h, struct buf *out)
{
	uint8_t head[ROWS_AT] = { 0 };

	ASSERT(rows_header_flaw(h) == NULL && out->len_bytes == 0);
	object_head_put(head, rows_magic);
	le32_put(head + ROWS_KIND_AT, h->kind);
	memcpy(head + ROWS_POOL_AT, h->pool.bytes, UUID_BYTES);
	le32_put(head + ROWS_STREAM_AT, h->stream);
	le64_put(head + ROWS_EPOCH_AT, h->epoch);
	le64_put(head + ROWS_LSN_AT, h->lsn);
	return buf_append(out, head, sizeof(head));
}

int rows_image_add(struct buf *out, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		   size_t value_bytes)
{
	uint8_t *p;

	ASSERT(out->len_bytes >= ROWS_AT && key_bytes >= 1);
	if (key_bytes > IMAGE_KEY_BYTES_MAX || value_bytes > ROW_VALUE_BYTES_MAX)
		return -E2BIG;
	p = buf_extend(out, ROW_HEAD_BYTES + key_bytes + value_bytes);
	if (p == NULL)
		return -ENOMEM;
	le16_put(p + ROW_KEY_BYTES_AT, (uint16_t)key_bytes);
	le16_put(p + ROW_ZERO_AT, 0);
	le32_put(p + ROW_VALUE_BYTES_AT, (uint32_t)value_bytes);
	memcpy(p + ROW_HEAD_BYTES, key, key_bytes);
	if (value_bytes != 0)
		memcpy(p + ROW_HEAD_BYTES + key_bytes, value, value_bytes);

	p = out->data + ROWS_COUNT_AT;
	le64_put(p, le64_get(p) + 1);
	return 0;
}

int rows_image_end(struct buf *out)
{
	uint8_t crc[CRC_BYTES];

	ASSERT(out->len_bytes >= ROWS_AT);
	le32_put(crc, crc32c(0, out->data, out->len_bytes));
	return buf_append(out, crc, sizeof(crc));
}

struct image_row {
	const uint8_t *key, *value;
	size_t key_bytes, value_bytes;
};

NODISCARD static int image_row_get(struct cursor *c, struct image_row *ret_row)
{
	const uint8_t *head = cursor_take(c, ROW_HEAD_BYTES);
	struct image_row row;

	if (head == NULL || le16_get(head + ROW_ZERO_AT) != 0)
		return -EUCLEAN;
	row.key_bytes = le16_get(head + ROW_KEY_BYTES_AT);
	row.value_bytes = le32_get(head + ROW_VALUE_BYTES_AT);
	if (row.key_bytes < 1 || row.key_bytes > IMAGE_KEY_BYTES_MAX ||
	    row.value_bytes > ROW_VALUE_BYTES_MAX)
		return -EUCLEAN;
	row.key = cursor_take(c, row.key_bytes);
	row.value = cursor_take(c, row.value_bytes);
	if (row.key == NULL || row.value == NULL)
		return -EUCLEAN;
	*ret_row = row;
	return 0;
}

/* Whether exactly count rows fill the cursor. */
static bool image_rows_are_sound(struct cursor c, uint64_t count)
{
	struct image_row row;

	for (; count > 0; count--)
		if (image_row_get(&c, &row) < 0)
			return false;
	return c.left == 0;
}

int rows_image_decode(const uint8_t *in, size_t len_bytes, struct rows_image_header *ret_header,
		      int (*fn)(void *arg, const uint8_t *key, size_t key_bytes,
				const uint8_t *value, size_t value_bytes),
		      void *arg, struct err *e)
{
	struct rows_image_header h;
	struct image_row row;
	struct cursor c;
	const char *flaw;
	int r;

	r = object_check(in, len_bytes, ROWS_AT, rows_magic, "image of rows", e);
	if (r < 0)
		return r;
	h = (struct rows_image_header){
		.kind = le32_get(in + ROWS_KIND_AT),
		.stream = le32_get(in + ROWS_STREAM_AT),
		.epoch = le64_get(in + ROWS_EPOCH_AT),
		.lsn = le64_get(in + ROWS_LSN_AT),
	};
	memcpy(h.pool.bytes, in + ROWS_POOL_AT, UUID_BYTES);
	flaw = rows_header_flaw(&h);
	if (flaw == NULL && le32_get(in + ROWS_ZERO_AT) != 0)
		flaw = "the unused part is not zero";
	c = (struct cursor){ in + ROWS_AT, len_bytes - ROWS_AT - CRC_BYTES };
	if (flaw == NULL && !image_rows_are_sound(c, le64_get(in + ROWS_COUNT_AT)))
		flaw = "its rows do not fill it";
	if (flaw != NULL)
		return err_set(e, -EUCLEAN, "image of rows: %s", flaw);

	*ret_header = h;
	while (c.left > 0) {
		r = image_row_get(&c, &row);
		if (r == 0)
			r = fn(arg, row.key, row.key_bytes, row.value, row.value_bytes);
		if (r != 0)
			return r;
	}
	return 0;
}

/* --- Piece of a map ---------------------------------------------------------------------------- */

int map_piece_encode(const struct map_piece *piece, struct buf *out)
{
	uint8_t value[ROW_BYTES(4u + 1u + OBJECT_NAME_MAX + NAMED_TAIL_BYTES)], *end;

	ASSERT(name_is_sound(piece->object.name));
	le32_put(value + 1, piece->layers);
	end = named_object_put(&piece->object, value + 5);
	return row_append(ROW_MAP_PIECE, value, (size_t)(end - value) + CRC_BYTES, out);
}

int map_piece_decode(const uint8_t *in, size_t len_bytes, struct map_piece *ret_piece,
		     struct err *e)
{
	struct named_object object;
	struct cursor c;
	int r = row_check(ROW_MAP_PIECE, in, len_bytes, "piece of a map", e);

	if (r < 0)
		return r;
	if (len_bytes < ROW_BYTES(4u + NAMED_BYTES_MIN))
		return err_set(e, -EUCLEAN, "piece of a map: cut off");
	c = (struct cursor){ in + 5, len_bytes - ROW_BYTES(4u) };
	if (named_object_get(&c, &object) < 0 || object.name[0] == '\0' || c.left != 0)
		return err_set(e, -EUCLEAN, "piece of a map: bad name");
	ret_piece->layers = le32_get(in + 1);
	ret_piece->object = object;
	return 0;
}

/* --- Manifest ---------------------------------------------------------------------------------- */

static const char manifest_magic[] = "VPMANIF1";

enum {
	MANIFEST_SCO_COUNT_AT = 12,
	MANIFEST_POOL_AT = 16,
	MANIFEST_STREAM_AT = 32,
	MANIFEST_ZERO_AT = 36,
	MANIFEST_EPOCH_AT = 40,
	MANIFEST_ROOT_AT = 48,
	MANIFEST_LSN_AT = 56,
	MANIFEST_MAP_LSN_AT = 64,
	MANIFEST_MAP_AT = 72, /* named object, then the SCOs */

	MSCO_NUMBER_AT = 0,
	MSCO_VERSION_AT = 8,
	MSCO_SLOT_COUNT_AT = 12,
	MSCO_OBJECT_EPOCH_AT = 16,
	MSCO_FILE_BYTES_AT = 24,
	MSCO_FOOTER_CRC_AT = 32,
	MSCO_ZERO_AT = 36,
	MSCO_FIRST_LSN_AT = 40,
	MSCO_LAST_LSN_AT = 48,
	MSCO_BYTES = 56,
};

static const char *manifest_head_flaw(const struct manifest *m)
{
	if (m->stream == 0)
		return "stream 0";
	if (m->map.name[0] == '\0' && m->map_lsn != 0)
		return "an LSN of a map that it does not name";
	return NULL;
}

static const char *manifest_sco_flaw(const struct manifest_sco *s, uint64_t previous)
{
	if (!sco_number_is_sound(s->sco))
		return "SCO number out of range";
	if (s->sco <= previous)
		return "SCOs out of order";
	if (s->slot_count < 1 || s->slot_count > SCO_SLOTS_MAX)
		return "number of slots out of range";
	if (!lsn_range_is_sound(s->first_lsn, s->last_lsn))
		return "first and last LSN do not fit together";
	return NULL;
}

static void manifest_sco_put(const struct manifest_sco *s, uint8_t p[MSCO_BYTES])
{
	le64_put(p + MSCO_NUMBER_AT, s->sco);
	le32_put(p + MSCO_VERSION_AT, s->version);
	le32_put(p + MSCO_SLOT_COUNT_AT, s->slot_count);
	le64_put(p + MSCO_OBJECT_EPOCH_AT, s->object_epoch);
	le64_put(p + MSCO_FILE_BYTES_AT, s->file_bytes);
	le32_put(p + MSCO_FOOTER_CRC_AT, s->footer_crc);
	le32_put(p + MSCO_ZERO_AT, 0);
	le64_put(p + MSCO_FIRST_LSN_AT, s->first_lsn);
	le64_put(p + MSCO_LAST_LSN_AT, s->last_lsn);
}

static struct manifest_sco manifest_sco_get(const uint8_t p[MSCO_BYTES])
{
	return (struct manifest_sco){
		.sco = le64_get(p + MSCO_NUMBER_AT),
		.version = le32_get(p + MSCO_VERSION_AT),
		.slot_count = le32_get(p + MSCO_SLOT_COUNT_AT),
		.object_epoch = le64_get(p + MSCO_OBJECT_EPOCH_AT),
		.file_bytes = le64_get(p + MSCO_FILE_BYTES_AT),
		.footer_crc = le32_get(p + MSCO_FOOTER_CRC_AT),
		.first_lsn = le64_get(p + MSCO_FIRST_LSN_AT),
		.last_lsn = le64_get(p + MSCO_LAST_LSN_AT),
	};
}

int manifest_encode(const struct manifest *m, struct buf *out)
{
	uint64_t previous = 0;
	size_t len_bytes;
	uint8_t *start, *p;

	ASSERT(manifest_head_flaw(m) == NULL);
	ASSERT(named_object_is_none(&m->map) || name_is_sound(m->map.name));
	len_bytes = MANIFEST_MAP_AT + name_bytes(m->map.name) + NAMED_TAIL_BYTES +
		    (size_t)m->sco_count * MSCO_BYTES + CRC_BYTES;
	start = buf_extend(out, len_bytes);
	if (start == NULL)
		return -ENOMEM;

	object_head_put(start, manifest_magic);
	le32_put(start + MANIFEST_SCO_COUNT_AT, m->sco_count);
	memcpy(start + MANIFEST_POOL_AT, m->pool.bytes, UUID_BYTES);
	le32_put(start + MANIFEST_STREAM_AT, m->stream);
	le32_put(start + MANIFEST_ZERO_AT, 0);
	le64_put(start + MANIFEST_EPOCH_AT, m->epoch);
	le64_put(start + MANIFEST_ROOT_AT, m->root);
	le64_put(start + MANIFEST_LSN_AT, m->lsn);
	le64_put(start + MANIFEST_MAP_LSN_AT, m->map_lsn);
	p = named_object_put(&m->map, start + MANIFEST_MAP_AT);
	for (uint32_t i = 0; i < m->sco_count; i++, p += MSCO_BYTES) {
		ASSERT(manifest_sco_flaw(&m->scos[i], previous) == NULL);
		previous = m->scos[i].sco;
		manifest_sco_put(&m->scos[i], p);
	}
	le32_put(p, crc32c(0, start, len_bytes - CRC_BYTES));
	return 0;
}

NODISCARD static int manifest_scos_decode(struct cursor *c, uint32_t count,
					  struct manifest_sco **ret_scos, struct err *e)
{
	struct manifest_sco *scos;
	uint64_t previous = 0;
	const char *flaw = NULL;

	if (c->left != (size_t)count * MSCO_BYTES)
		return err_set(e, -EUCLEAN, "manifest: %" PRIu32 " SCOs do not fill it", count);
	scos = calloc(count != 0 ? count : 1, sizeof(*scos));
	if (scos == NULL)
		return err_set(e, -ENOMEM, "manifest of %" PRIu32 " SCOs", count);
	for (uint32_t i = 0; i < count && flaw == NULL; i++) {
		const uint8_t *p = cursor_take(c, MSCO_BYTES);

		scos[i] = manifest_sco_get(p);
		flaw = manifest_sco_flaw(&scos[i], previous);
		if (flaw == NULL && le32_get(p + MSCO_ZERO_AT) != 0)
			flaw = "the unused part is not zero";
		previous = scos[i].sco;
	}
	if (flaw != NULL) {
		free(scos);
		return err_set(e, -EUCLEAN, "manifest: SCO %" PRIu64 ": %s", previous, flaw);
	}
	*ret_scos = scos;
	return 0;
}

int manifest_decode(const uint8_t *in, size_t len_bytes, struct manifest *ret_manifest,
		    struct err *e)
{
	struct manifest m;
	struct cursor c;
	const char *flaw;
	int r;

	r = object_check(in, len_bytes, MANIFEST_MAP_AT, manifest_magic, "manifest", e);
	if (r < 0)
		return r;
	m = (struct manifest){
		.stream = le32_get(in + MANIFEST_STREAM_AT),
		.epoch = le64_get(in + MANIFEST_EPOCH_AT),
		.root = le64_get(in + MANIFEST_ROOT_AT),
		.lsn = le64_get(in + MANIFEST_LSN_AT),
		.map_lsn = le64_get(in + MANIFEST_MAP_LSN_AT),
		.sco_count = le32_get(in + MANIFEST_SCO_COUNT_AT),
	};
	memcpy(m.pool.bytes, in + MANIFEST_POOL_AT, UUID_BYTES);
	c = (struct cursor){ in + MANIFEST_MAP_AT, len_bytes - MANIFEST_MAP_AT - CRC_BYTES };
	if (named_object_get(&c, &m.map) < 0)
		return err_set(e, -EUCLEAN, "manifest: bad name of a map");
	flaw = manifest_head_flaw(&m);
	if (flaw == NULL && le32_get(in + MANIFEST_ZERO_AT) != 0)
		flaw = "the unused part is not zero";
	if (flaw != NULL)
		return err_set(e, -EUCLEAN, "manifest: %s", flaw);
	r = manifest_scos_decode(&c, m.sco_count, &m.scos, e);
	if (r < 0)
		return r;
	*ret_manifest = m;
	return 0;
}

void manifest_done(struct manifest *m)
{
	free(m->scos);
	m->scos = NULL;
	m->sco_count = 0;
}

/* --- Root -------------------------------------------------------------------------------------- */

static const char root_magic[] = "VPROOT01";

enum {
	ROOT_PACK_COUNT_AT = 12, /* zero without FEATURE_PACKS */
	ROOT_FEATURES_AT = 16,
	ROOT_POOL_AT = 40,
	ROOT_EPOCH_AT = 56,
	ROOT_NUMBER_AT = 64,
	ROOT_CREATED_AT = 72,
	ROOT_STREAM_COUNT_AT = 80,
	ROOT_CONDEMNED_COUNT_AT = 84,
	ROOT_NAMESPACE_AT = 88, /* named object, then the streams, then the condemned names */
};
#define ROOT_STREAM_ID_BYTES 4u
#define ROOT_PACK_TAIL_BYTES 4u /* bytes of its directory */

static size_t root_bytes(const struct root *r)
{
	size_t sum = ROOT_NAMESPACE_AT + name_bytes(r->ns.name) + NAMED_TAIL_BYTES + CRC_BYTES;

	for (uint32_t i = 0; i < r->stream_count; i++)
		sum += ROOT_STREAM_ID_BYTES + name_bytes(r->streams[i].manifest.name) +
		       NAMED_TAIL_BYTES;
	for (uint32_t i = 0; i < r->condemned_count; i++)
		sum += name_bytes(r->condemned[i]);
	for (uint32_t i = 0; i < r->pack_count; i++)
		sum += name_bytes(r->packs[i].object.name) + NAMED_TAIL_BYTES +
		       ROOT_PACK_TAIL_BYTES;
	return sum;
}

/* Everything whose names are about to be measured. */
static void root_assert_is_sound(const struct root *r)
{
	ASSERT(pool_features_known(&r->features) && name_is_sound(r->ns.name));
	for (uint32_t i = 0; i < r->stream_count; i++) {
		ASSERT(r->streams[i].stream > (i == 0 ? 0 : r->streams[i - 1].stream));
		ASSERT(name_is_sound(r->streams[i].manifest.name));
	}
	for (uint32_t i = 0; i < r->condemned_count; i++)
		ASSERT(name_is_sound(r->condemned[i]));
	ASSERT((r->pack_count != 0) == ((r->features.incompat & FEATURE_PACKS) != 0));
	for (uint32_t i = 0; i < r->pack_count; i++)
		ASSERT(name_is_sound(r->packs[i].object.name) && r->packs[i].object.crc == 0);
}

int root_encode(const struct root *r, struct buf *out)
{
	size_t len_bytes;
	uint8_t *start, *p;

	root_assert_is_sound(r);
	len_bytes = root_bytes(r);
	start = buf_extend(out, len_bytes);
	if (start == NULL)
		return -ENOMEM;

	object_head_put(start, root_magic);
	le32_put(start + ROOT_PACK_COUNT_AT, r->pack_count);
	features_put(start + ROOT_FEATURES_AT, &r->features);
	memcpy(start + ROOT_POOL_AT, r->pool.bytes, UUID_BYTES);
	le64_put(start + ROOT_EPOCH_AT, r->epoch);
	le64_put(start + ROOT_NUMBER_AT, r->number);
	le64_put(start + ROOT_CREATED_AT, (uint64_t)r->created_ns);
	le32_put(start + ROOT_STREAM_COUNT_AT, r->stream_count);
	le32_put(start + ROOT_CONDEMNED_COUNT_AT, r->condemned_count);
	p = named_object_put(&r->ns, start + ROOT_NAMESPACE_AT);
	for (uint32_t i = 0; i < r->stream_count; i++) {
		le32_put(p, r->streams[i].stream);
		p = named_object_put(&r->streams[i].manifest, p + ROOT_STREAM_ID_BYTES);
	}
	for (uint32_t i = 0; i < r->condemned_count; i++)
		p = name_put(r->condemned[i], p);
	for (uint32_t i = 0; i < r->pack_count; i++) {
		p = named_object_put(&r->packs[i].object, p);
		le32_put(p, r->packs[i].directory_bytes);
		p += ROOT_PACK_TAIL_BYTES;
	}
	le32_put(p, crc32c(0, start, len_bytes - CRC_BYTES));
	return 0;
}

NODISCARD static int root_streams_decode(struct cursor *c, struct root *root, uint32_t count,
					 struct err *e)
{
	uint32_t previous = 0;

	if (count > c->left / (ROOT_STREAM_ID_BYTES + NAMED_BYTES_MIN))
		return err_set(e, -EUCLEAN, "root: %" PRIu32 " streams do not fit in it", count);
	root->streams = calloc(count != 0 ? count : 1, sizeof(*root->streams));
	if (root->streams == NULL)
		return err_set(e, -ENOMEM, "root of %" PRIu32 " streams", count);
	root->stream_count = count;
	for (uint32_t i = 0; i < count; i++) {
		struct root_stream *s = &root->streams[i];
		const uint8_t *id = cursor_take(c, ROOT_STREAM_ID_BYTES);

		if (id == NULL || named_object_get(c, &s->manifest) < 0 ||
		    s->manifest.name[0] == '\0')
			return err_set(e, -EUCLEAN, "root: bad name of a manifest");
		s->stream = le32_get(id);
		if (s->stream <= previous)
			return err_set(e, -EUCLEAN, "root: streams out of order");
		previous = s->stream;
	}
	return 0;
}

NODISCARD static int root_condemned_decode(struct cursor *c, struct root *root, uint32_t count,
					   struct err *e)
{
	if (count > c->left / 2) /* a length and a character at least */
		return err_set(e, -EUCLEAN, "root: %" PRIu32 " names do not fit in it", count);
	root->condemned = calloc(count != 0 ? count : 1, sizeof(*root->condemned));
	if (root->condemned == NULL)
		return err_set(e, -ENOMEM, "root with %" PRIu32 " condemned names", count);
	root->condemned_count = count;
	for (uint32_t i = 0; i < count; i++)
		if (name_get(c, root->condemned[i]) < 0 || root->condemned[i][0] == '\0')
			return err_set(e, -EUCLEAN, "root: bad condemned name");
	return 0;
}

NODISCARD static int root_packs_decode(struct cursor *c, struct root *root, uint32_t count,
				       struct err *e)
{
	if (count > c->left / (NAMED_BYTES_MIN + ROOT_PACK_TAIL_BYTES))
		return err_set(e, -EUCLEAN, "root: %" PRIu32 " packs do not fit in it", count);
	root->packs = calloc(count != 0 ? count : 1, sizeof(*root->packs));
	if (root->packs == NULL)
		return err_set(e, -ENOMEM, "root with %" PRIu32 " packs", count);
	root->pack_count = count;
	for (uint32_t i = 0; i < count; i++) {
		struct root_pack *pack = &root->packs[i];
		const uint8_t *tail;

		if (named_object_get(c, &pack->object) < 0 || pack->object.name[0] == '\0')
			return err_set(e, -EUCLEAN, "root: bad name of a pack");
		tail = cursor_take(c, ROOT_PACK_TAIL_BYTES);
		if (tail == NULL || pack->object.crc != 0 ||
		    le32_get(tail) > pack->object.len_bytes)
			return err_set(e, -EUCLEAN, "root: a pack's directory does not fit in it");
		pack->directory_bytes = le32_get(tail);
	}
	return 0;
}

/* The parts of variable length; on failure root holds what was allocated so far. */
NODISCARD static int root_lists_decode(const uint8_t *in, struct cursor *c, struct root *root,
				       struct err *e)
{
	int r;

	if (named_object_get(c, &root->ns) < 0 || root->ns.name[0] == '\0')
		return err_set(e, -EUCLEAN, "root: bad name of the namespace");
	r = root_streams_decode(c, root, le32_get(in + ROOT_STREAM_COUNT_AT), e);
	if (r < 0)
		return r;
	r = root_condemned_decode(c, root, le32_get(in + ROOT_CONDEMNED_COUNT_AT), e);
	if (r == 0)
		r = root_packs_decode(c, root, le32_get(in + ROOT_PACK_COUNT_AT), e);
	if (r < 0)
		return r;
	return c->left == 0 ? 0 : err_set(e, -EUCLEAN, "root: bytes behind its last name");
}

int root_decode(const uint8_t *in, size_t len_bytes, struct root *ret_root, struct err *e)
{
	struct root root;
	struct cursor c;
	int r;

	r = object_check(in, len_bytes, ROOT_NAMESPACE_AT, root_magic, "root", e);
	if (r < 0)
		return r;
	root = (struct root){
		.features = features_get(in + ROOT_FEATURES_AT),
		.epoch = le64_get(in + ROOT_EPOCH_AT),
		.number = le64_get(in + ROOT_NUMBER_AT),
		.created_ns = (int64_t)le64_get(in + ROOT_CREATED_AT),
	};
	memcpy(root.pool.bytes, in + ROOT_POOL_AT, UUID_BYTES);
	r = pool_features_check(&root.features, "root", e);
	if (r < 0)
		return r;
	if ((le32_get(in + ROOT_PACK_COUNT_AT) != 0) !=
	    ((root.features.incompat & FEATURE_PACKS) != 0))
		return err_set(
			e, -EUCLEAN,
			"root: packs without the feature, or unused bytes that are not zero");
	c = (struct cursor){ in + ROOT_NAMESPACE_AT, len_bytes - ROOT_NAMESPACE_AT - CRC_BYTES };
	r = root_lists_decode(in, &c, &root, e);
	if (r < 0) {
		root_done(&root);
		return r;
	}
	*ret_root = root;
	return 0;
}

void root_done(struct root *r)
{
	free(r->streams);
	free(r->condemned);
	free(r->packs);
	r->streams = NULL;
	r->condemned = NULL;
	r->packs = NULL;
	r->stream_count = r->condemned_count = r->pack_count = 0;
}

/* --- pool.json --------------------------------------------------------------------------------- */

static const char pool_text_head[] = "{\"format\":1,\"uuid\":\"";
static const char pool_text_tail[] = "\"}\n";
enum { POOL_TEXT_DIGITS = 2 * UUID_BYTES };

size_t pool_text_write(const struct uuid *pool, char ret_text[POOL_TEXT_MAX + 1])
{
	char digits[POOL_TEXT_DIGITS + 1];

	for (unsigned int i = 0; i < UUID_BYTES; i++)
		(void)snprintf(digits + 2 * (size_t)i, 3, "%02x", pool->bytes[i]);
	return (size_t)snprintf(ret_text, POOL_TEXT_MAX + 1, "%s%s%s", pool_text_head, digits,
				pool_text_tail);
}

static int digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The program that writes it writes it just so. */
int pool_text_parse(const char *text, struct uuid *ret_pool)
{
	const char *digits = text + sizeof(pool_text_head) - 1;
	struct uuid pool;

	if (strncmp(text, pool_text_head, sizeof(pool_text_head) - 1) != 0 ||
	    strnlen(digits, POOL_TEXT_DIGITS) < POOL_TEXT_DIGITS ||
	    strncmp(digits + POOL_TEXT_DIGITS, pool_text_tail, 2) != 0) /* an editor may end it */
		return -EUCLEAN;
	for (unsigned int i = 0; i < UUID_BYTES; i++) {
		int high = digit_value(digits[2 * i]), low = digit_value(digits[2 * i + 1]);

		if (high < 0 || low < 0)
			return -EUCLEAN;
		pool.bytes[i] = (uint8_t)(high << 4 | low);
	}
	*ret_pool = pool;
	return 0;
}
