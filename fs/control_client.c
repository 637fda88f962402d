#include "fs/control.h"

#include "common/buf.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

static int connect_to(const char *pool_dir, int *ret_fd, struct err *e)
{
	struct sockaddr_un address;
	int dir_fd, fd, r;

	r = control_address(pool_dir, &address, &dir_fd, e);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	r = fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ? -errno :
											    0;
	(void)close(dir_fd);
	if (r == 0) {
		*ret_fd = fd;
		return 0;
	}
	if (fd >= 0)
		(void)close(fd);
	if (r == -ENOENT) /* no socket, or one that nobody listens at: no daemon either way */
		r = -ECONNREFUSED;
	return err_set(e, r, "'%s': %s", pool_dir,
		       r == -ECONNREFUSED ? "no daemon runs" : err_name(r));
}

static int send_all(int fd, const char *text, size_t len_bytes)
{
	for (size_t done = 0; done < len_bytes;) {
		ssize_t n = send(fd, text + done, len_bytes - done, MSG_NOSIGNAL);

		if (n < 0 && errno != EINTR)
			return -errno;
		done += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int control_send(const char *pool_dir, json_t *request, int *ret_fd, struct err *e)
{
	char *text = request ? json_dumps(request, JSON_COMPACT) : NULL;
	int fd, r;

	json_decref(request);
	if (!text)
		return err_set(e, -ENOMEM, "request: %s", err_name(-ENOMEM));
	r = connect_to(pool_dir, &fd, e);
	if (r == 0) {
		r = send_all(fd, text, strlen(text));
		if (r == 0)
			r = send_all(fd, "\n", 1);
		if (r < 0) {
			(void)err_set(e, r, "talking to the daemon: %s", err_name(r));
			(void)close(fd);
		} else {
			*ret_fd = fd;
		}
	}
	free(text);
	return r;
}

static int read_answer(int fd, int timeout_ms, struct buf *text)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	for (;;) {
		char piece[16384];
		ssize_t n;
		int ready = poll(&pfd, 1, timeout_ms);

		if (ready == 0)
			return -ETIMEDOUT;
		if (ready < 0 && errno == EINTR)
			continue;
		n = recv(fd, piece, sizeof(piece), 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		if (buf_append(text, piece, (size_t)n) < 0)
			return -E2BIG;
	}
}

int control_receive(int fd, int timeout_ms, json_t **ret_answer, struct err *e)
{
	AUTO(buf_done) struct buf text;
	json_t *answer;
	int r;

	buf_init(&text, CONTROL_ANSWER_BYTES_MAX);
	r = read_answer(fd, timeout_ms, &text);
	(void)close(fd);
	if (r < 0)
		return err_set(e, r, "waiting for the daemon: %s", err_name(r));
	if (text.len_bytes == 0)
		return err_set(e, -EPROTO, "the daemon ended without an answer");
	answer = json_loadb((const char *)text.data, text.len_bytes, 0, NULL);
	if (!json_is_object(answer)) {
		json_decref(answer);
		return err_set(e, -EPROTO, "the daemon's answer cannot be read");
	}
	*ret_answer = answer;
	return 0;
}

int control_ask(const char *pool_dir, json_t *request, int timeout_ms, json_t **ret_answer,
		struct err *e)
{
	int fd, r;

	r = control_send(pool_dir, request, &fd, e);
	return r < 0 ? r : control_receive(fd, timeout_ms, ret_answer, e);
}

/* --- who has it -------------------------------------------------------------------------------- */

static int pid_of_socket(const char *pool_dir, pid_t *ret_pid)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int fd, r;

	r = connect_to(pool_dir, &fd, NULL);
	if (r < 0)
		return r;
	r = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ? -errno : 0;
	(void)close(fd);
	if (r == 0)
		*ret_pid = peer.pid;
	return r;
}

/* "1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF" */
static bool lock_is_of(const char *line, const struct stat *st, pid_t *ret_pid)
{
	unsigned int major_number, minor_number;
	unsigned long inode;
	int pid;

	if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%lu", &pid, &major_number, &minor_number,
		   &inode) != 4)
		return false;
	if (inode != st->st_ino || major_number != major(st->st_dev) ||
	    minor_number != minor(st->st_dev) || pid <= 0)
		return false;
	*ret_pid = pid;
	return true;
}

static int pid_of_lock(const char *pool_dir, pid_t *ret_pid)
{
	char *path, *line = NULL;
	size_t line_bytes = 0;
	struct stat st;
	FILE *locks;
	int r;

	if (asprintf(&path, "%s/lock", pool_dir) < 0)
		return -ENOMEM;
	r = stat(path, &st) < 0 ? -errno : 0;
	free(path);
	if (r < 0)
		return -ESRCH;
	locks = fopen("/proc/locks", "re");
	if (!locks)
		return -ESRCH;
	r = -ESRCH;
	while (r < 0 && getline(&line, &line_bytes, locks) >= 0)
		if (lock_is_of(line, &st, ret_pid))
			r = 0;
	free(line);
	(void)fclose(locks); /* was only read */
	return r;
}

/* The number behind a word of /proc/PID/FILE; 0: there is none. */
static pid_t number_behind(pid_t pid, const char *file, const char *word)
{
	char path[64], text[4096];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		(void)close(fd);
	if (n < 0)
		return 0;
	text[n] = '\0';
	for (ssize_t i = 0; i < n; i += (ssize_t)strlen(text + i) + 1) {
		const char *at = strstr(text + i, word);

		if (at)
			return (pid_t)strtol(at + strlen(word), NULL, 10);
	}
	return 0;
}

pid_t control_holder_of(pid_t daemon, bool *ret_alive)
{
	pid_t holder = number_behind(daemon, "cmdline", CONTROL_HOLDER_OPTION "=");

	*ret_alive = holder > 0 && number_behind(daemon, "status", "PPid:") == holder;
	return holder;
}

int control_find_daemon(const char *pool_dir, pid_t *ret_pid)
{
	pid_t holder;
	bool alive;
	int r = pid_of_socket(pool_dir, ret_pid);

	if (r < 0)
		r = pid_of_lock(pool_dir, ret_pid);
	if (r < 0)
		return r;
	holder = control_holder_of(*ret_pid, &alive);
	if (alive)
		*ret_pid = holder;
	return 0;
}
