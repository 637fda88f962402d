/* leaf_runs - sorted runs of one page: extents, and single clusters with their checksums. */
#include "volume/leaf_impl.h"

#include <string.h>

/* Index of the first run that ends behind cluster. */
static unsigned int runs_find(const struct leaf_runs *runs, unsigned int cluster)
{
	unsigned int lo = 0, hi = runs->count;

	while (lo < hi) {
		unsigned int mid = (lo + hi) / 2;

		if (run_end(&runs->run[mid]) > cluster)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/* Whether b continues a: next cluster, next place, same state. */
static bool run_continues(const struct leaf_run *a, const struct leaf_run *b)
{
	return run_end(a) == run_first(b) && run_state(a) == run_state(b) &&
	       loc_is_place(a->loc) == loc_is_place(b->loc) &&
	       loc_ahead(a->loc, a->count) == b->loc;
}

/* ... and both can be one run without a checksum being lost. */
static bool run_joins(const struct leaf_run *a, const struct leaf_run *b)
{
	return !run_is_known(a) && !run_is_known(b) && run_continues(a, b);
}

void leaf_runs_join(struct leaf_runs *runs)
{
	unsigned int out = 0;

	for (unsigned int i = 0, next; i < runs->count; i = next) {
		unsigned int clusters = runs->run[i].count;
		bool known = run_is_known(&runs->run[i]);

		for (next = i + 1; next < runs->count; next++) {
			if (!run_continues(&runs->run[next - 1], &runs->run[next]))
				break;
			clusters += runs->run[next].count;
			known = known || run_is_known(&runs->run[next]);
		}
		if (known && clusters < LEAF_EXTENT_MIN) {
			memmove(&runs->run[out], &runs->run[i],
				(next - i) * sizeof(struct leaf_run));
			out += next - i;
			continue;
		}
		runs->run[out++] = run_make(run_first(&runs->run[i]), clusters, runs->run[i].loc,
					    NULL, run_state(&runs->run[i]));
	}
	runs->count = (uint16_t)out;
}

/* What leaf_set() replaces: runs [lo, hi) go, up to two pieces of them stay. */
struct runs_cut {
	unsigned int lo, hi;
	struct leaf_run keep[2];
	bool has_left, has_right;
};

static struct runs_cut runs_cut_at(const struct leaf_runs *runs, unsigned int first,
				   unsigned int count)
{
	struct runs_cut cut = { .lo = runs_find(runs, first) };
	unsigned int end = first + count;

	cut.hi = cut.lo;
	while (cut.hi < runs->count && run_first(&runs->run[cut.hi]) < end)
		cut.hi++;
	if (cut.lo == cut.hi)
		return cut;

	const struct leaf_run *left = &runs->run[cut.lo], *right = &runs->run[cut.hi - 1];

	if (run_first(left) < first) {
		cut.has_left = true;
		cut.keep[0] = run_make(run_first(left), first - run_first(left), left->loc, NULL,
				       run_state(left));
	}
	if (run_end(right) > end) {
		cut.has_right = true;
		cut.keep[1] = run_make(end, run_end(right) - end,
				       loc_ahead(right->loc, end - run_first(right)), NULL,
				       run_state(right));
	}
	return cut;
}

unsigned int leaf_runs_needed(const struct leaf_runs *runs, unsigned int first, unsigned int count,
			      bool has_crcs)
{
	struct runs_cut cut = runs_cut_at(runs, first, count);

	return runs->count - (cut.hi - cut.lo) + cut.has_left + cut.has_right +
	       (goes_in_as_extent(count, has_crcs) ? 1 : count);
}

void leaf_runs_set(struct leaf_runs *runs, unsigned int first, unsigned int count, loc_t loc,
		   const uint32_t *crcs, enum leaf_state state)
{
	struct runs_cut cut = runs_cut_at(runs, first, count);
	struct leaf_run new[LEAF_EXTENT_MIN + 2];
	unsigned int n = 0;

	if (cut.has_left)
		new[n++] = cut.keep[0];
	if (goes_in_as_extent(count, crcs)) {
		struct leaf_run run = run_make(first, count, loc, NULL, state);

		if (!cut.has_left && cut.lo > 0 && run_joins(&runs->run[cut.lo - 1], &run))
			new[n++] = runs->run[--cut.lo];
		if (n && run_joins(&new[n - 1], &run))
			new[n - 1].count = (uint16_t)(new[n - 1].count + count);
		else
			new[n++] = run;
	} else {
		for (unsigned int i = 0; i < count; i++)
			new[n++] = run_make(first + i, 1, loc + i, &crcs[i], state);
	}
	if (!cut.has_right && cut.hi < runs->count) {
		cut.keep[1] = runs->run[cut.hi];
		cut.has_right = run_joins(&new[n - 1], &cut.keep[1]);
		cut.hi += cut.has_right;
	}
	if (cut.has_right) {
		if (run_joins(&new[n - 1], &cut.keep[1]))
			new[n - 1].count = (uint16_t)(new[n - 1].count + cut.keep[1].count);
		else
			new[n++] = cut.keep[1];
	}
	ASSERT(runs->count - (cut.hi - cut.lo) + n <= runs->room);
	memmove(&runs->run[cut.lo + n], &runs->run[cut.hi],
		(runs->count - cut.hi) * sizeof(struct leaf_run));
	memcpy(&runs->run[cut.lo], new, n * sizeof(struct leaf_run));
	runs->count = (uint16_t)(runs->count - (cut.hi - cut.lo) + n);
}

void leaf_runs_restate(struct leaf_runs *runs, enum leaf_state from, enum leaf_state to)
{
	unsigned int out = 0;

	for (unsigned int i = 0; i < runs->count; i++) {
		struct leaf_run *run = &runs->run[i];

		if (run_state(run) == from)
			run->where = (uint16_t)((run->where & ~3u) | (unsigned int)to);
		if (out > 0 && run_joins(&runs->run[out - 1], run))
			runs->run[out - 1].count =
				(uint16_t)(runs->run[out - 1].count + run->count);
		else
			runs->run[out++] = *run;
	}
	runs->count = (uint16_t)out;
}

void leaf_runs_forget_clean(struct leaf_runs *runs)
{
	unsigned int out = 0;

	for (unsigned int i = 0; i < runs->count; i++)
		if (run_state(&runs->run[i]) != LEAF_CLEAN)
			runs->run[out++] = runs->run[i];
	runs->count = (uint16_t)out;
}

void leaf_runs_span_at(const struct leaf_runs *runs, unsigned int first, unsigned int end,
		       struct leaf_span *span)
{
	unsigned int i = runs_find(runs, first);
	const struct leaf_run *run = &runs->run[i];

	if (i == runs->count || run_first(run) > first) {
		unsigned int stop = i == runs->count ? end : run_first(run);

		*span = (struct leaf_span){ .first = first,
					    .count = (stop < end ? stop : end) - first,
					    .loc = LEAF_ABSENT };
		return;
	}
	*span = (struct leaf_span){
		.first = first,
		.count = (run_end(run) < end ? run_end(run) : end) - first,
		.loc = loc_ahead(run->loc, first - run_first(run)),
		.state = run_state(run),
		.crcs = run_is_known(run) ? &run->crc : NULL,
	};
}

unsigned int leaf_runs_next(const struct leaf_runs *runs, unsigned int first, enum leaf_state state)
{
	for (unsigned int i = runs_find(runs, first); i < runs->count; i++) {
		const struct leaf_run *run = &runs->run[i];

		if (run_state(run) == state)
			return run_first(run) > first ? run_first(run) : first;
	}
	return PAGE_CLUSTERS;
}

void leaf_runs_check(const struct leaf_runs *runs)
{
	unsigned int end = 0;

	ASSERT(runs->count <= runs->room && runs->room <= LEAF_RUNS_MAX);
	for (unsigned int i = 0; i < runs->count; i++) {
		const struct leaf_run *run = &runs->run[i];

		ASSERT(run->count > 0 && run_first(run) >= end);
		ASSERT(run->loc != LEAF_ABSENT && run_state(run) <= LEAF_STAGED);
		ASSERT(!run_is_known(run) || (run->count == 1 && loc_is_place(run->loc)));
		end = run_end(run);
	}
	ASSERT(end <= PAGE_CLUSTERS);
}
