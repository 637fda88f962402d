/* What a dead process wrote lands after the next one recovered: it never counts, though it is sound. */
#include "support_pool.h"

#include "common/env.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define LAST 7u /* cluster that nobody but the second process writes */

static struct world {
	uint64_t disk;
	unsigned int late_writes;
	bool copied; /* the parent has the log as it was before the second generation */
} * world;

static uint8_t *mem;

static void begin(void)
{
	pf.options.flush_interval_ns = HOUR_NS;
	mem = pattern_mem(MIB, 5);
	world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	ck_assert_ptr_ne(world, MAP_FAILED);
}

/* A cluster's bytes of a generation. */
static const uint8_t *bytes_of(uint64_t cluster, unsigned int generation)
{
	return mem + (cluster * 16 + generation) * 4096;
}

static void write_synced(struct object *o, uint64_t cluster, unsigned int generation)
{
	write_bytes(o, cluster * 4096, bytes_of(cluster, generation), 4096);
	sync_object(o);
}

/* Many writes in one batch, which is none of those that tell of it as durable. */
static void write_many(struct object *o, unsigned int count, unsigned int generation)
{
	for (unsigned int i = 0; i < count; i++)
		write_bytes(o, i % 2 * 4096, bytes_of(i % 2, generation), 4096);
	sync_object(o);
}

static void say(int to_parent)
{
	ck_assert_int_eq(write(to_parent, "", 1), 1);
}

static void listen_to(const struct child *c)
{
	char said;

	ck_assert_int_eq(read(c->from, &said, 1), 1);
}

static bool is_copied(UNUSED void *arg)
{
	return __atomic_load_n(&world->copied, __ATOMIC_ACQUIRE);
}

static void first_process(int to_parent, UNUSED void *arg)
{
	struct object *o;

	pool_fixture_create();
	pool_fixture_open_quiet();
	o = make_object(OBJECT_DISK);
	world->disk = id_of(o);
	write_synced(o, 0, 1);
	write_synced(o, 1, 1);
	say(to_parent);
	wait_until(is_copied, NULL, 20, "the parent's copy");
	write_many(o, world->late_writes, 2);
	say(to_parent);
	(void)pause();
}

/* Recovers, writes and dies, if it can before its jobs make a SCO of their own of what is left. */
static void second_process(UNUSED int to_parent, UNUSED void *arg)
{
	struct object *o;

	pool_fixture_open();
	o = get_object(world->disk);
	write_synced(o, LAST, 1);
}

static void third_process(UNUSED int to_parent, UNUSED void *arg)
{
	struct object *o;

	pool_fixture_open();
	o = get_object(world->disk);
	expect_bytes(o, 0, bytes_of(0, 1), 4096);
	expect_bytes(o, 4096, bytes_of(1, 1), 4096);
	expect_bytes(o, LAST * UINT64_C(4096), bytes_of(LAST, 1), 4096);
	object_close(o);
	pool_fixture_close();
}

static uint8_t *copy_of(const char *path, size_t *ret_len)
{
	size_t len = (size_t)file_size(path);
	uint8_t *bytes = malloc(len + 1);
	FILE *f = fopen(path, "rb");

	ck_assert_ptr_ne(f, NULL);
	ck_assert_uint_eq(fread(bytes, 1, len, f), len);
	(void)fclose(f);
	*ret_len = len;
	return bytes;
}

/*
 * A power cut loses generation 2; the second process gives its LSNs to other writes and dies. Then
 * generation 2 lands where it was meant to be, unless that file went already, with a checkpoint.
 */
static void let_it_land_behind(void (*second)(int to_parent, void *arg))
{
	uint8_t *before, *after;
	size_t before_len, after_len;
	char path[PATH_BYTES];
	struct child c;

	child_start(&c, first_process, NULL);
	listen_to(&c);
	(void)sco_path_of(path, 16, 0);
	before = copy_of(path, &before_len);
	__atomic_store_n(&world->copied, true, __ATOMIC_RELEASE);
	listen_to(&c);
	child_kill(&c);
	(void)close(c.from);
	after = copy_of(path, &after_len);
	ck_assert_uint_eq(after_len, before_len);
	ck_assert_int_ne(memcmp(after, before, before_len), 0);

	overwrite(path, 0, before, before_len);
	pretend_reboot();
	in_child_killed(second, NULL);
	if (access(path, F_OK) == 0)
		overwrite(path, 0, after, after_len);
	in_child(third_process, NULL);
	free(before);
	free(after);
}

START_TEST(late_batches_of_a_dead_process_do_not_count)
{
	world->late_writes = 2;
	let_it_land_behind(second_process);
}
END_TEST

/* --- the header that says so ------------------------------------------------------------------- */

/* Room for all but for copies of what was left open. */
static int open_but_copies(UNUSED struct env *env, const char *path, unsigned int flags,
			   struct env_file **ret_file)
{
	const size_t len = strlen(path);

	if (flags & ENV_CREATE && len > 9 && strcmp(path + len - 9, "-00000001") == 0)
		return -ENOSPC;
	return env_open(env_posix(), path, flags, ret_file);
}

static bool are_sealed(void *count)
{
	return pool_fixture_counter("scos_sealed") >= *(unsigned int *)count;
}

/* Its first SCO has the cut, and nothing that lives; what was left open lives and cannot be sealed. */
static void second_process_that_overwrites(UNUSED int to_parent, UNUSED void *arg)
{
	static struct env_ops ops;
	static struct env env = { &ops };
	const unsigned int rounds = 4;
	unsigned int full = 3;
	struct err e = { 0 };
	struct object *o;

	ops = *env_posix()->ops;
	ops.open = open_but_copies;
	ck_assert_msg(pool_open(&env, &pf.options, &pf.pool, &e) == 0, "%s", e.message);
	o = get_object(world->disk);
	write_synced(o, LAST, 1);
	for (unsigned int i = 0; i < rounds; i++)
		write_bytes(o, 4 * MIB, mem, MIB);
	write_synced(o, LAST, 1);
	wait_until(are_sealed, &full, 20, "full SCOs");
	for (unsigned int i = 0; i < 2; i++)
		ck_assert_msg(pool_checkpoint(pf.pool, &e) == 0, "%s", e.message);
	ck_assert_uint_ge(pool_fixture_counter("scos_deleted"), 1);
}

START_TEST(the_header_that_says_so_outlives_its_data)
{
	world->late_writes = 60; /* LSNs far behind those of the second process */
	let_it_land_behind(second_process_that_overwrites);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_late");
	TCase *t = tcase_create("late");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_test(t, late_batches_of_a_dead_process_do_not_count);
	tcase_add_test(t, the_header_that_says_so_outlives_its_data);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
