/* A file that was damaged between sealing and upload does not become the only copy. */
#include "support_snapshot.h"
#include "support_store.h"

#include "common/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DISK_BYTES (3 * MIB) /* some SCOs */

static struct object *hurt, *whole;
static uint8_t *bytes[2];

/* Read by us; copied by the kernel, and the copy read. */
static const enum backend_copy_mode modes[] = { BACKEND_COPY_BYTES, BACKEND_COPY_REFLINK };

static struct pool_status status(void)
{
	struct pool_status st;

	pool_status(pf.pool, &st);
	return st;
}

static struct object *make_disk(unsigned int i)
{
	struct object *o = make_object(OBJECT_DISK);

	bytes[i] = pattern_mem(DISK_BYTES, 7 + i);
	write_bytes(o, 0, bytes[i], DISK_BYTES);
	sync_object(o);
	return o;
}

/* What is a link is the file itself, and never the only copy without it. */
static void begin(void)
{
	pf.options.backend_copy = BACKEND_COPY_BYTES;
}

static void two_disks(void)
{
	struct err e = { 0 };

	pool_fixture_create();
	pool_fixture_open_quiet();
	hurt = make_disk(0);
	whole = make_disk(1);
	ck_assert_msg(pool_seal(pf.pool, &e) == 0, "%s", e.message);
}

/* The file of the SCO that holds this cluster, and where it is in it. */
static uint64_t place_of(const uint8_t *cluster, char path[PATH_BYTES])
{
	uint8_t *mem = aligned_mem(CLUSTER_BYTES);

	for (size_t i = 0; i < sco_count(); i++) {
		FILE *f = fopen(sco_path(path, i), "rb");

		ck_assert_ptr_nonnull(f);
		for (uint64_t at = 0; fread(mem, CLUSTER_BYTES, 1, f) == 1; at += CLUSTER_BYTES)
			if (memcmp(mem, cluster, CLUSTER_BYTES) == 0) {
				(void)fclose(f);
				free(mem);
				return at;
			}
		(void)fclose(f);
	}
	ck_abort_msg("the cluster is in no file");
}

static uint64_t place_of_first(char path[PATH_BYTES])
{
	return place_of(bytes[0], path);
}

static void forget(void)
{
	object_close(TAKE_PTR(hurt));
	if (whole)
		object_close(TAKE_PTR(whole));
	free(TAKE_PTR(bytes[0]));
	free(TAKE_PTR(bytes[1]));
}

START_TEST(a_damaged_file_is_not_uploaded_and_everything_else_is)
{
	char path[PATH_BYTES];
	struct err e = { 0 };
	uint64_t at, root;

	pf.options.backend_copy = modes[_i];
	two_disks();
	at = place_of_first(path);
	flip_bit(path, at + 100, 1);

	ck_assert_int_eq(pool_sync_backend(pf.pool, &e), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(e.message, "damaged"));
	ck_assert_int_eq(access(path, F_OK), 0);
	ck_assert_int_eq(status().state, POOL_DEGRADED);
	ck_assert_ptr_nonnull(strstr(status().reason, "damaged"));
	ck_assert_uint_gt(pool_fixture_counter("scos_uploaded"), 3);
	ck_assert_uint_gt(status().dirty_bytes, 0);

	/* All else goes on: the other disk's data, and roots that show it. */
	root = status().root;
	write_bytes(whole, 0, bytes[0], CLUSTER_BYTES);
	sync_object(whole);
	ck_assert_int_eq(pool_sync_backend(pf.pool, &e), -EBADMSG);
	ck_assert_uint_gt(status().root, root);
	write_bytes(hurt, MIB, bytes[1], CLUSTER_BYTES);
	sync_object(hurt);
	expect_bytes(whole, CLUSTER_BYTES, bytes[1] + CLUSTER_BYTES, DISK_BYTES - CLUSTER_BYTES);
	expect_bytes(hurt, MIB, bytes[1], CLUSTER_BYTES);

	/* Repaired, it travels with the next start. */
	flip_bit(path, at + 100, 1);
	object_close(TAKE_PTR(hurt));
	object_close(TAKE_PTR(whole));
	pool_fixture_restart();
	ck_assert_msg(pool_sync_backend(pf.pool, &e) == 0, "%s", e.message);
	ck_assert_int_eq(status().state, POOL_OK);
	ck_assert_uint_eq(status().dirty_bytes, 0);
	forget();
}
END_TEST

static void damaged_index(uint64_t from_end)
{
	char path[PATH_BYTES];
	struct err e = { 0 };
	struct stat st;

	two_disks();
	(void)place_of_first(path);
	ck_assert_int_eq(stat(path, &st), 0);
	flip_bit(path, (uint64_t)st.st_size - from_end, 1);

	ck_assert_int_eq(pool_sync_backend(pf.pool, &e), -EBADMSG);
	ck_assert_uint_gt(pool_fixture_counter("scos_uploaded"), 3);
	forget();
}

START_TEST(a_damaged_footer_or_log_is_found_as_well)
{
	damaged_index(_i ? 2 * BLOCK_BYTES - 10 : BLOCK_BYTES - 20);
}
END_TEST

START_TEST(what_is_whole_is_verified_and_goes)
{
	struct err e = { 0 };

	two_disks();
	ck_assert_msg(pool_sync_backend(pf.pool, &e) == 0, "%s", e.message);
	ck_assert_int_eq(status().state, POOL_OK);
	ck_assert_uint_eq(status().dirty_bytes, 0);
	forget();
}
END_TEST

/* --- what roots do not name --------------------------------------------------------------------- */

static const struct store_ops *mem_ops;
static bool refuse_roots;

static int no_root_put(struct store *s, const char *name, const struct backend_source *source,
		       unsigned int flags, struct backend_put_result *ret_result, struct err *e)
{
	if (refuse_roots && strncmp(name, "root/", 5) == 0)
		return err_set(e, -EACCES, "not this one");
	return mem_ops->put(s, name, source, flags, ret_result, e);
}

static void put_no_root(struct store_ops *ops)
{
	ops->put = no_root_put;
}

static int count_stored(void *arg, const char *name, UNUSED const struct backend_object *object)
{
	size_t *count = arg;

	*count += strstr(name, "/sco/") != NULL;
	return 0;
}

static size_t stored_scos(struct backend *b)
{
	size_t count = 0;

	ck_assert_int_ge(backend_list(b, "", NULL, 1000, count_stored, &count, NULL), 0);
	return count;
}

/* An earlier process put them, and died before a root: the rows here are all that knows of them. */
START_TEST(what_a_damaged_stream_has_on_the_backend_is_no_orphan)
{
	struct backend *backend = changed_mem_backend("rootless", put_no_root, &mem_ops);
	char path[PATH_BYTES];
	struct err e = { 0 };
	size_t count;
	uint64_t id, at;

	pf.options.backend = backend;
	pf.options.grace_time_ns = 0;
	pool_fixture_create();
	pool_fixture_open_quiet();
	hurt = make_disk(0);
	id = id_of(hurt);
	ck_assert_msg(pool_sync_backend(pf.pool, &e) == 0, "%s", e.message);
	count = stored_scos(backend);
	bytes[1] = pattern_mem(DISK_BYTES, 8);
	write_bytes(hurt, DISK_BYTES, bytes[1], DISK_BYTES);
	refuse_roots = true;
	ck_assert_int_eq(pool_sync_backend(pf.pool, NULL), -EACCES);
	ck_assert_uint_ge(stored_scos(backend), count + 3);
	count = stored_scos(backend);
	pattern_fill(bytes[0], CLUSTER_BYTES, 9);
	write_bytes(hurt, 2 * DISK_BYTES, bytes[0], CLUSTER_BYTES);
	sync_object(hurt);
	ck_assert_msg(pool_seal(pf.pool, &e) == 0, "%s", e.message);
	ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
	at = place_of(bytes[0], path);
	flip_bit(path, at + 100, 1);
	object_close(TAKE_PTR(hurt));
	pool_fixture_close();

	refuse_roots = false;
	pool_fixture_open();
	hurt = get_object(id);
	ck_assert_int_eq(pool_sync_backend(pf.pool, &e), -EBADMSG);
	ck_assert_uint_gt(pool_fixture_counter("roots"), 0);
	ck_assert_uint_ge(stored_scos(backend), count);
	expect_bytes(hurt, DISK_BYTES, bytes[1], DISK_BYTES);
	forget();
	pool_fixture_close();
	backend_close(backend);
	backend_mem_forget("rootless");
}
END_TEST

enum { SNAPSHOT, TRUNCATION, HIDDEN, BEHIND_COUNT };

/* All that the disk has is in a frozen layer that nobody else needs, of another stream. */
static struct object *clone_instead(struct object *o)
{
	uint64_t id = id_of(o), clone = clone_of(o, NULL);

	object_close(o);
	ck_assert_int_eq(object_delete(pf.pool, id, NULL), 0);
	return get_object(clone);
}

static bool is_trimmed(void *arg)
{
	(void)arg;
	ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
	return pool_fixture_counter("trimmed_clusters") > 0;
}

/* The newest root shows the disk as it was before the snapshot, before a truncation that hides a part of
 * it, or before what is hidden left the layer below, and can be restored. */
START_TEST(a_stream_that_fails_behind_a_snapshot_keeps_the_last_root_that_is_whole)
{
	struct backend *backend = changed_mem_backend("rootless", put_no_root, &mem_ops);
	struct snapshot_wanted wanted = { .name = "s" };
	char path[PATH_BYTES];
	struct err e = { 0 };
	uint8_t *fresh = pattern_mem(MIB, 99);
	uint64_t id, root;

	pf.options.backend = backend;
	pf.options.merge_rows_min = pf.options.merge_ratio = _i == HIDDEN;
	pool_fixture_create();
	pool_fixture_open_quiet();
	hurt = make_disk(0);
	whole = make_disk(1);
	if (_i == HIDDEN)
		hurt = clone_instead(hurt);
	id = id_of(hurt);
	wanted.object = hurt;
	if (_i == TRUNCATION)
		ck_assert_msg(snapshot_create(pf.pool, &wanted, 1, &e) == 0, "%s", e.message);
	ck_assert_msg(pool_sync_backend(pf.pool, &e) == 0, "%s", e.message);
	root = status().root;

	write_bytes(hurt, MIB, fresh, MIB);
	if (_i == HIDDEN) {
		wait_until(is_trimmed, NULL, 20, "what is hidden goes");
	} else if (_i == TRUNCATION) {
		ck_assert_msg(object_truncate(hurt, DISK_BYTES / 2, &e) == 0, "%s", e.message);
		write_bytes(hurt, MIB, fresh, MIB);
		ck_assert_int_eq(pool_checkpoint(pf.pool, NULL), 0);
	} else {
		ck_assert_msg(snapshot_create(pf.pool, &wanted, 1, &e) == 0, "%s", e.message);
	}
	ck_assert_msg(pool_seal(pf.pool, &e) == 0, "%s", e.message);
	flip_bit(path, place_of(fresh, path) + 100, 1);
	for (unsigned int i = 0; i < 3; i++) {
		write_bytes(whole, 0, bytes[0], CLUSTER_BYTES);
		ck_assert_int_eq(pool_sync_backend(pf.pool, &e), -EUCLEAN);
		ck_assert_ptr_nonnull(strstr(e.message, "is in no root until"));
		ck_assert_uint_eq(status().root, root);
	}
	object_close(TAKE_PTR(hurt));
	object_close(TAKE_PTR(whole));
	pool_fixture_lose_machine();
	pool_fixture_open();
	hurt = get_object(id);
	expect_bytes(hurt, 0, bytes[0], DISK_BYTES);
	free(fresh);
	forget();
	pool_fixture_close();
	backend_close(backend);
	backend_mem_forget("rootless");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("volume/upload_verify");
	TCase *t = tcase_create("copies");
	SRunner *runner;
	int failed;

	if (log_open("/dev/null", LOG_LEVEL_ERROR) < 0)
		return 1;
	pool_fixture_add(t, begin);
	tcase_add_loop_test(t, a_damaged_file_is_not_uploaded_and_everything_else_is, 0, 2);
	tcase_add_loop_test(t, a_damaged_footer_or_log_is_found_as_well, 0, 2);
	tcase_add_test(t, what_is_whole_is_verified_and_goes);
	tcase_add_test(t, what_a_damaged_stream_has_on_the_backend_is_no_orphan);
	tcase_add_loop_test(t,
			    a_stream_that_fails_behind_a_snapshot_keeps_the_last_root_that_is_whole,
			    0, BEHIND_COUNT);
	suite_add_tcase(suite, t);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}
