/* A ring whose calls fail, or that is not what its record says: who is told what, what stays. */
#include "volume/ring.h"

#include "support_pool.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FRAME_BYTES (32 * KIB)
#define FRAMES	    4u

static struct ring_options options;
static bool given_up;

/* --- calls that fail --------------------------------------------------------------------------- */

static struct env_ops ops;
static struct env failing = { &ops };
static unsigned int calls, fail_at; /* 0: none */

static bool fails(void)
{
	return ++calls == fail_at;
}

#define TRY(name, params, args)                                                                    \
	static int try_##name params                                                               \
	{                                                                                          \
		return fails() ? -EIO : env_##name args;                                           \
	}
TRY(open,
    (UNUSED struct env * env, const char *path, unsigned int flags, struct env_file **ret_file),
    (env_posix(), path, flags, ret_file))
TRY(pwrite,
    (UNUSED struct env * env, struct env_file *f, const void *buf, size_t len, uint64_t offset),
    (env_posix(), f, buf, len, offset))
TRY(fdatasync, (UNUSED struct env * env, struct env_file *f), (env_posix(), f))
TRY(fallocate, (UNUSED struct env * env, struct env_file *f, uint64_t offset, uint64_t len),
    (env_posix(), f, offset, len))
TRY(stat, (UNUSED struct env * env, struct env_file *f, struct env_stat *ret),
    (env_posix(), f, ret))
TRY(map_shared, (UNUSED struct env * env, struct env_file *f, size_t len, void **ret_mem),
    (env_posix(), f, len, ret_mem))
TRY(rename, (UNUSED struct env * env, const char *from, const char *to), (env_posix(), from, to))
TRY(unlink, (UNUSED struct env * env, const char *path), (env_posix(), path))
TRY(sync_dir, (UNUSED struct env * env, const char *path), (env_posix(), path))
TRY(list_dir,
    (UNUSED struct env * env, const char *path, int (*fn)(void *arg, const char *name), void *arg),
    (env_posix(), path, fn, arg))
TRY(space, (UNUSED struct env * env, const char *path, struct env_space *ret),
    (env_posix(), path, ret))
TRY(boot_id, (UNUSED struct env * env, char ret_id[37]), (env_posix(), ret_id))

static ssize_t try_pread(UNUSED struct env *env, struct env_file *f, void *buf, size_t len,
			 uint64_t offset)
{
	return fails() ? -EIO : env_pread(env_posix(), f, buf, len, offset);
}

static void begin(void)
{
	options = (struct ring_options){ .pool_dir = pf.dir,
					 .shm_dir = pf.shm,
					 .ring_bytes = 4096 + FRAMES * FRAME_BYTES,
					 .frame_bytes = FRAME_BYTES,
					 .pool = { { 1, 2, 3 } },
					 .epoch = 7,
					 .given_up = &given_up };
	ops = *env_posix()->ops;
	ops.open = try_open;
	ops.pread = try_pread;
	ops.pwrite = try_pwrite;
	ops.fdatasync = try_fdatasync;
	ops.fallocate = try_fallocate;
	ops.stat = try_stat;
	ops.map_shared = try_map_shared;
	ops.rename = try_rename;
	ops.unlink = try_unlink;
	ops.sync_dir = try_sync_dir;
	ops.list_dir = try_list_dir;
	ops.space = try_space;
	ops.boot_id = try_boot_id;
	calls = fail_at = 0;
}

static void fail_call(unsigned int number)
{
	calls = 0;
	fail_at = number;
}

static struct ring *open_ring(void)
{
	struct ring *ring = NULL;
	struct err e = { 0 };

	ck_assert_msg(ring_open(env_posix(), &options, &ring, &e) == 0, "%s", e.message);
	return ring;
}

/* What the next start finds: a ring, or none; never something that is wrong. */
static bool next_start_finds_one(void)
{
	struct ring_old *old = NULL;
	struct err e = { 0 };
	bool found;

	ck_assert_msg(ring_find_old(env_posix(), &options, &old, &e) == 0, "call %u: %s", fail_at,
		      e.message);
	found = old != NULL;
	ring_old_release(old, false);
	return found;
}

/* Whatever fails, the record names a ring that is there, or none. */
START_TEST(each_call_of_making_a_ring_may_fail)
{
	unsigned int failed = 0;

	if (_i)
		options.shm_dir = NULL;
	ring_close(open_ring(), true);
	for (unsigned int n = 1; n == 1 || calls >= fail_at; n++) {
		struct ring *ring = NULL;
		struct err e = { 0 };
		int r;

		fail_call(n);
		r = ring_open(&failing, &options, &ring, &e);
		ck_assert(r == 0 || r == -EIO);
		ck_assert(r == 0 || e.message[0]);
		failed += r < 0;
		if (r == 0)
			ck_assert(next_start_finds_one());
		else
			(void)next_start_finds_one();
		ring_close(ring, false);
		ring_close(open_ring(), true);
	}
	ck_assert_uint_ge(failed, 8);
}
END_TEST

START_TEST(each_call_of_closing_may_fail)
{
	unsigned int unclean = 0;

	for (unsigned int n = 1; n == 1 || calls >= fail_at; n++) {
		struct ring *ring = NULL;
		struct err e = { 0 };

		fail_call(0);
		ck_assert_int_eq(ring_open(&failing, &options, &ring, &e), 0);
		fail_call(n);
		ring_close(ring, true);
		unclean += next_start_finds_one();
	}
	ck_assert_uint_ge(unclean, 3);
}
END_TEST

START_TEST(each_call_of_finding_one_may_fail)
{
	unsigned int failed = 0;

	ring_close(open_ring(), false);
	for (unsigned int n = 1; n == 1 || calls >= fail_at; n++) {
		struct ring_old *old = NULL;
		struct err e = { 0 };
		int r;

		fail_call(n);
		options.give_up = n % 2; /* no reason to */
		given_up = false;
		r = ring_find_old(&failing, &options, &old, &e);
		ck_assert(r == 0 || r == -EIO);
		ck_assert(r < 0 || old);
		ck_assert(!given_up);
		failed += r < 0;
		ring_old_release(old, false);
	}
	ck_assert_uint_ge(failed, 8);
}
END_TEST

START_TEST(each_call_of_the_first_record_may_fail)
{
	char path[PATH_BYTES];

	for (unsigned int n = 1; n == 1 || calls >= fail_at; n++) {
		struct err e = { 0 };
		int r;

		fail_call(n);
		r = ring_create_record(&failing, pf.dir, &options.pool, &e);
		ck_assert(r == 0 || r == -EIO);
		if (r < 0 && access(pool_path(path, "ring.id"), F_OK) < 0)
			continue;
		ck_assert(!next_start_finds_one());
		ck_assert_int_eq(unlink(pool_path(path, "ring.id")), 0);
	}
}
END_TEST

/* --- what is not as the record says ------------------------------------------------------------ */

static void change_mode(const char *path)
{
	ck_assert_int_eq(chmod(path, 0622), 0);
}

static void cut_short(const char *path)
{
	cut_file(path, 8192);
}

static void remove_it(const char *path)
{
	ck_assert_int_eq(unlink(path), 0);
}

static void no_header(const char *path)
{
	overwrite(path, 0, "no ring", 7);
}

static void bad_header(const char *path)
{
	flip_bit(path, 100, 1);
}

/* fn changes a sound header, which is sound again behind it. */
static void change_header(const char *path, void (*fn)(struct ring_header *h))
{
	uint8_t block[BLOCK_BYTES];
	struct ring_header h;
	FILE *f = fopen(path, "r");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fread(block, 1, sizeof(block), f), sizeof(block));
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_int_eq(ring_header_decode(block, &h, NULL), 0);
	fn(&h);
	ring_header_encode(&h, block);
	overwrite(path, 0, block, sizeof(block));
}

static void set_pool(struct ring_header *h)
{
	h->pool.bytes[0] ^= 1;
}

static void set_nonce(struct ring_header *h)
{
	h->nonce ^= 1;
}

static void set_length(struct ring_header *h)
{
	h->frame_count--;
	h->ring_bytes -= h->frame_bytes;
}

static void set_device(struct ring_header *h)
{
	h->pool_dir_dev++;
}

static void set_inode(struct ring_header *h)
{
	h->pool_dir_ino++;
}

static void of_another_pool(const char *path)
{
	change_header(path, set_pool);
}

static void of_another_ring(const char *path)
{
	change_header(path, set_nonce);
}

static void of_another_length(const char *path)
{
	change_header(path, set_length);
}

static void of_another_device(const char *path)
{
	change_header(path, set_device);
}

static void of_another_directory(const char *path)
{
	change_header(path, set_inode);
}

/* fn changes the record of the pool directory. */
static void change_record(void (*fn)(struct ring_record *r))
{
	uint8_t bytes[RING_RECORD_BYTES];
	struct ring_record record;
	char path[PATH_BYTES];
	FILE *f = fopen(pool_path(path, "ring.id"), "r");

	ck_assert_ptr_nonnull(f);
	ck_assert_uint_eq(fread(bytes, 1, sizeof(bytes), f), sizeof(bytes));
	ck_assert_int_eq(fclose(f), 0);
	ck_assert_int_eq(ring_record_decode(bytes, sizeof(bytes), &record, NULL), 0);
	fn(&record);
	ring_record_encode(&record, bytes);
	overwrite(path, 0, bytes, sizeof(bytes));
}

static void set_owner(struct ring_record *r)
{
	r->uid++;
}

static void set_one_block(struct ring_record *r)
{
	r->ring_bytes = BLOCK_BYTES;
}

static void of_another_owner(UNUSED const char *path)
{
	change_record(set_owner);
}

static void of_one_block(const char *path)
{
	change_record(set_one_block);
	cut_file(path, BLOCK_BYTES);
}

static void no_record(UNUSED const char *path)
{
	char record[PATH_BYTES];

	overwrite(pool_path(record, "ring.id"), 0, "nothing", 7);
}

static const struct {
	void (*spoil)(const char *path);
	int code;
	const char *words;
} wrongs[] = {
	{ remove_it, -ENOENT, "is missing" },
	{ change_mode, -EPERM, "can be written by others" },
	{ of_another_owner, -EPERM, "another owner" },
	{ cut_short, -EUCLEAN, "wrong length" },
	{ of_one_block, -EUCLEAN, "wrong length" },
	{ of_another_length, -EUCLEAN, "wrong length" },
	{ no_header, -EUCLEAN, "ring '" },
	{ bad_header, -EBADMSG, "checksum" },
	{ of_another_pool, -EUCLEAN, "another pool" },
	{ of_another_ring, -EUCLEAN, "another pool" },
	{ of_another_device, -EUCLEAN, "another directory" },
	{ of_another_directory, -EUCLEAN, "another directory" },
	{ no_record, -EUCLEAN, "ring.id" },
};

/* Refused, and with --repair given up, which is told; the next ring is as good as any. */
START_TEST(what_is_wrong_is_refused_unless_it_is_given_up)
{
	struct ring_old *old = NULL;
	struct err e = { 0 };
	char path[PATH_BYTES];

	ring_close(open_ring(), false);
	wrongs[_i].spoil(ring_path(path));
	given_up = false;
	ck_assert_int_eq(ring_find_old(env_posix(), &options, &old, &e), wrongs[_i].code);
	ck_assert_msg(strstr(e.message, wrongs[_i].words), "'%s' lacks '%s'", e.message,
		      wrongs[_i].words);
	ck_assert_ptr_null(old);
	ck_assert(!given_up);
	options.give_up = true;
	ck_assert_int_eq(ring_find_old(env_posix(), &options, &old, &e), 0);
	ck_assert_ptr_null(old);
	ck_assert(given_up);
	options.given_up = NULL; /* nobody wants to know */
	ck_assert_int_eq(ring_find_old(env_posix(), &options, &old, &e), 0);
	options.give_up = false;
	ring_close(open_ring(), false);
	ck_assert(next_start_finds_one());
}
END_TEST

/* --- names ------------------------------------------------------------------------------------- */

static void lengthen(char *path, size_t room_bytes)
{
	for (size_t len = strlen(path); len < RING_PATH_MAX - 5; len += 2)
		(void)snprintf(path + len, room_bytes - len, "/.");
}

START_TEST(a_path_that_no_record_holds_is_refused)
{
	char shm[1024], pool[1024];
	struct ring *ring = NULL;
	struct err e = { 0 };

	/* The same directories by longer names. */
	(void)snprintf(shm, sizeof(shm), "%s", pf.shm);
	(void)snprintf(pool, sizeof(pool), "%s", pf.dir);
	lengthen(shm, sizeof(shm));
	lengthen(pool, sizeof(pool));
	options.shm_dir = shm;
	if (strlen(pf.dir) < 120) { /* the pool directory is room enough */
		ck_assert_int_eq(ring_open(env_posix(), &options, &ring, NULL), 0);
		ring_close(ring, true);
		ring = NULL;
	}
	options.pool_dir = pool;
	ck_assert_int_eq(ring_open(env_posix(), &options, &ring, &e), -ENAMETOOLONG);
	ck_assert_ptr_null(ring);
}
END_TEST

/* A directory may have names that are longer than any of ours. */
static int list_with_a_long_name(UNUSED struct env *env, const char *path,
				 int (*fn)(void *arg, const char *name), void *arg)
{
	char name[512];
	int r;

	(void)snprintf(name, sizeof(name), "vpool-01020300000000000000000000000000-%0300d", 0);
	r = fn(arg, name);
	return r != 0 ? r : env_list_dir(env_posix(), path, fn, arg);
}

START_TEST(leftovers_go_a_few_at_each_start)
{
	struct ring *ring = open_ring();
	char name[2 * PATH_BYTES], *nonce;
	unsigned int before;

	for (unsigned int i = 0; i < 70; i++) {
		(void)snprintf(name, sizeof(name), "%s", ring->path);
		nonce = strrchr(name, '-');
		(void)snprintf(nonce, 20, "-%016x", i);
		make_file(name, "", 0);
	}
	before = ring_count();
	ck_assert_uint_eq(before, 71);
	ring_close(ring, false);
	fail_call(0);
	ops.list_dir = list_with_a_long_name;
	for (unsigned int i = 0; i < 2; i++) {
		ck_assert_int_eq(ring_open(&failing, &options, &ring, NULL), 0);
		ck_assert_uint_eq(ring_count(), i ? 1 : 8);
		ring_close(ring, false);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("ring_failing");
	TCase *t = tcase_create("failing");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_loop_test(t, each_call_of_making_a_ring_may_fail, 0, 2);
	tcase_add_test(t, each_call_of_closing_may_fail);
	tcase_add_test(t, each_call_of_finding_one_may_fail);
	tcase_add_test(t, each_call_of_the_first_record_may_fail);
	tcase_add_loop_test(t, what_is_wrong_is_refused_unless_it_is_given_up, 0,
			    ARRAY_SIZE(wrongs));
	tcase_add_test(t, a_path_that_no_record_holds_is_refused);
	tcase_add_test(t, leftovers_go_a_few_at_each_start);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
