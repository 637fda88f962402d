#include "fs/holder.h"

#include "common/units.h"
#include "fs/fuse_mount.h"
#include "fs/holder_child.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* A worker that dies so soon after it served died at its start. */
#define EARLY_NS (NS_PER_SEC / 4)
/* So many of these one after the other are followed by the next at once; then there is a pause, twice as
 * long each time. */
#define EARLY_FREE   3u
#define PAUSE_MIN_MS 100
#define PAUSE_MAX_MS 10000

struct holder {
	const struct holder_options *o;
	struct fs_mount mount;
	struct resume_header *header;
	size_t header_bytes;
	int signal_fd, socket, null_fd;
	int program_fd, last_program_fd; /* of the next worker; of the one before, or -1 */
	struct holder_child child;

	pid_t worker;	   /* 0: none */
	bool serving;	   /* it */
	bool ever_served;  /* somebody did */
	bool told_to_stop; /* by a signal */
	bool over;
	int result;
	unsigned int early; /* deaths at the start, one after the other */
	uint64_t serving_ns;
	uint64_t pause_until_ns; /* 0: none */
};

/* --- a worker ---------------------------------------------------------------------------------- */

static bool start_worker(struct holder *h)
{
	int sockets[2];
	pid_t pid;

	h->pause_until_ns = 0;
	h->serving = false;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
		return false;
	h->header->workers++;
	pid = fork();
	if (pid == 0)
		holder_be_worker(&h->child, sockets[1], h->program_fd, h->o->report_fd);
	(void)close(sockets[1]);
	if (h->socket >= 0)
		(void)close(h->socket);
	h->socket = sockets[0];
	h->worker = pid > 0 ? pid : 0;
	return pid > 0;
}

/* --- what it says ------------------------------------------------------------------------------ */

static void on_mount(struct holder *h, unsigned int threads)
{
	struct err e = { 0 };
	int r = 0;

	if (h->mount.channels.count == 0)
		r = fs_mount_begin(h->o->mount, threads, &h->mount, &e);
	holder_answer(h->socket, r, &e, r == 0 ? &h->mount.channels : NULL);
}

static void set_program(struct holder *h, const char *path)
{
	struct err e = { 0 };
	int fd = open(path, O_RDONLY | O_CLOEXEC), r = 0;

	if (fd < 0 || faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0) {
		r = err_set(&e, -errno, "program '%s': %s", path, err_name(-errno));
		if (fd >= 0)
			(void)close(fd);
	} else {
		if (h->last_program_fd >= 0)
			(void)close(h->last_program_fd);
		h->last_program_fd = h->program_fd;
		h->program_fd = fd;
	}
	holder_answer(h->socket, r, &e, NULL);
}

/* False: it says nothing now. */
static bool hear(struct holder *h)
{
	struct holder_message m;
	ssize_t n = h->socket < 0 ? 0 : recv(h->socket, &m, sizeof(m), MSG_DONTWAIT);

	if (n != (ssize_t)sizeof(m)) {
		if (n >= 0 && h->socket >= 0) { /* its end: SIGCHLD tells how */
			(void)close(h->socket);
			h->socket = -1;
		}
		return false;
	}
	m.text[sizeof(m.text) - 1] = '\0';
	switch (m.word) {
	case HOLDER_MOUNT:
		on_mount(h, m.value);
		break;
	case HOLDER_SERVING:
		h->serving = h->ever_served = true;
		h->serving_ns = clock_mono_ns();
		break;
	case HOLDER_OVER:
		fs_mount_close(&h->mount);
		break;
	case HOLDER_PROGRAM:
		set_program(h, m.text);
		break;
	default:
		break;
	}
	return true;
}

/* --- how it ended ------------------------------------------------------------------------------ */

static void end(struct holder *h, int result)
{
	h->over = true;
	h->result = result;
}

/* A program that does not start is not tried again where there was another one. */
static bool fall_back(struct holder *h)
{
	if (h->last_program_fd < 0)
		return false;
	(void)close(h->program_fd);
	h->program_fd = h->last_program_fd;
	h->last_program_fd = -1;
	return true;
}

static void start_next(struct holder *h)
{
	unsigned int n;

	/* Nobody can go on with what the kernel does not send again: those requests fail. */
	if (h->mount.channels.count > 0 &&
	    !proto_can_resend(h->header->init, h->header->init_bytes)) {
		fs_mount_close(&h->mount);
		resume_forget(h->header);
	}
	h->early = !h->serving || clock_mono_ns() - h->serving_ns < EARLY_NS ? h->early + 1 : 0;
	if (!h->serving && fall_back(h))
		h->early = 0;
	n = h->early > EARLY_FREE ? h->early - EARLY_FREE : 0;
	if (n > 0 || !start_worker(h))
		h->pause_until_ns =
			clock_mono_ns() +
			min_u64(PAUSE_MAX_MS, (uint64_t)PAUSE_MIN_MS << min_u64(n, 10)) * NS_PER_MS;
}

static void on_end(struct holder *h, int status)
{
	bool exited = WIFEXITED(status);

	while (hear(h)) /* its last words */
		continue;
	h->worker = 0;
	h->header->last_status = status;
	h->header->ended_ns = clock_mono_ns();
	if (exited && (h->serving || !h->ever_served) && WEXITSTATUS(status) != HOLDER_NEXT)
		end(h, WEXITSTATUS(status));
	else if (!h->ever_served || h->told_to_stop || fs_mount_is_gone(&h->mount))
		end(h, exited ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	else if (exited && WEXITSTATUS(status) == HOLDER_NEXT && h->serving && start_worker(h))
		return;
	else
		start_next(h);
}

static void on_signal(struct holder *h)
{
	struct signalfd_siginfo info;
	pid_t ended = 0;
	int status;

	if (read(h->signal_fd, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGCHLD) {
		while (h->worker && (ended = waitpid(h->worker, &status, WNOHANG)) < 0 &&
		       errno == EINTR)
			continue;
		if (h->worker && ended == h->worker)
			on_end(h, status);
		return;
	}
	h->told_to_stop |= info.ssi_signo != SIGHUP;
	if (h->worker)
		(void)kill(h->worker, (int)info.ssi_signo);
	else if (h->told_to_stop)
		end(h, EXIT_FAILURE);
}

/* --- life -------------------------------------------------------------------------------------- */

static void watch(struct holder *h)
{
	/* Of the channel only its end: what waits there is the worker's. */
	struct pollfd fds[3] = { { .fd = h->signal_fd, .events = POLLIN },
				 { .fd = h->socket, .events = POLLIN },
				 { .fd = h->pause_until_ns ? h->mount.channels.fd[0] : -1 } };
	uint64_t now_ns = clock_mono_ns();
	int timeout_ms = -1;

	if (h->pause_until_ns)
		timeout_ms = h->pause_until_ns <= now_ns ?
				     0 :
				     (int)((h->pause_until_ns - now_ns) / NS_PER_MS) + 1;
	if (poll(fds, 3, timeout_ms) < 0)
		return;
	if (fds[1].revents)
		(void)hear(h);
	if (fds[0].revents)
		on_signal(h);
	if (fds[2].revents && !h->worker)
		end(h, EXIT_FAILURE);
	if (!h->over && h->pause_until_ns && clock_mono_ns() >= h->pause_until_ns &&
	    !start_worker(h))
		h->pause_until_ns = clock_mono_ns() + PAUSE_MAX_MS * NS_PER_MS;
}

static int prepare(struct holder *h, struct err *e)
{
	sigset_t set;
	int r = resume_make(fs_session_slots(h->o->mount), &h->child.table_fd, e);

	if (r < 0)
		return r;
	h->header_bytes = (size_t)lseek(h->child.table_fd, 0, SEEK_END);
	h->header = mmap(NULL, h->header_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			 h->child.table_fd, 0);
	if (h->header == MAP_FAILED)
		return err_set(e, -ENOMEM, "memory for the next daemon");
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGHUP);
	(void)sigaddset(&set, SIGCHLD);
	(void)signal(SIGPIPE, SIG_IGN);
	h->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	h->program_fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	if (sigprocmask(SIG_BLOCK, &set, &h->child.mask) < 0 || h->null_fd < 0 || h->program_fd < 0)
		return err_set(e, -errno, "starting: %s", err_name(-errno));
	h->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (h->signal_fd < 0)
		return err_set(e, -errno, "signals: %s", err_name(-errno));
	h->child.argv = h->o->argv;
	h->child.holder = (pid_t)h->header->holder;
	/* Its environment may have keys; a worker decides for itself. */
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	return 0;
}

int holder_run(const struct holder_options *o, struct err *e)
{
	struct holder_options options = *o;
	struct holder h = { .o = &options, .socket = -1, .last_program_fd = -1, .signal_fd = -1 };
	int r = prepare(&h, e);

	if (r < 0)
		return r;
	holder_avoid_killer(&h.child);
	if (!start_worker(&h))
		return err_set(e, -EAGAIN, "starting a process: %s", err_name(-errno));
	if (o->report_fd >= 0) /* only the first worker tells */
		(void)close(o->report_fd);
	options.report_fd = -1;
	for (int fd = 0; fd <= STDERR_FILENO && o->background; fd++)
		(void)dup2(h.null_fd, fd); /* at worst the terminal stays open */
	while (!h.over)
		watch(&h);
	/* Who still has files open must not wait for nobody. */
	fs_mount_close(&h.mount);
	return h.result;
}
