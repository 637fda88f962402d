/*
 * Writes in flight by io_uring; where that is missing or forbidden (old kernels, containers), every
 * write is done when it is submitted, and the queue only hands it back.
 */
#include "common/env_posix_impl.h"

#include "common/err.h"
#include "common/log.h"

#include <liburing.h>
#include <stdlib.h>

/* The kernel answers in int; what is longer continues as a short write does. */
#define WRITE_BYTES_MAX ((size_t)1 << 30)

#define DEPTH_MAX 4096u

/* user_data of a submission that was taken back; others carry the number of their slot. */
#define TAKEN_BACK UINT64_MAX

struct slot {
	struct env_io *io;
	size_t done_bytes;
};

struct env_ioq {
	bool has_ring;
	struct io_uring ring;
	const char *pinned; /* the kernel knows its pages; NULL: nothing is pinned */
	size_t pinned_bytes;

	struct env_io *finished; /* oldest first; not reaped yet */
	struct env_io **finished_end;

	unsigned int depth;
	unsigned int free_count;
	unsigned int *free_slots; /* the first free_count are numbers of free slots */
	struct slot *slots;
};

static bool ring_can_write(struct io_uring *ring)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
	bool can = probe != NULL && io_uring_opcode_supported(probe, IORING_OP_WRITE);

	io_uring_free_probe(probe);
	return can;
}

/* Whatever the reason not to have a ring, the queue works without. */
static void ring_open(struct env_ioq *q)
{
	int r = io_uring_queue_init(q->depth, &q->ring, 0);

	if (r == 0 && !ring_can_write(&q->ring)) {
		io_uring_queue_exit(&q->ring);
		r = -EOPNOTSUPP;
	}
	q->has_ring = r == 0;
	if (r < 0)
		log_debug("env: no io_uring, writing one by one: depth=%u: %s", q->depth,
			  err_name(r));
}

static void ioq_free(struct env_ioq *q)
{
	free(q->free_slots);
	free(q->slots);
	free(q);
}

int env_posix_ioq_open(UNUSED struct env *env, unsigned int depth, struct env_ioq **ret_q)
{
	struct env_ioq *q = calloc(1, sizeof(*q));

	ASSERT(depth > 0 && depth <= DEPTH_MAX);
	if (q == NULL)
		return -ENOMEM;
	q->finished_end = &q->finished;
	q->depth = depth;
	q->slots = calloc(depth, sizeof(*q->slots));
	q->free_slots = calloc(depth, sizeof(*q->free_slots));
	if (q->slots == NULL || q->free_slots == NULL) {
		ioq_free(q);
		return -ENOMEM;
	}
	for (unsigned int i = 0; i < depth; i++)
		q->free_slots[i] = i;
	q->free_count = depth;
	ring_open(q);
	*ret_q = q;
	return 0;
}

void env_posix_ioq_close(UNUSED struct env *env, struct env_ioq *q)
{
	if (q == NULL)
		return;
	ASSERT(q->free_count == q->depth && q->finished == NULL);
	if (q->has_ring)
		io_uring_queue_exit(&q->ring);
	ioq_free(q);
}

void env_posix_ioq_pin(UNUSED struct env *env, struct env_ioq *q, void *mem, size_t len_bytes)
{
	struct iovec memory = { mem, len_bytes };
	int r = q->has_ring && !q->pinned ? io_uring_register_buffers(&q->ring, &memory, 1) :
					    -EBUSY;

	if (r < 0) { /* RLIMIT_MEMLOCK, most likely: pages are looked up at each write then */
		log_debug("env: memory of writes is not pinned: bytes=%zu: %s", len_bytes,
			  err_name(r));
		return;
	}
	q->pinned = mem;
	q->pinned_bytes = len_bytes;
}

static void io_finish(struct env_ioq *q, struct env_io *io, int result)
{
	io->result = result;
	io->next = NULL;
	*q->finished_end = io;
	q->finished_end = &io->next;
}

static void slot_finish(struct env_ioq *q, unsigned int n, int result)
{
	io_finish(q, q->slots[n].io, result);
	q->slots[n].io = NULL;
	q->free_slots[q->free_count++] = n;
}

/* Write what is left of a slot here and now. */
static void slot_finish_by_hand(struct env_ioq *q, unsigned int n)
{
	const struct slot *s = &q->slots[n];
	const char *buf = s->io->buf;

	slot_finish(q, n,
		    env_posix_pwrite(NULL, s->io->file, buf + s->done_bytes,
				     s->io->len_bytes - s->done_bytes,
				     s->io->offset_bytes + s->done_bytes));
}

static bool is_pinned(const struct env_ioq *q, const char *buf, size_t len_bytes)
{
	return q->pinned && buf >= q->pinned && len_bytes <= q->pinned_bytes &&
	       (size_t)(buf - q->pinned) <= q->pinned_bytes - len_bytes;
}

/* Give what is left of a slot to the kernel; the slot is in flight or finished afterwards. */
static void slot_start(struct env_ioq *q, unsigned int n)
{
	const struct slot *s = &q->slots[n];
	struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);
	const char *buf = (const char *)s->io->buf + s->done_bytes;
	unsigned int len_bytes =
		(unsigned int)min_u64(s->io->len_bytes - s->done_bytes, WRITE_BYTES_MAX);
	uint64_t offset_bytes = s->io->offset_bytes + s->done_bytes;
	int r;

	if (sqe == NULL) { /* full of what was taken back */
		slot_finish_by_hand(q, n);
		return;
	}
	if (is_pinned(q, buf, len_bytes))
		io_uring_prep_write_fixed(sqe, s->io->file->fd, buf, len_bytes, offset_bytes, 0);
	else
		io_uring_prep_write(sqe, s->io->file->fd, buf, len_bytes, offset_bytes);
	sqe->user_data = n;
	do {
		r = io_uring_submit(&q->ring);
	} while (r == -EINTR || (r > 0 && io_uring_sq_ready(&q->ring) > 0));
	if (io_uring_sq_ready(&q->ring) == 0)
		return;

	/* The kernel did not take the newest entry, so it is still ours: make it harmless, for it
	 * will go out with the next submission, when this buffer may be gone. */
	io_uring_prep_nop(sqe);
	sqe->user_data = TAKEN_BACK;
	slot_finish_by_hand(q, n);
}

static void slot_completed(struct env_ioq *q, unsigned int n, int result)
{
	struct slot *s = &q->slots[n];
	size_t progress;

	ASSERT(n < q->depth && s->io != NULL);
	if (result == -EINTR) {
		slot_start(q, n);
		return;
	}
	if (result == -EAGAIN) { /* the kernel is short of something; a plain write waits for it */
		slot_finish_by_hand(q, n);
		return;
	}
	if (result < 0) {
		slot_finish(q, n, result);
		return;
	}
	if ((size_t)result == s->io->len_bytes - s->done_bytes) {
		slot_finish(q, n, 0);
		return;
	}
	progress = env_posix_progress(s->io->file, (size_t)result);
	if (progress == 0) {
		slot_finish(q, n, -EIO);
		return;
	}
	s->done_bytes += progress;
	slot_start(q, n);
}

/* Take one completion off the ring; false when there is none (yet). */
static bool take_completion(struct env_ioq *q, bool wait)
{
	struct io_uring_cqe *cqe;
	uint64_t tag;
	int result, r;

	do {
		r = wait ? io_uring_wait_cqe(&q->ring, &cqe) : io_uring_peek_cqe(&q->ring, &cqe);
	} while (r == -EINTR);
	if (r == -EAGAIN && !wait)
		return false;
	/* Without an answer nobody can say what reached the disk. */
	ASSERT(r == 0);
	tag = cqe->user_data;
	result = cqe->res;
	io_uring_cqe_seen(&q->ring, cqe);
	if (tag != TAKEN_BACK)
		slot_completed(q, (unsigned int)tag, result);
	return true;
}

int env_posix_ioq_submit(struct env *env, struct env_ioq *q, struct env_io *io)
{
	unsigned int n;

	if (io->offset_bytes > INT64_MAX || io->len_bytes > INT64_MAX - io->offset_bytes)
		return -EINVAL;
	if (!q->has_ring || io->len_bytes == 0) {
		io_finish(q, io,
			  env_posix_pwrite(env, io->file, io->buf, io->len_bytes,
					   io->offset_bytes));
		return 0;
	}
	while (q->free_count == 0)
		(void)take_completion(q, true); /* waiting, it always takes one */
	n = q->free_slots[--q->free_count];
	q->slots[n] = (struct slot){ .io = io };
	slot_start(q, n);
	return 0;
}

struct env_io *env_posix_ioq_reap(UNUSED struct env *env, struct env_ioq *q, bool wait)
{
	struct env_io *io;

	while (q->finished == NULL) {
		if (q->free_count == q->depth)
			return NULL;
		if (!take_completion(q, wait))
			return NULL;
	}
	io = q->finished;
	q->finished = io->next;
	if (q->finished == NULL)
		q->finished_end = &q->finished;
	io->next = NULL;
	return io;
}
