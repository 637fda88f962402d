/*
 * sim_store_fx - pages, and what becomes of unsynced effects: made durable by a sync, forgotten by
 * a sync that failed, or kept, dropped and torn one by one by a power cut.
 */
#include "tests/sim/sim_impl.h"

#include <stdlib.h>
#include <string.h>

#define PAGES_IN_CHUNK 64u

struct chunk {
	struct chunk *next;
	struct page pages[PAGES_IN_CHUNK];
};

/* ---- pages ---------------------------------------------------------------------------------- */

/* Contents undefined, one reference. */
struct page *page_new(struct sim *sim)
{
	struct page *p = sim->free_pages;

	if (!p) {
		struct chunk *chunk = malloc(sizeof(*chunk));

		ASSERT(chunk);
		chunk->next = sim->page_chunks;
		sim->page_chunks = chunk;
		for (unsigned int i = 0; i < PAGES_IN_CHUNK; i++) {
			chunk->pages[i].next_free = sim->free_pages;
			sim->free_pages = &chunk->pages[i];
		}
		p = sim->free_pages;
	}
	sim->free_pages = p->next_free;
	sim->pages_live++;
	p->refs = 1;
	return p;
}

struct page *page_ref(struct page *p)
{
	if (p)
		p->refs++;
	return p;
}

void page_unref(struct sim *sim, struct page *p)
{
	if (!p || --p->refs != 0)
		return;
	p->next_free = sim->free_pages;
	sim->free_pages = p;
	sim->pages_live--;
}

/* Takes the reference to p. */
void page_replace(struct sim *sim, struct page **where, struct page *p)
{
	page_unref(sim, *where);
	*where = p;
}

void pages_free_all(struct sim *sim)
{
	struct chunk *chunk = sim->page_chunks;

	while (chunk) {
		struct chunk *next = chunk->next;

		free(chunk);
		chunk = next;
	}
	sim->page_chunks = NULL;
	sim->free_pages = NULL;
}

bool page_is_zero(const uint8_t *data)
{
	return data[0] == 0 && memcmp(data, data + 1, SIM_PAGE_BYTES - 1) == 0;
}

struct slot *slot_get(struct inode *inode, uint64_t index, bool create)
{
	size_t leaf = (size_t)(index / SIM_LEAF_SLOTS);

	if (leaf >= inode->leaf_count) {
		size_t count = leaf + 1;

		if (!create)
			return NULL;
		count += count / 4;
		inode->leaves = sim_realloc(inode->leaves, count * sizeof(*inode->leaves));
		memset(inode->leaves + inode->leaf_count, 0,
		       (count - inode->leaf_count) * sizeof(*inode->leaves));
		inode->leaf_count = count;
	}
	if (!inode->leaves[leaf]) {
		if (!create)
			return NULL;
		inode->leaves[leaf] = sim_alloc(SIM_LEAF_SLOTS * sizeof(struct slot));
	}
	return &inode->leaves[leaf][index % SIM_LEAF_SLOTS];
}

/* ---- applying effects to the medium --------------------------------------------------------- */

/* Replace some sectors of a page of the medium by those of `from` (NULL: zeros). */
static void dur_write(struct sim *sim, struct slot *slot, const struct page *from, uint8_t mask)
{
	struct page *p = slot->dur;

	if (!p || p->refs > 1) {
		p = page_new(sim);
		if (slot->dur)
			memcpy(p->data, slot->dur->data, SIM_PAGE_BYTES);
		else
			memset(p->data, 0, SIM_PAGE_BYTES);
		page_replace(sim, &slot->dur, p);
	}
	for (unsigned int i = 0; i < 8; i++) {
		size_t at = i * SIM_SECTOR_BYTES;

		if (!(mask >> i & 1))
			continue;
		if (from)
			memcpy(p->data + at, from->data + at, SIM_SECTOR_BYTES);
		else
			memset(p->data + at, 0, SIM_SECTOR_BYTES);
	}
}

/* Nothing is left on the medium from a byte on. */
static void dur_wipe(struct sim *sim, struct inode *inode, uint64_t from_bytes)
{
	uint64_t index = from_bytes / SIM_PAGE_BYTES;
	size_t tail = from_bytes % SIM_PAGE_BYTES;
	struct slot *slot = slot_get(inode, index, false);

	if (tail != 0) {
		if (slot && slot->dur) {
			dur_write(sim, slot, NULL, 0); /* a copy of our own */
			memset(slot->dur->data + tail, 0, SIM_PAGE_BYTES - tail);
		}
		index++;
	}
	for (; index < inode->leaf_count * SIM_LEAF_SLOTS; index++) {
		slot = slot_get(inode, index, false);
		if (!slot)
			continue;
		page_replace(sim, &slot->dur, NULL);
		slot->dur_allocated = false;
	}
}

static void fx_apply(struct sim *sim, struct inode *inode, const struct fx *fx)
{
	struct slot *slot;
	uint64_t end = fx->first + fx->count;

	switch ((enum fx_kind)fx->kind) {
	case FX_DATA:
		slot = slot_get(inode, fx->first, true);
		if (fx->mask == 0xff)
			page_replace(sim, &slot->dur, page_ref(fx->page));
		else
			dur_write(sim, slot, fx->page, fx->mask);
		slot->dur_allocated = true;
		break;
	case FX_SIZE:
	case FX_TRUNC:
		if (fx->kind == FX_TRUNC || fx->first < inode->dur_size)
			dur_wipe(sim, inode, fx->first);
		inode->dur_size = fx->first;
		break;
	case FX_PUNCH:
		end = min_u64(end, inode->leaf_count * SIM_LEAF_SLOTS);
		for (uint64_t i = fx->first; i < end; i++) {
			slot = slot_get(inode, i, false);
			if (!slot)
				continue;
			page_replace(sim, &slot->dur, NULL);
			slot->dur_allocated = false;
		}
		break;
	case FX_ALLOC:
		for (uint64_t i = fx->first; i < end; i++)
			slot_get(inode, i, true)->dur_allocated = true;
		break;
	default:
		ASSERT(false);
	}
}

static void fx_pop(struct sim *sim, struct inode *inode)
{
	page_unref(sim, inode->fx[inode->fx_head].page);
	if (++inode->fx_head == inode->fx_end)
		inode->fx_head = inode->fx_end = 0;
}

static void fx_apply_first(struct sim *sim, struct inode *inode)
{
	fx_apply(sim, inode, &inode->fx[inode->fx_head]);
	fx_pop(sim, inode);
}

/* Takes the reference to fx.page. */
void fx_add(struct sim *sim, struct inode *inode, struct fx fx)
{
	if (inode->dev->flags & SIM_DEV_TMPFS) {
		page_unref(sim, fx.page);
		return;
	}
	/* The machine writes back by itself what has been waiting for long. */
	if (inode->fx_end - inode->fx_head >= SIM_FILE_FX_MAX)
		for (unsigned int i = 0; i < SIM_FILE_FX_MAX / 4; i++)
			fx_apply_first(sim, inode);
	if (inode->fx_end == inode->fx_cap && inode->fx_head > inode->fx_cap / 2) {
		memmove(inode->fx, inode->fx + inode->fx_head,
			(inode->fx_end - inode->fx_head) * sizeof(*inode->fx));
		inode->fx_end -= inode->fx_head;
		inode->fx_head = 0;
	}
	SIM_ROOM(inode->fx, inode->fx_end, inode->fx_cap);
	fx.seq = ++sim->fx_seq;
	inode->fx[inode->fx_end++] = fx;
}

/* Mapped memory changes without effects: compare with the medium. */
static bool map_differs(const struct inode *inode, uint64_t index, const struct slot *slot)
{
	const uint8_t *mem = inode->map + index * SIM_PAGE_BYTES;

	if (slot && slot->dur)
		return memcmp(mem, slot->dur->data, SIM_PAGE_BYTES) != 0;
	return !page_is_zero(mem);
}

static struct page *map_page_copy(struct sim *sim, const struct inode *inode, uint64_t index)
{
	struct page *p = page_new(sim);

	memcpy(p->data, inode->map + index * SIM_PAGE_BYTES, SIM_PAGE_BYTES);
	return p;
}

static void sync_map(struct sim *sim, struct inode *inode)
{
	for (uint64_t i = 0; i < inode->map_bytes / SIM_PAGE_BYTES; i++) {
		struct slot *slot = slot_get(inode, i, true);

		if (map_differs(inode, i, slot))
			page_replace(sim, &slot->dur, map_page_copy(sim, inode, i));
		slot->dur_allocated = slot->dur_allocated || slot->cur_allocated;
	}
}

void store_sync(struct sim *sim, struct inode *inode, uint64_t seq)
{
	if (inode->dev->flags & SIM_DEV_TMPFS)
		return;
	while (inode->fx_head < inode->fx_end && inode->fx[inode->fx_head].seq <= seq)
		fx_apply_first(sim, inode);
	sync_map(sim, inode);
}

static uint8_t torn_mask(struct sim *sim, uint8_t mask)
{
	return (uint8_t)(mask & rng_next(&sim->rng_disk));
}

/* The cache believes that the page is clean; it may go at once, or at some later read. */
static void forget_page(struct sim *sim, struct inode *inode, uint64_t index)
{
	struct slot *slot = slot_get(inode, index, true);

	if (index * SIM_PAGE_BYTES < inode->map_bytes || !slot->cur_allocated)
		return;
	if (rng_below(&sim->rng_disk, 2) == 0) {
		sim->stats.pages_evicted_after_eio++;
		page_replace(sim, &slot->cur, page_ref(slot->dur));
		return;
	}
	SIM_ROOM(inode->shaky, inode->shaky_count, inode->shaky_cap);
	inode->shaky[inode->shaky_count++] = index;
}

void store_sync_failed(struct sim *sim, struct inode *inode, uint64_t seq)
{
	uint64_t *lost = NULL;
	size_t lost_count = 0, lost_cap = 0;

	while (inode->fx_head < inode->fx_end && inode->fx[inode->fx_head].seq <= seq) {
		struct fx *fx = &inode->fx[inode->fx_head];

		if (fx->kind == FX_DATA && rng_below(&sim->rng_disk, 2) == 0) {
			fx->mask = rng_below(&sim->rng_disk, 4) == 0 ? torn_mask(sim, fx->mask) : 0;
			SIM_ROOM(lost, lost_count, lost_cap);
			lost[lost_count++] = fx->first;
		}
		if (fx->kind == FX_DATA && fx->mask == 0)
			fx_pop(sim, inode);
		else
			fx_apply_first(sim, inode);
	}
	/* A page that has newer effects is dirty: the cache keeps it. */
	for (size_t i = 0; i < lost_count; i++) {
		bool dirty = false;

		for (size_t k = inode->fx_head; k < inode->fx_end && !dirty; k++)
			dirty = inode->fx[k].kind == FX_DATA && inode->fx[k].first == lost[i];
		for (size_t k = 0; k < inode->shaky_count && !dirty; k++)
			dirty = inode->shaky[k] == lost[i];
		if (!dirty)
			forget_page(sim, inode, lost[i]);
	}
	free(lost);
}

/* ---- power cut ------------------------------------------------------------------------------ */

/* Decide about one effect; false: dropped. May narrow it. */
static bool fx_survives(struct sim *sim, struct fx *fx, uint32_t keep_ppm, uint32_t torn_ppm)
{
	if (rng_ppm(&sim->rng_disk, torn_ppm)) {
		uint8_t mask = torn_mask(sim, fx->mask);

		if (fx->kind == FX_DATA && mask != 0 && mask != fx->mask) {
			sim->stats.fx_torn++;
			fx->mask = mask;
			return true;
		}
		if ((fx->kind == FX_PUNCH || fx->kind == FX_ALLOC) && fx->count > 1) {
			sim->stats.fx_torn++;
			fx->count = 1 + rng_below(&sim->rng_disk, fx->count - 1);
			return true;
		}
	}
	if (rng_ppm(&sim->rng_disk, keep_ppm)) {
		sim->stats.fx_kept++;
		return true;
	}
	sim->stats.fx_dropped++;
	return false;
}

static void map_power_cut(struct sim *sim, struct inode *inode, uint32_t keep_ppm,
			  uint32_t torn_ppm)
{
	for (uint64_t i = 0; i < inode->map_bytes / SIM_PAGE_BYTES; i++) {
		struct fx fx = { .kind = FX_DATA, .first = i, .count = 1, .mask = 0xff };

		if (!map_differs(inode, i, slot_get(inode, i, false)))
			continue;
		fx.page = map_page_copy(sim, inode, i);
		if (fx_survives(sim, &fx, keep_ppm, torn_ppm))
			fx_apply(sim, inode, &fx);
		page_unref(sim, fx.page);
	}
}

/* Afterwards the medium is what it will be; cur follows by store_cur_from_dur(). */
void store_power_cut(struct sim *sim, struct inode *inode, uint32_t keep_ppm, uint32_t torn_ppm)
{
	bool dropped_before = false;

	while (inode->fx_head < inode->fx_end) {
		struct fx *fx = &inode->fx[inode->fx_head];

		if (fx_survives(sim, fx, keep_ppm, torn_ppm)) {
			sim->stats.fx_reordered += dropped_before;
			fx_apply(sim, inode, fx);
		} else {
			dropped_before = true;
		}
		fx_pop(sim, inode);
	}
	map_power_cut(sim, inode, keep_ppm, torn_ppm);
	dur_wipe(sim, inode, inode->dur_size);
}
