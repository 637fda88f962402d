#include "tests/backend/support_server.h"

#include "common/buf.h"
#include "common/thread.h"

#include <arpa/inet.h>
#include <check.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECTIONS_MAX 64u
#define BYTES_MAX	((size_t)64 << 20)

struct reply {
	uint8_t *data;
	size_t len_bytes;
	enum server_end end;
};

struct request {
	char *head;
	char *body;
	size_t body_bytes;
};

struct peer {
	int fd; /* -1: none */
	struct buf in;
};

struct server {
	int listener, stop_pipe[2];
	char url[64];
	struct thread *thread;
	struct peer peers[CONNECTIONS_MAX]; /* the thread's */

	struct mutex lock; /* guards all below */
	struct reply replies[SERVER_REQUESTS_MAX];
	unsigned int reply_count, reply_next;
	server_handler *handler;
	void *handler_arg;
	struct request requests[SERVER_REQUESTS_MAX];
	unsigned int request_count, connection_count;
};

/* ---- what it was asked --------------------------------------------------------------------- */

static size_t head_length(const struct buf *in)
{
	const uint8_t *end =
		in->len_bytes > 0 ? memmem(in->data, in->len_bytes, "\r\n\r\n", 4) : NULL;

	return end ? (size_t)(end - in->data) + 4 : 0;
}

/* Where the value of a header begins, NULL: it has none. */
static const char *find_header(const char *head, const char *name)
{
	size_t name_bytes = strlen(name);

	for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
		line += 2;
		if (strncasecmp(line, name, name_bytes) == 0 && line[name_bytes] == ':')
			return line + name_bytes + 1 + strspn(line + name_bytes + 1, " ");
	}
	return NULL;
}

static char *copy_of(const uint8_t *data, size_t len_bytes)
{
	char *copy = malloc(len_bytes + 1);

	ASSERT(copy);
	if (len_bytes > 0)
		memcpy(copy, data, len_bytes);
	copy[len_bytes] = '\0';
	return copy;
}

static struct request *keep_request_locked(struct server *s, const struct buf *in,
					   size_t head_bytes, size_t body_bytes)
{
	struct request *q = &s->requests[s->request_count];

	ASSERT(s->request_count < SERVER_REQUESTS_MAX);
	*q = (struct request){ .head = copy_of(in->data, head_bytes),
			       .body = copy_of(in->data + head_bytes, body_bytes),
			       .body_bytes = body_bytes };
	s->request_count++;
	return q;
}

/* ---- answering ----------------------------------------------------------------------------- */

static void peer_end(struct peer *p, bool reset)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };

	if (reset)
		(void)setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	(void)close(p->fd);
	p->fd = -1;
	buf_done(&p->in);
}

static void send_all(struct peer *p, const uint8_t *data, size_t len_bytes)
{
	while (len_bytes > 0) {
		ssize_t n = send(p->fd, data, len_bytes, MSG_NOSIGNAL);

		if (n <= 0)
			return; /* the client has gone: its right */
		data += n;
		len_bytes -= (size_t)n;
	}
}

static struct reply next_reply(struct server *s, const struct buf *in, size_t head_bytes,
			       size_t body_bytes)
{
	GUARD(&s->lock);
	struct request *q = keep_request_locked(s, in, head_bytes, body_bytes);
	struct reply reply = { .end = SERVER_RESET };

	if (s->reply_next < s->reply_count) {
		reply = s->replies[s->reply_next];
		s->replies[s->reply_next++].data = NULL;
	} else if (s->handler) {
		char *text = s->handler(s->handler_arg, q->head, q->body, q->body_bytes);

		reply = (struct reply){ .data = (uint8_t *)text,
					.len_bytes = strlen(text),
					.end = SERVER_KEEP };
	}
	return reply;
}

/* Whether the next one in the script wants to be sent before the body is there. */
static bool answers_early(struct server *s)
{
	GUARD(&s->lock);

	return s->reply_next < s->reply_count && s->replies[s->reply_next].end == SERVER_EARLY;
}

/* One request, if it is there: false when there is nothing to do. */
static bool serve_one(struct server *s, struct peer *p)
{
	size_t head_bytes = head_length(&p->in), body_bytes = 0;
	struct reply reply;
	const char *length;
	char *head;

	if (head_bytes == 0)
		return false;
	head = copy_of(p->in.data, head_bytes);
	length = find_header(head, "content-length");
	body_bytes = length ? strtoull(length, NULL, 10) : 0;
	free(head);
	if (answers_early(s))
		body_bytes = min_u64(body_bytes, p->in.len_bytes - head_bytes);
	if (p->in.len_bytes - head_bytes < body_bytes)
		return false;
	reply = next_reply(s, &p->in, head_bytes, body_bytes);
	send_all(p, reply.data, reply.len_bytes);
	free(reply.data);
	memmove(p->in.data, p->in.data + head_bytes + body_bytes,
		p->in.len_bytes - head_bytes - body_bytes);
	p->in.len_bytes -= head_bytes + body_bytes;
	if (reply.end != SERVER_KEEP && reply.end != SERVER_HOLD) {
		peer_end(p, reply.end == SERVER_RESET);
		return false;
	}
	return true;
}

static void peer_read(struct server *s, struct peer *p)
{
	static uint8_t bytes[1 << 16];
	ssize_t n = recv(p->fd, bytes, sizeof(bytes), 0);

	if (n <= 0) {
		peer_end(p, false);
		return;
	}
	ASSERT(buf_append(&p->in, bytes, (size_t)n) == 0);
	while (p->fd >= 0 && serve_one(s, p))
		;
}

static void peer_accept(struct server *s)
{
	int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	mutex_lock(&s->lock);
	s->connection_count++;
	mutex_unlock(&s->lock);
	for (unsigned int i = 0; i < CONNECTIONS_MAX; i++) {
		if (s->peers[i].fd < 0) {
			s->peers[i].fd = fd;
			buf_init(&s->peers[i].in, BYTES_MAX);
			return;
		}
	}
	(void)close(fd);
}

static void serve(void *arg)
{
	struct server *s = arg;
	struct pollfd fds[CONNECTIONS_MAX + 2];

	for (;;) {
		fds[0] = (struct pollfd){ .fd = s->stop_pipe[0], .events = POLLIN };
		fds[1] = (struct pollfd){ .fd = s->listener, .events = POLLIN };
		for (unsigned int i = 0; i < CONNECTIONS_MAX; i++)
			fds[i + 2] = (struct pollfd){ .fd = s->peers[i].fd, .events = POLLIN };
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0)
			continue;
		if (fds[0].revents)
			break;
		for (unsigned int i = 0; i < CONNECTIONS_MAX; i++) {
			if (fds[i + 2].revents)
				peer_read(s, &s->peers[i]);
		}
		if (fds[1].revents)
			peer_accept(s);
	}
	for (unsigned int i = 0; i < CONNECTIONS_MAX; i++) {
		if (s->peers[i].fd >= 0)
			peer_end(&s->peers[i], false);
	}
}

/* ---- for the test -------------------------------------------------------------------------- */

struct server *server_start(void)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t address_bytes = sizeof(address);
	struct server *s = calloc(1, sizeof(*s));

	ck_assert_ptr_nonnull(s);
	for (unsigned int i = 0; i < CONNECTIONS_MAX; i++)
		s->peers[i].fd = -1;
	mutex_init(&s->lock, 0);
	s->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ge(s->listener, 0);
	ck_assert_int_eq(bind(s->listener, (struct sockaddr *)&address, sizeof(address)), 0);
	ck_assert_int_eq(listen(s->listener, (int)CONNECTIONS_MAX), 0);
	ck_assert_int_eq(getsockname(s->listener, (struct sockaddr *)&address, &address_bytes), 0);
	(void)snprintf(s->url, sizeof(s->url), "http://127.0.0.1:%u", ntohs(address.sin_port));
	ck_assert_int_eq(pipe2(s->stop_pipe, O_CLOEXEC), 0);
	ck_assert_int_eq(thread_start("server", serve, s, &s->thread), 0);
	return s;
}

static void forget_requests(struct server *s)
{
	for (unsigned int i = 0; i < s->request_count; i++) {
		free(s->requests[i].head);
		free(s->requests[i].body);
	}
	s->request_count = 0;
}

void server_forget(struct server *s)
{
	GUARD(&s->lock);
	forget_requests(s);
}

void server_stop(struct server *s)
{
	if (!s)
		return;
	ck_assert_int_eq(write(s->stop_pipe[1], "x", 1), 1);
	thread_join(s->thread);
	(void)close(s->listener);
	(void)close(s->stop_pipe[0]);
	(void)close(s->stop_pipe[1]);
	for (unsigned int i = 0; i < s->reply_count; i++)
		free(s->replies[i].data);
	forget_requests(s);
	mutex_done(&s->lock);
	free(s);
}

const char *server_url(const struct server *s)
{
	return s->url;
}

void server_reply_bytes(struct server *s, enum server_end end, const void *data, size_t len_bytes)
{
	GUARD(&s->lock);

	ASSERT(s->reply_count < SERVER_REQUESTS_MAX);
	s->replies[s->reply_count++] = (struct reply){ .data = (uint8_t *)copy_of(data, len_bytes),
						       .len_bytes = len_bytes,
						       .end = end };
}

void server_reply(struct server *s, enum server_end end, const char *text)
{
	server_reply_bytes(s, end, text, strlen(text));
}

void server_answer(struct server *s, const char *status, const char *headers, const char *body)
{
	struct buf text;

	buf_init(&text, BYTES_MAX);
	ASSERT(buf_printf(&text, "HTTP/1.1 %s\r\nContent-Length: %zu\r\n%s\r\n%s", status,
			  strlen(body), headers, body) == 0);
	server_reply_bytes(s, SERVER_KEEP, text.data, text.len_bytes);
	buf_done(&text);
}

void server_handle(struct server *s, server_handler *handler, void *arg)
{
	GUARD(&s->lock);

	s->handler = handler;
	s->handler_arg = arg;
}

unsigned int server_request_count(struct server *s)
{
	GUARD(&s->lock);

	return s->request_count;
}

unsigned int server_connection_count(struct server *s)
{
	GUARD(&s->lock);

	return s->connection_count;
}

static const struct request *request_at(struct server *s, unsigned int i)
{
	GUARD(&s->lock);

	ASSERT(i < s->request_count);
	return &s->requests[i]; /* written once */
}

const char *server_head(struct server *s, unsigned int i)
{
	return request_at(s, i)->head;
}

const char *server_body(struct server *s, unsigned int i, size_t *ret_len_bytes)
{
	const struct request *q = request_at(s, i);

	*ret_len_bytes = q->body_bytes;
	return q->body;
}

const char *server_header(struct server *s, unsigned int i, const char *name)
{
	static char value[4096];
	const char *at = find_header(server_head(s, i), name);
	size_t len_bytes = at ? strcspn(at, "\r\n") : 0;

	ASSERT(len_bytes < sizeof(value));
	memcpy(value, at ? at : "", len_bytes);
	value[len_bytes] = '\0';
	return value;
}
