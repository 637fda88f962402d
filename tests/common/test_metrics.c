#include "common/metrics.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct histogram h;

static void setup(void)
{
	memset(&h, 0, sizeof(h));
}

static struct histogram_snapshot snap(void)
{
	struct histogram_snapshot s;

	memset(&s, 0xff, sizeof(s));
	histogram_snapshot(&h, &s);
	return s;
}

START_TEST(counters_rise_and_gauges_move)
{
	struct counter c = { 0 };
	struct gauge g = { 0 };

	counter_inc(&c);
	counter_add(&c, 41);
	ck_assert_uint_eq(counter_get(&c), 42);
	gauge_set(&g, 10);
	gauge_add(&g, -15);
	ck_assert_int_eq(gauge_get(&g), -5);
}
END_TEST

START_TEST(empty_histogram_is_all_zero)
{
	struct histogram_snapshot s = snap();

	ck_assert_uint_eq(s.count, 0);
	ck_assert_uint_eq(s.sum_ns, 0);
	ck_assert_uint_eq(s.p50_ns, 0);
	ck_assert_uint_eq(s.p999_ns, 0);
	ck_assert_uint_eq(s.max_ns, 0);
}
END_TEST

START_TEST(single_value_is_every_percentile_exactly)
{
	static const uint64_t values[] = { 0,
					   1,
					   15,
					   16,
					   17,
					   31,
					   32,
					   33,
					   1000,
					   4097,
					   5000000000ull,
					   HISTOGRAM_LIMIT_NS - 1,
					   HISTOGRAM_LIMIT_NS,
					   UINT64_MAX };

	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		struct histogram_snapshot s;

		setup();
		histogram_record(&h, values[i]);
		s = snap();
		ck_assert_uint_eq(s.count, 1);
		ck_assert_uint_eq(s.sum_ns, values[i]);
		/* The top of the bucket, cut at the maximum. */
		ck_assert_uint_eq(s.p50_ns, values[i]);
		ck_assert_uint_eq(s.p99_ns, values[i]);
		ck_assert_uint_eq(s.p999_ns, values[i]);
		ck_assert_uint_eq(s.max_ns, values[i]);
	}
}
END_TEST

START_TEST(percentiles_are_never_too_low_and_at_most_a_sixteenth_too_high)
{
	struct histogram_snapshot s;

	for (uint64_t i = 1; i <= 10000; i++)
		histogram_record(&h, i * 977);
	s = snap();
	ck_assert_uint_eq(s.count, 10000);
	ck_assert_uint_eq(s.sum_ns, UINT64_C(977) * 10000 * 10001 / 2);
	ck_assert_uint_ge(s.p50_ns, 5000 * 977);
	ck_assert_uint_le(s.p50_ns, 5000 * 977 * 17 / 16);
	ck_assert_uint_ge(s.p99_ns, 9900 * 977);
	ck_assert_uint_le(s.p99_ns, 10000 * 977);
	ck_assert_uint_ge(s.p999_ns, 9990 * 977);
	ck_assert_uint_le(s.p999_ns, 10000 * 977);
	ck_assert_uint_eq(s.max_ns, 10000 * 977);
}
END_TEST

START_TEST(every_octave_keeps_its_resolution)
{
	for (unsigned int bit = 0; bit < HISTOGRAM_TOP_BITS; bit++) {
		for (uint64_t part = 0; part < 16; part++) {
			uint64_t value = ((uint64_t)1 << bit) + (part << bit) / 16;
			uint64_t width = max_u64(((uint64_t)1 << bit) / 16, 1);
			struct histogram_snapshot s;

			setup();
			for (int i = 0; i < 10; i++)
				histogram_record(&h, value);
			histogram_record(&h, UINT64_MAX); /* lets the bucket's top show */
			s = snap();
			ck_assert_uint_ge(s.p50_ns, value);
			ck_assert_uint_le(s.p50_ns, value + width - 1);
		}
	}
}
END_TEST

START_TEST(a_rare_slow_one_shows_in_the_tail_only)
{
	struct histogram_snapshot s;

	for (int i = 0; i < 998; i++)
		histogram_record(&h, 100);
	histogram_record(&h, 1000000);
	histogram_record(&h, 1000000);
	s = snap();
	ck_assert_uint_le(s.p50_ns, 107);
	ck_assert_uint_le(s.p99_ns, 107);
	ck_assert_uint_ge(s.p999_ns, 1000000);
	ck_assert_uint_eq(s.max_ns, 1000000);
}
END_TEST

#define WRITERS 4
#define RECORDS 320000

static struct counter shared_counter;
static pthread_barrier_t start; /* so that they do meet */

static void record_many(void *arg)
{
	uint64_t id = *(const uint64_t *)arg;

	(void)pthread_barrier_wait(&start);
	for (uint64_t i = 0; i < RECORDS; i++) {
		histogram_record(&h, (i + id) % 64);
		counter_inc(&shared_counter);
	}
}

START_TEST(threads_lose_no_record)
{
	struct thread *t[WRITERS];
	uint64_t id[WRITERS], n = (uint64_t)WRITERS * RECORDS;
	struct histogram_snapshot s;

	shared_counter.value = 0;
	ck_assert_int_eq(pthread_barrier_init(&start, NULL, WRITERS), 0);
	for (uint64_t i = 0; i < WRITERS; i++) {
		id[i] = i;
		ck_assert_int_eq(thread_start("record", record_many, &id[i], &t[i]), 0);
	}
	s = snap(); /* while they run: no rule but that it is sane */
	ck_assert_uint_le(s.count, n);
	for (int i = 0; i < WRITERS; i++)
		thread_join(t[i]);
	ck_assert_int_eq(pthread_barrier_destroy(&start), 0);
	s = snap();
	ck_assert_uint_eq(s.count, n);
	ck_assert_uint_le(s.sum_ns, n * 63);
	ck_assert_uint_ge(s.sum_ns, n * 31);
	ck_assert_uint_eq(s.max_ns, 63);
	ck_assert_uint_eq(counter_get(&shared_counter), n);
}
END_TEST

struct upload_metrics {
	struct counter puts;
	struct gauge queued;
	struct histogram put_ns;
};

static const struct metric_def upload_defs[] = {
	METRIC_COUNTER(struct upload_metrics, puts, "requests", "PUTs that succeeded."),
	METRIC_GAUGE(struct upload_metrics, queued, "SCOs", "SCOs that wait."),
	METRIC_HISTOGRAM(struct upload_metrics, put_ns, "Time of one PUT."),
};

struct seen {
	unsigned int count;
	unsigned int stop_at;
	char names[512];
	struct metric_value last;
};

static int see(void *arg, const struct metric_value *value)
{
	struct seen *seen = arg;
	size_t len = strlen(seen->names);

	(void)snprintf(seen->names + len, sizeof(seen->names) - len, "%s.%s ", value->group,
		       value->def->name);
	seen->last = *value;
	return ++seen->count == seen->stop_at ? 77 : 0;
}

static struct metrics_registry registry;
static struct upload_metrics values_a, values_b;
static struct metrics_group group_a = { "a", upload_defs, ARRAY_SIZE(upload_defs), &values_a,
					NULL };
static struct metrics_group group_b = { "b", upload_defs, ARRAY_SIZE(upload_defs), &values_b,
					NULL };

START_TEST(walk_visits_all_groups_in_order_with_their_values)
{
	struct seen seen = { 0 };

	memset(&values_a, 0, sizeof(values_a));
	memset(&values_b, 0, sizeof(values_b));
	histogram_record(&values_b.put_ns, 123);
	metrics_registry_init(&registry);
	metrics_add(&registry, &group_a);
	metrics_add(&registry, &group_b);
	ck_assert_int_eq(metrics_for_each(&registry, see, &seen), 0);
	ck_assert_str_eq(seen.names, "a.puts a.queued a.put_ns b.puts b.queued b.put_ns ");
	ck_assert_int_eq(seen.last.def->kind, METRIC_KIND_HISTOGRAM);
	ck_assert_str_eq(seen.last.def->unit, "ns");
	ck_assert_uint_eq(seen.last.histogram.count, 1);
	ck_assert_uint_eq(seen.last.histogram.p50_ns, 123);

	counter_add(&values_a.puts, 5);
	gauge_set(&values_a.queued, -2);
	seen = (struct seen){ .stop_at = 1 };
	ck_assert_int_eq(metrics_for_each(&registry, see, &seen), 77);
	ck_assert_uint_eq(seen.last.counter, 5);
	seen = (struct seen){ .stop_at = 2 };
	ck_assert_int_eq(metrics_for_each(&registry, see, &seen), 77);
	ck_assert_int_eq(seen.last.gauge, -2);
	ck_assert_uint_eq(seen.count, 2);

	metrics_remove(&registry, &group_a);
	seen = (struct seen){ 0 };
	ck_assert_int_eq(metrics_for_each(&registry, see, &seen), 0);
	ck_assert_str_eq(seen.names, "b.puts b.queued b.put_ns ");
	metrics_remove(&registry, &group_b);
	metrics_registry_done(&registry);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("common/metrics");
	TCase *t = tcase_create("metrics");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, counters_rise_and_gauges_move);
	tcase_add_test(t, empty_histogram_is_all_zero);
	tcase_add_test(t, single_value_is_every_percentile_exactly);
	tcase_add_test(t, percentiles_are_never_too_low_and_at_most_a_sixteenth_too_high);
	tcase_add_test(t, every_octave_keeps_its_resolution);
	tcase_add_test(t, a_rare_slow_one_shows_in_the_tail_only);
	tcase_add_test(t, threads_lose_no_record);
	tcase_add_test(t, walk_visits_all_groups_in_order_with_their_values);
	suite_add_tcase(s, t);

	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
