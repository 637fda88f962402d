/* The part of the contract that is about names and lists: what a name is, and their order. */
#include "tests/contract/support_backend.h"

#include <string.h>

/* In bytewise order; '-' < '/' < '0' is where directory trees go wrong. */
static const char *const nasty[] = {
	" leading blank",
	"!",
	"#hash#",
	"%2e%2e/x",
	"-rf",
	"...",
	".hidden/file",
	"0",
	"A",
	"a!",
	"a-b/z",
	"a./x",
	"a/b",
	"a/b!",
	"a/b-",
	"a/b0/c",
	"a/tmp/x",
	"a0",
	"aa/b/c/d/e/f/g/h",
	"back\\slash",
	"tmp-not/x",
	"tmp0",
	"trailing blank ",
	"z*?[]{}'\"$`;&|<>",
	"~",
};
#define NASTY_COUNT ARRAY_SIZE(nasty)

static void put_nasty(void)
{
	/* Backwards, so that no order of creation can pass for the right one. */
	for (size_t i = NASTY_COUNT; i-- > 0;)
		contract_must_put(nasty[i], nasty[i], strlen(nasty[i]));
}

START_TEST(lists_are_in_bytewise_order_with_lengths)
{
	struct names n = { .count = 0 };

	put_nasty();
	ck_assert_int_eq(contract_list("", NULL, NAMES_MAX, &n), (int)NASTY_COUNT);
	for (unsigned int i = 0; i < NASTY_COUNT; i++) {
		ck_assert_str_eq(n.name[i], nasty[i]);
		ck_assert_uint_eq(n.len_bytes[i], strlen(nasty[i]));
		contract_must_hold(fx.b, nasty[i], nasty[i], strlen(nasty[i]));
	}
	contract_names_done(&n);
}
END_TEST

START_TEST(pages_of_any_size_join_without_gap_or_repeat)
{
	put_nasty();
	for (unsigned int page = 1; page <= NASTY_COUNT + 1; page++) {
		struct names n = { .count = 0 };
		int r;

		do {
			const char *after = n.count > 0 ? n.name[n.count - 1] : NULL;

			r = contract_list("", after, page, &n);
			ck_assert_int_ge(r, 0);
		} while (r > 0);
		ck_assert_uint_eq(n.count, NASTY_COUNT);
		for (unsigned int i = 0; i < NASTY_COUNT; i++)
			ck_assert_str_eq(n.name[i], nasty[i]);
		contract_names_done(&n);
	}
}
END_TEST

START_TEST(a_list_begins_behind_any_string)
{
	static const char *const places[] = { "",   "!",   "0",	   "a",	   "a!~",    "a-b", "a-b/",
					      "a/", "a/b", "a/b/", "a/b0", "a/b0/d", "tmp", "~~" };

	put_nasty();
	for (size_t p = 0; p < ARRAY_SIZE(places); p++) {
		unsigned int first = 0;

		while (first < NASTY_COUNT && strcmp(nasty[first], places[p]) <= 0)
			first++;
		contract_must_list("", places[p], nasty + first, (unsigned int)NASTY_COUNT - first);
	}
}
END_TEST

START_TEST(a_prefix_selects_names_not_directories)
{
	static const char *const prefixes[] = { "a", "a/",  "a/b",  "a/b0/c", "a/b0/cc", "aa/b/c",
						"t", "tmp", "nope", "a-",     "a/tmp",	 "z*" };

	put_nasty();
	for (size_t p = 0; p < ARRAY_SIZE(prefixes); p++) {
		const char *expected[NASTY_COUNT];
		unsigned int count = 0;

		for (size_t i = 0; i < NASTY_COUNT; i++) {
			if (strncmp(nasty[i], prefixes[p], strlen(prefixes[p])) == 0)
				expected[count++] = nasty[i];
		}
		contract_must_list(prefixes[p], NULL, expected, count);
		if (count > 1) /* prefix and place together */
			contract_must_list(prefixes[p], expected[0], expected + 1, count - 1);
	}
}
END_TEST

START_TEST(a_list_ends_when_told)
{
	struct names n = { .stop_at = 3 };

	put_nasty();
	ck_assert_int_eq(contract_list("", NULL, NAMES_MAX, &n), 77);
	ck_assert_uint_eq(n.count, 3);
	contract_names_done(&n);
	ck_assert_int_eq(contract_list("", NULL, 0, &n), 0);
	ck_assert_int_eq(contract_list("nothing/here", NULL, 5, &n), 0);
	ck_assert_uint_eq(n.count, 0);
}
END_TEST

static int delete_listed(void *arg, const char *name, const struct backend_object *object)
{
	(void)arg;
	(void)object;
	return backend_delete(fx.b, name, &fx.e);
}

START_TEST(objects_can_be_deleted_while_they_are_listed)
{
	put_nasty();
	ck_assert_int_eq(backend_list(fx.b, "", NULL, 100, delete_listed, NULL, &fx.e),
			 (int)NASTY_COUNT);
	contract_must_list("", NULL, NULL, 0);
}
END_TEST

START_TEST(bad_names_are_refused_by_every_call)
{
	char too_long[BACKEND_NAME_BYTES_MAX + 2], long_part[BACKEND_PART_BYTES_MAX + 2];
	const char *const bad[] = { "",	      "/",	"/a",	"a/",	       "a//b", ".",
				    "..",     "a/..",	"../a", "a/./b",       "./a",  "a/../b",
				    "a\nb",   "a\x7f",	"\x1f", "caf\xc3\xa9", "tmp",  "tmp/x",
				    too_long, long_part };
	struct backend_object object;
	char byte;

	memset(too_long, 'x', sizeof(too_long));
	for (size_t i = 100; i < sizeof(too_long); i += 100)
		too_long[i] = '/';
	too_long[sizeof(too_long) - 1] = '\0';
	memset(long_part, 'x', sizeof(long_part));
	long_part[sizeof(long_part) - 1] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		ck_assert_int_eq(contract_put(bad[i], "x", 1), -EINVAL);
		ck_assert_int_eq(backend_get(fx.b, bad[i], 0, &byte, 1, &fx.e), -EINVAL);
		ck_assert_int_eq(backend_head(fx.b, bad[i], &object, &fx.e), -EINVAL);
		ck_assert_int_eq(backend_delete(fx.b, bad[i], &fx.e), -EINVAL);
	}
	contract_must_list("", NULL, NULL, 0);
}
END_TEST

START_TEST(the_longest_names_work)
{
	char longest[BACKEND_NAME_BYTES_MAX + 1], part[BACKEND_PART_BYTES_MAX + 1];
	const char *const expected[] = { longest, part };

	memset(longest, 'a', sizeof(longest));
	longest[255] = '/';
	longest[511] = 'b';
	longest[510] = '/';
	longest[512] = '\0';
	memset(part, 'p', sizeof(part));
	part[BACKEND_PART_BYTES_MAX] = '\0';
	contract_must_put(longest, "l", 1);
	contract_must_put(part, "p", 1);
	contract_must_hold(fx.b, longest, "l", 1);
	contract_must_hold(fx.b, part, "p", 1);
	contract_must_list("", NULL, expected, 2);
}
END_TEST

START_TEST(a_name_behind_an_object_is_kept_or_refused_but_harms_nothing)
{
	int r;

	contract_must_put("x/y", "object", 6);
	r = contract_put("x/y/z", "below", 5);
	contract_must_hold(fx.b, "x/y", "object", 6);
	if (r == 0)
		contract_must_hold(fx.b, "x/y/z", "below", 5);
	else
		contract_must_be_absent("x/y/z");
	r = contract_put("x", "above", 5);
	contract_must_hold(fx.b, "x/y", "object", 6);
	if (r == 0)
		contract_must_hold(fx.b, "x", "above", 5);
	else
		contract_must_be_absent("x");
	ck_assert_int_eq(backend_delete(fx.b, "x/y/z", &fx.e), 0);
	ck_assert_int_eq(backend_delete(fx.b, "x", &fx.e), 0);
	contract_must_hold(fx.b, "x/y", "object", 6);
}
END_TEST

void contract_add_name_tests(TCase *tc)
{
	tcase_add_test(tc, lists_are_in_bytewise_order_with_lengths);
	tcase_add_test(tc, pages_of_any_size_join_without_gap_or_repeat);
	tcase_add_test(tc, a_list_begins_behind_any_string);
	tcase_add_test(tc, a_prefix_selects_names_not_directories);
	tcase_add_test(tc, a_list_ends_when_told);
	tcase_add_test(tc, objects_can_be_deleted_while_they_are_listed);
	tcase_add_test(tc, bad_names_are_refused_by_every_call);
	tcase_add_test(tc, the_longest_names_work);
	tcase_add_test(tc, a_name_behind_an_object_is_kept_or_refused_but_harms_nothing);
}
