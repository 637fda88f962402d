/*
 * Several files made durable at the same time: the kernel's flush of the device is shared by those
 * that wait for it together, so eight cost little more than one.
 */
#include "common/env_posix_impl.h"

#include <liburing.h>
#include <pthread.h>
#include <unistd.h>

#define SYNCS_MAX 32u

/* How many the kernel took; the rest is the caller's. */
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

/*
 * One ring for the process, made when it is first needed. A fork shares its memory, so a child makes
 * its own.
 */
static struct {
	pthread_mutex_t lock;
	struct io_uring ring;
	pid_t owner; /* 0: none yet */
	bool refused;
} shared = { .lock = PTHREAD_MUTEX_INITIALIZER };

static bool ring_is_there(void)
{
	if (shared.owner != getpid() && !shared.refused) {
		shared.refused = io_uring_queue_init(SYNCS_MAX, &shared.ring, 0) < 0;
		shared.owner = getpid();
	}
	return !shared.refused;
}

static int sync_together(struct env *env, struct env_file *const *files, unsigned int count)
{
	unsigned int taken = 0;
	int r = 0, rest;

	/* Whoever finds it in use by another commit does not wait for that one. */
	if (count > 1 && pthread_mutex_trylock(&shared.lock) == 0) {
		if (ring_is_there()) {
			taken = submit(&shared.ring, files, count);
			r = wait_for(&shared.ring, taken);
		}
		if (!shared.refused && taken < count) { /* what it did not take is still in it */
			io_uring_queue_exit(&shared.ring);
			shared.owner = 0;
		}
		(void)pthread_mutex_unlock(&shared.lock);
	}
	rest = env_fdatasync_in_turn(env, files + taken, count - taken);
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
