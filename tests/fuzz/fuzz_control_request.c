/* One connection to the daemon: what a client may send, served by the daemon's own code. Its part of
 * the server is static: hence the source. */
#include "fs/control.c"

#include "fs/service.h"
#include "tests/fuzz/fuzz.h"

/*
 * A request has at most CONTROL_REQUEST_BYTES_MAX, and jansson some 120 bytes for an empty array, which
 * is two of them.
 */
const struct fuzz_bound fuzz_bound = { .base_bytes = 512 << 10, .per_input_byte = 256 };

void fuzz_seeds(void)
{
	static const char *const requests[] = {
		"{\"verb\":\"status\"}",
		"{\"verb\":\"list\"}\n",
		"{\"verb\":\"info\",\"ino\":16}",
		"{\"verb\":\"sync\"}",
		"{\"verb\":\"stats\"}",
		"{\"verb\":\"reload\"}",
		"{\"verb\":\"leave\",\"mountpoint\":\"/m\",\"upload\":true,\"cancel\":false}",
		"{\"verb\":\"end\"}",
		"[1,2.5e3,null,\"\\u00e9\"]",
	};

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
		fuzz_seed(0, requests[i], strlen(requests[i]));
}

/* A service whose pool is closed: it answers what needs none. */
static struct service *the_service(void)
{
	static struct service *s;
	struct err e = { 0 };

	if (!s) {
		const struct service_options options = { .pool_dir = "/pool", .mountpoint = "/m" };

		FUZZ_EXPECT(service_new(&options, &s, &e) == 0);
		service_closing(s);
		service_last_words(s, 0, &e);
	}
	return s;
}

static json_t *answer_request(void *arg, const json_t *request, int fd)
{
	FUZZ_EXPECT(json_is_object(request));
	return service_answer(arg, request, fd);
}

/* What came back is one line, an object, or nothing at all. */
static void check_answer(int fd)
{
	static char text[1 << 20];
	size_t len = 0;
	json_t *answer;

	for (;;) {
		ssize_t n = recv(fd, text + len, sizeof(text) - len, MSG_DONTWAIT);

		if (n <= 0)
			break;
		len += (size_t)n;
	}
	if (len == 0)
		return;
	FUZZ_EXPECT(text[len - 1] == '\n' && memchr(text, '\n', len) == text + len - 1);
	answer = json_loadb(text, len - 1, 0, NULL);
	FUZZ_EXPECT(json_is_object(answer));
	json_decref(answer);
}

void fuzz_one(const uint8_t *in, size_t len_bytes)
{
	static int stop_fd = -1;
	struct control c = { .handler = answer_request, .arg = the_service() };
	int fds[2];

	if (stop_fd < 0)
		stop_fd = eventfd(0, EFD_CLOEXEC);
	c.stop_fd = stop_fd;
	(void)fuzz_word(&in, &len_bytes);
	FUZZ_EXPECT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	FUZZ_EXPECT(send(fds[0], in, len_bytes, MSG_NOSIGNAL) == (ssize_t)len_bytes);
	FUZZ_EXPECT(send(fds[0], "\n", 1, MSG_NOSIGNAL) == 1);
	FUZZ_EXPECT(shutdown(fds[0], SHUT_WR) == 0);
	serve(&c, fds[1]);
	(void)close(fds[1]);
	check_answer(fds[0]);
	(void)close(fds[0]);
}
