#include "fs/fuse_session.h"

#include "common/log.h"
#include "common/units.h"
#include "fs/fuse_hold.h"
#include "fs/fuse_impl.h"
#include "fs/fuse_mount.h"
#include "fs/fuse_mountpoint.h"

#include <fuse3/fuse_log.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#define THREADS_DEFAULT	       8u
#define MAX_BACKGROUND_DEFAULT 1024u
#define PARKED_MAX_DEFAULT     256u

/* Stop: how long the unmount may take, and how long open files may hold a detached mount. */
#define STOP_UNMOUNT_NS	 (10 * NS_PER_SEC)
#define STOP_DETACHED_NS (1 * NS_PER_SEC)
/*
 * Stop: how long requests that wait for room may go on doing so once none is read any more: longer than
 * a write is ever delayed to slow its writer down, so that only those without room are given up.
 */
#define STOP_ROOM_NS (3 * NS_PER_SEC)
/* The same where the next process goes on with them. */
#define HAND_OVER_ROOM_NS (NS_PER_SEC / 4)
/* And then how long their answers may take, with what they have to sync. */
#define STOP_ANSWER_NS (20 * NS_PER_SEC)
/* A worker is told so often that it should leave read(2): a signal may come just before. */
#define KICK_INTERVAL_MS 5
#define KICK_SIGNAL	 (SIGRTMIN + 2)
/* Failures one after the other, and what is between two of them. */
#define RECEIVE_FAILURES_MAX 500u
#define RECEIVE_PAUSE_MS     10

static __thread struct fs_worker *worker_current;
static __thread bool libfuse_is_quiet;

struct fs_worker *fs_worker_current(void)
{
	return worker_current;
}

STATIC_ASSERT(2 * FS_THREADS_MAX + 1 <= PROTO_CHANNELS_MAX, "each thread has two channels");

static const struct metric_def metric_defs[] = {
	METRIC_COUNTER(struct fs_session_metrics, requests, "requests",
		       "Requests received from the kernel."),
	METRIC_COUNTER(struct fs_session_metrics, errors, "requests",
		       "Requests answered with an error."),
	METRIC_COUNTER(struct fs_session_metrics, read_bytes, "bytes", "Bytes read by users."),
	METRIC_COUNTER(struct fs_session_metrics, written_bytes, "bytes",
		       "Bytes written by users."),
	METRIC_COUNTER(struct fs_session_metrics, parked_writes, "requests",
		       "Writes that had to wait for room."),
	METRIC_COUNTER(struct fs_session_metrics, interrupted_writes, "requests",
		       "Writes that waited for room until their caller was killed."),
	METRIC_COUNTER(struct fs_session_metrics, fetched_reads, "requests",
		       "Reads of what only the backend had."),
	METRIC_COUNTER(struct fs_session_metrics, interrupted_reads, "requests",
		       "Requests that waited for the backend until their caller was killed."),
	METRIC_COUNTER(struct fs_session_metrics, untracked_changes, "requests",
		       "Changes that the next daemon could do twice, for want of a slot."),
	METRIC_HISTOGRAM(struct fs_session_metrics, read_ns, "Time of one READ."),
	METRIC_HISTOGRAM(struct fs_session_metrics, write_ns, "Time of one WRITE."),
};

const struct fs_session_metrics *fs_session_metrics(const struct fs_session *s)
{
	return &s->metrics;
}

/* --- workers ----------------------------------------------------------------------------------- */

void fs_session_wake(struct fs_session *s)
{
	uint64_t one = 1;
	ssize_t n = write(s->wake_fd, &one, sizeof(one));

	(void)n; /* the counter is full: it wakes all the same */
}

static bool is_set(const bool *flag)
{
	return __atomic_load_n(flag, __ATOMIC_ACQUIRE);
}

static void set(bool *flag, bool value)
{
	__atomic_store_n(flag, value, __ATOMIC_SEQ_CST);
}

/*
 * The next request into the worker's buffer. One that has reads in flight does not wait for it, but
 * for them. Bytes, or -EAGAIN: none now.
 */
static ssize_t receive(struct fs_worker *w, uint8_t *start)
{
	ssize_t n;

	if (fs_reads_are_in_flight(w->reads) && w->try_fd >= 0) {
		fs_reads_make_room(w->reads);
		w->receive_fd = w->try_fd;
		n = proto_receive(w->try_fd, start);
		if (n == -EAGAIN)
			fs_reads_answer(w->reads, true);
		return n;
	}
	fs_reads_finish(w->reads);
	w->receive_fd = w->fd;
	set(&w->receiving, true);
	n = proto_receive(w->fd, start);
	set(&w->receiving, false);
	return n;
}

/*
 * The kernel is short of memory, or the like: a request that it could not copy to us it has answered
 * itself. That may pass; what does not is told. -ENODEV: unmounted.
 */
static int failed_to_receive(struct fs_worker *w, int r)
{
	if (r == -EAGAIN)
		return 0;
	if (r == -ENODEV || ++w->failures > RECEIVE_FAILURES_MAX)
		return r;
	(void)poll(NULL, 0, RECEIVE_PAUSE_MS);
	return 0;
}

/* One request, from receiving to its answer. -ENODEV: unmounted. */
static int serve_one(struct fs_worker *w)
{
	struct fs_session *s = w->session;
	struct fuse_buf request = { 0 };
	bool init, read;
	uint8_t *start;
	ssize_t n;

	if (!w->buffer && fs_reads_are_in_flight(w->reads)) {
		w->buffer = fs_buffer_get(s, false);
		/* There may be none before a write that waits for room has it. */
		if (!w->buffer)
			fs_reads_finish(w->reads);
	}
	if (!w->buffer)
		w->buffer = fs_buffer_get(s, true);
	if (!w->buffer) {
		if (is_set(&s->leave))
			return -ENODEV;
		(void)poll(NULL, 0, RECEIVE_PAUSE_MS); /* no memory; others have buffers, or will */
		return 0;
	}
	start = w->buffer->base + 4096 - PROTO_WRITE_HEADER_BYTES;
	n = receive(w, start);
	if (n < 0)
		return failed_to_receive(w, (int)n);
	w->failures = 0;
	counter_inc(&s->metrics.requests);
	request.mem = start;
	request.size = (size_t)n;
	init = proto_is_init(start, (size_t)n);
	read = proto_is_read(start, (size_t)n);
	/* Anything else may take its time: reads don't wait for that. */
	if (!read && !proto_is_write(start, (size_t)n))
		fs_reads_finish(w->reads);
	fs_resume_enter(w, start, (size_t)n);
	proto_enter(w->receive_fd, start);
	fuse_session_process_buf(s->fuse, &request);
	proto_leave();
	fs_resume_leave(w);
	if (!read && fs_reads_are_in_flight(w->reads))
		fs_reads_answer(w->reads, false);
	if (init) {
		if (s->resume)
			__atomic_store_n(&s->resume->header->init_answered, 1, __ATOMIC_SEQ_CST);
		set(&s->ready, true);
	}
	return 0;
}

static void worker_main(void *arg)
{
	struct fs_worker *w = arg;
	struct fs_session *s = w->session;
	sigset_t kick;
	int r = 0;

	w->pthread = pthread_self();
	(void)sigemptyset(&kick);
	(void)sigaddset(&kick, KICK_SIGNAL);
	(void)pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	worker_current = w;
	proto_set_channels(&s->channels);
	while (r == 0 && !is_set(&s->leave))
		r = serve_one(w);
	fs_reads_finish(w->reads);
	if (r < 0 && r != -ENODEV) {
		log_error("fs: a thread stopped serving: %s", err_name(r));
		set(&s->failed, true);
	}
	(void)__atomic_sub_fetch(&s->running, 1, __ATOMIC_SEQ_CST);
	fs_session_wake(s);
}

/* Only its being handled matters: read(2) ends with EINTR. */
static void on_kick(int signal)
{
	(void)signal;
}

static void open_channels(struct fs_session *s)
{
	s->channels.fd[s->channels.count++] = fuse_session_fd(s->fuse);
	for (unsigned int i = 0; i < s->threads; i++) {
		struct fs_worker *w = &s->worker[i];

		if (proto_clone(fuse_session_fd(s->fuse), &w->fd) < 0)
			w->fd = fuse_session_fd(s->fuse);
		s->channels.fd[s->channels.count++] = w->fd;
		if (proto_clone_nonblocking(fuse_session_fd(s->fuse), &w->try_fd) < 0)
			w->try_fd = -1;
		else
			s->channels.fd[s->channels.count++] = w->try_fd;
	}
}

static int worker_init(struct fs_session *s, unsigned int index, struct err *e)
{
	struct fs_worker *w = &s->worker[index];
	void *reply;

	w->session = s;
	w->index = index;
	reply = mmap(NULL, FS_REPLY_BYTES, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (reply == MAP_FAILED)
		return err_set(e, -ENOMEM, "no memory for %u threads", s->threads);
	w->reply = reply;
	return fs_reads_open(s, &w->reads, e);
}

static void worker_done(struct fs_worker *w)
{
	if (w->buffer)
		fs_buffer_put(TAKE_PTR(w->buffer));
	if (w->reply)
		(void)munmap(w->reply, FS_REPLY_BYTES);
	w->reply = NULL;
	fs_reads_close(TAKE_PTR(w->reads));
	if (w->try_fd >= 0)
		(void)close(w->try_fd);
	w->try_fd = -1;
	if (w->fd >= 0 && w->fd != fuse_session_fd(w->session->fuse))
		(void)close(w->fd);
	w->fd = -1;
}

/* --- open -------------------------------------------------------------------------------------- */

/* What libfuse says, on one line of ours. */
__attribute__((format(printf, 2, 0))) static void on_libfuse_log(enum fuse_log_level level,
								 const char *fmt, va_list ap)
{
	char text[512];

	if (libfuse_is_quiet || vsnprintf(text, sizeof(text), fmt, ap) < 0)
		return;
	text[strcspn(text, "\n")] = '\0';
	if (level <= FUSE_LOG_WARNING)
		log_warning("fs: libfuse: %s", text);
	else
		log_debug("fs: libfuse: %s", text);
}

static int make_fuse(struct fs_session *s, const struct fs_mount_options *o, struct err *e)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	int r = fs_mount_args(o, &args);

	if (!o->debug)
		fuse_set_log_func(on_libfuse_log);
	if (r == 0) {
		s->fuse = fuse_session_new(&args, &fs_fuse_ops, sizeof(fs_fuse_ops), s);
		if (!s->fuse)
			r = err_set(e, -EINVAL, "mount options are refused");
	}
	fuse_opt_free_args(&args);
	return r;
}

/* What can go wrong before the kernel is asked. */
static int prepare(struct fs_session *s, const struct fs_mount_options *o, struct err *e)
{
	/* Of a mount that waits to be served nobody may ask: who would answer? */
	int r = o->channels ? 0 : mountpoint_prepare(o->mountpoint, e);

	if (r < 0)
		return r;
	s->source = strdup(o->source);
	if (!s->source)
		return err_set(e, -ENOMEM, "no memory for a session");
	s->mountpoint = o->channels ? strdup(o->mountpoint) : realpath(o->mountpoint, NULL);
	if (!s->mountpoint) {
		r = -errno;
		return err_set(e, r, "mount point '%s': %s", o->mountpoint, err_name(r));
	}
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->wake_fd < 0) {
		r = -errno;
		return err_set(e, r, "eventfd: %s", err_name(r));
	}
	return 0;
}

static int mount_it(struct fs_session *s, struct err *e)
{
	int r;

	if (fuse_session_mount(s->fuse, s->mountpoint) < 0)
		return err_set(e, -EIO, "mounting on '%s' failed", s->mountpoint);
	s->mounted = true;
	r = fuse_session_custom_io(s->fuse, &proto_io, fuse_session_fd(s->fuse));
	if (r < 0)
		return err_set(e, r, "channel of '%s': %s", s->mountpoint, err_name(r));
	open_channels(s);
	return 0;
}

static void set_limits(struct fs_session *s, const struct fs_mount_options *o)
{
	unsigned int parked = o->parked_max ? o->parked_max : PARKED_MAX_DEFAULT;

	s->threads = o->threads ? o->threads : THREADS_DEFAULT;
	if (s->threads > FS_THREADS_MAX)
		s->threads = FS_THREADS_MAX;
	/* A channel of a holder for each, and another one. */
	if (o->channels && o->channels->count > 1 && s->threads > (o->channels->count - 1) / 2)
		s->threads = (o->channels->count - 1) / 2;
	s->max_background = o->max_background ? o->max_background : MAX_BACKGROUND_DEFAULT;
	s->buffers_max = s->threads + parked;
	s->unbounded = o->unbounded;
	s->report_full = o->report_full;
	s->sync_names = o->sync_names;
}

uint32_t fs_session_slots(const struct fs_mount_options *o)
{
	unsigned int threads = o->threads ? o->threads : THREADS_DEFAULT;
	unsigned int parked = o->parked_max ? o->parked_max : PARKED_MAX_DEFAULT;
	unsigned int background = o->max_background ? o->max_background : MAX_BACKGROUND_DEFAULT;

	if (threads > FS_THREADS_MAX)
		threads = FS_THREADS_MAX;
	return 2 * (threads + parked + background + FS_BUFFERS_EXTRA_SLACK);
}

int fs_session_open(struct ns *ns, struct pool *pool, const struct fs_mount_options *options,
		    struct fs_session **ret_session, struct err *e)
{
	struct fs_session *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(e, -ENOMEM, "no memory for a session");
	s->wake_fd = -1;
	s->ns = ns;
	s->pool = pool;
	set_limits(s, options);
	for (unsigned int i = 0; i < FS_THREADS_MAX; i++)
		s->worker[i].fd = s->worker[i].try_fd = -1;
	mutex_init(&s->lock, 0);
	cond_init(&s->buffer_back);
	cond_init(&s->all_answered);
	cond_init(&s->slow_more);
	cond_init(&s->fetch_more);
	s->metrics_group = (struct metrics_group){
		.name = "fuse",
		.defs = metric_defs,
		.def_count = ARRAY_SIZE(metric_defs),
		.values = &s->metrics,
	};
	metrics_add(pool_metrics(pool), &s->metrics_group);
	r = prepare(s, options, e);
	if (r == 0)
		r = make_fuse(s, options, e);
	if (r == 0)
		r = options->channels ? fs_resume_open(s, options, e) : mount_it(s, e);
	for (unsigned int i = 0; i < s->threads && r == 0; i++)
		r = worker_init(s, i, e);
	if (r < 0) {
		fs_session_close(s);
		return r;
	}
	*ret_session = s;
	return 0;
}

/* --- run and stop ------------------------------------------------------------------------------ */

static int start_workers(struct fs_session *s, struct err *e)
{
	struct sigaction action = { .sa_handler = on_kick };

	(void)sigemptyset(&action.sa_mask);
	if (sigaction(KICK_SIGNAL, &action, NULL) < 0)
		return err_set(e, -EINVAL, "no handler for signal %d", KICK_SIGNAL);
	for (unsigned int i = 0; i < s->threads; i++) {
		struct fs_worker *w = &s->worker[i];
		char name[16];
		int r;

		(void)snprintf(name, sizeof(name), "fuse-%u", i);
		(void)__atomic_add_fetch(&s->running, 1, __ATOMIC_SEQ_CST);
		r = thread_start(name, worker_main, w, &w->thread);
		if (r < 0) {
			(void)__atomic_sub_fetch(&s->running, 1, __ATOMIC_SEQ_CST);
			return err_set(e, r, "starting thread %u of %u: %s", i + 1, s->threads,
				       err_name(r));
		}
	}
	return 0;
}

/* Until the eventfd is written or the time is over. */
static void wait_wake(struct fs_session *s, int timeout_ms)
{
	struct pollfd p = { .fd = s->wake_fd, .events = POLLIN };
	uint64_t count;

	if (poll(&p, 1, timeout_ms) > 0) {
		ssize_t n = read(s->wake_fd, &count, sizeof(count));

		(void)n; /* only the wake-up counts */
	}
}

static unsigned int running(struct fs_session *s)
{
	return __atomic_load_n(&s->running, __ATOMIC_SEQ_CST);
}

/* Wait for the workers' end; false: the time is over. */
static bool wait_workers(struct fs_session *s, const bool *until, uint64_t limit_ns)
{
	uint64_t deadline_ns = clock_mono_ns() + limit_ns;

	while (running(s) > 0 && !(until && is_set(until))) {
		if (clock_mono_ns() >= deadline_ns)
			return false;
		wait_wake(s, 100);
	}
	return true;
}

static void unmount_main(void *arg)
{
	struct fs_session *s = arg;

	mountpoint_detach(s->mountpoint);
	set(&s->detached, true);
	fs_session_wake(s);
}

/*
 * Unmount while the workers still serve, so that the kernel can write back what it holds and say
 * good-bye. Files that are open keep a detached mount alive: they get a moment, not more.
 */
static void detach(struct fs_session *s)
{
	if (running(s) == 0 || thread_start("unmount", unmount_main, s, &s->unmounter) < 0)
		return;
	if (!wait_workers(s, &s->detached, STOP_UNMOUNT_NS))
		log_warning("fs: unmounting takes too long, cutting it off: mountpoint='%s'",
			    s->mountpoint);
	(void)wait_workers(s, NULL, STOP_DETACHED_NS);
}

static unsigned int in_flight(struct fs_session *s)
{
	return fs_writes_wait(s, 0);
}

/* Who waits for room gets no more of it; once. */
static void give_up_waits(struct fs_session *s)
{
	if (s->gave_up)
		return;
	s->gave_up = true;
	if (is_set(&s->hand_over) && !is_set(&s->stop)) {
		log_info("fs: requests that wait are left to the next daemon: count=%u",
			 in_flight(s));
		proto_fall_silent();
	} else {
		log_warning("fs: stopping while requests wait for room, which fail now: parked=%u",
			    in_flight(s));
	}
	pool_cancel_waits(s->pool);
	fs_fetches_cancel(s);
}

/* Workers that wait for a request are sent away; the others end theirs first. */
static void dismiss_workers(struct fs_session *s, uint64_t give_up_ns)
{
	fs_notify_end(s);
	while (running(s) > 0 && fs_notify_running(s) > 0) {
		wait_wake(s, KICK_INTERVAL_MS);
		if (clock_mono_ns() >= give_up_ns)
			give_up_waits(s);
	}
	set(&s->leave, true);
	mutex_lock(&s->lock);
	cond_broadcast(&s->buffer_back);
	mutex_unlock(&s->lock);
	while (running(s) > 0) {
		for (unsigned int i = 0; i < s->threads; i++)
			if (is_set(&s->worker[i].receiving))
				(void)pthread_kill(s->worker[i].pthread, KICK_SIGNAL);
		wait_wake(s, KICK_INTERVAL_MS);
		if (clock_mono_ns() >= give_up_ns)
			give_up_waits(s);
	}
	for (unsigned int i = 0; i < s->threads; i++)
		if (s->worker[i].thread)
			thread_join(TAKE_PTR(s->worker[i].thread));
}

/* -1: for ever. */
static int shorter_ms(int a, int b)
{
	return a < 0 || (b >= 0 && b < a) ? b : a;
}

int fs_session_run(struct fs_session *s, struct err *e)
{
	uint64_t give_up_ns;
	unsigned int waiting;
	int r = fs_slow_init(s);

	r = r < 0 ? err_set(e, r, "starting threads: %s", err_name(r)) : fs_resume_begin(s, e);
	if (r == 0)
		r = start_workers(s, e);
	while (r == 0 && running(s) == s->threads && !is_set(&s->stop) && !is_set(&s->hand_over))
		wait_wake(s, shorter_ms(fs_interrupts_look(s), fs_fetches_look(s)));
	if (is_set(&s->stop)) /* there is no next process */
		hold_end();
	if (r == 0 && is_set(&s->stop))
		detach(s);
	give_up_ns = clock_mono_ns() + (is_set(&s->hand_over) ? HAND_OVER_ROOM_NS : STOP_ROOM_NS);
	dismiss_workers(s, give_up_ns);
	waiting = fs_writes_wait(s, give_up_ns - min_u64(give_up_ns, clock_mono_ns()));
	if (waiting > 0) {
		give_up_waits(s);
		waiting = fs_writes_wait(s, STOP_ANSWER_NS);
	}
	if (waiting > 0) {
		log_error("fs: requests that were never acknowledged are given up: count=%u",
			  waiting);
		s->abandoned = true;
	} else {
		fs_slow_done(s);
	}
	fs_fetch_done(s);
	if (r == 0 && is_set(&s->failed))
		r = err_set(e, -EIO, "the channel of '%s' broke", s->mountpoint);
	return r;
}

void fs_session_stop(struct fs_session *s)
{
	set(&s->stop, true);
	fs_session_wake(s);
}

void fs_session_hand_over(struct fs_session *s)
{
	set(&s->hand_over, true);
	fs_session_wake(s);
}

bool fs_session_is_handed_over(const struct fs_session *s)
{
	return is_set(&s->hand_over) && !is_set(&s->stop);
}

void fs_session_report_full(struct fs_session *s, bool report_full)
{
	__atomic_store_n(&s->report_full, report_full, __ATOMIC_RELAXED);
}

bool fs_session_is_ready(const struct fs_session *s)
{
	return is_set(&s->ready);
}

void fs_session_close(struct fs_session *s)
{
	if (!s)
		return;
	metrics_remove(pool_metrics(s->pool), &s->metrics_group);
	fs_copies_forget(s, 0);
	/* All ends of the channel first: an unmount that nobody serves would wait for ever. */
	for (unsigned int i = 0; i < FS_THREADS_MAX; i++)
		if (s->worker[i].session)
			worker_done(&s->worker[i]);
	if (s->mounted) {
		/* If files were open, libfuse does not see that the path is no mount any more. */
		libfuse_is_quiet = is_set(&s->detached);
		fuse_session_unmount(s->fuse);
		libfuse_is_quiet = false;
	}
	if (s->unmounter)
		thread_join(s->unmounter);
	if (s->resume)
		hold_close();
	if (s->fuse)
		fuse_session_destroy(s->fuse);
	if (s->wake_fd >= 0)
		(void)close(s->wake_fd);
	free(s->mountpoint);
	free(s->source);
	if (s->abandoned) /* the engine still holds requests that lie in our buffers */
		return;
	fs_buffers_free(s);
	cond_done(&s->slow_more);
	cond_done(&s->fetch_more);
	cond_done(&s->all_answered);
	cond_done(&s->buffer_back);
	mutex_done(&s->lock);
	free(s);
}
