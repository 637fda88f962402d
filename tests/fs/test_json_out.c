#include "fs/json_out.h"

#include "common/metrics.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static json_t *document;

static void begin(void)
{
	document = json_object();
}

static void end(void)
{
	json_decref(document);
}

static const char *text_of(const char *key)
{
	const char *text = json_string_value(json_object_get(document, key));

	return text ? text : "(none)";
}

START_TEST(a_name_in_utf8_is_given_as_it_is)
{
	const char name[] = "/d\xc3\xa9j\xc3\xa0/\xf0\x9f\x92\xbe.raw";

	ck_assert_int_eq(json_out_name(document, "path", name, strlen(name)), 0);
	ck_assert_str_eq(text_of("path"), name);
	ck_assert_str_eq(text_of("path_hex"), "(none)");
}
END_TEST

START_TEST(each_byte_that_is_not_utf8_is_replaced_and_all_are_told_in_hex)
{
	ck_assert_int_eq(json_out_name(document, "path", "a\xff\xc3", 3), 0);
	ck_assert_str_eq(text_of("path"), "a\xef\xbf\xbd\xef\xbf\xbd");
	ck_assert_str_eq(text_of("path_hex"), "61ffc3");
}
END_TEST

/* What jansson itself refuses must not come through: the document would be lost. */
START_TEST(no_two_bytes_make_a_name_that_jansson_refuses)
{
	for (unsigned int i = 0; i < 65536; i++) {
		char name[4] = { (char)(i >> 8), (char)i, (char)0x80, (char)0x80 };

		for (size_t len = 0; len <= sizeof(name); len++)
			ck_assert_int_eq(json_out_name(document, "x", name, len), 0);
	}
}
END_TEST

START_TEST(overlong_surrogate_and_too_large_sequences_are_not_utf8)
{
	ck_assert_uint_eq(json_out_utf8_length("\xc0\x80", 2), 0);
	ck_assert_uint_eq(json_out_utf8_length("\xe0\x80\x80", 3), 0);
	ck_assert_uint_eq(json_out_utf8_length("\xed\xa0\x80", 3), 0);
	ck_assert_uint_eq(json_out_utf8_length("\xf4\x90\x80\x80", 4), 0);
	ck_assert_uint_eq(json_out_utf8_length("\xf0\x9f\x92", 3), 0);
	ck_assert_uint_eq(json_out_utf8_length("\xf4\x8f\xbf\xbf", 4), 4);
	ck_assert_uint_eq(json_out_utf8_length("", 0), 0);
}
END_TEST

START_TEST(a_newline_in_a_name_stays_one_line_of_output)
{
	char *text;

	ck_assert_int_eq(json_out_name(document, "path", "a\nb", 3), 0);
	text = json_dumps(document, JSON_COMPACT);
	ck_assert_ptr_null(strchr(text, '\n'));
	free(text);
}
END_TEST

START_TEST(numbers_beyond_63_bits_are_cut_not_negative)
{
	ck_assert_int_eq(json_out_u64(document, "n", UINT64_MAX), 0);
	ck_assert_int_eq(json_integer_value(json_object_get(document, "n")), INT64_MAX);
}
END_TEST

START_TEST(an_error_has_its_three_keys)
{
	json_t *error = json_out_error("it broke", 6, NULL);

	ck_assert_uint_eq(json_object_size(error), 3);
	ck_assert_int_eq(json_integer_value(json_object_get(error, "code")), 6);
	ck_assert(json_is_null(json_object_get(error, "hint")));
	json_decref(error);
}
END_TEST

struct sample {
	struct counter done;
	struct gauge open;
	struct histogram wait_ns;
};

START_TEST(metrics_are_named_by_group_and_times_are_seconds)
{
	static const struct metric_def defs[] = {
		METRIC_COUNTER(struct sample, done, "things", "Things done."),
		METRIC_GAUGE(struct sample, open, "things", "Things open."),
		METRIC_HISTOGRAM(struct sample, wait_ns, "Time."),
	};
	static struct sample sample;
	struct metrics_group group = {
		.name = "test", .defs = defs, .def_count = ARRAY_SIZE(defs), .values = &sample
	};
	struct metrics_registry registry;
	const json_t *h;
	json_t *all;

	metrics_registry_init(&registry);
	metrics_add(&registry, &group);
	counter_add(&sample.done, 7);
	gauge_set(&sample.open, -2);
	histogram_record(&sample.wait_ns, UINT64_C(2000000000));

	all = json_out_metrics(&registry);

	ck_assert_int_eq(json_integer_value(
				 json_object_get(json_object_get(all, "counters"), "test.done")),
			 7);
	ck_assert_int_eq(json_integer_value(
				 json_object_get(json_object_get(all, "gauges"), "test.open")),
			 -2);
	h = json_object_get(json_object_get(all, "histograms"), "test.wait_ns");
	ck_assert_double_eq_tol(json_real_value(json_object_get(h, "max")), 2.0, 1e-9);
	ck_assert_int_eq(json_integer_value(json_object_get(h, "count")), 1);
	json_decref(all);
	metrics_remove(&registry, &group);
	metrics_registry_done(&registry);
}
END_TEST

START_TEST(any_name_comes_back_as_it_was_set)
{
	static const char *const names[] = { "",	  "plain",    "d\xc3\xa9",
					     "a\xff\xc3", "\x01\x7f", "\xff" };
	char text[16];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		ck_assert_int_eq(json_object_clear(document), 0);
		ck_assert_int_eq(json_out_name(document, "name", names[i], strlen(names[i])), 0);
		ck_assert_int_eq(json_out_name_back(document, "name", text, sizeof(text)), 0);
		ck_assert_str_eq(text, names[i]);
	}
}
END_TEST

START_TEST(what_is_no_name_does_not_come_back)
{
	char text[4];

	ck_assert_int_eq(json_out_name_back(document, "name", text, sizeof(text)), -ENOENT);
	(void)json_object_set_new(document, "name", json_integer(1));
	ck_assert_int_eq(json_out_name_back(document, "name", text, sizeof(text)), -ENOENT);
	(void)json_object_set_new(document, "name", json_string("four"));
	ck_assert_int_eq(json_out_name_back(document, "name", text, sizeof(text)), -ENAMETOOLONG);
	(void)json_object_set_new(document, "name_hex", json_string("6162636465"));
	ck_assert_int_eq(json_out_name_back(document, "name", text, sizeof(text)), -ENAMETOOLONG);
	(void)json_object_set_new(document, "name_hex", json_string("616"));
	ck_assert_int_eq(json_out_name_back(document, "name", text, sizeof(text)), -EINVAL);
	(void)json_object_set_new(document, "name_hex", json_string("6g"));
	ck_assert_int_eq(json_out_name_back(document, "name", text, sizeof(text)), -EINVAL);
	(void)json_object_set_new(document, "name_hex", json_string("6100"));
	ck_assert_int_eq(json_out_name_back(document, "name", text, sizeof(text)), -EINVAL);
	(void)json_object_set_new(document, "name_hex", json_true());
	ck_assert_int_eq(json_out_name_back(document, "name", text, sizeof(text)), -EINVAL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fs/json_out");
	TCase *t = tcase_create("documents");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, begin, end);
	tcase_add_test(t, a_name_in_utf8_is_given_as_it_is);
	tcase_add_test(t, each_byte_that_is_not_utf8_is_replaced_and_all_are_told_in_hex);
	tcase_add_test(t, no_two_bytes_make_a_name_that_jansson_refuses);
	tcase_add_test(t, overlong_surrogate_and_too_large_sequences_are_not_utf8);
	tcase_add_test(t, a_newline_in_a_name_stays_one_line_of_output);
	tcase_add_test(t, numbers_beyond_63_bits_are_cut_not_negative);
	tcase_add_test(t, an_error_has_its_three_keys);
	tcase_add_test(t, metrics_are_named_by_group_and_times_are_seconds);
	tcase_add_test(t, any_name_comes_back_as_it_was_set);
	tcase_add_test(t, what_is_no_name_does_not_come_back);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
