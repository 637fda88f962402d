/*
 * io_change - one entry of the log that changes clusters of an object, from its place in the ring to the
 * map. Private to the writes (io_write.c) and the ranges (io_range.c).
 */
#ifndef VOLUME_IO_CHANGE_H
#define VOLUME_IO_CHANGE_H

#include "volume/absent.h"
#include "volume/pool_impl.h"

#include <string.h>

/* What map_update() and map_range() call back under the lock of the page. */
struct io_publication {
	struct object *object;
	const struct reservation *reservation;
	struct log_entry entry;
	bool keep_mtime;		/* the object's, as it is at this moment */
	struct volume_witness *witness; /* NULL: none */
	uint32_t done_bytes;		/* of it, once this is published */
};
/* arg: a struct io_publication. */
lsn_t io_publish(void *arg);

/* What a writer wants to become of clusters of one page. */
struct io_change {
	uint64_t first;
	unsigned int count;
	const uint8_t *src;	    /* NULL: what share says */
	loc_t share;		    /* a place that is there already; 0: zeros */
	const uint32_t *share_crcs; /* of these clusters; NULL: the index knows them */
	bool share_foreign;	    /* it is of another stream */
	uint64_t end_bytes;	    /* the object is at least this long then */
	bool conditional;
	loc_t expect;
	unsigned int reserve_flags;
	bool keep_mtime;
	struct volume_witness *witness;
	size_t before_bytes;  /* of the witness's write that are done */
	size_t partial_bytes; /* that this does; 0: all of its clusters */
};
/*
 * Reserve, fill, publish, complete, in a stream that was the object's.
 * Returns:  as io_change_clusters(); -EXDEV: it is not any more.
 */
NODISCARD int io_change_in(struct object *o, struct stream *stream, const struct io_change *c,
			   struct err *e);
/*
 * Reserve, fill, publish, complete; again in the new stream if the class changes meanwhile.
 * Returns:  clusters done, perhaps fewer than asked for, or
 * Errors:   negative with nothing changed: io_must_wait(), -EROFS, -EBADF, -ESTALE (not at expect any
 *           more).
 */
NODISCARD int io_change_clusters(struct object *o, const struct io_change *c, struct err *e);
/* The same, for what counts under the capacity. */
NODISCARD int io_change_counted(struct object *o, const struct io_change *c, struct err *e);

/* How far a write is. */
struct io_progress {
	size_t done_bytes;
	struct volume_witness *witness; /* NULL: none */
};
/*
 * Part of one cluster: merge with what is there; again if somebody was faster (every race lost is
 * somebody's write done, so this ends). src NULL: zeros, which never make the object longer. progress:
 * of the write that it is a part of; NULL: none. fetched: what was got for it, if anything.
 * Errors:   NEEDS_FETCH, and as of io_change_clusters().
 */
NODISCARD int io_write_partial(struct object *o, uint64_t offset, const uint8_t *src, size_t len,
			       const struct io_progress *progress, struct io_fetched *fetched,
			       struct err *e);
/* The cluster to merge with. The map says whether what was fetched still counts. */
NODISCARD int io_merge_source(struct object *o, uint64_t cluster, struct io_fetched *fetched,
			      uint8_t *dst, loc_t *ret_loc, struct err *e);

/* The stream to write to now. -EROFS: a snapshot has none; -EPERM: nor has a template. -EAGAIN: its
 * class is being changed; nothing may be reserved. */
NODISCARD int io_stream_of(struct object *o, struct stream **ret_stream);
/* What was reserved in a stream cannot be published there any more: the object is gone, changed its
 * class or became a template. Gate held. */
static inline bool io_has_left(const struct object *o, const struct stream *stream)
{
	return o->deleted || o->template || o->stream != stream;
}

/* -EFBIG: objects do not reach that far. */
NODISCARD int io_check_range(uint64_t offset, uint64_t len, struct err *e);

/* There is no room now, but there will be. */
static inline bool io_must_wait(int r)
{
	return r == -EAGAIN || r == -ENOSPC;
}

static inline bool io_is_zero(const uint8_t *cluster)
{
	uint64_t head;

	memcpy(&head, cluster, sizeof(head));
	return head == 0 && memcmp(cluster, cluster + 8, CLUSTER_BYTES - 8) == 0;
}

#endif
