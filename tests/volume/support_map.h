/* support_map - a checkpointer as small as map.h allows, for tests of the map. */
#ifndef TESTS_VOLUME_SUPPORT_MAP_H
#define TESTS_VOLUME_SUPPORT_MAP_H

#include "volume/map.h"

/* Where a checkpoint fails; what was committed until then stays in the rows. */
enum mini_fail {
	MINI_DONE,
	MINI_FAIL_STAGED,  /* nothing committed */
	MINI_FAIL_RANGES,  /* rows under ranges are gone */
	MINI_FAIL_HALF,	   /* ... and half of the pages written */
	MINI_FAIL_FLUSH,   /* ... and all of them */
	MINI_FAIL_COUNT
};

/* begin and stage; rows are untouched. */
void mini_checkpoint_begin(struct map *m);
/* Only stage, after a map_checkpoint_begin(). */
void mini_checkpoint_stage(struct map *m);
/* Delete, merge, flush, end. */
void mini_checkpoint_finish(struct map *m, struct meta *meta, enum mini_fail fail);
void mini_checkpoint(struct map *m, struct meta *meta);

#endif
