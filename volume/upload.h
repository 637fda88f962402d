/*
 * upload - SCOs and roots on their way to the backend. Private; see upload.c, root.c, orphans.c.
 */
#ifndef VOLUME_UPLOAD_H
#define VOLUME_UPLOAD_H

#include "backend/backend.h"
#include "volume/pool_impl.h"

/* Put bytes that the caller checksummed; fills in len and crc of *object. */
NODISCARD int upload_put_buf(struct pool *p, const struct buf *bytes, struct named_object *object,
			     struct err *e);
/* Add an X row: name goes when a root is committed that comes after `root` or a later one. */
NODISCARD int upload_condemn_name(struct pool *p, struct meta_batch *names, uint64_t root,
				  const char *name);
/* Have a sealed SCO to oneself that is not on the backend and should be: false where it need not. It
 * stays as it is, and is not buried, until it was put or given back. Takes the lock of the SCOs. */
bool upload_claim(struct pool *p, struct sco *s);
void upload_unclaim(struct pool *p, struct sco *s);
/* Put claimed SCOs in one pack (pack_make.c), or claim them first, and pass over those that cannot be;
 * claimed no more, whatever comes of it. */
NODISCARD int upload_pack(struct pool *p, struct sco *const *scos, size_t count, bool claimed,
			  struct err *e);
/* All bytes of a claimed SCO's file. */
NODISCARD int upload_read_sco(struct pool *p, struct sco *s, uint8_t *dst, struct err *e);
/* A claimed SCO was put, or not; it is claimed no more. */
void upload_done(struct pool *p, struct sco *s, bool put, bool shares_file);
/* Put a claimed SCO; it is claimed no more, whatever comes of it. -EBADMSG: its file is damaged, which
 * was told; it is not claimed again. */
NODISCARD int upload_sco(struct pool *p, struct sco *s, struct err *e);

/*
 * Whether the backend is still ours: claims the epoch, and looks for others' claims (owner.c). Upload
 * lock held.
 * Errors:   -ESTALE another daemon owns the pool; nothing is put or deleted any more, until the next
 *           start; else what the backend says.
 */
NODISCARD int upload_check_owner(struct pool *p, struct err *e);

/* What was kept of roots goes with the pool (root_parts.c). */
void root_parts_done(struct root_parts *parts);
/* The first root that can show what changes now. Checkpoint lock held. */
uint64_t root_next(const struct pool *p);
/* Delete what was condemned long enough ago (orphans.c). Right behind a commit; upload lock held. */
NODISCARD int orphans_bury_condemned(struct pool *p, struct err *e);
/* Find and delete what crashed uploads of earlier epochs left (orphans.c). Upload lock held.
 * *ret_done: nothing had to be spared for being too young. */
NODISCARD int orphans_sweep(struct pool *p, bool *ret_done, struct err *e);
/* How many it would delete, and how many are too young. Upload lock held. */
NODISCARD int orphans_count(struct pool *p, uint64_t *ret_orphans, uint64_t *ret_spared,
			    struct err *e);
/* Whether something waits for a root to come. False, too, where it cannot be read. */
bool orphans_any_condemned(struct pool *p);
/* Read and check the newest root of the store; -ENOENT: none. Freed by root_done(). */
NODISCARD int root_read(struct pool *p, uint64_t epoch, uint64_t number, struct root *ret_root,
			struct err *e);
/* The pieces of a map, ascending (root_map.c); none for an empty name. Freed by the caller. */
NODISCARD int root_map_pieces(struct pool *p, const struct named_object *map,
			      struct map_piece **ret_pieces, size_t *ret_count, struct err *e);

#endif
