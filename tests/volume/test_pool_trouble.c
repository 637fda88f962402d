/* Jobs that fail and try again: the log says so when it begins and when it is over, not each time. */
#include "support_pool.h"

#include "common/log.h"
#include "volume/pool_impl.h"

#include <stdlib.h>
#include <string.h>

#define TRIES 60u

static struct meta_mem_disk *disk;
static bool is_full;		   /* atomic */
static unsigned int refused_count; /* atomic */
static uint64_t began_ns;
static char log_path[PATH_BYTES];

static const char *failing;  /* atomic: the next call of this name is refused by the disk */
static unsigned int watched; /* atomic: so often was it told that something failed */

/* Metadata on a disk without room, or on one that fails. */
static int refuse(UNUSED void *arg, const char *call)
{
	const char *name = __atomic_load_n(&failing, __ATOMIC_SEQ_CST);

	if (name && strcmp(name, call) == 0) {
		__atomic_store_n(&failing, NULL, __ATOMIC_SEQ_CST);
		return -EIO;
	}
	if (!__atomic_load_n(&is_full, __ATOMIC_SEQ_CST))
		return 0;
	(void)__atomic_add_fetch(&refused_count, 1, __ATOMIC_SEQ_CST);
	return -ENOSPC;
}

static void begin(void)
{
	disk = meta_mem_disk_new();
	ck_assert_ptr_nonnull(disk);
	ck_assert_int_eq(meta_mem_open(disk, &pf.options.meta, NULL), 0);
	meta_mem_set_hook(disk, refuse, NULL);
	pool_fixture_create();
	pool_fixture_open_quiet();
	ck_assert_int_eq(log_open(root_path(log_path, "log"), LOG_LEVEL_INFO), 0);
	began_ns = clock_mono_ns();
}

static void end(void)
{
	pool_fixture_close();
	log_close();
	meta_close(pf.options.meta);
	meta_mem_disk_free(disk);
}

static void set_full(bool full)
{
	__atomic_store_n(&refused_count, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&is_full, full, __ATOMIC_SEQ_CST);
}

static unsigned int lines_with(const char *what, const char *and)
{
	char *text = file_text(log_path), *save = NULL;
	unsigned int n = 0;

	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		n += strstr(line, what) && strstr(line, and);
	free(text);
	return n;
}

static bool tried_often(void *job)
{
	job_kick(job);
	return __atomic_load_n(&refused_count, __ATOMIC_SEQ_CST) >= TRIES;
}

/* One a minute, however long the machine takes. */
static unsigned int lines_max(void)
{
	return 1 + (unsigned int)((clock_mono_ns() - began_ns) / (60 * SECOND_NS));
}

static const char *expected;

static bool is_told(UNUSED void *arg)
{
	return lines_with(expected, "over: failed=") > 0;
}

static void expect_few_lines(struct job *job, const char *what)
{
	set_full(true);
	wait_until(tried_often, job, 100, "enough tries");
	ck_assert_uint_ge(lines_with(what, " warning "), 1);
	ck_assert_uint_le(lines_with(what, ""), lines_max());
	ck_assert_uint_eq(lines_with(what, "over: failed="), 0);
	set_full(false);
	job_kick(job);
	expected = what;
	wait_until(is_told, NULL, 60, "the end of the trouble");
	ck_assert_uint_eq(lines_with(what, "over: failed="), 1);
}

START_TEST(a_checkpoint_that_fails_again_and_again_is_told_once)
{
	struct object *o = make_object(OBJECT_DISK);

	write_bytes(o, 0, "text", 4);
	expect_few_lines(&pf.pool->checkpointer, "volume: checkpoint failed, trying again: ");
	object_close(o);
}
END_TEST

START_TEST(names_that_cannot_be_synced_are_told_once)
{
	/* Unsynced until the flusher does it. */
	struct object *o = make_object(OBJECT_FILE);

	expect_few_lines(&pf.pool->flusher, "volume: names not synced, trying again: ");
	object_close(o);
}
END_TEST

static void watch(UNUSED void *arg)
{
	(void)__atomic_add_fetch(&watched, 1, __ATOMIC_SEQ_CST);
}

START_TEST(metadata_that_fails_is_told_to_who_watches_and_a_full_disk_is_not)
{
	static const char *const calls[] = { "commit", "sync", "flush" };
	struct object *o = make_object(OBJECT_DISK);
	struct err e = { 0 };

	pool_watch_failures(pf.pool, watch, NULL);
	write_bytes(o, 0, "text", 4);
	set_full(true);
	ck_assert_int_eq(pool_checkpoint(pf.pool, &e), -ENOSPC);
	set_full(false);
	ck_assert_uint_eq(watched, 0);
	__atomic_store_n(&failing, calls[_i], __ATOMIC_SEQ_CST);
	ck_assert_int_eq(pool_checkpoint(pf.pool, &e), -EIO);
	ck_assert_uint_eq(watched, 1);
	/* Who comes late, too. */
	pool_watch_failures(pf.pool, watch, NULL);
	ck_assert_uint_eq(watched, 2);
	pool_watch_failures(pf.pool, NULL, NULL);
	object_close(o);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_trouble");
	TCase *t = tcase_create("trouble");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, NULL);
	tcase_add_checked_fixture(t, begin, end);
	tcase_add_test(t, a_checkpoint_that_fails_again_and_again_is_told_once);
	tcase_add_test(t, names_that_cannot_be_synced_are_told_once);
	tcase_add_loop_test(t, metadata_that_fails_is_told_to_who_watches_and_a_full_disk_is_not, 0,
			    3);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
