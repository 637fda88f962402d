#include "fs/daemon.h"

#include "common/log.h"
#include "common/thread.h"
#include "fs/control.h"
#include "fs/fuse_proto.h"
#include "fs/fuse_session.h"
#include "fs/holder.h"
#include "fs/namespace.h"
#include "fs/pool_setup.h"
#include "fs/reload.h"
#include "fs/restart.h"
#include "fs/resume.h"
#include "fs/scheduler.h"
#include "fs/service.h"
#include "fs/trash_keeper.h"

#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* What malloc does not take from a heap, but from the system, which has it back when it is freed. */
#define HEAP_BLOCK_MAX (2 << 20)

/* How long until a mount that could not answer is asked again. */
#define READY_PAUSE_MS 50

struct daemon {
	const struct daemon_options *o;
	struct pool *pool;
	struct ns *ns;
	struct fs_session *session;
	struct service *service;
	struct control *control;
	struct trash_keeper *trash; /* NULL: nothing may be removed */
	struct reload *reload;
	struct restart *restart;
	struct scheduler *scheduler;	/* NULL: read-only */
	struct proto_channels channels; /* under a holder */
	int signal_fd;
	int end_fd; /* an eventfd: readable once the session ended */
	bool logging;
	bool has_terminal; /* whose end is ours */
	struct thread *signal_thread, *ready_thread;

	struct mutex lock; /* leaf but for what a signal does; guards the two below */
	bool told_to_stop;
	bool stopping; /* the session is about to be closed */

	bool ended; /* the session came to its end, and not to an error */
};

/* --- threads beside the session ---------------------------------------------------------------- */

static void handle_signals(struct daemon *d)
{
	struct signalfd_siginfo info;
	struct err e = { 0 };

	if (read(d->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	GUARD(&d->lock);
	if (info.ssi_signo == SIGHUP && !d->has_terminal) {
		if (!d->stopping)
			(void)!reload_run(d->reload, NULL, &e); /* the log has it */
		return;
	}
	log_info("mount: stopping%s: mountpoint='%s' signal=%u sender=%u",
		 d->stopping || d->told_to_stop ? " without an upload" : "", d->o->mountpoint,
		 info.ssi_signo, info.ssi_pid);
	/* Who says it again means that it should not wait for the backend. */
	if (d->stopping || d->told_to_stop)
		pool_cancel_uploads(d->pool);
	if (!d->stopping)
		fs_session_stop(d->session);
	d->told_to_stop = true;
}

static void signal_main(void *arg)
{
	struct daemon *d = arg;
	struct pollfd fds[2] = { { .fd = d->signal_fd, .events = POLLIN },
				 { .fd = d->end_fd, .events = POLLIN } };

	for (;;) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return;
		if (fds[1].revents)
			return;
		if (fds[0].revents)
			handle_signals(d);
	}
}

/* Whether the mount answers: outlives the daemon, for who asks may do so until the process ends. */
enum ready { READY_ASKING, READY_TELLING, READY_LEFT };
static int ready_state;	   /* atomic; enum ready */
static bool ready_is_late; /* atomic: the session has ended */

static bool ready_becomes(enum ready to)
{
	int was = READY_ASKING;

	return __atomic_compare_exchange_n(&ready_state, &was, (int)to, false, __ATOMIC_SEQ_CST,
					   __ATOMIC_SEQ_CST);
}

/*
 * The kernel answers once the session does, or fails once the session is gone. Until READY_TELLING
 * the daemon may end meanwhile.
 */
static void ready_main(void *arg)
{
	struct daemon *d = arg;
	const char *mountpoint = d->o->mountpoint;
	struct statvfs space;

	while (statvfs(mountpoint, &space) < 0) {
		if (errno == ENOTCONN || errno == ECONNABORTED ||
		    __atomic_load_n(&ready_is_late, __ATOMIC_SEQ_CST))
			return; /* the session ended before it began: its error is told */
		/* Who waits for the mount is told when it does answer. */
		(void)poll(NULL, 0, READY_PAUSE_MS);
	}
	if (!ready_becomes(READY_TELLING))
		return;
	log_info("mount: mounted: pool='%s' mountpoint='%s' pid=%d", d->o->setup->dir,
		 d->o->mountpoint, (int)getpid());
	if (d->o->resume)
		holder_tell(HOLDER_SERVING);
	d->o->ready(d->o->arg);
}

/* --- start and end ----------------------------------------------------------------------------- */

static int open_log(struct daemon *d, struct err *e)
{
	const struct daemon_options *o = d->o;
	const char *file = o->setup->config.log.file;
	char *path = NULL;
	int r;

	if (!file[0] && !o->foreground)
		file = DAEMON_LOG_NAME;
	if (asprintf(&path, "%s%s%s", file[0] && file[0] != '/' ? o->setup->dir : "",
		     file[0] && file[0] != '/' ? "/" : "", file) < 0)
		return err_set(e, -ENOMEM, "%s", err_name(-ENOMEM));
	r = log_open(path, o->setup->config.log.level);
	if (r < 0)
		(void)err_set(e, r, "log '%s': %s", path, err_name(r));
	free(path);
	d->logging = r == 0;
	return r;
}

/* Before there is a second thread: all of them inherit what is blocked. */
static int block_signals(struct daemon *d, struct err *e)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGHUP);
	(void)signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return err_set(e, -errno, "signals: %s", err_name(-errno));
	d->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	d->end_fd = eventfd(0, EFD_CLOEXEC);
	if (d->signal_fd < 0 || d->end_fd < 0)
		return err_set(e, -errno, "signals: %s", err_name(-errno));
	return 0;
}

static bool backend_is_directory(const char *url)
{
	return url[0] == '\0' || strncmp(url, "file:", strlen("file:")) == 0;
}

void daemon_mount_options(const struct daemon_options *o, struct fs_mount_options *ret_mount)
{
	const struct config *config = &o->setup->config;

	*ret_mount = (struct fs_mount_options){
		.mountpoint = o->mountpoint,
		.source = o->setup->dir,
		.extra = o->extra,
		.allow_other = o->allow_other,
		.read_only = o->read_only,
		.sync_names = o->sync_names,
		.debug = o->debug,
		.unbounded = !backend_is_directory(config->backend.url),
		.report_full = config->pool.report_blocks == CONFIG_REPORT_FULL,
		.threads = (unsigned int)config->fuse.threads,
		.max_background = (unsigned int)config->fuse.max_background,
		.parked_max = (unsigned int)config->fuse.parked_max,
	};
}

static int open_session(struct daemon *d, struct err *e)
{
	struct fs_mount_options mo;
	int r = 0;

	daemon_mount_options(d->o, &mo);
	if (d->o->resume) {
		r = holder_mount(mo.threads, &d->channels, e);
		mo.resume = d->o->resume;
		mo.channels = &d->channels;
	}
	return r == 0 ? fs_session_open(d->ns, d->pool, &mo, &d->session, e) : r;
}

static int start_trash(struct daemon *d, struct err *e)
{
	return d->o->read_only ? 0 : trash_keeper_start(d->ns, &d->o->setup->config, &d->trash, e);
}

static int start(struct daemon *d, struct err *e)
{
	struct service_options so = { .pool_dir = d->o->setup->dir,
				      .mountpoint = d->o->mountpoint,
				      .read_only = d->o->read_only,
				      .policy = d->o->setup->policy,
				      .holder = d->o->resume ? d->o->resume->header->holder : 0 };
	int r;

	/* Later a terminal that hung up can't be told from none. */
	d->has_terminal = d->o->foreground && isatty(STDIN_FILENO);
	r = block_signals(d, e);
	if (r == 0)
		r = open_log(d, e);
	if (r == 0)
		r = pool_setup_open(d->o->setup, &d->pool, &d->ns, e);
	if (r < 0)
		return r;
	so.pool = d->pool;
	so.ns = d->ns;
	r = open_session(d, e);
	so.session = d->session;
	if (r == 0 && !d->o->read_only)
		r = scheduler_new(d->pool, d->ns, &so.policy, &d->scheduler, e);
	so.scheduler = d->scheduler;
	if (r == 0)
		r = start_trash(d, e);
	so.trash = d->trash;
	if (r == 0)
		r = reload_new(d->o->setup, d->pool, d->session, d->scheduler, d->trash, &d->reload,
			       e);
	so.reload = d->reload;
	if (r == 0 && d->o->resume)
		r = restart_start(d->o->resume->header, d->pool, d->session, &d->restart, e);
	so.restart = d->restart;
	so.workers = d->o->resume ? d->o->resume->header->workers : 0;
	so.restarts = d->o->resume ? d->o->resume->header->restarts : 0;
	if (r == 0)
		r = service_new(&so, &d->service, e);
	if (r == 0)
		r = control_start(so.pool_dir, service_answer, d->service, &d->control, e);
	if (r < 0)
		return r;
	if (d->scheduler)
		r = scheduler_start(d->scheduler, e);
	if (r < 0)
		return r;
	r = thread_start("signals", signal_main, d, &d->signal_thread);
	if (r == 0)
		r = thread_start("ready", ready_main, d, &d->ready_thread);
	return r < 0 ? err_set(e, r, "threads: %s", err_name(r)) : 0;
}

/* From here on a signal finds no session; it may still cut the upload short. */
static void begin_stop(struct daemon *d)
{
	__atomic_store_n(&ready_is_late, true, __ATOMIC_SEQ_CST);
	GUARD(&d->lock);
	d->stopping = true;
}

/*
 * The holder keeps the mount of a session that could not start, or that the next process goes on
 * with: who asks it has no answer before this process is gone, and is left to its end.
 */
static void end_ready(struct daemon *d, bool mount_is_over)
{
	if (d->ready_thread && (mount_is_over || !ready_becomes(READY_LEFT)))
		thread_join(TAKE_PTR(d->ready_thread));
}

/* Before the pool is closed: nobody handles a signal any more. */
static void end_signals(struct daemon *d)
{
	const uint64_t one = 1;

	if (d->end_fd >= 0)
		ASSERT(write(d->end_fd, &one, sizeof(one)) == sizeof(one));
	if (d->signal_thread)
		thread_join(TAKE_PTR(d->signal_thread));
}

/* What was acknowledged is durable first; the rest is orderly farewell. */
static int stop(struct daemon *d, struct err *e)
{
	struct err flushing = { 0 };
	bool handed_over;
	int r = 0;

	begin_stop(d);
	restart_stop(d->restart);
	handed_over = d->session && fs_session_is_handed_over(d->session);
	/* Its roots follow each other without a pause: our last one would have to wait for all. */
	if (d->pool)
		pool_scrub_cancel(d->pool);
	/* Requests of the control socket, and a class that changes, may wait for an upload. */
	if (d->service && !service_uploads_at_end(d->service))
		pool_cancel_uploads(d->pool);
	if (d->pool && pool_flush(d->pool, &flushing) < 0)
		log_error("mount: not all reached the disk: %s", flushing.message);
	if (d->service)
		service_unmounted(d->service);
	trash_keeper_stop(d->trash);
	fs_session_close(d->session);
	/* Of one that could not start the mount goes on: another one is tried. */
	if (d->o->resume && d->ended && !handed_over)
		holder_tell(HOLDER_OVER);
	end_ready(d, !d->o->resume || (d->ended && !handed_over));
	scheduler_stop(d->scheduler);
	if (d->ns && handed_over)
		ns_hand_over(d->ns);
	if (d->ns)
		ns_close(d->ns);
	if (d->service)
		service_upload_at_end(d->service);
	end_signals(d);
	if (d->service)
		service_closing(d->service);
	if (d->pool)
		r = pool_close(d->pool, e);
	if (d->service)
		service_last_words(d->service, r, e);
	control_stop(d->control);
	service_free(d->service);
	reload_free(d->reload);
	restart_free(d->restart);
	scheduler_free(d->scheduler);
	if (d->signal_fd >= 0)
		(void)close(d->signal_fd);
	if (d->end_fd >= 0)
		(void)close(d->end_fd);
	if (!handed_over)
		return r;
	if (r < 0)
		log_warning("mount: the next daemon has to recover the pool: %s", e->message);
	return DAEMON_HANDED_OVER;
}

int daemon_run(const struct daemon_options *options, struct err *e)
{
	struct daemon d = { .o = options, .signal_fd = -1, .end_fd = -1 };
	struct err closing = { 0 };
	int r, closed;

	(void)umask(077);
	/* The cleaner's windows and the like. Once the first was freed malloc would take the next from
	 * heaps, where a small block above keeps them: 600 MB after five minutes of tests/soak.py. */
	(void)mallopt(M_MMAP_THRESHOLD, HEAP_BLOCK_MAX);
	mutex_init(&d.lock, 0);
	r = start(&d, e);
	if (r == 0)
		r = fs_session_run(d.session, e);
	d.ended = r == 0;
	closed = stop(&d, &closing);
	if (r == 0 && closed < 0)
		r = err_set(e, closed, "closing the pool: %s", closing.message);
	/* In the foreground the command itself tells it, on the same stream. */
	if (r < 0 && !options->foreground && d.logging)
		log_error("mount: failed: pool='%s' mountpoint='%s': %s", options->setup->dir,
			  options->mountpoint, e->message);
	if (r == 0)
		log_info("mount: ended: pool='%s' mountpoint='%s'", options->setup->dir,
			 options->mountpoint);
	log_close();
	return r == 0 && closed > 0 ? closed : r;
}
