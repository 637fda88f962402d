/* Files of SCOs without a good header: what their batches tell of what was synced. */
#include "support_damage.h"

#include "common/crc32c.h"
#include "common/endian.h"
#include "volume/format.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLUSTERS_SYNCED 20u

static void each_cluster_synced(UNUSED int to_parent, UNUSED void *arg)
{
	struct object *o;

	pool_fixture_create();
	pool_fixture_open_quiet();
	o = make_object(OBJECT_DISK);
	world->disk = id_of(o);
	for (unsigned int i = 0; i < CLUSTERS_SYNCED; i++) {
		write_cluster(o, i, 1);
		sync_object(o);
	}
}

/* Of the stream of the disk nothing is written any more; of path nothing is gone. */
static void expect_damage(const char *path, uint64_t bytes)
{
	struct pool_status st;
	struct object *o;
	uint8_t mem[4096];

	ck_assert_uint_eq(file_size(path), bytes);
	pool_status(pf.pool, &st);
	ck_assert_int_eq(st.state, POOL_DEGRADED);
	o = get_object(world->disk);
	cluster_fill(mem, world->disk, 0, 2);
	ck_assert_int_eq(object_write(o, 0, mem, sizeof(mem), NULL), -EUCLEAN);
	object_close(o);
	close_damaged();
}

/* --- a spoiled header -------------------------------------------------------------------------- */

static void flip_one_bit(uint8_t *header)
{
	header[100] ^= 1;
}

static void zero_all(uint8_t *header)
{
	memset(header, 0, BLOCK_BYTES);
}

static void zero_all_but_the_end(uint8_t *header)
{
	memset(header, 0, BLOCK_BYTES - 1);
	header[BLOCK_BYTES - 1] = 0xA5;
}

static void (*const spoil[])(uint8_t *header) = { flip_one_bit, zero_all, zero_all_but_the_end };

/* Its batches know one another to be durable, with the ring and without it. */
START_TEST(a_file_whose_batches_were_synced_is_kept_whatever_its_header_is)
{
	uint8_t header[BLOCK_BYTES];
	char path[PATH_BYTES], *text;
	uint64_t bytes;

	in_child_killed(each_cluster_synced, NULL);
	(void)find_cluster(world->disk, 3, 1, path);
	bytes = file_size(path);
	text = file_text(path);
	memcpy(header, text, sizeof(header));
	free(text);
	spoil[_i % 3](header);
	overwrite(path, 0, header, sizeof(header));
	if (_i >= 3)
		pretend_reboot();
	pool_fixture_open();
	expect_damage(path, bytes);
}
END_TEST

static unsigned int failed_reads;

/* Of much at once: not of the header. */
static ssize_t fail_long_pread(UNUSED struct env *env, struct env_file *f, void *buf, size_t len,
			       uint64_t offset)
{
	if (len >= MIB / 2) {
		failed_reads++;
		return -EIO;
	}
	return env_pread(env_posix(), f, buf, len, offset);
}

/* Whether it was synced is not known then: the start fails, and the next one finds all as it was. */
START_TEST(a_file_without_a_header_that_cannot_be_read_is_left_to_the_next_start)
{
	struct env_ops ops = *env_posix()->ops;
	struct env failing = { &ops };
	struct err e = { 0 };
	char path[PATH_BYTES];
	uint64_t bytes;

	in_child_killed(each_cluster_synced, NULL);
	(void)find_cluster(world->disk, 3, 1, path);
	bytes = file_size(path);
	flip_bit(path, 100, 1);
	ops.pread = fail_long_pread;
	ck_assert_int_eq(pool_open(&failing, &pf.options, &pf.pool, &e), -EIO);
	ck_assert_uint_eq(failed_reads, 1);
	ck_assert_ptr_nonnull(strstr(e.message, "reading SCO 1"));
	ck_assert_ptr_null(pf.pool);
	ck_assert_uint_eq(file_size(path), bytes);
	pool_fixture_open();
	expect_damage(path, bytes);
}
END_TEST

/* --- remains of others ------------------------------------------------------------------------- */

enum owner { SAME_SCO, OTHER_SCO, OTHER_STREAM };

/* The batches of a file say that they are of a SCO and a stream. */
static void rename_batches(uint8_t *file, uint64_t bytes, uint64_t sco, uint32_t stream)
{
	unsigned int renamed = 0;

	for (uint64_t at = 0; at < bytes; at += BLOCK_BYTES) {
		uint8_t *block = file + at;
		struct batch_header h;

		if (batch_close_decode(block, &h, NULL) < 0)
			continue;
		le64_put(block + 16, sco);
		le32_put(block + 24, stream);
		le32_put(block + 48, crc32c(0, block, 48));
		le32_put(block + 52, 0);
		le32_put(block + 52, crc32c(0, block, BLOCK_BYTES));
		ck_assert_int_eq(batch_close_decode(block, &h, NULL), 0);
		renamed++;
	}
	ck_assert_uint_ge(renamed, CLUSTERS_SYNCED);
}

/* A copy of a SCO under another number, as a disk might bring it up from somewhere. */
START_TEST(batches_of_another_one_say_nothing_of_a_file)
{
	const uint64_t number = 77;
	char path[PATH_BYTES], copy[PATH_BYTES], name[SCO_FILE_NAME_MAX + 1];
	unsigned int stream;
	struct object *o;
	uint64_t bytes;
	char *text;

	in_child_killed(each_cluster_synced, NULL);
	pretend_reboot();
	(void)find_cluster(world->disk, 3, 1, path);
	bytes = file_size(path);
	text = file_text(path);
	memset(text, 0, BLOCK_BYTES);
	ck_assert_int_eq(sscanf(strrchr(path, '/'), "/%8x-", &stream), 1);
	if (_i != OTHER_SCO)
		rename_batches((uint8_t *)text, bytes, number, stream + (_i == OTHER_STREAM));
	sco_file_name(name, stream, number, 0);
	(void)snprintf(copy, sizeof(copy), "%.*s/%s", (int)(strrchr(path, '/') - path), path, name);
	make_file(copy, text, bytes);
	free(text);
	pool_fixture_open();
	if (_i == SAME_SCO) {
		expect_damage(copy, bytes);
		return;
	}
	ck_assert_int_lt(access(copy, F_OK), 0);
	o = get_object(world->disk);
	for (unsigned int i = 0; i < CLUSTERS_SYNCED; i++)
		expect_cluster(o, i, 1);
	write_cluster(o, 0, 2);
	expect_cluster(o, 0, 2);
	object_close(o);
}
END_TEST

/* --- behind the newest batch ------------------------------------------------------------------- */

/*
 * What stands there was either never begun, for the sector with the header is zeros, or is a batch that
 * has left the ring, so that it was durable, and is not whole.
 */
START_TEST(a_batch_that_was_begun_and_left_the_ring_is_lost)
{
	uint8_t block[BLOCK_BYTES];
	char path[PATH_BYTES];
	struct pool_status st;
	struct object *o;

	in_child_killed(each_cluster_synced, NULL);
	memset(block, 0, SECTOR_BYTES);
	memset(block + SECTOR_BYTES, 0xA5, sizeof(block) - SECTOR_BYTES);
	if (_i)
		block[SECTOR_BYTES - 1] = 1;
	overwrite(path, find_cluster(world->disk, CLUSTERS_SYNCED - 1, 1, path) + 4096, block,
		  sizeof(block));
	pool_fixture_open();
	pool_status(pf.pool, &st);
	ck_assert_int_eq(st.state, _i ? POOL_DEGRADED : POOL_OK);
	o = get_object(world->disk);
	for (unsigned int i = 0; i < CLUSTERS_SYNCED; i++)
		expect_cluster(o, i, 1);
	ck_assert_int_eq(object_write(o, 0, block, sizeof(block), NULL), _i ? -EUCLEAN : 0);
	object_close(o);
	close_damaged();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_remains");
	TCase *t = tcase_create("pool_remains");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, damage_begin);
	tcase_add_loop_test(t, a_file_whose_batches_were_synced_is_kept_whatever_its_header_is, 0,
			    6);
	tcase_add_test(t, a_file_without_a_header_that_cannot_be_read_is_left_to_the_next_start);
	tcase_add_loop_test(t, batches_of_another_one_say_nothing_of_a_file, 0, 3);
	tcase_add_loop_test(t, a_batch_that_was_begun_and_left_the_ring_is_lost, 0, 2);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
