#include "tests/support/fault_proxy.h"

#include "common/thread.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_BYTES_MAX 65536u
#define BUFFER_BYTES   65536u
#define SHARE_WHOLE    1000000u
#define DELAY_MS_MAX   3600000u
#define TO_THE_END     UINT64_MAX

/* One side of a connection, read through a buffer. */
struct side {
	int fd; /* -1: none */
	size_t at, end;
	uint8_t buffer[BUFFER_BYTES];
};

struct connection {
	struct fault_proxy *proxy;
	struct thread *thread;
	bool done; /* the thread is at its end; under the proxy's lock */
	struct side client, server;
	char head[HEAD_BYTES_MAX + 1];
};

struct fault_proxy {
	int listener, stop_pipe[2];
	uint16_t port, server_port;
	struct thread *thread;
	struct connection *connections[FAULT_PROXY_CONNECTIONS_MAX]; /* the thread's */

	struct mutex lock; /* guards all below */
	uint64_t seed;
	struct fault_proxy_plan plan;
	struct fault_proxy_counts counts;
};

/* What is to happen to one request. */
enum fate {
	FATE_NONE,
	FATE_RESET,
	FATE_ERROR,
	FATE_BUSY,
	FATE_LOSE,
	FATE_CUT,
	FATE_FLIP,
	FATE_WHOLE,
};

struct request {
	enum fate fate;
	bool is_get, is_head;
	uint32_t delay_ms, retry_after_s;
	uint64_t random; /* where in the body it happens */
};

/* ---- drawing and counting ------------------------------------------------------------------ */

static uint64_t draw_locked(struct fault_proxy *p)
{
	uint64_t x = p->seed += UINT64_C(0x9e3779b97f4a7c15); /* splitmix64 */

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

static enum fate fate_of(const struct fault_proxy_plan *plan, uint64_t number)
{
	const struct {
		enum fate fate;
		uint32_t share;
	} shares[] = { { FATE_RESET, plan->reset }, { FATE_ERROR, plan->error },
		       { FATE_BUSY, plan->busy },   { FATE_LOSE, plan->lose },
		       { FATE_CUT, plan->cut },	    { FATE_FLIP, plan->flip },
		       { FATE_WHOLE, plan->whole } };
	uint64_t below = number % SHARE_WHOLE;

	if (plan->down > 0)
		return FATE_RESET;
	for (size_t i = 0; i < ARRAY_SIZE(shares); i++) {
		if (below < shares[i].share)
			return shares[i].fate;
		below -= shares[i].share;
	}
	return FATE_NONE;
}

static struct request begin_request(struct fault_proxy *p, const char *head)
{
	GUARD(&p->lock);
	struct request q = { .is_get = strncmp(head, "GET ", 4) == 0,
			     .is_head = strncmp(head, "HEAD ", 5) == 0,
			     .retry_after_s = p->plan.retry_after_s };
	uint64_t delay = draw_locked(p);

	q.fate = fate_of(&p->plan, draw_locked(p));
	q.random = draw_locked(p);
	q.delay_ms = (uint32_t)(delay % ((uint64_t)p->plan.delay_ms_max + 1));
	p->counts.requests++;
	p->counts.gets += q.is_get;
	p->counts.puts += strncmp(head, "PUT ", 4) == 0;
	return q;
}

static void count_spoilt(struct fault_proxy *p)
{
	GUARD(&p->lock);
	p->counts.spoilt++;
}

/* ---- bytes --------------------------------------------------------------------------------- */

static void side_close(struct side *s, bool reset)
{
	struct linger linger = { .l_onoff = 1, .l_linger = 0 };

	if (s->fd < 0)
		return;
	if (reset)
		(void)setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	(void)close(s->fd);
	s->fd = -1;
	s->at = s->end = 0;
}

/* Wait for input, a time-out, or the end of the proxy; false in the latter two cases. */
static bool wait_input(struct fault_proxy *p, int fd, int timeout_ms)
{
	struct pollfd fds[2] = { { .fd = p->stop_pipe[0], .events = POLLIN },
				 { .fd = fd, .events = POLLIN } };

	return poll(fds, 2, timeout_ms) > 0 && fds[0].revents == 0;
}

/* Make sure that the buffer has something; false at the end of the connection. */
static bool side_fill(struct fault_proxy *p, struct side *s)
{
	ssize_t n;

	if (s->at < s->end)
		return true;
	if (!wait_input(p, s->fd, -1))
		return false;
	n = recv(s->fd, s->buffer, sizeof(s->buffer), 0);
	s->at = 0;
	s->end = n > 0 ? (size_t)n : 0;
	return n > 0;
}

static bool send_all(struct fault_proxy *p, int fd, const void *data, size_t len_bytes)
{
	const uint8_t *at = data;

	while (len_bytes > 0) {
		struct pollfd fds[2] = { { .fd = p->stop_pipe[0], .events = POLLIN },
					 { .fd = fd, .events = POLLOUT } };
		ssize_t n;

		if (poll(fds, 2, -1) < 0 || fds[0].revents != 0)
			return false;
		n = send(fd, at, len_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			continue;
		if (n <= 0)
			return false;
		at += n;
		len_bytes -= (size_t)n;
	}
	return true;
}

/* Read up to and with the end: of a head, "\r\n\r\n", or of a line, "\r\n". The length, or 0. */
static size_t read_until(struct fault_proxy *p, struct side *s, const char *end, char *text,
			 size_t text_bytes_max)
{
	size_t n = 0, end_bytes = strlen(end);

	while (n < text_bytes_max && side_fill(p, s)) {
		text[n++] = (char)s->buffer[s->at++];
		if (n >= end_bytes && memcmp(text + n - end_bytes, end, end_bytes) == 0) {
			text[n] = '\0';
			return n;
		}
	}
	return 0;
}

/* Where the line of a header begins in a head, NULL: it has none. */
static char *find_header(char *head, const char *name)
{
	size_t name_bytes = strlen(name);

	for (char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
		line += 2;
		if (strncasecmp(line, name, name_bytes) == 0 && line[name_bytes] == ':')
			return line;
	}
	return NULL;
}

static bool header_says(char *head, const char *name, const char *word)
{
	const char *line = find_header(head, name);
	size_t len_bytes = line ? strcspn(line, "\r") : 0, word_bytes = strlen(word);

	for (size_t i = 0; i + word_bytes <= len_bytes; i++) {
		if (strncasecmp(line + i, word, word_bytes) == 0)
			return true;
	}
	return false;
}

static void remove_header(char *head, const char *name)
{
	char *line = find_header(head, name);
	char *next = line ? strstr(line, "\r\n") : NULL;

	if (next)
		memmove(line, next + 2, strlen(next + 2) + 1);
}

/* ---- bodies -------------------------------------------------------------------------------- */

/* A body on its way: where to (NULL: nowhere), and what is done to it. */
struct body {
	struct fault_proxy *proxy;
	struct side *from, *to;
	uint64_t *count;
	uint64_t cut_at_bytes, flip_at_bytes; /* UINT64_MAX: not */
	uint64_t done_bytes;
};

/* Pass on what lies in the buffer, at most max bytes; how many, or negative. */
static ssize_t body_step(struct body *b, uint64_t max_bytes)
{
	struct side *s = b->from;
	size_t n;

	if (b->done_bytes >= b->cut_at_bytes || !side_fill(b->proxy, s))
		return -EPIPE;
	n = (size_t)min_u64(min_u64(max_bytes, s->end - s->at), b->cut_at_bytes - b->done_bytes);
	if (b->flip_at_bytes >= b->done_bytes && b->flip_at_bytes - b->done_bytes < n)
		s->buffer[s->at + (b->flip_at_bytes - b->done_bytes)] ^= 1;
	/* Before they leave, so that who received them finds them counted. */
	mutex_lock(&b->proxy->lock);
	*b->count += b->to ? n : 0;
	mutex_unlock(&b->proxy->lock);
	if (b->to && !send_all(b->proxy, b->to->fd, s->buffer + s->at, n))
		return -EPIPE;
	s->at += n;
	b->done_bytes += n;
	return (ssize_t)n;
}

static bool pass_bytes(struct body *b, uint64_t len_bytes)
{
	while (len_bytes > 0) {
		ssize_t n = body_step(b, len_bytes);

		if (n < 0)
			return false;
		len_bytes -= (uint64_t)n;
	}
	return b->done_bytes < b->cut_at_bytes;
}

/* Chunks keep their frame; faults count bytes of data only. */
static bool pass_chunks(struct body *b)
{
	char line[256];

	for (;;) {
		size_t n = read_until(b->proxy, b->from, "\r\n", line, sizeof(line) - 1);
		uint64_t len_bytes = n > 0 ? strtoull(line, NULL, 16) : 0;

		if (n == 0 || (b->to && !send_all(b->proxy, b->to->fd, line, n)))
			return false;
		if (len_bytes > 0 && !pass_bytes(b, len_bytes))
			return false;
		/* The end of the chunk, or of the trailer, which nobody here sends. */
		n = read_until(b->proxy, b->from, "\r\n", line, sizeof(line) - 1);
		if (n == 0 || (b->to && !send_all(b->proxy, b->to->fd, line, n)))
			return false;
		if (len_bytes == 0)
			return true;
	}
}

static uint64_t content_length(char *head)
{
	const char *line = find_header(head, "Content-Length");

	return line ? strtoull(line + strlen("Content-Length:"), NULL, 10) : 0;
}

static bool pass_body(struct body *b, char *head, bool to_the_end)
{
	if (header_says(head, "Transfer-Encoding", "chunked"))
		return pass_chunks(b);
	if (find_header(head, "Content-Length"))
		return pass_bytes(b, content_length(head));
	while (to_the_end && body_step(b, TO_THE_END) > 0)
		;
	return !to_the_end;
}

/* ---- one request --------------------------------------------------------------------------- */

static bool connect_server(struct connection *c)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons(c->proxy->server_port),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int one = 1;
	char byte;

	/* A kept connection that the server ended meanwhile is no fault of ours to show. */
	if (c->server.fd >= 0 && recv(c->server.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0)
		side_close(&c->server, false);
	if (c->server.fd >= 0)
		return true;
	c->server.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->server.fd < 0)
		return false;
	(void)setsockopt(c->server.fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(c->server.fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return true;
	side_close(&c->server, false);
	return false;
}

/* Answer in place of the server; the request's body is taken first, as a client may only send. */
static bool refuse(struct connection *c, const struct request *q)
{
	struct body body = { .proxy = c->proxy,
			     .from = &c->client,
			     .count = &c->proxy->counts.sent_bytes,
			     .cut_at_bytes = UINT64_MAX,
			     .flip_at_bytes = UINT64_MAX };
	char text[256];
	int n;

	if (!pass_body(&body, c->head, false))
		return false;
	if (q->fate == FATE_BUSY)
		n = snprintf(text, sizeof(text),
			     "HTTP/1.1 429 Too Many Requests\r\nRetry-After: %u\r\n"
			     "Content-Length: 0\r\n\r\n",
			     q->retry_after_s);
	else
		n = snprintf(text, sizeof(text),
			     "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
	return send_all(c->proxy, c->client.fd, text, (size_t)n);
}

static bool forward(struct connection *c, const struct request *q)
{
	struct body body = { .proxy = c->proxy,
			     .from = &c->client,
			     .to = &c->server,
			     .count = &c->proxy->counts.sent_bytes,
			     .cut_at_bytes = UINT64_MAX,
			     .flip_at_bytes = UINT64_MAX };

	if (q->fate == FATE_WHOLE && q->is_get)
		remove_header(c->head, "Range");
	return connect_server(c) && send_all(c->proxy, c->server.fd, c->head, strlen(c->head)) &&
	       pass_body(&body, c->head, false);
}

/* Heads of answers until the final one, which stays in c->head; interim ones are passed on. */
static bool read_answer_head(struct connection *c, int *ret_status)
{
	for (;;) {
		size_t n = read_until(c->proxy, &c->server, "\r\n\r\n", c->head, HEAD_BYTES_MAX);
		const char *status = n > 0 ? strchr(c->head, ' ') : NULL;

		*ret_status = status ? (int)strtol(status, NULL, 10) : 0;
		if (*ret_status < 100 || *ret_status > 199)
			return *ret_status > 0;
		if (!send_all(c->proxy, c->client.fd, c->head, n))
			return false;
	}
}

static bool answer(struct connection *c, const struct request *q)
{
	struct body body = { .proxy = c->proxy,
			     .from = &c->server,
			     .to = q->fate == FATE_LOSE ? NULL : &c->client,
			     .count = &c->proxy->counts.received_bytes,
			     .cut_at_bytes = UINT64_MAX,
			     .flip_at_bytes = UINT64_MAX };
	bool has_body, keep;
	uint64_t len_bytes;
	int status;

	if (!read_answer_head(c, &status))
		return false;
	has_body = !q->is_head && status != 204 && status != 304;
	len_bytes = content_length(c->head);
	if (q->fate == FATE_CUT)
		body.cut_at_bytes = len_bytes > 0 ? q->random % len_bytes : 0;
	if (q->fate == FATE_FLIP && len_bytes > 0)
		body.flip_at_bytes = q->random % len_bytes;
	keep = !header_says(c->head, "Connection", "close");
	if (body.to && !send_all(c->proxy, c->client.fd, c->head, strlen(c->head)))
		return false;
	if (has_body && !pass_body(&body, c->head, true))
		return false;
	return keep && q->fate != FATE_LOSE && q->fate != FATE_CUT;
}

/* One request; false when the connection is to end. */
static bool serve_one(struct connection *c, bool *ret_reset)
{
	struct request q;

	if (read_until(c->proxy, &c->client, "\r\n\r\n", c->head, HEAD_BYTES_MAX) == 0)
		return false;
	q = begin_request(c->proxy, c->head);
	if (q.fate != FATE_NONE)
		count_spoilt(c->proxy);
	*ret_reset = q.fate == FATE_RESET || q.fate == FATE_LOSE;
	if (q.delay_ms > 0)
		(void)wait_input(c->proxy, -1, (int)q.delay_ms);
	if (q.fate == FATE_RESET)
		return false;
	if (q.fate == FATE_ERROR || q.fate == FATE_BUSY)
		return refuse(c, &q);
	return forward(c, &q) && answer(c, &q);
}

static void serve_connection(void *arg)
{
	struct connection *c = arg;
	bool reset = false;

	while (serve_one(c, &reset))
		;
	side_close(&c->server, false);
	side_close(&c->client, reset);
	mutex_lock(&c->proxy->lock);
	c->done = true;
	mutex_unlock(&c->proxy->lock);
}

/* ---- connections --------------------------------------------------------------------------- */

static void connection_free(struct connection *c)
{
	thread_join(c->thread);
	free(c);
}

/* A place for another one; those that ended make room. */
static struct connection **free_place(struct fault_proxy *p)
{
	struct connection **place = NULL;

	for (unsigned int i = 0; i < FAULT_PROXY_CONNECTIONS_MAX; i++) {
		bool done = false;

		if (p->connections[i]) {
			mutex_lock(&p->lock);
			done = p->connections[i]->done;
			mutex_unlock(&p->lock);
		}
		if (done) {
			connection_free(p->connections[i]);
			p->connections[i] = NULL;
		}
		if (!p->connections[i])
			place = &p->connections[i];
	}
	return place;
}

static void accept_one(struct fault_proxy *p)
{
	struct connection **place = free_place(p), *c;
	int fd = accept4(p->listener, NULL, NULL, SOCK_CLOEXEC), one = 1;

	if (fd < 0)
		return;
	c = place ? calloc(1, sizeof(*c)) : NULL;
	if (!c) {
		(void)close(fd);
		return;
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	c->proxy = p;
	c->client.fd = fd;
	c->server.fd = -1;
	if (thread_start("proxied", serve_connection, c, &c->thread) < 0) {
		(void)close(fd);
		free(c);
		return;
	}
	*place = c;
}

static void serve(void *arg)
{
	struct fault_proxy *p = arg;
	struct pollfd fds[2] = { { .fd = p->stop_pipe[0], .events = POLLIN },
				 { .fd = p->listener, .events = POLLIN } };

	while (poll(fds, 2, -1) < 0 || fds[0].revents == 0) {
		if (fds[1].revents)
			accept_one(p);
	}
}

static void proxy_free(struct fault_proxy *p)
{
	for (unsigned int i = 0; i < FAULT_PROXY_CONNECTIONS_MAX; i++) {
		if (p->connections[i])
			connection_free(p->connections[i]);
	}
	for (unsigned int i = 0; i < 2; i++) {
		if (p->stop_pipe[i] >= 0)
			(void)close(p->stop_pipe[i]);
	}
	if (p->listener >= 0)
		(void)close(p->listener);
	mutex_done(&p->lock);
	free(p);
}

static int listen_on(struct fault_proxy *p, uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
				       .sin_port = htons(port),
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t address_bytes = sizeof(address);
	int one = 1;

	p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (p->listener < 0 || pipe2(p->stop_pipe, O_CLOEXEC) < 0)
		return -errno;
	(void)setsockopt(p->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(p->listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(p->listener, (int)FAULT_PROXY_CONNECTIONS_MAX) < 0 ||
	    getsockname(p->listener, (struct sockaddr *)&address, &address_bytes) < 0)
		return -errno;
	p->port = ntohs(address.sin_port);
	return 0;
}

int fault_proxy_start(uint16_t listen_port, uint16_t server_port, uint64_t seed,
		      struct fault_proxy **ret_proxy)
{
	struct fault_proxy *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	mutex_init(&p->lock, 0);
	p->listener = p->stop_pipe[0] = p->stop_pipe[1] = -1;
	p->server_port = server_port;
	p->seed = seed;
	r = listen_on(p, listen_port);
	if (r == 0)
		r = thread_start("proxy", serve, p, &p->thread);
	if (r < 0) {
		proxy_free(p);
		return r;
	}
	*ret_proxy = p;
	return 0;
}

void fault_proxy_stop(struct fault_proxy *p)
{
	if (!p)
		return;
	/* Never read: it stays readable for all threads. */
	ASSERT(write(p->stop_pipe[1], "x", 1) == 1);
	thread_join(p->thread);
	proxy_free(p);
}

uint16_t fault_proxy_port(const struct fault_proxy *p)
{
	return p->port;
}

/* ---- plan, counts, words ------------------------------------------------------------------- */

void fault_proxy_set(struct fault_proxy *p, const struct fault_proxy_plan *plan)
{
	GUARD(&p->lock);
	p->plan = *plan;
}

void fault_proxy_read_counts(struct fault_proxy *p, struct fault_proxy_counts *ret_counts)
{
	GUARD(&p->lock);
	*ret_counts = p->counts;
}

static const struct {
	const char *name;
	size_t offset;
	uint32_t max;
} keys[] = {
#define KEY(name, max)                                                                             \
	{                                                                                          \
#name, offsetof(struct fault_proxy_plan, name), max                                \
	}
	KEY(reset, SHARE_WHOLE),	 KEY(error, SHARE_WHOLE),
	KEY(busy, SHARE_WHOLE),		 KEY(lose, SHARE_WHOLE),
	KEY(cut, SHARE_WHOLE),		 KEY(flip, SHARE_WHOLE),
	KEY(whole, SHARE_WHOLE),	 KEY(retry_after_s, 1000000),
	KEY(delay_ms_max, DELAY_MS_MAX), KEY(down, 1),
#undef KEY
};

static uint32_t *value_of(struct fault_proxy_plan *plan, size_t key)
{
	return (uint32_t *)(void *)((char *)plan + keys[key].offset);
}

static int set_key(struct fault_proxy_plan *plan, const char *word,
		   char text[FAULT_PROXY_TEXT_BYTES])
{
	size_t name_bytes = strcspn(word, "=");

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		char *end = NULL;
		unsigned long value;

		if (strlen(keys[i].name) != name_bytes || word[name_bytes] != '=' ||
		    strncmp(keys[i].name, word, name_bytes) != 0)
			continue;
		value = strtoul(word + name_bytes + 1, &end, 10);
		if (strchr("0123456789", word[name_bytes + 1]) == NULL || *end != '\0' ||
		    end == word + name_bytes + 1 || value > keys[i].max) {
			(void)snprintf(text, FAULT_PROXY_TEXT_BYTES, "%s is from 0 to %u",
				       keys[i].name, keys[i].max);
			return -EINVAL;
		}
		*value_of(plan, i) = (uint32_t)value;
		return 0;
	}
	(void)snprintf(text, FAULT_PROXY_TEXT_BYTES, "'%.64s': expected KEY=NUMBER", word);
	return -EINVAL;
}

static int set_keys(struct fault_proxy *p, char *words, char text[FAULT_PROXY_TEXT_BYTES])
{
	struct fault_proxy_plan plan;
	char *save = NULL;

	GUARD(&p->lock);
	plan = p->plan;
	for (char *word = strtok_r(words, " \t", &save); word;
	     word = strtok_r(NULL, " \t", &save)) {
		int r = set_key(&plan, word, text);

		if (r < 0)
			return r;
	}
	p->plan = plan;
	return 0;
}

static void tell_plan(struct fault_proxy *p, char text[FAULT_PROXY_TEXT_BYTES])
{
	size_t n = 0;

	GUARD(&p->lock);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		n += (size_t)snprintf(text + n, FAULT_PROXY_TEXT_BYTES - n, "%s%s=%u",
				      n > 0 ? " " : "", keys[i].name, *value_of(&p->plan, i));
}

static void tell_counts(struct fault_proxy *p, char text[FAULT_PROXY_TEXT_BYTES])
{
	struct fault_proxy_counts n;

	fault_proxy_read_counts(p, &n);
	(void)snprintf(text, FAULT_PROXY_TEXT_BYTES,
		       "requests=%" PRIu64 " gets=%" PRIu64 " puts=%" PRIu64 " sent_bytes=%" PRIu64
		       " received_bytes=%" PRIu64 " spoilt=%" PRIu64,
		       n.requests, n.gets, n.puts, n.sent_bytes, n.received_bytes, n.spoilt);
}

int fault_proxy_command(struct fault_proxy *p, const char *line,
			char ret_text[FAULT_PROXY_TEXT_BYTES])
{
	static const struct fault_proxy_plan nothing;
	char copy[FAULT_PROXY_TEXT_BYTES];

	ret_text[0] = '\0';
	(void)snprintf(copy, sizeof(copy), "%s", line);
	copy[strcspn(copy, "\r\n")] = '\0';
	if (strncmp(copy, "set ", 4) == 0)
		return set_keys(p, copy + 4, ret_text);
	if (strcmp(copy, "clear") == 0) {
		fault_proxy_set(p, &nothing);
	} else if (strcmp(copy, "plan") == 0) {
		tell_plan(p, ret_text);
	} else if (strcmp(copy, "counts") == 0) {
		tell_counts(p, ret_text);
	} else if (strcmp(copy, "forget") == 0) {
		GUARD(&p->lock);
		p->counts = (struct fault_proxy_counts){ .requests = 0 };
	} else {
		(void)snprintf(ret_text, FAULT_PROXY_TEXT_BYTES,
			       "expected set, clear, plan, counts or forget");
		return -EINVAL;
	}
	return 0;
}
