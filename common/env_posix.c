#include "common/env_posix_impl.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#define FILE_MODE 0600
#define DIR_MODE  0700

#define COPY_CHUNK_BYTES ((size_t)1 << 20) /* memory of a copy by hand */
#define COPY_CALL_BYTES	 ((uint64_t)1 << 30)

static bool is_offset(uint64_t offset_bytes, uint64_t len_bytes)
{
	return offset_bytes <= INT64_MAX && len_bytes <= INT64_MAX - offset_bytes;
}

static int close_with(int fd, int r)
{
	(void)close(fd); /* r says what mattered; nothing was written through fd */
	return r;
}

static int open_retry(const char *path, int flags)
{
	int fd;

	do {
		fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY, FILE_MODE);
	} while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

/* With O_DIRECTORY the kernel calls a symbolic link "not a directory"; callers are told -ELOOP. */
static int open_dir(const char *path, int flags)
{
	struct stat st;
	int fd = open_retry(path, flags | O_DIRECTORY);

	if (fd == -ENOTDIR && lstat(path, &st) == 0 && S_ISLNK(st.st_mode))
		return -ELOOP;
	return fd;
}

static int open_flags(unsigned int flags)
{
	int f;

	if (flags & ENV_DIR)
		return O_RDONLY;
	if (flags & ENV_WRITE)
		f = flags & ENV_READ ? O_RDWR : O_WRONLY;
	else
		f = O_RDONLY;
	if (flags & ENV_CREATE)
		f |= O_CREAT;
	if (flags & ENV_EXCL)
		f |= O_EXCL;
	if (flags & ENV_TRUNC)
		f |= O_TRUNC;
	return f;
}

/*
 * O_DIRECT is added afterwards: an open() that fails for it may have created the file already, and
 * could then not be repeated with O_EXCL. EINVAL is how a filesystem says that it cannot.
 */
static int add_direct(int fd, bool *ret_is_direct)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	if (fcntl(fd, F_SETFL, flags | O_DIRECT) == 0) {
		*ret_is_direct = true;
		return 0;
	}
	return errno == EINVAL ? 0 : -errno;
}

static int posix_open(UNUSED struct env *env, const char *path, unsigned int flags,
		      struct env_file **ret_file)
{
	struct env_file *f;
	bool is_direct = false;
	int fd, r;

	fd = flags & ENV_DIR ? open_dir(path, O_RDONLY) : open_retry(path, open_flags(flags));
	if (fd < 0)
		return fd;
	if (flags & ENV_DIRECT) {
		r = add_direct(fd, &is_direct);
		if (r < 0)
			return close_with(fd, r);
	}
	f = calloc(1, sizeof(*f));
	if (f == NULL)
		return close_with(fd, -ENOMEM);
	f->fd = fd;
	f->is_direct = is_direct;
	*ret_file = f;
	return 0;
}

static void posix_close(UNUSED struct env *env, struct env_file *f)
{
	if (f == NULL)
		return;
	(void)close(f->fd); /* what must be durable went through fdatasync */
	free(f);
}

ssize_t env_posix_pread(UNUSED struct env *env, struct env_file *f, void *buf, size_t len_bytes,
			uint64_t offset_bytes)
{
	size_t done = 0;

	if (!is_offset(offset_bytes, len_bytes))
		return -EINVAL;
	while (done < len_bytes) {
		ssize_t n = pread(f->fd, (char *)buf + done, len_bytes - done,
				  (off_t)(offset_bytes + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
		/* An odd end is the end of the file; asking on from there would be -EINVAL. */
		if (f->is_direct && (size_t)n % ENV_DIRECT_ALIGN != 0)
			break;
	}
	return (ssize_t)done;
}

int env_posix_pwrite(UNUSED struct env *env, struct env_file *f, const void *buf, size_t len_bytes,
		     uint64_t offset_bytes)
{
	size_t done = 0;

	if (!is_offset(offset_bytes, len_bytes))
		return -EINVAL;
	while (done < len_bytes) {
		size_t progress;
		ssize_t n = pwrite(f->fd, (const char *)buf + done, len_bytes - done,
				   (off_t)(offset_bytes + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if ((size_t)n == len_bytes - done)
			break;
		progress = env_posix_progress(f, (size_t)n);
		if (progress == 0)
			return -EIO;
		done += progress;
	}
	return 0;
}

static int posix_fdatasync(UNUSED struct env *env, struct env_file *f)
{
	if (fdatasync(f->fd) == 0)
		return 0;
	/*
	 * Not repeated, also not after EINTR: the kernel may have told, and so forgotten, a failed
	 * write-back with this very call, and a second one would then wrongly succeed.
	 */
	return errno == EINTR ? -EIO : -errno;
}

static int allocate(struct env_file *f, int mode, uint64_t offset_bytes, uint64_t len_bytes)
{
	int r;

	if (!is_offset(offset_bytes, len_bytes))
		return -EINVAL;
	do {
		r = fallocate(f->fd, mode, (off_t)offset_bytes, (off_t)len_bytes);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

static int posix_fallocate_range(UNUSED struct env *env, struct env_file *f, uint64_t offset_bytes,
				 uint64_t len_bytes)
{
	return allocate(f, 0, offset_bytes, len_bytes);
}

static int posix_punch(UNUSED struct env *env, struct env_file *f, uint64_t offset_bytes,
		       uint64_t len_bytes)
{
	return allocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset_bytes, len_bytes);
}

static int posix_truncate(UNUSED struct env *env, struct env_file *f, uint64_t size_bytes)
{
	int r;

	if (!is_offset(size_bytes, 0))
		return -EINVAL;
	do {
		r = ftruncate(f->fd, (off_t)size_bytes);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

static int posix_stat(UNUSED struct env *env, struct env_file *f, struct env_stat *ret_stat)
{
	struct stat st;

	if (fstat(f->fd, &st) < 0)
		return -errno;
	*ret_stat = (struct env_stat){
		.size_bytes = (uint64_t)st.st_size,
		.allocated_bytes = (uint64_t)st.st_blocks * 512,
		.dev = st.st_dev,
		.ino = st.st_ino,
		.changed_ns = (int64_t)st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec,
		.link_count = (uint32_t)st.st_nlink,
		.mode = st.st_mode,
		.uid = st.st_uid,
		.is_dir = S_ISDIR(st.st_mode),
	};
	return 0;
}

static int posix_lock(UNUSED struct env *env, struct env_file *f)
{
	int r;

	do {
		r = flock(f->fd, LOCK_EX | LOCK_NB);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

/* ---- copying ---- */

/* Through our memory, where the kernel will not copy by itself. */
static int copy_by_hand(struct env *env, struct env_file *from, uint64_t from_offset_bytes,
			struct env_file *to, uint64_t to_offset_bytes, uint64_t len_bytes)
{
	char *chunk = aligned_alloc(ENV_DIRECT_ALIGN, COPY_CHUNK_BYTES);
	uint64_t done = 0;
	int r = 0;

	if (chunk == NULL)
		return -ENOMEM;
	while (done < len_bytes && r == 0) {
		size_t want = min_u64(COPY_CHUNK_BYTES, len_bytes - done);
		ssize_t n = env_posix_pread(env, from, chunk, want, from_offset_bytes + done);

		if (n < 0)
			r = (int)n;
		else if ((size_t)n < want)
			r = -EIO; /* the source is shorter than we were told */
		else
			r = env_posix_pwrite(env, to, chunk, want, to_offset_bytes + done);
		done += want;
	}
	free(chunk);
	return r;
}

static bool kernel_cannot_copy(int error)
{
	return error == EXDEV || error == EOPNOTSUPP || error == ENOSYS || error == EINVAL;
}

static int posix_copy_range(struct env *env, struct env_file *from, uint64_t from_offset_bytes,
			    struct env_file *to, uint64_t to_offset_bytes, uint64_t len_bytes)
{
	off_t from_at = (off_t)from_offset_bytes, to_at = (off_t)to_offset_bytes;
	uint64_t left = len_bytes;

	if (!is_offset(from_offset_bytes, len_bytes) || !is_offset(to_offset_bytes, len_bytes))
		return -EINVAL;
	while (left > 0) {
		ssize_t n = copy_file_range(from->fd, &from_at, to->fd, &to_at,
					    (size_t)min_u64(left, COPY_CALL_BYTES), 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && !kernel_cannot_copy(errno))
			return -errno;
		/* 0 is the end of the source, or a filesystem that pretends; reading tells. */
		if (n <= 0)
			return copy_by_hand(env, from, (uint64_t)from_at, to, (uint64_t)to_at,
					    left);
		left -= (uint64_t)n;
	}
	return 0;
}

static int posix_reflink(UNUSED struct env *env, struct env_file *from, struct env_file *to)
{
	int r;

	do {
		r = ioctl(to->fd, FICLONE, from->fd);
	} while (r < 0 && errno == EINTR);
	if (r == 0)
		return 0;
	switch (errno) {
	case EOPNOTSUPP:
	case ENOTTY:
	case ENOSYS:
	case EXDEV:
	case EINVAL:
		return -EOPNOTSUPP;
	default:
		return -errno;
	}
}

static int posix_map_shared(UNUSED struct env *env, struct env_file *f, size_t len_bytes,
			    void **ret_mem)
{
	void *mem =
		mmap(NULL, len_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, f->fd, 0);

	if (mem == MAP_FAILED)
		return -errno;
	*ret_mem = mem;
	return 0;
}

static void posix_unmap(UNUSED struct env *env, void *mem, size_t len_bytes)
{
	ASSERT(munmap(mem, len_bytes) == 0);
}

/* ---- names ---- */

static int posix_link(UNUSED struct env *env, const char *from, const char *to)
{
	return linkat(AT_FDCWD, from, AT_FDCWD, to, 0) < 0 ? -errno : 0;
}

static int posix_rename(UNUSED struct env *env, const char *from, const char *to)
{
	return rename(from, to) < 0 ? -errno : 0;
}

static int posix_unlink(UNUSED struct env *env, const char *path)
{
	return unlink(path) < 0 ? -errno : 0;
}

static int posix_mkdir(UNUSED struct env *env, const char *path)
{
	return mkdir(path, DIR_MODE) < 0 ? -errno : 0;
}

static int posix_rmdir(UNUSED struct env *env, const char *path)
{
	return rmdir(path) < 0 ? -errno : 0;
}

static int posix_sync_dir(UNUSED struct env *env, const char *path)
{
	int fd = open_dir(path, O_RDONLY);

	if (fd < 0)
		return fd;
	if (fsync(fd) < 0)
		return close_with(fd, errno == EINTR ? -EIO : -errno); /* as posix_fdatasync() */
	return close_with(fd, 0);
}

static int posix_list_dir(UNUSED struct env *env, const char *path,
			  int (*fn)(void *arg, const char *name), void *arg)
{
	int fd = open_dir(path, O_RDONLY);
	int r = 0;
	DIR *dir;

	if (fd < 0)
		return fd;
	dir = fdopendir(fd);
	if (dir == NULL)
		return close_with(fd, -errno);
	while (r == 0) {
		struct dirent *entry;

		errno = 0;
		entry = readdir(dir);
		if (entry == NULL) {
			r = -errno;
			break;
		}
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			r = fn(arg, entry->d_name);
	}
	(void)closedir(dir); /* only read from */
	return r;
}

static int posix_space(UNUSED struct env *env, const char *path, struct env_space *ret_space)
{
	struct statvfs st;
	int fd = open_retry(path, O_PATH);
	int r;

	if (fd < 0)
		return fd;
	do {
		r = fstatvfs(fd, &st);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return close_with(fd, -errno);
	*ret_space = (struct env_space){
		.total_bytes = (uint64_t)st.f_blocks * st.f_frsize,
		.free_bytes = (uint64_t)st.f_bavail * st.f_frsize,
	};
	return close_with(fd, 0);
}

/* ---- time and chance ---- */

static int64_t clock_ns(clockid_t id)
{
	struct timespec now;

	ASSERT(clock_gettime(id, &now) == 0);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static uint64_t posix_now_mono_ns(UNUSED struct env *env)
{
	return (uint64_t)clock_ns(CLOCK_MONOTONIC);
}

static int64_t posix_now_real_ns(UNUSED struct env *env)
{
	return clock_ns(CLOCK_REALTIME);
}

static void posix_random(UNUSED struct env *env, void *buf, size_t len_bytes)
{
	size_t done = 0;

	while (done < len_bytes) {
		ssize_t n = getrandom((char *)buf + done, len_bytes - done, 0);

		/* Names and salts of a weak source would collide: rather no process. */
		ASSERT(n > 0 || errno == EINTR);
		if (n > 0)
			done += (size_t)n;
	}
}

static int posix_boot_id(struct env *env, char ret_id[37])
{
	struct env_file f = { .fd = open_retry("/proc/sys/kernel/random/boot_id", O_RDONLY) };
	char id[36];
	ssize_t n;

	if (f.fd < 0)
		return f.fd;
	n = env_posix_pread(env, &f, id, sizeof(id), 0);
	(void)close(f.fd); /* only read from */
	if (n < 0)
		return (int)n;
	if (n != (ssize_t)sizeof(id))
		return -EIO;
	memcpy(ret_id, id, sizeof(id));
	ret_id[sizeof(id)] = '\0';
	return 0;
}

static const struct env_ops posix_ops = {
	.open = posix_open,
	.close = posix_close,
	.pread = env_posix_pread,
	.pwrite = env_posix_pwrite,
	.fdatasync = posix_fdatasync,
	.fdatasync_all = env_posix_fdatasync_all,
	.fallocate = posix_fallocate_range,
	.punch = posix_punch,
	.truncate = posix_truncate,
	.stat = posix_stat,
	.lock = posix_lock,
	.copy_range = posix_copy_range,
	.reflink = posix_reflink,
	.map_shared = posix_map_shared,
	.unmap = posix_unmap,
	.link = posix_link,
	.rename = posix_rename,
	.unlink = posix_unlink,
	.mkdir = posix_mkdir,
	.rmdir = posix_rmdir,
	.sync_dir = posix_sync_dir,
	.list_dir = posix_list_dir,
	.space = posix_space,
	.ioq_open = env_posix_ioq_open,
	.ioq_close = env_posix_ioq_close,
	.ioq_pin = env_posix_ioq_pin,
	.ioq_submit = env_posix_ioq_submit,
	.ioq_reap = env_posix_ioq_reap,
	.now_mono_ns = posix_now_mono_ns,
	.now_real_ns = posix_now_real_ns,
	.random = posix_random,
	.boot_id = posix_boot_id,
};

struct env *env_posix(void)
{
	static struct env env = { .ops = &posix_ops };

	return &env;
}
