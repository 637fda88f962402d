/* The socket between a holder and its worker. */
#include "fs/fuse_proto.h"
#include "fs/holder.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* How often, and how far apart, something is said or heard again. */
#define TRIES_MAX    500u
#define TRY_PAUSE_MS 10

/* Room for the channels to travel in. */
union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int) * PROTO_CHANNELS_MAX)];
};

/* What passes: short of memory for a message, or interrupted. There is a pause behind true. */
static bool may_try_again(unsigned int *tries)
{
	if ((errno != ENOBUFS && errno != ENOMEM && errno != EINTR) || ++*tries > TRIES_MAX)
		return false;
	(void)poll(NULL, 0, TRY_PAUSE_MS);
	return true;
}

/* The other one waits for it, or goes on in the belief that nothing was said. */
static ssize_t say(int socket, const struct msghdr *msg)
{
	unsigned int tries = 0;
	ssize_t n;

	do
		n = sendmsg(socket, msg, MSG_NOSIGNAL);
	while (n < 0 && may_try_again(&tries));
	return n;
}

void holder_answer(int socket, int code, const struct err *e, const struct proto_channels *channels)
{
	struct holder_answer a = { .code = code };
	union control control;
	struct iovec iov = { .iov_base = &a, .iov_len = sizeof(a) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (e)
		(void)snprintf(a.text, sizeof(a.text), "%s", e->message);
	if (channels) {
		size_t fds_bytes = sizeof(int) * channels->count;
		struct cmsghdr *c = &control.align;

		memset(&control, 0, sizeof(control));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(fds_bytes);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fds_bytes);
		memcpy(CMSG_DATA(c), channels->fd, fds_bytes);
	}
	(void)say(socket, &msg); /* a worker that died does not need it */
}

static int tell(enum holder_word word, uint32_t value, const char *text)
{
	struct holder_message m = { .word = word, .value = value };
	struct iovec iov = { .iov_base = &m, .iov_len = sizeof(m) };
	const struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (text && snprintf(m.text, sizeof(m.text), "%s", text) >= (int)sizeof(m.text))
		return -ENAMETOOLONG;
	return say(HOLDER_FD_SOCKET, &msg) < 0 ? -errno : 0;
}

/* ret_channels may be NULL: none come. */
static int hear_answer(struct proto_channels *ret_channels, struct err *e)
{
	struct holder_answer a;
	union control control;
	struct iovec iov = { .iov_base = &a, .iov_len = sizeof(a) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	unsigned int tries = 0;
	struct cmsghdr *c;
	ssize_t n;

	do
		n = recvmsg(HOLDER_FD_SOCKET, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && may_try_again(&tries));
	if (n != (ssize_t)sizeof(a))
		return err_set(e, -EIO, "the holder of the mount does not answer");
	if (a.code < 0) {
		a.text[sizeof(a.text) - 1] = '\0';
		return err_set(e, a.code, "%s", a.text);
	}
	c = CMSG_FIRSTHDR(&msg);
	if (!ret_channels)
		return 0;
	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
	    msg.msg_flags & MSG_CTRUNC)
		return err_set(e, -EIO, "the holder of the mount gives no channel to it");
	ret_channels->count = (unsigned int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
	memcpy(ret_channels->fd, CMSG_DATA(c), ret_channels->count * sizeof(int));
	return 0;
}

int holder_mount(unsigned int threads, struct proto_channels *ret_channels, struct err *e)
{
	int r = tell(HOLDER_MOUNT, threads, NULL);

	if (r < 0)
		return err_set(e, r, "asking the holder of the mount: %s", err_name(r));
	return hear_answer(ret_channels, e);
}

void holder_tell(enum holder_word word)
{
	(void)!tell(word, 0, NULL); /* a holder that is gone takes us with it */
}

int holder_set_program(const char *path, struct err *e)
{
	int r = tell(HOLDER_PROGRAM, 0, path);

	if (r < 0)
		return err_set(e, r, "asking the holder of the mount: %s", err_name(r));
	return hear_answer(NULL, e);
}
