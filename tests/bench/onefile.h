/*
 * onefile - what the peers of the benchmarks share (nullfuse.c, passfuse.c): a mount with one file,
 * "disk.raw", of a fixed size, or with some more ("disk1.raw" and on) where nothing is behind them. Every thread has a clone of the FUSE channel; reads and writes pass
 * by the page cache and writes don't exclude each other, as on a mount of ours. libfuse answers
 * what is not data, with the functions below.
 */
#ifndef TESTS_BENCH_ONEFILE_H
#define TESTS_BENCH_ONEFILE_H

#include "common/err.h"
#include "common/thread.h"
#include "fs/fuse_mountpoint.h"
#include "fs/fuse_proto.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ONEFILE_INO	    2u
#define ONEFILE_TIMEOUT_S   3600.0
#define ONEFILE_THREADS_MAX 64u
#define ONEFILE_BACKGROUND  1024u

struct onefile {
	const char *program;
	const char *mountpoint;
	uint64_t size_bytes;
	unsigned int threads;
	unsigned int disks; /* inodes from ONEFILE_INO on */
	/* Answers requests that come on fd, which is the thread's own, until -ENODEV. */
	void (*serve)(struct onefile *f, int fd);
	struct fuse_session *session;
};

struct onefile_thread {
	struct onefile *file;
	int fd;
	struct thread *thread;
};

static NORETURN void onefile_fail(const struct onefile *f, const char *what, int r)
{
	(void)fprintf(stderr, "%s: %s: %s\n", f->program, what, err_name(r));
	exit(1);
}

static struct onefile *onefile_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* --- what is not data -------------------------------------------------------------------------- */

static bool onefile_is_disk(const struct onefile *f, fuse_ino_t ino)
{
	return ino >= ONEFILE_INO && ino - ONEFILE_INO < f->disks;
}

static bool onefile_attr(const struct onefile *f, fuse_ino_t ino, struct stat *ret_attr)
{
	if (ino != FUSE_ROOT_ID && !onefile_is_disk(f, ino))
		return false;
	*ret_attr = (struct stat){
		.st_ino = ino, .st_mode = S_IFDIR | 0755, .st_nlink = 2, .st_blksize = 4096
	};
	if (ino != FUSE_ROOT_ID) {
		ret_attr->st_mode = S_IFREG | 0600;
		ret_attr->st_nlink = 1;
		ret_attr->st_size = (off_t)f->size_bytes;
		ret_attr->st_blocks = (blkcnt_t)(f->size_bytes / 512);
	}
	return true;
}

static void onefile_init(void *userdata, struct fuse_conn_info *conn)
{
	(void)userdata;
	conn->want |= conn->capable & FUSE_CAP_ASYNC_DIO;
	conn->want &= ~(unsigned int)(FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
				      FUSE_CAP_SPLICE_MOVE | FUSE_CAP_AUTO_INVAL_DATA);
	conn->max_write = FS_IO_BYTES_MAX;
	conn->max_read = FS_IO_BYTES_MAX;
	conn->max_background = ONEFILE_BACKGROUND;
	conn->congestion_threshold = ONEFILE_BACKGROUND - ONEFILE_BACKGROUND / 4;
}

static void onefile_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param e = { .attr_timeout = ONEFILE_TIMEOUT_S,
				      .entry_timeout = ONEFILE_TIMEOUT_S };
	const struct onefile *f = onefile_of(req);
	char known[32] = "disk.raw";

	for (unsigned int i = 0; i < f->disks && parent == FUSE_ROOT_ID; i++) {
		if (i > 0)
			(void)snprintf(known, sizeof(known), "disk%u.raw", i);
		if (strcmp(name, known) == 0)
			e.ino = ONEFILE_INO + i;
	}
	if (!onefile_attr(f, e.ino, &e.attr))
		(void)fuse_reply_err(req, ENOENT);
	else
		(void)fuse_reply_entry(req, &e);
}

static void onefile_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct stat attr;

	(void)fi;
	if (onefile_attr(onefile_of(req), ino, &attr))
		(void)fuse_reply_attr(req, &attr, ONEFILE_TIMEOUT_S);
	else
		(void)fuse_reply_err(req, ESTALE);
}

/* The size stays; times and modes are nobody's business here. */
static void onefile_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
			    struct fuse_file_info *fi)
{
	if ((to_set & FUSE_SET_ATTR_SIZE) && (uint64_t)attr->st_size != onefile_of(req)->size_bytes)
		(void)fuse_reply_err(req, EPERM);
	else
		onefile_getattr(req, ino, fi);
}

/* proto_io adds that writes need not exclude each other. */
static void onefile_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	if (!onefile_is_disk(onefile_of(req), ino)) {
		(void)fuse_reply_err(req, EISDIR);
		return;
	}
	fi->direct_io = 1;
	fi->noflush = 1;
	(void)fuse_reply_open(req, fi);
}

static void onefile_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	(void)ino;
	(void)fi;
	(void)fuse_reply_err(req, 0);
}

/* The functions of every peer; it adds read, write and fsync as it needs them. */
#define ONEFILE_OPS                                                                                \
	.init = onefile_init, .lookup = onefile_lookup, .getattr = onefile_getattr,                \
	.setattr = onefile_setattr, .open = onefile_open, .release = onefile_release

/* Let libfuse decode and run one request, whose answer goes to fd. */
static void onefile_process(struct onefile *f, int fd, void *request, size_t len_bytes)
{
	struct fuse_buf buf = { .mem = request, .size = len_bytes };

	proto_enter(fd, request);
	fuse_session_process_buf(f->session, &buf);
	proto_leave();
}

/* --- life -------------------------------------------------------------------------------------- */

static void *onefile_memory(const struct onefile *f, size_t len_bytes)
{
	void *p = mmap(NULL, len_bytes, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		onefile_fail(f, "memory", -errno);
	return p;
}

static void onefile_thread_main(void *arg)
{
	struct onefile_thread *t = arg;

	t->file->serve(t->file, t->fd);
}

/* SIGTERM or SIGINT: unmount; then the threads find that there is nothing to read any more. */
static void onefile_wait_signal(void *arg)
{
	const struct onefile *f = arg;
	sigset_t set;
	int number;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	if (sigwait(&set, &number) == 0)
		mountpoint_detach(f->mountpoint);
}

static void onefile_mount(struct onefile *f, const struct fuse_lowlevel_ops *ops)
{
	char options[] = "max_read=1048576,default_permissions,subtype=vpool-bench";
	char name[] = "vpool-bench", flag[] = "-o";
	char *argv[] = { name, flag, options, NULL };
	struct fuse_args args = FUSE_ARGS_INIT(3, argv);
	struct err e = { 0 };
	int r = mountpoint_prepare(f->mountpoint, &e);

	if (r < 0)
		onefile_fail(f, e.message, r);
	f->session = fuse_session_new(&args, ops, sizeof(*ops), f);
	fuse_opt_free_args(&args);
	if (!f->session || fuse_session_mount(f->session, f->mountpoint) < 0)
		onefile_fail(f, f->mountpoint, -EIO);
	r = fuse_session_custom_io(f->session, &proto_io, fuse_session_fd(f->session));
	if (r < 0)
		onefile_fail(f, "channel", r);
}

/* Mount and serve until somebody unmounts, or by SIGTERM or SIGINT. What fails ends the process. */
static void onefile_run(struct onefile *f, const struct fuse_lowlevel_ops *ops)
{
	static struct onefile_thread threads[ONEFILE_THREADS_MAX];
	static struct thread *watcher; /* never joined */
	sigset_t all;
	int r;

	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, NULL);
	onefile_mount(f, ops);
	r = thread_start("signals", onefile_wait_signal, f, &watcher);
	for (unsigned int i = 0; i < f->threads && r == 0; i++) {
		struct onefile_thread *t = &threads[i];

		t->file = f;
		r = proto_clone(fuse_session_fd(f->session), &t->fd);
		if (r == 0)
			r = thread_start("serve", onefile_thread_main, t, &t->thread);
	}
	if (r < 0) {
		mountpoint_detach(f->mountpoint);
		onefile_fail(f, "starting threads", r);
	}
	for (unsigned int i = 0; i < f->threads; i++) {
		thread_join(threads[i].thread);
		(void)close(threads[i].fd);
	}
	fuse_session_unmount(f->session);
	fuse_session_destroy(f->session);
}

#endif
