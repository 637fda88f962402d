#include "common/env.h"

#include "tests/common/support_env.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/*
 * Stands in for the C library's: writes at most so much, claims half a block for a whole one that
 * it did not write (pwrite_odd), is interrupted so many times.
 */
static size_t pwrite_bytes_max;
static bool pwrite_odd;
static int pwrite_interruptions;

ssize_t pwrite(int fd, const void *buf, size_t len, off_t at)
{
	size_t claim = len;
	ssize_t n;

	if (pwrite_interruptions > 0) {
		pwrite_interruptions--;
		errno = EINTR;
		return -1;
	}
	if (pwrite_bytes_max > 0 && len > pwrite_bytes_max)
		claim = len = pwrite_bytes_max;
	if (pwrite_odd)
		len -= len % BLOCK; /* the kernel would not start it otherwise */
	n = syscall(SYS_pwrite64, fd, buf, len, at);
	return n >= 0 && pwrite_odd ? (ssize_t)claim : n;
}

static void begin(void)
{
	env_fixture_begin();
	pwrite_bytes_max = 0;
	pwrite_odd = false;
	pwrite_interruptions = 0;
}

/* ---- open ---- */

START_TEST(missing_file_is_not_there_and_nothing_is_made)
{
	ck_assert_int_eq(env_open(fx.env, fx.path_a, ENV_READ, &fx.a), -ENOENT);
	ck_assert_int_eq(env_open(fx.env, fx.path_a, ENV_READ | ENV_WRITE, &fx.a), -ENOENT);
	ck_assert_ptr_null(fx.a);
}
END_TEST

START_TEST(created_file_is_private_and_exclusive_creation_happens_once)
{
	struct env_stat st;
	static const unsigned int both[] = { 0, ENV_DIRECT };

	for (size_t i = 0; i < ARRAY_SIZE(both); i++) {
		env_fixture_open_a(ENV_EXCL | both[i]);
		ck_assert_int_eq(env_stat(fx.env, fx.a, &st), 0);
		ck_assert_uint_eq(st.mode & 07777, 0600);
		ck_assert_uint_eq(st.uid, geteuid());
		ck_assert_uint_eq(st.link_count, 1);
		ck_assert(!st.is_dir);
		ck_assert_int_eq(env_open(fx.env, fx.path_a,
					  ENV_WRITE | ENV_CREATE | ENV_EXCL | both[i], &fx.b),
				 -EEXIST);
		ck_assert_ptr_null(fx.b);
		env_close(fx.env, fx.a);
		fx.a = NULL;
		ck_assert_int_eq(env_unlink(fx.env, fx.path_a), 0);
	}
}
END_TEST

START_TEST(symbolic_links_are_not_followed)
{
	env_fixture_open_a(0);
	ck_assert_int_eq(symlink("a", fx.path_b), 0);
	ck_assert_int_eq(env_open(fx.env, fx.path_b, ENV_READ, &fx.b), -ELOOP);
	ck_assert_int_eq(env_open(fx.env, fx.path_b, ENV_WRITE | ENV_CREATE, &fx.b), -ELOOP);
	ck_assert_int_eq(unlink(fx.path_b), 0);
	ck_assert_int_eq(symlink(".", fx.path_b), 0);
	ck_assert_int_eq(env_open(fx.env, fx.path_b, ENV_READ | ENV_DIR, &fx.b), -ELOOP);
	ck_assert_int_eq(env_sync_dir(fx.env, fx.path_b), -ELOOP);
	ck_assert_int_eq(env_open(fx.env, fx.path_a, ENV_READ | ENV_DIR, &fx.b), -ENOTDIR);
	ck_assert_ptr_null(fx.b);
}
END_TEST

START_TEST(truncating_open_empties_and_plain_open_does_not)
{
	env_fixture_open_a(0);
	ck_assert_int_eq(env_pwrite(fx.env, fx.a, fx.mem, 100, 0), 0);
	env_close(fx.env, fx.a);
	env_fixture_open_a(0);
	ck_assert_uint_eq(env_fixture_size_of(fx.a), 100);
	env_close(fx.env, fx.a);
	env_fixture_open_a(ENV_TRUNC);
	ck_assert_uint_eq(env_fixture_size_of(fx.a), 0);
}
END_TEST

START_TEST(read_only_and_write_only_are_what_they_say)
{
	env_fixture_open_a(0);
	ck_assert_int_eq(env_open(fx.env, fx.path_a, ENV_READ, &fx.b), 0);
	ck_assert_int_eq(env_pwrite(fx.env, fx.b, fx.mem, 1, 0), -EBADF);
	env_close(fx.env, fx.b);
	ck_assert_int_eq(env_open(fx.env, fx.path_a, ENV_WRITE, &fx.b), 0);
	ck_assert_int_eq(env_pread(fx.env, fx.b, fx.back, 1, 0), -EBADF);
}
END_TEST

START_TEST(directories_open_as_such)
{
	struct env_stat st;

	ck_assert_int_eq(env_open(fx.env, fx.dir, ENV_READ | ENV_DIR, &fx.a), 0);
	ck_assert_int_eq(env_stat(fx.env, fx.a, &st), 0);
	ck_assert(st.is_dir);
}
END_TEST

START_TEST(descriptors_do_not_leak_into_other_programs)
{
	DIR *fds;
	struct dirent *entry;

	env_fixture_open_a(ENV_DIRECT);
	fds = opendir("/proc/self/fd");
	ck_assert_ptr_nonnull(fds);
	while ((entry = readdir(fds)) != NULL) {
		char target[256] = "";

		if (readlinkat(dirfd(fds), entry->d_name, target, sizeof(target) - 1) > 0 &&
		    strstr(target, fx.dir) != NULL) {
			int fd = (int)strtol(entry->d_name, NULL, 10);

			ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
		}
	}
	(void)closedir(fds);
}
END_TEST

/* ---- bytes ---- */

START_TEST(what_is_written_is_read_back_and_short_only_at_the_end)
{
	env_fixture_open_a(0);
	ck_assert_int_eq(env_pwrite(fx.env, fx.a, fx.mem, 10000, 500), 0);
	ck_assert_int_eq(env_pread(fx.env, fx.a, fx.back, 10000, 500), 10000);
	ck_assert_mem_eq(fx.mem, fx.back, 10000);
	ck_assert_int_eq(env_pread(fx.env, fx.a, fx.back, 10000, 1000), 9500);
	ck_assert_int_eq(env_pread(fx.env, fx.a, fx.back, 10, 10500), 0);
	ck_assert_int_eq(env_pread(fx.env, fx.a, fx.back, 10, 1u << 20), 0);
	ck_assert_int_eq(env_pread(fx.env, fx.a, fx.back, 500, 0), 500);
	ck_assert_uint_eq(fx.back[0] | fx.back[499], 0);
}
END_TEST

START_TEST(direct_file_reads_up_to_an_odd_end)
{
	env_fixture_open_a(0);
	ck_assert_int_eq(env_pwrite(fx.env, fx.a, fx.mem, 5000, 0), 0);
	ck_assert_int_eq(env_open(fx.env, fx.path_a, ENV_READ | ENV_DIRECT, &fx.b), 0);
	ck_assert_int_eq(env_pread(fx.env, fx.b, fx.back, 4 * BLOCK, 0), 5000);
	ck_assert_mem_eq(fx.mem, fx.back, 5000);
}
END_TEST

START_TEST(direct_file_is_not_asked_on_from_an_odd_end)
{
	env_fixture_open_a(0);
	ck_assert_int_eq(env_pwrite(fx.env, fx.a, fx.mem, 5000, 0), 0);
	ck_assert_int_eq(env_open(fx.env, fx.path_a, ENV_READ | ENV_DIRECT, &fx.b), 0);
	/* As filesystems do that look at alignment before they look at the size. */
	env_fixture_forbid_offset(SYS_pread64, 5000, EINVAL);
	ck_assert_int_eq(env_pread(fx.env, fx.b, fx.back, 4 * BLOCK, 0), 5000);
}
END_TEST

START_TEST(direct_file_takes_aligned_writes)
{
	env_fixture_open_a(ENV_DIRECT);
	ck_assert_int_eq(env_pwrite(fx.env, fx.a, fx.mem, MEM_BYTES, BLOCK), 0);
	ck_assert_int_eq(env_pread(fx.env, fx.a, fx.back, MEM_BYTES, BLOCK), (ssize_t)MEM_BYTES);
	ck_assert_mem_eq(fx.mem, fx.back, MEM_BYTES);
	ck_assert_int_eq(env_fdatasync(fx.env, fx.a), 0);
}
END_TEST

START_TEST(direct_is_dropped_where_the_filesystem_cannot)
{
	/* procfs has no O_DIRECT; the file opens and reads all the same. */
	char text[64];

	ck_assert_int_eq(env_open(fx.env, "/proc/version", ENV_READ | ENV_DIRECT, &fx.a), 0);
	ck_assert_int_gt(env_pread(fx.env, fx.a, text, sizeof(text), 0), 0);
}
END_TEST

START_TEST(short_writes_are_continued_where_they_stopped)
{
	env_fixture_open_a(0);
	pwrite_bytes_max = 1000;
	ck_assert_int_eq(env_pwrite(fx.env, fx.a, fx.mem, 4321, 10), 0);
	ck_assert_uint_eq(env_fixture_size_of(fx.a), 4331);
	ck_assert_int_eq(env_pread(fx.env, fx.a, fx.back, 5000, 10), 4321);
	ck_assert_mem_eq(fx.back, fx.mem, 4321);
}
END_TEST

START_TEST(short_direct_writes_are_continued_at_whole_blocks)
{
	env_fixture_open_a(ENV_DIRECT);
	pwrite_bytes_max = BLOCK + BLOCK / 2;
	pwrite_odd = true;
	ck_assert_int_eq(env_pwrite(fx.env, fx.a, fx.mem, 8 * BLOCK, 0), 0);
	ck_assert_int_eq(env_pread(fx.env, fx.a, fx.back, 9 * BLOCK, 0), 8 * BLOCK);
	ck_assert_mem_eq(fx.back, fx.mem, 8 * BLOCK);
	/* Not a whole block at a time: no way to go on. */
	pwrite_bytes_max = BLOCK / 2;
	ck_assert_int_eq(env_pwrite(fx.env, fx.a, fx.mem, 8 * BLOCK, 0), -EIO);
}
END_TEST

START_TEST(interrupted_calls_are_made_again)
{
	env_fixture_open_a(0);
	pwrite_interruptions = 3;
	ck_assert_int_eq(env_pwrite(fx.env, fx.a, fx.mem, 100, 0), 0);
	ck_assert_int_eq(pwrite_interruptions, 0);
	ck_assert_uint_eq(env_fixture_size_of(fx.a), 100);
}
END_TEST

START_TEST(write_that_hits_a_limit_halfway_is_an_error_not_a_success)
{
	env_fixture_open_a(0);
	env_fixture_limit_file_size(6000);
	ck_assert_int_eq(env_pwrite(fx.env, fx.a, fx.mem, 10000, 0), -EFBIG);
	ck_assert_int_eq(env_pwrite(fx.env, fx.a, fx.mem, 6000, 0), 0);
}
END_TEST

START_TEST(offsets_that_no_file_has_are_refused)
{
	env_fixture_open_a(0);
	ck_assert_int_eq(env_pwrite(fx.env, fx.a, fx.mem, 10, UINT64_MAX), -EINVAL);
	ck_assert_int_eq(env_pread(fx.env, fx.a, fx.back, 10, (uint64_t)INT64_MAX - 5), -EINVAL);
	ck_assert_int_eq(env_truncate(fx.env, fx.a, (uint64_t)INT64_MAX + 1), -EINVAL);
	ck_assert_int_eq(env_fallocate(fx.env, fx.a, UINT64_MAX, 1), -EINVAL);
	ck_assert_int_eq(env_copy_range(fx.env, fx.a, UINT64_MAX, fx.a, 0, 1), -EINVAL);
	ck_assert_uint_eq(env_fixture_size_of(fx.a), 0);
}
END_TEST

START_TEST(sync_of_what_cannot_sync_is_an_error)
{
	int ends[2];
	char path[64];

	ck_assert_int_eq(pipe(ends), 0);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", ends[0]);
	/* The link itself is not followed; a device node serves instead. */
	ck_assert_int_eq(env_open(fx.env, path, ENV_READ, &fx.a), -ELOOP);
	ck_assert_int_eq(env_open(fx.env, "/dev/null", ENV_WRITE, &fx.a), 0);
	ck_assert_int_eq(env_fdatasync(fx.env, fx.a), -EINVAL);
	(void)close(ends[0]);
	(void)close(ends[1]);
}
END_TEST

/* With io_uring, in a child of a process that used it, and where it is forbidden. */
START_TEST(several_files_are_synced_together_and_one_error_is_all_errors)
{
	struct env_file *files[40], *null;
	int status;

	env_fixture_open_a(0);
	for (unsigned int i = 0; i < 40; i++)
		files[i] = fx.a;
	if (_i == 1) {
		ck_assert_int_eq(env_fdatasync_all(fx.env, files, 2), 0);
		if (fork() == 0)
			_exit(env_fdatasync_all(fx.env, files, 40) != 0);
		ck_assert_int_gt(wait(&status), 0);
		ck_assert_int_eq(status, 0);
	}
	if (_i == 2)
		env_fixture_forbid(SYS_io_uring_setup, EPERM);
	ck_assert_int_eq(env_fdatasync_all(fx.env, files, 0), 0);
	ck_assert_int_eq(env_fdatasync_all(fx.env, files, 40), 0);
	ck_assert_int_eq(env_open(fx.env, "/dev/null", ENV_WRITE, &null), 0);
	files[38] = null;
	ck_assert_int_eq(env_fdatasync_all(fx.env, files, 40), -EINVAL);
	ck_assert_int_eq(env_fdatasync_all(fx.env, files, 38), 0);
	env_close(fx.env, null);
}
END_TEST

START_TEST(allocation_extends_with_zeros_and_punching_gives_back)
{
	struct env_stat st;

	env_fixture_open_a(0);
	ck_assert_int_eq(env_fallocate(fx.env, fx.a, 0, MEM_BYTES), 0);
	ck_assert_int_eq(env_stat(fx.env, fx.a, &st), 0);
	ck_assert_uint_eq(st.size_bytes, MEM_BYTES);
	ck_assert_uint_ge(st.allocated_bytes, MEM_BYTES);
	ck_assert_int_eq(env_pread(fx.env, fx.a, fx.back, BLOCK, BLOCK), BLOCK);
	ck_assert_uint_eq(fx.back[0] | fx.back[BLOCK - 1], 0);

	ck_assert_int_eq(env_pwrite(fx.env, fx.a, fx.mem, MEM_BYTES, 0), 0);
	ck_assert_int_eq(env_punch(fx.env, fx.a, BLOCK, 32 * BLOCK), 0);
	ck_assert_int_eq(env_stat(fx.env, fx.a, &st), 0);
	ck_assert_uint_eq(st.size_bytes, MEM_BYTES);
	ck_assert_uint_le(st.allocated_bytes, MEM_BYTES - 31 * BLOCK);
	memset(fx.back, 0xff, MEM_BYTES);
	ck_assert_int_eq(env_pread(fx.env, fx.a, fx.back, MEM_BYTES, 0), (ssize_t)MEM_BYTES);
	ck_assert_mem_eq(fx.back, fx.mem, BLOCK);
	for (size_t i = BLOCK; i < 33 * BLOCK; i++)
		ck_assert_uint_eq(fx.back[i], 0);
	ck_assert_mem_eq(fx.back + 33 * BLOCK, fx.mem + 33 * BLOCK, MEM_BYTES - 33 * BLOCK);
}
END_TEST

START_TEST(truncate_cuts_and_extends)
{
	env_fixture_open_a(0);
	ck_assert_int_eq(env_pwrite(fx.env, fx.a, fx.mem, 1000, 0), 0);
	ck_assert_int_eq(env_truncate(fx.env, fx.a, 10), 0);
	ck_assert_int_eq(env_truncate(fx.env, fx.a, 20), 0);
	ck_assert_uint_eq(env_fixture_size_of(fx.a), 20);
	ck_assert_int_eq(env_pread(fx.env, fx.a, fx.back, 100, 0), 20);
	ck_assert_mem_eq(fx.back, fx.mem, 10);
	ck_assert_uint_eq(fx.back[10] | fx.back[19], 0);
}
END_TEST

START_TEST(lock_belongs_to_one_open_file)
{
	env_fixture_open_a(0);
	ck_assert_int_eq(env_open(fx.env, fx.path_a, ENV_READ, &fx.b), 0);
	ck_assert_int_eq(env_lock(fx.env, fx.a), 0);
	ck_assert_int_eq(env_lock(fx.env, fx.b), -EWOULDBLOCK);
	env_close(fx.env, fx.a);
	fx.a = NULL;
	ck_assert_int_eq(env_lock(fx.env, fx.b), 0);
}
END_TEST

/* ---- copying ---- */

START_TEST(range_is_copied_between_files)
{
	env_fixture_open_a(0);
	env_fixture_open_b(0);
	ck_assert_int_eq(env_pwrite(fx.env, fx.a, fx.mem, MEM_BYTES, 0), 0);
	ck_assert_int_eq(env_copy_range(fx.env, fx.a, 1000, fx.b, 77, 100000), 0);
	ck_assert_uint_eq(env_fixture_size_of(fx.b), 100077);
	ck_assert_int_eq(env_pread(fx.env, fx.b, fx.back, 100000, 77), 100000);
	ck_assert_mem_eq(fx.back, fx.mem + 1000, 100000);
	ck_assert_int_eq(env_copy_range(fx.env, fx.a, 0, fx.b, 0, 0), 0);
}
END_TEST

START_TEST(copy_from_a_source_that_is_too_short_fails)
{
	env_fixture_open_a(0);
	env_fixture_open_b(0);
	ck_assert_int_eq(env_pwrite(fx.env, fx.a, fx.mem, 5000, 0), 0);
	ck_assert_int_eq(env_copy_range(fx.env, fx.a, 0, fx.b, 0, 5001), -EIO);
	ck_assert_int_eq(env_copy_range(fx.env, fx.a, 6000, fx.b, 0, 1), -EIO);
	ck_assert_int_eq(env_copy_range(fx.env, fx.a, 0, fx.b, 0, 5000), 0);
}
END_TEST

static const int copy_refusals[] = { EXDEV, EOPNOTSUPP, ENOSYS, EINVAL };

START_TEST(range_is_copied_by_hand_where_the_kernel_cannot)
{
	uint64_t parts = 6; /* more than one chunk of memory */

	env_fixture_open_a(0);
	env_fixture_open_b(0);
	for (uint64_t i = 0; i <= parts; i++) {
		fx.mem[0] = (uint8_t)i;
		ck_assert_int_eq(env_pwrite(fx.env, fx.a, fx.mem, MEM_BYTES, i * MEM_BYTES), 0);
	}
	env_fixture_forbid(SYS_copy_file_range, (uint32_t)copy_refusals[_i]);
	ck_assert_int_eq(env_copy_range(fx.env, fx.a, MEM_BYTES, fx.b, 10, parts * MEM_BYTES), 0);
	ck_assert_uint_eq(env_fixture_size_of(fx.b), parts * MEM_BYTES + 10);
	for (uint64_t i = 0; i < parts; i++) {
		fx.mem[0] = (uint8_t)(i + 1);
		ck_assert_int_eq(env_pread(fx.env, fx.b, fx.back, MEM_BYTES, 10 + i * MEM_BYTES),
				 (ssize_t)MEM_BYTES);
		ck_assert_mem_eq(fx.back, fx.mem, MEM_BYTES);
	}
	ck_assert_int_eq(env_copy_range(fx.env, fx.a, 0, fx.b, 0, (parts + 1) * MEM_BYTES + 1),
			 -EIO);
}
END_TEST

START_TEST(other_failures_of_a_copy_are_reported)
{
	env_fixture_open_a(0);
	env_fixture_open_b(0);
	ck_assert_int_eq(env_pwrite(fx.env, fx.a, fx.mem, MEM_BYTES, 0), 0);
	env_fixture_forbid(SYS_copy_file_range, ENOSPC);
	ck_assert_int_eq(env_copy_range(fx.env, fx.a, 0, fx.b, 0, 100), -ENOSPC);
}
END_TEST

START_TEST(reflink_shares_or_says_that_it_cannot)
{
	int r;

	env_fixture_open_a(0);
	env_fixture_open_b(0);
	ck_assert_int_eq(env_pwrite(fx.env, fx.a, fx.mem, MEM_BYTES, 0), 0);
	r = env_reflink(fx.env, fx.a, fx.b);
	ck_assert(r == 0 || r == -EOPNOTSUPP);
	ck_assert_uint_eq(env_fixture_size_of(fx.b), r == 0 ? MEM_BYTES : 0);
}
END_TEST

static const int reflink_refusals[] = { EOPNOTSUPP, ENOTTY, EXDEV, EINVAL };

START_TEST(reflink_refusals_are_one_code)
{
	env_fixture_open_a(0);
	env_fixture_open_b(0);
	env_fixture_forbid(SYS_ioctl, (uint32_t)reflink_refusals[_i]);
	ck_assert_int_eq(env_reflink(fx.env, fx.a, fx.b), -EOPNOTSUPP);
}
END_TEST

START_TEST(mapped_bytes_are_the_files_bytes)
{
	void *map = NULL;

	env_fixture_open_a(0);
	ck_assert_int_eq(env_fallocate(fx.env, fx.a, 0, 4 * BLOCK), 0);
	ck_assert_int_eq(env_map_shared(fx.env, fx.a, 4 * BLOCK, &map), 0);
	memcpy((uint8_t *)map + BLOCK, fx.mem, BLOCK);
	ck_assert_int_eq(env_pread(fx.env, fx.a, fx.back, BLOCK, BLOCK), BLOCK);
	ck_assert_mem_eq(fx.back, fx.mem, BLOCK);
	env_unmap(fx.env, map, 4 * BLOCK);
	map = NULL;
	ck_assert_int_eq(env_map_shared(fx.env, fx.a, 0, &map), -EINVAL);
	ck_assert_ptr_null(map);
}
END_TEST

/* ---- names ---- */

START_TEST(names_are_linked_renamed_and_removed)
{
	struct env_stat st;
	char path[64];

	env_fixture_open_a(0);
	ck_assert_int_eq(env_link(fx.env, fx.path_a, fx.path_b), 0);
	ck_assert_int_eq(env_link(fx.env, fx.path_a, fx.path_b), -EEXIST);
	ck_assert_int_eq(env_stat(fx.env, fx.a, &st), 0);
	ck_assert_uint_eq(st.link_count, 2);
	(void)snprintf(path, sizeof(path), "%s/c", fx.dir);
	ck_assert_int_eq(env_rename(fx.env, fx.path_b, path), 0);
	ck_assert_int_eq(env_unlink(fx.env, fx.path_b), -ENOENT);
	ck_assert_int_eq(env_unlink(fx.env, path), 0);
	ck_assert_int_eq(env_mkdir(fx.env, fx.path_b), 0);
	ck_assert_int_eq(env_mkdir(fx.env, fx.path_b), -EEXIST);
	ck_assert_int_eq(env_rename(fx.env, fx.path_a, fx.path_b), -EISDIR);
	ck_assert_int_eq(env_sync_dir(fx.env, fx.path_b), 0);
	ck_assert_int_eq(env_sync_dir(fx.env, fx.path_a), -ENOTDIR);
	ck_assert_int_eq(env_rmdir(fx.env, fx.path_b), 0);
	ck_assert_int_eq(env_rmdir(fx.env, fx.path_b), -ENOENT);
	ck_assert_int_eq(env_sync_dir(fx.env, fx.path_b), -ENOENT);
}
END_TEST

START_TEST(made_directory_is_private)
{
	struct stat st;

	ck_assert_int_eq(env_mkdir(fx.env, fx.path_a), 0);
	ck_assert_int_eq(stat(fx.path_a, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0700);
}
END_TEST

static int add_name(void *arg, const char *name)
{
	unsigned int *seen = arg;

	ck_assert_msg(strlen(name) == 1 && name[0] >= 'a' && name[0] <= 'e', "'%s'", name);
	ck_assert_uint_eq(*seen & 1u << (name[0] - 'a'), 0);
	*seen |= 1u << (name[0] - 'a');
	return 0;
}

static int stop_at_first(void *arg, UNUSED const char *name)
{
	return ++*(int *)arg == 1 ? 42 : 0;
}

START_TEST(every_name_is_listed_once_and_the_caller_can_stop)
{
	unsigned int seen = 0;
	int count = 0;

	for (char c = 'a'; c <= 'e'; c++) {
		char path[64];

		(void)snprintf(path, sizeof(path), "%s/%c", fx.dir, c);
		ck_assert_int_eq(env_mkdir(fx.env, path), 0);
	}
	ck_assert_int_eq(env_list_dir(fx.env, fx.dir, add_name, &seen), 0);
	ck_assert_uint_eq(seen, 0x1f);
	ck_assert_int_eq(env_list_dir(fx.env, fx.dir, stop_at_first, &count), 42);
	ck_assert_int_eq(count, 1);
	ck_assert_int_eq(env_list_dir(fx.env, "no/such", add_name, &seen), -ENOENT);
}
END_TEST

START_TEST(space_is_told)
{
	struct env_space space = { 0 };

	ck_assert_int_eq(env_space(fx.env, fx.dir, &space), 0);
	ck_assert_uint_gt(space.total_bytes, 0);
	ck_assert_uint_le(space.free_bytes, space.total_bytes);
	ck_assert_int_eq(env_space(fx.env, fx.path_a, &space), -ENOENT);
}
END_TEST

/* ---- time and chance ---- */

START_TEST(clocks_run)
{
	uint64_t mono_ns = env_now_mono_ns(fx.env);
	struct timespec real;

	ck_assert_uint_ge(env_now_mono_ns(fx.env), mono_ns);
	ck_assert_int_eq(clock_gettime(CLOCK_REALTIME, &real), 0);
	ck_assert_int_ge(env_now_real_ns(fx.env), (int64_t)real.tv_sec * 1000000000);
}
END_TEST

START_TEST(random_bytes_fill_all_and_differ)
{
	uint8_t x[1000] = { 0 }, y[1000] = { 0 };
	unsigned int zeros = 0;

	env_random(fx.env, x, sizeof(x));
	env_random(fx.env, y, sizeof(y));
	ck_assert_mem_ne(x, y, sizeof(x));
	for (size_t i = 0; i < sizeof(x); i++)
		zeros += x[i] == 0;
	ck_assert_uint_lt(zeros, 100);
}
END_TEST

START_TEST(boot_id_is_36_characters_and_stays)
{
	char id[37], again[37];

	memset(id, 'x', sizeof(id));
	ck_assert_int_eq(env_boot_id(fx.env, id), 0);
	ck_assert_int_eq(env_boot_id(fx.env, again), 0);
	ck_assert_uint_eq(strlen(id), 36);
	ck_assert_uint_eq(strspn(id, "0123456789abcdef-"), 36);
	ck_assert_str_eq(id, again);
}
END_TEST

static void add_file_tests(Suite *s)
{
	TCase *t = tcase_create("files");

	tcase_add_checked_fixture(t, begin, env_fixture_end);
	tcase_add_test(t, missing_file_is_not_there_and_nothing_is_made);
	tcase_add_test(t, created_file_is_private_and_exclusive_creation_happens_once);
	tcase_add_test(t, symbolic_links_are_not_followed);
	tcase_add_test(t, truncating_open_empties_and_plain_open_does_not);
	tcase_add_test(t, read_only_and_write_only_are_what_they_say);
	tcase_add_test(t, directories_open_as_such);
	tcase_add_test(t, descriptors_do_not_leak_into_other_programs);
	tcase_add_test(t, what_is_written_is_read_back_and_short_only_at_the_end);
	tcase_add_test(t, direct_file_reads_up_to_an_odd_end);
	tcase_add_test(t, direct_file_takes_aligned_writes);
	tcase_add_test(t, short_writes_are_continued_where_they_stopped);
	tcase_add_test(t, short_direct_writes_are_continued_at_whole_blocks);
	tcase_add_test(t, interrupted_calls_are_made_again);
	tcase_add_test(t, direct_is_dropped_where_the_filesystem_cannot);
	tcase_add_test(t, offsets_that_no_file_has_are_refused);
	tcase_add_test(t, sync_of_what_cannot_sync_is_an_error);
	tcase_add_loop_test(t, several_files_are_synced_together_and_one_error_is_all_errors, 0, 3);
	tcase_add_test(t, allocation_extends_with_zeros_and_punching_gives_back);
	tcase_add_test(t, truncate_cuts_and_extends);
	tcase_add_test(t, lock_belongs_to_one_open_file);
	tcase_add_test(t, range_is_copied_between_files);
	tcase_add_test(t, copy_from_a_source_that_is_too_short_fails);
	tcase_add_test(t, reflink_shares_or_says_that_it_cannot);
	tcase_add_test(t, mapped_bytes_are_the_files_bytes);
	tcase_add_test(t, names_are_linked_renamed_and_removed);
	tcase_add_test(t, made_directory_is_private);
	tcase_add_test(t, every_name_is_listed_once_and_the_caller_can_stop);
	tcase_add_test(t, space_is_told);
	tcase_add_test(t, clocks_run);
	tcase_add_test(t, random_bytes_fill_all_and_differ);
	tcase_add_test(t, boot_id_is_36_characters_and_stays);
	suite_add_tcase(s, t);
}

/* Limits and forbidden calls stay with the process: each test needs one of its own. */
static void add_forked_tests(Suite *s)
{
	TCase *t = tcase_create("forked");

	tcase_add_checked_fixture(t, begin, env_fixture_end);
	tcase_add_test(t, direct_file_is_not_asked_on_from_an_odd_end);
	tcase_add_test(t, write_that_hits_a_limit_halfway_is_an_error_not_a_success);
	tcase_add_loop_test(t, range_is_copied_by_hand_where_the_kernel_cannot, 0,
			    (int)ARRAY_SIZE(copy_refusals));
	tcase_add_test(t, other_failures_of_a_copy_are_reported);
	tcase_add_loop_test(t, reflink_refusals_are_one_code, 0, (int)ARRAY_SIZE(reflink_refusals));
	suite_add_tcase(s, t);
}

int main(void)
{
	Suite *s = suite_create("common/env_posix");
	SRunner *r = srunner_create(s);
	int failed;

	add_file_tests(s);
	if (srunner_fork_status(r) == CK_FORK)
		add_forked_tests(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
