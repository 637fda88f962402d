/*
 * evict - room on flash: the files of SCOs that the backend has go, so that flash is a cache. Private.
 *
 * A file goes only if all that was ever durable of the SCO is found without it after any crash: its row
 * with SCO_UPLOADED is flushed, a root of this process names its object, no replay needs its entries
 * (FORMAT.md 10.10).
 */
#ifndef VOLUME_EVICT_H
#define VOLUME_EVICT_H

#include "volume/root_impl.h"

/* A root was committed, or found needless: what it names may go from now on. Upload lock held. */
void evict_note_root(struct root_builder *b);
/* Job: has room while there is something that may go. */
uint64_t evictor_step(void *pool);

#endif
