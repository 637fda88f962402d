/* map_page - slabs, buckets and eviction: the pages of one shard. */
#include "volume/map_impl.h"

#include <stdlib.h>

#define BUCKETS_MIN 16u
/* Pages a bucket holds on average before there are twice as many buckets. */
#define BUCKET_PAGES_MAX 2u
/* Slots that one call looks at for pages to evict, so that it costs little where most must stay. */
#define EVICT_SLOTS_MAX 256u

int shard_init(struct shard *s)
{
	*s = (struct shard){ .slots = 1, .bucket_count = BUCKETS_MIN };
	s->buckets = calloc(s->bucket_count, sizeof(*s->buckets));
	if (!s->buckets)
		return -ENOMEM;
	mutex_init(&s->lock, LOCK_MAP_SHARD);
	cond_init(&s->loaded);
	return 0;
}

void shard_done(struct shard *s)
{
	ASSERT(s->page_count == 0 && !s->loads && s->pinned_bytes == 0);
	for (uint32_t i = 0; i < s->slab_count; i++)
		free(s->slabs[i]);
	free(s->slabs);
	free(s->buckets);
	leaf_pool_done(&s->pool);
	mutex_done(&s->lock);
	cond_done(&s->loaded);
}

uint64_t shard_used_bytes(const struct shard *s)
{
	return s->pool.used_bytes + s->page_count * PAGE_OWN_BYTES;
}

static uint32_t *bucket_of(const struct shard *s, uint64_t key)
{
	return &s->buckets[mix64(key) >> 32 & (s->bucket_count - 1)];
}

struct map_page *page_find(const struct shard *s, uint64_t key)
{
	for (uint32_t slot = *bucket_of(s, key); slot;) {
		struct map_page *p = page_at(s, slot);

		if (p->key == key)
			return p;
		slot = p->leaf.owner_link;
	}
	return NULL;
}

/* Twice the buckets; without memory for it the chains get longer. */
static void buckets_grow(struct shard *s)
{
	uint32_t *old = s->buckets, old_count = s->bucket_count;
	uint32_t *new;

	if (old_count > UINT32_MAX / 4)
		return;
	new = calloc((size_t)old_count * 2, sizeof(*new));
	if (!new)
		return;
	s->buckets = new;
	s->bucket_count = old_count * 2;
	for (uint32_t i = 0; i < old_count; i++) {
		for (uint32_t slot = old[i], next; slot; slot = next) {
			struct map_page *p = page_at(s, slot);
			uint32_t *bucket = bucket_of(s, p->key);

			next = p->leaf.owner_link;
			p->leaf.owner_link = *bucket;
			*bucket = slot;
		}
	}
	free(old);
}

static uint32_t slot_get(struct shard *s)
{
	uint32_t slot = s->free_slot;

	if (slot) {
		s->free_slot = page_at(s, slot)->leaf.owner_link;
		return slot;
	}
	if (s->slots == s->slab_count << SLAB_PAGES_SHIFT || s->slab_count == 0) {
		if (s->slab_count == UINT32_MAX >> SLAB_PAGES_SHIFT)
			return 0;
		if (s->slab_count == s->slab_room) {
			uint32_t room = s->slab_room ? s->slab_room * 2 : 4;
			struct map_page **slabs =
				realloc(s->slabs, room * sizeof(struct map_page *));

			if (!slabs)
				return 0;
			s->slabs = slabs;
			s->slab_room = room;
		}
		s->slabs[s->slab_count] = calloc(SLAB_PAGES, sizeof(struct map_page));
		if (!s->slabs[s->slab_count])
			return 0;
		s->slab_count++;
	}
	return s->slots++;
}

struct map_layer *page_layer(const struct map *m, const struct map_page *p)
{
	return map_layer_at(m, (uint32_t)(p->key >> PAGE_NUMBER_BITS));
}

struct map_page *page_make(struct shard *s, struct map_layer *ml, uint64_t page)
{
	uint64_t key = page_key(ml, page);
	uint64_t bound = __atomic_load_n(&ml->page_bound, __ATOMIC_SEQ_CST);
	uint32_t slot = slot_get(s);
	struct map_page *p;
	uint32_t *bucket;

	if (!slot)
		return NULL;
	if (s->page_count >= s->bucket_count * BUCKET_PAGES_MAX)
		buckets_grow(s);
	p = page_at(s, slot);
	bucket = bucket_of(s, key);
	p->key = key;
	leaf_init(&p->leaf);
	p->leaf.owner_flags = PAGE_USED | PAGE_HOT;
	p->leaf.owner_link = *bucket;
	*bucket = slot;
	s->page_count++;
	while (bound <= page &&
	       !__atomic_compare_exchange_n(&ml->page_bound, &bound, page + 1, false,
					    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		continue;
	__atomic_add_fetch(&ml->cached_pages, 1, __ATOMIC_SEQ_CST);
	return p;
}

void page_mark_dirty(struct shard *s, struct map_layer *ml, struct map_page *p)
{
	if (!page_is(p, PAGE_PINNED)) {
		layer_ref(&ml->pub);
		s->pinned_bytes += page_bytes(p);
	}
	if (!page_is(p, PAGE_DIRTY))
		s->dirty_count++;
	page_flag(p, PAGE_DIRTY);
}

bool page_unmark(struct shard *s, struct map_page *p, enum map_page_flag flag)
{
	ASSERT(flag == PAGE_DIRTY || flag == PAGE_STAGED);
	if (!page_is(p, flag))
		return false;
	if (flag == PAGE_DIRTY)
		s->dirty_count--;
	else
		s->staged_count--;
	page_unflag(p, flag);
	if (page_is(p, PAGE_PINNED))
		return false;
	s->pinned_bytes -= page_bytes(p);
	return true;
}

static void load_cancel(struct shard *s, uint64_t key)
{
	struct map_load **at = &s->loads;

	while (*at && (*at)->key != key)
		at = &(*at)->next;
	ASSERT(*at); /* a page that is loading has its load here */
	(*at)->cancelled = true;
	*at = (*at)->next;
	cond_broadcast(&s->loaded);
}

void page_forget_clean(struct shard *s, struct map_page *p)
{
	uint64_t bytes = page_bytes(p);

	if (page_is(p, PAGE_LOADING))
		load_cancel(s, p->key);
	leaf_forget_clean(&s->pool, &p->leaf);
	page_unflag(p, PAGE_LOADING | PAGE_LOADED);
	page_resized(s, p, bytes);
}

bool page_drop(const struct map *m, struct shard *s, struct map_page *p)
{
	uint32_t *link = bucket_of(s, p->key);
	bool drop_dirty = page_unmark(s, p, PAGE_DIRTY);
	bool drop_staged = page_unmark(s, p, PAGE_STAGED);
	uint32_t slot;

	if (page_is(p, PAGE_LOADING))
		load_cancel(s, p->key);
	while (page_at(s, *link) != p)
		link = &page_at(s, *link)->leaf.owner_link;
	slot = *link;
	*link = p->leaf.owner_link;
	leaf_clear(&s->pool, &p->leaf);
	p->leaf.owner_flags = 0;
	p->leaf.owner_link = s->free_slot;
	s->free_slot = slot;
	s->page_count--;
	/* Last: its layer may go when none of its pages is cached. */
	__atomic_sub_fetch(&page_layer(m, p)->cached_pages, 1, __ATOMIC_SEQ_CST);
	return drop_dirty || drop_staged;
}

void shard_evict(const struct map *m, struct shard *s, const struct map_page *keep)
{
	uint32_t most = s->slots < EVICT_SLOTS_MAX / 2 ? s->slots * 2 : EVICT_SLOTS_MAX;

	for (uint32_t i = 0; i < most && shard_used_bytes(s) > m->shard_bytes; i++) {
		struct map_page *p;
		bool was_pinned;

		if (++s->hand >= s->slots)
			s->hand = 1;
		p = page_at(s, s->hand);
		if (p == keep || !page_is(p, PAGE_USED) || page_is(p, PAGE_STAYS))
			continue;
		if (page_is(p, PAGE_HOT)) {
			page_unflag(p, PAGE_HOT);
			continue;
		}
		was_pinned = page_drop(m, s, p);
		ASSERT(!was_pinned);
	}
}

void shard_shrink(const struct map *m, struct shard *s)
{
	uint64_t looked_at = 0;
	bool go_on = true;

	/* Twice round: the first time most pages are only found to have been used. */
	while (go_on) {
		GUARD(&s->lock);

		shard_evict(m, s, NULL);
		looked_at += EVICT_SLOTS_MAX;
		go_on = shard_used_bytes(s) > m->shard_bytes && looked_at < 2 * (uint64_t)s->slots;
	}
}

void shard_sweep(struct shard *s, bool (*fn)(void *arg, struct shard *s, struct map_page *p),
		 void (*between)(void *arg), void *arg)
{
	uint32_t slot = 1, slots;
	bool go_on = true;

	do {
		if (between)
			between(arg);
		mutex_lock(&s->lock);
		slots = s->slots;
		for (uint32_t i = 0; i < SWEEP_SLOTS && slot < slots && go_on; i++, slot++) {
			struct map_page *p = page_at(s, slot);

			if (page_is(p, PAGE_USED))
				go_on = fn(arg, s, p);
		}
		mutex_unlock(&s->lock);
	} while (go_on && slot < slots);
}
