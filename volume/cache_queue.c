/*
 * S3-FIFO (Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023): chunks come
 * into a small queue; at its end those that were read again go to the main one, the others leave and
 * are remembered for a while: who comes back in that time goes to the main queue at once. A scan passes
 * through the small queue only.
 *
 * Read again means: bytes that were read before. A reader that goes through a chunk in small steps
 * has read it once.
 */
#include "volume/cache_impl.h"

#include <stdlib.h>
#include <string.h>

/* From this share of all chunks on the small queue gives. */
#define SMALL_PART 10u
/* Second chances in one eviction: the lock is held. */
#define EVICT_STEPS_MAX 4096u

/* --- lists ------------------------------------------------------------------------------------- */

static struct slot_list *list_of(struct cache *c, uint32_t id, enum slot_queue queue)
{
	switch (queue) {
	case SLOT_FREE:
		return &c->dirs[slot_dir(id)].free;
	case SLOT_BARE:
		return &c->dirs[slot_dir(id)].bare;
	case SLOT_SMALL:
		return &c->small;
	case SLOT_MAIN:
		return &c->main;
	case SLOT_BUSY:
		break;
	}
	return NULL;
}

static void list_remove(struct cache *c, struct slot_list *list, uint32_t id)
{
	struct slot *s = slot_at(c, id);

	if (s->prev == SLOT_NONE)
		list->head = s->next;
	else
		slot_at(c, s->prev)->next = s->next;
	if (s->next == SLOT_NONE)
		list->tail = s->prev;
	else
		slot_at(c, s->next)->prev = s->prev;
	s->next = s->prev = SLOT_NONE;
	list->count--;
}

static void list_push(struct cache *c, struct slot_list *list, uint32_t id)
{
	struct slot *s = slot_at(c, id);

	s->prev = SLOT_NONE;
	s->next = list->head;
	if (list->head == SLOT_NONE)
		list->tail = id;
	else
		slot_at(c, list->head)->prev = id;
	list->head = id;
	list->count++;
}

void cache_move(struct cache *c, uint32_t id, enum slot_queue queue)
{
	struct slot *s = slot_at(c, id);
	struct slot_list *from = list_of(c, id, (enum slot_queue)s->queue);
	struct slot_list *to = list_of(c, id, queue);

	if (from)
		list_remove(c, from, id);
	s->queue = queue & 7u;
	if (to)
		list_push(c, to, id);
}

void cache_touch(struct slot *s, uint16_t blocks)
{
	if (!(s->touched & blocks)) {
		s->touched |= blocks;
		return;
	}
	s->touched = blocks;
	if (s->frequency < SLOT_FREQUENCY_MAX)
		s->frequency++;
}

/* --- what left the small queue ----------------------------------------------------------------- */

/* Its size follows that of the cache; what it knew is lost then, which costs little: a cache that
 * grows evicts nothing. Without memory nothing is remembered. */
static void ghost_size(struct cache *c)
{
	struct ghost *g = &c->ghost;
	uint32_t slots = c->small.count + c->main.count;

	if (g->buckets && slots - slots / 4 <= g->sized_for)
		return;
	free(g->buckets);
	g->bucket_count = slots / GHOST_BUCKET + 1 - slots / GHOST_BUCKET / SMALL_PART;
	g->sized_for = slots;
	g->buckets = calloc(g->bucket_count, sizeof(*g->buckets));
}

static uint32_t *ghost_bucket(struct ghost *g, uint64_t hash, uint32_t *ret_print)
{
	*ret_print = (uint32_t)hash | 1u; /* not 0 */
	return g->buckets[(hash >> 32) * g->bucket_count >> 32];
}

static void ghost_add(struct cache *c, uint64_t hash)
{
	uint32_t *bucket, print;

	ghost_size(c);
	if (!c->ghost.buckets)
		return;
	bucket = ghost_bucket(&c->ghost, hash, &print);
	memmove(bucket + 1, bucket, (GHOST_BUCKET - 1) * sizeof(*bucket));
	bucket[0] = print;
}

static bool ghost_take(struct cache *c, uint64_t hash)
{
	uint32_t *bucket, print;

	if (!c->ghost.buckets)
		return false;
	bucket = ghost_bucket(&c->ghost, hash, &print);
	for (unsigned int i = 0; i < GHOST_BUCKET; i++)
		if (bucket[i] == print) {
			memmove(bucket + i, bucket + i + 1,
				(GHOST_BUCKET - 1 - i) * sizeof(*bucket));
			bucket[GHOST_BUCKET - 1] = 0;
			return true;
		}
	return false;
}

enum slot_queue cache_queue_for(struct cache *c, uint64_t sco, uint32_t chunk)
{
	return ghost_take(c, cache_hash(sco, chunk)) ? SLOT_MAIN : SLOT_SMALL;
}

/* --- eviction ---------------------------------------------------------------------------------- */

static uint32_t evict_this(struct cache *c, uint32_t id, bool remember)
{
	const struct slot *s = slot_at(c, id);

	if (remember)
		ghost_add(c, cache_hash(slot_sco(s), s->chunk));
	cache_unbind(c, id);
	counter_inc(&c->o.metrics->evictions);
	return id;
}

/* The oldest of a queue: it goes (0), gets another chance (-EAGAIN), or is pinned (-EBUSY). */
static int try_oldest(struct cache *c, struct slot_list *list, bool last_chance, uint32_t *ret_id)
{
	bool is_small = list == &c->small;
	uint32_t id = list->tail;
	struct slot *s = slot_at(c, id);

	if (s->pins > 0) {
		cache_move(c, id, (enum slot_queue)s->queue);
		return -EBUSY;
	}
	if (s->frequency > 0 && !last_chance) {
		s->frequency = is_small ? 0 : (s->frequency - 1) & SLOT_FREQUENCY_MAX;
		cache_move(c, id, SLOT_MAIN);
		cache_mark_changed(c, id);
		return -EAGAIN;
	}
	*ret_id = evict_this(c, id, is_small);
	return 0;
}

uint32_t cache_evict(struct cache *c)
{
	uint32_t id, small_pinned = 0, main_pinned = 0;

	for (unsigned int step = 0; step < 2 * EVICT_STEPS_MAX; step++) {
		bool any_small = c->small.count > small_pinned;
		bool any_main = c->main.count > main_pinned;
		bool much_small = c->small.count >= (c->small.count + c->main.count) / SMALL_PART;
		bool from_small = any_small && (much_small || !any_main);
		int r;

		if (!any_small && !any_main)
			return SLOT_NONE;
		r = try_oldest(c, from_small ? &c->small : &c->main, step >= EVICT_STEPS_MAX, &id);
		if (r == 0)
			return id;
		if (r == -EBUSY)
			(*(from_small ? &small_pinned : &main_pinned))++;
	}
	return SLOT_NONE;
}
