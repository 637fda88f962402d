/* Each fault of the filter, alone, at certainty, at a known rate, and not at all. */
#include "backend/backend_impl.h"
#include "tests/backend/support_scripted.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define ALWAYS	   65536u
#define HALF	   32768u
#define DRAWS	   4000u
#define DATA	   "0123456789abcdef"
#define DATA_BYTES 16u

static struct {
	struct env env;
	struct env_ops env_ops;
	uint64_t state;
	unsigned int draws;
	struct store *below, *s;
	struct err e;
} fx;

/* A generator of ours: the same run each time. */
static void seeded_random(struct env *env, void *buf, size_t len_bytes)
{
	(void)env;
	fx.draws++;
	for (size_t i = 0; i < len_bytes; i++) {
		fx.state = fx.state * UINT64_C(6364136223846793005) + 1442695040888963407u;
		((uint8_t *)buf)[i] = (uint8_t)(fx.state >> 56);
	}
}

static void setup(void)
{
	static const struct backend_options options;
	static const struct fault_plan none;

	fx.env_ops = *env_posix()->ops;
	fx.env_ops.random = seeded_random;
	fx.env.ops = &fx.env_ops;
	fx.state = 1;
	ck_assert_int_eq(store_open(&fx.env, "mem:", &options, &fx.below, &fx.e), 0);
	ck_assert_int_eq(filter_fault_open(&fx.env, fx.below, &none, &fx.s), 0);
}

static void teardown(void)
{
	fx.s->ops->close(fx.s);
}

static int put(struct store *s, const char *name)
{
	struct backend_source source = { .data = DATA, .len_bytes = DATA_BYTES };
	struct backend_put_result result;

	return s->ops->put(s, name, &source, 0, &result, &fx.e);
}

static int head(struct store *s, const char *name)
{
	struct backend_object object;

	return s->ops->head(s, name, &object, &fx.e);
}

static int get(char got[DATA_BYTES])
{
	return fx.s->ops->get(fx.s, "there", 0, got, DATA_BYTES, &fx.e);
}

static int count_one(void *arg, const char *name, const struct backend_object *object)
{
	(void)name;
	(void)object;
	++*(unsigned int *)arg;
	return 0;
}

static int list(unsigned int *seen)
{
	return fx.s->ops->list(fx.s, "", NULL, 10, count_one, seen, &fx.e);
}

static void plan(struct fault_plan p)
{
	filter_fault_set(fx.s, &p);
}

START_TEST(without_faults_nothing_changes_and_no_dice_are_thrown)
{
	unsigned int seen = 0;
	char got[DATA_BYTES];

	ck_assert_uint_eq(fx.s->caps, fx.below->caps);
	ck_assert_int_eq(put(fx.s, "there"), 0);
	ck_assert_int_eq(get(got), 0);
	ck_assert(memcmp(got, DATA, DATA_BYTES) == 0);
	ck_assert_int_eq(head(fx.s, "there"), 0);
	ck_assert_int_eq(list(&seen), 1);
	ck_assert_int_eq(fx.s->ops->del(fx.s, "there", &fx.e), 0);
	ck_assert_int_eq(head(fx.s, "there"), -ENOENT);
	ck_assert_uint_eq(fx.draws, 0);
}
END_TEST

static void everything_fails_and_nothing_is_done(void)
{
	unsigned int seen = 0;
	char got[DATA_BYTES];

	ck_assert_int_eq(put(fx.s, "new"), -EAGAIN);
	ck_assert_int_eq(head(fx.below, "new"), -ENOENT);
	ck_assert_int_eq(get(got), -EAGAIN);
	ck_assert_int_eq(head(fx.s, "there"), -EAGAIN);
	ck_assert_int_eq(list(&seen), -EAGAIN);
	ck_assert_uint_eq(seen, 0);
	ck_assert_int_eq(fx.s->ops->del(fx.s, "there", &fx.e), -EAGAIN);
	ck_assert_int_eq(head(fx.below, "there"), 0);
}

START_TEST(a_backend_that_is_down_does_nothing_until_it_is_up)
{
	char got[DATA_BYTES];

	ck_assert_int_eq(put(fx.s, "there"), 0);
	plan((struct fault_plan){ .down = true });
	everything_fails_and_nothing_is_done();
	plan((struct fault_plan){ .down = false });
	ck_assert_int_eq(get(got), 0);
}
END_TEST

START_TEST(a_lost_request_does_nothing)
{
	ck_assert_int_eq(put(fx.s, "there"), 0);
	plan((struct fault_plan){ .error_before = ALWAYS });
	everything_fails_and_nothing_is_done();
}
END_TEST

START_TEST(a_lost_answer_comes_after_the_deed)
{
	unsigned int seen = 0;
	char got[DATA_BYTES];

	plan((struct fault_plan){ .error_after = ALWAYS });
	ck_assert_int_eq(put(fx.s, "there"), -EAGAIN);
	ck_assert_int_eq(head(fx.below, "there"), 0);
	ck_assert_int_eq(get(got), -EAGAIN);
	ck_assert_int_eq(head(fx.s, "there"), -EAGAIN);
	ck_assert_int_eq(list(&seen), -EAGAIN);
	ck_assert_int_eq(fx.s->ops->del(fx.s, "there", &fx.e), -EAGAIN);
	ck_assert_int_eq(head(fx.below, "there"), -ENOENT);
}
END_TEST

START_TEST(a_cut_body_looks_like_a_short_object)
{
	char got[DATA_BYTES];

	ck_assert_int_eq(put(fx.s, "there"), 0);
	plan((struct fault_plan){ .cut_read = ALWAYS });
	ck_assert_int_eq(get(got), -EUCLEAN);
	ck_assert_int_eq(head(fx.s, "there"), 0);
	ck_assert_int_eq(put(fx.s, "there"), 0);
}
END_TEST

START_TEST(a_flip_changes_one_bit_of_what_is_read_and_none_of_what_is_kept)
{
	char got[DATA_BYTES];

	ck_assert_int_eq(put(fx.s, "there"), 0);
	plan((struct fault_plan){ .flip_read = ALWAYS });
	for (unsigned int round = 0; round < 100; round++) {
		int wrong_bits = 0;

		ck_assert_int_eq(get(got), 0);
		for (size_t i = 0; i < DATA_BYTES; i++)
			wrong_bits += __builtin_popcount((unsigned int)(got[i] ^ DATA[i]) & 0xff);
		ck_assert_int_eq(wrong_bits, 1);
	}
	ck_assert_int_eq(fx.s->ops->get(fx.s, "there", 3, got, 0, &fx.e), 0);
	plan((struct fault_plan){ .flip_read = 0 });
	ck_assert_int_eq(get(got), 0);
	ck_assert(memcmp(got, DATA, DATA_BYTES) == 0);
}
END_TEST

START_TEST(a_full_backend_refuses_puts_only)
{
	char got[DATA_BYTES];

	ck_assert_int_eq(put(fx.s, "there"), 0);
	plan((struct fault_plan){ .no_space = ALWAYS });
	ck_assert_int_eq(put(fx.s, "new"), -ENOSPC);
	ck_assert_int_eq(head(fx.s, "new"), -ENOENT);
	ck_assert_int_eq(get(got), 0);
	ck_assert_int_eq(fx.s->ops->del(fx.s, "there", &fx.e), 0);
}
END_TEST

START_TEST(half_a_chance_happens_about_half_the_time)
{
	unsigned int failed = 0;

	plan((struct fault_plan){ .error_before = HALF });
	for (unsigned int i = 0; i < DRAWS; i++)
		failed += head(fx.s, "nothing") == -EAGAIN;
	ck_assert_uint_gt(failed, DRAWS * 45 / 100);
	ck_assert_uint_lt(failed, DRAWS * 55 / 100);
}
END_TEST

START_TEST(a_delay_waits_a_random_time_below_its_limit)
{
	uint64_t longest_ns = 0;

	sched_hook = &virtual_sched;
	plan((struct fault_plan){ .delay_ns_max = 1000000 });
	for (unsigned int i = 0; i < 100; i++) {
		uint64_t before_ns = virtual_now_ns;

		ck_assert_int_eq(head(fx.s, "nothing"), -ENOENT);
		ck_assert_uint_lt(virtual_now_ns - before_ns, 1000000);
		if (virtual_now_ns - before_ns > longest_ns)
			longest_ns = virtual_now_ns - before_ns;
	}
	sched_hook = NULL;
	ck_assert_uint_gt(longest_ns, 900000);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("backend/filter_fault");
	TCase *tc = tcase_create("faults");
	SRunner *runner;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, without_faults_nothing_changes_and_no_dice_are_thrown);
	tcase_add_test(tc, a_backend_that_is_down_does_nothing_until_it_is_up);
	tcase_add_test(tc, a_lost_request_does_nothing);
	tcase_add_test(tc, a_lost_answer_comes_after_the_deed);
	tcase_add_test(tc, a_cut_body_looks_like_a_short_object);
	tcase_add_test(tc, a_flip_changes_one_bit_of_what_is_read_and_none_of_what_is_kept);
	tcase_add_test(tc, a_full_backend_refuses_puts_only);
	tcase_add_test(tc, half_a_chance_happens_about_half_the_time);
	tcase_add_test(tc, a_delay_waits_a_random_time_below_its_limit);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
