/*
 * Writes that wait for room and whose callers are killed meanwhile.
 *
 * The kernel sends an INTERRUPT for a request whose caller got any signal, once, and lets the caller
 * go only when the request is answered. A write to a file is nothing that programs expect to end with
 * EINTR (a debugger that attaches, a timer, work of io_uring are signals, too), so a write goes on
 * waiting unless its caller is about to die: then nobody sees the answer. Whoever is to die later gets
 * no second INTERRUPT; hence we look again while an interrupted write waits.
 *
 * libfuse finds the request that an INTERRUPT names (and sends one back that came before its
 * request); it calls us only for what is watched, so for writes that really wait.
 */
#include "fs/fuse_impl.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utlist.h>

/* Between two looks at callers that were interrupted and wait on. */
#define LOOK_INTERVAL_MS 200
/* /proc/PID/status has about 1,500 bytes. */
#define STATUS_BYTES 8192u

/* --- who dies ---------------------------------------------------------------------------------- */

static uint64_t bit(int signal)
{
	return UINT64_C(1) << (signal - 1);
}

/* A set of signals, a line of its own, in hex; false: there is none. */
static bool signal_set(const char *status, const char *name, uint64_t *ret_set)
{
	size_t name_bytes = strlen(name);
	char *end;

	for (const char *line = strchr(status, '\n'); line; line = strchr(line + 1, '\n')) {
		if (strncmp(line + 1, name, name_bytes) != 0 || line[1 + name_bytes] != ':')
			continue;
		*ret_set = strtoull(line + 1 + name_bytes + 1, &end, 16);
		return end != line + 1 + name_bytes + 1;
	}
	return false;
}

bool fs_status_is_dying(const char *status)
{
	/* What does no more than stop a process, or nothing at all, unless it says otherwise. */
	const uint64_t harmless = bit(SIGCHLD) | bit(SIGCONT) | bit(SIGSTOP) | bit(SIGTSTP) |
				  bit(SIGTTIN) | bit(SIGTTOU) | bit(SIGURG) | bit(SIGWINCH);
	uint64_t own, shared, blocked, ignored, caught, pending;

	if (!signal_set(status, "SigPnd", &own) || !signal_set(status, "ShdPnd", &shared) ||
	    !signal_set(status, "SigBlk", &blocked) || !signal_set(status, "SigIgn", &ignored) ||
	    !signal_set(status, "SigCgt", &caught))
		return true;
	/* The kernel turns what kills a process into a SIGKILL for each of its threads. */
	pending = own | shared;
	return pending & bit(SIGKILL) || pending & ~(blocked | ignored | caught | harmless);
}

bool fs_caller_is_dying(pid_t thread)
{
	char path[64], status[STATUS_BYTES];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)thread);
	fd = thread > 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (fd < 0)
		return true; /* of another PID namespace, say: better killed than never */
	n = read(fd, status, sizeof(status) - 1);
	(void)close(fd);
	if (n < 0)
		return true;
	status[n] = '\0';
	return fs_status_is_dying(status);
}

/* --- which writes ------------------------------------------------------------------------------ */

/* libfuse calls this when an INTERRUPT comes, or came already; it holds the request's lock. */
static void on_interrupt(fuse_req_t req, void *data)
{
	struct fs_buffer *b = data;
	struct fs_session *s = b->session;

	(void)req;
	mutex_lock(&s->lock);
	if (b->interrupt_serial == 0) {
		b->interrupt_serial = ++s->interrupts;
		DL_APPEND2(s->interrupted, b, interrupt_prev, interrupt_next);
	}
	mutex_unlock(&s->lock);
	fs_session_wake(s);
}

void fs_interrupt_watch(struct fs_buffer *b)
{
	if (b->watched)
		return;
	b->watched = true;
	b->caller = fuse_req_ctx(b->req)->pid;
	fuse_req_interrupt_func(b->req, on_interrupt, b);
}

void fs_interrupt_unwatch(struct fs_buffer *b)
{
	struct fs_session *s = b->session;

	if (!b->watched)
		return;
	b->watched = false;
	fuse_req_interrupt_func(b->req, NULL, NULL); /* waits for a call that runs */
	GUARD(&s->lock);
	if (b->interrupt_serial)
		DL_DELETE2(s->interrupted, b, interrupt_prev, interrupt_next);
	b->interrupt_serial = 0;
}

/* The first one that was interrupted after the serial number given. */
static struct fs_buffer *after_locked(struct fs_session *s, uint64_t serial)
{
	struct fs_buffer *b = s->interrupted;

	while (b && b->interrupt_serial <= serial)
		b = b->interrupt_next;
	return b;
}

/* Its caller dies; if it is still there. */
static void cancel(struct fs_session *s, uint64_t serial)
{
	struct fs_buffer *b, *to_end = NULL;

	mutex_lock(&s->lock);
	b = after_locked(s, serial - 1);
	if (b && b->interrupt_serial == serial) {
		DL_DELETE2(s->interrupted, b, interrupt_prev, interrupt_next);
		b->interrupt_serial = 0;
		if (fs_write_cancel_locked(b))
			to_end = b;
	}
	mutex_unlock(&s->lock);
	if (to_end)
		fs_write_end_cancelled(to_end);
}

int fs_interrupts_look(struct fs_session *s)
{
	uint64_t serial = 0;
	int wait_ms = -1;

	for (;;) {
		struct fs_buffer *b;
		pid_t caller = 0;

		mutex_lock(&s->lock);
		b = after_locked(s, serial);
		if (b) {
			serial = b->interrupt_serial;
			caller = b->caller;
		}
		mutex_unlock(&s->lock);
		if (!b)
			return wait_ms;
		if (fs_caller_is_dying(caller))
			cancel(s, serial);
		else
			wait_ms = LOOK_INTERVAL_MS;
	}
}
