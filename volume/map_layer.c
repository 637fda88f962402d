/* map_layer - layers in use: by id, and by the slot that stands in the keys of their pages. */
#include "volume/map_impl.h"

#include <stdlib.h>

#define LAYER_BUCKETS_MIN 64u
/* A range of so few pages is looked up page by page; a longer one makes all pages be looked at. */
#define DROP_PROBES_MAX 1024u

void map_layers_init(struct map *m)
{
	rwlock_init(&m->chain_lock, LOCK_MAP_CHAIN);
	rwlock_init(&m->ranges_lock, LOCK_MAP_RANGES);
	mutex_init(&m->layers_lock, LOCK_MAP_LAYERS);
	mutex_init(&m->wishes_lock, 0);
}

void map_layers_done(struct map *m)
{
	ASSERT(m->layer_count == 0);
	map_resolved_done(m);
	for (size_t i = 0; i < LAYER_SLOTS_MAX / LAYER_CHUNK; i++)
		free(m->chunks[i]);
	free(m->buckets);
	free(m->free_slots);
	mutex_done(&m->layers_lock);
	rwlock_done(&m->ranges_lock);
	rwlock_done(&m->chain_lock);
}

struct map_layer *map_layer_at(const struct map *m, uint32_t slot)
{
	struct map_layer **chunk =
		__atomic_load_n(&m->chunks[slot / LAYER_CHUNK], __ATOMIC_ACQUIRE);

	return chunk[slot % LAYER_CHUNK];
}

static struct map_layer **layer_bucket(const struct map *m, uint64_t id)
{
	return &m->buckets[mix64(id) & (m->bucket_count - 1)];
}

static int buckets_grow_locked(struct map *m)
{
	uint32_t count = m->bucket_count ? m->bucket_count * 2 : LAYER_BUCKETS_MIN;
	struct map_layer **old = m->buckets;
	uint32_t old_count = m->bucket_count;
	struct map_layer **new = calloc(count, sizeof(struct map_layer *));

	if (!new)
		return old ? 0 : -ENOMEM; /* longer chains */
	m->buckets = new;
	m->bucket_count = count;
	for (uint32_t i = 0; i < old_count; i++) {
		for (struct map_layer *ml = old[i], *next; ml; ml = next) {
			struct map_layer **bucket = layer_bucket(m, ml->pub.id);

			next = ml->next_in_bucket;
			ml->next_in_bucket = *bucket;
			*bucket = ml;
		}
	}
	free(old);
	return 0;
}

static int slot_get_locked(struct map *m, struct map_layer *ml)
{
	struct map_layer **chunk;
	uint32_t slot = m->slots_used;

	if (m->free_slot_count) {
		slot = m->free_slots[--m->free_slot_count];
	} else {
		if (slot == LAYER_SLOTS_MAX)
			return -ENOMEM;
		if (!m->chunks[slot / LAYER_CHUNK]) {
			chunk = calloc(LAYER_CHUNK, sizeof(struct map_layer *));
			if (!chunk)
				return -ENOMEM;
			__atomic_store_n(&m->chunks[slot / LAYER_CHUNK], chunk, __ATOMIC_RELEASE);
		}
		m->slots_used++;
	}
	m->chunks[slot / LAYER_CHUNK][slot % LAYER_CHUNK] = ml;
	ml->slot = slot;
	return 0;
}

static void slot_put_locked(struct map *m, const struct map_layer *ml)
{
	m->chunks[ml->slot / LAYER_CHUNK][ml->slot % LAYER_CHUNK] = NULL;
	if (m->free_slot_count == m->free_slot_room) {
		uint32_t room = m->free_slot_room ? m->free_slot_room * 2 : 64;
		uint32_t *slots = realloc(m->free_slots, room * sizeof(*slots));

		if (!slots)
			return; /* one of millions of numbers is lost */
		m->free_slots = slots;
		m->free_slot_room = room;
	}
	m->free_slots[m->free_slot_count++] = ml->slot;
}

static int layer_insert_locked(struct map *m, struct map_layer *ml)
{
	struct map_layer **bucket;
	int r = 0;

	if (m->layer_count >= m->bucket_count)
		r = buckets_grow_locked(m);
	if (r == 0)
		r = slot_get_locked(m, ml);
	if (r < 0)
		return r;
	bucket = layer_bucket(m, ml->pub.id);
	ml->next_in_bucket = *bucket;
	*bucket = ml;
	m->layer_count++;
	return 0;
}

/* The living layer of an id, referenced, or NULL. */
static struct map_layer *layer_find_locked(struct map *m, uint64_t id)
{
	struct map_layer *ml = m->bucket_count ? *layer_bucket(m, id) : NULL;

	while (ml && ml->pub.id != id)
		ml = ml->next_in_bucket;
	if (ml)
		layer_ref(&ml->pub);
	return ml;
}

int map_layer_new(struct map *m, uint64_t id, struct layer *parent, uint64_t parent_limit_clusters,
		  uint32_t parent_origin_base, struct layer **ret_layer)
{
	struct map_layer *ml, *living;
	int r = 0;

	ml = calloc(1, sizeof(*ml));
	if (!ml)
		return -ENOMEM;
	ml->pub.id = id;
	ml->pub.parent = parent;
	ml->pub.parent_origin_base = parent_origin_base;
	ml->pub.parent_limit_clusters = parent_limit_clusters;
	ml->pub.refs = 1;
	mutex_init(&ml->pub.lock, LOCK_LAYER); /* once it is in, others find it */

	mutex_lock(&m->layers_lock);
	living = layer_find_locked(m, id);
	/* What was moved of it before it was in use is not known: it counts as moved by the last. */
	ml->moved_sequence = __atomic_load_n(&m->moved_sequence, __ATOMIC_RELAXED);
	if (!living)
		r = layer_insert_locked(m, ml);
	if (!living && r == 0 && parent)
		layer_ref(parent);
	mutex_unlock(&m->layers_lock);
	if (living || r < 0) {
		mutex_done(&ml->pub.lock);
		free(ml);
	}
	if (living) {
		if (living->pub.parent != parent ||
		    living->pub.parent_origin_base != parent_origin_base) {
			layer_unref(m, &living->pub);
			return -EEXIST;
		}
		*ret_layer = &living->pub;
		return 0;
	}
	if (r < 0)
		return r;
	*ret_layer = &ml->pub;
	return 0;
}

void layer_ref(struct layer *l)
{
	__atomic_add_fetch(&l->refs, 1, __ATOMIC_RELAXED);
}

void layer_unref_shared(struct layer *l)
{
	uint32_t left = __atomic_sub_fetch(&l->refs, 1, __ATOMIC_RELEASE);

	ASSERT(left > 0);
}

/* True: it was not the last reference. The last one goes under layers_lock only. */
static bool layer_unref_fast(struct layer *l)
{
	uint32_t refs = __atomic_load_n(&l->refs, __ATOMIC_RELAXED);

	while (refs > 1)
		if (__atomic_compare_exchange_n(&l->refs, &refs, refs - 1, false, __ATOMIC_RELEASE,
						__ATOMIC_RELAXED))
			return true;
	ASSERT(refs == 1);
	return false;
}

static bool layer_take_out(struct map *m, struct map_layer *ml)
{
	GUARD(&m->layers_lock);
	struct map_layer **at;

	if (__atomic_sub_fetch(&ml->pub.refs, 1, __ATOMIC_ACQ_REL) > 0)
		return false;
	for (at = layer_bucket(m, ml->pub.id); *at != ml; at = &(*at)->next_in_bucket)
		continue;
	*at = ml->next_in_bucket;
	m->layer_count--;
	return true;
}

void layer_unref(struct map *m, struct layer *l)
{
	while (l && !layer_unref_fast(l)) {
		struct map_layer *ml = map_layer_of(l);
		struct layer *parent;

		if (!layer_take_out(m, ml))
			return;
		parent = l->parent; /* not before: who still found it may have relinked it */
		/* Nobody can find it; what is cached of it is clean, or it would be referenced. */
		ASSERT(!l->tombstones && !ml->is_tombstoned);
		map_drop_pages(m, ml, 0, UINT64_MAX);
		mutex_lock(&m->layers_lock);
		slot_put_locked(m, ml);
		mutex_unlock(&m->layers_lock);
		mutex_done(&l->lock);
		free(ml);
		l = parent;
	}
}

/* ---- chains ----------------------------------------------------------------------------------- */

void map_chain_hold(struct map *m)
{
	rwlock_read_lock(&m->chain_lock);
}

void map_chain_release(struct map *m)
{
	rwlock_read_unlock(&m->chain_lock);
}

void map_chain_hold_alone(struct map *m)
{
	rwlock_write_lock(&m->chain_lock);
}

void map_chain_release_alone(struct map *m)
{
	rwlock_write_unlock(&m->chain_lock);
}

void map_layer_relink(struct map *m, struct layer *l, uint64_t limit_clusters)
{
	struct layer *gone = l->parent, *below = gone->parent;
	struct map_layer *ml = map_layer_of(l);

	if (below)
		layer_ref(below);
	ml->moved_sequence = max_u64(ml->moved_sequence, map_layer_of(gone)->moved_sequence);
	mutex_lock(&l->lock);
	__atomic_store_n(&l->parent, below, __ATOMIC_RELEASE);
	l->parent_limit_clusters = min_u64(l->parent_limit_clusters, limit_clusters);
	mutex_unlock(&l->lock);
	layer_unref(m, gone);
}

struct layer *map_layer_find(struct map *m, uint64_t id)
{
	GUARD(&m->layers_lock);
	struct map_layer *ml = layer_find_locked(m, id);

	return ml ? &ml->pub : NULL;
}

/* ---- dropping pages --------------------------------------------------------------------------- */

struct drop {
	struct map *m;
	struct map_layer *ml;
	uint64_t first_page, end_page;
};

static void drop_one(const struct drop *d, struct shard *s, struct map_page *p)
{
	if (page_drop(d->m, s, p))
		layer_unref_shared(&d->ml->pub);
}

static bool drop_if_covered(void *arg, struct shard *s, struct map_page *p)
{
	const struct drop *d = arg;

	if (p->key >> PAGE_NUMBER_BITS == d->ml->slot && page_number(p) >= d->first_page &&
	    page_number(p) < d->end_page)
		drop_one(d, s, p);
	return true;
}

void map_drop_pages(struct map *m, struct map_layer *ml, uint64_t first_page, uint64_t end_page)
{
	struct drop d = { .m = m, .ml = ml, .first_page = first_page, .end_page = end_page };

	if (__atomic_load_n(&ml->cached_pages, __ATOMIC_SEQ_CST) == 0)
		return;
	d.end_page = min_u64(end_page, __atomic_load_n(&ml->page_bound, __ATOMIC_SEQ_CST));
	if (d.end_page <= first_page)
		return;
	if (d.end_page - first_page > DROP_PROBES_MAX) {
		for (unsigned int i = 0; i < m->shard_count; i++)
			shard_sweep(&m->shards[i], drop_if_covered, NULL, &d);
		return;
	}
	for (uint64_t page = first_page; page < d.end_page; page++) {
		uint64_t key = page_key(ml, page);
		struct shard *s = shard_of(m, key);
		GUARD(&s->lock);
		struct map_page *p = page_find(s, key);

		if (p)
			drop_one(&d, s, p);
	}
}
