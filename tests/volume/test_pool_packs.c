/* Small objects that travel together: few requests, and nothing of them is lost, or kept for ever. */
#include "support_pool.h"
#include "support_store.h"

#include "volume/packs.h"
#include "volume/pool_impl.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DISKS 40u

static struct backend *store; /* a second look at the same objects */

static void begin(void)
{
	struct backend_options bo = { .attempts_max = 1 };

	pf.options.backend_url = "mem:packs";
	pf.options.grace_time_ns = 0;
	ck_assert_int_eq(backend_open(env_posix(), pf.options.backend_url, &bo, &store, NULL), 0);
}

static void end(void)
{
	backend_close(store);
}

static void sync_backend(void)
{
	struct err e = { 0 };

	ck_assert_msg(pool_sync_backend(pf.pool, &e) == 0, "%s", e.message);
}

static void open_fresh(void)
{
	pool_fixture_create();
	pool_fixture_open_quiet();
}

static void lose_machine(void)
{
	pool_fixture_lose_machine();
	pool_fixture_open_quiet();
}

static int count_one(void *arg, const char *name, const struct backend_object *object)
{
	(void)name;
	(void)object;
	(*(unsigned int *)arg)++;
	return 0;
}

static unsigned int objects(const char *prefix)
{
	unsigned int count = 0;

	ck_assert_int_ge(backend_list(store, prefix, NULL, 1000, count_one, &count, NULL), 0);
	ck_assert_uint_lt(count, 1000);
	return count;
}

static uint64_t disks[DISKS];

static void write_disk(unsigned int i, unsigned int seed)
{
	uint8_t *mem = pattern_mem(8 * CLUSTER_BYTES, seed);
	struct object *o = get_object(disks[i]);

	write_bytes(o, 0, mem, 8 * CLUSTER_BYTES);
	object_close(o);
	free(mem);
}

static void expect_disk(unsigned int i, unsigned int seed)
{
	uint8_t *mem = pattern_mem(8 * CLUSTER_BYTES, seed);
	struct object *o = get_object(disks[i]);

	expect_bytes(o, 0, mem, 8 * CLUSTER_BYTES);
	object_close(o);
	free(mem);
}

static void make_disks(void)
{
	for (unsigned int i = 0; i < DISKS; i++) {
		struct object *o = make_object(OBJECT_DISK);

		disks[i] = id_of(o);
		object_close(o);
		write_disk(i, i);
	}
}

static void delete_disk(unsigned int i)
{
	struct err e = { 0 };

	ck_assert_msg(object_delete(pf.pool, disks[i], &e) == 0, "%s", e.message);
}

START_TEST(many_small_disks_take_few_requests_and_come_back)
{
	unsigned int before;

	open_fresh();
	before = objects("");
	make_disks();
	sync_backend();
	/* SCOs, manifests and maps: 40 disks of 32 KiB and their tables are less than three packs. */
	ck_assert_uint_lt(objects("") - before, 10);
	ck_assert_uint_eq(objects("000000"), 0);
	lose_machine();
	for (unsigned int i = 0; i < DISKS; i++)
		expect_disk(i, i);
}
END_TEST

START_TEST(a_pack_goes_with_the_last_of_its_members)
{
	unsigned int packs;

	open_fresh();
	make_disks();
	sync_backend();
	packs = objects("pack/");
	ck_assert_uint_gt(packs, 0);
	for (unsigned int i = 0; i < DISKS; i++)
		delete_disk(i);
	for (unsigned int i = 0; i < 8; i++)
		sync_backend();
	ck_assert_uint_eq(objects("000000"), 0);
	/* What is left is the newest root's own. */
	ck_assert_uint_le(objects("pack/"), 3);
	lose_machine();
}
END_TEST

/* One disk of each pack stays: none is kept for it. */
START_TEST(what_is_left_of_packs_is_put_together)
{
	open_fresh();
	make_disks();
	sync_backend();
	for (unsigned int round = 1; round < 20; round++) {
		for (unsigned int i = 1; i < DISKS; i++)
			write_disk(i, i + 1000 * round);
		sync_backend();
	}
	for (unsigned int i = 0; i < 6; i++)
		sync_backend();
	ck_assert_uint_le(objects("pack/"), 16);
	expect_disk(0, 0);
	lose_machine();
	expect_disk(0, 0);
	for (unsigned int i = 1; i < DISKS; i++)
		expect_disk(i, i + 1000 * 19);
	pool_fixture_restart();
	expect_disk(0, 0);
}
END_TEST

START_TEST(a_pool_without_packs_gets_them_and_keeps_them)
{
	pf.options.packs = PACKS_NEVER;
	open_fresh();
	make_disks();
	sync_backend();
	ck_assert_uint_eq(objects("pack/"), 0);
	pool_fixture_close();
	pf.options.packs = PACKS_ALWAYS;
	pool_fixture_open_quiet();
	for (unsigned int i = 0; i < DISKS / 2; i++)
		write_disk(i, i + 1000);
	sync_backend();
	ck_assert_uint_gt(objects("pack/"), 0);
	pool_fixture_close();
	pf.options.packs = PACKS_NEVER;
	pool_fixture_open_quiet();
	lose_machine();
	for (unsigned int i = 0; i < DISKS; i++)
		expect_disk(i, i < DISKS / 2 ? i + 1000 : i);
}
END_TEST

/* What a daemon put and nobody names goes with the sweep, also out of a pack that stays. */
START_TEST(members_that_no_root_names_are_swept)
{
	struct pack_maker m;
	struct meta_batch *names;
	struct err e = { 0 };
	uint8_t *to;

	open_fresh();
	make_disks();
	sync_backend();
	mutex_lock(&pf.pool->upload_lock);
	pack_begin(&m, pf.pool);
	to = pack_add(&m, "00000077/sco/000000abc-00000000-0000000000000001", 100);
	memset(to, 7, 100);
	pack_added(&m);
	pack_name(&m);
	names = meta_batch_new(pf.pool->meta, META_NAMES);
	ck_assert_int_eq(pack_put(&m, &e), 0);
	ck_assert_int_eq(pack_rows(&m, names, &e), 0);
	ck_assert_int_eq(meta_commit(pf.pool->meta, names, META_SYNC, &e), 0);
	meta_batch_free(pf.pool->meta, names);
	mutex_unlock(&pf.pool->upload_lock);
	pool_fixture_restart();
	sync_backend();
	ck_assert_int_eq(backend_head(store, m.name, &(struct backend_object){ 0 }, NULL), -ENOENT);
	pack_done(&m);
	expect_disk(3, 3);
}
END_TEST

static const struct store_ops *mem_ops;
static bool lose_answers;

static int put_unheard(struct store *s, const char *name, const struct backend_source *source,
		       unsigned int flags, struct backend_put_result *ret_result, struct err *e)
{
	int r = mem_ops->put(s, name, source, flags, ret_result, e);

	return lose_answers ? err_set(e, -EAGAIN, "the answer is lost") : r;
}

static void lose_put_answers(struct store_ops *ops)
{
	ops->put = put_unheard;
}

/* It was stored as an object by itself: with others in a pack it would be there twice. */
START_TEST(an_object_whose_answer_was_lost_is_no_member_later)
{
	struct backend *backend = changed_mem_backend("packs", lose_put_answers, &mem_ops);

	pf.options.backend = backend;
	open_fresh();
	make_disks();
	sync_backend();
	write_disk(0, 1000);
	lose_answers = true;
	ck_assert_int_eq(pool_sync_backend(pf.pool, NULL), -EAGAIN);
	lose_answers = false;
	ck_assert_uint_eq(objects("000000"), 1);
	for (unsigned int i = 1; i < DISKS; i++)
		write_disk(i, i + 1000);
	sync_backend();
	for (unsigned int i = 0; i < DISKS; i++)
		expect_disk(i, i + 1000);
	for (unsigned int i = 0; i < DISKS; i++)
		delete_disk(i);
	for (unsigned int i = 0; i < 8; i++)
		sync_backend();
	ck_assert_uint_eq(objects("000000"), 0);
	pool_fixture_close();
	backend_close(backend);
}
END_TEST

/* Its packs are small, their directories the larger part of them. */
START_TEST(a_pool_that_rests_puts_nothing)
{
	struct object *o;
	uint64_t roots;

	open_fresh();
	o = make_object(OBJECT_FILE);
	write_bytes(o, 0, "text", 4);
	object_close(o);
	sync_backend();
	for (unsigned int i = 0; i < 10; i++)
		sync_backend();
	roots = pool_fixture_counter("roots");
	for (unsigned int i = 0; i < 3; i++)
		sync_backend();
	ck_assert_uint_eq(pool_fixture_counter("roots"), roots);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_packs");
	TCase *t = tcase_create("packs");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 120);
	pool_fixture_add(t, begin);
	tcase_add_checked_fixture(t, NULL, end);
	tcase_add_test(t, many_small_disks_take_few_requests_and_come_back);
	tcase_add_test(t, a_pack_goes_with_the_last_of_its_members);
	tcase_add_test(t, what_is_left_of_packs_is_put_together);
	tcase_add_test(t, a_pool_without_packs_gets_them_and_keeps_them);
	tcase_add_test(t, members_that_no_root_names_are_swept);
	tcase_add_test(t, a_pool_that_rests_puts_nothing);
	tcase_add_test(t, an_object_whose_answer_was_lost_is_no_member_later);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
