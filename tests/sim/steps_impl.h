/* steps_impl - a script and what the pool must look like meanwhile. Private to tests/sim/. */
#ifndef TESTS_SIM_STEPS_IMPL_H
#define TESTS_SIM_STEPS_IMPL_H

#include "tests/sim/steps.h"
#include "tests/sim/world_impl.h"

#define STEPS_DISKS	   5u
#define STEPS_SNAPS	   6u
#define STEPS_DISK_BYTES   ((size_t)96 * 4096)
#define STEPS_NAME_MAX	   16u
#define STEPS_IMAGES_MAX   128u
#define STEPS_PICTURES_MAX 96u

/* --- scripts ----------------------------------------------------------------------------------- */

enum action_kind {
	ACT_END,
	ACT_MAKE,	 /* disk, of class other */
	ACT_WRITE,	 /* count clusters from `from` on, not synced */
	ACT_ZERO,	 /* likewise */
	ACT_TRUNCATE,	 /* to `from` clusters */
	ACT_SHARE,	 /* count clusters from `from` on, with those of other from `at` on */
	ACT_SYNC,	 /* disk */
	ACT_SNAP,	 /* name, of disk, and of other too if that is another one */
	ACT_UNSNAP,	 /* name */
	ACT_RENAME_SNAP, /* name to `to` */
	ACT_STICKY,	 /* name, from: 1 or 0 */
	ACT_ROLLBACK,	 /* to name; from: 1 with force */
	ACT_CLONE,	 /* disk begins as other, as it was at name or, NULL, as it is now */
	ACT_TEMPLATE,	 /* disk; from: 1 or 0 */
	ACT_CLASS,	 /* disk becomes one of class other */
	ACT_DELETE,	 /* disk */
	ACT_REPLACE,	 /* disk takes the name of other, which goes */
	ACT_TRASH,	 /* disk takes a name of another kind */
	ACT_CHECKPOINT,
	ACT_UPLOAD,
	ACT_SETTLE, /* count rounds of checkpoints, while the background works */
	ACT_SCRUB,  /* to its end */
};

struct action {
	enum action_kind kind;
	unsigned int disk, other;
	const char *name, *to;
	unsigned int from, count, at;
};

struct script {
	const char *name;
	const struct action *setup; /* never cut off, but killed at its end if `killed` */
	const struct action *steps;
	bool killed;	    /* the process of the setup never closes the pool, */
	bool opening;	    /* and the steps begin with the open */
	bool held;	    /* layers that lost their name stay under smaller ones */
	bool small;	    /* flash is smaller than the data: the store has some of it alone */
	unsigned int packs; /* enum pool_packs */
};

/* The next one behind s, the first behind NULL; NULL: no more. */
const struct script *script_next(const struct script *s);

/* --- pictures ---------------------------------------------------------------------------------- */

struct image {
	uint8_t *bytes;
	uint64_t size_bytes;
};

struct disk_picture {
	bool there;
	uint64_t id;
	enum object_class class;
	bool template, in_trash;
	unsigned int image;
	unsigned int snap_count;
	struct {
		char name[STEPS_NAME_MAX];
		unsigned int image;
		bool sticky;
	} snaps[STEPS_SNAPS]; /* oldest first */
};

struct picture {
	struct disk_picture disks[STEPS_DISKS];
};

struct steps {
	struct world *w;
	const struct script *script;
	const struct steps_args *args;
	struct steps_totals *totals;

	struct image images[STEPS_IMAGES_MAX];
	unsigned int image_count;
	/* What the pool was and is: [acked] what a kill leaves at least, [synced] a power cut,
	 * [asked] the most that may be there. */
	struct picture pictures[STEPS_PICTURES_MAX];
	unsigned int asked, acked, synced;
	struct object *open[STEPS_DISKS];

	bool watching;	/* the process is one that is to be cut off: pictures are kept */
	uint64_t step;	/* that was last begun */
	char where[80]; /* what it is */
	bool child;	/* it dies, or something fails in it, at this step */
	bool failing;
	bool keeps_nothing; /* of what is not durable, at its death */
	bool power_cut;	    /* it died so */
	uint64_t mark;	    /* what the process that is watched allocated is behind it */
};

NORETURN void steps_fail(struct steps *st, const char *what, int r, const struct err *e);
/* steps_act.c: do the actions of a list, up to one that fails where something may. */
NODISCARD int steps_act(struct steps *st, const struct action *list, struct err *e);
/* ... none of which may fail. */
void steps_do(struct steps *st, const struct action *list);
/* Open and close what is there by the picture; opening it fails where something may. */
NODISCARD int steps_open_disks(struct steps *st, struct err *e);
void steps_close_disks(struct steps *st);
/* Only one picture is left: this one. */
void steps_settle_on(struct steps *st, unsigned int picture);

/* steps_look.c: the pool is at one of the pictures from `oldest` to asked: at which. */
unsigned int steps_see(struct steps *st, unsigned int oldest);
/* ... which becomes the only one. */
void steps_look(struct steps *st, unsigned int oldest);
/* Nothing is left in a pool that was emptied and closed but what each has. */
void steps_look_for_leaks(struct steps *st);

/* steps_store.c: a store whose puts and deletes are steps, before another, which it takes over. */
NODISCARD int steps_store_open(struct sim *sim, struct store *below, struct store **ret_store);

#endif
