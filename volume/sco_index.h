/*
 * sco_index - checksums of the clusters of SCOs, for those that the map does not carry.
 *
 * Young SCOs have them in RAM; of sealed ones the chunks of the slot table are read from the file
 * and kept in a small LRU, which is part of `metadata_cache`.
 */
#ifndef VOLUME_SCO_INDEX_H
#define VOLUME_SCO_INDEX_H

#include "volume/sco.h"

struct sco_index;

NODISCARD int sco_index_open(struct sco_table *scos, uint64_t cache_bytes,
			     struct sco_index **ret_index);
void sco_index_close(struct sco_index *x);

/*
 * Checksums of slots [slot, slot + count); the caller holds a reference.
 * Errors:   -EBADMSG the chunk is damaged, -EUCLEAN a slot holds no cluster, -EIO.
 * Threads:  any; may block on one read a chunk.
 */
NODISCARD int sco_index_crcs(struct sco_index *x, struct sco *s, uint32_t slot, uint32_t count,
			     uint32_t *ret_crcs, struct err *e);
/* The bytes of the table that sco_index_crcs() may read for these slots; false: they are in RAM. Where
 * the table is must be known (sco_load_footer()). */
bool sco_index_span(struct sco_index *x, const struct sco *s, uint32_t slot, uint32_t count,
		    uint64_t *ret_offset_bytes, size_t *ret_len_bytes);
/* Have the chunks of these slots in the cache, with few reads. Errors, threads: as above. */
NODISCARD int sco_index_load(struct sco_index *x, struct sco *s, uint32_t slot, uint32_t count,
			     struct err *e);

#endif
