/* snapshot_impl - what snapshots and clones share with the life of objects. Private to volume/. */
#ifndef VOLUME_SNAPSHOT_IMPL_H
#define VOLUME_SNAPSHOT_IMPL_H

#include "volume/life_rows.h"
#include "volume/snapshot.h"

uint64_t clone_source_layer(const struct clone_source *source);
/* -EPERM: a sticky snapshot keeps the object. */
NODISCARD int snapshots_refuse_deletion(struct pool *p, uint64_t object, struct err *e);

/* By object and number. */
NODISCARD int snapshot_find_of(struct pool *p, uint64_t object, uint64_t number,
			       struct snapshot_info *ret_info, struct err *e);
/* One snapshot's row; value holds what row points to. Errors: -ENOENT; damage. */
NODISCARD int snapshot_row_by_name(struct pool *p, uint64_t object, const char *name,
				   uint64_t *ret_number, struct snapshot_row *ret_row,
				   struct buf *value, struct err *e);
/* A program of before must not open the pool any more. Checkpoint lock held. */
NODISCARD int snapshots_announce(struct pool *p, struct err *e);
NODISCARD int snapshot_check_name(const char *name, struct err *e);

/* Writers wait without a place in the log, so that what holds the gate may sync it. */
void object_set_frozen(struct object *o, bool frozen);

#endif
