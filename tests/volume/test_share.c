/* Objects that share clusters: no byte is copied or mixed up, or goes while anybody shows it. */
#include "support_snapshot.h"

#include "volume/share.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define DISK_BYTES (4 * MIB)
/* More than a row can count, one for each cluster. */
#define SHARES_MANY 300u

/* In memory that children share. disk: of pattern 1, as much as DISK_BYTES, in a root. */
static struct disks {
	uint64_t disk, other;
} * ids;
#define disk  (ids->disk)
#define other (ids->other)
static uint8_t *bytes;
static char url[PATH_BYTES + sizeof("file://")];

static void begin(void)
{
	char path[PATH_BYTES];

	(void)snprintf(url, sizeof(url), "file://%s", root_path(path, "store"));
	ck_assert_int_eq(mkdir(path, 0700), 0);
	pf.options.backend_url = url;
	pf.options.packs = PACKS_NEVER;
	pf.options.grace_time_ns = 0;
	pf.options.clean_target_percent =
		100000; /* what dies stays where it is until all is dead */
}

static void sync_backend(void)
{
	struct err e = { 0 };

	ck_assert_msg(pool_sync_backend(pf.pool, &e) == 0, "%s", e.message);
}

static void make_disks(void)
{
	struct object *o;

	pool_fixture_create();
	pool_fixture_open_quiet();
	bytes = pattern_mem(DISK_BYTES, 1);
	o = make_object(OBJECT_DISK);
	disk = id_of(o);
	write_bytes(o, 0, bytes, DISK_BYTES);
	object_close(o);
	o = make_object(OBJECT_DISK);
	other = id_of(o);
	object_close(o);
	sync_backend();
}

static uint64_t share(uint64_t to, uint64_t to_bytes, uint64_t from, uint64_t from_bytes,
		      uint64_t len_bytes)
{
	struct object *target = get_object(to), *source = get_object(from);
	struct err e = { 0 };
	uint64_t shared;
	int r = object_share(target, to_bytes, source, from_bytes, len_bytes, &shared, &e);

	ck_assert_msg(r == 0, "%s", e.message);
	object_close(source);
	object_close(target);
	return shared;
}

static void expect_in(uint64_t id, uint64_t offset, const void *want, size_t len)
{
	struct object *o = get_object(id);

	expect_bytes(o, offset, want, len);
	object_close(o);
}

/* All of a disk by something else, so that nothing lives of what it had. */
static void overwrite_all(uint64_t id, uint64_t pattern)
{
	uint8_t *mem = pattern_mem(DISK_BYTES, pattern);
	struct object *o = get_object(id);

	write_bytes(o, 0, mem, DISK_BYTES);
	object_close(o);
	free(mem);
}

static void checkpoint(void)
{
	struct err e = { 0 };

	ck_assert_msg(pool_checkpoint(pf.pool, &e) == 0, "%s", e.message);
}

static void expect_sound(void)
{
	checkpoint();
	pool_fixture_check();
}

/* --- what it is -------------------------------------------------------------------------------- */

START_TEST(what_is_shared_reads_the_same_and_takes_no_space)
{
	struct pool_status before, after;
	struct object *o;

	make_disks();
	checkpoint();
	pool_status(pf.pool, &before);
	/* Neither range begins with a page of the map. */
	ck_assert_uint_eq(share(other, 12 * KIB, disk, 40 * KIB, 3 * MIB), 3 * MIB);
	expect_in(other, 12 * KIB, bytes + 40 * KIB, 3 * MIB);
	o = get_object(other);
	expect_zeros(o, 0, 12 * KIB);
	ck_assert_uint_eq(size_of(o), 3 * MIB + 12 * KIB);
	ck_assert_uint_eq(allocated_of(o), 3 * MIB);
	object_close(o);
	pool_status(pf.pool, &after);
	ck_assert_uint_eq(after.live_bytes, before.live_bytes);
	pool_fixture_restart();
	expect_in(other, 12 * KIB, bytes + 40 * KIB, 3 * MIB);
	expect_sound();
	free(bytes);
}
END_TEST

START_TEST(each_goes_its_own_way)
{
	uint8_t *mem;
	struct object *o;

	make_disks();
	mem = pattern_mem(64 * KIB, 7);
	ck_assert_uint_eq(share(other, 0, disk, 0, DISK_BYTES), DISK_BYTES);
	o = get_object(other);
	write_bytes(o, MIB + 100, mem, 30000);
	object_close(o);
	expect_in(disk, 0, bytes, DISK_BYTES);
	o = get_object(disk);
	write_bytes(o, 0, mem, 64 * KIB);
	ck_assert_int_eq(object_zero(o, 2 * MIB, 64 * KIB, false, NULL), 0);
	object_close(o);
	memcpy(bytes + MIB + 100, mem, 30000);
	expect_in(other, 0, bytes, DISK_BYTES);
	sync_backend();
	pool_fixture_restart();
	expect_in(other, 0, bytes, DISK_BYTES);
	expect_in(disk, 0, mem, 64 * KIB);
	expect_sound();
	free(mem);
	free(bytes);
}
END_TEST

START_TEST(a_disk_shares_with_itself_with_files_and_from_snapshots)
{
	struct snapshot_wanted wanted = { .name = "s" };
	struct object *o, *snapshot;
	struct err e = { 0 };
	uint64_t file, shared;

	make_disks();
	ck_assert_uint_eq(share(disk, DISK_BYTES, disk, MIB, MIB), MIB);
	expect_in(disk, DISK_BYTES, bytes + MIB, MIB);
	o = make_object(OBJECT_FILE);
	file = id_of(o);
	object_close(o);
	ck_assert_uint_eq(share(file, 0, disk, 0, MIB), MIB);
	ck_assert_uint_eq(share(other, 0, file, 0, MIB), MIB); /* the same places */
	wanted.object = get_object(disk);
	ck_assert_msg(snapshot_create(pf.pool, &wanted, 1, &e) == 0, "%s", e.message);
	object_close(wanted.object);
	overwrite_all(disk, 3);
	ck_assert_int_eq(snapshot_open(pf.pool, disk, "s", &snapshot, &e), 0);
	o = get_object(other);
	ck_assert_int_eq(object_share(o, MIB, snapshot, 2 * MIB, MIB, &shared, &e), 0);
	ck_assert_uint_eq(shared, MIB);
	object_close(o);
	object_close(snapshot);
	ck_assert_int_eq(snapshot_delete(pf.pool, disk, "s", &e), 0);
	ck_assert_int_eq(object_delete(pf.pool, file, &e), 0);
	sync_backend();
	pool_fixture_restart();
	expect_in(other, 0, bytes, MIB);
	expect_in(other, MIB, bytes + 2 * MIB, MIB);
	expect_sound();
	free(bytes);
}
END_TEST

START_TEST(what_cannot_be_shared_is_told)
{
	struct object *o;

	make_disks();
	ck_assert_uint_eq(share(other, 0, disk, 512, MIB), 0); /* not at the same place */
	ck_assert_uint_eq(share(other, 512, disk, 512, MIB), 0);
	ck_assert_uint_eq(share(other, 0, disk, 0, 4095), 0);
	o = get_object(disk);
	ck_assert_int_eq(object_zero(o, MIB, MIB, false, NULL), 0);
	write_bytes(o, 2 * MIB, bytes, 64 * KIB);
	object_close(o);
	ck_assert_uint_eq(share(other, 0, disk, 0, 2 * MIB), MIB); /* then there is a hole */
	ck_assert_uint_eq(share(other, 0, disk, MIB, MIB), 0);
	ck_assert_uint_eq(share(other, 0, disk, 2 * MIB, MIB), 0); /* in no root yet */
	sync_backend();
	ck_assert_uint_eq(share(other, 2 * MIB, disk, 2 * MIB, MIB), MIB);
	expect_in(other, 2 * MIB, bytes, 64 * KIB);
	expect_sound();
	free(bytes);
}
END_TEST

START_TEST(names_end_where_a_row_could_not_count_them)
{
	uint64_t done = 0;

	make_disks();
	for (unsigned int i = 0; i < SHARES_MANY; i++)
		if (share(other, i * MIB, disk, 0, MIB) == MIB)
			done++;
	ck_assert_uint_gt(done, 100);
	ck_assert_uint_lt(done, SHARES_MANY);
	checkpoint();
	ck_assert_uint_lt(share(other, 0, disk, 0, MIB), MIB);
	expect_in(other, (done - 1) * MIB, bytes, MIB);
	expect_sound();
	free(bytes);
}
END_TEST

/* --- what stays -------------------------------------------------------------------------------- */

/* SCOs are counted with their files, on flash. */
static bool flash_is_empty(UNUSED void *arg)
{
	checkpoint();
	return sco_count() <= 1; /* the one made in advance */
}

START_TEST(it_outlives_its_source_and_goes_with_the_last_name)
{
	make_disks();
	ck_assert_uint_eq(share(other, 0, disk, 0, DISK_BYTES), DISK_BYTES);
	ck_assert_int_eq(object_delete(pf.pool, disk, NULL), 0);
	for (unsigned int i = 0; i < 4; i++)
		sync_backend();
	pool_fixture_restart();
	expect_in(other, 0, bytes, DISK_BYTES);
	expect_sound();
	ck_assert_int_eq(object_delete(pf.pool, other, NULL), 0);
	wait_until(flash_is_empty, NULL, 20, "the last SCO to go");
	free(bytes);
}
END_TEST

/* The log of the target gets no further: no checkpoint counts what is in it. */
static void share_uncounted(UNUSED int to_parent, UNUSED void *arg)
{
	struct object *o;

	make_disks();
	ck_assert_uint_eq(share(other, 0, disk, 0, DISK_BYTES), DISK_BYTES);
	o = get_object(other);
	sync_object(o);
	stream_poison(o->stream, -EIO, "a test");
	overwrite_all(disk, 2);
	for (unsigned int i = 0; i < 3; i++)
		checkpoint();
	expect_bytes(o, 0, bytes, DISK_BYTES);
	object_close(o);
}

START_TEST(what_only_a_log_names_stays)
{
	in_child_killed(share_uncounted, NULL);
	bytes = pattern_mem(DISK_BYTES, 1);
	pool_fixture_open_quiet();
	expect_in(other, 0, bytes, DISK_BYTES);
	for (unsigned int i = 0; i < 2; i++)
		checkpoint();
	expect_in(other, 0, bytes, DISK_BYTES);
	expect_sound();
	free(bytes);
}
END_TEST

static void share_and_die(UNUSED int to_parent, UNUSED void *arg)
{
	make_disks();
	ck_assert_uint_eq(share(other, 0, disk, 0, DISK_BYTES), DISK_BYTES);
	overwrite_all(disk, 2);
}

START_TEST(it_survives_a_kill)
{
	in_child_killed(share_and_die, NULL);
	bytes = pattern_mem(DISK_BYTES, 1);
	pool_fixture_open_quiet();
	expect_in(other, 0, bytes, DISK_BYTES);
	checkpoint();
	expect_in(other, 0, bytes, DISK_BYTES);
	expect_sound();
	free(bytes);
}
END_TEST

/* --- on the backend ---------------------------------------------------------------------------- */

static void lose_machine_and_restore(void)
{
	pool_fixture_lose_machine();
	pool_fixture_open_quiet();
}

START_TEST(a_restore_brings_it_back)
{
	make_disks();
	ck_assert_uint_eq(share(other, 0, disk, 0, 2 * MIB), 2 * MIB);
	overwrite_all(disk, 2);
	sync_backend();
	lose_machine_and_restore();
	expect_in(other, 0, bytes, 2 * MIB);
	expect_sound();
	free(bytes);
}
END_TEST

START_TEST(no_root_has_a_map_that_names_what_died)
{
	make_disks();
	ck_assert_uint_eq(share(other, 0, disk, 0, DISK_BYTES), DISK_BYTES);
	sync_backend(); /* with a map that names them */
	overwrite_all(other, 2);
	overwrite_all(disk, 3);
	for (unsigned int i = 0; i < 4; i++)
		sync_backend();
	lose_machine_and_restore();
	free(bytes);
	bytes = pattern_mem(DISK_BYTES, 2);
	expect_in(other, 0, bytes, DISK_BYTES);
	expect_sound();
	free(bytes);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("share");
	TCase *t = tcase_create("share");
	SRunner *runner;
	int failed;

	tcase_set_timeout(t, 120);
	ids = mmap(NULL, sizeof(*ids), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pool_fixture_add(t, begin);
	tcase_add_test(t, what_is_shared_reads_the_same_and_takes_no_space);
	tcase_add_test(t, each_goes_its_own_way);
	tcase_add_test(t, a_disk_shares_with_itself_with_files_and_from_snapshots);
	tcase_add_test(t, what_cannot_be_shared_is_told);
	tcase_add_test(t, names_end_where_a_row_could_not_count_them);
	tcase_add_test(t, it_outlives_its_source_and_goes_with_the_last_name);
	tcase_add_test(t, what_only_a_log_names_stays);
	tcase_add_test(t, it_survives_a_kill);
	tcase_add_test(t, a_restore_brings_it_back);
	tcase_add_test(t, no_root_has_a_map_that_names_what_died);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
