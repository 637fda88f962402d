/* map_resolved - resolved pages: which are wanted, which hold, and what one is made of. */
#include "volume/map_impl.h"
#include "volume/mutant.h"

#include <stdlib.h>
#include <string.h>

#define RESOLVED_BYTES 16384u
/* Places of the table that a wish may be in. */
#define WISH_PROBES 8u

void map_resolved_begin(struct map *m, unsigned int rows_max, uint64_t moved_sequence,
			bool may_exist, void (*wished)(void *arg), void *arg)
{
	ASSERT(m->layer_count == 0);
	m->wished = wished;
	m->wished_arg = arg;
	m->rows_max = rows_max;
	m->moved_sequence = moved_sequence;
	m->moves = 1;
	m->resolved_exist = may_exist;
}

void map_resolved_done(struct map *m)
{
	free(m->wishes);
	mutex_done(&m->wishes_lock);
}

/* --- wishes ------------------------------------------------------------------------------------ */

/* One that finds no room is not kept: the page will be asked for again. True: it is the only one. */
static bool keep_wish(struct map *m, uint64_t layer, uint64_t page)
{
	uint64_t hash = mix64(page); /* it stays where it is when the layer changes */
	GUARD(&m->wishes_lock);

	if (!m->wishes)
		m->wishes = calloc(MAP_WISHES, sizeof(*m->wishes));
	for (unsigned int i = 0; m->wishes && i < WISH_PROBES; i++) {
		struct map_wish *w = &m->wishes[(hash + i) % MAP_WISHES];

		if (w->layer == layer && w->page == page)
			return false;
		if (w->layer)
			continue;
		*w = (struct map_wish){ .layer = layer, .page = page };
		return m->wish_count++ == 0;
	}
	return false;
}

void map_wish(struct map *m, uint64_t layer, uint64_t page)
{
	if (keep_wish(m, layer, page) && m->wished)
		m->wished(m->wished_arg);
}

bool map_has_wishes(struct map *m)
{
	GUARD(&m->wishes_lock);
	return m->wish_count;
}

size_t map_take_wishes(struct map *m, struct map_wish *ret_wishes, size_t max)
{
	size_t n = 0;
	GUARD(&m->wishes_lock);

	for (unsigned int i = 0; m->wish_count && n < max && i < MAP_WISHES; i++) {
		struct map_wish *w = &m->wishes[m->wish_hand++ % MAP_WISHES];

		if (!w->layer)
			continue;
		ret_wishes[n++] = *w;
		*w = (struct map_wish){ 0 };
		m->wish_count--;
	}
	return n;
}

void map_move_wishes(struct map *m, uint64_t layer, uint64_t onto)
{
	GUARD(&m->wishes_lock);

	for (unsigned int i = 0; m->wish_count && i < MAP_WISHES; i++) {
		if (m->wishes[i].layer == layer)
			m->wishes[i].layer = onto;
	}
}

/* --- which hold -------------------------------------------------------------------------------- */

void map_layer_moved(struct map *m, uint64_t layer, uint64_t sequence)
{
	struct layer *l;

	/* Under one lock with those that come into use: either they are found, or they begin with it. */
	mutex_lock(&m->layers_lock);
	__atomic_store_n(&m->moved_sequence, sequence, __ATOMIC_RELAXED);
	__atomic_add_fetch(&m->moves, 1, __ATOMIC_RELAXED);
	mutex_unlock(&m->layers_lock);
	l = map_layer_find(m, layer);
	if (l)
		map_layer_of(l)->moved_sequence = sequence;
	layer_unref(m, l);
}

/*
 * The last checkpoint that moved anything of it and of those below. Chains of a thousand are long to go
 * along for each page, so each layer that was asked keeps the answer until something moves: that
 * takes the chain alone, so all who ask at the same time keep the same.
 */
static uint64_t chain_moved(const struct map *m, struct layer *l)
{
	uint64_t moves = __atomic_load_n(&m->moves, __ATOMIC_RELAXED), moved = 0;
	struct map_layer *asked = map_layer_of(l);

	for (; l; l = l->parent) {
		const struct map_layer *ml = map_layer_of(l);

		if (__atomic_load_n(&ml->chain_moves, __ATOMIC_ACQUIRE) == moves) {
			moved = max_u64(moved, __atomic_load_n(&ml->chain_moved, __ATOMIC_RELAXED));
			break;
		}
		moved = max_u64(moved, ml->moved_sequence);
	}
	__atomic_store_n(&asked->chain_moved, moved, __ATOMIC_RELAXED);
	__atomic_store_n(&asked->chain_moves, moves, __ATOMIC_RELEASE);
	return moved;
}

/* Nothing of it and of those below was moved behind this checkpoint. */
static bool holds(const struct map *m, struct layer *l, uint64_t sequence)
{
	return MUTANT(MUTANT_RESOLVED_MOVED) ||
	       __atomic_load_n(&m->moved_sequence, __ATOMIC_RELAXED) <= sequence ||
	       chain_moved(m, l) <= sequence;
}

static int see_one(void *arg, const uint8_t *key, size_t key_bytes, const uint8_t *value,
		   size_t value_bytes)
{
	(void)key;
	(void)key_bytes;
	(void)value;
	(void)value_bytes;
	*(bool *)arg = true;
	return 1;
}

/* Whether it is worth asking. Found out once; whoever writes the first one says so before. */
static bool may_have(struct map *m, struct map_layer *ml)
{
	unsigned int state = __atomic_load_n(&ml->resolved, __ATOMIC_ACQUIRE), found;
	struct row_key from = row_key_2u64(ROW_RESOLVED, ml->pub.id, 0);
	struct row_key until = row_key_2u64(ROW_RESOLVED, ml->pub.id, UINT64_MAX);
	bool seen = false;

	if (state != RESOLVED_UNKNOWN)
		return state == RESOLVED_SOME;
	if (meta_iterate(m->meta, META_STATE, &from, &until, see_one, &seen, NULL) < 0)
		return false;
	found = seen ? RESOLVED_SOME : RESOLVED_NONE;
	(void)__atomic_compare_exchange_n(&ml->resolved, &state, found, false, __ATOMIC_ACQ_REL,
					  __ATOMIC_ACQUIRE);
	return seen;
}

void map_resolved_exist(struct map *m, struct layer *l)
{
	__atomic_store_n(&map_layer_of(l)->resolved, RESOLVED_SOME, __ATOMIC_RELEASE);
	__atomic_store_n(&m->resolved_exist, true, __ATOMIC_RELEASE);
}

int map_resolved_get(struct map *m, struct layer *l, uint64_t page, struct buf *value,
		     struct resolved_row *ret_row)
{
	struct row_key key = row_key_2u64(ROW_RESOLVED, l->id, page);
	int r;

	if (!may_have(m, map_layer_of(l)))
		return 0;
	r = meta_get(m->meta, META_STATE, &key, value, NULL);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = resolved_row_decode(value->data, value->len_bytes, ret_row, NULL);
	return r == 0 && holds(m, l, ret_row->sequence) ? 1 : -ESTALE;
}

/* --- making one -------------------------------------------------------------------------------- */

static bool is_known(const struct leaf_table *table, unsigned int i)
{
	return table->known[i / 64] >> (i % 64) & 1;
}

static int encode_page(const struct leaf_table *table, struct buf *out)
{
	struct page_run runs[PAGE_CLUSTERS];
	unsigned int count = 0;

	for (unsigned int i = 0; i < PAGE_CLUSTERS; i++) {
		struct page_run *last = count ? &runs[count - 1] : NULL;
		loc_t loc = table->loc[i];

		if (loc == LEAF_ABSENT || loc == LOC_UNMAPPED)
			continue;
		if (last && last->first + last->count == i &&
		    loc_ahead(last->loc, last->count) == loc &&
		    (last->crcs != NULL) == is_known(table, i))
			last->count++;
		else
			runs[count++] = (struct page_run){
				.first = (uint16_t)i,
				.count = 1,
				.loc = loc,
				.crcs = is_known(table, i) ? &table->crc[i] : NULL,
			};
	}
	return page_value_encode(PAGE_BASE, runs, count, out);
}

static int encode(const struct leaf_table *table, uint64_t sequence, struct buf *out)
{
	struct resolved_row row = { .sequence = sequence };
	AUTO(buf_done) struct buf page;
	int r;

	buf_init(&page, RESOLVED_BYTES);
	r = encode_page(table, &page);
	row.page = page.data;
	row.page_bytes = page.len_bytes;
	return r == 0 ? resolved_row_encode(&row, out) : r;
}

int map_resolve(struct map *m, struct layer *l, uint64_t page, uint64_t sequence,
		struct map_resolved *ret, struct err *e)
{
	struct assemble_cost cost;
	struct leaf_table table;
	int r = page_assemble(m, l, page, ASSEMBLE_ROWS_ONLY | ASSEMBLE_SETTLED, &table, &cost, e);

	buf_clear(&ret->value);
	ret->rows = cost.rows;
	ret->found = 0;
	if (r < 0)
		return r;
	/* Its own goes or is written over. That of a layer below is not asked again if this one is. */
	for (unsigned int i = 0; i < cost.found; i++)
		if (cost.layers[i] != cost.used || (cost.rows && cost.rows + 1 > m->rows_max))
			ret->layers[ret->found++] = cost.layers[i];
	return cost.rows + 1 > m->rows_max ? encode(&table, sequence, &ret->value) : 0;
}

/* --- proving one ------------------------------------------------------------------------------- */

struct comparison {
	const struct leaf_table *table;
	bool named[PAGE_CLUSTERS];
	bool agrees;
};

static void compare_run(void *arg, const struct page_run *run)
{
	struct comparison *c = arg;

	for (unsigned int j = 0; loc_is_place(run->loc) && j < run->count; j++) {
		unsigned int i = run->first + j;

		c->named[i] = true;
		if (c->table->loc[i] != run->loc + j ||
		    (run->crcs && is_known(c->table, i) && run->crcs[j] != c->table->crc[i]))
			c->agrees = false;
	}
}

int map_resolved_agrees(struct map *m, struct layer *l, uint64_t page, const uint8_t *value,
			size_t value_bytes, bool *ret_agrees, struct err *e)
{
	struct leaf_table table;
	struct comparison c = { .table = &table, .agrees = true };
	enum page_value_kind kind;
	struct assemble_cost cost;
	struct resolved_row row;
	int r;

	r = page_assemble(m, l, page, ASSEMBLE_ROWS_ONLY | ASSEMBLE_UNRESOLVED, &table, &cost, e);
	if (r == 0)
		r = resolved_row_decode(value, value_bytes, &row, e);
	if (r == 0)
		r = page_value_decode(row.page, row.page_bytes, &kind, compare_run, &c, e);
	if (r < 0)
		return r;
	for (unsigned int i = 0; i < PAGE_CLUSTERS; i++)
		if (loc_is_place(table.loc[i]) && !c.named[i])
			c.agrees = false;
	*ret_agrees = c.agrees || !holds(m, l, row.sequence);
	return 0;
}
