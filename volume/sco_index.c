#include "volume/sco_index.h"

#include "volume/sco_make.h"
#include "volume/sco_read.h"

#include <stdlib.h>
#include <string.h>

/* Chunks of one read. */
#define LOAD_CHUNKS_MAX 32u
/* Chunks around a missing one that come with it as long as nothing has to go for them: reading so
 * many takes hardly longer than reading one, and most of them are wanted soon. */
#define AROUND_CHUNKS 8u

/* One chunk of one version of a SCO's slot table. Numbers are never reused and a version never
 * changes its records, so an entry can't go stale. */
struct chunk {
	struct chunk_key {
		uint64_t sco;
		uint32_t version;
		uint32_t chunk;
	} key;
	uint32_t count;
	uint32_t crcs[SLOTS_PER_CHUNK];
	uint8_t kinds[SLOTS_PER_CHUNK];
	struct chunk *newer, *older;
	UT_hash_handle hh;
};

struct sco_index {
	struct sco_table *scos;
	uint32_t chunks_max;

	struct mutex lock; /* rank LOCK_INDEX_CACHE; guards all below; no I/O while held */
	struct chunk *by_key;
	struct chunk *newest, *oldest;
	uint32_t chunk_count;
};

int sco_index_open(struct sco_table *scos, uint64_t cache_bytes, struct sco_index **ret_index)
{
	struct sco_index *x = calloc(1, sizeof(*x));

	if (!x)
		return -ENOMEM;
	x->scos = scos;
	x->chunks_max = (uint32_t)max_u64(16, cache_bytes / sizeof(struct chunk));
	mutex_init(&x->lock, LOCK_INDEX_CACHE);
	*ret_index = x;
	return 0;
}

static void lru_unlink_locked(struct sco_index *x, struct chunk *c)
{
	if (c->newer)
		c->newer->older = c->older;
	else
		x->newest = c->older;
	if (c->older)
		c->older->newer = c->newer;
	else
		x->oldest = c->newer;
}

static void lru_push_locked(struct sco_index *x, struct chunk *c)
{
	c->newer = NULL;
	c->older = x->newest;
	if (x->newest)
		x->newest->newer = c;
	else
		x->oldest = c;
	x->newest = c;
}

static void drop_locked(struct sco_index *x, struct chunk *c)
{
	lru_unlink_locked(x, c);
	HASH_DEL(x->by_key, c);
	x->chunk_count--;
	free(c);
}

void sco_index_close(struct sco_index *x)
{
	if (!x)
		return;
	while (x->oldest)
		drop_locked(x, x->oldest);
	mutex_done(&x->lock);
	free(x);
}

static int copy_crcs(const struct chunk *c, uint32_t first, uint32_t count, uint32_t *ret_crcs,
		     struct err *e)
{
	for (uint32_t i = first; i < first + count; i++) {
		uint8_t kind = i < c->count ? c->kinds[i] : SLOT_DEAD;

		if (kind != SLOT_RAW && kind != SLOT_LZ4 && kind != SLOT_REF)
			return err_set(e, -EUCLEAN, "slot %u of SCO %" PRIu64 " holds no cluster",
				       c->key.chunk * SLOTS_PER_CHUNK + i, c->key.sco);
	}
	memcpy(ret_crcs, c->crcs + first, count * sizeof(*ret_crcs));
	return 0;
}

static struct chunk_key key_of(const struct sco *s, uint32_t number)
{
	struct chunk_key key;

	memset(&key, 0, sizeof(key)); /* compared with its padding */
	key.sco = s->number;
	key.version = s->version;
	key.chunk = number;
	return key;
}

static int chunk_decode(struct chunk *c, const struct sco *s, const uint8_t *block, struct err *e)
{
	struct slot_record *records = calloc(SLOTS_PER_CHUNK, sizeof(*records));
	unsigned int count;
	int r = records ? slot_chunk_decode(block, c->key.chunk, s->salt, records, &count, e) :
			  err_set(e, -ENOMEM, "a chunk");

	if (r == 0) {
		c->count = count;
		for (unsigned int i = 0; i < count; i++) {
			c->crcs[i] = records[i].crc;
			c->kinds[i] = records[i].kind;
		}
	}
	free(records);
	return r;
}

static struct chunk *find_locked(struct sco_index *x, const struct chunk_key *key)
{
	struct chunk *c;

	HASH_FIND(hh, x->by_key, key, sizeof(*key), c);
	return c;
}

/* Takes it over. */
static void chunk_insert(struct sco_index *x, struct chunk *c)
{
	GUARD(&x->lock);
	if (find_locked(x, &c->key)) { /* two readers missed it at once */
		free(c);
		return;
	}
	HASH_ADD(hh, x->by_key, key, sizeof(c->key), c);
	if (!HASH_TOOK(c)) { /* it is read again */
		free(c);
		return;
	}
	lru_push_locked(x, c);
	x->chunk_count++;
	while (x->chunk_count > x->chunks_max)
		drop_locked(x, x->oldest);
}

/* Decode them all, or none. */
static int chunks_decode(const struct sco *s, uint32_t first, uint32_t count, const uint8_t *blocks,
			 struct chunk **ret_chunks, struct err *e)
{
	uint32_t done = 0;
	int r = 0;

	for (; r == 0 && done < count; done++) {
		struct chunk *c = calloc(1, sizeof(*c));

		ret_chunks[done] = c;
		if (!c) {
			r = err_set(e, -ENOMEM, "a chunk");
			break;
		}
		c->key = key_of(s, first + done);
		r = chunk_decode(c, s, blocks + (size_t)done * BLOCK_BYTES, e);
	}
	while (r < 0 && done > 0)
		free(ret_chunks[--done]);
	return r;
}

/* Into blocks, which have room for them. The footer was loaded. */
static int chunks_fetch(struct sco_index *x, struct sco *s, uint32_t first, uint32_t count,
			uint8_t *blocks, struct chunk **ret_chunks, struct err *e)
{
	uint64_t at = s->table_offset_bytes + (uint64_t)first * BLOCK_BYTES;
	size_t len_bytes = (size_t)count * BLOCK_BYTES;
	struct err why = { 0 };
	int again, r = sco_read_raw(x->scos, s, at, len_bytes, blocks, e);

	if (r == 0)
		r = chunks_decode(s, first, count, blocks, ret_chunks, e);
	if (r != -EBADMSG && r != -EUCLEAN && r != -EIO)
		return r;
	again = sco_read_again(x->scos, s, at, len_bytes, blocks, &why);
	if (again == 0)
		return chunks_decode(s, first, count, blocks, ret_chunks, e);
	/* Nobody has another, or one that is any better. */
	if (again == -ENODATA || again == -ENOENT || again == -EUCLEAN)
		return r;
	return err_set(e, again, "%s", why.message);
}

/* Chunks [first, first + count) in one read; the caller's, to insert or free. */
static int chunks_read(struct sco_index *x, struct sco *s, uint32_t first, uint32_t count,
		       struct chunk **ret_chunks, struct err *e)
{
	uint8_t *blocks = direct_alloc((size_t)count * BLOCK_BYTES);
	int r = blocks ? sco_load_footer(x->scos, s, e) : err_set(e, -ENOMEM, "reading");

	if (r == 0)
		r = chunks_fetch(x, s, first, count, blocks, ret_chunks, e);
	free(blocks);
	return r < 0 ? err_wrap(e, r, "index of SCO %" PRIu64, s->number) : 0;
}

static bool all_cached(struct sco_index *x, const struct sco *s, uint32_t first, uint32_t count)
{
	GUARD(&x->lock);
	for (uint32_t i = 0; i < count; i++) {
		struct chunk_key key = key_of(s, first + i);

		if (!find_locked(x, &key))
			return false;
	}
	return true;
}

/* A chunk, the caller's; those around it go into the cache. One that is damaged fails all. */
static int read_around(struct sco_index *x, struct sco *s, uint32_t chunk, struct chunk **ret_chunk)
{
	uint32_t first = chunk / AROUND_CHUNKS * AROUND_CHUNKS;
	uint32_t chunks = (uint32_t)div_up_u64(s->next_slot, SLOTS_PER_CHUNK);
	uint32_t count = (uint32_t)min_u64(AROUND_CHUNKS, chunks - min_u64(chunks, first));
	struct chunk *read[AROUND_CHUNKS];
	struct err unused; /* who reads the one that is damaged is told */
	int r;

	if (chunk - first >= count)
		return -EUCLEAN;
	r = chunks_read(x, s, first, count, read, &unused);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < count; i++)
		if (first + i != chunk)
			chunk_insert(x, read[i]);
	*ret_chunk = read[chunk - first];
	return 0;
}

/* Part of one chunk. */
static int chunk_crcs(struct sco_index *x, struct sco *s, uint32_t slot, uint32_t count,
		      uint32_t *ret_crcs, struct err *e)
{
	struct chunk_key key = key_of(s, slot / SLOTS_PER_CHUNK);
	struct chunk *c;
	bool is_full;
	int r;

	mutex_lock(&x->lock);
	c = find_locked(x, &key);
	if (c) {
		lru_unlink_locked(x, c);
		lru_push_locked(x, c);
		r = copy_crcs(c, slot % SLOTS_PER_CHUNK, count, ret_crcs, e);
		mutex_unlock(&x->lock);
		return r;
	}
	is_full = x->chunk_count + AROUND_CHUNKS > x->chunks_max;
	mutex_unlock(&x->lock);
	if (is_full || read_around(x, s, key.chunk, &c) < 0) {
		r = chunks_read(x, s, key.chunk, 1, &c, e);
		if (r < 0)
			return r;
	}
	r = copy_crcs(c, slot % SLOTS_PER_CHUNK, count, ret_crcs, e);
	chunk_insert(x, c);
	return r;
}

bool sco_index_span(struct sco_index *x, const struct sco *s, uint32_t slot, uint32_t count,
		    uint64_t *ret_offset_bytes, size_t *ret_len_bytes)
{
	uint32_t first = slot / SLOTS_PER_CHUNK, end = (slot + count - 1) / SLOTS_PER_CHUNK + 1;
	uint32_t chunks = (uint32_t)div_up_u64(s->next_slot, SLOTS_PER_CHUNK);

	if (all_cached(x, s, first, end - first))
		return false;
	first = first / AROUND_CHUNKS * AROUND_CHUNKS;
	end = (uint32_t)min_u64(round_up_u64(end, AROUND_CHUNKS), max_u64(chunks, end));
	*ret_offset_bytes = s->table_offset_bytes + (uint64_t)first * BLOCK_BYTES;
	*ret_len_bytes = (size_t)(end - first) * BLOCK_BYTES;
	return true;
}

int sco_index_load(struct sco_index *x, struct sco *s, uint32_t slot, uint32_t count, struct err *e)
{
	uint32_t first = slot / SLOTS_PER_CHUNK, end = (slot + count - 1) / SLOTS_PER_CHUNK + 1;
	struct chunk *chunks[LOAD_CHUNKS_MAX];
	uint32_t n;
	int r = 0;

	if (s->crcs || count == 0)
		return 0;
	for (; first < end && r == 0; first += n) {
		n = (uint32_t)min_u64(end - first, LOAD_CHUNKS_MAX);
		if (all_cached(x, s, first, n))
			continue;
		r = chunks_read(x, s, first, n, chunks, e);
		for (uint32_t i = 0; r == 0 && i < n; i++)
			chunk_insert(x, chunks[i]);
	}
	return r;
}

int sco_index_crcs(struct sco_index *x, struct sco *s, uint32_t slot, uint32_t count,
		   uint32_t *ret_crcs, struct err *e)
{
	if (s->crcs) { /* stays while the caller holds its reference */
		if (slot + count > s->slots_max)
			return err_set(e, -EUCLEAN, "slot %u is outside SCO %" PRIu64, slot,
				       s->number);
		memcpy(ret_crcs, s->crcs + slot, count * sizeof(*ret_crcs));
		return 0;
	}
	while (count > 0) {
		uint32_t n = (uint32_t)min_u64(count, SLOTS_PER_CHUNK - slot % SLOTS_PER_CHUNK);
		int r = chunk_crcs(x, s, slot, n, ret_crcs, e);

		if (r < 0)
			return r;
		slot += n;
		ret_crcs += n;
		count -= n;
	}
	return 0;
}
