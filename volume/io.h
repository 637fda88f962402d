/*
 * io - steps of reading and writing that recovery, cleaner and requests share. Private.
 */
#ifndef VOLUME_IO_H
#define VOLUME_IO_H

#include "volume/object.h"

/*
 * Read and verify clusters of one page into aligned memory: zeros where nothing is mapped.
 * Errors:   -EBADMSG damaged (the map was looked up again and said the same), -EIO.
 */
NODISCARD int io_read_page(struct object *o, uint64_t first, unsigned int count, uint8_t *dst,
			   struct err *e);

/* One cluster, and where it was. dst: aligned. */
NODISCARD int io_read_cluster(struct object *o, uint64_t cluster, uint8_t *dst, loc_t *ret_loc,
			      struct err *e);

/*
 * Move clusters of one page: write these bytes again, if they are still at expect and behind it.
 * Returns:  how many were moved (at least one, perhaps fewer than count), or
 * Errors:   -ESTALE they are not there; -EAGAIN, -ENOSPC no room now (the reserve may be used).
 */
NODISCARD int io_relocate(struct object *o, uint64_t cluster, unsigned int count,
			  const uint8_t *src, loc_t expect, struct err *e);

/* Aligned memory of BOUNCE_BYTES; NULL: none. */
struct bounce {
	uint8_t *mem;
	struct bounce *next;
};
struct bounce *bounce_get(struct pool *p);
void bounce_put(struct pool *p, struct bounce *b);
void bounce_free_all(struct pool *p);

#endif
