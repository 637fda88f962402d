/* Two daemons of one pool, of a directory that was copied: at most one goes on putting. */
#include "support_pool.h"

#include "backend/backend_impl.h"
#include "volume/format.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STORE_NAME "fence"

static struct backend *backend; /* of both */
static uint8_t *mem;

/* The same objects, by a store that has put-if-absent, or not. */
static void open_backend(bool conditional)
{
	struct backend_options bo = { .attempts_max = 1 };
	struct store *store;
	struct err e = { 0 };

	ck_assert_int_eq(store_open(env_posix(), "mem:" STORE_NAME, &bo, &store, &e), 0);
	if (!conditional)
		store->caps &= ~(unsigned int)BACKEND_CAP_PUT_IF_ABSENT;
	ck_assert_int_eq(backend_open_over(env_posix(), store, "mem:" STORE_NAME, &bo, &backend,
					   &e),
			 0);
	pf.options.backend = backend;
	mem = pattern_mem(MIB, 1);
}

static void end(void)
{
	if (pf.pool)
		ck_assert_int_le(pool_close(TAKE_PTR(pf.pool), NULL), 0);
	backend_close(backend);
	backend_mem_forget(STORE_NAME);
	free(mem);
}

/* A pool of the fixture that has claimed its epoch, and a copy of its directory with the same one. */
static struct pool *open_both(void)
{
	struct pool_options o;
	char copy[PATH_BYTES];
	struct pool *second;
	struct err e = { 0 };

	pool_fixture_create();
	copy_tree(pf.dir, root_path(copy, "copy"));
	pool_fixture_open_quiet();
	o = pf.options;
	o.dir = copy;
	ck_assert_msg(pool_open(env_posix(), &o, &second, &e) == 0, "%s", e.message);
	return second;
}

static void write_something(struct pool *p)
{
	struct object *o;
	uint64_t id;

	ck_assert_int_eq(object_create(p, OBJECT_DISK, &id, NULL), 0);
	ck_assert_int_eq(object_open(p, id, &o, NULL), 0);
	ck_assert_int_eq(object_write(o, 0, mem, MIB, NULL), 0);
	object_close(o);
}

static int count(UNUSED void *arg, UNUSED const char *name,
		 UNUSED const struct backend_object *object)
{
	return 0;
}

static int objects_there(void)
{
	return backend_list(backend, "", NULL, 100000, count, NULL, NULL);
}

START_TEST(of_two_copies_the_second_puts_nothing)
{
	struct pool *second;
	struct err e = { 0 };
	int before;

	open_backend(_i);
	second = open_both();
	before = objects_there();
	write_something(second);
	ck_assert_int_eq(pool_sync_backend(second, &e), -ESTALE);
	ck_assert_ptr_nonnull(strstr(e.message, "another daemon"));
	ck_assert_int_eq(objects_there(), before);
	write_something(second); /* work goes on */
	ck_assert_int_le(pool_close(second, NULL), 0);
	write_something(pf.pool);
	ck_assert_int_eq(pool_sync_backend(pf.pool, &e), 0);
	ck_assert_int_gt(objects_there(), before);
	end();
}
END_TEST

/* Both looked, both put: of whom the claim is not, he stops at his next round. */
START_TEST(who_lost_his_claim_stops)
{
	struct backend_source other = { .data = "another daemon's", .len_bytes = 16 };
	struct backend_put_result result;
	char claim[OBJECT_NAME_MAX + 1];
	struct pool_status st;
	struct err e = { 0 };

	open_backend(_i);
	pool_fixture_create();
	pool_fixture_open_quiet();
	pool_status(pf.pool, &st);
	object_name_epoch(claim, st.epoch);
	ck_assert_int_eq(backend_put(backend, claim, &other, 0, &result, &e), 0);
	write_something(pf.pool);
	ck_assert_int_eq(pool_sync_backend(pf.pool, &e), -ESTALE);
	ck_assert_int_eq(pool_sync_backend(pf.pool, &e), -ESTALE);
	end();
}
END_TEST

/* A store in trouble may miss an object for a while: that is no other daemon. */
START_TEST(a_claim_that_is_not_found_is_waited_for)
{
	char claim[OBJECT_NAME_MAX + 1];
	uint8_t bytes[16];
	struct backend_source own = { .data = bytes, .len_bytes = sizeof(bytes) };
	struct backend_put_result result;
	struct pool_status st;
	struct err e = { 0 };

	open_backend(_i);
	pool_fixture_create();
	pool_fixture_open_quiet();
	pool_status(pf.pool, &st);
	object_name_epoch(claim, st.epoch);
	ck_assert_int_eq(backend_get(backend, claim, 0, bytes, sizeof(bytes), &e), 0);
	ck_assert_int_eq(backend_delete(backend, claim, &e), 0);
	write_something(pf.pool);
	ck_assert_int_eq(pool_sync_backend(pf.pool, &e), -EAGAIN);
	ck_assert_int_eq(backend_put(backend, claim, &own, 0, &result, &e), 0);
	ck_assert_int_eq(pool_sync_backend(pf.pool, &e), 0);
	end();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("pool_fence");
	TCase *t = tcase_create("fence");
	SRunner *runner;
	int failed;

	pool_fixture_add(t, NULL);
	tcase_add_loop_test(t, of_two_copies_the_second_puts_nothing, 0, 2);
	tcase_add_loop_test(t, who_lost_his_claim_stops, 0, 2);
	tcase_add_loop_test(t, a_claim_that_is_not_found_is_waited_for, 0, 2);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
