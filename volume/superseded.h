/*
 * superseded - entries of a SCO that was left open which count no more: a later process has them.
 *
 * Where a sync failed the bytes of a batch may be gone from the file though its block is whole. Whoever
 * recovers then writes it again from the ring, under its LSNs, to a SCO of a later epoch, and that one
 * counts (FORMAT.md 10.3). A process after that has another ring, and finds the old batch whole but for
 * its bytes. The copy that it makes of the old SCO is not to name them.
 */
#ifndef VOLUME_SUPERSEDED_H
#define VOLUME_SUPERSEDED_H

#include "volume/sco.h"

struct stream_world;

/*
 * The log of a LEFTOVER without those entries that name one of these slots and that a SCO of a later
 * epoch has as well. bad: a bit for each slot of the SCO.
 *
 * Owns:     *ret_log is initialised, whatever is returned: buf_done() by the caller.
 * Errors:   -ENOMEM; what reading the other SCOs says.
 */
NODISCARD int superseded_drop(struct stream_world *w, struct sco *s, const uint8_t *bad,
			      struct buf *ret_log, struct err *e);

#endif
