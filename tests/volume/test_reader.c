/* Reads in flight: whatever lies where, while it moves, and when it is damaged. */
#include "support_damage.h"

#include "common/thread.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static void begin(void)
{
	pool_fixture_create();
	pool_fixture_open();
}

#define READS 40u

/* So many reads, and memory for each. */
struct reads {
	struct volume_reader *reader;
	struct volume_read read[READS];
	uint8_t *mem;
	size_t room_bytes; /* of each */
};

static void reads_open(struct reads *rs, size_t room_bytes)
{
	struct err e;

	memset(rs, 0, sizeof(*rs));
	rs->room_bytes = room_bytes;
	rs->mem = aligned_mem(READS * room_bytes);
	ck_assert_int_eq(volume_reader_open(pf.pool, &rs->reader, &e), 0);
	volume_reader_pin(rs->reader, rs->mem, READS * room_bytes / 2);
}

static void reads_close(struct reads *rs)
{
	ck_assert_ptr_null(volume_read_reap(rs->reader, true));
	volume_reader_close(rs->reader);
	free(rs->mem);
}

static void start(struct reads *rs, unsigned int i, struct object *o, uint64_t at, size_t len)
{
	rs->read[i] = (struct volume_read){
		.object = o,
		.offset_bytes = at,
		.buf = rs->mem + i * rs->room_bytes,
		.len_bytes = len,
		.owner = &rs->read[i],
		.result = 12345,
	};
	volume_read_start(rs->reader, &rs->read[i]);
}

/* All of them, each once. */
static void reap_all(struct reads *rs, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		struct volume_read *read = volume_read_reap(rs->reader, true);

		ck_assert_ptr_nonnull(read);
		ck_assert_ptr_eq(read->owner, read);
		read->owner = NULL;
	}
	ck_assert_ptr_null(volume_read_reap(rs->reader, false));
}

/* --- where it lies ----------------------------------------------------------------------------- */

/* In order on flash, scattered over it, in the ring, zeros and holes; all at the same time. */
START_TEST(many_reads_of_all_kinds_are_in_flight_together)
{
	const size_t size = 6 * MIB;
	struct object *o = make_object(_i ? OBJECT_FILE : OBJECT_DISK);
	uint8_t *want = pattern_mem(size, 3);
	struct rng r = { 11 };
	struct reads rs;

	write_bytes(o, 0, want, size);
	sync_object(o);
	for (unsigned int i = 0; i < 900; i++) {
		uint64_t at = rng_below(&r, size / 4096) * 4096;

		if (i == 600) {
			ck_assert_int_eq(object_zero(o, MIB, 300 * KIB, false, NULL), 0);
			memset(want + MIB, 0, 300 * KIB);
			sync_object(o);
		}
		pattern_fill(want + at, 4096, 1000 + i);
		write_bytes(o, at, want + at, 4096);
	}
	reads_open(&rs, MIB);
	for (unsigned int round = 0; round < TEST_SCALE(20); round++) {
		for (unsigned int i = 0; i < READS; i++) {
			size_t len = i % 3 ? 4096 : 4096 * (1 + rng_below(&r, 256));

			start(&rs, i, o, rng_below(&r, (size - len) / 4096 + 1) * 4096, len);
		}
		reap_all(&rs, READS);
		for (unsigned int i = 0; i < READS; i++) {
			const struct volume_read *read = &rs.read[i];

			ck_assert_int_eq(read->result, (ssize_t)read->len_bytes);
			ck_assert_mem_eq(read->buf, want + read->offset_bytes, read->len_bytes);
		}
	}
	reads_close(&rs);
	object_close(o);
	free(want);
}
END_TEST

START_TEST(reads_end_at_the_end_and_need_no_alignment)
{
	struct object *o = make_object(OBJECT_DISK);
	uint8_t *want = pattern_mem(100000, 5);
	struct reads rs;

	write_bytes(o, 0, want, 100000);
	reads_open(&rs, 128 * KIB);
	start(&rs, 0, o, 0, 128 * KIB);
	start(&rs, 1, o, 98304, 4096);
	start(&rs, 2, o, 100000, 4096);
	start(&rs, 3, o, UINT64_C(1) << 40, 4096);
	start(&rs, 4, o, 77, 5000);
	start(&rs, 5, o, 4096, 0);
	reap_all(&rs, 6);
	ck_assert_int_eq(rs.read[0].result, 100000);
	ck_assert_mem_eq(rs.read[0].buf, want, 100000);
	ck_assert_int_eq(rs.read[1].result, 100000 - 98304);
	ck_assert_mem_eq(rs.read[1].buf, want + 98304, 100000 - 98304);
	ck_assert_int_eq(rs.read[2].result, 0);
	ck_assert_int_eq(rs.read[3].result, 0);
	ck_assert_int_eq(rs.read[4].result, 5000);
	ck_assert_mem_eq(rs.read[4].buf, want + 77, 5000);
	ck_assert_int_eq(rs.read[5].result, 0);
	reads_close(&rs);
	object_close(o);
	free(want);
}
END_TEST

/* More pieces than a reader has at a time. */
START_TEST(scattered_long_reads_wait_for_each_other)
{
	const size_t size = 8 * MIB;
	struct object *o = make_object(OBJECT_DISK);
	uint8_t *want = pattern_mem(size, 9);
	struct reads rs;

	for (uint64_t step = 0; step < 2; step++)
		for (uint64_t at = step * 4096; at < size; at += 8192)
			write_bytes(o, at, want + at, 4096);
	sync_object(o);
	reads_open(&rs, MIB);
	for (unsigned int i = 0; i < 8; i++)
		start(&rs, i, o, i * MIB, MIB);
	reap_all(&rs, 8);
	for (unsigned int i = 0; i < 8; i++) {
		ck_assert_int_eq(rs.read[i].result, (ssize_t)MIB);
		ck_assert_mem_eq(rs.read[i].buf, want + i * MIB, MIB);
	}
	reads_close(&rs);
	object_close(o);
	free(want);
}
END_TEST

/* --- while it moves ---------------------------------------------------------------------------- */

#define MOVING_CLUSTERS 1024u

struct mover {
	struct object *o;
	uint64_t disk;
	unsigned int started[MOVING_CLUSTERS]; /* atomic: newest generation whose write began */
	unsigned int ended[MOVING_CLUSTERS];   /* atomic: newest one that was acknowledged */
	bool stop;			       /* atomic */
};

/* Overwrites at random, which keeps sealing, checkpoints and the cleaner busy. */
static void mover_main(void *arg)
{
	struct mover *m = arg;
	uint8_t *mem = aligned_mem(4096);
	struct rng r = { 17 };

	for (unsigned int n = 1; !__atomic_load_n(&m->stop, __ATOMIC_ACQUIRE); n++) {
		unsigned int cluster = (unsigned int)rng_below(&r, MOVING_CLUSTERS);
		unsigned int generation = m->started[cluster] + 1;
		struct err e;

		cluster_fill(mem, m->disk, cluster, generation);
		__atomic_store_n(&m->started[cluster], generation, __ATOMIC_RELEASE);
		if (object_write(m->o, cluster * UINT64_C(4096), mem, 4096, &e) < 0)
			abort();
		__atomic_store_n(&m->ended[cluster], generation, __ATOMIC_RELEASE);
		if (n % 500 == 0 && pool_checkpoint(pf.pool, &e) < 0)
			abort();
	}
	free(mem);
}

/* Each read shows each sector as some write between its start and its end left it. */
START_TEST(reads_agree_with_writes_and_cleaning_beside_them)
{
	static struct mover m;
	unsigned int floor[READS][16];
	struct thread *thread;
	struct rng r = { 23 };
	struct reads rs;

	memset(&m, 0, sizeof(m));
	m.o = make_object(OBJECT_DISK);
	m.disk = id_of(m.o);
	ck_assert_int_eq(object_truncate(m.o, MOVING_CLUSTERS * UINT64_C(4096), NULL), 0);
	reads_open(&rs, 64 * KIB);
	ck_assert_int_eq(thread_start("mover", mover_main, &m, &thread), 0);
	/* Until SCOs went, too, however slow the writer is. */
	for (unsigned int round = 0;
	     round < TEST_SCALE(400) || pool_fixture_counter("scos_deleted") == 0; round++) {
		for (unsigned int i = 0; i < READS; i++) {
			unsigned int count = i % 4 ? 1 : 16;
			uint64_t first = rng_below(&r, MOVING_CLUSTERS - count + 1);

			for (unsigned int j = 0; j < count; j++)
				floor[i][j] =
					__atomic_load_n(&m.ended[first + j], __ATOMIC_ACQUIRE);
			start(&rs, i, m.o, first * 4096, count * 4096);
		}
		reap_all(&rs, READS);
		for (unsigned int i = 0; i < READS; i++) {
			const struct volume_read *read = &rs.read[i];
			uint64_t first = read->offset_bytes / 4096;

			ck_assert_int_eq(read->result, (ssize_t)read->len_bytes);
			for (unsigned int at = 0; at < read->len_bytes; at += SECTOR_BYTES) {
				uint64_t sector =
					read->offset_bytes / SECTOR_BYTES + at / SECTOR_BYTES;
				uint64_t seen = sector_generation((uint8_t *)read->buf + at, m.disk,
								  sector);
				unsigned int j = at / 4096;

				ck_assert_uint_ge(seen, floor[i][j]);
				ck_assert_uint_le(seen, __atomic_load_n(&m.started[first + j],
									__ATOMIC_ACQUIRE));
			}
		}
	}
	__atomic_store_n(&m.stop, true, __ATOMIC_RELEASE);
	thread_join(thread);
	reads_close(&rs);
	object_close(m.o);
}
END_TEST

/* --- damage ------------------------------------------------------------------------------------ */

START_TEST(damage_fails_the_reads_of_it_and_no_others)
{
	char path[PATH_BYTES];
	struct object *o;
	struct reads rs;

	in_child(closed_pool, NULL);
	flip_bit(path, find_cluster(world->disk, 10, 1, path) + 99, 2);
	pool_fixture_open();
	o = get_object(world->disk);
	reads_open(&rs, 64 * KIB);
	start(&rs, 0, o, 9 * 4096, 4096);
	start(&rs, 1, o, 10 * 4096, 4096);
	start(&rs, 2, o, 0, 16 * 4096);
	start(&rs, 3, o, 11 * 4096, 4096);
	reap_all(&rs, 4);
	ck_assert_int_eq(rs.read[0].result, 4096);
	ck_assert_int_eq(rs.read[1].result, -EBADMSG);
	ck_assert_int_eq(rs.read[2].result, -EBADMSG);
	ck_assert_int_eq(rs.read[3].result, 4096);
	ck_assert_uint_eq(sector_generation(rs.read[3].buf, world->disk, 88), 1);
	reads_close(&rs);
	object_close(o);
}
END_TEST

START_TEST(a_file_that_ends_early_fails_the_reads_behind_its_end)
{
	char path[PATH_BYTES];
	struct object *o;

	uint8_t *mem = aligned_mem(CLUSTERS * 4096);

	in_child(closed_pool, NULL);
	pool_fixture_open();
	o = get_object(world->disk);
	/* Its index is behind its data: now it is in RAM. */
	ck_assert_int_eq(read_in_flight(o, 0, mem, CLUSTERS * 4096), CLUSTERS * 4096);
	cut_file(path, find_cluster(world->disk, 100, 1, path));
	ck_assert_int_eq(read_in_flight(o, 99 * 4096, mem, 4096), 4096);
	ck_assert_int_lt(read_in_flight(o, 100 * 4096, mem, 4096), 0);
	object_close(o);
	close_damaged();
	free(mem);
}
END_TEST

START_TEST(a_deleted_object_has_nothing_to_read)
{
	struct object *o = make_object(OBJECT_DISK);
	uint8_t *mem = pattern_mem(4096, 1);

	write_bytes(o, 0, mem, 4096);
	ck_assert_int_eq(object_delete(pf.pool, id_of(o), NULL), 0);
	ck_assert_int_eq(read_in_flight(o, 0, mem, 4096), -ESTALE);
	object_close(o);
	free(mem);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("reader");
	TCase *t = tcase_create("reads"), *d = tcase_create("damage");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_loop_test(t, many_reads_of_all_kinds_are_in_flight_together, 0, 2);
	tcase_add_test(t, reads_end_at_the_end_and_need_no_alignment);
	tcase_add_test(t, scattered_long_reads_wait_for_each_other);
	tcase_add_test(t, reads_agree_with_writes_and_cleaning_beside_them);
	tcase_add_test(t, a_deleted_object_has_nothing_to_read);
	suite_add_tcase(s, t);
	pool_fixture_add(d, damage_begin);
	tcase_add_test(d, damage_fails_the_reads_of_it_and_no_others);
	tcase_add_test(d, a_file_that_ends_early_fails_the_reads_behind_its_end);
	suite_add_tcase(s, d);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
