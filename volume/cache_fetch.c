/*
 * Range GETs, those who share them, and reading.
 *
 * A fetch is in the list from before its GET until its bytes are on flash. Who needs a byte of it
 * waits for the GET only and copies out of its memory, so that flash that is full or slow costs a
 * second reader nothing. A fetch that failed is tried again by who waited for it, unless it began
 * after he came: then its failure is his. So nobody waits for more than two rounds of the router.
 */
#include "backend/backend.h"
#include "volume/cache_impl.h"

#include <stdlib.h>
#include <string.h>

static uint64_t block_down(uint64_t bytes)
{
	return bytes - bytes % CACHE_BLOCK_BYTES;
}

static uint64_t object_end(const struct cache_sco *s)
{
	return round_up_u64(s->file_bytes, CACHE_BLOCK_BYTES);
}

uint16_t cache_blocks(uint64_t offset_bytes, uint64_t end_bytes, uint64_t *ret_chunk)
{
	uint64_t chunk = offset_bytes / CACHE_CHUNK_BYTES;
	uint64_t in_chunk = offset_bytes % CACHE_CHUNK_BYTES;
	uint64_t in_chunk_end = min_u64(end_bytes - chunk * CACHE_CHUNK_BYTES, CACHE_CHUNK_BYTES);
	uint32_t first = (uint32_t)(in_chunk / CACHE_BLOCK_BYTES);
	uint32_t end = (uint32_t)div_up_u64(in_chunk_end, CACHE_BLOCK_BYTES);

	*ret_chunk = chunk;
	return (uint16_t)((UINT32_C(1) << end) - (UINT32_C(1) << first));
}

struct cache_fetch *cache_find_fetch(struct cache *c, const struct cache_sco *s,
				     uint64_t offset_bytes)
{
	for (struct cache_fetch *f = c->fetches; f; f = f->next)
		if (f->sco.sco == s->sco && f->sco.version == s->version &&
		    offset_bytes >= f->offset_bytes && offset_bytes < f->end_bytes &&
		    !(f->done && f->result < 0))
			return f;
	return NULL;
}

bool cache_block_is_there(struct cache *c, const struct cache_sco *s, uint64_t offset_bytes)
{
	uint64_t chunk;
	uint16_t block = cache_blocks(offset_bytes, offset_bytes + 1, &chunk);
	uint32_t id = cache_find_version(c, s, chunk);

	return id != SLOT_NONE && (slot_at(c, id)->present & block) != 0;
}

static bool is_missing(struct cache *c, const struct cache_sco *s, uint64_t offset_bytes)
{
	return !cache_block_is_there(c, s, offset_bytes) && !cache_find_fetch(c, s, offset_bytes);
}

/* --- a fetch ----------------------------------------------------------------------------------- */

struct cache_fetch *cache_fetch_begin(struct cache *c, const struct cache_sco *s,
				      uint64_t start_bytes, uint64_t offset_bytes,
				      uint64_t end_bytes)
{
	uint64_t from = block_down(offset_bytes), end = from + CACHE_BLOCK_BYTES;
	struct cache_fetch *f = calloc(1, sizeof(*f));

	if (!f)
		return NULL;
	while (from > start_bytes && is_missing(c, s, from - CACHE_BLOCK_BYTES))
		from -= CACHE_BLOCK_BYTES;
	end_bytes = min_u64(end_bytes, from + CACHE_FETCH_BYTES_MAX);
	while (end < end_bytes && is_missing(c, s, end))
		end += CACHE_BLOCK_BYTES;
	f->sco = *s;
	f->offset_bytes = from;
	f->end_bytes = end;
	f->serial = ++c->fetch_serial;
	f->refs = 1;
	f->next = c->fetches;
	c->fetches = f;
	return f;
}

struct cache_fetch *cache_fetch_new(struct cache *c, const struct cache_sco *s,
				    uint64_t offset_bytes, uint64_t end_bytes)
{
	uint64_t piece = c->o.fetch_min_bytes;

	return cache_fetch_begin(c, s, offset_bytes - offset_bytes % piece, offset_bytes,
				 min_u64(round_up_u64(end_bytes, piece), object_end(s)));
}

/* Lock held. */
static void unref(struct cache_fetch *f)
{
	if (--f->refs > 0)
		return;
	free(f->mem);
	free(f);
}

/* Its bytes are good, or did not come. Lock held. */
static void tell(struct cache *c, struct cache_fetch *f)
{
	f->done = true;
	cond_broadcast(&c->changed);
}

void cache_fetch_end(struct cache *c, struct cache_fetch *f)
{
	struct cache_fetch **at = &c->fetches;
	bool wanted;

	mutex_lock(&c->lock);
	if (!f->done)
		tell(c, f);
	while (*at != f)
		at = &(*at)->next;
	*at = f->next;
	wanted = f->wanted;
	unref(f);
	mutex_unlock(&c->lock);
	if (wanted && c->o.fetched)
		c->o.fetched(c->o.arg);
}

static int get_bytes(struct cache *c, const struct cache_fetch *f, uint8_t *mem, struct err *e)
{
	uint64_t end_bytes = min_u64(f->end_bytes, f->sco.file_bytes);
	size_t len_bytes = (size_t)(end_bytes - f->offset_bytes);
	char name[OBJECT_NAME_MAX + 1];
	struct backend *b = NULL;
	uint64_t begin_ns, at_bytes = 0;
	int r;

	r = c->o.backend(c->o.arg, &b, e);
	if (r < 0)
		return r;
	object_name_sco(name, f->sco.stream, f->sco.sco, f->sco.version, f->sco.object_epoch);
	begin_ns = env_now_mono_ns(c->o.env);
	if (c->o.find)
		at_bytes = c->o.find(c->o.arg, name);
	r = backend_get(b, name, at_bytes + f->offset_bytes, mem, len_bytes, e);
	if (r < 0)
		return r;
	memset(mem + len_bytes, 0, (size_t)(f->end_bytes - end_bytes));
	histogram_record(&c->o.metrics->fetch_ns, env_now_mono_ns(c->o.env) - begin_ns);
	counter_inc(&c->o.metrics->fetches);
	counter_add(&c->o.metrics->fetch_bytes, len_bytes);
	if (f->ahead)
		counter_inc(&c->o.metrics->ahead_fetches);
	return 0;
}

int cache_fetch_run(struct cache *c, struct cache_fetch *f, uint64_t from_bytes, size_t len_bytes,
		    void *dst, struct err *e)
{
	struct err error = { 0 };
	uint8_t *mem = aligned_alloc(ENV_DIRECT_ALIGN, (size_t)(f->end_bytes - f->offset_bytes));
	int r = mem ? get_bytes(c, f, mem, &error) : err_set(&error, -ENOMEM, "fetching a chunk");

	if (r == 0 && dst)
		memcpy(dst, mem + (from_bytes - f->offset_bytes), len_bytes);
	mutex_lock(&c->lock);
	f->mem = mem;
	f->result = r;
	f->error = error;
	tell(c, f);
	mutex_unlock(&c->lock);
	if (r == 0)
		cache_keep(c, f, mem);
	cache_fetch_end(c, f);
	return r < 0 ? err_set(e, r, "%s", error.message) : 0;
}

/* --- reading ----------------------------------------------------------------------------------- */

/* Bytes of a run, from offset on, by whatever way; the lock is held when one is chosen. */
struct reading {
	struct cache *c;
	const struct cache_sco *s;
	uint64_t offset_bytes, end_bytes; /* what is still to be read */
	uint8_t *dst;
	uint64_t serial; /* fetches up to here began before the reader came */
	bool distrust;	 /* flash failed */
};

static void advance(struct reading *rd, size_t len_bytes)
{
	rd->offset_bytes += len_bytes;
	rd->dst += len_bytes;
}

static void count_pieces(struct counter *counter, const struct cache *c, uint64_t from_bytes,
			 uint64_t end_bytes)
{
	uint64_t piece = c->o.fetch_min_bytes;

	if (end_bytes > from_bytes)
		counter_add(counter, div_up_u64(end_bytes, piece) - from_bytes / piece);
}

/* How many bytes from here on lie in this chunk and are there. */
static size_t present_run(const struct reading *rd, const struct slot *s)
{
	uint64_t at = rd->offset_bytes % CACHE_CHUNK_BYTES, from = at;
	uint64_t end = min_u64(CACHE_CHUNK_BYTES, at + (rd->end_bytes - rd->offset_bytes));

	while (at < end && (s->present >> at / CACHE_BLOCK_BYTES & 1))
		at = block_down(at) + CACHE_BLOCK_BYTES;
	return (size_t)(min_u64(at, end) - from);
}

static int read_blocks(struct reading *rd, uint32_t id, size_t len_bytes)
{
	uint64_t in_chunk = rd->offset_bytes % CACHE_CHUNK_BYTES, from = block_down(in_chunk);
	size_t whole = (size_t)(round_up_u64(in_chunk + len_bytes, CACHE_BLOCK_BYTES) - from);
	uint8_t *mem;
	int r;

	if (((uintptr_t)rd->dst | in_chunk | len_bytes) % ENV_DIRECT_ALIGN == 0)
		return cache_read_slot(rd->c, id, (uint32_t)in_chunk, rd->dst, (uint32_t)len_bytes);
	mem = aligned_alloc(ENV_DIRECT_ALIGN, whole);
	if (!mem)
		return -ENOMEM;
	r = cache_read_slot(rd->c, id, (uint32_t)from, mem, (uint32_t)whole);
	if (r == 0)
		memcpy(rd->dst, mem + (in_chunk - from), len_bytes);
	free(mem);
	return r;
}

/* Lock held; it is let go of and taken again. */
static int read_present(struct reading *rd, uint32_t id, struct err *e)
{
	struct cache *c = rd->c;
	struct slot *s = slot_at(c, id);
	size_t len_bytes = present_run(rd, s);
	uint64_t chunk, end_bytes = rd->offset_bytes + len_bytes;
	int r;

	cache_touch(s, cache_blocks(rd->offset_bytes, end_bytes, &chunk));
	mutex_unlock(&c->lock);
	r = read_blocks(rd, id, len_bytes);
	mutex_lock(&c->lock);
	cache_unpin(c, id);
	if (r == -ENOMEM)
		return err_because(e, r, "reading a chunk");
	if (r < 0) { /* the next round fetches it */
		cache_drop_locked(c, rd->s, rd->offset_bytes, len_bytes);
		rd->distrust = true;
		return 0;
	}
	count_pieces(&c->o.metrics->hits, c, rd->offset_bytes, end_bytes);
	advance(rd, len_bytes);
	return 0;
}

/* Wait for somebody else's fetch. Lock held; it is let go of and taken again. */
static int read_shared(struct reading *rd, struct cache_fetch *f, struct err *e)
{
	uint64_t end_bytes = min_u64(rd->end_bytes, f->end_bytes);
	size_t len_bytes = (size_t)(end_bytes - rd->offset_bytes);
	struct cache *c = rd->c;
	int r;

	if (!f->done)
		counter_inc(&c->o.metrics->shared);
	f->refs++;
	while (!f->done)
		cond_wait(&c->changed, &c->lock, WAIT_FOREVER);
	r = f->result;
	if (r == 0 && f->mem) {
		mutex_unlock(&c->lock);
		memcpy(rd->dst, f->mem + (rd->offset_bytes - f->offset_bytes), len_bytes);
		mutex_lock(&c->lock);
		count_pieces(&c->o.metrics->misses, c, rd->offset_bytes, end_bytes);
		advance(rd, len_bytes);
	} else if (r < 0) {
		r = f->serial > rd->serial ? err_set(e, r, "%s", f->error.message) : 0;
	}
	unref(f);
	return r;
}

/* Fetch what is missing from here on. Lock held; it is let go of and taken again. */
static int read_missing(struct reading *rd, struct err *e)
{
	struct cache *c = rd->c;
	struct cache_fetch *f = cache_fetch_new(c, rd->s, rd->offset_bytes, rd->end_bytes);
	uint64_t end_bytes;
	size_t len_bytes;
	int r;

	if (!f)
		return err_set(e, -ENOMEM, "fetching a chunk");
	end_bytes = min_u64(rd->end_bytes, f->end_bytes);
	len_bytes = (size_t)(end_bytes - rd->offset_bytes);
	f->touch_bytes = rd->offset_bytes;
	f->touch_end_bytes = end_bytes;
	mutex_unlock(&c->lock);
	count_pieces(&c->o.metrics->misses, c, rd->offset_bytes, end_bytes);
	r = cache_fetch_run(c, f, rd->offset_bytes, len_bytes, rd->dst, e);
	mutex_lock(&c->lock);
	if (r == 0)
		advance(rd, len_bytes);
	return r;
}

static int read_some(struct reading *rd, struct err *e)
{
	struct cache *c = rd->c;
	uint64_t at = block_down(rd->offset_bytes);
	struct cache_fetch *f;
	uint32_t id;

	if (!rd->distrust && cache_block_is_there(c, rd->s, at)) {
		id = cache_find_version(c, rd->s, at / CACHE_CHUNK_BYTES);
		if (cache_pin(c, id))
			return read_present(rd, id, e);
	}
	f = cache_find_fetch(c, rd->s, at);
	return f ? read_shared(rd, f, e) : read_missing(rd, e);
}

int cache_read(struct cache *c, const struct cache_sco *s, uint64_t offset_bytes, size_t len_bytes,
	       void *dst, struct err *e)
{
	struct reading rd = { .c = c, .s = s, .offset_bytes = offset_bytes, .dst = dst };
	int r = 0;

	if (offset_bytes > s->file_bytes || len_bytes > s->file_bytes - offset_bytes)
		return err_set(e, -EUCLEAN,
			       "SCO %" PRIu64 " has %" PRIu64 " bytes, not %zu from %" PRIu64 " on",
			       s->sco, s->file_bytes, len_bytes, offset_bytes);
	rd.end_bytes = offset_bytes + len_bytes;
	GUARD(&c->lock);
	rd.serial = c->fetch_serial;
	while (r == 0 && rd.offset_bytes < rd.end_bytes)
		r = read_some(&rd, e);
	return r;
}
