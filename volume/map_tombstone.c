/* map_tombstone - pending ranges of layers, and which of them a checkpoint deletes the rows of. */
#include "volume/map_impl.h"

#include <stdlib.h>
#include <string.h>

/* An insertion replaces what it overlaps by at most three ranges: itself and two ends. */
#define INSERT_GROWS 2u

static struct map_tombstone *set_new(uint32_t room)
{
	struct map_tombstone *set = calloc(1, sizeof(*set));

	if (!set)
		return NULL;
	set->ranges = malloc(room * sizeof(*set->ranges));
	if (!set->ranges) {
		free(set);
		return NULL;
	}
	set->room = room;
	return set;
}

struct map_tombstone *tombstone_new(void)
{
	return set_new(1 + INSERT_GROWS);
}

void tombstone_free(struct map_tombstone *set)
{
	if (!set)
		return;
	free(set->ranges);
	free(set);
}

/* Index of the first range that ends behind page. */
static uint32_t set_find(const struct map_tombstone *set, uint64_t page)
{
	uint32_t lo = 0, hi = set->count;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (set->ranges[mid].end_page > page)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

/* The new range wins where it overlaps; touching ones of the same value become one. */
static void set_insert(struct map_tombstone *set, struct tombstone_range range)
{
	struct tombstone_range *r = set->ranges;
	struct tombstone_range new[3];
	uint32_t lo = set_find(set, range.first_page), hi, n = 0;

	if (lo > 0 && r[lo - 1].end_page == range.first_page && r[lo - 1].value == range.value)
		lo--;
	for (hi = lo; hi < set->count && r[hi].first_page <= range.end_page; hi++) {
		bool same = r[hi].value == range.value;

		if (r[hi].first_page == range.end_page && !same)
			break;
		if (same) {
			range.first_page = min_u64(range.first_page, r[hi].first_page);
			range.end_page = max_u64(range.end_page, r[hi].end_page);
		}
	}
	if (lo < hi && r[lo].first_page < range.first_page)
		new[n++] =
			(struct tombstone_range){ r[lo].first_page, range.first_page, r[lo].value };
	new[n++] = range;
	if (lo < hi && r[hi - 1].end_page > range.end_page)
		new[n++] = (struct tombstone_range){ range.end_page, r[hi - 1].end_page,
						     r[hi - 1].value };
	ASSERT(set->count - (hi - lo) + n <= set->room);
	memmove(&r[lo + n], &r[hi], (set->count - hi) * sizeof(*r));
	memcpy(&r[lo], new, n * sizeof(*r));
	set->count = set->count - (hi - lo) + n;
}

/* What failed checkpoints left behind becomes one set again. */
static void sets_merge_locked(struct layer *l)
{
	struct map_tombstone *newest = l->tombstones, *older = newest->older, *merged;

	if (!older || older->frozen)
		return;
	merged = set_new(older->count + INSERT_GROWS * (newest->count + 1) + newest->count);
	if (!merged)
		return;
	merged->count = older->count;
	memcpy(merged->ranges, older->ranges, older->count * sizeof(*older->ranges));
	for (uint32_t i = 0; i < newest->count; i++)
		set_insert(merged, newest->ranges[i]);
	merged->older = older->older;
	l->tombstones = merged;
	tombstone_free(newest);
	tombstone_free(older);
}

static bool set_has_room(const struct map_tombstone *set)
{
	return set->room - set->count >= INSERT_GROWS;
}

void tombstones_prepare(struct layer *l)
{
	GUARD(&l->lock);
	struct map_tombstone *set = l->tombstones;
	struct tombstone_range *ranges;

	if (!set || set->frozen)
		return;
	sets_merge_locked(l);
	set = l->tombstones;
	if (set_has_room(set) || set->room > UINT32_MAX / 2)
		return;
	ranges = realloc(set->ranges, (size_t)set->room * 2 * sizeof(*ranges));
	if (!ranges)
		return;
	set->ranges = ranges;
	set->room *= 2;
}

void tombstones_add_locked(struct layer *l, struct map_tombstone *fresh, uint64_t first_page,
			   uint64_t end_page, loc_t value)
{
	struct map_tombstone *set = l->tombstones;

	if (set && !set->frozen && set_has_room(set)) {
		tombstone_free(fresh);
	} else {
		fresh->older = set;
		l->tombstones = set = fresh;
	}
	set_insert(set, (struct tombstone_range){ first_page, end_page, value });
}

const struct tombstone_range *tombstones_find_locked(const struct layer *l, uint64_t page,
						     bool young_only)
{
	for (const struct map_tombstone *set = l->tombstones; set; set = set->older) {
		uint32_t i = set_find(set, page);

		if (young_only && set->frozen)
			continue;
		if (i < set->count && set->ranges[i].first_page <= page)
			return &set->ranges[i];
	}
	return NULL;
}

void map_note_tombstoned(struct map *m, struct map_layer *ml)
{
	GUARD(&m->layers_lock);

	if (ml->is_tombstoned)
		return;
	layer_ref(&ml->pub);
	ml->is_tombstoned = true;
	ml->next_tombstoned = m->tombstoned;
	m->tombstoned = ml;
}

void map_tombstones_freeze(struct map *m)
{
	GUARD(&m->layers_lock);

	for (struct map_layer *ml = m->tombstoned; ml; ml = ml->next_tombstoned) {
		GUARD(&ml->pub.lock);

		if (layer_is_stuck(&ml->pub))
			continue;
		for (struct map_tombstone *set = ml->pub.tombstones; set; set = set->older)
			set->frozen = true;
	}
}

/* Take the frozen sets of a layer out (done), or let them be ordinary ones again. True: none left. */
static bool layer_thaw(struct layer *l, bool done)
{
	GUARD(&l->lock);
	struct map_tombstone **at = &l->tombstones;

	while (*at) {
		struct map_tombstone *set = *at;

		if (set->frozen && done) {
			*at = set->older;
			tombstone_free(set);
		} else {
			set->frozen = false;
			at = &set->older;
		}
	}
	return !l->tombstones;
}

void map_tombstones_thaw(struct map *m, bool done)
{
	struct map_layer *released = NULL;

	mutex_lock(&m->layers_lock);
	for (struct map_layer **at = &m->tombstoned; *at;) {
		struct map_layer *ml = *at;

		/* Whoever adds one from here on puts the layer into the list again. */
		if (!layer_thaw(&ml->pub, done)) {
			at = &ml->next_tombstoned;
			continue;
		}
		*at = ml->next_tombstoned;
		ml->is_tombstoned = false;
		ml->next_released = released;
		released = ml;
	}
	mutex_unlock(&m->layers_lock);
	while (released) {
		struct map_layer *ml = released;

		released = ml->next_released;
		layer_unref(m, &ml->pub);
	}
}

void map_tombstones_done(struct map *m)
{
	for (struct map_layer *ml = m->tombstoned, *next; ml; ml = next) {
		next = ml->next_tombstoned;
		while (ml->pub.tombstones) {
			struct map_tombstone *set = ml->pub.tombstones;

			ml->pub.tombstones = set->older;
			tombstone_free(set);
		}
		ml->is_tombstoned = false;
		layer_unref(m, &ml->pub);
	}
	m->tombstoned = NULL;
}
