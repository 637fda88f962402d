/* world_impl - the world as its parts see it. Private to tests/sim/. */
#ifndef TESTS_SIM_WORLD_IMPL_H
#define TESTS_SIM_WORLD_IMPL_H

#include "tests/sim/meta_trouble.h"
#include "tests/sim/model.h"
#include "tests/sim/world.h"
#include "volume/pool_impl.h"

#define WORLD_OBJECTS 4u
#define PROCESSES     6u /* of one seed; the last one ends in peace */
#define WORLD_SNAPS   6u /* of one object */

/* What a snapshot must show. */
struct world_snap {
	char name[24];
	uint64_t number; /* younger ones have higher ones */
	uint8_t *bytes;	 /* NULL: nobody knows */
	uint64_t size_bytes;
	bool sure; /* it was acknowledged, and its deletion was not asked for */
	bool seen;
};

struct world_object {
	uint64_t id; /* 0: not there */
	struct object *open;
	struct model model;
	bool creation_synced;
	bool deleting;	    /* its deletion was not acknowledged */
	uint64_t rooted_id; /* when the machine's last root was made sure: which it was, */
	size_t rooted;	    /* and how many operations it had */
	struct world_snap snaps[WORLD_SNAPS];
	unsigned int snap_count;
	bool snaps_unknown; /* others than these may be there */
};

struct world {
	struct sim *sim;
	struct meta_mem_disk *disk;
	struct meta_trouble trouble; /* of the metadata */
	struct world_totals *totals;
	struct pool_options options;
	struct backend *backend;
	struct store *fault_store;
	char store_url[48];
	char dir[32], cache[40]; /* of the machine that is just used */
	unsigned int machine;	 /* counted from 0 */
	bool losing; /* all that is here goes when the process ends: the store is left */
	struct pool *pool;
	struct world_object objects[WORLD_OBJECTS];
	uint64_t generation;
	uint64_t halves_id;   /* object of check_halves() if a crash may have left it; 0: none */
	unsigned int process; /* counted from 0 */
	unsigned int steps;   /* of the client, over all processes */
	bool lazy; /* this process hardly syncs: much is at stake in a power cut, over many SCOs */
	bool classes;		    /* objects change class */
	bool snapshots;		    /* there are some */
	bool shares;		    /* objects share clusters */
	bool small;		    /* flash is smaller than what lives */
	bool machine_lost;	    /* since objects were looked at */
	struct world_object *hasty; /* the next process only writes to this one, and dies */
	bool sync_fails; /* where there are faults, in all processes: what only a file has may be lost */
	bool power_cut, in_open, faulty, verbose;
	bool ended;	/* the process came to its end */
	bool call_came; /* the open got as far as the call that was to fail */
	bool brief;	/* the last process only shows that the pool serves */
	uint8_t *buf;
	enum sim_crash kind;
};

#define TOTAL(w, member, n)                                                                        \
	do {                                                                                       \
		if ((w)->totals)                                                                   \
			(void)__atomic_add_fetch(&(w)->totals->member, (n), __ATOMIC_RELAXED);     \
	} while (0)

NORETURN void world_fail(struct world *w, const char *what, int r, const struct err *e);
struct world *world_new(uint64_t seed, struct world_totals *totals, bool verbose);
void world_open_backend(struct world *w);
/* Faults of the disk and of the metadata for this process. */
void world_set_faults(struct world *w);
/* The object is at a point of its history where it may be. */
void world_check(struct world *w, struct world_object *o);
/* Every object is at a point of its history where it may be. */
void world_check_all(struct world *w);
/* A process, and what its death leaves. */
void world_run_to_its_end(struct world *w, void (*fn)(void *arg));
/* One that lives as the seed says; number w->process. */
void world_run_process(struct world *w);
/* A process of its own that makes the pool and never dies. */
void world_make_pool(void *arg);
/* An error under faults: what it did is unknown, and the process gives up. o: its last operation is
 * done; NULL: of nobody's. */
void world_outcome(struct world *w, struct world_object *o, const char *what, int r,
		   const struct err *e);
/* Delete an object, for sure. */
void world_delete(struct world *w, struct world_object *o);
/* As object_read(); what is on the backend only comes when that answers. */
ssize_t world_read(struct world *w, struct object *open, uint64_t offset, void *dst, size_t len,
		   struct err *e);

#endif
