/*
 * Receive buffers, and the writes that wait in them.
 *
 * A write that the engine finishes at once never leaves its worker. One that has to wait is parked
 * in the engine with the buffer it came in; if the engine has no place, it waits in line here until
 * one that is parked there ends. When all buffers are taken, workers wait for one, but the last two
 * never do: they get memory beyond the pool, up to a limit, so that reads go on.
 */
#include "common/log.h"
#include "fs/fuse_impl.h"

#include <stdlib.h>
#include <sys/mman.h>

/* Workers that always stay free to take what does not have to wait. */
#define WORKERS_FREE_MIN 2u

static struct fs_buffer *buffer_new(struct fs_session *s)
{
	struct fs_buffer *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->base = mmap(NULL, FS_BUFFER_BYTES, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (b->base == MAP_FAILED) {
		free(b);
		return NULL;
	}
	/* Where a process is killed while the kernel copies a request to memory that is not there, that
	 * request fails; so it is there. At worst it is not. */
	if (s->resume)
		(void)madvise(b->base, FS_BUFFER_BYTES, MADV_POPULATE_WRITE);
	b->session = s;
	return b;
}

static void buffer_free(struct fs_buffer *b)
{
	(void)munmap(b->base, FS_BUFFER_BYTES);
	free(b);
}

enum buffer_choice { CHOICE_POOL, CHOICE_EXTRA, CHOICE_TAKEN, CHOICE_LEAVE };

/* What to do for a worker that needs a buffer; waits while that is right, if it may. */
static enum buffer_choice choose_locked(struct fs_session *s, bool wait,
					struct fs_buffer **ret_buffer)
{
	for (;;) {
		if (s->free) {
			*ret_buffer = s->free;
			s->free = s->free->next;
			return CHOICE_TAKEN;
		}
		if (s->buffers < s->buffers_max) {
			s->buffers++;
			return CHOICE_POOL;
		}
		if (s->blocked + WORKERS_FREE_MIN >= s->threads &&
		    s->extras < s->max_background + FS_BUFFERS_EXTRA_SLACK) {
			s->extras++;
			return CHOICE_EXTRA;
		}
		if (!wait || __atomic_load_n(&s->leave, __ATOMIC_ACQUIRE))
			return CHOICE_LEAVE;
		s->blocked++;
		cond_wait(&s->buffer_back, &s->lock, WAIT_FOREVER);
		s->blocked--;
	}
}

struct fs_buffer *fs_buffer_get(struct fs_session *s, bool wait)
{
	enum buffer_choice choice;
	struct fs_buffer *b = NULL;

	mutex_lock(&s->lock);
	choice = choose_locked(s, wait, &b);
	mutex_unlock(&s->lock);
	if (choice == CHOICE_TAKEN || choice == CHOICE_LEAVE)
		return b;
	b = buffer_new(s);
	if (b) {
		b->extra = choice == CHOICE_EXTRA;
		return b;
	}
	GUARD(&s->lock);
	if (choice == CHOICE_EXTRA)
		s->extras--;
	else
		s->buffers--;
	return NULL;
}

void fs_buffer_put(struct fs_buffer *b)
{
	struct fs_session *s = b->session;
	bool extra = b->extra;

	if (extra)
		buffer_free(b);
	GUARD(&s->lock);
	if (extra) {
		s->extras--;
	} else {
		b->held = false;
		b->next = s->free;
		s->free = b;
	}
	cond_signal(&s->buffer_back);
}

void fs_buffers_free(struct fs_session *s)
{
	while (s->free) {
		struct fs_buffer *b = s->free;

		s->free = b->next;
		buffer_free(b);
	}
}

/* --- writes ------------------------------------------------------------------------------------ */

static void answer(struct fs_buffer *b)
{
	struct fs_session *s = b->session;
	ssize_t n = b->write.result;
	struct err e = { 0 };

	if (n >= 0 && b->sync) {
		int r = object_sync(b->write.object, &e);

		if (r < 0)
			n = r;
	}
	if (n < 0) {
		fs_reply_code(b->req, "write", b->ino, (int)n, &e);
	} else {
		counter_add(&s->metrics.written_bytes, (uint64_t)n);
		ns_grown(s->ns, b->ino, b->write.offset_bytes + (uint64_t)n);
		(void)fuse_reply_write(b->req, (size_t)n);
	}
	histogram_record(&s->metrics.write_ns, clock_mono_ns() - b->start_ns);
}

/* Answer a write that left its worker, from any thread, and give its buffer back. */
static void finish(struct fs_buffer *b)
{
	struct fs_session *s = b->session;
	uint64_t ino = b->ino;

	fs_interrupt_unwatch(b);
	proto_enter(b->reply_fd, NULL);
	answer(b);
	proto_leave();
	fs_resume_end(b);
	ns_object_put(s->ns, ino);
	fs_buffer_put(b);
	GUARD(&s->lock);
	ASSERT(s->in_flight > 0);
	if (--s->in_flight == 0)
		cond_broadcast(&s->all_answered);
}

static struct fs_buffer *pop_waiting_locked(struct fs_session *s)
{
	struct fs_buffer *b = s->waiting_head;

	if (b) {
		s->waiting_head = b->next;
		if (!b->next)
			s->waiting_tail = NULL;
		b->next = NULL;
	}
	return b;
}

static void push_waiting_locked(struct fs_session *s, struct fs_buffer *b, bool front)
{
	if (front) {
		b->next = s->waiting_head;
		s->waiting_head = b;
		if (!s->waiting_tail)
			s->waiting_tail = b;
		return;
	}
	b->next = NULL;
	if (s->waiting_tail)
		s->waiting_tail->next = b;
	else
		s->waiting_head = b;
	s->waiting_tail = b;
}

static bool remove_waiting_locked(struct fs_session *s, struct fs_buffer *b)
{
	struct fs_buffer *prev = NULL, *at = s->waiting_head;

	for (; at && at != b; at = at->next)
		prev = at;
	if (!at)
		return false;
	if (prev)
		prev->next = b->next;
	else
		s->waiting_head = b->next;
	if (s->waiting_tail == b)
		s->waiting_tail = prev;
	b->next = NULL;
	return true;
}

bool fs_write_cancel_locked(struct fs_buffer *b)
{
	counter_inc(&b->session->metrics.interrupted_writes);
	b->cancelled = true;
	volume_cancel(&b->write);
	return remove_waiting_locked(b->session, b);
}

void fs_write_end_cancelled(struct fs_buffer *b)
{
	int r = volume_submit(&b->write);

	ASSERT(r == 1); /* a cancelled one is never parked */
	finish(b);
}

static void on_parking(struct volume_request *r)
{
	fs_interrupt_watch(r->owner);
}

/* Give the engine what waits here, as far as it takes it. */
static void pump(struct fs_session *s)
{
	for (;;) {
		struct fs_buffer *b;
		bool cancelled, wait;
		int r;

		mutex_lock(&s->lock);
		b = pop_waiting_locked(s);
		if (b)
			s->in_engine++;
		mutex_unlock(&s->lock);
		if (!b)
			return;
		r = volume_submit(&b->write);
		if (r == 0)
			continue;
		mutex_lock(&s->lock);
		s->in_engine--;
		cancelled = b->cancelled;
		/* If nothing is parked any more, nobody else would come and look. */
		wait = r == -EBUSY && !cancelled && s->in_engine > 0;
		if (r == -EBUSY && !cancelled)
			push_waiting_locked(s, b, true);
		mutex_unlock(&s->lock);
		if (wait)
			return;
		if (r == -EBUSY && cancelled)
			fs_write_end_cancelled(b);
		else if (r != -EBUSY)
			finish(b);
	}
}

/* A parked write is done. */
static void parked_done(struct volume_request *r)
{
	struct fs_buffer *b = r->owner;
	struct fs_session *s = b->session;

	mutex_lock(&s->lock);
	s->in_engine--;
	mutex_unlock(&s->lock);
	/* Before the answer: after the last one the session may be closed. */
	pump(s);
	finish(b);
}

void fs_write_start(struct fs_worker *w, struct fs_buffer *b)
{
	struct fs_session *s = w->session;
	bool look, cancelled;
	int r;

	b->write.write = true;
	b->write.parking = on_parking;
	b->write.done = parked_done;
	b->write.owner = b;
	b->reply_fd = w->receive_fd;
	b->start_ns = clock_mono_ns();
	/* Once submitted it may be answered, and b be somebody else's, before we return. */
	b->held = true;
	w->buffer = NULL;
	mutex_lock(&s->lock);
	s->in_flight++;
	s->in_engine++;
	mutex_unlock(&s->lock);
	r = volume_submit(&b->write);
	if (r == 0) {
		counter_inc(&s->metrics.parked_writes);
		return;
	}
	mutex_lock(&s->lock);
	s->in_engine--;
	cancelled = b->cancelled;
	if (r == -EBUSY && !cancelled)
		push_waiting_locked(s, b, false);
	else if (r != -EBUSY)
		s->in_flight--;
	look = s->waiting_head && s->in_engine == 0;
	mutex_unlock(&s->lock);
	if (r == -EBUSY) {
		counter_inc(&s->metrics.parked_writes);
		if (cancelled)
			fs_write_end_cancelled(b);
	} else {
		b->held = false;
		w->buffer = b;
		answer(b);
		ns_object_put(s->ns, b->ino);
	}
	if (look)
		pump(s);
}

unsigned int fs_writes_wait(struct fs_session *s, uint64_t limit_ns)
{
	uint64_t deadline_ns = clock_mono_ns() + limit_ns;

	GUARD(&s->lock);
	while (s->in_flight > 0 && clock_mono_ns() < deadline_ns)
		cond_wait(&s->all_answered, &s->lock, deadline_ns);
	return s->in_flight;
}
