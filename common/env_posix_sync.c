/*
 * Several files made durable at the same time: the kernel's flush of the device is shared by those
 * that wait for it together, so eight cost little more than one.
 */
#include "common/env_posix_impl.h"

#include <liburing.h>

#define SYNCS_MAX 32u

/* One after the other; the first error, but none is left out. */
static int sync_in_turn(struct env *env, struct env_file *const *files, unsigned int count)
{
	int first_error = 0;

	for (unsigned int i = 0; i < count; i++) {
		int r = env_fdatasync(env, files[i]);

		if (r < 0 && first_error == 0)
			first_error = r;
	}
	return first_error;
}

/* Those that the kernel took; the rest is the caller's. */
static unsigned int submit(struct io_uring *ring, struct env_file *const *files, unsigned int count)
{
	int taken;

	for (unsigned int i = 0; i < count; i++)
		io_uring_prep_fsync(io_uring_get_sqe(ring), files[i]->fd, IORING_FSYNC_DATASYNC);
	taken = io_uring_submit(ring);
	return taken < 0 ? 0 : (unsigned int)taken;
}

static int wait_for(struct io_uring *ring, unsigned int count)
{
	int first_error = 0;

	for (unsigned int i = 0; i < count;) {
		struct io_uring_cqe *cqe;
		int r = io_uring_wait_cqe(ring, &cqe);

		if (r == -EINTR)
			continue;
		ASSERT(r == 0); /* it was taken, so it will be answered */
		/* As posix_fdatasync(): whatever the error is, a second try proves nothing. */
		r = cqe->res == -EINTR ? -EIO : cqe->res;
		if (r < 0 && first_error == 0)
			first_error = r;
		io_uring_cqe_seen(ring, cqe);
		i++;
	}
	return first_error;
}

static int sync_together(struct env *env, struct env_file *const *files, unsigned int count)
{
	struct io_uring ring;
	unsigned int taken;
	int r, rest;

	if (count == 1 || io_uring_queue_init(count, &ring, 0) < 0)
		return sync_in_turn(env, files, count);
	taken = submit(&ring, files, count);
	r = wait_for(&ring, taken);
	io_uring_queue_exit(&ring);
	rest = sync_in_turn(env, files + taken, count - taken);
	return r < 0 ? r : rest;
}

int env_posix_fdatasync_all(struct env *env, struct env_file *const *files, unsigned int count)
{
	int first_error = 0;

	for (unsigned int i = 0; i < count; i += SYNCS_MAX) {
		int r = sync_together(env, files + i, (unsigned int)min_u64(SYNCS_MAX, count - i));

		if (r < 0 && first_error == 0)
			first_error = r;
	}
	return first_error;
}
