/*
 * root_impl - a root on its way: settled under the lock of checkpoints (root_cut.c), put without any but
 * the upload lock (root.c, root_map.c), committed by upload.c. Private.
 */
#ifndef VOLUME_ROOT_IMPL_H
#define VOLUME_ROOT_IMPL_H

#include "volume/packs.h"
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

/* A stream as the root is to show it. */
struct stream_cut {
	bool damaged;
	bool failed;	      /* in this process: the next one makes it whole */
	lsn_t checkpoint_lsn; /* what the view's rows show of it */
	bool changed;	      /* rows did since the map of the root before */
	bool unlogged;	      /* some of these in a way that its log does not tell */
	bool foreign;	      /* rows may name SCOs of other streams */
	lsn_t mark;	      /* the newest of its layers that are frozen: the map has to show it */
	struct manifest manifest; /* owned; its map is root.c's */
};

struct root_builder {
	struct pool *pool;
	uint64_t number;
	struct root old; /* the root before; zero when there is none */
	struct root new;
	struct meta_batch *names; /* rows that the commit brings along */
	struct meta_batch *tried; /* rows that condemn all that was put */
	bool any_tried;
	struct pack_maker *packs; /* of what it puts; the last one is being filled */
	size_t pack_count;
	bool row_tried; /* whether it counts is for the metadata to say */
	bool changed;	/* it shows something that the one before does not */

	/* root_cut.c */
	bool is_cut;
	uint64_t sequence;	    /* of the metadata when the view was made, or before */
	struct meta_view *view;	    /* all rows that it shows */
	struct stream_cut *streams; /* ascending */
	size_t stream_count;
	struct sco **claimed; /* referenced: named, and not put yet */
	size_t claimed_count, claimed_room;
	size_t claimed_done; /* of these, put or failed */

	/* root_map.c */
	struct root_layer *layers; /* of all streams, ascending */
	size_t layer_count;
	struct changed_area *areas; /* ascending */
	size_t area_count;
};

/* Add a name to what goes with the root after this one; an empty one is passed over. */
NODISCARD int root_condemn(struct root_builder *b, const char *name, struct err *e);
/* Put something under a name that is this root's own: remembered first, and condemned by root_end() if
 * the root comes to nothing. Fills in len and crc of *object. */
NODISCARD int root_put_object(struct root_builder *b, const struct buf *bytes,
			      struct named_object *object, struct err *e);
/* What was to be put, and waits for more to go with it. */
NODISCARD int root_put_waiting(struct root_builder *b, struct err *e);
/* root_parts.c. Upload lock held, or nobody else is there. The oldest go when it is too much. */
void root_parts_keep(struct pool *p, const char *name, const struct buf *bytes);
/* out is replaced. */
bool root_parts_find(struct pool *p, const char *name, struct buf *out);
/* Fetch an object whole and check it against what named it; out is replaced. */
NODISCARD int root_read_object(struct pool *p, const struct named_object *o, struct buf *out,
			       struct err *e);

/*
 * The way of a root, after a zeroed builder with its pool: root_begin(), root_cut(), root_put_scos(),
 * root_put_parts(), root_put(), root_commit(); root_end() in any case. Upload lock held throughout, the
 * checkpoint lock where it is said; each fails with what the metadata or the backend says.
 */
/* Takes a number that no other attempt ever has, and the view of the rows, as the checkpoint just made
 * left them. Checkpoint lock held since that. */
NODISCARD int root_begin(struct root_builder *b, struct err *e);
/* Which SCOs it names: all that were sealed by now. Checkpoint lock held. */
NODISCARD int root_cut(struct root_builder *b, struct err *e);
/* Those that were not on the backend yet. */
NODISCARD int root_put_scos(struct root_builder *b, struct err *e);
/* Whatever else it names; b->changed says whether there was something to put. */
NODISCARD int root_put_parts(struct root_builder *b, struct err *e);
NODISCARD int root_put(struct root_builder *b, struct err *e);
/* It counts from here on, and what it condemned. Checkpoint lock held. */
NODISCARD int root_commit(struct root_builder *b, struct err *e);
/* Of a root that was not committed all that was put is condemned; what the metadata does not take of
 * that is left to the sweep of a later epoch. */
void root_end(struct root_builder *b);

/* Take down which layers the view shows. */
NODISCARD int root_map_begin(struct root_builder *b, struct err *e);
/*
 * Put a stream's map as the view has it: the pieces of the old map (none: empty name) that
 * still hold are taken over, the others are written anew and the old ones condemned. Fills in
 * map and map_lsn of the cut's manifest. Memory: a piece, and 200 bytes for each piece of the map.
 */
NODISCARD int root_map_put(struct root_builder *b, struct stream_cut *cut,
			   const struct named_object *old, struct err *e);
/* Condemn a map with its pieces; an empty name is passed over. */
NODISCARD int root_map_condemn(struct root_builder *b, const struct named_object *map,
			       struct err *e);
/* The root is committed: what the maps that were put know is not changed any more, but for what
 * checkpoints changed since the cut. Checkpoint lock held. */
NODISCARD int root_map_committed(struct root_builder *b, struct err *e);
void root_map_done(struct root_builder *b);

#endif
