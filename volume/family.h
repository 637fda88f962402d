/*
 * family - which layers lie on which: all frozen ones, in RAM, as their rows say.
 *
 * A layer stays as long as something is on it: a live layer, another frozen one, a snapshot's name, or
 * a pin. With nothing on it, it goes; with one layer alone on it, and no name, it is merged into
 * that. The rows are the truth; this follows each commit that changes them.
 *
 * Locks: change_lock is held over a commit that takes something from a layer and over its change
 * here, so that of two that take the last one sees it; before gates and the checkpoint lock. lock is
 * a leaf.
 */
#ifndef VOLUME_FAMILY_H
#define VOLUME_FAMILY_H

#include "common/err.h"
#include "common/hash.h"
#include "common/thread.h"
#include "volume/format.h"

struct pool;

struct family_member {
	uint64_t id; /* of a frozen layer */
	UT_hash_handle hh;
	struct layer_row row;
	bool known;	    /* its row was seen; else only its children were (while loading) */
	uint64_t snapshot;  /* number of the one that names it; 0: nobody */
	uint32_t children;  /* live or frozen, on it directly */
	uint64_t child_xor; /* of their ids: of one alone, its id */
	uint32_t pins;	    /* readers, a clone on its way */
	bool merging;	    /* no child is added any more */
	uint64_t rows_put;  /* in its only child, since what that hides was looked for */
	uint64_t look_at;   /* so many of them, then it is looked for again; 0: at once */
};

struct family {
	struct mutex change_lock; /* rank LOCK_FAMILY_CHANGE */
	struct mutex lock;	  /* unranked leaf; guards the table */
	struct family_member *members;
};

void family_init(struct family *f);
void family_done(struct family *f);
/* From rows; in pool_open(), before recovery. Errors: -EUCLEAN, -EBADMSG a row; -ENOMEM. */
NODISCARD int family_load(struct pool *p, struct err *e);

/* What a commit did. A layer that is not frozen is none of ours: nothing happens. No memory: -ENOMEM
 * from family_prepare() before the commit, which the additions use up. */
struct family_member *family_prepare(void);
void family_add(struct family *f, struct family_member *prepared, uint64_t id,
		const struct layer_row *row, uint64_t snapshot);
void family_add_child(struct family *f, uint64_t parent, uint64_t child);
void family_drop_child(struct family *f, uint64_t parent, uint64_t child);
void family_set_snapshot(struct family *f, uint64_t id, uint64_t snapshot);
void family_remove(struct family *f, uint64_t id);
/* Its only child has taken its place over the one below, and has this row now. */
void family_merged(struct family *f, uint64_t id, uint64_t child,
		   const struct layer_row *child_row);

/* A copy of what is known. False: it is not frozen. */
bool family_get(struct family *f, uint64_t id, struct family_member *ret_member);
/* It stays until it is unpinned. False: it is not there, or about to be merged. */
bool family_pin(struct family *f, uint64_t id);
/* True: perhaps something can go now. */
bool family_unpin(struct family *f, uint64_t id);

/* A layer without name and pins that nothing is on (*ret_child 0), or one alone, if it is not held; in
 * the latter case it is marked as being merged. After `after`, so that one that cannot be merged now
 * does not hold up others. 0: none. */
uint64_t family_next_idle(struct family *f, uint64_t after, uint64_t *ret_child);
void family_stop_merging(struct family *f, uint64_t id);
/* What its only child hides of a layer is looked for from here on; it was, and is not again until
 * so many rows were put into that (UINT64_MAX: never), or there is another child, or
 * family_look_again(). */
void family_begin_look(struct family *f, uint64_t id);
void family_hold(struct family *f, uint64_t id, uint64_t look_at);
void family_look_again(struct family *f, uint64_t id);
/* A row goes into what lies on a layer. True: it is time to look again. */
bool family_note_row(struct family *f, uint64_t id);
/* Where an entry of an object may be found in rows: in the layers whose mark is the first one that is
 * not below its LSN. */
struct family_place {
	uint64_t object;
	lsn_t mark;
	uint64_t layer;
};
/* All layers with a mark in a stream, in the order of these fields; freed by the caller. -ENOMEM. */
NODISCARD int family_places(struct family *f, uint32_t stream, struct family_place **ret_places,
			    size_t *ret_count);
/* Whether a layer has its mark in a stream. */
bool family_uses_stream(struct family *f, uint32_t stream);

#endif
