/* support_map - for tests of the map: a checkpointer as small as map.h allows, and a fixture. */
#ifndef TESTS_VOLUME_SUPPORT_MAP_H
#define TESTS_VOLUME_SUPPORT_MAP_H

#include "volume/map.h"

#include <check.h>

/* As ck_assert, for what is checked very often: those each write to a pipe. */
#define MUST(x)                                                                                    \
	do {                                                                                       \
		if (!(x))                                                                          \
			ck_abort_msg("%s:%d: %s", __func__, __LINE__, #x);                         \
	} while (0)

/* Where a checkpoint fails; what was committed until then stays in the rows. */
enum mini_fail {
	MINI_DONE,
	MINI_FAIL_STAGED, /* nothing committed */
	MINI_FAIL_RANGES, /* rows under ranges are gone */
	MINI_FAIL_HALF,	  /* ... and half of the pages written */
	MINI_FAIL_FLUSH,  /* ... and all of them */
	MINI_FAIL_COUNT
};

/* begin and stage; rows are untouched. */
void mini_checkpoint_begin(struct map *m);
/* Only stage, after a map_checkpoint_begin(). */
void mini_checkpoint_stage(struct map *m);
/* Delete, merge, flush, end. */
void mini_checkpoint_finish(struct map *m, struct meta *meta, enum mini_fail fail);
void mini_checkpoint(struct map *m, struct meta *meta);

/* Metadata whose reads can be counted, stopped and failed. */
struct gated_meta {
	struct meta meta; /* first */
	struct meta_ops ops;
	struct meta *inner;

	struct mutex lock;
	struct cond changed;
	unsigned int gets;   /* begun */
	unsigned int inside; /* stopped, after they read */
	bool closed;
	int fail;
};

/* A map over such metadata; a checked fixture. */
extern struct map_fixture {
	struct meta_mem_disk *disk;
	struct gated_meta gate;
	struct meta *meta; /* past the gate */
	struct map *map;
	lsn_t lsn;
} mfx;
void mfx_setup(void);
void mfx_teardown(void);
void mfx_reopen_map(uint64_t cache_bytes, unsigned int shards);

/* Reads of metadata stop once they have read, until the gate opens. */
void mfx_gate_close(void);
void mfx_gate_open(void);
/* Until so many reads were begun and are stopped at the gate. */
void mfx_gate_wait(unsigned int gets);

struct layer *mfx_new_layer(uint64_t id, struct layer *parent, uint64_t limit, uint32_t base);
lsn_t mfx_publish(void *arg);
void mfx_update(struct layer *l, uint64_t first, unsigned int count, loc_t loc);
int mfx_update_if(struct layer *l, uint64_t first, loc_t loc, loc_t expect);
void mfx_range(struct layer *l, uint64_t first, uint64_t end);
int mfx_try_lookup(struct layer *l, uint64_t cluster, loc_t *ret);
loc_t mfx_lookup(struct layer *l, uint64_t cluster);
uint64_t mfx_misses(void);
loc_t mfx_place(uint64_t sco, uint32_t slot);
/* Where tests put cluster c that is to be found by its address. */
loc_t mfx_at_row(uint64_t c);
/* Eight pages full, in rows: cluster c at mfx_at_row(c). */
void mfx_write_old_rows(struct layer *l);

#endif
