/*
 * cutfs_data - bytes and sizes of files, and what of their changes is on the medium.
 *
 * The live bytes are in the backing file. For each block with effects the durable bytes are kept, and
 * every effect with its bytes, in order: a cut starts from the first and applies those that it keeps.
 */
#include "tests/tools/cutfs/cutfs.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Of the effects that a cut may tear, so many are. */
#define TORN_PPM 150000u

static bool is_zero(const uint8_t *bytes, size_t len_bytes)
{
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, len_bytes - 1) == 0;
}

static void count_pending(struct cutfs *fs, struct cut_inode *inode, int64_t delta_bytes)
{
	inode->pending_bytes += (uint64_t)delta_bytes;
	fs->pending_bytes += (uint64_t)delta_bytes;
}

static void read_block(const struct cut_inode *inode, uint64_t index, uint8_t *bytes)
{
	ssize_t n = pread(inode->fd, bytes, CUT_BLOCK_BYTES, (off_t)(index * CUT_BLOCK_BYTES));

	if (n < 0)
		cut_die("reading the store");
	memset(bytes + n, 0, CUT_BLOCK_BYTES - (size_t)n);
}

/* The block, with its durable bytes kept: before it is changed for the first time. */
static struct cut_block *block_of(struct cutfs *fs, struct cut_inode *inode, uint64_t index)
{
	uint8_t bytes[CUT_BLOCK_BYTES];
	struct cut_block *b;

	HASH_FIND(hh, inode->blocks, &index, sizeof(index), b);
	if (b)
		return b;
	b = cut_alloc(sizeof(*b));
	b->index = index;
	read_block(inode, index, bytes);
	if (!is_zero(bytes, sizeof(bytes))) {
		b->durable = cut_alloc(CUT_BLOCK_BYTES);
		memcpy(b->durable, bytes, CUT_BLOCK_BYTES);
		count_pending(fs, inode, CUT_BLOCK_BYTES);
	}
	HASH_ADD(hh, inode->blocks, index, sizeof(b->index), b);
	return b;
}

/* bytes NULL: a hole. */
static void add_fx(struct cutfs *fs, struct cut_inode *inode, uint64_t index, uint32_t offset_bytes,
		   uint32_t len_bytes, const uint8_t *bytes, uint64_t truncation)
{
	struct cut_block *b = block_of(fs, inode, index);
	struct cut_fx *fx = cut_alloc(sizeof(*fx));

	*fx = (struct cut_fx){ .seq = fs->seq, .truncation = truncation };
	fx->offset_bytes = offset_bytes;
	fx->len_bytes = len_bytes;
	if (bytes) {
		fx->bytes = cut_alloc(len_bytes);
		memcpy(fx->bytes, bytes, len_bytes);
		count_pending(fs, inode, len_bytes);
	}
	if (b->last)
		b->last->next = fx;
	else
		b->first = fx;
	b->last = fx;
}

static void drop_first_fx(struct cutfs *fs, struct cut_inode *inode, struct cut_block *b)
{
	struct cut_fx *fx = b->first;

	b->first = fx->next;
	if (!b->first)
		b->last = NULL;
	if (fx->bytes)
		count_pending(fs, inode, -(int64_t)fx->len_bytes);
	free(fx->bytes);
	free(fx);
}

static void drop_block(struct cutfs *fs, struct cut_inode *inode, struct cut_block *b)
{
	while (b->first)
		drop_first_fx(fs, inode, b);
	if (b->durable)
		count_pending(fs, inode, -(int64_t)CUT_BLOCK_BYTES);
	HASH_DEL(inode->blocks, b);
	free(b->durable);
	free(b);
}

static void apply(uint8_t *block, const struct cut_fx *fx, uint32_t offset_bytes,
		  uint32_t len_bytes)
{
	if (fx->bytes)
		memcpy(block + offset_bytes, fx->bytes + (offset_bytes - fx->offset_bytes),
		       len_bytes);
	else
		memset(block + offset_bytes, 0, len_bytes);
}

/* Memory is bounded, as the page cache is: somebody's data reaches the medium unasked. */
static void write_back(struct cutfs *fs)
{
	while (fs->pending_bytes > CUT_PENDING_BYTES_MAX) {
		struct cut_inode *most = fs->inodes;

		for (struct cut_inode *i = fs->inodes; i; i = i->hh.next)
			if (i->pending_bytes > most->pending_bytes)
				most = i;
		cut_data_sync(fs, most, fs->seq);
		fs->counts.written_back++;
	}
}

static void add_size(struct cutfs *fs, struct cut_inode *inode, uint64_t size_bytes,
		     bool is_truncation)
{
	CUT_ROOM(inode->sizes, inode->size_count, inode->size_cap);
	inode->sizes[inode->size_count++] = (struct cut_size_fx){ .seq = fs->seq,
								  .size_bytes = size_bytes,
								  .is_truncation = is_truncation };
	inode->size_bytes = size_bytes;
}

static void touch(struct cut_inode *inode)
{
	(void)clock_gettime(CLOCK_REALTIME, &inode->mtime);
	inode->ctime = inode->mtime;
}

int cut_data_write(struct cutfs *fs, struct cut_inode *inode, const uint8_t *bytes,
		   size_t len_bytes, uint64_t offset_bytes)
{
	fs->seq++;
	for (size_t done = 0; done < len_bytes;) {
		uint64_t at = offset_bytes + done;
		uint32_t in_block = (uint32_t)(at % CUT_BLOCK_BYTES);
		uint32_t n = (uint32_t)min_u64(CUT_BLOCK_BYTES - in_block, len_bytes - done);

		add_fx(fs, inode, at / CUT_BLOCK_BYTES, in_block, n, bytes + done, 0);
		done += n;
	}
	if (pwrite(inode->fd, bytes, len_bytes, (off_t)offset_bytes) != (ssize_t)len_bytes)
		cut_die("writing to the store");
	if (offset_bytes + len_bytes > inode->size_bytes)
		add_size(fs, inode, offset_bytes + len_bytes, false);
	touch(inode);
	write_back(fs);
	return 0;
}

int cut_data_grow(struct cutfs *fs, struct cut_inode *inode, uint64_t size_bytes)
{
	if (size_bytes <= inode->size_bytes)
		return 0;
	if (ftruncate(inode->fd, (off_t)size_bytes) < 0)
		return -errno;
	fs->seq++;
	add_size(fs, inode, size_bytes, false);
	touch(inode);
	return 0;
}

/* A hole in one block, unless it is one already. */
static void hole_in(struct cutfs *fs, struct cut_inode *inode, uint64_t index,
		    uint32_t offset_bytes, uint32_t len_bytes, uint64_t truncation)
{
	uint8_t bytes[CUT_BLOCK_BYTES];
	struct cut_block *b;

	HASH_FIND(hh, inode->blocks, &index, sizeof(index), b);
	read_block(inode, index, bytes);
	if (b || !is_zero(bytes + offset_bytes, len_bytes))
		add_fx(fs, inode, index, offset_bytes, len_bytes, NULL, truncation);
}

static int by_index(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* Holes in all blocks of [from, to) that hold data or have effects. */
static void holes(struct cutfs *fs, struct cut_inode *inode, uint64_t from, uint64_t to,
		  uint64_t truncation)
{
	uint64_t *index = NULL, at = from;
	size_t count = 0, cap = 0;

	for (struct cut_block *b = inode->blocks; b; b = b->hh.next) {
		if ((b->index + 1) * CUT_BLOCK_BYTES <= from || b->index * CUT_BLOCK_BYTES >= to)
			continue;
		CUT_ROOM(index, count, cap);
		index[count++] = b->index;
	}
	while (at < to) {
		off_t data = lseek(inode->fd, (off_t)at, SEEK_DATA), end;

		if (data < 0 || (uint64_t)data >= to)
			break;
		end = lseek(inode->fd, data, SEEK_HOLE);
		if (end < 0)
			cut_die("looking for holes");
		at = min_u64((uint64_t)end, to);
		for (uint64_t i = (uint64_t)data / CUT_BLOCK_BYTES; i * CUT_BLOCK_BYTES < at; i++) {
			CUT_ROOM(index, count, cap);
			index[count++] = i;
		}
	}
	if (count)
		qsort(index, count, sizeof(*index), by_index);
	for (size_t i = 0; i < count; i++) {
		uint64_t start = max_u64(from, index[i] * CUT_BLOCK_BYTES);
		uint64_t end = min_u64(to, (index[i] + 1) * CUT_BLOCK_BYTES);

		if (i > 0 && index[i] == index[i - 1])
			continue;
		hole_in(fs, inode, index[i], (uint32_t)(start % CUT_BLOCK_BYTES),
			(uint32_t)(end - start), truncation);
	}
	free(index);
}

int cut_data_truncate(struct cutfs *fs, struct cut_inode *inode, uint64_t size_bytes)
{
	if (size_bytes >= inode->size_bytes)
		return cut_data_grow(fs, inode, size_bytes);
	fs->seq++;
	holes(fs, inode, size_bytes, inode->size_bytes, fs->seq);
	if (ftruncate(inode->fd, (off_t)size_bytes) < 0)
		cut_die("truncating in the store");
	add_size(fs, inode, size_bytes, true);
	touch(inode);
	return 0;
}

int cut_data_hole(struct cutfs *fs, struct cut_inode *inode, uint64_t offset_bytes,
		  uint64_t len_bytes)
{
	if (offset_bytes >= inode->size_bytes)
		return 0;
	fs->seq++;
	holes(fs, inode, offset_bytes, min_u64(offset_bytes + len_bytes, inode->size_bytes), 0);
	if (fallocate(inode->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset_bytes,
		      (off_t)len_bytes) < 0)
		return -errno;
	touch(inode);
	return 0;
}

static uint64_t resized(uint64_t size_bytes, const struct cut_size_fx *fx)
{
	return fx->is_truncation ? fx->size_bytes : max_u64(size_bytes, fx->size_bytes);
}

void cut_data_sync(struct cutfs *fs, struct cut_inode *inode, uint64_t seq)
{
	struct cut_block *b, *next;
	size_t done = 0;

	HASH_ITER (hh, inode->blocks, b, next) {
		while (b->first && b->first->seq <= seq) {
			if (b->first != b->last && !b->durable) {
				b->durable = cut_alloc(CUT_BLOCK_BYTES);
				count_pending(fs, inode, CUT_BLOCK_BYTES);
			}
			if (b->durable)
				apply(b->durable, b->first, b->first->offset_bytes,
				      b->first->len_bytes);
			drop_first_fx(fs, inode, b);
		}
		if (!b->first)
			drop_block(fs, inode, b);
	}
	for (; done < inode->size_count && inode->sizes[done].seq <= seq; done++)
		inode->durable_size_bytes = resized(inode->durable_size_bytes, &inode->sizes[done]);
	inode->size_count -= done;
	if (inode->size_count)
		memmove(inode->sizes, inode->sizes + done,
			inode->size_count * sizeof(*inode->sizes));
}

/* What the cut makes of one effect. */
static void settle(struct cutfs *fs, const struct cut_inode *inode, uint64_t index,
		   const struct cut_fx *fx, uint8_t *block)
{
	enum cut_kind kind = fx->truncation ? CUT_TRUNCATE : fx->bytes ? CUT_DATA : CUT_HOLE;
	uint64_t of = fx->truncation ? UINT64_MAX : index;
	uint64_t fate = cut_fate(fs, inode->ino, of, fx->seq);
	bool is_kept = fate % 1000000 < fs->keep_ppm;

	/* Neither nearly everything nor nearly nothing: a write that was under way. */
	if (kind == CUT_DATA && fx->len_bytes > CUT_SECTOR_BYTES &&
	    (fate >> 32) % 1000000 < TORN_PPM) {
		uint64_t sectors = cut_fate(fs, inode->ino, of, ~fx->seq);
		uint32_t end = fx->offset_bytes + fx->len_bytes;

		for (uint32_t at = fx->offset_bytes, next; at < end; at = next) {
			next = (uint32_t)min_u64(end, round_up_u64(at + 1, CUT_SECTOR_BYTES));
			if (sectors >> at / CUT_SECTOR_BYTES & 1)
				apply(block, fx, at, next - at);
		}
		fs->counts.torn++;
		return;
	}
	if (is_kept)
		apply(block, fx, fx->offset_bytes, fx->len_bytes);
	/* A truncation is one effect, whatever number of blocks it has: its size stands for it. */
	if (kind != CUT_TRUNCATE)
		(is_kept ? fs->counts.kept : fs->counts.dropped)[kind]++;
}

void cut_data_power(struct cutfs *fs, struct cut_inode *inode)
{
	uint64_t size = inode->durable_size_bytes;
	struct cut_block *b, *next;

	HASH_ITER (hh, inode->blocks, b, next) {
		uint8_t bytes[CUT_BLOCK_BYTES] = { 0 };

		if (b->durable)
			memcpy(bytes, b->durable, sizeof(bytes));
		for (const struct cut_fx *fx = b->first; fx; fx = fx->next)
			settle(fs, inode, b->index, fx, bytes);
		if (pwrite(inode->fd, bytes, sizeof(bytes), (off_t)(b->index * CUT_BLOCK_BYTES)) !=
		    (ssize_t)sizeof(bytes))
			cut_die("writing to the store");
		drop_block(fs, inode, b);
	}
	for (size_t i = 0; i < inode->size_count; i++) {
		const struct cut_size_fx *fx = &inode->sizes[i];
		uint64_t fate = cut_fate(fs, inode->ino, UINT64_MAX, fx->seq);
		bool is_kept = fate % 1000000 < fs->keep_ppm;

		if (is_kept)
			size = resized(size, fx);
		(is_kept ? fs->counts.kept :
			   fs->counts.dropped)[fx->is_truncation ? CUT_TRUNCATE : CUT_SIZE]++;
	}
	inode->size_count = 0;
	inode->size_bytes = inode->durable_size_bytes = size;
	if (ftruncate(inode->fd, (off_t)size) < 0)
		cut_die("truncating in the store");
}

void cut_data_forget(struct cutfs *fs, struct cut_inode *inode)
{
	struct cut_block *b, *next;

	HASH_ITER (hh, inode->blocks, b, next) {
		drop_block(fs, inode, b);
	}
	free(inode->sizes);
	inode->sizes = NULL;
	inode->size_count = inode->size_cap = 0;
}
