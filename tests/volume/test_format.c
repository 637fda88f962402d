/* Blocks and labels: random values survive a round trip, hostile bytes never do harm. */
#include "format_codec.h"

#define SALT  UINT64_C(0x5a17)
#define CHUNK 3u

/* --- Random values ------------------------------------------------------------------------------ */

static void random_boot_id(struct rng *rng, char id[BOOT_ID_BYTES + 1])
{
	for (unsigned int i = 0; i < BOOT_ID_BYTES; i++)
		id[i] = (char)rng_u32(rng, '!', '~');
	id[BOOT_ID_BYTES] = '\0';
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
		.first_sco = rng_u64(rng),
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

/* --- Codecs ------------------------------------------------------------------------------------- */

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
static const struct codec codecs[] = {
	HEAD(sco_header, 16),
	HEAD(sco_footer, 16),
	HEAD(ring_header, 16),
	HEAD(cache_map_header, 16),
	LABEL(ring_record, 0),
	LABEL(cache_label, 16),
	/* Its version is that of its SCO's header. */
	{ .name = "slot_chunk",
	  .block_bytes = BLOCK_BYTES,
	  .random = slot_chunk_random,
	  .encode = slot_chunk_to,
	  .decode = slot_chunk_from,
	  .reseal = slot_chunk_reseal },
};

int main(void)
{
	Suite *s = suite_create("format");
	TCase *tc = tcase_create("structures");
	SRunner *sr;
	int failed;

	codec_tests_add(tc, codecs, ARRAY_SIZE(codecs));
	suite_add_tcase(s, tc);

	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
