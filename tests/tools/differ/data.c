/* Operations on open files. */
#include "differ.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

/* What a write does beside writing. */
#define WRITE_DSYNC  1u
#define WRITE_APPEND 2u

#define SECTOR_BYTES	512u
#define COPY_BYTES_MAX	(256 * KIB)
#define ALLOC_BYTES_MAX (2 * MIB)
#define MAP_BYTES_MAX	(64 * KIB)

void set_result(struct result *r, int64_t value)
{
	*r = (struct result){ .value = value, .error = value < 0 ? errno : 0 };
}

void text_result(struct result *r, int error)
{
	*r = (struct result){ .value = error ? -1 : 0, .error = error };
}

static int fd_of(const struct differ *d, enum side side, unsigned int handle)
{
	return d->handles[handle].fd[side];
}

/* O_DIRECT wants whole sectors; the mirror is never opened so. */
static void align(const struct handle *h, struct op *op)
{
	if (!(h->flags & O_DIRECT))
		return;
	op->off -= op->off % SECTOR_BYTES;
	op->len = min_u64(round_up_u64(op->len, SECTOR_BYTES), IO_BYTES_MAX);
	op->off = min_u64(op->off, SIZE_MAX_DISK - op->len);
}

static bool pick_range(struct differ *d, struct op *op)
{
	const struct handle *h;

	if (!pick_handle(d, &op->h))
		return false;
	h = &d->handles[op->h];
	op->ino = h->ino;
	op->len = pick_length(d);
	op->off = pick_offset(d, h, op->len);
	return true;
}

/* --- read and write ---------------------------------------------------------------------------- */

static bool pick_read(struct differ *d, struct op *op)
{
	if (!pick_range(d, op))
		return false;
	align(&d->handles[op->h], op);
	return true;
}

static void apply_read(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	set_result(r, pread(fd_of(d, side, op->h), d->out[side], op->len, (off_t)op->off));
	d->out_bytes[side] = r->value > 0 ? (size_t)r->value : 0;
}

static bool pick_write(struct differ *d, struct op *op)
{
	const struct handle *h;

	if (!pick_range(d, op))
		return false;
	h = &d->handles[op->h];
	if (pick(d, 60) == 0)
		op->arg |= WRITE_DSYNC;
	if (pick(d, 12) == 0)
		op->arg |= WRITE_APPEND;
	align(h, op);
	/* Where it will go: on Linux pwrite(2) appends with O_APPEND, whatever the offset. */
	if (op->arg & WRITE_APPEND || h->flags & O_APPEND)
		op->off = mirror_size(h);
	if (op->off + op->len > SIZE_MAX_DISK)
		return false;
	fill_data(op, d->data, op->len);
	return true;
}

static void apply_write(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	const struct iovec v = { .iov_base = d->data, .iov_len = op->len };
	int flags = op->arg & WRITE_APPEND ? RWF_APPEND : 0;

	/* To sync the mirror would show nothing. */
	if (op->arg & WRITE_DSYNC && side == V)
		flags |= RWF_DSYNC;
	set_result(r, pwritev2(fd_of(d, side, op->h), &v, 1, (off_t)op->off, flags));
}

static void after_write(struct differ *d, const struct op *op)
{
	if (op->result.value > 0)
		object_wrote(d, op->ino, MTIME_MOVED);
	if (op->off + op->len > DISK_THRESHOLD)
		object_of(d, op->ino)->may_be_disk = true;
}

/* --- many writers ------------------------------------------------------------------------------ */

/* They share clusters, but no byte: thread t has every BURST_THREADS-th piece of the range. */
void burst_place(const struct op *op, unsigned int thread, unsigned int i, uint64_t *ret_off,
		 size_t *ret_len)
{
	uint64_t piece = op->len;

	*ret_off = op->off + (i * BURST_THREADS + thread) * piece;
	*ret_len = piece;
}

void burst_data(const struct op *op, unsigned int thread, unsigned int i, uint8_t *data, size_t len)
{
	struct op piece = *op;

	piece.seq = op->seq * 1000 + thread * BURST_WRITES + i;
	fill_data(&piece, data, len);
}

static bool pick_burst(struct differ *d, struct op *op)
{
	static const uint64_t lengths[] = { 333, 512, 1000, 4096, 5000 };
	const uint64_t pieces = BURST_THREADS * BURST_WRITES;

	if (!pick_handle(d, &op->h))
		return false;
	/* Appending ones would have no order. */
	if (d->handles[op->h].flags & (O_APPEND | O_SYNC))
		return false;
	op->ino = d->handles[op->h].ino;
	op->len = pick(d, 8) == 0 ? 20000 : lengths[pick(d, ARRAY_SIZE(lengths))];
	if (d->handles[op->h].flags & O_DIRECT)
		op->len = round_up_u64(op->len, SECTOR_BYTES);
	op->off = pick_offset(d, &d->handles[op->h], op->len * pieces);
	if (d->handles[op->h].flags & O_DIRECT)
		op->off -= op->off % SECTOR_BYTES;
	return true;
}

static void burst_run(struct burst *b, int fd, uint8_t *data)
{
	b->done = 0;
	b->part_bytes = 0;
	b->error = 0;
	while (b->done < BURST_WRITES) {
		uint64_t off;
		size_t len;
		ssize_t n;

		burst_place(b->op, b->index, b->done, &off, &len);
		burst_data(b->op, b->index, b->done, data, len);
		n = pwrite(fd, data, len, (off_t)off);
		if (n != (ssize_t)len) {
			b->part_bytes = n > 0 ? (size_t)n : 0;
			/* A part of it: the rest tells whether the daemon met its end. */
			if (n >= 0)
				n = pwrite(fd, data + n, len - (size_t)n, (off_t)off + n);
			b->error = n < 0 ? errno : EIO;
			return;
		}
		b->done++;
	}
}

static void *burst_main(void *arg)
{
	struct burst *b = arg;
	uint8_t *data = aligned_alloc(CLUSTER, round_up_u64(b->op->len, CLUSTER));

	if (!data)
		give_up("no memory");
	burst_run(b, fd_of(b->d, V, b->op->h), data);
	free(data);
	return NULL;
}

static void apply_burst(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	*r = (struct result){ .value = 0 };
	for (unsigned int i = 0; i < BURST_THREADS; i++) {
		struct burst *b = &d->bursts[i];

		*b = (struct burst){ .d = d, .op = op, .index = i };
		if (side == M)
			burst_run(b, fd_of(d, M, op->h), d->data);
		else if (pthread_create(&b->thread, NULL, burst_main, b) != 0)
			give_up("no thread");
	}
	for (unsigned int i = 0; i < BURST_THREADS; i++) {
		if (side == V)
			(void)pthread_join(d->bursts[i].thread, NULL);
		if (d->bursts[i].error != 0)
			*r = (struct result){ .value = -1, .error = d->bursts[i].error };
	}
}

static void after_burst(struct differ *d, const struct op *op)
{
	object_wrote(d, op->ino, MTIME_MOVED);
	if (op->off + op->len * BURST_THREADS * BURST_WRITES > DISK_THRESHOLD)
		object_of(d, op->ino)->may_be_disk = true;
}

/* --- sizes and ranges -------------------------------------------------------------------------- */

static bool pick_truncate(struct differ *d, struct op *op)
{
	if (!pick_handle(d, &op->h))
		return false;
	op->ino = d->handles[op->h].ino;
	op->arg = pick_size(d, &d->handles[op->h]);
	return true;
}

static void apply_truncate(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	set_result(r, ftruncate(fd_of(d, side, op->h), (off_t)op->arg));
}

static void after_resize(struct differ *d, const struct op *op)
{
	/* Whether an unchanged size moves the time is left to filesystems. */
	object_wrote(d, op->ino, MTIME_UNKNOWN);
	if (max_u64(op->arg, op->off + op->len) > DISK_THRESHOLD)
		object_of(d, op->ino)->may_be_disk = true;
}

static bool pick_punch(struct differ *d, struct op *op)
{
	if (!pick_range(d, op))
		return false;
	if (pick(d, 4) == 0)
		op->len = 1 + pick(d, 2 * MIB);
	else if (pick(d, 16) == 0)
		op->len = SIZE_MAX_DISK;
	op->len = min_u64(op->len, 2 * SIZE_MAX_DISK - op->off);
	return true;
}

/* Collapsing and inserting ranges is not offered. */
static bool pick_allocate(struct differ *d, struct op *op)
{
	if (!pick_range(d, op))
		return false;
	/* The mirror really allocates it. */
	if (pick(d, 4) == 0)
		op->len = 1 + pick(d, ALLOC_BYTES_MAX);
	op->off = min_u64(op->off, SIZE_MAX_DISK - op->len);
	return true;
}

static void fallocate_side(struct differ *d, enum side side, const struct op *op, struct result *r,
			   int mode)
{
	set_result(r, fallocate(fd_of(d, side, op->h), mode, (off_t)op->off, (off_t)op->len));
}

static void apply_punch(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	fallocate_side(d, side, op, r, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE);
}

static void apply_zero(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	fallocate_side(d, side, op, r, FALLOC_FL_ZERO_RANGE);
}

static void apply_zero_keep(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	fallocate_side(d, side, op, r, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE);
}

static void apply_allocate(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	fallocate_side(d, side, op, r, 0);
}

static void apply_allocate_keep(struct differ *d, enum side side, const struct op *op,
				struct result *r)
{
	fallocate_side(d, side, op, r, FALLOC_FL_KEEP_SIZE);
}

static void after_keep_size(struct differ *d, const struct op *op)
{
	object_wrote(d, op->ino, MTIME_UNKNOWN);
}

/* --- mappings ---------------------------------------------------------------------------------- */

/* Nothing behind the end is touched: what a page holds there is nobody's. */
static bool pick_map(struct differ *d, struct op *op)
{
	uint64_t size;

	if (!pick_range(d, op))
		return false;
	size = mirror_size(&d->handles[op->h]);
	if (op->off >= size)
		op->off = size ? pick(d, min_u64(size, 64 * KIB)) : 0;
	if (size == 0)
		return false;
	op->len = min_u64(min_u64(op->len, MAP_BYTES_MAX), size - op->off);
	fill_data(op, d->data, op->len);
	return true;
}

static void use_map(struct differ *d, enum side side, const struct op *op, struct result *r,
		    int flags)
{
	uint64_t page = op->off % CLUSTER;
	size_t len = page + op->len;
	uint8_t *map = mmap(NULL, len, PROT_READ | PROT_WRITE, flags, fd_of(d, side, op->h),
			    (off_t)(op->off - page));

	if (map == MAP_FAILED) {
		set_result(r, -1);
		return;
	}
	memcpy(d->out[side], map + page, op->len);
	d->out_bytes[side] = op->len;
	memcpy(map + page, d->data, op->len);
	/* What was not synced would be the kernel's, and gone with the daemon. */
	set_result(r, flags == MAP_SHARED ? msync(map, len, MS_SYNC) : 0);
	(void)munmap(map, len);
}

static void apply_map_shared(struct differ *d, enum side side, const struct op *op,
			     struct result *r)
{
	/* Disks bypass the page cache: without help of kernel and libfuse there is no shared map. */
	if (side == M && d->res[V].error == ENODEV && object_of(d, op->ino)->may_be_disk) {
		*r = d->res[V];
		return;
	}
	use_map(d, side, op, r, MAP_SHARED);
}

static void after_map_shared(struct differ *d, const struct op *op)
{
	object_wrote(d, op->ino, MTIME_MOVED);
}

/* Changing it must not be seen by anybody. */
static void apply_map_private(struct differ *d, enum side side, const struct op *op,
			      struct result *r)
{
	use_map(d, side, op, r, MAP_PRIVATE);
}

/* --- others ------------------------------------------------------------------------------------ */

/* The mirror tells holes by its blocks, which are as large as clusters or larger. */
bool mirror_is_zero(struct differ *d, int fd, uint64_t from, uint64_t to)
{
	while (from < to) {
		off_t data = lseek(fd, (off_t)from, SEEK_DATA);
		ssize_t n;

		if (data < 0 || (uint64_t)data >= to)
			return true;
		n = pread(fd, d->keep, min_u64(to - (uint64_t)data, CLUSTER), data);
		if (n <= 0)
			give_up("reading the mirror: %s", n < 0 ? strerror(errno) : "no data");
		for (ssize_t i = 0; i < n; i++)
			if (d->keep[i] != 0) {
				(void)differs(d, "the mirror has data at %lld",
					      (long long)(data + i));
				return false;
			}
		from = (uint64_t)data + (uint64_t)n;
	}
	return true;
}

static bool pick_seek(struct differ *d, struct op *op)
{
	/* What is found is compared with what the mirror reads there. */
	if (!pick_range(d, op) || (d->handles[op->h].flags & O_ACCMODE) == O_WRONLY)
		return false;
	op->arg = pick(d, 2) ? SEEK_DATA : SEEK_HOLE;
	return true;
}

static void apply_seek(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	set_result(r, lseek(fd_of(d, side, op->h), (off_t)op->off, (int)op->arg));
}

/*
 * Zeros that were written are a hole of ours and data of the mirror. So: what we call a hole reads
 * as zeros there, and what we call data is no hole there.
 */
static bool same_seek(struct differ *d, const struct op *op)
{
	const struct result *v = &d->res[V], *m = &d->res[M];
	int fd = fd_of(d, M, op->h);
	uint64_t size = mirror_size(&d->handles[op->h]), at;

	if (op->off >= size)
		return (v->error == ENXIO && m->error == ENXIO) ||
		       differs(d, "both must say ENXIO behind %" PRIu64, size);
	if (v->error != 0 && (v->error != ENXIO || op->arg != SEEK_DATA))
		return differs(d, "an error where there is a file");
	d->why_ino = op->ino;
	at = v->error ? size : (uint64_t)v->value;
	if (at < op->off || at > size)
		return differs(d, "%" PRIu64 " is not between %" PRIu64 " and the end", at,
			       op->off);
	if (op->arg == SEEK_DATA) {
		if (!v->error && (m->error || m->value > v->value))
			return differs(d, "data at %" PRIu64 " where the mirror has a hole", at);
		return mirror_is_zero(d, fd, op->off, at);
	}
	if (m->value < v->value)
		return differs(d, "no hole at %lld, but on the mirror", (long long)m->value);
	return mirror_is_zero(d, fd, at, min_u64(round_up_u64(at + 1, CLUSTER), size));
}

static bool pick_sync(struct differ *d, struct op *op)
{
	if (!pick_handle(d, &op->h))
		return false;
	op->ino = d->handles[op->h].ino;
	op->arg = pick(d, 2);
	return true;
}

/* To sync the mirror would show nothing. */
static void apply_sync(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	int fd = fd_of(d, side, op->h);

	set_result(r, side == M ? 0 : op->arg ? fsync(fd) : fdatasync(fd));
}

static bool pick_copy(struct differ *d, struct op *op)
{
	if (!pick_range(d, op) || !pick_handle(d, &op->h2))
		return false;
	op->ino2 = d->handles[op->h2].ino;
	if (pick(d, 4) == 0)
		op->len = 1 + pick(d, COPY_BYTES_MAX);
	op->len = min_u64(op->len, COPY_BYTES_MAX);
	op->off2 = pick_offset(d, &d->handles[op->h2], op->len);
	return true;
}

/* One call may do less: how much is left to filesystems. */
static void apply_copy(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	off_t from = (off_t)op->off, to = (off_t)op->off2;
	uint64_t done = 0;

	while (done < op->len) {
		ssize_t n = copy_file_range(fd_of(d, side, op->h), &from, fd_of(d, side, op->h2),
					    &to, op->len - done, 0);

		if (n <= 0) {
			set_result(r, n < 0 ? -1 : (int64_t)done);
			return;
		}
		done += (uint64_t)n;
	}
	set_result(r, (int64_t)done);
}

static void after_copy(struct differ *d, const struct op *op)
{
	if (op->result.value > 0) {
		object_wrote(d, op->ino2, MTIME_MOVED);
		if (op->off2 + op->len > DISK_THRESHOLD)
			object_of(d, op->ino2)->may_be_disk = true;
	}
}

static bool pick_fstat(struct differ *d, struct op *op)
{
	if (!pick_handle(d, &op->h))
		return false;
	op->ino = d->handles[op->h].ino;
	return true;
}

static void apply_fstat(struct differ *d, enum side side, const struct op *op, struct result *r)
{
	text_result(r, text_stat(d, side, NULL, fd_of(d, side, op->h)));
}

const struct kind data_kinds[] = {
	{ "pread", 170, GROUP_DATA, pick_read, apply_read, NULL, NULL },
	{ "pwrite", 280, GROUP_WRITE, pick_write, apply_write, NULL, after_write },
	{ "parallel pwrite", 8, GROUP_WRITE, pick_burst, apply_burst, NULL, after_burst },
	{ "ftruncate", 40, GROUP_DATA, pick_truncate, apply_truncate, NULL, after_resize },
	{ "punch hole", 25, GROUP_DATA, pick_punch, apply_punch, NULL, after_keep_size },
	{ "zero range", 15, GROUP_DATA, pick_allocate, apply_zero, NULL, after_resize },
	{ "zero, keep size", 8, GROUP_DATA, pick_allocate, apply_zero_keep, NULL, after_keep_size },
	{ "allocate", 10, GROUP_DATA, pick_allocate, apply_allocate, NULL, after_resize },
	{ "allocate, keep size", 5, GROUP_DATA, pick_allocate, apply_allocate_keep, NULL,
	  after_keep_size },
	{ "mmap shared", 14, GROUP_DATA, pick_map, apply_map_shared, NULL, after_map_shared },
	{ "mmap private", 10, GROUP_DATA, pick_map, apply_map_private, NULL, NULL },
	{ "seek", 30, GROUP_DATA, pick_seek, apply_seek, same_seek, NULL },
	{ "fsync", 10, GROUP_DATA, pick_sync, apply_sync, NULL, NULL },
	{ "copy_file_range", 12, GROUP_DATA, pick_copy, apply_copy, NULL, after_copy },
	{ "fstat", 40, GROUP_DATA, pick_fstat, apply_fstat, same_stat, NULL },
};
const unsigned int data_kind_count = ARRAY_SIZE(data_kinds);
