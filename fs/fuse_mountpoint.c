#include "fs/fuse_mountpoint.h"

#include "common/log.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define FUSE_MAGIC 0x65735546
/* Dead mounts upon each other that are cleared. */
#define DEAD_MOUNTS_MAX 16

/* Who may not unmount by himself has a helper for it. */
static int unmount_by_helper(const char *path)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		(void)execlp("fusermount3", "fusermount3", "-u", "-z", "--", path, (char *)NULL);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

static int unmount_lazily(const char *path)
{
	if (umount2(path, MNT_DETACH) == 0)
		return 0;
	return errno == EPERM ? unmount_by_helper(path) : -errno;
}

/*
 * Look at path: a directory, and whether the root of a mounted FUSE filesystem. Attributes may come
 * from the kernel's memory even if the server is dead; what statfs(2) says does not.
 */
static int look(const char *path, bool *ret_served)
{
	struct stat st, parent;
	struct statfs fs;
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC), r = 0;

	if (fd < 0)
		return -errno;
	if (fstatfs(fd, &fs) < 0 || fstat(fd, &st) < 0 || fstatat(fd, "..", &parent, 0) < 0)
		r = -errno;
	else
		*ret_served = st.st_dev != parent.st_dev && fs.f_type == FUSE_MAGIC;
	(void)close(fd);
	return r;
}

int mountpoint_prepare(const char *path, struct err *e)
{
	bool served = false;
	int r;

	for (int i = 0; (r = look(path, &served)) < 0; i++) {
		/* The first to notice that the server died is told "aborted". */
		if ((r != -ENOTCONN && r != -ECONNABORTED) || i == DEAD_MOUNTS_MAX)
			return err_set(e, r, "mount point '%s': %s", path, err_name(r));
		log_warning("fs: clearing what a dead process left: mountpoint='%s'", path);
		r = unmount_lazily(path);
		if (r < 0)
			return err_set(e, r, "unmounting dead '%s': %s", path, err_name(r));
	}
	if (served)
		return err_set(e, -EBUSY, "'%s' is a mounted FUSE filesystem already", path);
	return 0;
}

void mountpoint_detach(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd >= 0) {
		if (syncfs(fd) < 0)
			log_warning("fs: writing back before the unmount failed: "
				    "mountpoint='%s': %s",
				    path, err_name(-errno));
		(void)close(fd);
	}
	r = unmount_lazily(path);
	if (r < 0 && r != -EINVAL) /* EINVAL: it is unmounted already */
		log_warning("fs: unmounting failed: mountpoint='%s': %s", path, err_name(r));
}
