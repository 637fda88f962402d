/*
 * object - an object in RAM: its stream, its live layer, its attributes.
 *
 * Loaded on demand; kept while referenced or while its attributes are younger than their row.
 * The gate: whoever publishes an ordinary entry holds it shared for that moment only; truncation,
 * ranges, deletion and class change hold it alone, so they stand between entries, never among them.
 */
#ifndef VOLUME_OBJECT_H
#define VOLUME_OBJECT_H

#include "volume/map.h"
#include "volume/stream.h"
#include "volume/volume.h"

struct object {
	struct pool *pool; /* constant */
	uint64_t id;	   /* constant */
	UT_hash_handle hh;
	uint32_t refs; /* guarded by pool.objects_lock */

	struct rwlock gate; /* guards the six below: changed alone, read shared */
	enum object_class class;
	struct stream *stream;
	struct layer *layer; /* live; referenced */
	bool deleted;
	bool frozen;	/* its class is being changed: nobody reserves places for it */
	bool template;	/* its live layer holds nothing, and nothing is written to it */
	bool read_only; /* constant: a snapshot that somebody has open; not in the pool's table */
	uint32_t origin_count;
	struct object_origin *origins; /* streams of its parents with their marks */
	bool origins_durable;	       /* atomic: their marks were synced once */

	/* Atomic; changed under the gate. */
	uint64_t size_bytes;
	int64_t mtime_ns;
	lsn_t last_lsn;	 /* of its newest entry in its stream */
	bool attr_dirty; /* newer than the row */

	/* Atomic, each by itself: for reading ahead (read_ahead.c). Readers that run into each other get
	 * a little more or less of it. */
	uint64_t ahead_next_bytes;  /* end of the last read */
	uint64_t ahead_until_bytes; /* so far was asked for */
	uint64_t ahead_window_bytes;

	uint64_t mapped_clusters;    /* atomic; changed by checkpoints */
	uint64_t saved_parent_limit; /* of the live layer's row; the checkpoint's own */
	lsn_t row_lsn;		     /* of the state row, while recovering */
	lsn_t since_lsn; /* entries of its stream up to here are not for its live layer; recovery's */
	/* Guarded by the gate: it is a clone of this layer, and up to this LSN nothing else. */
	uint64_t clone_layer;
	lsn_t clone_lsn;
	/* Of a snapshot that is open: its layer is pinned. */
	uint64_t pinned_layer;
};

/* An entry was published: move size, time and LSN along. Under the lock of the map page. */
void object_note_entry(struct object *o, const struct log_entry *entry);

/* As object_open, but also of an object that is being recovered. */
NODISCARD int object_get(struct pool *p, uint64_t id, struct object **ret_object, struct err *e);
void object_put(struct object *o);
/* The size, and clusters mapped, of what a frozen layer shows. */
NODISCARD int object_state_of(struct pool *p, const struct layer *l,
			      struct object_state_row *ret_row, struct err *e);
/* The chain of a layer out of its rows, from the oldest on; a reference for the caller. ret_row: of
 * the layer itself. */
NODISCARD int object_chain_of(struct pool *p, uint64_t id, struct layer_row *ret_row,
			      struct layer **ret_layer, struct err *e);
/* Free objects that nobody needs if there are many. */
void objects_trim(struct pool *p);
/* Drop all; at the end of the pool. */
void objects_free_all(struct pool *p);
/* Snapshot of referenced objects whose attributes are dirty. */
NODISCARD int objects_dirty(struct pool *p, struct object ***ret_objects, size_t *ret_count);

#endif
