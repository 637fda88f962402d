/*
 * bench_nullfuse - the most that a FUSE mount can do: files whose reads are answered from memory
 * and whose writes are dropped once received. A peer of tests/bench/run.
 *
 * usage: bench_nullfuse [--size SIZE] [--disks N] [--threads N] MOUNTPOINT
 */
#include "common/units.h"
#include "onefile.h"

#include <getopt.h>

static const uint8_t *answer; /* FS_IO_BYTES_MAX */

static void null_read(fuse_req_t req, fuse_ino_t ino, size_t len_bytes, off_t offset,
		      struct fuse_file_info *fi)
{
	(void)ino;
	(void)offset;
	(void)fi;
	(void)fuse_reply_buf(req, (const char *)answer, min_u64(len_bytes, FS_IO_BYTES_MAX));
}

static void null_write(fuse_req_t req, fuse_ino_t ino, const char *data, size_t len_bytes,
		       off_t offset, struct fuse_file_info *fi)
{
	(void)ino;
	(void)data;
	(void)offset;
	(void)fi;
	(void)fuse_reply_write(req, len_bytes);
}

static void null_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	(void)ino;
	(void)datasync;
	(void)fi;
	(void)fuse_reply_err(req, 0);
}

static const struct fuse_lowlevel_ops ops = {
	ONEFILE_OPS,
	.read = null_read,
	.write = null_write,
	.fsync = null_fsync,
};

static void serve(struct onefile *f, int fd)
{
	void *request = onefile_memory(f, PROTO_RECEIVE_BYTES);
	ssize_t n;

	do {
		n = proto_receive(fd, request);
		if (n > 0)
			onefile_process(f, fd, request, (size_t)n);
	} while (n >= 0 || n == -EAGAIN);
	if (n != -ENODEV)
		onefile_fail(f, "receiving", (int)n);
	(void)munmap(request, PROTO_RECEIVE_BYTES);
}

static NORETURN void wrong_usage(void)
{
	(void)fputs("usage: bench_nullfuse [--size SIZE] [--disks N] [--threads N] MOUNTPOINT\n",
		    stderr);
	exit(2);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "size", 1, NULL, 's' },
		{ "disks", 1, NULL, 'd' },
		{ "threads", 1, NULL, 't' },
		{ NULL, 0, NULL, 0 },
	};
	struct onefile f = { .program = "bench_nullfuse", .size_bytes = 4 * GIB, .serve = serve };
	uint64_t disks = 1, threads = 4;
	int id;

	while ((id = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (id == 's' && size_parse(optarg, &f.size_bytes) == 0)
			continue;
		if (id == 'd' && u64_parse(optarg, &disks) == 0 && disks > 0 && disks <= 1000)
			continue;
		if (id == 't' && u64_parse(optarg, &threads) == 0 && threads > 0 &&
		    threads <= ONEFILE_THREADS_MAX)
			continue;
		wrong_usage();
	}
	if (optind + 1 != argc)
		wrong_usage();
	f.mountpoint = argv[optind];
	f.threads = (unsigned int)threads;
	f.disks = (unsigned int)disks;
	answer = onefile_memory(&f, FS_IO_BYTES_MAX);
	onefile_run(&f, &ops);
	return 0;
}
