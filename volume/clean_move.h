/*
 * clean_move - writes again what still lives in a SCO: what live layers have through the ordinary
 * write path and only where the map still names the old place, what frozen ones have as copies that a
 * checkpoint's rows follow (clean_frozen.h). One thread, the cleaner's.
 */
#ifndef VOLUME_CLEAN_MOVE_H
#define VOLUME_CLEAN_MOVE_H

#include "volume/clean_frozen.h"
#include "volume/clean_read.h"
#include "volume/pool_impl.h"

struct clean_move {
	struct pool *pool;
	struct sco *sco;
	struct clean_log log;
	size_t at; /* first of it that was not looked at */
	const struct clean_window *window;
	struct object *object; /* of the entry at hand; referenced */
	uint64_t missing;      /* an object that is gone */
	uint64_t moved;	       /* clusters */
	struct frozen_finder frozen;
	struct err *e;
};

void clean_move_begin(struct clean_move *m, struct pool *p, struct sco *s, struct err *e);
/*
 * Move what lives in a window; windows come in order, each once. What is moved is verified first.
 * Errors:   -ESHUTDOWN the cleaner is to stop; -EBADMSG a checksum; of the window's read; of writes.
 */
NODISCARD int clean_move_window(struct clean_move *m, struct clean_window *w);
void clean_move_end(struct clean_move *m);

/* For clean_frozen.c: clusters of the window, verified, and their checksums; a wait for room, which
 * fails with -ESHUTDOWN; so many are in another place now. */
NODISCARD int clean_window_bytes(struct clean_move *m, uint32_t slot, uint32_t count,
				 const uint8_t **ret_bytes, uint32_t *ret_crcs);
NODISCARD int clean_wait_room(struct clean_move *m, uint64_t generation);
void clean_count_moved(struct clean_move *m, unsigned int count);

#endif
