/* The examination of a store: an honest one passes, and each lie is found by the step it is about. */
#include "backend/backend_impl.h"
#include "common/base.h"
#include "volume/store_exam.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum lie {
	HONEST,
	NOTHING_CAN_BE_PUT,
	OTHER_BYTES,
	FIRST_PUT_STAYS,
	RANGES_FROM_THE_START,
	MISSING_IS_AN_ERROR,
	LARGE_IS_CUT,
	LIST_FORGETS,
	LIST_FORGETS_THE_FIRST,
	NOTHING_GOES,
	CLAIMS_ARE_OVERWRITTEN,
	NO_CLAIMS,
	SLOW_CLOCK,
	NO_CLOCK,
};

struct liar {
	struct store store;
	struct store *below;
	enum lie lie;
};

static struct liar *liar_of(struct store *s)
{
	return CONTAINER_OF(s, struct liar, store);
}

static void lie_close(struct store *s)
{
	struct liar *l = liar_of(s);

	l->below->ops->close(l->below);
	free(l);
}

static int lie_put(struct store *s, const char *name, const struct backend_source *source,
		   unsigned int flags, struct backend_put_result *ret_result, struct err *e)
{
	struct liar *l = liar_of(s);
	struct backend_source cut = *source;
	struct backend_object object;

	if (l->lie == NOTHING_CAN_BE_PUT)
		return err_set(e, -EACCES, "no key fits");
	if (l->lie == FIRST_PUT_STAYS && !flags &&
	    l->below->ops->head(l->below, name, &object, NULL) == 0)
		return 0;
	if (l->lie == LARGE_IS_CUT && cut.len_bytes > 1 << 20)
		cut.len_bytes = 1 << 20;
	if (l->lie == CLAIMS_ARE_OVERWRITTEN)
		flags = 0;
	return l->below->ops->put(l->below, name, &cut, flags, ret_result, e);
}

static int lie_get(struct store *s, const char *name, uint64_t offset_bytes, void *dst,
		   size_t len_bytes, struct err *e)
{
	struct liar *l = liar_of(s);
	int r;

	if (l->lie == RANGES_FROM_THE_START)
		offset_bytes = 0;
	r = l->below->ops->get(l->below, name, offset_bytes, dst, len_bytes, e);
	if (r == 0 && l->lie == OTHER_BYTES)
		*(uint8_t *)dst ^= 1;
	return r == -ENOENT && l->lie == MISSING_IS_AN_ERROR ? -EACCES : r;
}

static int lie_head(struct store *s, const char *name, struct backend_object *ret_object,
		    struct err *e)
{
	struct liar *l = liar_of(s);
	int r = l->below->ops->head(l->below, name, ret_object, e);

	if (l->lie == SLOW_CLOCK)
		ret_object->modified_ns -= INT64_C(3600) * 1000000000;
	if (l->lie == NO_CLOCK)
		ret_object->modified_ns = 0;
	return r;
}

static int lie_del(struct store *s, const char *name, struct err *e)
{
	struct liar *l = liar_of(s);

	return l->lie == NOTHING_GOES ? 0 : l->below->ops->del(l->below, name, e);
}

struct shown {
	const struct liar *liar;
	int (*fn)(void *arg, const char *name, const struct backend_object *object);
	void *arg;
	int hidden;
};

static int show(void *arg, const char *name, const struct backend_object *object)
{
	struct shown *s = arg;

	if ((s->liar->lie == LIST_FORGETS && strstr(name, "a0")) ||
	    (s->liar->lie == LIST_FORGETS_THE_FIRST && strstr(name, "list/A"))) {
		s->hidden++;
		return 0;
	}
	return s->fn(s->arg, name, object);
}

static int lie_list(struct store *s, const char *prefix, const char *after, unsigned int count_max,
		    int (*fn)(void *arg, const char *name, const struct backend_object *object),
		    void *arg, struct err *e)
{
	struct liar *l = liar_of(s);
	struct shown shown = { l, fn, arg, 0 };
	int r;

	/* Nothing to clean up is what the last step would wait for. */
	if (l->lie == NOTHING_GOES && !strstr(prefix, "list/"))
		return 0;
	r = l->below->ops->list(l->below, prefix, after, count_max, show, &shown, e);
	return r < 0 ? r : r - shown.hidden;
}

static const struct store_ops lies = {
	.type_name = "lies",
	.close = lie_close,
	.put = lie_put,
	.get = lie_get,
	.head = lie_head,
	.del = lie_del,
	.list = lie_list,
};

static struct backend *b;
static struct store_exam x;

static void examine(enum lie lie)
{
	struct store_exam_options o = { .large_bytes = 5 << 20 };
	struct backend_options bo = { .attempts_max = 1 };
	struct liar *l = calloc(1, sizeof(*l));
	struct err e = { 0 };

	ck_assert_ptr_nonnull(l);
	ck_assert_int_eq(store_open(env_posix(), "mem:", &bo, &l->below, &e), 0);
	l->store = (struct store){ .ops = &lies, .caps = l->below->caps };
	if (lie == NO_CLAIMS)
		l->store.caps &= ~(unsigned int)BACKEND_CAP_PUT_IF_ABSENT;
	l->lie = lie;
	ck_assert_int_eq(backend_open_over(env_posix(), &l->store, "lies:", &bo, &b, &e), 0);
	ck_assert_int_eq(store_exam_run(b, env_posix(), &o, &x, &e), 0);
}

static const struct store_exam_step *step(const char *name)
{
	for (unsigned int i = 0; i < x.count; i++)
		if (strcmp(x.steps[i].name, name) == 0)
			return &x.steps[i];
	ck_abort_msg("no step '%s'", name);
	return NULL;
}

static int count_one(UNUSED void *arg, UNUSED const char *name,
		     UNUSED const struct backend_object *object)
{
	return 0;
}

START_TEST(an_honest_store_passes_and_is_left_empty)
{
	examine(HONEST);
	ck_assert_uint_eq(x.count, 11);
	for (unsigned int i = 0; i < x.count; i++)
		ck_assert_msg(x.steps[i].result == STORE_EXAM_OK ||
				      strcmp(x.steps[i].name, "delete many") == 0,
			      "%s: %s", x.steps[i].name, x.steps[i].detail);
	ck_assert(x.can_fence);
	ck_assert(x.tells_time);
	ck_assert_int_eq(backend_list(b, "", NULL, 1000, count_one, NULL, NULL), 0);
	backend_close(b);
}
END_TEST

static const struct {
	enum lie lie;
	const char *step;
	enum store_exam_result result;
} found[] = {
	{ NOTHING_CAN_BE_PUT, "put and get", STORE_EXAM_FAILED },
	{ OTHER_BYTES, "put and get", STORE_EXAM_FAILED },
	{ FIRST_PUT_STAYS, "replace", STORE_EXAM_FAILED },
	{ RANGES_FROM_THE_START, "range", STORE_EXAM_FAILED },
	{ MISSING_IS_AN_ERROR, "missing object", STORE_EXAM_FAILED },
	{ LARGE_IS_CUT, "large object", STORE_EXAM_FAILED },
	{ LIST_FORGETS, "list in order", STORE_EXAM_FAILED },
	{ LIST_FORGETS_THE_FIRST, "list in order", STORE_EXAM_FAILED },
	{ NOTHING_GOES, "delete", STORE_EXAM_FAILED },
	{ NOTHING_GOES, "delete many", STORE_EXAM_FAILED },
	{ HONEST, "delete many", STORE_EXAM_ABSENT },
	{ CLAIMS_ARE_OVERWRITTEN, "put if absent", STORE_EXAM_FAILED },
	{ NO_CLAIMS, "put if absent", STORE_EXAM_ABSENT },
	{ NO_CLOCK, "clock", STORE_EXAM_ABSENT },
};

START_TEST(each_lie_is_found)
{
	const struct store_exam_step *s;

	examine(found[_i].lie);
	s = step(found[_i].step);
	ck_assert_msg(s->result == found[_i].result, "%s: %d %s", s->name, s->result, s->detail);
	ck_assert_str_ne(s->detail, "");
	if (strcmp(s->name, "put if absent") == 0)
		ck_assert(!x.can_fence);
	backend_close(b);
}
END_TEST

START_TEST(a_clock_that_is_off_is_told_with_how_far)
{
	examine(SLOW_CLOCK);
	ck_assert_int_eq(step("clock")->result, STORE_EXAM_OK);
	ck_assert_ptr_nonnull(strstr(step("clock")->detail, "3600 seconds behind"));
	ck_assert_int_lt(x.clock_ahead_ns, -INT64_C(3599) * 1000000000);
	backend_close(b);
}
END_TEST

START_TEST(nothing_more_is_tried_where_nothing_can_be_put)
{
	examine(NOTHING_CAN_BE_PUT);
	ck_assert_uint_eq(x.count, 1);
	ck_assert_ptr_nonnull(strstr(x.steps[0].detail, "no key fits"));
	backend_close(b);
}
END_TEST

START_TEST(speed_is_measured_when_asked_for)
{
	struct store_exam_options o = { .large_bytes = 1 << 20, .speed_ns = 1, .threads = 3 };
	struct err e = { 0 };

	ck_assert_int_eq(backend_open(env_posix(), "mem:", NULL, &b, &e), 0);
	ck_assert_int_eq(store_exam_run(b, env_posix(), &o, &x, &e), 0);
	ck_assert_int_eq(step("speed")->result, STORE_EXAM_OK);
	ck_assert_uint_eq(x.threads, 3);
	ck_assert_uint_gt(x.put_bytes_per_s, 0);
	ck_assert_uint_gt(x.get_bytes_per_s, 0);
	ck_assert_uint_gt(x.small_put_ns, 0);
	ck_assert_uint_gt(x.small_get_ns, 0);
	ck_assert_int_eq(backend_list(b, "", NULL, 1000, count_one, NULL, NULL), 0);
	backend_close(b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("exam");
	TCase *t = tcase_create("exam");
	SRunner *runner;
	int failed;

	tcase_add_test(t, an_honest_store_passes_and_is_left_empty);
	tcase_add_loop_test(t, each_lie_is_found, 0, ARRAY_SIZE(found));
	tcase_add_test(t, a_clock_that_is_off_is_told_with_how_far);
	tcase_add_test(t, nothing_more_is_tried_where_nothing_can_be_put);
	tcase_add_test(t, speed_is_measured_when_asked_for);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
