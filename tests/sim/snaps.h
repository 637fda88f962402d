/* snaps - snapshots of the simulated world's objects: what each must show, until it is deleted. */
#ifndef TESTS_SIM_SNAPS_H
#define TESTS_SIM_SNAPS_H

#include "tests/sim/world_impl.h"

/* One of: make, delete, roll back to, clone, make a template and none again, read. */
void snaps_step(struct world *w, struct world_object *o);
/* Behind a crash: those that were acknowledged are there, and show what they did; others may be. */
void snaps_check(struct world *w, struct world_object *o);
/* The object is gone. */
void snaps_clear(struct world_object *o);
/* Of a machine that was lost: any of those that ever were may be there. */
void snaps_doubt(struct world_object *o);

#endif
