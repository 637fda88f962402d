/*
 * Requests that need what only the store has: reads of it, and cuts and holes that merge with a part
 * of a cluster. A worker that came to one goes on with others; threads of their own wait for the
 * store, as long as it takes: such a request ends with an error only if the data are gone, if its
 * caller is about to die, or at the end of the session.
 *
 * A request is answered by whoever marks it first, under the session's lock: the thread that got its
 * data, or the one that gave it up. That thread may be waiting for the store still, and then only
 * drops it.
 */
#include "common/log.h"
#include "fs/fuse_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <utlist.h>

/* Between two tries while the store is away. */
#define AWAY_PAUSE_NS UINT64_C(300000000)
/* Between two looks at callers that were interrupted and wait on. */
#define LOOK_INTERVAL_MS 200

struct fs_fetch {
	struct fs_session *session; /* constant, as all up to refs */
	struct fs_fetch_read read;
	bool is_slow;
	struct fs_slow slow; /* is_slow: in place of a read */
	pid_t caller;

	unsigned int refs; /* guarded by the session's lock, as all below */
	bool running;	   /* a thread has it */
	bool answered;
	uint64_t interrupt_serial; /* 0: none came */
	struct fs_fetch *prev, *next;
};

static void put_locked(struct fs_fetch *f)
{
	ASSERT(f->refs > 0);
	if (--f->refs == 0)
		free(f);
}

/* The right to answer it, once. */
static bool claim_answer(struct fs_fetch *f)
{
	GUARD(&f->session->lock);
	if (f->answered)
		return false;
	f->answered = true;
	return true;
}

static bool is_over(struct fs_fetch *f)
{
	GUARD(&f->session->lock);
	return f->answered;
}

/* It was claimed: nobody else touches its request. */
static void before_answer(struct fs_fetch *f)
{
	fuse_req_interrupt_func(f->read.req, NULL, NULL); /* waits for a call that runs */
	proto_enter(f->read.reply_fd, NULL);
}

static void after_answer(struct fs_fetch *f)
{
	struct fs_session *s = f->session;

	proto_leave();
	GUARD(&s->lock);
	ASSERT(s->in_flight > 0);
	if (--s->in_flight == 0)
		cond_broadcast(&s->all_answered);
}

/* --- giving up --------------------------------------------------------------------------------- */

/* libfuse holds the request's lock. */
static void on_interrupt(fuse_req_t req, void *data)
{
	struct fs_fetch *f = data;
	struct fs_session *s = f->session;

	(void)req;
	mutex_lock(&s->lock);
	if (f->interrupt_serial == 0)
		f->interrupt_serial = ++s->interrupts;
	mutex_unlock(&s->lock);
	fs_session_wake(s);
}

/* The first one that waits and was interrupted after the serial number given. */
static struct fs_fetch *after_locked(struct fs_session *s, uint64_t serial)
{
	struct fs_fetch *f, *first = NULL;

	DL_FOREACH (s->fetches, f)
		if (!f->answered && f->interrupt_serial > serial &&
		    (!first || f->interrupt_serial < first->interrupt_serial))
			first = f;
	return first;
}

static void give_up(struct fs_fetch *f, int code)
{
	before_answer(f);
	fs_reply_code(f->read.req, f->is_slow ? "setattr or fallocate" : "read", f->read.ino, code,
		      NULL);
	after_answer(f);
}

/* Its caller dies; if it is still there. */
static void cancel(struct fs_session *s, uint64_t serial)
{
	struct fs_fetch *f;

	mutex_lock(&s->lock);
	f = after_locked(s, serial - 1);
	if (f && f->interrupt_serial == serial) {
		f->answered = true;
		f->refs++;
	} else {
		f = NULL;
	}
	mutex_unlock(&s->lock);
	if (!f)
		return;
	counter_inc(&s->metrics.interrupted_reads);
	give_up(f, -EINTR);
	GUARD(&s->lock);
	put_locked(f);
	cond_broadcast(&s->fetch_more); /* its thread need not wait on */
}

int fs_fetches_look(struct fs_session *s)
{
	uint64_t serial = 0;
	int wait_ms = -1;

	for (;;) {
		struct fs_fetch *f;
		pid_t caller = 0;

		mutex_lock(&s->lock);
		f = after_locked(s, serial);
		if (f) {
			serial = f->interrupt_serial;
			caller = f->caller;
		}
		mutex_unlock(&s->lock);
		if (!f)
			return wait_ms;
		if (fs_caller_is_dying(caller))
			cancel(s, serial);
		else
			wait_ms = LOOK_INTERVAL_MS;
	}
}

void fs_fetches_cancel(struct fs_session *s)
{
	for (;;) {
		struct fs_fetch *f;

		mutex_lock(&s->lock);
		s->fetch_end = true;
		DL_FOREACH (s->fetches, f)
			if (!f->answered)
				break;
		if (f) {
			f->answered = true;
			f->refs++;
		}
		cond_broadcast(&s->fetch_more);
		mutex_unlock(&s->lock);
		if (!f)
			return;
		give_up(f, -ESHUTDOWN);
		GUARD(&s->lock);
		put_locked(f);
	}
}

/* --- doing it ---------------------------------------------------------------------------------- */

/* Until the time is over or somebody gave it up. True: it is the end. */
static bool pause_while_away(struct fs_fetch *f)
{
	struct fs_session *s = f->session;
	uint64_t until_ns = clock_mono_ns() + AWAY_PAUSE_NS;

	GUARD(&s->lock);
	while (!f->answered && !s->fetch_end && clock_mono_ns() < until_ns)
		cond_wait(&s->fetch_more, &s->lock, until_ns);
	return s->fetch_end;
}

/* Bytes, or negative; -EREMOTEIO: somebody else has answered. */
static ssize_t fetch(struct fs_fetch *f, struct object *o, uint64_t offset_bytes, void *dst,
		     size_t len_bytes, struct err *e)
{
	ssize_t n = -EREMOTEIO;

	while (n == -EREMOTEIO && !is_over(f)) {
		n = object_read(o, offset_bytes, dst, len_bytes, e);
		if (n == -EREMOTEIO && pause_while_away(f))
			return -ESHUTDOWN;
	}
	return n;
}

static void run_read(struct fs_fetch *f, uint8_t *buf)
{
	struct fs_session *s = f->session;
	struct err e = { 0 };
	ssize_t n = -ENOMEM;

	if (buf)
		n = fetch(f, f->read.object, f->read.offset_bytes, buf, f->read.len_bytes, &e);
	if (claim_answer(f)) {
		before_answer(f);
		if (n < 0) {
			fs_reply_code(f->read.req, "read", f->read.ino, (int)n, &e);
		} else {
			counter_add(&s->metrics.read_bytes, (uint64_t)n);
			(void)fuse_reply_buf(f->read.req, (const char *)buf, (size_t)n);
		}
		histogram_record(&s->metrics.read_ns, clock_mono_ns() - f->read.start_ns);
		ns_object_put(s->ns, f->read.ino);
		after_answer(f);
	} else {
		ns_object_put(s->ns, f->read.ino);
	}
}

/* The clusters of which a part changes: where the range begins and where it ends. */
static unsigned int edges(const struct fs_slow *job, uint64_t edge[2])
{
	unsigned int count = 0;

	if (job->set.valid & NS_SET_SIZE) {
		edge[count++] = job->set.size_bytes;
	} else if (job->len_bytes) {
		edge[count++] = job->offset_bytes;
		edge[count++] = job->offset_bytes + job->len_bytes;
	}
	return count;
}

static void run_slow(struct fs_fetch *f, uint8_t *buf)
{
	struct fs_session *s = f->session;
	uint64_t edge[2];
	unsigned int count = edges(&f->slow, edge);
	struct object *o;
	struct err e = { 0 };
	int r = ns_object_get(s->ns, f->read.ino, &o, &e);

	/* What is wrong with them, the operation finds itself. */
	for (unsigned int i = 0; r == 0 && buf && i < count; i++)
		(void)fetch(f, o, edge[i], buf, 1, &e);
	if (r == 0)
		ns_object_put(s->ns, f->read.ino);
	if (!claim_answer(f))
		return;
	before_answer(f);
	f->slow.run(s, &f->slow);
	after_answer(f);
}

static struct fs_fetch *take_locked(struct fs_session *s)
{
	struct fs_fetch *f;

	DL_FOREACH (s->fetches, f)
		if (!f->running)
			break;
	if (f) {
		f->running = true;
		s->fetches_queued--;
	}
	return f;
}

static void drop(struct fs_fetch *f)
{
	GUARD(&f->session->lock);
	DL_DELETE(f->session->fetches, f);
	put_locked(f);
}

/* Who asks waits as long as there is no memory; NULL: it is the end. */
static uint8_t *fetcher_buffer(struct fs_session *s)
{
	for (;;) {
		void *buf = mmap(NULL, FS_IO_BYTES_MAX, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (buf != MAP_FAILED)
			return buf;
		GUARD(&s->lock);
		if (s->fetch_end)
			return NULL;
		await_memory(&s->lock);
	}
}

static void fetcher_main(void *arg)
{
	struct fs_session *s = arg;
	uint8_t *buf = fetcher_buffer(s);

	for (;;) {
		struct fs_fetch *f;

		mutex_lock(&s->lock);
		s->fetchers_idle++;
		while (!(f = take_locked(s)) && !s->fetch_end)
			cond_wait(&s->fetch_more, &s->lock, WAIT_FOREVER);
		s->fetchers_idle--;
		mutex_unlock(&s->lock);
		if (!f)
			break;
		if (f->is_slow)
			run_slow(f, buf);
		else
			run_read(f, buf);
		drop(f);
	}
	if (buf)
		(void)munmap(buf, FS_IO_BYTES_MAX);
}

/* --- taking it --------------------------------------------------------------------------------- */

/* One more thread if all are busy. With none at all nobody would ever serve it. */
static int have_thread_locked(struct fs_session *s)
{
	int r;

	if (s->fetchers_idle >= s->fetches_queued || s->fetchers == FS_FETCHERS)
		return 0;
	r = thread_start("fuse-fetch", fetcher_main, s, &s->fetcher[s->fetchers]);
	if (r == 0)
		s->fetchers++;
	return s->fetchers ? 0 : r;
}

static int enqueue(struct fs_session *s, struct fs_fetch *f)
{
	int r;

	f->refs = 1;
	f->caller = fuse_req_ctx(f->read.req)->pid;
	mutex_lock(&s->lock);
	s->fetches_queued++;
	r = have_thread_locked(s);
	if (r < 0) {
		s->fetches_queued--;
		mutex_unlock(&s->lock);
		return r;
	}
	s->in_flight++;
	f->refs++; /* ours, for the watch */
	DL_APPEND(s->fetches, f);
	mutex_unlock(&s->lock);
	return 0;
}

/* From here on anybody may answer it. */
static void release(struct fs_session *s, struct fs_fetch *f)
{
	GUARD(&s->lock);
	put_locked(f);
	cond_signal(&s->fetch_more);
}

static int start(struct fs_session *s, struct fs_fetch *f)
{
	int r;

	/* Before anybody else has it: an INTERRUPT that is here already calls at once. */
	f->session = s;
	fuse_req_interrupt_func(f->read.req, on_interrupt, f);
	r = enqueue(s, f);
	if (r < 0)
		fuse_req_interrupt_func(f->read.req, NULL, NULL);
	else
		release(s, f);
	return r;
}

void fs_fetch_read(struct fs_session *s, const struct fs_fetch_read *read)
{
	struct fs_fetch *f = calloc(1, sizeof(*f));
	int r = f ? 0 : -ENOMEM;

	counter_inc(&s->metrics.fetched_reads);
	if (f) {
		f->read = *read;
		r = start(s, f);
	}
	if (r == 0)
		return;
	free(f);
	proto_enter(read->reply_fd, NULL);
	fs_reply_code(read->req, "read", read->ino, r, NULL);
	proto_leave();
	ns_object_put(s->ns, read->ino);
}

static bool is_near(struct fs_session *s, const struct fs_slow *job)
{
	uint64_t edge[2];
	unsigned int count = edges(job, edge);
	struct object *o;
	struct err unused;
	bool near = true;

	if (ns_object_get(s->ns, job->ino, &o, &unused) < 0)
		return true; /* it finds out itself */
	for (unsigned int i = 0; i < count && near; i++)
		near = edge[i] % CLUSTER_BYTES == 0 || object_is_near(o, edge[i], 1);
	ns_object_put(s->ns, job->ino);
	return near;
}

bool fs_fetch_slow(struct fs_session *s, const struct fs_slow *job)
{
	struct fs_fetch *f;

	if (is_near(s, job))
		return false;
	f = calloc(1, sizeof(*f));
	if (!f)
		return false; /* it waits where it is run */
	f->is_slow = true;
	f->slow = *job;
	f->read = (struct fs_fetch_read){ .req = job->req,
					  .ino = job->ino,
					  .reply_fd = fs_worker_current()->receive_fd };
	if (start(s, f) == 0)
		return true;
	free(f);
	return false;
}

void fs_fetch_done(struct fs_session *s)
{
	unsigned int count;

	mutex_lock(&s->lock);
	s->fetch_end = true;
	cond_broadcast(&s->fetch_more);
	count = s->fetchers;
	mutex_unlock(&s->lock);
	for (unsigned int i = 0; i < count; i++)
		thread_join(TAKE_PTR(s->fetcher[i]));
}
