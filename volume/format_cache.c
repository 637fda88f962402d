/*
 * format_cache - the map of a cache directory's chunks (FORMAT.md section 6.1).
 */
#include "volume/format_impl.h"

static const char cache_map_magic[] = "VPCHUNKS";

enum {
	MAP_FEATURES_AT = 16,
	MAP_POOL_AT = 40,
	MAP_INDEX_AT = 56,
	MAP_SLOT_COUNT_AT = 60,
	MAP_REST_AT = 64,
};

enum {
	ENTRY_CRC_AT = 0, /* of the rest, from the slot's number */
	ENTRY_VERSION_AT = 4,
	ENTRY_SCO_AT = 8,
	ENTRY_CHUNK_AT = 16,
	ENTRY_PRESENT_AT = 20,
	ENTRY_KIND_AT = 22,
	ENTRY_MAIN_AT = 23,
	ENTRY_FREQUENCY_AT = 24,
	ENTRY_REST_AT = 25,
};
#define ENTRY_FREQUENCY_MAX 3u

void cache_map_header_encode(const struct cache_map_header *h, uint8_t block[BLOCK_BYTES])
{
	ASSERT(features_known(&h->features));
	ASSERT(h->slot_count <= CACHE_MAP_SLOTS_MAX);

	memset(block, 0, BLOCK_BYTES);
	features_put(block + MAP_FEATURES_AT, &h->features);
	memcpy(block + MAP_POOL_AT, h->pool.bytes, UUID_BYTES);
	le32_put(block + MAP_INDEX_AT, h->index);
	le32_put(block + MAP_SLOT_COUNT_AT, h->slot_count);
	format_head_seal(block, BLOCK_BYTES, cache_map_magic);
}

int cache_map_header_decode(const uint8_t block[BLOCK_BYTES], struct cache_map_header *ret_header,
			    struct err *e)
{
	struct cache_map_header h;
	int r;

	r = format_head_check(block, BLOCK_BYTES, cache_map_magic, "map of chunks", e);
	if (r < 0)
		return r;
	h = (struct cache_map_header){
		.features = features_get(block + MAP_FEATURES_AT),
		.index = le32_get(block + MAP_INDEX_AT),
		.slot_count = le32_get(block + MAP_SLOT_COUNT_AT),
	};
	memcpy(h.pool.bytes, block + MAP_POOL_AT, UUID_BYTES);
	r = features_check(&h.features, "map of chunks", e);
	if (r < 0)
		return r;
	if (h.slot_count > CACHE_MAP_SLOTS_MAX)
		return err_set(e, -EUCLEAN, "map of chunks: %" PRIu32 " slots", h.slot_count);
	if (!format_all_zero(block + MAP_REST_AT, BLOCK_BYTES - MAP_REST_AT))
		return err_set(e, -EUCLEAN, "map of chunks: the unused part is not zero");
	*ret_header = h;
	return 0;
}

static const char *entry_flaw(const struct cache_map_entry *entry)
{
	if (entry->kind == CACHE_MAP_BARE)
		return entry->sco || entry->version || entry->chunk || entry->present ||
				       entry->main || entry->frequency ?
			       "a bare slot that holds something" :
			       NULL;
	if (entry->kind != CACHE_MAP_CHUNK)
		return "unknown kind";
	if (!sco_number_is_sound(entry->sco) || entry->chunk > CACHE_MAP_CHUNK_MAX)
		return "impossible chunk";
	if (entry->present == 0)
		return "a chunk without bytes";
	if (entry->main > 1 || entry->frequency > ENTRY_FREQUENCY_MAX)
		return "impossible place in the queue";
	return NULL;
}

static uint32_t entry_crc(const uint8_t *bytes, uint32_t slot)
{
	return crc32c(slot, bytes + ENTRY_VERSION_AT, CACHE_MAP_ENTRY_BYTES - ENTRY_VERSION_AT);
}

void cache_map_entry_encode(const struct cache_map_entry *entry, uint32_t slot,
			    uint8_t out[CACHE_MAP_ENTRY_BYTES])
{
	ASSERT(!entry_flaw(entry));

	memset(out, 0, CACHE_MAP_ENTRY_BYTES);
	le32_put(out + ENTRY_VERSION_AT, entry->version);
	le64_put(out + ENTRY_SCO_AT, entry->sco);
	le32_put(out + ENTRY_CHUNK_AT, entry->chunk);
	le16_put(out + ENTRY_PRESENT_AT, entry->present);
	out[ENTRY_KIND_AT] = entry->kind;
	out[ENTRY_MAIN_AT] = entry->main;
	out[ENTRY_FREQUENCY_AT] = entry->frequency;
	le32_put(out + ENTRY_CRC_AT, entry_crc(out, slot));
}

int cache_map_entry_decode(const uint8_t in[CACHE_MAP_ENTRY_BYTES], uint32_t slot,
			   struct cache_map_entry *ret_entry, struct err *e)
{
	struct cache_map_entry entry;
	const char *flaw;

	if (format_all_zero(in, CACHE_MAP_ENTRY_BYTES))
		return err_set(e, -ENODATA, "slot %" PRIu32 ": nothing is known", slot);
	if (le32_get(in + ENTRY_CRC_AT) != entry_crc(in, slot))
		return err_set(e, -EBADMSG, "slot %" PRIu32 ": wrong checksum", slot);
	entry = (struct cache_map_entry){
		.sco = le64_get(in + ENTRY_SCO_AT),
		.version = le32_get(in + ENTRY_VERSION_AT),
		.chunk = le32_get(in + ENTRY_CHUNK_AT),
		.present = le16_get(in + ENTRY_PRESENT_AT),
		.kind = in[ENTRY_KIND_AT],
		.main = in[ENTRY_MAIN_AT],
		.frequency = in[ENTRY_FREQUENCY_AT],
	};
	flaw = entry_flaw(&entry);
	if (!flaw && !format_all_zero(in + ENTRY_REST_AT, CACHE_MAP_ENTRY_BYTES - ENTRY_REST_AT))
		flaw = "the unused part is not zero";
	if (flaw)
		return err_set(e, -EUCLEAN, "slot %" PRIu32 ": %s", slot, flaw);
	*ret_entry = entry;
	return 0;
}
