/*
 * Writes and reads in flight by io_uring; where that is missing or forbidden (old kernels,
 * containers), each is done when it is submitted, and the queue only hands it back.
 *
 * A write goes to the kernel at once. Reads are gathered until the queue is reaped, so that one
 * system call starts them and waits for the first to be done.
 */
#include "common/env_posix_impl.h"

#include "common/err.h"
#include "common/log.h"

#include <liburing.h>
#include <stdlib.h>

/* The kernel answers in int; what is longer continues as a short one does. */
#define IO_BYTES_MAX ((size_t)1 << 30)

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

static bool ring_can_do_it(struct io_uring *ring)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
	bool can = probe != NULL && io_uring_opcode_supported(probe, IORING_OP_WRITE) &&
		   io_uring_opcode_supported(probe, IORING_OP_READ);

	io_uring_free_probe(probe);
	return can;
}

/* Whatever the reason not to have a ring, the queue works without. */
static void ring_open(struct env_ioq *q)
{
	/* Whoever waits looks for completions itself: nobody needs to be interrupted for them. */
	int r = io_uring_queue_init(q->depth, &q->ring,
				    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG);

	if (r == -EINVAL) /* a kernel before 5.19 */
		r = io_uring_queue_init(q->depth, &q->ring, 0);
	if (r == 0 && !ring_can_do_it(&q->ring)) {
		io_uring_queue_exit(&q->ring);
		r = -EOPNOTSUPP;
	}
	q->has_ring = r == 0;
	if (r < 0)
		log_debug("env: no io_uring, one at a time: depth=%u: %s", q->depth, err_name(r));
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
		log_debug("env: memory is not pinned: bytes=%zu: %s", len_bytes, err_name(r));
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

/* What is left of an io, here and now. */
static int do_by_hand(const struct env_io *io, size_t done_bytes)
{
	char *buf = (char *)io->buf + done_bytes;
	size_t left_bytes = io->len_bytes - done_bytes;
	uint64_t offset_bytes = io->offset_bytes + done_bytes;
	ssize_t n;

	if (!io->is_read)
		return env_posix_pwrite(NULL, io->file, buf, left_bytes, offset_bytes);
	n = env_posix_pread(NULL, io->file, buf, left_bytes, offset_bytes);
	if (n < 0)
		return (int)n;
	return (size_t)n == left_bytes ? 0 : -ENODATA;
}

static void slot_finish_by_hand(struct env_ioq *q, unsigned int n)
{
	slot_finish(q, n, do_by_hand(q->slots[n].io, q->slots[n].done_bytes));
}

static bool is_pinned(const struct env_ioq *q, const char *buf, size_t len_bytes)
{
	return q->pinned && buf >= q->pinned && len_bytes <= q->pinned_bytes &&
	       (size_t)(buf - q->pinned) <= q->pinned_bytes - len_bytes;
}

static void prepare(struct env_ioq *q, struct io_uring_sqe *sqe, const struct slot *s)
{
	char *buf = (char *)s->io->buf + s->done_bytes;
	unsigned int len_bytes =
		(unsigned int)min_u64(s->io->len_bytes - s->done_bytes, IO_BYTES_MAX);
	uint64_t offset_bytes = s->io->offset_bytes + s->done_bytes;
	int fd = s->io->file->fd;

	if (is_pinned(q, buf, len_bytes) && s->io->is_read)
		io_uring_prep_read_fixed(sqe, fd, buf, len_bytes, offset_bytes, 0);
	else if (is_pinned(q, buf, len_bytes))
		io_uring_prep_write_fixed(sqe, fd, buf, len_bytes, offset_bytes, 0);
	else if (s->io->is_read)
		io_uring_prep_read(sqe, fd, buf, len_bytes, offset_bytes);
	else
		io_uring_prep_write(sqe, fd, buf, len_bytes, offset_bytes);
}

/*
 * What the kernel did not take (it is short of something) is done by hand. Its entries are still ours
 * and go out with the next submission, when their buffers may be gone: they are made harmless.
 */
static void take_back(struct env_ioq *q)
{
	const struct io_uring_sq *sq = &q->ring.sq;

	for (unsigned int at = *sq->khead; at != sq->sqe_tail; at++) {
		struct io_uring_sqe *sqe = &sq->sqes[at & sq->ring_mask];
		uint64_t tag = sqe->user_data;

		if (tag == TAKEN_BACK)
			continue;
		io_uring_prep_nop(sqe);
		sqe->user_data = TAKEN_BACK;
		slot_finish_by_hand(q, (unsigned int)tag);
	}
}

/* Start all that is prepared, and wait until one is done, if there is such a thing. */
static void submit_prepared(struct env_ioq *q, bool wait)
{
	int r;

	do {
		r = io_uring_submit_and_wait(&q->ring, wait ? 1 : 0);
	} while (r == -EINTR || (r > 0 && io_uring_sq_ready(&q->ring) > 0));
	if (io_uring_sq_ready(&q->ring) > 0)
		take_back(q);
}

/* Give what is left of a slot to the kernel; the slot is in flight or finished afterwards. */
static void slot_start(struct env_ioq *q, unsigned int n)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);

	if (sqe == NULL) { /* full of what was taken back */
		slot_finish_by_hand(q, n);
		return;
	}
	prepare(q, sqe, &q->slots[n]);
	sqe->user_data = n;
	if (!q->slots[n].io->is_read)
		submit_prepared(q, false);
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
		slot_finish(q, n, s->io->is_read ? -ENODATA : -EIO);
		return;
	}
	s->done_bytes += progress;
	slot_start(q, n);
}

/*
 * Take one completion off the ring; false when there is none (yet), or what was to be started has
 * been finished by hand.
 */
static bool take_completion(struct env_ioq *q, bool wait)
{
	struct io_uring_cqe *cqe;
	uint64_t tag;
	int result, r;

	if (io_uring_sq_ready(&q->ring) > 0) {
		submit_prepared(q, wait && io_uring_cq_ready(&q->ring) == 0);
		if (q->finished != NULL)
			return false;
	}
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

int env_posix_ioq_submit(UNUSED struct env *env, struct env_ioq *q, struct env_io *io)
{
	unsigned int n;

	if (io->offset_bytes > INT64_MAX || io->len_bytes > INT64_MAX - io->offset_bytes)
		return -EINVAL;
	if (!q->has_ring || io->len_bytes == 0) {
		io_finish(q, io, do_by_hand(io, 0));
		return 0;
	}
	while (q->free_count == 0)
		(void)take_completion(q, true); /* it takes one, or frees those it did by hand */
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
		if (!take_completion(q, wait) && q->finished == NULL)
			return NULL;
	}
	io = q->finished;
	q->finished = io->next;
	if (q->finished == NULL)
		q->finished_end = &q->finished;
	io->next = NULL;
	return io;
}
