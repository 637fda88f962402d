/* The log of one stream: places, publishing, batches, group commits, and failing devices. */
#include "volume/stream.h"

#include "common/crc32c.h"
#include "support_pool.h"
#include "volume/sco_make.h"

#include <stdlib.h>
#include <string.h>

#define FRAMES	    16u
#define FRAME_BYTES (32 * KIB)

static struct stream_world w;
static struct writeback writeback;
static struct stream s;
static uint64_t next_number;
static unsigned int flush_wishes, seal_wishes, rooms, failures; /* atomic */

/* --- an env that fails as told ------------------------------------------------------------------ */

static struct env_ops failing_ops;
static struct env failing = { &failing_ops };
static int fail_fdatasync, fail_pwrite, fail_sync_dir;
static unsigned int fdatasyncs, dir_syncs; /* atomic */

static int try_fdatasync(UNUSED struct env *env, struct env_file *f)
{
	__atomic_fetch_add(&fdatasyncs, 1, __ATOMIC_SEQ_CST);
	return fail_fdatasync ? fail_fdatasync : env_fdatasync(env_posix(), f);
}

static int try_pwrite(UNUSED struct env *env, struct env_file *f, const void *buf, size_t len,
		      uint64_t offset)
{
	return fail_pwrite ? fail_pwrite : env_pwrite(env_posix(), f, buf, len, offset);
}

static int try_sync_dir(UNUSED struct env *env, const char *path)
{
	__atomic_fetch_add(&dir_syncs, 1, __ATOMIC_SEQ_CST);
	return fail_sync_dir ? fail_sync_dir : env_sync_dir(env_posix(), path);
}

static void (*while_making)(void); /* called once, when a SCO is being made */

static int new_number(UNUSED void *arg, uint64_t *ret_number, UNUSED struct err *e)
{
	if (while_making)
		TAKE_PTR(while_making)();
	*ret_number = ++next_number;
	return 0;
}

static void count_up(void *arg)
{
	__atomic_fetch_add((unsigned int *)arg, 1, __ATOMIC_SEQ_CST);
}

static void nothing_to_count(UNUSED void *arg, UNUSED uint64_t bytes)
{
}

static void wants_flush(UNUSED void *arg)
{
	count_up(&flush_wishes);
}
static void wants_seal(UNUSED void *arg)
{
	count_up(&seal_wishes);
}
static void device_failed(UNUSED void *arg)
{
	/* Before anybody could be told. */
	ck_assert_int_eq(s.error, 0);
	count_up(&failures);
}
static void made_room(UNUSED void *arg)
{
	count_up(&rooms);
}

static void begin(void)
{
	char path[PATH_BYTES];
	struct flash_dir_option dir = { .path = root_path(path, "flash") };
	struct ring_options ro = { .pool_dir = pf.dir,
				   .shm_dir = pf.shm,
				   .ring_bytes = 4096 + FRAMES * FRAME_BYTES,
				   .frame_bytes = FRAME_BYTES,
				   .epoch = 3 };
	struct meta_options mo = { 0 };
	char meta_dir[PATH_BYTES];

	failing_ops = *env_posix()->ops;
	failing_ops.fdatasync = try_fdatasync;
	failing_ops.fdatasync_all = NULL;
	failing_ops.pwrite = try_pwrite;
	failing_ops.sync_dir = try_sync_dir;
	fail_fdatasync = fail_pwrite = fail_sync_dir = 0;
	fdatasyncs = dir_syncs = flush_wishes = seal_wishes = rooms = failures = 0;
	next_number = 0;
	w = (struct stream_world){ .env = &failing,
				   .pool = { { 4, 2 } },
				   .epoch = 3,
				   .sco_slots = 128,
				   .writeback = &writeback,
				   .new_sco_number = new_number,
				   .batch_is_full = nothing_to_count,
				   .sco_is_full = nothing_to_count,
				   .wants_flush = wants_flush,
				   .wants_seal = wants_seal,
				   .wants_sco = wants_seal,
				   .device_failed = device_failed,
				   .made_room = made_room };
	ck_assert_int_eq(meta_rocksdb_open(root_path(meta_dir, "meta"), &mo, &w.meta, NULL), 0);
	ck_assert_int_eq(flash_open(w.env, &w.pool, &dir, 1, 0, true, &w.flash, NULL), 0);
	ck_assert_int_eq(sco_table_open(w.env, w.flash, &w.scos), 0);
	ck_assert_int_eq(ring_open(w.env, &ro, &w.ring, NULL), 0);
	ck_assert_int_eq(writeback_init(&writeback, w.env, 4, NULL, 0), 0);
	stream_init(&s, &w, 16, OBJECT_DISK, 16);
}

static void end(void)
{
	stream_done(&s);
	writeback_done(&writeback);
	ring_close(w.ring, false);
	sco_table_close(w.scos);
	flash_close(w.flash);
	meta_close(w.meta);
}

/* --- writers ------------------------------------------------------------------------------------ */

static void reserve(unsigned int want, struct reservation *r)
{
	struct err e = { 0 };

	ck_assert_msg(stream_reserve(&s, want, 0, r, &e) == 0, "%s", e.message);
}

static lsn_t publish(struct reservation *r, uint64_t cluster)
{
	struct log_entry entry = { .object = 16,
				   .first_cluster = cluster,
				   .size_bytes = (cluster + r->count) * 4096,
				   .cluster_count = r->count ? r->count : 1,
				   .kind = r->count ? ENTRY_DATA : ENTRY_ZERO };

	for (unsigned int i = 0; i < r->count; i++) {
		pattern_fill(r->data + (size_t)i * 4096, 4096, cluster + i);
		stream_set_crc(r, i, crc32c(0, r->data + (size_t)i * 4096, 4096));
	}
	return stream_publish(r, &entry, NULL, 0);
}

/* One cluster, published and complete. */
static lsn_t write_one(uint64_t cluster)
{
	struct reservation r;
	lsn_t lsn;

	reserve(1, &r);
	ck_assert_uint_eq(r.count, 1);
	lsn = publish(&r, cluster);
	stream_complete(&r);
	return lsn;
}

START_TEST(lsns_are_dense_from_one)
{
	for (lsn_t lsn = 1; lsn <= 200; lsn++) {
		ck_assert_uint_eq(write_one(lsn), lsn);
		ck_assert_uint_eq(stream_last_lsn(&s), lsn);
		ck_assert_uint_lt(stream_durable_lsn(&s), lsn);
		if (lsn % 50 == 0) {
			ck_assert_int_eq(stream_sync(&s, lsn, NULL), 0);
			ck_assert_uint_eq(stream_durable_lsn(&s), lsn);
		}
	}
	ck_assert(!stream_is_dirty(&s));
	ck_assert_uint_eq(ring_free_count(w.ring), FRAMES);
}
END_TEST

START_TEST(places_follow_one_another_and_the_bytes_arrive_there)
{
	uint8_t *mem = aligned_mem(4096), *want = aligned_mem(4096);
	struct reservation r[5];
	struct sco *sco;

	for (unsigned int i = 0; i < 5; i++)
		reserve(i == 2 ? 3 : 1, &r[i]);
	/* Slot 0 header, 1 entry block, then clusters in the order of reservation. */
	ck_assert_uint_eq(r[0].slot, 2);
	ck_assert_uint_eq(r[1].slot, 3);
	ck_assert_uint_eq(r[2].slot, 4);
	ck_assert_uint_eq(r[3].slot, 7);
	for (unsigned int i = 5; i-- > 0;) { /* published in another order */
		publish(&r[i], i * 10);
		stream_complete(&r[i]);
	}
	sco = r[0].sco;
	ck_assert_int_eq(stream_sync(&s, 5, NULL), 0);
	for (unsigned int i = 0; i < 3; i++) {
		ck_assert_int_eq(sco_read(w.scos, sco, 4 + i, 1, mem, NULL), 0);
		pattern_fill(want, 4096, 20 + i);
		ck_assert_int_eq(memcmp(mem, want, 4096), 0);
	}
	free(mem);
	free(want);
}
END_TEST

START_TEST(young_clusters_are_read_from_the_ring_until_they_are_durable)
{
	uint8_t mem[4096], want[4096];
	struct reservation r;
	struct sco *sco;
	uint16_t slot;

	reserve(1, &r);
	publish(&r, 5);
	sco = r.sco;
	slot = r.slot;
	pattern_fill(want, sizeof(want), 5);
	ck_assert_int_eq(stream_read_young(&s, sco, slot, mem), 1);
	ck_assert_int_eq(memcmp(mem, want, sizeof(want)), 0);
	stream_complete(&r);
	ck_assert_int_eq(stream_read_young(&s, sco, slot, mem), 1);
	ck_assert_int_eq(stream_sync(&s, 1, NULL), 0);
	ck_assert_int_eq(stream_read_young(&s, sco, slot, mem), 0);
	ck_assert_int_eq(stream_read_young(&s, sco, 60000, mem), 0);
}
END_TEST

START_TEST(what_is_durable_already_is_not_synced_again)
{
	unsigned int before;

	for (unsigned int i = 0; i < 10; i++)
		write_one(i);
	ck_assert_int_eq(stream_sync(&s, 10, NULL), 0);
	ck_assert_uint_ge(fdatasyncs, 1);
	ck_assert_uint_ge(dir_syncs, 1); /* the name of the new SCO */
	before = fdatasyncs + dir_syncs;
	ck_assert_int_eq(stream_sync(&s, 10, NULL), 0);
	ck_assert_int_eq(stream_sync(&s, 3, NULL), 0);
	ck_assert_int_eq(stream_sync(&s, 0, NULL), 0);
	ck_assert_uint_eq(fdatasyncs + dir_syncs, before);
	write_one(11);
	ck_assert_int_eq(stream_sync(&s, 11, NULL), 0);
	ck_assert_uint_eq(fdatasyncs + dir_syncs, before + 1); /* one file, its name is durable */
}
END_TEST

START_TEST(a_full_ring_is_said_and_asks_for_a_flush)
{
	struct reservation r;
	struct err e = { 0 };
	unsigned int taken = 0;
	int rc;

	while ((rc = stream_reserve(&s, 7, 0, &r, &e)) == 0) {
		publish(&r, taken * 7);
		stream_complete(&r);
		ck_assert_uint_le(++taken, 2 * FRAMES);
	}
	ck_assert_int_eq(rc, -EAGAIN);
	ck_assert_uint_gt(flush_wishes, 0);
	/* One stream never takes all. */
	ck_assert_uint_ge(ring_free_count(w.ring), FRAMES / 4);
	ck_assert_int_eq(stream_sync(&s, stream_last_lsn(&s), NULL), 0);
	ck_assert_uint_gt(rooms, 0);
	ck_assert_int_eq(stream_reserve(&s, 7, 0, &r, &e), 0);
	publish(&r, 0);
	stream_complete(&r);
	ck_assert_int_eq(stream_sync(&s, stream_last_lsn(&s), NULL), 0);
}
END_TEST

START_TEST(a_reservation_that_comes_to_nothing_is_void)
{
	struct reservation r, kept;

	reserve(2, &r);
	reserve(1, &kept);
	publish(&kept, 9);
	stream_complete(&r); /* without publishing */
	stream_complete(&kept);
	ck_assert_uint_eq(stream_last_lsn(&s), 1);
	ck_assert_int_eq(stream_sync(&s, 1, NULL), 0);
	ck_assert_uint_eq(ring_free_count(w.ring), FRAMES);
}
END_TEST

START_TEST(full_scos_are_closed_and_want_to_be_sealed)
{
	for (unsigned int i = 0; i < 400; i++) {
		write_one(i);
		if (i % 20 == 19)
			ck_assert_int_eq(stream_sync(&s, stream_last_lsn(&s), NULL), 0);
	}
	ck_assert_uint_ge(next_number, 4);
	ck_assert_uint_ge(seal_wishes, 3);
	for (uint64_t n = 1; n < next_number; n++) {
		struct sco *sco = sco_get(w.scos, n);
		struct sco_to_seal it = { sco, stream_durable_lsn(&s) };
		struct err e = { 0 };

		ck_assert_int_eq(sco_life(w.scos, sco), SCO_LIFE_FULL);
		ck_assert_msg(sco_seal(&w, &it, 1, &e) == 0, "%s", e.message);
		ck_assert_uint_ge(sco->last_lsn, sco->first_lsn);
		sco_unref(w.scos, sco);
	}
}
END_TEST

static void abandon(void)
{
	stream_abandon(&s);
}

START_TEST(an_object_deleted_while_its_next_sco_is_made_keeps_none)
{
	struct sco *sco;
	lsn_t last = 0;

	for (unsigned int i = 0; i < 80; i++) { /* more than half of a SCO */
		last = write_one(i);
		if (i % 20 == 19)
			ck_assert_int_eq(stream_sync(&s, last, NULL), 0);
	}
	while_making = abandon;
	stream_prepare(&s);
	ck_assert_uint_eq(next_number, 2);
	ck_assert(stream_is_over(&s));
	sco = sco_get(w.scos, 2);
	ck_assert_ptr_null(sco);
}
END_TEST

/* More than half of a SCO, synced; as much as makes the next one worth making. */
static void fill_more_than_half(void)
{
	for (unsigned int i = 0; i < 80; i++)
		if (write_one(i) % 20 == 0)
			ck_assert_int_eq(stream_sync(&s, stream_last_lsn(&s), NULL), 0);
}

START_TEST(the_next_sco_is_made_once_and_let_go_with_the_stream)
{
	struct sco *next;

	stream_prepare(&s);
	ck_assert_uint_eq(next_number, 0);
	fill_more_than_half();
	stream_prepare(&s);
	stream_prepare(&s);
	ck_assert_uint_eq(next_number, 2);
	next = sco_get(w.scos, 2);
	ck_assert_ptr_eq(s.next_sco, next);
	ck_assert_uint_eq(next->refs, 2);
	stream_done(&s);
	ck_assert_uint_eq(next->refs, 1);
	sco_unref(w.scos, next);
	stream_init(&s, &w, 17, OBJECT_DISK, 17); /* for the end */
}
END_TEST

/* Nobody waits for it: who needs it tries again, and is told. */
START_TEST(a_next_sco_that_cannot_be_made_is_no_failure)
{
	struct reservation r;

	fill_more_than_half();
	fail_pwrite = -EIO;
	stream_prepare(&s);
	fail_pwrite = 0;
	ck_assert_ptr_null(s.next_sco);
	ck_assert_int_eq(s.error, 0);
	ck_assert_uint_eq(failures, 0);
	ck_assert_uint_eq(next_number, 2); /* its number is not used again */
	for (unsigned int i = 80; i < 130; i++)
		if (write_one(i) % 20 == 0)
			ck_assert_int_eq(stream_sync(&s, stream_last_lsn(&s), NULL), 0);
	reserve(0, &r);
	(void)publish(&r, 5);
	stream_complete(&r);
	ck_assert_uint_eq(s.sco->number, 3);
	ck_assert_int_eq(stream_sync(&s, stream_last_lsn(&s), NULL), 0);
}
END_TEST

/* The ring is full when the first write of the epoch wants a batch, then flash gets short. */
START_TEST(a_sco_that_was_never_written_goes_and_leaves_its_cut_to_the_next)
{
	struct batch *taken[FRAMES];
	struct reservation r;

	s.cut_sco = 7;
	s.cut_lsn = 99;
	for (unsigned int i = 0; i < FRAMES; i++)
		taken[i] = ring_take(w.ring);
	ck_assert_int_eq(stream_reserve(&s, 1, 0, &r, NULL), -EAGAIN);
	ck_assert_ptr_nonnull(s.sco);
	ck_assert(s.sco->has_cut);
	stream_give_space(&s);
	ck_assert_ptr_null(s.sco);
	ck_assert_uint_eq(flash_used_bytes(w.flash), 0);
	for (unsigned int i = 0; i < FRAMES; i++)
		ring_put(w.ring, taken[i]);
	(void)write_one(0);
	ck_assert_uint_eq(s.sco->number, 2);
	ck_assert(s.sco->has_cut);
	ck_assert_uint_eq(s.sco->cut_lsn, 99);
}
END_TEST

START_TEST(retiring_starts_a_new_sco_with_the_next_write)
{
	stream_retire_sco(&s); /* none yet */
	write_one(1);
	stream_retire_sco(&s);
	stream_retire_sco(&s);
	write_one(2);
	ck_assert_uint_eq(next_number, 2);
	ck_assert_int_eq(stream_sync(&s, 2, NULL), 0);
}
END_TEST

START_TEST(a_direct_write_is_durable_with_the_batch_that_names_it)
{
	uint8_t *mem = pattern_mem(20 * 4096, 3), *back = aligned_mem(20 * 4096);
	struct log_entry entry = {
		.object = 16, .size_bytes = 20 * 4096, .cluster_count = 20, .kind = ENTRY_DATA
	};
	struct reservation r;
	struct env_file *f;
	struct sco *sco;

	ck_assert_int_eq(stream_reserve(&s, 20, RESERVE_DIRECT, &r, NULL), 0);
	ck_assert_uint_eq(r.count, 20);
	ck_assert_ptr_null(r.data);
	sco = r.sco;
	ck_assert_int_eq(sco_file(w.scos, sco, &f, NULL), 0);
	ck_assert_int_eq(env_pwrite(w.env, f, mem, 20 * 4096, r.slot * UINT64_C(4096)), 0);
	for (unsigned int i = 0; i < 20; i++)
		stream_set_crc(&r, i, crc32c(0, mem + (size_t)i * 4096, 4096));
	stream_publish(&r, &entry, NULL, 0);
	stream_complete(&r);
	ck_assert_int_eq(stream_read_young(&s, sco, 2, back), 0); /* not in the ring */
	ck_assert_int_eq(stream_sync(&s, 1, NULL), 0);
	ck_assert_int_eq(sco_read(w.scos, sco, 2, 20, back, NULL), 0);
	ck_assert_int_eq(memcmp(mem, back, 20 * 4096), 0);
	ck_assert_uint_eq(s.direct_bytes, 0);
	free(mem);
	free(back);
}
END_TEST

/* --- failing devices ---------------------------------------------------------------------------- */

START_TEST(a_failed_sync_poisons_the_stream_for_good_and_keeps_its_frames)
{
	static int *const knobs[] = { &fail_fdatasync, &fail_pwrite, &fail_sync_dir };
	struct reservation r;
	struct err e = { 0 };

	write_one(1);
	if (_i == 1) /* not the header of the SCO: that is no loss */
		ck_assert_uint_eq(next_number, 1);
	*knobs[_i] = -EIO;
	ck_assert_int_eq(stream_sync(&s, 1, &e), -EIO);
	*knobs[_i] = 0;
	/* The page may be marked clean now: trying again would lie. */
	ck_assert_int_eq(stream_sync(&s, 1, &e), -EIO);
	ck_assert_int_eq(stream_reserve(&s, 1, 0, &r, &e), -EIO);
	ck_assert_uint_eq(stream_durable_lsn(&s), 0);
	ck_assert_uint_lt(ring_free_count(w.ring), FRAMES);
}
END_TEST

/* Whatever the system says of it: -ENOSPC means "wait" to callers, and -EIO is what somebody waits for. */
START_TEST(a_device_that_failed_is_told_once_and_is_an_io_error)
{
	static const int codes[] = { -EROFS, -ENOSPC, -ENODEV };
	struct reservation r;

	write_one(1);
	fail_fdatasync = codes[_i];
	ck_assert_int_eq(stream_sync(&s, 1, NULL), -EIO);
	ck_assert_int_eq(stream_sync(&s, 1, NULL), -EIO);
	ck_assert_int_eq(stream_reserve(&s, 1, 0, &r, NULL), -EIO);
	ck_assert_uint_eq(failures, 1);
	fail_fdatasync = 0;
}
END_TEST

START_TEST(damaged_bytes_are_no_failure_of_a_device)
{
	write_one(1);
	stream_poison(&s, -EUCLEAN, "a test");
	ck_assert_int_eq(stream_sync(&s, 1, NULL), -EUCLEAN);
	ck_assert_uint_eq(failures, 0);
}
END_TEST

/* Else the writers of the others would wait for ever. */
START_TEST(a_ring_full_of_a_failed_streams_frames_is_an_error_for_the_others)
{
	struct batch *taken[FRAMES];
	struct reservation r;
	struct stream other;

	(void)write_one(0);
	for (unsigned int i = 1; i < FRAMES; i++)
		taken[i] = ring_take(w.ring);
	stream_init(&other, &w, 17, OBJECT_DISK, 17);
	ck_assert_int_eq(stream_reserve(&other, 1, 0, &r, NULL), -EAGAIN);
	fail_fdatasync = -EIO;
	ck_assert_int_eq(stream_sync(&s, 1, NULL), -EIO);
	ck_assert_int_eq(stream_reserve(&other, 1, 0, &r, NULL), -EAGAIN);
	w.ring->stuck_count += FRAMES - 1; /* as if those were of failed streams, too */
	ck_assert_int_eq(stream_reserve(&other, 1, 0, &r, NULL), -EIO);
	w.ring->stuck_count -= FRAMES - 1;
	for (unsigned int i = 1; i < FRAMES; i++)
		ring_put(w.ring, taken[i]);
	fail_fdatasync = 0;
	ck_assert_int_eq(stream_reserve(&other, 1, 0, &r, NULL), 0);
	stream_complete(&r);
	stream_done(&other);
}
END_TEST

START_TEST(a_sco_that_cannot_be_made_fails_the_write_and_nothing_else)
{
	struct reservation r;
	struct err e = { 0 };

	fail_pwrite = -EIO;
	ck_assert_int_eq(stream_reserve(&s, 1, 0, &r, &e), -EIO);
	fail_pwrite = 0;
	ck_assert_uint_eq(flash_used_bytes(w.flash), 0);
	write_one(1);
	ck_assert_int_eq(stream_sync(&s, 1, NULL), 0);
}
END_TEST

/* --- many --------------------------------------------------------------------------------------- */

#define THREADS 4u
#define WRITES	400u

struct worker {
	struct thread *thread;
	unsigned int number;
};

static bool seen[THREADS * WRITES + 1]; /* by LSN */

static void write_and_sync(void *arg)
{
	struct worker *me = arg;

	for (unsigned int i = 0; i < WRITES; i++) {
		struct reservation r;
		lsn_t lsn;
		int rc;

		while ((rc = stream_reserve(&s, 1 + i % 3, 0, &r, NULL)) == -EAGAIN)
			ck_assert_int_eq(stream_sync(&s, stream_last_lsn(&s), NULL), 0);
		ck_assert_int_eq(rc, 0);
		lsn = publish(&r, (me->number * 1000 + i) * UINT64_C(4)); /* within a page */
		stream_complete(&r);
		ck_assert(!__atomic_exchange_n(&seen[lsn], true, __ATOMIC_SEQ_CST));
		if (i % 4 == 0) {
			ck_assert_int_eq(stream_sync(&s, lsn, NULL), 0);
			ck_assert_uint_ge(stream_durable_lsn(&s), lsn);
		}
	}
}

START_TEST(writers_and_syncers_share_commits)
{
	struct worker workers[THREADS];

	memset(seen, 0, sizeof(seen));
	ck_assert_int_eq(writeback_start(&writeback), 0);
	for (unsigned int i = 0; i < THREADS; i++) {
		workers[i].number = i;
		ck_assert_int_eq(thread_start("worker", write_and_sync, &workers[i],
					      &workers[i].thread),
				 0);
	}
	for (unsigned int i = 0; i < THREADS; i++)
		thread_join(workers[i].thread);
	writeback_stop(&writeback);
	ck_assert_int_eq(stream_sync(&s, stream_last_lsn(&s), NULL), 0);
	ck_assert_uint_eq(stream_last_lsn(&s), THREADS * WRITES);
	ck_assert_uint_eq(ring_free_count(w.ring), FRAMES);
	for (unsigned int i = 1; i <= THREADS * WRITES; i++)
		ck_assert(seen[i]);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("stream");
	TCase *t = tcase_create("stream");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, begin);
	tcase_add_checked_fixture(t, NULL, end);
	tcase_add_test(t, lsns_are_dense_from_one);
	tcase_add_test(t, places_follow_one_another_and_the_bytes_arrive_there);
	tcase_add_test(t, young_clusters_are_read_from_the_ring_until_they_are_durable);
	tcase_add_test(t, what_is_durable_already_is_not_synced_again);
	tcase_add_test(t, a_full_ring_is_said_and_asks_for_a_flush);
	tcase_add_test(t, a_reservation_that_comes_to_nothing_is_void);
	tcase_add_test(t, full_scos_are_closed_and_want_to_be_sealed);
	tcase_add_test(t, an_object_deleted_while_its_next_sco_is_made_keeps_none);
	tcase_add_test(t, the_next_sco_is_made_once_and_let_go_with_the_stream);
	tcase_add_test(t, a_next_sco_that_cannot_be_made_is_no_failure);
	tcase_add_test(t, a_sco_that_was_never_written_goes_and_leaves_its_cut_to_the_next);
	tcase_add_test(t, retiring_starts_a_new_sco_with_the_next_write);
	tcase_add_test(t, a_direct_write_is_durable_with_the_batch_that_names_it);
	tcase_add_loop_test(t, a_device_that_failed_is_told_once_and_is_an_io_error, 0, 3);
	tcase_add_test(t, damaged_bytes_are_no_failure_of_a_device);
	tcase_add_loop_test(t, a_failed_sync_poisons_the_stream_for_good_and_keeps_its_frames, 0,
			    3);
	tcase_add_test(t, a_ring_full_of_a_failed_streams_frames_is_an_error_for_the_others);
	tcase_add_test(t, a_sco_that_cannot_be_made_fails_the_write_and_nothing_else);
	tcase_add_test(t, writers_and_syncers_share_commits);
	suite_add_tcase(suite, t);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
