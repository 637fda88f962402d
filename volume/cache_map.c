/*
 * DIR/chunks.map: what lies in which slot, for the next process. Never synced and up to half a minute
 * old, so it may tell of chunks whose slots hold others by now: whoever reads verifies. What it does
 * not tell of is nobody's, and its room goes back at the next start.
 */
#include "common/log.h"
#include "volume/cache_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAP_INTERVAL_NS (UINT64_C(30) * 1000 * 1000 * 1000)
#define MAP_READ_BLOCKS 64u

static void free_stringp(char **p)
{
	free(*p);
}

static uint64_t block_offset(uint32_t slot)
{
	return BLOCK_BYTES * (1 + (uint64_t)slot / SLOTS_OF_MAP_BLOCK);
}

/* --- reading ----------------------------------------------------------------------------------- */

struct map_load {
	struct cache *c;
	uint32_t dir;
	struct cache_dir *d;
	uint32_t slot_count; /* that map and file bear out */
	uint64_t file_bytes;
	uint32_t unknown_from, unknown_end; /* slots whose blocks are to be given back */
	uint64_t chunks;
};

/* Slots that the map does not tell of lie side by side more often than not. */
static int give_back_unknown(struct map_load *l)
{
	uint64_t at = (uint64_t)l->unknown_from * CACHE_CHUNK_BYTES;
	uint64_t end = (uint64_t)l->unknown_end * CACHE_CHUNK_BYTES;

	l->unknown_from = l->unknown_end;
	return end > at ? env_punch(l->c->o.env, l->d->file, at, end - at) : 0;
}

static int load_entry(struct map_load *l, uint32_t index, const uint8_t *bytes)
{
	struct cache *c = l->c;
	struct cache_map_entry entry = { 0 };
	uint32_t id = cache_add_slot(c, l->dir);
	bool known = cache_map_entry_decode(bytes, index, &entry, NULL) == 0;
	int r;

	if (id == SLOT_NONE)
		return -ENOMEM;
	/* The first of two counts. */
	if (known && entry.kind == CACHE_MAP_CHUNK &&
	    cache_find(c, entry.sco, entry.chunk) == SLOT_NONE) {
		cache_bind(c, id, entry.sco, entry.chunk, entry.version,
			   entry.main ? SLOT_MAIN : SLOT_SMALL);
		slot_at(c, id)->frequency = entry.frequency & SLOT_FREQUENCY_MAX;
		slot_at(c, id)->present = entry.present;
		c->present_blocks += (uint64_t)__builtin_popcount(entry.present);
		cache_count_blocks(c, id, true);
		l->chunks++;
		return 0;
	}
	cache_move(c, id, SLOT_BARE);
	if (known && entry.kind == CACHE_MAP_BARE)
		return 0;
	cache_mark_changed(c, id);
	if (index == l->unknown_end) {
		l->unknown_end++;
		return 0;
	}
	r = give_back_unknown(l);
	l->unknown_from = index;
	l->unknown_end = index + 1;
	return r;
}

static int load_blocks(struct map_load *l, uint32_t first, uint8_t *mem)
{
	uint32_t end =
		(uint32_t)min_u64(first + MAP_READ_BLOCKS * SLOTS_OF_MAP_BLOCK, l->slot_count);
	size_t len_bytes = (size_t)(end - first) * CACHE_MAP_ENTRY_BYTES;
	ssize_t got = env_pread(l->c->o.env, l->d->map, mem, len_bytes, block_offset(first));
	int r = 0;

	if (got < 0)
		return (int)got;
	memset(mem + got, 0, len_bytes - (size_t)got);
	for (uint32_t i = first; i < end && r == 0; i++)
		r = load_entry(l, i, mem + (size_t)(i - first) * CACHE_MAP_ENTRY_BYTES);
	return r;
}

/* How many slots the map tells of; 0: it is not ours, or damaged. */
static int load_header(struct map_load *l, uint8_t *block)
{
	struct cache *c = l->c;
	struct cache_map_header h;
	struct env_stat st;
	struct err e = { 0 };
	ssize_t got = env_pread(c->o.env, l->d->map, block, BLOCK_BYTES, 0);
	int r = env_stat(c->o.env, l->d->file, &st);

	if (r < 0)
		return r;
	l->file_bytes = st.size_bytes;
	if (got <= 0)
		return (int)got;
	memset(block + got, 0, BLOCK_BYTES - (size_t)got);
	r = cache_map_header_decode(block, &h, &e);
	if (r == 0 && (memcmp(&h.pool, &c->o.pool, sizeof(h.pool)) != 0 || h.index != l->dir))
		r = err_set(&e, -EUCLEAN, "it is another pool's, or of another directory");
	if (r < 0) {
		log_info("cache: what was fetched before is not used: dir='%s': %s",
			 c->o.flash->dirs[l->dir].path, e.message);
		return 0;
	}
	l->slot_count =
		(uint32_t)min_u64(h.slot_count, div_up_u64(l->file_bytes, CACHE_CHUNK_BYTES));
	if (l->slot_count > 0)
		l->d->map_slot_count = h.slot_count;
	return 0;
}

/* Slots at the end that hold nothing go with the rest of the file. */
static int cut_end(struct map_load *l)
{
	struct cache_dir *d = l->d;
	uint64_t end_bytes;

	while (d->slot_count > 0 &&
	       slot_at(l->c, slot_id(l->dir, d->slot_count - 1))->queue == SLOT_BARE) {
		cache_move(l->c, slot_id(l->dir, d->slot_count - 1), SLOT_BUSY);
		d->slot_count--;
	}
	end_bytes = (uint64_t)d->slot_count * CACHE_CHUNK_BYTES;
	return l->file_bytes > end_bytes ? env_truncate(l->c->o.env, d->file, end_bytes) : 0;
}

static int load(struct cache *c, uint32_t dir)
{
	struct map_load l = { .c = c, .dir = dir, .d = &c->dirs[dir] };
	uint8_t *mem = aligned_alloc(ENV_DIRECT_ALIGN, MAP_READ_BLOCKS * BLOCK_BYTES);
	int r = mem ? load_header(&l, mem) : -ENOMEM;

	for (uint32_t i = 0; i < l.slot_count && r == 0; i += MAP_READ_BLOCKS * SLOTS_OF_MAP_BLOCK)
		r = load_blocks(&l, i, mem);
	free(mem);
	if (r == 0)
		r = give_back_unknown(&l);
	if (r == 0)
		r = cut_end(&l);
	if (r == 0 && l.chunks)
		log_info("cache: chunks found: dir='%s' chunks=%" PRIu64,
			 c->o.flash->dirs[dir].path, l.chunks);
	return r;
}

static int open_file(struct cache *c, uint32_t dir, const char *name, unsigned int flags,
		     struct env_file **ret_file)
{
	AUTO(free_stringp) char *path = NULL;

	if (asprintf(&path, "%s/%s", c->o.flash->dirs[dir].path, name) < 0) {
		path = NULL;
		return -ENOMEM;
	}
	return env_open(c->o.env, path, ENV_READ | ENV_WRITE | ENV_CREATE | flags, ret_file);
}

int cache_map_open(struct cache *c, uint32_t dir)
{
	struct cache_dir *d = &c->dirs[dir];
	int r = open_file(c, dir, "chunks.map", 0, &d->map);

	if (r == 0)
		r = open_file(c, dir, "chunks", ENV_DIRECT, &d->file);
	if (r == 0)
		r = load(c, dir);
	if (r < 0 && r != -ENOMEM) {
		cache_fail_dir(c, dir, r, "opening the file of chunks");
		r = 0;
	}
	return r;
}

/* --- writing ----------------------------------------------------------------------------------- */

static void encode_slot(struct cache *c, uint32_t dir, uint32_t index, uint8_t *out)
{
	const struct slot *s = slot_at(c, slot_id(dir, index));
	struct cache_map_entry entry = { .kind = CACHE_MAP_BARE };

	memset(out, 0, CACHE_MAP_ENTRY_BYTES);
	if (slot_has_chunk(s) && s->present)
		entry = (struct cache_map_entry){
			.sco = slot_sco(s),
			.version = s->version,
			.chunk = s->chunk,
			.present = s->present,
			.kind = CACHE_MAP_CHUNK,
			.main = s->queue == SLOT_MAIN,
			.frequency = s->frequency,
		};
	else if (s->queue != SLOT_BARE)
		return;
	cache_map_entry_encode(&entry, index, out);
}

/* The next block that changed, from *block on; false: none is left. */
static bool next_block(struct cache *c, uint32_t dir, uint32_t *block, uint8_t *out)
{
	struct cache_dir *d = &c->dirs[dir];

	GUARD(&c->lock);
	for (uint32_t b = *block; b * SLOTS_OF_MAP_BLOCK < d->slot_count; b++) {
		struct slot_piece *piece = d->pieces[b / MAP_BLOCKS_OF_PIECE];
		uint64_t *bits = &piece->changed[b % MAP_BLOCKS_OF_PIECE / 64];
		uint64_t bit = UINT64_C(1) << b % 64;

		if (!(*bits & bit))
			continue;
		*bits &= ~bit;
		*block = b;
		memset(out, 0, BLOCK_BYTES);
		for (uint32_t i = 0; i < SLOTS_OF_MAP_BLOCK; i++)
			if (b * SLOTS_OF_MAP_BLOCK + i < d->slot_count)
				encode_slot(c, dir, b * SLOTS_OF_MAP_BLOCK + i,
					    out + i * CACHE_MAP_ENTRY_BYTES);
		return true;
	}
	return false;
}

static int write_header(struct cache *c, uint32_t dir, uint8_t *mem)
{
	struct cache_dir *d = &c->dirs[dir];
	struct cache_map_header h = { .pool = c->o.pool, .index = dir };
	bool same;

	mutex_lock(&c->lock);
	h.slot_count = d->slot_count;
	same = d->map_slot_count == d->slot_count;
	d->map_slot_count = d->slot_count;
	mutex_unlock(&c->lock);
	if (same)
		return 0;
	cache_map_header_encode(&h, mem);
	return env_pwrite(c->o.env, d->map, mem, BLOCK_BYTES, 0);
}

static int write_dir(struct cache *c, uint32_t dir, uint8_t *mem)
{
	uint32_t block = 0;
	int r = write_header(c, dir, mem);

	for (; r == 0 && next_block(c, dir, &block, mem); block++)
		r = env_pwrite(c->o.env, c->dirs[dir].map, mem, BLOCK_BYTES,
			       block_offset(block * SLOTS_OF_MAP_BLOCK));
	return r;
}

void cache_map_write(struct cache *c)
{
	uint8_t *mem = aligned_alloc(ENV_DIRECT_ALIGN, BLOCK_BYTES);

	for (uint32_t dir = 0; mem && dir < c->dir_count; dir++) {
		bool failed;
		int r;

		mutex_lock(&c->lock);
		failed = c->dirs[dir].failed || !c->dirs[dir].file;
		mutex_unlock(&c->lock);
		if (failed)
			continue;
		r = write_dir(c, dir, mem);
		if (r < 0 && r != -ENOSPC && r != -EDQUOT)
			cache_fail_dir(c, dir, r, "writing the map of chunks");
	}
	free(mem);
}

uint64_t cache_map_step(struct cache *c)
{
	uint64_t now_ns = env_now_mono_ns(c->o.env), due_ns;

	mutex_lock(&c->lock);
	due_ns = c->map_written_ns + MAP_INTERVAL_NS;
	if (c->map_changes < CACHE_MAP_CHANGES_MUCH || c->map_writing || now_ns < due_ns) {
		bool much = c->map_changes >= CACHE_MAP_CHANGES_MUCH && !c->map_writing;

		mutex_unlock(&c->lock);
		return much ? due_ns - now_ns : WAIT_FOREVER;
	}
	c->map_changes = 0;
	c->map_writing = true;
	mutex_unlock(&c->lock);
	cache_map_write(c);
	mutex_lock(&c->lock);
	c->map_writing = false;
	c->map_written_ns = env_now_mono_ns(c->o.env);
	mutex_unlock(&c->lock);
	return 0;
}
