/* The files of chunks: where a new one goes, writing and reading, giving flash back. */
#include "common/log.h"
#include "volume/cache_impl.h"

#include <stdlib.h>

/* Where a write found no space, none is tried for so long. */
#define FULL_NS		  (UINT64_C(1000) * 1000 * 1000)
#define SCO_BYTES_DEFAULT (UINT64_C(16) << 20)
/* Slots given back, or taken out of use, without letting go of the lock. */
#define SHRINK_STEP 64u
#define FAIL_STEP   4096u

static uint64_t slot_offset(uint32_t id)
{
	return (uint64_t)slot_index(id) * CACHE_CHUNK_BYTES;
}

/* --- a directory that fails -------------------------------------------------------------------- */

/* Chunks of a failed directory are forgotten: its slots are of no use to anybody. */
static void forget_dir(struct cache *c, uint32_t dir)
{
	struct cache_dir *d = &c->dirs[dir];
	uint32_t i = 0;

	while (i < d->slot_count) {
		GUARD(&c->lock);
		for (unsigned int n = 0; n < FAIL_STEP && i < d->slot_count; n++, i++)
			if (slot_has_chunk(slot_at(c, slot_id(dir, i))))
				cache_take_out(c, slot_id(dir, i));
	}
}

void cache_fail_dir(struct cache *c, uint32_t dir, int code, const char *doing)
{
	bool told;

	mutex_lock(&c->lock);
	told = c->dirs[dir].failed;
	c->dirs[dir].failed = true;
	mutex_unlock(&c->lock);
	if (told)
		return;
	log_warning("cache: directory not used for what is fetched until the next start: "
		    "dir='%s' doing='%s': %s",
		    c->o.flash->dirs[dir].path, doing, err_name(code));
	forget_dir(c, dir);
}

/* --- a slot for a chunk that comes ------------------------------------------------------------- */

static bool dir_takes(const struct cache *c, uint32_t dir, uint64_t now_ns)
{
	const struct cache_dir *d = &c->dirs[dir];

	return d->file && !d->failed && now_ns >= d->full_until_ns;
}

static uint32_t take_free(struct cache *c, uint64_t now_ns)
{
	for (uint32_t dir = 0; dir < c->dir_count; dir++) {
		uint32_t id = c->dirs[dir].free.head;

		if (id != SLOT_NONE && dir_takes(c, dir, now_ns)) {
			cache_move(c, id, SLOT_BUSY);
			return id;
		}
	}
	return SLOT_NONE;
}

/* Directories that take chunks now, one bit each. */
static uint32_t dirs_that_take(const struct cache *c, uint64_t now_ns)
{
	uint32_t dirs = 0;

	for (uint32_t dir = 0; dir < c->dir_count; dir++)
		dirs |= (uint32_t)dir_takes(c, dir, now_ns) << dir;
	return dirs;
}

/* That of them with most room for one slot more; dir_count: none has any. The lock is not held. */
static uint32_t roomiest_dir(struct cache *c, uint32_t dirs, uint32_t slots_with_blocks)
{
	struct flash *flash = c->o.flash;
	uint64_t sco_bytes = c->o.sco_bytes ? c->o.sco_bytes : SCO_BYTES_DEFAULT;
	uint64_t most_bytes = CACHE_CHUNK_BYTES - 1;
	uint32_t best = c->dir_count;

	for (uint32_t dir = 0; dir < c->dir_count; dir++) {
		uint64_t room_bytes, margin_bytes, always_bytes;

		if (!(dirs >> dir & 1))
			continue;
		room_bytes = flash_dir_room_bytes(flash, dir);
		margin_bytes = flash_dir_margin_bytes(flash, dir, sco_bytes);
		/* On small flash these few would be all of it. */
		always_bytes =
			min_u64((uint64_t)SLOTS_ALWAYS * CACHE_CHUNK_BYTES, margin_bytes / 2);
		if ((uint64_t)slots_with_blocks * CACHE_CHUNK_BYTES >= always_bytes)
			room_bytes -= min_u64(room_bytes, margin_bytes);
		if (room_bytes > most_bytes) {
			most_bytes = room_bytes;
			best = dir;
		}
	}
	return best;
}

static uint32_t grow_locked(struct cache *c, uint32_t dir, uint64_t now_ns)
{
	struct cache_dir *d = &c->dirs[dir];
	uint32_t id = d->bare.head;

	if (!dir_takes(c, dir, now_ns))
		return SLOT_NONE;
	if (id != SLOT_NONE)
		cache_move(c, id, SLOT_BUSY);
	else if (!d->cutting)
		id = cache_add_slot(c, dir);
	if (id != SLOT_NONE) {
		cache_count_blocks(c, id, true);
		cache_mark_changed(c, id);
	}
	return id;
}

static uint32_t evict_for(struct cache *c, uint64_t now_ns)
{
	uint32_t id = cache_evict(c);

	if (id == SLOT_NONE || dir_takes(c, slot_dir(id), now_ns))
		return id;
	if (!c->dirs[slot_dir(id)].failed)
		cache_move(c, id, SLOT_FREE);
	return SLOT_NONE;
}

uint32_t cache_take_slot(struct cache *c)
{
	uint64_t now_ns = env_now_mono_ns(c->o.env);
	uint32_t id, dir, dirs, slots_with_blocks;

	mutex_lock(&c->lock);
	id = take_free(c, now_ns);
	dirs = dirs_that_take(c, now_ns);
	slots_with_blocks = c->slots_with_blocks;
	mutex_unlock(&c->lock);
	if (id != SLOT_NONE)
		return id;
	dir = roomiest_dir(c, dirs, slots_with_blocks);
	GUARD(&c->lock);
	if (dir < c->dir_count)
		id = grow_locked(c, dir, now_ns);
	return id != SLOT_NONE ? id : evict_for(c, now_ns);
}

/* --- keeping bytes ----------------------------------------------------------------------------- */

/* The chunk of a fetch, pinned. SLOT_NONE: it is not there, or not to be written to. */
static uint32_t pin_chunk(struct cache *c, const struct cache_fetch *f, uint32_t chunk)
{
	uint32_t id = cache_find_version(c, &f->sco, chunk);

	return !f->forgotten && id != SLOT_NONE && cache_pin(c, id) ? id : SLOT_NONE;
}

static bool is_place_free(struct cache *c, const struct cache_fetch *f, uint32_t chunk)
{
	return !f->forgotten && cache_find_version(c, &f->sco, chunk) == SLOT_NONE;
}

static uint32_t bind_chunk(struct cache *c, const struct cache_fetch *f, uint32_t chunk,
			   uint32_t new)
{
	uint32_t old = cache_find(c, f->sco.sco, chunk);

	if (!is_place_free(c, f, chunk)) { /* somebody was faster, or it died */
		if (!c->dirs[slot_dir(new)].failed)
			cache_move(c, new, SLOT_FREE);
		return pin_chunk(c, f, chunk);
	}
	if (old != SLOT_NONE)
		cache_take_out(c, old); /* of another version */
	cache_bind(c, new, f->sco.sco, chunk, f->sco.version,
		   f->valued ? SLOT_MAIN : cache_queue_for(c, f->sco.sco, chunk));
	return cache_pin(c, new) ? new : SLOT_NONE;
}

/* The chunk of a fetch, pinned; a new one without blocks if need be. SLOT_NONE: not to be kept. */
static uint32_t get_chunk(struct cache *c, const struct cache_fetch *f, uint32_t chunk)
{
	uint32_t id, new;
	bool is_free;

	mutex_lock(&c->lock);
	id = pin_chunk(c, f, chunk);
	is_free = is_place_free(c, f, chunk);
	mutex_unlock(&c->lock);
	if (id != SLOT_NONE || !is_free)
		return id;
	new = cache_take_slot(c);
	GUARD(&c->lock);
	if (new == SLOT_NONE) {
		c->unkept_until_ns = env_now_mono_ns(c->o.env) + FULL_NS;
		return SLOT_NONE;
	}
	return bind_chunk(c, f, chunk, new);
}

static void note_full(struct cache *c, uint32_t dir)
{
	uint64_t now_ns = env_now_mono_ns(c->o.env);

	GUARD(&c->lock);
	c->dirs[dir].full_until_ns = now_ns + FULL_NS;
}

/* Blocks of one chunk were written, or not; whatever became of the chunk meanwhile. */
static void end_fill(struct cache *c, const struct cache_fetch *f, uint32_t id, uint16_t blocks,
		     uint16_t touched, int r)
{
	struct slot *s;

	GUARD(&c->lock);
	s = slot_at(c, id);
	if (slot_has_chunk(s)) {
		if (r == 0 && !f->forgotten)
			cache_set_present(c, id, s->present | blocks);
		if (r == 0 && touched)
			cache_touch(s, touched);
		if (s->present == 0)
			cache_take_out(c, id);
	}
	cache_unpin(c, id);
}

static void keep_in_chunk(struct cache *c, const struct cache_fetch *f, uint64_t from_bytes,
			  uint64_t end_bytes, const uint8_t *src)
{
	uint64_t chunk, touch_chunk;
	uint16_t blocks = cache_blocks(from_bytes, end_bytes, &chunk), touched = 0;
	uint64_t touch_from = max_u64(f->touch_bytes, chunk * CACHE_CHUNK_BYTES);
	uint32_t id;
	int r;

	if (!cache_can_name(f->sco.sco, chunk))
		return;
	if (touch_from < min_u64(f->touch_end_bytes, end_bytes))
		touched = cache_blocks(touch_from, f->touch_end_bytes, &touch_chunk);
	id = get_chunk(c, f, (uint32_t)chunk);
	if (id == SLOT_NONE)
		return;
	r = env_pwrite(c->o.env, c->dirs[slot_dir(id)].file, src, (size_t)(end_bytes - from_bytes),
		       slot_offset(id) + from_bytes % CACHE_CHUNK_BYTES);
	end_fill(c, f, id, blocks, touched, r);
	if (r == -ENOSPC || r == -EDQUOT)
		note_full(c, slot_dir(id));
	else if (r < 0)
		cache_fail_dir(c, slot_dir(id), r, "writing a chunk");
}

void cache_keep(struct cache *c, const struct cache_fetch *f, const uint8_t *src)
{
	uint64_t at = f->offset_bytes;

	while (at < f->end_bytes) {
		uint64_t end =
			min_u64(f->end_bytes, at - at % CACHE_CHUNK_BYTES + CACHE_CHUNK_BYTES);

		keep_in_chunk(c, f, at, end, src + (at - f->offset_bytes));
		at = end;
	}
}

int cache_read_slot(struct cache *c, uint32_t id, uint32_t offset_bytes, void *dst,
		    uint32_t len_bytes)
{
	ssize_t got = env_pread(c->o.env, c->dirs[slot_dir(id)].file, dst, len_bytes,
				slot_offset(id) + offset_bytes);

	if (got < 0)
		return (int)got;
	return got == (ssize_t)len_bytes ? 0 : -EIO;
}

/* --- giving flash back ------------------------------------------------------------------------- */

static uint32_t take_for_shrink(struct cache *c)
{
	for (uint32_t dir = 0; dir < c->dir_count; dir++) {
		uint32_t id = c->dirs[dir].free.head;

		if (id != SLOT_NONE && !c->dirs[dir].failed) {
			cache_move(c, id, SLOT_BUSY);
			return id;
		}
	}
	return cache_evict(c);
}

static int compare_ids(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* Slots of one directory side by side. Returns whether their blocks are gone. */
static bool punch(struct cache *c, uint32_t first, unsigned int count)
{
	uint32_t dir = slot_dir(first);
	int r = env_punch(c->o.env, c->dirs[dir].file, slot_offset(first),
			  (uint64_t)count * CACHE_CHUNK_BYTES);

	if (r < 0)
		cache_fail_dir(c, dir, r, "giving a chunk's room back");
	GUARD(&c->lock);
	if (r < 0 || c->dirs[dir].failed)
		return false;
	for (uint32_t id = first; id < first + count; id++) {
		cache_move(c, id, SLOT_BARE);
		cache_mark_changed(c, id);
		cache_count_blocks(c, id, false);
	}
	return true;
}

/* Returns how many. */
static unsigned int punch_all(struct cache *c, uint32_t *ids, unsigned int count)
{
	unsigned int given = 0, run;

	qsort(ids, count, sizeof(*ids), compare_ids);
	for (unsigned int i = 0; i < count; i += run) {
		/* The last number of a directory is no slot's, so a run stays in one. */
		for (run = 1; i + run < count && ids[i + run] == ids[i] + run;)
			run++;
		given += punch(c, ids[i], run) ? run : 0;
	}
	return given;
}

/* Bare slots at the end of a file are cut off. */
static void cut(struct cache *c, uint32_t dir)
{
	struct cache_dir *d = &c->dirs[dir];
	uint32_t before, after;
	int r;

	mutex_lock(&c->lock);
	before = d->slot_count;
	if (d->file && !d->failed && !d->cutting)
		while (d->slot_count > 0 &&
		       slot_at(c, slot_id(dir, d->slot_count - 1))->queue == SLOT_BARE) {
			cache_move(c, slot_id(dir, d->slot_count - 1), SLOT_BUSY);
			d->slot_count--;
		}
	after = d->slot_count;
	d->cutting |= after < before;
	mutex_unlock(&c->lock);
	if (after == before)
		return;
	r = env_truncate(c->o.env, d->file, (uint64_t)after * CACHE_CHUNK_BYTES);
	mutex_lock(&c->lock);
	d->cutting = false;
	mutex_unlock(&c->lock);
	if (r < 0)
		cache_fail_dir(c, dir, r, "cutting the file of chunks");
}

uint64_t cache_shrink(struct cache *c, uint64_t len_bytes)
{
	uint64_t given_bytes = 0;

	while (given_bytes < len_bytes) {
		uint32_t ids[SHRINK_STEP];
		unsigned int count = 0, given;

		mutex_lock(&c->lock);
		while (count < SHRINK_STEP && given_bytes + count * CACHE_CHUNK_BYTES < len_bytes) {
			ids[count] = take_for_shrink(c);
			if (ids[count] == SLOT_NONE)
				break;
			count++;
		}
		mutex_unlock(&c->lock);
		given = punch_all(c, ids, count);
		given_bytes += (uint64_t)given * CACHE_CHUNK_BYTES;
		if (given == 0)
			break;
	}
	for (uint32_t dir = 0; given_bytes && dir < c->dir_count; dir++)
		cut(c, dir);
	return given_bytes;
}
