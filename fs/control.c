#include "fs/control.h"

#include "common/buf.h"
#include "common/log.h"
#include "common/thread.h"
#include "fs/json_out.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 64

struct control {
	control_handler handler; /* constant, as all of it */
	void *arg;
	char *path;
	int listen_fd;
	int stop_fd; /* an eventfd: readable from control_stop() on */
	struct thread *workers[CONTROL_WORKERS];
};

/* --- one connection ---------------------------------------------------------------------------- */

/* Wait until fd is ready for events; false: the deadline passed first, or the daemon stops. */
static bool wait_for(const struct control *c, int fd, short events, uint64_t deadline_ns)
{
	struct pollfd fds[2] = { { .fd = fd, .events = events },
				 { .fd = c->stop_fd, .events = POLLIN } };

	for (;;) {
		uint64_t now_ns = clock_mono_ns();
		int n;

		if (now_ns >= deadline_ns)
			return false;
		n = poll(fds, events == POLLIN ? 2 : 1,
			 (int)((deadline_ns - now_ns) / 1000000) + 1);
		if (n < 0 && errno != EINTR)
			return false;
		if (n > 0)
			return fds[0].revents != 0;
	}
}

static uint64_t peer_deadline_ns(void)
{
	return clock_mono_ns() + CONTROL_PEER_TIMEOUT_MS * UINT64_C(1000000);
}

/* The request's line, without its end. */
static int read_request(const struct control *c, int fd, struct buf *line)
{
	uint64_t deadline_ns = peer_deadline_ns();

	for (;;) {
		char piece[4096];
		char *end;
		ssize_t n;

		if (!wait_for(c, fd, POLLIN, deadline_ns))
			return -ETIMEDOUT;
		n = recv(fd, piece, sizeof(piece), MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ECONNRESET;
		end = memchr(piece, '\n', (size_t)n);
		if (buf_append(line, piece, end ? (size_t)(end - piece) : (size_t)n) < 0)
			return -E2BIG;
		if (end)
			return 0;
	}
}

static void send_answer(const struct control *c, int fd, json_t *answer)
{
	char *text = answer ? json_dumps(answer, JSON_COMPACT) : NULL;
	size_t len = text ? strlen(text) : 0, done = 0;

	json_decref(answer);
	if (!text)
		return;	  /* no memory: the peer sees the connection end without an answer */
	text[len] = '\n'; /* over the NUL; sent by length */
	while (done < len + 1 && wait_for(c, fd, POLLOUT, peer_deadline_ns())) {
		ssize_t n = send(fd, text + done, len + 1 - done, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			break; /* the peer went away: nobody to tell */
		done += n > 0 ? (size_t)n : 0;
	}
	free(text);
}

static bool peer_is_allowed(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	       (peer.uid == 0 || peer.uid == geteuid());
}

static json_t *answer_line(struct control *c, int fd, const struct buf *line)
{
	json_t *request, *answer;
	json_error_t why;
	char message[256];

	request =
		json_loadb((const char *)line->data, line->len_bytes, JSON_REJECT_DUPLICATES, &why);
	if (!json_is_object(request)) {
		(void)snprintf(message, sizeof(message), "the request is not a JSON object: %s",
			       request ? "it is something else" : why.text);
		json_decref(request);
		return json_out_error(message, 2, NULL);
	}
	answer = c->handler(c->arg, request, fd);
	json_decref(request);
	return answer;
}

static void serve(struct control *c, int fd)
{
	AUTO(buf_done) struct buf line;
	int r;

	buf_init(&line, CONTROL_REQUEST_BYTES_MAX);
	if (!peer_is_allowed(fd)) {
		log_warning("control: a request was refused: its user is neither root nor ours");
		send_answer(c, fd, json_out_error("this user may not talk to the daemon", 1, NULL));
		return;
	}
	r = read_request(c, fd, &line);
	if (r == -E2BIG)
		send_answer(c, fd, json_out_error("the request is too long", 2, NULL));
	else if (r < 0)
		return; /* it never asked */
	else
		send_answer(c, fd, answer_line(c, fd, &line));
}

static void worker_main(void *arg)
{
	struct control *c = arg;
	struct pollfd fds[2] = { { .fd = c->listen_fd, .events = POLLIN },
				 { .fd = c->stop_fd, .events = POLLIN } };

	for (;;) {
		int fd;

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return;
		if (fds[1].revents)
			return;
		fd = accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			continue; /* another worker was faster, or the peer gave up */
		serve(c, fd);
		(void)close(fd); /* all that matters was sent */
	}
}

/* --- start and end ----------------------------------------------------------------------------- */

int control_address(const char *pool_dir, struct sockaddr_un *ret_address, int *ret_fd,
		    struct err *e)
{
	int fd = open(pool_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_set(e, -errno, "'%s': %s", pool_dir, err_name(-errno));
	*ret_address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	(void)snprintf(ret_address->sun_path, sizeof(ret_address->sun_path), "/proc/self/fd/%d/%s",
		       fd, CONTROL_SOCKET_NAME);
	*ret_fd = fd;
	return 0;
}

static int listen_at(const char *pool_dir, int *ret_fd, struct err *e)
{
	struct sockaddr_un address;
	int dir_fd, fd, r;

	r = control_address(pool_dir, &address, &dir_fd, e);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = fd < 0 ? -errno : 0;
	if (r == 0 && unlinkat(dir_fd, CONTROL_SOCKET_NAME, 0) < 0 && errno != ENOENT)
		r = -errno;
	/* Nobody can connect before listen(), so the mode is right from the first moment on. */
	if (r == 0 &&
	    (bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
	     fchmodat(dir_fd, CONTROL_SOCKET_NAME, 0600, 0) < 0 || listen(fd, BACKLOG) < 0))
		r = -errno;
	(void)close(dir_fd);
	if (r < 0) {
		if (fd >= 0)
			(void)close(fd);
		return err_set(e, r, "'%s/%s': %s", pool_dir, CONTROL_SOCKET_NAME, err_name(r));
	}
	*ret_fd = fd;
	return 0;
}

static int start_workers(struct control *c)
{
	for (unsigned int i = 0; i < CONTROL_WORKERS; i++) {
		int r = thread_start("control", worker_main, c, &c->workers[i]);

		if (r < 0)
			return r;
	}
	return 0;
}

int control_start(const char *pool_dir, control_handler handler, void *arg,
		  struct control **ret_control, struct err *e)
{
	struct control *c = calloc(1, sizeof(*c));
	int r;

	if (!c || asprintf(&c->path, "%s/%s", pool_dir, CONTROL_SOCKET_NAME) < 0) {
		free(c);
		return err_set(e, -ENOMEM, "control socket: %s", err_name(-ENOMEM));
	}
	c->handler = handler;
	c->arg = arg;
	c->listen_fd = -1;
	c->stop_fd = eventfd(0, EFD_CLOEXEC);
	r = c->stop_fd < 0 ? err_set(e, -errno, "control socket: %s", err_name(-errno)) :
			     listen_at(pool_dir, &c->listen_fd, e);
	if (r == 0) {
		r = start_workers(c);
		if (r < 0)
			(void)err_set(e, r, "control threads: %s", err_name(r));
	}
	if (r < 0) {
		control_stop(c);
		return r;
	}
	*ret_control = c;
	return 0;
}

void control_stop(struct control *c)
{
	const uint64_t one = 1;

	if (!c)
		return;
	if (c->stop_fd >= 0)
		ASSERT(write(c->stop_fd, &one, sizeof(one)) == sizeof(one));
	if (c->listen_fd >= 0)
		(void)unlink(c->path); /* a leftover is replaced by the next daemon */
	for (unsigned int i = 0; i < CONTROL_WORKERS; i++)
		if (c->workers[i])
			thread_join(c->workers[i]);
	if (c->listen_fd >= 0)
		(void)close(c->listen_fd);
	if (c->stop_fd >= 0)
		(void)close(c->stop_fd);
	free(c->path);
	free(c);
}
