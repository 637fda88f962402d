/* life_rows - rows of objects, layers and snapshots: into a batch of NAMES, and out of the metadata. */
#ifndef VOLUME_LIFE_ROWS_H
#define VOLUME_LIFE_ROWS_H

#include "volume/pool_impl.h"

NODISCARD int life_put_object(struct pool *p, struct meta_batch *batch, uint64_t id,
			      const struct object_row *row);
NODISCARD int life_put_layer(struct pool *p, struct meta_batch *batch, uint64_t id,
			     const struct layer_row *row);
NODISCARD int life_put_stream(struct pool *p, struct meta_batch *batch, uint32_t id,
			      const struct stream_row *row);
NODISCARD int life_put_snapshot(struct pool *p, struct meta_batch *batch, uint64_t object,
				uint64_t number, const struct snapshot_row *row);
/* The row as it is, with another live layer; of a template, or not. Errors: as life_get_object(). */
NODISCARD int life_put_live_layer(struct pool *p, struct meta_batch *batch, uint64_t object,
				  uint64_t layer, bool template, struct err *e);
/* The row as it is, but no template's. Errors: the same. */
NODISCARD int life_put_no_template(struct pool *p, struct meta_batch *batch, uint64_t object,
				   struct err *e);

/* Errors: -ENOENT; -EBADMSG, -EUCLEAN; -EIO. The object's origins are freed by object_row_done(). */
NODISCARD int life_get_object(struct pool *p, uint64_t id, struct object_row *ret_row,
			      struct err *e);
NODISCARD int life_get_layer(struct pool *p, uint64_t id, struct layer_row *ret_row, struct err *e);

/* The row of a stream of its own for a disk, into the batch. */
NODISCARD int life_new_disk_stream(struct pool *p, struct meta_batch *batch, uint64_t owner,
				   struct stream **ret_stream, struct err *e);

#endif
