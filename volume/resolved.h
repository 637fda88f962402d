/*
 * resolved - keeps copies of what frozen layers show of pages that are long to look up (map.h, FORMAT.md
 * 10.11): makes them when such a page was asked for, and lets them go with their layer. They are worth
 * nothing but time, so whatever fails here is passed over.
 */
#ifndef VOLUME_RESOLVED_H
#define VOLUME_RESOLVED_H

#include "volume/checkpoint_impl.h"

/* When the map is open and no layer is in use. Errors: reading the row. */
NODISCARD int resolved_open(struct pool *p, const struct pool_row *row, struct err *e);
/* The job that makes those that are wanted, some in each step. Takes the checkpoint lock. */
uint64_t resolver_step(void *pool);
/* The same at the end of each checkpoint, which has looked up what it wrote: where one follows another
 * the job would come too late. Checkpoint lock held. */
void resolved_checkpointed(struct pool *p);
/* What moves of frozen layers put into their commit, in a pool that may have copies. */
NODISCARD int resolved_note_moves(struct checkpoint *c);
/* The number of this checkpoint, or of the last; never again one below it. Checkpoint lock held. */
uint64_t resolved_sequence(const struct pool *p);
/* All copies of a layer, in commits of their own. Checkpoint lock held. */
NODISCARD int resolved_forget_layer(struct pool *p, uint64_t layer, struct err *e);
/* The same of all layers that go with this checkpoint. */
NODISCARD int resolved_forget_dropped(struct checkpoint *c, struct err *e);

#endif
