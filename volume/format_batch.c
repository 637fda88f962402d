/*
 * format_batch - entry blocks, their entries, and the same entries in a sealed SCO's log
 * (FORMAT.md sections 3 and 4.2).
 *
 * A block is written while other threads fill entries of it and while the process may die at any
 * instruction. So two single stores decide: the magic says that the header is whole, a kind that
 * its entry is whole. Both are release stores, made last.
 */
#include "volume/format_impl.h"

static const char batch_magic[] = "VPBT";

enum {
	BATCH_MAGIC_AT = 0,
	BATCH_VERSION_AT = 4,
	BATCH_FLAGS_AT = 6,
	BATCH_SALT_AT = 8,
	BATCH_SCO_AT = 16,
	BATCH_STREAM_AT = 24,
	BATCH_NUMBER_AT = 28,
	BATCH_SLOT_AT = 32,
	BATCH_ZERO_AT = 36,
	BATCH_EPOCH_AT = 40,
	BATCH_FIXED_CRC_AT = 48, /* of all before it */
	BATCH_BLOCK_CRC_AT = 52, /* of the whole block with this field zero */
	BATCH_ENTRY_COUNT_AT = 56,
	BATCH_CLUSTER_COUNT_AT = 58,
	BATCH_ZERO_2_AT = 60,
	BATCH_CLOSED_LSN_AT = 64,
	BATCH_DURABLE_LSN_AT = 72,
	BATCH_META_SEQUENCE_AT = 80,
	BATCH_ZERO_3_AT = 88,
};

enum {
	ENTRY_LSN_AT = 0,
	ENTRY_OBJECT_AT = 8,
	ENTRY_FIRST_AT = 16,
	ENTRY_SIZE_AT = 24,
	ENTRY_MTIME_AT = 32,
	ENTRY_COUNT_AT = 40,
	ENTRY_SLOT_AT = 44,
	ENTRY_KIND_AT = 46,
	ENTRY_FLAGS_AT = 47,
	ENTRY_SOURCE_AT = 48, /* SHARE: the low 32 bits of the SCO's number; else zero */
	ENTRY_CRC_AT =
		52, /* of all before it with the final kind, and of its clusters' checksums */
};

/* --- Entries ----------------------------------------------------------------------------------- */

static const char *cluster_range_flaw(const struct log_entry *entry)
{
	const bool to_end = entry->kind == ENTRY_ZERO && entry->cluster_count == ENTRY_TO_END;

	if (entry->cluster_count == 0)
		return "no cluster";
	if (!to_end && entry->first_cluster + entry->cluster_count > CLUSTER_MAX)
		return "clusters behind the largest object";
	if ((entry->kind == ENTRY_DATA || entry->kind == ENTRY_SHARE) &&
	    entry->first_cluster % PAGE_CLUSTERS + entry->cluster_count > PAGE_CLUSTERS)
		return "data across pages";
	return NULL;
}

static const char *share_flaw(const struct log_entry *entry)
{
	if (entry->slot != 0)
		return "shared clusters with a slot";
	if (!loc_is_place(entry->source) || loc_origin(entry->source) != 0 ||
	    loc_slot(entry->source) == 0)
		return "shared clusters without a place";
	if (loc_slot(entry->source) + entry->cluster_count > SCO_SLOTS_MAX)
		return "shared clusters behind the end of a SCO";
	return cluster_range_flaw(entry);
}

const char *log_entry_flaw(const struct log_entry *entry)
{
	const bool has_slot = entry->slot != 0;

	if (entry->lsn == 0)
		return "LSN 0";
	if (entry->object == 0 && entry->kind != ENTRY_VOID)
		return "object 0";
	if (entry->first_cluster > CLUSTER_MAX)
		return "cluster behind the largest object";
	if (entry->size_bytes > OBJECT_BYTES_MAX)
		return "size beyond the largest object";
	if (entry->flags & ~ENTRY_COPY || (entry->flags && entry->kind != ENTRY_DATA))
		return "unknown flags";
	if (entry->flags & ENTRY_COPY && (entry->size_bytes == 0 || entry->mtime_ns != 0))
		return "a copy without a mark, or with a time";

	switch (entry->kind) {
	case ENTRY_DATA:
		return has_slot ? cluster_range_flaw(entry) : "data without a slot";
	case ENTRY_ZERO:
		return has_slot ? "a range with a slot" : cluster_range_flaw(entry);
	case ENTRY_TRUNCATE:
		return NULL;
	case ENTRY_VOID:
		if (has_slot)
			return "void with a slot";
		if (entry->cluster_count == 0)
			return "void of nothing";
		return entry->lsn > UINT64_MAX - (entry->cluster_count - 1) ? "LSNs that wrap" :
									      NULL;
	case ENTRY_SHARE:
		return share_flaw(entry);
	case ENTRY_ATTR:
		return has_slot ? "attributes with a slot" : NULL;
	default:
		return "unknown kind";
	}
}

/* Clusters behind the block that belong to an entry, each with its checksum in the table. */
static unsigned int entry_slots(const struct log_entry *entry)
{
	if (entry->slot == 0)
		return 0;
	return entry->kind == ENTRY_DATA ? entry->cluster_count : 1;
}

/* A SHARE has the place that it names in the fields of the slot, of the flags and behind them. */
#define SHARE_SCO_SHIFT 4u  /* of flags: bits 32 to 35 of the SCO's number */
#define SHARE_SCO_BITS	32u /* in ENTRY_SOURCE_AT */

static void entry_put(const struct log_entry *entry, uint8_t out[BATCH_ENTRY_BYTES])
{
	const uint64_t sco = loc_sco(entry->source);

	le64_put(out + ENTRY_LSN_AT, entry->lsn);
	le64_put(out + ENTRY_OBJECT_AT, entry->object);
	le64_put(out + ENTRY_FIRST_AT, entry->first_cluster);
	le64_put(out + ENTRY_SIZE_AT, entry->size_bytes);
	le64_put(out + ENTRY_MTIME_AT, (uint64_t)entry->mtime_ns);
	le32_put(out + ENTRY_COUNT_AT, entry->cluster_count);
	le16_put(out + ENTRY_SLOT_AT, (uint16_t)(entry->slot | loc_slot(entry->source)));
	out[ENTRY_KIND_AT] = entry->kind;
	out[ENTRY_FLAGS_AT] = (uint8_t)(entry->flags | sco >> SHARE_SCO_BITS << SHARE_SCO_SHIFT);
	le32_put(out + ENTRY_SOURCE_AT, (uint32_t)sco);
	le32_put(out + ENTRY_CRC_AT, 0);
}

static struct log_entry entry_get(const uint8_t in[BATCH_ENTRY_BYTES])
{
	struct log_entry entry = {
		.lsn = le64_get(in + ENTRY_LSN_AT),
		.object = le64_get(in + ENTRY_OBJECT_AT),
		.first_cluster = le64_get(in + ENTRY_FIRST_AT),
		.size_bytes = le64_get(in + ENTRY_SIZE_AT),
		.mtime_ns = (int64_t)le64_get(in + ENTRY_MTIME_AT),
		.cluster_count = le32_get(in + ENTRY_COUNT_AT),
		.slot = le16_get(in + ENTRY_SLOT_AT),
		.kind = in[ENTRY_KIND_AT],
		.flags = in[ENTRY_FLAGS_AT],
	};
	uint64_t sco;

	if (entry.kind != ENTRY_SHARE)
		return entry;
	sco = (uint64_t)(entry.flags >> SHARE_SCO_SHIFT) << SHARE_SCO_BITS |
	      le32_get(in + ENTRY_SOURCE_AT);
	entry.source = loc_make(0, sco, entry.slot);
	entry.slot = 0;
	entry.flags &= (1u << SHARE_SCO_SHIFT) - 1;
	return entry;
}

/* Whether what a kind has no use for is zero. */
static bool unused_is_zero(const struct log_entry *entry, const uint8_t in[BATCH_ENTRY_BYTES])
{
	return entry->kind == ENTRY_SHARE || le32_get(in + ENTRY_SOURCE_AT) == 0;
}

void log_entry_encode(const struct log_entry *entry, uint8_t out[BATCH_ENTRY_BYTES])
{
	ASSERT(log_entry_flaw(entry) == NULL);
	entry_put(entry, out);
}

int log_entry_decode(const uint8_t in[BATCH_ENTRY_BYTES], struct log_entry *ret_entry,
		     struct err *e)
{
	const struct log_entry entry = entry_get(in);
	const char *flaw = log_entry_flaw(&entry);

	if (flaw == NULL && (!unused_is_zero(&entry, in) ||
			     !format_all_zero(in + ENTRY_CRC_AT, BATCH_ENTRY_BYTES - ENTRY_CRC_AT)))
		flaw = "the unused part is not zero";
	if (flaw != NULL)
		return err_set(e, -EUCLEAN, "log entry at LSN %" PRIu64 ": %s", entry.lsn, flaw);
	*ret_entry = entry;
	return 0;
}

/* --- Entries in their block -------------------------------------------------------------------- */

bool batch_has_room(unsigned int entries, unsigned int clusters)
{
	return entries <= BATCH_ENTRIES_MAX && clusters <= BLOCK_BYTES / CRC_BYTES &&
	       entries * BATCH_ENTRY_BYTES + clusters * CRC_BYTES <= BATCH_ROOM_BYTES;
}

/* The table of checksums grows down from the block's end, so a slice of it is one piece. */
static size_t table_at(unsigned int end)
{
	return BLOCK_BYTES - (size_t)end * CRC_BYTES;
}

static size_t entry_at(unsigned int index)
{
	return BATCH_HEADER_BYTES + (size_t)index * BATCH_ENTRY_BYTES;
}

void batch_crc_put(uint8_t *block, unsigned int i, uint32_t crc)
{
	ASSERT(i < BATCH_CLUSTERS_MAX);
	le32_put(block + table_at(i + 1), crc);
}

uint32_t batch_crc_get(const uint8_t *block, unsigned int i)
{
	ASSERT(i < BATCH_CLUSTERS_MAX);
	return le32_get(block + table_at(i + 1));
}

/* bytes: the entry with its final kind; the caller keeps the slice inside the block. */
static uint32_t entry_crc(const uint8_t bytes[BATCH_ENTRY_BYTES], const uint8_t *block,
			  uint64_t salt, unsigned int first, unsigned int count)
{
	uint32_t crc = crc32c(format_salt_seed(salt), bytes, ENTRY_CRC_AT);

	if (count == 0)
		return crc;
	return crc32c(crc, block + table_at(first + count), (size_t)count * CRC_BYTES);
}

void batch_entry_encode(uint8_t *block, unsigned int index, const struct log_entry *entry,
			uint64_t salt, unsigned int crc_first, unsigned int crc_count)
{
	uint8_t bytes[BATCH_ENTRY_BYTES];

	ASSERT(log_entry_flaw(entry) == NULL);
	ASSERT(crc_count == entry_slots(entry));
	ASSERT(crc_count == 0 || entry->slot == le32_get(block + BATCH_SLOT_AT) + 1 + crc_first);
	ASSERT(crc_count == 0 ? index < BATCH_ENTRIES_MAX :
				batch_has_room(index + 1, crc_first + crc_count));

	entry_put(entry, bytes);
	le32_put(bytes + ENTRY_CRC_AT, entry_crc(bytes, block, salt, crc_first, crc_count));
	bytes[ENTRY_KIND_AT] = ENTRY_NONE;
	memcpy(block + entry_at(index), bytes, sizeof(bytes));
}

void batch_entry_publish(uint8_t *block, unsigned int index, uint8_t kind)
{
	ASSERT(index < BATCH_ENTRIES_MAX && kind != ENTRY_NONE);
	__atomic_store_n(block + entry_at(index) + ENTRY_KIND_AT, kind, __ATOMIC_RELEASE);
}

/* Whether a position is in use as far as the block tells, and how many clusters an entry may reach.
 * A block that counts none was never counted: then anything that a block can hold. */
static bool entry_is_counted(const uint8_t *block, unsigned int index)
{
	const unsigned int entries = le16_get(block + BATCH_ENTRY_COUNT_AT);

	return index < (entries != 0 ? entries : BATCH_ENTRIES_MAX);
}

static unsigned int entry_cluster_limit(const uint8_t *block)
{
	if (le16_get(block + BATCH_ENTRY_COUNT_AT) == 0)
		return BATCH_CLUSTERS_MAX;
	return le16_get(block + BATCH_CLUSTER_COUNT_AT);
}

int batch_entry_decode(const uint8_t *block, unsigned int index, uint64_t salt,
		       struct log_entry *ret_entry, struct err *e)
{
	const uint32_t block_slot = le32_get(block + BATCH_SLOT_AT);
	struct log_entry entry;
	unsigned int first, count;
	const uint8_t *p;
	const char *flaw;

	if (index >= BATCH_ENTRIES_MAX)
		return err_set(e, -EUCLEAN, "batch entry %u: no such position", index);
	p = block + entry_at(index);
	if (!entry_is_counted(block, index) ||
	    __atomic_load_n(p + ENTRY_KIND_AT, __ATOMIC_ACQUIRE) == ENTRY_NONE)
		return -ENODATA;

	/* Which checksums are its own, only its fields tell. Where they point outside of the
	 * table they cannot be what was written: as good as a wrong checksum. */
	entry = entry_get(p);
	count = entry_slots(&entry);
	first = count == 0 ? 0 : entry.slot - block_slot - 1;
	if (count != 0 && (block_slot >= entry.slot || count > BATCH_CLUSTERS_MAX ||
			   !batch_has_room(index + 1, first + count)))
		return err_set(e, -EBADMSG, "batch entry %u: slot %u outside of the batch", index,
			       entry.slot);
	if (entry_crc(p, block, salt, first, count) != le32_get(p + ENTRY_CRC_AT))
		return err_set(e, -EBADMSG, "batch entry %u: bad checksum", index);

	flaw = log_entry_flaw(&entry);
	if (flaw == NULL && !unused_is_zero(&entry, p))
		flaw = "the unused part is not zero";
	if (flaw == NULL && first + count > entry_cluster_limit(block))
		flaw = "slots behind the batch's last cluster";
	if (flaw != NULL)
		return err_set(e, -EUCLEAN, "batch entry %u: %s", index, flaw);
	*ret_entry = entry;
	return 0;
}

/* --- Header ------------------------------------------------------------------------------------ */

/* Of the fixed part. The block and all its clusters have slots of the SCO. */
static const char *batch_fixed_flaw(const struct batch_header *h)
{
	if (h->stream == 0)
		return "stream 0";
	if (!sco_number_is_sound(h->sco))
		return "SCO number out of range";
	if (h->slot < 1 || h->slot >= SCO_SLOTS_MAX)
		return "slot out of range";
	if (h->flags & ~(unsigned int)BATCH_DIRECT)
		return "unknown flags";
	return NULL;
}

static const char *batch_counts_flaw(const struct batch_header *h)
{
	if (!batch_has_room(h->entry_count, h->cluster_count))
		return "more entries and clusters than a block holds";
	if (h->slot + h->cluster_count >= SCO_SLOTS_MAX)
		return "clusters behind the SCO's last slot";
	return NULL;
}

void batch_open_encode(const struct batch_header *h, uint8_t *block)
{
	uint8_t fixed[BATCH_BLOCK_CRC_AT];
	uint32_t magic;

	ASSERT(batch_fixed_flaw(h) == NULL);

	memset(fixed, 0, sizeof(fixed));
	memcpy(fixed + BATCH_MAGIC_AT, batch_magic, sizeof(magic));
	le16_put(fixed + BATCH_VERSION_AT, FORMAT_VERSION);
	le16_put(fixed + BATCH_FLAGS_AT, h->flags);
	le64_put(fixed + BATCH_SALT_AT, h->salt);
	le64_put(fixed + BATCH_SCO_AT, h->sco);
	le32_put(fixed + BATCH_STREAM_AT, h->stream);
	le32_put(fixed + BATCH_NUMBER_AT, h->batch);
	le32_put(fixed + BATCH_SLOT_AT, h->slot);
	le64_put(fixed + BATCH_EPOCH_AT, h->epoch);
	le32_put(fixed + BATCH_FIXED_CRC_AT, crc32c(0, fixed, BATCH_FIXED_CRC_AT));

	memcpy(&magic, fixed, sizeof(magic));
	memcpy(block + sizeof(magic), fixed + sizeof(magic), sizeof(fixed) - sizeof(magic));
	__atomic_store_n((uint32_t *)(void *)block, magic, __ATOMIC_RELEASE);
}

/* Clusters first: a positive number of entries says that both are there. */
void batch_counts_put(uint8_t *block, unsigned int entries, unsigned int clusters)
{
	ASSERT(batch_has_room(entries, clusters));
	le16_put(block + BATCH_CLUSTER_COUNT_AT, (uint16_t)clusters);
	__atomic_store_n((uint16_t *)(void *)(block + BATCH_ENTRY_COUNT_AT), (uint16_t)entries,
			 __ATOMIC_RELEASE);
}

void batch_close_encode(const struct batch_header *h, uint8_t *block)
{
	ASSERT(batch_fixed_flaw(h) == NULL && batch_counts_flaw(h) == NULL);
	ASSERT(le32_get(block + BATCH_SLOT_AT) == h->slot &&
	       le32_get(block + BATCH_NUMBER_AT) == h->batch);

	batch_counts_put(block, h->entry_count, h->cluster_count);
	le64_put(block + BATCH_CLOSED_LSN_AT, h->closed_lsn);
	le64_put(block + BATCH_DURABLE_LSN_AT, h->durable_lsn);
	le64_put(block + BATCH_META_SEQUENCE_AT, h->meta_sequence);
	le32_put(block + BATCH_BLOCK_CRC_AT,
		 format_crc_hole(0, block, BLOCK_BYTES, BATCH_BLOCK_CRC_AT));
}

/* Magic, checksum and version of the fixed part; its fields and the counts into *h, unchecked. */
NODISCARD static int batch_fixed_get(const uint8_t *block, struct batch_header *h, struct err *e)
{
	uint16_t version;

	if (memcmp(block + BATCH_MAGIC_AT, batch_magic, sizeof(batch_magic) - 1) != 0)
		return err_set(e, -EUCLEAN, "batch: not one, its magic is missing");
	if (le32_get(block + BATCH_FIXED_CRC_AT) != crc32c(0, block, BATCH_FIXED_CRC_AT))
		return err_set(e, -EBADMSG, "batch: bad checksum of the header");
	version = le16_get(block + BATCH_VERSION_AT);
	if (version != FORMAT_VERSION)
		return err_set(e, -EPROTONOSUPPORT,
			       "batch: format version %u, this program knows %u", version,
			       FORMAT_VERSION);
	*h = (struct batch_header){
		.flags = le16_get(block + BATCH_FLAGS_AT),
		.salt = le64_get(block + BATCH_SALT_AT),
		.sco = le64_get(block + BATCH_SCO_AT),
		.stream = le32_get(block + BATCH_STREAM_AT),
		.batch = le32_get(block + BATCH_NUMBER_AT),
		.slot = le32_get(block + BATCH_SLOT_AT),
		.epoch = le64_get(block + BATCH_EPOCH_AT),
		.entry_count = le16_get(block + BATCH_ENTRY_COUNT_AT),
		.cluster_count = le16_get(block + BATCH_CLUSTER_COUNT_AT),
	};
	return 0;
}

NODISCARD static int batch_fields_check(const uint8_t *block, const struct batch_header *h,
					struct err *e)
{
	const char *flaw = batch_fixed_flaw(h);

	if (flaw == NULL && le32_get(block + BATCH_ZERO_AT) != 0)
		flaw = "the unused part of the header is not zero";
	if (flaw == NULL)
		flaw = batch_counts_flaw(h);
	if (flaw != NULL)
		return err_set(e, -EUCLEAN, "batch %" PRIu32 " of SCO %" PRIu64 ": %s", h->batch,
			       h->sco, flaw);
	return 0;
}

int batch_open_decode(const uint8_t *block, struct batch_header *ret_header, struct err *e)
{
	struct batch_header h;
	int r;

	r = batch_fixed_get(block, &h, e);
	if (r < 0)
		return r;
	r = batch_fields_check(block, &h, e);
	if (r < 0)
		return r;
	*ret_header = h;
	return 0;
}

int batch_close_decode(const uint8_t *block, struct batch_header *ret_header, struct err *e)
{
	struct batch_header h;
	int r;

	r = batch_fixed_get(block, &h, e);
	if (r < 0)
		return r;
	if (le32_get(block + BATCH_BLOCK_CRC_AT) !=
	    format_crc_hole(0, block, BLOCK_BYTES, BATCH_BLOCK_CRC_AT))
		return err_set(e, -EBADMSG,
			       "batch %" PRIu32 " of SCO %" PRIu64 ": bad checksum of the block",
			       h.batch, h.sco);
	r = batch_fields_check(block, &h, e);
	if (r < 0)
		return r;
	if (le32_get(block + BATCH_ZERO_2_AT) != 0 || le64_get(block + BATCH_ZERO_3_AT) != 0)
		return err_set(e, -EUCLEAN,
			       "batch %" PRIu32 " of SCO %" PRIu64
			       ": the unused part of the header is not zero",
			       h.batch, h.sco);
	h.closed_lsn = le64_get(block + BATCH_CLOSED_LSN_AT);
	h.durable_lsn = le64_get(block + BATCH_DURABLE_LSN_AT);
	h.meta_sequence = le64_get(block + BATCH_META_SEQUENCE_AT);
	*ret_header = h;
	return 0;
}
