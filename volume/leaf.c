#include "volume/leaf_impl.h"

#include <stdlib.h>
#include <string.h>

/* Bookkeeping of the allocator for a block, rounding included. */
#define ALLOC_OVERHEAD_BYTES 8u
/* Spare tables a pool keeps, so that a page that leaves and one that comes do not allocate. */
#define SPARE_TABLES_MAX 4u

STATIC_ASSERT(sizeof(struct leaf_run) == 16, "what leaf.h promises");
STATIC_ASSERT(sizeof(struct leaf) == 16, "a page is 24 bytes");
STATIC_ASSERT(LEAF_RUNS_MAX >= LEAF_EXTENT_MIN + 2, "one set fits");

static bool mask_test(const uint64_t *mask, unsigned int i)
{
	return mask[i / 64] >> (i % 64) & 1;
}
static void mask_put(uint64_t *mask, unsigned int i, bool on)
{
	uint64_t bit = UINT64_C(1) << (i % 64);

	mask[i / 64] = on ? mask[i / 64] | bit : mask[i / 64] & ~bit;
}
static void mask_put_range(uint64_t *mask, unsigned int first, unsigned int count, bool on)
{
	while (count) {
		unsigned int bit = first % 64;
		unsigned int n = count < 64 - bit ? count : 64 - bit;
		uint64_t bits = (n == 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1) << bit;

		mask[first / 64] = on ? mask[first / 64] | bits : mask[first / 64] & ~bits;
		first += n;
		count -= n;
	}
}

static enum leaf_state table_state(const struct leaf_table *t, unsigned int i)
{
	if (mask_test(t->dirty, i))
		return LEAF_DIRTY;
	return mask_test(t->staged, i) ? LEAF_STAGED : LEAF_CLEAN;
}
static void table_put_state(struct leaf_table *t, unsigned int first, unsigned int count,
			    enum leaf_state state)
{
	mask_put_range(t->dirty, first, count, state == LEAF_DIRTY);
	mask_put_range(t->staged, first, count, state == LEAF_STAGED);
}

/* ---- memory ----------------------------------------------------------------------------------- */

static uint64_t runs_bytes(unsigned int room)
{
	return sizeof(struct leaf_runs) + room * sizeof(struct leaf_run) + ALLOC_OVERHEAD_BYTES;
}

/* Room to ask for so that n runs fit: steps of a half, so that growing copies little. */
static unsigned int room_for(unsigned int n)
{
	static const uint8_t steps[] = { 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128 };
	unsigned int i = 0;

	ASSERT(n <= LEAF_RUNS_MAX);
	while (steps[i] < n)
		i++;
	return steps[i];
}

static struct leaf_runs *runs_new(struct leaf_pool *pool, unsigned int room)
{
	struct leaf_runs *runs = malloc(sizeof(struct leaf_runs) + room * sizeof(struct leaf_run));

	if (!runs)
		return NULL;
	runs->count = 0;
	runs->room = (uint16_t)room;
	runs->unused = 0;
	pool->used_bytes += runs_bytes(room);
	return runs;
}

static void runs_free(struct leaf_pool *pool, struct leaf_runs *runs)
{
	pool->used_bytes -= runs_bytes(runs->room);
	free(runs);
}

struct leaf_table *leaf_table_new(void)
{
	return malloc(sizeof(struct leaf_table));
}

static struct leaf_table *spare_next(const struct leaf_table *table)
{
	return (struct leaf_table *)(uintptr_t)table->loc[0];
}

void leaf_pool_donate(struct leaf_pool *pool, struct leaf_table *table)
{
	table->loc[0] = (uintptr_t)pool->spare;
	pool->spare = table;
	pool->spare_count++;
}

static void pool_trim_to(struct leaf_pool *pool, unsigned int keep)
{
	while (pool->spare_count > keep) {
		struct leaf_table *table = pool->spare;

		pool->spare = spare_next(table);
		pool->spare_count--;
		free(table);
	}
}

void leaf_pool_trim(struct leaf_pool *pool)
{
	pool_trim_to(pool, SPARE_TABLES_MAX);
}

void leaf_pool_done(struct leaf_pool *pool)
{
	ASSERT(pool->used_bytes == 0);
	pool_trim_to(pool, 0);
}

static struct leaf_table *table_get(struct leaf_pool *pool)
{
	struct leaf_table *table = pool->spare;

	if (table) {
		pool->spare = spare_next(table);
		pool->spare_count--;
	} else {
		table = leaf_table_new();
		if (!table)
			return NULL;
	}
	pool->used_bytes += sizeof(*table) + ALLOC_OVERHEAD_BYTES;
	return table;
}

static void table_put(struct leaf_pool *pool, struct leaf_table *table)
{
	pool->used_bytes -= sizeof(*table) + ALLOC_OVERHEAD_BYTES;
	leaf_pool_donate(pool, table);
	leaf_pool_trim(pool);
}

static enum leaf_form leaf_form(const struct leaf *leaf)
{
	return (enum leaf_form)leaf->form;
}

void leaf_init(struct leaf *leaf)
{
	leaf->loc = 0;
	leaf->form = LEAF_EMPTY;
	leaf->full_state = LEAF_CLEAN;
}

void leaf_clear(struct leaf_pool *pool, struct leaf *leaf)
{
	if (leaf->form == LEAF_RUNS)
		runs_free(pool, leaf->runs);
	else if (leaf->form == LEAF_TABLE)
		table_put(pool, leaf->table);
	leaf_init(leaf);
}

uint64_t leaf_bytes(const struct leaf *leaf)
{
	if (leaf->form == LEAF_RUNS)
		return runs_bytes(leaf->runs->room);
	if (leaf->form == LEAF_TABLE)
		return sizeof(struct leaf_table) + ALLOC_OVERHEAD_BYTES;
	return 0;
}

static void leaf_become_full(struct leaf_pool *pool, struct leaf *leaf, loc_t loc,
			     enum leaf_state state)
{
	leaf_clear(pool, leaf);
	leaf->form = LEAF_FULL;
	leaf->loc = loc;
	leaf->full_state = (uint8_t)state;
}

static void runs_settle(struct leaf_pool *pool, struct leaf *leaf)
{
	const struct leaf_runs *runs = leaf->runs;

	if (runs->count == 0)
		leaf_clear(pool, leaf);
	else if (runs->count == 1 && runs->run[0].count == PAGE_CLUSTERS)
		leaf_become_full(pool, leaf, runs->run[0].loc, run_state(&runs->run[0]));
}

/* ---- conversions ------------------------------------------------------------------------------ */

void leaf_table_clear(struct leaf_table *table)
{
	for (unsigned int i = 0; i < PAGE_CLUSTERS; i++)
		table->loc[i] = LEAF_ABSENT;
	memset(table->known, 0, sizeof(table->known));
	memset(table->dirty, 0, sizeof(table->dirty));
	memset(table->staged, 0, sizeof(table->staged));
}

static void table_set(struct leaf_table *t, unsigned int first, unsigned int count, loc_t loc,
		      const uint32_t *crcs, enum leaf_state state)
{
	bool place = loc_is_place(loc);

	if (count == 1) {
		t->loc[first] = loc;
		if (crcs)
			t->crc[first] = crcs[0];
		mask_put(t->known, first, crcs);
		mask_put(t->dirty, first, state == LEAF_DIRTY);
		mask_put(t->staged, first, state == LEAF_STAGED);
		return;
	}
	for (unsigned int i = 0; i < count; i++)
		t->loc[first + i] = place ? loc + i : loc;
	if (crcs)
		memcpy(&t->crc[first], crcs, count * sizeof(*crcs));
	mask_put_range(t->known, first, count, crcs);
	table_put_state(t, first, count, state);
}

/* Put what the leaf says over what stands in t. */
static void leaf_overlay(const struct leaf *leaf, struct leaf_table *t)
{
	struct leaf_span span;

	for (unsigned int i = 0; i < PAGE_CLUSTERS; i += span.count) {
		leaf_span_at(leaf, i, PAGE_CLUSTERS, &span);
		if (span.loc != LEAF_ABSENT)
			table_set(t, i, span.count, span.loc, span.crcs, span.state);
	}
}

/* The longest stretch of t from first on that can be one run if it gives up its checksums. */
static unsigned int table_stretch(const struct leaf_table *t, unsigned int first,
				  bool *ret_any_known)
{
	enum leaf_state state = table_state(t, first);
	unsigned int i = first + 1;
	bool known = mask_test(t->known, first);

	while (i < PAGE_CLUSTERS && t->loc[i] == loc_ahead(t->loc[i - 1], 1) &&
	       loc_is_place(t->loc[i]) == loc_is_place(t->loc[i - 1]) &&
	       table_state(t, i) == state) {
		known = known || mask_test(t->known, i);
		i++;
	}
	*ret_any_known = known;
	return i - first;
}

/* Runs that t needs, most + 1 if there are more; written to out if it is not NULL. */
static unsigned int table_to_runs(const struct leaf_table *t, unsigned int most,
				  struct leaf_run *out)
{
	unsigned int n = 0;

	for (unsigned int i = 0, count; i < PAGE_CLUSTERS; i += count) {
		bool known;

		count = 1;
		if (t->loc[i] == LEAF_ABSENT)
			continue;
		count = table_stretch(t, i, &known);
		if (!known || count >= LEAF_EXTENT_MIN) {
			if (out)
				out[n] = run_make(i, count, t->loc[i], NULL, table_state(t, i));
			n++;
			continue;
		}
		for (unsigned int j = i; out && j < i + count; j++)
			out[n + j - i] = run_make(j, 1, t->loc[j],
						  mask_test(t->known, j) ? &t->crc[j] : NULL,
						  table_state(t, j));
		n += count;
		if (n > most)
			return most + 1;
	}
	return n > most ? most + 1 : n;
}

/* Replace the body by the smallest form that holds t. */
static int leaf_build(struct leaf_pool *pool, struct leaf *leaf, const struct leaf_table *t)
{
	unsigned int n = table_to_runs(t, LEAF_RUNS_MAX, NULL);
	struct leaf built;

	leaf_init(&built);
	if (n > LEAF_RUNS_MAX) {
		built.table = leaf->form == LEAF_TABLE ? leaf->table : table_get(pool);
		if (!built.table)
			return -ENOMEM;
		built.form = LEAF_TABLE;
		if (built.table != t)
			memcpy(built.table, t, sizeof(*t));
		if (leaf->form == LEAF_TABLE)
			return 0;
	} else if (n > 0) {
		built.runs = runs_new(pool, room_for(n));
		if (!built.runs)
			return -ENOMEM;
		built.form = LEAF_RUNS;
		built.runs->count = (uint16_t)table_to_runs(t, n, built.runs->run);
		runs_settle(pool, &built);
	}
	leaf_clear(pool, leaf);
	built.owner_flags = leaf->owner_flags;
	built.owner_link = leaf->owner_link;
	*leaf = built;
	return 0;
}

static int leaf_to_table(struct leaf_pool *pool, struct leaf *leaf)
{
	struct leaf_table *table = table_get(pool);

	if (!table)
		return -ENOMEM;
	leaf_table_clear(table);
	leaf_overlay(leaf, table);
	leaf_clear(pool, leaf);
	leaf->form = LEAF_TABLE;
	leaf->table = table;
	return 0;
}

/* Give an EMPTY, FULL or RUNS leaf a body of runs with this much room. */
static int leaf_to_runs(struct leaf_pool *pool, struct leaf *leaf, unsigned int room)
{
	struct leaf_runs *runs = runs_new(pool, room);

	if (!runs)
		return -ENOMEM;
	if (leaf->form == LEAF_RUNS) {
		runs->count = leaf->runs->count;
		memcpy(runs->run, leaf->runs->run, runs->count * sizeof(struct leaf_run));
	} else if (leaf->form == LEAF_FULL) {
		runs->count = 1;
		runs->run[0] = run_make(0, PAGE_CLUSTERS, leaf->loc, NULL,
					(enum leaf_state)leaf->full_state);
	}
	leaf_clear(pool, leaf);
	leaf->form = LEAF_RUNS;
	leaf->runs = runs;
	return 0;
}

/* ---- changes ---------------------------------------------------------------------------------- */

static unsigned int leaf_needed(const struct leaf *leaf, unsigned int first, unsigned int count,
				bool has_crcs)
{
	if (leaf->form == LEAF_RUNS)
		return leaf_runs_needed(leaf->runs, first, count, has_crcs);
	/* FULL: its two ends may stay. */
	return (leaf->form == LEAF_FULL ? 2 : 0) + (goes_in_as_extent(count, has_crcs) ? 1 : count);
}

int leaf_reserve(struct leaf_pool *pool, struct leaf *leaf, unsigned int first, unsigned int count,
		 bool has_crcs)
{
	unsigned int needed;

	ASSERT(count > 0 && first + count <= PAGE_CLUSTERS);
	if (leaf->form == LEAF_TABLE || count == PAGE_CLUSTERS)
		return 0;
	needed = leaf_needed(leaf, first, count, has_crcs);
	if (leaf->form == LEAF_RUNS && needed > leaf->runs->room) {
		leaf_runs_join(leaf->runs);
		needed = leaf_needed(leaf, first, count, has_crcs);
	}
	if (leaf->form == LEAF_RUNS && needed <= leaf->runs->room)
		return 0;
	if (needed <= LEAF_RUNS_MAX && leaf_to_runs(pool, leaf, room_for(needed)) == 0)
		return 0;
	return leaf_to_table(pool, leaf);
}

void leaf_set(struct leaf_pool *pool, struct leaf *leaf, unsigned int first, unsigned int count,
	      loc_t loc, const uint32_t *crcs, enum leaf_state state)
{
	ASSERT(count > 0 && first + count <= PAGE_CLUSTERS && loc != LEAF_ABSENT);
	if (!loc_is_place(loc))
		crcs = NULL;
	if (count == PAGE_CLUSTERS) {
		leaf_become_full(pool, leaf, loc, state);
	} else if (leaf->form == LEAF_TABLE) {
		table_set(leaf->table, first, count, loc, crcs, state);
	} else {
		ASSERT(leaf->form == LEAF_RUNS);
		leaf_runs_set(leaf->runs, first, count, loc, crcs, state);
		runs_settle(pool, leaf);
	}
}

void leaf_restate(struct leaf_pool *pool, struct leaf *leaf, enum leaf_state from,
		  enum leaf_state to)
{
	ASSERT(from != LEAF_CLEAN && from != to);
	switch (leaf_form(leaf)) {
	case LEAF_EMPTY:
		return;
	case LEAF_FULL:
		if (leaf->full_state == from)
			leaf->full_state = (uint8_t)to;
		return;
	case LEAF_RUNS:
		leaf_runs_restate(leaf->runs, from, to);
		runs_settle(pool, leaf);
		return;
	case LEAF_TABLE:
		for (unsigned int i = 0; i < LEAF_MASK_WORDS; i++) {
			uint64_t *mask =
				from == LEAF_DIRTY ? leaf->table->dirty : leaf->table->staged;
			uint64_t moved = mask[i];

			mask[i] = 0;
			if (to == LEAF_DIRTY)
				leaf->table->dirty[i] |= moved;
			else if (to == LEAF_STAGED)
				leaf->table->staged[i] |= moved;
		}
		return;
	}
}

static void table_forget_clean(struct leaf_table *t)
{
	for (unsigned int i = 0; i < LEAF_MASK_WORDS; i++)
		t->known[i] &= t->dirty[i] | t->staged[i];
	for (unsigned int i = 0; i < PAGE_CLUSTERS; i++)
		if (table_state(t, i) == LEAF_CLEAN)
			t->loc[i] = LEAF_ABSENT;
}

void leaf_forget_clean(struct leaf_pool *pool, struct leaf *leaf)
{
	switch (leaf_form(leaf)) {
	case LEAF_EMPTY:
		return;
	case LEAF_FULL:
		if (leaf->full_state == LEAF_CLEAN)
			leaf_clear(pool, leaf);
		return;
	case LEAF_RUNS:
		leaf_runs_forget_clean(leaf->runs);
		runs_settle(pool, leaf);
		return;
	case LEAF_TABLE:
		table_forget_clean(leaf->table);
		if (!leaf_has_state(leaf, LEAF_DIRTY) && !leaf_has_state(leaf, LEAF_STAGED))
			leaf_clear(pool, leaf);
		return;
	}
}

static void table_drop_unmapped(struct leaf_table *t)
{
	for (unsigned int i = 0; i < PAGE_CLUSTERS; i++)
		if (t->loc[i] == LOC_UNMAPPED && table_state(t, i) == LEAF_CLEAN)
			t->loc[i] = LEAF_ABSENT;
}

int leaf_fill(struct leaf_pool *pool, struct leaf *leaf, struct leaf_table *table)
{
	memset(table->dirty, 0, sizeof(table->dirty));
	memset(table->staged, 0, sizeof(table->staged));
	leaf_overlay(leaf, table);
	table_drop_unmapped(table);
	return leaf_build(pool, leaf, table);
}

void leaf_compact(struct leaf_pool *pool, struct leaf *leaf, bool drop_unmapped)
{
	struct leaf_table t;

	if (leaf->form == LEAF_EMPTY || (leaf->form == LEAF_FULL && leaf->loc != LOC_UNMAPPED) ||
	    (leaf->form == LEAF_RUNS && leaf->runs->count * 2u > leaf->runs->room))
		return;
	if (leaf->form == LEAF_TABLE) {
		if (drop_unmapped)
			table_drop_unmapped(leaf->table);
		/* Half of what a reserve converts at, so that no page flips between the forms. */
		if (table_to_runs(leaf->table, LEAF_RUNS_MAX / 2, NULL) > LEAF_RUNS_MAX / 2)
			return;
	}
	leaf_table_clear(&t);
	leaf_overlay(leaf, &t);
	if (drop_unmapped)
		table_drop_unmapped(&t);
	if (leaf_build(pool, leaf, &t) < 0)
		return; /* it stays as large as it was */
}

/* ---- questions -------------------------------------------------------------------------------- */

static void table_span_at(const struct leaf_table *t, unsigned int first, unsigned int end,
			  struct leaf_span *span)
{
	loc_t loc = t->loc[first];
	enum leaf_state state = table_state(t, first);
	bool known = mask_test(t->known, first);
	loc_t step = loc_is_place(loc);
	unsigned int i = first + 1;

	while (i < end && t->loc[i] == t->loc[i - 1] + step && table_state(t, i) == state &&
	       mask_test(t->known, i) == known)
		i++;
	*span = (struct leaf_span){ .first = first,
				    .count = i - first,
				    .loc = loc,
				    .state = loc == LEAF_ABSENT ? LEAF_CLEAN : state,
				    .crcs = known ? &t->crc[first] : NULL };
}

void leaf_span_at(const struct leaf *leaf, unsigned int first, unsigned int end,
		  struct leaf_span *ret_span)
{
	ASSERT(first < end && end <= PAGE_CLUSTERS);
	switch (leaf_form(leaf)) {
	case LEAF_EMPTY:
		*ret_span = (struct leaf_span){ .first = first,
						.count = end - first,
						.loc = LEAF_ABSENT };
		return;
	case LEAF_FULL:
		*ret_span = (struct leaf_span){ .first = first,
						.count = end - first,
						.loc = loc_ahead(leaf->loc, first),
						.state = (enum leaf_state)leaf->full_state };
		return;
	case LEAF_RUNS:
		leaf_runs_span_at(leaf->runs, first, end, ret_span);
		return;
	case LEAF_TABLE:
		table_span_at(leaf->table, first, end, ret_span);
		return;
	}
}

/* Index of the first bit from first on that is set; PAGE_CLUSTERS: none. */
static unsigned int mask_next(const uint64_t *mask, unsigned int first)
{
	for (unsigned int word = first / 64; word < LEAF_MASK_WORDS; word++) {
		uint64_t bits = mask[word];

		if (word == first / 64)
			bits &= UINT64_MAX << (first % 64);
		if (bits)
			return word * 64 + (unsigned int)__builtin_ctzll(bits);
	}
	return PAGE_CLUSTERS;
}

unsigned int leaf_next(const struct leaf *leaf, unsigned int first, enum leaf_state state)
{
	ASSERT(state != LEAF_CLEAN && first <= PAGE_CLUSTERS);
	switch (leaf_form(leaf)) {
	case LEAF_FULL:
		return leaf->full_state == state ? first : PAGE_CLUSTERS;
	case LEAF_RUNS:
		return leaf_runs_next(leaf->runs, first, state);
	case LEAF_TABLE:
		return mask_next(state == LEAF_DIRTY ? leaf->table->dirty : leaf->table->staged,
				 first);
	case LEAF_EMPTY:
		break;
	}
	return PAGE_CLUSTERS;
}

void leaf_prefetch(const struct leaf *leaf, enum leaf_state state)
{
	if (leaf->form != LEAF_TABLE)
		return;
	for (unsigned int i = leaf_next(leaf, 0, state); i < PAGE_CLUSTERS;
	     i = leaf_next(leaf, i + 1, state)) {
		__builtin_prefetch(&leaf->table->loc[i]);
		__builtin_prefetch(&leaf->table->crc[i]);
	}
}

bool leaf_has_all(const struct leaf *leaf, unsigned int first, unsigned int count)
{
	struct leaf_span span;

	for (unsigned int i = first; i < first + count; i += span.count) {
		leaf_span_at(leaf, i, first + count, &span);
		if (span.loc == LEAF_ABSENT)
			return false;
	}
	return true;
}

bool leaf_has_state(const struct leaf *leaf, enum leaf_state state)
{
	return leaf_next(leaf, 0, state) < PAGE_CLUSTERS;
}

void leaf_check(const struct leaf *leaf)
{
	ASSERT(leaf->form <= LEAF_TABLE);
	if (leaf->form == LEAF_FULL) {
		ASSERT(leaf->loc != LEAF_ABSENT);
		ASSERT(leaf->full_state <= LEAF_STAGED);
	} else if (leaf->form == LEAF_RUNS) {
		leaf_runs_check(leaf->runs);
	} else if (leaf->form == LEAF_TABLE) {
		const struct leaf_table *t = leaf->table;

		for (unsigned int i = 0; i < PAGE_CLUSTERS; i++) {
			bool marked = mask_test(t->dirty, i) || mask_test(t->staged, i);

			ASSERT(!(mask_test(t->dirty, i) && mask_test(t->staged, i)));
			ASSERT(t->loc[i] != LEAF_ABSENT || !marked);
			ASSERT(loc_is_place(t->loc[i]) || !mask_test(t->known, i));
		}
	}
}
