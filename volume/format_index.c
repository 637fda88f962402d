/*
 * format_index - index of a sealed SCO: slot table, log, footer (FORMAT.md section 4).
 */
#include "volume/format_impl.h"

/* --- Slot table -------------------------------------------------------------------------------- */

static const char slot_chunk_magic[] = "VPSL";

enum {
	CHUNK_MAGIC_AT = 0,
	CHUNK_NUMBER_AT = 4,
	CHUNK_CRC_AT = 8,
	CHUNK_COUNT_AT = 12,
	CHUNK_RECORDS_AT = 16,
};
#define CHUNK_MAGIC_BYTES 4u
STATIC_ASSERT(CHUNK_RECORDS_AT + SLOTS_PER_CHUNK * SLOT_RECORD_BYTES == BLOCK_BYTES,
	      "a chunk fills its block");

static const char *slot_record_flaw(const struct slot_record *s)
{
	const bool in_file = s->arg <= OBJECT_BYTES_MAX;

	switch (s->kind) {
	case SLOT_DEAD:
	case SLOT_META:
		return s->stored_bytes == 0 && s->crc == 0 && s->arg == 0 ?
			       NULL :
			       "a slot without a cluster has fields";
	case SLOT_RAW:
		return s->stored_bytes == CLUSTER_BYTES && in_file ? NULL : "a raw slot's place";
	case SLOT_LZ4:
		return s->stored_bytes >= 1 && s->stored_bytes < CLUSTER_BYTES && in_file ?
			       NULL :
			       "a compressed slot's place";
	case SLOT_REF:
		return s->stored_bytes == 0 && loc_is_place(s->arg) && loc_slot(s->arg) != 0 ?
			       NULL :
			       "where a slot refers to";
	default:
		return "unknown kind of slot";
	}
}

static const char *slot_range_flaw(uint32_t chunk, unsigned int count)
{
	if (count < 1 || count > SLOTS_PER_CHUNK)
		return "number of slots out of range";
	if ((uint64_t)chunk * SLOTS_PER_CHUNK + count > SCO_SLOTS_MAX)
		return "slots out of range";
	return NULL;
}

void slot_chunk_encode(uint32_t chunk, uint64_t salt, const struct slot_record *records,
		       unsigned int count, uint8_t block[BLOCK_BYTES])
{
	ASSERT(slot_range_flaw(chunk, count) == NULL);

	memset(block, 0, BLOCK_BYTES);
	memcpy(block + CHUNK_MAGIC_AT, slot_chunk_magic, CHUNK_MAGIC_BYTES);
	le32_put(block + CHUNK_NUMBER_AT, chunk);
	le32_put(block + CHUNK_COUNT_AT, count);
	for (unsigned int i = 0; i < count; i++) {
		uint8_t *p = block + CHUNK_RECORDS_AT + (size_t)i * SLOT_RECORD_BYTES;

		ASSERT(slot_record_flaw(&records[i]) == NULL);
		p[0] = records[i].kind;
		le16_put(p + 2, records[i].stored_bytes);
		le32_put(p + 4, records[i].crc);
		le64_put(p + 8, records[i].arg);
	}
	le32_put(block + CHUNK_CRC_AT,
		 format_crc_hole(format_salt_seed(salt), block, BLOCK_BYTES, CHUNK_CRC_AT));
}

NODISCARD static int slot_record_decode(const uint8_t *p, struct slot_record *ret_record,
					struct err *e)
{
	const struct slot_record s = {
		.kind = p[0],
		.stored_bytes = le16_get(p + 2),
		.crc = le32_get(p + 4),
		.arg = le64_get(p + 8),
	};
	const char *flaw = p[1] != 0 ? "an unused byte is not zero" : slot_record_flaw(&s);

	if (flaw != NULL)
		return err_set(e, -EUCLEAN, "slot table: %s", flaw);
	*ret_record = s;
	return 0;
}

int slot_chunk_decode(const uint8_t block[BLOCK_BYTES], uint32_t chunk, uint64_t salt,
		      struct slot_record ret_records[SLOTS_PER_CHUNK], unsigned int *ret_count,
		      struct err *e)
{
	const uint8_t *p = block + CHUNK_RECORDS_AT;
	struct slot_record records[SLOTS_PER_CHUNK];
	uint32_t count, number;
	const char *flaw;
	int r;

	if (memcmp(block + CHUNK_MAGIC_AT, slot_chunk_magic, CHUNK_MAGIC_BYTES) != 0)
		return err_set(e, -EUCLEAN, "slot table: not a chunk of one");
	if (le32_get(block + CHUNK_CRC_AT) !=
	    format_crc_hole(format_salt_seed(salt), block, BLOCK_BYTES, CHUNK_CRC_AT))
		return err_set(e, -EBADMSG, "slot table: bad checksum of chunk %" PRIu32, chunk);
	number = le32_get(block + CHUNK_NUMBER_AT);
	count = le32_get(block + CHUNK_COUNT_AT);
	if (number != chunk)
		return err_set(e, -EUCLEAN,
			       "slot table: chunk %" PRIu32 " where %" PRIu32 " should be", number,
			       chunk);
	flaw = slot_range_flaw(chunk, count);
	if (flaw != NULL)
		return err_set(e, -EUCLEAN, "slot table: %s", flaw);
	for (uint32_t i = 0; i < count; i++, p += SLOT_RECORD_BYTES) {
		r = slot_record_decode(p, &records[i], e);
		if (r < 0)
			return r;
	}
	if (!format_all_zero(p, (size_t)(SLOTS_PER_CHUNK - count) * SLOT_RECORD_BYTES))
		return err_set(e, -EUCLEAN, "slot table: the unused part is not zero");
	memcpy(ret_records, records, count * sizeof(records[0]));
	*ret_count = count;
	return 0;
}

/* --- Footer ------------------------------------------------------------------------------------ */

static const char sco_footer_magic[] = "VPSCOEND";

enum {
	FOOTER_FEATURES_AT = 16,
	FOOTER_POOL_AT = 40,
	FOOTER_STREAM_AT = 56,
	FOOTER_SLOT_COUNT_AT = 60,
	FOOTER_SCO_AT = 64,
	FOOTER_SCO_VERSION_AT = 72,
	FOOTER_TABLE_CHUNKS_AT = 76,
	FOOTER_EPOCH_AT = 80,
	FOOTER_SALT_AT = 88,
	FOOTER_FIRST_LSN_AT = 96,
	FOOTER_LAST_LSN_AT = 104,
	FOOTER_TABLE_OFFSET_AT = 112,
	FOOTER_TABLE_CRC_AT = 120,
	FOOTER_LOG_ENTRIES_AT = 124,
	FOOTER_LOG_OFFSET_AT = 128,
	FOOTER_LOG_CRC_AT = 136,
	FOOTER_BATCH_COUNT_AT = 140,
	FOOTER_FILE_BYTES_AT = 144,
	FOOTER_DURABLE_LSN_AT = 152,
	FOOTER_REST_AT = 160,
};

/* Header, table, log, footer lie in this order and do not overlap. No sum here can wrap: offsets
 * are held below 2^62 first, counts are 32 bits wide. */
static const char *sco_footer_layout_flaw(const struct sco_footer *f)
{
	const uint64_t table_bytes = (uint64_t)f->table_chunks * BLOCK_BYTES;
	const uint64_t log_bytes = (uint64_t)f->log_entries * BATCH_ENTRY_BYTES;

	if (f->file_bytes > OBJECT_BYTES_MAX || f->table_offset_bytes > OBJECT_BYTES_MAX ||
	    f->log_offset_bytes > OBJECT_BYTES_MAX)
		return "an offset out of range";
	if (f->table_offset_bytes < BLOCK_BYTES)
		return "the slot table overlaps the header";
	if (f->table_offset_bytes + table_bytes > f->log_offset_bytes)
		return "the slot table overlaps the log";
	if (f->log_offset_bytes + log_bytes + BLOCK_BYTES > f->file_bytes)
		return "the log overlaps the footer";
	return NULL;
}

static const char *sco_footer_flaw(const struct sco_footer *f)
{
	if (f->stream == 0)
		return "stream 0";
	if (!sco_number_is_sound(f->sco))
		return "SCO number out of range";
	if (f->slot_count < 1 || f->slot_count > SCO_SLOTS_MAX)
		return "number of slots out of range";
	if (f->table_chunks != div_up_u64(f->slot_count, SLOTS_PER_CHUNK))
		return "the slot table has not the size that the slots need";
	if (f->batch_count >= f->slot_count)
		return "more batches than slots";
	if (f->log_entries > SCO_SLOTS_MAX * BATCH_ENTRIES_MAX)
		return "more log entries than a SCO can hold";
	if (!lsn_range_is_sound(f->first_lsn, f->last_lsn))
		return "first and last LSN do not fit together";
	if (f->log_entries != 0 && f->first_lsn == 0)
		return "log entries, but no LSN";
	return sco_footer_layout_flaw(f);
}

void sco_footer_encode(const struct sco_footer *f, uint8_t block[BLOCK_BYTES])
{
	ASSERT(sco_footer_flaw(f) == NULL && features_known(&f->features));

	memset(block, 0, BLOCK_BYTES);
	features_put(block + FOOTER_FEATURES_AT, &f->features);
	memcpy(block + FOOTER_POOL_AT, f->pool.bytes, UUID_BYTES);
	le32_put(block + FOOTER_STREAM_AT, f->stream);
	le32_put(block + FOOTER_SLOT_COUNT_AT, f->slot_count);
	le64_put(block + FOOTER_SCO_AT, f->sco);
	le32_put(block + FOOTER_SCO_VERSION_AT, f->version);
	le32_put(block + FOOTER_TABLE_CHUNKS_AT, f->table_chunks);
	le64_put(block + FOOTER_EPOCH_AT, f->epoch);
	le64_put(block + FOOTER_SALT_AT, f->salt);
	le64_put(block + FOOTER_FIRST_LSN_AT, f->first_lsn);
	le64_put(block + FOOTER_LAST_LSN_AT, f->last_lsn);
	le64_put(block + FOOTER_TABLE_OFFSET_AT, f->table_offset_bytes);
	le32_put(block + FOOTER_TABLE_CRC_AT, f->table_crc);
	le32_put(block + FOOTER_LOG_ENTRIES_AT, f->log_entries);
	le64_put(block + FOOTER_LOG_OFFSET_AT, f->log_offset_bytes);
	le32_put(block + FOOTER_LOG_CRC_AT, f->log_crc);
	le32_put(block + FOOTER_BATCH_COUNT_AT, f->batch_count);
	le64_put(block + FOOTER_FILE_BYTES_AT, f->file_bytes);
	le64_put(block + FOOTER_DURABLE_LSN_AT, f->durable_lsn);
	format_head_seal(block, BLOCK_BYTES, sco_footer_magic);
}

int sco_footer_decode(const uint8_t block[BLOCK_BYTES], struct sco_footer *ret_footer,
		      struct err *e)
{
	struct sco_footer f;
	const char *flaw;
	int r;

	r = format_head_check(block, BLOCK_BYTES, sco_footer_magic, "SCO footer", e);
	if (r < 0)
		return r;
	f = (struct sco_footer){
		.features = features_get(block + FOOTER_FEATURES_AT),
		.stream = le32_get(block + FOOTER_STREAM_AT),
		.slot_count = le32_get(block + FOOTER_SLOT_COUNT_AT),
		.sco = le64_get(block + FOOTER_SCO_AT),
		.version = le32_get(block + FOOTER_SCO_VERSION_AT),
		.epoch = le64_get(block + FOOTER_EPOCH_AT),
		.salt = le64_get(block + FOOTER_SALT_AT),
		.first_lsn = le64_get(block + FOOTER_FIRST_LSN_AT),
		.last_lsn = le64_get(block + FOOTER_LAST_LSN_AT),
		.table_offset_bytes = le64_get(block + FOOTER_TABLE_OFFSET_AT),
		.table_chunks = le32_get(block + FOOTER_TABLE_CHUNKS_AT),
		.table_crc = le32_get(block + FOOTER_TABLE_CRC_AT),
		.log_offset_bytes = le64_get(block + FOOTER_LOG_OFFSET_AT),
		.log_entries = le32_get(block + FOOTER_LOG_ENTRIES_AT),
		.log_crc = le32_get(block + FOOTER_LOG_CRC_AT),
		.batch_count = le32_get(block + FOOTER_BATCH_COUNT_AT),
		.file_bytes = le64_get(block + FOOTER_FILE_BYTES_AT),
		.durable_lsn = le64_get(block + FOOTER_DURABLE_LSN_AT),
	};
	memcpy(f.pool.bytes, block + FOOTER_POOL_AT, UUID_BYTES);
	r = features_check(&f.features, "SCO footer", e);
	if (r < 0)
		return r;
	if (!format_all_zero(block + FOOTER_REST_AT, BLOCK_BYTES - FOOTER_REST_AT))
		return err_set(e, -EUCLEAN, "SCO footer: the unused part is not zero");
	flaw = sco_footer_flaw(&f);
	if (flaw != NULL)
		return err_set(e, -EUCLEAN, "SCO footer: %s", flaw);
	*ret_footer = f;
	return 0;
}
