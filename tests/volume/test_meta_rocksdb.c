/*
 * What RocksDB really keeps: power cuts, failing fdatasync, full disks and damaged files.
 *
 * write, fdatasync and fsync are defined here, in front of the C library's, so that RocksDB calls
 * them: they remember how much of each file was synced, and fail as told. A "power cut" kills the
 * process and cuts each log, table and manifest to what was synced plus a random part of the rest.
 */
#include "volume/meta.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NUMBERS_MAX 4096u /* RocksDB numbers its files, never twice */
#define VALUE_BYTES 100u

/* Shared by the processes of a test. */
static struct world {
	char dir[32];
	uint64_t synced_bytes[NUMBERS_MAX];
	unsigned int wal_syncs;
	int fail_wal_sync; /* errno for that many: see fail_wal_syncs */
	unsigned int fail_wal_syncs;
	int fail_write; /* errno for writes to logs and tables, 0: none */
	/* Rows that were committed, and those of them that were promised to stay. */
	uint64_t names, names_synced, state, state_flushed, synced_sequence;
} * world;

/* ---- in front of the C library ---- */

enum file_type { FILE_OTHER, FILE_LOG, FILE_TABLE, FILE_MANIFEST };

static enum file_type type_of_name(const char *name, uint64_t *ret_number)
{
	const char *number = name;
	enum file_type type = FILE_OTHER;

	if (strncmp(name, "MANIFEST-", strlen("MANIFEST-")) == 0) {
		number = name + strlen("MANIFEST-");
		type = FILE_MANIFEST;
	} else if (strstr(name, ".log") != NULL) {
		type = FILE_LOG;
	} else if (strstr(name, ".sst") != NULL) {
		type = FILE_TABLE;
	}
	*ret_number = strtoull(number, NULL, 10) % NUMBERS_MAX;
	return type;
}

static enum file_type type_of_fd(int fd, uint64_t *ret_number)
{
	char link[32], path[512];
	ssize_t n;

	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n <= 0 || world == NULL)
		return FILE_OTHER;
	path[n] = '\0';
	if (strstr(path, world->dir) == NULL || strrchr(path, '/') == NULL)
		return FILE_OTHER;
	return type_of_name(strrchr(path, '/') + 1, ret_number);
}

static int sync_and_remember(int fd, long call)
{
	uint64_t number = 0;
	const enum file_type type = type_of_fd(fd, &number);
	struct stat st;

	if (type == FILE_OTHER)
		return (int)syscall(call, fd);
	if (type == FILE_LOG) {
		world->wal_syncs++;
		if (world->fail_wal_syncs > 0) {
			world->fail_wal_syncs--;
			errno = world->fail_wal_sync;
			return -1;
		}
	}
	/* What is appended from here on may not be covered. The disk itself is not waited for. */
	if (fstat(fd, &st) < 0)
		return -1;
	world->synced_bytes[number] = (uint64_t)st.st_size;
	return 0;
}

int fdatasync(int fildes)
{
	return sync_and_remember(fildes, SYS_fdatasync);
}

int fsync(int fd)
{
	return sync_and_remember(fd, SYS_fsync);
}

ssize_t write(int fd, const void *buf, size_t n)
{
	uint64_t number = 0;

	if (UNLIKELY(world != NULL && world->fail_write != 0) &&
	    type_of_fd(fd, &number) != FILE_OTHER) {
		errno = world->fail_write;
		return -1;
	}
	return syscall(SYS_write, fd, buf, n);
}

/* ---- the test's words ---- */

static struct meta *m;
static struct err e;
static uint64_t random_state;

static uint64_t random_below(uint64_t n)
{
	random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (random_state >> 33) % n;
}

static void setup(void)
{
	m = NULL;
	random_state = 1;
	world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	ck_assert(world != MAP_FAILED);
	(void)snprintf(world->dir, sizeof(world->dir), "meta-rocks-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(world->dir));
}

static void for_each_file(void (*fn)(int dir_fd, const char *name, void *arg), void *arg)
{
	DIR *d = opendir(world->dir);
	const struct dirent *entry;

	ck_assert_ptr_nonnull(d);
	while ((entry = readdir(d)) != NULL) {
		if (entry->d_name[0] != '.')
			fn(dirfd(d), entry->d_name, arg);
	}
	(void)closedir(d);
}

static void remove_file(int dir_fd, const char *name, UNUSED void *arg)
{
	ck_assert_int_eq(unlinkat(dir_fd, name, 0), 0);
}

static void teardown(void)
{
	meta_close(m);
	for_each_file(remove_file, NULL);
	ck_assert_int_eq(rmdir(world->dir), 0);
	ck_assert_int_eq(munmap(world, sizeof(*world)), 0);
	world = NULL;
}

static int try_open(void)
{
	/* Buffers so small that RocksDB flushes on its own as well. */
	const struct meta_options options = { .cache_bytes = 1 << 20,
					      .write_buffer_bytes = 64 << 10 };

	return meta_rocksdb_open(world->dir, &options, &m, &e);
}

static void open_meta(void)
{
	const int r = try_open();

	ck_assert_msg(r == 0, "%s", e.message);
}

static void close_meta(void)
{
	meta_close(m);
	m = NULL;
}

/* A value that tells its row, so that no other can pass for it. */
static void value_of(uint64_t id, uint8_t value[VALUE_BYTES])
{
	for (unsigned int i = 0; i < VALUE_BYTES; i++)
		value[i] = (uint8_t)(id * 31 + i * (id | 1));
}

static struct row_key key_of(enum meta_family family, uint64_t id)
{
	return row_key_u64(family == META_NAMES ? ROW_OBJECT : ROW_SCO, id);
}

static int put(enum meta_family family, uint64_t id, unsigned int flags)
{
	struct meta_batch *batch = meta_batch_new(m, family);
	const struct row_key key = key_of(family, id);
	uint8_t bytes[VALUE_BYTES];
	struct buf value;
	int r;

	value_of(id, bytes);
	buf_init(&value, VALUE_BYTES);
	ck_assert_int_eq(buf_append(&value, bytes, sizeof(bytes)), 0);
	ck_assert_int_eq(meta_batch_put(m, batch, &key, &value), 0);
	buf_done(&value);
	r = meta_commit(m, batch, flags, &e);
	meta_batch_free(m, batch);
	return r;
}

static int get(enum meta_family family, uint64_t id)
{
	const struct row_key key = key_of(family, id);
	uint8_t bytes[VALUE_BYTES];
	struct buf value;
	int r;

	value_of(id, bytes);
	buf_init(&value, (size_t)VALUE_BYTES * 2);
	r = meta_get(m, family, &key, &value, &e);
	if (r == 0) {
		ck_assert_uint_eq(value.len_bytes, sizeof(bytes));
		ck_assert_mem_eq(value.data, bytes, sizeof(bytes));
	}
	buf_done(&value);
	return r;
}

static void in_child(void (*fn)(void), int signal_expected)
{
	const pid_t child = fork();
	int status;

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		fn();
		exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	if (signal_expected != 0)
		ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == signal_expected);
	else
		ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ---- power cuts ---- */

static void cut_file(int dir_fd, const char *name, UNUSED void *arg)
{
	uint64_t number = 0, synced, size;
	struct stat st;
	int fd;

	if (type_of_name(name, &number) == FILE_OTHER)
		return;
	fd = openat(dir_fd, name, O_WRONLY);
	ck_assert(fd >= 0 && fstat(fd, &st) == 0);
	size = (uint64_t)st.st_size;
	synced = world->synced_bytes[number];
	ck_assert_uint_le(synced, size);
	if (random_below(3) != 0)
		synced += random_below(size - synced + 1);
	ck_assert_int_eq(ftruncate(fd, (off_t)synced), 0);
	/* What is left is on the disk now. */
	world->synced_bytes[number] = synced;
	(void)close(fd);
}

static void victim_step(void)
{
	const uint64_t what = random_below(100);

	if (what < 40) {
		ck_assert_int_eq(put(META_NAMES, world->names, 0), 0);
		world->names++;
	} else if (what < 85) {
		ck_assert_int_eq(put(META_STATE, world->state, 0), 0);
		world->state++;
	} else if (what < 90) {
		ck_assert_int_eq(put(META_NAMES, world->names, META_SYNC), 0);
		world->names++;
		world->names_synced = world->names;
	} else if (what < 98) {
		ck_assert_int_eq(meta_sync(m, &e), 0);
		world->names_synced = world->names;
	} else {
		ck_assert_int_eq(meta_flush(m, &e), 0);
		world->state_flushed = world->state;
	}
	world->synced_sequence = max_u64(world->synced_sequence, meta_synced_sequence(m));
}

static void victim(void)
{
	const uint64_t steps = 200 + random_below(1500);

	open_meta();
	for (uint64_t i = 0; i < steps; i++)
		victim_step();
	(void)raise(SIGKILL);
}

static uint64_t prefix_of(enum meta_family family, uint64_t end)
{
	uint64_t count = 0;

	while (count <= end && get(family, count) == 0)
		count++;
	for (uint64_t i = count; i <= end + 1; i++)
		ck_assert_int_eq(get(family, i), -ENOENT);
	return count;
}

static void judge(void)
{
	uint64_t names, state;

	open_meta();
	ck_assert_uint_ge(meta_sequence(m), world->synced_sequence);
	names = prefix_of(META_NAMES, world->names);
	ck_assert_uint_ge(names, world->names_synced);
	ck_assert_uint_le(names, world->names + 1);
	state = prefix_of(META_STATE, world->state);
	ck_assert_uint_ge(state, world->state_flushed);
	ck_assert_uint_le(state, world->state + 1);
	world->names = names;
	world->state = state;
	/* Open made durable what it found. */
	ck_assert_uint_eq(meta_synced_sequence(m), meta_sequence(m));
	world->names_synced = names;
	world->state_flushed = state;
	world->synced_sequence = meta_synced_sequence(m);
	(void)raise(SIGKILL);
}

START_TEST(a_power_cut_leaves_prefixes_with_all_that_was_synced)
{
	unsigned int lost = 0;

	for (unsigned int round = 0; round < 5; round++) {
		uint64_t before;

		random_state = (uint64_t)_i * 100 + round;
		in_child(victim, SIGKILL);
		before = world->names + world->state;
		for_each_file(cut_file, NULL);
		in_child(judge, SIGKILL);
		lost += world->names + world->state < before;
		/* Also right after an open. */
		for_each_file(cut_file, NULL);
		in_child(judge, SIGKILL);
	}
	ck_assert_uint_gt(lost, 0);
}
END_TEST

/* ---- failing calls ---- */

START_TEST(syncs_touch_the_disk_only_when_there_is_something)
{
	open_meta();
	world->wal_syncs = 0;
	ck_assert_int_eq(meta_sync(m, &e), 0);
	ck_assert_uint_eq(world->wal_syncs, 0);

	ck_assert_int_eq(put(META_NAMES, 1, 0), 0);
	ck_assert_int_eq(put(META_STATE, 1, 0), 0);
	ck_assert_uint_eq(world->wal_syncs, 0);
	ck_assert_int_eq(meta_sync(m, &e), 0);
	ck_assert_uint_eq(world->wal_syncs, 1);
	ck_assert_int_eq(meta_sync(m, &e), 0);
	ck_assert_uint_eq(world->wal_syncs, 1);

	ck_assert_int_eq(put(META_NAMES, 2, META_SYNC), 0);
	ck_assert_int_eq(meta_sync(m, &e), 0);
	ck_assert_uint_eq(world->wal_syncs, 2);
}
END_TEST

/* Whether row 1 of NAMES is there although nothing unsynced survived. */
static void judge_row_one(void)
{
	open_meta();
	world->names = get(META_NAMES, 1) == 0;
	(void)raise(SIGKILL);
}

static void fail_sync_then_claim(int (*failing_call)(void))
{
	open_meta();
	ck_assert_int_eq(put(META_NAMES, 1, 0), 0);
	world->fail_wal_sync = EIO;
	world->fail_wal_syncs = 1;
	ck_assert_int_eq(failing_call(), -EIO);
	ck_assert_uint_eq(world->fail_wal_syncs, 0);
	ck_assert_uint_lt(meta_synced_sequence(m), 1);

	/* The kernel tells a failure once: fdatasync would now succeed. */
	for (unsigned int i = 0; i < 3; i++)
		world->names_synced |= meta_sync(m, &e) == 0;
	if (meta_synced_sequence(m) > 0)
		world->names_synced = 1;
	(void)raise(SIGKILL);
}

static int call_sync(void)
{
	return meta_sync(m, &e);
}

static int call_flush(void)
{
	ck_assert_int_eq(put(META_STATE, 1, 0), 0);
	return meta_flush(m, &e);
}

static int call_synced_commit(void)
{
	return put(META_NAMES, 2, META_SYNC);
}

static void fail_in_sync(void)
{
	fail_sync_then_claim(call_sync);
}

static void fail_in_flush(void)
{
	fail_sync_then_claim(call_flush);
}

static void fail_in_synced_commit(void)
{
	fail_sync_then_claim(call_synced_commit);
}

static void drop_unsynced_log(int dir_fd, const char *name, UNUSED void *arg)
{
	uint64_t number = 0;
	int fd;

	if (type_of_name(name, &number) != FILE_LOG)
		return;
	fd = openat(dir_fd, name, O_WRONLY);
	ck_assert_int_ge(fd, 0);
	/* All pages of the failed sync are lost, whatever fdatasync said later. */
	ck_assert_int_eq(ftruncate(fd, 0), 0);
	(void)close(fd);
}

START_TEST(after_a_failed_sync_no_later_one_claims_what_was_lost)
{
	static void (*const failures[])(void) = { fail_in_sync, fail_in_flush,
						  fail_in_synced_commit };

	in_child(failures[_i], SIGKILL);
	for_each_file(drop_unsynced_log, NULL);
	in_child(judge_row_one, SIGKILL);

	ck_assert_uint_ge(world->names, world->names_synced);
}
END_TEST

START_TEST(a_full_disk_is_enospc_and_reads_go_on)
{
	open_meta();
	ck_assert_int_eq(put(META_NAMES, 1, META_SYNC), 0);
	ck_assert_int_eq(put(META_STATE, 1, 0), 0);

	world->fail_write = ENOSPC;
	ck_assert_int_eq(put(META_NAMES, 2, 0), -ENOSPC);
	ck_assert_ptr_nonnull(strstr(e.message, "No space left"));
	ck_assert_int_eq(put(META_NAMES, 3, META_SYNC), -ENOSPC);
	ck_assert_int_eq(meta_flush(m, &e), -ENOSPC);
	ck_assert_int_eq(get(META_NAMES, 1), 0);
	ck_assert_int_eq(get(META_STATE, 1), 0);
	ck_assert_int_eq(get(META_NAMES, 2), -ENOENT);
	world->fail_write = 0;

	close_meta();
	open_meta();
	ck_assert_int_eq(get(META_NAMES, 1), 0);
	ck_assert_int_eq(put(META_NAMES, 2, META_SYNC), 0);
}
END_TEST

START_TEST(an_error_of_the_disk_is_eio)
{
	open_meta();
	world->fail_write = EIO;
	ck_assert_int_eq(put(META_NAMES, 1, 0), -EIO);
	world->fail_write = 0;
}
END_TEST

/* ---- damage ---- */

static void flip_middle(int dir_fd, const char *name, void *arg)
{
	const enum file_type *wanted = arg;
	uint64_t number = 0;
	struct stat st;
	uint8_t byte;
	int fd;

	if (type_of_name(name, &number) != *wanted)
		return;
	fd = openat(dir_fd, name, O_RDWR);
	ck_assert(fd >= 0 && fstat(fd, &st) == 0);
	if (st.st_size > 4096) {
		ck_assert_int_eq(pread(fd, &byte, 1, st.st_size / 2), 1);
		byte ^= 4;
		ck_assert_int_eq(pwrite(fd, &byte, 1, st.st_size / 2), 1);
	}
	(void)close(fd);
}

START_TEST(a_flipped_bit_in_a_table_is_an_error_and_never_a_value)
{
	enum file_type type = FILE_TABLE;
	unsigned int damaged = 0;

	open_meta();
	for (uint64_t i = 0; i < 200; i++)
		ck_assert_int_eq(put(META_STATE, i, 0), 0);
	ck_assert_int_eq(meta_flush(m, &e), 0);
	close_meta();
	for_each_file(flip_middle, &type);

	open_meta();
	for (uint64_t i = 0; i < 200; i++) {
		const int r = get(META_STATE, i);

		ck_assert(r == 0 || r == -EUCLEAN);
		damaged += r == -EUCLEAN;
	}
	ck_assert_uint_gt(damaged, 0);
}
END_TEST

START_TEST(damage_inside_the_wal_shows_in_the_sequence)
{
	enum file_type type = FILE_LOG;
	uint64_t synced;

	open_meta();
	for (uint64_t i = 0; i < 200; i++)
		ck_assert_int_eq(put(META_NAMES, i, 0), 0);
	ck_assert_int_eq(meta_sync(m, &e), 0);
	synced = meta_synced_sequence(m);
	close_meta();
	for_each_file(flip_middle, &type);

	open_meta();
	ck_assert_int_eq(get(META_NAMES, 0), 0);
	ck_assert_int_eq(get(META_NAMES, 199), -ENOENT);
	ck_assert_uint_lt(meta_sequence(m), synced);
}
END_TEST

static void count_tables(UNUSED int dir_fd, const char *name, void *arg)
{
	uint64_t number = 0;
	unsigned int *counts = arg;

	counts[type_of_name(name, &number)]++;
}

START_TEST(a_database_without_its_current_is_refused_and_kept)
{
	unsigned int before[4] = { 0 }, after[4] = { 0 };
	char path[64];

	open_meta();
	ck_assert_int_eq(put(META_STATE, 1, 0), 0);
	ck_assert_int_eq(meta_flush(m, &e), 0);
	close_meta();
	(void)snprintf(path, sizeof(path), "%s/CURRENT", world->dir);
	ck_assert_int_eq(unlink(path), 0);
	for_each_file(count_tables, before);

	ck_assert_int_eq(try_open(), -EUCLEAN);
	for_each_file(count_tables, after);
	ck_assert_mem_eq(before, after, sizeof(before));
	ck_assert_uint_gt(after[FILE_TABLE], 0);
}
END_TEST

/* ---- growth ---- */

START_TEST(flushes_of_state_do_not_pile_up_logs_of_names)
{
	unsigned int counts[4] = { 0 };

	open_meta();
	for (uint64_t i = 0; i < 150; i++) {
		ck_assert_int_eq(put(META_NAMES, i, 0), 0);
		ck_assert_int_eq(put(META_STATE, i % 7, 0), 0);
		ck_assert_int_eq(meta_flush(m, &e), 0);
	}
	for_each_file(count_tables, counts);
	ck_assert_uint_le(counts[FILE_LOG], 70);
	ck_assert_int_eq(get(META_NAMES, 0), 0);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("volume/meta_rocksdb");
	TCase *power = tcase_create("power"), *faults = tcase_create("faults");
	TCase *damage = tcase_create("damage"), *growth = tcase_create("growth");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(power, setup, teardown);
	tcase_add_loop_test(power, a_power_cut_leaves_prefixes_with_all_that_was_synced, 0, 3);
	tcase_add_loop_test(power, after_a_failed_sync_no_later_one_claims_what_was_lost, 0, 3);
	suite_add_tcase(suite, power);

	tcase_add_checked_fixture(faults, setup, teardown);
	tcase_add_test(faults, syncs_touch_the_disk_only_when_there_is_something);
	tcase_add_test(faults, a_full_disk_is_enospc_and_reads_go_on);
	tcase_add_test(faults, an_error_of_the_disk_is_eio);
	suite_add_tcase(suite, faults);

	tcase_add_checked_fixture(damage, setup, teardown);
	tcase_add_test(damage, a_flipped_bit_in_a_table_is_an_error_and_never_a_value);
	tcase_add_test(damage, damage_inside_the_wal_shows_in_the_sequence);
	tcase_add_test(damage, a_database_without_its_current_is_refused_and_kept);
	suite_add_tcase(suite, damage);

	tcase_add_checked_fixture(growth, setup, teardown);
	tcase_add_test(growth, flushes_of_state_do_not_pile_up_logs_of_names);
	suite_add_tcase(suite, growth);

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
