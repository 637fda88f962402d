#include "fs/fuse_proto.h"

#include "fs/fuse_hold.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

STATIC_ASSERT(sizeof(struct fuse_in_header) + sizeof(struct fuse_write_in) ==
		      PROTO_WRITE_HEADER_BYTES,
	      "the payload of a WRITE is page-aligned only if this is its header");
STATIC_ASSERT(PROTO_RECEIVE_BYTES >= FUSE_MIN_READ_BUFFER, "the kernel refuses less");

/* Bits of flags2 in INIT, newer than the headers of the build machine. */
#define PROTO_INIT_EXT		   (UINT32_C(1) << 30)
#define PROTO_HAS_RESEND	   (UINT32_C(1) << (39 - 32))
#define PROTO_DIRECT_IO_ALLOW_MMAP (UINT32_C(1) << (36 - 32))

/* In the unique number of an INTERRUPT, which else is that of the request it names. */
#define PROTO_INTERRUPT_BIT UINT64_C(1)

/* How often, and how far apart, the kernel is told what it had no memory for. */
#define TELL_TRIES    1000u
#define TELL_PAUSE_MS 10

/* A notification newer than those headers. */
#define PROTO_NOTIFY_RESEND 7

static __thread const struct proto_channels *all_channels;
static __thread bool swallows;
static bool silent; /* atomic */

/* The request that this thread answers. */
static __thread struct {
	int fd_plus_1; /* 0: none, so that zeroed memory is right */
	uint64_t unique;
	uint32_t opcode;
	bool allow_mmap; /* INIT: the kernel offers shared mmap of direct_io files */
} current;

void proto_enter(int fd, const void *request)
{
	struct fuse_in_header in;
	struct fuse_init_in init;

	hold_reset();
	current.fd_plus_1 = fd + 1;
	current.unique = 0;
	if (!request)
		return;
	memcpy(&in, request, sizeof(in));
	current.unique = in.unique;
	current.opcode = in.opcode;
	current.allow_mmap = false;
	if (in.opcode == FUSE_INIT && in.len >= sizeof(in) + sizeof(init)) {
		memcpy(&init, (const uint8_t *)request + sizeof(in), sizeof(init));
		current.allow_mmap = (init.flags & PROTO_INIT_EXT) != 0 &&
				     (init.flags2 & PROTO_DIRECT_IO_ALLOW_MMAP) != 0;
	}
}

void proto_leave(void)
{
	current.fd_plus_1 = 0;
	current.unique = 0;
}

/* Direct writes that don't extend the file need not exclude each other. */
static void patch_open(struct fuse_open_out *open)
{
	if (open->open_flags & FOPEN_DIRECT_IO)
		open->open_flags |= FOPEN_PARALLEL_DIRECT_WRITES;
}

static void patch_reply(const struct iovec *iov, int count)
{
	uint8_t *body;

	if (count < 2)
		return;
	body = iov[1].iov_base;
	if (current.opcode == FUSE_OPEN && iov[1].iov_len == sizeof(struct fuse_open_out)) {
		struct fuse_open_out open;

		memcpy(&open, body, sizeof(open));
		patch_open(&open);
		memcpy(body, &open, sizeof(open));
	} else if (current.opcode == FUSE_CREATE &&
		   iov[1].iov_len == sizeof(struct fuse_entry_out) + sizeof(struct fuse_open_out)) {
		struct fuse_open_out open;

		body += sizeof(struct fuse_entry_out);
		memcpy(&open, body, sizeof(open));
		patch_open(&open);
		memcpy(body, &open, sizeof(open));
	} else if (current.opcode == FUSE_INIT && current.allow_mmap &&
		   iov[1].iov_len == sizeof(struct fuse_init_out)) {
		struct fuse_init_out init;

		memcpy(&init, body, sizeof(init));
		init.flags |= PROTO_INIT_EXT;
		init.flags2 |= PROTO_DIRECT_IO_ALLOW_MMAP;
		memcpy(body, &init, sizeof(init));
	}
}

void proto_set_channels(const struct proto_channels *channels)
{
	all_channels = channels;
}

/*
 * Who is not answered waits for ever, so a kernel that is short of memory is told again; for so long
 * that it has either found some or killed somebody for it.
 */
static ssize_t tell_kernel(int fd, const struct iovec *iov, int count)
{
	ssize_t n = writev(fd, iov, count);

	for (unsigned int i = 0;
	     n < 0 && (errno == ENOMEM || errno == EAGAIN || errno == EINTR) && i < TELL_TRIES;
	     i++) {
		(void)poll(NULL, 0, TELL_PAUSE_MS);
		n = writev(fd, iov, count);
	}
	return n;
}

/* To the one channel that its request came from; the others know no such request. */
static ssize_t answer_interrupt(const struct iovec *iov, int count)
{
	for (unsigned int i = 0; i < all_channels->count; i++) {
		ssize_t n = tell_kernel(all_channels->fd[i], iov, count);

		if (n >= 0 || errno != ENOENT)
			return n;
	}
	errno = ENOENT; /* it is answered already */
	return -1;
}

static ssize_t proto_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct fuse_out_header out;

	(void)userdata;
	memcpy(&out, iov[0].iov_base, sizeof(out));
	if (out.unique != 0 && (swallows || proto_is_silent())) {
		ssize_t n = 0;

		for (int i = 0; i < count; i++)
			n += (ssize_t)iov[i].iov_len;
		return n;
	}
	if (out.unique & PROTO_INTERRUPT_BIT && all_channels)
		return answer_interrupt(iov, count);
	if (out.unique != 0) { /* else a notification: any channel will do */
		if (current.fd_plus_1 > 0)
			fd = current.fd_plus_1 - 1;
		if (hold_reply(fd, out.unique))
			return sizeof(out);
		if (out.unique == current.unique && out.error == 0)
			patch_reply(iov, count);
	}
	return tell_kernel(fd, iov, count);
}

/* libfuse wants one; requests are received by proto_receive(). */
static ssize_t proto_read(int fd, void *buf, size_t len_bytes, void *userdata)
{
	(void)userdata;
	return read(fd, buf, len_bytes);
}

const struct fuse_custom_io proto_io = {
	.writev = proto_writev,
	.read = proto_read,
};

int proto_clone(int session_fd, int *ret_fd)
{
	uint32_t source_fd = (uint32_t)session_fd;
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	if (ioctl(fd, FUSE_DEV_IOC_CLONE, &source_fd) < 0) {
		int r = -errno;

		(void)close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

int proto_clone_nonblocking(int session_fd, int *ret_fd)
{
	int r = proto_clone(session_fd, ret_fd);

	if (r < 0 || fcntl(*ret_fd, F_SETFL, O_RDWR | O_NONBLOCK) == 0)
		return r;
	r = -errno;
	(void)close(*ret_fd);
	return r;
}

ssize_t proto_receive(int fd, void *buf)
{
	ssize_t n = read(fd, buf, PROTO_RECEIVE_BYTES);
	struct fuse_in_header in;

	if (n < 0) {
		/* ENOENT: the request was interrupted before we had it. */
		if (errno == EINTR || errno == EAGAIN || errno == ENOENT)
			return -EAGAIN;
		return -errno;
	}
	if ((size_t)n < sizeof(in))
		return -EIO;
	memcpy(&in, buf, sizeof(in));
	return in.len == (size_t)n ? n : -EIO;
}

static bool has_opcode(const void *request, size_t len_bytes, uint32_t opcode)
{
	struct fuse_in_header in;

	if (len_bytes < sizeof(in))
		return false;
	memcpy(&in, request, sizeof(in));
	return in.opcode == opcode;
}

bool proto_is_init(const void *request, size_t len_bytes)
{
	return has_opcode(request, len_bytes, FUSE_INIT);
}

bool proto_is_read(const void *request, size_t len_bytes)
{
	return has_opcode(request, len_bytes, FUSE_READ);
}

bool proto_is_write(const void *request, size_t len_bytes)
{
	return has_opcode(request, len_bytes, FUSE_WRITE);
}

/* --- who asks again ---------------------------------------------------------------------------- */

enum proto_repeats proto_repeats(const void *request, size_t len_bytes)
{
	struct fuse_setattr_in set;
	struct fuse_in_header in;

	if (len_bytes < sizeof(in))
		return PROTO_REPEATS_NO;
	memcpy(&in, request, sizeof(in));
	switch (in.opcode) {
	case FUSE_WRITE:
		return PROTO_REPEATS_WRITE;
	case FUSE_SETATTR:
		if (len_bytes < sizeof(in) + sizeof(set))
			return PROTO_REPEATS_NO;
		memcpy(&set, (const uint8_t *)request + sizeof(in), sizeof(set));
		return set.valid & FATTR_SIZE ? PROTO_REPEATS_NO : PROTO_REPEATS_NAMES;
	case FUSE_CREATE:
	case FUSE_MKNOD:
	case FUSE_MKDIR:
	case FUSE_SYMLINK:
	case FUSE_LINK:
	case FUSE_UNLINK:
	case FUSE_RMDIR:
	case FUSE_RENAME:
	case FUSE_RENAME2:
	case FUSE_SETXATTR:
	case FUSE_REMOVEXATTR:
		return PROTO_REPEATS_NAMES;
	default:
		return PROTO_REPEATS_NO;
	}
}

uint64_t proto_unique(const void *request)
{
	struct fuse_in_header in;

	memcpy(&in, request, sizeof(in));
	return in.unique;
}

bool proto_is_queued(const void *request)
{
	struct fuse_in_header in;

	memcpy(&in, request, sizeof(in));
	return in.opcode != FUSE_FORGET && in.opcode != FUSE_BATCH_FORGET &&
	       in.opcode != FUSE_INTERRUPT;
}

bool proto_can_resend(const void *init, size_t len_bytes)
{
	struct fuse_in_header in;
	struct fuse_init_in body;

	if (len_bytes < sizeof(in) + sizeof(body))
		return false;
	memcpy(&body, (const uint8_t *)init + sizeof(in), sizeof(body));
	return (body.flags & PROTO_INIT_EXT) != 0 && (body.flags2 & PROTO_HAS_RESEND) != 0;
}

int proto_resend(int fd)
{
	const struct fuse_out_header out = { .len = sizeof(out), .error = PROTO_NOTIFY_RESEND };
	ssize_t n = write(fd, &out, sizeof(out));

	return n == (ssize_t)sizeof(out) ? 0 : -errno;
}

/*
 * The answer to an INTERRUPT that tells nothing: the kernel looks for the request that it names, and
 * says ENOENT, or does no more.
 */
bool proto_is_open(const struct proto_channels *channels, uint64_t unique)
{
	const struct fuse_out_header out = {
		.len = sizeof(out),
		.unique = unique | PROTO_INTERRUPT_BIT,
	};

	for (unsigned int i = 0; i < channels->count; i++)
		if (write(channels->fd[i], &out, sizeof(out)) == (ssize_t)sizeof(out) ||
		    errno != ENOENT)
			return true;
	return false;
}

void proto_swallow(bool swallow)
{
	swallows = swallow;
}

void proto_fall_silent(void)
{
	__atomic_store_n(&silent, true, __ATOMIC_SEQ_CST);
}

bool proto_is_silent(void)
{
	return __atomic_load_n(&silent, __ATOMIC_RELAXED);
}
