/* leaf_impl - the runs inside a leaf; for leaf*.c only. */
#ifndef VOLUME_LEAF_IMPL_H
#define VOLUME_LEAF_IMPL_H

#include "volume/leaf.h"

/* A run: where = first << 4 | known << 2 | state. With known it is one cluster long. */
struct leaf_run {
	uint16_t where;
	uint16_t count;
	uint32_t crc;
	loc_t loc;
};
struct leaf_runs {
	uint16_t count, room;
	uint32_t unused;
	struct leaf_run run[];
};

#define RUN_KNOWN 4u

static inline unsigned int run_first(const struct leaf_run *run)
{
	return run->where >> 4;
}
static inline unsigned int run_end(const struct leaf_run *run)
{
	return run_first(run) + run->count;
}
static inline enum leaf_state run_state(const struct leaf_run *run)
{
	return (enum leaf_state)(run->where & 3u);
}
static inline bool run_is_known(const struct leaf_run *run)
{
	return run->where & RUN_KNOWN;
}

static inline struct leaf_run run_make(unsigned int first, unsigned int count, loc_t loc,
				       const uint32_t *crc, enum leaf_state state)
{
	return (struct leaf_run){
		.where = (uint16_t)(first << 4 | (crc ? RUN_KNOWN : 0) | (unsigned int)state),
		.count = (uint16_t)count,
		.crc = crc ? *crc : 0,
		.loc = loc,
	};
}

static inline bool goes_in_as_extent(unsigned int count, bool has_crcs)
{
	return !has_crcs || count >= LEAF_EXTENT_MIN;
}

/* --- leaf_runs.c: arguments as in leaf.h ------------------------------------------------------- */

/* Join what can be: extents with extents, and stretches long enough to give up checksums. */
void leaf_runs_join(struct leaf_runs *runs);
/* Runs that there will be after a leaf_runs_set() of the same arguments, at most. */
unsigned int leaf_runs_needed(const struct leaf_runs *runs, unsigned int first, unsigned int count,
			      bool has_crcs);
/* There is room for it. */
void leaf_runs_set(struct leaf_runs *runs, unsigned int first, unsigned int count, loc_t loc,
		   const uint32_t *crcs, enum leaf_state state);
void leaf_runs_restate(struct leaf_runs *runs, enum leaf_state from, enum leaf_state to);
void leaf_runs_forget_clean(struct leaf_runs *runs);
void leaf_runs_span_at(const struct leaf_runs *runs, unsigned int first, unsigned int end,
		       struct leaf_span *span);
unsigned int leaf_runs_next(const struct leaf_runs *runs, unsigned int first,
			    enum leaf_state state);
void leaf_runs_check(const struct leaf_runs *runs);

#endif
