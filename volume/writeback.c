#include "volume/writeback.h"

#include "volume/stream.h"

int writeback_init(struct writeback *w, struct env *env, unsigned int depth, void *mem,
		   size_t mem_bytes)
{
	int r;

	*w = (struct writeback){ .env = env, .depth = depth };
	mutex_init(&w->lock, LOCK_WRITEBACK);
	r = env_ioq_open(env, depth, &w->ioq);
	if (r == 0 && mem)
		env_ioq_pin(env, w->ioq, mem, mem_bytes);
	return r;
}

void writeback_done(struct writeback *w)
{
	if (w->ioq)
		env_ioq_close(w->env, w->ioq);
	w->ioq = NULL;
	mutex_done(&w->lock);
}

void writeback_add(struct writeback *w, struct batch *b, bool wake)
{
	mutex_lock(&w->lock);
	b->queue_next = NULL;
	if (w->tail)
		w->tail->queue_next = b;
	else
		w->head = b;
	w->tail = b;
	mutex_unlock(&w->lock);
	if (wake)
		job_kick(&w->job);
}

/* prev: before b in the queue. */
static void unlink_locked(struct writeback *w, struct batch *prev, struct batch *b)
{
	if (prev)
		prev->queue_next = b->queue_next;
	else
		w->head = b->queue_next;
	if (w->tail == b)
		w->tail = prev;
	b->queue_next = NULL;
}

bool writeback_claim(struct writeback *w, struct batch *b)
{
	struct batch *prev = NULL;

	GUARD(&w->lock);
	for (struct batch *i = w->head; i; prev = i, i = i->queue_next) {
		if (i != b)
			continue;
		unlink_locked(w, prev, b);
		return true;
	}
	return false;
}

static struct batch *take_first(struct writeback *w)
{
	struct batch *b;

	GUARD(&w->lock);
	b = w->head;
	if (b)
		unlink_locked(w, NULL, b);
	return b;
}

static void submit(struct writeback *w, struct batch *b)
{
	struct env_file *file;
	int r;

	r = sco_file(b->stream->world->scos, b->sco, &file, NULL);
	if (r == 0) {
		batch_io_prepare(b, file);
		r = env_ioq_submit(w->env, w->ioq, &b->io);
	}
	if (r < 0)
		stream_batch_written(b->stream, b, r);
	else
		w->in_flight++;
}

static uint64_t writeback_step(void *arg)
{
	struct writeback *w = arg;
	struct env_io *io;
	struct batch *b;

	while (w->in_flight < w->depth && (b = take_first(w)))
		submit(w, b);
	io = env_ioq_reap(w->env, w->ioq, w->in_flight > 0);
	if (!io)
		return WAIT_FOREVER;
	w->in_flight--;
	b = io->owner;
	stream_batch_written(b->stream, b, io->result);
	return 0;
}

int writeback_start(struct writeback *w)
{
	return job_start(&w->job, "writeback", writeback_step, w);
}

void writeback_stop(struct writeback *w)
{
	job_stop(&w->job);
	while (w->in_flight > 0) {
		struct env_io *io = env_ioq_reap(w->env, w->ioq, true);
		struct batch *b = io->owner;

		w->in_flight--;
		stream_batch_written(b->stream, b, io->result);
	}
}
