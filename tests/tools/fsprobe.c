/*
 * fsprobe - system calls that shell tools lack, for tests on a mounted filesystem.
 *
 *	tool_fsprobe COMMAND ARGUMENT...		exit 0 done, 1 failed (errno's name on stderr)
 *
 * See the table at the end for the commands. The last ones make and prove promises: a writer logs
 * what was acknowledged to a place outside of the mount, so that after the server was killed it can
 * be told what must be there.
 */
#include "tests/tools/commands.h"
#include "tests/tools/sector.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define WRITE_SECTORS_MAX 512u
#define HANDLE_BYTES	  128u
/* Threads of one writer: so many of its writes are under way at a time. */
#define WRITERS 4u

/* --- one call each ----------------------------------------------------------------------------- */

static int cmd_setxattr(char **a)
{
	int flags = strcmp(a[3], "create") == 0	 ? XATTR_CREATE :
		    strcmp(a[3], "replace") == 0 ? XATTR_REPLACE :
						   0;

	return lsetxattr(a[0], a[1], a[2], strlen(a[2]), flags) < 0 ? fail("setxattr") : 0;
}

static int cmd_getxattr(char **a)
{
	static char value[65537];
	ssize_t n = lgetxattr(a[0], a[1], value, sizeof(value));

	if (n < 0)
		return fail("getxattr");
	(void)fwrite(value, 1, (size_t)n, stdout);
	return 0;
}

static int cmd_listxattr(char **a)
{
	static char names[65537];
	ssize_t n = llistxattr(a[0], names, sizeof(names));

	if (n < 0)
		return fail("listxattr");
	for (ssize_t at = 0; at < n; at += (ssize_t)strlen(names + at) + 1)
		(void)printf("%s\n", names + at);
	return 0;
}

static int cmd_rmxattr(char **a)
{
	return lremovexattr(a[0], a[1]) < 0 ? fail("removexattr") : 0;
}

static int cmd_rename(char **a)
{
	unsigned int flags = strcmp(a[0], "exchange") == 0  ? RENAME_EXCHANGE :
			     strcmp(a[0], "noreplace") == 0 ? RENAME_NOREPLACE :
							      0;

	return renameat2(AT_FDCWD, a[1], AT_FDCWD, a[2], flags) < 0 ? fail("rename") : 0;
}

static int cmd_seek(char **a)
{
	int fd = open(a[1], O_RDONLY);
	off_t at;

	if (fd < 0)
		return fail("open");
	at = lseek(fd, (off_t)number(a[2]), strcmp(a[0], "data") == 0 ? SEEK_DATA : SEEK_HOLE);
	if (at < 0)
		return fail("lseek");
	(void)printf("%lld\n", (long long)at);
	(void)close(fd);
	return 0;
}

/* copy_file_range() until all is there, or the end. */
static int cmd_copy(char **a)
{
	int from = open(a[0], O_RDONLY), to = open(a[2], O_RDWR | O_CREAT, 0666);
	off_t from_at = (off_t)number(a[1]), to_at = (off_t)number(a[3]);
	uint64_t left = number(a[4]);
	ssize_t n = 1;

	if (from < 0 || to < 0)
		return fail("open");
	while (left > 0 && n > 0) {
		n = copy_file_range(from, &from_at, to, &to_at, left, 0);
		if (n < 0)
			return fail("copy_file_range");
		left -= (uint64_t)n;
	}
	(void)close(from);
	(void)close(to);
	return 0;
}

static int cmd_fallocate(char **a)
{
	int mode = strcmp(a[0], "plain") == 0 ? 0 :
		   strcmp(a[0], "keep") == 0  ? FALLOC_FL_KEEP_SIZE :
		   strcmp(a[0], "punch") == 0 ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE :
		   strcmp(a[0], "zero") == 0  ? FALLOC_FL_ZERO_RANGE :
						FALLOC_FL_COLLAPSE_RANGE;
	int fd = open(a[1], O_RDWR);

	if (fd < 0)
		return fail("open");
	if (fallocate(fd, mode, (off_t)number(a[2]), (off_t)number(a[3])) < 0)
		return fail("fallocate");
	(void)close(fd);
	return 0;
}

/* Write text at an offset through a shared mapping. */
static int cmd_mmap(char **a)
{
	uint64_t offset = number(a[1]), page = offset & ~UINT64_C(4095);
	int fd = open(a[0], O_RDWR);
	char *map;

	if (fd < 0)
		return fail("open");
	map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)page);
	if (map == MAP_FAILED)
		return fail("mmap");
	memcpy(map + (offset - page), a[2], strlen(a[2]));
	if (munmap(map, 8192) < 0 || close(fd) < 0)
		return fail("munmap");
	return 0;
}

/* An ioctl that no filesystem knows. */
static int cmd_ioctl(char **a)
{
	char arg[16] = "";
	int fd = open(a[0], O_RDONLY);

	if (fd < 0)
		return fail("open");
	if (ioctl(fd, _IOWR('v', 0xee, char[16]), arg) < 0)
		return fail("ioctl");
	return close(fd) < 0 ? fail("close") : 0;
}

/* Use a file after its name is gone. */
static int cmd_unlinked(char **a)
{
	char text[16] = "", there[] = "still there";
	struct stat st;
	int fd = open(a[0], O_RDWR | O_CREAT, 0600);

	if (fd < 0)
		return fail("open");
	if (unlink(a[0]) < 0)
		return fail("unlink");
	if (pwrite(fd, there, sizeof(there), 100000) != sizeof(there) || fsync(fd) < 0)
		return fail("pwrite");
	if (pread(fd, text, sizeof(there), 100000) != sizeof(there) || fstat(fd, &st) < 0)
		return fail("pread");
	if (strcmp(text, there) != 0 || st.st_nlink != 0 || st.st_size != 100000 + sizeof(there)) {
		(void)fprintf(stderr, "fsprobe: '%s' nlink=%lu size=%lld\n", text,
			      (unsigned long)st.st_nlink, (long long)st.st_size);
		return 1;
	}
	return close(fd) < 0 ? fail("close") : 0;
}

/* Remove every file of a directory while reading it; prints how many there were. */
static int cmd_empty(char **a)
{
	DIR *dir = opendir(a[0]);
	struct dirent *d;
	uint64_t count = 0;

	if (!dir)
		return fail("opendir");
	for (errno = 0; (d = readdir(dir)); errno = 0) {
		if (d->d_name[0] == '.')
			continue;
		if (unlinkat(dirfd(dir), d->d_name, 0) < 0)
			return fail("unlink");
		count++;
	}
	if (errno != 0)
		return fail("readdir");
	(void)closedir(dir);
	(void)printf("%" PRIu64 "\n", count);
	return 0;
}

/* Make empty files 0..N-1 in a directory. */
static int cmd_fill(char **a)
{
	int dir = open(a[0], O_RDONLY | O_DIRECTORY);
	uint64_t count = number(a[1]);
	char name[32];

	if (dir < 0)
		return fail("open");
	for (uint64_t i = 0; i < count; i++) {
		int fd;

		(void)snprintf(name, sizeof(name), "%" PRIu64, i);
		fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL, 0644);
		if (fd < 0)
			return fail(name);
		(void)close(fd);
	}
	(void)close(dir);
	return 0;
}

/* Two runs: the file handle of a path into a file; and what lies behind a handle, as text. */
static int cmd_handle(char **a)
{
	union {
		struct file_handle h;
		char bytes[sizeof(struct file_handle) + HANDLE_BYTES];
	} u = { .h = { .handle_bytes = HANDLE_BYTES } };
	FILE *f = fopen(a[1], "we");
	int mount_id;

	if (!f)
		return fail("fopen");
	if (name_to_handle_at(AT_FDCWD, a[0], &u.h, &mount_id, 0) < 0)
		return fail("name_to_handle_at");
	if (fwrite(&u, sizeof(u), 1, f) != 1 || fclose(f) != 0)
		return fail("fwrite");
	return 0;
}

static int cmd_by_handle(char **a)
{
	union {
		struct file_handle h;
		char bytes[sizeof(struct file_handle) + HANDLE_BYTES];
	} u;
	FILE *f = fopen(a[1], "re");
	int mount_fd = open(a[0], O_RDONLY | O_DIRECTORY), fd;
	char text[4096];
	ssize_t n;

	if (!f || mount_fd < 0 || fread(&u, sizeof(u), 1, f) != 1)
		return fail("reading the handle");
	(void)fclose(f);
	fd = open_by_handle_at(mount_fd, &u.h, O_RDONLY);
	if (fd < 0)
		return fail("open_by_handle_at");
	n = read(fd, text, sizeof(text));
	if (n < 0)
		return fail("read");
	(void)fwrite(text, 1, (size_t)n, stdout);
	(void)close(fd);
	(void)close(mount_fd);
	return 0;
}

/* --- promises ---------------------------------------------------------------------------------- */

/* A record of the log: the write is about to begin, or is acknowledged. */
struct promise {
	uint64_t seq, first, count;
	uint64_t acked;
};

static int put_promise(int log, const struct promise *p)
{
	return write(log, p, sizeof(*p)) == (ssize_t)sizeof(*p) ? 0 : -1;
}

/* One of several threads that write at a time, each to sectors of its own. */
struct writer {
	pthread_t thread;
	int fd, log;
	uint64_t disk, state, align, limit;
	uint64_t first, sectors; /* its own */
	uint64_t *seq;		 /* of all */
	int result;
};

static int write_one(struct writer *w, uint8_t *data)
{
	uint64_t many = min_u64(WRITE_SECTORS_MAX, w->sectors / 2);
	struct promise p = { .seq = __atomic_add_fetch(w->seq, 1, __ATOMIC_RELAXED) };
	size_t len;

	p.count = next_random(&w->state) % 8 ? next_random(&w->state) % 16 :
					       next_random(&w->state) % many;
	p.count = (p.count / w->align + 1) * w->align;
	p.first = w->first + next_random(&w->state) % (w->sectors - p.count) / w->align * w->align;
	for (uint64_t i = 0; i < p.count; i++)
		fill_sector(data + i * SECTOR_BYTES, w->disk, p.seq, p.first + i);
	if (put_promise(w->log, &p) < 0)
		return -1;
	len = p.count * SECTOR_BYTES;
	if (pwrite(w->fd, data, len, (off_t)(p.first * SECTOR_BYTES)) != (ssize_t)len)
		return 1; /* killed: not acknowledged */
	p.acked = 1;
	return put_promise(w->log, &p);
}

static void *writer_main(void *arg)
{
	struct writer *w = arg;
	uint8_t *data = aligned_alloc(4096, (WRITE_SECTORS_MAX + 8) * SECTOR_BYTES);

	w->result = data ? 0 : -1;
	while (w->result == 0 && w->limit-- > 0)
		w->result = write_one(w, data);
	free(data);
	return NULL;
}

/* The highest number that a log has used: the next run goes on behind it. */
static uint64_t last_seq(int log)
{
	struct promise p;
	uint64_t seq = 0;

	for (off_t i = 0; pread(log, &p, sizeof(p), i * (off_t)sizeof(p)) == (ssize_t)sizeof(p);
	     i++)
		seq = max_u64(seq, p.seq);
	return seq;
}

/* FILE LOG SIZE SEED direct|cached COUNT: random writes, COUNT for each thread or to an error. */
static int cmd_writer(char **a)
{
	struct writer w[WRITERS] = { 0 };
	uint64_t sectors = number(a[2]) / SECTOR_BYTES, align = strcmp(a[4], "direct") == 0 ? 8 : 1;
	int fd = open(a[0], O_RDWR | O_CREAT | (align > 1 ? O_DIRECT : 0), 0644);
	int log = open(a[1], O_RDWR | O_CREAT | O_APPEND, 0644), result = 0;
	uint64_t seq;

	if (fd < 0 || log < 0)
		return fail("open");
	seq = last_seq(log);
	for (unsigned int i = 0; i < WRITERS; i++) {
		w[i] = (struct writer){ .fd = fd, .log = log, .seq = &seq, .align = align };
		w[i].disk = disk_of(a[0]);
		w[i].limit = number(a[5]);
		w[i].state = (number(a[3]) + 1) * WRITERS + i;
		w[i].sectors = sectors / WRITERS / 8 * 8;
		w[i].first = w[i].sectors * i;
		if (pthread_create(&w[i].thread, NULL, writer_main, &w[i]) != 0)
			return fail("thread");
	}
	for (unsigned int i = 0; i < WRITERS; i++) {
		(void)pthread_join(w[i].thread, NULL);
		if (w[i].result < 0)
			result = fail("log");
	}
	(void)close(fd);
	return result;
}

/* For each sector the last acknowledged write, and one that was begun later, if any. */
struct expected {
	uint64_t acked, begun;
};

static int load_log(const char *path, struct expected *want, uint64_t sectors, uint64_t *ret_acked)
{
	FILE *f = fopen(path, "re");
	struct promise p;

	if (!f)
		return fail("log");
	while (fread(&p, sizeof(p), 1, f) == 1) {
		*ret_acked += p.acked;
		for (uint64_t i = p.first; i < p.first + p.count && i < sectors; i++) {
			if (p.acked)
				want[i] = (struct expected){ .acked = p.seq };
			else
				want[i].begun = p.seq;
		}
	}
	(void)fclose(f);
	return 0;
}

/* LOG: how many writes were begun and not acknowledged. */
static int cmd_in_flight(char **a)
{
	FILE *f = fopen(a[0], "re");
	struct promise p;
	uint64_t begun = 0, acked = 0;

	if (!f)
		return fail("log");
	while (fread(&p, sizeof(p), 1, f) == 1) {
		acked += p.acked;
		begun += !p.acked;
	}
	(void)fclose(f);
	/* What settling wrote counts as begun and acknowledged. */
	(void)printf("%" PRIu64 "\n", begun - min_u64(begun, acked));
	return 0;
}

/*
 * The log, shorter: what each sector holds, write by write, counts from now on. So a write that was
 * under way at a kill is from here on either there or not, for good.
 */
static int settle(const char *path, const struct expected *is, uint64_t sectors)
{
	char temp[4096];
	FILE *f;
	int n = snprintf(temp, sizeof(temp), "%s.new", path);

	if (n < 0 || (size_t)n >= sizeof(temp))
		return fail("path");
	f = fopen(temp, "we");
	if (!f)
		return fail("log");
	for (uint64_t i = 0, next; i < sectors; i = next) {
		struct promise p = { .seq = is[i].acked, .first = i };

		for (next = i; next < sectors && is[next].acked == p.seq; next++)
			p.count++;
		for (p.acked = 0; p.acked <= 1 && p.seq; p.acked++)
			if (fwrite(&p, sizeof(p), 1, f) != 1)
				return fail("log");
	}
	return fclose(f) != 0 || rename(temp, path) < 0 ? fail("log") : 0;
}

/* FILE LOG SIZE: every acknowledged byte is there, and nothing that was never written. */
static int cmd_verify(char **a)
{
	uint64_t sectors = number(a[2]) / SECTOR_BYTES, bad = 0, acked = 0, disk = disk_of(a[0]);
	struct expected *want = calloc(sectors, sizeof(*want));
	int fd = open(a[0], O_RDONLY), r;
	FILE *f = fd < 0 ? NULL : fdopen(fd, "r");

	if (!want || !f)
		return fail("open");
	if (load_log(a[1], want, sectors, &acked) != 0)
		return 1;
	for (uint64_t i = 0; i < sectors; i++) {
		uint8_t is[SECTOR_BYTES] = { 0 }, acked_is[SECTOR_BYTES], begun_is[SECTOR_BYTES];
		size_t n = fread(is, 1, sizeof(is), f);

		fill_sector(acked_is, disk, want[i].acked, i);
		fill_sector(begun_is, disk, want[i].begun, i);
		if (memcmp(is, acked_is, sizeof(is)) == 0 && (n == sizeof(is) || !want[i].acked))
			continue;
		if (want[i].begun && memcmp(is, begun_is, sizeof(is)) == 0) {
			want[i].acked = want[i].begun;
			continue;
		}
		if (bad++ < 5)
			(void)fprintf(stderr,
				      "fsprobe: sector %" PRIu64 ": want write %" PRIu64
				      " or %" PRIu64 ", is %" PRIu64 "\n",
				      i, want[i].acked, want[i].begun, *(uint64_t *)(void *)is);
	}
	(void)fclose(f);
	r = bad == 0 ? settle(a[1], want, sectors) : 1;
	free(want);
	(void)printf("%" PRIu64 " acknowledged, %" PRIu64 " bad sectors\n", acked, bad);
	return r;
}

/* One of many disks in a directory: its own bytes, in its first and in its last 4 KiB. */
static int one_of_many(int dir, uint64_t i, uint64_t size_bytes, bool make)
{
	static uint8_t want[4096], is[4096];
	char name[32];
	int fd, r = 0;

	(void)snprintf(name, sizeof(name), "%" PRIu64 ".raw", i);
	fd = openat(dir, name, make ? O_RDWR | O_CREAT | O_EXCL : O_RDONLY, 0644);
	if (fd < 0)
		return fail(name);
	for (unsigned int part = 0; part < 2 && r == 0; part++) {
		off_t at = part ? (off_t)(size_bytes - sizeof(want)) : 0;

		for (size_t k = 0; k < sizeof(want); k += SECTOR_BYTES)
			fill_sector(want + k, i + 1, part + 1, k);
		if (make ? pwrite(fd, want, sizeof(want), at) != sizeof(want) :
			   pread(fd, is, sizeof(is), at) != sizeof(is))
			r = fail(name);
		else if (!make && memcmp(is, want, sizeof(is)) != 0)
			r = 1;
	}
	if (r == 1)
		(void)fprintf(stderr, "fsprobe: '%s' is not what was written\n", name);
	(void)close(fd);
	return r;
}

static int many(char **a, bool make)
{
	int dir = open(a[0], O_RDONLY | O_DIRECTORY), r = 0;
	uint64_t count = number(a[1]);

	if (dir < 0)
		return fail("open");
	for (uint64_t i = 0; i < count && r == 0; i++)
		r = one_of_many(dir, i, number(a[2]), make);
	(void)close(dir);
	return r;
}

static int cmd_disks(char **a)
{
	return many(a, true);
}

static int cmd_check_disks(char **a)
{
	return many(a, false);
}

/* DIR LOG: make files with a content, under a first name and then a last one, until an error. */
static int cmd_maker(char **a)
{
	int dir = open(a[0], O_RDONLY | O_DIRECTORY);
	int log = open(a[1], O_RDWR | O_CREAT | O_APPEND, 0644);
	struct stat st;

	if (dir < 0 || log < 0 || fstat(log, &st) < 0)
		return fail("open");
	for (uint64_t seq = (uint64_t)st.st_size / sizeof(uint64_t) + 1;; seq++) {
		uint8_t sector[SECTOR_BYTES];
		char name[32];
		int fd;

		(void)snprintf(name, sizeof(name), "%" PRIu64, seq);
		fd = openat(dir, "new", O_WRONLY | O_CREAT | O_TRUNC, 0644);
		if (fd < 0)
			return 0;
		fill_sector(sector, 0, seq, seq);
		if (write(fd, sector, sizeof(sector)) != sizeof(sector) ||
		    renameat(dir, "new", dir, name) < 0)
			return 0;
		(void)close(fd);
		/* Every third one goes again. */
		if (seq % 3 == 0 && unlinkat(dir, name, 0) < 0)
			return 0;
		if (write(log, &seq, sizeof(seq)) != sizeof(seq))
			return fail("log");
	}
}

/* DIR LOG: what was made is there with its content, what was removed is not. */
static int cmd_made(char **a)
{
	int dir = open(a[0], O_RDONLY | O_DIRECTORY);
	FILE *f = fopen(a[1], "re");
	uint64_t seq, count = 0;

	if (dir < 0 || !f)
		return fail("open");
	for (; fread(&seq, sizeof(seq), 1, f) == 1; count++) {
		uint8_t want[SECTOR_BYTES], is[SECTOR_BYTES];
		char name[32];
		int fd;

		(void)snprintf(name, sizeof(name), "%" PRIu64, seq);
		fd = openat(dir, name, O_RDONLY);
		if (seq % 3 == 0 ? fd >= 0 || errno != ENOENT : fd < 0)
			return fail(name);
		if (seq % 3 == 0)
			continue;
		fill_sector(want, 0, seq, seq);
		if (read(fd, is, sizeof(is)) != sizeof(is) || memcmp(is, want, sizeof(is)) != 0) {
			(void)fprintf(stderr, "fsprobe: '%s' has another content\n", name);
			return 1;
		}
		(void)close(fd);
	}
	(void)fclose(f);
	(void)close(dir);
	(void)printf("%" PRIu64 " files\n", count);
	return 0;
}

static const struct command commands[] = {
	{ "setxattr", 4, cmd_setxattr, "PATH NAME VALUE any|create|replace" },
	{ "getxattr", 2, cmd_getxattr, "PATH NAME" },
	{ "listxattr", 1, cmd_listxattr, "PATH" },
	{ "rmxattr", 2, cmd_rmxattr, "PATH NAME" },
	{ "rename", 3, cmd_rename, "plain|noreplace|exchange FROM TO" },
	{ "seek", 3, cmd_seek, "data|hole PATH OFFSET" },
	{ "fallocate", 4, cmd_fallocate, "plain|keep|punch|zero|collapse PATH OFFSET LENGTH" },
	{ "copy", 5, cmd_copy, "FROM OFFSET TO OFFSET LENGTH" },
	{ "mmap", 3, cmd_mmap, "PATH OFFSET TEXT" },
	{ "ioctl", 1, cmd_ioctl, "PATH" },
	{ "unlinked", 1, cmd_unlinked, "PATH" },
	{ "empty", 1, cmd_empty, "DIR" },
	{ "fill", 2, cmd_fill, "DIR COUNT" },
	{ "handle", 2, cmd_handle, "PATH HANDLEFILE" },
	{ "by-handle", 2, cmd_by_handle, "MOUNTPOINT HANDLEFILE" },
	{ "writer", 6, cmd_writer, "FILE LOG SIZE SEED direct|cached COUNT" },
	{ "verify", 3, cmd_verify, "FILE LOG SIZE" },
	{ "in-flight", 1, cmd_in_flight, "LOG" },
	{ "disks", 3, cmd_disks, "DIR COUNT SIZE" },
	{ "check-disks", 3, cmd_check_disks, "DIR COUNT SIZE" },
	{ "maker", 2, cmd_maker, "DIR LOG" },
	{ "made", 2, cmd_made, "DIR LOG" },
};

int main(int argc, char **argv)
{
	return run_command(commands, ARRAY_SIZE(commands), argc, argv);
}
