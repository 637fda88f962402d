/*
 * freeze - live layers become frozen ones, by a checkpoint: at its beginning each gets a new layer on
 * top, under the gate alone; then it writes what is young in the old ones, and nothing of the new ones;
 * with its marks it commits the rows that say so. Until then the new ones are unborn: nobody but this
 * process knows of them, and after a crash the log is replayed into the old ones. FORMAT.md 10.9.
 */
#ifndef VOLUME_FREEZE_H
#define VOLUME_FREEZE_H

#include "volume/checkpoint_impl.h"

struct freeze {
	struct freeze *next;
	struct object *object; /* referenced */
	struct layer *old;     /* constant from the switch on; the new one is on it */
	struct layer *new;     /* referenced until born */
	struct family_member *member;
	bool switched; /* from here on it is born by the next checkpoint that succeeds, wanted or not */
	bool passed_over; /* by this checkpoint: its stream failed */
	bool deleted;	  /* the object was, meanwhile */
	bool gate_held;
	bool waited_for;
	bool pinned;   /* once it is born, the old layer is pinned by whoever waits */
	bool template; /* the object is one from the switch on, its row with the freeze */
	uint64_t *ret_layer, *ret_size_bytes; /* then; NULL: nobody asks */
	uint32_t stream;
	lsn_t mark;
	struct object_state_row state;
	uint64_t parent_limit, saved_parent_limit; /* of the old one, at the mark; of its row */

	/* A name for it, as long as somebody waits; comment may be NULL. */
	uint64_t snapshot; /* 0: nameless */
	const char *name, *comment;
	uint32_t flags;
	int64_t created_ns;
};

/* One for an object, to be handed to freeze_objects(). Errors: -ENOMEM, numbers. */
NODISCARD int freeze_new(struct object *o, struct freeze **ret_freeze, struct err *e);
void freeze_free(struct freeze *f); /* not switched */

/*
 * Freeze all of a list, at one moment, and free it. Checkpoint lock held.
 * Errors: -ESTALE an object was deleted; what a checkpoint fails with. Then no name was given, but
 * layers may be frozen, without one.
 * Durable: on return.
 */
NODISCARD int freeze_objects(struct pool *p, struct freeze *list, struct err *e);

/* No freeze of it is pending, so that something else may give it a new layer. Checkpoint lock held. */
NODISCARD int freeze_settle(struct pool *p, const struct object *o, struct err *e);

/* checkpoint.c, in this order. */
NODISCARD int freeze_switch(struct checkpoint *c, struct err *e); /* marks were read */
NODISCARD int freeze_put_rows(struct checkpoint *c, struct meta_batch *names, bool *changed,
			      struct err *e);
void freeze_commit_done(struct checkpoint *c, bool done); /* also without the one before */
/* At the end of the pool. */
void freezes_forget(struct pool *p);

#endif
