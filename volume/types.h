/*
 * types - the addresses of the engine: cluster, location, SCO, stream, LSN. Bytes: FORMAT.md.
 */
#ifndef VOLUME_TYPES_H
#define VOLUME_TYPES_H

#include "common/base.h"

#define CLUSTER_BYTES 4096u
#define CLUSTER_SHIFT 12u

/* A map page covers this many clusters (2 MiB of disk). */
#define PAGE_CLUSTERS	    512u
#define PAGE_CLUSTERS_SHIFT 9u

/* Most slots a SCO can have, header and entry blocks included. */
#define SCO_SLOTS_MAX 65535u
#define SCO_SLOTS_MIN 32u

/* Sizes a disk can have: byte offsets are signed 64 bit at every face. */
#define OBJECT_BYTES_MAX (UINT64_C(1) << 62)
#define CLUSTER_MAX	 (OBJECT_BYTES_MAX >> CLUSTER_SHIFT)

#define STREAM_SHARED	  1u /* all objects of class `file` */
#define STREAM_FIRST_FREE 16u
#define OBJECT_FIRST_FREE 16u

typedef uint64_t lsn_t; /* position in one stream, dense from 1; 0: before everything */

/*
 * A location: origin (12) | SCO number (36) | slot (16). SCO numbers start at 1, so a value whose
 * number is 0 is not a place: LOC_UNMAPPED (ask the parent layer, else zeros) and LOC_ZERO.
 */
typedef uint64_t loc_t;

#define LOC_UNMAPPED UINT64_C(0)
#define LOC_ZERO     UINT64_C(1)

#define LOC_ORIGIN_MAX 4095u
#define SCO_NUMBER_MAX ((UINT64_C(1) << 36) - 1)

static inline loc_t loc_make(uint32_t origin, uint64_t sco, uint32_t slot)
{
	return (uint64_t)origin << 52 | sco << 16 | slot;
}
static inline uint32_t loc_origin(loc_t loc)
{
	return (uint32_t)(loc >> 52);
}
static inline uint64_t loc_sco(loc_t loc)
{
	return loc >> 16 & SCO_NUMBER_MAX;
}
static inline uint32_t loc_slot(loc_t loc)
{
	return (uint32_t)(loc & 0xffff);
}
/* Whether there are bytes behind it. */
static inline bool loc_is_place(loc_t loc)
{
	return loc_sco(loc) != 0;
}
/* Location of the cluster that is n behind one at loc, in the same stretch. */
static inline loc_t loc_ahead(loc_t loc, unsigned int n)
{
	return loc_is_place(loc) ? loc + n : loc;
}

enum object_class {
	OBJECT_DISK = 1, /* has a stream of its own */
	OBJECT_FILE = 2, /* lives in STREAM_SHARED */
};

/*
 * How far a write came, in memory that outlives the process (a table that another process holds): a
 * write that was killed before its answer is gone on with by the next process, and no part of it is
 * done twice, for somebody else may have written over it meanwhile. Written by the engine: what it is
 * about to publish, under the LSN it has taken; then, once that is published, done_bytes. Where only
 * the first came about, the log knows; pool_open() asks it (pool_options.witnesses). FORMAT.md 10.
 */
struct volume_witness {
	lsn_t lsn; /* 0: nothing is about to be published */
	uint32_t stream;
	uint32_t next_bytes; /* done when that LSN is published */
	uint32_t done_bytes;
	uint32_t reserved;
};

#endif
