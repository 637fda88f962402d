#include "common/buf.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* The sanitizers would end the process where malloc() returns NULL. */
const char *__asan_default_options(void);
const char *__tsan_default_options(void);
const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}
const char *__tsan_default_options(void)
{
	return "allocator_may_return_null=1";
}

static struct buf b;

static void done(void)
{
	buf_done(&b);
}

START_TEST(born_empty_without_memory)
{
	buf_init(&b, 100);
	ck_assert_ptr_null(b.data);
	ck_assert_uint_eq(b.len_bytes, 0);
	ck_assert_uint_eq(b.cap_bytes, 0);
}
END_TEST

START_TEST(appended_bytes_are_all_there_in_order)
{
	buf_init(&b, 100000);
	for (unsigned int i = 0; i < 50000; i++) {
		uint8_t byte = (uint8_t)(i * 7);

		ck_assert_int_eq(buf_append(&b, &byte, 1), 0);
	}
	ck_assert_uint_eq(b.len_bytes, 50000);
	for (unsigned int i = 0; i < 50000; i++)
		ck_assert_uint_eq(b.data[i], (uint8_t)(i * 7));
	ck_assert_uint_le(b.cap_bytes, b.max_bytes);
}
END_TEST

START_TEST(appending_nothing_is_fine_even_without_memory)
{
	buf_init(&b, 0);
	ck_assert_int_eq(buf_append(&b, NULL, 0), 0);
	ck_assert_uint_eq(b.len_bytes, 0);
}
END_TEST

START_TEST(the_maximum_can_be_filled_but_not_passed)
{
	uint8_t bytes[101] = { 0 };

	buf_init(&b, 100);
	ck_assert_int_eq(buf_append(&b, bytes, 101), -E2BIG);
	ck_assert_int_eq(buf_append(&b, bytes, 99), 0);
	ck_assert_int_eq(buf_append(&b, bytes, 2), -E2BIG);
	ck_assert_uint_eq(b.len_bytes, 99);
	ck_assert_int_eq(buf_append(&b, bytes, 1), 0);
	ck_assert_int_eq(buf_append(&b, bytes, 1), -E2BIG);
	ck_assert_uint_eq(b.len_bytes, 100);
	ck_assert_uint_eq(b.cap_bytes, 100);
}
END_TEST

START_TEST(absurd_lengths_do_not_wrap_around)
{
	uint8_t byte = 1;

	buf_init(&b, 100);
	ck_assert_int_eq(buf_append(&b, &byte, 1), 0);
	ck_assert_ptr_null(buf_extend(&b, SIZE_MAX));
	ck_assert_ptr_null(buf_extend(&b, SIZE_MAX - 1));
	ck_assert_uint_eq(b.len_bytes, 1);
}
END_TEST

START_TEST(memory_that_nobody_has_is_refused_and_nothing_is_lost)
{
	buf_init(&b, SIZE_MAX);
	ck_assert_int_eq(buf_append(&b, "keep", 4), 0);
	ck_assert_ptr_null(buf_extend(&b, SIZE_MAX / 2));
	ck_assert_uint_eq(b.len_bytes, 4);
	ck_assert_mem_eq(b.data, "keep", 4);
}
END_TEST

START_TEST(extended_room_is_for_the_caller_to_fill)
{
	uint8_t *p;

	buf_init(&b, 1000);
	ck_assert_int_eq(buf_append(&b, "ab", 2), 0);
	p = buf_extend(&b, 300);
	ck_assert_ptr_nonnull(p);
	memset(p, 'c', 300);
	ck_assert_uint_eq(b.len_bytes, 302);
	ck_assert_ptr_eq(p, b.data + 2);
	ck_assert_mem_eq(b.data, "abccc", 5);
	ck_assert_ptr_nonnull(buf_extend(&b, 0));
}
END_TEST

START_TEST(clear_keeps_the_memory_and_done_gives_it_back)
{
	buf_init(&b, 1000);
	ck_assert_int_eq(buf_append(&b, "ab", 2), 0);
	buf_clear(&b);
	ck_assert_uint_eq(b.len_bytes, 0);
	ck_assert_ptr_nonnull(b.data);
	buf_done(&b);
	ck_assert_ptr_null(b.data);
	buf_done(&b);
	ck_assert_int_eq(buf_append(&b, "again", 5), 0);
}
END_TEST

START_TEST(printf_adds_text_that_reads_as_a_string)
{
	buf_init(&b, 1000);
	ck_assert_int_eq(buf_printf(&b, "%s-%d", "a", 1), 0);
	ck_assert_int_eq(buf_printf(&b, "%s", ""), 0);
	ck_assert_int_eq(buf_printf(&b, "+%05d", 42), 0);
	ck_assert_uint_eq(b.len_bytes, 9);
	ck_assert_str_eq((const char *)b.data, "a-1+00042");
}
END_TEST

START_TEST(printf_needs_room_for_text_and_nul)
{
	buf_init(&b, 5);
	ck_assert_int_eq(buf_printf(&b, "12345"), -E2BIG);
	ck_assert_uint_eq(b.len_bytes, 0);
	ck_assert_int_eq(buf_printf(&b, "1234"), 0);
	ck_assert_uint_eq(b.len_bytes, 4);
	buf_done(&b);
	buf_init(&b, 0);
	ck_assert_int_eq(buf_printf(&b, "%s", ""), -E2BIG);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("common/buf");
	TCase *t = tcase_create("buf");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, NULL, done);
	tcase_add_test(t, born_empty_without_memory);
	tcase_add_test(t, appended_bytes_are_all_there_in_order);
	tcase_add_test(t, appending_nothing_is_fine_even_without_memory);
	tcase_add_test(t, the_maximum_can_be_filled_but_not_passed);
	tcase_add_test(t, absurd_lengths_do_not_wrap_around);
	tcase_add_test(t, memory_that_nobody_has_is_refused_and_nothing_is_lost);
	tcase_add_test(t, extended_room_is_for_the_caller_to_fill);
	tcase_add_test(t, clear_keeps_the_memory_and_done_gives_it_back);
	tcase_add_test(t, printf_adds_text_that_reads_as_a_string);
	tcase_add_test(t, printf_needs_room_for_text_and_nul);
	suite_add_tcase(s, t);

	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
