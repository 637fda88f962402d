/* Flash that runs full: writers wait and go on, the cleaner gives back, nothing leaks. */
#include "support_pool.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define LIMIT_BYTES (24 * MIB)

static char cache_dir[PATH_BYTES];

static void begin(void)
{
	pf.options.cache_count = 1;
	pf.options.cache[0] = (struct pool_cache_dir){ root_path(cache_dir, "flash"), LIMIT_BYTES };
	pf.options.dirty_limit_bytes = UINT64_C(1) << 40;
	pf.options.checkpoint_interval_ns = 50 * MS_NS;
	pf.options.ring_bytes = MIB;
}

static void open_fresh(void)
{
	pool_fixture_create();
	pool_fixture_open();
}

static struct pool_status status(void)
{
	struct pool_status st;

	pool_status(pf.pool, &st);
	return st;
}

static void checkpoints(unsigned int count)
{
	struct err e = { 0 };

	for (unsigned int i = 0; i < count; i++)
		ck_assert_msg(pool_sync_backend(pf.pool, &e) == 0, "%s", e.message);
}

static void delete_object(struct object *o)
{
	uint64_t id = id_of(o);

	object_close(o);
	ck_assert_int_eq(object_delete(pf.pool, id, NULL), 0);
}

/* --- waiting ------------------------------------------------------------------------------------ */

struct filler {
	struct object *object;
	struct thread *thread;
	uint64_t bytes;
	bool done; /* atomic */
};

static void fill(void *arg)
{
	struct filler *f = arg;
	uint8_t *mem = pattern_mem(256 * KIB, 11);

	for (uint64_t at = 0; at < f->bytes; at += 256 * KIB)
		write_bytes(f->object, at, mem, 256 * KIB);
	__atomic_store_n(&f->done, true, __ATOMIC_SEQ_CST);
	free(mem);
}

static bool flash_is_full(UNUSED void *arg)
{
	struct pool_status st = status();

	return st.flash_used_bytes + 6 * MIB > st.flash_size_bytes; /* reserve and spares */
}

static bool is_done(void *arg)
{
	return __atomic_load_n((bool *)arg, __ATOMIC_SEQ_CST);
}

static void writers_wait_until_something_is_deleted(uint64_t old_bytes, uint64_t new_bytes)
{
	struct filler f = { .bytes = new_bytes };
	uint8_t *mem = pattern_mem(256 * KIB, 11);
	struct object *old = make_object(OBJECT_DISK);

	for (uint64_t at = 0; at < old_bytes; at += MIB / 4)
		write_bytes(old, at, mem, MIB / 4);
	f.object = make_object(OBJECT_DISK);
	ck_assert_int_eq(thread_start("filler", fill, &f, &f.thread), 0);
	wait_until(flash_is_full, NULL, 20, "a full cache");
	/* Old and new data together do not fit, so this holds at any speed. */
	ck_assert(!is_done(&f.done));
	expect_bytes(old, 0, mem, 256 * KIB); /* reads go on */
	delete_object(old);
	wait_until(is_done, &f.done, 20, "the writer to go on");
	thread_join(f.thread);
	for (uint64_t at = 0; at < f.bytes; at += 256 * KIB)
		expect_bytes(f.object, at, mem, 256 * KIB);
	object_close(f.object);
	free(mem);
}

START_TEST(writers_wait_for_space_and_go_on_when_there_is_some)
{
	open_fresh();
	writers_wait_until_something_is_deleted(12 * MIB, 16 * MIB);
	ck_assert_uint_le(tree_bytes(cache_dir), LIMIT_BYTES + 4 * MIB);
}
END_TEST

/* A mount namespace of our own: what is mounted goes with the process. */
static void mount_tmpfs(const char *path, const char *size)
{
	ck_assert_msg(unshare(CLONE_NEWNS) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0,
		      "no mount namespace: %s", strerror(errno));
	ck_assert_int_eq(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	ck_assert_int_eq(mount("none", path, "tmpfs", 0, size), 0);
}

START_TEST(a_full_filesystem_makes_writers_wait_above_the_reserve)
{
	struct statvfs st;

	pf.options.cache[0].size_bytes = 0;
	pf.options.reserve_bytes = 2 * MIB;
	mount_tmpfs(cache_dir, "size=32m");
	open_fresh();
	writers_wait_until_something_is_deleted(16 * MIB, 20 * MIB);
	ck_assert_int_eq(statvfs(cache_dir, &st), 0);
	ck_assert_uint_ge(st.f_bavail * st.f_frsize, 2 * MIB);
}
END_TEST

START_TEST(somebody_else_filling_the_disk_stops_writers_but_neither_sync_nor_deletion)
{
	char path[PATH_BYTES];
	uint8_t *mem = pattern_mem(MIB, 3), *ballast = calloc(1, MIB);
	struct filler f = { .bytes = 8 * MIB };
	struct object *old;
	int r = 0;

	pf.options.cache[0].size_bytes = 0;
	mount_tmpfs(cache_dir, "size=32m");
	open_fresh();
	old = make_object(OBJECT_DISK);
	write_bytes(old, 0, mem, MIB);
	(void)root_path(path, "flash/ballast");
	make_file(path, NULL, 0);
	while (r == 0) {
		FILE *file = fopen(path, "ae");

		ck_assert_ptr_nonnull(file);
		r = fwrite(ballast, 1, MIB, file) == MIB && fflush(file) == 0 ? 0 : -1;
		(void)fclose(file);
	}
	f.object = make_object(OBJECT_DISK);
	ck_assert_int_eq(thread_start("filler", fill, &f, &f.thread), 0);
	sync_object(old);
	ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
	expect_bytes(old, 0, mem, MIB);
	ck_assert(!is_done(&f.done));
	ck_assert_int_eq(unlink(path), 0);
	wait_until(is_done, &f.done, 20, "the writer to go on");
	thread_join(f.thread);
	object_close(f.object);
	object_close(old);
	free(mem);
	free(ballast);
}
END_TEST

/* --- giving back -------------------------------------------------------------------------------- */

static bool garbage_is_small(UNUSED void *arg)
{
	struct pool_status st;

	ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
	st = status();
	return st.flash_used_bytes <= st.live_bytes * 16 / 10 + 6 * MIB;
}

START_TEST(overwriting_a_disk_again_and_again_keeps_flash_small)
{
	struct rng r = { 5 };
	struct object *o;
	uint64_t most = 0;

	pf.options.cache[0].size_bytes = 0;
	open_fresh();
	o = make_object(OBJECT_DISK);
	for (uint64_t i = 0; i < 8 * MIB / SECTOR_BYTES / 8 * 12; i++) {
		uint64_t cluster = i < 2048 ? i : rng_below(&r, 2048);
		uint8_t mem[4096];

		for (unsigned int j = 0; j < 8; j++)
			sector_fill(mem + (size_t)j * 512, 1, cluster * 8 + j, i + 1);
		write_bytes(o, cluster * 4096, mem, sizeof(mem));
		if (i % 256 == 0)
			most = max_u64(most, status().flash_used_bytes);
	}
	wait_until(garbage_is_small, NULL, 20, "the cleaner");
	printf("8 MiB overwritten 12 times: flash used at most %" PRIu64 " MiB, %" PRIu64
	       " MiB in the end, %" PRIu64 " clusters moved\n",
	       most / MIB, status().flash_used_bytes / MIB, pool_fixture_counter("clean_clusters"));
	ck_assert_uint_eq(status().live_bytes, 8 * MIB);
	for (uint64_t sector = 0; sector < 8 * MIB / SECTOR_BYTES; sector++) {
		uint8_t mem[SECTOR_BYTES];
		uint64_t g;

		ck_assert_int_eq(object_read(o, sector * SECTOR_BYTES, mem, sizeof(mem), NULL),
				 sizeof(mem));
		g = sector_generation(mem, 1, sector);
		ck_assert_uint_ne(g, UINT64_MAX);
		ck_assert_uint_ge(g, 1);
	}
	object_close(o);
}
END_TEST

/* The cache holds the disk twice; without cleaning the third pass would never end. */
START_TEST(a_small_cache_takes_endless_overwrites)
{
	uint8_t *mem = aligned_mem(64 * KIB);
	struct rng r = { 6 };
	uint64_t last[128] = { 0 };
	struct object *o;

	open_fresh();
	o = make_object(OBJECT_DISK);
	for (uint64_t i = 1; i <= 128 * 16; i++) {
		uint64_t piece = i <= 128 ? i - 1 : rng_below(&r, 128);

		pattern_fill(mem, 64 * KIB, i);
		write_bytes(o, piece * 64 * KIB, mem, 64 * KIB);
		last[piece] = i;
	}
	for (uint64_t piece = 0; piece < 128; piece++) {
		pattern_fill(mem, 64 * KIB, last[piece]);
		expect_bytes(o, piece * 64 * KIB, mem, 64 * KIB);
	}
	object_close(o);
	free(mem);
}
END_TEST

/* The sealer and what it calls may have fallen behind. */
static bool all_is_gone(UNUSED void *arg)
{
	checkpoints(1);
	return status().scos == 0 && status().flash_used_bytes == 0;
}

START_TEST(deleting_all_objects_frees_all_space)
{
	struct object *objects[20];
	uint8_t *mem = pattern_mem(700 * KIB, 3);
	char objects_dir[PATH_BYTES];

	pf.options.cache[0].size_bytes = 0;
	open_fresh();
	for (unsigned int i = 0; i < 20; i++) {
		objects[i] = make_object(i % 2 ? OBJECT_FILE : OBJECT_DISK);
		write_bytes(objects[i], i * UINT64_C(1000), mem, 700 * KIB);
	}
	checkpoints(1);
	ck_assert_uint_ge(status().live_bytes, 20 * 700 * KIB);
	for (unsigned int i = 0; i < 20; i++)
		delete_object(objects[i]);
	wait_until(all_is_gone, NULL, 20, "all SCOs to go");
	checkpoints(3); /* roots that do not name them any more */
	ck_assert_uint_eq(status().live_bytes, 0);
	ck_assert_uint_lt(tree_bytes(cache_dir), 100 * KIB);
	ck_assert_uint_lt(tree_bytes(pool_path(objects_dir, "objects")), 200 * KIB);
	free(mem);
}
END_TEST

struct many {
	struct thread *thread;
	bool done; /* atomic */
};

static void write_a_little_to_many_disks(void *arg)
{
	uint8_t *mem = pattern_mem(700 * KIB, 3);
	struct many *m = arg;

	for (unsigned int i = 0; i < 20; i++) {
		struct object *o = make_object(OBJECT_DISK);

		write_bytes(o, 0, mem, 700 * KIB);
		object_close(o);
	}
	__atomic_store_n(&m->done, true, __ATOMIC_SEQ_CST);
	free(mem);
}

/* 14 MiB in 20 open SCOs and 20 spares, where 24 MiB are allowed. */
START_TEST(open_scos_give_way_under_pressure)
{
	struct many m = { 0 };

	open_fresh();
	ck_assert_int_eq(thread_start("many", write_a_little_to_many_disks, &m, &m.thread), 0);
	wait_until(is_done, &m.done, 10, "writes to many disks");
	thread_join(m.thread);
}
END_TEST

START_TEST(an_object_deleted_while_it_is_open_gives_its_space_back_when_closed)
{
	uint8_t *mem = pattern_mem(4 * MIB, 3);
	struct object *o;

	open_fresh();
	o = make_object(OBJECT_DISK);
	write_bytes(o, 0, mem, 4 * MIB);
	ck_assert_int_eq(object_delete(pf.pool, id_of(o), NULL), 0);
	object_close(o);
	wait_until(all_is_gone, NULL, 20, "all SCOs to go");
	free(mem);
}
END_TEST

START_TEST(punching_everything_frees_everything)
{
	uint8_t *mem = pattern_mem(4 * MIB, 3);
	struct object *o;

	open_fresh();
	o = make_object(OBJECT_DISK);
	for (unsigned int i = 0; i < 2; i++) {
		write_bytes(o, 0, mem, 4 * MIB);
		checkpoints(1);
		if (i)
			ck_assert_int_eq(object_truncate(o, 0, NULL), 0);
		else
			ck_assert_int_eq(object_zero(o, 0, 4 * MIB, false, NULL), 0);
		checkpoints(4);
		ck_assert_uint_eq(status().live_bytes, 0);
		ck_assert_uint_le(status().scos, 1); /* the entry itself may keep the newest */
	}
	object_close(o);
	free(mem);
}
END_TEST

/* --- telling the truth -------------------------------------------------------------------------- */

START_TEST(status_agrees_with_the_directory)
{
	uint8_t *mem = pattern_mem(3 * MIB + 12345, 3);
	char flash[PATH_BYTES];
	struct object *o;
	uint64_t du;

	pf.options.cache[0].size_bytes = 0;
	open_fresh();
	(void)root_path(flash, "flash");
	for (unsigned int i = 0; i < 5; i++) {
		o = make_object(i % 2 ? OBJECT_FILE : OBJECT_DISK);
		write_bytes(o, 77, mem, 3 * MIB + 12345);
		sync_object(o);
		if (i % 2)
			delete_object(o);
		else
			object_close(o);
	}
	for (unsigned int i = 0; i < 2; i++) {
		checkpoints(3);
		du = tree_bytes(flash);
		ck_assert_uint_ge(status().flash_used_bytes * 101 / 100 + 64 * KIB, du);
		ck_assert_uint_le(status().flash_used_bytes, du * 101 / 100 + 64 * KIB);
		ck_assert_uint_ge(du, 9 * MIB);
		if (i == 0)
			pool_fixture_restart();
	}
	free(mem);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_space");
	TCase *t = tcase_create("space");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_test(t, writers_wait_for_space_and_go_on_when_there_is_some);
	tcase_add_test(t, a_full_filesystem_makes_writers_wait_above_the_reserve);
	tcase_add_test(t,
		       somebody_else_filling_the_disk_stops_writers_but_neither_sync_nor_deletion);
	tcase_add_test(t, overwriting_a_disk_again_and_again_keeps_flash_small);
	tcase_add_test(t, a_small_cache_takes_endless_overwrites);
	tcase_add_test(t, deleting_all_objects_frees_all_space);
	tcase_add_test(t, open_scos_give_way_under_pressure);
	tcase_add_test(t, an_object_deleted_while_it_is_open_gives_its_space_back_when_closed);
	tcase_add_test(t, punching_everything_frees_everything);
	tcase_add_test(t, status_agrees_with_the_directory);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
