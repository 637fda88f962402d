/*
 * format_sco - header block of a SCO (FORMAT.md section 2).
 */
#include "volume/format_impl.h"

static const char sco_header_magic[] = "VPSCOHDR";

enum {
	HEADER_FEATURES_AT = 16,
	HEADER_POOL_AT = 40,
	HEADER_STREAM_AT = 56,
	HEADER_SLOTS_MAX_AT = 60,
	HEADER_SCO_AT = 64,
	HEADER_SCO_VERSION_AT = 72,
	HEADER_FLAGS_AT = 76,
	HEADER_EPOCH_AT = 80,
	HEADER_SALT_AT = 88,
	HEADER_CREATED_AT = 96,
	HEADER_CUT_SCO_AT = 104,
	HEADER_CUT_BATCHES_AT = 112,
	HEADER_ZERO_AT = 116,
	HEADER_CUT_LSN_AT = 120,
	HEADER_REST_AT = 128,
};

static const char *sco_header_flaw(const struct sco_header *h)
{
	if (h->stream == 0)
		return "stream 0";
	if (!sco_number_is_sound(h->sco))
		return "SCO number out of range";
	if (h->slots_max < SCO_SLOTS_MIN || h->slots_max > SCO_SLOTS_MAX)
		return "number of slots out of range";
	if (h->flags & ~(uint32_t)(SCO_FIRST_OF_EPOCH | SCO_RECYCLED))
		return "unknown flags";
	if (!(h->flags & SCO_FIRST_OF_EPOCH) &&
	    (h->cut_sco != 0 || h->cut_batches != 0 || h->cut_lsn != 0))
		return "a cut, but not the first SCO of its epoch";
	if (h->cut_sco > SCO_NUMBER_MAX)
		return "SCO number of the cut out of range";
	return NULL;
}

void sco_header_encode(const struct sco_header *h, uint8_t block[BLOCK_BYTES])
{
	ASSERT(sco_header_flaw(h) == NULL && features_known(&h->features));

	memset(block, 0, BLOCK_BYTES);
	features_put(block + HEADER_FEATURES_AT, &h->features);
	memcpy(block + HEADER_POOL_AT, h->pool.bytes, UUID_BYTES);
	le32_put(block + HEADER_STREAM_AT, h->stream);
	le32_put(block + HEADER_SLOTS_MAX_AT, h->slots_max);
	le64_put(block + HEADER_SCO_AT, h->sco);
	le32_put(block + HEADER_SCO_VERSION_AT, h->version);
	le32_put(block + HEADER_FLAGS_AT, h->flags);
	le64_put(block + HEADER_EPOCH_AT, h->epoch);
	le64_put(block + HEADER_SALT_AT, h->salt);
	le64_put(block + HEADER_CREATED_AT, (uint64_t)h->created_ns);
	le64_put(block + HEADER_CUT_SCO_AT, h->cut_sco);
	le32_put(block + HEADER_CUT_BATCHES_AT, h->cut_batches);
	le64_put(block + HEADER_CUT_LSN_AT, h->cut_lsn);
	format_head_seal(block, BLOCK_BYTES, sco_header_magic);
}

int sco_header_decode(const uint8_t block[BLOCK_BYTES], struct sco_header *ret_header,
		      struct err *e)
{
	struct sco_header h;
	const char *flaw;
	int r;

	r = format_head_check(block, BLOCK_BYTES, sco_header_magic, "SCO header", e);
	if (r < 0)
		return r;
	h = (struct sco_header){
		.features = features_get(block + HEADER_FEATURES_AT),
		.stream = le32_get(block + HEADER_STREAM_AT),
		.slots_max = le32_get(block + HEADER_SLOTS_MAX_AT),
		.sco = le64_get(block + HEADER_SCO_AT),
		.version = le32_get(block + HEADER_SCO_VERSION_AT),
		.flags = le32_get(block + HEADER_FLAGS_AT),
		.epoch = le64_get(block + HEADER_EPOCH_AT),
		.salt = le64_get(block + HEADER_SALT_AT),
		.created_ns = (int64_t)le64_get(block + HEADER_CREATED_AT),
		.cut_sco = le64_get(block + HEADER_CUT_SCO_AT),
		.cut_batches = le32_get(block + HEADER_CUT_BATCHES_AT),
		.cut_lsn = le64_get(block + HEADER_CUT_LSN_AT),
	};
	memcpy(h.pool.bytes, block + HEADER_POOL_AT, UUID_BYTES);
	r = features_check(&h.features, "SCO header", e);
	if (r < 0)
		return r;
	if (le32_get(block + HEADER_ZERO_AT) != 0 ||
	    !format_all_zero(block + HEADER_REST_AT, BLOCK_BYTES - HEADER_REST_AT))
		return err_set(e, -EUCLEAN, "SCO header: the unused part is not zero");
	flaw = sco_header_flaw(&h);
	if (flaw != NULL)
		return err_set(e, -EUCLEAN, "SCO header: %s", flaw);
	*ret_header = h;
	return 0;
}
