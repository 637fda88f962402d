/*
 * cutfs - a filesystem that forgets what was not synced: power cuts for tests.
 *
 *	tool_cutfs STORE MOUNTPOINT
 *
 * Serves what is in STORE (a directory, empty at first) in the foreground until it is unmounted.
 * Prints "ready" when the mount answers. Words written into MOUNTPOINT/.cutfs:
 *	cut SEED	turns the power off: every request fails with EIO from now on, and the
 *			store is what a disk could have kept; a line of STORE/cuts counts
 *	cut SEED N	does it with the N-th change from then on
 *	stay		undoes that, if it did not happen yet
 *	fail N GLOB	the next N syncs of files and directories whose path matches fail with EIO; what
 *			they were to keep stays unsynced. 0: no more of that
 * Reading it tells whether the power is on. The next server on the STORE goes on from there. A
 * server that was just unmounted has lost nothing.
 *
 * What may be lost, and what may not: cutfs.h, and cutfs/names.c for names. O_DIRECT does not make
 * anything durable; O_DSYNC does.
 */
#include "tests/tools/cutfs/ops.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Until there is a request, or a sync is due. */
static void wait_for_work(struct fuse_session *session)
{
	struct pollfd pfd = { .fd = fuse_session_fd(session), .events = POLLIN };
	uint64_t due_ns = cut_sync_due_ns(), now = now_ns();
	uint64_t left_ns = due_ns > now ? due_ns - now : 0;
	struct timespec timeout = { (time_t)(left_ns / 1000000000), (long)(left_ns % 1000000000) };

	(void)ppoll(&pfd, 1, due_ns ? &timeout : NULL, NULL);
}

static void serve(struct cutfs *fs, struct fuse_session *session)
{
	struct fuse_buf buf = { 0 };

	while (!fuse_session_exited(session)) {
		int n;

		cut_sync_answer(fs, now_ns());
		wait_for_work(session);
		n = fuse_session_receive_buf(session, &buf);
		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n <= 0)
			break;
		fuse_session_process_buf(session, &buf);
	}
	free(buf.mem);
}

static void open_store(struct cutfs *fs, const char *store)
{
	struct rlimit files;
	char path[PATH_MAX];

	/* Every file of the store stays open. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	(void)snprintf(path, sizeof(path), "%s/data", store);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		cut_die(path);
	fs->data_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fs->data_fd < 0)
		cut_die(path);
	fs->store = store;
	fs->cookie_next = 1;
	cut_store_load(fs);
}

int main(int argc, char **argv)
{
	char program[] = "cutfs", option[] = "-ofsname=cutfs,allow_other";
	char *words[] = { program, option, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(2, words);
	static struct cutfs fs;
	struct fuse_session *session;

	if (argc != 3) {
		(void)fprintf(stderr, "usage: tool_cutfs STORE MOUNTPOINT\n");
		return 2;
	}
	open_store(&fs, argv[1]);
	session = fuse_session_new(&args, &cut_ops, sizeof(cut_ops), &fs);
	if (!session || fuse_session_mount(session, argv[2]) != 0)
		return 1;
	if (fcntl(fuse_session_fd(session), F_SETFL, O_NONBLOCK) < 0)
		cut_die("the channel");
	(void)printf("ready\n");
	(void)fflush(stdout);
	serve(&fs, session);
	fuse_session_unmount(session);
	fuse_session_destroy(session);
	fuse_opt_free_args(&args);
	if (!fs.is_dead)
		cut_store_save(&fs);
	return 0;
}
