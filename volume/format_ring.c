/*
 * format_ring - header of the ring, its record in the pool directory, label of a cache directory
 * (FORMAT.md sections 5 and 6).
 */
#include "volume/format_impl.h"

/* A boot id is as the kernel prints it: 36 characters, no space among them. */
static bool boot_id_is_sound(const char id[BOOT_ID_BYTES])
{
	for (unsigned int i = 0; i < BOOT_ID_BYTES; i++)
		if (id[i] <= ' ' || id[i] > '~')
			return false;
	return true;
}

/* --- Ring header ------------------------------------------------------------------------------- */

static const char ring_header_magic[] = "VPRING01";

enum {
	RING_FEATURES_AT = 16,
	RING_POOL_AT = 40,
	RING_BOOT_ID_AT = 56,
	RING_ZERO_AT = 92,
	RING_DIR_DEV_AT = 96,
	RING_DIR_INO_AT = 104,
	RING_BYTES_AT = 112,
	RING_FRAME_BYTES_AT = 120,
	RING_FRAME_COUNT_AT = 124,
	RING_EPOCH_AT = 128,
	RING_NONCE_AT = 136,
	RING_FIRST_SCO_AT = 144,
	RING_REST_AT = 152,
};

static const char *ring_header_flaw(const struct ring_header *h)
{
	if (!boot_id_is_sound(h->boot_id))
		return "the boot id is not one";
	if (h->frame_bytes < 2 * BLOCK_BYTES || h->frame_bytes % BLOCK_BYTES != 0)
		return "size of a frame";
	if (h->frame_count == 0)
		return "no frame";
	if (h->ring_bytes != BLOCK_BYTES + (uint64_t)h->frame_bytes * h->frame_count)
		return "the frames do not fill it";
	return NULL;
}

void ring_header_encode(const struct ring_header *h, uint8_t block[BLOCK_BYTES])
{
	ASSERT(ring_header_flaw(h) == NULL && features_known(&h->features));

	memset(block, 0, BLOCK_BYTES);
	features_put(block + RING_FEATURES_AT, &h->features);
	memcpy(block + RING_POOL_AT, h->pool.bytes, UUID_BYTES);
	memcpy(block + RING_BOOT_ID_AT, h->boot_id, BOOT_ID_BYTES);
	le64_put(block + RING_DIR_DEV_AT, h->pool_dir_dev);
	le64_put(block + RING_DIR_INO_AT, h->pool_dir_ino);
	le64_put(block + RING_BYTES_AT, h->ring_bytes);
	le32_put(block + RING_FRAME_BYTES_AT, h->frame_bytes);
	le32_put(block + RING_FRAME_COUNT_AT, h->frame_count);
	le64_put(block + RING_EPOCH_AT, h->epoch);
	le64_put(block + RING_NONCE_AT, h->nonce);
	le64_put(block + RING_FIRST_SCO_AT, h->first_sco);
	format_head_seal(block, BLOCK_BYTES, ring_header_magic);
}

int ring_header_decode(const uint8_t block[BLOCK_BYTES], struct ring_header *ret_header,
		       struct err *e)
{
	struct ring_header h;
	const char *flaw;
	int r;

	r = format_head_check(block, BLOCK_BYTES, ring_header_magic, "ring header", e);
	if (r < 0)
		return r;
	h = (struct ring_header){
		.features = features_get(block + RING_FEATURES_AT),
		.pool_dir_dev = le64_get(block + RING_DIR_DEV_AT),
		.pool_dir_ino = le64_get(block + RING_DIR_INO_AT),
		.ring_bytes = le64_get(block + RING_BYTES_AT),
		.frame_bytes = le32_get(block + RING_FRAME_BYTES_AT),
		.frame_count = le32_get(block + RING_FRAME_COUNT_AT),
		.epoch = le64_get(block + RING_EPOCH_AT),
		.nonce = le64_get(block + RING_NONCE_AT),
		.first_sco = le64_get(block + RING_FIRST_SCO_AT),
	};
	memcpy(h.pool.bytes, block + RING_POOL_AT, UUID_BYTES);
	memcpy(h.boot_id, block + RING_BOOT_ID_AT, BOOT_ID_BYTES);
	r = features_check(&h.features, "ring header", e);
	if (r < 0)
		return r;
	if (le32_get(block + RING_ZERO_AT) != 0 ||
	    !format_all_zero(block + RING_REST_AT, BLOCK_BYTES - RING_REST_AT))
		return err_set(e, -EUCLEAN, "ring header: the unused part is not zero");
	flaw = ring_header_flaw(&h);
	if (flaw != NULL)
		return err_set(e, -EUCLEAN, "ring header: %s", flaw);
	*ret_header = h;
	return 0;
}

/* --- Ring record ------------------------------------------------------------------------------- */

static const char ring_record_magic[] = "VPRINGID";

enum {
	RECORD_POOL_AT = 16,
	RECORD_BYTES_AT = 32,
	RECORD_NONCE_AT = 40,
	RECORD_UID_AT = 48,
	RECORD_CLEAN_AT = 52,
	RECORD_ZERO_AT = 53,
	RECORD_BOOT_ID_AT = 56,
	RECORD_ZERO_2_AT = 92,
	RECORD_PATH_AT = 96,
	RECORD_REST_AT = RECORD_PATH_AT + RING_PATH_MAX + 1,
};

static const char *ring_record_flaw(const struct ring_record *r)
{
	if (!boot_id_is_sound(r->boot_id))
		return "the boot id is not one";
	if (r->path[0] == '\0' || strnlen(r->path, sizeof(r->path)) > RING_PATH_MAX)
		return "the path is not one";
	return NULL;
}

void ring_record_encode(const struct ring_record *r, uint8_t out[RING_RECORD_BYTES])
{
	ASSERT(ring_record_flaw(r) == NULL);

	memset(out, 0, RING_RECORD_BYTES);
	memcpy(out + RECORD_POOL_AT, r->pool.bytes, UUID_BYTES);
	le64_put(out + RECORD_BYTES_AT, r->ring_bytes);
	le64_put(out + RECORD_NONCE_AT, r->nonce);
	le32_put(out + RECORD_UID_AT, r->uid);
	out[RECORD_CLEAN_AT] = r->clean;
	memcpy(out + RECORD_BOOT_ID_AT, r->boot_id, BOOT_ID_BYTES);
	memcpy(out + RECORD_PATH_AT, r->path, strlen(r->path));
	format_head_seal(out, RING_RECORD_BYTES, ring_record_magic);
}

/* All that is not a field is zero: the gaps, the path behind its end, the rest. */
static bool ring_record_gaps_are_zero(const uint8_t *in, const struct ring_record *r)
{
	const size_t path_end = RECORD_PATH_AT + strnlen(r->path, RING_PATH_MAX);

	return in[RECORD_CLEAN_AT] <= 1 &&
	       format_all_zero(in + RECORD_ZERO_AT, RECORD_BOOT_ID_AT - RECORD_ZERO_AT) &&
	       format_all_zero(in + RECORD_ZERO_2_AT, RECORD_PATH_AT - RECORD_ZERO_2_AT) &&
	       format_all_zero(in + path_end, RING_RECORD_BYTES - path_end);
}

int ring_record_decode(const uint8_t *in, size_t len_bytes, struct ring_record *ret_record,
		       struct err *e)
{
	struct ring_record record;
	const char *flaw;
	int r;

	if (len_bytes != RING_RECORD_BYTES)
		return err_set(e, -EUCLEAN, "ring record: %zu bytes long instead of %u", len_bytes,
			       RING_RECORD_BYTES);
	r = format_head_check(in, RING_RECORD_BYTES, ring_record_magic, "ring record", e);
	if (r < 0)
		return r;
	record = (struct ring_record){
		.ring_bytes = le64_get(in + RECORD_BYTES_AT),
		.nonce = le64_get(in + RECORD_NONCE_AT),
		.uid = le32_get(in + RECORD_UID_AT),
		.clean = in[RECORD_CLEAN_AT] != 0,
	};
	memcpy(record.pool.bytes, in + RECORD_POOL_AT, UUID_BYTES);
	memcpy(record.boot_id, in + RECORD_BOOT_ID_AT, BOOT_ID_BYTES);
	memcpy(record.path, in + RECORD_PATH_AT, RING_PATH_MAX + 1);
	flaw = ring_record_flaw(&record);
	if (flaw == NULL && !ring_record_gaps_are_zero(in, &record))
		flaw = "the unused part is not zero";
	if (flaw != NULL)
		return err_set(e, -EUCLEAN, "ring record: %s", flaw);
	*ret_record = record;
	return 0;
}

/* --- Cache label ------------------------------------------------------------------------------- */

static const char cache_label_magic[] = "VPCACHE1";

enum {
	LABEL_FEATURES_AT = 16,
	LABEL_POOL_AT = 40,
	LABEL_INDEX_AT = 56,
	LABEL_ZERO_AT = 60,
	LABEL_CREATED_AT = 64,
	LABEL_REST_AT = 72,
};

void cache_label_encode(const struct cache_label *l, uint8_t out[CACHE_LABEL_BYTES])
{
	ASSERT(features_known(&l->features));

	memset(out, 0, CACHE_LABEL_BYTES);
	features_put(out + LABEL_FEATURES_AT, &l->features);
	memcpy(out + LABEL_POOL_AT, l->pool.bytes, UUID_BYTES);
	le32_put(out + LABEL_INDEX_AT, l->index);
	le64_put(out + LABEL_CREATED_AT, (uint64_t)l->created_ns);
	format_head_seal(out, CACHE_LABEL_BYTES, cache_label_magic);
}

int cache_label_decode(const uint8_t *in, size_t len_bytes, struct cache_label *ret_label,
		       struct err *e)
{
	struct cache_label l;
	int r;

	if (len_bytes != CACHE_LABEL_BYTES)
		return err_set(e, -EUCLEAN, "cache label: %zu bytes long instead of %u", len_bytes,
			       CACHE_LABEL_BYTES);
	r = format_head_check(in, CACHE_LABEL_BYTES, cache_label_magic, "cache label", e);
	if (r < 0)
		return r;
	l = (struct cache_label){
		.features = features_get(in + LABEL_FEATURES_AT),
		.index = le32_get(in + LABEL_INDEX_AT),
		.created_ns = (int64_t)le64_get(in + LABEL_CREATED_AT),
	};
	memcpy(l.pool.bytes, in + LABEL_POOL_AT, UUID_BYTES);
	r = features_check(&l.features, "cache label", e);
	if (r < 0)
		return r;
	if (le32_get(in + LABEL_ZERO_AT) != 0 ||
	    !format_all_zero(in + LABEL_REST_AT, CACHE_LABEL_BYTES - LABEL_REST_AT))
		return err_set(e, -EUCLEAN, "cache label: the unused part is not zero");
	*ret_label = l;
	return 0;
}
