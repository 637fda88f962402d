/*
 * bench_passfuse - the most that a FUSE mount with data can do: one file that is a file below, read
 * and written by O_DIRECT through io_uring. A peer of tests/bench/run.
 *
 * Each thread has a ring and slots with memory registered there. A slot receives a request such
 * that the payload of a WRITE lies on a page and goes to the file from where it is; a READ is read
 * to the same place. A thread without work sleeps in read(2) of its channel, where the kernel wakes
 * one of them; one with work takes what has come meanwhile, without waiting, on a second clone of
 * the channel, and then sleeps until something of its own is done.
 *
 * usage: bench_passfuse [--threads N] [--depth N] FILE MOUNTPOINT
 */
#include "onefile.h"

#include "common/units.h"

#include <fcntl.h>
#include <getopt.h>
#include <liburing.h>
#include <linux/fuse.h>
#include <sys/uio.h>

#define DEPTH_MAX 256u	/* requests of one thread */
#define PAYLOAD	  4096u /* of a slot: where data begins */

struct slot {
	uint8_t *base; /* PAYLOAD + FS_IO_BYTES_MAX */
	uint8_t *request;
	int reply_fd;
	uint64_t unique;
	bool is_read;
	struct slot *next_free;
};

struct worker {
	struct onefile *file;
	int sleep_fd, try_fd; /* clones of the channel: one waits for a request, one does not */
	struct io_uring ring;
	struct slot slots[DEPTH_MAX];
	struct slot *free;
	unsigned int in_flight;
	bool gone; /* unmounted */
};

static int backing_fd;
static unsigned int depth = 32;

/* --- answers ----------------------------------------------------------------------------------- */

/* An answer that the kernel does not want any more is none of our concern. */
static void reply(const struct slot *s, int result)
{
	struct fuse_out_header out = { .len = sizeof(out), .unique = s->unique };
	struct fuse_write_out written = { .size = (uint32_t)result };
	struct iovec iov[2] = { { &out, sizeof(out) }, { &written, sizeof(written) } };
	int parts = 2;

	if (result < 0) {
		out.error = result;
		parts = 1;
	} else if (s->is_read) {
		iov[1] = (struct iovec){ s->base + PAYLOAD, (size_t)result };
	}
	if (parts == 2)
		out.len += (uint32_t)iov[1].iov_len;
	(void)!writev(s->reply_fd, iov, parts);
}

static void slot_free(struct worker *w, struct slot *s)
{
	s->next_free = w->free;
	w->free = s;
}

static void finish_all(struct worker *w)
{
	struct io_uring_cqe *cqe;
	unsigned int head, count = 0;

	io_uring_for_each_cqe(&w->ring, head, cqe)
	{
		struct slot *s = io_uring_cqe_get_data(cqe);

		reply(s, cqe->res);
		slot_free(w, s);
		count++;
	}
	io_uring_cq_advance(&w->ring, count);
	w->in_flight -= count;
}

/* --- requests ---------------------------------------------------------------------------------- */

/* True: the slot is busy from now on. What the kernel sends is trusted: this is no daemon of ours. */
static bool start_data(struct worker *w, struct slot *s)
{
	struct io_uring_sqe *sqe;
	struct fuse_in_header in;
	int index = (int)(s - w->slots);

	memcpy(&in, s->request, sizeof(in));
	s->unique = in.unique;
	s->is_read = in.opcode == FUSE_READ;
	if (in.opcode != FUSE_READ && in.opcode != FUSE_WRITE)
		return false;
	sqe = io_uring_get_sqe(&w->ring); /* there are as many as slots */
	if (s->is_read) {
		struct fuse_read_in read_in;

		memcpy(&read_in, s->request + sizeof(in), sizeof(read_in));
		io_uring_prep_read_fixed(sqe, 0, s->base + PAYLOAD, read_in.size, read_in.offset,
					 index);
	} else {
		struct fuse_write_in write_in;

		memcpy(&write_in, s->request + sizeof(in), sizeof(write_in));
		io_uring_prep_write_fixed(sqe, 0, s->base + PAYLOAD, write_in.size, write_in.offset,
					  index);
	}
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, s);
	return true;
}

/* Take one request from a channel. False: there is none. */
static bool take(struct worker *w, int fd)
{
	struct slot *s = w->free;
	ssize_t n = proto_receive(fd, s->request);
	struct fuse_in_header in;

	if (n == -ENODEV)
		w->gone = true;
	else if (n < 0 && n != -EAGAIN)
		onefile_fail(w->file, "receiving", (int)n);
	if (n < 0)
		return false;
	w->free = s->next_free;
	s->reply_fd = fd;
	if (start_data(w, s)) {
		w->in_flight++;
		return true;
	}
	memcpy(&in, s->request, sizeof(in));
	if (in.opcode != FUSE_INTERRUPT) /* of what libfuse does not know; it ends soon */
		onefile_process(w->file, fd, s->request, (size_t)n);
	slot_free(w, s);
	return true;
}

/* A caller who syncs waits for it, so this waits on the spot: a helper would cost two switches. */
static void pass_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	(void)fuse_reply_err(req, (datasync ? fdatasync(backing_fd) : fsync(backing_fd)) < 0 ?
					  errno :
					  0);
}

static const struct fuse_lowlevel_ops ops = { ONEFILE_OPS, .fsync = pass_fsync };

/* --- threads ----------------------------------------------------------------------------------- */

static void worker_init(struct worker *w, struct onefile *f, int fd)
{
	struct io_uring_params params = { .flags = IORING_SETUP_SINGLE_ISSUER |
						   IORING_SETUP_DEFER_TASKRUN };
	size_t slot_bytes = PAYLOAD + FS_IO_BYTES_MAX;
	uint8_t *memory = onefile_memory(f, depth * slot_bytes);
	struct iovec iov[DEPTH_MAX];
	int r;

	w->file = f;
	w->sleep_fd = fd;
	r = proto_clone(fd, &w->try_fd);
	if (r == 0 && fcntl(w->try_fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
		r = -errno;
	if (r < 0)
		onefile_fail(f, "channel", r);
	for (unsigned int i = 0; i < depth; i++) {
		struct slot *s = &w->slots[i];

		s->base = memory + i * slot_bytes;
		s->request = s->base + PAYLOAD - PROTO_WRITE_HEADER_BYTES;
		iov[i] = (struct iovec){ s->base + PAYLOAD, FS_IO_BYTES_MAX };
		slot_free(w, s);
	}
	r = io_uring_queue_init_params(depth, &w->ring, &params);
	if (r == -EINVAL) { /* a kernel before 6.1 */
		params = (struct io_uring_params){ 0 };
		r = io_uring_queue_init_params(depth, &w->ring, &params);
	}
	if (r == 0)
		r = io_uring_register_buffers(&w->ring, iov, depth);
	if (r == 0)
		r = io_uring_register_files(&w->ring, &backing_fd, 1);
	if (r < 0)
		onefile_fail(f, "io_uring", r);
}

static void serve(struct onefile *f, int fd)
{
	struct worker *w = calloc(1, sizeof(*w));

	if (!w)
		onefile_fail(f, "memory", -ENOMEM);
	worker_init(w, f, fd);
	while (!w->gone || w->in_flight > 0) {
		int r;

		if (w->in_flight == 0)
			(void)take(w, w->sleep_fd);
		while (w->in_flight > 0 && w->free && !w->gone && take(w, w->try_fd))
			continue;
		if (w->in_flight == 0)
			continue;
		r = io_uring_submit_and_wait(&w->ring, 1);
		if (r < 0 && r != -EINTR)
			onefile_fail(f, "io_uring", r);
		finish_all(w);
	}
	io_uring_queue_exit(&w->ring);
	(void)munmap(w->slots[0].base, depth * (PAYLOAD + FS_IO_BYTES_MAX));
	(void)close(w->try_fd);
	free(w);
}

static NORETURN void wrong_usage(void)
{
	(void)fputs("usage: bench_passfuse [--threads N] [--depth N] FILE MOUNTPOINT\n", stderr);
	exit(2);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "threads", 1, NULL, 't' },
		{ "depth", 1, NULL, 'd' },
		{ NULL, 0, NULL, 0 },
	};
	struct onefile f = { .program = "bench_passfuse", .disks = 1, .serve = serve };
	uint64_t threads = 4, wanted_depth = depth;
	struct stat st;
	int id;

	while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (id == 't' && u64_parse(optarg, &threads) == 0 && threads > 0 &&
		    threads <= ONEFILE_THREADS_MAX)
			continue;
		if (id == 'd' && u64_parse(optarg, &wanted_depth) == 0 && wanted_depth > 0 &&
		    wanted_depth <= DEPTH_MAX)
			continue;
		wrong_usage();
	}
	if (optind + 2 != argc)
		wrong_usage();
	depth = (unsigned int)wanted_depth;
	backing_fd = open(argv[optind], O_RDWR | O_DIRECT | O_CLOEXEC);
	if (backing_fd < 0 || fstat(backing_fd, &st) < 0)
		onefile_fail(&f, argv[optind], -errno);
	f.size_bytes = (uint64_t)st.st_size;
	f.mountpoint = argv[optind + 1];
	f.threads = (unsigned int)threads;
	onefile_run(&f, &ops);
	return 0;
}
