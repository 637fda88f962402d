#include "common/crc32c.h"

#include "common/endian.h"

#include <check.h>
#include <stdlib.h>

static uint8_t bytes[9000];

static void fill(void)
{
	uint32_t x = 12345;

	for (size_t i = 0; i < sizeof(bytes); i++) {
		x = x * 1664525 + 1013904223;
		bytes[i] = (uint8_t)(x >> 24);
	}
}

/* The definition, bit by bit: reflected polynomial 0x82f63b78. */
static uint32_t reference(const uint8_t *p, size_t len)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < len; i++) {
		crc ^= p[i];
		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
	}
	return ~crc;
}

START_TEST(known_answers_of_the_standard)
{
	static const uint8_t zeros[32];
	uint8_t ones[32];

	memset(ones, 0xff, sizeof(ones));
	ck_assert_uint_eq(crc32c(0, "123456789", 9), 0xe3069283u);
	ck_assert_uint_eq(crc32c(0, zeros, 32), 0x8a9136aau);
	ck_assert_uint_eq(crc32c(0, ones, 32), 0x62a8ab43u);
}
END_TEST

START_TEST(no_bytes_give_the_seed)
{
	ck_assert_uint_eq(crc32c(0, NULL, 0), 0);
	ck_assert_uint_eq(crc32c(0xdeadbeef, "x", 0), 0xdeadbeefu);
}
END_TEST

START_TEST(agrees_with_the_definition_at_every_length_and_alignment)
{
	for (size_t start = 0; start < 9; start++) {
		for (size_t len = 0; len < 600; len += 1 + len / 40)
			ck_assert_uint_eq(crc32c(0, bytes + start, len),
					  reference(bytes + start, len));
	}
	ck_assert_uint_eq(crc32c(0, bytes, sizeof(bytes)), reference(bytes, sizeof(bytes)));
}
END_TEST

START_TEST(pieces_compose_to_the_whole)
{
	uint32_t whole = crc32c(0, bytes, 4096);

	for (size_t cut = 0; cut <= 4096; cut += 13)
		ck_assert_uint_eq(crc32c(crc32c(0, bytes, cut), bytes + cut, 4096 - cut), whole);
}
END_TEST

START_TEST(any_flipped_bit_shows)
{
	uint32_t whole = crc32c(0, bytes, 512);

	for (size_t bit = 0; bit < 512 * 8; bit++) {
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		ck_assert_uint_ne(crc32c(0, bytes, 512), whole);
		bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}
END_TEST

START_TEST(integers_have_their_bytes_in_the_named_order)
{
	static const uint8_t up[] = { 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08 };

	ck_assert_uint_eq(le16_get(up), 0x0201);
	ck_assert_uint_eq(le32_get(up), 0x04030201);
	ck_assert(le64_get(up) == UINT64_C(0x0807060504030201));
	ck_assert_uint_eq(be16_get(up), 0x0102);
	ck_assert_uint_eq(be32_get(up), 0x01020304);
	ck_assert(be64_get(up) == UINT64_C(0x0102030405060708));
}
END_TEST

START_TEST(put_then_get_gives_the_same_at_odd_addresses_and_touches_nothing_else)
{
	uint8_t b[12];

#define ROUND_TRIP(order, bits, value)                                                             \
	do {                                                                                       \
		memset(b, 0xa5, sizeof(b));                                                        \
		order##bits##_put(b + 1, value);                                                   \
		ck_assert(order##bits##_get(b + 1) == (value));                                    \
		ck_assert_uint_eq(b[0], 0xa5);                                                     \
		ck_assert_uint_eq(b[1 + bits / 8], 0xa5);                                          \
	} while (0)

	ROUND_TRIP(le, 16, 0xfedc);
	ROUND_TRIP(le, 32, 0xfedcba98);
	ROUND_TRIP(le, 64, UINT64_C(0xfedcba9876543210));
	ROUND_TRIP(be, 16, 0xfedc);
	ROUND_TRIP(be, 32, 0xfedcba98);
	ROUND_TRIP(be, 64, UINT64_C(0xfedcba9876543210));
}
END_TEST

START_TEST(big_endian_bytes_sort_as_their_numbers)
{
	static const uint64_t rising[] = { 0, 1, 255, 256, 65535, 1u << 31, UINT64_MAX };
	uint8_t a[8], b[8];

	for (size_t i = 1; i < ARRAY_SIZE(rising); i++) {
		be64_put(a, rising[i - 1]);
		be64_put(b, rising[i]);
		ck_assert_int_lt(memcmp(a, b, 8), 0);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("common/crc32c");
	TCase *t = tcase_create("crc32c");
	TCase *endian = tcase_create("endian");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, fill, NULL);
	tcase_add_test(t, known_answers_of_the_standard);
	tcase_add_test(t, no_bytes_give_the_seed);
	tcase_add_test(t, agrees_with_the_definition_at_every_length_and_alignment);
	tcase_add_test(t, pieces_compose_to_the_whole);
	tcase_add_test(t, any_flipped_bit_shows);
	suite_add_tcase(s, t);
	tcase_add_test(endian, integers_have_their_bytes_in_the_named_order);
	tcase_add_test(endian,
		       put_then_get_gives_the_same_at_odd_addresses_and_touches_nothing_else);
	tcase_add_test(endian, big_endian_bytes_sort_as_their_numbers);
	suite_add_tcase(s, endian);

	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
