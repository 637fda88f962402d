/*
 * One wrong field under a right checksum: each check of a decoder has a case that only it refuses,
 * and the largest value that it lets pass.
 */
#include <check.h>
#include <stdlib.h>

#include "format_random.h"

#define BOOT_ID "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
#define SALT	UINT64_C(3)

/* --- Sound structures to spoil ----------------------------------------------------------------- */

static uint8_t bytes[BLOCK_BYTES];
static size_t len_bytes;

static void take(struct buf *b)
{
	ck_assert_uint_le(b->len_bytes, sizeof(bytes));
	memcpy(bytes, b->data, b->len_bytes);
	len_bytes = b->len_bytes;
	buf_done(b);
}

#define SUBJECT_BLOCK(name, ...)                                                                   \
	static void name##_make(void)                                                              \
	{                                                                                          \
		const struct name value = { __VA_ARGS__ };                                         \
		name##_encode(&value, bytes);                                                      \
		len_bytes = BLOCK_BYTES;                                                           \
	}                                                                                          \
	static int name##_try(struct err *e)                                                       \
	{                                                                                          \
		struct name value;                                                                 \
		reseal_head(bytes, len_bytes);                                                     \
		return name##_decode(bytes, &value, e);                                            \
	}
SUBJECT_BLOCK(sco_header, .stream = 16, .slots_max = 32, .sco = 1)
SUBJECT_BLOCK(sco_footer, .stream = 16, .slot_count = 10, .sco = 1, .table_offset_bytes = 40960,
	      .table_chunks = 1, .log_offset_bytes = 45056, .file_bytes = 49152 + 56,
	      .log_entries = 1, .first_lsn = 1, .last_lsn = 1)
SUBJECT_BLOCK(ring_header, .boot_id = BOOT_ID, .frame_bytes = 8192, .frame_count = 1,
	      .ring_bytes = 12288)

static void ring_record_make(void)
{
	const struct ring_record value = { .boot_id = BOOT_ID, .path = "/x" };

	ring_record_encode(&value, bytes);
	len_bytes = RING_RECORD_BYTES;
}
static int ring_record_try(struct err *e)
{
	struct ring_record value;

	reseal_head(bytes, len_bytes);
	return ring_record_decode(bytes, len_bytes, &value, e);
}

static void cache_label_make(void)
{
	const struct cache_label value = { .index = 1 };

	cache_label_encode(&value, bytes);
	len_bytes = CACHE_LABEL_BYTES;
}
static int cache_label_try(struct err *e)
{
	struct cache_label value;

	reseal_head(bytes, len_bytes);
	return cache_label_decode(bytes, len_bytes, &value, e);
}

static void cache_map_header_make(void)
{
	const struct cache_map_header value = { .index = 1 };

	cache_map_header_encode(&value, bytes);
	len_bytes = BLOCK_BYTES;
}
static int cache_map_header_try(struct err *e)
{
	struct cache_map_header value;

	reseal_head(bytes, len_bytes);
	return cache_map_header_decode(bytes, &value, e);
}

#define MAP_SLOT 7u
static void cache_map_entry_make(void)
{
	const struct cache_map_entry value = { .sco = 1, .present = 1, .kind = CACHE_MAP_CHUNK };

	cache_map_entry_encode(&value, MAP_SLOT, bytes);
	len_bytes = CACHE_MAP_ENTRY_BYTES;
}
static void cache_map_bare_make(void)
{
	const struct cache_map_entry value = { .kind = CACHE_MAP_BARE };

	cache_map_entry_encode(&value, MAP_SLOT, bytes);
	len_bytes = CACHE_MAP_ENTRY_BYTES;
}
static int cache_map_entry_try(struct err *e)
{
	struct cache_map_entry value;

	le32_put(bytes, crc32c(MAP_SLOT, bytes + 4, CACHE_MAP_ENTRY_BYTES - 4));
	return cache_map_entry_decode(bytes, MAP_SLOT, &value, e);
}
#define cache_map_bare_try cache_map_entry_try

static uint32_t chunk_number;
static void slot_chunk_make(void)
{
	const struct slot_record records[] = {
		{ .kind = SLOT_META },
		{ .kind = SLOT_RAW, .stored_bytes = 4096, .arg = 4096 },
		{ .kind = SLOT_LZ4, .stored_bytes = 1, .arg = 8192 },
		{ .kind = SLOT_REF, .arg = UINT64_C(1) << 16 | 1 },
		{ .kind = SLOT_DEAD },
	};

	slot_chunk_encode(0, SALT, records, ARRAY_SIZE(records), bytes);
	len_bytes = BLOCK_BYTES;
	chunk_number = 0;
}
static int slot_chunk_try(struct err *e)
{
	struct slot_record records[SLOTS_PER_CHUNK];
	unsigned int count;

	le32_put(bytes + 8, reseal_hole_crc((uint32_t)SALT, bytes, BLOCK_BYTES, 8));
	return slot_chunk_decode(bytes, chunk_number, SALT, records, &count, e);
}
/* The last chunk that a SCO can have: exactly full. */
static void last_chunk_make(void)
{
	slot_chunk_make();
	chunk_number = SCO_SLOTS_MAX / SLOTS_PER_CHUNK - 1;
	le32_put(bytes + 4, chunk_number);
}

static void log_entry_make(void)
{
	const struct log_entry value = { .lsn = 1, .object = 16, .kind = ENTRY_ATTR };

	log_entry_encode(&value, bytes);
	len_bytes = BATCH_ENTRY_BYTES;
}
static int log_entry_try(struct err *e)
{
	struct log_entry value;

	return log_entry_decode(bytes, &value, e);
}

#define SUBJECT_ROW(name, kind, done, ...)                                                         \
	static void name##_make(void)                                                              \
	{                                                                                          \
		const struct name value = { __VA_ARGS__ };                                         \
		struct buf b;                                                                      \
		buf_init(&b, sizeof(bytes));                                                       \
		ck_assert_int_eq(name##_encode(&value, &b), 0);                                    \
		take(&b);                                                                          \
	}                                                                                          \
	static int name##_try(struct err *e)                                                       \
	{                                                                                          \
		struct name value;                                                                 \
		int r;                                                                             \
		reseal_row(bytes, len_bytes, kind);                                                \
		r = name##_decode(bytes, len_bytes, &value, e);                                    \
		if (r == 0)                                                                        \
			done(&value);                                                              \
		return r;                                                                          \
	}
#define NOTHING(value) ((void)(value))
static struct object_origin origin = { .stream = 16 };
SUBJECT_ROW(pool_row, ROW_POOL, NOTHING, .sco_bytes = 1 << 20)
SUBJECT_ROW(stream_row, ROW_STREAM, NOTHING, .class = OBJECT_DISK)
SUBJECT_ROW(checkpoint_row, ROW_CHECKPOINT, NOTHING, .lsn = 1)
SUBJECT_ROW(object_row, ROW_OBJECT, object_row_done, .class = OBJECT_DISK, .origin_count = 1,
	    .origins = &origin)
SUBJECT_ROW(layer_row, ROW_LAYER, NOTHING, .state = LAYER_LIVE)
SUBJECT_ROW(object_state_row, ROW_OBJECT_STATE, NOTHING, .lsn = 1)
SUBJECT_ROW(sco_row, ROW_SCO, NOTHING, .state = SCO_OPEN)
SUBJECT_ROW(snapshot_row, ROW_SNAPSHOT, NOTHING, .layer = 1, .name_bytes = 1, .name = "n",
	    .comment_bytes = 1, .comment = "c")
static void condemned_row_make(void)
{
	struct buf b;

	buf_init(&b, sizeof(bytes));
	ck_assert_int_eq(condemned_row_encode("a/b", &b), 0);
	take(&b);
}
static int condemned_row_try(struct err *e)
{
	char name[OBJECT_NAME_MAX + 1];

	le32_put(bytes + len_bytes - 4, crc32c('X', bytes, len_bytes - 4));
	return condemned_row_decode(bytes, len_bytes, name, e);
}
SUBJECT_ROW(pack_row, ROW_PACK, NOTHING, .len_bytes = 10, .directory_bytes = 10, .member_count = 1)
SUBJECT_ROW(pack_member, ROW_PACK, NOTHING, .object = { .name = "m" })

SUBJECT_ROW(map_piece, ROW_MAP_PIECE, NOTHING, .object = { .name = "m" })

static const uint8_t page[1];
SUBJECT_ROW(resolved_row, ROW_RESOLVED, NOTHING, .sequence = 1, .page = page, .page_bytes = 1)
SUBJECT_ROW(moved_row, ROW_MOVED, NOTHING, .sequence = 1)

#define SUBJECT_OBJECT(name, ...)                                                                  \
	static void name##_make(void)                                                              \
	{                                                                                          \
		const struct name value = { __VA_ARGS__ };                                         \
		struct buf b;                                                                      \
		buf_init(&b, sizeof(bytes));                                                       \
		ck_assert_int_eq(name##_encode(&value, &b), 0);                                    \
		take(&b);                                                                          \
	}                                                                                          \
	static int name##_try(struct err *e)                                                       \
	{                                                                                          \
		struct name value;                                                                 \
		int r;                                                                             \
		reseal_tail(bytes, len_bytes);                                                     \
		r = name##_decode(bytes, len_bytes, &value, e);                                    \
		if (r == 0)                                                                        \
			name##_done(&value);                                                       \
		return r;                                                                          \
	}
static struct manifest_sco manifest_sco = { .sco = 1, .slot_count = 1 };
static struct root_stream root_stream = { .stream = 16, .manifest = { .name = "m" } };
static char condemned[1][OBJECT_NAME_MAX + 1] = { "c" };
SUBJECT_OBJECT(manifest, .stream = 16, .sco_count = 1, .scos = &manifest_sco)
SUBJECT_OBJECT(root, .ns = { .name = "n" }, .stream_count = 1, .streams = &root_stream,
	       .condemned_count = 1, .condemned = condemned)

static struct root_pack root_pack = { .object = { "p", 10, 0 }, .directory_bytes = 10 };
static void packed_root_make(void)
{
	const struct root value = {
		.features.incompat = FEATURE_PACKS,
		.ns = { .name = "n" },
		.pack_count = 1,
		.packs = &root_pack,
	};
	struct buf b;

	buf_init(&b, sizeof(bytes));
	ck_assert_int_eq(root_encode(&value, &b), 0);
	take(&b);
}
#define packed_root_try root_try

#define PACK_END_BYTES 12u
static void pack_directory_make(void)
{
	struct pack_member members[] = { { 0, { "m", 10, 0 } }, { 10, { "n", 2, 0 } } };
	const struct pack_directory value = { .member_count = 2, .members = members };
	struct buf b;

	buf_init(&b, sizeof(bytes));
	ck_assert_int_eq(pack_directory_encode(&value, &b), 0);
	take(&b);
}
static int pack_directory_try(struct err *e)
{
	struct pack_directory value;
	int r;

	reseal_tail(bytes, len_bytes);
	r = pack_directory_decode(bytes, len_bytes, PACK_END_BYTES, &value, e);
	if (r == 0)
		pack_directory_done(&value);
	return r;
}

static int row_ignore(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		      size_t value_bytes)
{
	(void)arg, (void)key, (void)key_bytes, (void)value, (void)value_bytes;
	return 0;
}
static void rows_make(enum rows_image_kind kind, uint32_t stream)
{
	const struct rows_image_header h = { .kind = kind, .stream = stream };
	struct buf b;

	buf_init(&b, sizeof(bytes));
	ck_assert_int_eq(rows_image_begin(&h, &b), 0);
	ck_assert_int_eq(rows_image_add(&b, (const uint8_t *)"key", 3, NULL, 0), 0);
	ck_assert_int_eq(rows_image_end(&b), 0);
	take(&b);
}
static void rows_map_make(void)
{
	rows_make(ROWS_MAP, 16);
}
static void rows_namespace_make(void)
{
	rows_make(ROWS_NAMESPACE, 0);
}
static int rows_try(struct err *e)
{
	struct rows_image_header h;

	reseal_tail(bytes, len_bytes);
	return rows_image_decode(bytes, len_bytes, &h, row_ignore, NULL, e);
}
#define rows_map_try	   rows_try
#define rows_namespace_try rows_try
#define last_chunk_try	   slot_chunk_try

/* --- Cases ------------------------------------------------------------------------------------- */

struct spoilt {
	void (*make)(void);
	int (*try)(struct err *e);
	size_t at;
	unsigned int width_bytes;
	uint64_t value;
	const char *what; /* of the message; NULL: taken */
};
#define CASE(name, at, width, value, what)                                                         \
	{                                                                                          \
		name##_make, name##_try, at, width, value, what                                    \
	}
#define ZERO_REST "unused"
#define NO_NUMBER "SCO number"

static const struct spoilt cases[] = {
	CASE(sco_header, 56, 4, 0, "stream 0"),
	CASE(sco_header, 60, 4, SCO_SLOTS_MIN - 1, "number of slots"),
	CASE(sco_header, 60, 4, SCO_SLOTS_MAX + 1, "number of slots"),
	CASE(sco_header, 60, 4, SCO_SLOTS_MAX, NULL),
	CASE(sco_header, 64, 8, 0, NO_NUMBER),
	CASE(sco_header, 64, 8, SCO_NUMBER_MAX + 1, NO_NUMBER),
	CASE(sco_header, 64, 8, SCO_NUMBER_MAX, NULL),
	CASE(sco_header, 76, 4, 4, "unknown flags"),
	CASE(sco_header, 76, 4, 3, NULL),
	CASE(sco_header, 104, 8, 1, "a cut"),
	CASE(sco_header, 112, 4, 1, "a cut"),
	CASE(sco_header, 120, 8, 1, "a cut"),
	CASE(sco_header, 116, 4, 1, ZERO_REST),
	CASE(sco_header, 128, 1, 1, ZERO_REST),
	CASE(sco_header, 4095, 1, 1, ZERO_REST),

	CASE(sco_footer, 56, 4, 0, "stream 0"),
	CASE(sco_footer, 60, 4, 0, "number of slots"),
	CASE(sco_footer, 60, 4, SCO_SLOTS_MAX + 1, "number of slots"),
	CASE(sco_footer, 60, 4, 255, NULL),
	CASE(sco_footer, 60, 4, 256, "slot table"),
	CASE(sco_footer, 64, 8, 0, NO_NUMBER),
	CASE(sco_footer, 64, 8, SCO_NUMBER_MAX + 1, NO_NUMBER),
	CASE(sco_footer, 76, 4, 2, "slot table"),
	CASE(sco_footer, 96, 8, 0, "first and last"),
	CASE(sco_footer, 96, 8, 2, "first and last"),
	CASE(sco_footer, 104, 8, 0, "first and last"),
	CASE(sco_footer, 112, 8, 4095, "overlaps the header"),
	CASE(sco_footer, 112, 8, 4096, NULL),
	CASE(sco_footer, 112, 8, 40961, "table overlaps the log"),
	CASE(sco_footer, 112, 8, UINT64_MAX - 4096, "an offset"),
	CASE(sco_footer, 124, 4, 0, NULL),
	CASE(sco_footer, 124, 4, 2, "log overlaps the footer"),
	CASE(sco_footer, 124, 4, SCO_SLOTS_MAX *BATCH_ENTRIES_MAX + 1, "more log entries"),
	CASE(sco_footer, 128, 8, 45057, "log overlaps the footer"),
	CASE(sco_footer, 128, 8, UINT64_MAX - 4096, "an offset"),
	CASE(sco_footer, 140, 4, 9, NULL),
	CASE(sco_footer, 140, 4, 10, "more batches"),
	CASE(sco_footer, 144, 8, 49152 + 55, "log overlaps the footer"),
	CASE(sco_footer, 144, 8, OBJECT_BYTES_MAX, NULL),
	CASE(sco_footer, 144, 8, OBJECT_BYTES_MAX + 1, "an offset"),
	CASE(sco_footer, 160, 1, 1, ZERO_REST),
	CASE(sco_footer, 4095, 1, 1, ZERO_REST),

	CASE(ring_header, 56, 1, 0, "boot id"),
	CASE(ring_header, 91, 1, ' ', "boot id"),
	CASE(ring_header, 91, 1, 0x7f, "boot id"),
	CASE(ring_header, 91, 1, 0xe4, "boot id"),
	CASE(ring_header, 92, 4, 1, ZERO_REST),
	CASE(ring_header, 112, 8, 12289, "do not fill"),
	CASE(ring_header, 112, 8, 8192, "do not fill"),
	CASE(ring_header, 120, 4, 4096, "size of a frame"),
	CASE(ring_header, 120, 4, 8193, "size of a frame"),
	CASE(ring_header, 124, 4, 0, "no frame"),
	CASE(ring_header, 124, 4, 2, "do not fill"),
	CASE(ring_header, 152, 1, 1, ZERO_REST),
	CASE(ring_header, 4095, 1, 1, ZERO_REST),

	CASE(ring_record, 52, 1, 1, NULL),
	CASE(ring_record, 52, 1, 2, ZERO_REST),
	CASE(ring_record, 53, 1, 1, ZERO_REST),
	CASE(ring_record, 56, 1, 0, "boot id"),
	CASE(ring_record, 92, 1, 1, ZERO_REST),
	CASE(ring_record, 96, 1, 0, "path"),
	CASE(ring_record, 99, 1, 1, ZERO_REST),
	CASE(ring_record, 351, 1, 1, ZERO_REST),
	CASE(ring_record, 511, 1, 1, ZERO_REST),

	CASE(cache_label, 60, 1, 1, ZERO_REST),
	CASE(cache_label, 72, 1, 1, ZERO_REST),
	CASE(cache_label, 127, 1, 1, ZERO_REST),

	CASE(cache_map_header, 60, 4, CACHE_MAP_SLOTS_MAX, NULL),
	CASE(cache_map_header, 60, 4, CACHE_MAP_SLOTS_MAX + 1, "slots"),
	CASE(cache_map_header, 64, 1, 1, ZERO_REST),
	CASE(cache_map_header, 4095, 1, 1, ZERO_REST),
	CASE(cache_map_entry, 8, 8, 0, "impossible chunk"),
	CASE(cache_map_entry, 8, 8, SCO_NUMBER_MAX, NULL),
	CASE(cache_map_entry, 8, 8, SCO_NUMBER_MAX + 1, "impossible chunk"),
	CASE(cache_map_entry, 16, 4, CACHE_MAP_CHUNK_MAX, NULL),
	CASE(cache_map_entry, 16, 4, CACHE_MAP_CHUNK_MAX + 1, "impossible chunk"),
	CASE(cache_map_entry, 20, 2, 0, "without bytes"),
	CASE(cache_map_entry, 22, 1, 0, "unknown kind"),
	CASE(cache_map_entry, 22, 1, CACHE_MAP_BARE, "bare slot"),
	CASE(cache_map_entry, 23, 1, 2, "place in the queue"),
	CASE(cache_map_entry, 24, 1, 3, NULL),
	CASE(cache_map_entry, 24, 1, 4, "place in the queue"),
	CASE(cache_map_entry, 25, 1, 1, ZERO_REST),
	CASE(cache_map_entry, 31, 1, 1, ZERO_REST),
	CASE(cache_map_bare, 4, 4, 1, "bare slot"),
	CASE(cache_map_bare, 16, 4, 1, "bare slot"),
	CASE(cache_map_bare, 20, 2, 1, "bare slot"),
	CASE(cache_map_bare, 23, 1, 1, "bare slot"),
	CASE(cache_map_bare, 24, 1, 1, "bare slot"),
	CASE(cache_map_bare, 25, 1, 1, ZERO_REST),

	/* Records of 16 bytes from 16 on: META, RAW, LZ4, REF, DEAD; the sixth is unused. */
	CASE(slot_chunk, 4, 4, 1, "chunk 1 where 0"),
	CASE(slot_chunk, 12, 4, 0, "number of slots"),
	CASE(slot_chunk, 12, 4, 256, "number of slots"),
	CASE(slot_chunk, 12, 4, 255, NULL),
	CASE(slot_chunk, 12, 4, 4, NULL), /* the last is DEAD: all zero anyway */
	CASE(slot_chunk, 12, 4, 3, ZERO_REST),
	CASE(slot_chunk, 16, 1, 5, "unknown kind"),
	CASE(slot_chunk, 17, 1, 1, "unused byte"),
	CASE(slot_chunk, 18, 2, 1, "has fields"),
	CASE(slot_chunk, 20, 4, 1, "has fields"),
	CASE(slot_chunk, 24, 8, 1, "has fields"),
	CASE(slot_chunk, 34, 2, 4095, "raw slot"),
	CASE(slot_chunk, 40, 8, OBJECT_BYTES_MAX + 1, "raw slot"),
	CASE(slot_chunk, 40, 8, OBJECT_BYTES_MAX, NULL),
	CASE(slot_chunk, 50, 2, 0, "compressed slot"),
	CASE(slot_chunk, 50, 2, 4096, "compressed slot"),
	CASE(slot_chunk, 50, 2, 4095, NULL),
	CASE(slot_chunk, 56, 8, OBJECT_BYTES_MAX + 1, "compressed slot"),
	CASE(slot_chunk, 66, 2, 1, "refers to"),
	CASE(slot_chunk, 72, 8, LOC_ZERO, "refers to"),
	CASE(slot_chunk, 72, 8, UINT64_C(1) << 16, "refers to"),
	CASE(slot_chunk, 82, 2, 1, "has fields"),
	CASE(slot_chunk, 96, 1, 1, ZERO_REST),
	CASE(slot_chunk, 4095, 1, 1, ZERO_REST),
	CASE(last_chunk, 12, 4, SLOTS_PER_CHUNK, NULL),

	CASE(log_entry, 46, 1, ENTRY_NONE, "unknown kind"),
	CASE(log_entry, 48, 1, 1, ZERO_REST),
	CASE(log_entry, 55, 1, 1, ZERO_REST),

	CASE(pool_row, 57, 4, SCO_SLOTS_MIN * 4096 - 4096, "size of a SCO"),
	CASE(pool_row, 57, 4, SCO_SLOTS_MIN * 4096, NULL),
	CASE(pool_row, 57, 4, SCO_SLOTS_MIN * 4096 + 1, "size of a SCO"),
	CASE(pool_row, 57, 4, 256u << 20, NULL),
	CASE(pool_row, 57, 4, (256u << 20) + 4096, "size of a SCO"),
	CASE(stream_row, 1, 4, 0, "unknown class"),
	CASE(stream_row, 1, 4, 3, "unknown class"),
	CASE(checkpoint_row, 9, 8, SCO_NUMBER_MAX + 1, NULL),
	CASE(checkpoint_row, 9, 8, SCO_NUMBER_MAX + 2, NO_NUMBER),
	CASE(checkpoint_row, 17, 1, 2, "neither"),
	CASE(object_row, 1, 4, 0, "unknown class"),
	CASE(object_row, 5, 4, 1, NULL),
	CASE(object_row, 5, 4, 2, "unknown flags"),
	CASE(object_row, 25, 4, 0, "origins out of range"),
	CASE(object_row, 25, 4, 2, "its length"),
	CASE(object_row, 25, 4, OBJECT_ORIGINS_MAX + 1, "origins out of range"),
	CASE(object_row, 29, 4, 0, "stream 0"),
	CASE(layer_row, 1, 1, 0, "unknown state"),
	CASE(layer_row, 1, 1, 4, "unknown state"),
	CASE(layer_row, 26, 4, LOC_ORIGIN_MAX, NULL),
	CASE(layer_row, 26, 4, LOC_ORIGIN_MAX + 1, "base of"),
	CASE(object_state_row, 1, 8, OBJECT_BYTES_MAX, NULL),
	CASE(object_state_row, 1, 8, OBJECT_BYTES_MAX + 1, "size"),
	CASE(object_state_row, 17, 8, CLUSTER_MAX + 1, "more clusters"),
	CASE(sco_row, 1, 1, 0, "unknown state"),
	CASE(sco_row, 1, 1, 3, "unknown state"),
	CASE(sco_row, 2, 1, 4, "unknown flags"),
	CASE(sco_row, 11, 4, SCO_SLOTS_MAX, NULL),
	CASE(sco_row, 11, 4, SCO_SLOTS_MAX + 1, "number of slots"),
	CASE(sco_row, 15, 4, SCO_SLOTS_MAX + 1, "number of slots"),
	CASE(sco_row, 55, 8, 1, "first and last"),
	CASE(sco_row, 63, 8, 1, "first and last"),
	CASE(condemned_row, 0, 1, 0, "bad name"),
	CASE(condemned_row, 0, 1, '.', "bad name"),
	CASE(condemned_row, 1, 1, 0, "bad name"), /* that would be "a" */
	CASE(condemned_row, 2, 1, '/', "bad name"),
	CASE(condemned_row, 2, 1, ' ', "bad name"),
	CASE(condemned_row, 2, 1, 'c', NULL),
	/* Name at 42, comment at 43. */
	CASE(snapshot_row, 1, 8, 0, "no layer"),
	CASE(snapshot_row, 17, 8, OBJECT_BYTES_MAX, NULL),
	CASE(snapshot_row, 17, 8, OBJECT_BYTES_MAX + 1, "size"),
	CASE(snapshot_row, 33, 4, SNAPSHOT_STICKY, NULL),
	CASE(snapshot_row, 33, 4, 2, "unknown flags"),
	CASE(snapshot_row, 37, 1, 0, "does not fit"),
	CASE(snapshot_row, 37, 1, 2, "does not fit"),
	CASE(snapshot_row, 37, 5, 2, NULL), /* the name has it all, the comment nothing */
	CASE(snapshot_row, 37, 5, 2 << 8, "bad name"),
	CASE(snapshot_row, 38, 4, 2, "does not fit"),
	CASE(snapshot_row, 38, 4, UINT32_MAX, "does not fit"),
	CASE(snapshot_row, 42, 1, 0, "bad name"),
	CASE(snapshot_row, 42, 1, '/', "bad name"),
	CASE(snapshot_row, 42, 1, '.', "bad name"),
	CASE(snapshot_row, 43, 1, 0, "bad comment"),
	CASE(pack_row, 1, 8, 9, "does not fit"),
	CASE(pack_row, 9, 4, 11, "does not fit"),
	CASE(pack_row, 9, 4, 0, NULL),
	CASE(pack_row, 13, 4, 0, "members out of range"),
	CASE(pack_row, 13, 4, PACK_MEMBERS_MAX, NULL),
	CASE(pack_row, 13, 4, PACK_MEMBERS_MAX + 1, "members out of range"),
	CASE(pack_member, 1, 8, UINT64_MAX, NULL),
	CASE(pack_member, 9, 1, 0, "bad name"),
	CASE(pack_member, 9, 1, 2, "bad name"),
	CASE(pack_member, 10, 1, '/', "bad name"),

	/* The map's empty name and its tail take 72..84, the SCO begins at 85. */
	CASE(manifest, 32, 4, 0, "stream 0"),
	CASE(manifest, 36, 4, 1, ZERO_REST),
	CASE(manifest, 64, 8, 1, "an LSN of a map"),
	CASE(manifest, 73, 8, 1, "name of a map"),
	CASE(manifest, 81, 4, 1, "name of a map"),
	CASE(manifest, 85, 8, 0, NO_NUMBER),
	CASE(manifest, 85, 8, SCO_NUMBER_MAX + 1, NO_NUMBER),
	CASE(manifest, 97, 4, 0, "number of slots"),
	CASE(manifest, 97, 4, SCO_SLOTS_MAX + 1, "number of slots"),
	CASE(manifest, 121, 4, 1, ZERO_REST),
	CASE(manifest, 125, 8, 1, "first and last"),

	/* "n" and its tail take 88..101, stream and "m" 102..119, "c" 120..121. */
	CASE(root, 12, 4, 1, ZERO_REST),
	CASE(root, 84, 4, 0, "behind its last name"),
	CASE(root, 88, 1, 0, "name of the namespace"),
	CASE(root, 88, 1, 128, "name of the namespace"),
	CASE(root, 102, 4, 0, "out of order"),
	CASE(root, 106, 1, 0, "name of a manifest"),
	CASE(root, 106, 1, 100, "name of a manifest"),
	CASE(root, 120, 1, 0, "condemned name"),
	CASE(root, 120, 1, 2, "condemned name"),

	/* "n" and its tail take 88..101, "p" and its tail 102..115, the directory's length 116..119. */
	CASE(packed_root, 12, 4, 0, "without the feature"),
	CASE(packed_root, 12, 4, 2, "packs do not fit"),
	CASE(packed_root, 102, 1, 0, "name of a pack"),
	CASE(packed_root, 103, 1, '/', "name of a pack"),
	CASE(packed_root, 104, 8, 9, "does not fit"),
	CASE(packed_root, 112, 4, 1, "does not fit"),
	CASE(packed_root, 116, 4, 9, NULL),
	CASE(packed_root, 116, 4, 11, "does not fit"),

	/* Members of 22 bytes from 48 on: offset, name, length, CRC. */
	CASE(pack_directory, 12, 4, 0, "do not fit in it"),
	CASE(pack_directory, 12, 4, 1, "do not fill"),
	CASE(pack_directory, 12, 4, 3, "do not fit in it"),
	CASE(pack_directory, 12, 4, UINT32_MAX, "do not fit in it"),
	CASE(pack_directory, 48, 8, 1, "do not fill"),
	CASE(pack_directory, 56, 1, 0, "do not fill"),
	CASE(pack_directory, 57, 1, '/', "do not fill"),
	CASE(pack_directory, 58, 8, PACK_END_BYTES + 1, "do not fill"),
	CASE(pack_directory, 58, 8, UINT64_MAX, "do not fill"),
	CASE(pack_directory, 70, 8, 9, "do not fill"),
	CASE(pack_directory, 80, 8, 1, "do not fill"),
	CASE(pack_directory, 80, 8, UINT64_MAX - 9, "do not fill"),

	CASE(resolved_row, 1, 8, 0, "no checkpoint"),
	CASE(resolved_row, 9, 4, 2, "does not fill"),
	CASE(resolved_row, 9, 4, RESOLVED_PAGE_BYTES_MAX + 1, "longer than a page"),

	CASE(map_piece, 5, 1, 0, "bad name"),
	CASE(map_piece, 5, 1, 2, "bad name"),
	CASE(map_piece, 6, 1, '/', "bad name"),
	CASE(map_piece, 7, 8, UINT64_MAX, NULL),

	/* One row: head at 64, the key "key", no value. */
	CASE(rows_map, 12, 4, 3, NULL),
	CASE(rows_map, 12, 4, 4, "unknown kind"),
	CASE(rows_map, 12, 4, ROWS_NAMESPACE, "a namespace of"),
	CASE(rows_map, 32, 4, 0, "a map of no stream"),
	CASE(rows_map, 36, 4, 1, ZERO_REST),
	CASE(rows_map, 56, 8, 0, "do not fill"),
	CASE(rows_map, 56, 8, 2, "do not fill"),
	CASE(rows_map, 56, 8, UINT64_MAX, "do not fill"),
	CASE(rows_map, 64, 2, 0, "do not fill"),
	CASE(rows_map, 64, 2, 2, "do not fill"),
	CASE(rows_map, 64, 2, 4, "do not fill"),
	CASE(rows_map, 64, 2, ROW_KEY_BYTES_MAX + 1, "do not fill"),
	CASE(rows_map, 66, 2, 1, "do not fill"),
	CASE(rows_map, 68, 4, 1, "do not fill"),
	CASE(rows_map, 68, 4, UINT32_MAX, "do not fill"),
	CASE(rows_namespace, 48, 8, 1, "a namespace of"),
};

START_TEST(a_wrong_field_is_refused_and_its_largest_right_value_taken)
{
	const struct spoilt *c = &cases[_i];
	uint8_t value[8];
	struct err e = { 0 };
	int r;

	c->make();
	r = c->try(&e);
	ck_assert_msg(r == 0, "unspoilt: %s", e.message);
	c->make();
	le64_put(value, c->value);
	ck_assert_uint_le(c->at + c->width_bytes, len_bytes);
	memcpy(bytes + c->at, value, c->width_bytes);
	r = c->try(&e);
	if (c->what == NULL) {
		ck_assert_msg(r == 0, "refused: %s", e.message);
		return;
	}
	ck_assert_msg(r == -EUCLEAN, "%" PRIu64 " at %zu gives %d instead of '%s'", c->value, c->at,
		      r, c->what);
	ck_assert_msg(strstr(e.message, c->what) != NULL, "'%s' lacks '%s'", e.message, c->what);
}
END_TEST

/* Cases that take two fields. */
START_TEST(fields_that_contradict_each_other_are_refused)
{
	struct err e = { 0 };

	sco_footer_make();
	le64_put(bytes + 96, 0);
	le64_put(bytes + 104, 0);
	ck_assert_int_eq(sco_footer_try(&e), -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(e.message, "no LSN"));

	slot_chunk_make();
	chunk_number = SCO_SLOTS_MAX / SLOTS_PER_CHUNK;
	le32_put(bytes + 4, chunk_number);
	ck_assert_int_eq(slot_chunk_try(&e), -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(e.message, "slots out of range"));

	/* The row still fills the image, with all of it in the value. */
	rows_map_make();
	le16_put(bytes + 64, 0);
	le32_put(bytes + 68, 3);
	ck_assert_int_eq(rows_try(&e), -EUCLEAN);

	/* The only bad part of the name is its end: "..". */
	snapshot_row_make();
	bytes[37] = 2;
	bytes[38] = 0;
	memcpy(bytes + 42, "..", 2);
	ck_assert_int_eq(snapshot_row_try(&e), -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(e.message, "bad name"));

	sco_header_make();
	le32_put(bytes + 76, SCO_FIRST_OF_EPOCH);
	le64_put(bytes + 104, SCO_NUMBER_MAX + 1);
	ck_assert_int_eq(sco_header_try(&e), -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(e.message, "of the cut"));
}
END_TEST

/* Under a right checksum, with bytes more or less than its fields account for. */
START_TEST(what_has_another_length_than_its_fields_say_is_refused)
{
	static const struct {
		void (*make)(void);
		int (*try)(struct err *e);
		int more;
		const char *what;
	} lengths[] = {
		{ moved_row_make, moved_row_try, 1, "instead of" },
		{ moved_row_make, moved_row_try, -1, "instead of" },
		{ resolved_row_make, resolved_row_try, 1, "does not fill" },
		{ resolved_row_make, resolved_row_try, -2, "only" },
		{ map_piece_make, map_piece_try, 1, "bad name" },
		{ map_piece_make, map_piece_try, -2, "cut off" },
		{ pack_member_make, pack_member_try, 1, "bad name" },
		{ pack_member_make, pack_member_try, -2, "cut off" },
		{ pack_directory_make, pack_directory_try, 1, "do not fill" },
		{ pack_directory_make, pack_directory_try, -14, "do not fit" },
		{ snapshot_row_make, snapshot_row_try, -3, "cut off" },
		{ packed_root_make, packed_root_try, -4, "do not fit" },
		{ root_make, root_try, -2, "do not fit" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		struct err e = { 0 };

		lengths[i].make();
		memset(bytes + len_bytes, 0, 1);
		len_bytes += (size_t)(ptrdiff_t)lengths[i].more;
		ck_assert_int_eq(lengths[i].try(&e), -EUCLEAN);
		ck_assert_msg(strstr(e.message, lengths[i].what) != NULL, "%zu: '%s' lacks '%s'", i,
			      e.message, lengths[i].what);
	}
}
END_TEST

START_TEST(rows_that_no_name_or_page_can_fill_are_not_looked_at)
{
	static uint8_t zeros[OBJECT_NAME_MAX + RESOLVED_PAGE_BYTES_MAX];
	char name[OBJECT_NAME_MAX + 1];
	struct resolved_row resolved;
	struct err e = { 0 };

	ck_assert_int_eq(condemned_row_decode(zeros, 4, name, &e), -EUCLEAN);
	ck_assert_int_eq(condemned_row_decode(zeros, OBJECT_NAME_MAX + 5, name, &e), -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(e.message, "bytes long"));
	ck_assert_int_eq(resolved_row_decode(zeros, RESOLVED_PAGE_BYTES_MAX + 18, &resolved, &e),
			 -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(e.message, "bytes long"));
}
END_TEST

START_TEST(a_name_of_a_snapshot_has_a_bound_and_is_no_directory)
{
	char name[SNAPSHOT_ROW_NAME_MAX + 1];

	memset(name, 'n', sizeof(name));
	ck_assert(snapshot_name_is_sound(name, SNAPSHOT_ROW_NAME_MAX));
	ck_assert(!snapshot_name_is_sound(name, SNAPSHOT_ROW_NAME_MAX + 1));
	ck_assert(!snapshot_name_is_sound(name, 0));
	ck_assert(!snapshot_name_is_sound(".", 1));
	ck_assert(!snapshot_name_is_sound("..", 2));
	ck_assert(snapshot_name_is_sound("...", 3));
}
END_TEST

START_TEST(a_comment_has_a_bound)
{
	static char comment[SNAPSHOT_ROW_COMMENT_MAX + 1];
	uint8_t *row = malloc(SNAPSHOT_ROW_COMMENT_MAX + 64);
	struct snapshot_row value = { .layer = 1, .name_bytes = 1, .name = "n" };
	struct err e = { 0 };
	struct buf b;

	ck_assert_ptr_nonnull(row);
	memset(comment, 'c', sizeof(comment));
	value.comment = comment;
	value.comment_bytes = SNAPSHOT_ROW_COMMENT_MAX;
	buf_init(&b, SNAPSHOT_ROW_COMMENT_MAX + 64);
	ck_assert_int_eq(snapshot_row_encode(&value, &b), 0);
	ck_assert_int_eq(snapshot_row_decode(b.data, b.len_bytes, &value, &e), 0);
	/* One more, and all else fits. */
	memcpy(row, b.data, b.len_bytes);
	le32_put(row + 38, SNAPSHOT_ROW_COMMENT_MAX + 1);
	row[b.len_bytes - 4] = 'c';
	reseal_row(row, b.len_bytes + 1, ROW_SNAPSHOT);
	ck_assert_int_eq(snapshot_row_decode(row, b.len_bytes + 1, &value, &e), -EUCLEAN);
	ck_assert_ptr_nonnull(strstr(e.message, "bad comment"));
	buf_done(&b);
	free(row);
}
END_TEST

START_TEST(a_key_of_a_pack_has_an_index_that_a_pack_has)
{
	struct row_key good = pack_key(7, 9, PACK_MEMBERS_MAX);
	struct row_key bad = row_key_2u64(ROW_PACK, 7, UINT64_MAX);
	struct row_key other = row_key_2u64(ROW_SCO, 7, 9);
	uint64_t epoch, number;
	uint32_t index;

	ck_assert_int_eq(pack_key_parse(good.bytes, good.len_bytes, &epoch, &number, &index), 0);
	ck_assert(epoch == 7 && number == 9 && index == PACK_MEMBERS_MAX);
	ck_assert_int_eq(pack_key_parse(bad.bytes, bad.len_bytes, &epoch, &number, &index),
			 -EUCLEAN);
	ck_assert_int_lt(pack_key_parse(other.bytes, other.len_bytes, &epoch, &number, &index), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("format_fields");
	TCase *tc = tcase_create("fields");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(tc, a_wrong_field_is_refused_and_its_largest_right_value_taken, 0,
			    ARRAY_SIZE(cases));
	tcase_add_test(tc, what_has_another_length_than_its_fields_say_is_refused);
	tcase_add_test(tc, rows_that_no_name_or_page_can_fill_are_not_looked_at);
	tcase_add_test(tc, a_name_of_a_snapshot_has_a_bound_and_is_no_directory);
	tcase_add_test(tc, a_comment_has_a_bound);
	tcase_add_test(tc, a_key_of_a_pack_has_an_index_that_a_pack_has);
	tcase_add_test(tc, fields_that_contradict_each_other_are_refused);
	suite_add_tcase(s, tc);

	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
