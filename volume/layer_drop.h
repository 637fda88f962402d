/*
 * layer_drop - what goes with an object, or what is above one of its layers: its live layer, the
 * frozen ones below it that nobody else needs, names of snapshots. Rows into a batch, then, when that is
 * committed, what is in RAM. family.change_lock and the object's gate are held from one to the other.
 */
#ifndef VOLUME_LAYER_DROP_H
#define VOLUME_LAYER_DROP_H

#include "volume/object.h"

struct layer_drop {
	struct layer **layers; /* that go, referenced; from the live one down */
	size_t count, cap;
	uint64_t kept;	   /* the one below them, which stays; 0: none */
	uint64_t *unnamed; /* frozen layers that lose their names */
	size_t unnamed_count, unnamed_cap;
};

/* until: the layer that stays whatever is on it; NULL: nothing stays but what others need.
 * Errors: -ENOMEM, -EIO, damage; nothing was done then. */
NODISCARD int layer_drop_rows(struct layer_drop *d, struct object *o, const struct layer *until,
			      struct meta_batch *batch, struct err *e);
void layer_drop_done(struct layer_drop *d, struct object *o);
void layer_drop_free(struct layer_drop *d, struct pool *p);

#endif
