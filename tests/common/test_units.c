#include "common/units.h"

#include <check.h>
#include <stdlib.h>

#define UNTOUCHED UINT64_C(0x5555)

struct good {
	const char *text;
	uint64_t value;
};

START_TEST(sizes_are_read_in_powers_of_1024)
{
	static const struct good good[] = {
		{ "0", 0 },
		{ "4096", 4096 },
		{ "4096B", 4096 },
		{ "1K", 1024 },
		{ "1k", 1024 },
		{ "1KiB", 1024 },
		{ "64M", 64 * MIB },
		{ "64MiB", 64 * MIB },
		{ "3G", 3 * GIB },
		{ "2T", 2 * TIB },
		{ "2TiB", 2 * TIB },
		{ "1P", 1024 * TIB },
		{ "007", 7 },
		{ "18446744073709551615", UINT64_MAX },
		{ "16383P", UINT64_C(16383) << 50 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		uint64_t v = UNTOUCHED;

		ck_assert_msg(size_parse(good[i].text, &v) == 0, "'%s' refused", good[i].text);
		ck_assert_msg(v == good[i].value, "'%s' read as %" PRIu64, good[i].text, v);
	}
}
END_TEST

START_TEST(what_is_no_size_is_refused)
{
	static const char *const bad[] = { "",	   " ",	  "K",	   "-1",   "+1",   " 1",      "1 ",
					   "1 K",  "1KB", "1MB",   "1Kib", "1.5G", "1X",      "1KK",
					   "0x10", "1e3", "1KiBx", "1b",   "B",	   "\xd9\xa1" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		uint64_t v = UNTOUCHED;

		ck_assert_msg(size_parse(bad[i], &v) == -EINVAL, "'%s' not refused", bad[i]);
		ck_assert(v == UNTOUCHED);
	}
}
END_TEST

START_TEST(sizes_beyond_64_bits_are_refused)
{
	static const char *const big[] = { "18446744073709551616", "184467440737095516160",
					   "16384P", "17179869184G",
					   "99999999999999999999999999999K" };

	for (size_t i = 0; i < ARRAY_SIZE(big); i++) {
		uint64_t v = UNTOUCHED;

		ck_assert_msg(size_parse(big[i], &v) == -ERANGE, "'%s' not refused", big[i]);
		ck_assert(v == UNTOUCHED);
	}
	ck_assert_int_eq(size_parse("99999999999999999999999999999X", &(uint64_t){ 0 }), -EINVAL);
}
END_TEST

START_TEST(times_are_read_and_a_bare_number_is_seconds)
{
	static const struct good good[] = {
		{ "0", 0 },
		{ "5", 5 * NS_PER_SEC },
		{ "5s", 5 * NS_PER_SEC },
		{ "7ns", 7 },
		{ "7us", 7 * NS_PER_US },
		{ "7ms", 7 * NS_PER_MS },
		{ "2m", 120 * NS_PER_SEC },
		{ "2h", 7200 * NS_PER_SEC },
		{ "1d", 86400 * NS_PER_SEC },
		{ "18446744073709551615ns", UINT64_MAX },
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		uint64_t v = UNTOUCHED;

		ck_assert_msg(time_parse(good[i].text, &v) == 0, "'%s' refused", good[i].text);
		ck_assert_msg(v == good[i].value, "'%s' read as %" PRIu64, good[i].text, v);
	}
}
END_TEST

START_TEST(what_is_no_time_is_refused)
{
	static const char *const bad[] = {
		"", "s", "1S", "1M", "1min", "1 s", "-1s", "1.5s", "1ss"
	};
	uint64_t v = UNTOUCHED;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_msg(time_parse(bad[i], &v) == -EINVAL, "'%s' not refused", bad[i]);
	ck_assert_int_eq(time_parse("18446744074s", &v), -ERANGE);
	ck_assert_int_eq(time_parse("18446744074", &v), -ERANGE);
	ck_assert_int_eq(time_parse("18446744073709551616ns", &v), -ERANGE);
	ck_assert(v == UNTOUCHED);
}
END_TEST

START_TEST(plain_numbers_take_no_unit)
{
	uint64_t v = UNTOUCHED;

	ck_assert_int_eq(u64_parse("1K", &v), -EINVAL);
	ck_assert_int_eq(u64_parse("", &v), -EINVAL);
	ck_assert_int_eq(u64_parse("-0", &v), -EINVAL);
	ck_assert_int_eq(u64_parse("18446744073709551616", &v), -ERANGE);
	ck_assert(v == UNTOUCHED);
	ck_assert_int_eq(u64_parse("18446744073709551615", &v), 0);
	ck_assert(v == UINT64_MAX);
}
END_TEST

START_TEST(values_are_written_in_the_largest_exact_unit)
{
	char text[UNITS_TEXT_BYTES];

	ck_assert_str_eq(size_format(0, text), "0");
	ck_assert_str_eq(size_format(1000, text), "1000");
	ck_assert_str_eq(size_format(1025, text), "1025");
	ck_assert_str_eq(size_format(16 * MIB, text), "16M");
	ck_assert_str_eq(size_format(1536 * MIB, text), "1536M");
	ck_assert_str_eq(size_format(UINT64_MAX, text), "18446744073709551615");
	ck_assert_str_eq(time_format(0, text), "0ns");
	ck_assert_str_eq(time_format(90 * NS_PER_SEC, text), "90s");
	ck_assert_str_eq(time_format(60 * NS_PER_SEC, text), "1m");
	ck_assert_str_eq(time_format(1500 * NS_PER_US, text), "1500us");
	ck_assert_str_eq(time_format(UINT64_MAX, text), "18446744073709551615ns");
}
END_TEST

START_TEST(what_is_written_reads_back_the_same)
{
	char text[UNITS_TEXT_BYTES];
	uint64_t x = 1, v;

	for (int i = 0; i < 20000; i++) {
		uint64_t value = (x >> (x % 61)) << (x % 13);

		x = x * UINT64_C(6364136223846793005) + 1;
		ck_assert_int_eq(size_parse(size_format(value, text), &v), 0);
		ck_assert(v == value);
		ck_assert_int_eq(time_parse(time_format(value, text), &v), 0);
		ck_assert(v == value);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("common/units");
	TCase *t = tcase_create("units");
	SRunner *r;
	int failed;

	tcase_add_test(t, sizes_are_read_in_powers_of_1024);
	tcase_add_test(t, what_is_no_size_is_refused);
	tcase_add_test(t, sizes_beyond_64_bits_are_refused);
	tcase_add_test(t, times_are_read_and_a_bare_number_is_seconds);
	tcase_add_test(t, what_is_no_time_is_refused);
	tcase_add_test(t, plain_numbers_take_no_unit);
	tcase_add_test(t, values_are_written_in_the_largest_exact_unit);
	tcase_add_test(t, what_is_written_reads_back_the_same);
	suite_add_tcase(s, t);

	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
