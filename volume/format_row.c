/*
 * format_row - keys and values of all rows but map pages (FORMAT.md section 7).
 *
 * A value is: version byte, fields, CRC-32C of the kind byte of its key and of all before. So a
 * value that turned up under a key of another kind is refused as well.
 */
#include <stdlib.h>
#include <string.h>

#include "volume/format_impl.h"

/* --- Keys -------------------------------------------------------------------------------------- */

#define KEY_U64_BYTES  9u
#define KEY_2U64_BYTES 17u

struct row_key row_key_u64(enum row_kind kind, uint64_t id)
{
	struct row_key key = { .len_bytes = KEY_U64_BYTES };

	key.bytes[0] = (uint8_t)kind;
	be64_put(key.bytes + 1, id);
	return key;
}

struct row_key row_key_2u64(enum row_kind kind, uint64_t a, uint64_t b)
{
	struct row_key key = row_key_u64(kind, a);

	be64_put(key.bytes + KEY_U64_BYTES, b);
	key.len_bytes = KEY_2U64_BYTES;
	return key;
}

int row_key_parse_u64(const uint8_t *key, size_t len, enum row_kind kind, uint64_t *ret)
{
	if (len != KEY_U64_BYTES || key[0] != (uint8_t)kind)
		return -EUCLEAN;
	*ret = be64_get(key + 1);
	return 0;
}

int row_key_parse_2u64(const uint8_t *key, size_t len, enum row_kind kind, uint64_t *ret_a,
		       uint64_t *ret_b)
{
	if (len != KEY_2U64_BYTES || key[0] != (uint8_t)kind)
		return -EUCLEAN;
	*ret_a = be64_get(key + 1);
	*ret_b = be64_get(key + KEY_U64_BYTES);
	return 0;
}

/* --- Frame of a value -------------------------------------------------------------------------- */

static uint32_t row_crc(enum row_kind kind, const uint8_t *value, size_t len_bytes)
{
	const uint8_t first = (uint8_t)kind;

	return crc32c(crc32c(0, &first, 1), value, len_bytes);
}

int row_append(enum row_kind kind, uint8_t *value, size_t len_bytes, struct buf *out)
{
	value[0] = FORMAT_VERSION;
	le32_put(value + len_bytes - CRC_BYTES, row_crc(kind, value, len_bytes - CRC_BYTES));
	return buf_append(out, value, len_bytes);
}

int row_check(enum row_kind kind, const uint8_t *in, size_t len_bytes, const char *what,
	      struct err *e)
{
	if (len_bytes < ROW_BYTES(0))
		return err_set(e, -EUCLEAN, "%s row: only %zu bytes long", what, len_bytes);
	if (le32_get(in + len_bytes - CRC_BYTES) != row_crc(kind, in, len_bytes - CRC_BYTES))
		return err_set(e, -EBADMSG, "%s row: bad checksum", what);
	if (in[0] != FORMAT_VERSION)
		return err_set(e, -EPROTONOSUPPORT,
			       "%s row: format version %u, this program knows %u", what, in[0],
			       FORMAT_VERSION);
	return 0;
}

NODISCARD static int row_check_fixed(enum row_kind kind, const uint8_t *in, size_t len_bytes,
				     size_t want_bytes, const char *what, struct err *e)
{
	int r = row_check(kind, in, len_bytes, what, e);

	if (r < 0)
		return r;
	if (len_bytes != want_bytes)
		return err_set(e, -EUCLEAN, "%s row: %zu bytes long instead of %zu", what,
			       len_bytes, want_bytes);
	return 0;
}

static int row_refuse(const char *what, const char *flaw, struct err *e)
{
	return err_set(e, -EUCLEAN, "%s row: %s", what, flaw);
}

/* --- Pool -------------------------------------------------------------------------------------- */

#define POOL_ROW_BYTES ROW_BYTES(60u)

static const char *pool_row_flaw(const struct pool_row *row)
{
	if (row->sco_bytes % CLUSTER_BYTES != 0 || row->sco_bytes / CLUSTER_BYTES < SCO_SLOTS_MIN ||
	    row->sco_bytes / CLUSTER_BYTES > SCO_SLOTS_MAX + 1)
		return "size of a SCO";
	return NULL;
}

int pool_row_encode(const struct pool_row *row, struct buf *out)
{
	uint8_t value[POOL_ROW_BYTES];

	ASSERT(pool_row_flaw(row) == NULL && pool_features_known(&row->features));
	features_put(value + 1, &row->features);
	memcpy(value + 25, row->pool.bytes, UUID_BYTES);
	le64_put(value + 41, row->epoch);
	le64_put(value + 49, (uint64_t)row->created_ns);
	le32_put(value + 57, row->sco_bytes);
	return row_append(ROW_POOL, value, sizeof(value), out);
}

int pool_row_decode(const uint8_t *in, size_t len_bytes, struct pool_row *ret_row, struct err *e)
{
	struct pool_row row;
	const char *flaw;
	int r;

	r = row_check_fixed(ROW_POOL, in, len_bytes, POOL_ROW_BYTES, "pool", e);
	if (r < 0)
		return r;
	row = (struct pool_row){
		.features = features_get(in + 1),
		.epoch = le64_get(in + 41),
		.created_ns = (int64_t)le64_get(in + 49),
		.sco_bytes = le32_get(in + 57),
	};
	memcpy(row.pool.bytes, in + 25, UUID_BYTES);
	r = pool_features_check(&row.features, "pool row", e);
	if (r < 0)
		return r;
	flaw = pool_row_flaw(&row);
	if (flaw != NULL)
		return row_refuse("pool", flaw, e);
	*ret_row = row;
	return 0;
}

/* --- Counter ----------------------------------------------------------------------------------- */

#define COUNTER_ROW_BYTES ROW_BYTES(8u)

int counter_row_encode(const struct counter_row *row, struct buf *out)
{
	uint8_t value[COUNTER_ROW_BYTES];

	le64_put(value + 1, row->high_water);
	return row_append(ROW_COUNTER, value, sizeof(value), out);
}

int counter_row_decode(const uint8_t *in, size_t len_bytes, struct counter_row *ret_row,
		       struct err *e)
{
	int r = row_check_fixed(ROW_COUNTER, in, len_bytes, COUNTER_ROW_BYTES, "counter", e);

	if (r < 0)
		return r;
	*ret_row = (struct counter_row){ .high_water = le64_get(in + 1) };
	return 0;
}

/* --- Stream ------------------------------------------------------------------------------------ */

#define STREAM_ROW_BYTES ROW_BYTES(12u)

static bool class_is_sound(uint32_t class)
{
	return class == OBJECT_DISK || class == OBJECT_FILE;
}

int stream_row_encode(const struct stream_row *row, struct buf *out)
{
	uint8_t value[STREAM_ROW_BYTES];

	ASSERT(class_is_sound(row->class));
	le32_put(value + 1, row->class);
	le64_put(value + 5, row->owner);
	return row_append(ROW_STREAM, value, sizeof(value), out);
}

int stream_row_decode(const uint8_t *in, size_t len_bytes, struct stream_row *ret_row,
		      struct err *e)
{
	struct stream_row row;
	int r;

	r = row_check_fixed(ROW_STREAM, in, len_bytes, STREAM_ROW_BYTES, "stream", e);
	if (r < 0)
		return r;
	row = (struct stream_row){ .class = le32_get(in + 1), .owner = le64_get(in + 5) };
	if (!class_is_sound(row.class))
		return row_refuse("stream", "unknown class", e);
	*ret_row = row;
	return 0;
}

/* --- Checkpoint -------------------------------------------------------------------------------- */

#define CHECKPOINT_ROW_BYTES ROW_BYTES(17u)

static const char *checkpoint_row_flaw(const struct checkpoint_row *row)
{
	/* One behind the last number says that no SCO is left to replay. */
	if (row->replay_sco > SCO_NUMBER_MAX + 1)
		return "SCO number out of range";
	if (row->damaged > 1)
		return "neither damaged nor not";
	return NULL;
}

int checkpoint_row_encode(const struct checkpoint_row *row, struct buf *out)
{
	uint8_t value[CHECKPOINT_ROW_BYTES];

	ASSERT(checkpoint_row_flaw(row) == NULL);
	le64_put(value + 1, row->lsn);
	le64_put(value + 9, row->replay_sco);
	value[17] = row->damaged;
	return row_append(ROW_CHECKPOINT, value, sizeof(value), out);
}

int checkpoint_row_decode(const uint8_t *in, size_t len_bytes, struct checkpoint_row *ret_row,
			  struct err *e)
{
	struct checkpoint_row row;
	const char *flaw;
	int r;

	r = row_check_fixed(ROW_CHECKPOINT, in, len_bytes, CHECKPOINT_ROW_BYTES, "checkpoint", e);
	if (r < 0)
		return r;
	row = (struct checkpoint_row){
		.lsn = le64_get(in + 1),
		.replay_sco = le64_get(in + 9),
		.damaged = in[17],
	};
	flaw = checkpoint_row_flaw(&row);
	if (flaw != NULL)
		return row_refuse("checkpoint", flaw, e);
	*ret_row = row;
	return 0;
}

/* --- Object ------------------------------------------------------------------------------------ */

/* The table of origins begins behind the count of its elements. */
enum { OBJECT_ORIGINS_AT = 29 };
#define ORIGIN_BYTES 12u

static const char *object_row_flaw(const struct object_row *row)
{
	if (!class_is_sound(row->class))
		return "unknown class";
	if ((row->flags & ~(uint32_t)OBJECT_TEMPLATE) != 0)
		return "unknown flags";
	if (row->origin_count < 1 || row->origin_count > OBJECT_ORIGINS_MAX)
		return "number of origins out of range";
	return NULL;
}

int object_row_encode(const struct object_row *row, struct buf *out)
{
	uint8_t *value, *p;
	size_t len_bytes;
	int r;

	ASSERT(object_row_flaw(row) == NULL);
	len_bytes = OBJECT_ORIGINS_AT + (size_t)row->origin_count * ORIGIN_BYTES + CRC_BYTES;
	value = malloc(len_bytes);
	if (value == NULL)
		return -ENOMEM;

	le32_put(value + 1, row->class);
	le32_put(value + 5, row->flags);
	le64_put(value + 9, row->live_layer);
	le64_put(value + 17, (uint64_t)row->created_ns);
	le32_put(value + 25, row->origin_count);
	p = value + OBJECT_ORIGINS_AT;
	for (uint32_t i = 0; i < row->origin_count; i++, p += ORIGIN_BYTES) {
		ASSERT(row->origins[i].stream != 0);
		le32_put(p, row->origins[i].stream);
		le64_put(p + 4, row->origins[i].mark);
	}
	r = row_append(ROW_OBJECT, value, len_bytes, out);
	free(value);
	return r;
}

NODISCARD static int object_origins_decode(const uint8_t *p, uint32_t count,
					   struct object_origin **ret_origins, struct err *e)
{
	struct object_origin *origins;

	for (uint32_t i = 0; i < count; i++)
		if (le32_get(p + (size_t)i * ORIGIN_BYTES) == 0)
			return row_refuse("object", "an origin of stream 0", e);
	origins = calloc(count, sizeof(*origins));
	if (origins == NULL)
		return err_set(e, -ENOMEM, "object row: %" PRIu32 " origins", count);
	for (uint32_t i = 0; i < count; i++, p += ORIGIN_BYTES) {
		origins[i].stream = le32_get(p);
		origins[i].mark = le64_get(p + 4);
	}
	*ret_origins = origins;
	return 0;
}

int object_row_decode(const uint8_t *in, size_t len_bytes, struct object_row *ret_row,
		      struct err *e)
{
	struct object_row row;
	const char *flaw;
	int r;

	r = row_check(ROW_OBJECT, in, len_bytes, "object", e);
	if (r < 0)
		return r;
	if (len_bytes < OBJECT_ORIGINS_AT + CRC_BYTES)
		return row_refuse("object", "cut off", e);
	row = (struct object_row){
		.class = le32_get(in + 1),
		.flags = le32_get(in + 5),
		.live_layer = le64_get(in + 9),
		.created_ns = (int64_t)le64_get(in + 17),
		.origin_count = le32_get(in + 25),
	};
	flaw = object_row_flaw(&row);
	if (flaw == NULL &&
	    len_bytes != OBJECT_ORIGINS_AT + (size_t)row.origin_count * ORIGIN_BYTES + CRC_BYTES)
		flaw = "its length does not fit its number of origins";
	if (flaw != NULL)
		return row_refuse("object", flaw, e);
	r = object_origins_decode(in + OBJECT_ORIGINS_AT, row.origin_count, &row.origins, e);
	if (r < 0)
		return r;
	*ret_row = row;
	return 0;
}

void object_row_done(struct object_row *row)
{
	free(row->origins);
	row->origins = NULL;
	row->origin_count = 0;
}

/* --- Layer ------------------------------------------------------------------------------------- */

#define LAYER_ROW_BYTES ROW_BYTES(41u)

static const char *layer_row_flaw(const struct layer_row *row)
{
	if (row->state < LAYER_LIVE || row->state > LAYER_DROPPED)
		return "unknown state";
	if (row->parent_origin_base > LOC_ORIGIN_MAX)
		return "base of the parent's origins out of range";
	return NULL;
}

int layer_row_encode(const struct layer_row *row, struct buf *out)
{
	uint8_t value[LAYER_ROW_BYTES];

	ASSERT(layer_row_flaw(row) == NULL);
	value[1] = row->state;
	le64_put(value + 2, row->object);
	le64_put(value + 10, row->parent);
	le64_put(value + 18, row->parent_limit_clusters);
	le32_put(value + 26, row->parent_origin_base);
	le32_put(value + 30, row->mark_stream);
	le64_put(value + 34, row->mark);
	return row_append(ROW_LAYER, value, sizeof(value), out);
}

int layer_row_decode(const uint8_t *in, size_t len_bytes, struct layer_row *ret_row, struct err *e)
{
	struct layer_row row;
	const char *flaw;
	int r;

	r = row_check_fixed(ROW_LAYER, in, len_bytes, LAYER_ROW_BYTES, "layer", e);
	if (r < 0)
		return r;
	row = (struct layer_row){
		.state = in[1],
		.object = le64_get(in + 2),
		.parent = le64_get(in + 10),
		.parent_limit_clusters = le64_get(in + 18),
		.parent_origin_base = le32_get(in + 26),
		.mark_stream = le32_get(in + 30),
		.mark = le64_get(in + 34),
	};
	flaw = layer_row_flaw(&row);
	if (flaw != NULL)
		return row_refuse("layer", flaw, e);
	*ret_row = row;
	return 0;
}

/* --- Root -------------------------------------------------------------------------------------- */

#define ROOT_ROW_BYTES ROW_BYTES(16u)

int root_row_encode(const struct root_row *row, struct buf *out)
{
	uint8_t value[ROOT_ROW_BYTES];

	le64_put(value + 1, row->number);
	le64_put(value + 9, row->epoch);
	return row_append(ROW_ROOT, value, sizeof(value), out);
}

int root_row_decode(const uint8_t *in, size_t len_bytes, struct root_row *ret_row, struct err *e)
{
	int r = row_check_fixed(ROW_ROOT, in, len_bytes, ROOT_ROW_BYTES, "root", e);

	if (r < 0)
		return r;
	*ret_row = (struct root_row){ .number = le64_get(in + 1), .epoch = le64_get(in + 9) };
	return 0;
}

/* --- State of an object ------------------------------------------------------------------------ */

#define OBJECT_STATE_ROW_BYTES ROW_BYTES(32u)

static const char *object_state_row_flaw(const struct object_state_row *row)
{
	if (row->size_bytes > OBJECT_BYTES_MAX)
		return "size beyond the largest object";
	if (row->mapped_clusters > CLUSTER_MAX)
		return "more clusters than the largest object has";
	return NULL;
}

int object_state_row_encode(const struct object_state_row *row, struct buf *out)
{
	uint8_t value[OBJECT_STATE_ROW_BYTES];

	ASSERT(object_state_row_flaw(row) == NULL);
	le64_put(value + 1, row->size_bytes);
	le64_put(value + 9, (uint64_t)row->mtime_ns);
	le64_put(value + 17, row->mapped_clusters);
	le64_put(value + 25, row->lsn);
	return row_append(ROW_OBJECT_STATE, value, sizeof(value), out);
}

int object_state_row_decode(const uint8_t *in, size_t len_bytes, struct object_state_row *ret_row,
			    struct err *e)
{
	struct object_state_row row;
	const char *flaw;
	int r;

	r = row_check_fixed(ROW_OBJECT_STATE, in, len_bytes, OBJECT_STATE_ROW_BYTES, "object state",
			    e);
	if (r < 0)
		return r;
	row = (struct object_state_row){
		.size_bytes = le64_get(in + 1),
		.mtime_ns = (int64_t)le64_get(in + 9),
		.mapped_clusters = le64_get(in + 17),
		.lsn = le64_get(in + 25),
	};
	flaw = object_state_row_flaw(&row);
	if (flaw != NULL)
		return row_refuse("object state", flaw, e);
	*ret_row = row;
	return 0;
}

/* --- Changed areas ----------------------------------------------------------------------------- */

#define CHANGED_ROW_BYTES ROW_BYTES(8u)

int changed_row_encode(const struct changed_row *row, struct buf *out)
{
	uint8_t value[CHANGED_ROW_BYTES];

	le64_put(value + 1, row->root);
	return row_append(ROW_CHANGED, value, sizeof(value), out);
}

int changed_row_decode(const uint8_t *in, size_t len_bytes, struct changed_row *ret_row,
		       struct err *e)
{
	int r;

	r = row_check_fixed(ROW_CHANGED, in, len_bytes, CHANGED_ROW_BYTES, "changed area", e);
	if (r == 0)
		ret_row->root = le64_get(in + 1);
	return r;
}

/* --- SCO --------------------------------------------------------------------------------------- */

#define SCO_ROW_BYTES ROW_BYTES(70u)

static const char *sco_row_flaw(const struct sco_row *row)
{
	if (row->state != SCO_OPEN && row->state != SCO_SEALED)
		return "unknown state";
	if (row->flags & ~(unsigned int)(SCO_UPLOADED | SCO_LINKED))
		return "unknown flags";
	if (row->slot_count > SCO_SLOTS_MAX || row->live_slots > SCO_SLOTS_MAX)
		return "number of slots out of range";
	if (!lsn_range_is_sound(row->first_lsn, row->last_lsn))
		return "first and last LSN do not fit together";
	return NULL;
}

int sco_row_encode(const struct sco_row *row, struct buf *out)
{
	uint8_t value[SCO_ROW_BYTES];

	ASSERT(sco_row_flaw(row) == NULL);
	value[1] = row->state;
	value[2] = row->flags;
	le32_put(value + 3, row->version);
	le32_put(value + 7, row->cache_dir);
	le32_put(value + 11, row->slot_count);
	le32_put(value + 15, row->live_slots);
	le64_put(value + 19, row->epoch);
	le64_put(value + 27, row->salt);
	le64_put(value + 35, row->object_epoch);
	le64_put(value + 43, row->file_bytes);
	le32_put(value + 51, row->footer_crc);
	le64_put(value + 55, row->first_lsn);
	le64_put(value + 63, row->last_lsn);
	return row_append(ROW_SCO, value, sizeof(value), out);
}

int sco_row_decode(const uint8_t *in, size_t len_bytes, struct sco_row *ret_row, struct err *e)
{
	struct sco_row row;
	const char *flaw;
	int r;

	r = row_check_fixed(ROW_SCO, in, len_bytes, SCO_ROW_BYTES, "SCO", e);
	if (r < 0)
		return r;
	row = (struct sco_row){
		.state = in[1],
		.flags = in[2],
		.version = le32_get(in + 3),
		.cache_dir = le32_get(in + 7),
		.slot_count = le32_get(in + 11),
		.live_slots = le32_get(in + 15),
		.epoch = le64_get(in + 19),
		.salt = le64_get(in + 27),
		.object_epoch = le64_get(in + 35),
		.file_bytes = le64_get(in + 43),
		.footer_crc = le32_get(in + 51),
		.first_lsn = le64_get(in + 55),
		.last_lsn = le64_get(in + 63),
	};
	flaw = sco_row_flaw(&row);
	if (flaw != NULL)
		return row_refuse("SCO", flaw, e);
	*ret_row = row;
	return 0;
}

/* --- Condemned --------------------------------------------------------------------------------- */

/* Older than the frame of the others: no version, and the kind is where the checksum begins. */
int condemned_row_encode(const char *name, struct buf *out)
{
	uint8_t value[OBJECT_NAME_MAX + CRC_BYTES];
	const size_t len = strlen(name);

	ASSERT(name_is_sound(name));
	memcpy(value, name, len);
	le32_put(value + len, crc32c(ROW_CONDEMNED, name, len));
	return buf_append(out, value, len + CRC_BYTES);
}

int condemned_row_decode(const uint8_t *in, size_t len_bytes, char ret_name[OBJECT_NAME_MAX + 1],
			 struct err *e)
{
	char name[OBJECT_NAME_MAX + 1] = { 0 };
	size_t len;

	if (len_bytes <= CRC_BYTES || len_bytes > OBJECT_NAME_MAX + CRC_BYTES)
		return err_set(e, -EUCLEAN, "row of a condemned object: %zu bytes long", len_bytes);
	len = len_bytes - CRC_BYTES;
	if (crc32c(ROW_CONDEMNED, in, len) != le32_get(in + len))
		return err_set(e, -EBADMSG, "row of a condemned object: bad checksum");
	memcpy(name, in, len);
	/* A NUL in it would make it another object's. */
	if (strlen(name) != len || !name_is_sound(name))
		return err_set(e, -EUCLEAN, "row of a condemned object: bad name");
	memcpy(ret_name, name, sizeof(name));
	return 0;
}
