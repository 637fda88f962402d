/*
 * RocksDB on a disk that fills up: what was acknowledged is there behind every mixture of a full disk,
 * failing calls, kills at any call and opens that fail half way.
 *
 * The calls of RocksDB come through here: writes take room and are cut short by what is left of it, any
 * call may fail, and at any call the process may die. Waits of RocksDB are made short: it looks for room
 * once in 5 s. A process is a child; what it was told is in shared memory, and the next one judges.
 */
#include "tests/support/scale.h"
#include "volume/meta.h"

#include <check.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define KEYS	      40u
#define HISTORY_MAX   20000u
#define VALUE_MAX     3000u
#define ROOM_PLENTY   (INT64_C(1) << 40)
#define WAIT_SHORT_NS 2000000
/* Tries of a call that goes on once RocksDB has noticed that there is room. */
#define TRIES_MAX 4000u

enum outcome {
	FAILED,
	DONE,
	GONE
}; /* GONE: it was not there after a crash, and must not come back */

/* Of one family: row i of the history put i + 1 at its key. */
struct history {
	uint32_t count, promised; /* the first `promised` are there, if they were DONE */
	uint8_t keys[HISTORY_MAX], outcomes[HISTORY_MAX];
};

/* Shared by the processes of a test. */
static struct world {
	char dir[32];
	int64_t room_bytes;
	uint64_t calls, kill_at, fail_at, fail_until;
	int fail_error;
	bool fail_creating;
	bool fail_tables; /* writes to tables */
	struct history families[2];
	uint64_t synced_sequence;
	uint64_t failures, opens_failed; /* that it saw */
	char why[512];
} * world;

/* ---- in front of the C library ---- */

/* Whether one more call of RocksDB fails; or the process dies. */
static int call_fails(void)
{
	const uint64_t call = __atomic_add_fetch(&world->calls, 1, __ATOMIC_SEQ_CST);

	if (call == world->kill_at)
		(void)raise(SIGKILL);
	if (call < world->fail_at || call >= world->fail_until)
		return 0;
	world->failures++;
	return world->fail_error;
}

/*
 * Of RocksDB, for it is built with asserts: 7.8 makes one of a log whose write failed for want of space
 * just behind a flush. To who uses it that is a kill; ours come to assert_failed().
 */
NORETURN void __assert_fail(const char *expr, const char *file, unsigned int line,
			    const char *function);
void __assert_fail(const char *expr, const char *file, unsigned int line, const char *function)
{
	(void)fprintf(stderr, "%s:%u: %s: %s\n", file, line, function, expr);
	if (world && world->failures > 0 && strstr(file, "writable_file_writer"))
		(void)raise(SIGKILL);
	abort();
}

static bool is_ours(const char *path)
{
	/* Not its log: an error there says nothing to us, and 7.8 with asserts dies of it. */
	return world != NULL && strstr(path, world->dir) != NULL && strstr(path, "/LOG") == NULL;
}

static bool path_of(int fd, char path[512])
{
	char link[32];
	ssize_t n;

	if (world == NULL)
		return false;
	(void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, 511);
	if (n <= 0)
		return false;
	path[n] = '\0';
	return is_ours(path);
}

ssize_t write(int fd, const void *buf, size_t n)
{
	char path[512];
	int64_t room;

	if (!path_of(fd, path))
		return syscall(SYS_write, fd, buf, n);
	errno = call_fails();
	if (errno == 0 && world->fail_tables && strstr(path, ".sst") != NULL)
		errno = ENOSPC;
	room = __atomic_load_n(&world->room_bytes, __ATOMIC_SEQ_CST);
	if (errno == 0 && room <= 0) {
		world->failures++;
		errno = ENOSPC;
	}
	if (errno != 0)
		return -1;
	n = (size_t)min_u64(n, (uint64_t)room);
	__atomic_sub_fetch(&world->room_bytes, (int64_t)n, __ATOMIC_SEQ_CST);
	return syscall(SYS_write, fd, buf, n);
}

static int sync_fd(int fd)
{
	char path[512];

	/* A full disk fails no sync. Nothing is waited for: only processes die here. */
	errno = path_of(fd, path) ? call_fails() : 0;
	return errno == EIO ? -1 : 0;
}

int fdatasync(int fildes)
{
	return sync_fd(fildes);
}

int fsync(int fd)
{
	return sync_fd(fd);
}

static bool name_fails(const char *path)
{
	errno = is_ours(path) ? call_fails() : 0;
	if (errno == 0 && is_ours(path) && world->fail_creating && world->room_bytes <= 0)
		errno = ENOSPC;
	return errno != 0;
}

int rename(const char *old, const char *new)
{
	return name_fails(new) ? -1 : (int)syscall(SYS_rename, old, new);
}

static int open_path(const char *path, int flags, mode_t mode)
{
	if ((flags & O_CREAT) != 0 && name_fails(path))
		return -1;
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open(const char *file, int oflag, ...)
{
	mode_t mode;
	va_list ap;

	va_start(ap, oflag);
	mode = (oflag & O_CREAT) != 0 ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	return open_path(file, oflag, mode);
}

int open64(const char *file, int oflag, ...)
{
	mode_t mode;
	va_list ap;

	va_start(ap, oflag);
	mode = (oflag & O_CREAT) != 0 ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	return open_path(file, oflag, mode);
}

/* ThreadSanitizer's own, which the name above would hide from it: it has to know that a wait lets go. */
int __interceptor_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
					 const struct timespec *abstime) __attribute__((weak));

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
			   const struct timespec *abstime)
{
	static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
	struct timespec now, soon;

	if (real == NULL && __interceptor_pthread_cond_timedwait != NULL)
		real = __interceptor_pthread_cond_timedwait;
	if (real == NULL)
		*(void **)&real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
	(void)clock_gettime(CLOCK_REALTIME, &now);
	soon = now;
	soon.tv_nsec += WAIT_SHORT_NS;
	if (soon.tv_nsec >= 1000000000) {
		soon.tv_sec++;
		soon.tv_nsec -= 1000000000;
	}
	/* Those of other clocks are far from now, and longer than any that matters. */
	return real(cond, mutex, abstime->tv_sec > now.tv_sec ? &soon : abstime);
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

static void wait_ms(uint64_t ms)
{
	(void)nanosleep(&(struct timespec){ .tv_nsec = (long)ms * 1000000 }, NULL);
}

static int remove_path(const char *path, UNUSED const struct stat *st, UNUSED int type,
		       UNUSED struct FTW *ftw)
{
	return remove(path);
}

static void setup(void)
{
	m = NULL;
	random_state = 1;
	world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	ck_assert(world != MAP_FAILED);
	world->room_bytes = ROOM_PLENTY;
	(void)snprintf(world->dir, sizeof(world->dir), "meta-full-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(world->dir));
}

static void teardown(void)
{
	meta_close(m);
	ck_assert_int_eq(nftw(world->dir, remove_path, 16, FTW_DEPTH | FTW_PHYS), 0);
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

static struct row_key key_of(enum meta_family family, unsigned int key)
{
	return row_key_u64(family == META_NAMES ? ROW_OBJECT : ROW_SCO, key);
}

static int put(enum meta_family family, unsigned int key, unsigned int flags, size_t bytes)
{
	struct history *h = &world->families[family];
	struct meta_batch *batch = meta_batch_new(m, family);
	const struct row_key k = key_of(family, key);
	const uint32_t number = h->count + 1;
	uint8_t value[VALUE_MAX] = { 0 };
	struct buf buf;
	int r;

	ck_assert_uint_lt(h->count, HISTORY_MAX);
	memcpy(value, &number, sizeof(number));
	buf_init(&buf, VALUE_MAX);
	ck_assert_int_eq(buf_append(&buf, value, bytes), 0);
	ck_assert_int_eq(meta_batch_put(m, batch, &k, &buf), 0);
	buf_done(&buf);
	/* Before: it may die in the commit. */
	h->keys[h->count] = (uint8_t)key;
	h->outcomes[h->count] = FAILED;
	h->count = number;
	r = meta_commit(m, batch, flags, &e);
	meta_batch_free(m, batch);
	if (r == 0)
		h->outcomes[number - 1] = DONE;
	/* What the WAL has survives the process. */
	if (r == 0 && family == META_NAMES)
		h->promised = number;
	return r;
}

static int flush(void)
{
	struct history *h = &world->families[META_STATE];
	const uint32_t count = h->count;
	const int r = meta_flush(m, &e);

	if (r == 0)
		h->promised = count;
	return r;
}

NORETURN PRINTF_LIKE(1, 2) static void lose(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(world->why, sizeof(world->why), fmt, ap);
	va_end(ap);
	_exit(1);
}

/* Number of the row of the history that stands at a key; 0: none. */
static uint32_t number_at(enum meta_family family, unsigned int key)
{
	const struct row_key k = key_of(family, key);
	uint32_t number = 0;
	struct buf value;
	int r;

	buf_init(&value, VALUE_MAX);
	r = meta_get(m, family, &k, &value, &e);
	if (r == 0)
		memcpy(&number, value.data, sizeof(number));
	else if (r != -ENOENT)
		lose("reading a row: %s", e.message);
	buf_done(&value);
	return number;
}

/* The rows are what a prefix of the history leaves that has all that was promised; commits that failed
 * may be in it or not. */
static void judge_family(enum meta_family family, bool opened)
{
	struct history *h = &world->families[family];
	uint32_t seen[KEYS], last = 0;

	for (unsigned int key = 0; key < KEYS; key++) {
		seen[key] = number_at(family, key);
		last = (uint32_t)max_u64(last, seen[key]);
	}
	last = (uint32_t)max_u64(last, h->promised);
	for (unsigned int key = 0; key < KEYS; key++) {
		uint32_t at = last;

		while (at > 0 && at != seen[key] &&
		       (h->keys[at - 1] != key || h->outcomes[at - 1] != DONE))
			at--;
		if (at != seen[key] || (at > 0 && h->outcomes[at - 1] == GONE))
			lose("family %d, key %u: row %u is there, %u of %u was expected (promised %u)",
			     (int)family, key, seen[key], at, h->count, h->promised);
	}
	if (!opened)
		return;
	/* What did not come back stays away; what did is as good as done. */
	for (uint32_t i = 0; i < h->count; i++)
		if (h->outcomes[i] != DONE || i >= last)
			h->outcomes[i] = seen[h->keys[i]] == i + 1 ? DONE : GONE;
	h->promised = last;
}

/* opened: just now, so all that is there is durable, and nothing else is ever there again. */
static void judge(bool opened)
{
	judge_family(META_NAMES, opened);
	judge_family(META_STATE, opened);
	if (meta_sequence(m) < world->synced_sequence)
		lose("the sequence went back to %" PRIu64 " from %" PRIu64, meta_sequence(m),
		     world->synced_sequence);
}

static void open_and_judge(void)
{
	const int r = try_open();

	if (r == 0) {
		judge(true);
		return;
	}
	world->opens_failed++;
	if (r != -ENOSPC && r != -EIO)
		lose("opening: %d %s", r, e.message);
	_exit(0);
}

static void in_child(void (*fn)(void))
{
	const pid_t child = fork();
	int status;

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		fn();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_msg((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) ||
			      (WIFEXITED(status) && WEXITSTATUS(status) == 0),
		      "%s (status %x)", world->why, (unsigned int)status);
}

/* Until RocksDB has noticed that there is room. */
static void wait_until_it_goes_on(void)
{
	for (unsigned int i = 0; i < TRIES_MAX; i++) {
		if (put(META_NAMES, 0, 0, 50) == 0)
			return;
		wait_ms(5);
	}
	ck_abort_msg("still failing: %s", e.message);
}

/* ---- one after the other ---- */

START_TEST(a_flush_that_fails_says_so_although_the_disk_was_full_before)
{
	ck_assert_int_eq(try_open(), 0);
	ck_assert_int_eq(put(META_STATE, 1, 0, 50), 0);
	world->room_bytes = 10;
	ck_assert_int_eq(put(META_NAMES, 1, 0, 50), -ENOSPC);
	world->room_bytes = ROOM_PLENTY;
	wait_until_it_goes_on();

	world->fail_tables = true;
	ck_assert_int_eq(put(META_STATE, 2, 0, 50), 0);
	ck_assert_int_eq(flush(), -ENOSPC);
	world->fail_tables = false;
}
END_TEST

/* ---- in every mixture ---- */

#define STEPS_MAX  600u
#define LIVES	   6u
#define TRIES_OPEN 4u
/* Among them one that leaves a torn WAL that only one family needs. */
#define SEED_FIRST 12
#define SEEDS	   TEST_SCALE(8) /* VPOOL_SEEDS in the environment: as many as that */

static size_t some_bytes(void)
{
	return 20 + random_below(random_below(10) != 0 ? 200 : VALUE_MAX - 20);
}

static void change_room(void)
{
	const uint64_t dice = random_below(100);

	if (dice < 1 && world->room_bytes > ROOM_PLENTY / 2) {
		world->room_bytes = (int64_t)random_below(random_below(3) != 0 ? 9000 : 200);
		world->fail_creating = random_below(2) != 0;
	} else if (dice < 6 && world->room_bytes < ROOM_PLENTY / 2) {
		world->room_bytes = ROOM_PLENTY;
		if (random_below(2) != 0)
			wait_ms(random_below(20));
	}
}

/* Any of it may fail. */
static void step(void)
{
	const uint64_t dice = random_below(1000);

	change_room();
	if (dice < 430)
		(void)put(META_NAMES, (unsigned int)random_below(KEYS), 0, some_bytes());
	else if (dice < 800)
		(void)put(META_STATE, (unsigned int)random_below(KEYS), 0, some_bytes());
	else if (dice < 880)
		(void)put(META_NAMES, (unsigned int)random_below(KEYS), META_SYNC, 60);
	else if (dice < 940)
		world->failures += meta_sync(m, &e) < 0;
	else
		(void)flush();
	world->synced_sequence = max_u64(world->synced_sequence, meta_synced_sequence(m));
	if (random_below(100) == 0)
		judge(false);
}

static void die_soon(uint64_t calls)
{
	world->kill_at = random_below(2) != 0 ? world->calls + 1 + random_below(calls) : 0;
}

static void live(void)
{
	const uint64_t steps = 50 + random_below(STEPS_MAX);

	world->room_bytes = ROOM_PLENTY;
	open_and_judge();
	die_soon(STEPS_MAX);
	for (uint64_t i = 0; i < steps; i++)
		step();
	(void)raise(SIGKILL);
}

/* An open that meets a full disk, or one call that fails, or its death. */
static void try_to_live(void)
{
	world->room_bytes = (int64_t)random_below(random_below(2) != 0 ? 300 : 20000);
	if (random_below(2) != 0) {
		world->room_bytes = ROOM_PLENTY;
		world->fail_at = world->calls + 1 + random_below(60);
		world->fail_until = random_below(2) != 0 ? world->fail_at + 1 : UINT64_MAX;
		world->fail_error = random_below(2) != 0 ? ENOSPC : EIO;
	}
	die_soon(60);
	open_and_judge();
	(void)raise(SIGKILL);
}

START_TEST(what_was_acknowledged_is_there_behind_full_disks_and_failed_opens)
{
	for (unsigned int life = 0; life < LIVES; life++) {
		random_state = (uint64_t)_i * 1000 + life * 10;
		in_child(live);
		for (uint64_t i = random_below(TRIES_OPEN); i > 0; i--) {
			random_state += i;
			in_child(try_to_live);
			world->fail_at = world->fail_until = 0;
		}
	}
}
END_TEST

static int seeds(void)
{
	const char *wanted = getenv("VPOOL_SEEDS");
	const long n = wanted != NULL ? strtol(wanted, NULL, 10) : 0;

	return n > 0 && n <= INT32_MAX ? (int)n : SEEDS;
}

int main(void)
{
	Suite *suite = suite_create("volume/meta_rocksdb: full disks");
	TCase *one = tcase_create("one"), *many = tcase_create("many");
	SRunner *runner = srunner_create(suite);
	int failed;

	tcase_add_checked_fixture(one, setup, teardown);
	tcase_add_test(one, a_flush_that_fails_says_so_although_the_disk_was_full_before);
	suite_add_tcase(suite, one);

	tcase_add_checked_fixture(many, setup, teardown);
	tcase_add_loop_test(many, what_was_acknowledged_is_there_behind_full_disks_and_failed_opens,
			    SEED_FIRST, SEED_FIRST + seeds());
	suite_add_tcase(suite, many);

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
