#include "volume/cache_impl.h"

#include <stdlib.h>

const struct metric_def cache_metric_defs[] = {
	METRIC_COUNTER(struct cache_metrics, hits, "pieces",
		       "Pieces of SCOs that are on the backend only, found on flash."),
	METRIC_COUNTER(struct cache_metrics, misses, "pieces", "The same, not found."),
	METRIC_COUNTER(struct cache_metrics, fetches, "requests", "Range GETs that brought bytes."),
	METRIC_COUNTER(struct cache_metrics, fetch_bytes, "bytes", "What they brought."),
	METRIC_COUNTER(struct cache_metrics, ahead_fetches, "requests",
		       "Range GETs for what nobody had asked for yet."),
	METRIC_COUNTER(struct cache_metrics, shared, "reads",
		       "Reads that waited for the GET of another one."),
	METRIC_COUNTER(struct cache_metrics, evictions, "chunks", "Chunks that made room."),
	METRIC_COUNTER(struct cache_metrics, dropped, "chunks",
		       "Chunks of which bytes were wrong, or could not be read."),
	METRIC_HISTOGRAM(struct cache_metrics, fetch_ns, "Time of one range GET."),
};
const size_t cache_metric_def_count = ARRAY_SIZE(cache_metric_defs);

/* Chunks that cache_sift() looks at together. */
#define SIFT_STEP 256u

struct named_chunk {
	uint32_t id;
	uint64_t sco;
	uint32_t version;
};

/* --- opening and closing ----------------------------------------------------------------------- */

static void init_lists(struct cache *c)
{
	const struct slot_list empty = { .head = SLOT_NONE, .tail = SLOT_NONE };

	c->small = c->main = empty;
	for (unsigned int i = 0; i < FLASH_DIRS_MAX; i++) {
		c->dirs[i].free = c->dirs[i].bare = empty;
		c->dirs[i].map_slot_count = SLOT_NONE;
	}
}

static void free_cache(struct cache *c)
{
	for (unsigned int i = 0; i < c->dir_count; i++) {
		flash_account(c->o.flash, i,
			      (uint64_t)c->dirs[i].slots_with_blocks * CACHE_CHUNK_BYTES, 0);
		if (c->dirs[i].file)
			env_close(c->o.env, c->dirs[i].file);
		if (c->dirs[i].map)
			env_close(c->o.env, c->dirs[i].map);
	}
	cache_table_close(c);
	free(c->ghost.buckets);
	cond_done(&c->changed);
	mutex_done(&c->lock);
	free(c);
}

int cache_open(const struct cache_options *o, struct cache **ret_cache, struct err *e)
{
	struct cache *c = calloc(1, sizeof(*c));
	int r = 0;

	if (!c)
		return err_set(e, -ENOMEM, "cache");
	ASSERT(o->fetch_min_bytes >= CACHE_BLOCK_BYTES && o->fetch_min_bytes <= CACHE_CHUNK_BYTES &&
	       (o->fetch_min_bytes & (o->fetch_min_bytes - 1)) == 0);
	c->o = *o;
	if (!c->o.metrics)
		c->o.metrics = &c->no_metrics;
	mutex_init(&c->lock, LOCK_CACHE);
	cond_init(&c->changed);
	init_lists(c);
	cache_wishes_open(c);
	c->map_written_ns = env_now_mono_ns(o->env);
	r = cache_table_open(c);
	for (; c->dir_count < o->flash->dir_count && r == 0; c->dir_count++)
		r = cache_map_open(c, c->dir_count);
	if (r < 0) {
		free_cache(c);
		return err_because(e, r, "cache");
	}
	*ret_cache = c;
	return 0;
}

void cache_close(struct cache *c)
{
	if (!c)
		return;
	ASSERT(!c->fetches);
	cache_map_write(c);
	free_cache(c);
}

/* --- holding ----------------------------------------------------------------------------------- */

bool cache_hold(struct cache *c, const struct cache_sco *s, uint64_t offset_bytes, size_t len_bytes,
		struct cache_hold *ret_hold)
{
	uint64_t chunk;
	uint16_t blocks = cache_blocks(offset_bytes, offset_bytes + len_bytes, &chunk);
	uint64_t piece = c->o.fetch_min_bytes;
	struct slot *slot;
	uint32_t id;

	ASSERT(len_bytes > 0 && (offset_bytes | len_bytes) % CACHE_BLOCK_BYTES == 0 &&
	       offset_bytes % CACHE_CHUNK_BYTES + len_bytes <= CACHE_CHUNK_BYTES);
	GUARD(&c->lock);
	id = cache_find_version(c, s, chunk);
	if (id == SLOT_NONE)
		return false;
	slot = slot_at(c, id);
	if ((slot->present & blocks) != blocks || !cache_pin(c, id))
		return false;
	cache_touch(slot, blocks);
	counter_add(&c->o.metrics->hits,
		    div_up_u64(offset_bytes + len_bytes, piece) - offset_bytes / piece);
	*ret_hold = (struct cache_hold){
		.file = c->dirs[slot_dir(id)].file,
		.offset_bytes = (uint64_t)slot_index(id) * CACHE_CHUNK_BYTES +
				offset_bytes % CACHE_CHUNK_BYTES,
		.slot = slot_index(id),
		.dir = slot_dir(id),
	};
	return true;
}

void cache_release(struct cache *c, const struct cache_hold *hold)
{
	GUARD(&c->lock);
	cache_unpin(c, slot_id(hold->dir, hold->slot));
}

/* The next chunk of a range, from *at on: its blocks, and *at moves behind it. */
static uint16_t next_blocks(uint64_t *at, uint64_t end_bytes, uint64_t *ret_chunk)
{
	uint16_t blocks = cache_blocks(*at, end_bytes, ret_chunk);

	*at = (*ret_chunk + 1) * CACHE_CHUNK_BYTES;
	return blocks;
}

bool cache_has(struct cache *c, const struct cache_sco *s, uint64_t offset_bytes, size_t len_bytes)
{
	uint64_t at = offset_bytes, end_bytes = offset_bytes + len_bytes, chunk;

	GUARD(&c->lock);
	while (at < end_bytes) {
		uint16_t blocks = next_blocks(&at, end_bytes, &chunk);
		uint32_t id = cache_find_version(c, s, chunk);

		if (id == SLOT_NONE || (slot_at(c, id)->present & blocks) != blocks)
			return false;
	}
	return true;
}

/* --- putting and dropping ---------------------------------------------------------------------- */

void cache_put(struct cache *c, const struct cache_sco *s, uint64_t offset_bytes, size_t len_bytes,
	       const void *src)
{
	uint64_t at = offset_bytes, end_bytes = offset_bytes + len_bytes;

	ASSERT((offset_bytes | len_bytes | (uintptr_t)src) % CACHE_BLOCK_BYTES == 0);
	while (at < end_bytes) {
		struct cache_fetch *f = NULL;
		bool is_there;

		mutex_lock(&c->lock);
		is_there = cache_block_is_there(c, s, at) || cache_find_fetch(c, s, at);
		if (!is_there)
			f = cache_fetch_begin(c, s, at, at, end_bytes);
		mutex_unlock(&c->lock);
		if (!is_there && !f)
			return;
		if (f) {
			f->valued = true;
			cache_keep(c, f, (const uint8_t *)src + (at - offset_bytes));
			at = f->end_bytes;
			cache_fetch_end(c, f);
		} else {
			at += CACHE_BLOCK_BYTES;
		}
	}
}

void cache_drop_locked(struct cache *c, const struct cache_sco *s, uint64_t offset_bytes,
		       uint64_t len_bytes)
{
	uint64_t at = offset_bytes, end_bytes = offset_bytes + len_bytes, chunk;

	while (at < end_bytes) {
		uint16_t blocks = next_blocks(&at, end_bytes, &chunk);
		uint32_t id = cache_find_version(c, s, chunk);
		struct slot *slot;

		if (id == SLOT_NONE)
			continue;
		slot = slot_at(c, id);
		if (!(slot->present & blocks))
			continue;
		counter_inc(&c->o.metrics->dropped);
		/* What is held stays as it is, so the right bytes come to another place. */
		if (slot->pins > 0 || !(slot->present & ~blocks))
			cache_take_out(c, id);
		else
			cache_set_present(c, id, (uint16_t)(slot->present & ~blocks));
	}
}

void cache_drop(struct cache *c, const struct cache_sco *s, uint64_t offset_bytes, size_t len_bytes)
{
	GUARD(&c->lock);
	cache_drop_locked(c, s, offset_bytes, len_bytes);
}

void cache_forget(struct cache *c, uint64_t sco, uint64_t file_bytes)
{
	uint64_t chunks = div_up_u64(file_bytes, CACHE_CHUNK_BYTES);

	GUARD(&c->lock);
	cache_wishes_forget(c, sco);
	for (struct cache_fetch *f = c->fetches; f; f = f->next)
		if (f->sco.sco == sco)
			f->forgotten = true;
	for (uint64_t chunk = 0; chunk < chunks && cache_can_name(sco, chunk); chunk++) {
		uint32_t id = cache_find(c, sco, (uint32_t)chunk);

		if (id != SLOT_NONE)
			cache_take_out(c, id);
	}
}

/* Chunks of the slots of a directory from *index on, a few. Returns how many; 0: there is none. */
static unsigned int list_chunks(struct cache *c, uint32_t dir, uint32_t *index,
				struct named_chunk *list)
{
	unsigned int count = 0;

	GUARD(&c->lock);
	for (; count < SIFT_STEP && *index < c->dirs[dir].slot_count; ++*index) {
		const struct slot *s = slot_at(c, slot_id(dir, *index));

		if (slot_has_chunk(s))
			list[count++] = (struct named_chunk){ .id = slot_id(dir, *index),
							      .sco = slot_sco(s),
							      .version = s->version };
	}
	return count;
}

static void take_out_if_same(struct cache *c, const struct named_chunk *n)
{
	const struct slot *s;

	GUARD(&c->lock);
	if (slot_index(n->id) >= c->dirs[slot_dir(n->id)].slot_count)
		return;
	s = slot_at(c, n->id);
	if (slot_has_chunk(s) && slot_sco(s) == n->sco && s->version == n->version)
		cache_take_out(c, n->id);
}

void cache_sift(struct cache *c, bool (*is_wanted)(void *arg, uint64_t sco, uint32_t version),
		void *arg)
{
	struct named_chunk list[SIFT_STEP];
	unsigned int count;

	for (uint32_t dir = 0; dir < c->dir_count; dir++) {
		uint32_t index = 0;

		while ((count = list_chunks(c, dir, &index, list)) > 0)
			for (unsigned int i = 0; i < count; i++)
				if (!is_wanted(arg, list[i].sco, list[i].version))
					take_out_if_same(c, &list[i]);
	}
}

void cache_status(struct cache *c, struct cache_status *ret_status)
{
	GUARD(&c->lock);
	*ret_status = (struct cache_status){
		.used_bytes = (uint64_t)c->slots_with_blocks * CACHE_CHUNK_BYTES,
		.present_bytes = c->present_blocks * CACHE_BLOCK_BYTES,
		.wanted = c->wish_count,
	};
}
