/* What is acknowledged survives SIGKILL: of writers at any moment, and of recovery itself. */
#include "support_pool.h"

#include "common/log.h"

#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define DISKS	     3u
#define SECTORS	     16384u /* of each disk: 8 MiB */
#define THREADS	     3u
#define ROUNDS	     TEST_SCALE(30u)
#define SPAN_SECTORS 320u /* of the largest write */

enum report_kind { REPORT_OPEN = 1, REPORT_FOUND, REPORT_INTENT, REPORT_ACK };

/* What a child tells: before a write, after its ack, and what it found after recovery. */
struct report {
	uint32_t kind, disk, sector, count;
	uint64_t generation;
};

struct disk_state {
	uint64_t id;
	uint64_t acked[SECTORS];
	/* Of a write that was under way at a kill: the sector may hold it instead. */
	uint64_t maybe[SECTORS];
};

static struct world {
	struct disk_state disks[DISKS];
	uint64_t generation;
	uint64_t seed;
} * world;

static void begin(void)
{
	world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		     0);
	ck_assert_ptr_ne(world, MAP_FAILED);
}

static void tell(int fd, const struct report *r)
{
	ck_assert_int_eq(write(fd, r, sizeof(*r)), sizeof(*r)); /* atomic: less than PIPE_BUF */
}

/* --- the child --------------------------------------------------------------------------------- */

static void make_disks(UNUSED int to_parent, UNUSED void *arg)
{
	pool_fixture_create();
	pool_fixture_open();
	for (unsigned int i = 0; i < DISKS; i++) {
		struct object *o = make_object(i == 0 ? OBJECT_FILE : OBJECT_DISK);

		world->disks[i].id = id_of(o);
		ck_assert_int_eq(object_truncate(o, SECTORS * SECTOR_BYTES, NULL), 0);
		object_close(o);
	}
	pool_fixture_close();
}

/* Every sector holds its acked generation, or that of the write that was under way. */
static void verify_disk(int to_parent, unsigned int disk, struct object *o)
{
	const struct disk_state *d = &world->disks[disk];
	uint8_t *mem = aligned_mem(SECTORS * SECTOR_BYTES);

	ck_assert_int_eq(object_read(o, 0, mem, SECTORS * SECTOR_BYTES, NULL),
			 SECTORS * SECTOR_BYTES);
	for (unsigned int i = 0; i < SECTORS; i++) {
		uint64_t g = sector_generation(mem + (size_t)i * SECTOR_BYTES, d->id, i);

		ck_assert_msg(g == d->acked[i] || (d->maybe[i] && g == d->maybe[i]),
			      "disk %u sector %u: generation %" PRIu64 ", acked was %" PRIu64
			      ", under way %" PRIu64,
			      disk, i, g, d->acked[i], d->maybe[i]);
		if (d->maybe[i])
			tell(to_parent, &(struct report){ REPORT_FOUND, disk, i, 1, g });
	}
	free(mem);
}

struct writer {
	struct object *objects[DISKS];
	struct thread *thread;
	unsigned int number;
	int to_parent;
};

/* Writes to its own third of each disk, for ever. */
static void write_for_ever(void *arg)
{
	struct writer *w = arg;
	struct rng r = { world->seed * 100 + w->number };
	uint32_t share = SECTORS / THREADS & ~7u;
	uint8_t *mem = aligned_mem(SPAN_SECTORS * SECTOR_BYTES + 4096);

	for (;;) {
		uint32_t disk = (uint32_t)rng_below(&r, DISKS);
		uint32_t max = rng_below(&r, 8) ? 24 : SPAN_SECTORS;
		uint32_t count = 1 + (uint32_t)rng_below(&r, max);
		uint32_t first = (uint32_t)rng_below(&r, share - count);
		struct report rep = { REPORT_INTENT, disk, 0, count, 0 };

		if (rng_below(&r, 2)) { /* whole clusters */
			first &= ~7u;
			rep.count = count = count > 8 ? count & ~7u : count;
		}
		rep.sector = first + w->number * share;
		rep.generation = __atomic_add_fetch(&world->generation, 1, __ATOMIC_SEQ_CST);
		for (uint32_t i = 0; i < count; i++)
			sector_fill(mem + (size_t)i * SECTOR_BYTES, world->disks[disk].id,
				    rep.sector + i, rep.generation);
		tell(w->to_parent, &rep);
		write_bytes(w->objects[disk], (uint64_t)rep.sector * SECTOR_BYTES, mem,
			    (size_t)count * SECTOR_BYTES);
		rep.kind = REPORT_ACK;
		tell(w->to_parent, &rep);
		if (rng_below(&r, 150) == 0)
			sync_object(w->objects[disk]);
	}
}

static void verify_and_write(int to_parent, UNUSED void *arg)
{
	struct writer writers[THREADS];
	struct object *objects[DISKS];

	pool_fixture_open();
	for (unsigned int i = 0; i < DISKS; i++) {
		objects[i] = get_object(world->disks[i].id);
		verify_disk(to_parent, i, objects[i]);
	}
	tell(to_parent, &(struct report){ .kind = REPORT_OPEN });
	for (unsigned int i = 0; i < THREADS; i++) {
		writers[i] = (struct writer){ .number = i, .to_parent = to_parent };
		memcpy(writers[i].objects, objects, sizeof(objects));
		ck_assert_int_eq(thread_start("writer", write_for_ever, &writers[i],
					      &writers[i].thread),
				 0);
	}
	for (;;) {
		if (world->seed % 3 == 0)
			ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
		sleep_ns(5 * MS_NS);
	}
}

static void verify_and_close(int to_parent, UNUSED void *arg)
{
	pool_fixture_open();
	for (unsigned int i = 0; i < DISKS; i++) {
		struct object *o = get_object(world->disks[i].id);

		verify_disk(to_parent, i, o);
		object_close(o);
	}
	pool_fixture_close();
}

/* --- the parent -------------------------------------------------------------------------------- */

struct listener {
	int from;
	bool opened;
	unsigned int acked; /* in this round */
	unsigned int in_flight;
};

static void hear(struct listener *l, const struct report *r)
{
	struct disk_state *d = &world->disks[r->disk];

	if (r->kind == REPORT_OPEN) {
		l->opened = true;
		return;
	}
	for (uint32_t i = r->sector; i < r->sector + r->count; i++) {
		if (r->kind == REPORT_INTENT) {
			d->maybe[i] = r->generation;
			continue;
		}
		d->acked[i] = r->generation;
		d->maybe[i] = 0;
	}
	l->in_flight += r->kind == REPORT_INTENT;
	l->in_flight -= r->kind == REPORT_ACK;
	l->acked += r->kind == REPORT_ACK;
}

/* Until the deadline, or (0) until the child's end of the pipe is closed. */
static void listen_until(struct listener *l, uint64_t deadline)
{
	struct report r;

	while ((deadline == 0 || clock_mono_ns() < deadline) &&
	       read(l->from, &r, sizeof(r)) == sizeof(r))
		hear(l, &r);
}

START_TEST(every_acked_write_is_there_after_kills_at_random_moments)
{
	struct rng r = { 2024 };
	unsigned int with_ring = 0, with_flight = 0, in_open = 0, writes = 0;

	in_child(make_disks, NULL);
	for (unsigned int round = 0; round < ROUNDS; round++) {
		bool early = round % 5 == 4; /* kill somewhere inside pool_open() */
		uint64_t wait_ns = rng_below(&r, 80) * MS_NS;
		struct listener l = { 0 };
		unsigned int frames;
		struct child c;

		world->seed = rng_next(&r);
		child_start(&c, verify_and_write, NULL);
		l.from = c.from;
		if (early)
			sleep_ns(wait_ns);
		else
			while (!l.opened) {
				struct report rep;

				ck_assert_msg(read(l.from, &rep, sizeof(rep)) == sizeof(rep),
					      "round %u: the child failed", round);
				hear(&l, &rep);
			}
		if (!early)
			listen_until(&l, clock_mono_ns() + wait_ns);
		child_kill(&c);
		frames = ring_frames_used();
		ck_assert_uint_le(ring_count(), 2);
		listen_until(&l, 0);
		(void)close(c.from);
		in_open += !l.opened;
		with_ring += frames > 0;
		with_flight += l.in_flight > 0;
		writes += l.acked;
	}
	printf("%u rounds: %u acked writes, ring not empty in %u, writes in flight in %u, killed "
	       "inside pool_open in %u\n",
	       ROUNDS, writes, with_ring, with_flight, in_open);
	ck_assert_uint_ge(with_ring, ROUNDS * 9 / 10);
	ck_assert_uint_ge(with_flight, ROUNDS * 6 / 10);
	ck_assert_uint_ge(in_open, 1);
	ck_assert_uint_gt(writes, TEST_SCALE(1000u));
	{
		struct child c;
		struct listener l = { 0 };

		child_start(&c, verify_and_close, NULL);
		l.from = c.from;
		listen_until(&l, 0);
		child_finish(&c);
	}
	ck_assert_uint_eq(ring_count(), 0);
	in_child(verify_and_close, NULL);
}
END_TEST

/* --- recovery that is killed over and over ----------------------------------------------------- */

static void write_young_data(UNUSED int to_parent, UNUSED void *arg)
{
	uint8_t *mem = pattern_mem(2 * MIB, 5);
	struct object *o;

	pool_fixture_create();
	pool_fixture_open_quiet();
	o = make_object(OBJECT_DISK);
	world->disks[0].id = id_of(o);
	write_bytes(o, 0, mem, 2 * MIB);
	for (unsigned int i = 0; i < 500; i++)
		write_bytes(o, i * UINT64_C(4096), mem + MIB + i, 4096);
	free(mem);
}

static void open_and_stay(int to_parent, UNUSED void *arg)
{
	pool_fixture_open();
	ck_assert_int_eq(write(to_parent, "", 1), 1);
	for (;;)
		(void)pause();
}

static void verify_young_data(UNUSED int to_parent, UNUSED void *arg)
{
	uint8_t *mem = pattern_mem(2 * MIB, 5);
	struct object *o;

	pool_fixture_open();
	o = get_object(world->disks[0].id);
	ck_assert_uint_eq(size_of(o), 2 * MIB);
	for (unsigned int i = 0; i < 500; i++)
		expect_bytes(o, i * UINT64_C(4096), mem + MIB + i, 4096);
	expect_bytes(o, 500 * UINT64_C(4096), mem + 500 * UINT64_C(4096),
		     2 * MIB - 500 * UINT64_C(4096));
	object_close(o);
	pool_fixture_close();
	free(mem);
}

START_TEST(recovery_may_be_killed_at_any_moment_and_starts_again)
{
	unsigned int killed_inside = 0;

	/* Nothing but the kill ends what is young: not the clock, not a ring that gets full. */
	pf.options.flush_interval_ns = HOUR_NS;
	pf.options.ring_bytes = 32 * MIB;
	in_child_killed(write_young_data, NULL);
	ck_assert_uint_gt(ring_frames_used(), 0);
	for (unsigned int i = 0; i < 24; i++) {
		struct child c;
		char done;

		child_start(&c, open_and_stay, NULL);
		sleep_ns((i % 12) * 10 * MS_NS);
		child_kill(&c);
		killed_inside += read(c.from, &done, 1) == 0;
		(void)close(c.from);
	}
	printf("24 recoveries, %u killed before pool_open() returned\n", killed_inside);
	ck_assert_uint_ge(killed_inside, 4);
	in_child(verify_young_data, NULL);
	in_child(verify_young_data, NULL);
}
END_TEST

/* --- ends and beginnings ----------------------------------------------------------------------- */

static void write_and_close(UNUSED int to_parent, UNUSED void *arg)
{
	uint8_t *mem = pattern_mem(MIB, 5);
	struct object *o;

	pool_fixture_create();
	pool_fixture_open();
	o = make_object(OBJECT_DISK);
	world->disks[0].id = id_of(o);
	for (unsigned int i = 0; i < 100; i++)
		write_bytes(o, i * UINT64_C(8000), mem + i, 5000);
	object_close(o);
	pool_fixture_close();
	free(mem);
}

/* The pool's log says when it replays: it must not. */
static void open_without_replay(UNUSED int to_parent, UNUSED void *arg)
{
	char path[PATH_BYTES], *text;
	struct pool_status st;
	struct object *o;

	ck_assert_int_eq(log_open(root_path(path, "log"), LOG_LEVEL_INFO), 0);
	pool_fixture_open();
	pool_status(pf.pool, &st);
	ck_assert_uint_eq(st.ring_frames, st.ring_frames_free);
	ck_assert_uint_eq(pool_fixture_counter("scos_resealed"), 0);
	o = get_object(world->disks[0].id);
	ck_assert_uint_eq(size_of(o), 99 * 8000 + 5000);
	object_close(o);
	pool_fixture_close();
	log_close();
	text = file_text(path);
	ck_assert_msg(!strstr(text, "replayed"), "%s", text);
	free(text);
}

START_TEST(a_clean_close_leaves_no_ring_and_nothing_to_replay)
{
	char path[PATH_BYTES];

	in_child(write_and_close, NULL);
	ck_assert_ptr_null(ring_path(path));
	for (size_t i = 0; i < sco_count(); i++) /* all sealed: nothing was left allocated */
		ck_assert_uint_lt(file_size(sco_path(path, i)), MIB);
	in_child(open_without_replay, NULL);
	ck_assert_ptr_null(ring_path(path));
}
END_TEST

static void try_second(UNUSED int to_parent, UNUSED void *arg)
{
	pool_fixture_open_fails(-EBUSY, "in use by another process");
}

static void open_and_close(UNUSED int to_parent, UNUSED void *arg)
{
	pool_fixture_open();
	pool_fixture_close();
}

static void create_only(UNUSED int to_parent, UNUSED void *arg)
{
	pool_fixture_create();
}

START_TEST(a_second_process_on_the_pool_is_refused)
{
	struct child first;
	char done;

	in_child(create_only, NULL);
	child_start(&first, open_and_stay, NULL);
	ck_assert_int_eq(read(first.from, &done, 1), 1);
	in_child(try_second, NULL);
	in_child(try_second, NULL);
	child_kill(&first);
	(void)close(first.from);
	in_child(open_and_close, NULL);
}
END_TEST

static void no_pool_here(UNUSED int to_parent, UNUSED void *arg)
{
	pool_fixture_open_fails(-ENOENT, "holds no pool");
}

static void create_twice(UNUSED int to_parent, UNUSED void *arg)
{
	struct err e = { 0 };

	pool_fixture_create();
	ck_assert_int_eq(pool_create(env_posix(), &pf.options, &e), -EEXIST);
	ck_assert_ptr_nonnull(strstr(e.message, "holds a pool already"));
	pool_fixture_open();
	pool_fixture_close();
}

START_TEST(an_empty_directory_is_no_pool_and_a_pool_is_not_made_twice)
{
	in_child(no_pool_here, NULL);
	in_child(create_twice, NULL);
}
END_TEST

/* --- range operations, unsynced ---------------------------------------------------------------- */

static void range_operations(UNUSED int to_parent, UNUSED void *arg)
{
	uint8_t *mem = pattern_mem(4 * MIB, 9);

	pool_fixture_create();
	pool_fixture_open();
	for (unsigned int i = 0; i < 2; i++) {
		struct object *o = make_object(i ? OBJECT_FILE : OBJECT_DISK);

		world->disks[i].id = id_of(o);
		write_bytes(o, 0, mem, 4 * MIB);
		if (i)
			ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
		ck_assert_int_eq(object_zero(o, 10000, 2 * MIB, false, NULL), 0);
		write_bytes(o, 50000, mem, 7000);
		ck_assert_int_eq(object_truncate(o, 3 * MIB + 100, NULL), 0);
		ck_assert_int_eq(object_truncate(o, 5 * MIB, NULL), 0);
		write_bytes(o, 4 * MIB + 5, mem, 100);
	}
	free(mem);
}

static void verify_ranges(UNUSED int to_parent, UNUSED void *arg)
{
	uint8_t *mem = pattern_mem(4 * MIB, 9), *want = calloc(1, 5 * MIB);

	memcpy(want, mem, 3 * MIB + 100);
	memset(want + 10000, 0, 2 * MIB);
	memcpy(want + 50000, mem, 7000);
	memcpy(want + 4 * MIB + 5, mem, 100);
	pool_fixture_open();
	for (unsigned int i = 0; i < 2; i++) {
		struct object *o = get_object(world->disks[i].id);

		ck_assert_uint_eq(size_of(o), 5 * MIB);
		expect_bytes(o, 0, want, 5 * MIB);
		object_close(o);
	}
	pool_fixture_close();
	free(mem);
	free(want);
}

START_TEST(ranges_and_cuts_that_nobody_synced_survive_a_kill)
{
	in_child_killed(range_operations, NULL);
	in_child(verify_ranges, NULL);
	in_child(verify_ranges, NULL);
}
END_TEST

/* --- deletion ---------------------------------------------------------------------------------- */

static void delete_and_die(UNUSED int to_parent, UNUSED void *arg)
{
	uint8_t *mem = pattern_mem(2 * MIB, 9);

	pool_fixture_create();
	pool_fixture_open();
	for (unsigned int i = 0; i < 2; i++) {
		struct object *o = make_object(i ? OBJECT_FILE : OBJECT_DISK);

		world->disks[i].id = id_of(o);
		write_bytes(o, 0, mem, 2 * MIB);
		ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
		write_bytes(o, MIB, mem, 2 * MIB);
		object_close(o);
		ck_assert_int_eq(object_delete(pf.pool, world->disks[i].id, NULL), 0);
	}
	free(mem);
}

static void verify_deleted(UNUSED int to_parent, UNUSED void *arg)
{
	struct pool_status st;
	struct object *o;

	pool_fixture_open();
	for (unsigned int i = 0; i < 2; i++)
		ck_assert_int_eq(object_open(pf.pool, world->disks[i].id, &o, NULL), -ENOENT);
	for (unsigned int i = 0; i < 3; i++)
		ck_assert_int_eq(pool_sync_backend(pf.pool, NULL), 0);
	pool_status(pf.pool, &st);
	ck_assert_uint_eq(st.live_bytes, 0);
	ck_assert_uint_eq(sco_count(), 0);
	pool_fixture_close();
}

START_TEST(a_deletion_survives_a_kill_and_its_space_comes_back)
{
	in_child_killed(delete_and_die, NULL);
	in_child(verify_deleted, NULL);
}
END_TEST

/* --- what was left open -------------------------------------------------------------------------- */

static void leave_two_open(UNUSED int to_parent, UNUSED void *arg)
{
	uint8_t *mem = pattern_mem(MIB / 2, 4);

	pool_fixture_create();
	pool_fixture_open_quiet();
	for (unsigned int i = 0; i < 2; i++) {
		struct object *o = make_object(OBJECT_DISK);

		world->disks[i].id = id_of(o);
		write_bytes(o, 0, mem, MIB / 2);
		if (i == 0)
			ck_assert_int_eq(object_truncate(o, 0, NULL), 0);
		sync_object(o);
	}
	free(mem);
}

/* And what was made in advance. */
static bool only_one_is_left(UNUSED void *arg)
{
	return sco_count() == 1;
}

static bool one_was_resealed(UNUSED void *arg)
{
	return pool_fixture_counter("scos_resealed") == 1;
}

static void look_what_became_of_them(UNUSED int to_parent, UNUSED void *arg)
{
	uint8_t *mem = pattern_mem(MIB / 2, 4);
	struct object *o;

	pool_fixture_open();
	wait_until(one_was_resealed, NULL, 20, "the one that lives");
	wait_until(only_one_is_left, NULL, 20, "the one that is dead");
	ck_assert_int_eq(pool_sync_backend(pf.pool, NULL), 0);
	ck_assert_uint_eq(pool_fixture_counter("scos_resealed"), 1);
	o = get_object(world->disks[1].id);
	expect_bytes(o, 0, mem, MIB / 2);
	object_close(o);
	pool_fixture_close();
	free(mem);
}

START_TEST(what_was_left_open_is_copied_if_it_lives_and_goes_if_not)
{
	in_child_killed(leave_two_open, NULL);
	in_child(look_what_became_of_them, NULL);
}
END_TEST

/* --- the first upload ---------------------------------------------------------------------------- */

static void write_some(UNUSED int to_parent, UNUSED void *arg)
{
	uint8_t *mem = pattern_mem(MIB / 4, 6);
	struct object *o;

	pool_fixture_open();
	o = get_object(world->disks[0].id);
	write_bytes(o, 0, mem, MIB / 4);
	sync_object(o);
	free(mem);
}

static void create_and_write_some(int to_parent, void *arg)
{
	struct object *o;

	pool_fixture_create();
	pool_fixture_open_quiet(); /* there is a root */
	o = make_object(OBJECT_DISK);
	world->disks[0].id = id_of(o);
	sync_object(o);
	object_close(o);
	pool_fixture_close();
	write_some(to_parent, arg);
}

static bool there_is_a_root(UNUSED void *arg)
{
	return pool_fixture_counter("roots") > 0;
}

static void see_that_it_waits(UNUSED int to_parent, void *waits)
{
	const uint64_t start_ns = clock_mono_ns();

	pool_fixture_open();
	wait_until(there_is_a_root, NULL, 20, "a root");
	if (waits)
		ck_assert_uint_ge(clock_mono_ns() - start_ns, pf.options.upload_settle_ns);
	else
		ck_assert_uint_lt(clock_mono_ns() - start_ns, pf.options.upload_settle_ns);
	pool_fixture_close();
}

START_TEST(behind_a_kill_the_first_upload_waits)
{
	pf.options.upload_settle_ns = SECOND_NS;
	in_child_killed(create_and_write_some, NULL);
	in_child(see_that_it_waits, world);
	pf.options.upload_settle_ns = HOUR_NS;
	in_child(see_that_it_waits, NULL); /* behind a clean end */
}
END_TEST

static void put_all(UNUSED int to_parent, UNUSED void *arg)
{
	pool_fixture_open();
	ck_assert_int_eq(pool_sync_backend(pf.pool, NULL), 0);
	ck_assert_uint_eq(pool_fixture_counter("roots"), 1);
}

START_TEST(who_asks_for_it_does_not_wait)
{
	pf.options.upload_settle_ns = HOUR_NS;
	in_child_killed(create_and_write_some, NULL);
	in_child_killed(put_all, NULL);
}
END_TEST

START_TEST(of_many_that_are_killed_one_uploads)
{
	pf.options.upload_settle_ns = HOUR_NS;
	in_child_killed(create_and_write_some, NULL);
	for (unsigned int i = 0; i < 16; i++)
		in_child_killed(write_some, NULL);
	in_child(see_that_it_waits, NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_crash");
	TCase *t = tcase_create("crash");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_test(t, every_acked_write_is_there_after_kills_at_random_moments);
	tcase_add_test(t, recovery_may_be_killed_at_any_moment_and_starts_again);
	tcase_add_test(t, a_clean_close_leaves_no_ring_and_nothing_to_replay);
	tcase_add_test(t, a_second_process_on_the_pool_is_refused);
	tcase_add_test(t, an_empty_directory_is_no_pool_and_a_pool_is_not_made_twice);
	tcase_add_test(t, ranges_and_cuts_that_nobody_synced_survive_a_kill);
	tcase_add_test(t, a_deletion_survives_a_kill_and_its_space_comes_back);
	tcase_add_test(t, what_was_left_open_is_copied_if_it_lives_and_goes_if_not);
	tcase_add_test(t, behind_a_kill_the_first_upload_waits);
	tcase_add_test(t, who_asks_for_it_does_not_wait);
	tcase_add_test(t, of_many_that_are_killed_one_uploads);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
