/*
 * Reads that a worker has in flight. It goes on receiving requests meanwhile, without waiting for
 * them, and answers what is done; what only the store has goes to threads that may wait for it
 * (fuse_fetch.c). It sleeps only until the first of its own reads is there, for any
 * worker that has none sleeps in read(2) of the channel and takes what comes.
 */
#include "common/log.h"
#include "fs/fuse_impl.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Memory is kept apart by size, so that what a worker holds is bounded by a few long reads. */
#define SHORT_READS 32u
#define SHORT_BYTES (64u * 1024)
#define LONG_READS  4u

#define MEMORY_BYTES ((size_t)SHORT_READS * SHORT_BYTES + (size_t)LONG_READS * FS_IO_BYTES_MAX)

struct fs_read {
	struct volume_read read;
	fuse_req_t req;
	uint64_t ino;
	uint64_t start_ns;
	int reply_fd;
	struct fs_read *next;
};

struct fs_reads {
	struct fs_session *session;
	struct volume_reader *reader;
	uint8_t *memory;
	unsigned int in_flight;
	struct fs_read *free_short, *free_long;
	struct fs_read reads[SHORT_READS + LONG_READS];
};

static void put_free(struct fs_reads *rs, struct fs_read *read)
{
	bool is_short = read - rs->reads < (ptrdiff_t)SHORT_READS;
	struct fs_read **list = is_short ? &rs->free_short : &rs->free_long;

	read->next = *list;
	*list = read;
}

int fs_reads_open(struct fs_session *s, struct fs_reads **ret_reads, struct err *e)
{
	struct fs_reads *rs = calloc(1, sizeof(*rs));
	uint8_t *at;
	int r;

	if (!rs)
		return err_set(e, -ENOMEM, "no memory for reads");
	rs->session = s;
	at = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (at == MAP_FAILED) {
		free(rs);
		return err_set(e, -ENOMEM, "no memory for reads");
	}
	rs->memory = at;
	r = volume_reader_open(s->pool, &rs->reader, e);
	if (r < 0) {
		fs_reads_close(rs);
		return r;
	}
	volume_reader_pin(rs->reader, at, (size_t)SHORT_READS * SHORT_BYTES);
	for (unsigned int i = 0; i < SHORT_READS + LONG_READS; i++) {
		rs->reads[i].read.buf = at;
		rs->reads[i].read.owner = &rs->reads[i];
		at += i < SHORT_READS ? SHORT_BYTES : FS_IO_BYTES_MAX;
	}
	for (unsigned int i = SHORT_READS + LONG_READS; i > 0; i--)
		put_free(rs, &rs->reads[i - 1]);
	*ret_reads = rs;
	return 0;
}

void fs_reads_close(struct fs_reads *rs)
{
	if (!rs)
		return;
	volume_reader_close(rs->reader);
	(void)munmap(rs->memory, MEMORY_BYTES);
	free(rs);
}

bool fs_reads_are_in_flight(const struct fs_reads *rs)
{
	return rs->in_flight > 0;
}

void fs_reads_start(struct fs_worker *w, fuse_req_t req, uint64_t ino, uint64_t offset_bytes,
		    size_t len_bytes)
{
	struct fs_reads *rs = w->reads;
	struct fs_read **list = len_bytes <= SHORT_BYTES ? &rs->free_short : &rs->free_long;
	struct fs_read *read = *list;
	uint64_t start_ns = clock_mono_ns();
	struct object *o;
	struct err e = { 0 };
	int r = ns_object_get(rs->session->ns, ino, &o, &e);

	if (r < 0) {
		fs_reply_code(req, "read", ino, r, &e);
		return;
	}
	ASSERT(read); /* fs_reads_make_room() was called */
	*list = read->next;
	read->req = req;
	read->ino = ino;
	read->start_ns = start_ns;
	read->reply_fd = w->receive_fd;
	read->read.object = o;
	read->read.offset_bytes = offset_bytes;
	read->read.len_bytes = min_u64(len_bytes, FS_IO_BYTES_MAX);
	rs->in_flight++;
	volume_read_start(rs->reader, &read->read);
}

static void answer(struct fs_reads *rs, struct fs_read *read)
{
	struct fs_session *s = rs->session;
	ssize_t n = read->read.result;

	if (read->read.needs_fetch) {
		fs_fetch_read(s, &(struct fs_fetch_read){ .req = read->req,
							  .ino = read->ino,
							  .object = read->read.object,
							  .offset_bytes = read->read.offset_bytes,
							  .len_bytes = read->read.len_bytes,
							  .start_ns = read->start_ns,
							  .reply_fd = read->reply_fd });
		put_free(rs, read);
		rs->in_flight--;
		return;
	}
	proto_enter(read->reply_fd, NULL);
	if (n < 0) {
		fs_reply_code(read->req, "read", read->ino, (int)n, NULL);
	} else {
		counter_add(&s->metrics.read_bytes, (uint64_t)n);
		(void)fuse_reply_buf(read->req, read->read.buf, (size_t)n);
	}
	proto_leave();
	ns_object_put(s->ns, read->ino);
	histogram_record(&s->metrics.read_ns, clock_mono_ns() - read->start_ns);
	put_free(rs, read);
	rs->in_flight--;
}

void fs_reads_answer(struct fs_reads *rs, bool wait)
{
	struct volume_read *done = volume_read_reap(rs->reader, wait);

	for (; done; done = volume_read_reap(rs->reader, false))
		answer(rs, done->owner);
}

void fs_reads_make_room(struct fs_reads *rs)
{
	while (!rs->free_short || !rs->free_long)
		fs_reads_answer(rs, true);
}

void fs_reads_finish(struct fs_reads *rs)
{
	while (rs->in_flight > 0)
		fs_reads_answer(rs, true);
}
