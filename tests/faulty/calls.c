/*
 * What stands in place of calls that our code makes. Not here, since they cannot fail where we use
 * them, or nobody could do anything about it, are those that give something back (close, munmap, free,
 * ...), clocks, mutexes and conditions, signal masks, and what only asks a process about itself.
 */
#define FUSE_USE_VERSION 314
#include "tests/faulty/faulty.h"

#include <curl/curl.h>
#include <dirent.h>
#include <errno.h>
#include <expat.h>
#include <fcntl.h>
#include <ftw.h>
#include <fuse3/fuse_lowlevel.h>
#include <jansson.h>
#include <liburing.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <poll.h>
#include <pthread.h>
#include <rocksdb/c.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FROM __builtin_return_address(0)

/* True: this very call is to fail, and errno is one of the errors that follow. */
#define FAILS(name, ...) faulty_now(&(const struct faulty_call){ name, { __VA_ARGS__, 0 } }, FROM)

/* calls.syms gives them these names; nobody calls them by these. */
#define CALL(type, failed, name, params, args, ...)                                                \
	type faulty_##name params;                                                                 \
	type faulty_##name params                                                                  \
	{                                                                                          \
		return FAILS(#name, __VA_ARGS__) ? (failed) : (name args);                         \
	}

/*
 * The same of one that moves `len` bytes and may move fewer. The counter of an eventfd, 8 bytes, is
 * always taken and given.
 */
#define MOVES(name, params, args, len, ...)                                                        \
	ssize_t faulty_##name params;                                                              \
	ssize_t faulty_##name params                                                               \
	{                                                                                          \
		if ((len) != 8 && FAILS(#name, __VA_ARGS__, FAULTY_SHORT)) {                       \
			if (errno != FAULTY_SHORT)                                                 \
				return -1;                                                         \
			(len) = (len) > 1 ? (len) / 2 : (len);                                     \
		}                                                                                  \
		return name args;                                                                  \
	}

/* --- memory ------------------------------------------------------------------------------------ */

CALL(void *, NULL, malloc, (size_t bytes), (bytes), ENOMEM)
CALL(void *, NULL, calloc, (size_t count, size_t bytes), (count, bytes), ENOMEM)
CALL(void *, NULL, realloc, (void *p, size_t bytes), (p, bytes), ENOMEM)
CALL(void *, NULL, reallocarray, (void *p, size_t count, size_t bytes), (p, count, bytes), ENOMEM)
CALL(void *, NULL, aligned_alloc, (size_t align, size_t bytes), (align, bytes), ENOMEM)
CALL(int, errno, posix_memalign, (void **ret_p, size_t align, size_t bytes), (ret_p, align, bytes),
     ENOMEM)
CALL(char *, NULL, strdup, (const char *s), (s), ENOMEM)
CALL(char *, NULL, strndup, (const char *s, size_t max), (s, max), ENOMEM)
CALL(void *, MAP_FAILED, mmap, (void *at, size_t bytes, int prot, int flags, int fd, off_t offset),
     (at, bytes, prot, flags, fd, offset), ENOMEM)
CALL(int, -1, madvise, (void *at, size_t bytes, int advice), (at, bytes, advice), ENOMEM)
CALL(FILE *, NULL, open_memstream, (char **ret_p, size_t *ret_bytes), (ret_p, ret_bytes), ENOMEM)

int faulty_vasprintf(char **ret_s, const char *fmt, va_list args) PRINTF_LIKE(2, 0);
int faulty_vasprintf_chk(char **ret_s, int flag, const char *fmt, va_list args) PRINTF_LIKE(3, 0);
int faulty_asprintf(char **ret_s, const char *fmt, ...) PRINTF_LIKE(2, 3);
int faulty_asprintf_chk(char **ret_s, int flag, const char *fmt, ...) PRINTF_LIKE(3, 4);

int faulty_vasprintf(char **ret_s, const char *fmt, va_list args)
{
	return FAILS("vasprintf", ENOMEM) ? -1 : vasprintf(ret_s, fmt, args);
}

int faulty_vasprintf_chk(char **ret_s, int flag, const char *fmt, va_list args)
{
	(void)flag;
	return FAILS("vasprintf", ENOMEM) ? -1 : vasprintf(ret_s, fmt, args);
}

int faulty_asprintf(char **ret_s, const char *fmt, ...)
{
	va_list args;
	int n;

	va_start(args, fmt);
	n = FAILS("asprintf", ENOMEM) ? -1 : vasprintf(ret_s, fmt, args);
	va_end(args);
	return n;
}

int faulty_asprintf_chk(char **ret_s, int flag, const char *fmt, ...)
{
	va_list args;
	int n;

	(void)flag;
	va_start(args, fmt);
	n = FAILS("asprintf", ENOMEM) ? -1 : vasprintf(ret_s, fmt, args);
	va_end(args);
	return n;
}

/* What jansson allocates for us; the path begins where we called it. */
static void *json_memory(size_t bytes)
{
	return FAILS("json", ENOMEM) ? NULL : malloc(bytes);
}

__attribute__((constructor)) static void watch_jansson(void)
{
	json_set_alloc_funcs(json_memory, free);
}

/* --- files ------------------------------------------------------------------------------------- */

int faulty_open(const char *path, int flags, ...);
int faulty_open_2(const char *path, int flags);
int faulty_fcntl(int fd, int what, ...);
int faulty_ioctl(int fd, unsigned long what, ...);

int faulty_open(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list args;

	va_start(args, flags);
	if (flags & O_CREAT)
		mode = va_arg(args, mode_t);
	va_end(args);
	return FAILS("open", EMFILE, EIO, ENOSPC, EINTR) ? -1 : open(path, flags, mode);
}

int faulty_open_2(const char *path, int flags)
{
	return FAILS("open", EMFILE, EIO, ENOSPC, EINTR) ? -1 : open(path, flags & ~O_CREAT);
}

int faulty_fcntl(int fd, int what, ...)
{
	va_list args;
	long value;

	va_start(args, what);
	value = va_arg(args, long);
	va_end(args);
	/* Of a descriptor that is open this is always done. */
	if (what == F_GETFD || what == F_SETFD)
		return fcntl(fd, what, value);
	return FAILS("fcntl", EMFILE, EINVAL) ? -1 : fcntl(fd, what, value);
}

int faulty_ioctl(int fd, unsigned long what, ...)
{
	va_list args;
	void *value;

	va_start(args, what);
	value = va_arg(args, void *);
	va_end(args);
	return FAILS("ioctl", EIO, EOPNOTSUPP, EINTR) ? -1 : ioctl(fd, what, value);
}

MOVES(read, (int fd, void *buf, size_t n), (fd, buf, n), n, EIO, EINTR)
MOVES(pread, (int fd, void *buf, size_t n, off_t at), (fd, buf, n, at), n, EIO, EINTR)
MOVES(write, (int fd, const void *buf, size_t n), (fd, buf, n), n, EIO, ENOSPC, EINTR)
MOVES(pwrite, (int fd, const void *buf, size_t n, off_t at), (fd, buf, n, at), n, EIO, ENOSPC,
      EINTR)
MOVES(copy_file_range,
      (int from, off_t *from_at, int to, off_t *to_at, size_t n, unsigned int flags),
      (from, from_at, to, to_at, n, flags), n, EIO, ENOSPC, EXDEV)
CALL(ssize_t, -1, writev, (int fd, const struct iovec *iov, int n), (fd, iov, n), ENOMEM, EINTR)
CALL(int, -1, fdatasync, (int fd), (fd), EIO, ENOSPC, EINTR)
CALL(int, -1, fsync, (int fd), (fd), EIO, EINTR)
CALL(int, -1, syncfs, (int fd), (fd), EIO)
CALL(int, -1, ftruncate, (int fd, off_t size), (fd, size), EIO, EINTR)
CALL(int, -1, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n), ENOSPC, EIO,
     EOPNOTSUPP, EINTR)
CALL(off_t, -1, lseek, (int fd, off_t at, int whence), (fd, at, whence), EIO)
CALL(int, -1, flock, (int fd, int what), (fd, what), ENOLCK, EINTR)
CALL(int, -1, fchmodat, (int dir, const char *path, mode_t mode, int flags),
     (dir, path, mode, flags), EIO)
CALL(int, -1, fstat, (int fd, struct stat *ret_st), (fd, ret_st), EIO)
CALL(int, -1, stat, (const char *path, struct stat *ret_st), (path, ret_st), EIO, EACCES)
CALL(int, -1, lstat, (const char *path, struct stat *ret_st), (path, ret_st), EIO)
CALL(int, -1, fstatat, (int dir, const char *path, struct stat *ret_st, int flags),
     (dir, path, ret_st, flags), EIO)
CALL(int, -1, fstatfs, (int fd, struct statfs *ret_st), (fd, ret_st), EIO)
CALL(int, -1, statvfs, (const char *path, struct statvfs *ret_st), (path, ret_st), EIO, EINTR)
CALL(int, -1, fstatvfs, (int fd, struct statvfs *ret_st), (fd, ret_st), EIO, EINTR)
CALL(int, -1, access, (const char *path, int mode), (path, mode), EACCES)
CALL(int, -1, faccessat, (int dir, const char *path, int mode, int flags), (dir, path, mode, flags),
     EACCES)
CALL(int, -1, rename, (const char *from, const char *to), (from, to), EIO, ENOSPC)
CALL(int, -1, linkat, (int dir, const char *from, int to_dir, const char *to, int flags),
     (dir, from, to_dir, to, flags), EIO, ENOSPC, EMLINK)
CALL(int, -1, unlink, (const char *path), (path), EIO)
CALL(int, -1, unlinkat, (int dir, const char *path, int flags), (dir, path, flags), EIO)
CALL(int, -1, remove, (const char *path), (path), EIO)
CALL(int, -1, mkdir, (const char *path, mode_t mode), (path, mode), EIO, ENOSPC)
CALL(int, -1, rmdir, (const char *path), (path), EIO)
CALL(ssize_t, -1, readlink, (const char *path, char *buf, size_t n), (path, buf, n), EIO)
CALL(char *, NULL, realpath, (const char *path, char *buf), (path, buf), ENOMEM, EIO)
CALL(char *, NULL, getcwd, (char *buf, size_t n), (buf, n), ENOMEM)
CALL(int, -1, chdir, (const char *path), (path), EIO)
CALL(DIR *, NULL, opendir, (const char *path), (path), EMFILE)
CALL(DIR *, NULL, fdopendir, (int fd), (fd), ENOMEM)
CALL(struct dirent *, NULL, readdir, (DIR * dir), (dir), EIO)
CALL(int, -1, nftw, (const char *dir, __nftw_func_t fn, int fds, int flags), (dir, fn, fds, flags),
     ENOMEM)
CALL(FILE *, NULL, fopen, (const char *path, const char *mode), (path, mode), ENOMEM, EMFILE)
CALL(FILE *, NULL, fdopen, (int fd, const char *mode), (fd, mode), ENOMEM)
CALL(int, EOF, fflush, (FILE * f), (f), ENOSPC)
CALL(ssize_t, -1, getdelim, (char **line, size_t *bytes, int end, FILE *f), (line, bytes, end, f),
     ENOMEM)
/* As getline() is in optimised code. */
ssize_t faulty_getdelim_internal(char **line, size_t *bytes, int end, FILE *f);

ssize_t faulty_getdelim_internal(char **line, size_t *bytes, int end, FILE *f)
{
	return FAILS("getdelim", ENOMEM) ? -1 : getdelim(line, bytes, end, f);
}

CALL(size_t, 0, fwrite, (const void *p, size_t bytes, size_t count, FILE *f), (p, bytes, count, f),
     ENOSPC)
CALL(int, -1, dup2, (int fd, int as), (fd, as), EBUSY)
CALL(int, -1, memfd_create, (const char *name, unsigned int flags), (name, flags), EMFILE)
CALL(int, -1, pipe2, (int ret_fds[2], int flags), (ret_fds, flags), EMFILE)
CALL(int, -1, eventfd, (unsigned int value, int flags), (value, flags), EMFILE)
CALL(int, -1, timerfd_create, (clockid_t clock, int flags), (clock, flags), EMFILE)
CALL(int, -1, timerfd_settime,
     (int fd, int flags, const struct itimerspec *to, struct itimerspec *ret_was),
     (fd, flags, to, ret_was), EINVAL)
CALL(int, -1, signalfd, (int fd, const sigset_t *set, int flags), (fd, set, flags), EMFILE)
CALL(int, -1, poll, (struct pollfd * fds, nfds_t n, int timeout_ms), (fds, n, timeout_ms), EINTR,
     ENOMEM)

int faulty_fclose(FILE *f);

int faulty_fclose(FILE *f)
{
	if (!FAILS("fclose", ENOSPC))
		return fclose(f);
	(void)fclose(f);
	errno = ENOSPC;
	return EOF;
}

MOVES(getrandom, (void *buf, size_t n, unsigned int flags), (buf, n, flags), n, EINTR)

/* --- sockets ----------------------------------------------------------------------------------- */

CALL(int, -1, socket, (int domain, int type, int protocol), (domain, type, protocol), EMFILE)
CALL(int, -1, socketpair, (int domain, int type, int protocol, int ret_fds[2]),
     (domain, type, protocol, ret_fds), EMFILE)
CALL(int, -1, bind, (int fd, const struct sockaddr *to, socklen_t n), (fd, to, n), EADDRINUSE, EIO)
CALL(int, -1, listen, (int fd, int max), (fd, max), EADDRINUSE)
CALL(int, -1, accept4, (int fd, struct sockaddr *ret_from, socklen_t *n, int flags),
     (fd, ret_from, n, flags), EMFILE, ECONNABORTED, EINTR)
CALL(int, -1, connect, (int fd, const struct sockaddr *to, socklen_t n), (fd, to, n), ECONNREFUSED,
     EINTR)
CALL(int, -1, getsockopt, (int fd, int level, int name, void *ret, socklen_t *n),
     (fd, level, name, ret, n), ENOBUFS)
MOVES(send, (int fd, const void *buf, size_t n, int flags), (fd, buf, n, flags), n, ENOBUFS, EPIPE,
      EINTR)
MOVES(recv, (int fd, void *buf, size_t n, int flags), (fd, buf, n, flags), n, ECONNRESET, EINTR)
CALL(ssize_t, -1, sendto,
     (int fd, const void *buf, size_t n, int flags, const struct sockaddr *to, socklen_t to_n),
     (fd, buf, n, flags, to, to_n), ENOBUFS)
CALL(ssize_t, -1, sendmsg, (int fd, const struct msghdr *m, int flags), (fd, m, flags), ENOBUFS,
     EINTR)
CALL(ssize_t, -1, recvmsg, (int fd, struct msghdr *m, int flags), (fd, m, flags), ENOMEM, EINTR)

/* --- processes and threads --------------------------------------------------------------------- */

CALL(pid_t, -1, fork, (void), (), EAGAIN)
CALL(int, -1, kill, (pid_t pid, int signal), (pid, signal), EPERM)
CALL(pid_t, -1, waitpid, (pid_t pid, int *ret_status, int flags), (pid, ret_status, flags), EINTR)
CALL(int, -1, fexecve, (int fd, char *const argv[], char *const env[]), (fd, argv, env), ENOMEM,
     EIO)
CALL(int, errno, posix_spawnp,
     (pid_t * ret_pid, const char *file, const posix_spawn_file_actions_t *actions,
      const posix_spawnattr_t *attributes, char *const argv[], char *const env[]),
     (ret_pid, file, actions, attributes, argv, env), EAGAIN)
CALL(int, errno, posix_spawn_file_actions_addopen,
     (posix_spawn_file_actions_t * actions, int fd, const char *path, int flags, mode_t mode),
     (actions, fd, path, flags, mode), ENOMEM)
CALL(int, errno, pthread_create,
     (pthread_t * ret_thread, const pthread_attr_t *attributes, void *(*fn)(void *), void *arg),
     (ret_thread, attributes, fn, arg), EAGAIN)
CALL(int, -1, nanosleep, (const struct timespec *time, struct timespec *ret_left), (time, ret_left),
     EINTR)
CALL(int, -1, sigaction, (int signal, const struct sigaction *to, struct sigaction *ret_was),
     (signal, to, ret_was), EINVAL)
CALL(int, -1, setrlimit, (__rlimit_resource_t what, const struct rlimit *to), (what, to), EPERM)
CALL(int, -1, umount2, (const char *path, int flags), (path, flags), EBUSY)

int faulty_prctl(int what, ...);
long faulty_syscall(long number, ...);

/* The kernel looks at as many arguments as it needs; nobody here knows how many there are. */
#define TAKES_TOO_MUCH __attribute__((no_sanitize_address))

TAKES_TOO_MUCH int faulty_prctl(int what, ...)
{
	unsigned long a[4];
	va_list args;

	va_start(args, what);
	for (size_t i = 0; i < ARRAY_SIZE(a); i++)
		a[i] = va_arg(args, unsigned long);
	va_end(args);
	return FAILS("prctl", EPERM) ? -1 : prctl(what, a[0], a[1], a[2], a[3]);
}

TAKES_TOO_MUCH long faulty_syscall(long number, ...)
{
	va_list args;
	long a[6];

	va_start(args, number);
	for (size_t i = 0; i < ARRAY_SIZE(a); i++)
		a[i] = va_arg(args, long);
	va_end(args);
	return FAILS("syscall", EMFILE) ? -1 : syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* --- io_uring ---------------------------------------------------------------------------------- */

CALL(int, -errno, io_uring_queue_init, (unsigned int n, struct io_uring *ring, unsigned int flags),
     (n, ring, flags), EPERM, EINVAL)
CALL(int, -errno, io_uring_register_buffers,
     (struct io_uring * ring, const struct iovec *iov, unsigned int n), (ring, iov, n), ENOMEM)
CALL(struct io_uring_probe *, NULL, io_uring_get_probe_ring, (struct io_uring * ring), (ring),
     ENOMEM)

/* The kernel will find that the file of the oldest entry is none: that one fails, and only that. */
static void spoil(struct io_uring *ring)
{
	const struct io_uring_sq *sq = &ring->sq;

	if (sq->sqe_head != sq->sqe_tail)
		sq->sqes[sq->sqe_head & sq->ring_mask].fd = -1;
}

int faulty_io_uring_submit(struct io_uring *ring);
int faulty_io_uring_submit_and_wait(struct io_uring *ring, unsigned int n);
int faulty_io_uring_get_cqe(struct io_uring *ring, struct io_uring_cqe **ret_cqe,
			    unsigned int submit, unsigned int wait, sigset_t *mask);

int faulty_io_uring_submit(struct io_uring *ring)
{
	if (FAILS("io_uring_submit", FAULTY_SPOIL, EAGAIN)) {
		if (errno != FAULTY_SPOIL)
			return -errno;
		spoil(ring);
	}
	return io_uring_submit(ring);
}

int faulty_io_uring_submit_and_wait(struct io_uring *ring, unsigned int n)
{
	if (FAILS("io_uring_submit_and_wait", FAULTY_SPOIL, EAGAIN, EINTR)) {
		if (errno != FAULTY_SPOIL)
			return -errno;
		spoil(ring);
	}
	return io_uring_submit_and_wait(ring, n);
}

/* Its other failures leave open what reached the disk: the process ends by an assertion, on purpose. */
int faulty_io_uring_get_cqe(struct io_uring *ring, struct io_uring_cqe **ret_cqe,
			    unsigned int submit, unsigned int wait, sigset_t *mask)
{
	return FAILS("io_uring_get_cqe", EINTR) ?
		       -errno :
		       __io_uring_get_cqe(ring, ret_cqe, submit, wait, mask);
}

/* --- libraries that tell ----------------------------------------------------------------------- */

CALL(struct fuse_session *, NULL, fuse_session_new,
     (struct fuse_args * args, const struct fuse_lowlevel_ops *ops, size_t bytes, void *data),
     (args, ops, bytes, data), ENOMEM)
CALL(int, -1, fuse_session_mount, (struct fuse_session * s, const char *path), (s, path), EIO)
CALL(int, -1, fuse_opt_add_arg, (struct fuse_args * args, const char *arg), (args, arg), ENOMEM)
CALL(int, -errno, fuse_session_custom_io,
     (struct fuse_session * s, const struct fuse_custom_io *io, int fd), (s, io, fd), ENOMEM)
CALL(int, -errno, fuse_lowlevel_notify_inval_entry,
     (struct fuse_session * s, fuse_ino_t parent, const char *name, size_t n), (s, parent, name, n),
     ENOMEM)
CALL(int, -errno, fuse_lowlevel_notify_inval_inode,
     (struct fuse_session * s, fuse_ino_t ino, off_t at, off_t n), (s, ino, at, n), ENOMEM)
CALL(CURLcode, CURLE_OUT_OF_MEMORY, curl_global_init, (long flags), (flags), ENOMEM)
CALL(CURL *, NULL, curl_easy_init, (void), (), ENOMEM)
CALL(CURLcode, CURLE_OUT_OF_MEMORY, curl_easy_perform, (CURL * curl), (curl), ENOMEM)
CALL(struct curl_slist *, NULL, curl_slist_append, (struct curl_slist * list, const char *s),
     (list, s), ENOMEM)
CALL(XML_Parser, NULL, XML_ParserCreate, (const XML_Char *encoding), (encoding), ENOMEM)
CALL(enum XML_Status, XML_STATUS_ERROR, XML_Parse,
     (XML_Parser parser, const char *s, int n, int last), (parser, s, n, last), ENOMEM)
CALL(EVP_MD_CTX *, NULL, EVP_MD_CTX_new, (void), (), ENOMEM)
CALL(int, 0, EVP_DigestInit_ex, (EVP_MD_CTX * ctx, const EVP_MD *type, ENGINE *engine),
     (ctx, type, engine), ENOMEM)
CALL(int, 0, EVP_DigestUpdate, (EVP_MD_CTX * ctx, const void *p, size_t n), (ctx, p, n), ENOMEM)
CALL(int, 0, EVP_DigestFinal_ex, (EVP_MD_CTX * ctx, unsigned char *ret, unsigned int *ret_n),
     (ctx, ret, ret_n), ENOMEM)
CALL(int, 0, EVP_Digest,
     (const void *p, size_t n, unsigned char *ret, unsigned int *ret_n, const EVP_MD *type,
      ENGINE *engine),
     (p, n, ret, ret_n, type, engine), ENOMEM)
CALL(unsigned char *, NULL, HMAC,
     (const EVP_MD *type, const void *key, int key_n, const unsigned char *p, size_t n,
      unsigned char *ret, unsigned int *ret_n),
     (type, key, key_n, p, n, ret, ret_n), ENOMEM)

/* --- RocksDB ----------------------------------------------------------------------------------- */

static void tell(char **ret_error)
{
	*ret_error = strdup(errno == ENOSPC ? "IO error: No space left on device: injected" :
					      "IO error: injected");
}

/* As CALL, of one that tells by a text. */
#define TELLS(type, failed, name, params, args, ...)                                               \
	type faulty_##name params;                                                                 \
	type faulty_##name params                                                                  \
	{                                                                                          \
		if (!FAILS(#name, __VA_ARGS__))                                                    \
			return name args;                                                          \
		tell(ret_error);                                                                   \
		return failed;                                                                     \
	}

TELLS(rocksdb_t *, NULL, rocksdb_open_column_families,
      (const rocksdb_options_t *options, const char *dir, int n, const char *const *names,
       const rocksdb_options_t *const *each, rocksdb_column_family_handle_t **ret,
       char **ret_error),
      (options, dir, n, names, each, ret, ret_error), EIO)
TELLS(void, , rocksdb_write,
      (rocksdb_t * db, const rocksdb_writeoptions_t *options, rocksdb_writebatch_t *batch,
       char **ret_error),
      (db, options, batch, ret_error), EIO, ENOSPC)
TELLS(void, , rocksdb_flush_cf,
      (rocksdb_t * db, const rocksdb_flushoptions_t *options,
       rocksdb_column_family_handle_t *family, char **ret_error),
      (db, options, family, ret_error), EIO, ENOSPC)
TELLS(void, , rocksdb_flush_wal, (rocksdb_t * db, unsigned char sync, char **ret_error),
      (db, sync, ret_error), EIO, ENOSPC)
TELLS(rocksdb_pinnableslice_t *, NULL, rocksdb_get_pinned_cf,
      (rocksdb_t * db, const rocksdb_readoptions_t *options, rocksdb_column_family_handle_t *family,
       const char *key, size_t n, char **ret_error),
      (db, options, family, key, n, ret_error), EIO)
TELLS(void, , rocksdb_iter_get_error, (const rocksdb_iterator_t *it, char **ret_error),
      (it, ret_error), EIO)
