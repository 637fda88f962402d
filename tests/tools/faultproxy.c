/*
 * faultproxy - a server of HTTP on the loopback interface, with faults in front of it
 * (tests/support/fault_proxy.h), told what to do over a socket of its own.
 */
#include "tests/support/fault_proxy.h"

#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void usage(FILE *to)
{
	(void)fprintf(
		to,
		"usage: tool_faultproxy --control SOCKET [--listen PORT] [--seed N] SERVER_PORT\n"
		"       tool_faultproxy --tell SOCKET COMMAND...\n"
		"\n"
		"Forwards HTTP from 127.0.0.1:PORT (default: a free one) to 127.0.0.1:SERVER_PORT and spoils\n"
		"some of it. Prints 'ready PORT'; ends by SIGTERM, SIGINT or the command quit, and removes\n"
		"SOCKET. --tell sends one command and prints what is answered.\n"
		"\n"
		"  set KEY=NUMBER...  reset, error (503), busy (429), lose (answer lost after the server did\n"
		"                     it), cut (body), flip (a bit), whole (200 for 206): of a million\n"
		"                     requests; retry_after_s, delay_ms_max (random up to), down (0 or 1)\n"
		"  clear              no faults any more\n"
		"  plan               all keys\n"
		"  counts             requests=N gets=N puts=N sent_bytes=N received_bytes=N spoilt=N\n"
		"  forget             begin to count anew\n"
		"  quit               end\n");
}

static int fail(const char *what)
{
	(void)fprintf(stderr, "faultproxy: %s: %s\n", what, strerror(errno));
	return 1;
}

static int control_address(const char *path, struct sockaddr_un *ret_address)
{
	*ret_address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(ret_address->sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(ret_address->sun_path, path, strlen(path) + 1);
	return 0;
}

static bool port_parse(const char *text, uint16_t *ret_port)
{
	char *end = NULL;
	unsigned long value = strtoul(text, &end, 10);

	if (end == text || *end != '\0' || value > UINT16_MAX)
		return false;
	*ret_port = (uint16_t)value;
	return true;
}

/* ---- telling ------------------------------------------------------------------------------- */

static int tell(const char *path, char **words)
{
	char text[FAULT_PROXY_TEXT_BYTES] = "";
	struct sockaddr_un address;
	size_t n = 0;
	ssize_t got;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || control_address(path, &address) < 0 ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return fail(path);
	for (; *words && n < sizeof(text); words++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", *words,
				      words[1] ? " " : "\n");
	if (n >= sizeof(text) || send(fd, text, n, MSG_NOSIGNAL) != (ssize_t)n)
		return fail("telling");
	for (n = 0; n < sizeof(text) - 1 && (got = read(fd, text + n, sizeof(text) - 1 - n)) > 0;)
		n += (size_t)got;
	text[n] = '\0';
	(void)close(fd);
	if (strncmp(text, "ok", 2) != 0) {
		(void)fprintf(stderr, "faultproxy: %s", n > 0 ? text : "no answer\n");
		return 1;
	}
	(void)fputs(text + 2 + strspn(text + 2, " "), stdout);
	return 0;
}

/* ---- being told ---------------------------------------------------------------------------- */

/* One line of one who connected; false: quit. He may take his time no longer than this. */
#define CONTROL_LIMIT_MS 5000

static bool obey(struct fault_proxy *proxy, int listener)
{
	char line[FAULT_PROXY_TEXT_BYTES], text[FAULT_PROXY_TEXT_BYTES] = "",
					   reply[FAULT_PROXY_TEXT_BYTES + 16];
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), r = 0, n;
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	size_t len_bytes = 0;
	bool quit;

	if (fd < 0)
		return true;
	do {
		ssize_t got = 0;

		if (poll(&pfd, 1, CONTROL_LIMIT_MS) > 0)
			got = read(fd, line + len_bytes, sizeof(line) - 1 - len_bytes);
		if (got <= 0)
			break;
		len_bytes += (size_t)got;
	} while (len_bytes < sizeof(line) - 1 && !memchr(line, '\n', len_bytes));
	line[len_bytes] = '\0';
	quit = strcmp(line, "quit\n") == 0;
	if (!quit)
		r = fault_proxy_command(proxy, line, text);
	n = snprintf(reply, sizeof(reply), "%s%s%s\n", r < 0 ? "error" : "ok",
		     text[0] != '\0' ? " " : "", text);
	(void)send(fd, reply, (size_t)n, MSG_NOSIGNAL);
	(void)close(fd);
	return !quit;
}

static int run(const char *path, uint16_t listen_port, uint16_t server_port, uint64_t seed)
{
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), signals, r;
	struct fault_proxy *proxy = NULL;
	struct sockaddr_un address;
	struct pollfd fds[2];
	sigset_t set;

	/* Before the threads, so that they do not take the signals. */
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (signals < 0 || listener < 0 || control_address(path, &address) < 0 ||
	    bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(listener, 8) < 0)
		return fail(path);
	r = fault_proxy_start(listen_port, server_port, seed, &proxy);
	if (r < 0) {
		(void)unlink(path);
		errno = -r;
		return fail("listening");
	}
	(void)printf("ready %u\n", fault_proxy_port(proxy));
	(void)fflush(stdout);
	fds[0] = (struct pollfd){ .fd = signals, .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = listener, .events = POLLIN };
	while (poll(fds, 2, -1) < 0 || fds[0].revents == 0) {
		if (fds[1].revents && !obey(proxy, listener))
			break;
	}
	fault_proxy_stop(proxy);
	(void)unlink(path);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "control", required_argument, NULL, 'c' },
						 { "listen", required_argument, NULL, 'l' },
						 { "seed", required_argument, NULL, 's' },
						 { "tell", required_argument, NULL, 't' },
						 { "help", no_argument, NULL, 'h' },
						 { NULL, 0, NULL, 0 } };
	const char *control = NULL, *told = NULL;
	uint16_t listen_port = 0, server_port = 0;
	uint64_t seed = 1;
	bool good = true;

	for (int c; (c = getopt_long(argc, argv, "+h", options, NULL)) != -1;) {
		switch (c) {
		case 'c':
			control = optarg;
			break;
		case 'l':
			good = good && port_parse(optarg, &listen_port);
			break;
		case 's':
			seed = strtoull(optarg, NULL, 10);
			break;
		case 't':
			told = optarg;
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			good = false;
			break;
		}
	}
	if (good && told && !control && optind < argc)
		return tell(told, argv + optind);
	if (!good || told || !control || optind + 1 != argc ||
	    !port_parse(argv[optind], &server_port)) {
		usage(stderr);
		return 2;
	}
	return run(control, listen_port, server_port, seed);
}
