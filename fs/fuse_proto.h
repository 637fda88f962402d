/*
 * fuse_proto - the FUSE protocol as far as libfuse leaves it to us: the channel and its clones, the
 * buffer that a request is received into, INIT and OPEN replies with bits that libfuse 3.14 can't
 * say.
 *
 * libfuse builds the replies; all of them pass proto_io's writev on their way to the kernel. There
 * the bits are added, and the reply goes to the clone that its request came from.
 */
#ifndef FS_FUSE_PROTO_H
#define FS_FUSE_PROTO_H

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 314
#endif
#include "common/base.h"

#include <fuse3/fuse_lowlevel.h>

/* Clones of one connection, and itself. */
#define PROTO_CHANNELS_MAX 129u

/* Payload of a READ or WRITE. */
#define FS_IO_BYTES_MAX (1u << 20)

/* A WRITE's payload begins so far behind the start of the request. */
#define PROTO_WRITE_HEADER_BYTES 80u

/* Bytes that the receive buffer has: any request fits. */
#define PROTO_RECEIVE_BYTES (PROTO_WRITE_HEADER_BYTES + FS_IO_BYTES_MAX)

/* For fuse_session_custom_io(). */
extern const struct fuse_custom_io proto_io;

/*
 * A channel of its own to the connection of session_fd. The kernel then keeps the requests that
 * were read from it apart from those of others: less contention.
 * Errors: as open(2) and ioctl(2) say. Owns: the result, a file descriptor.
 */
NODISCARD int proto_clone(int session_fd, int *ret_fd);
/* The same, but receiving from it does not wait. */
NODISCARD int proto_clone_nonblocking(int session_fd, int *ret_fd);

/*
 * Read one request.
 * Owns:     buf has room for PROTO_RECEIVE_BYTES.
 * Errors:   -EAGAIN nothing now (interrupted): try again; -ENODEV unmounted; else the channel is
 *           broken. Returns bytes.
 */
NODISCARD ssize_t proto_receive(int fd, void *buf);

/* What is known about a received request without decoding it. */
bool proto_is_init(const void *request, size_t len_bytes);
/* A READ; or a WRITE, which may be answered later, but never keeps whoever runs it. */
bool proto_is_read(const void *request, size_t len_bytes);
bool proto_is_write(const void *request, size_t len_bytes);

/*
 * Requests that the kernel sends again if the process dies before it answered, and that must not take
 * effect twice. PROTO_REPEATS_WRITE: how far it came is known to the engine; PROTO_REPEATS_NAMES: the
 * namespace. Others may be run again: they change nothing, or (cutting a file, allocating) the kernel
 * holds the inode's lock over them, so that nothing came in between.
 */
enum proto_repeats { PROTO_REPEATS_NO, PROTO_REPEATS_WRITE, PROTO_REPEATS_NAMES };
enum proto_repeats proto_repeats(const void *request, size_t len_bytes);
/* Its number. With RESUME_RESENT it is sent again. */
uint64_t proto_unique(const void *request);
/* Whether it stood in the kernel's queue: what is sent again stands at the head of that. */
bool proto_is_queued(const void *request);

/* --- a connection that another process began --------------------------------------------------- */

/* Whether a kernel that sent this INIT can send requests again (6.9 and later). */
bool proto_can_resend(const void *init, size_t len_bytes);
/* Have it send all requests that were read and not answered. Errors: -EINVAL it can't; -ENODEV,
 * -ENOTCONN unmounted. */
NODISCARD int proto_resend(int fd);
/* Whether the request of that number was read through one of these channels and not answered. */
struct proto_channels;
bool proto_is_open(const struct proto_channels *channels, uint64_t unique);
/* Replies of the calling thread are dropped, as if they were sent. */
void proto_swallow(bool swallow);
/* Replies of all threads from now on: the next process answers. Can't be taken back. */
void proto_fall_silent(void);
bool proto_is_silent(void);

/* From now on the calling thread's replies go to fd; request: the one that it runs, or NULL. */
void proto_enter(int fd, const void *request);
void proto_leave(void);

/*
 * All channels of a connection, for what the calling thread answers about requests that may have
 * come through any of them: an INTERRUPT that was here before the request that it names goes back to
 * the kernel, which sends it again, but takes it only from that request's channel.
 * Owns: borrowed as long as the thread answers requests.
 */
struct proto_channels {
	unsigned int count;
	int fd[PROTO_CHANNELS_MAX];
};
void proto_set_channels(const struct proto_channels *channels);

#endif
