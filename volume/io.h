/*
 * io - steps of reading and writing that recovery, cleaner and requests share. Private.
 */
#ifndef VOLUME_IO_H
#define VOLUME_IO_H

#include "volume/object.h"

/*
 * As object_read(), but what is not here is fetched only if may_fetch.
 * Errors:   NEEDS_FETCH (absent.h), as of object_read().
 */
NODISCARD ssize_t io_read(struct object *o, uint64_t offset_bytes, void *dst, size_t len_bytes,
			  bool may_fetch, struct err *e);

/* What the map says of some clusters of one page. */
struct io_places {
	loc_t locs[PAGE_CLUSTERS];
	uint32_t crcs[PAGE_CLUSTERS];
	uint8_t known[PAGE_CLUSTERS / 8];
};
NODISCARD int io_look_up(struct object *o, uint64_t first, unsigned int count, struct io_places *m,
			 struct err *e);
/* How many of count clusters from i on lie side by side, or hold nothing. */
unsigned int io_run_length(const struct io_places *m, unsigned int i, unsigned int count);
/* A run of places: its SCO, referenced so that cleaning can't take it away, and its open file; NULL: it
 * is absent. */
struct io_run {
	struct sco *sco;
	struct env_file *file;
};
/* All runs of places, in their order; runs has room for PAGE_CLUSTERS. Returns how many, or negative
 * with none held. */
NODISCARD int io_hold_runs(struct pool *p, const struct io_places *m, unsigned int count,
			   struct io_run *runs, struct err *e);
/* Whether the run at i, of an absent SCO, is in the cache with all it takes to verify it. */
bool io_run_is_near(struct pool *p, struct sco *s, const struct io_places *m, unsigned int i,
		    unsigned int count);
/* Checksums of the run at i. Errors: as of sco_index_crcs(). */
NODISCARD int io_run_crcs(struct pool *p, struct sco *s, const struct io_places *m, unsigned int i,
			  unsigned int count, uint32_t *ret_crcs, struct err *e);
/* -EBADMSG: bytes don't have these checksums. */
NODISCARD int io_verify(struct pool *p, const struct sco *s, uint32_t slot, unsigned int count,
			const uint32_t *crcs, const uint8_t *bytes, struct err *e);

/* One cluster, and where it was. dst: aligned. The gate is held: NEEDS_FETCH (absent.h) of what is not
 * here. */
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
