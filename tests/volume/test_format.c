/* Every structure: random values survive a round trip, hostile bytes never do harm. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "format_random.h"

#define ROUNDS	       400
#define GARBAGE_ROUNDS 100000
#define SALT	       UINT64_C(0x5a17)
#define CHUNK	       3u

/* check tells its parent of each assertion that holds; too slow for the loops here. */
#define EXPECT(x, ...)                                                                             \
	do {                                                                                       \
		if (!(x))                                                                          \
			ck_abort_msg(__VA_ARGS__);                                                 \
	} while (0)

struct codec {
	const char *name;
	size_t block_bytes; /* length that its decoder takes for granted; 0: told */
	size_t version_at, version_bytes;
	size_t features_at; /* 0: none */
	void (*random)(struct rng *rng, void *value);
	int (*encode)(const void *value, struct buf *out);
	int (*decode)(const uint8_t *in, size_t len_bytes, void *ret_value, struct err *e);
	void (*done)(void *value);
	void (*reseal)(uint8_t *p, size_t len_bytes);
};

/* --- Random values ----------------------------------------------------------------------------- */

static struct features random_features(struct rng *rng)
{
	return (struct features){ .compat = rng_u64(rng) };
}

static struct uuid random_uuid(struct rng *rng)
{
	struct uuid uuid;

	rng_bytes(rng, &uuid, sizeof(uuid));
	return uuid;
}

static uint64_t random_sco(struct rng *rng)
{
	return rng_between(rng, 1, SCO_NUMBER_MAX);
}

static void random_lsns(struct rng *rng, lsn_t *ret_first, lsn_t *ret_last)
{
	*ret_first = rng_between(rng, 0, UINT64_MAX);
	*ret_last = *ret_first == 0 ? 0 : rng_between(rng, *ret_first, UINT64_MAX);
}

static void random_boot_id(struct rng *rng, char id[BOOT_ID_BYTES + 1])
{
	for (unsigned int i = 0; i < BOOT_ID_BYTES; i++)
		id[i] = (char)rng_u32(rng, '!', '~');
	id[BOOT_ID_BYTES] = '\0';
}

static void random_name(struct rng *rng, char name[OBJECT_NAME_MAX + 1])
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789-_.";
	const unsigned int len = rng_u32(rng, 1, OBJECT_NAME_MAX);

	memset(name, 0, OBJECT_NAME_MAX + 1);
	for (unsigned int i = 0; i < len; i++)
		name[i] = letters[rng_u32(rng, 0, sizeof(letters) - 2)];
	/* Dots at the front and slashes that leave no empty part, in names with room for them. */
	if (name[0] == '.')
		name[0] = 'x';
	for (unsigned int i = 2; i + 3 < len; i += 7)
		if (name[i - 1] != '.' && name[i + 1] != '.')
			name[i] = '/';
}

static void random_named(struct rng *rng, struct named_object *o)
{
	random_name(rng, o->name);
	o->len_bytes = rng_u64(rng);
	o->crc = rng_u32(rng, 0, UINT32_MAX);
}

static void sco_header_random(struct rng *rng, void *value)
{
	const bool first = rng_u64(rng) % 2 == 0;

	*(struct sco_header *)value = (struct sco_header){
		.features = random_features(rng),
		.pool = random_uuid(rng),
		.stream = rng_u32(rng, 1, UINT32_MAX),
		.slots_max = rng_u32(rng, SCO_SLOTS_MIN, SCO_SLOTS_MAX),
		.sco = random_sco(rng),
		.version = rng_u32(rng, 0, UINT32_MAX),
		.flags = first ? SCO_FIRST_OF_EPOCH : 0,
		.epoch = rng_u64(rng),
		.salt = rng_u64(rng),
		.created_ns = (int64_t)rng_u64(rng),
		.cut_sco = first ? rng_between(rng, 0, SCO_NUMBER_MAX) : 0,
		.cut_batches = first ? rng_u32(rng, 0, UINT32_MAX) : 0,
		.cut_lsn = first ? rng_u64(rng) : 0,
	};
}

static void sco_footer_random(struct rng *rng, void *value)
{
	struct sco_footer *f = value;

	*f = (struct sco_footer){
		.features = random_features(rng),
		.pool = random_uuid(rng),
		.stream = rng_u32(rng, 1, UINT32_MAX),
		.slot_count = rng_u32(rng, 1, SCO_SLOTS_MAX),
		.sco = random_sco(rng),
		.version = rng_u32(rng, 0, UINT32_MAX),
		.epoch = rng_u64(rng),
		.salt = rng_u64(rng),
		.table_offset_bytes = rng_between(rng, BLOCK_BYTES, UINT64_C(1) << 40),
		.table_crc = rng_u32(rng, 0, UINT32_MAX),
		.log_crc = rng_u32(rng, 0, UINT32_MAX),
	};
	random_lsns(rng, &f->first_lsn, &f->last_lsn);
	f->table_chunks = (uint32_t)div_up_u64(f->slot_count, SLOTS_PER_CHUNK);
	f->log_offset_bytes = f->table_offset_bytes + (uint64_t)f->table_chunks * BLOCK_BYTES +
			      rng_between(rng, 0, 10000);
	f->batch_count = rng_u32(rng, 0, f->slot_count - 1);
	f->log_entries = f->first_lsn == 0 ? 0 : rng_u32(rng, 0, SCO_SLOTS_MAX);
	f->file_bytes = f->log_offset_bytes + (uint64_t)f->log_entries * BATCH_ENTRY_BYTES +
			BLOCK_BYTES + rng_between(rng, 0, 10000);
}

static void ring_header_random(struct rng *rng, void *value)
{
	struct ring_header *h = value;

	*h = (struct ring_header){
		.features = random_features(rng),
		.pool = random_uuid(rng),
		.pool_dir_dev = rng_u64(rng),
		.pool_dir_ino = rng_u64(rng),
		.frame_bytes = rng_u32(rng, 2, 4096) * BLOCK_BYTES,
		.frame_count = rng_u32(rng, 1, UINT32_MAX),
		.epoch = rng_u64(rng),
		.nonce = rng_u64(rng),
	};
	random_boot_id(rng, h->boot_id);
	h->ring_bytes = BLOCK_BYTES + (uint64_t)h->frame_bytes * h->frame_count;
}

static void ring_record_random(struct rng *rng, void *value)
{
	struct ring_record *r = value;
	const unsigned int len = rng_u32(rng, 1, RING_PATH_MAX);

	*r = (struct ring_record){
		.pool = random_uuid(rng),
		.ring_bytes = rng_u64(rng),
		.nonce = rng_u64(rng),
		.uid = rng_u32(rng, 0, UINT32_MAX),
		.clean = rng_u64(rng) % 2 == 0,
	};
	random_boot_id(rng, r->boot_id);
	for (unsigned int i = 0; i < len; i++)
		r->path[i] = (char)rng_u32(rng, 1, 127);
}

static void cache_label_random(struct rng *rng, void *value)
{
	*(struct cache_label *)value = (struct cache_label){
		.features = random_features(rng),
		.pool = random_uuid(rng),
		.index = rng_u32(rng, 0, UINT32_MAX),
		.created_ns = (int64_t)rng_u64(rng),
	};
}

static void cache_map_header_random(struct rng *rng, void *value)
{
	*(struct cache_map_header *)value = (struct cache_map_header){
		.features = random_features(rng),
		.pool = random_uuid(rng),
		.slot_count = rng_u32(rng, 0, CACHE_MAP_SLOTS_MAX),
	};
}

static void pool_row_random(struct rng *rng, void *value)
{
	*(struct pool_row *)value = (struct pool_row){
		.features = random_features(rng),
		.pool = random_uuid(rng),
		.epoch = rng_u64(rng),
		.created_ns = (int64_t)rng_u64(rng),
		.sco_bytes = rng_u32(rng, SCO_SLOTS_MIN, SCO_SLOTS_MAX + 1) * CLUSTER_BYTES,
	};
}

static void counter_row_random(struct rng *rng, void *value)
{
	((struct counter_row *)value)->high_water = rng_u64(rng);
}

static void stream_row_random(struct rng *rng, void *value)
{
	*(struct stream_row *)value = (struct stream_row){
		.class = rng_u32(rng, OBJECT_DISK, OBJECT_FILE),
		.owner = rng_u64(rng),
	};
}

static void checkpoint_row_random(struct rng *rng, void *value)
{
	*(struct checkpoint_row *)value = (struct checkpoint_row){
		.lsn = rng_u64(rng),
		.replay_sco = rng_between(rng, 0, SCO_NUMBER_MAX + 1),
		.damaged = rng_u64(rng) % 2,
	};
}

static void object_row_random(struct rng *rng, void *value)
{
	struct object_row *row = value;

	*row = (struct object_row){
		.class = rng_u32(rng, OBJECT_DISK, OBJECT_FILE),
		.live_layer = rng_u64(rng),
		.created_ns = (int64_t)rng_u64(rng),
		.origin_count = rng_u32(rng, 1, OBJECT_ORIGINS_MAX),
	};
	row->origins = calloc(row->origin_count, sizeof(*row->origins));
	EXPECT(row->origins != NULL, "no memory");
	for (uint32_t i = 0; i < row->origin_count; i++)
		row->origins[i] =
			(struct object_origin){ rng_u32(rng, 1, UINT32_MAX), rng_u64(rng) };
}

static void layer_row_random(struct rng *rng, void *value)
{
	*(struct layer_row *)value = (struct layer_row){
		.state = (uint8_t)rng_u32(rng, LAYER_LIVE, LAYER_DROPPED),
		.object = rng_u64(rng),
		.parent = rng_u64(rng),
		.parent_limit_clusters = rng_u64(rng),
		.parent_origin_base = rng_u32(rng, 0, LOC_ORIGIN_MAX),
		.mark_stream = rng_u32(rng, 0, UINT32_MAX),
		.mark = rng_u64(rng),
	};
}

static void root_row_random(struct rng *rng, void *value)
{
	*(struct root_row *)value = (struct root_row){ rng_u64(rng), rng_u64(rng) };
}

static void changed_row_random(struct rng *rng, void *value)
{
	*(struct changed_row *)value = (struct changed_row){ rng_u64(rng) };
}

static void object_state_row_random(struct rng *rng, void *value)
{
	*(struct object_state_row *)value = (struct object_state_row){
		.size_bytes = rng_between(rng, 0, OBJECT_BYTES_MAX),
		.mtime_ns = (int64_t)rng_u64(rng),
		.mapped_clusters = rng_between(rng, 0, CLUSTER_MAX),
		.lsn = rng_u64(rng),
	};
}

static void sco_row_random(struct rng *rng, void *value)
{
	struct sco_row *row = value;

	*row = (struct sco_row){
		.state = (uint8_t)rng_u32(rng, SCO_OPEN, SCO_SEALED),
		.flags = (uint8_t)rng_u32(rng, 0, SCO_UPLOADED | SCO_LINKED),
		.version = rng_u32(rng, 0, UINT32_MAX),
		.cache_dir = rng_u32(rng, 0, UINT32_MAX),
		.slot_count = rng_u32(rng, 0, SCO_SLOTS_MAX),
		.live_slots = rng_u32(rng, 0, SCO_SLOTS_MAX),
		.epoch = rng_u64(rng),
		.salt = rng_u64(rng),
		.object_epoch = rng_u64(rng),
		.file_bytes = rng_u64(rng),
		.footer_crc = rng_u32(rng, 0, UINT32_MAX),
	};
	random_lsns(rng, &row->first_lsn, &row->last_lsn);
}

static void map_piece_random(struct rng *rng, void *value)
{
	struct map_piece *piece = value;

	memset(piece, 0, sizeof(*piece));
	piece->layers = rng_u32(rng, 0, UINT32_MAX);
	random_named(rng, &piece->object);
}

static void manifest_random(struct rng *rng, void *value)
{
	struct manifest *m = value;
	uint64_t sco = 0;

	memset(m, 0, sizeof(*m));
	m->pool = random_uuid(rng);
	m->stream = rng_u32(rng, 1, UINT32_MAX);
	m->epoch = rng_u64(rng);
	m->root = rng_u64(rng);
	m->lsn = rng_u64(rng);
	if (rng_u64(rng) % 4 != 0) {
		random_named(rng, &m->map);
		m->map_lsn = rng_u64(rng);
	}
	m->sco_count = rng_u32(rng, 0, 100);
	m->scos = calloc(m->sco_count + 1, sizeof(*m->scos));
	EXPECT(m->scos != NULL, "no memory");
	for (uint32_t i = 0; i < m->sco_count; i++) {
		struct manifest_sco *s = &m->scos[i];

		sco += rng_between(rng, 1, SCO_NUMBER_MAX / 100);
		*s = (struct manifest_sco){
			.sco = sco,
			.version = rng_u32(rng, 0, UINT32_MAX),
			.slot_count = rng_u32(rng, 1, SCO_SLOTS_MAX),
			.object_epoch = rng_u64(rng),
			.file_bytes = rng_u64(rng),
			.footer_crc = rng_u32(rng, 0, UINT32_MAX),
		};
		random_lsns(rng, &s->first_lsn, &s->last_lsn);
	}
}

static void root_random(struct rng *rng, void *value)
{
	struct root *r = value;
	uint32_t stream = 0;

	memset(r, 0, sizeof(*r));
	r->features = random_features(rng);
	r->pool = random_uuid(rng);
	r->epoch = rng_u64(rng);
	r->number = rng_u64(rng);
	r->created_ns = (int64_t)rng_u64(rng);
	random_named(rng, &r->ns);
	r->stream_count = rng_u32(rng, 0, 20);
	r->condemned_count = rng_u32(rng, 0, 20);
	r->streams = calloc(r->stream_count + 1, sizeof(*r->streams));
	r->condemned = calloc(r->condemned_count + 1, sizeof(*r->condemned));
	EXPECT(r->streams != NULL && r->condemned != NULL, "no memory");
	for (uint32_t i = 0; i < r->stream_count; i++) {
		stream += rng_u32(rng, 1, UINT32_MAX / 32);
		r->streams[i].stream = stream;
		random_named(rng, &r->streams[i].manifest);
	}
	for (uint32_t i = 0; i < r->condemned_count; i++)
		random_name(rng, r->condemned[i]);
	r->pack_count = rng_u32(rng, 0, 3);
	r->packs = calloc(r->pack_count + 1, sizeof(*r->packs));
	EXPECT(r->packs != NULL, "no memory");
	for (uint32_t i = 0; i < r->pack_count; i++) {
		random_named(rng, &r->packs[i].object);
		r->packs[i].object.crc = 0;
		r->packs[i].directory_bytes =
			(uint32_t)min_u64(rng_u32(rng, 0, 1000000), r->packs[i].object.len_bytes);
		r->features.incompat |= FEATURE_PACKS;
	}
}

/* --- Codecs ------------------------------------------------------------------------------------ */

#define FIXED_CODEC(name, bytes, call)                                                             \
	static int name##_to(const void *value, struct buf *out)                                   \
	{                                                                                          \
		uint8_t *p = buf_extend(out, bytes);                                               \
		if (p == NULL)                                                                     \
			return -ENOMEM;                                                            \
		name##_encode(value, p);                                                           \
		return 0;                                                                          \
	}                                                                                          \
	static int name##_from(const uint8_t *in, size_t len_bytes, void *ret, struct err *e)      \
	{                                                                                          \
		(void)len_bytes;                                                                   \
		return call;                                                                       \
	}
FIXED_CODEC(sco_header, BLOCK_BYTES, sco_header_decode(in, ret, e))
FIXED_CODEC(sco_footer, BLOCK_BYTES, sco_footer_decode(in, ret, e))
FIXED_CODEC(ring_header, BLOCK_BYTES, ring_header_decode(in, ret, e))
FIXED_CODEC(ring_record, RING_RECORD_BYTES, ring_record_decode(in, len_bytes, ret, e))
FIXED_CODEC(cache_map_header, BLOCK_BYTES, cache_map_header_decode(in, ret, e))
FIXED_CODEC(cache_label, CACHE_LABEL_BYTES, cache_label_decode(in, len_bytes, ret, e))

#define BUF_CODEC(name)                                                                            \
	static int name##_to(const void *value, struct buf *out)                                   \
	{                                                                                          \
		return name##_encode(value, out);                                                  \
	}                                                                                          \
	static int name##_from(const uint8_t *in, size_t len_bytes, void *ret, struct err *e)      \
	{                                                                                          \
		return name##_decode(in, len_bytes, ret, e);                                       \
	}
#define ROW_CODEC(name, kind)                                                                      \
	BUF_CODEC(name)                                                                            \
	static void name##_reseal(uint8_t *p, size_t len_bytes)                                    \
	{                                                                                          \
		reseal_row(p, len_bytes, kind);                                                    \
	}
ROW_CODEC(pool_row, ROW_POOL)
ROW_CODEC(counter_row, ROW_COUNTER)
ROW_CODEC(stream_row, ROW_STREAM)
ROW_CODEC(checkpoint_row, ROW_CHECKPOINT)
ROW_CODEC(object_row, ROW_OBJECT)
ROW_CODEC(layer_row, ROW_LAYER)
ROW_CODEC(root_row, ROW_ROOT)
ROW_CODEC(changed_row, ROW_CHANGED)
ROW_CODEC(object_state_row, ROW_OBJECT_STATE)
ROW_CODEC(sco_row, ROW_SCO)
ROW_CODEC(map_piece, ROW_MAP_PIECE)
BUF_CODEC(manifest)
BUF_CODEC(root)

#define DONE(name)                                                                                 \
	static void name##_free(void *value)                                                       \
	{                                                                                          \
		name##_done(value);                                                                \
	}
DONE(object_row)
DONE(manifest)
DONE(root)

struct chunk {
	struct slot_record records[SLOTS_PER_CHUNK];
	unsigned int count;
};

static void slot_chunk_random(struct rng *rng, void *value)
{
	struct chunk *c = value;

	memset(c, 0, sizeof(*c));
	c->count = rng_u32(rng, 1, SLOTS_PER_CHUNK);
	for (unsigned int i = 0; i < c->count; i++) {
		struct slot_record *s = &c->records[i];

		s->kind = (uint8_t)rng_u32(rng, SLOT_DEAD, SLOT_META);
		if (s->kind == SLOT_DEAD || s->kind == SLOT_META)
			continue;
		s->crc = rng_u32(rng, 0, UINT32_MAX);
		s->arg = s->kind == SLOT_REF ?
				 loc_make(rng_u32(rng, 0, LOC_ORIGIN_MAX), random_sco(rng),
					  rng_u32(rng, 1, SCO_SLOTS_MAX - 1)) :
				 rng_between(rng, 0, OBJECT_BYTES_MAX);
		if (s->kind == SLOT_RAW)
			s->stored_bytes = CLUSTER_BYTES;
		if (s->kind == SLOT_LZ4)
			s->stored_bytes = (uint16_t)rng_u32(rng, 1, CLUSTER_BYTES - 1);
	}
}

static int slot_chunk_to(const void *value, struct buf *out)
{
	const struct chunk *c = value;
	uint8_t *p = buf_extend(out, BLOCK_BYTES);

	if (p == NULL)
		return -ENOMEM;
	slot_chunk_encode(CHUNK, SALT, c->records, c->count, p);
	return 0;
}

static int slot_chunk_from(const uint8_t *in, size_t len_bytes, void *ret, struct err *e)
{
	struct chunk *c = ret;

	(void)len_bytes;
	return slot_chunk_decode(in, CHUNK, SALT, c->records, &c->count, e);
}

static void slot_chunk_reseal(uint8_t *p, size_t len_bytes)
{
	le32_put(p + 8, reseal_hole_crc((uint32_t)SALT, p, len_bytes, 8));
}

#define HEAD(n, features)                                                                          \
	{                                                                                          \
		.name = #n, .block_bytes = BLOCK_BYTES, .version_at = 8, .version_bytes = 4,       \
		.features_at = (features), .random = n##_random, .encode = n##_to,                 \
		.decode = n##_from, .reseal = reseal_head,                                         \
	}
#define LABEL(n, features)                                                                         \
	{                                                                                          \
		.name = #n, .version_at = 8, .version_bytes = 4, .features_at = (features),        \
		.random = n##_random, .encode = n##_to, .decode = n##_from, .reseal = reseal_head, \
	}
#define ROW(n, features, done_)                                                                    \
	{                                                                                          \
		.name = #n, .version_at = 0, .version_bytes = 1, .features_at = (features),        \
		.random = n##_random, .encode = n##_to, .decode = n##_from, .done = (done_),       \
		.reseal = n##_reseal,                                                              \
	}
#define OBJECT(n, features)                                                                        \
	{                                                                                          \
		.name = #n, .version_at = 8, .version_bytes = 4, .features_at = (features),        \
		.random = n##_random, .encode = n##_to, .decode = n##_from, .done = n##_free,      \
		.reseal = reseal_tail,                                                             \
	}
static const struct codec codecs[] = {
	HEAD(sco_header, 16),
	HEAD(sco_footer, 16),
	HEAD(ring_header, 16),
	HEAD(cache_map_header, 16),
	LABEL(ring_record, 0),
	LABEL(cache_label, 16),
	ROW(pool_row, 1, NULL),
	ROW(counter_row, 0, NULL),
	ROW(stream_row, 0, NULL),
	ROW(checkpoint_row, 0, NULL),
	ROW(object_row, 0, object_row_free),
	ROW(layer_row, 0, NULL),
	ROW(root_row, 0, NULL),
	ROW(changed_row, 0, NULL),
	ROW(object_state_row, 0, NULL),
	ROW(sco_row, 0, NULL),
	ROW(map_piece, 0, NULL),
	OBJECT(manifest, 0),
	OBJECT(root, 16),
	/* Its version is that of its SCO's header. */
	{ .name = "slot_chunk",
	  .block_bytes = BLOCK_BYTES,
	  .random = slot_chunk_random,
	  .encode = slot_chunk_to,
	  .decode = slot_chunk_from,
	  .reseal = slot_chunk_reseal },
};

/* --- Tests ------------------------------------------------------------------------------------- */

union value {
	uint8_t bytes[8192]; /* more than any structure has */
	max_align_t align;
};

static void value_done(const struct codec *c, union value *value)
{
	if (c->done != NULL)
		c->done(value);
}

static void encode_random(const struct codec *c, struct rng *rng, struct buf *out)
{
	union value value;

	c->random(rng, &value);
	buf_clear(out);
	EXPECT(c->encode(&value, out) == 0, "%s: not encoded", c->name);
	value_done(c, &value);
}

/* Bytes that are accepted are the only ones with that meaning: they encode to themselves. */
static void expect_canonical(const struct codec *c, union value *value, const struct buf *in)
{
	struct buf again;

	buf_init(&again, 1u << 20);
	EXPECT(c->encode(value, &again) == 0, "%s: not encoded again", c->name);
	EXPECT(again.len_bytes == in->len_bytes && memcmp(again.data, in->data, in->len_bytes) == 0,
	       "%s: accepted bytes encode to others", c->name);
	buf_done(&again);
}

START_TEST(random_values_survive_a_round_trip)
{
	const struct codec *c = &codecs[_i];
	struct rng rng = { 1 };
	struct buf bytes;

	buf_init(&bytes, 1u << 20);
	for (unsigned int i = 0; i < ROUNDS; i++) {
		union value value;
		struct err e = { 0 };

		encode_random(c, &rng, &bytes);
		EXPECT(c->decode(bytes.data, bytes.len_bytes, &value, &e) == 0, "%s: %s", c->name,
		       e.message);
		expect_canonical(c, &value, &bytes);
		value_done(c, &value);
	}
	buf_done(&bytes);
}
END_TEST

/* The checksum is right, so only the checks of the fields stand between damage and the engine. */
START_TEST(damage_under_a_right_checksum_is_refused_or_harmless)
{
	const struct codec *c = &codecs[_i];
	unsigned int refused = 0;
	struct rng rng = { 2 };
	struct buf bytes;

	buf_init(&bytes, 1u << 20);
	for (unsigned int i = 0; i < 4 * ROUNDS; i++) {
		union value value;
		size_t at;
		int r;

		if (i % 4 == 0)
			encode_random(c, &rng, &bytes);
		at = (size_t)rng_between(&rng, 0, bytes.len_bytes - 1);
		bytes.data[at] = (uint8_t)rng_u64(&rng);
		c->reseal(bytes.data, bytes.len_bytes);
		r = c->decode(bytes.data, bytes.len_bytes, &value, NULL);
		EXPECT(r == 0 || r == -EUCLEAN || r == -EPROTONOSUPPORT, "%s: %d", c->name, r);
		if (r < 0) {
			refused++;
			continue;
		}
		expect_canonical(c, &value, &bytes);
		value_done(c, &value);
	}
	buf_done(&bytes);
	ck_assert_uint_gt(refused, 0);
}
END_TEST

/* Cut off at a random place and sealed again, in memory of exactly that length. */
START_TEST(truncation_under_a_right_checksum_is_refused)
{
	const struct codec *c = &codecs[_i];
	struct rng rng = { 3 };
	struct buf bytes;

	buf_init(&bytes, 1u << 20);
	for (unsigned int i = 0; i < ROUNDS && c->block_bytes == 0; i++) {
		union value value;
		uint8_t *cut;
		size_t len;
		int r;

		encode_random(c, &rng, &bytes);
		len = (size_t)rng_between(&rng, 0, bytes.len_bytes - 1);
		cut = malloc(len != 0 ? len : 1);
		EXPECT(cut != NULL, "no memory");
		memcpy(cut, bytes.data, len);
		if (len >= 16)
			c->reseal(cut, len);
		r = c->decode(cut, len, &value, NULL);
		EXPECT(r == -EUCLEAN || (len < 16 && r == -EBADMSG), "%s: %zu of %zu bytes: %d",
		       c->name, len, bytes.len_bytes, r);
		free(cut);
	}
	buf_done(&bytes);
}
END_TEST

START_TEST(garbage_is_refused)
{
	const struct codec *c = &codecs[_i];
	struct rng rng = { 4 };
	uint8_t garbage[BLOCK_BYTES];

	rng_bytes(&rng, garbage, sizeof(garbage));
	for (unsigned int i = 0; i < GARBAGE_ROUNDS; i++) {
		const uint64_t change = rng_u64(&rng);
		size_t len = (size_t)rng_between(&rng, 0, sizeof(garbage));
		union value value;
		int r;

		/* New garbage by eight bytes: the rest stays as random as it was. */
		memcpy(garbage + change % (sizeof(garbage) - 8), &change, sizeof(change));
		if (c->block_bytes != 0)
			len = c->block_bytes;
		r = c->decode(garbage + sizeof(garbage) - len, len, &value, NULL);
		EXPECT(r == -EUCLEAN || r == -EBADMSG, "%s: %d", c->name, r);
	}
}
END_TEST

START_TEST(a_newer_version_is_not_supported_rather_than_damaged)
{
	const struct codec *c = &codecs[_i];
	struct rng rng = { 5 };
	struct err e = { 0 };
	union value value;
	struct buf bytes;

	if (c->version_bytes == 0)
		return;
	buf_init(&bytes, 1u << 20);
	encode_random(c, &rng, &bytes);
	bytes.data[c->version_at] = FORMAT_VERSION + 1;
	c->reseal(bytes.data, bytes.len_bytes);
	ck_assert_int_eq(c->decode(bytes.data, bytes.len_bytes, &value, &e), -EPROTONOSUPPORT);
	ck_assert_ptr_nonnull(strstr(e.message, "version 2"));
	buf_done(&bytes);
}
END_TEST

/* Bit 128, the first of incompat, is that of snapshots, the next one FEATURE_PACKS. */
#define PACKS_BIT 129u

START_TEST(foreign_feature_bits_refuse_unless_compatible)
{
	const struct codec *c = &codecs[_i];
	struct rng rng = { 6 };
	union value value;
	struct buf bytes;

	if (c->features_at == 0)
		return;
	buf_init(&bytes, 1u << 20);
	for (unsigned int bit = 0; bit < 192; bit++) {
		uint8_t *p;
		int r;

		/* The one that these two know. */
		if (bit == PACKS_BIT &&
		    (strcmp(c->name, "pool_row") == 0 || strcmp(c->name, "root") == 0))
			continue;
		encode_random(c, &rng, &bytes);
		p = bytes.data + c->features_at + bit / 8;
		*p = (uint8_t)(*p | 1u << bit % 8);
		c->reseal(bytes.data, bytes.len_bytes);
		r = c->decode(bytes.data, bytes.len_bytes, &value, NULL);
		ck_assert_int_eq(r, bit < 64 || bit == 128 ? 0 : -EPROTONOSUPPORT);
		if (r == 0)
			value_done(c, &value);
	}
	buf_done(&bytes);
}
END_TEST

START_TEST(an_encoder_without_room_fails_and_leaves_the_buffer)
{
	const struct codec *c = &codecs[_i];
	struct rng rng = { 7 };
	union value value;
	struct buf small;

	buf_init(&small, 10);
	ck_assert_int_eq(buf_append(&small, "abc", 3), 0);
	c->random(&rng, &value);
	ck_assert_int_lt(c->encode(&value, &small), 0);
	ck_assert_uint_eq(small.len_bytes, 3);
	value_done(c, &value);
	buf_done(&small);
}
END_TEST

START_TEST(a_key_of_another_kind_or_length_does_not_parse)
{
	const struct row_key one = row_key_u64(ROW_STREAM, 7), two = row_key_2u64(ROW_SCO, 7, 8);
	uint64_t a = 99, b = 99;

	ck_assert_int_eq(row_key_parse_u64(one.bytes, one.len_bytes, ROW_SCO, &a), -EUCLEAN);
	ck_assert_int_eq(row_key_parse_2u64(two.bytes, two.len_bytes, ROW_PAGE, &a, &b), -EUCLEAN);
	for (size_t len = 0; len <= ROW_KEY_BYTES_MAX; len++) {
		if (len != one.len_bytes)
			ck_assert_int_eq(row_key_parse_u64(one.bytes, len, ROW_STREAM, &a),
					 -EUCLEAN);
		if (len != two.len_bytes)
			ck_assert_int_eq(row_key_parse_2u64(two.bytes, len, ROW_SCO, &a, &b),
					 -EUCLEAN);
	}
	ck_assert_uint_eq(a, 99);
	ck_assert_uint_eq(b, 99);
}
END_TEST

START_TEST(keys_sort_as_their_numbers)
{
	struct rng rng = { 8 };

	for (unsigned int i = 0; i < ROUNDS; i++) {
		const uint64_t a = rng_between(&rng, 0, UINT64_MAX - 1);
		const uint64_t b = rng_between(&rng, a + 1, UINT64_MAX);
		const struct row_key low = row_key_2u64(ROW_PAGE, a, UINT64_MAX);
		const struct row_key high = row_key_2u64(ROW_PAGE, b, 0);

		EXPECT(memcmp(low.bytes, high.bytes, low.len_bytes) < 0,
		       "%" PRIx64 " before %" PRIx64, a, b);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("format");
	TCase *tc = tcase_create("structures");
	TCase *keys = tcase_create("keys");
	const int n = ARRAY_SIZE(codecs);
	SRunner *sr;
	int failed;

	tcase_add_loop_test(tc, random_values_survive_a_round_trip, 0, n);
	tcase_add_loop_test(tc, damage_under_a_right_checksum_is_refused_or_harmless, 0, n);
	tcase_add_loop_test(tc, truncation_under_a_right_checksum_is_refused, 0, n);
	tcase_add_loop_test(tc, garbage_is_refused, 0, n);
	tcase_add_loop_test(tc, a_newer_version_is_not_supported_rather_than_damaged, 0, n);
	tcase_add_loop_test(tc, foreign_feature_bits_refuse_unless_compatible, 0, n);
	tcase_add_loop_test(tc, an_encoder_without_room_fails_and_leaves_the_buffer, 0, n);
	suite_add_tcase(s, tc);
	tcase_add_test(keys, a_key_of_another_kind_or_length_does_not_parse);
	tcase_add_test(keys, keys_sort_as_their_numbers);
	suite_add_tcase(s, keys);

	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
