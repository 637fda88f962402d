#include "support_pool.h"

#include "common/endian.h"
#include "tests/support/check_messages.h"
#include "volume/format.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

struct pool_fixture pf;

#define must(call)                                                                                 \
	do {                                                                                       \
		struct err e = { 0 };                                                              \
		int must_r_ = (call);                                                              \
		ck_assert_msg(must_r_ >= 0, "%s: %d: %s", #call, must_r_, e.message);              \
	} while (0)

/* --- the pool ---------------------------------------------------------------------------------- */

static void make_directories(void)
{
	char here[400];

	ck_assert_ptr_nonnull(getcwd(here, sizeof(here)));
	(void)snprintf(pf.root, sizeof(pf.root), "%s/pool-XXXXXX", here);
	ck_assert_ptr_nonnull(mkdtemp(pf.root));
	(void)snprintf(pf.shm, sizeof(pf.shm), "/dev/shm/vpool-test-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(pf.shm));
}

static void remove_directories(void)
{
	remove_tree(pf.root);
	remove_tree(pf.shm);
}

static void fixture_begin(void)
{
	remove_directories();
	(void)snprintf(pf.dir, sizeof(pf.dir), "%s/pool", pf.root);
	ck_assert_int_eq(mkdir(pf.root, 0700), 0);
	ck_assert_int_eq(mkdir(pf.dir, 0700), 0);
	ck_assert_int_eq(mkdir(pf.shm, 0700), 0);
	pool_options_default(&pf.options, pf.dir);
	pf.options.shm_dir = pf.shm;
	pf.options.sco_bytes = MIB;
	pf.options.ring_bytes = 4 * MIB;
	pf.options.metadata_cache_bytes = 32 * MIB;
	pf.options.reserve_bytes = MIB;
	pf.options.flush_interval_ns = SECOND_NS;
	pf.options.checkpoint_interval_ns = HOUR_NS;
	pf.options.upload_interval_ns = HOUR_NS;
	pf.batch_write_ns = 0;
	pf.pool = NULL;
}

static void fixture_end(void)
{
	if (pf.pool)
		pool_fixture_close();
}

void pool_fixture_add(TCase *t, void (*begin)(void))
{
	tcase_add_unchecked_fixture(t, make_directories, remove_directories);
	tcase_add_checked_fixture(t, fixture_begin, fixture_end);
	if (begin)
		tcase_add_checked_fixture(t, begin, NULL);
}

/* --- a slow disk -------------------------------------------------------------------------------- */

static struct env_ops slow_ops;
static struct env slow_env = { .ops = &slow_ops };

static int slow_ioq_submit(struct env *env, struct env_ioq *q, struct env_io *io)
{
	sleep_ns(pf.batch_write_ns);
	return env_posix()->ops->ioq_submit(env, q, io);
}

static struct env *fixture_env(void)
{
	slow_ops = *env_posix()->ops;
	slow_ops.ioq_submit = slow_ioq_submit;
	return pf.batch_write_ns > 0 ? &slow_env : env_posix();
}

/* --- the pool ------------------------------------------------------------------------------------ */

void pool_fixture_create(void)
{
	must(pool_create(fixture_env(), &pf.options, &e));
}

void pool_fixture_open(void)
{
	ck_assert_ptr_null(pf.pool);
	must(pool_open(fixture_env(), &pf.options, &pf.pool, &e));
}

static bool first_round_is_over(UNUSED void *arg)
{
	return pool_fixture_counter("checkpoints") >= 2 && pool_fixture_counter("roots") >= 1;
}

void pool_fixture_wait_quiet(void)
{
	wait_until(first_round_is_over, NULL, 20, "first checkpoint and root");
}

void pool_fixture_open_quiet(void)
{
	pool_fixture_open();
	pool_fixture_wait_quiet();
}

void pool_fixture_close(void)
{
	struct pool *p = TAKE_PTR(pf.pool);

	must(pool_close(p, &e));
}

void pool_fixture_restart(void)
{
	pool_fixture_close();
	pool_fixture_open();
}

void pool_fixture_lose_machine(void)
{
	struct pool_restored restored;
	struct err e = { 0 };

	pool_fixture_close();
	remove_tree(pf.dir);
	ck_assert_int_eq(mkdir(pf.dir, 0700), 0);
	ck_assert_msg(pool_restore(env_posix(), &pf.options, NULL, &restored, &e) == 0, "%s",
		      e.message);
	ck_assert_uint_eq(restored.roots_skipped, 0);
}

static void expect_no_problem(void *arg, const struct pool_problem *problem)
{
	(void)arg;
	ck_abort_msg("%s: sco %" PRIu64, problem->what, problem->sco);
}

void pool_fixture_check(void)
{
	struct pool_check_options options = { .data = true, .problem = expect_no_problem };
	struct pool_check_result result;
	struct err e = { 0 };

	ck_assert_msg(pool_check(pf.pool, &options, &result, &e) == 0, "%s", e.message);
}

void pool_fixture_open_fails(int code, const char *text)
{
	struct pool *p = NULL;
	struct err why = { 0 };
	int r = pool_open(env_posix(), &pf.options, &p, &why);

	if (r == 0)
		must(pool_close(p, &e));
	ck_assert_msg(r == code, "pool_open gave %d (%s), not %d", r, why.message, code);
	ck_assert_ptr_null(p);
	ck_assert_msg(strstr(why.message, text), "the message '%s' says nothing of '%s'",
		      why.message, text);
}

struct counter_search {
	const char *name;
	uint64_t value;
	bool found;
};

static int see_metric(void *arg, const struct metric_value *v)
{
	struct counter_search *s = arg;

	if (v->def->kind != METRIC_KIND_COUNTER || strcmp(v->def->name, s->name) != 0)
		return 0;
	s->value = v->counter;
	s->found = true;
	return 1;
}

uint64_t pool_fixture_counter(const char *name)
{
	struct counter_search s = { .name = name };

	(void)metrics_for_each(pool_metrics(pf.pool), see_metric, &s);
	ck_assert_msg(s.found, "no counter '%s'", name);
	return s.value;
}

/* --- objects ----------------------------------------------------------------------------------- */

struct object *make_object(enum object_class class)
{
	uint64_t id;

	must(object_create(pf.pool, class, &id, &e));
	return get_object(id);
}

struct object *get_object(uint64_t id)
{
	struct object *o;

	must(object_open(pf.pool, id, &o, &e));
	return o;
}

uint64_t id_of(struct object *o)
{
	struct object_stat st;

	object_stat(o, &st);
	return st.id;
}

uint64_t size_of(struct object *o)
{
	struct object_stat st;

	object_stat(o, &st);
	return st.size_bytes;
}

uint64_t allocated_of(struct object *o)
{
	struct object_stat st;

	must(pool_checkpoint(pf.pool, &e));
	object_stat(o, &st);
	return st.allocated_bytes;
}

void write_bytes(struct object *o, uint64_t offset, const void *src, size_t len)
{
	must(object_write(o, offset, src, len, &e));
}

void sync_object(struct object *o)
{
	must(object_sync(o, &e));
}

static size_t first_difference(const uint8_t *a, const uint8_t *b, size_t len)
{
	size_t i = 0;

	if (memcmp(a, b, len) == 0)
		return len;
	while (a[i] == b[i])
		i++;
	return i;
}

ssize_t read_in_flight(struct object *o, uint64_t offset, void *dst, size_t len)
{
	struct volume_read read = {
		.object = o, .offset_bytes = offset, .buf = dst, .len_bytes = len
	};
	struct volume_reader *rd;

	must(volume_reader_open(pf.pool, &rd, &e));
	volume_read_start(rd, &read);
	ck_assert_ptr_eq(volume_read_reap(rd, true), &read);
	ck_assert_ptr_null(volume_read_reap(rd, true));
	volume_reader_close(rd);
	return read.needs_fetch ? object_read(o, offset, dst, len, &(struct err){ 0 }) :
				  read.result;
}

void expect_bytes(struct object *o, uint64_t offset, const void *want, size_t len)
{
	uint8_t *got = aligned_mem(round_up_u64(len, 4096));
	struct err e = { 0 };

	for (unsigned int way = 0; way < 2; way++) {
		ssize_t r = way == 0 ? object_read(o, offset, got, len, &e) :
				       read_in_flight(o, offset, got, len);
		size_t at;

		ck_assert_msg(r == (ssize_t)len, "reading %zu at %" PRIu64 " gave %zd: %s", len,
			      offset, r, e.message);
		at = first_difference(got, want, len);
		ck_assert_msg(at == len, "byte %" PRIu64 " is wrong (read %zu at %" PRIu64 ")",
			      offset + at, len, offset);
		memset(got, 0xee, len);
	}
	free(got);
}

void expect_zeros(struct object *o, uint64_t offset, size_t len)
{
	uint8_t *zeros = calloc(1, len);

	ck_assert_ptr_nonnull(zeros);
	expect_bytes(o, offset, zeros, len);
	free(zeros);
}

/* --- bytes ------------------------------------------------------------------------------------- */

void *aligned_mem(size_t len)
{
	void *p = aligned_alloc(ENV_DIRECT_ALIGN,
				(size_t)round_up_u64(len ? len : 1, ENV_DIRECT_ALIGN));

	ck_assert_ptr_nonnull(p);
	return p;
}

uint64_t rng_next(struct rng *r)
{
	uint64_t z = (r->state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

uint64_t rng_below(struct rng *r, uint64_t n)
{
	return rng_next(r) % n;
}

void pattern_fill(void *dst, size_t len, uint64_t seed)
{
	struct rng r = { seed * 1000003 + 1 };
	uint8_t *to = dst, *end = to + len;
	uint64_t v;

	for (; to + sizeof(v) <= end; to += sizeof(v)) {
		v = rng_next(&r) | 1;
		memcpy(to, &v, sizeof(v));
	}
	v = rng_next(&r) | 1;
	memcpy(to, &v, (size_t)(end - to));
}

void *pattern_mem(size_t len, uint64_t seed)
{
	void *p = aligned_mem(len);

	pattern_fill(p, len, seed);
	return p;
}

void sector_fill(void *dst, uint64_t disk, uint64_t sector, uint64_t generation)
{
	uint64_t head[3] = { disk, sector, generation };
	uint8_t *to = dst;

	memset(to, 0, SECTOR_BYTES);
	if (generation == 0)
		return;
	pattern_fill(to, SECTOR_BYTES, disk * 31 + sector * 1000033 + generation * 7919);
	memcpy(to, head, sizeof(head));
}

uint64_t sector_generation(const void *src, uint64_t disk, uint64_t sector)
{
	uint8_t want[SECTOR_BYTES];
	uint64_t head[3];

	memcpy(head, src, sizeof(head));
	sector_fill(want, disk, sector, head[2]);
	return memcmp(src, want, SECTOR_BYTES) == 0 ? head[2] : UINT64_MAX;
}

/* --- children ---------------------------------------------------------------------------------- */

void sleep_ns(uint64_t ns)
{
	struct timespec t = { (time_t)(ns / SECOND_NS), (long)(ns % SECOND_NS) };

	(void)nanosleep(&t, NULL);
}

static void start(struct child *c, void (*fn)(int to_parent, void *arg), void *arg,
		  bool may_be_killed)
{
	int fds[2];

	ck_assert_int_eq(pipe(fds), 0);
	(void)fflush(NULL);
	c->pid = fork();
	ck_assert_int_ge(c->pid, 0);
	if (c->pid == 0) {
		(void)close(fds[0]);
		if (may_be_killed)
			check_messages_leave();
		fn(fds[1], arg);
		exit(0);
	}
	(void)close(fds[1]);
	c->from = fds[0];
}

void child_start(struct child *c, void (*fn)(int to_parent, void *arg), void *arg)
{
	start(c, fn, arg, true);
}

void child_kill(struct child *c)
{
	int status;

	ck_assert_int_eq(kill(c->pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(c->pid, &status, 0), c->pid);
	ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
		      "the child ended by itself: status %#x", (unsigned int)status);
}

void child_finish(struct child *c)
{
	int status;

	ck_assert_int_eq(waitpid(c->pid, &status, 0), c->pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child failed: status %#x",
		      (unsigned int)status);
	(void)close(c->from);
}

void in_child(void (*fn)(int to_parent, void *arg), void *arg)
{
	struct child c;

	start(&c, fn, arg, false);
	child_finish(&c);
}

struct killed_call {
	void (*fn)(int to_parent, void *arg);
	void *arg;
};

static void call_and_wait(int to_parent, void *arg)
{
	struct killed_call *k = arg;

	k->fn(to_parent, k->arg);
	ck_assert_int_eq(write(to_parent, "", 1), 1);
	for (;;)
		(void)pause();
}

void in_child_killed(void (*fn)(int to_parent, void *arg), void *arg)
{
	struct killed_call k = { fn, arg };
	struct child c;
	char done;

	child_start(&c, call_and_wait, &k);
	ck_assert_msg(read(c.from, &done, 1) == 1, "the child failed");
	child_kill(&c);
	(void)close(c.from);
}

void wait_until(bool (*fn)(void *arg), void *arg, unsigned int seconds, const char *what)
{
	uint64_t deadline = clock_mono_ns() + seconds * SECOND_NS;

	while (!fn(arg)) {
		ck_assert_msg(clock_mono_ns() < deadline, "waited %u s in vain: %s", seconds, what);
		sleep_ns(2 * MS_NS);
	}
}

/* --- what a pool leaves behind ------------------------------------------------------------------ */

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void name_list_read(const char *dir, struct name_list *ret_list)
{
	struct name_list l = { .names = calloc(FILES_MAX, sizeof(char *)) };
	struct dirent *entry;
	DIR *d = opendir(dir);

	ck_assert_ptr_nonnull(l.names);
	while (d && (entry = readdir(d))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		ck_assert_uint_lt(l.count, FILES_MAX);
		l.names[l.count++] = strdup(entry->d_name);
	}
	if (d)
		(void)closedir(d);
	qsort(l.names, l.count, sizeof(char *), by_name);
	*ret_list = l;
}

void name_list_free(struct name_list *l)
{
	for (size_t i = 0; i < l->count; i++)
		free(l->names[i]);
	free(l->names);
	*l = (struct name_list){ 0 };
}

const char *root_path(char buf[PATH_BYTES], const char *name)
{
	(void)snprintf(buf, PATH_BYTES, "%s/%s", pf.root, name);
	return buf;
}

const char *pool_path(char buf[PATH_BYTES], const char *name)
{
	(void)snprintf(buf, PATH_BYTES, "%s/%s", pf.dir, name);
	return buf;
}

static size_t find_scos(uint32_t stream, size_t nth, char *ret_path)
{
	struct name_list l;
	char dir[PATH_BYTES];
	size_t count = 0;

	name_list_read(pool_path(dir, "cache/sco"), &l);
	for (size_t i = 0; i < l.count; i++) {
		uint32_t s, version;
		uint64_t number;

		if (sco_file_name_parse(l.names[i], &s, &number, &version) < 0 ||
		    (stream && s != stream))
			continue;
		if (count++ == nth && ret_path)
			(void)snprintf(ret_path, PATH_BYTES, "%.900s/%.200s", dir, l.names[i]);
	}
	name_list_free(&l);
	return count;
}

size_t sco_count(void)
{
	return find_scos(0, 0, NULL);
}

const char *sco_path_of(char buf[PATH_BYTES], uint32_t stream, size_t i)
{
	size_t count = find_scos(stream, i, buf);

	ck_assert_msg(i < count, "there are only %zu SCOs, not %zu", count, i + 1);
	return buf;
}

const char *sco_path(char buf[PATH_BYTES], size_t i)
{
	return sco_path_of(buf, 0, i);
}

const char *ring_path(char buf[PATH_BYTES])
{
	struct name_list l;
	const char *found = NULL;

	name_list_read(pf.shm, &l);
	ck_assert_uint_le(l.count, 1);
	if (l.count) {
		(void)snprintf(buf, PATH_BYTES, "%s/%s", pf.shm, l.names[0]);
		found = buf;
	}
	name_list_free(&l);
	return found;
}

unsigned int ring_count(void)
{
	struct name_list l;
	size_t count;

	name_list_read(pf.shm, &l);
	count = l.count;
	name_list_free(&l);
	return (unsigned int)count;
}

static unsigned int frames_used(const char *path)
{
	uint64_t frame_bytes =
		pf.options.ring_frame_bytes ? pf.options.ring_frame_bytes : 128 * KIB;
	unsigned int used = 0;
	uint8_t magic[4];
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	for (off_t at = BLOCK_BYTES; pread(fd, magic, sizeof(magic), at) == sizeof(magic);
	     at += (off_t)frame_bytes)
		used += le32_get(magic) != 0;
	(void)close(fd);
	return used;
}

unsigned int ring_frames_used(void)
{
	struct name_list l;
	char path[PATH_BYTES];
	unsigned int used = 0;

	name_list_read(pf.shm, &l);
	for (size_t i = 0; i < l.count; i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", pf.shm, l.names[i]);
		used += frames_used(path);
	}
	name_list_free(&l);
	return used;
}

void pretend_reboot(void)
{
	char path[PATH_BYTES], ring[PATH_BYTES];
	uint8_t bytes[RING_RECORD_BYTES];
	struct ring_record record;
	char *text = file_text(pool_path(path, "ring.id"));

	ck_assert_int_eq(ring_record_decode((const uint8_t *)text, file_size(path), &record, NULL),
			 0);
	free(text);
	record.boot_id[0] = record.boot_id[0] == '0' ? '1' : '0';
	ring_record_encode(&record, bytes);
	overwrite(path, 0, bytes, sizeof(bytes));
	if (ring_path(ring))
		ck_assert_int_eq(unlink(ring), 0);
}

uint64_t find_in_file(const char *path, const void *bytes, size_t len)
{
	char *text = file_text(path);
	const char *at = memmem(text, file_size(path), bytes, len);
	uint64_t offset = at ? (uint64_t)(at - text) : UINT64_MAX;

	free(text);
	return offset;
}

uint64_t file_size(const char *path)
{
	struct stat st;

	ck_assert_msg(stat(path, &st) == 0, "'%s': %s", path, strerror(errno));
	return (uint64_t)st.st_size;
}

char *file_text(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t room = fd < 0 ? 0 : file_size(path);
	char *text = calloc(1, room + 1);

	ck_assert_ptr_nonnull(text);
	if (fd >= 0) {
		ck_assert_int_ge(read(fd, text, room), 0);
		(void)close(fd);
	}
	return text;
}

void overwrite(const char *path, uint64_t offset, const void *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	ck_assert_msg(fd >= 0, "'%s': %s", path, strerror(errno));
	ck_assert_int_eq(pwrite(fd, bytes, len, (off_t)offset), (ssize_t)len);
	(void)close(fd);
}

void flip_bit(const char *path, uint64_t offset, unsigned int bit)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t byte;

	ck_assert_msg(fd >= 0, "'%s': %s", path, strerror(errno));
	ck_assert_int_eq(pread(fd, &byte, 1, (off_t)offset), 1);
	(void)close(fd);
	byte ^= (uint8_t)(1u << bit);
	overwrite(path, offset, &byte, 1);
}

void make_file(const char *path, const void *bytes, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_msg(fd >= 0, "'%s': %s", path, strerror(errno));
	(void)close(fd);
	if (len)
		overwrite(path, 0, bytes, len);
}

void cut_file(const char *path, uint64_t size)
{
	ck_assert_int_eq(truncate(path, (off_t)size), 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	return type == FTW_DP || type == FTW_D ? rmdir(path) : unlink(path);
}

void remove_tree(const char *path)
{
	ck_assert_msg(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT,
		      "removing '%s': %s", path, strerror(errno));
}

void copy_tree(const char *from, const char *to)
{
	char cp[] = "cp", option[] = "-a", *source = strdup(from), *target = strdup(to);
	char *argv[] = { cp, option, source, target, NULL };
	int status;
	pid_t pid;

	ck_assert_int_eq(posix_spawnp(&pid, "cp", NULL, NULL, argv, environ), 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "cp -a %s %s", from, to);
	free(source);
	free(target);
}

void replace_contents(const char *dir, const char *from)
{
	struct name_list l;
	char path[PATH_BYTES];

	name_list_read(dir, &l);
	for (size_t i = 0; i < l.count; i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", dir, l.names[i]);
		remove_tree(path);
	}
	name_list_free(&l);
	(void)snprintf(path, sizeof(path), "%s/.", from);
	copy_tree(path, dir);
}

static uint64_t walk_bytes;
static ino_t walk_seen[FILES_MAX];
static size_t walk_seen_count;

static int count_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)path;
	(void)ftw;
	if (type != FTW_F)
		return 0;
	for (size_t i = 0; st->st_nlink > 1 && i < walk_seen_count; i++)
		if (walk_seen[i] == st->st_ino)
			return 0;
	if (st->st_nlink > 1 && walk_seen_count < FILES_MAX)
		walk_seen[walk_seen_count++] = st->st_ino;
	walk_bytes += (uint64_t)st->st_blocks * 512;
	return 0;
}

uint64_t tree_bytes(const char *path)
{
	walk_bytes = 0;
	walk_seen_count = 0;
	ck_assert_int_eq(nftw(path, count_one, 16, FTW_PHYS), 0);
	return walk_bytes;
}
