/*
 * Operations that may wait for room in the engine and can't be parked there: cutting a file, making
 * a hole. A worker runs them itself while enough others are free and nothing waits for room anyway;
 * else helpers do, so that the workers can go on with reading.
 */
#include "fs/fuse_impl.h"

#include <stdlib.h>

/* Workers that stay free of such operations. */
#define WORKERS_FREE_MIN 2u

static void end_one(struct fs_session *s)
{
	GUARD(&s->lock);
	ASSERT(s->in_flight > 0);
	if (--s->in_flight == 0)
		cond_broadcast(&s->all_answered);
}

static void helper_main(void *arg)
{
	struct fs_session *s = arg;

	for (;;) {
		struct fs_slow *job;

		mutex_lock(&s->lock);
		while (!s->slow_head && !s->slow_end)
			cond_wait(&s->slow_more, &s->lock, WAIT_FOREVER);
		job = s->slow_head;
		if (job) {
			s->slow_head = job->next;
			if (!job->next)
				s->slow_tail = NULL;
		}
		mutex_unlock(&s->lock);
		if (!job)
			return;
		proto_enter(job->reply_fd, NULL);
		job->run(s, job);
		proto_leave();
		free(job);
		end_one(s);
	}
}

int fs_slow_init(struct fs_session *s)
{
	int r = 0;

	s->slow_end = false;
	for (unsigned int i = 0; i < FS_HELPERS && r == 0; i++)
		r = thread_start("fuse-slow", helper_main, s, &s->helper[i]);
	return r;
}

void fs_slow_done(struct fs_session *s)
{
	mutex_lock(&s->lock);
	s->slow_end = true;
	cond_broadcast(&s->slow_more);
	mutex_unlock(&s->lock);
	for (unsigned int i = 0; i < FS_HELPERS; i++)
		if (s->helper[i])
			thread_join(TAKE_PTR(s->helper[i]));
}

/* Whether the worker may do it; counts it then. */
static bool enter_inline(struct fs_session *s)
{
	GUARD(&s->lock);
	if (s->in_flight > 0 || s->slow_inline + WORKERS_FREE_MIN >= s->threads) {
		s->in_flight++;
		return false;
	}
	s->slow_inline++;
	return true;
}

void fs_slow_start(const struct fs_slow *job)
{
	struct fs_session *s = fs_session_of(job->req);
	struct fs_slow *copy;

	if (fs_fetch_slow(s, job))
		return;
	if (enter_inline(s)) {
		struct fs_slow here = *job;

		here.run(s, &here);
		GUARD(&s->lock);
		s->slow_inline--;
		return;
	}
	copy = malloc(sizeof(*copy));
	if (!copy) {
		fs_reply_code(job->req, "setattr or fallocate", job->ino, -ENOMEM, NULL);
		end_one(s);
		return;
	}
	*copy = *job;
	copy->reply_fd = fs_worker_current()->receive_fd;
	copy->next = NULL;
	GUARD(&s->lock);
	if (s->slow_tail)
		s->slow_tail->next = copy;
	else
		s->slow_head = copy;
	s->slow_tail = copy;
	cond_signal(&s->slow_more);
}
