/*
 * The simulated disks: names and bytes, what a power cut may take and what it may not, space.
 */
#include "tests/simtest/support_sim.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define SEEDS 200

static struct sim *sim;
static struct env *env;

static void up(uint64_t seed)
{
	sim = machine_new(seed);
	env = sim_env(sim);
}

static void down(void)
{
	sim_check(sim);
	sim_free(sim);
}

/* ---- names and bytes ------------------------------------------------------------------------ */

START_TEST(bytes_written_at_odd_places_are_read_back)
{
	uint8_t model[40000] = { 0 }, got[40000];
	struct env_file *f;

	up(1);
	f = open_file(env, "/pool/f", ENV_READ | ENV_WRITE | ENV_CREATE);
	for (int i = 0; i < 300; i++) {
		size_t at = (size_t)sim_rand(sim, sizeof(model) - 9000);
		size_t len = 1 + (size_t)sim_rand(sim, 9000);

		memset(model + at, i, len);
		ck_assert_int_eq(env_pwrite(env, f, model + at, len, at), 0);
		if (i % 10 == 0) {
			at = (size_t)sim_rand(sim, 20000);
			len = 1 + (size_t)sim_rand(sim, 9000);
			memset(model + at, 0, len);
			ck_assert_int_eq(env_punch(env, f, at, len), 0);
		}
	}
	ck_assert_int_eq(env_truncate(env, f, 12345), 0);
	ck_assert_int_eq(env_truncate(env, f, sizeof(model)), 0);
	memset(model + 12345, 0, sizeof(model) - 12345);
	ck_assert_int_eq(env_pread(env, f, got, sizeof(got), 0), sizeof(got));
	ck_assert_mem_eq(got, model, sizeof(got));
	ck_assert_int_eq(env_pread(env, f, got, 100, sizeof(model) - 10), 10);
	env_close(env, f);
	down();
}
END_TEST

static int count_name(void *arg, const char *name)
{
	ck_assert_uint_eq(strlen(name), 2);
	++*(int *)arg;
	return 0;
}

START_TEST(names_follow_posix)
{
	struct env_file *f, *g;
	struct env_stat st;
	int names = 0;

	up(1);
	ck_assert_int_eq(env_open(env, "/pool/d/f1", ENV_WRITE | ENV_CREATE, &f), -ENOENT);
	ck_assert_int_eq(env_mkdir(env, "/pool/d"), 0);
	ck_assert_int_eq(env_mkdir(env, "/pool/d"), -EEXIST);
	make_file(env, "/pool/d/f1", 1, 1, SYNC_NOTHING);
	make_file(env, "/pool/./d//f2", 1, 2, SYNC_NOTHING);
	ck_assert_int_eq(env_open(env, "/pool/d/f1", ENV_WRITE | ENV_CREATE | ENV_EXCL, &f),
			 -EEXIST);
	ck_assert_int_eq(env_open(env, "/pool/d/f1/x", ENV_READ, &f), -ENOTDIR);
	ck_assert_int_eq(env_open(env, "/pool/d", ENV_WRITE, &f), -EISDIR);
	ck_assert_int_eq(env_open(env, "/pool/d/f1", ENV_DIR, &f), -ENOTDIR);
	ck_assert_int_eq(env_link(env, "/pool/d/f1", "/pool/d/f3"), 0);
	ck_assert_int_eq(env_link(env, "/pool/d/f1", "/pool/d/f3"), -EEXIST);
	ck_assert_int_eq(env_link(env, "/pool/d/f1", "/dev/shm/f3"), -EXDEV);
	ck_assert_int_eq(env_rmdir(env, "/pool/d"), -ENOTEMPTY);
	ck_assert_int_eq(env_rmdir(env, "/pool/d/f1"), -ENOTDIR);
	ck_assert_int_eq(env_unlink(env, "/pool/d"), -EISDIR);
	ck_assert_int_eq(env_list_dir(env, "/pool/d", count_name, &names), 0);
	ck_assert_int_eq(names, 3);

	f = open_file(env, "/pool/d/f3", ENV_READ);
	ck_assert_int_eq(env_stat(env, f, &st), 0);
	ck_assert_uint_eq(st.link_count, 2);
	ck_assert_int_eq(env_rename(env, "/pool/d/f2", "/pool/d/f3"), 0);
	ck_assert_int_eq(page_fill(env, f, 0), 1);
	ck_assert_int_eq(env_stat(env, f, &st), 0);
	ck_assert_uint_eq(st.link_count, 1);
	ck_assert(!exists(env, "/pool/d/f2"));
	g = open_file(env, "/pool/d/f3", ENV_READ);
	ck_assert_int_eq(page_fill(env, g, 0), 2);
	ck_assert_int_eq(env_lock(env, g), 0);
	ck_assert_int_eq(env_lock(env, f), 0);
	env_close(env, f);
	f = open_file(env, "/pool/d/f3", ENV_READ);
	ck_assert_int_eq(env_lock(env, f), -EWOULDBLOCK);
	env_close(env, g);
	ck_assert_int_eq(env_lock(env, f), 0);
	env_close(env, f);
	down();
}
END_TEST

START_TEST(direct_files_refuse_what_is_not_aligned)
{
	uint8_t *page;
	struct env_file *f;

	up(1);
	page = page_of(1);
	f = open_file(env, "/pool/f", ENV_READ | ENV_WRITE | ENV_CREATE | ENV_DIRECT);
	ck_assert_int_eq(env_pwrite(env, f, page, 4096, 0), 0);
	ck_assert_int_eq(env_pwrite(env, f, page + 512, 4096, 0), -EINVAL);
	ck_assert_int_eq(env_pwrite(env, f, page, 512, 0), -EINVAL);
	ck_assert_int_eq(env_pwrite(env, f, page, 4096, 512), -EINVAL);
	ck_assert_int_eq(env_pread(env, f, page + 1, 4096, 0), -EINVAL);
	env_close(env, f);
	f = open_file(env, "/dev/shm/f", ENV_WRITE | ENV_CREATE | ENV_DIRECT);
	ck_assert_int_eq(env_pwrite(env, f, page, 100, 1), 0);
	env_close(env, f);
	down();
}
END_TEST

START_TEST(copies_and_clones_have_the_same_bytes)
{
	struct env_file *f, *g;

	up(1);
	make_file(env, "/pool/f", 8, 7, SYNC_NOTHING);
	f = open_file(env, "/pool/f", ENV_READ);
	g = open_file(env, "/pool/g", ENV_READ | ENV_WRITE | ENV_CREATE);
	ck_assert_int_eq(env_reflink(env, f, g), -EOPNOTSUPP);
	ck_assert_int_eq(env_copy_range(env, f, 100, g, 5000, 20000), 0);
	ck_assert_int_eq(page_fill(env, g, 2), 7);
	ck_assert_int_eq(page_fill(env, g, 0), 0);
	ck_assert_int_lt(env_copy_range(env, f, 7 * 4096, g, 0, 8192), 0);
	env_close(env, f);
	env_close(env, g);
	sim_add_device(sim, "/clones", 4 * MIB, SIM_DEV_REFLINK);
	make_file(env, "/clones/f", 3, 9, SYNC_NOTHING);
	f = open_file(env, "/clones/f", ENV_READ);
	g = open_file(env, "/clones/g", ENV_READ | ENV_WRITE | ENV_CREATE);
	ck_assert_int_eq(env_reflink(env, f, g), 0);
	ck_assert_int_eq(page_fill(env, g, 2), 9);
	env_close(env, f);
	env_close(env, g);
	down();
}
END_TEST

/* ---- space ---------------------------------------------------------------------------------- */

static uint64_t free_bytes(const char *path)
{
	struct env_space space;

	ck_assert_int_eq(env_space(env, path, &space), 0);
	return space.free_bytes;
}

START_TEST(a_full_disk_refuses_new_blocks_but_not_old_ones)
{
	struct env_file *f;
	struct env_stat st;
	uint64_t index = 0;

	up(1);
	sim_set_device_bytes(sim, "/pool", MIB);
	f = open_file(env, "/pool/f", ENV_READ | ENV_WRITE | ENV_CREATE);
	while (env_pwrite(env, f, page_of(1), 4096, index * 4096) == 0)
		index++;
	ck_assert_uint_gt(index, 200);
	ck_assert_uint_eq(free_bytes("/pool/f"), 0);
	ck_assert_int_eq(env_stat(env, f, &st), 0);
	ck_assert_uint_eq(st.allocated_bytes, index * 4096);
	ck_assert_int_eq(env_pwrite(env, f, page_of(2), 4096, 0), 0);
	ck_assert_int_eq(env_fallocate(env, f, index * 4096, 4096), -ENOSPC);
	ck_assert_int_eq(env_mkdir(env, "/pool/d"), -ENOSPC);
	ck_assert_uint_gt(sim_stats(sim)->enospc_full, 0);
	ck_assert_int_eq(env_punch(env, f, 4096, 3 * 4096), 0);
	ck_assert_uint_eq(free_bytes("/pool"), 3 * 4096);
	ck_assert_int_eq(env_fallocate(env, f, index * 4096, 4096), 0);
	ck_assert_int_eq(env_mkdir(env, "/pool/d"), 0);
	sim_set_device_bytes(sim, "/pool", 2 * MIB);
	ck_assert_uint_eq(free_bytes("/pool"), MIB + 4096);
	ck_assert_int_eq(env_unlink(env, "/pool/f"), 0);
	ck_assert_uint_lt(free_bytes("/pool"), 2 * MIB - 64 * 4096);
	env_close(env, f);
	ck_assert_uint_eq(free_bytes("/pool"), 2 * MIB - 2 * 4096);
	down();
}
END_TEST

START_TEST(hard_links_share_their_blocks)
{
	uint64_t before;

	up(1);
	make_file(env, "/pool/f", 16, 1, SYNC_NOTHING);
	before = free_bytes("/pool");
	ck_assert_int_eq(env_link(env, "/pool/f", "/pool/g"), 0);
	ck_assert_uint_eq(free_bytes("/pool"), before);
	ck_assert_int_eq(env_unlink(env, "/pool/f"), 0);
	ck_assert_uint_eq(free_bytes("/pool"), before);
	ck_assert_int_eq(env_unlink(env, "/pool/g"), 0);
	ck_assert_uint_eq(free_bytes("/pool"), before + 17 * 4096);
	down();
}
END_TEST

/* ---- power cuts: bytes ---------------------------------------------------------------------- */

START_TEST(synced_bytes_under_a_synced_name_are_never_lost)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct env_file *f;
		struct env_stat st;

		up(seed);
		make_file(env, "/pool/f", 12, 1, SYNC_BOTH);
		f = open_file(env, "/pool/f", ENV_READ | ENV_WRITE);
		write_pages(env, f, 3, 4, 2);
		ck_assert_int_eq(env_punch(env, f, 8 * 4096, 4096), 0);
		ck_assert_int_eq(env_truncate(env, f, 10 * 4096), 0);
		ck_assert_int_eq(env_fdatasync(env, f), 0);
		env_close(env, f);
		sim_crash_now(sim, SIM_POWER);
		f = open_file(env, "/pool/f", ENV_READ);
		ck_assert_int_eq(env_stat(env, f, &st), 0);
		ck_assert_uint_eq(st.size_bytes, 10 * 4096);
		ck_assert_uint_eq(st.allocated_bytes, 9 * 4096);
		for (uint64_t i = 0; i < 10; i++)
			ck_assert_int_eq(page_fill(env, f, i), i >= 3 && i < 7 ? 2 :
							       i == 8	       ? 0 :
										 1);
		env_close(env, f);
		down();
	}
}
END_TEST

START_TEST(unsynced_pages_are_kept_dropped_or_torn_each_on_its_own)
{
	int kept = 0, dropped = 0, torn = 0, reordered = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		bool dropped_before = false;
		struct env_file *f;

		up(seed);
		make_file(env, "/pool/f", 8, 1, SYNC_BOTH);
		f = open_file(env, "/pool/f", ENV_READ | ENV_WRITE);
		for (uint64_t i = 0; i < 8; i++)
			write_pages(env, f, i, 1, 2);
		env_close(env, f);
		sim_crash_now(sim, SIM_POWER);
		f = open_file(env, "/pool/f", ENV_READ);
		for (uint64_t i = 0; i < 8; i++) {
			int fill = page_fill(env, f, i);

			ck_assert_int_ne(fill, -2);
			ck_assert_int_ne(fill, 0);
			kept += fill == 2;
			dropped += fill == 1;
			torn += fill == -1;
			reordered += fill == 2 && dropped_before;
			dropped_before = dropped_before || fill == 1;
		}
		env_close(env, f);
		ck_assert_uint_eq(sim_stats(sim)->fx_kept + sim_stats(sim)->fx_dropped +
					  sim_stats(sim)->fx_torn,
				  8);
		down();
	}
	ck_assert_int_gt(kept, 200);
	ck_assert_int_gt(dropped, 200);
	ck_assert_int_gt(torn, 50);
	ck_assert_int_gt(reordered, 50);
}
END_TEST

START_TEST(a_page_written_three_times_comes_back_as_any_of_them)
{
	int seen[4] = { 0 };

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct env_file *f;
		int fill;

		up(seed);
		sim_set_power_bias(sim, 500000, 0);
		make_file(env, "/pool/f", 1, 1, SYNC_BOTH);
		f = open_file(env, "/pool/f", ENV_READ | ENV_WRITE);
		write_pages(env, f, 0, 1, 2);
		write_pages(env, f, 0, 1, 3);
		env_close(env, f);
		sim_crash_now(sim, SIM_POWER);
		f = open_file(env, "/pool/f", ENV_READ);
		fill = page_fill(env, f, 0);
		ck_assert_int_ge(fill, 1);
		ck_assert_int_le(fill, 3);
		seen[fill]++;
		env_close(env, f);
		down();
	}
	ck_assert_int_gt(seen[1], 20);
	ck_assert_int_gt(seen[2], 20);
	ck_assert_int_gt(seen[3], 20);
}
END_TEST

START_TEST(size_punch_and_allocation_that_are_not_synced_can_be_lost)
{
	int grown = 0, punched = 0, allocated = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct env_file *f;
		struct env_stat st;

		up(seed);
		make_file(env, "/pool/f", 4, 1, SYNC_BOTH);
		f = open_file(env, "/pool/f", ENV_READ | ENV_WRITE);
		ck_assert_int_eq(env_punch(env, f, 0, 4096), 0);
		ck_assert_int_eq(env_fallocate(env, f, 0, 8 * 4096), 0);
		env_close(env, f);
		sim_crash_now(sim, SIM_POWER);
		f = open_file(env, "/pool/f", ENV_READ);
		ck_assert_int_eq(env_stat(env, f, &st), 0);
		grown += st.size_bytes == 8 * 4096;
		allocated += st.allocated_bytes > 4 * 4096;
		punched += page_fill(env, f, 0) == 0;
		env_close(env, f);
		down();
	}
	ck_assert_int_gt(grown, 20);
	ck_assert_int_lt(grown, SEEDS - 20);
	ck_assert_int_gt(punched, 20);
	ck_assert_int_lt(punched, SEEDS - 20);
	ck_assert_int_gt(allocated, 20);
	ck_assert_int_lt(allocated, SEEDS - 20);
}
END_TEST

/* ---- power cuts: names ---------------------------------------------------------------------- */

static int survivors_of(enum sync_what what)
{
	int there = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		up(seed);
		make_file(env, "/pool/f", 2, 1, what);
		sim_crash_now(sim, SIM_POWER);
		there += exists(env, "/pool/f");
		down();
	}
	return there;
}

START_TEST(a_synced_file_without_a_synced_directory_is_sometimes_lost)
{
	int there = survivors_of(SYNC_DATA);

	ck_assert_int_gt(there, 20);
	ck_assert_int_lt(there, SEEDS - 20);
	ck_assert_int_eq(survivors_of(SYNC_BOTH), SEEDS);
	ck_assert_int_eq(survivors_of(SYNC_NAME), SEEDS);
}
END_TEST

START_TEST(rename_over_is_the_old_or_the_new_file_never_none)
{
	int old = 0, new = 0, both = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct env_file *f;

		up(seed);
		make_file(env, "/pool/f", 1, 1, SYNC_BOTH);
		make_file(env, "/pool/f.new", 1, 2, SYNC_DATA);
		ck_assert_int_eq(env_rename(env, "/pool/f.new", "/pool/f"), 0);
		sim_crash_now(sim, SIM_POWER);
		f = open_file(env, "/pool/f", ENV_READ);
		old += page_fill(env, f, 0) == 1;
		new += page_fill(env, f, 0) == 2;
		both += page_fill(env, f, 0) == 2 && exists(env, "/pool/f.new");
		env_close(env, f);
		down();
	}
	ck_assert_int_gt(old, 20);
	ck_assert_int_gt(new, 20);
	ck_assert_int_eq(old + new, SEEDS);
	ck_assert_int_eq(both, 0);
}
END_TEST

START_TEST(syncing_one_directory_of_a_rename_makes_the_whole_rename_durable)
{
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		up(seed);
		ck_assert_int_eq(env_mkdir(env, "/pool/a"), 0);
		ck_assert_int_eq(env_mkdir(env, "/pool/b"), 0);
		ck_assert_int_eq(env_sync_dir(env, "/pool"), 0);
		make_file(env, "/pool/a/f", 1, 1, SYNC_DATA);
		ck_assert_int_eq(env_rename(env, "/pool/a/f", "/pool/a/g"), 0);
		ck_assert_int_eq(env_rename(env, "/pool/a/g", "/pool/b/f"), 0);
		ck_assert_int_eq(env_sync_dir(env, seed % 2 ? "/pool/a" : "/pool/b"), 0);
		sim_crash_now(sim, SIM_POWER);
		ck_assert(exists(env, "/pool/b/f"));
		ck_assert(!exists(env, "/pool/a/f"));
		ck_assert(!exists(env, "/pool/a/g"));
		down();
	}
}
END_TEST

START_TEST(a_file_renamed_twice_comes_back_under_one_name)
{
	int names[3] = { 0 };

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		static const char *const paths[] = { "/pool/a", "/pool/b", "/pool/c" };
		int found = 0;

		up(seed);
		sim_set_power_bias(sim, 500000, 0);
		make_file(env, paths[0], 1, 1, SYNC_BOTH);
		ck_assert_int_eq(env_rename(env, paths[0], paths[1]), 0);
		ck_assert_int_eq(env_rename(env, paths[1], paths[2]), 0);
		sim_crash_now(sim, SIM_POWER);
		for (int i = 0; i < 3; i++) {
			found += exists(env, paths[i]);
			names[i] += exists(env, paths[i]);
		}
		ck_assert_int_eq(found, 1);
		down();
	}
	ck_assert_int_gt(names[0], 20);
	ck_assert_int_gt(names[1], 20);
	ck_assert_int_gt(names[2], 20);
}
END_TEST

START_TEST(an_unlink_that_is_not_synced_can_be_undone_with_the_bytes)
{
	int back = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		uint64_t free_before;

		up(seed);
		free_before = free_bytes("/pool");
		make_file(env, "/pool/f", 3, 1, SYNC_BOTH);
		ck_assert_int_eq(env_unlink(env, "/pool/f"), 0);
		ck_assert_uint_eq(free_bytes("/pool"), free_before);
		sim_crash_now(sim, SIM_POWER);
		if (exists(env, "/pool/f")) {
			struct env_file *f = open_file(env, "/pool/f", ENV_READ);

			back++;
			ck_assert_int_eq(page_fill(env, f, 2), 1);
			ck_assert_uint_eq(free_bytes("/pool"), free_before - 4 * 4096);
			env_close(env, f);
		}
		down();
	}
	ck_assert_int_gt(back, 20);
	ck_assert_int_lt(back, SEEDS - 20);
}
END_TEST

START_TEST(a_lost_directory_takes_what_is_in_it)
{
	int lost = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		up(seed);
		ck_assert_int_eq(env_mkdir(env, "/pool/d"), 0);
		make_file(env, "/pool/d/f", 1, 1, SYNC_BOTH);
		sim_crash_now(sim, SIM_POWER);
		lost += !exists(env, "/pool/d");
		ck_assert(exists(env, "/pool/d/f") == exists(env, "/pool/d"));
		ck_assert_uint_eq(sim_stats(sim)->files_lost, !exists(env, "/pool/d"));
		down();
	}
	ck_assert_int_gt(lost, 20);
	ck_assert_int_lt(lost, SEEDS - 20);
}
END_TEST

/* Many files, names and bytes at random, cut and cut again: the disk must stay one. */
START_TEST(any_sequence_of_calls_and_cuts_leaves_a_consistent_disk)
{
	for (uint64_t seed = 1; seed <= 60; seed++) {
		up(seed);
		sim_set_device_bytes(sim, "/pool", MIB);
		for (int i = 0; i < 400; i++) {
			char a[32], b[32];
			struct env_file *f;
			uint64_t what = sim_rand(sim, 12);

			(void)snprintf(a, sizeof(a), "/pool/%s%u", what % 2 ? "" : "d/",
				       (unsigned int)sim_rand(sim, 6));
			(void)snprintf(b, sizeof(b), "/pool/%s%u", what % 3 ? "" : "d/",
				       (unsigned int)sim_rand(sim, 6));
			if (what == 0)
				(void)env_rename(env, a, b);
			else if (what == 1)
				(void)env_link(env, a, b);
			else if (what == 2)
				(void)env_unlink(env, a);
			else if (what == 3)
				(void)env_sync_dir(env, sim_rand(sim, 2) ? "/pool" : "/pool/d");
			else if (what == 4)
				(void)env_mkdir(env, sim_rand(sim, 2) ? "/pool/d" : a);
			else if (what == 5)
				(void)env_rmdir(env, a);
			else if (env_open(env, a, ENV_READ | ENV_WRITE | ENV_CREATE, &f) == 0) {
				(void)env_pwrite(env, f, page_of((uint8_t)i),
						 (size_t)sim_rand(sim, 65536),
						 sim_rand(sim, 65536));
				if (what == 6)
					(void)env_punch(env, f, sim_rand(sim, 65536), 20000);
				if (what == 7)
					(void)env_truncate(env, f, sim_rand(sim, 65536));
				if (what == 8)
					(void)env_fdatasync(env, f);
				env_close(env, f);
			}
			if (i % 50 == 49)
				sim_crash_now(sim, SIM_POWER);
			sim_check(sim);
		}
		down();
	}
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("simtest/sim_disk");
	TCase *tc = tcase_create("files");
	TCase *power = tcase_create("power");

	tcase_add_test(tc, bytes_written_at_odd_places_are_read_back);
	tcase_add_test(tc, names_follow_posix);
	tcase_add_test(tc, direct_files_refuse_what_is_not_aligned);
	tcase_add_test(tc, copies_and_clones_have_the_same_bytes);
	tcase_add_test(tc, a_full_disk_refuses_new_blocks_but_not_old_ones);
	tcase_add_test(tc, hard_links_share_their_blocks);
	suite_add_tcase(s, tc);

	tcase_add_test(power, synced_bytes_under_a_synced_name_are_never_lost);
	tcase_add_test(power, unsynced_pages_are_kept_dropped_or_torn_each_on_its_own);
	tcase_add_test(power, a_page_written_three_times_comes_back_as_any_of_them);
	tcase_add_test(power, size_punch_and_allocation_that_are_not_synced_can_be_lost);
	tcase_add_test(power, a_synced_file_without_a_synced_directory_is_sometimes_lost);
	tcase_add_test(power, rename_over_is_the_old_or_the_new_file_never_none);
	tcase_add_test(power, syncing_one_directory_of_a_rename_makes_the_whole_rename_durable);
	tcase_add_test(power, a_file_renamed_twice_comes_back_under_one_name);
	tcase_add_test(power, an_unlink_that_is_not_synced_can_be_undone_with_the_bytes);
	tcase_add_test(power, a_lost_directory_takes_what_is_in_it);
	tcase_add_test(power, any_sequence_of_calls_and_cuts_leaves_a_consistent_disk);
	suite_add_tcase(s, power);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(suite());
	int failed;

	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
