/* Slots by number, in pieces; chunks by name, in a hash that grows by one chain at a time. */
#include "volume/cache_impl.h"

#include <stdlib.h>
#include <string.h>

#define HEADS_MIN	 1024u
#define CHUNKS_OF_A_HEAD 2u

STATIC_ASSERT(sizeof(struct slot) == 28, "1 TiB of slots fits in 600 MiB with all else");
STATIC_ASSERT(SLOT_INDEX_BITS + 4 == 32 && FLASH_DIRS_MAX <= 16, "a slot's number has 32 bits");
STATIC_ASSERT(SLOTS_OF_DIR_MAX <= CACHE_MAP_SLOTS_MAX, "the map can say it");

bool cache_can_name(uint64_t sco, uint64_t chunk)
{
	return sco != 0 && sco <= SCO_NUMBER_MAX && chunk <= CACHE_MAP_CHUNK_MAX;
}

uint64_t cache_hash(uint64_t sco, uint32_t chunk)
{
	uint64_t z = (sco << 14 | chunk) + UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* --- the hash ---------------------------------------------------------------------------------- */

static uint32_t *head_at(struct cache *c, uint32_t i)
{
	return &c->heads[i / HEADS_OF_PIECE][i % HEADS_OF_PIECE];
}

/* The smallest power of two that is not below the count of heads. */
static uint32_t head_span(const struct cache *c)
{
	return c->head_count == 1 ? 1 : UINT32_C(1) << (32 - __builtin_clz(c->head_count - 1));
}

/* Heads are numbers below head_count; those of the upper half that are not there yet lie in the
 * lower one. */
static uint32_t *head_of(struct cache *c, uint64_t hash)
{
	uint32_t span = head_span(c), i = (uint32_t)hash & (span - 1);

	return head_at(c, i < c->head_count ? i : i & (span / 2 - 1));
}

static bool add_head_piece(struct cache *c)
{
	uint32_t **piece = &c->heads[c->head_count / HEADS_OF_PIECE];

	if (!*piece)
		*piece = malloc(HEADS_OF_PIECE * sizeof(**piece));
	if (!*piece)
		return false;
	memset(*piece, 0xff, HEADS_OF_PIECE * sizeof(**piece)); /* SLOT_NONE */
	return true;
}

/* One head more, which takes its share of the chain that held it so far. Without memory chains grow. */
static void add_head(struct cache *c)
{
	uint32_t new = c->head_count, *from, id;

	if (new / HEADS_OF_PIECE == HEAD_PIECES_MAX)
		return;
	if (new % HEADS_OF_PIECE == 0 && !add_head_piece(c))
		return;
	from = head_at(c, new & ~(UINT32_C(1) << (31 - __builtin_clz(new))));
	c->head_count++;
	id = *from;
	*from = SLOT_NONE;
	while (id != SLOT_NONE) {
		struct slot *s = slot_at(c, id);
		uint32_t next = s->hash_next, *to = head_of(c, cache_hash(slot_sco(s), s->chunk));

		s->hash_next = *to;
		*to = id;
		id = next;
	}
}

uint32_t cache_find(struct cache *c, uint64_t sco, uint32_t chunk)
{
	uint32_t id = *head_of(c, cache_hash(sco, chunk));

	while (id != SLOT_NONE) {
		const struct slot *s = slot_at(c, id);

		if (s->chunk == chunk && slot_sco(s) == sco)
			return id;
		id = s->hash_next;
	}
	return SLOT_NONE;
}

uint32_t cache_find_version(struct cache *c, const struct cache_sco *s, uint64_t chunk)
{
	uint32_t id;

	if (!cache_can_name(s->sco, chunk))
		return SLOT_NONE;
	id = cache_find(c, s->sco, (uint32_t)chunk);
	return id != SLOT_NONE && slot_at(c, id)->version == s->version ? id : SLOT_NONE;
}

static void unlink_from_hash(struct cache *c, uint32_t id)
{
	struct slot *s = slot_at(c, id);
	uint32_t *at = head_of(c, cache_hash(slot_sco(s), s->chunk));

	while (*at != id) {
		ASSERT(*at != SLOT_NONE);
		at = &slot_at(c, *at)->hash_next;
	}
	*at = s->hash_next;
	s->hash_next = SLOT_NONE;
}

/* --- chunks ------------------------------------------------------------------------------------ */

void cache_bind(struct cache *c, uint32_t id, uint64_t sco, uint32_t chunk, uint32_t version,
		enum slot_queue queue)
{
	struct slot *s = slot_at(c, id);
	uint32_t *head;

	ASSERT(s->queue == SLOT_BUSY && s->pins == 0 && s->present == 0);
	s->sco_low = (uint32_t)sco;
	s->sco_high = (uint32_t)(sco >> 32) & 0xf;
	s->chunk = chunk & CACHE_MAP_CHUNK_MAX;
	s->version = version;
	s->frequency = 0;
	s->touched = 0;
	if (c->small.count + c->main.count >= CHUNKS_OF_A_HEAD * c->head_count)
		add_head(c);
	head = head_of(c, cache_hash(sco, chunk));
	s->hash_next = *head;
	*head = id;
	cache_move(c, id, queue);
}

void cache_set_present(struct cache *c, uint32_t id, uint16_t present)
{
	struct slot *s = slot_at(c, id);

	c->present_blocks += (uint64_t)__builtin_popcount(present);
	c->present_blocks -= (uint64_t)__builtin_popcount(s->present);
	s->present = present;
	cache_mark_changed(c, id);
}

void cache_unbind(struct cache *c, uint32_t id)
{
	ASSERT(slot_has_chunk(slot_at(c, id)));
	unlink_from_hash(c, id);
	cache_set_present(c, id, 0);
	cache_move(c, id, SLOT_BUSY);
}

/* A slot that nobody uses any more. Those of a directory that failed are lost until the next start. */
static void give_back(struct cache *c, uint32_t id)
{
	if (!c->dirs[slot_dir(id)].failed)
		cache_move(c, id, SLOT_FREE);
}

void cache_take_out(struct cache *c, uint32_t id)
{
	cache_unbind(c, id);
	if (slot_at(c, id)->pins == 0)
		give_back(c, id);
}

bool cache_pin(struct cache *c, uint32_t id)
{
	struct slot *s = slot_at(c, id);

	if (s->pins == SLOT_PINS_MAX)
		return false;
	s->pins++;
	return true;
}

void cache_unpin(struct cache *c, uint32_t id)
{
	struct slot *s = slot_at(c, id);

	ASSERT(s->pins > 0);
	s->pins--;
	if (s->pins == 0 && s->queue == SLOT_BUSY)
		give_back(c, id);
}

/* --- slots ------------------------------------------------------------------------------------- */

uint32_t cache_add_slot(struct cache *c, uint32_t dir)
{
	struct cache_dir *d = &c->dirs[dir];
	uint32_t i = d->slot_count, id = slot_id(dir, i);
	struct slot_piece **piece = &d->pieces[i / SLOTS_OF_PIECE];

	if (i == SLOTS_OF_DIR_MAX)
		return SLOT_NONE;
	if (!*piece)
		*piece = calloc(1, sizeof(**piece));
	if (!*piece)
		return SLOT_NONE;
	d->slot_count++;
	*slot_at(c, id) = (struct slot){
		.queue = SLOT_BUSY, .hash_next = SLOT_NONE, .next = SLOT_NONE, .prev = SLOT_NONE
	};
	return id;
}

void cache_count_blocks(struct cache *c, uint32_t id, bool has)
{
	uint32_t dir = slot_dir(id);

	c->slots_with_blocks += has ? 1u : UINT32_MAX;
	c->dirs[dir].slots_with_blocks += has ? 1u : UINT32_MAX;
	flash_account(c->o.flash, dir, has ? 0 : CACHE_CHUNK_BYTES, has ? CACHE_CHUNK_BYTES : 0);
}

void cache_mark_changed(struct cache *c, uint32_t id)
{
	uint32_t i = slot_index(id), block = i % SLOTS_OF_PIECE / SLOTS_OF_MAP_BLOCK;

	c->dirs[slot_dir(id)].pieces[i / SLOTS_OF_PIECE]->changed[block / 64] |= UINT64_C(1)
										 << block % 64;
	c->map_changes++;
	cache_kick_writer(c);
}

int cache_table_open(struct cache *c)
{
	if (!add_head_piece(c))
		return -ENOMEM;
	c->head_count = HEADS_MIN;
	return 0;
}

void cache_table_close(struct cache *c)
{
	for (uint32_t i = 0; i < HEAD_PIECES_MAX && c->heads[i]; i++)
		free(c->heads[i]);
	for (unsigned int dir = 0; dir < c->dir_count; dir++)
		for (uint32_t i = 0; i < PIECES_OF_DIR_MAX && c->dirs[dir].pieces[i]; i++)
			free(c->dirs[dir].pieces[i]);
}
