/*
 * root_impl - what root.c and root_map.c share. Private.
 */
#ifndef VOLUME_ROOT_IMPL_H
#define VOLUME_ROOT_IMPL_H

#include "volume/upload.h"

/* A layer whose locations the log of a stream filled last. */
struct root_layer {
	uint64_t id;
	uint32_t stream;
};

/* An area that has a row ROW_CHANGED. */
struct changed_area {
	uint64_t layer, area;
	bool done; /* the new root knows what changed, or nobody asks any more */
};

struct root_builder {
	struct pool *pool;
	uint64_t number;
	struct root old; /* the root before; zero when there is none */
	struct root new;
	struct meta_batch *names; /* rows that the commit brings along */

	/* root_map.c */
	struct root_layer *layers; /* of all streams, ascending */
	size_t layer_count;
	struct changed_area *areas; /* ascending; loaded when the first map is put */
	size_t area_count;
	bool areas_loaded;
};

/* Add a name to what goes with the root after this one; an empty one is passed over. */
NODISCARD int root_condemn(struct root_builder *b, const char *name, struct err *e);
/* Fetch an object whole and check it against what named it; out is replaced. */
NODISCARD int root_read_object(struct pool *p, const struct named_object *o, struct buf *out,
			       struct err *e);

/* Take down which layers there are: before the namespace is read, so that no layer is missing whose
 * object it shows. */
NODISCARD int root_map_begin(struct root_builder *b, struct err *e);
/*
 * Put a stream's map as the last checkpoint has it: the pieces of the old map (none: empty name) that
 * still hold are taken over, the others are written anew and the old ones condemned. Fills in
 * m->map and m->map_lsn. Memory: a piece, and 200 bytes for each piece of the map.
 */
NODISCARD int root_map_put(struct root_builder *b, struct stream *s, const struct named_object *old,
			   struct manifest *m, struct err *e);
/* Condemn a map with its pieces; an empty name is passed over. */
NODISCARD int root_map_condemn(struct root_builder *b, const struct named_object *map,
			       struct err *e);
/* The root is committed: what the maps that were put know is not changed any more. */
NODISCARD int root_map_committed(struct root_builder *b, struct err *e);
void root_map_done(struct root_builder *b);

#endif
