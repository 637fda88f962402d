/*
 * sim_store - the bytes of files as the running machine sees them: cache, allocation, mappings.
 * Every change is noted as an effect (sim_store_fx.c), except on tmpfs, which has no medium.
 */
#include "tests/sim/sim_impl.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

bool device_has_room(const struct device *dev, uint64_t blocks)
{
	return dev->used_blocks + blocks <= dev->size_bytes / SIM_PAGE_BYTES;
}

/* Bytes of the mapping at a page, or NULL where the file is not mapped. */
static uint8_t *mapped_page(struct inode *inode, uint64_t index)
{
	uint64_t at = index * SIM_PAGE_BYTES;

	return at < inode->map_bytes ? inode->map + at : NULL;
}

static int allocate_slot(struct inode *inode, struct slot *slot)
{
	if (slot->cur_allocated)
		return 0;
	if (!device_has_room(inode->dev, 1))
		return -ENOSPC;
	slot->cur_allocated = true;
	inode->blocks++;
	inode->dev->used_blocks++;
	return 0;
}

static void release_slot(struct sim *sim, struct inode *inode, struct slot *slot)
{
	page_replace(sim, &slot->cur, NULL);
	if (!slot->cur_allocated)
		return;
	slot->cur_allocated = false;
	inode->blocks--;
	inode->dev->used_blocks--;
}

/* ---- pages that a failed sync forgot -------------------------------------------------------- */

static bool shaky_take(struct inode *inode, uint64_t index)
{
	for (size_t i = 0; i < inode->shaky_count; i++) {
		if (inode->shaky[i] == index) {
			inode->shaky[i] = inode->shaky[--inode->shaky_count];
			return true;
		}
	}
	return false;
}

/* Memory was short just now: a page that counts as clean is read from the medium again. */
static void maybe_evict(struct sim *sim, struct inode *inode, uint64_t index, struct slot *slot)
{
	if (rng_below(&sim->rng_disk, 4) != 0 || !shaky_take(inode, index))
		return;
	sim->stats.pages_evicted_after_eio++;
	page_replace(sim, &slot->cur, page_ref(slot->dur));
}

/* ---- write and read ------------------------------------------------------------------------- */

static uint8_t sector_mask(size_t in_page, size_t len_bytes)
{
	size_t first = in_page / SIM_SECTOR_BYTES;
	size_t last = (in_page + len_bytes - 1) / SIM_SECTOR_BYTES;

	return (uint8_t)((0xffu << first) & (0xffu >> (7 - last)));
}

/* The page after writing into it, with a reference, or NULL for zeros. */
static struct page *merged_page(struct sim *sim, const struct slot *slot, const uint8_t *buf,
				size_t in_page, size_t len_bytes)
{
	struct page *p;

	if (len_bytes == SIM_PAGE_BYTES) {
		if (page_is_zero(buf))
			return NULL;
		p = page_new(sim);
	} else {
		p = page_new(sim);
		if (slot->cur)
			memcpy(p->data, slot->cur->data, SIM_PAGE_BYTES);
		else
			memset(p->data, 0, SIM_PAGE_BYTES);
	}
	memcpy(p->data + in_page, buf, len_bytes);
	return p;
}

static int write_page(struct sim *sim, struct inode *inode, const uint8_t *buf, size_t in_page,
		      size_t len_bytes, uint64_t index)
{
	struct slot *slot = slot_get(inode, index, true);
	uint8_t *mapped = mapped_page(inode, index);
	uint8_t mask = sector_mask(in_page, len_bytes);
	int r = allocate_slot(inode, slot);

	if (r < 0)
		return r;
	if (mapped) {
		memcpy(mapped + in_page, buf, len_bytes);
		return 0;
	}
	if (inode->dev->flags & SIM_DEV_TMPFS && slot->cur && slot->cur->refs == 1) {
		memcpy(slot->cur->data + in_page, buf, len_bytes);
		return 0;
	}
	/* Written again, the page is owed to the medium as a whole. */
	if (inode->shaky_count != 0 && shaky_take(inode, index))
		mask = 0xff;
	page_replace(sim, &slot->cur, merged_page(sim, slot, buf, in_page, len_bytes));
	fx_add(sim, inode,
	       (struct fx){ .kind = FX_DATA,
			    .first = index,
			    .count = 1,
			    .mask = mask,
			    .page = page_ref(slot->cur) });
	return 0;
}

int store_write(struct sim *sim, struct inode *inode, const void *buf, size_t len_bytes,
		uint64_t offset_bytes)
{
	const uint8_t *from = buf;
	uint64_t end = offset_bytes;
	int r = 0;

	if (offset_bytes > SIM_FILE_BYTES_MAX || len_bytes > SIM_FILE_BYTES_MAX - offset_bytes)
		return -EFBIG;
	while (len_bytes > 0) {
		size_t in_page = end % SIM_PAGE_BYTES;
		size_t n = (size_t)min_u64(len_bytes, SIM_PAGE_BYTES - in_page);

		r = write_page(sim, inode, from, in_page, n, end / SIM_PAGE_BYTES);
		if (r < 0)
			break;
		from += n;
		end += n;
		len_bytes -= n;
	}
	if (end > offset_bytes && end > inode->size) {
		inode->size = end;
		fx_add(sim, inode, (struct fx){ .kind = FX_SIZE, .first = end });
	}
	return r;
}

size_t store_read(struct sim *sim, struct inode *inode, void *buf, size_t len_bytes,
		  uint64_t offset_bytes)
{
	uint8_t *to = buf;
	size_t done = 0;

	if (offset_bytes >= inode->size)
		return 0;
	len_bytes = (size_t)min_u64(len_bytes, inode->size - offset_bytes);
	while (done < len_bytes) {
		uint64_t index = (offset_bytes + done) / SIM_PAGE_BYTES;
		size_t in_page = (offset_bytes + done) % SIM_PAGE_BYTES;
		size_t n = (size_t)min_u64(len_bytes - done, SIM_PAGE_BYTES - in_page);
		struct slot *slot = slot_get(inode, index, false);
		const uint8_t *from = mapped_page(inode, index);

		if (!from && slot && inode->shaky_count != 0)
			maybe_evict(sim, inode, index, slot);
		if (!from && slot && slot->cur)
			from = slot->cur->data;
		if (from)
			memcpy(to + done, from + in_page, n);
		else
			memset(to + done, 0, n);
		done += n;
	}
	return done;
}

/* ---- allocation ----------------------------------------------------------------------------- */

int store_fallocate(struct sim *sim, struct inode *inode, uint64_t offset_bytes, uint64_t len_bytes)
{
	uint64_t first = offset_bytes / SIM_PAGE_BYTES;
	uint64_t end, missing = 0;

	if (len_bytes == 0)
		return -EINVAL;
	if (offset_bytes > SIM_FILE_BYTES_MAX || len_bytes > SIM_FILE_BYTES_MAX - offset_bytes)
		return -EFBIG;
	end = div_up_u64(offset_bytes + len_bytes, SIM_PAGE_BYTES);
	for (uint64_t i = first; i < end; i++) {
		struct slot *slot = slot_get(inode, i, false);

		if (!slot || !slot->cur_allocated)
			missing++;
	}
	if (!device_has_room(inode->dev, missing))
		return -ENOSPC;
	for (uint64_t i = first; i < end; i++) {
		int r = allocate_slot(inode, slot_get(inode, i, true));

		ASSERT(r == 0);
	}
	fx_add(sim, inode, (struct fx){ .kind = FX_ALLOC, .first = first, .count = end - first });
	if (offset_bytes + len_bytes > inode->size) {
		inode->size = offset_bytes + len_bytes;
		fx_add(sim, inode, (struct fx){ .kind = FX_SIZE, .first = inode->size });
	}
	return 0;
}

/* Zeros over a part of a page, where there is something. */
static void zero_part(struct sim *sim, struct inode *inode, uint64_t offset_bytes, size_t len_bytes)
{
	static const uint8_t zeros[SIM_PAGE_BYTES];
	uint64_t index = offset_bytes / SIM_PAGE_BYTES;
	struct slot *slot = slot_get(inode, index, false);
	int r;

	if (len_bytes == 0 || !slot || !slot->cur_allocated)
		return;
	r = write_page(sim, inode, zeros, offset_bytes % SIM_PAGE_BYTES, len_bytes, index);
	ASSERT(r == 0);
}

static void release_pages(struct sim *sim, struct inode *inode, uint64_t first, uint64_t end)
{
	end = min_u64(end, inode->leaf_count * SIM_LEAF_SLOTS);
	for (uint64_t i = first; i < end; i++) {
		struct slot *slot = slot_get(inode, i, false);
		uint8_t *mapped = mapped_page(inode, i);

		if (!slot)
			continue;
		if (mapped)
			memset(mapped, 0, SIM_PAGE_BYTES);
		if (inode->shaky_count != 0)
			(void)shaky_take(inode, i);
		release_slot(sim, inode, slot);
	}
}

void store_punch(struct sim *sim, struct inode *inode, uint64_t offset_bytes, uint64_t len_bytes)
{
	uint64_t end_bytes = offset_bytes + len_bytes;
	uint64_t first = div_up_u64(offset_bytes, SIM_PAGE_BYTES);
	uint64_t end = end_bytes / SIM_PAGE_BYTES;

	if (first > end) { /* inside one page */
		zero_part(sim, inode, offset_bytes, (size_t)len_bytes);
		return;
	}
	zero_part(sim, inode, offset_bytes, (size_t)(first * SIM_PAGE_BYTES - offset_bytes));
	zero_part(sim, inode, end * SIM_PAGE_BYTES, (size_t)(end_bytes - end * SIM_PAGE_BYTES));
	if (first == end)
		return;
	release_pages(sim, inode, first, end);
	fx_add(sim, inode, (struct fx){ .kind = FX_PUNCH, .first = first, .count = end - first });
}

int store_truncate(struct sim *sim, struct inode *inode, uint64_t size_bytes)
{
	uint64_t tail = size_bytes % SIM_PAGE_BYTES;

	if (size_bytes > SIM_FILE_BYTES_MAX)
		return -EFBIG;
	if (size_bytes < inode->size) {
		if (tail != 0)
			zero_part(sim, inode, size_bytes, SIM_PAGE_BYTES - (size_t)tail);
		release_pages(sim, inode, div_up_u64(size_bytes, SIM_PAGE_BYTES), SIM_NEVER);
		inode->size = size_bytes;
		fx_add(sim, inode, (struct fx){ .kind = FX_TRUNC, .first = size_bytes });
	} else if (size_bytes > inode->size) {
		inode->size = size_bytes;
		fx_add(sim, inode, (struct fx){ .kind = FX_SIZE, .first = size_bytes });
	}
	return 0;
}

void store_flip(struct sim *sim, struct inode *inode, uint64_t offset_bytes, uint8_t mask)
{
	uint64_t index = offset_bytes / SIM_PAGE_BYTES;
	size_t in_page = offset_bytes % SIM_PAGE_BYTES;
	struct slot *slot = slot_get(inode, index, true);
	uint8_t *mapped = mapped_page(inode, index);

	if (mapped)
		mapped[in_page] ^= mask;
	for (int i = 0; i < 2; i++) {
		struct page **where = i == 0 ? &slot->cur : &slot->dur;
		struct page *p = page_new(sim);

		if (*where)
			memcpy(p->data, (*where)->data, SIM_PAGE_BYTES);
		else
			memset(p->data, 0, SIM_PAGE_BYTES);
		p->data[in_page] ^= mask;
		page_replace(sim, where, p);
	}
}

/* ---- mappings ------------------------------------------------------------------------------- */

static uint8_t *map_memory(size_t bytes)
{
	void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT(mem != MAP_FAILED);
	return mem;
}

/* cur of the mapped pages moves into the mapping, which keeps it from now on. */
static void fill_map(struct sim *sim, struct inode *inode, size_t from_bytes)
{
	for (uint64_t i = from_bytes / SIM_PAGE_BYTES; i < inode->map_bytes / SIM_PAGE_BYTES; i++) {
		struct slot *slot = slot_get(inode, i, false);

		if (!slot || !slot->cur)
			continue;
		memcpy(inode->map + i * SIM_PAGE_BYTES, slot->cur->data, SIM_PAGE_BYTES);
		page_replace(sim, &slot->cur, NULL);
	}
}

int store_map(struct sim *sim, struct inode *inode, size_t len_bytes, void **ret_mem)
{
	size_t bytes = (size_t)round_up_u64(inode->size, SIM_PAGE_BYTES);
	size_t old_bytes = inode->map_bytes;

	if (len_bytes == 0 || len_bytes > bytes)
		return -EINVAL;
	/* Prefaulting allocates; on the real machine a full disk is SIGBUS here. */
	for (uint64_t i = 0; i < div_up_u64(len_bytes, SIM_PAGE_BYTES); i++)
		if (allocate_slot(inode, slot_get(inode, i, true)) < 0)
			return -ENOSPC;
	if (bytes > old_bytes) {
		uint8_t *mem;

		if (inode->map_count != 0)
			sim_fail(sim, "file %" PRIu64 " grew and is mapped again while mapped",
				 inode->ino);
		mem = map_memory(bytes);
		if (inode->map) {
			memcpy(mem, inode->map, old_bytes);
			(void)munmap(inode->map, old_bytes);
		}
		inode->map = mem;
		inode->map_bytes = bytes;
		fill_map(sim, inode, old_bytes);
	}
	inode->map_count++;
	*ret_mem = inode->map;
	return 0;
}

/* The next process finds it elsewhere: a pointer kept in shared memory is found out. */
void store_move_map(struct inode *inode)
{
	uint8_t *mem;

	inode->map_count = 0;
	if (!inode->map)
		return;
	mem = map_memory(inode->map_bytes);
	if (mremap(inode->map, inode->map_bytes, inode->map_bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
		   mem) != mem)
		abort();
	inode->map = mem;
}

static void drop_map(struct inode *inode)
{
	if (inode->map)
		(void)munmap(inode->map, inode->map_bytes);
	inode->map = NULL;
	inode->map_bytes = 0;
	inode->map_count = 0;
}

/* ---- the file as a whole -------------------------------------------------------------------- */

/* No name is left and nobody has it open: its space is free, its effects may yet be undone. */
void store_drop_cur(struct sim *sim, struct inode *inode)
{
	release_pages(sim, inode, 0, SIM_NEVER);
	drop_map(inode);
	inode->shaky_count = 0;
	inode->gone = true;
	inode->dev->used_blocks--;
}

void store_cur_from_dur(struct sim *sim, struct inode *inode)
{
	drop_map(inode);
	inode->shaky_count = 0;
	inode->size = inode->dur_size;
	inode->gone = false;
	inode->blocks = 0;
	for (uint64_t i = 0; i < inode->leaf_count * SIM_LEAF_SLOTS; i++) {
		struct slot *slot = slot_get(inode, i, false);

		if (!slot)
			continue;
		page_replace(sim, &slot->cur, page_ref(slot->dur));
		slot->cur_allocated = slot->dur_allocated;
		inode->blocks += slot->cur_allocated;
	}
	inode->dev->used_blocks += inode->blocks + 1;
}

void store_free(struct sim *sim, struct inode *inode)
{
	drop_map(inode);
	for (size_t i = inode->fx_head; i < inode->fx_end; i++)
		page_unref(sim, inode->fx[i].page);
	for (size_t i = 0; i < inode->leaf_count; i++) {
		if (!inode->leaves[i])
			continue;
		for (size_t k = 0; k < SIM_LEAF_SLOTS; k++) {
			page_unref(sim, inode->leaves[i][k].cur);
			page_unref(sim, inode->leaves[i][k].dur);
		}
		free(inode->leaves[i]);
	}
	free(inode->leaves);
	free(inode->fx);
	free(inode->shaky);
}
