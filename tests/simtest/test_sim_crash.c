/*
 * The simulated machine under a process: writes in flight, late landings, shared memory, injected
 * faults, death at any call.
 */
#include "tests/simtest/support_sim.h"

#include <check.h>
#include <signal.h>
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

/* ---- queues and late landings --------------------------------------------------------------- */

#define IOS 8
static _Alignas(4096) uint8_t io_pages[IOS][2 * 4096];
static int io_order[IOS];

static void submit_all(struct env_ioq *q, struct env_file *f, struct env_io ios[IOS])
{
	for (int i = 0; i < IOS; i++) {
		memset(io_pages[i], 10 + i, sizeof(io_pages[i]));
		ios[i] = (struct env_io){ .file = f,
					  .buf = io_pages[i],
					  .len_bytes = sizeof(io_pages[i]),
					  .offset_bytes = (uint64_t)i * 8192,
					  .result = 1 };
		ck_assert_int_eq(env_ioq_submit(env, q, &ios[i]), 0);
	}
}

static void write_by_queue(void *arg UNUSED)
{
	struct env_file *f =
		open_file(env, "/pool/f", ENV_READ | ENV_WRITE | ENV_CREATE | ENV_DIRECT);
	struct env_io ios[IOS], *io;
	struct env_ioq *q;
	int n = 0;

	ck_assert_int_eq(env_ioq_open(env, 3, &q), 0);
	ck_assert_ptr_null(env_ioq_reap(env, q, true));
	submit_all(q, f, ios);
	while ((io = env_ioq_reap(env, q, true))) {
		ck_assert_int_eq(io->result, 0);
		io_order[n++] = (int)(io - ios);
		ck_assert_int_eq(page_fill(env, f, io->offset_bytes / 4096 + 1),
				 10 + (int)(io - ios));
	}
	ck_assert_int_eq(n, IOS);
	env_ioq_close(env, q);
	env_close(env, f);
}

START_TEST(queued_writes_finish_in_an_order_of_their_own)
{
	int in_order = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		int turned = 0;

		up(seed);
		ck_assert_int_eq(sim_run(sim, write_by_queue, NULL), SIM_DONE);
		for (int i = 1; i < IOS; i++)
			turned += io_order[i] < io_order[i - 1];
		in_order += turned == 0;
		ck_assert_uint_eq(sim_stats(sim)->handles_left_open, 0);
		down();
	}
	ck_assert_int_lt(in_order, SEEDS / 4);
}
END_TEST

static void die_with_writes_in_flight(void *arg UNUSED)
{
	struct env_file *f =
		open_file(env, "/pool/f", ENV_READ | ENV_WRITE | ENV_CREATE | ENV_DIRECT);
	struct env_io ios[IOS];
	struct env_ioq *q;

	ck_assert_int_eq(env_lock(env, f), 0);
	ck_assert_int_eq(env_fallocate(env, f, 0, IOS * 8192), 0);
	ck_assert_int_eq(env_fdatasync(env, f), 0);
	ck_assert_int_eq(env_sync_dir(env, "/pool"), 0);
	ck_assert_int_eq(env_ioq_open(env, IOS, &q), 0);
	submit_all(q, f, ios);
	sim_crash_now(sim, SIM_KILL);
}

struct later {
	int before, after;
};

static int pages_written(struct env_file *f)
{
	int n = 0;

	for (uint64_t i = 0; i < IOS * 2; i++) {
		int fill = page_fill(env, f, i);

		ck_assert(fill == 0 || fill == 10 + (int)i / 2);
		n += fill != 0;
	}
	return n;
}

static void look_before_and_after(void *arg)
{
	struct later *later = arg;
	struct env_file *f = open_file(env, "/pool/f", ENV_READ);

	ck_assert_int_eq(env_lock(env, f), 0); /* the dead process's is gone */
	later->before = pages_written(f);
	for (int i = 0; i < 500; i++)
		(void)exists(env, "/pool/f");
	later->after = pages_written(f);
	env_close(env, f);
}

START_TEST(writes_of_a_killed_process_may_land_in_the_next_one)
{
	int later_grew = 0, none = 0, all = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct later later;

		up(seed);
		ck_assert_int_eq(sim_run(sim, die_with_writes_in_flight, NULL), SIM_CRASHED);
		memset(io_pages, 0xee, sizeof(io_pages)); /* the dead process's memory is no more */
		ck_assert_int_eq(sim_run(sim, look_before_and_after, &later), SIM_DONE);
		ck_assert_int_ge(later.after, later.before);
		later_grew += later.after > later.before;
		none += later.after == 0;
		all += later.after == IOS * 2;
		down();
	}
	ck_assert_int_gt(later_grew, SEEDS / 2);
	ck_assert_int_lt(none + all, SEEDS);
}
END_TEST

START_TEST(writes_in_flight_at_a_power_cut_are_unsynced_effects)
{
	int some = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct env_file *f;
		int fill, kept = 0;

		up(seed);
		ck_assert_int_eq(sim_run(sim, die_with_writes_in_flight, NULL), SIM_CRASHED);
		sim_crash_now(sim, SIM_POWER);
		ck_assert_uint_eq(sim_stats(sim)->late_landed, 0);
		f = open_file(env, "/pool/f", ENV_READ);
		for (uint64_t i = 0; i < IOS * 2; i++) {
			fill = page_fill(env, f, i);
			kept += fill == 10 + (int)i / 2;
			ck_assert_int_ne(fill, -2);
		}
		some += kept > 0 && kept < IOS * 2;
		env_close(env, f);
		down();
	}
	ck_assert_int_gt(some, SEEDS / 4);
}
END_TEST

static void truncate_first(void *arg UNUSED)
{
	struct env_file *f = open_file(env, "/pool/f", ENV_READ | ENV_WRITE);
	struct env_stat st;

	ck_assert_int_eq(env_truncate(env, f, 0), 0);
	for (int i = 0; i < 500; i++)
		(void)exists(env, "/pool/f");
	ck_assert_int_eq(env_stat(env, f, &st), 0);
	ck_assert_uint_eq(st.size_bytes, 0);
	env_close(env, f);
}

START_TEST(truncate_waits_for_late_writes)
{
	for (uint64_t seed = 1; seed <= 50; seed++) {
		up(seed);
		ck_assert_int_eq(sim_run(sim, die_with_writes_in_flight, NULL), SIM_CRASHED);
		ck_assert_int_eq(sim_run(sim, truncate_first, NULL), SIM_DONE);
		down();
	}
}
END_TEST

/* ---- shared memory -------------------------------------------------------------------------- */

static uint8_t *old_place;

static void fill_ring(void *path)
{
	struct env_file *f = open_file(env, path, ENV_READ | ENV_WRITE | ENV_CREATE);
	void *mem;

	ck_assert_int_eq(env_fallocate(env, f, 0, 64 * 4096), 0);
	ck_assert_int_eq(env_fdatasync(env, f), 0);
	ck_assert_int_eq(env_sync_dir(env, "/pool"), 0);
	ck_assert_int_eq(env_map_shared(env, f, 64 * 4096, &mem), 0);
	old_place = mem;
	memset(mem, 5, 64 * 4096);
	sim_crash_now(sim, SIM_KILL);
}

static void check_ring(void *path)
{
	struct env_file *f = open_file(env, path, ENV_READ | ENV_WRITE);
	void *mem;

	ck_assert_int_eq(page_fill(env, f, 63), 5);
	ck_assert_int_eq(env_map_shared(env, f, 64 * 4096, &mem), 0);
	ck_assert_ptr_ne(mem, old_place);
	ck_assert_uint_eq(((uint8_t *)mem)[64 * 4096 - 1], 5);
	((uint8_t *)mem)[0] = 6;
	env_unmap(env, mem, 64 * 4096);
	env_close(env, f);
}

START_TEST(a_ring_on_tmpfs_survives_a_kill_but_not_a_power_cut)
{
	char path[] = "/dev/shm/ring", boot[37], boot_later[37];

	up(1);
	ck_assert_int_eq(env_boot_id(env, boot), 0);
	ck_assert_int_eq(sim_run(sim, fill_ring, path), SIM_CRASHED);
	ck_assert_int_eq(sim_run(sim, check_ring, path), SIM_DONE);
	ck_assert_int_eq(env_boot_id(env, boot_later), 0);
	ck_assert_str_eq(boot, boot_later);
	ck_assert_uint_eq(strlen(boot), 36);
	sim_crash_now(sim, SIM_POWER);
	ck_assert(!exists(env, path));
	ck_assert_int_eq(env_boot_id(env, boot_later), 0);
	ck_assert_str_ne(boot, boot_later);
	down();
}
END_TEST

START_TEST(a_ring_on_a_disk_survives_a_kill_and_keeps_some_pages_at_a_power_cut)
{
	char path[] = "/pool/ring";
	int kept = 0, dropped = 0;

	for (uint64_t seed = 1; seed <= 50; seed++) {
		struct env_file *f;

		up(seed);
		ck_assert_int_eq(sim_run(sim, fill_ring, path), SIM_CRASHED);
		ck_assert_int_eq(sim_run(sim, check_ring, path), SIM_DONE);
		sim_crash_now(sim, SIM_POWER);
		f = open_file(env, path, ENV_READ);
		for (uint64_t i = 1; i < 64; i++) {
			kept += page_fill(env, f, i) == 5;
			dropped += page_fill(env, f, i) == 0;
		}
		env_close(env, f);
		down();
	}
	ck_assert_int_gt(kept, 200);
	ck_assert_int_gt(dropped, 200);
}
END_TEST

static void sync_ring(void *path)
{
	struct env_file *f = open_file(env, path, ENV_READ | ENV_WRITE);
	void *mem;

	ck_assert_int_eq(env_map_shared(env, f, 64 * 4096, &mem), 0);
	memset(mem, 9, 64 * 4096);
	ck_assert_int_eq(env_fdatasync(env, f), 0);
	memset(mem, 10, 4096);
	sim_crash_now(sim, SIM_POWER);
}

START_TEST(what_was_synced_of_a_mapped_file_survives_a_power_cut)
{
	char path[] = "/pool/ring";
	int first_is_new = 0;

	for (uint64_t seed = 1; seed <= 50; seed++) {
		struct env_file *f;

		up(seed);
		ck_assert_int_eq(sim_run(sim, fill_ring, path), SIM_CRASHED);
		ck_assert_int_eq(sim_run(sim, sync_ring, path), SIM_CRASHED);
		f = open_file(env, path, ENV_READ);
		for (uint64_t i = 1; i < 64; i++)
			ck_assert_int_eq(page_fill(env, f, i), 9);
		first_is_new += page_fill(env, f, 0) == 10;
		env_close(env, f);
		down();
	}
	ck_assert_int_gt(first_is_new, 5);
	ck_assert_int_lt(first_is_new, 45);
}
END_TEST

/* ---- syncs and others ----------------------------------------------------------------------- */

static bool written_by_then;

static void write_beside(void *arg)
{
	write_pages(env, arg, 1, 1, 3);
	written_by_then = true;
	write_pages(env, arg, 2, 1, 3);
}

static void sync_while_another_writes(void *arg UNUSED)
{
	struct env_file *f = open_file(env, "/pool/f", ENV_READ | ENV_WRITE);
	struct thread *t;

	write_pages(env, f, 0, 1, 2);
	written_by_then = false;
	ck_assert_int_eq(thread_start("beside", write_beside, f, &t), 0);
	ck_assert_int_eq(env_fdatasync(env, f), 0);
	sim_crash_now(sim, SIM_POWER);
}

START_TEST(fdatasync_covers_what_was_written_before_it_began_and_not_always_more)
{
	int other_lost = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		struct env_file *f;

		up(seed);
		make_file(env, "/pool/f", 3, 1, SYNC_BOTH);
		sim_set_power_bias(sim, 300000, 0);
		ck_assert_int_eq(sim_run(sim, sync_while_another_writes, NULL), SIM_CRASHED);
		f = open_file(env, "/pool/f", ENV_READ);
		ck_assert_int_eq(page_fill(env, f, 0), 2);
		other_lost += written_by_then && page_fill(env, f, 1) == 1;
		env_close(env, f);
		down();
	}
	ck_assert_int_gt(other_lost, 20);
}
END_TEST

/* ---- injected faults ------------------------------------------------------------------------ */

static void sync_with_error(void *arg)
{
	struct env_file *f = open_file(env, "/pool/f", ENV_READ | ENV_WRITE);
	int *ret_old = arg;

	for (uint64_t i = 0; i < 8; i++)
		write_pages(env, f, i, 1, 2);
	sim_set_faults(sim, &(struct sim_faults){ .eio_sync_ppm = 1000000 });
	ck_assert_int_eq(env_fdatasync(env, f), -EIO);
	sim_set_faults(sim, NULL);
	ck_assert_int_eq(env_fdatasync(env, f), 0); /* says nothing about those bytes */
	for (int round = 0; round < 20; round++)
		for (uint64_t i = 0; i < 8; i++)
			ret_old[i] = page_fill(env, f, i) != 2;
	env_close(env, f);
}

START_TEST(after_a_failed_fdatasync_bytes_may_be_the_old_ones_although_the_next_says_ok)
{
	int old_in_cache = 0, old_after_cut = 0, total = 0;

	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		int old[8];
		struct env_file *f;

		up(seed);
		make_file(env, "/pool/f", 8, 1, SYNC_BOTH);
		ck_assert_int_eq(sim_run(sim, sync_with_error, old), SIM_DONE);
		ck_assert_uint_eq(sim_stats(sim)->eio_sync, 1);
		sim_crash_now(sim, SIM_POWER);
		f = open_file(env, "/pool/f", ENV_READ);
		for (uint64_t i = 0; i < 8; i++) {
			old_in_cache += old[i];
			old_after_cut += page_fill(env, f, i) != 2;
			total++;
		}
		env_close(env, f);
		down();
	}
	ck_assert_int_gt(old_in_cache, total / 10);
	ck_assert_int_gt(old_after_cut, total / 10);
	ck_assert_int_lt(old_after_cut, total - total / 10);
}
END_TEST

static void use_both_disks(void *arg UNUSED)
{
	struct env_file *f = open_file(env, "/pool/f", ENV_READ | ENV_WRITE | ENV_CREATE);
	struct env_file *g = open_file(env, "/dev/shm/f", ENV_READ | ENV_WRITE | ENV_CREATE);
	uint8_t *buf = page_of(1);
	const struct sim_faults faults = { .path_prefix = "/pool",
					   .eio_read_ppm = 200000,
					   .eio_write_ppm = 200000,
					   .enospc_ppm = 200000,
					   .delay_ppm = 100000,
					   .delay_max_ns = 5000000000 };
	int eio = 0, enospc = 0, read_eio = 0;

	sim_set_faults(sim, &faults);
	for (int i = 0; i < 200; i++) {
		int r = env_pwrite(env, f, buf, 8192, 0);

		eio += r == -EIO;
		enospc += r == -ENOSPC;
		read_eio += env_pread(env, f, buf, 4096, 0) == -EIO;
		ck_assert_int_eq(env_pwrite(env, g, buf, 8192, 0), 0);
		ck_assert_int_eq(env_pread(env, g, buf, 4096, 0), 4096);
	}
	sim_set_faults(sim, NULL);
	ck_assert_int_gt(eio, 10);
	ck_assert_int_gt(enospc, 10);
	ck_assert_int_gt(read_eio, 10);
	ck_assert_uint_eq(sim_stats(sim)->eio, (uint64_t)(eio + read_eio));
	ck_assert_uint_eq(sim_stats(sim)->enospc_injected, (uint64_t)enospc);
	ck_assert_int_eq(env_pwrite(env, f, buf, 8192, 0), 0);
	env_close(env, f);
	env_close(env, g);
}

START_TEST(faults_hit_at_their_rate_and_only_below_their_prefix)
{
	uint64_t from_ns;

	up(1);
	from_ns = sim_now_ns(sim);
	ck_assert_int_eq(sim_run(sim, use_both_disks, NULL), SIM_DONE);
	ck_assert_uint_gt(sim_stats(sim)->delays, 10);
	ck_assert_uint_gt(sim_now_ns(sim) - from_ns, UINT64_C(20000000000));
	down();
}
END_TEST

static void read_flipped(void *arg UNUSED)
{
	struct env_file *f = open_file(env, "/pool/f", ENV_READ);

	sim_set_faults(sim, &(struct sim_faults){ .flip_ppm = 1000000 });
	ck_assert_int_eq(page_fill(env, f, 0), -2);
	sim_set_faults(sim, NULL);
	ck_assert_int_eq(page_fill(env, f, 0), 1);
	env_close(env, f);
}

START_TEST(flipped_bits_are_transient_and_damage_is_not)
{
	struct env_file *f;

	up(1);
	make_file(env, "/pool/f", 1, 1, SYNC_BOTH);
	ck_assert_int_eq(sim_run(sim, read_flipped, NULL), SIM_DONE);
	ck_assert_int_eq(sim_flip(sim, "/pool/f", 700, 0x10), 0);
	ck_assert_int_eq(sim_flip(sim, "/pool/f", 4096, 0x10), -ENXIO);
	sim_crash_now(sim, SIM_POWER);
	f = open_file(env, "/pool/f", ENV_READ);
	ck_assert_int_eq(page_fill(env, f, 0), -2);
	env_close(env, f);
	down();
}
END_TEST

/* ---- death at any call ---------------------------------------------------------------------- */

/* A small journal: each record is acked after its fdatasync; a new generation by rename. */
struct journal {
	unsigned int acked;
	bool exists_acked;
};

static void keep_journal(void *arg)
{
	struct journal *j = arg;
	struct env_file *f;

	if (!j->exists_acked) {
		f = open_file(env, "/pool/j.new", ENV_READ | ENV_WRITE | ENV_CREATE | ENV_TRUNC);
		ck_assert_int_eq(env_fallocate(env, f, 0, 16 * 4096), 0);
		ck_assert_int_eq(env_fdatasync(env, f), 0);
		env_close(env, f);
		ck_assert_int_eq(env_rename(env, "/pool/j.new", "/pool/j"), 0);
		ck_assert_int_eq(env_sync_dir(env, "/pool"), 0);
		j->exists_acked = true;
	}
	f = open_file(env, "/pool/j", ENV_READ | ENV_WRITE | ENV_DIRECT);
	for (unsigned int i = 0; i < j->acked; i++)
		ck_assert_int_eq(page_fill(env, f, i), (int)i + 1);
	for (; j->acked < 16; j->acked++) {
		write_pages(env, f, j->acked, 1, (uint8_t)(j->acked + 1));
		ck_assert_int_eq(env_fdatasync(env, f), 0);
	}
	env_close(env, f);
}

/* Returns a hash of everything that happened. */
static uint64_t journal_with_crashes(uint64_t seed)
{
	struct journal j = { 0 };
	uint64_t fingerprint;
	int crashes = 0;

	up(seed);
	for (;;) {
		sim_crash_at(sim, 1 + sim_rand(sim, 20), sim_rand(sim, 2) ? SIM_KILL : SIM_POWER);
		if (sim_run(sim, keep_journal, &j) == SIM_DONE)
			break;
		crashes++;
		sim_check(sim);
	}
	ck_assert_uint_eq(j.acked, 16);
	ck_assert_uint_eq(sim_stats(sim)->kills + sim_stats(sim)->power_cuts, (uint64_t)crashes);
	fingerprint = sim_fingerprint(sim);
	down();
	return fingerprint;
}

START_TEST(a_correct_journal_survives_death_at_any_call)
{
	for (uint64_t seed = 1; seed <= 500; seed++)
		(void)journal_with_crashes(seed);
}
END_TEST

START_TEST(the_same_seed_gives_the_same_crashes)
{
	for (uint64_t seed = 1; seed <= 50; seed++)
		ck_assert_uint_eq(journal_with_crashes(seed), journal_with_crashes(seed));
}
END_TEST

/* What a lie about durability does to a file that is written once and then cut off. */
static int losses_with(const struct sim_faults *faults)
{
	int lost = 0;

	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct journal j = { 0 };
		struct env_file *f;

		up(seed);
		sim_set_faults(sim, faults);
		ck_assert_int_eq(sim_run(sim, keep_journal, &j), SIM_DONE);
		sim_crash_now(sim, SIM_POWER);
		if (env_open(env, "/pool/j", ENV_READ, &f) < 0) {
			lost++;
		} else {
			int wrong = 0;
			struct env_stat st;

			ck_assert_int_eq(env_stat(env, f, &st), 0);
			for (uint64_t i = 0; i < 16 && st.size_bytes == 16 * 4096; i++)
				wrong += page_fill(env, f, i) != (int)i + 1;
			lost += wrong > 0 || st.size_bytes != 16 * 4096;
			env_close(env, f);
		}
		down();
	}
	return lost;
}

START_TEST(a_sync_that_lies_is_found_out_within_twenty_cuts)
{
	ck_assert_int_eq(losses_with(NULL), 0);
	ck_assert_int_gt(losses_with(&(struct sim_faults){ .lie_data_ppm = 1000000 }), 2);
	ck_assert_int_gt(losses_with(&(struct sim_faults){ .lie_dir_ppm = 1000000 }), 2);
}
END_TEST

static void leave_a_file_open(void *arg UNUSED)
{
	(void)open_file(env, "/pool/f", ENV_WRITE | ENV_CREATE);
}

START_TEST(files_left_open_are_counted_and_closed)
{
	up(1);
	ck_assert_int_eq(sim_run(sim, leave_a_file_open, NULL), SIM_DONE);
	ck_assert_uint_eq(sim_stats(sim)->handles_left_open, 1);
	down();
}
END_TEST

static void change_buffer_in_flight(void *arg UNUSED)
{
	struct env_file *f = open_file(env, "/pool/f", ENV_WRITE | ENV_CREATE | ENV_DIRECT);
	struct env_io ios[IOS];
	struct env_ioq *q;

	ck_assert_int_eq(env_ioq_open(env, IOS, &q), 0);
	submit_all(q, f, ios);
	io_pages[IOS - 1][0] = 99;
	while (env_ioq_reap(env, q, true))
		;
}

START_TEST(a_buffer_changed_in_flight_is_reported)
{
	const struct sim_opts opts = { .preempt_ppm = 1, .io_latency_max_ns = 1000000000 };

	sim = sim_new(1, &opts);
	sim_add_device(sim, "/pool", 16 * MIB, 0);
	env = sim_env(sim);
	sim_catch_aborts();
	(void)sim_run(sim, change_buffer_in_flight, NULL);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("simtest/sim_crash");
	TCase *flight = tcase_create("in flight");
	TCase *memory = tcase_create("memory");
	TCase *faults = tcase_create("faults");
	TCase *tc = tcase_create("crash");
	TCase *death = tcase_create("death");

	tcase_add_test(flight, queued_writes_finish_in_an_order_of_their_own);
	tcase_add_test(flight, writes_of_a_killed_process_may_land_in_the_next_one);
	tcase_add_test(flight, writes_in_flight_at_a_power_cut_are_unsynced_effects);
	tcase_add_test(flight, truncate_waits_for_late_writes);
	suite_add_tcase(s, flight);
	tcase_add_test(memory, a_ring_on_tmpfs_survives_a_kill_but_not_a_power_cut);
	tcase_add_test(memory,
		       a_ring_on_a_disk_survives_a_kill_and_keeps_some_pages_at_a_power_cut);
	tcase_add_test(memory, what_was_synced_of_a_mapped_file_survives_a_power_cut);
	suite_add_tcase(s, memory);
	tcase_add_test(tc, fdatasync_covers_what_was_written_before_it_began_and_not_always_more);
	tcase_add_test(
		faults,
		after_a_failed_fdatasync_bytes_may_be_the_old_ones_although_the_next_says_ok);
	tcase_add_test(faults, faults_hit_at_their_rate_and_only_below_their_prefix);
	tcase_add_test(faults, flipped_bits_are_transient_and_damage_is_not);
	suite_add_tcase(s, faults);
	tcase_add_test(tc, a_correct_journal_survives_death_at_any_call);
	tcase_add_test(tc, the_same_seed_gives_the_same_crashes);
	tcase_add_test(tc, a_sync_that_lies_is_found_out_within_twenty_cuts);
	tcase_add_test(tc, files_left_open_are_counted_and_closed);
	suite_add_tcase(s, tc);
	tcase_add_test_raise_signal(death, a_buffer_changed_in_flight_is_reported, SIGABRT);
	suite_add_tcase(s, death);
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
